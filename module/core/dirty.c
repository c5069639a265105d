// SPDX-License-Identifier: GPL-2.0
/*
 * The log of guest pages that were written: a bit for each page, or a ring of
 * them for each vCPU.
 *
 * What the guest writes the CPU notes in the dirty bit of the nested entry. Whoever
 * asks for the log first moves these bits to ours, and a page is dirty that has one or
 * the other; what is written for the guest here sets ours. A CPU that has a dirty entry
 * cached writes on without noting it, so a flush comes between taking a bit and telling
 * userspace, which reads the page only then.
 *
 * Where the CPU has no such bits, and for rings, which have to hear of a write at once,
 * a page whose bit is not set is mapped read-only, if at all. The guest's write to
 * it faults, which sets the bit and lets the guest write until userspace takes the
 * bit.
 *
 * With rings the same bits say which pages are in one: whoever sets a bit puts the
 * page into his ring, and the bit is taken when userspace gives the entry back
 * (KVM API document, KVM_CAP_DIRTY_LOG_RING). So a page is in the rings once,
 * however often it is written and by how many.
 *
 * Knows: slots. What takes away the right to write is core/mmu.c: read it next.
 */
#include <linux/bitmap.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "core/dirty.h"
#include "core/mmu.h"

/*
 * So many entries are kept free for what is written between a look at whether the ring
 * is full and the next. It is less: the executor comes back after 32 KiB (see
 * core/emulate.c), which are nine pages and the tables of each, and there are the clocks.
 */
#define RESERVED	64

static struct kvm_dirty_gfn *entry_at(const struct mk_vcpu *v, u32 count)
{
	return &v->dirty_ring.entries[count & (v->vm->dirty_ring_size - 1)];
}

static u32 ring_room(const struct mk_vcpu *v)
{
	const struct mk_dirty_ring *ring = &v->dirty_ring;

	/* Pairs with reset_ring(), which is done with the entry then. */
	return v->vm->dirty_ring_size - (READ_ONCE(ring->pushed) - smp_load_acquire(&ring->reset));
}

bool mk_dirty_ring_full(const struct mk_vcpu *v)
{
	return ring_room(v) <= RESERVED;
}

/* Preemption is disabled, and there is room. */
static void push(struct mk_vcpu *v, u32 slot, unsigned long page)
{
	struct mk_dirty_ring *ring = &v->dirty_ring;
	struct kvm_dirty_gfn *entry = entry_at(v, ring->pushed);

	WRITE_ONCE(entry->slot, slot);
	WRITE_ONCE(entry->offset, page);
	smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_DIRTY);
	smp_store_release(&ring->pushed, ring->pushed + 1);
	if (mk_dirty_ring_full(v))
		mk_request(v, MK_REQ_RING_FULL);
}

struct mk_dirty *mk_dirty_create(struct mk_vm *vm, unsigned long npages)
{
	struct mk_dirty *dirty = kvzalloc(struct_size(dirty, bits, BITS_TO_LONGS(npages)),
					  GFP_KERNEL_ACCOUNT);

	/* A ring has no room for all. */
	if (dirty && !vm->dirty_ring_size && (vm->dirty_log_flags & KVM_DIRTY_LOG_INITIALLY_SET))
		bitmap_fill(dirty->bits, npages);
	return dirty;
}

void mk_dirty_mark(struct mk_vcpu *v, const struct mk_slot *slot, unsigned long page)
{
	if (!v->vm->dirty_ring_size) {
		set_bit(page, slot->dirty->bits);
		return;
	}
	/* The preempt notifier writes to the guest, too: see core/steal.c. */
	preempt_disable();
	/* RESERVED sees to the room. */
	if (ring_room(v) && !test_and_set_bit(page, slot->dirty->bits))
		push(v, slot->id, page);
	preempt_enable();
}

/* --- Rings --- */

int mk_dirty_ring_enable(struct mk_vm *vm, u64 bytes)
{
	const struct mk_slots *slots;
	unsigned int i;
	int err = 0;

	if (!is_power_of_2(bytes) || bytes < PAGE_SIZE ||
	    bytes < RESERVED * sizeof(struct kvm_dirty_gfn))
		return -EINVAL;
	if (bytes > MK_DIRTY_RING_MAX * sizeof(struct kvm_dirty_gfn))
		return -E2BIG;
	mutex_lock(&vm->lock);
	if (vm->dirty_ring_size || vm->nr_vcpus) {
		err = -EINVAL;
		goto unlock;
	}
	vm->dirty_ring_size = bytes / sizeof(struct kvm_dirty_gfn);
	/* No vCPU has written yet; what is set was set for KVM_DIRTY_LOG_INITIALLY_SET. */
	slots = rcu_dereference_protected(vm->slots, lockdep_is_held(&vm->lock));
	for (i = 0; slots && i < slots->nr; i++)
		if (slots->slot[i].dirty)
			bitmap_zero(slots->slot[i].dirty->bits, slots->slot[i].npages);
unlock:
	mutex_unlock(&vm->lock);
	return err;
}

int mk_dirty_ring_create(struct mk_vcpu *v)
{
	size_t bytes = v->vm->dirty_ring_size * sizeof(*v->dirty_ring.entries);

	if (!bytes)
		return 0;
	v->dirty_ring.entries = __vmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return v->dirty_ring.entries ? 0 : -ENOMEM;
}

void mk_dirty_ring_destroy(struct mk_vcpu *v)
{
	vfree(v->dirty_ring.entries);
}

struct page *mk_dirty_ring_page(const struct mk_vcpu *v, pgoff_t pgoff)
{
	size_t bytes = v->vm->dirty_ring_size * sizeof(*v->dirty_ring.entries);

	pgoff -= KVM_DIRTY_LOG_PAGE_OFFSET;
	return pgoff < bytes >> PAGE_SHIFT ?
	       vmalloc_to_page((void *)v->dirty_ring.entries + (pgoff << PAGE_SHIFT)) : NULL;
}

/* Pages of one word of a slot's bits, whose entries were given back. */
struct batch {
	u32 slot;
	size_t word;
	unsigned long bits;
};

/* Has a vCPU cached that it may write there unnoticed? */
static bool watch_again(struct mk_vm *vm, struct batch *batch)
{
	const struct mk_slot *slot = mk_slot_by_id(vm, batch->slot);

	if (!batch->bits || !slot || !slot->dirty || batch->word >= BITS_TO_LONGS(slot->npages))
		return false;
	return mk_mmu_take_dirty(vm, slot, batch->word, &batch->bits, 1);
}

static int reset_ring(struct mk_vcpu *v, bool *cached)
{
	struct mk_dirty_ring *ring = &v->dirty_ring;
	u32 end = smp_load_acquire(&ring->pushed);
	struct batch batch = {};
	int n;

	for (n = 0; ring->reset != end; n++) {
		struct kvm_dirty_gfn *entry = entry_at(v, ring->reset);
		u32 slot;
		u64 page;

		if (!(smp_load_acquire(&entry->flags) & KVM_DIRTY_GFN_F_RESET) ||
		    signal_pending(current))
			break;
		slot = READ_ONCE(entry->slot);
		page = READ_ONCE(entry->offset);
		WRITE_ONCE(entry->flags, 0);
		/* The vCPU may write to the entry as soon as it sees this. */
		smp_store_release(&ring->reset, ring->reset + 1);

		if (slot != batch.slot || page / BITS_PER_LONG != batch.word) {
			*cached |= watch_again(v->vm, &batch);
			batch = (struct batch){ .slot = slot, .word = page / BITS_PER_LONG };
		}
		batch.bits |= BIT(page % BITS_PER_LONG);
		cond_resched();
	}
	*cached |= watch_again(v->vm, &batch);
	return n;
}

int mk_dirty_rings_reset(struct mk_vm *vm)
{
	bool cached = false;
	struct mk_vcpu *v;
	unsigned long id;
	int n = 0;

	mutex_lock(&vm->lock);
	xa_for_each(&vm->vcpus, id, v)
		n += v->dirty_ring.entries ? reset_ring(v, &cached) : 0;
	if (cached)
		mk_mmu_flush(vm);
	mutex_unlock(&vm->lock);
	return vm->dirty_ring_size ? n : -EINVAL;
}

/* --- Bits --- */

/* Nobody has been told: they are dirty still. */
static void put_back(const struct mk_slot *slot, const unsigned long *bits, size_t longs)
{
	size_t i;

	for (i = 0; i < longs; i++)
		if (bits[i])
			atomic_long_or(bits[i], (atomic_long_t *)&slot->dirty->bits[i]);
}

/* A slot that logs; vm->lock held. -EINVAL: no such number; -ENOENT: it logs nothing. */
static const struct mk_slot *logging_slot(struct mk_vm *vm, u32 id)
{
	const struct mk_slot *slot;

	if (vm->dirty_ring_size)
		return ERR_PTR(-ENXIO);
	if (id >= MK_MAX_SLOTS)
		return ERR_PTR(-EINVAL);
	slot = mk_slot_by_id(vm, id);
	return slot && slot->dirty ? slot : ERR_PTR(-ENOENT);
}

/* Tell userspace what was written, and forget it. */
static int move_dirty_log(struct mk_vm *vm, const struct mk_slot *slot, void __user *to)
{
	size_t longs = BITS_TO_LONGS(slot->npages);
	unsigned long *bits = kvmalloc_array(longs, sizeof(long), GFP_KERNEL_ACCOUNT);
	int err = 0;

	if (!bits)
		return -ENOMEM;
	memset(bits, 0xff, longs * sizeof(long));
	if (mk_mmu_take_dirty(vm, slot, 0, bits, longs))
		mk_mmu_flush(vm);
	if (copy_to_user(to, bits, longs * sizeof(long))) {
		put_back(slot, bits, longs);
		err = -EFAULT;
	}
	kvfree(bits);
	return err;
}

/* Tell userspace what was written, until it clears that, and writes there are flushed out. */
static int show_dirty_log(struct mk_vm *vm, const struct mk_slot *slot, void __user *to)
{
	size_t bytes = BITS_TO_LONGS(slot->npages) * sizeof(long);

	mk_mmu_collect_dirty(vm, slot);
	return copy_to_user(to, slot->dirty->bits, bytes) ? -EFAULT : 0;
}

int mk_get_dirty_log(struct mk_vm *vm, const struct kvm_dirty_log *log)
{
	const struct mk_slot *slot;
	int err;

	mutex_lock(&vm->lock);
	slot = logging_slot(vm, log->slot);
	if (IS_ERR(slot))
		err = PTR_ERR(slot);
	else if (vm->dirty_log_flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		err = show_dirty_log(vm, slot, log->dirty_bitmap);
	else
		err = move_dirty_log(vm, slot, log->dirty_bitmap);
	mutex_unlock(&vm->lock);
	return err;
}

/* A few words at a time, so that any length costs one page. */
static int clear_dirty(struct mk_vm *vm, const struct mk_slot *slot,
		       const struct kvm_clear_dirty_log *log, unsigned long *bits)
{
	size_t longs = BITS_TO_LONGS(log->num_pages), first = log->first_page / BITS_PER_LONG;
	bool cached = false;
	size_t done, n;
	int err = 0;

	for (done = 0; done < longs; done += n) {
		n = min(longs - done, PAGE_SIZE / sizeof(long));
		if (copy_from_user(bits, log->dirty_bitmap + done * sizeof(long),
				   n * sizeof(long))) {
			err = -EFAULT;
			break;
		}
		cached |= mk_mmu_take_dirty(vm, slot, first + done, bits, n);
	}
	if (cached)
		mk_mmu_flush(vm);
	return err;
}

int mk_clear_dirty_log(struct mk_vm *vm, const struct kvm_clear_dirty_log *log)
{
	unsigned long *bits = (void *)__get_free_page(GFP_KERNEL_ACCOUNT);
	const struct mk_slot *slot;
	int err = -EINVAL;
	u64 rest;

	if (!bits)
		return -ENOMEM;
	mutex_lock(&vm->lock);
	slot = logging_slot(vm, log->slot);
	if (IS_ERR(slot)) {
		err = PTR_ERR(slot);
		goto unlock;
	}
	/* Whole words, but at the slot's end. */
	if (log->first_page > slot->npages || log->first_page % BITS_PER_LONG)
		goto unlock;
	rest = slot->npages - log->first_page;
	if (log->num_pages > rest || (log->num_pages < rest && log->num_pages % BITS_PER_LONG))
		goto unlock;
	err = clear_dirty(vm, slot, log, bits);
unlock:
	mutex_unlock(&vm->lock);
	free_page((unsigned long)bits);
	return err;
}
