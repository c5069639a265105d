// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC of a vCPU, xAPIC and x2APIC, with its timer.
 *
 * Its registers live in a page laid out as the manual and KVM_GET_LAPIC have
 * it. Anybody may set bits in IRR and TMR, atomically; all other registers
 * belong to the vCPU's thread, and others only look at them. Each of IRR and
 * ISR has a summary, one bit for each of its eight words that is not empty, so
 * that the highest vector is found without a search. PPR is kept up to date
 * whenever TPR or ISR change.
 *
 * Source: SDM vol. 3A, "Advanced Programmable Interrupt Controller". The timer
 * counts at 1 GHz before its divider.
 *
 * Knows: the core's requests and kicks, and the I/O APIC's EOI. Read next:
 * core/events.c, which asks for vectors; board.c.
 */
#include <linux/bitops.h>
#include <linux/math64.h>
#include <linux/slab.h>
#include <asm/apicdef.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>

#include "board/board.h"
#include "board/chips.h"

#define LAPIC_VERSION	0x50014		/* integrated, six local vectors */
#define LVT_TIMER_MODES	(APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE)

/* Error Status Register */
#define ESR_SEND_VECTOR		BIT(5)
#define ESR_RECEIVE_VECTOR	BIT(6)
#define ESR_REGISTER		BIT(7)

struct mk_lapic {
	struct mk_vcpu *v;		/* (c) */
	struct mk_irqchip *chip;	/* (c) */
	void *regs;			/* (c) the page */
	u64 base;			/* IA32_APIC_BASE */
	unsigned long irr_words;	/* (a) summary of IRR */
	unsigned long isr_words;	/* summary of ISR */
	atomic_t errors;		/* (a) what the next write to ESR makes visible */
	unsigned int lowest_taken;	/* (a) lowest-priority interrupts it was chosen for */
	struct hrtimer timer;
	u64 period;			/* ns from initial count to 0; 0: stopped */
	u64 deadline;			/* IA32_TSC_DEADLINE, while the timer runs */
};

static u32 *reg_at(const struct mk_lapic *apic, unsigned int reg)
{
	return apic->regs + reg;
}

static u32 get(const struct mk_lapic *apic, unsigned int reg)
{
	return READ_ONCE(*reg_at(apic, reg));
}

static void put(struct mk_lapic *apic, unsigned int reg, u32 val)
{
	WRITE_ONCE(*reg_at(apic, reg), val);
}

/* The word of IRR, ISR or TMR that has @vector's bit. */
static atomic_t *word_of(const struct mk_lapic *apic, unsigned int reg, u8 vector)
{
	return apic->regs + reg + vector / 32 * 0x10;
}

static bool x2apic(const struct mk_lapic *apic)
{
	return apic->base & X2APIC_ENABLE;
}

static bool hw_enabled(const struct mk_lapic *apic)
{
	return READ_ONCE(apic->base) & MSR_IA32_APICBASE_ENABLE;
}

static bool enabled(const struct mk_lapic *apic)
{
	return hw_enabled(apic) && (get(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED);
}

/*
 * The highest vector of IRR or ISR, or -1. Who sets a bit in IRR adds it to the
 * summary a moment later, perhaps when the vector has been taken already: an
 * empty word means to look at the next one.
 */
static int highest(const struct mk_lapic *apic, unsigned int reg, unsigned long words)
{
	unsigned int word;
	u32 bits;

	for (; words; words &= ~BIT(word)) {
		word = __fls(words);
		bits = get(apic, reg + word * 0x10);
		if (likely(bits))
			return word * 32 + __fls(bits);
	}
	return -1;
}

static void update_ppr(struct mk_lapic *apic)
{
	u32 tpr = get(apic, APIC_TASKPRI);
	int isr = highest(apic, APIC_ISR, apic->isr_words);
	u32 class = isr < 0 ? 0 : isr & 0xf0;

	put(apic, APIC_PROCPRI, (tpr & 0xf0) >= class ? tpr : class);
}

static int pending(const struct mk_lapic *apic)
{
	int vector = highest(apic, APIC_IRR, READ_ONCE(apic->irr_words));

	if (vector < 0 || (vector & 0xf0) <= (get(apic, APIC_PROCPRI) & 0xf0) || !enabled(apic))
		return -1;
	return vector;
}

/* The vCPU did something that may let an interrupt in. */
static void recheck(struct mk_lapic *apic)
{
	if (pending(apic) >= 0)
		mk_request(apic->v, MK_REQ_EVENT);
}

int mk_lapic_pending(const struct mk_vcpu *v)
{
	return pending(v->apic);
}

int mk_lapic_ack(struct mk_vcpu *v)
{
	struct mk_lapic *apic = v->apic;
	int vector = pending(apic);
	atomic_t *irr, *isr;

	if (vector < 0)
		return -1;
	irr = word_of(apic, APIC_IRR, vector);
	isr = word_of(apic, APIC_ISR, vector);

	atomic_andnot(BIT(vector % 32), irr);
	if (!atomic_read(irr)) {
		clear_bit(vector / 32, &apic->irr_words);
		smp_mb__after_atomic();
		/* Who set a bit in between has perhaps set the summary before we cleared it. */
		if (atomic_read(irr))
			set_bit(vector / 32, &apic->irr_words);
	}
	atomic_set(isr, atomic_read(isr) | BIT(vector % 32));
	__set_bit(vector / 32, &apic->isr_words);
	put(apic, APIC_PROCPRI, vector & 0xf0);
	return vector;
}

static void eoi(struct mk_lapic *apic)
{
	int vector = highest(apic, APIC_ISR, apic->isr_words);
	atomic_t *isr;

	if (vector < 0)
		return;
	isr = word_of(apic, APIC_ISR, vector);
	atomic_set(isr, atomic_read(isr) & ~BIT(vector % 32));
	if (!atomic_read(isr))
		__clear_bit(vector / 32, &apic->isr_words);
	update_ppr(apic);
	if (READ_ONCE(apic->chip->eoi_pins[vector]))
		mk_ioapic_eoi(apic->chip, vector);
	recheck(apic);
}

/* Returns a status: 1, or 0 where it waits already. */
static int set_irr(struct mk_lapic *apic, u8 vector, bool level)
{
	atomic_t *tmr = word_of(apic, APIC_TMR, vector);
	u32 bit = BIT(vector % 32);

	if (!!(atomic_read(tmr) & bit) != level) {
		if (level)
			atomic_or(bit, tmr);
		else
			atomic_andnot(bit, tmr);
	}
	if (atomic_fetch_or(bit, word_of(apic, APIC_IRR, vector)) & bit)
		return 0;
	set_bit(vector / 32, &apic->irr_words);
	mk_request(apic->v, MK_REQ_EVENT);
	mk_vcpu_kick(apic->v);
	return 1;
}

static void error(struct mk_lapic *apic, u32 bit)
{
	u32 lvt = get(apic, APIC_LVTERR);
	u8 vector = lvt;

	atomic_or(bit, &apic->errors);
	if (!(lvt & APIC_LVT_MASKED) && vector >= 16 && enabled(apic))
		set_irr(apic, vector, false);
}

/* An interrupt has arrived at this APIC; a status. Any context. */
static int accept(struct mk_lapic *apic, u8 mode, u8 vector, bool level)
{
	switch (mode) {
	case MK_DM_FIXED:
	case MK_DM_LOWEST:
		if (!enabled(apic))
			return -1;
		if (vector < 16) {
			error(apic, ESR_RECEIVE_VECTOR);
			return -1;
		}
		return set_irr(apic, vector, level);
	case MK_DM_NMI:
		mk_queue_nmi(apic->v);
		return 1;
	default:
		return -1;
	}
}

/* The source of local vector @reg has fired. */
static void local(struct mk_lapic *apic, unsigned int reg)
{
	u32 lvt = get(apic, reg);

	if (hw_enabled(apic) && !(lvt & APIC_LVT_MASKED))
		accept(apic, GET_APIC_DELIVERY_MODE(lvt), lvt & APIC_VECTOR_MASK,
		       lvt & APIC_LVT_LEVEL_TRIGGER);
}

/* SDM vol. 3A, "Determining IPI Destination" */
static bool is_destination(const struct mk_lapic *apic, const struct mk_apic_msg *msg)
{
	u32 id = get(apic, APIC_ID), ldr = get(apic, APIC_LDR);

	if (!hw_enabled(apic))
		return false;
	if (msg->dest == MK_DEST_ALL)
		return true;
	if (!msg->logical)
		return msg->dest == (x2apic(apic) ? id : id >> 24);
	if (x2apic(apic))
		return ldr >> 16 == msg->dest >> 16 && (ldr & msg->dest & 0xffff);
	ldr >>= 24;
	if (get(apic, APIC_DFR) == APIC_DFR_FLAT)
		return ldr & msg->dest & 0xff;
	return ldr >> 4 == msg->dest >> 4 && (ldr & msg->dest & 0xf);
}

int mk_lapic_deliver(struct mk_vm *vm, struct mk_lapic *src, const struct mk_apic_msg *msg)
{
	struct mk_lapic *apic, *lowest = NULL;
	struct mk_vcpu *v;
	unsigned long id;
	int sum = -1;

	if (msg->shorthand == MK_TO_SELF)
		return accept(src, msg->mode, msg->vector, msg->level);
	if (msg->shorthand == MK_TO_DEST && !msg->logical && msg->dest != MK_DEST_ALL) {
		v = xa_load(&vm->vcpus, msg->dest);
		if (!v || !hw_enabled(v->apic))
			return -1;
		return accept(v->apic, msg->mode, msg->vector, msg->level);
	}

	xa_for_each(&vm->vcpus, id, v) {
		apic = v->apic;
		if (msg->shorthand == MK_TO_DEST ? !is_destination(apic, msg) :
		    !hw_enabled(apic) || (msg->shorthand == MK_TO_OTHERS && apic == src))
			continue;
		if (msg->mode != MK_DM_LOWEST)
			sum = mk_status_add(sum, accept(apic, msg->mode, msg->vector, msg->level));
		else if (enabled(apic) && (!lowest || READ_ONCE(apic->lowest_taken) <
						      READ_ONCE(lowest->lowest_taken)))
			lowest = apic;
	}
	/* The manual leaves the arbiter's choice to the chipset: in turn is fair. */
	if (lowest) {
		WRITE_ONCE(lowest->lowest_taken, lowest->lowest_taken + 1);
		sum = accept(lowest, msg->mode, msg->vector, msg->level);
	}
	return sum;
}

bool mk_lapic_takes_pic(const struct mk_vcpu *v)
{
	const struct mk_lapic *apic = v->apic;
	u32 lvt = get(apic, APIC_LVT0);

	/* A disabled APIC is transparent: the pin is the CPU's INTR. */
	return !hw_enabled(apic) || (!(lvt & APIC_LVT_MASKED) &&
				     GET_APIC_DELIVERY_MODE(lvt) == MK_DM_EXTINT);
}

void mk_lapic_lint0(struct mk_vm *vm)
{
	struct mk_vcpu *v;
	unsigned long id;

	xa_for_each(&vm->vcpus, id, v) {
		if (mk_lapic_takes_pic(v)) {
			mk_request(v, MK_REQ_EVENT);
			mk_vcpu_kick(v);
		} else {
			local(v->apic, APIC_LVT0);
		}
	}
}

/*
 * The timer. Its divider is a shift, since a count lasts 1 ns.
 */

static unsigned int divide_shift(const struct mk_lapic *apic)
{
	u32 tdcr = get(apic, APIC_TDCR);

	return ((tdcr & 3) + (tdcr >> 1 & 4) + 1) & 7;
}

static enum hrtimer_restart timer_fired(struct hrtimer *timer)
{
	struct mk_lapic *apic = container_of(timer, struct mk_lapic, timer);

	local(apic, APIC_LVTT);
	if (!(get(apic, APIC_LVTT) & APIC_LVT_TIMER_PERIODIC))
		return HRTIMER_NORESTART;
	hrtimer_forward_now(timer, max_t(u64, apic->period, MK_MIN_PERIOD_NS));
	return HRTIMER_RESTART;
}

static bool deadline_mode(const struct mk_lapic *apic)
{
	return (get(apic, APIC_LVTT) & LVT_TIMER_MODES) == APIC_LVT_TIMER_TSCDEADLINE;
}

static void timer_stop(struct mk_lapic *apic)
{
	hrtimer_cancel(&apic->timer);
	apic->period = 0;
	apic->deadline = 0;
}

/* Begin with @left counts to go, of as many as the initial count says. */
static void timer_start(struct mk_lapic *apic, u32 left)
{
	unsigned int shift = divide_shift(apic);

	hrtimer_cancel(&apic->timer);
	apic->period = (u64)get(apic, APIC_TMICT) << shift;
	if (apic->period)
		hrtimer_start(&apic->timer, (u64)left << shift, HRTIMER_MODE_REL_HARD);
}

static u32 current_count(const struct mk_lapic *apic)
{
	s64 left;

	if (!apic->period)
		return 0;
	left = hrtimer_get_remaining(&apic->timer);
	/* Late: the next period has begun, though the host's timer has not said so yet. */
	if (left < 0 && (get(apic, APIC_LVTT) & APIC_LVT_TIMER_PERIODIC))
		left += apic->period;
	return left > 0 ? left >> divide_shift(apic) : 0;
}

static void set_deadline(struct mk_lapic *apic, u64 deadline)
{
	struct mk_vcpu *v = apic->v;
	u32 khz = v->vm->tsc_khz;
	u64 now;

	if (!deadline_mode(apic))
		return;
	apic->deadline = deadline;
	if (!deadline) {
		hrtimer_cancel(&apic->timer);
		return;
	}
	now = mk_guest_tsc(v);
	if (deadline <= now) {
		hrtimer_cancel(&apic->timer);
		local(apic, APIC_LVTT);
		return;
	}
	/* The clamp, some 30 years, keeps the product within 64 bits. */
	hrtimer_start(&apic->timer,
		      mul_u64_u32_div(min(deadline - now, (u64)khz << 40), USEC_PER_SEC, khz),
		      HRTIMER_MODE_REL_HARD);
}

static void set_lvtt(struct mk_lapic *apic, u32 val)
{
	bool was_deadline = deadline_mode(apic);
	u32 mask = APIC_VECTOR_MASK | APIC_LVT_MASKED | APIC_LVT_TIMER_PERIODIC;

	if (mk_guest_has(apic->v, 1, 0, CPUID_ECX, X86_FEATURE_TSC_DEADLINE_TIMER % 32))
		mask |= APIC_LVT_TIMER_TSCDEADLINE;
	put(apic, APIC_LVTT, val & mask);
	if (deadline_mode(apic) != was_deadline) {
		timer_stop(apic);
		put(apic, APIC_TMICT, 0);
	}
}

static void set_tdcr(struct mk_lapic *apic, u32 val)
{
	u32 left = current_count(apic);

	put(apic, APIC_TDCR, val & 0xb);
	if (left && !deadline_mode(apic))
		timer_start(apic, left);
}

/*
 * Registers.
 */

static void set_tpr(struct mk_lapic *apic, u32 tpr)
{
	put(apic, APIC_TASKPRI, tpr & 0xff);
	update_ppr(apic);
	recheck(apic);
}

static void set_spiv(struct mk_lapic *apic, u32 val)
{
	static const u16 lvts[] = { APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC,
				    APIC_LVT0, APIC_LVT1, APIC_LVTERR };
	int i;

	put(apic, APIC_SPIV, val & 0x3ff);
	if (!(val & APIC_SPIV_APIC_ENABLED))
		for (i = 0; i < ARRAY_SIZE(lvts); i++)
			put(apic, lvts[i], get(apic, lvts[i]) | APIC_LVT_MASKED);
	recheck(apic);
}

static void send_ipi(struct mk_lapic *apic, u32 icr, u32 dest)
{
	struct mk_apic_msg msg = {
		.dest = dest,
		.vector = icr & APIC_VECTOR_MASK,
		.mode = GET_APIC_DELIVERY_MODE(icr),
		.logical = icr & APIC_DEST_LOGICAL,
		.shorthand = icr >> 18 & 3,
	};

	if (msg.mode <= MK_DM_LOWEST && msg.vector < 16)
		error(apic, ESR_SEND_VECTOR);
	else
		mk_lapic_deliver(apic->v->vm, apic, &msg);
}

/* Which registers there are, a bit for each 16 bytes. */
#define R(reg)		BIT_ULL((reg) >> 4)
#define R8(reg)		(0xffull << ((reg) >> 4))
#define X2APIC_RW	(R(APIC_TASKPRI) | R(APIC_SPIV) | R(APIC_ESR) | R(APIC_LVTT) |	\
			 R(APIC_LVTTHMR) | R(APIC_LVTPC) | R(APIC_LVT0) | R(APIC_LVT1) | \
			 R(APIC_LVTERR) | R(APIC_TMICT) | R(APIC_TDCR) | R(APIC_ICR))
#define X2APIC_READ	(X2APIC_RW | R(APIC_ID) | R(APIC_LVR) | R(APIC_PROCPRI) |	\
			 R(APIC_LDR) | R8(APIC_ISR) | R8(APIC_TMR) | R8(APIC_IRR) |	\
			 R(APIC_TMCCT))
#define X2APIC_WRITE	(X2APIC_RW | R(APIC_EOI) | R(APIC_SELF_IPI))
#define XAPIC_READ	(X2APIC_READ | R(APIC_ARBPRI) | R(APIC_DFR) | R(APIC_ICR2))
#define XAPIC_WRITE	(X2APIC_RW | R(APIC_EOI) | R(APIC_LDR) | R(APIC_DFR) | R(APIC_ICR2))

static u32 read_reg(const struct mk_lapic *apic, unsigned int reg)
{
	return likely(reg != APIC_TMCCT) ? get(apic, reg) : current_count(apic);
}

/* A write to a register that can be written. */
static void write_reg(struct mk_lapic *apic, unsigned int reg, u32 val)
{
	u32 dest;

	switch (reg) {
	case APIC_EOI:
		eoi(apic);
		return;
	case APIC_TASKPRI:
		set_tpr(apic, val);
		return;
	case APIC_LDR:
		put(apic, reg, val & APIC_LDR_MASK);
		return;
	case APIC_DFR:
		put(apic, reg, val | ~0xf0000000);
		return;
	case APIC_SPIV:
		set_spiv(apic, val);
		return;
	case APIC_ESR:
		put(apic, reg, atomic_xchg(&apic->errors, 0));
		return;
	case APIC_ICR:
		put(apic, reg, val & ~APIC_ICR_BUSY);
		dest = get(apic, APIC_ICR2) >> 24;
		send_ipi(apic, val, dest == MK_DEST_ALL_8 ? MK_DEST_ALL : dest);
		return;
	case APIC_ICR2:
		put(apic, reg, val & 0xff000000);
		return;
	case APIC_TMICT:
		if (!deadline_mode(apic)) {
			put(apic, reg, val);
			timer_start(apic, val);
		}
		return;
	case APIC_TDCR:
		set_tdcr(apic, val);
		return;
	}

	/* What is left are local vectors, which a disabled APIC keeps masked. */
	if (!(get(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED))
		val |= APIC_LVT_MASKED;
	switch (reg) {
	case APIC_LVTT:
		set_lvtt(apic, val);
		break;
	case APIC_LVTTHMR:
	case APIC_LVTPC:
		put(apic, reg, val & (APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED));
		break;
	case APIC_LVTERR:
		put(apic, reg, val & (APIC_VECTOR_MASK | APIC_LVT_MASKED));
		break;
	default:
		put(apic, reg, val & (APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED |
				      APIC_INPUT_POLARITY | APIC_LVT_LEVEL_TRIGGER));
		/* The PIC may have been waiting for this LINT0. */
		mk_request(apic->v, MK_REQ_EVENT);
	}
}

bool mk_lapic_mmio(struct mk_vcpu *v, gpa_t gpa, unsigned int len, void *data, bool write)
{
	struct mk_lapic *apic = v->apic;
	unsigned int offset = gpa & ~PAGE_MASK, reg = offset & 0x3f0;
	u32 val;

	if ((gpa ^ apic->base) & MSR_IA32_APICBASE_BASE)
		return false;
	if (unlikely(!hw_enabled(apic) || x2apic(apic))) {
		if (!write)
			memset(data, 0xff, len);
		return true;
	}

	if (write) {
		/* Registers are written whole: anything else is undefined, and does nothing. */
		if (len != 4 || offset & 0xf)
			return true;
		memcpy(&val, data, sizeof(val));
		if (offset == reg && (XAPIC_WRITE & R(reg)))
			write_reg(apic, reg, val);
		else if (offset != reg || !(XAPIC_READ & R(reg)))
			error(apic, ESR_REGISTER);
		return true;
	}
	memset(data, 0, len);
	if ((offset & 0xf) + len > 4)
		return true;
	if (offset > 0x3ff || !(XAPIC_READ & R(reg))) {
		error(apic, ESR_REGISTER);
		return true;
	}
	val = read_reg(apic, reg);
	memcpy(data, (void *)&val + (offset & 3), len);
	return true;
}

u64 mk_lapic_get_cr8(struct mk_vcpu *v)
{
	return get(v->apic, APIC_TASKPRI) >> 4;
}

void mk_lapic_set_cr8(struct mk_vcpu *v, u64 cr8)
{
	set_tpr(v->apic, cr8 << 4);
}

/* ID and, in x2APIC mode, logical ID follow from the vCPU's number. */
static void identify(struct mk_lapic *apic)
{
	u32 id = apic->v->id;

	put(apic, APIC_LVR, LAPIC_VERSION);
	put(apic, APIC_ID, x2apic(apic) ? id : id << 24);
	if (x2apic(apic))
		put(apic, APIC_LDR, (id >> 4) << 16 | BIT(id & 15));
}

/* SDM vol. 3A, "x2APIC State Transitions" */
static int set_base(struct mk_lapic *apic, u64 val, bool host)
{
	struct mk_vcpu *v = apic->v;
	u64 old = apic->base, modes = MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE;
	u64 allowed = MSR_IA32_APICBASE_BSP | MSR_IA32_APICBASE_ENABLE |
		      GENMASK_ULL(v->maxphyaddr - 1, PAGE_SHIFT);

	if (mk_guest_has(v, 1, 0, CPUID_ECX, X86_FEATURE_X2APIC % 32))
		allowed |= X2APIC_ENABLE;
	if ((val & ~allowed) || (val & modes) == X2APIC_ENABLE)
		return -EINVAL;
	/* Into x2APIC mode only from xAPIC mode, and out of it only by disabling. */
	if (!host && (((old & modes) == modes && (val & modes) == MSR_IA32_APICBASE_ENABLE) ||
		      (!(old & modes) && (val & modes) == modes)))
		return -EINVAL;

	WRITE_ONCE(apic->base, val);
	if ((old ^ val) & modes) {
		identify(apic);
		mk_cpuid_refresh(v);
		mk_request(v, MK_REQ_EVENT);
	}
	return 0;
}

static int x2apic_read(const struct mk_lapic *apic, unsigned int reg, u64 *val)
{
	if (!x2apic(apic) || reg > 0x3f0 || !(X2APIC_READ & R(reg)))
		return -EINVAL;
	*val = read_reg(apic, reg);
	if (reg == APIC_ICR)
		*val |= (u64)get(apic, APIC_ICR2) << 32;
	return 0;
}

static int x2apic_write(struct mk_lapic *apic, unsigned int reg, u64 val)
{
	if (!x2apic(apic) || reg > 0x3f0 || !(X2APIC_WRITE & R(reg)))
		return -EINVAL;

	/* Reserved bits fault where xAPIC mode ignores them. */
	switch (reg) {
	case APIC_ICR:
		if ((u32)val & (GENMASK(31, 20) | GENMASK(17, 16) | BIT(13)))
			return -EINVAL;
		put(apic, APIC_ICR, val & ~(u64)APIC_ICR_BUSY);
		put(apic, APIC_ICR2, val >> 32);
		send_ipi(apic, val, val >> 32);
		return 0;
	case APIC_SELF_IPI:
		if (val > APIC_VECTOR_MASK)
			return -EINVAL;
		send_ipi(apic, APIC_DEST_SELF | val, 0);
		return 0;
	case APIC_EOI:
	case APIC_ESR:
		if (val)
			return -EINVAL;
		break;
	case APIC_TASKPRI:
		if (val > 0xff)
			return -EINVAL;
		break;
	}
	if (val >> 32)
		return -EINVAL;
	write_reg(apic, reg, val);
	return 0;
}

int mk_lapic_msr_get(struct mk_vcpu *v, u32 msr, u64 *val, bool host)
{
	struct mk_lapic *apic = v->apic;

	switch (msr) {
	case MSR_IA32_APICBASE:
		*val = apic->base;
		return 0;
	case MSR_IA32_TSC_DEADLINE:
		/* It reads as zero once it has passed. */
		*val = deadline_mode(apic) && hrtimer_active(&apic->timer) ? apic->deadline : 0;
		return 0;
	case APIC_BASE_MSR ... APIC_BASE_MSR + 0xff:
		return x2apic_read(apic, (msr - APIC_BASE_MSR) << 4, val);
	}
	return -ENOENT;
}

int mk_lapic_msr_set(struct mk_vcpu *v, u32 msr, u64 val, bool host)
{
	struct mk_lapic *apic = v->apic;

	switch (msr) {
	case MSR_IA32_APICBASE:
		return set_base(apic, val, host);
	case MSR_IA32_TSC_DEADLINE:
		set_deadline(apic, val);
		return 0;
	case APIC_BASE_MSR ... APIC_BASE_MSR + 0xff:
		return x2apic_write(apic, (msr - APIC_BASE_MSR) << 4, val);
	}
	return -ENOENT;
}

/*
 * State as a whole.
 */

static void summarize(struct mk_lapic *apic)
{
	int word;

	apic->isr_words = 0;
	for (word = 0; word < MK_NR_VECTORS / 32; word++) {
		if (get(apic, APIC_ISR + word * 0x10))
			__set_bit(word, &apic->isr_words);
		/* An interrupt may arrive meanwhile: never clear what it sets. */
		if (get(apic, APIC_IRR + word * 0x10))
			set_bit(word, &apic->irr_words);
	}
	update_ppr(apic);
	mk_request(apic->v, MK_REQ_EVENT);
}

int mk_lapic_get_state(struct mk_vcpu *v, struct kvm_lapic_state *state)
{
	struct mk_lapic *apic = v->apic;
	u32 *id = (u32 *)(state->regs + APIC_ID);

	if (!apic)
		return -EINVAL;
	memcpy(state->regs, apic->regs, sizeof(state->regs));
	*(u32 *)(state->regs + APIC_TMCCT) = current_count(apic);
	/* The ABI has the ID where xAPIC mode has it. */
	if (x2apic(apic))
		*id = *id << 24;
	return 0;
}

int mk_lapic_set_state(struct mk_vcpu *v, const struct kvm_lapic_state *state)
{
	struct mk_lapic *apic = v->apic;
	u32 left;

	if (!apic)
		return -EINVAL;
	timer_stop(apic);
	memcpy(apic->regs, state->regs, sizeof(state->regs));
	left = get(apic, APIC_TMCCT);
	put(apic, APIC_TMCCT, 0);
	put(apic, APIC_TASKPRI, get(apic, APIC_TASKPRI) & 0xff);
	identify(apic);
	summarize(apic);

	if (!left && (get(apic, APIC_LVTT) & APIC_LVT_TIMER_PERIODIC))
		left = get(apic, APIC_TMICT);
	if (left && !deadline_mode(apic))
		timer_start(apic, min(left, get(apic, APIC_TMICT)));
	return 0;
}

void mk_lapic_reset(struct mk_vcpu *v, bool init)
{
	struct mk_lapic *apic = v->apic;

	timer_stop(apic);
	if (!init)
		apic->base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
			     (v->id ? 0 : MSR_IA32_APICBASE_BSP);
	memset(apic->regs, 0, sizeof(struct kvm_lapic_state));
	apic->irr_words = 0;
	atomic_set(&apic->errors, 0);
	identify(apic);
	put(apic, APIC_DFR, APIC_DFR_FLAT);
	set_spiv(apic, 0xff);
	/* The firmware that would let the PIC through to the boot CPU is often missing. */
	if (!v->id)
		put(apic, APIC_LVT0, MK_DM_EXTINT << 8);
	summarize(apic);
}

int mk_lapic_init(struct mk_vcpu *v)
{
	struct mk_lapic *apic = kzalloc(sizeof(*apic), GFP_KERNEL_ACCOUNT);

	if (!apic)
		return -ENOMEM;
	apic->regs = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!apic->regs) {
		kfree(apic);
		return -ENOMEM;
	}
	apic->v = v;
	apic->chip = v->vm->irqchip;
	hrtimer_init(&apic->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	apic->timer.function = timer_fired;
	v->apic = apic;
	return 0;
}

void mk_lapic_free(struct mk_vcpu *v)
{
	struct mk_lapic *apic = v->apic;

	hrtimer_cancel(&apic->timer);
	free_page((unsigned long)apic->regs);
	kfree(apic);
	v->apic = NULL;
}
