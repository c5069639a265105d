// SPDX-License-Identifier: GPL-2.0
/*
 * Loading a segment register: from a selector to what the register holds.
 *
 * Pure, as all of the executor. Read next: control.c and task.c, which load them.
 *
 * SDM vol. 3A, "Protected-Mode Memory Management" and "Protection"; APM vol. 2,
 * "Segmented Virtual Memory".
 */
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "logic/exec_parts.h"

/* The tables are the supervisor's, and have 64-bit addresses in all of long mode. */
static int system_address(struct mk_exec *x, u64 *addr, unsigned int size)
{
	if (!x->cpu.long_mode)
		*addr = (u32)*addr;
	else if (!mk_exec_canonical(x, *addr) || !mk_exec_canonical(x, *addr + size - 1))
		return mk_exec_raise(x, X86_TRAP_GP);
	return MK_EXEC_OK;
}

int mk_exec_read_system(struct mk_exec *x, u64 addr, void *buf, unsigned int size)
{
	int ret = system_address(x, &addr, size);

	return ret ?: x->ops->read(x, addr, buf, size, MK_ACC_READ);
}

int mk_exec_write_system(struct mk_exec *x, u64 addr, const void *buf, unsigned int size)
{
	int ret = system_address(x, &addr, size);

	return ret ?: x->ops->write(x, addr, buf, size, NULL, MK_ACC_WRITE);
}

/* Real mode and virtual-8086 mode: a selector is a paragraph. */
static void load_paragraph(const struct mk_exec *x, u8 nr, u16 sel, struct mk_seg *seg)
{
	*seg = x->cpu.seg[nr];
	seg->sel = sel;
	seg->base = sel << 4;
	if (x->cpu.rflags & X86_EFLAGS_VM) {
		seg->limit = 0xffff;
		seg->ar = MK_AR_P | MK_AR_DPL | MK_AR_S | MK_TYPE_WRITE | MK_TYPE_ACCESSED;
	}
}

/* Selectors 0 to 3: nothing can be reached through the register, which some allow. */
static int load_null(struct mk_exec *x, u8 nr, u16 sel, struct mk_seg *seg)
{
	const u8 cpl = x->cpu.cpl;

	if (nr == MK_CS || nr == MK_TR)
		return mk_exec_raise(x, X86_TRAP_GP);
	if (nr == MK_SS && (x->cpu.mode != MK_MODE_64 || cpl == 3 || sel != cpl))
		return mk_exec_raise(x, X86_TRAP_GP);
	*seg = (struct mk_seg){ .sel = sel, .ar = MK_AR_UNUSABLE };
	if (nr == MK_SS)	/* its DPL is the CPL all the same */
		seg->ar |= cpl << MK_AR_DPL_SHIFT;
	return MK_EXEC_OK;
}

static void unpack(u64 desc, struct mk_seg *seg)
{
	u32 high = desc >> 32;

	seg->base = (desc >> 16 & 0xffffff) | (high & 0xff000000);
	seg->limit = (desc & 0xffff) | (high & 0xf0000);
	seg->ar = high >> 8 & 0xf0ff;
	if (seg->ar & MK_AR_G)
		seg->limit = seg->limit << 12 | 0xfff;
}

/* May @nr hold what @sel leads to? If not, the vector of the fault. */
static u8 check(const struct mk_exec *x, u8 nr, u16 sel, u32 ar)
{
	const u8 dpl = (ar & MK_AR_DPL) >> MK_AR_DPL_SHIFT, rpl = sel & 3, cpl = x->cpu.cpl;
	const u8 type = ar & MK_AR_TYPE;
	const bool code = type & MK_TYPE_CODE, conforms = code && type & MK_TYPE_DOWN;
	bool good;

	if (nr == MK_LDTR)
		good = type == MK_TYPE_LDT;
	else if (nr == MK_TR)
		good = type == MK_TYPE_TSS || (type == MK_TYPE_TSS_16 && !x->cpu.long_mode);
	else if (nr == MK_CS)
		good = code && (conforms ? dpl <= cpl : dpl == cpl && rpl <= cpl) &&
		       !(x->cpu.long_mode && ar & MK_AR_L && ar & MK_AR_DB);
	else if (nr == MK_SS)
		good = !code && type & MK_TYPE_WRITE && rpl == cpl && dpl == cpl;
	else
		good = (!code || type & MK_TYPE_WRITE) && (conforms || (rpl <= dpl && cpl <= dpl));
	if (!good || !(ar & MK_AR_S) != (nr >= MK_LDTR))
		return X86_TRAP_GP;
	if (!(ar & MK_AR_P))
		return nr == MK_SS ? X86_TRAP_SS : X86_TRAP_NP;
	return 0;
}

/* Where the descriptor is that @sel names, @size bytes of it, or a fault. */
static int find(struct mk_exec *x, u8 nr, u16 sel, unsigned int size, u64 *addr)
{
	const struct mk_seg *ldt = &x->cpu.seg[MK_LDTR];
	u32 limit = x->cpu.gdt->limit;

	*addr = x->cpu.gdt->base;
	if (sel & 4) {
		*addr = ldt->base;
		limit = ldt->limit;
		/* the system segments are in the GDT */
		if (nr >= MK_LDTR || ldt->ar & MK_AR_UNUSABLE || !(ldt->ar & MK_AR_P))
			return mk_exec_refuse(x, X86_TRAP_GP, sel);
	}
	if ((sel & ~7u) + size - 1 > limit)
		return mk_exec_refuse(x, X86_TRAP_GP, sel);
	*addr += sel & ~7;
	return system_address(x, addr, size);
}

/* Change the type in the upper half of the descriptor at @addr. */
static int mark(struct mk_exec *x, u64 addr, u32 high, u32 set, u32 clear)
{
	const u32 marked = (high | set << 8) & ~(clear << 8);

	if (marked == high)
		return MK_EXEC_OK;
	return x->ops->write(x, addr + 4, &marked, 4, &high, MK_ACC_WRITE);
}

int mk_exec_load_segment(struct mk_exec *x, u8 nr, u16 sel, struct mk_seg *seg)
{
	const unsigned int size = nr >= MK_LDTR && x->cpu.long_mode ? 16 : 8;
	u64 addr, desc[2] = { 0, 0 };
	u8 vector;
	int ret;

	if (nr <= MK_GS && !mk_exec_protected(x)) {
		load_paragraph(x, nr, sel, seg);
		return MK_EXEC_OK;
	}
	if (!(sel & ~3))
		return load_null(x, nr, sel, seg);

	ret = find(x, nr, sel, size, &addr);
	if (!ret)
		ret = x->ops->read(x, addr, desc, size, MK_ACC_READ);
	if (ret)
		return ret;

	unpack(desc[0], seg);
	seg->sel = sel;
	if (nr == MK_CS && !(seg->ar & MK_AR_S))	/* a gate, or a task */
		return MK_EXEC_UNSUPPORTED;
	vector = check(x, nr, sel, seg->ar);
	if (vector)
		return mk_exec_refuse(x, vector, sel);
	if (size == 16) {
		seg->base |= desc[1] << 32;
		if (!mk_exec_canonical(x, seg->base))
			return mk_exec_refuse(x, X86_TRAP_GP, sel);
	}

	if (nr == MK_LDTR)
		return MK_EXEC_OK;
	seg->ar |= nr == MK_TR ? MK_TYPE_BUSY : MK_TYPE_ACCESSED;
	return mark(x, addr, desc[0] >> 32, seg->ar & MK_AR_TYPE, 0);
}

int mk_exec_load_tss(struct mk_exec *x, u16 sel, bool back, struct mk_seg *tss)
{
	const u8 bad = back ? X86_TRAP_TS : X86_TRAP_GP;
	u64 addr, desc;
	u8 type;
	int ret = find(x, MK_TR, sel, 8, &addr);

	if (ret == MK_EXEC_FAULT && x->fault.vector == X86_TRAP_GP)
		x->fault.vector = bad;
	if (!ret)
		ret = x->ops->read(x, addr, &desc, 8, MK_ACC_READ);
	if (ret)
		return ret;
	unpack(desc, tss);
	tss->sel = sel;
	type = tss->ar & (MK_AR_TYPE | MK_AR_S);
	if ((type & ~MK_TYPE_BUSY) != MK_TYPE_TSS && (type & ~MK_TYPE_BUSY) != MK_TYPE_TSS_16)
		return mk_exec_refuse(x, bad, sel);
	if (!(type & MK_TYPE_BUSY) != !back)
		return mk_exec_refuse(x, bad, sel);
	if (!(tss->ar & MK_AR_P))
		return mk_exec_refuse(x, X86_TRAP_NP, sel);
	tss->ar |= MK_TYPE_BUSY;
	return MK_EXEC_OK;
}

int mk_exec_mark_tss(struct mk_exec *x, u16 sel, bool busy)
{
	u64 addr;
	u32 high;
	int ret = find(x, MK_TR, sel, 8, &addr);

	if (!ret)
		ret = x->ops->read(x, addr + 4, &high, 4, MK_ACC_READ);
	return ret ?: mark(x, addr, high, busy ? MK_TYPE_BUSY : 0, busy ? 0 : MK_TYPE_BUSY);
}
