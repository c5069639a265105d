// SPDX-License-Identifier: GPL-2.0
/*
 * What native.c cannot ask of the CPU it runs on: segments and modes, faults,
 * ports, vector moves, and that an instruction which has to wait or fails
 * leaves no trace and can start again.
 */
#include "world.h"

static void segments(void)
{
	struct mk_exec x;

	SETUP(MK_MODE_16, 0x8b, 0x02);				/* mov ax,[bp+si] */
	gpr[MK_RBP] = 0xfff0;
	gpr[MK_RSI] = 0x20;
	seg[MK_SS].base = 0x1000;
	w.ram[0x1010] = 0x34;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0x34,
	   "exec: 16-bit address wraps, BP means SS");

	SETUP(MK_MODE_16, 0x8b, 0x07);				/* mov ax,[bx] */
	gpr[MK_RBX] = 0xffff;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_GP && x.fault.has_error &&
	   !x.fault.error && x.cpu.rip == 0x100, "exec: a word across the limit is #GP(0)");

	SETUP(MK_MODE_16, 0x8b, 0x46, 0x00);			/* mov ax,[bp] */
	gpr[MK_RBP] = 0xffff;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_SS,
	   "exec: the same in SS is #SS(0)");

	SETUP(MK_MODE_32, 0x89, 0x03);				/* mov [ebx],eax */
	seg[MK_DS].ar &= ~MK_TYPE_WRITE;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_GP,
	   "exec: a read-only segment refuses writes");

	SETUP(MK_MODE_32, 0x2e, 0x8b, 0x03);			/* mov eax,cs:[ebx] */
	ok(mk_exec(&x) == MK_EXEC_OK, "exec: a readable code segment can be read");
	seg[MK_CS].ar &= ~MK_TYPE_WRITE;
	ok(mk_exec(&x) == MK_EXEC_FAULT, "exec: one that is not readable cannot");
	SETUP(MK_MODE_32, 0x2e, 0x89, 0x03);			/* mov cs:[ebx],eax */
	ok(mk_exec(&x) == MK_EXEC_FAULT, "exec: a code segment cannot be written");

	SETUP(MK_MODE_32, 0x8b, 0x03);
	seg[MK_DS].ar |= MK_TYPE_DOWN;
	seg[MK_DS].limit = 0xfff;
	gpr[MK_RBX] = 0xfff;
	ok(mk_exec(&x) == MK_EXEC_FAULT, "exec: expand-down ends at its limit");
	gpr[MK_RBX] = 0x1000;
	ok(mk_exec(&x) == MK_EXEC_OK, "exec: and begins above it");

	SETUP(MK_MODE_32, 0x8b, 0x03);
	seg[MK_DS].ar |= MK_AR_UNUSABLE;
	ok(mk_exec(&x) == MK_EXEC_FAULT, "exec: a null segment refuses");

	SETUP(MK_MODE_32, 0x8b, 0x03);
	seg[MK_DS].base = 0xffffff00;
	gpr[MK_RBX] = 0x200;
	w.ram[0x100] = 0x77;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0x77, "exec: 32-bit linear addresses wrap");

	SETUP(MK_MODE_64, 0x8b, 0x03);
	seg[MK_DS].base = 0x1000;
	seg[MK_DS].ar |= MK_AR_UNUSABLE;
	gpr[MK_RBX] = 0x100;
	w.ram[0x100] = 0x55;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0x55, "exec: 64-bit mode ignores DS");
	SETUP(MK_MODE_64, 0x65, 0x8b, 0x03);
	seg[MK_GS].base = 0x1000;
	w.ram[0x1000] = 0x66;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0x66, "exec: but not GS");

	SETUP(MK_MODE_64, 0x8b, 0x03);
	gpr[MK_RBX] = 0x7ffffffffffd;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_GP,
	   "exec: the last byte must be canonical, too");
	x.cpu.cr4 = X86_CR4_LA57;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_PF,
	   "exec: with 57 bits it is");

	SETUP(MK_MODE_64, 0x67, 0x8b, 0x43, 0x10);		/* mov eax,[ebx+16] */
	gpr[MK_RBX] = 0xfffffffff0;
	w.ram[0] = 0x11;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0x11, "exec: 32-bit addresses in 64-bit mode");
	SETUP(MK_MODE_64, 0x8b, 0x05, 0x10, 0, 0, 0);		/* mov eax,[rip+16] */
	w.ram[0x116] = 0x22;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RAX] == 0x22, "exec: RIP-relative");
	SETUP(MK_MODE_64, 0x8b, 0x03);
	x.cpu.cpl = 3;
	ok(mk_exec(&x) == MK_EXEC_OK && w.access == MK_ACC_USER, "exec: CPL 3 is a user access");
	SETUP(MK_MODE_32, 0x8b, 0x03);
	x.cpu.rip = 0xfffffffe;
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0, "exec: EIP wraps");
}

static void restart(void)
{
	struct mk_exec x;
	unsigned int waits;

	SETUP(MK_MODE_64, 0x01, 0x03);				/* add [rbx],eax */
	gpr[MK_RBX] = DEVICE;
	gpr[MK_RAX] = 5;
	ok(mk_exec(&x) == MK_EXEC_USER && w.nr == 1 && !w.notes[0].write &&
	   w.access == MK_ACC_WRITE && x.cpu.rip == 0x100,
	   "exec: a read that waits changes nothing, and tells that a write will follow");
	w.notes[0].done = true;
	w.notes[0].data[0] = 10;
	ok(run(&x, &waits) == MK_EXEC_OK && w.nr == 2 && w.notes[1].write &&
	   w.notes[1].data[0] == 15 && x.cpu.rip == 0x102, "exec: the second start writes the sum");

	SETUP(MK_MODE_64, 0xa5);				/* movsd */
	gpr[MK_RSI] = DEVICE;
	gpr[MK_RDI] = DEVICE + 0x100;
	ok(run(&x, &waits) == MK_EXEC_OK && waits == 2 && gpr[MK_RSI] == DEVICE + 4 &&
	   gpr[MK_RDI] == DEVICE + 0x104, "exec: from device to device waits twice");

	SETUP(MK_MODE_64, 0xf3, 0xa4);				/* rep movsb */
	gpr[MK_RSI] = 0x10;
	gpr[MK_RDI] = DEVICE;
	gpr[MK_RCX] = 2;
	ok(run(&x, &waits) == MK_EXEC_REPEAT && gpr[MK_RCX] == 1 && gpr[MK_RDI] == DEVICE + 1 &&
	   x.cpu.rip == 0x100, "exec: REP stops after each iteration");
	w.nr = 0;
	ok(run(&x, &waits) == MK_EXEC_OK && !gpr[MK_RCX] && x.cpu.rip == 0x102,
	   "exec: and moves on after the last one");

	SETUP(MK_MODE_64, 0xa4);				/* movsb */
	gpr[MK_RSI] = 0x10;
	gpr[MK_RDI] = ABSENT;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_PF && x.fault.cr2 == ABSENT &&
	   x.fault.error == X86_PF_WRITE && gpr[MK_RSI] == 0x10 && x.cpu.rip == 0x100,
	   "exec: a page fault is the guest's and leaves the registers");

	SETUP(MK_MODE_64, 0x8f, 0x04, 0x24);			/* pop [rsp] */
	gpr[MK_RSP] = 0x1000;
	w.ram[0x1000] = 9;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RSP] == 0x1008 && w.ram[0x1008] == 9,
	   "exec: POP [RSP] means RSP after the pop");
	SETUP(MK_MODE_64, 0x8f, 0x03);				/* pop [rbx] */
	gpr[MK_RSP] = 0x1000;
	gpr[MK_RBX] = ABSENT;
	ok(mk_exec(&x) == MK_EXEC_FAULT && gpr[MK_RSP] == 0x1000, "exec: a POP that faults pops nothing");

	SETUP(MK_MODE_64, 0xf0, 0x01, 0x03);			/* lock add [rbx],eax */
	w.raced = true;
	ok(mk_exec(&x) == MK_EXEC_RETRY && x.cpu.rip == 0x100,
	   "exec: an atomic access that lost its race is tried again");
	SETUP(MK_MODE_64, 0x87, 0x03);				/* xchg [rbx],eax */
	w.raced = true;
	ok(mk_exec(&x) == MK_EXEC_RETRY, "exec: XCHG is atomic without LOCK");
	SETUP(MK_MODE_64, 0x01, 0x03);
	w.raced = true;
	ok(mk_exec(&x) == MK_EXEC_OK, "exec: ADD is not");

	SETUP(MK_MODE_64, 0x0f, 0xae, 0x3b);			/* clflush [rbx] */
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x103, "exec: CLFLUSH does nothing");
	SETUP(MK_MODE_64, 0x0f, 0xae, 0x03);			/* fxsave [rbx] */
	ok(mk_exec(&x) == MK_EXEC_UNSUPPORTED && x.cpu.rip == 0x100,
	   "exec: what it does not know it leaves alone");
}

static void ports(void)
{
	struct mk_exec x;
	unsigned int waits;

	SETUP(MK_MODE_64, 0xe5, 0x80);				/* in eax,0x80 */
	gpr[MK_RAX] = ~0ULL;
	memcpy(w.port_data, "\x01\x02\x03\x04", 4);
	w.port_waits = true;
	ok(run(&x, &waits) == MK_EXEC_OK && waits == 1 && gpr[MK_RAX] == 0x04030201 &&
	   w.port == 0x80 && w.port_size == 4 && w.port_count == 1, "exec: IN from an immediate port");

	SETUP(MK_MODE_16, 0xef);				/* out dx,ax */
	gpr[MK_RAX] = 0x1234;
	gpr[MK_RDX] = 0x103f8;
	ok(mk_exec(&x) == MK_EXEC_OK && w.port == 0x3f8 && w.port_size == 2 &&
	   w.port_data[0] == 0x34 && w.port_data[1] == 0x12, "exec: OUT to DX");

	SETUP(MK_MODE_64, 0xf3, 0x6e);				/* rep outsb */
	gpr[MK_RSI] = 0xff0;
	gpr[MK_RCX] = 100;
	memset(w.ram + 0xff0, 0x5a, 0x10);
	ok(mk_exec(&x) == MK_EXEC_REPEAT && w.port_count == 16 && w.port_data[15] == 0x5a &&
	   gpr[MK_RSI] == 0x1000 && gpr[MK_RCX] == 84, "exec: REP OUTS goes to the end of the page");
	ok(mk_exec(&x) == MK_EXEC_REPEAT && w.port_count == sizeof(bounce) && gpr[MK_RCX] == 20,
	   "exec: then as far as the buffer");
	ok(mk_exec(&x) == MK_EXEC_OK && w.port_count == 20 && !gpr[MK_RCX] && w.port_calls == 3,
	   "exec: then to its end");

	SETUP(MK_MODE_64, 0xf3, 0x6d);				/* rep insd */
	gpr[MK_RDI] = 0x200;
	gpr[MK_RCX] = 3;
	memset(w.port_data, 0xc3, 12);
	w.port_waits = true;
	ok(run(&x, &waits) == MK_EXEC_OK && waits == 1 && w.port_count == 3 &&
	   gpr[MK_RDI] == 0x20c && w.ram[0x20b] == 0xc3 && !w.ram[0x20c], "exec: REP INS");

	SETUP(MK_MODE_64, 0xf3, 0x6d);
	x.cpu.rflags |= X86_EFLAGS_DF;
	gpr[MK_RDI] = 0x200;
	gpr[MK_RCX] = 3;
	ok(mk_exec(&x) == MK_EXEC_REPEAT && w.port_count == 1 && gpr[MK_RDI] == 0x1fc,
	   "exec: REP INS downwards, one at a time");

	SETUP(MK_MODE_64, 0xf3, 0x6c);				/* rep insb */
	gpr[MK_RDI] = DEVICE;
	gpr[MK_RCX] = 40;
	mk_exec(&x);
	ok(w.port_count == 1 && w.nr == 1 && w.notes[0].write && w.notes[0].size == 1,
	   "exec: REP INS to a device, one at a time, and nothing read there");

	SETUP(MK_MODE_64, 0xf3, 0x6f);				/* rep outsl */
	gpr[MK_RSI] = DEVICE;
	gpr[MK_RCX] = 40;
	mk_exec(&x);
	ok(w.nr == 1 && w.notes[0].size == 4, "exec: REP OUTS from a device, one at a time");

	SETUP(MK_MODE_64, 0x6c);				/* insb */
	gpr[MK_RDI] = ABSENT;
	ok(mk_exec(&x) == MK_EXEC_FAULT && !w.port_calls && x.fault.error == X86_PF_WRITE,
	   "exec: INS into nowhere faults before it reads the port");

	SETUP(MK_MODE_32, 0x6d);				/* insd */
	seg[MK_ES].base = TOP;
	gpr[MK_RDI] = 0xffe;
	ok(mk_exec(&x) == MK_EXEC_OK && w.port_calls == 1,
	   "exec: INS across 4 GiB goes on at address 0");

	SETUP(MK_MODE_32, 0xf3, 0x6e);
	gpr[MK_RSI] = 0x20;
	gpr[MK_RCX] = 10;
	seg[MK_DS].limit = 0x24;
	ok(mk_exec(&x) == MK_EXEC_REPEAT && w.port_count == 1, "exec: REP OUTS near a limit, one at a time");

	SETUP(MK_MODE_16, 0xf3, 0x6c);				/* rep insb, CX 0 */
	gpr[MK_RCX] = 0x10000;
	ok(mk_exec(&x) == MK_EXEC_OK && !w.port_calls && gpr[MK_RCX] == 0x10000,
	   "exec: REP counts in CX with 16-bit addresses");
}

static void vectors(void)
{
	struct mk_exec x;

	SETUP(MK_MODE_64, 0xf3, 0x0f, 0x6f, 0x0b);		/* movdqu xmm1,[rbx] */
	gpr[MK_RBX] = 0x101;
	memset(w.ram + 0x101, 0xab, 16);
	ok(mk_exec(&x) == MK_EXEC_OK && w.vec[1][0] == 0xab && w.vec[1][15] == 0xab, "exec: MOVDQU load");
	SETUP(MK_MODE_64, 0x66, 0x0f, 0x7f, 0x0b);		/* movdqa [rbx],xmm1 */
	gpr[MK_RBX] = 0x101;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_GP,
	   "exec: MOVDQA wants 16-byte alignment");
	SETUP(MK_MODE_64, 0x66, 0x0f, 0x7f, 0x0b);
	gpr[MK_RBX] = 0x110;
	memset(w.vec[1], 0xcd, 16);
	ok(mk_exec(&x) == MK_EXEC_OK && w.ram[0x110] == 0xcd && w.ram[0x11f] == 0xcd && !w.ram[0x120],
	   "exec: MOVDQA store");
	SETUP(MK_MODE_64, 0xf3, 0x0f, 0x7e, 0x0b);		/* movq xmm1,[rbx] */
	memset(w.vec[1], 0xff, 16);
	memset(w.ram, 0x12, 16);
	ok(mk_exec(&x) == MK_EXEC_OK && w.vec[1][7] == 0x12 && !w.vec[1][8],
	   "exec: MOVQ load clears the upper half");
	SETUP(MK_MODE_64, 0x66, 0x0f, 0x7e, 0x0b);		/* movd [rbx],xmm1 */
	memset(w.vec[1], 0x34, 16);
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0) == 0x34343434, "exec: MOVD store");
	SETUP(MK_MODE_64, 0x0f, 0x28, 0xc1);			/* movaps xmm0,xmm1 */
	ok(mk_exec(&x) == MK_EXEC_UNSUPPORTED, "exec: moves between vector registers are not its business");

	SETUP(MK_MODE_64, 0x0f, 0x6f, 0x13);			/* movq mm2,[rbx] */
	memset(w.ram, 0x56, 16);
	ok(mk_exec(&x) == MK_EXEC_OK && w.mmx[2][7] == 0x56, "exec: MOVQ load of an MMX register");
	SETUP(MK_MODE_64, 0x45, 0x0f, 0x7f, 0x10);		/* movq [r8],mm2, with REX.R */
	memset(w.mmx[2], 0x78, 8);
	ok(mk_exec(&x) == MK_EXEC_OK && ram64(0) == 0x7878787878787878 && !w.ram[8],
	   "exec: MOVQ store of one, there are but eight");
	SETUP(MK_MODE_64, 0x0f, 0x6e, 0x13);			/* movd mm2,[rbx] */
	memset(w.mmx[2], 0xff, 8);
	ok(mk_exec(&x) == MK_EXEC_OK && !w.mmx[2][0] && !w.mmx[2][7], "exec: MOVD clears the upper half");
	SETUP(MK_MODE_64, 0x0f, 0x7f, 0x13);
	w.x87_exception = true;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_MF && !x.fault.has_error &&
	   x.cpu.rip == 0x100, "exec: an exception of the x87 comes first");
}

static void branches(void)
{
	struct mk_exec x;

	SETUP(MK_MODE_64, 0xff, 0x13);				/* call [rbx] */
	gpr[MK_RSP] = 0x1000;
	w.ram[1] = 0x20;
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x2000 && gpr[MK_RSP] == 0xff8 &&
	   ram64(0xff8) == 0x102, "exec: CALL through memory");
	SETUP(MK_MODE_64, 0xff, 0x23);				/* jmp [rbx] */
	memset(w.ram, 0x7f, 8);
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_GP && x.cpu.rip == 0x100,
	   "exec: JMP to what is not canonical");
	SETUP(MK_MODE_16, 0xff, 0x27);				/* jmp [bx] */
	w.ram[1] = 0x30;
	w.ram[2] = 0xff;
	ok(mk_exec(&x) == MK_EXEC_OK && x.cpu.rip == 0x3000, "exec: JMP through memory, 16 bits");
	SETUP(MK_MODE_16, 0xff, 0x37);				/* push [bx] */
	gpr[MK_RSP] = 0xabcd0002;
	w.ram[0x10] = 7;
	gpr[MK_RBX] = 0x10;
	ok(mk_exec(&x) == MK_EXEC_OK && gpr[MK_RSP] == 0xabcd0000 && w.ram[0] == 7,
	   "exec: PUSH with a 16-bit stack leaves the rest of ESP");
	SETUP(MK_MODE_32, 0xff, 0x33);				/* push [ebx] */
	gpr[MK_RSP] = 0x1000;
	seg[MK_SS].limit = 0xffb;
	ok(mk_exec(&x) == MK_EXEC_FAULT && x.fault.vector == X86_TRAP_SS && gpr[MK_RSP] == 0x1000,
	   "exec: PUSH beyond the stack segment is #SS(0)");
}

static u32 random32(void)
{
	static u64 seed = 1;

	seed = seed * 6364136223846793005 + 1442695040888963407;
	return seed >> 32;
}

static int random_status(struct mk_exec *x, void *buf, unsigned int size, bool fill)
{
	static const u8 statuses[] = { MK_EXEC_FAULT, MK_EXEC_USER, MK_EXEC_RETRY };
	unsigned int i;

	x->fault.vector = X86_TRAP_PF;
	for (i = 0; fill && i < size; i++)
		((u8 *)buf)[i] = random32();
	return random32() % 4 ? MK_EXEC_OK : statuses[random32() % NR(statuses)];
}

static int random_read(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access)
{
	(void)gva;
	(void)access;
	return random_status(x, buf, size, true);
}

static int random_write(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
			const void *old, u32 access)
{
	(void)gva;
	(void)access;
	(void)old;
	return random_status(x, (void *)buf, size, false);
}

static int random_probe(struct mk_exec *x, u64 gva, u32 access, bool *device)
{
	(void)gva;
	(void)access;
	*device = random32() & 1;
	return random_status(x, NULL, 0, false);
}

static int random_in(struct mk_exec *x, u16 port, void *buf, unsigned int size, unsigned int count)
{
	(void)port;
	return random_status(x, buf, size * count, true);
}

static int random_out(struct mk_exec *x, u16 port, const void *buf, unsigned int size,
		      unsigned int count)
{
	(void)port;
	return random_status(x, (void *)buf, size * count, false);
}

static const struct mk_exec_ops random_ops = {
	.read = random_read, .write = random_write, .probe = random_probe,
	.in = random_in, .out = random_out,
	.get_vec = test_get_vec, .set_vec = test_set_vec,
	.get_mmx = test_get_mmx, .set_mmx = test_set_mmx,
};

/* Whatever the instruction, the registers and the callbacks' answers: all or nothing. */
static void random_instructions(void)
{
	static const u8 modes[] = { MK_MODE_16, MK_MODE_32, MK_MODE_64 };
	static const u8 prefixes[] = { 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x65, 0x48, 0x41 };
	unsigned int i, j, seen[MK_EXEC_UNSUPPORTED + 1] = { 0 };
	bool good = true;

	for (i = 0; i < 400000 && good; i++) {
		u8 bytes[MK_INSN_MAX], mode = modes[i % NR(modes)];
		u64 before[MK_NR_GPR], rflags, rip;
		struct mk_seg seg_before[MK_NR_SEG];
		struct mk_exec x;
		int status;

		for (j = 0; j < MK_INSN_MAX; j++)
			bytes[j] = random32();
		for (j = random32() % 4; j > 0; j--)
			bytes[j - 1] = prefixes[random32() % NR(prefixes)];
		if (random32() % 3 == 0)
			bytes[3] = 0x0f;
		setup(&x, mode, (const u8 *)"\x90", 1);
		if (mk_insn_decode(&x.insn, bytes, sizeof(bytes), mode) != MK_INSN_OK)
			continue;
		x.ops = &random_ops;
		x.cpu.cpl = random32() % 4;
		x.cpu.rflags = rflags = random32() & ~X86_EFLAGS_RF;
		for (j = 0; j < MK_NR_GPR; j++)
			gpr[j] = (u64)random32() << (random32() % 33);
		memcpy(before, gpr, sizeof(gpr));
		memcpy(seg_before, seg, sizeof(seg));
		rip = x.cpu.rip;
		status = mk_exec(&x);
		seen[status]++;
		if (status == MK_EXEC_OK)
			continue;
		good = x.cpu.rip == rip;
		if (status != MK_EXEC_REPEAT)
			good &= x.cpu.rflags == rflags && !memcmp(before, gpr, sizeof(gpr)) &&
				!memcmp(seg_before, seg, sizeof(seg)) && gdt.base == GDT && !idt.limit;
		if (!good)
			note("opcode %x/%02x op %u status %d", x.insn.map, x.insn.opcode, x.insn.op,
			     status);
	}
	for (j = 0; j <= MK_EXEC_UNSUPPORTED; j++)
		good = good && seen[j];
	ok(good, "exec: random instructions change all or nothing, %u executed, %u refused",
	   seen[MK_EXEC_OK], seen[MK_EXEC_UNSUPPORTED]);
}

void exec_tests(void)
{
	random_instructions();
	segments();
	restart();
	ports();
	vectors();
	branches();
}
