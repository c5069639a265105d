/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: what happens to a vCPU, for tracefs, perf and trace-cmd.
 *
 * Events and fields have the names, sizes and meanings of stock KVM's, so that tools
 * which know those read these. They are minikvm:kvm_exit and so on; "make TRACE_AS_KVM=1"
 * builds a module whose events are kvm:kvm_exit, for tools that look for no other name.
 * Such a module and stock KVM cannot both show events.
 *
 * Source: the "format" files of stock KVM's events in tracefs. Read next: core/trace.c.
 */
#undef TRACE_SYSTEM
#ifdef MK_TRACE_AS_KVM
#define TRACE_SYSTEM kvm
#else
#define TRACE_SYSTEM minikvm
#endif

#if !defined(MK_CORE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MK_CORE_TRACE_H

#include <linux/tracepoint.h>

/* kvm_exit's isa */
#define MK_ISA_VMX	1
#define MK_ISA_SVM	2
/* kvm_mmio's type */
#define MK_TRACE_MMIO_OPEN	0	/* a read that userspace has to answer */
#define MK_TRACE_MMIO_READ	1
#define MK_TRACE_MMIO_WRITE	2

TRACE_EVENT(kvm_entry,
	TP_PROTO(unsigned int vcpu_id, unsigned long rip),
	TP_ARGS(vcpu_id, rip),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu_id)
		__field(unsigned long, rip)
	),
	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->rip = rip;
	),
	TP_printk("vcpu %u, rip 0x%lx", __entry->vcpu_id, __entry->rip)
);

TRACE_EVENT(kvm_exit,
	TP_PROTO(unsigned int vcpu_id, unsigned long rip, u32 isa, u32 reason,
		 const struct mk_exit_info *info),
	TP_ARGS(vcpu_id, rip, isa, reason, info),
	TP_STRUCT__entry(
		__field(unsigned int, exit_reason)
		__field(unsigned long, guest_rip)
		__field(u32, isa)
		__field(u64, info1)
		__field(u64, info2)
		__field(u32, intr_info)
		__field(u32, error_code)
		__field(unsigned int, vcpu_id)
	),
	TP_fast_assign(
		__entry->exit_reason = reason;
		__entry->guest_rip = rip;
		__entry->isa = isa;
		__entry->info1 = info->info1;
		__entry->info2 = info->info2;
		__entry->intr_info = info->intr_info;
		__entry->error_code = info->error_code;
		__entry->vcpu_id = vcpu_id;
	),
	TP_printk("vcpu %u reason 0x%x rip 0x%lx info1 0x%llx info2 0x%llx intr_info 0x%x error_code 0x%x",
		  __entry->vcpu_id, __entry->exit_reason, __entry->guest_rip, __entry->info1,
		  __entry->info2, __entry->intr_info, __entry->error_code)
);

TRACE_EVENT(kvm_page_fault,
	TP_PROTO(unsigned int vcpu_id, unsigned long rip, u64 gpa, u64 error_code),
	TP_ARGS(vcpu_id, rip, gpa, error_code),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu_id)
		__field(unsigned long, guest_rip)
		__field(u64, fault_address)
		__field(u64, error_code)
	),
	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->guest_rip = rip;
		__entry->fault_address = gpa;
		__entry->error_code = error_code;
	),
	TP_printk("vcpu %u rip 0x%lx address 0x%llx error_code 0x%llx", __entry->vcpu_id,
		  __entry->guest_rip, __entry->fault_address, __entry->error_code)
);

TRACE_EVENT(kvm_pio,
	TP_PROTO(unsigned int write, unsigned int port, unsigned int size, unsigned int count,
		 u32 val),
	TP_ARGS(write, port, size, count, val),
	TP_STRUCT__entry(
		__field(unsigned int, rw)
		__field(unsigned int, port)
		__field(unsigned int, size)
		__field(unsigned int, count)
		__field(unsigned int, val)
	),
	TP_fast_assign(
		__entry->rw = write;
		__entry->port = port;
		__entry->size = size;
		__entry->count = count;
		__entry->val = val & (~0u >> (32 - 8 * size));
	),
	TP_printk("pio_%s at 0x%x size %u count %u val 0x%x", __entry->rw ? "write" : "read",
		  __entry->port, __entry->size, __entry->count, __entry->val)
);

TRACE_EVENT(kvm_mmio,
	TP_PROTO(u32 type, u32 len, u64 gpa, u64 val),
	TP_ARGS(type, len, gpa, val),
	TP_STRUCT__entry(
		__field(u32, type)
		__field(u32, len)
		__field(u64, gpa)
		__field(u64, val)
	),
	TP_fast_assign(
		__entry->type = type;
		__entry->len = len;
		__entry->gpa = gpa;
		__entry->val = val;
	),
	TP_printk("mmio %s len %u gpa 0x%llx val 0x%llx",
		  __print_symbolic(__entry->type, { MK_TRACE_MMIO_OPEN, "unsatisfied-read" },
				   { MK_TRACE_MMIO_READ, "read" }, { MK_TRACE_MMIO_WRITE, "write" }),
		  __entry->len, __entry->gpa, __entry->val)
);

TRACE_EVENT(kvm_msr,
	TP_PROTO(unsigned int write, u32 msr, u64 data, bool exception),
	TP_ARGS(write, msr, data, exception),
	TP_STRUCT__entry(
		__field(unsigned int, write)
		__field(u32, ecx)
		__field(u64, data)
		__field(u8, exception)
	),
	TP_fast_assign(
		__entry->write = write;
		__entry->ecx = msr;
		__entry->data = data;
		__entry->exception = exception;
	),
	TP_printk("msr_%s %x = 0x%llx%s", __entry->write ? "write" : "read", __entry->ecx,
		  __entry->data, __entry->exception ? " (#GP)" : "")
);

TRACE_EVENT(kvm_cpuid,
	TP_PROTO(u32 function, u32 index, const u64 *gpr),
	TP_ARGS(function, index, gpr),
	TP_STRUCT__entry(
		__field(unsigned int, function)
		__field(unsigned int, index)
		__field(unsigned long, rax)
		__field(unsigned long, rbx)
		__field(unsigned long, rcx)
		__field(unsigned long, rdx)
	),
	TP_fast_assign(
		__entry->function = function;
		__entry->index = index;
		__entry->rax = gpr[MK_RAX];
		__entry->rbx = gpr[MK_RBX];
		__entry->rcx = gpr[MK_RCX];
		__entry->rdx = gpr[MK_RDX];
	),
	TP_printk("func %x idx %x rax %lx rbx %lx rcx %lx rdx %lx", __entry->function,
		  __entry->index, __entry->rax, __entry->rbx, __entry->rcx, __entry->rdx)
);

TRACE_EVENT(kvm_hypercall,
	TP_PROTO(unsigned long nr, const u64 *gpr),
	TP_ARGS(nr, gpr),
	TP_STRUCT__entry(
		__field(unsigned long, nr)
		__field(unsigned long, a0)
		__field(unsigned long, a1)
		__field(unsigned long, a2)
		__field(unsigned long, a3)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->a0 = gpr[MK_RBX];
		__entry->a1 = gpr[MK_RCX];
		__entry->a2 = gpr[MK_RDX];
		__entry->a3 = gpr[MK_RSI];
	),
	TP_printk("nr 0x%lx a0 0x%lx a1 0x%lx a2 0x%lx a3 0x%lx", __entry->nr, __entry->a0,
		  __entry->a1, __entry->a2, __entry->a3)
);

TRACE_EVENT(kvm_inj_virq,
	TP_PROTO(unsigned int vector, bool reinjected),
	TP_ARGS(vector, reinjected),
	TP_STRUCT__entry(
		__field(unsigned int, vector)
		__field(bool, soft)
		__field(bool, reinjected)
	),
	TP_fast_assign(
		__entry->vector = vector;
		__entry->soft = false;
		__entry->reinjected = reinjected;
	),
	TP_printk("IRQ 0x%x%s", __entry->vector, __entry->reinjected ? " [reinjected]" : "")
);

TRACE_EVENT(kvm_inj_exception,
	TP_PROTO(u8 vector, bool has_error, u32 error, bool reinjected),
	TP_ARGS(vector, has_error, error, reinjected),
	TP_STRUCT__entry(
		__field(u8, exception)
		__field(u8, has_error)
		__field(u32, error_code)
		__field(bool, reinjected)
	),
	TP_fast_assign(
		__entry->exception = vector;
		__entry->has_error = has_error;
		__entry->error_code = error;
		__entry->reinjected = reinjected;
	),
	TP_printk("exception %u (0x%x)%s", __entry->exception,
		  __entry->has_error ? __entry->error_code : 0,
		  __entry->reinjected ? " [reinjected]" : "")
);

TRACE_EVENT(kvm_userspace_exit,
	TP_PROTO(u32 reason, int errno),
	TP_ARGS(reason, errno),
	TP_STRUCT__entry(
		__field(u32, reason)
		__field(int, errno)
	),
	TP_fast_assign(
		__entry->reason = reason;
		__entry->errno = errno;
	),
	TP_printk("reason %u (%d)", __entry->reason, __entry->errno)
);

TRACE_EVENT(kvm_vcpu_wakeup,
	TP_PROTO(u64 ns, bool waited, bool valid),
	TP_ARGS(ns, waited, valid),
	TP_STRUCT__entry(
		__field(u64, ns)
		__field(bool, waited)
		__field(bool, valid)
	),
	TP_fast_assign(
		__entry->ns = ns;
		__entry->waited = waited;
		__entry->valid = valid;
	),
	TP_printk("%s time %llu ns, polling %s", __entry->waited ? "wait" : "poll", __entry->ns,
		  __entry->valid ? "valid" : "invalid")
);

/* The vCPU enters, and has left for the reason @x. Interrupts off; only where asked for. */
void mk_trace_entry(struct mk_vcpu *v);
void mk_trace_exit(struct mk_vcpu *v, const struct mk_exit *x);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH core
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
