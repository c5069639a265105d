// SPDX-License-Identifier: GPL-2.0
/*
 * Switching tasks as 32-bit hardware does it: the old task's registers go to its
 * task-state segment, the new one's come from its own.
 *
 * Pure, as all of the executor. Until the new task is the current one nothing has
 * happened that a second try would not do again; from there on a fault is the new
 * task's.
 *
 * SDM vol. 3A, "Task Management"; APM vol. 2, "Task Management".
 */
#include <asm/processor-flags.h>
#include <asm/trapnr.h>
#include <linux/string.h>

#include "logic/exec_parts.h"

#define MAX_TRIES 100
#define LINK	0	/* of the task to go back to */
#define CR3	0x1c	/* 32-bit TSS */
#define TRAP	0x64	/* likewise: bit 0 asks for #DB */

/* From the instruction pointer on, a TSS is an array of fields of one width. */
enum { IP, FLAGS, GPR, SEG = GPR + 8, MAX_FIELDS = SEG + 7 };

struct layout {
	u8 width;	/* of a field, in bytes */
	u8 ip;		/* offset of the first one */
	u8 nr_seg;	/* segment registers; the LDT's follows */
	u8 limit;	/* a TSS has at least this */
};

static const struct layout tss_16 = { 2, 0x0e, 4, 0x2b }, tss_32 = { 4, 0x20, 6, 0x67 };

static const struct layout *layout_of(const struct mk_seg *tss)
{
	return tss->ar & BIT(3) ? &tss_32 : &tss_16;
}

static u64 field(const struct layout *l, const u8 *image, unsigned int nr)
{
	u32 val = 0;

	memcpy(&val, image + nr * l->width, l->width);
	return val;
}

static void set_field(const struct layout *l, u8 *image, unsigned int nr, u32 val)
{
	memcpy(image + nr * l->width, &val, l->width);
}

/* The old task, so that it goes on behind what has ended it. */
static int save(struct mk_exec *x, const struct mk_task_switch *t)
{
	const struct mk_seg *tss = &x->cpu.seg[MK_TR];
	const struct layout *l = layout_of(tss);
	u8 image[4 * MAX_FIELDS];
	u64 flags = x->cpu.rflags;
	unsigned int i;

	if (t->how == MK_TASK_IRET)
		flags &= ~(u64)X86_EFLAGS_NT;
	set_field(l, image, IP, x->cpu.rip + t->len);
	set_field(l, image, FLAGS, flags);
	for (i = 0; i < 8; i++)
		set_field(l, image, GPR + i, x->cpu.gpr[i]);
	for (i = 0; i < l->nr_seg; i++)
		set_field(l, image, SEG + i, x->cpu.seg[i].sel);
	return mk_exec_write_system(x, tss->base + l->ip, image, l->width * (SEG + l->nr_seg));
}

/* A segment of the new task: what is #GP elsewhere is #TS here. */
static int load(struct mk_exec *x, u8 nr, u16 sel)
{
	unsigned int tries = 0;
	struct mk_seg seg;
	int ret;

	/* There is no way back to the guest here, so lost races for a descriptor are run again. */
	do {
		ret = mk_exec_load_segment(x, nr, sel, &seg);
	} while (ret == MK_EXEC_RETRY && ++tries < MAX_TRIES);
	if (ret == MK_EXEC_UNSUPPORTED ||
	    (ret == MK_EXEC_FAULT && nr == MK_LDTR && x->fault.vector == X86_TRAP_NP))
		return mk_exec_refuse(x, X86_TRAP_TS, sel);
	if (ret == MK_EXEC_FAULT && x->fault.vector == X86_TRAP_GP)
		x->fault.vector = X86_TRAP_TS;
	if (!ret)
		x->cpu.seg[nr] = seg;
	return ret;
}

static int load_all(struct mk_exec *x, const struct layout *l, const u8 *image)
{
	static const u8 order[] = { MK_LDTR, MK_CS, MK_SS, MK_DS, MK_ES, MK_FS, MK_GS };
	unsigned int i;
	int ret;

	x->cpu.cpl = x->cpu.rflags & X86_EFLAGS_VM ? 3 : field(l, image, SEG + MK_CS) & 3;
	for (i = 0; i < sizeof(order); i++) {
		u8 nr = order[i];
		u16 sel = 0;

		if (nr == MK_LDTR)
			sel = field(l, image, SEG + l->nr_seg);
		else if (nr < l->nr_seg)
			sel = field(l, image, SEG + nr);
		ret = load(x, nr, sel);
		if (ret)
			return ret;
	}
	x->cpu.mode = x->cpu.seg[MK_CS].ar & MK_AR_DB ? MK_MODE_32 : MK_MODE_16;
	return MK_EXEC_OK;
}

static int push_error(struct mk_exec *x, u8 width, u32 error)
{
	u64 rsp = x->cpu.gpr[MK_RSP];
	int ret = mk_exec_push(x, &rsp, error, width);

	if (!ret)
		mk_exec_set_reg(x, MK_RSP, rsp, mk_exec_stack_width(x));
	return ret;
}

/* The registers of the new task, which is the current one now. */
static int resume(struct mk_exec *x, const struct mk_task_switch *t, const u8 *image, u32 cr3)
{
	const struct layout *l = layout_of(&x->cpu.seg[MK_TR]);
	unsigned int i;
	int ret = MK_EXEC_OK;

	x->cpu.cr0 |= X86_CR0_TS;
	x->cpu.rip = field(l, image, IP);
	x->cpu.rflags = field(l, image, FLAGS) | X86_EFLAGS_FIXED;
	if (t->how == MK_TASK_CALL || t->how == MK_TASK_GATE)
		x->cpu.rflags |= X86_EFLAGS_NT;
	for (i = 0; i < 8; i++)
		mk_exec_set_reg(x, i, field(l, image, GPR + i), l->width);
	if (l == &tss_32 && x->cpu.cr0 & X86_CR0_PG)
		ret = x->ops->load_cr3(x, cr3);
	if (!ret)
		ret = load_all(x, l, image);
	if (!ret && t->has_error)
		ret = push_error(x, l->width, t->error);
	if (!ret && x->cpu.rip > x->cpu.seg[MK_CS].limit)
		ret = mk_exec_raise(x, X86_TRAP_GP);
	return ret;
}

int mk_exec_task_switch(struct mk_exec *x, struct mk_task_switch *t)
{
	const bool nests = t->how == MK_TASK_CALL || t->how == MK_TASK_GATE;
	const u16 old = x->cpu.seg[MK_TR].sel;
	u8 image[4 * MAX_FIELDS];
	const struct layout *l;
	struct mk_seg tss;
	u16 trap = 0;
	u32 cr3 = 0;
	int ret;

	t->done = t->trap = false;
	ret = mk_exec_load_tss(x, t->sel, t->how == MK_TASK_IRET, &tss);
	if (ret)
		return ret;
	l = layout_of(&tss);
	if (tss.limit < l->limit)
		return mk_exec_refuse(x, X86_TRAP_TS, t->sel);
	ret = mk_exec_read_system(x, tss.base + l->ip, image, l->width * (SEG + l->nr_seg + 1));
	if (!ret && l == &tss_32)
		ret = mk_exec_read_system(x, tss.base + CR3, &cr3, 4) ?:
		      mk_exec_read_system(x, tss.base + TRAP, &trap, 2);
	if (!ret)
		ret = save(x, t);
	if (!ret && t->how != MK_TASK_IRET)
		ret = mk_exec_mark_tss(x, t->sel, true);
	if (!ret && !nests)
		ret = mk_exec_mark_tss(x, old, false);
	if (!ret && nests)
		ret = mk_exec_write_system(x, tss.base + LINK, &old, 2);
	if (ret)
		return ret;

	t->done = true;
	t->trap = trap & 1;
	x->cpu.seg[MK_TR] = tss;
	ret = resume(x, t, image, cr3);
	if (ret == MK_EXEC_FAULT && t->external)
		x->fault.error |= 1;
	return ret;
}
