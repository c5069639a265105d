// SPDX-License-Identifier: GPL-2.0
/*
 * The machine: the device, guest memory, and the loop that runs a guest.
 *
 * Each vCPU has a thread that does nothing but KVM_RUN and the registers of
 * devices. What a device does then, and all waiting, is the main thread's: for
 * keys, signals, a terminal that takes output, doorbells and the guest's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "launcher.h"
#include "minikvm.h"

#define KICK SIGUSR1
#define TSS_BASE 0xfffbd000	/* three pages in the hole that VT-x may need */

/**
 * device_open() - open a device that serves the KVM ABI, or die saying why not
 */
int device_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0 && errno == EACCES)
		die(STATUS_HOST, "%s: permission denied; become root or join the device's group",
		    path);
	if (fd < 0)
		die(STATUS_HOST, "%s: %s; load the module (insmod minikvm.ko) or name a device with --device",
		    path, strerror(errno));
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		die(STATUS_HOST, "%s does not serve version %d of the KVM ABI",
		    path, KVM_API_VERSION);
	return fd;
}

static void require_capabilities(const struct vm *vm)
{
	static const struct {
		int cap;
		const char *name;
		bool irqchip;
	} wanted[] = {
		{ KVM_CAP_USER_MEMORY, "user memory", false },
		{ KVM_CAP_EXT_CPUID, "extended CPUID", false },
		{ KVM_CAP_SET_TSS_ADDR, "TSS address", false },
		{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit", false },
		{ KVM_CAP_IRQCHIP, "in-kernel interrupt controllers", true },
		{ KVM_CAP_PIT2, "in-kernel PIT", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (wanted[i].irqchip && !vm->irqchip)
			continue;
		if (ioctl(vm->dev, KVM_CHECK_EXTENSION, wanted[i].cap) <= 0)
			die(STATUS_HOST, "%s lacks a capability that the launcher needs: %s",
			    vm->device, wanted[i].name);
	}
}

static void add_slot(struct vm *vm, unsigned int slot, uint64_t gpa, uint64_t offset,
		     uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)vm->mem + offset,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		die(STATUS_HOST, "%s refuses guest memory at 0x%llx: %s", vm->device,
		    (unsigned long long)gpa, strerror(errno));
}

/*
 * The mapping is aligned so that the host can back it, and a nested page table
 * map it, with 2 MiB pages. It is larger by one page of that size for this.
 */
static void create_memory(struct vm *vm, uint64_t size)
{
	uint8_t *area = mmap(NULL, size + MIB(2), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		die(STATUS_HOST, "cannot reserve %llu MiB of memory: %s",
		    (unsigned long long)(size >> 20), strerror(errno));
	vm->mem = area + (-(uintptr_t)area & (MIB(2) - 1));
	vm->mem_size = size;
	vm->low_size = size < GPA_HOLE ? size : GPA_HOLE;
	/* Only advice: a host without huge pages runs the guest all the same. */
	madvise(vm->mem, size, MADV_HUGEPAGE);

	add_slot(vm, 0, 0, 0, vm->low_size);
	if (size > vm->low_size)
		add_slot(vm, 1, GPA_ABOVE_HOLE, vm->low_size, size - vm->low_size);
}

static void create_irqchip(struct vm *vm)
{
	/* The PIT's gate and speaker port (0x61) are how guests calibrate. */
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
		die(STATUS_HOST, "%s cannot create interrupt controllers: %s",
		    vm->device, strerror(errno));
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit))
		die(STATUS_HOST, "%s cannot create a PIT: %s", vm->device, strerror(errno));
}

/* KVM_CAP_MAX_VCPUS, and what the KVM API document says of its absence. */
static void check_vcpus(const struct vm *vm)
{
	int max = ioctl(vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (max <= 0)
		max = ioctl(vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	if (max <= 0)
		max = 4;
	if (vm->nr_vcpus > (unsigned int)max)
		die(STATUS_USAGE, "--cpus %u is more than the %d that %s can run",
		    vm->nr_vcpus, max, vm->device);
}

static void create_vcpu(struct vm *vm, unsigned int id)
{
	struct vcpu *vcpu = &vm->vcpus[id];
	int size = ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	if (vcpu->fd < 0)
		die(STATUS_HOST, "%s cannot create a vCPU: %s", vm->device, strerror(errno));
	if (size < (int)sizeof(*vcpu->run))
		die(STATUS_HOST, "%s reports %d bytes of shared vCPU memory", vm->device, size);
	vcpu->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		die(STATUS_HOST, "%s cannot map a vCPU: %s", vm->device, strerror(errno));
	cpu_identify(vcpu);
}

/**
 * vm_create() - a machine with empty memory and processors in reset state
 * @vm: to be filled
 * @device: path of the device
 * @mem_size: bytes of guest memory, whole pages
 * @nr_vcpus: processors, 1 to MAX_VCPUS; more than one need @irqchip, where all
 *	but the first wait for INIT and SIPI
 * @irqchip: with the kernel's interrupt controllers and PIT
 *
 * Dies with a sentence when the host cannot do it.
 */
void vm_create(struct vm *vm, const char *device, uint64_t mem_size,
	       unsigned int nr_vcpus, bool irqchip)
{
	*vm = (struct vm) {
		.device = device,
		.dev = device_open(device),
		.irqchip = irqchip,
		.nr_vcpus = nr_vcpus,
		.io_lock = PTHREAD_MUTEX_INITIALIZER,
		.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	if (vm->wake < 0)
		die(STATUS_HOST, "cannot create an eventfd: %s", strerror(errno));
	require_capabilities(vm);
	check_vcpus(vm);

	vm->fd = ioctl(vm->dev, KVM_CREATE_VM, 0);
	if (vm->fd < 0 && errno == EBUSY)
		die(STATUS_HOST, "another hypervisor holds the CPU; unload it (modprobe -r kvm_intel kvm_amd)");
	if (vm->fd < 0 && errno == EOPNOTSUPP)
		die(STATUS_HOST, "this CPU cannot run guests, or its firmware forbids it; `minikvm info` says more");
	if (vm->fd < 0)
		die(STATUS_HOST, "%s cannot create a VM: %s", device, strerror(errno));

	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_BASE))
		die(STATUS_HOST, "%s refuses a TSS address: %s", device, strerror(errno));
	if (irqchip)
		create_irqchip(vm);
	serial_create(vm);
	create_memory(vm, mem_size);
	for (unsigned int id = 0; id < vm->nr_vcpus; id++)
		create_vcpu(vm, id);
}

/**
 * vm_memory() - where guest memory is in ours
 * @vm: the machine
 * @gpa: guest-physical address
 * @len: bytes that must be there in one piece
 *
 * Return: pointer, or NULL if not all of the range is memory.
 */
void *vm_memory(const struct vm *vm, uint64_t gpa, uint64_t len)
{
	uint64_t high_size = vm->mem_size - vm->low_size;

	if (gpa < vm->low_size && len <= vm->low_size - gpa)
		return vm->mem + gpa;
	gpa -= GPA_ABOVE_HOLE;	/* wraps to something huge if it was below */
	if (gpa < high_size && len <= high_size - gpa)
		return vm->mem + vm->low_size + gpa;
	return NULL;
}

/**
 * vm_load() - read part of a file into guest memory, or die saying why not
 * @vm: the machine
 * @path: name of the file, for messages
 * @fd: the file
 * @offset: in the file, in bytes
 * @gpa: where to
 * @len: bytes
 */
void vm_load(const struct vm *vm, const char *path, int fd, uint64_t offset,
	     uint64_t gpa, uint64_t len)
{
	uint8_t *to = vm_memory(vm, gpa, len);
	uint64_t end = gpa + len;

	if (!to)
		die(STATUS_USAGE, "memory too small: %s needs the range 0x%llx to 0x%llx; give more with --mem",
		    path, (unsigned long long)gpa, (unsigned long long)end);
	while (len) {
		ssize_t n = pread(fd, to, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die(STATUS_INPUT, "%s: %s", path, strerror(errno));
		if (!n)
			die(STATUS_INPUT, "%s is truncated: get a complete copy", path);
		to += n;
		offset += n;
		len -= n;
	}
}

void vm_wake(struct vm *vm)
{
	uint64_t one = 1;

	/* It fails only when the counter is full: then a wakeup is pending. */
	if (write(vm->wake, &one, sizeof(one)) < 0)
		return;
}

/**
 * vm_end() - the guest is over. Any thread; the first call decides.
 */
void vm_end(struct vm *vm, int status)
{
	if (atomic_exchange(&vm->ended, true))
		return;
	vm->status = status;
	vm_wake(vm);
}

/* Claims the guest's end for a crash, unless it is over already. */
static void claim_crash(struct vm *vm, struct vcpu *culprit, const char *fmt, va_list args)
{
	if (atomic_exchange(&vm->ended, true))
		return;
	vsnprintf(vm->reason, sizeof(vm->reason), fmt, args);
	vm->culprit = culprit;
	vm->status = STATUS_CRASH;
	vm_wake(vm);
}

static void __attribute__((format(printf, 2, 3)))
vcpu_crash(struct vcpu *vcpu, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	claim_crash(vcpu->vm, vcpu, fmt, args);
	va_end(args);
}

/**
 * vm_fail() - the guest is over because the machine, not a vCPU, cannot go on
 */
void vm_fail(struct vm *vm, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	claim_crash(vm, NULL, fmt, args);
	va_end(args);
}

static void do_io(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	pthread_mutex_lock(&vm->io_lock);
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		uint32_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = platform_in(vm, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		} else {
			memcpy(&value, data, run->io.size);
			platform_out(vm, run->io.port, run->io.size, value);
		}
	}
	pthread_mutex_unlock(&vm->io_lock);
}

static void do_mmio(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct kvm_run *run = vcpu->run;
	bool answered;

	pthread_mutex_lock(&vm->io_lock);
	answered = pci_mmio(vm, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
			    run->mmio.is_write);
	pthread_mutex_unlock(&vm->io_lock);
	/* Where nothing is: an empty bus. */
	if (!answered && !run->mmio.is_write)
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	char text[200];

	if (run->exit_reason < EXIT_KINDS)
		vcpu->exits[run->exit_reason]++;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		do_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		do_mmio(vcpu);
		break;
	case KVM_EXIT_HLT:
		/* Only without interrupt controllers: nothing can end the halt. */
		vm_end(vcpu->vm, STATUS_POWEROFF);
		break;
	case KVM_EXIT_INTR:
		break;
	default:
		crash_describe(run, text, sizeof(text));
		vcpu_crash(vcpu, "%s", text);
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);

	while (!vcpu->vm->ended) {
		if (!ioctl(vcpu->fd, KVM_RUN, 0))
			handle_exit(vcpu);
		else if (errno != EINTR && errno != EAGAIN)
			vcpu_crash(vcpu, "the device cannot run the vCPU: %s", strerror(errno));
	}
	return NULL;
}

static void ignore(int sig)
{
	(void)sig;
}

/*
 * Signals that end the launcher come as file input, so that ending goes one
 * way only. The kick's handler does nothing: that a signal came ends KVM_RUN.
 */
static int catch_signals(void)
{
	struct sigaction kick = { .sa_handler = ignore };
	sigset_t deadly, all;
	int fd;

	sigemptyset(&deadly);
	sigaddset(&deadly, SIGINT);
	sigaddset(&deadly, SIGTERM);
	sigaddset(&deadly, SIGHUP);
	sigaddset(&deadly, SIGQUIT);
	fd = signalfd(-1, &deadly, SFD_CLOEXEC);
	if (fd < 0)
		die(STATUS_HOST, "cannot create a signalfd: %s", strerror(errno));
	all = deadly;
	sigaddset(&all, KICK);
	sigprocmask(SIG_BLOCK, &all, NULL);
	sigaction(KICK, &kick, NULL);
	signal(SIGPIPE, SIG_IGN);
	return fd;
}

/*
 * What was typed and the guest has not taken yet. There is room for much of
 * it, because keys are read, and Ctrl-A x is found, only while there is.
 */
struct input {
	uint8_t bytes[65536];
	size_t len;
	bool ended;
};

static void take_input(struct vm *vm, struct input *input)
{
	uint8_t *to = input->bytes + input->len;
	ssize_t n = read(STDIN_FILENO, to, sizeof(input->bytes) - input->len);
	size_t len = n;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		input->ended = true;
		return;
	}
	if (term_filter(to, &len))
		vm_end(vm, STATUS_QUIT);
	input->len += len;
}

static void give_input(struct vm *vm, struct input *input)
{
	size_t n;

	if (!input->len)
		return;
	pthread_mutex_lock(&vm->io_lock);
	n = serial_room();
	if (n > input->len)
		n = input->len;
	if (n)
		serial_receive(vm, input->bytes, n);
	pthread_mutex_unlock(&vm->io_lock);
	input->len -= n;
	memmove(input->bytes, input->bytes + n, input->len);
}

static bool write_output(struct vm *vm)
{
	bool more = term_flush();

	pthread_mutex_lock(&vm->io_lock);
	serial_transmitted(vm);
	pthread_mutex_unlock(&vm->io_lock);
	return more;
}

static void main_loop(struct vm *vm, int signals, int timer)
{
	static struct input input;

	bool more = false;

	while (!vm->ended) {
		bool hear = !input.ended && input.len < sizeof(input.bytes);
		struct pollfd fds[] = {
			{ .fd = vm->wake, .events = POLLIN },
			{ .fd = signals, .events = POLLIN },
			{ .fd = timer, .events = POLLIN },
			{ .fd = blk_fd(), .events = POLLIN },
			{ .fd = more ? STDOUT_FILENO : -1, .events = POLLOUT },
			{ .fd = hear ? STDIN_FILENO : -1, .events = POLLIN },
		};
		struct signalfd_siginfo signal;
		uint64_t count;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents && read(vm->wake, &count, sizeof(count)) < 0)
			continue;
		if (fds[1].revents && read(signals, &signal, sizeof(signal)) == sizeof(signal))
			vm_end(vm, STATUS_SIGNAL + signal.ssi_signo);
		if (fds[2].revents || fds[4].revents)
			more = write_output(vm);
		if (fds[3].revents)
			blk_work(vm);
		if (fds[5].revents)
			take_input(vm, &input);
		give_input(vm, &input);
	}
}

static void start_vcpus(struct vm *vm)
{
	for (unsigned int id = 0; id < vm->nr_vcpus; id++) {
		struct vcpu *vcpu = &vm->vcpus[id];
		int error = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);

		if (error)
			die(STATUS_HOST, "cannot start a thread: %s", strerror(error));
	}
}

/* First all are told, then all are waited for: so many seconds are not added up. */
static void stop_vcpus(struct vm *vm)
{
	for (unsigned int id = 0; id < vm->nr_vcpus; id++) {
		/* Covers both a thread inside KVM_RUN and one on its way there. */
		vm->vcpus[id].run->immediate_exit = 1;
		pthread_kill(vm->vcpus[id].thread, KICK);
	}
	for (unsigned int id = 0; id < vm->nr_vcpus; id++)
		pthread_join(vm->vcpus[id].thread, NULL);
}

/**
 * vm_run() - run the guest to its end, on the user's terminal
 * @vm: a machine whose first vCPU is ready to start
 *
 * Return: one of enum status.
 */
int vm_run(struct vm *vm)
{
	int signals = catch_signals();
	int timer = term_timer();

	term_raw();
	start_vcpus(vm);
	main_loop(vm, signals, timer);
	stop_vcpus(vm);
	/* Who ended it by a signal does not wait for a terminal that takes no more. */
	if (vm->status < STATUS_SIGNAL)
		term_drain(signals);
	term_restore();

	if (vm->culprit)
		crash_report(vm->culprit);
	else if (vm->status == STATUS_CRASH)
		fprintf(stderr, "minikvm: the guest crashed: %s\n", vm->reason);
	else if (vm->status == STATUS_RESET)
		fprintf(stderr, "minikvm: the guest asked for a reset\n");
	return vm->status;
}

static void print_kernel_exits(const struct vcpu *vcpu)
{
	struct minikvm_exits probe = { 0 }, *exits;

	/* Any other device does not know it. */
	if (!ioctl(vcpu->fd, MINIKVM_GET_EXITS, &probe) || errno != E2BIG)
		return;
	exits = calloc(1, sizeof(*exits) + probe.nr * sizeof(exits->exit[0]));
	if (!exits)
		return;
	exits->nr = probe.nr;
	if (!ioctl(vcpu->fd, MINIKVM_GET_EXITS, exits)) {
		fprintf(stderr, "exits of vCPU %u from the guest:\n", vcpu->id);
		for (uint32_t i = 0; i < exits->nr; i++)
			if (exits->exit[i].count)
				fprintf(stderr, "  %-24.32s %12llu\n", exits->exit[i].name,
					(unsigned long long)exits->exit[i].count);
	}
	free(exits);
}

/**
 * vm_stats() - print exits by kind: from the guest, and on to the launcher
 *
 * Where the device does not count the first, only the second.
 */
void vm_stats(const struct vm *vm)
{
	for (unsigned int id = 0; id < vm->nr_vcpus; id++)
		print_kernel_exits(&vm->vcpus[id]);
	fprintf(stderr, "exits to the launcher:\n");
	for (unsigned int kind = 0; kind < EXIT_KINDS; kind++) {
		uint64_t sum = 0;

		for (unsigned int id = 0; id < vm->nr_vcpus; id++)
			sum += vm->vcpus[id].exits[kind];
		if (sum)
			fprintf(stderr, "  %-24s %12llu\n", exit_name(kind),
				(unsigned long long)sum);
	}
}
