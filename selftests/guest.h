/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest half of a test: what C code may use that guest_call() starts in
 * long mode, at ring 0, on an identity map of the low 4 GiB.
 *
 * There is no libc in there: only what is in this file, and plain C.  The
 * guest tells the host how it goes by port writes (see guest_next() in lib.h).
 */
#ifndef SELFTESTS_GUEST_H
#define SELFTESTS_GUEST_H

#include "lib.h"

#define PORT_DONE	0x510	/* the function returned this value */
#define PORT_FAIL	0x511	/* guest_failure says what */
#define PORT_SYNC	0x512	/* the host may look and change things */

struct guest_failure {
	const char *file;
	const char *text;
	int line;
	u64 rip;		/* of an unexpected exception, else 0 */
	u64 got;
	u64 wanted;
};

extern struct guest_failure guest_failure;

/* What the vector stubs push; the layout is theirs. */
struct guest_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

extern void (*guest_handlers[256])(struct guest_frame *frame);
extern const u8 guest_vectors[];	/* 256 stubs of 16 bytes */

#define NO_FAULT	0x100u
extern volatile u64 guest_fixup;
extern volatile u32 guest_fault;	/* vector, or NO_FAULT */
extern volatile u64 guest_fault_error;

/*
 * Run one instruction that may fault: the vector, or NO_FAULT.  The operands
 * follow as in asm(), the colons included.
 */
#define guest_try(insn, ...) ({						\
	guest_fault = NO_FAULT;						\
	asm volatile("movq $9f, guest_fixup\n\t" insn "\n"		\
		     "9:\tmovq $0, guest_fixup" __VA_ARGS__);		\
	guest_fault; })

void guest_fail(const char *file, int line, const char *text, u64 got,
		u64 wanted) __attribute__((noreturn));

/*
 * The agent: a guest function that does one access after the other for the
 * host.  See agent_start() in lib.c.
 */
struct agent_command {
	u64 gpa;
	u64 value;		/* to write, or read */
	bool write;
};

extern volatile struct agent_command agent_command;
u32 guest_agent(u64 unused);

#define guest_check(cond) do {						\
	if (!(cond))							\
		guest_fail(__FILE__, __LINE__, #cond, 0, 1);		\
} while (0)

#define guest_equal(expr, value) do {					\
	u64 got_ = (u64)(expr), wanted_ = (u64)(value);			\
	if (got_ != wanted_)						\
		guest_fail(__FILE__, __LINE__, #expr, got_, wanted_);	\
} while (0)

static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outl(u16 port, u32 value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline u8 inb(u16 port)
{
	u8 value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void sti(void)
{
	asm volatile("sti; nop" : : : "memory");
}

static inline void cli(void)
{
	asm volatile("cli" : : : "memory");
}

static inline void guest_sync(u32 value)
{
	outl(PORT_SYNC, value);
}

static inline u32 mmio_read(u64 gpa)
{
	u32 value;

	asm volatile("movl (%1), %0" : "=r"(value) : "r"(gpa) : "memory");
	return value;
}

static inline void mmio_write(u64 gpa, u32 value)
{
	asm volatile("movl %0, (%1)" : : "r"(value), "r"(gpa) : "memory");
}

#define IOAPIC		0xfec00000ul
#define RTE_REMOTE_IRR	BIT(14)
#define RTE_LEVEL	BIT(15)

static inline u32 ioapic_read(u32 reg)
{
	mmio_write(IOAPIC, reg);
	return mmio_read(IOAPIC + 0x10);
}

static inline void ioapic_write(u32 reg, u32 value)
{
	mmio_write(IOAPIC, reg);
	mmio_write(IOAPIC + 0x10, value);
}

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return low | (u64)high << 32;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)value),
		     "d"((u32)(value >> 32)) : "memory");
}

/* Either returns the vector, or NO_FAULT. */
static inline u32 rdmsr_safe(u32 msr, u64 *value)
{
	u32 low = 0, high = 0;
	u32 vector = guest_try("rdmsr", : "+a"(low), "+d"(high)
			       : "c"(msr) : "memory");

	*value = low | (u64)high << 32;
	return vector;
}

static inline u32 wrmsr_safe(u32 msr, u64 value)
{
	return guest_try("wrmsr", : : "c"(msr), "a"((u32)value),
			 "d"((u32)(value >> 32)) : "memory");
}

static inline void guest_cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
	asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]),
		     "=d"(out[3]) : "0"(leaf), "2"(subleaf));
}

static inline bool guest_is_amd(void)
{
	u32 regs[4];

	guest_cpuid(0, 0, regs);
	return regs[1] == 0x68747541;	/* "Auth" */
}

#endif
