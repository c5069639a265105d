/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Nested page tables (EPT or NPT): filled on fault, emptied by the MMU
 * notifier and by changes of slots. Pages are never pinned.
 *
 * One engine walks, fills and zaps; two small descriptions say how an entry
 * of each format looks.
 */
#ifndef MK_CORE_MMU_H
#define MK_CORE_MMU_H

#include "core/vcpu.h"

struct mk_slot;

enum mk_fault {
	MK_FAULT_MAPPED,	/* try again, it is there now (or somebody raced us) */
	MK_FAULT_DEVICE,	/* no slot there, or a write to a read-only one: MMIO */
	MK_FAULT_BAD,		/* the VMM's own mapping refuses it: -EFAULT to userspace */
	MK_FAULT_NOMEM,
	MK_FAULT_SIGNAL,	/* a fatal signal came first */
};

/**
 * mk_mmu_create - give a new VM its root table, and hear of changes in vm->mm
 * Return: 0, -ENOMEM or -EINTR. Context: vm->mm is current->mm; may sleep.
 */
int mk_mmu_create(struct mk_vm *vm);
void mk_mmu_destroy(struct mk_vm *vm);	/* no vCPU runs any more, but each is still there */

/* Guest frames from here on cannot be mapped, and no slot may reach them. */
gfn_t mk_mmu_gfn_limit(void);

/**
 * mk_mmu_fault - map the page that an access to @gpa needs
 * @access: MK_TDP_* of the exit
 * Context: vCPU thread, interrupts enabled, may sleep; current->mm == vm->mm.
 */
enum mk_fault mk_mmu_fault(struct mk_vcpu *v, gpa_t gpa, u32 access);

/* How many pages of 4 KiB, 2 MiB and 1 GiB are mapped. May sleep; takes vm->lock. */
void mk_mmu_count(struct mk_vm *vm, u64 pages[3]);

/**
 * mk_mmu_publish - put new slots in place of the old
 * @gone: what the old slots had and the new have not, or NULL
 * @logs_on: its log is complete afterwards, for it goes on elsewhere
 *
 * Nothing is mapped for @gone afterwards, on any vCPU. Both happen in
 * one step: a notifier between them would look through the new slots for what
 * the old ones mapped, and not find it.
 *
 * Context: vm->lock held.
 */
void mk_mmu_publish(struct mk_vm *vm, struct mk_slots *slots, const struct mk_slot *gone,
		    bool logs_on);

/**
 * mk_mmu_start_log - watch a slot for writes that was not watched before
 * @slot: logs dirty pages, and is published
 *
 * What a vCPU writes from the return on is logged. Context: vm->lock held, may sleep.
 */
void mk_mmu_start_log(struct mk_vm *vm, const struct mk_slot *slot);

/*
 * Bring all that vCPUs have written until now to the log of @slot, with a flush if any of
 * them went by there, if only to read. vm->lock held, may sleep.
 */
void mk_mmu_collect_dirty(struct mk_vm *vm, const struct mk_slot *slot);

/**
 * mk_mmu_take_dirty - take dirty bits away, and start to watch these pages again
 * @slot:  logs dirty pages
 * @first: word of the slot's bits, which @bits begins with
 * @bits:  a bit for each page that is meant; afterwards only those that were dirty
 * @longs: how many words
 *
 * Return: a vCPU may still have cached that it may write there. Until mk_mmu_flush()
 * such a write goes unnoticed; so userspace, which reads the pages after it was told
 * of them, is told after the flush. And the flush comes before the same pages are taken
 * once more, or what was written meanwhile is lost.
 * Context: vm->lock held, may sleep.
 */
bool mk_mmu_take_dirty(struct mk_vm *vm, const struct mk_slot *slot, size_t first,
		       unsigned long *bits, size_t longs);

/* No vCPU goes on with what it has cached of nested page tables. May sleep. */
void mk_mmu_flush(struct mk_vm *vm);

#endif
