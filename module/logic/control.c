// SPDX-License-Identifier: GPL-2.0
/*
 * The executor's other half: instructions that move the stack, RIP, segment
 * registers and the descriptor tables' registers.
 *
 * The stack pointer is moved in a copy, which goes into RSP after the last access, so
 * that one which faults or has to wait leaves nothing to undo. Segments, as well.
 *
 * SDM vol. 2, "Instruction Set Reference"; APM vol. 3.
 */
#include <asm/processor-flags.h>
#include <asm/trapnr.h>
#include <linux/string.h>

#include "logic/exec_parts.h"

/*
 * The stack
 */

static int push(struct mk_exec *x, u64 *rsp, u64 val)
{
	return mk_exec_push(x, rsp, val, x->insn.size);
}

static int pop(struct mk_exec *x, u64 *rsp, u64 *val)
{
	u64 from = *rsp & mk_exec_mask(mk_exec_stack_width(x));

	*rsp += x->insn.size;
	return mk_exec_read(x, MK_SS, from, val, x->insn.size);
}

static int finish(struct mk_exec *x, u64 rsp)
{
	mk_exec_set_reg(x, MK_RSP, rsp, mk_exec_stack_width(x));
	return mk_exec_finish(x);
}

static int finish_at(struct mk_exec *x, u64 rsp, u64 rip)
{
	finish(x, rsp);
	x->cpu.rip = rip;
	return MK_EXEC_OK;
}

static int pop_operand(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	const u64 old = x->cpu.gpr[MK_RSP];
	u64 rsp = old, val;
	struct mk_seg seg;
	int ret = pop(x, &rsp, &val);

	if (ret)
		return ret;
	if (insn->dst == MK_O_SEG) {
		ret = mk_exec_load_segment(x, insn->reg, val, &seg);
		if (ret)
			return ret;
		x->cpu.seg[insn->reg] = seg;
		x->cpu.mov_ss = insn->reg == MK_SS;
		return finish(x, rsp);
	}
	/* an address made of RSP means RSP after the pop */
	mk_exec_set_reg(x, MK_RSP, rsp, mk_exec_stack_width(x));
	if (mk_exec_in_memory(insn, insn->dst))
		ret = mk_exec_write(x, insn->seg, mk_exec_address(x), val, insn->size);
	else
		mk_exec_set_reg(x, mk_exec_operand_reg(insn, insn->dst), val, insn->size);
	if (ret) {
		x->cpu.gpr[MK_RSP] = old;
		return ret;
	}
	return mk_exec_finish(x);
}

/* PUSHA, POPA: from RAX to RDI, or back; the stack pointer's own image is skipped. */
static int push_all(struct mk_exec *x)
{
	u64 rsp = x->cpu.gpr[MK_RSP];
	int nr, ret;

	for (nr = MK_RAX; nr <= MK_RDI; nr++) {
		ret = push(x, &rsp, x->cpu.gpr[nr]);
		if (ret)
			return ret;
	}
	return finish(x, rsp);
}

static int pop_all(struct mk_exec *x)
{
	u64 rsp = x->cpu.gpr[MK_RSP], val[MK_RDI + 1];
	int nr, ret;

	for (nr = MK_RDI; nr >= MK_RAX; nr--) {
		ret = pop(x, &rsp, &val[nr]);
		if (ret)
			return ret;
	}
	for (nr = MK_RAX; nr <= MK_RDI; nr++)
		if (nr != MK_RSP)
			mk_exec_set_reg(x, nr, val[nr], x->insn.size);
	return finish(x, rsp);
}

/* What a program may change by POPF depends on its privilege. */
static int flags(struct mk_exec *x)
{
	const u8 iopl = mk_exec_iopl(x);
	u64 rsp = x->cpu.gpr[MK_RSP], val, change;
	int ret;

	if (x->cpu.rflags & X86_EFLAGS_VM && iopl != 3)
		return MK_EXEC_UNSUPPORTED;
	if (x->insn.op == MK_OP_PUSHF) {
		ret = push(x, &rsp, x->cpu.rflags & ~(X86_EFLAGS_VM | X86_EFLAGS_RF));
		return ret ?: finish(x, rsp);
	}
	change = X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF |
		 X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_OF | X86_EFLAGS_NT | X86_EFLAGS_AC |
		 X86_EFLAGS_ID;
	if (x->cpu.cpl <= iopl)
		change |= X86_EFLAGS_IF;
	if (x->cpu.cpl == 0)
		change |= X86_EFLAGS_IOPL;
	change &= mk_exec_mask(x->insn.size);
	ret = pop(x, &rsp, &val);
	if (ret)
		return ret;
	x->cpu.rflags = (x->cpu.rflags & ~change) | (val & change);
	return finish(x, rsp);
}

/* ENTER copies as many of the outer procedures' frame pointers as its level says. */
static int enter(struct mk_exec *x)
{
	const u8 width = mk_exec_stack_width(x);
	u64 rsp = x->cpu.gpr[MK_RSP], outer = x->cpu.gpr[MK_RBP], frame, val;
	unsigned int level = x->insn.imm & 31;
	int ret = push(x, &rsp, outer);

	frame = rsp;
	for (; !ret && level > 1; level--) {
		outer -= x->insn.size;
		ret = mk_exec_read(x, MK_SS, outer & mk_exec_mask(width), &val, x->insn.size);
		if (!ret)
			ret = push(x, &rsp, val);
	}
	if (!ret && level)
		ret = push(x, &rsp, frame);
	if (ret)
		return ret;
	mk_exec_set_reg(x, MK_RBP, frame, x->insn.size);
	return finish(x, rsp - x->insn.word);
}

static int leave(struct mk_exec *x)
{
	u64 rsp = x->cpu.gpr[MK_RBP], val;
	int ret = pop(x, &rsp, &val);

	if (ret)
		return ret;
	mk_exec_set_reg(x, MK_RBP, val, x->insn.size);
	return finish(x, rsp);
}

/*
 * Branches
 */

/* Can code at @rip of @cs be reached? In 64-bit mode the address counts, else the limit. */
static int check_target(struct mk_exec *x, const struct mk_seg *cs, bool mode64, u64 rip)
{
	if (mode64 ? mk_exec_canonical(x, rip) : rip <= cs->limit)
		return MK_EXEC_OK;
	return mk_exec_raise(x, X86_TRAP_GP);
}

static int check_near(struct mk_exec *x, u64 rip)
{
	return check_target(x, &x->cpu.seg[MK_CS], x->cpu.mode == MK_MODE_64, rip);
}

/* PUSH, and near CALL and JMP to where an operand says */
static int push_or_branch(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	const u8 operand = insn->dst != MK_O_NONE ? insn->dst : insn->src;
	const u64 next = x->cpu.rip + insn->len;
	u64 rsp = x->cpu.gpr[MK_RSP], val;
	int ret = MK_EXEC_OK;

	if (mk_exec_in_memory(insn, operand))
		ret = mk_exec_read(x, insn->seg, mk_exec_address(x), &val, insn->size);
	else
		val = mk_exec_get_operand(x, operand, insn->size);
	if (ret)
		return ret;
	if (insn->op == MK_OP_PUSH) {
		ret = push(x, &rsp, val);
		return ret ?: finish(x, rsp);
	}
	if (operand == MK_O_IMM)
		val = (next + val) & mk_exec_mask(insn->size);
	ret = check_near(x, val);
	if (!ret && insn->op == MK_OP_CALL)
		ret = push(x, &rsp, next);
	return ret ?: finish_at(x, rsp, val);
}

static int near_return(struct mk_exec *x)
{
	u64 rsp = x->cpu.gpr[MK_RSP], rip;
	int ret = pop(x, &rsp, &rip);

	if (!ret)
		ret = check_near(x, rip);
	return ret ?: finish_at(x, rsp + x->insn.word, rip);
}

/* CS for a far branch, checked together with where it leads. */
static int load_code(struct mk_exec *x, u16 sel, u64 rip, struct mk_seg *cs)
{
	int ret = mk_exec_load_segment(x, MK_CS, sel, cs);

	if (ret)
		return ret;
	if (mk_exec_protected(x))
		cs->sel = (sel & ~3) | x->cpu.cpl;
	return check_target(x, cs, x->cpu.long_mode && cs->ar & MK_AR_L, rip);
}

/* A far pointer in memory: the offset, @size bytes of it, then the selector. */
static int read_far(struct mk_exec *x, u64 *offset, u16 *sel)
{
	const unsigned int size = x->insn.size;
	u8 buf[10];
	u64 lin;
	int ret = mk_exec_linear(x, x->insn.seg, mk_exec_address(x), size + 2, MK_ACC_READ, &lin);

	if (!ret)
		ret = mk_exec_read_linear(x, lin, buf, size + 2, MK_ACC_READ);
	if (ret)
		return ret;
	*offset = 0;
	memcpy(offset, buf, size);
	memcpy(sel, buf + size, 2);
	return MK_EXEC_OK;
}

static int far_branch(struct mk_exec *x)
{
	const u64 next = x->cpu.rip + x->insn.len;
	u64 rsp = x->cpu.gpr[MK_RSP], rip;
	struct mk_seg cs;
	u16 sel;
	int ret = read_far(x, &rip, &sel);

	if (!ret)
		ret = load_code(x, sel, rip, &cs);
	if (!ret && x->insn.op == MK_OP_CALL_FAR)
		ret = push(x, &rsp, x->cpu.seg[MK_CS].sel) ?: push(x, &rsp, next);
	if (ret)
		return ret;
	finish_at(x, rsp, rip);
	x->cpu.seg[MK_CS] = cs;
	return MK_EXEC_OK;
}

static int far_return(struct mk_exec *x)
{
	u64 rsp = x->cpu.gpr[MK_RSP], rip, sel;
	struct mk_seg cs;
	int ret = pop(x, &rsp, &rip) ?: pop(x, &rsp, &sel);

	if (ret)
		return ret;
	/* to a program of less privilege: two stacks, and more segments to check */
	if (mk_exec_protected(x) && (sel & 3) > x->cpu.cpl)
		return MK_EXEC_UNSUPPORTED;
	ret = load_code(x, sel, rip, &cs);
	if (ret)
		return ret;
	finish_at(x, rsp + x->insn.word, rip);
	x->cpu.seg[MK_CS] = cs;
	return MK_EXEC_OK;
}

/*
 * Segments and tables
 */

/*
 * The CPU has found #GP of too little privilege before the exit; but another vCPU may
 * have changed the instruction since.
 */
static bool may_load_system(const struct mk_exec *x)
{
	return x->cpu.cpl == 0;
}

static bool may_store_system(const struct mk_exec *x)
{
	return x->cpu.cpl == 0 || !(x->cpu.cr4 & X86_CR4_UMIP);
}

static int load_segment(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	struct mk_seg seg;
	u64 sel;
	int ret = MK_EXEC_OK;

	if (insn->reg >= MK_LDTR && !may_load_system(x))
		return mk_exec_raise(x, X86_TRAP_GP);
	if (mk_exec_in_memory(insn, insn->src))
		ret = mk_exec_read(x, insn->seg, mk_exec_address(x), &sel, 2);
	else
		sel = mk_exec_get_reg(x, insn->rm, 2);
	if (!ret)
		ret = mk_exec_load_segment(x, insn->reg, sel, &seg);
	if (ret)
		return ret;
	x->cpu.seg[insn->reg] = seg;
	x->cpu.mov_ss = insn->reg == MK_SS;
	return mk_exec_finish(x);
}

static int load_far(struct mk_exec *x)
{
	const u8 nr = mk_insn_far_seg(&x->insn);
	struct mk_seg seg;
	u64 offset;
	u16 sel;
	int ret = read_far(x, &offset, &sel);

	if (!ret)
		ret = mk_exec_load_segment(x, nr, sel, &seg);
	if (ret)
		return ret;
	x->cpu.seg[nr] = seg;
	mk_exec_set_reg(x, x->insn.reg, offset, x->insn.size);
	return mk_exec_finish(x);
}

static int store_selector(struct mk_exec *x)
{
	const struct mk_insn *insn = &x->insn;
	const bool smsw = insn->map && insn->opcode == 0x01;
	u64 val = smsw ? x->cpu.cr0 : x->cpu.seg[insn->reg].sel;
	int ret = MK_EXEC_OK;

	if (insn->map && !may_store_system(x))
		return mk_exec_raise(x, X86_TRAP_GP);
	if (mk_exec_in_memory(insn, insn->dst))
		ret = mk_exec_write(x, insn->seg, mk_exec_address(x), val, 2);
	else
		mk_exec_set_reg(x, insn->rm, val, insn->opsize);
	return ret ?: mk_exec_finish(x);
}

/* SGDT, SIDT, LGDT, LIDT: a limit of two bytes, then the base */
static int table(struct mk_exec *x)
{
	const u8 op = x->insn.op;
	const bool load = op >= MK_OP_LGDT;
	const unsigned int size = 2 + x->insn.size;
	struct mk_table *t = op == MK_OP_SGDT || op == MK_OP_LGDT ? x->cpu.gdt : x->cpu.idt;
	u64 lin, base = t->base;
	u8 buf[10];
	int ret;

	if (load ? !may_load_system(x) : !may_store_system(x))
		return mk_exec_raise(x, X86_TRAP_GP);
	ret = mk_exec_linear(x, x->insn.seg, mk_exec_address(x), size,
			     load ? MK_ACC_READ : MK_ACC_WRITE, &lin);
	if (ret)
		return ret;
	if (!load) {
		memcpy(buf, &t->limit, 2);
		memcpy(buf + 2, &base, size - 2);
		ret = mk_exec_write_linear(x, lin, buf, size, NULL);
		return ret ?: mk_exec_finish(x);
	}
	ret = mk_exec_read_linear(x, lin, buf, size, MK_ACC_READ);
	if (ret)
		return ret;
	base = 0;
	memcpy(&base, buf + 2, size - 2);
	if (x->insn.opsize == 2 && x->cpu.mode != MK_MODE_64)
		base &= 0xffffff;
	if (!mk_exec_canonical(x, base))
		return mk_exec_raise(x, X86_TRAP_GP);
	t->base = base;
	memcpy(&t->limit, buf, 2);
	return mk_exec_finish(x);
}

int mk_exec_control(struct mk_exec *x)
{
	switch (x->insn.op) {
	case MK_OP_PUSH:
	case MK_OP_CALL:
	case MK_OP_JMP:
		return push_or_branch(x);
	case MK_OP_CALL_FAR:
	case MK_OP_JMP_FAR:
		return far_branch(x);
	case MK_OP_POP:
		return pop_operand(x);
	case MK_OP_RET:
		return near_return(x);
	case MK_OP_RET_FAR:
		return far_return(x);
	case MK_OP_ENTER:
		return enter(x);
	case MK_OP_LEAVE:
		return leave(x);
	case MK_OP_PUSHA:
		return push_all(x);
	case MK_OP_POPA:
		return pop_all(x);
	case MK_OP_PUSHF:
	case MK_OP_POPF:
		return flags(x);
	case MK_OP_LOAD_SEG:
		return load_segment(x);
	case MK_OP_LOAD_FAR:
		return load_far(x);
	case MK_OP_STORE_SEL:
		return store_selector(x);
	default:
		return table(x);
	}
}
