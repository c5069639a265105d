/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few kernel headers that floor 2 uses, for a native build: here and in
 * the files beside this one. UAPI headers come from the system.
 */
#ifndef SHIM_LINUX_TYPES_H
#define SHIM_LINUX_TYPES_H

#include_next <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
/* long long, as in the kernel, so that the same code meets the same warnings */
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;

#endif
