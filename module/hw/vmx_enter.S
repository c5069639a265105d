/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into the guest and out of it: general registers, and what speculation asks
 * for right at the border. Everything else is in the VMCS or in vmx/run.c.
 *
 * An exit lands on the instruction after VMLAUNCH and VMRESUME, where they
 * also arrive when they fail. So there is one way out, and RFLAGS tell the two
 * apart: an exit clears them, a failure sets CF or ZF.
 *
 * Read next: vmx/run.c. Source: SDM vol. 3, "VM Entries", "VM Exits",
 * "Loading Host State".
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/segment.h>

#include "hw/compat.h"
#include "hw/gprs.h"
#include "hw/vmx_enter.h"

.section .noinstr.text, "ax"

/* bool vmx_enter(u64 *gpr, struct vmx_entry *entry) */
SYM_FUNC_START(vmx_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rsi
	push	%rdi

	cmp	%rsp, VMX_ENTRY_HOST_RSP(%rsi)
	je	.Lhost_rsp_known
	mov	%rsp, VMX_ENTRY_HOST_RSP(%rsi)
	mov	$VMX_FIELD_HOST_RSP, %eax
.Lhost_rsp:
	vmwrite	%rsp, %rax
.Lhost_rsp_known:

	/*
	 * The guest's IA32_SPEC_CTRL may protect less than the host's: no
	 * return and no indirect branch from here to the guest.
	 */
	ALTERNATIVE "jmp .Lspec_entered", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	VMX_ENTRY_SPEC_GUEST(%rsi), %rax
	cmp	VMX_ENTRY_SPEC_HOST(%rsi), %rax
	je	.Lspec_entered
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	mov	%rax, %rdx
	shr	$32, %rdx
	wrmsr
.Lspec_entered:

	/* CF lasts until the jump below; nothing between changes it. */
	btw	$0, VMX_ENTRY_LAUNCHED(%rsi)

	mov	GPR(0)(%rdi), %rax
	LOAD_GPRS

	CLEAR_CPU_BUFFERS

	jc	.Lresume
.Llaunch:
	vmlaunch
	jmp	.Lout
.Lresume:
	vmresume
.Lout:
SYM_INNER_LABEL(vmx_exit_landing, SYM_L_GLOBAL)
	ENDBR
	/* MOV, PUSH and POP leave RFLAGS alone. */
	push	%rdi
	mov	8(%rsp), %rdi
	mov	%rax, GPR(0)(%rdi)
	STORE_GPRS %rdi
	pop	GPR(7)(%rdi)
	setbe	%r8b

	/*
	 * From here on no register holds a value that the guest chose: a
	 * mispredicted branch of the host must find nothing to work with.
	 */
	pop	%rdi
	pop	%rsi
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	movzbl	%r8b, %r8d
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d

	/* All of this comes before the first RET. */
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE

	ALTERNATIVE "jmp .Lspec_left", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	cmpb	$0, VMX_ENTRY_SPEC_READ(%rsi)
	je	.Lspec_known
	rdmsr
	mov	%eax, VMX_ENTRY_SPEC_GUEST(%rsi)
	mov	%edx, VMX_ENTRY_SPEC_GUEST + 4(%rsi)
.Lspec_known:
	mov	VMX_ENTRY_SPEC_HOST(%rsi), %rax
	/* Legacy IBRS must be written anew after less privileged code, even if equal. */
	ALTERNATIVE "", "jmp .Lspec_write", X86_FEATURE_KERNEL_IBRS
	cmp	VMX_ENTRY_SPEC_GUEST(%rsi), %rax
	je	.Lspec_same
.Lspec_write:
	mov	%rax, %rdx
	shr	$32, %rdx
	wrmsr
.Lspec_same:
	/* Neither branch may be speculated past. */
	lfence
.Lspec_left:
	CLEAR_BRANCH_HISTORY_VMEXIT

	mov	%r8d, %eax
	RET

	/* No longer in VMX operation: as if the entry had failed. */
.Lno_vmx:
	stc
	jmp	.Lout

	_ASM_EXTABLE(.Lhost_rsp, .Lhost_rsp_known)
	_ASM_EXTABLE(.Llaunch, .Lno_vmx)
	_ASM_EXTABLE(.Lresume, .Lno_vmx)
SYM_FUNC_END(vmx_enter)

/*
 * The host's handler expects the frame of an NMI, and returns by IRET, which
 * ends the blocking of NMIs that the exit began.
 */
SYM_FUNC_START(vmx_host_nmi)
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	push	$__KERNEL_DS
	push	%rbp
	pushf
	push	$__KERNEL_CS
	call	MK_HOST_NMI
	leave
	RET
SYM_FUNC_END(vmx_host_nmi)
