// SPDX-License-Identifier: GPL-2.0
/*
 * How a processor looks when the guest starts: its CPUID leaves, and its state
 * in each of the five modes. Firmware would do this on a PC.
 *
 * Sources: SDM vol. 3A, "Protected-Mode Memory Management" and "Paging";
 * Linux, "The Linux/x86 Boot Protocol", for the selectors.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "launcher.h"

#define CR0_PE (1UL << 0)
#define CR0_ET (1UL << 4)
#define CR0_PG (1UL << 31)
#define CR4_PSE (1UL << 4)
#define CR4_PAE (1UL << 5)
#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)

#define PTE_PRESENT 0x01
#define PTE_WRITE 0x02
#define PTE_LARGE 0x80

#define CPUID_1_ECX_TSC_DEADLINE (1U << 24)
#define CPUID_1_ECX_HYPERVISOR (1U << 31)
#define CPUID_1_EDX_MTRR (1U << 12)
#define CPUID_1_EDX_HTT (1U << 28)

#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE (1 << 11)
#define MTRR_WRITE_BACK 6

#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_DELIVER_NMI (4 << 8)
#define APIC_DELIVER_EXTINT (7 << 8)

#define MAX_CPUID_ENTRIES 256

static _Noreturn void refused(struct vcpu *vcpu, const char *what)
{
	die(STATUS_HOST, "%s refuses %s: %s", vcpu->vm->device, what, strerror(errno));
}

/* Bits of an APIC ID that tell @nr cores of one package from each other. */
static unsigned int core_id_width(unsigned int nr)
{
	unsigned int width = 0;

	while (1U << width < nr)
		width++;
	return width;
}

/*
 * The topology leaves list one level a subleaf, and the list ends with an empty
 * one. Ours: a package of cores with one thread each.
 * Source: SDM vol. 3A, "Hierarchical Mapping of Shared Resources".
 */
static unsigned int add_topology(const struct vcpu *vcpu, uint32_t leaf,
				 struct kvm_cpuid_entry2 *entry)
{
	enum { NONE, THREADS = 1 << 8, CORES = 2 << 8 };
	unsigned int nr = vcpu->vm->nr_vcpus;
	const struct kvm_cpuid_entry2 levels[] = {
		{ .eax = 0, .ebx = 1, .ecx = THREADS },
		{ .eax = core_id_width(nr), .ebx = nr, .ecx = CORES },
		{ .ecx = NONE },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(levels); i++, entry++) {
		*entry = levels[i];
		entry->function = leaf;
		entry->index = i;
		entry->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		entry->ecx |= i;
		entry->edx = vcpu->id;
	}
	return ARRAY_SIZE(levels);
}

/* Replaces the host's topology leaves; a host without them has a guest without. */
static void replace_topology(const struct vcpu *vcpu, struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *entries = cpuid->entries;
	bool leaf_b = false, leaf_1f = false;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		leaf_b |= entries[i].function == 0xb;
		leaf_1f |= entries[i].function == 0x1f;
		if (entries[i].function != 0xb && entries[i].function != 0x1f)
			entries[kept++] = entries[i];
	}
	if (leaf_b)
		kept += add_topology(vcpu, 0xb, entries + kept);
	if (leaf_1f)
		kept += add_topology(vcpu, 0x1f, entries + kept);
	cpuid->nent = kept;
}

/* What a leaf of the host's must say differently in the guest. */
static void cpuid_adapt(struct vcpu *vcpu, struct kvm_cpuid_entry2 *entry)
{
	unsigned int nr = vcpu->vm->nr_vcpus;

	switch (entry->function) {
	case 1:
		entry->ebx = (entry->ebx & 0xffff) | nr << 16 | vcpu->id << 24;
		entry->ecx |= CPUID_1_ECX_HYPERVISOR;
		/* The device leaves this bit to us, since it needs its local APIC. */
		if (vcpu->vm->irqchip &&
		    ioctl(vcpu->vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			entry->ecx |= CPUID_1_ECX_TSC_DEADLINE;
		entry->edx &= ~CPUID_1_EDX_HTT;
		if (nr > 1)
			entry->edx |= CPUID_1_EDX_HTT;
		break;
	case 4:		/* bits 31 to 26: core IDs less one; 25 to 14: sharers less one */
		if (entry->eax & 0x1f)
			entry->eax = (entry->eax & 0x3fff) |
				     ((1U << core_id_width(nr < 64 ? nr : 64)) - 1) << 26;
		break;
	case 0x80000008:	/* bits 15 to 12: width of the core ID; 7 to 0: cores less one */
		entry->ecx = core_id_width(nr) << 12 | (nr - 1);
		break;
	case 0x8000001e:
		entry->eax = vcpu->id;
		entry->ebx = vcpu->id;
		entry->ecx = 0;
		break;
	}
}

static void set_msr(struct vcpu *vcpu, uint32_t index, uint64_t value, const char *what)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head.nmsrs = 1,
		.entry = { .index = index, .data = value },
	};

	if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) != 1)
		refused(vcpu, what);
}

/* As firmware leaves it: 8259 interrupts come in at LINT0, NMI at LINT1. */
static void wire_local_apic(struct vcpu *vcpu)
{
	static const uint32_t lint0 = APIC_DELIVER_EXTINT, lint1 = APIC_DELIVER_NMI;
	struct kvm_lapic_state lapic;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic))
		refused(vcpu, "to read the local APIC");
	memcpy(lapic.regs + APIC_LVT_LINT0, &lint0, sizeof(lint0));
	memcpy(lapic.regs + APIC_LVT_LINT1, &lint1, sizeof(lint1));
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic))
		refused(vcpu, "the local APIC's state");
}

/**
 * cpu_identify() - give a new vCPU its CPUID leaves and what firmware sets
 *
 * All that the device supports, and what is different from vCPU to vCPU.
 */
void cpu_identify(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;
	bool mtrr = false;

	/* Six more than the device may fill: the topology can grow. */
	cpuid = calloc(1, sizeof(*cpuid) + (MAX_CPUID_ENTRIES + 6) * sizeof(cpuid->entries[0]));
	if (!cpuid)
		die(STATUS_HOST, "out of memory");
	cpuid->nent = MAX_CPUID_ENTRIES;
	if (ioctl(vcpu->vm->dev, KVM_GET_SUPPORTED_CPUID, cpuid))
		refused(vcpu, "to say which CPUID leaves it supports");
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		cpuid_adapt(vcpu, &cpuid->entries[i]);
		if (cpuid->entries[i].function == 1)
			mtrr = cpuid->entries[i].edx & CPUID_1_EDX_MTRR;
	}
	replace_topology(vcpu, cpuid);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid))
		refused(vcpu, "the guest's CPUID leaves");
	free(cpuid);

	if (mtrr)
		set_msr(vcpu, MSR_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK,
			"write-back memory by default");
	if (vcpu->vm->irqchip)
		wire_local_apic(vcpu);
}

/**
 * cpu_tsc_khz() - the rate of the guest's TSC in kHz
 *
 * Return: the rate, or 0 if the device does not know.
 */
long cpu_tsc_khz(struct vcpu *vcpu)
{
	if (ioctl(vcpu->vm->dev, KVM_CHECK_EXTENSION, KVM_CAP_GET_TSC_KHZ) <= 0)
		return 0;
	return ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
}

static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t limit = s->g ? s->limit >> 12 : s->limit;
	uint64_t access = s->type | s->s << 4 | s->dpl << 5 | s->present << 7;
	uint64_t flags = s->avl | s->l << 1 | s->db << 2 | s->g << 3;

	return (limit & 0xffff) | (s->base & 0xffffff) << 16 | access << 40 |
	       (limit >> 16) << 48 | flags << 52 | (s->base >> 24 & 0xff) << 56;
}

static void set_flat_segments(struct vm *vm, struct kvm_sregs *sregs, bool long_mode)
{
	struct kvm_segment code = {
		.selector = 0x10, .limit = UINT32_MAX, .type = 0xb, .s = 1,
		.present = 1, .g = 1, .db = !long_mode, .l = long_mode,
	};
	struct kvm_segment data = {
		.selector = 0x18, .limit = UINT32_MAX, .type = 0x3, .s = 1,
		.present = 1, .g = 1, .db = 1,
	};
	uint64_t gdt[] = { 0, 0, descriptor(&code), descriptor(&data) };

	memcpy(vm->mem + GPA_GDT, gdt, sizeof(gdt));
	sregs->gdt.base = GPA_GDT;
	sregs->gdt.limit = sizeof(gdt) - 1;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
}

static void fill(struct vm *vm, uint64_t table, unsigned int entries, uint64_t first,
		 uint64_t step, uint64_t flags, size_t entry_size)
{
	uint8_t *p = vm->mem + table;

	for (unsigned int i = 0; i < entries; i++, p += entry_size) {
		uint64_t entry = (first + i * step) | flags;

		memcpy(p, &entry, entry_size);
	}
}

/*
 * One to one for the first 4 GiB. PAE and long mode share the lower tables:
 * GPA_PAGE_TABLES has the PML4, then the page-directory-pointer table, then four
 * page directories of 2 MiB pages. 32-bit paging has one directory of 4 MiB
 * pages.
 */
static void set_paging(struct vm *vm, struct kvm_sregs *sregs, enum cpu_mode mode)
{
	const uint64_t pml4 = GPA_PAGE_TABLES, pdpt = pml4 + 0x1000, pd = pdpt + 0x1000;

	sregs->cr0 |= CR0_PG;
	if (mode == MODE_PAGED32) {
		fill(vm, GPA_PAGE_TABLES, 1024, 0, MIB(4),
		     PTE_PRESENT | PTE_WRITE | PTE_LARGE, sizeof(uint32_t));
		sregs->cr3 = GPA_PAGE_TABLES;
		sregs->cr4 = CR4_PSE;
		return;
	}

	fill(vm, pd, 4 * 512, 0, MIB(2), PTE_PRESENT | PTE_WRITE | PTE_LARGE,
	     sizeof(uint64_t));
	sregs->cr4 = CR4_PAE;
	if (mode == MODE_PAE) {
		/* Bit 1 is reserved in these four entries. */
		fill(vm, pdpt, 4, pd, 0x1000, PTE_PRESENT, sizeof(uint64_t));
		sregs->cr3 = pdpt;
		return;
	}
	fill(vm, pdpt, 4, pd, 0x1000, PTE_PRESENT | PTE_WRITE, sizeof(uint64_t));
	fill(vm, pml4, 1, pdpt, 0, PTE_PRESENT | PTE_WRITE, sizeof(uint64_t));
	sregs->cr3 = pml4;
	sregs->efer |= EFER_LME | EFER_LMA;
}

/**
 * cpu_start() - let a vCPU in reset state start as told
 * @vcpu: the vCPU; it has not run
 * @start: where and in which mode
 */
void cpu_start(struct vcpu *vcpu, const struct start *start)
{
	struct kvm_regs regs = {
		.rip = start->rip,
		.rsp = start->rsp,
		.rsi = start->rsi,
		.rflags = 2,
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		refused(vcpu, "to read special registers");
	if (start->mode == MODE_REAL) {
		sregs.cr0 = CR0_ET;
		sregs.cs.base = 0;
		sregs.cs.selector = 0;
	} else {
		sregs.cr0 = CR0_PE | CR0_ET;
		set_flat_segments(vcpu->vm, &sregs, start->mode == MODE_LONG);
	}
	if (start->mode >= MODE_PAGED32)
		set_paging(vcpu->vm, &sregs, start->mode);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs))
		refused(vcpu, "the processor mode");
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs))
		refused(vcpu, "the general registers");
}
