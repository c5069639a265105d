// SPDX-License-Identifier: GPL-2.0
/*
 * Exceptions and interrupts on their way into the guest.
 *
 * Whatever wants in asks with MK_REQ_EVENT; before the next entry the vCPU's
 * thread decides, in the order that the manuals give, what is delivered and
 * which windows tell when the rest can be.
 *
 * Knows: the board's irq_pending() and irq_take(). Read next: core/run.c.
 */
#include <uapi/asm/debugreg.h>

#include "core/vcpu.h"
#include "core/trace.h"

enum { DE = 0, DB = 1, BP = 3, OF = 4, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13, PF = 14 };

/* SDM vol. 3A, "Interrupt 8 - Double Fault Exception": classes that make one. */
static bool contributory(u8 vector)
{
	return vector == DE || (vector >= TS && vector <= GP);
}

static bool makes_double_fault(u8 first, u8 second)
{
	return (contributory(first) && contributory(second)) ||
	       (first == PF && (contributory(second) || second == PF));
}

static void queue(struct mk_vcpu *v, struct mk_exception ex)
{
	struct mk_event *first = &v->cpu.vectoring;

	/*
	 * An exception while another was being delivered: they combine, or the
	 * second goes first and the instruction raises the other one again. A
	 * first interrupt is not lost: it has been acknowledged, so it waits.
	 */
	if (v->exception.pending) {
		first->type = MK_EV_EXCEPTION;
		first->vector = v->exception.vector;
	}
	if (first->type == MK_EV_EXCEPTION) {
		if (first->vector == DF) {
			mk_request(v, MK_REQ_TRIPLE_FAULT);
			return;
		}
		if (makes_double_fault(first->vector, ex.vector))
			ex = (struct mk_exception){ .vector = DF, .has_error = true };
	} else if (first->type == MK_EV_INTR) {
		v->user_irq = first->vector;
	} else if (first->type == MK_EV_NMI) {
		atomic_inc(&v->nmis);
	}
	first->type = MK_EV_NONE;

	ex.pending = true;
	v->exception = ex;
	mk_request(v, MK_REQ_EVENT);
}

void mk_queue_exception(struct mk_vcpu *v, u8 vector)
{
	queue(v, (struct mk_exception){ .vector = vector });
}

void mk_queue_exception_error(struct mk_vcpu *v, u8 vector, u32 error)
{
	queue(v, (struct mk_exception){ .vector = vector, .has_error = true, .error = error });
}

void mk_queue_page_fault(struct mk_vcpu *v, u64 cr2, u32 error)
{
	queue(v, (struct mk_exception){
		.vector = PF, .has_error = true, .error = error, .payload = cr2 });
}

void mk_queue_debug(struct mk_vcpu *v, u64 dr6)
{
	queue(v, (struct mk_exception){ .vector = DB, .payload = dr6 });
}

void mk_queue_nmi(struct mk_vcpu *v)
{
	/* One can be latched while another is served; further ones merge. */
	atomic_add_unless(&v->nmis, 1, 2);
	mk_request(v, MK_REQ_EVENT);
	mk_vcpu_kick(v);
}

void mk_queue_init(struct mk_vcpu *v)
{
	/* A start-up interrupt from before is for the state that ends now. */
	clear_bit(MK_REQ_SIPI, &v->requests);
	mk_request(v, MK_REQ_INIT);
	mk_vcpu_kick(v);
}

void mk_queue_sipi(struct mk_vcpu *v, u8 vector)
{
	WRITE_ONCE(v->sipi_vector, vector);
	mk_request(v, MK_REQ_SIPI);
	mk_vcpu_kick(v);
}

bool mk_irq_allowed(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;

	if (unlikely(v->debug.control & KVM_GUESTDBG_BLOCKIRQ))
		return false;
	mk_cpu_need(cpu, MK_G_RFLAGS | MK_G_SHADOW);
	return (cpu->rflags & X86_EFLAGS_IF) &&
	       !(cpu->shadow & (MK_SHADOW_STI | MK_SHADOW_MOVSS));
}

bool mk_nmi_allowed(struct mk_vcpu *v)
{
	mk_cpu_need(&v->cpu, MK_G_SHADOW);
	return !(v->cpu.shadow & (MK_SHADOW_NMI | MK_SHADOW_STI | MK_SHADOW_MOVSS));
}

static bool irq_waiting(struct mk_vcpu *v)
{
	return v->user_irq >= 0 || (v->apic && mk_board(v->vm)->irq_pending(v) >= 0);
}

bool mk_event_waiting(struct mk_vcpu *v)
{
	return v->exception.pending ||
	       (atomic_read(&v->nmis) && mk_nmi_allowed(v)) ||
	       (mk_irq_allowed(v) && irq_waiting(v));
}

bool mk_extint_free(struct mk_vcpu *v)
{
	return !v->vm->kernel_pic && v->user_irq < 0 &&
	       (!v->apic || mk_board(v->vm)->extint_free(v));
}

static void inject_exception(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;
	struct mk_exception *ex = &v->exception;
	bool trap = ex->vector == BP || ex->vector == OF;

	mk_cpu_need(cpu, MK_G_CR);
	cpu->inject = (struct mk_event){
		.type = MK_EV_EXCEPTION,
		.vector = ex->vector,
		/* Real mode has no error codes. */
		.has_error = ex->has_error && (cpu->cr0 & X86_CR0_PE),
		.error = ex->error,
	};
	if (ex->vector == PF) {
		if (!ex->told)
			cpu->cr2 = ex->payload;
	} else if (ex->vector == DB) {
		mk_cpu_touch(cpu, MK_G_DR);
		if (!ex->told)
			*mk_guest_dr(v, 6) = (*mk_guest_dr(v, 6) & ~(u64)DR_TRAP_BITS) | ex->payload;
		/* Debug traps report what is behind them; breakpoints on fetch are faults. */
		trap = true;
		*mk_guest_dr(v, 7) &= ~(u64)MK_DR7_GD;
	}
	if (!trap) {
		mk_cpu_touch(cpu, MK_G_RFLAGS);
		cpu->rflags |= X86_EFLAGS_RF;
	}
	ex->pending = false;
}

/*
 * A CPU that serves an NMI latches one more. Senders do not know whether it does,
 * and leave two for one that does not.
 */
static void limit_nmis(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;

	if (likely(atomic_read(&v->nmis) < 2))
		return;
	mk_cpu_need(cpu, MK_G_SHADOW);
	if ((cpu->shadow & MK_SHADOW_NMI) || cpu->vectoring.type == MK_EV_NMI)
		atomic_set(&v->nmis, 1);
}

static void trace_event(const struct mk_event *ev, bool again)
{
	if (ev->type == MK_EV_INTR)
		trace_kvm_inj_virq(ev->vector, again);
	else if (ev->type == MK_EV_EXCEPTION)
		trace_kvm_inj_exception(ev->vector, ev->has_error, ev->error, again);
}

/*
 * Inject the next interrupt, if it @can be, and take it for good: its acknowledge
 * cycle has happened. Does one wait still?
 */
static bool take_irq(struct mk_vcpu *v, bool can)
{
	int vector = -1, next = -1;
	bool more = false;

	if (v->user_irq >= 0 && can && mk_irq_allowed(v)) {
		swap(vector, v->user_irq);
		can = false;
	}
	if (v->apic) {
		next = mk_board(v->vm)->irq_take(v, can, &more);
		if (next >= 0)
			mk_eoi_offer(v, next);
		vector = max(vector, next);
	}
	if (vector >= 0) {
		v->cpu.inject = (struct mk_event){ .type = MK_EV_INTR, .vector = vector };
		trace_event(&v->cpu.inject, false);
	}
	return more || v->user_irq >= 0;
}

void mk_events_prepare(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;
	bool irq_waits;

	cpu->irq_window = cpu->nmi_window = false;
	limit_nmis(v);
	if (cpu->virt_apic)
		mk_board(v->vm)->virtualize(v);

	if (v->exception.pending) {
		inject_exception(v);
		trace_event(&cpu->inject, false);
	} else if (cpu->vectoring.type) {
		cpu->inject = cpu->vectoring;
		trace_event(&cpu->inject, true);
		cpu->vectoring.type = MK_EV_NONE;
	} else if (atomic_read(&v->nmis) && mk_nmi_allowed(v)) {
		atomic_dec(&v->nmis);
		cpu->inject = (struct mk_event){ .type = MK_EV_NMI, .vector = 2 };
	}
	irq_waits = take_irq(v, !cpu->inject.type);

	/* What did not fit into this entry gets a window; where a debugger blocks, it would not help. */
	cpu->nmi_window = atomic_read(&v->nmis);
	cpu->irq_window = !(v->debug.control & KVM_GUESTDBG_BLOCKIRQ) &&
			  (irq_waits ||
			   (READ_ONCE(v->run->request_interrupt_window) && mk_extint_free(v)));
}
