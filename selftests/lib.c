// SPDX-License-Identifier: GPL-2.0
/*
 * The host half of every test; see lib.h.  Sources: the KVM API document for
 * the ioctls, SDM vol. 3A "Protected-Mode Memory Management" and "Paging" for
 * the tables that guest_mode() builds.
 */
#include <sched.h>
#include <stdarg.h>
#include <time.h>
#include <linux/kvm.h>
#include <kselftest.h>
#include "guest.h"
#include "../uapi/minikvm.h"

const char *const mode_names[MODE_COUNT] = {
	"real", "protected", "paged32", "pae", "long",
};

static const char *device_path = "/dev/minikvm";

void die(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(KSFT_FAIL);
}

void device_select(const char *path)
{
	device_path = path;
}

const char *device_name(void)
{
	return device_path;
}

int device_open(void)
{
	int fd = open(device_path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", device_path, strerror(errno));
	return fd;
}

bool device_has_apicv(void)
{
	const char *path = device_is_minikvm() ?
			   "/sys/module/minikvm/parameters/apicv" :
			   "/sys/module/kvm_intel/parameters/enable_apicv";
	FILE *file = fopen(path, "r");
	int c = file ? fgetc(file) : EOF;

	if (file)
		fclose(file);
	return c == '1' || c == 'Y';
}

bool device_has(int cap)
{
	int fd = device_open();
	int ret = must(fd, KVM_CHECK_EXTENSION, cap);

	close(fd);
	return ret > 0;
}

bool device_cpuid(u32 function, u32 regs[4])
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };
	int fd = device_open();
	bool found = false;

	must(fd, KVM_GET_SUPPORTED_CPUID, &cpuid);
	close(fd);
	memset(regs, 0, 4 * sizeof(*regs));
	for (u32 i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entries[i].function == function && !cpuid.entries[i].index) {
			memcpy(regs, &cpuid.entries[i].eax, 4 * sizeof(*regs));
			found = true;
		}
	return found;
}

int device_lists_msr(u32 index)
{
	struct {
		struct kvm_msr_list head;
		u32 index[1000];
	} list = { .head.nmsrs = 1000 };
	int fd = device_open(), found = 0;

	must(fd, KVM_GET_MSR_INDEX_LIST, &list);
	close(fd);
	for (u32 i = 0; i < list.head.nmsrs; i++)
		found += list.index[i] == index;
	return found;
}

bool device_is_minikvm(void)
{
	static struct minikvm_host host;
	int fd = device_open();
	int ret = ioctl(fd, MINIKVM_GET_HOST, &host);

	close(fd);
	return ret == 0;
}

void device_init(int argc, char **argv)
{
	int fd, vm;

	if (getenv("MINIKVM_DEVICE"))
		device_path = getenv("MINIKVM_DEVICE");
	if (argc > 1)
		device_path = argv[1];

	fd = open(device_path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
		ksft_print_header();
		ksft_exit_skip("%s: no such device; is the module loaded?\n",
			       device_path);
	}
	if (fd < 0)
		ksft_exit_fail_msg("%s: %s\n", device_path, strerror(errno));
	vm = ioctl(fd, KVM_CREATE_VM, 0);
	if (vm < 0)
		ksft_exit_fail_msg("%s: no VM: %s (another hypervisor holds the hardware?)\n",
				   device_path, strerror(errno));
	close(vm);
	close(fd);
}

int must_ioctl(int fd, unsigned long request, unsigned long arg,
	       const char *name)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		die("%s: %s", name, strerror(errno));
	return ret;
}

int guest_slot(struct guest *g, u32 slot, u64 gpa, void *hva, u64 bytes,
	       u32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)hva,
	};

	return outcome(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region));
}

static void give_cpuid(int kvm, int vcpu, u32 function, u32 reg, u32 clear, u32 set)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };

	must(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	for (u32 i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entries[i].function == function && !cpuid.entries[i].index) {
			u32 *bits = &cpuid.entries[i].eax + reg;

			*bits = (*bits & ~clear) | set;
		}
	must(vcpu, KVM_SET_CPUID2, &cpuid);
}

void guest_change_cpuid(struct guest *g, u32 function, u32 reg, u32 clear, u32 set)
{
	give_cpuid(g->kvm, g->vcpu, function, reg, clear, set);
}

int guest_add_vcpu(struct guest *g, unsigned int id)
{
	int vcpu = must(g->vm, KVM_CREATE_VCPU, id);

	give_cpuid(g->kvm, vcpu, 0, 0, 0, 0);
	return vcpu;
}

void guest_create(struct guest *g, unsigned int with)
{
	guest_create_cap(g, with, NULL);
}

void guest_create_cap(struct guest *g, unsigned int with, const struct kvm_enable_cap *cap)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	memset(g, 0, sizeof(*g));
	g->kvm = device_open();
	g->vm = must(g->kvm, KVM_CREATE_VM, 0);
	must(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (with & (WITH_IRQCHIP | WITH_PIT))
		must(g->vm, KVM_CREATE_IRQCHIP, 0);
	if (with & WITH_SPLIT)
		must(g->vm, KVM_ENABLE_CAP, &split);
	if (with & WITH_PIT)
		must(g->vm, KVM_CREATE_PIT2, &pit);
	if (cap)
		must(g->vm, KVM_ENABLE_CAP, cap);

	g->mem_size = GUEST_MEM;
	g->mem = mmap(NULL, g->mem_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (g->mem == MAP_FAILED)
		die("no guest memory: %s", strerror(errno));
	if (guest_slot(g, 0, 0, g->mem, g->mem_size, 0))
		die("KVM_SET_USER_MEMORY_REGION: %s", strerror(errno));

	g->vcpu = guest_add_vcpu(g, 0);
	g->run_size = must(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      g->vcpu, 0);
	if (g->run == MAP_FAILED)
		die("mmap of kvm_run: %s", strerror(errno));
}

void guest_destroy(struct guest *g)
{
	munmap(g->run, g->run_size);
	close(g->vcpu);
	close(g->vm);
	close(g->kvm);
	munmap(g->mem, g->mem_size);
}

void *guest_at(struct guest *g, u64 gpa)
{
	if (gpa >= g->mem_size)
		die("gpa 0x%llx is outside of guest memory", gpa);
	return g->mem + gpa;
}

void guest_copy(struct guest *g, u64 gpa, const void *from, size_t bytes)
{
	memcpy(guest_at(g, gpa), from, bytes);
}

/* 4 GiB identity map for each format; every page user and writable. */
static void build_page_tables(struct guest *g, enum guest_mode mode)
{
	const u64 table = 7, large = 7 | BIT(7);
	u64 *root = guest_at(g, GUEST_CR3);
	u64 *pdpt = guest_at(g, GUEST_PDPT);
	u64 *pd = guest_at(g, GUEST_PD);
	u32 *root32 = (u32 *)root;

	memset(root, 0, PAGE);
	if (mode == MODE_PAGED32) {
		for (u32 i = 0; i < 1024; i++)
			root32[i] = i << 22 | large;
		return;
	}
	for (u64 i = 0; i < 2048; i++)
		pd[i] = i * HUGE | large;
	/* PAE's four root entries reserve the bits for user and writable. */
	for (u64 i = 0; i < 4; i++) {
		root[i] = (GUEST_PD + i * PAGE) | 1;
		pdpt[i] = (GUEST_PD + i * PAGE) | table;
	}
	if (mode == MODE_LONG) {
		memset(root, 0, PAGE);
		root[0] = GUEST_PDPT | table;
	}
}

static u64 descriptor(const struct kvm_segment *s)
{
	u64 limit = s->g ? s->limit >> 12 : s->limit;

	return (limit & 0xffff) | (s->base & 0xffffff) << 16 |
	       (u64)s->type << 40 | (u64)s->s << 44 | (u64)s->dpl << 45 |
	       (u64)s->present << 47 | (limit >> 16 & 0xf) << 48 |
	       (u64)s->l << 53 | (u64)s->db << 54 | (u64)s->g << 55 |
	       (s->base >> 24 & 0xff) << 56;
}

static struct kvm_segment flat(u16 selector, u8 type, bool is_long)
{
	bool code = type & 8;

	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffff,
		.type = type,
		.s = 1,
		.dpl = selector & 3,
		.present = 1,
		.l = code && is_long,
		.db = !(code && is_long),
		.g = 1,
	};
}

static struct kvm_segment real(u16 selector, u8 type)
{
	return (struct kvm_segment){
		.selector = selector,
		.base = selector << 4,
		.limit = 0xffff,
		.type = type,
		.s = 1,
		.present = 1,
	};
}

static void build_tables(struct guest *g, struct kvm_sregs *sregs,
			 bool is_long)
{
	u64 *gdt = guest_at(g, GUEST_GDT);
	u64 *idt = guest_at(g, GUEST_IDT);
	u8 *tss = guest_at(g, GUEST_TSS);

	for (unsigned int ring = 0; ring < 4; ring++) {
		struct kvm_segment code = flat(SEL_CODE(ring), 0xb, is_long);
		struct kvm_segment data = flat(SEL_DATA(ring), 0x3, is_long);

		gdt[SEL_CODE(ring) >> 3] = descriptor(&code);
		gdt[SEL_DATA(ring) >> 3] = descriptor(&data);
	}
	gdt[SEL_TSS >> 3] = descriptor(&sregs->tr);
	sregs->gdt.base = GUEST_GDT;
	sregs->gdt.limit = GDT_LIMIT;

	/* The stacks of rings 0 to 2; the map of I/O permissions is empty. */
	memset(tss, 0, 0x68);
	for (unsigned int ring = 0; ring < 3; ring++)
		memcpy(tss + 4 + 8 * ring, &(u64){ GUEST_STACK - 0x1000 }, 8);
	memcpy(tss + 0x66, &(u16){ 0x68 }, 2);

	for (u64 vector = 0; is_long && vector < 256; vector++) {
		u64 entry = (uintptr_t)guest_vectors + 16 * vector;

		/* Interrupt gate that any ring may call. */
		idt[2 * vector] = (entry & 0xffff) | (u64)SEL_CODE(0) << 16 |
				  0xeeull << 40 | (entry >> 16 & 0xffff) << 48;
		idt[2 * vector + 1] = entry >> 32;
	}
	sregs->idt.base = GUEST_IDT;
	sregs->idt.limit = is_long ? 0xfff : 0;
}

void guest_mode(struct guest *g, enum guest_mode mode, u64 entry)
{
	struct kvm_regs regs = {
		.rip = entry,
		.rsp = GUEST_STACK,
		.rflags = 2,
	};
	struct kvm_sregs sregs;

	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr0 = CR0_ET | CR0_NE;
	sregs.cr3 = 0;
	sregs.cr4 = 0;
	sregs.efer = 0;
	sregs.ldt = (struct kvm_segment){ .type = 2, .unusable = 1 };
	sregs.tr = (struct kvm_segment){
		.selector = SEL_TSS, .base = GUEST_TSS, .limit = 0x67,
		.type = 0xb, .present = 1,
	};

	if (mode == MODE_REAL) {
		sregs.cs = real(entry >> 4, 0xb);
		sregs.ds = real(0, 3);
		sregs.idt.base = 0;
		sregs.idt.limit = 0x3ff;
		regs.rip = entry & 0xf;
	} else {
		bool is_long = mode == MODE_LONG;

		sregs.cs = flat(SEL_CODE(0), 0xb, is_long);
		sregs.ds = flat(SEL_DATA(0), 0x3, is_long);
		sregs.cr0 |= CR0_PE | CR0_MP;
		sregs.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
		build_tables(g, &sregs, is_long);
	}
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;

	if (mode >= MODE_PAGED32) {
		build_page_tables(g, mode);
		sregs.cr3 = GUEST_CR3;
		sregs.cr0 |= CR0_PG | CR0_WP;
		sregs.cr4 |= mode == MODE_PAGED32 ? CR4_PSE : CR4_PAE;
	}
	if (mode == MODE_LONG)
		sregs.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX;

	must(g->vcpu, KVM_SET_SREGS, &sregs);
	must(g->vcpu, KVM_SET_REGS, &regs);
}

const char *exit_name(u32 reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "UNKNOWN",
		[KVM_EXIT_EXCEPTION] = "EXCEPTION",
		[KVM_EXIT_IO] = "IO",
		[KVM_EXIT_HYPERCALL] = "HYPERCALL",
		[KVM_EXIT_DEBUG] = "DEBUG",
		[KVM_EXIT_HLT] = "HLT",
		[KVM_EXIT_MMIO] = "MMIO",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
		[KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
		[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
		[KVM_EXIT_INTR] = "INTR",
		[KVM_EXIT_SET_TPR] = "SET_TPR",
		[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
	};

	if (reason < ARRAY_SIZE(names) && names[reason])
		return names[reason];
	return "(another exit)";
}

void die_of_exit(struct guest *g, const char *wanted)
{
	struct kvm_run *run = g->run;

	printf("# wanted %s, got exit %s (%u) at rip 0x%llx", wanted,
	       exit_name(run->exit_reason), run->exit_reason,
	       guest_rip(g));
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		printf(": %s port 0x%x, %u x %u bytes",
		       run->io.direction ? "out to" : "in from", run->io.port,
		       run->io.count, run->io.size);
		break;
	case KVM_EXIT_MMIO:
		printf(": %s 0x%llx, %u bytes",
		       run->mmio.is_write ? "write" : "read",
		       run->mmio.phys_addr, run->mmio.len);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		printf(": hardware reason 0x%llx",
		       run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		printf(": suberror %u", run->internal.suberror);
		break;
	}
	printf("\n");
	exit(KSFT_FAIL);
}

u32 guest_run(struct guest *g)
{
	must(g->vcpu, KVM_RUN, 0);
	return g->run->exit_reason;
}

void guest_run_to(struct guest *g, u32 exit_reason)
{
	if (guest_run(g) != exit_reason)
		die_of_exit(g, exit_name(exit_reason));
}

void *guest_io_data(struct guest *g)
{
	return (u8 *)g->run + g->run->io.data_offset;
}

u64 guest_rip(struct guest *g)
{
	struct kvm_regs regs;

	must(g->vcpu, KVM_GET_REGS, &regs);
	return regs.rip;
}

u16 guest_port(struct guest *g, u32 *value)
{
	struct guest_failure *failure = guest_var(g, guest_failure);

	if (g->run->exit_reason != KVM_EXIT_IO ||
	    g->run->io.port < PORT_DONE || g->run->io.port > PORT_SYNC)
		die_of_exit(g, "a port of guest.h");
	if (g->run->io.port == PORT_FAIL)
		die("guest: %s:%d: %s is 0x%llx, not 0x%llx (rip 0x%llx)",
		    failure->file, failure->line, failure->text,
		    failure->got,
		    failure->wanted,
		    failure->rip);
	memcpy(value, guest_io_data(g), sizeof(*value));
	return g->run->io.port;
}

u16 guest_next(struct guest *g, u32 *value)
{
	guest_run(g);
	return guest_port(g, value);
}

u32 guest_until_sync(struct guest *g)
{
	u32 value;

	if (guest_next(g, &value) != PORT_SYNC)
		die_of_exit(g, "a stop of the guest");
	return value;
}

struct late_interrupt {
	int vm;
	u8 vector;
};

static void *send_late(void *arg)
{
	struct late_interrupt late = *(struct late_interrupt *)arg;
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = late.vector };

	free(arg);
	usleep(5000);
	must(late.vm, KVM_SIGNAL_MSI, &msi);
	return NULL;
}

void guest_interrupt_later(struct guest *g, u8 vector)
{
	struct late_interrupt *late = malloc(sizeof(*late));
	pthread_t thread;

	*late = (struct late_interrupt){ .vm = g->vm, .vector = vector };
	pthread_create(&thread, NULL, send_late, late);
	pthread_detach(thread);
}

/* Where a guest function returns to: its result is in eax. */
GUEST_ASM(guest_return, 64, "mov $0x510, %edx\n1: outl %eax, %dx\n jmp 1b");

void guest_call(struct guest *g, u32 (*function)(u64), u64 arg)
{
	extern const u8 __executable_start[], _end[];
	const u64 return_to = GUEST_CODE - PAGE + 0xff8;
	struct kvm_regs regs;

	guest_copy(g, (uintptr_t)__executable_start, __executable_start,
		   _end - __executable_start);
	guest_mode(g, MODE_LONG, (uintptr_t)function);
	must(g->vcpu, KVM_GET_REGS, &regs);
	regs.rdi = arg;
	regs.rsp = return_to;
	*(u64 *)guest_at(g, return_to) = (uintptr_t)guest_return;
	must(g->vcpu, KVM_SET_REGS, &regs);
}

u32 guest_finish(struct guest *g)
{
	u32 value;

	if (guest_next(g, &value) != PORT_DONE)
		die_of_exit(g, "the guest function's return");
	return value;
}

u64 agent_finish(struct guest *g)
{
	u32 unused;

	if (guest_next(g, &unused) != PORT_SYNC)
		die_of_exit(g, "the agent");
	return guest_var(g, agent_command)->value;
}

void agent_start(struct guest *g)
{
	guest_call(g, guest_agent, 0);
	agent_finish(g);
}

static bool agent_access(struct guest *g, struct agent_command command)
{
	volatile struct agent_command *shared = guest_var(g, agent_command);
	u32 reason;

	shared->gpa = command.gpa;
	shared->value = command.value;
	shared->write = command.write;
	reason = guest_run(g);
	if (reason == KVM_EXIT_MMIO) {
		if (g->run->mmio.phys_addr != command.gpa ||
		    g->run->mmio.is_write != command.write ||
		    g->run->mmio.len != 8)
			die_of_exit(g, "the agent's access");
		return false;
	}
	if (reason != KVM_EXIT_IO || g->run->io.port != PORT_SYNC)
		die_of_exit(g, "the agent");
	return true;
}

bool agent_read(struct guest *g, u64 gpa, u64 *value)
{
	bool done = agent_access(g, (struct agent_command){ .gpa = gpa });

	if (done)
		*value = guest_var(g, agent_command)->value;
	return done;
}

bool agent_write(struct guest *g, u64 gpa, u64 value)
{
	return agent_access(g, (struct agent_command){
		.gpa = gpa, .value = value, .write = true });
}

pthread_t urgent_thread(void *(*function)(void *), void *arg)
{
	struct sched_param priority = { .sched_priority = 1 };
	pthread_t thread;
	int error = pthread_create(&thread, NULL, function, arg);

	if (error)
		die("pthread_create: %s", strerror(error));
	/* Only root may; without it the same happens, later. */
	pthread_setschedparam(thread, SCHED_FIFO, &priority);
	return thread;
}

u64 clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void urgent_pause(void)
{
	static __thread u64 late;
	struct timespec pause = { .tv_nsec = 100000 + 2 * late };
	u64 begin = clock_ns(CLOCK_MONOTONIC);

	nanosleep(&pause, NULL);
	late = clock_ns(CLOCK_MONOTONIC) - begin - pause.tv_nsec;
	if (late > 100000000)
		late = 100000000;
}
