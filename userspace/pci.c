// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI bus: configuration mechanism #1, a host bridge in slot 0, and a device in
 * slot 1, if there is one. A device is its configuration space, as bytes with a
 * mask of those that the guest may write, one memory BAR, and MSI-X.
 *
 * What the BAR covers begins with what the device defines; behind that, at
 * BAR_MSIX_TABLE and BAR_MSIX_PBA, are the vectors. It is read and written in the
 * sizes that the specification asks for; other accesses read zeros.
 *
 * Sources: PCI Local Bus Specification 3.0, "Configuration Space" and "MSI-X
 * Capability and Table Structures".
 */
#include <linux/pci_regs.h>
#include <string.h>

#include "launcher.h"

#define CONFIG_ENABLE (1U << 31)
#define MSIX_ENTRY_MASKED 1
#define MEMORY_AND_MASTER (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)

static uint32_t config_address;
static struct pci_device bridge = {
	.config = {
		[PCI_VENDOR_ID] = 0x36, 0x1b, 0x08, 0x00,
		[PCI_CLASS_DEVICE] = 0x00, 0x06,
	},
};
static struct pci_device *slots[32] = { &bridge };

static void put16(uint8_t *p, uint16_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

/* Where the BAR answers; 0 while it does not. */
static uint64_t bar_base(const struct pci_device *dev)
{
	uint32_t base = get32(dev->config + PCI_BASE_ADDRESS_0) & PCI_BASE_ADDRESS_MEM_MASK;

	return dev->config[PCI_COMMAND] & PCI_COMMAND_MEMORY ? base : 0;
}

static bool msix_on(const struct pci_device *dev)
{
	uint8_t control = dev->config[dev->msix + PCI_MSIX_FLAGS + 1];

	return (control & PCI_MSIX_FLAGS_ENABLE >> 8) && !(control & PCI_MSIX_FLAGS_MASKALL >> 8);
}

static bool deliverable(const struct pci_device *dev, unsigned int vector)
{
	const uint8_t *entry = dev->msix_table + vector * PCI_MSIX_ENTRY_SIZE;

	return msix_on(dev) && !(entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & MSIX_ENTRY_MASKED);
}

/* After any change: routes follow the table, and what waited goes out. */
static void msix_update(struct vm *vm, struct pci_device *dev)
{
	for (unsigned int i = 0; i < MSI_VECTORS; i++) {
		const uint8_t *entry = dev->msix_table + i * PCI_MSIX_ENTRY_SIZE;

		if (!deliverable(dev, i))
			continue;
		msi_route(vm, i, get32(entry + PCI_MSIX_ENTRY_LOWER_ADDR) |
			  (uint64_t)get32(entry + PCI_MSIX_ENTRY_UPPER_ADDR) << 32,
			  get32(entry + PCI_MSIX_ENTRY_DATA));
		if (dev->msix_pending & 1U << i)
			msi_send(i);
		dev->msix_pending &= ~(1U << i);
	}
}

/**
 * pci_interrupt() - the device has news for the driver
 * @dev: the device; vm->io_lock is held
 * @vector: index into its MSI-X table; one that is not there is no interrupt
 *
 * A masked vector is remembered in the pending-bit array.
 */
void pci_interrupt(struct pci_device *dev, unsigned int vector)
{
	if (vector >= MSI_VECTORS)
		return;
	if (deliverable(dev, vector))
		msi_send(vector);
	else
		dev->msix_pending |= 1U << vector;
}

/**
 * pci_add_capability() - append to the list of capabilities
 * @dev: the device
 * @at: offset in configuration space, free and a multiple of 4
 * @body: the capability; bytes 0 and 1 (ID, link) included, the link is set here
 * @len: its bytes
 */
void pci_add_capability(struct pci_device *dev, unsigned int at, const void *body, size_t len)
{
	uint8_t head = dev->config[PCI_CAPABILITY_LIST];

	memcpy(dev->config + at, body, len);
	dev->config[at + PCI_CAP_LIST_NEXT] = head;
	dev->config[PCI_CAPABILITY_LIST] = at;
	dev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
}

/**
 * pci_add() - put a device into slot 1, with MSI-X and its BAR at PCI_WINDOW
 * @dev: its IDs, capabilities and operations are set
 * @msix: offset in configuration space for the MSI-X capability
 */
void pci_add(struct vm *vm, struct pci_device *dev, unsigned int msix)
{
	uint8_t body[PCI_CAP_MSIX_SIZEOF] = { PCI_CAP_ID_MSIX };

	msi_create(vm);
	put16(body + PCI_MSIX_FLAGS, MSI_VECTORS - 1);
	put32(body + PCI_MSIX_TABLE, BAR_MSIX_TABLE);
	put32(body + PCI_MSIX_PBA, BAR_MSIX_PBA);
	pci_add_capability(dev, msix, body, sizeof(body));
	dev->msix = msix;
	dev->writable[msix + PCI_MSIX_FLAGS + 1] = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	for (unsigned int i = 0; i < MSI_VECTORS; i++)
		dev->msix_table[i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] = MSIX_ENTRY_MASKED;

	put32(dev->config + PCI_BASE_ADDRESS_0, PCI_WINDOW);
	put32(dev->writable + PCI_BASE_ADDRESS_0, -PCI_BAR_SIZE);
	put16(dev->writable + PCI_COMMAND, MEMORY_AND_MASTER | PCI_COMMAND_INTX_DISABLE);
	dev->writable[PCI_INTERRUPT_LINE] = 0xff;
	slots[1] = dev;
}

/* The device at the configuration address, with the register in *reg; or NULL. */
static struct pci_device *selected(uint16_t port, unsigned int *reg)
{
	*reg = (config_address & 0xfc) + (port & 3);
	/* Bits 23 to 8: bus, slot, function. There is one bus, and one function each. */
	if (!(config_address & CONFIG_ENABLE) || (config_address & 0xff0700))
		return NULL;
	return slots[config_address >> 11 & 0x1f];
}

uint32_t pci_in(uint16_t port, unsigned int size)
{
	uint32_t value = UINT32_MAX;
	struct pci_device *dev;
	unsigned int reg;

	if (port < PCI_CONFIG_DATA)
		return port == PCI_CONFIG_ADDRESS && size == 4 ? config_address : value;
	dev = selected(port, &reg);
	if (dev && (port & 3) + size <= 4)
		memcpy(&value, dev->config + reg, size);
	return value;
}

void pci_out(struct vm *vm, uint16_t port, unsigned int size, uint32_t value)
{
	struct pci_device *dev;
	unsigned int reg;
	uint64_t old;

	if (port < PCI_CONFIG_DATA) {
		if (port == PCI_CONFIG_ADDRESS && size == 4)
			config_address = value & ~3U;
		return;
	}
	dev = selected(port, &reg);
	if (!dev || (port & 3) + size > 4)
		return;
	old = bar_base(dev);
	for (unsigned int i = 0; i < size; i++, value >>= 8) {
		uint8_t mask = dev->writable[reg + i];

		dev->config[reg + i] = (dev->config[reg + i] & ~mask) | (value & mask);
	}
	if (dev == &bridge)
		return;
	if (bar_base(dev) != old)
		dev->moved(vm, old, bar_base(dev));
	msix_update(vm, dev);
}

static void msix_access(struct vm *vm, struct pci_device *dev, uint32_t offset, void *data,
			unsigned int len, bool write)
{
	if (offset >= BAR_MSIX_PBA) {
		if (!write && offset == BAR_MSIX_PBA)
			memcpy(data, &dev->msix_pending, len);
		return;
	}
	offset -= BAR_MSIX_TABLE;
	if ((len != 4 && len != 8) || offset % len || offset + len > sizeof(dev->msix_table))
		return;
	if (!write) {
		memcpy(data, dev->msix_table + offset, len);
		return;
	}
	memcpy(dev->msix_table + offset, data, len);
	msix_update(vm, dev);
}

/**
 * pci_mmio() - a guest's access to memory that is not there
 * @gpa: guest-physical address; vm->io_lock is held
 * @data: what is written, or gets what is read
 * @len: bytes, at most 8
 *
 * Return: false where no device answers.
 */
bool pci_mmio(struct vm *vm, uint64_t gpa, void *data, unsigned int len, bool write)
{
	struct pci_device *dev = slots[1];
	uint64_t base = dev ? bar_base(dev) : 0;
	uint32_t offset = gpa - base;

	if (!base || gpa < base || gpa - base > PCI_BAR_SIZE - len)
		return false;
	if (!write)
		memset(data, 0, len);
	if (offset >= BAR_MSIX_TABLE)
		msix_access(vm, dev, offset, data, len, write);
	else
		dev->access(vm, offset, data, len, write);
	return true;
}
