// SPDX-License-Identifier: GPL-2.0
/*
 * Any bytes through the decoder. A length is at most 15, needs no byte behind
 * it, and is the same for each number of bytes that hold it; mk_insn_len() agrees.
 */
#include "input.h"
#include "logic/insn.h"

static bool sane(const struct mk_insn *i, enum mk_cpu_mode mode)
{
	const u8 regs = mode == MK_MODE_64 ? 16 : 8;

	return i->len && i->len <= MK_INSN_MAX && i->map <= 3 && i->seg < MK_NR_SEG &&
	       (i->asize == 2 || i->asize == 4 || i->asize == 8) &&
	       (i->opsize == 2 || i->opsize == 4 || i->opsize == 8) &&
	       (i->op == MK_OP_NONE || (i->size && i->size <= 16 && !(i->size & (i->size - 1)))) &&
	       (i->op == MK_OP_NONE || (i->srcsize && i->srcsize <= 16)) &&
	       (!i->has_modrm || (i->mod <= 3 && i->reg < regs && i->rm < regs)) &&
	       (i->base == MK_NO_REG || i->base < regs) &&
	       (i->index == MK_NO_REG || (i->index < regs && i->scale <= 3)) &&
	       (mode == MK_MODE_64 || (i->asize < 8 && i->opsize < 8 && !i->rex)) &&
	       (!i->rip_relative || mode == MK_MODE_64);
}

static void compare_short_way(const u8 *bytes, const struct mk_insn *insn, int status,
			      enum mk_cpu_mode mode)
{
	static const u32 known[] = { 0xf4, 0x0fa2, 0x0f30, 0x0f32, 0x0f01d9, 0x0f01c1 };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		unsigned int len = mk_insn_len(bytes, MK_INSN_MAX, known[i], mode);

		if (!len)
			continue;
		must(status == MK_INSN_OK);
		must(len == insn->len);
		must((known[i] > 0xffff ? known[i] >> 8 & 0xff : known[i] & 0xff) == insn->opcode);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const enum mk_cpu_mode modes[] = { MK_MODE_16, MK_MODE_32, MK_MODE_64 };
	struct input in = { data, size };
	enum mk_cpu_mode mode = modes[take8(&in) % 3];
	u8 bytes[MK_INSN_MAX], *part;
	struct mk_insn whole, again;
	unsigned int n;
	int status, s;

	take(&in, bytes, sizeof(bytes));
	memset(&whole, 0, sizeof(whole));
	status = mk_insn_decode(&whole, bytes, sizeof(bytes), mode);
	must(status != MK_INSN_SHORT);
	if (status == MK_INSN_OK)
		must(sane(&whole, mode));
	compare_short_way(bytes, &whole, status, mode);

	for (n = 0; n < sizeof(bytes); n++) {
		/* on the heap, so that a byte too far is found */
		part = malloc(n ?: 1);
		memcpy(part, bytes, n);
		memset(&again, 0, sizeof(again));
		s = mk_insn_decode(&again, part, n, mode);
		free(part);
		if (status == MK_INSN_OK)
			must(s == (n < whole.len ? MK_INSN_SHORT : MK_INSN_OK));
		else
			must(s == MK_INSN_SHORT || s == status);
		if (s == MK_INSN_OK)
			must(!memcmp(&again, &whole, sizeof(whole)));
	}
	return 0;
}
