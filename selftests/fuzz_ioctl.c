// SPDX-License-Identifier: GPL-2.0
/*
 * A fuzzer for the device: programs of calls that know the ABI's structs, on a
 * small pool of VMs, vCPUs, memory and eventfds, from one thread or two, with
 * closes, unmappings, forks, failing allocations and exits in between.
 *
 * A program is a chain of numbers: the first generates it, each other one
 * mutates what came before.  Where the kernel tells which code of the module
 * a program reached (KCOV, in the debug kernel), programs that reached new code
 * are kept, and mutated; elsewhere all are new.  So a finding is one line:
 *
 *	MINIKVM_FUZZ_PROGRAM=1a2b3c.4d5e6f fuzz_ioctl /dev/minikvm
 *
 * repeats it, and says what it calls; MINIKVM_FUZZ_REPEAT=N does so N times.
 * With two threads the calls are the same, and their order is the scheduler's.
 * MINIKVM_SEED repeats a run as far as no coverage decides, MINIKVM_FUZZ_SECONDS
 * and MINIKVM_FUZZ_PROGRAMS bound it, MINIKVM_FUZZ_VERBOSE names each program
 * before it runs, MINIKVM_FUZZ_PCS prints what was reached at the end.
 */
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <kselftest.h>
#include "fuzz.h"
#include "../uapi/minikvm.h"

#define MAX_CALLS	48
#define MAX_CHAIN	12
#define MAX_CORPUS	4096

/* --- The pool, in the child that runs a program --- */

enum { NR_VMS = 3, NR_VCPUS = 4, NR_EVENTS = 4, ARENA = 4 * PAGE };

static int device;
static volatile int vms[NR_VMS], vcpus[NR_VCPUS], events[NR_EVENTS];
static struct kvm_run *volatile runs[NR_VCPUS];
static u8 *memory;			/* of all guests, HUGE * 2 bytes, aligned */
static __thread int fail_nth = -1;
static bool no_entry;			/* guests are not entered at all */

static u32 *tried, *worked;		/* per operation, shared with the parent */

struct call {
	u8 op;
	u8 who;		/* which VM or vCPU */
	u8 thread;	/* 0, 1, or BEFORE the second one starts */
	u8 fail;	/* which allocation or copy of it fails, or 0 */
	u32 seed;	/* of all else */
};

#define BEFORE	2

struct program {
	u32 chain[MAX_CHAIN];
	u32 links;
	struct call call[MAX_CALLS];
	u32 calls;
	bool threads;
};

static void replace(volatile int *slot, int fd)
{
	int old = __atomic_exchange_n(slot, fd, __ATOMIC_SEQ_CST);

	if (old >= 0)
		close(old);
}

/* Of a pool, the descriptor that a call means, or another where that is gone. */
static int one_of(const volatile int *pool, u32 n, u8 who)
{
	for (u32 i = 0; i < n; i++)
		if (pool[(who + i) % n] >= 0)
			return pool[(who + i) % n];
	return -1;
}

static int vm_of(u8 who)
{
	return one_of(vms, NR_VMS, who);
}

static int vcpu_of(u8 who)
{
	return one_of(vcpus, NR_VCPUS, who);
}

/* --- Arguments --- */

static void fill_region(struct rng *r, void *buffer)
{
	static const u64 gpas[] = { 0, 0, 0, HUGE, 2 * HUGE, 0x100000, PAGE, 0xfee00000,
				    0xfffff000, 1ull << 32, 1ull << 39, ~0ull << 12 };
	static const u64 sizes[] = { 0, PAGE, 16 * PAGE, HUGE, HUGE, 2 * HUGE, 2 * HUGE,
				     1ull << 30, 1ull << 43 };
	struct kvm_userspace_memory_region *region = buffer;

	region->slot = one_in(r, 8) ? odd_value(r) : rng_below(r, 6);
	region->flags = rng_below(r, one_in(r, 8) ? 8 : 4);
	region->guest_phys_addr = PICK(r, gpas);
	region->memory_size = PICK(r, sizes);
	region->userspace_addr = (uintptr_t)memory + rng_below(r, 16) * PAGE;
	if (one_in(r, 3))
		region->userspace_addr = (uintptr_t)memory;
}

/* Where a range begins, and how long it is. */
static void fill_gpa(struct rng *r, void *buffer)
{
	u64 *words = buffer;

	memset(words, 0, 64);
	words[0] = odd_address(r) & (one_in(r, 4) ? ~0ull : -PAGE);
	words[1] = rng_below(r, 64) * PAGE;
	if (one_in(r, 8))
		scramble(r, words, 24, 2);
}

static void fill_attr(struct rng *r, void *buffer)
{
	static u64 value;
	struct kvm_device_attr *attr = buffer;

	*attr = (struct kvm_device_attr){ .addr = (uintptr_t)&value };
	if (one_in(r, 4))
		scramble(r, attr, sizeof(*attr), 2);
}

static void fill_msrs(struct rng *r, void *buffer)
{
	struct kvm_msrs *msrs = buffer;

	msrs->nmsrs = one_in(r, 16) ? odd_value(r) : rng_below(r, one_in(r, 4) ? 20 : 3);
	for (u32 i = 0; i < 20; i++) {
		msrs->entries[i].index = odd_msr(r);
		msrs->entries[i].data = odd_value(r);
	}
}

static void fill_filter(struct rng *r, void *buffer)
{
	static u8 bitmap[64];
	struct kvm_msr_filter *filter = buffer;

	fill_random(r, bitmap, sizeof(bitmap));
	memset(filter, 0, sizeof(*filter));
	for (u32 i = rng_below(r, 4); i; i--)
		filter->ranges[i] = (struct kvm_msr_filter_range){
			.flags = 1 + rng_below(r, 3), .nmsrs = rng_below(r, sizeof(bitmap) * 8),
			.base = odd_msr(r), .bitmap = bitmap };
	if (one_in(r, 4))
		scramble(r, filter, sizeof(*filter), 2);
}

static void fill_cpuid(struct rng *r, void *buffer)
{
	struct kvm_cpuid2 *cpuid = buffer;

	cpuid->nent = 100;
	if (one_in(r, 8) || ioctl(device, KVM_GET_SUPPORTED_CPUID, cpuid))
		fill_random(r, cpuid->entries, 100 * sizeof(cpuid->entries[0]));
	if (!one_in(r, 3))
		scramble(r, cpuid->entries, cpuid->nent * sizeof(cpuid->entries[0]),
			 rng_below(r, 8));
	if (one_in(r, 8))
		cpuid->nent = odd_value(r);
}

static void fill_routing(struct rng *r, void *buffer)
{
	struct kvm_irq_routing *routing = buffer;

	routing->nr = one_in(r, 16) ? odd_value(r) : rng_below(r, 30);
	routing->flags = one_in(r, 16);
	for (u32 i = 0; i < 30; i++) {
		struct kvm_irq_routing_entry *e = &routing->entries[i];

		memset(e, 0, sizeof(*e));
		e->gsi = one_in(r, 8) ? odd_value(r) : rng_below(r, 32);
		e->type = one_in(r, 16) ? odd_value(r) : 1 + rng_below(r, 2);
		e->u.irqchip.irqchip = rng_below(r, 4);
		e->u.irqchip.pin = rng_below(r, one_in(r, 4) ? 256 : 24);
		if (e->type == 2) {
			e->u.msi.address_lo = 0xfee00000 | (rng_next(r) & 0xff00c);
			e->u.msi.address_hi = one_in(r, 4) ? odd_value(r) : 0;
			e->u.msi.data = rng_next(r) & 0xc7ff;
		}
	}
}

static void fill_msi(struct rng *r, void *buffer)
{
	struct kvm_msi *msi = buffer;

	memset(msi, 0, sizeof(*msi));
	msi->address_lo = 0xfee00000 | (rng_next(r) & 0xff00c);
	msi->address_hi = one_in(r, 4) ? odd_value(r) : 0;
	msi->data = rng_next(r) & 0xc7ff;
	msi->flags = one_in(r, 16) ? odd_value(r) : 0;
}

static void fill_irqfd(struct rng *r, void *buffer)
{
	struct kvm_irqfd *irqfd = buffer;

	memset(irqfd, 0, sizeof(*irqfd));
	irqfd->fd = one_in(r, 16) ? (int)rng_below(r, 64) : events[rng_below(r, NR_EVENTS)];
	irqfd->gsi = rng_below(r, one_in(r, 8) ? 5000 : 24);
	irqfd->flags = rng_below(r, 4);
	irqfd->resamplefd = events[rng_below(r, NR_EVENTS)];
}

static void fill_ioeventfd(struct rng *r, void *buffer)
{
	struct kvm_ioeventfd *io = buffer;

	memset(io, 0, sizeof(*io));
	io->fd = one_in(r, 16) ? (int)rng_below(r, 64) : events[rng_below(r, NR_EVENTS)];
	io->addr = one_in(r, 2) ? rng_below(r, 0x500) : odd_address(r);
	io->len = one_in(r, 8) ? odd_value(r) : 1u << rng_below(r, 4);
	io->flags = rng_below(r, 16);
	io->datamatch = odd_value(r);
}

static void fill_line(struct rng *r, void *buffer)
{
	struct kvm_irq_level *line = buffer;

	line->irq = one_in(r, 8) ? odd_value(r) : rng_below(r, 24);
	line->level = rng_below(r, 2);
}

static void fill_chip(struct rng *r, void *buffer)
{
	((struct kvm_irqchip *)buffer)->chip_id = rng_below(r, 4);
}

static void fill_mask(struct rng *r, void *buffer)
{
	struct kvm_signal_mask *mask = buffer;
	u64 set = odd_value(r) & ~BIT(SIGUSR1 - 1);

	mask->len = one_in(r, 8) ? odd_value(r) : 8;
	memcpy(mask->sigset, &set, 8);
}

static void fill_log(struct rng *r, void *buffer)
{
	struct kvm_clear_dirty_log *log = buffer;

	log->slot = one_in(r, 8) ? odd_value(r) : one_in(r, 3) ? rng_below(r, 6) : 0;
	log->num_pages = odd_value(r);
	log->first_page = odd_value(r);
	log->dirty_bitmap = buffer + 64;
	if (one_in(r, 2))
		((struct kvm_dirty_log *)buffer)->dirty_bitmap = buffer + 64;
}

static void fill_cap(struct rng *r, void *buffer)
{
	struct kvm_enable_cap *cap = buffer;

	memset(cap, 0, sizeof(*cap));
	cap->cap = one_in(r, 2) ? (u32)KVM_CAP_X2APIC_API : rng_below(r, 240);
	cap->args[0] = odd_value(r);
	cap->flags = one_in(r, 16);
}

static void fill_vcpu_id(struct rng *r, void *buffer)
{
	*(u64 *)buffer = one_in(r, 8) ? odd_value(r) : rng_below(r, NR_VCPUS);
}

static void fill_small(struct rng *r, void *buffer)
{
	*(u64 *)buffer = one_in(r, 4) ? odd_value(r) : rng_below(r, 256);
}

static void fill_zero(struct rng *r, void *buffer)
{
	*(u64 *)buffer = one_in(r, 16) ? odd_value(r) : 0;
}

static void fill_pit(struct rng *r, void *buffer)
{
	memset(buffer, 0, sizeof(struct kvm_pit_config));
	*(u32 *)buffer = one_in(r, 8) ? odd_value(r) : rng_below(r, 2);
}

static void fill_mp_state(struct rng *r, void *buffer)
{
	*(u32 *)buffer = one_in(r, 8) ? odd_value(r) : rng_below(r, 12);
}

/* --- What is more than an ioctl --- */

static void act_create_vm(struct rng *r, u8 who)
{
	struct kvm_enable_cap ring = {
		.cap = KVM_CAP_DIRTY_LOG_RING, .args[0] = PAGE << rng_below(r, 3),
	};
	int fd;

	do
		fd = ioctl(device, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);	/* a tick */
	if (one_in(r, 4))
		ioctl(fd, KVM_ENABLE_CAP, &ring);
	replace(&vms[who % NR_VMS], fd);
}

static void map_run(u8 who, size_t offset, int protection)
{
	int vcpu = vcpus[who % NR_VCPUS];
	void *run = mmap(NULL, 2 * PAGE, protection, MAP_SHARED, vcpu, offset);

	if (run != MAP_FAILED && !offset && protection & PROT_WRITE)
		runs[who % NR_VCPUS] = run;	/* an older one stays mapped */
}

static void act_create_vcpu(struct rng *r, u8 who)
{
	u64 id = who % NR_VCPUS;

	if (one_in(r, 8))
		fill_vcpu_id(r, &id);
	replace(&vcpus[who % NR_VCPUS], ioctl(vm_of(who), KVM_CREATE_VCPU, id));
	map_run(who, 0, PROT_READ | PROT_WRITE);
}

/* Empty a vCPU's dirty ring, more or less as it is meant. */
static void act_empty_ring(struct rng *r, u8 who)
{
	struct kvm_dirty_gfn *ring = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
					  vcpus[who % NR_VCPUS],
					  KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);

	if (ring == MAP_FAILED)
		return;
	/* Where there are no rings a touch would be SIGBUS. */
	for (u64 i = madvise(ring, PAGE, MADV_POPULATE_READ) ? PAGE : 0;
	     i < PAGE / sizeof(*ring); i++) {
		ring[i].flags = KVM_DIRTY_GFN_F_RESET;
		if (one_in(r, 32))
			ring[i].slot = odd_value(r);
		if (one_in(r, 32))
			ring[i].offset = odd_value(r);
	}
	munmap(ring, PAGE);
}

static void act_map_run(struct rng *r, u8 who)
{
	map_run(who, one_in(r, 2) ? 0 : rng_below(r, 4) * PAGE,
		one_in(r, 2) ? PROT_READ | PROT_WRITE : (int)rng_below(r, 8));
}

static void act_unmap_run(struct rng *r, u8 who)
{
	/* The second thread may be reading it: leave something to read. */
	if (runs[who % NR_VCPUS])
		mmap(runs[who % NR_VCPUS], one_in(r, 2) ? PAGE : 2 * PAGE,
		     PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void act_close_vm(struct rng *r, u8 who)
{
	replace(&vms[who % NR_VMS], -1);
}

static void act_close_vcpu(struct rng *r, u8 who)
{
	replace(&vcpus[who % NR_VCPUS], -1);
}

static void act_event(struct rng *r, u8 who)
{
	u64 one = 1;
	int fd = events[who % NR_EVENTS];

	switch (rng_below(r, 4)) {
	case 0: replace(&events[who % NR_EVENTS], eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); break;
	case 1: (void)!read(fd, &one, sizeof(one)); break;
	default: (void)!write(fd, &one, sizeof(one)); break;
	}
}

/* Memory where a guest expects it, and the CPUID that it may have. */
static void act_slot(struct rng *r, u8 who)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = 2 * HUGE, .userspace_addr = (uintptr_t)memory,
		.flags = one_in(r, 2) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
	};

	ioctl(vm_of(who), KVM_SET_USER_MEMORY_REGION, &region);
}

static void act_cpuid(struct rng *r, u8 who)
{
	static __thread struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[100]; } cpuid;

	cpuid.head.nent = 100;
	if (!ioctl(device, KVM_GET_SUPPORTED_CPUID, &cpuid))
		ioctl(vcpu_of(who), KVM_SET_CPUID2, &cpuid);
}

/* A guest that may get somewhere: real mode or flat 32 bits, with code at 64 KiB. */
static void act_boot(struct rng *r, u8 who)
{
	bool real = one_in(r, 2);
	struct kvm_segment code = { .base = real ? GUEST_CODE : 0, .limit = ~0u, .type = 0xb,
				    .selector = 0x1000, .present = 1, .s = 1, .g = 1, .db = !real };
	struct kvm_regs regs = { .rip = real ? 0 : GUEST_CODE, .rflags = 2 | (rng_next(r) & 0x200),
				 .rsp = 0x9000 };
	int vcpu = vcpu_of(who);
	struct kvm_sregs sregs;

	hostile_code(r, memory + GUEST_CODE, 2 * PAGE, real ? 16 : 32);
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return;
	sregs.cs = code;
	code.type = 3;
	sregs.ss = sregs.ds = sregs.es = code;
	if (real)
		sregs.ss.base = sregs.ds.base = sregs.es.base = 0;
	sregs.cr0 = (sregs.cr0 & ~(CR0_PG | CR0_PE)) | !real;
	ioctl(vcpu, KVM_SET_SREGS, &sregs);
	ioctl(vcpu, KVM_SET_REGS, &regs);
}

/* Read while the vCPU or its VM may go at any time. */
static void act_stats(struct rng *r, u8 who)
{
	int fd = ioctl(one_in(r, 2) ? vm_of(who) : vcpu_of(who), KVM_GET_STATS_FD, NULL);
	u8 some[4096];

	if (fd < 0)
		return;
	for (u32 i = rng_below(r, 4); i; i--)
		(void)!pread(fd, some, rng_below(r, sizeof(some)), rng_below(r, sizeof(some)));
	close(fd);
}

/*
 * What QEMU does not survive (fuzz.h), as far as a state can be asked for; another thread
 * may set one in between.
 */
static bool risky(int vcpu)
{
	struct kvm_debugregs debug;
	struct kvm_sregs sregs;

	if (!emulator_is_spared())
		return false;
	return ioctl(vcpu, KVM_GET_SREGS, &sregs) || ioctl(vcpu, KVM_GET_DEBUGREGS, &debug) ||
	       (debug.dr7 & 0xff) || ((sregs.efer & EFER_LME) && !(sregs.cr4 & CR4_PAE));
}

static void act_run(struct rng *r, u8 who)
{
	volatile struct kvm_run *run = runs[who % NR_VCPUS];
	int vcpu = vcpus[who % NR_VCPUS];

	for (u32 rounds = 1 + rng_below(r, 8); rounds && run; rounds--) {
		run->immediate_exit = no_entry || one_in(r, 8) || risky(vcpu);
		run->request_interrupt_window = one_in(r, 4);
		if (one_in(r, 4))
			run->cr8 = one_in(r, 4) ? odd_value(r) : rng_below(r, 16);
		if (one_in(r, 4))
			scramble(r, (void *)run, sizeof(*run), 3);
		if (one_in(r, 2))
			fill_random(r, (void *)run->mmio.data, 8);
		if (ioctl(vcpu, KVM_RUN, one_in(r, 64)) && (errno != EAGAIN || one_in(r, 2)))
			break;
	}
}

static void act_write_run(struct rng *r, u8 who)
{
	if (runs[who % NR_VCPUS])
		scramble(r, runs[who % NR_VCPUS], one_in(r, 2) ? 64 : 2 * PAGE,
			 rng_below(r, 64));
}

static void act_memory(struct rng *r, u8 who)
{
	u8 *at = memory + rng_below(r, 64) * PAGE;
	size_t bytes = (1 + rng_below(r, 16)) * PAGE;

	if (one_in(r, 4))
		at = memory, bytes = 2 * HUGE;
	switch (rng_below(r, 8)) {
	case 0: madvise(at, bytes, MADV_DONTNEED); break;
	case 1: madvise(at, bytes, MADV_HUGEPAGE); break;
	case 2: mprotect(at, bytes, rng_below(r, 8)); break;
	case 3: madvise(at, bytes, MADV_PAGEOUT); break;
	case 4: munmap(at, bytes); break;
	case 5: madvise(at, bytes, 25 /* MADV_COLLAPSE */); break;
	default:
		mmap(at, bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	}
}

/* What another process may do with the descriptors and pages it inherits. */
static void act_fork(struct rng *r, u8 who)
{
	struct kvm_regs regs;

	if (fork())
		return;
	for (u32 n = rng_below(r, 6); n; n--) {
		switch (rng_below(r, 5)) {
		case 0: ioctl(vcpu_of(who), KVM_RUN, 0); break;
		case 1: ioctl(vcpu_of(who), KVM_GET_REGS, &regs); break;
		case 2: ioctl(vm_of(who), KVM_CREATE_VCPU, 9); break;
		case 3: replace(&vms[who % NR_VMS], -1); break;
		default: act_write_run(r, who); break;
		}
	}
	_exit(0);
}

static void act_exit(struct rng *r, u8 who)
{
	if (one_in(r, 4))
		_exit(0);
}

static void act_wait(struct rng *r, u8 who)
{
	usleep(rng_below(r, 2000));
}

enum on { DEVICE, VM, VCPU, NOTHING };

/*
 * With .get, what the kernel has is fetched and changed a little, so that most of it
 * is right; else .fill makes the argument; else it is random. By default its size
 * is the request's, and 0 means that the argument is a number.
 */
static const struct op {
	const char *name;
	enum on on;
	u8 weight;
	unsigned long request, get;
	void (*fill)(struct rng *r, void *buffer);
	void (*act)(struct rng *r, u8 who);
	bool by_pointer;		/* although the request's size does not say so */
} ops[] = {
#define IOCTL(on, weight, name, ...) { #name, on, weight, KVM_##name, __VA_ARGS__ }
#define GET_SET(on, weight, name)						\
	{ "GET_" #name, on, 1, KVM_GET_##name },				\
	{ "SET_" #name, on, weight, KVM_SET_##name, .get = KVM_GET_##name }
#define ACT(weight, name) { #name, NOTHING, weight, .act = act_##name }
	/* The order of these eight is prologue()'s. */
	ACT(2, create_vm),
	IOCTL(VM, 2, CREATE_IRQCHIP, .fill = fill_zero),
	{ "CREATE_PIT2", VM, 1, KVM_CREATE_PIT2, .fill = fill_pit },
	ACT(1, slot),
	ACT(4, create_vcpu),
	ACT(1, cpuid),
	ACT(6, boot),
	ACT(12, run),

	IOCTL(VM, 8, SET_USER_MEMORY_REGION, .fill = fill_region),
	{ "SET_USER_MEMORY_REGION2", VM, 2, KVM_SET_USER_MEMORY_REGION2, .fill = fill_region },
	{ "SET_CPUID2", VCPU, 2, KVM_SET_CPUID2, .fill = fill_cpuid, .by_pointer = true },
	ACT(2, map_run), ACT(1, unmap_run), ACT(1, close_vm), ACT(1, close_vcpu),
	ACT(6, event), ACT(3, write_run), ACT(4, memory), ACT(2, fork), ACT(1, exit),
	ACT(2, wait), ACT(2, empty_ring),
	IOCTL(DEVICE, 1, CHECK_EXTENSION, .fill = fill_small),
	IOCTL(DEVICE, 1, GET_API_VERSION, .fill = fill_zero),
	IOCTL(DEVICE, 1, GET_SUPPORTED_CPUID, .fill = fill_cpuid, .by_pointer = true),
	IOCTL(DEVICE, 1, GET_EMULATED_CPUID, .fill = fill_cpuid, .by_pointer = true),
	IOCTL(DEVICE, 1, GET_MSR_INDEX_LIST, .fill = fill_small, .by_pointer = true),
	IOCTL(DEVICE, 1, GET_MSR_FEATURE_INDEX_LIST, .fill = fill_small, .by_pointer = true),
	IOCTL(DEVICE, 1, GET_MSRS, .fill = fill_msrs, .by_pointer = true),
	IOCTL(DEVICE, 1, GET_VCPU_MMAP_SIZE, .fill = fill_zero),
	{ "GET_HOST", DEVICE, 1, MINIKVM_GET_HOST },

	IOCTL(VM, 1, CHECK_EXTENSION, .fill = fill_small),
	IOCTL(VM, 1, CREATE_VCPU, .fill = fill_vcpu_id),
	IOCTL(VM, 4, GET_DIRTY_LOG, .fill = fill_log),
	IOCTL(VM, 2, CLEAR_DIRTY_LOG, .fill = fill_log),
	IOCTL(VM, 1, SET_TSS_ADDR, .fill = fill_small),
	IOCTL(VM, 1, SET_IDENTITY_MAP_ADDR, .fill = fill_small),
	IOCTL(VM, 1, SET_BOOT_CPU_ID, .fill = fill_small),
	IOCTL(VM, 2, ENABLE_CAP, .fill = fill_cap),
	IOCTL(VM, 1, CREATE_PIT),
	{ "GET_IRQCHIP", VM, 1, KVM_GET_IRQCHIP, .fill = fill_chip },
	{ "SET_IRQCHIP", VM, 4, KVM_SET_IRQCHIP, .get = KVM_GET_IRQCHIP, .fill = fill_chip },
	{ "GET_PIT", VM, 1, KVM_GET_PIT },
	{ "SET_PIT", VM, 2, KVM_SET_PIT, .get = KVM_GET_PIT },
	GET_SET(VM, 3, PIT2),
	GET_SET(VM, 1, CLOCK),
	IOCTL(VM, 4, SET_GSI_ROUTING, .fill = fill_routing, .by_pointer = true),
	IOCTL(VM, 4, SIGNAL_MSI, .fill = fill_msi),
	IOCTL(VM, 6, IRQFD, .fill = fill_irqfd),
	IOCTL(VM, 4, IOEVENTFD, .fill = fill_ioeventfd),
	IOCTL(VM, 4, IRQ_LINE, .fill = fill_line),
	IOCTL(VM, 2, IRQ_LINE_STATUS, .fill = fill_line),
	IOCTL(VM, 1, REGISTER_COALESCED_MMIO),
	IOCTL(VM, 1, UNREGISTER_COALESCED_MMIO),
	IOCTL(VM, 2, X86_SET_MSR_FILTER, .fill = fill_filter),
	IOCTL(VM, 1, SET_TSC_KHZ, .fill = fill_small),
	IOCTL(VM, 1, GET_NR_MMU_PAGES, .fill = fill_zero),
	IOCTL(VM, 1, REINJECT_CONTROL),
	IOCTL(VM, 2, RESET_DIRTY_RINGS, .fill = fill_zero),
	IOCTL(VM, 1, SET_NR_MMU_PAGES, .fill = fill_small),

	GET_SET(VCPU, 4, REGS), GET_SET(VCPU, 6, SREGS), GET_SET(VCPU, 2, FPU),
	GET_SET(VCPU, 4, LAPIC), GET_SET(VCPU, 3, VCPU_EVENTS), GET_SET(VCPU, 2, DEBUGREGS),
	GET_SET(VCPU, 2, XCRS), GET_SET(VCPU, 2, SREGS2),
	IOCTL(VCPU, 1, GET_XSAVE),
	IOCTL(VCPU, 1, GET_XSAVE2),
	IOCTL(VCPU, 3, SET_XSAVE, .get = KVM_GET_XSAVE),
	IOCTL(VCPU, 3, GET_MSRS, .fill = fill_msrs, .by_pointer = true),
	IOCTL(VCPU, 8, SET_MSRS, .fill = fill_msrs, .by_pointer = true),
	IOCTL(VCPU, 1, GET_CPUID2, .fill = fill_cpuid, .by_pointer = true),
	IOCTL(VCPU, 1, GET_MP_STATE),
	IOCTL(VCPU, 4, SET_MP_STATE, .fill = fill_mp_state),
	IOCTL(VCPU, 4, INTERRUPT, .fill = fill_small),
	IOCTL(VCPU, 4, NMI),
	IOCTL(VCPU, 1, SMI),
	IOCTL(VCPU, 2, SET_SIGNAL_MASK, .fill = fill_mask, .by_pointer = true),
	IOCTL(VCPU, 1, GET_TSC_KHZ),
	IOCTL(VCPU, 1, SET_TSC_KHZ, .fill = fill_small),
	IOCTL(VCPU, 2, TRANSLATE, .fill = fill_gpa),
	IOCTL(VCPU, 2, PRE_FAULT_MEMORY, .fill = fill_gpa),
	IOCTL(VCPU, 1, GET_DEVICE_ATTR, .fill = fill_attr),
	IOCTL(VCPU, 1, SET_DEVICE_ATTR, .fill = fill_attr),
	ACT(1, stats),
	IOCTL(VCPU, 3, SET_GUEST_DEBUG, .fill = fill_small),
	IOCTL(VCPU, 1, ENABLE_CAP, .fill = fill_cap),
	IOCTL(VCPU, 1, KVMCLOCK_CTRL),
	IOCTL(VCPU, 1, TPR_ACCESS_REPORTING),
	IOCTL(VCPU, 1, SET_VAPIC_ADDR),
	IOCTL(VCPU, 1, X86_SETUP_MCE, .fill = fill_small),
	IOCTL(VCPU, 1, X86_SET_MCE),
	{ "GET_EXITS", VCPU, 1, MINIKVM_GET_EXITS, .fill = fill_small, .by_pointer = true },
	{ "GET_DEATH", VCPU, 1, MINIKVM_GET_DEATH },
};

enum { NR_OPS = ARRAY_SIZE(ops) };

/* --- Calls --- */

/* Where the argument lies: in the middle of memory, at its end, or nowhere. */
static void *place(struct rng *r, u8 *arena, size_t bytes)
{
	switch (rng_below(r, 32)) {
	case 0: return NULL;
	case 1: return arena + ARENA - rng_below(r, bytes + 1);
	case 2: return (void *)(rng_next(r) | 1ull << 63);
	case 3 ... 8: return bytes <= ARENA ? arena + ARENA - bytes : arena;
	}
	return arena;
}

static int issue(const struct op *op, u8 who, struct rng *r, u8 *arena)
{
	int fd = op->on == DEVICE ? device : op->on == VM ? vm_of(who) : vcpu_of(who);
	bool pointer = op->by_pointer || _IOC_SIZE(op->request);
	size_t bytes = _IOC_SIZE(op->request);
	void *argument;
	u64 number = 0;

	if (!pointer) {
		if (op->fill)
			op->fill(r, &number);
		return ioctl(fd, op->request, number);
	}
	if (op->get || !op->fill)
		fill_random(r, arena, bytes < 256 ? bytes : 256);
	if (op->fill)
		op->fill(r, arena);
	if (op->get && !one_in(r, 8)) {
		ioctl(fd, op->get, arena);
		scramble(r, arena, bytes, rng_below(r, 5));
	} else if (one_in(r, 8)) {
		scramble(r, arena, bytes, 1 + rng_below(r, 3));
	}
	argument = place(r, arena, bytes);
	if (!op->by_pointer && argument > (void *)arena && argument + bytes == arena + ARENA)
		memmove(argument, arena, bytes);
	return ioctl(fd, op->request, argument);
}

/* Fault @n of this thread happens, or none. A tick would meet it on its way back. */
static void arm(u32 n)
{
	sigset_t tick;
	char text[16];
	int length = sprintf(text, "%u", n);

	sigemptyset(&tick);
	sigaddset(&tick, SIGUSR1);
	if (n)
		pthread_sigmask(SIG_BLOCK, &tick, NULL);
	while (pwrite(fail_nth, text, length, 0) != length)
		;
	if (!n)
		pthread_sigmask(SIG_UNBLOCK, &tick, NULL);
}

static const char *on_names[] = { "device", "vm", "vcpu", "" };

static void do_call(const struct call *c, u8 *arena, bool tell)
{
	const struct op *op = &ops[c->op % NR_OPS];
	struct rng r = rng_of(c->seed);
	bool fails = c->fail && op->on != NOTHING && fail_nth >= 0;
	int ret = 0, error;

	if (fails)
		arm(c->fail);
	errno = 0;
	if (op->act)
		op->act(&r, c->who);
	else
		ret = issue(op, c->who, &r, arena);
	error = errno;
	if (fails)
		arm(0);
	if (tell)
		printf("# %s%s %s %u%s%.0u: %d (%s)\n", c->thread == 1 ? "thread 1: " : "",
		       op->name, on_names[op->on], c->who, fails ? ", failing fault " : "",
		       fails ? c->fail : 0, ret, ret < 0 ? strerror(error) : "");
	__atomic_fetch_add(&tried[c->op % NR_OPS], 1, __ATOMIC_RELAXED);
	if (ret >= 0)
		__atomic_fetch_add(&worked[c->op % NR_OPS], 1, __ATOMIC_RELAXED);
}

/* --- Programs --- */

static u8 some_op(struct rng *r)
{
	static u32 total;
	u32 n, i;

	if (!total)
		for (i = 0; i < NR_OPS; i++)
			total += ops[i].weight;
	n = rng_below(r, total);
	for (i = 0; n >= ops[i].weight; i++)
		n -= ops[i].weight;
	return i;
}

static struct call some_call(struct rng *r)
{
	return (struct call){
		.op = some_op(r),
		.who = one_in(r, 3) ? rng_below(r, NR_VCPUS) : 0,
		.thread = rng_below(r, 2),
		.fail = one_in(r, 24) ? 1 + rng_below(r, 8) : 0,
		.seed = rng_next(r),
	};
}

static void add(struct program *p, struct call call)
{
	if (p->calls < MAX_CALLS)
		p->call[p->calls++] = call;
}

/* A VM that can run, and has an irqchip and a PIT or not. */
static void prologue(struct program *p, struct rng *r)
{
	static const u8 chances[8] = { 1, 2, 3, 1, 1, 1, 1, 2 };

	for (u8 op = 0; op < 8; op++) {
		if (!one_in(r, chances[op]))
			continue;
		add(p, (struct call){ .op = op, .thread = BEFORE, .seed = rng_next(r) });
		if (op == 4 && one_in(r, 2))
			add(p, (struct call){ .op = op, .who = 1, .thread = BEFORE,
					      .seed = rng_next(r) });
	}
}

static void mutate(struct program *p, u32 seed)
{
	struct rng r = rng_of(seed);

	for (u32 n = 1 + rng_below(&r, 4); n; n--) {
		u32 at = p->calls ? rng_below(&r, p->calls) : 0;
		struct call *c = &p->call[at];

		switch (rng_below(&r, 8)) {
		case 0: c->seed = rng_next(&r); break;
		case 1: c->who = rng_below(&r, NR_VCPUS); break;
		case 2: c->fail = rng_below(&r, 8); break;
		case 3: p->threads = !p->threads; break;
		case 4:
			if (p->calls > 1)
				memmove(c, c + 1, (--p->calls - at) * sizeof(*c));
			break;
		case 5:
			add(p, *c);	/* once more, later */
			break;
		default:
			if (p->calls >= MAX_CALLS)
				break;
			memmove(c + 1, c, (p->calls++ - at) * sizeof(*c));
			*c = some_call(&r);
			break;
		}
	}
}

static void build(struct program *p)
{
	struct rng r = rng_of(p->chain[0]);

	p->calls = 0;
	p->threads = one_in(&r, 2);
	prologue(p, &r);
	for (u32 n = 2 + rng_below(&r, 24); n; n--)
		add(p, some_call(&r));
	for (u32 i = 1; i < p->links; i++)
		mutate(p, p->chain[i]);
}

static const char *program_text(const struct program *p)
{
	static char text[16 * MAX_CHAIN];
	int n = 0;

	for (u32 i = 0; i < p->links; i++)
		n += sprintf(text + n, "%s%x", i ? "." : "", p->chain[i]);
	return text;
}

/* --- Running a program --- */

struct lane {
	const struct program *p;
	int number;
	bool tell;
};

static void lane_begin(int number)
{
	tick_start(2000);
	if (access("/proc/thread-self/fail-nth", W_OK) == 0)
		fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	cover_enable(number);
}

static u8 *arena_new(void)
{
	u8 *arena = mmap(NULL, ARENA + PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(arena + ARENA, PAGE);	/* what goes beyond it faults */
	return arena;
}

static void *lane_run(void *data)
{
	struct lane *lane = data;
	const struct program *p = lane->p;
	u8 *arena = arena_new();

	if (lane->number)
		lane_begin(lane->number);
	for (u32 i = 0; i < p->calls; i++) {
		int thread = p->threads ? p->call[i].thread : 0;

		if (p->call[i].thread != BEFORE && thread == lane->number)
			do_call(&p->call[i], arena, lane->tell);
	}
	return NULL;
}

static void child_run(const struct program *p, bool tell)
{
	struct lane lanes[2] = { { p, 0, tell }, { p, 1, tell } };
	u8 *arena = arena_new();
	pthread_t second;

	signal(SIGCHLD, SIG_IGN);
	memset((void *)vms, -1, sizeof(vms));
	memset((void *)vcpus, -1, sizeof(vcpus));
	for (int i = 0; i < NR_EVENTS; i++)
		events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	memory = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	memory = (u8 *)(((uintptr_t)memory + HUGE - 1) & -HUGE);
	madvise(memory, 2 * HUGE, MADV_NOHUGEPAGE);	/* whose clearing takes its time */
	device = device_open();
	lane_begin(0);
	for (u32 i = 0; i < p->calls; i++)
		if (p->call[i].thread == BEFORE)
			do_call(&p->call[i], arena, tell);
	if (p->threads && pthread_create(&second, NULL, lane_run, &lanes[1]))
		_exit(1);
	lane_run(&lanes[0]);
	if (p->threads)
		pthread_join(second, NULL);
	_exit(0);
}

/* A sentence about what went wrong, or NULL. */
static const char *program_run(struct program *p, bool tell)
{
	static char why[320];
	const char *complaint;
	enum child end;
	int status = 0;
	pid_t pid;

	build(p);
	cover_begin();
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return "fork fails";
	if (!pid)
		child_run(p, tell);
	end = child_wait(pid, 30, &status);
	complaint = kernel_complaint();
	if (complaint) {
		snprintf(why, sizeof(why), "the kernel says \"%s\"", complaint);
		return why;
	}
	/* An odd mapping of its own may end it: SIGSEGV and SIGBUS are its affair. */
	return end == CHILD_STUCK ? "it cannot be killed" :
	       end == CHILD_KILLED ? "it does not end by itself" : NULL;
}

static struct {
	u32 chain[MAX_CHAIN];
	u32 links;
} corpus[MAX_CORPUS];
static u32 nr_corpus;

/* One of the kept ones with another link, or a new one. */
static void program_choose(struct program *p, struct rng *r)
{
	if (nr_corpus && !one_in(r, 4)) {
		/* The newest more often than the rest. */
		u32 recent = nr_corpus < 32 ? nr_corpus : 32;
		u32 at = one_in(r, 2) ? rng_below(r, nr_corpus) :
			 nr_corpus - 1 - rng_below(r, recent);

		memcpy(p->chain, corpus[at].chain, sizeof(p->chain));
		p->links = corpus[at].links;
		if (p->links < MAX_CHAIN) {
			p->chain[p->links++] = rng_next(r) >> 40;
			return;
		}
	}
	p->chain[0] = rng_next(r) >> 32;
	p->links = 1;
}

/* One program, given as text, a number of times. */
static const char *repeat(const char *text)
{
	static struct program p;
	const char *why = NULL;
	char *next = (char *)text;

	while (p.links < MAX_CHAIN && *next) {
		p.chain[p.links++] = strtoul(next, &next, 16);
		next += *next == '.';
	}
	for (u64 n = fuzz_setting("MINIKVM_FUZZ_REPEAT", 1); n && !why; n--)
		why = program_run(&p, n == 1);
	return why;
}

int main(int argc, char **argv)
{
	const char *one = getenv("MINIKVM_FUZZ_PROGRAM"), *why;
	u64 end, programs = 0, calls = 0, good = 0, limit, findings = 0;
	struct program p = {};
	struct rng r;
	bool has_cover;
	u32 seed;

	device_init(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);	/* a child that ends says all of it */
	ksft_print_header();
	ksft_set_plan(1);
	/* A guest with interrupts off would keep Bochs for good. */
	no_entry = !guests_may_enter();
	/* Bochs is slow. */
	limit = fuzz_setting("MINIKVM_FUZZ_PROGRAMS", host_is_vmx() ? 40 : ~0ull);
	seed = fuzz_seed();
	r = rng_of(seed);
	tried = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	worked = tried + PAGE / 4;
	fuzz_faults();
	has_cover = cover_open();
	kernel_complaint();
	if (one) {
		why = repeat(one);
		ksft_test_result(!why, "program %s: %s\n", one, why ?: "nothing happens");
		why ? ksft_exit_fail() : ksft_exit_pass();
	}

	end = now_ms() + 1000 * fuzz_setting("MINIKVM_FUZZ_SECONDS", 25);
	while (programs < limit && now_ms() < end && findings < 5) {
		program_choose(&p, &r);
		if (getenv("MINIKVM_FUZZ_VERBOSE"))
			printf("fuzz: MINIKVM_FUZZ_PROGRAM=%s\n", program_text(&p));
		why = program_run(&p, false);
		programs++;
		if (why) {
			findings++;
			ksft_print_msg("%s: to repeat: MINIKVM_FUZZ_PROGRAM=%s%s\n", why,
				       program_text(&p), p.threads ? " (two threads)" : "");
		}
		if (cover_end() && nr_corpus < MAX_CORPUS) {
			memcpy(corpus[nr_corpus].chain, p.chain, sizeof(p.chain));
			corpus[nr_corpus++].links = p.links;
		}
	}
	for (u32 i = 0; i < NR_OPS; i++) {
		calls += tried[i];
		good += worked[i];
		if (getenv("MINIKVM_FUZZ_VERBOSE") && tried[i] && !worked[i])
			ksft_print_msg("never worked: %s\n", ops[i].name);
	}
	ksft_print_msg("MINIKVM_SEED=%u: %llu programs, %llu calls, %llu of them worked\n", seed,
		       programs, calls, good);
	if (has_cover)
		ksft_print_msg("%u programs that reached new code are kept\n", nr_corpus);
	cover_report();
	ksft_test_result(!findings, "%llu programs of calls, and the host is as it was\n", programs);
	findings ? ksft_exit_fail() : ksft_exit_pass();
}
