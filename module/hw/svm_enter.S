/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into the guest and out again.
 *
 * VMRUN switches what the host cannot live a moment without (RIP, RSP, RAX,
 * CR0, CR3, CR4, EFER, flags, tables, CS to DS); VMLOAD and VMSAVE the rest of
 * the segments and their MSRs; the other general registers are ours to move.
 * From CLGI to STGI nothing can interrupt, NMIs included: they find the host
 * either all there or not at all. Interrupts are enabled meanwhile since
 * that is what lets a pending one end the guest's run.
 *
 * Source: APM vol. 2, "VMRUN Instruction", "VMSAVE and VMLOAD Instructions",
 * "Global Interrupt Flag, STGI and CLGI Instructions".
 *
 * Read next: svm/run.c, the only caller.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>

#include "hw/compat.h"
#include "hw/gprs.h"
#include "hw/svm_insn.h"

/*
 * Write \value to IA32_SPEC_CTRL if \current, which is there, is another.
 * Both are u64 in memory. Clobbers RAX, RCX, RDX.
 */
.macro SWITCH_SPEC_CTRL value:req current:req
	mov	\value, %rax
	cmp	\current, %rax
	je	.Lsame_\@
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	mov	%rax, %rdx
	shr	$32, %rdx
	wrmsr
.Lsame_\@:
.endm

.section .noinstr.text, "ax"

/* bool svm_enter(u64 *gpr: rdi, struct svm_entry *entry: rsi) */
SYM_FUNC_START(svm_enter)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rsi
	push	%rdi

.Lclgi:	clgi
	sti

	ALTERNATIVE_2 "jmp .Lguest_spec_done", "", X86_FEATURE_MSR_SPEC_CTRL, \
		      "jmp .Lguest_spec_done", X86_FEATURE_V_SPEC_CTRL
	SWITCH_SPEC_CTRL SVM_ENTRY_SPEC_CTRL(%rsi), PER_CPU_VAR(x86_spec_ctrl_current)
.Lguest_spec_done:

	/* Zen 1's divider would tell the guest what the host divided last. */
	ALTERNATIVE "", __stringify(xor %edx, %edx; mov $1, %eax; div %eax), X86_BUG_DIV0

	mov	SVM_ENTRY_GUEST_PA(%rsi), %rax
	vmload	%rax

	LOAD_GPRS

	MK_CLEAR_CPU_BUFFERS
	vmrun	%rax
	cli

	/* RAX is ours again: the guest's VMCB. */
	vmsave	%rax
	pop	%rax
	STORE_GPRS %rax
	mov	%rdi, GPR(7)(%rax)
	pop	%rsi

	/* Per-CPU variables are within reach from here on. */
	mov	SVM_ENTRY_HOST_PA(%rsi), %rax
	vmload	%rax

	/* Before the first RET, which the guest may have trained. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT

	ALTERNATIVE_2 "jmp .Lhost_spec_done", "", X86_FEATURE_MSR_SPEC_CTRL, \
		      "jmp .Lhost_spec_done", X86_FEATURE_V_SPEC_CTRL
	cmpb	$0, SVM_ENTRY_SPEC_PASSED(%rsi)
	je	.Lguest_spec_known
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	rdmsr
	mov	%eax, SVM_ENTRY_SPEC_CTRL(%rsi)
	mov	%edx, SVM_ENTRY_SPEC_CTRL + 4(%rsi)
.Lguest_spec_known:
	SWITCH_SPEC_CTRL PER_CPU_VAR(x86_spec_ctrl_current), SVM_ENTRY_SPEC_CTRL(%rsi)
.Lhost_spec_done:

	MK_UNTRAIN_RET_VMEXIT

	/* No value of the guest's stays where the host might speculate on it. */
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d

	stgi
	mov	$1, %eax
.Lout:
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

	/* Nobody can take SVM away between CLGI and STGI, so only CLGI may fault. */
.Loff:
	pop	%rdi
	pop	%rsi
	xor	%eax, %eax
	jmp	.Lout
	_ASM_EXTABLE(.Lclgi, .Loff)
SYM_FUNC_END(svm_enter)
