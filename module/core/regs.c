// SPDX-License-Identifier: GPL-2.0
/*
 * Registers: what a guest may write into its control and debug registers,
 * and what userspace gets and sets.
 *
 * The guest's rules are the manual's (SDM vol. 2B, "MOV - Move to/from Control
 * Registers"); userspace's are that the result is a state a CPU can be in
 * (logic/sregs.c). All bits are the guest's own view; what the hardware needs
 * beside them is the backend's business.
 *
 * Knows: the board's CR8 and APIC base. Read next: logic/sregs.h.
 */
#include "core/memory.h"
#include "core/vcpu.h"
#include "logic/sregs.h"

/* PAE paging is in use: not 4-level, not off. */
static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & EFER_LMA);
}

static bool pdptes_valid(const struct mk_vcpu *v, const u64 pdpte[4])
{
	u64 reserved = ~(GENMASK_ULL(v->maxphyaddr - 1, 12) | 0xe00 | 0x18 | 1);
	int i;

	for (i = 0; i < 4; i++)
		if ((pdpte[i] & 1) && (pdpte[i] & reserved))
			return false;
	return true;
}

static void set_pdptes(struct mk_vcpu *v, const u64 pdpte[4])
{
	mk_cpu_touch(&v->cpu, MK_G_PDPTE);
	memcpy(v->cpu.pdpte, pdpte, sizeof(v->cpu.pdpte));
}

int mk_load_pdptes(struct mk_vcpu *v, u64 cr3)
{
	u64 pdpte[4];

	if (mk_guest_read(v->vm, cr3 & 0xffffffe0, pdpte, sizeof(pdpte)) ||
	    !pdptes_valid(v, pdpte))
		return -EINVAL;
	set_pdptes(v, pdpte);
	return 0;
}

int mk_set_cr0(struct mk_vcpu *v, u64 val)
{
	struct mk_cpu *cpu = &v->cpu;
	u64 changed;

	mk_cpu_need(cpu, MK_G_CR | MK_G_EFER);
	if (val >> 32)
		return -EINVAL;
	val = (val & (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE |
		      X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)) | X86_CR0_ET;
	if ((val & X86_CR0_PG) && !(val & X86_CR0_PE))
		return -EINVAL;
	if ((val & X86_CR0_NW) && !(val & X86_CR0_CD))
		return -EINVAL;

	changed = val ^ cpu->cr0;
	if (changed & X86_CR0_PG) {
		bool on = val & X86_CR0_PG;

		if (cpu->efer & EFER_LME) {
			mk_cpu_need(cpu, MK_G_CODE);
			if (cpu->seg[MK_CS].ar & MK_AR_L)
				return -EINVAL;
			if (on && !(cpu->cr4 & X86_CR4_PAE))
				return -EINVAL;
		} else if (on && (cpu->cr4 & X86_CR4_PAE)) {
			mk_cpu_need(cpu, MK_G_CR3);
			if (mk_load_pdptes(v, cpu->cr3))
				return -EINVAL;
		}
		if (!on && (cpu->cr4 & X86_CR4_PCIDE))
			return -EINVAL;
		if (cpu->efer & EFER_LME) {
			mk_cpu_touch(cpu, MK_G_EFER);
			cpu->efer = on ? cpu->efer | EFER_LMA : cpu->efer & ~(u64)EFER_LMA;
		}
		cpu->flush |= MK_FLUSH_GUEST;
	} else if ((changed & (X86_CR0_CD | X86_CR0_NW)) &&
		   pae_paging(val, cpu->cr4, cpu->efer)) {
		mk_cpu_need(cpu, MK_G_CR3);
		if (mk_load_pdptes(v, cpu->cr3))
			return -EINVAL;
	}
	if (changed) {
		mk_cpu_touch(cpu, MK_G_CR);
		cpu->cr0 = val;
	}
	return 0;
}

int mk_set_cr3(struct mk_vcpu *v, u64 val)
{
	struct mk_cpu *cpu = &v->cpu;
	bool keep = false;

	mk_cpu_need(cpu, MK_G_CR | MK_G_EFER);
	if (cpu->efer & EFER_LMA) {
		if (cpu->cr4 & X86_CR4_PCIDE) {
			keep = val >> 63;
			val &= ~BIT_ULL(63);
		}
		if (val >> v->maxphyaddr)
			return -EINVAL;
	} else if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && mk_load_pdptes(v, val)) {
		return -EINVAL;
	}
	mk_cpu_touch(cpu, MK_G_CR3);
	cpu->cr3 = val;
	if (!keep)
		cpu->flush |= MK_FLUSH_GUEST;
	return 0;
}

#define CR4_PAGING (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_LA57 | \
		    X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE)

int mk_set_cr4(struct mk_vcpu *v, u64 val)
{
	struct mk_cpu *cpu = &v->cpu;
	u64 changed;

	mk_cpu_need(cpu, MK_G_CR | MK_G_EFER);
	changed = val ^ cpu->cr4;
	if (val & ~v->cr4_allowed)
		return -EINVAL;
	if (cpu->efer & EFER_LMA) {
		if (!(val & X86_CR4_PAE) || (changed & X86_CR4_LA57))
			return -EINVAL;
	} else if (pae_paging(cpu->cr0, val, cpu->efer) &&
		   (changed & (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP))) {
		mk_cpu_need(cpu, MK_G_CR3);
		if (mk_load_pdptes(v, cpu->cr3))
			return -EINVAL;
	}
	if ((changed & X86_CR4_PCIDE) && (val & X86_CR4_PCIDE)) {
		mk_cpu_need(cpu, MK_G_CR3);
		if (!(cpu->efer & EFER_LMA) || (cpu->cr3 & 0xfff))
			return -EINVAL;
	}
	if (changed & CR4_PAGING)
		cpu->flush |= MK_FLUSH_GUEST;
	if (changed) {
		mk_cpu_touch(cpu, MK_G_CR);
		cpu->cr4 = val;
		if (changed & (X86_CR4_OSXSAVE | X86_CR4_PKE))
			mk_cpuid_refresh(v);
	}
	return 0;
}

int mk_set_efer(struct mk_vcpu *v, u64 val, bool host)
{
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_need(cpu, MK_G_EFER | MK_G_CR);
	if (val & ~(v->efer_allowed | EFER_LMA))
		return -EINVAL;
	if (!host && (cpu->cr0 & X86_CR0_PG) && ((val ^ cpu->efer) & EFER_LME))
		return -EINVAL;
	/* LMA is the CPU's to change. */
	val = (val & ~(u64)EFER_LMA) | (cpu->efer & EFER_LMA);
	if (val == cpu->efer)
		return 0;
	if ((val ^ cpu->efer) & EFER_NX)
		cpu->flush |= MK_FLUSH_GUEST;
	mk_cpu_touch(cpu, MK_G_EFER);
	cpu->efer = val;
	return 0;
}

/* SDM vol. 2, "XSETBV": which combinations of components exist. */
int mk_set_xcr(struct mk_vcpu *v, u32 index, u64 val)
{
	const u64 avx512 = XFEATURE_MASK_AVX512;

	if (index)
		return -EINVAL;
	/* A VMM sets what every CPU starts with, also where there is no XSAVE. */
	if (!(val & XFEATURE_MASK_FP) || (val & ~(v->guest_xcr0_allowed | XFEATURE_MASK_FP)))
		return -EINVAL;
	if ((val & XFEATURE_MASK_YMM) && !(val & XFEATURE_MASK_SSE))
		return -EINVAL;
	if ((val & avx512) && ((val & avx512) != avx512 || !(val & XFEATURE_MASK_YMM)))
		return -EINVAL;
	if (!(val & XFEATURE_MASK_BNDREGS) != !(val & XFEATURE_MASK_BNDCSR))
		return -EINVAL;
	v->cpu.xcr0 = val;
	mk_cpuid_refresh(v);
	return 0;
}

int mk_set_dr(struct mk_vcpu *v, int nr, u64 val)
{
	struct mk_cpu *cpu = &v->cpu;

	if (nr >= 6 && val >> 32)
		return -EINVAL;
	mk_cpu_touch(cpu, MK_G_DR);
	switch (nr) {
	case 0 ... 3:
		*mk_guest_dr(v, nr) = val;
		return 0;
	case 6:
		*mk_guest_dr(v, 6) = (val & 0xe00f) | MK_DR6_FIXED;
		return 0;
	case 7:
		*mk_guest_dr(v, 7) = (val & MK_DR7_WRITABLE) | MK_DR7_FIXED;
		return 0;
	}
	return -ENOENT;
}

u64 mk_get_cr8(struct mk_vcpu *v)
{
	return v->apic ? mk_board(v->vm)->get_cr8(v) : v->cpu.cr8;
}

int mk_set_cr8(struct mk_vcpu *v, u64 val)
{
	if (val & ~0xfull)
		return -EINVAL;
	if (v->apic)
		mk_board(v->vm)->set_cr8(v, val);
	else
		v->cpu.cr8 = val;
	return 0;
}

/* The order of struct kvm_regs, and the general registers that stand there. */
static const u8 regs_order[MK_NR_GPR] = {
	MK_RAX, MK_RBX, MK_RCX, MK_RDX, MK_RSI, MK_RDI, MK_RSP, MK_RBP,
	MK_R8, MK_R9, MK_R10, MK_R11, MK_R12, MK_R13, MK_R14, MK_R15,
};

int mk_get_regs(struct mk_vcpu *v, struct kvm_regs *regs)
{
	u64 *out = (u64 *)regs;
	int i;

	BUILD_BUG_ON(offsetof(struct kvm_regs, rip) != sizeof(v->cpu.gpr));
	mk_cpu_need(&v->cpu, MK_G_RSP | MK_G_RIP | MK_G_RFLAGS);
	for (i = 0; i < MK_NR_GPR; i++)
		out[i] = v->cpu.gpr[regs_order[i]];
	regs->rip = v->cpu.rip;
	regs->rflags = v->cpu.rflags;
	if (unlikely(v->debug.control & KVM_GUESTDBG_SINGLESTEP))
		regs->rflags &= ~(u64)X86_EFLAGS_TF;	/* it is the debugger's */
	return 0;
}

int mk_set_regs(struct mk_vcpu *v, const struct kvm_regs *regs)
{
	const u64 *in = (const u64 *)regs;
	struct mk_cpu *cpu = &v->cpu;
	int i;

	mk_cpu_touch(cpu, MK_G_RSP | MK_G_RIP | MK_G_RFLAGS);
	for (i = 0; i < MK_NR_GPR; i++)
		cpu->gpr[regs_order[i]] = in[i];
	/* Elsewhere, no instruction waits for the answer to its last exit. */
	if (cpu->rip != regs->rip) {
		v->complete = NULL;
		v->nr_frag = 0;
	}
	cpu->rip = regs->rip;
	cpu->rflags = regs->rflags | X86_EFLAGS_FIXED;
	/* Userspace has put the guest elsewhere: what was to be raised there is void. */
	v->exception.pending = false;
	mk_request(v, MK_REQ_EVENT);
	return 0;
}

static void seg_to_user(const struct mk_seg *s, struct kvm_segment *k)
{
	*k = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->ar & MK_AR_TYPE,
		.s = !!(s->ar & MK_AR_S),
		.dpl = (s->ar & MK_AR_DPL) >> MK_AR_DPL_SHIFT,
		.present = !!(s->ar & MK_AR_P),
		.avl = !!(s->ar & MK_AR_AVL),
		.l = !!(s->ar & MK_AR_L),
		.db = !!(s->ar & MK_AR_DB),
		.g = !!(s->ar & MK_AR_G),
		.unusable = !!(s->ar & MK_AR_UNUSABLE),
	};
}

static void seg_from_user(struct mk_seg *s, const struct kvm_segment *k)
{
	s->base = k->base;
	s->limit = k->limit;
	s->sel = k->selector;
	s->ar = (k->type & MK_AR_TYPE) | (k->s & 1) << 4 | (k->dpl & 3) << MK_AR_DPL_SHIFT |
		(k->present & 1) << 7 | (k->avl & 1) << 12 | (k->l & 1) << 13 |
		(k->db & 1) << 14 | (k->g & 1) << 15;
	if (k->unusable || !k->present)
		s->ar |= MK_AR_UNUSABLE;
}

/* struct kvm_sregs begins with the eight segments in this order. */
static const u8 seg_order[MK_NR_SEG] = {
	MK_CS, MK_DS, MK_ES, MK_FS, MK_GS, MK_SS, MK_TR, MK_LDTR,
};

int mk_get_sregs(struct mk_vcpu *v, struct kvm_sregs *sregs)
{
	struct mk_cpu *cpu = &v->cpu;
	struct kvm_segment *seg = &sregs->cs;
	int i;

	BUILD_BUG_ON(offsetof(struct kvm_sregs, gdt) != MK_NR_SEG * sizeof(*seg));
	mk_cpu_need(cpu, MK_G_SEGS | MK_G_TABLES | MK_G_CR | MK_G_CR3 | MK_G_EFER);
	memset(sregs, 0, sizeof(*sregs));
	for (i = 0; i < MK_NR_SEG; i++)
		seg_to_user(&cpu->seg[seg_order[i]], &seg[i]);
	sregs->gdt.base = cpu->gdt.base;
	sregs->gdt.limit = cpu->gdt.limit;
	sregs->idt.base = cpu->idt.base;
	sregs->idt.limit = cpu->idt.limit;
	sregs->cr0 = cpu->cr0;
	sregs->cr2 = cpu->cr2;
	sregs->cr3 = cpu->cr3;
	sregs->cr4 = cpu->cr4;
	sregs->cr8 = mk_get_cr8(v);
	sregs->efer = cpu->efer;
	sregs->apic_base = mk_apic_base(v);
	if (v->user_irq >= 0)
		__set_bit(v->user_irq, (unsigned long *)sregs->interrupt_bitmap);
	return 0;
}

int mk_get_sregs2(struct mk_vcpu *v, struct kvm_sregs2 *sregs2)
{
	struct mk_cpu *cpu = &v->cpu;
	struct kvm_sregs sregs;

	/* They begin alike. */
	BUILD_BUG_ON(offsetof(struct kvm_sregs, interrupt_bitmap) !=
		     offsetof(struct kvm_sregs2, flags));
	mk_get_sregs(v, &sregs);
	memset(sregs2, 0, sizeof(*sregs2));
	memcpy(sregs2, &sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer)) {
		mk_cpu_need(cpu, MK_G_PDPTE);
		memcpy(sregs2->pdptrs, cpu->pdpte, sizeof(sregs2->pdptrs));
		sregs2->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return 0;
}

/* All but the interrupt that waits, and the PDPTEs. */
static int set_sregs(struct mk_vcpu *v, const struct kvm_sregs *sregs)
{
	const struct mk_sregs_limits limits = {
		.cr4 = v->cr4_allowed,
		.efer = v->efer_allowed | EFER_LMA,
		.maxphyaddr = v->maxphyaddr,
	};
	const struct mk_board_ops *board = mk_board(v->vm);
	struct mk_cpu *cpu = &v->cpu;
	const struct kvm_segment *seg = &sregs->cs;
	int i;

	if (mk_sregs_check(sregs, &limits))
		return -EINVAL;
	if (!v->apic)
		v->apic_base = sregs->apic_base;
	else if (board->msr_set(v, MSR_IA32_APICBASE, sregs->apic_base, true))
		return -EINVAL;

	mk_cpu_touch(cpu, MK_G_SEGS | MK_G_TABLES | MK_G_CR | MK_G_CR3 | MK_G_EFER);
	for (i = 0; i < MK_NR_SEG; i++)
		seg_from_user(&cpu->seg[seg_order[i]], &seg[i]);
	cpu->gdt.base = sregs->gdt.base;
	cpu->gdt.limit = sregs->gdt.limit;
	cpu->idt.base = sregs->idt.base;
	cpu->idt.limit = sregs->idt.limit;
	cpu->cr0 = sregs->cr0 | X86_CR0_ET;
	cpu->cr2 = sregs->cr2;
	cpu->cr3 = sregs->cr3;
	cpu->cr4 = sregs->cr4;
	cpu->efer = sregs->efer;
	mk_set_cr8(v, sregs->cr8 & 0xf);
	mk_cpuid_refresh(v);
	cpu->flush |= MK_FLUSH_GUEST;
	mk_request(v, MK_REQ_EVENT);
	return 0;
}

/* Tables that are not there yet are the guest's problem: it gets the fault. */
static void try_pdptes(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;

	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer))
		mk_load_pdptes(v, cpu->cr3);
}

int mk_set_sregs(struct mk_vcpu *v, const struct kvm_sregs *sregs)
{
	int irq;

	if (set_sregs(v, sregs))
		return -EINVAL;
	try_pdptes(v);
	irq = find_first_bit((const unsigned long *)sregs->interrupt_bitmap, 256);
	if (irq < 256)
		v->user_irq = irq;
	return 0;
}

int mk_set_sregs2(struct mk_vcpu *v, const struct kvm_sregs2 *sregs2)
{
	bool given = sregs2->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	struct kvm_sregs sregs = {};

	memcpy(&sregs, sregs2, offsetof(struct kvm_sregs, interrupt_bitmap));
	if (sregs2->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if (given && (!pae_paging(sregs.cr0, sregs.cr4, sregs.efer) ||
		      !pdptes_valid(v, sregs2->pdptrs)))
		return -EINVAL;
	if (set_sregs(v, &sregs))
		return -EINVAL;
	if (given)
		set_pdptes(v, sregs2->pdptrs);
	else
		try_pdptes(v);
	return 0;
}
