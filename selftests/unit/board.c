// SPDX-License-Identifier: GPL-2.0
/*
 * The board on a clock that tests move and with more local APICs than a VM has
 * vCPUs yet: what a guest cannot see happen to itself, such as who else gets an
 * interrupt, ticks that come late, and the rarer modes of the 8259 and 8254.
 */
#include "tap.h"
#include "board/board.h"
#include "board/lapic.h"

/* irqfds need a kernel around them. */
void mk_irqfd_acked(struct mk_vm *vm, u32 gsi)
{
}

#define MS		1000000LL
#define LAPIC		0xfee00000ull
#define IOAPIC		0xfec00000ull
#define PIC_BASE	0x30

enum { CPUS = 3 };

ktime_t clock_now;
static struct hrtimer *timers;

void hrtimer_init(struct hrtimer *timer, int clock, enum hrtimer_mode mode)
{
	timer->next = timers;
	timers = timer;
}

static void fire(struct hrtimer *timer)
{
	timer->queued = false;
	if (timer->function(timer) == HRTIMER_RESTART)
		timer->queued = true;
}

/* Let @ns pass, each timer firing at its time. */
static void pass(s64 ns)
{
	ktime_t end = clock_now + ns;
	struct hrtimer *timer, *first;

	for (;;) {
		first = NULL;
		for (timer = timers; timer; timer = timer->next)
			if (timer->queued && timer->expires <= end &&
			    (!first || timer->expires < first->expires))
				first = timer;
		if (!first)
			break;
		clock_now = max(clock_now, first->expires);
		fire(first);
	}
	clock_now = end;
}

u64 mk_guest_tsc(struct mk_vcpu *v)
{
	return clock_now * 2;
}

static struct mk_vm vm;
static struct mk_vcpu vcpus[CPUS];

static void pass_msr(struct mk_cpu *cpu, u32 msr, bool read, bool write)
{
	u64 bit = BIT_ULL(msr - APIC_BASE_MSR);

	cpu->reads = read ? cpu->reads | bit : cpu->reads & ~bit;
	cpu->writes = write ? cpu->writes | bit : cpu->writes & ~bit;
}

static const struct mk_backend backend = { .pass_msr = pass_msr };
const struct mk_backend *mk_hw = &backend;

static void outb(u16 port, u8 val)
{
	vm.board->pio(&vcpus[0], port, 1, &val, true);
}

static u8 inb(u16 port)
{
	u8 val = 0xee;

	vm.board->pio(&vcpus[0], port, 1, &val, false);
	return val;
}

static u32 lapic_read(int cpu, u32 reg)
{
	u32 val = 0;

	vm.board->mmio(&vcpus[cpu], LAPIC + reg, 4, &val, false);
	return val;
}

static void lapic_write(int cpu, u32 reg, u32 val)
{
	vm.board->mmio(&vcpus[cpu], LAPIC + reg, 4, &val, true);
}

static u32 ioapic_read(u32 reg)
{
	u32 val;

	vm.board->mmio(&vcpus[0], IOAPIC, 4, &reg, true);
	vm.board->mmio(&vcpus[0], IOAPIC + 0x10, 4, &val, false);
	return val;
}

static void ioapic_write(u32 reg, u32 val)
{
	vm.board->mmio(&vcpus[0], IOAPIC, 4, &reg, true);
	vm.board->mmio(&vcpus[0], IOAPIC + 0x10, 4, &val, true);
}

static void route(int pin, u64 entry)
{
	ioapic_write(0x11 + 2 * pin, entry >> 32);
	ioapic_write(0x10 + 2 * pin, entry);
}

static int line(u32 gsi, u32 level)
{
	s32 status = -100;

	mk_irq_line(&vm, gsi, level, &status);
	return status;
}

static int edge(u32 gsi)
{
	int status = line(gsi, 1);

	line(gsi, 0);
	return status;
}

static int ack(int cpu)
{
	bool more;

	return vm.board->irq_take(&vcpus[cpu], true, &more);
}

static void lapic_eoi(int cpu)
{
	lapic_write(cpu, APIC_EOI, 0);
}

/* The CPUs that have @vector, as a mask; they serve it. */
static unsigned int who(int vector)
{
	unsigned int mask = 0;
	int cpu;

	for (cpu = 0; cpu < CPUS; cpu++) {
		if (vm.board->irq_pending(&vcpus[cpu]) != vector)
			continue;
		mask |= BIT(cpu);
		ack(cpu);
		lapic_eoi(cpu);
	}
	return mask;
}

static void send(u32 icr, u32 dest)
{
	lapic_write(0, APIC_ICR2, dest << 24);
	lapic_write(0, APIC_ICR, icr);
}

/* Both chips initialized and unmasked; @icw4 for the master. */
static void pic_init(u8 icw4)
{
	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	outb(0x21, PIC_BASE);
	outb(0xa1, PIC_BASE + 8);
	outb(0x21, 4);
	outb(0xa1, 2);
	outb(0x21, icw4);
	outb(0xa1, 1);
	outb(0x21, 0);
	outb(0xa1, 0);
}

static void pic_mask(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static u8 pic_isr(void)
{
	outb(0x20, 0x0b);
	return inb(0x20);
}

static void begin(void)
{
	int cpu;

	memset(&vm, 0, sizeof(vm));
	memset(vcpus, 0, sizeof(vcpus));
	timers = NULL;
	clock_now = 1000 * MS;
	vm.apic_bus_ns = 1;
	mk_irqchip_create(&vm);
	for (cpu = 0; cpu < CPUS; cpu++) {
		struct mk_vcpu *v = &vcpus[cpu];

		*v = (struct mk_vcpu){ .vm = &vm, .id = cpu, .maxphyaddr = 40,
				       .tsc_khz = 2000000 };
		vm.board->vcpu_init(v);
		vm.board->vcpu_reset(v, false);
		vm.vcpus.entry[cpu] = v;
		vm.nr_vcpus++;
		lapic_write(cpu, APIC_SPIV, 0x1ff);
	}
	pic_init(1);
}

static void end(void)
{
	int cpu;

	vm.board->vm_free(&vm);
	for (cpu = 0; cpu < CPUS; cpu++)
		vm.board->vcpu_free(&vcpus[cpu]);
}

static void pic_tests(void)
{
	begin();
	ok(mk_irqchip_create(&vm) == -EEXIST, "no second irqchip");
	edge(4);
	edge(3);
	ok(ack(0) == PIC_BASE + 3, "PIC: the lower line first");
	ok(ack(0) == -1, "PIC: a lower one waits for the EOI");
	outb(0x20, 0x20);
	ok(ack(0) == PIC_BASE + 4, "PIC: and comes after it");
	ok(edge(4) == 1 && edge(4) == 0,
	   "PIC: an edge that finds its predecessor waiting is told");
	outb(0x20, 0x64);
	ok(ack(0) == PIC_BASE + 4, "PIC: a specific EOI");
	outb(0x20, 0x20);

	edge(12);
	edge(10);
	ok(ack(0) == PIC_BASE + 10 && pic_isr() == 4, "PIC: through the cascade");
	edge(8);
	ok(ack(0) == -1, "PIC: the master holds back a second one from the slave");
	outb(0xa0, 0x20);
	outb(0x20, 0x20);
	ok(ack(0) == PIC_BASE + 8, "PIC: after both EOIs it comes");
	outb(0xa0, 0x20);
	outb(0x20, 0x20);
	outb(0xa1, 0x10);
	ok(ack(0) == -1, "PIC: a masked slave line leaves nothing spurious behind");
	outb(0xa1, 0);
	ok(ack(0) == PIC_BASE + 12, "PIC: it comes when it is unmasked");
	outb(0xa0, 0x20);
	outb(0x20, 0x20);

	pic_init(0x11);
	edge(12);
	ok(ack(0) == PIC_BASE + 12, "PIC: specially nested");
	edge(8);
	ok(ack(0) == PIC_BASE + 8, "PIC: specially nested, the slave's higher one comes through");
	pic_init(1);

	outb(0x4d1, 0xff);
	ok(inb(0x4d1) == 0xde, "ELCR: lines that are always edges stay so");
	line(11, 1);
	ack(0);
	outb(0xa0, 0x20);
	outb(0x20, 0x20);
	ok(ack(0) == PIC_BASE + 11, "PIC: a level comes again");
	line(11, 0);
	outb(0xa0, 0x20);
	outb(0x20, 0x20);
	ok(ack(0) == -1, "PIC: until it falls");
	outb(0x4d1, 0);

	outb(0x20, 0xc3);
	edge(3);
	edge(4);
	ok(ack(0) == PIC_BASE + 4, "PIC: rotated, line 3 is the last");
	outb(0x20, 0xa0);
	ok(ack(0) == PIC_BASE + 3, "PIC: rotation with EOI puts line 4 behind it");
	pic_init(1);

	edge(1);
	ack(0);
	edge(6);
	outb(0x21, 2);
	ok(ack(0) == -1, "PIC: a line in service holds back lower ones, masked or not");
	outb(0x20, 0x68);
	ok(ack(0) == PIC_BASE + 6, "PIC: but not in special mask mode");
	outb(0x20, 0x20);
	ok(pic_isr() == 2, "PIC: whose EOI leaves the masked line in service");
	pic_init(1);

	edge(7);
	outb(0x20, 0x0c);
	ok(inb(0x20) == 0x87 && pic_isr() == 0x80, "PIC: a poll acknowledges");
	outb(0x20, 0x20);
	outb(0x20, 0x0c);
	ok(inb(0x20) == 0, "PIC: a poll that finds nothing");

	pic_init(3);
	edge(3);
	edge(4);
	ok(ack(0) == PIC_BASE + 3 && ack(0) == PIC_BASE + 4 && pic_isr() == 0,
	   "PIC: automatic EOI");

	pic_mask();
	lapic_write(1, APIC_LVT0, 0x400);
	edge(5);
	outb(0x21, 0);
	ok(vcpus[1].nmis == 1 && !vcpus[2].nmis, "PIC: LINT0 as NMI");
	lapic_write(0, APIC_LVT0, APIC_LVT_MASKED);
	ok(ack(0) == -1, "PIC: LINT0 masked");
	vm.board->msr_set(&vcpus[0], MSR_IA32_APICBASE, 0xfee00100, false);
	ok(ack(0) == PIC_BASE + 5, "PIC: with the APIC disabled LINT0 is INTR");
	end();
}

static void destination_tests(void)
{
	int i, turns[CPUS] = { 0 };

	begin();
	pic_mask();
	send(0x45, 1);
	ok(who(0x45) == 2, "IPI: to an ID");
	send(0x45, 7);
	ok(who(0x45) == 0, "IPI: to an ID that nobody has");
	send(0x46, 0xff);
	ok(who(0x46) == 7, "IPI: to all IDs");
	send(0x40047, 2);
	ok(who(0x47) == 1, "IPI: to itself");
	send(0x80047, 2);
	ok(who(0x47) == 7, "IPI: to all");
	send(0xc0047, 2);
	ok(who(0x47) == 6, "IPI: to all others");
	send(0x400, 2);
	ok(vcpus[2].nmis == 1 && !vcpus[1].nmis, "IPI: an NMI");
	send(0x40005, 0);
	lapic_write(0, APIC_ESR, 0);
	ok(lapic_read(0, APIC_ESR) == 0x20, "IPI: none with a vector below 16");

	for (i = 0; i < CPUS; i++)
		lapic_write(i, APIC_LDR, 1 << (24 + i));
	send(0x850, 5);
	ok(who(0x50) == 5, "IPI: flat logical");
	for (i = 0; i < 12; i++) {
		send(0x951, 7);
		turns[__ffs(who(0x51) | BIT(CPUS - 1))]++;
	}
	ok(turns[0] == 4 && turns[1] == 4, "IPI: lowest priority goes round");
	lapic_write(1, APIC_SPIV, 0xff);
	send(0x850, 7);
	ok(who(0x50) == 5, "IPI: not to an APIC that software has disabled");
	lapic_write(1, APIC_SPIV, 0x1ff);

	for (i = 0; i < CPUS; i++)
		lapic_write(i, APIC_DFR, 0);
	lapic_write(0, APIC_LDR, 0x11000000);
	lapic_write(1, APIC_LDR, 0x12000000);
	lapic_write(2, APIC_LDR, 0x21000000);
	send(0x870, 0x13);
	ok(who(0x70) == 3, "IPI: logical, a cluster");

	for (i = 0; i < CPUS; i++)
		vm.board->msr_set(&vcpus[i], MSR_IA32_APICBASE, 0xfee00c00, false);
	vm.board->msr_set(&vcpus[0], 0x830, 2ull << 32 | 0x71, false);
	vm.board->msr_set(&vcpus[2], 0x80b, 0, false);
	ok(ack(2) == 0x71 && ack(1) == -1, "x2APIC: to an ID");
	vm.board->msr_set(&vcpus[0], 0x830, 3ull << 32 | 0x881, false);
	ok(ack(0) == 0x81 && ack(1) == 0x81 && ack(2) == -1, "x2APIC: logical");
	vm.board->msr_set(&vcpus[0], 0x830, ~0ull << 32 | 0x91, false);
	ok(ack(0) == 0x91 && ack(1) == 0x91 && ack(2) == 0x91, "x2APIC: to all");
	end();
}

static void priority_tests(void)
{
	int vector, good = 0;
	struct mk_lapic *apic;

	begin();
	apic = vcpus[0].apic;
	pic_mask();
	for (vector = 0x1f; vector < 0x100; vector += 0x10)
		send(0x40000 | vector, 0);
	for (vector = 0xff; vector > 0; vector -= 0x10) {
		good += ack(0) == vector && lapic_read(0, APIC_PROCPRI) == (vector & 0xf0u);
		lapic_eoi(0);
	}
	ok(good == 15 && ack(0) == -1, "LAPIC: from the highest vector to the lowest");

	send(0x40035, 0);
	ack(0);
	send(0x40085, 0);
	ok(ack(0) == 0x85, "LAPIC: a higher class interrupts");
	send(0x4003f, 0);
	vcpus[0].event = false;
	lapic_eoi(0);
	ok(ack(0) == -1 && !vcpus[0].event && lapic_read(0, APIC_PROCPRI) == 0x30,
	   "LAPIC: its own class does not");
	lapic_eoi(0);
	ok(vcpus[0].event && ack(0) == 0x3f, "LAPIC: and is asked for with the EOI");
	lapic_eoi(0);

	vm.board->set_cr8(&vcpus[0], 5);
	send(0x4005f, 0);
	ok(lapic_read(0, APIC_TASKPRI) == 0x50 && vcpus[0].cpu.cr8 == 5 && ack(0) == -1,
	   "LAPIC: CR8 is the task priority");
	vcpus[0].event = false;
	lapic_write(0, APIC_TASKPRI, 0x40);
	ok(vcpus[0].event && vcpus[0].cpu.cr8 == 4 && ack(0) == 0x5f,
	   "LAPIC: lowering it lets in what waited");
	lapic_eoi(0);

	/* As if another CPU had been slow between the bit and its summary. */
	atomic_or(BIT(1), &apic->arrived[3]);
	ok(ack(0) == -1, "LAPIC: what arrives is not there yet");
	apic->arrived_words |= BIT(3);
	ok(ack(0) == 0x61, "LAPIC: and is when it is announced");
	apic->arrived_words |= BIT(7);
	send(0x40062, 0);
	ok(ack(0) == -1, "LAPIC: of the same class is the next");
	lapic_eoi(0);
	ok(ack(0) == 0x62, "LAPIC: an announcement without an interrupt hides nothing");
	end();
}

static void lapic_timer_tests(void)
{
	struct kvm_lapic_state state;
	u64 deadline;
	int i, good = 0;

	begin();
	pic_mask();
	lapic_write(0, APIC_TDCR, 0xb);
	lapic_write(0, APIC_LVTT, 0x40);
	lapic_write(0, APIC_TMICT, MS);
	pass(MS / 4);
	ok(lapic_read(0, APIC_TMCCT) == MS * 3 / 4, "LAPIC timer: counts at 1 GHz");
	mk_lapic_get_state(&vcpus[0], &state);
	pass(MS);
	ok(ack(0) == 0x40 && lapic_read(0, APIC_TMCCT) == 0, "LAPIC timer: once");
	lapic_eoi(0);
	pass(10 * MS);
	ok(ack(0) == -1, "LAPIC timer: and not again");
	mk_lapic_set_state(&vcpus[0], &state);
	pass(MS * 3 / 4 - 1);
	ok(ack(0) == -1, "LAPIC timer: restored, it goes on where it was");
	pass(1);
	ok(ack(0) == 0x40, "LAPIC timer: to its end");
	lapic_eoi(0);

	lapic_write(0, APIC_TDCR, 3);
	lapic_write(0, APIC_TMICT, MS);
	pass(8 * MS);
	lapic_write(0, APIC_TDCR, 0xb);
	ok(lapic_read(0, APIC_TMCCT) == MS / 2, "LAPIC timer: a new divider keeps the count");

	lapic_write(0, APIC_LVTT, 0x20041);
	lapic_write(0, APIC_TMICT, MS);
	for (i = 0; i < 5; i++) {
		pass(MS);
		good += ack(0) == 0x41;
		lapic_eoi(0);
	}
	ok(good == 5, "LAPIC timer: periodic");
	lapic_write(0, APIC_TMICT, 1);
	for (i = 0, good = 0; i < 1000; i++) {
		pass(1000);
		good += ack(0) == 0x41;
		lapic_eoi(0);
	}
	ok(good <= 6, "LAPIC timer: a period of 1 ns does not reach the host: %d in 1 ms", good);

	lapic_write(0, APIC_LVTT, 0x40042);
	vm.board->msr_set(&vcpus[0], MSR_IA32_TSC_DEADLINE, clock_now * 2 + 2000, false);
	pass(999);
	ok(ack(0) == -1, "TSC deadline: not before");
	pass(1);
	vm.board->msr_get(&vcpus[0], MSR_IA32_TSC_DEADLINE, &deadline, false);
	ok(ack(0) == 0x42 && !deadline, "TSC deadline: at its time, then disarmed");
	lapic_eoi(0);
	vm.board->msr_set(&vcpus[0], MSR_IA32_TSC_DEADLINE, 1, false);
	ok(ack(0) == 0x42, "TSC deadline: one that has passed comes at once");
	lapic_eoi(0);
	vm.board->msr_set(&vcpus[0], MSR_IA32_TSC_DEADLINE, ~0ull, false);
	pass(3600000 * MS);
	ok(ack(0) == -1, "TSC deadline: the last one is far away");
	end();
}

static int x2apic_set(u32 msr, u64 val)
{
	return vm.board->msr_set(&vcpus[1], msr, val, false);
}

static void x2apic_tests(void)
{
	struct kvm_lapic_state state;
	u64 val = 0;

	begin();
	ok(x2apic_set(0x808, 0) == -EINVAL, "x2APIC: no MSRs in xAPIC mode");
	ok(x2apic_set(MSR_IA32_APICBASE, 0xfee00400) == -EINVAL, "APIC base: EXTD without EN");
	ok(x2apic_set(MSR_IA32_APICBASE, 0xfee00801) == -EINVAL, "APIC base: a reserved bit");
	ok(x2apic_set(MSR_IA32_APICBASE, 1ull << 40 | 0xfee00800) == -EINVAL,
	   "APIC base: beyond the physical address width");
	ok(!x2apic_set(MSR_IA32_APICBASE, 0xfee00c00), "APIC base: to x2APIC mode");
	ok(x2apic_set(MSR_IA32_APICBASE, 0xfee00800) == -EINVAL, "APIC base: not straight back");
	vm.board->msr_get(&vcpus[1], 0x80d, &val, false);
	ok(val == 2, "x2APIC: the logical ID follows from the ID");
	ok(lapic_read(1, APIC_ID) == 0xffffffff, "x2APIC: no MMIO");
	ok(x2apic_set(0x80b, 1) == -EINVAL && x2apic_set(0x808, 0x100) == -EINVAL &&
	   x2apic_set(0x830, 1 << 20) == -EINVAL && x2apic_set(0x83f, 0x100) == -EINVAL,
	   "x2APIC: reserved bits");
	ok(x2apic_set(0x80d, 0) == -EINVAL && x2apic_set(0x80e, 0) == -EINVAL &&
	   x2apic_set(0x831, 0) == -EINVAL && x2apic_set(0x8ff, 0) == -EINVAL,
	   "x2APIC: registers that are not there, or not written");
	ok(!x2apic_set(0x83f, 0x55) && ack(1) == 0x55, "x2APIC: self IPI");
	mk_lapic_get_state(&vcpus[1], &state);
	ok(*(u32 *)(state.regs + APIC_ID) == 1 << 24, "x2APIC: saved with its ID as xAPIC has it");
	ok(!x2apic_set(MSR_IA32_APICBASE, 0xfee00000), "APIC base: disabled");
	ok(x2apic_set(MSR_IA32_APICBASE, 0xfee00c00) == -EINVAL,
	   "APIC base: not at once from there to x2APIC mode");
	ok(!x2apic_set(MSR_IA32_APICBASE, 0xfee00800) && lapic_read(1, APIC_ID) == 1 << 24,
	   "APIC base: but to xAPIC mode");
	end();
}

/* CPU 1 is about to enter its guest. */
static struct mk_cpu *entry(void)
{
	vcpus[1].event = false;
	if (vcpus[1].cpu.virt_apic)
		vm.board->virtualize(&vcpus[1]);
	return &vcpus[1].cpu;
}

static u32 *vector_word(unsigned int reg, u8 vector)
{
	return vcpus[1].cpu.apic_regs + reg + vector / 32 * 0x10;
}

/* What the CPU does by itself: SDM vol. 3C, "Virtual-Interrupt Delivery". */
static void cpu_delivers(u8 vector)
{
	*vector_word(APIC_IRR, vector) &= ~(1u << vector % 32);
	*vector_word(APIC_ISR, vector) |= 1u << vector % 32;
	*vector_word(APIC_PROCPRI, 0) = vector & 0xf0;
}

static void virt_tests(void)
{
	struct mk_cpu *cpu;
	u64 val = 0;

	begin();
	pic_mask();
	vcpus[1].cpu.can_virt_apic = true;
	cpu = entry();
	ok(!cpu->virt_apic && !cpu->reads, "virtual APIC: not in xAPIC mode");
	x2apic_set(MSR_IA32_APICBASE, 0xfee00c00);
	x2apic_set(0x80f, 0x1ff);
	cpu = entry();
	ok(cpu->virt_apic && cpu->apic_changed == (MK_APIC_STATUS | MK_APIC_EOIS) &&
	   !cpu->apic_irr && !cpu->apic_isr, "virtual APIC: taken over in x2APIC mode");
	ok(cpu->writes == (BIT_ULL(0x08) | BIT_ULL(0x0b) | BIT_ULL(0x3f)) &&
	   (cpu->reads & BIT_ULL(0x0a)) && !(cpu->reads & (BIT_ULL(0x0b) | BIT_ULL(0x39))),
	   "virtual APIC: what does not exit");

	x2apic_set(0x83f, 0x55);
	ok(vcpus[1].event && !(*vector_word(APIC_IRR, 0x55) & BIT(0x15)),
	   "virtual APIC: what arrives waits beside the page");
	ok(vm.board->irq_pending(&vcpus[1]) == 0x55 && ack(1) == -1,
	   "virtual APIC: and is not injected");
	cpu = entry();
	ok(cpu->apic_irr == 0x55 && !cpu->apic_isr, "virtual APIC: the CPU hears of it");
	cpu_delivers(0x55);
	x2apic_set(0x83f, 0x52);
	ok(vm.board->irq_pending(&vcpus[1]) == -1, "virtual APIC: its own class waits");
	x2apic_set(0x83f, 0x71);
	ok(vm.board->irq_pending(&vcpus[1]) == 0x71, "virtual APIC: a higher one does not");
	cpu = entry();
	ok(cpu->apic_irr == 0x71 && cpu->apic_isr == 0x55, "virtual APIC: the CPU has both");
	cpu_delivers(0x71);
	x2apic_set(0x80b, 0);
	ok(vcpus[1].event && entry()->apic_isr == 0x55 && vcpus[1].cpu.apic_irr == 0x52,
	   "virtual APIC: an EOI outside the guest");
	vm.board->msr_get(&vcpus[1], 0x80a, &val, false);
	ok(val == 0x50, "virtual APIC: and its priority");

	x2apic_set(0x80f, 0x0ff);
	ok(vcpus[1].event && !entry()->apic_irr, "virtual APIC: disabled, it delivers nothing");
	x2apic_set(0x80f, 0x1ff);
	ok(vcpus[1].event && entry()->apic_irr == 0x52, "virtual APIC: and what waited, enabled");

	cpu->apic_changed = 0;
	entry();
	ok(cpu->apic_changed == MK_APIC_STATUS && !cpu->apic_eois[1], "virtual APIC: no EOI exits");
	route(20, 1ull << 56 | 0x8071);
	line(20, 1);
	entry();
	ok(cpu->apic_changed & MK_APIC_EOIS && cpu->apic_eois[1] == BIT_ULL(0x71 % 64),
	   "virtual APIC: but that of a level");
	cpu_delivers(0x71);
	*vector_word(APIC_ISR, 0x71) = 0;
	line(20, 0);
	vm.board->virt_eoi(&vcpus[1], 0x71);
	ok(ioapic_read(0x38) == 0x8071, "virtual APIC: the I/O APIC hears of it");

	x2apic_set(0x83f, 0x91);
	x2apic_set(MSR_IA32_APICBASE, 0xfee00000);
	cpu = entry();
	ok(!cpu->virt_apic && !cpu->reads && !cpu->writes, "virtual APIC: given back");
	x2apic_set(MSR_IA32_APICBASE, 0xfee00800);
	ok(ack(1) == 0x91, "virtual APIC: with what had arrived");
	lapic_eoi(1);
	lapic_eoi(1);
	ok(ack(1) == 0x52, "virtual APIC: and what was in service");
	vcpus[1].cpu.can_virt_apic = false;
	end();
}

static void ioapic_tests(void)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	begin();
	pic_mask();
	ok(ioapic_read(1) == 0x170011 && ioapic_read(0x40) == ~0u, "IOAPIC: 24 pins, no more");
	route(5, 0x61);
	ok(edge(5) == 1 && who(0x61) == 1, "IOAPIC: an edge");
	edge(5);
	ok(edge(5) == 0, "IOAPIC: an edge that finds its predecessor waiting is told");
	who(0x61);
	ok(line(24, 1) == -1 && line(~0u, 1) == -1, "IOAPIC: no such line");

	route(20, 1ull << 56 | 0x8071);
	ok(line(20, 1) == 1 && ioapic_read(0x38) == 0xc071, "IOAPIC: a level sets Remote IRR");
	ok(who(0x71) == 2 && who(0x71) == 2, "IOAPIC: and comes again after the EOI");
	line(20, 0);
	who(0x71);
	ok(who(0x71) == 0 && ioapic_read(0x38) == 0x8071, "IOAPIC: until it falls");
	route(20, 1ull << 56 | 0x18071);
	ok(line(20, 1) == -1, "IOAPIC: a masked level");
	route(20, 1ull << 56 | 0x8072);
	ok(ack(1) == 0x72, "IOAPIC: comes when it is unmasked");
	ioapic_write(0x38, 0x10072);
	ok(ioapic_read(0x38) == 0x10072, "IOAPIC: an entry made an edge loses Remote IRR");
	lapic_eoi(1);
	line(20, 0);

	line(5, 1);
	ok(!mk_irqchip_get(&vm, &chip) && !(chip.chip.ioapic.irr & BIT(5)),
	   "IOAPIC: an edge that went out is not saved");
	who(0x61);
	mk_irqchip_set(&vm, &chip);
	ok(who(0x61) == 0 && edge(5) == 1 && who(0x61) == 1, "IOAPIC: nor sent again, restored");
	end();
}

/* Take and end all ticks that are there now. */
static int ticks(void)
{
	int n;

	for (n = 0; ack(0) == PIC_BASE; n++)
		outb(0x20, 0x20);
	return n;
}

static void program(int channel, u8 control, u16 count)
{
	outb(0x43, channel << 6 | control);
	outb(0x40 + channel, count);
	outb(0x40 + channel, count >> 8);
}

static u16 read_count(int channel)
{
	u8 low = inb(0x40 + channel);

	return low | inb(0x40 + channel) << 8;
}

static bool speaker_out(void)
{
	return inb(0x61) & 0x20;
}

static void pit_tests(void)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_pit_state2 state;
	int i, n;

	begin();
	ok(mk_pit_get2(&vm, &state) == -ENXIO, "PIT: none yet");
	ok(!mk_pit_create(&vm, &config) && mk_pit_create(&vm, &config) == -EEXIST,
	   "PIT: one, and no second one");
	pass(1000 * MS);
	ok(ticks() == 0, "PIT: silent until it is programmed");
	program(0, 0x34, 11932);
	for (i = 0, n = 0; i < 1000; i++) {
		pass(10 * MS);
		n += ticks();
	}
	ok(n == 999 || n == 1000, "PIT: 100 Hz, %d ticks in 10 s", n);
	pass(100 * MS);
	n = ticks();
	ok(n >= 9 && n <= 11, "PIT: ticks that met their predecessor follow, %d of 10", n);
	clock_now += 50 * MS;
	pass(1);
	n = ticks();
	ok(n >= 4 && n <= 6, "PIT: so do those for which the host was late, %d of 5", n);
	clock_now += 3600000 * MS;
	pass(1);
	n = ticks();
	ok(n <= 1002, "PIT: but not all of a long sleep");

	pic_mask();
	route(0, 0x55);
	pass(100 * MS);
	for (n = 0; who(0x55); n++)
		;
	ok(n >= 9 && n <= 11, "PIT: ticks follow through the I/O APIC too, %d of 10", n);
	route(0, 0x10000);
	pass(1000 * MS);
	route(0, 0x55);
	ok(who(0x55) == 0, "PIT: none is owed to who had masked them");

	program(0, 0x38, 0x1000);
	pass(3432 * MS / 1000);
	ok(who(0x55) == 0, "PIT: one-shot, not before");
	pass(2000);
	ok(who(0x55) == 1, "PIT: one-shot");
	pass(1000 * MS);
	ok(who(0x55) == 0, "PIT: and no second one");

	outb(0x61, 1);
	program(2, 0x30, 0xffff);
	pass(27 * MS);
	outb(0x61, 0);
	pass(100 * MS);
	ok(!speaker_out(), "PIT: a low gate stops channel 2");
	outb(0x61, 3);
	pass(27 * MS);
	ok(!speaker_out() && (inb(0x61) & 3) == 3, "PIT: a high one lets it go on");
	pass(MS);
	ok(speaker_out(), "PIT: to its end");

	program(0, 0x34, 20000);
	pass(1000);
	outb(0x43, 0xc2);
	ok(inb(0x40) == 0xb4, "PIT: read-back of the status");
	ok(read_count(0) == 20000 - 1, "PIT: and of the count");
	outb(0x43, 0x00);
	pass(1000);
	ok(read_count(0) == 20000 - 1, "PIT: a latched count stands still");
	ok(read_count(0) == 20000 - 2, "PIT: the counter does not");

	mk_pit_get2(&vm, &state);
	ok(state.channels[0].mode == 2 && state.channels[0].count == 20000 &&
	   state.flags == KVM_PIT_FLAGS_SPEAKER_DATA_ON, "PIT: saved");
	memset(&state, 0xff, sizeof(state));
	mk_pit_set2(&vm, &state);
	pass(1000 * MS);
	inb(0x40);
	inb(0x61);
	ok(mk_pit_get2(&vm, &state) == 0 && state.channels[0].count <= 0x10000,
	   "PIT: survives whatever is restored");
	end();
}

void board_tests(void)
{
	pic_tests();
	destination_tests();
	priority_tests();
	lapic_timer_tests();
	x2apic_tests();
	virt_tests();
	ioapic_tests();
	pit_tests();
}
