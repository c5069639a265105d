/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual CPU: the hardware's view of it (struct mk_cpu) and all that KVM's
 * ABI hangs around that: kvm_run, events that wait, CPUID, MSRs, a halted
 * thread, an access to a device that userspace has yet to answer.
 *
 * Everything is under vcpu->mutex unless it is marked (a) atomic or (c)
 * constant after creation. Read next: core/run.c.
 */
#ifndef MK_CORE_VCPU_H
#define MK_CORE_VCPU_H

#include <linux/kvm.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <asm/mce.h>

#include "backend.h"
#include "core/vm.h"
#include "logic/insn.h"
#include "logic/walk.h"

/* mk_vcpu.requests: set by anybody, taken by the vCPU's thread before an entry */
enum mk_request {
	MK_REQ_FLUSH_TDP,	/* nested mappings were taken away */
	MK_REQ_EVENT,		/* something to inject may have come up */
	MK_REQ_TRIPLE_FAULT,
	MK_REQ_INIT,		/* INIT has arrived: see mk_startup() */
	MK_REQ_SIPI,		/* so has a start-up interrupt, after any INIT */
	MK_REQ_EOI_EXIT,	/* userspace's I/O APIC is to hear of eoi_vector */
	MK_REQ_CLOCK,		/* the guest's view of its clock is old: see mk_clock_update() */
	MK_REQ_DEBUG,		/* the debugger in userspace is to hear of v->debug */
	MK_REQ_MSRS,		/* which MSRs pass without an exit has changed */
	MK_REQ_STEAL,		/* it got onto a CPU: see mk_steal_update() */
	MK_REQ_SETTLE,		/* mk_eoi_settle() has to wait for memory */
	MK_REQ_RING_FULL,	/* userspace is to empty the dirty ring first */
};

#define MK_STARTUP_REQS	(BIT(MK_REQ_INIT) | BIT(MK_REQ_SIPI))
/* What the run loop does where it may sleep. */
#define MK_OUTSIDE_REQS	(MK_STARTUP_REQS | BIT(MK_REQ_CLOCK) | BIT(MK_REQ_STEAL) |	\
			 BIT(MK_REQ_MSRS) | BIT(MK_REQ_DEBUG) | BIT(MK_REQ_SETTLE) |	\
			 BIT(MK_REQ_RING_FULL))

/* Where the vCPU's thread is; see mk_vcpu_kick(). */
enum mk_vcpu_mode {
	MK_OUTSIDE,		/* not near the guest: requests are seen before it enters */
	MK_IN_GUEST,		/* interrupts off, or in the guest: an IPI brings it out */
};

/* What a handler of an exit says. */
enum mk_next {
	MK_RESUME,		/* enter the guest again */
	MK_DONE,		/* the same, behind the instruction that exited */
	MK_SLEEP,		/* not now: the run loop finds out what the vCPU waits for */
	MK_TO_USER,		/* kvm_run is filled: return 0 from KVM_RUN */
	MK_SLOW,		/* fast handlers only: again, with interrupts enabled */
	MK_FAULT,		/* KVM_RUN gives -EFAULT: the VMM's memory refused the access */
	MK_NOMEM,		/* KVM_RUN gives -ENOMEM: the host has no memory for the access */
	MK_DEAD,		/* cannot go on: KVM_EXIT_INTERNAL_ERROR is filled */
};

#define MK_HWCR_MC_STATUS_WR_EN	BIT(18)	/* struct mk_vcpu.hwcr */
#define MK_MC_BANKS	32

#define MK_MAX_CPUID	256
#define MK_CPUID_KNOWN	32	/* functions of each range that are found by their number */
#define MK_NR_FRAGMENTS	8

/* One access of the executor that a device in userspace has to answer. */
struct mk_fragment {
	gpa_t gpa;
	u8 len;			/* 1..8 bytes */
	bool write;
	bool done;		/* the device has answered, or taken the data */
	u8 data[8];
};

#define MK_NR_CODE_PAGES	8	/* a power of two */

/*
 * A page that code was read from, and the entries of the guest's tables that
 * led there, by address and value: see mk_fetch().
 */
struct mk_code_page {
	u64 page;			/* linear address of its first byte */
	u64 cr3;
	u64 slots;			/* struct mk_slots.generation; 0: there is nothing here */
	u32 key;			/* what else the translation depends on */
	u8 levels;
	const u64 __user *entry[MK_MAX_LEVELS];
	u64 value[MK_MAX_LEVELS];
	const u8 __user *code;
};

#define MK_NR_DECODED	8	/* a power of two */

/* An instruction that was executed for the guest, and may well be again. */
struct mk_decoded {
	u8 bytes[MK_INSN_MAX];
	u8 mode;			/* enum mk_cpu_mode */
	struct mk_insn insn;		/* len 0: there is nothing here */
};

struct mk_exception {
	bool pending;
	u8 vector;
	bool has_error;
	bool told;		/* CR2 or DR6 has the payload already */
	u32 error;
	u64 payload;		/* CR2 of a #PF, DR6 bits of a #DB */
};

/* A debugger in userspace; see core/debug.c */
struct mk_debug {
	u32 control;			/* KVM_GUESTDBG_*; 0: there is none */
	u8 vector;			/* of the exception that it is to hear of */
	u64 dr6;			/* and DR6's bits */
	u64 guest_dr6;			/* while mk_debug_has_db() */
	u64 guest_dr[4], guest_dr7;	/* while mk_debug_has_breakpoints() */
};

/*
 * The pages that a vCPU has written: userspace maps this list and empties it, and can
 * write anything there. Both counts go on for ever; the rest by vm->dirty_ring_size
 * is an entry's place. See core/dirty.h
 */
struct mk_dirty_ring {
	struct kvm_dirty_gfn *entries;	/* (c) vmalloc; NULL: vm->dirty_ring_size is 0 */
	u32 pushed;			/* by the vCPU's thread */
	u32 reset;			/* under vm->lock: taken back after userspace was done */
};

struct mk_vcpu {
	struct mk_cpu cpu;
	struct mk_vm *vm;		/* (c) */
	int id;				/* (c) */
	struct mutex mutex;
	bool sigmask_set;		/* KVM_SET_SIGNAL_MASK: sigmask while the guest runs */
	sigset_t sigmask;
	struct kvm_run *run;		/* (c) page 0 of the mmap */
	void *pio_page;			/* (c) page 1 */

	unsigned long requests;		/* (a) bits of enum mk_request */
	int mode;			/* (a) enum mk_vcpu_mode */
	struct rcuwait wait;		/* a halted vCPU sleeps here */
	struct preempt_notifier preempt;
	bool loaded;			/* the hardware has it on this CPU */
	bool preempted;			/* (a) its thread would run, and had to give up its CPU */
	struct pid __rcu *pid;		/* the last thread that ran it */
	bool xstate_differs;		/* guest's XCR0 or XSS is not the host's: see core/fpu.c */
	bool uses_pkru;
	u32 host_pkru;
	u32 mp_state;			/* KVM_MP_STATE_* */
	bool unhalted;			/* (a) another vCPU has ended its HLT, or the next one */
	bool between;			/* no instruction is under way: see core/steal.c */
	u64 poll_ns;			/* how long to look for events before sleeping */
	u8 sipi_vector;			/* (a) of the last start-up interrupt */
	u32 tsc_khz;			/* what the guest's counter counts in a millisecond */
	u64 tsc_lost;			/* ticks that tsc_offset makes up for: see core/time.c */

	struct mk_dirty_ring dirty_ring;

	struct fpu_guest fpu;		/* see core/fpu.c */
	u64 guest_xcr0_allowed;		/* what XSETBV may set, from CPUID 0xd */

	struct mk_exception exception;
	struct mk_debug debug;
	atomic_t nmis;			/* (a) waiting; at most two, as on a CPU */
	u8 eoi_vector;			/* for MK_REQ_EOI_EXIT */
	int user_irq;			/* acknowledged, not yet delivered: KVM_INTERRUPT's; or -1 */

	struct kvm_cpuid_entry2 *cpuid;	/* sorted by function and index */
	int nr_cpuid;
	u8 cpuid_first[4][MK_CPUID_KNOWN];	/* see mk_cpuid_find(); by function bits 31:30 */
	bool cpuid_intel;		/* leaf 0 names Intel: see out_of_range() */
	u8 maxphyaddr;
	bool gbpages;			/* CPUID offers 1 GiB pages */
	u64 cr4_allowed;		/* bits that this guest's CPUID lets it set */
	u64 efer_allowed;
	u64 apic_base;			/* while there is no local APIC in the kernel */

	/* MSRs that no hardware holds for us; see core/msr.c */
	u64 misc_enable;
	u64 tsc_adjust;
	u64 mtrr_def_type;
	u64 mtrr_fixed[11];
	u64 mtrr_var[16];
	u64 mcg_cap, mcg_status, mcg_ctl;
	u64 mc_bank[MK_MC_BANKS][4];	/* CTL, STATUS, ADDR, MISC */
	u32 mc_ctl2[MK_MC_BANKS];	/* whether a corrected error interrupts */
	u64 arch_capabilities;
	u64 ucode_rev;
	u64 platform_info;
	u64 power_ctl, hwcr;

	/* Paravirtual; see core/pv.c */
	u32 pv_features;		/* of the guest's CPUID */
	bool pv_enforced;		/* what is not among them is not there */
	u64 clock_msr;			/* gpa of its page, and bit 0: it is there */
	unsigned int clock_resumes;	/* how often the host had slept by then */
	bool clock_stopped;		/* the guest is to hear that it was stopped */
	bool wall_clock_asked;		/* it has just written vm->wall_clock_msr */
	u64 steal_msr;			/* gpa of its page, and bit 0: it is there */
	u64 steal_waited;		/* ns: what has been told of its thread's waiting */
	bool steal_new;			/* the page has never been written */
	bool steal_preempted;		/* the page says that it has lost its CPU */
	u64 eoi_msr;			/* gpa of its byte, and bit 0: it is there */
	gpa_t eoi_gpa;			/* of the byte with the offer */
	bool eoi_offered;		/* the guest may have taken it by now: see core/eoi.c */

	/* What userspace must complete before the guest goes on. */
	int (*complete)(struct mk_vcpu *v);	/* enum mk_next */
	struct mk_fragment frag[MK_NR_FRAGMENTS];
	u8 nr_frag;			/* accesses noted so far */
	u8 frag_pos;			/* how many of them this execution has come past */
	bool pio_answered;		/* userspace has filled the PIO page for a REP INS */
	struct mk_code_page code[MK_NR_CODE_PAGES];
	struct mk_decoded decoded[MK_NR_DECODED];	/* by RIP */
	bool vmm_refused;		/* code or a table could not be read: see mk_refused() */

	struct mk_exit exit;		/* the last one */
	u64 exits[MK_EXIT_NR];		/* how many of each kind */
	char death[160];		/* why it cannot go on, in a sentence; or empty */

	void *apic;			/* the board's: local APIC */
};

/* core/vcpu.c */
struct mk_vcpu *mk_vcpu_create(struct mk_vm *vm, u32 id);
void mk_vcpu_destroy(struct mk_vcpu *v);
void mk_vcpu_load(struct mk_vcpu *v);	/* mutex held; pairs with mk_vcpu_put */
void mk_vcpu_put(struct mk_vcpu *v);
void mk_vcpu_reset(struct mk_vcpu *v, bool init);
/* Is it the one that runs after a reset, while the others wait for it? */
static inline bool mk_is_boot_vcpu(const struct mk_vcpu *v)
{
	return v->id == v->vm->boot_id;
}

/**
 * mk_startup - do what INIT and start-up interrupts have asked for
 *
 * Changes v->mp_state. The boot processor runs after INIT; others wait for a
 * start-up interrupt, and one that is not waiting ignores it.
 * Context: mutex held, preemptible; loaded or not.
 */
void mk_startup(struct mk_vcpu *v);

/**
 * mk_vcpu_kick - make @v look at its requests
 *
 * Any context, including hard interrupts. Wakes it if it is halted; brings it
 * out of the guest if it is in there on another CPU.
 */
void mk_vcpu_kick(struct mk_vcpu *v);

static inline void mk_request(struct mk_vcpu *v, enum mk_request req)
{
	smp_mb__before_atomic();
	set_bit(req, &v->requests);
	smp_mb__after_atomic();
}

/* Request and kick each vCPU of @vm; vm->lock held. */
void mk_request_all(struct mk_vm *vm, enum mk_request req);

/* Another vCPU kicks APIC @id out of its HLT. Any context. */
void mk_vcpu_unhalt(struct mk_vm *vm, u32 id);

/* The calling thread runs it from now on: others may yield to it. */
void mk_vcpu_note_thread(struct mk_vcpu *v);
/* Its guest spins: let another vCPU of the VM run that has been preempted. May sleep. */
void mk_vcpu_yield(struct mk_vcpu *v);
/* Its guest waits for the vCPU with this APIC ID: let that one run. May sleep. */
void mk_vcpu_yield_to(struct mk_vcpu *v, u32 id);

/* core/run.c */
int mk_vcpu_run(struct mk_vcpu *v);
/* KVM_EXIT_INTERNAL_ERROR with a sentence that MINIKVM_GET_DEATH gives; returns MK_DEAD */
__printf(3, 4)
enum mk_next mk_die(struct mk_vcpu *v, u32 suberror, const char *why, ...);

/* core/events.c: exceptions and interrupts for the guest */
void mk_queue_exception(struct mk_vcpu *v, u8 vector);
void mk_queue_exception_error(struct mk_vcpu *v, u8 vector, u32 error);
void mk_queue_page_fault(struct mk_vcpu *v, u64 cr2, u32 error);
void mk_queue_debug(struct mk_vcpu *v, u64 dr6);	/* DR6 bits that the CPU would set */
/* Any context: @v takes an NMI as soon as it can. */
void mk_queue_nmi(struct mk_vcpu *v);
/* Any context: INIT, and a start-up interrupt with its vector, as an APIC brings them. */
void mk_queue_init(struct mk_vcpu *v);
void mk_queue_sipi(struct mk_vcpu *v, u8 vector);
/* Interrupts off, before an entry: decide what it delivers and which windows it opens. */
void mk_events_prepare(struct mk_vcpu *v);
/* Could the guest take an interrupt (NMI) with the next entry? */
bool mk_irq_allowed(struct mk_vcpu *v);
bool mk_nmi_allowed(struct mk_vcpu *v);
/* Would a PIC in userspace be heard, with room for one interrupt of it? */
bool mk_extint_free(struct mk_vcpu *v);
/* Is there something that ends a HLT? */
bool mk_event_waiting(struct mk_vcpu *v);
static inline void mk_queue_gp(struct mk_vcpu *v)
{
	mk_queue_exception_error(v, 13, 0);
}

/* core/debug.c */
/* KVM_SET_GUEST_DEBUG: 0; -EBUSY: an exception waits already. vCPU loaded */
int mk_debug_set(struct mk_vcpu *v, const struct kvm_guest_debug *debug);
/* A debug exception with these bits of DR6: the debugger's, or else the guest's. */
void mk_debug_trap(struct mk_vcpu *v, u64 dr6);
bool mk_debug_int3(struct mk_vcpu *v);	/* the guest came to an INT3: is it the debugger's? */
void mk_debug_begin(struct mk_vcpu *v);	/* KVM_RUN begins */
void mk_debug_exit(struct mk_vcpu *v);	/* fill kvm_run for MK_REQ_DEBUG */
/* #DB, and mk_cpu.dr6, are the debugger's */
static inline bool mk_debug_has_db(const struct mk_vcpu *v)
{
	return v->debug.control & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP);
}

/* mk_cpu.dr and mk_cpu.dr7 are, too */
static inline bool mk_debug_has_breakpoints(const struct mk_vcpu *v)
{
	return v->debug.control & KVM_GUESTDBG_USE_HW_BP;
}

/* DR0 to DR3, DR6 or DR7 as the guest has it; MK_G_DR must be valid, or touched. */
static inline u64 *mk_guest_dr(struct mk_vcpu *v, unsigned int nr)
{
	if (nr == 6)
		return mk_debug_has_db(v) ? &v->debug.guest_dr6 : &v->cpu.dr6;
	if (nr == 7)
		return mk_debug_has_breakpoints(v) ? &v->debug.guest_dr7 : &v->cpu.dr7;
	return mk_debug_has_breakpoints(v) ? &v->debug.guest_dr[nr] : &v->cpu.dr[nr];
}

/* core/exits.c: one handler for each kind of exit */
/* Interrupts off; only what needs nothing of the host. MK_SLOW: ask mk_exit_slow() */
enum mk_next mk_exit_fast(struct mk_vcpu *v, struct mk_exit *x);
enum mk_next mk_exit_slow(struct mk_vcpu *v, struct mk_exit *x);

/* core/insn.c: the bytes at RIP */
/**
 * mk_fetch - read guest code
 * @rip:   offset in CS
 * @sleep: may wait for the VMM's memory, and queues the fault that a fetch raises
 * Return: bytes read, fewer than @n at the end of what is mapped; 0: none.
 */
unsigned int mk_fetch(struct mk_vcpu *v, u64 rip, u8 *buf, unsigned int n, bool sleep);
/* Fill x->len (and, with MK_XF_DECODE, x->cr) from the code; false: could not, see mk_fetch. */
bool mk_insn_fill(struct mk_vcpu *v, struct mk_exit *x, bool sleep);
/* The instruction of @len bytes is done: RIP, RF, shadows and TF do what its end implies. */
void mk_insn_done(struct mk_vcpu *v, unsigned int len);
/* Another byte of guest code at @rip, where the guest itself may write now; may sleep. */
void mk_patch_code(struct mk_vcpu *v, u64 rip, u8 byte);
/* KVM_TRANSLATE: what a linear address leads to. vCPU loaded; may sleep */
int mk_translate(struct mk_vcpu *v, struct kvm_translation *tr);
/* What mk_walk() needs to know of the vCPU. */
void mk_walk_setup(struct mk_vcpu *v, struct mk_walk_cfg *cfg);
/* Guest memory for mk_walk(): may sleep and sets A and D bits; or neither */
void mk_walk_memory(struct mk_vcpu *v, struct mk_walk_mem *mem, bool sleep);

/*
 * Was the VMM's own memory what kept mk_fetch() or a walk from the code? Then the
 * guest has not moved, and can go on when it is there again. Asking forgets it.
 */
bool mk_refused(struct mk_vcpu *v);

/* core/emulate.c: execute the instruction at RIP in software, for devices and string I/O */
enum mk_next mk_emulate(struct mk_vcpu *v);
/* Exit handler: switch tasks as a 32-bit guest's TSS says. */
enum mk_next mk_task_switch(struct mk_vcpu *v, struct mk_exit *exit);
/* Fill kvm_run for KVM_EXIT_IO; the data is in v->pio_page */
void mk_pio_exit(struct mk_vcpu *v, u16 port, unsigned int size, unsigned int count, bool in);

/* core/cpuid.c */
/**
 * mk_cpuid_find - the guest's CPUID leaf
 * Return: the entry or NULL; mutex held.
 */
const struct kvm_cpuid_entry2 *mk_cpuid_find(const struct mk_vcpu *v, u32 function, u32 index);
void mk_cpuid_query(struct mk_vcpu *v, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx);
/*
 * KVM_GET_SUPPORTED_CPUID, and KVM_GET_EMULATED_CPUID: *nent says how many fit, then how
 * many there are; -E2BIG: too few
 */
int mk_cpuid_supported(struct kvm_cpuid_entry2 *entries, u32 *nent, bool emulated);
/* A vCPU is new and has no CPUID */
void mk_cpuid_init(struct mk_vcpu *v);
/* XCR0 bits that a guest may have, by what CPUID offers */
u64 mk_supported_xcr0(void);
/* KVM_SET_CPUID2: takes over @entries (kvmalloc'ed, accounted) on success */
int mk_cpuid_set(struct mk_vcpu *v, struct kvm_cpuid_entry2 *entries, u32 nent);
/*
 * CR4, XCR0, MISC_ENABLE or APIC_BASE changed: leaves 1, 7 and 0xd follow (OSXSAVE, OSPKE, MWAIT,
 * APIC, sizes)
 */
void mk_cpuid_refresh(struct mk_vcpu *v);
/* Do corrected machine-check errors interrupt? Then the local APIC has a vector for them. */
static inline bool mk_has_cmci(const struct mk_vcpu *v)
{
	return v->mcg_cap & MCG_CMCI_P;
}

static inline bool mk_guest_has(const struct mk_vcpu *v, u32 function, u32 index, int reg, u32 bit)
{
	const struct kvm_cpuid_entry2 *e = mk_cpuid_find(v, function, index);

	return e && ((&e->eax)[reg] & (1u << bit)); /* reg: 0 eax, 1 ebx, 2 ecx, 3 edx */
}


/* core/msr.c */
/**
 * mk_msr_get, mk_msr_set - one MSR of the guest
 * @host: userspace (KVM_GET/SET_MSRS) asks, not the guest: read-only and
 *        write-once MSRs may be written, CPUID does not hide
 * Return: 0; -EINVAL: not this value, or not for this guest; -ENOENT: there is no
 * such MSR. Either is #GP for the guest, and a short count for userspace.
 * Context: mutex held; works whether or not the vCPU is loaded.
 */
int mk_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host);
int mk_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host);
/* APIC_BASE, wherever the local APIC is */
u64 mk_apic_base(struct mk_vcpu *v);
void mk_msr_reset(struct mk_vcpu *v);
/* The vCPU's CPUID changed, or it is new: which MSRs pass without an exit */
void mk_msr_passthrough(struct mk_vcpu *v);
/* KVM_GET_MSR_INDEX_LIST: fills at most @max of @list; returns how many there are */
unsigned int mk_msr_list(u32 *list, unsigned int max);
/* The same for KVM_GET_MSR_FEATURE_INDEX_LIST; and the value of one: 0 or -EINVAL */
unsigned int mk_msr_feature_list(u32 *list, unsigned int max);
int mk_msr_feature(u32 msr, u64 *val);

/* core/msr_filter.c */
struct kvm_msr_filter;
bool mk_msr_filter_denies(struct mk_vm *vm, u32 msr, bool write);
/* Has the VMM forbidden it? Any context. */
static inline bool mk_msr_filtered(struct mk_vm *vm, u32 msr, bool write)
{
	return unlikely(rcu_access_pointer(vm->msr_filter)) &&
	       mk_msr_filter_denies(vm, msr, write);
}
/* KVM_X86_SET_MSR_FILTER: 0, -EINVAL, -EFAULT, -ENOMEM; may sleep */
int mk_msr_filter_set(struct mk_vm *vm, const struct kvm_msr_filter *user);
void mk_msr_filter_free(struct mk_vm *vm);

/* core/regs.c: control registers as guest and userspace may set them */
int mk_set_cr0(struct mk_vcpu *v, u64 val);	/* 0, or -EINVAL: #GP */
int mk_set_cr3(struct mk_vcpu *v, u64 val);
int mk_set_cr4(struct mk_vcpu *v, u64 val);
int mk_set_efer(struct mk_vcpu *v, u64 val, bool host);
int mk_set_xcr(struct mk_vcpu *v, u32 index, u64 val);
int mk_set_dr(struct mk_vcpu *v, int nr, u64 val);	/* -EINVAL: #GP, -ENOENT: #UD */
u64 mk_get_cr8(struct mk_vcpu *v);
int mk_set_cr8(struct mk_vcpu *v, u64 val);
int mk_load_pdptes(struct mk_vcpu *v, u64 cr3);
int mk_get_regs(struct mk_vcpu *v, struct kvm_regs *regs);
int mk_set_regs(struct mk_vcpu *v, const struct kvm_regs *regs);
int mk_get_sregs(struct mk_vcpu *v, struct kvm_sregs *sregs);
int mk_set_sregs(struct mk_vcpu *v, const struct kvm_sregs *sregs);
/* The same with the PDPTEs, and without interrupts that wait. */
int mk_get_sregs2(struct mk_vcpu *v, struct kvm_sregs2 *sregs);
int mk_set_sregs2(struct mk_vcpu *v, const struct kvm_sregs2 *sregs);

/* core/state.c: 0 or -EINVAL; vCPU loaded */
int mk_get_vcpu_events(struct mk_vcpu *v, struct kvm_vcpu_events *events);
int mk_set_vcpu_events(struct mk_vcpu *v, const struct kvm_vcpu_events *events);
int mk_get_debugregs(struct mk_vcpu *v, struct kvm_debugregs *regs);
int mk_set_debugregs(struct mk_vcpu *v, const struct kvm_debugregs *regs);
int mk_get_xcrs(struct mk_vcpu *v, struct kvm_xcrs *xcrs);
int mk_set_xcrs(struct mk_vcpu *v, const struct kvm_xcrs *xcrs);
/* What KVM_X86_SETUP_MCE may ask for, beside the number of banks: MCG_* */
u64 mk_supported_mcg_cap(void);
int mk_setup_mce(struct mk_vcpu *v, u64 cap);
int mk_set_mce(struct mk_vcpu *v, const struct kvm_x86_mce *mce);
/* -ENOENT: no machine-check register */
int mk_mce_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host);
int mk_mce_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host);

/* core/fpu.c */
void mk_fpu_setup(void);		/* once, before the first vCPU */
u64 mk_host_xcr0(void);
/* Bytes of an XSAVE area with the components of @xcr0, as CPUID leaf 0xd tells them */
u32 mk_xstate_size(u64 xcr0, bool compacted);
int mk_fpu_create(struct mk_vcpu *v);
void mk_fpu_destroy(struct mk_vcpu *v);
void mk_fpu_enter(struct mk_vcpu *v);	/* guest's registers in, on the way to the guest */
void mk_fpu_reload(void);	/* before an entry: the guest's registers may wait in memory */
void mk_fpu_leave(struct mk_vcpu *v);
/* Around entries, interrupts off: XCR0, XSS and PKRU, where guest and host differ */
void mk_xstate_enter(struct mk_vcpu *v);
void mk_xstate_leave(struct mk_vcpu *v);
void mk_xstate_update(struct mk_vcpu *v);	/* CR4, XCR0 or XSS of the guest changed */
/* An XMM register of the guest; between mk_fpu_enter() and mk_fpu_leave() */
void mk_fpu_get_xmm(unsigned int nr, u64 val[2]);
void mk_fpu_set_xmm(unsigned int nr, const u64 val[2]);
/* An MMX register, likewise; false where an exception of the x87 is pending. */
bool mk_fpu_get_mmx(unsigned int nr, u64 *val);
bool mk_fpu_set_mmx(unsigned int nr, u64 val);
int mk_get_fpu(struct mk_vcpu *v, struct kvm_fpu *fpu);
int mk_set_fpu(struct mk_vcpu *v, const struct kvm_fpu *fpu);
/* Bytes of what KVM_GET_XSAVE2 fills; at least the 4096 of struct kvm_xsave */
u32 mk_xsave_size(void);
/* @buf: an XSAVE area, not compacted, of mk_xsave_size() bytes */
void mk_get_xsave(struct mk_vcpu *v, void *buf);
int mk_set_xsave(struct mk_vcpu *v, const void *buf);

/* core/time.c */
/* The last CPU goes to sleep, wakes up; interrupts off, no other CPU is there. */
void mk_time_suspend(void);
void mk_time_resume(void);
/* The host's counter as if it had never been reset, in ticks. */
u64 mk_host_tsc(void);
/* Before the vCPU is loaded: add what the host's counter has lost meanwhile. */
void mk_time_catch_up(struct mk_vcpu *v);
u64 mk_guest_tsc(struct mk_vcpu *v);
/* Ticks of the host's counter, in the guest's. */
u64 mk_guest_ticks(const struct mk_vcpu *v, u64 ticks);
void mk_time_init(struct mk_vcpu *v);	/* a new vCPU counts at its VM's rate */
/*
 * KVM_SET_TSC_KHZ: of a vCPU, whose counter goes on from where it is, and of the vCPUs that
 * are yet to come; 0: the host's rate. 0, or -EINVAL: the CPU cannot. vCPU loaded.
 */
int mk_set_tsc_khz(struct mk_vcpu *v, unsigned long khz);
int mk_set_vm_tsc_khz(struct mk_vm *vm, unsigned long khz);
void mk_set_guest_tsc(struct mk_vcpu *v, u64 tsc);
/* Userspace sets it, perhaps for one vCPU after the other. Any context, vCPU loaded. */
void mk_set_vm_tsc(struct mk_vcpu *v, u64 tsc);
void mk_shift_guest_tsc(struct mk_vcpu *v, s64 delta);
/* The same as mk_set_vm_tsc(), and exact: @offset in ticks to the host's counter as it is */
void mk_set_vm_tsc_offset(struct mk_vcpu *v, s64 offset);

/* core/pv.c */
void mk_clock_init(struct mk_vm *vm);
/* KVM_GET_CLOCK, any context; KVM_SET_CLOCK, may sleep: 0 or -EINVAL */
int mk_get_clock(struct mk_vm *vm, struct kvm_clock_data *data);
int mk_set_clock(struct mk_vm *vm, const struct kvm_clock_data *data);
/* The host has slept; interrupts off, no other CPU is there. */
void mk_clock_resume(void);
/* The vCPU gets onto a CPU: must its guest be told of a new moment? Any context. */
void mk_clock_load(struct mk_vcpu *v);
/**
 * mk_clock_update - do what MK_REQ_CLOCK asks for
 *
 * Writes the vCPU's clock, and the VM's wall clock if it was asked for, to guest
 * memory. Context: mutex held, the VM's own mm, may sleep; loaded, so that its TSC
 * has caught up.
 */
void mk_clock_update(struct mk_vcpu *v);
/* KVM_KVMCLOCK_CTRL: 0; -EINVAL where the guest has no clock */
int mk_clock_stopped(struct mk_vcpu *v);
/**
 * mk_pv_publish - change what a guest may be reading
 * @at:      gpa of its version, which is odd meanwhile
 * @version: as it is now
 * @gpa, @data, @len: what is written
 *
 * Where the guest has put no memory there is nothing to tell. Context: may sleep.
 */
void mk_pv_publish(struct mk_vcpu *v, gpa_t at, u32 version, gpa_t gpa, const void *data, size_t len);
/* KVM's own MSRs; -ENOENT: it is none. Do not sleep. */
int mk_pv_msr_get(struct mk_vcpu *v, u32 msr, u64 *val);
int mk_pv_msr_set(struct mk_vcpu *v, u32 msr, u64 val);
void mk_pv_reset(struct mk_vcpu *v);
/* May the guest use KVM_FEATURE_* @feature? */
static inline bool mk_pv_has(const struct mk_vcpu *v, unsigned int feature)
{
	return !v->pv_enforced || (v->pv_features & (1u << feature));
}

/* core/steal.c */
/* Does the host know how long a thread waits? */
bool mk_steal_possible(void);
int mk_steal_set(struct mk_vcpu *v, u64 val);	/* the MSR: 0 or -EINVAL; does not sleep */
void mk_steal_note_thread(struct mk_vcpu *v);	/* the calling thread is new to it */
/* The vCPU gets onto a CPU; its running thread loses its CPU. Any context, the VM's own mm. */
void mk_steal_load(struct mk_vcpu *v);
void mk_steal_preempted(struct mk_vcpu *v);
/* Do what MK_REQ_STEAL asks for. Context: as for mk_clock_update(). */
void mk_steal_update(struct mk_vcpu *v);

/* core/eoi.c; on the vCPU's own thread */
int mk_eoi_set(struct mk_vcpu *v, u64 val);	/* the MSR: 0 or -EINVAL; does not sleep */
/* The guest is about to get @vector from its local APIC. Any context. */
void mk_eoi_offer(struct mk_vcpu *v, u8 vector);
/**
 * mk_eoi_settle - end an offer if there is one, before the APIC is looked at
 * Return: true; false where @sleep forbids to wait for the guest's memory, and the APIC
 * may be behind.
 * Context: the VM's own mm; may sleep if @sleep.
 */
bool mk_eoi_end_offer(struct mk_vcpu *v, bool sleep);
static inline bool mk_eoi_settle(struct mk_vcpu *v, bool sleep)
{
	return likely(!v->eoi_offered) || mk_eoi_end_offer(v, sleep);
}

#endif
