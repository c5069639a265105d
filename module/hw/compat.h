/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All that differs between the kernels that we build on, 6.1 and 6.12.
 *
 * One named wrapper for each difference; nothing else in the module asks for
 * a kernel version. It also names the few kernel symbols that later kernels
 * keep for their own KVM, so that a new kernel costs this file and no other.
 */
#ifndef MK_HW_COMPAT_H
#define MK_HW_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "mini-kvm needs Linux 6.1 or newer"
#endif

/* The host's NMI handler for an NMI that arrives as a VM exit, on any stack. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
#define MK_HOST_NMI	asm_exc_nmi_kvm_vmx
#else
#define MK_HOST_NMI	asm_exc_nmi_noist
#endif

#ifdef __ASSEMBLY__

/* On AMD's CPUs, before the first RET after the guest. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define MK_UNTRAIN_RET_VMEXIT	UNTRAIN_RET_VM
#else
.macro MK_UNTRAIN_RET_VMEXIT
	UNTRAIN_RET
	ALTERNATIVE "", "call entry_ibpb", X86_FEATURE_IBPB_ON_VMEXIT
.endm
#endif

/* Right before the guest; kernels that predate TSA have no such step. */
#ifdef VM_CLEAR_CPU_BUFFERS
#define MK_CLEAR_CPU_BUFFERS	VM_CLEAR_CPU_BUFFERS
#else
#define MK_CLEAR_CPU_BUFFERS
#endif

#else /* C */

#include <linux/cpuhotplug.h>
#include <linux/eventfd.h>
#include <linux/kvm_host.h>
#include <linux/percpu.h>
#include <linux/syscore_ops.h>
#include <asm/cpufeature.h>
#include <asm/nospec-branch.h>
#include <asm/smp.h>

/* An interrupt that does nothing but end a guest's run; 6.12 hides it behind a tracepoint. */
static inline void mk_kick_cpu(int cpu)
{
	(smp_ops.smp_send_reschedule)(cpu);
}

/* What the ABI has had since 6.8 to 6.10, for the headers of 6.1. */
#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2		231
struct kvm_userspace_memory_region2 {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 pad1;
	__u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif
#ifndef KVM_CAP_VM_TYPES
#define KVM_CAP_VM_TYPES		235
#define KVM_X86_DEFAULT_VM		0
#endif
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS	237
#endif
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY	236
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY		_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

/* One more on an eventfd: 6.8 takes the number away. Any context. */
static inline void mk_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx);
#else
	eventfd_signal(ctx, 1);
#endif
}

/* The file of a struct fd: 6.12 hides the member. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define mk_fd_file(f)	fd_file(f)
#else
#define mk_fd_file(f)	((f).file)
#endif

/*
 * Around the entry of a guest, like guest_state_enter_irqoff() and its
 * counterpart but without the note to RCU: the run loop makes that once for
 * each time it comes by with interrupts enabled, and at every tick it does.
 */
static __always_inline void mk_guest_enter_irqoff(void)
{
	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();

	context_tracking_guest_enter();
	lockdep_hardirqs_on(CALLER_ADDR0);
}

static __always_inline void mk_guest_exit_irqoff(void)
{
	guest_state_exit_irqoff();
}

/*
 * Virtualization must come on before a task can run on a new CPU, and go off
 * after the last has left it. Only fixed slots run there and the one named for
 * KVM is stock KVM's, so we take one that belongs to another architecture and
 * that nothing on x86 uses.
 */
#define MK_CPUHP_STARTING	CPUHP_AP_ARM_CORESIGHT_STARTING

/* syscore operations: 6.12 (with its stable updates) passes a cookie. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define MK_SYSCORE(name, suspend_fn, resume_fn)				\
	static int name##_suspend(void *unused) { return suspend_fn(); }	\
	static void name##_resume(void *unused) { resume_fn(); }	\
	static const struct syscore_ops name##_ops = {			\
		.suspend = name##_suspend, .resume = name##_resume,	\
	};								\
	static struct syscore name = { .ops = &name##_ops }
#define mk_register_syscore	register_syscore
#define mk_unregister_syscore	unregister_syscore
#else
#define MK_SYSCORE(name, suspend_fn, resume_fn)				\
	static struct syscore_ops name = {				\
		.suspend = suspend_fn, .resume = resume_fn,		\
	}
#define mk_register_syscore	register_syscore_ops
#define mk_unregister_syscore	unregister_syscore_ops
#endif

/* Which of two late mitigations the kernel knows, and has switched on. */
static inline bool mk_has_ibpb_before_user(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	return cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER);
#else
	return false;
#endif
}

static inline bool mk_clears_cpu_buffers(void)
{
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM
	return cpu_feature_enabled(X86_FEATURE_CLEAR_CPU_BUF_VM);
#else
	return false;
#endif
}

/*
 * A guest has run: before userspace sees this CPU again, where the guest could
 * have trained the branches of its own VMM. Kernels that know of that do it on
 * their way out, when asked to.
 */
static inline void mk_ibpb_before_user(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}

/* Of indirect target selection the first kernels of both series do not know. */
#ifndef ARCH_CAP_ITS_NO
#define ARCH_CAP_ITS_NO	BIT_ULL(62)
#endif

static inline bool mk_host_is_safe_from_its(void)
{
#ifdef X86_BUG_ITS
	return !boot_cpu_has_bug(X86_BUG_ITS);
#else
	return false;
#endif
}

#endif /* __ASSEMBLY__ */
/* kvm_run.immediate_exit, read once: 6.12 hides the plain name from the kernel. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define mk_immediate_exit(run)	READ_ONCE((run)->immediate_exit__unsafe)
#else
#define mk_immediate_exit(run)	READ_ONCE((run)->immediate_exit)
#endif

#endif
