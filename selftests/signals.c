// SPDX-License-Identifier: GPL-2.0
/*
 * What ends KVM_RUN from outside: immediate_exit and signals, in a guest that
 * spins and in one that sleeps; and a vCPU that moves between threads.
 */
#include <signal.h>
#include <kselftest_harness.h>
#include "guest.h"

FIXTURE(signals) {
	struct guest g;
};

static volatile sig_atomic_t signals_seen;

static void count_signal(int signal)
{
	signals_seen++;
}

FIXTURE_SETUP(signals)
{
	struct sigaction action = { .sa_handler = count_signal };

	ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	guest_create(&self->g, WITH_IRQCHIP);
}

FIXTURE_TEARDOWN(signals)
{
	guest_destroy(&self->g);
}

#define RUN(g) outcome(ioctl((g)->vcpu, KVM_RUN, 0))

static volatile u64 spins;

#define FOREVER	(~0ull)

/* With interrupts on: Bochs 2.7 holds the host's back while they are off. */
static u32 guest_spins(u64 rounds)
{
	sti();
	while (rounds--)
		spins++;
	return 0;
}

static u32 guest_counts(u64 rounds)
{
	for (u64 i = 0; i < rounds; i++)
		guest_sync(i);
	return 0;
}

TEST_F(signals, immediate_exit)
{
	struct guest *g = &self->g;
	u64 rip;

	guest_call(g, guest_spins, FOREVER);
	rip = guest_rip(g);
	g->run->immediate_exit = 1;
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(RUN(g), -EINTR);
		EXPECT_EQ(guest_rip(g), rip);
	}
	EXPECT_EQ(*guest_var(g, spins), 0);
}

/* The I/O that is under way is completed, the guest runs no further. */
TEST_F(signals, immediate_exit_completes_io)
{
	struct guest *g = &self->g;
	u32 value;
	u64 rip;

	guest_call(g, guest_counts, FOREVER);
	for (u32 i = 0; i < 10; i++) {
		g->run->immediate_exit = 0;
		ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
		EXPECT_EQ(value, i);
		g->run->immediate_exit = 1;
		EXPECT_EQ(RUN(g), -EINTR);
		/* The exit that it completed can still be looked at. */
		EXPECT_EQ(g->run->exit_reason, KVM_EXIT_IO);
		EXPECT_EQ(g->run->io.port, PORT_SYNC);
		rip = guest_rip(g);
		EXPECT_EQ(RUN(g), -EINTR);
		EXPECT_EQ(guest_rip(g), rip);
	}
}

TEST_F(signals, pending_signal_comes_first)
{
	struct guest *g = &self->g;
	sigset_t blocked, old;

	guest_call(g, guest_spins, FOREVER);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, &old);
	raise(SIGUSR1);
	g->run->immediate_exit = 1;
	EXPECT_EQ(RUN(g), -EINTR);
	EXPECT_EQ(signals_seen, 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	EXPECT_EQ(signals_seen, 1);
}

struct kicker {
	pthread_t target;
	int signal;
	volatile u64 *count;	/* kick once it is above this */
	u64 above;
	volatile bool stop;
};

/* Kicks until told to stop: a kick before KVM_RUN begins is lost. */
static void *kick(void *arg)
{
	struct kicker *kicker = arg;

	while (*kicker->count <= kicker->above)
		urgent_pause();
	while (!kicker->stop) {
		pthread_kill(kicker->target, kicker->signal);
		urgent_pause();
	}
	return NULL;
}

static void run_until_sent(struct __test_metadata *_metadata,
			   struct guest *g, u64 above, int signal)
{
	struct kicker kicker = {
		.target = pthread_self(), .count = guest_var(g, spins),
		.above = above, .signal = signal,
	};
	pthread_t thread = urgent_thread(kick, &kicker);

	EXPECT_EQ(RUN(g), -EINTR);
	EXPECT_EQ(g->run->exit_reason, KVM_EXIT_INTR);
	kicker.stop = true;
	pthread_join(thread, NULL);
}

static void run_until_kicked(struct __test_metadata *_metadata,
			     struct guest *g, u64 above)
{
	int before = signals_seen;

	run_until_sent(_metadata, g, above, SIGUSR1);
	EXPECT_GT(signals_seen, before);
}

TEST_F(signals, signal_ends_a_spinning_guest)
{
	struct guest *g = &self->g;

	guest_call(g, guest_spins, FOREVER);
	for (int round = 0; round < 3; round++)
		run_until_kicked(_metadata, g, *guest_var(g, spins));
}

static int set_mask(struct guest *g, u64 signals)
{
	struct {
		struct kvm_signal_mask head;
		u8 set[8];
	} mask = { .head.len = 8 };

	memcpy(mask.head.sigset, &signals, 8);
	return outcome(ioctl(g->vcpu, KVM_SET_SIGNAL_MASK, &mask));
}

/*
 * A signal that is blocked but for KVM_RUN ends it, and then waits.  Nothing happens to
 * the program, though it has no handler for this one.
 */
TEST_F(signals, mask)
{
	struct guest *g = &self->g;
	sigset_t blocked;
	u32 value;
	int signal;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	ASSERT_EQ(set_mask(g, 0), 0);
	guest_call(g, guest_spins, FOREVER);
	for (int round = 0; round < 3; round++) {
		run_until_sent(_metadata, g, *guest_var(g, spins), SIGUSR2);
		ASSERT_EQ(sigwait(&blocked, &signal), 0);
		EXPECT_EQ(signal, SIGUSR2);
	}
	pthread_kill(pthread_self(), SIGUSR2);
	EXPECT_EQ(RUN(g), -EINTR);

	/* Blocked there too, it is no reason to come back. */
	ASSERT_EQ(set_mask(g, BIT(SIGUSR2 - 1)), 0);
	guest_call(g, guest_counts, 3);
	EXPECT_EQ(guest_next(g, &value), PORT_SYNC);
	must(g->vcpu, KVM_SET_SIGNAL_MASK, NULL);
	EXPECT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(sigwait(&blocked, &signal), 0);
}

static u32 guest_sleeps(u64 arg)
{
	spins++;
	asm volatile("cli; hlt");
	spins++;
	return 0;
}

TEST_F(signals, signal_ends_a_sleeping_guest)
{
	struct guest *g = &self->g;
	struct kvm_mp_state mp = {};
	u64 rip;

	guest_call(g, guest_sleeps, 0);
	/* The first signal may come before the HLT. */
	for (int i = 0; i < 100 && mp.mp_state != KVM_MP_STATE_HALTED; i++) {
		run_until_kicked(_metadata, g, 0);
		must(g->vcpu, KVM_GET_MP_STATE, &mp);
	}
	EXPECT_EQ(mp.mp_state, KVM_MP_STATE_HALTED);
	EXPECT_EQ(*guest_var(g, spins), 1);
	/* Still asleep: HLT is not executed twice, nor left. */
	rip = guest_rip(g);
	run_until_kicked(_metadata, g, 0);
	EXPECT_EQ(*guest_var(g, spins), 1);
	EXPECT_EQ(guest_rip(g), rip);
}

/* One vCPU, many threads, one after the other. */

struct turn {
	struct guest *g;
	u32 expected;
	bool right;
};

static void *take_turn(void *arg)
{
	struct turn *turn = arg;
	u32 value;

	for (u32 i = 0; i < 20; i++)
		turn->right &= guest_next(turn->g, &value) == PORT_SYNC &&
			       value == turn->expected++;
	return NULL;
}

TEST_F(signals, vcpu_moves_between_threads)
{
	struct turn turn = { .g = &self->g, .right = true };
	pthread_t thread;

	guest_call(turn.g, guest_counts, FOREVER);
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(pthread_create(&thread, NULL, take_turn, &turn), 0);
		pthread_join(thread, NULL);
		ASSERT_TRUE(turn.right);
		take_turn(&turn);
		ASSERT_TRUE(turn.right);
	}
	EXPECT_EQ(turn.expected, 800);
}

/* Two threads, two VMs, at the same time. */
TEST_F(signals, two_vms_at_once)
{
	struct guest other;
	struct turn turns[2] = {
		{ .g = &self->g, .right = true },
		{ .g = &other, .right = true },
	};
	pthread_t threads[2];

	guest_create(&other, WITH_IRQCHIP);
	for (int i = 0; i < 2; i++)
		guest_call(turns[i].g, guest_counts, FOREVER);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 2; i++) {
			ASSERT_EQ(pthread_create(&threads[i], NULL, take_turn,
						 &turns[i]), 0);
		}
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
	}
	EXPECT_TRUE(turns[0].right);
	EXPECT_TRUE(turns[1].right);
	EXPECT_EQ(turns[0].expected, 200);
	EXPECT_EQ(turns[1].expected, 200);
	guest_destroy(&other);
}

SELFTEST_MAIN
