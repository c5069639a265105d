/* SPDX-License-Identifier: GPL-2.0 */
/* Locks that notice when their holder asks for them again. */
#ifndef SHIM_LINUX_SPINLOCK_H
#define SHIM_LINUX_SPINLOCK_H

#include <assert.h>

typedef struct { int held; } raw_spinlock_t;

#define raw_spin_lock_init(l)	((l)->held = 0)
#define raw_spin_lock_irqsave(l, flags) \
	do { (void)(flags = 0); assert(!(l)->held++); } while (0)
#define raw_spin_unlock_irqrestore(l, flags) \
	do { (void)(flags); assert(!--(l)->held); } while (0)

typedef struct { int held; } spinlock_t;

#define spin_lock_init(l)	((l)->held = 0)
#define lockdep_is_held(l)	((l)->held)

struct mutex { int held; };

#define mutex_lock(m)		assert(!(m)->held++)
#define mutex_unlock(m)		assert(!--(m)->held)

#endif
