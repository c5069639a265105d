// SPDX-License-Identifier: GPL-2.0
/*
 * x87, SSE and AVX state: the guest's is the guest's and the program's is the
 * program's, over every trip, and KVM_GET_FPU and KVM_SET_FPU are the guest's.
 */
#include <kselftest_harness.h>
#include "guest.h"

struct vectors {
	u8 bytes[16][32];
} __attribute__((aligned(32)));

static void pattern(struct vectors *v, u8 seed)
{
	u8 *bytes = &v->bytes[0][0];

	for (size_t i = 0; i < sizeof(*v); i++)
		bytes[i] = i * 13 + seed;
}

/* Sixteen moves, by the assembler: the compiler may not use these registers. */
#define EACH(insn, operands)					\
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"	\
	insn " " operands "\n"					\
	".endr\n"

static void load_xmm(const struct vectors *v)
{
	asm volatile(EACH("movdqu", "\\n*32(%0), %%xmm\\n")
		     : : "r"(v) : "memory");
}

static void store_xmm(struct vectors *v)
{
	asm volatile(EACH("movdqu", "%%xmm\\n, \\n*32(%0)")
		     : : "r"(v) : "memory");
}

static void load_ymm(const struct vectors *v)
{
	asm volatile(EACH("vmovdqu", "\\n*32(%0), %%ymm\\n")
		     : : "r"(v) : "memory");
}

static void store_ymm(struct vectors *v)
{
	asm volatile(EACH("vmovdqu", "%%ymm\\n, \\n*32(%0)")
		     : : "r"(v) : "memory");
}

static bool same_low_halves(const struct vectors *a, const struct vectors *b)
{
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			if (a->bytes[i][j] != b->bytes[i][j])
				return false;
	return true;
}

static bool same_vectors(const struct vectors *a, const struct vectors *b)
{
	const u8 *left = &a->bytes[0][0], *right = &b->bytes[0][0];

	for (size_t i = 0; i < sizeof(*a); i++)
		if (left[i] != right[i])
			return false;
	return true;
}

static struct vectors guest_ours, guest_seen;

static u32 guest_sse(u64 rounds)
{
	for (u64 round = 0; round < rounds; round++) {
		pattern(&guest_ours, 100 + round);
		load_xmm(&guest_ours);
		guest_sync(round);
		store_xmm(&guest_seen);
		guest_check(same_low_halves(&guest_ours, &guest_seen));
	}
	return 0;
}

/* The program's registers over the whole of KVM_RUN. */
TEST(sse_is_separate)
{
	static struct vectors ours, seen;
	struct guest g;

	guest_create(&g, 0);
	guest_call(&g, guest_sse, 20);
	for (int round = 0; round < 20; round++) {
		long ret;

		pattern(&ours, round);
		load_xmm(&ours);
		/* No libc in between: it may use the registers. */
		asm volatile("syscall" : "=a"(ret)
			     : "0"(16l), "D"((long)g.vcpu), "S"(KVM_RUN),
			       "d"(0l) : "rcx", "r11", "memory");
		store_xmm(&seen);
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(g.run->exit_reason, KVM_EXIT_IO);
		ASSERT_EQ(g.run->io.port, PORT_SYNC);
		ASSERT_TRUE(same_low_halves(&ours, &seen));
	}
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

/* Two guests in turn on one thread: neither sees the other's. */
TEST(two_guests)
{
	struct guest g[2];
	u32 value;

	for (int i = 0; i < 2; i++) {
		guest_create(&g[i], 0);
		guest_call(&g[i], guest_sse, 10 + i);
	}
	for (int round = 0; round < 10; round++)
		for (int i = 0; i < 2; i++) {
			ASSERT_EQ(guest_next(&g[i], &value), PORT_SYNC);
		}
	EXPECT_EQ(guest_finish(&g[0]), 0);
	ASSERT_EQ(guest_next(&g[1], &value), PORT_SYNC);
	EXPECT_EQ(guest_finish(&g[1]), 0);
	guest_destroy(&g[0]);
	guest_destroy(&g[1]);
}

/* Each exit that the kernel handles alone must keep them too. */
static u32 guest_sse_over_kernel_exits(u64 arg)
{
	u32 regs[4];

	for (u32 round = 0; round < 50; round++) {
		pattern(&guest_ours, round);
		load_xmm(&guest_ours);
		guest_cpuid(0, 0, regs);
		rdmsr(0x1b);
		mmio_write(GUEST_FREE + round * PAGE, 1);
		store_xmm(&guest_seen);
		guest_check(same_low_halves(&guest_ours, &guest_seen));
	}
	return 0;
}

TEST(sse_over_kernel_exits)
{
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	guest_call(&g, guest_sse_over_kernel_exits, 0);
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

#define NO_AVX	1
#define XCR0_LOST 2

static u64 xgetbv(void)
{
	u32 low, high;

	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (u64)high << 32;
}

static u32 guest_avx(u64 rounds)
{
	u32 regs[4];
	u64 cr4;

	guest_cpuid(1, 0, regs);
	if (!(regs[2] & BIT(26)) || !(regs[2] & BIT(28)))
		return NO_AVX;
	asm volatile("mov %%cr4, %0" : "=r"(cr4));
	asm volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_OSXSAVE));
	asm volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
	guest_cpuid(0, 0, regs);
	if (xgetbv() != 7)
		return XCR0_LOST;
	for (u64 round = 0; round < rounds; round++) {
		pattern(&guest_ours, 200 + round);
		load_ymm(&guest_ours);
		guest_sync(round);
		guest_equal(xgetbv(), 7);
		store_ymm(&guest_seen);
		guest_check(same_vectors(&guest_ours, &guest_seen));
		guest_cpuid(0, 0, regs);
		store_ymm(&guest_seen);
		guest_check(same_vectors(&guest_ours, &guest_seen));
	}
	return 0;
}

TEST(avx_is_separate)
{
	static struct vectors ours, seen;
	struct guest g;
	u32 value;

	guest_create(&g, 0);
	guest_call(&g, guest_avx, 10);
	if (guest_next(&g, &value) == PORT_DONE) {
		guest_destroy(&g);
		if (value == NO_AVX)
			SKIP(return, "the guest's CPUID has no AVX");
		SKIP(return, "XSETBV does not reach the hypervisor on this machine");
	}
	for (int round = 1; round < 10; round++) {
		long ret;

		pattern(&ours, round);
		load_ymm(&ours);
		asm volatile("syscall" : "=a"(ret)
			     : "0"(16l), "D"((long)g.vcpu), "S"(KVM_RUN),
			       "d"(0l) : "rcx", "r11", "memory");
		store_ymm(&seen);
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(g.run->io.port, PORT_SYNC);
		ASSERT_TRUE(same_vectors(&ours, &seen));
	}
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

static u32 guest_x87(u64 arg)
{
	u16 control = 0x027f, got;
	u64 value = 41;
	u32 mxcsr = 0x3f80;

	asm volatile("fninit; fldcw %0; fildll %1"
		     : : "m"(control), "m"(value));
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	guest_sync(0);
	asm volatile("fld1; faddp; fistpll %0" : "=m"(value));
	guest_equal(value, 42);
	asm volatile("fnstcw %0" : "=m"(got));
	guest_equal(got, control);
	asm volatile("stmxcsr %0" : "=m"(mxcsr));
	guest_equal(mxcsr, 0x3f80);
	return 0;
}

TEST(x87_is_separate)
{
	u16 before, after;
	u32 mxcsr_before, mxcsr_after;
	struct guest g;
	u32 value;

	guest_create(&g, 0);
	asm volatile("fnstcw %0" : "=m"(before));
	asm volatile("stmxcsr %0" : "=m"(mxcsr_before));
	guest_call(&g, guest_x87, 0);
	ASSERT_EQ(guest_next(&g, &value), PORT_SYNC);
	asm volatile("fnstcw %0" : "=m"(after));
	asm volatile("stmxcsr %0" : "=m"(mxcsr_after));
	EXPECT_EQ(before, after);
	EXPECT_EQ(mxcsr_before, mxcsr_after);
	asm volatile("fninit");
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

static u32 guest_dumps_and_changes(u64 arg)
{
	u16 control = 0x0f7f;
	u64 value = 5;

	/* State in use, or the initial one goes in over what is set. */
	load_xmm(&guest_seen);
	asm volatile("fildll %0" : : "m"(value));
	guest_sync(0);
	store_xmm(&guest_seen);
	guest_check(same_low_halves(&guest_ours, &guest_seen));
	asm volatile("fistpll %0" : "=m"(value));
	guest_equal(value, 3);
	pattern(&guest_ours, 77);
	load_xmm(&guest_ours);
	asm volatile("fninit; fldcw %0; fld1" : : "m"(control));
	guest_sync(0);
	return 0;
}

TEST(get_and_set_fpu)
{
	static const u8 three[10] = { 0, 0, 0, 0, 0, 0, 0, 0xc0, 0x00, 0x40 };
	static const u8 one[10] = { 0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f };
	struct kvm_fpu fpu, back;
	static struct vectors v;
	struct guest g;
	u32 value;

	guest_create(&g, 0);
	pattern(&guest_ours, 55);
	guest_call(&g, guest_dumps_and_changes, 0);
	ASSERT_EQ(guest_next(&g, &value), PORT_SYNC);

	memset(&fpu, 0, sizeof(fpu));
	fpu.fcw = 0x037f;
	fpu.fsw = 7 << 11;		/* one register on the stack */
	fpu.ftwx = 0x80;
	fpu.last_opcode = 0x123;
	fpu.last_ip = 0x12345678;
	fpu.last_dp = 0x87654321;
	memcpy(fpu.fpr[0], three, sizeof(three));
	pattern(&v, 55);
	for (int i = 0; i < 16; i++)
		memcpy(fpu.xmm[i], v.bytes[i], 16);
	must(g.vcpu, KVM_SET_FPU, &fpu);

	memset(&back, 0xff, sizeof(back));
	must(g.vcpu, KVM_GET_FPU, &back);
	EXPECT_EQ(back.fcw, fpu.fcw);
	EXPECT_EQ(back.fsw, fpu.fsw);
	EXPECT_EQ(back.ftwx, fpu.ftwx);
	EXPECT_EQ(back.last_opcode, fpu.last_opcode);
	EXPECT_EQ(back.last_ip, fpu.last_ip);
	EXPECT_EQ(back.last_dp, fpu.last_dp);
	EXPECT_EQ(memcmp(back.fpr[0], three, sizeof(three)), 0);
	EXPECT_EQ(memcmp(back.xmm, fpu.xmm, sizeof(fpu.xmm)), 0);

	ASSERT_EQ(guest_next(&g, &value), PORT_SYNC);
	must(g.vcpu, KVM_GET_FPU, &back);
	EXPECT_EQ(back.fcw, 0x0f7f);
	EXPECT_EQ(back.fsw >> 11 & 7, 7);
	EXPECT_EQ(back.ftwx, 0x80);
	EXPECT_EQ(memcmp(back.fpr[0], one, sizeof(one)), 0);
	pattern(&v, 77);
	for (int i = 0; i < 16; i++) {
		EXPECT_EQ(memcmp(back.xmm[i], v.bytes[i], 16), 0);
	}
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

SELFTEST_MAIN
