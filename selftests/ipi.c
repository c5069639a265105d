// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts between processors: to whom they go, in each delivery mode and by
 * each kind of destination, and that each arrives once.
 */
#include <kselftest_harness.h>
#include "cpus.h"

#define CPUS		4
#define VECTOR		0x61
#define LAST_VECTOR	0x21	/* taken after all that wait */
#define ASK_VECTOR	0x41	/* plus the sender's number */
#define ANSWER_VECTOR	0x51

FIXTURE(ipi) {
	struct cpus s;
};

FIXTURE_SETUP(ipi)
{
	cpus_create(&self->s, CPUS, WITH_IRQCHIP);
}

FIXTURE_TEARDOWN(ipi)
{
	cpus_destroy(&self->s);
}

/* How the vCPUs set up their APICs; the host says so before it copies the program. */
enum { XAPIC, X2APIC, MIXED };		/* MIXED: odd ones are x2APICs */
static volatile u32 apic_mode;
static volatile u32 flat = 1;		/* how xAPICs read logical IDs */

static volatile u32 ready, finished;
static volatile u32 taken[CPUS_MAX][256];

static bool is_x2apic(unsigned int cpu)
{
	return apic_mode == X2APIC || (apic_mode == MIXED && (cpu & 1));
}

static void apic_write(u32 reg, u32 value)
{
	if (is_x2apic(cpu_self()))
		x2apic_write(reg, value);
	else
		xapic_write(reg, value);
}

static void send(u32 icr, u32 dest)
{
	if (is_x2apic(cpu_self()))
		x2apic_ipi(icr, dest);
	else
		xapic_ipi(icr, dest);
}

static void note(struct guest_frame *frame)
{
	taken[cpu_self()][frame->vector]++;
	if (frame->vector != 2)
		apic_write(APIC_REG_EOI, 0);
}

/* In cluster mode vCPU n is bit n % 2 of cluster n / 2. */
static u32 logical_id(unsigned int cpu)
{
	return flat ? 1u << cpu : cpu / 2 << 4 | 1u << cpu % 2;
}

static void set_up(void)
{
	unsigned int me = cpu_self();

	if (is_x2apic(me)) {
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	} else {
		xapic_write(APIC_REG_DFR, flat ? ~0u : 0x0fffffff);
		xapic_write(APIC_REG_LDR, logical_id(me) << 24);
	}
	apic_write(APIC_REG_SVR, 0x1ff);
	apic_write(APIC_REG_TPR, 0);
	guest_handlers[2] = note;
	guest_handlers[VECTOR] = note;
	guest_handlers[LAST_VECTOR] = note;
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	wait_until(ready >= CPUS);
}

static u32 total(u8 vector)
{
	u32 sum = 0;

	for (unsigned int cpu = 0; cpu < CPUS; cpu++)
		sum += taken[cpu][vector];
	return sum;
}

static volatile u32 expected[CPUS][256];

/* Send, and wait for all in @mask to have it. */
static void expect(u32 icr, u32 dest, u32 mask)
{
	u8 vector = (icr & 0x700) == ICR_NMI ? 2 : (u8)icr;

	send(icr, dest);
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		expected[cpu][vector] += mask >> cpu & 1;
		wait_until(taken[cpu][vector] >= expected[cpu][vector]);
	}
}

/* Lowest priority: one of them, whoever. */
static void expect_one(u32 icr, u32 dest, u32 mask)
{
	u32 before = total((u8)icr), before_mask = 0, after_mask = 0;

	for (unsigned int cpu = 0; cpu < CPUS; cpu++)
		if (mask >> cpu & 1)
			before_mask += taken[cpu][(u8)icr];
	send(icr, dest);
	wait_until(total((u8)icr) > before);
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		if (mask >> cpu & 1)
			after_mask += taken[cpu][(u8)icr];
		expected[cpu][(u8)icr] = taken[cpu][(u8)icr];
	}
	guest_equal(after_mask, before_mask + 1);
}

/* Nobody got more than was meant for him. */
static void settle(void)
{
	for (unsigned int cpu = 0; cpu < CPUS; cpu++)
		expect(LAST_VECTOR, cpu, BIT(cpu));
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		guest_equal(taken[cpu][VECTOR], expected[cpu][VECTOR]);
		guest_equal(taken[cpu][2], expected[cpu][2]);
		guest_equal(taken[cpu][LAST_VECTOR], expected[cpu][LAST_VECTOR]);
	}
}

/* Nothing to do but to take interrupts: asleep, until finish(). */
static void listen(void)
{
	cli();
	while (!finished)
		asm volatile("sti; hlt; cli" : : : "memory");
}

static void finish(void)
{
	finished = 1;
	send(ICR_OTHERS | VECTOR, 0);
}

static void shorthands(void)
{
	expect(ICR_SELF | VECTOR, 3, BIT(0));
	expect(ICR_ALL | VECTOR, 3, 0xf);
	expect(ICR_OTHERS | VECTOR, 3, 0xe);
	expect(ICR_OTHERS | ICR_NMI, 3, 0xe);
	settle();
}

static void physical(u32 all)
{
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		expect(VECTOR, cpu, BIT(cpu));
		expect(ICR_NMI, cpu, BIT(cpu));
		expect_one(ICR_LOWEST | VECTOR, cpu, BIT(cpu));
	}
	send(VECTOR, CPUS);
	expect(VECTOR, all, 0xf);
	settle();
}

static u32 guest_sends_from_xapic(u64 me)
{
	set_up();
	if (me) {
		listen();
		return 0;
	}
	shorthands();
	physical(0xff);
	/* Logical, one and several and all. */
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		expect(ICR_LOGICAL | VECTOR, logical_id(cpu), BIT(cpu));
		expect(ICR_LOGICAL | ICR_NMI, logical_id(cpu), BIT(cpu));
	}
	if (flat) {
		expect(ICR_LOGICAL | VECTOR, 0x5, 0x5);
		expect(ICR_LOGICAL | VECTOR, 0x8e, 0xe);
		expect_one(ICR_LOGICAL | ICR_LOWEST | VECTOR, 0xe, 0xe);
		send(ICR_LOGICAL | VECTOR, 0xf0);
	} else {
		expect(ICR_LOGICAL | VECTOR, 0x03, 0x3);
		expect(ICR_LOGICAL | VECTOR, 0x13, 0xc);
		expect_one(ICR_LOGICAL | ICR_LOWEST | VECTOR, 0x13, 0xc);
		send(ICR_LOGICAL | VECTOR, 0x23);
		send(ICR_LOGICAL | VECTOR, 0x1c);
	}
	expect(ICR_LOGICAL | VECTOR, 0xff, 0xf);
	settle();
	finish();
	return 0;
}

TEST_F(ipi, xapic_flat)
{
	cpus_expect_zero(&self->s, guest_sends_from_xapic);
}

TEST_F(ipi, xapic_cluster)
{
	flat = 0;
	cpus_expect_zero(&self->s, guest_sends_from_xapic);
}

static u32 guest_sends_from_x2apic(u64 me)
{
	set_up();
	if (me) {
		listen();
		return 0;
	}
	shorthands();
	physical(0xffffffff);
	guest_equal(x2apic_read(APIC_REG_LDR), 1);
	expect(ICR_LOGICAL | VECTOR, 0x1, 0x1);
	expect(ICR_LOGICAL | VECTOR, 0xa, 0xa);
	expect(ICR_LOGICAL | ICR_NMI, 0xc, 0xc);
	expect_one(ICR_LOGICAL | ICR_LOWEST | VECTOR, 0xc, 0xc);
	expect(ICR_LOGICAL | VECTOR, 0xffffffff, 0xf);
	send(ICR_LOGICAL | VECTOR, 0x1000f);
	send(ICR_LOGICAL | VECTOR, 0xfff0);
	/* The eight bits that mean everyone to an xAPIC are an ID here. */
	send(VECTOR, 0xff);
	settle();
	/* The self-IPI register. */
	wrmsr(MSR_X2APIC + 0x3f, VECTOR);
	expected[0][VECTOR]++;
	wait_until(taken[0][VECTOR] == expected[0][VECTOR]);
	settle();
	finish();
	return 0;
}

TEST_F(ipi, x2apic)
{
	apic_mode = X2APIC;
	cpus_expect_zero(&self->s, guest_sends_from_x2apic);
}

/* Physical destinations work whatever the modes of the others. */
static u32 guest_sends_among_both(u64 me)
{
	set_up();
	if (me > 1) {
		wait_until(finished == 2);
		return 0;
	}
	wait_until(finished == me);
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		expect(VECTOR, cpu, BIT(cpu));
		expect(ICR_NMI, cpu, BIT(cpu));
	}
	expect(ICR_ALL | VECTOR, 3, 0xf);
	settle();
	finished++;
	wait_until(finished == 2);
	return 0;
}

TEST_F(ipi, xapics_and_x2apics)
{
	apic_mode = MIXED;
	cpus_expect_zero(&self->s, guest_sends_among_both);
}

/* Not to whom is disabled, by software or wholly; NMIs reach the former. */
static u32 guest_sends_to_the_disabled(u64 me)
{
	set_up();
	if (me == 1)
		xapic_write(APIC_REG_SVR, 0xff);
	if (me == 2)
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) & ~BIT(11));
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	wait_until(ready == 2 * CPUS);
	if (me) {
		while (!finished)
			outb(PORT_YIELD, 0);
		return 0;
	}
	send(VECTOR, 1);
	send(VECTOR, 2);
	send(ICR_NMI, 2);
	expect(ICR_ALL | VECTOR, 0, 0x9);
	expect(ICR_LOGICAL | VECTOR, 0xf, 0x9);
	expect(ICR_NMI, 1, BIT(1));
	expect(LAST_VECTOR, 0, BIT(0));
	expect(LAST_VECTOR, 3, BIT(3));
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		guest_equal(taken[cpu][VECTOR], expected[cpu][VECTOR]);
		guest_equal(taken[cpu][2], expected[cpu][2]);
	}
	finished = 1;
	return 0;
}

TEST_F(ipi, to_disabled_apics)
{
	cpus_expect_zero(&self->s, guest_sends_to_the_disabled);
}

/* IDs that xAPIC mode cannot name. */
static volatile u32 ids[3];

static u32 guest_has_a_high_id(u64 me)
{
	x2apic_enable();
	guest_handlers[VECTOR] = note;
	apic_mode = X2APIC;
	guest_equal(x2apic_read(APIC_REG_ID), ids[me]);
	guest_equal(x2apic_read(APIC_REG_LDR), ids[me] >> 4 << 16 | 1u << (ids[me] & 15));
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	wait_until(ready == 3);
	if (me == 0) {
		for (u32 to = 1; to < 3; to++) {
			x2apic_ipi(VECTOR, ids[to]);
			wait_until(taken[to][VECTOR] == 1);
			x2apic_ipi(ICR_LOGICAL | VECTOR,
				   ids[to] >> 4 << 16 | 1u << (ids[to] & 15));
			wait_until(taken[to][VECTOR] == 2);
		}
		guest_equal(total(VECTOR), 4);
		finished = 1;
	}
	wait_until(finished);
	return 0;
}

TEST(high_ids)
{
	static const u32 chosen[] = { 0, 300, 1023 };
	struct cpus s;

	cpus_create_ids(&s, chosen, 3, WITH_IRQCHIP);
	for (int i = 0; i < 3; i++)
		ids[i] = chosen[i];
	cpus_expect_zero(&s, guest_has_a_high_id);
	cpus_destroy(&s);
}

/* IDs of x2APICs as userspace sees them: cut off, unless it asks for all of them. */
TEST(ids_of_userspace)
{
	static const u32 chosen[] = { 0, 300 };
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X2APIC_API };
	struct kvm_lapic_state state;
	struct kvm_sregs sregs;
	struct cpus s;
	struct cpu *cpu = &s.cpu[1];

	if (!device_has(KVM_CAP_X2APIC_API))
		SKIP(return, "no KVM_CAP_X2APIC_API");
	cpus_create_ids(&s, chosen, 2, WITH_IRQCHIP);
	must(cpu->g.vcpu, KVM_GET_SREGS, &sregs);
	sregs.apic_base |= BIT(10);
	must(cpu->g.vcpu, KVM_SET_SREGS, &sregs);
	must(cpu->g.vcpu, KVM_GET_LAPIC, &state);
	EXPECT_EQ(*(u32 *)(state.regs + APIC_REG_ID), 300u << 24);

	cap.args[0] = BIT(2);
	EXPECT_EQ(outcome(ioctl(cpu->g.vm, KVM_ENABLE_CAP, &cap)), -EINVAL);
	cap.args[0] = KVM_X2APIC_API_USE_32BIT_IDS;
	cap.flags = 1;
	EXPECT_EQ(outcome(ioctl(cpu->g.vm, KVM_ENABLE_CAP, &cap)), -EINVAL);
	cap.flags = 0;
	EXPECT_EQ(outcome(ioctl(cpu->g.vm, KVM_ENABLE_CAP, &cap)), 0);
	EXPECT_EQ(outcome(ioctl(cpu->g.vcpu, KVM_SET_LAPIC, &state)), -EINVAL);
	must(cpu->g.vcpu, KVM_GET_LAPIC, &state);
	EXPECT_EQ(*(u32 *)(state.regs + APIC_REG_ID), 300);
	EXPECT_EQ(outcome(ioctl(cpu->g.vcpu, KVM_SET_LAPIC, &state)), 0);
	cpus_destroy(&s);
}

/*
 * The storm: each asks each other and itself, all at once, and goes on when all
 * have answered, asleep meanwhile.  Questions and answers are interrupts, and
 * each is counted: lost ones make it hang, doubled ones spoil the counts.
 */
static volatile u32 rounds = 100;
static volatile u32 asked[CPUS][CPUS], answered[CPUS][CPUS];

static void storm_send(u32 vector, unsigned int to)
{
	if (!flat || apic_mode == X2APIC)
		send(vector, to);
	else
		send(ICR_LOGICAL | vector, logical_id(to));
}

static void on_question(struct guest_frame *frame)
{
	unsigned int me = cpu_self(), from = frame->vector - ASK_VECTOR;

	asked[from][me]++;
	apic_write(APIC_REG_EOI, 0);
	storm_send(ANSWER_VECTOR + me, from);
}

static void on_answer(struct guest_frame *frame)
{
	answered[cpu_self()][frame->vector - ANSWER_VECTOR]++;
	apic_write(APIC_REG_EOI, 0);
}

static bool all_answered(unsigned int me, u32 count)
{
	for (unsigned int to = 0; to < CPUS; to++)
		if (answered[me][to] < count)
			return false;
	return true;
}

static u32 guest_storms(u64 me)
{
	for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
		guest_handlers[ASK_VECTOR + cpu] = on_question;
		guest_handlers[ANSWER_VECTOR + cpu] = on_answer;
	}
	set_up();
	for (u32 round = 1; round <= rounds; round++) {
		for (unsigned int to = 0; to < CPUS; to++) {
			cli();		/* question and ICR2 belong together */
			storm_send(ASK_VECTOR + me, to);
			sti();
		}
		cli();
		while (!all_answered(me, round))
			asm volatile("sti; hlt; cli" : : : "memory");
		sti();
	}
	/* Whoever is through still answers. */
	cli();
	if (__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST) == CPUS)
		send(ICR_OTHERS | VECTOR, 0);
	while (finished < CPUS)
		asm volatile("sti; hlt; cli" : : : "memory");
	for (unsigned int to = 0; to < CPUS; to++) {
		guest_equal(answered[me][to], rounds);
		guest_equal(asked[me][to], rounds);
	}
	return 0;
}

TEST_F(ipi, storm_xapic_logical)
{
	cpus_expect_zero(&self->s, guest_storms);
}

TEST_F(ipi, storm_xapic_physical)
{
	flat = 0;
	cpus_expect_zero(&self->s, guest_storms);
}

TEST_F(ipi, storm_x2apic)
{
	apic_mode = X2APIC;
	cpus_expect_zero(&self->s, guest_storms);
}

/* Signals take the vCPUs out all the time; none of it is lost. */
TEST_F(ipi, storm_under_signals)
{
	struct cpus *s = &self->s;
	u64 signals = 0;

	cpus_prepare(s, guest_storms);
	cpus_start(s);
	while (*guest_var(&s->cpu[0].g, finished) < CPUS) {
		for (int i = 0; i < CPUS; i++)
			cpu_signal(&s->cpu[i]);
		urgent_pause();
	}
	for (int i = 0; i < CPUS; i++) {
		EXPECT_EQ(cpu_join(&s->cpu[i]), 0);
		signals += s->cpu[i].signals;
	}
	EXPECT_GT(signals, 0);
}

/* All are stopped, saved, restored, again and again, whatever is pending. */
static void save_and_restore(struct cpu *cpu)
{
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	bool has_events = device_has(KVM_CAP_VCPU_EVENTS);

	must(cpu->g.vcpu, KVM_GET_MP_STATE, &mp);
	must(cpu->g.vcpu, KVM_GET_REGS, &regs);
	must(cpu->g.vcpu, KVM_GET_SREGS, &sregs);
	must(cpu->g.vcpu, KVM_GET_LAPIC, &lapic);
	if (has_events)
		must(cpu->g.vcpu, KVM_GET_VCPU_EVENTS, &events);

	must(cpu->g.vcpu, KVM_SET_SREGS, &sregs);
	must(cpu->g.vcpu, KVM_SET_REGS, &regs);
	must(cpu->g.vcpu, KVM_SET_LAPIC, &lapic);
	if (has_events)
		must(cpu->g.vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(cpu->g.vcpu, KVM_SET_MP_STATE, &mp);
}

static void storm_saved(struct __test_metadata *_metadata, struct cpus *s)
{
	unsigned int stops = 0;

	cpus_prepare(s, guest_storms);
	cpus_start(s);
	while (stops < 20 && *guest_var(&s->cpu[0].g, finished) < CPUS) {
		bool done[CPUS];

		usleep(3000);
		for (int i = 0; i < CPUS; i++) {
			cpu_stop(&s->cpu[i]);
			done[i] = s->cpu[i].returned;
		}
		stops++;
		for (int i = 0; i < CPUS; i++)
			save_and_restore(&s->cpu[i]);
		for (int i = 0; i < CPUS; i++)
			if (!done[i])
				cpu_start(&s->cpu[i]);
	}
	for (int i = 0; i < CPUS; i++) {
		if (s->cpu[i].running)
			cpu_join(&s->cpu[i]);
		EXPECT_EQ(s->cpu[i].result, 0);
	}
	EXPECT_GT(stops, 1);
}

TEST_F(ipi, storm_saved_and_restored)
{
	storm_saved(_metadata, &self->s);
}

TEST_F(ipi, storm_saved_and_restored_x2apic)
{
	apic_mode = X2APIC;
	storm_saved(_metadata, &self->s);
}

/* An NMI handler is not interrupted by the NMIs that others send meanwhile. */
static volatile u32 nmi_depth, nmi_count;

static void on_nmi(struct guest_frame *frame)
{
	guest_equal(__atomic_add_fetch(&nmi_depth, 1, __ATOMIC_SEQ_CST), 1);
	nmi_count++;
	if (nmi_count == 1)
		wait_until(finished == 3);
	__atomic_sub_fetch(&nmi_depth, 1, __ATOMIC_SEQ_CST);
}

static u32 guest_nests_nmis(u64 me)
{
	set_up();
	guest_handlers[2] = on_nmi;
	if (me) {
		/* The first of them starts the handler; the rest come while it runs. */
		if (me == 1)
			send(ICR_NMI, 0);
		wait_until(nmi_count);
		for (u32 i = 0; i < 10; i++)
			send(ICR_NMI, 0);
		__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
		return 0;
	}
	/* One was served, one was latched, the others merged with that one. */
	wait_until(nmi_count >= 2);
	for (u32 i = 0; i < 1000; i++)
		asm volatile("pause");
	guest_equal(nmi_count, 2);
	return 0;
}

TEST_F(ipi, nmis_do_not_nest)
{
	cpus_expect_zero(&self->s, guest_nests_nmis);
}

SELFTEST_MAIN
