// SPDX-License-Identifier: GPL-2.0
/*
 * Every call of the ABI, with its first allocation or copy failing, then its
 * second, and so on until there is none left to fail. The call has to return an
 * errno, or get by without; the VM is as good afterwards as it was before, and
 * nothing is left behind. KVM_RUN may come out with an errno, and the guest
 * goes on with the next one as if nothing had happened.
 *
 * The kernel injects the faults: Documentation/fault-injection of its source,
 * "fail-nth". Debian's kernels cannot; the debug kernel can.
 */
#include <dirent.h>
#include <sys/eventfd.h>
#include <kselftest_harness.h>
#include "guest.h"
#include "../uapi/minikvm.h"

#define MOST	1000		/* faults in one call: there is an end to everything */
#define GPA	0x40000000ul

/* --- The kernel's side --- */

static int fail_nth = -1;

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

/* By default only what need not succeed is made to fail, and says so at length. */
static void choose_faults(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	static const char *const off[] = {
		"verbose", "ignore-gfp-wait", "ignore-gfp-highmem", "min-order",
	};
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		for (size_t j = 0; j < ARRAY_SIZE(off); j++) {
			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", kinds[i], off[j]);
			set(path, j == 1 || j == 2 ? "N" : "0");
		}
}

/* It is the thread's that opens it. */
static void open_fail_nth(void)
{
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_nth < 0)
		die("fail-nth: %s", strerror(errno));
}

static void arm(unsigned int n)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(fail_nth, text, length, 0) != length)
		die("fail-nth: %s", strerror(errno));
}

/* Was it injected? The answer itself is copied, which may be what fails. */
static bool disarm(void)
{
	char left[16] = "";
	bool injected = pread(fail_nth, left, sizeof(left) - 1, 0) > 0 && atoi(left) == 0;

	while (pwrite(fail_nth, "0", 1, 0) != 1)
		;
	return injected;
}

/* --- Walking one call --- */

/* A VM beside the guest's, where that has already what is to be made. */
static int empty_vm = -1;

/* What the tests have injected, each in a process of its own. */
static unsigned int *in_all;

struct path {
	unsigned int with;	/* WITH_* of guest_create() */
	int (*prepare)(struct guest *g);	/* negative: there is no such call here */
	int (*call)(struct guest *g);		/* -errno */
	void (*undo)(struct guest *g);		/* after it succeeded */
};

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

static const char *const modules[] = { "minikvm", "kvm_amd", "kvm_intel" };

static int references(void)
{
	char path[64];
	int sum = 0, count;

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		file = fopen(path, "r");
		if (file && fscanf(file, "%d", &count) == 1)
			sum += count;
		if (file)
			fclose(file);
	}
	return sum;
}

GUEST_ASM(write_and_stop, 64,
	"	mov $0x700000, %edi\n"
	"	mov $16, %ecx\n"
	"1:	movl $1, (%rdi)\n"
	"	add $4096, %edi\n"
	"	loop 1b\n"
	"	mov $0x510, %edx\n"
	"	outb %al, %dx\n");

static void still_works(struct guest *g)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

	must(g->vcpu, KVM_SET_MP_STATE, &runnable);
	guest_load(g, write_and_stop);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_run_to(g, KVM_EXIT_IO);
	if (g->run->io.port != PORT_DONE || *(u32 *)guest_at(g, 0x700000) != 1)
		die_of_exit(g, "the guest's end");
	*(u32 *)guest_at(g, 0x700000) = 0;
}

static bool is_legal(int ret)
{
	return ret >= 0 || ret == -ENOMEM || ret == -EFAULT || ret == -EINTR || ret == -EAGAIN;
}

static int create(struct guest *g, const struct path *path)
{
	guest_create(g, path->with);
	return path->prepare ? path->prepare(g) : 0;
}

static void walk(struct __test_metadata *_metadata, const struct path *path)
{
	unsigned int n, failed = 0, survived = 0;
	int before = references(), files, ret;
	bool injected = true;
	struct guest g;

	open_fail_nth();
	if (create(&g, path) < 0) {
		guest_destroy(&g);
		SKIP(return, "this device has no such call");
	}
	for (n = 1; injected && n < MOST; n++) {
		files = open_files();
		arm(n);
		ret = path->call(&g);
		injected = disarm();
		EXPECT_TRUE(is_legal(ret))
			TH_LOG("with fault %u it returns %d", n, ret);
		if (ret >= 0 && path->undo)
			path->undo(&g);
		EXPECT_EQ(open_files(), files)
			TH_LOG("with fault %u it leaves a descriptor", n);
		if (injected)
			ret < 0 ? failed++ : survived++;
		else
			EXPECT_GE(ret, 0);
		if (injected && ret < 0) {
			ret = path->call(&g);
			EXPECT_GE(ret, 0)
				TH_LOG("after fault %u it returns %d for ever", n, ret);
			if (ret >= 0 && path->undo)
				path->undo(&g);
		}
		still_works(&g);
	}
	guest_destroy(&g);
	if (empty_vm >= 0)
		close(empty_vm);
	EXPECT_LT(n, MOST);
	EXPECT_EQ(references(), before);
	*in_all += failed + survived;
	TH_LOG("%u faults: %u failed, %u got by", failed + survived, failed, survived);
}

/* FAULTS(name, .with = ..., ...): a test that walks the call it is given. */
#define FAULTS(name, ...) \
	TEST_TIMEOUT(name, 300) { walk(_metadata, &(struct path){ __VA_ARGS__ }); }

/* 6.1's harness has a timeout for fixtures alone. */
#ifndef TEST_TIMEOUT
FIXTURE(faults) { };
FIXTURE_SETUP(faults) { }
FIXTURE_TEARDOWN(faults) { }
#define TEST_TIMEOUT(name, seconds)	TEST_F_TIMEOUT(faults, name, seconds)
#endif

/* --- Calls that read or write one struct --- */

static union {
	u8 bytes[16384];
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid;
	struct {
		struct kvm_msr_list head;
		u32 list[512];
	} msr_list;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[4];
	} msrs;
	struct {
		struct kvm_signal_mask head;
		u8 mask[8];
	} signals;
	struct kvm_irqchip irqchip;
	struct kvm_x86_mce mce;
	struct kvm_enable_cap cap;
	struct kvm_interrupt interrupt;
	struct kvm_msr_filter filter;
	struct kvm_pre_fault_memory pre_fault;
	struct kvm_userspace_memory_region2 region2;
	struct kvm_coalesced_mmio_zone zone;
	struct kvm_device_attr attr;
	struct minikvm_exits exits;
	u64 number;
} arg;

/* What some of them point to. */
static u8 all_ones[8] = { 0xff };
static u64 tsc_offset;
static u8 elsewhere[16 * PAGE] __attribute__((aligned(PAGE)));

enum on { DEVICE, THE_VM, VCPU };

static int descriptor(struct guest *g, enum on on)
{
	return on == DEVICE ? g->kvm : on == THE_VM ? g->vm : g->vcpu;
}

static void prepare_arg(unsigned long request)
{
	memset(&arg, 0, sizeof(arg));
	switch (request) {
	case KVM_GET_SUPPORTED_CPUID:
	case KVM_GET_CPUID2:
		arg.cpuid.head.nent = ARRAY_SIZE(arg.cpuid.entries);
		break;
	case KVM_GET_MSR_INDEX_LIST:
		arg.msr_list.head.nmsrs = ARRAY_SIZE(arg.msr_list.list);
		break;
	case KVM_GET_MSRS:
		arg.msrs.head.nmsrs = 3;
		arg.msrs.entries[0].index = 0x174;
		arg.msrs.entries[1].index = 0x277;
		arg.msrs.entries[2].index = 0xc0000081;
		break;
	case KVM_SET_SIGNAL_MASK:
		arg.signals.head.len = sizeof(arg.signals.mask);
		break;
	case MINIKVM_GET_EXITS:
		arg.exits.nr = 100;
		break;
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		arg.msr_list.head.nmsrs = ARRAY_SIZE(arg.msr_list.list);
		break;
	case KVM_X86_SETUP_MCE:
		arg.number = 10;	/* banks */
		break;
	case KVM_X86_SET_MCE:
		arg.mce.status = BIT(63);
		arg.mce.bank = 1;
		break;
	case KVM_ENABLE_CAP:
		arg.cap.cap = KVM_CAP_X86_USER_SPACE_MSR;
		arg.cap.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN;
		break;
	case KVM_INTERRUPT:
		arg.interrupt.irq = 0x20;
		break;
	case KVM_X86_SET_MSR_FILTER:
		arg.filter.ranges[0] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_READ, .base = 0x174, .nmsrs = 3, .bitmap = all_ones };
		break;
	case KVM_PRE_FAULT_MEMORY:
		arg.pre_fault.size = HUGE;
		break;
	case KVM_SET_USER_MEMORY_REGION2:
		arg.region2.slot = 2;
		arg.region2.guest_phys_addr = GPA + 2 * HUGE;
		arg.region2.memory_size = sizeof(elsewhere);
		arg.region2.userspace_addr = (uintptr_t)elsewhere;
		break;
	case KVM_REGISTER_COALESCED_MMIO:
	case KVM_UNREGISTER_COALESCED_MMIO:
		arg.zone.addr = GUEST_MMIO + 2 * PAGE;
		arg.zone.size = 8;
		break;
	case KVM_HAS_DEVICE_ATTR:
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
		arg.attr.group = KVM_VCPU_TSC_CTRL;
		arg.attr.attr = KVM_VCPU_TSC_OFFSET;
		arg.attr.addr = (uintptr_t)&tsc_offset;
		break;
	}
}

static int ask(struct guest *g, enum on on, unsigned long request)
{
	return outcome(ioctl(descriptor(g, on), request, &arg));
}

/* "There is no such call" is told by a try that nothing disturbs; stock KVM has two words for it. */
static bool is_absent(int ret)
{
	return ret == -ENOTTY || ret == -EINVAL;
}

#define ONE(name, with_, on, request)						\
	static int prepare_##name(struct guest *g)				\
	{									\
		prepare_arg(request);						\
		return is_absent(ask(g, on, request)) ? -1 : 0;			\
	}									\
	static int call_##name(struct guest *g)					\
	{									\
		return ask(g, on, request);					\
	}									\
	FAULTS(name, .with = with_, .prepare = prepare_##name, .call = call_##name)

/* Without XSAVE there is an XCR0 to ask for, and none to set. */
static bool cannot_set(unsigned long request, int ret)
{
	return ret == -ENOTTY ||
	       (ret == -EINVAL && request == KVM_SET_XCRS && !device_has(KVM_CAP_XCRS));
}

/* A state that is written is first read. */
#define PAIR(name, with_, on, get_request, set_request)				\
	ONE(get_##name, with_, on, get_request)					\
	static int prepare_set_##name(struct guest *g)				\
	{									\
		prepare_arg(get_request);					\
		if (ask(g, on, get_request) < 0)				\
			return -1;						\
		return cannot_set(set_request, ask(g, on, set_request)) ? -1 : 0; \
	}									\
	static int call_set_##name(struct guest *g)				\
	{									\
		return ask(g, on, set_request);					\
	}									\
	FAULTS(set_##name, .with = with_, .prepare = prepare_set_##name,	\
	       .call = call_set_##name)

ONE(get_supported_cpuid, 0, DEVICE, KVM_GET_SUPPORTED_CPUID)
ONE(get_msr_index_list, 0, DEVICE, KVM_GET_MSR_INDEX_LIST)
ONE(get_msr_feature_index_list, 0, DEVICE, KVM_GET_MSR_FEATURE_INDEX_LIST)
ONE(get_mce_cap_supported, 0, DEVICE, KVM_X86_GET_MCE_CAP_SUPPORTED)
ONE(minikvm_get_host, 0, DEVICE, MINIKVM_GET_HOST)

PAIR(irqchip, WITH_IRQCHIP, THE_VM, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP)
PAIR(pit, WITH_PIT, THE_VM, KVM_GET_PIT, KVM_SET_PIT)
PAIR(pit2, WITH_PIT, THE_VM, KVM_GET_PIT2, KVM_SET_PIT2)
PAIR(clock, 0, THE_VM, KVM_GET_CLOCK, KVM_SET_CLOCK)
ONE(irq_line, WITH_IRQCHIP, THE_VM, KVM_IRQ_LINE)
ONE(irq_line_status, WITH_IRQCHIP, THE_VM, KVM_IRQ_LINE_STATUS)
ONE(enable_cap, 0, THE_VM, KVM_ENABLE_CAP)
ONE(set_msr_filter, 0, THE_VM, KVM_X86_SET_MSR_FILTER)
ONE(set_user_memory_region2, 0, THE_VM, KVM_SET_USER_MEMORY_REGION2)
ONE(register_coalesced_mmio, 0, THE_VM, KVM_REGISTER_COALESCED_MMIO)
ONE(unregister_coalesced_mmio, 0, THE_VM, KVM_UNREGISTER_COALESCED_MMIO)

PAIR(regs, 0, VCPU, KVM_GET_REGS, KVM_SET_REGS)
PAIR(sregs, 0, VCPU, KVM_GET_SREGS, KVM_SET_SREGS)
PAIR(fpu, 0, VCPU, KVM_GET_FPU, KVM_SET_FPU)
PAIR(xsave, 0, VCPU, KVM_GET_XSAVE, KVM_SET_XSAVE)
PAIR(xcrs, 0, VCPU, KVM_GET_XCRS, KVM_SET_XCRS)
PAIR(debugregs, 0, VCPU, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS)
PAIR(vcpu_events, 0, VCPU, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS)
PAIR(msrs, 0, VCPU, KVM_GET_MSRS, KVM_SET_MSRS)
PAIR(cpuid2, 0, VCPU, KVM_GET_CPUID2, KVM_SET_CPUID2)
PAIR(lapic, WITH_IRQCHIP, VCPU, KVM_GET_LAPIC, KVM_SET_LAPIC)
PAIR(mp_state, WITH_IRQCHIP, VCPU, KVM_GET_MP_STATE, KVM_SET_MP_STATE)
PAIR(sregs2, 0, VCPU, KVM_GET_SREGS2, KVM_SET_SREGS2)
PAIR(device_attr, 0, VCPU, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR)
ONE(has_device_attr, 0, VCPU, KVM_HAS_DEVICE_ATTR)
ONE(get_xsave2, 0, VCPU, KVM_GET_XSAVE2)
ONE(setup_mce, 0, VCPU, KVM_X86_SETUP_MCE)
ONE(set_mce, 0, VCPU, KVM_X86_SET_MCE)
ONE(set_guest_debug, 0, VCPU, KVM_SET_GUEST_DEBUG)
ONE(interrupt, 0, VCPU, KVM_INTERRUPT)
ONE(translate, 0, VCPU, KVM_TRANSLATE)
ONE(set_vapic_addr, WITH_IRQCHIP, VCPU, KVM_SET_VAPIC_ADDR)
ONE(set_signal_mask, 0, VCPU, KVM_SET_SIGNAL_MASK)
ONE(minikvm_get_exits, 0, VCPU, MINIKVM_GET_EXITS)
ONE(minikvm_get_death, 0, VCPU, MINIKVM_GET_DEATH)

/* It tells in its argument how far it got. */
static int call_pre_fault(struct guest *g)
{
	prepare_arg(KVM_PRE_FAULT_MEMORY);
	return ask(g, VCPU, KVM_PRE_FAULT_MEMORY);
}

FAULTS(pre_fault_memory, .prepare = call_pre_fault, .call = call_pre_fault)

/* --- Descriptors --- */

static int opened = -1;

static void close_it(struct guest *g)
{
	close(opened);
}

static int call_open(struct guest *g)
{
	opened = open(device_name(), O_RDWR | O_CLOEXEC);
	return opened < 0 ? -errno : 0;
}

FAULTS(open, .call = call_open, .undo = close_it)

static int call_create_vm(struct guest *g)
{
	opened = ioctl(g->kvm, KVM_CREATE_VM, 0);
	return opened < 0 ? -errno : 0;
}

FAULTS(create_vm, .call = call_create_vm, .undo = close_it)

/* The vCPU that guest_create() makes is in the way. */
static int prepare_empty_vm(struct guest *g)
{
	if (empty_vm >= 0)
		close(empty_vm);
	empty_vm = must(g->kvm, KVM_CREATE_VM, 0);
	return 0;
}

static void another_vm(struct guest *g)
{
	if (opened >= 0)
		close(opened);
	opened = -1;
	prepare_empty_vm(g);
}

static int call_create_vcpu(struct guest *g)
{
	opened = ioctl(empty_vm, KVM_CREATE_VCPU, 0);
	return opened < 0 ? -errno : 0;
}

static int prepare_board(struct guest *g)
{
	prepare_empty_vm(g);
	must(empty_vm, KVM_CREATE_IRQCHIP, 0);
	return 0;
}

static void another_board(struct guest *g)
{
	close(opened);
	prepare_board(g);
}

static int call_create_irqchip(struct guest *g)
{
	return outcome(ioctl(empty_vm, KVM_CREATE_IRQCHIP, 0));
}

static int call_create_pit(struct guest *g)
{
	return outcome(ioctl(empty_vm, KVM_CREATE_PIT, 0));
}

static int call_create_pit2(struct guest *g)
{
	struct kvm_pit_config config = { };

	return outcome(ioctl(empty_vm, KVM_CREATE_PIT2, &config));
}

static void pit_undo(struct guest *g)
{
	prepare_board(g);
}

static int call_identity_map(struct guest *g)
{
	u64 address = 0xfffbc000;

	return outcome(ioctl(empty_vm, KVM_SET_IDENTITY_MAP_ADDR, &address));
}

FAULTS(create_vcpu, .prepare = prepare_empty_vm, .call = call_create_vcpu, .undo = another_vm)
FAULTS(create_vcpu_with_lapic, .prepare = prepare_board, .call = call_create_vcpu,
       .undo = another_board)
FAULTS(create_irqchip, .prepare = prepare_empty_vm, .call = call_create_irqchip,
       .undo = another_vm)
FAULTS(create_pit, .prepare = prepare_board, .call = call_create_pit, .undo = pit_undo)
FAULTS(create_pit2, .prepare = prepare_board, .call = call_create_pit2, .undo = pit_undo)
FAULTS(set_identity_map_addr, .prepare = prepare_empty_vm, .call = call_identity_map)

static int prepare_rings(struct guest *g)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { 8 * PAGE } };

	prepare_empty_vm(g);
	return ioctl(empty_vm, KVM_ENABLE_CAP, &cap);
}

static void another_ring(struct guest *g)
{
	close(opened);
	opened = -1;
	prepare_rings(g);
}

FAULTS(create_vcpu_with_ring, .prepare = prepare_rings, .call = call_create_vcpu,
       .undo = another_ring)

static int prepare_second_vcpu(struct guest *g)
{
	prepare_board(g);
	close(must(empty_vm, KVM_CREATE_VCPU, 0));
	opened = ioctl(empty_vm, KVM_CREATE_VCPU, 1);
	if (opened < 0)
		return -1;
	close(opened);
	prepare_board(g);
	close(must(empty_vm, KVM_CREATE_VCPU, 0));
	return 0;
}

static int call_second_vcpu(struct guest *g)
{
	opened = ioctl(empty_vm, KVM_CREATE_VCPU, 1);
	return opened < 0 ? -errno : 0;
}

static void another_second(struct guest *g)
{
	close(opened);
	prepare_board(g);
	close(must(empty_vm, KVM_CREATE_VCPU, 0));
}

FAULTS(create_second_vcpu, .prepare = prepare_second_vcpu, .call = call_second_vcpu,
       .undo = another_second)

static int call_stats(struct guest *g)
{
	opened = ioctl(g->vcpu, KVM_GET_STATS_FD, NULL);
	return opened < 0 ? -errno : 0;
}

static int call_read_stats(struct guest *g)
{
	u8 all[8192];
	int ret;

	ret = call_stats(g);
	if (ret)
		return ret;
	ret = pread(opened, all, sizeof(all), 0) < 0 ? -errno : 0;
	close(opened);
	return ret;
}

FAULTS(get_stats_fd, .call = call_stats, .undo = close_it)
FAULTS(read_stats, .call = call_read_stats)

static void *mapped;

static int call_mmap(struct guest *g)
{
	mapped = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	return 0;
}

static void unmap(struct guest *g)
{
	munmap(mapped, g->run_size);
}

FAULTS(mmap_of_kvm_run, .call = call_mmap, .undo = unmap)

/* --- Memory slots --- */

static u8 *memory;		/* HUGE bytes, aligned */

static int prepare_memory(struct guest *g)
{
	u8 *area = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	memory = (u8 *)(((uintptr_t)area + HUGE - 1) & -HUGE);
	return 0;
}

static int slot_at(struct guest *g, u64 gpa, u64 bytes, u32 flags)
{
	return guest_slot(g, 1, gpa, memory, bytes, flags);
}

static int call_add_slot(struct guest *g) { return slot_at(g, GPA, HUGE, 0); }
static int call_add_logged(struct guest *g)
{
	return slot_at(g, GPA, HUGE, KVM_MEM_LOG_DIRTY_PAGES);
}
static void delete_slot(struct guest *g) { slot_at(g, GPA, 0, 0); }

FAULTS(add_slot, .prepare = prepare_memory, .call = call_add_slot, .undo = delete_slot)
FAULTS(add_slot_with_log, .prepare = prepare_memory, .call = call_add_logged,
       .undo = delete_slot)

static int prepare_slot(struct guest *g)
{
	prepare_memory(g);
	return slot_at(g, GPA, HUGE, 0);
}

static int call_delete_slot(struct guest *g) { return slot_at(g, GPA, 0, 0); }
static void add_slot(struct guest *g) { slot_at(g, GPA, HUGE, 0); }
static int call_move_slot(struct guest *g) { return slot_at(g, GPA + HUGE, HUGE, 0); }
static void move_back(struct guest *g) { slot_at(g, GPA, HUGE, 0); }

FAULTS(delete_slot, .prepare = prepare_slot, .call = call_delete_slot, .undo = add_slot)
FAULTS(move_slot, .prepare = prepare_slot, .call = call_move_slot, .undo = move_back)
FAULTS(start_to_log, .prepare = prepare_slot, .call = call_add_logged, .undo = move_back)

static int prepare_logged(struct guest *g)
{
	prepare_memory(g);
	return call_add_logged(g);
}

static void log_again(struct guest *g) { call_add_logged(g); }

FAULTS(stop_to_log, .prepare = prepare_logged, .call = call_add_slot, .undo = log_again)

static int call_get_log(struct guest *g)
{
	u64 bits[HUGE / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

	return outcome(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
}

FAULTS(get_dirty_log, .prepare = prepare_logged, .call = call_get_log)

static int call_clear_log(struct guest *g)
{
	u64 bits[HUGE / PAGE / 64] = { ~0ull };
	struct kvm_clear_dirty_log log = {
		.slot = 1, .num_pages = HUGE / PAGE, .dirty_bitmap = bits };

	return outcome(ioctl(g->vm, KVM_CLEAR_DIRTY_LOG, &log));
}

static int prepare_clear_log(struct guest *g)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };

	if (ioctl(g->vm, KVM_ENABLE_CAP, &cap))
		return -1;
	return prepare_logged(g);
}

FAULTS(clear_dirty_log, .prepare = prepare_clear_log, .call = call_clear_log)

/* --- KVM_RUN --- */

static volatile u64 came_to;	/* how far the guest is, and that it was there once */

static u32 guest_touches(u64 step)
{
	for (u64 at = 0; at < HUGE; at += step) {
		*(volatile u64 *)(GPA + at) = at + 1;
		came_to++;
	}
	return came_to;
}

static u32 guest_uses_devices(u64 unused)
{
	static u8 string[64] = "written to a port";
	u8 *to = string, *from = string;
	u64 count = sizeof(string);

	mmio_write(GUEST_MMIO, 0x1234);
	came_to++;
	guest_equal(mmio_read(GUEST_MMIO + 4), 0x5678);
	came_to++;
	outb(0x80, 0x12);
	guest_equal(inb(0x81), 0x34);
	came_to++;
	asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x82) : "memory");
	count = sizeof(string);
	asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x83) : "memory");
	for (size_t i = 0; i < sizeof(string); i++)
		guest_equal(string[i], 0x34);
	/* Across pages that are not there yet. */
	*(volatile u64 *)(GPA + PAGE - 4) = 1;
	mmio_write(GUEST_MMIO + 8, *(volatile u32 *)(GPA + 8 * PAGE));
	return ++came_to;
}

static void answer_device(struct guest *g)
{
	struct kvm_run *run = g->run;

	if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
		memcpy(run->mmio.data, &(u32){ 0x5678 }, 4);
	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		memset(guest_io_data(g), 0x34, run->io.size * run->io.count);
}

/*
 * From the beginning to the end of a guest. One KVM_RUN of all may have the
 * fault in it; what comes out with an errno is only done again.
 */
static int run_all(struct guest *g, u32 (*function)(u64), u64 argument, unsigned int n,
		   bool *injected)
{
	unsigned int errors = 0;
	u32 value;

	/* Nothing is there, neither of the host's tables nor of ours. */
	madvise(memory, HUGE, MADV_DONTNEED);
	madvise(g->mem, g->mem_size, MADV_DONTNEED);
	guest_call(g, function, argument);
	arm(n);
	for (;;) {
		int ret = outcome(ioctl(g->vcpu, KVM_RUN, 0));

		if (ret < 0) {
			if (!is_legal(ret) || ++errors > 2)
				break;
			continue;
		}
		if (g->run->exit_reason == KVM_EXIT_IO && g->run->io.port >= PORT_DONE)
			break;
		if (g->run->exit_reason != KVM_EXIT_MMIO && g->run->exit_reason != KVM_EXIT_IO)
			break;
		answer_device(g);
	}
	*injected = disarm();
	if (errors > 2)
		die("fault %u: KVM_RUN fails for ever", n);
	if (guest_port(g, &value) != PORT_DONE)
		die_of_exit(g, "the guest's end");
	return *guest_var(g, came_to) == value ? (int)errors : -1;
}

static void walk_run(struct __test_metadata *_metadata, unsigned int with, u32 flags,
		     u32 (*function)(u64), u64 argument)
{
	unsigned int n, came_out = 0, unseen = 0;
	int before = references();
	bool injected = true;
	struct guest g;

	open_fail_nth();
	guest_create(&g, with);
	if (!device_is_minikvm()) {
		guest_destroy(&g);
		SKIP(return, "stock KVM lets the guest die of some of these");
	}
	prepare_memory(&g);
	slot_at(&g, GPA, HUGE, flags);
	for (n = 1; injected && n < MOST; n++) {
		int errors = run_all(&g, function, argument, n, &injected);

		EXPECT_GE(errors, 0);
		if (injected)
			errors > 0 ? came_out++ : unseen++;
		for (u64 at = 0; function == guest_touches && at < HUGE; at += argument) {
			ASSERT_EQ(*(u64 *)(memory + at), at + 1);
		}
	}
	guest_destroy(&g);
	EXPECT_LT(n, MOST);
	EXPECT_EQ(references(), before);
	*in_all += came_out + unseen;
	TH_LOG("%u faults: %u came out, %u were not seen", came_out + unseen, came_out, unseen);
}

TEST_TIMEOUT(run_with_first_touches, 300)
{
	walk_run(_metadata, 0, 0, guest_touches, 32 * PAGE);
}

TEST_TIMEOUT(run_with_first_touches_logged, 300)
{
	walk_run(_metadata, WITH_IRQCHIP, KVM_MEM_LOG_DIRTY_PAGES, guest_touches, 32 * PAGE);
}

TEST_TIMEOUT(run_with_devices, 300)
{
	walk_run(_metadata, WITH_IRQCHIP | WITH_PIT, 0, guest_uses_devices, 0);
}

/* --- Interrupts from outside --- */

static int call_routing(struct guest *g)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[2];
	} table = {
		.head.nr = 2,
		.entries = {
			{ .gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP,
			  .u.irqchip = { KVM_IRQCHIP_IOAPIC, 5 } },
			{ .gsi = 30, .type = KVM_IRQ_ROUTING_MSI,
			  .u.msi = { .address_lo = 0xfee00000, .data = 0x41 } },
		},
	};

	return outcome(ioctl(g->vm, KVM_SET_GSI_ROUTING, &table));
}

static int prepare_routing(struct guest *g)
{
	return call_routing(g) == -ENOTTY ? -1 : 0;
}

FAULTS(set_gsi_routing, .with = WITH_IRQCHIP, .prepare = prepare_routing, .call = call_routing)

static int call_signal_msi(struct guest *g)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x41 };

	return outcome(ioctl(g->vm, KVM_SIGNAL_MSI, &msi));
}

static int prepare_signal_msi(struct guest *g)
{
	return call_signal_msi(g) == -ENOTTY ? -1 : 0;
}

FAULTS(signal_msi, .with = WITH_IRQCHIP, .prepare = prepare_signal_msi, .call = call_signal_msi)

static int event = -1;

static int irqfd(struct guest *g, u32 flags)
{
	struct kvm_irqfd irqfd = { .fd = event, .gsi = 5, .flags = flags };

	return outcome(ioctl(g->vm, KVM_IRQFD, &irqfd));
}

static int call_irqfd(struct guest *g) { return irqfd(g, 0); }
static int call_no_irqfd(struct guest *g) { return irqfd(g, KVM_IRQFD_FLAG_DEASSIGN); }
static void remove_irqfd(struct guest *g) { call_no_irqfd(g); }
static void add_irqfd(struct guest *g) { call_irqfd(g); }

static int prepare_event(struct guest *g)
{
	if (event < 0)
		event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return event;
}

static int prepare_irqfd(struct guest *g)
{
	prepare_event(g);
	if (call_irqfd(g) < 0)
		return -1;
	call_no_irqfd(g);
	return 0;
}

static int prepare_no_irqfd(struct guest *g)
{
	prepare_event(g);
	return call_irqfd(g);
}

FAULTS(irqfd_assign, .with = WITH_IRQCHIP, .prepare = prepare_irqfd, .call = call_irqfd,
       .undo = remove_irqfd)
FAULTS(irqfd_deassign, .with = WITH_IRQCHIP, .prepare = prepare_no_irqfd,
       .call = call_no_irqfd, .undo = add_irqfd)

static int ioeventfd(struct guest *g, u32 flags)
{
	struct kvm_ioeventfd doorbell = {
		.fd = event, .addr = GUEST_MMIO + PAGE, .len = 4, .flags = flags,
	};

	return outcome(ioctl(g->vm, KVM_IOEVENTFD, &doorbell));
}

static int call_ioeventfd(struct guest *g) { return ioeventfd(g, 0); }
static int call_no_ioeventfd(struct guest *g)
{
	return ioeventfd(g, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
static void remove_ioeventfd(struct guest *g) { call_no_ioeventfd(g); }
static void add_ioeventfd(struct guest *g) { call_ioeventfd(g); }

static int prepare_ioeventfd(struct guest *g)
{
	prepare_event(g);
	if (call_ioeventfd(g) < 0)
		return -1;
	call_no_ioeventfd(g);
	return 0;
}

static int prepare_no_ioeventfd(struct guest *g)
{
	prepare_event(g);
	return call_ioeventfd(g);
}

FAULTS(ioeventfd_assign, .prepare = prepare_ioeventfd, .call = call_ioeventfd,
       .undo = remove_ioeventfd)
FAULTS(ioeventfd_deassign, .prepare = prepare_no_ioeventfd, .call = call_no_ioeventfd,
       .undo = add_ioeventfd)

/* --- The end --- */

TEST_TIMEOUT(in_all, 30)
{
	TH_LOG("%u faults were injected in all", *in_all);
	EXPECT_GT(*in_all, 0);
}

int main(int argc, char **argv)
{
	device_init(argc, argv);
	/* Of this thread; each test is a process of its own. */
	if (access("/proc/thread-self/fail-nth", W_OK)) {
		ksft_print_header();
		ksft_exit_skip("this kernel injects no faults (CONFIG_FAULT_INJECTION)\n");
	}
	choose_faults();
	in_all = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return test_harness_run(1, argv);
}
