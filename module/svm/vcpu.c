// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU's VMCB: created with what is allowed and what exits, loaded on a
 * host CPU, taken off again; and the backend's table of operations.
 *
 * Knows: all of this backend. Read next: svm/state.c.
 */
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kvm.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/trapnr.h>

#include "hw/compat.h"
#include "svm/svm.h"

#define MSRPM_ORDER	1

/* As stock KVM names them. APM vol. 2, "Pause Intercept Filtering". */
static ushort pause_filter_count = 3000;
module_param(pause_filter_count, ushort, 0444);
MODULE_PARM_DESC(pause_filter_count, "SVM: a loop exits after so many PAUSEs; 0: loops do not exit");
static ushort pause_filter_thresh = 128;
module_param(pause_filter_thresh, ushort, 0444);
MODULE_PARM_DESC(pause_filter_thresh, "SVM: PAUSEs of a loop are no farther apart than this, in ticks");

/* APM vol. 2, "Layout of VMCB": offsets that hardware and asm/svm.h must agree on. */
static_assert(offsetof(struct vmcb, control.iopm_base_pa) == 0x40);
static_assert(offsetof(struct vmcb, control.asid) == 0x58);
static_assert(offsetof(struct vmcb, control.int_ctl) == 0x60);
static_assert(offsetof(struct vmcb, control.exit_code) == 0x70);
static_assert(offsetof(struct vmcb, control.exit_int_info) == 0x88);
static_assert(offsetof(struct vmcb, control.nested_ctl) == 0x90);
static_assert(offsetof(struct vmcb, control.event_inj) == 0xa8);
static_assert(offsetof(struct vmcb, control.nested_cr3) == 0xb0);
static_assert(offsetof(struct vmcb, control.clean) == 0xc0);
static_assert(offsetof(struct vmcb, control.next_rip) == 0xc8);
static_assert(offsetof(struct vmcb, save) == 0x400);
static_assert(offsetof(struct vmcb, save.cpl) == 0x4cb);
static_assert(offsetof(struct vmcb, save.efer) == 0x4d0);
static_assert(offsetof(struct vmcb, save.rip) == 0x578);
static_assert(offsetof(struct vmcb, save.rax) == 0x5f8);
static_assert(offsetof(struct vmcb, save.cr2) == 0x640);
static_assert(offsetof(struct vmcb, save.g_pat) == 0x668);
static_assert(offsetof(struct vmcb, save.spec_ctrl) == 0x6e0);

/*
 * What exits, always. CR0 writes that change more than TS and MP are among
 * it; the rest of the CR0 and CR4 policy is in state.c, by what the guest's
 * view needs, and UMIP's. #DB and #AC are: each can keep the CPU in their delivery for
 * ever, where no interrupt gets in. #MC is the host's. Debug registers exit
 * on every access, all sixteen of them, and are set below.
 */
static const u8 always_exits[] = {
	INTERCEPT_CR4_WRITE,
	INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_DB,
	INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_UD,
	INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_AC,
	INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_MC,
	INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT,
	INTERCEPT_SELECTIVE_CR0, INTERCEPT_RDPMC, INTERCEPT_CPUID,
	INTERCEPT_INVD, INTERCEPT_HLT, INTERCEPT_INVLPGA, INTERCEPT_IOIO_PROT,
	INTERCEPT_MSR_PROT, INTERCEPT_TASK_SWITCH, INTERCEPT_SHUTDOWN,
	INTERCEPT_VMRUN, INTERCEPT_VMMCALL, INTERCEPT_VMLOAD, INTERCEPT_VMSAVE,
	INTERCEPT_STGI, INTERCEPT_CLGI, INTERCEPT_SKINIT, INTERCEPT_WBINVD,
	INTERCEPT_MONITOR, INTERCEPT_MWAIT, INTERCEPT_XSETBV, INTERCEPT_RDPRU,
};

static atomic64_t last_id;

static int svm_vcpu_create(struct mk_cpu *cpu)
{
	struct svm_vcpu *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	struct vmcb_control_area *c;
	int i;

	if (!s)
		return -ENOMEM;
	s->vmcb = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	s->msrpm = (void *)__get_free_pages(GFP_KERNEL_ACCOUNT, MSRPM_ORDER);
	if (!s->vmcb || !s->msrpm) {
		free_page((unsigned long)s->vmcb);
		free_pages((unsigned long)s->msrpm, MSRPM_ORDER);
		kfree(s);
		return -ENOMEM;
	}
	memset(s->msrpm, 0xff, PAGE_SIZE << MSRPM_ORDER);
	s->id = atomic64_inc_return(&last_id);
	s->cpu = -1;
	s->entry.guest_pa = __sme_pa(s->vmcb);

	c = &s->vmcb->control;
	for (i = 0; i < ARRAY_SIZE(always_exits); i++)
		svm_intercept(s->vmcb, always_exits[i], true);
	c->intercepts[INTERCEPT_DR] = ~0u;
	c->iopm_base_pa = svm_iopm_pa();
	c->msrpm_base_pa = __sme_pa(s->msrpm);
	c->int_ctl = V_INTR_MASKING_MASK;
	if (cpu->exits_off & KVM_X86_DISABLE_EXITS_HLT)
		svm_intercept(s->vmcb, INTERCEPT_HLT, false);
	if (cpu->exits_off & KVM_X86_DISABLE_EXITS_MWAIT) {
		svm_intercept(s->vmcb, INTERCEPT_MONITOR, false);
		svm_intercept(s->vmcb, INTERCEPT_MWAIT, false);
	}
	if (svm_pause_filter && pause_filter_count &&
	    !(cpu->exits_off & KVM_X86_DISABLE_EXITS_PAUSE)) {
		svm_intercept(s->vmcb, INTERCEPT_PAUSE, true);
		c->pause_filter_count = pause_filter_count;
		c->pause_filter_thresh = pause_filter_thresh;
	}
	c->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;

	cpu->hw = s;
	cpu->valid = cpu->dirty = MK_G_ALL;
	return 0;
}

static void svm_vcpu_destroy(struct mk_cpu *cpu)
{
	struct svm_vcpu *s = svm_of(cpu);

	free_page((unsigned long)s->vmcb);
	free_pages((unsigned long)s->msrpm, MSRPM_ORDER);
	kfree(s);
	cpu->hw = NULL;
}

/*
 * A new ASID is an empty TLB. When they run out, all start again, and the next VMRUN here
 * flushes all. Whose that will be is open, as a vCPU can be preempted before it; so it is
 * asked of each that gets an ASID until it has happened.
 */
static void new_asid(struct svm_vcpu *s, struct svm_cpu *sc)
{
	struct vmcb_control_area *c = &s->vmcb->control;

	if (sc->next_asid >= svm_caps.tlb_tags) {
		sc->asid_gen++;
		sc->next_asid = 1;
		sc->flush_all = true;
	}
	if (sc->flush_all)
		c->tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	c->asid = sc->next_asid++;
	c->clean &= ~SVM_CLEAN_ASID;
	s->asid_gen = sc->asid_gen;
}

void svm_flush_tlb(struct svm_vcpu *s)
{
	if (!svm_flush_by_asid)
		new_asid(s, this_cpu_ptr(&svm_cpus));
	else if (!s->vmcb->control.tlb_ctl)
		s->vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ASID;
}

static void svm_load(struct mk_cpu *cpu)
{
	struct svm_vcpu *s = svm_of(cpu);
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpus);
	struct vmcb_control_area *c = &s->vmcb->control;
	u64 root = __sme_set(cpu->tdp_root);
	int here = smp_processor_id();

	cpu->host_cpu = here;
	if (s->cpu != here) {
		s->cpu = here;
		s->asid_gen = 0;
		c->clean = 0;
	}
	/* Another vCPU, or a change of CPUs, may have used this ASID up. */
	if (s->asid_gen != sc->asid_gen)
		new_asid(s, sc);
	if (c->nested_cr3 != root) {
		c->nested_cr3 = root;
		c->clean &= ~SVM_CLEAN_NPT;
		svm_flush_tlb(s);
	}
	/* One guest must not steer what another one speculates on. */
	if (sc->last_id != s->id) {
		sc->last_id = s->id;
		indirect_branch_prediction_barrier();
	}

	s->entry.host_pa = __sme_set(page_to_phys(sc->host));
	svm_vmsave(s->entry.host_pa);
	s->tsc_aux = sc->tsc_aux;
	s->tsc_ratio = cpu->tsc_ratio;
	if (unlikely(s->tsc_ratio))
		wrmsrl(MSR_AMD64_TSC_RATIO, s->tsc_ratio);
}

static void svm_put(struct mk_cpu *cpu)
{
	struct svm_vcpu *s = svm_of(cpu);
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpus);

	if (s->tsc_aux != sc->tsc_aux)
		wrmsrl(MSR_TSC_AUX, sc->tsc_aux);
	if (unlikely(s->tsc_ratio))
		wrmsr(MSR_AMD64_TSC_RATIO, 0, 1);	/* one: SVM_TSC_FRAC */
	/* #VMEXIT resets DR7 and leaves the guest's DR6 behind. */
	if (s->vmcb->save.dr6 != DR6_RESERVED)
		set_debugreg(DR6_RESERVED, 6);
	mk_ibpb_before_user();
}

/* APM vol. 2, "MSR Intercepts": where each range of MSRs begins in the bitmap. */
static void svm_pass_msr(struct mk_cpu *cpu, u32 msr, bool read, bool write)
{
	struct svm_vcpu *s = svm_of(cpu);
	unsigned int byte, bit;
	u8 mask;

	if (msr < 0x2000)
		byte = 0;
	else if (msr >= 0xc0000000 && msr < 0xc0002000)
		byte = 0x800;
	else if (msr >= 0xc0010000 && msr < 0xc0012000)
		byte = 0x1000;
	else
		return;
	byte += (msr & 0x1fff) / 4;
	bit = (msr & 3) * 2;

	mask = s->msrpm[byte] & ~(3u << bit);
	s->msrpm[byte] = mask | (!read << bit) | (!write << (bit + 1));
	s->vmcb->control.clean &= ~SVM_CLEAN_PERM_MAP;
	if (msr == MSR_IA32_SPEC_CTRL)
		s->entry.spec_passed = write;
}

static void svm_set_tsc_offset(struct mk_cpu *cpu, s64 offset)
{
	struct vmcb_control_area *c = &svm_of(cpu)->vmcb->control;

	c->tsc_offset = offset;
	c->clean &= ~SVM_CLEAN_INTERCEPTS;
}

static void svm_exit_info(struct mk_cpu *cpu, struct mk_exit_info *info)
{
	const struct vmcb_control_area *c = &svm_of(cpu)->vmcb->control;

	info->info1 = c->exit_info_1;
	info->info2 = c->exit_info_2;
	info->intr_info = c->exit_int_info;
	info->error_code = c->exit_int_info_err;
}

static void svm_trap_int3(struct mk_cpu *cpu, bool on)
{
	struct vmcb *vmcb = svm_of(cpu)->vmcb;

	svm_intercept(vmcb, INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_BP, on);
	vmcb->control.clean &= ~SVM_CLEAN_INTERCEPTS;
}

const struct mk_backend mk_svm = {
	.name = "svm",
	.tdp = MK_TDP_NPT,
	.hypercall_len = 3,
	.caps = &svm_caps,
	.supported = svm_supported,
	.setup = svm_setup,
	.teardown = svm_teardown,
	.cpu_on = svm_cpu_on,
	.cpu_off = svm_cpu_off,
	.vcpu_create = svm_vcpu_create,
	.vcpu_destroy = svm_vcpu_destroy,
	.load = svm_load,
	.put = svm_put,
	.need = svm_need,
	.run = svm_run,
	.pass_msr = svm_pass_msr,
	.set_tsc_offset = svm_set_tsc_offset,
	.trap_int3 = svm_trap_int3,
	.exit_info = svm_exit_info,
	.describe = svm_describe,
	.describe_mitigations = svm_describe_mitigations,
};
