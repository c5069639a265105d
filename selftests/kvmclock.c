// SPDX-License-Identifier: GPL-2.0
/*
 * kvmclock: the guest's time, from its TSC and a page that the host writes, against
 * what KVM_GET_CLOCK and the host's clocks say.
 *
 * The layouts and MSRs are those of "KVM-specific MSRs" in the kernel's
 * documentation.
 */
#include <time.h>
#include <kselftest_harness.h>
#include "guest.h"

#define MSR_WALL	0x4b564d00
#define MSR_TIME	0x4b564d01
#define MSR_WALL_OLD	0x11
#define MSR_TIME_OLD	0x12
#define MSR_TSC		0x10
#define MSR_TSC_ADJUST	0x3b
#define STABLE		BIT(0)
#define STOPPED		BIT(1)

struct time_page {
	u32 version, pad;
	u64 tsc, ns;
	u32 mul;
	signed char shift;
	u8 flags, pad2[2];
};

struct wall_page {
	u32 version, sec, nsec;
};

/* Stock KVM leaves one alone that goes across two pages. */
static const u64 pages[] = { GUEST_FREE + 0x40, GUEST_FREE + 3 * PAGE - sizeof(struct time_page) };
#define WALL_PAGE	(GUEST_FREE + 5 * PAGE + 4)

FIXTURE(kvmclock) {
	struct guest g;
	struct guest other;	/* vCPU 1 of the same VM */
};

FIXTURE_SETUP(kvmclock)
{
	guest_create(&self->g, 0);
	self->other = self->g;
	self->other.vcpu = guest_add_vcpu(&self->g, 1);
	self->other.run = mmap(NULL, self->g.run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			       self->other.vcpu, 0);
	if (self->other.run == MAP_FAILED)
		die("mmap: %s", strerror(errno));
}

FIXTURE_TEARDOWN(kvmclock)
{
	munmap(self->other.run, self->g.run_size);
	close(self->other.vcpu);
	guest_destroy(&self->g);
}

static u64 host_clock(struct guest *g)
{
	struct kvm_clock_data data;

	must(g->vm, KVM_GET_CLOCK, &data);
	return data.clock;
}

static void set_clock(struct guest *g, u64 ns)
{
	struct kvm_clock_data data = { .clock = ns };

	must(g->vm, KVM_SET_CLOCK, &data);
}

/* --- The guest --- */

static volatile u64 guest_time[2], guest_flags[2];

static u64 rdtsc(void)
{
	u32 low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low | (u64)high << 32;
}

static void look(u64 which)
{
	volatile struct time_page *page = (void *)pages[which];
	u64 delta, ns;
	u32 version;

	do {
		version = page->version;
		delta = rdtsc() - page->tsc;
		delta = page->shift < 0 ? delta >> -page->shift : delta << page->shift;
		ns = page->ns + (u64)(((unsigned __int128)delta * page->mul) >> 32);
		guest_flags[which] = page->flags;
	} while (version != page->version || version & 1);
	guest_time[which] = ns;
}

static u32 guest_clock(u64 arg)
{
	u64 which = arg & 1;

	wrmsr(arg & 2 ? MSR_TIME_OLD : MSR_TIME, pages[which] | 1);
	guest_equal(rdmsr(MSR_TIME), pages[which] | 1);
	guest_equal(rdmsr(MSR_TIME_OLD), pages[which] | 1);
	for (;;) {
		look(which);
		guest_sync(0);
	}
}

/* What its clock says next. */
static u64 next(struct guest *g, int which)
{
	u32 value;

	if (guest_next(g, &value) != PORT_SYNC)
		die("the guest has not looked at its clock");
	return guest_var(g, guest_time)[0][which];
}

static void begin(struct guest *g, u64 which)
{
	guest_call(g, guest_clock, which);
	next(g, which & 1);
}

static u8 flags_of(struct guest *g, int which)
{
	return ((struct time_page *)guest_at(g, pages[which]))->flags;
}

/* Its clock and the host's view of it are one. */
static bool agrees(struct guest *g, int which)
{
	const u64 slack = 2000000;
	u64 before = host_clock(g), there = next(g, which), after = host_clock(g);

	if (there + slack >= before && there <= after + slack)
		return true;
	printf("# the guest has %llu ns, the host had %llu before and %llu after\n",
	       there, before, after);
	return false;
}

/* --- Tests --- */

TEST_F(kvmclock, is_announced)
{
	u32 regs[4];

	/* The host's crystal and bus are not those of a guest. */
	for (u32 function = 0x15; function <= 0x16; function++) {
		device_cpuid(function, regs);
		EXPECT_EQ(regs[0] | regs[1] | regs[2], 0);
	}
	device_cpuid(0x40000001, regs);
	EXPECT_TRUE(regs[0] & BIT(0));
	EXPECT_TRUE(regs[0] & BIT(3));
	EXPECT_TRUE(regs[0] & BIT(24));
	EXPECT_TRUE(device_has(KVM_CAP_KVMCLOCK_CTRL));
}

TEST_F(kvmclock, is_saved_by_vmms)
{
	EXPECT_EQ(device_lists_msr(MSR_WALL), 1);
	EXPECT_EQ(device_lists_msr(MSR_TIME), 1);
	EXPECT_EQ(device_lists_msr(MSR_WALL_OLD), 1);
	EXPECT_EQ(device_lists_msr(MSR_TIME_OLD), 1);
}

TEST_F(kvmclock, is_the_hosts_clock)
{
	for (u64 how = 0; how < 4; how++) {
		begin(&self->g, how);
		for (int i = 0; i < 5; i++) {
			EXPECT_TRUE(agrees(&self->g, how & 1));
			usleep(2000);
		}
	}
}

TEST_F(kvmclock, can_be_set)
{
	static const u64 times[] = { 1ull << 60, 1000000000, 12345678901234567 };

	begin(&self->g, 0);
	begin(&self->other, 1);
	for (size_t i = 0; i < 3; i++) {
		set_clock(&self->g, times[i]);
		EXPECT_GE(next(&self->g, 0), times[i]);
		EXPECT_GE(next(&self->other, 1), times[i]);
		EXPECT_TRUE(agrees(&self->g, 0));
		EXPECT_TRUE(agrees(&self->other, 1));
	}
}

/* A moment that one vCPU has seen is past for all. */
TEST_F(kvmclock, never_goes_back_between_vcpus)
{
	u64 last = 0;

	begin(&self->g, 0);
	begin(&self->other, 1);
	if (!(flags_of(&self->g, 0) & flags_of(&self->other, 1) & STABLE))
		SKIP(return, "it is not said to be stable here");
	for (int i = 0; i < 200; i++) {
		u64 now = i % 3 ? next(&self->g, 0) : next(&self->other, 1);

		ASSERT_GE(now, last);
		last = now;
	}
}

/* The TSC is the guest's to change; time is not. */
TEST_F(kvmclock, bears_another_tsc)
{
	static const u64 values[] = { 1ull << 50, 5000, 1ull << 40 };
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1 };

	if (!device_is_minikvm())
		SKIP(return, "stock KVM updates the clock later, with something else");
	begin(&self->g, 0);
	for (size_t i = 0; i < 3; i++) {
		msrs.entry.index = MSR_TSC;
		msrs.entry.data = values[i];
		ASSERT_EQ(must(self->g.vcpu, KVM_SET_MSRS, &msrs), 1);
		EXPECT_TRUE(agrees(&self->g, 0));
	}
}

static u32 guest_moves_tsc(u64 unused)
{
	wrmsr(MSR_TIME, pages[0] | 1);
	look(0);
	for (u64 i = 0; i < 6; i++) {
		u64 before = guest_time[0];

		if (i & 1)
			wrmsr(MSR_TSC_ADJUST, rdmsr(MSR_TSC_ADJUST) - (i << 40));
		else
			wrmsr(MSR_TSC, rdtsc() + (i << 42));
		look(0);
		guest_check(guest_time[0] >= before);
		guest_check(guest_time[0] - before < 10000000000ull);
	}
	return 7;
}

TEST_F(kvmclock, bears_a_guest_that_writes_its_tsc)
{
	if (!device_is_minikvm())
		SKIP(return, "stock KVM updates the clock later, with something else");
	guest_call(&self->g, guest_moves_tsc, 0);
	EXPECT_EQ(guest_finish(&self->g), 7);
}

TEST_F(kvmclock, tells_that_the_guest_was_stopped)
{
	struct guest *g = &self->g;
	struct time_page *page = guest_at(g, pages[0]);

	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_KVMCLOCK_CTRL, 0)), -EINVAL);
	begin(g, 0);
	EXPECT_FALSE(page->flags & STOPPED);
	ASSERT_EQ(outcome(ioctl(g->vcpu, KVM_KVMCLOCK_CTRL, 0)), 0);
	next(g, 0);
	EXPECT_TRUE(page->flags & STOPPED);
	/* It stays until the guest takes it back. */
	set_clock(g, 1000);
	next(g, 0);
	EXPECT_TRUE(page->flags & STOPPED);
	page->flags &= ~STOPPED;
	set_clock(g, 1000);
	next(g, 0);
	EXPECT_FALSE(page->flags & STOPPED);
	EXPECT_EQ(page->version & 1, 0);
}

static u32 guest_wall(u64 msr)
{
	wrmsr(msr, WALL_PAGE);
	guest_equal(rdmsr(MSR_WALL), WALL_PAGE);
	return 5;
}

TEST_F(kvmclock, wall_clock)
{
	static const u32 numbers[] = { MSR_WALL, MSR_WALL_OLD };
	struct guest *g = &self->g;
	struct wall_page *wall = guest_at(g, WALL_PAGE);
	struct timespec now;

	for (int i = 0; i < 2; i++) {
		u64 clock, there, here;

		memset(wall, 0, sizeof(*wall));
		guest_call(g, guest_wall, numbers[i]);
		EXPECT_EQ(guest_finish(g), 5);
		clock_gettime(CLOCK_REALTIME, &now);
		clock = host_clock(g);
		here = now.tv_sec * 1000000000ull + now.tv_nsec;
		there = wall->sec * 1000000000ull + wall->nsec + clock;
		EXPECT_NE(wall->version, 0);
		EXPECT_EQ(wall->version & 1, 0);
		EXPECT_LT(wall->nsec, 1000000000u);
		EXPECT_LT(there, here + 500000000);
		EXPECT_GT(there, here - 500000000);
	}
}

static u32 guest_switches_off(u64 unused)
{
	wrmsr(MSR_TIME, pages[0] | 1);
	guest_sync(0);
	wrmsr(MSR_TIME, 0);
	guest_sync(1);
	guest_sync(2);
	return 0;
}

TEST_F(kvmclock, can_be_switched_off)
{
	struct guest *g = &self->g;
	struct time_page before;
	u32 value;

	guest_call(g, guest_switches_off, 0);
	guest_next(g, &value);
	guest_next(g, &value);
	memcpy(&before, guest_at(g, pages[0]), sizeof(before));
	EXPECT_NE(before.version, 0);
	set_clock(g, 77);
	guest_next(g, &value);
	EXPECT_EQ(memcmp(&before, guest_at(g, pages[0]), sizeof(before)), 0);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_KVMCLOCK_CTRL, 0)), -EINVAL);
}

static u32 guest_asks_for_the_impossible(u64 unused)
{
	static const u64 addresses[] = {
		GUEST_MMIO, GUEST_MEM - 4, 1ull << 45, ~0ull << 2, 0xfffffffffffff000,
	};

	for (u64 i = 0; i < 5; i++) {
		wrmsr_safe(MSR_WALL, addresses[i]);
		wrmsr_safe(MSR_TIME, addresses[i] | 1);
		guest_sync(i);
	}
	return 9;
}

TEST_F(kvmclock, without_memory_there)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_asks_for_the_impossible, 0);
	for (u32 i = 0; i < 5; i++) {
		ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
		EXPECT_EQ(value, i);
		set_clock(g, 1000);
	}
	EXPECT_EQ(guest_finish(g), 9);
}

/* A VMM restores a guest that had a clock: the page is written again. */
TEST_F(kvmclock, restored_by_the_vmm)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = MSR_TIME, .data = pages[0] | 1 } };
	struct guest *g = &self->g;
	struct time_page *page = guest_at(g, pages[0]);

	begin(g, 0);
	memset(page, 0, sizeof(*page));
	set_clock(g, 1ull << 50);
	ASSERT_EQ(must(g->vcpu, KVM_SET_MSRS, &msrs), 1);
	EXPECT_GE(next(g, 0), 1ull << 50);
	ASSERT_EQ(must(g->vcpu, KVM_GET_MSRS, &msrs), 1);
	EXPECT_EQ(msrs.entry.data, pages[0] | 1);
}

SELFTEST_MAIN
