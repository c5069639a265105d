/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An exit is a value: what made the guest stop, in words that are the same
 * for VT-x and SVM.
 *
 * A backend fills a struct mk_exit after each run of the guest; the core looks
 * its kind up in one table of handlers, the recorder keeps it and userspace
 * can read it. Nothing here knows a VMCS or a VMCB.
 *
 * Read next: module/backend.h, which says who fills what.
 */
#ifndef MK_FACTS_EXIT_H
#define MK_FACTS_EXIT_H

#include <linux/types.h>

/* kind, name for people */
#define MK_EXIT_KINDS(X)				\
	X(NONE,		"none")				\
	X(INTR,		"external interrupt")		\
	X(NMI,		"nmi")				\
	X(EXCEPTION,	"exception")			\
	X(TRIPLE_FAULT,	"triple fault")			\
	X(INIT,		"init")				\
	X(SMI,		"smi")				\
	X(IRQ_WINDOW,	"interrupt window")		\
	X(NMI_WINDOW,	"nmi window")			\
	X(TASK_SWITCH,	"task switch")			\
	X(CPUID,	"cpuid")			\
	X(HLT,		"hlt")				\
	X(INVD,		"invd")				\
	X(WBINVD,	"wbinvd")			\
	X(RDPMC,	"rdpmc")			\
	X(HYPERCALL,	"hypercall")			\
	X(CR,		"control register")		\
	X(DR,		"debug register")		\
	X(TABLE,	"descriptor table register")	\
	X(IO,		"port i/o")			\
	X(RDMSR,	"rdmsr")			\
	X(WRMSR,	"wrmsr")			\
	X(XSETBV,	"xsetbv")			\
	X(PAUSE,	"pause")			\
	X(MONITOR,	"monitor")			\
	X(MWAIT,	"mwait")			\
	X(TDP_FAULT,	"nested page fault")		\
	X(TDP_MISCONFIG, "nested table misconfigured")	\
	X(EOI,		"virtual eoi")			\
	X(APIC_WRITE,	"virtual apic write")		\
	X(UNDEFINED,	"undefined instruction")	\
	X(FAIL_ENTRY,	"failed entry")			\
	X(UNKNOWN,	"unknown")

enum mk_exit_kind {
#define MK_X(kind, name) MK_EXIT_##kind,
	MK_EXIT_KINDS(MK_X)
#undef MK_X
	MK_EXIT_NR
};

/* How an MK_EXIT_CR or MK_EXIT_DR reached its register. */
enum mk_crdr_access {
	MK_MOV_TO,
	MK_MOV_FROM,
	MK_CLTS,
	MK_LMSW,
	MK_SMSW,	/* to a register or to memory; decode the instruction again */
};

/* mk_exit.flags */
#define MK_XF_DECODE	BIT(0)	/* CR, DR: cr.gpr is not known; decode the instruction */

/* mk_exit.access of an MK_EXIT_TDP_FAULT */
#define MK_TDP_READ	BIT(0)
#define MK_TDP_WRITE	BIT(1)
#define MK_TDP_EXEC	BIT(2)
#define MK_TDP_PRESENT	BIT(3)	/* an entry was there, and refused the access */
#define MK_TDP_FINAL	BIT(4)	/* of the operand itself, not of a guest table on the way to it */

/**
 * struct mk_exit - why the guest stopped
 * @kind:   one of enum mk_exit_kind
 * @len:    bytes of the instruction that exited; 0 where the hardware does
 *          not tell and the core must decode it
 * @flags:  MK_XF_*
 * @hw:     the hardware's own reason: VMX basic exit reason (with bit 31 for
 *          a failed entry) or SVM EXITCODE
 * @gpa:    TDP_FAULT, TDP_MISCONFIG: guest physical address in bytes
 * @access: TDP_FAULT: MK_TDP_*
 * @apic:   EOI: the vector; APIC_WRITE: the register's offset in bytes. Both come
 *          behind the instruction: see mk_cpu.virt_apic
 */
struct mk_exit {
	u8 kind;
	u8 len;
	u8 flags;
	u32 hw;
	union {
		struct {
			u64 gpa;
			u32 access;
		};
		u16 apic;
		struct {
			u8 vector;
			bool has_error;
			u32 error;
			u64 dr6;	/* #DB: the bits that the hardware would set in DR6 */
		} ex;
		struct {
			u16 port;
			u8 size;	/* bytes of one element: 1, 2 or 4 */
			bool in, string, rep;
		} io;
		struct {
			u8 nr;
			u8 access;	/* enum mk_crdr_access */
			u8 gpr;
			u16 lmsw;	/* LMSW: the source operand */
		} cr;
		struct {
			u16 sel;	/* of the new task's TSS */
			u8 how;		/* enum mk_task_how */
			bool has_error;
			u32 error;
		} task;
		struct {
			u64 qual;	/* FAIL_ENTRY, UNKNOWN: as the hardware gave it */
			u64 info;
		} raw;
	};
};

/* What switches tasks. */
enum mk_task_how {
	MK_TASK_CALL,
	MK_TASK_IRET,
	MK_TASK_JMP,
	MK_TASK_GATE,	/* of the IDT: an event, or INT n */
};

/**
 * struct mk_exit_info - what the hardware says of an exit beside its reason, for tracing
 * @info1, @info2: exit qualification and IDT-vectoring information; EXITINFO1 and 2
 * @intr_info, @error_code: exit interruption information; EXITINTINFO
 */
struct mk_exit_info {
	u64 info1, info2;
	u32 intr_info, error_code;
};

enum mk_event_type {
	MK_EV_NONE,
	MK_EV_INTR,		/* external interrupt */
	MK_EV_NMI,
	MK_EV_EXCEPTION,	/* hardware exception */
	MK_EV_INT_N,		/* from here on: of the instruction that RIP points to */
	MK_EV_INT3,		/* or INTO */
	MK_EV_INT1,
};

/**
 * struct mk_event - an interrupt or exception on its way into the guest
 * @type:      enum mk_event_type
 * @vector:    interrupt vector
 * @has_error: an error code is pushed
 * @error:     that error code
 * @len:       of the instruction that is over when it is delivered; bytes
 *
 * An exit that cuts the delivery of INT n, INT3, INTO or INT1 short leaves RIP on the
 * instruction, so that it can simply be forgotten: the guest executes it again. But
 * where it can go on, no interrupt comes before it that an STI there still holds up.
 */
struct mk_event {
	u8 type;
	u8 vector;
	bool has_error;
	u8 len;
	u32 error;
};

static inline bool mk_event_of_insn(const struct mk_event *ev)
{
	return ev->type >= MK_EV_INT_N;
}

#endif
