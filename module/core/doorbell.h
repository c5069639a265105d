/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes of the guest that no vCPU needs to wait for.
 *
 * Read next: core/doorbell.c.
 */
#ifndef MK_CORE_DOORBELL_H
#define MK_CORE_DOORBELL_H

#include <linux/kvm.h>
#include <linux/kvm_types.h>

#include "core/vm.h"

/* What mk_doorbell() looks an address up in. */
enum mk_space { MK_SPACE_MMIO, MK_SPACE_PIO };

bool mk_doorbell_find(struct mk_vm *vm, enum mk_space space, u64 addr, unsigned int len,
		      const void *data);

/**
 * mk_doorbell - hand a device write of the guest to whoever waits for it elsewhere
 * @addr: gpa or port
 * @len:  bytes, 1 to 8
 *
 * An eventfd may stand there (KVM_IOEVENTFD), or a zone whose writes are collected
 * in the VM's ring (KVM_REGISTER_COALESCED_MMIO).
 *
 * Return: true if that was it; false: the write goes to userspace.
 * Context: a vCPU's thread; interrupts may be disabled.
 */
static inline bool mk_doorbell(struct mk_vm *vm, enum mk_space space, u64 addr, unsigned int len,
			       const void *data)
{
	return rcu_access_pointer(vm->doorbells[space]) &&
	       mk_doorbell_find(vm, space, addr, len, data);
}

int mk_doorbell_init(struct mk_vm *vm);
void mk_doorbell_free(struct mk_vm *vm);

/* KVM_IOEVENTFD. Return: 0 or errno. May sleep. */
int mk_ioeventfd(struct mk_vm *vm, const struct kvm_ioeventfd *args);
/* KVM_REGISTER_COALESCED_MMIO and KVM_UNREGISTER_COALESCED_MMIO. Return: 0 or errno. May sleep. */
int mk_coalesce(struct mk_vm *vm, const struct kvm_coalesced_mmio_zone *zone);
int mk_uncoalesce(struct mk_vm *vm, const struct kvm_coalesced_mmio_zone *zone);

#endif
