// SPDX-License-Identifier: GPL-2.0
/*
 * Local APICs: how interrupts arrive, and which one a vCPU takes next.
 *
 * Source: SDM vol. 3A, "Advanced Programmable Interrupt Controller", section
 * "Handling Interrupts".
 *
 * Knows: the core's requests and kicks, and the I/O APIC's EOI. Read next:
 * board/lapic.h if you have not; dest.c; lapic_regs.c; core/events.c, which
 * asks for vectors.
 */
#include <linux/bitops.h>

#include "board/board.h"
#include "board/lapic.h"

#define ALL_WORDS	(BIT(MK_NR_VECTORS / 32) - 1)

/* Offset of the word of IRR, ISR or TMR that has @vector's bit. */
static unsigned int word_of(unsigned int reg, u8 vector)
{
	return reg + vector / 32 * 0x10;
}

/* In IRR or ISR; what the word is afterwards. */
static u32 change_bit_of(struct mk_lapic *apic, unsigned int reg, u8 vector, bool on)
{
	u32 word, bit = BIT(vector % 32);

	reg = word_of(reg, vector);
	word = mk_lapic_get(apic, reg);
	word = on ? word | bit : word & ~bit;
	mk_lapic_put(apic, reg, word);
	return word;
}

/*
 * The summary goes first: a bit that is set behind our back comes back there, perhaps
 * when it has been taken already.
 */
void mk_lapic_add_arrived(struct mk_lapic *apic)
{
	unsigned long words = xchg(&apic->arrived_words, 0);
	unsigned int word, reg;

	for (; words; words &= words - 1) {
		word = __ffs(words);
		reg = APIC_IRR + word * 0x10;
		mk_lapic_put(apic, reg, mk_lapic_get(apic, reg) |
					atomic_xchg(&apic->arrived[word], 0));
		apic->irr_words |= BIT(word);
	}
}

void mk_lapic_drop_arrived(struct mk_lapic *apic)
{
	unsigned long words = xchg(&apic->arrived_words, 0);

	for (; words; words &= words - 1)
		atomic_set(&apic->arrived[__ffs(words)], 0);
}

static void update_ppr(struct mk_lapic *apic)
{
	u32 tpr = mk_lapic_get(apic, APIC_TASKPRI);
	int isr = mk_lapic_highest(apic, APIC_ISR, apic->isr_words);
	u32 class = isr < 0 ? 0 : isr & 0xf0;

	mk_lapic_put(apic, APIC_PROCPRI, (tpr & 0xf0) >= class ? tpr : class);
	/* A CPU that lets the guest read CR8 without an exit shows this. */
	apic->v->cpu.cr8 = tpr >> 4;
}

static int pending(struct mk_lapic *apic)
{
	int ppr = mk_lapic_get(apic, APIC_PROCPRI), vector;

	mk_lapic_take_arrived(apic);
	vector = mk_lapic_highest(apic, APIC_IRR, apic->irr_words);
	return vector >= 0 && (vector & 0xf0) > (ppr & 0xf0) && mk_lapic_enabled(apic) ? vector : -1;
}

void mk_lapic_recheck(struct mk_lapic *apic)
{
	if (mk_lapic_is_virt(apic) || pending(apic) >= 0)
		mk_request(apic->v, MK_REQ_EVENT);
}

void mk_lapic_set_tpr(struct mk_lapic *apic, u32 tpr)
{
	mk_lapic_put(apic, APIC_TASKPRI, tpr & 0xff);
	apic->v->cpu.cr8 = (tpr & 0xff) >> 4;	/* the guest may read it without an exit */
	update_ppr(apic);
	/*
	 * What waits may be let in; or may have to wait for the next change. A CPU that
	 * keeps the APIC always hears of it: its summaries are never empty.
	 */
	if (apic->irr_words)
		mk_request(apic->v, MK_REQ_EVENT);
}

u8 mk_lapic_cr8_threshold(struct mk_vcpu *v)
{
	const struct mk_lapic *apic = v->apic;
	int class = mk_lapic_highest(apic, APIC_IRR, apic->irr_words) >> 4;
	int tpr = mk_lapic_get(apic, APIC_TASKPRI) >> 4;

	return class >= 0 && class <= tpr && mk_lapic_enabled(apic) ? class : 0;
}

void mk_lapic_summarize(struct mk_lapic *apic)
{
	int word;

	apic->irr_words = apic->isr_words = mk_lapic_is_virt(apic) ? ALL_WORDS : 0;
	for (word = 0; word < MK_NR_VECTORS / 32; word++) {
		if (mk_lapic_get(apic, APIC_IRR + word * 0x10))
			apic->irr_words |= BIT(word);
		if (mk_lapic_get(apic, APIC_ISR + word * 0x10))
			apic->isr_words |= BIT(word);
	}
	update_ppr(apic);
	mk_request(apic->v, MK_REQ_EVENT);
}

int mk_lapic_pending(const struct mk_vcpu *v)
{
	return pending(v->apic);
}

void mk_lapic_ack(struct mk_vcpu *v, u8 vector)
{
	struct mk_lapic *apic = v->apic;

	if (!change_bit_of(apic, APIC_IRR, vector, false))
		apic->irr_words &= ~BIT(vector / 32);
	change_bit_of(apic, APIC_ISR, vector, true);
	apic->isr_words |= BIT(vector / 32);
	mk_lapic_put(apic, APIC_PROCPRI, vector & 0xf0);
}

/*
 * A level came as one: userspace hears of its end wherever the route points by
 * now. For an edge with a level's vector it does, as of stock KVM, where the route
 * points here.
 */
void mk_lapic_tell_ioapic(struct mk_lapic *apic, u8 vector)
{
	struct mk_vcpu *v = apic->v;

	if (!apic->chip->split) {
		mk_ioapic_eoi(apic->chip, vector);
	} else if (mk_lapic_get(apic, APIC_SPIV) & APIC_SPIV_DIRECTED_EOI) {
		return;		/* the guest tells it */
	} else if ((mk_lapic_get(apic, word_of(APIC_TMR, vector)) & BIT(vector % 32)) ||
		   mk_routes_reach(apic, vector)) {
		/* Taken before the next entry: there is never a second one. */
		v->eoi_vector = vector;
		mk_request(v, MK_REQ_EOI_EXIT);
	}
}

void mk_lapic_eoi(struct mk_lapic *apic)
{
	int vector = mk_lapic_highest(apic, APIC_ISR, apic->isr_words);

	if (vector < 0)
		return;
	if (!change_bit_of(apic, APIC_ISR, vector, false) && !mk_lapic_is_virt(apic))
		apic->isr_words &= ~BIT(vector / 32);
	update_ppr(apic);
	if (READ_ONCE(apic->chip->eoi_pins[vector]))
		mk_lapic_tell_ioapic(apic, vector);
	mk_lapic_recheck(apic);
}

void mk_lapic_eoi_of(struct mk_vcpu *v)
{
	mk_lapic_eoi(v->apic);
}

bool mk_lapic_eoi_is_alone(const struct mk_vcpu *v, u8 vector)
{
	const struct mk_lapic *apic = v->apic;

	return apic->isr_words == BIT(vector / 32) &&
	       mk_lapic_get(apic, word_of(APIC_ISR, vector)) == BIT(vector % 32) &&
	       !apic->irr_words && !READ_ONCE(apic->arrived_words) &&
	       !READ_ONCE(apic->chip->eoi_pins[vector]);
}

/* Returns a status: 1, or 0 where it waits already. */
static int set_irr(struct mk_lapic *apic, u8 vector, bool level)
{
	atomic_t *tmr = apic->regs + word_of(APIC_TMR, vector);
	u32 bit = BIT(vector % 32);
	bool waits;

	if (!!(atomic_read(tmr) & bit) != level) {
		if (level)
			atomic_or(bit, tmr);
		else
			atomic_andnot(bit, tmr);
	}
	waits = mk_lapic_get(apic, word_of(APIC_IRR, vector)) & bit;
	if (atomic_fetch_or(bit, &apic->arrived[vector / 32]) & bit)
		return 0;
	set_bit(vector / 32, &apic->arrived_words);
	mk_request(apic->v, MK_REQ_EVENT);
	mk_vcpu_kick(apic->v);
	return !waits;
}

void mk_lapic_error(struct mk_lapic *apic, u32 bit)
{
	u32 lvt = mk_lapic_get(apic, APIC_LVTERR);
	u8 vector = lvt;

	atomic_or(bit, &apic->errors);
	if (!(lvt & APIC_LVT_MASKED) && vector >= 16 && mk_lapic_enabled(apic))
		set_irr(apic, vector, false);
}

int mk_lapic_accept(struct mk_lapic *apic, const struct mk_apic_msg *msg)
{
	u8 vector = msg->vector;

	switch (msg->mode) {
	case MK_DM_FIXED:
	case MK_DM_LOWEST:
		if (!mk_lapic_enabled(apic))
			return -1;
		if (vector < 16) {
			mk_lapic_error(apic, MK_ESR_RECEIVE_VECTOR);
			return -1;
		}
		return set_irr(apic, vector, msg->level);
	case MK_DM_NMI:
		mk_queue_nmi(apic->v);
		return 1;
	case MK_DM_INIT:
		mk_queue_init(apic->v);
		return 1;
	case MK_DM_STARTUP:
		mk_queue_sipi(apic->v, vector);
		return 1;
	default:
		return -1;
	}
}

void mk_lapic_fire(struct mk_lapic *apic, unsigned int reg)
{
	u32 lvt = mk_lapic_get(apic, reg);
	struct mk_apic_msg msg = {
		.vector = lvt & APIC_VECTOR_MASK,
		.mode = GET_APIC_DELIVERY_MODE(lvt),
		.level = lvt & APIC_LVT_LEVEL_TRIGGER,
	};

	if (mk_lapic_hw_enabled(apic) && !(lvt & APIC_LVT_MASKED))
		mk_lapic_accept(apic, &msg);
}

void mk_lapic_cmci(struct mk_vcpu *v)
{
	mk_lapic_fire(v->apic, APIC_LVTCMCI);
}

bool mk_lapic_takes_pic(const struct mk_vcpu *v)
{
	const struct mk_lapic *apic = v->apic;
	u32 lvt = mk_lapic_get(apic, APIC_LVT0);

	/* A disabled APIC is transparent: the pin is the CPU's INTR. */
	return !mk_lapic_hw_enabled(apic) ||
	       (!(lvt & APIC_LVT_MASKED) && GET_APIC_DELIVERY_MODE(lvt) == MK_DM_EXTINT);
}

int mk_lapic_extint_waiting(const struct mk_vcpu *v)
{
	return ((const struct mk_lapic *)v->apic)->extint;
}

int mk_lapic_extint_take(struct mk_vcpu *v)
{
	struct mk_lapic *apic = v->apic;
	int vector = apic->extint;

	apic->extint = -1;
	return vector;
}

bool mk_lapic_extint_free(struct mk_vcpu *v)
{
	return mk_lapic_extint_waiting(v) < 0 && mk_lapic_takes_pic(v);
}

int mk_lapic_extint(struct mk_vcpu *v, u8 vector)
{
	struct mk_lapic *apic = v->apic;

	if (!apic->chip->split)
		return -ENXIO;
	if (apic->extint >= 0)
		return -EEXIST;
	apic->extint = vector;
	mk_request(v, MK_REQ_EVENT);
	return 0;
}

void mk_lapic_lint0(struct mk_vm *vm)
{
	struct mk_vcpu *v;
	unsigned long id;

	rcu_read_lock();
	xa_for_each(&vm->vcpus, id, v) {
		if (mk_lapic_takes_pic(v)) {
			mk_request(v, MK_REQ_EVENT);
			mk_vcpu_kick(v);
		} else {
			mk_lapic_fire(v->apic, APIC_LVT0);
		}
	}
	rcu_read_unlock();
}
