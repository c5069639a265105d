/* SPDX-License-Identifier: GPL-2.0 */
/* Bits and atomics for the board, which runs here on one thread. */
#ifndef SHIM_LINUX_BITOPS_H
#define SHIM_LINUX_BITOPS_H

#include <linux/bits.h>
#include <linux/types.h>

#define GENMASK(h, l)		((~0UL << (l)) & (~0UL >> (63 - (h))))
#define __ffs(x)		((unsigned int)__builtin_ctzl(x))
#define __fls(x)		((unsigned int)(63 - __builtin_clzl(x)))
#define set_bit(nr, p)		((void)(*(p) |= BIT(nr)))
#define for_each_set_bit(bit, p, size) \
	for (bit = 0; bit < (size); bit++) if (*(p) >> bit & 1)

static inline u8 ror8(u8 word, unsigned int shift)
{
	return word >> (shift & 7) | word << (-shift & 7);
}

typedef struct { int counter; } atomic_t;

static inline int atomic_read(const atomic_t *v) { return v->counter; }
static inline void atomic_set(atomic_t *v, int i) { v->counter = i; }
static inline void atomic_or(int i, atomic_t *v) { v->counter |= i; }
static inline void atomic_andnot(int i, atomic_t *v) { v->counter &= ~i; }

static inline int atomic_xchg(atomic_t *v, int i)
{
	int old = v->counter;

	v->counter = i;
	return old;
}

static inline int atomic_fetch_or(int i, atomic_t *v)
{
	return atomic_xchg(v, v->counter | i);
}

static inline unsigned long xchg(unsigned long *p, unsigned long val)
{
	unsigned long old = *p;

	*p = val;
	return old;
}

#define smp_load_acquire(p)		(*(p))
#define smp_store_release(p, val)	((void)(*(p) = (val)))
#define smp_store_mb(var, val)		((void)((var) = (val)))

#endif
