// SPDX-License-Identifier: GPL-2.0
/*
 * What a GSI is wired to, messages, and irqfds: interrupts that a VMM's other
 * threads bring to a guest that runs.
 *
 * The guest halts and counts what comes, by vector. Whoever sends waits for the
 * count before it sends the same again, so that none may merge with another: then
 * each must arrive, and once.
 */
#include <sched.h>
#include <sys/eventfd.h>
#include <kselftest_harness.h>
#include "guest.h"

#define LAPIC		0xfee00000ul
#define LAPIC_EOI	0xb0
#define LAPIC_SVR	0xf0

#define MSI_ADDRESS	0xfee00000u	/* to APIC ID 0, physical */
#define PIN		11
#define GSI		40		/* not among the pins */
#define VECTOR		0x61
#define OTHER		0x71
#define LEVEL		0x81
#define STOP		0x91
#define PATIENCE	(1u << 22)

static volatile u32 taken[256];
static volatile bool stopped;

static void count(struct guest_frame *frame)
{
	taken[frame->vector]++;
	if (frame->vector == STOP)
		stopped = true;
	mmio_write(LAPIC + LAPIC_EOI, 0);
}

static u32 guest_counts(u64 unused)
{
	guest_handlers[VECTOR] = guest_handlers[OTHER] = count;
	guest_handlers[LEVEL] = guest_handlers[STOP] = count;
	mmio_write(LAPIC + LAPIC_SVR, 0x1ff);
	ioapic_write(0x10 + 2 * PIN + 1, 0);
	ioapic_write(0x10 + 2 * PIN, LEVEL | RTE_LEVEL);
	guest_sync(0);
	while (!stopped)
		asm volatile("sti; hlt; cli" : : : "memory");
	return 0;
}

FIXTURE(routing) {
	struct guest g;
	pthread_t thread;
};

static void *run_guest(void *arg)
{
	struct guest *g = arg;

	if (guest_finish(g))
		die("the guest has failed");
	return NULL;
}

static void set_routes(struct guest *g, const struct kvm_irq_routing_entry *entries, u32 nr)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[4];
	} routing = { .head.nr = nr };

	memcpy(routing.entries, entries, nr * sizeof(*entries));
	must(g->vm, KVM_SET_GSI_ROUTING, &routing);
}

static struct kvm_irq_routing_entry msi_route(u32 gsi, u8 vector)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = MSI_ADDRESS, .data = vector } };
}

static struct kvm_irq_routing_entry pin_route(u32 gsi, u32 pin)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin } };
}

/* GSI is a message, PIN is a pin. */
static void usual_routes(struct guest *g)
{
	const struct kvm_irq_routing_entry entries[] = {
		msi_route(GSI, VECTOR), pin_route(PIN, PIN) };

	set_routes(g, entries, 2);
}

static int send_msi(struct guest *g, u32 address, u32 data)
{
	struct kvm_msi msi = { .address_lo = address, .data = data };

	return outcome(ioctl(g->vm, KVM_SIGNAL_MSI, &msi));
}

static int irqfd(struct guest *g, int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd args = {
		.fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample };

	return outcome(ioctl(g->vm, KVM_IRQFD, &args));
}

static int event(u64 value)
{
	int fd = eventfd(value, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		die("no eventfd: %s", strerror(errno));
	return fd;
}

static void signal_event(int fd)
{
	u64 one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		die("the eventfd takes nothing: %s", strerror(errno));
}

static u64 take_event(int fd)
{
	u64 value;

	return read(fd, &value, sizeof(value)) == sizeof(value) ? value : 0;
}

static u32 count_of(struct guest *g, u8 vector)
{
	return (*guest_var(g, taken))[vector];
}

/* Wait until @vector has come @wanted times; false: it does not. */
static bool comes(struct guest *g, u8 vector, u32 wanted)
{
	for (u32 turns = 0; turns < PATIENCE; turns++) {
		if (count_of(g, vector) >= wanted)
			return count_of(g, vector) == wanted;
		sched_yield();
	}
	return false;
}

FIXTURE_SETUP(routing)
{
	u32 value;

	guest_create(&self->g, WITH_IRQCHIP);
	guest_call(&self->g, guest_counts, 0);
	ASSERT_EQ(guest_next(&self->g, &value), PORT_SYNC);
	usual_routes(&self->g);
	pthread_create(&self->thread, NULL, run_guest, &self->g);
}

FIXTURE_TEARDOWN(routing)
{
	EXPECT_EQ(send_msi(&self->g, MSI_ADDRESS, STOP), 1);
	pthread_join(self->thread, NULL);
	guest_destroy(&self->g);
}

static int irq_line(struct guest *g, u32 gsi, u32 level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	return outcome(ioctl(g->vm, KVM_IRQ_LINE, &line));
}

TEST_F(routing, messages)
{
	struct guest *g = &self->g;

	for (u32 i = 1; i <= 20; i++) {
		ASSERT_EQ(send_msi(g, MSI_ADDRESS, VECTOR), 1);
		ASSERT_TRUE(comes(g, VECTOR, i));
	}
	/* Lowest priority; then nobody is there, which stock KVM may also call "0 took it". */
	EXPECT_EQ(send_msi(g, MSI_ADDRESS, VECTOR | 0x100), 1);
	EXPECT_TRUE(comes(g, VECTOR, 21));
	EXPECT_LE(send_msi(g, MSI_ADDRESS | 4 | 0x80 << 12, OTHER), 0);
	EXPECT_LE(send_msi(g, MSI_ADDRESS | 7 << 12, OTHER), 0);
	EXPECT_EQ(count_of(g, OTHER), 0);
}

TEST_F(routing, a_line_that_is_a_message)
{
	struct guest *g = &self->g;

	EXPECT_EQ(irq_line(g, GSI, 1), 0);
	EXPECT_TRUE(comes(g, VECTOR, 1));
	EXPECT_EQ(irq_line(g, GSI, 0), 0);
	EXPECT_EQ(irq_line(g, GSI, 1), 0);
	EXPECT_TRUE(comes(g, VECTOR, 2));
	/* Wired to nothing: it is taken, and nothing comes. */
	EXPECT_EQ(irq_line(g, GSI + 1, 1), 0);
	EXPECT_EQ(irq_line(g, 100000, 1), 0);
	EXPECT_EQ(count_of(g, VECTOR), 2);
}

TEST_F(routing, irqfd)
{
	struct guest *g = &self->g;
	int fd = event(1), other = event(0);

	/* What was signalled before it was one counts. */
	ASSERT_EQ(irqfd(g, fd, GSI, 0, 0), 0);
	EXPECT_TRUE(comes(g, VECTOR, 1));
	for (u32 i = 2; i <= 50; i++) {
		signal_event(fd);
		ASSERT_TRUE(comes(g, VECTOR, i));
	}
	/* Nobody else finds anything in it. */
	EXPECT_EQ(take_event(fd), 0);

	EXPECT_EQ(irqfd(g, fd, GSI, 0, 0), -EBUSY);
	EXPECT_EQ(irqfd(g, fd, GSI + 1, 0, 0), -EBUSY);
	EXPECT_EQ(irqfd(g, other, GSI, 0, 0), 0);
	signal_event(other);
	EXPECT_TRUE(comes(g, VECTOR, 51));

	EXPECT_EQ(irqfd(g, fd, GSI, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	signal_event(fd);
	EXPECT_EQ(take_event(fd), 1);
	EXPECT_EQ(count_of(g, VECTOR), 51);

	/* It ends with its eventfd, and its GSI stays. */
	close(other);
	EXPECT_EQ(irqfd(g, fd, GSI, 0, 0), 0);
	signal_event(fd);
	EXPECT_TRUE(comes(g, VECTOR, 52));
	close(fd);
}

TEST_F(routing, resampled_level)
{
	struct guest *g = &self->g;
	int fd = event(0), resample = event(0);
	u32 turns;

	ASSERT_EQ(irqfd(g, fd, PIN, KVM_IRQFD_FLAG_RESAMPLE, resample), 0);
	for (u32 i = 1; i <= 20; i++) {
		signal_event(fd);
		ASSERT_TRUE(comes(g, LEVEL, i));
		for (turns = 0; turns < PATIENCE && !take_event(resample); turns++)
			sched_yield();
		ASSERT_LT(turns, PATIENCE);
	}
	EXPECT_EQ(take_event(resample), 0);
	EXPECT_EQ(irqfd(g, fd, PIN, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	/* The line is down: as an ordinary one it rises again. */
	EXPECT_EQ(irq_line(g, PIN, 1), 0);
	for (turns = 0; turns < PATIENCE && count_of(g, LEVEL) < 22; turns++)
		sched_yield();
	EXPECT_LT(turns, PATIENCE);
	EXPECT_EQ(irq_line(g, PIN, 0), 0);
	close(fd);
	close(resample);
}

static volatile bool routes_end;
static u32 routes_changed;

static void *change_routes(void *arg)
{
	struct kvm_irq_routing_entry entries[2] = { pin_route(PIN, PIN) };

	while (!routes_end) {
		entries[1] = msi_route(GSI, routes_changed++ & 1 ? VECTOR : OTHER);
		set_routes(arg, entries, 2);
		sched_yield();
	}
	return NULL;
}

TEST_F(routing, changes_under_fire)
{
	struct guest *g = &self->g;
	pthread_t thread;
	int fd = event(0);
	u32 turns, sum;

	ASSERT_EQ(irqfd(g, fd, GSI, 0, 0), 0);
	pthread_create(&thread, NULL, change_routes, g);
	for (u32 i = 1; i <= 300; i++) {
		signal_event(fd);
		for (turns = 0; turns < PATIENCE; turns++) {
			sum = count_of(g, VECTOR) + count_of(g, OTHER);
			if (sum >= i)
				break;
			sched_yield();
		}
		ASSERT_EQ(sum, i);
	}
	routes_end = true;
	pthread_join(thread, NULL);
	EXPECT_GT(routes_changed, 2);
	EXPECT_EQ(irqfd(g, fd, GSI, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	close(fd);
}

static volatile bool fire_ends;

static void *fire(void *arg)
{
	while (!fire_ends) {
		signal_event(*(int *)arg);
		sched_yield();
	}
	return NULL;
}

TEST_F(routing, come_and_go_under_fire)
{
	struct guest *g = &self->g;
	pthread_t thread;
	int fd = event(0);

	pthread_create(&thread, NULL, fire, &fd);
	for (u32 i = 0; i < 1000; i++) {
		int again = dup(fd);

		ASSERT_EQ(irqfd(g, again, GSI, 0, 0), 0);
		ASSERT_EQ(irqfd(g, fd, GSI, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
		close(again);
	}
	/* Left behind with the VM. */
	EXPECT_EQ(irqfd(g, fd, GSI, 0, 0), 0);
	fire_ends = true;
	pthread_join(thread, NULL);
	close(fd);
}

TEST_F(routing, bad_input)
{
	static struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[4097];
	} routing;
	struct guest *g = &self->g;
	int fd = event(0), limit = must(g->kvm, KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING);
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = VECTOR, .flags = 2 };
	int not_an_eventfd = open("/dev/null", O_RDWR);

#define SET(vm) outcome(ioctl(vm, KVM_SET_GSI_ROUTING, &routing))
	EXPECT_GE(limit, 1024);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_GSI_ROUTING, 8)), -EFAULT);
	routing.head.flags = 1;
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.head.flags = 0;
	routing.head.nr = limit + 1;
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.head.nr = 1;
	routing.entries[0] = msi_route(limit, VECTOR);
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[0] = msi_route(0xffffffff, VECTOR);
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[0] = pin_route(1, 24);
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[0].u.irqchip.irqchip = 3;
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[0] = msi_route(1, VECTOR);
	routing.entries[0].flags = 0x80;
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[0].flags = 0;
	routing.entries[0].type = 77;
	EXPECT_EQ(SET(g->vm), -EINVAL);
	/* Two of one chip, and a message beside another, at one GSI. */
	routing.head.nr = 2;
	routing.entries[0] = pin_route(1, 1);
	routing.entries[1] = pin_route(1, 2);
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[1] = msi_route(1, VECTOR);
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.entries[0] = msi_route(1, VECTOR);
	EXPECT_EQ(SET(g->vm), -EINVAL);
	routing.head.nr = 0;
	EXPECT_EQ(SET(g->vm), 0);
	for (int i = 0; i < limit; i++)
		routing.entries[i] = msi_route(limit - 1 - i, VECTOR);
	routing.head.nr = limit;
	EXPECT_EQ(SET(g->vm), 0);
	usual_routes(g);

	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SIGNAL_MSI, &msi)), -EINVAL);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SIGNAL_MSI, 8)), -EFAULT);

	EXPECT_EQ(irqfd(g, fd, GSI, 0x80, 0), -EINVAL);
	EXPECT_EQ(irqfd(g, -1, GSI, 0, 0), -EBADF);
	EXPECT_EQ(irqfd(g, not_an_eventfd, GSI, 0, 0), -EINVAL);
	EXPECT_EQ(irqfd(g, fd, GSI, KVM_IRQFD_FLAG_RESAMPLE, -1), -EBADF);
	EXPECT_EQ(irqfd(g, fd, GSI, KVM_IRQFD_FLAG_RESAMPLE, not_an_eventfd), -EINVAL);
	EXPECT_EQ(irqfd(g, -1, GSI, KVM_IRQFD_FLAG_DEASSIGN, 0), -EBADF);
	EXPECT_EQ(irqfd(g, fd, GSI, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_IRQFD, 8)), -EFAULT);
	close(not_an_eventfd);
	close(fd);
}

TEST(no_irqchip)
{
	struct kvm_irq_routing none = {};
	int fd = event(0);
	struct guest g;

	guest_create(&g, 0);
	EXPECT_EQ(outcome(ioctl(g.vm, KVM_SET_GSI_ROUTING, &none)), -EINVAL);
	EXPECT_EQ(send_msi(&g, MSI_ADDRESS, VECTOR), -EINVAL);
	EXPECT_EQ(irqfd(&g, fd, 0, 0, 0), -EINVAL);
	guest_destroy(&g);
	close(fd);
}

SELFTEST_MAIN
