// SPDX-License-Identifier: GPL-2.0
/*
 * A VM's file descriptor: KVM's VM ioctls.
 *
 * Knows: memory slots, the board. Read next: door/vcpu.c.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/slab.h>

#include "board/board.h"
#include "core/doorbell.h"
#include "core/dirty.h"
#include "core/memory.h"
#include "core/vcpu.h"
#include "door/door.h"
#include "hw/compat.h"

static long vm_check_extension(void *object, void __user *arg)
{
	return mk_check_extension(object, (unsigned long)arg);
}

static long create_vcpu(void *object, void __user *arg)
{
	return mk_vcpu_fd(object, (unsigned long)arg);
}

static long set_user_memory_region(void *object, void __user *arg)
{
	struct kvm_userspace_memory_region region;

	return mk_from_user(region, arg) ?: mk_set_region(object, &region);
}

/* The later form of it, whose new members mean nothing without memory of its own. */
static long set_user_memory_region2(void *object, void __user *arg)
{
	struct kvm_userspace_memory_region2 r;

	if (mk_from_user(r, arg))
		return -EFAULT;
	return mk_set_region(object, &(struct kvm_userspace_memory_region){
		.slot = r.slot, .flags = r.flags, .guest_phys_addr = r.guest_phys_addr,
		.memory_size = r.memory_size, .userspace_addr = r.userspace_addr });
}

static long get_tsc_khz(void *object, void __user *arg)
{
	struct mk_vm *vm = object;

	return READ_ONCE(vm->guest_khz);
}

/* For vCPUs that are yet to come. */
static long set_tsc_khz(void *object, void __user *arg)
{
	return mk_set_vm_tsc_khz(object, (unsigned long)arg);
}

static long get_stats_fd(void *object, void __user *arg)
{
	return mk_stats_fd(object, NULL);
}

static long get_dirty_log(void *object, void __user *arg)
{
	struct kvm_dirty_log log;

	return mk_from_user(log, arg) ?: mk_get_dirty_log(object, &log);
}

static long clear_dirty_log(void *object, void __user *arg)
{
	struct kvm_clear_dirty_log log;

	return mk_from_user(log, arg) ?: mk_clear_dirty_log(object, &log);
}

/* Three pages below 4 GiB. Unrestricted guests need no TSS of ours: it is only kept. */
static long set_tss_addr(void *object, void __user *arg)
{
	struct mk_vm *vm = object;

	if ((unsigned long)arg > SZ_4G - 3 * PAGE_SIZE)
		return -EINVAL;
	mutex_lock(&vm->lock);
	vm->tss_addr = (unsigned long)arg;
	mutex_unlock(&vm->lock);
	return 0;
}

static long set_identity_map_addr(void *object, void __user *arg)
{
	struct mk_vm *vm = object;
	long err = 0;
	u64 addr;

	if (mk_from_user(addr, arg))
		return -EFAULT;
	mutex_lock(&vm->lock);
	if (vm->nr_vcpus)
		err = -EINVAL;
	else
		vm->ident_addr = addr ?: 0xfffbc000;
	mutex_unlock(&vm->lock);
	return err;
}

static long set_boot_cpu_id(void *object, void __user *arg)
{
	struct mk_vm *vm = object;
	long err = 0;

	mutex_lock(&vm->lock);
	if (vm->nr_vcpus)
		err = -EBUSY;
	else if ((unsigned long)arg > vm->max_vcpu_id)
		err = -EINVAL;
	else
		vm->boot_id = (unsigned long)arg;
	mutex_unlock(&vm->lock);
	return err;
}

/* Once, or to the same again. */
static long limit_vcpu_ids(struct mk_vm *vm, u64 max)
{
	long err = 0;

	if (max > MK_MAX_VCPU_ID)
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (max < vm->boot_id)
		err = -EINVAL;
	else if (vm->max_vcpu_id == MK_MAX_VCPU_ID)
		vm->max_vcpu_id = max;
	else if (vm->max_vcpu_id != max)
		err = -EINVAL;
	mutex_unlock(&vm->lock);
	return err;
}

/* How many shadow pages there may be: we have none, so that the limit always holds. */
static long set_nr_mmu_pages(void *object, void __user *arg)
{
	struct mk_vm *vm = object;
	unsigned long pages = (unsigned long)arg;

	if (pages < 64 || pages > U32_MAX)
		return -EINVAL;
	mutex_lock(&vm->lock);
	vm->nr_mmu_pages = pages;
	mutex_unlock(&vm->lock);
	return 0;
}

static long get_nr_mmu_pages(void *object, void __user *arg)
{
	struct mk_vm *vm = object;

	return READ_ONCE(vm->nr_mmu_pages);
}

#define X2APIC_FLAGS	(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)

/* That all is dirty at first makes sense only where userspace clears it. */
static long set_dirty_log_flags(struct mk_vm *vm, u64 flags)
{
	u64 allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (flags & ~allowed)
		return -EINVAL;
	mutex_lock(&vm->lock);
	vm->dirty_log_flags = flags;
	mutex_unlock(&vm->lock);
	return 0;
}

/* MWAIT is for guests only where it would not stop the host's timers. */
u32 mk_exits_to_disable(void)
{
	return KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_HLT |
	       (boot_cpu_has(X86_FEATURE_MWAIT) && boot_cpu_has(X86_FEATURE_ARAT) ?
		KVM_X86_DISABLE_EXITS_MWAIT : 0);
}

static long set_apic_bus(struct mk_vm *vm, u64 ns)
{
	long err = 0;

	/* The longest time, with the highest divider, is to fit into 64 bits. */
	if (!ns || ns > U64_MAX / ((u64)U32_MAX * 128))
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (!vm->board)
		err = -ENXIO;
	else if (vm->nr_vcpus)
		err = -EINVAL;
	else
		vm->apic_bus_ns = ns;
	mutex_unlock(&vm->lock);
	return err;
}

#define MSR_EXITS (KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | \
		   KVM_MSR_EXIT_REASON_FILTER)

/* What it switches on stays on, unless it says otherwise. */
static long enable_cap(void *object, void __user *arg)
{
	struct mk_vm *vm = object;
	struct kvm_enable_cap cap;

	if (mk_from_user(cap, arg))
		return -EFAULT;
	if (cap.flags)
		return -EINVAL;
	switch (cap.cap) {
	case KVM_CAP_X2APIC_API:
		if (cap.args[0] & ~(u64)X2APIC_FLAGS)
			return -EINVAL;
		if (cap.args[0] & KVM_X2APIC_API_USE_32BIT_IDS)
			WRITE_ONCE(vm->apic_ids32, true);
		if (cap.args[0] & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
			WRITE_ONCE(vm->apic_no_quirk, true);
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		return mk_irqchip_split(vm, cap.args[0]);
	case KVM_CAP_MAX_VCPU_ID:
		return limit_vcpu_ids(vm, cap.args[0]);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return set_dirty_log_flags(vm, cap.args[0]);
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return mk_dirty_ring_enable(vm, cap.args[0]);
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (cap.args[0] & ~(u64)MSR_EXITS)
			return -EINVAL;
		WRITE_ONCE(vm->msr_exits, cap.args[0]);
		return 0;
	case KVM_CAP_MSR_PLATFORM_INFO:
		WRITE_ONCE(vm->platform_info_hidden, !cap.args[0]);
		return 0;
	case KVM_CAP_DISABLE_QUIRKS2:
		if (cap.args[0] & ~(u64)MK_QUIRKS)
			return -EINVAL;
		fallthrough;
	case KVM_CAP_DISABLE_QUIRKS:
		WRITE_ONCE(vm->quirks_off, cap.args[0]);
		return 0;
	case KVM_CAP_X86_DISABLE_EXITS:
		if (cap.args[0] & ~(u64)mk_exits_to_disable())
			return -EINVAL;
		WRITE_ONCE(vm->exits_off, vm->exits_off | cap.args[0]);
		return 0;
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		return set_apic_bus(vm, cap.args[0]);
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (cap.args[0] & ~1ull)
			return -EINVAL;
		WRITE_ONCE(vm->exit_on_emulation_failure, cap.args[0]);
		return 0;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		WRITE_ONCE(vm->tells_payloads, cap.args[0]);
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		WRITE_ONCE(vm->tells_triple_fault, cap.args[0]);
		return 0;
	}
	return -EINVAL;
}

static long set_msr_filter(void *object, void __user *arg)
{
	struct kvm_msr_filter filter;

	return mk_from_user(filter, arg) ?: mk_msr_filter_set(object, &filter);
}

static long reset_dirty_rings(void *object, void __user *arg)
{
	return mk_dirty_rings_reset(object);
}

static long create_irqchip(void *object, void __user *arg)
{
	return mk_irqchip_create(object);
}

static long get_irqchip(void *object, void __user *arg)
{
	struct kvm_irqchip *chip = memdup_user(arg, sizeof(*chip));
	long err;

	if (IS_ERR(chip))
		return PTR_ERR(chip);
	err = mk_irqchip_get(object, chip);
	if (!err && copy_to_user(arg, chip, sizeof(*chip)))
		err = -EFAULT;
	kfree(chip);
	return err;
}

static long set_irqchip(void *object, void __user *arg)
{
	struct kvm_irqchip *chip = memdup_user(arg, sizeof(*chip));
	long err;

	if (IS_ERR(chip))
		return PTR_ERR(chip);
	err = mk_irqchip_set(object, chip);
	kfree(chip);
	return err;
}

static long create_pit(void *object, void __user *arg)
{
	const struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };

	return mk_pit_create(object, &config);
}

static long create_pit2(void *object, void __user *arg)
{
	struct kvm_pit_config config;

	return mk_from_user(config, arg) ?: mk_pit_create(object, &config);
}

static long get_pit(void *object, void __user *arg)
{
	struct kvm_pit_state state = {};

	return mk_pit_get(object, &state) ?: mk_to_user(arg, state);
}

static long set_pit(void *object, void __user *arg)
{
	struct kvm_pit_state state;

	return mk_from_user(state, arg) ?: mk_pit_set(object, &state);
}

static long get_pit2(void *object, void __user *arg)
{
	struct kvm_pit_state2 state = {};

	return mk_pit_get2(object, &state) ?: mk_to_user(arg, state);
}

static long set_pit2(void *object, void __user *arg)
{
	struct kvm_pit_state2 state;

	return mk_from_user(state, arg) ?: mk_pit_set2(object, &state);
}

static long reinject_control(void *object, void __user *arg)
{
	struct kvm_reinject_control control;

	return mk_from_user(control, arg) ?: mk_pit_reinject(object, control.pit_reinject);
}

static long set_gsi_routing(void *object, void __user *arg)
{
	struct kvm_irq_routing __user *user = arg;
	struct kvm_irq_routing_entry *entries = NULL;
	struct kvm_irq_routing head;
	long err;

	if (mk_from_user(head, arg))
		return -EFAULT;
	if (head.nr > MK_NR_GSI || head.flags)
		return -EINVAL;
	if (head.nr) {
		entries = vmemdup_user(user->entries, head.nr * sizeof(*entries));
		if (IS_ERR(entries))
			return PTR_ERR(entries);
	}
	err = mk_set_routing(object, entries, head.nr);
	kvfree(entries);
	return err;
}

static long signal_msi(void *object, void __user *arg)
{
	struct kvm_msi msi;

	return mk_from_user(msi, arg) ?: mk_signal_msi(object, &msi);
}

static long irqfd(void *object, void __user *arg)
{
	struct kvm_irqfd args;

	return mk_from_user(args, arg) ?: mk_irqfd(object, &args);
}

static long ioeventfd(void *object, void __user *arg)
{
	struct kvm_ioeventfd args;

	return mk_from_user(args, arg) ?: mk_ioeventfd(object, &args);
}

static long coalesce(void *object, void __user *arg)
{
	struct kvm_coalesced_mmio_zone zone;

	return mk_from_user(zone, arg) ?: mk_coalesce(object, &zone);
}

static long uncoalesce(void *object, void __user *arg)
{
	struct kvm_coalesced_mmio_zone zone;

	return mk_from_user(zone, arg) ?: mk_uncoalesce(object, &zone);
}

static long get_clock(void *object, void __user *arg)
{
	struct kvm_clock_data data;

	return mk_get_clock(object, &data) ?: mk_to_user(arg, data);
}

static long set_clock(void *object, void __user *arg)
{
	struct kvm_clock_data data;

	return mk_from_user(data, arg) ?: mk_set_clock(object, &data);
}

static long irq_line(void *object, void __user *arg)
{
	struct kvm_irq_level line;
	s32 status;

	return mk_from_user(line, arg) ?: mk_irq_line(object, line.irq, line.level, &status);
}

static long irq_line_status(void *object, void __user *arg)
{
	struct kvm_irq_level line;
	s32 status;
	long err;

	if (mk_from_user(line, arg))
		return -EFAULT;
	err = mk_irq_line(object, line.irq, line.level, &status);
	if (err)
		return err;
	line.status = status;
	return mk_to_user(arg, line);
}

static const struct mk_ioctl table[] = {
	{ KVM_IRQ_LINE,			irq_line },
	{ KVM_IRQ_LINE_STATUS,		irq_line_status },
	{ KVM_SET_GSI_ROUTING,		set_gsi_routing },
	{ KVM_SIGNAL_MSI,		signal_msi },
	{ KVM_IRQFD,			irqfd },
	{ KVM_GET_CLOCK,		get_clock },
	{ KVM_SET_CLOCK,		set_clock },
	{ KVM_IOEVENTFD,		ioeventfd },
	{ KVM_REGISTER_COALESCED_MMIO,	coalesce },
	{ KVM_UNREGISTER_COALESCED_MMIO, uncoalesce },
	{ KVM_CHECK_EXTENSION,		vm_check_extension },
	{ KVM_CREATE_VCPU,		create_vcpu },
	{ KVM_SET_USER_MEMORY_REGION,	set_user_memory_region },
	{ KVM_SET_USER_MEMORY_REGION2,	set_user_memory_region2 },
	{ KVM_GET_STATS_FD,		get_stats_fd },
	{ KVM_GET_TSC_KHZ,		get_tsc_khz },
	{ KVM_SET_TSC_KHZ,		set_tsc_khz },
	{ KVM_GET_DIRTY_LOG,		get_dirty_log },
	{ KVM_CLEAR_DIRTY_LOG,		clear_dirty_log },
	{ KVM_RESET_DIRTY_RINGS,	reset_dirty_rings },
	{ KVM_SET_TSS_ADDR,		set_tss_addr },
	{ KVM_SET_IDENTITY_MAP_ADDR,	set_identity_map_addr },
	{ KVM_SET_BOOT_CPU_ID,		set_boot_cpu_id },
	{ KVM_X86_SET_MSR_FILTER,	set_msr_filter },
	{ KVM_SET_NR_MMU_PAGES,		set_nr_mmu_pages },
	{ KVM_GET_NR_MMU_PAGES,		get_nr_mmu_pages },
	{ KVM_ENABLE_CAP,		enable_cap },
	{ KVM_CREATE_IRQCHIP,		create_irqchip },
	{ KVM_GET_IRQCHIP,		get_irqchip },
	{ KVM_SET_IRQCHIP,		set_irqchip },
	{ KVM_CREATE_PIT,		create_pit },
	{ KVM_CREATE_PIT2,		create_pit2 },
	{ KVM_GET_PIT,			get_pit },
	{ KVM_SET_PIT,			set_pit },
	{ KVM_GET_PIT2,			get_pit2 },
	{ KVM_REINJECT_CONTROL,		reinject_control },
	{ KVM_SET_PIT2,			set_pit2 },
};

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mk_vm *vm = file->private_data;

	if (vm->mm != current->mm)
		return -EIO;
	return mk_ioctl_call(table, ARRAY_SIZE(table), vm, cmd, arg);
}

static int vm_release(struct inode *inode, struct file *file)
{
	mk_irqfd_release(file->private_data);
	mk_vm_put(file->private_data);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vm_ioctl,
	.release = vm_release,
	.llseek = noop_llseek,
};

int mk_vm_fd(unsigned long type)
{
	struct mk_vm *vm;
	int fd;

	if (type)	/* the one machine type */
		return -EINVAL;
	vm = mk_vm_create();
	if (IS_ERR(vm))
		return PTR_ERR(vm);
	fd = anon_inode_getfd("kvm-vm", &vm_fops, vm, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		mk_vm_put(vm);
	return fd;
}
