// SPDX-License-Identifier: GPL-2.0
/*
 * The executor's stack, branches, segments and tables, and what its privilege checks
 * refuse: the rules of "Instruction Set Reference", SDM vol. 2, a case for each.
 */
#include "world.h"

/* A descriptor with base 0x345678 and limit 0xfffff; @type with P, DPL and S; flags in @more. */
static void describe(unsigned int sel, u8 type, u64 more)
{
	u64 desc = 0x000f00345678ffffULL | (u64)type << 40 | more;

	memcpy(w.ram + GDT + (sel & ~7), &desc, 8);
}

static u8 type_of(unsigned int sel)
{
	return w.ram[GDT + (sel & ~7) + 5];
}

/* The next instruction must fault with an error code that names @sel. */
static bool refused(struct mk_exec *x, u8 vector, u16 sel)
{
	return mk_exec(x) == MK_EXEC_FAULT && x->fault.vector == vector && x->fault.has_error &&
	       x->fault.error == sel && x->cpu.rip == 0x100;
}

static void set_word(u64 at, u16 val)
{
	memcpy(w.ram + at, &val, 2);
}

#define MOV_DS()	SETUP(MK_MODE_32, 0x8e, 0x1b)	/* mov ds,[ebx] */
#define MOV_SS()	SETUP(MK_MODE_32, 0x8e, 0x13)	/* mov ss,[ebx] */

static void segment_loads(void)
{
	struct mk_exec x;
	unsigned int waits;

	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x92, 0xcULL << 52);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_DS].sel == 0x10 && seg[MK_DS].base == 0x345678 &&
	   seg[MK_DS].limit == 0xffffffff && seg[MK_DS].ar == 0xc093 && type_of(0x10) == 0x93 &&
	   x.cpu.rip == 0x102 && !x.cpu.mov_ss,
	   "exec: MOV DS takes base, limit and attributes, and marks the descriptor");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x93, 0);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_DS].limit == 0xfffff && w.access == MK_ACC_READ,
	   "exec: a limit in bytes; one that is marked is not written");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x92, 0);
	w.raced = true;
	ok(mk_exec(&x) == MK_EXEC_RETRY && !seg[MK_DS].sel,
	   "exec: it is marked atomically, or the guest tries again");
	MOV_DS();
	gpr[MK_RBX] = DEVICE;
	describe(0, 0x92, 0);
	ok(run(&x, &waits) == MK_EXEC_OK && waits == 1 && seg[MK_DS].ar & MK_AR_UNUSABLE,
	   "exec: a selector from a device, and the null selector for DS");
	MOV_DS();
	set_word(0, 0x80);
	ok(refused(&x, X86_TRAP_GP, 0x80), "exec: beyond the GDT is #GP(selector)");
	MOV_DS();
	set_word(0, 0x13);
	describe(0x10, 0x92, 0);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: RPL above DPL is");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x92, 0);
	x.cpu.cpl = 3;
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: CPL above DPL is");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x9e, 0);
	x.cpu.cpl = 3;
	ok(mk_exec(&x) == MK_EXEC_OK, "exec: a conforming code segment that is readable can be had");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x98, 0);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: one for execution only cannot");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x82, 0);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: nor can an LDT");
	MOV_DS();
	set_word(0, 0x10);
	describe(0x10, 0x12, 0);
	ok(refused(&x, X86_TRAP_NP, 0x10) && type_of(0x10) == 0x12, "exec: not present is #NP(selector)");
	MOV_DS();
	set_word(0, 0x0c);
	seg[MK_LDTR] = (struct mk_seg){ .base = GDT + 0x20, .limit = 0xf, .ar = MK_AR_P | MK_TYPE_LDT };
	describe(0x28, 0x92, 0);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_DS].sel == 0x0c && type_of(0x28) == 0x93,
	   "exec: from the LDT");
	MOV_DS();
	set_word(0, 0x0c);
	seg[MK_LDTR].ar = MK_AR_UNUSABLE;
	ok(refused(&x, X86_TRAP_GP, 0x0c), "exec: from an LDT that is not there");
	MOV_DS();
	set_word(0, 0x10);
	gdt.base = ABSENT;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_PF && x.fault.cr2 == ABSENT + 0x10,
	   "exec: from a GDT that is not mapped");

	MOV_SS();
	set_word(0, 0x10);
	describe(0x10, 0x92, 0x4ULL << 52);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_SS].sel == 0x10 && x.cpu.mov_ss,
	   "exec: MOV SS, and the shadow that it casts");
	MOV_SS();
	set_word(0, 0x10);
	describe(0x10, 0x90, 0);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: SS must be writable");
	MOV_SS();
	set_word(0, 0x13);
	describe(0x10, 0xf2, 0);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: and of our own privilege");
	MOV_SS();
	set_word(0, 0x10);
	describe(0x10, 0x12, 0);
	ok(refused(&x, X86_TRAP_SS, 0x10), "exec: and present, or it is #SS");
	MOV_SS();
	ok(refused(&x, X86_TRAP_GP, 0), "exec: and not null");
	SETUP(MK_MODE_64, 0x8e, 0x13);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_SS].ar == MK_AR_UNUSABLE, "exec: but in 64-bit mode");
	SETUP(MK_MODE_64, 0x8e, 0x13);
	set_word(0, 3);
	ok(refused(&x, X86_TRAP_GP, 0), "exec: there with the RPL of the CPL");
	ok(mk_insn_decode(&x.insn, (const u8 *)"\x8e\x0b", 2, MK_MODE_32) == MK_INSN_INVALID,
	   "exec: MOV CS is no instruction");

	SETUP(MK_MODE_16, 0x8e, 0x1f);				/* mov ds,[bx] */
	set_word(0, 0x1234);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_DS].base == 0x12340 && seg[MK_DS].limit == 0xffff,
	   "exec: in real mode a selector is a paragraph");
	SETUP(MK_MODE_32, 0x0f, 0xb5, 0x03);			/* lgs eax,[ebx] */
	set_word(0, 0xbeef);
	set_word(2, 0xdead);
	set_word(4, 0x10);
	describe(0x10, 0x92, 0);
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0xdeadbeef && seg[MK_GS].sel == 0x10,
	   "exec: LGS");
	SETUP(MK_MODE_32, 0x1f);				/* pop ds */
	gpr[MK_RSP] = 0x1000;
	set_word(0x1000, 0x10);
	describe(0x10, 0x92, 0);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_DS].sel == 0x10 && gpr[MK_RSP] == 0x1004, "exec: POP DS");
	SETUP(MK_MODE_64, 0x0f, 0xa8);				/* push gs */
	gpr[MK_RSP] = 0x1000;
	memset(w.ram + 0xff0, 0xff, 16);
	seg[MK_GS].sel = 0x33;
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0xff8) == 0x33, "exec: PUSH GS");
	SETUP(MK_MODE_64, 0x8c, 0x2b);				/* mov [rbx],gs */
	memset(w.ram, 0xff, 8);
	seg[MK_GS].sel = 0x33;
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0) == 0xffffffffffff0033, "exec: MOV from GS writes two bytes");
}

static void system_loads(void)
{
	struct mk_exec x;

	SETUP(MK_MODE_64, 0x0f, 0x00, 0x1b);			/* ltr [rbx] */
	set_word(0, 0x20);
	describe(0x20, 0x89, 0);
	set_word(GDT + 0x28, 0x7fff);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_TR].base == 0x7fff00345678 && seg[MK_TR].ar == 0x8b &&
	   type_of(0x20) == 0x8b, "exec: LTR takes 64 bits of base and makes the TSS busy");
	SETUP(MK_MODE_64, 0x0f, 0x00, 0x1b);
	set_word(0, 0x20);
	describe(0x20, 0x8b, 0);
	ok(refused(&x, X86_TRAP_GP, 0x20), "exec: one that is busy is refused");
	SETUP(MK_MODE_64, 0x0f, 0x00, 0x1b);
	set_word(0, 0x78);
	describe(0x78, 0x89, 0);
	ok(refused(&x, X86_TRAP_GP, 0x78), "exec: its 16 bytes must be in the GDT");
	SETUP(MK_MODE_64, 0x0f, 0x00, 0x1b);
	set_word(0, 0x20);
	describe(0x20, 0x89, 0);
	set_word(GDT + 0x2a, 0x8000);
	ok(refused(&x, X86_TRAP_GP, 0x20), "exec: and its base canonical");
	SETUP(MK_MODE_64, 0x0f, 0x00, 0x1b);
	ok(refused(&x, X86_TRAP_GP, 0), "exec: and not null");
	SETUP(MK_MODE_64, 0x0f, 0x00, 0x1b);
	x.cpu.cpl = 3;
	set_word(0, 0x20);
	describe(0x20, 0x89, 0);
	ok(refused(&x, X86_TRAP_GP, 0) && type_of(0x20) == 0x89, "exec: LTR is the supervisor's");
	SETUP(MK_MODE_32, 0x0f, 0x00, 0x13);			/* lldt [ebx] */
	set_word(0, 0x20);
	describe(0x20, 0x82, 0);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_LDTR].sel == 0x20 && seg[MK_LDTR].base == 0x345678 &&
	   type_of(0x20) == 0x82, "exec: LLDT");
	SETUP(MK_MODE_32, 0x0f, 0x00, 0x13);
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_LDTR].ar & MK_AR_UNUSABLE, "exec: LLDT of null");
	SETUP(MK_MODE_32, 0x0f, 0x00, 0x13);
	set_word(0, 0x24);
	ok(refused(&x, X86_TRAP_GP, 0x24), "exec: LLDT from the LDT");

	SETUP(MK_MODE_64, 0x0f, 0x01, 0x13);			/* lgdt [rbx] */
	memcpy(w.ram, "\x34\x12\xcd\xab\x78\x56\x34\x12\x00\x00", 10);
	ok(mk_exec(&x) == MK_EXEC_OK && gdt.limit == 0x1234 && gdt.base == 0x12345678abcd, "exec: LGDT");
	SETUP(MK_MODE_64, 0x0f, 0x01, 0x1b);			/* lidt [rbx] */
	memset(w.ram, 0x80, 10);
	ok(refused(&x, X86_TRAP_GP, 0) && !idt.base && !idt.limit, "exec: LIDT of what is not canonical");
	SETUP(MK_MODE_32, 0x66, 0x0f, 0x01, 0x1b);		/* lidt [ebx], 16 bits */
	memset(w.ram, 0x12, 10);
	ok(mk_exec(&x) == MK_EXEC_OK && idt.base == 0x121212 && idt.limit == 0x1212,
	   "exec: LIDT with 24 bits of base");
	SETUP(MK_MODE_32, 0x0f, 0x01, 0x13);
	x.cpu.cpl = 3;
	ok(refused(&x, X86_TRAP_GP, 0) && gdt.base == GDT, "exec: LGDT is the supervisor's");
	SETUP(MK_MODE_32, 0x0f, 0x01, 0x03);			/* sgdt [ebx] */
	x.cpu.cpl = 3;
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0) == (GDT << 16 | 0x7f), "exec: SGDT is everybody's");
	SETUP(MK_MODE_64, 0x0f, 0x01, 0x23);			/* smsw [rbx] */
	memset(w.ram, 0xff, 8);
	x.cpu.cr0 = 0x80050033;
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0) == 0xffffffffffff0033, "exec: SMSW writes two bytes");
	SETUP(MK_MODE_64, 0x0f, 0x00, 0x08);			/* str [rax] */
	seg[MK_TR].sel = 0x40;
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0) == 0x40, "exec: STR");
}

/* The five, to memory and to a register, and what is nearly one of them */
static void umip(void)
{
	static const struct {
		const char *name;
		u8 bytes[3], len;
		bool forbidden;
	} insns[] = {
		{ "SGDT",		{ 0x0f, 0x01, 0x03 }, 3, true },
		{ "SIDT",		{ 0x0f, 0x01, 0x0b }, 3, true },
		{ "SLDT",		{ 0x0f, 0x00, 0x03 }, 3, true },
		{ "SLDT of a register",	{ 0x0f, 0x00, 0xc3 }, 3, true },
		{ "STR",		{ 0x0f, 0x00, 0x0b }, 3, true },
		{ "STR of a register",	{ 0x0f, 0x00, 0xcb }, 3, true },
		{ "SMSW",		{ 0x0f, 0x01, 0x23 }, 3, true },
		{ "SMSW of a register",	{ 0x0f, 0x01, 0xe3 }, 3, true },
		{ "MOV from DS",	{ 0x8c, 0x1b }, 2, false },
	};
	static const u8 modes[] = { MK_MODE_64, MK_MODE_32, MK_MODE_16 };
	struct mk_exec x;
	unsigned int i, n;
	bool good, fault;

	for (i = 0; i < sizeof(insns) / sizeof(insns[0]); i++) {
		good = true;
		/* three modes, four rings, without and with it */
		for (n = 0; n < 3 * 4 * 2; n++) {
			setup(&x, modes[n % 3], insns[i].bytes, insns[i].len);
			x.cpu.cpl = n / 3 % 4;
			x.cpu.cr4 = n < 12 ? 0 : X86_CR4_UMIP;
			x.cpu.cr0 |= X86_CR0_MP;
			seg[MK_LDTR].sel = seg[MK_TR].sel = seg[MK_DS].sel = idt.limit = 0x28;
			fault = insns[i].forbidden && x.cpu.cr4 && x.cpu.cpl;
			good &= fault ? refused(&x, X86_TRAP_GP, 0) : mk_exec(&x) == MK_EXEC_OK;
			good &= fault == (!w.ram[0] && !gpr[MK_RBX]);
		}
		ok(good, "exec: %s and CR4.UMIP", insns[i].name);
	}
}

static void stacks(void)
{
	struct mk_exec x;
	unsigned int waits;

	SETUP(MK_MODE_64, 0xc2, 0x10, 0x00);			/* ret 16 */
	gpr[MK_RSP] = DEVICE;
	ok(run(&x, &waits) == MK_EXEC_OK && waits == 1 && !x.cpu.rip && gpr[MK_RSP] == DEVICE + 24,
	   "exec: RET from a stack in a device");
	SETUP(MK_MODE_64, 0xc3);
	memset(w.ram, 0x80, 8);
	ok(refused(&x, X86_TRAP_GP, 0) && !gpr[MK_RSP], "exec: RET to what is not canonical");
	SETUP(MK_MODE_64, 0xe8, 0xfb, 0xff, 0xff, 0xff);	/* call itself */
	gpr[MK_RSP] = 0x1000;
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x100 && ram64(0xff8) == 0x105, "exec: CALL");
	SETUP(MK_MODE_64, 0xc8, 0x20, 0x00, 0x00);		/* enter 32, 0 */
	gpr[MK_RSP] = DEVICE + 0x100;
	gpr[MK_RBP] = 0x1122334455667788;
	ok(mk_exec(&x) == MK_EXEC_USER && gpr[MK_RSP] == DEVICE + 0x100, "exec: ENTER waits");
	ok(run(&x, &waits) == MK_EXEC_OK && gpr[MK_RBP] == DEVICE + 0xf8 &&
	   gpr[MK_RSP] == DEVICE + 0xd8 && w.notes[0].data[0] == 0x88, "exec: and reserves its frame");
	SETUP(MK_MODE_64, 0xc9);				/* leave */
	gpr[MK_RBP] = 0x1000;
	w.ram[0x1000] = 5;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RBP] == 5 && gpr[MK_RSP] == 0x1008, "exec: LEAVE");
	SETUP(MK_MODE_32, 0x60);				/* pusha */
	gpr[MK_RSP] = 0x1000;
	gpr[MK_RAX] = 1;
	gpr[MK_RDI] = 8;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RSP] == 0xfe0 && w.ram[0xfe0] == 8 &&
	   w.ram[0xffc] == 1 && w.ram[0xfed] == 0x10, "exec: PUSHA, with ESP as it was");
	x.insn.op = MK_OP_POPA;
	memset(gpr, 0, sizeof(gpr));
	gpr[MK_RSP] = 0xfe0;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RSP] == 0x1000 && gpr[MK_RAX] == 1 && gpr[MK_RDI] == 8,
	   "exec: POPA");
	SETUP(MK_MODE_64, 0x9d);				/* popf */
	w.ram[1] = 0x7f;
	x.cpu.cpl = 3;
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rflags == (0x4d00 | X86_EFLAGS_FIXED),
	   "exec: a program's POPF changes neither IF nor IOPL");
	SETUP(MK_MODE_64, 0x9d);
	w.ram[1] = 0x7f;
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rflags == (0x7f00 | X86_EFLAGS_FIXED),
	   "exec: the supervisor's does");
	SETUP(MK_MODE_64, 0x9c);				/* pushf */
	gpr[MK_RSP] = 0x1000;
	x.cpu.rflags |= X86_EFLAGS_RF | X86_EFLAGS_ZF;
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0xff8) == (X86_EFLAGS_FIXED | X86_EFLAGS_ZF),
	   "exec: PUSHF pushes no RF");
}

static void far_branches(void)
{
	struct mk_exec x;

	SETUP(MK_MODE_64, 0x48, 0xff, 0x2b);			/* jmp far [rbx], 64 bits */
	set_word(0, 0x5000);
	set_word(8, 0x10);
	describe(0x10, 0x9a, 0x2ULL << 52);
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x5000 && seg[MK_CS].sel == 0x10 &&
	   seg[MK_CS].ar == 0x209b && !gpr[MK_RSP], "exec: JMP far");
	SETUP(MK_MODE_64, 0xff, 0x2b);				/* jmp far [rbx], 32 bits */
	set_word(0, 0x5000);
	set_word(4, 0x10);
	describe(0x10, 0x9a, 0x2ULL << 52);
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x5000, "exec: whose offset is 32 bits without REX");
	SETUP(MK_MODE_64, 0xff, 0x2b);
	set_word(2, 0x10);
	set_word(4, 0x10);
	describe(0x10, 0x9a, 0x4ULL << 52);
	ok(refused(&x, X86_TRAP_GP, 0), "exec: out of 64-bit mode the limit counts");
	SETUP(MK_MODE_64, 0xff, 0x2b);
	set_word(4, 0x10);
	describe(0x10, 0x9a, 0x6ULL << 52);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: L and D together are refused");
	SETUP(MK_MODE_64, 0xff, 0x2b);
	set_word(4, 0x10);
	describe(0x10, 0xfa, 0x2ULL << 52);
	ok(refused(&x, X86_TRAP_GP, 0x10), "exec: and another privilege is");
	SETUP(MK_MODE_64, 0xff, 0x2b);
	set_word(4, 0x13);
	describe(0x10, 0x9e, 0x2ULL << 52);
	x.cpu.cpl = 3;
	ok(mk_exec(&x) == MK_EXEC_OK && seg[MK_CS].sel == 0x13, "exec: but to a conforming segment");
	SETUP(MK_MODE_64, 0xff, 0x2b);
	set_word(4, 0x10);
	describe(0x10, 0x8c, 0);
	ok(mk_exec(&x) == MK_EXEC_UNSUPPORTED, "exec: a call gate is not its business");
	SETUP(MK_MODE_64, 0xff, 0x2b);
	ok(refused(&x, X86_TRAP_GP, 0), "exec: null is #GP(0)");
	SETUP(MK_MODE_32, 0xff, 0x1b);				/* call far [ebx] */
	gpr[MK_RSP] = 0x1000;
	seg[MK_CS].sel = 8;
	set_word(4, 0x10);
	describe(0x10, 0x9a, 0x4ULL << 52);
	ok(mk_exec(&x) == MK_EXEC_OK && !x.cpu.rip && ram64(0xff8) == 0x800000102, "exec: CALL far");
	SETUP(MK_MODE_32, 0xca, 0x04, 0x00);			/* retf 4 */
	gpr[MK_RSP] = 0xff8;
	memcpy(w.ram + 0xff8, "\x02\x01\x00\x00\x10", 5);
	describe(0x10, 0x9a, 0x4ULL << 52);
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x102 && seg[MK_CS].sel == 0x10 &&
	   gpr[MK_RSP] == 0x1004, "exec: RETF");
	SETUP(MK_MODE_32, 0xcb);
	w.ram[4] = 0x13;
	ok(mk_exec(&x) == MK_EXEC_UNSUPPORTED, "exec: to less privilege is not its business");
	SETUP(MK_MODE_16, 0xff, 0x2f);				/* jmp far [bx] */
	set_word(0, 0x10);
	set_word(2, 0xf000);
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x10 && seg[MK_CS].base == 0xf0000,
	   "exec: JMP far in real mode");
}

static void forbidden_ports(void)
{
	struct mk_exec x;
	static const struct {
		u8 mode, cpl, iopl;
		bool vm, good;
		const char *what;
	} cases[] = {
		{ MK_MODE_32, 3, 3, false, true, "IOPL allows all ports" },
		{ MK_MODE_32, 2, 1, false, false, "below it the TSS has a bit for each" },
		{ MK_MODE_32, 0, 0, false, true, "the supervisor has IOPL" },
		{ MK_MODE_16, 3, 3, true, false, "virtual-8086 mode always asks the TSS" },
		{ MK_MODE_16, 0, 0, false, true, "real mode has none" },
	};
	unsigned int i;

	for (i = 0; i < NR(cases); i++) {
		SETUP(cases[i].mode, 0xed);			/* in eax,dx; or ax */
		x.cpu.cpl = cases[i].cpl;
		x.cpu.rflags |= cases[i].iopl << X86_EFLAGS_IOPL_BIT | (cases[i].vm ? X86_EFLAGS_VM : 0);
		x.cpu.cr0 = cases[i].vm ? X86_CR0_PE : x.cpu.cr0;
		seg[MK_TR] = (struct mk_seg){ .base = TSS, .limit = 0x200, .ar = MK_AR_P | 0xb };
		set_word(TSS + 102, 0x68);
		gpr[MK_RDX] = 0x47e;
		set_word(TSS + 0x68 + 0x8f, 0x0080);
		ok(cases[i].good ? mk_exec(&x) == MK_EXEC_OK : refused(&x, X86_TRAP_GP, 0),
		   "exec: ports: %s", cases[i].what);
	}
	SETUP(MK_MODE_32, 0xec);				/* in al,dx */
	x.cpu.cpl = 3;
	seg[MK_TR] = (struct mk_seg){ .base = TSS, .limit = 0x200, .ar = MK_AR_P | 0xb };
	set_word(TSS + 102, 0x68);
	gpr[MK_RDX] = 0x47e;
	ok(mk_exec(&x) == MK_EXEC_OK, "exec: ports: and where it is clear the port is allowed");
	x.cpu.rip = 0x100;
	gpr[MK_RDX] = 0xffff;
	ok(refused(&x, X86_TRAP_GP, 0), "exec: ports: beyond the TSS all are forbidden");
}

void control_tests(void)
{
	segment_loads();
	system_loads();
	umip();
	stacks();
	far_branches();
	forbidden_ports();
}
