// SPDX-License-Identifier: GPL-2.0
/*
 * Life cycle: VMs by the thousand, in any order of closing, and processes that
 * die with theirs.  Afterwards memory and files are back where they were.
 */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <kselftest_harness.h>
#include "guest.h"

#define THREADS		10
#define VMS		100	/* of each thread */
#define KILLED		50
#define SLACK_KIB	1024	/* a quarter of a page for each VM */

static long meminfo(const char *field)
{
	char line[128];
	long value = -1;
	FILE *file = fopen("/proc/meminfo", "r");
	size_t length = strlen(field);

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, length) && line[length] == ':')
			value = atol(line + length + 1);
	if (file)
		fclose(file);
	if (value < 0)
		die("no %s in /proc/meminfo", field);
	return value;
}

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	if (!dir)
		die("/proc/self/fd: %s", strerror(errno));
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* In pages: what is free but kept on the CPUs' own lists, megabytes at times. MemFree leaves it out. */
static long pages_on_cpu_lists(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	char line[128];
	long sum = 0, count;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %ld", &count) == 1)
			sum += count;
	if (file)
		fclose(file);
	return sum;
}

/* In KiB, without what the kernel only keeps because nobody else wants it. */
static long free_memory(void)
{
	FILE *file = fopen("/proc/sys/vm/drop_caches", "w");

	if (file) {
		fputs("3\n", file);
		fclose(file);
	}
	return meminfo("MemFree") + 4 * pages_on_cpu_lists();
}

FIXTURE(life) {
	int files;
};

FIXTURE_SETUP(life)
{
	/* What is counted below is smaller than one of them. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	self->files = open_files();
}

FIXTURE_TEARDOWN(life)
{
	EXPECT_EQ(open_files(), self->files);
}

GUEST_ASM(write_and_stop, 64,
	"	mov $0x600000, %edi\n"
	"	mov $64, %ecx\n"
	"1:	movl $1, (%rdi)\n"
	"	add $4096, %edi\n"
	"	loop 1b\n"
	"	mov $0x510, %edx\n"
	"	outb %al, %dx\n");

/* Every other one runs, and has memory mapped when it goes. */
static void one_life(int i)
{
	struct guest g;

	guest_create(&g, i & 1 ? WITH_IRQCHIP | WITH_PIT : 0);
	if (i % 4 < 2) {
		guest_load(&g, write_and_stop);
		guest_mode(&g, MODE_LONG, GUEST_CODE);
		guest_run_to(&g, KVM_EXIT_IO);
	}
	guest_destroy(&g);
}

static void *many_lives(void *count)
{
	for (int i = 0; i < *(int *)count; i++)
		one_life(i);
	return NULL;
}

/* Most of a life is waiting for grace periods: side by side they overlap. */
static void lives_in_threads(int each)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, many_lives, &each))
			die("pthread_create: %s", strerror(errno));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

TEST_F_TIMEOUT(life, a_thousand_vms, 300)
{
	long before, slack, gone = 0;

	lives_in_threads(5);		/* fills the caches */
	before = free_memory();
	lives_in_threads(VMS);
	/* The last ones' memory comes back after a few grace periods. */
	for (int i = 0; i < 20; i++) {
		gone = before - free_memory();
		if (gone < SLACK_KIB)
			break;
		one_life(i);
		usleep(200000);
	}
	TH_LOG("%ld KiB fewer than before", gone);
	/* KASAN keeps a thirty-second of memory from being used again; there is kmemleak then. */
	slack = access("/sys/kernel/debug/kmemleak", F_OK) ? SLACK_KIB : meminfo("MemTotal") / 32;
	EXPECT_LT(gone, slack);
}

TEST_F(life, many_at_once)
{
	enum { AT_ONCE = 20 };
	struct guest g[AT_ONCE];

	for (int i = 0; i < AT_ONCE; i++) {
		guest_create(&g[i], WITH_IRQCHIP);
		guest_load(&g[i], write_and_stop);
		guest_mode(&g[i], MODE_LONG, GUEST_CODE);
	}
	for (int i = AT_ONCE - 1; i >= 0; i--)
		guest_run_to(&g[i], KVM_EXIT_IO);
	for (int i = 0; i < AT_ONCE; i += 2)
		guest_destroy(&g[i]);
	for (int i = 1; i < AT_ONCE; i += 2)
		guest_destroy(&g[i]);
}

static u32 guest_spins(u64 rounds)
{
	sti();			/* as in signals.c */
	while (rounds--)
		asm volatile("pause");
	return 0;
}

static void child_with_guest(int ready)
{
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	guest_call(&g, guest_spins, ~0ull);
	if (write(ready, "", 1) != 1)
		_exit(1);
	ioctl(g.vcpu, KVM_RUN, 0);
	_exit(0);
}

TEST_F_TIMEOUT(life, killed_while_running, 120)
{
	long before = 0;

	for (int i = 0; i < KILLED; i++) {
		int ready[2], status;
		pid_t child;
		char byte;

		if (i == 5)
			before = free_memory();
		ASSERT_EQ(pipe(ready), 0);
		child = fork();
		ASSERT_GE(child, 0);
		if (!child)
			child_with_guest(ready[1]);
		ASSERT_EQ(read(ready[0], &byte, 1), 1);
		/* Let some of them come as far as into the guest. */
		for (int turns = 0; turns < i % 7; turns++)
			sched_yield();
		kill(child, SIGKILL);
		ASSERT_EQ(waitpid(child, &status, 0), child);
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		close(ready[0]);
		close(ready[1]);
	}
	one_life(0);
	EXPECT_LT(before - free_memory(), SLACK_KIB);
}

/* The mapping of kvm_run alone keeps the vCPU's page, and nothing else. */
TEST_F(life, closed_in_any_order)
{
	for (int order = 0; order < 6; order++) {
		struct guest g;
		int fds[3];

		guest_create(&g, 0);
		fds[0] = g.kvm;
		fds[1] = g.vm;
		fds[2] = g.vcpu;
		close(fds[order / 2]);
		close(fds[(order / 2 + 1 + order % 2) % 3]);
		close(fds[(order / 2 + 2 - order % 2) % 3]);
		g.run->immediate_exit = 1;
		munmap(g.run, g.run_size);
		munmap(g.mem, g.mem_size);
	}
	one_life(1);
}

/* Guest memory goes first. */
TEST_F(life, memory_gone_before_the_vm)
{
	struct guest g;

	guest_create(&g, 0);
	guest_load(&g, write_and_stop);
	guest_mode(&g, MODE_LONG, GUEST_CODE);
	guest_run_to(&g, KVM_EXIT_IO);
	munmap(g.mem, g.mem_size);
	EXPECT_EQ(outcome(ioctl(g.vcpu, KVM_RUN, 0)), -EFAULT);
	close(g.vcpu);
	close(g.vm);
	close(g.kvm);
	munmap(g.run, g.run_size);
}

SELFTEST_MAIN
