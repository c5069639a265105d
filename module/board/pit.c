// SPDX-License-Identifier: GPL-2.0
/*
 * The 8254 interval timer and port 0x61, through which a PC reads and gates
 * its channel 2.
 *
 * Nothing counts here: a counter's value and its output follow from the time
 * since its count was loaded. Channel 0's output is IRQ 0; one hrtimer fires
 * at its next edge. A tick that meets its predecessor still waiting in an
 * interrupt controller is owed to the guest and follows when that one has
 * been taken, so that a guest that counts ticks keeps the time.
 *
 * Source: the 82C54 data sheet, "Mode Definitions" and "Read Operations".
 * BCD mode is remembered and reported, but counts in binary.
 *
 * Knows: the wiring of GSI 0. Read next: pic.c.
 */
#include <linux/math64.h>
#include <linux/slab.h>

#include "board/board.h"
#include "board/chips.h"

#define PIT_HZ		1193182
#define PIT_BASE	0x40
#define PIT_CONTROL	3
#define PIT_CHANNELS	3
#define SPEAKER_PORT	0x61
#define SPEAKER		2	/* the channel that has a gate */
#define NO_MODE		0xff	/* not programmed since power-on */

/* A tick can be owed so often, lest a guest that slept long drowns in them. */
#define MAX_OWED	1000

/* kvm_pit_channel_state's read_state, write_state and count_latched. */
enum { RW_LOW = 1, RW_HIGH, RW_WORD_LOW, RW_WORD_HIGH };

struct mk_pit {
	struct mk_irqchip *chip;	/* (c) */
	bool speaker;			/* (c) port 0x61 is ours */
	struct kvm_pit_channel_state ch[PIT_CHANNELS];	/* [B] */
	u32 flags;			/* [B] KVM_PIT_FLAGS_* */
	s64 gate_fell;			/* [B] ns: when SPEAKER's gate went low */
	struct hrtimer timer;		/* channel 0's next edge */
	bool armed;			/* [B] it is meant to fire */
	u64 edges;			/* [B] channel 0's since its count was loaded */
	unsigned int owed;		/* [B] ticks */
	bool loses;			/* [B] none is owed: KVM_REINJECT_CONTROL */
};

static u64 ns_to_clocks(u64 ns)
{
	return mul_u64_u32_div(ns, PIT_HZ, NSEC_PER_SEC);
}

/* Rounded up, so that at this time the edge is really there. */
static u64 clocks_to_ns(u64 clocks)
{
	return mul_u64_u32_div(clocks, NSEC_PER_SEC, PIT_HZ) + 1;
}

static bool periodic(const struct kvm_pit_channel_state *c)
{
	return c->mode == 2 || c->mode == 3;
}

/* In these modes a low gate stops the counter; in 1 and 5 it only triggers. */
static bool gate_stops(const struct kvm_pit_channel_state *c)
{
	return c->mode != 1 && c->mode != 5;
}

/* Clocks since channel @n was loaded or retriggered. */
static u64 elapsed(const struct mk_pit *pit, int n)
{
	const struct kvm_pit_channel_state *c = &pit->ch[n];
	s64 now = !c->gate && gate_stops(c) ? pit->gate_fell : ktime_get();

	return ns_to_clocks(max(now - c->count_load_time, 0LL));
}

static u16 counter(const struct mk_pit *pit, int n)
{
	const struct kvm_pit_channel_state *c = &pit->ch[n];
	u64 clocks = elapsed(pit, n);
	u32 rest;

	switch (c->mode) {
	case 2:
		div_u64_rem(clocks, c->count, &rest);
		return c->count - rest;
	case 3:	/* a square wave counts by two, twice for each period */
		div_u64_rem(2 * clocks, c->count, &rest);
		return c->count - rest;
	default:
		return c->count - clocks;
	}
}

static bool output(const struct mk_pit *pit, int n)
{
	const struct kvm_pit_channel_state *c = &pit->ch[n];
	u64 clocks = elapsed(pit, n);
	u32 phase;

	switch (c->mode) {
	case 2:	/* low for the last clock of each period */
		div_u64_rem(clocks, c->count, &phase);
		return phase != c->count - 1;
	case 3:
		div_u64_rem(clocks, c->count, &phase);
		return phase < (c->count + 1) / 2;
	case 4:
	case 5:	/* low for one clock */
		return clocks != c->count;
	default:
		return clocks >= c->count;
	}
}

/* One rising edge of IRQ 0; a status. */
static int pulse(struct mk_pit *pit)
{
	int status = mk_gsi_set(pit->chip, MK_SRC_PIT, MK_PIT_GSI, true);

	mk_gsi_set(pit->chip, MK_SRC_PIT, MK_PIT_GSI, false);
	return status;
}

void mk_pit_taken(struct mk_pit *pit)
{
	if (pit && pit->owed && pulse(pit) > 0)
		pit->owed--;
}

/* When channel 0 has its edge number @edge. */
static ktime_t edge_time(const struct mk_pit *pit, u64 edge)
{
	return pit->ch[0].count_load_time + clocks_to_ns(edge * pit->ch[0].count);
}

static enum hrtimer_restart tick(struct hrtimer *timer)
{
	struct mk_pit *pit = container_of(timer, struct mk_pit, timer);
	enum hrtimer_restart again = HRTIMER_NORESTART;
	unsigned long flags;
	u64 edges;

	raw_spin_lock_irqsave(&pit->chip->lock, flags);
	/* Stopped or loaded anew while we waited for the lock: not this edge. */
	if (!pit->armed || hrtimer_is_queued(timer))
		goto out;

	edges = periodic(&pit->ch[0]) ? div_u64(elapsed(pit, 0), pit->ch[0].count) : 1;
	if (edges > pit->edges + 1 && !pit->loses)
		pit->owed = min_t(u64, pit->owed + edges - pit->edges - 1, MAX_OWED);
	pit->edges = edges;
	if (pulse(pit) == 0 && !pit->loses && pit->owed < MAX_OWED)
		pit->owed++;

	pit->armed = periodic(&pit->ch[0]);
	if (pit->armed) {
		hrtimer_set_expires(timer, max(edge_time(pit, edges + 1),
					       ktime_add_ns(ktime_get(), MK_MIN_PERIOD_NS)));
		again = HRTIMER_RESTART;
	}
out:
	raw_spin_unlock_irqrestore(&pit->chip->lock, flags);
	return again;
}

/* Channel 0 has begun anew: aim the timer at its first edge, if it has one. */
static void arm(struct mk_pit *pit)
{
	const struct kvm_pit_channel_state *c = &pit->ch[0];

	pit->edges = 0;
	pit->owed = 0;
	/* Modes 1 and 5 need a rising gate, and channel 0's is tied high. */
	pit->armed = (periodic(c) || c->mode == 0 || c->mode == 4) &&
		     !(pit->flags & KVM_PIT_FLAGS_HPET_LEGACY);
	if (pit->armed)
		hrtimer_start(&pit->timer, edge_time(pit, 1), HRTIMER_MODE_ABS_HARD);
	else
		hrtimer_try_to_cancel(&pit->timer);	/* tick() looks at armed */
}

static void load(struct mk_pit *pit, int n, u32 count)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	c->count = ((count - 1) & 0xffff) + 1;	/* 0 is 65536 */
	c->count_load_time = ktime_get_ns();
	if (n == SPEAKER)
		pit->gate_fell = c->count_load_time;
	if (n == 0)
		arm(pit);
}

static void set_gate(struct mk_pit *pit, bool gate)
{
	struct kvm_pit_channel_state *c = &pit->ch[SPEAKER];
	s64 now = ktime_get_ns();

	if (gate == c->gate)
		return;
	if (!gate)
		pit->gate_fell = now;
	else if (c->mode == 0 || c->mode == 4)
		c->count_load_time += now - pit->gate_fell;
	else
		c->count_load_time = now;
	c->gate = gate;
}

static void latch_count(struct mk_pit *pit, int n)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	if (!c->count_latched) {
		c->latched_count = counter(pit, n);
		c->count_latched = c->rw_mode;
	}
}

static void latch_status(struct mk_pit *pit, int n)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	if (!c->status_latched) {
		c->status = output(pit, n) << 7 | c->rw_mode << 4 | (c->mode & 7) << 1 | c->bcd;
		c->status_latched = 1;
	}
}

static void write_control(struct mk_pit *pit, u8 val)
{
	struct kvm_pit_channel_state *c;
	int n = val >> 6;

	if (n == 3) {	/* read-back: zeros latch, for each channel that is chosen */
		for (n = 0; n < PIT_CHANNELS; n++) {
			if (!(val & BIT(n + 1)))
				continue;
			if (!(val & BIT(5)))
				latch_count(pit, n);
			if (!(val & BIT(4)))
				latch_status(pit, n);
		}
		return;
	}
	if (!(val & 0x30)) {
		latch_count(pit, n);
		return;
	}
	c = &pit->ch[n];
	if (n == 0)	/* it stands still until a count comes */
		pit->armed = false;
	c->rw_mode = c->read_state = c->write_state = (val >> 4) & 3;
	c->mode = (val >> 1) & 7;
	if (c->mode > 5)	/* 6 and 7 are 2 and 3 */
		c->mode -= 4;
	c->bcd = val & 1;
}

static void write_count(struct mk_pit *pit, int n, u8 val)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	switch (c->write_state) {
	case RW_HIGH:
		load(pit, n, val << 8);
		break;
	case RW_WORD_LOW:
		c->write_latch = val;
		c->write_state = RW_WORD_HIGH;
		break;
	case RW_WORD_HIGH:
		load(pit, n, c->write_latch | val << 8);
		c->write_state = RW_WORD_LOW;
		break;
	default:
		load(pit, n, val);
	}
}

static u8 read_channel(struct mk_pit *pit, int n)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];
	u8 part;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched) {
		part = c->count_latched;
		c->count_latched = part == RW_WORD_LOW ? RW_HIGH : 0;
		return part == RW_HIGH ? c->latched_count >> 8 : c->latched_count;
	}
	part = c->read_state;
	if (part == RW_WORD_LOW)
		c->read_state = RW_WORD_HIGH;
	else if (part == RW_WORD_HIGH)
		c->read_state = RW_WORD_LOW;
	return part == RW_HIGH || part == RW_WORD_HIGH ? counter(pit, n) >> 8 : counter(pit, n);
}

static u8 read_speaker(const struct mk_pit *pit)
{
	/* Bit 4 toggles with the memory refresh, about every 15 microseconds. */
	return pit->ch[SPEAKER].gate |
	       !!(pit->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) << 1 |
	       (ktime_get_ns() >> 14 & 1) << 4 |
	       output(pit, SPEAKER) << 5;
}

static void write_speaker(struct mk_pit *pit, u8 val)
{
	pit->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	if (val & BIT(1))
		pit->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	set_gate(pit, val & BIT(0));
}

bool mk_pit_pio(struct mk_pit *pit, u16 port, u8 *val, bool write)
{
	int n = port - PIT_BASE;
	unsigned long flags;

	if (!pit || (port == SPEAKER_PORT && !pit->speaker))
		return false;

	raw_spin_lock_irqsave(&pit->chip->lock, flags);
	if (port == SPEAKER_PORT) {
		if (write)
			write_speaker(pit, *val);
		else
			*val = read_speaker(pit);
	} else if (n == PIT_CONTROL) {
		if (write)
			write_control(pit, *val);
		else
			*val = 0;	/* the data sheet has no such read */
	} else {
		if (write)
			write_count(pit, n, *val);
		else
			*val = read_channel(pit, n);
	}
	raw_spin_unlock_irqrestore(&pit->chip->lock, flags);
	return true;
}

static struct mk_pit *find(struct mk_vm *vm)
{
	struct mk_irqchip *chip = mk_irqchip_of(vm);

	return chip ? smp_load_acquire(&chip->pit) : NULL;
}

int mk_pit_get2(struct mk_vm *vm, struct kvm_pit_state2 *state)
{
	struct mk_pit *pit = find(vm);
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	memset(state, 0, sizeof(*state));
	raw_spin_lock_irqsave(&pit->chip->lock, flags);
	memcpy(state->channels, pit->ch, sizeof(pit->ch));
	state->flags = pit->flags;
	raw_spin_unlock_irqrestore(&pit->chip->lock, flags);
	return 0;
}

static void restore(struct mk_pit *pit, const struct kvm_pit_channel_state *ch, u32 pit_flags)
{
	unsigned long flags;
	int n;

	raw_spin_lock_irqsave(&pit->chip->lock, flags);
	memcpy(pit->ch, ch, sizeof(pit->ch));
	pit->flags = pit_flags;
	for (n = 0; n < PIT_CHANNELS; n++) {
		pit->ch[n].gate = n != SPEAKER || pit->ch[n].gate;
		load(pit, n, pit->ch[n].count);
	}
	raw_spin_unlock_irqrestore(&pit->chip->lock, flags);
}

int mk_pit_set2(struct mk_vm *vm, const struct kvm_pit_state2 *state)
{
	struct mk_pit *pit = find(vm);

	if (!pit)
		return -ENXIO;
	restore(pit, state->channels, state->flags);
	return 0;
}

int mk_pit_get(struct mk_vm *vm, struct kvm_pit_state *state)
{
	struct kvm_pit_state2 state2;
	int err = mk_pit_get2(vm, &state2);

	if (!err)
		memcpy(state->channels, state2.channels, sizeof(state->channels));
	return err;
}

int mk_pit_set(struct mk_vm *vm, const struct kvm_pit_state *state)
{
	struct mk_pit *pit = find(vm);

	if (!pit)
		return -ENXIO;
	restore(pit, state->channels, READ_ONCE(pit->flags));
	return 0;
}

int mk_pit_reinject(struct mk_vm *vm, bool owed)
{
	struct mk_pit *pit = find(vm);
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	raw_spin_lock_irqsave(&pit->chip->lock, flags);
	pit->loses = !owed;
	if (!owed)
		pit->owed = 0;
	raw_spin_unlock_irqrestore(&pit->chip->lock, flags);
	return 0;
}

int mk_pit_create(struct mk_vm *vm, const struct kvm_pit_config *config)
{
	struct mk_irqchip *chip;
	struct mk_pit *pit;
	int err = 0, n;

	if (config->flags & ~KVM_PIT_SPEAKER_DUMMY)
		return -EINVAL;
	mutex_lock(&vm->lock);
	chip = vm->irqchip;
	if (!chip || chip->split) {
		err = -ENOENT;
		goto out;
	}
	if (chip->pit) {
		err = -EEXIST;
		goto out;
	}
	pit = kzalloc(sizeof(*pit), GFP_KERNEL_ACCOUNT);
	if (!pit) {
		err = -ENOMEM;
		goto out;
	}
	pit->chip = chip;
	pit->speaker = config->flags & KVM_PIT_SPEAKER_DUMMY;
	hrtimer_init(&pit->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	pit->timer.function = tick;
	for (n = 0; n < PIT_CHANNELS; n++) {
		pit->ch[n].mode = NO_MODE;
		pit->ch[n].gate = n != SPEAKER;
		load(pit, n, 0);
	}
	smp_store_release(&chip->pit, pit);
out:
	mutex_unlock(&vm->lock);
	return err;
}

void mk_pit_free(struct mk_pit *pit)
{
	if (pit)
		hrtimer_cancel(&pit->timer);
	kfree(pit);
}
