// SPDX-License-Identifier: GPL-2.0
/*
 * The module comes and goes.
 *
 * Loading finds out which hardware this machine has and opens /dev/minikvm; it
 * does not take the hardware, so that another hypervisor can have it until
 * the first VM is made. Where to read: README.md has the way through the
 * floors; the shortest is door/vcpu.c, core/run.c, svm/run.c.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "backend.h"
#include "board/board.h"
#include "core/power.h"
#include "door/door.h"

const struct mk_backend *mk_hw;

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "minikvm",
	.mode = 0660,
	.fops = &mk_device_fops,
};

static int find_hardware(void)
{
	struct mk_refusal refusal = {};
	int err;

	switch (boot_cpu_data.x86_vendor) {
	case X86_VENDOR_INTEL:
	case X86_VENDOR_CENTAUR:
	case X86_VENDOR_ZHAOXIN:
		mk_hw = &mk_vmx;
		break;
	case X86_VENDOR_AMD:
	case X86_VENDOR_HYGON:
		mk_hw = &mk_svm;
		break;
	default:
		pr_err("minikvm: this CPU is neither of the VT-x nor of the SVM kind\n");
		return -EOPNOTSUPP;
	}
	err = mk_hw->supported(&refusal);
	if (!err)
		err = mk_hw->setup(&refusal);
	if (err)
		pr_err("minikvm: no guests on this host (error %d): %s\n", err,
		       refusal.why ?: "no reason given");
	return err;
}

static int __init minikvm_init(void)
{
	int err;

	err = find_hardware();
	if (err)
		return err;
	mk_fpu_setup();
	err = mk_irqfd_init();
	if (err)
		goto teardown;
	err = mk_power_init();
	if (err)
		goto irqfd_exit;
	err = misc_register(&device);
	if (err)
		goto power_exit;
	pr_info("minikvm: %s is ready, on /dev/minikvm\n", mk_hw->name);
	return 0;

power_exit:
	mk_power_exit();
irqfd_exit:
	mk_irqfd_exit();
teardown:
	mk_hw->teardown();
	return err;
}

static void __exit minikvm_exit(void)
{
	misc_deregister(&device);
	mk_power_exit();
	mk_irqfd_exit();
	mk_hw->teardown();
	rcu_barrier();
}

module_init(minikvm_init);
module_exit(minikvm_exit);

MODULE_DESCRIPTION("The KVM ABI on VT-x and SVM, in a tenth of the lines");
MODULE_AUTHOR("The mini-kvm developers");
MODULE_LICENSE("GPL");
