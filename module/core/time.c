// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's time stamp counter: the host's plus an offset.
 *
 * Read next: core/msr.c for IA32_TSC and IA32_TSC_ADJUST.
 */
#include <asm/tsc.h>

#include "core/vcpu.h"

/* Ticks as the guest would read them now. */
u64 mk_guest_tsc(struct mk_vcpu *v)
{
	return rdtsc() + v->cpu.tsc_offset;
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
}
