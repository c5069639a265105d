// SPDX-License-Identifier: GPL-2.0
/*
 * The board as a whole: made, wired, saved and restored, and the table through
 * which the core reaches it.
 *
 * Read next: board/lapic.c, where interrupts arrive; pic.c, ioapic.c and pit.c,
 * where they come from.
 */
#include <linux/slab.h>

#include "board/board.h"
#include "board/chips.h"

int mk_irq_line(struct mk_vm *vm, u32 gsi, u32 level, s32 *status)
{
	struct mk_irqchip *chip = mk_irqchip_of(vm);

	if (!chip)
		return -ENXIO;
	*status = mk_irq_set(chip, MK_SRC_USER, gsi, level);
	return 0;
}

/* What the PIC has: the board's one for all, or of userspace's what it has sent this vCPU. */
static int pic_pending(const struct mk_vcpu *v)
{
	const struct mk_irqchip *chip = v->vm->irqchip;

	return unlikely(chip->split) ? mk_lapic_extint_waiting(v) : READ_ONCE(chip->pic_vector);
}

/*
 * The PIC's interrupts go before the APIC's own: the vector of one that the vCPU would
 * take, or -1. It may be gone at the next look.
 */
static int pic_first(const struct mk_vcpu *v)
{
	int vector = pic_pending(v);

	return vector >= 0 && mk_lapic_takes_pic(v) ? vector : -1;
}

static int irq_pending(struct mk_vcpu *v)
{
	int vector = pic_first(v);

	return vector >= 0 ? vector : mk_lapic_pending(v);
}

/* What the CPU delivers by itself is not ours to take. */
static int lapic_to_take(struct mk_vcpu *v)
{
	return v->cpu.virt_apic ? -1 : mk_lapic_pending(v);
}

static int irq_take(struct mk_vcpu *v, bool can, bool *more)
{
	struct mk_irqchip *chip = v->vm->irqchip;
	bool pic = pic_first(v) >= 0;
	int vector = pic ? -1 : lapic_to_take(v);

	*more = pic || vector >= 0;
	if (!*more || !can || !mk_irq_allowed(v)) {
		vector = -1;
	} else {
		if (!pic)
			mk_lapic_ack(v, vector);
		else
			vector = unlikely(chip->split) ? mk_lapic_extint_take(v) : mk_pic_ack(chip);
		*more = pic_first(v) >= 0 || lapic_to_take(v) >= 0;
	}
	if (v->cpu.cr8_free)
		v->cpu.cr8_threshold = mk_lapic_cr8_threshold(v);
	return vector;
}

static bool mmio(struct mk_vcpu *v, gpa_t gpa, unsigned int len, void *data, bool write)
{
	struct mk_irqchip *chip = v->vm->irqchip;

	return mk_lapic_mmio(v, gpa, len, data, write) ||
	       (!chip->split && mk_ioapic_mmio(chip, gpa, len, data, write));
}

/* All these ports have eight bits; a wider access finds nothing behind its first byte. */
static bool pio(struct mk_vcpu *v, u16 port, unsigned int size, void *data, bool write)
{
	struct mk_irqchip *chip = v->vm->irqchip;
	u8 val = *(u8 *)data;

	if (chip->split)
		return false;
	switch (port) {
	case 0x20 ... 0x21:
	case 0xa0 ... 0xa1:
	case 0x4d0 ... 0x4d1:
		mk_pic_pio(chip, port, &val, write);
		break;
	case 0x40 ... 0x43:
	case 0x61:
		if (!mk_pit_pio(smp_load_acquire(&chip->pit), port, &val, write))
			return false;
		break;
	default:
		return false;
	}
	if (!write) {
		memset(data, 0, size);
		*(u8 *)data = val;
	}
	return true;
}

static void vm_free(struct mk_vm *vm)
{
	struct mk_irqchip *chip = vm->irqchip;

	mk_pit_free(chip->pit);
	mk_routes_free(chip);
	kfree(chip);
}

static const struct mk_board_ops board_ops = {
	.vcpu_init = mk_lapic_init,
	.vcpu_free = mk_lapic_free,
	.vcpu_reset = mk_lapic_reset,
	.irq_pending = irq_pending,
	.irq_take = irq_take,
	.virtualize = mk_lapic_virtualize,
	.virt_eoi = mk_lapic_virt_eoi,
	.virt_write = mk_lapic_virt_write,
	.eoi = mk_lapic_eoi_of,
	.eoi_is_alone = mk_lapic_eoi_is_alone,
	.extint_free = mk_lapic_extint_free,
	.cmci = mk_lapic_cmci,
	.mmio = mmio,
	.pio = pio,
	.get_cr8 = mk_lapic_get_cr8,
	.set_cr8 = mk_lapic_set_cr8,
	.ipi = mk_lapic_ipi,
	.msr_get = mk_lapic_msr_get,
	.msr_set = mk_lapic_msr_set,
	.vm_free = vm_free,
};

static struct mk_irqchip *make_chip(struct mk_vm *vm, bool split, u32 nr_reserved)
{
	struct mk_irqchip *chip = kzalloc(sizeof(*chip), GFP_KERNEL_ACCOUNT);

	if (!chip)
		return NULL;
	chip->vm = vm;
	chip->split = split;
	chip->nr_reserved = nr_reserved;
	raw_spin_lock_init(&chip->lock);
	raw_spin_lock_init(&chip->map_lock);
	spin_lock_init(&chip->irqfd_lock);
	INIT_LIST_HEAD(&chip->irqfds);
	if (split ? mk_routes_empty(chip) : mk_routes_default(chip)) {
		kfree(chip);
		return NULL;
	}
	mk_pic_init(chip);
	mk_ioapic_init(chip);
	return chip;
}

/* vm->lock held */
static int set_up(struct mk_vm *vm, struct mk_irqchip *chip)
{
	if (!chip)
		return -ENOMEM;
	vm->irqchip = chip;
	vm->kernel_pic = !chip->split;
	smp_store_release(&vm->board, &board_ops);
	return 0;
}

int mk_irqchip_create(struct mk_vm *vm)
{
	int err;

	mutex_lock(&vm->lock);
	if (vm->irqchip)
		err = -EEXIST;
	else if (vm->nr_vcpus)
		err = -EINVAL;
	else
		err = set_up(vm, make_chip(vm, false, 0));
	mutex_unlock(&vm->lock);
	return err;
}

int mk_irqchip_split(struct mk_vm *vm, u64 nr_reserved)
{
	int err;

	if (nr_reserved > MK_NR_GSI)
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (vm->irqchip || vm->nr_vcpus)
		err = -EEXIST;
	else
		err = set_up(vm, make_chip(vm, true, nr_reserved));
	mutex_unlock(&vm->lock);
	return err;
}

int mk_set_routing(struct mk_vm *vm, const struct kvm_irq_routing_entry *entries, u32 nr)
{
	struct mk_irqchip *chip = mk_irqchip_of(vm);
	int err;

	if (!chip)
		return -EINVAL;
	mutex_lock(&vm->lock);
	err = mk_routes_set(chip, entries, nr);
	mutex_unlock(&vm->lock);
	return err;
}

int mk_signal_msi(struct mk_vm *vm, const struct kvm_msi *args)
{
	const struct kvm_irq_routing_msi msi = {
		.address_lo = args->address_lo, .address_hi = args->address_hi, .data = args->data,
	};

	if (!mk_irqchip_of(vm) || args->flags & ~KVM_MSI_VALID_DEVID)
		return -EINVAL;
	return max(mk_msi_send(vm, &msi), 0);
}

int mk_irqchip_get(struct mk_vm *vm, struct kvm_irqchip *state)
{
	struct mk_irqchip *chip = mk_whole_irqchip_of(vm);
	unsigned long flags;
	int err = 0;

	if (!chip)
		return -ENXIO;
	raw_spin_lock_irqsave(&chip->lock, flags);
	switch (state->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		state->chip.pic = chip->pic[state->chip_id == KVM_IRQCHIP_PIC_SLAVE];
		break;
	case KVM_IRQCHIP_IOAPIC:
		mk_ioapic_save(chip, &state->chip.ioapic);
		break;
	default:
		err = -EINVAL;
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return err;
}

int mk_irqchip_set(struct mk_vm *vm, const struct kvm_irqchip *state)
{
	struct mk_irqchip *chip = mk_whole_irqchip_of(vm);
	unsigned long flags;
	int err = 0;

	if (!chip)
		return -ENXIO;
	raw_spin_lock_irqsave(&chip->lock, flags);
	switch (state->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		mk_pic_restore(chip, state->chip_id == KVM_IRQCHIP_PIC_SLAVE, &state->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		mk_ioapic_restore(chip, &state->chip.ioapic);
		break;
	default:
		err = -EINVAL;
	}
	raw_spin_unlock_irqrestore(&chip->lock, flags);
	return err;
}
