// SPDX-License-Identifier: GPL-2.0
/*
 * irqfds: an eventfd that somebody writes to is an interrupt of the guest.
 *
 * The interrupt goes out right where the eventfd is signalled, in whatever
 * context that is. With a resample fd it is a level: it stays up until the guest
 * acknowledges it, which lowers it and signals the resample fd.
 *
 * An irqfd ends when it is taken back, when its VM's descriptor is closed, or when
 * the last user of its eventfd closes that. Who takes it off the list ends it.
 *
 * Source: KVM's API document, KVM_IRQFD. Knows: routing. Read next: routing.c.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "board/board.h"
#include "board/chips.h"
#include "hw/compat.h"

/* One is assigned and taken back under vm->lock, so that nobody sees it half made. */
struct irqfd {
	struct mk_irqchip *chip;	/* (c) */
	u32 gsi;			/* (c) */
	struct eventfd_ctx *ctx;	/* (c) */
	struct eventfd_ctx *resample;	/* (c) or NULL */
	struct list_head link;		/* [Q] */
	struct rcu_head rcu;
	wait_queue_entry_t wait;
	poll_table poll;
	struct work_struct end;		/* the eventfd has gone away by itself */
};

/* What ends by itself has ended once this is flushed. */
static struct workqueue_struct *endings;

static void inject(struct irqfd *f)
{
	if (f->resample)
		mk_irq_set(f->chip, MK_SRC_RESAMPLE, f->gsi, true);
	else
		mk_irq_pulse(f->chip, MK_SRC_USER, f->gsi);
}

/* Resamplers of a GSI share its source: the line falls for all, and each may raise it again. */
void mk_irqfd_acked(struct mk_vm *vm, u32 gsi)
{
	struct mk_irqchip *chip = vm->irqchip;
	struct irqfd *f;
	bool lowered = false;

	if (!READ_ONCE(chip->nr_resamplers))
		return;
	rcu_read_lock();
	list_for_each_entry_rcu(f, &chip->irqfds, link) {
		if (f->gsi != gsi || !f->resample)
			continue;
		if (!lowered)
			mk_irq_set(chip, MK_SRC_RESAMPLE, gsi, false);
		lowered = true;
		mk_eventfd_signal(f->resample);
	}
	rcu_read_unlock();
}

/* Nobody holds @gsi up any more who is still there to be told. */
static void lower_unless_shared(struct mk_irqchip *chip, u32 gsi)
{
	struct irqfd *f;
	bool shared = false;

	rcu_read_lock();
	list_for_each_entry_rcu(f, &chip->irqfds, link)
		shared |= f->gsi == gsi && f->resample;
	rcu_read_unlock();
	if (!shared)
		mk_irq_set(chip, MK_SRC_RESAMPLE, gsi, false);
}

/* @f is off the list: nobody finds it any more. May sleep. */
static void end_irqfd(struct irqfd *f)
{
	struct mk_irqchip *chip = f->chip;
	unsigned long flags;
	u64 count;

	/* After this the eventfd does not call us, and what it was calling has returned. */
	eventfd_ctx_remove_wait_queue(f->ctx, &f->wait, &count);
	if (f->resample) {
		raw_spin_lock_irqsave(&chip->lock, flags);
		chip->nr_resamplers--;
		mk_ioapic_recount(chip);
		raw_spin_unlock_irqrestore(&chip->lock, flags);
		synchronize_rcu();	/* mk_irqfd_acked() may still have it */
		lower_unless_shared(chip, f->gsi);
		eventfd_ctx_put(f->resample);
	}
	eventfd_ctx_put(f->ctx);
	kfree_rcu(f, rcu);
}

static void end_work(struct work_struct *work)
{
	end_irqfd(container_of(work, struct irqfd, end));
}

/* Take @f off the list; false: somebody else has. */
static bool unlink(struct irqfd *f)
{
	struct mk_irqchip *chip = f->chip;
	unsigned long flags;
	bool ours;

	spin_lock_irqsave(&chip->irqfd_lock, flags);
	ours = f->link.next != LIST_POISON1;
	if (ours)
		list_del_rcu(&f->link);
	spin_unlock_irqrestore(&chip->irqfd_lock, flags);
	return ours;
}

/* The eventfd's lock is held, interrupts are off. */
static int woken(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *f = container_of(wait, struct irqfd, wait);
	__poll_t events = key_to_poll(key);
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(f->ctx, &count);
		inject(f);
	}
	if ((events & EPOLLHUP) && unlink(f))
		queue_work(endings, &f->end);
	return 0;
}

static void queue_on(struct file *file, wait_queue_head_t *head, poll_table *poll)
{
	struct irqfd *f = container_of(poll, struct irqfd, poll);

	/* Before other readers, who would find the count we have taken. */
	add_wait_queue_priority(head, &f->wait);
}

static bool is_taken(struct mk_irqchip *chip, const struct eventfd_ctx *ctx)
{
	struct irqfd *f;

	list_for_each_entry(f, &chip->irqfds, link)
		if (f->ctx == ctx)
			return true;
	return false;
}

/* Both file references are the caller's. */
static int make_irqfd(struct mk_irqchip *chip, u32 gsi, struct file *file, struct eventfd_ctx *resample)
{
	struct irqfd *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	unsigned long flags;
	__poll_t events;
	int err = 0;

	if (!f)
		return -ENOMEM;
	f->ctx = eventfd_ctx_fileget(file);
	if (IS_ERR(f->ctx)) {
		err = PTR_ERR(f->ctx);
		kfree(f);
		return err;
	}
	f->chip = chip;
	f->gsi = gsi;
	f->resample = resample;
	INIT_WORK(&f->end, end_work);
	init_waitqueue_func_entry(&f->wait, woken);
	init_poll_funcptr(&f->poll, queue_on);

	spin_lock_irqsave(&chip->irqfd_lock, flags);
	if (is_taken(chip, f->ctx))
		err = -EBUSY;
	else
		list_add_rcu(&f->link, &chip->irqfds);
	spin_unlock_irqrestore(&chip->irqfd_lock, flags);
	if (err) {
		eventfd_ctx_put(f->ctx);
		kfree(f);
		return err;
	}
	if (resample) {
		raw_spin_lock_irqsave(&chip->lock, flags);
		chip->nr_resamplers++;
		mk_ioapic_recount(chip);
		raw_spin_unlock_irqrestore(&chip->lock, flags);
	}
	/* From here on it may be called. What was written before counts, too. */
	events = vfs_poll(file, &f->poll);
	if (events & EPOLLIN)
		inject(f);
	return 0;
}

static int assign(struct mk_irqchip *chip, const struct kvm_irqfd *args)
{
	struct eventfd_ctx *resample = NULL;
	struct fd file = fdget(args->fd);
	int err;

	if (!mk_fd_file(file))
		return -EBADF;
	if (args->flags & KVM_IRQFD_FLAG_RESAMPLE) {
		resample = eventfd_ctx_fdget(args->resamplefd);
		if (IS_ERR(resample)) {
			err = PTR_ERR(resample);
			goto out;
		}
	}
	err = make_irqfd(chip, args->gsi, mk_fd_file(file), resample);
	if (err && resample)
		eventfd_ctx_put(resample);
out:
	fdput(file);
	return err;
}

/* The next to end: of @ctx and @gsi, or any if @ctx is NULL. It is off the list. */
static struct irqfd *take_one(struct mk_irqchip *chip, const struct eventfd_ctx *ctx, u32 gsi)
{
	struct irqfd *f, *found = NULL;
	unsigned long flags;

	spin_lock_irqsave(&chip->irqfd_lock, flags);
	list_for_each_entry(f, &chip->irqfds, link) {
		if (!ctx || (f->ctx == ctx && f->gsi == gsi)) {
			found = f;
			list_del_rcu(&f->link);
			break;
		}
	}
	spin_unlock_irqrestore(&chip->irqfd_lock, flags);
	return found;
}

static void end_some(struct mk_irqchip *chip, const struct eventfd_ctx *ctx, u32 gsi)
{
	struct irqfd *f;

	while ((f = take_one(chip, ctx, gsi)))
		end_irqfd(f);
	/* Nor does anything come any more from one that is ending by itself. */
	flush_workqueue(endings);
}

static int deassign(struct mk_irqchip *chip, const struct kvm_irqfd *args)
{
	struct eventfd_ctx *ctx = eventfd_ctx_fdget(args->fd);

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	end_some(chip, ctx, args->gsi);
	eventfd_ctx_put(ctx);
	return 0;
}

int mk_irqfd(struct mk_vm *vm, const struct kvm_irqfd *args)
{
	struct mk_irqchip *chip = mk_irqchip_of(vm);
	int err;

	if (args->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	/* What is not wired to a chip of ours is never acknowledged to us. */
	if (!chip || (chip->split && (args->flags & KVM_IRQFD_FLAG_RESAMPLE)))
		return -EINVAL;
	mutex_lock(&vm->lock);
	err = args->flags & KVM_IRQFD_FLAG_DEASSIGN ? deassign(chip, args) : assign(chip, args);
	mutex_unlock(&vm->lock);
	return err;
}

void mk_irqfd_release(struct mk_vm *vm)
{
	struct mk_irqchip *chip = mk_irqchip_of(vm);

	if (chip)
		end_some(chip, NULL, 0);
}

int mk_irqfd_init(void)
{
	endings = alloc_workqueue("minikvm", 0, 0);
	return endings ? 0 : -ENOMEM;
}

void mk_irqfd_exit(void)
{
	destroy_workqueue(endings);
}
