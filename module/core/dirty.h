/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The log of guest pages that were written: what a VMM that moves its guest to
 * another host has to send once more.
 */
#ifndef MK_CORE_DIRTY_H
#define MK_CORE_DIRTY_H

#include "core/memory.h"

/*
 * A bit for each page of a slot that was written since userspace last took it.
 * Set by anybody who reaches the slot, by atomics; cleared under mmu_lock, together
 * with what lets a vCPU write there unnoticed. Outlives the array that its slot is in.
 */
struct mk_dirty {
	struct rcu_head rcu;
	unsigned long bits[];
};

#define MK_DIRTY_RING_MAX	65536	/* entries */

/**
 * mk_dirty_create - a log for a slot that begins to have one
 * Return: NULL where there is no memory. Context: vm->lock held; may sleep.
 */
struct mk_dirty *mk_dirty_create(struct mk_vm *vm, unsigned long npages);

/**
 * mk_dirty_mark - a page was written, or is about to be mapped for that
 * @slot: logs
 * @page: of the slot, from 0 on
 * Context: the thread that has @v, any context that does not interrupt it.
 */
void mk_dirty_mark(struct mk_vcpu *v, const struct mk_slot *slot, unsigned long page);

/**
 * mk_dirty_ring_enable - KVM_CAP_DIRTY_LOG_RING: rings instead of bits, from now on
 * @bytes: of each vCPU's ring
 * Return: 0; -EINVAL: not a power of two, too small, or too late; -E2BIG.
 * Context: takes vm->lock.
 */
int mk_dirty_ring_enable(struct mk_vm *vm, u64 bytes);
int mk_dirty_ring_create(struct mk_vcpu *v);	/* 0 or -ENOMEM */
void mk_dirty_ring_destroy(struct mk_vcpu *v);
/* Userspace must empty it before the guest may write on. The thread that has @v. */
bool mk_dirty_ring_full(const struct mk_vcpu *v);
/* The page at @pgoff of the vCPU's mmap; NULL: it is none of the ring's */
struct page *mk_dirty_ring_page(const struct mk_vcpu *v, pgoff_t pgoff);
/**
 * mk_dirty_rings_reset - KVM_RESET_DIRTY_RINGS: watch again what userspace has seen
 * Return: how many entries; -EINVAL: there are no rings.
 * Context: may sleep; takes vm->lock.
 */
int mk_dirty_rings_reset(struct mk_vm *vm);

/**
 * mk_get_dirty_log - KVM_GET_DIRTY_LOG: which pages were written since last asked, or
 *	with KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE since last cleared
 * mk_clear_dirty_log - KVM_CLEAR_DIRTY_LOG
 * Return: 0; -EINVAL: no such number, or pages that cannot be; -ENOENT: it logs
 * nothing; -ENXIO: there are rings instead; -EFAULT; -ENOMEM.
 * Context: may sleep; take vm->lock.
 */
int mk_get_dirty_log(struct mk_vm *vm, const struct kvm_dirty_log *log);
int mk_clear_dirty_log(struct mk_vm *vm, const struct kvm_clear_dirty_log *log);

#endif
