/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the board's chips reach each other.
 *
 * PIC, I/O APIC and PIT share one lock, chip->lock [B]: an interrupt usually
 * visits all three. It is a raw spinlock taken with interrupts off, because a
 * timer raises interrupts too; under it one may deliver to local APICs, which
 * take no lock at all: their IRR and TMR are changed atomically by anybody,
 * everything else by the vCPU's own thread.
 *
 * The chips keep their registers in the ABI's own structs, so saving and
 * restoring one is a copy.
 *
 * Read next: board/pic.c, board/ioapic.c, board/pit.c, board/lapic.h.
 */
#ifndef MK_BOARD_CHIPS_H
#define MK_BOARD_CHIPS_H

#include <linux/hrtimer.h>
#include <linux/spinlock.h>

#include "core/vcpu.h"

#define MK_NR_VECTORS	256

/* A periodic timer of the guest interrupts the host no more often than this. */
#define MK_MIN_PERIOD_NS	(200 * NSEC_PER_USEC)

#define MK_PIT_GSI	0

struct mk_lapic;
struct mk_pit;
struct mk_routes;

/* Who drives a line: its level is the OR of theirs. */
enum { MK_SRC_USER, MK_SRC_RESAMPLE, MK_SRC_PIT };

struct mk_irqchip {
	struct mk_vm *vm;		/* (c) */
	raw_spinlock_t lock;
	struct kvm_pic_state pic[2];	/* [B] master, slave */
	int pic_vector;			/* [B], read without: answer to an INTA now; -1: none */
	struct kvm_ioapic_state ioapic;	/* [B] irr holds the level of each line */
	u32 delivered;			/* [B] edges in ioapic.irr that have been sent */
	u32 eoi_pins[MK_NR_VECTORS];	/* [B], read without: pins that wait for a vector's EOI */
	u32 eoi_version;		/* [B], read without: eoi_pins has changed so often */
	u32 new_pins[MK_NR_VECTORS];	/* [B] mk_ioapic_recount()'s: too much for a stack */
	u32 watched;			/* [B] mk_watched_pins(), as eoi_pins has it */
	bool split;			/* (c) local APICs alone; the rest is userspace's */
	u32 nr_reserved;		/* (c) GSIs below this are pins of userspace's I/O APIC */
	struct mk_pit *pit;		/* set once under vm->lock, with release semantics */
	struct mk_routes __rcu *routes;	/* replaced under [B] */
	u8 users[3][KVM_IOAPIC_NUM_PINS]; /* [B] bits of MK_SRC_*, by chip_id and pin */
	u16 pic_done;			/* [B] PIC lines whose service has ended: for mk_acked() */
	unsigned int nr_resamplers;	/* [B] */
	spinlock_t irqfd_lock;		/* [Q] interrupts off; nothing is taken under it */
	struct list_head irqfds;	/* [Q], read under RCU */

	/* Who has which logical ID; read without the lock: see board/dest.c. */
	raw_spinlock_t map_lock;
	int logical_mode;		/* MK_LOGICAL_* */
	struct mk_lapic *logical[64];	/* flat: by bit; else by cluster times four, and bit */
};

/* How logical destinations are to be read: all APICs agree, or somebody has yet to say. */
enum {
	MK_LOGICAL_NONE, MK_LOGICAL_FLAT, MK_LOGICAL_CLUSTER, MK_LOGICAL_X2APIC, MK_LOGICAL_MIXED,
};

/* NULL until KVM_CREATE_IRQCHIP, or KVM_CAP_SPLIT_IRQCHIP. */
static inline struct mk_irqchip *mk_irqchip_of(struct mk_vm *vm)
{
	return mk_board(vm) ? vm->irqchip : NULL;
}

/* NULL unless PIC and I/O APIC are ours, too. */
static inline struct mk_irqchip *mk_whole_irqchip_of(struct mk_vm *vm)
{
	struct mk_irqchip *chip = mk_irqchip_of(vm);

	return chip && !chip->split ? chip : NULL;
}

/*
 * What became of an interrupt, as KVM_IRQ_LINE_STATUS tells it: the number of
 * new ones, 0 if it met one of its kind still waiting, -1 if it went nowhere.
 */
static inline int mk_status_add(int sum, int status)
{
	return status < 0 ? sum : status + max(sum, 0);
}

/* routing.c */
/* One source's level of all that a GSI is wired to; [B] held; a status */
int mk_gsi_set(struct mk_irqchip *chip, unsigned int source, u32 gsi, bool level);
/* The same, and an edge, for callers of any context without [B] */
int mk_irq_set(struct mk_irqchip *chip, unsigned int source, u32 gsi, bool level);
int mk_irq_pulse(struct mk_irqchip *chip, unsigned int source, u32 gsi);
/* Send a message; a status. Any context. */
int mk_msi_send(struct mk_vm *vm, const struct kvm_irq_routing_msi *msi);
/* The guest is done with what came through @pins of chip @which; without [B] */
void mk_acked(struct mk_irqchip *chip, unsigned int which, unsigned long pins);
/* Pins of the I/O APIC whose acknowledgement somebody waits for even if they are edges; [B] */
u32 mk_watched_pins(struct mk_irqchip *chip);
/* Replace the table; 0, -EINVAL, -ENOMEM. vm->lock held. */
int mk_routes_set(struct mk_irqchip *chip, const struct kvm_irq_routing_entry *entries, u32 nr);
int mk_routes_default(struct mk_irqchip *chip);
int mk_routes_empty(struct mk_irqchip *chip);
void mk_routes_free(struct mk_irqchip *chip);
/* Whose EOI may userspace want to hear of? Sets pins[vector]; [B] held. */
void mk_routes_level_vectors(struct mk_irqchip *chip, u32 *pins);
/* Would a pin of userspace's I/O APIC bring this APIC @vector as a level? */
bool mk_routes_reach(struct mk_lapic *apic, u8 vector);

/* irqfd.c */
/* Lower what resamplers hold up on @gsi and tell them; without [B] */
void mk_irqfd_acked(struct mk_vm *vm, u32 gsi);

/* pic.c: [B] held, except mk_pic_ack() and mk_pic_pio() */
void mk_pic_init(struct mk_irqchip *chip);
int mk_pic_set_line(struct mk_irqchip *chip, unsigned int irq, bool level);
void mk_pic_pio(struct mk_irqchip *chip, u16 port, u8 *val, bool write);
void mk_pic_restore(struct mk_irqchip *chip, int which, const struct kvm_pic_state *state);
/* A CPU's INTA: the vector, or -1 if there is none any more. */
int mk_pic_ack(struct mk_irqchip *chip);

/* ioapic.c: [B] held, except mk_ioapic_mmio() and mk_ioapic_eoi() */
void mk_ioapic_init(struct mk_irqchip *chip);
int mk_ioapic_set_line(struct mk_irqchip *chip, unsigned int pin, bool level);
void mk_ioapic_save(struct mk_irqchip *chip, struct kvm_ioapic_state *state);
void mk_ioapic_restore(struct mk_irqchip *chip, const struct kvm_ioapic_state *state);
bool mk_ioapic_mmio(struct mk_irqchip *chip, gpa_t gpa, unsigned int len, void *data, bool write);
/* What is wired to the pins, or watches them, has changed; [B] held. */
void mk_ioapic_recount(struct mk_irqchip *chip);
/* A vCPU wrote the EOI of a vector that chip->eoi_pins knows. */
void mk_ioapic_eoi(struct mk_irqchip *chip, u8 vector);

/* pit.c */
bool mk_pit_pio(struct mk_pit *pit, u16 port, u8 *val, bool write);
void mk_pit_free(struct mk_pit *pit);
/* The guest took IRQ 0 and can take the next one; [B] held. */
void mk_pit_taken(struct mk_pit *pit);

/**
 * struct mk_apic_msg - an interrupt on its way to local APICs
 * @dest:      APIC ID or logical destination; MK_DEST_ALL for everyone
 * @vector:    interrupt vector
 * @mode:      delivery mode, as bits 10:8 of an ICR or a redirection entry
 * @logical:   @dest is a logical destination
 * @level:     level-triggered: its EOI is told to the I/O APIC
 * @shorthand: MK_TO_*, as bits 19:18 of the ICR
 */
struct mk_apic_msg {
	u32 dest;
	u8 vector;
	u8 mode;
	bool logical;
	bool level;
	u8 shorthand;
};

#define MK_DEST_ALL	0xffffffffu
/* "Everyone" where a destination has eight bits. */
#define MK_DEST_ALL_8	0xffu

enum { MK_TO_DEST, MK_TO_SELF, MK_TO_ALL, MK_TO_OTHERS };
enum {
	MK_DM_FIXED = 0, MK_DM_LOWEST = 1, MK_DM_NMI = 4, MK_DM_INIT = 5, MK_DM_STARTUP = 6,
	MK_DM_EXTINT = 7,
};

/* dest.c */
/* Send; @src is the sending APIC, or NULL for the I/O APIC. A status. Any context. */
int mk_lapic_deliver(struct mk_vm *vm, struct mk_lapic *src, const struct mk_apic_msg *msg);
/* The same to one APIC ID, of any width, whatever the sender's mode */
int mk_lapic_deliver_id(struct mk_vm *vm, const struct mk_apic_msg *msg);
/* Is @apic among the destinations of what a device sends? */
bool mk_lapic_is_destination(const struct mk_lapic *apic, const struct mk_apic_msg *msg);

/* lapic.c: interrupts */
/* The PIC's output, which is every LINT0 pin, rose. Any context. */
void mk_lapic_lint0(struct mk_vm *vm);
/* Does LINT0 bring the PIC's interrupts to this vCPU? */
bool mk_lapic_takes_pic(const struct mk_vcpu *v);
/* The vector that the APIC would have served now, or -1; ack takes that one. */
int mk_lapic_pending(const struct mk_vcpu *v);
void mk_lapic_eoi_of(struct mk_vcpu *v);
bool mk_lapic_eoi_is_alone(const struct mk_vcpu *v, u8 vector);
void mk_lapic_ack(struct mk_vcpu *v, u8 vector);

/* What userspace's PIC has sent it, or -1; take it */
int mk_lapic_extint_waiting(const struct mk_vcpu *v);
int mk_lapic_extint_take(struct mk_vcpu *v);
/* Has it room for an interrupt of userspace's PIC, and would take it? */
bool mk_lapic_extint_free(struct mk_vcpu *v);
/* A machine-check bank signals an error that needs no machine check. */
void mk_lapic_cmci(struct mk_vcpu *v);

/* The class of an interrupt that waits for CR8 to fall below it; 0: none does */
u8 mk_lapic_cr8_threshold(struct mk_vcpu *v);

/* lapic_virt.c: see the core's table */
void mk_lapic_virtualize(struct mk_vcpu *v);
void mk_lapic_virt_eoi(struct mk_vcpu *v, u8 vector);
void mk_lapic_virt_write(struct mk_vcpu *v, u16 offset);

/* lapic_regs.c: what the core's table offers */
int mk_lapic_init(struct mk_vcpu *v);
void mk_lapic_free(struct mk_vcpu *v);
void mk_lapic_reset(struct mk_vcpu *v, bool init);
bool mk_lapic_mmio(struct mk_vcpu *v, gpa_t gpa, unsigned int len, void *data, bool write);
u64 mk_lapic_get_cr8(struct mk_vcpu *v);
void mk_lapic_set_cr8(struct mk_vcpu *v, u64 cr8);
int mk_lapic_ipi(struct mk_vcpu *v, u32 dest, u32 icr);
int mk_lapic_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host);
int mk_lapic_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host);

#endif
