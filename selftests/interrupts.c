// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts: the PIC, the I/O APIC, the local APIC with its timer and the PIT
 * in the kernel, NMIs, and the way without any of these, where userspace
 * injects and asks for an interrupt window.
 *
 * Guests wait by counting, never by the clock: on an emulated machine a
 * second may be a millisecond's worth of instructions, or an hour's.
 */
#include <kselftest_harness.h>
#include "guest.h"

#define LAPIC		0xfee00000ul
#define LAPIC_ID	0x20
#define LAPIC_VERSION	0x30
#define LAPIC_TPR	0x80
#define LAPIC_PPR	0xa0
#define LAPIC_EOI	0xb0
#define LAPIC_SVR	0xf0
#define LAPIC_ISR	0x100
#define LAPIC_IRR	0x200
#define LAPIC_LVT_CMCI	0x2f0
#define LAPIC_ICR	0x300
#define LAPIC_ICR2	0x310
#define LAPIC_LVTT	0x320
#define LAPIC_LVT0	0x350
#define LAPIC_TMICT	0x380
#define LAPIC_TMCCT	0x390
#define LAPIC_TDCR	0x3e0
#define LVT_MASKED	BIT(16)
#define LVT_PERIODIC	BIT(17)
#define LVT_DEADLINE	BIT(18)
#define LVT_EXTINT	0x700
#define ICR_SELF	BIT(18)
#define ICR_NMI		0x400
#define MSR_APIC_BASE	0x1b
#define APIC_BASE_ENABLE BIT(11)
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_MC0_CTL2	0x280
#define MSR_MC0_STATUS	0x401
#define CTL2_CMCI	BIT(30)
#define MCG_CMCI	BIT(10)
#define MC_NO_ACTION	(BIT(63) | BIT(61) | BIT(60) | 2)

#define RTE_MASKED	BIT(16)

#define PIC1		0x20
#define PIC2		0xa0
#define PIC_BASE	0x30	/* vectors of the two PICs */

#define PIN		5
#define VECTOR		0x61
#define HIGH_VECTOR	0x81
#define PATIENCE	(1u << 24)	/* turns of a loop, then it is a failure */

static u32 lapic_read(u32 reg)
{
	return mmio_read(LAPIC + reg);
}

static void lapic_write(u32 reg, u32 value)
{
	mmio_write(LAPIC + reg, value);
}

/* One 256-bit register of the local APIC, at a vector's bit. */
static bool lapic_bit(u32 reg, u8 vector)
{
	return lapic_read(reg + vector / 32 * 0x10) & BIT(vector % 32);
}

static void ioapic_route(u8 pin, u32 low)
{
	ioapic_write(0x10 + 2 * pin + 1, lapic_read(LAPIC_ID) & 0xff000000);
	ioapic_write(0x10 + 2 * pin, low);
}

static void pic_init(u8 mask1, u8 mask2)
{
	outb(PIC1, 0x11);
	outb(PIC2, 0x11);
	outb(PIC1 + 1, PIC_BASE);
	outb(PIC2 + 1, PIC_BASE + 8);
	outb(PIC1 + 1, 4);
	outb(PIC2 + 1, 2);
	outb(PIC1 + 1, 1);
	outb(PIC2 + 1, 1);
	outb(PIC1 + 1, mask1);
	outb(PIC2 + 1, mask2);
}

static u8 pic_read(u16 pic, u8 ocw3)
{
	outb(pic, ocw3);
	return inb(pic);
}

#define PIC_IRR	0x0a
#define PIC_ISR	0x0b

static volatile u32 taken[256];		/* per vector */
static volatile u8 order[16];		/* the first vectors, as they came */
static volatile u32 order_count;

static void note(struct guest_frame *frame)
{
	taken[frame->vector]++;
	if (order_count < sizeof(order))
		order[order_count++] = frame->vector;
}

static void on_lapic(struct guest_frame *frame)
{
	note(frame);
	lapic_write(LAPIC_EOI, 0);
}

static void on_pic(struct guest_frame *frame)
{
	note(frame);
	if (frame->vector >= PIC_BASE + 8)
		outb(PIC2, 0x20);
	outb(PIC1, 0x20);
}

/* A macro, so that a failure names the line that waited. */
#define wait_for(count, at_least) do {				\
	for (u32 turn_ = 0; *(count) < (at_least); turn_++) {	\
		guest_check(turn_ < PATIENCE);			\
		asm volatile("pause");				\
	}							\
} while (0)

/* APIC on, the PIC wired through LINT0, nothing else. */
static void enable_apic(void)
{
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_LVT0, LVT_EXTINT);
	lapic_write(LAPIC_TPR, 0);
}

GUEST_FIXTURE(chips, WITH_IRQCHIP | WITH_PIT)

static void set_line(struct guest *g, u32 irq, u32 level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	must(g->vm, KVM_IRQ_LINE, &line);
}

/*
 * Runs the guest; each guest_sync(value) sets line value & 0xff to bit 8.
 */
#define RAISE(irq)	(0x100 | (irq))
#define LOWER(irq)	(irq)

static u32 run_with_lines(struct guest *g)
{
	u32 value;

	while (guest_next(g, &value) == PORT_SYNC)
		set_line(g, value & 0xff, value >> 8 & 1);
	return value;
}

static u32 guest_pic(u64 arg)
{
	for (u32 i = 0; i < 16; i++)
		guest_handlers[PIC_BASE + i] = on_pic;
	enable_apic();
	pic_init((u8)~(BIT(2) | BIT(PIN) | BIT(7)), (u8)~BIT(2));

	/* An edge is one interrupt, however long the line stays up. */
	guest_sync(RAISE(PIN));
	guest_equal(pic_read(PIC1, PIC_IRR), BIT(PIN));
	guest_equal(taken[PIC_BASE + PIN], 0);
	sti();
	wait_for(&taken[PIC_BASE + PIN], 1);
	guest_equal(pic_read(PIC1, PIC_ISR), 0);
	guest_sync(LOWER(PIN));
	guest_sync(RAISE(PIN));
	wait_for(&taken[PIC_BASE + PIN], 2);
	guest_sync(LOWER(PIN));
	cli();

	/* Through the cascade. */
	guest_sync(RAISE(10));
	guest_equal(pic_read(PIC2, PIC_IRR), BIT(2));
	sti();
	wait_for(&taken[PIC_BASE + 10], 1);
	cli();
	guest_sync(LOWER(10));

	/* Both pending: the lower number first. */
	order_count = 0;
	guest_sync(RAISE(7));
	guest_sync(RAISE(PIN));
	sti();
	wait_for(&taken[PIC_BASE + 7], 1);
	cli();
	guest_equal(order[0], PIC_BASE + PIN);
	guest_equal(order[1], PIC_BASE + 7);
	guest_sync(LOWER(7));
	guest_sync(LOWER(PIN));

	/* Masked: it waits until it is not. */
	outb(PIC1 + 1, 0xff);
	guest_equal(inb(PIC1 + 1), 0xff);
	guest_sync(RAISE(PIN));
	sti();
	asm volatile("nop");
	cli();
	guest_equal(taken[PIC_BASE + PIN], 3);
	outb(PIC1 + 1, (u8)~BIT(PIN));
	sti();
	wait_for(&taken[PIC_BASE + PIN], 4);
	cli();
	return taken[PIC_BASE + PIN];
}

TEST_F(chips, pic)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	guest_call(&self->g, guest_pic, 0);
	EXPECT_EQ(run_with_lines(&self->g), 4);
	must(self->g.vm, KVM_GET_IRQCHIP, &chip);
	EXPECT_EQ(chip.chip.pic.irq_base, PIC_BASE);
	EXPECT_EQ(chip.chip.pic.imr, (u8)~BIT(PIN));
}

static u32 guest_pic_poll(u64 arg)
{
	enable_apic();
	pic_init((u8)~BIT(PIN), 0xff);
	guest_sync(RAISE(PIN));
	outb(PIC1, 0x0c);			/* poll instead of INTA */
	guest_equal(inb(PIC1) & 7, PIN);
	guest_equal(pic_read(PIC1, PIC_IRR), 0);
	return 0;
}

TEST_F(chips, pic_polled)
{
	guest_call(&self->g, guest_pic_poll, 0);
	EXPECT_EQ(run_with_lines(&self->g), 0);
}

/* The third time the device lets go; nothing but the handler runs till then. */
static void on_level(struct guest_frame *frame)
{
	note(frame);
	if (taken[frame->vector] == 3)
		guest_sync(LOWER(PIN));
	lapic_write(LAPIC_EOI, 0);
}

static u32 guest_ioapic(u64 arg)
{
	guest_handlers[VECTOR] = on_lapic;
	guest_handlers[HIGH_VECTOR] = on_level;
	pic_init(0xff, 0xff);
	enable_apic();
	guest_equal(ioapic_read(1) >> 16 & 0xff, 23);	/* last pin */

	/* Edge. */
	ioapic_route(PIN, VECTOR);
	guest_equal(ioapic_read(0x10 + 2 * PIN), VECTOR);
	guest_sync(RAISE(PIN));
	guest_check(lapic_bit(LAPIC_IRR, VECTOR));
	sti();
	wait_for(&taken[VECTOR], 1);
	guest_sync(LOWER(PIN));
	guest_equal(taken[VECTOR], 1);
	guest_sync(RAISE(PIN));
	wait_for(&taken[VECTOR], 2);
	guest_sync(LOWER(PIN));
	cli();

	/* Masked. */
	ioapic_route(PIN, VECTOR | RTE_MASKED);
	guest_sync(RAISE(PIN));
	guest_check(!lapic_bit(LAPIC_IRR, VECTOR));
	guest_sync(LOWER(PIN));

	/* Level: again and again until the device lets go. */
	ioapic_route(PIN, HIGH_VECTOR | RTE_LEVEL);
	guest_sync(RAISE(PIN));
	guest_check(ioapic_read(0x10 + 2 * PIN) & RTE_REMOTE_IRR);
	sti();
	wait_for(&taken[HIGH_VECTOR], 3);
	cli();
	guest_equal(taken[HIGH_VECTOR], 3);
	guest_check(!(ioapic_read(0x10 + 2 * PIN) & RTE_REMOTE_IRR));
	return 0;
}

TEST_F(chips, ioapic)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	guest_call(&self->g, guest_ioapic, 0);
	EXPECT_EQ(run_with_lines(&self->g), 0);
	must(self->g.vm, KVM_GET_IRQCHIP, &chip);
	EXPECT_EQ(chip.chip.ioapic.redirtbl[PIN].fields.vector, HIGH_VECTOR);
	EXPECT_TRUE(chip.chip.ioapic.redirtbl[PIN].bits & RTE_LEVEL);
}

/*
 * INT right behind STI, whose delivery the hypervisor has to help with: the interrupt that
 * waits for the end of STI's shadow comes after it all the same.
 */
static u32 guest_int_behind_sti(u64 unused)
{
	guest_handlers[VECTOR] = on_lapic;
	guest_handlers[0x33] = note;
	enable_apic();
	order_count = 0;
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR);
	guest_sync(0);
	asm volatile("sti; int $0x33; cli" : : : "memory");
	guest_equal(order[0], 0x33);
	guest_equal(order[1], VECTOR);
	return order_count;
}

TEST_F(chips, int_behind_sti)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_int_behind_sti, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	/* The guest's mapping of its IDT goes. */
	ASSERT_EQ(mprotect(guest_at(g, GUEST_IDT), PAGE, PROT_NONE), 0);
	ASSERT_EQ(mprotect(guest_at(g, GUEST_IDT), PAGE, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(guest_finish(g), 2);
}

/* Sends to itself; priorities, TPR, nesting. */

static void on_nesting(struct guest_frame *frame)
{
	note(frame);
	guest_check(lapic_bit(LAPIC_ISR, frame->vector));
	if (frame->vector == VECTOR) {
		lapic_write(LAPIC_ICR, ICR_SELF | HIGH_VECTOR);
		sti();
		wait_for(&taken[HIGH_VECTOR], 1);
		cli();
	}
	lapic_write(LAPIC_EOI, 0);
}

static u32 guest_lapic(u64 arg)
{
	guest_handlers[VECTOR] = on_lapic;
	guest_handlers[HIGH_VECTOR] = on_lapic;
	pic_init(0xff, 0xff);
	enable_apic();

	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR);
	lapic_write(LAPIC_ICR, ICR_SELF | HIGH_VECTOR);
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR);	/* already pending */
	guest_check(lapic_bit(LAPIC_IRR, VECTOR));
	guest_check(lapic_bit(LAPIC_IRR, HIGH_VECTOR));
	sti();
	wait_for(&taken[VECTOR], 1);
	cli();
	guest_equal(order[0], HIGH_VECTOR);
	guest_equal(order[1], VECTOR);
	guest_equal(order_count, 2);

	/* The task priority holds back its own class and those below. */
	lapic_write(LAPIC_TPR, VECTOR & 0xf0);
	guest_equal(lapic_read(LAPIC_PPR), VECTOR & 0xf0);
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR);
	sti();
	lapic_write(LAPIC_ICR, ICR_SELF | HIGH_VECTOR);
	wait_for(&taken[HIGH_VECTOR], 2);
	guest_equal(taken[VECTOR], 1);
	/* CR8 is the same register, one nibble up. */
	u64 cr8;

	asm volatile("mov %%cr8, %0" : "=r"(cr8));
	guest_equal(cr8, VECTOR >> 4);
	asm volatile("mov %0, %%cr8" : : "r"(0ul) : "memory");
	wait_for(&taken[VECTOR], 2);
	guest_equal(lapic_read(LAPIC_TPR), 0);
	cli();

	/* A higher one comes through while a lower one is in service. */
	taken[HIGH_VECTOR] = taken[VECTOR] = order_count = 0;
	guest_handlers[VECTOR] = on_nesting;
	guest_handlers[HIGH_VECTOR] = on_nesting;
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR);
	sti();
	wait_for(&taken[VECTOR], 1);
	cli();
	guest_equal(order[0], VECTOR);
	guest_equal(order[1], HIGH_VECTOR);
	guest_check(!lapic_bit(LAPIC_ISR, VECTOR));
	return 0;
}

TEST_F(chips, local_apic)
{
	guest_call(&self->g, guest_lapic, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

/* CPUID has a local APIC while it is enabled. */
static bool cpuid_has_apic(void)
{
	u32 regs[4];

	guest_cpuid(1, 0, regs);
	return regs[3] & BIT(9);
}

static u32 guest_turns_the_apic_off(u64 arg)
{
	u64 base = rdmsr(MSR_APIC_BASE);

	guest_check(cpuid_has_apic());
	wrmsr(MSR_APIC_BASE, base & ~APIC_BASE_ENABLE);
	guest_check(!cpuid_has_apic());
	wrmsr(MSR_APIC_BASE, base);
	guest_check(cpuid_has_apic());
	return 0;
}

TEST_F(chips, cpuid_while_the_local_apic_is_off)
{
	guest_call(&self->g, guest_turns_the_apic_off, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

static u32 guest_reads_tpr(u64 arg)
{
	return lapic_read(LAPIC_TPR);
}

TEST_F(chips, lapic_state_of_userspace)
{
	struct guest *g = &self->g;
	struct kvm_lapic_state state;

	must(g->vcpu, KVM_GET_LAPIC, &state);
	*(u32 *)(state.regs + LAPIC_TPR) = 0x30;
	*(u32 *)(state.regs + LAPIC_SVR) = 0x1ff;
	*(u32 *)(state.regs + LAPIC_TDCR) = 0xb;
	must(g->vcpu, KVM_SET_LAPIC, &state);
	memset(&state, 0, sizeof(state));
	must(g->vcpu, KVM_GET_LAPIC, &state);
	EXPECT_EQ(*(u32 *)(state.regs + LAPIC_TPR), 0x30);
	EXPECT_EQ(*(u32 *)(state.regs + LAPIC_SVR), 0x1ff);
	EXPECT_EQ(*(u32 *)(state.regs + LAPIC_TDCR), 0xb);
	guest_call(g, guest_reads_tpr, 0);
	EXPECT_EQ(guest_finish(g), 0x30);
}

static u32 guest_lapic_timer(u64 arg)
{
	u32 count;

	guest_handlers[VECTOR] = on_lapic;
	pic_init(0xff, 0xff);
	enable_apic();
	lapic_write(LAPIC_TDCR, 0xb);		/* divide by one */

	/* One shot: it comes once, and the count stays at zero. */
	lapic_write(LAPIC_LVTT, VECTOR);
	lapic_write(LAPIC_TMICT, 100000);
	count = lapic_read(LAPIC_TMCCT);
	guest_check(count <= 100000);
	sti();
	wait_for(&taken[VECTOR], 1);
	guest_equal(lapic_read(LAPIC_TMCCT), 0);
	guest_equal(taken[VECTOR], 1);
	/* Once it has ended, only a new initial count starts it. */
	lapic_write(LAPIC_TMICT, 10000000);
	wait_for(&taken[VECTOR], 2);
	lapic_write(LAPIC_LVTT, VECTOR | LVT_PERIODIC);
	guest_equal(lapic_read(LAPIC_TMCCT), 0);
	lapic_write(LAPIC_LVTT, VECTOR);

	/* Halted until it comes. */
	cli();
	lapic_write(LAPIC_TMICT, 100000);
	while (taken[VECTOR] < 3)
		asm volatile("sti; hlt; cli" : : : "memory");

	/* Periodic: it keeps coming, until it is stopped. */
	lapic_write(LAPIC_LVTT, VECTOR | LVT_PERIODIC);
	lapic_write(LAPIC_TMICT, 400000);
	guest_equal(lapic_read(LAPIC_TMICT), 400000);
	sti();
	wait_for(&taken[VECTOR], 7);
	lapic_write(LAPIC_TMICT, 0);
	guest_equal(lapic_read(LAPIC_TMCCT), 0);

	/* Masked: the count runs, and nobody hears of it. */
	lapic_write(LAPIC_LVTT, VECTOR | LVT_MASKED);
	count = taken[VECTOR];
	lapic_write(LAPIC_TMICT, 1000);
	for (u32 i = 0; lapic_read(LAPIC_TMCCT); i++)
		guest_check(i < PATIENCE);
	guest_equal(taken[VECTOR], count);
	return 0;
}

TEST_F(chips, lapic_timer)
{
	guest_call(&self->g, guest_lapic_timer, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

static u64 rdtsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (u64)high << 32;
}

static u32 guest_tsc_deadline(u64 arg)
{
	u32 regs[4];
	u64 deadline;

	guest_cpuid(1, 0, regs);
	if (!(regs[2] & BIT(24)))
		return 1;
	guest_handlers[VECTOR] = on_lapic;
	enable_apic();
	lapic_write(LAPIC_LVTT, VECTOR | LVT_DEADLINE);
	sti();
	for (u32 i = 1; i <= 5; i++) {
		deadline = rdtsc() + 1000000;
		wrmsr(MSR_TSC_DEADLINE, deadline);
		wait_for(&taken[VECTOR], i);
		guest_check(rdtsc() >= deadline);
		guest_equal(rdmsr(MSR_TSC_DEADLINE), 0);
	}
	/* One in the past comes at once; zero takes it back. */
	wrmsr(MSR_TSC_DEADLINE, 1);
	wait_for(&taken[VECTOR], 6);
	deadline = rdtsc() + BIT(40);
	wrmsr(MSR_TSC_DEADLINE, deadline);
	guest_equal(rdmsr(MSR_TSC_DEADLINE), deadline);
	wrmsr(MSR_TSC_DEADLINE, 0);
	guest_equal(rdmsr(MSR_TSC_DEADLINE), 0);
	return 0;
}

TEST_F(chips, tsc_deadline)
{
	struct guest *g = &self->g;

	if (!device_has(KVM_CAP_TSC_DEADLINE_TIMER))
		SKIP(return, "no TSC deadline timer");
	/* The capability, not GET_SUPPORTED_CPUID, says that it is there. */
	guest_change_cpuid(g, 1, ECX, 0, BIT(24));
	guest_call(g, guest_tsc_deadline, 0);
	EXPECT_EQ(guest_finish(g), 0);
}

/* Machine checks that need no action: at each sync the host reports one in bank 0. */
static void next_error(void)
{
	wrmsr(MSR_MC0_STATUS, 0);
	guest_sync(0);
	guest_equal(rdmsr(MSR_MC0_STATUS), MC_NO_ACTION);
}

static u32 guest_takes_cmci(u64 unused)
{
	enable_apic();
	guest_handlers[VECTOR] = on_lapic;
	sti();
	guest_equal(lapic_read(LAPIC_VERSION) >> 16 & 0xff, 6);
	guest_equal(lapic_read(LAPIC_LVT_CMCI), LVT_MASKED);
	guest_equal(wrmsr_safe(MSR_MC0_CTL2, BIT(31)), 13);
	guest_equal(wrmsr_safe(MSR_MC0_CTL2, CTL2_CMCI | 1), NO_FAULT);
	guest_equal(rdmsr(MSR_MC0_CTL2), CTL2_CMCI | 1);

	next_error();	/* masked */
	lapic_write(LAPIC_LVT_CMCI, VECTOR);
	guest_equal(lapic_read(LAPIC_LVT_CMCI), VECTOR);
	guest_equal(taken[VECTOR], 0);
	next_error();
	guest_equal(taken[VECTOR], 1);
	wrmsr(MSR_MC0_CTL2, 1);
	next_error();	/* the bank does not signal */
	guest_equal(taken[VECTOR], 1);
	return 0;
}

static u32 guest_has_no_cmci(u64 unused)
{
	enable_apic();
	guest_equal(lapic_read(LAPIC_VERSION) >> 16 & 0xff, 5);
	lapic_write(LAPIC_LVT_CMCI, VECTOR);
	guest_check(lapic_read(LAPIC_LVT_CMCI) != VECTOR);
	guest_equal(wrmsr_safe(MSR_MC0_CTL2, CTL2_CMCI), 13);
	return 0;
}

TEST_F(chips, machine_checks_of_no_action)
{
	struct guest *g = &self->g;
	struct kvm_x86_mce mce = { .status = MC_NO_ACTION };
	u64 supported, cap = 1;
	u32 value;

	must(g->kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported);
	must(g->vcpu, KVM_X86_SETUP_MCE, &cap);
	guest_call(g, guest_has_no_cmci, 0);
	EXPECT_EQ(guest_finish(g), 0);

	cap |= MCG_CMCI;
	if (!(supported & MCG_CMCI)) {
		EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_X86_SETUP_MCE, &cap)), -EINVAL);
		return;
	}
	must(g->vcpu, KVM_X86_SETUP_MCE, &cap);
	guest_call(g, guest_takes_cmci, 0);
	while (guest_next(g, &value) == PORT_SYNC)
		must(g->vcpu, KVM_X86_SET_MCE, &mce);
	EXPECT_EQ(value, 0);
}

/* 3.4 ms: slow enough for hosts in which a tick takes a millisecond, where one is owed. */
#define PIT_DIVISOR	0x1000

static u32 guest_pit(u64 arg)
{
	u32 low, high;

	guest_handlers[PIC_BASE] = on_pic;
	guest_handlers[VECTOR] = on_lapic;
	enable_apic();
	pic_init((u8)~BIT(0), 0xff);
	outb(0x43, 0x34);		/* channel 0, both bytes, mode 2 */
	outb(0x40, PIT_DIVISOR & 0xff);
	outb(0x40, PIT_DIVISOR >> 8);
	sti();
	wait_for(&taken[PIC_BASE], 3);
	cli();

	/* The same through the I/O APIC: pin 0, unless routed otherwise. */
	pic_init(0xff, 0xff);
	ioapic_route(0, VECTOR);
	sti();
	wait_for(&taken[VECTOR], 3);
	cli();
	ioapic_route(0, VECTOR | RTE_MASKED);

	/* A latched count stays while it is read, low byte first. */
	outb(0x43, 0x00);
	low = inb(0x40);
	high = inb(0x40);
	guest_check((low | high << 8) <= PIT_DIVISOR);
	/* Read-back: status of channel 0 names its mode and access. */
	outb(0x43, 0xe2);
	guest_equal(inb(0x40) & 0x3f, 0x34);

	/* Channel 2: gate and output by port 0x61, one shot in mode 0. */
	outb(0x61, 0);
	outb(0x43, 0xb0);
	outb(0x42, 0x00);
	outb(0x42, 0x04);
	outb(0x61, 1);
	for (u32 i = 0; !(inb(0x61) & 0x20); i++)
		guest_check(i < PATIENCE);
	return 0;
}

/* How many ticks come in 80 ms, after some 200 in which none could. */
static u32 guest_was_away(u64 ticks_of_80ms)
{
	u64 start;

	guest_handlers[PIC_BASE] = on_pic;
	pic_init((u8)~BIT(0), 0xff);
	outb(0x43, 0x34);
	outb(0x40, PIT_DIVISOR & 0xff);
	outb(0x40, PIT_DIVISOR >> 8);
	guest_sync(0);
	start = __builtin_ia32_rdtsc();
	sti();
	while (__builtin_ia32_rdtsc() - start < ticks_of_80ms)
		asm volatile("pause" : : : "memory");
	cli();
	return taken[PIC_BASE];
}

TEST_F(chips, pit_ticks_owed_and_lost)
{
	struct kvm_reinject_control control = { 0 };
	struct guest *g = &self->g, other;
	u64 khz = must(g->vcpu, KVM_GET_TSC_KHZ, 0);
	u32 ticks[2], value;

	if (!device_has(KVM_CAP_REINJECT_CONTROL))
		SKIP(return, "no KVM_CAP_REINJECT_CONTROL");
	guest_create(&other, WITH_IRQCHIP);
	EXPECT_EQ(outcome(ioctl(other.vm, KVM_REINJECT_CONTROL, &control)), -ENXIO);
	guest_destroy(&other);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_REINJECT_CONTROL, NULL)), -EFAULT);
	for (control.pit_reinject = 0; control.pit_reinject < 2; control.pit_reinject++) {
		must(g->vm, KVM_REINJECT_CONTROL, &control);
		guest_call(g, guest_was_away, khz * 80);
		while (guest_run(g) != KVM_EXIT_IO || guest_port(g, &value) != PORT_SYNC)
			;
		usleep(200000);
		ticks[control.pit_reinject] = guest_finish(g);
	}
	TH_LOG("%u ticks, and %u with those that were owed", ticks[0], ticks[1]);
	EXPECT_GT(ticks[0], 0);	/* some 20 where the host is in time */
	EXPECT_LT(ticks[0], 45);
	EXPECT_GT(ticks[1], ticks[0] + 20);
}

TEST_F(chips, pit)
{
	struct kvm_pit_state2 pit;

	guest_call(&self->g, guest_pit, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
	must(self->g.vm, KVM_GET_PIT2, &pit);
	EXPECT_EQ(pit.channels[0].mode, 2);
	EXPECT_EQ(pit.channels[0].count, PIT_DIVISOR);
	pit.channels[0].count = 0x800;
	must(self->g.vm, KVM_SET_PIT2, &pit);
	memset(&pit, 0, sizeof(pit));
	must(self->g.vm, KVM_GET_PIT2, &pit);
	EXPECT_EQ(pit.channels[0].mode, 2);
	EXPECT_EQ(pit.channels[0].count, 0x800);
}

/* NMIs: at any time, but not inside an NMI handler. */

static volatile u32 nmi_depth, nmi_deepest;

static void on_nmi(struct guest_frame *frame)
{
	note(frame);
	if (++nmi_depth > nmi_deepest)
		nmi_deepest = nmi_depth;
	if (taken[2] == 2)
		guest_sync(2);		/* the host sends another */
	nmi_depth--;
}

static u32 guest_nmi(u64 arg)
{
	guest_handlers[2] = on_nmi;
	cli();
	guest_sync(1);
	wait_for(&taken[2], 1);
	guest_sync(1);
	wait_for(&taken[2], 3);
	guest_equal(nmi_deepest, 1);
	return taken[2];
}

static u32 run_with_nmis(struct guest *g)
{
	u32 value;

	while (guest_next(g, &value) == PORT_SYNC)
		must(g->vcpu, KVM_NMI, 0);
	return value;
}

TEST_F(chips, nmi)
{
	guest_call(&self->g, guest_nmi, 0);
	EXPECT_EQ(run_with_nmis(&self->g), 3);
}

static u32 guest_sends_nmi(u64 arg)
{
	guest_handlers[2] = note;
	enable_apic();
	lapic_write(LAPIC_ICR, ICR_SELF | ICR_NMI);
	/* The self shorthand is reserved for NMI on some: also by id. */
	if (!taken[2]) {
		lapic_write(LAPIC_ICR2, lapic_read(LAPIC_ID));
		lapic_write(LAPIC_ICR, ICR_NMI);
	}
	wait_for(&taken[2], 1);
	return taken[2];
}

TEST_F(chips, nmi_through_the_apic)
{
	guest_call(&self->g, guest_sends_nmi, 0);
	EXPECT_EQ(guest_finish(&self->g), 1);
}

/* A guest asleep with interrupts on, and userspace that wakes it. */

static u32 guest_sleeps_for_line(u64 arg)
{
	guest_handlers[VECTOR] = on_lapic;
	pic_init(0xff, 0xff);
	enable_apic();
	ioapic_route(PIN, VECTOR);
	for (u32 i = 1; i <= 5; i++) {
		cli();
		guest_sync(RAISE(PIN));
		while (taken[VECTOR] < i)
			asm volatile("sti; hlt; cli" : : : "memory");
		guest_sync(LOWER(PIN));
	}
	return taken[VECTOR];
}

TEST_F(chips, line_wakes_a_halted_vcpu)
{
	guest_call(&self->g, guest_sleeps_for_line, 0);
	EXPECT_EQ(run_with_lines(&self->g), 5);
}

/* Without controllers in the kernel. */

GUEST_FIXTURE(injected, 0)

TEST_F(injected, cpuid_while_the_local_apic_is_off)
{
	guest_call(&self->g, guest_turns_the_apic_off, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

static void inject(struct guest *g, u32 vector)
{
	struct kvm_interrupt interrupt = { .irq = vector };

	must(g->vcpu, KVM_INTERRUPT, &interrupt);
}

static u32 guest_takes_injected(u64 arg)
{
	guest_handlers[VECTOR] = note;
	guest_handlers[HIGH_VECTOR] = note;
	sti();
	guest_sync(0);
	wait_for(&taken[VECTOR], 1);
	cli();
	guest_sync(1);			/* the host wants a window */
	guest_equal(taken[HIGH_VECTOR], 0);
	sti();
	wait_for(&taken[HIGH_VECTOR], 1);
	guest_sync(2);
	return 0;
}

TEST_F(injected, interrupt_and_window)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_takes_injected, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(g->run->if_flag, 1);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);
	inject(g, VECTOR);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 1);
	EXPECT_EQ(g->run->if_flag, 0);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 0);

	g->run->request_interrupt_window = 1;
	guest_run_to(g, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(g->run->if_flag, 1);
	g->run->request_interrupt_window = 0;
	inject(g, HIGH_VECTOR);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 2);
	EXPECT_EQ(guest_finish(g), 0);
}

static u32 guest_halts_for_injected(u64 arg)
{
	guest_handlers[VECTOR] = note;
	for (u32 i = 0; i < 5; i++)
		asm volatile("sti; hlt" : : : "memory");
	return taken[VECTOR];
}

TEST_F(injected, interrupt_after_hlt)
{
	struct guest *g = &self->g;

	guest_call(g, guest_halts_for_injected, 0);
	for (int i = 0; i < 5; i++) {
		guest_run_to(g, KVM_EXIT_HLT);
		inject(g, VECTOR);
	}
	EXPECT_EQ(guest_finish(g), 5);
}

/* One that is injected while its IDT page is not there yet, on the host. */
TEST_F(injected, delivery_over_a_fault_on_the_idt)
{
	struct guest *g = &self->g;

	guest_call(g, guest_halts_for_injected, 0);
	for (int i = 0; i < 5; i++) {
		guest_run_to(g, KVM_EXIT_HLT);
		/* A moved slot: nothing of it is mapped any more. */
		ASSERT_EQ(guest_slot(g, 0, 0x100000000, g->mem, g->mem_size,
				     0), 0);
		ASSERT_EQ(guest_slot(g, 0, 0, g->mem, g->mem_size, 0), 0);
		inject(g, VECTOR);
	}
	EXPECT_EQ(guest_finish(g), 5);
}

TEST_F(injected, nmi)
{
	guest_call(&self->g, guest_nmi, 0);
	EXPECT_EQ(run_with_nmis(&self->g), 3);
}

/* A vector without a gate: #GP in its place. */

static u32 guest_meets_a_bad_gate(u64 arg)
{
	u64 *idt = (u64 *)GUEST_IDT;

	guest_handlers[13] = note;
	idt[2 * VECTOR] = 0;
	sti();
	guest_sync(0);
	wait_for(&taken[13], 1);
	return taken[VECTOR];
}

TEST_F(injected, vector_without_a_gate)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_meets_a_bad_gate, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	inject(g, VECTOR);
	EXPECT_EQ(guest_finish(g), 0);
}

SELFTEST_MAIN
