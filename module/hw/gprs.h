/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The general registers on their way into the guest and out of it, as both
 * entries move them: all but RAX and RSP, which each vendor treats its own way.
 * For assembly only. An array of u64 in the order of enum mk_gpr.
 */
#ifndef MK_HW_GPRS_H
#define MK_HW_GPRS_H

/* Offset of a general register, by its number in an instruction. */
#define GPR(nr)	(8 * (nr))

/* RDI holds the array, and is loaded last. Leaves RFLAGS alone. */
.macro LOAD_GPRS
	mov	GPR(1)(%rdi), %rcx
	mov	GPR(2)(%rdi), %rdx
	mov	GPR(3)(%rdi), %rbx
	mov	GPR(5)(%rdi), %rbp
	mov	GPR(6)(%rdi), %rsi
	mov	GPR(8)(%rdi), %r8
	mov	GPR(9)(%rdi), %r9
	mov	GPR(10)(%rdi), %r10
	mov	GPR(11)(%rdi), %r11
	mov	GPR(12)(%rdi), %r12
	mov	GPR(13)(%rdi), %r13
	mov	GPR(14)(%rdi), %r14
	mov	GPR(15)(%rdi), %r15
	mov	GPR(7)(%rdi), %rdi
.endm

/* To the array at \base. RDI is left to the caller: it may be \base itself. */
.macro STORE_GPRS base:req
	mov	%rcx, GPR(1)(\base)
	mov	%rdx, GPR(2)(\base)
	mov	%rbx, GPR(3)(\base)
	mov	%rbp, GPR(5)(\base)
	mov	%rsi, GPR(6)(\base)
	mov	%r8, GPR(8)(\base)
	mov	%r9, GPR(9)(\base)
	mov	%r10, GPR(10)(\base)
	mov	%r11, GPR(11)(\base)
	mov	%r12, GPR(12)(\base)
	mov	%r13, GPR(13)(\base)
	mov	%r14, GPR(14)(\base)
	mov	%r15, GPR(15)(\base)
.endm

#endif
