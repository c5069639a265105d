// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile guests: random code that changes itself, its page tables, descriptor
 * tables, control registers and MSRs, and talks to ports, devices and the APIC,
 * in all modes, from states that userspace set at random; with and without an
 * irqchip, with one vCPU or two.  The host complains of nothing, each KVM_RUN
 * ends with the next signal, and a VM can be killed at any time.
 *
 * A guest is a number of a run: MINIKVM_SEED=S MINIKVM_FUZZ_PROGRAM=N repeats it,
 * and MINIKVM_FUZZ_REPEAT=M does so M times.  What it does is the same each
 * time, but for where the timer ends its run, for the clocks it reads and, with
 * two vCPUs, for who comes first.  MINIKVM_FUZZ_SECONDS bounds a run,
 * MINIKVM_FUZZ_VERBOSE names each guest before it runs.
 */
#include <signal.h>
#include <sys/wait.h>
#include <kselftest.h>
#include "fuzz.h"
#include "guest.h"
#include "../uapi/minikvm.h"

#define TICK_US		2000
#define GUEST_MS	120	/* of a guest, by the host's clock */
#define MAX_EXITS	300
#define MAX_SPINS	4	/* runs in a row that the tick ended */

/* Summed up over all guests; shared with the children. */
static struct totals {
	u64 runs;		/* KVM_RUN has returned */
	u64 exits;		/* hardware exits, where the device tells */
	u64 reasons[64];
	u64 deaths;
	u64 refused;		/* states that userspace was not allowed to set */
	u64 odd_errno, odd_count;
} *totals;

static void count(u64 *counter, u64 n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* --- States --- */

static void try_set(struct guest *g, unsigned long request, void *state)
{
	if (ioctl(g->vcpu, request, state) < 0)
		count(&totals->refused, 1);
}

/* Tables that a guest could have meant, and then a few bits of them wrong. */
static void spoil_tables(struct guest *g, struct rng *r, enum guest_mode mode)
{
	u32 entry = GUEST_CODE + rng_below(r, 64);

	if (mode == MODE_REAL) {
		u32 *ivt = guest_at(g, 0);

		for (u32 i = 0; i < 256; i++)
			ivt[i] = 0x10000000 | rng_below(r, PAGE);
	} else if (one_in(r, 2)) {
		u8 *idt = guest_at(g, GUEST_IDT);
		u32 step = mode == MODE_LONG ? 16 : 8;

		memset(idt, 0, PAGE);
		for (u32 i = 0; i < PAGE / step; i++, idt += step) {
			u64 type = one_in(r, 8) ? rng_next(r) & 0xff : one_in(r, 2) ? 0xee : 0x8f;

			*(u64 *)idt = (entry & 0xffff) | (u64)SEL_CODE(0) << 16 |
				      (u64)(entry >> 16) << 48 | type << 40;
		}
	}
	if (one_in(r, 3))
		scramble(r, guest_at(g, GUEST_CR3), 0x6000, 1 + rng_below(r, 8));
	if (one_in(r, 3))
		scramble(r, guest_at(g, GUEST_GDT), GDT_LIMIT + 1, 1 + rng_below(r, 3));
	if (one_in(r, 4))
		scramble(r, guest_at(g, GUEST_TSS), 0x68, 3);
}

static void spoil_registers(struct guest *g, struct rng *r, u64 rip)
{
	struct kvm_regs regs;
	u64 *gpr = &regs.rax;

	if (ioctl(g->vcpu, KVM_GET_REGS, &regs))
		return;
	for (u32 i = 0; i < 16; i++)
		if (one_in(r, 2))
			gpr[i] = odd_value(r);
	if (!one_in(r, 4))
		regs.rsp = GUEST_STACK - rng_below(r, 0x1000);
	regs.rflags = 2 | (rng_next(r) & (one_in(r, 2) ? 0x200 : 0x3f7fd5));
	regs.rip = one_in(r, 8) ? odd_value(r) : rip;
	try_set(g, KVM_SET_REGS, &regs);
}

static void spoil_system(struct guest *g, struct rng *r)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry[4]; } msrs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_fpu fpu;
	u8 other[4096];

	if (one_in(r, 2) && !ioctl(g->vcpu, KVM_GET_SREGS, &sregs)) {
		scramble(r, &sregs, sizeof(sregs), 1 + rng_below(r, 4));
		memset(sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
		if (one_in(r, 8))
			sregs.interrupt_bitmap[rng_below(r, 4)] = BIT(rng_below(r, 64));
		if ((sregs.efer & EFER_LME) && emulator_is_spared())
			sregs.cr4 |= CR4_PAE;
		try_set(g, KVM_SET_SREGS, &sregs);
	}
	for (u32 i = rng_below(r, 6); i; i--) {
		msrs.head.nmsrs = 1;
		msrs.entry[0].index = odd_msr(r);
		msrs.entry[0].data = odd_value(r);
		try_set(g, KVM_SET_MSRS, &msrs);
	}
	if (one_in(r, 4) && !ioctl(g->vcpu, KVM_GET_LAPIC, &lapic)) {
		scramble(r, &lapic, sizeof(lapic), 8);
		try_set(g, KVM_SET_LAPIC, &lapic);
	}
	if (one_in(r, 4) && !ioctl(g->vcpu, KVM_GET_FPU, &fpu)) {
		scramble(r, &fpu, sizeof(fpu), 4);
		try_set(g, KVM_SET_FPU, &fpu);
	}
	if (one_in(r, 4) && !ioctl(g->vcpu, KVM_GET_VCPU_EVENTS, other)) {
		scramble(r, other, sizeof(struct kvm_vcpu_events), 4);
		try_set(g, KVM_SET_VCPU_EVENTS, other);
	}
	if (one_in(r, 4) && !ioctl(g->vcpu, KVM_GET_DEBUGREGS, other)) {
		scramble(r, other, 48, 2);
		if (emulator_is_spared())
			((struct kvm_debugregs *)other)->dr7 = 0x400;
		try_set(g, KVM_SET_DEBUGREGS, other);
	}
	if (one_in(r, 8) && !ioctl(g->vcpu, KVM_GET_XSAVE, other)) {
		scramble(r, other, 1024, 4);
		try_set(g, KVM_SET_XSAVE, other);
	}
	if (one_in(r, 16))
		try_set(g, KVM_SET_MP_STATE, &(struct kvm_mp_state){ rng_below(r, 10) });
}

static void prepare(struct guest *g, struct rng *r, bool first)
{
	static const u8 bits[MODE_COUNT] = { 16, 32, 32, 32, 64 };
	enum guest_mode mode = rng_below(r, MODE_COUNT);
	u64 at = GUEST_CODE + (first ? 0 : rng_below(r, 8) * PAGE);

	/* Whatever it is that keeps it from a mode it can run in, is a refused state too. */
	if (first)
		guest_mode(g, mode, GUEST_CODE);
	hostile_code(r, guest_at(g, at), 2 * PAGE, bits[mode]);
	spoil_tables(g, r, mode);
	spoil_registers(g, r, mode == MODE_REAL && first ? 0 : at);
	spoil_system(g, r);
}

/* --- While it runs --- */

static void disturb(struct guest *g, struct rng *r)
{
	struct kvm_irq_level line = { .irq = rng_below(r, 24), .level = rng_below(r, 2) };
	struct kvm_interrupt interrupt = { .irq = rng_below(r, 256) };
	struct kvm_msi msi = { .address_lo = 0xfee00000 | (rng_next(r) & 0x100c),
			       .data = rng_next(r) & 0xc7ff };

	switch (rng_below(r, 8)) {
	case 0: ioctl(g->vcpu, KVM_NMI, 0); break;
	case 1: ioctl(g->vcpu, KVM_INTERRUPT, &interrupt); break;
	case 2: ioctl(g->vm, KVM_IRQ_LINE, &line); break;
	case 3: ioctl(g->vm, KVM_SIGNAL_MSI, &msi); break;
	case 4:
		scramble(r, guest_at(g, GUEST_CODE), 2 * PAGE, 16);
		spare_emulator(guest_at(g, GUEST_CODE), 2 * PAGE);
		break;
	case 5: scramble(r, guest_at(g, GUEST_GDT), 0x8000, 4); break;
	case 6: spoil_registers(g, r, GUEST_CODE + rng_below(r, PAGE)); break;
	default: spoil_system(g, r); break;
	}
}

/* What a device would answer. */
static void answer(struct guest *g, struct rng *r)
{
	struct kvm_run *run = g->run;
	u64 value = odd_value(r);

	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		fill_random(r, guest_io_data(g), run->io.size * run->io.count);
	if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
		memcpy(run->mmio.data, &value, 8);
	run->request_interrupt_window = one_in(r, 4);
	if (one_in(r, 16))
		run->cr8 = rng_below(r, 16);
}

/* KVM_RUN, or as many as there are instructions before something else ends one. */
static int run_once(struct guest *g)
{
	struct kvm_guest_debug step = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	int ret;

	if (!guests_are_stepped())
		return outcome(ioctl(g->vcpu, KVM_RUN, 0));
	if (ioctl(g->vcpu, KVM_SET_GUEST_DEBUG, &step))
		return -EAGAIN;
	do
		ret = outcome(ioctl(g->vcpu, KVM_RUN, 0));
	while (!ret && g->run->exit_reason == KVM_EXIT_DEBUG);
	return ret;
}

/* A vCPU's life: until it has had its time, its exits, or died too often. */
static void live(struct guest *g, struct rng *r)
{
	u64 end = now_ms() + GUEST_MS;
	u32 spins = 0, deaths = 0;

	for (u32 n = 0; n < MAX_EXITS && deaths < 8 && now_ms() < end; n++) {
		int ret = run_once(g);
		u32 reason = g->run->exit_reason;

		count(&totals->runs, 1);
		if (ret == -EINTR || ret == -EAGAIN) {
			if (++spins >= MAX_SPINS) {
				prepare(g, r, one_in(r, 2));
				spins = 0;
			}
		} else if (ret) {
			/* EFAULT where the guest runs into what KVM cannot read; no other. */
			if (ret != -EFAULT) {
				totals->odd_errno = -ret;
				count(&totals->odd_count, 1);
			}
			prepare(g, r, true);
			deaths++;
		} else {
			spins = 0;
			count(&totals->reasons[reason % 64], 1);
			switch (reason) {
			case KVM_EXIT_SHUTDOWN:
			case KVM_EXIT_FAIL_ENTRY:
			case KVM_EXIT_INTERNAL_ERROR:
			case KVM_EXIT_UNKNOWN:
				count(&totals->deaths, 1);
				deaths++;
				prepare(g, r, !one_in(r, 4));
				break;
			}
			answer(g, r);
		}
		if (one_in(r, 8))
			disturb(g, r);
	}
}

static void count_exits(struct guest *g)
{
	struct { struct minikvm_exits head; struct { char name[32]; u64 count; } exit[64]; } told;

	told.head.nr = 64;
	if (ioctl(g->vcpu, MINIKVM_GET_EXITS, &told))
		return;
	for (u32 i = 0; i < told.head.nr; i++)
		count(&totals->exits, told.exit[i].count);
}

static u64 guest_seed(u32 seed, u64 number)
{
	return (u64)seed << 32 | number;
}

struct second {
	struct guest g;
	u64 seed;
};

static void *live_second(void *data)
{
	struct second *s = data;
	struct rng r = rng_of(s->seed);

	tick_start(TICK_US);
	cover_enable(1);
	spoil_registers(&s->g, &r, GUEST_CODE);
	spoil_system(&s->g, &r);
	if (one_in(&r, 2))
		ioctl(s->g.vcpu, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_RUNNABLE });
	live(&s->g, &r);
	count_exits(&s->g);
	return NULL;
}

static void child_run(u64 seed)
{
	struct rng r = rng_of(seed);
	u32 with = rng_below(&r, 4);	/* WITH_PIT brings the irqchip too */
	struct second second = { .seed = rng_next(&r) };
	bool two = with && one_in(&r, 3);
	struct guest g;
	pthread_t thread;

	cover_enable(0);
	guest_create(&g, with);
	madvise(g.mem, g.mem_size, MADV_NOHUGEPAGE);
	if (two) {
		second.g = g;
		second.g.vcpu = guest_add_vcpu(&g, 1);
		second.g.run = mmap(NULL, g.run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
				    second.g.vcpu, 0);
	}
	prepare(&g, &r, true);
	tick_start(TICK_US);
	if (two && pthread_create(&thread, NULL, live_second, &second))
		_exit(1);
	live(&g, &r);
	count_exits(&g);
	if (two)
		pthread_join(thread, NULL);
	fflush(stdout);
	_exit(0);
}

/* --- The host --- */

/* A sentence about what went wrong, or NULL. */
static const char *guest_try_one(u64 seed)
{
	struct rng r = rng_of(~seed);
	static char why[320];
	const char *complaint;
	enum child end;
	int status = 0;
	pid_t pid;

	cover_begin();
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return "fork fails";
	if (!pid)
		child_run(seed);
	if (one_in(&r, 4)) {
		usleep(rng_below(&r, 100000));
		kill(pid, SIGKILL);
	}
	end = child_wait(pid, 30, &status);
	complaint = kernel_complaint();
	if (complaint)
		snprintf(why, sizeof(why), "the kernel says \"%s\"", complaint);
	else if (end == CHILD_STUCK)
		snprintf(why, sizeof(why), "it cannot be killed");
	else if (end == CHILD_KILLED)
		snprintf(why, sizeof(why), "a KVM_RUN does not end with a signal");
	else if (WIFEXITED(status) && WEXITSTATUS(status))
		snprintf(why, sizeof(why), "its VMM failed");
	else if (totals->odd_count)
		snprintf(why, sizeof(why), "KVM_RUN fails: %s", strerror(totals->odd_errno));
	else
		return NULL;
	totals->odd_count = 0;
	return why;
}

static u32 guest_answer(u64 arg)
{
	return arg + 1;
}

/* A guest as it should be, after all that. */
static bool others_are_well(void)
{
	pid_t pid = fork();
	int status = 1;

	if (!pid) {
		struct guest g;

		guest_create(&g, WITH_IRQCHIP);
		guest_call(&g, guest_answer, 41);
		_exit(guest_finish(&g) != 42);
	}
	return child_wait(pid, 60, &status) == CHILD_ENDED && !status;
}

int main(int argc, char **argv)
{
	u64 end, number, guests = 0, findings = 0, first = fuzz_setting("MINIKVM_FUZZ_PROGRAM", ~0ull);
	u64 limit = fuzz_setting("MINIKVM_FUZZ_PROGRAMS", ~0ull);
	u32 seed;

	device_init(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	if (!guests_may_enter())
		ksft_exit_skip("emulators of SVM and VT-x do not survive it, with stock KVM either; scripts/fuzz guest tries\n");
	ksft_set_plan(2);
	seed = fuzz_seed();
	totals = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cover_open();
	kernel_complaint();
	end = now_ms() + 1000 * fuzz_setting("MINIKVM_FUZZ_SECONDS", 25);
	if (first != ~0ull)
		limit = fuzz_setting("MINIKVM_FUZZ_REPEAT", 1);
	while (guests < limit && findings < 5 && (first != ~0ull || now_ms() < end)) {
		const char *why;

		number = first != ~0ull ? first : guests;
		if (getenv("MINIKVM_FUZZ_VERBOSE"))
			printf("fuzz: MINIKVM_SEED=%u MINIKVM_FUZZ_PROGRAM=%llu after %llu guests, %llu exits, %llu runs\n",
			       seed, number, guests, totals->exits, totals->runs);
		why = guest_try_one(guest_seed(seed, number));
		guests++;
		cover_end();
		if (!why)
			continue;
		findings++;
		ksft_print_msg("%s: to repeat: MINIKVM_SEED=%u MINIKVM_FUZZ_PROGRAM=%llu\n", why,
			       seed, number);
	}
	ksft_print_msg("MINIKVM_SEED=%u: %llu guests, %llu hardware exits and %llu to userspace survived\n",
		       seed, guests, totals->exits, totals->runs);
	for (u32 i = 0; i < ARRAY_SIZE(totals->reasons); i++)
		if (totals->reasons[i])
			ksft_print_msg("%llu times %s (%u)\n", totals->reasons[i], exit_name(i), i);
	ksft_print_msg("%llu guests died and began anew, %llu states were refused\n", totals->deaths,
		       totals->refused);
	cover_report();
	ksft_test_result(!findings, "the host survives %llu hostile guests\n", guests);
	ksft_test_result(others_are_well(), "a guest that means no harm runs as ever\n");
	ksft_finished();
}
