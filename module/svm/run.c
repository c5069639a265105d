// SPDX-License-Identifier: GPL-2.0
/*
 * One run of the guest: what the VMCB must be told before, the entry, and
 * what its exit means in neutral words.
 *
 * Knows: the VMCB's control area. Read next: hw/svm_enter.S, core/run.c.
 *
 * Source: APM vol. 2, "Secure Virtual Machine", by the sections "Event
 * Injection", "Virtual Interrupts" and "SVM Intercept Codes".
 */
#include <linux/hw_breakpoint.h>
#include <linux/smp.h>
#include <linux/string_helpers.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/trapnr.h>

#include "hw/compat.h"
#include "svm/svm.h"

#define NPF_PRESENT	BIT_ULL(0)
#define NPF_WRITE	BIT_ULL(1)
#define NPF_RESERVED	BIT_ULL(3)
#define NPF_FETCH	BIT_ULL(4)
#define NPF_FINAL	BIT_ULL(32)

#define CR_EXIT_IS_MOV	BIT_ULL(63)
#define DR7_ENABLED	0xffull

/*
 * Groups that go both ways with each run: a load and a store each, and nearly
 * every exit asks for them. (Nothing here reads PDPTEs.)
 */
#define MOVED_ALWAYS	(MK_G_RSP | MK_G_RIP | MK_G_RFLAGS | MK_G_PDPTE)
/* Valid after a run. EFER changes by an exit alone. */
#define VALID_ALWAYS	(MOVED_ALWAYS | MK_G_EFER | MK_G_SHADOW)

static void inject(struct svm_vcpu *s, const struct mk_event *ev)
{
	static const u32 types[] = {
		[MK_EV_INTR] = SVM_EVTINJ_TYPE_INTR,
		[MK_EV_NMI] = SVM_EVTINJ_TYPE_NMI,
		[MK_EV_EXCEPTION] = SVM_EVTINJ_TYPE_EXEPT,
	};
	struct vmcb_control_area *c = &s->vmcb->control;

	c->event_inj = SVM_EVTINJ_VALID | types[ev->type] | ev->vector |
		       (ev->has_error ? SVM_EVTINJ_VALID_ERR : 0);
	c->event_inj_err = ev->error;
	if (ev->type == MK_EV_NMI)
		svm_block_nmi(s, true);
}

/*
 * The guest has CR8 in V_TPR. The window is a virtual interrupt that only
 * ever exits, right before the guest would take it.
 */
static void set_int_ctl(struct vmcb *vmcb, u32 int_ctl)
{
	vmcb->control.int_ctl = int_ctl;
	vmcb->control.clean &= ~SVM_CLEAN_INTR;
	svm_intercept(vmcb, INTERCEPT_VINTR, int_ctl & V_IRQ_MASK);
}

/*
 * See to it that the guest comes out when it could take an NMI.
 * Return: true if that is now.
 */
static bool open_nmi_window(struct svm_vcpu *s, bool injecting)
{
	struct vmcb *vmcb = s->vmcb;

	if (s->nmi_blocked && !s->iret_seen)
		return false;	/* the exit of IRET opens it */
	if (injecting) {
		/*
		 * The frame of the event that goes in must not show a TF of
		 * ours. A pending interrupt brings the guest out right behind it.
		 */
		mk_kick_cpu(smp_processor_id());
		return false;
	}
	if (!s->nmi_blocked && !(vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK))
		return true;
	/* One instruction is in the way. If it has TF set anyway, #DB exits too. */
	if (!(vmcb->save.rflags & X86_EFLAGS_TF)) {
		vmcb->save.rflags |= X86_EFLAGS_TF;
		s->stepping = true;
		s->dr6 = vmcb->save.dr6;
	}
	return false;
}

/* After an exit with an NMI in service or a step under way. True: it is the window. */
static bool track_nmi(struct svm_vcpu *s)
{
	struct vmcb *vmcb = s->vmcb;
	bool iret_done = s->iret_seen && vmcb->save.rip != s->iret_rip;
	bool stepped = false;

	if (s->stepping) {
		s->stepping = false;
		/* IRET has loaded the guest's own flags. */
		if (!iret_done)
			vmcb->save.rflags &= ~(u64)X86_EFLAGS_TF;
		if (vmcb->control.exit_code == SVM_EXIT_EXCP_BASE + X86_TRAP_DB) {
			/* A breakpoint that was hit meanwhile is the guest's. */
			stepped = !((vmcb->save.dr6 ^ s->dr6) & DR_TRAP_BITS);
			vmcb->save.dr6 = (vmcb->save.dr6 & ~(u64)DR_STEP) | (s->dr6 & DR_STEP);
			vmcb->control.clean &= ~SVM_CLEAN_DR;
		}
	}
	if (iret_done)
		svm_block_nmi(s, false);
	return stepped;
}

/* The guest's breakpoints; DR6 and DR7 go through the VMCB. */
static void load_breakpoints(const struct mk_cpu *cpu)
{
	/* The host's DR7 must not act on the guest's addresses. */
	set_debugreg(0, 7);
	set_debugreg(cpu->dr[0], 0);
	set_debugreg(cpu->dr[1], 1);
	set_debugreg(cpu->dr[2], 2);
	set_debugreg(cpu->dr[3], 3);
}

static noinstr bool enter(struct mk_cpu *cpu, struct svm_vcpu *s)
{
	bool entered;

	mk_guest_enter_irqoff();
	entered = svm_enter(cpu->gpr, &s->entry);
	mk_guest_exit_irqoff();
	return entered;
}

/* What was on its way into the guest when it exited goes in again with the next entry. */
static void take_vectoring(struct mk_cpu *cpu, const struct vmcb_control_area *c)
{
	u32 info = c->exit_int_info;
	struct mk_event *ev = &cpu->vectoring;

	ev->vector = info & SVM_EXITINTINFO_VEC_MASK;
	ev->has_error = info & SVM_EXITINTINFO_VALID_ERR;
	ev->error = c->exit_int_info_err;
	switch (info & SVM_EXITINTINFO_TYPE_MASK) {
	case SVM_EXITINTINFO_TYPE_INTR:
		ev->type = MK_EV_INTR;
		break;
	case SVM_EXITINTINFO_TYPE_NMI:
		ev->type = MK_EV_NMI;
		break;
	case SVM_EXITINTINFO_TYPE_EXEPT:
		/* INT3 and INTO count as exceptions here, and are executed again. */
		if (ev->vector != X86_TRAP_BP && ev->vector != X86_TRAP_OF)
			ev->type = MK_EV_EXCEPTION;
		break;
	}
}

static const u8 kind_of[] = {
	[SVM_EXIT_READ_CR0 ... SVM_EXIT_WRITE_CR0 + 15] = MK_EXIT_CR,
	[SVM_EXIT_READ_DR0 ... SVM_EXIT_WRITE_DR0 + 15] = MK_EXIT_DR,
	[SVM_EXIT_EXCP_BASE ... SVM_EXIT_LAST_EXCP] = MK_EXIT_EXCEPTION,
	[SVM_EXIT_INTR]			= MK_EXIT_INTR,
	[SVM_EXIT_NMI]			= MK_EXIT_NMI,
	[SVM_EXIT_SMI]			= MK_EXIT_SMI,
	[SVM_EXIT_INIT]			= MK_EXIT_INIT,
	[SVM_EXIT_VINTR]		= MK_EXIT_IRQ_WINDOW,
	[SVM_EXIT_CR0_SEL_WRITE]	= MK_EXIT_CR,
	[SVM_EXIT_IDTR_READ ... SVM_EXIT_TR_READ] = MK_EXIT_TABLE,
	[SVM_EXIT_RDPMC]		= MK_EXIT_RDPMC,
	[SVM_EXIT_PAUSE]		= MK_EXIT_PAUSE,
	[SVM_EXIT_CPUID]		= MK_EXIT_CPUID,
	[SVM_EXIT_INVD]			= MK_EXIT_INVD,
	[SVM_EXIT_HLT]			= MK_EXIT_HLT,
	[SVM_EXIT_INVLPGA]		= MK_EXIT_UNDEFINED,
	[SVM_EXIT_IOIO]			= MK_EXIT_IO,
	[SVM_EXIT_MSR]			= MK_EXIT_RDMSR,
	[SVM_EXIT_TASK_SWITCH]		= MK_EXIT_TASK_SWITCH,
	[SVM_EXIT_SHUTDOWN]		= MK_EXIT_TRIPLE_FAULT,
	[SVM_EXIT_VMRUN]		= MK_EXIT_UNDEFINED,
	[SVM_EXIT_VMMCALL]		= MK_EXIT_HYPERCALL,
	[SVM_EXIT_VMLOAD]		= MK_EXIT_UNDEFINED,
	[SVM_EXIT_VMSAVE]		= MK_EXIT_UNDEFINED,
	[SVM_EXIT_STGI]			= MK_EXIT_UNDEFINED,
	[SVM_EXIT_CLGI]			= MK_EXIT_UNDEFINED,
	[SVM_EXIT_SKINIT]		= MK_EXIT_UNDEFINED,
	[SVM_EXIT_WBINVD]		= MK_EXIT_WBINVD,
	[SVM_EXIT_MONITOR]		= MK_EXIT_MONITOR,
	[SVM_EXIT_MWAIT]		= MK_EXIT_MWAIT,
	[SVM_EXIT_XSETBV]		= MK_EXIT_XSETBV,
	[SVM_EXIT_RDPRU]		= MK_EXIT_UNDEFINED,
};

static u8 kind(u32 code)
{
	u8 kind = code < ARRAY_SIZE(kind_of) ? kind_of[code] : MK_EXIT_NONE;

	if (likely(kind != MK_EXIT_NONE))
		return kind;
	if (code == SVM_EXIT_NPF)
		return MK_EXIT_TDP_FAULT;
	return code == (u32)SVM_EXIT_ERR ? MK_EXIT_FAIL_ENTRY : MK_EXIT_UNKNOWN;
}

static void fault(struct mk_exit *x, u64 info, u64 gpa)
{
	if (info & NPF_RESERVED)
		x->kind = MK_EXIT_TDP_MISCONFIG;
	x->gpa = gpa;
	x->access = info & NPF_WRITE ? MK_TDP_WRITE : info & NPF_FETCH ? MK_TDP_EXEC : MK_TDP_READ;
	if (info & NPF_PRESENT)
		x->access |= MK_TDP_PRESENT;
	if (info & NPF_FINAL)
		x->access |= MK_TDP_FINAL;
}

static void exception(struct mk_exit *x, const struct vmcb *vmcb)
{
	u8 vector = x->hw - SVM_EXIT_EXCP_BASE;

	if (vector == X86_TRAP_MC) {
		svm_host_machine_check();
		x->kind = MK_EXIT_NMI;
		return;
	}
	x->ex.vector = vector;
	x->ex.has_error = vector == X86_TRAP_AC;
	x->ex.error = vmcb->control.exit_info_1;
	/* By now DR6 is as the guest's handler would find it. */
	x->ex.dr6 = (vmcb->save.dr6 ^ DR6_RESERVED) & (DR_TRAP_BITS | DR6_BD | DR_STEP | DR_SWITCH);
}

/* APM vol. 2, "Task-Switch Intercept" */
static void task_switch(struct mk_exit *x, const struct vmcb_control_area *c)
{
	u64 info = c->exit_info_2;

	if (c->exit_int_info & SVM_EXITINTINFO_VALID)
		x->task.how = MK_TASK_GATE;
	else if (info & BIT_ULL(SVM_EXITINFOSHIFT_TS_REASON_IRET))
		x->task.how = MK_TASK_IRET;
	else if (info & BIT_ULL(SVM_EXITINFOSHIFT_TS_REASON_JMP))
		x->task.how = MK_TASK_JMP;
	else
		x->task.how = MK_TASK_CALL;
	x->task.sel = c->exit_info_1;
	x->task.has_error = info & BIT_ULL(SVM_EXITINFOSHIFT_TS_HAS_ERROR_CODE);
	x->task.error = info;
}

static void translate(const struct vmcb *vmcb, struct mk_exit *x)
{
	const struct vmcb_control_area *c = &vmcb->control;
	u64 info = c->exit_info_1;

	x->hw = c->exit_code;
	x->kind = kind(c->exit_code);
	/* next_rip is 0 where the CPU does not save it, or there was no instruction. */
	x->len = c->next_rip ? c->next_rip - vmcb->save.rip : 0;
	x->flags = 0;

	switch (x->kind) {
	case MK_EXIT_TDP_FAULT:
		x->len = 0;
		fault(x, info, c->exit_info_2);
		break;
	case MK_EXIT_IO:
		x->len = c->exit_info_2 - vmcb->save.rip;
		x->io.port = info >> 16;
		x->io.size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
		x->io.in = info & SVM_IOIO_TYPE_MASK;
		x->io.string = info & SVM_IOIO_STR_MASK;
		x->io.rep = info & SVM_IOIO_REP_MASK;
		break;
	case MK_EXIT_RDMSR:
		if (info & 1)
			x->kind = MK_EXIT_WRMSR;
		break;
	case MK_EXIT_CR:
	case MK_EXIT_DR:
		x->cr.nr = c->exit_code == SVM_EXIT_CR0_SEL_WRITE ? 0 : c->exit_code & 15;
		x->cr.access = c->exit_code & 16 || c->exit_code == SVM_EXIT_CR0_SEL_WRITE ?
			       MK_MOV_TO : MK_MOV_FROM;
		x->cr.gpr = info & SVM_EXITINFO_REG_MASK;
		/* CLTS, LMSW and SMSW come here too, and only MOV is told. */
		if (!svm_caps.decode_assist || (x->kind == MK_EXIT_CR && !(info & CR_EXIT_IS_MOV)))
			x->flags = MK_XF_DECODE;
		break;
	case MK_EXIT_EXCEPTION:
		x->len = 0;
		exception(x, vmcb);
		break;
	case MK_EXIT_TASK_SWITCH:
		task_switch(x, c);
		break;
	case MK_EXIT_FAIL_ENTRY:
	case MK_EXIT_UNKNOWN:
		x->raw.qual = info;
		x->raw.info = c->exit_info_2;
		break;
	}
}

/*
 * An entry that fails the CPU's checks leaves the guest's state as it was. QEMU's CPU puts
 * its host's there, which nobody is to see: then the vCPU has none any more.
 */
static void disown_state(const struct mk_cpu *cpu, struct vmcb_save_area *a)
{
	if (a->rip == cpu->rip)
		return;
	memset(a, 0, sizeof(*a));
	a->rip = cpu->rip;
	a->rsp = cpu->gpr[MK_RSP];
	a->rax = cpu->gpr[MK_RAX];
	a->rflags = cpu->rflags;
	a->efer = EFER_SVME;
}

/* struct mk_backend.run */
void svm_run(struct mk_cpu *cpu, struct mk_exit *x)
{
	struct svm_vcpu *s = svm_of(cpu);
	struct vmcb *vmcb = s->vmcb;
	struct vmcb_control_area *c = &vmcb->control;
	struct vmcb_save_area *a = &vmcb->save;
	bool window = false;
	u32 int_ctl;

	a->rip = cpu->rip;
	a->rsp = cpu->gpr[MK_RSP];
	a->rflags = cpu->rflags;
	if (unlikely(cpu->dirty & ~MOVED_ALWAYS))
		svm_flush(cpu);
	cpu->dirty = 0;
	if (unlikely(cpu->flush)) {
		cpu->flush = 0;
		svm_flush_tlb(s);
	}
	c->event_inj = 0;
	if (cpu->inject.type)
		inject(s, &cpu->inject);
	svm_intercept(vmcb, INTERCEPT_CR8_WRITE, !cpu->cr8_free || cpu->cr8_threshold);
	int_ctl = V_INTR_MASKING_MASK | cpu->cr8;
	if (cpu->irq_window)
		int_ctl |= V_IRQ_MASK | V_IGN_TPR_MASK | V_INTR_PRIO_MASK;
	if (unlikely(int_ctl != c->int_ctl))
		set_int_ctl(vmcb, int_ctl);
	if (a->cr2 != cpu->cr2) {
		a->cr2 = cpu->cr2;
		c->clean &= ~SVM_CLEAN_CR2;
	}
	a->rax = cpu->gpr[MK_RAX];
	if (unlikely(cpu->tsc_aux != s->tsc_aux)) {
		s->tsc_aux = cpu->tsc_aux;
		wrmsrl(MSR_TSC_AUX, s->tsc_aux);
	}
	if (static_cpu_has(X86_FEATURE_V_SPEC_CTRL))
		a->spec_ctrl = cpu->spec_ctrl;
	else if (static_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		s->entry.spec_ctrl = cpu->spec_ctrl;

again:
	if (unlikely(cpu->nmi_window) && open_nmi_window(s, c->event_inj)) {
		*x = (struct mk_exit){ .kind = MK_EXIT_NMI_WINDOW };
		return;
	}
	if (unlikely(a->dr7 & DR7_ENABLED))
		load_breakpoints(cpu);

	if (unlikely(!enter(cpu, s))) {
		s->lost = true;
		c->exit_code = SVM_EXIT_ERR;
	}

	if (unlikely(hw_breakpoint_active()))
		hw_breakpoint_restore();
	c->clean = SVM_CLEAN_ALL;
	/* Where VMRUN refused the state, it may have flushed nothing. */
	if (unlikely(c->tlb_ctl) && c->exit_code != SVM_EXIT_ERR) {
		if (c->tlb_ctl == TLB_CONTROL_FLUSH_ALL_ASID)
			this_cpu_write(svm_cpus.flush_all, false);
		c->tlb_ctl = TLB_CONTROL_DO_NOTHING;
	}
	if (unlikely(s->nmi_blocked || s->stepping)) {
		window = track_nmi(s);
		if (c->exit_code == SVM_EXIT_IRET) {
			s->iret_seen = true;
			s->iret_rip = a->rip;
			svm_intercept(vmcb, INTERCEPT_IRET, false);
			c->event_inj = 0;
			goto again;
		}
	}

	if (static_cpu_has(X86_FEATURE_V_SPEC_CTRL))
		cpu->spec_ctrl = a->spec_ctrl;
	else if (static_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		cpu->spec_ctrl = s->entry.spec_ctrl;
	if (unlikely(c->exit_code == SVM_EXIT_ERR))
		disown_state(cpu, a);
	cpu->gpr[MK_RAX] = a->rax;
	cpu->gpr[MK_RSP] = a->rsp;
	cpu->rip = a->rip;
	cpu->rflags = a->rflags;
	cpu->cr2 = a->cr2;
	/* An entry that failed may leave anything there. */
	if (cpu->cr8_free && c->exit_code != SVM_EXIT_ERR)
		cpu->cr8 = c->int_ctl & V_TPR_MASK;
	cpu->shadow = (c->int_state & SVM_INTERRUPT_SHADOW_MASK ? MK_SHADOW_STI : 0) |
		      (s->nmi_blocked ? MK_SHADOW_NMI : 0);
	cpu->valid = VALID_ALWAYS;
	if (unlikely(c->exit_int_info & SVM_EXITINTINFO_VALID))
		take_vectoring(cpu, c);
	translate(vmcb, x);
	if (unlikely(window))
		x->kind = MK_EXIT_NMI_WINDOW;
}

/* struct mk_backend.describe */
void svm_describe(struct mk_cpu *cpu, char *buf, size_t size)
{
	const struct svm_vcpu *s = svm_of(cpu);
	const struct vmcb *vmcb = s->vmcb;
	const struct vmcb_save_area *a = &vmcb->save;

	if (s->lost) {
		snprintf(buf, size, "SVM was taken from CPU %d while the guest was loaded there.", s->cpu);
		return;
	}
	snprintf(buf, size,
		 "VMRUN refused the guest's state: cr0 %llx cr3 %llx cr4 %llx efer %llx rflags %llx rip %llx, cs %x attributes %x, dr6 %llx dr7 %llx, event %x, asid %u.",
		 a->cr0, a->cr3, a->cr4, a->efer, a->rflags, a->rip, a->cs.selector,
		 a->cs.attrib, a->dr6, a->dr7, vmcb->control.event_inj, vmcb->control.asid);
}

/* struct mk_backend.describe_mitigations */
void svm_describe_mitigations(char *buf, size_t size)
{
	scnprintf(buf, size,
		  "SPEC_CTRL switched with the guest: %s\n"
		  "return stack filled after each exit: %s\n"
		  "return prediction untrained after each exit: %s\n"
		  "branch predictor barrier after each exit: %s\n"
		  "branch predictor barrier between guests: %s\n"
		  "branch predictor barrier before userspace: %s\n"
		  "buffers cleared before each entry: %s\n",
		  boot_cpu_has(X86_FEATURE_V_SPEC_CTRL) ? "by the CPU" :
		  str_yes_no(boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL)),
		  str_yes_no(boot_cpu_has(X86_FEATURE_RSB_VMEXIT)),
		  str_yes_no(boot_cpu_has(X86_FEATURE_UNRET)),
		  str_yes_no(boot_cpu_has(X86_FEATURE_IBPB_ON_VMEXIT)),
		  str_yes_no(boot_cpu_has(X86_FEATURE_USE_IBPB)),
		  str_yes_no(mk_has_ibpb_before_user()),
		  str_yes_no(mk_clears_cpu_buffers()));
}
