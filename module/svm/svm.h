/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the SVM backend share: a vCPU's VMCB and what hangs
 * around it, and what each host CPU keeps.
 *
 * A VMCB is plain memory, so reading a register costs a load; what costs is
 * telling the CPU that it changed. Each write to the VMCB therefore says
 * which clean bit it spoils (APM vol. 2, "VMCB Clean Field").
 *
 * Knows: floors 0 and 1, backend.h. Read next: svm/run.c.
 */
#ifndef MK_SVM_SVM_H
#define MK_SVM_SVM_H

#include <linux/percpu.h>
#include <asm/svm.h>

#include "backend.h"
#include "hw/svm_insn.h"

/* vmcb.control.clean: set means that the CPU may use what it has cached */
#define SVM_CLEAN_INTERCEPTS	BIT(0)	/* with the TSC offset */
#define SVM_CLEAN_PERM_MAP	BIT(1)
#define SVM_CLEAN_ASID		BIT(2)
#define SVM_CLEAN_INTR		BIT(3)
#define SVM_CLEAN_NPT		BIT(4)	/* with the PAT */
#define SVM_CLEAN_CR		BIT(5)	/* with EFER */
#define SVM_CLEAN_DR		BIT(6)
#define SVM_CLEAN_DT		BIT(7)
#define SVM_CLEAN_SEG		BIT(8)	/* CS, DS, ES, SS, CPL */
#define SVM_CLEAN_CR2		BIT(9)
#define SVM_CLEAN_LBR		BIT(10)
#define SVM_CLEAN_ALL		GENMASK(10, 0)

#define SVM_TSC_FRAC	32	/* APM vol. 2, "TSC Ratio MSR": 8.32 bits */

/**
 * struct svm_vcpu - mk_cpu.hw
 *
 * Owned like the mk_cpu that it belongs to.
 */
struct svm_vcpu {
	struct svm_entry entry;
	struct vmcb *vmcb;
	u8 *msrpm;		/* two pages: two bits for each MSR, set: it exits */
	u64 id;			/* unique for ever; never 0 */
	u64 asid_gen;		/* struct svm_cpu.asid_gen that our ASID is from */
	u64 tsc_aux;		/* what IA32_TSC_AUX holds now; valid while loaded */
	u64 tsc_ratio;		/* likewise the TSC ratio MSR; 0: the host's, one */
	int cpu;		/* whose caches the clean bits speak of; -1: none */
	/*
	 * NMI blocking. The hardware does not track it: we set @nmi_blocked
	 * when we inject one, and intercept the IRET that ends it. That exit
	 * comes before IRET has run, so NMIs stay blocked until RIP has left
	 * @iret_rip.
	 */
	bool nmi_blocked;
	bool iret_seen;
	u64 iret_rip;
	bool stepping;		/* RFLAGS.TF is ours, to come out after one instruction */
	u64 dr6;		/* the guest's when the step began */
	bool lost;		/* an entry found SVM off on its CPU */
};

/**
 * struct svm_cpu - what a host CPU keeps
 *
 * Touched by that CPU alone, with preemption disabled.
 */
struct svm_cpu {
	u64 asid_gen;		/* grows when ASIDs are handed out afresh */
	u32 next_asid;
	bool flush_all;		/* since then, no VMRUN has emptied the TLB of all ASIDs */
	u64 last_id;		/* svm_vcpu.id that ran here last */
	u64 tsc_aux;		/* host's IA32_TSC_AUX */
	struct page *hsave;	/* VM_HSAVE_PA: the CPU's own, between VMRUN and #VMEXIT */
	struct page *host;	/* a VMCB for VMSAVE and VMLOAD of the host's segments */
};

DECLARE_PER_CPU(struct svm_cpu, svm_cpus);
extern struct mk_caps svm_caps;
extern bool svm_flush_by_asid, svm_lbrv, svm_pause_filter;
extern u64 svm_cr4_forced;	/* bits of CR4 that stay set whatever the guest's view */

/* hw.c */
int svm_supported(struct mk_refusal *refusal);
int svm_setup(struct mk_refusal *refusal);
void svm_teardown(void);
int svm_cpu_on(struct mk_refusal *refusal);
void svm_cpu_off(void);
u64 svm_iopm_pa(void);

/* state.c */
void svm_need(struct mk_cpu *cpu, u32 groups);
/* Tell the VMCB what mk_cpu.dirty names. */
void svm_flush(struct mk_cpu *cpu);

/* vcpu.c */
/* Nothing that was cached for this vCPU is used by its next entry. Loaded. */
void svm_flush_tlb(struct svm_vcpu *s);

/* run.c */
void svm_run(struct mk_cpu *cpu, struct mk_exit *x);
void svm_describe(struct mk_cpu *cpu, char *buf, size_t size);
void svm_describe_mitigations(char *buf, size_t size);

static inline struct svm_vcpu *svm_of(const struct mk_cpu *cpu)
{
	return cpu->hw;
}

/* @bit: enum of asm/svm.h, counted from the first word of intercepts */
static inline void svm_intercept(struct vmcb *vmcb, unsigned int bit, bool on)
{
	u32 *word = &vmcb->control.intercepts[bit / 32];
	u32 mask = 1u << (bit % 32);
	u32 val = on ? *word | mask : *word & ~mask;

	if (val != *word) {
		*word = val;
		vmcb->control.clean &= ~SVM_CLEAN_INTERCEPTS;
	}
}

/* IRET exits from the NMI's injection until its own exit. */
static inline void svm_block_nmi(struct svm_vcpu *s, bool on)
{
	s->nmi_blocked = on;
	s->iret_seen = false;
	svm_intercept(s->vmcb, INTERCEPT_IRET, on);
}

#endif
