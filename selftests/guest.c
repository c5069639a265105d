// SPDX-License-Identifier: GPL-2.0
/*
 * The guest half of a test: its 256 vectors and its way to say that something
 * is wrong.  Runs in the guest only; guest.h says what may be used there.
 */
#include "guest.h"

struct guest_failure guest_failure;
void (*guest_handlers[256])(struct guest_frame *frame);
volatile u64 guest_fixup;
volatile u32 guest_fault;
volatile u64 guest_fault_error;
volatile struct agent_command agent_command;

/* Vectors without an error code push a zero in its place. */
asm(".text\n"
    ".balign 16\n"
    ".globl guest_vectors\n"
    "guest_vectors:\n"
    ".set vector, 0\n"
    ".rept 256\n"
    "	.balign 16\n"
    "	.if !(vector == 8 || (vector >= 10 && vector <= 14) ||"
    "	      vector == 17 || vector == 21)\n"
    "	push $0\n"
    "	.endif\n"
    "	push $vector\n"
    "	jmp guest_vector\n"
    "	.set vector, vector + 1\n"
    ".endr\n"
    "guest_vector:\n"
    "	push %rax; push %rbx; push %rcx; push %rdx\n"
    "	push %rsi; push %rdi; push %rbp\n"
    "	push %r8; push %r9; push %r10; push %r11\n"
    "	push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, %rdi\n"
    "	cld\n"
    "	call guest_interrupt\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12\n"
    "	pop %r11; pop %r10; pop %r9; pop %r8\n"
    "	pop %rbp; pop %rdi; pop %rsi\n"
    "	pop %rdx; pop %rcx; pop %rbx; pop %rax\n"
    "	add $16, %rsp\n"
    "	iretq\n");

static void unexpected_vector(struct guest_frame *frame)
{
	if (!guest_failure.file)
		guest_failure.rip = frame->rip;
	guest_fail(__FILE__, __LINE__, "vector", frame->vector, NO_FAULT);
}

void guest_interrupt(struct guest_frame *frame);

__attribute__((used)) void guest_interrupt(struct guest_frame *frame)
{
	if (guest_handlers[frame->vector]) {
		guest_handlers[frame->vector](frame);
		return;
	}
	if (!guest_fixup)
		unexpected_vector(frame);
	guest_fault = frame->vector;
	guest_fault_error = frame->error;
	frame->rip = guest_fixup;
	guest_fixup = 0;
}

void guest_fail(const char *file, int line, const char *text, u64 got,
		u64 wanted)
{
	/* The first failure counts: the OUT of an outer ring is another. */
	if (!guest_failure.file) {
		guest_failure.file = file;
		guest_failure.line = line;
		guest_failure.text = text;
		guest_failure.got = got;
		guest_failure.wanted = wanted;
	}
	for (;;)
		outl(PORT_FAIL, 0);
}

u32 guest_agent(u64 unused)
{
	for (;;) {
		guest_sync(0);
		if (agent_command.write)
			asm volatile("mov %0, (%1)" : : "r"(agent_command.value),
				     "r"(agent_command.gpa) : "memory");
		else
			asm volatile("mov (%1), %0" : "=r"(agent_command.value)
				     : "r"(agent_command.gpa) : "memory");
	}
}
