// SPDX-License-Identifier: GPL-2.0
/*
 * What a VMM saves and restores beside registers: events, debug registers, the
 * XSAVE area, XCR0, machine-check banks, the clock. Each is set, seen by the guest
 * or come by in a guest that stopped in the middle, and read back.
 */
#include <time.h>
#include <kselftest_harness.h>
#include "guest.h"

#define CR4_MCE		BIT(6)
#define VECTOR		0x61
#define VALID		BIT(63)
#define OVERFLOW	BIT(62)
#define UNCORRECTED	BIT(61)
#define ENABLED		BIT(60)
#define MCG_CTL_PRESENT	BIT(8)
#define MSR_MCG_CAP	0x179
#define MSR_MCG_STATUS	0x17a
#define MSR_MC0_STATUS	0x401

GUEST_FIXTURE(state, 0)

static u64 get_msr(struct guest *g, u32 index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry.index = index };

	if (must(g->vcpu, KVM_GET_MSRS, &msrs) != 1)
		die("no MSR 0x%x", index);
	return msrs.entry.data;
}

/* --- Events --- */

static volatile u32 last_vector, last_error, count;
static volatile u64 last_cr2;

static void note(struct guest_frame *frame)
{
	last_vector = frame->vector;
	last_error = frame->error;
	asm volatile("mov %%cr2, %0" : "=r"(last_cr2));
	count++;
}

/* Stops twice: what comes in between is noted. */
static u32 guest_notes(u64 vector)
{
	guest_handlers[vector] = note;
	if (vector == VECTOR)
		sti();
	guest_sync(0);
	guest_sync(1);
	guest_equal(count, 1);
	return last_vector;
}

static void stop_guest(struct guest *g, u64 vector)
{
	u32 value;

	guest_call(g, guest_notes, vector);
	if (guest_next(g, &value) != PORT_SYNC)
		die("the guest has not stopped");
	/* The port write is over with the next KVM_RUN. */
	g->run->immediate_exit = 1;
	if (outcome(ioctl(g->vcpu, KVM_RUN, 0)) != -EINTR)
		die("no end of KVM_RUN");
	g->run->immediate_exit = 0;
}

/* Past the second stop. */
static u32 to_the_end(struct guest *g)
{
	u32 value;

	if (guest_next(g, &value) != PORT_SYNC)
		die("the guest has not come to its second stop");
	return guest_finish(g);
}

TEST_F(state, fresh_events)
{
	struct kvm_vcpu_events events, zero = {};

	memset(&events, 0xff, sizeof(events));
	must(self->g.vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(events.flags & ~KVM_VCPUEVENT_VALID_SMM,
		  KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW);
	events.flags = 0;
	EXPECT_EQ(memcmp(&events, &zero, sizeof(events)), 0);
}

TEST_F(state, events_wrong_use)
{
	struct kvm_vcpu_events events = { .flags = BIT(31) };

	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_VCPU_EVENTS, &events)), -EINVAL);
	events = (struct kvm_vcpu_events){ .exception = { .injected = 1, .nr = 32 } };
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_VCPU_EVENTS, &events)), -EINVAL);
	events.exception.nr = 2;
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_VCPU_EVENTS, &events)), -EINVAL);
	/* A payload has to be enabled. */
	events = (struct kvm_vcpu_events){ .flags = KVM_VCPUEVENT_VALID_PAYLOAD };
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_VCPU_EVENTS, &events)), -EINVAL);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_VCPU_EVENTS, 8)), -EFAULT);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_GET_VCPU_EVENTS, 8)), -EFAULT);
}

TEST_F(state, exception_goes_in)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events, back;
	struct kvm_sregs sregs;

	stop_guest(g, 14);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr2 = 0x123456;
	must(g->vcpu, KVM_SET_SREGS, &sregs);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.exception.injected = 1;
	events.exception.nr = 14;
	events.exception.has_error_code = 1;
	events.exception.error_code = 6;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &back);
	EXPECT_EQ(memcmp(&events, &back, sizeof(events)), 0);
	/* And once more round: reading it takes nothing away. */
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &back);
	EXPECT_EQ(to_the_end(g), 14);
	EXPECT_EQ(*guest_var(g, last_error), 6);
	EXPECT_EQ(*guest_var(g, last_cr2), 0x123456);
}

TEST_F(state, interrupt_goes_in)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events, back;

	stop_guest(g, VECTOR);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.interrupt.injected = 1;
	events.interrupt.nr = VECTOR;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &back);
	EXPECT_EQ(memcmp(&events, &back, sizeof(events)), 0);
	EXPECT_EQ(to_the_end(g), VECTOR);
}

TEST_F(state, interrupt_taken_back)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events none;

	stop_guest(g, 14);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &none);
	must(g->vcpu, KVM_INTERRUPT, &(struct kvm_interrupt){ .irq = VECTOR });
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &none);
	/* Only the exception comes, and no interrupt that has no handler. */
	none.exception.injected = 1;
	none.exception.nr = 14;
	none.exception.has_error_code = 1;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &none);
	EXPECT_EQ(to_the_end(g), 14);
}

TEST_F(state, nmi_waits_while_masked)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events;
	u32 value;

	stop_guest(g, 2);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.nmi.pending = 1;
	events.nmi.masked = 1;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	EXPECT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(*guest_var(g, count), 0);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(events.nmi.pending, 1);
	EXPECT_EQ(events.nmi.masked, 1);
	events.nmi.masked = 0;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	EXPECT_EQ(guest_finish(g), 2);
}

TEST_F(state, nmi_that_is_not_valid_stays)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events;

	stop_guest(g, 2);
	must(g->vcpu, KVM_NMI, 0);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(events.nmi.pending, 1);
	events.nmi.pending = 0;
	events.flags = 0;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	EXPECT_EQ(to_the_end(g), 2);
}

GUEST_ASM(in_shadow, 64,
"	cli\n"
"	sti\n"
"	outb %al, $0x80\n"	/* exits in the shadow of STI */
"	hlt");

TEST_F(state, shadow_is_told)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events;

	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_load(g, in_shadow);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(events.interrupt.shadow, 0);
	events.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_NE(events.interrupt.shadow, 0);
	/* Where the flag does not name it, it stays. */
	events.interrupt.shadow = 0;
	events.flags = 0;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_NE(events.interrupt.shadow, 0);
	events.interrupt.shadow = 0;
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	guest_run_to(g, KVM_EXIT_IO);
}

/* --- Debug registers --- */

TEST_F(state, debug_registers)
{
	struct kvm_debugregs regs = {}, back;

	must(self->g.vcpu, KVM_GET_DEBUGREGS, &regs);
	EXPECT_EQ(regs.dr6, 0xffff0ff0);
	EXPECT_EQ(regs.dr7, 0x400);
	EXPECT_EQ(regs.flags, 0);
	for (int i = 0; i < 4; i++)
		regs.db[i] = 0x1000 * (i + 1);
	regs.dr7 = 0x455;
	must(self->g.vcpu, KVM_SET_DEBUGREGS, &regs);
	must(self->g.vcpu, KVM_GET_DEBUGREGS, &back);
	EXPECT_EQ(memcmp(&regs, &back, sizeof(regs)), 0);
	back.flags = 1;
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_DEBUGREGS, &back)), -EINVAL);
	back.flags = 0;
	back.dr7 |= BIT(32);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_DEBUGREGS, &back)), -EINVAL);
	back.dr7 = regs.dr7;
	back.dr6 |= BIT(63);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_DEBUGREGS, &back)), -EINVAL);
	must(self->g.vcpu, KVM_GET_DEBUGREGS, &back);
	EXPECT_EQ(memcmp(&regs, &back, sizeof(regs)), 0);
}

static u32 guest_reads_dr(u64 unused)
{
	u64 dr1, dr3;

	asm volatile("mov %%dr1, %0\n\tmov %%dr3, %1" : "=r"(dr1), "=r"(dr3));
	return dr1 == 0x1111 && dr3 == 0x3333;
}

TEST_F(state, guest_sees_debug_registers)
{
	struct kvm_debugregs regs;

	guest_call(&self->g, guest_reads_dr, 0);
	must(self->g.vcpu, KVM_GET_DEBUGREGS, &regs);
	regs.db[1] = 0x1111;
	regs.db[3] = 0x3333;
	must(self->g.vcpu, KVM_SET_DEBUGREGS, &regs);
	EXPECT_EQ(guest_finish(&self->g), 1);
}

/* --- XSAVE and XCR0 --- */

#define XSAVE_FEATURES	(512 / 4)	/* of struct kvm_xsave.region: the header's first word */
#define XSAVE_XMM	(160 / 4)
#define XSAVE_MXCSR	(24 / 4)

TEST_F(state, xsave)
{
	struct kvm_xsave area = {}, back;
	struct kvm_fpu fpu;

	if (!device_has(KVM_CAP_XSAVE))
		SKIP(return, "no KVM_CAP_XSAVE");
	must(self->g.vcpu, KVM_GET_XSAVE, &area);
	for (u32 i = 0; i < 16 * 4; i++)
		area.region[XSAVE_XMM + i] = 0x1000 + i;
	area.region[XSAVE_FEATURES] |= 3;
	area.region[XSAVE_MXCSR] = 0x1fa0;
	must(self->g.vcpu, KVM_SET_XSAVE, &area);
	must(self->g.vcpu, KVM_GET_XSAVE, &back);
	EXPECT_EQ(memcmp(area.region + XSAVE_XMM, back.region + XSAVE_XMM, 256), 0);
	EXPECT_EQ(back.region[XSAVE_MXCSR], 0x1fa0);
	/* It is the same state that KVM_GET_FPU shows. */
	must(self->g.vcpu, KVM_GET_FPU, &fpu);
	EXPECT_EQ(memcmp(fpu.xmm, area.region + XSAVE_XMM, 256), 0);
	area.region[XSAVE_MXCSR] = 0xffff0000;
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_XSAVE, &area)), -EINVAL);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_XSAVE, 8)), -EFAULT);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_GET_XSAVE, 8)), -EFAULT);
}

TEST_F(state, xsave2)
{
	int size = ioctl(self->g.vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	struct kvm_xsave area;
	u8 *area2;

	if (size <= 0)
		SKIP(return, "no KVM_CAP_XSAVE2");
	ASSERT_GE(size, (int)sizeof(area));
	area2 = calloc(1, size);
	must(self->g.vcpu, KVM_GET_XSAVE2, area2);
	must(self->g.vcpu, KVM_GET_XSAVE, &area);
	EXPECT_EQ(memcmp(&area, area2, sizeof(area)), 0);
	free(area2);
}

TEST_F(state, xcrs)
{
	struct kvm_xcrs xcrs = {};

	if (!device_has(KVM_CAP_XCRS))
		SKIP(return, "no KVM_CAP_XCRS");
	must(self->g.vcpu, KVM_GET_XCRS, &xcrs);
	EXPECT_EQ(xcrs.nr_xcrs, 1);
	EXPECT_EQ(xcrs.xcrs[0].xcr, 0);
	EXPECT_EQ(xcrs.xcrs[0].value, 1);
	must(self->g.vcpu, KVM_SET_XCRS, &xcrs);
	xcrs.xcrs[0].value = 0;	/* x87 cannot be off */
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_XCRS, &xcrs)), -EINVAL);
	xcrs.xcrs[0].value = 1 | BIT(62);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_XCRS, &xcrs)), -EINVAL);
	xcrs.xcrs[0].value = 1;
	xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_XCRS, &xcrs)), -EINVAL);
	xcrs.nr_xcrs = 1;
	xcrs.flags = 1;
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_XCRS, &xcrs)), -EINVAL);
}

/* --- Machine checks --- */

static int set_mce(struct guest *g, u8 bank, u64 status, u64 addr)
{
	struct kvm_x86_mce mce = {
		.status = status, .addr = addr, .mcg_status = BIT(2), .bank = bank };

	return outcome(ioctl(g->vcpu, KVM_X86_SET_MCE, &mce));
}

TEST_F(state, mce_setup)
{
	struct guest *g = &self->g;
	u64 supported = 0, cap;
	int banks = ioctl(g->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MCE);

	ASSERT_GT(banks, 0);
	must(g->kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported);
	EXPECT_TRUE(supported & MCG_CTL_PRESENT);
	cap = 0;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_X86_SETUP_MCE, &cap)), -EINVAL);
	cap = banks + 1;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_X86_SETUP_MCE, &cap)), -EINVAL);
	cap = BIT(40) | 1;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_X86_SETUP_MCE, &cap)), -EINVAL);
	cap = supported | 10;
	must(g->vcpu, KVM_X86_SETUP_MCE, &cap);
	/* On AMD's CPUs there is nothing above bit 8. */
	EXPECT_EQ(get_msr(g, MSR_MCG_CAP) & 0x1ff, cap & 0x1ff);
	EXPECT_EQ(set_mce(g, 10, VALID, 0), -EINVAL);
	EXPECT_EQ(set_mce(g, 9, 0, 0), -EINVAL);
	/* Corrected ones are only noted; the second overflows. */
	EXPECT_EQ(set_mce(g, 9, VALID | ENABLED | 1, 0x1000), 0);
	EXPECT_EQ(get_msr(g, MSR_MC0_STATUS + 4 * 9), VALID | ENABLED | 1);
	EXPECT_EQ(get_msr(g, MSR_MC0_STATUS + 4 * 9 + 1), 0x1000);
	EXPECT_EQ(set_mce(g, 9, VALID | ENABLED | 2, 0x2000), 0);
	EXPECT_EQ(get_msr(g, MSR_MC0_STATUS + 4 * 9), VALID | OVERFLOW | ENABLED | 2);
}

static u32 guest_takes_mce(u64 unused)
{
	guest_handlers[18] = note;
	asm volatile("mov %%cr4, %%rax\n\tor %0, %%rax\n\tmov %%rax, %%cr4"
		     : : "i"(CR4_MCE) : "rax");
	guest_sync(0);
	guest_sync(1);
	guest_equal(rdmsr(MSR_MCG_STATUS), BIT(2));
	guest_equal(rdmsr(MSR_MC0_STATUS + 1), 0x5000);
	wrmsr(MSR_MC0_STATUS, 0);
	guest_equal(wrmsr_safe(MSR_MC0_STATUS, 1), 13);
	wrmsr(MSR_MCG_STATUS, 0);
	return count;
}

TEST_F(state, mce_reaches_the_guest)
{
	struct guest *g = &self->g;
	u64 cap = MCG_CTL_PRESENT | 10;
	u32 value;

	must(g->vcpu, KVM_X86_SETUP_MCE, &cap);
	guest_call(g, guest_takes_mce, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(set_mce(g, 0, VALID | UNCORRECTED | ENABLED, 0x5000), 0);
	EXPECT_EQ(to_the_end(g), 1);
}

TEST_F(state, mce_nobody_waits_for)
{
	struct guest *g = &self->g;
	u64 cap = MCG_CTL_PRESENT | 10;

	must(g->vcpu, KVM_X86_SETUP_MCE, &cap);
	guest_call(g, guest_notes, 14);	/* CR4.MCE is clear */
	EXPECT_EQ(set_mce(g, 0, VALID | UNCORRECTED | ENABLED, 0x5000), 0);
	guest_run_to(g, KVM_EXIT_SHUTDOWN);
}

/* --- The clock --- */

TEST_F(state, clock)
{
	struct guest *g = &self->g;
	struct kvm_clock_data data = { .clock = 5000000000ull }, back = {};
	u64 start, passed;

	must(g->vm, KVM_GET_CLOCK, &back);
	EXPECT_LT(back.clock, 60000000000ull);	/* it begins with the VM */
	start = clock_ns(CLOCK_BOOTTIME);
	must(g->vm, KVM_SET_CLOCK, &data);
	usleep(20000);
	must(g->vm, KVM_GET_CLOCK, &back);
	passed = clock_ns(CLOCK_BOOTTIME) - start;
	EXPECT_GE(back.clock, data.clock + 20000000);
	EXPECT_LE(back.clock, data.clock + passed + 1000000);
	data.flags = BIT(31);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_CLOCK, &data)), -EINVAL);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_CLOCK, 8)), -EFAULT);
}

/* A clock that was saved a minute ago has gone on meanwhile. */
TEST_F(state, clock_with_wall_time)
{
	struct guest *g = &self->g;
	struct kvm_clock_data data = {
		.clock = 5000000000ull, .flags = KVM_CLOCK_REALTIME,
		.realtime = clock_ns(CLOCK_REALTIME) - 60000000000ull }, back = {};

	if (!(ioctl(g->vm, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME))
		SKIP(return, "no KVM_CLOCK_REALTIME");
	must(g->vm, KVM_SET_CLOCK, &data);
	must(g->vm, KVM_GET_CLOCK, &back);
	if (!(back.flags & KVM_CLOCK_REALTIME))
		SKIP(return, "the host's clock cannot tell wall time with it");
	EXPECT_GE(back.clock, data.clock + 60000000000ull);
	EXPECT_LT(back.clock, data.clock + 70000000000ull);
}

TEST_F(state, vapic_address_needs_an_apic)
{
	struct kvm_vapic_addr addr = {};
	struct guest with;

	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_VAPIC_ADDR, &addr)), -EINVAL);
	guest_create(&with, WITH_IRQCHIP);
	EXPECT_EQ(outcome(ioctl(with.vcpu, KVM_SET_VAPIC_ADDR, &addr)), 0);
	guest_destroy(&with);
}

SELFTEST_MAIN
