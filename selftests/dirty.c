// SPDX-License-Identifier: GPL-2.0
/*
 * The logs of pages that a guest has written: KVM_GET_DIRTY_LOG, by itself and with
 * KVM_CLEAR_DIRTY_LOG, and the dirty rings.
 */
#include <kselftest_harness.h>
#include <sys/wait.h>
#include "guest.h"

#define SIZE	(16 * PAGE)
#define GPA	0x40000000ul

#define PAGES	1536ul		/* of the slot for rings and races */
#define ENTRIES	1024u		/* of a ring */

FIXTURE(dirty) {
	struct guest g;
	u8 *memory;
};

FIXTURE_SETUP(dirty)
{
	guest_create(&self->g, 0);
	self->memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->memory, MAP_FAILED);
}

FIXTURE_TEARDOWN(dirty)
{
	guest_destroy(&self->g);
	munmap(self->memory, PAGES * PAGE);
}

#define SLOT(...) guest_slot(&self->g, __VA_ARGS__)

/*
 * What was only read is clean.  From 6.12 on stock KVM lets the guest write there at once,
 * and calls it dirty; it is spared the question.
 */
static bool read_of_clean_page(struct guest *g, u64 gpa)
{
	u64 value;

	return !device_is_minikvm() || agent_read(g, gpa, &value);
}

/* One bit for each of the slot's sixteen pages; asking clears them. */
static u64 dirty_pages(struct guest *g)
{
	u64 bitmap = 0;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bitmap };

	must(g->vm, KVM_GET_DIRTY_LOG, &log);
	return bitmap;
}

TEST_F(dirty, dirty_log)
{
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &log };
	struct guest *g = &self->g;

	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, 0), 0);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), -ENOENT);
	agent_start(g);
	ASSERT_TRUE(agent_write(g, GPA, 1));
	/* Switched on over pages that the guest may write to already. */
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, KVM_MEM_LOG_DIRTY_PAGES),
		  0);
	EXPECT_EQ(dirty_pages(g), 0);
	for (int round = 0; round < 3; round++) {
		ASSERT_TRUE(agent_write(g, GPA, 2));
		ASSERT_TRUE(agent_write(g, GPA + 5 * PAGE + 8, 3));
		ASSERT_TRUE(agent_write(g, GPA + SIZE - 8, 4));
		ASSERT_TRUE(read_of_clean_page(g, GPA + 7 * PAGE));
		EXPECT_EQ(dirty_pages(g), BIT(0) | BIT(5) | BIT(15));
		EXPECT_EQ(dirty_pages(g), 0);
	}
	/* One that crosses into the next page makes both dirty. */
	ASSERT_TRUE(agent_write(g, GPA + 3 * PAGE - 4, 5));
	EXPECT_EQ(dirty_pages(g), BIT(2) | BIT(3));
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, 0), 0);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), -ENOENT);
	log.slot = 77;
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), -ENOENT);
	log.slot = must(g->vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), -EINVAL);
}

static int clear_pages(struct guest *g, u64 first, u32 count, u64 mask)
{
	struct kvm_clear_dirty_log log = {
		.slot = 1, .num_pages = count, .first_page = first, .dirty_bitmap = &mask,
	};

	return outcome(ioctl(g->vm, KVM_CLEAR_DIRTY_LOG, &log));
}

static int manual_protect(struct guest *g, u64 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args[0] = flags,
	};

	return outcome(ioctl(g->vm, KVM_ENABLE_CAP, &cap));
}

/* What is dirty stays so until userspace clears it, and then is watched again. */
TEST_F(dirty, dirty_log_cleared_by_hand)
{
	struct guest *g = &self->g;

	EXPECT_EQ(manual_protect(g, KVM_DIRTY_LOG_INITIALLY_SET), -EINVAL);
	EXPECT_EQ(manual_protect(g, 4), -EINVAL);
	ASSERT_EQ(manual_protect(g, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE), 0);
	EXPECT_EQ(clear_pages(g, 0, 16, 1), -ENOENT);
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	agent_start(g);
	ASSERT_TRUE(agent_write(g, GPA, 1));
	ASSERT_TRUE(agent_write(g, GPA + 5 * PAGE, 2));
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(dirty_pages(g), BIT(0) | BIT(5));
	EXPECT_EQ(clear_pages(g, 0, 16, BIT(5) | BIT(9)), 0);
	EXPECT_EQ(dirty_pages(g), BIT(0));
	ASSERT_TRUE(agent_write(g, GPA + 5 * PAGE, 3));
	EXPECT_EQ(dirty_pages(g), BIT(0) | BIT(5));
	EXPECT_EQ(clear_pages(g, 0, 16, ~0ull), 0);
	EXPECT_EQ(dirty_pages(g), 0);
	/* Whole words, but at the slot's end; and no further. */
	EXPECT_EQ(clear_pages(g, 0, 15, 1), -EINVAL);
	EXPECT_EQ(clear_pages(g, 1, 15, 1), -EINVAL);
	EXPECT_EQ(clear_pages(g, 0, 17, 1), -EINVAL);
	EXPECT_EQ(clear_pages(g, 64, 16, 1), -EINVAL);
	EXPECT_EQ(clear_pages(g, ~0ull << 6, 64, 1), -EINVAL);

	/* A VMM that sends all of memory once wants to be told of it as dirty. */
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, 0), 0);
	ASSERT_EQ(manual_protect(g, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				    KVM_DIRTY_LOG_INITIALLY_SET), 0);
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	EXPECT_EQ(dirty_pages(g) & 0xffff, 0xffff);
	EXPECT_EQ(clear_pages(g, 0, 16, ~0ull), 0);
	ASSERT_TRUE(agent_write(g, GPA + 7 * PAGE, 4));
	EXPECT_EQ(dirty_pages(g), BIT(7));
}

static u32 guest_fills(u64 pages)
{
	for (u64 page = 0; page < pages; page++)
		*(volatile u64 *)(GPA + page * PAGE) = page;
	return 0;
}

static u64 *dirty_words(struct guest *g)
{
	static u64 words[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = words };

	must(g->vm, KVM_GET_DIRTY_LOG, &log);
	return words;
}

/* How many pages are dirty from the first one on, if those are all; else -1. */
static int dirty_in_front(struct guest *g)
{
	u64 *words = dirty_words(g);
	int page, front = 0;

	for (page = 0; page < (int)PAGES; page++)
		if (words[page / 64] & BIT(page % 64)) {
			if (page != front)
				return -1;
			front++;
		}
	return front;
}

static u32 fill(struct guest *g, u64 pages)
{
	guest_call(g, guest_fills, pages);
	return guest_finish(g);
}

/* More than the CPU's own log holds, if it has one. */
TEST_F(dirty, many_pages)
{
	struct guest *g = &self->g;

	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	for (int round = 0; round < 2; round++) {
		fill(g, 600);
		EXPECT_EQ(dirty_in_front(g), 600);
		EXPECT_EQ(dirty_in_front(g), 0);
		fill(g, PAGES);
		fill(g, 600);
		EXPECT_EQ(dirty_in_front(g), PAGES);
		EXPECT_EQ(dirty_in_front(g), 0);
	}
}

/* However often nothing was found; and two slots share the last of the tables. */
TEST_F(dirty, after_quiet_sweeps)
{
	const u64 first = PAGES - 300;
	u64 others[300 / 64 + 1];
	struct kvm_dirty_log log = { .slot = 2, .dirty_bitmap = others };
	struct guest *g = &self->g;

	ASSERT_EQ(SLOT(1, GPA, self->memory, first * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_EQ(SLOT(2, GPA + first * PAGE, self->memory + first * PAGE, 300 * PAGE,
		       KVM_MEM_LOG_DIRTY_PAGES), 0);
	for (int quiet = 0; quiet < 5; quiet++) {
		fill(g, 700);
		EXPECT_EQ(dirty_in_front(g), 700);
		for (int sweep = 0; sweep < quiet; sweep++)
			EXPECT_EQ(dirty_in_front(g), 0);
		fill(g, PAGES);
		EXPECT_EQ(dirty_in_front(g), first);
		for (int sweep = 0; sweep < quiet; sweep++)
			EXPECT_EQ(dirty_in_front(g), 0);
		must(g->vm, KVM_GET_DIRTY_LOG, &log);
		for (int page = 0; page < 300; page++)
			EXPECT_TRUE(others[page / 64] & BIT(page % 64));
	}
}

TEST_F(dirty, off_and_on_again)
{
	struct guest *g = &self->g;

	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, 0), 0);
		fill(g, PAGES);
		ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
		EXPECT_EQ(dirty_in_front(g), 0);
		fill(g, 100);
		EXPECT_EQ(dirty_in_front(g), 100);
		/* This one nobody asks for before it goes off. */
		fill(g, 200);
	}
}

/* The host takes its pages away from the guest, and the log remains. */
TEST_F(dirty, what_is_unmapped_was_written)
{
	struct guest *g = &self->g;

	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	fill(g, PAGES);
	EXPECT_EQ(dirty_in_front(g), PAGES);
	fill(g, 1200);
	ASSERT_EQ(mprotect(self->memory, PAGES * PAGE, PROT_READ), 0);
	ASSERT_EQ(mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(dirty_in_front(g), 1200);
	EXPECT_EQ(dirty_in_front(g), 0);
	fill(g, 7);
	EXPECT_EQ(dirty_in_front(g), 7);
}

TEST_F(dirty, moves_with_its_slot)
{
	struct guest *g = &self->g;

	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	agent_start(g);
	ASSERT_TRUE(agent_write(g, GPA + 3 * PAGE, 1));
	ASSERT_EQ(SLOT(1, GPA + SIZE, self->memory, SIZE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_TRUE(agent_write(g, GPA + SIZE + 5 * PAGE, 2));
	ASSERT_TRUE(read_of_clean_page(g, GPA + SIZE + 7 * PAGE));
	EXPECT_EQ(dirty_pages(g), BIT(3) | BIT(5));
	EXPECT_EQ(dirty_pages(g), 0);
}

/* What was one page for the hardware is logged as many. */
TEST_F(dirty, large_pages)
{
	struct guest *g = &self->g;
	u8 *area = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u8 *memory = (u8 *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
	u64 bits[2 * HUGE / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

	ASSERT_NE(area, MAP_FAILED);
	madvise(memory, 2 * HUGE, MADV_HUGEPAGE);
	agent_start(g);
	for (int round = 0; round < 2; round++) {
		ASSERT_EQ(SLOT(1, GPA, memory, 2 * HUGE, 0), 0);
		ASSERT_TRUE(agent_write(g, GPA, 1));
		ASSERT_TRUE(agent_write(g, GPA + HUGE, 2));
		ASSERT_EQ(SLOT(1, GPA, memory, 2 * HUGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
		ASSERT_TRUE(agent_write(g, GPA + 66 * PAGE, 0x1234 + round));
		ASSERT_TRUE(agent_write(g, GPA + 2 * HUGE - 8, 0x5678 + round));
		EXPECT_EQ(*(u64 *)(memory + 66 * PAGE), 0x1234 + round);
		EXPECT_EQ(*(u64 *)(memory + 2 * HUGE - 8), 0x5678 + round);
		must(g->vm, KVM_GET_DIRTY_LOG, &log);
		for (u32 i = 0; i < sizeof(bits) / 8; i++)
			EXPECT_EQ(bits[i], i == 1 ? BIT(2) : i == 15 ? BIT(63) : 0);
	}
	ASSERT_EQ(SLOT(1, GPA, memory, 0, 0), 0);
	munmap(area, 3 * HUGE);
}

static volatile u64 stop;

static u32 guest_writes_and_waits(u64 pages)
{
	sti();			/* as in signals.c */
	guest_fills(pages);
	*(volatile u64 *)(GPA + pages * PAGE) = 1;
	while (!stop)
		;
	return 0;
}

static void *run_guest(void *arg)
{
	guest_finish(arg);
	return NULL;
}

/* A vCPU that is in the guest has nothing for itself. */
TEST_F(dirty, while_it_runs)
{
	struct guest *g = &self->g;
	pthread_t thread;

	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	for (int round = 0; round < 3; round++) {
		*guest_var(g, stop) = 0;
		guest_call(g, guest_writes_and_waits, 99);
		ASSERT_EQ(pthread_create(&thread, NULL, run_guest, g), 0);
		while (!*(volatile u64 *)(self->memory + 99 * PAGE))
			usleep(100);
		EXPECT_EQ(dirty_in_front(g), 100);
		EXPECT_EQ(dirty_in_front(g), 0);
		*guest_var(g, stop) = 1;
		pthread_join(thread, NULL);
		EXPECT_EQ(dirty_in_front(g), 0);
		self->memory[99 * PAGE] = 0;
	}
}

/* --- Rings --- */

static int enable_ring(int vm, u64 bytes)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING, .args[0] = bytes };

	return outcome(ioctl(vm, KVM_ENABLE_CAP, &cap));
}

static struct kvm_dirty_gfn *map_ring(int vcpu, int prot, int flags, u64 pgoff)
{
	return mmap(NULL, ENTRIES * sizeof(struct kvm_dirty_gfn), prot, flags, vcpu, pgoff * PAGE);
}

FIXTURE(ring) {
	struct guest g;
	u8 *memory;
	struct kvm_dirty_gfn *entries;
	u32 next;		/* entry to look at */
};

FIXTURE_SETUP(ring)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DIRTY_LOG_RING,
		.args[0] = ENTRIES * sizeof(struct kvm_dirty_gfn),
	};

	if (!device_has(KVM_CAP_DIRTY_LOG_RING))
		SKIP(return, "no dirty rings");
	guest_create_cap(&self->g, 0, &cap);
	self->memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->memory, MAP_FAILED);
	self->entries = map_ring(self->g.vcpu, PROT_READ | PROT_WRITE, MAP_SHARED,
				 KVM_DIRTY_LOG_PAGE_OFFSET);
	ASSERT_NE(self->entries, MAP_FAILED);
	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
}

FIXTURE_TEARDOWN(ring)
{
	if (!self->entries)
		return;
	munmap(self->entries, ENTRIES * sizeof(*self->entries));
	guest_destroy(&self->g);
	munmap(self->memory, PAGES * PAGE);
}

/* Take the next entry, if there is one: the page of slot 1 that it names, else -1. */
static s64 take_entry(struct kvm_dirty_gfn *entries, u32 *next)
{
	struct kvm_dirty_gfn *entry = &entries[*next % ENTRIES];
	s64 page;

	if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
		return -1;
	page = entry->slot == 1 ? (s64)entry->offset : -2;
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	++*next;
	return page;
}

#define TAKE() take_entry(self->entries, &self->next)
#define RESET() outcome(ioctl(self->g.vm, KVM_RESET_DIRTY_RINGS, 0))

TEST(ring_sizes)
{
	int kvm = device_open(), vm = must(kvm, KVM_CREATE_VM, 0), vcpu;
	s64 max = must(kvm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);

	if (!max)
		SKIP(return, "no dirty rings");
	EXPECT_EQ(max, must(vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING));
	EXPECT_EQ(outcome(ioctl(vm, KVM_RESET_DIRTY_RINGS, 0)), -EINVAL);
	EXPECT_EQ(enable_ring(vm, 0), -EINVAL);
	EXPECT_EQ(enable_ring(vm, PAGE / 2), -EINVAL);
	EXPECT_EQ(enable_ring(vm, 3 * PAGE), -EINVAL);
	EXPECT_EQ(enable_ring(vm, 2 * max), -E2BIG);
	EXPECT_EQ(enable_ring(vm, BIT(31)), -E2BIG);
	EXPECT_EQ(enable_ring(vm, max), 0);
	EXPECT_EQ(enable_ring(vm, max), -EINVAL);
	EXPECT_EQ(outcome(ioctl(vm, KVM_RESET_DIRTY_RINGS, 0)), 0);
	close(vm);

	vm = must(kvm, KVM_CREATE_VM, 0);
	vcpu = must(vm, KVM_CREATE_VCPU, 0);
	EXPECT_EQ(enable_ring(vm, max), -EINVAL);
	close(vcpu);
	close(vm);
	close(kvm);
}

TEST_F(ring, takes_the_place_of_the_bits)
{
	u64 bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

	EXPECT_EQ(outcome(ioctl(self->g.vm, KVM_GET_DIRTY_LOG, &log)), -ENXIO);
	/* Nobody has his own copy of it, or executes it. */
	EXPECT_EQ(map_ring(self->g.vcpu, PROT_READ, MAP_PRIVATE, KVM_DIRTY_LOG_PAGE_OFFSET),
		  MAP_FAILED);
	EXPECT_EQ(map_ring(self->g.vcpu, PROT_READ | PROT_EXEC, MAP_SHARED,
			   KVM_DIRTY_LOG_PAGE_OFFSET), MAP_FAILED);
	EXPECT_EQ(map_ring(self->g.vcpu, PROT_READ, MAP_PRIVATE, KVM_DIRTY_LOG_PAGE_OFFSET - 1),
		  MAP_FAILED);
}

TEST_F(ring, names_what_was_written)
{
	struct guest *g = &self->g;

	agent_start(g);
	for (int round = 0; round < 3; round++) {
		ASSERT_TRUE(agent_write(g, GPA, 2));
		ASSERT_TRUE(agent_write(g, GPA + 5 * PAGE + 8, 3));
		ASSERT_TRUE(read_of_clean_page(g, GPA + 7 * PAGE));
		/* One that crosses into the next page makes both dirty. */
		ASSERT_TRUE(agent_write(g, GPA + 3 * PAGE - 4, 5));
		EXPECT_EQ(RESET(), 0);	/* nothing was given back yet */
		EXPECT_EQ(TAKE(), 0);
		EXPECT_EQ(TAKE(), 5);
		s64 first = TAKE(), second = TAKE();

		EXPECT_EQ(first ^ second, 2 ^ 3);
		EXPECT_TRUE(first == 2 || first == 3);
		EXPECT_EQ(TAKE(), -1);
		EXPECT_EQ(RESET(), 4);
		EXPECT_EQ(RESET(), 0);
		EXPECT_EQ(self->entries[self->next - 1].flags, 0);
	}
	/* What does not log leaves no trace. */
	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, 0), 0);
	ASSERT_TRUE(agent_write(g, GPA, 2));
	EXPECT_EQ(TAKE(), -1);
}

/* Userspace completes the instruction, and KVM writes its result. */
static u32 guest_inputs(u64 gpa)
{
	void *to = (void *)gpa;
	u64 count = 16;

	asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x600) : "memory");
	return 0;
}

TEST_F(ring, names_what_was_written_for_the_guest)
{
	struct guest *g = &self->g;

	guest_call(g, guest_inputs, GPA + 4 * PAGE - 8);
	for (;;) {
		guest_run_to(g, KVM_EXIT_IO);
		if (g->run->io.port != 0x600)
			break;
		memset(guest_io_data(g), 0x5a, g->run->io.count);
	}
	EXPECT_EQ(*(u64 *)(self->memory + 4 * PAGE), 0x5a5a5a5a5a5a5a5a);
	u64 seen = 0;

	for (s64 page; (page = TAKE()) != -1;)
		seen |= BIT(page & 63);
	EXPECT_EQ(seen, BIT(3) | BIT(4));
}

/* A full ring keeps the guest out until there is room; nothing is lost. */
TEST_F(ring, full)
{
	struct guest *g = &self->g;
	u32 fulls = 0, taken = 0;
	u8 seen[PAGES] = {};
	s64 page;

	guest_call(g, guest_fills, PAGES);
	while (guest_run(g) == KVM_EXIT_DIRTY_RING_FULL) {
		u32 begun = taken;

		/* It stays full, also for one that only looks. */
		guest_run_to(g, KVM_EXIT_DIRTY_RING_FULL);
		fulls++;
		while ((page = TAKE()) >= 0) {
			ASSERT_LT(page, PAGES);
			seen[page]++;
			taken++;
		}
		guest_run_to(g, KVM_EXIT_DIRTY_RING_FULL);
		EXPECT_EQ(RESET(), taken - begun);
		ASSERT_GT(taken, begun);
	}
	for (; (page = TAKE()) >= 0; taken++)
		seen[page % PAGES]++;
	EXPECT_EQ(page, -1);
	EXPECT_GT(fulls, 0);
	/* The write that was kept waiting faults again. */
	EXPECT_LE(taken, PAGES + fulls);
	for (page = 0; page < (s64)PAGES; page++)
		EXPECT_GE(seen[page], 1);
}

/* What userspace writes into the ring is its own affair. */
TEST_F(ring, nonsense_in_it)
{
	struct guest *g = &self->g;

	agent_start(g);
	for (int i = 0; i < 6; i++)
		ASSERT_TRUE(agent_write(g, GPA + i * PAGE, 1));
	self->entries[0].slot = 77;
	self->entries[1].slot = ~0u;
	self->entries[2].offset = PAGES;
	self->entries[3].offset = ~0ull;
	self->entries[4].slot = 0;	/* which does not log */
	for (int i = 0; i < 6; i++)
		self->entries[i].flags = KVM_DIRTY_GFN_F_RESET;
	EXPECT_EQ(RESET(), 6);
	self->next = 6;
	/* The one that was given back in order works. */
	ASSERT_TRUE(agent_write(g, GPA + 5 * PAGE, 2));
	EXPECT_EQ(TAKE(), 5);
	/* A slot that goes meanwhile. */
	ASSERT_TRUE(agent_write(g, GPA + 9 * PAGE, 2));
	EXPECT_EQ(TAKE(), 9);
	ASSERT_EQ(SLOT(1, GPA, self->memory, 0, 0), 0);
	EXPECT_EQ(RESET(), 2);
}

/* --- A guest writes while its memory is copied --- */

static u32 guest_scribbles(u64 seed)
{
	u64 random = seed;
	u32 written = 0;

	sti();			/* as in signals.c */
	for (; !stop; written++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		*(volatile u64 *)(GPA + (random >> 33) % PAGES * PAGE) = random;
	}
	return written;
}

struct race {
	struct guest *g;
	u8 *memory;
	u8 *copy;
	struct kvm_dirty_gfn *entries;	/* NULL: bits */
	u32 next;
	bool by_hand;			/* with KVM_CLEAR_DIRTY_LOG */
	bool forks;			/* so that the guest's pages are replaced by copies */
	u32 copied;			/* pages */
	volatile bool full;
	bool failed;
};

static void copy_page(struct race *r, u64 page)
{
	memcpy(r->copy + page * PAGE, r->memory + page * PAGE, PAGE);
	r->copied++;
}

static void copy_by_bits(struct race *r)
{
	u64 bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	struct kvm_clear_dirty_log clear = {
		.slot = 1, .num_pages = PAGES, .dirty_bitmap = bits,
	};

	r->failed |= ioctl(r->g->vm, KVM_GET_DIRTY_LOG, &log) != 0;
	if (r->by_hand)
		r->failed |= ioctl(r->g->vm, KVM_CLEAR_DIRTY_LOG, &clear) != 0;
	for (u64 page = 0; page < PAGES; page++)
		if (bits[page / 64] & BIT(page % 64))
			copy_page(r, page);
}

/* What is read before the entry is given back may be old when it is. */
static void copy_by_ring(struct race *r)
{
	s64 pages[ENTRIES];
	int nr = 0;

	while (nr < (int)ENTRIES && (pages[nr] = take_entry(r->entries, &r->next)) >= 0)
		nr++;
	r->failed |= ioctl(r->g->vm, KVM_RESET_DIRTY_RINGS, 0) != nr;
	for (int i = 0; i < nr; i++)
		copy_page(r, pages[i] % PAGES);
	r->full = false;
}

static void fork_once(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
}

static void *copier(void *arg)
{
	struct race *r = arg;
	int rounds = getenv("MINIKVM_THOROUGH") ? 3000 : 100;

	for (int i = 0; i < rounds; i++) {
		if (r->forks && i % 4 == 0)
			fork_once();
		r->entries ? copy_by_ring(r) : copy_by_bits(r);
		urgent_pause();
	}
	*guest_var(r->g, stop) = 1;
	r->full = false;
	return NULL;
}

static void race(struct __test_metadata *_metadata, struct race r)
{
	pthread_t thread;
	u32 written;

	r.copy = calloc(PAGES, PAGE);
	ASSERT_NE(r.copy, NULL);
	*guest_var(r.g, stop) = 0;
	guest_call(r.g, guest_scribbles, 1);
	thread = urgent_thread(copier, &r);
	while (guest_run(r.g) == KVM_EXIT_DIRTY_RING_FULL) {
		r.full = true;
		while (r.full && !*guest_var(r.g, stop))
			usleep(100);
		/* The copier has gone. */
		if (*guest_var(r.g, stop))
			copy_by_ring(&r);
	}
	ASSERT_EQ(guest_port(r.g, &written), PORT_DONE);
	pthread_join(thread, NULL);
	r.entries ? copy_by_ring(&r) : copy_by_bits(&r);
	EXPECT_FALSE(r.failed);
	EXPECT_GT(written, 0);
	EXPECT_GT(r.copied, 0);
	TH_LOG("%u writes, %u pages copied", written, r.copied);
	EXPECT_EQ(memcmp(r.copy, r.memory, PAGES * PAGE), 0);
	free(r.copy);
}

TEST_F_TIMEOUT(dirty, nothing_is_lost, 240)
{
	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	race(_metadata, (struct race){ .g = &self->g, .memory = self->memory });
}

TEST_F_TIMEOUT(dirty, nothing_is_lost_by_hand, 240)
{
	ASSERT_EQ(manual_protect(&self->g, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE), 0);
	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	race(_metadata, (struct race){
		.g = &self->g, .memory = self->memory, .by_hand = true });
}

TEST_F_TIMEOUT(dirty, nothing_is_lost_with_its_page, 240)
{
	ASSERT_EQ(SLOT(1, GPA, self->memory, PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES), 0);
	race(_metadata, (struct race){ .g = &self->g, .memory = self->memory, .forks = true });
}

TEST_F_TIMEOUT(ring, nothing_is_lost, 240)
{
	race(_metadata, (struct race){
		.g = &self->g, .memory = self->memory, .entries = self->entries });
}

SELFTEST_MAIN
