// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM's hypercalls and the steal-time page do for guests with several
 * vCPUs: who waits and for how long, who need not be interrupted, kicks and
 * interrupts by hypercall.
 *
 * "KVM-specific MSRs" and "Linux KVM Hypercall" in the kernel's documentation.
 */
#include <sched.h>
#include <time.h>
#include <kselftest_harness.h>
#include "cpus.h"

#define CPUS		4
#define VECTOR		0x61
#define MSR_STEAL	0x4b564d03
#define HC_KICK		5
#define HC_SEND_IPI	10
#define PREEMPTED	BIT(0)
#define FLUSH		BIT(1)

struct steal_page {
	u64 steal;		/* ns */
	u32 version, flags;
	u8 preempted, pad[47];
};

#define STEAL_PAGE(cpu)	(GUEST_FREE + 64 * (cpu))
/* A linear address without memory, which comes to mean one place, then another. */
#define LINEAR		0x40000000ul
#define PLACE(n)	(GUEST_FREE + (n) * HUGE)

static volatile struct steal_page *page_of(unsigned int cpu)
{
	return (void *)STEAL_PAGE(cpu);
}

FIXTURE(steal) {
	struct cpus s;
};

FIXTURE_SETUP(steal)
{
	cpu_set_t one;

	/* All threads on one CPU, whatever the host has. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	cpus_create(&self->s, CPUS, WITH_IRQCHIP);
}

FIXTURE_TEARDOWN(steal)
{
	cpus_destroy(&self->s);
}

/* --- The guest --- */

static volatile u32 amd, ready, finished, taken[CPUS];

static long hypercall(u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
	if (amd)
		asm volatile("vmmcall" : "+a"(nr) : "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	else
		asm volatile("vmcall" : "+a"(nr) : "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	return nr;
}

static void note(struct guest_frame *frame)
{
	(void)frame;
	taken[cpu_self()]++;
	x2apic_write(APIC_REG_EOI, 0);
}

static void set_up(void)
{
	amd = guest_is_amd();
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	x2apic_write(APIC_REG_SVR, 0x1ff);
	guest_handlers[VECTOR] = note;
	wrmsr(MSR_STEAL, STEAL_PAGE(cpu_self()) | 1);
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	wait_until(ready >= CPUS);
}

static u64 stolen(unsigned int cpu)
{
	volatile struct steal_page *page = page_of(cpu);
	u32 version;
	u64 steal;

	do {
		version = page->version;
		steal = page->steal;
	} while (version & 1 || version != page->version);
	return steal;
}

/* Turns long enough to be long for the host's scheduler, too. */
static void spin(void)
{
	for (volatile u32 i = 0; i < 2000; i++)
		;
}

static u32 guest_spins(u64 me)
{
	set_up();
	while (stolen(me) < 10000000) {
		guest_check(!(page_of(me)->version & 1));
		guest_equal(page_of(me)->preempted & PREEMPTED, 0);
		spin();
	}
	/* The others need somebody to wait for. */
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	while (finished < CPUS)
		spin();
	return 0;
}

static bool lost_its_cpu(unsigned int cpu)
{
	return page_of(cpu)->preempted & PREEMPTED;
}

/* On one CPU, whom another one finds in the middle of a loop is preempted. */
static u32 guest_is_preempted(u64 me)
{
	set_up();
	if (me > 1)
		return 0;
	for (u32 turn = 1; turn <= 20; turn++) {
		if (me) {
			while (finished < turn)
				guest_equal(page_of(1)->preempted, 0);
			__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
		} else {
			wait_until(lost_its_cpu(1));
			finished = turn;
			wait_until(ready == CPUS + turn);
		}
	}
	return 0;
}

/* Page tables that vCPU 1 uses, changed by vCPU 0 while it cannot run. */
static u32 guest_leaves_a_note(u64 me)
{
	volatile u64 *pd = (void *)GUEST_PD, *pde = pd + LINEAR / HUGE;
	volatile u32 *linear = (void *)(LINEAR + PAGE);

	if (!me)
		*pde = pd[PLACE(0) / HUGE];
	set_up();
	if (me > 1)
		return 0;
	for (u32 turn = 1; turn <= 20; turn++) {
		u8 state;

		if (me) {
			while (*linear == turn)
				;
			guest_equal(*linear, turn + 1);
			finished = turn;
			continue;
		}
		do {
			wait_until(lost_its_cpu(1));
			*(volatile u32 *)(PLACE(turn & 1) + PAGE) = turn + 1;
			*pde = pd[PLACE(turn & 1) / HUGE];
			state = PREEMPTED;
		} while (!__atomic_compare_exchange_n(&page_of(1)->preempted, &state,
						      PREEMPTED | FLUSH, false, __ATOMIC_SEQ_CST,
						      __ATOMIC_SEQ_CST));
		wait_until(finished == turn);
	}
	return 0;
}

/* A HLT that no interrupt can end, and a kick that comes before the HLT. */
static u32 guest_kicks(u64 me)
{
	set_up();
	if (me > 1)
		return 0;
	for (u32 turn = 1; turn <= 20; turn++) {
		if (me) {
			asm volatile("cli; hlt; sti" : : : "memory");
			finished = turn;
			wait_until(ready >= CPUS + turn);
			asm volatile("cli; hlt; sti" : : : "memory");
			finished = 100 + turn;
			continue;
		}
		for (int i = 0; i < 10 && turn & 1; i++)
			outb(PORT_YIELD, 0);	/* it is asleep then */
		guest_equal(hypercall(HC_KICK, 0, 1, 0, 0), 0);
		wait_until(finished == turn);
		guest_equal(hypercall(HC_KICK, 0, 1, 0, 0), 0);
		__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
		wait_until(finished == 100 + turn);
	}
	/* Nobody is there; and nothing happens to who runs. */
	guest_equal(hypercall(HC_KICK, 0, 1000, 0, 0), 0);
	guest_equal(hypercall(HC_KICK, 0, ~0ull, 0, 0), 0);
	return 0;
}

static void expect_ipis(u64 low, u64 high, u32 first, long count, u32 mask)
{
	u32 before[CPUS];

	for (unsigned int cpu = 0; cpu < CPUS; cpu++)
		before[cpu] = taken[cpu];
	guest_equal(hypercall(HC_SEND_IPI, low, high, first, VECTOR), count);
	for (unsigned int cpu = 0; cpu < CPUS; cpu++)
		wait_until(taken[cpu] == before[cpu] + (mask >> cpu & 1));
}

static u32 guest_sends(u64 me)
{
	set_up();
	if (me) {
		cli();
		while (!finished)
			asm volatile("sti; hlt; cli" : : : "memory");
		return 0;
	}
	expect_ipis(0xe, 0, 0, 3, 0xe);
	expect_ipis(0x1, 0, 0, 1, 0x1);
	expect_ipis(0x5, 0, 1, 2, 0xa);
	expect_ipis(0xf, 0, 2, 2, 0xc);
	expect_ipis(0, 0xf, 0, 0, 0);
	expect_ipis(~0ull, ~0ull, 0, 4, 0xf);
	expect_ipis(~0ull, ~0ull, 1000000, 0, 0);
	/* Whoever is meant stands in the bitmap. */
	guest_equal(hypercall(HC_SEND_IPI, 2, 0, 0, VECTOR | ICR_LOGICAL), -22);
	guest_equal(hypercall(HC_SEND_IPI, 2, 0, 0, VECTOR | ICR_OTHERS), -22);
	finished = 1;
	x2apic_ipi(ICR_OTHERS | VECTOR, 0);
	return 0;
}

static u32 guest_sets_bits(u64 unused)
{
	(void)unused;
	for (u32 bit = 1; bit < 6; bit++)
		guest_equal(wrmsr_safe(MSR_STEAL, STEAL_PAGE(0) | BIT(bit) | 1), 13);
	guest_equal(rdmsr(MSR_STEAL), 0);
	wrmsr(MSR_STEAL, STEAL_PAGE(0) | 1);
	guest_equal(rdmsr(MSR_STEAL), STEAL_PAGE(0) | 1);
	guest_sync(0);
	guest_equal(page_of(0)->version & 1, 0);
	/* Where there is no memory, nothing happens. */
	wrmsr(MSR_STEAL, GUEST_MMIO | 1);
	guest_sync(1);
	wrmsr(MSR_STEAL, 0);
	guest_equal(rdmsr(MSR_STEAL), 0);
	return 0;
}

/* --- Tests --- */

TEST_F(steal, is_announced)
{
	const u32 wanted = BIT(5) | BIT(7) | BIT(9) | BIT(11);
	u32 regs[4];

	device_cpuid(0x40000001, regs);
	EXPECT_EQ(regs[0] & wanted, wanted);
	EXPECT_EQ(device_lists_msr(MSR_STEAL), 1);
}

TEST_F(steal, reserved_bits)
{
	struct guest *g = &self->s.cpu[0].g;
	u32 value;

	guest_call(g, guest_sets_bits, 0);
	for (u32 i = 0; i < 2; i++) {
		ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
		EXPECT_EQ(value, i);
	}
	EXPECT_EQ(guest_finish(g), 0);
}

TEST_F(steal, who_waits_is_told)
{
	u64 ns, from = clock_ns(CLOCK_MONOTONIC), sum = 0;

	cpus_expect_zero(&self->s, guest_spins);
	ns = clock_ns(CLOCK_MONOTONIC) - from;
	for (unsigned int i = 0; i < CPUS; i++) {
		u64 steal = ((struct steal_page *)guest_at(&self->s.cpu[0].g, STEAL_PAGE(i)))->steal;

		EXPECT_LT(steal, ns);
		sum += steal;
	}
	TH_LOG("%llu ms on one CPU, of which the vCPUs waited %llu together", ns / 1000000,
	       sum / 1000000);
	/* Of four that want one CPU, three wait. */
	EXPECT_GT(sum, ns / 2);
}

TEST_F(steal, who_lost_its_cpu)
{
	cpus_expect_zero(&self->s, guest_is_preempted);
}

TEST_F(steal, who_cannot_run_flushes_later)
{
	*(u32 *)guest_at(&self->s.cpu[0].g, PLACE(0) + PAGE) = 1;
	cpus_expect_zero(&self->s, guest_leaves_a_note);
}

TEST_F(steal, kicks_end_a_halt)
{
	cpus_expect_zero(&self->s, guest_kicks);
}

TEST_F(steal, interrupts_by_hypercall)
{
	cpus_expect_zero(&self->s, guest_sends);
}

SELFTEST_MAIN
