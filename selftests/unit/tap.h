/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TAP for the native tests: one line for each ok(), the plan at the end.
 */
#ifndef UNIT_TAP_H
#define UNIT_TAP_H

#include <stdbool.h>

/* Returns @good, so that a loop can stop at its first failure. */
bool ok(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void skip(const char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void walk_tests(void);
void insn_tests(void);
void exec_tests(void);
void control_tests(void);
void native_tests(void);
void sregs_tests(void);
void board_tests(void);
void disk_tests(void);

#endif
