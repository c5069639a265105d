// SPDX-License-Identifier: GPL-2.0
/*
 * The executor. Most instructions are one shape: read up to two operands,
 * compute, write one (general()). Strings, ports and vector moves have a function
 * each; what has to do with the stack, branches and segments is in control.c. Memory
 * is written before any register changes, so that an access which fails or has to
 * wait leaves nothing to undo.
 *
 * SDM vol. 2, "Instruction Set Reference"; APM vol. 3.
 */
#include <asm/processor-flags.h>
#include <asm/trapnr.h>
#include <linux/string.h>

#include "logic/exec_parts.h"

#define CF	X86_EFLAGS_CF
#define ZF	X86_EFLAGS_ZF
#define OF	X86_EFLAGS_OF
#define TSS_IO_MAP	102	/* offset of the offset of the I/O permission map */
#define ARITH	(CF | X86_EFLAGS_PF | X86_EFLAGS_AF | ZF | X86_EFLAGS_SF | OF)

static u64 msb(unsigned int size)
{
	return 1ULL << (8 * size - 1);
}

static s64 sign_extend(u64 v, unsigned int size)
{
	return (s64)(v << (64 - 8 * size)) >> (64 - 8 * size);
}

/* The condition that the low four bits of Jcc, SETcc and CMOVcc encode. */
static bool condition(u64 flags, u8 cc)
{
	static const u32 any_of[8] = { OF, CF, ZF, CF | ZF, X86_EFLAGS_SF, X86_EFLAGS_PF, 0, ZF };
	bool yes = flags & any_of[cc >> 1 & 7];

	if ((cc & 12) == 12)	/* less, less or equal */
		yes |= !(flags & X86_EFLAGS_SF) != !(flags & OF);
	return yes != (cc & 1);
}

/*
 * Memory
 */

bool mk_exec_segment_allows(const struct mk_seg *seg, u64 ea, unsigned int size, u32 access)
{
	u64 last = ea + size - 1;
	u32 ar = seg->ar;

	if (ar & MK_AR_UNUSABLE || !(ar & MK_AR_P))
		return false;
	if (ar & MK_TYPE_CODE) {
		if (access & MK_ACC_WRITE || !(ar & MK_TYPE_WRITE))
			return false;
	} else {
		if (access & MK_ACC_WRITE && !(ar & MK_TYPE_WRITE))
			return false;
		if (ar & MK_TYPE_DOWN)
			return ea > seg->limit && last <= (ar & MK_AR_DB ? 0xffffffff : 0xffff);
	}
	return last <= seg->limit;
}

int mk_exec_read(struct mk_exec *x, u8 seg, u64 ea, u64 *val, unsigned int size)
{
	u64 lin;
	int ret = mk_exec_linear(x, seg, ea, size, MK_ACC_READ, &lin);

	*val = 0;
	return ret ?: mk_exec_read_linear(x, lin, val, size, MK_ACC_READ);
}

int mk_exec_write(struct mk_exec *x, u8 seg, u64 ea, u64 val, unsigned int size)
{
	u64 lin;
	int ret = mk_exec_linear(x, seg, ea, size, MK_ACC_WRITE, &lin);

	return ret ?: mk_exec_write_linear(x, lin, &val, size, NULL);
}

/*
 * Arithmetic
 */

/* One operation on its way through compute(); bits above @size mean nothing. */
struct alu {
	u64 dst;	/* the destination before, the result after */
	u64 src;	/* after XCHG and XADD what the destination held */
	u64 flags;	/* RFLAGS before and after */
	unsigned int size;	/* bytes */
	bool keep;		/* no result: all 64 bits of the destination stay */
};

static void set_flags(struct alu *a, u64 which, u64 val)
{
	a->flags = (a->flags & ~which) | (val & which);
}

/* SF, ZF and PF as a result has them. */
static u64 result_flags(u64 v, unsigned int size)
{
	u64 f = 0;

	v &= mk_exec_mask(size);
	if (!v)
		f |= ZF;
	if (v & msb(size))
		f |= X86_EFLAGS_SF;
	/* 0x9669 holds the parity of each number of four bits */
	if (0x9669 >> ((v ^ v >> 4) & 15) & 1)
		f |= X86_EFLAGS_PF;
	return f;
}

/* The carry out of each bit tells CF, AF and OF: ADD, and SUB by its borrows. */
static u64 carry_flags(u64 carries, unsigned int size)
{
	u64 f = 0;

	if (carries & msb(size))
		f |= CF;
	if (carries & 8)
		f |= X86_EFLAGS_AF;
	if ((carries ^ carries << 1) & msb(size))
		f |= OF;
	return f;
}

static void add(struct alu *a, u64 carry, u64 which)
{
	u64 d = a->dst, s = a->src, r = d + s + carry;

	a->dst = r;
	set_flags(a, which, result_flags(r, a->size) |
			    carry_flags((d & s) | ((d | s) & ~r), a->size));
}

static void sub(struct alu *a, u64 borrow, u64 which)
{
	u64 d = a->dst, s = a->src, r = d - s - borrow;

	a->dst = r;
	set_flags(a, which, result_flags(r, a->size) |
			    carry_flags((~d & s) | ((~d | s) & r), a->size));
}

static void logic(struct alu *a, u64 r)
{
	a->dst = r;
	set_flags(a, ARITH, result_flags(r, a->size));
}

/* Group 2, a bit at a time: CF is the bit that falls out. */
static void shift(struct alu *a, u8 op)
{
	unsigned int size = a->size, n = a->src & (size == 8 ? 63 : 31);
	u64 top = msb(size), v = a->dst & mk_exec_mask(size), cf = a->flags & CF, out;
	bool left = op == MK_OP_ROL || op == MK_OP_RCL || op == MK_OP_SHL || op == MK_OP_SAL;

	if (!n)
		return;
	while (n--) {
		out = left ? !!(v & top) : v & 1;
		switch (op) {
		case MK_OP_ROL:
			v = v << 1 | out;
			break;
		case MK_OP_ROR:
			v = v >> 1 | (out ? top : 0);
			break;
		case MK_OP_RCL:
			v = v << 1 | cf;
			break;
		case MK_OP_RCR:
			v = v >> 1 | (cf ? top : 0);
			break;
		case MK_OP_SHR:
			v = v >> 1;
			break;
		case MK_OP_SAR:
			v = v >> 1 | (v & top);
			break;
		default:
			v = v << 1;
		}
		cf = out;
	}
	a->dst = v;
	set_flags(a, CF | OF, cf | (!(v & top) != !(left ? cf : v & top >> 1) ? OF : 0));
	if (op >= MK_OP_SHL)
		set_flags(a, ARITH & ~(CF | OF), result_flags(v, size));
}

/* IMUL with a destination register; CF and OF say that the product did not fit. */
static void imul(struct alu *a, s64 x, s64 y)
{
	s64 r;
	bool lost = __builtin_mul_overflow(x, y, &r) || sign_extend(r, a->size) != r;

	a->dst = r;
	set_flags(a, ARITH, result_flags(r, a->size) | (lost ? CF | OF : 0));
}

/* Where they differ, general() gives the accumulator what the destination holds. */
static void compare_exchange(struct alu *a, u64 acc)
{
	struct alu cmp = { .dst = acc, .src = a->dst, .flags = a->flags, .size = a->size };

	sub(&cmp, 0, ARITH);
	a->flags = cmp.flags;
	if (a->flags & ZF)
		a->dst = a->src;
}

static void test_bit(struct alu *a, u8 op)
{
	u64 bit = 1ULL << (a->src & (8 * a->size - 1));

	set_flags(a, CF, a->dst & bit ? CF : 0);
	if (op == MK_OP_BTS)
		a->dst |= bit;
	else if (op == MK_OP_BTR)
		a->dst &= ~bit;
	else if (op == MK_OP_BTC)
		a->dst ^= bit;
}

/* BSF and BSR; of zero nothing is found, and the destination stays. */
static void scan(struct alu *a, u8 op)
{
	u64 v = a->src & mk_exec_mask(a->size);

	set_flags(a, ZF, v ? 0 : ZF);
	a->keep = !v;
	if (v)
		a->dst = op == MK_OP_BSF ? __builtin_ctzll(v) : 63 - __builtin_clzll(v);
}

/* SHLD and SHRD: @count bits of the source follow. */
static void shift_double(struct alu *a, u8 op, unsigned int count)
{
	unsigned int bits = 8 * a->size, n = count & (bits == 64 ? 63 : 31);
	u64 d = a->dst & mk_exec_mask(a->size), s = a->src & mk_exec_mask(a->size), r;
	bool cf;

	/* A count above the size, which 16 bits allow, is undefined; this one is defined. */
	if (n > bits)
		n -= bits;
	if (!n)
		return;
	if (op == MK_OP_SHLD) {
		cf = d >> (bits - n) & 1;
		r = d << n | (n == bits ? s : s >> (bits - n));
	} else {
		cf = d >> (n - 1) & 1;
		r = n == bits ? s : d >> n | s << (bits - n);
	}
	a->dst = r;
	set_flags(a, ARITH, result_flags(r, a->size) | (cf ? CF : 0) |
			    ((r ^ d) & msb(a->size) ? OF : 0));
}

static void compute(struct mk_exec *x, struct alu *a)
{
	u8 op = x->insn.op;
	u64 old = a->dst;

	switch (op) {
	case MK_OP_ADD:
		add(a, 0, ARITH);
		break;
	case MK_OP_ADC:
		add(a, a->flags & CF, ARITH);
		break;
	case MK_OP_XADD:
		add(a, 0, ARITH);
		a->src = old;
		break;
	case MK_OP_SUB:
	case MK_OP_CMP:
		sub(a, 0, ARITH);
		break;
	case MK_OP_SBB:
		sub(a, a->flags & CF, ARITH);
		break;
	case MK_OP_NEG:
		a->src = old;
		a->dst = 0;
		sub(a, 0, ARITH);
		break;
	case MK_OP_INC:
		a->src = 1;
		add(a, 0, ARITH & ~CF);
		break;
	case MK_OP_DEC:
		a->src = 1;
		sub(a, 0, ARITH & ~CF);
		break;
	case MK_OP_OR:
		logic(a, a->dst | a->src);
		break;
	case MK_OP_XOR:
		logic(a, a->dst ^ a->src);
		break;
	case MK_OP_AND:
	case MK_OP_TEST:
	case MK_OP_TEST_ALIAS:
		logic(a, a->dst & a->src);
		break;
	case MK_OP_NOT:
		a->dst = ~a->dst;
		break;
	case MK_OP_ROL ... MK_OP_SAR:
		shift(a, op);
		break;
	case MK_OP_BT ... MK_OP_BTC:
		test_bit(a, op);
		break;
	case MK_OP_BSF ... MK_OP_BSR:
		scan(a, op);
		break;
	case MK_OP_SHLD ... MK_OP_SHRD:
		shift_double(a, op, x->insn.has_imm ? x->insn.imm : x->cpu.gpr[MK_RCX]);
		break;
	case MK_OP_MOV:
	case MK_OP_MOVZX:
		a->dst = a->src;
		break;
	case MK_OP_MOVSX:
		a->dst = sign_extend(a->src, x->insn.srcsize);
		break;
	case MK_OP_MOVBE:
		a->dst = __builtin_bswap64(a->src) >> (64 - 8 * a->size);
		break;
	case MK_OP_XCHG:
		a->dst = a->src;
		a->src = old;
		break;
	case MK_OP_CMPXCHG:
		compare_exchange(a, mk_exec_get_reg(x, MK_RAX, a->size));
		break;
	case MK_OP_IMUL:
		imul(a, sign_extend(a->src, a->size),
		     sign_extend(x->insn.has_imm ? x->insn.imm : a->dst, a->size));
		break;
	case MK_OP_SETCC:
		a->dst = condition(a->flags, x->insn.opcode);
		break;
	case MK_OP_CMOVCC:
		if (condition(a->flags, x->insn.opcode))
			a->dst = a->src;
		break;
	}
}

/* MUL and IMUL to the double-width accumulator */
static void multiply(struct mk_exec *x, struct alu *a)
{
	unsigned int size = a->size;
	u64 acc = mk_exec_get_reg(x, MK_RAX, size), low, high;
	unsigned __int128 p;
	bool wide;

	if (x->insn.op == MK_OP_MUL)
		p = (unsigned __int128)acc * a->dst;
	else
		p = (__int128)sign_extend(acc, size) * sign_extend(a->dst, size);
	low = p;
	high = size == 8 ? p >> 64 : low >> 8 * size;
	wide = x->insn.op == MK_OP_MUL ? high : (__int128)p != sign_extend(low, size);
	set_flags(a, CF | OF, wide ? CF | OF : 0);
	if (size == 1) {
		mk_exec_set_reg(x, MK_RAX, low, 2);
	} else {
		mk_exec_set_reg(x, MK_RAX, low, size);
		mk_exec_set_reg(x, MK_RDX, high, size);
	}
}

/* Schoolbook, since the kernel has no 128-bit division; the quotient fits, as high < d. */
static u64 divide_128(u64 high, u64 low, u64 d, u64 *rem)
{
	unsigned int i;
	u64 q = 0;

	for (i = 0; i < 64; i++) {
		bool carry = high >> 63;

		high = high << 1 | low >> 63;
		low <<= 1;
		q <<= 1;
		if (carry || high >= d) {
			high -= d;
			q |= 1;
		}
	}
	*rem = high;
	return q;
}

/* DIV and IDIV; #DE where the quotient does not fit */
static int divide(struct mk_exec *x, struct alu *a)
{
	unsigned int size = a->size;
	bool is_signed = x->insn.op == MK_OP_IDIV, minus_n = false, minus_d = false;
	u64 d = is_signed ? (u64)sign_extend(a->dst, size) : a->dst & mk_exec_mask(size);
	unsigned __int128 n;
	u64 q, r;

	/* the dividend, extended to 128 bits */
	if (size == 8) {
		n = (unsigned __int128)x->cpu.gpr[MK_RDX] << 64 | x->cpu.gpr[MK_RAX];
	} else {
		u64 both = size == 1 ? mk_exec_get_reg(x, MK_RAX, 2) :
			   mk_exec_get_reg(x, MK_RDX, size) << 8 * size | mk_exec_get_reg(x, MK_RAX, size);

		n = is_signed ? (unsigned __int128)sign_extend(both, 2 * size) : both;
	}
	if (is_signed) {
		minus_n = n >> 127;
		minus_d = d >> 63;
		n = minus_n ? -n : n;
		d = minus_d ? -d : d;
	}
	if (!d || n >> 64 >= d)
		return mk_exec_raise(x, X86_TRAP_DE);
	q = divide_128(n >> 64, n, d, &r);
	if (is_signed ? q > msb(size) - (minus_n == minus_d) : q > mk_exec_mask(size))
		return mk_exec_raise(x, X86_TRAP_DE);
	q = minus_n != minus_d ? -q : q;
	r = minus_n ? -r : r;

	if (size == 1) {
		mk_exec_set_reg(x, MK_RAX, (q & 0xff) | (r & 0xff) << 8, 2);
	} else {
		mk_exec_set_reg(x, MK_RAX, q, size);
		mk_exec_set_reg(x, MK_RDX, r, size);
	}
	return MK_EXEC_OK;
}

/*
 * Instructions by shape
 */

#define RD	BIT(0)	/* reads its destination */
#define WR	BIT(1)	/* writes it */
#define BACK	BIT(2)	/* its source register takes what the destination held */

static const u8 shape[] = {
	[MK_OP_ADD ... MK_OP_XOR] = RD | WR, [MK_OP_CMP] = RD,
	[MK_OP_ROL ... MK_OP_SAR] = RD | WR,
	[MK_OP_TEST ... MK_OP_TEST_ALIAS] = RD, [MK_OP_NOT ... MK_OP_NEG] = RD | WR,
	[MK_OP_MUL ... MK_OP_IDIV] = RD,
	[MK_OP_BT] = RD, [MK_OP_BTS ... MK_OP_BTC] = RD | WR,
	[MK_OP_BSF ... MK_OP_SHRD] = RD | WR,
	[MK_OP_INC ... MK_OP_DEC] = RD | WR,
	[MK_OP_MOV ... MK_OP_MOVBE] = WR,
	[MK_OP_XCHG ... MK_OP_XADD] = RD | WR | BACK, [MK_OP_CMPXCHG] = RD | WR,
	[MK_OP_IMUL] = RD | WR, [MK_OP_SETCC] = WR, [MK_OP_CMOVCC] = RD | WR,
};

/* The register that an operand names; only for operands that are registers. */
u8 mk_exec_operand_reg(const struct mk_insn *insn, u8 operand)
{
	switch (operand) {
	case MK_O_RM:
		return insn->rm;
	case MK_O_ACC:
		return MK_RAX;
	case MK_O_CL:
		return MK_RCX;
	default:
		return insn->reg;
	}
}

u64 mk_exec_get_operand(const struct mk_exec *x, u8 operand, unsigned int size)
{
	switch (operand) {
	case MK_O_NONE:
		return 0;
	case MK_O_IMM:
		return x->insn.imm;
	case MK_O_ONE:
		return 1;
	case MK_O_CL:
		return x->cpu.gpr[MK_RCX] & 0xff;
	case MK_O_SEG:
		return x->cpu.seg[x->insn.reg].sel;
	default:
		return mk_exec_get_reg(x, mk_exec_operand_reg(&x->insn, operand), size);
	}
}

/* Two operands at most, one of them in memory at most; the result to the first. */
static int general(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	const u8 what = shape[insn->op];
	const bool mem_dst = mk_exec_in_memory(insn, insn->dst);
	const bool mem_src = mk_exec_in_memory(insn, insn->src);
	struct alu a = { .size = insn->size, .flags = x->cpu.rflags };
	u32 access = mem_dst && what & WR ? MK_ACC_WRITE : MK_ACC_READ;
	u64 lin = 0, old;
	int ret;

	if (!mem_src)
		a.src = mk_exec_get_operand(x, insn->src, insn->srcsize);
	if (mem_dst || mem_src) {
		unsigned int size = mem_dst ? insn->size : insn->srcsize;
		u64 ea = mk_exec_address(x);

		/* a bit number in a register reaches beyond the operand */
		if (insn->op >= MK_OP_BT && insn->op <= MK_OP_BTC && insn->src == MK_O_REG)
			ea = (ea + (sign_extend(a.src, size) >> 3 & -(s64)size)) &
			     mk_exec_mask(insn->asize);
		ret = mk_exec_linear(x, insn->seg, ea, size, access, &lin);
		if (!ret && mem_src)
			ret = mk_exec_read_linear(x, lin, &a.src, size, access);
		if (!ret && mem_dst && what & RD)
			ret = mk_exec_read_linear(x, lin, &a.dst, size, access);
		if (ret)
			return ret;
	}
	if (!mem_dst && what & RD)
		a.dst = mk_exec_get_operand(x, insn->dst, insn->size);
	old = a.dst;

	if (insn->op == MK_OP_MUL || insn->op == MK_OP_IMUL1) {
		multiply(x, &a);
	} else if (insn->op == MK_OP_DIV || insn->op == MK_OP_IDIV) {
		ret = divide(x, &a);
		if (ret)
			return ret;
	} else {
		compute(x, &a);
	}

	if (mem_dst && what & WR) {
		bool atomic = insn->lock || insn->op == MK_OP_XCHG;

		ret = mk_exec_write_linear(x, lin, &a.dst, insn->size, atomic ? &old : NULL);
		if (ret)
			return ret;
	}
	if (what & BACK)
		mk_exec_set_reg(x, insn->reg, a.src, insn->size);
	if (insn->op == MK_OP_CMPXCHG && !(a.flags & ZF))
		mk_exec_set_reg(x, MK_RAX, old, insn->size);
	else if (!mem_dst && what & WR && !a.keep)
		mk_exec_set_reg(x, mk_exec_operand_reg(insn, insn->dst), a.dst, insn->size);
	x->cpu.rflags = a.flags;
	return mk_exec_finish(x);
}

/* CMPXCHG8B and CMPXCHG16B */
static int compare_pair(struct mk_exec *x)
{
	unsigned int half = x->insn.size / 2;
	u8 old[16], new[16];
	u64 *gpr = x->cpu.gpr, lin;
	bool equal;
	int ret;

	ret = mk_exec_linear(x, x->insn.seg, mk_exec_address(x), 2 * half, MK_ACC_WRITE, &lin);
	if (!ret && half == 8 && lin & 15)
		ret = mk_exec_raise(x, X86_TRAP_GP);
	if (!ret)
		ret = mk_exec_read_linear(x, lin, old, 2 * half, MK_ACC_WRITE);
	if (ret)
		return ret;

	equal = !memcmp(old, &gpr[MK_RAX], half) && !memcmp(old + half, &gpr[MK_RDX], half);
	memcpy(new, equal ? (u8 *)&gpr[MK_RBX] : old, half);
	memcpy(new + half, equal ? (u8 *)&gpr[MK_RCX] : old + half, half);
	ret = mk_exec_write_linear(x, lin, new, 2 * half, x->insn.lock ? old : NULL);
	if (ret)
		return ret;

	if (equal) {
		x->cpu.rflags |= ZF;
	} else {
		u64 low = 0, high = 0;

		memcpy(&low, old, half);
		memcpy(&high, old + half, half);
		mk_exec_set_reg(x, MK_RAX, low, half);
		mk_exec_set_reg(x, MK_RDX, high, half);
		x->cpu.rflags &= ~ZF;
	}
	return mk_exec_finish(x);
}

/* False where the x87 has an exception to deliver before it gives away an MMX register. */
static bool get_vector(struct mk_exec *x, u64 val[2])
{
	if (x->insn.op == MK_OP_MOVMMX)
		return x->ops->get_mmx(x, x->insn.reg, val);
	x->ops->get_vec(x, x->insn.reg, val);
	return true;
}

static bool set_vector(struct mk_exec *x, const u64 val[2])
{
	if (x->insn.op == MK_OP_MOVMMX)
		return x->ops->set_mmx(x, x->insn.reg, val[0]);
	x->ops->set_vec(x, x->insn.reg, val);
	return true;
}

/* Between memory and a vector register; a load of fewer than 16 bytes clears the others. */
static int move_vector(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	bool store = insn->src == MK_O_VEC;
	u32 access = store ? MK_ACC_WRITE : MK_ACC_READ;
	u64 val[2] = { 0, 0 }, lin;
	int ret;

	if (insn->mod == 3)
		return MK_EXEC_UNSUPPORTED;
	ret = mk_exec_linear(x, insn->seg, mk_exec_address(x), insn->size, access, &lin);
	if (!ret && insn->op == MK_OP_MOVVA && lin & 15)
		ret = mk_exec_raise(x, X86_TRAP_GP);
	if (ret)
		return ret;
	if (store) {
		if (!get_vector(x, val))
			return mk_exec_raise(x, X86_TRAP_MF);
		ret = mk_exec_write_linear(x, lin, val, insn->size, NULL);
	} else {
		ret = mk_exec_read_linear(x, lin, val, insn->size, MK_ACC_READ);
		if (!ret && !set_vector(x, val))
			ret = mk_exec_raise(x, X86_TRAP_MF);
	}
	return ret ?: mk_exec_finish(x);
}

static u16 port_operand(const struct mk_exec *x)
{
	return x->insn.has_imm ? (u8)x->insn.imm : x->cpu.gpr[MK_RDX];
}

/*
 * Below IOPL the TSS says which ports are allowed. The CPU has asked it before the exit,
 * but another vCPU may have changed the instruction since.
 */
static int check_port(struct mk_exec *x)
{
	const struct mk_seg *tss = &x->cpu.seg[MK_TR];
	const u16 port = port_operand(x);
	u16 map = 0, bits = 0;
	int ret;

	if (!(x->cpu.cr0 & X86_CR0_PE) || (mk_exec_protected(x) && x->cpu.cpl <= mk_exec_iopl(x)))
		return MK_EXEC_OK;
	if ((tss->ar & MK_AR_TYPE & ~MK_TYPE_BUSY) != MK_TYPE_TSS || tss->limit <= TSS_IO_MAP + 1)
		return mk_exec_raise(x, X86_TRAP_GP);
	ret = mk_exec_read_system(x, tss->base + TSS_IO_MAP, &map, sizeof(map));
	if (ret)
		return ret;
	if (map + port / 8 + 1u > tss->limit)
		return mk_exec_raise(x, X86_TRAP_GP);
	ret = mk_exec_read_system(x, tss->base + map + port / 8, &bits, sizeof(bits));
	if (!ret && bits >> (port & 7) & (BIT(x->insn.size) - 1))
		ret = mk_exec_raise(x, X86_TRAP_GP);
	return ret;
}

static int port(struct mk_exec *x)
{
	const unsigned int size = x->insn.size;
	u64 val = mk_exec_get_reg(x, MK_RAX, size);
	int ret = check_port(x);

	if (ret)
		return ret;
	if (x->insn.op == MK_OP_OUT) {
		memcpy(x->bounce, &val, size);
		ret = x->ops->out(x, port_operand(x), x->bounce, size, 1);
	} else {
		ret = x->ops->in(x, port_operand(x), x->bounce, size, 1);
		memcpy(&val, x->bounce, size);
		if (!ret)
			mk_exec_set_reg(x, MK_RAX, val, size);
	}
	return ret ?: mk_exec_finish(x);
}

static int probe(struct mk_exec *x, u64 lin, u32 access, bool *device)
{
	return x->ops->probe(x, lin, access | mk_exec_user(x), device);
}

/*
 * INS and OUTS, as many elements of the *@count that REP asks for as lie in one
 * page of memory and fit into the buffer; *@count returns how many.
 */
static int port_string(struct mk_exec *x, u8 seg, u64 ea, u64 *count)
{
	const bool in = x->insn.op == MK_OP_INS;
	const u32 access = in ? MK_ACC_WRITE : MK_ACC_READ;
	const unsigned int size = x->insn.size;
	bool device = false;
	unsigned int n;
	u64 lin, last;
	int ret = check_port(x) ?: mk_exec_linear(x, seg, ea, size, access, &lin);

	if (ret)
		return ret;
	n = (4096 - (lin & 4095)) / size;
	if (n > x->bounce_size / size)
		n = x->bounce_size / size;
	if (n > *count)
		n = *count;
	/* a segment that ends in between faults when its turn comes */
	if (!n || x->cpu.rflags & X86_EFLAGS_DF || mk_exec_linear(x, seg, ea, n * size, access, &lin))
		n = 1;

	/* Memory that cannot take the data must fault before the device gives it away. */
	if (in || n > 1)
		ret = probe(x, lin, access, &device);
	if (!ret && in && size > 1)
		ret = mk_exec_linear(x, seg, ea + n * size - 1, 1, access, &last);
	if (!ret && in && size > 1)
		ret = probe(x, last, access, &device);
	if (ret)
		return ret;
	if (device)	/* it sees the accesses one by one */
		n = 1;
	*count = n;

	if (!in) {
		ret = mk_exec_read_linear(x, lin, x->bounce, n * size, access);
		return ret ?: x->ops->out(x, port_operand(x), x->bounce, size, n);
	}
	ret = x->ops->in(x, port_operand(x), x->bounce, size, n);
	return ret ?: mk_exec_write_linear(x, lin, x->bounce, n * size, NULL);
}

/* String instructions: once, or one iteration under REP */
static int string(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	const unsigned int size = insn->size, asize = insn->asize;
	const u8 op = insn->op;
	u64 si = x->cpu.gpr[MK_RSI] & mk_exec_mask(asize);
	u64 di = x->cpu.gpr[MK_RDI] & mk_exec_mask(asize);
	u64 left = insn->rep ? x->cpu.gpr[MK_RCX] & mk_exec_mask(asize) : 1, n = 1, step;
	struct alu a = { .size = size, .flags = x->cpu.rflags };
	bool use_si = true, use_di = true;
	int ret;

	if (!left)
		return mk_exec_finish(x);
	switch (op) {
	case MK_OP_MOVS:
		ret = mk_exec_read(x, insn->seg, si, &a.src, size);
		if (!ret)
			ret = mk_exec_write(x, MK_ES, di, a.src, size);
		break;
	case MK_OP_LODS:
		use_di = false;
		ret = mk_exec_read(x, insn->seg, si, &a.src, size);
		if (!ret)
			mk_exec_set_reg(x, MK_RAX, a.src, size);
		break;
	case MK_OP_STOS:
		use_si = false;
		ret = mk_exec_write(x, MK_ES, di, mk_exec_get_reg(x, MK_RAX, size), size);
		break;
	case MK_OP_CMPS:
		ret = mk_exec_read(x, insn->seg, si, &a.dst, size);
		if (!ret)
			ret = mk_exec_read(x, MK_ES, di, &a.src, size);
		break;
	case MK_OP_SCAS:
		use_si = false;
		a.dst = mk_exec_get_reg(x, MK_RAX, size);
		ret = mk_exec_read(x, MK_ES, di, &a.src, size);
		break;
	case MK_OP_OUTS:
		use_di = false;
		n = left;
		ret = port_string(x, insn->seg, si, &n);
		break;
	default:
		use_si = false;
		n = left;
		ret = port_string(x, MK_ES, di, &n);
	}
	if (ret)
		return ret;

	step = x->cpu.rflags & X86_EFLAGS_DF ? -(n * size) : n * size;
	if (use_si)
		mk_exec_set_reg(x, MK_RSI, si + step, asize);
	if (use_di)
		mk_exec_set_reg(x, MK_RDI, di + step, asize);
	if (op == MK_OP_CMPS || op == MK_OP_SCAS) {
		sub(&a, 0, ARITH);
		x->cpu.rflags = a.flags;
	}
	if (!insn->rep)
		return mk_exec_finish(x);
	mk_exec_set_reg(x, MK_RCX, left - n, asize);
	if (left == n)
		return mk_exec_finish(x);
	/* REPE (F3) goes on while equal, REPNE (F2) while not */
	if ((op == MK_OP_CMPS || op == MK_OP_SCAS) && !(a.flags & ZF) == (insn->rep == 0xf3))
		return mk_exec_finish(x);
	return MK_EXEC_REPEAT;
}

int mk_exec(struct mk_exec *x)
{
	switch (x->insn.op) {
	case MK_OP_NONE:
		return MK_EXEC_UNSUPPORTED;
	case MK_OP_CALL ... MK_OP_LIDT:
		return mk_exec_control(x);
	case MK_OP_MOVS ... MK_OP_OUTS:
		return string(x);
	case MK_OP_IN:
	case MK_OP_OUT:
		return port(x);
	case MK_OP_CLFLUSH:	/* no cache holds what a device has */
		return mk_exec_finish(x);
	case MK_OP_CMPXCHG8B:
		return compare_pair(x);
	case MK_OP_MOVV:
	case MK_OP_MOVVA:
	case MK_OP_MOVMMX:
		return move_vector(x);
	default:
		return general(x);
	}
}
