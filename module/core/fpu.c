// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's x87, SSE and AVX registers.
 *
 * The kernel's guest fpstate does the work: KVM_RUN swaps it with the VMM
 * thread's own once on the way in and once on the way out; in between the
 * scheduler treats the guest's registers as the thread's. What depends on
 * the moment of entry alone is XCR0, XSS and PKRU, and those are switched only
 * where guest and host differ.
 *
 * Read next: core/run.c for the moments of entry.
 */
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/pkru.h>

#include "core/vcpu.h"

static u64 host_xcr0, host_xss;

/* Leaf 0xd of the host, read once: CPUID is an exit where this host is a guest. */
static struct {
	u32 size, offset;
	bool aligned;	/* to 64 bytes, in the compacted format */
} component[64];

#define XSAVE_HEADER_END	(512 + 64)

void mk_fpu_setup(void)
{
	u32 eax, ebx, ecx, edx;
	int i;

	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return;
	host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host_xss);
	for (i = 2; i < 64; i++)
		if (host_xcr0 & BIT_ULL(i)) {
			cpuid_count(0xd, i, &eax, &ebx, &ecx, &edx);
			component[i].size = eax;
			component[i].offset = ebx;
			component[i].aligned = ecx & BIT(1);
		}
}

u64 mk_host_xcr0(void)
{
	return host_xcr0;
}

u32 mk_xstate_size(u64 xcr0, bool compacted)
{
	u32 size = XSAVE_HEADER_END;
	int i;

	for (i = 2; i < 64; i++) {
		if (!(xcr0 & BIT_ULL(i)))
			continue;
		if (!compacted)
			size = max(size, component[i].offset + component[i].size);
		else
			size = (component[i].aligned ? ALIGN(size, 64) : size) + component[i].size;
	}
	return size;
}

int mk_fpu_create(struct mk_vcpu *v)
{
	return fpu_alloc_guest_fpstate(&v->fpu) ? 0 : -ENOMEM;
}

void mk_fpu_destroy(struct mk_vcpu *v)
{
	fpu_free_guest_fpstate(&v->fpu);
}

void mk_fpu_enter(struct mk_vcpu *v)
{
	v->host_pkru = read_pkru();
	fpu_swap_kvm_fpstate(&v->fpu, true);
}

void mk_fpu_leave(struct mk_vcpu *v)
{
	fpu_swap_kvm_fpstate(&v->fpu, false);
}

/*
 * The thread slept, and its registers (the guest's) wait in memory: have them
 * in the CPU again. Preemption disabled.
 */
void mk_fpu_reload(void)
{
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

/* With CR4.OSXSAVE clear the guest cannot tell which XCR0 is loaded. */
void mk_xstate_update(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_need(cpu, MK_G_CR);
	v->xstate_differs = boot_cpu_has(X86_FEATURE_XSAVE) &&
			    (cpu->cr4 & X86_CR4_OSXSAVE) &&
			    (cpu->xcr0 != host_xcr0 || cpu->xss != host_xss);
	v->uses_pkru = cpu_feature_enabled(X86_FEATURE_OSPKE) &&
		       ((cpu->cr4 & X86_CR4_PKE) || (cpu->xcr0 & XFEATURE_MASK_PKRU));
}

void mk_xstate_enter(struct mk_vcpu *v)
{
	if (unlikely(v->xstate_differs)) {
		if (v->cpu.xcr0 != host_xcr0)
			xsetbv(XCR_XFEATURE_ENABLED_MASK, v->cpu.xcr0);
		if (v->cpu.xss != host_xss)
			wrmsrl(MSR_IA32_XSS, v->cpu.xss);
	}
	if (v->uses_pkru && v->cpu.pkru != v->host_pkru)
		wrpkru(v->cpu.pkru);
}

void mk_xstate_leave(struct mk_vcpu *v)
{
	if (v->uses_pkru) {
		v->cpu.pkru = rdpkru();
		if (v->cpu.pkru != v->host_pkru)
			wrpkru(v->host_pkru);
	}
	if (unlikely(v->xstate_differs)) {
		if (v->cpu.xcr0 != host_xcr0)
			xsetbv(XCR_XFEATURE_ENABLED_MASK, host_xcr0);
		if (v->cpu.xss != host_xss)
			wrmsrl(MSR_IA32_XSS, host_xss);
	}
}

static struct fxregs_state *fxregs(struct mk_vcpu *v)
{
	return &v->fpu.fpstate->regs.fxsave;
}

/* struct kvm_fpu is the FXSAVE image with its header spread out. */
int mk_get_fpu(struct mk_vcpu *v, struct kvm_fpu *fpu)
{
	struct fxregs_state *fx = fxregs(v);

	memset(fpu, 0, sizeof(*fpu));
	memcpy(fpu->fpr, fx->st_space, sizeof(fpu->fpr));
	fpu->fcw = fx->cwd;
	fpu->fsw = fx->swd;
	fpu->ftwx = fx->twd;
	fpu->last_opcode = fx->fop;
	fpu->last_ip = fx->rip;
	fpu->last_dp = fx->rdp;
	memcpy(fpu->xmm, fx->xmm_space, sizeof(fpu->xmm));
	fpu->mxcsr = fx->mxcsr;
	return 0;
}

int mk_set_fpu(struct mk_vcpu *v, const struct kvm_fpu *fpu)
{
	struct fxregs_state *fx = fxregs(v);

	/* A reserved bit in MXCSR would make the kernel's own restore fault. */
	if (fpu->mxcsr & ~0xffffu)
		return -EINVAL;
	memcpy(fx->st_space, fpu->fpr, sizeof(fpu->fpr));
	fx->cwd = fpu->fcw;
	fx->swd = fpu->fsw;
	fx->twd = fpu->ftwx;
	fx->fop = fpu->last_opcode;
	fx->rip = fpu->last_ip;
	fx->rdp = fpu->last_dp;
	memcpy(fx->xmm_space, fpu->xmm, sizeof(fpu->xmm));
	fx->mxcsr = fpu->mxcsr;
	/* In the XSAVE format a component that is not marked would be reset. */
	if (boot_cpu_has(X86_FEATURE_XSAVE))
		v->fpu.fpstate->regs.xsave.header.xfeatures |= XFEATURE_MASK_FPSSE;
	return 0;
}

/* What no component that is offered reaches is not asked for. */
u32 mk_xsave_size(void)
{
	return max_t(u32, sizeof(struct kvm_xsave), mk_xstate_size(mk_supported_xcr0(), false));
}

void mk_get_xsave(struct mk_vcpu *v, void *buf)
{
	memset(buf, 0, mk_xsave_size());
	fpu_copy_guest_fpstate_to_uabi(&v->fpu, buf, mk_xsave_size(), mk_supported_xcr0(),
				       v->cpu.pkru);
}

int mk_set_xsave(struct mk_vcpu *v, const void *buf)
{
	return fpu_copy_uabi_to_guest_fpstate(&v->fpu, buf, mk_supported_xcr0(), &v->cpu.pkru);
}

#define XMM_EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) \
		    X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

void mk_fpu_get_xmm(unsigned int nr, u64 val[2])
{
	fpregs_lock();
	mk_fpu_reload();
	switch (nr) {
#define X(n) case n: asm("movdqu %%xmm" #n ", %0" : "=m"(*(u64 (*)[2])val)); break;
	XMM_EACH(X)
#undef X
	}
	fpregs_unlock();
}

void mk_fpu_set_xmm(unsigned int nr, const u64 val[2])
{
	fpregs_lock();
	mk_fpu_reload();
	switch (nr) {
#define X(n) case n: asm volatile("movdqu %0, %%xmm" #n : : "m"(*(const u64 (*)[2])val)); break;
	XMM_EACH(X)
#undef X
	}
	fpregs_unlock();
}

/*
 * The guest's own MMX instruction, and what it does to the x87's state. It can raise
 * #MF here, as the x87's state is whatever userspace has made it.
 */
#define MMX_EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

bool mk_fpu_get_mmx(unsigned int nr, u64 *val)
{
	bool good = false;

	fpregs_lock();
	mk_fpu_reload();
	switch (nr) {
#define X(n) case n: asm goto("1: movq %%mm" #n ", %0\n" _ASM_EXTABLE(1b, %l[refused]) \
			      : : "m"(*val) : "memory" : refused); break;
	MMX_EACH(X)
#undef X
	}
	good = true;
refused:
	fpregs_unlock();
	return good;
}

bool mk_fpu_set_mmx(unsigned int nr, u64 val)
{
	bool good = false;

	fpregs_lock();
	mk_fpu_reload();
	switch (nr) {
#define X(n) case n: asm goto("1: movq %0, %%mm" #n "\n" _ASM_EXTABLE(1b, %l[refused]) \
			      : : "m"(val) : : refused); break;
	MMX_EACH(X)
#undef X
	}
	good = true;
refused:
	fpregs_unlock();
	return good;
}
