/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The VMX instructions, one wrapper each.
 *
 * All of them survive a CPU that has left VMX operation underneath (a reboot
 * or CPU removal turns it off by IPI, wherever a vCPU's thread is at that
 * moment): the #UD is caught, and the instruction counts as failed.
 *
 * May know: asm/vmx.h. Read next: vmx/hw.c.
 * Source: SDM vol. 3, "VMX Instruction Reference" and "Conventions".
 */
#ifndef MK_HW_VMX_INSN_H
#define MK_HW_VMX_INSN_H

#include <linux/types.h>
#include <asm/asm.h>
#include <asm/vmx.h>

/* Says once what failed; a VMREAD or VMWRITE fails only by our own mistake. */
void vmx_insn_failed(const char *insn, unsigned long field);

/* VMXON, VMPTRLD, VMCLEAR: the operand is a physical address in memory. */
#define VMX_POINTER_INSN(name)						\
static __always_inline bool name(phys_addr_t pa)			\
{									\
	asm goto("1: " #name " %0\n\t"					\
		 "jna %l[fail]\n\t"					\
		 _ASM_EXTABLE(1b, %l[fail])				\
		 : : "m" (pa) : "cc", "memory" : fail);			\
	return true;							\
fail:									\
	return false;							\
}
VMX_POINTER_INSN(vmxon)
VMX_POINTER_INSN(vmptrld)
VMX_POINTER_INSN(vmclear)
#undef VMX_POINTER_INSN

static inline bool vmxoff(void)
{
	asm goto("1: vmxoff\n\t"
		 "jna %l[fail]\n\t"
		 _ASM_EXTABLE(1b, %l[fail])
		 : : : "cc", "memory" : fail);
	return true;
fail:
	return false;
}

/* The width of a field is in its encoding, see enum vmcs_field; 0 if it fails. */
static __always_inline unsigned long vmread(unsigned long field)
{
	unsigned long val;
	bool failed;

	asm volatile("1: vmread %[field], %[val]\n"
		     "2:\n\t"
		     _ASM_EXTABLE_TYPE_REG(1b, 2b, EX_TYPE_ZERO_REG, %[val])
		     : [val] "=r" (val), "=@ccna" (failed)
		     : [field] "r" (field));
	if (unlikely(failed)) {
		instrumentation_begin();
		vmx_insn_failed("VMREAD", field);
		instrumentation_end();
		return 0;
	}
	return val;
}

static __always_inline void vmwrite(unsigned long field, unsigned long val)
{
	asm goto("1: vmwrite %[val], %[field]\n\t"
		 "jna %l[fail]\n\t"
		 _ASM_EXTABLE(1b, %l[fail])
		 : : [field] "r" (field), [val] "rm" (val) : "cc", "memory" : fail);
	return;
fail:
	instrumentation_begin();
	vmx_insn_failed("VMWRITE", field);
	instrumentation_end();
}

struct vmx_inv_operand {
	u64 tag;	/* EPTP or VPID */
	u64 address;
};

static inline void invept(unsigned long type, u64 eptp)
{
	struct vmx_inv_operand op = { .tag = eptp };

	asm goto("1: invept %[op], %[type]\n\t"
		 "jna %l[fail]\n\t"
		 _ASM_EXTABLE(1b, %l[fail])
		 : : [op] "m" (op), [type] "r" (type) : "cc", "memory" : fail);
	return;
fail:
	vmx_insn_failed("INVEPT", type);
}

static inline void invvpid(unsigned long type, u16 vpid)
{
	struct vmx_inv_operand op = { .tag = vpid };

	asm goto("1: invvpid %[op], %[type]\n\t"
		 "jna %l[fail]\n\t"
		 _ASM_EXTABLE(1b, %l[fail])
		 : : [op] "m" (op), [type] "r" (type) : "cc", "memory" : fail);
	return;
fail:
	vmx_insn_failed("INVVPID", type);
}

#endif
