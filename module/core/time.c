// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's time stamp counter: the host's times a ratio, which most often is one,
 * plus an offset.
 *
 * A machine that was suspended to RAM may begin to count from 0 again. A guest
 * that saw this would believe that time stands still, until the counter is
 * back where it was; so the offsets take up what was lost.
 *
 * Read next: core/msr.c for IA32_TSC and IA32_TSC_ADJUST, core/pv.c for the clock
 * that a guest makes of it.
 */
#include <linux/math64.h>
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

u64 mk_guest_ticks(const struct mk_vcpu *v, u64 ticks)
{
	u64 ratio = v->cpu.tsc_ratio;

	return likely(!ratio) ? ticks : mul_u64_u64_shr(ticks, ratio, mk_hw->caps->tsc_frac);
}

void mk_time_catch_up(struct mk_vcpu *v)
{
	u64 more = lost - v->tsc_lost;

	if (unlikely(more)) {
		v->tsc_lost = lost;
		mk_shift_guest_tsc(v, mk_guest_ticks(v, more));
	}
}

/* Ticks as the guest would read them now. */
u64 mk_guest_tsc(struct mk_vcpu *v)
{
	return mk_guest_ticks(v, rdtsc()) + v->cpu.tsc_offset;
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
	u64 second = (u64)v->tsc_khz * 1000, host, expected;
	unsigned long flags;
	s64 offset;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	host = mk_guest_ticks(v, mk_host_tsc());
	expected = host + vm->tsc_set_offset;
	if (vm->tsc_set_khz != v->tsc_khz || (tsc && tsc - expected + second > 2 * second))
		vm->tsc_set_offset = tsc - host;
	vm->tsc_set_khz = v->tsc_khz;
	offset = vm->tsc_set_offset;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	/* Both count from a host's counter that was never reset. */
	mk_shift_guest_tsc(v, offset - (v->cpu.tsc_offset - (s64)mk_guest_ticks(v, v->tsc_lost)));
}

void mk_set_vm_tsc_offset(struct mk_vcpu *v, s64 offset)
{
	struct mk_vm *vm = v->vm;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	vm->tsc_set_offset = offset - (s64)mk_guest_ticks(v, v->tsc_lost);
	vm->tsc_set_khz = v->tsc_khz;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	mk_shift_guest_tsc(v, offset - v->cpu.tsc_offset);
}

/*
 * What makes @khz of the host's rate. Within 250 ppm, which is as good as the host's is
 * known, nothing does; that is stock KVM's limit.
 */
static int ratio_for(unsigned long host, unsigned long khz, u64 *ratio)
{
	const struct mk_caps *caps = mk_hw->caps;

	*ratio = 0;
	if (max(khz, host) - min(khz, host) <= host / 4000)
		return 0;
	if (!caps->tsc_scaling || khz > U32_MAX)
		return -EINVAL;
	*ratio = mul_u64_u32_div(BIT_ULL(caps->tsc_frac), khz, host);
	return *ratio && *ratio <= caps->tsc_max_ratio ? 0 : -EINVAL;
}

int mk_set_tsc_khz(struct mk_vcpu *v, unsigned long khz)
{
	u32 host = v->vm->tsc_khz;
	u64 ratio, now;
	int err = ratio_for(host, khz ?: host, &ratio);

	if (err || ratio == v->cpu.tsc_ratio)
		return err;
	now = mk_guest_tsc(v);
	v->cpu.tsc_ratio = ratio;
	v->tsc_khz = ratio ? khz : host;
	mk_set_vm_tsc(v, now);
	return 0;
}

int mk_set_vm_tsc_khz(struct mk_vm *vm, unsigned long khz)
{
	unsigned long flags;
	u64 ratio;
	int err = ratio_for(vm->tsc_khz, khz ?: vm->tsc_khz, &ratio);

	if (err)
		return err;
	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	vm->guest_khz = ratio ? khz : vm->tsc_khz;
	vm->guest_ratio = ratio;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	return 0;
}

void mk_time_init(struct mk_vcpu *v)
{
	struct mk_vm *vm = v->vm;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	v->tsc_khz = vm->guest_khz;
	v->cpu.tsc_ratio = vm->guest_ratio;
	v->cpu.tsc_offset = -(s64)mk_guest_ticks(v, vm->tsc_created);
	if (vm->tsc_set_khz != v->tsc_khz) {
		vm->tsc_set_offset = v->cpu.tsc_offset;
		vm->tsc_set_khz = v->tsc_khz;
	}
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	mk_hw->set_tsc_offset(&v->cpu, v->cpu.tsc_offset);
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
