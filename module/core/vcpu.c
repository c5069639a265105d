// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a vCPU: created, reset, loaded on a host CPU while a thread
 * works with it, kicked, destroyed.
 *
 * Knows: the backend's load() and put(), the board's vCPU operations.
 * Read next: core/run.c.
 */
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <trace/events/ipi.h>	/* smp_send_reschedule() */

#include "core/dirty.h"
#include "core/power.h"
#include "core/vcpu.h"

static bool tpr_shadow = true;
module_param(tpr_shadow, bool, 0444);
MODULE_PARM_DESC(tpr_shadow, "guests with a local APIC change CR8 without an exit");

/*
 * The vCPU is on a CPU whose hardware is ours only if power.c says so: a CPU
 * that is going down, or failed to come up, leaves it unloaded, and the run
 * loop will not enter.
 */
static void load_here(struct mk_vcpu *v)
{
	if (likely(__this_cpu_read(mk_cpu_is_on))) {
		mk_time_catch_up(v);
		mk_clock_load(v);
		mk_steal_load(v);
		mk_hw->load(&v->cpu);
		v->loaded = true;
	}
}

static void unload_here(struct mk_vcpu *v)
{
	if (v->loaded) {
		v->loaded = false;
		mk_hw->put(&v->cpu);
	}
}

static void sched_in(struct preempt_notifier *pn, int cpu)
{
	struct mk_vcpu *v = container_of(pn, struct mk_vcpu, preempt);

	WRITE_ONCE(v->preempted, false);
	load_here(v);
}

static void sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	struct mk_vcpu *v = container_of(pn, struct mk_vcpu, preempt);

	if (current->on_rq) {
		WRITE_ONCE(v->preempted, true);
		mk_steal_preempted(v);
	}
	unload_here(v);
}

static struct preempt_ops preempt_ops = {
	.sched_in = sched_in,
	.sched_out = sched_out,
};

void mk_vcpu_note_thread(struct mk_vcpu *v)
{
	struct pid *old = rcu_dereference_protected(v->pid, lockdep_is_held(&v->mutex));
	struct pid *now = task_pid(current);

	if (likely(old == now))
		return;
	mk_steal_note_thread(v);
	rcu_assign_pointer(v->pid, get_pid(now));
	if (old) {
		synchronize_rcu();
		put_pid(old);
	}
}

/* The thread of a preempted vCPU with an id in [first, last], with a reference; or NULL. */
static struct task_struct *preempted_thread(struct mk_vm *vm, unsigned long first,
					    unsigned long last)
{
	struct task_struct *task = NULL;
	struct mk_vcpu *v;
	unsigned long id;

	rcu_read_lock();
	xa_for_each_range(&vm->vcpus, id, v, first, last) {
		if (READ_ONCE(v->preempted))
			task = get_pid_task(rcu_dereference(v->pid), PIDTYPE_PID);
		if (task)
			break;
	}
	rcu_read_unlock();
	return task;
}

/* Takes over the reference; NULL is nobody. */
static void yield_to_thread(struct task_struct *task)
{
	if (task) {
		yield_to(task, true);
		put_task_struct(task);
	}
}

void mk_vcpu_yield(struct mk_vcpu *v)
{
	struct task_struct *task;

	/* From its neighbour on, so that each has his turn. */
	task = preempted_thread(v->vm, v->id + 1, MK_MAX_VCPU_ID);
	if (!task && v->id)
		task = preempted_thread(v->vm, 0, v->id - 1);
	yield_to_thread(task);
}

void mk_vcpu_yield_to(struct mk_vcpu *v, u32 id)
{
	yield_to_thread(preempted_thread(v->vm, id, id));
}

void mk_vcpu_load(struct mk_vcpu *v)
{
	preempt_disable();
	preempt_notifier_register(&v->preempt);
	load_here(v);
	preempt_enable();
}

void mk_vcpu_put(struct mk_vcpu *v)
{
	preempt_disable();
	unload_here(v);
	preempt_notifier_unregister(&v->preempt);
	preempt_enable();
}

void mk_vcpu_kick(struct mk_vcpu *v)
{
	int cpu;

	rcuwait_wake_up(&v->wait);
	/*
	 * Pairs with the run loop: it stores MK_IN_GUEST, then reads requests;
	 * the caller stored a request (a full barrier), we read the mode.
	 */
	cpu = get_cpu();
	if (READ_ONCE(v->mode) == MK_IN_GUEST) {
		int there = READ_ONCE(v->cpu.host_cpu);

		if (there != cpu && there >= 0 && cpu_online(there))
			smp_send_reschedule(there);
	}
	put_cpu();
}

void mk_request_all(struct mk_vm *vm, enum mk_request req)
{
	struct mk_vcpu *v;
	unsigned long id;

	xa_for_each(&vm->vcpus, id, v) {
		mk_request(v, req);
		mk_vcpu_kick(v);
	}
}

void mk_vcpu_unhalt(struct mk_vm *vm, u32 id)
{
	struct mk_vcpu *v;

	rcu_read_lock();
	v = xa_load(&vm->vcpus, id);
	if (v) {
		WRITE_ONCE(v->unhalted, true);
		rcuwait_wake_up(&v->wait);
	}
	rcu_read_unlock();
}

static const struct mk_seg reset_data = {
	.limit = 0xffff, .ar = MK_AR_P | MK_AR_S | 3,
};

void mk_vcpu_reset(struct mk_vcpu *v, bool init)
{
	struct mk_cpu *cpu = &v->cpu;
	const struct kvm_cpuid_entry2 *id = mk_cpuid_find(v, 1, 0);
	u64 cr0 = X86_CR0_ET;
	int i;

	/* INIT leaves caching as it was (SDM vol. 3A, "Processor State After Reset"). */
	if (init) {
		mk_cpu_need(cpu, MK_G_CR);
		cr0 |= cpu->cr0 & (X86_CR0_CD | X86_CR0_NW);
	} else {
		cr0 |= X86_CR0_CD | X86_CR0_NW;
	}

	cpu->valid = MK_G_ALL;
	cpu->dirty = MK_G_ALL;
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[MK_RDX] = id ? id->eax : 0x600;
	cpu->rip = 0xfff0;
	cpu->rflags = X86_EFLAGS_FIXED;
	cpu->cr0 = cr0;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
	memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
	for (i = 0; i < MK_NR_SEG; i++)
		cpu->seg[i] = reset_data;
	cpu->seg[MK_CS].sel = 0xf000;
	cpu->seg[MK_CS].base = 0xffff0000;
	cpu->seg[MK_CS].ar = MK_AR_P | MK_AR_S | 0xb;
	cpu->seg[MK_LDTR].ar = MK_AR_P | 2;
	cpu->seg[MK_TR].ar = MK_AR_P | 0xb;
	cpu->gdt = cpu->idt = (struct mk_table){ .limit = 0xffff };
	memset(mk_guest_dr(v, 0), 0, sizeof(cpu->dr));
	*mk_guest_dr(v, 6) = MK_DR6_FIXED;
	*mk_guest_dr(v, 7) = MK_DR7_FIXED;
	cpu->shadow = 0;
	cpu->debugctl = 0;
	cpu->inject.type = cpu->vectoring.type = MK_EV_NONE;
	cpu->flush = MK_FLUSH_GUEST | MK_FLUSH_TDP;
	if (!init) {
		cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
		cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = cpu->kernel_gs_base = 0;
		cpu->pat = 0x0007040600070406ull;
		cpu->xcr0 = XFEATURE_MASK_FP;
		cpu->xss = 0;
		cpu->spec_ctrl = cpu->tsc_aux = 0;
		mk_msr_reset(v);
		mk_pv_reset(v);
	}
	cpu->cr8 = 0;
	v->exception.pending = false;
	v->unhalted = false;
	v->user_irq = -1;
	atomic_set(&v->nmis, 0);
	v->complete = NULL;
	if (v->apic)
		mk_board(v->vm)->vcpu_reset(v, init);
	mk_cpuid_refresh(v);
}

/* SDM vol. 3A, "Multiple-Processor (MP) Initialization": what a start-up interrupt does. */
static void start_at(struct mk_vcpu *v, u8 vector)
{
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_touch(cpu, MK_G_CODE | MK_G_RIP);
	cpu->seg[MK_CS].sel = vector << 8;
	cpu->seg[MK_CS].base = vector << 12;
	cpu->rip = 0;
}

void mk_startup(struct mk_vcpu *v)
{
	if (test_and_clear_bit(MK_REQ_INIT, &v->requests)) {
		mk_vcpu_reset(v, true);
		v->mp_state = mk_is_boot_vcpu(v) ? KVM_MP_STATE_RUNNABLE :
						   KVM_MP_STATE_INIT_RECEIVED;
	}
	if (test_and_clear_bit(MK_REQ_SIPI, &v->requests) &&
	    v->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		start_at(v, READ_ONCE(v->sipi_vector));
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

struct mk_vcpu *mk_vcpu_create(struct mk_vm *vm, u32 id)
{
	const struct mk_board_ops *board = mk_board(vm);
	struct mk_vcpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	struct page *pages;
	int err = -ENOMEM;

	if (!v)
		return ERR_PTR(-ENOMEM);
	v->vm = vm;
	v->id = id;
	mutex_init(&v->mutex);
	rcuwait_init(&v->wait);
	preempt_notifier_init(&v->preempt, &preempt_ops);
	v->cpu.host_cpu = -1;
	v->cpu.tdp_root = vm->tdp_root;
	v->cpu.exits_off = READ_ONCE(vm->exits_off);
	v->cpu.cr8_free = board && tpr_shadow && mk_hw->caps->tpr_shadow;
	v->cpu.can_virt_apic = v->cpu.cr8_free && mk_hw->caps->virt_apic;

	pages = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!pages)
		goto free_vcpu;
	v->run = page_address(pages);
	pages = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!pages)
		goto free_pages;
	v->pio_page = page_address(pages);

	err = mk_dirty_ring_create(v);
	if (err)
		goto free_pages;

	v->mcg_cap = MK_MC_BANKS;
	mk_cpuid_init(v);
	err = mk_fpu_create(v);
	if (err)
		goto free_ring;
	err = mk_hw->vcpu_create(&v->cpu);
	if (err)
		goto free_fpu;
	if (board) {
		err = board->vcpu_init(v);
		if (err)
			goto free_hw;
	}
	mk_vcpu_reset(v, false);
	mk_time_init(v);
	mk_msr_passthrough(v);
	/* Without a local APIC in the kernel, or as the boot CPU, it runs at once. */
	v->mp_state = board && !mk_is_boot_vcpu(v) ? KVM_MP_STATE_UNINITIALIZED :
						     KVM_MP_STATE_RUNNABLE;
	return v;

free_hw:
	mk_hw->vcpu_destroy(&v->cpu);
free_fpu:
	mk_fpu_destroy(v);
free_ring:
	mk_dirty_ring_destroy(v);
free_pages:
	free_page((unsigned long)v->pio_page);
	free_page((unsigned long)v->run);
free_vcpu:
	kfree(v);
	return ERR_PTR(err);
}

void mk_vcpu_destroy(struct mk_vcpu *v)
{
	if (v->apic)
		mk_board(v->vm)->vcpu_free(v);
	mk_hw->vcpu_destroy(&v->cpu);
	mk_fpu_destroy(v);
	put_pid(rcu_access_pointer(v->pid));
	kvfree(v->cpuid);
	mk_dirty_ring_destroy(v);
	free_page((unsigned long)v->pio_page);
	free_page((unsigned long)v->run);
	kfree(v);
}
