// SPDX-License-Identifier: GPL-2.0
/*
 * Host memory that changes under a guest: unmapped, protected, thrown away,
 * swapped or paged out, split; large pages of both kinds; and slots that move
 * while the guest runs.  The guest has to see what the program sees.
 */
#include <kselftest_harness.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "guest.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define GPA	0x40000000ul
#define BYTES	(2 * HUGE)
#define PAGES	(BYTES / PAGE)

FIXTURE(mmu) {
	struct guest g;
	u8 *area;		/* what was mapped */
	u8 *memory;		/* aligned to 2 MiB, at GPA, slot 1 */
};

FIXTURE_SETUP(mmu)
{
	guest_create(&self->g, 0);
	self->area = mmap(NULL, BYTES + HUGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->area, MAP_FAILED);
	self->memory = (u8 *)(((uintptr_t)self->area + HUGE - 1) & -HUGE);
	ASSERT_EQ(guest_slot(&self->g, 1, GPA, self->memory, BYTES, 0), 0);
	agent_start(&self->g);
}

FIXTURE_TEARDOWN(mmu)
{
	guest_destroy(&self->g);
	munmap(self->area, BYTES + HUGE);
}

static u64 *word(u8 *memory, u64 page)
{
	return (u64 *)(memory + page * PAGE);
}

/* The guest's access to a page of slot 1, which must not be MMIO. */
static u64 peek(struct guest *g, u64 page)
{
	u64 value;

	if (!agent_read(g, GPA + page * PAGE, &value))
		die("page %llu reads as MMIO", page);
	return value;
}

static void poke(struct guest *g, u64 page, u64 value)
{
	if (!agent_write(g, GPA + page * PAGE, value))
		die("page %llu writes as MMIO", page);
}

static int access_errno(struct guest *g, u64 page, bool write)
{
	volatile struct agent_command *command = guest_var(g, agent_command);

	command->gpa = GPA + page * PAGE;
	command->write = write;
	command->value = 1;
	return outcome(ioctl(g->vcpu, KVM_RUN, 0));
}

TEST_F(mmu, small_pages)
{
	struct guest *g = &self->g;

	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	for (u64 page = 0; page + 1 < PAGES; page += 3) {
		poke(g, page, page);
		ASSERT_EQ(*word(self->memory, page), page);
		*word(self->memory, page + 1) = ~page;
		ASSERT_EQ(peek(g, page + 1), ~page);
	}
}

/* Reading first must not leave the guest on the zero page when it writes. */
TEST_F(mmu, read_then_write)
{
	struct guest *g = &self->g;

	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	for (u64 page = 0; page < 16; page++) {
		ASSERT_EQ(peek(g, page), 0);
	}
	for (u64 page = 0; page < 16; page++) {
		poke(g, page, page + 1);
		ASSERT_EQ(*word(self->memory, page), page + 1);
	}
	for (u64 page = 0; page < 16; page++) {
		ASSERT_EQ(peek(g, page), page + 1);
		*word(self->memory, page) = 100 + page;
		ASSERT_EQ(peek(g, page), 100 + page);
	}
}

static void check_all(struct __test_metadata *_metadata, struct guest *g,
		      u8 *memory, u64 seed)
{
	for (u64 page = 0; page < PAGES; page += 17) {
		*word(memory, page) = seed + page;
		ASSERT_EQ(peek(g, page), seed + page);
		poke(g, page, seed - page);
		ASSERT_EQ(*word(memory, page), seed - page);
	}
}

TEST_F(mmu, transparent_huge_pages_and_their_split)
{
	struct guest *g = &self->g;

	madvise(self->memory, BYTES, MADV_HUGEPAGE);
	memset(self->memory, 0, BYTES);
	check_all(_metadata, g, self->memory, 1000);
	/* One page out of the middle: the rest stays where it was. */
	ASSERT_EQ(madvise(self->memory + 100 * PAGE, PAGE, MADV_DONTNEED), 0);
	EXPECT_EQ(peek(g, 100), 0);
	check_all(_metadata, g, self->memory, 2000);
	/* Part of it read-only splits the mapping of the rest. */
	ASSERT_EQ(mprotect(self->memory + HUGE, 16 * PAGE, PROT_READ), 0);
	EXPECT_EQ(access_errno(g, HUGE / PAGE, true), -EFAULT);
	ASSERT_EQ(mprotect(self->memory + HUGE, 16 * PAGE,
			   PROT_READ | PROT_WRITE), 0);
	agent_finish(g);
	check_all(_metadata, g, self->memory, 3000);
}

TEST_F(mmu, hugetlbfs)
{
	struct guest *g = &self->g;
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", "w");
	u8 *memory;

	if (file) {
		fprintf(file, "4\n");
		fclose(file);
	}
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (memory == MAP_FAILED)
		SKIP(return, "the host has no huge pages to give");
	ASSERT_EQ(guest_slot(g, 1, GPA, NULL, 0, 0), 0);
	ASSERT_EQ(guest_slot(g, 1, GPA, memory, BYTES, 0), 0);
	check_all(_metadata, g, memory, 5000);
	ASSERT_EQ(madvise(memory, HUGE, MADV_DONTNEED), 0);
	EXPECT_EQ(peek(g, 17), 0);
	check_all(_metadata, g, memory, 6000);
	ASSERT_EQ(guest_slot(g, 1, GPA, NULL, 0, 0), 0);
	munmap(memory, BYTES);
}

TEST_F(mmu, dontneed)
{
	struct guest *g = &self->g;

	for (u64 round = 1; round < 10; round++) {
		for (u64 page = 0; page < 64; page++)
			poke(g, page, round);
		ASSERT_EQ(madvise(self->memory, 64 * PAGE, MADV_DONTNEED), 0);
		for (u64 page = 0; page < 64; page++) {
			ASSERT_EQ(peek(g, page), 0);
		}
	}
}

TEST_F(mmu, unmapped_and_mapped_again)
{
	struct guest *g = &self->g;
	u8 *again;

	poke(g, 5, 55);
	ASSERT_EQ(munmap(self->memory, BYTES), 0);
	EXPECT_EQ(access_errno(g, 5, false), -EFAULT);
	EXPECT_EQ(access_errno(g, 5, true), -EFAULT);
	again = mmap(self->memory, BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(again, self->memory);
	/* The access that failed is done again, with the present command. */
	agent_finish(g);
	EXPECT_EQ(peek(g, 6), 0);
	check_all(_metadata, g, self->memory, 7000);
}

TEST_F(mmu, replaced_in_place)
{
	struct guest *g = &self->g;

	for (u64 round = 1; round < 10; round++) {
		poke(g, 3, round);
		ASSERT_NE(mmap(self->memory, BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			  MAP_FAILED);
		ASSERT_EQ(peek(g, 3), 0);
		*word(self->memory, 3) = 30 + round;
		ASSERT_EQ(peek(g, 3), 30 + round);
	}
}

TEST_F(mmu, protected_memory)
{
	struct guest *g = &self->g;

	poke(g, 1, 11);
	ASSERT_EQ(mprotect(self->memory, BYTES, PROT_READ), 0);
	EXPECT_EQ(peek(g, 1), 11);
	EXPECT_EQ(access_errno(g, 1, true), -EFAULT);
	EXPECT_EQ(*word(self->memory, 1), 11);
	ASSERT_EQ(mprotect(self->memory, BYTES, PROT_NONE), 0);
	EXPECT_EQ(access_errno(g, 1, false), -EFAULT);
	ASSERT_EQ(mprotect(self->memory, BYTES, PROT_READ | PROT_WRITE), 0);
	agent_finish(g);
	poke(g, 1, 12);
	EXPECT_EQ(*word(self->memory, 1), 12);
}

static u32 guest_reads_a_device(u64 unused)
{
	return mmio_read(GUEST_MMIO);
}

/*
 * The code that waits for a device is out of reach when the device answers:
 * that is the program's affair, and the guest goes on when it is back.
 */
TEST_F(mmu, code_out_of_reach_while_a_device_answers)
{
	struct guest *g = &self->g;
	u8 *code;

	guest_call(g, guest_reads_a_device, 0);
	guest_run_to(g, KVM_EXIT_MMIO);
	code = guest_at(g, guest_rip(g) & -PAGE);
	*(u32 *)g->run->mmio.data = 0x1234;
	ASSERT_EQ(mprotect(code, PAGE, PROT_NONE), 0);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_RUN, 0)), -EFAULT);
	}
	ASSERT_EQ(mprotect(code, PAGE, PROT_READ | PROT_WRITE), 0);
	/* Nor is the device asked again. */
	EXPECT_EQ(guest_finish(g), 0x1234);
}

static u32 guest_copies_from_a_device(u64 to)
{
	const void *from = (void *)GUEST_MMIO;

	asm volatile("movsb" : "+S"(from), "+D"(to) : : "memory");
	return 0;
}

/* The same with the guest's page table, which the executor reads. */
TEST_F(mmu, page_table_out_of_reach_while_a_device_answers)
{
	struct guest *g = &self->g;
	u64 *pd = guest_at(g, GUEST_PD + PAGE), *table = word(self->memory, 8);
	u64 to = GPA + HUGE;

	if (!device_is_minikvm())
		SKIP(return, "stock KVM takes it for the guest's page fault");
	guest_call(g, guest_copies_from_a_device, to);
	for (u64 i = 0; i < 512; i++)
		table[i] = (to + i * PAGE) | 7;
	pd[1] = (GPA + 8 * PAGE) | 7;
	guest_run_to(g, KVM_EXIT_MMIO);
	g->run->mmio.data[0] = 0x5a;
	ASSERT_EQ(mprotect(table, PAGE, PROT_NONE), 0);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_RUN, 0)), -EFAULT);
	ASSERT_EQ(mprotect(table, PAGE, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(guest_finish(g), 0);
	EXPECT_EQ(self->memory[HUGE], 0x5a);
}

/* A log that could not be handed over is not lost. */
TEST_F(mmu, dirty_log_to_nowhere)
{
	struct guest *g = &self->g;
	u64 bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1 };

	if (!device_is_minikvm())
		SKIP(return, "stock KVM forgets what it could not copy");
	ASSERT_EQ(guest_slot(g, 1, GPA, self->memory, BYTES, KVM_MEM_LOG_DIRTY_PAGES), 0);
	for (u64 page = 0; page < PAGES; page += 100)
		poke(g, page, page);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), -EFAULT);
	log.dirty_bitmap = bits;
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), 0);
		for (u64 page = 0; page < PAGES; page++) {
			ASSERT_EQ(!!(bits[page / 64] & BIT(page % 64)), !i && page % 100 == 0);
		}
	}
	/* What it told is watched again. */
	poke(g, 100, 1);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log)), 0);
	EXPECT_EQ(bits[100 / 64], BIT(100 % 64));
}

/* Copy on write after fork: parent's guest and child part ways. */
TEST_F(mmu, copy_on_write_after_fork)
{
	struct guest *g = &self->g;
	int to_child[2], status;
	pid_t child;
	char byte;

	for (u64 page = 0; page < 16; page++)
		poke(g, page, 40 + page);
	ASSERT_EQ(pipe(to_child), 0);
	child = fork();
	if (!child) {
		bool same = read(to_child[0], &byte, 1) == 1;

		for (u64 page = 0; page < 16; page++)
			same &= *word(self->memory, page) == 40 + page;
		_exit(!same);
	}
	for (u64 page = 0; page < 16; page++) {
		poke(g, page, 80 + page);
		EXPECT_EQ(*word(self->memory, page), 80 + page);
	}
	ASSERT_EQ(write(to_child[1], "", 1), 1);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
}

/* Where there is no swap, file pages still go out and come back. */
TEST_F(mmu, paged_out)
{
	struct guest *g = &self->g;
	FILE *file = tmpfile();
	u8 *memory;

	ASSERT_NE(file, NULL);
	ASSERT_EQ(ftruncate(fileno(file), BYTES), 0);
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		      fileno(file), 0);
	ASSERT_NE(memory, MAP_FAILED);
	ASSERT_EQ(guest_slot(g, 1, GPA, NULL, 0, 0), 0);
	ASSERT_EQ(guest_slot(g, 1, GPA, memory, BYTES, 0), 0);
	for (u64 round = 0; round < 4; round++) {
		for (u64 page = 0; page < 64; page++)
			poke(g, page, round * 1000 + page);
		/* Either may be refused; the contents stay either way. */
		madvise(memory, BYTES, MADV_PAGEOUT);
		madvise(memory, BYTES, MADV_DONTNEED);
		for (u64 page = 0; page < 64; page++) {
			ASSERT_EQ(peek(g, page), round * 1000 + page);
			ASSERT_EQ(*word(memory, page), round * 1000 + page);
		}
	}
	/* Beyond the file's end there is nothing any more. */
	ASSERT_EQ(ftruncate(fileno(file), PAGE), 0);
	EXPECT_EQ(peek(g, 0), 3000);
	EXPECT_EQ(access_errno(g, 9, false), -EFAULT);
	munmap(memory, BYTES);
	fclose(file);
}

TEST_F(mmu, anonymous_memory_paged_out)
{
	struct guest *g = &self->g;

	for (u64 page = 0; page < 64; page++)
		poke(g, page, 9000 + page);
	for (u64 round = 0; round < 3; round++) {
		madvise(self->memory, BYTES, MADV_PAGEOUT);
		for (u64 page = 0; page < 64; page++) {
			ASSERT_EQ(peek(g, page), 9000 + page);
		}
	}
}

/* Read-only memory of the host behind a slot that is not. */
TEST_F(mmu, file_mapping_read_only)
{
	struct guest *g = &self->g;
	int fd = open("/proc/self/exe", O_RDONLY);
	u8 *memory = mmap(NULL, 16 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);

	ASSERT_NE(memory, MAP_FAILED);
	ASSERT_EQ(guest_slot(g, 2, 0x50000000, memory, 16 * PAGE,
			     KVM_MEM_READONLY), 0);
	for (u64 page = 0; page < 16; page++) {
		u64 value;

		ASSERT_TRUE(agent_read(g, 0x50000000 + page * PAGE, &value));
		ASSERT_EQ(value, *word(memory, page));
	}
	ASSERT_FALSE(agent_write(g, 0x50000000, 1));
	close(fd);
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		errno = 0;	/* not everybody may; nothing moves then */
	close(fd);
}

static bool soft_dirty(void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	u64 entry = 0;

	if (pread(fd, &entry, 8, (uintptr_t)address / PAGE * 8) != 8)
		die("/proc/self/pagemap: %s", strerror(errno));
	close(fd);
	return entry & BIT(55);
}

/* The guest's writes are the process's: its page table says so. */
/* A device's memory, mapped by its driver, has no struct page (VM_PFNMAP). */
static void like_the_programs(struct __test_metadata *_metadata, struct guest *g, off_t at,
			      bool write)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	volatile u64 *device = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
	u64 value;

	if (fd < 0 || device == MAP_FAILED)
		SKIP(return, "no /dev/mem that can be mapped there");
	ASSERT_EQ(guest_slot(g, 2, GPA + 2 * BYTES, (void *)device, 8 * PAGE, 0), 0);
	for (u64 page = 0; page < 8; page++) {
		if (write)
			ASSERT_TRUE(agent_write(g, GPA + 2 * BYTES + page * PAGE, page + 77));
		ASSERT_TRUE(agent_read(g, GPA + 2 * BYTES + page * PAGE, &value));
		EXPECT_EQ(value, device[page * PAGE / 8]);
	}
	/* It goes, and the guest with it; but not what it was mapped from. */
	munmap((void *)device, 8 * PAGE);
	agent_start(g);
	*guest_var(g, agent_command.gpa) = GPA + 2 * BYTES;
	*guest_var(g, agent_command.write) = false;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_RUN, 0)), -EFAULT);
	close(fd);
}

TEST_F(mmu, firmware_of_the_host)
{
	like_the_programs(_metadata, &self->g, 0xffff0000, false);
}

TEST_F(mmu, video_memory_of_the_host)
{
	like_the_programs(_metadata, &self->g, 0xb8000, true);
}

TEST_F(mmu, guest_writes_make_pages_dirty)
{
	struct guest *g = &self->g;

	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	for (u64 page = 0; page < 16; page++)
		poke(g, page, 1);
	write_to("/proc/self/clear_refs", "4");
	*word(self->memory, 8) = 1;
	if (soft_dirty(self->memory) || !soft_dirty(self->memory + 8 * PAGE))
		SKIP(return, "this kernel keeps no soft-dirty bits");
	EXPECT_EQ(peek(g, 1), 1);
	EXPECT_FALSE(soft_dirty(self->memory + PAGE));
	poke(g, 2, 2);
	EXPECT_TRUE(soft_dirty(self->memory + 2 * PAGE));
}

TEST_F(mmu, mapping_moved_away)
{
	struct guest *g = &self->g;
	u8 *away = mmap(NULL, HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	ASSERT_NE(away, MAP_FAILED);
	poke(g, 4, 44);
	ASSERT_EQ(mremap(self->memory, HUGE, HUGE,
			 MREMAP_MAYMOVE | MREMAP_FIXED, away), away);
	EXPECT_EQ(*word(away, 4), 44);
	EXPECT_EQ(access_errno(g, 4, false), -EFAULT);
	ASSERT_EQ(mremap(away, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 self->memory), self->memory);
	agent_finish(g);
	EXPECT_EQ(peek(g, 4), 44);
}

/* Pages that are the same become one, until somebody writes to his. */
TEST_F(mmu, merged_pages)
{
	struct guest *g = &self->g;
	FILE *file;
	long sharing = 0;

	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	for (u64 page = 0; page < 64; page++)
		poke(g, page, 0x5a5a);
	if (madvise(self->memory, 64 * PAGE, MADV_MERGEABLE))
		SKIP(return, "this kernel merges no pages");
	write_to("/sys/kernel/mm/ksm/pages_to_scan", "10000");
	write_to("/sys/kernel/mm/ksm/sleep_millisecs", "0");
	write_to("/sys/kernel/mm/ksm/run", "1");
	for (int i = 0; i < 1000 && sharing < 32; i++) {
		urgent_pause();
		file = fopen("/sys/kernel/mm/ksm/pages_sharing", "r");
		if (!file || fscanf(file, "%ld", &sharing) != 1)
			sharing = -1;
		if (file)
			fclose(file);
	}
	for (u64 page = 0; page < 64; page++) {
		ASSERT_EQ(peek(g, page), 0x5a5a);
		poke(g, page, page);
		ASSERT_EQ(*word(self->memory, page), page);
	}
	for (u64 page = 0; page < 64; page++) {
		ASSERT_EQ(peek(g, page), page);
	}
	write_to("/sys/kernel/mm/ksm/run", "0");
	if (sharing < 32)
		SKIP(return, "no pages were merged");
}

/* Memory that another thread provides when it is asked for: postcopy. */

static void *provide_pages(void *arg)
{
	static u8 page[PAGE] __attribute__((aligned(PAGE)));
	struct uffd_msg message;
	int fd = *(int *)arg;

	while (read(fd, &message, sizeof(message)) == sizeof(message)) {
		struct uffdio_copy copy = {
			.dst = message.arg.pagefault.address & -PAGE,
			.src = (uintptr_t)page, .len = PAGE,
		};

		*(u64 *)page = copy.dst;
		ioctl(fd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

TEST_F(mmu, userfaultfd)
{
	struct guest *g = &self->g;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)self->memory, .len = BYTES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	pthread_t thread;

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(ioctl(fd, UFFDIO_API, &api), 0);
	ASSERT_EQ(ioctl(fd, UFFDIO_REGISTER, &range), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, provide_pages, &fd), 0);
	for (u64 page = 0; page + 1 < PAGES; page += 31) {
		ASSERT_EQ(peek(g, page),
			  (uintptr_t)self->memory + page * PAGE);
		poke(g, page + 1, page);
		ASSERT_EQ(*word(self->memory, page + 1), page);
	}
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	close(fd);
}

/* Threads: the guest hammers while the program pulls the memory away. */

static volatile bool stop_hammering;
static volatile bool lossless;

static u32 guest_hammers(u64 pages)
{
	volatile u64 *memory = (volatile u64 *)GPA;
	u64 round = 0;

	sti();			/* as in signals.c */
	while (!stop_hammering) {
		round++;
		for (u64 page = 0; page < pages; page++) {
			volatile u64 *at = memory + page * (PAGE / 8);
			u64 seen = *at;

			/* What this guest wrote, or else zero. */
			if (lossless || seen)
				guest_equal(seen, round - 1);
			*at = round;
		}
	}
	return round;
}

struct puller {
	struct guest *g;
	u8 *memory;
	void (*pull)(struct puller *puller, u32 round);
	u32 rounds;
	bool lossless;		/* the memory keeps its contents */
	bool failed;
};

static void *pull_away(void *arg)
{
	struct puller *puller = arg;

	for (u32 round = 0; round < puller->rounds; round++) {
		puller->pull(puller, round);
		urgent_pause();
	}
	*guest_var(puller->g, stop_hammering) = true;
	return NULL;
}

static void pull_dontneed(struct puller *puller, u32 round)
{
	madvise(puller->memory + round % 7 * PAGE, 57 * PAGE, MADV_DONTNEED);
}

static void pull_mapping(struct puller *puller, u32 round)
{
	mmap(puller->memory, 64 * PAGE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void pull_huge(struct puller *puller, u32 round)
{
	madvise(puller->memory, HUGE, MADV_DONTNEED);
	madvise(puller->memory, HUGE,
		round & 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	puller->memory[HUGE - 1] = 1;
}

static void hammer(struct __test_metadata *_metadata, struct guest *g,
		   struct puller puller)
{
	pthread_t thread;
	u32 last;

	lossless = puller.lossless;
	guest_call(g, guest_hammers, 64);
	thread = urgent_thread(pull_away, &puller);
	last = guest_finish(g);
	pthread_join(thread, NULL);
	EXPECT_FALSE(puller.failed);
	/* And both still look at the same memory. */
	for (u64 page = 0; puller.lossless && page < 64; page++) {
		ASSERT_EQ(*word(puller.memory, page), last);
	}
	agent_start(g);
	check_all(_metadata, g, puller.memory, 9000);
}

TEST_F(mmu, dontneed_under_a_running_guest)
{
	hammer(_metadata, &self->g, (struct puller){
		.g = &self->g, .memory = self->memory,
		.pull = pull_dontneed, .rounds = 100 });
}

TEST_F(mmu, mapping_replaced_under_a_running_guest)
{
	hammer(_metadata, &self->g, (struct puller){
		.g = &self->g, .memory = self->memory,
		.pull = pull_mapping, .rounds = 100 });
}

TEST_F(mmu, huge_pages_come_and_go_under_a_running_guest)
{
	hammer(_metadata, &self->g, (struct puller){
		.g = &self->g, .memory = self->memory,
		.pull = pull_huge, .rounds = 50 });
}

/* What only moves pages around: the guest must not lose a single write. */

static void pull_collapse(struct puller *puller, u32 round)
{
	madvise(puller->memory, HUGE, MADV_HUGEPAGE);
	madvise(puller->memory, HUGE, MADV_COLLAPSE);
	/* Beyond what the guest uses: splits the page that holds it. */
	madvise(puller->memory + 100 * PAGE, PAGE, MADV_DONTNEED);
}

static void pull_fork(struct puller *puller, u32 round)
{
	u64 before[64];
	int status;
	pid_t child = fork();

	if (!child) {
		bool same = true;

		/* Its copy stands still, whatever the guest goes on to write. */
		for (u64 page = 0; page < 64; page++)
			before[page] = *word(puller->memory, page);
		urgent_pause();
		for (u64 page = 0; page < 64; page++)
			same &= *word(puller->memory, page) == before[page];
		_exit(!same);
	}
	puller->failed |= waitpid(child, &status, 0) != child || status;
}

static void pull_compaction(struct puller *puller, u32 round)
{
	write_to("/proc/sys/vm/compact_memory", "1");
}

static void pull_soft_dirty(struct puller *puller, u32 round)
{
	write_to("/proc/self/clear_refs", round & 1 ? "4" : "1");
}

#define LOSSLESS_TEST(name, function, count)				\
	TEST_F(mmu, name)						\
	{								\
		hammer(_metadata, &self->g, (struct puller){		\
			.g = &self->g, .memory = self->memory,		\
			.pull = function, .rounds = count,		\
			.lossless = true });				\
	}

LOSSLESS_TEST(collapse_and_split_under_a_running_guest, pull_collapse, 50)
LOSSLESS_TEST(fork_under_a_running_guest, pull_fork, 50)
LOSSLESS_TEST(compaction_under_a_running_guest, pull_compaction, 10)
LOSSLESS_TEST(clear_refs_under_a_running_guest, pull_soft_dirty, 50)

static void pull_other_slot(struct puller *puller, u32 round)
{
	if (round & 1)
		guest_slot(puller->g, 2, 0x50000000, NULL, 0, 0);
	else
		guest_slot(puller->g, 2, 0x50000000, puller->memory, BYTES, 0);
}

TEST_F(mmu, other_slots_come_and_go_under_a_running_guest)
{
	hammer(_metadata, &self->g, (struct puller){
		.g = &self->g, .memory = self->memory,
		.pull = pull_other_slot, .rounds = 50 });
}

/* The very slot: an access is either memory's or an MMIO exit. */

static volatile u64 hammered;

static u32 guest_hammers_a_slot(u64 unused)
{
	volatile u64 *memory = (volatile u64 *)GPA;

	sti();			/* as in signals.c */
	while (!stop_hammering) {
		memory[hammered % 64 * (PAGE / 8)] = 7;
		hammered++;
	}
	return 0;
}

static void pull_slot(struct puller *puller, u32 round)
{
	switch (round % 3) {
	case 0:
		guest_slot(puller->g, 1, GPA + BYTES, puller->memory, BYTES, 0);
		break;
	case 1:
		guest_slot(puller->g, 1, GPA, NULL, 0, 0);
		break;
	case 2:
		guest_slot(puller->g, 1, GPA, puller->memory, BYTES, 0);
		break;
	}
}

TEST_F(mmu, slot_deleted_and_moved_under_a_running_guest)
{
	struct guest *g = &self->g;
	struct puller puller = {
		.g = g, .memory = self->memory, .pull = pull_slot,
		.rounds = 90,
	};
	pthread_t thread;
	u64 exits = 0;

	guest_call(g, guest_hammers_a_slot, 0);
	thread = urgent_thread(pull_away, &puller);
	while (guest_run(g) == KVM_EXIT_MMIO) {
		exits++;
		ASSERT_EQ(g->run->mmio.len, 8);
		ASSERT_GE(g->run->mmio.phys_addr, GPA);
		ASSERT_LT(g->run->mmio.phys_addr, GPA + 64 * PAGE);
	}
	ASSERT_EQ(g->run->exit_reason, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, PORT_DONE);
	pthread_join(thread, NULL);
	EXPECT_GE(*guest_var(g, hammered), exits);
}

SELFTEST_MAIN
