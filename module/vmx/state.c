// SPDX-License-Identifier: GPL-2.0
/*
 * Register groups: from the VMCS when somebody needs them, and back when they
 * changed.
 *
 * EFER and the debug registers are never fetched: every change of theirs
 * exits, so struct mk_cpu always has them. SYSCALL's MSRs are in the CPU
 * itself while a guest is switched in, and the guest may change one of them,
 * KERNEL_GS_BASE.
 *
 * May know: floors 0 and 1, backend.h. Read next: run.c.
 * Source: SDM vol. 3, "Guest-State Area", "Guest/Host Masks and Read Shadows".
 */
#include <linux/preempt.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>

#include "vmx/vmx.h"

/* The fields of one segment lie 2 apart in the order ES CS SS DS FS GS LDTR TR. */
#define SEG_FIELD(field, seg)	(GUEST_ES_##field + 2 * (seg))

static_assert(SEG_FIELD(SELECTOR, MK_TR) == GUEST_TR_SELECTOR);
static_assert(SEG_FIELD(BASE, MK_TR) == GUEST_TR_BASE);
static_assert(SEG_FIELD(LIMIT, MK_TR) == GUEST_TR_LIMIT);
static_assert(SEG_FIELD(AR_BYTES, MK_TR) == GUEST_TR_AR_BYTES);

/* Bits of an access-rights field that the hardware defines. */
#define AR_DEFINED	0x1f0ffu

static void fetch_seg(struct mk_cpu *cpu, int i)
{
	struct mk_seg *seg = &cpu->seg[i];

	seg->sel = vmread(SEG_FIELD(SELECTOR, i));
	seg->base = vmread(SEG_FIELD(BASE, i));
	seg->limit = vmread(SEG_FIELD(LIMIT, i));
	seg->ar = vmread(SEG_FIELD(AR_BYTES, i));
}

static void flush_seg(struct mk_cpu *cpu, int i)
{
	const struct mk_seg *seg = &cpu->seg[i];
	u32 ar = seg->ar & AR_DEFINED;

	/*
	 * Loading a segment sets its accessed bit, and an entry insists on it.
	 * VMMs that describe segments from a table leave it out.
	 */
	if (i <= MK_GS && (ar & MK_AR_S) && !(ar & MK_AR_UNUSABLE))
		ar |= 1;
	vmwrite(SEG_FIELD(SELECTOR, i), seg->sel);
	vmwrite(SEG_FIELD(BASE, i), seg->base);
	vmwrite(SEG_FIELD(LIMIT, i), seg->limit);
	vmwrite(SEG_FIELD(AR_BYTES, i), ar);
}

/* Those of MK_G_SEG; CS and SS are MK_G_CODE. */
static const u8 data_segs[] = { MK_ES, MK_DS, MK_FS, MK_GS, MK_LDTR, MK_TR };

static u32 shadow_of(u32 info)
{
	return (info & GUEST_INTR_STATE_STI ? MK_SHADOW_STI : 0) |
	       (info & GUEST_INTR_STATE_MOV_SS ? MK_SHADOW_MOVSS : 0) |
	       (info & GUEST_INTR_STATE_NMI ? MK_SHADOW_NMI : 0);
}

void vmx_fetch_insn(struct mk_cpu *cpu)
{
	u32 info = vmread(GUEST_INTERRUPTIBILITY_INFO);

	cpu->rip = vmread(GUEST_RIP);
	cpu->rflags = vmread(GUEST_RFLAGS);
	cpu->shadow = likely(!info) ? 0 : shadow_of(info);
	cpu->valid |= MK_G_RIP | MK_G_RFLAGS | MK_G_SHADOW;
}

static void flush_shadow(struct mk_cpu *cpu)
{
	vmwrite(GUEST_INTERRUPTIBILITY_INFO,
		(cpu->shadow & MK_SHADOW_STI ? GUEST_INTR_STATE_STI : 0) |
		(cpu->shadow & MK_SHADOW_MOVSS ? GUEST_INTR_STATE_MOV_SS : 0) |
		(cpu->shadow & MK_SHADOW_NMI ? GUEST_INTR_STATE_NMI : 0));
	/*
	 * Under a shadow, a single step must be pending if and only if TF is
	 * set: SDM, "Checks on Guest Non-Register State".
	 */
	if (cpu->shadow & (MK_SHADOW_STI | MK_SHADOW_MOVSS)) {
		mk_cpu_need(cpu, MK_G_RFLAGS | MK_G_DEBUGCTL);
		vmwrite(GUEST_PENDING_DBG_EXCEPTIONS,
			(cpu->rflags & X86_EFLAGS_TF) && !(cpu->debugctl & DEBUGCTLMSR_BTF) ?
			DR_STEP : 0);
	}
}

/*
 * The hardware keeps the guest's caches on and has CR0.NE and CR4.VMXE set;
 * the guest reads the bits that it does not own from the shadows. CR4.MCE is
 * the host's: without it a machine check in the guest would shut down.
 */
static void flush_cr(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	/* An unrestricted guest may leave PE and PG clear. */
	u64 fixed = vmx_config.cr0_fixed0 & ~(X86_CR0_PE | X86_CR0_PG);
	bool umip = vmx_caps.umip_emulated && (cpu->cr4 & X86_CR4_UMIP);
	u64 hidden = X86_CR4_MCE | (umip ? X86_CR4_UMIP : 0);

	v->cr0 = cpu->cr0;
	v->cr4 = cpu->cr4;
	vmwrite(CR0_READ_SHADOW, v->cr0);
	vmwrite(GUEST_CR0, (v->cr0 & ~(X86_CR0_CD | X86_CR0_NW)) | fixed);
	vmwrite(CR4_READ_SHADOW, v->cr4);
	vmwrite(GUEST_CR4, (v->cr4 & ~hidden) | (cr4_read_shadow() & X86_CR4_MCE) |
			   vmx_config.cr4_fixed0);
	/*
	 * Stores of GDTR, IDTR, LDTR and TR exit, loads too. SMSW cannot be made to: it
	 * takes the read shadow of CR0.
	 */
	vmx_set_secondary(v, SECONDARY_EXEC_DESC, umip);
}

static void flush_efer(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	u32 controls = vmx_config.entry | (cpu->efer & EFER_LMA ? VM_ENTRY_IA32E_MODE : 0);

	vmwrite(GUEST_IA32_EFER, cpu->efer);
	if (controls != v->entry_controls) {
		v->entry_controls = controls;
		vmwrite(VM_ENTRY_CONTROLS, controls);
	}
	/*
	 * Long mode may be entered with any busy TSS, and ignores which until
	 * it is loaded anew; an entry insists on a 64-bit one.
	 */
	if (cpu->efer & EFER_LMA)
		vmwrite(GUEST_TR_AR_BYTES, vmread(GUEST_TR_AR_BYTES) | VMX_AR_TYPE_BUSY_64_TSS);
}

static void write_msr(u32 msr, u64 *from, u64 to)
{
	if (*from == to)
		return;
	*from = to;
	wrmsrl(msr, to);
}

void vmx_write_syscall_msrs(struct vmx_syscall_msrs *from, const struct vmx_syscall_msrs *to)
{
	write_msr(MSR_STAR, &from->star, to->star);
	write_msr(MSR_LSTAR, &from->lstar, to->lstar);
	write_msr(MSR_CSTAR, &from->cstar, to->cstar);
	write_msr(MSR_SYSCALL_MASK, &from->sfmask, to->sfmask);
}

void vmx_flush_syscall(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	const struct vmx_syscall_msrs guest = {
		.star = cpu->star,
		.lstar = cpu->lstar,
		.cstar = cpu->cstar,
		.sfmask = cpu->sfmask,
	};

	vmx_write_syscall_msrs(&v->syscall, &guest);
	wrmsrl(MSR_KERNEL_GS_BASE, cpu->kernel_gs_base);
}

/* The MSR is the guest's only while no put() comes in between. */
static void fetch_kernel_gs_base(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;

	preempt_disable();
	if (v->switched)
		rdmsrl(MSR_KERNEL_GS_BASE, cpu->kernel_gs_base);
	preempt_enable();
}

static void fetch(struct mk_cpu *cpu, u32 groups)
{
	struct vmx_vcpu *v = cpu->hw;

	if (groups & MK_G_RSP)
		cpu->gpr[MK_RSP] = vmread(GUEST_RSP);
	if (groups & MK_G_RIP)
		cpu->rip = vmread(GUEST_RIP);
	if (groups & MK_G_RFLAGS)
		cpu->rflags = vmread(GUEST_RFLAGS);
	if (groups & MK_G_SHADOW)
		cpu->shadow = shadow_of(vmread(GUEST_INTERRUPTIBILITY_INFO));
	if (groups & MK_G_CODE) {
		fetch_seg(cpu, MK_CS);
		fetch_seg(cpu, MK_SS);
	}

	/* So much for what exits ask for; the rest is rare. */
	groups &= ~(MK_G_RSP | MK_G_RIP | MK_G_RFLAGS | MK_G_SHADOW | MK_G_CODE);
	if (likely(!groups))
		return;

	if (groups & MK_G_SEG)
		for (int i = 0; i < ARRAY_SIZE(data_segs); i++)
			fetch_seg(cpu, data_segs[i]);
	if (groups & MK_G_TABLES) {
		cpu->gdt.base = vmread(GUEST_GDTR_BASE);
		cpu->gdt.limit = vmread(GUEST_GDTR_LIMIT);
		cpu->idt.base = vmread(GUEST_IDTR_BASE);
		cpu->idt.limit = vmread(GUEST_IDTR_LIMIT);
	}
	if (groups & MK_G_CR) {
		cpu->cr0 = (v->cr0 & ~VMX_CR0_GUEST) | (vmread(GUEST_CR0) & VMX_CR0_GUEST);
		cpu->cr4 = (v->cr4 & ~VMX_CR4_GUEST) | (vmread(GUEST_CR4) & VMX_CR4_GUEST);
	}
	if (groups & MK_G_CR3)
		cpu->cr3 = vmread(GUEST_CR3);
	if (groups & MK_G_PDPTE)
		for (int i = 0; i < 4; i++)
			cpu->pdpte[i] = vmread(GUEST_PDPTR0 + 2 * i);
	if (groups & MK_G_SYSENTER) {
		cpu->sysenter_cs = vmread(GUEST_SYSENTER_CS);
		cpu->sysenter_esp = vmread(GUEST_SYSENTER_ESP);
		cpu->sysenter_eip = vmread(GUEST_SYSENTER_EIP);
	}
	if (groups & MK_G_SYSCALL)
		fetch_kernel_gs_base(cpu);
	if (groups & MK_G_PAT)
		cpu->pat = vmread(GUEST_IA32_PAT);
	if (groups & MK_G_DEBUGCTL)
		cpu->debugctl = vmread(GUEST_IA32_DEBUGCTL);
}

void vmx_need(struct mk_cpu *cpu, u32 groups)
{
	struct vmx_vcpu *v = cpu->hw;

	if (v->loaded) {
		fetch(cpu, groups);
		return;
	}
	preempt_disable();
	vmx_make_current(v);
	fetch(cpu, groups);
	preempt_enable();
}

void vmx_flush(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	u32 groups = cpu->dirty;

	if (groups & MK_G_RSP)
		vmwrite(GUEST_RSP, cpu->gpr[MK_RSP]);
	if (groups & MK_G_RIP)
		vmwrite(GUEST_RIP, cpu->rip);
	if (groups & MK_G_RFLAGS)
		vmwrite(GUEST_RFLAGS, cpu->rflags);
	if (groups & MK_G_SHADOW)
		flush_shadow(cpu);

	/* That was what an emulated instruction changes; the rest is rare. */
	groups &= ~(MK_G_RSP | MK_G_RIP | MK_G_RFLAGS | MK_G_SHADOW);
	if (likely(!groups))
		return;

	if (groups & MK_G_CODE) {
		flush_seg(cpu, MK_CS);
		flush_seg(cpu, MK_SS);
	}
	if (groups & MK_G_SEG)
		for (int i = 0; i < ARRAY_SIZE(data_segs); i++)
			flush_seg(cpu, data_segs[i]);
	if (groups & MK_G_TABLES) {
		vmwrite(GUEST_GDTR_BASE, cpu->gdt.base);
		vmwrite(GUEST_GDTR_LIMIT, cpu->gdt.limit);
		vmwrite(GUEST_IDTR_BASE, cpu->idt.base);
		vmwrite(GUEST_IDTR_LIMIT, cpu->idt.limit);
	}
	if (groups & MK_G_CR)
		flush_cr(cpu);
	if (groups & MK_G_CR3)
		vmwrite(GUEST_CR3, cpu->cr3);
	if (groups & MK_G_EFER)
		flush_efer(cpu);
	if (groups & MK_G_PDPTE)
		for (int i = 0; i < 4; i++)
			vmwrite(GUEST_PDPTR0 + 2 * i, cpu->pdpte[i]);
	if (groups & MK_G_SYSENTER) {
		vmwrite(GUEST_SYSENTER_CS, cpu->sysenter_cs);
		vmwrite(GUEST_SYSENTER_ESP, cpu->sysenter_esp);
		vmwrite(GUEST_SYSENTER_EIP, cpu->sysenter_eip);
	}
	if ((groups & MK_G_SYSCALL) && v->switched)
		vmx_flush_syscall(cpu);
	if (groups & MK_G_DR)
		vmwrite(GUEST_DR7, cpu->dr7);
	if (groups & MK_G_PAT)
		vmwrite(GUEST_IA32_PAT, cpu->pat);
	if (groups & MK_G_DEBUGCTL)
		vmwrite(GUEST_IA32_DEBUGCTL, cpu->debugctl);
}
