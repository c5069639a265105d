// SPDX-License-Identifier: GPL-2.0
/*
 * Register combinations that no processor takes, one after the other.  Each
 * has to be refused by the ioctl, or to end KVM_RUN with an exit; the host
 * stays up, and another guest runs on as if nothing had been.
 */
#include <signal.h>
#include <sys/time.h>
#include <kselftest_harness.h>
#include "guest.h"

#define NON_CANONICAL	0x1234567800000000ull

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

/* A number for each wrong state of one kind: false when there are no more. */
struct kind {
	const char *name;
	bool (*spoil)(struct state *state, u32 n);
	bool must_refuse;	/* KVM_SET_SREGS itself says EINVAL */
};

static bool cr0_reserved(struct state *s, u32 n)
{
	if (n >= 32)
		return false;
	s->sregs.cr0 |= BIT(32 + n);
	return true;
}

static bool cr0_combinations(struct state *s, u32 n)
{
	static const struct { u64 clear, set; } changes[] = {
		{ CR0_PE, 0 },			/* PG without PE */
		{ CR0_CD, CR0_NW },		/* NW without CD */
		{ CR0_PE | CR0_CD, CR0_NW },
	};

	if (n >= ARRAY_SIZE(changes))
		return false;
	s->sregs.cr0 = (s->sregs.cr0 & ~changes[n].clear) | changes[n].set;
	return true;
}

static bool cr4_reserved(struct state *s, u32 n)
{
	static const u8 bits[] = { 15, 19, 26, 27, 28, 29, 30, 31 };

	if (n >= 32 + ARRAY_SIZE(bits))
		return false;
	s->sregs.cr4 |= n < 32 ? BIT(32 + n) : BIT(bits[n - 32]);
	return true;
}

static bool efer_reserved(struct state *s, u32 n)
{
	static const u8 low[] = { 1, 2, 3, 4, 5, 6, 7, 9 };

	if (n >= 32 + ARRAY_SIZE(low))
		return false;
	s->sregs.efer |= n < 32 ? BIT(32 + n) : BIT(low[n - 32]);
	return true;
}

static bool long_mode_combinations(struct state *s, u32 n)
{
	switch (n) {
	case 0:				/* long mode without PAE */
		s->sregs.cr4 &= ~CR4_PAE;
		return true;
	case 1:				/* LMA without LME */
		s->sregs.efer &= ~EFER_LME;
		return true;
	case 2:				/* LME and paging, no LMA */
		s->sregs.efer &= ~EFER_LMA;
		return true;
	case 3:				/* LMA without paging */
		s->sregs.cr0 &= ~CR0_PG;
		return true;
	case 4:				/* code of both 64 and 32 bits */
		s->sregs.cs.db = 1;
		return true;
	case 5:
		s->sregs.cr0 &= ~(CR0_PG | CR0_PE);
		return true;
	}
	return false;
}

static bool cr3_reserved(struct state *s, u32 n)
{
	if (n >= 12)
		return false;
	s->sregs.cr3 |= BIT(52 + n);
	return true;
}

static bool bad_apic_base(struct state *s, u32 n)
{
	if (n >= 8)
		return false;
	s->sregs.apic_base |= n < 6 ? BIT(58 + n) : BIT(n == 6 ? 0 : 7);
	return true;
}

static bool code_types(struct state *s, u32 n)
{
	if (n >= 16)
		return false;
	s->sregs.cs.type = n;
	return true;
}

static bool code_attributes(struct state *s, u32 n)
{
	switch (n) {
	case 0:
		s->sregs.cs.present = 0;
		return true;
	case 1:
		s->sregs.cs.s = 0;
		return true;
	case 2:
		s->sregs.cs.unusable = 1;
		return true;
	case 3:
		s->sregs.cs.g = 0;	/* with a limit of 4 GiB */
		return true;
	case 4:
		s->sregs.cs.dpl = 3;
		return true;
	case 5:
		s->sregs.cs.dpl = 2;
		return true;
	case 6:
		s->sregs.cs.selector |= 3;
		return true;
	case 7:
		s->sregs.cs.base = NON_CANONICAL;
		return true;
	case 8:
		s->sregs.cs.base = ~0ull;
		return true;
	case 9:
		s->sregs.cs.limit = 0xfff00000;	/* with G, low bits clear */
		return true;
	}
	return false;
}

static bool stack_types(struct state *s, u32 n)
{
	if (n >= 16)
		return false;
	s->sregs.ss.type = n;
	return true;
}

static bool stack_attributes(struct state *s, u32 n)
{
	switch (n) {
	case 0:
		s->sregs.ss.present = 0;
		return true;
	case 1:
		s->sregs.ss.s = 0;
		return true;
	case 2:
		s->sregs.ss.dpl = 3;
		return true;
	case 3:
		s->sregs.ss.selector |= 2;
		return true;
	case 4:
		s->sregs.ss.unusable = 1;
		return true;
	}
	return false;
}

static bool data_attributes(struct state *s, u32 n)
{
	struct kvm_segment *segments[] = {
		&s->sregs.ds, &s->sregs.es, &s->sregs.fs, &s->sregs.gs,
	};
	struct kvm_segment *segment = segments[n % 4];

	switch (n / 4) {
	case 0:
		segment->type = 2 | 8;
		return true;
	case 1:
		segment->type = 8;	/* execute only */
		return true;
	case 2:
		segment->s = 0;
		return true;
	case 3:
		segment->present = 0;
		return true;
	case 4:
		segment->base = NON_CANONICAL;
		return true;
	case 5:
		segment->selector |= 3;
		return true;
	}
	return false;
}

static bool task_register(struct state *s, u32 n)
{
	switch (n) {
	case 16:
		s->sregs.tr.present = 0;
		return true;
	case 17:
		s->sregs.tr.unusable = 1;
		return true;
	case 18:
		s->sregs.tr.s = 1;
		return true;
	case 19:
		s->sregs.tr.selector |= 4;	/* in the LDT */
		return true;
	case 20:
		s->sregs.tr.base = NON_CANONICAL;
		return true;
	case 21:
		s->sregs.tr.limit = 0xfffff;
		s->sregs.tr.g = 0;
		return true;
	}
	if (n > 21)
		return false;
	s->sregs.tr.type = n;
	return true;
}

static bool local_descriptor_table(struct state *s, u32 n)
{
	s->sregs.ldt = (struct kvm_segment){
		.selector = SEL_LDT, .base = 0x9000, .limit = 0x7f,
		.type = 2, .present = 1,
	};
	switch (n) {
	case 16:
		s->sregs.ldt.present = 0;
		return true;
	case 17:
		s->sregs.ldt.s = 1;
		return true;
	case 18:
		s->sregs.ldt.selector |= 4;
		return true;
	case 19:
		s->sregs.ldt.base = NON_CANONICAL;
		return true;
	}
	if (n > 19)
		return false;
	s->sregs.ldt.type = n;
	return true;
}

static bool descriptor_tables(struct state *s, u32 n)
{
	switch (n) {
	case 0:
		s->sregs.gdt.base = NON_CANONICAL;
		return true;
	case 1:
		s->sregs.idt.base = NON_CANONICAL;
		return true;
	case 2:
		s->sregs.gdt.base = ~0ull;
		return true;
	case 3:
		s->sregs.idt.base = ~0ull;
		return true;
	}
	return false;
}

static bool instruction_pointers(struct state *s, u32 n)
{
	static const u64 rips[] = {
		NON_CANONICAL, BIT(47), BIT(63), 0x7fffffffffff, ~0ull,
		0xffff800000000000, 0xffff7fffffffffff, GUEST_MMIO,
	};

	if (n >= ARRAY_SIZE(rips))
		return false;
	s->regs.rip = rips[n];
	return true;
}

static bool flags(struct state *s, u32 n)
{
	static const u8 low[] = { 3, 5, 15, 17, 22, 31 };

	if (n >= 32 + ARRAY_SIZE(low))
		return false;
	s->regs.rflags |= n < 32 ? BIT(32 + n) : BIT(low[n - 32]);
	return true;
}

static bool stack_pointers(struct state *s, u32 n)
{
	if (n >= 3)
		return false;
	s->regs.rsp = n == 0 ? NON_CANONICAL : n == 1 ? BIT(63) : 0;
	return true;
}

/* All fields alike: nothing in it fits together. */
static bool everything(struct state *s, u32 n)
{
	static const u8 fills[] = { 0x00, 0xff, 0x55, 0xaa, 0x7f, 0x80, 0x01 };

	if (n >= ARRAY_SIZE(fills))
		return false;
	memset(&s->sregs, fills[n], sizeof(s->sregs));
	memset(s->sregs.interrupt_bitmap, 0, sizeof(s->sregs.interrupt_bitmap));
	return true;
}

/* Without long mode nobody looks at CR3's upper half before the CPU does. */
static bool cr3_of_legacy_mode(struct state *s, u32 n)
{
	if (n >= 16)
		return false;
	s->sregs.efer = 0;
	s->sregs.cr0 &= ~CR0_PG;
	s->sregs.cs.l = 0;
	s->sregs.cs.db = 1;
	s->sregs.cr3 |= BIT(48 + n);
	return true;
}

/* Repeatable: the same states on each machine and in each run. */
static bool noise(struct state *s, u32 n)
{
	u8 *bytes = (u8 *)&s->sregs;
	u64 seed = n * 0x9e3779b97f4a7c15ull + 1;

	if (n >= 200)
		return false;
	/* A few bytes of a good state, or it is refused at once. */
	for (u32 i = 0; i <= n % 5; i++) {
		size_t at;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		at = (seed >> 33) %
		     offsetof(struct kvm_sregs, interrupt_bitmap);
		bytes[at] ^= seed >> 56;
	}
	return true;
}

static const struct kind kinds[] = {
	{ "reserved bits of CR0", cr0_reserved, true },
	{ "CR0", cr0_combinations, true },
	{ "reserved bits of CR4", cr4_reserved, true },
	{ "reserved bits of EFER", efer_reserved },
	{ "long mode", long_mode_combinations },
	{ "reserved bits of CR3", cr3_reserved, true },
	{ "CR3 of legacy mode", cr3_of_legacy_mode },
	{ "APIC base", bad_apic_base },
	{ "type of CS", code_types },
	{ "CS", code_attributes },
	{ "type of SS", stack_types },
	{ "SS", stack_attributes },
	{ "data segments", data_attributes },
	{ "TR", task_register },
	{ "LDTR", local_descriptor_table },
	{ "GDTR and IDTR", descriptor_tables },
	{ "RIP", instruction_pointers },
	{ "RFLAGS", flags },
	{ "RSP", stack_pointers },
	{ "everything", everything },
	{ "noise", noise },
};

GUEST_ASM(halts64, 64, "1: hlt\n jmp 1b\n");

static void ignore_signal(int signal)
{
}

/* A state that runs after all may run for ever: a timer ends it. */
static void arm_timer(bool on)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	struct itimerval timer = {
		.it_value.tv_usec = on ? 5000 : 0,
		.it_interval.tv_usec = on ? 1000 : 0,
	};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void good_state(struct guest *g, struct state *state)
{
	guest_load(g, halts64);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	must(g->vcpu, KVM_GET_SREGS, &state->sregs);
	must(g->vcpu, KVM_GET_REGS, &state->regs);
}

/*
 * An entry that failed has changed nothing: not the priority, where what another guest
 * (the bystander) had must not show, nor may what the host has.
 */
static void check_failed_entry(struct __test_metadata *_metadata, struct guest *g,
			       const struct state *bad)
{
	struct state now;

	must(g->vcpu, KVM_GET_SREGS, &now.sregs);
	must(g->vcpu, KVM_GET_REGS, &now.regs);
	EXPECT_EQ(now.sregs.cr8, 3);
	/* Of QEMU's CPU, stock KVM passes on what it leaves there. */
	if (!device_is_minikvm())
		return;
	EXPECT_EQ(now.regs.rip, bad->regs.rip);
	EXPECT_EQ(now.regs.rsp, bad->regs.rsp);
	EXPECT_TRUE(!now.sregs.cr3 || now.sregs.cr3 == bad->sregs.cr3)
		TH_LOG("CR3 %llx", now.sregs.cr3);
	EXPECT_TRUE(!now.sregs.gs.base || now.sregs.gs.base == bad->sregs.gs.base);
}

struct tally {
	u32 states, refused, ran, failed, spoiled;
};

static int run_spoiled(struct guest *g, const struct state *state,
		       struct tally *tally)
{
	int ret;

	tally->states++;
	ret = outcome(ioctl(g->vcpu, KVM_SET_SREGS, &state->sregs));
	if (!ret)
		ret = outcome(ioctl(g->vcpu, KVM_SET_REGS, &state->regs));
	if (ret) {
		tally->refused++;
		return ret;
	}
	arm_timer(true);
	ret = outcome(ioctl(g->vcpu, KVM_RUN, 0));
	arm_timer(false);
	tally->ran++;
	return ret;
}

FIXTURE(bad) {
	struct guest g;
	struct guest bystander;
};

FIXTURE_SETUP(bad)
{
	guest_create(&self->g, 0);
	guest_create(&self->bystander, 0);
	guest_load(&self->bystander, halts64);
	guest_mode(&self->bystander, MODE_LONG, GUEST_CODE);
	self->bystander.run->cr8 = 5;
}

FIXTURE_TEARDOWN(bad)
{
	guest_run_to(&self->bystander, KVM_EXIT_HLT);
	guest_destroy(&self->g);
	guest_destroy(&self->bystander);
}

/*
 * A refused state changes nothing; any other is undone.  What may be left is
 * an exception on its way, which is no part of these registers.
 */
static void restore(struct guest *g, const struct state *good,
		    struct tally *tally)
{
	must(g->vcpu, KVM_SET_SREGS, &good->sregs);
	must(g->vcpu, KVM_SET_REGS, &good->regs);
	g->run->cr8 = good->sregs.cr8;
	if (guest_run(g) == KVM_EXIT_HLT)
		return;
	tally->spoiled++;
	guest_destroy(g);
	guest_create(g, 0);
}

static void run_kind(struct __test_metadata *_metadata, struct guest *g,
		     struct guest *bystander, const struct kind *kind,
		     struct tally *tally)
{
	struct state good, bad;
	int ret;

	for (u32 n = 0; ; n++) {
		good_state(g, &good);
		good.sregs.cr8 = g->run->cr8 = 3;
		bad = good;
		if (!kind->spoil(&bad, n))
			return;
		ret = run_spoiled(g, &bad, tally);
		if (kind->must_refuse) {
			EXPECT_EQ(ret, -EINVAL)
				TH_LOG("%s, number %u", kind->name, n);
		} else {
			EXPECT_TRUE(ret == 0 || ret == -EINVAL ||
				    ret == -EINTR || ret == -EFAULT)
				TH_LOG("%s, number %u: %d", kind->name, n, ret);
		}
		if (!ret && g->run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
			tally->failed++;
			check_failed_entry(_metadata, g, &bad);
		}
		restore(g, &good, tally);
		guest_run_to(bystander, KVM_EXIT_HLT);
	}
}

TEST_F_TIMEOUT(bad, states, 120)
{
	struct tally tally = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		run_kind(_metadata, &self->g, &self->bystander, &kinds[i],
			 &tally);
	TH_LOG("%u states, %u refused, %u tried, %u failed to enter, %u vCPUs spoiled",
	       tally.states, tally.refused, tally.ran, tally.failed, tally.spoiled);
	EXPECT_GE(tally.states, 300);
}

/* Out of a refused KVM_SET_SREGS nothing may have gone in. */
TEST_F(bad, refused_means_unchanged)
{
	struct kvm_sregs after;
	struct state good, bad;

	good_state(&self->g, &good);
	bad = good;
	bad.sregs.cr2 = 0x1234;
	bad.sregs.gdt.limit = 0x77;
	bad.sregs.cr4 |= BIT(40);
	EXPECT_EQ(outcome(ioctl(self->g.vcpu, KVM_SET_SREGS, &bad.sregs)),
		  -EINVAL);
	must(self->g.vcpu, KVM_GET_SREGS, &after);
	EXPECT_EQ(memcmp(&after, &good.sregs, sizeof(after)), 0);
}

/* Code and page tables that are garbage: the guest's own trouble. */
TEST_F_TIMEOUT(bad, garbage_memory, 120)
{
	struct guest *g = &self->g;

	for (u32 round = 0; round < 60; round++) {
		enum guest_mode mode = round % MODE_COUNT;
		u64 seed = round * 0x9e3779b97f4a7c15ull + 7;
		u8 *memory = guest_at(g, GUEST_CODE);
		int ret;

		for (u32 i = 0; i < PAGE; i++) {
			seed = seed * 6364136223846793005ull + 1;
			memory[i] = seed >> 56;
		}
		guest_mode(g, mode, GUEST_CODE);
		if (round >= 30)
			memcpy(guest_at(g, GUEST_CR3), memory, PAGE);
		arm_timer(true);
		ret = outcome(ioctl(g->vcpu, KVM_RUN, 0));
		arm_timer(false);
		EXPECT_TRUE(ret == 0 || ret == -EINTR || ret == -EFAULT)
			TH_LOG("round %u: %d", round, ret);
	}
}

SELFTEST_MAIN
