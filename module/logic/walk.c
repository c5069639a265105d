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
#include <linux/errno.h>

#include "logic/walk.h"

#define MAX_LEVELS 5

static int fault(struct mk_walk_result *res, u64 gva, u32 error)
{
	res->cr2 = gva;
	res->error = error;
	return MK_WALK_FAULT;
}

/* The part of a fault's error code that tells the access, not what was wrong with it. */
static u32 access_error(const struct mk_walk_cfg *cfg, u32 access)
{
	u32 error = 0;

	if (access & MK_ACC_WRITE)
		error |= X86_PF_WRITE;
	if (access & MK_ACC_USER)
		error |= X86_PF_USER;
	/* Where fetches cannot be refused apart from reads, they are not told apart either. */
	if (access & MK_ACC_EXEC && (cfg->cr4 & X86_CR4_SMEP ||
				     (cfg->cr4 & X86_CR4_PAE && cfg->efer & EFER_NX)))
		error |= X86_PF_INSTR;
	return error;
}

/* Bits that must be 0 in an entry of eight bytes, whatever its level. */
static u64 reserved64(const struct mk_walk_cfg *cfg)
{
	u64 rsvd = (cfg->efer & EFER_LMA ? BIT_ULL(52) : BIT_ULL(63)) - BIT_ULL(cfg->maxphyaddr);

	return cfg->efer & EFER_NX ? rsvd : rsvd | MK_PTE_NX;
}

/* A 4 MiB page has its address bits 39:32 in bits 20:13 of the entry (PSE-36). */
static u64 reserved_4m(const struct mk_walk_cfg *cfg)
{
	unsigned int high = cfg->maxphyaddr < 40 ? cfg->maxphyaddr - 32 : 8;

	return BIT(22) - BIT(13 + high);
}

/* Does the protection key of a user page forbid this access? */
static bool pkey_refuses(const struct mk_walk_cfg *cfg, u64 pte, u32 access)
{
	u32 rights = cfg->pkru >> (pte >> MK_PTE_PKEY_SHIFT & 15) * 2;

	if (rights & 1)
		return true;
	return rights & 2 && access & MK_ACC_WRITE &&
	       (access & MK_ACC_USER || cfg->cr0 & X86_CR0_WP);
}

/* @rights: MK_PTE_W and MK_PTE_U where all levels agree, MK_PTE_NX where any has it. */
static bool rights_refuse(const struct mk_walk_cfg *cfg, u64 rights, u32 access)
{
	bool user_page = rights & MK_PTE_U;

	if (access & MK_ACC_USER && !user_page)
		return true;
	if (access & MK_ACC_EXEC)
		return rights & MK_PTE_NX ||
		       (user_page && !(access & MK_ACC_USER) && cfg->cr4 & X86_CR4_SMEP);
	if (access & MK_ACC_WRITE && !(rights & MK_PTE_W) &&
	    (access & MK_ACC_USER || cfg->cr0 & X86_CR0_WP))
		return true;
	return user_page && !(access & MK_ACC_USER) && cfg->cr4 & X86_CR4_SMAP &&
	       (access & MK_ACC_IMPLICIT || !cfg->ac);
}

int mk_walk(const struct mk_walk_cfg *cfg, const struct mk_walk_mem *mem, u64 gva, u32 access,
	    struct mk_walk_result *res)
{
	const bool lma = cfg->efer & EFER_LMA;
	const bool pae = cfg->cr4 & X86_CR4_PAE;
	const unsigned int size = pae ? 8 : 4, bits = pae ? 9 : 10;
	unsigned int top, level, shift;
	u64 table, pte, rights, nx, rsvd, leaf_rsvd;
	u64 gpa[MAX_LEVELS + 1], ptes[MAX_LEVELS + 1];
	bool leaf;
	u32 error;

	if (!lma)
		gva = (u32)gva;
	if (!(cfg->cr0 & X86_CR0_PG)) {
		*res = (struct mk_walk_result){
			.gpa = gva, .shift = 12, .writable = true, .user = true
		};
		return MK_WALK_OK;
	}
	if (lma) {
		top = cfg->cr4 & X86_CR4_LA57 ? 5 : 4;
		shift = 64 - (12 + 9 * top);
		if ((u64)((s64)(gva << shift) >> shift) != gva)
			return MK_WALK_NONCANONICAL;
	} else {
		top = 2;
	}
	rsvd = pae ? reserved64(cfg) : 0;
again:
	table = cfg->cr3;
	if (pae && !lma) {
		table = cfg->pdpte[gva >> 30];
		if (!(table & MK_PTE_P))
			return fault(res, gva, access_error(cfg, access));
	}
	rights = MK_PTE_W | MK_PTE_U;
	nx = 0;
	for (level = top;; level--) {
		shift = 12 + bits * (level - 1);
		gpa[level] = (table & MK_PTE_ADDR) + (gva >> shift & (BIT(bits) - 1)) * size;
		if (mem->read(mem->ctx, gpa[level], &pte, size)) {
			res->gpa = gpa[level];
			return MK_WALK_NO_TABLE;
		}
		ptes[level] = pte;
		if (!(pte & MK_PTE_P))
			return fault(res, gva, access_error(cfg, access));

		leaf = level == 1;
		leaf_rsvd = 0;
		if (!leaf && pte & MK_PTE_PS && (pae || cfg->cr4 & X86_CR4_PSE)) {
			leaf = true;
			if (!pae)
				leaf_rsvd = reserved_4m(cfg);
			else if (level == 2 || (level == 3 && cfg->gbpages))
				leaf_rsvd = BIT_ULL(shift) - BIT(13);
			else
				leaf_rsvd = MK_PTE_PS;
		}
		if (pte & (rsvd | leaf_rsvd))
			return fault(res, gva, access_error(cfg, access) | X86_PF_PROT | X86_PF_RSVD);
		rights &= pte;
		nx |= pte & MK_PTE_NX;
		if (leaf)
			break;
		table = pte;
	}

	error = 0;
	if (cfg->cr4 & X86_CR4_PKE && lma && rights & MK_PTE_U && !(access & MK_ACC_EXEC) &&
	    pkey_refuses(cfg, pte, access))
		error = X86_PF_PROT | X86_PF_PK;
	if (rights_refuse(cfg, rights | nx, access))
		error |= X86_PF_PROT;
	if (error)
		return fault(res, gva, error | access_error(cfg, access));

	if (mem->cmpxchg) {
		unsigned int last = level;

		for (level = top; level >= last; level--) {
			u64 new = ptes[level] | MK_PTE_A;
			int err;

			if (level == last && access & MK_ACC_WRITE)
				new |= MK_PTE_D;
			if (new == ptes[level])
				continue;
			err = mem->cmpxchg(mem->ctx, gpa[level], ptes[level], new, size);
			if (err == -EAGAIN)
				goto again;
			if (err) {
				res->gpa = gpa[level];
				return MK_WALK_NO_TABLE;
			}
		}
	}

	res->gpa = pte & MK_PTE_ADDR;
	if (!pae && shift > 12)
		res->gpa |= (pte >> 13 & 0xff) << 32;
	res->gpa = (res->gpa & ~(BIT_ULL(shift) - 1)) | (gva & (BIT_ULL(shift) - 1));
	res->shift = shift;
	res->writable = rights & MK_PTE_W;
	res->user = rights & MK_PTE_U;
	res->nx = nx;
	return MK_WALK_OK;
}
