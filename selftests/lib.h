/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host half of every test: the device, one VM with one vCPU, its memory,
 * the five modes a guest can start in, and KVM_RUN.
 *
 * Knows the KVM ABI and nothing of the module behind it, so each test runs
 * against /dev/minikvm and /dev/kvm alike.  The guest half is guest.h; read
 * modes.c next for the smallest use of both.
 */
#ifndef SELFTESTS_LIB_H
#define SELFTESTS_LIB_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

#define BIT(n)		(1ull << (n))
#define PAGE		4096ul
#define HUGE		(2ul << 20)

/*
 * Guest physical memory.  The low megabyte holds what the processor itself
 * reads and the small assembly guests; guest_call() copies the test program
 * to the addresses it is linked at, so guest C code shares its symbols.
 */
#define GUEST_GDT	0x1000ul
#define GUEST_IDT	0x2000ul
#define GUEST_TSS	0x3000ul
#define GUEST_CR3	0x4000ul	/* root of all three table formats */
#define GUEST_PDPT	0x5000ul
#define GUEST_PD	0x6000ul	/* four of them: 4 GiB, identity */
#define GUEST_STACK	0xfff0ul	/* grows down to 0xa000 */
#define GUEST_CODE	0x10000ul	/* where guest_load() usually puts it */
#define GUEST_DATA	0x20000ul	/* free for the test, up to 0xa0000 */
#define GUEST_PROGRAM	0x400000ul
#define GUEST_FREE	0x600000ul	/* free for the test, up to the end */
#define GUEST_MEM	0xa00000ul
#define GUEST_MMIO	0xd0000000ul	/* never has a slot in lib.c */

/* Selectors, with the ring as RPL: code and data of rings 0 to 3, TSS, LDT. */
#define SEL_CODE(ring)	(0x08 + 0x10 * (ring) + (ring))
#define SEL_DATA(ring)	(0x10 + 0x10 * (ring) + (ring))
#define SEL_TSS		0x48
#define SEL_LDT		0x58
#define GDT_LIMIT	0x67

#define CR0_PE		BIT(0)
#define CR0_MP		BIT(1)
#define CR0_EM		BIT(2)
#define CR0_TS		BIT(3)
#define CR0_ET		BIT(4)
#define CR0_NE		BIT(5)
#define CR0_WP		BIT(16)
#define CR0_AM		BIT(18)
#define CR0_NW		BIT(29)
#define CR0_CD		BIT(30)
#define CR0_PG		BIT(31)
#define CR4_TSD		BIT(2)
#define CR4_DE		BIT(3)
#define CR4_PSE		BIT(4)
#define CR4_PAE		BIT(5)
#define CR4_PGE		BIT(7)
#define CR4_OSFXSR	BIT(9)
#define CR4_OSXMMEXCPT	BIT(10)
#define CR4_UMIP	BIT(11)
#define CR4_OSXSAVE	BIT(18)
#define EFER_SCE	BIT(0)
#define EFER_LME	BIT(8)
#define EFER_LMA	BIT(10)
#define EFER_NX		BIT(11)

enum guest_mode {
	MODE_REAL,
	MODE_PROTECTED,		/* 32 bits, no paging */
	MODE_PAGED32,		/* 32 bits, two-level tables, 4 MiB pages */
	MODE_PAE,
	MODE_LONG,
	MODE_COUNT
};

extern const char *const mode_names[MODE_COUNT];

/* What guest_create() adds to a plain VM. */
#define WITH_IRQCHIP	1u
#define WITH_PIT	2u
#define WITH_SPLIT	4u	/* local APICs alone; 24 pins are userspace's */

struct guest {
	int kvm;		/* the device */
	int vm;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	u8 *mem;		/* slot 0, from gpa 0 */
	size_t mem_size;	/* bytes */
};

/*
 * Take the device from argv[1], else $MINIKVM_DEVICE, else /dev/minikvm, and
 * try it.  Ends the program as skipped when there is no such device, as
 * failed when it is there and cannot be used.
 */
void device_init(int argc, char **argv);
/* Which device a later device_open() means; bench.c alternates two. */
void device_select(const char *path);
const char *device_name(void);
int device_open(void);
bool device_has(int cap);
/* Does the CPU keep local APICs in x2APIC mode by itself (APICv)? */
bool device_has_apicv(void);
/* What GET_SUPPORTED_CPUID says of a leaf, sub-leaf 0: eax to edx; 0 and false: nothing. */
bool device_cpuid(u32 function, u32 regs[4]);
/* How often GET_MSR_INDEX_LIST names it. */
int device_lists_msr(u32 index);
/* What is minikvm's alone is skipped on stock KVM. */
bool device_is_minikvm(void);

/* Say why on a TAP comment line and fail the running test. */
void die(const char *format, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/* An ioctl that has to succeed: returns its value (0 or more), or dies. */
#define must(fd, request, arg) \
	must_ioctl(fd, request, (unsigned long)(arg), #request)
int must_ioctl(int fd, unsigned long request, unsigned long arg,
	       const char *name);

/* -errno of a call that fails, its value where it succeeds. */
#define outcome(call) ({ int ret_ = (call); ret_ < 0 ? -errno : ret_; })

void guest_create(struct guest *g, unsigned int with);
/* The same, with a capability of the VM switched on before it has a vCPU. */
void guest_create_cap(struct guest *g, unsigned int with, const struct kvm_enable_cap *cap);
void guest_destroy(struct guest *g);
/* Add a vCPU to g->vm; the caller closes the descriptor. */
int guest_add_vcpu(struct guest *g, unsigned int id);
enum { EAX, EBX, ECX, EDX };
/* Give the first vCPU what the device supports, but for bits of register @reg (EAX to EDX). */
void guest_change_cpuid(struct guest *g, u32 function, u32 reg, u32 clear, u32 set);
/* KVM_SET_USER_MEMORY_REGION: 0 or -errno.  bytes == 0 deletes. */
int guest_slot(struct guest *g, u32 slot, u64 gpa, void *hva, u64 bytes,
	       u32 flags);

/* Put the vCPU into a mode, at a linear address, with flat segments. */
void guest_mode(struct guest *g, enum guest_mode mode, u64 entry);
void guest_copy(struct guest *g, u64 gpa, const void *from, size_t bytes);
/* The host's view of a guest physical address, or of a guest C variable. */
void *guest_at(struct guest *g, u64 gpa);
#define guest_var(g, variable) \
	((__typeof__(variable) *)guest_at(g, (uintptr_t)&(variable)))

/* KVM_RUN once: the exit reason.  Dies when the ioctl itself fails. */
u32 guest_run(struct guest *g);
/* Run, and die with a description unless it ends with this exit. */
void guest_run_to(struct guest *g, u32 exit_reason);
/* The last exit was a port write that guest.h makes: its port; the value in *value. */
u16 guest_port(struct guest *g, u32 *value);
u16 guest_next(struct guest *g, u32 *value);	/* the same, after KVM_RUN */
/* Run to the next guest_sync(), and die unless that comes: its value. */
u32 guest_until_sync(struct guest *g);
/* An interrupt for APIC ID 0, a few milliseconds from now. */
void guest_interrupt_later(struct guest *g, u8 vector);
/* Start a guest C function in long mode; guest_finish() gives its result. */
void guest_call(struct guest *g, u32 (*function)(u64), u64 arg);
u32 guest_finish(struct guest *g);

/*
 * A guest that reads and writes eight bytes where the host says.  An access
 * returns true when it is done, false when it ended in an MMIO exit: then
 * agent_finish() completes it, with what the caller left in run->mmio.data.
 */
void agent_start(struct guest *g);
bool agent_read(struct guest *g, u64 gpa, u64 *value);
bool agent_write(struct guest *g, u64 gpa, u64 value);
u64 agent_finish(struct guest *g);

/*
 * A thread that disturbs a running guest: after each urgent_pause() it takes
 * the CPU at once, also where there is only one.  Where to sleep and to be woken
 * takes long by itself, the pauses grow, so that others run at all.
 */
pthread_t urgent_thread(void *(*function)(void *), void *arg);
void urgent_pause(void);
u64 clock_ns(clockid_t clock);

u64 guest_rip(struct guest *g);
/* The bytes an IO exit carries, direction whichever. */
void *guest_io_data(struct guest *g);
const char *exit_name(u32 reason);
void die_of_exit(struct guest *g, const char *wanted)
	__attribute__((noreturn));

/*
 * Assembly guests: GUEST_ASM(name, 16, "…") makes name[] and name_end[],
 * position independent, for guest_load().
 */
#define GUEST_ASM(name, bits, text)					\
	extern const u8 name[], name##_end[];				\
	asm(".pushsection .rodata\n.code" #bits "\n" #name ":\n"	\
	    text "\n" #name "_end:\n.code64\n.popsection")

#define guest_load(g, name) \
	guest_copy(g, GUEST_CODE, name, name##_end - name)

/* The usual fixture, of a test that uses kselftest_harness.h: one VM, self->g. */
#define GUEST_FIXTURE(name, with)			\
	FIXTURE(name) { struct guest g; };		\
	FIXTURE_SETUP(name)				\
	{						\
		guest_create(&self->g, with);		\
	}						\
	FIXTURE_TEARDOWN(name)				\
	{						\
		guest_destroy(&self->g);		\
	}

/* The main() of a test that uses kselftest_harness.h. */
#define SELFTEST_MAIN					\
	int main(int argc, char **argv)			\
	{						\
		device_init(argc, argv);		\
		return test_harness_run(1, argv);	\
	}

/* What the headers of 6.1 lack. */
#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2	231
struct kvm_userspace_memory_region2 {
	__u32 slot, flags;
	__u64 guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	__u32 guest_memfd, pad1;
	__u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#define KVM_MEM_GUEST_MEMFD	BIT(2)
#endif
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
struct kvm_pre_fault_memory {
	__u64 gpa, size, flags, padding[5];
};
#define KVM_PRE_FAULT_MEMORY	_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS	237
#endif

#endif
