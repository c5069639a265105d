/* SPDX-License-Identifier: GPL-2.0 */
/* Timers on a clock that stands still until a test moves it: see ../../board.c. */
#ifndef SHIM_LINUX_HRTIMER_H
#define SHIM_LINUX_HRTIMER_H

#include <linux/types.h>

#define NSEC_PER_USEC	1000L
#define NSEC_PER_SEC	1000000000L
#define USEC_PER_SEC	1000000L

typedef s64 ktime_t;
#define KTIME_MAX	((s64)~(1ull << 63))

enum hrtimer_restart { HRTIMER_NORESTART, HRTIMER_RESTART };
enum hrtimer_mode { HRTIMER_MODE_ABS_HARD, HRTIMER_MODE_REL_HARD };

struct hrtimer {
	enum hrtimer_restart (*function)(struct hrtimer *timer);
	ktime_t expires;
	bool queued;
	struct hrtimer *next;
};

#define CLOCK_MONOTONIC	1

extern ktime_t clock_now;

void hrtimer_init(struct hrtimer *timer, int clock, enum hrtimer_mode mode);

static inline void hrtimer_start(struct hrtimer *timer, ktime_t time, enum hrtimer_mode mode)
{
	timer->expires = mode == HRTIMER_MODE_REL_HARD ? clock_now + time : time;
	timer->queued = true;
}

static inline void hrtimer_cancel(struct hrtimer *timer)
{
	timer->queued = false;
}

#define hrtimer_try_to_cancel	hrtimer_cancel

static inline bool hrtimer_is_queued(const struct hrtimer *timer)
{
	return timer->queued;
}

#define hrtimer_active		hrtimer_is_queued

static inline void hrtimer_set_expires(struct hrtimer *timer, ktime_t time)
{
	timer->expires = time;
}

static inline ktime_t hrtimer_get_remaining(const struct hrtimer *timer)
{
	return timer->expires - clock_now;
}

static inline void hrtimer_forward_now(struct hrtimer *timer, ktime_t interval)
{
	while (timer->expires <= clock_now)
		timer->expires += interval;
}

#define ktime_get()		clock_now
#define ktime_get_ns()		((u64)clock_now)
#define ktime_add_ns(t, ns)	((t) + (ns))

#endif
