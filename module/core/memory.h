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

struct mk_slot {
	gfn_t gfn;		/* first guest frame, 4 KiB */
	unsigned long npages;	/* 4 KiB */
	unsigned long hva;	/* VMM's address of the first byte */
	u32 flags;		/* KVM_MEM_* */
	u32 id;			/* number that userspace gave it */
	unsigned long *dirty;	/* with KVM_MEM_LOG_DIRTY_PAGES: a bit for each page */
};

/* All slots, sorted by gfn; replaced as a whole. */
struct mk_slots {
	struct rcu_head rcu;
	unsigned int nr;
	struct mk_slot slot[];
};

/* Binary search; NULL: no slot there. Under RCU or srcu; the slot lives as long. */
const struct mk_slot *mk_slot_find(const struct mk_slots *slots, gfn_t gfn);

/* KVM_SET_USER_MEMORY_REGION: create, delete (size 0), move, change flags. May sleep. */
int mk_set_region(struct mk_vm *vm, const struct kvm_userspace_memory_region *region);
/* KVM_GET_DIRTY_LOG */
int mk_get_dirty_log(struct mk_vm *vm, struct kvm_dirty_log *log);
void mk_memory_free(struct mk_vm *vm);

/**
 * mk_guest_read, mk_guest_write - copy from and to guest physical memory
 * @gpa: bytes; the range may cross pages and slots
 * Return: 0; -EFAULT: no memory there, or read-only, or the VMM took it away.
 * Context: may sleep; current->mm must be vm->mm. Writes mark pages dirty.
 */
int mk_guest_read(struct mk_vm *vm, gpa_t gpa, void *buf, size_t len);
int mk_guest_write(struct mk_vm *vm, gpa_t gpa, const void *buf, size_t len);
/* Does not sleep and takes no page fault: -EFAULT also where the page is not there now. */
int mk_guest_read_nofault(struct mk_vm *vm, gpa_t gpa, void *buf, size_t len);
/* Compare and exchange 4 or 8 bytes, aligned. 0, -EAGAIN: it changed, -EFAULT. */
int mk_guest_cmpxchg(struct mk_vm *vm, gpa_t gpa, u64 old, u64 val, unsigned int size);

#endif
