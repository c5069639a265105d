// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory under all that a host does to memory, while the guest runs:
 * swap, limits, huge pages that come and go, merged pages, userfaultfd,
 * protection, moves, holes, forks, one by one and all at once; a migration
 * that races with the guest; and VMMs that are killed in the middle of it.
 *
 * The guest keeps a model of its memory where nothing is disturbed, and holds
 * each page against it before each write; the host does the same at the end.
 * mmu.c has the simple cases.
 *
 * MINIKVM_THOROUGH=1 goes on ten times as long; MINIKVM_SEED=N repeats a run.
 */
#include <kselftest_harness.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include "cpus.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define GPA	0x40000000ul
#define BYTES	(2 * HUGE)
#define PAGES	(BYTES / PAGE)
#define LAST	(PAGE / 8 - 1)		/* word of a page */
#define VCPUS	4

/* --- The guest --- */

static volatile bool stop;
static volatile bool lossy;		/* a page may be found empty */
static volatile u32 writes;
static volatile u64 model[PAGES];	/* what was written to each page last */

static bool as_written(u64 seen, u64 wanted)
{
	return seen == wanted || (lossy && !seen);
}

/* Every @step'th page from @first on is this vCPU's. */
static u32 write_pages(u64 seed, u64 first, u64 step)
{
	u64 x = seed;

	sti();			/* as in signals.c */
	for (; !stop; writes++) {
		u64 page = (x >> 33) % (PAGES / step) * step + first;
		volatile u64 *word = (volatile u64 *)(GPA + page * PAGE);
		u64 head = word[0], last = word[LAST];

		if (!as_written(head, model[page]))
			guest_equal(head, model[page]);
		if (!as_written(last, model[page]))
			guest_equal(last, model[page]);
		/* Few values, so that pages can be alike. */
		model[page] = 1 + writes / PAGES % 7;
		word[0] = model[page];
		word[LAST] = model[page];
		x = x * 6364136223846793005ull + 1442695040888963407ull;
	}
	return writes;
}

static u32 guest_writes(u64 seed)
{
	return write_pages(seed, 0, 1);
}

static u32 guest_writes_its_own(u64 self)
{
	return write_pages(self + 1, self, VCPUS);
}

/* --- The host --- */

static unsigned int seed;

static bool thorough(void)
{
	return getenv("MINIKVM_THOROUGH") != NULL;
}

FIXTURE(torture) {
	struct guest g;
	u8 *area;		/* what was mapped */
	u8 *memory;		/* aligned to 2 MiB, at GPA, slot 1 */
};

FIXTURE_SETUP(torture)
{
	seed = getenv("MINIKVM_SEED") ? atoi(getenv("MINIKVM_SEED")) : time(NULL) & 0xffff;
	TH_LOG("MINIKVM_SEED=%u", seed);
	srandom(seed);
	guest_create(&self->g, 0);
	self->area = mmap(NULL, BYTES + HUGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->area, MAP_FAILED);
	self->memory = (u8 *)(((uintptr_t)self->area + HUGE - 1) & -HUGE);
	ASSERT_EQ(guest_slot(&self->g, 1, GPA, self->memory, BYTES, 0), 0);
}

FIXTURE_TEARDOWN(torture)
{
	guest_destroy(&self->g);
	munmap(self->area, BYTES + HUGE);
}

static u64 *word(u8 *memory, u64 page)
{
	return (u64 *)(memory + page * PAGE);
}

static bool write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

static long read_from(const char *path, const char *field)
{
	char line[128];
	long value = -1;
	FILE *file = fopen(path, "r");

	while (file && value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)))
			value = atol(line + strlen(field));
	if (file)
		fclose(file);
	return value;
}

/* What happens to the memory, again and again, while the guest runs. */
struct disturbance {
	struct guest *g;
	u8 *memory;
	void (*disturb)(struct disturbance *d, u32 round);
	u32 rounds;
	bool lossy;
	int fd;			/* memfd or userfaultfd, where it needs one */
	u8 *copy;		/* where the memory is copied to */
	bool failed;
};

/* The guest has to get somewhere in between; but it may be stuck where it is. */
static void let_it_write(struct guest *g)
{
	volatile u32 *now = guest_var(g, writes);
	u32 before = *now;

	for (int i = 0; i < 20 && *now - before < 50; i++)
		urgent_pause();
}

static void *disturber(void *arg)
{
	struct disturbance *d = arg;
	u32 rounds = d->rounds * (thorough() ? 10 : 1);

	for (u32 round = 0; round < rounds; round++) {
		d->disturb(d, round);
		let_it_write(d->g);
	}
	*guest_var(d->g, stop) = true;
	return NULL;
}

/* Up to 64 pages, anywhere. */
static u8 *some_pages(struct disturbance *d, size_t *bytes)
{
	u64 first = random() % PAGES, count = 1 + random() % 64;

	*bytes = (first + count < PAGES ? count : PAGES - first) * PAGE;
	return d->memory + first * PAGE;
}

/*
 * Run the guest to its end. Where the memory is out of reach for a moment
 * KVM_RUN says so, and the guest has not moved.
 */
static u32 run_to_the_end(struct guest *g, u32 *refusals)
{
	u32 value;

	*refusals = 0;
	while (ioctl(g->vcpu, KVM_RUN, 0)) {
		if (errno != EFAULT && errno != EINTR)
			die("KVM_RUN: %s", strerror(errno));
		++*refusals;
		urgent_pause();
	}
	if (guest_port(g, &value) != PORT_DONE)
		die_of_exit(g, "the end");
	return value;
}

static void check_memory(struct __test_metadata *_metadata, struct guest *g, u8 *memory)
{
	lossy = *guest_var(g, lossy);
	for (u64 page = 0; page < PAGES; page++) {
		u64 wanted = guest_var(g, model)[0][page];

		ASSERT_TRUE(as_written(word(memory, page)[0], wanted) &&
			    as_written(word(memory, page)[LAST], wanted))
			TH_LOG("page %llu has %llu and %llu, not %llu", page,
			       word(memory, page)[0], word(memory, page)[LAST], wanted);
	}
}

static void torture(struct __test_metadata *_metadata, struct disturbance *d)
{
	pthread_t thread;
	u32 rounds, refusals;

	lossy = d->lossy;
	guest_call(d->g, guest_writes, random());
	thread = urgent_thread(disturber, d);
	rounds = run_to_the_end(d->g, &refusals);
	pthread_join(thread, NULL);
	TH_LOG("%u disturbances, %u writes of the guest, %u runs refused",
	       d->rounds * (thorough() ? 10 : 1), rounds, refusals);
	EXPECT_FALSE(d->failed);
	check_memory(_metadata, d->g, d->memory);
	/* The other way round: what the host writes is what the guest reads. */
	for (u64 page = 0; page < PAGES; page++) {
		guest_var(d->g, model)[0][page] = page;
		word(d->memory, page)[0] = word(d->memory, page)[LAST] = page;
	}
	*guest_var(d->g, stop) = false;
	agent_start(d->g);
	for (u64 page = 0; page < PAGES; page += 3) {
		u64 value;

		ASSERT_TRUE(agent_read(d->g, GPA + page * PAGE, &value));
		ASSERT_EQ(value, page);
	}
}

#define TORTURE(name, function, count)						\
	TEST_F_TIMEOUT(torture, name, 600)					\
	{									\
		torture(_metadata, &(struct disturbance){ .g = &self->g,	\
			.memory = self->memory, .disturb = function, .rounds = count }); \
	}

/* Memory of another kind in place of the fixture's. */
static void replace_memory(struct __test_metadata *_metadata, struct guest *g, u8 *memory)
{
	ASSERT_NE(memory, MAP_FAILED);
	ASSERT_EQ(guest_slot(g, 1, GPA, NULL, 0, 0), 0);
	ASSERT_EQ(guest_slot(g, 1, GPA, memory, BYTES, 0), 0);
}

/* --- Swap --- */

#define SWAP_BYTES	(64ul << 20)

/* A disk in memory: compressed (zram) or plain, whichever this kernel has. */
static const char *swap_device(void)
{
	if (!access("/dev/zram0", F_OK) || !system("load zram >/dev/null 2>&1")) {
		char size[32];

		write_to("/sys/block/zram0/reset", "1");
		snprintf(size, sizeof(size), "%lu", SWAP_BYTES);
		if (write_to("/sys/block/zram0/disksize", size))
			return "/dev/zram0";
	}
	if (!access("/dev/ram0", F_OK) || !system("load brd rd_size=65536 >/dev/null 2>&1"))
		return "/dev/ram0";
	return NULL;
}

/* Pages that have gone to swap; where the kernel does not count them, that are there. */
static long pages_out(void)
{
	long out = read_from("/proc/vmstat", "pswpout ");

	if (out >= 0)
		return out;
	return (read_from("/proc/meminfo", "SwapTotal:") -
		read_from("/proc/meminfo", "SwapFree:")) * 1024 / (long)PAGE;
}

static const char *swap_on(void)
{
	const char *device = swap_device();
	char command[64];

	if (!device)
		return NULL;
	snprintf(command, sizeof(command), "mkswap %s >/dev/null 2>&1", device);
	if (system(command) || swapon(device, 0))
		return NULL;
	return device;
}

static void swap_out(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	if (round % 16 == 0)
		madvise(d->memory, BYTES, MADV_PAGEOUT);
	else
		madvise(at, bytes, round & 1 ? MADV_PAGEOUT : MADV_WILLNEED);
}

TEST_F_TIMEOUT(torture, swapped_out, 600)
{
	struct disturbance d = { .g = &self->g, .memory = self->memory,
				 .disturb = swap_out, .rounds = 200 };
	const char *device = swap_on();
	long before, swapped;

	if (!device)
		SKIP(return, "there is nothing to swap to");
	before = pages_out();
	torture(_metadata, &d);
	swapped = pages_out() - before;
	TH_LOG("%ld pages went out to %s", swapped, device);
	EXPECT_GT(swapped, 0);
	EXPECT_EQ(swapoff(device), 0);
}

#define CGROUP	"/tmp/torture.cgroup"

/*
 * Three quarters of what is in use: the rest has to go, and comes back. Not by
 * memory.max: a guest that writes as fast as its pages leave makes the kernel
 * kill it for lack of progress.
 */
static void squeeze(struct disturbance *d, u32 round)
{
	long used = read_from(CGROUP "/vmm/memory.current", "");
	char limit[32];

	if ((round & 1) || used < (long)HUGE) {
		write_to(CGROUP "/vmm/memory.high", "max");
		return;
	}
	snprintf(limit, sizeof(limit), "%ld", used / 4 * 3);
	write_to(CGROUP "/vmm/memory.high", limit);
}

TEST_F_TIMEOUT(torture, little_memory_allowed, 600)
{
	struct disturbance d = { .g = &self->g, .memory = self->memory,
				 .disturb = squeeze, .rounds = 100 };
	const char *device;
	long before;

	mkdir(CGROUP, 0755);
	if (mount("none", CGROUP, "cgroup2", 0, NULL))
		SKIP(return, "no cgroups");
	write_to(CGROUP "/cgroup.subtree_control", "+memory");
	mkdir(CGROUP "/vmm", 0755);
	device = swap_on();
	if (!device || !write_to(CGROUP "/vmm/memory.high", "max")) {
		if (device)
			swapoff(device);
		umount(CGROUP);
		SKIP(return, "no limits, or nothing to swap to");
	}
	before = pages_out();
	ASSERT_TRUE(write_to(CGROUP "/vmm/cgroup.procs", "0"));
	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	/* All there, so that there is something to squeeze before the guest has got far. */
	EXPECT_EQ(madvise(self->memory, BYTES, MADV_POPULATE_WRITE), 0);
	torture(_metadata, &d);
	TH_LOG("%ld pages went out", pages_out() - before);
	/* Not every kernel counts; without, what went out may all be back. */
	if (read_from("/proc/vmstat", "pswpout ") >= 0)
		EXPECT_GT(pages_out() - before, 0);
	EXPECT_EQ(read_from(CGROUP "/vmm/memory.events", "oom_kill "), 0);
	write_to(CGROUP "/cgroup.procs", "0");
	EXPECT_EQ(swapoff(device), 0);
	rmdir(CGROUP "/vmm");
	umount(CGROUP);
}

/* --- Huge pages and merged ones --- */

/* By khugepaged, by our own call, by the debugging file, and by cutting holes. */
static void make_and_split_huge(struct disturbance *d, u32 round)
{
	char command[96];
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	switch (random() % 5) {
	case 0:
		madvise(d->memory, BYTES, MADV_HUGEPAGE);
		madvise(d->memory, BYTES, MADV_COLLAPSE);
		break;
	case 1:
		snprintf(command, sizeof(command), "%d,%p,%p", getpid(), d->memory,
			 d->memory + BYTES);
		write_to("/sys/kernel/debug/split_huge_pages", command);
		break;
	case 2:
		madvise(d->memory, BYTES, MADV_NOHUGEPAGE);
		break;
	case 3:	/* splits the mapping, not the page */
		mprotect(at, bytes, PROT_READ | PROT_WRITE | PROT_EXEC);
		break;
	case 4:
		mprotect(d->memory, BYTES, PROT_READ | PROT_WRITE);
		break;
	}
}

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

TEST_F_TIMEOUT(torture, huge_pages_made_and_split, 600)
{
	struct disturbance d = { .g = &self->g, .memory = self->memory,
				 .disturb = make_and_split_huge, .rounds = 200 };

	write_to(KHUGEPAGED "scan_sleep_millisecs", "0");
	write_to(KHUGEPAGED "alloc_sleep_millisecs", "0");
	torture(_metadata, &d);
	TH_LOG("collapsed: %ld, split: %ld", read_from("/proc/vmstat", "thp_collapse_alloc "),
	       read_from("/proc/vmstat", "thp_split_page "));
	write_to(KHUGEPAGED "scan_sleep_millisecs", "10000");
	write_to(KHUGEPAGED "alloc_sleep_millisecs", "60000");
}

static void merge(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	if (round % 32 == 0)
		madvise(d->memory, BYTES, MADV_MERGEABLE);
	else if (round % 8 == 0)
		madvise(at, bytes, MADV_UNMERGEABLE);
}

#define KSM "/sys/kernel/mm/ksm/"

TEST_F_TIMEOUT(torture, merged, 600)
{
	struct disturbance d = { .g = &self->g, .memory = self->memory,
				 .disturb = merge, .rounds = 300 };

	if (access(KSM "run", F_OK))
		SKIP(return, "this kernel merges no pages");
	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	write_to(KSM "pages_to_scan", "2000");
	write_to(KSM "sleep_millisecs", "0");
	write_to(KSM "run", "1");
	torture(_metadata, &d);
	write_to(KSM "run", "2");	/* and take all apart */
	write_to(KSM "run", "0");
}

/* --- Protection, moves, holes --- */

static void protect(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	mprotect(at, bytes, round & 1 ? PROT_READ : PROT_NONE);
	urgent_pause();
	mprotect(at, bytes, PROT_READ | PROT_WRITE);
}

TORTURE(protected, protect, 150)

static void move(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes), *away;

	away = mremap(at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, d->memory + BYTES);
	urgent_pause();
	d->failed |= away == MAP_FAILED ||
		     mremap(away, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at;
}

/* Twice the size: what is moved away goes behind it. */
TEST_F_TIMEOUT(torture, moved_away_and_back, 600)
{
	u8 *memory = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	replace_memory(_metadata, &self->g, memory);
	torture(_metadata, &(struct disturbance){ .g = &self->g, .memory = memory,
		.disturb = move, .rounds = 150 });
	guest_slot(&self->g, 1, GPA, NULL, 0, 0);
	munmap(memory, 2 * BYTES);
}

static void punch(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	switch (round % 4) {
	case 0:
		d->failed |= madvise(at, bytes, MADV_REMOVE) != 0;
		break;
	case 1:
		d->failed |= fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       at - d->memory, bytes) != 0;
		break;
	case 2:	/* the pages stay in the file */
		madvise(at, bytes, MADV_DONTNEED);
		break;
	case 3:	/* the end of the file comes and goes */
		d->failed |= ftruncate(d->fd, at - d->memory) || ftruncate(d->fd, BYTES);
		break;
	}
}

static u8 *shared_memory(int *fd)
{
	*fd = memfd_create("guest", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, BYTES))
		die("memfd: %s", strerror(errno));
	return mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
}

TEST_F_TIMEOUT(torture, holes_in_a_file, 600)
{
	struct disturbance d = { .g = &self->g, .disturb = punch, .rounds = 200, .lossy = true };

	d.memory = shared_memory(&d.fd);
	replace_memory(_metadata, &self->g, d.memory);
	torture(_metadata, &d);
	guest_slot(&self->g, 1, GPA, NULL, 0, 0);
	munmap(d.memory, BYTES);
	close(d.fd);
}

static void unmap(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	munmap(at, bytes);
	urgent_pause();
	d->failed |= mmap(at, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at;
}

TEST_F_TIMEOUT(torture, unmapped_for_a_while, 600)
{
	torture(_metadata, &(struct disturbance){ .g = &self->g, .memory = self->memory,
		.disturb = unmap, .rounds = 150, .lossy = true });
}

/* --- userfaultfd --- */

static int userfaultfd(u8 *memory, u64 mode)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = mode & UFFDIO_REGISTER_MODE_WP ? UFFD_FEATURE_PAGEFAULT_FLAG_WP : 0,
	};
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)memory, .len = BYTES },
		.mode = mode,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range))
		return -1;
	return fd;
}

static volatile u32 answers;

/* Each fault is answered in time, which may be late. */
static void *answer(void *arg)
{
	int fd = *(int *)arg;
	struct uffd_msg message;

	while (read(fd, &message, sizeof(message)) == sizeof(message)) {
		u64 page = message.arg.pagefault.address & -PAGE;
		struct uffdio_zeropage zero = { .range = { page, PAGE } };
		struct uffdio_writeprotect release = { .range = { page, PAGE } };

		if (answers++ % 4 == 0)
			urgent_pause();
		if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			ioctl(fd, UFFDIO_WRITEPROTECT, &release);
		else
			ioctl(fd, UFFDIO_ZEROPAGE, &zero);
	}
	return NULL;
}

static void write_protect(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)at, bytes },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	d->failed |= ioctl(d->fd, UFFDIO_WRITEPROTECT, &protect) && errno != EAGAIN;
}

static void forget(struct disturbance *d, u32 round)
{
	size_t bytes;
	u8 *at = some_pages(d, &bytes);

	madvise(at, bytes, MADV_DONTNEED);
}

static void with_userfaultfd(struct __test_metadata *_metadata, struct guest *g, u8 *memory,
			     u64 mode, struct disturbance d)
{
	pthread_t thread;

	d.fd = userfaultfd(memory, mode);
	if (d.fd < 0)
		SKIP(return, "no userfaultfd of this kind");
	d.g = g;
	d.memory = memory;
	answers = 0;
	thread = urgent_thread(answer, &d.fd);
	torture(_metadata, &d);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	TH_LOG("%u faults answered", answers);
	EXPECT_GT(answers, 0);
	close(d.fd);
}

TEST_F_TIMEOUT(torture, write_protected_by_userfaultfd, 600)
{
	memset(self->memory, 0, BYTES);
	with_userfaultfd(_metadata, &self->g, self->memory, UFFDIO_REGISTER_MODE_WP,
			 (struct disturbance){ .disturb = write_protect, .rounds = 200 });
}

TEST_F_TIMEOUT(torture, provided_by_userfaultfd, 600)
{
	with_userfaultfd(_metadata, &self->g, self->memory, UFFDIO_REGISTER_MODE_MISSING,
			 (struct disturbance){ .disturb = forget, .rounds = 100, .lossy = true });
}

/* --- All at once --- */

static void fork_a_child(struct disturbance *d, u32 round)
{
	u64 first = random() % PAGES, before[16];
	struct kvm_regs regs;
	int status;
	pid_t child = fork();

	if (!child) {
		bool good = true;

		/* Its copy stands still, and the descriptors are no use to it. */
		for (u64 i = 0; i < 16; i++)
			before[i] = word(d->memory, (first + i) % PAGES)[0];
		good &= ioctl(d->g->vcpu, KVM_GET_REGS, &regs) && errno == EIO;
		good &= ioctl(d->g->vcpu, KVM_RUN, 0) && errno == EIO;
		good &= guest_slot(d->g, 1, GPA, NULL, 0, 0) == -EIO;
		urgent_pause();
		for (u64 i = 0; i < 16; i++)
			good &= word(d->memory, (first + i) % PAGES)[0] == before[i];
		_exit(!good);
	}
	d->failed |= waitpid(child, &status, 0) != child || status;
}

static void compact(struct disturbance *d, u32 round)
{
	write_to("/proc/sys/vm/compact_memory", "1");
}

static void change_other_slots(struct disturbance *d, u32 round)
{
	guest_slot(d->g, 2, GPA + 2 * BYTES, d->memory, round & 1 ? 0 : BYTES, 0);
}

static void log_dirty(struct disturbance *d, u32 round)
{
	u64 bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

	guest_slot(d->g, 1, GPA, d->memory, BYTES, random() % 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	ioctl(d->g->vm, KVM_GET_DIRTY_LOG, &log);
}

/* Only the first makes KVM_RUN fail. */
static void (*const everything[])(struct disturbance *d, u32 round) = {
	protect, swap_out, make_and_split_huge, merge, fork_a_child, compact,
	change_other_slots, log_dirty,
};

static void disturb_with(struct disturbance *d, u32 first)
{
	u32 which = first + random() % (ARRAY_SIZE(everything) - first);

	/* Compaction is of the whole machine. */
	if (everything[which] != compact || random() % 16 == 0)
		everything[which](d, random());
}

static void disturb_all(struct disturbance *d, u32 round)
{
	disturb_with(d, 0);
}

static void disturb_unseen(struct disturbance *d, u32 round)
{
	disturb_with(d, 1);
}

TORTURE(all_at_once, disturb_all, 400)

/* Each has its own pages, but they share all tables, down to the cache line. */
TEST_F_TIMEOUT(torture, several_vcpus, 600)
{
	static struct cpus s;
	struct disturbance d = { .g = &s.cpu[0].g, .memory = self->memory,
				 .disturb = disturb_unseen, .rounds = 300 };
	pthread_t thread;

	lossy = false;
	cpus_create(&s, VCPUS, WITH_IRQCHIP);
	ASSERT_EQ(guest_slot(d.g, 1, GPA, d.memory, BYTES, 0), 0);
	cpus_prepare(&s, guest_writes_its_own);
	cpus_start(&s);
	thread = urgent_thread(disturber, &d);
	pthread_join(thread, NULL);
	for (int i = 0; i < VCPUS; i++)
		cpu_join(&s.cpu[i]);
	EXPECT_FALSE(d.failed);
	TH_LOG("%u writes of %d vCPUs", *guest_var(d.g, writes), VCPUS);
	check_memory(_metadata, d.g, d.memory);
	cpus_destroy(&s);
}

/* --- A migration --- */

/*
 * What the log names is copied again, until the guest stands still. Then the
 * copy is the memory: no write was missed.
 */
static void migrate(struct disturbance *d, u32 round)
{
	u64 bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

	if (ioctl(d->g->vm, KVM_GET_DIRTY_LOG, &log))
		d->failed = true;
	for (u64 page = 0; page < PAGES; page++)
		if (bits[page / 64] & BIT(page % 64))
			memcpy(d->copy + page * PAGE, d->memory + page * PAGE, PAGE);
}

static void migration(struct __test_metadata *_metadata, struct guest *g, u8 *memory)
{
	struct disturbance d = { .g = g, .memory = memory, .disturb = migrate, .rounds = 200 };
	u8 *copy = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u32 rounds, refusals;
	pthread_t thread;

	ASSERT_NE(copy, MAP_FAILED);
	d.copy = copy;
	memset(memory, 0, BYTES);
	guest_call(g, guest_writes, random());
	/* Mapped before it is watched. */
	g->run->immediate_exit = 1;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_RUN, 0)), -EINTR);
	g->run->immediate_exit = 0;
	ASSERT_EQ(guest_slot(g, 1, GPA, memory, BYTES, KVM_MEM_LOG_DIRTY_PAGES), 0);
	memcpy(copy, memory, BYTES);
	thread = urgent_thread(disturber, &d);
	rounds = run_to_the_end(g, &refusals);
	pthread_join(thread, NULL);
	migrate(&d, 0);
	EXPECT_FALSE(d.failed);
	TH_LOG("%u writes of the guest while its memory was copied", rounds);
	for (u64 page = 0; page < PAGES; page++) {
		ASSERT_EQ(memcmp(copy + page * PAGE, memory + page * PAGE, PAGE), 0)
			TH_LOG("a write to page %llu was missed", page);
	}
	check_memory(_metadata, g, memory);
	munmap(copy, BYTES);
}

TEST_F_TIMEOUT(torture, migrated, 600)
{
	migration(_metadata, &self->g, self->memory);
}

TEST_F_TIMEOUT(torture, migrated_in_small_pages, 600)
{
	madvise(self->memory, BYTES, MADV_NOHUGEPAGE);
	migration(_metadata, &self->g, self->memory);
}

/* --- Killed --- */

#define KILLS	(thorough() ? 500 : 40)

static const char *const modules[] = { "minikvm", "kvm_amd", "kvm_intel" };

/* Descriptors of VMs and vCPUs that live in the module behind the device. */
static int references(void)
{
	char path[64];
	int sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		if (!access(path, R_OK))
			sum += read_from(path, "");
	}
	return sum;
}

static void vmm(u32 kind)
{
	struct guest g;
	struct disturbance d = { .g = &g, .rounds = ~0u / 16, .disturb = disturb_all };
	u32 refusals;

	guest_create(&g, kind & 1 ? WITH_IRQCHIP | WITH_PIT : 0);
	d.memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guest_slot(&g, 1, GPA, d.memory, BYTES, 0);
	guest_call(&g, guest_writes, kind);
	urgent_thread(disturber, &d);
	run_to_the_end(&g, &refusals);
	_exit(1);
}

/* in al, 0x80; jmp -4 */
static const u8 image[] = { 0xe4, 0x80, 0xeb, 0xfc };

static void launcher(const char *file, const char *device)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	execlp("minikvm", "minikvm", "run", "--device", device, "--mem", "8M", "--flat", file,
	       "--mode", "long", NULL);
	_exit(127);
}

TEST_F_TIMEOUT(torture, killed_at_any_moment, 1200)
{
	const char *device = device_name();
	char file[] = "/tmp/torture.XXXXXX";
	int fd = mkstemp(file), before = references(), kills = 0, alone = 0;

	ASSERT_EQ(write(fd, image, sizeof(image)), (ssize_t)sizeof(image));
	close(fd);
	for (; kills < KILLS; kills++) {
		int turns = random() % 200, status;
		pid_t child = fork();

		ASSERT_GE(child, 0);
		if (!child) {
			setpgid(0, 0);
			if (kills & 1)
				launcher(file, device);
			vmm(kills);
		}
		setpgid(child, child);
		while (turns--)
			sched_yield();
		if (random() % 2)
			for (int i = random() % 20; i; i--)
				urgent_pause();
		/* The children that it forked too. */
		kill(-child, SIGKILL);
		ASSERT_EQ(waitpid(child, &status, 0), child);
		alone += WIFEXITED(status);
	}
	TH_LOG("%d VMMs killed; %d had ended before", kills, alone);
	EXPECT_EQ(alone, 0);
	/* The children of children may be on their way out still. */
	for (int i = 0; i < 1000 && references() != before; i++)
		urgent_pause();
	EXPECT_EQ(references(), before);
	unlink(file);
	agent_start(&self->g);
}

/* A fault that nobody will answer any more holds up nobody who is killed. */
TEST_F_TIMEOUT(torture, killed_while_its_memory_is_awaited, 300)
{
	int count = thorough() ? 100 : 10, before = references();

	for (int i = 0; i < count; i++) {
		int asked[2], status;
		pid_t child;
		char byte;

		ASSERT_EQ(pipe(asked), 0);
		child = fork();
		ASSERT_GE(child, 0);
		if (!child) {
			struct uffd_msg message;
			struct guest g;
			u8 *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			int fd = userfaultfd(memory, UFFDIO_REGISTER_MODE_MISSING);
			pid_t reader = fd < 0 ? -1 : fork();

			if (!reader) {
				byte = read(fd, &message, sizeof(message)) != sizeof(message);
				_exit(write(asked[1], &byte, 1) != 1);
			}
			if (fd < 0) {
				(void)!write(asked[1], "n", 1);
				_exit(0);
			}
			guest_create(&g, 0);
			guest_slot(&g, 1, GPA, memory, BYTES, 0);
			guest_call(&g, guest_writes, i);
			ioctl(g.vcpu, KVM_RUN, 0);
			_exit(1);
		}
		ASSERT_EQ(read(asked[0], &byte, 1), 1);
		if (byte == 'n')
			SKIP(return, "no userfaultfd");
		EXPECT_EQ(byte, 0);
		for (int turns = random() % 5; turns; turns--)
			urgent_pause();
		kill(child, SIGKILL);
		ASSERT_EQ(waitpid(child, &status, 0), child);
		EXPECT_TRUE(WIFSIGNALED(status));
		close(asked[0]);
		close(asked[1]);
	}
	for (int i = 0; i < 1000 && references() != before; i++)
		urgent_pause();
	EXPECT_EQ(references(), before);
}

SELFTEST_MAIN
