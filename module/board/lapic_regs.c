// SPDX-License-Identifier: GPL-2.0
/*
 * What software sees of a local APIC: its registers, by MMIO and as MSRs, its
 * timer, and its state as userspace saves it.
 *
 * Source: SDM vol. 3A, "Advanced Programmable Interrupt Controller", sections
 * "Local Vector Table", "APIC Timer" and "Extended XAPIC (x2APIC)". The timer
 * counts at 1 GHz before its divider.
 *
 * Knows: lapic.c, the guest's TSC and CPUID. Read next: board.c.
 */
#include <linux/bitops.h>
#include <linux/math64.h>
#include <linux/slab.h>
#include <asm/cpufeatures.h>

#include "board/board.h"
#include "board/lapic.h"

#define LAPIC_VERSION	0x50014		/* integrated, six local vectors */
#define LVR_CMCI	BIT(16)		/* one more: that of corrected machine checks */
#define LAPIC_MODES	(MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE)
#define LVT_TIMER_MODES	(APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE)

/*
 * The timer. A count lasts 1 ns, unless userspace says otherwise, times the divider.
 */

static unsigned int divide_shift(const struct mk_lapic *apic)
{
	u32 tdcr = mk_lapic_get(apic, APIC_TDCR);

	return ((tdcr & 3) + (tdcr >> 1 & 4) + 1) & 7;
}

static u64 count_ns(const struct mk_lapic *apic)
{
	return apic->v->vm->apic_bus_ns << divide_shift(apic);
}

static enum hrtimer_restart timer_fired(struct hrtimer *timer)
{
	struct mk_lapic *apic = container_of(timer, struct mk_lapic, timer);

	mk_lapic_fire(apic, APIC_LVTT);
	if (!(mk_lapic_get(apic, APIC_LVTT) & APIC_LVT_TIMER_PERIODIC))
		return HRTIMER_NORESTART;
	hrtimer_forward_now(timer, max_t(u64, apic->period, MK_MIN_PERIOD_NS));
	return HRTIMER_RESTART;
}

static bool deadline_mode(const struct mk_lapic *apic)
{
	return (mk_lapic_get(apic, APIC_LVTT) & LVT_TIMER_MODES) == APIC_LVT_TIMER_TSCDEADLINE;
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
	u64 ns = count_ns(apic);

	hrtimer_cancel(&apic->timer);
	apic->period = mk_lapic_get(apic, APIC_TMICT) * ns;
	if (apic->period)
		hrtimer_start(&apic->timer, min_t(u64, left * ns, KTIME_MAX / 2),
			      HRTIMER_MODE_REL_HARD);
}

static u32 current_count(const struct mk_lapic *apic)
{
	s64 left;

	if (!apic->period)
		return 0;
	left = hrtimer_get_remaining(&apic->timer);
	/*
	 * Late: the next period has begun, though the host's timer has not said so yet. A
	 * count that was to end once has ended, and periodic mode does not revive it.
	 */
	if (left < 0 && (mk_lapic_get(apic, APIC_LVTT) & APIC_LVT_TIMER_PERIODIC) &&
	    hrtimer_active(&apic->timer))
		left += apic->period;
	return left > 0 ? div64_u64(left, count_ns(apic)) : 0;
}

static void set_deadline(struct mk_lapic *apic, u64 deadline)
{
	struct mk_vcpu *v = apic->v;
	u32 khz = v->tsc_khz;
	u64 now;

	if (!deadline_mode(apic))
		return;
	hrtimer_cancel(&apic->timer);
	apic->deadline = deadline;
	if (!deadline)
		return;
	now = mk_guest_tsc(v);
	if (deadline <= now) {
		mk_lapic_fire(apic, APIC_LVTT);
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
	mk_lapic_put(apic, APIC_LVTT, val & mask);
	if (deadline_mode(apic) != was_deadline) {
		timer_stop(apic);
		mk_lapic_put(apic, APIC_TMICT, 0);
	}
}

static void set_tdcr(struct mk_lapic *apic, u32 val)
{
	u32 left = current_count(apic);

	mk_lapic_put(apic, APIC_TDCR, val & 0xb);
	if (left && !deadline_mode(apic))
		timer_start(apic, left);
}

/*
 * Registers.
 */

/*
 * An I/O APIC that hears of an EOI only from its own register is userspace's, if it
 * is anywhere; guests look for it where there is an x2APIC.
 */
static u32 version(const struct mk_lapic *apic)
{
	bool directed = apic->chip->split &&
			mk_guest_has(apic->v, 1, 0, CPUID_ECX, X86_FEATURE_X2APIC % 32);

	return LAPIC_VERSION + (mk_has_cmci(apic->v) ? LVR_CMCI : 0) +
	       (directed ? APIC_LVR_DIRECTED_EOI : 0);
}

static void set_spiv(struct mk_lapic *apic, u32 val)
{
	u32 allowed = 0x3ff | (version(apic) & APIC_LVR_DIRECTED_EOI ? APIC_SPIV_DIRECTED_EOI : 0);
	static const u16 lvts[] = { APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0,
				    APIC_LVT1, APIC_LVTERR, APIC_LVTCMCI };
	int i;

	mk_lapic_put(apic, APIC_SPIV, val & allowed);
	if (!(val & APIC_SPIV_APIC_ENABLED))
		for (i = 0; i < ARRAY_SIZE(lvts); i++)
			mk_lapic_put(apic, lvts[i], mk_lapic_get(apic, lvts[i]) | APIC_LVT_MASKED);
	mk_lapic_recheck(apic);
}

static struct mk_apic_msg message(u32 icr, u32 dest)
{
	return (struct mk_apic_msg){
		.dest = dest,
		.vector = icr & APIC_VECTOR_MASK,
		.mode = GET_APIC_DELIVERY_MODE(icr),
		.logical = icr & APIC_DEST_LOGICAL,
		.shorthand = icr >> 18 & 3,
	};
}

static void send_ipi(struct mk_lapic *apic, u32 icr, u32 dest)
{
	struct mk_apic_msg msg = message(icr, dest);

	if (msg.mode <= MK_DM_LOWEST && msg.vector < 16)
		mk_lapic_error(apic, MK_ESR_SEND_VECTOR);
	else if (msg.mode == MK_DM_INIT && (icr & (APIC_INT_LEVELTRIG | APIC_INT_ASSERT)) ==
					   APIC_INT_LEVELTRIG)
		return;		/* the de-assert that synchronised arbitration on old buses */
	else
		mk_lapic_deliver(apic->v->vm, apic, &msg);
}

int mk_lapic_ipi(struct mk_vcpu *v, u32 dest, u32 icr)
{
	struct mk_apic_msg msg = message(icr, dest);

	return mk_lapic_deliver_id(v->vm, &msg);
}

/* Which registers there are, a bit for each 16 bytes. */
#define R(reg)		BIT_ULL((reg) >> 4)
#define R8(reg)		(0xffull << ((reg) >> 4))
#define X2APIC_RW	(R(APIC_TASKPRI) | R(APIC_SPIV) | R(APIC_ESR) | R(APIC_LVTT) |	\
			 R(APIC_LVTTHMR) | R(APIC_LVTPC) | R(APIC_LVT0) | R(APIC_LVT1) | \
			 R(APIC_LVTERR) | R(APIC_LVTCMCI) | R(APIC_TMICT) | R(APIC_TDCR) | \
			 R(APIC_ICR))
#define X2APIC_READ	(X2APIC_RW | R(APIC_ID) | R(APIC_LVR) | R(APIC_PROCPRI) |	\
			 R(APIC_LDR) | R8(APIC_ISR) | R8(APIC_TMR) | R8(APIC_IRR) |	\
			 R(APIC_TMCCT))
#define X2APIC_WRITE	(X2APIC_RW | R(APIC_EOI) | R(APIC_SELF_IPI))
#define XAPIC_READ	(X2APIC_READ | R(APIC_ARBPRI) | R(APIC_DFR) | R(APIC_ICR2))
#define XAPIC_WRITE	(X2APIC_RW | R(APIC_EOI) | R(APIC_LDR) | R(APIC_DFR) | R(APIC_ICR2))

u64 mk_lapic_plain_regs(void)
{
	/* Two are worked out; the page has ICR's halves apart; and some have no CMCI. */
	return X2APIC_READ & ~(R(APIC_TMCCT) | R(APIC_LVR) | R(APIC_ICR) | R(APIC_LVTCMCI));
}

/* Is @offset one of the registers @which, and one that this APIC has? */
static bool has_reg(const struct mk_lapic *apic, unsigned int offset, u64 which)
{
	return offset <= 0x3f0 && (which & R(offset)) &&
	       (likely(offset != APIC_LVTCMCI) || mk_has_cmci(apic->v));
}

static u32 read_reg(const struct mk_lapic *apic, unsigned int reg)
{
	if (likely(reg != APIC_TMCCT && reg != APIC_LVR))
		return mk_lapic_get(apic, reg);
	return reg == APIC_LVR ? version(apic) : current_count(apic);
}

/* A write to a register that can be written. */
static void write_reg(struct mk_lapic *apic, unsigned int reg, u32 val)
{
	switch (reg) {
	case APIC_EOI:
		mk_lapic_eoi(apic);
		return;
	case APIC_TASKPRI:
		mk_lapic_set_tpr(apic, val);
		return;
	case APIC_LDR:
		mk_lapic_put(apic, reg, val & APIC_LDR_MASK);
		mk_lapic_map(apic->chip);
		return;
	case APIC_DFR:
		mk_lapic_put(apic, reg, val | ~0xf0000000);
		mk_lapic_map(apic->chip);
		return;
	case APIC_SPIV:
		set_spiv(apic, val);
		return;
	case APIC_ESR:
		mk_lapic_put(apic, reg, atomic_xchg(&apic->errors, 0));
		return;
	case APIC_ICR:
		mk_lapic_put(apic, reg, val & ~APIC_ICR_BUSY);
		send_ipi(apic, val, mk_lapic_get(apic, APIC_ICR2) >> 24);
		return;
	case APIC_ICR2:
		mk_lapic_put(apic, reg, val & 0xff000000);
		return;
	case APIC_TMICT:
		if (!deadline_mode(apic)) {
			mk_lapic_put(apic, reg, val);
			timer_start(apic, val);
		}
		return;
	case APIC_TDCR:
		set_tdcr(apic, val);
		return;
	}

	/* What is left are local vectors, which a disabled APIC keeps masked. */
	if (!(mk_lapic_get(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED))
		val |= APIC_LVT_MASKED;
	switch (reg) {
	case APIC_LVTT:
		set_lvtt(apic, val);
		break;
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVTCMCI:
		mk_lapic_put(apic, reg,
			     val & (APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED));
		break;
	case APIC_LVTERR:
		mk_lapic_put(apic, reg, val & (APIC_VECTOR_MASK | APIC_LVT_MASKED));
		break;
	default:
		mk_lapic_put(apic, reg,
			     val & (APIC_VECTOR_MASK | APIC_MODE_MASK | APIC_LVT_MASKED |
				    APIC_INPUT_POLARITY | APIC_LVT_LEVEL_TRIGGER));
		/* The PIC may have been waiting for this LINT0. */
		mk_request(apic->v, MK_REQ_EVENT);
	}
}

/* Registers are written whole: any other write is undefined, and does nothing here. */
static void mmio_write(struct mk_lapic *apic, unsigned int offset, u32 val)
{
	if (has_reg(apic, offset, XAPIC_WRITE))
		write_reg(apic, offset, val);
	else if (!has_reg(apic, offset, XAPIC_READ))
		mk_lapic_error(apic, MK_ESR_REGISTER);
}

static u32 mmio_read(struct mk_lapic *apic, unsigned int offset)
{
	if (likely(has_reg(apic, offset, XAPIC_READ)))
		return read_reg(apic, offset);
	mk_lapic_error(apic, MK_ESR_REGISTER);
	return 0;
}

bool mk_lapic_mmio(struct mk_vcpu *v, gpa_t gpa, unsigned int len, void *data, bool write)
{
	struct mk_lapic *apic = v->apic;
	unsigned int offset = gpa & ~PAGE_MASK & ~3u, part = gpa & 3;
	u32 val;

	if ((gpa ^ apic->base) & MSR_IA32_APICBASE_BASE)
		return false;
	if (unlikely((apic->base & LAPIC_MODES) != MSR_IA32_APICBASE_ENABLE)) {
		if (!mk_has_quirk(v->vm, KVM_X86_QUIRK_LAPIC_MMIO_HOLE))
			return false;
		if (!write)
			memset(data, 0xff, len);
	} else if (write) {
		if (len == sizeof(val) && !(gpa & 0xf)) {
			memcpy(&val, data, sizeof(val));
			mmio_write(apic, offset, val);
		}
	} else if (likely(len == sizeof(val) && !(gpa & 0xf))) {
		val = mmio_read(apic, offset);
		memcpy(data, &val, sizeof(val));
	} else {
		/* A part of a register; what lies between them reads as zero. */
		val = gpa & 0xc ? 0 : mmio_read(apic, offset) >> part * 8;
		memset(data, 0, len);
		memcpy(data, &val, min_t(unsigned int, len, sizeof(val) - part));
	}
	return true;
}

u64 mk_lapic_get_cr8(struct mk_vcpu *v)
{
	return mk_lapic_get(v->apic, APIC_TASKPRI) >> 4;
}

void mk_lapic_set_cr8(struct mk_vcpu *v, u64 cr8)
{
	mk_lapic_set_tpr(v->apic, cr8 << 4);
}

/* ID and, in x2APIC mode, logical ID follow from the vCPU's number. */
static void identify(struct mk_lapic *apic)
{
	u32 id = apic->v->id;

	mk_lapic_put(apic, APIC_ID, mk_lapic_x2apic(apic) ? id : id << 24);
	if (mk_lapic_x2apic(apic))
		mk_lapic_put(apic, APIC_LDR, (id >> 4) << 16 | BIT(id & 15));
}

/* SDM vol. 3A, "x2APIC State Transitions" */
static int set_base(struct mk_lapic *apic, u64 val, bool host)
{
	struct mk_vcpu *v = apic->v;
	u64 old = apic->base, modes = LAPIC_MODES;
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
		mk_lapic_choose_keeper(apic);
		mk_lapic_map(apic->chip);
		mk_cpuid_refresh(v);
		mk_request(v, MK_REQ_EVENT);
	}
	return 0;
}

static int x2apic_read(const struct mk_lapic *apic, unsigned int reg, u64 *val)
{
	if (!mk_lapic_x2apic(apic) || !has_reg(apic, reg, X2APIC_READ))
		return -EINVAL;
	*val = read_reg(apic, reg);
	if (reg == APIC_ICR)
		*val |= (u64)mk_lapic_get(apic, APIC_ICR2) << 32;
	return 0;
}

static int x2apic_write(struct mk_lapic *apic, unsigned int reg, u64 val)
{
	if (!mk_lapic_x2apic(apic) || !has_reg(apic, reg, X2APIC_WRITE))
		return -EINVAL;

	/* Reserved bits fault where xAPIC mode ignores them. */
	switch (reg) {
	case APIC_ICR:
		if ((u32)val & (GENMASK(31, 20) | GENMASK(17, 16) | BIT(13)))
			return -EINVAL;
		mk_lapic_put(apic, APIC_ICR, val & ~(u64)APIC_ICR_BUSY);
		mk_lapic_put(apic, APIC_ICR2, val >> 32);
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

int mk_lapic_get_state(struct mk_vcpu *v, struct kvm_lapic_state *state)
{
	struct mk_lapic *apic = v->apic;
	u32 *id = (u32 *)(state->regs + APIC_ID);

	if (!apic)
		return -EINVAL;
	mk_lapic_take_arrived(apic);
	memcpy(state->regs, apic->regs, sizeof(state->regs));
	*(u32 *)(state->regs + APIC_TMCCT) = current_count(apic);
	*(u32 *)(state->regs + APIC_LVR) = version(apic);
	/* The ABI has the ID where xAPIC mode has it, and cuts it off there. */
	if (mk_lapic_x2apic(apic) && !READ_ONCE(v->vm->apic_ids32))
		*id = *id << 24;
	return 0;
}

int mk_lapic_set_state(struct mk_vcpu *v, const struct kvm_lapic_state *state)
{
	struct mk_lapic *apic = v->apic;
	u32 left;

	if (!apic)
		return -EINVAL;
	if (mk_lapic_x2apic(apic) && READ_ONCE(v->vm->apic_ids32) &&
	    *(const u32 *)(state->regs + APIC_ID) != (u32)v->id)
		return -EINVAL;
	timer_stop(apic);
	mk_lapic_drop_arrived(apic);
	memcpy(apic->regs, state->regs, sizeof(state->regs));
	left = mk_lapic_get(apic, APIC_TMCCT);
	mk_lapic_put(apic, APIC_TMCCT, 0);
	identify(apic);
	mk_lapic_map(apic->chip);
	mk_lapic_summarize(apic);
	mk_lapic_set_tpr(apic, mk_lapic_get(apic, APIC_TASKPRI));

	if (!left && (mk_lapic_get(apic, APIC_LVTT) & APIC_LVT_TIMER_PERIODIC))
		left = mk_lapic_get(apic, APIC_TMICT);
	if (left && !deadline_mode(apic))
		timer_start(apic, min(left, mk_lapic_get(apic, APIC_TMICT)));
	return 0;
}

void mk_lapic_reset(struct mk_vcpu *v, bool init)
{
	struct mk_lapic *apic = v->apic;

	timer_stop(apic);
	if (!init)
		apic->base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
			     (mk_is_boot_vcpu(v) ? MSR_IA32_APICBASE_BSP : 0);
	mk_lapic_drop_arrived(apic);
	apic->irr_words = 0;
	memset(apic->regs, 0, sizeof(struct kvm_lapic_state));
	atomic_set(&apic->errors, 0);
	identify(apic);
	mk_lapic_put(apic, APIC_DFR, APIC_DFR_FLAT);
	set_spiv(apic, 0xff);
	/* The firmware that would let the PIC through to the boot CPU is often missing. */
	if (mk_is_boot_vcpu(v) && mk_has_quirk(v->vm, KVM_X86_QUIRK_LINT0_REENABLED))
		mk_lapic_put(apic, APIC_LVT0, MK_DM_EXTINT << 8);
	mk_lapic_map(apic->chip);
	mk_lapic_summarize(apic);
	mk_lapic_choose_keeper(apic);
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
	apic->extint = -1;
	hrtimer_init(&apic->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	apic->timer.function = timer_fired;
	v->apic = apic;
	v->cpu.apic_regs = apic->regs;
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
