// SPDX-License-Identifier: GPL-2.0
/*
 * Task switches from any registers to what any memory holds.  Until the new task is the
 * current one no register changes; no access is larger than a TSS; a fault is one that
 * the CPU could raise.
 */
#include <asm/processor-flags.h>

#include "input.h"
#include "logic/exec.h"

struct world {
	struct input answers;
	bool loaded;		/* CR3: then the new task is the current one */
};

static int status_of(struct mk_exec *x)
{
	static const u8 statuses[] = { MK_EXEC_FAULT, MK_EXEC_USER, MK_EXEC_RETRY,
				       MK_EXEC_UNSUPPORTED };
	u8 pick = take8(&((struct world *)x->ctx)->answers);

	if (pick >= sizeof(statuses))
		return MK_EXEC_OK;
	x->fault = (struct mk_exec_fault){ .vector = 14, .has_error = true };
	return statuses[pick];
}

static int do_read(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access)
{
	must(size && size <= 68 && gva >> 32 == 0);
	must(!(access & (MK_ACC_WRITE | MK_ACC_USER)));
	take(&((struct world *)x->ctx)->answers, buf, size);
	return status_of(x);
}

static int do_write(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
		    const void *old, u32 access)
{
	must(size && size <= 68 && gva >> 32 == 0);
	must(access & MK_ACC_WRITE);
	must(!old || size == 4);
	return status_of(x);
}

static int do_load_cr3(struct mk_exec *x, u32 cr3)
{
	((struct world *)x->ctx)->loaded = true;
	return status_of(x);
}

static const struct mk_exec_ops ops = {
	.read = do_read, .write = do_write, .load_cr3 = do_load_cr3,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct world w = { .answers = { data, size } };
	u64 gpr[MK_NR_GPR], gpr_before[MK_NR_GPR];
	struct mk_seg seg[MK_NR_SEG], seg_before[MK_NR_SEG];
	struct mk_table gdt = { .base = 0x1000, .limit = 0xfff }, idt = { 0 };
	struct mk_exec x = { .ops = &ops, .ctx = &w };
	struct mk_task_switch t = { 0 };
	struct mk_exec_cpu before;
	int status;

	t.sel = take8(&w.answers);
	t.how = take8(&w.answers) & 3;
	t.len = take8(&w.answers) & 15;
	t.external = take8(&w.answers) & 1;
	t.has_error = take8(&w.answers) & 1;
	t.error = take64(&w.answers);
	take(&w.answers, gpr, sizeof(gpr));
	take(&w.answers, seg, sizeof(seg));
	x.cpu = (struct mk_exec_cpu){
		.gpr = gpr, .seg = seg, .gdt = &gdt, .idt = &idt,
		.rip = (u32)take64(&w.answers), .rflags = (u32)take64(&w.answers) | 2,
		.cr0 = X86_CR0_PE | (u32)take64(&w.answers), .mode = MK_MODE_32,
	};
	before = x.cpu;
	memcpy(gpr_before, gpr, sizeof(gpr));
	memcpy(seg_before, seg, sizeof(seg));

	status = mk_exec_task_switch(&x, &t);
	must(status != MK_EXEC_REPEAT);
	must(status != MK_EXEC_OK || t.done);
	must(!w.loaded || t.done);
	if (status == MK_EXEC_FAULT)
		must(x.fault.vector < 32 && x.fault.has_error);
	if (t.done) {
		must(x.cpu.cr0 & X86_CR0_TS);
		must(seg[MK_TR].sel == t.sel);
	} else {
		must(!memcmp(&before, &x.cpu, sizeof(before)));
		must(!memcmp(gpr_before, gpr, sizeof(gpr)) && !memcmp(seg_before, seg, sizeof(seg)));
	}
	return 0;
}
