// SPDX-License-Identifier: GPL-2.0
/*
 * Any instruction on any registers through the executor, twice: once with a
 * world that answers at once, once with one that lets userspace answer each access
 * first. Both must do the same accesses and end in the same registers; what does
 * not complete changes none of them; and no access is larger than promised.
 */
#include <asm/processor-flags.h>

#include "input.h"
#include "logic/exec.h"

#define ACCESSES	64	/* in one execution, one iteration of REP */
#define BOUNCE		64

struct access {
	char kind;	/* 'r', 'w', 'i', 'o' */
	u64 where;
	unsigned int size;
	u8 status;	/* enum mk_exec_status, when it was first made */
	u8 data[BOUNCE];
};

/* The notes that exec.h asks of a caller, and what the accesses are answered with. */
struct world {
	struct input answers;
	bool ask;		/* the first time, let userspace answer */
	bool asked;
	unsigned int done, known;
	struct access access[ACCESSES];
	u64 vec[16][2];
};

/* The next access: the one noted, or a new one. */
static int note(struct mk_exec *x, char kind, u64 where, void *in, const void *out,
		unsigned int size)
{
	struct world *w = x->ctx;
	struct access *a;

	must(w->done < ACCESSES && size && size <= BOUNCE);
	a = &w->access[w->done];
	if (w->done == w->known) {
		w->known++;
		*a = (struct access){ .kind = kind, .where = where, .size = size };
		switch (take8(&w->answers)) {
		case 1:
			a->status = MK_EXEC_FAULT;
			break;
		case 2:
			a->status = MK_EXEC_UNSUPPORTED;
			break;
		default:
			a->status = MK_EXEC_OK;
		}
		if (out)
			memcpy(a->data, out, size);
		else
			take(&w->answers, a->data, size);
		if (w->ask) {
			w->asked = true;
			return MK_EXEC_USER;
		}
	}
	must(a->kind == kind && a->where == where && a->size == size);
	w->done++;
	if (out)
		must(!memcmp(a->data, out, size));
	else if (a->status == MK_EXEC_OK)
		memcpy(in, a->data, size);
	if (a->status == MK_EXEC_FAULT)
		x->fault = (struct mk_exec_fault){ .vector = 14, .has_error = true };
	return a->status;
}

static void check_address(const struct mk_exec *x, u64 gva, unsigned int size)
{
	const unsigned int shift = x->cpu.cr4 & X86_CR4_LA57 ? 7 : 16;

	/* what the CPU reads for itself has 64-bit addresses in all of long mode */
	if (x->cpu.mode == MK_MODE_64 || (x->cpu.long_mode && gva >> 32))
		must((u64)((s64)(gva << shift) >> shift) == gva);
	else
		must(gva >> 32 == 0);
	if (size > 16)
		must((gva & 4095) + size <= 4096);
}

static int do_read(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access)
{
	check_address(x, gva, size);
	must(!(access & MK_ACC_USER) || x->cpu.cpl == 3);
	return note(x, 'r', gva, buf, NULL, size);
}

static int do_write(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
		    const void *old, u32 access)
{
	u8 copy[16];

	check_address(x, gva, size);
	must(access & MK_ACC_WRITE);
	if (old)
		memcpy(copy, old, size);
	return note(x, 'w', gva, NULL, buf, size);
}

static int do_probe(struct mk_exec *x, u64 gva, u32 access, bool *device)
{
	u8 answer;
	int status;

	check_address(x, gva, 1);
	must(!(access & MK_ACC_USER) || x->cpu.cpl == 3);
	status = note(x, 'p', gva, &answer, NULL, 1);
	*device = status == MK_EXEC_OK && answer & 1;
	return status;
}

static int do_in(struct mk_exec *x, u16 port, void *buf, unsigned int size, unsigned int count)
{
	must(buf == x->bounce && (size == 1 || size == 2 || size == 4) && count);
	return note(x, 'i', port, buf, NULL, size * count);
}

static int do_out(struct mk_exec *x, u16 port, const void *buf, unsigned int size,
		  unsigned int count)
{
	must(buf == x->bounce && (size == 1 || size == 2 || size == 4) && count);
	return note(x, 'o', port, NULL, buf, size * count);
}

static void do_get_vec(struct mk_exec *x, unsigned int nr, u64 val[2])
{
	must(nr < 16);
	memcpy(val, ((struct world *)x->ctx)->vec[nr], 16);
}

static void do_set_vec(struct mk_exec *x, unsigned int nr, const u64 val[2])
{
	must(nr < 16);
	memcpy(((struct world *)x->ctx)->vec[nr], val, 16);
}

static bool do_get_mmx(struct mk_exec *x, unsigned int nr, u64 *val)
{
	must(nr < 8);
	*val = ((struct world *)x->ctx)->vec[nr][0];
	return true;
}

static bool do_set_mmx(struct mk_exec *x, unsigned int nr, u64 val)
{
	must(nr < 8);
	((struct world *)x->ctx)->vec[nr][0] = val;
	return true;
}

static const struct mk_exec_ops ops = {
	.read = do_read, .write = do_write, .probe = do_probe, .in = do_in, .out = do_out,
	.get_vec = do_get_vec, .set_vec = do_set_vec,
	.get_mmx = do_get_mmx, .set_mmx = do_set_mmx,
};

/* Once, with as many answers of userspace as it takes. */
static int execute(struct mk_exec *x, struct world *w)
{
	u64 gpr[MK_NR_GPR], rip = x->cpu.rip, rflags = x->cpu.rflags, vec[16][2];
	const struct mk_table gdt = *x->cpu.gdt, idt = *x->cpu.idt;
	struct mk_seg seg[MK_NR_SEG];
	int status;

	memcpy(gpr, x->cpu.gpr, sizeof(gpr));
	memcpy(vec, w->vec, sizeof(vec));
	memcpy(seg, x->cpu.seg, sizeof(seg));
	do {
		w->done = 0;
		w->asked = false;
		status = mk_exec(x);
		must((status == MK_EXEC_USER) == w->asked);
		if (status == MK_EXEC_OK || status == MK_EXEC_REPEAT)
			break;
		must(!memcmp(gpr, x->cpu.gpr, sizeof(gpr)) && !memcmp(vec, w->vec, sizeof(vec)));
		must(rip == x->cpu.rip && rflags == x->cpu.rflags);
		must(!memcmp(seg, x->cpu.seg, sizeof(seg)));
		must(!memcmp(&gdt, x->cpu.gdt, sizeof(gdt)) && !memcmp(&idt, x->cpu.idt, sizeof(idt)));
	} while (status == MK_EXEC_USER);
	must(w->done == w->known);
	return status;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const enum mk_cpu_mode modes[] = { MK_MODE_16, MK_MODE_32, MK_MODE_64 };
	struct input in = { data, size };
	u8 bytes[MK_INSN_MAX], bounce[BOUNCE];
	struct mk_seg seg[2][MK_NR_SEG];
	struct mk_table tables[2][2];
	static struct world at_once, later;
	u64 gpr[2][MK_NR_GPR];
	struct mk_exec x = { .ops = &ops, .bounce = bounce }, y;
	int status;

	x.cpu.mode = modes[take8(&in) % 3];
	take(&in, bytes, sizeof(bytes));
	if (mk_insn_decode(&x.insn, bytes, sizeof(bytes), x.cpu.mode) != MK_INSN_OK)
		return -1;
	x.cpu.cpl = take8(&in) & 3;
	x.cpu.long_mode = x.cpu.mode == MK_MODE_64 || take8(&in) & 1;
	x.cpu.cr0 = take8(&in);
	x.cpu.cr4 = take64(&in);
	x.bounce_size = 4 + take8(&in) % (BOUNCE - 3);
	x.cpu.rip = take64(&in);
	x.cpu.rflags = take64(&in) | X86_EFLAGS_FIXED;
	take(&in, gpr[0], sizeof(gpr[0]));
	for (unsigned int i = 0; i < MK_NR_SEG; i++) {
		take(&in, &seg[0][i], sizeof(seg[0][i]));
		if (take8(&in) & 1)
			seg[0][i] = (struct mk_seg){ .limit = ~0u, .ar = MK_AR_P | MK_AR_S |
				MK_TYPE_WRITE | MK_AR_DB };
	}
	take(&in, tables[0], sizeof(tables[0]));
	x.cpu.seg = seg[0];
	x.cpu.gdt = &tables[0][0];
	x.cpu.idt = &tables[0][1];
	x.cpu.gpr = gpr[0];
	memcpy(gpr[1], gpr[0], sizeof(gpr[0]));
	memcpy(seg[1], seg[0], sizeof(seg[0]));
	memcpy(tables[1], tables[0], sizeof(tables[0]));
	y = x;
	y.cpu.seg = seg[1];
	y.cpu.gdt = &tables[1][0];
	y.cpu.idt = &tables[1][1];
	y.cpu.gpr = gpr[1];

	memset(&at_once, 0, sizeof(at_once));
	take(&in, at_once.vec, sizeof(at_once.vec));
	at_once.answers = in;
	later = at_once;
	later.ask = true;
	x.ctx = &at_once;
	y.ctx = &later;

	status = execute(&x, &at_once);
	must(execute(&y, &later) == status);
	must(!memcmp(gpr[0], gpr[1], sizeof(gpr[0])) && !memcmp(seg[0], seg[1], sizeof(seg[0])));
	must(!memcmp(tables[0], tables[1], sizeof(tables[0])));
	must(x.cpu.rip == y.cpu.rip && x.cpu.rflags == y.cpu.rflags);
	must(!memcmp(at_once.vec, later.vec, sizeof(later.vec)));
	must(at_once.known == later.known);
	if (status == MK_EXEC_REPEAT)
		must(x.insn.rep);
	if (status == MK_EXEC_FAULT)
		must(x.fault.vector < 32);
	return 0;
}
