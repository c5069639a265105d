// SPDX-License-Identifier: GPL-2.0
/*
 * A VMCS from its creation to its end, and the host state around a guest.
 *
 * An exit by itself restores what is in the VMCS's host-state area. It does
 * not know the host's selectors with a user's privilege level, nor LDTR, the
 * GDT's limit, KERNEL_GS_BASE, SYSCALL's MSRs and TSC_AUX. The kernel can do
 * without these until it switches tasks or returns to userspace; so they are
 * saved at the first entry after load() and restored by put().
 *
 * May know: floors 0 and 1, backend.h. Read next: state.c.
 * Source: SDM vol. 3, "Host-State Area", "Loading Host State".
 */
#include <linux/idr.h>
#include <linux/kvm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/apicdef.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

#include "vmx/vmx.h"

static DEFINE_IDA(vpids);

/* As stock KVM names them, in ticks. */
static uint ple_gap = 128;
module_param(ple_gap, uint, 0444);
MODULE_PARM_DESC(ple_gap, "VT-x: PAUSEs of a loop are no farther apart than this; 0: loops do not exit");
static uint ple_window = 4096;
module_param(ple_window, uint, 0444);
MODULE_PARM_DESC(ple_window, "VT-x: a loop of PAUSEs exits after this");

/* The same on each CPU and for the whole life of the VMCS. */
static void write_host_constants(struct vmx_vcpu *v)
{
	struct desc_ptr idt;
	u64 msr;

	store_idt(&idt);
	vmwrite(HOST_IDTR_BASE, idt.address);
	vmwrite(HOST_CR0, read_cr0());
	v->host_cr3 = __get_current_cr3_fast();
	vmwrite(HOST_CR3, v->host_cr3);
	v->host_cr4 = cr4_read_shadow();
	vmwrite(HOST_CR4, v->host_cr4);
	vmwrite(HOST_FS_BASE, v->host_fs_base);
	vmwrite(HOST_RIP, (unsigned long)vmx_exit_landing);

	/* No selector may have a user's RPL; switch_out() restores those. */
	vmwrite(HOST_CS_SELECTOR, __KERNEL_CS);
	vmwrite(HOST_SS_SELECTOR, __KERNEL_DS);
	vmwrite(HOST_DS_SELECTOR, 0);
	vmwrite(HOST_ES_SELECTOR, 0);
	vmwrite(HOST_FS_SELECTOR, 0);
	vmwrite(HOST_GS_SELECTOR, 0);
	vmwrite(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);

	rdmsrl(MSR_IA32_SYSENTER_CS, msr);
	vmwrite(HOST_IA32_SYSENTER_CS, msr);
	rdmsrl(MSR_IA32_SYSENTER_EIP, msr);
	vmwrite(HOST_IA32_SYSENTER_EIP, msr);
	rdmsrl(MSR_IA32_CR_PAT, msr);
	vmwrite(HOST_IA32_PAT, msr);
	rdmsrl(MSR_EFER, msr);
	vmwrite(HOST_IA32_EFER, msr);
}

/* What differs from one host CPU to the next. */
static void write_host_cpu(void)
{
	unsigned int cpu = smp_processor_id();
	u64 msr;

	vmwrite(HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss);
	vmwrite(HOST_GDTR_BASE, (unsigned long)get_cpu_gdt_ro(cpu));
	rdmsrl(MSR_GS_BASE, msr);
	vmwrite(HOST_GS_BASE, msr);
	rdmsrl(MSR_IA32_SYSENTER_ESP, msr);
	vmwrite(HOST_IA32_SYSENTER_ESP, msr);
}

static void write_controls(struct vmx_vcpu *v, u32 exits_off)
{
	u32 secondary = vmx_config.secondary & ~SECONDARY_EXEC_DESC;

	if (!v->vpid)
		secondary &= ~SECONDARY_EXEC_ENABLE_VPID;
	if (!ple_gap || (exits_off & KVM_X86_DISABLE_EXITS_PAUSE))
		secondary &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;

	v->primary_base = vmx_config.primary;
	if (exits_off & KVM_X86_DISABLE_EXITS_HLT)
		v->primary_base &= ~CPU_BASED_HLT_EXITING;
	if (exits_off & KVM_X86_DISABLE_EXITS_MWAIT)
		v->primary_base &= ~(CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING);
	if (v->apic_page) {
		v->primary_base &= ~(CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING);
		v->primary_base |= CPU_BASED_TPR_SHADOW;
		v->tpr = v->apic_page + APIC_TASKPRI;
		vmwrite(VIRTUAL_APIC_PAGE_ADDR, __pa(v->apic_page));
		vmwrite(TPR_THRESHOLD, 0);
	}
	v->primary = v->primary_base;
	v->secondary = secondary;
	v->entry_controls = vmx_config.entry;
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, vmx_config.pin);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, v->primary);
	vmwrite(SECONDARY_VM_EXEC_CONTROL, secondary);
	vmwrite(VM_EXIT_CONTROLS, vmx_config.exit);
	vmwrite(VM_ENTRY_CONTROLS, v->entry_controls);

	if (v->vpid)
		vmwrite(VIRTUAL_PROCESSOR_ID, v->vpid);
	if (secondary & SECONDARY_EXEC_PAUSE_LOOP_EXITING) {
		vmwrite(PLE_GAP, ple_gap);
		vmwrite(PLE_WINDOW, ple_window);
	}
	if (secondary & VMCS_CONTROL_BIT(XSAVES))
		vmwrite(XSS_EXIT_BITMAP, 0);
	if (secondary & SECONDARY_EXEC_ENCLS_EXITING)
		vmwrite(ENCLS_EXITING_BITMAP, ~0ul);
	vmwrite(MSR_BITMAP, __pa(v->msr_bitmap));
	vmwrite(TSC_OFFSET, 0);
	if (secondary & SECONDARY_EXEC_TSC_SCALING)
		vmwrite(TSC_MULTIPLIER, BIT_ULL(VMX_TSC_FRAC));

	vmwrite(EXCEPTION_BITMAP, VMX_EXCEPTIONS);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
	vmwrite(CR0_GUEST_HOST_MASK, ~VMX_CR0_GUEST);
	vmwrite(CR4_GUEST_HOST_MASK, ~VMX_CR4_GUEST);

	vmwrite(VMCS_LINK_POINTER, ~0ul);
	vmwrite(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	vmwrite(GUEST_PENDING_DBG_EXCEPTIONS, 0);
}

void vmx_set_secondary(struct vmx_vcpu *v, u32 controls, bool on)
{
	u32 secondary = on ? v->secondary | controls : v->secondary & ~controls;

	if (secondary != v->secondary) {
		v->secondary = secondary;
		vmwrite(SECONDARY_VM_EXEC_CONTROL, secondary);
	}
}

int vmx_vcpu_create(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	int vpid = 0;

	if (!v)
		return -ENOMEM;
	INIT_LIST_HEAD(&v->link);
	v->active_on = -1;
	v->vmcs = (void *)__get_free_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	v->msr_bitmap = (void *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (cpu->cr8_free)
		v->apic_page = (void *)__get_free_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!v->vmcs || !v->msr_bitmap || (cpu->cr8_free && !v->apic_page))
		goto no_memory;
	memset(v->msr_bitmap, 0xff, PAGE_SIZE);
	v->vmcs_pa = __pa(v->vmcs);
	*(u32 *)v->vmcs = vmx_basic_vmcs_revision_id(vmx_config.basic);

	/* With all VPIDs taken it still runs, and flushes its TLB at each entry and exit. */
	if (vmx_config.secondary & SECONDARY_EXEC_ENABLE_VPID)
		vpid = ida_alloc_range(&vpids, 1, VMX_NR_VPIDS - 1, GFP_KERNEL);
	v->vpid = max(vpid, 0);

	preempt_disable();
	if (!vmclear(v->vmcs_pa)) {
		preempt_enable();
		cpu->hw = v;
		vmx_vcpu_destroy(cpu);
		return -EIO;
	}
	vmx_make_current(v);
	write_host_constants(v);
	write_controls(v, cpu->exits_off);
	preempt_enable();

	cpu->hw = v;
	cpu->host_cpu = -1;
	return 0;

no_memory:
	free_page((unsigned long)v->apic_page);
	free_page((unsigned long)v->msr_bitmap);
	free_page((unsigned long)v->vmcs);
	kfree(v);
	return -ENOMEM;
}

void vmx_vcpu_destroy(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;

	vmx_deactivate(v);
	if (v->vpid)
		ida_free(&vpids, v->vpid);
	free_page((unsigned long)v->apic_page);
	free_page((unsigned long)v->msr_bitmap);
	free_page((unsigned long)v->vmcs);
	kfree(v);
	cpu->hw = NULL;
}

void vmx_load(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	u64 eptp = cpu->tdp_root | VMX_EPTP_MT_WB | VMX_EPTP_PWL_4 |
		   (vmx_caps.tdp_ad ? VMX_EPTP_AD_ENABLE_BIT : 0);

	vmx_make_current(v);
	if (cpu->host_cpu != smp_processor_id()) {
		write_host_cpu();
		cpu->host_cpu = smp_processor_id();
		/* What an earlier stay on this CPU has cached, of us or of somebody with our tags. */
		cpu->flush |= MK_FLUSH_GUEST | MK_FLUSH_TDP;
	}
	if (eptp != v->eptp) {
		v->eptp = eptp;
		vmwrite(EPT_POINTER, eptp);
	}
	v->loaded = true;
}

void vmx_switch_in(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	struct vmx_host *h = &v->host;

	savesegment(ds, h->ds);
	savesegment(es, h->es);
	savesegment(fs, h->fs);
	savesegment(gs, h->gs);
	store_ldt(h->ldt);

	h->fs_base = x86_fsbase_read_cpu();
	if (h->fs_base != v->host_fs_base) {
		v->host_fs_base = h->fs_base;
		vmwrite(HOST_FS_BASE, h->fs_base);
	}
	rdmsrl(MSR_KERNEL_GS_BASE, h->kernel_gs_base);
	v->syscall = vmx_host_syscall;
	vmx_flush_syscall(cpu);
	if (vmx_caps.rdtscp) {
		rdmsrl(MSR_TSC_AUX, h->tsc_aux);
		v->tsc_aux = h->tsc_aux;
	}
	/* Exits clear it; run() restores it. */
	h->debugctl = get_debugctlmsr();
	v->switched = true;
}

static void switch_out(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;
	struct vmx_host *h = &v->host;

	v->switched = false;

	/* The guest may have changed this one without an exit. */
	if (!(cpu->dirty & MK_G_SYSCALL))
		rdmsrl(MSR_KERNEL_GS_BASE, cpu->kernel_gs_base);

	if (h->ldt)
		asm volatile("lldt %0" : : "m" (h->ldt));
	if (h->fs) {
		loadsegment(fs, h->fs);
		wrmsrl(MSR_FS_BASE, h->fs_base);
	}
	if (h->gs)
		load_gs_index(h->gs);
	if (h->ds)
		loadsegment(ds, h->ds);
	if (h->es)
		loadsegment(es, h->es);

	wrmsrl(MSR_KERNEL_GS_BASE, h->kernel_gs_base);
	vmx_write_syscall_msrs(&v->syscall, &vmx_host_syscall);
	if (vmx_caps.rdtscp && v->tsc_aux != h->tsc_aux)
		wrmsrl(MSR_TSC_AUX, h->tsc_aux);

	/* The exit left the smallest TSS without I/O bitmap, and a GDT of 64 KiB. */
	invalidate_tss_limit();
	load_fixmap_gdt(smp_processor_id());
}

void vmx_put(struct mk_cpu *cpu)
{
	struct vmx_vcpu *v = cpu->hw;

	if (v->switched)
		switch_out(cpu);
	v->loaded = false;
}

/*
 * The bitmap has four parts of 1 KiB: reads of MSRs from 0 and from
 * 0xc0000000, then writes of both. A set bit means an exit; all other MSRs
 * always exit. Source: SDM vol. 3, "MSR-Bitmap Address".
 */
void vmx_pass_msr(struct mk_cpu *cpu, u32 msr, bool read, bool write)
{
	struct vmx_vcpu *v = cpu->hw;
	u32 bit = msr & 0x1fff;
	u8 *part = v->msr_bitmap;

	if (msr - 0xc0000000 < 0x2000)
		part += 1024;
	else if (msr >= 0x2000)
		return;

	switch (msr) {
	case MSR_STAR:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_SYSCALL_MASK:
	case MSR_TSC_AUX:
	case MSR_EFER:
	case MSR_IA32_XSS:
		/* So rarely written that reading them back after each run would cost more. */
		write = false;
		break;
	case MSR_IA32_SPEC_CTRL:
		v->entry.spec_read = write;
		break;
	}

	if (read)
		part[bit / 8] &= ~BIT(bit % 8);
	else
		part[bit / 8] |= BIT(bit % 8);
	part += 2048;
	if (write)
		part[bit / 8] &= ~BIT(bit % 8);
	else
		part[bit / 8] |= BIT(bit % 8);
}

void vmx_set_tsc_offset(struct mk_cpu *cpu, s64 offset)
{
	struct vmx_vcpu *v = cpu->hw;

	cpu->tsc_offset = offset;
	v->controls_changed = true;
}

void vmx_exit_info(struct mk_cpu *cpu, struct mk_exit_info *info)
{
	info->info1 = vmread(EXIT_QUALIFICATION);
	info->info2 = vmread(IDT_VECTORING_INFO_FIELD);
	info->intr_info = vmread(VM_EXIT_INTR_INFO);
	info->error_code = vmread(VM_EXIT_INTR_ERROR_CODE);
}

void vmx_trap_int3(struct mk_cpu *cpu, bool on)
{
	struct vmx_vcpu *v = cpu->hw;

	v->int3_exits = on;
	v->controls_changed = true;
}
