// SPDX-License-Identifier: GPL-2.0
/*
 * Paravirtual EOI: a guest that leaves the end of an interrupt to us, without an exit.
 *
 * Where an interrupt is the only one in service, nothing waits behind it and nobody else
 * wants to hear of its end, the guest finds a bit set in a byte that it has named. It
 * clears the bit, and that is its EOI. We learn of it when the next interrupt wants in,
 * and before anybody looks at the APIC: the offer is settled then, by taking the bit back
 * or by doing what the guest has left to us. So the APIC is never behind for those who ask.
 *
 * Source: "KVM-specific MSRs" in the kernel's documentation, MSR_KVM_PV_EOI_EN.
 * Knows: the board's eoi() and eoi_is_alone(). Read next: take_requests() in core/run.c.
 */
#include <linux/align.h>
#include <asm/kvm_para.h>

#include "core/memory.h"
#include "core/vcpu.h"

static const u8 offered = KVM_PV_EOI_ENABLED, taken_back = KVM_PV_EOI_DISABLED;

void mk_eoi_offer(struct mk_vcpu *v, u8 vector)
{
	if (likely(!(v->eoi_msr & KVM_MSR_ENABLED)) || !mk_board(v->vm)->eoi_is_alone(v, vector))
		return;
	v->eoi_gpa = v->eoi_msr & ~(u64)KVM_MSR_ENABLED;
	v->eoi_offered = !mk_guest_write_nofault(v, v->eoi_gpa, &offered, sizeof(offered));
}

bool mk_eoi_end_offer(struct mk_vcpu *v, bool sleep)
{
	u8 now;
	int err;

	err = sleep ? mk_guest_read(v->vm, v->eoi_gpa, &now, sizeof(now)) :
		      mk_guest_read_nofault(v->vm, v->eoi_gpa, &now, sizeof(now));
	if (!err && (now & KVM_PV_EOI_MASK))
		err = sleep ? mk_guest_write(v, v->eoi_gpa, &taken_back, sizeof(taken_back)) :
			      mk_guest_write_nofault(v, v->eoi_gpa, &taken_back,
						     sizeof(taken_back));
	if (err && !sleep)
		return false;
	v->eoi_offered = false;
	/* A guest without that memory any more has not written to it either. */
	if (!err && !(now & KVM_PV_EOI_MASK))
		mk_board(v->vm)->eoi(v);
	return true;
}

int mk_eoi_set(struct mk_vcpu *v, u64 val)
{
	gpa_t gpa = val & ~(u64)KVM_MSR_ENABLED;
	u64 generation;

	if (!IS_ALIGNED(gpa, 4) ||
	    ((val & KVM_MSR_ENABLED) && !mk_guest_hva(v->vm, gpa, sizeof(u8), &generation)))
		return -EINVAL;
	v->eoi_msr = val;
	return 0;
}
