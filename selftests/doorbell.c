// SPDX-License-Identifier: GPL-2.0
/*
 * Device writes that no vCPU waits for: ioeventfds and the coalesced ring.
 *
 * The agent (guest.h) writes where the host says; whether KVM_RUN ended with an
 * MMIO exit tells who has taken the write. Ports have small guests of their own.
 */
#include <sys/eventfd.h>
#include <kselftest_harness.h>
#include "guest.h"

#define BELL	GUEST_MMIO
#define PORT	0x1234
#define ANY	0
#define MATCH	KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO	KVM_IOEVENTFD_FLAG_PIO
#define REMOVE	KVM_IOEVENTFD_FLAG_DEASSIGN

static int event(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		die("no eventfd: %s", strerror(errno));
	return fd;
}

static u64 rung(int fd)
{
	u64 value;

	return read(fd, &value, sizeof(value)) == sizeof(value) ? value : 0;
}

static int bell(struct guest *g, int fd, u64 addr, u32 len, u32 flags, u64 data)
{
	struct kvm_ioeventfd args = {
		.fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = data };

	return outcome(ioctl(g->vm, KVM_IOEVENTFD, &args));
}

static int zone(struct guest *g, unsigned long request, u64 addr, u32 size, u32 pio)
{
	struct kvm_coalesced_mmio_zone args = { .addr = addr, .size = size, .pio = pio };

	return outcome(ioctl(g->vm, request, &args));
}

static struct kvm_coalesced_mmio_ring *ring(struct guest *g)
{
	return (void *)((u8 *)g->run + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE);
}

/* Of the agent's write: did nobody but userspace take it? */
static bool reaches_us(struct guest *g, u64 gpa, u64 value)
{
	if (agent_write(g, gpa, value))
		return false;
	agent_finish(g);
	return true;
}

FIXTURE(doorbell) {
	struct guest g;
	int a, b;
};

FIXTURE_SETUP(doorbell)
{
	if (!device_has(KVM_CAP_IOEVENTFD))
		SKIP(return, "no KVM_CAP_IOEVENTFD");
	guest_create(&self->g, 0);
	self->a = event();
	self->b = event();
}

FIXTURE_TEARDOWN(doorbell)
{
	close(self->a);
	close(self->b);
	guest_destroy(&self->g);
}

/* --- ioeventfds --- */

TEST_F(doorbell, wrong_use)
{
	struct guest *g = &self->g;
	int file = open("/proc/self/stat", O_RDONLY);

	EXPECT_EQ(bell(g, self->a, BELL, 3, 0, 0), -EINVAL);
	EXPECT_EQ(bell(g, self->a, BELL, 16, 0, 0), -EINVAL);
	EXPECT_EQ(bell(g, self->a, BELL, 4, BIT(31), 0), -EINVAL);
	EXPECT_EQ(bell(g, self->a, -4ull, 8, 0, 0), -EINVAL);
	EXPECT_EQ(bell(g, self->a, BELL, ANY, MATCH, 0), -EINVAL);
	EXPECT_EQ(bell(g, -1, BELL, 4, 0, 0), -EBADF);
	EXPECT_EQ(bell(g, file, BELL, 4, 0, 0), -EINVAL);
	EXPECT_EQ(bell(g, self->a, BELL, 4, REMOVE, 0), -ENOENT);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_IOEVENTFD, 8)), -EFAULT);
	close(file);
}

TEST_F(doorbell, each_address_once)
{
	struct guest *g = &self->g;

	ASSERT_EQ(bell(g, self->a, BELL, 4, MATCH, 1), 0);
	EXPECT_EQ(bell(g, self->b, BELL, 4, MATCH, 1), -EEXIST);
	EXPECT_EQ(bell(g, self->b, BELL, 4, 0, 0), -EEXIST);
	EXPECT_EQ(bell(g, self->b, BELL, ANY, 0, 0), -EEXIST);
	EXPECT_EQ(bell(g, self->b, BELL, 4, MATCH, 2), 0);
	EXPECT_EQ(bell(g, self->b, BELL, 8, 0, 0), 0);
	EXPECT_EQ(bell(g, self->b, BELL, 4, PIO, 0), 0);
	/* What is taken back must be named as it was made. */
	EXPECT_EQ(bell(g, self->b, BELL, 4, REMOVE | MATCH, 1), -ENOENT);
	EXPECT_EQ(bell(g, self->a, BELL, 4, REMOVE | MATCH, 2), -ENOENT);
	EXPECT_EQ(bell(g, self->a, BELL, 4, REMOVE, 0), -ENOENT);
	EXPECT_EQ(bell(g, self->a, BELL, 4, REMOVE | MATCH, 1), 0);
	EXPECT_EQ(bell(g, self->a, BELL, 4, REMOVE | MATCH, 1), -ENOENT);
	EXPECT_EQ(bell(g, self->a, BELL, 4, MATCH, 1), 0);
}

TEST_F(doorbell, rings_on_writes)
{
	struct guest *g = &self->g;
	u64 value;

	ASSERT_EQ(bell(g, self->a, BELL, 8, 0, 0), 0);
	agent_start(g);
	EXPECT_FALSE(reaches_us(g, BELL, 1));
	EXPECT_FALSE(reaches_us(g, BELL, 2));
	EXPECT_EQ(rung(self->a), 2);
	EXPECT_TRUE(reaches_us(g, BELL + 8, 1));
	EXPECT_TRUE(reaches_us(g, BELL - 8, 1));
	EXPECT_TRUE(reaches_us(g, BELL + 4, 1));
	EXPECT_EQ(rung(self->a), 0);
	/* Reads are none of its business. */
	EXPECT_FALSE(agent_read(g, BELL, &value));
	g->run->mmio.data[0] = 7;
	EXPECT_EQ(agent_finish(g) & 0xff, 7);
	EXPECT_EQ(rung(self->a), 0);
	ASSERT_EQ(bell(g, self->a, BELL, 8, REMOVE, 0), 0);
	EXPECT_TRUE(reaches_us(g, BELL, 1));
	EXPECT_EQ(rung(self->a), 0);
}

TEST_F(doorbell, length_and_value_decide)
{
	struct guest *g = &self->g;
	const u64 wide = 0x1122334455667788;

	ASSERT_EQ(bell(g, self->a, BELL, 8, MATCH, wide), 0);
	ASSERT_EQ(bell(g, self->b, BELL, 8, MATCH, 5), 0);
	ASSERT_EQ(bell(g, self->b, BELL + 8, 4, 0, 0), 0);
	ASSERT_EQ(bell(g, self->b, BELL + 16, ANY, 0, 0), 0);
	agent_start(g);
	EXPECT_FALSE(reaches_us(g, BELL, wide));
	EXPECT_EQ(rung(self->a), 1);
	EXPECT_TRUE(reaches_us(g, BELL, wide + 1));
	EXPECT_TRUE(reaches_us(g, BELL, (u32)wide));
	EXPECT_FALSE(reaches_us(g, BELL, 5));
	EXPECT_EQ(rung(self->a), 0);
	EXPECT_EQ(rung(self->b), 1);
	EXPECT_TRUE(reaches_us(g, BELL + 8, 5));	/* eight bytes, not four */
	EXPECT_FALSE(reaches_us(g, BELL + 16, 5));
	EXPECT_EQ(rung(self->b), 1);
}

GUEST_ASM(bells, 64,
"	movl $0xd0000000, %ebx\n"
"	movb $0x81, (%rbx)\n"
"	movw $0x8182, 0x10(%rbx)\n"
"	movl $0x81828384, 0x20(%rbx)\n"
"	movq $-2, 0x30(%rbx)\n"
"	movb $1, 0x40(%rbx)\n"
"	movw $1, 0x40(%rbx)\n"
"	movl $1, 0x40(%rbx)\n"
"	movq $1, 0x40(%rbx)\n"
"	movl $3, %ecx\n"
"	movl $0xd0000020, %edi\n"
"	movl $0x81828384, %eax\n"
"	std\n"
"	rep stosl\n"		/* 0x20, then 0x1c and 0x18, where there is none */
"	hlt");

TEST_F(doorbell, every_width)
{
	struct guest *g = &self->g;
	u32 exits = 0;

	ASSERT_EQ(bell(g, self->a, BELL, 1, MATCH, 0x81), 0);
	ASSERT_EQ(bell(g, self->a, BELL + 0x10, 2, MATCH, 0x8182), 0);
	ASSERT_EQ(bell(g, self->a, BELL + 0x20, 4, MATCH, 0x81828384), 0);
	ASSERT_EQ(bell(g, self->a, BELL + 0x30, 8, MATCH, -2ull), 0);
	ASSERT_EQ(bell(g, self->b, BELL + 0x40, ANY, 0, 0), 0);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_load(g, bells);
	while (guest_run(g) == KVM_EXIT_MMIO) {
		exits++;
		EXPECT_EQ(g->run->mmio.phys_addr, BELL + 0x20 - 4 * exits);
	}
	EXPECT_EQ(g->run->exit_reason, KVM_EXIT_HLT);
	EXPECT_EQ(exits, 2);
	EXPECT_EQ(rung(self->a), 5);
	EXPECT_EQ(rung(self->b), 4);
}

GUEST_ASM(ports, 64,
"	movw $0x1234, %dx\n"
"	movl $0x11223344, %eax\n"
"	outb %al, %dx\n"		/* a, by its value */
"	outw %ax, %dx\n"		/* us: another value */
"	outl %eax, %dx\n"		/* b, any value */
"	movl $0x20000, %esi\n"
"	movl $4, %ecx\n"
"	cld\n"
"	rep outsb\n"			/* 0x44 0x44 0x45 0x44: the third is for us */
"	incl %edx\n"
"	outl %eax, %dx\n"		/* us */
"	hlt");

TEST_F(doorbell, on_ports)
{
	struct guest *g = &self->g;
	struct kvm_run *run = g->run;
	u32 bytes = 0;

	ASSERT_EQ(bell(g, self->a, PORT, 1, PIO | MATCH, 0x44), 0);
	ASSERT_EQ(bell(g, self->b, PORT, 4, PIO, 0), 0);
	ASSERT_EQ(bell(g, self->a, PORT, 2, PIO | MATCH, 0x1122), 0);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_load(g, ports);
	memcpy(guest_at(g, GUEST_DATA), "\x44\x44\x45\x44", 4);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(rung(self->a), 1);
	EXPECT_EQ(run->io.size, 2);
	EXPECT_EQ(*(u16 *)guest_io_data(g), 0x3344);
	/* The string: whoever does not get a byte, another does. */
	while (guest_run(g) == KVM_EXIT_IO && run->io.port == PORT) {
		EXPECT_EQ(run->io.size, 1);
		if (!bytes)
			EXPECT_EQ(*(u8 *)guest_io_data(g), 0x45);
		bytes += run->io.count;
	}
	EXPECT_EQ(rung(self->b), 1);
	EXPECT_GE(bytes, 1);
	EXPECT_EQ(bytes + rung(self->a), 4);
	EXPECT_EQ(run->io.port, PORT + 1);
	guest_run_to(g, KVM_EXIT_HLT);
}

/* --- Many, and while they are rung --- */

#define NR_BELLS	500

TEST_F(doorbell, many)
{
	struct guest *g = &self->g;
	u32 i;

	for (i = 0; i < NR_BELLS; i++)
		/* in no order */
		ASSERT_EQ(bell(g, i & 1 ? self->a : self->b,
			       BELL + 8 * (i * 37 % NR_BELLS), 8, 0, 0), 0);
	agent_start(g);
	for (i = 0; i < NR_BELLS; i++)
		EXPECT_FALSE(reaches_us(g, BELL + 8 * i, i));
	EXPECT_EQ(rung(self->a), NR_BELLS / 2);
	EXPECT_EQ(rung(self->b), NR_BELLS / 2);
	EXPECT_TRUE(reaches_us(g, BELL + 8 * NR_BELLS, 0));
	for (i = 0; i < NR_BELLS; i += 50)
		EXPECT_EQ(bell(g, i & 1 ? self->a : self->b,
			       BELL + 8 * (i * 37 % NR_BELLS), 8, REMOVE, 0), 0);
}

static volatile bool enough;

static u32 guest_rings(u64 unused)
{
	u32 rounds = 0;

	for (; !enough; rounds++)
		mmio_write(BELL, rounds);
	return rounds;
}

struct changer {
	struct guest *g;
	int fd;
	u64 rung;
	u32 rounds;
};

/* Puts the bell there and takes it away. What was taken back must be silent. */
static void *change(void *arg)
{
	struct changer *c = arg;
	u32 i;

	for (i = 0; i < c->rounds; i++) {
		if (bell(c->g, c->fd, BELL, 4, 0, 0) ||
		    zone(c->g, KVM_REGISTER_COALESCED_MMIO, BELL + 64, 64, 0))
			die("a bell was refused");
		urgent_pause();
		if (bell(c->g, c->fd, BELL, 4, REMOVE, 0) ||
		    zone(c->g, KVM_UNREGISTER_COALESCED_MMIO, BELL + 64, 64, 0))
			die("a bell was not there");
		c->rung += rung(c->fd);
		urgent_pause();
		if (rung(c->fd))
			die("rung after it was taken back");
	}
	*guest_var(c->g, enough) = true;
	return NULL;
}

TEST_F_TIMEOUT(doorbell, changed_under_fire, 120)
{
	struct guest *g = &self->g;
	struct changer c = { .g = g, .fd = self->a, .rounds = 50 };
	u64 exits = 0, rounds = 0;
	pthread_t thread;
	u32 value;

	guest_call(g, guest_rings, 0);
	thread = urgent_thread(change, &c);
	while (guest_run(g) == KVM_EXIT_MMIO)
		exits++;
	EXPECT_EQ(guest_port(g, &value), PORT_DONE);
	rounds = value;
	pthread_join(thread, NULL);
	TH_LOG("%llu writes: %llu rang, %llu came to userspace", rounds, c.rung, exits);
	EXPECT_EQ(c.rung + exits, rounds);	/* none lost, none twice */
	EXPECT_GT(c.rung, 0);
	EXPECT_GT(exits, 0);
}

/* The eventfd lives as long as its bell does. */
TEST_F(doorbell, closed_eventfd)
{
	struct guest *g = &self->g;
	int fd = event();

	ASSERT_EQ(bell(g, fd, BELL, 8, 0, 0), 0);
	close(fd);
	agent_start(g);
	EXPECT_FALSE(reaches_us(g, BELL, 1));
}

/* --- The coalesced ring --- */

FIXTURE(coalesced) {
	struct guest g;
};

FIXTURE_SETUP(coalesced)
{
	if (!device_has(KVM_CAP_COALESCED_MMIO))
		SKIP(return, "no KVM_CAP_COALESCED_MMIO");
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(coalesced)
{
	guest_destroy(&self->g);
}

TEST_F(coalesced, wrong_use)
{
	struct guest *g = &self->g;

	EXPECT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL, 64, 2), -EINVAL);
	EXPECT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL, 64, 2), -EINVAL);
	EXPECT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL, 64, 0), 0);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_REGISTER_COALESCED_MMIO, 8)), -EFAULT);
	EXPECT_EQ(g->run_size, 3 * PAGE);
}

TEST_F(coalesced, writes_are_collected)
{
	struct guest *g = &self->g;
	struct kvm_coalesced_mmio_ring *r = ring(g);
	u64 value;
	u32 i;

	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL, 64, 0), 0);
	agent_start(g);
	for (i = 0; i < 8; i++)
		EXPECT_FALSE(reaches_us(g, BELL + 8 * i, 0x0102030405060708 + i));
	EXPECT_TRUE(reaches_us(g, BELL + 64, 1));
	EXPECT_TRUE(reaches_us(g, BELL + 60, 1));	/* half of it outside */
	EXPECT_TRUE(reaches_us(g, BELL - 8, 1));
	EXPECT_EQ(r->first, 0);
	ASSERT_EQ(r->last, 8);
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(r->coalesced_mmio[i].phys_addr, BELL + 8 * i);
		EXPECT_EQ(r->coalesced_mmio[i].len, 8);
		EXPECT_EQ(r->coalesced_mmio[i].pio, 0);
		memcpy(&value, r->coalesced_mmio[i].data, 8);
		EXPECT_EQ(value, 0x0102030405060708 + i);
	}
	/* Reads come to userspace at once. */
	EXPECT_FALSE(agent_read(g, BELL, &value));
	agent_finish(g);
	EXPECT_EQ(r->last, 8);
	ASSERT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL, 64, 0), 0);
	EXPECT_TRUE(reaches_us(g, BELL, 1));
}

TEST_F(coalesced, full_ring)
{
	struct guest *g = &self->g;
	struct kvm_coalesced_mmio_ring *r = ring(g);
	const u32 room = (PAGE - sizeof(*r)) / sizeof(r->coalesced_mmio[0]);
	u32 i, took = 0;

	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL, 64, 0), 0);
	agent_start(g);
	for (i = 0; i < room + 5; i++)
		took += !reaches_us(g, BELL, i);
	EXPECT_EQ(r->last, took);
	if (device_is_minikvm()) {
		/* Where stock KVM before 6.11 computes a full ring wrongly. */
		EXPECT_EQ(took, room - 1);
		/* Two taken out: two more find room, and the end goes round. */
		r->first = 2;
		EXPECT_FALSE(reaches_us(g, BELL, 1));
		EXPECT_FALSE(reaches_us(g, BELL, 2));
		EXPECT_TRUE(reaches_us(g, BELL, 3));
		EXPECT_EQ(r->last, 1);
	}
	/* A ring that makes no sense takes nothing, and nobody is hurt. */
	r->last = 0x80000000;
	EXPECT_TRUE(reaches_us(g, BELL, 3));
	r->last = room;
	r->first = -1;
	EXPECT_TRUE(reaches_us(g, BELL, 3));
}

TEST_F(coalesced, several_zones)
{
	struct guest *g = &self->g;

	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL + 0x200, 4, 0), 0);
	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL, 0x100, 0), 0);
	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL + 0x204, 4, 0), 0);
	agent_start(g);
	EXPECT_FALSE(reaches_us(g, BELL + 0xf8, 0));
	EXPECT_TRUE(reaches_us(g, BELL + 0x100, 0));
	EXPECT_TRUE(reaches_us(g, BELL + 0x200, 0));	/* four bytes in each */
	/* A zone goes when all that is named lies in it. */
	ASSERT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL + 0xf8, 0x10, 0), 0);
	EXPECT_FALSE(reaches_us(g, BELL + 0xf8, 0));
	ASSERT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL + 0x80, 0x10, 0), 0);
	EXPECT_TRUE(reaches_us(g, BELL + 0xf8, 0));
}

/* Stock KVM finds one of them or none. */
TEST_F(coalesced, zones_overlap)
{
	struct guest *g = &self->g;

	if (!device_is_minikvm())
		SKIP(return, "only minikvm takes zones that overlap");
	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL, 0x100, 0), 0);
	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, BELL + 0x10, 0x10, 0), 0);
	agent_start(g);
	EXPECT_FALSE(reaches_us(g, BELL + 0xf8, 0));
	EXPECT_FALSE(reaches_us(g, BELL + 0x1c, 0));
	ASSERT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL + 0x80, 0x10, 0), 0);
	EXPECT_TRUE(reaches_us(g, BELL + 0xf8, 0));
	EXPECT_TRUE(reaches_us(g, BELL + 0x1c, 0));
	EXPECT_FALSE(reaches_us(g, BELL + 0x18, 0));
	ASSERT_EQ(zone(g, KVM_UNREGISTER_COALESCED_MMIO, BELL + 0x10, 0x10, 0), 0);
	EXPECT_TRUE(reaches_us(g, BELL + 0x18, 0));
}

TEST_F_TIMEOUT(coalesced, bounded, 120)
{
	struct guest *g = &self->g;
	int err = 0;
	u32 i;

	for (i = 0; i < 100000 && !err; i++)
		err = zone(g, KVM_REGISTER_COALESCED_MMIO, BELL + 8 * i, 8, 0);
	EXPECT_EQ(err, -ENOSPC);
	EXPECT_GT(i, 500);
}

GUEST_ASM(port_writes, 64,
"	movw $0x1234, %dx\n"
"	movl $0x11223344, %eax\n"
"	outb %al, %dx\n"
"	outl %eax, %dx\n"
"	incl %edx\n"
"	outb %al, %dx\n"
"	hlt");

TEST_F(coalesced, ports)
{
	struct guest *g = &self->g;
	struct kvm_coalesced_mmio_ring *r = ring(g);

	if (!device_has(KVM_CAP_COALESCED_PIO))
		SKIP(return, "no KVM_CAP_COALESCED_PIO");
	ASSERT_EQ(zone(g, KVM_REGISTER_COALESCED_MMIO, PORT, 1, 1), 0);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	guest_load(g, port_writes);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, PORT);
	EXPECT_EQ(g->run->io.size, 4);
	ASSERT_EQ(r->last, 1);
	EXPECT_EQ(r->coalesced_mmio[0].phys_addr, PORT);
	EXPECT_EQ(r->coalesced_mmio[0].len, 1);
	EXPECT_EQ(r->coalesced_mmio[0].pio, 1);
	EXPECT_EQ(r->coalesced_mmio[0].data[0], 0x44);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, PORT + 1);
	guest_run_to(g, KVM_EXIT_HLT);
}

/* All vCPUs put into one ring. */
TEST_F(coalesced, one_ring_for_all)
{
	struct guest *g = &self->g;
	struct kvm_coalesced_mmio_ring *r = ring(g);
	struct kvm_coalesced_mmio_ring *other;
	int vcpu = guest_add_vcpu(g, 1);
	void *map = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	ASSERT_NE(map, MAP_FAILED);
	other = (void *)((u8 *)map + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE);
	r->first = 77;
	EXPECT_EQ(other->first, 77);
	munmap(map, g->run_size);
	close(vcpu);
}

SELFTEST_MAIN
