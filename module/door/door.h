/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The door's own: how one ioctl table looks.
 *
 * Each of the device, the VM and the vCPU has a table of commands. A handler
 * gets the object and the ioctl's argument as a user pointer; what the table
 * does for all of them is to find the handler: ENOTTY where there is none.
 */
#ifndef MK_DOOR_DOOR_H
#define MK_DOOR_DOOR_H

#include <linux/fs.h>
#include <linux/uaccess.h>

#include "core/vcpu.h"

struct mk_ioctl {
	unsigned int cmd;
	long (*fn)(void *object, void __user *arg);
};

static inline long mk_ioctl_call(const struct mk_ioctl *table, size_t n, void *object,
				 unsigned int cmd, unsigned long arg)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (table[i].cmd == cmd)
			return table[i].fn(object, (void __user *)arg);
	return -ENOTTY;
}

/* Read, or write, a struct of the ABI as a whole; -EFAULT. */
#define mk_from_user(x, arg)	(copy_from_user(&(x), (arg), sizeof(x)) ? -EFAULT : 0)
#define mk_to_user(arg, x)	(copy_to_user((arg), &(x), sizeof(x)) ? -EFAULT : 0)

/* KVM_HAS_DEVICE_ATTR and its kin, of what has one attribute: -ENXIO for others, -EFAULT */
static inline long mk_only_attr(void __user *arg, u32 group, u64 attr, u64 __user **user)
{
	struct kvm_device_attr asked;

	if (mk_from_user(asked, arg))
		return -EFAULT;
	*user = u64_to_user_ptr(asked.addr);
	return asked.group != group || asked.attr != attr ? -ENXIO : 0;
}

/*
 * KVM_GET_MSRS and KVM_SET_MSRS: @one is asked for each entry, until it refuses. How
 * many were done, or an errno; @get: the entries go back to userspace. door/vcpu.c
 */
long mk_each_msr(void *object, void __user *arg,
		 int (*one)(void *object, struct kvm_msr_entry *e), bool get);

extern const struct file_operations mk_device_fops;
long mk_check_extension(struct mk_vm *vm, unsigned long cap);	/* door/device.c; vm may be NULL */
int mk_vm_fd(unsigned long type);				/* door/vm.c */
int mk_vcpu_fd(struct mk_vm *vm, unsigned long id);		/* door/vcpu.c */
/* KVM_SET_TSC_KHZ: 0; -EINVAL: no frequency (in kHz, 0: the host's) that a guest can have */
u32 mk_exits_to_disable(void);	/* door/vm.c: KVM_X86_DISABLE_EXITS_* that there are */
long mk_stats_fd(struct mk_vm *vm, struct mk_vcpu *v);		/* door/stats.c; v may be NULL */
void mk_describe_host(char *buf, size_t size);			/* door/describe.c */

#endif
