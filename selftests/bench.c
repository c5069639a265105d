// SPDX-License-Identifier: GPL-2.0
/*
 * What each kind of exit costs, on one device or on two in turn.
 *
 * A figure is TSC ticks per operation: the minimum over batches, since what
 * disturbs a batch (the host's tick, another process) only ever adds.  Where
 * the emulator counts instructions, a tick is an instruction.  The guest times
 * what it causes itself, so a figure is a whole round trip; the loop around
 * it is about five instructions and is not subtracted.
 */
#include <getopt.h>
#include <kselftest.h>
#include "guest.h"

#define NOT_MEASURED	UINT64_MAX
#define OPS		64	/* in a batch; the touch rows have their own */
#define BATCHES		32

#define TOUCH_GPA	BIT(30)
#define TOUCH_BYTES	(64ul << 20)
#define LAPIC_ID	0xfee00020ul
#define MSR_APIC_BASE	0x1b

static u64 ticks(void)
{
	u32 low, high;

	/* The fence keeps the timed work on its side of the reading. */
	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low | (u64)high << 32;
}

/* The guest side.  Each measures one batch and leaves its ticks here. */

static volatile u64 batch_ticks;
static volatile bool is_amd;

#define TIMED(count, operation) do {			\
	u64 start_ = ticks();				\
							\
	for (u32 i = 0; i < (count); i++)		\
		operation;				\
	batch_ticks = ticks() - start_;			\
} while (0)

static u32 guest_cpuid_batch(u64 arg)
{
	u32 regs[4];

	TIMED(OPS, guest_cpuid(0, 0, regs));
	return 0;
}

static u32 guest_msr_batch(u64 arg)
{
	TIMED(OPS, rdmsr(MSR_APIC_BASE));
	return 0;
}

/* A number that no hypercall has: the cost of the way, not of a service. */
static u32 guest_hypercall_batch(u64 arg)
{
	u64 rax;

	if (is_amd)
		TIMED(OPS, asm volatile("vmmcall" : "=a"(rax)
					: "0"(0x7fffull) : "memory"));
	else
		TIMED(OPS, asm volatile("vmcall" : "=a"(rax)
					: "0"(0x7fffull) : "memory"));
	return 0;
}

static u32 guest_out_batch(u64 arg)
{
	TIMED(OPS, outb(0x80, 0));
	return 0;
}

static u32 guest_mmio_batch(u64 arg)
{
	TIMED(OPS, mmio_write(GUEST_MMIO, 0));
	return 0;
}

static u32 guest_lapic_batch(u64 arg)
{
	TIMED(OPS, mmio_read(LAPIC_ID));
	return 0;
}

struct touch {
	u64 gpa;
	u32 stride;
	u32 count;
};

static struct touch touch;

static u32 guest_touch_batch(u64 arg)
{
	TIMED(touch.count, mmio_write(touch.gpa + (u64)i * touch.stride, 1));
	return 0;
}

/* The host side. */

static u64 min(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* Runs one batch, and answers the exits that are part of what it measures. */
static u64 run_batch(struct guest *g, u32 (*function)(u64))
{
	guest_call(g, function, 0);
	for (;;) {
		u32 reason = guest_run(g);

		if (reason == KVM_EXIT_MMIO)
			continue;
		if (reason != KVM_EXIT_IO)
			die_of_exit(g, "port I/O or MMIO");
		if (g->run->io.port == PORT_DONE)
			return *guest_var(g, batch_ticks);
	}
}

static u64 bench_guest(u32 (*function)(u64))
{
	u64 best = NOT_MEASURED;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	for (int batch = 0; batch < BATCHES; batch++)
		best = min(best, run_batch(&g, function) / OPS);
	guest_destroy(&g);
	return best;
}

static u64 bench_cpuid(void)
{
	return bench_guest(guest_cpuid_batch);
}

static u64 bench_msr(void)
{
	return bench_guest(guest_msr_batch);
}

static u64 bench_hypercall(void)
{
	u32 unused, vendor;

	__cpuid_count(0, 0, unused, vendor, unused, unused);
	is_amd = vendor != 0x756e6547;	/* "Genu" */
	return bench_guest(guest_hypercall_batch);
}

static u64 bench_out(void)
{
	return bench_guest(guest_out_batch);
}

static u64 bench_mmio(void)
{
	return bench_guest(guest_mmio_batch);
}

static u64 bench_lapic(void)
{
	return bench_guest(guest_lapic_batch);
}

static bool has_huge_pages(void *memory)
{
	bool found = false;
	char line[256];
	FILE *smaps = fopen("/proc/self/smaps", "r");
	unsigned long start, end, kib;
	bool inside = false;

	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)memory &&
				 (uintptr_t)memory < end;
		if (inside && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			found = kib >= TOUCH_BYTES / 1024;
	}
	if (smaps)
		fclose(smaps);
	return found;
}

/* The host's pages are there already: what is timed is mapping them. */
static u64 bench_touch(u32 stride, u32 count, int advice)
{
	u64 best = NOT_MEASURED;
	struct guest g;
	u8 *area, *memory;

	area = mmap(NULL, TOUCH_BYTES + HUGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		die("no memory to touch: %s", strerror(errno));
	memory = (u8 *)(((uintptr_t)area + HUGE - 1) & -HUGE);
	madvise(memory, TOUCH_BYTES, advice);
	for (u64 offset = 0; offset < TOUCH_BYTES; offset += PAGE)
		memory[offset] = 1;

	if (advice == MADV_NOHUGEPAGE || has_huge_pages(memory)) {
		guest_create(&g, WITH_IRQCHIP);
		if (guest_slot(&g, 1, TOUCH_GPA, memory, TOUCH_BYTES, 0))
			die("no slot: %s", strerror(errno));
		for (u64 offset = 0; offset < TOUCH_BYTES;
		     offset += (u64)stride * count) {
			touch.gpa = TOUCH_GPA + offset;
			touch.stride = stride;
			touch.count = count;
			best = min(best, run_batch(&g, guest_touch_batch) /
				   count);
		}
		guest_destroy(&g);
	}
	munmap(area, TOUCH_BYTES + HUGE);
	return best;
}

static u64 bench_touch_4k(void)
{
	return bench_touch(PAGE, 512, MADV_NOHUGEPAGE);
}

/* Too far apart for a hypervisor that maps a page's neighbours with it. */
static u64 bench_touch_4k_apart(void)
{
	return bench_touch(32 * PAGE, 64, MADV_NOHUGEPAGE);
}

static u64 bench_touch_2m(void)
{
	return bench_touch(HUGE, 4, MADV_HUGEPAGE);
}

static u64 bench_immediate_exit(void)
{
	u64 best = NOT_MEASURED;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	guest_mode(&g, MODE_LONG, GUEST_CODE);
	g.run->immediate_exit = 1;
	for (int batch = 0; batch < BATCHES; batch++) {
		TIMED(OPS, ioctl(g.vcpu, KVM_RUN, 0));
		best = min(best, batch_ticks / OPS);
	}
	if (outcome(ioctl(g.vcpu, KVM_RUN, 0)) != -EINTR)
		die("immediate_exit does not end KVM_RUN");
	guest_destroy(&g);
	return best;
}

static u64 bench_get_regs(void)
{
	u64 best = NOT_MEASURED;
	struct kvm_regs regs;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	for (int batch = 0; batch < BATCHES; batch++) {
		TIMED(OPS, ioctl(g.vcpu, KVM_GET_REGS, &regs));
		best = min(best, batch_ticks / OPS);
	}
	guest_destroy(&g);
	return best;
}

/* With another VM alive, so that turning the hardware on is not in it. */
static u64 bench_vm(bool create)
{
	u64 best = NOT_MEASURED;
	int device = device_open();
	int other = must(device, KVM_CREATE_VM, 0);

	for (int batch = 0; batch < BATCHES; batch++) {
		u64 start = ticks();
		int vm = must(device, KVM_CREATE_VM, 0);
		u64 middle = ticks();

		close(vm);
		best = min(best, create ? middle - start : ticks() - middle);
	}
	close(other);
	close(device);
	return best;
}

static u64 bench_vm_create(void)
{
	return bench_vm(true);
}

static u64 bench_vm_destroy(void)
{
	return bench_vm(false);
}

static u64 bench_vcpu_create(void)
{
	u64 best = NOT_MEASURED;
	int device = device_open();

	for (int batch = 0; batch < BATCHES; batch++) {
		int vm = must(device, KVM_CREATE_VM, 0);
		u64 start = ticks();
		int vcpu = must(vm, KVM_CREATE_VCPU, 0);

		best = min(best, ticks() - start);
		close(vcpu);
		close(vm);
	}
	close(device);
	return best;
}

static const struct {
	const char *name;
	u64 (*measure)(void);
} rows[] = {
	{ "CPUID", bench_cpuid },
	{ "RDMSR of APIC_BASE", bench_msr },
	{ "hypercall", bench_hypercall },
	{ "OUT to userspace", bench_out },
	{ "MMIO write to userspace", bench_mmio },
	{ "LAPIC register read", bench_lapic },
	{ "first touch, 4 KiB in turn", bench_touch_4k },
	{ "first touch, 4 KiB apart", bench_touch_4k_apart },
	{ "first touch, 2 MiB", bench_touch_2m },
	{ "KVM_RUN, immediate_exit", bench_immediate_exit },
	{ "KVM_GET_REGS", bench_get_regs },
	{ "VM create", bench_vm_create },
	{ "VM destroy", bench_vm_destroy },
	{ "vCPU create", bench_vcpu_create },
};

static const char usage[] =
	"bench [--max-ratio X.XX] [DEVICE [OTHER]]\n"
	"TSC ticks of each kind of exit on DEVICE (default: $MINIKVM_DEVICE or\n"
	"/dev/minikvm), and on OTHER with the ratio DEVICE : OTHER.\n"
	"--max-ratio: exit with 1 when a row's ratio is above this.\n";

/* "1.25" is 125: nothing in these programs uses floating point. */
static u64 parse_hundredths(const char *text)
{
	unsigned int whole, tenths = 0, hundredths = 0;

	if (sscanf(text, "%u.%1u%1u", &whole, &tenths, &hundredths) < 1) {
		fputs(usage, stderr);
		exit(KSFT_FAIL);
	}
	return whole * 100ull + tenths * 10 + hundredths;
}

static void print_figure(u64 figure)
{
	if (figure == NOT_MEASURED)
		printf("  %12s", "-");
	else
		printf("  %12llu", figure);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "max-ratio", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	u64 max_ratio = UINT64_MAX;
	int option, devices, above = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'm') {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? KSFT_PASS : KSFT_FAIL;
		}
		max_ratio = parse_hundredths(optarg);
	}
	argv += optind - 1;
	devices = argc - optind;
	device_init(devices + 1, argv);
	if (devices > 1)
		device_init(2, argv + 1);

	printf("%-28s  %12s", "ticks per operation",
	       devices ? argv[1] : "device");
	if (devices > 1)
		printf("  %12s  %6s", argv[2], "ratio");
	printf("\n");

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 first, second, ratio;

		printf("%-28s", rows[i].name);
		if (devices)
			device_select(argv[1]);
		first = rows[i].measure();
		print_figure(first);
		if (devices > 1) {
			device_select(argv[2]);
			second = rows[i].measure();
			print_figure(second);
			if (first != NOT_MEASURED && second != NOT_MEASURED &&
			    second) {
				ratio = (first * 100 + second / 2) / second;
				above += ratio > max_ratio;
				printf("  %3llu.%02llu", ratio / 100,
				       ratio % 100);
			}
		}
		printf("\n");
		fflush(stdout);
	}
	return above ? KSFT_FAIL : KSFT_PASS;
}
