// SPDX-License-Identifier: GPL-2.0
/*
 * Each ioctl of the ABI: right use, wrong use, and the errno.  What an ioctl
 * does once it is accepted is for the other tests.
 *
 * Where stock KVM and the API document differ over versions (an unknown ioctl
 * is ENOTTY on one descriptor and EINVAL on another), both are accepted.
 */
#include <signal.h>
#include <sys/wait.h>
#include <kselftest_harness.h>
#include "guest.h"

#define BAD_POINTER	((void *)0xdead000000000ul)
#define UNKNOWN_IOCTL	_IO(KVMIO, 0x9f)
#define FOREIGN_IOCTL	_IO('t', 1)

FIXTURE(api) {
	int kvm;
	int vm;
};

FIXTURE_SETUP(api)
{
	self->kvm = device_open();
	self->vm = must(self->kvm, KVM_CREATE_VM, 0);
}

FIXTURE_TEARDOWN(api)
{
	close(self->vm);
	close(self->kvm);
}

#define TRY(fd, request, arg) \
	outcome(ioctl(fd, request, (unsigned long)(arg)))
#define EXPECT_UNKNOWN(value) do {					\
	int value_ = (value);						\
	EXPECT_TRUE(value_ == -ENOTTY || value_ == -EINVAL)		\
		TH_LOG("%s: %d", #value, value_);			\
} while (0)

TEST_F(api, version)
{
	EXPECT_EQ(TRY(self->kvm, KVM_GET_API_VERSION, 0), 12);
	EXPECT_EQ(TRY(self->kvm, KVM_GET_API_VERSION, 1), -EINVAL);
}

TEST_F(api, unknown_ioctls)
{
	int vcpu = must(self->vm, KVM_CREATE_VCPU, 0);
	int fds[] = { self->kvm, self->vm, vcpu };

	for (int i = 0; i < 3; i++) {
		EXPECT_UNKNOWN(TRY(fds[i], UNKNOWN_IOCTL, 0));
		EXPECT_UNKNOWN(TRY(fds[i], FOREIGN_IOCTL, 0));
	}
	/* Each on a descriptor of another kind. */
	EXPECT_UNKNOWN(TRY(self->kvm, KVM_RUN, 0));
	EXPECT_UNKNOWN(TRY(self->kvm, KVM_CREATE_VCPU, 0));
	EXPECT_UNKNOWN(TRY(self->vm, KVM_RUN, 0));
	EXPECT_UNKNOWN(TRY(self->vm, KVM_CREATE_VM, 0));
	EXPECT_UNKNOWN(TRY(vcpu, KVM_CREATE_VCPU, 0));
	EXPECT_UNKNOWN(TRY(vcpu, KVM_CREATE_VM, 0));
	close(vcpu);
}

TEST_F(api, check_extension)
{
	static const int needed[] = {
		KVM_CAP_USER_MEMORY, KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
		KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, KVM_CAP_SET_TSS_ADDR,
		KVM_CAP_SET_IDENTITY_MAP_ADDR, KVM_CAP_IRQCHIP, KVM_CAP_PIT2,
		KVM_CAP_EXT_CPUID, KVM_CAP_MP_STATE, KVM_CAP_HLT,
		KVM_CAP_NR_VCPUS, KVM_CAP_MAX_VCPUS, KVM_CAP_NR_MEMSLOTS,
		KVM_CAP_READONLY_MEM, KVM_CAP_SYNC_MMU,
		KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_IRQ_INJECT_STATUS,
		KVM_CAP_CHECK_EXTENSION_VM, KVM_CAP_USER_NMI,
		KVM_CAP_PIT_STATE2,
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		EXPECT_GE(TRY(self->kvm, KVM_CHECK_EXTENSION, needed[i]), 1)
			TH_LOG("capability %d on the device", needed[i]);
		EXPECT_GE(TRY(self->vm, KVM_CHECK_EXTENSION, needed[i]), 1)
			TH_LOG("capability %d on the VM", needed[i]);
	}
	EXPECT_GE(TRY(self->kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS), 32);
	EXPECT_EQ(TRY(self->kvm, KVM_CHECK_EXTENSION, 0x7fff), 0);
	EXPECT_EQ(TRY(self->vm, KVM_CHECK_EXTENSION, 0x7fff), 0);
	EXPECT_EQ(TRY(self->kvm, KVM_CHECK_EXTENSION, -1l), 0);
}

TEST_F(api, create_vm)
{
	int vm;

	EXPECT_EQ(TRY(self->kvm, KVM_CREATE_VM, 0x1000), -EINVAL);
	EXPECT_EQ(TRY(self->kvm, KVM_CREATE_VM, -1l), -EINVAL);
	vm = TRY(self->kvm, KVM_CREATE_VM, 0);
	ASSERT_GE(vm, 0);
	EXPECT_NE(fcntl(vm, F_GETFD) & FD_CLOEXEC, 0);
	close(vm);
}

TEST_F(api, vm_outlives_the_device_descriptor)
{
	struct guest g;

	guest_create(&g, 0);
	close(g.kvm);
	EXPECT_GE(TRY(g.vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	/* And the vCPU outlives the VM's. */
	guest_copy(&g, GUEST_CODE, "\xf4", 1);
	guest_mode(&g, MODE_REAL, GUEST_CODE);
	close(g.vm);
	guest_run_to(&g, KVM_EXIT_HLT);
	close(g.vcpu);
	/* And the mapping of kvm_run outlives them all. */
	EXPECT_EQ(g.run->exit_reason, KVM_EXIT_HLT);
	munmap(g.run, g.run_size);
}

TEST_F(api, vcpu_mmap)
{
	int size = TRY(self->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	int vcpu = must(self->vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *run;

	ASSERT_GE(size, (int)PAGE);
	EXPECT_EQ(size % PAGE, 0);
	EXPECT_EQ(TRY(self->kvm, KVM_GET_VCPU_MMAP_SIZE, 1), -EINVAL);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	ASSERT_NE(run, MAP_FAILED);
	for (int i = 0; i < size; i += PAGE) {
		EXPECT_EQ(((volatile u8 *)run)[i], 0);
	}
	/* Only a vCPU has something to map. */
	EXPECT_EQ(mmap(NULL, size, PROT_READ, MAP_SHARED, self->vm, 0),
		  MAP_FAILED);
	munmap(run, size);
	close(vcpu);
}

static void touch_beyond_mmap(int kvm, int vm)
{
	int size = must(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	int vcpu = must(vm, KVM_CREATE_VCPU, 0);
	volatile u8 *run = mmap(NULL, size, PROT_READ, MAP_SHARED, vcpu,
				16 * PAGE);

	if (run == MAP_FAILED)
		raise(SIGBUS);	/* refused: as good as a fault */
	(void)run[0];
}

TEST_F_SIGNAL(api, vcpu_mmap_beyond_its_end, SIGBUS)
{
	touch_beyond_mmap(self->kvm, self->vm);
}

struct cpuid_buffer {
	struct kvm_cpuid2 header;
	struct kvm_cpuid_entry2 entries[256];
};

TEST_F(api, supported_cpuid)
{
	static struct cpuid_buffer cpuid;
	u32 count, seen = 0;

	EXPECT_EQ(TRY(self->kvm, KVM_GET_SUPPORTED_CPUID, BAD_POINTER),
		  -EFAULT);
	for (u32 nent = 0; nent < 4; nent++) {
		cpuid.header.nent = nent;
		EXPECT_EQ(TRY(self->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid),
			  -E2BIG);
	}
	cpuid.header.nent = 256;
	ASSERT_EQ(TRY(self->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), 0);
	count = cpuid.header.nent;
	ASSERT_GT(count, 5);
	ASSERT_LE(count, 256);
	for (u32 i = 0; i < count; i++) {
		seen |= (cpuid.entries[i].function == 0) << 0;
		seen |= (cpuid.entries[i].function == 1) << 1;
		seen |= (cpuid.entries[i].function == 0x80000001) << 2;
		if (cpuid.entries[i].function == 0x80000001) {
			EXPECT_TRUE(cpuid.entries[i].edx & BIT(29))
				TH_LOG("long mode is missing");
		}
	}
	EXPECT_EQ(seen, 7);
	/* Exactly enough is enough; one too few is not. */
	cpuid.header.nent = count;
	EXPECT_EQ(TRY(self->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), 0);
	cpuid.header.nent = count - 1;
	EXPECT_EQ(TRY(self->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), -E2BIG);
}

TEST_F(api, set_cpuid)
{
	static struct cpuid_buffer cpuid;
	int vcpu = must(self->vm, KVM_CREATE_VCPU, 0);

	cpuid.header.nent = 256;
	must(self->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	EXPECT_EQ(TRY(vcpu, KVM_SET_CPUID2, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(vcpu, KVM_SET_CPUID2, &cpuid), 0);
	EXPECT_EQ(TRY(vcpu, KVM_SET_CPUID2, &cpuid), 0);
	cpuid.header.nent = 100000;
	EXPECT_EQ(TRY(vcpu, KVM_SET_CPUID2, &cpuid), -E2BIG);
	cpuid.header.nent = 0xffffffff;
	EXPECT_EQ(TRY(vcpu, KVM_SET_CPUID2, &cpuid), -E2BIG);
	cpuid.header.nent = 0;
	EXPECT_EQ(TRY(vcpu, KVM_SET_CPUID2, &cpuid), 0);
	close(vcpu);
}

TEST_F(api, create_vcpu)
{
	int limit = must(self->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
	int vcpu = TRY(self->vm, KVM_CREATE_VCPU, 0);

	ASSERT_GE(vcpu, 0);
	EXPECT_NE(fcntl(vcpu, F_GETFD) & FD_CLOEXEC, 0);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_VCPU, 0), -EEXIST);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_VCPU, limit), -EINVAL);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_VCPU, -1l), -EINVAL);
	/* The id stays taken after its descriptor is closed. */
	close(vcpu);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_VCPU, 0), -EEXIST);
}

TEST_F(api, tss_and_identity_map)
{
	u64 address = 0xfffbc000;
	int vcpu;

	EXPECT_EQ(TRY(self->vm, KVM_SET_TSS_ADDR, 0xffffe000), -EINVAL);
	EXPECT_EQ(TRY(self->vm, KVM_SET_TSS_ADDR, 0xffffd000), 0);
	EXPECT_EQ(TRY(self->vm, KVM_SET_TSS_ADDR, 0xfffbd000), 0);
	EXPECT_EQ(TRY(self->vm, KVM_SET_IDENTITY_MAP_ADDR, BAD_POINTER),
		  -EFAULT);
	EXPECT_EQ(TRY(self->vm, KVM_SET_IDENTITY_MAP_ADDR, &address), 0);
	vcpu = must(self->vm, KVM_CREATE_VCPU, 0);
	EXPECT_EQ(TRY(self->vm, KVM_SET_IDENTITY_MAP_ADDR, &address), -EINVAL);
	close(vcpu);
}

TEST_F(api, irqchip)
{
	static struct kvm_irqchip chip;
	static struct kvm_pit_state2 pit;
	struct kvm_pit_config config = { 0 };
	struct kvm_irq_level line = { .irq = 4, .level = 1 };

	/* Nothing of it before it is there. */
	EXPECT_EQ(TRY(self->vm, KVM_GET_IRQCHIP, &chip), -ENXIO);
	EXPECT_EQ(TRY(self->vm, KVM_SET_IRQCHIP, &chip), -ENXIO);
	EXPECT_EQ(TRY(self->vm, KVM_IRQ_LINE, &line), -ENXIO);
	EXPECT_EQ(TRY(self->vm, KVM_IRQ_LINE_STATUS, &line), -ENXIO);
	EXPECT_EQ(TRY(self->vm, KVM_GET_PIT2, &pit), -ENXIO);
	EXPECT_EQ(TRY(self->vm, KVM_SET_PIT2, &pit), -ENXIO);

	EXPECT_EQ(TRY(self->vm, KVM_CREATE_IRQCHIP, 0), 0);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_IRQCHIP, 0), -EEXIST);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_PIT2, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_PIT2, &config), 0);
	EXPECT_EQ(TRY(self->vm, KVM_CREATE_PIT2, &config), -EEXIST);

	for (u32 id = 0; id < 3; id++) {
		chip.chip_id = id;
		EXPECT_EQ(TRY(self->vm, KVM_GET_IRQCHIP, &chip), 0);
		EXPECT_EQ(TRY(self->vm, KVM_SET_IRQCHIP, &chip), 0);
	}
	/* What one VMM saved another one finds, to the bit. */
	chip = (struct kvm_irqchip){ .chip.pic = { .irq_base = 10, .imr = 0x55, .elcr_mask = 0x10 } };
	EXPECT_EQ(TRY(self->vm, KVM_SET_IRQCHIP, &chip), 0);
	memset(&chip.chip, 0xff, sizeof(chip.chip));
	EXPECT_EQ(TRY(self->vm, KVM_GET_IRQCHIP, &chip), 0);
	EXPECT_EQ(chip.chip.pic.irq_base, 10);
	EXPECT_EQ(chip.chip.pic.imr, 0x55);
	EXPECT_EQ(chip.chip.pic.elcr_mask, 0x10);

	chip.chip_id = 3;
	EXPECT_EQ(TRY(self->vm, KVM_GET_IRQCHIP, &chip), -EINVAL);
	EXPECT_EQ(TRY(self->vm, KVM_SET_IRQCHIP, &chip), -EINVAL);
	EXPECT_EQ(TRY(self->vm, KVM_GET_IRQCHIP, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(self->vm, KVM_SET_IRQCHIP, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(self->vm, KVM_GET_PIT2, &pit), 0);
	EXPECT_EQ(TRY(self->vm, KVM_SET_PIT2, &pit), 0);
	EXPECT_EQ(TRY(self->vm, KVM_GET_PIT2, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(self->vm, KVM_SET_PIT2, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(self->vm, KVM_IRQ_LINE, &line), 0);
	EXPECT_EQ(TRY(self->vm, KVM_IRQ_LINE_STATUS, &line), 0);
	EXPECT_EQ(TRY(self->vm, KVM_IRQ_LINE, BAD_POINTER), -EFAULT);
}

TEST_F(api, irqchip_comes_before_the_vcpus)
{
	int vcpu = must(self->vm, KVM_CREATE_VCPU, 0);

	EXPECT_EQ(TRY(self->vm, KVM_CREATE_IRQCHIP, 0), -EINVAL);
	close(vcpu);
}

GUEST_FIXTURE(vcpu, 0)

TEST_F(vcpu, bad_pointers)
{
	static const unsigned long requests[] = {
		KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS,
		KVM_GET_FPU, KVM_SET_FPU, KVM_GET_MSRS, KVM_SET_MSRS,
		KVM_GET_MP_STATE, KVM_SET_MP_STATE, KVM_INTERRUPT,
		KVM_SET_CPUID2,
	};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		EXPECT_EQ(TRY(self->g.vcpu, requests[i], BAD_POINTER), -EFAULT)
			TH_LOG("ioctl 0x%lx of a bad address", requests[i]);
		EXPECT_EQ(TRY(self->g.vcpu, requests[i], 0), -EFAULT)
			TH_LOG("ioctl 0x%lx of NULL", requests[i]);
	}
	EXPECT_EQ(TRY(self->g.vm, KVM_SET_USER_MEMORY_REGION, BAD_POINTER),
		  -EFAULT);
}

TEST_F(vcpu, run_takes_no_argument)
{
	EXPECT_EQ(TRY(self->g.vcpu, KVM_RUN, 1), -EINVAL);
}

TEST_F(vcpu, only_its_own_process_may_drive_it)
{
	struct kvm_regs regs;
	int status;
	pid_t child = fork();

	if (!child) {
		bool refused =
			TRY(self->g.vcpu, KVM_RUN, 0) == -EIO &&
			TRY(self->g.vcpu, KVM_GET_REGS, &regs) == -EIO &&
			TRY(self->g.vm, KVM_CREATE_VCPU, 1) == -EIO;

		_exit(!refused);
	}
	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(TRY(self->g.vcpu, KVM_GET_REGS, &regs), 0);
}

TEST_F(vcpu, interrupt_without_irqchip)
{
	struct kvm_interrupt interrupt = { .irq = 256 };
	static struct kvm_lapic_state lapic;

	EXPECT_EQ(TRY(self->g.vcpu, KVM_INTERRUPT, &interrupt), -EINVAL);
	interrupt.irq = 32;
	EXPECT_EQ(TRY(self->g.vcpu, KVM_INTERRUPT, &interrupt), 0);
	EXPECT_EQ(TRY(self->g.vcpu, KVM_GET_LAPIC, &lapic), -EINVAL);
	EXPECT_EQ(TRY(self->g.vcpu, KVM_SET_LAPIC, &lapic), -EINVAL);
	EXPECT_EQ(TRY(self->g.vcpu, KVM_NMI, 0), 0);
}

TEST(interrupt_with_irqchip)
{
	struct kvm_interrupt interrupt = { .irq = 32 };
	static struct kvm_lapic_state lapic;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	EXPECT_EQ(TRY(g.vcpu, KVM_INTERRUPT, &interrupt), -ENXIO);
	EXPECT_EQ(TRY(g.vcpu, KVM_GET_LAPIC, &lapic), 0);
	EXPECT_EQ(TRY(g.vcpu, KVM_SET_LAPIC, &lapic), 0);
	EXPECT_EQ(TRY(g.vcpu, KVM_GET_LAPIC, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(g.vcpu, KVM_SET_LAPIC, BAD_POINTER), -EFAULT);
	EXPECT_EQ(TRY(g.vcpu, KVM_NMI, 0), 0);
	guest_destroy(&g);
}

TEST_F(vcpu, mp_state)
{
	struct kvm_mp_state state = { .mp_state = 77 };

	EXPECT_EQ(TRY(self->g.vcpu, KVM_SET_MP_STATE, &state), -EINVAL);
	EXPECT_EQ(TRY(self->g.vcpu, KVM_GET_MP_STATE, &state), 0);
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_RUNNABLE);
	EXPECT_EQ(TRY(self->g.vcpu, KVM_SET_MP_STATE, &state), 0);
}

TEST(mp_states_with_irqchip)
{
	static const u32 states[] = {
		KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE,
	};
	struct kvm_mp_state state;
	struct guest g;

	guest_create(&g, WITH_IRQCHIP);
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		state.mp_state = states[i];
		EXPECT_EQ(TRY(g.vcpu, KVM_SET_MP_STATE, &state), 0);
		state.mp_state = 99;
		EXPECT_EQ(TRY(g.vcpu, KVM_GET_MP_STATE, &state), 0);
		EXPECT_EQ(state.mp_state, states[i]);
	}
	guest_destroy(&g);
}

SELFTEST_MAIN
