// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks as 32-bit hardware switches them: by far JMP and CALL, IRET, task gates in
 * the GDT and the IDT, with what they save, load, mark and refuse.  SVM's processor may
 * do it by itself; VT-x leaves it to the hypervisor.
 */
#include <kselftest_harness.h>
#include "guest.h"

#define TSS_B		(GUEST_DATA + 0x1000)
#define IDT		(GUEST_DATA + 0x2000)
#define HANDLERS	(GUEST_DATA + 0x3000)
#define CODE_B		(GUEST_DATA + 0x4000)
#define STACK_B		(GUEST_DATA + 0x6000)
#define DIRECTORY_B	(GUEST_DATA + 0x8000)

#define SEL_B		0x80
#define SEL_GATE	0x88
#define VECTOR_B	0x40	/* a task gate to B */

#define FLAG_IF		BIT(9)
#define FLAG_NT		BIT(14)
#define FLAG_VM		BIT(17)

struct tss {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, map;
};

struct tss_16 {
	u16 link, stacks[6], ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};

GUEST_ASM(jump, 32, "ljmp $0x80, $0x12345; mov $0x11, %ebp; hlt");
GUEST_ASM(call, 32, "lcall $0x80, $0; mov $0x11, %ebp; lcall $0x80, $0; mov $0x12, %ebp; hlt");
GUEST_ASM(call_gate, 32, "lcall $0x88, $0; mov $0x11, %ebp; hlt");
GUEST_ASM(interrupt, 32, "int $0x40; mov $0x11, %ebp; hlt");
GUEST_ASM(fault, 32, "mov $0x1234, %eax; mov %eax, %fs; hlt");
GUEST_ASM(spin, 32, "sti; 1: jmp 1b");

/* All that a switch reaches: QEMU's CPU does not survive a nested fault in the middle of one. */
GUEST_ASM(touch, 32,
	  "mov $0x1000, %esi\n"
	  "1: orl $0, (%esi); add $0x1000, %esi; cmp $0x2a000, %esi; jb 1b\n"
	  "orl $0, 0x400000; orl $0, 0x800000; hlt");

GUEST_ASM(stop, 32, "hlt");
GUEST_ASM(flags_and_back, 32, "1: pushf; pop %ecx; inc %esi; iret; jmp 1b");
GUEST_ASM(pop_error, 32, "pop %ecx; hlt");
GUEST_ASM(read_ds, 32, "mov 0x400000, %ecx; hlt");

static struct tss *tss_of(struct guest *g, u64 at)
{
	return guest_at(g, at);
}

static u8 *type_of(struct guest *g, u16 sel)
{
	return (u8 *)guest_at(g, GUEST_GDT + (sel & ~7)) + 5;
}

static void describe(struct guest *g, u16 sel, u32 base, u32 limit, u8 type)
{
	u64 *desc = guest_at(g, GUEST_GDT + sel);

	*desc = (limit & 0xffff) | (base & 0xffffffull) << 16 | (u64)type << 40 |
		(u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24) << 56;
}

static void gate(struct guest *g, unsigned int vector, u16 sel, u32 offset, u8 type)
{
	u64 *entry = guest_at(g, IDT + 8 * vector);

	*entry = (offset & 0xffff) | (u64)sel << 16 | (u64)type << 40 | (u64)(offset >> 16) << 48;
}

/*
 * Task A runs @code, task B waits for its turn with @code_b.  An exception ends
 * with HLT and its vector in EDI, its error code is the last thing on the stack.
 */
static void two_tasks(struct guest *g, enum guest_mode mode, const u8 *code, u64 bytes,
		      const u8 *code_b, u64 bytes_b)
{
	struct kvm_sregs sregs;
	struct tss *b = tss_of(g, TSS_B);

	guest_mode(g, MODE_PROTECTED, GUEST_CODE);
	guest_load(g, touch);
	guest_run_to(g, KVM_EXIT_HLT);
	guest_mode(g, mode, GUEST_CODE);
	guest_copy(g, GUEST_CODE, code, bytes);
	guest_copy(g, CODE_B, code_b, bytes_b);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.gdt.limit = 0xff;
	sregs.idt = (struct kvm_dtable){ .base = IDT, .limit = 0x7ff };
	must(g->vcpu, KVM_SET_SREGS, &sregs);
	for (unsigned int v = 0; v < 32; v++) {
		u8 handler[] = { 0xbf, v, 0, 0, 0, 0xf4 };	/* mov $v, %edi; hlt */

		guest_copy(g, HANDLERS + 16 * v, handler, sizeof(handler));
		gate(g, v, SEL_CODE(0), HANDLERS + 16 * v, 0x8e);
	}
	*type_of(g, SEL_TSS) = 0x8b;
	describe(g, SEL_B, TSS_B, sizeof(*b) - 1, 0x89);
	describe(g, SEL_GATE, 0, 0, 0x85);
	*(u16 *)guest_at(g, GUEST_GDT + SEL_GATE + 2) = SEL_B;
	gate(g, VECTOR_B, SEL_B, 0, 0x85);

	/* What a switch saves; the rest it only reads. */
	memset(tss_of(g, GUEST_TSS), 0x55, sizeof(struct tss));
	tss_of(g, GUEST_TSS)->ldt = tss_of(g, GUEST_TSS)->trap = 0;
	tss_of(g, GUEST_TSS)->cr3 = GUEST_CR3;
	*b = (struct tss){
		.ss0 = SEL_DATA(0), .esp0 = STACK_B, .cr3 = GUEST_CR3,
		.eip = CODE_B, .eflags = 0x46, .eax = 0xb0, .ecx = 0xb1, .edx = 0xb2, .ebx = 0xb3,
		.esp = STACK_B - 64, .ebp = 0xb5, .esi = 0xb6, .edi = 0xb7,
		.es = SEL_DATA(0), .cs = SEL_CODE(0), .ss = SEL_DATA(0), .ds = SEL_DATA(0),
		.fs = SEL_DATA(3), .gs = 0, .map = sizeof(*b),
	};
}

#define TWO_TASKS(mode, a, b) two_tasks(g, mode, a, a##_end - a, b, b##_end - b)

/* Which task is the current one when the guest halts. */
static u16 halt_in(struct guest *g, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	guest_run_to(g, KVM_EXIT_HLT);
	must(g->vcpu, KVM_GET_REGS, regs);
	must(g->vcpu, KVM_GET_SREGS, sregs);
	return sregs->tr.selector;
}

/* Task @sel has ended with exception @vector, about selector @error. */
#define EXPECT_FAULT(sel, vector, error) do {				\
	EXPECT_EQ(halt_in(g, &regs, &sregs), sel);			\
	EXPECT_EQ(regs.rdi, vector);					\
	EXPECT_EQ(*(u32 *)guest_at(g, regs.rsp), error);		\
} while (0)

GUEST_FIXTURE(tasks, 0);

TEST_F(tasks, jump)
{
	static const enum guest_mode modes[] = { MODE_PROTECTED, MODE_PAGED32, MODE_PAE };
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		struct tss *a = tss_of(g, GUEST_TSS);

		TWO_TASKS(modes[i], jump, stop);
		must(g->vcpu, KVM_GET_REGS, &regs);
		regs.rax = 0xa0;
		regs.rdi = 0xa7;
		must(g->vcpu, KVM_SET_REGS, &regs);
		ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
		EXPECT_EQ(sregs.tr.base, TSS_B);
		EXPECT_EQ(sregs.tr.type, 0xb);
		EXPECT_EQ(regs.rip, CODE_B + 1);
		EXPECT_EQ(regs.rflags, 0x46);
		EXPECT_EQ(regs.rax, 0xb0);
		EXPECT_EQ(regs.rcx, 0xb1);
		EXPECT_EQ(regs.rdx, 0xb2);
		EXPECT_EQ(regs.rbx, 0xb3);
		EXPECT_EQ(regs.rsp, STACK_B - 64);
		EXPECT_EQ(regs.rbp, 0xb5);
		EXPECT_EQ(regs.rsi, 0xb6);
		EXPECT_EQ(regs.rdi, 0xb7);
		EXPECT_EQ(sregs.fs.selector, SEL_DATA(3));
		EXPECT_EQ(sregs.fs.dpl, 3);
		EXPECT_EQ(sregs.gs.selector, 0);
		EXPECT_TRUE(sregs.cr0 & CR0_TS);
		EXPECT_EQ(a->eip, GUEST_CODE + 7);
		EXPECT_EQ(a->eax, 0xa0);
		EXPECT_EQ(a->edi, 0xa7);
		EXPECT_EQ((u16)a->cs, SEL_CODE(0));
		EXPECT_EQ((u16)a->gs, SEL_DATA(0));
		EXPECT_EQ(a->esp0, 0x55555555);
		EXPECT_EQ(a->link, 0x55555555);
		EXPECT_EQ(*type_of(g, SEL_TSS), 0x89);
		EXPECT_EQ(*type_of(g, SEL_B), 0x8b);
	}
}

TEST_F(tasks, call_and_return)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PAGED32, call, flags_and_back);
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_TSS);
	EXPECT_EQ(regs.rbp, 0x12);
	EXPECT_FALSE(regs.rflags & FLAG_NT);
	EXPECT_EQ(*type_of(g, SEL_TSS), 0x8b);
	EXPECT_EQ(*type_of(g, SEL_B), 0x89);
	EXPECT_TRUE(tss_of(g, TSS_B)->ecx & FLAG_NT);
	EXPECT_FALSE(tss_of(g, TSS_B)->eflags & FLAG_NT);
	EXPECT_EQ(tss_of(g, TSS_B)->esi, 0xb8);		/* twice: it went on where it had left */
	EXPECT_EQ((u16)tss_of(g, TSS_B)->link, SEL_TSS);
}

TEST_F(tasks, gates)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PROTECTED, call_gate, flags_and_back);
	EXPECT_EQ(halt_in(g, &regs, &sregs), SEL_TSS);
	EXPECT_EQ(regs.rbp, 0x11);
	TWO_TASKS(MODE_PROTECTED, interrupt, flags_and_back);
	EXPECT_EQ(halt_in(g, &regs, &sregs), SEL_TSS);
	EXPECT_EQ(regs.rbp, 0x11);
	EXPECT_EQ(tss_of(g, TSS_B)->esi, 0xb7);
}

/* An exception's task finds the error code on its stack, and the culprit in the other's EIP. */
TEST_F(tasks, exception)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PROTECTED, fault, pop_error);
	gate(g, 13, SEL_B, 0, 0x85);
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
	EXPECT_EQ(regs.rcx, 0x1234);
	EXPECT_EQ(regs.rsp, STACK_B - 64);
	EXPECT_EQ(tss_of(g, GUEST_TSS)->eip, GUEST_CODE + 5);
}

TEST_F(tasks, external_interrupt)
{
	struct guest *g = &self->g;
	struct kvm_interrupt irq = { .irq = VECTOR_B };
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PROTECTED, spin, stop);
	g->run->request_interrupt_window = 1;
	guest_run_to(g, KVM_EXIT_IRQ_WINDOW_OPEN);
	g->run->request_interrupt_window = 0;
	must(g->vcpu, KVM_INTERRUPT, &irq);
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
	EXPECT_EQ(tss_of(g, GUEST_TSS)->eip, GUEST_CODE + 1);
	EXPECT_TRUE(tss_of(g, GUEST_TSS)->eflags & FLAG_IF);
	EXPECT_EQ(regs.rsp, STACK_B - 64);
}

/* Each task has its own CR3: B's first 4 MiB are the same, the next are elsewhere. */
TEST_F(tasks, address_space)
{
	struct guest *g = &self->g;
	u32 *directory = guest_at(g, DIRECTORY_B);
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PAGED32, jump, read_ds);
	memcpy(directory, guest_at(g, GUEST_CR3), PAGE);
	directory[1] = directory[2];
	tss_of(g, TSS_B)->cr3 = DIRECTORY_B;
	*(u32 *)guest_at(g, 0x800000) = 0x8765;
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
	EXPECT_EQ(sregs.cr3, DIRECTORY_B);
	EXPECT_EQ(regs.rcx, 0x8765);
}

TEST_F(tasks, sixteen_bits)
{
	struct guest *g = &self->g;
	struct tss_16 *b = guest_at(g, TSS_B);
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (!device_is_minikvm())
		SKIP(return, "on VT-x stock KVM saves the old task in the new one's format");
	TWO_TASKS(MODE_PROTECTED, jump, stop);
	describe(g, SEL_B, TSS_B, sizeof(*b) - 1, 0x81);
	describe(g, 0x98, CODE_B, 0xffff, 0x9b);
	*b = (struct tss_16){
		.ip = 0, .flags = 0x46, .ax = 0xb0, .di = 0xb7, .sp = 0x6000,
		.es = SEL_DATA(0), .cs = 0x98, .ss = SEL_DATA(0), .ds = SEL_DATA(0),
	};
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
	EXPECT_EQ(regs.rip, 1);
	EXPECT_EQ((u16)regs.rax, 0xb0);
	EXPECT_EQ((u16)regs.rdi, 0xb7);
	EXPECT_EQ(sregs.tr.type, 3);
	EXPECT_EQ(sregs.cs.base, CODE_B);
	EXPECT_EQ(tss_of(g, GUEST_TSS)->eip, GUEST_CODE + 7);
}

/* HLT is privileged, so it ends the task of virtual-8086 mode with #GP. */
TEST_F(tasks, virtual_8086)
{
	struct guest *g = &self->g;
	struct tss *b = tss_of(g, TSS_B);
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	u32 *frame;

	TWO_TASKS(MODE_PROTECTED, jump, stop);
	b->eflags = FLAG_VM | 2;
	b->eip = 0;
	b->cs = CODE_B >> 4;
	b->ss = b->ds = b->es = b->fs = b->gs = STACK_B >> 4;
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
	EXPECT_EQ(regs.rdi, 13);
	EXPECT_EQ(regs.rsp, STACK_B - 40);
	frame = guest_at(g, regs.rsp);
	EXPECT_EQ(frame[0], 0);
	EXPECT_EQ(frame[1], 0);
	EXPECT_EQ(frame[2], CODE_B >> 4);
	EXPECT_TRUE(frame[3] & FLAG_VM);
}

/* What the processor refuses before anything has happened is the old task's fault. */
TEST_F(tasks, refused)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PROTECTED, jump, stop);
	*type_of(g, SEL_B) = 0x09;
	EXPECT_FAULT(SEL_TSS, 11, SEL_B);
	TWO_TASKS(MODE_PROTECTED, jump, stop);
	*type_of(g, SEL_B) = 0x8b;
	EXPECT_FAULT(SEL_TSS, 13, SEL_B);
	EXPECT_EQ(tss_of(g, GUEST_TSS)->eip, 0x55555555);
	TWO_TASKS(MODE_PROTECTED, jump, stop);
	describe(g, SEL_B, TSS_B, 0x66, 0x89);
	EXPECT_FAULT(SEL_TSS, 10, SEL_B);
	EXPECT_EQ(*type_of(g, SEL_B), 0x89);
}

/* What it finds wrong in the new task is the new task's. */
TEST_F(tasks, bad_segments)
{
	struct guest *g = &self->g;
	struct tss *b = tss_of(g, TSS_B);
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (!device_is_minikvm())
		SKIP(return, "on VT-x stock KVM stays in the old task");
	TWO_TASKS(MODE_PROTECTED, jump, stop);
	b->fs = 0xf8;
	describe(g, 0xf8, 0, 0xffff, 0x98);
	EXPECT_FAULT(SEL_B, 10, 0xf8);
	TWO_TASKS(MODE_PROTECTED, jump, stop);
	b->gs = 0xf8;
	describe(g, 0xf8, 0, 0xffff, 0x13);
	EXPECT_FAULT(SEL_B, 11, 0xf8);
	TWO_TASKS(MODE_PROTECTED, jump, stop);
	b->ldt = 0xf8;
	describe(g, 0xf8, 0, 0xffff, 0x93);
	EXPECT_FAULT(SEL_B, 10, 0xf8);
}

/* A debugger's bit in the TSS: #DB before the first instruction, and DR7's local bits go. */
TEST_F(tasks, debug_trap)
{
	struct guest *g = &self->g;
	struct kvm_debugregs dr;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	TWO_TASKS(MODE_PROTECTED, jump, stop);
	tss_of(g, TSS_B)->trap = 1;
	must(g->vcpu, KVM_GET_DEBUGREGS, &dr);
	dr.dr7 = 0x403;		/* L0 and G0 */
	dr.db[0] = 0x12345678;
	must(g->vcpu, KVM_SET_DEBUGREGS, &dr);
	ASSERT_EQ(halt_in(g, &regs, &sregs), SEL_B);
	must(g->vcpu, KVM_GET_DEBUGREGS, &dr);
	if (regs.rdi != 1)
		SKIP(return, "whoever switches tasks here ignores the bit");
	EXPECT_EQ(dr.dr7 & 3, 2);
	EXPECT_EQ(dr.dr6 & 0xf000, 0x8000);
	EXPECT_EQ(*(u32 *)guest_at(g, regs.rsp), CODE_B);
}

SELFTEST_MAIN
