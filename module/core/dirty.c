// SPDX-License-Identifier: GPL-2.0
/*
 * The log of guest pages that were written: a bit for each page.
 *
 * A page whose bit is not set is mapped read-only, if at all. The guest's write to
 * it faults, which sets the bit and lets the guest write until userspace takes the
 * bit; what is written for the guest here sets it, too.
 *
 * Knows: slots. What takes away the right to write is core/mmu.c: read it next.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/uaccess.h>

#include "core/dirty.h"
#include "core/mmu.h"

struct mk_dirty *mk_dirty_create(struct mk_vm *vm, unsigned long npages)
{
	struct mk_dirty *dirty = kvzalloc(struct_size(dirty, bits, BITS_TO_LONGS(npages)),
					  GFP_KERNEL_ACCOUNT);

	if (dirty && (vm->dirty_log_flags & KVM_DIRTY_LOG_INITIALLY_SET))
		bitmap_fill(dirty->bits, npages);
	return dirty;
}

void mk_dirty_mark(struct mk_vcpu *v, const struct mk_slot *slot, unsigned long page)
{
	set_bit(page, slot->dirty->bits);
}

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

	if (id >= MK_MAX_SLOTS)
		return ERR_PTR(-EINVAL);
	slot = mk_slot_by_id(rcu_dereference_protected(vm->slots, lockdep_is_held(&vm->lock)), id);
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

int mk_get_dirty_log(struct mk_vm *vm, const struct kvm_dirty_log *log)
{
	const struct mk_slot *slot;
	int err;

	mutex_lock(&vm->lock);
	slot = logging_slot(vm, log->slot);
	if (IS_ERR(slot))
		err = PTR_ERR(slot);
	else if (vm->dirty_log_flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		err = copy_to_user(log->dirty_bitmap, slot->dirty->bits,
				   BITS_TO_LONGS(slot->npages) * sizeof(long)) ? -EFAULT : 0;
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
