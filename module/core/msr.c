// SPDX-License-Identifier: GPL-2.0
/*
 * Model-specific registers of the guest.
 *
 * Three kinds: those that the hardware holds for the guest (in struct mk_cpu),
 * those that the board answers, and those that are only remembered here. Of
 * the rest a read or write is #GP, as on a CPU that lacks them. Some pass
 * without an exit; mk_msr_passthrough() lists them.
 *
 * Read next: board/lapic.c for APIC_BASE and the x2APIC's.
 */
#include <asm/kvm_para.h>
#include <asm/msr-index.h>
#include <asm/mtrr.h>

#include "core/vcpu.h"
#include "hw/compat.h"

#define MSR_AMD_PATCH_LOADER	0xc0010020
#define MSR_AMD_SYSCFG		0xc0010010
#define MSR_AMD_NB_CFG		0xc001001f
#define MSR_AMD_BU_CFG2		0xc001102a
#define MSR_AMD_DC_CFG		0xc0011022

#define MTRR_VAR_COUNT		8
#define MTRR_CAP		(MTRR_VAR_COUNT | BIT(8) | BIT(10))	/* fixed ranges, WC */

static const u32 msr_list[] = {
	MSR_IA32_TSC, MSR_IA32_TSC_ADJUST, MSR_IA32_APICBASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
	MSR_IA32_MISC_ENABLE, MSR_IA32_CR_PAT, MSR_MTRRdefType,
	MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_IA32_MCG_STATUS, MSR_IA32_MCG_CTL,
	MSR_IA32_UCODE_REV, MSR_PLATFORM_INFO, MSR_IA32_POWER_CTL, MSR_K7_HWCR,
	MSR_TSC_AUX, MSR_IA32_SPEC_CTRL, MSR_IA32_TSC_DEADLINE, MSR_IA32_XSS,
	MSR_IA32_ARCH_CAPABILITIES,
	MSR_KVM_WALL_CLOCK, MSR_KVM_WALL_CLOCK_NEW,
	MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN,
};

static bool in_list(u32 msr)
{
	switch (msr) {
	case MSR_TSC_AUX:
		return mk_hw->caps->rdtscp;
	case MSR_IA32_SPEC_CTRL:
		return boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL);
	case MSR_IA32_XSS:
		return mk_hw->caps->xsaves;
	}
	return true;
}

unsigned int mk_msr_list(u32 *list, unsigned int max)
{
	unsigned int i, nr = 0;

	for (i = 0; i < ARRAY_SIZE(msr_list); i++) {
		if (!in_list(msr_list[i]))
			continue;
		if (nr < max)
			list[nr] = msr_list[i];
		nr++;
	}
	return nr;
}

/* What a VMM may give a guest of the host's own features: as a new vCPU has it. */
static const u32 features[] = {
	MSR_IA32_UCODE_REV, MSR_PLATFORM_INFO, MSR_IA32_ARCH_CAPABILITIES,
	MSR_IA32_PERF_CAPABILITIES,
};

unsigned int mk_msr_feature_list(u32 *list, unsigned int max)
{
	memcpy(list, features, min_t(size_t, max * sizeof(*list), sizeof(features)));
	return ARRAY_SIZE(features);
}

static u64 default_ucode_rev(void)
{
	return boot_cpu_data.x86_vendor == X86_VENDOR_INTEL ? 0x100000000ull : 0x01000065;
}

/*
 * Facts about the CPU that hold for a guest, too: what it does not suffer from, and
 * what its VERW and its branch prediction do. Bits that promise another MSR are not
 * among them. Some CPUs do not say what the host's kernel knows about them.
 * SDM vol. 4, "IA32_ARCH_CAPABILITIES"
 */
#define ARCH_CAP_FACTS								\
	(ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_RSBA | ARCH_CAP_SSB_NO |	\
	 ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO |			\
	 ARCH_CAP_SBDR_SSDP_NO | ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO |			\
	 ARCH_CAP_FB_CLEAR | ARCH_CAP_RRSBA | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO |	\
	 ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | ARCH_CAP_RFDS_CLEAR)

static u64 default_arch_capabilities(void)
{
	static const struct { u32 bug; u64 safe; } known[] = {
		{ X86_BUG_CPU_MELTDOWN,		ARCH_CAP_RDCL_NO },
		{ X86_BUG_SPEC_STORE_BYPASS,	ARCH_CAP_SSB_NO },
		{ X86_BUG_MDS,			ARCH_CAP_MDS_NO },
		{ X86_BUG_ITLB_MULTIHIT,	ARCH_CAP_PSCHANGE_MC_NO },
		{ X86_BUG_GDS,			ARCH_CAP_GDS_NO },
		{ X86_BUG_RFDS,			ARCH_CAP_RFDS_NO },
	};
	u64 val = 0;
	int i;

	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrl(MSR_IA32_ARCH_CAPABILITIES, val);
	val &= ARCH_CAP_FACTS;
	for (i = 0; i < ARRAY_SIZE(known); i++)
		val |= boot_cpu_has_bug(known[i].bug) ? 0 : known[i].safe;
	return val | (mk_host_is_safe_from_its() ? ARCH_CAP_ITS_NO : 0);
}

int mk_msr_feature(u32 msr, u64 *val)
{
	switch (msr) {
	case MSR_IA32_UCODE_REV:
		*val = default_ucode_rev();
		return 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		*val = default_arch_capabilities();
		return 0;
	case MSR_PLATFORM_INFO:
	case MSR_IA32_PERF_CAPABILITIES:	/* there are no performance counters */
		*val = 0;
		return 0;
	}
	return -EINVAL;
}

/* A register of struct mk_cpu that needs no check beyond a canonical address. */
static u64 *cpu_msr(struct mk_vcpu *v, u32 msr, u32 *group, bool *address)
{
	struct mk_cpu *cpu = &v->cpu;

	*address = false;
	*group = MK_G_SYSENTER;
	switch (msr) {
	case MSR_IA32_SYSENTER_CS:
		return &cpu->sysenter_cs;
	case MSR_IA32_SYSENTER_ESP:
		*address = true;
		return &cpu->sysenter_esp;
	case MSR_IA32_SYSENTER_EIP:
		*address = true;
		return &cpu->sysenter_eip;
	}
	*group = MK_G_SYSCALL;
	switch (msr) {
	case MSR_STAR:
		return &cpu->star;
	case MSR_SYSCALL_MASK:
		return &cpu->sfmask;
	case MSR_LSTAR:
		*address = true;
		return &cpu->lstar;
	case MSR_CSTAR:
		*address = true;
		return &cpu->cstar;
	case MSR_KERNEL_GS_BASE:
		*address = true;
		return &cpu->kernel_gs_base;
	}
	*group = MK_G_SEG;
	switch (msr) {
	case MSR_FS_BASE:
		*address = true;
		return &cpu->seg[MK_FS].base;
	case MSR_GS_BASE:
		*address = true;
		return &cpu->seg[MK_GS].base;
	}
	return NULL;
}

static bool canonical(struct mk_vcpu *v, u64 val)
{
	unsigned int shift = v->cr4_allowed & X86_CR4_LA57 ? 64 - 57 : 64 - 48;

	return (u64)((s64)(val << shift) >> shift) == val;
}

/* Memory types: 0, 1, 4, 5, 6, and in PAT also 7 (UC-). */
static bool types_valid(u64 val, bool pat)
{
	int i;

	for (i = 0; i < 8; i++, val >>= 8) {
		u8 type = val;

		if (type > (pat ? 7 : 6) || type == 2 || type == 3)
			return false;
	}
	return true;
}

static u64 *mtrr_fixed(struct mk_vcpu *v, u32 msr)
{
	switch (msr) {
	case MSR_MTRRfix64K_00000:
		return &v->mtrr_fixed[0];
	case MSR_MTRRfix16K_80000:
	case MSR_MTRRfix16K_A0000:
		return &v->mtrr_fixed[1 + msr - MSR_MTRRfix16K_80000];
	case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
		return &v->mtrr_fixed[3 + msr - MSR_MTRRfix4K_C0000];
	}
	return NULL;
}

static int mtrr_set(struct mk_vcpu *v, u32 msr, u64 val)
{
	u64 *fixed = mtrr_fixed(v, msr);
	u64 reserved = ~GENMASK_ULL(v->maxphyaddr - 1, 12);

	if (fixed) {
		if (!types_valid(val, false))
			return -EINVAL;
		*fixed = val;
		return 0;
	}
	switch (msr) {
	case MSR_MTRRdefType:
		if ((val & ~0xcffull) || !types_valid(val & 0xff, false))
			return -EINVAL;
		v->mtrr_def_type = val;
		return 0;
	case 0x200 ... 0x200 + 2 * MTRR_VAR_COUNT - 1:
		/* even: base and type; odd: mask and valid bit */
		if (msr & 1 ? val & reserved & ~0x800ull :
			      (val & reserved & ~0xffull) || !types_valid(val & 0xff, false))
			return -EINVAL;
		v->mtrr_var[msr - 0x200] = val;
		return 0;
	}
	return -ENOENT;
}

static int mtrr_get(struct mk_vcpu *v, u32 msr, u64 *val)
{
	u64 *fixed = mtrr_fixed(v, msr);

	if (fixed) {
		*val = *fixed;
		return 0;
	}
	switch (msr) {
	case MSR_MTRRcap:
		*val = MTRR_CAP;
		return 0;
	case MSR_MTRRdefType:
		*val = v->mtrr_def_type;
		return 0;
	case 0x200 ... 0x200 + 2 * MTRR_VAR_COUNT - 1:
		*val = v->mtrr_var[msr - 0x200];
		return 0;
	}
	return -ENOENT;
}

/* Does the guest's CPUID (or for userspace, the host) have SPEC_CTRL or IBPB? */
static bool has_spec_ctrl(struct mk_vcpu *v, bool host)
{
	if (!boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		return false;
	return host || mk_guest_has(v, 7, 0, 3, X86_FEATURE_SPEC_CTRL & 31) ||
	       mk_guest_has(v, 0x80000008, 0, 1, X86_FEATURE_AMD_IBRS & 31) ||
	       mk_guest_has(v, 0x80000008, 0, 1, X86_FEATURE_AMD_STIBP & 31) ||
	       mk_guest_has(v, 0x80000008, 0, 1, X86_FEATURE_AMD_SSBD & 31);
}

static bool has_ibpb(struct mk_vcpu *v, bool host)
{
	return boot_cpu_has(X86_FEATURE_IBPB) &&
	       (host || mk_guest_has(v, 7, 0, 3, X86_FEATURE_SPEC_CTRL & 31) ||
		mk_guest_has(v, 0x80000008, 0, 1, X86_FEATURE_AMD_IBPB & 31));
}

static int board_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host)
{
	mk_eoi_settle(v, false);
	if (v->apic)
		return mk_board(v->vm)->msr_get(v, msr, val, host);
	if (msr == MSR_IA32_TSC_DEADLINE) {
		*val = 0;
		return 0;
	}
	if (msr != MSR_IA32_APICBASE)
		return -ENOENT;
	*val = v->apic_base;
	return 0;
}

static int board_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host)
{
	if (v->apic)
		return mk_board(v->vm)->msr_set(v, msr, val, host);
	if (msr == MSR_IA32_TSC_DEADLINE)
		return 0;	/* it is in the list, and a timer of nobody */
	if (msr != MSR_IA32_APICBASE)
		return -ENOENT;
	v->apic_base = val;
	mk_cpuid_refresh(v);
	return 0;
}

u64 mk_apic_base(struct mk_vcpu *v)
{
	u64 base = v->apic_base;

	if (v->apic)
		mk_board(v->vm)->msr_get(v, MSR_IA32_APICBASE, &base, true);
	return base;
}

int mk_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host)
{
	struct mk_cpu *cpu = &v->cpu;
	bool address;
	u32 group;
	u64 *reg;
	int err;

	reg = cpu_msr(v, msr, &group, &address);
	if (reg) {
		mk_cpu_need(cpu, group);
		*val = *reg;
		return 0;
	}

	*val = 0;
	switch (msr) {
	case MSR_IA32_TSC:
		*val = mk_guest_tsc(v);
		return 0;
	case MSR_IA32_TSC_ADJUST:
		*val = v->tsc_adjust;
		return 0;
	case MSR_EFER:
		mk_cpu_need(cpu, MK_G_EFER);
		*val = cpu->efer;
		return 0;
	case MSR_IA32_CR_PAT:
		mk_cpu_need(cpu, MK_G_PAT);
		*val = cpu->pat;
		return 0;
	case MSR_IA32_DEBUGCTLMSR:
		mk_cpu_need(cpu, MK_G_DEBUGCTL);
		*val = cpu->debugctl;
		return 0;
	case MSR_TSC_AUX:
		*val = cpu->tsc_aux;
		return mk_hw->caps->rdtscp ? 0 : -EINVAL;
	case MSR_IA32_XSS:
		*val = cpu->xss;
		return mk_hw->caps->xsaves ? 0 : -EINVAL;
	case MSR_IA32_SPEC_CTRL:
		*val = cpu->spec_ctrl;
		return has_spec_ctrl(v, host) ? 0 : -EINVAL;
	case MSR_IA32_MISC_ENABLE:
		*val = v->misc_enable;
		return 0;
	case MSR_IA32_POWER_CTL:
		*val = v->power_ctl;
		return 0;
	case MSR_K7_HWCR:
		*val = v->hwcr;
		return 0;
	case MSR_IA32_UCODE_REV:
		*val = v->ucode_rev;
		return 0;
	case MSR_PLATFORM_INFO:
		*val = v->platform_info;
		return !host && READ_ONCE(v->vm->platform_info_hidden) ? -EINVAL : 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		*val = v->arch_capabilities;
		return host || mk_guest_has(v, 7, 0, 3, X86_FEATURE_ARCH_CAPABILITIES & 31) ?
			       0 : -EINVAL;
	case MSR_IA32_PERF_CAPABILITIES:
		return host ? 0 : -EINVAL;
	/* Read as zero, as on a machine whose firmware left them alone. */
	case MSR_IA32_PLATFORM_ID:
	case MSR_IA32_EBL_CR_POWERON:
	case MSR_IA32_LASTBRANCHFROMIP:
	case MSR_IA32_LASTBRANCHTOIP:
	case MSR_IA32_LASTINTFROMIP:
	case MSR_IA32_LASTINTTOIP:
	case MSR_AMD_SYSCFG:
	case MSR_VM_HSAVE_PA:
	case MSR_K8_INT_PENDING_MSG:
	case MSR_AMD_NB_CFG:
	case MSR_AMD_BU_CFG2:
	case MSR_AMD_DC_CFG:
	case MSR_AMD_PATCH_LOADER:
	case MSR_FAM10H_MMIO_CONF_BASE:
	case MSR_AMD64_TSC_RATIO:
		return 0;
	case MSR_K7_EVNTSEL0 ... MSR_K7_PERFCTR3:
		return v->cpuid_intel ? -EINVAL : 0;
	}

	/* First what a busy guest asks for. */
	err = board_msr_get(v, msr, val, host);
	if (err == -ENOENT)
		err = mtrr_get(v, msr, val);
	if (err == -ENOENT)
		err = mk_mce_msr_get(v, msr, val, host);
	if (err == -ENOENT)
		err = mk_pv_msr_get(v, msr, val);
	return err;
}

/* SDM vol. 4, IA32_MISC_ENABLE: only where there is SSE3 the bit for MONITOR may change. */
static int set_misc_enable(struct mk_vcpu *v, u64 val)
{
	bool toggles_mwait = (v->misc_enable ^ val) & MSR_IA32_MISC_ENABLE_MWAIT;

	if (!toggles_mwait || mk_has_quirk(v->vm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)) {
		v->misc_enable = val;
		return 0;
	}
	if (!mk_guest_has(v, 1, 0, 2, 0))
		return -EINVAL;
	v->misc_enable = val;
	mk_cpuid_refresh(v);
	return 0;
}

/* APM vol. 2, "Hardware Configuration Register (HWCR)": TlbCacheDis, FFDIS, IgnneEm */
#define HWCR_IGNORED	(BIT(3) | BIT(6) | BIT(8))
#define HWCR_KEPT	(MK_HWCR_MC_STATUS_WR_EN | BIT(24))	/* and TscFreqSel */

int mk_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host)
{
	struct mk_cpu *cpu = &v->cpu;
	bool address;
	u32 group;
	u64 *reg;
	int err;

	reg = cpu_msr(v, msr, &group, &address);
	if (reg) {
		if (address && !canonical(v, val))
			return -EINVAL;
		mk_cpu_touch(cpu, group);
		*reg = val;
		return 0;
	}

	switch (msr) {
	case MSR_IA32_TSC:
		if (host) {
			mk_set_vm_tsc(v, val);
			return 0;
		}
		/* A guest that writes its TSC moves TSC_ADJUST along with it. */
		v->tsc_adjust += val - mk_guest_tsc(v);
		mk_set_guest_tsc(v, val);
		return 0;
	case MSR_IA32_TSC_ADJUST:
		if (!host)
			mk_shift_guest_tsc(v, val - v->tsc_adjust);
		v->tsc_adjust = val;
		return 0;
	case MSR_EFER:
		return mk_set_efer(v, val, host);
	case MSR_IA32_CR_PAT:
		if (!types_valid(val, true))
			return -EINVAL;
		mk_cpu_touch(cpu, MK_G_PAT);
		cpu->pat = val;
		return 0;
	case MSR_IA32_DEBUGCTLMSR:
		/* No last-branch records, no branch trace: single steps on branches, at most. */
		if (val & ~(u64)DEBUGCTLMSR_BTF)
			return -EINVAL;
		mk_cpu_touch(cpu, MK_G_DEBUGCTL);
		cpu->debugctl = val;
		return 0;
	case MSR_TSC_AUX:
		if (!mk_hw->caps->rdtscp || val >> 32)
			return -EINVAL;
		cpu->tsc_aux = val;
		return 0;
	case MSR_IA32_XSS:
		/* No supervisor component is offered. */
		return mk_hw->caps->xsaves && !val ? 0 : -EINVAL;
	case MSR_IA32_SPEC_CTRL:
		if (!has_spec_ctrl(v, host) ||
		    (val & ~(u64)(SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_SSBD)))
			return -EINVAL;
		cpu->spec_ctrl = val;
		return 0;
	case MSR_IA32_PRED_CMD:
		if (!has_ibpb(v, host) || (val & ~(u64)PRED_CMD_IBPB))
			return -EINVAL;
		if (val)
			wrmsrl(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
		return 0;
	case MSR_IA32_MISC_ENABLE:
		return set_misc_enable(v, val);
	case MSR_K7_HWCR:
		/* Caches and machine checks of the host are left alone. */
		val &= ~(u64)HWCR_IGNORED;
		if (val & ~(u64)HWCR_KEPT)
			return -EINVAL;
		v->hwcr = val;
		return 0;
	case MSR_IA32_POWER_CTL:	/* the host's power is the host's */
		v->power_ctl = val;
		return 0;
	case MSR_IA32_UCODE_REV:
		/* A guest writes zero before it reads the revision. */
		if (host)
			v->ucode_rev = val;
		return 0;
	case MSR_PLATFORM_INFO:
		if (!host)
			return -EINVAL;
		v->platform_info = val;
		return 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		if (!host)
			return -EINVAL;
		v->arch_capabilities = val;
		return 0;
	case MSR_IA32_PERF_CAPABILITIES:
		return host && !val ? 0 : -EINVAL;
	/* Written by firmware or a kernel's set-up; nothing here follows from it. */
	case MSR_AMD_NB_CFG:
	case MSR_AMD_BU_CFG2:
	case MSR_AMD_DC_CFG:
	case MSR_AMD_PATCH_LOADER:
	case MSR_IA32_UCODE_WRITE:
	case MSR_VM_HSAVE_PA:
		return 0;
	case MSR_AMD_SYSCFG:
	case MSR_K7_EVNTSEL0 ... MSR_K7_PERFCTR3:
		return host || !val ? 0 : -EINVAL;
	}

	err = board_msr_set(v, msr, val, host);
	if (err == -ENOENT)
		err = mtrr_set(v, msr, val);
	if (err == -ENOENT)
		err = mk_mce_msr_set(v, msr, val, host);
	if (err == -ENOENT)
		err = mk_pv_msr_set(v, msr, val);
	return err;
}

void mk_msr_reset(struct mk_vcpu *v)
{
	v->misc_enable = MSR_IA32_MISC_ENABLE_FAST_STRING;
	v->tsc_adjust = v->power_ctl = v->hwcr = 0;
	v->mtrr_def_type = 0;
	memset(v->mtrr_fixed, 0, sizeof(v->mtrr_fixed));
	memset(v->mtrr_var, 0, sizeof(v->mtrr_var));
	v->mcg_status = v->mcg_ctl = 0;
	v->apic_base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
		       (mk_is_boot_vcpu(v) ? MSR_IA32_APICBASE_BSP : 0);
	v->ucode_rev = default_ucode_rev();
	v->arch_capabilities = default_arch_capabilities();
}

/*
 * What a guest reads and writes often, or at each context switch, and what can
 * do no harm: the hardware keeps a copy for the guest alone.
 */
void mk_msr_passthrough(struct mk_vcpu *v)
{
	static const u32 pass[] = {
		MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
		MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
		MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(pass); i++)
		mk_hw->pass_msr(&v->cpu, pass[i], !mk_msr_filtered(v->vm, pass[i], false),
				!mk_msr_filtered(v->vm, pass[i], true));
}
