// SPDX-License-Identifier: GPL-2.0
/*
 * Decoding is table-driven: one line of a table says what an opcode does, what
 * its operands are and what follows it. What does not fit into a line is in
 * adjust(), opcode by opcode.
 *
 * SDM vol. 2, "Instruction Format" and "Opcode Map"; APM vol. 3, same names.
 */
#include <linux/string.h>

#include "logic/insn.h"

/* struct opcode.flags */
#define B	BIT(0)	/* operates on bytes */
#define M	BIT(1)	/* one-byte map: ModRM follows */
#define NM	BIT(2)	/* 0F map: no ModRM follows */
#define I8	BIT(3)	/* a byte follows, sign-extended */
#define IZ	BIT(4)	/* 2 or 4 bytes follow, sign-extended */
#define IV	BIT(5)	/* 2, 4 or 8 bytes follow */
#define IW	BIT(6)	/* 2 bytes follow, before those of I8 and IZ */
#define D64	BIT(7)	/* 64 bits wide by default in 64-bit mode */
#define N64	BIT(8)	/* not in 64-bit mode */
#define GRP	BIT(9)	/* ModRM.reg selects among operations from op on */
#define BAD	BIT(10)	/* no such instruction */

struct opcode {
	u8 op;
	u8 operands;	/* dst << 4 | src */
	u16 flags;
};

#define OPC(op, dst, src, flags)	{ MK_OP_##op, MK_O_##dst << 4 | MK_O_##src, flags }
#define PLAIN(flags)			{ MK_OP_NONE, 0, flags }

#define ALU(n, op)					\
	[(n) + 0] = OPC(op, RM, REG, M | B),		\
	[(n) + 1] = OPC(op, RM, REG, M),		\
	[(n) + 2] = OPC(op, REG, RM, M | B),		\
	[(n) + 3] = OPC(op, REG, RM, M),		\
	[(n) + 4] = OPC(op, ACC, IMM, I8 | B),		\
	[(n) + 5] = OPC(op, ACC, IMM, IZ)

static const struct opcode map_1[256] = {
	ALU(0x00, ADD), ALU(0x08, OR), ALU(0x10, ADC), ALU(0x18, SBB),
	ALU(0x20, AND), ALU(0x28, SUB), ALU(0x30, XOR), ALU(0x38, CMP),
	[0x06] = OPC(PUSH, NONE, SEG, N64), [0x07] = OPC(POP, SEG, NONE, N64),
	[0x0e] = OPC(PUSH, NONE, SEG, N64),
	[0x16] = OPC(PUSH, NONE, SEG, N64), [0x17] = OPC(POP, SEG, NONE, N64),
	[0x1e] = OPC(PUSH, NONE, SEG, N64), [0x1f] = OPC(POP, SEG, NONE, N64),
	[0x27] = PLAIN(N64), [0x2f] = PLAIN(N64),
	[0x37] = PLAIN(N64), [0x3f] = PLAIN(N64),
	[0x40 ... 0x47] = OPC(INC, LOW, NONE, 0),
	[0x48 ... 0x4f] = OPC(DEC, LOW, NONE, 0),
	[0x50 ... 0x57] = OPC(PUSH, NONE, LOW, D64),
	[0x58 ... 0x5f] = OPC(POP, LOW, NONE, D64),
	[0x60] = OPC(PUSHA, NONE, NONE, N64), [0x61] = OPC(POPA, NONE, NONE, N64),
	[0x62] = PLAIN(M),
	[0x63] = OPC(MOVSX, REG, RM, M),
	[0x68] = OPC(PUSH, NONE, IMM, IZ | D64),
	[0x69] = OPC(IMUL, REG, RM, M | IZ),
	[0x6a] = OPC(PUSH, NONE, IMM, I8 | D64),
	[0x6b] = OPC(IMUL, REG, RM, M | I8),
	[0x6c] = OPC(INS, NONE, NONE, B), [0x6d] = OPC(INS, NONE, NONE, 0),
	[0x6e] = OPC(OUTS, NONE, NONE, B), [0x6f] = OPC(OUTS, NONE, NONE, 0),
	[0x70 ... 0x7f] = PLAIN(I8),
	[0x80] = OPC(ADD, RM, IMM, M | I8 | B | GRP),
	[0x81] = OPC(ADD, RM, IMM, M | IZ | GRP),
	[0x82] = OPC(ADD, RM, IMM, M | I8 | B | GRP | N64),
	[0x83] = OPC(ADD, RM, IMM, M | I8 | GRP),
	[0x84] = OPC(TEST, RM, REG, M | B), [0x85] = OPC(TEST, RM, REG, M),
	[0x86] = OPC(XCHG, RM, REG, M | B), [0x87] = OPC(XCHG, RM, REG, M),
	[0x88] = OPC(MOV, RM, REG, M | B), [0x89] = OPC(MOV, RM, REG, M),
	[0x8a] = OPC(MOV, REG, RM, M | B), [0x8b] = OPC(MOV, REG, RM, M),
	[0x8c] = OPC(STORE_SEL, RM, SEG, M), [0x8d] = PLAIN(M),
	[0x8e] = OPC(LOAD_SEG, SEG, RM, M),
	[0x8f] = OPC(POP, RM, NONE, M | D64),
	[0x9a] = PLAIN(IW | IZ | N64),
	[0x9c] = OPC(PUSHF, NONE, NONE, D64), [0x9d] = OPC(POPF, NONE, NONE, D64),
	[0xa0] = OPC(MOV, ACC, MOFFS, B), [0xa1] = OPC(MOV, ACC, MOFFS, 0),
	[0xa2] = OPC(MOV, MOFFS, ACC, B), [0xa3] = OPC(MOV, MOFFS, ACC, 0),
	[0xa4] = OPC(MOVS, NONE, NONE, B), [0xa5] = OPC(MOVS, NONE, NONE, 0),
	[0xa6] = OPC(CMPS, NONE, NONE, B), [0xa7] = OPC(CMPS, NONE, NONE, 0),
	[0xa8] = OPC(TEST, ACC, IMM, I8 | B), [0xa9] = OPC(TEST, ACC, IMM, IZ),
	[0xaa] = OPC(STOS, NONE, NONE, B), [0xab] = OPC(STOS, NONE, NONE, 0),
	[0xac] = OPC(LODS, NONE, NONE, B), [0xad] = OPC(LODS, NONE, NONE, 0),
	[0xae] = OPC(SCAS, NONE, NONE, B), [0xaf] = OPC(SCAS, NONE, NONE, 0),
	[0xb0 ... 0xb7] = OPC(MOV, LOW, IMM, I8 | B),
	[0xb8 ... 0xbf] = OPC(MOV, LOW, IMM, IV),
	[0xc0] = OPC(ROL, RM, IMM, M | I8 | B | GRP), [0xc1] = OPC(ROL, RM, IMM, M | I8 | GRP),
	[0xc2] = OPC(RET, NONE, NONE, IW | D64), [0xc3] = OPC(RET, NONE, NONE, D64),
	[0xc4 ... 0xc5] = OPC(LOAD_FAR, REG, RM, M),
	[0xc6] = OPC(MOV, RM, IMM, M | I8 | B), [0xc7] = OPC(MOV, RM, IMM, M | IZ),
	[0xc8] = OPC(ENTER, NONE, NONE, IW | I8 | D64), [0xc9] = OPC(LEAVE, NONE, NONE, D64),
	[0xca] = OPC(RET_FAR, NONE, NONE, IW), [0xcb] = OPC(RET_FAR, NONE, NONE, 0),
	[0xcd] = PLAIN(I8), [0xce] = PLAIN(N64),
	[0xd0] = OPC(ROL, RM, ONE, M | B | GRP), [0xd1] = OPC(ROL, RM, ONE, M | GRP),
	[0xd2] = OPC(ROL, RM, CL, M | B | GRP), [0xd3] = OPC(ROL, RM, CL, M | GRP),
	[0xd4 ... 0xd5] = PLAIN(I8 | N64), [0xd6] = PLAIN(N64),
	[0xd8 ... 0xdf] = PLAIN(M),
	[0xe0 ... 0xe3] = PLAIN(I8),
	[0xe4] = OPC(IN, ACC, PORT, I8 | B), [0xe5] = OPC(IN, ACC, PORT, I8),
	[0xe6] = OPC(OUT, PORT, ACC, I8 | B), [0xe7] = OPC(OUT, PORT, ACC, I8),
	[0xe8] = OPC(CALL, NONE, IMM, IZ | D64), [0xe9] = PLAIN(IZ | D64),
	[0xea] = PLAIN(IW | IZ | N64), [0xeb] = PLAIN(I8),
	[0xec] = OPC(IN, ACC, PORT, B), [0xed] = OPC(IN, ACC, PORT, 0),
	[0xee] = OPC(OUT, PORT, ACC, B), [0xef] = OPC(OUT, PORT, ACC, 0),
	[0xf6] = OPC(TEST, RM, NONE, M | B | GRP), [0xf7] = OPC(TEST, RM, NONE, M | GRP),
	[0xfe] = OPC(INC, RM, NONE, M | B | GRP), [0xff] = OPC(INC, RM, NONE, M | GRP),
};

static const struct opcode map_0f[256] = {
	[0x04] = PLAIN(BAD), [0x0a] = PLAIN(BAD), [0x0c] = PLAIN(BAD),
	[0x05 ... 0x09] = PLAIN(NM), [0x0b] = PLAIN(NM), [0x0e] = PLAIN(NM),
	[0x0f] = PLAIN(I8),
	[0x10] = OPC(MOVV, VEC, RM, 0), [0x11] = OPC(MOVV, RM, VEC, 0),
	[0x20] = OPC(NONE, RM, CR, D64), [0x21] = OPC(NONE, RM, DR, D64),
	[0x22] = OPC(NONE, CR, RM, D64), [0x23] = OPC(NONE, DR, RM, D64),
	[0x24 ... 0x27] = PLAIN(BAD),
	[0x28] = OPC(MOVVA, VEC, RM, 0), [0x29] = OPC(MOVVA, RM, VEC, 0),
	[0x2b] = OPC(MOVVA, RM, VEC, 0),
	[0x30 ... 0x35] = PLAIN(NM), [0x36] = PLAIN(BAD), [0x37] = PLAIN(NM),
	[0x39] = PLAIN(BAD), [0x3b ... 0x3f] = PLAIN(BAD),
	[0x40 ... 0x4f] = OPC(CMOVCC, REG, RM, 0),
	[0x6e] = OPC(MOVV, VEC, RM, 0), [0x6f] = OPC(MOVV, VEC, RM, 0),
	[0x70 ... 0x73] = PLAIN(I8), [0x77] = PLAIN(NM), [0x7a ... 0x7b] = PLAIN(BAD),
	[0x7e] = OPC(MOVV, RM, VEC, 0), [0x7f] = OPC(MOVV, RM, VEC, 0),
	[0x80 ... 0x8f] = PLAIN(NM | IZ | D64),
	[0x90 ... 0x9f] = OPC(SETCC, RM, NONE, B),
	[0xa0] = OPC(PUSH, NONE, SEG, NM | D64), [0xa1] = OPC(POP, SEG, NONE, NM | D64),
	[0xa2] = PLAIN(NM), [0xa3] = OPC(BT, RM, REG, 0),
	[0xa4] = OPC(SHLD, RM, REG, I8), [0xa5] = OPC(SHLD, RM, REG, 0),
	[0xa6 ... 0xa7] = PLAIN(BAD),
	[0xa8] = OPC(PUSH, NONE, SEG, NM | D64), [0xa9] = OPC(POP, SEG, NONE, NM | D64),
	[0xaa] = PLAIN(NM),
	[0xab] = OPC(BTS, RM, REG, 0),
	[0xac] = OPC(SHRD, RM, REG, I8), [0xad] = OPC(SHRD, RM, REG, 0),
	[0xaf] = OPC(IMUL, REG, RM, 0),
	[0xb0] = OPC(CMPXCHG, RM, REG, B), [0xb1] = OPC(CMPXCHG, RM, REG, 0),
	[0xb2] = OPC(LOAD_FAR, REG, RM, 0), [0xb3] = OPC(BTR, RM, REG, 0),
	[0xb4 ... 0xb5] = OPC(LOAD_FAR, REG, RM, 0),
	[0xb6 ... 0xb7] = OPC(MOVZX, REG, RM, 0),
	[0xba] = OPC(NONE, RM, IMM, I8), [0xbb] = OPC(BTC, RM, REG, 0),
	[0xbc] = OPC(BSF, REG, RM, 0), [0xbd] = OPC(BSR, REG, RM, 0),
	[0xbe ... 0xbf] = OPC(MOVSX, REG, RM, 0),
	[0xc0] = OPC(XADD, RM, REG, B), [0xc1] = OPC(XADD, RM, REG, 0),
	[0xc2] = PLAIN(I8), [0xc3] = OPC(MOV, RM, REG, 0), [0xc4 ... 0xc6] = PLAIN(I8),
	[0xc7] = OPC(CMPXCHG8B, RM, NONE, 0),
	[0xc8 ... 0xcf] = PLAIN(NM),
	[0xd6] = OPC(MOVV, RM, VEC, 0), [0xe7] = OPC(MOVVA, RM, VEC, 0),
};

/* All of 0F38 and all of 0F3A; adjust() knows the few with an operation. */
static const struct opcode any_0f38 = PLAIN(0), any_0f3a = PLAIN(I8);

struct cursor {
	const u8 *at, *end;
};

/* The next @size bytes, sign-extended. */
static bool take(struct cursor *c, unsigned int size, s64 *val)
{
	unsigned int i;
	u64 v = 0;

	if (c->end - c->at < (long)size)
		return false;
	for (i = 0; i < size; i++)
		v |= (u64)*c->at++ << 8 * i;
	*val = size ? (s64)(v << (64 - 8 * size)) >> (64 - 8 * size) : 0;
	return true;
}

/* ModRM.rm of 16-bit addresses: base and index. */
static const u8 base_16[8] = { MK_RBX, MK_RBX, MK_RBP, MK_RBP, MK_RSI, MK_RDI, MK_RBP, MK_RBX };
static const u8 index_16[8] = { MK_RSI, MK_RDI, MK_RSI, MK_RDI,
				MK_NO_REG, MK_NO_REG, MK_NO_REG, MK_NO_REG };

/* What a ModRM byte with memory in it says about the address, SIB and displacement included. */
static bool memory_operand(struct mk_insn *insn, struct cursor *c, u8 rm, bool mode64)
{
	unsigned int disp = insn->mod == 1 ? 1 : insn->mod == 2 ? 4 : 0;

	if (insn->asize == 2) {
		insn->base = base_16[rm];
		insn->index = index_16[rm];
		if (insn->mod == 0 && rm == 6)
			insn->base = MK_NO_REG;
		if (insn->mod == 2 || insn->base == MK_NO_REG)
			disp = 2;
		return take(c, disp, &insn->disp);
	}

	insn->base = insn->rm;
	if (rm == 4) {
		s64 sib;

		if (!take(c, 1, &sib))
			return false;
		insn->scale = sib >> 6 & 3;
		insn->index = (sib >> 3 & 7) | (insn->rex & 2) << 2;
		insn->base = (sib & 7) | (insn->rex & 1) << 3;
		if (insn->index == MK_RSP)
			insn->index = MK_NO_REG;
	}
	if (insn->mod == 0 && (insn->base & 7) == MK_RBP) {
		insn->rip_relative = mode64 && rm != 4;
		insn->base = MK_NO_REG;
		disp = 4;
	}
	return take(c, disp, &insn->disp);
}

/* 0F map, vector moves: how many bytes, by the mandatory prefix; without one some are MMX. */
static void adjust_vector(struct mk_insn *insn, bool data16)
{
	u8 size = 16, element = insn->rex & 8 ? 8 : 4;
	bool mmx = false;

	switch (insn->opcode) {
	case 0x10:
	case 0x11:
		size = insn->rep == 0xf3 ? 4 : insn->rep == 0xf2 ? 8 : 16;
		break;
	case 0x6e:
		size = element;
		mmx = !data16;
		break;
	case 0x7e:
		if (insn->rep == 0xf3) {
			insn->dst = MK_O_VEC;
			insn->src = MK_O_RM;
			size = 8;
		} else {
			size = element;
			mmx = !data16;
		}
		break;
	case 0x6f:
	case 0x7f:
		if (insn->rep == 0xf3)
			break;
		insn->op = MK_OP_MOVVA;
		size = data16 ? 16 : 8;
		mmx = !data16;
		break;
	case 0xe7:
		size = data16 ? 16 : 8;
		mmx = !data16;
		break;
	case 0xd6:
		size = 8;
		if (!data16)	/* between the two kinds of registers */
			insn->op = MK_OP_NONE;
		break;
	}
	insn->size = size;
	if (mmx) {
		insn->op = MK_OP_MOVMMX;
		insn->reg &= 7;
	}
}

/* Which segment register LDS, LES, LFS, LGS and LSS load besides a general one */
u8 mk_insn_far_seg(const struct mk_insn *insn)
{
	if (insn->map == 0)
		return insn->opcode == 0xc4 ? MK_ES : MK_DS;
	return insn->opcode & 7;
}

/*
 * What the tables have no room for. @reg is ModRM.reg without REX's bit. May
 * change *@flags where they matter later on. MK_INSN_OK or why not.
 */
static int adjust(struct mk_insn *insn, u8 reg, u16 *flags, bool data16, bool mode64)
{
	switch (insn->map << 8 | insn->opcode) {
	case 0x006 ... 0x007:	/* PUSH and POP of a segment register */
	case 0x00e:
	case 0x016 ... 0x017:
	case 0x01e ... 0x01f:
	case 0x1a0 ... 0x1a1:
	case 0x1a8 ... 0x1a9:
		insn->reg = insn->opcode >> 3 & 7;
		break;
	case 0x08c:
	case 0x08e:
		if (reg > MK_GS || (insn->op == MK_OP_LOAD_SEG && reg == MK_CS))
			return MK_INSN_INVALID;
		insn->reg = reg;
		if (insn->op == MK_OP_LOAD_SEG || insn->mod != 3)
			insn->size = insn->srcsize = 2;
		break;
	case 0x062:		/* BOUND, or EVEX */
	case 0x0c4 ... 0x0c5:	/* LES, LDS, or VEX */
		return mode64 || insn->mod == 3 ? MK_INSN_UNSUPPORTED : MK_INSN_OK;
	case 0x063:		/* MOVSXD; before 64-bit mode, ARPL */
		if (!mode64)
			insn->op = MK_OP_NONE;
		insn->srcsize = insn->opsize == 2 ? 2 : 4;
		break;
	case 0x08f:		/* POP, or XOP */
		return reg ? MK_INSN_UNSUPPORTED : MK_INSN_OK;
	case 0x06c ... 0x06f:
	case 0x0e4 ... 0x0e7:
	case 0x0ec ... 0x0ef:
		if (insn->size == 8)
			insn->size = insn->opsize = 4;
		break;
	case 0x0c6 ... 0x0c7:	/* MOV; XABORT, XBEGIN */
		if (reg)
			insn->op = MK_OP_NONE;
		break;
	case 0x0f6 ... 0x0f7:
		if (reg < 2) {
			insn->src = MK_O_IMM;
			*flags |= insn->size == 1 ? I8 : IZ;
		}
		break;
	case 0x0fe:
		return reg > 1 ? MK_INSN_INVALID : MK_INSN_OK;
	case 0x0ff:
		if (reg == 7)
			return MK_INSN_INVALID;
		if (reg == 3 || reg == 5)	/* far, and by default not 64 bits wide */
			return insn->mod == 3 ? MK_INSN_INVALID : MK_INSN_OK;
		if (mode64 && reg >= 2 && insn->opsize == 4)
			insn->size = insn->opsize = 8;
		break;
	case 0x100:		/* SLDT, STR, LLDT, LTR */
		if (reg < 4) {
			insn->op = reg < 2 ? MK_OP_STORE_SEL : MK_OP_LOAD_SEG;
			insn->dst = reg < 2 ? MK_O_RM : MK_O_SEG;
			insn->src = reg < 2 ? MK_O_SEG : MK_O_RM;
			insn->reg = MK_LDTR + (reg & 1);
			if (reg >= 2 || insn->mod != 3)
				insn->size = insn->srcsize = 2;
		}
		break;
	case 0x101:
		if (reg == 4) {		/* SMSW */
			insn->op = MK_OP_STORE_SEL;
			insn->dst = MK_O_RM;
			if (insn->mod != 3)
				insn->size = 2;
		} else if (reg < 4 && insn->mod != 3) {
			insn->op = MK_OP_SGDT + reg;
			insn->size = mode64 ? 8 : 4;
		}
		break;
	case 0x120 ... 0x123:
		insn->mod = 3;
		insn->size = insn->opsize = mode64 ? 8 : 4;
		break;
	case 0x1ae:
		if (insn->mod != 3 && (reg == 7 || (reg == 6 && data16)))
			insn->op = MK_OP_CLFLUSH;
		break;
	case 0x1bc ... 0x1bd:	/* or TZCNT and LZCNT, which say something else of zero */
		if (insn->rep == 0xf3)
			insn->op = MK_OP_NONE;
		break;
	case 0x1b2:		/* LSS, LFS, LGS */
	case 0x1b4 ... 0x1b5:
		return insn->mod == 3 ? MK_INSN_INVALID : MK_INSN_OK;
	case 0x1b6 ... 0x1b7:
	case 0x1be ... 0x1bf:
		insn->srcsize = insn->opcode & 1 ? 2 : 1;
		break;
	case 0x1ba:
		if (reg < 4)
			return MK_INSN_INVALID;
		insn->op = MK_OP_BT + reg - 4;
		break;
	case 0x1c7:
		insn->size = insn->rex & 8 ? 16 : 8;
		if (reg != 1 || insn->mod == 3)
			insn->op = MK_OP_NONE;
		break;
	case 0x22a:		/* MOVNTDQA */
		if (data16) {
			insn->op = MK_OP_MOVVA;
			insn->dst = MK_O_VEC;
			insn->src = MK_O_RM;
			insn->size = 16;
		}
		break;
	case 0x2f0 ... 0x2f1:	/* MOVBE; with F2, CRC32 */
		if (insn->rep != 0xf2) {
			insn->op = MK_OP_MOVBE;
			insn->dst = insn->opcode & 1 ? MK_O_RM : MK_O_REG;
			insn->src = insn->opcode & 1 ? MK_O_REG : MK_O_RM;
		}
		break;
	}
	return MK_INSN_OK;
}

int mk_insn_decode(struct mk_insn *insn, const u8 *bytes, unsigned int n, enum mk_cpu_mode mode)
{
	const bool mode64 = mode == MK_MODE_64;
	const int too_short = n < MK_INSN_MAX ? MK_INSN_SHORT : MK_INSN_INVALID;
	struct cursor c = { bytes, bytes + (n < MK_INSN_MAX ? n : MK_INSN_MAX) };
	bool data16 = false, addr_flip = false;
	u8 seg = MK_NO_REG, byte, reg = 0;
	const struct opcode *opc;
	u16 flags;
	s64 val;
	int ret;

	memset(insn, 0, sizeof(*insn));
	insn->base = MK_NO_REG;
	insn->index = MK_NO_REG;

	for (;; c.at++) {
		if (c.at == c.end)
			return too_short;
		byte = *c.at;
		if (mode64 && (byte & 0xf0) == 0x40) {
			insn->rex = byte;
			continue;
		}
		if (byte == 0x66)
			data16 = true;
		else if (byte == 0x67)
			addr_flip = true;
		else if (byte == 0xf0)
			insn->lock = true;
		else if (byte == 0xf2 || byte == 0xf3)
			insn->rep = byte;
		else if ((byte & 0xe7) == 0x26)		/* ES, CS, SS, DS */
			seg = mode64 ? seg : byte >> 3 & 3;
		else if (byte == 0x64 || byte == 0x65)
			seg = MK_FS + (byte & 1);
		else
			break;
		insn->rex = 0;	/* REX counts only right before the opcode */
	}

	c.at++;
	if (byte == 0x0f) {
		if (c.at == c.end)
			return too_short;
		byte = *c.at++;
		insn->map = byte == 0x38 ? 2 : byte == 0x3a ? 3 : 1;
		if (insn->map > 1) {
			if (c.at == c.end)
				return too_short;
			byte = *c.at++;
		}
	}
	insn->opcode = byte;

	opc = insn->map == 0 ? &map_1[byte] : insn->map == 1 ? &map_0f[byte] :
	      insn->map == 2 ? &any_0f38 : &any_0f3a;
	flags = opc->flags;
	if (flags & BAD || (mode64 && flags & N64))
		return MK_INSN_INVALID;

	if (mode64) {
		insn->asize = addr_flip ? 4 : 8;
		insn->opsize = insn->rex & 8 ? 8 : data16 ? 2 : flags & D64 ? 8 : 4;
	} else {
		insn->asize = (mode == MK_MODE_32) == addr_flip ? 2 : 4;
		insn->opsize = (mode == MK_MODE_32) == data16 ? 2 : 4;
	}
	insn->op = opc->op;
	insn->dst = opc->operands >> 4;
	insn->src = opc->operands & 15;
	insn->size = flags & B ? 1 : insn->opsize;
	insn->srcsize = insn->size;

	insn->has_modrm = insn->map ? !(flags & NM) : flags & M;
	if (insn->has_modrm) {
		if (!take(&c, 1, &val))
			return too_short;
		insn->mod = val >> 6 & 3;
		reg = val >> 3 & 7;
		insn->reg = reg | (insn->rex & 4) << 1;
		insn->rm = (val & 7) | (insn->rex & 1) << 3;
		if (flags & GRP)
			insn->op += reg;
	} else {
		insn->reg = (byte & 7) | (insn->rex & 1) << 3;
	}

	ret = adjust(insn, reg, &flags, data16, mode64);
	if (ret != MK_INSN_OK)
		return ret;
	if (insn->op == MK_OP_MOVV || insn->op == MK_OP_MOVVA)
		if (insn->map == 1)
			adjust_vector(insn, data16);

	if (insn->has_modrm && insn->mod != 3 && !memory_operand(insn, &c, val & 7, mode64))
		return too_short;
	if ((insn->dst == MK_O_MOFFS || insn->src == MK_O_MOFFS) &&
	    !take(&c, insn->asize, &insn->disp))
		return too_short;

	if (flags & IW) {
		if (!take(&c, 2, &val))
			return too_short;
		insn->word = val;
	}
	insn->has_imm = flags & (I8 | IZ | IV);
	if (insn->has_imm) {
		unsigned int size = flags & I8 ? 1 : insn->opsize;

		if (flags & IZ && size == 8)
			size = 4;
		if (!take(&c, size, &val))
			return too_short;
		insn->imm = val;
	}

	insn->seg = seg != MK_NO_REG ? seg :
		    insn->base == MK_RSP || insn->base == MK_RBP ? MK_SS : MK_DS;
	insn->len = c.at - bytes;
	return MK_INSN_OK;
}

unsigned int mk_insn_len(const u8 *bytes, unsigned int n, u32 opcode, enum mk_cpu_mode mode)
{
	unsigned int i = 0, size = opcode > 0xffff ? 3 : opcode > 0xff ? 2 : 1;

	if (n > MK_INSN_MAX)
		n = MK_INSN_MAX;
	for (; i + size <= n; i++) {
		u8 byte = bytes[i];
		u32 here = byte;

		if (size > 1)
			here = here << 8 | bytes[i + 1];
		if (size > 2)
			here = here << 8 | bytes[i + 2];
		if (here == opcode)
			return i + size;
		if ((byte & 0xfc) == 0x64 || (byte & 0xe7) == 0x26 || byte == 0xf0 ||
		    (byte & 0xfe) == 0xf2 || (mode == MK_MODE_64 && (byte & 0xf0) == 0x40))
			continue;
		break;
	}
	return 0;
}
