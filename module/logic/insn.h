/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Instruction decoding: from bytes to a length, operands and an operation.
 *
 * The length is right for every legacy-encoded instruction (one-byte, 0F, 0F38
 * and 0F3A maps); the operation is known for those that exec.c executes. VEX, EVEX
 * and XOP are refused.
 *
 * Pure. Read next: the tables in insn.c, then exec.h.
 */
#ifndef MK_LOGIC_INSN_H
#define MK_LOGIC_INSN_H

#include "facts/x86.h"

#define MK_INSN_MAX	15	/* bytes; a longer one is #GP */

enum mk_op {
	MK_OP_NONE,	/* length and operands only */
	/* the order of the next eight is that of the opcode's bits 5:3 and of group 1 */
	MK_OP_ADD, MK_OP_OR, MK_OP_ADC, MK_OP_SBB, MK_OP_AND, MK_OP_SUB, MK_OP_XOR, MK_OP_CMP,
	/* of group 2 */
	MK_OP_ROL, MK_OP_ROR, MK_OP_RCL, MK_OP_RCR, MK_OP_SHL, MK_OP_SHR, MK_OP_SAL, MK_OP_SAR,
	/* of group 3 */
	MK_OP_TEST, MK_OP_TEST_ALIAS, MK_OP_NOT, MK_OP_NEG, MK_OP_MUL, MK_OP_IMUL1, MK_OP_DIV,
	MK_OP_IDIV,
	/* of group 8, from its fifth on */
	MK_OP_BT, MK_OP_BTS, MK_OP_BTR, MK_OP_BTC,
	MK_OP_BSF, MK_OP_BSR, MK_OP_SHLD, MK_OP_SHRD,
	/* of groups 4 and 5 */
	MK_OP_INC, MK_OP_DEC, MK_OP_CALL, MK_OP_CALL_FAR, MK_OP_JMP, MK_OP_JMP_FAR, MK_OP_PUSH,
	/* from MK_OP_CALL to MK_OP_LIDT: what control.c executes */
	MK_OP_POP, MK_OP_RET, MK_OP_RET_FAR, MK_OP_ENTER, MK_OP_LEAVE,
	MK_OP_PUSHA, MK_OP_POPA, MK_OP_PUSHF, MK_OP_POPF,
	MK_OP_LOAD_SEG,		/* MOV to a segment register, LLDT, LTR */
	MK_OP_LOAD_FAR,		/* LDS, LES, LFS, LGS, LSS */
	MK_OP_STORE_SEL,	/* MOV from a segment register, SLDT, STR; and SMSW */
	/* of group 7 */
	MK_OP_SGDT, MK_OP_SIDT, MK_OP_LGDT, MK_OP_LIDT,
	MK_OP_MOV, MK_OP_MOVZX, MK_OP_MOVSX, MK_OP_MOVBE, MK_OP_XCHG, MK_OP_XADD,
	MK_OP_CMPXCHG, MK_OP_CMPXCHG8B, MK_OP_IMUL, MK_OP_SETCC, MK_OP_CMOVCC,
	MK_OP_MOVS, MK_OP_CMPS, MK_OP_STOS, MK_OP_LODS, MK_OP_SCAS, MK_OP_INS, MK_OP_OUTS,
	MK_OP_IN, MK_OP_OUT,
	MK_OP_CLFLUSH,	/* CLFLUSHOPT and CLWB too */
	MK_OP_MOVV,	/* 4, 8 or 16 bytes between memory and a vector register */
	MK_OP_MOVVA,	/* the same, and memory must be aligned */
	MK_OP_MOVMMX,	/* 4 or 8 bytes between memory and an MMX register */
};

/* What an operand is. */
enum mk_operand {
	MK_O_NONE,
	MK_O_RM,	/* ModRM.rm: register, or memory where mk_insn.mod != 3 */
	MK_O_REG,	/* ModRM.reg */
	MK_O_ACC,	/* AL, AX, EAX, RAX */
	MK_O_LOW,	/* the low bits of the opcode: mk_insn.reg too */
	MK_O_IMM,
	MK_O_ONE,	/* the constant 1 */
	MK_O_CL,
	MK_O_MOFFS,	/* memory at mk_insn.disp */
	MK_O_PORT,	/* imm8 or DX */
	MK_O_SEG,	/* mk_insn.reg: a segment register (enum mk_seg_reg) */
	MK_O_VEC,	/* ModRM.reg: a vector register, or an MMX register */
	MK_O_CR,	/* ModRM.reg: a control register; rm is always a register */
	MK_O_DR,
};

#define MK_NO_REG	0xff

/**
 * struct mk_insn - one decoded instruction
 * @len:    bytes
 * @map:    0: one-byte opcodes, 1: 0F, 2: 0F38, 3: 0F3A
 * @opcode: last byte of the opcode
 * @op:     enum mk_op
 * @dst:    enum mk_operand, as is @src; a third operand can only be @imm
 * @size:   of the operation, in bytes: 1, 2, 4, 8, or 16
 * @srcsize: of the source of MOVZX and MOVSX, in bytes; else @size
 * @asize:  of addresses and of REP's counter, in bytes: 2, 4 or 8
 * @opsize: effective operand size in bytes, even where @size is 1
 * @has_modrm: @mod and @rm are valid
 * @mod, @reg, @rm: of ModRM, with REX's bits in @reg and @rm
 * @seg:    segment of the memory operand, overrides applied (enum mk_seg_reg)
 * @base, @index: registers of the memory operand, or MK_NO_REG
 * @scale:  of @index, as a shift
 * @rip_relative: @disp counts from the next instruction
 * @rep:    0, 0xf2 or 0xf3
 * @imm:    sign-extended where the instruction does so
 * @word:   the 16 bits that RET, RETF and ENTER release or reserve
 */
struct mk_insn {
	u8 len, map, opcode, op;
	u8 dst, src;
	u8 size, srcsize, asize, opsize;
	u8 rex, rep;
	bool lock : 1, has_modrm : 1, rip_relative : 1, has_imm : 1;
	u8 mod, reg, rm;
	u8 seg, base, index, scale;
	u16 word;
	s64 disp;
	u64 imm;
};

enum mk_insn_status {
	MK_INSN_OK,
	MK_INSN_SHORT,		/* it does not end within the bytes given */
	MK_INSN_INVALID,	/* longer than MK_INSN_MAX, or no such opcode in this mode */
	MK_INSN_UNSUPPORTED,	/* VEX, EVEX, XOP */
};

/**
 * mk_insn_decode - decode the instruction at @bytes
 * @n:    bytes there; 15 are always enough
 * @mode: of the code segment
 *
 * Return: enum mk_insn_status. Other than with MK_INSN_OK *@insn is undefined.
 */
int mk_insn_decode(struct mk_insn *insn, const u8 *bytes, unsigned int n, enum mk_cpu_mode mode);

/* The segment register of MK_OP_LOAD_FAR. */
u8 mk_insn_far_seg(const struct mk_insn *insn);

/**
 * mk_insn_len - the length of an instruction whose exit names it already
 * @opcode: the opcode's bytes in the order of memory, the last one lowest:
 *          0x0fa2 for CPUID, 0xf4 for HLT, 0x0f01d9 for VMMCALL
 *
 * The short way for exits that do not tell a length: skips prefixes and
 * compares. Only for instructions without ModRM operands and immediates.
 *
 * Return: bytes, or 0 where @bytes hold something else.
 */
unsigned int mk_insn_len(const u8 *bytes, unsigned int n, u32 opcode, enum mk_cpu_mode mode);

#endif
