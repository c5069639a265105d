// SPDX-License-Identifier: GPL-2.0
/*
 * The real CPU as the oracle of the executor: the same random instruction, on
 * the same registers, flags and memory, runs once natively and once in
 * mk_exec(). They must agree in everything that the architecture defines.
 *
 * What the manual leaves undefined is masked out: undefined_flags().
 */
#define _GNU_SOURCE
#include <asm/processor-flags.h>
#include <asm/trapnr.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "logic/exec.h"
#include "tap.h"

#define ROUNDS	3000	/* random cases for each line of encodings[] */
#define MEM	8192	/* bytes that an instruction can reach */
#define ARITH	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | \
		 X86_EFLAGS_SF | X86_EFLAGS_OF)

struct state {
	u64 gpr[MK_NR_GPR];
	u64 rflags;
	u64 vec[16][2];
};

void native_run(struct state *s, const void *code);
extern char native_back[];

/*
 * Loads all registers from *s, jumps to the code, which ends with a jump to
 * native_back, and stores them again. MOV touches no flags.
 */
asm(".pushsection .text\n"
    ".globl native_run, native_back\n"
    "native_run:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	mov %rsi, native_code(%rip)\n"
    "	mov %rdi, native_state(%rip)\n"
    "	mov %rsp, native_rsp(%rip)\n"
    "	push 128(%rdi)\n"
    "	popfq\n"
    "	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "	movups 136 + 16 * \\n(%rdi), %xmm\\n\n"
    "	.endr\n"
    "	mov 0(%rdi), %rax\n	mov 8(%rdi), %rcx\n	mov 16(%rdi), %rdx\n"
    "	mov 24(%rdi), %rbx\n	mov 32(%rdi), %rsp\n	mov 40(%rdi), %rbp\n"
    "	mov 48(%rdi), %rsi\n	mov 64(%rdi), %r8\n	mov 72(%rdi), %r9\n"
    "	mov 80(%rdi), %r10\n	mov 88(%rdi), %r11\n	mov 96(%rdi), %r12\n"
    "	mov 104(%rdi), %r13\n	mov 112(%rdi), %r14\n	mov 120(%rdi), %r15\n"
    "	mov 56(%rdi), %rdi\n"
    "	jmp *native_code(%rip)\n"
    "native_back:\n"
    "	mov %rax, native_rax(%rip)\n"
    "	mov native_state(%rip), %rax\n"
    "	mov %rcx, 8(%rax)\n	mov %rdx, 16(%rax)\n	mov %rbx, 24(%rax)\n"
    "	mov %rsp, 32(%rax)\n	mov %rbp, 40(%rax)\n	mov %rsi, 48(%rax)\n"
    "	mov %rdi, 56(%rax)\n	mov %r8, 64(%rax)\n	mov %r9, 72(%rax)\n"
    "	mov %r10, 80(%rax)\n	mov %r11, 88(%rax)\n	mov %r12, 96(%rax)\n"
    "	mov %r13, 104(%rax)\n	mov %r14, 112(%rax)\n	mov %r15, 120(%rax)\n"
    "	mov native_rsp(%rip), %rsp\n"
    "	pushfq\n"
    "	popq 128(%rax)\n"
    "	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "	movups %xmm\\n, 136 + 16 * \\n(%rax)\n"
    "	.endr\n"
    "	mov native_rax(%rip), %rcx\n"
    "	mov %rcx, 0(%rax)\n"
    "	cld\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n"
    ".popsection\n"
    ".lcomm native_code, 8\n.lcomm native_state, 8\n.lcomm native_rsp, 8\n"
    ".lcomm native_rax, 8\n");

static volatile sig_atomic_t trap;

/* The instruction faulted: on with native_back, where nothing has changed. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)info;
	trap = sig;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)native_back;
}

/* One opcode, or a run of them, and what may stand around it. */
struct encoding {
	const char *name;
	u8 map, first, last;
	s8 group;	/* ModRM.reg, or -1: any */
	u8 flags;
};

#define NO_MODRM BIT(0)
#define MEM_ONLY BIT(1)
#define LOCK	BIT(2)	/* LOCK is allowed with memory */
#define REP	BIT(3)	/* try F2 and F3 */
#define NO66	BIT(4)

static const struct encoding encodings[] = {
	{ "add", 0, 0x00, 0x03, -1, 0 }, { "or", 0, 0x08, 0x0b, -1, 0 },
	{ "adc", 0, 0x10, 0x13, -1, 0 }, { "sbb", 0, 0x18, 0x1b, -1, 0 },
	{ "and", 0, 0x20, 0x23, -1, 0 }, { "sub", 0, 0x28, 0x2b, -1, 0 },
	{ "xor", 0, 0x30, 0x33, -1, 0 }, { "cmp", 0, 0x38, 0x3b, -1, 0 },
	{ "add acc", 0, 0x04, 0x05, -1, NO_MODRM }, { "adc acc", 0, 0x14, 0x15, -1, NO_MODRM },
	{ "sbb acc", 0, 0x1c, 0x1d, -1, NO_MODRM }, { "cmp acc", 0, 0x3c, 0x3d, -1, NO_MODRM },
	{ "group 1", 0, 0x80, 0x81, -1, 0 }, { "group 1 imm8", 0, 0x83, 0x83, -1, 0 },
	{ "locked group 1", 0, 0x80, 0x81, 5, LOCK | MEM_ONLY },
	{ "push", 0, 0x50, 0x57, -1, NO_MODRM }, { "pop", 0, 0x58, 0x5f, -1, NO_MODRM },
	{ "push imm", 0, 0x68, 0x68, -1, NO_MODRM }, { "push imm8", 0, 0x6a, 0x6a, -1, NO_MODRM },
	{ "push rm", 0, 0xff, 0xff, 6, 0 }, { "pop rm", 0, 0x8f, 0x8f, 0, 0 },
	{ "enter", 0, 0xc8, 0xc8, -1, NO_MODRM }, { "leave", 0, 0xc9, 0xc9, -1, NO_MODRM },
	{ "push fs", 1, 0xa0, 0xa0, -1, NO_MODRM }, { "push gs", 1, 0xa8, 0xa8, -1, NO_MODRM },
	{ "mov from segment", 0, 0x8c, 0x8c, -1, 0 },
	{ "movsxd", 0, 0x63, 0x63, -1, 0 },
	{ "imul imm", 0, 0x69, 0x69, -1, 0 }, { "imul imm8", 0, 0x6b, 0x6b, -1, 0 },
	{ "test", 0, 0x84, 0x85, -1, 0 }, { "test acc", 0, 0xa8, 0xa9, -1, NO_MODRM },
	{ "xchg", 0, 0x86, 0x87, -1, LOCK }, { "mov", 0, 0x88, 0x8b, -1, 0 },
	{ "mov imm", 0, 0xc6, 0xc7, 0, 0 }, { "mov reg imm", 0, 0xb0, 0xbf, -1, NO_MODRM },
	{ "group 2 imm8", 0, 0xc0, 0xc1, -1, 0 }, { "group 2 by 1", 0, 0xd0, 0xd1, -1, 0 },
	{ "group 2 by cl", 0, 0xd2, 0xd3, -1, 0 },
	{ "test imm", 0, 0xf6, 0xf7, 0, 0 }, { "not", 0, 0xf6, 0xf7, 2, LOCK },
	{ "neg", 0, 0xf6, 0xf7, 3, LOCK }, { "mul", 0, 0xf6, 0xf7, 4, 0 },
	{ "imul", 0, 0xf6, 0xf7, 5, 0 }, { "div", 0, 0xf6, 0xf7, 6, 0 },
	{ "idiv", 0, 0xf6, 0xf7, 7, 0 },
	{ "inc", 0, 0xfe, 0xff, 0, LOCK }, { "dec", 0, 0xfe, 0xff, 1, LOCK },
	{ "movs", 0, 0xa4, 0xa5, -1, NO_MODRM | REP }, { "cmps", 0, 0xa6, 0xa7, -1, NO_MODRM | REP },
	{ "stos", 0, 0xaa, 0xab, -1, NO_MODRM | REP }, { "lods", 0, 0xac, 0xad, -1, NO_MODRM | REP },
	{ "scas", 0, 0xae, 0xaf, -1, NO_MODRM | REP },
	{ "cmovcc", 1, 0x40, 0x4f, -1, 0 }, { "setcc", 1, 0x90, 0x9f, -1, 0 },
	{ "bt", 1, 0xa3, 0xa3, -1, 0 }, { "bts", 1, 0xab, 0xab, -1, LOCK },
	{ "btr", 1, 0xb3, 0xb3, -1, 0 }, { "btc", 1, 0xbb, 0xbb, -1, 0 },
	{ "bt imm", 1, 0xba, 0xba, 4, 0 }, { "bts imm", 1, 0xba, 0xba, 5, LOCK },
	{ "btr imm", 1, 0xba, 0xba, 6, 0 }, { "btc imm", 1, 0xba, 0xba, 7, 0 },
	{ "bsf, bsr", 1, 0xbc, 0xbd, -1, 0 },
	{ "shld", 1, 0xa4, 0xa5, -1, 0 }, { "shrd", 1, 0xac, 0xad, -1, 0 },
	{ "imul reg", 1, 0xaf, 0xaf, -1, 0 }, { "cmpxchg", 1, 0xb0, 0xb1, -1, LOCK },
	{ "movzx", 1, 0xb6, 0xb7, -1, 0 }, { "movsx", 1, 0xbe, 0xbf, -1, 0 },
	{ "xadd", 1, 0xc0, 0xc1, -1, LOCK }, { "movnti", 1, 0xc3, 0xc3, -1, MEM_ONLY | NO66 },
	{ "cmpxchg8b", 1, 0xc7, 0xc7, 1, MEM_ONLY | LOCK | NO66 },
	{ "movbe", 2, 0xf0, 0xf1, -1, MEM_ONLY },
	{ "movups", 1, 0x10, 0x11, -1, MEM_ONLY | REP }, { "movaps", 1, 0x28, 0x29, -1, MEM_ONLY },
	{ "movntps", 1, 0x2b, 0x2b, -1, MEM_ONLY }, { "movd", 1, 0x6e, 0x6e, -1, MEM_ONLY },
	{ "movd, movq", 1, 0x7e, 0x7e, -1, MEM_ONLY | REP },
	{ "movdqa", 1, 0x6f, 0x6f, -1, MEM_ONLY | REP }, { "movdqa", 1, 0x7f, 0x7f, -1, MEM_ONLY | REP },
	{ "movq", 1, 0xd6, 0xd6, -1, MEM_ONLY }, { "movntdq", 1, 0xe7, 0xe7, -1, MEM_ONLY },
	{ "movntdqa", 2, 0x2a, 0x2a, -1, MEM_ONLY },
};

static u64 random64(void)
{
	static u64 s = 0x9e3779b97f4a7c15;	/* the same cases in each run */

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

/* Random numbers that like the edges. */
static u64 interesting(void)
{
	static const u64 edge[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
		0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ~0ULL };
	u64 r = random64();

	switch (r >> 61) {
	case 0:
	case 1:
		return edge[r % (sizeof(edge) / sizeof(*edge))];
	case 2:
		return r & 0xff;
	case 3:
		return edge[r % (sizeof(edge) / sizeof(*edge))] * 0x0101010101010101;
	default:
		return random64();
	}
}

static unsigned int double_count(const struct mk_insn *insn, const struct state *before)
{
	u64 count = insn->has_imm ? insn->imm : before->gpr[MK_RCX];

	return count & (insn->size == 8 ? 63 : 31);
}

static u64 undefined_flags(const struct mk_insn *insn, const struct state *before)
{
	unsigned int bits = 8 * insn->size, n;

	switch (insn->op) {
	case MK_OP_AND:
	case MK_OP_OR:
	case MK_OP_XOR:
	case MK_OP_TEST:
		return X86_EFLAGS_AF;
	case MK_OP_ROL ... MK_OP_SAR:
		n = insn->src == MK_O_ONE ? 1 :
		    insn->src == MK_O_IMM ? insn->imm : before->gpr[MK_RCX];
		n &= bits == 64 ? 63 : 31;
		if (!n)
			return 0;
		return (insn->op >= MK_OP_SHL ? X86_EFLAGS_AF : 0) | (n > 1 ? X86_EFLAGS_OF : 0) |
		       (insn->op >= MK_OP_SHL && insn->op != MK_OP_SAR && n >= bits ?
			X86_EFLAGS_CF : 0);
	case MK_OP_MUL:
	case MK_OP_IMUL:
	case MK_OP_IMUL1:
		return ARITH & ~(X86_EFLAGS_CF | X86_EFLAGS_OF);
	case MK_OP_DIV:
	case MK_OP_IDIV:
		return ARITH;
	case MK_OP_BSF ... MK_OP_BSR:
		return ARITH & ~X86_EFLAGS_ZF;
	case MK_OP_SHLD ... MK_OP_SHRD:
		n = double_count(insn, before);
		return !n ? 0 : X86_EFLAGS_AF | (n > 1 ? X86_EFLAGS_OF : 0);
	case MK_OP_BT ... MK_OP_BTC:
		return ARITH & ~(X86_EFLAGS_CF | X86_EFLAGS_ZF);
	}
	return 0;
}

static u8 *code;	/* executable */
static u8 *memory;	/* what the CPU works on; page-aligned, low; a page without access behind it */
static u8 shadow[MEM];	/* what the executor works on, at the same addresses */

/* Inside, across the end (a page fault), or where nobody knows what is mapped. */
static int shadow_has(struct mk_exec *x, u64 gva, unsigned int size)
{
	if (gva - (u64)memory <= MEM - size)
		return MK_EXEC_OK;
	if (gva - (u64)memory > MEM + 4096 - size)
		return MK_EXEC_UNSUPPORTED;
	x->fault = (struct mk_exec_fault){ .vector = X86_TRAP_PF, .has_error = true };
	return MK_EXEC_FAULT;
}

static int shadow_read(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access)
{
	int ret = shadow_has(x, gva, size);

	(void)access;
	if (ret)
		return ret;
	memcpy(buf, shadow + (gva - (u64)memory), size);
	return MK_EXEC_OK;
}

static int shadow_write(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
			const void *old, u32 access)
{
	int ret = shadow_has(x, gva, size);

	(void)access;
	if (ret)
		return ret;
	if (old && memcmp(shadow + (gva - (u64)memory), old, size))
		return MK_EXEC_RETRY;
	memcpy(shadow + (gva - (u64)memory), buf, size);
	return MK_EXEC_OK;
}

static void shadow_get_vec(struct mk_exec *x, unsigned int nr, u64 val[2])
{
	memcpy(val, ((struct state *)x->ctx)->vec[nr], 16);
}

static void shadow_set_vec(struct mk_exec *x, unsigned int nr, const u64 val[2])
{
	memcpy(((struct state *)x->ctx)->vec[nr], val, 16);
}

static const struct mk_exec_ops shadow_ops = {
	.read = shadow_read, .write = shadow_write,
	.get_vec = shadow_get_vec, .set_vec = shadow_set_vec,
};

/* Write a random form of @e to @buf. */
static void assemble(const struct encoding *e, u8 *buf)
{
	u64 r = random64();
	u8 modrm = random64(), i, *p = buf;

	if (e->flags & MEM_ONLY)
		modrm &= (modrm & 0xc0) == 0xc0 ? 0x3f : 0xff;
	if (e->group >= 0)
		modrm = (modrm & 0xc7) | e->group << 3;
	if (!(e->flags & NO66) && r & 1)
		*p++ = 0x66;
	if ((r >> 1 & 7) == 0)
		*p++ = 0x67;
	if (e->flags & LOCK && r & 16 && (modrm & 0xc0) != 0xc0)
		*p++ = 0xf0;
	if (e->flags & REP && r & 96)
		*p++ = r & 32 ? 0xf2 : 0xf3;
	if (r & 128)
		*p++ = 0x40 | (r >> 8 & 15);
	if (e->map)
		*p++ = 0x0f;
	if (e->map == 2)
		*p++ = 0x38;
	*p++ = e->first + (r >> 16) % (e->last - e->first + 1);
	if (!(e->flags & NO_MODRM))
		*p++ = modrm;
	for (i = 0; i < 10; i++)
		*p++ = interesting();
}

/* Registers such that the operand lies in memory[]; false: this form cannot. */
static bool aim(const struct mk_insn *insn, struct state *s)
{
	u64 target = (u64)memory + MEM / 2 + random64() % 64, ea = insn->disp;
	bool pair = insn->op == MK_OP_CMPXCHG8B && insn->size == 16;

	if (random64() % 8 == 0)	/* near the end of memory, or across */
		target += MEM / 2 - 40;
	if (pair || (insn->op == MK_OP_MOVVA && random64() % 2))
		target &= ~15ULL;
	if (insn->op >= MK_OP_BT && insn->op <= MK_OP_BTC && insn->src == MK_O_REG)
		s->gpr[insn->reg] = (s64)(random64() % 8192) - 4096;
	s->gpr[MK_RSP] = (u64)memory + MEM / 2 + 8 * (random64() % 64);
	if (insn->op == MK_OP_ENTER || insn->op == MK_OP_LEAVE)
		s->gpr[MK_RBP] = target;
	if (insn->op >= MK_OP_MOVS && insn->op <= MK_OP_SCAS) {
		s->gpr[MK_RCX] = random64() % 20;
		s->gpr[MK_RSI] = target;
		s->gpr[MK_RDI] = (u64)memory + MEM / 2 + random64() % 64;
		return true;
	}
	if (!insn->has_modrm || insn->mod == 3)
		return insn->dst == MK_O_NONE || insn->op == MK_OP_PUSH || insn->op == MK_OP_POP ||
		       !insn->has_modrm || insn->rm != MK_RSP;
	if (insn->base == MK_NO_REG || insn->base == insn->index || insn->base == MK_RSP)
		return false;
	if (insn->op >= MK_OP_BT && insn->op <= MK_OP_BTC && insn->src == MK_O_REG &&
	    (insn->base == insn->reg))
		return false;
	if (insn->op == MK_OP_POP && insn->index == MK_RSP)
		return false;
	if (insn->index != MK_NO_REG)
		ea += s->gpr[insn->index] << insn->scale;
	s->gpr[insn->base] = target - ea;
	return true;
}

static void describe(const char *what, const struct mk_insn *insn, const u8 *bytes,
		     const struct state *before, const struct state *cpu, const struct state *ours)
{
	char hex[64] = "";
	unsigned int i;

	for (i = 0; i < insn->len; i++)
		sprintf(hex + 3 * i, "%02x ", bytes[i]);
	note("%s: %s", what, hex);
	for (i = 0; i < MK_NR_GPR; i++)
		if (cpu->gpr[i] != ours->gpr[i])
			note("gpr %u was %llx, CPU %llx, ours %llx", i, before->gpr[i],
			     cpu->gpr[i], ours->gpr[i]);
	note("rflags was %llx, CPU %llx, ours %llx", before->rflags, cpu->rflags, ours->rflags);
	note("rax was %llx, rcx %llx, rdx %llx", before->gpr[0], before->gpr[1], before->gpr[2]);
}

/*
 * A form: opcode, with its digit in a group; register or memory; sizes of operand and
 * address; LOCK or REP.
 */
static bool count_form(const struct mk_insn *insn)
{
	static bool seen[3][256][8][2][4][2][4];
	const u8 sizes[] = { [1] = 0, [2] = 1, [4] = 2, [8] = 3 };
	bool group = insn->has_modrm && insn->dst != MK_O_REG && insn->src != MK_O_REG &&
		     insn->dst != MK_O_VEC && insn->src != MK_O_VEC && insn->op != MK_OP_SETCC;
	bool *form = &seen[insn->map][insn->opcode][group ? insn->reg & 7 : 0]
			  [insn->has_modrm && insn->mod != 3][sizes[insn->opsize]]
			  [insn->asize == 8][insn->lock ? 1 : insn->rep ? 2 + (insn->rep & 1) : 0];

	return *form ? false : (*form = true);
}

static unsigned int forms;

#define NATIVE_SELECTOR(nr, reg)							\
	[nr] = { .sel = ({ u16 _sel; asm("mov %%" reg ", %0" : "=r"(_sel)); _sel; }) }

/* One case. 1: agreed, 0: not applicable, -1: differs. */
static int compare(const struct encoding *e)
{
	static const u8 jump[6] = { 0xff, 0x25, 0, 0, 0, 0 };	/* jmp *0(%rip) */
	struct state before, cpu, ours;
	struct mk_seg flat[MK_NR_SEG] = {
		NATIVE_SELECTOR(MK_ES, "es"), NATIVE_SELECTOR(MK_CS, "cs"), NATIVE_SELECTOR(MK_SS, "ss"),
		NATIVE_SELECTOR(MK_DS, "ds"), NATIVE_SELECTOR(MK_FS, "fs"), NATIVE_SELECTOR(MK_GS, "gs"),
	};
	struct mk_exec x = {
		.cpu = { .gpr = ours.gpr, .seg = flat, .mode = MK_MODE_64, .cpl = 3,
			 .cr0 = X86_CR0_PE, .long_mode = true },
		.ops = &shadow_ops, .ctx = &ours,
	};
	u64 back = (u64)native_back, mask;
	u8 bytes[32];
	unsigned int i;
	int status;

	assemble(e, bytes);
	if (mk_insn_decode(&x.insn, bytes, sizeof(bytes), MK_MODE_64) != MK_INSN_OK)
		return 0;
	for (i = 0; i < MK_NR_GPR; i++)
		before.gpr[i] = interesting();
	for (i = 0; i < 32; i++)
		before.vec[i / 2][i % 2] = random64();
	if (!aim(&x.insn, &before))
		return 0;
	if (x.insn.op == MK_OP_MOVMMX || (x.insn.op == MK_OP_ENTER && x.insn.word > 1024))
		return 0;
	/* MOVSXD to 16 bits reads two bytes on Intel's CPUs, four on AMD's. */
	if (x.insn.map == 0 && x.insn.opcode == 0x63 && x.insn.opsize == 2)
		return 0;
	/* Undefined by more than the operand's bits. */
	if (x.insn.op >= MK_OP_SHLD && x.insn.op <= MK_OP_SHRD &&
	    double_count(&x.insn, &before) > 8 * x.insn.size)
		return 0;
	before.rflags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | (random64() & (ARITH | X86_EFLAGS_DF));
	for (i = 0; i < MEM; i += 8) {
		u64 v = interesting();

		memcpy(shadow + i, &v, 8);
	}
	/* now and then, compare what is equal */
	if (x.insn.op == MK_OP_CMPXCHG8B && x.insn.base != MK_RDX && x.insn.index != MK_RDX &&
	    random64() & 1) {
		u64 at = MEM / 2;

		for (; at < MEM / 2 + 64 + 16; at += 8)
			memcpy(shadow + at, &before.gpr[MK_RAX], 8);
		before.gpr[MK_RDX] = before.gpr[MK_RAX];
		if (x.insn.size == 8)
			before.gpr[MK_RDX] = before.gpr[MK_RAX] >> 32;
	}
	memcpy(memory, shadow, MEM);

	ours = before;
	x.cpu.rflags = before.rflags;
	do {
		status = mk_exec(&x);
	} while (status == MK_EXEC_REPEAT);
	ours.rflags = x.cpu.rflags;
	if (status == MK_EXEC_UNSUPPORTED)
		return 0;

	memcpy(code, bytes, x.insn.len);
	memcpy(code + x.insn.len, jump, sizeof(jump));
	memcpy(code + x.insn.len + sizeof(jump), &back, 8);
	cpu = before;
	trap = 0;
	native_run(&cpu, code);
	if (trap == SIGILL)
		return 0;

	mask = (ARITH | X86_EFLAGS_DF) & ~undefined_flags(&x.insn, &before);
	/* REP that faults gives the flags of its beginning back, or not yet: it goes on anyway. */
	if (status == MK_EXEC_FAULT && x.insn.rep)
		mask &= ~(u64)ARITH;
	if (trap != (status != MK_EXEC_FAULT ? 0 : x.fault.vector ? SIGSEGV : SIGFPE) ||
	    (!trap && x.cpu.rip != x.insn.len) ||
	    memcmp(cpu.gpr, ours.gpr, sizeof(cpu.gpr)) || memcmp(cpu.vec, ours.vec, sizeof(cpu.vec)) ||
	    ((cpu.rflags ^ ours.rflags) & mask)) {
		note("signal %d, status %d, rip %llu", trap, status, x.cpu.rip);
		describe(e->name, &x.insn, bytes, &before, &cpu, &ours);
		return -1;
	}
	if (memcmp(memory, shadow, MEM)) {
		describe("memory differs", &x.insn, bytes, &before, &cpu, &ours);
		return -1;
	}
	forms += count_form(&x.insn);
	return 1;
}

void native_tests(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS };
	struct sigaction old[4];
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) }, old_ss;
	unsigned int i, n;

	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	/* below 4 GiB, so that 32-bit addresses reach it */
	memory = mmap(NULL, MEM + 4096, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (code == MAP_FAILED || memory == MAP_FAILED ||
	    mprotect(memory + MEM, 4096, PROT_NONE)) {
		ok(false, "native: mmap");
		return;
	}
	sigaltstack(&ss, &old_ss);
	for (i = 0; i < 4; i++)
		sigaction(signals[i], &sa, &old[i]);

	for (i = 0; i < sizeof(encodings) / sizeof(*encodings); i++) {
		unsigned int agreed = 0, forms_before = forms;
		int ret = 0;

		for (n = 0; n < ROUNDS && ret >= 0; n++) {
			ret = compare(&encodings[i]);
			agreed += ret > 0;
		}
		if (ret >= 0 && !agreed)
			skip("this CPU does not have it", "native: %s", encodings[i].name);
		else
			ok(ret >= 0, "native: %s as the CPU does it, %u cases of %u forms",
			   encodings[i].name, agreed, forms - forms_before);
	}
	note("native: %u forms of instructions compared with this CPU", forms);

	for (i = 0; i < 4; i++)
		sigaction(signals[i], &old[i], NULL);
	sigaltstack(&old_ss, NULL);
	munmap(memory, MEM + 4096);
	munmap(code, 4096);
}
