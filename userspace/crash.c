// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that cannot go on: why, its registers, and the code it was at.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "launcher.h"
#include "minikvm.h"

#define CR0_PG (1UL << 31)
#define CR4_PAE (1UL << 5)
#define CR4_LA57 (1UL << 12)
#define EFER_LMA (1UL << 10)
#define PTE_PRESENT 0x01
#define PTE_LARGE 0x80
#define PTE_ADDRESS 0x000ffffffffff000ULL

/**
 * exit_name() - the word for a KVM_EXIT_ number
 */
const char *exit_name(unsigned int exit_reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "unknown",
		[KVM_EXIT_EXCEPTION] = "exception",
		[KVM_EXIT_IO] = "port I/O",
		[KVM_EXIT_HYPERCALL] = "hypercall",
		[KVM_EXIT_DEBUG] = "debug",
		[KVM_EXIT_HLT] = "halt",
		[KVM_EXIT_MMIO] = "MMIO",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "interrupt window",
		[KVM_EXIT_SHUTDOWN] = "shutdown",
		[KVM_EXIT_FAIL_ENTRY] = "failed entry",
		[KVM_EXIT_INTR] = "signal",
		[KVM_EXIT_SET_TPR] = "TPR",
		[KVM_EXIT_TPR_ACCESS] = "TPR access",
		[KVM_EXIT_NMI] = "NMI",
		[KVM_EXIT_INTERNAL_ERROR] = "internal error",
		[KVM_EXIT_IOAPIC_EOI] = "I/O APIC EOI",
		[KVM_EXIT_X86_RDMSR] = "RDMSR",
		[KVM_EXIT_X86_WRMSR] = "WRMSR",
	};

	if (exit_reason < ARRAY_SIZE(names) && names[exit_reason])
		return names[exit_reason];
	return "other";
}

/**
 * crash_describe() - a sentence for an exit that the guest does not survive
 * @run: the exit
 * @text: gets the sentence
 * @size: of @text, in bytes
 */
void crash_describe(const struct kvm_run *run, char *text, size_t size)
{
	unsigned long long reason;

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		snprintf(text, size, "triple fault (an exception while it could not even deliver a double fault)");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		reason = run->fail_entry.hardware_entry_failure_reason;
		snprintf(text, size, "the CPU refused to enter the guest (hardware reason 0x%llx)",
			 reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(text, size, "the device gave up (internal error %u%s)",
			 run->internal.suberror,
			 run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ?
			 ": an instruction that it cannot emulate" : "");
		break;
	default:
		snprintf(text, size, "an exit that the launcher did not ask for (%u, %s)",
			 run->exit_reason, exit_name(run->exit_reason));
	}
}

/* The guest's own page walk. Return: false where nothing is mapped. */
static bool translate(const struct vm *vm, const struct kvm_sregs *sregs, uint64_t gva,
		      uint64_t *gpa)
{
	bool wide = sregs->cr4 & CR4_PAE;
	unsigned int bits = wide ? 9 : 10, entry_size = wide ? 8 : 4;
	uint64_t table = sregs->cr3 & PTE_ADDRESS;
	int level = 1;

	if (!(sregs->cr0 & CR0_PG)) {
		*gpa = gva;
		return true;
	}
	if (sregs->efer & EFER_LMA) {
		level = sregs->cr4 & CR4_LA57 ? 4 : 3;
	} else if (wide) {
		level = 2;
		table = sregs->cr3 & ~0x1fULL;
	}
	for (;; level--) {
		unsigned int shift = 12 + bits * level;
		uint64_t offset_mask = (1ULL << shift) - 1, entry = 0;
		const void *p = vm_memory(vm, table + (gva >> shift & ((1U << bits) - 1)) * entry_size,
					  entry_size);

		if (!p)
			return false;
		memcpy(&entry, p, entry_size);
		if (!(entry & PTE_PRESENT))
			return false;
		table = entry & PTE_ADDRESS;
		if (!level || (entry & PTE_LARGE)) {
			*gpa = (table & ~offset_mask) | (gva & offset_mask);
			return true;
		}
	}
}

static void print_code(const struct vm *vm, const struct kvm_sregs *sregs, uint64_t rip)
{
	uint64_t at = sregs->efer & EFER_LMA && sregs->cs.l ? rip
		: (uint32_t)(sregs->cs.base + rip);

	fprintf(stderr, "code at rip:");
	for (int i = -16; i < 32; i++) {
		const uint8_t *byte = NULL;
		uint64_t gpa;

		if (translate(vm, sregs, at + i, &gpa))
			byte = vm_memory(vm, gpa, 1);
		fputs(i ? " " : " <", stderr);
		if (byte)
			fprintf(stderr, "%02x", *byte);
		else
			fputs("--", stderr);
		fputs(i ? "" : ">", stderr);
	}
	fprintf(stderr, "\n");
}

static void print_segment(const char *name, const struct kvm_segment *s)
{
	fprintf(stderr, "%-3s %04x base %016llx limit %08x type %x dpl %u %s%s%s\n", name,
		s->selector, (unsigned long long)s->base, s->limit, s->type, s->dpl,
		s->unusable ? "unusable" : s->present ? "present" : "absent",
		s->l ? " 64-bit" : "", s->db ? " 32-bit" : "");
}

/**
 * crash_report() - print why a vCPU no longer runs, and its state, on stderr
 */
void crash_report(struct vcpu *vcpu)
{
	struct minikvm_death death;
	struct kvm_regs r;
	struct kvm_sregs s;

	fprintf(stderr, "minikvm: the guest crashed on vCPU %u: %s\n", vcpu->id,
		vcpu->vm->reason);
	if (!ioctl(vcpu->fd, MINIKVM_GET_DEATH, &death) && death.why[0])
		fprintf(stderr, "minikvm: %.*s\n", (int)sizeof(death.why), death.why);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) || ioctl(vcpu->fd, KVM_GET_SREGS, &s)) {
		fprintf(stderr, "minikvm: no registers: %s\n", strerror(errno));
		return;
	}
	fprintf(stderr,
		"rax %016llx rbx %016llx rcx %016llx rdx %016llx\n"
		"rsi %016llx rdi %016llx rbp %016llx rsp %016llx\n"
		"r8  %016llx r9  %016llx r10 %016llx r11 %016llx\n"
		"r12 %016llx r13 %016llx r14 %016llx r15 %016llx\n"
		"rip %016llx rflags %08llx\n"
		"cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx cr8 %llx efer %llx\n",
		r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp,
		r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags,
		s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer);
	print_segment("cs", &s.cs);
	print_segment("ss", &s.ss);
	print_segment("ds", &s.ds);
	print_segment("es", &s.es);
	print_segment("fs", &s.fs);
	print_segment("gs", &s.gs);
	print_segment("tr", &s.tr);
	print_segment("ldt", &s.ldt);
	fprintf(stderr, "gdt base %016llx limit %04x  idt base %016llx limit %04x\n",
		(unsigned long long)s.gdt.base, s.gdt.limit,
		(unsigned long long)s.idt.base, s.idt.limit);
	print_code(vcpu->vm, &s, r.rip);
}
