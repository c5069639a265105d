// SPDX-License-Identifier: GPL-2.0
/*
 * A debugger outside: KVM_SET_GUEST_DEBUG, and what ends KVM_RUN with KVM_EXIT_DEBUG.
 */
#include <kselftest_harness.h>
#include "cpus.h"

#define DB		1
#define BP		3
#define VECTOR		0x61
#define DR6_FIXED	0xffff0ff0u
#define DR6_STEP	BIT(14)
#define TF		BIT(8)
#define IF		BIT(9)

GUEST_FIXTURE(debug, WITH_IRQCHIP)

static int set(struct guest *g, u32 control, const u64 *dr)
{
	struct kvm_guest_debug debug = { .control = control };

	if (dr)
		memcpy(debug.arch.debugreg, dr, sizeof(debug.arch.debugreg));
	return outcome(ioctl(g->vcpu, KVM_SET_GUEST_DEBUG, &debug));
}

static u64 rflags(struct guest *g)
{
	struct kvm_regs regs;

	must(g->vcpu, KVM_GET_REGS, &regs);
	return regs.rflags;
}

/* Assembly, as it would stand in a function; labels say where to expect it. */
extern const u8 plain[], plain_1[], plain_2[], plain_3[], plain_4[], plain_end[];
asm(".pushsection .text\n"
    "plain:	nop\n"
    "plain_1:	xor %eax, %eax\n"
    "plain_2:	cpuid\n"			/* exits */
    "plain_3:	movl $1, watched\n"
    "plain_4:	nop\n"
    "plain_end:	xor %eax, %eax\n"
    "	mov $0x510, %edx\n"
    "	outl %eax, %dx\n"
    ".popsection\n");

static volatile u32 watched;

static void begin(struct guest *g, const u8 *code)
{
	guest_call(g, (u32 (*)(u64))(uintptr_t)code, 0);
}

#define expect_debug(g, vector, where, bits) do {				\
	guest_run_to(g, KVM_EXIT_DEBUG);					\
	EXPECT_EQ((g)->run->debug.arch.exception, vector);			\
	EXPECT_EQ((g)->run->debug.arch.pc, (uintptr_t)(where));			\
	/* What stock KVM says of breakpoints beside a step is left from before. */	\
	if ((vector) == DB)							\
		EXPECT_EQ((g)->run->debug.arch.dr6 &				\
			  ~((bits) == DR6_STEP ? 0xfull : 0), DR6_FIXED | (bits)); \
} while (0)

static void expect_end(struct guest *g)
{
	u32 value;

	if (guest_next(g, &value) != PORT_DONE)
		die("the guest did not end");
}

/* Bochs traps before the first instruction of an entry, not behind it. */
static bool steps_are_true(struct guest *g)
{
	begin(g, plain);
	if (set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL))
		die("KVM_SET_GUEST_DEBUG: %s", strerror(errno));
	guest_run_to(g, KVM_EXIT_DEBUG);
	return g->run->debug.arch.pc != (uintptr_t)plain;
}

#define NO_STEPS "this emulator traps before an instruction that is stepped"

TEST_F(debug, is_announced)
{
	EXPECT_TRUE(device_has(KVM_CAP_SET_GUEST_DEBUG));
}

TEST_F(debug, single_steps)
{
	static const u8 *const stops[] = { plain_1, plain_2, plain_3, plain_4, plain_end };
	struct guest *g = &self->g;

	if (!steps_are_true(g))
		SKIP(return, NO_STEPS);
	begin(g, plain);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL), 0);
	for (unsigned int i = 0; i < 5; i++) {
		expect_debug(g, DB, stops[i], DR6_STEP);
		EXPECT_EQ(rflags(g) & TF, 0);
	}
	ASSERT_EQ(set(g, 0, NULL), 0);
	expect_end(g);
}

TEST_F(debug, breakpoint_registers)
{
	struct guest *g = &self->g;
	/* Instructions in 0 and 3, a write of four bytes in 1. */
	const u64 dr[8] = {
		[0] = (uintptr_t)plain_2, [1] = (uintptr_t)&watched, [3] = (uintptr_t)plain_4,
		[7] = 0x400 | BIT(0) | BIT(2) | BIT(6) | 0xdull << 20,
	};
	struct kvm_debugregs regs, after;

	if (!steps_are_true(g))
		SKIP(return, NO_STEPS);
	begin(g, plain);
	must(g->vcpu, KVM_GET_DEBUGREGS, &regs);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, dr), 0);
	expect_debug(g, DB, plain_2, BIT(0));
	/* On from there it needs RF, or a step without the breakpoint. */
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL), 0);
	expect_debug(g, DB, plain_3, DR6_STEP);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, dr), 0);
	expect_debug(g, DB, plain_4, BIT(1) | BIT(3));
	/* The guest's own registers are as they were. */
	must(g->vcpu, KVM_GET_DEBUGREGS, &after);
	EXPECT_EQ(memcmp(&regs.db, &after.db, sizeof(regs.db)), 0);
	EXPECT_EQ(after.dr7, regs.dr7);
	ASSERT_EQ(set(g, 0, NULL), 0);
	expect_end(g);
}

static volatile u32 traps;

static void count(struct guest_frame *frame)
{
	traps += 1 + (frame->vector == BP) * 0x100;
}

extern const u8 int3[], int3_next[];
asm(".pushsection .text\n"
    "int3:	.byte 0xcc\n"
    "int3_next:	nop\n"
    "	xor %eax, %eax\n"
    "	mov $0x510, %edx\n"
    "	outl %eax, %dx\n"
    ".popsection\n");

static u32 guest_takes_traps(u64 unused)
{
	(void)unused;
	guest_handlers[DB] = count;
	guest_handlers[BP] = count;
	guest_sync(0);
	return 0;
}

/* The debugger looks at its INT3, and gives the guest one that is not its own. */
TEST_F(debug, planted_breakpoints)
{
	struct guest *g = &self->g;
	u32 value;
	u64 first;

	guest_call(g, guest_takes_traps, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	begin(g, int3);
	guest_var(g, guest_handlers)[0][BP] = count;
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL), 0);
	outcome(ioctl(g->vcpu, KVM_RUN, 0));
	if (g->run->exit_reason == KVM_EXIT_IO && *guest_var(g, traps) == 0x101)
		SKIP(return, "this emulator does not intercept INT3");
	ASSERT_EQ(g->run->exit_reason, KVM_EXIT_DEBUG);
	EXPECT_EQ(g->run->debug.arch.exception, BP);
	first = g->run->debug.arch.pc;
	EXPECT_EQ(first, (uintptr_t)int3);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP, NULL), 0);
	expect_end(g);
	EXPECT_EQ(*guest_var(g, traps), 0x101);
}

extern const u8 shadows[], shadows_1[], shadows_2[], shadows_3[], shadows_4[], shadows_5[],
	shadows_end[];
asm(".pushsection .text\n"
    "shadows:	cli\n"
    "shadows_1:	sti\n"
    "shadows_2:	nop\n"
    "shadows_3:	pushfq\n"
    "shadows_4:	popfq\n"
    "shadows_5:	nop\n"
    "shadows_end: xor %eax, %eax\n"
    "	mov $0x510, %edx\n"
    "	outl %eax, %dx\n"
    ".popsection\n");

TEST_F(debug, steps_over_sti_and_popf)
{
	static const u8 *const stops[] = { shadows_1, shadows_2, shadows_3, shadows_4, shadows_5,
					   shadows_end };
	struct guest *g = &self->g;

	if (!steps_are_true(g))
		SKIP(return, NO_STEPS);
	begin(g, shadows);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP |
			 KVM_GUESTDBG_BLOCKIRQ, NULL), 0);
	for (unsigned int i = 0; i < 6; i++) {
		expect_debug(g, DB, stops[i], DR6_STEP);
		EXPECT_EQ(!!(rflags(g) & IF), i > 0);
	}
	ASSERT_EQ(set(g, 0, NULL), 0);
	expect_end(g);
}

extern const u8 movss[], movss_2[], movss_end[];
asm(".pushsection .text\n"
    "movss:	mov %ss, %ax\n"
    "	mov %ax, %ss\n"
    "movss_2:	nop\n"
    "movss_end:	xor %eax, %eax\n"
    "	mov $0x510, %edx\n"
    "	outl %eax, %dx\n"
    ".popsection\n");

/* There is no trap between MOV SS and what follows it. */
TEST_F(debug, steps_over_mov_ss)
{
	struct guest *g = &self->g;

	if (!steps_are_true(g))
		SKIP(return, NO_STEPS);
	begin(g, movss);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL), 0);
	expect_debug(g, DB, movss + 3, DR6_STEP);
	guest_run_to(g, KVM_EXIT_DEBUG);
	if (g->run->debug.arch.pc == (uintptr_t)movss_2)
		SKIP(return, "this emulator traps behind MOV SS");
	EXPECT_EQ(g->run->debug.arch.pc, (uintptr_t)movss_end);
	ASSERT_EQ(set(g, 0, NULL), 0);
	expect_end(g);
}

static u32 guest_is_interrupted(u64 unused)
{
	(void)unused;
	cli();
	guest_handlers[VECTOR] = count;
	xapic_write(APIC_REG_SVR, 0x1ff);
	xapic_write(APIC_REG_ICR, ICR_SELF | VECTOR);
	guest_sync(0);
	sti();
	guest_sync(1);
	guest_equal(traps, 0);
	guest_sync(2);
	while (!traps)
		;
	return 0;
}

/* An interrupt that waits does so until the debugger lets it in. */
TEST_F(debug, blocked_interrupts)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_is_interrupted, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	ASSERT_EQ(set(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ, NULL), 0);
	for (u32 i = 1; i < 3; i++) {
		ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
		EXPECT_EQ(value, i);
	}
	ASSERT_EQ(set(g, 0, NULL), 0);
	EXPECT_EQ(guest_finish(g), 0);
}

TEST_F(debug, bad_input)
{
	struct guest *g = &self->g;

	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_GUEST_DEBUG, 8)), -EFAULT);
	begin(g, plain);
	ASSERT_EQ(set(g, KVM_GUESTDBG_INJECT_DB, NULL), 0);
	EXPECT_EQ(set(g, KVM_GUESTDBG_INJECT_BP, NULL), -EBUSY);
}

SELFTEST_MAIN
