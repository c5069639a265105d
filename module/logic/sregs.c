// SPDX-License-Identifier: GPL-2.0
/*
 * Consistency of control registers: SDM vol. 3A, "Control Registers"; APM
 * vol. 2, "System-Control Registers" and "Long-Mode Activation". One line of
 * code for a rule, in the manual's words.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <linux/bits.h>

#include "logic/sregs.h"

const char *mk_sregs_check(const struct kvm_sregs *s, const struct mk_sregs_limits *limits)
{
	const bool paging = s->cr0 & X86_CR0_PG;
	const bool long_mode = paging && s->efer & EFER_LME;

	if (s->cr0 & ~0xffffffffULL)
		return "CR0 has bits above 31 set";
	if (paging && !(s->cr0 & X86_CR0_PE))
		return "CR0.PG is set without CR0.PE";
	if (s->cr0 & X86_CR0_NW && !(s->cr0 & X86_CR0_CD))
		return "CR0.NW is set without CR0.CD";
	if (s->cr4 & ~limits->cr4)
		return "CR4 has a bit set that this CPU reserves";
	if (s->efer & ~limits->efer)
		return "EFER has a bit set that this CPU reserves";

	if (!long_mode) {
		if (s->efer & EFER_LMA)
			return "EFER.LMA is set without both EFER.LME and CR0.PG";
		if (s->cs.l)
			return "CS.L is set outside long mode";
		return NULL;
	}
	if (!(s->cr4 & X86_CR4_PAE))
		return "long mode is on without CR4.PAE";
	if (!(s->efer & EFER_LMA))
		return "EFER.LME and CR0.PG are set without EFER.LMA";
	if (s->cs.l && s->cs.db)
		return "CS.L and CS.D are both set";
	if (s->cr3 >> limits->maxphyaddr)
		return "CR3 has bits set beyond the physical address width";
	return NULL;
}
