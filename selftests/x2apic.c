// SPDX-License-Identifier: GPL-2.0
/*
 * A local APIC in x2APIC mode as its guest uses it, which a CPU with APICv serves
 * without an exit: priorities, what reads and writes fault, a level's EOI that the I/O
 * APIC hears of, and that userspace and a change of the mode find and leave everything
 * where it belongs.
 *
 * Source: SDM vol. 3A, "Extended XAPIC (x2APIC)", "Task and Processor Priorities".
 */
#include <kselftest_harness.h>
#include "cpus.h"

#define GP		13
#define LOW		0x41
#define MIDDLE		0x61
#define PEER		0x62	/* of MIDDLE's class */
#define HIGH		0x81
#define LEVEL		0x71
#define PIN		20
#define REG_PPR		0xa0

static volatile u32 order[16], taken;

static void send(u8 vector)
{
	x2apic_write(APIC_REG_SELF_IPI, vector);
}

static void eoi(void)
{
	x2apic_write(APIC_REG_EOI, 0);
}

static bool is_set(u32 reg, u8 vector)
{
	return x2apic_read(reg + vector / 32 * 0x10) & BIT(vector % 32);
}

static void on_vector(struct guest_frame *frame)
{
	order[taken++ % 16] = frame->vector;
	guest_equal(x2apic_read(REG_PPR), frame->vector & 0xf0);
	guest_check(is_set(APIC_REG_ISR, frame->vector));
	guest_check(!is_set(APIC_REG_IRR, frame->vector));
	eoi();
}

static void begin(void)
{
	for (u32 i = 0x20; i < 256; i++)
		guest_handlers[i] = on_vector;
	x2apic_enable();
}

static void set_cr8(u64 value)
{
	asm volatile("mov %0, %%cr8" : : "r"(value) : "memory");
}

static u64 get_cr8(void)
{
	u64 value;

	asm volatile("mov %%cr8, %0" : "=r"(value) : : "memory");
	return value;
}

GUEST_FIXTURE(x2apic, WITH_IRQCHIP)

static u32 guest_priorities(u64 unused)
{
	begin();
	cli();
	send(LOW);
	send(PEER);
	send(HIGH);
	send(MIDDLE);
	guest_check(is_set(APIC_REG_IRR, LOW) && is_set(APIC_REG_IRR, MIDDLE) &&
		    is_set(APIC_REG_IRR, PEER) && is_set(APIC_REG_IRR, HIGH));
	guest_equal(taken, 0);
	x2apic_write(APIC_REG_TPR, 0x60);
	guest_equal(get_cr8(), 6);
	guest_equal(x2apic_read(REG_PPR), 0x60);
	sti();
	guest_equal(taken, 1);
	guest_equal(order[0], HIGH);
	set_cr8(5);
	guest_equal(taken, 3);
	guest_equal(order[1], PEER);
	guest_equal(order[2], MIDDLE);
	guest_equal(x2apic_read(APIC_REG_TPR), 0x50);
	x2apic_write(APIC_REG_TPR, 0x3f);
	guest_equal(taken, 4);
	guest_equal(order[3], LOW);
	send(LOW);
	guest_equal(taken, 5);
	set_cr8(4);
	send(LOW);
	guest_equal(taken, 5);
	set_cr8(0);
	return taken;
}

TEST_F(x2apic, priorities)
{
	guest_call(&self->g, guest_priorities, 0);
	EXPECT_EQ(guest_finish(&self->g), 6);
}

/* Inside: a higher class comes at once, its own and a lower one with the EOI. */
static void on_nested(struct guest_frame *frame)
{
	u32 before = taken;

	sti();
	send(PEER);
	send(LOW);
	guest_equal(taken, before);
	send(HIGH);
	guest_equal(taken, before + 1);
	guest_equal(order[before], HIGH);
	guest_equal(x2apic_read(REG_PPR), MIDDLE & 0xf0);
	eoi();
	guest_equal(taken, before + 3);
	guest_equal(order[before + 1], PEER);
	guest_equal(order[before + 2], LOW);
	cli();
}

static u32 guest_nests(u64 unused)
{
	begin();
	guest_handlers[MIDDLE] = on_nested;
	sti();
	for (u32 i = 0; i < 20; i++) {
		taken = 0;
		send(MIDDLE);
		guest_equal(taken, 3);
		for (u32 reg = 0; reg < 0x80; reg += 0x10)
			guest_equal(x2apic_read(APIC_REG_ISR + reg), 0);
	}
	return 0;
}

TEST_F(x2apic, nesting)
{
	guest_call(&self->g, guest_nests, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

static u32 guest_faults(u64 strict)
{
	static const u32 unreadable[] = { APIC_REG_EOI, APIC_REG_DFR, APIC_REG_ICR2,
					  APIC_REG_SELF_IPI, 0x00, 0x40, 0x90, 0x3a0 };
	static const u32 readonly[] = { APIC_REG_ID, 0x30, REG_PPR, APIC_REG_LDR,
					APIC_REG_ISR, APIC_REG_IRR, 0x180, 0x390 };
	u64 value;

	begin();
	for (u32 i = 0; i < sizeof(unreadable) / sizeof(*unreadable); i++)
		guest_equal(rdmsr_safe(MSR_X2APIC + unreadable[i] / 16, &value), GP);
	for (u32 i = 0; i < sizeof(readonly) / sizeof(*readonly); i++) {
		guest_equal(wrmsr_safe(MSR_X2APIC + readonly[i] / 16, 0), GP);
		guest_equal(rdmsr_safe(MSR_X2APIC + readonly[i] / 16, &value), NO_FAULT);
		guest_equal(value >> 32, 0);
	}
	if (strict) {
		guest_equal(wrmsr_safe(MSR_X2APIC + APIC_REG_EOI / 16, 1), GP);
		guest_equal(wrmsr_safe(MSR_X2APIC + APIC_REG_TPR / 16, 0x100), GP);
		guest_equal(wrmsr_safe(MSR_X2APIC + APIC_REG_TPR / 16, BIT(32)), GP);
		guest_equal(wrmsr_safe(MSR_X2APIC + APIC_REG_SELF_IPI / 16, 0x100), GP);
		guest_equal(wrmsr_safe(MSR_X2APIC + APIC_REG_SELF_IPI / 16, BIT(40) | MIDDLE),
			    GP);
	}
	guest_equal(x2apic_read(APIC_REG_TPR), 0);
	/* An EOI of nothing. */
	eoi();
	sti();
	return taken;
}

TEST_F(x2apic, faults)
{
	/* Stock KVM ignores bits that are reserved. */
	guest_call(&self->g, guest_faults, device_is_minikvm());
	EXPECT_EQ(guest_finish(&self->g), 0);
}

static u32 guest_sends_what_cannot_be(u64 unused)
{
	begin();
	x2apic_write(APIC_REG_LVTERR, HIGH);
	x2apic_write(APIC_REG_ESR, 0);
	sti();
	send(5);
	guest_equal(taken, 1);
	guest_equal(order[0], HIGH);
	x2apic_write(APIC_REG_ESR, 0);
	return x2apic_read(APIC_REG_ESR);
}

TEST_F(x2apic, a_vector_that_cannot_be)
{
	if (!device_is_minikvm())
		SKIP(return, "stock KVM sends it all the same");
	guest_call(&self->g, guest_sends_what_cannot_be, 0);
	EXPECT_EQ(guest_finish(&self->g), BIT(5));
}

static u32 *state_word(struct kvm_lapic_state *state, u32 reg, u8 vector)
{
	return (u32 *)(state->regs + reg + vector / 32 * 0x10);
}

static void on_saved(struct guest_frame *frame)
{
	send(LOW);
	send(PEER);
	guest_sync(frame->vector);
	/* Meanwhile userspace has changed what waits, and what is in service. */
	guest_check(is_set(APIC_REG_ISR, LOW) && is_set(APIC_REG_IRR, HIGH));
	guest_check(!is_set(APIC_REG_ISR, MIDDLE) && !is_set(APIC_REG_IRR, PEER));
	sti();
	guest_equal(taken, 1);
	guest_equal(order[0], HIGH);
	cli();
	eoi();
}

static u32 guest_saved(u64 unused)
{
	begin();
	guest_handlers[MIDDLE] = on_saved;
	sti();
	send(MIDDLE);
	sti();
	return taken;
}

TEST_F(x2apic, state_in_the_middle)
{
	struct guest *g = &self->g;
	struct kvm_lapic_state state;

	guest_call(g, guest_saved, 0);
	ASSERT_EQ(guest_until_sync(g), MIDDLE);
	must(g->vcpu, KVM_GET_LAPIC, &state);
	EXPECT_EQ(*state_word(&state, APIC_REG_ISR, MIDDLE), BIT(MIDDLE % 32));
	EXPECT_EQ(*state_word(&state, APIC_REG_IRR, MIDDLE), BIT(PEER % 32));
	EXPECT_EQ(*state_word(&state, APIC_REG_IRR, LOW), BIT(LOW % 32));
	EXPECT_EQ(*(u32 *)(state.regs + REG_PPR), MIDDLE & 0xf0);
	*state_word(&state, APIC_REG_ISR, MIDDLE) = 0;
	*state_word(&state, APIC_REG_ISR, LOW) |= BIT(LOW % 32);
	*state_word(&state, APIC_REG_IRR, MIDDLE) = 0;
	*state_word(&state, APIC_REG_IRR, HIGH) |= BIT(HIGH % 32);
	must(g->vcpu, KVM_SET_LAPIC, &state);
	/* HIGH inside; then LOW, which was there twice. */
	EXPECT_EQ(guest_finish(g), 2);
}

/* What waits in xAPIC mode comes in x2APIC mode. */
static u32 guest_changes_mode(u64 unused)
{
	for (u32 i = 0x20; i < 256; i++)
		guest_handlers[i] = on_vector;
	cli();
	xapic_write(APIC_REG_SVR, 0x1ff);
	xapic_write(APIC_REG_ICR, ICR_SELF | ICR_ASSERT | MIDDLE);
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	guest_check(is_set(APIC_REG_IRR, MIDDLE));
	guest_equal(taken, 0);
	send(HIGH);
	sti();
	guest_equal(order[0], HIGH);
	guest_equal(order[1], MIDDLE);
	return taken;
}

TEST_F(x2apic, change_of_mode)
{
	guest_call(&self->g, guest_changes_mode, 0);
	EXPECT_EQ(guest_finish(&self->g), 2);
}

static void on_level(struct guest_frame *frame)
{
	guest_check(ioapic_read(0x10 + 2 * PIN) & RTE_REMOTE_IRR);
	if (++taken % 3 == 0)
		guest_sync(taken);
	eoi();
}

static u32 guest_level(u64 unused)
{
	begin();
	guest_handlers[LEVEL] = on_level;
	sti();
	guest_sync(0);
	for (u32 i = 0; i < 10; i++) {
		u32 before = taken;

		/* An edge that happens to have the vector is none of the I/O APIC's. */
		send(LEVEL + 1);
		guest_equal(taken, before + 1);
		taken = before;
		ioapic_write(0x10 + 2 * PIN, RTE_LEVEL | LEVEL);
		guest_sync(i);
		guest_equal(taken, before + 3);
		guest_equal(ioapic_read(0x10 + 2 * PIN), RTE_LEVEL | LEVEL);
	}
	return taken;
}

/* A line that stays up interrupts again after each EOI, until it goes down. */
TEST_F(x2apic, level)
{
	struct kvm_irq_level line = { .irq = PIN };
	struct guest *g = &self->g;

	guest_call(g, guest_level, 0);
	ASSERT_EQ(guest_until_sync(g), 0);
	for (u32 i = 0; i < 10; i++) {
		ASSERT_EQ(guest_until_sync(g), i);
		line.level = 1;
		must(g->vm, KVM_IRQ_LINE, &line);
		ASSERT_EQ(guest_until_sync(g), 3 * i + 3);
		line.level = 0;
		must(g->vm, KVM_IRQ_LINE, &line);
	}
	EXPECT_EQ(guest_finish(g), 30);
}

static u32 guest_waits(u64 halts)
{
	begin();
	for (u32 i = 0; i < 10; i++) {
		send(HIGH);
		sti();
		guest_equal(taken, 2 * i + 1);
		cli();
		guest_sync(i);
		while (taken == 2 * i + 1) {
			if (halts)
				asm volatile("sti; hlt; cli" : : : "memory");
			else
				asm volatile("sti; pause; cli" : : : "memory");
		}
		guest_equal(order[(2 * i + 1) % 16], LOW);
	}
	return taken;
}

static u32 interrupted(struct guest *g, bool halts)
{
	guest_call(g, guest_waits, halts);
	for (u32 i = 0; i < 10; i++) {
		if (guest_until_sync(g) != i)
			return 0;
		guest_interrupt_later(g, LOW);
	}
	return guest_finish(g);
}

/* From elsewhere, into a guest that runs, and one that halts. */
TEST_F(x2apic, comes_from_elsewhere)
{
	EXPECT_EQ(interrupted(&self->g, false), 20);
}

TEST_F(x2apic, wakes)
{
	EXPECT_EQ(interrupted(&self->g, true), 20);
}

/* What waits already comes behind the HLT that follows STI, which it ends. */
static u32 guest_halts_too_late(u64 unused)
{
	begin();
	for (u32 i = 0; i < 100; i++) {
		cli();
		send(i % 2 ? LOW : HIGH);
		asm volatile("sti; hlt; cli" : : : "memory");
		guest_equal(taken, i + 1);
	}
	return taken;
}

TEST_F(x2apic, waits_behind_sti)
{
	guest_call(&self->g, guest_halts_too_late, 0);
	EXPECT_EQ(guest_finish(&self->g), 100);
}

/* The CPU that halts by itself is woken by what it delivers by itself. */
TEST_F(x2apic, wakes_without_an_exit)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_DISABLE_EXITS,
				      .args = { KVM_X86_DISABLE_EXITS_HLT } };
	struct guest g;

	if (!(must(self->g.kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS) &
	      KVM_X86_DISABLE_EXITS_HLT))
		SKIP(return, "HLT always exits here");
	guest_create_cap(&g, WITH_IRQCHIP, &cap);
	EXPECT_EQ(interrupted(&g, true), 20);
	guest_destroy(&g);
}

SELFTEST_MAIN
