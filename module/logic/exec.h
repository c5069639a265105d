/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Executing one decoded instruction for the guest, where the hardware could
 * not: its operand is a device, or whether it is allowed is a question of CR4.UMIP.
 *
 * Pure: registers are given, memory and ports are callbacks. And restartable:
 * no register changes unless mk_exec() returns MK_EXEC_OK or MK_EXEC_REPEAT.
 * When a callback needs an answer from userspace it notes the access, says
 * MK_EXEC_USER, and the instruction is executed again, from its start, once the
 * answer is there. The second time the callback finds the answer in its notes
 * and goes on. So the caller must keep its notes, in the order of the accesses,
 * until mk_exec() returns anything but MK_EXEC_USER.
 *
 * A write may also be noted and answered by MK_EXEC_OK at once: then the
 * registers move on before userspace sees the write, which is fine for the
 * last access of an instruction.
 *
 * Read next: exec.c.
 */
#ifndef MK_LOGIC_EXEC_H
#define MK_LOGIC_EXEC_H

#include "facts/exit.h"
#include "logic/insn.h"
#include "logic/walk.h"

enum mk_exec_status {
	MK_EXEC_OK,		/* executed; RIP is at the next instruction */
	MK_EXEC_REPEAT,		/* one iteration of REP done, RIP still there: call again */
	MK_EXEC_FAULT,		/* mk_exec.fault is for the guest; registers unchanged */
	MK_EXEC_USER,		/* call again when userspace has answered */
	MK_EXEC_RETRY,		/* memory changed under an atomic access: let the guest try again */
	MK_EXEC_UNSUPPORTED,
};

/**
 * struct mk_exec_cpu - the registers that instructions use
 * @gpr:       MK_NR_GPR registers, changed in place
 * @seg, @gdt, @idt: changed in place, and needed whole, by what mk_exec_is_control()
 *             says yes to. @seg: the others need ES to GS outside 64-bit mode, within it
 *             those that mk_insn.seg names; and TR for ports below IOPL
 * @long_mode: EFER.LMA
 * @cpl:       0 to 3
 * @mov_ss:    out: interrupts and traps wait until after the next instruction
 */
struct mk_exec_cpu {
	u64 *gpr;
	struct mk_seg *seg;
	struct mk_table *gdt, *idt;
	u64 rip;
	u64 rflags;
	u32 cr0, cr4;
	u8 mode;		/* enum mk_cpu_mode */
	u8 cpl;
	bool long_mode;
	bool mov_ss;
};

struct mk_exec_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;		/* of a #PF */
};

struct mk_exec;

/**
 * struct mk_exec_ops - the world around the instruction
 *
 * Each returns an enum mk_exec_status other than MK_EXEC_REPEAT; a callback
 * that says MK_EXEC_FAULT has filled x->fault.
 *
 * @read:  @size bytes (1 to 16; under REP OUTS up to bounce_size, then within one
 *         page) at linear address @gva, which may cross a page, and outside 64-bit
 *         mode the end of the 4 GiB: address 0 follows.
 *         @access: MK_ACC_WRITE too where the instruction will write there,
 *         MK_ACC_USER at CPL 3
 * @write: likewise. @old, where not NULL: the access is atomic and memory must
 *         still hold these bytes; MK_EXEC_RETRY if it does not
 * @probe: may one byte be accessed as @access says? *@device: yes, but no memory is there.
 *         Devices are not asked
 * @in:    @count elements of @size bytes from @port to @buf, which is x->bounce
 * @out:   the reverse
 * @get_vec, @set_vec: the low 128 bits of a vector register; set_vec keeps the rest
 * @get_mmx, @set_mmx: false where the x87 has an unmasked exception pending
 * @load_cr3: of task switches, whose TSS are read and written in up to 68 bytes
 */
struct mk_exec_ops {
	int (*read)(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access);
	int (*write)(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
		     const void *old, u32 access);
	int (*probe)(struct mk_exec *x, u64 gva, u32 access, bool *device);
	int (*in)(struct mk_exec *x, u16 port, void *buf, unsigned int size, unsigned int count);
	int (*out)(struct mk_exec *x, u16 port, const void *buf, unsigned int size,
		   unsigned int count);
	void (*get_vec)(struct mk_exec *x, unsigned int nr, u64 val[2]);
	void (*set_vec)(struct mk_exec *x, unsigned int nr, const u64 val[2]);
	bool (*get_mmx)(struct mk_exec *x, unsigned int nr, u64 *val);
	bool (*set_mmx)(struct mk_exec *x, unsigned int nr, u64 val);
	int (*load_cr3)(struct mk_exec *x, u32 cr3);
};

/**
 * struct mk_exec - one execution
 * @ctx:     the caller's own
 * @bounce, @bounce_size: buffer for port data; REP INS and REP OUTS move up to
 *           that many bytes in one call. At least 4 bytes
 */
struct mk_exec {
	struct mk_exec_cpu cpu;
	struct mk_insn insn;
	struct mk_exec_fault fault;
	const struct mk_exec_ops *ops;
	void *ctx;
	void *bounce;
	unsigned int bounce_size;
};

/**
 * struct mk_task_switch - one switch of tasks by hardware
 * @sel:       of the new task's TSS
 * @how:       enum mk_task_how
 * @len:       bytes from RIP to where the old task will go on; 0 where an event interrupts it
 * @external:  that was an interrupt or an exception, and no instruction
 * @has_error: push @error on the new task's stack
 * @done:      out: the new task is the current one, whatever the status
 * @trap:      out: its TSS asks for #DB before its first instruction
 */
struct mk_task_switch {
	u16 sel;
	u8 how;
	u8 len;
	bool external, has_error;
	u32 error;
	bool done, trap;
};

/**
 * mk_exec_task_switch - save the current task's registers and load another's
 *
 * x->insn is not used. All registers of x->cpu change, CR0 too, and CR3 by a callback.
 *
 * Return: enum mk_exec_status; MK_EXEC_FAULT also after @t->done, then in the new task.
 */
int mk_exec_task_switch(struct mk_exec *x, struct mk_task_switch *t);

/* Does @insn use the stack, branch, or read and change segments and tables? */
static inline bool mk_exec_is_control(const struct mk_insn *insn)
{
	return insn->op >= MK_OP_CALL && insn->op <= MK_OP_LIDT;
}

/* Of these: may it change segments or tables? What stores them does not. */
static inline bool mk_exec_changes_segs(const struct mk_insn *insn)
{
	return mk_exec_is_control(insn) && insn->op != MK_OP_STORE_SEL &&
	       insn->op != MK_OP_SGDT && insn->op != MK_OP_SIDT;
}

/* Does it move data through a port? */
static inline bool mk_exec_is_port(const struct mk_insn *insn)
{
	return insn->op >= MK_OP_INS && insn->op <= MK_OP_OUT;
}

/**
 * mk_exec - execute x->insn once, or one iteration of it under REP
 *
 * An instruction without a memory operand works as well. Checks segments, canonical
 * addresses and privilege, as the instruction may not be the one that the hardware
 * has checked; trusts it to have found #UD and #NM. Faults have an error code as in protected mode: in real mode
 * the caller drops it. A trap by RFLAGS.TF is the caller's, too.
 *
 * Return: enum mk_exec_status.
 */
int mk_exec(struct mk_exec *x);

#endif
