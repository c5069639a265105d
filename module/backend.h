/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The small door to the hardware: one guest CPU as VT-x and SVM both see it,
 * and the operations that a backend offers on it.
 *
 * A backend knows how to load and store state, to enter the guest, and to say
 * in neutral words why it came out. It decides no policy: what CPUID answers,
 * which MSR exists, what a write to CR4 may change is the core's business.
 *
 * Registers live in groups. `valid` tells which groups of struct mk_cpu hold
 * the guest's current values, `dirty` which of them the hardware has yet to
 * be told. Read a group after mk_cpu_need(), change it with mk_cpu_touch();
 * the backend fetches and flushes only what these masks ask for.
 *
 * May know: floors 0 and 1. Read next: core/vcpu.h for what stands around a
 * mk_cpu; vmx/run.c and svm/run.c for the two implementations.
 */
#ifndef MK_BACKEND_H
#define MK_BACKEND_H

#include <linux/kvm_types.h>
#include <linux/types.h>

#include "facts/exit.h"
#include "facts/x86.h"

/* Register groups. General registers except RSP, and CR2, are always valid. */
#define MK_G_RSP	BIT(0)
#define MK_G_RIP	BIT(1)
#define MK_G_RFLAGS	BIT(2)
#define MK_G_SEG	BIT(3)	/* ES, DS, FS, GS, LDTR, TR, base to attributes */
#define MK_G_TABLES	BIT(4)	/* GDTR, IDTR */
#define MK_G_CR		BIT(5)	/* CR0, CR4 as the guest reads them */
#define MK_G_CR3	BIT(6)
#define MK_G_EFER	BIT(7)
#define MK_G_PDPTE	BIT(8)	/* matters to EPT alone */
#define MK_G_SYSENTER	BIT(9)
#define MK_G_SYSCALL	BIT(10)	/* STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE */
#define MK_G_DR		BIT(11)
#define MK_G_PAT	BIT(12)
#define MK_G_SHADOW	BIT(13)	/* interruptibility: STI and MOV SS shadow, NMI blocking */
#define MK_G_DEBUGCTL	BIT(14)
#define MK_G_CODE	BIT(15)	/* CS and SS: mode and privilege */
#define MK_G_ALL	(BIT(16) - 1)
#define MK_G_SEGS	(MK_G_SEG | MK_G_CODE)

/* mk_cpu.shadow */
#define MK_SHADOW_STI	BIT(0)
#define MK_SHADOW_MOVSS	BIT(1)
#define MK_SHADOW_NMI	BIT(2)	/* NMIs are blocked until the next IRET */

/* mk_cpu.flush: what the next entry must flush; set by the core, cleared by run() */
#define MK_FLUSH_GUEST	BIT(0)	/* what this vCPU cached of the guest's own tables */
#define MK_FLUSH_TDP	BIT(1)	/* what any vCPU cached of mk_cpu.tdp_root */

/* mk_cpu.apic_changed */
#define MK_APIC_STATUS	BIT(0)
#define MK_APIC_EOIS	BIT(1)

/**
 * struct mk_cpu - one guest CPU as the hardware runs it
 *
 * Owned by the thread that holds the vCPU's mutex; no lock of its own.
 */
struct mk_cpu {
	u64 gpr[MK_NR_GPR];
	u64 cr2;
	u64 rip;
	u64 rflags;
	u32 valid;
	u32 dirty;

	struct mk_event inject;		/* core -> run(): delivered with this entry */
	struct mk_event vectoring;	/* run() -> core: its delivery was cut short */
	bool irq_window;		/* core -> run(): exit when an interrupt could be taken */
	bool nmi_window;		/* core -> run(): exit when an NMI could be taken */
	u8 flush;			/* MK_FLUSH_* */

	u64 cr0, cr3, cr4, efer;
	u64 pdpte[4];
	struct mk_seg seg[MK_NR_SEG];
	struct mk_table gdt, idt;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	u64 dr[4], dr6, dr7;
	u64 pat;
	u64 debugctl;
	u32 shadow;			/* MK_SHADOW_* */

	u64 cr8;			/* TPR bits 7:4; see cr8_free */
	bool cr8_free;			/* (constant) the guest may change it without an exit */
	u32 exits_off;			/* (constant) KVM_X86_DISABLE_EXITS_*: the guest does these itself */
	u8 cr8_threshold;		/* board -> run(): exit when CR8 falls below this */

	/*
	 * While virt_apic is set, the CPU has the local APIC, which is in x2APIC mode:
	 * in the guest it delivers interrupts from apic_regs by itself, and reads and
	 * writes TPR, PPR, IRR and ISR there. cr8 and cr8_threshold do not matter then.
	 */
	bool can_virt_apic;		/* (constant) it may be set */
	bool virt_apic;			/* board -> run() */
	u8 apic_changed;		/* board -> run(): MK_APIC_*, what is to be loaded */
	u8 apic_irr, apic_isr;		/* STATUS: the highest vector in IRR, in ISR; 0: none */
	u64 apic_eois[4];		/* EOIS: vectors whose EOI exits */
	void *apic_regs;		/* (constant) a page, laid out as the manual has it */

	u64 xcr0, xss;
	u32 pkru;			/* guest's, while the host's is loaded */
	u64 spec_ctrl;			/* guest IA32_SPEC_CTRL */
	u64 tsc_aux;
	u64 tsc_ratio;			/* guest ticks in one of the host's, fixed point; 0: one */
	s64 tsc_offset;			/* guest ticks added to that; see set_tsc_offset */

	hpa_t tdp_root;			/* physical address of the EPT or NPT root table */
	int host_cpu;			/* CPU it is or was last loaded on; -1: none */
	bool ran;			/* an entry was tried since its creation */
	void *hw;			/* the backend's own: VMCS or VMCB and what goes with it */
};

/**
 * struct mk_refusal - why a CPU cannot run guests
 * @err: negative errno: -EOPNOTSUPP (no hardware, or firmware locked it),
 *       -EBUSY (somebody else holds it), -EIO (the instruction failed)
 * @why: a sentence for the log, with the remedy
 */
struct mk_refusal {
	int err;
	const char *why;
};

/**
 * struct mk_backend - what VT-x and SVM must each be able to do
 *
 * Context "loaded" means: between load() and put(), preemption disabled.
 *
 * @name:     "vmx" or "svm"
 * @tdp:      format of its nested page tables
 * @caps:     see struct mk_caps; valid after setup()
 * @supported: does this CPU have the hardware at all, unlocked? Never sleeps,
 *            changes nothing; fills @refusal and returns its errno if not
 * @setup:    once, at module load: read capability MSRs, allocate per-CPU areas
 * @teardown: the reverse
 * @cpu_on:   on the calling CPU, interrupts off: take the hardware (VMXON,
 *            EFER.SVME); -EBUSY where somebody holds it already
 * @cpu_off:  on the calling CPU, interrupts off: give it back
 * @vcpu_create: allocate @hw, put the machine into its RESET state as far as
 *            the hardware's own structures go; all groups of mk_cpu are
 *            flushed at the first entry. May sleep; GFP_KERNEL_ACCOUNT
 * @vcpu_destroy: may sleep; the vCPU is not loaded
 * @load:     make the VMCS/VMCB current on this CPU and save what put()
 *            restores of the host; on a new CPU flush what must not be stale
 * @put:      host state that entries leave changed goes back
 * @need:     fetch these groups into mk_cpu; called by mk_cpu_need() only.
 *            Loaded, or not: then it loads by itself where the hardware needs it
 * @run:      interrupts off, loaded: flush dirty groups, inject, enter, leave,
 *            fill @x. All groups are invalid afterwards. Host NMIs and machine
 *            checks that ended the run are delivered to the host before return
 * @pass_msr: let the guest read and write @msr without an exit, or not
 * @set_tsc_offset: applied at the next entry, and tsc_ratio with it
 * @trap_int3: INT3 exits, or not; loaded
 * @exit_info: of the exit that just was; loaded
 * @hypercall_len: bytes of VMCALL or VMMCALL
 */
enum mk_tdp_format { MK_TDP_EPT, MK_TDP_NPT };

/**
 * struct mk_caps - what the backend found in this machine
 */
struct mk_caps {
	bool tdp_2m, tdp_1g;
	bool tdp_ad;		/* the hardware sets accessed and dirty bits in nested entries */
	bool tdp_exec_only;
	bool next_rip;		/* exits tell the instruction's length */
	bool decode_assist;
	bool tsc_scaling;
	u8 tsc_frac;		/* with it: bits of mk_cpu.tsc_ratio behind the point */
	u64 tsc_max_ratio;
	bool tpr_shadow;	/* CR8 can be the guest's own: see mk_cpu.cr8_free */
	bool virt_apic;		/* likewise: see mk_cpu.virt_apic */
	bool vnmi;		/* NMI blocking is tracked by the hardware */
	bool xsaves;
	bool rdtscp, invpcid, pku;	/* may the guest have these */
	/*
	 * User-mode instruction prevention, by the CPU itself; or in its place by the
	 * backend, which while CR4.UMIP is set makes SGDT, SIDT, SLDT and STR exit (and
	 * SMSW where it can), for the core to execute or refuse. Never both.
	 */
	bool umip, umip_emulated;
	u32 tlb_tags;		/* VPIDs or ASIDs */
};

struct mk_backend {
	const char *name;
	enum mk_tdp_format tdp;
	u8 hypercall_len;
	struct mk_caps *caps;

	int (*supported)(struct mk_refusal *refusal);
	int (*setup)(struct mk_refusal *refusal);
	void (*teardown)(void);
	int (*cpu_on)(struct mk_refusal *refusal);
	void (*cpu_off)(void);

	int (*vcpu_create)(struct mk_cpu *cpu);
	void (*vcpu_destroy)(struct mk_cpu *cpu);
	void (*load)(struct mk_cpu *cpu);
	void (*put)(struct mk_cpu *cpu);
	void (*need)(struct mk_cpu *cpu, u32 groups);
	void (*run)(struct mk_cpu *cpu, struct mk_exit *x);
	void (*pass_msr)(struct mk_cpu *cpu, u32 msr, bool read, bool write);
	void (*set_tsc_offset)(struct mk_cpu *cpu, s64 offset);
	void (*trap_int3)(struct mk_cpu *cpu, bool on);
	void (*exit_info)(struct mk_cpu *cpu, struct mk_exit_info *info);
	void (*describe)(struct mk_cpu *cpu, char *buf, size_t size); /* a failed entry, in words */
	/* What is done about speculation on entry, exit and switch: a line each */
	void (*describe_mitigations)(char *buf, size_t size);
};

extern const struct mk_backend mk_vmx, mk_svm;
/* The one in use; set once when the module loads. */
extern const struct mk_backend *mk_hw;

/* Make sure that @groups of @cpu hold the guest's current values. */
static inline void mk_cpu_need(struct mk_cpu *cpu, u32 groups)
{
	groups &= ~cpu->valid;
	if (groups) {
		mk_hw->need(cpu, groups);
		cpu->valid |= groups;
	}
}

/* @groups have been, or are about to be, changed: the next entry loads them. */
static inline void mk_cpu_touch(struct mk_cpu *cpu, u32 groups)
{
	mk_cpu_need(cpu, groups);
	cpu->dirty |= groups;
}

/* Current privilege level. SS.DPL holds it in all modes (both backends see to it). */
static inline unsigned int mk_cpu_cpl(struct mk_cpu *cpu)
{
	mk_cpu_need(cpu, MK_G_CODE);
	return (cpu->seg[MK_SS].ar & MK_AR_DPL) >> MK_AR_DPL_SHIFT;
}

static inline bool mk_cpu_long_mode(struct mk_cpu *cpu)
{
	mk_cpu_need(cpu, MK_G_EFER);
	return cpu->efer & BIT_ULL(10);	/* EFER.LMA */
}

/* How the code at CS:RIP is to be read. */
static inline enum mk_cpu_mode mk_cpu_code_mode(struct mk_cpu *cpu)
{
	mk_cpu_need(cpu, MK_G_CODE);
	if ((cpu->seg[MK_CS].ar & MK_AR_L) && mk_cpu_long_mode(cpu))
		return MK_MODE_64;
	return cpu->seg[MK_CS].ar & MK_AR_DB ? MK_MODE_32 : MK_MODE_16;
}

#endif
