// SPDX-License-Identifier: GPL-2.0
/*
 * Register groups, from the VMCB and to it.
 *
 * Where the guest must see another CR0 or CR4 than the hardware runs with,
 * the reads exit too: SVM has no read shadows.
 *
 * Knows: the VMCB's state save area. Read next: svm/run.c.
 */
#include <asm/processor-flags.h>

#include "svm/svm.h"

/* Clear for the hardware, whatever the guest's view: one guest must not slow down the host. */
#define CR0_CACHE	(X86_CR0_CD | X86_CR0_NW)

/*
 * An attribute of the VMCB is an access-rights word without its unused bits
 * 8 to 11 (APM vol. 2, "Segment State in the VMCB"), and has no "unusable":
 * not present serves for that. What else differs from the form that the
 * rest of the module knows:
 *  - limits count bytes and G is not kept reliably, so it follows the limit;
 *  - loading a null selector leaves attributes behind, even for SS;
 *  - accessed and busy bits may be missing although the segment is in use.
 */
static void get_seg(struct mk_seg *seg, const struct vmcb_seg *v, u32 in_use)
{
	u32 ar = (v->attrib & 0xff) | (v->attrib & 0x700) << 4;

	if (v->limit > 0xfffff)
		ar |= MK_AR_G;
	if (ar & MK_AR_P)
		ar |= in_use;
	else
		ar |= MK_AR_UNUSABLE;
	*seg = (struct mk_seg){ .base = v->base, .limit = v->limit, .ar = ar, .sel = v->selector };
}

static void put_seg(struct vmcb_seg *v, const struct mk_seg *seg)
{
	u32 ar = seg->ar;

	if (ar & MK_AR_UNUSABLE)
		ar &= ~MK_AR_P;
	v->selector = seg->sel;
	v->attrib = (ar & 0xff) | (ar >> 4 & 0xf00);
	v->limit = seg->limit;
	v->base = seg->base;
}

#define ACCESSED	1	/* type bit of code and data */
#define BUSY		2	/* type bit of a TSS */

static void need_segs(struct mk_cpu *cpu, const struct vmcb_save_area *a, u32 groups)
{
	struct mk_seg *ss = &cpu->seg[MK_SS];

	if (groups & MK_G_CODE) {
		get_seg(&cpu->seg[MK_CS], &a->cs, 0);
		get_seg(ss, &a->ss, ACCESSED);
		if (ss->ar & MK_AR_UNUSABLE)
			ss->ar &= ~MK_AR_DB;
		/* SYSRET changes CPL and not SS.DPL; the VMCB's CPL is always right. */
		ss->ar = (ss->ar & ~MK_AR_DPL) | a->cpl << MK_AR_DPL_SHIFT;
	}
	if (groups & MK_G_SEG) {
		get_seg(&cpu->seg[MK_ES], &a->es, ACCESSED);
		get_seg(&cpu->seg[MK_DS], &a->ds, ACCESSED);
		get_seg(&cpu->seg[MK_FS], &a->fs, ACCESSED);
		get_seg(&cpu->seg[MK_GS], &a->gs, ACCESSED);
		get_seg(&cpu->seg[MK_LDTR], &a->ldtr, 0);
		get_seg(&cpu->seg[MK_TR], &a->tr, BUSY);
	}
}

void svm_need(struct mk_cpu *cpu, u32 groups)
{
	const struct svm_vcpu *s = svm_of(cpu);
	const struct vmcb_save_area *a = &s->vmcb->save;

	if (groups & MK_G_SEGS)
		need_segs(cpu, a, groups);
	if (groups & MK_G_TABLES) {
		cpu->gdt = (struct mk_table){ a->gdtr.base, a->gdtr.limit };
		cpu->idt = (struct mk_table){ a->idtr.base, a->idtr.limit };
	}
	/* CR4 changes by an exit alone, and so do CR0's cache bits. */
	if (groups & MK_G_CR)
		cpu->cr0 = (cpu->cr0 & CR0_CACHE) | (a->cr0 & ~(u64)CR0_CACHE);
	if (groups & MK_G_CR3)
		cpu->cr3 = a->cr3;
	if (groups & MK_G_SYSENTER) {
		cpu->sysenter_cs = a->sysenter_cs;
		cpu->sysenter_esp = a->sysenter_esp;
		cpu->sysenter_eip = a->sysenter_eip;
	}
	if (groups & MK_G_SYSCALL) {
		cpu->star = a->star;
		cpu->lstar = a->lstar;
		cpu->cstar = a->cstar;
		cpu->sfmask = a->sfmask;
		cpu->kernel_gs_base = a->kernel_gs_base;
	}
	if (groups & MK_G_DR) {
		cpu->dr6 = a->dr6;
		cpu->dr7 = a->dr7;
	}
	if (groups & MK_G_PAT)
		cpu->pat = a->g_pat;
	if (groups & MK_G_DEBUGCTL)
		cpu->debugctl = a->dbgctl;
}

static void flush_segs(const struct mk_cpu *cpu, struct vmcb_save_area *a)
{
	put_seg(&a->es, &cpu->seg[MK_ES]);
	put_seg(&a->cs, &cpu->seg[MK_CS]);
	put_seg(&a->ss, &cpu->seg[MK_SS]);
	put_seg(&a->ds, &cpu->seg[MK_DS]);
	put_seg(&a->fs, &cpu->seg[MK_FS]);
	put_seg(&a->gs, &cpu->seg[MK_GS]);
	put_seg(&a->ldtr, &cpu->seg[MK_LDTR]);
	put_seg(&a->tr, &cpu->seg[MK_TR]);
	a->cpl = (cpu->seg[MK_SS].ar & MK_AR_DPL) >> MK_AR_DPL_SHIFT;
}

static void flush_cr(const struct mk_cpu *cpu, struct vmcb *vmcb)
{
	bool cache = cpu->cr0 & CR0_CACHE;
	bool umip = svm_caps.umip_emulated && (cpu->cr4 & X86_CR4_UMIP);
	u64 cr4 = (cpu->cr4 & ~(umip ? (u64)X86_CR4_UMIP : 0)) | svm_cr4_forced;
	bool hide = cache || cr4 != cpu->cr4;

	vmcb->save.cr0 = cpu->cr0 & ~(u64)CR0_CACHE;
	vmcb->save.cr4 = cr4;
	/*
	 * Both or none: QEMU 10 emulates reads of CR4 by CR0's intercept. And SMSW, which
	 * UMIP forbids too, is a read of CR0.
	 */
	svm_intercept(vmcb, INTERCEPT_CR0_READ, hide);
	svm_intercept(vmcb, INTERCEPT_CR4_READ, hide);
	svm_intercept(vmcb, INTERCEPT_CR0_WRITE, cache);
	svm_intercept(vmcb, INTERCEPT_STORE_IDTR, umip);
	svm_intercept(vmcb, INTERCEPT_STORE_GDTR, umip);
	svm_intercept(vmcb, INTERCEPT_STORE_LDTR, umip);
	svm_intercept(vmcb, INTERCEPT_STORE_TR, umip);
}

void svm_flush(struct mk_cpu *cpu)
{
	struct svm_vcpu *s = svm_of(cpu);
	struct vmcb_control_area *c = &s->vmcb->control;
	struct vmcb_save_area *a = &s->vmcb->save;
	u32 dirty = cpu->dirty;
	u32 spoilt = 0;

	if (dirty & MK_G_SHADOW) {
		c->int_state = cpu->shadow & (MK_SHADOW_STI | MK_SHADOW_MOVSS) ?
			       SVM_INTERRUPT_SHADOW_MASK : 0;
		if (!(cpu->shadow & MK_SHADOW_NMI) != !s->nmi_blocked)
			svm_block_nmi(s, cpu->shadow & MK_SHADOW_NMI);
	}
	if (dirty & MK_G_SEGS) {
		mk_cpu_need(cpu, MK_G_SEGS);
		flush_segs(cpu, a);
		spoilt |= SVM_CLEAN_SEG;
	}
	if (dirty & MK_G_TABLES) {
		a->gdtr.base = cpu->gdt.base;
		a->gdtr.limit = cpu->gdt.limit;
		a->idtr.base = cpu->idt.base;
		a->idtr.limit = cpu->idt.limit;
		spoilt |= SVM_CLEAN_DT;
	}
	if (dirty & MK_G_CR) {
		flush_cr(cpu, s->vmcb);
		spoilt |= SVM_CLEAN_CR;
	}
	if (dirty & MK_G_CR3) {
		a->cr3 = cpu->cr3;
		spoilt |= SVM_CLEAN_CR;
	}
	if (dirty & MK_G_EFER) {
		a->efer = cpu->efer | EFER_SVME;
		spoilt |= SVM_CLEAN_CR;
	}
	if (dirty & MK_G_SYSENTER) {
		a->sysenter_cs = cpu->sysenter_cs;
		a->sysenter_esp = cpu->sysenter_esp;
		a->sysenter_eip = cpu->sysenter_eip;
	}
	if (dirty & MK_G_SYSCALL) {
		a->star = cpu->star;
		a->lstar = cpu->lstar;
		a->cstar = cpu->cstar;
		a->sfmask = cpu->sfmask;
		a->kernel_gs_base = cpu->kernel_gs_base;
	}
	if (dirty & MK_G_DR) {
		a->dr6 = cpu->dr6;
		a->dr7 = cpu->dr7;
		spoilt |= SVM_CLEAN_DR;
	}
	if (dirty & MK_G_PAT) {
		a->g_pat = cpu->pat;
		spoilt |= SVM_CLEAN_NPT;
	}
	if (dirty & MK_G_DEBUGCTL) {
		/* Without LBR virtualization DEBUGCTL stays the host's, and the guest's is a note. */
		a->dbgctl = cpu->debugctl;
		c->virt_ext = svm_lbrv && cpu->debugctl ? LBR_CTL_ENABLE_MASK : 0;
		spoilt |= SVM_CLEAN_LBR;
	}
	c->clean &= ~spoilt;
}
