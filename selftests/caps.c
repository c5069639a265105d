// SPDX-License-Identifier: GPL-2.0
/*
 * What userspace switches on or off with KVM_ENABLE_CAP, and small ioctls that
 * have no better place: KVM_TRANSLATE, KVM_SET_TSC_KHZ, KVM_PRE_FAULT_MEMORY,
 * KVM_SET_USER_MEMORY_REGION2.
 *
 * Source: KVM's API document. Read next: state.c.
 */
#include <signal.h>
#include <sys/time.h>
#include "kselftest_harness.h"

#include "guest.h"

#define UD		6
#define PF		14
#define SLOT		7
#define LVT_LINT0	0x350
#define MSR_APIC_BASE	0x1b
#define MSR_MISC_ENABLE	0x1a0
#define MISC_MWAIT	BIT(18)
#define CPUID1_MONITOR	BIT(3)

GUEST_FIXTURE(caps, WITH_IRQCHIP)

static int enable(int vm, u32 cap, u64 arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	return outcome(ioctl(vm, KVM_ENABLE_CAP, &enable));
}

TEST_F(caps, bad_input)
{
	struct guest *g = &self->g;
	int quirks = must(g->vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, BIT(31)), -EINVAL);
	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, BIT(32)), -EINVAL);
	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, quirks), 0);
	EXPECT_EQ(enable(g->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 2), -EINVAL);
}

/* --- Quirks --- */

GUEST_ASM(out_7e, 64, "out %al, $0x7e\n 1: hlt\n jmp 1b");

TEST_F(caps, port_0x7e)
{
	struct guest *g = &self->g;

	guest_load(g, out_7e);
	for (int quirk = 1; quirk >= 0; quirk--) {
		if (!quirk)
			EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_OUT_7E_INC_RIP), 0);
		guest_mode(g, MODE_LONG, GUEST_CODE);
		guest_run_to(g, KVM_EXIT_IO);
		EXPECT_EQ(g->run->io.port, 0x7e);
		EXPECT_EQ(guest_rip(g), GUEST_CODE + (quirk ? 2 : 0));
		/* Either way it is over when userspace has seen it. */
		g->run->immediate_exit = 1;
		EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_RUN, 0)), -EINTR);
		g->run->immediate_exit = 0;
		EXPECT_EQ(guest_rip(g), GUEST_CODE + 2);
	}
}

/* The hypercall of the other vendor: nr 0x1000 is none that KVM knows. */
static volatile u64 call_result;
extern u8 call_site[];

static u32 __attribute__((noinline)) guest_calls(u64 amd)
{
	u64 ret = 0x1000;
	u32 vector;

	/* Written first, so that the same code serves both vendors. */
	call_site[2] = amd ? 0xc1 : 0xd9;
	vector = guest_try("call_site: vmcall", : "+a"(ret) : : "memory");
	call_result = ret;
	return vector << 8 | call_site[2];
}

TEST_F(caps, hypercall_of_the_other_vendor)
{
	struct guest *g = &self->g;
	u32 regs[4];
	bool amd;

	device_cpuid(0, regs);
	amd = regs[1] == 0x68747541;
	guest_call(g, guest_calls, amd);
	EXPECT_EQ(guest_finish(g), NO_FAULT << 8 | (amd ? 0xd9 : 0xc1));
	EXPECT_EQ(*guest_var(g, call_result), (u64)-1000);

	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_FIX_HYPERCALL_INSN), 0);
	guest_call(g, guest_calls, amd);
	EXPECT_EQ(guest_finish(g), UD << 8 | (amd ? 0xc1 : 0xd9));
}

static u32 guest_waits(u64 toggle)
{
	static u64 line;
	u32 regs[4], vectors;

	if (toggle)
		wrmsr(MSR_MISC_ENABLE, rdmsr(MSR_MISC_ENABLE) ^ MISC_MWAIT);
	guest_cpuid(1, 0, regs);
	vectors = guest_try("monitor", : : "a"(&line), "c"(0), "d"(0) : "memory");
	vectors |= guest_try("mwait", : : "a"(0), "c"(0) : "memory") << 12;
	return vectors | (regs[2] & CPUID1_MONITOR) << 28;
}

static u32 both(u32 vector, bool listed)
{
	return vector | vector << 12 | (u32)listed << 31;
}

TEST_F(caps, monitor_and_mwait)
{
	struct guest *g = &self->g;

	guest_change_cpuid(g, 1, ECX, CPUID1_MONITOR, 0);
	guest_call(g, guest_waits, false);
	EXPECT_EQ(guest_finish(g), both(NO_FAULT, false));
	/* MISC_ENABLE is a word like any other. */
	guest_call(g, guest_waits, true);
	EXPECT_EQ(guest_finish(g), both(NO_FAULT, false));

	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS), 0);
	guest_call(g, guest_waits, false);
	EXPECT_EQ(guest_finish(g), both(UD, false));

	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS |
			 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT), 0);
	guest_call(g, guest_waits, true);	/* off again, as the guest has set it above */
	EXPECT_EQ(guest_finish(g), both(UD, false));
	guest_call(g, guest_waits, true);
	EXPECT_EQ(guest_finish(g), both(NO_FAULT, true));
}

/* --- Exits that userspace can do without --- */

static volatile u32 interrupts;

static void on_interrupt(struct guest_frame *frame)
{
	interrupts++;
}

static u32 guest_halts(u64 unused)
{
	guest_handlers[0x40] = on_interrupt;
	sti();
	while (!interrupts)
		asm volatile("hlt" : : : "memory");
	return interrupts;
}

static void on_alarm(int signal)
{
}

/* Nobody hears of HLT then; the next interrupt is what ends it. */
TEST_F(caps, halted_without_an_exit)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_DISABLE_EXITS,
				      .args = { KVM_X86_DISABLE_EXITS_HLT } };
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval soon = { .it_value.tv_usec = 20000 };
	struct kvm_interrupt interrupt = { .irq = 0x40 };
	struct guest g;

	if (!(must(self->g.kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS) &
	      KVM_X86_DISABLE_EXITS_HLT))
		SKIP(return, "HLT always exits here");
	EXPECT_EQ(enable(self->g.vm, KVM_CAP_X86_DISABLE_EXITS, BIT(20)), -EINVAL);
	guest_create_cap(&g, 0, &cap);
	sigaction(SIGALRM, &action, NULL);
	guest_call(&g, guest_halts, 0);
	for (int i = 0; i < 3; i++) {
		setitimer(ITIMER_REAL, &soon, NULL);
		ASSERT_EQ(outcome(ioctl(g.vcpu, KVM_RUN, 0)), -EINTR);
	}
	must(g.vcpu, KVM_INTERRUPT, &interrupt);
	EXPECT_EQ(guest_finish(&g), 1);
	/* With exits it is userspace's to wait. */
	guest_destroy(&g);
	guest_create(&g, 0);
	guest_call(&g, guest_halts, 0);
	guest_run_to(&g, KVM_EXIT_HLT);
	guest_destroy(&g);
}

/* --- The local APIC's clock --- */

#define LAPIC(reg)	(0xfee00000ul + (reg))

/* Counts of the timer while the TSC counts @ticks, or somewhat longer. */
static u32 guest_counts(u64 ticks)
{
	u64 start;

	mmio_write(LAPIC(0xf0), 0x1ff);
	mmio_write(LAPIC(0x320), 0x10000);
	mmio_write(LAPIC(0x3e0), 0xb);
	mmio_write(LAPIC(0x380), ~0u);
	start = __builtin_ia32_rdtsc();
	while (__builtin_ia32_rdtsc() - start < ticks)
		;
	return ~0u - mmio_read(LAPIC(0x390));
}

TEST_F(caps, apic_bus_cycle)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_APIC_BUS_CYCLES_NS, .args = { 40 } };
	u64 khz = must(self->g.vcpu, KVM_GET_TSC_KHZ, 0), count;
	struct guest g;
	int vm;

	if (!device_has(KVM_CAP_X86_APIC_BUS_CYCLES_NS))
		SKIP(return, "no KVM_CAP_X86_APIC_BUS_CYCLES_NS");
	EXPECT_EQ(enable(self->g.vm, cap.cap, 40), -EINVAL);
	vm = must(self->g.kvm, KVM_CREATE_VM, 0);
	EXPECT_EQ(enable(vm, cap.cap, 40), -ENXIO);
	EXPECT_EQ(enable(vm, cap.cap, 0), -EINVAL);
	EXPECT_EQ(enable(vm, cap.cap, ~0ull), -EINVAL);
	close(vm);

	/* 20 ms; what the two clocks differ by is little. */
	guest_create_cap(&g, WITH_IRQCHIP, &cap);
	guest_call(&g, guest_counts, khz * 20);
	count = guest_finish(&g);
	EXPECT_GT(count, 20000000 / 40 * 9 / 10);
	EXPECT_LT(count, 20000000 / 40 * 2);
	guest_destroy(&g);
}

/* --- Resets --- */

TEST_F(caps, lint0_after_reset)
{
	struct guest *g = &self->g;
	struct kvm_lapic_state lapic;
	int vm, vcpu;

	must(g->vcpu, KVM_GET_LAPIC, &lapic);
	EXPECT_EQ(*(u32 *)(lapic.regs + LVT_LINT0), 0x700);

	vm = must(g->kvm, KVM_CREATE_VM, 0);
	EXPECT_EQ(enable(vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_LINT0_REENABLED), 0);
	must(vm, KVM_CREATE_IRQCHIP, 0);
	vcpu = must(vm, KVM_CREATE_VCPU, 0);
	must(vcpu, KVM_GET_LAPIC, &lapic);
	EXPECT_EQ(*(u32 *)(lapic.regs + LVT_LINT0), 0x10000);
	close(vcpu);
	close(vm);
}

static u32 guest_reads_apic_page(u64 unused)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	return mmio_read(0xfee00030);
}

TEST_F(caps, apic_page_of_an_x2apic)
{
	struct guest *g = &self->g;

	guest_change_cpuid(g, 1, ECX, 0, BIT(21));
	guest_call(g, guest_reads_apic_page, 0);
	EXPECT_EQ(guest_finish(g), ~0u);
	EXPECT_EQ(enable(g->vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_LAPIC_MMIO_HOLE), 0);
	guest_call(g, guest_reads_apic_page, 0);
	guest_run_to(g, KVM_EXIT_MMIO);
	EXPECT_EQ(g->run->mmio.phys_addr, 0xfee00030);
	*(u32 *)g->run->mmio.data = 0x1234;
	EXPECT_EQ(guest_finish(g), 0x1234);
}

/* --- Events --- */

static volatile u64 seen_cr2;

static void note_page_fault(struct guest_frame *frame)
{
	asm volatile("mov %%cr2, %0" : "=r"(seen_cr2));
	frame->rip = guest_fixup;
}

static u32 guest_takes_page_fault(u64 unused)
{
	guest_handlers[PF] = note_page_fault;
	return guest_try("mov %%rsp, %%rbp; outl %%eax, $0x80", : : : "rbp", "memory");
}

TEST_F(caps, exception_payload)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events, got;
	struct kvm_sregs sregs;

	guest_call(g, guest_takes_page_fault, 0);
	guest_run_to(g, KVM_EXIT_IO);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(events.flags & KVM_VCPUEVENT_VALID_PAYLOAD, 0);
	events.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	events.exception.pending = 1;
	events.exception.nr = PF;
	events.exception.has_error_code = 1;
	events.exception.error_code = 2;
	events.exception_has_payload = 1;
	events.exception_payload = 0xdeadbeef000;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_VCPU_EVENTS, &events)), -EINVAL);

	EXPECT_EQ(enable(g->vm, KVM_CAP_EXCEPTION_PAYLOAD, 1), 0);
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &got);
	EXPECT_EQ(got.flags & KVM_VCPUEVENT_VALID_PAYLOAD, KVM_VCPUEVENT_VALID_PAYLOAD);
	EXPECT_EQ(got.exception.injected, 0);
	EXPECT_EQ(got.exception.pending, 1);
	EXPECT_EQ(got.exception.nr, PF);
	EXPECT_EQ(got.exception.has_error_code, 1);
	EXPECT_EQ(got.exception.error_code, 2);
	EXPECT_EQ(got.exception_has_payload, 1);
	EXPECT_EQ(got.exception_payload, 0xdeadbeef000);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	EXPECT_NE(sregs.cr2, 0xdeadbeef000);

	EXPECT_EQ(guest_finish(g), NO_FAULT);
	EXPECT_EQ(*guest_var(g, seen_cr2), 0xdeadbeef000);
}

TEST_F(caps, triple_fault_event)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events events;

	guest_call(g, guest_reads_apic_page, 0);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	events.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events.triple_fault.pending = 1;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_VCPU_EVENTS, &events)), -EINVAL);

	EXPECT_EQ(enable(g->vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1), 0);
	must(g->vcpu, KVM_SET_VCPU_EVENTS, &events);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_TRUE(events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	EXPECT_EQ(events.triple_fault.pending, 1);
	guest_run_to(g, KVM_EXIT_SHUTDOWN);
	must(g->vcpu, KVM_GET_VCPU_EVENTS, &events);
	EXPECT_EQ(events.triple_fault.pending, 0);
}

/* A program of the guest loads a float from a device: an instruction that KVM leaves alone. */
GUEST_ASM(loads_float, 64, "flds (%rax)\n 1: out %al, $0x80\n jmp 1b");

TEST_F(caps, emulation_failure_in_user_mode)
{
	struct guest *g = &self->g;
	const struct kvm_segment data = {
		.limit = ~0u, .selector = SEL_DATA(3), .type = 3, .present = 1, .dpl = 3,
		.db = 1, .s = 1, .g = 1 };
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	guest_load(g, loads_float);
	guest_mode(g, MODE_LONG, GUEST_CODE);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.selector = SEL_CODE(3);
	sregs.cs.dpl = 3;
	sregs.ss = data;
	must(g->vcpu, KVM_SET_SREGS, &sregs);
	must(g->vcpu, KVM_GET_REGS, &regs);
	regs.rax = GUEST_MMIO;
	regs.rflags |= 3 << 12;		/* may do port I/O */
	must(g->vcpu, KVM_SET_REGS, &regs);

	EXPECT_EQ(enable(g->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1), 0);
	guest_run_to(g, KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(g->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	EXPECT_GE(g->run->internal.ndata, 3);
	EXPECT_TRUE(g->run->emulation_failure.flags &
		    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	EXPECT_GE(g->run->emulation_failure.insn_size, 2);
	EXPECT_EQ(memcmp(g->run->emulation_failure.insn_bytes, loads_float, 2), 0);

	/* Userspace executes it in its own way, and the guest goes on. */
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(regs.rip, GUEST_CODE);
	regs.rip += 2;
	must(g->vcpu, KVM_SET_REGS, &regs);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, 0x80);
}

/* --- Small ioctls --- */

TEST_F(caps, translate)
{
	struct guest *g = &self->g;
	struct kvm_translation tr = { .linear_address = GUEST_PROGRAM + 0x123 };

	guest_mode(g, MODE_LONG, GUEST_CODE);
	must(g->vcpu, KVM_TRANSLATE, &tr);
	EXPECT_EQ(tr.valid, 1);
	EXPECT_EQ(tr.physical_address, GUEST_PROGRAM + 0x123);
	EXPECT_EQ(tr.writeable, 1);
	tr.linear_address = 8ul << 30;
	must(g->vcpu, KVM_TRANSLATE, &tr);
	EXPECT_EQ(tr.valid, 0);

	guest_mode(g, MODE_PROTECTED, GUEST_CODE);
	tr.linear_address = 0xcafe0123;
	must(g->vcpu, KVM_TRANSLATE, &tr);
	EXPECT_EQ(tr.valid, 1);
	EXPECT_EQ(tr.physical_address, 0xcafe0123);
	tr.linear_address = ~0ull;
	must(g->vcpu, KVM_TRANSLATE, &tr);
	EXPECT_EQ(tr.valid, 0);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_TRANSLATE, NULL)), -EFAULT);
}

static volatile u64 tsc_seen;

TEST_F(caps, tsc_frequency)
{
	struct guest *g = &self->g;
	int khz = must(g->vcpu, KVM_GET_TSC_KHZ, 0);

	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_TSC_KHZ, (long)khz)), 0);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_TSC_KHZ, 0l)), 0);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_TSC_KHZ, (long)khz + khz / 5000)), 0);
	if (!device_has(KVM_CAP_TSC_CONTROL))
		EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_TSC_KHZ, (long)khz / 2)), -EINVAL);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_GET_TSC_KHZ, 0)), khz);
}

/* Tells its time again and again; what passes in between the host takes by its own counter. */
static u32 guest_tells_tsc(u64 unused)
{
	for (;;) {
		tsc_seen = __builtin_ia32_rdtsc();
		guest_sync(0);
	}
	return 0;
}

static u64 guest_tsc(struct guest *g, u64 *host)
{
	guest_until_sync(g);
	*host = __builtin_ia32_rdtsc();
	return *guest_var(g, tsc_seen);
}

TEST_F(caps, scaled_tsc)
{
	struct guest *g = &self->g;
	u64 own = must(g->vcpu, KVM_GET_TSC_KHZ, 0), khz = own * 3 / 2;
	u64 start, end, first, last, ticks, expected;
	struct guest other;

	if (!device_has(KVM_CAP_TSC_CONTROL))
		SKIP(return, "this CPU does not scale");
	guest_call(g, guest_tells_tsc, 0);
	first = guest_tsc(g, &start);
	must(g->vcpu, KVM_SET_TSC_KHZ, khz);
	EXPECT_EQ(must(g->vcpu, KVM_GET_TSC_KHZ, 0), (int)khz);
	/* It goes on from where it was, if userspace lets it, and faster. */
	if (device_is_minikvm())
		EXPECT_GT(guest_tsc(g, &end), first);
	first = guest_tsc(g, &start);
	usleep(100000);
	last = guest_tsc(g, &end);
	ticks = last - first;
	expected = (end - start) * 3 / 2;
	EXPECT_GT(ticks, expected - expected / 20);
	EXPECT_LT(ticks, expected + expected / 20);

	/* New vCPUs of a VM have its rate. */
	must(g->vm, KVM_SET_TSC_KHZ, khz);
	other = *g;
	other.vcpu = guest_add_vcpu(g, 1);
	EXPECT_EQ(must(other.vcpu, KVM_GET_TSC_KHZ, 0), (int)khz);
	close(other.vcpu);
	/* And back. */
	must(g->vcpu, KVM_SET_TSC_KHZ, own);
	first = guest_tsc(g, &start);
	usleep(50000);
	last = guest_tsc(g, &end);
	ticks = last - first;
	expected = end - start;
	EXPECT_GT(ticks, expected - expected / 20);
	EXPECT_LT(ticks, expected + expected / 20);
}

TEST_F(caps, cpuid_without_room)
{
	struct guest *g = &self->g;
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } list;

	list.head.nent = 1;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_GET_CPUID2, &list)), -E2BIG);
	EXPECT_EQ(list.head.nent, 1);
	list.head.nent = 256;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_GET_CPUID2, &list)), 0);
	EXPECT_GT(list.head.nent, 1);
}

/* What a VMM fills in about topology and caches has to be there to be filled in. */
TEST_F(caps, cpuid_of_amd)
{
	u32 vendor[4], last[4], topology[4];

	device_cpuid(0, vendor);
	if (vendor[1] != 0x68747541)	/* "Auth" */
		SKIP(return, "not an AMD CPU");
	device_cpuid(0x80000000, last);
	EXPECT_GE(last[0], 0x8000001e);
	EXPECT_TRUE(device_cpuid(0x8000001e, topology));
	EXPECT_EQ(topology[0] | topology[1], 0);
}

TEST_F(caps, emulated_cpuid)
{
	struct guest *g = &self->g;
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } list = {};

	EXPECT_EQ(device_has(KVM_CAP_EXT_EMUL_CPUID), true);
	list.head.nent = 1;
	EXPECT_EQ(outcome(ioctl(g->kvm, KVM_GET_EMULATED_CPUID, &list)), -E2BIG);
	list.head.nent = 256;
	EXPECT_EQ(outcome(ioctl(g->kvm, KVM_GET_EMULATED_CPUID, &list)), 0);
	ASSERT_GT(list.head.nent, 0);
	EXPECT_EQ(list.entry[0].function, 0);
	EXPECT_EQ(list.entry[0].eax, 7);
	EXPECT_EQ(outcome(ioctl(g->kvm, KVM_GET_EMULATED_CPUID, NULL)), -EFAULT);
}

TEST_F(caps, boot_cpu_id_and_limit)
{
	struct guest *g = &self->g;
	int vm;

	if (!device_has(KVM_CAP_USER_MEMORY2))
		SKIP(return, "stock KVM of that age does not look");
	vm = must(g->kvm, KVM_CREATE_VM, 0);
	must(vm, KVM_SET_BOOT_CPU_ID, 2);
	EXPECT_EQ(enable(vm, KVM_CAP_MAX_VCPU_ID, 1), -EINVAL);
	EXPECT_EQ(enable(vm, KVM_CAP_MAX_VCPU_ID, 2), 0);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_BOOT_CPU_ID, 1)), -EBUSY);
	close(vm);
}

#define MSR_HWCR	0xc0010015
#define HWCR_STATUS_WR	BIT(18)
#define MSR_MC0_STATUS	0x401

static u32 guest_plants_machine_check(u64 unused)
{
	guest_equal(wrmsr_safe(MSR_MC0_STATUS, 1), 13);
	wrmsr(MSR_HWCR, rdmsr(MSR_HWCR) | HWCR_STATUS_WR);
	guest_equal(wrmsr_safe(MSR_MC0_STATUS, 1), guest_is_amd() ? NO_FAULT : 13);
	return 0;
}

TEST_F(caps, hwcr)
{
	struct guest *g = &self->g;
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } msrs = {
		.head.nmsrs = 1, .entry = { .index = MSR_HWCR, .data = BIT(3) | BIT(6) | BIT(8) } };
	u64 mcg_cap = 1;

	EXPECT_EQ(must(g->vcpu, KVM_SET_MSRS, &msrs), 1);
	EXPECT_EQ(must(g->vcpu, KVM_GET_MSRS, &msrs), 1);
	EXPECT_EQ(msrs.entry.data, 0);
	msrs.entry.data = BIT(0);
	EXPECT_EQ(must(g->vcpu, KVM_SET_MSRS, &msrs), 0);
	must(g->vcpu, KVM_X86_SETUP_MCE, &mcg_cap);
	guest_call(g, guest_plants_machine_check, 0);
	EXPECT_EQ(guest_finish(g), 0);
	EXPECT_EQ(must(g->vcpu, KVM_GET_MSRS, &msrs), 1);
	EXPECT_EQ(msrs.entry.data, HWCR_STATUS_WR);
}

/* KVM_HC_SCHED_YIELD to a vCPU that is there, and to none. */
static u32 guest_yields(u64 id)
{
	u32 nr = 11, vector;
	u64 ret = nr;

	vector = guest_is_amd() ? guest_try("vmmcall", : "+a"(ret) : "b"(id) : "memory") :
				  guest_try("vmcall", : "+a"(ret) : "b"(id) : "memory");
	return vector == NO_FAULT ? ret : 0xbad;
}

TEST_F(caps, directed_yield)
{
	struct guest *g = &self->g;

	guest_call(g, guest_yields, 0);
	EXPECT_EQ(guest_finish(g), 0);
	guest_call(g, guest_yields, 0x12345);
	EXPECT_EQ(guest_finish(g), 0);
}

TEST_F(caps, memory_region2)
{
	struct guest *g = &self->g;
	struct kvm_userspace_memory_region2 region = {
		.slot = SLOT, .guest_phys_addr = 0x40000000, .memory_size = 2 * PAGE,
		/* Means nothing without its flag. */
		.guest_memfd = 77, .guest_memfd_offset = 5,
	};
	u64 *mem, value;

	if (!device_has(KVM_CAP_USER_MEMORY2))
		SKIP(return, "no KVM_CAP_USER_MEMORY2");
	mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(mem, MAP_FAILED);
	region.userspace_addr = (uintptr_t)mem;
	must(g->vm, KVM_SET_USER_MEMORY_REGION2, &region);
	mem[PAGE / 8] = 0x1122334455667788;
	agent_start(g);
	EXPECT_TRUE(agent_read(g, 0x40000000 + PAGE, &value));
	EXPECT_EQ(value, 0x1122334455667788);
	region.memory_size = 0;
	must(g->vm, KVM_SET_USER_MEMORY_REGION2, &region);
	EXPECT_FALSE(agent_read(g, 0x40000000 + PAGE, &value));
	agent_finish(g);

	region.memory_size = PAGE;
	region.flags = KVM_MEM_GUEST_MEMFD;
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION2, &region)), -EINVAL);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION2, NULL)), -EFAULT);
	munmap(mem, 2 * PAGE);
}

TEST_F(caps, pre_fault_memory)
{
	struct guest *g = &self->g;
	struct kvm_pre_fault_memory range = { .gpa = 0, .size = GUEST_MEM };
	unsigned char there[GUEST_MEM / PAGE];
	int missing = 0;

	if (!device_has(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "no KVM_CAP_PRE_FAULT_MEMORY");
	must(g->vcpu, KVM_PRE_FAULT_MEMORY, &range);
	EXPECT_EQ(range.gpa, GUEST_MEM);
	EXPECT_EQ(range.size, 0);
	ASSERT_EQ(mincore(g->mem, GUEST_MEM, there), 0);
	for (u32 i = 0; i < sizeof(there); i++)
		missing += !(there[i] & 1);
	EXPECT_EQ(missing, 0);

	/* It ends where the memory does. */
	range = (struct kvm_pre_fault_memory){ .gpa = GUEST_MEM - PAGE, .size = 3 * PAGE };
	must(g->vcpu, KVM_PRE_FAULT_MEMORY, &range);
	EXPECT_EQ(range.gpa, GUEST_MEM);
	EXPECT_EQ(range.size, 2 * PAGE);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_PRE_FAULT_MEMORY, &range)), -ENOENT);

	range = (struct kvm_pre_fault_memory){ .gpa = 0x800, .size = PAGE };
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_PRE_FAULT_MEMORY, &range)), -EINVAL);
	range = (struct kvm_pre_fault_memory){ .gpa = 0, .size = 0 };
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_PRE_FAULT_MEMORY, &range)), -EINVAL);
	range = (struct kvm_pre_fault_memory){ .gpa = 0, .size = -PAGE, .flags = 1 };
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_PRE_FAULT_MEMORY, &range)), -EINVAL);
}

SELFTEST_MAIN
