// SPDX-License-Identifier: GPL-2.0
/*
 * A split irqchip: local APICs in the kernel, PIC and I/O APIC in userspace. What
 * the kernel has to say then: when a level is done with, and when an interrupt of
 * the PIC would be taken.
 */
#include <sys/eventfd.h>
#include <kselftest_harness.h>
#include "guest.h"

#define LAPIC		0xfee00000ul
#define LAPIC_VERSION	0x30
#define LAPIC_EOI	0xb0
#define LAPIC_SVR	0xf0
#define LAPIC_LVT0	0x350
#define LVT_MASKED	BIT(16)
#define LVT_EXTINT	0x700

#define MSI_ADDRESS	0xfee00000u	/* to APIC ID 0, physical */
#define MSI_LEVEL	BIT(15)
#define NR_PINS		24		/* what WITH_SPLIT reserves */
#define MAX_PINS	4096
#define PIN		11
#define LEVEL		0x61		/* the level of PIN */
#define EDGE		0x71		/* a pin, but an edge */
#define BEYOND		0x81		/* a level, but not of a pin */
#define EXTINT		0x30
#define STOP		0x91
#define STORM		400

static volatile u32 taken[256];

static void count(struct guest_frame *frame)
{
	taken[frame->vector]++;
	if (frame->vector != EXTINT)
		mmio_write(LAPIC + LAPIC_EOI, 0);
}

static void start_counting(void)
{
	guest_handlers[LEVEL] = guest_handlers[EDGE] = count;
	guest_handlers[BEYOND] = guest_handlers[STOP] = count;
	guest_handlers[EXTINT] = count;
	mmio_write(LAPIC + LAPIC_SVR, 0x1ff);
}

static u32 count_on(void)
{
	guest_sync(0);
	while (!taken[STOP])
		asm volatile("sti; hlt; cli" : : : "memory");
	return taken[LEVEL];
}

static u32 guest_counts(u64 unused)
{
	start_counting();
	return count_on();
}

static u32 guest_directs_eois(u64 unused)
{
	guest_check(mmio_read(LAPIC + LAPIC_VERSION) & BIT(24));
	start_counting();
	mmio_write(LAPIC + LAPIC_SVR, 0x11ff);
	guest_equal(mmio_read(LAPIC + LAPIC_SVR), 0x11ff);
	return count_on();
}

static struct kvm_irq_routing_entry msi_route(u32 gsi, u32 data, u32 apic)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = MSI_ADDRESS | apic << 12, .data = data } };
}

static int set_routes(int vm, const struct kvm_irq_routing_entry *entries, u32 nr)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[4];
	} routing = { .head.nr = nr };

	memcpy(routing.entries, entries, nr * sizeof(*entries));
	return outcome(ioctl(vm, KVM_SET_GSI_ROUTING, &routing));
}

static int usual_routes(int vm)
{
	const struct kvm_irq_routing_entry entries[] = {
		msi_route(PIN, LEVEL | MSI_LEVEL, 0),
		msi_route(PIN + 1, EDGE, 0),
		msi_route(NR_PINS, BEYOND | MSI_LEVEL, 0),
	};

	return set_routes(vm, entries, 3);
}

static int send_msi(struct guest *g, u32 data)
{
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = data };

	return outcome(ioctl(g->vm, KVM_SIGNAL_MSI, &msi));
}

static int irq_line(struct guest *g, u32 gsi, u32 level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	return outcome(ioctl(g->vm, KVM_IRQ_LINE, &line));
}

static int interrupt(struct guest *g, u32 vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	return outcome(ioctl(g->vcpu, KVM_INTERRUPT, &irq));
}

static int enable_split(int vm, u64 pins, u32 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_SPLIT_IRQCHIP, .flags = flags, .args = { pins } };

	return outcome(ioctl(vm, KVM_ENABLE_CAP, &cap));
}

TEST(when_it_can_be_had)
{
	int kvm = device_open(), vm = must(kvm, KVM_CREATE_VM, 0), vcpu;

	EXPECT_EQ(must(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SPLIT_IRQCHIP), 1);
	EXPECT_EQ(enable_split(vm, MAX_PINS + 1, 0), -EINVAL);
	EXPECT_EQ(enable_split(vm, -1ull, 0), -EINVAL);
	EXPECT_EQ(enable_split(vm, NR_PINS, 1), -EINVAL);
	EXPECT_EQ(enable_split(vm, MAX_PINS, 0), 0);
	EXPECT_EQ(enable_split(vm, NR_PINS, 0), -EEXIST);
	EXPECT_EQ(outcome(ioctl(vm, KVM_CREATE_IRQCHIP, 0)), -EEXIST);
	vcpu = must(vm, KVM_CREATE_VCPU, 0);
	EXPECT_EQ(usual_routes(vm), 0);
	close(vcpu);
	close(vm);

	vm = must(kvm, KVM_CREATE_VM, 0);
	must(vm, KVM_CREATE_IRQCHIP, 0);
	EXPECT_EQ(enable_split(vm, NR_PINS, 0), -EEXIST);
	close(vm);

	vm = must(kvm, KVM_CREATE_VM, 0);
	vcpu = must(vm, KVM_CREATE_VCPU, 0);
	EXPECT_EQ(enable_split(vm, NR_PINS, 0), -EEXIST);
	close(vcpu);
	close(vm);
	close(kvm);
}

FIXTURE(split) {
	struct guest g;
};

FIXTURE_SETUP(split)
{
	guest_create(&self->g, WITH_SPLIT);
	ASSERT_EQ(usual_routes(self->g.vm), 0);
}

FIXTURE_TEARDOWN(split)
{
	guest_destroy(&self->g);
}

TEST_F(split, chips_that_are_not_there)
{
	const struct kvm_irq_routing_entry pin = {
		.gsi = 1, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = 1 } };
	struct kvm_irqfd irqfd = { .gsi = PIN, .flags = KVM_IRQFD_FLAG_RESAMPLE };
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_pit_state2 pit;
	struct guest *g = &self->g;

	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_IRQCHIP, &chip)), -ENXIO);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_IRQCHIP, &chip)), -ENXIO);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_PIT2, &pit)), -ENXIO);
	EXPECT_EQ(set_routes(g->vm, &pin, 1), -EINVAL);

	irqfd.fd = eventfd(0, EFD_CLOEXEC);
	irqfd.resamplefd = eventfd(0, EFD_CLOEXEC);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_IRQFD, &irqfd)), -EINVAL);
	close(irqfd.fd);
	close(irqfd.resamplefd);
}

static u32 guest_visits_the_chips(u64 unused)
{
	outb(0x21, 0x5a);
	return mmio_read(IOAPIC);
}

TEST_F(split, their_registers_are_userspaces)
{
	struct guest *g = &self->g;
	u32 answer = 0x1234;

	guest_call(g, guest_visits_the_chips, 0);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, 0x21);
	EXPECT_EQ(*(u8 *)guest_io_data(g), 0x5a);
	guest_run_to(g, KVM_EXIT_MMIO);
	EXPECT_EQ(g->run->mmio.phys_addr, IOAPIC);
	memcpy(g->run->mmio.data, &answer, sizeof(answer));
	EXPECT_EQ(guest_finish(g), answer);
}

static void start(struct guest *g)
{
	u32 value;

	guest_call(g, guest_counts, 0);
	if (guest_next(g, &value) != PORT_SYNC)
		die("the guest has not begun");
}

static u32 stop(struct guest *g)
{
	if (send_msi(g, STOP) != 1)
		die("nobody takes the message to stop");
	return guest_finish(g);
}

/* The next exit is for the end of @vector. */
static bool ends(struct guest *g, u8 vector)
{
	guest_run_to(g, KVM_EXIT_IOAPIC_EOI);
	return g->run->eoi.vector == vector;
}

TEST_F(split, eoi_of_a_level)
{
	struct guest *g = &self->g;
	u64 one = 1;
	struct kvm_irqfd irqfd = { .gsi = PIN, .fd = eventfd(0, EFD_CLOEXEC) };

	start(g);
	EXPECT_EQ(send_msi(g, LEVEL | MSI_LEVEL), 1);
	EXPECT_TRUE(ends(g, LEVEL));
	EXPECT_EQ(irq_line(g, PIN, 1), 0);
	EXPECT_EQ(irq_line(g, PIN, 0), 0);
	EXPECT_TRUE(ends(g, LEVEL));
	must(g->vm, KVM_IRQFD, &irqfd);
	ASSERT_EQ(write(irqfd.fd, &one, sizeof(one)), sizeof(one));
	EXPECT_TRUE(ends(g, LEVEL));
	close(irqfd.fd);
	EXPECT_EQ(stop(g), 3);
}

/* These end without a word. */
TEST_F(split, eoi_of_others)
{
	struct guest *g = &self->g;

	start(g);
	EXPECT_EQ(send_msi(g, EDGE), 1);
	EXPECT_EQ(send_msi(g, BEYOND | MSI_LEVEL), 1);
	EXPECT_EQ(stop(g), 0);
	EXPECT_EQ((*guest_var(g, taken))[EDGE], 1);
	EXPECT_EQ((*guest_var(g, taken))[BEYOND], 1);
}

/* SDM vol. 3A, "EOI Register": a guest that keeps EOIs to itself tells the I/O APIC. */
TEST_F(split, eoi_kept_from_the_ioapic)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_directs_eois, 0);
	if (guest_next(g, &value) != PORT_SYNC)
		die("the guest has not begun");
	if (!device_is_minikvm())
		SKIP(return, "stock KVM offers it, and tells the I/O APIC all the same");
	EXPECT_EQ(send_msi(g, LEVEL | MSI_LEVEL), 1);
	EXPECT_EQ(stop(g), 1);
}

TEST_F(split, eoi_follows_the_routes)
{
	const struct kvm_irq_routing_entry other = msi_route(PIN, EDGE | MSI_LEVEL, 0);
	const struct kvm_irq_routing_entry elsewhere = msi_route(PIN, EDGE, 7);
	struct guest *g = &self->g;

	start(g);
	EXPECT_EQ(set_routes(g->vm, &other, 1), 0);
	EXPECT_EQ(irq_line(g, PIN, 1), 0);
	EXPECT_TRUE(ends(g, EDGE));
	/* The vector of before is nobody's now. */
	EXPECT_EQ(send_msi(g, LEVEL | MSI_LEVEL), 1);
	EXPECT_EQ(send_msi(g, EDGE | MSI_LEVEL), 1);
	EXPECT_TRUE(ends(g, EDGE));
	/* As an edge to somebody else, it ends quietly. */
	EXPECT_EQ(set_routes(g->vm, &elsewhere, 1), 0);
	EXPECT_EQ(send_msi(g, EDGE), 1);
	EXPECT_EQ(set_routes(g->vm, NULL, 0), 0);
	EXPECT_EQ(stop(g), 1);
	EXPECT_EQ((*guest_var(g, taken))[EDGE], 3);
}

/* The end of one that came before the route was turned elsewhere. Older KVMs swallow it. */
TEST_F(split, eoi_after_a_change_of_destination)
{
	const struct kvm_irq_routing_entry elsewhere = msi_route(PIN, LEVEL | MSI_LEVEL, 7);
	struct guest *g = &self->g;

	if (!device_is_minikvm())
		SKIP(return, "stock KVM asks only where the route points at the end");
	start(g);
	EXPECT_EQ(send_msi(g, LEVEL | MSI_LEVEL), 1);
	EXPECT_EQ(set_routes(g->vm, &elsewhere, 1), 0);
	EXPECT_TRUE(ends(g, LEVEL));
	EXPECT_EQ(stop(g), 1);
}

/* A line that stays up is sent again at each EOI: as often as the guest takes it. */
TEST_F(split, storm)
{
	struct guest *g = &self->g;

	start(g);
	for (int i = 0; i < STORM; i++) {
		ASSERT_EQ(irq_line(g, PIN, 1), 0);
		ASSERT_TRUE(ends(g, LEVEL));
	}
	EXPECT_EQ(stop(g), STORM);
}

static volatile bool firing;

static void *change_routes(void *arg)
{
	struct guest *g = arg;
	const struct kvm_irq_routing_entry entries[] = {
		msi_route(PIN, LEVEL | MSI_LEVEL, 0), msi_route(PIN - 1, BEYOND | MSI_LEVEL, 0) };

	while (firing) {
		if (set_routes(g->vm, entries, 2) || set_routes(g->vm, entries, 1))
			die("routes are refused");
		/* Where two changes take longer than this, the guest would get nowhere. */
		usleep(3000);
	}
	return NULL;
}

/* Not one EOI is lost as long as every table names the vector. */
TEST_F_TIMEOUT(split, routes_change_under_fire, 120)
{
	struct guest *g = &self->g;
	pthread_t thread;

	start(g);
	firing = true;
	thread = urgent_thread(change_routes, g);
	for (int i = 0; i < STORM; i++) {
		if (irq_line(g, PIN, 1) || !ends(g, LEVEL))
			die("interrupt %d has not ended", i);
	}
	firing = false;
	pthread_join(thread, NULL);
	EXPECT_EQ(stop(g), STORM);
}

static u32 guest_listens_to_the_pic(u64 unused)
{
	start_counting();
	cli();
	guest_sync(0);
	sti();
	guest_sync(taken[EXTINT]);

	mmio_write(LAPIC + LAPIC_LVT0, LVT_MASKED | LVT_EXTINT);
	guest_sync(10 + taken[EXTINT]);
	mmio_write(LAPIC + LAPIC_LVT0, LVT_EXTINT);
	guest_sync(20 + taken[EXTINT]);
	cli();
	guest_sync(30 + taken[EXTINT]);
	asm volatile("sti; hlt; cli" : : : "memory");
	return taken[EXTINT];
}

TEST_F(split, a_pic_in_userspace)
{
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_listens_to_the_pic, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(g->run->if_flag, 0);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 0);

	g->run->request_interrupt_window = 1;
	guest_run_to(g, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(g->run->if_flag, 1);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);
	EXPECT_EQ(interrupt(g, 256), -EINVAL);
	EXPECT_EQ(interrupt(g, EXTINT), 0);
	EXPECT_EQ(interrupt(g, EXTINT + 1), -EEXIST);
	g->run->request_interrupt_window = 0;
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 1);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);

	/* LINT0 is masked: whoever asks is told that nobody listens. */
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 11);
	EXPECT_EQ(g->run->if_flag, 1);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 21);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);

	/* A guest that sleeps can be interrupted. */
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 31);
	g->run->request_interrupt_window = 1;
	guest_run_to(g, KVM_EXIT_IRQ_WINDOW_OPEN);
	EXPECT_EQ(g->run->ready_for_interrupt_injection, 1);
	g->run->request_interrupt_window = 0;
	EXPECT_EQ(interrupt(g, EXTINT), 0);
	EXPECT_EQ(guest_finish(g), 2);
}

SELFTEST_MAIN
