/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which combinations of control registers and segments can exist at all.
 */
#ifndef MK_LOGIC_SREGS_H
#define MK_LOGIC_SREGS_H

#include <linux/kvm.h>
#include <linux/types.h>

/**
 * struct mk_sregs_limits - what this guest's CPU has
 * @cr4:  bits that may be 1
 * @efer: bits that may be 1
 */
struct mk_sregs_limits {
	u64 cr4;
	u64 efer;
	u8 maxphyaddr;
};

/**
 * mk_sregs_check - is this what a CPU could hold?
 *
 * What KVM_SET_SREGS refuses with -EINVAL. What passes may still fail VM entry.
 *
 * Return: NULL, or the rule that is broken, as a sentence without a full stop.
 */
const char *mk_sregs_check(const struct kvm_sregs *s, const struct mk_sregs_limits *limits);

#endif
