// SPDX-License-Identifier: GPL-2.0
/*
 * The pair of 8259A interrupt controllers, with the ELCR of a PIIX chipset.
 *
 * Source: the 8259A data sheet, "Operation Command Words" and "Initialization
 * Command Words". Every change ends in update(), which works out what the pair
 * would answer to an INTA now: asking for it costs the vCPUs one load.
 *
 * Knows: local APICs, whose LINT0 pin the master drives. Read next: ioapic.c.
 */
#include <linux/bitops.h>

#include "board/chips.h"

#define CASCADE	2	/* the master's input that the slave drives */

/* The one of @lines with the highest priority, or -1. */
static int first(const struct kvm_pic_state *s, u8 lines)
{
	if (!lines)
		return -1;
	return (__ffs(ror8(lines, s->priority_add)) + s->priority_add) & 7;
}

/* The line that chip @n wants served now, or -1. */
static int wanted(const struct mk_irqchip *chip, int n)
{
	const struct kvm_pic_state *s = &chip->pic[n];
	u8 busy = s->isr;
	int irq, serving;

	if (s->special_mask)
		busy &= ~s->imr;
	/* Specially nested: while one slave interrupt is served, another may come. */
	if (n == 0 && s->special_fully_nested_mode)
		busy &= ~BIT(CASCADE);

	irq = first(s, s->irr & ~s->imr);
	serving = first(s, busy);
	if (irq < 0 || serving < 0)
		return irq;
	return ((irq - s->priority_add) & 7) < ((serving - s->priority_add) & 7) ? irq : -1;
}

static void update(struct mk_irqchip *chip)
{
	struct kvm_pic_state *master = &chip->pic[0], *slave = &chip->pic[1];
	int irq2 = wanted(chip, 1), irq, vector = -1;
	bool rises;

	/* The cascade is a level: the master sees it as long as the slave asks. */
	master->irr &= ~BIT(CASCADE);
	if (irq2 >= 0)
		master->irr |= BIT(CASCADE);

	irq = wanted(chip, 0);
	if (irq == CASCADE)
		vector = (slave->irq_base & 0xf8) + irq2;
	else if (irq >= 0)
		vector = (master->irq_base & 0xf8) + irq;

	rises = chip->pic_vector < 0 && vector >= 0;
	WRITE_ONCE(chip->pic_vector, vector);
	if (rises)
		mk_lapic_lint0(chip->vm);
}

/* Line @irq of chip @s is no longer in service. */
static void done(struct mk_irqchip *chip, const struct kvm_pic_state *s, int irq)
{
	chip->pic_done |= BIT(irq + (s == &chip->pic[1] ? 8 : 0));
}

/* The chip's half of an INTA cycle. */
static void accept(struct mk_irqchip *chip, struct kvm_pic_state *s, int irq)
{
	if (!(s->elcr & BIT(irq)))
		s->irr &= ~BIT(irq);
	if (!s->auto_eoi) {
		s->isr |= BIT(irq);
		return;
	}
	if (s->rotate_on_auto_eoi)
		s->priority_add = (irq + 1) & 7;
	done(chip, s, irq);
}

static u16 take_done(struct mk_irqchip *chip)
{
	u16 lines = chip->pic_done;

	chip->pic_done = 0;
	return lines;
}

/* Tell who waits for it which lines are done; without [B]. */
static void tell_done(struct mk_irqchip *chip, u16 lines)
{
	if (lines & 0xff)
		mk_acked(chip, KVM_IRQCHIP_PIC_MASTER, lines & 0xff);
	if (lines >> 8)
		mk_acked(chip, KVM_IRQCHIP_PIC_SLAVE, lines >> 8);
}

int mk_pic_ack(struct mk_irqchip *chip)
{
	unsigned long flags;
	int irq, vector;
	u16 lines;

	raw_spin_lock_irqsave(&chip->lock, flags);
	vector = chip->pic_vector;
	if (vector >= 0) {
		irq = wanted(chip, 0);
		if (irq == CASCADE)
			accept(chip, &chip->pic[1], wanted(chip, 1));
		accept(chip, &chip->pic[0], irq);
		/* The output falls with INTA; another request raises it anew. */
		chip->pic_vector = -1;
		update(chip);
		if (irq == 0)
			mk_pit_taken(chip->pit);
	}
	lines = take_done(chip);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	tell_done(chip, lines);
	return vector;
}

int mk_pic_set_line(struct mk_irqchip *chip, unsigned int irq, bool level)
{
	struct kvm_pic_state *s = &chip->pic[irq >> 3];
	u8 bit = BIT(irq & 7);
	bool waits = level && (s->irr & bit);

	if (!level) {
		s->last_irr &= ~bit;
		s->irr &= ~(bit & s->elcr);
	} else {
		s->irr |= bit & (s->elcr | ~s->last_irr);
		s->last_irr |= bit;
	}
	update(chip);

	if (s->imr & bit)
		return -1;
	return !waits;
}

/* ICW1: the sequence of initialization begins. */
static void init(struct kvm_pic_state *s, u8 val)
{
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->imr = 0;
	s->isr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	s->poll = 0;
	s->init4 = val & BIT(0);
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = 1;
}

/* OCW2: end of interrupt, rotation, or both. */
static void end_or_rotate(struct mk_irqchip *chip, struct kvm_pic_state *s, u8 val)
{
	bool rotate = val & BIT(7), specific = val & BIT(6), eoi = val & BIT(5);
	int irq;

	if (!specific && !eoi) {
		s->rotate_on_auto_eoi = rotate;
		return;
	}
	irq = specific ? val & 7 : first(s, s->special_mask ? s->isr & ~s->imr : s->isr);
	if (irq < 0)
		return;
	if (eoi) {
		s->isr &= ~BIT(irq);
		done(chip, s, irq);
	}
	if (rotate)
		s->priority_add = (irq + 1) & 7;
}

/* OCW3: what the next read gives, and special mask mode. */
static void select_read(struct kvm_pic_state *s, u8 val)
{
	if (val & BIT(2))
		s->poll = 1;
	if (val & BIT(1))
		s->read_reg_select = val & BIT(0);
	if (val & BIT(6))
		s->special_mask = !!(val & BIT(5));
}

static void write_data(struct kvm_pic_state *s, u8 val)
{
	switch (s->init_state) {
	case 1:
		s->irq_base = val & 0xf8;
		s->init_state = 2;
		break;
	case 2:	/* ICW3: where the slave sits, which a PC's wiring has settled */
		s->init_state = s->init4 ? 3 : 0;
		break;
	case 3:
		s->special_fully_nested_mode = !!(val & BIT(4));
		s->auto_eoi = !!(val & BIT(1));
		s->init_state = 0;
		break;
	default:
		s->imr = val;
	}
}

static void write_port(struct mk_irqchip *chip, u16 port, u8 val)
{
	struct kvm_pic_state *s;

	if (port >= 0x4d0) {
		s = &chip->pic[port & 1];
		s->elcr = val & s->elcr_mask;
		return;
	}
	s = &chip->pic[port >> 7];
	if (port & 1)
		write_data(s, val);
	else if (val & BIT(4))
		init(s, val);
	else if (val & BIT(3))
		select_read(s, val);
	else
		end_or_rotate(chip, s, val);
	update(chip);
}

static u8 read_port(struct mk_irqchip *chip, u16 port)
{
	struct kvm_pic_state *s;
	int irq;

	if (port >= 0x4d0)
		return chip->pic[port & 1].elcr;
	s = &chip->pic[port >> 7];
	if (s->poll) {
		/* The read is the interrupt's acknowledge cycle. */
		s->poll = 0;
		irq = wanted(chip, port >> 7);
		if (irq < 0)
			return 0;
		accept(chip, s, irq);
		update(chip);
		return BIT(7) | irq;
	}
	if (port & 1)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

void mk_pic_pio(struct mk_irqchip *chip, u16 port, u8 *val, bool write)
{
	unsigned long flags;
	u16 lines;

	raw_spin_lock_irqsave(&chip->lock, flags);
	if (write)
		write_port(chip, port, *val);
	else
		*val = read_port(chip, port);
	lines = take_done(chip);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	tell_done(chip, lines);
}

void mk_pic_restore(struct mk_irqchip *chip, int which, const struct kvm_pic_state *state)
{
	struct kvm_pic_state *s = &chip->pic[which];

	*s = *state;
	s->priority_add &= 7;
	update(chip);
}

void mk_pic_init(struct mk_irqchip *chip)
{
	chip->pic_vector = -1;
	/* The ELCR can choose their trigger; timer, keyboard, cascade, RTC, FPU are edges. */
	chip->pic[0].elcr_mask = 0xf8;
	chip->pic[1].elcr_mask = 0xde;
}
