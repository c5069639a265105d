// SPDX-License-Identifier: GPL-2.0
/*
 * Does this machine have SVM, what can it do, and taking it CPU by CPU.
 *
 * Knows: CPUID, VM_CR, EFER, and that a host CPU needs two pages of ours.
 * Read next: svm/vcpu.c.
 *
 * Source: APM vol. 2, "Enabling SVM" and "SVM Related MSRs".
 */
#include <linux/cc_platform.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>

#include "svm/svm.h"

#define CPUID_SVM_FEATURES	0x8000000a
#define CPUID_EXT_SVM		BIT(2)	/* in ECX of 0x80000001 */
#define VM_CR_LOCK		BIT(3)
#define VM_CR_SVMDIS		BIT(4)

/* Bits of EDX in CPUID_SVM_FEATURES */
#define FEAT_NPT		BIT(0)
#define FEAT_LBRV		BIT(1)
#define FEAT_NRIPS		BIT(3)
#define FEAT_TSC_RATE		BIT(4)
#define FEAT_FLUSH_BY_ASID	BIT(6)
#define FEAT_DECODE_ASSIST	BIT(7)
#define FEAT_PAUSE_FILTER	BIT(10)
#define FEAT_PAUSE_THRESHOLD	BIT(12)

DEFINE_PER_CPU(struct svm_cpu, svm_cpus);
struct mk_caps svm_caps;
bool svm_flush_by_asid, svm_lbrv, svm_pause_filter;
u64 svm_cr4_forced;

/* One bit for each port, set: it exits. All are; 64 Ki ports and three bytes more. */
#define IOPM_ORDER	2
static struct page *iopm;

u64 svm_iopm_pa(void)
{
	return __sme_set(page_to_phys(iopm));
}

static int refuse(struct mk_refusal *refusal, int err, const char *why)
{
	refusal->err = err;
	refusal->why = why;
	return err;
}

int svm_supported(struct mk_refusal *refusal)
{
	u64 vm_cr;

	/* The kernel clears its own flag where firmware locked SVM, so ask the CPU. */
	if (boot_cpu_data.x86_vendor != X86_VENDOR_AMD &&
	    boot_cpu_data.x86_vendor != X86_VENDOR_HYGON)
		return refuse(refusal, -EOPNOTSUPP, "This is no CPU of AMD's kind, and SVM is AMD's.");
	if (cpuid_eax(0x80000000) < CPUID_SVM_FEATURES ||
	    !(cpuid_ecx(0x80000001) & CPUID_EXT_SVM))
		return refuse(refusal, -EOPNOTSUPP,
			      "This CPU has no SVM. In a virtual machine, its host must enable nested virtualization.");
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return refuse(refusal, -EOPNOTSUPP,
			      "An encrypted virtual machine (SEV) cannot run guests of its own.");
	if (!rdmsrl_safe(MSR_VM_CR, &vm_cr) && (vm_cr & VM_CR_SVMDIS))
		return refuse(refusal, -EOPNOTSUPP, vm_cr & VM_CR_LOCK ?
			      "The firmware has disabled and locked SVM: enable it in the firmware's setup." :
			      "SVM is disabled (VM_CR.SVMDIS): enable it in the firmware's setup.");
	if (!(cpuid_edx(CPUID_SVM_FEATURES) & FEAT_NPT))
		return refuse(refusal, -EOPNOTSUPP, "This CPU has SVM, but no nested paging.");
	return 0;
}

static void free_areas(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpus, cpu);

		if (sc->hsave)
			__free_page(sc->hsave);
		if (sc->host)
			__free_page(sc->host);
		sc->hsave = sc->host = NULL;
	}
	if (iopm)
		__free_pages(iopm, IOPM_ORDER);
	iopm = NULL;
}

int svm_setup(struct mk_refusal *refusal)
{
	u32 features = cpuid_edx(CPUID_SVM_FEATURES);
	int cpu;

	svm_flush_by_asid = features & FEAT_FLUSH_BY_ASID;
	svm_lbrv = features & FEAT_LBRV;
	svm_pause_filter = (features & FEAT_PAUSE_FILTER) && (features & FEAT_PAUSE_THRESHOLD);
	/* A machine check that finds MCE clear shuts the CPU down, the host with it. */
	svm_cr4_forced = cr4_read_shadow() & X86_CR4_MCE;
	svm_caps = (struct mk_caps) {
		.tdp_2m = true,
		.tdp_1g = boot_cpu_has(X86_FEATURE_GBPAGES),
		.tdp_ad = true,
		.next_rip = features & FEAT_NRIPS,
		.decode_assist = features & FEAT_DECODE_ASSIST,
		.tpr_shadow = true,
		.tsc_scaling = features & FEAT_TSC_RATE,
		.tsc_frac = SVM_TSC_FRAC,
		.tsc_max_ratio = BIT_ULL(40) - 1,
		.xsaves = boot_cpu_has(X86_FEATURE_XSAVES),
		.rdtscp = boot_cpu_has(X86_FEATURE_RDTSCP),
		.invpcid = boot_cpu_has(X86_FEATURE_INVPCID),
		.umip = boot_cpu_has(X86_FEATURE_UMIP),
		.umip_emulated = !boot_cpu_has(X86_FEATURE_UMIP),
		.pku = boot_cpu_has(X86_FEATURE_OSPKE),
		.tlb_tags = cpuid_ebx(CPUID_SVM_FEATURES),
	};
	/* ASID 0 is the host's. */
	if (svm_caps.tlb_tags < 2)
		return refuse(refusal, -EOPNOTSUPP, "This CPU has no address space identifier for guests.");

	iopm = alloc_pages(GFP_KERNEL, IOPM_ORDER);
	if (!iopm)
		goto nomem;
	memset(page_address(iopm), 0xff, PAGE_SIZE << IOPM_ORDER);
	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpus, cpu);
		int node = cpu_to_node(cpu);

		sc->hsave = alloc_pages_node(node, GFP_KERNEL | __GFP_ZERO, 0);
		sc->host = alloc_pages_node(node, GFP_KERNEL | __GFP_ZERO, 0);
		if (!sc->hsave || !sc->host)
			goto nomem;
	}
	return 0;

nomem:
	free_areas();
	return refuse(refusal, -ENOMEM, "There is no memory for the host save areas.");
}

void svm_teardown(void)
{
	free_areas();
}

int svm_cpu_on(struct mk_refusal *refusal)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpus);
	u64 efer;

	if (svm_supported(refusal))
		return refusal->err;
	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return refuse(refusal, -EBUSY,
			      "Somebody else holds SVM (EFER.SVME is set): modprobe -r kvm_amd, or boot with kvm.enable_virt_at_load=0.");
	if (wrmsrl_safe(MSR_EFER, efer | EFER_SVME))
		return refuse(refusal, -EIO, "The CPU refused EFER.SVME.");
	if (wrmsrl_safe(MSR_VM_HSAVE_PA, __sme_set(page_to_phys(sc->hsave)))) {
		wrmsrl(MSR_EFER, efer);
		return refuse(refusal, -EIO, "The CPU refused the host save area (VM_HSAVE_PA).");
	}

	/* Whoever was here before may have left translations under any ASID. */
	sc->asid_gen++;
	sc->next_asid = svm_caps.tlb_tags;
	if (svm_caps.rdtscp)
		rdmsrl(MSR_TSC_AUX, sc->tsc_aux);
	return 0;
}

void svm_cpu_off(void)
{
	u64 efer;

	/* With GIF clear, INIT and NMIs would stay blocked for ever. */
	svm_stgi();
	wrmsrl_safe(MSR_VM_HSAVE_PA, 0);
	rdmsrl(MSR_EFER, efer);
	wrmsrl_safe(MSR_EFER, efer & ~EFER_SVME);
}
