/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A local APIC from the inside: what lapic.c, which delivers and accepts
 * interrupts, lapic_regs.c, which is what software sees of it, and lapic_virt.c,
 * which hands it to the CPU, share.
 *
 * The registers live in a page laid out as the manual and KVM_GET_LAPIC have
 * it. They belong to the vCPU's thread, and others only look at them, except for
 * TMR, whose bits anybody may change, atomically. Who brings an interrupt leaves it
 * in mk_lapic.arrived; the vCPU's thread adds that to IRR when it looks there. Each
 * of IRR and ISR has a summary, one bit for each of its eight words that is not
 * empty, so that the highest vector is found without a search. PPR is kept up to
 * date whenever TPR or ISR change. While the CPU keeps the APIC (mk_cpu.virt_apic) it
 * does all that by itself, and the summaries name all words.
 */
#ifndef MK_BOARD_LAPIC_H
#define MK_BOARD_LAPIC_H

#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "board/chips.h"

/* Error Status Register */
#define MK_ESR_SEND_VECTOR	BIT(5)
#define MK_ESR_RECEIVE_VECTOR	BIT(6)
#define MK_ESR_REGISTER		BIT(7)

struct mk_lapic {
	struct mk_vcpu *v;		/* (c) */
	struct mk_irqchip *chip;	/* (c) */
	void *regs;			/* (c) the page */
	u64 base;			/* IA32_APIC_BASE */
	atomic_t arrived[MK_NR_VECTORS / 32]; /* (a) to be added to IRR */
	unsigned long arrived_words;	/* (a) summary of it, in which some may be empty */
	unsigned long irr_words;	/* summary of IRR */
	unsigned long isr_words;	/* summary of ISR */
	atomic_t errors;		/* (a) what the next write to ESR makes visible */
	int extint;			/* what userspace's PIC has answered; -1: nothing */
	unsigned int lowest_taken;	/* (a) lowest-priority interrupts it was chosen for */
	struct hrtimer timer;
	u32 eoi_version;		/* of chip->eoi_pins, as the CPU knows it */
	u64 period;			/* ns from initial count to 0; 0: stopped */
	u64 deadline;			/* IA32_TSC_DEADLINE, while the timer runs */
};

static inline u32 mk_lapic_get(const struct mk_lapic *apic, unsigned int reg)
{
	return READ_ONCE(*(u32 *)(apic->regs + reg));
}

static inline void mk_lapic_put(struct mk_lapic *apic, unsigned int reg, u32 val)
{
	WRITE_ONCE(*(u32 *)(apic->regs + reg), val);
}

static inline bool mk_lapic_hw_enabled(const struct mk_lapic *apic)
{
	return READ_ONCE(apic->base) & MSR_IA32_APICBASE_ENABLE;
}

static inline bool mk_lapic_enabled(const struct mk_lapic *apic)
{
	return mk_lapic_hw_enabled(apic) &&
	       (mk_lapic_get(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED);
}

static inline bool mk_lapic_x2apic(const struct mk_lapic *apic)
{
	return READ_ONCE(apic->base) & X2APIC_ENABLE;
}

static inline bool mk_lapic_is_virt(const struct mk_lapic *apic)
{
	return apic->v->cpu.virt_apic;
}

/* The highest vector of APIC_IRR or APIC_ISR, whose summary is @words; or -1. */
static inline int mk_lapic_highest(const struct mk_lapic *apic, unsigned int reg,
				   unsigned long words)
{
	unsigned int word;
	u32 bits;

	for (; words; words &= ~BIT(word)) {
		word = __fls(words);
		bits = mk_lapic_get(apic, reg + word * 0x10);
		if (likely(bits))
			return word * 32 + __fls(bits);
	}
	return -1;
}

/* dest.c */
/* Someone's mode or logical ID has changed. Any context but under [B]. */
void mk_lapic_map(struct mk_irqchip *chip);

/* lapic.c; on the vCPU's own thread, except those that say otherwise */
/* An interrupt has arrived at this APIC; a status. Any context. */
int mk_lapic_accept(struct mk_lapic *apic, const struct mk_apic_msg *msg);
/* Add what has arrived to IRR; or forget it. */
void mk_lapic_add_arrived(struct mk_lapic *apic);
void mk_lapic_drop_arrived(struct mk_lapic *apic);
static inline void mk_lapic_take_arrived(struct mk_lapic *apic)
{
	if (READ_ONCE(apic->arrived_words))
		mk_lapic_add_arrived(apic);
}
void mk_lapic_eoi(struct mk_lapic *apic);
void mk_lapic_set_tpr(struct mk_lapic *apic, u32 tpr);
/* Tell the I/O APIC of the EOI of a vector that is in chip->eoi_pins. */
void mk_lapic_tell_ioapic(struct mk_lapic *apic, u8 vector);
/* The registers were replaced: work out anew what is derived from them. */
void mk_lapic_summarize(struct mk_lapic *apic);
/* It may take interrupts now that it could not before: have the core look. */
void mk_lapic_recheck(struct mk_lapic *apic);
/* The source of a local vector, LVT register @reg, has fired. Any context. */
void mk_lapic_fire(struct mk_lapic *apic, unsigned int reg);
/* lapic_virt.c */
/* The APIC's mode may have changed: who keeps it from now on, we or the CPU? */
void mk_lapic_choose_keeper(struct mk_lapic *apic);

/* lapic_regs.c */
/* Which registers in x2APIC mode read as the page has them: a bit for each 16 bytes */
u64 mk_lapic_plain_regs(void);

/* lapic.c */
/* Note MK_ESR_* @bit and raise the error interrupt. Any context. */
void mk_lapic_error(struct mk_lapic *apic, u32 bit);

#endif
