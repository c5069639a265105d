/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SHIM_ASM_TRAP_PF_H
#define SHIM_ASM_TRAP_PF_H

#define X86_PF_PROT	(1u << 0)
#define X86_PF_WRITE	(1u << 1)
#define X86_PF_USER	(1u << 2)
#define X86_PF_RSVD	(1u << 3)
#define X86_PF_INSTR	(1u << 4)
#define X86_PF_PK	(1u << 5)

#endif
