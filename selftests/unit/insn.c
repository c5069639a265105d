// SPDX-License-Identifier: GPL-2.0
/*
 * The decoder: lengths and operands of a table of encodings, each also cut
 * short at every byte; and random bytes, for the sanitizers to watch.
 */
#include <stdlib.h>
#include <string.h>

#include "logic/insn.h"
#include "tap.h"

#define NR(a) (sizeof(a) / sizeof(*(a)))

static const struct {
	u8 mode, len;
	u8 bytes[MK_INSN_MAX];
	const char *text;
} lengths[] = {
	{ 64, 2, { 0x0f, 0xa2 }, "cpuid" },
	{ 64, 1, { 0xf4 }, "hlt" },
	{ 64, 2, { 0x0f, 0x32 }, "rdmsr" },
	{ 64, 3, { 0x0f, 0x01, 0xd9 }, "vmmcall" },
	{ 64, 3, { 0x0f, 0x01, 0xd1 }, "xsetbv" },
	{ 64, 2, { 0xf3, 0x90 }, "pause" },
	{ 64, 3, { 0x0f, 0x22, 0xd8 }, "mov cr3,rax" },
	{ 64, 4, { 0x44, 0x0f, 0x20, 0xc0 }, "mov rax,cr8" },
	{ 32, 3, { 0x0f, 0x20, 0x04 }, "mov esp,cr0 with mod 0" },
	{ 64, 3, { 0x0f, 0x01, 0x38 }, "invlpg [rax]" },
	{ 64, 8, { 0x0f, 0x01, 0x3c, 0x25, 0, 0, 0, 0 }, "invlpg [abs]" },
	{ 64, 3, { 0x0f, 0x01, 0xf0 }, "lmsw ax" },
	{ 64, 3, { 0x48, 0x89, 0x03 }, "mov [rbx],rax" },
	{ 64, 7, { 0x48, 0x8b, 0x05, 1, 2, 3, 4 }, "mov rax,[rip+disp]" },
	{ 64, 10, { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 }, "mov rax,imm64" },
	{ 64, 5, { 0xb8, 1, 2, 3, 4 }, "mov eax,imm32" },
	{ 64, 4, { 0x66, 0xb8, 1, 2 }, "mov ax,imm16" },
	{ 64, 9, { 0xa1, 1, 2, 3, 4, 5, 6, 7, 8 }, "mov eax,moffs64" },
	{ 64, 6, { 0x67, 0xa1, 1, 2, 3, 4 }, "mov eax,moffs32" },
	{ 16, 3, { 0xa1, 1, 2 }, "mov ax,moffs16" },
	{ 32, 6, { 0xc7, 0x00, 1, 2, 3, 4 }, "mov dword [eax],imm" },
	{ 16, 4, { 0xc7, 0x00, 1, 2 }, "mov word [bx+si],imm" },
	{ 16, 6, { 0xc7, 0x06, 1, 2, 3, 4 }, "mov word [disp16],imm" },
	{ 16, 9, { 0x66, 0xc7, 0x06, 1, 2, 3, 4, 5, 6 }, "mov dword [disp16],imm" },
	{ 16, 5, { 0x67, 0x66, 0x89, 0x04, 0x58 }, "mov [eax+ebx*2],eax" },
	{ 32, 7, { 0xea, 1, 2, 3, 4, 5, 6 }, "jmp far" },
	{ 16, 5, { 0xea, 1, 2, 3, 4 }, "jmp far in 16 bits" },
	{ 64, 4, { 0xc8, 1, 2, 3 }, "enter" },
	{ 64, 3, { 0xf6, 0xc1, 1 }, "test cl,imm" },
	{ 64, 2, { 0xf6, 0xd1 }, "not cl" },
	{ 64, 6, { 0xf7, 0xc1, 1, 2, 3, 4 }, "test ecx,imm" },
	{ 64, 8, { 0x64, 0x8b, 0x04, 0x25, 1, 2, 3, 4 }, "mov eax,fs:[abs]" },
	{ 64, 6, { 0x0f, 0x84, 1, 2, 3, 4 }, "jz near" },
	{ 16, 4, { 0x0f, 0x84, 1, 2 }, "jz near in 16 bits" },
	{ 64, 4, { 0x0f, 0xba, 0xe0, 1 }, "bt eax,imm" },
	{ 64, 5, { 0x0f, 0x38, 0xf0, 0x40, 1 }, "movbe" },
	{ 64, 6, { 0x66, 0x0f, 0x3a, 0x0f, 0xc1, 8 }, "palignr" },
	{ 64, 4, { 0x0f, 0x0d, 0x48, 1 }, "prefetchw" },
	{ 64, 2, { 0xcd, 0x80 }, "int n" },
	{ 64, 2, { 0xe2, 0xfe }, "loop" },
	{ 64, 2, { 0xeb, 0xfe }, "jmp short" },
	{ 64, 5, { 0xe8, 1, 2, 3, 4 }, "call" },
	{ 32, 4, { 0x66, 0xe8, 1, 2 }, "call with 16 bits" },
	{ 64, 3, { 0xc2, 1, 2 }, "ret imm" },
	{ 64, 2, { 0x6a, 1 }, "push imm8" },
	{ 64, 5, { 0x68, 1, 2, 3, 4 }, "push imm32" },
	{ 64, 3, { 0x6b, 0xc0, 1 }, "imul imm8" },
	{ 64, 2, { 0xe4, 1 }, "in al,imm" },
	{ 64, 4, { 0xd9, 0x44, 0x24, 0x08 }, "fld [rsp+8]" },
	{ 64, 2, { 0x0f, 0x77 }, "emms" },
	{ 64, 3, { 0x0f, 0xc7, 0xf0 }, "rdrand" },
	{ 64, 2, { 0x0f, 0xc8 }, "bswap" },
	{ 64, 5, { 0x66, 0x0f, 0x70, 0xc0, 1 }, "pshufd" },
	{ 64, 4, { 0x0f, 0x0f, 0xc0, 0xbf }, "3DNow!" },
	{ 32, 2, { 0xd4, 0x0a }, "aam" },
	{ 32, 2, { 0x62, 0x00 }, "bound" },
	{ 32, 2, { 0xc4, 0x00 }, "les" },
	{ 32, 1, { 0x06 }, "push es" },
	{ 64, 1, { 0xf1 }, "icebp" },
	{ 64, 15, { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
		    0x66, 0x90 }, "nop with 14 prefixes" },
};

static const struct {
	u8 mode;
	int status;
	u8 bytes[MK_INSN_MAX];
	const char *text;
} refused[] = {
	{ 64, MK_INSN_UNSUPPORTED, { 0xc5, 0xf8, 0x28, 0x00 }, "VEX" },
	{ 32, MK_INSN_UNSUPPORTED, { 0xc5, 0xf8, 0x28, 0x00 }, "VEX in 32 bits" },
	{ 64, MK_INSN_UNSUPPORTED, { 0x62, 0xf1, 0x7c, 0x48, 0x28, 0x00 }, "EVEX" },
	{ 64, MK_INSN_UNSUPPORTED, { 0x8f, 0xe9, 0x78, 0x80 }, "XOP" },
	{ 64, MK_INSN_INVALID, { 0x06 }, "push es in 64 bits" },
	{ 64, MK_INSN_INVALID, { 0xff, 0xf8 }, "group 5 /7" },
	{ 64, MK_INSN_INVALID, { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
				 0x66, 0x66, 0x66, 0x66 }, "15 prefixes" },
};

/* The same instruction, cut at each byte, must ask for more and never claim a length. */
static bool cut_is_short(const u8 *bytes, unsigned int len, enum mk_cpu_mode mode)
{
	struct mk_insn insn;
	unsigned int n;

	for (n = 0; n < len; n++) {
		/* of exactly this size, so that the sanitizer sees a byte too far */
		u8 *copy = malloc(n ? n : 1);
		int status;

		memcpy(copy, bytes, n);
		status = mk_insn_decode(&insn, copy, n, mode);
		free(copy);
		if (status != MK_INSN_SHORT)
			return false;
	}
	return true;
}

static void operands(void)
{
	static const struct {
		u8 mode, bytes[8];
		u8 op, dst, src, size, srcsize, seg, base, index, scale;
		s64 disp;
		const char *text;
	} cases[] = {
		{ 64, { 0x8b, 0x44, 0x8b, 0xf8 }, MK_OP_MOV, MK_O_REG, MK_O_RM, 4, 4, MK_DS, MK_RBX,
		  MK_RCX, 2, -8, "mov eax,[rbx+rcx*4-8]" },
		{ 64, { 0x41, 0x88, 0x45, 0x00 }, MK_OP_MOV, MK_O_RM, MK_O_REG, 1, 1, MK_DS, MK_R13,
		  MK_NO_REG, 0, 0, "mov [r13],al" },
		{ 64, { 0x88, 0x45, 0x00 }, MK_OP_MOV, MK_O_RM, MK_O_REG, 1, 1, MK_SS, MK_RBP,
		  MK_NO_REG, 0, 0, "mov [rbp],al" },
		{ 64, { 0x65, 0x48, 0x0f, 0xb7, 0x00 }, MK_OP_MOVZX, MK_O_REG, MK_O_RM, 8, 2, MK_GS,
		  MK_RAX, MK_NO_REG, 0, 0, "movzx rax,word gs:[rax]" },
		{ 64, { 0x2e, 0x8b, 0x00 }, MK_OP_MOV, MK_O_REG, MK_O_RM, 4, 4, MK_DS, MK_RAX,
		  MK_NO_REG, 0, 0, "a CS prefix means nothing in 64 bits" },
		{ 32, { 0x26, 0x8b, 0x00 }, MK_OP_MOV, MK_O_REG, MK_O_RM, 4, 4, MK_ES, MK_RAX,
		  MK_NO_REG, 0, 0, "mov eax,es:[eax]" },
		{ 16, { 0x8b, 0x42, 0x10 }, MK_OP_MOV, MK_O_REG, MK_O_RM, 2, 2, MK_SS, MK_RBP,
		  MK_RSI, 0, 16, "mov ax,[bp+si+16]" },
		{ 64, { 0x48, 0x66, 0x8b, 0x00 }, MK_OP_MOV, MK_O_REG, MK_O_RM, 2, 2, MK_DS, MK_RAX,
		  MK_NO_REG, 0, 0, "REX before another prefix means nothing" },
		{ 64, { 0xf3, 0x0f, 0x6f, 0x00 }, MK_OP_MOVV, MK_O_VEC, MK_O_RM, 16, 4, MK_DS, MK_RAX,
		  MK_NO_REG, 0, 0, "movdqu xmm0,[rax]" },
		{ 64, { 0x66, 0x48, 0x0f, 0x7e, 0x00 }, MK_OP_MOVV, MK_O_RM, MK_O_VEC, 8, 8, MK_DS,
		  MK_RAX, MK_NO_REG, 0, 0, "movq [rax],xmm0" },
		{ 64, { 0xff, 0x30 }, MK_OP_PUSH, MK_O_RM, MK_O_NONE, 8, 4, MK_DS, MK_RAX, MK_NO_REG,
		  0, 0, "push qword [rax]" },
		{ 64, { 0x48, 0x6d }, MK_OP_INS, MK_O_NONE, MK_O_NONE, 4, 8, MK_DS, MK_NO_REG,
		  MK_NO_REG, 0, 0, "ports have no 64 bits" },
	};
	unsigned int i;

	for (i = 0; i < NR(cases); i++) {
		struct mk_insn x;
		int status = mk_insn_decode(&x, cases[i].bytes, sizeof(cases[i].bytes),
					    cases[i].mode);

		ok(status == MK_INSN_OK && x.op == cases[i].op && x.dst == cases[i].dst &&
		   x.src == cases[i].src && x.size == cases[i].size && x.seg == cases[i].seg &&
		   (x.op != MK_OP_MOVZX || x.srcsize == cases[i].srcsize) &&
		   x.base == cases[i].base && x.index == cases[i].index &&
		   x.scale == cases[i].scale && x.disp == cases[i].disp,
		   "insn: operands of %s", cases[i].text);
	}
}

/* No bytes may make the decoder look further than its limit or claim more than it saw. */
static void random_bytes(void)
{
	static const u8 modes[] = { 16, 32, 64 };
	bool sane = true;
	u32 seed = 1;
	int i, j;

	for (i = 0; i < 300000; i++) {
		unsigned int n = (seed >> 16) % (MK_INSN_MAX + 1);
		u8 bytes[MK_INSN_MAX], *copy = malloc(n + 1);
		struct mk_insn insn;

		for (j = 0; j < MK_INSN_MAX; j++) {
			seed = seed * 1664525 + 1013904223;
			bytes[j] = seed >> 24;
		}
		/* at its end, where the sanitizer's red zone begins */
		memcpy(copy + 1, bytes, n);
		if (mk_insn_decode(&insn, copy + 1, n, modes[i % 3]) == MK_INSN_OK)
			sane &= insn.len && insn.len <= n;
		free(copy);
	}
	ok(sane, "insn: random bytes are decoded within their bounds");
}

void insn_tests(void)
{
	static const u8 prefixed[] = { 0x66, 0x48, 0x0f, 0xa2 };
	struct mk_insn insn;
	unsigned int i;

	for (i = 0; i < NR(lengths); i++) {
		int status = mk_insn_decode(&insn, lengths[i].bytes, MK_INSN_MAX, lengths[i].mode);

		ok(status == MK_INSN_OK && insn.len == lengths[i].len &&
		   cut_is_short(lengths[i].bytes, lengths[i].len, lengths[i].mode),
		   "insn: length of %s", lengths[i].text);
	}
	for (i = 0; i < NR(refused); i++)
		ok(mk_insn_decode(&insn, refused[i].bytes, MK_INSN_MAX, refused[i].mode) ==
		   refused[i].status, "insn: refuses %s", refused[i].text);
	operands();
	random_bytes();

	ok(mk_insn_len(prefixed + 2, 2, 0x0fa2, MK_MODE_64) == 2, "insn: known opcode");
	ok(mk_insn_len(prefixed, 4, 0x0fa2, MK_MODE_64) == 4, "insn: known opcode, prefixes");
	ok(mk_insn_len(prefixed, 4, 0x0fa2, MK_MODE_32) == 0, "insn: REX is no prefix in 32 bits");
	ok(mk_insn_len(prefixed, 3, 0x0fa2, MK_MODE_64) == 0, "insn: known opcode, cut short");
	ok(mk_insn_len(prefixed, 4, 0x0f32, MK_MODE_64) == 0, "insn: another opcode");
}
