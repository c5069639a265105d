// SPDX-License-Identifier: GPL-2.0
/*
 * The check of control registers: what can be passes, and each rule, broken
 * alone, is named.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <linux/bits.h>
#include <linux/types.h>
#include <string.h>

#include "logic/sregs.h"
#include "tap.h"

#define LONG_CR0 (X86_CR0_PE | X86_CR0_PG)
#define LONG_EFER (EFER_LME | EFER_LMA)

static const struct {
	const char *name;
	u64 cr0, cr3, cr4, efer;
	u8 l, db;
	const char *word;	/* in the sentence; NULL: it must pass */
} cases[] = {
	{ "reset", X86_CR0_ET | X86_CR0_NW | X86_CR0_CD, 0, 0, 0, 0, 0, NULL },
	{ "protected mode", X86_CR0_PE, 0, 0, 0, 0, 1, NULL },
	{ "paging", LONG_CR0, 0x1000, X86_CR4_PSE, 0, 0, 1, NULL },
	{ "PAE", LONG_CR0, 0x1020, X86_CR4_PAE, EFER_NX, 0, 1, NULL },
	{ "64-bit mode", LONG_CR0, 0x1000, X86_CR4_PAE, LONG_EFER, 1, 0, NULL },
	{ "compatibility mode", LONG_CR0, 0x1000, X86_CR4_PAE, LONG_EFER, 0, 1, NULL },
	{ "LME before paging", X86_CR0_PE, 0, X86_CR4_PAE, EFER_LME, 0, 1, NULL },
	{ "the highest address in CR3", LONG_CR0, 0xfffffff000, X86_CR4_PAE, LONG_EFER, 1, 0, NULL },
	{ "CR0 high bits", 1ULL << 32, 0, 0, 0, 0, 0, "CR0" },
	{ "paging without protection", X86_CR0_PG, 0, 0, 0, 0, 0, "CR0.PE" },
	{ "NW without CD", X86_CR0_NW, 0, 0, 0, 0, 0, "CR0.CD" },
	{ "a CR4 bit that is not there", X86_CR0_PE, 0, X86_CR4_SMAP, 0, 0, 0, "CR4" },
	{ "an EFER bit that is not there", X86_CR0_PE, 0, 0, 1 << 1, 0, 0, "EFER" },
	{ "LMA without paging", X86_CR0_PE, 0, X86_CR4_PAE, LONG_EFER, 0, 0, "LMA" },
	{ "LMA without LME", LONG_CR0, 0, X86_CR4_PAE, EFER_LMA, 0, 0, "LMA" },
	{ "L outside long mode", LONG_CR0, 0, X86_CR4_PAE, 0, 1, 0, "CS.L" },
	{ "long mode without PAE", LONG_CR0, 0, 0, LONG_EFER, 1, 0, "CR4.PAE" },
	{ "long mode without LMA", LONG_CR0, 0, X86_CR4_PAE, EFER_LME, 1, 0, "EFER.LMA" },
	{ "L and D", LONG_CR0, 0, X86_CR4_PAE, LONG_EFER, 1, 1, "CS.D" },
	{ "CR3 too high", LONG_CR0, 1ULL << 40, X86_CR4_PAE, LONG_EFER, 1, 0, "CR3" },
};

void sregs_tests(void)
{
	const struct mk_sregs_limits limits = {
		.cr4 = X86_CR4_PSE | X86_CR4_PAE, .efer = LONG_EFER | EFER_NX, .maxphyaddr = 40,
	};
	unsigned int i;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct kvm_sregs s = {
			.cr0 = cases[i].cr0, .cr3 = cases[i].cr3, .cr4 = cases[i].cr4,
			.efer = cases[i].efer, .cs = { .l = cases[i].l, .db = cases[i].db },
		};
		const char *why = mk_sregs_check(&s, &limits);

		if (cases[i].word)
			ok(why && strstr(why, cases[i].word), "sregs: refused: %s", cases[i].name);
		else
			ok(!why, "sregs: accepted: %s", cases[i].name);
	}
}
