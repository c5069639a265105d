// SPDX-License-Identifier: GPL-2.0
/*
 * The console: a 16550A UART at COM1, whose line is the terminal (term.c).
 *
 * The wire is as fast as the terminal: the transmitter is empty while term.c has
 * room, and a guest that sends all the same loses the byte. The receiver takes what the main thread brings, and
 * takes it only while the guest listens, which is while receive interrupts
 * reach it (IER bit 0 and OUT2): bytes that were typed ahead wait instead of
 * drowning in the probing that every driver starts with.
 *
 * Source: National Semiconductor, PC16550D data sheet.
 */
#include <linux/serial_reg.h>

#include "launcher.h"

#define FIFO_SIZE 16

static struct {
	uint8_t ier, lcr, mcr, scr, dll, dlm;
	bool fifo;
	bool tx_pending;	/* "transmitter empty" not yet told */
	bool tx_full;		/* the guest knows that there is no room */
	uint8_t rx[FIFO_SIZE];
	unsigned int rx_head, rx_count;
	bool rx_starved;	/* the main thread waits for serial_room() */
	bool line;		/* level of the interrupt line */
} uart;

static uint8_t pending_interrupt(void)
{
	if ((uart.ier & UART_IER_RDI) && uart.rx_count)
		return UART_IIR_RDI;
	if ((uart.ier & UART_IER_THRI) && uart.tx_pending)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

static void update(struct vm *vm)
{
	/* On a PC, OUT2 gates the interrupt. */
	bool line = (uart.mcr & UART_MCR_OUT2) &&
		    pending_interrupt() != UART_IIR_NO_INT;

	if (line != uart.line) {
		uart.line = line;
		irq_line(vm, SERIAL_IRQ, line);
	}
	if (uart.rx_starved && serial_room()) {
		uart.rx_starved = false;
		vm_wake(vm);
	}
}

static void rx_push(uint8_t byte)
{
	if (uart.rx_count < FIFO_SIZE)
		uart.rx[(uart.rx_head + uart.rx_count++) % FIFO_SIZE] = byte;
}

static uint8_t rx_pop(void)
{
	uint8_t byte = 0;

	if (uart.rx_count) {
		byte = uart.rx[uart.rx_head];
		uart.rx_head = (uart.rx_head + 1) % FIFO_SIZE;
		uart.rx_count--;
	}
	return byte;
}

/**
 * serial_create() - wire the interrupt up; before the guest runs
 */
void serial_create(struct vm *vm)
{
	irq_create_line(vm, SERIAL_IRQ);
}

/**
 * serial_transmitted() - the terminal took output, so there is room
 */
void serial_transmitted(struct vm *vm)
{
	if (!uart.tx_full || !term_room())
		return;
	uart.tx_full = false;
	uart.tx_pending = true;
	update(vm);
}

/**
 * serial_room() - how many bytes serial_receive() may bring now
 *
 * When it is none, vm_wake() will be called once there is room.
 */
size_t serial_room(void)
{
	bool listening = (uart.ier & UART_IER_RDI) && (uart.mcr & UART_MCR_OUT2);

	if (listening && !uart.rx_count)
		return FIFO_SIZE;
	uart.rx_starved = true;
	return 0;
}

void serial_receive(struct vm *vm, const uint8_t *data, size_t len)
{
	while (len--)
		rx_push(*data++);
	update(vm);
}

static uint8_t modem_status(void)
{
	if (!(uart.mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;

	return (uart.mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
	       (uart.mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (uart.mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
	       (uart.mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

static uint8_t line_status(void)
{
	bool room = term_room() || (uart.mcr & UART_MCR_LOOP);

	uart.tx_full |= !room;
	return (room ? UART_LSR_TEMT | UART_LSR_THRE : 0) | (uart.rx_count ? UART_LSR_DR : 0);
}

uint8_t serial_in(struct vm *vm, unsigned int reg)
{
	bool dlab = uart.lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (reg) {
	case UART_RX:
		if (dlab)
			return uart.dll;
		value = rx_pop();
		break;
	case UART_IER:
		return dlab ? uart.dlm : uart.ier;
	case UART_IIR:
		value = pending_interrupt();
		if (value == UART_IIR_THRI)
			uart.tx_pending = false;
		if (uart.fifo)
			value |= 0xc0;
		break;
	case UART_LCR:
		return uart.lcr;
	case UART_MCR:
		return uart.mcr;
	case UART_LSR:
		return line_status();
	case UART_MSR:
		return modem_status();
	default:
		return uart.scr;
	}
	update(vm);
	return value;
}

void serial_out(struct vm *vm, unsigned int reg, uint8_t value)
{
	bool dlab = uart.lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab) {
			uart.dll = value;
			return;
		}
		if (uart.mcr & UART_MCR_LOOP)
			rx_push(value);
		else
			term_put(value);
		/*
		 * A burst raises the line once, with its first byte: a driver
		 * reads IIR, which lowers the line, before it sends the next.
		 */
		uart.tx_full |= !term_room();
		uart.tx_pending = !uart.tx_full;
		break;
	case UART_IER:
		if (dlab) {
			uart.dlm = value;
			return;
		}
		if (value & ~uart.ier & UART_IER_THRI)
			uart.tx_pending = !uart.tx_full;
		uart.ier = value & 0x0f;
		break;
	case UART_FCR:
		uart.fifo = value & UART_FCR_ENABLE_FIFO;
		if (value & UART_FCR_CLEAR_RCVR)
			uart.rx_count = 0;
		break;
	case UART_LCR:
		uart.lcr = value;
		return;
	case UART_MCR:
		uart.mcr = value & 0x1f;
		break;
	case UART_SCR:
		uart.scr = value;
		return;
	default:
		return;
	}
	update(vm);
}
