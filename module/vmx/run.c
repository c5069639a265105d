// SPDX-License-Identifier: GPL-2.0
/*
 * One run of the guest, and what its end means in neutral words.
 *
 * May know: floors 0 and 1, backend.h. Read next: hw/vmx_enter.S.
 * Source: SDM vol. 3, "VM Entries", "VM Exits", "Basic VM-Exit Information",
 * "Exit Qualification", appendix "VMX Basic Exit Reasons".
 */
#include <linux/jump_label.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/string_helpers.h>
#include <asm/apicdef.h>
#include <asm/debugreg.h>
#include <asm/mce.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

#include "hw/compat.h"
#include "vmx/vmx.h"

static_assert(offsetof(struct vmx_entry, host_rsp) == VMX_ENTRY_HOST_RSP);
static_assert(offsetof(struct vmx_entry, spec_guest) == VMX_ENTRY_SPEC_GUEST);
static_assert(offsetof(struct vmx_entry, spec_host) == VMX_ENTRY_SPEC_HOST);
static_assert(offsetof(struct vmx_entry, launched) == VMX_ENTRY_LAUNCHED);
static_assert(offsetof(struct vmx_entry, spec_read) == VMX_ENTRY_SPEC_READ);
static_assert(HOST_RSP == VMX_FIELD_HOST_RSP);

/* Groups that an exit leaves as they are: all that changes them exits. */
#define ALWAYS_VALID	(MK_G_EFER | MK_G_DR)

/*
 * L1 terminal fault: on an affected CPU the guest can read what the host left
 * in the first data cache, unless it is flushed before each entry. CPUs
 * without the command for that get 64 KiB of zeroes read in its place.
 */
#define L1D_FILL_ORDER	4
static DEFINE_STATIC_KEY_FALSE(l1d_flush);
static u8 *l1d_fill;

int vmx_mitigations_setup(void)
{
	struct page *pages;
	u64 arch_cap = 0;

	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrl(MSR_IA32_ARCH_CAPABILITIES, arch_cap);
	if (!boot_cpu_has_bug(X86_BUG_L1TF) || l1tf_mitigation == L1TF_MITIGATION_OFF ||
	    (arch_cap & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH))
		return 0;
	if (!boot_cpu_has(X86_FEATURE_FLUSH_L1D)) {
		pages = alloc_pages(GFP_KERNEL | __GFP_ZERO, L1D_FILL_ORDER);
		if (!pages)
			return -ENOMEM;
		l1d_fill = page_address(pages);
	}
	static_branch_enable(&l1d_flush);
	return 0;
}

void vmx_mitigations_teardown(void)
{
	static_branch_disable(&l1d_flush);
	free_pages((unsigned long)l1d_fill, L1D_FILL_ORDER);
	l1d_fill = NULL;
}

static void describe_mitigations(char *buf, size_t size)
{
	scnprintf(buf, size,
		  "L1D flush before each entry: %s\n"
		  "CPU buffers cleared before each entry: %s\n"
		  "IA32_SPEC_CTRL switched with the guest: %s\n"
		  "return stack filled after each exit: %s\n"
		  "branch history cleared after each exit: %s\n"
		  "branch predictor barrier between guests: %s\n",
		  !static_key_enabled(&l1d_flush) ? "no" : l1d_fill ? "by reading" : "by command",
		  str_yes_no(boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF) ||
			     static_key_enabled(&mmio_stale_data_clear)),
		  str_yes_no(boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL)),
		  boot_cpu_has(X86_FEATURE_RSB_VMEXIT) ? "yes" :
		  boot_cpu_has(X86_FEATURE_RSB_VMEXIT_LITE) ? "one entry" : "no",
		  str_yes_no(boot_cpu_has(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT)),
		  str_yes_no(boot_cpu_has(X86_FEATURE_USE_IBPB)));
}

static noinstr void flush_l1d(void)
{
	size_t i;

	if (!l1d_fill) {
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return;
	}
	for (i = 0; i < PAGE_SIZE << L1D_FILL_ORDER; i += 64)
		READ_ONCE(l1d_fill[i]);
}

/* true if the entry failed as an instruction: no exit, no exit reason. */
static noinstr bool enter(struct mk_cpu *cpu, struct vmx_vcpu *v, struct mk_exit *x)
{
	bool failed;

	mk_guest_enter_irqoff();

	if (static_branch_unlikely(&l1d_flush))
		flush_l1d();
	else if (static_branch_unlikely(&mmio_stale_data_clear))
		x86_clear_cpu_buffers();
	if (cpu->cr2 != native_read_cr2())
		native_write_cr2(cpu->cr2);

	failed = vmx_enter(cpu->gpr, &v->entry);

	cpu->cr2 = native_read_cr2();
	x->kind = MK_EXIT_NONE;
	if (likely(!failed)) {
		x->hw = vmread(VM_EXIT_REASON);
		if (x->hw == EXIT_REASON_EXCEPTION_NMI &&
		    (vmread(VM_EXIT_INTR_INFO) & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
			/* NMIs stay blocked until the host has handled this one. */
			x->kind = MK_EXIT_NMI;
			vmx_host_nmi();
		}
	}

	mk_guest_exit_irqoff();
	return failed;
}

static void flush_tlb(struct mk_cpu *cpu, struct vmx_vcpu *v)
{
	if (cpu->flush & MK_FLUSH_TDP) {
		if (vmx_config.ept_vpid & VMX_EPT_EXTENT_CONTEXT_BIT)
			invept(VMX_EPT_EXTENT_CONTEXT, v->eptp);
		else
			invept(VMX_EPT_EXTENT_GLOBAL, 0);
	}
	/* Without a VPID each entry does it. */
	if ((cpu->flush & MK_FLUSH_GUEST) && v->vpid) {
		if ((vmx_config.ept_vpid >> 32) & VMX_VPID_EXTENT_SINGLE_CONTEXT_BIT)
			invvpid(VMX_VPID_EXTENT_SINGLE_CONTEXT, v->vpid);
		else
			invvpid(VMX_VPID_EXTENT_ALL_CONTEXT, 0);
	}
	cpu->flush = 0;
}

static void inject(struct mk_cpu *cpu, struct vmx_vcpu *v)
{
	static const u32 type[] = {
		[MK_EV_INTR] = INTR_TYPE_EXT_INTR,
		[MK_EV_NMI] = INTR_TYPE_NMI_INTR | X86_TRAP_NMI,
		[MK_EV_EXCEPTION] = INTR_TYPE_HARD_EXCEPTION,
		[MK_EV_INT_N] = INTR_TYPE_SOFT_INTR,
		[MK_EV_INT3] = INTR_TYPE_SOFT_EXCEPTION,
		[MK_EV_INT1] = INTR_TYPE_PRIV_SW_EXCEPTION,
	};
	const struct mk_event *ev = &cpu->inject;
	u32 info = INTR_INFO_VALID_MASK | type[ev->type] | ev->vector;

	/* Real mode knows no error codes, and an entry refuses them. */
	if (ev->has_error && (v->cr0 & X86_CR0_PE)) {
		info |= INTR_INFO_DELIVER_CODE_MASK;
		vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, ev->error);
	}
	if (mk_event_of_insn(ev))
		vmwrite(VM_ENTRY_INSTRUCTION_LEN, ev->len);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, info);
}

/* What may change between two runs without anybody's telling us. */
static void follow_host(struct vmx_vcpu *v)
{
	unsigned long cr3 = __get_current_cr3_fast();
	unsigned long cr4 = cr4_read_shadow();

	if (unlikely(cr3 != v->host_cr3)) {
		v->host_cr3 = cr3;
		vmwrite(HOST_CR3, cr3);
	}
	if (unlikely(cr4 != v->host_cr4)) {
		v->host_cr4 = cr4;
		vmwrite(HOST_CR4, cr4);
	}
}

/* SDM vol. 3C, "Virtualizing CR8-Based TPR Accesses" */
static void set_cr8(struct mk_cpu *cpu, struct vmx_vcpu *v)
{
	*v->tpr = cpu->cr8 << 4;
	if (unlikely(cpu->cr8_threshold != v->cr8_threshold)) {
		v->cr8_threshold = cpu->cr8_threshold;
		vmwrite(TPR_THRESHOLD, v->cr8_threshold);
	}
}

/* The CPU takes over the guest's local APIC, or gives it back. */
static void switch_virt_apic(struct mk_cpu *cpu, struct vmx_vcpu *v)
{
	v->virt_apic = cpu->virt_apic;
	v->tpr = v->virt_apic ? NULL : v->apic_page + APIC_TASKPRI;
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, __pa(v->virt_apic ? cpu->apic_regs : v->apic_page));
	vmx_set_secondary(v, VMX_VIRT_APIC, v->virt_apic);
}

/* SDM vol. 3C, "Guest Non-Register State" (guest interrupt status), "EOI-Exit Bitmap" */
static void load_virt_apic(struct mk_cpu *cpu)
{
	int i;

	if (cpu->apic_changed & MK_APIC_STATUS)
		vmwrite(GUEST_INTR_STATUS, cpu->apic_isr << 8 | cpu->apic_irr);
	if (cpu->apic_changed & MK_APIC_EOIS)
		for (i = 0; i < ARRAY_SIZE(cpu->apic_eois); i++)
			vmwrite(EOI_EXIT_BITMAP0 + 2 * i, cpu->apic_eois[i]);
	cpu->apic_changed = 0;
}

static void prepare(struct mk_cpu *cpu, struct vmx_vcpu *v)
{
	u32 primary = v->primary_base |
		      (cpu->irq_window ? CPU_BASED_INTR_WINDOW_EXITING : 0) |
		      (cpu->nmi_window ? CPU_BASED_NMI_WINDOW_EXITING : 0);

	if (unlikely(!v->switched))
		vmx_switch_in(cpu);
	/* Of a guest that halts by itself the CPU keeps that it does: this ends it. */
	if (unlikely(cpu->exits_off & KVM_X86_DISABLE_EXITS_HLT) &&
	    (cpu->inject.type || cpu->dirty))
		vmwrite(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	if (cpu->dirty)
		vmx_flush(cpu);
	if (unlikely(primary != v->primary)) {
		v->primary = primary;
		vmwrite(CPU_BASED_VM_EXEC_CONTROL, primary);
	}
	if (unlikely(cpu->virt_apic != v->virt_apic))
		switch_virt_apic(cpu, v);
	if (v->tpr)
		set_cr8(cpu, v);
	else if (v->virt_apic)
		load_virt_apic(cpu);
	if (unlikely(cpu->flush))
		flush_tlb(cpu, v);
	if (unlikely(v->controls_changed)) {
		v->controls_changed = false;
		vmwrite(TSC_OFFSET, cpu->tsc_offset);
		if (vmx_caps.tsc_scaling)
			vmwrite(TSC_MULTIPLIER, cpu->tsc_ratio ?: BIT_ULL(VMX_TSC_FRAC));
		vmwrite(EXCEPTION_BITMAP, VMX_EXCEPTIONS | (v->int3_exits ? BIT(X86_TRAP_BP) : 0));
	}
	if (unlikely(cpu->tsc_aux != v->tsc_aux) && vmx_caps.rdtscp) {
		v->tsc_aux = cpu->tsc_aux;
		wrmsrl(MSR_TSC_AUX, v->tsc_aux);
	}
	if (cpu->inject.type)
		inject(cpu, v);
	if (unlikely(cpu->dr7 & (DR_GLOBAL_ENABLE_MASK | DR_LOCAL_ENABLE_MASK)))
		for (int i = 0; i < 4; i++)
			set_debugreg(cpu->dr[i], i);
	follow_host(v);
	if (cpu_feature_enabled(X86_FEATURE_MSR_SPEC_CTRL)) {
		v->entry.spec_guest = cpu->spec_ctrl;
		v->entry.spec_host = this_cpu_read(x86_spec_ctrl_current);
	}
}

/* How an exit reason is to be read. */
#define LEN	BIT(0)	/* an instruction caused it, whose length is known */
#define VEC	BIT(1)	/* it may have cut short the delivery of an event */
#define MORE	BIT(2)	/* there is more to read about it */

static const struct {
	u8 kind;
	u8 flags;
} reasons[] = {
	[EXIT_REASON_EXCEPTION_NMI]	= { MK_EXIT_EXCEPTION, VEC | MORE },
	[EXIT_REASON_EXTERNAL_INTERRUPT] = { MK_EXIT_INTR },
	[EXIT_REASON_TRIPLE_FAULT]	= { MK_EXIT_TRIPLE_FAULT },
	[EXIT_REASON_INIT_SIGNAL]	= { MK_EXIT_INIT },
	[5]				= { MK_EXIT_SMI },	/* SMI at an I/O instruction */
	[6]				= { MK_EXIT_SMI },	/* any other SMI */
	[EXIT_REASON_INTERRUPT_WINDOW]	= { MK_EXIT_IRQ_WINDOW },
	[EXIT_REASON_NMI_WINDOW]	= { MK_EXIT_NMI_WINDOW },
	[EXIT_REASON_TASK_SWITCH]	= { MK_EXIT_TASK_SWITCH, LEN | VEC | MORE },
	[EXIT_REASON_CPUID]		= { MK_EXIT_CPUID, LEN },
	[11]				= { MK_EXIT_UNDEFINED, LEN },	/* GETSEC */
	[EXIT_REASON_HLT]		= { MK_EXIT_HLT, LEN },
	[EXIT_REASON_INVD]		= { MK_EXIT_INVD, LEN },
	[EXIT_REASON_RDPMC]		= { MK_EXIT_RDPMC, LEN },
	[EXIT_REASON_VMCALL]		= { MK_EXIT_HYPERCALL, LEN },
	[EXIT_REASON_VMCLEAR]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMLAUNCH]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMPTRLD]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMPTRST]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMREAD]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMRESUME]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMWRITE]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMOFF]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_VMON]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_CR_ACCESS]		= { MK_EXIT_CR, LEN | MORE },
	[EXIT_REASON_DR_ACCESS]		= { MK_EXIT_DR, LEN | MORE },
	[EXIT_REASON_IO_INSTRUCTION]	= { MK_EXIT_IO, LEN | MORE },
	[EXIT_REASON_MSR_READ]		= { MK_EXIT_RDMSR, LEN },
	[EXIT_REASON_MSR_WRITE]		= { MK_EXIT_WRMSR, LEN },
	[EXIT_REASON_MWAIT_INSTRUCTION]	= { MK_EXIT_MWAIT, LEN },
	[EXIT_REASON_MONITOR_INSTRUCTION] = { MK_EXIT_MONITOR, LEN },
	/* Behind the MOV to CR8 that lets in what waits. */
	[EXIT_REASON_TPR_BELOW_THRESHOLD] = { MK_EXIT_IRQ_WINDOW },
	[EXIT_REASON_PAUSE_INSTRUCTION]	= { MK_EXIT_PAUSE, LEN },
	[EXIT_REASON_EOI_INDUCED]	= { MK_EXIT_EOI, MORE },
	[EXIT_REASON_GDTR_IDTR]		= { MK_EXIT_TABLE },
	[EXIT_REASON_LDTR_TR]		= { MK_EXIT_TABLE },
	[EXIT_REASON_EPT_VIOLATION]	= { MK_EXIT_TDP_FAULT, VEC | MORE },
	[EXIT_REASON_EPT_MISCONFIG]	= { MK_EXIT_TDP_MISCONFIG, VEC | MORE },
	[EXIT_REASON_INVEPT]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_INVVPID]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_WBINVD]		= { MK_EXIT_WBINVD, LEN },
	[EXIT_REASON_XSETBV]		= { MK_EXIT_XSETBV, LEN },
	[EXIT_REASON_APIC_WRITE]	= { MK_EXIT_APIC_WRITE, MORE },
	[EXIT_REASON_VMFUNC]		= { MK_EXIT_UNDEFINED, LEN },
	[EXIT_REASON_ENCLS]		= { MK_EXIT_UNDEFINED, LEN },
};

static void change_interruptibility(u32 clear, u32 set)
{
	vmwrite(GUEST_INTERRUPTIBILITY_INFO,
		(vmread(GUEST_INTERRUPTIBILITY_INFO) & ~clear) | set);
}

/* Keep the event whose delivery this exit cut short. Was there one? */
static bool take_vectoring(struct mk_cpu *cpu)
{
	struct mk_event *ev = &cpu->vectoring;
	u32 info = vmread(IDT_VECTORING_INFO_FIELD);

	if (!(info & VECTORING_INFO_VALID_MASK))
		return false;

	ev->vector = info & VECTORING_INFO_VECTOR_MASK;
	ev->has_error = false;
	switch (info & VECTORING_INFO_TYPE_MASK) {
	case INTR_TYPE_EXT_INTR:
		ev->type = MK_EV_INTR;
		break;
	case INTR_TYPE_NMI_INTR:
		ev->type = MK_EV_NMI;
		/* It blocks NMIs once it is delivered; until then it must not block itself. */
		change_interruptibility(GUEST_INTR_STATE_NMI, 0);
		break;
	case INTR_TYPE_HARD_EXCEPTION:
		ev->type = MK_EV_EXCEPTION;
		if (info & VECTORING_INFO_DELIVER_CODE_MASK) {
			ev->has_error = true;
			ev->error = vmread(IDT_VECTORING_ERROR_CODE);
		}
		break;
	case INTR_TYPE_SOFT_INTR:
		ev->type = MK_EV_INT_N;
		break;
	case INTR_TYPE_SOFT_EXCEPTION:
		ev->type = MK_EV_INT3;
		break;
	case INTR_TYPE_PRIV_SW_EXCEPTION:
		ev->type = MK_EV_INT1;
		break;
	}
	if (mk_event_of_insn(ev))
		ev->len = vmread(VM_EXIT_INSTRUCTION_LEN);
	return true;
}

/*
 * An IRET that faults has already ended the blocking of NMIs, though its
 * interrupt handler has not been left: SDM, "Resuming Guest Software after
 * Handling an Exception". Both the interruption information of an exception
 * and the qualification of an EPT violation say so in this bit.
 */
static void reblock_nmi(u32 info, bool vectoring)
{
	if ((info & INTR_INFO_UNBLOCK_NMI) && !vectoring)
		change_interruptibility(0, GUEST_INTR_STATE_NMI);
}

/* Out of line: its pt_regs would burden the stack of every exit. */
static noinline void host_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	/* As from user mode: the guest was hit, and the host's kernel can go on. */
	struct pt_regs regs = { .cs = 3, .flags = X86_EFLAGS_IF };

	do_machine_check(&regs);
#endif
}

static void read_exception(struct mk_exit *x, bool vectoring)
{
	u32 info = vmread(VM_EXIT_INTR_INFO);
	u8 vector = info & INTR_INFO_VECTOR_MASK;

	if (vector == X86_TRAP_MC) {
		x->kind = MK_EXIT_NMI;	/* likewise the host's, and it has it now */
		host_machine_check();
		return;
	}
	/* A double fault says nothing of the IRET before. */
	if (vector != X86_TRAP_DF)
		reblock_nmi(info, vectoring);

	x->ex.vector = vector;
	x->ex.has_error = info & INTR_INFO_DELIVER_CODE_MASK;
	x->ex.error = x->ex.has_error ? vmread(VM_EXIT_INTR_ERROR_CODE) : 0;
	x->ex.dr6 = 0;
	if (vector == X86_TRAP_DB) {
		x->ex.dr6 = vmread(EXIT_QUALIFICATION) & (DR_TRAP_BITS | BIT(13) | DR_STEP);
		/* #DB of INT1 is a trap, yet RIP is still before it. */
		if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_PRIV_SW_EXCEPTION)
			vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LEN));
	}
}

static void read_tdp_fault(struct mk_exit *x, bool vectoring)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	reblock_nmi(qual, vectoring);
	x->gpa = vmread(GUEST_PHYSICAL_ADDRESS);
	x->access = (qual & EPT_VIOLATION_ACC_READ ? MK_TDP_READ : 0) |
		    (qual & EPT_VIOLATION_ACC_WRITE ? MK_TDP_WRITE : 0) |
		    (qual & EPT_VIOLATION_ACC_INSTR ? MK_TDP_EXEC : 0) |
		    (qual & EPT_VIOLATION_RWX_MASK ? MK_TDP_PRESENT : 0) |
		    (qual & EPT_VIOLATION_GVA_TRANSLATED ? MK_TDP_FINAL : 0);
}

static void read_cr(struct mk_exit *x)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	static_assert(MK_MOV_TO == 0 && MK_MOV_FROM == 1 && MK_CLTS == 2 && MK_LMSW == 3);
	x->cr.nr = qual & 15;
	x->cr.access = (qual >> 4) & 3;
	x->cr.gpr = (qual >> 8) & 15;
	x->cr.lmsw = qual >> LMSW_SOURCE_DATA_SHIFT;
}

static void read_dr(struct mk_exit *x)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	x->cr.nr = qual & DEBUG_REG_ACCESS_NUM;
	x->cr.access = qual & TYPE_MOV_FROM_DR ? MK_MOV_FROM : MK_MOV_TO;
	x->cr.gpr = DEBUG_REG_ACCESS_REG(qual);
}

static void read_io(struct mk_exit *x)
{
	u64 qual = vmread(EXIT_QUALIFICATION);

	x->io.size = (qual & 7) + 1;
	x->io.in = qual & BIT(3);
	x->io.string = qual & BIT(4);
	x->io.rep = qual & BIT(5);
	x->io.port = qual >> 16;
}

/* The guest was not entered; an event that waited for it still does. */
static void fail_entry(struct mk_cpu *cpu, struct vmx_vcpu *v, struct mk_exit *x, bool insn)
{
	v->fail_insn = insn ? vmread(VM_INSTRUCTION_ERROR) : 0;
	v->fail_reason = insn ? 0 : x->hw;
	v->fail_qual = insn ? 0 : vmread(EXIT_QUALIFICATION);
	if (insn)
		x->hw = v->fail_insn;
	else if ((u16)x->hw == EXIT_REASON_MCE_DURING_VMENTRY)
		host_machine_check();

	x->kind = MK_EXIT_FAIL_ENTRY;
	x->raw.qual = v->fail_qual;
	x->raw.info = v->fail_insn;
	cpu->vectoring = cpu->inject;
	if (cpu->inject.type)
		vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
}

static void read_exit(struct mk_cpu *cpu, struct mk_exit *x)
{
	bool vectoring = false;
	u64 qual;
	u8 flags;

	/* The host's NMI: nothing else happened. */
	if (x->kind == MK_EXIT_NMI)
		return;
	if (x->hw >= ARRAY_SIZE(reasons) || !reasons[x->hw].kind) {
		x->kind = MK_EXIT_UNKNOWN;
		x->raw.qual = vmread(EXIT_QUALIFICATION);
		x->raw.info = vmread(VM_EXIT_INTR_INFO);
		return;
	}

	x->kind = reasons[x->hw].kind;
	flags = reasons[x->hw].flags;
	if (flags & LEN) {
		/* Whoever completes it asks for these; one by one they cost more. */
		vmx_fetch_insn(cpu);
		x->len = vmread(VM_EXIT_INSTRUCTION_LEN);
	}
	if (flags & VEC)
		vectoring = take_vectoring(cpu);
	if (!(flags & MORE))
		return;

	switch (x->kind) {
	case MK_EXIT_EXCEPTION:
		read_exception(x, vectoring);
		break;
	case MK_EXIT_CR:
		read_cr(x);
		break;
	case MK_EXIT_DR:
		read_dr(x);
		break;
	case MK_EXIT_IO:
		read_io(x);
		break;
	case MK_EXIT_TDP_FAULT:
		read_tdp_fault(x, vectoring);
		break;
	case MK_EXIT_EOI:
	case MK_EXIT_APIC_WRITE:
		x->apic = vmread(EXIT_QUALIFICATION);
		break;
	case MK_EXIT_TDP_MISCONFIG:
		x->gpa = vmread(GUEST_PHYSICAL_ADDRESS);
		break;
	case MK_EXIT_TASK_SWITCH:
		qual = vmread(EXIT_QUALIFICATION);
		x->task.sel = qual;
		x->task.how = qual >> 30 & 3;
		x->task.has_error = cpu->vectoring.type && cpu->vectoring.has_error;
		x->task.error = cpu->vectoring.error;
		break;
	}
}

static void run(struct mk_cpu *cpu, struct mk_exit *x)
{
	struct vmx_vcpu *v = cpu->hw;
	bool failed;

	prepare(cpu, v);
	failed = enter(cpu, v, x);

	/* Exits switch off all that the host debugs and traces with. */
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
	if (unlikely(v->host.debugctl))
		update_debugctlmsr(v->host.debugctl);
	if (cpu_feature_enabled(X86_FEATURE_MSR_SPEC_CTRL))
		cpu->spec_ctrl = v->entry.spec_guest;

	if (v->tpr)
		cpu->cr8 = *v->tpr >> 4;
	cpu->valid = ALWAYS_VALID;
	cpu->dirty = 0;
	cpu->vectoring.type = MK_EV_NONE;
	x->len = 0;
	x->flags = 0;
	if (unlikely(failed) || unlikely(x->hw & VMX_EXIT_REASONS_FAILED_VMENTRY)) {
		fail_entry(cpu, v, x, failed);
	} else {
		v->entry.launched = true;
		mk_ibpb_before_user();
		read_exit(cpu, x);
	}
	cpu->inject.type = MK_EV_NONE;
}

static const char *insn_error(u32 error)
{
	switch (error) {
	case VMXERR_VMLAUNCH_NONCLEAR_VMCS:
		return "VMLAUNCH with a VMCS that is not clear";
	case VMXERR_VMRESUME_NONLAUNCHED_VMCS:
		return "VMRESUME with a VMCS that was not launched";
	case VMXERR_VMRESUME_AFTER_VMXOFF:
		return "VMRESUME with a VMCS from before VMXOFF";
	case VMXERR_ENTRY_INVALID_CONTROL_FIELD:
		return "a control field is invalid";
	case VMXERR_ENTRY_INVALID_HOST_STATE_FIELD:
		return "a host-state field is invalid";
	case VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS:
		return "an event cannot be injected while MOV SS blocks events";
	case 0:
		return "there is no current VMCS";
	}
	return "an error that the entry of a guest does not know";
}

static const char *state_error(u32 reason, u64 qual)
{
	switch ((u16)reason) {
	case EXIT_REASON_MCE_DURING_VMENTRY:
		return "a machine check came in between";
	case EXIT_REASON_MSR_LOAD_FAIL:
		return "an MSR could not be loaded";
	}
	switch (qual) {
	case ENTRY_FAIL_PDPTE:
		return "the guest state is invalid: a PDPTE has reserved bits set";
	case ENTRY_FAIL_NMI:
		return "the guest state is invalid: an NMI cannot be injected where STI blocks events";
	case ENTRY_FAIL_VMCS_LINK_PTR:
		return "the guest state is invalid: VMCS link pointer";
	}
	return "the guest state is invalid";
}

static void describe(struct mk_cpu *cpu, char *buf, size_t size)
{
	struct vmx_vcpu *v = cpu->hw;
	const struct mk_seg *s = cpu->seg;

	mk_cpu_need(cpu, MK_G_ALL);
	scnprintf(buf, size,
		  "VM entry failed: %s (%s %#x, qualification %#llx). CR0 %#llx CR3 %#llx CR4 %#llx EFER %#llx RFLAGS %#llx RIP %#llx; CS %#x/%#llx/%#x/%#x SS %#x/%#llx/%#x/%#x TR %#x/%#llx/%#x/%#x LDTR %#x/%#llx/%#x/%#x (selector/base/limit/rights); shadow %#x, event %u/%#x",
		  v->fail_insn ? insn_error(v->fail_insn) : state_error(v->fail_reason, v->fail_qual),
		  v->fail_insn ? "VM-instruction error" : "reason",
		  v->fail_insn ?: v->fail_reason, v->fail_qual,
		  cpu->cr0, cpu->cr3, cpu->cr4, cpu->efer, cpu->rflags, cpu->rip,
		  s[MK_CS].sel, s[MK_CS].base, s[MK_CS].limit, s[MK_CS].ar,
		  s[MK_SS].sel, s[MK_SS].base, s[MK_SS].limit, s[MK_SS].ar,
		  s[MK_TR].sel, s[MK_TR].base, s[MK_TR].limit, s[MK_TR].ar,
		  s[MK_LDTR].sel, s[MK_LDTR].base, s[MK_LDTR].limit, s[MK_LDTR].ar,
		  cpu->shadow, cpu->vectoring.type, cpu->vectoring.vector);
}

const struct mk_backend mk_vmx = {
	.name = "vmx",
	.tdp = MK_TDP_EPT,
	.hypercall_len = 3,
	.caps = &vmx_caps,
	.supported = vmx_supported,
	.setup = vmx_setup,
	.teardown = vmx_teardown,
	.cpu_on = vmx_cpu_on,
	.cpu_off = vmx_cpu_off,
	.vcpu_create = vmx_vcpu_create,
	.vcpu_destroy = vmx_vcpu_destroy,
	.load = vmx_load,
	.put = vmx_put,
	.need = vmx_need,
	.run = run,
	.pass_msr = vmx_pass_msr,
	.set_tsc_offset = vmx_set_tsc_offset,
	.trap_int3 = vmx_trap_int3,
	.exit_info = vmx_exit_info,
	.describe = describe,
	.describe_mitigations = describe_mitigations,
};
