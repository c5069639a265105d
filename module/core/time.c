// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's time stamp counter: the host's plus an offset.
 *
 * A machine that was suspended to RAM may begin to count from 0 again. A guest
 * that saw this would believe that time stands still, until the counter is
 * back where it was; so the offsets take up what was lost.
 *
 * Read next: core/msr.c for IA32_TSC and IA32_TSC_ADJUST.
 */
#include <linux/ktime.h>
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

/*
 * The VM's clock counts from its creation, in the host's seconds, also while the
 * host sleeps. Wall time goes with it, so that a VMM that restores the clock can
 * have it go on by what has passed meanwhile.
 */
int mk_get_clock(struct mk_vm *vm, struct kvm_clock_data *data)
{
	memset(data, 0, sizeof(*data));
	mutex_lock(&vm->lock);
	data->clock = ktime_get_boottime_ns() + vm->clock_offset;
	data->realtime = ktime_get_real_ns();
	mutex_unlock(&vm->lock);
	data->flags = KVM_CLOCK_REALTIME;
	return 0;
}

int mk_set_clock(struct mk_vm *vm, const struct kvm_clock_data *data)
{
	u64 clock = data->clock, now;

	if (data->flags & ~KVM_CLOCK_REALTIME)
		return -EINVAL;
	now = ktime_get_real_ns();
	if ((data->flags & KVM_CLOCK_REALTIME) && now > data->realtime)
		clock += now - data->realtime;
	mutex_lock(&vm->lock);
	vm->clock_offset = clock - ktime_get_boottime_ns();
	mutex_unlock(&vm->lock);
	return 0;
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
