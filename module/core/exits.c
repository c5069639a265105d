// SPDX-License-Identifier: GPL-2.0
/*
 * What happens on each kind of exit: one table, one handler a kind.
 *
 * A handler says MK_DONE when the instruction has been executed and RIP moves
 * behind it, MK_RESUME when the guest goes on where it is (an exception may
 * be queued), or that userspace is asked. FAST handlers run with interrupts
 * disabled and touch nothing that may sleep.
 *
 * Knows: everything of this floor. Read next: core/regs.c, core/msr.c.
 */
#include <linux/kvm_para.h>
#include <asm/apicdef.h>
#include <asm/trapnr.h>

#include "core/doorbell.h"
#include "core/mmu.h"
#include "core/vcpu.h"
#include "core/trace.h"

static enum mk_next exit_resume(struct mk_vcpu *v, struct mk_exit *x)
{
	return MK_RESUME;
}

/* Instructions that do nothing here: caches are the host's. */
static enum mk_next exit_done(struct mk_vcpu *v, struct mk_exit *x)
{
	return MK_DONE;
}

/* Always over at once, as a CPU may have it; see KVM_CAP_DISABLE_QUIRKS2. */
static enum mk_next exit_mwait(struct mk_vcpu *v, struct mk_exit *x)
{
	if (mk_has_quirk(v->vm, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) || mk_guest_has(v, 1, 0, 2, 3))
		return MK_DONE;
	mk_queue_exception(v, X86_TRAP_UD);
	return MK_RESUME;
}

/* The guest waits in a loop for something that another vCPU has to do. */
static enum mk_next exit_pause(struct mk_vcpu *v, struct mk_exit *x)
{
	mk_vcpu_yield(v);
	return MK_DONE;
}

static enum mk_next exit_undefined(struct mk_vcpu *v, struct mk_exit *x)
{
	mk_queue_exception(v, X86_TRAP_UD);
	return MK_RESUME;
}

/* SGDT and its like, while this CPU lacks the UMIP that the guest has switched on. */
static enum mk_next exit_emulate(struct mk_vcpu *v, struct mk_exit *x)
{
	return mk_emulate(v);
}

static enum mk_next exit_rdpmc(struct mk_vcpu *v, struct mk_exit *x)
{
	mk_queue_gp(v);		/* the guest has no performance counters */
	return MK_RESUME;
}

static enum mk_next exit_window(struct mk_vcpu *v, struct mk_exit *x)
{
	mk_request(v, MK_REQ_EVENT);
	return MK_RESUME;
}

static enum mk_next exit_triple_fault(struct mk_vcpu *v, struct mk_exit *x)
{
	v->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return MK_TO_USER;
}

static enum mk_next exit_cpuid(struct mk_vcpu *v, struct mk_exit *x)
{
	u64 *gpr = v->cpu.gpr;
	u32 eax = gpr[MK_RAX], ecx = gpr[MK_RCX], ebx, edx;
	u32 function = eax, index = ecx;

	mk_cpuid_query(v, &eax, &ebx, &ecx, &edx);
	gpr[MK_RAX] = eax;
	gpr[MK_RBX] = ebx;
	gpr[MK_RCX] = ecx;
	gpr[MK_RDX] = edx;
	trace_kvm_cpuid(function, index, gpr);
	return MK_DONE;
}

static u64 edx_eax(const u64 *gpr)
{
	return (u32)gpr[MK_RAX] | gpr[MK_RDX] << 32;
}

static enum mk_next read_done(struct mk_vcpu *v, u64 val)
{
	v->cpu.gpr[MK_RAX] = (u32)val;
	v->cpu.gpr[MK_RDX] = val >> 32;
	return MK_DONE;
}

static int msr_answered(struct mk_vcpu *v)
{
	struct kvm_run *run = v->run;

	if (READ_ONCE(run->msr.error)) {
		mk_queue_gp(v);
		return MK_RESUME;
	}
	if (v->exit.kind == MK_EXIT_RDMSR)
		read_done(v, READ_ONCE(run->msr.data));
	mk_insn_done(v, v->exit.len);
	return MK_RESUME;
}

/* #GP, or KVM_EXIT_X86_RDMSR and _WRMSR where userspace has asked for this reason. */
static enum mk_next msr_refused(struct mk_vcpu *v, u32 msr, int err, u64 val)
{
	u32 reason = err == -EPERM ? KVM_MSR_EXIT_REASON_FILTER :
		     err == -ENOENT ? KVM_MSR_EXIT_REASON_UNKNOWN : KVM_MSR_EXIT_REASON_INVAL;
	struct kvm_run *run = v->run;

	if (!(READ_ONCE(v->vm->msr_exits) & reason)) {
		mk_queue_gp(v);
		return MK_RESUME;
	}
	run->exit_reason = v->exit.kind == MK_EXIT_RDMSR ? KVM_EXIT_X86_RDMSR : KVM_EXIT_X86_WRMSR;
	memset(&run->msr, 0, sizeof(run->msr));
	run->msr.reason = reason;
	run->msr.index = msr;
	run->msr.data = val;
	v->complete = msr_answered;
	return MK_TO_USER;
}

static enum mk_next exit_rdmsr(struct mk_vcpu *v, struct mk_exit *x)
{
	u32 msr = v->cpu.gpr[MK_RCX];
	int err = -EPERM;
	u64 val = 0;

	if (likely(!mk_msr_filtered(v->vm, msr, false)))
		err = mk_msr_get(v, msr, &val, false);
	trace_kvm_msr(false, msr, val, err);
	return err ? msr_refused(v, msr, err, 0) : read_done(v, val);
}

static enum mk_next exit_wrmsr(struct mk_vcpu *v, struct mk_exit *x)
{
	u64 *gpr = v->cpu.gpr;
	u64 val = edx_eax(gpr);
	u32 msr = gpr[MK_RCX];
	int err = -EPERM;

	if (likely(!mk_msr_filtered(v->vm, msr, true)))
		err = mk_msr_set(v, msr, val, false);
	trace_kvm_msr(true, msr, val, err);
	return err ? msr_refused(v, msr, err, val) : MK_DONE;
}

static enum mk_next exit_xsetbv(struct mk_vcpu *v, struct mk_exit *x)
{
	u64 *gpr = v->cpu.gpr;

	mk_cpu_need(&v->cpu, MK_G_CR);
	if (!(v->cpu.cr4 & X86_CR4_OSXSAVE)) {
		mk_queue_exception(v, X86_TRAP_UD);
		return MK_RESUME;
	}
	if (mk_cpu_cpl(&v->cpu) || mk_set_xcr(v, gpr[MK_RCX], edx_eax(gpr))) {
		mk_queue_gp(v);
		return MK_RESUME;
	}
	return MK_DONE;
}

/*
 * A bitmap of APIC IDs from @first on, twice 64 of them, or twice 32 for a guest
 * outside 64-bit mode. How many took it, or a KVM_E*.
 */
static s64 send_ipis(struct mk_vcpu *v, const u64 map[2], u32 first, u32 icr, unsigned int bits)
{
	unsigned int i;
	s64 taken = 0;

	if (icr & (APIC_DEST_LOGICAL | GENMASK(19, 18)))
		return -KVM_EINVAL;
	for (i = 0; i < 2 * bits && (u64)first + i < MK_MAX_VCPU_ID; i++)
		if (map[i / bits] >> i % bits & 1)
			taken += mk_board(v->vm)->ipi(v, first + i, icr) >= 0;
	return taken;
}

/* "Linux KVM Hypercall" in the kernel's documentation: number in RAX, then RBX, RCX, RDX, RSI. */
static s64 hypercall(struct mk_vcpu *v, u64 nr, bool wide)
{
	u64 *gpr = v->cpu.gpr;

	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_KICK_CPU:
		if (!v->apic || !mk_pv_has(v, KVM_FEATURE_PV_UNHALT))
			break;
		mk_vcpu_unhalt(v->vm, gpr[MK_RCX]);
		return 0;
	case KVM_HC_SCHED_YIELD:
		if (!mk_pv_has(v, KVM_FEATURE_PV_SCHED_YIELD))
			break;
		mk_vcpu_yield_to(v, gpr[MK_RBX]);
		return 0;
	case KVM_HC_SEND_IPI:
		if (!v->apic || !mk_pv_has(v, KVM_FEATURE_PV_SEND_IPI))
			break;
		return send_ipis(v, (u64[]){ gpr[MK_RBX], gpr[MK_RCX] }, gpr[MK_RDX],
				 gpr[MK_RSI], wide ? 64 : 32);
	}
	return -KVM_ENOSYS;
}

static enum mk_next exit_hypercall(struct mk_vcpu *v, struct mk_exit *x)
{
	u64 *rax = &v->cpu.gpr[MK_RAX];
	bool wide = mk_cpu_code_mode(&v->cpu) == MK_MODE_64;
	s64 ret = -KVM_EPERM;

	trace_kvm_hypercall(*rax, v->cpu.gpr);
	if (!mk_cpu_cpl(&v->cpu))
		ret = hypercall(v, wide ? *rax : (u32)*rax, wide);
	*rax = wide ? ret : (u32)ret;
	return MK_DONE;
}

/* Of the calls one sleeps. */
static enum mk_next exit_hypercall_fast(struct mk_vcpu *v, struct mk_exit *x)
{
	if ((u32)v->cpu.gpr[MK_RAX] == KVM_HC_SCHED_YIELD)
		return MK_SLOW;
	return exit_hypercall(v, x);
}

/*
 * The other vendor's instruction for a hypercall, in a guest that came from there or
 * never asked: to this CPU it is undefined. The CPU's own, which differs in the last
 * byte, is written over it for the next time, as the ABI has it; where the guest may not
 * write, the next time is like this one.
 */
static bool is_hypercall(struct mk_vcpu *v, struct mk_exit *x)
{
	enum mk_cpu_mode mode = mk_cpu_code_mode(&v->cpu);
	u8 bytes[MK_INSN_MAX];
	unsigned int n;

	if (!mk_has_quirk(v->vm, KVM_X86_QUIRK_FIX_HYPERCALL_INSN))
		return false;
	mk_cpu_need(&v->cpu, MK_G_RIP);
	n = mk_fetch(v, v->cpu.rip, bytes, sizeof(bytes), false);
	x->len = mk_insn_len(bytes, n, 0x0f01c1, mode) ?: mk_insn_len(bytes, n, 0x0f01d9, mode);
	if (x->len)
		mk_patch_code(v, v->cpu.rip + x->len - 1, mk_hw->tdp == MK_TDP_NPT ? 0xd9 : 0xc1);
	return x->len;
}

static enum mk_next exit_exception(struct mk_vcpu *v, struct mk_exit *x)
{
	if (x->ex.vector == X86_TRAP_UD && is_hypercall(v, x))
		return exit_hypercall(v, x);
	if (x->ex.vector == X86_TRAP_BP && mk_debug_int3(v))
		return MK_RESUME;
	if (x->ex.vector == X86_TRAP_DB)
		mk_debug_trap(v, x->ex.dr6);
	else if (x->ex.vector == X86_TRAP_MC)
		return MK_RESUME;	/* the host's; the backend has handed it over */
	else if (x->ex.has_error)
		mk_queue_exception_error(v, x->ex.vector, x->ex.error);
	else
		mk_queue_exception(v, x->ex.vector);
	return MK_RESUME;
}

static enum mk_next exit_hlt(struct mk_vcpu *v, struct mk_exit *x)
{
	if (v->apic) {
		mk_insn_done(v, x->len);
		v->mp_state = KVM_MP_STATE_HALTED;
		return MK_RESUME;
	}
	mk_insn_done(v, x->len);
	v->run->exit_reason = KVM_EXIT_HLT;
	return MK_TO_USER;
}

/* A general register by number; RSP has a group of its own. */
static u64 *gpr_at(struct mk_vcpu *v, unsigned int nr, bool write)
{
	if (nr == MK_RSP) {
		if (write)
			mk_cpu_touch(&v->cpu, MK_G_RSP);
		else
			mk_cpu_need(&v->cpu, MK_G_RSP);
	}
	return &v->cpu.gpr[nr];
}

static int write_cr(struct mk_vcpu *v, unsigned int nr, u64 val)
{
	switch (nr) {
	case 0: return mk_set_cr0(v, val);
	case 3: return mk_set_cr3(v, val);
	case 4: return mk_set_cr4(v, val);
	case 8: return mk_set_cr8(v, val);
	}
	return -ENOENT;
}

static int read_cr(struct mk_vcpu *v, unsigned int nr, u64 *val)
{
	mk_cpu_need(&v->cpu, MK_G_CR | MK_G_CR3);
	switch (nr) {
	case 0: *val = v->cpu.cr0; return 0;
	case 2: *val = v->cpu.cr2; return 0;
	case 3: *val = v->cpu.cr3; return 0;
	case 4: *val = v->cpu.cr4; return 0;
	case 8: *val = mk_get_cr8(v); return 0;
	}
	return -ENOENT;
}

/* #UD for -ENOENT, #GP for the rest. */
static enum mk_next refuse(struct mk_vcpu *v, int err)
{
	if (err == -ENOENT)
		mk_queue_exception(v, X86_TRAP_UD);
	else
		mk_queue_gp(v);
	return MK_RESUME;
}

static enum mk_next exit_cr(struct mk_vcpu *v, struct mk_exit *x)
{
	bool wide = mk_cpu_code_mode(&v->cpu) == MK_MODE_64;
	u64 val, *gpr;
	u8 old_cr8 = 0;
	int err;

	switch (x->cr.access) {
	case MK_MOV_TO:
		gpr = gpr_at(v, x->cr.gpr, false);
		if (x->cr.nr == 8)
			old_cr8 = mk_get_cr8(v);
		err = write_cr(v, x->cr.nr, wide ? *gpr : (u32)*gpr);
		if (!err && x->cr.nr == 8 && !v->apic && (*gpr & 0xf) < old_cr8) {
			/* A userspace APIC may have something for the lower priority. */
			mk_insn_done(v, x->len);
			v->run->exit_reason = KVM_EXIT_SET_TPR;
			return MK_TO_USER;
		}
		break;
	case MK_MOV_FROM:
		err = read_cr(v, x->cr.nr, &val);
		if (!err) {
			gpr = gpr_at(v, x->cr.gpr, true);
			*gpr = wide ? val : (u32)val;
		}
		break;
	case MK_CLTS:
		mk_cpu_need(&v->cpu, MK_G_CR);
		err = mk_set_cr0(v, v->cpu.cr0 & ~(u64)X86_CR0_TS);
		break;
	case MK_SMSW:
		return mk_emulate(v);
	default:	/* LMSW can set PE, and not clear it */
		mk_cpu_need(&v->cpu, MK_G_CR);
		err = mk_set_cr0(v, (v->cpu.cr0 & ~0xeull) | (x->cr.lmsw & 0xf));
		break;
	}
	return err ? refuse(v, err) : MK_DONE;
}

/*
 * An intercepted MOV DR exits before the CPU has looked at privilege, at DR7.GD
 * and at CR4.DE (SDM vol. 3C, "Relative Priority of Faults and VM Exits"), so
 * we look.
 */
static enum mk_next exit_dr(struct mk_vcpu *v, struct mk_exit *x)
{
	struct mk_cpu *cpu = &v->cpu;
	unsigned int nr = x->cr.nr;
	u64 *gpr, val;
	int err;

	mk_cpu_need(cpu, MK_G_DR | MK_G_CR);
	if (mk_cpu_cpl(cpu))
		return refuse(v, -EINVAL);
	if (nr == 4 || nr == 5) {
		if (cpu->cr4 & X86_CR4_DE)
			return refuse(v, -ENOENT);
		nr += 2;
	}
	if (nr > 7)
		return refuse(v, -ENOENT);
	if (cpu->dr7 & MK_DR7_GD) {
		mk_debug_trap(v, MK_DR6_BD);
		return MK_RESUME;
	}
	if (x->cr.access == MK_MOV_FROM) {
		val = *mk_guest_dr(v, nr);
		gpr = gpr_at(v, x->cr.gpr, true);
		*gpr = mk_cpu_code_mode(cpu) == MK_MODE_64 ? val : (u32)val;
		return MK_DONE;
	}
	val = *gpr_at(v, x->cr.gpr, false);
	err = mk_set_dr(v, nr, mk_cpu_code_mode(cpu) == MK_MODE_64 ? val : (u32)val);
	return err ? refuse(v, err) : MK_DONE;
}

static int out_done(struct mk_vcpu *v)
{
	mk_insn_done(v, v->exit.len);
	return MK_RESUME;
}

static void set_acc(struct mk_vcpu *v, const void *data, unsigned int size)
{
	u64 *rax = &v->cpu.gpr[MK_RAX];

	switch (size) {
	case 1: *(u8 *)rax = *(const u8 *)data; break;
	case 2: *(u16 *)rax = *(const u16 *)data; break;
	default: *rax = *(const u32 *)data; break;
	}
}

static int in_done(struct mk_vcpu *v)
{
	set_acc(v, v->pio_page, v->exit.io.size);
	trace_kvm_pio(false, v->exit.io.port, v->exit.io.size, 1, v->cpu.gpr[MK_RAX]);
	return out_done(v);
}

static enum mk_next exit_io(struct mk_vcpu *v, struct mk_exit *x)
{
	const struct mk_board_ops *board = v->apic ? mk_board(v->vm) : NULL;
	u32 data = v->cpu.gpr[MK_RAX];

	if (x->io.string)
		return mk_emulate(v);
	if (!x->io.in)
		trace_kvm_pio(true, x->io.port, x->io.size, 1, data);
	if (board && board->pio(v, x->io.port, x->io.size, &data, !x->io.in)) {
		if (x->io.in) {
			set_acc(v, &data, x->io.size);
			trace_kvm_pio(false, x->io.port, x->io.size, 1, data);
		}
		return MK_DONE;
	}
	if (!x->io.in && mk_doorbell(v->vm, MK_SPACE_PIO, x->io.port, x->io.size, &data))
		return MK_DONE;
	mk_pio_exit(v, x->io.port, x->io.size, 1, x->io.in);
	if (x->io.in) {
		v->complete = in_done;
		return MK_TO_USER;
	}
	memcpy(v->pio_page, &data, x->io.size);
	/* There are VMMs that look for what is behind this one. */
	if (x->io.port == 0x7e && mk_has_quirk(v->vm, KVM_X86_QUIRK_OUT_7E_INC_RIP))
		mk_insn_done(v, x->len);
	else
		v->complete = out_done;
	return MK_TO_USER;
}

/* Where spinlocks sleep, those of eventfds do too. */
static enum mk_next exit_io_fast(struct mk_vcpu *v, struct mk_exit *x)
{
	if (x->io.string || IS_ENABLED(CONFIG_PREEMPT_RT))
		return MK_SLOW;
	return exit_io(v, x);
}

static enum mk_next exit_tdp_fault(struct mk_vcpu *v, struct mk_exit *x)
{
	if (trace_kvm_page_fault_enabled()) {
		mk_cpu_need(&v->cpu, MK_G_RIP);
		trace_kvm_page_fault(v->id, v->cpu.rip, x->gpa, x->access);
	}
	switch (mk_mmu_fault(v, x->gpa, x->access)) {
	case MK_FAULT_MAPPED:
	case MK_FAULT_SIGNAL:
		return MK_RESUME;
	case MK_FAULT_DEVICE:
		return mk_emulate(v);
	case MK_FAULT_NOMEM:
		return MK_NOMEM;
	case MK_FAULT_BAD:
		break;
	}
	snprintf(v->death, sizeof(v->death),
		 "the VMM's own mapping behind gpa 0x%llx refuses the guest's %s", x->gpa,
		 x->access & MK_TDP_WRITE ? "write" : x->access & MK_TDP_EXEC ? "fetch" : "read");
	return MK_FAULT;
}

static enum mk_next exit_tdp_misconfig(struct mk_vcpu *v, struct mk_exit *x)
{
	return mk_die(v, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
		      "the nested page tables for gpa 0x%llx are not what the CPU accepts: a bug in mini-kvm",
		      x->gpa);
}

static enum mk_next exit_eoi(struct mk_vcpu *v, struct mk_exit *x)
{
	mk_board(v->vm)->virt_eoi(v, x->apic);
	return MK_RESUME;
}

static enum mk_next exit_apic_write(struct mk_vcpu *v, struct mk_exit *x)
{
	mk_board(v->vm)->virt_write(v, x->apic);
	return MK_RESUME;
}

static enum mk_next exit_fail_entry(struct mk_vcpu *v, struct mk_exit *x)
{
	v->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	v->run->fail_entry.hardware_entry_failure_reason = x->hw;
	v->run->fail_entry.cpu = v->cpu.host_cpu;
	mk_hw->describe(&v->cpu, v->death, sizeof(v->death));
	return MK_TO_USER;
}

static enum mk_next exit_unknown(struct mk_vcpu *v, struct mk_exit *x)
{
	return mk_die(v, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
		      "the CPU left the guest for a reason that mini-kvm does not know: 0x%x, qualification 0x%llx",
		      x->hw, x->raw.qual);
}

/*
 * A fast handler may enter the guest again with interrupts still disabled. Only
 * where it then gets to an instruction boundary: there an interrupt of the host
 * ends its run. An exception that recurs in its own delivery never comes to
 * one, and windows precede interrupts.
 */
#define FAST(fn)	fn, fn
#define SLOW(fn)	fn, NULL
#define INSN		true	/* an instruction exited: x->len must be known */

typedef enum mk_next (*handler)(struct mk_vcpu *v, struct mk_exit *x);

static const struct {
	handler slow, fast;
	bool insn;
} handlers[MK_EXIT_NR] = {
	[MK_EXIT_NONE]		= { SLOW(exit_unknown) },
	[MK_EXIT_INTR]		= { SLOW(exit_resume) },	/* taken when interrupts are enabled */
	[MK_EXIT_NMI]		= { FAST(exit_resume) },
	[MK_EXIT_EXCEPTION]	= { SLOW(exit_exception) },
	[MK_EXIT_TRIPLE_FAULT]	= { SLOW(exit_triple_fault) },
	[MK_EXIT_INIT]		= { SLOW(exit_resume) },
	[MK_EXIT_SMI]		= { SLOW(exit_resume) },
	[MK_EXIT_IRQ_WINDOW]	= { SLOW(exit_window) },
	[MK_EXIT_NMI_WINDOW]	= { SLOW(exit_window) },
	[MK_EXIT_TASK_SWITCH]	= { SLOW(mk_task_switch) },
	[MK_EXIT_CPUID]		= { FAST(exit_cpuid), INSN },
	[MK_EXIT_HLT]		= { SLOW(exit_hlt), INSN },
	[MK_EXIT_INVD]		= { FAST(exit_done), INSN },
	[MK_EXIT_WBINVD]	= { FAST(exit_done), INSN },
	[MK_EXIT_RDPMC]		= { FAST(exit_rdpmc) },
	[MK_EXIT_HYPERCALL]	= { exit_hypercall, exit_hypercall_fast, INSN },
	[MK_EXIT_CR]		= { SLOW(exit_cr), INSN },
	[MK_EXIT_DR]		= { FAST(exit_dr), INSN },
	[MK_EXIT_TABLE]		= { SLOW(exit_emulate) },
	[MK_EXIT_IO]		= { exit_io, exit_io_fast, INSN },
	[MK_EXIT_RDMSR]		= { FAST(exit_rdmsr), INSN },
	[MK_EXIT_WRMSR]		= { FAST(exit_wrmsr), INSN },
	[MK_EXIT_XSETBV]	= { SLOW(exit_xsetbv), INSN },
	[MK_EXIT_PAUSE]		= { SLOW(exit_pause), INSN },
	[MK_EXIT_MONITOR]	= { FAST(exit_mwait), INSN },
	[MK_EXIT_MWAIT]		= { FAST(exit_mwait), INSN },
	[MK_EXIT_TDP_FAULT]	= { SLOW(exit_tdp_fault) },
	[MK_EXIT_TDP_MISCONFIG]	= { SLOW(exit_tdp_misconfig) },
	[MK_EXIT_EOI]		= { FAST(exit_eoi) },
	[MK_EXIT_APIC_WRITE]	= { FAST(exit_apic_write) },
	[MK_EXIT_UNDEFINED]	= { FAST(exit_undefined) },
	[MK_EXIT_FAIL_ENTRY]	= { SLOW(exit_fail_entry) },
	[MK_EXIT_UNKNOWN]	= { SLOW(exit_unknown) },
};

static bool needs_fill(const struct mk_exit *x)
{
	return handlers[x->kind].insn && (!x->len || (x->flags & MK_XF_DECODE));
}

static enum mk_next handle(struct mk_vcpu *v, struct mk_exit *x, handler fn)
{
	enum mk_next next = fn(v, x);

	if (next != MK_DONE)
		return next;
	mk_insn_done(v, x->len);
	return MK_RESUME;
}

/* CR and DR exits carry a flag that only some CPUs set: see MK_XF_DECODE. */
enum mk_next mk_exit_fast(struct mk_vcpu *v, struct mk_exit *x)
{
	handler fast = handlers[x->kind].fast;

	if (!fast || (needs_fill(x) && !mk_insn_fill(v, x, false)))
		return MK_SLOW;
	return handle(v, x, fast);
}

enum mk_next mk_exit_slow(struct mk_vcpu *v, struct mk_exit *x)
{
	if (needs_fill(x) && !mk_insn_fill(v, x, true)) {
		if (v->exception.pending)
			return MK_RESUME;
		mk_cpu_need(&v->cpu, MK_G_RIP);
		if (mk_refused(v))
			return MK_FAULT;
		return mk_die(v, KVM_INTERNAL_ERROR_EMULATION,
			      "the instruction at rip 0x%llx that made the exit cannot be read or is not what the exit says",
			      v->cpu.rip);
	}
	return handle(v, x, handlers[x->kind].slow);
}
