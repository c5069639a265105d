// SPDX-License-Identifier: GPL-2.0
/*
 * The page walk: tables in every mode, each kind of fault at each level, and
 * every combination of rights against a second reading of the manual.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/trap_pf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "logic/walk.h"
#include "tap.h"

#define NR(a) (sizeof(a) / sizeof(*(a)))
#define RAM	0x10000		/* bytes of guest memory; tables are in there, pages need not be */
#define P	MK_PTE_P
#define W	MK_PTE_W
#define U	MK_PTE_U
#define A	MK_PTE_A
#define D	MK_PTE_D
#define ALL	(P | W | U)

static u8 ram[RAM];
static unsigned int races;	/* how many updates find the entry changed */

static int ram_read(void *ctx, u64 gpa, u64 *val, unsigned int size)
{
	(void)ctx;
	if (gpa > RAM - size)
		return -EFAULT;
	*val = 0;
	memcpy(val, ram + gpa, size);
	return 0;
}

static int ram_update(void *ctx, u64 gpa, u64 old, u64 new, unsigned int size)
{
	u64 now;

	if (ram_read(ctx, gpa, &now, size))
		return -EFAULT;
	if (races) {
		/* another CPU comes first, and sets the accessed bit itself */
		races--;
		ram[gpa] |= A;
		return -EAGAIN;
	}
	if (now != old)
		return -EAGAIN;
	memcpy(ram + gpa, &new, size);
	return 0;
}

static const struct mk_walk_mem silent = { .read = ram_read };
static const struct mk_walk_mem marking = { .read = ram_read, .update = ram_update };

/* A mode, and one mapping in it: entry[i] is at gpa at[i], the leaf comes last. */
struct mode {
	const char *name;
	u64 cr4, efer;
	u64 gva, gpa;
	u8 shift, nr, size;
	u64 at[5], entry[5];
	u64 reserved[5];	/* one bit that is reserved in this entry; 0: there is none */
};

#define TABLE(n) ((n) * 0x1000ULL)

static const struct mode modes[] = {
	{ "32-bit", 0, 0, 0x00c03123, 0x5123, 12, 2, 4,
	  { TABLE(1) + 3 * 4, TABLE(2) + 3 * 4 }, { TABLE(2) | ALL, 0x5000 | ALL }, { 0 } },
	{ "32-bit, PS without CR4.PSE", 0, 0, 0x00c03123, 0x5123, 12, 2, 4,
	  { TABLE(1) + 3 * 4, TABLE(2) + 3 * 4 },
	  { TABLE(2) | ALL | MK_PTE_PS, 0x5000 | ALL }, { 0 } },
	{ "32-bit, 4 MiB", X86_CR4_PSE, 0, 0xffc12345, 0x1400012345 | 0x00012345, 22, 1, 4,
	  { TABLE(1) + 1023 * 4 }, { 0x14 << 13 | ALL | MK_PTE_PS }, { BIT(21) } },
	{ "PAE", X86_CR4_PAE, EFER_NX, 0xc0201fff, 0x123456fff, 12, 2, 8,
	  { TABLE(1) + 1 * 8, TABLE(2) + 1 * 8 }, { TABLE(2) | ALL, 0x123456000 | ALL },
	  { BIT_ULL(62), BIT_ULL(40) } },
	{ "PAE, 2 MiB", X86_CR4_PAE, 0, 0xc0212345, 0x4012345, 21, 1, 8,
	  { TABLE(1) + 1 * 8 }, { 0x4000000 | ALL | MK_PTE_PS }, { BIT_ULL(13) } },
	{ "4-level", X86_CR4_PAE, EFER_LME | EFER_LMA | EFER_NX, 0xffff888000401abc, 0x7abc, 12, 4, 8,
	  { TABLE(1) + 273 * 8, TABLE(2), TABLE(3) + 2 * 8, TABLE(4) + 1 * 8 },
	  { TABLE(2) | ALL, TABLE(3) | ALL, TABLE(4) | ALL, 0x7000 | ALL },
	  { MK_PTE_PS, BIT_ULL(51), BIT_ULL(40), BIT_ULL(45) } },
	{ "4-level, 2 MiB", X86_CR4_PAE, EFER_LME | EFER_LMA, 0x00007fffffeabcde, 0x8000abcde, 21, 3, 8,
	  { TABLE(1) + 255 * 8, TABLE(2) + 511 * 8, TABLE(3) + 511 * 8 },
	  { TABLE(2) | ALL, TABLE(3) | ALL, 0x800000000 | ALL | MK_PTE_PS },
	  { MK_PTE_NX, BIT_ULL(40), BIT_ULL(20) } },
	{ "4-level, 1 GiB", X86_CR4_PAE, EFER_LME | EFER_LMA | EFER_NX, 0x7fffffff, 0xffffffff, 30, 2, 8,
	  { TABLE(1), TABLE(2) + 1 * 8 }, { TABLE(2) | ALL, 0xc0000000 | ALL | MK_PTE_PS },
	  { BIT_ULL(40), BIT_ULL(29) } },
	{ "5-level", X86_CR4_PAE | X86_CR4_LA57, EFER_LME | EFER_LMA | EFER_NX, 0x0100000000001010, 0x8010,
	  12, 5, 8,
	  { TABLE(1) + 256 * 8, TABLE(2), TABLE(3), TABLE(4), TABLE(5) + 1 * 8 },
	  { TABLE(2) | ALL, TABLE(3) | ALL, TABLE(4) | ALL, TABLE(5) | ALL, 0x8000 | ALL },
	  { MK_PTE_PS, MK_PTE_PS, BIT_ULL(40), BIT_ULL(41), BIT_ULL(42) } },
};

/* 5-level addresses above bit 56 must repeat it. */
static u64 canonical_gva(const struct mode *m)
{
	return m->nr == 5 ? (u64)((s64)(m->gva << 7) >> 7) : m->gva;
}

static struct mk_walk_cfg setup(const struct mode *m)
{
	struct mk_walk_cfg cfg = {
		.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, .cr3 = TABLE(1), .cr4 = m->cr4,
		.efer = m->efer, .maxphyaddr = 40, .gbpages = true,
	};
	unsigned int i;

	memset(ram, 0, sizeof(ram));
	for (i = 0; i < m->nr; i++)
		memcpy(ram + m->at[i], &m->entry[i], m->size);
	if (m->cr4 & X86_CR4_PAE && !(m->efer & EFER_LMA)) {
		cfg.cr3 = 0xdead000;
		cfg.pdpte[m->gva >> 30] = TABLE(1) | P;
	}
	return cfg;
}

static void poke(const struct mode *m, unsigned int i, u64 entry)
{
	memcpy(ram + m->at[i], &entry, m->size);
}

static u64 peek(const struct mode *m, unsigned int i)
{
	u64 entry = 0;

	memcpy(&entry, ram + m->at[i], m->size);
	return entry;
}

static void one_mode(const struct mode *m)
{
	struct mk_walk_cfg cfg = setup(m);
	const u64 gva = canonical_gva(m);
	struct mk_walk_result res;
	unsigned int i;
	bool good;
	u8 before[RAM];

	memcpy(before, ram, RAM);
	good = mk_walk(&cfg, &silent, gva, MK_ACC_USER | MK_ACC_WRITE, &res) == MK_WALK_OK;
	ok(good && res.gpa == m->gpa && res.shift == m->shift && res.writable && res.user && !res.nx,
	   "walk: %s: translates", m->name);
	ok(!memcmp(before, ram, RAM), "walk: %s: leaves the tables alone", m->name);

	good = mk_walk(&cfg, &marking, gva, MK_ACC_USER, &res) == MK_WALK_OK;
	for (i = 0; i < m->nr; i++)
		good &= peek(m, i) == (m->entry[i] | A);
	good &= mk_walk(&cfg, &marking, gva, MK_ACC_WRITE, &res) == MK_WALK_OK;
	for (i = 0; i < m->nr; i++)
		good &= peek(m, i) == (m->entry[i] | A | (i == m->nr - 1u ? D : 0));
	ok(good, "walk: %s: accessed and dirty bits", m->name);

	cfg = setup(m);
	races = 1;
	good = mk_walk(&cfg, &marking, gva, MK_ACC_WRITE, &res) == MK_WALK_OK;
	ok(good && !races && res.gpa == m->gpa && peek(m, m->nr - 1) & D,
	   "walk: %s: starts again when an entry changes", m->name);

	for (i = 0; i < m->nr; i++) {
		cfg = setup(m);
		poke(m, i, m->entry[i] & ~P);
		good = mk_walk(&cfg, &marking, gva, MK_ACC_USER | MK_ACC_WRITE, &res) ==
		       MK_WALK_FAULT;
		ok(good && res.error == (X86_PF_USER | X86_PF_WRITE) &&
		   res.cr2 == (m->efer & EFER_LMA ? gva : (u32)gva),
		   "walk: %s: entry %u not present", m->name, i);

		if (m->reserved[i]) {
			poke(m, i, m->entry[i] | m->reserved[i]);
			good = mk_walk(&cfg, &marking, gva, MK_ACC_READ, &res) == MK_WALK_FAULT;
			ok(good && res.error == (X86_PF_PROT | X86_PF_RSVD),
			   "walk: %s: reserved bit in entry %u", m->name, i);
		}
		if (i + 1 < m->nr) {
			u64 away = m->size == 8 ? 0x98765000 : 0x8765000;

			poke(m, i, away | ALL);
			good = mk_walk(&cfg, &marking, gva, MK_ACC_READ, &res);
			ok(good && res.gpa >> 12 == away >> 12,
			   "walk: %s: table %u outside memory", m->name, i + 1);
		}
	}
}

/*
 * SDM vol. 3A, "Determination of Access Rights", paragraph by paragraph;
 * walk.c has the same rules the other way around.
 */
static bool manual_allows(const struct mk_walk_cfg *cfg, u32 access, bool user_page, bool writable,
			  bool nx, bool pk_read, bool pk_write)
{
	bool wp = cfg->cr0 & X86_CR0_WP, smap = cfg->cr4 & X86_CR4_SMAP;
	bool smap_passes = !smap || (cfg->ac && !(access & MK_ACC_IMPLICIT));

	if (access & MK_ACC_USER) {
		if (!user_page)
			return false;
		if (access & MK_ACC_EXEC)
			return !nx;
		return access & MK_ACC_WRITE ? writable && pk_write : pk_read;
	}
	if (access & MK_ACC_EXEC)
		return user_page ? !(cfg->cr4 & X86_CR4_SMEP) && !nx : !nx;
	if (access & MK_ACC_WRITE) {
		if (!user_page)
			return !wp || writable;
		return smap_passes && (!wp || writable) && (wp ? pk_write : pk_read);
	}
	return user_page ? smap_passes && pk_read : true;
}

/* Every combination of rights, in each level's entry, and of the registers that matter. */
static void rights(const struct mode *m)
{
	static const u32 accesses[] = { MK_ACC_READ, MK_ACC_WRITE, MK_ACC_EXEC };
	const u64 gva = canonical_gva(m);
	unsigned int bits, a, i, cases = 0;
	bool nxe = m->efer & EFER_NX, good = true;

	for (bits = 0; bits < 1u << 12 && good; bits++) {
		struct mk_walk_cfg cfg = setup(m);
		struct mk_walk_result res;
		bool u = bits & 1, w = bits & 2, nx = bits & 4 && nxe;
		bool lma = m->efer & EFER_LMA, pke = bits & 8 && lma;
		unsigned int key = bits >> 4 & 3;	/* bit 0: AD, bit 1: WD */
		unsigned int where = (bits * 7) % m->nr, last = m->nr - 1;

		cfg.cr0 = bits & 64 ? cfg.cr0 : cfg.cr0 & ~X86_CR0_WP;
		cfg.cr4 |= bits & 128 ? X86_CR4_SMEP : 0;
		cfg.cr4 |= bits & 256 ? X86_CR4_SMAP : 0;
		cfg.cr4 |= pke ? X86_CR4_PKE : 0;
		cfg.ac = bits & 512;
		cfg.pkru = key << 2 * 5;
		if (lma)
			poke(m, last, m->entry[last] | 5ULL << MK_PTE_PKEY_SHIFT);
		poke(m, where, (peek(m, where) & ~(U | W)) | (u ? U : 0) | (w ? W : 0) |
			       (nx ? MK_PTE_NX : 0));

		for (a = 0; a < NR(accesses); a++) {
			u32 access = accesses[a] | (bits & 1024 ? MK_ACC_USER : 0) |
				     (bits & 2048 && !(bits & 1024) ? MK_ACC_IMPLICIT : 0);
			bool pk_read = !pke || !(key & 1);
			bool pk_write = !pke || !(key & 3);
			bool allowed = manual_allows(&cfg, access, u, w, nx, pk_read, pk_write);
			int status = mk_walk(&cfg, &silent, gva, access, &res);
			u32 error = X86_PF_PROT;

			cases++;
			if (allowed) {
				good &= status == MK_WALK_OK && res.gpa == m->gpa &&
					res.user == u && res.writable == w && res.nx == nx;
				continue;
			}
			if (access & MK_ACC_WRITE)
				error |= X86_PF_WRITE;
			if (access & MK_ACC_USER)
				error |= X86_PF_USER;
			if (access & MK_ACC_EXEC &&
			    (cfg.cr4 & X86_CR4_SMEP || (nxe && cfg.cr4 & X86_CR4_PAE)))
				error |= X86_PF_INSTR;
			if (u && !(access & MK_ACC_EXEC) &&
			    !(access & MK_ACC_WRITE &&
			      (access & MK_ACC_USER || cfg.cr0 & X86_CR0_WP) ? pk_write : pk_read))
				error |= X86_PF_PK;
			good &= status == MK_WALK_FAULT && res.error == error;
		}
	}
	/* a refused access leaves no traces */
	for (i = 0; i < m->nr && good; i++)
		good = !(peek(m, i) & (A | D));
	ok(good, "walk: %s: rights as the manual has them, %u cases", m->name, cases);
}

void walk_tests(void)
{
	struct mk_walk_cfg cfg = { .cr0 = X86_CR0_PE };
	const struct mode *four = &modes[5];
	struct mk_walk_result res;
	unsigned int i;
	int status;

	status = mk_walk(&cfg, &silent, 0x112345678, MK_ACC_WRITE | MK_ACC_USER, &res);
	ok(status == MK_WALK_OK && res.gpa == 0x12345678, "walk: no paging, 32 bits of address");

	for (i = 0; i < NR(modes); i++)
		one_mode(&modes[i]);
	for (i = 0; i < NR(modes); i++)
		rights(&modes[i]);

	cfg = setup(four);
	ok(mk_walk(&cfg, &silent, 0x800000000000, MK_ACC_READ, &res) == MK_WALK_NONCANONICAL,
	   "walk: 48 bits are canonical, 49 are not");
	cfg = setup(&modes[8]);
	ok(mk_walk(&cfg, &silent, 0x0100000000000000, MK_ACC_READ, &res) == MK_WALK_NONCANONICAL,
	   "walk: 57 bits are canonical, 58 are not");
	cfg = setup(&modes[7]);
	cfg.gbpages = false;
	status = mk_walk(&cfg, &silent, modes[7].gva, MK_ACC_READ, &res);
	ok(status == MK_WALK_FAULT && res.error == (X86_PF_PROT | X86_PF_RSVD),
	   "walk: PS is reserved where there are no 1 GiB pages");
	cfg = setup(&modes[3]);
	cfg.pdpte[3] = 0;
	status = mk_walk(&cfg, &silent, modes[3].gva, MK_ACC_EXEC, &res);
	ok(status == MK_WALK_FAULT && res.error == X86_PF_INSTR, "walk: PDPTE not present");
	cfg = setup(&modes[2]);
	cfg.maxphyaddr = 36;
	status = mk_walk(&cfg, &silent, modes[2].gva, MK_ACC_READ, &res);
	ok(status == MK_WALK_FAULT && res.error == (X86_PF_PROT | X86_PF_RSVD),
	   "walk: a 4 MiB page beyond the physical address width");
}
