// SPDX-License-Identifier: GPL-2.0
/*
 * Routing: what a GSI is wired to. A number of the VMM's own choice stands for
 * pins of the PICs and of the I/O APIC, or for one message to local APICs (MSI).
 *
 * The table is replaced as a whole and read under RCU. Sources that share a pin
 * are ORed: its line falls when the last of them lets go.
 *
 * Source: KVM's API document, KVM_SET_GSI_ROUTING; SDM vol. 3A, "Message
 * Signalled Interrupts". Knows: the chips. Read next: irqfd.c, which feeds it.
 */
#include <linux/nospec.h>
#include <linux/slab.h>

#include "board/board.h"
#include "board/lapic.h"

#define NR_CHIPS	3	/* KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC */
#define NO_GSI		-1

struct route {
	u8 type;		/* KVM_IRQ_ROUTING_IRQCHIP or _MSI */
	u8 chip, pin;
	struct kvm_irq_routing_msi msi;
};

struct mk_routes {
	struct rcu_head rcu;
	u32 nr_gsi;
	u32 nr;
	s16 gsi_of[NR_CHIPS][KVM_IOAPIC_NUM_PINS];	/* or NO_GSI */
	struct route *route;	/* behind first[]: sorted by GSI */
	u32 first[];		/* nr_gsi + 1 of them */
};

static unsigned int pins_of(unsigned int chip)
{
	return chip == KVM_IRQCHIP_IOAPIC ? KVM_IOAPIC_NUM_PINS : 8;
}

/* --- Interrupts --- */

static struct mk_apic_msg message_of(const struct kvm_irq_routing_msi *msi)
{
	return (struct mk_apic_msg){
		.dest = (msi->address_lo >> 12) & 0xff,
		.vector = msi->data,
		/* The redirection hint asks for one of several destinations. */
		.mode = msi->address_lo & BIT(3) ? MK_DM_LOWEST : (msi->data >> 8) & 7,
		.logical = msi->address_lo & BIT(2),
		.level = msi->data & BIT(15),
	};
}

int mk_msi_send(struct mk_vm *vm, const struct kvm_irq_routing_msi *msi)
{
	const struct mk_apic_msg msg = message_of(msi);

	return mk_lapic_deliver(vm, NULL, &msg);
}

/* The level of one pin, as far as @source is concerned; [B] held; a status. */
static int set_pin(struct mk_irqchip *chip, const struct route *route, unsigned int source, bool level)
{
	u8 *users = &chip->users[route->chip][route->pin];

	*users = level ? *users | BIT(source) : *users & ~BIT(source);
	if (route->chip == KVM_IRQCHIP_IOAPIC)
		return mk_ioapic_set_line(chip, route->pin, *users);
	return mk_pic_set_line(chip, route->chip * 8 + route->pin, *users);
}

int mk_gsi_set(struct mk_irqchip *chip, unsigned int source, u32 gsi, bool level)
{
	const struct mk_routes *routes;
	int status = -1;
	u32 i;

	rcu_read_lock();
	routes = rcu_dereference(chip->routes);
	if (gsi < routes->nr_gsi) {
		gsi = array_index_nospec(gsi, routes->nr_gsi);
		for (i = routes->first[gsi]; i < routes->first[gsi + 1]; i++) {
			const struct route *route = &routes->route[i];

			if (route->type == KVM_IRQ_ROUTING_IRQCHIP)
				status = mk_status_add(status, set_pin(chip, route, source, level));
			else if (level)
				status = mk_status_add(status, mk_msi_send(chip->vm, &route->msi));
		}
	}
	rcu_read_unlock();
	return status;
}

/* Is @gsi a message, which needs no lock? */
static bool is_msi(const struct mk_irqchip *chip, u32 gsi, struct kvm_irq_routing_msi *msi)
{
	const struct mk_routes *routes;
	bool yes = false;

	rcu_read_lock();
	routes = rcu_dereference(chip->routes);
	if (gsi < routes->nr_gsi) {
		gsi = array_index_nospec(gsi, routes->nr_gsi);
		if (routes->first[gsi] < routes->first[gsi + 1]) {
			const struct route *route = &routes->route[routes->first[gsi]];

			yes = route->type == KVM_IRQ_ROUTING_MSI;
			*msi = route->msi;
		}
	}
	rcu_read_unlock();
	return yes;
}

int mk_irq_set(struct mk_irqchip *chip, unsigned int source, u32 gsi, bool level)
{
	struct kvm_irq_routing_msi msi;
	unsigned long flags;
	int status;

	if (is_msi(chip, gsi, &msi))
		return level ? mk_msi_send(chip->vm, &msi) : -1;
	raw_spin_lock_irqsave(&chip->lock, flags);
	status = mk_gsi_set(chip, source, gsi, level);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return status;
}

int mk_irq_pulse(struct mk_irqchip *chip, unsigned int source, u32 gsi)
{
	struct kvm_irq_routing_msi msi;
	unsigned long flags;
	int status;

	if (is_msi(chip, gsi, &msi))
		return mk_msi_send(chip->vm, &msi);
	raw_spin_lock_irqsave(&chip->lock, flags);
	status = mk_gsi_set(chip, source, gsi, true);
	mk_gsi_set(chip, source, gsi, false);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return status;
}

/* --- Acknowledgements --- */

void mk_acked(struct mk_irqchip *chip, unsigned int which, unsigned long pins)
{
	const struct mk_routes *routes;
	unsigned long flags;
	unsigned int pin;

	rcu_read_lock();
	routes = rcu_dereference(chip->routes);
	for_each_set_bit(pin, &pins, KVM_IOAPIC_NUM_PINS) {
		int gsi = routes->gsi_of[which][pin];

		/* A PIC has told the PIT when it was asked for the vector. */
		if (gsi == MK_PIT_GSI && which == KVM_IRQCHIP_IOAPIC) {
			raw_spin_lock_irqsave(&chip->lock, flags);
			mk_pit_taken(chip->pit);
			raw_spin_unlock_irqrestore(&chip->lock, flags);
		}
		if (gsi != NO_GSI)
			mk_irqfd_acked(chip->vm, gsi);
	}
	rcu_read_unlock();
}

u32 mk_watched_pins(struct mk_irqchip *chip)
{
	const struct mk_routes *routes;
	u32 pins = 0;
	int pin;

	if (chip->nr_resamplers)
		return ~0u;
	rcu_read_lock();
	routes = rcu_dereference(chip->routes);
	for (pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		if (routes->gsi_of[KVM_IRQCHIP_IOAPIC][pin] == MK_PIT_GSI)
			pins |= BIT(pin);
	rcu_read_unlock();
	return pins;
}

/* --- Pins of userspace's I/O APIC: levels among the first routes --- */

/* How many routes there are of the reserved GSIs. */
static u32 nr_reserved(const struct mk_irqchip *chip, const struct mk_routes *routes)
{
	return routes->first[min(chip->nr_reserved, routes->nr_gsi)];
}

void mk_routes_level_vectors(struct mk_irqchip *chip, u32 *pins)
{
	const struct mk_routes *routes;
	u32 i;

	rcu_read_lock();
	routes = rcu_dereference(chip->routes);
	for (i = 0; i < nr_reserved(chip, routes); i++) {
		const struct mk_apic_msg msg = message_of(&routes->route[i].msi);

		if (msg.level)
			pins[msg.vector] = 1;
	}
	rcu_read_unlock();
}

bool mk_routes_reach(struct mk_lapic *apic, u8 vector)
{
	const struct mk_irqchip *chip = apic->chip;
	const struct mk_routes *routes;
	bool yes = false;
	u32 i;

	rcu_read_lock();
	routes = rcu_dereference(chip->routes);
	for (i = 0; !yes && i < nr_reserved(chip, routes); i++) {
		const struct mk_apic_msg msg = message_of(&routes->route[i].msi);

		yes = msg.level && msg.vector == vector && mk_lapic_is_destination(apic, &msg);
	}
	rcu_read_unlock();
	return yes;
}

/* --- The table --- */

static int fill_route(struct route *route, const struct kvm_irq_routing_entry *e, bool split)
{
	route->type = e->type;
	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (split || e->flags || e->u.irqchip.irqchip >= NR_CHIPS ||
		    e->u.irqchip.pin >= pins_of(e->u.irqchip.irqchip))
			return -EINVAL;
		route->chip = e->u.irqchip.irqchip;
		route->pin = e->u.irqchip.pin;
		return 0;
	case KVM_IRQ_ROUTING_MSI:
		/* Who sends it matters to no APIC. */
		if (e->flags & ~KVM_MSI_VALID_DEVID)
			return -EINVAL;
		route->msi = e->u.msi;
		return 0;
	}
	return -EINVAL;
}

/* A GSI stands for one message, or for pins of different chips. */
static bool goes_with(const struct route *a, const struct route *b)
{
	return a->type == KVM_IRQ_ROUTING_IRQCHIP && b->type == KVM_IRQ_ROUTING_IRQCHIP &&
	       a->chip != b->chip;
}

/* Sort @entries into @routes, whose first[] is zero. */
static int fill_routes(struct mk_routes *routes, const struct kvm_irq_routing_entry *entries,
		       u32 nr, bool split)
{
	u32 i, j, gsi, *first = routes->first;
	int err;

	/* Count; then first[gsi + 1] is where the next entry of gsi goes, and ends as it should. */
	for (i = 0; i < nr; i++)
		if (entries[i].gsi + 2 <= routes->nr_gsi)
			first[entries[i].gsi + 2]++;
	for (gsi = 2; gsi <= routes->nr_gsi; gsi++)
		first[gsi] += first[gsi - 1];
	for (i = 0; i < nr; i++) {
		struct route *route = &routes->route[first[entries[i].gsi + 1]++];

		err = fill_route(route, &entries[i], split);
		if (err)
			return err;
		if (route->type == KVM_IRQ_ROUTING_IRQCHIP)
			routes->gsi_of[route->chip][route->pin] = entries[i].gsi;
	}
	for (gsi = 0; gsi < routes->nr_gsi; gsi++)
		for (i = first[gsi]; i < first[gsi + 1]; i++)
			for (j = first[gsi]; j < i; j++)
				if (!goes_with(&routes->route[i], &routes->route[j]))
					return -EINVAL;
	return 0;
}

static struct mk_routes *make_routes(const struct kvm_irq_routing_entry *entries, u32 nr, bool split)
{
	struct mk_routes *routes;
	u32 nr_gsi = 1, i;
	size_t head;
	int err;

	for (i = 0; i < nr; i++) {
		if (entries[i].gsi >= MK_NR_GSI)
			return ERR_PTR(-EINVAL);
		nr_gsi = max(nr_gsi, entries[i].gsi + 1);
	}
	head = ALIGN(struct_size(routes, first, nr_gsi + 1), sizeof(long));
	routes = kvzalloc(head + nr * sizeof(*routes->route), GFP_KERNEL_ACCOUNT);
	if (!routes)
		return ERR_PTR(-ENOMEM);
	routes->nr_gsi = nr_gsi;
	routes->nr = nr;
	routes->route = (void *)routes + head;
	memset(routes->gsi_of, 0xff, sizeof(routes->gsi_of));
	err = fill_routes(routes, entries, nr, split);
	if (err) {
		kvfree(routes);
		return ERR_PTR(err);
	}
	return routes;
}

int mk_routes_set(struct mk_irqchip *chip, const struct kvm_irq_routing_entry *entries, u32 nr)
{
	struct mk_routes *routes = make_routes(entries, nr, chip->split), *old;
	unsigned long flags;

	if (IS_ERR(routes))
		return PTR_ERR(routes);
	raw_spin_lock_irqsave(&chip->lock, flags);
	old = rcu_replace_pointer(chip->routes, routes, lockdep_is_held(&chip->lock));
	mk_ioapic_recount(chip);
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	kvfree_rcu(old, rcu);
	return 0;
}

int mk_routes_default(struct mk_irqchip *chip)
{
	struct kvm_irq_routing_entry *entries, *e;
	struct mk_routes *routes;
	u32 gsi;

	entries = kcalloc(KVM_IOAPIC_NUM_PINS + 16, sizeof(*entries), GFP_KERNEL_ACCOUNT);
	if (!entries)
		return -ENOMEM;
	e = entries;
	for (gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
		*e++ = (struct kvm_irq_routing_entry){
			.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi } };
		if (gsi < 16)
			*e++ = (struct kvm_irq_routing_entry){
				.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { .irqchip = gsi / 8, .pin = gsi % 8 } };
	}
	routes = make_routes(entries, e - entries, false);
	kfree(entries);
	if (IS_ERR(routes))
		return PTR_ERR(routes);
	rcu_assign_pointer(chip->routes, routes);
	return 0;
}

int mk_routes_empty(struct mk_irqchip *chip)
{
	struct mk_routes *routes = make_routes(NULL, 0, true);

	if (IS_ERR(routes))
		return PTR_ERR(routes);
	rcu_assign_pointer(chip->routes, routes);
	return 0;
}

void mk_routes_free(struct mk_irqchip *chip)
{
	kvfree(rcu_dereference_protected(chip->routes, true));
}
