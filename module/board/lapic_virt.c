// SPDX-License-Identifier: GPL-2.0
/*
 * A local APIC in the hands of the CPU.
 *
 * While its guest runs in x2APIC mode, a CPU that can (mk_cpu.can_virt_apic) works on
 * the page of registers by itself: it delivers what IRR has, priorities and EOIs are
 * its own, and most registers are read without an exit. Nobody else writes to the
 * page meanwhile. What arrives is added to IRR before the next entry, where the CPU is
 * told which vectors are the highest in IRR and in ISR; whatever changes either of
 * them outside the guest asks for that with MK_REQ_EVENT. Writes to the other
 * registers exit, and are done as ever. In xAPIC mode, all is as ever.
 *
 * Source: SDM vol. 3C, "APIC Virtualization and Virtual Interrupts".
 *
 * Knows: lapic.c. Read next: vmx/run.c, load_virt_apic().
 */
#include "board/board.h"
#include "board/lapic.h"

/* A bit for each MSR of the x2APIC */
#define BY_ITSELF	(BIT_ULL(APIC_TASKPRI >> 4) | BIT_ULL(APIC_EOI >> 4) |	\
			 BIT_ULL(APIC_SELF_IPI >> 4))

static void pass_msrs(struct mk_cpu *cpu, bool pass)
{
	u64 read = pass ? mk_lapic_plain_regs() : 0, write = pass ? BY_ITSELF : 0;
	unsigned int i;

	for (i = 0; i < 64; i++)
		mk_hw->pass_msr(cpu, APIC_BASE_MSR + i, read >> i & 1, write >> i & 1);
}

/* The CPU tells of an EOI where somebody wants to hear of it. */
static void choose_eois(struct mk_lapic *apic)
{
	struct mk_cpu *cpu = &apic->v->cpu;
	unsigned int vector;

	apic->eoi_version = smp_load_acquire(&apic->chip->eoi_version);
	memset(cpu->apic_eois, 0, sizeof(cpu->apic_eois));
	for (vector = 16; vector < MK_NR_VECTORS; vector++)
		if (READ_ONCE(apic->chip->eoi_pins[vector]))
			cpu->apic_eois[vector / 64] |= BIT_ULL(vector % 64);
	cpu->apic_changed |= MK_APIC_EOIS;
}

void mk_lapic_choose_keeper(struct mk_lapic *apic)
{
	struct mk_cpu *cpu = &apic->v->cpu;
	bool virt = cpu->can_virt_apic && mk_lapic_x2apic(apic);

	if (virt == cpu->virt_apic)
		return;
	cpu->virt_apic = virt;
	pass_msrs(cpu, virt);
	mk_lapic_summarize(apic);
	choose_eois(apic);
}

void mk_lapic_virtualize(struct mk_vcpu *v)
{
	struct mk_lapic *apic = v->apic;
	struct mk_cpu *cpu = &v->cpu;
	bool deliver = mk_lapic_enabled(apic) && !(v->debug.control & KVM_GUESTDBG_BLOCKIRQ);

	mk_lapic_take_arrived(apic);
	cpu->apic_irr = deliver ? max(mk_lapic_highest(apic, APIC_IRR, apic->irr_words), 0) : 0;
	cpu->apic_isr = max(mk_lapic_highest(apic, APIC_ISR, apic->isr_words), 0);
	cpu->apic_changed |= MK_APIC_STATUS;
	/* Who takes an interest in a vector's EOI does so before it comes. */
	if (unlikely(READ_ONCE(apic->chip->eoi_version) != apic->eoi_version))
		choose_eois(apic);
}

void mk_lapic_virt_eoi(struct mk_vcpu *v, u8 vector)
{
	struct mk_lapic *apic = v->apic;

	if (READ_ONCE(apic->chip->eoi_pins[vector]))
		mk_lapic_tell_ioapic(apic, vector);
}

/* The one register that a guest writes by itself, but for a vector that cannot be. */
void mk_lapic_virt_write(struct mk_vcpu *v, u16 offset)
{
	if (offset == APIC_SELF_IPI)
		mk_lapic_error(v->apic, MK_ESR_SEND_VECTOR);
}
