// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's time stamp counter: the host's plus an offset.
 *
 * A machine that was suspended to RAM may begin to count from 0 again. A guest
 * that saw this would believe that time stands still, until the counter is
 * back where it was; so the offsets take up what was lost.
 *
 * Read next: core/msr.c for IA32_TSC and IA32_TSC_ADJUST, core/pv.c for the clock
 * that a guest makes of it.
 */
#include <asm/tsc.h>

#include "core/vcpu.h"

/* Host ticks. Both change while no task runs: see core/power.c. */
static u64 suspended_at, lost;

void mk_time_suspend(void)
{
	suspended_at = rdtsc();
}

void mk_time_resume(void)
{
	u64 now = rdtsc();

	if (now < suspended_at)
		lost += suspended_at - now;
}

u64 mk_host_tsc(void)
{
	return rdtsc() + lost;
}

void mk_time_catch_up(struct mk_vcpu *v)
{
	u64 more = lost - v->tsc_lost;

	if (unlikely(more)) {
		v->tsc_lost = lost;
		mk_shift_guest_tsc(v, more);
	}
}

/* Ticks as the guest would read them now. */
u64 mk_guest_tsc(struct mk_vcpu *v)
{
	return rdtsc() + v->cpu.tsc_offset;
}

/*
 * A VMM gives each vCPU its TSC in a call of its own, and means the same moment
 * for all: they would differ by what the calls took. So what is within a second
 * of where the last one would be now gets the offset of that one, and so does 0,
 * which stands for a vCPU that has just been reset. Stock KVM does the same.
 */
void mk_set_vm_tsc(struct mk_vcpu *v, u64 tsc)
{
	struct mk_vm *vm = v->vm;
	u64 second = (u64)vm->tsc_khz * 1000, host, expected;
	unsigned long flags;
	s64 offset;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	host = mk_host_tsc();
	expected = host + vm->tsc_set_offset;
	if (tsc && tsc - expected + second > 2 * second)
		vm->tsc_set_offset = tsc - host;
	offset = vm->tsc_set_offset;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	/* Both count from a host's counter that was never reset. */
	mk_shift_guest_tsc(v, offset - (v->cpu.tsc_offset - (s64)v->tsc_lost));
}

void mk_set_vm_tsc_offset(struct mk_vcpu *v, s64 offset)
{
	struct mk_vm *vm = v->vm;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	vm->tsc_set_offset = offset - (s64)v->tsc_lost;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	mk_shift_guest_tsc(v, offset - v->cpu.tsc_offset);
}

void mk_set_guest_tsc(struct mk_vcpu *v, u64 tsc)
{
	mk_shift_guest_tsc(v, tsc - mk_guest_tsc(v));
}

/* Move the guest's counter by @delta ticks. */
void mk_shift_guest_tsc(struct mk_vcpu *v, s64 delta)
{
	v->cpu.tsc_offset += delta;
	mk_hw->set_tsc_offset(&v->cpu, v->cpu.tsc_offset);
	if (v->clock_msr)
		mk_request(v, MK_REQ_CLOCK);
}
