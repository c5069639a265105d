/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Several vCPUs: each runs a guest C function in long mode, on a stack of its
 * own, from a thread of its own.  cpu[0] is the one that guest_create() makes.
 *
 *	cpus_create(&s, 4, WITH_IRQCHIP);
 *	cpus_prepare(&s, function);		the argument is the vCPU's number
 *	cpus_start(&s);
 *	cpus_join(&s, 0) ...			what the function returned
 *	cpus_destroy(&s);
 *
 * All run the same program and share its variables and its interrupt handlers;
 * guest_try() and guest_fixup serve one vCPU at a time.
 */
#ifndef SELFTESTS_CPUS_H
#define SELFTESTS_CPUS_H

#include "guest.h"

#define CPUS_MAX	16
/* Stacks of all but vCPU 0, from the top of guest memory down. */
#define CPU_STACK_BYTES	0x8000ul

struct cpus;

struct cpu {
	struct guest g;		/* shares all but vcpu and run with cpu[0] */
	struct cpus *all;
	u32 id;			/* of the vCPU; its APIC ID */
	pthread_t thread;
	bool running;
	volatile bool stop;
	volatile u64 signals;	/* KVM_RUN ended with EINTR so often */
	bool returned;		/* the function has, with this: */
	u32 result;
};

struct cpus {
	struct cpu cpu[CPUS_MAX];
	unsigned int count;
	/* Answers guest_sync(); NULL: such a port write is ignored. */
	void (*on_sync)(struct cpu *cpu, u32 value);
	/* Exits other than port I/O: true, and the guest goes on. */
	bool (*on_exit)(struct cpu *cpu);
};

void cpus_create(struct cpus *s, unsigned int count, unsigned int with);
/* The same with ids of one's own choice; ids[0] is 0. */
void cpus_create_ids(struct cpus *s, const u32 *ids, unsigned int count,
		     unsigned int with);
void cpus_destroy(struct cpus *s);

/*
 * Put all vCPUs before @function, interrupts enabled; none runs yet.  Copies
 * the program anew.
 */
void cpus_prepare(struct cpus *s, u32 (*function)(u64));
/* Another function for one of them, after cpus_prepare(). */
void cpu_prepare(struct cpu *cpu, u32 (*function)(u64), u64 arg);

void cpus_start(struct cpus *s);
void cpu_start(struct cpu *cpu);
/* Wait for its function to return: the result. */
u32 cpu_join(struct cpu *cpu);
/* Make the thread leave KVM_RUN and end, wherever the guest is. */
void cpu_stop(struct cpu *cpu);
/* A signal to the thread: KVM_RUN ends with EINTR, and is called again. */
void cpu_signal(struct cpu *cpu);

u32 cpu_mp_state(struct cpu *cpu);
void cpu_set_mp_state(struct cpu *cpu, u32 state);

/* All of it, in a test of kselftest_harness.h: each vCPU's function returns 0. */
#define cpus_expect_zero(s, function) do {				\
	cpus_prepare(s, function);					\
	cpus_start(s);							\
	for (unsigned int cpu_ = 0; cpu_ < (s)->count; cpu_++)		\
		EXPECT_EQ(cpu_join(&(s)->cpu[cpu_]), 0);		\
} while (0)

/*
 * For the guest: the local APIC by MMIO or as MSRs, whichever is on.
 */
#define APIC_BASE	0xfee00000ul
#define APIC_REG_ID	0x20
#define APIC_REG_TPR	0x80
#define APIC_REG_EOI	0xb0
#define APIC_REG_LDR	0xd0
#define APIC_REG_DFR	0xe0
#define APIC_REG_SVR	0xf0
#define APIC_REG_ISR	0x100
#define APIC_REG_IRR	0x200
#define APIC_REG_ESR	0x280
#define APIC_REG_ICR	0x300
#define APIC_REG_ICR2	0x310
#define APIC_REG_LVTT	0x320
#define APIC_REG_LVTPC	0x340
#define APIC_REG_LVT0	0x350
#define APIC_REG_LVT1	0x360
#define APIC_REG_LVTERR	0x370
#define APIC_REG_SELF_IPI	0x3f0
#define MSR_APIC_BASE	0x1b
#define MSR_X2APIC	0x800

#define ICR_LOWEST	0x100
#define ICR_NMI		0x400
#define ICR_INIT	0x500
#define ICR_SIPI	0x600
#define ICR_LOGICAL	0x800
#define ICR_ASSERT	0x4000
#define ICR_LEVEL	0x8000
#define ICR_SELF	(1u << 18)
#define ICR_ALL		(2u << 18)
#define ICR_OTHERS	(3u << 18)

static inline void xapic_write(u32 reg, u32 value)
{
	mmio_write(APIC_BASE + reg, value);
}

static inline u32 xapic_read(u32 reg)
{
	return mmio_read(APIC_BASE + reg);
}

static inline void x2apic_write(u32 reg, u64 value)
{
	wrmsr(MSR_X2APIC + reg / 16, value);
}

static inline u64 x2apic_read(u32 reg)
{
	return rdmsr(MSR_X2APIC + reg / 16);
}

static inline void x2apic_enable(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	x2apic_write(APIC_REG_SVR, 0x1ff);
}

#define MSR_PV_EOI	0x4b564d04

/* Paravirtual EOI: take the offer in @flag; false: there is none. */
static inline bool pv_eoi(volatile u32 *flag)
{
	u8 was;

	asm volatile("btrl $0, %0\n\tsetc %1" : "+m"(*flag), "=r"(was) : : "memory");
	return was;
}

static inline void xapic_ipi(u32 icr, u8 dest)
{
	xapic_write(APIC_REG_ICR2, (u32)dest << 24);
	xapic_write(APIC_REG_ICR, icr);
}

static inline void x2apic_ipi(u32 icr, u32 dest)
{
	x2apic_write(APIC_REG_ICR, icr | (u64)dest << 32);
}

/* For the guest: which of cpus.cpu[] it is; the stack tells. */
static inline unsigned int cpu_self(void)
{
	u64 rsp = (uintptr_t)__builtin_frame_address(0);

	return rsp < GUEST_FREE ? 0 : (GUEST_MEM - rsp) / CPU_STACK_BYTES;
}

/* Lets another vCPU run where the host has fewer CPUs than the guest. */
#define PORT_YIELD	0x80

/* Turns of a loop, then a wait has failed. */
#define PATIENCE	(1u << 22)

/* A macro, so that a failure names the line that waited. */
#define wait_until(condition) do {				\
	for (u32 turn_ = 1; !(condition); turn_++) {		\
		guest_check(turn_ < PATIENCE);			\
		asm volatile("pause" : : : "memory");		\
		if (turn_ % 64 == 0)				\
			outb(PORT_YIELD, 0);			\
	}							\
} while (0)

#endif
