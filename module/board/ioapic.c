// SPDX-License-Identifier: GPL-2.0
/*
 * The I/O APIC: 24 pins, each with a redirection entry that says which vector
 * goes to which local APICs.
 *
 * Source: the 82093AA data sheet, "Register Description". A level-triggered
 * pin sets Remote IRR when a local APIC has accepted its interrupt and sends
 * nothing more until the EOI for the vector comes back. Which pins a vector's
 * EOI concerns is kept in chip->eoi_pins, so an EOI need not search for them.
 *
 * Knows: local APICs. Read next: lapic.c.
 */
#include <linux/bitops.h>
#include <linux/nospec.h>

#include "board/chips.h"

#define IOAPIC_BASE	0xfec00000
#define IOAPIC_SIZE	0x100
#define IOAPIC_VERSION	(0x11 | (KVM_IOAPIC_NUM_PINS - 1) << 16)

/* Offsets in its page, and what the select register chooses. */
enum { IOREGSEL = 0x00, IOWIN = 0x10 };
enum { REG_ID, REG_VERSION, REG_ARBITRATION, REG_ENTRIES = 0x10 };

/* The bits of an entry that the guest cannot write. */
#define ENTRY_RO	(BIT_ULL(12) | BIT_ULL(14))

/* Send what pin @pin has to send; a status. */
static int service(struct mk_irqchip *chip, unsigned int pin)
{
	typeof(*chip->ioapic.redirtbl) *e = &chip->ioapic.redirtbl[pin];
	bool level = e->fields.trig_mode;
	struct mk_apic_msg msg = {
		.dest = e->fields.dest_id,
		.vector = e->fields.vector,
		.mode = e->fields.delivery_mode,
		.logical = e->fields.dest_mode,
		.level = level,
	};
	int status;

	if (e->fields.mask || (level && e->fields.remote_irr))
		return -1;
	status = mk_lapic_deliver(chip->vm, NULL, &msg);
	if (!level)
		chip->delivered |= BIT(pin);
	else if (status >= 0)
		e->fields.remote_irr = 1;
	return status;
}

int mk_ioapic_set_line(struct mk_irqchip *chip, unsigned int pin, bool level)
{
	struct kvm_ioapic_state *s = &chip->ioapic;
	bool was = s->irr & BIT(pin);

	if (!level) {
		s->irr &= ~BIT(pin);
		return 1;
	}
	s->irr |= BIT(pin);
	if (!s->redirtbl[pin].fields.trig_mode) {
		if (was)
			return 0;
		chip->delivered &= ~BIT(pin);
	}
	return service(chip, pin);
}

void mk_ioapic_eoi(struct mk_irqchip *chip, u8 vector)
{
	unsigned long flags, pins = READ_ONCE(chip->eoi_pins[vector]);
	unsigned int pin;

	/* Before the pins are looked at: this may lower some. */
	mk_acked(chip, KVM_IRQCHIP_IOAPIC, pins);

	raw_spin_lock_irqsave(&chip->lock, flags);
	for_each_set_bit(pin, &pins, KVM_IOAPIC_NUM_PINS) {
		typeof(*chip->ioapic.redirtbl) *e = &chip->ioapic.redirtbl[pin];

		if (!e->fields.trig_mode || e->fields.vector != vector)
			continue;
		e->fields.remote_irr = 0;
		if (chip->ioapic.irr & BIT(pin))
			service(chip, pin);
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
}

/* Is there something to do when the pin's vector is done with? */
static bool eoi_concerns(const struct mk_irqchip *chip, unsigned int pin)
{
	return chip->ioapic.redirtbl[pin].fields.trig_mode || (chip->watched & BIT(pin));
}

static void set_eoi_pins(struct mk_irqchip *chip, unsigned int vector, u32 pins)
{
	if (chip->eoi_pins[vector] == pins)
		return;
	WRITE_ONCE(chip->eoi_pins[vector], pins);
	/* Who sees this count sees those pins. */
	smp_store_release(&chip->eoi_version, chip->eoi_version + 1);
}

/* Replace an entry and keep chip->eoi_pins true. */
static void set_entry(struct mk_irqchip *chip, unsigned int pin, u64 bits)
{
	typeof(*chip->ioapic.redirtbl) *e = &chip->ioapic.redirtbl[pin];

	u8 old = e->fields.vector;

	e->bits = bits;
	/*
	 * This version has no EOI register: systems make an entry edge-triggered
	 * and level-triggered again to get rid of a Remote IRR.
	 */
	if (!e->fields.trig_mode)
		e->fields.remote_irr = 0;
	/* An EOI of a vector that stays may come right now: it must find the pin. */
	if (eoi_concerns(chip, pin))
		set_eoi_pins(chip, e->fields.vector,
			     chip->eoi_pins[e->fields.vector] | BIT(pin));
	if (old != e->fields.vector || !eoi_concerns(chip, pin))
		set_eoi_pins(chip, old, chip->eoi_pins[old] & ~BIT(pin));
}

void mk_ioapic_recount(struct mk_irqchip *chip)
{
	u32 *pins = chip->new_pins;
	unsigned int i;

	memset(pins, 0, sizeof(chip->new_pins));
	if (chip->split) {
		mk_routes_level_vectors(chip, pins);
	} else {
		chip->watched = mk_watched_pins(chip);
		for (i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
			if (eoi_concerns(chip, i))
				pins[chip->ioapic.redirtbl[i].fields.vector] |= BIT(i);
	}
	/* EOIs are looked up meanwhile: what stays must be there at every moment. */
	for (i = 0; i < MK_NR_VECTORS; i++)
		set_eoi_pins(chip, i, pins[i]);
}

static u32 read_register(const struct kvm_ioapic_state *s)
{
	unsigned int pin;
	u64 bits;

	switch (s->ioregsel) {
	case REG_ID:
	case REG_ARBITRATION:
		return s->id << 24;
	case REG_VERSION:
		return IOAPIC_VERSION;
	}
	pin = (s->ioregsel - REG_ENTRIES) / 2;
	if (pin >= KVM_IOAPIC_NUM_PINS)
		return ~0u;
	bits = s->redirtbl[array_index_nospec(pin, KVM_IOAPIC_NUM_PINS)].bits;
	return s->ioregsel & 1 ? bits >> 32 : bits;
}

static void write_register(struct mk_irqchip *chip, u32 val)
{
	struct kvm_ioapic_state *s = &chip->ioapic;
	unsigned int pin;
	u64 old, new;

	if (s->ioregsel == REG_ID) {
		s->id = (val >> 24) & 0xf;
		return;
	}
	pin = (s->ioregsel - REG_ENTRIES) / 2;
	if (s->ioregsel < REG_ENTRIES || pin >= KVM_IOAPIC_NUM_PINS)
		return;
	pin = array_index_nospec(pin, KVM_IOAPIC_NUM_PINS);

	old = s->redirtbl[pin].bits;
	if (s->ioregsel & 1)
		new = (u32)old | (u64)val << 32;
	else
		new = (old & ~(u64)U32_MAX) | (val & ~ENTRY_RO) | (old & ENTRY_RO);
	set_entry(chip, pin, new);
	/* A level that waited behind a mask or for another trigger mode goes now. */
	if (s->redirtbl[pin].fields.trig_mode && (s->irr & BIT(pin)))
		service(chip, pin);
}

bool mk_ioapic_mmio(struct mk_irqchip *chip, gpa_t gpa, unsigned int len, void *data, bool write)
{
	unsigned int offset = gpa - IOAPIC_BASE;
	unsigned long flags;
	u32 val = 0;

	if (gpa < IOAPIC_BASE || gpa >= IOAPIC_BASE + IOAPIC_SIZE)
		return false;

	if (write)
		memcpy(&val, data, min_t(unsigned int, len, sizeof(val)));
	raw_spin_lock_irqsave(&chip->lock, flags);
	if (offset == IOREGSEL) {
		if (write)
			chip->ioapic.ioregsel = val & 0xff;
		else
			val = chip->ioapic.ioregsel;
	} else if (offset == IOWIN) {
		if (write)
			write_register(chip, val);
		else
			val = read_register(&chip->ioapic);
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	if (!write) {
		memset(data, 0, len);
		memcpy(data, &val, min_t(unsigned int, len, sizeof(val)));
	}
	return true;
}

void mk_ioapic_save(struct mk_irqchip *chip, struct kvm_ioapic_state *state)
{
	*state = chip->ioapic;
	/* An edge that went out must not go out again where this is restored. */
	state->irr &= ~chip->delivered;
}

void mk_ioapic_restore(struct mk_irqchip *chip, const struct kvm_ioapic_state *state)
{
	struct kvm_ioapic_state *s = &chip->ioapic;
	unsigned long lines = state->irr;
	unsigned int pin;

	s->ioregsel = state->ioregsel & 0xff;
	s->id = state->id & 0xf;
	s->irr = 0;
	chip->delivered = 0;
	for (pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		set_entry(chip, pin, state->redirtbl[pin].bits);
	for_each_set_bit(pin, &lines, KVM_IOAPIC_NUM_PINS)
		mk_ioapic_set_line(chip, pin, true);
}

void mk_ioapic_init(struct mk_irqchip *chip)
{
	unsigned int pin;

	chip->ioapic.base_address = IOAPIC_BASE;
	for (pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		chip->ioapic.redirtbl[pin].fields.mask = 1;
	mk_ioapic_recount(chip);
}
