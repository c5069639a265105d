// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_USER_MEMORY_REGION: what it accepts, what it refuses, and what the
 * guest finds at the addresses afterwards.  Host memory that changes under a
 * slot is for mmu.c, and dirty logs for dirty.c.
 */
#include <kselftest_harness.h>
#include "guest.h"

#define SIZE	(16 * PAGE)
#define GPA	0x40000000ul
#define OTHER	0x50000000ul

FIXTURE(slots) {
	struct guest g;
	u8 *memory;
	int limit;
};

FIXTURE_SETUP(slots)
{
	guest_create(&self->g, 0);
	self->limit = must(self->g.vm, KVM_CHECK_EXTENSION,
			   KVM_CAP_NR_MEMSLOTS);
	self->memory = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->memory, MAP_FAILED);
}

FIXTURE_TEARDOWN(slots)
{
	guest_destroy(&self->g);
	munmap(self->memory, 2 * SIZE);
}

#define SLOT(...) guest_slot(&self->g, __VA_ARGS__)

TEST_F(slots, life_of_a_slot)
{
	u8 *memory = self->memory;

	EXPECT_EQ(SLOT(1, GPA, memory, 0, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE, 0), 0);
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE, 0), 0);	/* no change */
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE / 2, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory + PAGE, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE, KVM_MEM_READONLY), -EINVAL);
	EXPECT_EQ(SLOT(1, OTHER, memory, SIZE, 0), 0);	/* moved */
	EXPECT_EQ(SLOT(2, GPA, memory, SIZE, 0), 0);
	EXPECT_EQ(SLOT(1, OTHER, memory, 0, 0), 0);
	EXPECT_EQ(SLOT(1, OTHER, memory, 0, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, OTHER, memory + PAGE, SIZE, 0), 0);
}

TEST_F(slots, overlap)
{
	u8 *memory = self->memory;

	ASSERT_EQ(SLOT(1, GPA, memory, SIZE, 0), 0);
	EXPECT_EQ(SLOT(2, GPA, memory, SIZE, 0), -EEXIST);
	EXPECT_EQ(SLOT(2, GPA + SIZE - PAGE, memory, SIZE, 0), -EEXIST);
	EXPECT_EQ(SLOT(2, GPA - SIZE + PAGE, memory, SIZE, 0), -EEXIST);
	EXPECT_EQ(SLOT(2, GPA + PAGE, memory, PAGE, 0), -EEXIST);
	EXPECT_EQ(SLOT(2, GPA - PAGE, memory, SIZE + 2 * PAGE, 0), -EEXIST);
	EXPECT_EQ(SLOT(2, GPA + SIZE, memory, SIZE, 0), 0);
	EXPECT_EQ(SLOT(3, GPA - SIZE, memory, SIZE, 0), 0);
	/* A move that would overlap leaves the slot where it is. */
	EXPECT_EQ(SLOT(2, GPA + PAGE, memory, SIZE, 0), -EEXIST);
	EXPECT_EQ(SLOT(4, GPA + SIZE, memory, PAGE, 0), -EEXIST);
	/* A move may overlap the place it leaves. */
	EXPECT_EQ(SLOT(2, GPA + SIZE + PAGE, memory, SIZE, 0), 0);
}

TEST_F(slots, bad_numbers)
{
	u8 *memory = self->memory;

	EXPECT_EQ(SLOT(1, GPA + 1, memory, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA + 2048, memory, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory + 1, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE + 1, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, 1, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE, 1u << 30), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, SIZE, ~0u), -EINVAL);
	/* Sums that wrap around. */
	EXPECT_EQ(SLOT(1, -PAGE, memory, 2 * PAGE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, memory, -PAGE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, (void *)-PAGE, 2 * PAGE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, PAGE, memory, BIT(63), 0), -EINVAL);
	EXPECT_EQ(SLOT(1, 1ul << 40, memory, BIT(45), 0), -EINVAL);
	/* The kernel's half of the address space. */
	EXPECT_EQ(SLOT(1, GPA, (void *)0xffff888000000000, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(1, GPA, (void *)0xffffffff81000000, SIZE, 0), -EINVAL);
	/* Slot numbers. */
	EXPECT_EQ(SLOT(self->limit, GPA, memory, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(0xffff, GPA, memory, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(0x70001, GPA, memory, SIZE, 0), -EINVAL);
	EXPECT_EQ(SLOT(self->limit - 1, GPA, memory, SIZE, 0), 0);
}

TEST_F(slots, guest_follows_create_move_delete)
{
	struct guest *g = &self->g;
	u64 value = 0;

	*(u64 *)self->memory = 0x1111;
	agent_start(g);
	ASSERT_FALSE(agent_read(g, GPA, &value));
	*(u64 *)g->run->mmio.data = 0x2222;
	EXPECT_EQ(agent_finish(g), 0x2222);

	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, 0), 0);
	ASSERT_TRUE(agent_read(g, GPA, &value));
	EXPECT_EQ(value, 0x1111);
	ASSERT_TRUE(agent_write(g, GPA + SIZE - 8, 0x3333));
	EXPECT_EQ(*(u64 *)(self->memory + SIZE - 8), 0x3333);
	EXPECT_FALSE(agent_read(g, GPA + SIZE, &value));
	agent_finish(g);

	ASSERT_EQ(SLOT(1, OTHER, self->memory, SIZE, 0), 0);
	EXPECT_FALSE(agent_read(g, GPA, &value));
	agent_finish(g);
	ASSERT_TRUE(agent_read(g, OTHER + SIZE - 8, &value));
	EXPECT_EQ(value, 0x3333);

	ASSERT_EQ(SLOT(1, OTHER, self->memory, 0, 0), 0);
	EXPECT_FALSE(agent_write(g, OTHER, 7));
	EXPECT_EQ(*(u64 *)g->run->mmio.data, 7);
	agent_finish(g);
	EXPECT_EQ(*(u64 *)self->memory, 0x1111);
}

TEST_F(slots, read_only)
{
	struct guest *g = &self->g;
	u64 value;

	*(u64 *)self->memory = 0x1111;
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, KVM_MEM_READONLY), 0);
	agent_start(g);
	ASSERT_TRUE(agent_read(g, GPA, &value));
	EXPECT_EQ(value, 0x1111);
	for (int round = 0; round < 2; round++) {
		ASSERT_FALSE(agent_write(g, GPA, 0x2222 + round));
		EXPECT_EQ(*(u64 *)g->run->mmio.data, 0x2222 + round);
		agent_finish(g);
		EXPECT_EQ(*(u64 *)self->memory, 0x1111);
		/* Reading does not open the page for writing. */
		ASSERT_TRUE(agent_read(g, GPA, &value));
		EXPECT_EQ(value, 0x1111);
	}
	/* The host's own writes show. */
	*(u64 *)self->memory = 0x4444;
	ASSERT_TRUE(agent_read(g, GPA, &value));
	EXPECT_EQ(value, 0x4444);
	/* Deleted and back as a writable one. */
	ASSERT_EQ(SLOT(1, GPA, self->memory, 0, 0), 0);
	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, 0), 0);
	ASSERT_TRUE(agent_write(g, GPA, 0x5555));
	EXPECT_EQ(*(u64 *)self->memory, 0x5555);
}

TEST_F(slots, two_views_of_the_same_memory)
{
	struct guest *g = &self->g;
	u64 value;

	ASSERT_EQ(SLOT(1, GPA, self->memory, SIZE, 0), 0);
	ASSERT_EQ(SLOT(2, OTHER, self->memory, SIZE, KVM_MEM_READONLY), 0);
	agent_start(g);
	for (u64 i = 0; i < 16; i++) {
		ASSERT_TRUE(agent_write(g, GPA + i * PAGE, i + 1));
		ASSERT_TRUE(agent_read(g, OTHER + i * PAGE, &value));
		EXPECT_EQ(value, i + 1);
	}
	EXPECT_FALSE(agent_write(g, OTHER, 0));
}

TEST_F(slots, as_many_as_there_are)
{
	int last = self->limit < 300 ? self->limit : 300;
	struct guest *g = &self->g;
	u64 value;

	agent_start(g);
	for (int slot = 1; slot < last; slot++) {
		/* Descending and with gaps: order is not what finds them. */
		u64 gpa = GPA + (u64)(last - slot) * 3 * PAGE;

		ASSERT_EQ(SLOT(slot, gpa, self->memory + (slot % 16) * PAGE,
			       PAGE, 0), 0);
	}
	for (int i = 0; i < 16; i++)
		*(u64 *)(self->memory + i * PAGE) = 0x1000 + i;
	for (int slot = 1; slot < last; slot += 7) {
		u64 gpa = GPA + (u64)(last - slot) * 3 * PAGE;

		ASSERT_TRUE(agent_read(g, gpa, &value));
		ASSERT_EQ(value, 0x1000 + slot % 16);
		ASSERT_FALSE(agent_read(g, gpa + PAGE, &value));
		agent_finish(g);
		ASSERT_FALSE(agent_read(g, gpa - 8, &value));
		agent_finish(g);
	}
}

/* Reserved address space only: nothing may be sized by what is not touched. */
TEST_F(slots, huge)
{
	const u64 bytes = 2ul << 30;
	struct guest *g = &self->g;
	u64 value;
	u8 *huge = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT_NE(huge, MAP_FAILED);
	ASSERT_EQ(SLOT(1, GPA, huge, bytes, 0), 0);
	agent_start(g);
	ASSERT_TRUE(agent_write(g, GPA, 1));
	ASSERT_TRUE(agent_write(g, GPA + bytes - 8, 2));
	EXPECT_EQ(*(u64 *)huge, 1);
	EXPECT_EQ(*(u64 *)(huge + bytes - 8), 2);
	EXPECT_FALSE(agent_read(g, GPA + bytes, &value));
	munmap(huge, bytes);
}

/* Places side by side, in which each slot has one page, of its own. */
#define CROWD	60
#define PLACES	(2 * CROWD)

struct crowd {
	struct guest *g;
	u8 *memory;
	int at[PLACES];			/* slot, or 0 */
	int place[CROWD + 1];		/* of a slot, or -1 */
};

static u64 place_gpa(int place)
{
	return GPA + place * PAGE;
}

static bool place_is_right(struct crowd *crowd, int place)
{
	int slot = crowd->at[place];
	u64 value = 0;

	if (agent_read(crowd->g, place_gpa(place), &value))
		return slot && value == 0x1000u + slot;
	agent_finish(crowd->g);
	return !slot;
}

/* Into a place, empty or not; or away, for place -1. */
static int crowd_put(struct crowd *crowd, int slot, int place)
{
	int from = crowd->place[slot];
	u8 *page = crowd->memory + (slot - 1) * PAGE;
	int error = guest_slot(crowd->g, slot, place_gpa(place < 0 ? from : place), page,
			       place < 0 ? 0 : PAGE, 0);

	if (error)
		return error;
	if (from >= 0)
		crowd->at[from] = 0;
	if (place >= 0)
		crowd->at[place] = slot;
	crowd->place[slot] = place;
	return 0;
}

/* Created, moved and deleted in any order, with neighbours on both sides. */
TEST_F(slots, crowd)
{
	struct crowd crowd = {
		.g = &self->g,
		.memory = mmap(NULL, CROWD * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	};
	u32 random = 1;

	ASSERT_NE(crowd.memory, MAP_FAILED);
	agent_start(&self->g);
	for (int slot = 1; slot <= CROWD; slot++) {
		crowd.place[slot] = -1;
		*(u64 *)(crowd.memory + (slot - 1) * PAGE) = 0x1000 + slot;
		/* Every second place, those at the end first. */
		ASSERT_EQ(crowd_put(&crowd, slot, PLACES - 2 * slot), 0);
	}
	for (int step = 0; step < 200; step++) {
		int slot, from, to;

		random = random * 1664525 + 1013904223;
		slot = 1 + (random >> 8) % CROWD;
		from = crowd.place[slot];
		to = (random >> 16) % PLACES;
		if (from >= 0 && step % 4 == 0)
			to = -1;
		if (to >= 0 && crowd.at[to] && crowd.at[to] != slot) {
			ASSERT_EQ(crowd_put(&crowd, slot, to), -EEXIST);
		} else {
			ASSERT_EQ(crowd_put(&crowd, slot, to), 0);
		}
		if (from >= 0)
			ASSERT_TRUE(place_is_right(&crowd, from));
		if (to >= 0)
			ASSERT_TRUE(place_is_right(&crowd, to));
		ASSERT_TRUE(place_is_right(&crowd, step % PLACES));
	}
	for (int place = 0; place < PLACES; place++)
		ASSERT_TRUE(place_is_right(&crowd, place));
	munmap(crowd.memory, CROWD * PAGE);
}

/*
 * A PC with 4 GiB: up to 3 GiB, and on behind the devices' hole.  The host may have
 * less; only what is touched takes any.
 */
TEST_F(slots, memory_beyond_4_gib)
{
	const u64 gib = 1ul << 30, low_end = 3 * gib, high = 4 * gib;
	const u64 high_end = high + gib + 16 * HUGE, step = 251 * (gib >> 10) + 5 * PAGE;
	const u64 bytes = low_end + high_end - high;
	struct guest *g = &self->g;
	u64 *pdpt = guest_at(g, GUEST_PDPT), *pd = guest_at(g, GUEST_FREE);
	u64 value;
	u8 *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT_NE(memory, MAP_FAILED);
	ASSERT_EQ(SLOT(1, GUEST_MEM, memory + GUEST_MEM, low_end - GUEST_MEM, 0), 0);
	ASSERT_EQ(SLOT(2, high, memory + low_end, high_end - high, 0), 0);
	agent_start(g);
	/* The guest's own tables end at 4 GiB; two more. */
	for (u64 i = 0; i < 1024; i++)
		pd[i] = (high + i * HUGE) | 7 | BIT(7);
	for (u64 i = 0; i < 2; i++)
		pdpt[4 + i] = (GUEST_FREE + i * PAGE) | 7;

	for (u64 gpa = GUEST_MEM; gpa < high_end; gpa += step) {
		if (gpa < low_end || gpa >= high)
			ASSERT_TRUE(agent_write(g, gpa, ~gpa));
	}
	ASSERT_TRUE(agent_write(g, low_end - 8, 1));
	ASSERT_TRUE(agent_write(g, high, 2));
	ASSERT_TRUE(agent_write(g, high_end - 8, 3));
	for (u64 gpa = GUEST_MEM; gpa < high_end; gpa += step) {
		if (gpa >= low_end && gpa < high)
			continue;
		ASSERT_EQ(*(u64 *)(memory + gpa - (gpa < high ? 0 : high - low_end)), ~gpa);
		ASSERT_TRUE(agent_read(g, gpa, &value));
		ASSERT_EQ(value, ~gpa);
	}
	EXPECT_EQ(*(u64 *)(memory + low_end - 8), 1);
	EXPECT_EQ(*(u64 *)(memory + low_end), 2);
	EXPECT_EQ(*(u64 *)(memory + bytes - 8), 3);

	EXPECT_FALSE(agent_read(g, low_end, &value));
	agent_finish(g);
	EXPECT_FALSE(agent_read(g, high - 8, &value));
	agent_finish(g);
	EXPECT_FALSE(agent_write(g, high_end, 4));
	agent_finish(g);
	munmap(memory, bytes);
}

SELFTEST_MAIN
