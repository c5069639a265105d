/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine: its memory slots, nested page tables and vCPUs, and the
 * table through which the board (floor 5) serves it.
 *
 * Locks, outermost first:
 *   [L] vm->lock        mutex: slots, vCPU creation, irqchip creation
 *   [V] vcpu->mutex     mutex: everything of one vCPU
 *   [M] vm->mmu_lock    spinlock: nested page tables, publishing of slots
 * A field marked [R] is read under RCU or vm->srcu and changed under [L];
 * (c) is constant after creation; (a) is atomic.
 *
 * Read next: core/vcpu.h, core/mmu.h, core/memory.h.
 */
#ifndef MK_CORE_VM_H
#define MK_CORE_VM_H

#include <linux/cpumask.h>
#include <linux/kvm.h>
#include <linux/kvm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/xarray.h>

struct mk_vcpu;
struct mk_vm;
struct mk_slots;
struct mk_doorbells;
struct mk_msr_filter;

/* As stock KVM has them; an APIC ID is the id that userspace chose. */
#define MK_MAX_VCPUS	1024
#define MK_MAX_VCPU_ID	4096	/* one more than the highest */
#define MK_NR_GSI	4096	/* and as many routes */

/**
 * struct mk_board_ops - what the board does for the core
 *
 * Handed down by KVM_CREATE_IRQCHIP; NULL in struct mk_vm until then. All
 * vCPU operations run with vcpu->mutex held unless said otherwise, and all but
 * vcpu_init and vcpu_free also where interrupts are disabled.
 *
 * @vcpu_init:   give a new vCPU its local APIC (v->apic); errno
 * @vcpu_free:   take it back
 * @vcpu_reset:  INIT or power-on state
 * @irq_pending: a vector that the vCPU would take now (above its PPR, or the
 *               PIC's through LINT0), or -1; changes nothing. Also called
 *               from the halt loop; must be cheap
 * @irq_take:    take such a vector (IRR to ISR, or PIC INTA) if it @can be and
 *               mk_irq_allowed(); -1: none was. @more: one waits still. What the CPU
 *               delivers by itself does not count. Sets mk_cpu.cr8_threshold, too
 * @virtualize:  before an entry, with mk_cpu.virt_apic: work out what the CPU is to know
 * @virt_eoi, @virt_write: the guest has ended a vector, or written the register at this
 *               offset, by itself, and the board is to do what follows
 * @eoi:         the guest is done with the highest vector in service
 * @eoi_is_alone: @vector is the only one in service, none waits, and nobody but the
 *               local APIC is to hear of its end
 * @extint_free: the vCPU listens to a PIC in userspace, and has nothing of it waiting
 * @cmci:        a machine-check bank signals a corrected error
 * @mmio:        a guest access of 1..8 bytes; true if it was the board's
 * @pio:         likewise for ports, 1, 2 or 4 bytes
 * @get_cr8, @set_cr8: the task priority (TPR bits 7:4)
 * @ipi:         send what the low half of an ICR says to one APIC ID; at least 0
 *               where the APIC took it. rcu_read_lock() is not needed
 * @msr_get, @msr_set: APIC_BASE, x2APIC, TSC_DEADLINE; -ENOENT: not the board's;
 *               -EINVAL: #GP. @host: userspace asks, not the guest
 * @vm_free:     the VM dies: no timer delivers any more. To be called before the
 *               first vcpu_free
 */
struct mk_board_ops {
	int (*vcpu_init)(struct mk_vcpu *v);
	void (*vcpu_free)(struct mk_vcpu *v);
	void (*vcpu_reset)(struct mk_vcpu *v, bool init);
	int (*irq_pending)(struct mk_vcpu *v);
	int (*irq_take)(struct mk_vcpu *v, bool can, bool *more);
	void (*virtualize)(struct mk_vcpu *v);
	void (*virt_eoi)(struct mk_vcpu *v, u8 vector);
	void (*virt_write)(struct mk_vcpu *v, u16 offset);
	void (*eoi)(struct mk_vcpu *v);
	bool (*eoi_is_alone)(const struct mk_vcpu *v, u8 vector);
	bool (*extint_free)(struct mk_vcpu *v);
	void (*cmci)(struct mk_vcpu *v);
	bool (*mmio)(struct mk_vcpu *v, gpa_t gpa, unsigned int len, void *data, bool write);
	bool (*pio)(struct mk_vcpu *v, u16 port, unsigned int size, void *data, bool write);
	u64 (*get_cr8)(struct mk_vcpu *v);
	void (*set_cr8)(struct mk_vcpu *v, u64 cr8);
	int (*ipi)(struct mk_vcpu *v, u32 dest, u32 icr);
	int (*msr_get)(struct mk_vcpu *v, u32 msr, u64 *val, bool host);
	int (*msr_set)(struct mk_vcpu *v, u32 msr, u64 val, bool host);
	void (*vm_free)(struct mk_vm *vm);
};

struct mk_vm {
	struct mutex lock;
	refcount_t users;		/* (a) VM fd and each vCPU fd */
	struct mm_struct *mm;		/* (c) its creator's; ioctls from another mm: -EIO */

	struct mk_slots __rcu *slots;	/* [R] */
	struct srcu_struct srcu;	/* held while guest memory is read or written by hva */

	u32 dirty_log_flags;		/* [L] KVM_DIRTY_LOG_* that userspace asked for */

	u32 dirty_ring_size;		/* [L] until there is a vCPU: entries; 0: bits are enough */

	spinlock_t mmu_lock;		/* interrupts stay enabled: its holder waits for IPIs */
	hpa_t tdp_root;			/* (c) as the hardware wants it, encryption bit included */
	bool nx_huge;			/* (c) large pages must not be executable: see core/mmu.c */
	unsigned long mmu_busy;		/* [M] invalidations in progress */
	unsigned long busy_start, busy_end; /* [M] hva range that they cover together */
	struct mmu_notifier notifier;
	struct list_head spare_tables;	/* [M] zeroed pages for nested tables */
	unsigned long nr_table_pages;	/* [M] pages in nested tables */
	cpumask_var_t flush_cpus;	/* [M] scratch space of a flush */

	struct xarray vcpus;		/* id -> struct mk_vcpu; stored under [L] */
	int nr_vcpus;			/* [L] */
	u32 max_vcpu_id;		/* [L] one more than the highest that may be created */
	u32 nr_mmu_pages;		/* [L] as userspace set it; nothing follows from it */
	struct mk_msr_filter __rcu *msr_filter; /* changed under [L]; NULL: all is allowed */
	u32 quirks_off;			/* (a) KVM_X86_QUIRK_*: see mk_has_quirk() */
	bool exit_on_emulation_failure;	/* (a) user-mode code of the guest ends it, too */
	bool tells_payloads;		/* (a) KVM_CAP_EXCEPTION_PAYLOAD */
	bool tells_triple_fault;	/* (a) KVM_CAP_X86_TRIPLE_FAULT_EVENT */
	u32 exits_off;			/* (a) KVM_X86_DISABLE_EXITS_*, for vCPUs to come */
	u32 msr_exits;			/* (a) KVM_MSR_EXIT_REASON_* that userspace wants to hear of */
	bool platform_info_hidden;	/* (a) a guest that reads MSR_PLATFORM_INFO gets #GP */
	bool apic_ids32;		/* (a) KVM_X2APIC_API_USE_32BIT_IDS */
	bool apic_no_quirk;		/* (a) KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK */
	u32 boot_id;			/* [L] until there is a vCPU: id of the boot processor */

	const struct mk_board_ops *board; /* set once under [L], with release semantics */
	void *irqchip;			/* the board's own */
	bool kernel_pic;		/* [L] until there is a vCPU: the board has a PIC, too */

	u64 apic_bus_ns;		/* [L] until there is a vCPU: what a count of the timers lasts */

	gpa_t tss_addr, ident_addr;	/* [L] */
	struct mk_doorbells __rcu *doorbells[2]; /* [R] by enum mk_space; NULL: there are none */
	struct page *ring;		/* (c) KVM_COALESCED_MMIO_PAGE_OFFSET of each vCPU's mmap */
	spinlock_t ring_lock;		/* around putting something into the ring */

	u32 tsc_khz;			/* (c) of the host */
	u64 tsc_created;		/* (c) host ticks since ever: all guest TSCs were 0 then */
	raw_spinlock_t tsc_lock;
	u32 guest_khz;			/* under tsc_lock: of new vCPUs, and what makes it of tsc_khz */
	u64 guest_ratio;
	s64 tsc_set_offset;		/* under tsc_lock: of the last TSC that userspace set, */
	u32 tsc_set_khz;		/* at this rate: see core/time.c */
	/* Under tsc_lock, too, unless marked: the VM's clock, see core/pv.c */
	s64 clock_offset;		/* ns from the host's boot clock */
	u64 clock_tsc, clock_ns;	/* a moment: host ticks since ever, and the clock */
	unsigned int clock_resumes;	/* how often the host had slept by then */
	u64 wall_clock_msr;		/* (a) as a vCPU has written it last */
};

static inline const struct mk_board_ops *mk_board(const struct mk_vm *vm)
{
	return smp_load_acquire(&vm->board);
}

/*
 * What stock KVM has always done against the manuals, and does until userspace declines
 * it: KVM's API document, KVM_CAP_DISABLE_QUIRKS2. Of what it lists, caches are the
 * host's here whatever a guest writes to CR0 (KVM_X86_QUIRK_CD_NW_CLEARED).
 */
#define MK_QUIRKS	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE |	\
			 KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT |	\
			 KVM_X86_QUIRK_FIX_HYPERCALL_INSN | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)

static inline bool mk_has_quirk(const struct mk_vm *vm, u32 quirk)
{
	return !(READ_ONCE(vm->quirks_off) & quirk);
}

/* core/vm.c */
struct mk_vm *mk_vm_create(void);
void mk_vm_get(struct mk_vm *vm);
void mk_vm_put(struct mk_vm *vm);

#endif
