// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints' code, and what two of them want to know that nobody else does.
 *
 * Read next: core/run.c, where these two are.
 */
#include "core/vcpu.h"

#define CREATE_TRACE_POINTS
#include "core/trace.h"

void mk_trace_entry(struct mk_vcpu *v)
{
	mk_cpu_need(&v->cpu, MK_G_RIP);
	trace_kvm_entry(v->id, v->cpu.rip);
}

void mk_trace_exit(struct mk_vcpu *v, const struct mk_exit *x)
{
	struct mk_exit_info info = {};

	mk_cpu_need(&v->cpu, MK_G_RIP);
	mk_hw->exit_info(&v->cpu, &info);
	trace_kvm_exit(v->id, v->cpu.rip, mk_hw->tdp == MK_TDP_EPT ? MK_ISA_VMX : MK_ISA_SVM,
		       x->hw, &info);
}
