// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions on device memory.  Each form runs twice from the same state:
 * on RAM, where the processor executes it, and on MMIO, where the hypervisor
 * does and the program plays a device of plain memory.  Registers, flags and
 * memory must come out the same.
 */
#include <kselftest_harness.h>
#include "guest.h"

/* A window with the operand in its middle; RAM below is for string moves. */
#define WINDOW		256u
#define OPERAND		128u
#define RAM_BASE	(GUEST_DATA + 0x1000)
#define PLAIN_RAM	(GUEST_DATA + 0x4000)
#define CARRY		BIT(0)
#define FLAGS		0x8d5ull	/* CF PF AF ZF SF OF */
#define AUX		BIT(4)

struct form {
	const u8 *code, *end;
	const char *text;
};

extern const struct form __start_forms[], __stop_forms[];
extern const struct form __start_forms32[], __stop_forms32[];

#define FORM_IN(section, bits, text)					\
	asm(".pushsection .rodata\n.code" bits "\n"			\
	    "661: " text "\n	hlt\n662:\n"				\
	    "663: .asciz \"" text "\"\n.code64\n.popsection\n"		\
	    ".pushsection " section ",\"a\"\n"				\
	    ".quad 661b, 662b, 663b\n.popsection")
#define FORM(text)	FORM_IN("forms", "64", text)
#define FORM32(text)	FORM_IN("forms32", "32", text)

/* rbx is the operand's address, rsi and rdi are set for string forms. */
#define SIZES_RM(op)			\
	FORM(op " %al, (%rbx)");	\
	FORM(op " %ax, (%rbx)");	\
	FORM(op " %eax, (%rbx)");	\
	FORM(op " %rax, (%rbx)");	\
	FORM(op " (%rbx), %al");	\
	FORM(op " (%rbx), %ax");	\
	FORM(op " (%rbx), %eax");	\
	FORM(op " (%rbx), %rax")
#define SIZES_IMM(op)			\
	FORM(op "b $0x85, (%rbx)");	\
	FORM(op "w $0x8765, (%rbx)");	\
	FORM(op "l $0x87654321, (%rbx)"); \
	FORM(op "q $-0x789abcde, (%rbx)")
#define SIZES_IMM8(op)			\
	FORM(op "w $-3, (%rbx)");	\
	FORM(op "l $-3, (%rbx)");	\
	FORM(op "q $-3, (%rbx)")

SIZES_RM("mov");
SIZES_IMM("mov");
FORM("mov %ah, (%rbx)");
FORM("mov (%rbx), %dh");
FORM("mov %r9b, (%rbx)");
FORM("mov (%rbx), %r15");
FORM("mov %sil, (%rbx)");
FORM("movabs %al, 0xd0000080");
FORM("movabs 0xd0000080, %rax");

/* Addressing. */
FORM("mov 1(%rbx), %eax");
FORM("mov -1(%rbx), %eax");
FORM("mov 0x40(%rbx), %rax");
FORM("mov %eax, -0x70(%rbx)");
FORM("mov (%rbx, %rbp), %eax");
FORM("mov 3(%rbx, %rbp, 8), %eax");
FORM("mov (%r12), %eax");
FORM("mov 0x10(%r13, %rbp, 2), %eax");
FORM("mov %rdx, 1(%r13)");
FORM("mov (%ebx), %eax");
FORM("lock orl $0, (%rbx)");
FORM("mov %fs:(%rbx), %eax");

FORM("movzbw (%rbx), %ax");
FORM("movzbl (%rbx), %eax");
FORM("movzbq (%rbx), %rax");
FORM("movzwl (%rbx), %eax");
FORM("movzwq (%rbx), %rax");
FORM("movsbw (%rbx), %ax");
FORM("movsbl (%rbx), %eax");
FORM("movsbq (%rbx), %rax");
FORM("movswl (%rbx), %eax");
FORM("movswq (%rbx), %rax");
FORM("movslq (%rbx), %rax");

SIZES_RM("and");
SIZES_IMM("and");
SIZES_IMM8("and");
SIZES_RM("or");
SIZES_IMM("or");
SIZES_IMM8("or");
SIZES_RM("xor");
SIZES_IMM("xor");
SIZES_IMM8("xor");
SIZES_RM("add");
SIZES_IMM("add");
SIZES_IMM8("add");
SIZES_RM("adc");
SIZES_RM("sub");
SIZES_IMM("sub");
SIZES_IMM8("sub");
SIZES_RM("sbb");
SIZES_RM("cmp");
SIZES_IMM("cmp");
SIZES_IMM8("cmp");
FORM("test %al, (%rbx)");
FORM("test %ax, (%rbx)");
FORM("test %eax, (%rbx)");
FORM("test %rax, (%rbx)");
FORM("testb $0x11, (%rbx)");
FORM("testw $0x1111, (%rbx)");
FORM("testl $0x88888888, (%rbx)");
FORM("testq $0x7f000001, (%rbx)");
FORM("incb (%rbx)");
FORM("incl (%rbx)");
FORM("decw (%rbx)");
FORM("decq (%rbx)");
FORM("notl (%rbx)");
FORM("notq (%rbx)");
FORM("negb (%rbx)");
FORM("negl (%rbx)");
FORM("lock addl $5, (%rbx)");
FORM("lock decl (%rbx)");

FORM("xchg %al, (%rbx)");
FORM("xchg %ax, (%rbx)");
FORM("xchg %eax, (%rbx)");
FORM("xchg %rax, (%rbx)");
FORM("xadd %eax, (%rbx)");
FORM("lock xadd %rax, (%rbx)");
FORM("lock cmpxchg %ecx, (%rbx)");
FORM("mov (%rbx), %eax; lock cmpxchg %ecx, (%rbx)");
FORM("mov (%rbx), %rax; lock cmpxchg %rcx, (%rbx)");
FORM("mov (%rbx), %al; cmpxchg %cl, (%rbx)");

FORM("btl $5, (%rbx)");
FORM("btsl $31, (%rbx)");
FORM("btrw $3, (%rbx)");
FORM("btcq $63, (%rbx)");
FORM("bts %ebp, (%rbx)");

FORM("stosb");
FORM("stosw");
FORM("stosl");
FORM("stosq");
FORM("lodsb");
FORM("lodsl");
FORM("lodsq");
FORM("movsb");
FORM("movsl");
FORM("mov %rbp, %rcx; rep stosb");
FORM("mov %rbp, %rcx; rep stosl");
FORM("mov %rbp, %rcx; rep stosq");
FORM("mov %rbp, %rcx; rep movsb");
FORM("mov %rbp, %rcx; rep movsl");
FORM("mov %rbp, %rcx; rep movsq");
FORM("mov %rbp, %rcx; std; rep movsl; cld");
FORM("xor %ecx, %ecx; rep stosl");
FORM("mov %rbp, %rcx; mov %r10, %rsi; rep movsb");
FORM("mov %rbp, %rcx; mov %r10, %rsi; rep movsl");
FORM("mov %rbp, %rcx; mov %r10, %rdi; rep movsb");
FORM("mov %rbp, %rcx; mov %r10, %rdi; rep movsw");
FORM("mov %rbp, %rcx; mov %r10, %rdi; rep movsq");

FORM("movdqu (%rbx), %xmm0; movq %xmm0, %rax");
FORM("movaps (%rbx), %xmm1; movhlps %xmm1, %xmm0; movq %xmm0, %rax");
FORM("movq %rax, %xmm2; punpcklqdq %xmm2, %xmm2; movdqu %xmm2, (%rbx)");
FORM("movq %rax, %xmm3; punpcklqdq %xmm3, %xmm3; movaps %xmm3, (%rbx)");

/* MMX registers. */
FORM("movq %rax, %mm0; movq %mm0, (%rbx); movq 8(%rbx), %mm1; movq %mm1, %rcx; emms");

/* The stack in the device. */
FORM("mov %rbx, %rsp; push %rax; pop %rcx");
FORM("mov %rbx, %rsp; call 1f; 1: pop %rcx");
FORM("mov %rbx, %rsp; lea 1f(%rip), %rax; push %rax; ret; hlt; 1: nop");
FORM("mov %rbx, %rsp; lea 1f(%rip), %rax; push %rax; ret $16; hlt; 1: nop");
FORM("mov %rbx, %rbp; leave");
FORM("mov %rbx, %rsp; enter $0x20, $0");
FORM("mov %rbx, %rsp; push $0x6d7; popf; pushf; pop %rcx");
FORM("mov %rbx, %rsp; push %fs; pop %gs; mov %gs, %ecx");

/* Branches through the device. */
FORM("lea 1f(%rip), %rax; mov %rax, (%rbx); jmp *(%rbx); hlt; 1: nop");
FORM("lea 1f(%rip), %rax; mov %rax, (%rbx); call *(%rbx); hlt; 1: pop %rcx");
FORM("lea 1f(%rip), %rax; mov %eax, (%rbx); mov %cs, 4(%rbx); ljmp *(%rbx); hlt; 1: nop");

/* Selectors and tables in the device. */
FORM("mov %ds, (%rbx); mov (%rbx), %fs; mov %fs, %ecx");
FORM("movw $0, (%rbx); mov (%rbx), %gs; mov %gs, %ecx; mov %ds, %eax; mov %eax, %gs");
FORM("mov %ss, (%rbx); mov (%rbx), %ss; mov $7, %ecx");
FORM("mov %ds, 4(%rbx); lgs (%rbx), %eax");
FORM("str (%rbx)");
FORM("sldt (%rbx)");
FORM("smsw (%rbx)");
FORM("movw $0, (%rbx); lldt (%rbx); sldt %ecx");
FORM("sgdt (%r10); mov 2(%r10), %rsi; str %ecx; andb $0xfd, 5(%rsi, %rcx); "
     "mov %cx, (%rbx); ltr (%rbx); mov 5(%rsi, %rcx), %al");

FORM32("mov %eax, (%ebx)");
FORM32("mov (%ebx), %eax");
FORM32("movl $0x12345678, 4(%ebx, %ebp, 4)");
FORM32("mov 0xd0000080, %eax; mov %eax, 0xd0000090");
FORM32("mov 0xd0000080, %al; mov %ax, 0xd0000091");
FORM32("mov %cx, 2(%ebx)");
FORM32("movzbl (%ebx), %edx");
FORM32("orl $0x100, (%ebx)");
FORM32("incl (%ebx)");
FORM32("xchg %ecx, (%ebx)");
FORM32("mov %ebp, %ecx; rep stosl");
FORM32("mov %ebp, %ecx; mov %esp, %esi; rep movsl");
FORM32("testb $4, 3(%ebx)");
FORM32("cmpl $0x400, (%ebx)");
FORM32("mov %ds, 4(%ebx); les (%ebx), %eax");
FORM32("call 1f; 1: pop %edx; add $(2f - 1b), %edx; mov %edx, (%ebx); mov %cs, 4(%ebx); "
       "ljmp *(%ebx); hlt; 2: nop");

/* What stock KVM does not execute, or not as the processor does. */
extern const struct form __start_more[], __stop_more[];
extern const struct form __start_more32[], __stop_more32[];

#define MORE(text)	FORM_IN("more", "64", text)
#define MORE32(text)	FORM_IN("more32", "32", text)

MORE("movq %rax, %mm2; movd %mm2, (%rbx); movd 8(%rbx), %mm3; movq %mm3, %rcx; emms");
MORE("mov %rbx, %rsp; mov %cs, %eax; push %rax; lea 1f(%rip), %rax; push %rax; "
     "lretq; hlt; 1: nop");
MORE("sgdt (%rbx)");
MORE("sgdt (%rbx); lgdt (%rbx); mov %ds, %eax; mov %eax, %fs; sgdt 32(%rbx)");
MORE("sidt (%rbx); lidt (%rbx); sidt 32(%rbx)");
MORE32("sgdt (%ebx); lgdt (%ebx); mov %ds, %eax; mov %eax, %fs; sgdt 32(%ebx)");
MORE32("mov %ebx, %esp; xor %ebx, %ebx; xor %esi, %esi; xor %edi, %edi; pusha; "
       "movl $0, 12(%esp); movl $3, 8(%esp); popa");
/* Whether the upper half of the slot is written differs among CPUs. */
MORE32("mov %ebx, %esp; movl $0, -4(%esp); push %ds; pop %es; mov %es, %ecx");
MORE32("mov %ebx, %ebp; leave");

static void seed_window(u8 *window)
{
	for (u32 i = 0; i < WINDOW; i++)
		window[i] = i * 89 + 0x42;
}

/* The device: plain memory, one access of up to eight bytes at a time. */
static void serve(struct guest *g, u8 *device)
{
	struct kvm_run *run = g->run;
	u64 offset = run->mmio.phys_addr - GUEST_MMIO;

	if (run->mmio.phys_addr < GUEST_MMIO || !run->mmio.len ||
	    run->mmio.len > 8 || offset + run->mmio.len > WINDOW)
		die_of_exit(g, "an access to the device");
	if (run->mmio.is_write)
		memcpy(device + offset, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, device + offset, run->mmio.len);
}

struct result {
	struct kvm_regs regs;
	u8 window[WINDOW];
	u8 plain[WINDOW];
	u32 exits;
};

static void run_form(struct guest *g, const struct form *form,
		     enum guest_mode mode, bool on_mmio, u64 flags,
		     struct result *result)
{
	u64 base = on_mmio ? GUEST_MMIO : RAM_BASE;
	struct kvm_regs regs = {
		.rip = GUEST_CODE,
		.rflags = 2 | flags,
		.rsp = mode == MODE_LONG ? GUEST_STACK : PLAIN_RAM + 4,
		.rax = 0xfedcba987654321f, .rcx = 0,
		.rdx = 0x1122334455667788, .rbp = 5,
		.rbx = base + OPERAND, .rsi = base + OPERAND + 48,
		.rdi = base + OPERAND, .r8 = 8, .r9 = 0x99,
		.r10 = PLAIN_RAM + 5, .r11 = 11, .r12 = base + OPERAND,
		.r13 = base + OPERAND - 2, .r14 = 14, .r15 = 15,
	};

	memset(result, 0, sizeof(*result));
	if (mode != MODE_LONG)
		regs.rax = (u32)regs.rax, regs.rdx = (u32)regs.rdx;
	seed_window(guest_at(g, RAM_BASE));
	seed_window(guest_at(g, PLAIN_RAM));
	seed_window(result->window);
	guest_copy(g, GUEST_CODE, form->code, form->end - form->code);
	must(g->vcpu, KVM_SET_REGS, &regs);
	while (guest_run(g) == KVM_EXIT_MMIO) {
		serve(g, result->window);
		result->exits++;
	}
	if (g->run->exit_reason != KVM_EXIT_HLT)
		die_of_exit(g, form->text);
	must(g->vcpu, KVM_GET_REGS, &result->regs);
	if (!on_mmio)
		memcpy(result->window, guest_at(g, RAM_BASE), WINDOW);
	memcpy(result->plain, guest_at(g, PLAIN_RAM), WINDOW);

	/* Pointers into the window, as offsets. */
	for (u64 *r = &result->regs.rax; r <= &result->regs.r15; r++)
		if (*r - base < WINDOW)
			*r -= base;
}

static bool same_result(const struct form *form, struct result *ram,
			struct result *mmio)
{
	const bool logic = strstr(form->text, "and") ||
			   strstr(form->text, "or") ||
			   strstr(form->text, "test");
	/* AF is undefined after logic, all but CF after the bit tests. */
	u64 flags = form->text[0] == 'b' ? CARRY :
		    logic ? FLAGS & ~AUX : FLAGS;
	u64 flags_differ = (ram->regs.rflags ^ mmio->regs.rflags) & flags;
	bool same = true;

	ram->regs.rflags = mmio->regs.rflags = 0;
	for (u64 i = 0; i < sizeof(ram->regs) / 8; i++) {
		u64 left = (&ram->regs.rax)[i], right = (&mmio->regs.rax)[i];

		if (left == right)
			continue;
		same = false;
		printf("# %s: register %llu: RAM 0x%llx, MMIO 0x%llx\n",
		       form->text, i,
		       left, right);
	}
	if (flags_differ) {
		same = false;
		printf("# %s: flags 0x%llx differ\n", form->text,
		       flags_differ);
	}
	if (memcmp(ram->window, mmio->window, WINDOW) ||
	    memcmp(ram->plain, mmio->plain, WINDOW)) {
		same = false;
		printf("# %s: memory differs\n", form->text);
	}
	return same;
}

/* Absolute addresses name the device: nothing to compare them with. */
static bool is_absolute(const struct form *form)
{
	return strstr(form->text, "0xd0000") != NULL;
}

static int run_forms(const struct form *form, const struct form *end,
		     enum guest_mode mode)
{
	struct result ram, mmio;
	int failures = 0;
	struct guest g;

	guest_create(&g, 0);
	guest_mode(&g, mode, GUEST_CODE);
	for (; form < end; form++) {
		for (u64 flags = 0; flags <= CARRY; flags++) {
			run_form(&g, form, mode, true, flags, &mmio);
			if (!mmio.exits && !strstr(form->text, "xor %ecx")) {
				printf("# %s: no MMIO exit\n", form->text);
				failures++;
			}
			if (is_absolute(form))
				continue;
			run_form(&g, form, mode, false, flags, &ram);
			failures += !same_result(form, &ram, &mmio);
		}
	}
	guest_destroy(&g);
	return failures;
}

TEST(long_mode_forms)
{
	EXPECT_EQ(run_forms(__start_forms, __stop_forms, MODE_LONG), 0);
}

TEST(protected_mode_forms)
{
	EXPECT_EQ(run_forms(__start_forms32, __stop_forms32, MODE_PROTECTED),
		  0);
}

TEST(paged_32_bit_forms)
{
	EXPECT_EQ(run_forms(__start_forms32, __stop_forms32, MODE_PAGED32), 0);
}

TEST(pae_forms)
{
	EXPECT_EQ(run_forms(__start_forms32, __stop_forms32, MODE_PAE), 0);
}

TEST(forms_that_stock_kvm_lacks)
{
	if (!device_is_minikvm())
		SKIP(return, "stock KVM does not execute them as the processor does");
	EXPECT_EQ(run_forms(__start_more, __stop_more, MODE_LONG), 0);
	EXPECT_EQ(run_forms(__start_more32, __stop_more32, MODE_PAE), 0);
}

/* The sizes and values that userspace sees of simple accesses. */

static u32 guest_simple_accesses(u64 arg)
{
	volatile u8 *device = (u8 *)GUEST_MMIO;

	device[0] = 0x11;
	*(volatile u16 *)(device + 2) = 0x2233;
	*(volatile u32 *)(device + 4) = 0x44556677;
	*(volatile u64 *)(device + 8) = 0x8899aabbccddeeff;
	guest_equal(device[1], 0x91);
	guest_equal(*(volatile u16 *)(device + 2), 0x9293);
	guest_equal(*(volatile u32 *)(device + 4), 0x94959697);
	guest_equal(*(volatile u64 *)(device + 8), 0x9899a0a1a2a3a4a5);
	return 0;
}

TEST(sizes_and_values)
{
	static const struct {
		u8 offset, len, is_write;
		u64 data;
	} accesses[] = {
		{ 0, 1, 1, 0x11 }, { 2, 2, 1, 0x2233 }, { 4, 4, 1, 0x44556677 },
		{ 8, 8, 1, 0x8899aabbccddeeff },
		{ 1, 1, 0, 0x91 }, { 2, 2, 0, 0x9293 }, { 4, 4, 0, 0x94959697 },
		{ 8, 8, 0, 0x9899a0a1a2a3a4a5 },
	};
	struct guest g;

	guest_create(&g, 0);
	guest_call(&g, guest_simple_accesses, 0);
	for (size_t i = 0; i < ARRAY_SIZE(accesses); i++) {
		u64 data = 0;

		guest_run_to(&g, KVM_EXIT_MMIO);
		ASSERT_EQ(g.run->mmio.phys_addr,
			  GUEST_MMIO + accesses[i].offset);
		ASSERT_EQ(g.run->mmio.len, accesses[i].len);
		ASSERT_EQ(g.run->mmio.is_write, accesses[i].is_write);
		memcpy(&data, g.run->mmio.data, accesses[i].len);
		if (accesses[i].is_write) {
			ASSERT_EQ(data, accesses[i].data);
		} else {
			memcpy(g.run->mmio.data, &accesses[i].data, 8);
		}
	}
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

/* Half of the operand in memory, half in the device behind it. */
static u32 guest_straddles(u64 arg)
{
	volatile u64 *edge = (u64 *)(GUEST_MEM - 4);

	*edge = 0x1122334455667788;
	guest_equal(*edge, 0xaabbccdd55667788);
	return 0;
}

TEST(across_the_edge_of_memory)
{
	struct guest g;

	guest_create(&g, 0);
	guest_call(&g, guest_straddles, 0);
	guest_run_to(&g, KVM_EXIT_MMIO);
	EXPECT_EQ(g.run->mmio.phys_addr, GUEST_MEM);
	EXPECT_EQ(g.run->mmio.len, 4);
	EXPECT_TRUE(g.run->mmio.is_write);
	EXPECT_EQ(*(u32 *)g.run->mmio.data, 0x11223344);
	guest_run_to(&g, KVM_EXIT_MMIO);
	EXPECT_FALSE(g.run->mmio.is_write);
	EXPECT_EQ(*(u32 *)guest_at(&g, GUEST_MEM - 4), 0x55667788);
	*(u32 *)g.run->mmio.data = 0xaabbccdd;
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

/* An access that faults in the guest's own tables is the guest's matter. */
static u32 guest_faults_on_mmio(u64 arg)
{
	volatile u64 *pd = (u64 *)(GUEST_PD + 3 * PAGE);	/* from 3 GiB */
	const u32 i = (GUEST_MMIO - (3ul << 30)) / HUGE;
	u64 entry = pd[i], cr2;

	pd[i] = 0;
	asm volatile("invlpg (%0)" : : "r"(GUEST_MMIO) : "memory");
	guest_equal(guest_try("movl $1, (%0)", : : "r"(GUEST_MMIO) : "memory"),
		    14);
	guest_equal(guest_fault_error, 2);
	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	guest_equal(cr2, GUEST_MMIO);

	pd[i] = entry & ~2ull;		/* read-only, with CR0.WP */
	asm volatile("invlpg (%0)" : : "r"(GUEST_MMIO) : "memory");
	guest_equal(guest_try("movl $1, (%0)", : : "r"(GUEST_MMIO + 8)
			      : "memory"), 14);
	guest_equal(guest_fault_error, 3);
	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	guest_equal(cr2, GUEST_MMIO + 8);

	pd[i] = entry;
	asm volatile("invlpg (%0)" : : "r"(GUEST_MMIO) : "memory");
	mmio_write(GUEST_MMIO, 1);
	return 0;
}

TEST(page_faults_come_before_the_device)
{
	struct guest g;

	guest_create(&g, 0);
	guest_call(&g, guest_faults_on_mmio, 0);
	guest_run_to(&g, KVM_EXIT_MMIO);
	EXPECT_EQ(guest_finish(&g), 0);
	guest_destroy(&g);
}

SELFTEST_MAIN
