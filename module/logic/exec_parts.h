/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the executor's own files share: the operands, the memory and the faults of one
 * mk_exec. For exec.c (data), control.c (stack, branches, segments), segment.c
 * (descriptors) and task.c (task switches) alone.
 *
 * What returns an int returns an enum mk_exec_status. What each access to a device goes
 * through is inline: such accesses are what the executor mostly does.
 */
#ifndef MK_LOGIC_EXEC_PARTS_H
#define MK_LOGIC_EXEC_PARTS_H

#include <asm/processor-flags.h>
#include <asm/trapnr.h>

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
static inline int mk_exec_raise(struct mk_exec *x, u8 vector)
{
	x->fault = (struct mk_exec_fault){
		.vector = vector, .has_error = vector != X86_TRAP_DE && vector != X86_TRAP_MF,
	};
	return MK_EXEC_FAULT;
}

/* Fault about a selector, which without its RPL is the error code. */
static inline int mk_exec_refuse(struct mk_exec *x, u8 vector, u16 sel)
{
	mk_exec_raise(x, vector);
	x->fault.error = sel & ~3;
	return MK_EXEC_FAULT;
}

/* Does a selector name a descriptor? Else, in real and virtual-8086 mode, a paragraph. */
static inline bool mk_exec_protected(const struct mk_exec *x)
{
	return x->cpu.cr0 & X86_CR0_PE && !(x->cpu.rflags & X86_EFLAGS_VM);
}

static inline u8 mk_exec_iopl(const struct mk_exec *x)
{
	return (x->cpu.rflags & X86_EFLAGS_IOPL) >> X86_EFLAGS_IOPL_BIT;
}

/* Without REX, byte registers 4 to 7 are AH, CH, DH and BH. */
static inline bool mk_exec_high_byte(const struct mk_exec *x, u8 nr, unsigned int size)
{
	return size == 1 && !x->insn.rex && nr >= 4 && nr < 8;
}

static inline u64 mk_exec_get_reg(const struct mk_exec *x, u8 nr, unsigned int size)
{
	if (mk_exec_high_byte(x, nr, size))
		return x->cpu.gpr[nr - 4] >> 8 & 0xff;
	return x->cpu.gpr[nr] & mk_exec_mask(size);
}

/* 32 bits clear the upper half; 8 and 16 leave the rest alone. */
static inline void mk_exec_set_reg(struct mk_exec *x, u8 nr, u64 val, unsigned int size)
{
	u64 *reg = &x->cpu.gpr[nr];

	if (mk_exec_high_byte(x, nr, size)) {
		reg = &x->cpu.gpr[nr - 4];
		*reg = (*reg & ~0xff00ULL) | (val & 0xff) << 8;
	} else if (size == 4) {
		*reg = (u32)val;
	} else {
		*reg = (*reg & ~mk_exec_mask(size)) | (val & mk_exec_mask(size));
	}
}

/* RIP to the next instruction. */
static inline int mk_exec_finish(struct mk_exec *x)
{
	x->cpu.rip += x->insn.len;
	if (x->cpu.mode != MK_MODE_64)
		x->cpu.rip = (u32)x->cpu.rip;
	x->cpu.rflags &= ~X86_EFLAGS_RF;
	return MK_EXEC_OK;
}

static inline bool mk_exec_canonical(const struct mk_exec *x, u64 addr)
{
	unsigned int shift = x->cpu.cr4 & X86_CR4_LA57 ? 7 : 16;

	return (u64)((s64)(addr << shift) >> shift) == addr;
}

/* The offset that ModRM, SIB and displacement, or a MOFFS, name. */
static inline u64 mk_exec_address(const struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	u64 ea = insn->disp;

	if (insn->base != MK_NO_REG)
		ea += x->cpu.gpr[insn->base];
	if (insn->index != MK_NO_REG)
		ea += x->cpu.gpr[insn->index] << insn->scale;
	if (insn->rip_relative)
		ea += x->cpu.rip + insn->len;
	return ea & mk_exec_mask(insn->asize);
}

/* May @size bytes at offset @ea of @seg be read, or written? Outside 64-bit mode. */
bool mk_exec_segment_allows(const struct mk_seg *seg, u64 ea, unsigned int size, u32 access);

/* From an offset in a segment to a linear address, or #GP(0), #SS(0). */
static inline int mk_exec_linear(struct mk_exec *x, u8 nr, u64 ea, unsigned int size, u32 access, u64 *lin)
{
	const struct mk_seg *seg = &x->cpu.seg[nr];
	bool ok;

	if (x->cpu.mode == MK_MODE_64) {
		*lin = nr >= MK_FS ? seg->base + ea : ea;
		ok = mk_exec_canonical(x, *lin) && mk_exec_canonical(x, *lin + size - 1);
	} else {
		*lin = (u32)(seg->base + ea);
		ok = mk_exec_segment_allows(seg, ea, size, access);
	}
	return ok ? MK_EXEC_OK : mk_exec_raise(x, nr == MK_SS ? X86_TRAP_SS : X86_TRAP_GP);
}

static inline u32 mk_exec_user(const struct mk_exec *x)
{
	return x->cpu.cpl == 3 ? MK_ACC_USER : 0;
}

static inline int mk_exec_read_linear(struct mk_exec *x, u64 lin, void *buf, unsigned int size, u32 access)
{
	return x->ops->read(x, lin, buf, size, access | mk_exec_user(x));
}

static inline int mk_exec_write_linear(struct mk_exec *x, u64 lin, const void *buf, unsigned int size,
			const void *old)
{
	return x->ops->write(x, lin, buf, size, old, MK_ACC_WRITE | mk_exec_user(x));
}

/* The register that an operand names, and what a register or an immediate holds. */
u8 mk_exec_operand_reg(const struct mk_insn *insn, u8 operand);
u64 mk_exec_get_operand(const struct mk_exec *x, u8 operand, unsigned int size);

/* Through a segment: @size is 8 bytes at most, and *@val is zero-extended. */
int mk_exec_read(struct mk_exec *x, u8 seg, u64 ea, u64 *val, unsigned int size);
int mk_exec_write(struct mk_exec *x, u8 seg, u64 ea, u64 val, unsigned int size);

/* Bytes of the stack pointer that count */
static inline u8 mk_exec_stack_width(const struct mk_exec *x)
{
	if (x->cpu.mode == MK_MODE_64)
		return 8;
	return x->cpu.seg[MK_SS].ar & MK_AR_DB ? 4 : 2;
}

/* Push @size bytes; *@rsp, a copy of the stack pointer, moves. */
static inline int mk_exec_push(struct mk_exec *x, u64 *rsp, u64 val, unsigned int size)
{
	*rsp -= size;
	return mk_exec_write(x, MK_SS, *rsp & mk_exec_mask(mk_exec_stack_width(x)), val, size);
}

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
