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
#include <sys/eventfd.h>
#include "cpus.h"

#define NOT_MEASURED	UINT64_MAX
#define OPS		64	/* in a batch; the touch rows have their own */
#define BATCHES		32

#define TOUCH_GPA	BIT(30)
#define TOUCH_BYTES	(64ul << 20)
#define LAPIC_ID	0xfee00020ul
#define MSR_TSC_DEADLINE 0x6e0
#define VECTOR		0x61

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

/* Interrupts.  The handler's EOI, an exit of its own, is part of them. */

static volatile u32 taken, taken_by_other;
static volatile bool finished;

static void on_xapic(struct guest_frame *frame)
{
	taken++;
	xapic_write(APIC_REG_EOI, 0);
}

static void on_x2apic(struct guest_frame *frame)
{
	taken++;
	wrmsr(MSR_X2APIC + APIC_REG_EOI / 16, 0);
}

/* Paravirtual EOI: clear the bit that the host may have set, or write. */
static volatile u32 eoi_flag __attribute__((aligned(4)));

static void on_pv_eoi(struct guest_frame *frame)
{
	taken++;
	if (!pv_eoi(&eoi_flag))
		wrmsr(MSR_X2APIC + APIC_REG_EOI / 16, 0);
}

static void enable_xapic(void)
{
	xapic_write(APIC_REG_SVR, 0x1ff);
	guest_handlers[VECTOR] = on_xapic;
	sti();
}

static void enable_x2apic(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	wrmsr(MSR_X2APIC + APIC_REG_SVR / 16, 0x1ff);
	guest_handlers[VECTOR] = on_x2apic;
	sti();
}

/* With nothing in service it changes nothing, and costs an exit all the same. */
static u32 guest_eoi_batch(u64 arg)
{
	enable_xapic();
	TIMED(OPS, xapic_write(APIC_REG_EOI, 0));
	return 0;
}

static u32 guest_eoi_x2apic_batch(u64 arg)
{
	enable_x2apic();
	TIMED(OPS, wrmsr(MSR_X2APIC + APIC_REG_EOI / 16, 0));
	return 0;
}

#define wait_for(count) do { } while (*(volatile u32 *)&taken < (count))

static u32 guest_self_ipi_batch(u64 arg)
{
	enable_xapic();
	taken = 0;
	TIMED(OPS, {
		xapic_write(APIC_REG_ICR, ICR_SELF | VECTOR);
		wait_for(i + 1);
	});
	return 0;
}

/* The write to the port is an eventfd's, and the eventfd an interrupt's. */
static u32 guest_irqfd_batch(u64 arg)
{
	enable_xapic();
	taken = 0;
	TIMED(OPS, {
		outb(0x80, 0);
		wait_for(i + 1);
	});
	return 0;
}

static u32 guest_self_ipi_x2apic_batch(u64 arg)
{
	enable_x2apic();
	taken = 0;
	TIMED(OPS, {
		wrmsr(MSR_X2APIC + 0x3f, VECTOR);
		wait_for(i + 1);
	});
	return 0;
}

static u32 guest_self_ipi_pv_eoi_batch(u64 arg)
{
	wrmsr(MSR_PV_EOI, (u64)&eoi_flag | 1);
	enable_x2apic();
	guest_handlers[VECTOR] = on_pv_eoi;
	taken = 0;
	TIMED(OPS, {
		wrmsr(MSR_X2APIC + 0x3f, VECTOR);
		wait_for(i + 1);
	});
	return 0;
}

/* Armed for the past: from the write to the handler's end. */
static u32 guest_deadline_batch(u64 arg)
{
	enable_x2apic();
	wrmsr(MSR_X2APIC + APIC_REG_LVTT / 16, 2 << 17 | VECTOR);
	taken = 0;
	TIMED(OPS, {
		wrmsr(MSR_TSC_DEADLINE, 1);
		wait_for(i + 1);
	});
	return 0;
}

/* Armed for a while from now, and asleep until then: what is above the while. */
#define WHILE	100000ull

static u32 guest_deadline_halted_batch(u64 arg)
{
	u64 start, sum = 0;

	enable_x2apic();
	wrmsr(MSR_X2APIC + APIC_REG_LVTT / 16, 2 << 17 | VECTOR);
	taken = 0;
	for (u32 i = 0; i < OPS; i++) {
		cli();
		start = ticks();
		wrmsr(MSR_TSC_DEADLINE, start + WHILE);
		while (taken <= i)
			asm volatile("sti; hlt; cli" : : : "memory");
		sum += ticks() - start - WHILE;
	}
	batch_ticks = sum;
	return 0;
}

static u32 guest_cr8_batch(u64 arg)
{
	enable_xapic();
	TIMED(OPS, asm volatile("mov %0, %%cr8" : : "r"((u64)(i & 1)) : "memory"));
	return 0;
}

/* Two vCPUs: the first sends, the other answers in memory. */
static volatile bool other_sleeps;
static volatile bool sender_ready, other_ready;

static void on_other(struct guest_frame *frame)
{
	taken_by_other++;
	wrmsr(MSR_X2APIC + APIC_REG_EOI / 16, 0);
}

/* Both vCPUs have the same handlers: this one's is set when the sender has set its own. */
static u32 guest_other(u64 arg)
{
	enable_x2apic();
	while (!sender_ready)
		outb(PORT_YIELD, 0);
	guest_handlers[VECTOR] = on_other;
	other_ready = true;
	while (!finished) {
		if (!other_sleeps)
			continue;
		cli();
		if (!finished)
			asm volatile("sti; hlt" : : : "memory");
		sti();
	}
	return 0;
}

/* From the ICR to the end of the answer, when the sender is asleep itself. */
static u32 guest_sends_batches(u64 arg)
{
	u64 best = NOT_MEASURED;

	enable_x2apic();
	sender_ready = true;
	while (!other_ready)
		outb(PORT_YIELD, 0);
	for (u32 batch = 0; batch < BATCHES; batch++) {
		TIMED(OPS, {
			u32 before = taken_by_other;

			x2apic_ipi(VECTOR, 1);
			while (taken_by_other == before)
				if (other_sleeps)
					outb(PORT_YIELD, 0);
		});
		if (batch_ticks < best)
			best = batch_ticks;
	}
	batch_ticks = best;
	finished = true;
	x2apic_ipi(VECTOR, 1);
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

static u64 bench_eoi(void)
{
	return bench_guest(guest_eoi_batch);
}

static u64 bench_eoi_x2apic(void)
{
	return bench_guest(guest_eoi_x2apic_batch);
}

static u64 bench_self_ipi(void)
{
	return bench_guest(guest_self_ipi_batch);
}

static u64 bench_self_ipi_x2apic(void)
{
	return bench_guest(guest_self_ipi_x2apic_batch);
}

static u64 bench_self_ipi_pv_eoi(void)
{
	return bench_guest(guest_self_ipi_pv_eoi_batch);
}

static u64 bench_cr8(void)
{
	return bench_guest(guest_cr8_batch);
}

/* @function's writes to @addr go to an eventfd; with @gsi that one interrupts. */
static u64 bench_eventfd(u32 (*function)(u64), u64 addr, u32 len, u32 flags, u32 gsi)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} route = {
		.head.nr = 1,
		.entry = { .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
			   .u.msi = { .address_lo = APIC_BASE, .data = VECTOR } },
	};
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct kvm_ioeventfd bell = { .fd = fd, .addr = addr, .len = len, .flags = flags };
	struct kvm_irqfd irq = { .fd = fd, .gsi = gsi };
	u64 best = NOT_MEASURED;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	must(g.vm, KVM_IOEVENTFD, &bell);
	if (gsi) {
		must(g.vm, KVM_SET_GSI_ROUTING, &route);
		must(g.vm, KVM_IRQFD, &irq);
	}
	for (int batch = 0; batch < BATCHES; batch++)
		best = min(best, run_batch(&g, function) / OPS);
	guest_destroy(&g);
	close(fd);
	return best;
}

static u64 bench_ioeventfd_port(void)
{
	return bench_eventfd(guest_out_batch, 0x80, 1, KVM_IOEVENTFD_FLAG_PIO, 0);
}

static u64 bench_ioeventfd_memory(void)
{
	return bench_eventfd(guest_mmio_batch, GUEST_MMIO, 4, 0, 0);
}

static u64 bench_irqfd(void)
{
	return bench_eventfd(guest_irqfd_batch, 0x80, 1, KVM_IOEVENTFD_FLAG_PIO, 40);
}

static u64 bench_timer(u32 (*function)(u64))
{
	u64 best = NOT_MEASURED;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	/* The capability, not GET_SUPPORTED_CPUID, says that the deadline timer is there. */
	guest_change_cpuid(&g, 1, ECX, 0, BIT(24));
	for (int batch = 0; batch < BATCHES; batch++)
		best = min(best, run_batch(&g, function) / OPS);
	guest_destroy(&g);
	return best;
}

static u64 bench_deadline(void)
{
	return bench_timer(guest_deadline_batch);
}

static u64 bench_deadline_halted(void)
{
	return bench_timer(guest_deadline_halted_batch);
}

static u64 bench_ipi(bool halted)
{
	struct cpus s;
	u64 best;

	/* With one CPU the other vCPU cannot run while the first waits for it. */
	if (!halted && sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return NOT_MEASURED;
	other_sleeps = halted;
	cpus_create(&s, 2, WITH_IRQCHIP);
	cpus_prepare(&s, guest_sends_batches);
	cpu_prepare(&s.cpu[1], guest_other, 0);
	cpus_start(&s);
	cpu_join(&s.cpu[0]);
	cpu_join(&s.cpu[1]);
	best = *guest_var(&s.cpu[0].g, batch_ticks) / OPS;
	cpus_destroy(&s);
	return best;
}

static u64 bench_ipi_running(void)
{
	return bench_ipi(false);
}

static u64 bench_ipi_halted(void)
{
	return bench_ipi(true);
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

static u8 *touch_area, *touched;	/* a mapping, and TOUCH_BYTES in it */

/*
 * A guest with TOUCH_BYTES in slot 1. The host's pages are there already: what is
 * timed is mapping them. Return: false where they are not huge, and are to be.
 */
static bool touch_begin(struct guest *g, int advice)
{
	touch_area = mmap(NULL, TOUCH_BYTES + HUGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (touch_area == MAP_FAILED)
		die("no memory to touch: %s", strerror(errno));
	touched = (u8 *)(((uintptr_t)touch_area + HUGE - 1) & -HUGE);
	madvise(touched, TOUCH_BYTES, advice);
	for (u64 offset = 0; offset < TOUCH_BYTES; offset += PAGE)
		touched[offset] = 1;
	guest_create(g, WITH_IRQCHIP);
	if (guest_slot(g, 1, TOUCH_GPA, touched, TOUCH_BYTES, 0))
		die("no slot: %s", strerror(errno));
	return advice == MADV_NOHUGEPAGE || has_huge_pages(touched);
}

static void touch_end(struct guest *g)
{
	guest_destroy(g);
	munmap(touch_area, TOUCH_BYTES + HUGE);
}

/* Write at every @stride bytes, @count at a time; ticks for one. */
static u64 touch_all(struct guest *g, u32 stride, u32 count)
{
	u64 best = NOT_MEASURED;

	for (u64 offset = 0; offset < TOUCH_BYTES; offset += (u64)stride * count) {
		touch.gpa = TOUCH_GPA + offset;
		touch.stride = stride;
		touch.count = count;
		best = min(best, run_batch(g, guest_touch_batch) / count);
	}
	return best;
}

static void log_dirty(struct guest *g)
{
	if (guest_slot(g, 1, TOUCH_GPA, touched, TOUCH_BYTES, KVM_MEM_LOG_DIRTY_PAGES))
		die("no dirty log: %s", strerror(errno));
}

/* @logged: what was mapped for writing is written again, with the log on. */
static u64 bench_touch(u32 stride, u32 count, int advice, bool logged)
{
	u64 best = NOT_MEASURED;
	struct guest g;

	if (touch_begin(&g, advice)) {
		if (logged) {
			touch_all(&g, stride, count);
			log_dirty(&g);
		}
		best = touch_all(&g, stride, count);
	}
	touch_end(&g);
	return best;
}

static u64 bench_touch_4k(void)
{
	return bench_touch(PAGE, 512, MADV_NOHUGEPAGE, false);
}

/* Too far apart for a hypervisor that maps a page's neighbours with it. */
static u64 bench_touch_4k_apart(void)
{
	return bench_touch(32 * PAGE, 64, MADV_NOHUGEPAGE, false);
}

static u64 bench_touch_2m(void)
{
	return bench_touch(HUGE, 4, MADV_HUGEPAGE, false);
}

static u64 bench_logged_4k(void)
{
	return bench_touch(PAGE, 512, MADV_NOHUGEPAGE, true);
}

static u64 bench_logged_2m(void)
{
	return bench_touch(HUGE, 4, MADV_HUGEPAGE, true);
}

/* KVM_GET_DIRTY_LOG, after the guest has written to each page, or to none since the last */
static u64 bench_sweep(bool dirty)
{
	static u8 bits[TOUCH_BYTES / PAGE / 8];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	u64 best = NOT_MEASURED;
	struct guest g;

	touch_begin(&g, MADV_NOHUGEPAGE);
	touch_all(&g, PAGE, 512);
	log_dirty(&g);
	for (int sweep = 0; sweep < 4; sweep++) {
		u64 start;

		if (dirty)
			touch_all(&g, PAGE, 512);
		start = ticks();
		must(g.vm, KVM_GET_DIRTY_LOG, &log);
		best = min(best, ticks() - start);
		for (u32 i = 0; dirty && i < sizeof(bits); i++)
			if (bits[i] != 0xff)
				die("the log has lost pages");
	}
	touch_end(&g);
	return best;
}

static u64 bench_dirty_sweep(void)
{
	return bench_sweep(true);
}

static u64 bench_clean_sweep(void)
{
	return bench_sweep(false);
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
	{ "OUT to an ioeventfd", bench_ioeventfd_port },
	{ "MMIO write to an ioeventfd", bench_ioeventfd_memory },
	{ "the first, irqfd, handler, EOI", bench_irqfd },
	{ "LAPIC register read", bench_lapic },
	{ "CR8 write", bench_cr8 },
	{ "EOI", bench_eoi },
	{ "EOI, x2APIC", bench_eoi_x2apic },
	{ "self-IPI, handler, EOI", bench_self_ipi },
	{ "the same, x2APIC", bench_self_ipi_x2apic },
	{ "the same, PV EOI", bench_self_ipi_pv_eoi },
	{ "IPI to a running vCPU", bench_ipi_running },
	{ "IPI to a halted vCPU", bench_ipi_halted },
	{ "TSC deadline to handler, EOI", bench_deadline },
	{ "the same, from HLT", bench_deadline_halted },
	{ "first touch, 4 KiB in turn", bench_touch_4k },
	{ "first touch, 4 KiB apart", bench_touch_4k_apart },
	{ "first touch, 2 MiB", bench_touch_2m },
	{ "write, logged, 4 KiB in turn", bench_logged_4k },
	{ "write, logged, splits 2 MiB", bench_logged_2m },
	{ "dirty log, 64 MiB, all dirty", bench_dirty_sweep },
	{ "dirty log, 64 MiB, none dirty", bench_clean_sweep },
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

	printf("%-31s  %12s", "ticks per operation",
	       devices ? argv[1] : "device");
	if (devices > 1)
		printf("  %12s  %6s", argv[2], "ratio");
	printf("\n");

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 first, second, ratio;

		printf("%-31s", rows[i].name);
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
