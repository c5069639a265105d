// SPDX-License-Identifier: GPL-2.0
/*
 * How devices interrupt: by eventfds that the kernel watches (KVM_IRQFD), so that
 * an interrupt costs its sender one write() and no vCPU an exit.
 *
 * Lines are the I/O APIC's pins, edge-triggered as on an ISA bus: what counts is
 * that a line rises. Message-signalled interrupts are global interrupt numbers
 * behind the pins; the routing table says which message each one sends. A device
 * that serves the ABI without irqfds gets its lines by KVM_IRQ_LINE.
 *
 * Source: Linux, "The Definitive KVM API Documentation", KVM_IRQFD and
 * KVM_SET_GSI_ROUTING.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "launcher.h"

#define PIC_PINS 16
#define IOAPIC_PINS 24

static int line_fds[PIC_PINS];		/* 0: none (it is never an eventfd here) */
static int msi_fds[MSI_VECTORS];
static struct kvm_irq_routing_msi messages[MSI_VECTORS];
static bool routed[MSI_VECTORS];

static bool has(const struct vm *vm, int cap)
{
	return ioctl(vm->dev, KVM_CHECK_EXTENSION, cap) > 0;
}

static int irqfd_create(struct vm *vm, unsigned int gsi)
{
	struct kvm_irqfd irqfd = { .gsi = gsi };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	irqfd.fd = fd;
	if (fd < 0 || ioctl(vm->fd, KVM_IRQFD, &irqfd))
		die(STATUS_HOST, "%s refuses an eventfd for interrupt %u: %s", vm->device,
		    gsi, strerror(errno));
	return fd;
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* It fails only when the counter is full: then a signal is pending. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

/**
 * irq_create_line() - let line @gsi, below 16, interrupt by eventfd where that works
 */
void irq_create_line(struct vm *vm, unsigned int gsi)
{
	if (vm->irqchip && has(vm, KVM_CAP_IRQFD))
		line_fds[gsi] = irqfd_create(vm, gsi);
}

/**
 * irq_line() - set the level of an interrupt line. Called when it changes.
 *
 * A machine without interrupt controllers has no lines: then it does nothing.
 */
void irq_line(struct vm *vm, unsigned int gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	if (!vm->irqchip)
		return;
	if (!line_fds[gsi]) {
		if (ioctl(vm->fd, KVM_IRQ_LINE, &line))
			vm_fail(vm, "the device refuses interrupt %u: %s", gsi,
				strerror(errno));
	} else if (level) {
		signal_fd(line_fds[gsi]);
	}
}

/* The kernel's own routes (a pin is its interrupt), for there is but one table. */
static unsigned int add_pins(struct kvm_irq_routing_entry *entry)
{
	unsigned int nr = 0;

	for (unsigned int gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		entry[nr].gsi = gsi;
		entry[nr].type = KVM_IRQ_ROUTING_IRQCHIP;
		entry[nr].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		entry[nr++].u.irqchip.pin = gsi;
		if (gsi >= PIC_PINS)
			continue;
		entry[nr].gsi = gsi;
		entry[nr].type = KVM_IRQ_ROUTING_IRQCHIP;
		entry[nr].u.irqchip.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		entry[nr++].u.irqchip.pin = gsi % 8;
	}
	return nr;
}

static bool set_routes(struct vm *vm)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[PIC_PINS + IOAPIC_PINS + MSI_VECTORS];
	} table = { 0 };
	unsigned int nr = add_pins(table.entries);

	for (unsigned int i = 0; i < MSI_VECTORS; i++) {
		if (!routed[i])
			continue;
		table.entries[nr].gsi = IOAPIC_PINS + i;
		table.entries[nr].type = KVM_IRQ_ROUTING_MSI;
		table.entries[nr++].u.msi = messages[i];
	}
	table.head.nr = nr;
	return !ioctl(vm->fd, KVM_SET_GSI_ROUTING, &table);
}

/**
 * msi_create() - make the eventfds of all MSI_VECTORS vectors, or die saying why not
 */
void msi_create(struct vm *vm)
{
	if (!has(vm, KVM_CAP_IRQFD) || !has(vm, KVM_CAP_IRQ_ROUTING))
		die(STATUS_HOST, "%s lacks a capability that a disk needs: message-signalled interrupts by eventfd",
		    vm->device);
	for (unsigned int i = 0; i < MSI_VECTORS; i++)
		msi_fds[i] = irqfd_create(vm, IOAPIC_PINS + i);
}

/**
 * msi_route() - set what vector @i sends
 *
 * The guest chose the message. One that the device refuses is sent nowhere, as on
 * a bus on which nobody answers.
 */
void msi_route(struct vm *vm, unsigned int i, uint64_t address, uint32_t data)
{
	struct kvm_irq_routing_msi message = {
		.address_lo = address, .address_hi = address >> 32, .data = data,
	};

	if (routed[i] && !memcmp(&messages[i], &message, sizeof(message)))
		return;
	messages[i] = message;
	routed[i] = true;
	if (set_routes(vm))
		return;
	routed[i] = false;
	set_routes(vm);
}

void msi_send(unsigned int i)
{
	signal_fd(msi_fds[i]);
}
