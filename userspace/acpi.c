// SPDX-License-Identifier: GPL-2.0
/*
 * The ACPI tables: just enough that an operating system finds its processors,
 * powers off, resets, and does not look for hardware that is not there.
 *
 * The fixed hardware they describe is in platform.c.
 * Source: ACPI specification, "ACPI Software Programming Model".
 */
#include <string.h>

#include "launcher.h"

#define HEADER_SIZE 36
#define FADT_SIZE 244
#define FACS_SIZE 64
#define IOAPIC_BASE 0xfec00000
#define LAPIC_BASE 0xfee00000

/* Offsets into the FADT of the fields that are not zero here. */
enum {
	FADT_FACS = 36,
	FADT_DSDT = 40,
	FADT_SCI_INT = 46,
	FADT_PM1A_EVT_BLK = 56,
	FADT_PM1A_CNT_BLK = 64,
	FADT_PM_TMR_BLK = 76,
	FADT_PM1_EVT_LEN = 88,
	FADT_PM1_CNT_LEN = 89,
	FADT_PM_TMR_LEN = 91,
	FADT_P_LVL2_LAT = 96,
	FADT_P_LVL3_LAT = 98,
	FADT_CENTURY = 108,
	FADT_IAPC_BOOT_ARCH = 109,
	FADT_FLAGS = 112,
	FADT_RESET_REG = 116,
	FADT_RESET_VALUE = 128,
};

enum {
	ARCH_LEGACY_DEVICES = 1 << 0,	/* but no 8042: that flag is 1 << 1 */
	ARCH_VGA_NOT_PRESENT = 1 << 2,

	FLAG_WBINVD = 1 << 0,
	FLAG_PROC_C1 = 1 << 2,
	FLAG_NO_POWER_BUTTON = 1 << 4,
	FLAG_NO_SLEEP_BUTTON = 1 << 5,
	FLAG_TMR_VAL_EXT = 1 << 8,
	FLAG_RESET_REG_SUP = 1 << 10,
};

/* Name (_S5, Package () { S5, S5, 0, 0 }) */
static const uint8_t dsdt_code[] = {
	0x08, '_', 'S', '5', '_',
	0x12, 0x08, 0x04, 0x0a, ACPI_SLEEP_TYPE_S5, 0x0a, ACPI_SLEEP_TYPE_S5, 0x00, 0x00,
};

/*
 * Scope (\_SB) { Device (PCI0) { Name (_HID, EisaId ("PNP0A03")) Name (_CRS,
 * ResourceTemplate () { bus 0, the configuration ports, memory for BARs }) } }.
 * No interrupt pins are routed: the device behind the bridge has none.
 */
static const uint8_t pci_code[] = {
	0x10, 0x46, 0x05, '\\', '_', 'S', 'B', '_',
	0x5b, 0x82, 0x4d, 0x04, 'P', 'C', 'I', '0',
	0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x03,
	0x08, '_', 'C', 'R', 'S', 0x11, 0x37, 0x0a, 0x34,
	/* word address space: bus numbers 0 to 0 */
	0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x01, 0x00,
	/* ports 0xcf8 to 0xcff */
	0x47, 0x01, 0xf8, 0x0c, 0xf8, 0x0c, 0x01, 0x08,
	/* double word address space: memory 0xc0000000 to 0xcfffffff (PCI_WINDOW) */
	0x87, 0x17, 0x00, 0x00, 0x0c, 0x01, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0xc0, 0xff, 0xff, 0xff, 0xcf, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x10,
	0x79, 0x00,
};
_Static_assert(PCI_WINDOW == 0xc0000000 && PCI_WINDOW_SIZE == 0x10000000, "as in pci_code");

static void put16(uint8_t *p, uint16_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put64(uint8_t *p, uint64_t value)
{
	memcpy(p, &value, sizeof(value));
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

/**
 * struct area - tables are placed one behind the other
 * @mem: guest memory from guest-physical address 0
 * @next: where the next one goes, a multiple of 64 (the FACS asks for that)
 */
struct area {
	uint8_t *mem;
	uint32_t next;
};

static uint32_t place(struct area *area, uint32_t len)
{
	uint32_t gpa = area->next;

	memset(area->mem + gpa, 0, len);
	area->next += (len + 63) & ~63;
	return gpa;
}

/* Writes the header last: the checksum covers the body. */
static void finish(struct area *area, uint32_t gpa, const char *signature,
		   uint8_t revision, uint32_t len)
{
	uint8_t *table = area->mem + gpa;

	memcpy(table, signature, 4);
	put32(table + 4, len);
	table[8] = revision;
	memcpy(table + 10, "MINKVM", 6);
	memcpy(table + 16, "MINIKVM ", 8);
	put32(table + 24, 1);
	memcpy(table + 28, "MKVM", 4);
	put32(table + 32, 1);
	table[9] = checksum(table, len);
}

static uint32_t build_dsdt(struct area *area)
{
	uint32_t len = HEADER_SIZE + sizeof(dsdt_code) + sizeof(pci_code);
	uint32_t gpa = place(area, len);

	memcpy(area->mem + gpa + HEADER_SIZE, dsdt_code, sizeof(dsdt_code));
	memcpy(area->mem + gpa + HEADER_SIZE + sizeof(dsdt_code), pci_code, sizeof(pci_code));
	finish(area, gpa, "DSDT", 2, len);
	return gpa;
}

static uint32_t build_facs(struct area *area)
{
	uint32_t gpa = place(area, FACS_SIZE);
	uint8_t *facs = area->mem + gpa;

	memcpy(facs, "FACS", 4);
	put32(facs + 4, FACS_SIZE);
	facs[32] = 1;	/* version */
	return gpa;
}

static uint32_t build_fadt(struct area *area, uint32_t facs, uint32_t dsdt)
{
	uint32_t gpa = place(area, FADT_SIZE);
	uint8_t *fadt = area->mem + gpa;

	put32(fadt + FADT_FACS, facs);
	put32(fadt + FADT_DSDT, dsdt);
	put16(fadt + FADT_SCI_INT, ACPI_SCI);
	put32(fadt + FADT_PM1A_EVT_BLK, ACPI_PM_EVENT);
	put32(fadt + FADT_PM1A_CNT_BLK, ACPI_PM_CONTROL);
	put32(fadt + FADT_PM_TMR_BLK, ACPI_PM_TIMER);
	fadt[FADT_PM1_EVT_LEN] = 4;
	fadt[FADT_PM1_CNT_LEN] = 2;
	fadt[FADT_PM_TMR_LEN] = 4;
	put16(fadt + FADT_P_LVL2_LAT, 101);	/* above 100 us: no C2 */
	put16(fadt + FADT_P_LVL3_LAT, 1001);	/* above 1000 us: no C3 */
	fadt[FADT_CENTURY] = CMOS_CENTURY;
	put16(fadt + FADT_IAPC_BOOT_ARCH, ARCH_LEGACY_DEVICES | ARCH_VGA_NOT_PRESENT);
	put32(fadt + FADT_FLAGS, FLAG_WBINVD | FLAG_PROC_C1 | FLAG_NO_POWER_BUTTON |
	      FLAG_NO_SLEEP_BUTTON | FLAG_TMR_VAL_EXT | FLAG_RESET_REG_SUP);
	fadt[FADT_RESET_REG] = 1;		/* a generic address: I/O space, */
	fadt[FADT_RESET_REG + 1] = 8;		/* 8 bits wide, */
	fadt[FADT_RESET_REG + 3] = 1;		/* byte access */
	put64(fadt + FADT_RESET_REG + 4, RESET_PORT);
	fadt[FADT_RESET_VALUE] = RESET_VALUE;
	finish(area, gpa, "FACP", 4, FADT_SIZE);
	return gpa;
}

static uint32_t build_madt(struct area *area, unsigned int nr_vcpus)
{
	uint32_t len = HEADER_SIZE + 8 + nr_vcpus * 8 + 12 + 10 + 6;
	uint32_t gpa = place(area, len);
	uint8_t *p = area->mem + gpa + HEADER_SIZE;

	put32(p, LAPIC_BASE);
	put32(p + 4, 1);	/* two 8259s are there, too */
	p += 8;
	for (unsigned int id = 0; id < nr_vcpus; id++, p += 8) {
		p[0] = 0;	/* processor local APIC */
		p[1] = 8;
		p[2] = id;
		p[3] = id;
		put32(p + 4, 1);	/* enabled */
	}
	p[0] = 1;	/* I/O APIC, whose first pin is interrupt 0 */
	p[1] = 12;
	put32(p + 4, IOAPIC_BASE);
	p += 12;
	p[0] = 2;	/* source override: the SCI is level-triggered, active high */
	p[1] = 10;
	p[3] = ACPI_SCI;
	put32(p + 4, ACPI_SCI);
	put16(p + 8, 0x0d);
	p += 10;
	p[0] = 4;	/* NMI at LINT1 of every processor */
	p[1] = 6;
	p[2] = 0xff;
	p[5] = 1;
	finish(area, gpa, "APIC", 3, len);
	return gpa;
}

static uint32_t build_xsdt(struct area *area, uint32_t fadt, uint32_t madt)
{
	uint32_t len = HEADER_SIZE + 2 * 8;
	uint32_t gpa = place(area, len);
	uint8_t *xsdt = area->mem + gpa;

	put64(xsdt + HEADER_SIZE, fadt);
	put64(xsdt + HEADER_SIZE + 8, madt);
	finish(area, gpa, "XSDT", 1, len);
	return gpa;
}

/**
 * acpi_build() - put the tables at GPA_ACPI, the RSDP first
 * @vm: machine with memory and its number of processors
 */
void acpi_build(struct vm *vm)
{
	struct area area = { .mem = vm->mem, .next = GPA_ACPI };
	uint8_t *rsdp = vm->mem + place(&area, 36);
	uint32_t facs = build_facs(&area);
	uint32_t dsdt = build_dsdt(&area);
	uint32_t fadt = build_fadt(&area, facs, dsdt);
	uint32_t madt = build_madt(&area, vm->nr_vcpus);

	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "MINKVM", 6);
	rsdp[15] = 2;		/* revision: has an XSDT */
	put32(rsdp + 20, 36);
	put64(rsdp + 24, build_xsdt(&area, fadt, madt));
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, 36);
}
