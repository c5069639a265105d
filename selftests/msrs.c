// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs: through userspace, through the guest, and that those of the guest stay
 * the guest's.
 */
#include <asm/prctl.h>
#include <sys/syscall.h>
#include <kselftest_harness.h>
#include "guest.h"

#define MSR_TSC			0x10
#define MSR_APIC_BASE		0x1b
#define MSR_ARCH_CAPABILITIES	0x10a
#define MSR_PERF_CAPABILITIES	0x345
#define ARCH_CAP_RDCL_NO	BIT(0)
#define CPUID7_ARCH_CAPABILITIES BIT(29)
#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_PAT			0x277
#define MSR_EFER		0xc0000080
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SYSCALL_MASK	0xc0000084
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_KERNEL_GS_BASE	0xc0000102
#define UNKNOWN_MSR		0x12345

#define NON_CANONICAL		0x1234567800000000ull
#define MAX_MSRS		512

struct msr_buffer {
	struct kvm_msrs header;
	struct kvm_msr_entry entries[MAX_MSRS];
};

GUEST_FIXTURE(msrs, WITH_IRQCHIP)

/* Either returns how many were done: 0 or 1. */
static int get_msr(struct guest *g, u32 index, u64 *value)
{
	struct msr_buffer msrs = {
		.header.nmsrs = 1, .entries[0].index = index,
	};
	int ret = must(g->vcpu, KVM_GET_MSRS, &msrs);

	*value = msrs.entries[0].data;
	return ret;
}

static int set_msr(struct guest *g, u32 index, u64 value)
{
	struct msr_buffer msrs = {
		.header.nmsrs = 1,
		.entries[0] = { .index = index, .data = value },
	};

	return must(g->vcpu, KVM_SET_MSRS, &msrs);
}

/* AMD's processors keep 32 bits of the SYSENTER pair. */
static const struct {
	u32 index;
	u64 values[2];
} plain[] = {
	{ MSR_SYSENTER_CS, { 0x10, 0x33 } },
	{ MSR_SYSENTER_ESP, { 0x12345678, 0x1000 } },
	{ MSR_SYSENTER_EIP, { 0x87654321, 0x2000 } },
	{ MSR_PAT, { 0x0007040600070406, 0x0406050100070401 } },
	{ MSR_STAR, { 0x0023001000000000, 0x0033001812345678 } },
	{ MSR_LSTAR, { 0xffffffff81800000, 0x401000 } },
	{ MSR_CSTAR, { 0xffffffff81900000, 0x402000 } },
	{ MSR_SYSCALL_MASK, { 0x47700, 0x200 } },
	{ MSR_FS_BASE, { 0x7f1234567000, 0xffff800000000000 } },
	{ MSR_GS_BASE, { 0xffff888000400000, 0x5000 } },
	{ MSR_KERNEL_GS_BASE, { 0xffff888000800000, 0x6000 } },
};

TEST_F(msrs, index_list)
{
	struct {
		struct kvm_msr_list header;
		u32 indices[MAX_MSRS];
	} list = { .header.nmsrs = 0 };
	static const u32 needed[] = {
		MSR_TSC, MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
		MSR_PAT, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
		MSR_KERNEL_GS_BASE,
	};
	struct guest *g = &self->g;
	u64 value;

	EXPECT_EQ(outcome(ioctl(g->kvm, KVM_GET_MSR_INDEX_LIST, NULL)),
		  -EFAULT);
	EXPECT_EQ(outcome(ioctl(g->kvm, KVM_GET_MSR_INDEX_LIST, &list)),
		  -E2BIG);
	ASSERT_GT(list.header.nmsrs, ARRAY_SIZE(needed));
	ASSERT_LT(list.header.nmsrs, MAX_MSRS);
	list.header.nmsrs--;
	EXPECT_EQ(outcome(ioctl(g->kvm, KVM_GET_MSR_INDEX_LIST, &list)),
		  -E2BIG);
	ASSERT_EQ(outcome(ioctl(g->kvm, KVM_GET_MSR_INDEX_LIST, &list)), 0);

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		bool found = false;

		for (u32 j = 0; j < list.header.nmsrs; j++)
			found |= list.indices[j] == needed[i];
		EXPECT_TRUE(found)
			TH_LOG("MSR 0x%x is not listed", needed[i]);
	}
	/* What is listed can be read, and what was read can be set. */
	for (u32 i = 0; i < list.header.nmsrs; i++) {
		EXPECT_EQ(get_msr(g, list.indices[i], &value), 1)
			TH_LOG("get of MSR 0x%x", list.indices[i]);
		EXPECT_EQ(set_msr(g, list.indices[i], value), 1)
			TH_LOG("set of MSR 0x%x", list.indices[i]);
	}
}

TEST_F(msrs, round_trip)
{
	struct msr_buffer in = { .header.nmsrs = ARRAY_SIZE(plain) }, out;
	struct guest *g = &self->g;
	u64 value;

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
			in.entries[i].index = plain[i].index;
			in.entries[i].data = plain[i].values[round];
		}
		ASSERT_EQ(must(g->vcpu, KVM_SET_MSRS, &in), ARRAY_SIZE(plain));
		out = in;
		for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
			out.entries[i].data = 0;
		ASSERT_EQ(must(g->vcpu, KVM_GET_MSRS, &out), ARRAY_SIZE(plain));
		for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
			EXPECT_EQ(out.entries[i].data, in.entries[i].data)
				TH_LOG("MSR 0x%x", plain[i].index);
		}
	}
	/* The values that QEMU sets whatever the CPUID says. */
	EXPECT_EQ(set_msr(g, 0x11, 0), 1);	/* kvmclock's, old number */
	EXPECT_EQ(set_msr(g, 0x12, 0), 1);
	EXPECT_EQ(get_msr(g, MSR_APIC_BASE, &value), 1);
	EXPECT_EQ(set_msr(g, MSR_APIC_BASE, value), 1);
}

TEST_F(msrs, short_counts)
{
	struct msr_buffer msrs = {
		.header.nmsrs = 3,
		.entries = {
			{ .index = MSR_STAR, .data = 5 },
			{ .index = UNKNOWN_MSR, .data = 6 },
			{ .index = MSR_LSTAR, .data = 7 },
		},
	};
	struct guest *g = &self->g;
	u64 value;

	EXPECT_EQ(must(g->vcpu, KVM_SET_MSRS, &msrs), 1);
	EXPECT_EQ(must(g->vcpu, KVM_GET_MSRS, &msrs), 1);
	EXPECT_EQ(get_msr(g, MSR_STAR, &value), 1);
	EXPECT_EQ(value, 5);
	EXPECT_EQ(get_msr(g, MSR_LSTAR, &value), 1);
	EXPECT_NE(value, 7);
	EXPECT_EQ(get_msr(g, UNKNOWN_MSR, &value), 0);
	EXPECT_EQ(set_msr(g, UNKNOWN_MSR, 0), 0);

	msrs.header.nmsrs = 0;
	EXPECT_EQ(must(g->vcpu, KVM_SET_MSRS, &msrs), 0);
	EXPECT_EQ(must(g->vcpu, KVM_GET_MSRS, &msrs), 0);
	msrs.header.nmsrs = 100000;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_MSRS, &msrs)), -E2BIG);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_GET_MSRS, &msrs)), -E2BIG);
	msrs.header.nmsrs = 0xffffffff;
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_SET_MSRS, &msrs)), -E2BIG);
	EXPECT_EQ(outcome(ioctl(g->vcpu, KVM_GET_MSRS, &msrs)), -E2BIG);
}

TEST_F(msrs, values_that_no_processor_takes)
{
	struct guest *g = &self->g;
	u64 before, after;

	EXPECT_EQ(get_msr(g, MSR_PAT, &before), 1);
	EXPECT_EQ(set_msr(g, MSR_PAT, 0x0202020202020202), 0);
	EXPECT_EQ(set_msr(g, MSR_PAT, 0x8000000000000000), 0);
	EXPECT_EQ(get_msr(g, MSR_PAT, &after), 1);
	EXPECT_EQ(before, after);
	EXPECT_EQ(set_msr(g, MSR_LSTAR, NON_CANONICAL), 0);
	EXPECT_EQ(set_msr(g, MSR_KERNEL_GS_BASE, NON_CANONICAL), 0);
	EXPECT_EQ(set_msr(g, MSR_EFER, BIT(63)), 0);
	EXPECT_EQ(set_msr(g, MSR_EFER, BIT(1)), 0);
	EXPECT_EQ(set_msr(g, MSR_APIC_BASE, BIT(63)), 0);
}

/* The guest's side of the same MSRs. */

static struct {
	u32 index;
	u64 seen, set;
} guest_msrs[ARRAY_SIZE(plain)];

static u32 guest_exchanges_msrs(u64 count)
{
	for (u64 i = 0; i < count; i++) {
		u64 value;

		if (rdmsr_safe(guest_msrs[i].index, &value) != NO_FAULT)
			return i + 1;
		guest_msrs[i].seen = value;
		if (wrmsr_safe(guest_msrs[i].index, guest_msrs[i].set) !=
		    NO_FAULT)
			return i + 1;
		guest_equal(rdmsr(guest_msrs[i].index), guest_msrs[i].set);
		guest_sync(0);
		guest_equal(rdmsr(guest_msrs[i].index), guest_msrs[i].set);
	}
	return 0;
}

TEST_F(msrs, guest_and_userspace_see_the_same)
{
	struct guest *g = &self->g;
	u32 unused;
	u64 value;

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		guest_msrs[i].index = plain[i].index;
		guest_msrs[i].set = plain[i].values[1];
	}
	guest_call(g, guest_exchanges_msrs, ARRAY_SIZE(plain));
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		ASSERT_EQ(set_msr(g, plain[i].index, plain[i].values[0]), 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		ASSERT_EQ(guest_next(g, &unused), PORT_SYNC);
		EXPECT_EQ((*guest_var(g, guest_msrs))[i].seen,
			  plain[i].values[0])
			TH_LOG("the guest's view of MSR 0x%x", plain[i].index);
		EXPECT_EQ(get_msr(g, plain[i].index, &value), 1);
		EXPECT_EQ(value, plain[i].values[1])
			TH_LOG("userspace's view of MSR 0x%x", plain[i].index);
	}
	EXPECT_EQ(guest_finish(g), 0);
}

/* --- What the host's CPU is, by MSRs --- */

TEST_F(msrs, features)
{
	struct {
		struct kvm_msr_list header;
		u32 indices[MAX_MSRS];
	} list = { .header.nmsrs = MAX_MSRS };
	struct guest *g = &self->g;
	bool arch = false, perf = false;

	must(g->kvm, KVM_GET_MSR_FEATURE_INDEX_LIST, &list);
	for (u32 i = 0; i < list.header.nmsrs; i++) {
		struct msr_buffer msrs = {
			.header.nmsrs = 1, .entries[0].index = list.indices[i],
		};

		EXPECT_EQ(must(g->kvm, KVM_GET_MSRS, &msrs), 1)
			TH_LOG("feature MSR 0x%x", list.indices[i]);
		arch |= list.indices[i] == MSR_ARCH_CAPABILITIES;
		perf |= list.indices[i] == MSR_PERF_CAPABILITIES;
	}
	EXPECT_TRUE(arch);
	EXPECT_TRUE(perf);
}

static volatile u64 capabilities_seen;

static u32 guest_reads_capabilities(u64 arg)
{
	u64 value = 0;
	u32 vector = rdmsr_safe(MSR_ARCH_CAPABILITIES, &value);

	capabilities_seen = value;
	guest_equal(wrmsr_safe(MSR_ARCH_CAPABILITIES, 0), 13);
	return vector;
}

static bool host_is_safe_from(const char *flaw)
{
	char path[100], text[40] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", flaw);
	file = fopen(path, "r");
	if (!file || !fgets(text, sizeof(text), file))
		die("%s: %s", path, strerror(errno));
	fclose(file);
	return !strcmp(text, "Not affected\n");
}

TEST_F(msrs, arch_capabilities)
{
	struct guest *g = &self->g;
	struct msr_buffer msrs = {
		.header.nmsrs = 1, .entries[0].index = MSR_ARCH_CAPABILITIES,
	};
	u32 leaf[4];
	u64 value;

	device_cpuid(7, leaf);
	EXPECT_TRUE(leaf[3] & CPUID7_ARCH_CAPABILITIES);
	must(g->kvm, KVM_GET_MSRS, &msrs);
	EXPECT_EQ(get_msr(g, MSR_ARCH_CAPABILITIES, &value), 1);
	EXPECT_EQ(value, msrs.entries[0].data);
	EXPECT_EQ(value & ARCH_CAP_RDCL_NO ? 1 : 0, host_is_safe_from("meltdown"));
	/* A VMM takes away what another host will not have. */
	value &= ~BIT(5);
	EXPECT_EQ(set_msr(g, MSR_ARCH_CAPABILITIES, value), 1);
	guest_call(g, guest_reads_capabilities, 0);
	EXPECT_EQ(guest_finish(g), NO_FAULT);
	EXPECT_EQ(*guest_var(g, capabilities_seen), value);
}

TEST_F(msrs, no_arch_capabilities)
{
	guest_change_cpuid(&self->g, 7, EDX, CPUID7_ARCH_CAPABILITIES, 0);
	guest_call(&self->g, guest_reads_capabilities, 0);
	EXPECT_EQ(guest_finish(&self->g), 13);
}

static u32 guest_faulting_msrs(u64 arg)
{
	u64 value, efer = rdmsr(MSR_EFER);

	guest_equal(rdmsr_safe(UNKNOWN_MSR, &value), 13);
	guest_equal(guest_fault_error, 0);
	guest_equal(wrmsr_safe(UNKNOWN_MSR, 0), 13);
	guest_equal(rdmsr_safe(0xc0001fff, &value), 13);
	guest_equal(rdmsr_safe(0xdeadbeef, &value), 13);
	guest_equal(wrmsr_safe(MSR_PAT, 0x0202020202020202), 13);
	guest_equal(efer, EFER_LME | EFER_LMA | EFER_SCE | EFER_NX);
	guest_equal(wrmsr_safe(MSR_EFER, efer | BIT(1)), 13);
	guest_equal(wrmsr_safe(MSR_EFER, efer | BIT(63)), 13);
	guest_equal(wrmsr_safe(MSR_EFER, efer & ~EFER_LME), 13);
	guest_equal(wrmsr_safe(MSR_EFER, efer & ~EFER_SCE), NO_FAULT);
	guest_equal(rdmsr(MSR_EFER), efer & ~EFER_SCE);
	guest_equal(guest_try("syscall", : : : "rcx", "r11", "memory"), 6);
	return 0;
}

TEST_F(msrs, guest_faults)
{
	guest_call(&self->g, guest_faulting_msrs, 0);
	EXPECT_EQ(guest_finish(&self->g), 0);
}

/* SYSCALL uses the guest's STAR, LSTAR and mask; the host's stay in place. */

GUEST_ASM(syscall_target, 64,
	"	mov %cs, %eax\n"
	"	pushfq\n"
	"	pop %rdx\n"
	"	jmp *%rcx\n");

static u32 guest_uses_syscall(u64 target)
{
	u32 cs;
	u64 rflags, gs;

	wrmsr(MSR_STAR, (u64)SEL_CODE(0) << 32);
	wrmsr(MSR_LSTAR, target);
	wrmsr(MSR_SYSCALL_MASK, BIT(10));
	wrmsr(MSR_KERNEL_GS_BASE, 0xffff888000001000);
	wrmsr(MSR_GS_BASE, 0x5000);
	for (u32 round = 0; round < 10; round++) {
		guest_sync(0);
		asm volatile("std; syscall; cld" : "=a"(cs), "=d"(rflags)
			     : : "rcx", "r11", "memory");
		guest_equal(cs, SEL_CODE(0));
		guest_check(!(rflags & BIT(10)));
		asm volatile("swapgs");
		gs = rdmsr(MSR_GS_BASE);
		guest_equal(gs, round & 1 ? 0x5000 : 0xffff888000001000);
		guest_sync(0);
		guest_equal(rdmsr(MSR_GS_BASE), gs);
	}
	return 0;
}

TEST_F(msrs, syscall_and_swapgs_of_guest_and_host)
{
	struct guest *g = &self->g;
	const long ours = 0x123456789000;
	long gs;
	u32 unused;

	guest_call(g, guest_uses_syscall, GUEST_CODE);
	guest_load(g, syscall_target);
	/* The program's own GS base, beside the guest's two. */
	ASSERT_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, ours), 0);
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(guest_next(g, &unused), PORT_SYNC);
		ASSERT_EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs), 0);
		ASSERT_EQ(gs, ours);
	}
	EXPECT_EQ(guest_finish(g), 0);
}

/* Time stamps. */

static u64 rdtsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (u64)high << 32;
}

static volatile u64 tsc_seen;

static u32 guest_reads_tsc(u64 arg)
{
	u64 last = rdtsc();
	u32 regs[4];

	for (u32 i = 0; i < 100; i++) {
		u64 now = rdtsc();

		guest_check(now > last);
		last = now;
		guest_cpuid(0, 0, regs);
	}
	tsc_seen = rdtsc();
	guest_sync(0);
	tsc_seen = rdtsc();
	guest_check(tsc_seen > last);
	guest_sync(0);
	wrmsr(MSR_TSC, BIT(50));
	guest_check(rdtsc() - BIT(50) < BIT(36));
	guest_check(rdmsr(MSR_TSC) - BIT(50) < BIT(36));
	return 0;
}

/* A VMM sets the TSC of each vCPU in turn, and means them to agree. */
TEST_F(msrs, tsc_of_several_vcpus)
{
	struct guest *g = &self->g;
	int vcpu = guest_add_vcpu(g, 1);
	struct guest other = *g;
	u64 start, first, second, third;

	other.vcpu = vcpu;
	for (u32 i = 0; i < 2; i++) {
		ASSERT_EQ(get_msr(g, MSR_TSC, &start), 1);
		start += BIT(45);
		ASSERT_EQ(set_msr(g, MSR_TSC, start), 1);
		for (u32 turn = 0; turn < 1000; turn++)
			getppid();
		ASSERT_EQ(set_msr(&other, MSR_TSC, i ? 0 : start), 1);
		ASSERT_EQ(get_msr(g, MSR_TSC, &first), 1);
		ASSERT_EQ(get_msr(&other, MSR_TSC, &second), 1);
		ASSERT_EQ(get_msr(g, MSR_TSC, &third), 1);
		EXPECT_LT(first, second);
		EXPECT_LT(second, third);
		EXPECT_LT(third - start, BIT(36));
	}
	close(vcpu);
}

TEST_F(msrs, tsc)
{
	struct guest *g = &self->g;
	u64 value;
	u32 unused;

	guest_call(g, guest_reads_tsc, 0);
	ASSERT_EQ(guest_next(g, &unused), PORT_SYNC);
	ASSERT_EQ(get_msr(g, MSR_TSC, &value), 1);
	EXPECT_LT(value - *guest_var(g, tsc_seen), BIT(36));
	/* Far ahead, so that no tolerance of close writes takes it back. */
	ASSERT_EQ(set_msr(g, MSR_TSC, value + BIT(45)), 1);
	ASSERT_EQ(guest_next(g, &unused), PORT_SYNC);
	EXPECT_LT(*guest_var(g, tsc_seen) - value - BIT(45), BIT(36));
	EXPECT_EQ(guest_finish(g), 0);
}

/* --- Filters, and exits to userspace; Linux's own KVM selftests go further. --- */

#define MSR_GS		0xc0000101
#define MSR_UNKNOWN	0x4321fedc

static int filter(struct guest *g, u32 flags, u32 range_flags, u32 base, u32 nr, void *bitmap)
{
	struct kvm_msr_filter filter = {
		.flags = flags,
		.ranges[0] = { range_flags, nr, base, bitmap },
	};

	return outcome(ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &filter));
}

TEST_F(msrs, filters_that_cannot_be)
{
	struct guest *g = &self->g;
	u8 none[8] = { 0 };

	EXPECT_EQ(filter(g, 2, 1, 0, 8, none), -EINVAL);
	EXPECT_EQ(filter(g, 0, 4, 0, 8, none), -EINVAL);
	EXPECT_EQ(filter(g, 0, 1, 0, 0x600 * 8 + 1, none), -EINVAL);
	EXPECT_EQ(filter(g, 0, 1, 0, ~0u, none), -EINVAL);
	EXPECT_EQ(filter(g, 0, 1, 0, 8, (void *)8), -EFAULT);
	EXPECT_EQ(filter(g, KVM_MSR_FILTER_DEFAULT_DENY, 0, 0, 0, NULL), -EINVAL);
	EXPECT_EQ(outcome(ioctl(g->vm, KVM_X86_SET_MSR_FILTER, 8)), -EFAULT);
	EXPECT_EQ(filter(g, 0, 3, 0xfffffff8, 8, none), 0);
	EXPECT_EQ(filter(g, 0, 0, 0, 0, NULL), 0);
}

static u32 guest_is_filtered(u64 unused)
{
	u64 value;

	(void)unused;
	for (u32 i = 0; i < 3; i++) {
		bool denied = i == 1;

		/* The hardware lets this one pass, as a rule; and it stays as it was. */
		guest_equal(rdmsr_safe(MSR_GS, &value), denied ? 13 : NO_FAULT);
		guest_equal(wrmsr_safe(MSR_GS, 0x1000 * i), denied ? 13 : NO_FAULT);
		guest_equal(rdmsr_safe(0x1b, &value), denied ? 13 : NO_FAULT);
		guest_sync(i);
	}
	return 0;
}

TEST_F(msrs, filtered_msrs_fault)
{
	static u8 none[0x600];
	struct guest *g = &self->g;
	u32 value;

	guest_call(g, guest_is_filtered, 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(filter(g, KVM_MSR_FILTER_DEFAULT_DENY, 3, 0xc0000000, 0x3000, none), 0);
	ASSERT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(value, 1);
	EXPECT_EQ(filter(g, 0, 0, 0, 0, NULL), 0);
	EXPECT_EQ(guest_next(g, &value), PORT_SYNC);
	EXPECT_EQ(guest_finish(g), 0);
}

static u32 guest_asks_userspace(u64 unused)
{
	u64 value;

	(void)unused;
	guest_equal(rdmsr(MSR_UNKNOWN), 0x123456789abcdef0);
	guest_equal(rdmsr_safe(MSR_UNKNOWN, &value), 13);
	wrmsr(MSR_UNKNOWN, 0xfedcba9876543210);
	guest_equal(wrmsr_safe(MSR_UNKNOWN, 1), 13);
	return 0;
}

TEST_F(msrs, unknown_msrs_exit)
{
	struct guest *g = &self->g;
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = 8,
	};

	EXPECT_EQ(outcome(ioctl(g->vm, KVM_ENABLE_CAP, &cap)), -EINVAL);
	cap.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN;
	must(g->vm, KVM_ENABLE_CAP, &cap);
	guest_call(g, guest_asks_userspace, 0);
	for (u32 i = 0; i < 4; i++) {
		guest_run_to(g, i < 2 ? KVM_EXIT_X86_RDMSR : KVM_EXIT_X86_WRMSR);
		EXPECT_EQ(g->run->msr.index, MSR_UNKNOWN);
		EXPECT_EQ(g->run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
		EXPECT_EQ(g->run->msr.error, 0);
		EXPECT_EQ(g->run->msr.data, i < 2 ? 0 : i == 2 ? 0xfedcba9876543210 : 1);
		if (i < 2)
			g->run->msr.data = 0x123456789abcdef0;
		g->run->msr.error = i & 1;
	}
	EXPECT_EQ(guest_finish(g), 0);
}

SELFTEST_MAIN
