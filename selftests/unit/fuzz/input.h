/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a libFuzzer target makes of its bytes: numbers, as many as it asks for;
 * after the last byte they are all 0. And must(), which fails the run.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

struct input {
	const u8 *at;
	size_t left;
};

static inline void take(struct input *in, void *buf, size_t size)
{
	size_t n = size < in->left ? size : in->left;

	memset(buf, 0, size);
	memcpy(buf, in->at, n);
	in->at += n;
	in->left -= n;
}

static inline u8 take8(struct input *in)
{
	u8 v;

	take(in, &v, sizeof(v));
	return v;
}

static inline u64 take64(struct input *in)
{
	u64 v;

	take(in, &v, sizeof(v));
	return v;
}

#define must(what) do {								\
	if (!(what)) {								\
		fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);	\
		abort();							\
	}									\
} while (0)

/* Called by libFuzzer with each input. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#endif
