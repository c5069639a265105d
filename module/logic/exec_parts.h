/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the executor's own files share: the operands, the memory and the faults of one
 * mk_exec. For exec.c (data), control.c (stack, branches, segments), segment.c
 * (descriptors) and task.c (task switches) alone.
 *
 * What returns an int returns an enum mk_exec_status.
 */
#ifndef MK_LOGIC_EXEC_PARTS_H
#define MK_LOGIC_EXEC_PARTS_H

#include "logic/exec.h"

static inline u64 mk_exec_mask(unsigned int size)
{
	return ~0ULL >> (64 - 8 * size);
}

static inline bool mk_exec_in_memory(const struct mk_insn *insn, u8 operand)
{
	return operand == MK_O_MOFFS || (operand == MK_O_RM && insn->mod != 3);
}

/* Fault with an error code of 0, where @vector has one. */
int mk_exec_raise(struct mk_exec *x, u8 vector);
/* RIP to the next instruction. */
int mk_exec_finish(struct mk_exec *x);

u64 mk_exec_get_reg(const struct mk_exec *x, u8 nr, unsigned int size);
void mk_exec_set_reg(struct mk_exec *x, u8 nr, u64 val, unsigned int size);
/* The register that an operand names, and what a register or an immediate holds. */
u8 mk_exec_operand_reg(const struct mk_insn *insn, u8 operand);
u64 mk_exec_get_operand(const struct mk_exec *x, u8 operand, unsigned int size);

/* The offset that ModRM, SIB and displacement, or a MOFFS, name. */
u64 mk_exec_address(const struct mk_exec *x);
bool mk_exec_canonical(const struct mk_exec *x, u64 addr);
/* From an offset in segment @nr to a linear address, or #GP(0), #SS(0). */
int mk_exec_linear(struct mk_exec *x, u8 nr, u64 ea, unsigned int size, u32 access, u64 *lin);
int mk_exec_read_linear(struct mk_exec *x, u64 lin, void *buf, unsigned int size, u32 access);
int mk_exec_write_linear(struct mk_exec *x, u64 lin, const void *buf, unsigned int size,
			 const void *old);
/* Both in one: @size is 8 bytes at most, and *@val is zero-extended. */
int mk_exec_read(struct mk_exec *x, u8 seg, u64 ea, u64 *val, unsigned int size);
int mk_exec_write(struct mk_exec *x, u8 seg, u64 ea, u64 val, unsigned int size);

/* MK_OP_CALL to MK_OP_LIDT: control.c */
int mk_exec_control(struct mk_exec *x);

/**
 * mk_exec_load_segment - what a segment register holds after a load of @sel
 * @nr:  enum mk_seg_reg; MK_CS as a far branch within the privilege level loads it
 * @seg: filled; the register itself does not change
 *
 * Checks as the CPU does, marks the descriptor accessed or busy.
 * Source: SDM vol. 2, "MOV", "LLDT", "LTR" and "JMP".
 *
 * Return: MK_EXEC_UNSUPPORTED for the gates and task switches of MK_CS.
 */
int mk_exec_load_segment(struct mk_exec *x, u8 nr, u16 sel, struct mk_seg *seg);

/*
 * What TR holds after a task switch to @sel, and without a change of the descriptor, which
 * must not be busy, or be so if the switch goes @back by IRET; then to mark one.
 */
int mk_exec_load_tss(struct mk_exec *x, u16 sel, bool back, struct mk_seg *tss);
int mk_exec_mark_tss(struct mk_exec *x, u16 sel, bool busy);

/* What the CPU itself reads and writes: of a table or a TSS, at linear address @addr. */
int mk_exec_read_system(struct mk_exec *x, u64 addr, void *buf, unsigned int size);
int mk_exec_write_system(struct mk_exec *x, u64 addr, const void *buf, unsigned int size);

#endif
