// SPDX-License-Identifier: GPL-2.0
/*
 * Paravirtual EOI: a guest that clears a bit in its memory instead of writing to its
 * local APIC. Each interrupt comes once, in the order of their priorities, and who asks
 * the APIC finds it as if the guest had written.
 *
 * Source: "KVM-specific MSRs" in the kernel's documentation, MSR_KVM_PV_EOI_EN.
 */
#include <kselftest_harness.h>
#include "cpus.h"

#define GP		13
#define LOW		0x41
#define MIDDLE		0x61
#define PEER		0x62	/* of MIDDLE's class */
#define HIGH		0x81
#define ROUNDS		1000

static volatile u32 flag __attribute__((aligned(4)));
static volatile u32 taken[256], skipped, written;
static volatile bool stop_inside;

/* An interrupt for oneself; this exits, and the APIC is looked at. */
static void send(u8 vector)
{
	x2apic_write(APIC_REG_SELF_IPI, vector);
}

static void end_of_interrupt(void)
{
	if (pv_eoi(&flag)) {
		skipped++;
	} else {
		written++;
		x2apic_write(APIC_REG_EOI, 0);
	}
}

static void on_vector(struct guest_frame *frame)
{
	taken[frame->vector]++;
	if (stop_inside)
		guest_sync(frame->vector);
	end_of_interrupt();
}

/* In the middle of its service it is overtaken by one of a higher class. */
static void on_interrupted(struct guest_frame *frame)
{
	u32 before = taken[HIGH];

	taken[frame->vector]++;
	sti();
	send(HIGH);
	guest_equal(taken[HIGH], before + 1);
	cli();
	/* What was offered before is not any more: the APIC has to hear of both. */
	guest_equal(flag & 1, 0);
	end_of_interrupt();
}

/* One of its own class comes, and waits for the end. */
static void on_joined(struct guest_frame *frame)
{
	taken[frame->vector]++;
	send(PEER);
	guest_equal(flag & 1, 0);
	end_of_interrupt();
}

static void begin(void)
{
	for (u32 i = 0x20; i < 256; i++)
		guest_handlers[i] = on_vector;
	x2apic_enable();
	wrmsr(MSR_PV_EOI, (u64)&flag | 1);
	guest_equal(rdmsr(MSR_PV_EOI), (u64)&flag | 1);
}

static void nothing_in_service(void)
{
	for (u32 i = 0; i < 8; i++)
		guest_equal(x2apic_read(APIC_REG_ISR + i * 0x10), 0);
}

GUEST_FIXTURE(eoi, WITH_IRQCHIP)

static u32 guest_msr(u64 unused)
{
	guest_equal(wrmsr_safe(MSR_PV_EOI, ((u64)&flag + 2) | 1), GP);
	guest_equal(wrmsr_safe(MSR_PV_EOI, 2), GP);
	guest_equal(wrmsr_safe(MSR_PV_EOI, GUEST_MMIO | 1), GP);
	begin();
	wrmsr(MSR_PV_EOI, 0);
	sti();
	send(MIDDLE);
	guest_equal(skipped, 0);
	guest_equal(written, 1);
	guest_equal(flag, 0);
	return taken[MIDDLE];
}

TEST_F(eoi, msr)
{
	guest_call(&self->g, guest_msr, 0);
	EXPECT_EQ(guest_finish(&self->g), 1);
}

/* Of @n EOIs that the guest can leave out; a CPU that does them itself offers none. */
static u32 offered(u32 n)
{
	return device_has_apicv() ? 0 : n;
}

static u32 guest_many(u64 unused)
{
	begin();
	sti();
	for (u32 i = 0; i < ROUNDS; i++) {
		send(MIDDLE);
		guest_equal(taken[MIDDLE], i + 1);
	}
	nothing_in_service();
	guest_equal(skipped + written, ROUNDS);
	return skipped;
}

TEST_F(eoi, each_comes_once)
{
	u32 skipped_by_guest;

	guest_call(&self->g, guest_many, 0);
	skipped_by_guest = guest_finish(&self->g);
	TH_LOG("%u of %u without an exit", skipped_by_guest, ROUNDS);
	EXPECT_GE(skipped_by_guest, offered(ROUNDS * 9 / 10 + 1));
}

/* Each time that one is taken its handler sends @second. */
static u32 nested(void (*handler)(struct guest_frame *frame), u8 second)
{
	begin();
	guest_handlers[MIDDLE] = handler;
	sti();
	for (u32 i = 0; i < 10; i++) {
		send(MIDDLE);
		guest_equal(taken[MIDDLE], i + 1);
		guest_equal(taken[second], i + 1);
	}
	nothing_in_service();
	return 0;
}

static u32 guest_overtaken(u64 unused)
{
	return nested(on_interrupted, HIGH);
}

static u32 guest_joined(u64 unused)
{
	return nested(on_joined, PEER);
}

TEST_F(eoi, overtaken)
{
	guest_call(&self->g, guest_overtaken, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

TEST_F(eoi, one_that_waits_for_the_end)
{
	guest_call(&self->g, guest_joined, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

/* What ended without an exit must not keep one of a lower class from waking the CPU. */
static u32 guest_halts(u64 unused)
{
	begin();
	for (u32 i = 0; i < 10; i++) {
		sti();
		send(HIGH);
		cli();
		guest_equal(taken[HIGH], i + 1);
		guest_sync(i);
		while (taken[LOW] == i)
			asm volatile("sti; hlt; cli" : : : "memory");
	}
	return skipped;
}

TEST_F(eoi, wakes_from_halt)
{
	guest_call(&self->g, guest_halts, 0);
	for (u32 i = 0; i < 10; i++) {
		ASSERT_EQ(guest_until_sync(&self->g), i);
		guest_interrupt_later(&self->g, LOW);
	}
	EXPECT_GE(guest_finish(&self->g), offered(11));
}

static u32 guest_stops_inside(u64 unused)
{
	begin();
	stop_inside = true;
	sti();
	send(MIDDLE);
	stop_inside = false;
	send(MIDDLE);
	/* Nobody has looked since the second one was taken. */
	guest_sync(0);
	nothing_in_service();
	return skipped;
}

static bool in_service(struct guest *g, u8 vector)
{
	struct kvm_lapic_state state;

	must(g->vcpu, KVM_GET_LAPIC, &state);
	return *(u32 *)(state.regs + 0x100 + vector / 32 * 0x10) & BIT(vector % 32);
}

TEST_F(eoi, state_for_userspace)
{
	struct guest *g = &self->g;

	guest_call(g, guest_stops_inside, 0);
	ASSERT_EQ(guest_until_sync(g), MIDDLE);
	EXPECT_TRUE(in_service(g, MIDDLE));
	/* What is saved now, and restored elsewhere, needs nothing of what is not saved. */
	EXPECT_EQ(*guest_var(g, flag) & 1, 0);
	ASSERT_EQ(guest_until_sync(g), 0);
	EXPECT_FALSE(in_service(g, MIDDLE));
	EXPECT_EQ(guest_finish(g), offered(1));
}

SELFTEST_MAIN
