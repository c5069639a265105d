/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Facts of the x86 architecture that the kernel's headers do not offer to a
 * module, or offer only for the running host: register numbers, segments,
 * bits of a page-table entry.
 *
 * The format of control registers, EFER, exception vectors and page-fault
 * error codes is in asm/processor-flags.h, asm/msr-index.h, asm/trapnr.h and
 * asm/trap_pf.h.
 */
#ifndef MK_FACTS_X86_H
#define MK_FACTS_X86_H

#include <linux/bits.h>
#include <linux/types.h>

/* General registers, by the number that ModRM and REX give them. */
enum mk_gpr {
	MK_RAX, MK_RCX, MK_RDX, MK_RBX, MK_RSP, MK_RBP, MK_RSI, MK_RDI,
	MK_R8, MK_R9, MK_R10, MK_R11, MK_R12, MK_R13, MK_R14, MK_R15,
	MK_NR_GPR
};

/* Segments, by the number that instructions give them; then the two system ones. */
enum mk_seg_reg {
	MK_ES, MK_CS, MK_SS, MK_DS, MK_FS, MK_GS, MK_LDTR, MK_TR,
	MK_NR_SEG
};

/* struct mk_seg.ar: the format of a VMCS access-rights field. */
#define MK_AR_TYPE	0x000fu
#define MK_AR_S		BIT(4)
#define MK_AR_DPL_SHIFT	5
#define MK_AR_DPL	(3u << MK_AR_DPL_SHIFT)
#define MK_AR_P		BIT(7)
#define MK_AR_AVL	BIT(12)
#define MK_AR_L		BIT(13)
#define MK_AR_DB	BIT(14)
#define MK_AR_G		BIT(15)
#define MK_AR_UNUSABLE	BIT(16)

/* Bits of MK_AR_TYPE in a code or data segment */
#define MK_TYPE_CODE	BIT(3)
#define MK_TYPE_DOWN	BIT(2)	/* data: expands down; code: conforms */
#define MK_TYPE_WRITE	BIT(1)	/* data: writable; code: readable */
#define MK_TYPE_ACCESSED BIT(0)

/* MK_AR_TYPE of system segments */
#define MK_TYPE_LDT	2
#define MK_TYPE_TSS_16	1
#define MK_TYPE_TSS	9
#define MK_TYPE_BUSY	BIT(1)	/* in the type of a TSS */

struct mk_seg {
	u64 base;
	u32 limit;	/* in bytes, granularity applied */
	u32 ar;		/* MK_AR_* */
	u16 sel;
};

/* GDTR, IDTR */
struct mk_table {
	u64 base;
	u16 limit;	/* in bytes */
};

/* How the guest's CPU reads code: what CS.D, CS.L and EFER.LMA make of it. */
enum mk_cpu_mode {
	MK_MODE_16 = 16,
	MK_MODE_32 = 32,
	MK_MODE_64 = 64,
};

/* Page-table entries: SDM vol. 3A and APM vol. 2, both under "Paging". */
#define MK_PTE_P	BIT_ULL(0)
#define MK_PTE_W	BIT_ULL(1)
#define MK_PTE_U	BIT_ULL(2)
#define MK_PTE_A	BIT_ULL(5)
#define MK_PTE_D	BIT_ULL(6)
#define MK_PTE_PS	BIT_ULL(7)	/* a large page, in an entry above the last level */
#define MK_PTE_NX	BIT_ULL(63)
#define MK_PTE_ADDR	GENMASK_ULL(51, 12)
#define MK_PTE_PKEY_SHIFT 59

/* SDM vol. 3B, "Debug Registers" */
#define MK_DR6_BD	BIT(13)	/* a debug register was touched while DR7.GD was set */
#define MK_DR6_FIXED	0xffff0ff0u
#define MK_DR7_FIXED	0x400u
#define MK_DR7_WRITABLE	0xffff2bffu
#define MK_DR7_GD	BIT(13)
#define MK_DR7_ENABLED	0xffu	/* L0 to G3 */
#define MK_DR7_LOCAL	0x155ull	/* L0 to L3, LE: a task switch clears them */

#endif
