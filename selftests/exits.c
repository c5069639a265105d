// SPDX-License-Identifier: GPL-2.0
/*
 * Each kind of exit: what userspace gets to see of it, and what the guest sees
 * of those that the kernel handles alone.  MMIO has mmio.c, interrupts have
 * interrupts.c, MSRs have msrs.c.
 */
#include <kselftest_harness.h>
#include "guest.h"

#define PORT	0x1234
#define KVM_ENOSYS_ 1000	/* asm/kvm_para.h, "unknown hypercall" */

GUEST_FIXTURE(exits, 0)

static void expect_io(struct guest *g, u8 direction, u8 size, u32 count)
{
	guest_run_to(g, KVM_EXIT_IO);
	if (g->run->io.direction != direction || g->run->io.size != size ||
	    g->run->io.count != count || g->run->io.port != PORT)
		die_of_exit(g, "the I/O that the guest does");
}

GUEST_ASM(io_sizes, 64,
	"	mov $0x1234, %edx\n"
	"	mov $0xffeeddccbbaa9988, %rax\n"
	"	outb %al, %dx\n"
	"	outw %ax, %dx\n"
	"	outl %eax, %dx\n"
	"	outb %al, $0x42\n"
	"	inb %dx, %al\n"
	"	mov %rax, %r8\n"
	"	inw %dx, %ax\n"
	"	mov %rax, %r9\n"
	"	inl %dx, %eax\n"
	"	mov %rax, %r10\n"
	"	hlt\n");

TEST_F(exits, port_io_sizes_and_registers)
{
	struct guest *g = &self->g;
	struct kvm_regs regs;

	guest_load(g, io_sizes);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	expect_io(g, KVM_EXIT_IO_OUT, 1, 1);
	EXPECT_EQ(*(u8 *)guest_io_data(g), 0x88);
	expect_io(g, KVM_EXIT_IO_OUT, 2, 1);
	EXPECT_EQ(*(u16 *)guest_io_data(g), 0x9988);
	expect_io(g, KVM_EXIT_IO_OUT, 4, 1);
	EXPECT_EQ(*(u32 *)guest_io_data(g), 0xbbaa9988);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, 0x42);

	expect_io(g, KVM_EXIT_IO_IN, 1, 1);
	*(u8 *)guest_io_data(g) = 0x11;
	expect_io(g, KVM_EXIT_IO_IN, 2, 1);
	*(u16 *)guest_io_data(g) = 0x2233;
	expect_io(g, KVM_EXIT_IO_IN, 4, 1);
	*(u32 *)guest_io_data(g) = 0x84556677;
	guest_run_to(g, KVM_EXIT_HLT);

	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.r8, 0xffeeddccbbaa9911);
	EXPECT_EQ(regs.r9, 0xffeeddccbbaa2233);
	EXPECT_EQ(regs.r10, 0x84556677);
}

#define STRING_BYTES	5000u	/* more than a page, and no multiple of one */

GUEST_ASM(string_out, 64,
	"	rep outsb\n"
	"	hlt\n");
GUEST_ASM(string_out4, 64,
	"	rep outsl\n"
	"	hlt\n");
GUEST_ASM(string_out_down, 64,
	"	std\n"
	"	rep outsb\n"
	"	cld\n"
	"	hlt\n");
GUEST_ASM(string_in, 64,
	"	rep insb\n"
	"	hlt\n");
GUEST_ASM(string_in2, 64,
	"	rep insw\n"
	"	hlt\n");

/* Runs a string instruction; how the kernel batches it is its own choice. */
static size_t run_string(struct guest *g, u8 *data, size_t room)
{
	struct kvm_run *run = g->run;
	size_t done = 0;

	while (guest_run(g) == KVM_EXIT_IO) {
		size_t bytes = run->io.size * run->io.count;

		if (run->io.port != PORT || !bytes || done + bytes > room)
			die_of_exit(g, "a batch of the string");
		if (run->io.data_offset + bytes > g->run_size)
			die("a batch reaches beyond the PIO page");
		if (run->io.direction == KVM_EXIT_IO_OUT)
			memcpy(data + done, guest_io_data(g), bytes);
		else
			memcpy(guest_io_data(g), data + done, bytes);
		done += bytes;
	}
	if (run->exit_reason != KVM_EXIT_HLT)
		die_of_exit(g, "HLT after the string");
	return done;
}

static void start_string(struct guest *g, u64 address, u64 count)
{
	struct kvm_regs regs;

	guest_mode(g, MODE_LONG, GUEST_CODE);
	must(g->vcpu, KVM_GET_REGS, &regs);
	regs.rdx = PORT;
	regs.rcx = count;
	regs.rsi = regs.rdi = address;
	must(g->vcpu, KVM_SET_REGS, &regs);
}

static void fill(u8 *data, size_t bytes, u8 seed)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = i * 7 + (i >> 8) + seed;
}

TEST_F(exits, string_out)
{
	struct guest *g = &self->g;
	u8 *memory = guest_at(g, GUEST_DATA + 100);
	u8 got[STRING_BYTES];
	struct kvm_regs regs;

	fill(memory, STRING_BYTES, 1);
	guest_load(g, string_out);
	start_string(g, GUEST_DATA + 100, STRING_BYTES);
	ASSERT_EQ(run_string(g, got, sizeof(got)), STRING_BYTES);
	EXPECT_EQ(memcmp(got, memory, STRING_BYTES), 0);
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.rcx, 0);
	EXPECT_EQ(regs.rsi, GUEST_DATA + 100 + STRING_BYTES);
	EXPECT_EQ(regs.rip, GUEST_CODE + (string_out_end - string_out));

	guest_load(g, string_out4);
	start_string(g, GUEST_DATA + 100, STRING_BYTES / 4);
	ASSERT_EQ(run_string(g, got, sizeof(got)), STRING_BYTES);
	EXPECT_EQ(memcmp(got, memory, STRING_BYTES), 0);
}

TEST_F(exits, string_out_downwards)
{
	struct guest *g = &self->g;
	u8 *memory = guest_at(g, GUEST_DATA);
	struct kvm_regs regs;
	u8 got[64];

	fill(memory, 64, 5);
	guest_load(g, string_out_down);
	start_string(g, GUEST_DATA + 63, 64);
	ASSERT_EQ(run_string(g, got, sizeof(got)), 64);
	for (int i = 0; i < 64; i++) {
		ASSERT_EQ(got[i], memory[63 - i]);
	}
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.rsi, GUEST_DATA - 1);
}

TEST_F(exits, string_in)
{
	struct guest *g = &self->g;
	u8 *memory = guest_at(g, GUEST_DATA + 100);
	u8 give[STRING_BYTES];
	struct kvm_regs regs;

	fill(give, STRING_BYTES, 3);
	guest_load(g, string_in);
	start_string(g, GUEST_DATA + 100, STRING_BYTES);
	ASSERT_EQ(run_string(g, give, sizeof(give)), STRING_BYTES);
	EXPECT_EQ(memcmp(give, memory, STRING_BYTES), 0);
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.rcx, 0);
	EXPECT_EQ(regs.rdi, GUEST_DATA + 100 + STRING_BYTES);

	memset(memory, 0, STRING_BYTES);
	guest_load(g, string_in2);
	start_string(g, GUEST_DATA + 100, STRING_BYTES / 2);
	ASSERT_EQ(run_string(g, give, sizeof(give)), STRING_BYTES);
	EXPECT_EQ(memcmp(give, memory, STRING_BYTES), 0);
}

/* One end is a port, the other is device memory; both are @device, from @base on. */
static void run_device_string(struct guest *g, u8 *device, u64 base, u8 *port, size_t room)
{
	struct kvm_run *run = g->run;
	size_t done = 0;
	u32 reason;

	while ((reason = guest_run(g)) == KVM_EXIT_IO || reason == KVM_EXIT_MMIO) {
		if (reason == KVM_EXIT_IO) {
			size_t bytes = run->io.size * run->io.count;

			if (!bytes || done + bytes > room)
				die_of_exit(g, "a batch of the string");
			if (run->io.direction == KVM_EXIT_IO_OUT)
				memcpy(port + done, guest_io_data(g), bytes);
			else
				memcpy(guest_io_data(g), port + done, bytes);
			done += bytes;
		} else {
			u64 at = run->mmio.phys_addr - base;

			if (at + run->mmio.len > room)
				die_of_exit(g, "a piece of the string");
			if (run->mmio.is_write)
				memcpy(device + at, run->mmio.data, run->mmio.len);
			else
				memcpy(run->mmio.data, device + at, run->mmio.len);
		}
	}
	if (reason != KVM_EXIT_HLT)
		die_of_exit(g, "HLT after the string");
}

TEST_F(exits, string_between_port_and_device)
{
	u8 device[100] = { 0 }, port[100];

	fill(port, sizeof(port), 4);
	guest_load(&self->g, string_in);
	start_string(&self->g, GUEST_MMIO, sizeof(port));
	run_device_string(&self->g, device, GUEST_MMIO, port, sizeof(port));
	EXPECT_EQ(memcmp(device, port, sizeof(port)), 0);

	fill(device, sizeof(device), 5);
	guest_load(&self->g, string_out4);
	start_string(&self->g, GUEST_MMIO, sizeof(port) / 4);
	run_device_string(&self->g, device, GUEST_MMIO, port, sizeof(port));
	EXPECT_EQ(memcmp(device, port, sizeof(port)), 0);
}

TEST_F(exits, string_of_nothing)
{
	u8 none[1];

	guest_load(&self->g, string_out);
	start_string(&self->g, GUEST_DATA, 0);
	EXPECT_EQ(run_string(&self->g, none, 0), 0);
}

GUEST_ASM(halts, 64,
	"	sti\n"
	"	hlt\n"
	"	cli\n"
	"	hlt\n");

TEST_F(exits, hlt_and_run_fields)
{
	struct guest *g = &self->g;

	guest_load(g, halts);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_run_to(g, KVM_EXIT_HLT);
	EXPECT_EQ(guest_rip(g), GUEST_CODE + 2);
	EXPECT_EQ(g->run->if_flag, 1);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(g->run->cr8, 0);
	EXPECT_NE(g->run->apic_base, 0);
	guest_run_to(g, KVM_EXIT_HLT);
	EXPECT_EQ(guest_rip(g), GUEST_CODE + 4);
	EXPECT_EQ(g->run->if_flag, 0);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 0);
}

GUEST_ASM(fetch_mmio, 64,
	"	mov $0xd0000000, %eax\n"
	"	jmp *%rax\n");

TEST_F(exits, code_fetch_from_mmio_is_an_internal_error)
{
	struct guest *g = &self->g;

	guest_load(g, fetch_mmio);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_run_to(g, KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(g->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_EQ(guest_rip(g), GUEST_MMIO);
}

/* CPUID: what userspace set, leaf by leaf. */

static u32 guest_reads_cpuid(u64 arg)
{
	u32 regs[4];

	guest_cpuid(0x40000000, 0, regs);
	guest_equal(regs[0], 0x40000001);
	guest_equal(regs[1], 0x11111111);
	guest_equal(regs[2], 0x22222222);
	guest_equal(regs[3], 0x33333333);
	guest_cpuid(0xb, 1, regs);
	guest_equal(regs[1], 0x0b01);
	guest_cpuid(0xb, 0, regs);
	guest_equal(regs[1], 0x0b00);
	guest_cpuid(0x40000001, 77, regs);	/* its index is not looked at */
	guest_equal(regs[0], 0xfea7);
	return 0;
}

TEST_F(exits, cpuid_is_what_userspace_set)
{
	struct guest *g = &self->g;
	struct {
		struct kvm_cpuid2 header;
		struct kvm_cpuid_entry2 entries[6];
	} cpuid = {
		.header.nent = 6,
		.entries = {
			{ .function = 0, .eax = 0xd, .ebx = 0x756e6547,
			  .ecx = 0x6c65746e, .edx = 0x49656e69 },
			{ .function = 0x80000000, .eax = 0x80000008 },
			{ .function = 0x40000000, .eax = 0x40000001,
			  .ebx = 0x11111111, .ecx = 0x22222222,
			  .edx = 0x33333333 },
			{ .function = 0x40000001, .eax = 0xfea7 },
			{ .function = 0xb, .index = 0, .ebx = 0x0b00,
			  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
			{ .function = 0xb, .index = 1, .ebx = 0x0b01,
			  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
		},
	};

	/* No long mode in there: set it once the guest is in it. */
	guest_call(g, guest_reads_cpuid, 0);
	must(g->vcpu, KVM_SET_CPUID2, &cpuid);
	EXPECT_EQ(guest_finish(g), 0);

	/* What a guest has read stays so; the same once more is no change. */
	must(g->vcpu, KVM_SET_CPUID2, &cpuid);
	cpuid.entries[0].ebx ^= 1;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_CPUID2, &cpuid)), -EINVAL);
}

/*
 * Code that exits, then other code at the same address: by a write, by another
 * page-table entry, by a table on the way. The instructions differ in length.
 */

#define MOVED_CODE	0x30000000ul

static void call_cpuid(void)
{
	u32 regs[4];

	asm volatile("call *%4" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3])
		     : "r"(MOVED_CODE), "0"(0), "2"(0) : "memory");
	guest_check(regs[1]);
}

static void map_code(volatile u64 *entry, u64 to)
{
	*entry = to | 3;
	asm volatile("invlpg (%0)" : : "r"(MOVED_CODE) : "memory");
}

static u32 guest_moves_code(u64 arg)
{
	static const u8 code[] = { 0x3e, 0x3e, 0x3e, 0x0f, 0xa2, 0xc3 };
	volatile u64 *pd = (u64 *)GUEST_PD + (MOVED_CODE >> 21);
	volatile u64 *table = (u64 *)GUEST_DATA, *other = (u64 *)(GUEST_DATA + PAGE);
	volatile u8 *page = (u8 *)(GUEST_DATA + 2 * PAGE);
	u64 was = *pd;

	/* Four pages, each with a prefix more before the CPUID. */
	for (u32 prefixes = 0; prefixes < 4; prefixes++)
		for (u32 i = 0; i < 3 + prefixes; i++)
			page[prefixes * PAGE + i] = code[3 - prefixes + i];
	for (u32 round = 0; round < 3; round++) {
		table[0] = (GUEST_DATA + 2 * PAGE) | 3;
		other[0] = (GUEST_DATA + 3 * PAGE) | 3;
		map_code(pd, (u64)table);
		call_cpuid();
		map_code(table, GUEST_DATA + 4 * PAGE);
		call_cpuid();
		map_code(pd, (u64)other);
		call_cpuid();
		map_code(other, GUEST_DATA + 5 * PAGE);
		call_cpuid();
		/* The same page with the prefixes overwritten, and back. */
		for (u32 i = 0; i < 3; i++)
			page[3 * PAGE + i] = code[3 + i];
		call_cpuid();
		for (u32 i = 0; i < sizeof(code); i++)
			page[3 * PAGE + i] = code[i];
		call_cpuid();
	}
	map_code(pd, was);
	return 0;
}

TEST_F(exits, code_that_moves)
{
	guest_call(&self->g, guest_moves_code, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

/* Hypercalls: an unknown number, and nothing but rax changes. */

static u32 guest_hypercalls(u64 arg)
{
	u64 rax = 0x7fff, rbx = 1, rcx = 2, rdx = 3, rsi = 4;

	if (guest_is_amd())
		asm volatile("vmmcall" : "+a"(rax), "+b"(rbx), "+c"(rcx),
			     "+d"(rdx), "+S"(rsi) : : "memory");
	else
		asm volatile("vmcall" : "+a"(rax), "+b"(rbx), "+c"(rcx),
			     "+d"(rdx), "+S"(rsi) : : "memory");
	guest_equal(rax, -KVM_ENOSYS_);
	guest_equal(rbx, 1);
	guest_equal(rcx, 2);
	guest_equal(rdx, 3);
	guest_equal(rsi, 4);
	return 0;
}

TEST_F(exits, unknown_hypercall)
{
	guest_call(&self->g, guest_hypercalls, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

/* Control registers. */

#define READ_CR(n) ({ \
	u64 cr_; asm volatile("mov %%cr" #n ", %0" : "=r"(cr_)); cr_; })
#define TRY_CR(n, value) \
	guest_try("mov %0, %%cr" #n, : : "r"((u64)(value)) : "memory")

static u32 guest_control_registers(u64 arg)
{
	u64 cr0 = READ_CR(0), cr3 = READ_CR(3), cr4 = READ_CR(4);

	guest_equal(cr0, CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
	guest_equal(cr3, GUEST_CR3);
	guest_equal(cr4, CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT);

	guest_equal(TRY_CR(0, cr0 | CR0_TS | CR0_AM), NO_FAULT);
	guest_equal(READ_CR(0), cr0 | CR0_TS | CR0_AM);
	asm volatile("clts");
	guest_equal(READ_CR(0), cr0 | CR0_AM);
	asm volatile("lmsw %w0" : : "r"(cr0 | CR0_TS));
	guest_equal(READ_CR(0), cr0 | CR0_AM | CR0_TS);
	asm volatile("lmsw %w0" : : "r"(0));	/* cannot clear PE */
	guest_equal(READ_CR(0) & 0xf, CR0_PE);
	guest_equal(TRY_CR(0, cr0 | CR0_CD), NO_FAULT);
	guest_equal(READ_CR(0), cr0 | CR0_CD);
	guest_equal(TRY_CR(0, cr0), NO_FAULT);

	guest_equal(TRY_CR(0, cr0 & ~CR0_PE), 13);
	guest_equal(TRY_CR(0, (cr0 & ~CR0_CD) | CR0_NW), 13);
	guest_equal(TRY_CR(0, cr0 & ~CR0_PG), 13);	/* in 64-bit code */
	guest_equal(READ_CR(0), cr0);

	guest_equal(TRY_CR(4, cr4 | CR4_TSD | CR4_DE | CR4_PGE), NO_FAULT);
	guest_equal(READ_CR(4), cr4 | CR4_TSD | CR4_DE | CR4_PGE);
	guest_equal(TRY_CR(4, cr4), NO_FAULT);
	guest_equal(TRY_CR(4, cr4 & ~CR4_PAE), 13);
	guest_equal(TRY_CR(4, cr4 | BIT(31)), 13);
	guest_equal(READ_CR(4), cr4);

	guest_equal(TRY_CR(3, cr3 | 0x18), NO_FAULT);
	guest_equal(READ_CR(3), cr3 | 0x18);
	guest_equal(TRY_CR(3, cr3), NO_FAULT);

	guest_equal(TRY_CR(8, 9), NO_FAULT);
	guest_equal(READ_CR(8), 9);
	guest_equal(TRY_CR(8, 16), 13);
	guest_sync(0);
	guest_equal(READ_CR(8), 5);
	guest_equal(TRY_CR(8, 0), NO_FAULT);
	return 0;
}

TEST_F(exits, control_registers)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_control_registers, 0);
	/* Without an irqchip in the kernel, a lowered CR8 may exit. */
	g->run->cr8 = 0;
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(g->run->cr8, 9);
	g->run->cr8 = 5;
	if (guest_run(g) == KVM_EXIT_SET_TPR) {
		EXPECT_EQ(g->run->cr8, 0);
		guest_run(g);
	}
	EXPECT_EQ(g->run->exit_reason, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, PORT_DONE);
}

/* Debug registers: the guest's own, also over exits. */

#define READ_DR(n) ({ \
	u64 dr_; asm volatile("mov %%db" #n ", %0" : "=r"(dr_)); dr_; })
#define TRY_DR(n, value) \
	guest_try("mov %0, %%db" #n, : : "r"((u64)(value)) : "memory")

static u32 guest_debug_registers(u64 arg)
{
	guest_equal(READ_DR(6), 0xffff0ff0);
	guest_equal(READ_DR(7), 0x400);
	for (int round = 0; round < 2; round++) {
		guest_equal(TRY_DR(0, 0x1000 + round), NO_FAULT);
		guest_equal(TRY_DR(1, 0x2000 + round), NO_FAULT);
		guest_equal(TRY_DR(2, 0x3000 + round), NO_FAULT);
		guest_equal(TRY_DR(3, 0x4000 + round), NO_FAULT);
		guest_sync(0);
		guest_equal(READ_DR(0), 0x1000 + round);
		guest_equal(READ_DR(1), 0x2000 + round);
		guest_equal(READ_DR(2), 0x3000 + round);
		guest_equal(READ_DR(3), 0x4000 + round);
	}
	guest_equal(TRY_DR(7, BIT(32)), 13);
	guest_equal(TRY_DR(6, BIT(32)), 13);
	return 0;
}

static volatile u64 watched;
static volatile u64 debug_status;
static volatile u32 debug_traps;

static void guest_debug_trap(struct guest_frame *frame)
{
	debug_status = READ_DR(6);
	debug_traps++;
	asm volatile("mov %0, %%db6" : : "r"(0xffff0ff0ul));
}

static u32 guest_breakpoints(u64 arg)
{
	guest_handlers[1] = guest_debug_trap;
	guest_equal(TRY_DR(0, (uintptr_t)&watched), NO_FAULT);
	guest_sync(0);
	guest_equal(TRY_DR(7, 0x000d0402), NO_FAULT);	/* G0, write, 4 bytes */
	watched = 1;
	guest_equal(debug_traps, 1);
	guest_equal(debug_status & 0xf, 1);
	guest_sync(0);			/* armed over a trip to userspace */
	watched = 2;
	guest_equal(debug_traps, 2);
	guest_equal(TRY_DR(7, 0x400), NO_FAULT);
	watched = 3;
	guest_equal(debug_traps, 2);

	/* Single step: one trap for each of the two instructions. */
	asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop;"
		     "pushfq; andl $~0x100, (%%rsp); popfq" : : : "memory");
	guest_check(debug_status & BIT(14));
	return debug_traps;
}

TEST_F(exits, debug_registers)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_debug_registers, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(guest_finish(g), 0);
}

TEST_F(exits, hardware_breakpoint_and_single_step)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_breakpoints, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_GE(guest_finish(g), 4);
}

/* XSETBV */

static u32 try_xsetbv(u32 index, u64 value)
{
	return guest_try("xsetbv", : : "c"(index), "a"((u32)value),
			 "d"((u32)(value >> 32)) : "memory");
}

static u32 guest_xsetbv(u64 arg)
{
	u32 regs[4];

	guest_cpuid(1, 0, regs);
	if (!(regs[2] & BIT(26)))
		return 1;
	guest_cpuid(1, 0, regs);
	guest_check(!(regs[2] & BIT(27)));
	guest_equal(TRY_CR(4, READ_CR(4) | CR4_OSXSAVE), NO_FAULT);
	guest_cpuid(1, 0, regs);
	guest_check(regs[2] & BIT(27));		/* CPUID follows CR4 */
	guest_equal(try_xsetbv(0, 1), NO_FAULT);
	guest_equal(try_xsetbv(0, 0), 13);	/* x87 is not optional */
	guest_equal(try_xsetbv(0, 5), 13);	/* AVX wants SSE */
	guest_equal(try_xsetbv(0, 1 | BIT(62)), 13);
	guest_equal(try_xsetbv(7, 1), 13);	/* there is no XCR7 */
	return 0;
}

TEST_F(exits, xsetbv)
{
	guest_call(&self->g, guest_xsetbv, 0);
	if (guest_finish(&self->g))
		SKIP(return, "the guest's CPUID has no XSAVE");
}

/* Instructions with intercepts of their own that simply have to go on. */

static u32 guest_plain_intercepts(u64 arg)
{
	u32 low, high;

	asm volatile("wbinvd" : : : "memory");
	asm volatile("invd" : : : "memory");
	asm volatile("invlpg (%0)" : : "r"(GUEST_FREE) : "memory");
	asm volatile("pause");
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	asm volatile("sldt %%ax" : "=a"(low));
	guest_equal(guest_try("ud2", ), 6);
	guest_equal(guest_try("int3", ), 3);
	guest_equal(guest_try("rsm", ), 6);
	guest_equal(guest_try("hlt; int $0x77", ), 0x77);
	return 0;
}

TEST_F(exits, instructions_that_just_go_on)
{
	struct guest *g = &self->g;

	guest_call(g, guest_plain_intercepts, 0);
	guest_run_to(g, KVM_EXIT_HLT);
	EXPECT_EQ(guest_finish(g), 0);
}

/*
 * The guest has neither VMX nor SVM switched on: all of these are #UD.  QEMU 10
 * has an AMD processor take VMX's for something else, so Intel alone has them.
 */

static u32 guest_virtualization_instructions(u64 arg)
{
	u64 rax = GUEST_DATA;

	guest_equal(guest_try("vmrun", : : "a"(rax) : "memory"), 6);
	guest_equal(guest_try("vmload", : : "a"(rax) : "memory"), 6);
	guest_equal(guest_try("vmsave", : : "a"(rax) : "memory"), 6);
	guest_equal(guest_try("stgi", : : : "memory"), 6);
	guest_equal(guest_try("clgi", : : : "memory"), 6);
	guest_equal(guest_try("invlpga", : : "a"(rax), "c"(0) : "memory"), 6);
	if (guest_is_amd())
		return 0;
	guest_equal(guest_try("vmxon (%0)", : : "r"(&rax) : "memory"), 6);
	guest_equal(guest_try("vmptrld (%0)", : : "r"(&rax) : "memory"), 6);
	guest_equal(guest_try("vmclear (%0)", : : "r"(&rax) : "memory"), 6);
	guest_equal(guest_try("vmread %0, %0", : "+r"(rax) : : "memory"), 6);
	guest_equal(guest_try("vmwrite %0, %0", : : "r"(rax) : "memory"), 6);
	guest_equal(guest_try("vmlaunch", : : : "memory"), 6);
	guest_equal(guest_try("vmresume", : : : "memory"), 6);
	guest_equal(guest_try("vmxoff", : : : "memory"), 6);
	return 0;
}

TEST_F(exits, virtualization_instructions_are_undefined)
{
	guest_call(&self->g, guest_virtualization_instructions, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

SELFTEST_MAIN
