// SPDX-License-Identifier: GPL-2.0
/*
 * What the guest finds at its ports: serial console, real-time clock, the two
 * ways to reset a PC, and ACPI's power-management registers. All other ports
 * are an empty bus: reads give ones, writes go nowhere. (PIC, PIT, I/O APIC
 * and local APIC are the kernel's.)
 *
 * Sources: ACPI specification, "ACPI Hardware Specification"; Motorola
 * MC146818A data sheet; the 8042 and 0xcf9 resets are PC folklore.
 */
#include <time.h>

#include "launcher.h"

enum {
	I8042_COMMAND = 0x64,
	I8042_PULSE_RESET = 0xfe,
	CMOS_INDEX = 0x70,
	CMOS_DATA = 0x71,
	RESET_CPU = 1 << 2,		/* of RESET_PORT */
	PM_SCI_EN = 1 << 0,		/* of ACPI_PM_CONTROL: always in ACPI mode */
	PM_SLEEP_TYPE_SHIFT = 10,
	PM_SLEEP_EN = 1 << 13,
	PM_TIMER_HZ = 3579545,
};

enum {
	RTC_SECONDS = 0, RTC_MINUTES = 2, RTC_HOURS = 4, RTC_WEEKDAY = 6,
	RTC_DAY = 7, RTC_MONTH = 8, RTC_YEAR = 9,
	RTC_A = 10, RTC_B = 11, RTC_C = 12, RTC_D = 13,
};

static uint8_t cmos[128] = {
	[RTC_A] = 0x26,		/* 32768 Hz crystal, no update in progress */
	[RTC_B] = 0x02,		/* 24 hours, BCD, no interrupts */
	[RTC_D] = 0x80,		/* the battery is fine */
};
static uint8_t cmos_index;
static uint16_t pm_enable, pm_control;

static uint8_t bcd(int n)
{
	return n / 10 % 10 << 4 | n % 10;
}

/* The clock is the host's, in UTC. */
static uint8_t cmos_read(void)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (cmos_index) {
	case RTC_SECONDS:
		return bcd(tm.tm_sec);
	case RTC_MINUTES:
		return bcd(tm.tm_min);
	case RTC_HOURS:
		return bcd(tm.tm_hour);
	case RTC_WEEKDAY:
		return bcd(tm.tm_wday + 1);
	case RTC_DAY:
		return bcd(tm.tm_mday);
	case RTC_MONTH:
		return bcd(tm.tm_mon + 1);
	case RTC_YEAR:
		return bcd(tm.tm_year);
	case CMOS_CENTURY:
		return bcd(tm.tm_year / 100 + 19);
	default:
		return cmos[cmos_index];
	}
}

static void cmos_write(uint8_t value)
{
	if (cmos_index == RTC_B)
		value = (value & 0x70) | 0x02;	/* neither stops nor changes format */
	if (cmos_index != RTC_A && cmos_index != RTC_C && cmos_index != RTC_D)
		cmos[cmos_index] = value;
}

static uint32_t pm_timer(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * PM_TIMER_HZ +
	       (uint64_t)t.tv_nsec * PM_TIMER_HZ / 1000000000;
}

/* RESET_PORT lies inside, but is a byte; the address register is four. */
static bool is_pci(uint16_t port, unsigned int size)
{
	return (port == PCI_CONFIG_ADDRESS && size == 4) ||
	       (port >= PCI_CONFIG_DATA && port < PCI_CONFIG_DATA + 4);
}

uint32_t platform_in(struct vm *vm, uint16_t port, unsigned int size)
{
	if (port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_PORTS && size == 1)
		return serial_in(vm, port - SERIAL_PORT);
	if (is_pci(port, size))
		return pci_in(port, size);

	switch (port) {
	case I8042_COMMAND:
		return 0;	/* status: ready for a command */
	case CMOS_DATA:
		return cmos_read();
	case ACPI_PM_EVENT:
		return 0;	/* no event ever */
	case ACPI_PM_EVENT + 2:
		return pm_enable;
	case ACPI_PM_CONTROL:
		return pm_control | PM_SCI_EN;
	case ACPI_PM_TIMER:
		return pm_timer();
	default:
		return UINT32_MAX;
	}
}

void platform_out(struct vm *vm, uint16_t port, unsigned int size, uint32_t value)
{
	if (port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_PORTS && size == 1) {
		serial_out(vm, port - SERIAL_PORT, value);
		return;
	}
	if (is_pci(port, size)) {
		pci_out(vm, port, size, value);
		return;
	}

	switch (port) {
	case I8042_COMMAND:
		if (value == I8042_PULSE_RESET)
			vm_end(vm, STATUS_RESET);
		break;
	case RESET_PORT:
		if (value & RESET_CPU)
			vm_end(vm, STATUS_RESET);
		break;
	case CMOS_INDEX:
		cmos_index = value & 0x7f;	/* bit 7 masks NMI */
		break;
	case CMOS_DATA:
		cmos_write(value);
		break;
	case ACPI_PM_EVENT + 2:
		pm_enable = value;
		break;
	case ACPI_PM_CONTROL:
		pm_control = value & ~PM_SLEEP_EN;
		if ((value & PM_SLEEP_EN) &&
		    (value >> PM_SLEEP_TYPE_SHIFT & 7) == ACPI_SLEEP_TYPE_S5)
			vm_end(vm, STATUS_POWEROFF);
		break;
	}
}
