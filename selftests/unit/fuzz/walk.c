// SPDX-License-Identifier: GPL-2.0
/*
 * Any page tables through the page walk. A page lies within MAXPHYADDR and keeps
 * the offset; error codes say what was wanted; a second walk finds nothing left
 * to mark; looking without being noticed sees the same; and who may write may read.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/trap_pf.h>
#include <errno.h>

#include "input.h"
#include "logic/walk.h"

#define ENTRIES	(4 * MK_MAX_LEVELS)	/* a few walks' */

/* Memory that comes to be when it is read, from the input. */
struct tables {
	struct input *in;
	unsigned int n, updates, races;
	struct {
		u64 gpa, val;
		unsigned int size;
		bool absent;
	} entry[ENTRIES];
};

static int find(struct tables *t, u64 gpa, unsigned int size)
{
	for (unsigned int i = 0; i < t->n; i++)
		if (t->entry[i].gpa == gpa && t->entry[i].size == size)
			return i;
	return -1;
}

static int read_entry(void *ctx, u64 gpa, u64 *val, unsigned int size)
{
	struct tables *t = ctx;
	int i = find(t, gpa, size);
	u8 kind;

	must(size == 4 || size == 8);
	must(!(gpa & (size - 1)));
	if (i < 0) {
		kind = take8(t->in);
		if (t->n == ENTRIES)
			return -EFAULT;
		i = t->n++;
		t->entry[i].gpa = gpa;
		t->entry[i].size = size;
		t->entry[i].val = take64(t->in);
		/* most of what is random would end at the first bit */
		if (kind & 1)
			t->entry[i].val |= MK_PTE_P | MK_PTE_W | MK_PTE_U;
		if (kind & 2)
			t->entry[i].val &= ~(GENMASK_ULL(58, 40) | MK_PTE_PS | MK_PTE_NX);
		if (size == 4)
			t->entry[i].val = (u32)t->entry[i].val;
		t->entry[i].absent = kind == 0xff;
	}
	if (t->entry[i].absent)
		return -EFAULT;
	*val = t->entry[i].val;
	return 0;
}

static int update_entry(void *ctx, u64 gpa, u64 old, u64 new, unsigned int size)
{
	struct tables *t = ctx;
	int i = find(t, gpa, size);

	must(i >= 0);
	must(old != new && (old & new) == old);
	must(!((old ^ new) & ~(MK_PTE_A | MK_PTE_D)));
	if (t->races) {
		t->races--;
		t->entry[i].val ^= MK_PTE_A;
	}
	if (t->entry[i].val != old)
		return -EAGAIN;
	t->entry[i].val = new;
	t->updates++;
	return 0;
}

static struct mk_walk_cfg take_cfg(struct input *in)
{
	struct mk_walk_cfg cfg;

	take(in, &cfg, offsetof(struct mk_walk_cfg, maxphyaddr));
	cfg.maxphyaddr = 32 + take8(in) % 21;
	cfg.gbpages = take8(in) & 1;
	cfg.ac = take8(in) & 1;
	/* What SET_SREGS takes: no long mode without PAE and paging. */
	if (cfg.efer & EFER_LMA) {
		cfg.cr0 |= X86_CR0_PG;
		cfg.cr4 |= X86_CR4_PAE;
	} else {
		cfg.cr4 &= ~(u64)X86_CR4_LA57;
	}
	if (!(cfg.cr4 & X86_CR4_PAE) || !(cfg.efer & EFER_LMA))
		cfg.cr3 = (u32)cfg.cr3;
	return cfg;
}

static void check_fault(const struct mk_walk_cfg *cfg, u64 gva, u32 access,
			const struct mk_walk_result *res)
{
	u32 e = res->error;

	must(!(e & X86_PF_WRITE) == !(access & MK_ACC_WRITE));
	must(!(e & X86_PF_USER) == !(access & MK_ACC_USER));
	if (e & X86_PF_INSTR)
		must(access & MK_ACC_EXEC);
	if (e & (X86_PF_RSVD | X86_PF_PK))
		must(e & X86_PF_PROT);
	if (e & X86_PF_PK)
		must(cfg->cr4 & X86_CR4_PKE && !(access & MK_ACC_EXEC));
	must(res->cr2 == (cfg->efer & EFER_LMA ? gva : (u32)gva));
}

static bool same_page(const struct mk_walk_result *a, const struct mk_walk_result *b)
{
	return a->gpa == b->gpa && a->shift == b->shift && a->writable == b->writable &&
	       a->user == b->user && a->nx == b->nx;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };
	struct mk_walk_cfg cfg = take_cfg(&in);
	struct tables t = { .in = &in };
	const struct mk_walk_mem mem = { .ctx = &t, .read = read_entry, .update = update_entry };
	const struct mk_walk_mem look = { .ctx = &t, .read = read_entry };
	u64 gva = take64(&in), low;
	u32 access = take8(&in) & 15;
	struct mk_walk_result first, second;
	int status, s;

	if (take8(&in) & 1)	/* canonical */
		gva = (s64)(gva << 16) >> 16;
	/* an access has one kind, and who is at CPL 3 means it */
	if (access & MK_ACC_EXEC)
		access &= ~MK_ACC_WRITE;
	if (access & MK_ACC_USER)
		access &= ~MK_ACC_IMPLICIT;

	status = mk_walk(&cfg, &look, gva, access, &first);
	must(status >= MK_WALK_OK && status <= MK_WALK_NO_TABLE);
	t.races = take8(&in) & 3;
	s = mk_walk(&cfg, &mem, gva, access, &second);
	must(s == status);
	must(!t.updates || s == MK_WALK_OK);

	switch (status) {
	case MK_WALK_FAULT:
		check_fault(&cfg, gva, access, &first);
		must(first.error == second.error && first.cr2 == second.cr2);
		break;
	case MK_WALK_NONCANONICAL:
		must(cfg.efer & EFER_LMA);
		break;
	case MK_WALK_OK:
		must(same_page(&first, &second));
		must(first.shift == 12 || first.shift == 21 || first.shift == 22 ||
		     (first.shift == 30 && cfg.gbpages));
		low = BIT_ULL(first.shift) - 1;
		must((first.gpa & low) == (gva & low));
		must(first.gpa < BIT_ULL(cfg.maxphyaddr) || !(cfg.cr4 & X86_CR4_PAE));
		if (access & MK_ACC_USER)
			must(first.user);
		if (access & MK_ACC_EXEC)
			must(!first.nx);
		if (access & MK_ACC_WRITE)
			must(first.writable || !(access & MK_ACC_USER));
		t.updates = 0;
		must(mk_walk(&cfg, &mem, gva, access, &second) == MK_WALK_OK);
		must(!t.updates);
		if (access & MK_ACC_WRITE)
			must(mk_walk(&cfg, &mem, gva, access & ~MK_ACC_WRITE, &second) ==
			     MK_WALK_OK);
	}
	return 0;
}
