// SPDX-License-Identifier: GPL-2.0
/*
 * Sensitive instructions: those that read or touch privileged state without
 * always trapping.  At each privilege level, and in each mode, the guest has
 * to see its own state and never the host's.  With CR4.UMIP the outer rings
 * see none.
 */
#include <kselftest_harness.h>
#include "guest.h"

#define RESULTS	0xb000ul	/* below 64 KiB, for real mode */

/* What one pass of the stores leaves at RESULTS. */
struct stores {
	u16 gdt_limit;
	u8 gdt_base[14];
	u16 idt_limit;
	u8 idt_base[14];
	u32 ldtr, tr, msw, cs, ds, ss, es;
	u32 rights, rights_ok, limit, limit_ok;
	u32 readable, writable, not_writable;
	u32 outer_rights_ok, null_rights_ok;
	u32 done;
};

/*
 * Reports by a write to device memory, which leaves from any ring.  LAR, LSL,
 * VERR and VERW look at the selectors in eax, ebx (code and data of the ring)
 * and edx (the kernel's data).
 */
#define STORES							\
	"	sgdt 0xb000\n"					\
	"	sidt 0xb010\n"					\
	"	xor %ecx, %ecx\n"				\
	"	sldt %ecx\n"					\
	"	mov %ecx, 0xb020\n"				\
	"	str %ecx\n"					\
	"	mov %ecx, 0xb024\n"				\
	"	xor %ecx, %ecx\n"				\
	"	smsw %cx\n"					\
	"	mov %ecx, 0xb028\n"				\
	"	xor %ecx, %ecx\n"				\
	"	mov %cs, %ecx\n"				\
	"	mov %ecx, 0xb02c\n"				\
	"	mov %ds, %ecx\n"				\
	"	mov %ecx, 0xb030\n"				\
	"	mov %ss, %ecx\n"				\
	"	mov %ecx, 0xb034\n"				\
	"	mov %es, %ecx\n"				\
	"	mov %ecx, 0xb038\n"				\
	"	lar %eax, %ecx\n"				\
	"	mov %ecx, 0xb03c\n"				\
	"	setz 0xb040\n"					\
	"	lsl %eax, %ecx\n"				\
	"	mov %ecx, 0xb044\n"				\
	"	setz 0xb048\n"					\
	"	verr %ax\n"					\
	"	setz 0xb04c\n"					\
	"	verw %bx\n"					\
	"	setz 0xb050\n"					\
	"	verw %ax\n"					\
	"	setz 0xb054\n"					\
	"	lar %edx, %ecx\n"				\
	"	setz 0xb058\n"					\
	"	xor %esi, %esi\n"				\
	"	lar %esi, %ecx\n"				\
	"	setz 0xb05c\n"					\
	"	movl $1, 0xb060\n"				\
	"	mov $0xd0000000, %ecx\n"

GUEST_ASM(stores32, 32, STORES "	mov %eax, (%ecx)\n");
GUEST_ASM(stores64, 64, STORES "	mov %eax, (%rcx)\n");

GUEST_FIXTURE(sensitive, 0)

/* Into an outer ring, as IRET would have gone there. */
static void enter_ring(struct guest *g, u32 ring)
{
	struct kvm_sregs sregs;
	struct kvm_segment *segments[] = {
		&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss,
	};

	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.selector = SEL_CODE(ring);
	sregs.cs.dpl = ring;
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		segments[i]->selector = SEL_DATA(ring);
		segments[i]->dpl = ring;
	}
	/* Values that no host has. */
	sregs.gdt.limit = GDT_LIMIT + 0x10;
	sregs.idt.base = 0x3450;
	sregs.idt.limit = 0x6ff;
	sregs.ldt = (struct kvm_segment){
		.selector = SEL_LDT, .base = 0x9000, .limit = 0x7f,
		.type = 2, .present = 1,
	};
	must(g->vcpu, KVM_SET_SREGS, &sregs);
}

static void stores_in_ring(struct __test_metadata *_metadata,
			   struct guest *g, enum guest_mode mode, u32 ring)
{
	bool is_long = mode == MODE_LONG;
	struct stores *seen = guest_at(g, RESULTS);
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	memset(seen, 0, sizeof(*seen));
	if (is_long)
		guest_load(g, stores64);
	else
		guest_load(g, stores32);
	guest_mode(g, mode, GUEST_CODE);
	enter_ring(g, ring);
	must(g->vcpu, KVM_GET_REGS, &regs);
	regs.rax = SEL_CODE(ring);
	regs.rbx = SEL_DATA(ring);
	regs.rdx = SEL_DATA(0);
	must(g->vcpu, KVM_SET_REGS, &regs);
	guest_run_to(g, KVM_EXIT_MMIO);
	must(g->vcpu, KVM_GET_SREGS, &sregs);

	EXPECT_EQ(seen->done, 1);
	EXPECT_EQ(seen->gdt_limit, GDT_LIMIT + 0x10);
	EXPECT_EQ(*(u32 *)seen->gdt_base, GUEST_GDT);
	EXPECT_EQ(seen->idt_limit, 0x6ff);
	EXPECT_EQ(*(u32 *)seen->idt_base, 0x3450);
	EXPECT_EQ(seen->ldtr, SEL_LDT);
	EXPECT_EQ(seen->tr, SEL_TSS);
	EXPECT_EQ(seen->msw, sregs.cr0 & 0xffff);
	EXPECT_EQ(seen->cs, SEL_CODE(ring));
	EXPECT_EQ(seen->ds, SEL_DATA(ring));
	EXPECT_EQ(seen->es, SEL_DATA(ring));
	EXPECT_EQ(seen->ss, SEL_DATA(ring));
	EXPECT_EQ(seen->rights_ok, 1);
	EXPECT_EQ(seen->rights & 0xff00, 0x9b00 | ring << 13);
	EXPECT_EQ(seen->rights & 0xf00000, is_long ? 0xa00000 : 0xc00000);
	EXPECT_EQ(seen->limit_ok, 1);
	EXPECT_EQ(seen->limit, 0xffffffff);
	EXPECT_EQ(seen->readable, 1);
	EXPECT_EQ(seen->writable, 1);
	EXPECT_EQ(seen->not_writable, 0);
	EXPECT_EQ(seen->outer_rights_ok, ring == 0);
	EXPECT_EQ(seen->null_rights_ok, 0);
	EXPECT_EQ(sregs.cs.dpl, ring);
	EXPECT_EQ(sregs.ss.dpl, ring);
	if (is_long) {
		EXPECT_EQ(*(u32 *)(seen->gdt_base + 4), 0);
		EXPECT_EQ(*(u32 *)(seen->idt_base + 4), 0);
	}
}

#define STORES_TEST(name, mode)						\
	TEST_F(sensitive, name)						\
	{								\
		for (u32 ring = 0; ring < 4; ring++)			\
			stores_in_ring(_metadata, &self->g, mode, ring); \
	}

STORES_TEST(stores_protected, MODE_PROTECTED)
STORES_TEST(stores_paged32, MODE_PAGED32)
STORES_TEST(stores_pae, MODE_PAE)
STORES_TEST(stores_long, MODE_LONG)

GUEST_ASM(stores16, 16,
	"	sgdt 0xb000\n"
	"	sidt 0xb010\n"
	"	smsw %ax\n"
	"	mov %ax, 0xb028\n"
	"	mov %cs, 0xb02c\n"
	"	pushf\n"
	"	popw 0xb030\n"
	"	cli\n"
	"	pushf\n"
	"	popw 0xb032\n"
	"	sti\n"
	"	pushf\n"
	"	popw 0xb034\n"
	"	pushw $0x3246\n"	/* IOPL 3 is for real mode to set */
	"	popf\n"
	"	pushf\n"
	"	popw 0xb036\n"
	"	push %cs\n"
	"	pop %es\n"
	"	mov %es, 0xb038\n"
	"	mov %es:0, %al\n"	/* through the new base */
	"	mov %al, 0xb03a\n"
	"	hlt\n");

TEST_F(sensitive, stores_real)
{
	struct guest *g = &self->g;
	u16 *words = guest_at(g, RESULTS);
	struct kvm_sregs sregs;

	guest_load(g, stores16);
	guest_mode(g, MODE_REAL, GUEST_CODE);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.gdt.base = 0x123456;
	sregs.gdt.limit = 0x777;
	must(g->vcpu, KVM_SET_SREGS, &sregs);
	guest_run_to(g, KVM_EXIT_HLT);
	EXPECT_EQ(words[0], 0x777);
	EXPECT_EQ(*(u32 *)(words + 1) & 0xffffff, 0x123456);
	EXPECT_EQ(words[8], 0x3ff);
	EXPECT_EQ(*(u32 *)(words + 9) & 0xffffff, 0);
	EXPECT_EQ(words[0x14], sregs.cr0 & 0xffff);
	EXPECT_EQ(words[0x16], GUEST_CODE >> 4);
	EXPECT_EQ(words[0x18] & 0x3200, 0);
	EXPECT_EQ(words[0x19] & 0x3200, 0);
	EXPECT_EQ(words[0x1a] & 0x3200, 0x200);
	EXPECT_EQ(words[0x1b] & 0x7fd7, 0x3246);
	EXPECT_EQ(words[0x1c], GUEST_CODE >> 4);
	EXPECT_EQ(*(u8 *)(words + 0x1d), stores16[0]);
}

/*
 * UMIP: the stores one by one, 16 bytes each, with a report behind it; then
 * where #GP goes, which reports elsewhere.
 */
#define ONE_STORE(insn, report)	"1:	" insn "\n	" report "\n	.org 1b + 16\n"
#define UMIP_STORES(report, gp_report)		\
	ONE_STORE("sgdt 0xb000", report)	\
	ONE_STORE("sidt 0xb000", report)	\
	ONE_STORE("sldt 0xb000", report)	\
	ONE_STORE("str 0xb000", report)		\
	ONE_STORE("sldt %edx", report)		\
	ONE_STORE("str %edx", report)		\
	ONE_STORE("smsw 0xb000", report)	\
	ONE_STORE("smsw %edx", report)		\
	"	" gp_report "\n"

enum { SGDT, SIDT, SLDT, STR, SLDT_REG, STR_REG, SMSW, SMSW_REG, NR_STORES };

GUEST_ASM(umip_stores32, 32, UMIP_STORES("mov %edx, (%ecx)", "mov %edx, 8(%ecx)"));
GUEST_ASM(umip_stores64, 64, UMIP_STORES("mov %edx, (%rcx)", "mov %edx, 8(%rcx)"));

#define ON_GP		(GUEST_CODE + 16 * NR_STORES)
#define SEL_CONFORMING	0x68	/* behind those of lib.h */
#define CPUID_7_UMIP	BIT(2)	/* of ECX */

static bool umip_offered(void)
{
	u32 regs[4];

	device_cpuid(7, regs);
	return regs[2] & CPUID_7_UMIP;
}

/*
 * A processor with UMIP catches SMSW, and one with SVM can make it exit.  On
 * VT-x nothing can: who emulates UMIP there leaves it out.
 */
static bool umip_catches_smsw(void)
{
	u32 regs[4];

	guest_cpuid(7, 0, regs);	/* of the host */
	return (regs[2] & CPUID_7_UMIP) || guest_is_amd();
}

/*
 * Leaves #GP to the guest's code at ON_GP, within its ring: the segment is a
 * conforming one.  (QEMU's SVM takes no 32-bit TSS for an inner ring's stack
 * that LTR has not loaded.)
 */
static void catch_gp(struct guest *g, const struct kvm_sregs *sregs, bool is_long)
{
	u64 *conforming = guest_at(g, GUEST_GDT + SEL_CONFORMING);
	u32 *gate = guest_at(g, sregs->idt.base + 13 * (is_long ? 16 : 8));

	*conforming = is_long ? 0x00af9f000000ffff : 0x00cf9f000000ffff;
	gate[0] = SEL_CONFORMING << 16 | (ON_GP & 0xffff);
	gate[1] = (ON_GP & ~0xfffful) | 0x8e00;
	if (is_long)
		gate[2] = gate[3] = 0;
}

/* Runs one store; true if it raised #GP. */
static bool umip_store(struct guest *g, enum guest_mode mode, u32 ring, bool umip,
		      unsigned int nr, struct kvm_sregs *sregs)
{
	struct kvm_regs regs;

	guest_mode(g, mode, GUEST_CODE + 16 * nr);
	enter_ring(g, ring);
	must(g->vcpu, KVM_GET_SREGS, sregs);
	sregs->cr4 |= umip ? CR4_UMIP : 0;
	must(g->vcpu, KVM_SET_SREGS, sregs);
	catch_gp(g, sregs, mode == MODE_LONG);
	must(g->vcpu, KVM_GET_REGS, &regs);
	regs.rcx = GUEST_MMIO;
	regs.rdx = 0;
	must(g->vcpu, KVM_SET_REGS, &regs);
	memset(guest_at(g, RESULTS), 0xff, 16);
	guest_run_to(g, KVM_EXIT_MMIO);
	return g->run->mmio.phys_addr == GUEST_MMIO + 8;
}

static void check_stored(struct __test_metadata *_metadata, struct guest *g, bool is_long,
			 unsigned int nr, const struct kvm_sregs *sregs)
{
	const u8 *seen = guest_at(g, RESULTS);
	u16 word = *(const u16 *)seen, reg = *(u16 *)g->run->mmio.data;
	u64 base = 0;

	memcpy(&base, seen + 2, is_long ? 8 : 4);
	switch (nr) {
	case SGDT:
		EXPECT_EQ(word, GDT_LIMIT + 0x10);
		EXPECT_EQ(base, GUEST_GDT);
		break;
	case SIDT:
		EXPECT_EQ(word, 0x6ff);
		EXPECT_EQ(base, 0x3450);
		break;
	case SLDT:
		EXPECT_EQ(word, SEL_LDT);
		break;
	case STR:
		EXPECT_EQ(word, SEL_TSS);
		break;
	case SMSW:
		EXPECT_EQ(word, sregs->cr0 & 0xffff);
		break;
	case SLDT_REG:
		EXPECT_EQ(reg, SEL_LDT);
		break;
	case STR_REG:
		EXPECT_EQ(reg, SEL_TSS);
		break;
	case SMSW_REG:
		EXPECT_EQ(reg, sregs->cr0 & 0xffff);
		break;
	}
	if (nr >= SLDT)
		EXPECT_EQ(base & 0xffffffff, 0xffffffff);
}

static void check_refused(struct __test_metadata *_metadata, struct guest *g, bool is_long,
			  unsigned int nr)
{
	struct kvm_regs regs;
	const u64 *wide;
	const u32 *frame;

	must(g->vcpu, KVM_GET_REGS, &regs);
	frame = guest_at(g, regs.rsp);
	wide = guest_at(g, regs.rsp);
	EXPECT_EQ(is_long ? wide[0] : frame[0], 0);
	EXPECT_EQ(is_long ? wide[1] : frame[1], GUEST_CODE + 16 * nr);
	EXPECT_EQ(regs.rdx, 0);
	EXPECT_EQ(*(u64 *)guest_at(g, RESULTS), ~0ull);
}

static void umip_in_mode(struct __test_metadata *_metadata, struct guest *g,
			 enum guest_mode mode, bool umip)
{
	bool is_long = mode == MODE_LONG;
	struct kvm_sregs sregs;

	if (is_long)
		guest_load(g, umip_stores64);
	else
		guest_load(g, umip_stores32);
	for (u32 ring = 0; ring < 4; ring++) {
		for (unsigned int nr = 0; nr < NR_STORES; nr++) {
			bool fault = umip && ring;

			if (fault && nr >= SMSW && !umip_catches_smsw())
				continue;
			ASSERT_EQ(umip_store(g, mode, ring, umip, nr, &sregs), fault)
				TH_LOG("store %u in ring %u of mode %s", nr, ring, mode_names[mode]);
			if (fault)
				check_refused(_metadata, g, is_long, nr);
			else
				check_stored(_metadata, g, is_long, nr, &sregs);
			must(g->vcpu, KVM_GET_SREGS, &sregs);
			EXPECT_EQ(sregs.cr4 & CR4_UMIP, umip ? CR4_UMIP : 0);
		}
	}
}

TEST_F(sensitive, umip)
{
	if (!umip_offered())
		SKIP(return, "no UMIP is offered to guests");
	for (enum guest_mode mode = MODE_PROTECTED; mode < MODE_COUNT; mode++) {
		umip_in_mode(_metadata, &self->g, mode, true);
		umip_in_mode(_metadata, &self->g, mode, false);
	}
}

/*
 * Flags and segments in long mode, where the vectors of guest.c catch what
 * faults.  An outer ring reports by a write to device memory too.
 */

#define RFLAGS_IF	BIT(9)
#define RFLAGS_IOPL	(3ull << 12)

static u64 read_flags(void)
{
	u64 value;

	asm volatile("pushfq; pop %0" : "=r"(value));
	return value;
}

static void write_flags(u64 value)
{
	asm volatile("push %0; popfq" : : "r"(value) : "memory", "cc");
}

static u32 read_segment_ds(void)
{
	u32 selector;

	asm volatile("mov %%ds, %0" : "=r"(selector));
	return selector;
}

static void guest_flags(u32 ring)
{
	u64 entry = read_flags();

	/* IOPL 0, IF set by the host. */
	guest_equal(entry & (RFLAGS_IF | RFLAGS_IOPL), RFLAGS_IF);
	if (ring) {
		/* POPF leaves alone what the ring may not change. */
		write_flags((entry | RFLAGS_IOPL) & ~RFLAGS_IF);
		guest_equal(read_flags() & (RFLAGS_IF | RFLAGS_IOPL),
			    RFLAGS_IF);
		guest_equal(guest_try("cli", : : : "memory"), 13);
		guest_equal(guest_try("sti", : : : "memory"), 13);
		guest_equal(guest_try("hlt", : : : "memory"), 13);
		guest_equal(guest_try("clts", : : : "memory"), 13);
		guest_equal(guest_try("mov %%cr0, %%rax", : : : "rax"), 13);
		guest_equal(guest_try("mov %%cr3, %%rax", : : : "rax"), 13);
		guest_equal(guest_try("mov %%db7, %%rax", : : : "rax"), 13);
		guest_equal(guest_try("outb %%al, $0x80", : : : "memory"), 13);
		guest_equal(guest_try("inb $0x80, %%al", : : : "rax"), 13);
		guest_equal(guest_try("swapgs", : : : "memory"), 13);
		guest_equal(guest_try("lgdt 0x1000", : : : "memory"), 13);
		guest_equal(guest_try("lldt %%ax", : : "a"(0)), 13);
		guest_equal(guest_try("ltr %%ax", : : "a"(SEL_TSS)), 13);
		guest_equal(guest_try("lmsw %%ax", : : "a"(0)), 13);
		guest_equal(guest_try("invlpg 0x1000", : : : "memory"), 13);
		guest_equal(guest_try("rdmsr", : : "c"(0xc0000080)
				      : "rax", "rdx"), 13);
		guest_equal(guest_try("wrmsr", : : "c"(0xc0000080), "a"(0),
				      "d"(0)), 13);
		guest_equal(guest_try("sysretq", : : : "rcx", "r11"), 13);
		guest_equal(read_flags() & RFLAGS_IF, RFLAGS_IF);
		return;
	}
	guest_equal(guest_try("cli", : : : "memory"), NO_FAULT);
	guest_equal(read_flags() & RFLAGS_IF, 0);
	guest_equal(guest_try("sti", : : : "memory"), NO_FAULT);
	guest_equal(read_flags() & RFLAGS_IF, RFLAGS_IF);
	write_flags(entry & ~RFLAGS_IF);
	guest_equal(read_flags() & RFLAGS_IF, 0);
	write_flags(entry | RFLAGS_IOPL);
	guest_equal(read_flags() & (RFLAGS_IF | RFLAGS_IOPL),
		    RFLAGS_IF | RFLAGS_IOPL);
	write_flags(entry);
}

static void guest_segments(u32 ring)
{
	u32 selector = 0;

	guest_equal(read_segment_ds(), SEL_DATA(ring));
	guest_equal(guest_try("mov %0, %%ds; mov %%ds, %0", : "+r"(selector)),
		    NO_FAULT);
	guest_equal(selector, 0);		/* null is fine in long mode */
	selector = SEL_DATA(ring);
	guest_equal(guest_try("mov %0, %%ds", : : "r"(selector)), NO_FAULT);
	guest_equal(read_segment_ds(), SEL_DATA(ring));
	/* FS and GS by way of the stack. */
	asm volatile("push %1; popq %%fs; pushq %%fs; pop %%rcx; mov %%ecx, %0"
		     : "=r"(selector) : "r"((u64)SEL_DATA(ring)) : "rcx");
	guest_equal(selector, SEL_DATA(ring));
	/* A null FS has no base left of what was loaded. */
	selector = 0;
	guest_equal(guest_try("mov %0, %%fs", : : "r"(selector)), NO_FAULT);
	/* Out of reach: an inner ring's, one beyond the limit, a system one. */
	if (ring)
		guest_equal(guest_try("mov %0, %%ds", : : "r"(SEL_DATA(0))),
			    13);
	guest_equal(guest_try("mov %0, %%ds", : : "r"(0x1000)), 13);
	guest_equal(guest_fault_error, 0x1000);
	guest_equal(guest_try("mov %0, %%es", : : "r"(SEL_TSS)), 13);
	guest_equal(guest_try("mov %0, %%ss", : : "r"(0x1000)), 13);
	guest_equal(read_segment_ds(), SEL_DATA(ring));
}

static u32 guest_in_ring(u64 ring)
{
	u64 stored[2] = { 0, 0 };

	guest_flags(ring);
	guest_segments(ring);
	/* CPUID is open to every ring. */
	u32 regs[4];

	guest_cpuid(0, 0, regs);
	guest_check(regs[0] != 0);
	/* So are the stores, also in front of the handlers' descriptor table. */
	asm volatile("sidt %0" : "=m"(stored));
	guest_equal(stored[0] & 0xffff, 0xfff);
	guest_equal(stored[0] >> 16 | stored[1] << 48, GUEST_IDT);
	mmio_write(GUEST_MMIO, ring);
	return 0;
}

TEST_F(sensitive, flags_and_segments)
{
	struct guest *g = &self->g;

	for (u32 ring = 0; ring < 4; ring++) {
		struct kvm_sregs sregs;
		struct kvm_regs regs;

		guest_call(g, guest_in_ring, ring);
		must(g->vcpu, KVM_GET_SREGS, &sregs);
		enter_ring(g, ring);
		must(g->vcpu, KVM_GET_SREGS, &sregs);
		sregs.gdt.limit = GDT_LIMIT;
		sregs.idt.base = GUEST_IDT;
		sregs.idt.limit = 0xfff;
		must(g->vcpu, KVM_SET_SREGS, &sregs);
		must(g->vcpu, KVM_GET_REGS, &regs);
		regs.rflags |= RFLAGS_IF;
		must(g->vcpu, KVM_SET_REGS, &regs);
		if (guest_run(g) != KVM_EXIT_MMIO) {
			struct guest_failure *f = guest_var(g, guest_failure);

			if (f->file)
				die("ring %u: %s:%d: %s is 0x%llx, not 0x%llx",
				    ring, f->file, f->line, f->text, f->got,
				    f->wanted);
			die_of_exit(g, "the end of the ring's test");
		}
		EXPECT_EQ(*(u32 *)g->run->mmio.data, ring);
	}
}

/* The guest switches UMIP on and off; what loads the registers still does. */

struct __attribute__((packed)) table {
	u16 limit;
	u64 base;
};

static u64 read_cr4(void)
{
	u64 value;

	asm volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

static u32 guest_umip_loads(u64 arg)
{
	const u64 cr4 = read_cr4();
	struct table gdt = { GDT_LIMIT + 0x18, GUEST_GDT }, idt = { 0xff7, GUEST_IDT };
	struct table seen = { 0 };
	u64 *entry = (u64 *)GUEST_GDT;
	u64 *tss = entry + (SEL_TSS >> 3), *ldt = entry + (SEL_LDT >> 3);
	u16 selector;

	guest_equal(guest_try("mov %0, %%cr4", : : "r"(cr4 | CR4_UMIP)), NO_FAULT);
	guest_equal(read_cr4(), cr4 | CR4_UMIP);
	asm volatile("lgdt %0" : : "m"(gdt));
	asm volatile("sgdt %0" : "=m"(seen));
	guest_equal(seen.limit, gdt.limit);
	guest_equal(seen.base, gdt.base);
	asm volatile("lidt %0" : : "m"(idt));
	asm volatile("sidt %0" : "=m"(seen));
	guest_equal(seen.limit, idt.limit);
	guest_equal(seen.base, idt.base);

	ldt[0] = 0x820000ull << 24 | 0x1237ull << 16 | 0x3f;	/* base 0x1237 */
	ldt[1] = 0;
	asm volatile("lldt %w0" : : "r"(SEL_LDT) : "memory");
	asm volatile("sldt %0" : "=m"(selector));
	guest_equal(selector, SEL_LDT);
	guest_equal(guest_try("lldt %w0", : : "r"(SEL_TSS) : "memory"), 13);
	guest_equal(guest_fault_error, SEL_TSS);

	*tss &= ~BIT(41);	/* not busy */
	asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
	guest_equal(*tss & BIT(41), BIT(41));
	asm volatile("str %0" : "=m"(selector));
	guest_equal(selector, SEL_TSS);
	guest_equal(guest_try("ltr %w0", : : "r"(SEL_TSS) : "memory"), 13);

	if (!arg)
		asm volatile("mov %0, %%cr4" : : "r"(cr4));
	guest_equal(read_cr4(), arg ? cr4 | CR4_UMIP : cr4);
	return 0;
}

TEST_F(sensitive, umip_loads)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;

	if (!umip_offered())
		SKIP(return, "no UMIP is offered to guests");
	for (u64 keep = 0; keep < 2; keep++) {
		guest_call(g, guest_umip_loads, keep);
		ASSERT_EQ(guest_finish(g), 0);
		must(g->vcpu, KVM_GET_SREGS, &sregs);
		EXPECT_EQ(!!(sregs.cr4 & CR4_UMIP), keep);
		EXPECT_EQ(sregs.gdt.limit, GDT_LIMIT + 0x18);
		EXPECT_EQ(sregs.idt.limit, 0xff7);
		EXPECT_EQ(sregs.ldt.selector, SEL_LDT);
		EXPECT_EQ(sregs.ldt.base, 0x1237);
		EXPECT_EQ(sregs.ldt.limit, 0x3f);
		EXPECT_EQ(sregs.tr.base, GUEST_TSS);
	}
}

/* Who is not told of UMIP has none. */

static u32 guest_without_umip(u64 arg)
{
	const u64 cr4 = read_cr4();

	guest_equal(guest_try("mov %0, %%cr4", : : "r"(cr4 | CR4_UMIP)), 13);
	guest_equal(read_cr4(), cr4);
	return 0;
}

TEST_F(sensitive, umip_is_not_for_all)
{
	struct guest *g = &self->g;

	guest_change_cpuid(g, 7, ECX, CPUID_7_UMIP, 0);
	guest_call(g, guest_without_umip, 0);
	EXPECT_EQ(guest_finish(g), 0);
}

/* SYSCALL and SYSRET between rings 0 and 3, as an OS uses them. */

GUEST_ASM(kernel_entry, 64,
	"	mov %cs, %r8d\n"
	"	mov %ss, %r9d\n"
	"	sysretq\n");

static u32 guest_user(u64 arg)
{
	u32 cs, ss, kernel_cs, kernel_ss;

	asm volatile("syscall; mov %%r8d, %0; mov %%r9d, %1;"
		     "mov %%cs, %2; mov %%ss, %3"
		     : "=&r"(kernel_cs), "=&r"(kernel_ss), "=&r"(cs), "=&r"(ss)
		     : : "rcx", "r8", "r9", "r11", "memory");
	mmio_write(GUEST_MMIO, kernel_cs);
	mmio_write(GUEST_MMIO, kernel_ss);
	mmio_write(GUEST_MMIO, cs);
	mmio_write(GUEST_MMIO, ss);
	return 0;
}

TEST_F(sensitive, syscall_and_sysret)
{
	struct guest *g = &self->g;
	/*
	 * SYSRET adds 16 and 8 to its selector for CS and SS: neither is in
	 * the GDT of lib.c at such a distance, and neither is looked up.
	 */
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[3];
	} msrs = {
		.header.nmsrs = 3,
		.entries = {
			{ .index = 0xc0000081,
			  .data = (u64)SEL_CODE(0) << 32 | 0x63ull << 48 },
			{ .index = 0xc0000082, .data = GUEST_CODE },
			{ .index = 0xc0000084, .data = RFLAGS_IF },
		},
	};
	const u32 wanted[] = { SEL_CODE(0), SEL_DATA(0), 0x73, 0x6b };

	guest_call(g, guest_user, 0);
	guest_load(g, kernel_entry);
	enter_ring(g, 3);
	ASSERT_EQ(must(g->vcpu, KVM_SET_MSRS, &msrs), 3);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		guest_run_to(g, KVM_EXIT_MMIO);
		EXPECT_EQ(*(u32 *)g->run->mmio.data, wanted[i]);
	}
}

SELFTEST_MAIN
