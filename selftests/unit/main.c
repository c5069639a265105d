// SPDX-License-Identifier: GPL-2.0
/*
 * Runs all native tests. Exits with 0 only if each of them ran and passed.
 */
#include <stdarg.h>
#include <stdio.h>

#include "tap.h"

static unsigned int run, failed;

static void line(const char *status, const char *fmt, va_list args, const char *why)
{
	printf("%s %u ", status, ++run);
	vprintf(fmt, args);
	if (why)
		printf(" # SKIP %s", why);
	putchar('\n');
}

bool ok(bool good, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(good ? "ok" : "not ok", fmt, args, NULL);
	va_end(args);
	failed += !good;
	return good;
}

void skip(const char *why, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line("ok", fmt, args, why);
	va_end(args);
}

void note(const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("TAP version 13");
	walk_tests();
	insn_tests();
	exec_tests();
	control_tests();
	native_tests();
	sregs_tests();
	board_tests();
	disk_tests();
	printf("1..%u\n", run);
	return failed || !run;
}
