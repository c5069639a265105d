/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SVM's instructions, and the door to the entry assembly.
 *
 * Knows: the instruction set alone. Read next: hw/svm_enter.S, svm/run.c.
 */
#ifndef MK_HW_SVM_INSN_H
#define MK_HW_SVM_INSN_H

/* Offsets in struct svm_entry; the assembly knows it by these. */
#define SVM_ENTRY_GUEST_PA	0
#define SVM_ENTRY_HOST_PA	8
#define SVM_ENTRY_SPEC_CTRL	16
#define SVM_ENTRY_SPEC_PASSED	24

#ifndef __ASSEMBLY__

#include <linux/build_bug.h>
#include <linux/types.h>
#include <asm/asm.h>

/**
 * struct svm_entry - what an entry needs besides the general registers
 * @guest_pa:    physical address of the guest's VMCB
 * @host_pa:     of the VMCB that holds what VMLOAD restores of the host
 * @spec_ctrl:   guest's IA32_SPEC_CTRL, on CPUs that do not virtualize it
 * @spec_passed: the guest writes that MSR without an exit: read it back
 */
struct svm_entry {
	u64 guest_pa;
	u64 host_pa;
	u64 spec_ctrl;
	bool spec_passed;
};

static_assert(offsetof(struct svm_entry, guest_pa) == SVM_ENTRY_GUEST_PA);
static_assert(offsetof(struct svm_entry, host_pa) == SVM_ENTRY_HOST_PA);
static_assert(offsetof(struct svm_entry, spec_ctrl) == SVM_ENTRY_SPEC_CTRL);
static_assert(offsetof(struct svm_entry, spec_passed) == SVM_ENTRY_SPEC_PASSED);

/**
 * svm_enter - run the guest until it exits
 * @gpr:   general registers by their number; RAX and RSP are in the VMCB
 *
 * Interrupts are off before and after. An NMI that ends the run, or comes
 * meanwhile, has been served by the host when this returns.
 *
 * Return: false if SVM is off on this CPU, and the guest did not run.
 */
bool svm_enter(u64 *gpr, struct svm_entry *entry);

/* What follows must not oops if a reboot has just taken SVM from this CPU. */

/* Save FS, GS, TR, LDTR and the MSRs that go with them to the VMCB at @pa. */
static inline void svm_vmsave(u64 pa)
{
	asm volatile("1: vmsave %0\n2:\n" _ASM_EXTABLE(1b, 2b) : : "a" (pa) : "memory");
}

static inline void svm_stgi(void)
{
	asm volatile("1: stgi\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "memory");
}

/* A machine check that the guest's run uncovered is the host's to handle. */
static inline void svm_host_machine_check(void)
{
	asm volatile("int $18" : : : "memory");
}

#endif /* __ASSEMBLY__ */
#endif
