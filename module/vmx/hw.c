// SPDX-License-Identifier: GPL-2.0
/*
 * VT-x itself: may this CPU run guests, with which controls; VMX operation on
 * and off; which VMCS is current and which are active on each CPU.
 *
 * A VMCS that was loaded stays active on its CPU, partly in the CPU's own
 * storage, until somebody needs it elsewhere or the CPU leaves VMX operation.
 * That CPU alone may then clear it; so each keeps a list of what is active.
 *
 * May know: floors 0 and 1, backend.h. Read next: vcpu.c.
 * Source: SDM vol. 3, "Discovering Support for VMX", "Enabling and Entering
 * VMX Operation", "VMX Capability Reporting Facility".
 */
#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>

#include "vmx/vmx.h"

/*
 * Posted interrupts are not used. But a CPU that has the rest without them is an
 * emulator's: Bochs 2.7 delivers a virtual interrupt with interrupts off when one of
 * the host's comes, and forgets one whose delivery exits.
 */
static int apicv = -1;
module_param(apicv, int, 0444);
MODULE_PARM_DESC(apicv, "VT-x: the CPU keeps a guest's local APIC in x2APIC mode; -1: if it has posted interrupts, too; needs tpr_shadow");

struct vmx_config vmx_config __ro_after_init;
struct mk_caps vmx_caps;
struct vmx_syscall_msrs vmx_host_syscall;

struct vmx_percpu {
	void *vmxon;			/* a page, or NULL: no memory for this CPU */
	bool on;
	struct vmx_vcpu *current_vcpu;	/* whose VMCS is current; NULL: nobody's we know */
	struct list_head active;	/* struct vmx_vcpu.link; interrupts off */
};
static DEFINE_PER_CPU(struct vmx_percpu, vmx_percpu);

void vmx_insn_failed(const char *insn, unsigned long field)
{
	/* At a reboot VMX goes while guests run; then there is nothing to report. */
	if (!this_cpu_read(vmx_percpu.on))
		return;
	pr_err_once("minikvm: %s of %#lx failed, VM-instruction error %lu\n", insn, field,
		    field == VM_INSTRUCTION_ERROR ? 0 : vmread(VM_INSTRUCTION_ERROR));
}

static int refuse(struct mk_refusal *refusal, int err, const char *why)
{
	refusal->err = err;
	refusal->why = why;
	return err;
}

/**
 * struct control - one 32-bit field of controls
 * @msr:    reports which bits may be 0 (low half) and 1 (high half)
 * @need:   bits that must be 1
 * @like:   bits that are 1 where they can be
 * @refuse: bits that must be 0
 */
struct control {
	u32 msr, need, like, refuse;
};

/* Find a setting for @c; false if this CPU allows none. */
static bool choose(const struct control *c, u32 *out)
{
	u64 cap;

	if (rdmsrl_safe(c->msr, &cap))
		return false;
	*out = ((c->need | c->like) & (cap >> 32)) | (u32)cap;
	return !(c->need & ~*out) && !(c->refuse & *out);
}

/*
 * The MSRs named TRUE exist from the CPUs on that have EPT. With EPT the guest
 * changes CR3 and flushes its TLB as it likes, and the older MSRs would not
 * allow to leave those exits out.
 */
static const struct control pin_control = {
	.msr = MSR_IA32_VMX_TRUE_PINBASED_CTLS,
	.need = PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
};

static const struct control primary_control = {
	.msr = MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
	.need = CPU_BASED_HLT_EXITING | CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING |
		CPU_BASED_RDPMC_EXITING | CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_MOV_DR_EXITING |
		CPU_BASED_UNCOND_IO_EXITING | CPU_BASED_USE_MSR_BITMAPS |
		CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING |
		CPU_BASED_ACTIVATE_SECONDARY_CONTROLS,
	.refuse = CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |
		  CPU_BASED_INVLPG_EXITING | CPU_BASED_RDTSC_EXITING |
		  CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING,
};

static const struct control secondary_control = {
	.msr = MSR_IA32_VMX_PROCBASED_CTLS2,
	.need = SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST,
	.like = SECONDARY_EXEC_ENABLE_VPID | SECONDARY_EXEC_ENABLE_RDTSCP |
		SECONDARY_EXEC_ENABLE_INVPCID | VMCS_CONTROL_BIT(XSAVES) |
		SECONDARY_EXEC_WBINVD_EXITING | SECONDARY_EXEC_ENCLS_EXITING |
		SECONDARY_EXEC_PAUSE_LOOP_EXITING | SECONDARY_EXEC_TSC_SCALING |
		SECONDARY_EXEC_DESC,	/* used under CR4.UMIP alone: flush_cr() */
};

/* "Acknowledge interrupt on exit" stays off: enabling interrupts delivers it to the host. */
static const struct control exit_control = {
	.msr = MSR_IA32_VMX_TRUE_EXIT_CTLS,
	.need = VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_SAVE_DEBUG_CONTROLS |
		VM_EXIT_LOAD_IA32_EFER | VM_EXIT_LOAD_IA32_PAT | VM_EXIT_SAVE_IA32_PAT,
	.refuse = VM_EXIT_ACK_INTR_ON_EXIT,
};

/* IA32E_MODE follows the guest's EFER.LMA. */
static const struct control entry_control = {
	.msr = MSR_IA32_VMX_TRUE_ENTRY_CTLS,
	.need = VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_EFER | VM_ENTRY_LOAD_IA32_PAT,
	.refuse = VM_ENTRY_IA32E_MODE,
};

/* Can VPIDs be used: is there an INVVPID that flushes just one, or all? */
static bool vpid_usable(u64 ept_vpid)
{
	u32 cap = ept_vpid >> 32;

	return (cap & VMX_VPID_INVVPID_BIT) &&
	       (cap & (VMX_VPID_EXTENT_SINGLE_CONTEXT_BIT | VMX_VPID_EXTENT_GLOBAL_CONTEXT_BIT));
}

/* Read what this CPU can do. Changes nothing. */
static int read_config(struct vmx_config *c, struct mk_refusal *refusal)
{
	u64 cap;

	memset(c, 0, sizeof(*c));
	if (rdmsrl_safe(MSR_IA32_VMX_BASIC, &c->basic))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU announces VT-x but does not let its capabilities be read");
	if (!(c->basic & BIT_ULL(55)) || vmx_basic_vmcs_size(c->basic) > PAGE_SIZE)
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's VT-x has no EPT; mini-kvm needs it");
	if (!choose(&pin_control, &c->pin))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's VT-x has no virtual NMIs; mini-kvm needs them");
	if (!choose(&primary_control, &c->primary))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's VT-x lacks MSR bitmaps or secondary controls; mini-kvm needs both");
	if (!choose(&secondary_control, &c->secondary))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's VT-x has no EPT or cannot run a guest without paging (unrestricted guest); mini-kvm needs both");
	if (!choose(&exit_control, &c->exit) || !choose(&entry_control, &c->entry))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's VT-x does not switch EFER and PAT by itself; mini-kvm needs that");

	rdmsrl(MSR_IA32_VMX_TRUE_PROCBASED_CTLS, cap);
	c->tpr_shadow = (cap >> 32) & CPU_BASED_TPR_SHADOW;
	rdmsrl(MSR_IA32_VMX_PROCBASED_CTLS2, cap);
	c->virt_apic = c->tpr_shadow && !(VMX_VIRT_APIC & ~(cap >> 32));
	rdmsrl(MSR_IA32_VMX_TRUE_PINBASED_CTLS, cap);
	c->posted_intr = (cap >> 32) & PIN_BASED_POSTED_INTR;

	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, c->ept_vpid);
	if (!(c->ept_vpid & VMX_EPT_PAGE_WALK_4_BIT) || !(c->ept_vpid & VMX_EPTP_WB_BIT) ||
	    !(c->ept_vpid & VMX_EPT_INVEPT_BIT) ||
	    !(c->ept_vpid & (VMX_EPT_EXTENT_CONTEXT_BIT | VMX_EPT_EXTENT_GLOBAL_BIT)))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's EPT lacks four levels, write-back memory or INVEPT; mini-kvm needs them");
	if (!vpid_usable(c->ept_vpid))
		c->secondary &= ~SECONDARY_EXEC_ENABLE_VPID;

	rdmsrl(MSR_IA32_VMX_CR0_FIXED0, c->cr0_fixed0);
	rdmsrl(MSR_IA32_VMX_CR4_FIXED0, c->cr4_fixed0);
	return 0;
}

int vmx_supported(struct mk_refusal *refusal)
{
	struct vmx_config config;
	u64 feat;

	if (!(cpuid_ecx(1) & BIT(5)))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU has no VT-x, or the hypervisor below hides it");
	if (rdmsrl_safe(MSR_IA32_FEAT_CTL, &feat))
		return refuse(refusal, -EOPNOTSUPP, "IA32_FEATURE_CONTROL cannot be read");
	if ((feat & FEAT_CTL_LOCKED) && !(feat & FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX))
		return refuse(refusal, -EOPNOTSUPP,
			      "the firmware has locked VT-x off: enable virtualization in its setup");
	return read_config(&config, refusal);
}

int vmx_setup(struct mk_refusal *refusal)
{
	int cpu, err;

	err = vmx_supported(refusal);
	if (err)
		return err;
	err = read_config(&vmx_config, refusal);
	if (err)
		return err;

	/* What is read back says what is done. */
	apicv = vmx_config.virt_apic && (apicv < 0 ? vmx_config.posted_intr : apicv);

	vmx_caps = (struct mk_caps) {
		.tdp_2m = vmx_config.ept_vpid & VMX_EPT_2MB_PAGE_BIT,
		.tdp_1g = vmx_config.ept_vpid & VMX_EPT_1GB_PAGE_BIT,
		.tdp_ad = vmx_config.ept_vpid & VMX_EPT_AD_BIT,
		.tdp_exec_only = vmx_config.ept_vpid & VMX_EPT_EXECUTE_ONLY_BIT,
		.next_rip = true,
		.decode_assist = true,
		.tpr_shadow = vmx_config.tpr_shadow,
		.virt_apic = apicv,
		.vnmi = true,
		.xsaves = vmx_config.secondary & VMCS_CONTROL_BIT(XSAVES),
		.rdtscp = vmx_config.secondary & SECONDARY_EXEC_ENABLE_RDTSCP,
		.tsc_scaling = vmx_config.secondary & SECONDARY_EXEC_TSC_SCALING,
		.tsc_frac = VMX_TSC_FRAC,
		.tsc_max_ratio = U64_MAX,
		.invpcid = vmx_config.secondary & SECONDARY_EXEC_ENABLE_INVPCID,
		.umip = boot_cpu_has(X86_FEATURE_UMIP),
		.umip_emulated = !boot_cpu_has(X86_FEATURE_UMIP) &&
				 (vmx_config.secondary & SECONDARY_EXEC_DESC),
		.pku = boot_cpu_has(X86_FEATURE_OSPKE),
		.tlb_tags = vmx_config.secondary & SECONDARY_EXEC_ENABLE_VPID ?
			    VMX_NR_VPIDS - 1 : 0,
	};

	rdmsrl(MSR_STAR, vmx_host_syscall.star);
	rdmsrl(MSR_LSTAR, vmx_host_syscall.lstar);
	rdmsrl(MSR_CSTAR, vmx_host_syscall.cstar);
	rdmsrl(MSR_SYSCALL_MASK, vmx_host_syscall.sfmask);

	for_each_possible_cpu(cpu) {
		struct vmx_percpu *p = per_cpu_ptr(&vmx_percpu, cpu);

		INIT_LIST_HEAD(&p->active);
		p->vmxon = (void *)__get_free_page(GFP_KERNEL | __GFP_ZERO);
		if (!p->vmxon) {
			vmx_teardown();
			return refuse(refusal, -ENOMEM, "no memory for the VMXON regions");
		}
		*(u32 *)p->vmxon = vmx_basic_vmcs_revision_id(vmx_config.basic);
	}

	err = vmx_mitigations_setup();
	if (err) {
		vmx_teardown();
		return refuse(refusal, err, "no memory to flush the L1 data cache with");
	}
	return 0;
}

void vmx_teardown(void)
{
	int cpu;

	vmx_mitigations_teardown();
	for_each_possible_cpu(cpu) {
		free_page((unsigned long)per_cpu(vmx_percpu, cpu).vmxon);
		per_cpu(vmx_percpu, cpu).vmxon = NULL;
	}
}

/* Firmware may have left the choice to us; afterwards it is locked until a reset. */
static int unlock_feature_control(struct mk_refusal *refusal)
{
	u64 feat;

	rdmsrl(MSR_IA32_FEAT_CTL, feat);
	if (feat & FEAT_CTL_LOCKED)
		return 0;
	if (wrmsrl_safe(MSR_IA32_FEAT_CTL,
			feat | FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX))
		return refuse(refusal, -EIO, "IA32_FEATURE_CONTROL refused to enable VT-x");
	return 0;
}

int vmx_cpu_on(struct mk_refusal *refusal)
{
	struct vmx_percpu *p = this_cpu_ptr(&vmx_percpu);
	struct vmx_config config;
	int err;

	if (cr4_read_shadow() & X86_CR4_VMXE)
		return refuse(refusal, -EBUSY,
			      "another hypervisor holds VT-x: run `modprobe -r kvm_intel`, or boot a kernel from 6.12 on with kvm.enable_virt_at_load=0");
	err = vmx_supported(refusal) ?: read_config(&config, refusal);
	if (err)
		return err;
	if (memcmp(&config, &vmx_config, sizeof(config)))
		return refuse(refusal, -EOPNOTSUPP,
			      "this CPU's VT-x is not like that of the CPU the module was loaded on");
	err = unlock_feature_control(refusal);
	if (err)
		return err;

	intel_pt_handle_vmx(1);
	cr4_set_bits(X86_CR4_VMXE);
	if (!vmxon(__pa(p->vmxon))) {
		cr4_clear_bits(X86_CR4_VMXE);
		intel_pt_handle_vmx(0);
		return refuse(refusal, -EIO, "VMXON failed");
	}
	p->on = true;
	p->current_vcpu = NULL;
	/* Mappings of an earlier stay in VMX operation may have survived. */
	if (vmx_config.ept_vpid & VMX_EPT_EXTENT_GLOBAL_BIT)
		invept(VMX_EPT_EXTENT_GLOBAL, 0);
	return 0;
}

/* On the CPU where @v is active, interrupts off. */
static void clear_here(struct vmx_vcpu *v)
{
	struct vmx_percpu *p = this_cpu_ptr(&vmx_percpu);

	if (!vmclear(v->vmcs_pa))
		vmx_insn_failed("VMCLEAR", 0);
	if (p->current_vcpu == v)
		p->current_vcpu = NULL;
	list_del(&v->link);
	v->entry.launched = false;
	/* Whoever sees that it is free sees it cleared. */
	smp_store_release(&v->active_on, -1);
}

static void clear_ipi(void *data)
{
	struct vmx_vcpu *v = data;

	/* It may have been cleared for another reason while the IPI was on its way. */
	if (v->active_on == smp_processor_id())
		clear_here(v);
}

void vmx_cpu_off(void)
{
	struct vmx_percpu *p = this_cpu_ptr(&vmx_percpu);
	struct vmx_vcpu *v, *next;

	if (!p->on)
		return;
	list_for_each_entry_safe(v, next, &p->active, link)
		clear_here(v);
	p->on = false;
	if (!vmxoff())
		pr_err_once("minikvm: VMXOFF failed\n");
	cr4_clear_bits(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
}

void vmx_deactivate(struct vmx_vcpu *v)
{
	int cpu = smp_load_acquire(&v->active_on);

	if (cpu >= 0)
		smp_call_function_single(cpu, clear_ipi, v, true);
}

void vmx_make_current(struct vmx_vcpu *v)
{
	struct vmx_percpu *p = this_cpu_ptr(&vmx_percpu);
	unsigned long flags;

	if (p->current_vcpu == v)
		return;
	if (v->active_on != smp_processor_id()) {
		vmx_deactivate(v);
		local_irq_save(flags);
		list_add(&v->link, &p->active);
		v->active_on = smp_processor_id();
		local_irq_restore(flags);
	}
	if (!vmptrld(v->vmcs_pa))
		vmx_insn_failed("VMPTRLD", 0);
	p->current_vcpu = v;
	/* One guest's branches must not steer the next one's. */
	indirect_branch_prediction_barrier();
}
