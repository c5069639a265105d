/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The board: what a PC has around its CPUs to bring them interrupts. A pair of
 * 8259 PICs, an I/O APIC of 24 pins, an 8254 timer, and a local APIC for each
 * vCPU, wired as KVM_CREATE_IRQCHIP promises: GSI 0 to 15 reach both the PIC
 * and the I/O APIC, 16 to 23 the I/O APIC alone, each on the pin of its number.
 *
 * This header is what the door calls; the core reaches the board through
 * struct mk_board_ops only. Read next: board/chips.h, then board/lapic.h.
 */
#ifndef MK_BOARD_BOARD_H
#define MK_BOARD_BOARD_H

#include "core/vcpu.h"

/**
 * mk_irqchip_create - KVM_CREATE_IRQCHIP
 * Return: 0; -EEXIST: there is one; -EINVAL: too late, the VM has vCPUs; -ENOMEM.
 * Context: may sleep; takes vm->lock.
 */
int mk_irqchip_create(struct mk_vm *vm);

/**
 * mk_irqchip_split - KVM_CAP_SPLIT_IRQCHIP: local APICs alone
 * @nr_reserved: GSIs below this are pins of userspace's I/O APIC; at most MK_NR_GSI
 *
 * Userspace hears of the EOI of a level-triggered interrupt whose vector a route
 * of these GSIs names: KVM_EXIT_IOAPIC_EOI. No route can name a pin.
 *
 * Return: 0; -EINVAL: @nr_reserved; -EEXIST: there is an irqchip, or a vCPU; -ENOMEM.
 * Context: may sleep; takes vm->lock.
 */
int mk_irqchip_split(struct mk_vm *vm, u64 nr_reserved);

/**
 * mk_lapic_extint - KVM_INTERRUPT with a local APIC in the kernel: userspace's PIC
 * has been asked, and answers @vector
 * Return: 0; -ENXIO: the PIC is ours; -EEXIST: one waits already.
 * Context: vcpu->mutex held.
 */
int mk_lapic_extint(struct mk_vcpu *v, u8 vector);

/**
 * mk_irqchip_get, mk_irqchip_set - KVM_GET_IRQCHIP, KVM_SET_IRQCHIP
 * @chip: chip_id says which
 * Return: 0; -ENXIO: no irqchip, or not the whole of it; -EINVAL: no such chip_id.
 */
int mk_irqchip_get(struct mk_vm *vm, struct kvm_irqchip *chip);
int mk_irqchip_set(struct mk_vm *vm, const struct kvm_irqchip *chip);

/**
 * mk_irq_line - KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS
 * @level:  nonzero: asserted
 * @status: how many interrupts that made; 0: an earlier one had not been taken
 *          yet; -1: masked, or nothing is wired to @gsi
 * Return: 0; -ENXIO: no irqchip.
 * Context: any.
 */
int mk_irq_line(struct mk_vm *vm, u32 gsi, u32 level, s32 *status);

/**
 * mk_set_routing - KVM_SET_GSI_ROUTING: what GSIs are wired to from now on
 * @nr: entries, at most MK_NR_GSI; 0: nothing is wired to anything
 * Return: 0; -EINVAL: no irqchip, or an entry that cannot be; -ENOMEM.
 * Context: may sleep; takes vm->lock.
 */
int mk_set_routing(struct mk_vm *vm, const struct kvm_irq_routing_entry *entries, u32 nr);

/**
 * mk_signal_msi - KVM_SIGNAL_MSI
 * Return: how many local APICs took it; 0: it was waiting there already, or nobody
 *         listens; -EINVAL: no irqchip, or flags.
 * Context: any.
 */
int mk_signal_msi(struct mk_vm *vm, const struct kvm_msi *msi);

/**
 * mk_irqfd - KVM_IRQFD
 * Return: 0; -EINVAL: no irqchip, none that resamples, flags, or no eventfd; -EBADF;
 *         -EBUSY: it is one already; -ENOMEM.
 * Context: may sleep.
 */
int mk_irqfd(struct mk_vm *vm, const struct kvm_irqfd *args);
/* The VM's descriptor is closed: all of them end. May sleep. */
void mk_irqfd_release(struct mk_vm *vm);
/* With the module. */
int mk_irqfd_init(void);
void mk_irqfd_exit(void);

/**
 * mk_pit_create - KVM_CREATE_PIT2; KVM_CREATE_PIT is KVM_PIT_SPEAKER_DUMMY alone
 * Return: 0; -EEXIST; -ENOENT: no PIC to be wired to; -EINVAL: flags; -ENOMEM.
 * Context: may sleep; takes vm->lock.
 */
int mk_pit_create(struct mk_vm *vm, const struct kvm_pit_config *config);

/**
 * mk_pit_get2, mk_pit_set2 - KVM_GET_PIT2, KVM_SET_PIT2
 * mk_pit_get, mk_pit_set - KVM_GET_PIT, KVM_SET_PIT
 * Setting starts each counter anew from its initial count.
 * Return: 0; -ENXIO: no PIT.
 */
int mk_pit_get2(struct mk_vm *vm, struct kvm_pit_state2 *state);
int mk_pit_set2(struct mk_vm *vm, const struct kvm_pit_state2 *state);
int mk_pit_get(struct mk_vm *vm, struct kvm_pit_state *state);
int mk_pit_set(struct mk_vm *vm, const struct kvm_pit_state *state);
/* KVM_REINJECT_CONTROL: are ticks that the guest was late for owed to it? As mk_pit_set(). */
int mk_pit_reinject(struct mk_vm *vm, bool owed);

/**
 * mk_lapic_get_state, mk_lapic_set_state - KVM_GET_LAPIC, KVM_SET_LAPIC
 *
 * The APIC's identity is not part of what can be set: ID, version and, in
 * x2APIC mode, the logical ID stay.
 *
 * Return: 0; -EINVAL: the vCPU has no local APIC, or userspace promised IDs of
 * 32 bits (KVM_CAP_X2APIC_API) and this one is not the vCPU's.
 * Context: vcpu->mutex held.
 */
int mk_lapic_get_state(struct mk_vcpu *v, struct kvm_lapic_state *state);
int mk_lapic_set_state(struct mk_vcpu *v, const struct kvm_lapic_state *state);

#endif
