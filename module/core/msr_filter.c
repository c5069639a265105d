// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_X86_SET_MSR_FILTER: which of its MSRs a guest may read and write, as the VMM
 * has it. What is refused is #GP, or an exit to userspace: see exit_rdmsr() in
 * core/exits.c.
 *
 * A filter is replaced as a whole. Those MSRs that the hardware lets pass have to
 * follow, so each vCPU looks again before its next entry (MK_REQ_MSRS).
 */
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "core/vcpu.h"

struct msr_range {
	u32 base, nr;
	u32 flags;			/* KVM_MSR_FILTER_READ, _WRITE */
	unsigned long *allowed;		/* a bit for each MSR */
};

struct mk_msr_filter {
	struct rcu_head rcu;
	bool default_allow;
	unsigned int nr;
	struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
};

/* The local APIC's own registers cannot be filtered. */
static bool is_x2apic(u32 msr)
{
	return msr >= APIC_BASE_MSR && msr <= APIC_BASE_MSR + 0xff;
}

bool mk_msr_filter_denies(struct mk_vm *vm, u32 msr, bool write)
{
	u32 flag = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;
	const struct mk_msr_filter *filter;
	const struct msr_range *r;
	bool allowed;

	if (is_x2apic(msr))
		return false;
	rcu_read_lock();
	filter = rcu_dereference(vm->msr_filter);
	allowed = !filter || filter->default_allow;
	for (r = filter ? filter->range : NULL; r && r < filter->range + filter->nr; r++) {
		if ((r->flags & flag) && msr - r->base < r->nr) {
			allowed = test_bit(msr - r->base, r->allowed);
			break;
		}
	}
	rcu_read_unlock();
	return !allowed;
}

static void free_filter(struct mk_msr_filter *filter)
{
	unsigned int i;

	for (i = 0; filter && i < filter->nr; i++)
		kfree(filter->range[i].allowed);
	kfree(filter);
}

static int add_msrs(struct mk_msr_filter *filter, const struct kvm_msr_filter_range *user)
{
	size_t size = BITS_TO_LONGS((size_t)user->nmsrs) * sizeof(long);
	struct msr_range *r = &filter->range[filter->nr];
	unsigned long *allowed;

	if (!user->nmsrs)
		return 0;
	if (!user->flags || user->flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) ||
	    size > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return -EINVAL;
	allowed = kmalloc(size, GFP_KERNEL_ACCOUNT);
	if (!allowed)
		return -ENOMEM;
	*r = (struct msr_range){ user->base, user->nmsrs, user->flags, allowed };
	filter->nr++;
	return copy_from_user(allowed, (void __user *)user->bitmap, size) ? -EFAULT : 0;
}

int mk_msr_filter_set(struct mk_vm *vm, const struct kvm_msr_filter *user)
{
	struct mk_msr_filter *filter, *old;
	int i, err = 0;

	if (user->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	filter = kzalloc(sizeof(*filter), GFP_KERNEL_ACCOUNT);
	if (!filter)
		return -ENOMEM;
	filter->default_allow = !(user->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (i = 0; !err && i < ARRAY_SIZE(user->ranges); i++)
		err = add_msrs(filter, &user->ranges[i]);
	/* A guest that may touch no MSR at all is a mistake. */
	if (!err && !filter->nr && !filter->default_allow)
		err = -EINVAL;
	if (err) {
		free_filter(filter);
		return err;
	}
	if (!filter->nr) {	/* allows all, as none does */
		kfree(filter);
		filter = NULL;
	}

	mutex_lock(&vm->lock);
	old = rcu_replace_pointer(vm->msr_filter, filter, lockdep_is_held(&vm->lock));
	mk_request_all(vm, MK_REQ_MSRS);
	mutex_unlock(&vm->lock);
	synchronize_rcu();
	free_filter(old);
	return 0;
}

void mk_msr_filter_free(struct mk_vm *vm)
{
	free_filter(rcu_dereference_protected(vm->msr_filter, true));
}
