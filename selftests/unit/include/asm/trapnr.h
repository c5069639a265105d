/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SHIM_ASM_TRAPNR_H
#define SHIM_ASM_TRAPNR_H

#define X86_TRAP_DE	0
#define X86_TRAP_UD	6
#define X86_TRAP_TS	10
#define X86_TRAP_NP	11
#define X86_TRAP_SS	12
#define X86_TRAP_GP	13
#define X86_TRAP_PF	14
#define X86_TRAP_MF	16

#endif
