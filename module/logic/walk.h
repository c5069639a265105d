/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's own page tables: what a linear address of the guest means, in
 * every paging mode that x86 has, with every reason to refuse.
 *
 * Pure: guest memory is read through callbacks. Read next: walk.c.
 */
#ifndef MK_LOGIC_WALK_H
#define MK_LOGIC_WALK_H

#include "facts/x86.h"

#define MK_MAX_LEVELS	5	/* of tables on the way to a page */

/* What the access wants; MK_ACC_READ is the absence of the others. */
#define MK_ACC_READ	0u
#define MK_ACC_WRITE	BIT(0)
#define MK_ACC_EXEC	BIT(1)
#define MK_ACC_USER	BIT(2)	/* made at CPL 3 */
#define MK_ACC_IMPLICIT	BIT(3)	/* supervisor's by nature (descriptor tables, TSS): EFLAGS.AC does not help */

/**
 * struct mk_walk_cfg - the registers that decide how an address is translated
 * @pdpte:      the four PDPTEs that the CPU loaded; read in PAE mode only
 * @pkru:       read with CR4.PKE in 4- and 5-level mode only
 * @maxphyaddr: 32 to 52; entries with address bits from this one on are reserved
 * @gbpages:    the guest's CPUID has 1 GiB pages
 * @ac:         EFLAGS.AC: SMAP lets supervisor data accesses pass
 */
struct mk_walk_cfg {
	u64 cr0, cr3, cr4, efer;
	u64 pdpte[4];
	u32 pkru;
	u8 maxphyaddr;
	bool gbpages;
	bool ac;
};

/**
 * struct mk_walk_mem - guest physical memory as the walk sees it
 * @ctx:     handed to the callbacks
 * @read:    put the entry of @size bytes (4 or 8) at @gpa into *@val, zero
 *           extended. Not 0: nothing there
 * @update:  replace @old by @new atomically; -EAGAIN: it was not @old, and the
 *           walk starts again; other errors: not writable. NULL: accessed and
 *           dirty bits are left alone (for looking without being noticed)
 */
struct mk_walk_mem {
	void *ctx;
	int (*read)(void *ctx, u64 gpa, u64 *val, unsigned int size);
	int (*update)(void *ctx, u64 gpa, u64 old, u64 new, unsigned int size);
};

enum mk_walk_status {
	MK_WALK_OK,
	MK_WALK_FAULT,		/* #PF: mk_walk_result.error and .cr2 */
	MK_WALK_NONCANONICAL,	/* #GP or #SS, where the segment did not say so before */
	MK_WALK_NO_TABLE,	/* mk_walk_result.gpa: a table entry outside memory */
};

/**
 * struct mk_walk_result
 * @gpa:      in bytes, with the offset in the page
 * @shift:    log2 of the page's size in bytes: 12, 21, 22 or 30
 * @writable: the entries allow supervisor and user to write
 * @user:     the entries allow CPL 3
 * @nx:       the entries forbid fetches
 * @error:    error code of the #PF
 * @cr2:      address of the #PF
 */
struct mk_walk_result {
	u64 gpa;
	u8 shift;
	bool writable, user, nx;
	u32 error;
	u64 cr2;
};

/**
 * mk_walk - translate one linear address
 * @gva:    linear address; outside 64-bit mode the upper half is ignored
 * @access: MK_ACC_*
 *
 * Accessed bits are set in every entry, the dirty bit in the last one, if the
 * access is allowed and @mem has an update.
 *
 * Return: enum mk_walk_status.
 */
int mk_walk(const struct mk_walk_cfg *cfg, const struct mk_walk_mem *mem, u64 gva, u32 access,
	    struct mk_walk_result *res);

#endif
