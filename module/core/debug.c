// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_GUEST_DEBUG: a debugger outside of the guest. It steps with RFLAGS.TF,
 * plants INT3s, or has the four breakpoint registers for itself; what they raise
 * is KVM_EXIT_DEBUG, and the guest does not hear of it.
 *
 * While the debugger has debug registers, those that the guest reads and writes
 * are kept here, and have no effect: mk_guest_dr(). A guest that is being
 * stepped has no TF of its own; it may find the debugger's in what it pushes. All
 * this is as in stock KVM.
 *
 * Source: SDM vol. 3B and APM vol. 2, both under "Debug". Read next: core/events.c.
 */
#include <asm/trapnr.h>

#include "core/vcpu.h"

void mk_debug_trap(struct mk_vcpu *v, u64 dr6)
{
	if (likely(!mk_debug_has_db(v))) {
		mk_queue_debug(v, dr6);
		return;
	}
	v->debug.vector = X86_TRAP_DB;
	v->debug.dr6 = dr6;
	mk_request(v, MK_REQ_DEBUG);
}

bool mk_debug_int3(struct mk_vcpu *v)
{
	if (!(v->debug.control & KVM_GUESTDBG_USE_SW_BP))
		return false;
	v->debug.vector = X86_TRAP_BP;
	v->debug.dr6 = 0;
	mk_request(v, MK_REQ_DEBUG);
	return true;
}

void mk_debug_exit(struct mk_vcpu *v)
{
	struct kvm_debug_exit_arch *arch = &v->run->debug.arch;
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_need(cpu, MK_G_RIP | MK_G_CODE | MK_G_DR);
	v->run->exit_reason = KVM_EXIT_DEBUG;
	memset(arch, 0, sizeof(*arch));
	arch->exception = v->debug.vector;
	arch->pc = cpu->rip;
	if (mk_cpu_code_mode(cpu) != MK_MODE_64)
		arch->pc = (u32)(cpu->seg[MK_CS].base + cpu->rip);
	arch->dr6 = v->debug.dr6 | MK_DR6_FIXED;
	arch->dr7 = cpu->dr7;
}

void mk_debug_begin(struct mk_vcpu *v)
{
	if (unlikely(mk_debug_has_db(v))) {
		mk_cpu_touch(&v->cpu, MK_G_DR);
		v->cpu.dr6 = MK_DR6_FIXED;	/* only new bits are to be told */
	}
	if (likely(!(v->debug.control & KVM_GUESTDBG_SINGLESTEP)))
		return;
	mk_cpu_touch(&v->cpu, MK_G_RFLAGS | MK_G_SHADOW);
	v->cpu.rflags |= X86_EFLAGS_TF;
	/* The trap comes after the next instruction, and VT-x refuses TF in a shadow without one. */
	v->cpu.shadow &= ~(MK_SHADOW_STI | MK_SHADOW_MOVSS);
}

/* Hand DR6 and the breakpoint registers back to the guest, and to who is to have them now. */
static void switch_registers(struct mk_vcpu *v, u32 control, const __u64 reg[8])
{
	struct mk_debug *d = &v->debug;
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_touch(cpu, MK_G_DR);
	if (mk_debug_has_db(v))
		cpu->dr6 = d->guest_dr6;
	if (mk_debug_has_breakpoints(v)) {
		memcpy(cpu->dr, d->guest_dr, sizeof(cpu->dr));
		cpu->dr7 = d->guest_dr7;
	}
	d->control = control;
	if (mk_debug_has_db(v)) {
		d->guest_dr6 = cpu->dr6;
		cpu->dr6 = MK_DR6_FIXED;
	}
	if (mk_debug_has_breakpoints(v)) {
		memcpy(d->guest_dr, cpu->dr, sizeof(cpu->dr));
		d->guest_dr7 = cpu->dr7;
		memcpy(cpu->dr, reg, sizeof(cpu->dr));
		cpu->dr7 = (reg[7] & MK_DR7_WRITABLE) | MK_DR7_FIXED;
	}
}

int mk_debug_set(struct mk_vcpu *v, const struct kvm_guest_debug *debug)
{
	u32 control = debug->control;

	if (control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (v->exception.pending)
			return -EBUSY;
		if (control & KVM_GUESTDBG_INJECT_DB) {
			mk_queue_exception(v, X86_TRAP_DB);
		} else {
			/* INT3 has been executed: what it pushes is the address behind it. */
			mk_cpu_touch(&v->cpu, MK_G_RIP);
			v->cpu.rip++;
			mk_queue_exception(v, X86_TRAP_BP);
		}
	}
	if (!(control & KVM_GUESTDBG_ENABLE))
		control = 0;

	if (v->debug.control & KVM_GUESTDBG_SINGLESTEP) {
		mk_cpu_touch(&v->cpu, MK_G_RFLAGS);
		v->cpu.rflags &= ~(u64)X86_EFLAGS_TF;
	}
	switch_registers(v, control, debug->arch.debugreg);
	clear_bit(MK_REQ_DEBUG, &v->requests);
	mk_request(v, MK_REQ_EVENT);	/* interrupts may be let in again */
	mk_hw->trap_int3(&v->cpu, control & KVM_GUESTDBG_USE_SW_BP);
	return 0;
}
