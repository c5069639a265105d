// SPDX-License-Identifier: GPL-2.0
/*
 * Nested page tables: a cache of the host's own page tables, by guest frame.
 *
 * An entry here says what the host's page table says of the VMM's address that
 * stands behind the guest frame, and no more than that. It is made by reading
 * the host's entry, and it goes when the MMU notifier announces that the host's
 * entry is about to change. So no page is ever referenced, marked or counted
 * by us: all of that is the host's, in its own table, and stays right there.
 *
 *   - The host's entry is read and ours is written under mmu_lock. A notifier
 *     takes the same lock before the host changes anything, so what was read
 *     holds until the lock is released, unless a change of it is under way
 *     already (mmu_busy).
 *   - Ours is writable only if the host's is writable *and dirty*. The host
 *     cannot clean its entry without a notice, so a page that the guest may
 *     write is dirty for the host all the time, and nothing has to be handed
 *     back.
 *   - Where the host's entry is not good enough, the host's own fault handler
 *     makes it so. That covers what is swapped, shared, mapped by a driver.
 *   - So the dirty bits of ours are free for the log of a slot that has one (see
 *     core/dirty.c). Whoever takes such an entry away hands its dirty bit on.
 *
 * Knows: slots, the host's page tables. Read next: core/memory.c.
 */
#include <linux/cpu.h>
#include <linux/io.h>
#include <linux/mem_encrypt.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/pgtable.h>
#include <linux/smp.h>
#include <linux/vmstat.h>
#include <asm/vmx.h>

#include "core/dirty.h"
#include "core/memory.h"
#include "core/mmu.h"

static bool dirty_bits = true;
module_param(dirty_bits, bool, 0444);
MODULE_PARM_DESC(dirty_bits, "the dirty bits of nested tables tell what a guest has written");

#define ROOT_LEVEL	4	/* level 1 maps 4 KiB, 2 maps 2 MiB, 3 maps 1 GiB */
#define ROOT_BITS	48	/* of a guest physical address */

/*
 * Where both formats agree; so does the host's own table. What EPT calls the
 * right to read is presence for us: no entry of ours lacks it.
 */
#define ENTRY_PRESENT	BIT_ULL(0)
#define ENTRY_WRITE	BIT_ULL(1)
#define ENTRY_LARGE	BIT_ULL(7)
#define ENTRY_CACHED	BIT_ULL(52)	/* ours, of an entry that names a table: see take_used() */

#define LINE	(int)(SMP_CACHE_BYTES / sizeof(u64))	/* entries in a cache line */

static const struct format {
	u64 table;	/* of an entry that names a table: all rights */
	u64 leaf;	/* of an entry that maps a page: read-only */
	u64 exec;	/* the right to execute, where it is a bit */
	u64 accessed;
	u64 dirty;
	u64 wb, other;	/* memory type: the host maps it write-back, or not */
} formats[] = {
	/* SDM vol. 3C, "The Extended Page Table Mechanism" and "EPT and Memory Typing" */
	[MK_TDP_EPT] = {
		.table = VMX_EPT_RWX_MASK,
		.leaf = VMX_EPT_READABLE_MASK | VMX_EPT_ACCESS_BIT,
		.exec = VMX_EPT_EXECUTABLE_MASK,
		.accessed = VMX_EPT_ACCESS_BIT,
		.dirty = VMX_EPT_DIRTY_BIT,
		/* RAM is coherent, whatever the guest's PAT says. */
		.wb = VMX_EPTP_MT_WB << VMX_EPT_MT_EPTE_SHIFT | VMX_EPT_IPAT_BIT,
		.other = 0,		/* UC, which the guest may turn into WC */
	},
	/* APM vol. 2, "Nested Paging": a host's long-mode table, walked as user */
	[MK_TDP_NPT] = {
		.table = _PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED,
		.leaf = _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED,
		.accessed = _PAGE_ACCESSED,
		.dirty = _PAGE_DIRTY,
		.wb = 0,
		.other = _PAGE_PCD,	/* UC-, likewise */
	},
};

static const struct format *format(void)
{
	return &formats[mk_hw->tdp];
}

static u64 level_pages(int level)
{
	return 1ull << 9 * (level - 1);
}

static u64 level_size(int level)
{
	return level_pages(level) << PAGE_SHIFT;
}

static unsigned int level_index(gfn_t gfn, int level)
{
	return gfn >> 9 * (level - 1) & (PTRS_PER_PTE - 1);
}

static bool is_table(u64 e, int level)
{
	return level > 1 && (e & (ENTRY_PRESENT | ENTRY_LARGE)) == ENTRY_PRESENT;
}

static u64 *entry_table(u64 e)
{
	return phys_to_virt(e & PTE_PFN_MASK);
}

gfn_t mk_mmu_gfn_limit(void)
{
	return 1ull << (min_t(int, boot_cpu_data.x86_phys_bits, ROOT_BITS) - PAGE_SHIFT);
}

/* Under mmu_lock: the notifier's and the publisher's side of vm->slots. */
static const struct mk_slots *locked_slots(struct mk_vm *vm)
{
	return rcu_dereference_check(vm->slots, lockdep_is_held(&vm->mmu_lock));
}

/*
 * Do the dirty bits of @slot's entries count? Else its pages are mapped for writing only
 * after a fault. Rings are filled at the moment of the write, so they need the fault.
 */
static bool logs_by_bits(const struct mk_vm *vm, const struct mk_slot *slot)
{
	return slot->dirty && dirty_bits && mk_hw->caps->tdp_ad && !vm->dirty_ring_size;
}

static bool logs_by_faults(const struct mk_vm *vm, const struct mk_slot *slot)
{
	return slot->dirty && !logs_by_bits(vm, slot);
}

/* --- Flushing --- */

static void come_out(void *unused)
{
}

/*
 * Bring all vCPUs out of the guest, and see to it that none goes in again with
 * what it has cached of these tables. Under mmu_lock, so that nobody takes an
 * entry for gone that a vCPU can still use.
 *
 * Pairs with the run loop: it stores MK_IN_GUEST, then reads its requests; we
 * store the request (a full barrier), then read the mode.
 */
static void flush(struct mk_vm *vm)
{
	struct mk_vcpu *v;
	unsigned long id;

	cpumask_clear(vm->flush_cpus);
	xa_for_each(&vm->vcpus, id, v) {
		mk_request(v, MK_REQ_FLUSH_TDP);
		if (READ_ONCE(v->mode) == MK_IN_GUEST)
			cpumask_set_cpu(READ_ONCE(v->cpu.host_cpu), vm->flush_cpus);
	}
	smp_call_function_many(vm->flush_cpus, come_out, NULL, true);
}

/* --- Table pages --- */

static bool add_spare_tables(struct mk_vm *vm)
{
	struct page *page;
	int i;

	/* As many as one fault can need. */
	for (i = 1; i < ROOT_LEVEL; i++) {
		page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!page)
			return false;
		spin_lock(&vm->mmu_lock);
		list_add(&page->lru, &vm->spare_tables);
		spin_unlock(&vm->mmu_lock);
	}
	return true;
}

static struct page *take_spare_table(struct mk_vm *vm)
{
	struct page *page = list_first_entry_or_null(&vm->spare_tables, struct page, lru);

	if (page) {
		list_del(&page->lru);
		vm->nr_table_pages++;
		mod_lruvec_page_state(page, NR_SECONDARY_PAGETABLE, 1);
	}
	return page;
}

/* The hardware may read an unlinked table until the flush: its contents stay. */
static void unlink_table(struct mk_vm *vm, u64 *table, int level, struct list_head *unlinked)
{
	struct page *page = virt_to_page(table);
	int i;

	for (i = 0; level > 1 && i < PTRS_PER_PTE; i++) {
		if (is_table(table[i], level))
			unlink_table(vm, entry_table(table[i]), level - 1, unlinked);
	}
	list_add(&page->lru, unlinked);
	vm->nr_table_pages--;
	mod_lruvec_page_state(page, NR_SECONDARY_PAGETABLE, -1);
}

static void free_tables(struct list_head *pages)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, pages, lru)
		__free_page(page);
}

/* --- Walking what is mapped --- */

struct walk {
	struct mk_vm *vm;
	enum { ZAP, WRPROTECT, COLLECT, CLEAN, TEST_YOUNG, CLEAR_YOUNG, COUNT } op;
	const struct mk_slot *slot;	/* its log gets the dirty bits that are taken; NULL: none */
	bool hit;			/* some entry was zapped, writable, young, or used; a page taken */
	u64 *count;			/* COUNT: how many of each size, from 4 KiB on */
	struct list_head unlinked;	/* ZAP: free these after a flush */
};

#define WALK(name, vm_, op_) \
	struct walk name = { .vm = vm_, .op = op_, .unlinked = LIST_HEAD_INIT(name.unlinked) }

static void hand_on_dirty(const struct walk *w, gfn_t gfn)
{
	set_bit(gfn - w->slot->gfn, w->slot->dirty->bits);
}

static u64 any_of_line(const u64 *e)
{
	return e[0] | e[1] | e[2] | e[3] | e[4] | e[5] | e[6] | e[7];
}

/* COLLECT, of a last-level table. Most of a large guest is clean: a glance at each line tells. */
static void collect(const struct walk *w, u64 *table, gfn_t start, gfn_t end)
{
	u64 dirty = format()->dirty;
	gfn_t gfn;

	static_assert(LINE == 8);
	for (; start < end; start = ALIGN(start + 1, LINE)) {
		u64 *line = &table[level_index(start, 1) & ~(LINE - 1)];

		if (!(any_of_line(line) & dirty))
			continue;
		for (gfn = start; gfn < min(end, ALIGN(start + 1, LINE)); gfn++)
			if (test_and_clear_bit(__ffs(dirty), (unsigned long *)&line[gfn % LINE]))
				hand_on_dirty(w, gfn);
	}
}

/*
 * COLLECT: may the last-level table of @entry have dirty bits in it? To make one, a CPU
 * comes by here and makes this entry accessed. What it has cached of the entry it can go
 * on using until the flush, which every sweep ends with that took such a bit away; so the
 * table is read once more after that. Of a part, nothing is taken: the rest is not read.
 */
static bool take_used(struct walk *w, u64 *entry, bool whole)
{
	u64 accessed = format()->accessed, e = READ_ONCE(*entry);

	if (whole && (e & accessed)) {
		set_bit(__ffs(ENTRY_CACHED), (unsigned long *)entry);
		clear_bit(__ffs(accessed), (unsigned long *)entry);
		w->hit = true;
	} else if (whole && (e & ENTRY_CACHED)) {
		clear_bit(__ffs(ENTRY_CACHED), (unsigned long *)entry);
	}
	return e & (accessed | ENTRY_CACHED);
}

static bool visit(const struct walk *w, u64 *entry, int level, gfn_t gfn)
{
	u64 e = *entry;

	switch (w->op) {
	case ZAP:
		/* The hardware sets no dirty bit where nothing is present. */
		e = xchg(entry, 0);
		if (w->slot && (e & format()->dirty))
			hand_on_dirty(w, gfn);
		return true;
	case COLLECT:
		break;
	case CLEAN:
		clear_bit(__ffs(format()->dirty), (unsigned long *)entry);
		break;
	case WRPROTECT:
		/* The hardware may set accessed and dirty meanwhile; neither is missed. */
		WRITE_ONCE(*entry, e & ~ENTRY_WRITE);
		return e & ENTRY_WRITE;
	case TEST_YOUNG:
		return e & format()->accessed;
	case CLEAR_YOUNG:
		return test_and_clear_bit(__ffs(format()->accessed), (unsigned long *)entry);
	case COUNT:
		w->count[level - 1]++;
		break;
	}
	return false;
}

/*
 * Map with smaller pages what an entry of @level maps, none of them dirty. A CPU may have
 * both sizes cached until the flush: they lead to the same page, and code is never fetched
 * through the large one where that would be a machine check (nx_huge). Without a spare
 * table the entry goes, and the guest faults there once more. Returns the entry as it is
 * then.
 */
static u64 split(const struct walk *w, u64 *entry, int level)
{
	struct page *page = take_spare_table(w->vm);
	u64 e = *entry & ~format()->dirty, *table;
	int i;

	if (!page) {
		WRITE_ONCE(*entry, 0);
		return 0;
	}
	/* See make_entry(). */
	if (level == 2)
		e = (e & ~ENTRY_LARGE) | format()->exec;
	table = page_address(page);
	for (i = 0; i < PTRS_PER_PTE; i++)
		table[i] = e + i * level_size(level - 1);
	e = __sme_set(page_to_phys(page)) | format()->table;
	smp_store_release(entry, e);
	return e;
}

/* Visit the pages that @table, which maps at @level, has in [start, end). */
static void walk_table(struct walk *w, u64 *table, int level, gfn_t start, gfn_t end)
{
	u64 pages = level_pages(level);
	gfn_t next;

	if (w->op == COLLECT && level == 1) {
		collect(w, table, start, end);
		return;
	}
	for (; start < end; start = next) {
		u64 *entry = &table[level_index(start, level)];
		u64 e = *entry;

		next = min(end, (start | (pages - 1)) + 1);
		if (!(e & ENTRY_PRESENT))
			continue;
		if (w->op == CLEAN && (e & ENTRY_LARGE) && level > 1) {
			e = split(w, entry, level);
			if (!e)
				continue;
		}
		if (!is_table(e, level)) {
			w->hit |= visit(w, entry, level, start);
		} else if (w->op == ZAP && next - start == pages && !w->slot) {
			WRITE_ONCE(*entry, 0);
			unlink_table(w->vm, entry_table(e), level - 1, &w->unlinked);
			w->hit = true;
		} else if (w->op != COLLECT || level > 2 ||
			   take_used(w, entry, next - start == pages)) {
			walk_table(w, entry_table(e), level - 1, start, next);
		}
	}
}

static void walk_gfns(struct walk *w, gfn_t start, gfn_t end)
{
	walk_table(w, entry_table(w->vm->tdp_root), ROOT_LEVEL, start, end);
}

/* Visit the pages that stand for the VMM's addresses [start, end). */
static void walk_hvas(struct walk *w, unsigned long start, unsigned long end)
{
	const struct mk_slots *slots = locked_slots(w->vm);
	const struct mk_slot *slot;

	if (!slots)
		return;
	for (slot = slots->slot; slot < slots->slot + slots->nr; slot++) {
		unsigned long first = max(start, slot->hva);
		unsigned long last = min(end - 1, slot->hva + (slot->npages << PAGE_SHIFT) - 1);

		w->slot = logs_by_bits(w->vm, slot) ? slot : NULL;
		if (first <= last)
			walk_gfns(w, slot->gfn + ((first - slot->hva) >> PAGE_SHIFT),
				  slot->gfn + ((last - slot->hva) >> PAGE_SHIFT) + 1);
	}
}

/* --- Filling --- */

static bool is_busy(const struct mk_vm *vm, unsigned long start, unsigned long end)
{
	return unlikely(vm->mmu_busy) && start < vm->busy_end && end > vm->busy_start;
}

/*
 * What the host's page table says of an address: the entry and its level. The
 * other entries of a last-level table that share a cache line with it come
 * along.
 */
struct host {
	u64 entry;
	int level;
	u64 line[LINE];
};

static unsigned int line_index(u64 pages)
{
	return pages & (LINE - 1);
}

/*
 * With interrupts off no table goes away under us: whoever frees one waits for
 * an IPI or for RCU. The entries are native: a kernel that another one's tables
 * stand in for (Xen PV) has no VT-x or SVM.
 */
static void read_host(struct mm_struct *mm, unsigned long hva, struct host *host)
{
	unsigned long flags;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;
	pte_t *pte;
	int i;

	host->entry = 0;
	local_irq_save(flags);
	pgd = READ_ONCE(*pgd_offset(mm, hva));
	if (!pgd_present(pgd))
		goto out;
	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (!p4d_present(p4d))
		goto out;

	host->level = 3;
	pud = READ_ONCE(*pud_offset(&p4d, hva));
	host->entry = native_pud_val(pud);
	if (!(host->entry & _PAGE_PRESENT) || (host->entry & _PAGE_PSE))
		goto out;

	host->level = 2;
	pmd = READ_ONCE(*pmd_offset(&pud, hva));
	host->entry = native_pmd_val(pmd);
	if (!(host->entry & _PAGE_PRESENT) || (host->entry & _PAGE_PSE))
		goto out;

	host->level = 1;
	pte = PTR_ALIGN_DOWN(pte_offset_kernel(&pmd, hva), sizeof(host->line));
	for (i = 0; i < LINE; i++)
		host->line[i] = native_pte_val(READ_ONCE(pte[i]));
	host->entry = host->line[line_index(hva >> PAGE_SHIFT)];
out:
	local_irq_restore(flags);
}

/* Does the host allow this access, with nothing left to do for its fault handler? */
static bool host_allows(u64 host, bool write)
{
	u64 need = _PAGE_PRESENT | _PAGE_USER | (write ? _PAGE_RW | _PAGE_DIRTY : 0);

	return (host & need) == need;
}

/* May a page be writable though nobody has asked? Not where a fault is to tell of it. */
static bool may_write(const struct mk_vm *vm, const struct mk_slot *slot, u64 host)
{
	return !logs_by_faults(vm, slot) && !(slot->flags & KVM_MEM_READONLY) &&
	       host_allows(host, true);
}

/* The largest page that slot, hardware and a host's page of @level agree on. */
static int common_level(const struct mk_vm *vm, const struct mk_slot *slot, gfn_t gfn, int level)
{
	if (level == 1 || slot->dirty || !mk_hw->caps->tdp_2m)
		return 1;
	if (level == 3 && !mk_hw->caps->tdp_1g)
		level = 2;

	for (; level > 1; level--) {
		gfn_t first = gfn & ~(level_pages(level) - 1);
		unsigned long hva = mk_slot_hva(slot, first);

		if (first >= slot->gfn &&
		    first + level_pages(level) <= slot->gfn + slot->npages &&
		    IS_ALIGNED(hva, level_size(level)) &&
		    !is_busy(vm, hva, hva + level_size(level)))
			break;
	}
	return level;
}

static void drop_table(struct mk_vm *vm, u64 *entry, int level)
{
	u64 *table = entry_table(*entry);
	LIST_HEAD(unlinked);

	WRITE_ONCE(*entry, 0);
	unlink_table(vm, table, level - 1, &unlinked);
	flush(vm);
	free_tables(&unlinked);
}

/*
 * The place for an entry that maps @gfn at *@level, with tables on the way to
 * it; or at a lower level, which *@level then becomes. NULL: no spare table.
 */
static u64 *find_entry(struct mk_vm *vm, gfn_t gfn, int *level)
{
	u64 *table = entry_table(vm->tdp_root);
	struct page *page;
	u64 e, *entry;
	int at;

	for (at = ROOT_LEVEL;; at--) {
		entry = &table[level_index(gfn, at)];
		e = *entry;
		/*
		 * Smaller pages give way to a large one, except where some of them
		 * may be executable and the large one must not.
		 */
		if (is_table(e, at) && at <= *level && !vm->nx_huge) {
			drop_table(vm, entry, at);
			e = 0;
		}
		if (is_table(e, at)) {
			table = entry_table(e);
			continue;
		}
		if (at <= *level) {
			*level = at;
			return entry;
		}

		if (e & ENTRY_PRESENT) {
			/* A larger page; never have both sizes in a TLB. */
			WRITE_ONCE(*entry, 0);
			flush(vm);
		}
		page = take_spare_table(vm);
		if (!page)
			return NULL;
		table = page_address(page);
		WRITE_ONCE(*entry, __sme_set(page_to_phys(page)) | format()->table);
	}
}

/* What makes an entry writable: dirty too where that tells nobody, so the CPU need not do it. */
static u64 write_bits(const struct mk_vm *vm, const struct mk_slot *slot)
{
	return ENTRY_WRITE | (logs_by_bits(vm, slot) ? 0 : format()->dirty);
}

/*
 * An entry of @level for what @host, the host's entry of @host_level, says of @hva.
 * @write: 0, or write_bits()
 */
static u64 make_entry(const struct mk_vm *vm, unsigned long hva, int level, u64 host,
		      int host_level, u64 write)
{
	const struct format *f = format();
	u64 offset = hva & (level_size(host_level) - 1) & ~(level_size(level) - 1);
	u64 e = (host & PTE_PFN_MASK & ~(level_size(host_level) - 1)) | offset;

	e |= f->leaf | (host & sme_me_mask);
	if (host & (_PAGE_PWT | _PAGE_PCD | (host_level > 1 ? _PAGE_PAT_LARGE : _PAGE_PAT)))
		e |= f->other;
	else
		e |= f->wb;
	if (level > 1)
		e |= ENTRY_LARGE;
	if (level == 1 || !vm->nx_huge)
		e |= f->exec;
	return e | write;
}

/*
 * Map the neighbours of @gfn too, as far as the host has them in the same cache
 * line: that saves their faults, for next to nothing. They do not count as
 * accessed, so that they do not look used to the host.
 */
static void map_neighbours(struct mk_vm *vm, const struct mk_slot *slot, gfn_t gfn, u64 *entry,
			   const struct host *host)
{
	unsigned long hva = mk_slot_hva(slot, gfn);
	u64 write = write_bits(vm, slot);
	int i, me = line_index(gfn);

	if (line_index(hva >> PAGE_SHIFT) != me || !mk_hw->caps->tdp_ad)
		return;
	for (i = 0; i < LINE; i++) {
		unsigned long there = hva + (i - me) * PAGE_SIZE;
		u64 *e = entry + (i - me);

		if ((*e & ENTRY_PRESENT) || gfn + (i - me) - slot->gfn >= slot->npages ||
		    !host_allows(host->line[i], false) || is_busy(vm, there, there + PAGE_SIZE))
			continue;
		WRITE_ONCE(*e, make_entry(vm, there, 1, host->line[i], 1,
					  may_write(vm, slot, host->line[i]) ? write : 0) &
			       ~format()->accessed);
	}
}

enum outcome { MAPPED, NO_MEMORY, NO_HOST_PAGE, NO_TABLE };

/*
 * Map @gfn as @access needs it, in as large a page as there is. Under mmu_lock.
 * NO_HOST_PAGE: the host's own page table must first allow it at *@hva.
 */
static enum outcome map(struct mk_vcpu *v, gfn_t gfn, u32 access, unsigned long *hva)
{
	struct mk_vm *vm = v->vm;
	bool write = access & MK_TDP_WRITE;
	const struct mk_slot *slot;
	struct host host;
	u64 need, *entry, writable = 0;
	int level;

	slot = mk_slot_find(locked_slots(vm), gfn);
	if (!slot || (write && (slot->flags & KVM_MEM_READONLY)))
		return NO_MEMORY;
	*hva = mk_slot_hva(slot, gfn);
	if (is_busy(vm, *hva, *hva + PAGE_SIZE))
		return MAPPED;	/* it will fault again, until the change is made */

	read_host(vm->mm, *hva, &host);
	if (!host_allows(host.entry, write))
		return NO_HOST_PAGE;

	level = common_level(vm, slot, gfn, host.level);
	if (vm->nx_huge && (access & MK_TDP_EXEC))
		level = 1;
	entry = find_entry(vm, gfn, &level);
	if (!entry)
		return NO_TABLE;

	/* Another vCPU may have been here first. What is mapped is never cut down here. */
	need = ENTRY_PRESENT | (write ? ENTRY_WRITE : 0);
	if (access & MK_TDP_EXEC)
		need |= format()->exec;
	if ((*entry & need) == need)
		return MAPPED;

	/* Nothing writable is replaced here, so no dirty bit is lost. */
	if (write || may_write(vm, slot, host.entry))
		writable = write_bits(vm, slot);
	WRITE_ONCE(*entry, make_entry(vm, *hva, level, host.entry, host.level, writable));
	if (write && logs_by_faults(vm, slot))
		mk_dirty_mark(v, slot, gfn - slot->gfn);
	if (host.level == 1)
		map_neighbours(vm, slot, gfn, entry, &host);
	return MAPPED;
}

/* Let the host map @hva, writable and dirty if @write. */
static enum mk_fault fault_in(struct mm_struct *mm, unsigned long hva, bool write)
{
	bool unlocked = false;
	int err;

	if (mmap_read_lock_killable(mm))
		return MK_FAULT_SIGNAL;
	err = fixup_user_fault(mm, hva, write ? FAULT_FLAG_WRITE : 0, &unlocked);
	mmap_read_unlock(mm);

	switch (err) {
	case 0:
		return MK_FAULT_MAPPED;
	case -EINTR:
		return MK_FAULT_SIGNAL;
	case -ENOMEM:
		return MK_FAULT_NOMEM;
	default:
		return MK_FAULT_BAD;
	}
}

enum mk_fault mk_mmu_fault(struct mk_vcpu *v, gpa_t gpa, u32 access)
{
	struct mk_vm *vm = v->vm;
	enum mk_fault fault;
	enum outcome outcome;
	unsigned long hva;
	int tries;

	/* Once for the page, once for the tables; then the guest tries again itself. */
	for (tries = 0; tries < 3; tries++) {
		spin_lock(&vm->mmu_lock);
		outcome = map(v, gpa >> PAGE_SHIFT, access, &hva);
		spin_unlock(&vm->mmu_lock);

		switch (outcome) {
		case MAPPED:
			return MK_FAULT_MAPPED;
		case NO_MEMORY:
			return MK_FAULT_DEVICE;
		case NO_HOST_PAGE:
			fault = fault_in(vm->mm, hva, access & MK_TDP_WRITE);
			if (fault != MK_FAULT_MAPPED)
				return fault;
			break;
		case NO_TABLE:
			if (!add_spare_tables(vm))
				return MK_FAULT_NOMEM;
			break;
		}
	}
	return MK_FAULT_MAPPED;
}

/* --- Statistics --- */

#define COUNT_AT_ONCE	level_pages(3)

void mk_mmu_count(struct mk_vm *vm, u64 pages[3])
{
	const struct mk_slots *slots;
	const struct mk_slot *slot;
	gfn_t start, end, next;
	unsigned int i;
	WALK(w, vm, COUNT);

	w.count = pages;
	memset(pages, 0, 3 * sizeof(*pages));
	mutex_lock(&vm->lock);
	spin_lock(&vm->mmu_lock);
	slots = locked_slots(vm);
	for (i = 0; slots && i < slots->nr; i++) {
		slot = &slots->slot[i];
		end = slot->gfn + slot->npages;
		for (start = slot->gfn; start < end; start = next) {
			next = min(end, (start | (COUNT_AT_ONCE - 1)) + 1);
			walk_gfns(&w, start, next);
			cond_resched_lock(&vm->mmu_lock);
		}
	}
	spin_unlock(&vm->mmu_lock);
	mutex_unlock(&vm->lock);
}

/* --- Changes of slots --- */

void mk_mmu_publish(struct mk_vm *vm, struct mk_slots *slots, const struct mk_slot *gone,
		    bool logs_on)
{
	WALK(w, vm, ZAP);

	spin_lock(&vm->mmu_lock);
	rcu_assign_pointer(vm->slots, slots);
	if (logs_on && logs_by_bits(vm, gone)) {
		/* No CPU finds an entry to make dirty afterwards, in tables that are unlinked. */
		w.slot = gone;
		walk_gfns(&w, gone->gfn, gone->gfn + gone->npages);
		w.slot = NULL;
	}
	if (gone)
		walk_gfns(&w, gone->gfn, gone->gfn + gone->npages);
	if (w.hit)
		flush(vm);
	spin_unlock(&vm->mmu_lock);
	free_tables(&w.unlinked);
}

void mk_mmu_start_log(struct mk_vm *vm, const struct mk_slot *slot)
{
	gfn_t start, next, end = slot->gfn + slot->npages;
	WALK(w, vm, logs_by_bits(vm, slot) ? CLEAN : ZAP);

	for (start = slot->gfn; start < end; start = next) {
		next = min(end, (start | (level_pages(2) - 1)) + 1);
		if (w.op == CLEAN && list_empty_careful(&vm->spare_tables))
			add_spare_tables(vm);
		spin_lock(&vm->mmu_lock);
		walk_gfns(&w, start, next);
		spin_unlock(&vm->mmu_lock);
		cond_resched();
	}
	mk_mmu_flush(vm);
	free_tables(&w.unlinked);
}

/* WRPROTECT a word of @slot's pages from @page on, at its end fewer. */
static void watch(struct walk *w, const struct mk_slot *slot, unsigned long page)
{
	walk_gfns(w, slot->gfn + page, slot->gfn + min(page + BITS_PER_LONG, slot->npages));
}

/* Pages that are collected while nobody else gets the lock. */
#define SWEEP	(16 * PTRS_PER_PTE)

/* COLLECT the slot's pages from @page on to @end, and what else their last-level tables have. */
static void sweep(struct walk *w, unsigned long page, unsigned long end)
{
	const struct mk_slot *slot = w->slot;
	gfn_t start = slot->gfn + page, next;

	for (end = slot->gfn + min(end, slot->npages); start < end; start = next) {
		next = min(ALIGN(end, PTRS_PER_PTE), ALIGN(start + 1, SWEEP));
		walk_gfns(w, start, min(next, slot->gfn + slot->npages));
		cond_resched_lock(&w->vm->mmu_lock);
	}
}

void mk_mmu_collect_dirty(struct mk_vm *vm, const struct mk_slot *slot)
{
	WALK(w, vm, COLLECT);

	if (!logs_by_bits(vm, slot))
		return;
	w.slot = slot;
	spin_lock(&vm->mmu_lock);
	sweep(&w, 0, slot->npages);
	if (w.hit)
		flush(vm);
	spin_unlock(&vm->mmu_lock);
}

bool mk_mmu_take_dirty(struct mk_vm *vm, const struct mk_slot *slot, size_t first,
		       unsigned long *bits, size_t longs)
{
	atomic_long_t *dirty = (atomic_long_t *)&slot->dirty->bits[first];
	unsigned long page = first * BITS_PER_LONG;
	bool by_bits = logs_by_bits(vm, slot);
	size_t i;
	WALK(w, vm, by_bits ? COLLECT : WRPROTECT);

	w.slot = slot;
	spin_lock(&vm->mmu_lock);
	if (by_bits)
		sweep(&w, page, page + longs * BITS_PER_LONG);
	for (i = 0; i < longs; i++, page += BITS_PER_LONG) {
		if (i % (PTRS_PER_PTE / BITS_PER_LONG) == 0)
			cond_resched_lock(&vm->mmu_lock);
		bits[i] &= atomic_long_read(&dirty[i]);
		if (bits[i]) {
			bits[i] &= atomic_long_fetch_andnot(bits[i], &dirty[i]);
			/* A neighbour that stays dirty will say so once more: no harm in that. */
			if (!by_bits)
				watch(&w, slot, page);
			else
				w.hit = true;	/* perhaps found earlier, without a flush */
		}
	}
	spin_unlock(&vm->mmu_lock);
	return w.hit;
}

void mk_mmu_flush(struct mk_vm *vm)
{
	spin_lock(&vm->mmu_lock);
	flush(vm);
	spin_unlock(&vm->mmu_lock);
}

/* --- The host's notices --- */

static struct mk_vm *notified_vm(struct mmu_notifier *mn)
{
	return container_of(mn, struct mk_vm, notifier);
}

static int invalidate_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct mk_vm *vm = notified_vm(mn);
	WALK(w, vm, ZAP);

	spin_lock(&vm->mmu_lock);
	if (!vm->mmu_busy++) {
		vm->busy_start = range->start;
		vm->busy_end = range->end;
	} else {
		vm->busy_start = min(vm->busy_start, range->start);
		vm->busy_end = max(vm->busy_end, range->end);
	}
	walk_hvas(&w, range->start, range->end);
	if (w.hit)
		flush(vm);
	spin_unlock(&vm->mmu_lock);
	free_tables(&w.unlinked);
	return 0;
}

static void invalidate_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct mk_vm *vm = notified_vm(mn);

	spin_lock(&vm->mmu_lock);
	vm->mmu_busy--;
	spin_unlock(&vm->mmu_lock);
}

/*
 * Was [start, end) used since this was last asked? Hardware that does not set
 * accessed bits gives an answer too, if what is mapped counts as used, and is
 * no longer mapped when asked to forget it.
 */
static int age(struct mmu_notifier *mn, unsigned long start, unsigned long end, bool clear,
	       bool must_flush)
{
	bool zap = clear && !mk_hw->caps->tdp_ad;
	struct mk_vm *vm = notified_vm(mn);
	WALK(w, vm, zap ? ZAP : clear ? CLEAR_YOUNG : TEST_YOUNG);

	spin_lock(&vm->mmu_lock);
	walk_hvas(&w, start, end);
	if (w.hit && (zap || must_flush))
		flush(vm);
	spin_unlock(&vm->mmu_lock);
	free_tables(&w.unlinked);
	return w.hit;
}

static int clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
			     unsigned long start, unsigned long end)
{
	return age(mn, start, end, true, true);
}

static int clear_young(struct mmu_notifier *mn, struct mm_struct *mm,
		       unsigned long start, unsigned long end)
{
	return age(mn, start, end, true, false);
}

static int test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long hva)
{
	return age(mn, hva, hva + PAGE_SIZE, false, false);
}

/* The VMM's memory goes as a whole; or the VM does, whichever comes first. */
static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct mk_vm *vm = notified_vm(mn);
	WALK(w, vm, ZAP);

	spin_lock(&vm->mmu_lock);
	walk_gfns(&w, 0, 1ull << (ROOT_BITS - PAGE_SHIFT));
	if (w.hit)
		flush(vm);
	spin_unlock(&vm->mmu_lock);
	free_tables(&w.unlinked);
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_start = invalidate_start,
	.invalidate_range_end = invalidate_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};

int mk_mmu_create(struct mk_vm *vm)
{
	struct page *root;
	int err = -ENOMEM;

	INIT_LIST_HEAD(&vm->spare_tables);
	/*
	 * Some CPUs raise a machine check when the size of a page changes under
	 * instruction fetches. A guest could do that to the host.
	 */
	vm->nx_huge = boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) && !cpu_mitigations_off();

	if (!zalloc_cpumask_var(&vm->flush_cpus, GFP_KERNEL_ACCOUNT))
		return -ENOMEM;
	root = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!root)
		goto free_mask;
	vm->tdp_root = __sme_set(page_to_phys(root));
	vm->notifier.ops = &notifier_ops;
	err = mmu_notifier_register(&vm->notifier, vm->mm);
	if (err)
		goto free_root;
	return 0;

free_root:
	__free_page(root);
free_mask:
	free_cpumask_var(vm->flush_cpus);
	return err;
}

void mk_mmu_destroy(struct mk_vm *vm)
{
	mmu_notifier_unregister(&vm->notifier, vm->mm);
	WARN_ON_ONCE(vm->nr_table_pages);
	free_tables(&vm->spare_tables);
	__free_page(virt_to_page(entry_table(vm->tdp_root)));
	free_cpumask_var(vm->flush_cpus);
}
