// SPDX-License-Identifier: GPL-2.0
/*
 * The same small guest in each of the five modes, and one guest that walks
 * through them by itself, as firmware and boot loaders do.
 */
#include <kselftest_harness.h>
#include "guest.h"

#define SCRATCH	"0xb000"	/* below 64 KiB, for real mode */

/*
 * One text for three assemblers: memory, stack, calls, a loop, CPUID, MSW.
 * Reports by OUT, one step after the other, then halts.
 */
#define SMALL_GUEST				\
	"	mov $0x510, %edx\n"		\
	"	movl $0x5a5a1234, " SCRATCH "\n"	\
	"	addl $1, " SCRATCH "\n"		\
	"	mov " SCRATCH ", %eax\n"	\
	"	outl %eax, %dx\n"		\
	"	xor %eax, %eax\n"		\
	"	mov $10, %ecx\n"		\
	"1:	add %ecx, %eax\n"		\
	"	loop 1b\n"			\
	"	call 2f\n"			\
	"	outl %eax, %dx\n"		\
	"	mov $0x40000000, %eax\n"	\
	"	cpuid\n"			\
	"	mov $0x510, %edx\n"		\
	"	mov %ebx, %eax\n"		\
	"	outl %eax, %dx\n"		\
	"	xor %eax, %eax\n"		\
	"	smsw %ax\n"			\
	"	outl %eax, %dx\n"		\
	"	hlt\n"				\
	"	mov $0x600d, %eax\n"		\
	"	outl %eax, %dx\n"		\
	"2:	add $100, %eax\n"		\
	"	ret\n"

GUEST_ASM(small16, 16, SMALL_GUEST);
GUEST_ASM(small32, 32, SMALL_GUEST);
GUEST_ASM(small64, 64, SMALL_GUEST);

/* An exception with no usable IDT: triple fault. */
GUEST_ASM(crash16, 16, "lidt %cs:1f - crash16\n ud2\n1: .fill 10\n");
GUEST_ASM(crash32, 32, "push $0\n push $0\n lidt (%esp)\n ud2\n");
GUEST_ASM(crash64, 64, "push $0\n push $0\n lidt (%rsp)\n ud2\n");

FIXTURE(mode) {
	struct guest g;
};

FIXTURE_VARIANT(mode) {
	enum guest_mode mode;
	const u8 *small, *small_end_;
	const u8 *crash, *crash_end_;
};

#define MODE_VARIANT(name, id, bits)				\
	FIXTURE_VARIANT_ADD(mode, name) {			\
		.mode = id,					\
		.small = small##bits,				\
		.small_end_ = small##bits##_end,		\
		.crash = crash##bits,				\
		.crash_end_ = crash##bits##_end,		\
	}

MODE_VARIANT(real, MODE_REAL, 16);
MODE_VARIANT(protected, MODE_PROTECTED, 32);
MODE_VARIANT(paged32, MODE_PAGED32, 32);
MODE_VARIANT(pae, MODE_PAE, 32);
MODE_VARIANT(long, MODE_LONG, 64);

FIXTURE_SETUP(mode)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(mode)
{
	guest_destroy(&self->g);
}

static u32 next_out(struct guest *g)
{
	guest_run_to(g, KVM_EXIT_IO);
	return *(u32 *)guest_io_data(g);
}

TEST_F(mode, small_guest)
{
	struct guest *g = &self->g;
	struct kvm_sregs before, after;

	guest_copy(g, GUEST_CODE, variant->small,
		   variant->small_end_ - variant->small);
	guest_mode(g, variant->mode, GUEST_CODE);
	must(g->vcpu, KVM_GET_SREGS, &before);

	ASSERT_EQ(next_out(g), 0x5a5a1235);
	ASSERT_EQ(next_out(g), 155);
	next_out(g);	/* the hypervisor's leaf is its own business */
	ASSERT_EQ(next_out(g), before.cr0 & 0xffff);
	guest_run_to(g, KVM_EXIT_HLT);
	ASSERT_EQ(next_out(g), 0x600d);

	must(g->vcpu, KVM_GET_SREGS, &after);
	EXPECT_EQ(before.cr0, after.cr0);
	EXPECT_EQ(before.cr3, after.cr3);
	EXPECT_EQ(before.cr4, after.cr4);
	EXPECT_EQ(before.efer, after.efer);
	EXPECT_EQ(before.cs.base, after.cs.base);
	EXPECT_EQ(before.cs.selector, after.cs.selector);
	EXPECT_EQ(before.cs.l, after.cs.l);
	EXPECT_EQ(before.cs.db, after.cs.db);
}

TEST_F(mode, triple_fault)
{
	struct guest *g = &self->g;

	guest_copy(g, GUEST_CODE, variant->crash,
		   variant->crash_end_ - variant->crash);
	guest_mode(g, variant->mode, GUEST_CODE);
	guest_run_to(g, KVM_EXIT_SHUTDOWN);
}

/*
 * Real mode to long mode and back on the guest's own account.  The page
 * tables stand already; the GDT of lib.c has no 16-bit segments, so this
 * guest brings its own: 8 code32, 0x10 data, 0x18 code64, 0x20 code16,
 * 0x28 data16.
 */
GUEST_ASM(walk, 16,
	"	.set B, 0x10000\n"
	"	xor %ax, %ax\n"
	"	mov %ax, %ds\n"
	"	mov %ax, %ss\n"
	"	mov $0x510, %dx\n"
	"	mov $16, %al\n"
	"	out %al, %dx\n"
	"	lgdtl %cs:walk_gdtr - walk\n"
	"	mov %cr0, %eax\n"
	"	or $1, %al\n"
	"	mov %eax, %cr0\n"
	"	ljmpl $8, $(B + walk_32 - walk)\n"
	".code32\n"
	"walk_32:\n"
	"	mov $0x10, %eax\n"
	"	mov %eax, %ds\n"
	"	mov %eax, %ss\n"
	"	mov $32, %al\n"
	"	out %al, %dx\n"
	"	mov %cr4, %eax\n"
	"	or $0x20, %eax\n"
	"	mov %eax, %cr4\n"
	"	mov $0x4000, %eax\n"
	"	mov %eax, %cr3\n"
	"	mov $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	or $0x100, %eax\n"
	"	wrmsr\n"
	"	mov %cr0, %eax\n"
	"	or $0x80000000, %eax\n"
	"	mov %eax, %cr0\n"
	"	mov $0x510, %edx\n"
	"	mov $48, %al\n"		/* compatibility mode */
	"	out %al, %dx\n"
	"	ljmp $0x18, $(B + walk_64 - walk)\n"
	".code64\n"
	"walk_64:\n"
	"	mov $0x123456789abcdef0, %rax\n"
	"	bswap %rax\n"
	"	shr $56, %rax\n"	/* 0xf0 */
	"	out %al, %dx\n"
	"	mov $64, %al\n"
	"	out %al, %dx\n"
	"	ljmp *walk_far(%rip)\n"
	"walk_far:\n"
	"	.long B + walk_down - walk\n"
	"	.word 8\n"
	".code32\n"
	"walk_down:\n"
	"	mov %cr0, %eax\n"
	"	and $0x7fffffff, %eax\n"
	"	mov %eax, %cr0\n"
	"	mov $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	and $0xfffffeff, %eax\n"
	"	wrmsr\n"
	"	mov $0x510, %edx\n"
	"	mov $33, %al\n"
	"	out %al, %dx\n"
	"	ljmp $0x20, $(walk_16 - walk)\n"
	".code16\n"
	"walk_16:\n"
	"	mov $0x28, %ax\n"
	"	mov %ax, %ds\n"
	"	mov %ax, %ss\n"
	"	mov %cr0, %eax\n"
	"	and $0xfe, %al\n"
	"	mov %eax, %cr0\n"
	"	ljmp $(B >> 4), $(walk_real - walk)\n"
	"walk_real:\n"
	"	xor %ax, %ax\n"
	"	mov %ax, %ds\n"
	"	mov $17, %al\n"
	"	out %al, %dx\n"
	"	hlt\n"
	"	.balign 8\n"
	"walk_gdt:\n"
	"	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
	"	.quad 0x00af9b000000ffff, 0x00009b010000ffff\n"
	"	.quad 0x000093000000ffff\n"
	"walk_gdtr:\n"
	"	.word 47\n"
	"	.long B + walk_gdt - walk\n");

TEST(real_to_long_and_back)
{
	static const u8 stations[] = { 16, 32, 48, 0xf0, 64, 33, 17 };
	struct kvm_sregs sregs;
	struct guest g;

	guest_create(&g, 0);
	guest_mode(&g, MODE_LONG, 0);	/* for its page tables */
	guest_load(&g, walk);
	guest_mode(&g, MODE_REAL, GUEST_CODE);
	for (size_t i = 0; i < sizeof(stations); i++) {
		guest_run_to(&g, KVM_EXIT_IO);
		ASSERT_EQ(*(u8 *)guest_io_data(&g), stations[i]);
		must(g.vcpu, KVM_GET_SREGS, &sregs);
		EXPECT_EQ(!!(sregs.efer & EFER_LMA),
			  stations[i] >= 48)
			TH_LOG("EFER.LMA at station %u", stations[i]);
		EXPECT_EQ(!!(sregs.cr0 & CR0_PE), stations[i] >= 32);
	}
	guest_run_to(&g, KVM_EXIT_HLT);
	guest_destroy(&g);
}

SELFTEST_MAIN
