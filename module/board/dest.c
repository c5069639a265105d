// SPDX-License-Identifier: GPL-2.0
/*
 * Destinations: which local APICs a message reaches.
 *
 * An APIC ID is the vCPU's id, and in x2APIC mode so is the logical ID, so both
 * are found where the vCPUs are kept. A logical ID of xAPIC mode is what the
 * guest has written; where all APICs agree on how to read it, a table says who
 * has which bit. Broadcasts, and logical destinations in a guest that mixes
 * modes, go to whoever matches, one APIC after the other.
 *
 * Source: SDM vol. 3A, "Determining IPI Destination". What it leaves open, an
 * xAPIC's message among x2APICs and the reverse, is as stock KVM has it.
 *
 * Knows: the vCPUs, and their APICs' modes and IDs. Read next: board/lapic.c.
 */
#include <linux/bitops.h>

#include "board/lapic.h"

/* A delivery under way. */
struct delivery {
	const struct mk_apic_msg *msg;
	struct mk_lapic *lowest;	/* of those so far, who takes a lowest-priority one */
	int sum;			/* a status */
};

static void reach(struct delivery *d, struct mk_lapic *apic)
{
	if (d->msg->mode != MK_DM_LOWEST)
		d->sum = mk_status_add(d->sum, mk_lapic_accept(apic, d->msg));
	else if (mk_lapic_enabled(apic) &&
		 (!d->lowest || READ_ONCE(apic->lowest_taken) < READ_ONCE(d->lowest->lowest_taken)))
		d->lowest = apic;
}

/* NULL: nobody listens. Under RCU. */
static struct mk_lapic *apic_of_id(struct mk_vm *vm, u32 id)
{
	struct mk_vcpu *v = xa_load(&vm->vcpus, id);

	return v && mk_lapic_hw_enabled(v->apic) ? v->apic : NULL;
}

static void reach_id(struct delivery *d, struct mk_vm *vm, u32 id)
{
	struct mk_lapic *apic = apic_of_id(vm, id);

	if (apic)
		reach(d, apic);
}

/* Eight bits mean everyone to an xAPIC, unless they come from an x2APIC. */
static bool is_broadcast8(const struct mk_lapic *src, const struct mk_apic_msg *msg)
{
	return msg->dest == MK_DEST_ALL_8 && !(src && mk_lapic_x2apic(src));
}

/*
 * Devices' eight bits mean x2APICs too, as stock KVM has always had it, until
 * userspace asks for what the manual says.
 */
static bool is_everyone(const struct mk_vm *vm, const struct mk_lapic *src,
			const struct mk_apic_msg *msg)
{
	return msg->dest == MK_DEST_ALL ||
	       (msg->dest == MK_DEST_ALL_8 && !src && !READ_ONCE(vm->apic_no_quirk));
}

static bool is_destination(const struct mk_lapic *apic, const struct mk_lapic *src,
			   const struct mk_apic_msg *msg)
{
	u32 ldr = mk_lapic_get(apic, APIC_LDR);
	u32 dest = msg->dest;

	if (is_everyone(apic->v->vm, src, msg))
		return true;
	if (mk_lapic_x2apic(apic)) {
		if (!msg->logical)
			return dest == (u32)apic->v->id;
		return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
	}
	if (is_broadcast8(src, msg))
		return true;
	if (!msg->logical)
		return dest == (u32)apic->v->id;
	ldr >>= 24;
	if (mk_lapic_get(apic, APIC_DFR) == APIC_DFR_FLAT)
		return ldr & dest & 0xff;
	return ldr >> 4 == (dest >> 4 & 0xf) && (ldr & dest & 0xf);
}

bool mk_lapic_is_destination(const struct mk_lapic *apic, const struct mk_apic_msg *msg)
{
	return mk_lapic_hw_enabled(apic) && is_destination(apic, NULL, msg);
}

static void reach_each(struct delivery *d, struct mk_vm *vm, const struct mk_lapic *src)
{
	const struct mk_apic_msg *msg = d->msg;
	struct mk_lapic *apic;
	struct mk_vcpu *v;
	unsigned long id;

	xa_for_each(&vm->vcpus, id, v) {
		apic = v->apic;
		if (!mk_lapic_hw_enabled(apic))
			continue;
		if (msg->shorthand == MK_TO_DEST ? is_destination(apic, src, msg) :
		    msg->shorthand != MK_TO_OTHERS || apic != src)
			reach(d, apic);
	}
}

static void reach_logical(struct delivery *d, struct mk_vm *vm, const struct mk_lapic *src)
{
	struct mk_irqchip *chip = vm->irqchip;
	u32 dest = d->msg->dest, base = 0;
	unsigned long members;
	struct mk_lapic *apic;
	unsigned int bit;

	switch (smp_load_acquire(&chip->logical_mode)) {
	case MK_LOGICAL_X2APIC:
		members = dest & 0xffff;
		for_each_set_bit(bit, &members, 16)
			reach_id(d, vm, (dest >> 16) * 16 + bit);
		return;
	case MK_LOGICAL_FLAT:
		members = dest & 0xff;
		break;
	case MK_LOGICAL_CLUSTER:
		members = dest & 0xf;
		base = (dest >> 4 & 0xf) * 4;
		break;
	default:
		reach_each(d, vm, src);
		return;
	}
	for_each_set_bit(bit, &members, 8) {
		apic = READ_ONCE(chip->logical[base + bit]);
		if (apic && mk_lapic_hw_enabled(apic))
			reach(d, apic);
	}
}

int mk_lapic_deliver_id(struct mk_vm *vm, const struct mk_apic_msg *msg)
{
	struct mk_lapic *apic;
	int status;

	rcu_read_lock();
	apic = apic_of_id(vm, msg->dest);
	status = apic ? mk_lapic_accept(apic, msg) : -1;
	rcu_read_unlock();
	return status;
}

int mk_lapic_deliver(struct mk_vm *vm, struct mk_lapic *src, const struct mk_apic_msg *msg)
{
	struct delivery d = { .msg = msg, .sum = -1 };

	if (msg->shorthand == MK_TO_SELF)
		return mk_lapic_accept(src, msg);

	/* A vCPU that could not be handed to userspace is gone after a grace period. */
	rcu_read_lock();
	if (msg->shorthand != MK_TO_DEST || msg->dest == MK_DEST_ALL || is_broadcast8(src, msg))
		reach_each(&d, vm, src);
	else if (msg->logical)
		reach_logical(&d, vm, src);
	else
		reach_id(&d, vm, msg->dest);
	/* The manual leaves the arbiter's choice to the chipset: in turn is fair. */
	if (d.lowest) {
		WRITE_ONCE(d.lowest->lowest_taken, d.lowest->lowest_taken + 1);
		d.sum = mk_lapic_accept(d.lowest, msg);
	}
	rcu_read_unlock();
	return d.sum;
}

/* Enter @apic into @logical; what the mode of all must be then. */
static int add_logical(struct mk_lapic **logical, struct mk_lapic *apic)
{
	u32 ldr = mk_lapic_get(apic, APIC_LDR) >> 24;
	bool flat = mk_lapic_get(apic, APIC_DFR) == APIC_DFR_FLAT;
	u32 members = flat ? ldr : ldr & 0xf, slot;

	if (!members)
		return MK_LOGICAL_NONE;
	slot = __ffs(members) + (flat ? 0 : ldr >> 4 << 2);
	/* Several bits, or one that somebody else has: no table can say that. */
	if ((members & (members - 1)) || logical[slot])
		return MK_LOGICAL_MIXED;
	logical[slot] = apic;
	return flat ? MK_LOGICAL_FLAT : MK_LOGICAL_CLUSTER;
}

void mk_lapic_map(struct mk_irqchip *chip)
{
	struct mk_lapic *logical[ARRAY_SIZE(chip->logical)] = {};
	int mode = MK_LOGICAL_NONE, one;
	struct mk_lapic *apic;
	struct mk_vcpu *v;
	unsigned long id, flags;
	int i;

	raw_spin_lock_irqsave(&chip->map_lock, flags);
	xa_for_each(&chip->vm->vcpus, id, v) {
		apic = v->apic;
		if (!mk_lapic_hw_enabled(apic))
			continue;
		one = mk_lapic_x2apic(apic) ? MK_LOGICAL_X2APIC : add_logical(logical, apic);
		if (one != MK_LOGICAL_NONE && mode != one)
			mode = mode == MK_LOGICAL_NONE ? one : MK_LOGICAL_MIXED;
	}
	/*
	 * Senders read on meanwhile. Whose ID has not changed stays where he is, so
	 * he misses nothing; but when the mode changes, nobody may look into the
	 * table until it is right.
	 */
	if (chip->logical_mode != mode)
		smp_store_mb(chip->logical_mode, MK_LOGICAL_MIXED);
	for (i = 0; i < ARRAY_SIZE(chip->logical); i++)
		if (chip->logical[i] != logical[i])
			WRITE_ONCE(chip->logical[i], logical[i]);
	smp_store_release(&chip->logical_mode, mode);
	raw_spin_unlock_irqrestore(&chip->map_lock, flags);
}
