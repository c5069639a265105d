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

enum mk_fault {
	MK_FAULT_MAPPED,	/* try again, it is there now (or somebody raced us) */
	MK_FAULT_DEVICE,	/* no slot there, or a write to a read-only one: MMIO */
	MK_FAULT_BAD,		/* the VMM's own mapping refuses it: -EFAULT to userspace */
	MK_FAULT_NOMEM,
	MK_FAULT_SIGNAL,	/* a fatal signal came first */
};

int mk_mmu_create(struct mk_vm *vm);	/* root, notifier */
void mk_mmu_destroy(struct mk_vm *vm);	/* no vCPU runs any more */

/**
 * mk_mmu_fault - map the page that an access to @gpa needs
 * @access: MK_TDP_* of the exit
 * Context: vCPU thread, interrupts enabled, may sleep; current->mm == vm->mm.
 */
enum mk_fault mk_mmu_fault(struct mk_vcpu *v, gpa_t gpa, u32 access);

/* Forget what is mapped for guest frames [start, end) and flush it from all
 * vCPUs before returning. Caller holds vm->lock and has published new slots. */
void mk_mmu_zap(struct mk_vm *vm, gfn_t start, gfn_t end);
/* Take write permission (and 2 MiB mappings) away, for dirty logging. */
void mk_mmu_wrprotect(struct mk_vm *vm, gfn_t start, gfn_t end);
/* Bring all running vCPUs out, and wait until none runs with older mappings. */
void mk_flush_tdp(struct mk_vm *vm);

#endif
