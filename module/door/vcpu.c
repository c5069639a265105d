// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU's file descriptor: KVM's vCPU ioctls, and the pages it shares.
 *
 * Every ioctl holds the vCPU's mutex and loads the vCPU; where that is not
 * wanted the handler is in the second table.
 *
 * Knows: the core's vCPU, the board's local APIC. Read next: core/run.c.
 */
#include <linux/anon_inodes.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/slab.h>

#include "board/board.h"
#include "core/dirty.h"
#include "core/mmu.h"
#include "door/door.h"
#include "hw/compat.h"
#include "minikvm.h"

/* kvm_run is the VMM's memory: each struct is read once, and checked where it cannot change. */
static int sync_in(struct mk_vcpu *v, u64 dirty)
{
	struct kvm_sync_regs *sync = &v->run->s.regs;
	union {
		struct kvm_regs regs;
		struct kvm_sregs sregs;
		struct kvm_vcpu_events events;
	} x;
	int err = 0;

	if (dirty & KVM_SYNC_X86_REGS) {
		memcpy(&x.regs, &sync->regs, sizeof(x.regs));
		err = mk_set_regs(v, &x.regs);
	}
	if (!err && (dirty & KVM_SYNC_X86_SREGS)) {
		memcpy(&x.sregs, &sync->sregs, sizeof(x.sregs));
		err = mk_set_sregs(v, &x.sregs);
	}
	if (!err && (dirty & KVM_SYNC_X86_EVENTS)) {
		memcpy(&x.events, &sync->events, sizeof(x.events));
		err = mk_set_vcpu_events(v, &x.events);
	}
	return err;
}

static void sync_out(struct mk_vcpu *v, u64 valid)
{
	struct kvm_sync_regs *sync = &v->run->s.regs;

	if (valid & KVM_SYNC_X86_REGS)
		mk_get_regs(v, &sync->regs);
	if (valid & KVM_SYNC_X86_SREGS)
		mk_get_sregs(v, &sync->sregs);
	if (valid & KVM_SYNC_X86_EVENTS)
		mk_get_vcpu_events(v, &sync->events);
}

/* KVM_CAP_SYNC_REGS: registers that come and go with KVM_RUN. */
static long run_synced(struct mk_vcpu *v)
{
	u64 valid = READ_ONCE(v->run->kvm_valid_regs), dirty = READ_ONCE(v->run->kvm_dirty_regs);
	long err = 0;

	if (likely(!(valid | dirty)))
		return mk_vcpu_run(v);
	if ((valid | dirty) & ~(u64)KVM_SYNC_X86_VALID_FIELDS)
		return -EINVAL;
	if (dirty) {
		mk_vcpu_load(v);
		err = sync_in(v, dirty);
		mk_vcpu_put(v);
		if (err)
			return err;
		v->run->kvm_dirty_regs = 0;
	}
	err = mk_vcpu_run(v);
	if (valid) {
		mk_vcpu_load(v);
		sync_out(v, valid);
		mk_vcpu_put(v);
	}
	return err;
}

/*
 * KVM_SET_SIGNAL_MASK holds while the guest runs, and not a moment longer. A signal that
 * the thread blocks otherwise only ends KVM_RUN: real_blocked keeps one without a handler
 * from killing the process as it is sent.
 */
static long run(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	long err;

	if (arg)
		return -EINVAL;
	if (v->sigmask_set)
		sigprocmask(SIG_SETMASK, &v->sigmask, &current->real_blocked);
	err = run_synced(v);
	if (v->sigmask_set) {
		sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
		sigemptyset(&current->real_blocked);
	}
	return err;
}

static long set_signal_mask(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	struct kvm_signal_mask head;
	sigset_t mask;

	if (!arg) {
		v->sigmask_set = false;
		return 0;
	}
	if (mk_from_user(head, arg))
		return -EFAULT;
	if (head.len != sizeof(mask))
		return -EINVAL;
	if (copy_from_user(&mask, arg + sizeof(head), sizeof(mask)))
		return -EFAULT;
	sigdelsetmask(&mask, sigmask(SIGKILL) | sigmask(SIGSTOP));
	v->sigmask = mask;
	v->sigmask_set = true;
	return 0;
}

/* KVM_GET_X and KVM_SET_X for a struct that the stack has room for */
#define GET(name, type, get)						\
	static long get_##name(void *object, void __user *arg)		\
	{								\
		type x;							\
									\
		return get(object, &x) ?: mk_to_user(arg, x);		\
	}
#define SET(name, type, set)						\
	static long set_##name(void *object, void __user *arg)		\
	{								\
		type x;							\
									\
		return mk_from_user(x, arg) ?: set(object, &x);		\
	}

GET(regs, struct kvm_regs, mk_get_regs)
SET(regs, struct kvm_regs, mk_set_regs)
GET(sregs, struct kvm_sregs, mk_get_sregs)
SET(sregs, struct kvm_sregs, mk_set_sregs)
GET(sregs2, struct kvm_sregs2, mk_get_sregs2)
SET(sregs2, struct kvm_sregs2, mk_set_sregs2)
GET(fpu, struct kvm_fpu, mk_get_fpu)
SET(fpu, struct kvm_fpu, mk_set_fpu)

GET(vcpu_events, struct kvm_vcpu_events, mk_get_vcpu_events)
SET(vcpu_events, struct kvm_vcpu_events, mk_set_vcpu_events)
GET(debugregs, struct kvm_debugregs, mk_get_debugregs)
SET(debugregs, struct kvm_debugregs, mk_set_debugregs)
GET(xcrs, struct kvm_xcrs, mk_get_xcrs)
SET(xcrs, struct kvm_xcrs, mk_set_xcrs)
SET(mce, struct kvm_x86_mce, mk_set_mce)

SET(guest_debug, struct kvm_guest_debug, mk_debug_set)

static long translate(void *object, void __user *arg)
{
	struct kvm_translation tr;

	return mk_from_user(tr, arg) ?: mk_translate(object, &tr) ?: mk_to_user(arg, tr);
}

static long setup_mce(void *object, void __user *arg)
{
	u64 cap;

	return mk_from_user(cap, arg) ?: mk_setup_mce(object, cap);
}

/* Without the option ROM's help a guest has no such page; 0 says so. */
static long set_vapic_addr(void *object, void __user *arg)
{
	struct kvm_vapic_addr vapic;
	struct mk_vcpu *v = object;

	if (!v->apic)
		return -EINVAL;
	return mk_from_user(vapic, arg) ?: vapic.vapic_addr ? -EINVAL : 0;
}

/* KVM_GET_XSAVE has room for 4096 bytes, and fails where a guest may have more. */
static long get_xsave_bytes(struct mk_vcpu *v, void __user *arg)
{
	void *buf = kzalloc(mk_xsave_size(), GFP_KERNEL_ACCOUNT);
	long err = 0;

	if (!buf)
		return -ENOMEM;
	mk_get_xsave(v, buf);
	if (copy_to_user(arg, buf, mk_xsave_size()))
		err = -EFAULT;
	kfree(buf);
	return err;
}

static long get_xsave(void *object, void __user *arg)
{
	if (mk_xsave_size() > sizeof(struct kvm_xsave))
		return -EINVAL;
	return get_xsave_bytes(object, arg);
}

static long get_xsave2(void *object, void __user *arg)
{
	return get_xsave_bytes(object, arg);
}

static long set_xsave(void *object, void __user *arg)
{
	void *buf = memdup_user(arg, mk_xsave_size());
	long err;

	if (IS_ERR(buf))
		return PTR_ERR(buf);
	err = mk_set_xsave(object, buf);
	kfree(buf);
	return err;
}

static long get_lapic(void *object, void __user *arg)
{
	struct kvm_lapic_state *state = kzalloc(sizeof(*state), GFP_KERNEL);
	long err;

	if (!state)
		return -ENOMEM;
	err = mk_lapic_get_state(object, state);
	if (!err && copy_to_user(arg, state, sizeof(*state)))
		err = -EFAULT;
	kfree(state);
	return err;
}

static long set_lapic(void *object, void __user *arg)
{
	struct kvm_lapic_state *state = memdup_user(arg, sizeof(*state));
	long err;

	if (IS_ERR(state))
		return PTR_ERR(state);
	err = mk_lapic_set_state(object, state);
	kfree(state);
	return err;
}

#define MAX_MSRS	256	/* a call; as stock KVM */

long mk_each_msr(void *object, void __user *arg,
		 int (*one)(void *object, struct kvm_msr_entry *e), bool get)
{
	struct kvm_msrs __user *user = arg;
	struct kvm_msr_entry *entries, *e;
	struct kvm_msrs head;
	long done = 0;
	size_t size;

	if (mk_from_user(head, arg))
		return -EFAULT;
	if (head.nmsrs >= MAX_MSRS)
		return -E2BIG;
	size = head.nmsrs * sizeof(*entries);
	entries = memdup_user(user->entries, size);
	if (IS_ERR(entries))
		return PTR_ERR(entries);
	for (e = entries; done < head.nmsrs; e++, done++)
		if (one(object, e))
			break;
	if (get && copy_to_user(user->entries, entries, size))
		done = -EFAULT;
	kfree(entries);
	return done;
}

static int get_msr(void *object, struct kvm_msr_entry *e)
{
	return mk_msr_get(object, e->index, &e->data, true);
}

static int set_msr(void *object, struct kvm_msr_entry *e)
{
	return mk_msr_set(object, e->index, e->data, true);
}

static long get_msrs(void *object, void __user *arg)
{
	return mk_each_msr(object, arg, get_msr, true);
}

static long set_msrs(void *object, void __user *arg)
{
	return mk_each_msr(object, arg, set_msr, false);
}

/* The one attribute of a vCPU: what its TSC is ahead of the host's, in ticks. */
static long tsc_offset_attr(void __user *arg, u64 __user **user)
{
	return mk_only_attr(arg, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, user);
}

static long has_attr(void *object, void __user *arg)
{
	u64 __user *user;

	return tsc_offset_attr(arg, &user);
}

static long get_attr(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	u64 __user *user;

	return tsc_offset_attr(arg, &user) ?: put_user((u64)v->cpu.tsc_offset, user);
}

static long set_attr(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	u64 __user *user;
	u64 offset;
	long err;

	err = tsc_offset_attr(arg, &user) ?: get_user(offset, user);
	if (!err)
		mk_set_vm_tsc_offset(v, offset);
	return err;
}

static long enable_cap(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	struct kvm_enable_cap cap;

	if (mk_from_user(cap, arg))
		return -EFAULT;
	if (cap.flags || cap.cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	v->pv_enforced = cap.args[0];
	return 0;
}

static long set_cpuid2(void *object, void __user *arg)
{
	struct kvm_cpuid2 __user *user = arg;
	struct kvm_cpuid_entry2 *entries = NULL;
	struct kvm_cpuid2 head;
	size_t size;
	long err;

	if (mk_from_user(head, arg))
		return -EFAULT;
	if (head.nent > MK_MAX_CPUID)
		return -E2BIG;
	size = head.nent * sizeof(*entries);
	if (size) {
		entries = kvmalloc(size, GFP_KERNEL_ACCOUNT);
		if (!entries)
			return -ENOMEM;
		if (copy_from_user(entries, user->entries, size)) {
			kvfree(entries);
			return -EFAULT;
		}
	}
	err = mk_cpuid_set(object, entries, head.nent);
	if (err)
		kvfree(entries);
	return err;
}

static long get_cpuid2(void *object, void __user *arg)
{
	struct kvm_cpuid2 __user *user = arg;
	struct mk_vcpu *v = object;
	struct kvm_cpuid2 head;

	if (mk_from_user(head, arg))
		return -EFAULT;
	if (head.nent < v->nr_cpuid)
		return -E2BIG;
	head.nent = v->nr_cpuid;
	if (copy_to_user(user->entries, v->cpuid, head.nent * sizeof(*v->cpuid)))
		return -EFAULT;
	return mk_to_user(arg, head);
}

static long get_mp_state(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	struct kvm_mp_state state;

	mk_startup(v);
	state.mp_state = v->mp_state;
	if (state.mp_state == KVM_MP_STATE_HALTED && READ_ONCE(v->unhalted))
		state.mp_state = KVM_MP_STATE_RUNNABLE;
	return mk_to_user(arg, state);
}

/* Without a local APIC in the kernel userspace does what the states stand for. */
static long set_mp_state(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	struct kvm_mp_state state;

	if (mk_from_user(state, arg))
		return -EFAULT;
	switch (state.mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_AP_RESET_HOLD:	/* sleeps like a halted one */
		if (!v->apic)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	/* An interrupt that is on its way is the state of one that waits for it. */
	if (state.mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		state.mp_state = KVM_MP_STATE_INIT_RECEIVED;
		mk_request(v, MK_REQ_SIPI);
	}
	v->mp_state = state.mp_state;
	mk_request(v, MK_REQ_EVENT);
	return 0;
}

static long interrupt(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	struct kvm_interrupt irq;

	if (mk_from_user(irq, arg))
		return -EFAULT;
	if (irq.irq > 255)
		return -EINVAL;
	if (v->apic)
		return mk_lapic_extint(v, irq.irq);
	v->user_irq = irq.irq;
	mk_request(v, MK_REQ_EVENT);
	return 0;
}

static long nmi(void *object, void __user *arg)
{
	mk_queue_nmi(object);
	return 0;
}

static long get_tsc_khz(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;

	return v->tsc_khz;
}

static long set_tsc_khz(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;

	return mk_set_tsc_khz(v, (unsigned long)arg);
}

static int pre_fault(struct mk_vcpu *v, gpa_t gpa)
{
	switch (mk_mmu_fault(v, gpa, MK_TDP_READ)) {
	case MK_FAULT_MAPPED:
		return 0;
	case MK_FAULT_DEVICE:
		return -ENOENT;
	case MK_FAULT_NOMEM:
		return -ENOMEM;
	case MK_FAULT_SIGNAL:
		return -EINTR;
	case MK_FAULT_BAD:
		break;
	}
	return -EFAULT;
}

/* Map what a guest will need. Where it ends early, the struct says how much is left. */
static long pre_fault_memory(void *object, void __user *arg)
{
	struct kvm_pre_fault_memory range;
	struct mk_vcpu *v = object;
	long err = 0;
	u64 size;

	if (mk_from_user(range, arg))
		return -EFAULT;
	size = range.size;
	if (range.flags || !PAGE_ALIGNED(range.gpa | size) || range.gpa + size <= range.gpa)
		return -EINVAL;
	while (range.size) {
		err = signal_pending(current) ? -EINTR : pre_fault(v, range.gpa);
		if (err)
			break;
		range.gpa += PAGE_SIZE;
		range.size -= PAGE_SIZE;
		cond_resched();
	}
	/* A part is a success. */
	return mk_to_user(arg, range) ?: range.size < size ? 0 : err;
}

static long get_stats_fd(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;

	return mk_stats_fd(v->vm, v);
}

static long kvmclock_ctrl(void *object, void __user *arg)
{
	return mk_clock_stopped(object);
}

static long get_exits(void *object, void __user *arg)
{
	static const char *const names[] = {
#define MK_X(kind, name) name,
		MK_EXIT_KINDS(MK_X)
#undef MK_X
	};
	struct minikvm_exits __user *user = arg;
	struct mk_vcpu *v = object;
	struct minikvm_exits head;
	u32 i, room;

	if (mk_from_user(head, arg))
		return -EFAULT;
	room = head.nr;
	head.nr = MK_EXIT_NR;
	if (mk_to_user(arg, head))
		return -EFAULT;
	if (room < MK_EXIT_NR)
		return -E2BIG;
	for (i = 0; i < MK_EXIT_NR; i++) {
		char name[sizeof(user->exit[0].name)] = {};

		strscpy(name, names[i], sizeof(name));
		if (copy_to_user(user->exit[i].name, name, sizeof(name)) ||
		    put_user(v->exits[i], &user->exit[i].count))
			return -EFAULT;
	}
	return 0;
}

static long get_death(void *object, void __user *arg)
{
	struct mk_vcpu *v = object;
	struct minikvm_death death = {};

	strscpy(death.why, v->death, sizeof(death.why));
	return mk_to_user(arg, death);
}

/* These load the vCPU themselves, or do not touch its registers. */
static const struct mk_ioctl light[] = {
	{ KVM_RUN,		run },
	{ KVM_SET_SIGNAL_MASK,	set_signal_mask },
	{ KVM_GET_MP_STATE,	get_mp_state },
	{ KVM_SET_MP_STATE,	set_mp_state },
	{ KVM_INTERRUPT,	interrupt },
	{ KVM_NMI,		nmi },
	{ KVM_GET_STATS_FD,	get_stats_fd },
	{ KVM_GET_TSC_KHZ,	get_tsc_khz },
	{ KVM_SET_TSC_KHZ,	set_tsc_khz },
	{ KVM_PRE_FAULT_MEMORY,	pre_fault_memory },
	{ KVM_GET_CPUID2,	get_cpuid2 },
	{ KVM_GET_FPU,		get_fpu },
	{ KVM_SET_FPU,		set_fpu },
	{ KVM_GET_XSAVE,	get_xsave },
	{ KVM_GET_XSAVE2,	get_xsave2 },
	{ KVM_SET_XSAVE,	set_xsave },
	{ KVM_SET_VAPIC_ADDR,	set_vapic_addr },
	{ KVM_KVMCLOCK_CTRL,	kvmclock_ctrl },
	{ KVM_X86_SETUP_MCE,	setup_mce },
	{ KVM_HAS_DEVICE_ATTR,	has_attr },
	{ KVM_ENABLE_CAP,	enable_cap },
	{ MINIKVM_GET_EXITS,	get_exits },
	{ MINIKVM_GET_DEATH,	get_death },
};

static const struct mk_ioctl loaded[] = {
	{ KVM_GET_REGS,		get_regs },
	{ KVM_SET_REGS,		set_regs },
	{ KVM_GET_SREGS,	get_sregs },
	{ KVM_SET_SREGS,	set_sregs },
	{ KVM_GET_SREGS2,	get_sregs2 },
	{ KVM_SET_SREGS2,	set_sregs2 },
	{ KVM_GET_MSRS,		get_msrs },
	{ KVM_SET_MSRS,		set_msrs },
	{ KVM_GET_LAPIC,	get_lapic },
	{ KVM_SET_LAPIC,	set_lapic },
	{ KVM_SET_CPUID2,	set_cpuid2 },
	{ KVM_GET_VCPU_EVENTS,	get_vcpu_events },
	{ KVM_SET_VCPU_EVENTS,	set_vcpu_events },
	{ KVM_GET_DEBUGREGS,	get_debugregs },
	{ KVM_SET_DEBUGREGS,	set_debugregs },
	{ KVM_GET_XCRS,		get_xcrs },
	{ KVM_SET_XCRS,		set_xcrs },
	{ KVM_X86_SET_MCE,	set_mce },
	{ KVM_SET_GUEST_DEBUG,	set_guest_debug },
	{ KVM_TRANSLATE,	translate },
	{ KVM_GET_DEVICE_ATTR,	get_attr },
	{ KVM_SET_DEVICE_ATTR,	set_attr },
};

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mk_vcpu *v = file->private_data;
	long ret;

	if (v->vm->mm != current->mm)
		return -EIO;
	if (mutex_lock_killable(&v->mutex))
		return -EINTR;
	ret = mk_ioctl_call(light, ARRAY_SIZE(light), v, cmd, arg);
	if (ret == -ENOTTY) {
		mk_vcpu_load(v);
		ret = mk_ioctl_call(loaded, ARRAY_SIZE(loaded), v, cmd, arg);
		mk_vcpu_put(v);
	}
	mutex_unlock(&v->mutex);
	return ret;
}

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct mk_vcpu *v = vmf->vma->vm_file->private_data;

	switch (vmf->pgoff) {
	case 0:
		vmf->page = virt_to_page(v->run);
		break;
	case KVM_PIO_PAGE_OFFSET:
		vmf->page = virt_to_page(v->pio_page);
		break;
	case KVM_COALESCED_MMIO_PAGE_OFFSET:
		vmf->page = v->vm->ring;
		break;
	default:
		vmf->page = mk_dirty_ring_page(v, vmf->pgoff);
		if (!vmf->page)
			return VM_FAULT_SIGBUS;
	}
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = { .fault = vcpu_fault };

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	const struct mk_vcpu *v = file->private_data;

	/* A copy of a ring would be nobody's, and code it is not. */
	if ((mk_dirty_ring_page(v, vma->vm_pgoff) ||
	     mk_dirty_ring_page(v, vma->vm_pgoff + vma_pages(vma) - 1)) &&
	    (!(vma->vm_flags & VM_SHARED) || (vma->vm_flags & VM_EXEC)))
		return -EINVAL;
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

/* The vCPU itself lives as long as its VM. */
static int vcpu_release(struct inode *inode, struct file *file)
{
	struct mk_vcpu *v = file->private_data;

	mk_vm_put(v->vm);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vcpu_ioctl,
	.mmap = vcpu_mmap,
	.release = vcpu_release,
	.llseek = noop_llseek,
};

int mk_vcpu_fd(struct mk_vm *vm, unsigned long id)
{
	struct mk_vcpu *v;
	char name[32];
	int fd;

	mutex_lock(&vm->lock);
	if (id >= vm->max_vcpu_id) {
		fd = -EINVAL;
		goto unlock;
	}
	if (xa_load(&vm->vcpus, id)) {
		fd = -EEXIST;
		goto unlock;
	}
	if (vm->nr_vcpus >= MK_MAX_VCPUS) {
		fd = -EINVAL;
		goto unlock;
	}
	v = mk_vcpu_create(vm, id);
	if (IS_ERR(v)) {
		fd = PTR_ERR(v);
		goto unlock;
	}
	/* Visible before it has a descriptor: a guest of another thread may look for it. */
	fd = xa_err(xa_store(&vm->vcpus, id, v, GFP_KERNEL_ACCOUNT));
	if (fd)
		goto destroy;
	mk_vm_get(vm);
	snprintf(name, sizeof(name), "kvm-vcpu:%lu", id);
	fd = anon_inode_getfd(name, &vcpu_fops, v, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		mk_vm_put(vm);
		xa_erase(&vm->vcpus, id);
		goto destroy;
	}
	vm->nr_vcpus++;
	goto unlock;

destroy:
	/* Those who found it did so under RCU, to kick it. */
	synchronize_rcu();
	mk_vcpu_destroy(v);
unlock:
	mutex_unlock(&vm->lock);
	return fd;
}
