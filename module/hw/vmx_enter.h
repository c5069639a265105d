/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What vmx_enter.S needs of its C callers, and they of it.
 *
 * The numbers are for the assembler; vmx/run.c asserts each of them.
 */
#ifndef MK_HW_VMX_ENTER_H
#define MK_HW_VMX_ENTER_H

#define VMX_ENTRY_HOST_RSP	0
#define VMX_ENTRY_SPEC_GUEST	8
#define VMX_ENTRY_SPEC_HOST	16
#define VMX_ENTRY_LAUNCHED	24
#define VMX_ENTRY_SPEC_READ	25

#define VMX_FIELD_HOST_RSP	0x6c14

#ifndef __ASSEMBLY__

#include <linux/types.h>

/**
 * struct vmx_entry - what the entry assembly keeps for one VMCS
 * @host_rsp:   the HOST_RSP that the VMCS holds
 * @spec_guest: guest's IA32_SPEC_CTRL; read back at the exit if @spec_read
 * @spec_host:  host's, for this entry
 * @launched:   VMRESUME, not VMLAUNCH
 * @spec_read:  the guest may write IA32_SPEC_CTRL without an exit
 *
 * The fields about IA32_SPEC_CTRL are used only on a CPU that has it.
 */
struct vmx_entry {
	u64 host_rsp;
	u64 spec_guest;
	u64 spec_host;
	bool launched;
	bool spec_read;
};

/**
 * vmx_enter - run the guest of the current VMCS until it exits
 * @gpr:   general registers in the order of enum mk_gpr, RSP left out
 * @entry: see there
 * Return: false after an exit; true if VMLAUNCH or VMRESUME itself failed
 * Context: interrupts off, noinstr
 */
bool vmx_enter(u64 *gpr, struct vmx_entry *entry);

/* Where an exit lands: HOST_RIP. Not to be called. */
extern const char vmx_exit_landing[];

/* Let the host handle the NMI that ended a run; unblocks NMIs again. */
void vmx_host_nmi(void);

#endif
#endif
