// SPDX-License-Identifier: GPL-2.0
/*
 * Taking VMX or SVM with the first VM, giving it back with the last, and
 * keeping that right while CPUs come and go, the machine sleeps or reboots.
 *
 * Knows: the backend's cpu_on() and cpu_off(). Read next: vmx/hw.c, svm/hw.c.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/reboot.h>
#include <linux/smp.h>

#include "backend.h"
#include "core/power.h"
#include "core/vcpu.h"
#include "hw/compat.h"

DEFINE_PER_CPU(bool, mk_cpu_is_on);

/*
 * Guards nr_users and rebooting. nr_users changes under cpus_read_lock() too,
 * so the hotplug callbacks, which run with that lock held for writing, see a
 * stable value.
 */
static DEFINE_MUTEX(power_lock);
static unsigned int nr_users;
static bool rebooting;

struct power_on_result {
	atomic_t failed;
	struct mk_refusal refusal;	/* of the first CPU that failed */
	int cpu;
};

static void power_on(void *arg)
{
	struct power_on_result *res = arg;
	struct mk_refusal refusal = {};

	if (__this_cpu_read(mk_cpu_is_on))
		return;
	if (!mk_hw->cpu_on(&refusal)) {
		__this_cpu_write(mk_cpu_is_on, true);
	} else if (!atomic_xchg(&res->failed, 1)) {
		res->refusal = refusal;
		res->cpu = smp_processor_id();
	}
}

static void power_off(void *unused)
{
	if (!__this_cpu_read(mk_cpu_is_on))
		return;
	__this_cpu_write(mk_cpu_is_on, false);
	mk_hw->cpu_off();
}

static void refuse(const struct power_on_result *res)
{
	pr_err_ratelimited("minikvm: CPU %d cannot run guests (error %d): %s\n",
			   res->cpu, res->refusal.err, res->refusal.why ?: "no reason given");
}

int mk_power_get(void)
{
	struct power_on_result res = { .failed = ATOMIC_INIT(0) };
	int err = 0;

	mutex_lock(&power_lock);
	cpus_read_lock();
	if (rebooting) {
		err = -ESHUTDOWN;
	} else if (!nr_users) {
		on_each_cpu(power_on, &res, 1);
		if (atomic_read(&res.failed)) {
			on_each_cpu(power_off, NULL, 1);
			refuse(&res);
			err = res.refusal.err;
		}
	}
	if (!err)
		nr_users++;
	cpus_read_unlock();
	mutex_unlock(&power_lock);
	return err;
}

void mk_power_put(void)
{
	mutex_lock(&power_lock);
	cpus_read_lock();
	if (!--nr_users)
		on_each_cpu(power_off, NULL, 1);
	cpus_read_unlock();
	mutex_unlock(&power_lock);
}

/*
 * A CPU that comes while VMs live must be able to run them. If it cannot, the
 * vCPUs that are scheduled there fail their entry; the CPU itself comes up.
 */
static int power_cpu_up(unsigned int cpu)
{
	struct power_on_result res = { .failed = ATOMIC_INIT(0) };

	if (nr_users) {
		power_on(&res);
		if (atomic_read(&res.failed))
			refuse(&res);
	}
	return 0;
}

static int power_cpu_down(unsigned int cpu)
{
	power_off(NULL);
	return 0;
}

/* The other CPUs have been unplugged by then; this is the last one. */
static int power_suspend(void)
{
	power_off(NULL);
	mk_time_suspend();
	return 0;
}

static void power_resume(void)
{
	mk_time_resume();
	mk_clock_resume();
	power_cpu_up(raw_smp_processor_id());
}

MK_SYSCORE(power_syscore, power_suspend, power_resume);

/*
 * Firmware and the next kernel expect VMX and SVM off: with VMX on, INIT is
 * blocked, and a warm reboot hangs. vCPUs find mk_cpu_is_on false from here on.
 * After a panic nobody calls this. 6.1 then looks for itself; 6.12 has room for
 * one hypervisor's callback, and stock KVM WARNs where it finds another's.
 */
static int power_reboot(struct notifier_block *nb, unsigned long event, void *unused)
{
	mutex_lock(&power_lock);
	rebooting = true;
	on_each_cpu(power_off, NULL, 1);
	mutex_unlock(&power_lock);
	return NOTIFY_OK;
}

static struct notifier_block reboot_notifier = { .notifier_call = power_reboot };

int mk_power_init(void)
{
	int err;

	err = cpuhp_setup_state_nocalls(MK_CPUHP_STARTING, "x86/minikvm:starting",
					power_cpu_up, power_cpu_down);
	if (err)
		return err;
	err = register_reboot_notifier(&reboot_notifier);
	if (err) {
		cpuhp_remove_state_nocalls(MK_CPUHP_STARTING);
		return err;
	}
	mk_register_syscore(&power_syscore);
	return 0;
}

void mk_power_exit(void)
{
	mk_unregister_syscore(&power_syscore);
	unregister_reboot_notifier(&reboot_notifier);
	cpuhp_remove_state_nocalls(MK_CPUHP_STARTING);
}
