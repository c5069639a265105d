// SPDX-License-Identifier: GPL-2.0
/*
 * What a VMM saves and restores beside the registers: events that are on their
 * way into the guest, debug registers, XCR0, machine-check banks.
 *
 * Source: KVM's API document, KVM_GET_VCPU_EVENTS, KVM_GET_DEBUGREGS, KVM_GET_XCRS,
 * KVM_X86_SETUP_MCE; SDM vol. 3B, "Machine-Check Architecture".
 * Knows: everything of this floor. Read next: core/events.c.
 */
#include <asm/kvm_para.h>
#include <asm/mce.h>
#include <asm/trapnr.h>
#include <uapi/asm/debugreg.h>

#include "core/vcpu.h"

/* --- Events --- */

static bool has_payload(u8 vector)
{
	return vector == X86_TRAP_PF || vector == X86_TRAP_DB;
}

/*
 * An exception that waits has not changed CR2 and DR6 yet; without
 * KVM_CAP_EXCEPTION_PAYLOAD the ABI has no room to say so.
 */
static void tell_payload(struct mk_vcpu *v)
{
	struct mk_exception *ex = &v->exception;
	struct mk_cpu *cpu = &v->cpu;

	if (!ex->pending || ex->told)
		return;
	if (ex->vector == X86_TRAP_PF) {
		cpu->cr2 = ex->payload;
	} else if (ex->vector == X86_TRAP_DB) {
		mk_cpu_touch(cpu, MK_G_DR);
		*mk_guest_dr(v, 6) = (*mk_guest_dr(v, 6) & ~(u64)DR_TRAP_BITS) | ex->payload;
	}
	ex->told = true;
}

int mk_get_vcpu_events(struct mk_vcpu *v, struct kvm_vcpu_events *events)
{
	const struct mk_event *cut = &v->cpu.vectoring;
	const struct mk_exception *ex = &v->exception;
	bool pending;
	u32 shadow;

	mk_cpu_need(&v->cpu, MK_G_SHADOW);
	shadow = v->cpu.shadow;
	pending = ex->pending && !ex->told;
	if (!v->vm->tells_payloads)
		tell_payload(v);
	memset(events, 0, sizeof(*events));
	if (ex->pending) {
		events->exception.injected = ex->told;
		events->exception.pending = pending;
		events->exception.nr = ex->vector;
		events->exception.has_error_code = ex->has_error;
		events->exception.error_code = ex->error;
		if (!ex->told && has_payload(ex->vector)) {
			events->exception_has_payload = 1;
			events->exception_payload = ex->payload;
		}
	} else if (cut->type == MK_EV_EXCEPTION) {
		events->exception.injected = 1;
		events->exception.nr = cut->vector;
		events->exception.has_error_code = cut->has_error;
		events->exception.error_code = cut->error;
	}
	if (cut->type == MK_EV_INTR || v->user_irq >= 0) {
		events->interrupt.injected = 1;
		events->interrupt.nr = cut->type == MK_EV_INTR ? cut->vector : v->user_irq;
	}
	if (shadow & MK_SHADOW_STI)
		events->interrupt.shadow |= KVM_X86_SHADOW_INT_STI;
	if (shadow & MK_SHADOW_MOVSS)
		events->interrupt.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	events->nmi.injected = cut->type == MK_EV_NMI;
	events->nmi.pending = !!atomic_read(&v->nmis);
	events->nmi.masked = !!(shadow & MK_SHADOW_NMI);
	events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
			KVM_VCPUEVENT_VALID_SMM;
	if (v->vm->tells_payloads)
		events->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (v->vm->tells_triple_fault) {
		events->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
		events->triple_fault.pending = test_bit(MK_REQ_TRIPLE_FAULT, &v->requests);
	}
	return 0;
}

#define EVENT_FLAGS	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | \
			 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM)

/* What was on its way is replaced as a whole. There is no system management mode. */
int mk_set_vcpu_events(struct mk_vcpu *v, const struct kvm_vcpu_events *events)
{
	bool pending = (events->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && events->exception.pending;
	bool payload = pending && events->exception_has_payload &&
		       has_payload(events->exception.nr);
	struct mk_cpu *cpu = &v->cpu;
	u32 allowed = EVENT_FLAGS;

	if (v->vm->tells_payloads)
		allowed |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (v->vm->tells_triple_fault)
		allowed |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	if (events->flags & ~allowed)
		return -EINVAL;
	if ((events->exception.injected || pending) &&
	    (events->exception.nr > 31 || events->exception.nr == X86_TRAP_NMI))
		return -EINVAL;
	if ((events->flags & KVM_VCPUEVENT_VALID_SMM) &&
	    (events->smi.smm || events->smi.pending || events->smi.smm_inside_nmi))
		return -EINVAL;

	mk_cpu_touch(cpu, MK_G_SHADOW);
	v->exception = (struct mk_exception){
		.pending = events->exception.injected || pending,
		.vector = events->exception.nr,
		.has_error = events->exception.has_error_code,
		.error = events->exception.error_code,
		.payload = payload ? events->exception_payload : 0,
		.told = !payload,
	};
	cpu->vectoring.type = MK_EV_NONE;
	if (events->nmi.injected)
		cpu->vectoring = (struct mk_event){ .type = MK_EV_NMI, .vector = X86_TRAP_NMI };
	v->user_irq = events->interrupt.injected ? events->interrupt.nr : -1;
	if (events->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		cpu->shadow &= ~(MK_SHADOW_STI | MK_SHADOW_MOVSS);
		if (events->interrupt.shadow & KVM_X86_SHADOW_INT_STI)
			cpu->shadow |= MK_SHADOW_STI;
		if (events->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS)
			cpu->shadow |= MK_SHADOW_MOVSS;
	}
	if (events->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		atomic_set(&v->nmis, !!events->nmi.pending);
	cpu->shadow &= ~MK_SHADOW_NMI;
	if (events->nmi.masked)
		cpu->shadow |= MK_SHADOW_NMI;
	if ((events->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) && v->apic)
		WRITE_ONCE(v->sipi_vector, events->sipi_vector);
	if (events->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		clear_bit(MK_REQ_TRIPLE_FAULT, &v->requests);
		if (events->triple_fault.pending)
			mk_request(v, MK_REQ_TRIPLE_FAULT);
	}
	mk_request(v, MK_REQ_EVENT);
	return 0;
}

/* --- Debug registers and XCR0 --- */

int mk_get_debugregs(struct mk_vcpu *v, struct kvm_debugregs *regs)
{
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_need(cpu, MK_G_DR);
	memset(regs, 0, sizeof(*regs));
	memcpy(regs->db, mk_guest_dr(v, 0), sizeof(regs->db));
	regs->dr6 = *mk_guest_dr(v, 6);
	regs->dr7 = *mk_guest_dr(v, 7);
	return 0;
}

int mk_set_debugregs(struct mk_vcpu *v, const struct kvm_debugregs *regs)
{
	struct mk_cpu *cpu = &v->cpu;

	if (regs->flags || regs->dr6 >> 32 || regs->dr7 >> 32)
		return -EINVAL;
	mk_cpu_touch(cpu, MK_G_DR);
	memcpy(mk_guest_dr(v, 0), regs->db, sizeof(regs->db));
	*mk_guest_dr(v, 6) = regs->dr6;
	*mk_guest_dr(v, 7) = regs->dr7;
	return 0;
}

int mk_get_xcrs(struct mk_vcpu *v, struct kvm_xcrs *xcrs)
{
	memset(xcrs, 0, sizeof(*xcrs));
	if (boot_cpu_has(X86_FEATURE_XSAVE)) {
		xcrs->nr_xcrs = 1;
		xcrs->xcrs[0].value = v->cpu.xcr0;
	}
	return 0;
}

/* There is one: XCR0. Others are passed over. */
int mk_set_xcrs(struct mk_vcpu *v, const struct kvm_xcrs *xcrs)
{
	u32 i;

	if (!boot_cpu_has(X86_FEATURE_XSAVE) || xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->flags)
		return -EINVAL;
	for (i = 0; i < xcrs->nr_xcrs; i++)
		if (!xcrs->xcrs[i].xcr)
			return mk_set_xcr(v, 0, xcrs->xcrs[i].value);
	return 0;
}

/* --- Machine checks --- */

enum { BANK_CTL, BANK_STATUS, BANK_ADDR, BANK_MISC };

static unsigned int nr_banks(const struct mk_vcpu *v)
{
	return v->mcg_cap & MCG_BANKCNT_MASK;
}

u64 mk_supported_mcg_cap(void)
{
	/* Intel's banks can interrupt for what they have corrected. */
	return MCG_CTL_P | MCG_SER_P | (mk_hw->tdp == MK_TDP_EPT ? MCG_CMCI_P : 0);
}

int mk_setup_mce(struct mk_vcpu *v, u64 cap)
{
	unsigned int i, nr = cap & MCG_BANKCNT_MASK;

	if (!nr || nr > MK_MC_BANKS)
		return -EINVAL;
	/* Bits 23:16 count extended state registers, which only tools look at. */
	if (cap & ~(mk_supported_mcg_cap() | MCG_BANKCNT_MASK | MCG_EXT_CNT_MASK))
		return -EINVAL;
	/* On AMD's CPUs there is nothing above MCG_CTL_P. */
	if (mk_hw->tdp == MK_TDP_NPT)
		cap &= MCG_CTL_P | MCG_BANKCNT_MASK;
	v->mcg_cap = cap;
	if (cap & MCG_CTL_P)
		v->mcg_ctl = ~0ull;
	for (i = 0; i < nr; i++)
		v->mc_bank[i][BANK_CTL] = ~0ull;
	return 0;
}

/*
 * An error that has to be acted on before the CPU goes on. Others are told as corrected
 * ones are; SDM vol. 3B, "Uncorrected No Action required (UCNA)".
 */
static bool is_machine_check(const struct kvm_x86_mce *mce)
{
	u64 act = MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR;

	return (mce->status & MCI_STATUS_UC) && (mce->mcg_status || (mce->status & act));
}

/* "Machine-Check Overwrite Rules": the worse one stays. */
static void record(u64 *bank, const struct kvm_x86_mce *mce)
{
	u64 old = bank[BANK_STATUS], over = old & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0;

	if (over && (old & MCI_STATUS_UC) && !is_machine_check(mce)) {
		bank[BANK_STATUS] = old | over;
		return;
	}
	bank[BANK_ADDR] = mce->addr;
	bank[BANK_MISC] = mce->misc;
	bank[BANK_STATUS] = mce->status | over;
}

/* What the hardware's own reporting would do. Return: 0, also where it stays silent. */
int mk_set_mce(struct mk_vcpu *v, const struct kvm_x86_mce *mce)
{
	u64 *bank;

	if (mce->bank >= nr_banks(v) || !(mce->status & MCI_STATUS_VAL))
		return -EINVAL;
	bank = v->mc_bank[mce->bank];
	if (!is_machine_check(mce)) {
		record(bank, mce);
		if (v->apic && mk_has_cmci(v) && (v->mc_ctl2[mce->bank] & MCI_CTL2_CMCI_EN))
			mk_board(v->vm)->cmci(v);
		return 0;
	}
	if (((v->mcg_cap & MCG_CTL_P) && ~v->mcg_ctl) || ~bank[BANK_CTL])
		return 0;
	mk_cpu_need(&v->cpu, MK_G_CR);
	if ((v->mcg_status & MCG_STATUS_MCIP) || !(v->cpu.cr4 & X86_CR4_MCE)) {
		mk_request(v, MK_REQ_TRIPLE_FAULT);
		return 0;
	}
	record(bank, mce);
	v->mcg_status = mce->mcg_status;
	mk_queue_exception(v, X86_TRAP_MC);
	return 0;
}

/* The register of a machine-check bank that @msr is, or NULL. */
static u64 *bank_msr(struct mk_vcpu *v, u32 msr)
{
	u32 nr = msr - MSR_IA32_MC0_CTL;

	return nr < 4 * nr_banks(v) ? &v->mc_bank[nr / 4][nr % 4] : NULL;
}

/* The second control register of a bank that @msr is, or NULL. */
static u32 *bank_ctl2(struct mk_vcpu *v, u32 msr)
{
	u32 nr = msr - MSR_IA32_MC0_CTL2;

	return nr < nr_banks(v) ? &v->mc_ctl2[nr] : NULL;
}

int mk_mce_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host)
{
	const u64 *reg = bank_msr(v, msr);
	const u32 *ctl2 = bank_ctl2(v, msr);

	switch (msr) {
	case MSR_IA32_MCG_CAP:
		*val = v->mcg_cap;
		return 0;
	case MSR_IA32_MCG_STATUS:
		*val = v->mcg_status;
		return 0;
	case MSR_IA32_MCG_CTL:
		*val = v->mcg_ctl;
		return host || (v->mcg_cap & MCG_CTL_P) ? 0 : -EINVAL;
	}
	if (ctl2) {
		*val = *ctl2;
		return host || mk_has_cmci(v) ? 0 : -EINVAL;
	}
	if (!reg)
		return -ENOENT;
	*val = *reg;
	return 0;
}

int mk_mce_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host)
{
	u64 *reg = bank_msr(v, msr);
	u32 *ctl2 = bank_ctl2(v, msr);

	switch (msr) {
	case MSR_IA32_MCG_STATUS:
		v->mcg_status = val;
		return 0;
	case MSR_IA32_MCG_CTL:
		if (!(v->mcg_cap & MCG_CTL_P) && (val || !host))
			return -EINVAL;
		if (val && val != ~0ull)
			return -EINVAL;
		v->mcg_ctl = val;
		return 0;
	}
	if (ctl2) {
		if (!mk_has_cmci(v) && (val || !host))
			return -EINVAL;
		if (val & ~(MCI_CTL2_CMCI_EN | MCI_CTL2_CMCI_THRESHOLD_MASK))
			return -EINVAL;
		*ctl2 = val;
		return 0;
	}
	if (!reg)
		return -ENOENT;
	switch ((msr - MSR_IA32_MC0_CTL) % 4) {
	case BANK_CTL:
		/*
		 * All or nothing, but for two bits: some kernels clear bit 10 of bank 4 on
		 * AMD's CPUs, and some bit 0 on Intel's.
		 */
		if (val && (val | BIT(10) | 1) != ~0ull)
			return -EINVAL;
		break;
	case BANK_STATUS:
		/* Software can only clear it, unless it has asked an AMD CPU for more. */
		if (val && !host && (v->cpuid_intel || !(v->hwcr & MK_HWCR_MC_STATUS_WR_EN)))
			return -EINVAL;
		break;
	}
	*reg = val;
	return 0;
}
