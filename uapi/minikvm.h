/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What /dev/minikvm offers beside the KVM ABI of <linux/kvm.h>: what the
 * module has to tell about a guest. Nothing here changes the meaning of what
 * KVM defines. On another device these ioctls fail with ENOTTY.
 */
#ifndef _UAPI_MINIKVM_H
#define _UAPI_MINIKVM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MINIKVMIO 0xAF

/**
 * struct minikvm_exits - how often a vCPU left the guest, by kind
 * @nr:   in: entries there is room for; out: kinds there are
 * @exit: name of the kind, and how many
 */
struct minikvm_exits {
	__u32 nr;
	__u32 reserved;
	struct {
		char name[32];
		__u64 count;
	} exit[];
};

/**
 * struct minikvm_death - why the last KVM_RUN could not go on
 * @why: a sentence, or an empty string
 */
struct minikvm_death {
	char why[256];
};

/**
 * struct minikvm_host - what this host's hardware gives to guests
 * @backend: "vmx" or "svm"
 * @text:    in words, a line for each: capabilities, and what is done about
 *           each speculation weakness on entry and exit
 */
struct minikvm_host {
	char backend[8];
	char text[4088];
};

/* vCPU: E2BIG, with nr set, where there is not room for all kinds */
#define MINIKVM_GET_EXITS	_IOWR(MINIKVMIO, 0x01, struct minikvm_exits)
/* vCPU */
#define MINIKVM_GET_DEATH	_IOR(MINIKVMIO, 0x02, struct minikvm_death)
/* device */
#define MINIKVM_GET_HOST	_IOR(MINIKVMIO, 0x03, struct minikvm_host)

#endif
