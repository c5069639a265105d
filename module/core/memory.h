/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest physical memory: slots, and reading and writing through them.
 *
 * Slots map guest frames to the VMM's addresses; they say nothing of pages.
 * What maps them for the guest is core/mmu.h.
 */
#ifndef MK_CORE_MEMORY_H
#define MK_CORE_MEMORY_H

#include "core/vcpu.h"

#define MK_MAX_SLOTS	509	/* KVM_CAP_NR_MEMSLOTS */

struct mk_dirty;

struct mk_slot {
	gfn_t gfn;		/* first guest frame, 4 KiB */
	unsigned long npages;	/* 4 KiB */
	unsigned long hva;	/* VMM's address of the first byte */
	u32 flags;		/* KVM_MEM_* */
	u32 id;			/* number that userspace gave it */
	struct mk_dirty *dirty;	/* with KVM_MEM_LOG_DIRTY_PAGES: see core/dirty.h */
};

/* All slots, sorted by gfn; replaced as a whole. */
struct mk_slots {
	struct rcu_head rcu;
	u64 generation;		/* not 0, and no other array of this VM has it */
	unsigned int nr;
	struct mk_slot slot[];
};

/**
 * mk_slot_find - the slot that holds a guest frame
 * @slots: from vm->slots, NULL as long as there never was one
 * Return: the slot, or NULL if there is none.
 * Context: preemption disabled, or vm->srcu held; the slot lives as long.
 */
const struct mk_slot *mk_slot_find(const struct mk_slots *slots, gfn_t gfn);

/* The slot that userspace calls @id, or NULL. Context: vm->lock held; it lives as long. */
const struct mk_slot *mk_slot_by_id(struct mk_vm *vm, u32 id);

/* VMM's address of the first byte of @gfn, which lies in @slot */
static inline unsigned long mk_slot_hva(const struct mk_slot *slot, gfn_t gfn)
{
	return slot->hva + ((gfn - slot->gfn) << PAGE_SHIFT);
}

/**
 * mk_set_region - KVM_SET_USER_MEMORY_REGION
 *
 * Creates a slot, deletes it (size 0), moves it or changes its flags. On
 * return no vCPU has mapped and no ioctl writes what was there before; a read
 * that is just under way on another CPU may still see it.
 *
 * Return: 0; -EINVAL; -EEXIST: another slot is there; -ENOMEM.
 * Context: may sleep; takes vm->lock.
 */
int mk_set_region(struct mk_vm *vm, const struct kvm_userspace_memory_region *region);

/* The VM dies: nobody else knows it any more. After mk_mmu_destroy(). */
void mk_memory_free(struct mk_vm *vm);

/**
 * mk_guest_read, mk_guest_write - copy from and to guest physical memory
 * @gpa: bytes; the range may cross pages and slots
 * Return: 0; -ENXIO: no memory there, or read-only; -EFAULT: the VMM's own
 * mapping refuses.
 * Context: may sleep; current->mm must be vm->mm. Writes mark pages dirty.
 */
int mk_guest_read(struct mk_vm *vm, gpa_t gpa, void *buf, size_t len);
int mk_guest_write(struct mk_vcpu *v, gpa_t gpa, const void *buf, size_t len);
/* Does not sleep and takes no page fault: -EFAULT also where the page is not there now. */
int mk_guest_read_nofault(struct mk_vm *vm, gpa_t gpa, void *buf, size_t len);
int mk_guest_write_nofault(struct mk_vcpu *v, gpa_t gpa, const void *buf, size_t len);
/**
 * mk_guest_hva - where the VMM has guest memory
 * @generation: of the slots that say so
 * Return: the address of [@gpa, @gpa + @len), or NULL where no one slot has it all.
 * Context: any. It is right as long as mk_slots.generation stays.
 */
const void __user *mk_guest_hva(struct mk_vm *vm, gpa_t gpa, size_t len, u64 *generation);
/* Compare and exchange 4 or 8 bytes, aligned. 0, -EAGAIN: it changed; else as above. */
int mk_guest_cmpxchg(struct mk_vcpu *v, gpa_t gpa, u64 old, u64 val, unsigned int size);

#endif
