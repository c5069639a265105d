/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the VT-x backend share.
 *
 *   hw.c     what this CPU can do, VMX operation on and off, the current VMCS
 *   vcpu.c   creation of a VMCS, host state at load and put, MSR bitmap
 *   state.c  register groups between struct mk_cpu and the VMCS
 *   run.c    an entry, and what the exit means
 *
 * May know: floors 0 and 1, backend.h. Read next: hw.c.
 */
#ifndef MK_VMX_VMX_H
#define MK_VMX_VMX_H

#include <linux/list.h>
#include <asm/vmx.h>

#include "backend.h"
#include "hw/vmx_enter.h"
#include "hw/vmx_insn.h"

/*
 * Controls and capabilities, the same on all CPUs; written by setup() alone.
 * The secondary controls include VPID where it is usable; a vCPU that got no
 * VPID leaves it out.
 */
struct vmx_config {
	u64 basic;		/* IA32_VMX_BASIC */
	u64 ept_vpid;		/* IA32_VMX_EPT_VPID_CAP */
	u64 cr0_fixed0, cr4_fixed0;	/* bits that VMX operation wants set */
	u32 pin, primary, secondary, exit, entry;
	bool tpr_shadow;	/* CR8 can be the guest's own, on a page of ours */
	bool virt_apic;		/* there is VMX_VIRT_APIC */
	bool posted_intr;
};

extern struct vmx_config vmx_config;

/* Secondary controls, together: see mk_cpu.virt_apic */
#define VMX_VIRT_APIC	(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |	\
			 SECONDARY_EXEC_APIC_REGISTER_VIRT |		\
			 SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)

#define VMX_TSC_FRAC	48	/* SDM vol. 3C, "TSC multiplier": 16.48 bits */

/*
 * CR0 and CR4 bits that a guest changes without an exit: they change nothing
 * that the hardware does not do by itself, and no CPUID bit forbids them.
 */
#define VMX_CR0_GUEST	(X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP | X86_CR0_AM)
#define VMX_CR4_GUEST	(X86_CR4_TSD | X86_CR4_DE | X86_CR4_PGE | X86_CR4_OSFXSR | \
			 X86_CR4_OSXMMEXCPT)

/* SYSCALL's MSRs, KERNEL_GS_BASE apart. */
struct vmx_syscall_msrs {
	u64 star, lstar, cstar, sfmask;
};

/* The host's, while the guest's are in their place: from the first entry after load() to put(). */
struct vmx_host {
	u64 fs_base, kernel_gs_base;
	u64 tsc_aux, debugctl;
	u16 ds, es, fs, gs, ldt;
};

/*
 * A VMCS and what goes with it: mk_cpu.hw.
 *
 * Owned like the mk_cpu, except link and active_on, which belong to the CPU
 * that the VMCS is active on: changed there only, interrupts off.
 */
/*
 * #DB and #AC can occur endlessly while one of them is delivered, and no interrupt
 * of the host would get in between. #MC is the host's, and #UD may stand for the
 * other vendor's hypercall.
 */
#define VMX_EXCEPTIONS	(BIT(X86_TRAP_DB) | BIT(X86_TRAP_UD) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC))

struct vmx_vcpu {
	struct vmx_entry entry;
	void *vmcs;			/* a page */
	phys_addr_t vmcs_pa;
	struct list_head link;		/* among the VMCSs that are active on a CPU */
	int active_on;			/* that CPU; -1: none, memory holds all of it */
	bool loaded;			/* between load() and put() */
	bool switched;			/* the host's MSRs and selectors are in @host */
	bool controls_changed;		/* TSC_OFFSET and EXCEPTION_BITMAP are to be written */
	bool int3_exits;
	u16 vpid;			/* 0: none */
	u8 *msr_bitmap;			/* a page */
	u8 *apic_page;			/* likewise, for the task priority alone; or NULL */
	u8 *tpr;			/* the priority in that page, while it is in use; or NULL */
	u32 primary_base;		/* without windows */

	/* What the VMCS holds; written only when it changes. */
	u32 primary, secondary, entry_controls, cr8_threshold;
	bool virt_apic;
	u64 eptp;
	u64 host_cr3, host_cr4, host_fs_base;
	/* What the MSRs hold while @switched. */
	struct vmx_syscall_msrs syscall;
	u64 tsc_aux;

	/* CR0 and CR4 as they were last flushed; gives the bits that the guest does not own. */
	u64 cr0, cr4;

	struct vmx_host host;
	u64 fail_qual;			/* of the last failed entry, for describe() */
	u32 fail_reason, fail_insn;
};

/* hw.c */
int vmx_supported(struct mk_refusal *refusal);
int vmx_setup(struct mk_refusal *refusal);
void vmx_teardown(void);
int vmx_cpu_on(struct mk_refusal *refusal);
void vmx_cpu_off(void);
extern struct mk_caps vmx_caps;

/* As the kernel has set them, alike on all CPUs. */
extern struct vmx_syscall_msrs vmx_host_syscall;

/**
 * vmx_make_current - make a VMCS the current one of this CPU
 * @v: whose VMCS
 *
 * Takes it away from another CPU if it is active there.
 * Context: preemption disabled, interrupts on.
 */
void vmx_make_current(struct vmx_vcpu *v);

/* Write the VMCS back to memory, wherever it is active. May sleep. */
void vmx_deactivate(struct vmx_vcpu *v);

/* vcpu.c */
int vmx_vcpu_create(struct mk_cpu *cpu);
void vmx_vcpu_destroy(struct mk_cpu *cpu);
void vmx_load(struct mk_cpu *cpu);
void vmx_put(struct mk_cpu *cpu);
void vmx_pass_msr(struct mk_cpu *cpu, u32 msr, bool read, bool write);
void vmx_set_tsc_offset(struct mk_cpu *cpu, s64 offset);
void vmx_trap_int3(struct mk_cpu *cpu, bool on);
/* Switch secondary controls; the VMCS is current. */
void vmx_set_secondary(struct vmx_vcpu *v, u32 controls, bool on);
void vmx_exit_info(struct mk_cpu *cpu, struct mk_exit_info *info);
/* The guest's MSRs in, the host's out: before the first entry after load(). */
void vmx_switch_in(struct mk_cpu *cpu);

/* state.c */
void vmx_need(struct mk_cpu *cpu, u32 groups);
/* After an exit: what the completion of an instruction needs, RIP, RFLAGS and the shadow. */
void vmx_fetch_insn(struct mk_cpu *cpu);
/* Write the dirty groups to the current VMCS. */
void vmx_flush(struct mk_cpu *cpu);
/* Bring SYSCALL's MSRs from @from to @to, where they differ; *@from follows. */
void vmx_write_syscall_msrs(struct vmx_syscall_msrs *from, const struct vmx_syscall_msrs *to);
/* Load the guest's, and its KERNEL_GS_BASE. */
void vmx_flush_syscall(struct mk_cpu *cpu);

/* run.c */
/* What the mitigations of this host ask of entries; at setup() */
int vmx_mitigations_setup(void);
void vmx_mitigations_teardown(void);

#endif
