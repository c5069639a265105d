// SPDX-License-Identifier: GPL-2.0
/*
 * A module that does one thing wrong when it is loaded, and then refuses to stay:
 * "insmod trip.ko what=NAME". The checkers of the kernel are proven with it, and
 * that this repository's tests hear them: see ../detectors.sh. For test machines
 * only; some of what it does leaves the kernel in a state that nobody should use.
 *
 * Each mistake is one that a hypervisor module could make, in code that is built as
 * minikvm's is. LKDTM, the kernel's own, has fewer, and shows only that the kernel's
 * own code is instrumented.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "which mistake to make");

/* What the compiler may not foresee. */
static volatile unsigned int size = 24;
static volatile u8 sink;

/* --- Memory --- */

static void slab_overflow(void)
{
	u8 *p = kmalloc(size, GFP_KERNEL);

	p[size] = 1;
	kfree(p);
}

static void vmalloc_overflow(void)
{
	u8 *p = vmalloc(size);

	sink = p[size];
	vfree(p);
}

static void stack_overflow(void)
{
	u8 array[24];

	memset(array, 0, sizeof(array));
	sink = ((volatile u8 *)array)[size];
}

static void use_after_free(void)
{
	u8 *p = kmalloc(size, GFP_KERNEL);

	kfree(p);
	sink = *(volatile u8 *)p;
}

/* By an instruction that KASAN does not see, as the CPU's own writes to a VMCS are. */
static void write_to_freed_page(void)
{
	unsigned long page = __get_free_page(GFP_KERNEL), seen[16];
	unsigned int i;

	free_page(page);
	asm volatile("movb $1, (%0)" : : "r"(page) : "memory");
	for (i = 0; i < ARRAY_SIZE(seen); i++)
		seen[i] = __get_free_page(GFP_KERNEL);
	for (i = 0; i < ARRAY_SIZE(seen); i++)
		free_page(seen[i]);
}

static void leak(void)
{
	memset(kmalloc(size, GFP_KERNEL), 0, size);
}

/* Kernels that do not look at each object count what they hold. */
static void leak_much(void)
{
	memset(vmalloc(16 << 20), 0, 16 << 20);
}

static void vm_assertion(void)
{
	VM_WARN_ON(size == 24);
}

/* --- Arithmetic --- */

static void shift(void)
{
	sink = 1u << (size + 24);
}

static void bounds(void)
{
	static u32 array[24];

	sink = array[size];
}

/* --- Locks and contexts --- */

static void lock_order(void)
{
	static DEFINE_MUTEX(a);
	static DEFINE_MUTEX(b);

	mutex_lock(&a);
	mutex_lock(&b);
	mutex_unlock(&b);
	mutex_unlock(&a);
	mutex_lock(&b);
	mutex_lock(&a);
	mutex_unlock(&a);
	mutex_unlock(&b);
}

static void rcu_usage(void)
{
	static u8 __rcu *p;

	sink = !!rcu_dereference(p);
}

static void sleep_in_atomic(void)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
}

static void cpu_asked_for(void)
{
	sink = smp_processor_id();
}

static void unbalanced_preempt(void)
{
	preempt_disable();
	schedule();
	preempt_enable();
}

/* --- Objects --- */

static void timer_fires(struct timer_list *timer) { }

static void active_timer_freed(void)
{
	struct timer_list *timer = kmalloc(sizeof(*timer), GFP_KERNEL);

	timer_setup(timer, timer_fires, 0);
	mod_timer(timer, jiffies + 100 * HZ);
	kfree(timer);
}

static void work_waits(struct work_struct *work) { msleep(100); }

static void queued_work_freed(void)
{
	struct workqueue_struct *queue = alloc_ordered_workqueue("trip", 0);
	static struct work_struct first;
	struct work_struct *second = kmalloc(sizeof(*second), GFP_KERNEL);

	INIT_WORK(&first, work_waits);
	INIT_WORK(second, work_waits);
	queue_work(queue, &first);
	queue_work(queue, second);
	kfree(second);
	destroy_workqueue(queue);
}

static void list_corrupted(void)
{
	LIST_HEAD(head);
	LIST_HEAD(other);
	struct list_head item;

	list_add(&item, &head);
	head.next = &other;
	list_del(&item);
}

static void refcount_underflow(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
}

static void warning(void)
{
	WARN(1, "as asked");
}

/* --- Time: the limits are set to a second or so by the test --- */

static void spin(unsigned int seconds)
{
	unsigned int i;

	for (i = 0; i < seconds * 1000; i++)
		udelay(1000);
}

static void soft_lockup(void)
{
	preempt_disable();
	spin(5);
	preempt_enable();
}

static int asks_for_grace_periods(void *data)
{
	while (!kthread_should_stop())
		synchronize_rcu();
	return 0;
}

/*
 * Only a grace period can stall, and it keeps the limit with which it began. A reader that
 * sleeps, which is wrong by itself, lets others run that begin one, also on a single CPU;
 * and while it spins the tick looks for stalls.
 */
static void rcu_stall(void)
{
	struct task_struct *task = kthread_run(asks_for_grace_periods, NULL, "trip");
	unsigned int i;

	synchronize_rcu();
	rcu_read_lock();
	for (i = 0; i < 400; i++) {
		mdelay(10);
		msleep(10);
	}
	rcu_read_unlock();
	kthread_stop(task);
}

static int waits_for_nobody(void *data)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule_timeout(5 * HZ);
	while (!kthread_should_stop())
		msleep(10);
	return 0;
}

static void hung_task(void)
{
	struct task_struct *task = kthread_run(waits_for_nobody, NULL, "trip");

	msleep(4000);
	kthread_stop(task);
}

static const struct {
	const char *name;
	void (*make)(void);
} mistakes[] = {
	{ "slab_overflow", slab_overflow },
	{ "vmalloc_overflow", vmalloc_overflow },
	{ "stack_overflow", stack_overflow },
	{ "use_after_free", use_after_free },
	{ "write_to_freed_page", write_to_freed_page },
	{ "leak", leak },
	{ "leak_much", leak_much },
	{ "vm_assertion", vm_assertion },
	{ "shift", shift },
	{ "bounds", bounds },
	{ "lock_order", lock_order },
	{ "rcu_usage", rcu_usage },
	{ "sleep_in_atomic", sleep_in_atomic },
	{ "cpu_asked_for", cpu_asked_for },
	{ "unbalanced_preempt", unbalanced_preempt },
	{ "active_timer_freed", active_timer_freed },
	{ "queued_work_freed", queued_work_freed },
	{ "list_corrupted", list_corrupted },
	{ "refcount_underflow", refcount_underflow },
	{ "warning", warning },
	{ "soft_lockup", soft_lockup },
	{ "rcu_stall", rcu_stall },
	{ "hung_task", hung_task },
};

static int __init trip_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++)
		if (!strcmp(what, mistakes[i].name)) {
			mistakes[i].make();
			return -ECANCELED;
		}
	return -EINVAL;
}
module_init(trip_init);

MODULE_DESCRIPTION("Mistakes for the kernel's checkers to find");
MODULE_LICENSE("GPL");
