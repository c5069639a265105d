// SPDX-License-Identifier: GPL-2.0
/*
 * Registers: what userspace sets is what the guest runs with, and what the
 * guest leaves is what userspace gets, field by field.
 */
#include <kselftest_harness.h>
#include "guest.h"

GUEST_FIXTURE(regs, 0)

/* Changes each register in its own way, without a use of the stack. */
GUEST_ASM(change_all, 64,
	"	lea 1(%rax), %rax\n"
	"	lea 2(%rbx), %rbx\n"
	"	lea 3(%rcx), %rcx\n"
	"	lea 4(%rdx), %rdx\n"
	"	lea 5(%rsi), %rsi\n"
	"	lea 6(%rdi), %rdi\n"
	"	lea 7(%rsp), %rsp\n"
	"	lea 8(%rbp), %rbp\n"
	"	lea 9(%r8), %r8\n"
	"	lea 10(%r9), %r9\n"
	"	lea 11(%r10), %r10\n"
	"	lea 12(%r11), %r11\n"
	"	lea 13(%r12), %r12\n"
	"	lea 14(%r13), %r13\n"
	"	lea 15(%r14), %r14\n"
	"	lea 16(%r15), %r15\n"
	"	hlt\n");

static const size_t general[] = {
	offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rbx),
	offsetof(struct kvm_regs, rcx), offsetof(struct kvm_regs, rdx),
	offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi),
	offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
	offsetof(struct kvm_regs, r8), offsetof(struct kvm_regs, r9),
	offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
	offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13),
	offsetof(struct kvm_regs, r14), offsetof(struct kvm_regs, r15),
};

static u64 *field(struct kvm_regs *regs, size_t i)
{
	return (u64 *)((u8 *)regs + general[i]);
}

TEST_F(regs, general_registers_go_in_and_come_back)
{
	struct guest *g = &self->g;
	struct kvm_regs in, out;

	guest_load(g, change_all);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	for (u64 round = 0; round < 4; round++) {
		memset(&in, 0, sizeof(in));
		for (size_t i = 0; i < ARRAY_SIZE(general); i++)
			*field(&in, i) = 0x0123456789abcdef * (i + 1) + round;
		in.rip = GUEST_CODE;
		in.rflags = 2;
		must(g->vcpu, KVM_SET_REGS, &in);
		must(g->vcpu, KVM_GET_REGS, &out);
		ASSERT_EQ(memcmp(&in, &out, sizeof(in)), 0);
		guest_run_to(g, KVM_EXIT_HLT);
		must(g->vcpu, KVM_GET_REGS, &out);
		for (size_t i = 0; i < ARRAY_SIZE(general); i++) {
			EXPECT_EQ(*field(&out, i), *field(&in, i) + i + 1)
				TH_LOG("register %zu", i);
		}
		EXPECT_EQ(out.rip,
			  GUEST_CODE + (change_all_end - change_all));
		EXPECT_EQ(out.rflags, 2);
	}
}

GUEST_ASM(flags_guest, 64,
	"	pushfq\n"
	"	pop %rax\n"
	"	cmp %rax, %rax\n"	/* ZF and PF, no more */
	"	stc\n"
	"	std\n"
	"	hlt\n");

TEST_F(regs, flags)
{
	struct guest *g = &self->g;
	struct kvm_regs regs;
	/* CF, PF, AF, ZF, SF, DF, OF, IOPL 3, ID; bit 1 is always set. */
	const u64 flags = 0x203cd5;

	guest_load(g, flags_guest);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	must(g->vcpu, KVM_GET_REGS, &regs);
	regs.rflags = flags;
	must(g->vcpu, KVM_SET_REGS, &regs);
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.rflags, flags | 2);
	guest_run_to(g, KVM_EXIT_HLT);
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.rax, flags | 2);
	EXPECT_EQ(regs.rflags, 0x203447);
}

TEST_F(regs, reset_state)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	must(g->vcpu, KVM_GET_REGS, &regs);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	EXPECT_EQ(regs.rip, 0xfff0);
	EXPECT_EQ(regs.rflags, 2);
	EXPECT_EQ(sregs.cs.base, 0xffff0000);
	EXPECT_EQ(sregs.cs.selector, 0xf000);
	EXPECT_EQ(sregs.cs.limit, 0xffff);
	EXPECT_EQ(sregs.ds.base, 0);
	EXPECT_EQ(sregs.ds.limit, 0xffff);
	EXPECT_EQ(sregs.idt.base, 0);
	EXPECT_EQ(sregs.idt.limit, 0xffff);
	EXPECT_EQ(sregs.cr0, CR0_CD | CR0_NW | CR0_ET);
	EXPECT_EQ(sregs.cr3, 0);
	EXPECT_EQ(sregs.cr4, 0);
	EXPECT_EQ(sregs.efer, 0);
	EXPECT_EQ(sregs.cr8, 0);
	EXPECT_EQ(sregs.apic_base & ~0x100ull, 0xfee00800);
}

/* Fetches its first instruction where a processor does after a reset. */
TEST_F(regs, reset_vector)
{
	struct guest *g = &self->g;
	u8 *rom = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(rom, MAP_FAILED);
	rom[0xff0] = 0xf4;
	ASSERT_EQ(guest_slot(g, 1, 0xfffff000, rom, PAGE, KVM_MEM_READONLY), 0);
	guest_run_to(g, KVM_EXIT_HLT);
	EXPECT_EQ(guest_rip(g), 0xfff1);
	munmap(rom, PAGE);
}

GUEST_ASM(just_halt, 64, "1: hlt\n jmp 1b\n");

static bool same_segment(const struct kvm_segment *a,
			 const struct kvm_segment *b)
{
	return a->base == b->base && a->limit == b->limit &&
	       a->selector == b->selector && a->type == b->type &&
	       a->present == b->present && a->dpl == b->dpl &&
	       a->db == b->db && a->s == b->s && a->l == b->l &&
	       a->g == b->g && a->avl == b->avl && a->unusable == b->unusable;
}

static bool same_table(const struct kvm_dtable *a, const struct kvm_dtable *b)
{
	return a->base == b->base && a->limit == b->limit;
}

/* The first field that differs, by name. */
static const char *difference(const struct kvm_sregs *a,
			      const struct kvm_sregs *b)
{
#define SAME_SEGMENT(name) if (!same_segment(&a->name, &b->name)) return #name
#define SAME_TABLE(name) if (!same_table(&a->name, &b->name)) return #name
#define SAME(name) if (a->name != b->name) return #name
	SAME_SEGMENT(cs);
	SAME_SEGMENT(ds);
	SAME_SEGMENT(es);
	SAME_SEGMENT(fs);
	SAME_SEGMENT(gs);
	SAME_SEGMENT(ss);
	SAME_SEGMENT(tr);
	SAME_SEGMENT(ldt);
	SAME_TABLE(gdt);
	SAME_TABLE(idt);
	SAME(cr0);
	SAME(cr2);
	SAME(cr3);
	SAME(cr4);
	SAME(cr8);
	SAME(efer);
	SAME(apic_base);
	if (memcmp(a->interrupt_bitmap, b->interrupt_bitmap,
		   sizeof(a->interrupt_bitmap)))
		return "interrupt_bitmap";
	return "";
}

static struct kvm_segment odd_data(u64 n)
{
	return (struct kvm_segment){
		.base = 0x10000 * n, .limit = 0xff000 + n * 0x1000 + 0xfff,
		.selector = SEL_DATA(0), .type = 3, .s = 1, .present = 1,
		.db = n & 1, .g = 1, .avl = n >> 1 & 1,
	};
}

TEST_F(regs, special_registers_come_back)
{
	struct guest *g = &self->g;
	struct kvm_sregs in, out;
	enum guest_mode modes[] = { MODE_PROTECTED, MODE_PAE, MODE_LONG };

	guest_load(g, just_halt);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		guest_mode(g, modes[i], GUEST_CODE);
		must(g->vcpu, KVM_GET_SREGS, &in);
		in.ds = odd_data(1);
		in.es = odd_data(2);
		in.fs = odd_data(3);
		in.gs = odd_data(4);
		if (modes[i] == MODE_LONG) {
			in.fs.base = 0x00007edcba987654;
			in.gs.base = 0xffff812345678888;
		}
		in.ldt = (struct kvm_segment){
			.base = 0x9000, .limit = 0x7f, .selector = SEL_LDT,
			.type = 2, .present = 1,
		};
		in.gdt.base = GUEST_GDT;
		in.gdt.limit = 0x7f;
		in.idt.base = 0x7777000;
		in.idt.limit = 0x123;
		in.cr2 = modes[i] == MODE_LONG ? 0xffff8fff12345678 :
						 0x12345678;
		in.cr4 |= CR4_TSD | CR4_DE;
		in.cr8 = 7;
		in.efer |= EFER_SCE;
		must(g->vcpu, KVM_SET_SREGS, &in);
		must(g->vcpu, KVM_GET_SREGS, &out);
		EXPECT_STREQ(difference(&in, &out), "")
			TH_LOG("set and get, mode %s", mode_names[modes[i]]);

		g->run->cr8 = 7;
		guest_run_to(g, KVM_EXIT_HLT);
		must(g->vcpu, KVM_GET_SREGS, &out);
		/* Running on a segment marks it accessed: it was already. */
		EXPECT_STREQ(difference(&in, &out), "")
			TH_LOG("set, run and get, mode %s",
			       mode_names[modes[i]]);
	}
}

/* What the guest itself sees of them. */

static volatile u64 guest_view[8];

static u32 guest_reads_special(u64 arg)
{
	u64 value;

	asm volatile("mov %%cr2, %0" : "=r"(value));
	guest_view[0] = value;
	asm volatile("mov %%cr3, %0" : "=r"(value));
	guest_view[1] = value;
	asm volatile("mov %%fs:0, %0" : "=r"(value));
	guest_view[2] = value;
	asm volatile("mov %%gs:0, %0" : "=r"(value));
	guest_view[3] = value;
	guest_view[4] = rdmsr(0xc0000100);
	guest_view[5] = rdmsr(0xc0000101);
	asm volatile("mov %%cr8, %0" : "=r"(value));
	guest_view[6] = value;
	asm volatile("mov %0, %%cr2" : : "r"(0x123456789abcul));
	wrmsr(0xc0000100, GUEST_DATA + 16);
	wrmsr(0xc0000101, GUEST_DATA + 24);
	return 0;
}

TEST_F(regs, guest_sees_special_registers)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	volatile u64 *view;

	guest_call(g, guest_reads_special, 0);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr2 = 0xffffc0dedeadbee0;
	sregs.fs.base = GUEST_DATA;
	sregs.gs.base = GUEST_DATA + 8;
	sregs.cr8 = 3;
	must(g->vcpu, KVM_SET_SREGS, &sregs);
	g->run->cr8 = 3;
	*(u64 *)guest_at(g, GUEST_DATA) = 0xf5;
	*(u64 *)guest_at(g, GUEST_DATA + 8) = 0x65;
	guest_finish(g);

	view = *guest_var(g, guest_view);
	EXPECT_EQ(view[0], 0xffffc0dedeadbee0);
	EXPECT_EQ(view[1], GUEST_CR3);
	EXPECT_EQ(view[2], 0xf5);
	EXPECT_EQ(view[3], 0x65);
	EXPECT_EQ(view[4], GUEST_DATA);
	EXPECT_EQ(view[5], GUEST_DATA + 8);
	EXPECT_EQ(view[6], 3);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	EXPECT_EQ(sregs.cr2, 0x123456789abc);
	EXPECT_EQ(sregs.fs.base, GUEST_DATA + 16);
	EXPECT_EQ(sregs.gs.base, GUEST_DATA + 24);
}

/* A segment that the guest loads: userspace sees what the descriptor says. */
GUEST_ASM(load_segments, 32,
	"	mov $0x60, %eax\n"
	"	mov %ax, %ds\n"
	"	mov %ax, %es\n"
	"	xor %eax, %eax\n"
	"	mov %ax, %fs\n"
	"	mov $0x58, %eax\n"
	"	lldt %ax\n"
	"	ljmp $0x68, $1f - load_segments\n"
	"1:	hlt\n");

TEST_F(regs, segments_that_the_guest_loads)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	u64 *gdt;

	guest_load(g, load_segments);
	guest_mode(g, MODE_PROTECTED, GUEST_CODE);
	gdt = guest_at(g, GUEST_GDT);
	gdt[0x58 >> 3] = 0x000082009000007f;	/* LDT at 0x9000 */
	gdt[0x60 >> 3] = 0x12509334567889ab;	/* data, 16 bits, AVL */
	gdt[0x68 >> 3] = 0x00cf9b010000ffff;	/* code at 0x10000 */
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.gdt.limit = 0x6f;
	must(g->vcpu, KVM_SET_SREGS, &sregs);
	guest_run_to(g, KVM_EXIT_HLT);

	must(g->vcpu, KVM_GET_SREGS, &sregs);
	EXPECT_EQ(sregs.ds.selector, 0x60);
	EXPECT_EQ(sregs.ds.base, 0x12345678);
	EXPECT_EQ(sregs.ds.limit, 0x089ab);
	EXPECT_EQ(sregs.ds.type, 3);
	EXPECT_EQ(sregs.ds.s, 1);
	EXPECT_EQ(sregs.ds.dpl, 0);
	EXPECT_EQ(sregs.ds.db, 1);
	EXPECT_EQ(sregs.ds.g, 0);
	EXPECT_EQ(sregs.ds.avl, 1);
	EXPECT_TRUE(same_segment(&sregs.ds, &sregs.es));
	EXPECT_EQ(sregs.fs.selector, 0);
	EXPECT_EQ(sregs.fs.unusable, 1);
	EXPECT_EQ(sregs.ldt.selector, 0x58);
	EXPECT_EQ(sregs.ldt.base, 0x9000);
	EXPECT_EQ(sregs.ldt.limit, 0x7f);
	EXPECT_EQ(sregs.cs.selector, 0x68);
	EXPECT_EQ(sregs.cs.base, 0x10000);
	EXPECT_EQ(sregs.cs.limit, 0xffffffff);
}

TEST_F(regs, pending_interrupt_shows_in_the_bitmap)
{
	struct guest *g = &self->g;
	struct kvm_interrupt interrupt = { .irq = 0x45 };
	struct kvm_sregs sregs;

	guest_mode(g, MODE_LONG, GUEST_CODE);
	must(g->vcpu, KVM_INTERRUPT, &interrupt);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	for (u32 i = 0; i < 4; i++) {
		EXPECT_EQ(sregs.interrupt_bitmap[i],
			  i == 0x45 / 64 ? BIT(0x45 % 64) : 0);
	}
}

SELFTEST_MAIN
