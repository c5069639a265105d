// SPDX-License-Identifier: GPL-2.0
/*
 * Doorbells: writes of the guest that no vCPU needs to wait for.
 *
 * An ioeventfd is an address whose writes signal an eventfd. A coalesced zone is
 * a range whose writes are collected in a ring, which userspace empties when it
 * comes by for another reason. Each address space (ports, memory) has one table
 * of both, sorted by address. A table never changes: whoever adds or takes away
 * makes a new one, and a lookup is a binary search under RCU.
 *
 * Source: KVM's API document, KVM_IOEVENTFD and KVM_(UN)REGISTER_COALESCED_MMIO.
 * Knows: struct mk_vm. Read next: core/emulate.c, which rings them.
 */
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "core/doorbell.h"
#include "hw/compat.h"

/* Of one table, so that no change of it takes long. Zones are as many as stock KVM takes. */
#define MAX_BELLS	65536
#define MAX_ZONES	1000

/* Which writes an eventfd is signalled for. */
struct bell {
	u64 addr;
	u64 data;			/* the value that rings it, unless @any_data */
	u32 len;			/* bytes; 0: a write of any length */
	bool any_data;
	struct eventfd_ctx *ctx;
};

struct span {
	u64 start, end;
	u64 reach;			/* the highest end of this zone and those in front of it */
};

struct mk_doorbells {
	unsigned int nr_bells, nr_zones;
	struct bell *bells;		/* behind the zones; by addr */
	struct span zones[];		/* by start */
};

/* --- Looking up: what an exit pays for --- */

/* The first bell at @addr or above. */
static const struct bell *first_bell(const struct mk_doorbells *t, u64 addr)
{
	unsigned int low = 0, high = t->nr_bells;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (t->bells[mid].addr < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return t->bells + low;
}

static bool rings(const struct bell *b, unsigned int len, u64 data)
{
	return !b->len || (b->len == len && (b->any_data || b->data == data));
}

static bool ring_bell(const struct mk_doorbells *t, u64 addr, unsigned int len, u64 data)
{
	const struct bell *b, *end = t->bells + t->nr_bells;

	for (b = first_bell(t, addr); b < end && b->addr == addr; b++) {
		if (!rings(b, len, data))
			continue;
		mk_eventfd_signal(b->ctx);
		return true;
	}
	return false;
}

/* How many zones start at @addr or below. */
static unsigned int zones_up_to(const struct mk_doorbells *t, u64 addr)
{
	unsigned int low = 0, high = t->nr_zones;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (t->zones[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Is there one zone with all of [@addr, @end)? Of those that start low enough one reaches it. */
static bool in_zone(const struct mk_doorbells *t, u64 addr, u64 end)
{
	unsigned int nr = zones_up_to(t, addr);

	return nr && t->zones[nr - 1].reach >= end;
}

/* Userspace can write to the ring as it likes. False: it is full, or no ring any more. */
static bool put_in_ring(struct mk_vm *vm, enum mk_space space, u64 addr, unsigned int len, u64 data)
{
	struct kvm_coalesced_mmio_ring *ring = page_address(vm->ring);
	struct kvm_coalesced_mmio *entry;
	u32 last, next;
	bool room;

	spin_lock(&vm->ring_lock);
	last = READ_ONCE(ring->last);
	next = (last + 1) % KVM_COALESCED_MMIO_MAX;
	room = last < KVM_COALESCED_MMIO_MAX && next != READ_ONCE(ring->first);
	if (room) {
		entry = &ring->coalesced_mmio[last];
		entry->phys_addr = addr;
		entry->len = len;
		entry->pio = space == MK_SPACE_PIO;
		memcpy(entry->data, &data, len);
		smp_store_release(&ring->last, next);
	}
	spin_unlock(&vm->ring_lock);
	return room;
}

bool mk_doorbell_find(struct mk_vm *vm, enum mk_space space, u64 addr, unsigned int len,
		      const void *data)
{
	const struct mk_doorbells *t;
	bool found = false;
	u64 value = 0;

	memcpy(&value, data, len);
	rcu_read_lock();
	t = rcu_dereference(vm->doorbells[space]);
	if (t)
		found = ring_bell(t, addr, len, value) ||
			(in_zone(t, addr, addr + len) &&
			 put_in_ring(vm, space, addr, len, value));
	rcu_read_unlock();
	return found;
}

/* --- Changing a table: under vm->lock --- */

static struct mk_doorbells *current_table(struct mk_vm *vm, enum mk_space space)
{
	return rcu_dereference_protected(vm->doorbells[space], lockdep_is_held(&vm->lock));
}

static struct mk_doorbells *new_table(unsigned int nr_bells, unsigned int nr_zones)
{
	struct mk_doorbells *t;

	if (nr_bells > MAX_BELLS || nr_zones > MAX_ZONES)
		return ERR_PTR(-ENOSPC);
	t = kvmalloc(sizeof(*t) + nr_zones * sizeof(struct span) + nr_bells * sizeof(struct bell),
		     GFP_KERNEL_ACCOUNT);
	if (!t)
		return ERR_PTR(-ENOMEM);
	t->nr_bells = nr_bells;
	t->nr_zones = nr_zones;
	t->bells = (struct bell *)(t->zones + nr_zones);
	return t;
}

/* Copy @nr elements, leaving room for one more at @at. Returns that. */
static void *copy_around(void *to, const void *from, unsigned int nr, size_t size, unsigned int at)
{
	memcpy(to, from, at * size);
	memcpy(to + (at + 1) * size, from + at * size, (nr - at) * size);
	return to + at * size;
}

static void copy_bells(struct mk_doorbells *to, const struct mk_doorbells *from)
{
	memcpy(to->bells, from->bells, from->nr_bells * sizeof(*to->bells));
}

static void copy_zones(struct mk_doorbells *to, const struct mk_doorbells *from)
{
	memcpy(to->zones, from->zones, from->nr_zones * sizeof(*to->zones));
}

/*
 * Lookups find @t, which is NULL or complete but for each zone's reach. On return none
 * uses the old table or an eventfd of it.
 */
static void publish(struct mk_vm *vm, enum mk_space space, struct mk_doorbells *t)
{
	struct mk_doorbells *old = current_table(vm, space);
	u64 reach = 0;
	unsigned int i;

	for (i = 0; t && i < t->nr_zones; i++) {
		reach = max(reach, t->zones[i].end);
		t->zones[i].reach = reach;
	}
	rcu_assign_pointer(vm->doorbells[space], t);
	if (old) {
		/* Expedited: a VMM that starts or resets makes many changes in a row. */
		synchronize_rcu_expedited();
		kvfree(old);
	}
}

/* Could one write ring both? */
static bool collide(const struct bell *a, const struct bell *b)
{
	return a->addr == b->addr &&
	       (!a->len || !b->len ||
		(a->len == b->len && (a->any_data || b->any_data || a->data == b->data)));
}

static bool same(const struct bell *a, const struct bell *b)
{
	return a->ctx == b->ctx && a->addr == b->addr && a->len == b->len &&
	       a->any_data == b->any_data && (a->any_data || a->data == b->data);
}

static int add_bell(struct mk_vm *vm, enum mk_space space, const struct bell *bell)
{
	static const struct mk_doorbells none;
	const struct mk_doorbells *old = current_table(vm, space) ?: &none;
	struct mk_doorbells *t;
	struct bell *slot;
	unsigned int i, at;

	for (i = 0; i < old->nr_bells; i++)
		if (collide(&old->bells[i], bell))
			return -EEXIST;
	t = new_table(old->nr_bells + 1, old->nr_zones);
	if (IS_ERR(t))
		return PTR_ERR(t);
	copy_zones(t, old);
	at = first_bell(old, bell->addr) - old->bells;
	slot = copy_around(t->bells, old->bells, old->nr_bells, sizeof(*bell), at);
	*slot = *bell;
	publish(vm, space, t);
	return 0;
}

static int remove_bell(struct mk_vm *vm, enum mk_space space, const struct bell *bell)
{
	const struct mk_doorbells *old = current_table(vm, space);
	struct mk_doorbells *t = NULL;
	unsigned int i, nr = 0;

	for (i = 0; old && i < old->nr_bells; i++)
		if (same(&old->bells[i], bell))
			break;
	if (!old || i == old->nr_bells)
		return -ENOENT;
	if (old->nr_bells + old->nr_zones > 1) {
		t = new_table(old->nr_bells - 1, old->nr_zones);
		if (IS_ERR(t))
			return PTR_ERR(t);
		copy_zones(t, old);
		for (i = 0; i < old->nr_bells; i++)
			if (!same(&old->bells[i], bell))
				t->bells[nr++] = old->bells[i];
	}
	publish(vm, space, t);
	eventfd_ctx_put(bell->ctx);
	return 0;
}

int mk_ioeventfd(struct mk_vm *vm, const struct kvm_ioeventfd *args)
{
	enum mk_space space = args->flags & KVM_IOEVENTFD_FLAG_PIO ? MK_SPACE_PIO : MK_SPACE_MMIO;
	struct bell bell = {
		.addr = args->addr,
		.len = args->len,
		.data = args->datamatch,
		.any_data = !(args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH),
	};
	bool remove = args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	int err;

	if (args->flags & ~(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
			    KVM_IOEVENTFD_FLAG_DEASSIGN))
		return -EINVAL;
	if (args->len > 8 || (args->len & (args->len - 1)) || (!args->len && !bell.any_data))
		return -EINVAL;
	if (args->addr + args->len < args->addr)
		return -EINVAL;
	bell.ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(bell.ctx))
		return PTR_ERR(bell.ctx);

	mutex_lock(&vm->lock);
	err = remove ? remove_bell(vm, space, &bell) : add_bell(vm, space, &bell);
	mutex_unlock(&vm->lock);
	/* One that was added keeps the reference. */
	if (remove || err)
		eventfd_ctx_put(bell.ctx);
	return err;
}

static enum mk_space zone_space(const struct kvm_coalesced_mmio_zone *zone)
{
	return zone->pio ? MK_SPACE_PIO : MK_SPACE_MMIO;
}

int mk_coalesce(struct mk_vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	static const struct mk_doorbells none;
	const struct mk_doorbells *old;
	struct mk_doorbells *t;
	struct span *span;

	if (zone->pio > 1 || zone->addr + zone->size < zone->addr)
		return -EINVAL;
	mutex_lock(&vm->lock);
	old = current_table(vm, zone_space(zone)) ?: &none;
	t = new_table(old->nr_bells, old->nr_zones + 1);
	if (!IS_ERR(t)) {
		copy_bells(t, old);
		span = copy_around(t->zones, old->zones, old->nr_zones, sizeof(*span),
				   zones_up_to(old, zone->addr));
		*span = (struct span){ .start = zone->addr, .end = zone->addr + zone->size };
		publish(vm, zone_space(zone), t);
	}
	mutex_unlock(&vm->lock);
	return PTR_ERR_OR_ZERO(t);
}

/* Every zone goes that has all of @zone in it; that there is none is no error. */
int mk_uncoalesce(struct mk_vm *vm, const struct kvm_coalesced_mmio_zone *zone)
{
	u64 end = zone->addr + zone->size;
	const struct mk_doorbells *old;
	struct mk_doorbells *t;
	unsigned int i, nr = 0;
	int err = 0;

	if (zone->pio > 1 || end < zone->addr)
		return -EINVAL;
	mutex_lock(&vm->lock);
	old = current_table(vm, zone_space(zone));
	if (!old || !old->nr_zones)
		goto unlock;
	t = new_table(old->nr_bells, old->nr_zones);
	err = PTR_ERR_OR_ZERO(t);
	if (err)
		goto unlock;
	copy_bells(t, old);
	for (i = 0; i < old->nr_zones; i++)
		if (old->zones[i].start > zone->addr || old->zones[i].end < end)
			t->zones[nr++] = old->zones[i];
	t->nr_zones = nr;
	publish(vm, zone_space(zone), t);
unlock:
	mutex_unlock(&vm->lock);
	return err;
}

/* --- The life of a VM --- */

int mk_doorbell_init(struct mk_vm *vm)
{
	spin_lock_init(&vm->ring_lock);
	vm->ring = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return vm->ring ? 0 : -ENOMEM;
}

/* No vCPU runs any more. */
void mk_doorbell_free(struct mk_vm *vm)
{
	const struct mk_doorbells *t;
	enum mk_space space;
	unsigned int i;

	for (space = MK_SPACE_MMIO; space <= MK_SPACE_PIO; space++) {
		t = rcu_dereference_protected(vm->doorbells[space], true);
		for (i = 0; t && i < t->nr_bells; i++)
			eventfd_ctx_put(t->bells[i].ctx);
		kvfree(t);
	}
	__free_page(vm->ring);
}
