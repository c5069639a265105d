/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The core as the board sees it, without what is behind it: what module/core
 * declares in vm.h and vcpu.h and the board uses, nothing else.
 */
#ifndef SHIM_CORE_VCPU_H
#define SHIM_CORE_VCPU_H

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>
#include <linux/bitops.h>
#include <linux/spinlock.h>

#define READ_ONCE(x)		(x)
#define WRITE_ONCE(x, val)	((void)((x) = (val)))
#define likely(x)		(x)
#define unlikely(x)		(x)
#define ARRAY_SIZE(a)		((int)(sizeof(a) / sizeof(*(a))))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define min(a, b)		((a) < (b) ? (a) : (b))
#define max(a, b)		((a) > (b) ? (a) : (b))
#define min_t(type, a, b)	min((type)(a), (type)(b))
#define max_t(type, a, b)	max((type)(a), (type)(b))
#define U32_MAX			0xffffffffu
#define PAGE_SHIFT		12
#define PAGE_MASK		(~0xfffULL)

typedef u64 gpa_t;

struct mk_vm;
struct mk_vcpu;

#define MK_NR_GSI	4096

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

#define FAKE_VCPUS	4

struct xarray { struct mk_vcpu *entry[FAKE_VCPUS]; };

#define xa_load(xa, id)		((id) < FAKE_VCPUS ? (xa)->entry[id] : NULL)
#define xa_for_each(xa, id, v) \
	for (id = 0; id < FAKE_VCPUS; id++) if ((v = (xa)->entry[id]))

struct mk_vm {
	struct mutex lock;
	struct xarray vcpus;
	int nr_vcpus;
	const struct mk_board_ops *board;
	void *irqchip;
	bool kernel_pic;
	bool apic_ids32, apic_no_quirk;
	u32 quirks_off;
	u64 apic_bus_ns;
};

static inline bool mk_has_quirk(const struct mk_vm *vm, u32 quirk)
{
	return !(vm->quirks_off & quirk);
}

#define MK_APIC_STATUS	BIT(0)
#define MK_APIC_EOIS	BIT(1)

struct mk_cpu {
	u64 cr8;
	bool cr8_free;
	u8 cr8_threshold;
	bool can_virt_apic;
	bool virt_apic;
	u8 apic_changed, apic_irr, apic_isr;
	u64 apic_eois[4];
	void *apic_regs;
	u64 reads, writes;	/* of the x2APIC, those that do not exit */
};

struct mk_backend {
	void (*pass_msr)(struct mk_cpu *cpu, u32 msr, bool read, bool write);
};

extern const struct mk_backend *mk_hw;

struct mk_vcpu {
	struct mk_vm *vm;
	int id;
	struct mk_cpu cpu;
	struct { u32 control; } debug;
	u8 maxphyaddr;
	u32 tsc_khz;
	void *apic;
	bool event;		/* MK_REQ_EVENT */
	unsigned int nmis, inits;
	u8 eoi_vector;
	u8 sipi;		/* vector of the last one, or 0 */
};

#define mk_board(vm)			((vm)->board)
#define mk_request(v, req)		((void)((v)->event = true))
#define mk_vcpu_kick(v)			((void)(v))
#define mk_queue_nmi(v)			((void)(v)->nmis++)
#define mk_queue_init(v)		((void)((v)->sipi = 0, (v)->inits++))
#define mk_queue_sipi(v, vector)	((void)((v)->sipi = (vector)))
#define mk_irq_allowed(v)		((void)(v), true)
#define mk_is_boot_vcpu(v)		((v)->id == 0)
#define mk_cpuid_refresh(v)		((void)(v))

/* One thread: RCU is what it protects. */
#define __rcu
struct rcu_head { char unused; };
struct list_head { struct list_head *next, *prev; };
#define INIT_LIST_HEAD(l)		((void)((l)->next = (l)->prev = (l)))
#define rcu_read_lock()			((void)0)
#define rcu_read_unlock()		((void)0)
#define rcu_dereference(p)		(p)
#define rcu_dereference_protected(p, c)	(p)
#define rcu_assign_pointer(p, v)	((void)((p) = (v)))
#define rcu_replace_pointer(p, v, c)	({ __typeof__(p) old_ = (p); (p) = (v); old_; })

#define ALIGN(x, a)			(((x) + (a) - 1) & ~((a) - 1))
#define struct_size(p, member, n)	(sizeof(*(p)) + sizeof((p)->member[0]) * (n))
#define IS_ERR(p)			((unsigned long)(p) >= -4095ul)
#define ERR_PTR(err)			((void *)(long)(err))
#define PTR_ERR(p)			((int)(long)(p))

enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* Everything that the board asks for. */
static inline bool mk_guest_has(const struct mk_vcpu *v, u32 function, u32 index, int reg, u32 bit)
{
	return true;
}

static inline bool mk_has_cmci(const struct mk_vcpu *v)
{
	return false;
}

u64 mk_guest_tsc(struct mk_vcpu *v);

#endif
