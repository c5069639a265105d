// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/minikvm: what KVM's API document calls system ioctls.
 *
 * Knows: what the floors below can do, to say so. Read next: door/vm.c.
 */
#include <linux/slab.h>

#include "core/dirty.h"
#include "core/memory.h"
#include "core/vcpu.h"
#include "door/door.h"
#include "hw/compat.h"
#include "minikvm.h"

#define MMAP_PAGES	3	/* kvm_run, its page for port data, the VM's ring of writes */

/* Only what works is claimed. Numbers are answers that are not just "yes". */
long mk_check_extension(struct mk_vm *vm, unsigned long cap)
{
	switch (cap) {
	case KVM_CAP_IRQCHIP:
	case KVM_CAP_HLT:
	case KVM_CAP_USER_MEMORY:
	case KVM_CAP_SET_TSS_ADDR:
	case KVM_CAP_EXT_CPUID:
	case KVM_CAP_EXT_EMUL_CPUID:
	case KVM_CAP_MP_STATE:
	case KVM_CAP_NOP_IO_DELAY:
	case KVM_CAP_PIT:
	case KVM_CAP_PIT2:
	case KVM_CAP_PIT_STATE2:
	case KVM_CAP_SYNC_MMU:
	case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
	case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
	case KVM_CAP_IRQ_INJECT_STATUS:
	case KVM_CAP_SET_IDENTITY_MAP_ADDR:
	case KVM_CAP_USER_NMI:
	case KVM_CAP_READONLY_MEM:
	case KVM_CAP_CHECK_EXTENSION_VM:
	case KVM_CAP_IMMEDIATE_EXIT:
	case KVM_CAP_GET_TSC_KHZ:
	case KVM_CAP_TSC_DEADLINE_TIMER:
	case KVM_CAP_SET_BOOT_CPU_ID:
	case KVM_CAP_SIGNAL_MSI:
	case KVM_CAP_IRQFD:
	case KVM_CAP_IRQFD_RESAMPLE:
	case KVM_CAP_INTERNAL_ERROR_DATA:
	case KVM_CAP_VCPU_EVENTS:
	case KVM_CAP_INTR_SHADOW:
	case KVM_CAP_DEBUGREGS:
	case KVM_CAP_XSAVE:
	case KVM_CAP_X86_ROBUST_SINGLESTEP:
	case KVM_CAP_IOEVENTFD:
	case KVM_CAP_IOEVENTFD_NO_LENGTH:
	case KVM_CAP_IOEVENTFD_ANY_LENGTH:
	case KVM_CAP_COALESCED_PIO:
	case KVM_CAP_ENABLE_CAP_VM:
	case KVM_CAP_SPLIT_IRQCHIP:
	case KVM_CAP_KVMCLOCK_CTRL:
	case KVM_CAP_GET_MSR_FEATURES:
	case KVM_CAP_MSR_PLATFORM_INFO:
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
	case KVM_CAP_VCPU_ATTRIBUTES:
	case KVM_CAP_SYS_ATTRIBUTES:
	case KVM_CAP_SREGS2:
	case KVM_CAP_X86_USER_SPACE_MSR:
	case KVM_CAP_SET_GUEST_DEBUG:
	case KVM_CAP_X86_MSR_FILTER:
	case KVM_CAP_USER_MEMORY2:
	case KVM_CAP_PRE_FAULT_MEMORY:
	case KVM_CAP_DISABLE_QUIRKS:
	case KVM_CAP_BINARY_STATS_FD:
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
	case KVM_CAP_EXCEPTION_PAYLOAD:
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
	case KVM_CAP_REINJECT_CONTROL:
		return 1;
	case KVM_CAP_TSC_CONTROL:
	case KVM_CAP_VM_TSC_CONTROL:
		return mk_hw->caps->tsc_scaling;
	case KVM_CAP_DISABLE_QUIRKS2:
		return MK_QUIRKS;
	case KVM_CAP_X86_DISABLE_EXITS:
		return mk_exits_to_disable();
	case KVM_CAP_VM_TYPES:
		return BIT(KVM_X86_DEFAULT_VM);
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		return 1;
	case KVM_CAP_SET_GUEST_DEBUG2:
		return KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |
		       KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |
		       KVM_GUESTDBG_BLOCKIRQ;
	case KVM_CAP_SYNC_REGS:
		return KVM_SYNC_X86_VALID_FIELDS;
	case KVM_CAP_ADJUST_CLOCK:
		return KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return MK_DIRTY_RING_MAX * sizeof(struct kvm_dirty_gfn);
	case KVM_CAP_XCRS:
		return boot_cpu_has(X86_FEATURE_XSAVE);
	case KVM_CAP_XSAVE2:
		return mk_xsave_size();
	case KVM_CAP_MCE:
		return MK_MC_BANKS;
	case KVM_CAP_X2APIC_API:
		return KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	case KVM_CAP_COALESCED_MMIO:
		return KVM_COALESCED_MMIO_PAGE_OFFSET;
	case KVM_CAP_IRQ_ROUTING:
		return MK_NR_GSI;
	case KVM_CAP_NR_VCPUS:
		return min_t(unsigned int, num_online_cpus(), MK_MAX_VCPUS);
	case KVM_CAP_MAX_VCPUS:
		return MK_MAX_VCPUS;
	case KVM_CAP_MAX_VCPU_ID:
		return MK_MAX_VCPU_ID;
	case KVM_CAP_NR_MEMSLOTS:
		return MK_MAX_SLOTS;
	}
	return 0;
}

static long get_api_version(void *unused, void __user *arg)
{
	return arg ? -EINVAL : KVM_API_VERSION;
}

static long create_vm(void *unused, void __user *arg)
{
	return mk_vm_fd((unsigned long)arg);
}

static long check_extension(void *unused, void __user *arg)
{
	return mk_check_extension(NULL, (unsigned long)arg);
}

static long get_vcpu_mmap_size(void *unused, void __user *arg)
{
	return arg ? -EINVAL : MMAP_PAGES * PAGE_SIZE;
}

static long put_cpuid(void __user *arg, bool emulated)
{
	struct kvm_cpuid2 __user *user = arg;
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid2 head;
	long err;

	if (mk_from_user(head, arg))
		return -EFAULT;
	if (!head.nent)
		return -E2BIG;
	head.nent = min(head.nent, (u32)MK_MAX_CPUID);
	entries = kvcalloc(head.nent, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;
	err = mk_cpuid_supported(entries, &head.nent, emulated);
	if (!err && (copy_to_user(user->entries, entries, head.nent * sizeof(*entries)) ||
		     mk_to_user(arg, head)))
		err = -EFAULT;
	kvfree(entries);
	return err;
}

static long get_supported_cpuid(void *unused, void __user *arg)
{
	return put_cpuid(arg, false);
}

static long get_emulated_cpuid(void *unused, void __user *arg)
{
	return put_cpuid(arg, true);
}

static long put_msr_list(void __user *arg, unsigned int (*fill)(u32 *list, unsigned int max))
{
	struct kvm_msr_list __user *user = arg;
	struct kvm_msr_list head;
	u32 list[64];
	u32 room;

	if (mk_from_user(head, arg))
		return -EFAULT;
	room = head.nmsrs;
	head.nmsrs = fill(list, ARRAY_SIZE(list));
	if (mk_to_user(arg, head))
		return -EFAULT;
	if (room < head.nmsrs)
		return -E2BIG;
	return copy_to_user(user->indices, list, head.nmsrs * sizeof(*list)) ? -EFAULT : 0;
}

static long get_msr_index_list(void *unused, void __user *arg)
{
	return put_msr_list(arg, mk_msr_list);
}

static long get_msr_feature_index_list(void *unused, void __user *arg)
{
	return put_msr_list(arg, mk_msr_feature_list);
}

static int get_feature(void *unused, struct kvm_msr_entry *e)
{
	return mk_msr_feature(e->index, &e->data);
}

static long get_feature_msrs(void *unused, void __user *arg)
{
	return mk_each_msr(NULL, arg, get_feature, true);
}

/* The one attribute of the whole: which XCR0 bits a guest may be given. */
static long has_attr(void *unused, void __user *arg)
{
	u64 __user *user;

	return mk_only_attr(arg, 0, KVM_X86_XCOMP_GUEST_SUPP, &user);
}

static long get_attr(void *unused, void __user *arg)
{
	u64 __user *user;

	return mk_only_attr(arg, 0, KVM_X86_XCOMP_GUEST_SUPP, &user) ?:
	       put_user(mk_supported_xcr0(), user);
}

static long get_mce_cap(void *unused, void __user *arg)
{
	u64 cap = mk_supported_mcg_cap();

	return mk_to_user(arg, cap);
}

static long get_host(void *unused, void __user *arg)
{
	struct minikvm_host *host = kzalloc(sizeof(*host), GFP_KERNEL);
	long err;

	if (!host)
		return -ENOMEM;
	strscpy(host->backend, mk_hw->name, sizeof(host->backend));
	mk_describe_host(host->text, sizeof(host->text));
	err = copy_to_user(arg, host, sizeof(*host)) ? -EFAULT : 0;
	kfree(host);
	return err;
}

static const struct mk_ioctl table[] = {
	{ KVM_GET_API_VERSION,		get_api_version },
	{ KVM_CREATE_VM,		create_vm },
	{ KVM_CHECK_EXTENSION,		check_extension },
	{ KVM_GET_VCPU_MMAP_SIZE,	get_vcpu_mmap_size },
	{ KVM_GET_SUPPORTED_CPUID,	get_supported_cpuid },
	{ KVM_GET_EMULATED_CPUID,	get_emulated_cpuid },
	{ KVM_GET_MSR_INDEX_LIST,	get_msr_index_list },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, get_msr_feature_index_list },
	{ KVM_GET_MSRS,			get_feature_msrs },
	{ KVM_HAS_DEVICE_ATTR,		has_attr },
	{ KVM_GET_DEVICE_ATTR,		get_attr },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, get_mce_cap },
	{ MINIKVM_GET_HOST,		get_host },
};

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return mk_ioctl_call(table, ARRAY_SIZE(table), NULL, cmd, arg);
}

const struct file_operations mk_device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.llseek = noop_llseek,
};
