/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who holds the virtualization hardware, and when.
 */
#ifndef MK_CORE_POWER_H
#define MK_CORE_POWER_H

#include <linux/percpu.h>
#include <linux/types.h>

/* True on a CPU on which VMX or SVM is ours. Read with preemption disabled. */
DECLARE_PER_CPU(bool, mk_cpu_is_on);

int mk_power_init(void);
void mk_power_exit(void);
/*
 * A VM comes: take the hardware on all CPUs. -EBUSY, -EOPNOTSUPP or -EIO, and
 * the log says why; -ESHUTDOWN: the machine is about to reboot.
 */
int mk_power_get(void);
/* A VM went: with the last one, give the hardware back. */
void mk_power_put(void);

#endif
