// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest is told because it knows that it is one: the time (kvmclock).
 *
 * The VM's clock counts nanoseconds, from its creation or from what userspace set,
 * also while the host sleeps. A guest computes it from its own TSC: for each vCPU
 * there is a page with a moment in both, and the rate. As long as the host's TSC
 * is one clock for all CPUs, all vCPUs are given the same moment, which never
 * moves but when the clock is set or the host slept; so no vCPU's clock is ahead
 * of another's, and the guest is told that it need not check. With another TSC
 * each vCPU gets a new moment whenever it gets onto a CPU.
 *
 * Layouts: "KVM-specific MSRs" in the kernel's documentation, asm/pvclock-abi.h.
 * Read next: core/time.c for the TSC.
 */
#include <linux/ktime.h>
#include <asm/kvm_para.h>
#include <asm/pvclock.h>
#include <asm/tsc.h>

#include "core/memory.h"
#include "core/vcpu.h"

/* How many times the host slept. Changes while no task runs. */
static unsigned int resumes;

void mk_clock_resume(void)
{
	resumes++;
}

/* ns = ticks * 2^shift * mul / 2^32, with mul in the upper half of its range. */
static void rate(u32 khz, u32 *mul, s8 *shift)
{
	u64 ns = USEC_PER_SEC, ticks = khz;	/* in one millisecond */

	for (*shift = 0; ns >= ticks; ticks *= 2)
		++*shift;
	for (; 2 * ns < ticks; ns *= 2)
		--*shift;
	*mul = div64_u64(ns << 32, ticks);
}

static u64 by_host(const struct mk_vm *vm)
{
	return ktime_get_boottime_ns() + vm->clock_offset;
}

static u64 by_tsc(const struct mk_vm *vm, u64 tsc)
{
	u32 mul;
	s8 shift;

	rate(vm->tsc_khz, &mul, &shift);
	if (tsc < vm->clock_tsc)	/* by a few ticks, on another CPU */
		return vm->clock_ns;
	return vm->clock_ns + pvclock_scale_delta(tsc - vm->clock_tsc, mul, shift);
}

/*
 * A moment: host ticks as mk_host_tsc() has them, and the VM's clock. tsc_lock held.
 * Between two of its moments the clock goes by the TSC, and so may part from the
 * host's; it follows the host's again where that is ahead.
 */
static bool moment(struct mk_vm *vm, u64 *tsc, u64 *ns)
{
	if (check_tsc_unstable()) {
		*tsc = mk_host_tsc();
		*ns = by_host(vm);
		return false;
	}
	if (vm->clock_resumes != resumes) {
		u64 now = mk_host_tsc();

		vm->clock_ns = max(by_host(vm), by_tsc(vm, now));
		vm->clock_tsc = now;
		vm->clock_resumes = resumes;
	}
	*tsc = vm->clock_tsc;
	*ns = vm->clock_ns;
	return true;
}

static void set(struct mk_vm *vm, u64 ns)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	vm->clock_offset = ns - ktime_get_boottime_ns();
	vm->clock_ns = ns;
	vm->clock_tsc = mk_host_tsc();
	vm->clock_resumes = resumes;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
}

void mk_clock_init(struct mk_vm *vm)
{
	set(vm, 0);
}

int mk_get_clock(struct mk_vm *vm, struct kvm_clock_data *data)
{
	unsigned long flags;
	u64 tsc, ns;

	memset(data, 0, sizeof(*data));
	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	data->flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	if (moment(vm, &tsc, &ns))
		data->flags |= KVM_CLOCK_TSC_STABLE;
	data->realtime = ktime_get_real_ns();
	data->host_tsc = rdtsc();
	data->clock = data->flags & KVM_CLOCK_TSC_STABLE ? by_tsc(vm, mk_host_tsc()) : ns;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	return 0;
}

/* Wall time lets a VMM that restores the clock have it go on by what has passed meanwhile. */
int mk_set_clock(struct mk_vm *vm, const struct kvm_clock_data *data)
{
	u64 clock = data->clock, now;

	if (data->flags & ~(KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC | KVM_CLOCK_TSC_STABLE))
		return -EINVAL;
	now = ktime_get_real_ns();
	if ((data->flags & KVM_CLOCK_REALTIME) && now > data->realtime)
		clock += now - data->realtime;
	mutex_lock(&vm->lock);
	set(vm, clock);
	mk_request_all(vm, MK_REQ_CLOCK);
	mutex_unlock(&vm->lock);
	return 0;
}

void mk_clock_load(struct mk_vcpu *v)
{
	if ((v->clock_msr & KVM_MSR_ENABLED) &&
	    unlikely(v->clock_resumes != resumes || check_tsc_unstable()))
		mk_request(v, MK_REQ_CLOCK);
}

void mk_pv_publish(struct mk_vcpu *v, gpa_t at, u32 version, gpa_t gpa, const void *data, size_t len)
{
	version |= 1;
	if (mk_guest_write(v, at, &version, sizeof(version)))
		return;
	smp_wmb();
	if (mk_guest_write(v, gpa, data, len))
		return;
	smp_wmb();
	version++;
	mk_guest_write(v, at, &version, sizeof(version));
}

/* Wall time at which the VM's clock was 0, for a guest that asks once. */
static void write_wall_clock(struct mk_vcpu *v)
{
	struct mk_vm *vm = v->vm;
	gpa_t gpa = READ_ONCE(vm->wall_clock_msr);
	struct pvclock_wall_clock wall;
	struct kvm_clock_data now;
	struct timespec64 zero;
	u32 version;

	if (!gpa || mk_guest_read(vm, gpa, &version, sizeof(version)))
		return;
	mk_get_clock(vm, &now);
	zero = ns_to_timespec64(now.realtime - now.clock);
	wall.sec = zero.tv_sec;
	wall.nsec = zero.tv_nsec;
	mk_pv_publish(v, gpa, version, gpa + offsetof(typeof(wall), sec), &wall.sec,
		      sizeof(wall) - offsetof(typeof(wall), sec));
}

void mk_clock_update(struct mk_vcpu *v)
{
	struct pvclock_vcpu_time_info info = {}, old;
	gpa_t gpa = v->clock_msr & ~(u64)KVM_MSR_ENABLED;
	struct mk_vm *vm = v->vm;
	unsigned long flags;
	u64 tsc, ns;

	if (!test_and_clear_bit(MK_REQ_CLOCK, &v->requests))
		return;
	if (v->wall_clock_asked)
		write_wall_clock(v);
	v->wall_clock_asked = false;
	if (!(v->clock_msr & KVM_MSR_ENABLED))
		return;
	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	if (moment(vm, &tsc, &ns))
		info.flags = PVCLOCK_TSC_STABLE_BIT;
	v->clock_resumes = resumes;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);

	info.tsc_timestamp = mk_guest_ticks(v, tsc - v->tsc_lost) + v->cpu.tsc_offset;
	info.system_time = ns;
	rate(v->tsc_khz, &info.tsc_to_system_mul, &info.tsc_shift);
	if (mk_guest_read(vm, gpa, &old, sizeof(old)))
		return;
	/* Only the guest takes this one back. */
	info.flags |= old.flags & PVCLOCK_GUEST_STOPPED;
	if (v->clock_stopped)
		info.flags |= PVCLOCK_GUEST_STOPPED;
	v->clock_stopped = false;
	mk_pv_publish(v, gpa, old.version, gpa + sizeof(old.version),
		      (void *)&info + sizeof(info.version), sizeof(info) - sizeof(info.version));
}

int mk_clock_stopped(struct mk_vcpu *v)
{
	if (!(v->clock_msr & KVM_MSR_ENABLED))
		return -EINVAL;
	v->clock_stopped = true;
	mk_request(v, MK_REQ_CLOCK);
	return 0;
}

/* Does the guest's CPUID have to know @msr, and does not? */
static bool hidden(const struct mk_vcpu *v, u32 msr)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME:
		return !mk_pv_has(v, KVM_FEATURE_CLOCKSOURCE);
	case MSR_KVM_WALL_CLOCK_NEW:
	case MSR_KVM_SYSTEM_TIME_NEW:
		return !mk_pv_has(v, KVM_FEATURE_CLOCKSOURCE2);
	case MSR_KVM_STEAL_TIME:
		return !mk_pv_has(v, KVM_FEATURE_STEAL_TIME);
	case MSR_KVM_PV_EOI_EN:
		return !mk_pv_has(v, KVM_FEATURE_PV_EOI);
	}
	return false;
}

int mk_pv_msr_get(struct mk_vcpu *v, u32 msr, u64 *val)
{
	if (hidden(v, msr))
		return -EINVAL;
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*val = READ_ONCE(v->vm->wall_clock_msr);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*val = v->clock_msr;
		return 0;
	case MSR_KVM_STEAL_TIME:
		*val = v->steal_msr;
		return 0;
	case MSR_KVM_PV_EOI_EN:
		*val = v->eoi_msr;
		return 0;
	}
	return -ENOENT;
}

int mk_pv_msr_set(struct mk_vcpu *v, u32 msr, u64 val)
{
	if (hidden(v, msr))
		return -EINVAL;
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		WRITE_ONCE(v->vm->wall_clock_msr, val);
		v->wall_clock_asked = true;
		mk_request(v, MK_REQ_CLOCK);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		v->clock_msr = val;
		mk_request(v, MK_REQ_CLOCK);
		return 0;
	case MSR_KVM_STEAL_TIME:
		return mk_steal_set(v, val);
	case MSR_KVM_PV_EOI_EN:
		return mk_eoi_set(v, val);
	}
	return -ENOENT;
}

void mk_pv_reset(struct mk_vcpu *v)
{
	v->clock_msr = v->steal_msr = v->eoi_msr = 0;
	v->eoi_offered = false;
	v->clock_stopped = v->wall_clock_asked = false;
}
