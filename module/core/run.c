// SPDX-License-Identifier: GPL-2.0
/*
 * The run loop: KVM_RUN from its beginning to its end.
 *
 *	ready?  ->  enter, leave, fast handler  ->  slow handler  ->  again, or out
 *	            '--- interrupts are off ---'
 *
 * An exit that needs nothing of the host goes round the inner loop alone. All
 * others come out with interrupts enabled and go through the slow handlers.
 *
 * Knows: everything of this floor. Read next: core/exits.c.
 */
#include <linux/context_tracking.h>
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>

#include "core/dirty.h"
#include "core/mmu.h"
#include "core/vcpu.h"
#include "core/trace.h"
#include "hw/compat.h"

static uint max_poll_ns = 200000;
module_param_named(halt_poll_ns, max_poll_ns, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns, "how long a halted vCPU keeps its CPU at most before it sleeps");

#define FIRST_POLL_NS	10000ull

enum mk_next mk_die(struct mk_vcpu *v, u32 suberror, const char *why, ...)
{
	struct kvm_run *run = v->run;
	va_list args;

	va_start(args, why);
	vsnprintf(v->death, sizeof(v->death), why, args);
	va_end(args);

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = 3;
	run->internal.data[0] = v->exit.hw;
	run->internal.data[1] = v->exit.kind;
	run->internal.data[2] = v->cpu.host_cpu;
	return MK_DEAD;
}

/* Does a vCPU that does not run have a reason to? INIT wakes all, interrupts only the halted. */
static bool woken(struct mk_vcpu *v)
{
	if (READ_ONCE(v->requests) & MK_STARTUP_REQS)
		return true;
	switch (v->mp_state) {
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
		return false;
	}
	return READ_ONCE(v->unhalted) || mk_event_waiting(v);
}

/*
 * To sleep and be woken takes longer than many a guest halts. So it is worth
 * while to look for a moment first, as long as nobody else wants this CPU.
 */
static void poll_for_event(struct mk_vcpu *v, u64 start)
{
	while (!woken(v) && !signal_pending(current) && !need_resched() &&
	       single_task_running() && ktime_get_ns() - start < v->poll_ns)
		cpu_relax();
}

/* Poll longer after a halt that was over soon, and not at all after a long one. */
static void adapt_polling(struct mk_vcpu *v, u64 halted, u64 max)
{
	if (halted > max)
		v->poll_ns = 0;
	else if (halted > v->poll_ns)
		v->poll_ns = min(max, max(2 * v->poll_ns, FIRST_POLL_NS));
}

/*
 * Wait until the vCPU has something to do, or a signal ends the wait: -EINTR.
 * The thread gives up the hardware when it sleeps: the preempt notifier sees to
 * that.
 *
 * Whoever wakes it stores what it looks at first (a request, a bit of IRR), and
 * then, after a full barrier in rcuwait_wake_up(), looks for a sleeper. We say
 * that we sleep, and after a full barrier look at what was stored. One of the
 * two sees the other.
 */
static int wait_for_event(struct mk_vcpu *v)
{
	u64 max = single_task_running() ? READ_ONCE(max_poll_ns) : 0, start = 0;
	bool polled = false;

	/* The checks in the wait read registers; fetch them while we may. */
	mk_cpu_need(&v->cpu, MK_G_RFLAGS | MK_G_SHADOW);
	if (max || trace_kvm_vcpu_wakeup_enabled())
		start = ktime_get_ns();
	if (max) {
		poll_for_event(v, start);
		polled = woken(v);
	}
	rcuwait_wait_event(&v->wait, woken(v) || signal_pending(current), TASK_INTERRUPTIBLE);
	if (max)
		adapt_polling(v, ktime_get_ns() - start, max);
	if (trace_kvm_vcpu_wakeup_enabled())
		trace_kvm_vcpu_wakeup(ktime_get_ns() - start, !polled, woken(v));
	return woken(v) ? 0 : -EINTR;
}

/*
 * Until the first INIT and start-up interrupt, userspace is told whenever
 * something has come, and comes back: -EAGAIN, or -EINTR for a signal.
 */
static int wait_for_startup(struct mk_vcpu *v)
{
	if (wait_for_event(v)) {
		v->run->exit_reason = KVM_EXIT_INTR;
		return -EINTR;
	}
	mk_startup(v);
	return -EAGAIN;
}

static enum mk_next triple_fault(struct mk_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return MK_TO_USER;
}

/* Userspace's I/O APIC is to hear of the end of an interrupt. */
static bool eoi_exit(struct mk_vcpu *v)
{
	if (likely(!test_and_clear_bit(MK_REQ_EOI_EXIT, &v->requests)))
		return false;
	v->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
	v->run->eoi.vector = v->eoi_vector;
	return true;
}

/* The guest could write more pages than its ring can hold. */
static bool ring_full_exit(struct mk_vcpu *v)
{
	if (likely(!test_bit(MK_REQ_RING_FULL, &v->requests)))
		return false;
	if (!mk_dirty_ring_full(v)) {
		clear_bit(MK_REQ_RING_FULL, &v->requests);
		return false;
	}
	v->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	return true;
}

/* Interrupts off, MK_IN_GUEST stored: nothing that comes from now on is missed. */
static enum mk_next take_requests(struct mk_vcpu *v)
{
	if (test_bit(MK_REQ_EVENT, &v->requests) && !mk_eoi_settle(v, false))
		mk_request(v, MK_REQ_SETTLE);
	if (test_and_clear_bit(MK_REQ_FLUSH_TDP, &v->requests))
		v->cpu.flush |= MK_FLUSH_TDP;
	if (unlikely(test_and_clear_bit(MK_REQ_TRIPLE_FAULT, &v->requests)))
		return triple_fault(v);
	if (eoi_exit(v))
		return MK_TO_USER;
	if (unlikely(v->requests & MK_OUTSIDE_REQS))
		return MK_SLEEP;
	if (test_and_clear_bit(MK_REQ_EVENT, &v->requests))
		mk_events_prepare(v);
	return MK_RESUME;
}

/*
 * Enter the guest, and stay until an exit needs more than a fast handler.
 * Returns MK_RESUME too when nothing was entered because work came up.
 */
static enum mk_next enter(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;
	struct mk_exit *x = &v->exit;
	enum mk_next next;
	u64 cr8;

	preempt_disable();
	if (unlikely(!v->loaded)) {
		/* This host CPU is leaving, or failed to come up. */
		preempt_enable();
		v->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
		v->run->fail_entry.hardware_entry_failure_reason = ~0ull;
		v->run->fail_entry.cpu = raw_smp_processor_id();
		return MK_TO_USER;
	}
	local_irq_disable();
	smp_store_mb(v->mode, MK_IN_GUEST);

	next = MK_RESUME;
	if (__xfer_to_guest_mode_work_pending())
		goto out;

	mk_fpu_reload();
	/* Nothing that RCU protects is held from here on; see mk_guest_enter_irqoff(). */
	rcu_note_context_switch(false);
	guest_timing_enter_irqoff();
	mk_xstate_enter(v);
	do {
		if (v->requests) {
			next = take_requests(v);
			if (next != MK_RESUME)
				break;
		}
		cr8 = cpu->cr8;
		if (trace_kvm_entry_enabled())
			mk_trace_entry(v);
		mk_hw->run(cpu, x);
		if (trace_kvm_exit_enabled())
			mk_trace_exit(v, x);
		cpu->ran = true;
		cpu->inject.type = MK_EV_NONE;
		if (unlikely(cpu->cr8 != cr8))
			mk_board(v->vm)->set_cr8(v, cpu->cr8);
		if (unlikely(cpu->vectoring.type))
			mk_request(v, MK_REQ_EVENT);
		v->exits[x->kind]++;
		next = mk_exit_fast(v, x);
	} while (next == MK_RESUME && !__xfer_to_guest_mode_work_pending());
	mk_xstate_leave(v);

	if (x->kind == MK_EXIT_INTR) {
		/* The tick that ended the guest's time is still the guest's. */
		local_irq_enable();
		local_irq_disable();
	}
	guest_timing_exit_irqoff();
out:
	v->between = next == MK_RESUME || x->kind == MK_EXIT_INTR;
	smp_store_release(&v->mode, MK_OUTSIDE);
	local_irq_enable();
	preempt_enable();
	return next;
}

/*
 * What the host wants done before the guest goes on; 0 or -EINTR. The kernel's
 * helper counts signals in stock KVM's struct, where nobody reads them.
 */
static int host_work(void)
{
	static struct kvm_run run;
	static struct kvm_vcpu counter = { .run = &run };

	return xfer_to_guest_mode_handle_work(&counter);
}

/* What KVM_RUN returns where the guest cannot go on for now. */
static int errno_of(enum mk_next next)
{
	return next == MK_FAULT ? -EFAULT : next == MK_NOMEM ? -ENOMEM : 0;
}

/* Could userspace's PIC bring an interrupt that the guest takes at once? */
static bool window_open(struct mk_vcpu *v)
{
	return mk_extint_free(v) && !v->exception.pending && !v->cpu.vectoring.type &&
	       mk_irq_allowed(v);
}

static int run_loop(struct mk_vcpu *v)
{
	enum mk_next next;
	int err;

	for (;;) {
		if (unlikely(v->requests & MK_OUTSIDE_REQS)) {
			if (test_and_clear_bit(MK_REQ_DEBUG, &v->requests)) {
				mk_debug_exit(v);
				return 0;
			}
			if (ring_full_exit(v))
				return 0;
			mk_startup(v);
			mk_clock_update(v);
			mk_steal_update(v);
			if (test_and_clear_bit(MK_REQ_MSRS, &v->requests))
				mk_msr_passthrough(v);
			if (test_and_clear_bit(MK_REQ_SETTLE, &v->requests))
				mk_eoi_settle(v, true);
		}
		/* A userspace with a PIC of its own waits for this moment; a guest may sleep then. */
		if (unlikely(v->run->request_interrupt_window) &&
		    (v->mp_state == KVM_MP_STATE_RUNNABLE || v->mp_state == KVM_MP_STATE_HALTED) &&
		    window_open(v)) {
			v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			return 0;
		}
		if (unlikely(v->mp_state != KVM_MP_STATE_RUNNABLE)) {
			/* Nobody is to wait for what the guest believes to have ended. */
			mk_eoi_settle(v, true);
			if (eoi_exit(v))
				return 0;
			err = wait_for_event(v);
			if (err)
				goto interrupted;
			if (v->requests & MK_STARTUP_REQS)
				continue;
			v->mp_state = KVM_MP_STATE_RUNNABLE;
			WRITE_ONCE(v->unhalted, false);
			mk_request(v, MK_REQ_EVENT);
		}
		if (__xfer_to_guest_mode_work_pending()) {
			v->between = true;
			err = host_work();
			if (err)
				goto interrupted;
		}

		next = enter(v);
		if (next == MK_SLOW)
			next = mk_exit_slow(v, &v->exit);
		if (next != MK_RESUME && next != MK_SLEEP)
			return errno_of(next);
	}

interrupted:
	v->run->exit_reason = KVM_EXIT_INTR;
	return err;
}

static void publish(struct mk_vcpu *v)
{
	struct kvm_run *run = v->run;

	mk_eoi_settle(v, true);
	/* Userspace may move RIP. Where it does not, the instruction is executed again. */
	if (mk_event_of_insn(&v->cpu.vectoring))
		v->cpu.vectoring.type = MK_EV_NONE;
	mk_cpu_need(&v->cpu, MK_G_RFLAGS);
	run->if_flag = !!(v->cpu.rflags & X86_EFLAGS_IF);
	run->cr8 = mk_get_cr8(v);
	run->apic_base = mk_apic_base(v);
	run->ready_for_interrupt_injection = v->vm->kernel_pic || window_open(v);
	run->flags = 0;
}

/**
 * mk_vcpu_run - KVM_RUN
 * @v: its kvm_run says what userspace wants, and is told why it came back
 *
 * Return: 0 with kvm_run filled; -EINTR, with KVM_EXIT_INTR there, or untouched if
 * it was told not to run; -EFAULT
 * where the VMM's own mapping of guest memory refuses, -ENOMEM where the host
 * has none for it.
 * Context: vcpu->mutex held, the VM's own mm.
 */
int mk_vcpu_run(struct mk_vcpu *v)
{
	struct kvm_run *run = v->run;
	enum mk_next next = MK_RESUME;
	int err;

	mk_vcpu_note_thread(v);
	mk_vcpu_load(v);
	mk_fpu_enter(v);
	v->death[0] = 0;

	if (!v->apic && mk_set_cr8(v, READ_ONCE(run->cr8))) {
		err = -EINVAL;
		goto out;
	}
	if (v->complete) {
		int (*complete)(struct mk_vcpu *v) = v->complete;

		v->complete = NULL;
		next = complete(v);
	}
	if (next != MK_RESUME) {
		err = errno_of(next);
	} else if (mk_immediate_exit(run)) {
		/* VMMs complete an exit this way, and look at its reason afterwards. */
		err = -EINTR;
	} else if (unlikely(v->mp_state == KVM_MP_STATE_UNINITIALIZED)) {
		err = wait_for_startup(v);
	} else {
		if (!v->vm->kernel_pic)
			mk_request(v, MK_REQ_EVENT);
		run->exit_reason = KVM_EXIT_UNKNOWN;
		mk_debug_begin(v);
		err = run_loop(v);
	}
out:
	v->between = false;
	publish(v);
	trace_kvm_userspace_exit(run->exit_reason, err);
	mk_fpu_leave(v);
	mk_vcpu_put(v);
	return err;
}
