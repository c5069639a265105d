// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what we offer (KVM_GET_SUPPORTED_CPUID), what the VMM made of it
 * (KVM_SET_CPUID2), and what the guest reads.
 *
 * A feature is offered when the host's kernel uses it too and the module lets
 * the guest have it; the lists below say which those are. What the guest's
 * CPUID holds decides in turn which bits of CR4, EFER and XCR0 it may set.
 *
 * Read next: core/msr.c.
 */
#include <linux/kvm_para.h>
#include <linux/sort.h>
#include <linux/slab.h>
#include <asm/fpu/api.h>
#include <asm/processor.h>

#include "core/vcpu.h"

#define F(name) BIT(X86_FEATURE_##name & 31)

enum { EAX, EBX, ECX, EDX };

/*
 * Feature words: the CPUID register, the kernel's word for it (which already
 * lacks what the host disabled), the bits that work in a guest, and those
 * that we make ourselves whatever the host has.
 */
static const struct feature_word {
	u32 function, index, reg;
	int word;
	u32 mask, always;
} feature_words[] = {
	{ 1, 0, EDX, CPUID_1_EDX,
	  F(FPU) | F(VME) | F(DE) | F(PSE) | F(TSC) | F(MSR) | F(PAE) | F(MCE) | F(CX8) | F(APIC) |
	  F(SEP) | F(MTRR) | F(PGE) | F(MCA) | F(CMOV) | F(PAT) | F(PSE36) | F(CLFLUSH) | F(MMX) |
	  F(FXSR) | F(XMM) | F(XMM2) | F(SELFSNOOP), F(APIC) | F(MTRR) | F(MCE) | F(MCA) },
	{ 1, 0, ECX, CPUID_1_ECX,
	  F(XMM3) | F(PCLMULQDQ) | F(SSSE3) | F(FMA) | F(CX16) | F(PCID) | F(XMM4_1) | F(XMM4_2) |
	  F(MOVBE) | F(POPCNT) | F(AES) | F(XSAVE) | F(AVX) | F(F16C) | F(RDRAND),
	  F(HYPERVISOR) | F(X2APIC) },
	{ 7, 0, EBX, CPUID_7_0_EBX,
	  F(FSGSBASE) | F(BMI1) | F(AVX2) | F(FDP_EXCPTN_ONLY) | F(ZERO_FCS_FDS) | F(SMEP) |
	  F(BMI2) | F(ERMS) | F(INVPCID) | F(AVX512F) | F(AVX512DQ) |
	  F(RDSEED) | F(ADX) | F(SMAP) | F(AVX512IFMA) | F(CLFLUSHOPT) | F(CLWB) |
	  F(AVX512PF) | F(AVX512ER) | F(AVX512CD) | F(SHA_NI) | F(AVX512BW) | F(AVX512VL),
	  F(TSC_ADJUST) },
	{ 7, 0, ECX, CPUID_7_ECX,
	  F(AVX512VBMI) | F(PKU) | F(AVX512_VBMI2) | F(GFNI) | F(VAES) | F(VPCLMULQDQ) |
	  F(AVX512_VNNI) | F(AVX512_BITALG) | F(AVX512_VPOPCNTDQ) | F(LA57) | F(RDPID) |
	  F(CLDEMOTE) | F(MOVDIRI) | F(MOVDIR64B) | F(UMIP), 0 },
	{ 7, 0, EDX, CPUID_7_EDX,
	  F(AVX512_4VNNIW) | F(AVX512_4FMAPS) | F(FSRM) | F(AVX512_VP2INTERSECT) | F(MD_CLEAR) |
	  F(SERIALIZE) | F(SPEC_CTRL) | F(SPEC_CTRL_SSBD) | F(INTEL_STIBP),
	  F(ARCH_CAPABILITIES) },
	{ 7, 1, EAX, CPUID_7_1_EAX, F(AVX_VNNI) | F(AVX512_BF16), 0 },
	{ 0xd, 1, EAX, CPUID_D_1_EAX, F(XSAVEOPT) | F(XSAVEC) | F(XGETBV1) | F(XSAVES), 0 },
	{ 0x80000001, 0, EDX, CPUID_8000_0001_EDX,
	  F(SYSCALL) | F(NX) | F(MMXEXT) | F(FXSR_OPT) | F(GBPAGES) | F(RDTSCP) | F(LM) |
	  F(3DNOWEXT) | F(3DNOW), 0 },
	{ 0x80000001, 0, ECX, CPUID_8000_0001_ECX,
	  F(LAHF_LM) | F(CR8_LEGACY) | F(ABM) | F(SSE4A) | F(MISALIGNSSE) | F(3DNOWPREFETCH) |
	  F(XOP) | F(FMA4) | F(TBM) | F(TOPOEXT), 0 },
	{ 0x80000008, 0, EBX, CPUID_8000_0008_EBX,
	  F(CLZERO) | F(XSAVEERPTR) | F(AMD_IBPB) | F(AMD_IBRS) | F(AMD_STIBP) | F(AMD_SSBD), 0 },
};

/* Bits of 0x80000001.EDX that AMD repeats from leaf 1. */
#define AMD_REPEATED	0x0183f3ffu

static bool host_is_amd(void)
{
	return boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
	       boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;
}

static u32 feature_bits(const struct feature_word *w)
{
	u32 bits = boot_cpu_data.x86_capability[w->word] & w->mask;

	if (w->function == 7 && w->reg == EBX && !mk_hw->caps->invpcid)
		bits &= ~F(INVPCID);
	if (w->function == 7 && w->reg == ECX) {
		if (mk_hw->caps->umip_emulated)
			bits |= F(UMIP);
		if (!mk_hw->caps->pku || !cpu_feature_enabled(X86_FEATURE_OSPKE))
			bits &= ~F(PKU);
		if (!mk_hw->caps->rdtscp)
			bits &= ~F(RDPID);
	}
	if (w->function == 0x80000001 && w->reg == EDX) {
		if (!mk_hw->caps->rdtscp)
			bits &= ~F(RDTSCP);
		if (host_is_amd())
			bits |= boot_cpu_data.x86_capability[CPUID_1_EDX] & AMD_REPEATED &
				feature_words[0].mask;
	}
	if (w->function == 0xd && !mk_hw->caps->xsaves)
		bits &= ~F(XSAVES);
	return bits | w->always;
}

u64 mk_supported_xcr0(void)
{
	u64 xcr0;

	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return 0;
	xcr0 = mk_host_xcr0() & (XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512 |
				 XFEATURE_MASK_PKRU);
	if (!mk_hw->caps->pku)
		xcr0 &= ~(u64)XFEATURE_MASK_PKRU;
	return xcr0;
}

struct fill {
	struct kvm_cpuid_entry2 *entries;
	u32 nr, max;
	bool full;
};

static struct kvm_cpuid_entry2 *add_empty(struct fill *f, u32 function, u32 index, bool indexed)
{
	struct kvm_cpuid_entry2 *e;

	if (f->nr == f->max) {
		f->full = true;
		return NULL;
	}
	e = &f->entries[f->nr++];
	memset(e, 0, sizeof(*e));
	e->function = function;
	e->index = index;
	if (indexed)
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	return e;
}

/* As the host's CPU has it: empty beyond its last leaf, where it may answer with another's. */
static struct kvm_cpuid_entry2 *add(struct fill *f, u32 function, u32 index, bool indexed)
{
	struct kvm_cpuid_entry2 *e = add_empty(f, function, index, indexed);

	if (e && (function < 0x80000000 || function <= boot_cpu_data.extended_cpuid_level))
		cpuid_count(function, index, &e->eax, &e->ebx, &e->ecx, &e->edx);
	return e;
}

static void mask_features(struct kvm_cpuid_entry2 *e)
{
	const struct feature_word *w;

	for (w = feature_words; w < feature_words + ARRAY_SIZE(feature_words); w++)
		if (w->function == e->function && w->index == e->index)
			(&e->eax)[w->reg] = feature_bits(w);
}

/* Leaf 4 and 0x8000001d: caches, one sub-leaf each until the type is zero. */
static void add_caches(struct fill *f, u32 function)
{
	struct kvm_cpuid_entry2 *e;
	u32 i = 0;

	do {
		e = add(f, function, i++, true);
		if (e)	/* how threads share them is the VMM's to say */
			e->eax &= ~0x03ffc000u;
	} while (e && (e->eax & 0x1f));
}

static void add_xstate(struct fill *f)
{
	u64 xcr0 = mk_supported_xcr0();
	struct kvm_cpuid_entry2 *e = add(f, 0xd, 0, true);
	int i;

	if (!e)
		return;
	e->eax = xcr0;
	e->edx = xcr0 >> 32;
	e->ebx = e->ecx = mk_xstate_size(xcr0, false);
	e = add(f, 0xd, 1, true);
	if (!e)
		return;
	mask_features(e);
	e->ebx = (e->eax & (F(XSAVES) | F(XSAVEC))) ? mk_xstate_size(xcr0, true) : 0;
	e->ecx = e->edx = 0;	/* no supervisor components */
	for (i = 2; i < 64; i++)
		if (xcr0 & BIT_ULL(i)) {
			e = add(f, 0xd, i, true);
			if (!e)
				return;
			e->edx = 0;
		}
}

static void add_basic(struct fill *f)
{
	struct kvm_cpuid_entry2 *e = add(f, 0, 0, false);
	u32 function, last;

	if (!e)
		return;
	last = e->eax = min(e->eax, 0x16u);
	for (function = 1; function <= last; function++) {
		switch (function) {
		case 1:
			e = add(f, 1, 0, false);
			if (e) {
				mask_features(e);
				e->ebx &= 0x0000ff00;	/* APIC id and count are the VMM's */
			}
			break;
		case 2:
			add(f, 2, 0, false);
			break;
		case 4:
			add_caches(f, 4);
			break;
		case 6:
			e = add_empty(f, 6, 0, false);
			if (e)
				e->eax = BIT(2);	/* ARAT: the APIC timer never stops */
			break;
		case 7:
			e = add(f, 7, 0, true);
			if (!e)
				break;
			e->eax = min(e->eax, 1u);
			mask_features(e);
			if (e->eax) {
				e = add(f, 7, 1, true);
				if (e) {
					mask_features(e);
					e->ebx = e->ecx = e->edx = 0;
				}
			}
			break;
		case 0xb:
			/* Topology is the VMM's; an empty leaf says there is none. */
			e = add(f, 0xb, 0, true);
			if (e)
				e->eax = e->ebx = e->ecx = 0;
			break;
		case 0xd:
			add_xstate(f);
			break;
		default:
			add_empty(f, function, 0, false);
		}
	}
}

/* "KVMKVMKVM", and three zeros */
#define SIGNATURE_EBX	0x4b4d564b
#define SIGNATURE_ECX	0x564b4d56
#define SIGNATURE_EDX	0x4d

static void add_hypervisor(struct fill *f)
{
	struct kvm_cpuid_entry2 *e = add_empty(f, KVM_CPUID_SIGNATURE, 0, false);

	if (!e)
		return;
	e->eax = KVM_CPUID_FEATURES;
	e->ebx = SIGNATURE_EBX;
	e->ecx = SIGNATURE_ECX;
	e->edx = SIGNATURE_EDX;
	e = add_empty(f, KVM_CPUID_FEATURES, 0, false);
	if (e) {
		e->eax = BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
			 BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) |
			 BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_SEND_IPI) |
			 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_PV_EOI);
		if (mk_steal_possible())
			e->eax |= BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_TLB_FLUSH);
	}
}

/* APM vol. 3, "Function 8000_0021h": what a CPU says about itself and its flaws */
#define NO_NESTED_DATA_BP	BIT(0)
#define LFENCE_SERIALIZES	BIT(2)
#define NULL_CLEARS_BASE	BIT(6)
#define NO_SMM_CTL_MSR		BIT(9)
#define SRSO_NO			BIT(29)

/*
 * AMD's own leaves, also where the host's CPU has them not: those of the topology are
 * the VMM's to fill in, and of the last one the host's kernel knows the answers.
 */
static void add_amd(struct fill *f)
{
	struct kvm_cpuid_entry2 *e;

	add(f, 0x80000019, 0, false);	/* TLBs for pages of 1 GiB */
	e = add(f, 0x8000001a, 0, false);
	if (e) {
		e->eax &= GENMASK(2, 0);
		e->ebx = e->ecx = e->edx = 0;
	}
	add_caches(f, 0x8000001d);
	add_empty(f, 0x8000001e, 0, false);
	e = add(f, 0x80000021, 0, false);
	if (e) {
		e->eax &= NO_NESTED_DATA_BP | LFENCE_SERIALIZES | NULL_CLEARS_BASE | SRSO_NO;
		e->eax |= boot_cpu_has(X86_FEATURE_LFENCE_RDTSC) ? LFENCE_SERIALIZES : 0;
		e->eax |= boot_cpu_has_bug(X86_BUG_NULL_SEG) ? 0 : NULL_CLEARS_BASE;
		e->eax |= NO_SMM_CTL_MSR;
		e->ebx = e->ecx = e->edx = 0;
	}
}

static void add_extended(struct fill *f)
{
	bool amd = host_is_amd();
	struct kvm_cpuid_entry2 *e = add(f, 0x80000000, 0, false);
	u32 function, last;

	if (!e)
		return;
	last = clamp(e->eax, 0x80000001u, 0x80000008u);
	e->eax = amd ? 0x80000021 : last;
	for (function = 0x80000001; function <= last; function++) {
		e = add(f, function, 0, false);
		if (!e)
			return;
		switch (function) {
		case 0x80000001:
			mask_features(e);
			break;
		case 0x80000007:
			e->eax = e->ebx = e->ecx = 0;
			e->edx &= BIT(8);	/* invariant TSC */
			break;
		case 0x80000008:
			/* Physical width as the host's kernel sees it: encryption may take bits. */
			e->eax = (e->eax & 0xff00) | boot_cpu_data.x86_phys_bits;
			mask_features(e);
			e->ecx = e->edx = 0;
			break;
		}
	}
	if (amd)
		add_amd(f);
}

/* What a guest may execute although the host's CPU could not: nothing. */
static void add_emulated(struct fill *f)
{
	struct kvm_cpuid_entry2 *e = add_empty(f, 0, 0, false);

	if (e)
		e->eax = 7;
	add_empty(f, 1, 0, false);
	add_empty(f, 7, 0, true);
}

int mk_cpuid_supported(struct kvm_cpuid_entry2 *entries, u32 *nent, bool emulated)
{
	struct fill f = { .entries = entries, .max = *nent };

	if (emulated) {
		add_emulated(&f);
	} else {
		add_basic(&f);
		add_hypervisor(&f);
		add_extended(&f);
	}
	if (f.full)
		return -E2BIG;
	*nent = f.nr;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct kvm_cpuid_entry2 *x = a, *y = b;

	if (x->function != y->function)
		return x->function < y->function ? -1 : 1;
	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	return 0;
}

/*
 * Where the search for a function begins: nearly all of them are among the first
 * of their range, and known by number. Others are looked for from the beginning.
 */
static u8 *first_of(struct mk_vcpu *v, u32 function)
{
	u32 number = function & 0x3fffffff;

	static_assert(MK_MAX_CPUID - 1 <= U8_MAX);
	return number < MK_CPUID_KNOWN ? &v->cpuid_first[function >> 30][number] : NULL;
}

const struct kvm_cpuid_entry2 *mk_cpuid_find(const struct mk_vcpu *v, u32 function, u32 index)
{
	const u8 *first = first_of((struct mk_vcpu *)v, function);
	const struct kvm_cpuid_entry2 *e = v->cpuid + (first ? *first : 0);
	const struct kvm_cpuid_entry2 *end = v->cpuid + v->nr_cpuid;

	for (; e < end && e->function <= function; e++) {
		/* An entry without an index of its own stands for all of them. */
		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

/* v->cpuid is new, and sorted. */
static void note_firsts(struct mk_vcpu *v)
{
	int i;

	memset(v->cpuid_first, 0, sizeof(v->cpuid_first));
	for (i = v->nr_cpuid - 1; i >= 0; i--) {
		u8 *first = first_of(v, v->cpuid[i].function);

		if (first)
			*first = i;
	}
}

/*
 * SDM vol. 2A, "CPUID": a leaf beyond the last of its range reads as the last
 * basic leaf. AMD's CPUs read as zero.
 */
static const struct kvm_cpuid_entry2 *out_of_range(struct mk_vcpu *v, u32 function, u32 index)
{
	const struct kvm_cpuid_entry2 *range, *basic;
	u32 first = function & 0x80000000;

	if (!v->cpuid_intel)
		return NULL;
	if ((function & 0xf0000000) == 0x40000000)
		first = function & 0xffffff00;
	range = mk_cpuid_find(v, first, 0);
	if (range && function <= range->eax)
		return NULL;
	basic = mk_cpuid_find(v, 0, 0);
	return basic ? mk_cpuid_find(v, basic->eax, index) : NULL;
}

void mk_cpuid_query(struct mk_vcpu *v, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
	u32 function = *eax, index = *ecx;
	const struct kvm_cpuid_entry2 *e = mk_cpuid_find(v, function, index);

	if (!e)
		e = out_of_range(v, function, index);
	if (e) {
		*eax = e->eax;
		*ebx = e->ebx;
		*ecx = e->ecx;
		*edx = e->edx;
		return;
	}
	*eax = *ebx = *ecx = *edx = 0;
	/* Topology leaves echo the sub-leaf, and tell the x2APIC id in each. */
	if (function == 0xb || function == 0x1f) {
		e = mk_cpuid_find(v, function, 1);
		if (e) {
			*ecx = index & 0xff;
			*edx = e->edx;
		}
	}
}

static struct kvm_cpuid_entry2 *entry(struct mk_vcpu *v, u32 function, u32 index)
{
	return (struct kvm_cpuid_entry2 *)mk_cpuid_find(v, function, index);
}

static void set_bits(u32 *reg, u32 bits, bool on)
{
	*reg = on ? *reg | bits : *reg & ~bits;
}

/* KVM's leaves are where their signature is, which need not be the first place for one. */
static struct kvm_cpuid_entry2 *pv_leaf(struct mk_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e;
	int i;

	for (i = 0; i < v->nr_cpuid; i++) {
		e = &v->cpuid[i];
		if ((e->function & 0xffff00ff) == KVM_CPUID_SIGNATURE && e->ebx == SIGNATURE_EBX &&
		    e->ecx == SIGNATURE_ECX && e->edx == SIGNATURE_EDX)
			return entry(v, e->function + (KVM_CPUID_FEATURES - KVM_CPUID_SIGNATURE), 0);
	}
	return NULL;
}

/* Bits that mirror a register of the guest, and the sizes that follow XCR0. */
void mk_cpuid_refresh(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;
	struct kvm_cpuid_entry2 *e;

	mk_cpu_need(cpu, MK_G_CR);
	e = entry(v, 1, 0);
	if (e) {
		set_bits(&e->ecx, F(OSXSAVE), cpu->cr4 & X86_CR4_OSXSAVE);
		set_bits(&e->edx, F(APIC), mk_apic_base(v) & MSR_IA32_APICBASE_ENABLE);
	}
	if (e && !mk_has_quirk(v->vm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT))
		set_bits(&e->ecx, F(MWAIT), v->misc_enable & MSR_IA32_MISC_ENABLE_MWAIT);
	e = entry(v, 7, 0);
	if (e)
		set_bits(&e->ecx, F(OSPKE), cpu->cr4 & X86_CR4_PKE);
	e = entry(v, 0xd, 0);
	if (e)
		e->ebx = mk_xstate_size(cpu->xcr0, false);
	e = entry(v, 0xd, 1);
	if (e && (e->eax & (F(XSAVES) | F(XSAVEC))))
		e->ebx = mk_xstate_size(cpu->xcr0 | cpu->xss, true);
	/* Who halts without an exit cannot be kicked out of it. */
	e = READ_ONCE(v->vm->exits_off) & KVM_X86_DISABLE_EXITS_HLT ? pv_leaf(v) : NULL;
	if (e)
		set_bits(&e->eax, BIT(KVM_FEATURE_PV_UNHALT), false);
	mk_xstate_update(v);
}

/* CR4 bits that hang on a feature: of the guest's CPUID, and of what the host can do. */
static const struct {
	u64 cr4;
	u16 feature;
	u8 word;	/* which of derive()'s words has the bit */
} cr4_features[] = {
	{ X86_CR4_OSXSAVE,	X86_FEATURE_XSAVE,	0 },
	{ X86_CR4_PCIDE,	X86_FEATURE_PCID,	0 },
	{ X86_CR4_FSGSBASE,	X86_FEATURE_FSGSBASE,	1 },
	{ X86_CR4_SMEP,		X86_FEATURE_SMEP,	1 },
	{ X86_CR4_SMAP,		X86_FEATURE_SMAP,	1 },
	{ X86_CR4_UMIP,		X86_FEATURE_UMIP,	2 },
	{ X86_CR4_PKE,		X86_FEATURE_PKU,	2 },
	{ X86_CR4_LA57,		X86_FEATURE_LA57,	2 },
};

static bool host_has(u16 feature)
{
	return boot_cpu_has(feature) ||
	       (feature == X86_FEATURE_UMIP && mk_hw->caps->umip_emulated);
}

static u32 pv_features(struct mk_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = pv_leaf(v);

	return e ? e->eax : 0;
}

/*
 * What the guest may set. A VMM may write what it likes into CPUID; the host
 * still has what it has. Without any CPUID the host's features count.
 */
static void derive(struct mk_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e;
	u32 words[3] = {}, edx8 = 0;
	int i;

	e = mk_cpuid_find(v, 1, 0);
	words[0] = e ? e->ecx : 0;
	e = mk_cpuid_find(v, 7, 0);
	words[1] = e ? e->ebx : 0;
	words[2] = e ? e->ecx : 0;
	e = mk_cpuid_find(v, 0x80000001, 0);
	edx8 = e ? e->edx : 0;
	if (!v->nr_cpuid) {
		memset(words, 0xff, sizeof(words));
		edx8 = ~0u;
	}

	v->cr4_allowed = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE |
			 X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE |
			 X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	for (i = 0; i < ARRAY_SIZE(cr4_features); i++)
		if (host_has(cr4_features[i].feature) &&
		    (words[cr4_features[i].word] & BIT(cr4_features[i].feature & 31)))
			v->cr4_allowed |= cr4_features[i].cr4;

	v->efer_allowed = (edx8 & F(SYSCALL) ? EFER_SCE : 0) | (edx8 & F(NX) ? EFER_NX : 0) |
			  (edx8 & F(LM) ? EFER_LME : 0);
	if (boot_cpu_has(X86_FEATURE_FXSR_OPT) && (edx8 & F(FXSR_OPT)))
		v->efer_allowed |= EFER_FFXSR;
	v->gbpages = edx8 & F(GBPAGES);

	e = mk_cpuid_find(v, 0x80000008, 0);
	v->maxphyaddr = e && (e->eax & 0xff) ? clamp(e->eax & 0xff, 32u, 52u) : 36;
	e = mk_cpuid_find(v, 0xd, 0);
	v->guest_xcr0_allowed = e ? (e->eax | (u64)e->edx << 32) & mk_supported_xcr0() : 0;
	v->pv_features = pv_features(v);
	e = mk_cpuid_find(v, 0, 0);
	v->cpuid_intel = e && e->ebx == 0x756e6547;	/* "Genu" */
}

/* Would @entries, as they would read in the running guest, change anything? */
static bool same_as_now(struct mk_vcpu *v, struct kvm_cpuid_entry2 *entries, u32 nent)
{
	struct kvm_cpuid_entry2 *now = v->cpuid;

	if (nent != v->nr_cpuid)
		return false;
	v->cpuid = entries;
	mk_cpuid_refresh(v);
	v->cpuid = now;
	return !memcmp(entries, now, array_size(nent, sizeof(*now)));
}

int mk_cpuid_set(struct mk_vcpu *v, struct kvm_cpuid_entry2 *entries, u32 nent)
{
	sort(entries, nent, sizeof(*entries), compare, NULL);
	if (v->cpu.ran) {
		/* What the guest has seen stays; the same again is no change. */
		if (!same_as_now(v, entries, nent))
			return -EINVAL;
		kvfree(entries);
		return 0;
	}
	kvfree(v->cpuid);
	v->cpuid = entries;
	v->nr_cpuid = nent;
	note_firsts(v);
	derive(v);
	mk_cpuid_refresh(v);
	mk_msr_passthrough(v);
	return 0;
}

void mk_cpuid_init(struct mk_vcpu *v)
{
	derive(v);
}
