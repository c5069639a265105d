// SPDX-License-Identifier: GPL-2.0
/*
 * The page walk. All five modes are the same loop: they differ in how many
 * levels there are, how wide an entry is, and which of its bits are reserved.
 *
 * SDM vol. 3A, "Paging"; APM vol. 2, "Page Translation and Protection".
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/trap_pf.h>
#include <linux/compiler.h>
#include <linux/errno.h>

#include "logic/walk.h"

static int fault(const struct mk_walk_cfg *cfg, u64 gva, u32 access, u32 error,
		 struct mk_walk_result *res)
{
	if (access & MK_ACC_WRITE)
		error |= X86_PF_WRITE;
	if (access & MK_ACC_USER)
		error |= X86_PF_USER;
	/* Where fetches cannot be refused apart from reads, they are not told apart either. */
	if (access & MK_ACC_EXEC && (cfg->cr4 & X86_CR4_SMEP ||
				     (cfg->cr4 & X86_CR4_PAE && cfg->efer & EFER_NX)))
		error |= X86_PF_INSTR;
	res->cr2 = gva;
	res->error = error;
	return MK_WALK_FAULT;
}

static int no_table(u64 gpa, struct mk_walk_result *res)
{
	res->gpa = gpa;
	return MK_WALK_NO_TABLE;
}

/* Bits that must be 0 in an entry of eight bytes, whatever its level. */
static u64 reserved_everywhere(const struct mk_walk_cfg *cfg)
{
	u64 rsvd = (cfg->efer & EFER_LMA ? BIT_ULL(52) : BIT_ULL(63)) - BIT_ULL(cfg->maxphyaddr);

	return cfg->efer & EFER_NX ? rsvd : rsvd | MK_PTE_NX;
}

/* Bits that must be 0 in an entry with PS set, which maps 1 << @shift bytes. */
static u64 reserved_large(const struct mk_walk_cfg *cfg, unsigned int shift)
{
	if (shift == 22) {
		/* address bits 39:32 are in bits 20:13 of the entry (PSE-36) */
		unsigned int high = cfg->maxphyaddr < 40 ? cfg->maxphyaddr - 32 : 8;

		return BIT(22) - BIT(13 + high);
	}
	if (shift == 21 || (shift == 30 && cfg->gbpages))
		return BIT_ULL(shift) - BIT(13);
	return MK_PTE_PS;
}

/* Does the protection key of a user page forbid this data access? */
static bool pkey_refuses(const struct mk_walk_cfg *cfg, u64 pte, u32 access)
{
	u32 rights = cfg->pkru >> (pte >> MK_PTE_PKEY_SHIFT & 15) * 2;

	if (rights & 1)
		return true;
	return rights & 2 && access & MK_ACC_WRITE &&
	       (access & MK_ACC_USER || cfg->cr0 & X86_CR0_WP);
}

/* @rights: MK_PTE_W and MK_PTE_U where all levels have them, MK_PTE_NX where none has it. */
static bool rights_refuse(const struct mk_walk_cfg *cfg, u64 rights, u32 access)
{
	bool user_page = rights & MK_PTE_U;

	if (access & MK_ACC_USER && !user_page)
		return true;
	if (access & MK_ACC_EXEC)
		return !(rights & MK_PTE_NX) ||
		       (user_page && !(access & MK_ACC_USER) && cfg->cr4 & X86_CR4_SMEP);
	if (access & MK_ACC_WRITE && !(rights & MK_PTE_W) &&
	    (access & MK_ACC_USER || cfg->cr0 & X86_CR0_WP))
		return true;
	return user_page && !(access & MK_ACC_USER) && cfg->cr4 & X86_CR4_SMAP &&
	       (access & MK_ACC_IMPLICIT || !cfg->ac);
}

/*
 * From the table at @table, whose entries map 1 << @shift bytes each, to the
 * page; -EAGAIN where an entry changed under it. Inlined for each width of an
 * entry: this is on the path of exits whose instruction has to be read.
 */
static __always_inline int walk(const struct mk_walk_cfg *cfg, const struct mk_walk_mem *mem,
				u64 gva, u32 access, struct mk_walk_result *res, u64 table,
				unsigned int shift, unsigned int size)
{
	const unsigned int bits = size == 8 ? 9 : 10;
	const u64 rsvd = size == 8 ? reserved_everywhere(cfg) : 0;
	const u64 large = size == 8 || cfg->cr4 & X86_CR4_PSE ? MK_PTE_PS : 0;
	u64 gpa[MK_MAX_LEVELS], entry[MK_MAX_LEVELS], pte, rights = ~0ULL, offset;
	unsigned int n = 0, i;
	u32 error = 0;

	for (;; shift -= bits) {
		gpa[n] = (table & MK_PTE_ADDR) + (gva >> shift & (BIT(bits) - 1)) * size;
		if (mem->read(mem->ctx, gpa[n], &pte, size))
			return no_table(gpa[n], res);
		entry[n++] = pte;
		if (!(pte & MK_PTE_P))
			return fault(cfg, gva, access, 0, res);
		if (pte & rsvd)
			return fault(cfg, gva, access, X86_PF_PROT | X86_PF_RSVD, res);
		rights &= pte ^ MK_PTE_NX;
		if (shift == 12 || pte & large)
			break;
		table = pte;
	}
	if (shift > 12 && pte & reserved_large(cfg, shift))
		return fault(cfg, gva, access, X86_PF_PROT | X86_PF_RSVD, res);

	if (cfg->cr4 & X86_CR4_PKE && cfg->efer & EFER_LMA && rights & MK_PTE_U &&
	    !(access & MK_ACC_EXEC) && pkey_refuses(cfg, pte, access))
		error = X86_PF_PROT | X86_PF_PK;
	if (rights_refuse(cfg, rights, access))
		error |= X86_PF_PROT;
	if (error)
		return fault(cfg, gva, access, error, res);

	for (i = 0; mem->update && i < n; i++) {
		u64 new = entry[i] | MK_PTE_A;
		int err = 0;

		if (i == n - 1 && access & MK_ACC_WRITE)
			new |= MK_PTE_D;
		if (new != entry[i])
			err = mem->update(mem->ctx, gpa[i], entry[i], new, size);
		if (err == -EAGAIN)
			return -EAGAIN;
		if (err)
			return no_table(gpa[i], res);
	}

	offset = gva & (BIT_ULL(shift) - 1);
	res->gpa = pte & MK_PTE_ADDR;
	if (shift > 12)
		res->gpa &= ~(BIT_ULL(shift) - 1);
	if (shift == 22)
		res->gpa |= (pte >> 13 & 0xff) << 32;
	res->gpa |= offset;
	res->shift = shift;
	res->writable = rights & MK_PTE_W;
	res->user = rights & MK_PTE_U;
	res->nx = !(rights & MK_PTE_NX);
	return MK_WALK_OK;
}

int mk_walk(const struct mk_walk_cfg *cfg, const struct mk_walk_mem *mem, u64 gva, u32 access,
	    struct mk_walk_result *res)
{
	const bool lma = cfg->efer & EFER_LMA;
	unsigned int top = 21, unused;
	u64 table = cfg->cr3;
	int status;

	if (!lma)
		gva = (u32)gva;
	if (!(cfg->cr0 & X86_CR0_PG)) {
		*res = (struct mk_walk_result){
			.gpa = gva, .shift = 12, .writable = true, .user = true
		};
		return MK_WALK_OK;
	}
	if (lma) {
		top = cfg->cr4 & X86_CR4_LA57 ? 48 : 39;
		unused = 64 - 9 - top;
		if ((u64)((s64)(gva << unused) >> unused) != gva)
			return MK_WALK_NONCANONICAL;
	} else if (cfg->cr4 & X86_CR4_PAE) {
		table = cfg->pdpte[gva >> 30];
		if (!(table & MK_PTE_P))
			return fault(cfg, gva, access, 0, res);
	}
	do {
		if (cfg->cr4 & X86_CR4_PAE)
			status = walk(cfg, mem, gva, access, res, table, top, 8);
		else
			status = walk(cfg, mem, gva, access, res, table, 22, 4);
	} while (status == -EAGAIN);
	return status;
}
