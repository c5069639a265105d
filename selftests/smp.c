// SPDX-License-Identifier: GPL-2.0
/*
 * Several vCPUs: how they are created and started (INIT, start-up interrupt,
 * KVM_SET_MP_STATE), and that their memory is one.
 *
 * Interrupts between them are in ipi.c.
 */
#include <sched.h>
#include <kselftest_harness.h>
#include "cpus.h"
#include "../uapi/minikvm.h"

#define TRY(fd, request, arg) \
	outcome(ioctl(fd, request, (unsigned long)(arg)))

/* By minikvm's own count; stock KVM has none for this. */
static u64 pause_exits(struct cpu *cpu)
{
	enum { ROOM = 64 };
	struct minikvm_exits *exits = calloc(1, sizeof(*exits) + ROOM * sizeof(exits->exit[0]));
	u64 count = 0;

	exits->nr = ROOM;
	if (!ioctl(cpu->g.vcpu, MINIKVM_GET_EXITS, exits))
		for (u32 i = 0; i < exits->nr; i++)
			if (!strcmp((char *)exits->exit[i].name, "pause"))
				count = exits->exit[i].count;
	free(exits);
	return count;
}

FIXTURE(smp) {
	struct cpus s;
};

FIXTURE_SETUP(smp)
{
	cpus_create(&self->s, 4, WITH_IRQCHIP);
}

FIXTURE_TEARDOWN(smp)
{
	cpus_destroy(&self->s);
}

static volatile u32 arrived;
static volatile u64 counter;

static u32 guest_counts(u64 me)
{
	__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
	wait_until(arrived == 4);
	for (u32 i = 0; i < 10000; i++)
		__atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
	return 100 + me;
}

TEST_F(smp, all_run_at_once)
{
	struct cpus *s = &self->s;

	cpus_prepare(s, guest_counts);
	cpus_start(s);
	for (u32 i = 0; i < 4; i++)
		EXPECT_EQ(cpu_join(&s->cpu[i]), 100 + i);
	EXPECT_EQ(*guest_var(&s->cpu[0].g, counter), 40000);
}

TEST_F(smp, initial_states)
{
	struct cpus *s = &self->s;

	EXPECT_EQ(cpu_mp_state(&s->cpu[0]), KVM_MP_STATE_RUNNABLE);
	for (u32 i = 1; i < 4; i++)
		EXPECT_EQ(cpu_mp_state(&s->cpu[i]), KVM_MP_STATE_UNINITIALIZED);
}

TEST_F(smp, states_of_userspace)
{
	struct cpu *cpu = &self->s.cpu[1];
	struct kvm_mp_state bad = { .mp_state = 1000 };
	static const u32 kept[] = {
		KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_HALTED,
		KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_RUNNABLE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		cpu_set_mp_state(cpu, kept[i]);
		EXPECT_EQ(cpu_mp_state(cpu), kept[i]);
	}
	EXPECT_EQ(TRY(cpu->g.vcpu, KVM_SET_MP_STATE, &bad), -EINVAL);
	/* Its start-up interrupt is taken as soon as somebody looks. */
	cpu_set_mp_state(cpu, KVM_MP_STATE_SIPI_RECEIVED);
	EXPECT_EQ(cpu_mp_state(cpu), KVM_MP_STATE_RUNNABLE);
}

/* Real mode code at a page below 1 MiB: counts, and stops. */
#define TRAMPOLINE	0x30000ul
#define TRAMPOLINE_DATA	0x31000ul

GUEST_ASM(trampoline, 16,
	  "mov %cs, %ax\n mov %ax, %ds\n"
	  "lock incl 0x1000\n"
	  "xor %ebx, %ebx\n mov %cr0, %eax\n mov %eax, 0x1004\n"
	  "1: cli\n hlt\n jmp 1b");

static volatile u32 apic_mode_x2;

static void send(u32 icr, u32 dest)
{
	if (apic_mode_x2)
		x2apic_ipi(icr, dest);
	else
		xapic_ipi(icr, dest);
}

static u32 guest_starts_others(u64 me)
{
	volatile u32 *started = (u32 *)TRAMPOLINE_DATA;

	if (apic_mode_x2)
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	/* A start-up interrupt without INIT is nothing to one that never had any. */
	send(ICR_SIPI | TRAMPOLINE >> 12, 3);
	for (u32 cpu = 1; cpu <= 2; cpu++) {
		send(ICR_INIT | ICR_ASSERT, cpu);
		send(ICR_INIT | ICR_LEVEL, cpu);	/* de-assert */
		send(ICR_SIPI | TRAMPOLINE >> 12, cpu);
		send(ICR_SIPI | TRAMPOLINE >> 12, cpu);
		wait_until(*started == cpu);
	}
	/* Once more: one that was halted starts afresh. */
	send(ICR_INIT | ICR_ASSERT, 1);
	send(ICR_SIPI | TRAMPOLINE >> 12, 1);
	wait_until(*started == 3);
	return *started;
}

/* The counting comes first, and the HLT when the host lets the vCPU run on. */
static void run_until_halted(struct cpu *cpu)
{
	for (int i = 0; i < 100 && cpu_mp_state(cpu) != KVM_MP_STATE_HALTED; i++) {
		cpu_start(cpu);
		usleep(10000);
		cpu_stop(cpu);
	}
}

static void start_others(struct __test_metadata *_metadata, struct cpus *s)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	cpus_prepare(s, guest_starts_others);
	guest_copy(&s->cpu[0].g, TRAMPOLINE, trampoline, trampoline_end - trampoline);
	for (u32 i = 1; i < 4; i++)
		cpu_set_mp_state(&s->cpu[i], KVM_MP_STATE_UNINITIALIZED);
	cpus_start(s);
	EXPECT_EQ(cpu_join(&s->cpu[0]), 3);
	for (u32 i = 1; i < 4; i++)
		cpu_stop(&s->cpu[i]);
	for (u32 i = 1; i < 3; i++) {
		run_until_halted(&s->cpu[i]);
		EXPECT_EQ(cpu_mp_state(&s->cpu[i]), KVM_MP_STATE_HALTED);
		must(s->cpu[i].g.vcpu, KVM_GET_SREGS, &sregs);
		must(s->cpu[i].g.vcpu, KVM_GET_REGS, &regs);
		EXPECT_EQ(sregs.cs.selector, TRAMPOLINE >> 4);
		EXPECT_EQ(sregs.cs.base, TRAMPOLINE);
		EXPECT_EQ(sregs.cr0 & ~(CR0_CD | CR0_NW), CR0_ET);
		EXPECT_EQ(sregs.cr4, 0);
		EXPECT_EQ(sregs.efer, 0);
		EXPECT_EQ(regs.rip, trampoline_end - trampoline - 2);
		EXPECT_EQ(regs.rflags & 0x202, 2);
	}
	EXPECT_EQ(cpu_mp_state(&s->cpu[3]), KVM_MP_STATE_UNINITIALIZED);
}

TEST_F(smp, init_and_startup)
{
	start_others(_metadata, &self->s);
}

TEST_F(smp, init_and_startup_x2apic)
{
	apic_mode_x2 = 1;	/* copied with the program */
	start_others(_metadata, &self->s);
	apic_mode_x2 = 0;
}

/* INIT to the boot processor: it begins at the reset vector. */
static u32 guest_inits_itself(u64 me)
{
	xapic_ipi(ICR_INIT | ICR_ASSERT, 0);
	wait_until(false);
	return 0;
}

TEST_F(smp, init_of_the_boot_processor)
{
	struct guest *g = &self->s.cpu[0].g;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	u8 *rom = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static const u8 code[] = { 0xe6, 0x80, 0xf4 };	/* out %al, $0x80; hlt */

	ASSERT_NE(rom, MAP_FAILED);
	memcpy(rom + 0xfff0, code, sizeof(code));
	ASSERT_EQ(guest_slot(g, 1, 0xffff0000, rom, 0x10000, 0), 0);
	guest_call(g, guest_inits_itself, 0);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_EQ(g->run->io.port, 0x80);
	EXPECT_EQ(cpu_mp_state(&self->s.cpu[0]), KVM_MP_STATE_RUNNABLE);
	must(g->vcpu, KVM_GET_SREGS, &sregs);
	must(g->vcpu, KVM_GET_REGS, &regs);
	EXPECT_EQ(sregs.cs.base, 0xffff0000);
	EXPECT_EQ(sregs.cs.selector, 0xf000);
	EXPECT_EQ(regs.rip >> 4, 0xfff);
	EXPECT_EQ(sregs.cr0 & CR0_PG, 0);
	munmap(rom, 0x10000);
}

/* KVM_RUN on one that waits to be started. */

static u32 guest_inits_one(u64 me)
{
	xapic_ipi(ICR_INIT | ICR_ASSERT, 1);
	return 0;
}

static void *run_boot_cpu(void *arg)
{
	struct cpu *cpu = arg;

	urgent_pause();
	guest_finish(&cpu->g);
	return NULL;
}

TEST_F(smp, run_before_init)
{
	struct cpus *s = &self->s;
	struct cpu *ap = &s->cpu[1];
	pthread_t thread;

	cpus_prepare(s, guest_inits_one);
	cpu_set_mp_state(ap, KVM_MP_STATE_UNINITIALIZED);
	ap->g.run->immediate_exit = 1;
	EXPECT_EQ(TRY(ap->g.vcpu, KVM_RUN, 0), -EINTR);
	ap->g.run->immediate_exit = 0;
	thread = urgent_thread(run_boot_cpu, &s->cpu[0]);
	EXPECT_EQ(TRY(ap->g.vcpu, KVM_RUN, 0), -EAGAIN);
	pthread_join(thread, NULL);
	EXPECT_EQ(cpu_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
	ap->g.run->immediate_exit = 1;
	EXPECT_EQ(TRY(ap->g.vcpu, KVM_RUN, 0), -EINTR);
}

/*
 * Memory that changes under running vCPUs.  Each counts in a word of its own;
 * the host sees both pages of the file that may stand behind it.
 */
#define SHARED_GPA	0x10000000ul

static volatile u32 stop_touching;

static u32 guest_touches(u64 me)
{
	volatile u64 *word = (u64 *)(SHARED_GPA + 64 * me);

	for (u32 i = 0; !stop_touching; i++) {
		++*word;
		if (i % 256 == 0)
			outb(PORT_YIELD, 0);
	}
	return 0;
}

static bool is_mmio(struct cpu *cpu)
{
	sched_yield();
	return cpu->g.run->exit_reason == KVM_EXIT_MMIO;
}

static void counts_of(const volatile u64 *page, u64 counts[4])
{
	for (int i = 0; i < 4; i++)
		counts[i] = page[8 * i];
}

static bool all_moved(const volatile u64 *page, const u64 since[4])
{
	for (int i = 0; i < 4; i++)
		if (page[8 * i] == since[i])
			return false;
	return true;
}

static void wait_for_all(const volatile u64 *page)
{
	u64 since[4];

	counts_of(page, since);
	for (int turn = 0; !all_moved(page, since); turn++) {
		if (turn == 100000)
			die("a vCPU does not write where it should");
		sched_yield();
	}
}

static bool none_moved(const volatile u64 *page, const u64 since[4])
{
	for (int i = 0; i < 4; i++)
		if (page[8 * i] != since[i])
			return false;
	return true;
}

TEST_F(smp, no_stale_memory)
{
	struct guest *g = &self->s.cpu[0].g;
	int file = memfd_create("page", 0);
	u64 since[2][4];
	u8 *both, *hva;

	ASSERT_EQ(ftruncate(file, 2 * PAGE), 0);
	both = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	hva = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(both, MAP_FAILED);
	ASSERT_NE(hva, MAP_FAILED);
	ASSERT_EQ(guest_slot(g, 1, SHARED_GPA, hva, PAGE, 0), 0);
	self->s.on_exit = is_mmio;
	cpus_prepare(&self->s, guest_touches);
	cpus_start(&self->s);
	wait_for_all((u64 *)both);

	/* Another page behind the address: nobody writes to the old one any more. */
	for (int round = 1; round <= 20; round++) {
		volatile u64 *new = (u64 *)(both + PAGE * (round & 1));
		volatile u64 *old = (u64 *)(both + PAGE * (~round & 1));

		ASSERT_EQ(mmap(hva, PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, file, PAGE * (round & 1)), hva);
		counts_of(old, since[0]);
		wait_for_all(new);
		EXPECT_TRUE(none_moved(old, since[0]));
	}
	/* No slot: nobody writes at all. */
	for (int round = 0; round < 10; round++) {
		ASSERT_EQ(guest_slot(g, 1, SHARED_GPA, hva, 0, 0), 0);
		for (int page = 0; page < 2; page++)
			counts_of((u64 *)(both + PAGE * page), since[page]);
		for (int turn = 0; turn < 20; turn++)
			sched_yield();
		for (int page = 0; page < 2; page++)
			EXPECT_TRUE(none_moved((u64 *)(both + PAGE * page), since[page]));
		ASSERT_EQ(guest_slot(g, 1, SHARED_GPA, hva, PAGE, 0), 0);
		wait_for_all((u64 *)both);
	}
	/* Unmapped, and mapped again by who comes first. */
	for (int round = 0; round < 10; round++) {
		ASSERT_EQ(madvise(hva, PAGE, MADV_DONTNEED), 0);
		wait_for_all((u64 *)both);
	}
	*guest_var(g, stop_touching) = 1;
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(cpu_join(&self->s.cpu[i]), 0);
	munmap(hva, PAGE);
	munmap(both, 2 * PAGE);
	close(file);
}

/*
 * Two that wait for each other in loops of PAUSE, and nobody tells the host. A
 * CPU that notices such loops makes this faster; it ends on all.
 */
#define TURNS	20u

static volatile u32 turn;

static u32 guest_takes_turns(u64 me)
{
	if (me > 1)
		return 0;
	for (u32 i = me; i < TURNS; i += 2) {
		while (turn != i)
			asm volatile("pause" : : : "memory");
		turn = i + 1;
	}
	return 0;
}

TEST_F(smp, pause_loops)
{
	cpus_prepare(&self->s, guest_takes_turns);
	cpus_start(&self->s);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(cpu_join(&self->s.cpu[i]), 0);
	EXPECT_EQ(*guest_var(&self->s.cpu[0].g, turn), TURNS);
	for (int i = 0; i < 2; i++)
		TH_LOG("vCPU %d: %llu exits at PAUSE", i, pause_exits(&self->s.cpu[i]));
}

/* Which one boots is userspace's choice, until there is a vCPU. */
TEST(boot_cpu_id)
{
	int kvm = device_open(), vm, first, second;
	struct kvm_mp_state state;
	struct kvm_sregs sregs;

	if (!device_has(KVM_CAP_SET_BOOT_CPU_ID))
		SKIP(return, "no KVM_CAP_SET_BOOT_CPU_ID");
	vm = must(kvm, KVM_CREATE_VM, 0);
	must(vm, KVM_CREATE_IRQCHIP, 0);
	EXPECT_EQ(TRY(vm, KVM_SET_BOOT_CPU_ID, 7), 0);
	first = must(vm, KVM_CREATE_VCPU, 0);
	EXPECT_EQ(TRY(vm, KVM_SET_BOOT_CPU_ID, 0), -EBUSY);
	second = must(vm, KVM_CREATE_VCPU, 7);
	must(first, KVM_GET_MP_STATE, &state);
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_UNINITIALIZED);
	must(first, KVM_GET_SREGS, &sregs);
	EXPECT_EQ(sregs.apic_base, 0xfee00800);
	must(second, KVM_GET_MP_STATE, &state);
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_RUNNABLE);
	must(second, KVM_GET_SREGS, &sregs);
	EXPECT_EQ(sregs.apic_base, 0xfee00900);
	close(second);
	close(first);
	close(vm);
	close(kvm);
}

TEST(as_many_as_promised)
{
	int kvm = device_open(), vm = must(kvm, KVM_CREATE_VM, 0);
	int max = must(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	int ids = must(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
	int fds[255];

	EXPECT_GE(max, 255);
	EXPECT_GE(ids, 1024);
	EXPECT_GE(must(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS), 1);
	must(vm, KVM_CREATE_IRQCHIP, 0);
	for (int i = 0; i < 255; i++)
		fds[i] = must(vm, KVM_CREATE_VCPU, i < 200 ? i : 1023 - 254 + i);
	EXPECT_EQ(TRY(vm, KVM_CREATE_VCPU, 1023), -EEXIST);
	EXPECT_EQ(TRY(vm, KVM_CREATE_VCPU, ids), -EINVAL);
	for (int i = 0; i < 255; i++)
		close(fds[i]);
	close(vm);
	close(kvm);
}

SELFTEST_MAIN
