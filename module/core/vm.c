// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a VM.
 *
 * It lives as long as its file descriptor or one of its vCPUs' does: each
 * vCPU's file holds a reference. The module lives as long as any of these
 * files, because their file_operations name it as their owner.
 *
 * Knows: memory, MMU and power of this floor. Read next: core/vcpu.c.
 */
#include <linux/ktime.h>
#include <linux/preempt.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <asm/tsc.h>

#include "core/doorbell.h"
#include "core/memory.h"
#include "core/mmu.h"
#include "core/power.h"
#include "core/vm.h"

struct mk_vm *mk_vm_create(void)
{
	struct mk_vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	int err = -ENOMEM;

	if (!vm)
		return ERR_PTR(-ENOMEM);

	mutex_init(&vm->lock);
	vm->max_vcpu_id = MK_MAX_VCPU_ID;
	vm->apic_bus_ns = 1;
	spin_lock_init(&vm->mmu_lock);
	refcount_set(&vm->users, 1);
	xa_init(&vm->vcpus);
	vm->tsc_khz = tsc_khz;
	vm->guest_khz = vm->tsc_set_khz = tsc_khz;
	vm->tsc_created = mk_host_tsc();
	vm->tsc_set_offset = -(s64)vm->tsc_created;
	raw_spin_lock_init(&vm->tsc_lock);
	mk_clock_init(vm);
	vm->ident_addr = 0xfffbc000;	/* the API document's default */

	err = init_srcu_struct(&vm->srcu);
	if (err)
		goto free_vm;
	vm->mm = current->mm;
	mmgrab(vm->mm);
	err = mk_power_get();
	if (err)
		goto drop_mm;
	err = mk_mmu_create(vm);
	if (err)
		goto power_put;
	err = mk_doorbell_init(vm);
	if (err)
		goto mmu_destroy;
	preempt_notifier_inc();
	return vm;

mmu_destroy:
	mk_mmu_destroy(vm);
power_put:
	mk_power_put();
drop_mm:
	mmdrop(vm->mm);
	cleanup_srcu_struct(&vm->srcu);
free_vm:
	kfree(vm);
	return ERR_PTR(err);
}

void mk_vm_get(struct mk_vm *vm)
{
	refcount_inc(&vm->users);
}

static void vm_free(struct mk_vm *vm)
{
	struct mk_vcpu *v;
	unsigned long id;

	/* The board's timer and the MMU notifier both look for vCPUs: they stop first. */
	if (vm->board)
		vm->board->vm_free(vm);
	mk_mmu_destroy(vm);
	xa_for_each(&vm->vcpus, id, v)
		mk_vcpu_destroy(v);
	xa_destroy(&vm->vcpus);
	preempt_notifier_dec();
	mk_doorbell_free(vm);
	mk_memory_free(vm);
	mk_msr_filter_free(vm);
	mk_power_put();
	mmdrop(vm->mm);
	cleanup_srcu_struct(&vm->srcu);
	kfree(vm);
}

void mk_vm_put(struct mk_vm *vm)
{
	if (refcount_dec_and_test(&vm->users))
		vm_free(vm);
}
