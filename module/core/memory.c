// SPDX-License-Identifier: GPL-2.0
/*
 * Guest physical memory: the slots that userspace sets up, and copies from and
 * to guest memory through the VMM's addresses.
 *
 * The slots of a VM are one sorted array. It is never changed: a new one takes
 * its place, and the old one goes when nobody can look at it any more. Copies
 * that may sleep hold vm->srcu, so that a slot's deletion waits for them; what
 * runs without preemption is covered by RCU.
 *
 * Knows: the VMM's address space, and of pages nothing. Read next: core/mmu.c.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "core/dirty.h"
#include "core/memory.h"
#include "core/mmu.h"

#define MAX_SLOT_PAGES	((1ull << 31) - 1)	/* stock KVM's limit too */

const struct mk_slot *mk_slot_find(const struct mk_slots *slots, gfn_t gfn)
{
	unsigned int low = 0, high, mid;

	if (unlikely(!slots))
		return NULL;
	/* The last slot that does not start behind gfn is in [low, high). */
	for (high = slots->nr; high - low > 1;) {
		mid = (low + high) / 2;
		if (slots->slot[mid].gfn <= gfn)
			low = mid;
		else
			high = mid;
	}
	/* One comparison: a gfn before the slot is a huge distance behind it. */
	if (low < high && gfn - slots->slot[low].gfn < slots->slot[low].npages)
		return &slots->slot[low];
	return NULL;
}

/* --- Changing slots --- */

const struct mk_slot *mk_slot_by_id(struct mk_vm *vm, u32 id)
{
	const struct mk_slots *slots = rcu_dereference_protected(vm->slots,
								 lockdep_is_held(&vm->lock));
	unsigned int i;

	for (i = 0; slots && i < slots->nr; i++) {
		if (slots->slot[i].id == id)
			return &slots->slot[i];
	}
	return NULL;
}

static bool overlaps(const struct mk_slots *slots, const struct mk_slot *new)
{
	const struct mk_slot *slot;

	for (slot = slots->slot; slot < slots->slot + slots->nr; slot++) {
		if (slot->id != new->id && slot->gfn < new->gfn + new->npages &&
		    new->gfn < slot->gfn + slot->npages)
			return true;
	}
	return false;
}

/* A copy of @slots without @old and with @new; either may be NULL. */
static struct mk_slots *copy_slots(const struct mk_slots *slots, const struct mk_slot *old,
				   const struct mk_slot *new)
{
	unsigned int i, nr = slots ? slots->nr : 0;
	struct mk_slots *copy;

	copy = kvzalloc(struct_size(copy, slot, nr + 1), GFP_KERNEL_ACCOUNT);
	if (!copy)
		return NULL;
	copy->generation = slots ? slots->generation + 1 : 1;
	for (i = 0; i < nr; i++) {
		if (new && new->gfn < slots->slot[i].gfn) {
			copy->slot[copy->nr++] = *new;
			new = NULL;
		}
		if (&slots->slot[i] != old)
			copy->slot[copy->nr++] = slots->slot[i];
	}
	if (new)
		copy->slot[copy->nr++] = *new;
	return copy;
}

/* Put @new in place of @old; either may be NULL. Takes over new->dirty. */
static int replace_slot(struct mk_vm *vm, struct mk_slots *slots, const struct mk_slot *old,
			const struct mk_slot *new)
{
	bool logs_on = old && new && old->dirty && new->dirty == old->dirty;
	/* At the same place, only that it logs from now on */
	bool starts_log = old && new && new->gfn == old->gfn && new->dirty && !old->dirty;
	struct mk_dirty *retired = old && !logs_on ? old->dirty : NULL;
	struct mk_slots *copy = copy_slots(slots, old, new);

	if (!copy) {
		if (new && (!old || new->dirty != old->dirty))
			kvfree(new->dirty);
		return -ENOMEM;
	}
	/* What is mapped of it is forgotten: it moved, or may be mapped in large pages again. */
	mk_mmu_publish(vm, copy, starts_log ? NULL : old, logs_on);
	if (starts_log)
		mk_mmu_start_log(vm, new);
	synchronize_srcu_expedited(&vm->srcu);
	kvfree_rcu(slots, rcu);
	kvfree_rcu(retired, rcu);
	return 0;
}

static int set_region(struct mk_vm *vm, const struct kvm_userspace_memory_region *region)
{
	struct mk_slots *slots = rcu_dereference_protected(vm->slots, lockdep_is_held(&vm->lock));
	const struct mk_slot *old = mk_slot_by_id(vm, region->slot);
	struct mk_slot new = {
		.gfn = region->guest_phys_addr >> PAGE_SHIFT,
		.npages = region->memory_size >> PAGE_SHIFT,
		.hva = region->userspace_addr,
		.flags = region->flags,
		.id = region->slot,
	};

	if (!new.npages)
		return old ? replace_slot(vm, slots, old, NULL) : -EINVAL;

	if (old) {
		if (new.hva != old->hva || new.npages != old->npages ||
		    (new.flags ^ old->flags) & KVM_MEM_READONLY)
			return -EINVAL;
		if (new.gfn == old->gfn && new.flags == old->flags)
			return 0;
	}
	if (slots && overlaps(slots, &new))
		return -EEXIST;
	if (new.gfn + new.npages > mk_mmu_gfn_limit())
		return -EINVAL;

	if (new.flags & KVM_MEM_LOG_DIRTY_PAGES) {
		if (old)
			new.dirty = old->dirty;
		if (!new.dirty)
			new.dirty = mk_dirty_create(vm, new.npages);
		if (!new.dirty)
			return -ENOMEM;
	}
	return replace_slot(vm, slots, old, &new);
}

int mk_set_region(struct mk_vm *vm, const struct kvm_userspace_memory_region *region)
{
	u64 size = region->memory_size;
	int err;

	if (region->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	/* The upper half would name an address space, of which there is one: 0. */
	if (region->slot >= MK_MAX_SLOTS)
		return -EINVAL;
	if (!PAGE_ALIGNED(size) || !PAGE_ALIGNED(region->guest_phys_addr) ||
	    !PAGE_ALIGNED(region->userspace_addr))
		return -EINVAL;
	if (size >> PAGE_SHIFT > MAX_SLOT_PAGES ||
	    region->guest_phys_addr + size < region->guest_phys_addr)
		return -EINVAL;
	if (region->userspace_addr > TASK_SIZE_MAX ||
	    size > TASK_SIZE_MAX - region->userspace_addr)
		return -EINVAL;

	mutex_lock(&vm->lock);
	err = set_region(vm, region);
	mutex_unlock(&vm->lock);
	return err;
}

void mk_memory_free(struct mk_vm *vm)
{
	struct mk_slots *slots = rcu_dereference_protected(vm->slots, true);
	unsigned int i;

	for (i = 0; slots && i < slots->nr; i++)
		kvfree(slots->slot[i].dirty);
	kvfree(slots);
}

/* --- Copying --- */

/*
 * The longest piece of [gpa, gpa + *len) that lies in one slot, as the VMM's
 * address; *len becomes its length. NULL: no memory.
 */
static void __user *piece(const struct mk_slots *slots, gpa_t gpa, size_t *len,
			  const struct mk_slot **slotp)
{
	const struct mk_slot *slot = mk_slot_find(slots, gpa >> PAGE_SHIFT);
	u64 offset;

	if (unlikely(!slot))
		return NULL;
	offset = gpa - (slot->gfn << PAGE_SHIFT);
	*len = min_t(u64, *len, ((u64)slot->npages << PAGE_SHIFT) - offset);
	*slotp = slot;
	return (void __user *)(slot->hva + offset);
}

static void mark_dirty(struct mk_vcpu *v, const struct mk_slot *slot, gpa_t gpa, size_t len)
{
	unsigned long page = (gpa >> PAGE_SHIFT) - slot->gfn;
	unsigned long last = ((gpa + len - 1) >> PAGE_SHIFT) - slot->gfn;

	for (; slot->dirty && page <= last; page++)
		mk_dirty_mark(v, slot, page);
}

/*
 * What page walks read is a matter of a few instructions; the checks that
 * copy_from_user() makes of its buffer cost more than the rest of this.
 */
static bool copy_nofault(void *buf, const void __user *from, size_t len)
{
	if (len != 8)
		return !raw_copy_from_user(buf, from, len);

	__uaccess_begin();
	unsafe_get_user(*(u64 *)buf, (u64 __user *)from, fault);
	__uaccess_end();
	return true;
fault:
	__uaccess_end();
	return false;
}

int mk_guest_read_nofault(struct mk_vm *vm, gpa_t gpa, void *buf, size_t len)
{
	const struct mk_slot *slot;
	const void __user *from;
	int err = 0;
	size_t n;

	preempt_disable();
	pagefault_disable();
	for (; len; gpa += n, buf += n, len -= n) {
		n = len;
		from = piece(rcu_dereference_sched(vm->slots), gpa, &n, &slot);
		if (unlikely(!from || !copy_nofault(buf, from, n))) {
			err = -EFAULT;
			break;
		}
	}
	pagefault_enable();
	preempt_enable();
	return err;
}

const void __user *mk_guest_hva(struct mk_vm *vm, gpa_t gpa, size_t len, u64 *generation)
{
	const struct mk_slots *slots;
	const struct mk_slot *slot;
	const void __user *hva;
	size_t n = len;

	preempt_disable();
	slots = rcu_dereference_sched(vm->slots);
	hva = piece(slots, gpa, &n, &slot);
	if (hva)
		*generation = slots->generation;
	preempt_enable();
	return n == len ? hva : NULL;
}

int mk_guest_read(struct mk_vm *vm, gpa_t gpa, void *buf, size_t len)
{
	const struct mk_slot *slot;
	const void __user *from;
	int idx, err = 0;
	size_t n;

	/* It nearly always is there, and that is half the price. */
	if (likely(!mk_guest_read_nofault(vm, gpa, buf, len)))
		return 0;

	idx = srcu_read_lock(&vm->srcu);
	for (; len; gpa += n, buf += n, len -= n) {
		n = len;
		from = piece(srcu_dereference(vm->slots, &vm->srcu), gpa, &n, &slot);
		if (!from)
			err = -ENXIO;
		else if (copy_from_user(buf, from, n))
			err = -EFAULT;
		if (err)
			break;
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}

static __always_inline int write_guest(struct mk_vcpu *v, gpa_t gpa, const void *buf, size_t len,
		       unsigned long (*copy)(void __user *to, const void *from, unsigned long n))
{
	struct mk_vm *vm = v->vm;
	const struct mk_slot *slot;
	void __user *to;
	int idx, err = 0;
	size_t n;

	idx = srcu_read_lock(&vm->srcu);
	for (; len; gpa += n, buf += n, len -= n) {
		n = len;
		to = piece(srcu_dereference(vm->slots, &vm->srcu), gpa, &n, &slot);
		if (!to || (slot->flags & KVM_MEM_READONLY))
			err = -ENXIO;
		else if (copy(to, buf, n))
			err = -EFAULT;
		if (err)
			break;
		mark_dirty(v, slot, gpa, n);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}

static unsigned long copy_sleeping(void __user *to, const void *from, unsigned long n)
{
	return copy_to_user(to, from, n);
}

static unsigned long copy_at_once(void __user *to, const void *from, unsigned long n)
{
	return copy_to_user_nofault(to, from, n) ? n : 0;
}

int mk_guest_write(struct mk_vcpu *v, gpa_t gpa, const void *buf, size_t len)
{
	return write_guest(v, gpa, buf, len, copy_sleeping);
}

int mk_guest_write_nofault(struct mk_vcpu *v, gpa_t gpa, const void *buf, size_t len)
{
	return write_guest(v, gpa, buf, len, copy_at_once);
}

int mk_guest_cmpxchg(struct mk_vcpu *v, gpa_t gpa, u64 old, u64 val, unsigned int size)
{
	struct mk_vm *vm = v->vm;
	const struct mk_slot *slot;
	size_t n = size;
	void __user *to;
	u32 old32 = old;
	int idx, err;

	idx = srcu_read_lock(&vm->srcu);
	to = piece(srcu_dereference(vm->slots, &vm->srcu), gpa, &n, &slot);
	if (!to || (slot->flags & KVM_MEM_READONLY))
		err = -ENXIO;
	else if (size == 8)
		err = __try_cmpxchg_user((u64 __user *)to, &old, val, fault8);
	else
		err = __try_cmpxchg_user((u32 __user *)to, &old32, (u32)val, fault4);
	/* 0: done; 1: it had another value; else the fault's errno */
	if (err > 0)
		err = -EAGAIN;
	else if (!err)
		mark_dirty(v, slot, gpa, size);
	srcu_read_unlock(&vm->srcu, idx);
	return err;
}
