/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SHIM_ASM_MSR_INDEX_H
#define SHIM_ASM_MSR_INDEX_H

#define EFER_LME	(1UL << 8)
#define EFER_LMA	(1UL << 10)
#define EFER_NX		(1UL << 11)

#define MSR_IA32_APICBASE		0x1b
#define MSR_IA32_APICBASE_BSP		(1 << 8)
#define MSR_IA32_APICBASE_ENABLE	(1 << 11)
#define MSR_IA32_APICBASE_BASE		(0xfffffULL << 12)
#define MSR_IA32_TSC_DEADLINE		0x6e0

#endif
