// SPDX-License-Identifier: GPL-2.0
/*
 * Executing an instruction for the guest, because its operand is a device or
 * because it exits where the CPU lacks UMIP.
 *
 * The executor (logic/exec.c) is pure and restartable: it asks for memory and
 * ports, and starts again from the beginning when an answer had to come from
 * userspace. What is kept between two starts are the notes on device accesses,
 * v->frag: on the way through, an access that is already noted is answered
 * from its note and not made twice. Notes that do not fit, because another
 * vCPU changed the code or the tables meanwhile, are thrown away.
 *
 * Device reads stop the executor at once. Device writes do not: they are
 * always the last thing an instruction does, so they are noted, the registers
 * move on, and then userspace gets them one by one.
 *
 * Knows: memory slots, the board's mmio() and pio(). Read next: logic/exec.h.
 */
#include <linux/entry-kvm.h>

#include <asm/trapnr.h>
#include <uapi/asm/debugreg.h>

#include "core/doorbell.h"
#include "core/memory.h"
#include "core/vcpu.h"
#include "core/trace.h"
#include "logic/exec.h"

#define MAX_ITERATIONS	4096	/* of REP before we look up: one page of bytes */

static bool is_memory(struct mk_vm *vm, gpa_t gpa, bool write)
{
	const struct mk_slot *slot;
	bool yes;

	rcu_read_lock();
	slot = mk_slot_find(rcu_dereference(vm->slots), gpa >> PAGE_SHIFT);
	yes = slot && !(write && (slot->flags & KVM_MEM_READONLY));
	rcu_read_unlock();
	return yes;
}

static int mmio_continue(struct mk_vcpu *v);

/* The first access that a device has yet to answer, or NULL. */
static struct mk_fragment *frag_open(struct mk_vcpu *v)
{
	struct mk_fragment *f;

	for (f = v->frag; f < v->frag + v->nr_frag; f++)
		if (!f->done)
			return f;
	return NULL;
}

static enum mk_next mmio_exit(struct mk_vcpu *v, const struct mk_fragment *f)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = f->gpa;
	run->mmio.len = f->len;
	run->mmio.is_write = f->write;
	if (f->write)
		memcpy(run->mmio.data, f->data, f->len);
	v->complete = mmio_continue;
	return MK_TO_USER;
}

static void trace_device(const struct mk_fragment *f)
{
	u64 val = 0;

	if (!trace_kvm_mmio_enabled())
		return;
	memcpy(&val, f->data, f->len);
	trace_kvm_mmio(f->write ? MK_TRACE_MMIO_WRITE :
		       f->done ? MK_TRACE_MMIO_READ : MK_TRACE_MMIO_OPEN, f->len, f->gpa, val);
}

/* Userspace is back: take its answer, give it the next access or go on. */
static int mmio_continue(struct mk_vcpu *v)
{
	struct mk_fragment *f = frag_open(v);
	bool write = f->write;

	if (!write)
		memcpy(f->data, v->run->mmio.data, f->len);
	f->done = true;
	if (!write)
		trace_device(f);
	f = frag_open(v);
	if (f)
		return mmio_exit(v, f);
	if (write) {
		/* The instruction itself was finished before its writes went out. */
		v->nr_frag = 0;
		return MK_RESUME;
	}
	return mk_emulate(v);
}

static int device_access(struct mk_vcpu *v, gpa_t gpa, void *buf, unsigned int len, bool write)
{
	const struct mk_board_ops *board = v->apic ? mk_board(v->vm) : NULL;
	struct mk_fragment *f = &v->frag[v->frag_pos];

	if (v->frag_pos < v->nr_frag) {
		if (f->gpa == gpa && f->len == len && f->write == write) {
			v->frag_pos++;
			if (!write)
				memcpy(buf, f->data, len);
			return MK_EXEC_OK;
		}
		v->nr_frag = v->frag_pos;
	}
	if (v->nr_frag == MK_NR_FRAGMENTS)
		return MK_EXEC_UNSUPPORTED;

	*f = (struct mk_fragment){ .gpa = gpa, .len = len, .write = write };
	if (write)
		memcpy(f->data, buf, len);
	if (!write)
		mk_eoi_settle(v, true);
	f->done = (board && board->mmio(v, gpa, len, f->data, write)) ||
		  (write && mk_doorbell(v->vm, MK_SPACE_MMIO, gpa, len, f->data));
	v->nr_frag++;
	v->frag_pos++;
	trace_device(f);
	if (!f->done && !write)
		return MK_EXEC_USER;
	if (!write)
		memcpy(buf, f->data, len);
	return MK_EXEC_OK;
}

struct context {
	struct mk_vcpu *v;
	struct mk_walk_cfg cfg;
	struct mk_walk_mem mem;
	bool can_walk;		/* the two are filled */
	bool operand_known;	/* v->exit.gpa is where the memory operand is */
	bool vmm_fault;		/* the VMM's own memory refused */
	bool pio_answered;	/* the PIO page holds what this IN or INS asked for */
};

/*
 * Does the exit say where the instruction's memory operand is? Strings move on,
 * and what uses the stack or loads a segment touches memory in two places.
 */
static bool operand_known(const struct mk_exit *exit, const struct mk_insn *insn)
{
	if ((insn->op >= MK_OP_MOVS && insn->op <= MK_OP_OUTS) || mk_exec_is_control(insn))
		return false;
	return exit->kind == MK_EXIT_TDP_FAULT && (exit->access & MK_TDP_FINAL);
}

/*
 * Is it the access that made the exit? Then that has found a device there. A write's
 * exit says nothing of reads, which memory that is read-only answers.
 */
static bool is_faulting(const struct context *c, gpa_t gpa, bool write)
{
	const struct mk_exit *exit = &c->v->exit;

	return c->operand_known && gpa == exit->gpa && write == !!(exit->access & MK_TDP_WRITE);
}

static int translate(struct mk_exec *x, u64 gva, u32 access, gpa_t *gpa)
{
	struct context *c = x->ctx;
	const struct mk_exit *exit = &c->v->exit;
	struct mk_walk_result res;

	if (gva == BIT_ULL(32) && x->cpu.mode != MK_MODE_64)
		gva = 0;
	/* The CPU has walked the guest's tables and found the access allowed. */
	if (c->operand_known && offset_in_page(gva) == offset_in_page(exit->gpa) &&
	    (!(access & MK_ACC_WRITE) || (exit->access & MK_TDP_WRITE))) {
		*gpa = exit->gpa;
		return MK_EXEC_OK;
	}
	if (!c->can_walk) {
		mk_walk_setup(c->v, &c->cfg);
		mk_walk_memory(c->v, &c->mem, true);
		c->can_walk = true;
	}
	switch (mk_walk(&c->cfg, &c->mem, gva, access, &res)) {
	case MK_WALK_OK:
		*gpa = res.gpa;
		return MK_EXEC_OK;
	case MK_WALK_FAULT:
		x->fault = (struct mk_exec_fault){
			.vector = X86_TRAP_PF, .has_error = true, .error = res.error, .cr2 = res.cr2 };
		return MK_EXEC_FAULT;
	case MK_WALK_NONCANONICAL:
		x->fault = (struct mk_exec_fault){ .vector = X86_TRAP_GP, .has_error = true };
		return MK_EXEC_FAULT;
	default:	/* page tables in a device, or out of the VMM's reach */
		c->vmm_fault = mk_refused(c->v);
		return MK_EXEC_UNSUPPORTED;
	}
}

/* One access of up to 16 bytes: cut at page ends, and to 8 bytes for devices. */
static int access_memory(struct mk_exec *x, u64 gva, void *buf, unsigned int size,
			 const void *old, u32 access, bool write)
{
	struct context *c = x->ctx;
	struct mk_vm *vm = c->v->vm;
	unsigned int done = 0, len;
	gpa_t gpa, pages[2];
	int status, err;
	bool crosses = offset_in_page(gva) + size > PAGE_SIZE;

	/* Both pages must be there before the first byte moves. */
	status = translate(x, gva, access, &pages[0]);
	if (status == MK_EXEC_OK && crosses)
		status = translate(x, PAGE_ALIGN(gva), access, &pages[1]);
	if (status != MK_EXEC_OK)
		return status;

	for (; done < size; done += len) {
		bool second = crosses && done >= PAGE_SIZE - offset_in_page(gva);

		if (second)
			gpa = pages[1] + (gva + done - PAGE_ALIGN(gva));
		else
			gpa = pages[0] + done;
		len = size - done;
		if (crosses && !second)
			len = min_t(unsigned int, len, PAGE_SIZE - offset_in_page(gpa));

		if (is_faulting(c, gpa, write) || !is_memory(vm, gpa, write)) {
			len = min(len, 8u);
			status = device_access(c->v, gpa, buf + done, len, write);
			if (status != MK_EXEC_OK)
				return status;
			continue;
		}
		if (!write) {
			err = mk_guest_read(vm, gpa, buf + done, len);
		} else if (old && !crosses && (len == 4 || len == 8) && !(gpa & (len - 1))) {
			u64 was = 0, is = 0;

			memcpy(&was, old, len);
			memcpy(&is, buf, len);
			err = mk_guest_cmpxchg(c->v, gpa, was, is, len);
			if (err == -EAGAIN)
				return MK_EXEC_RETRY;
		} else {
			err = mk_guest_write(c->v, gpa, buf + done, len);
		}
		if (err) {
			c->vmm_fault = true;
			return MK_EXEC_UNSUPPORTED;
		}
	}
	return MK_EXEC_OK;
}

static int emu_read(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access)
{
	return access_memory(x, gva, buf, size, NULL, access, false);
}

static int emu_write(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
		     const void *old, u32 access)
{
	return access_memory(x, gva, (void *)buf, size, old, access | MK_ACC_WRITE, true);
}

static int emu_probe(struct mk_exec *x, u64 gva, u32 access, bool *device)
{
	struct context *c = x->ctx;
	struct mk_vm *vm = c->v->vm;
	gpa_t gpa;
	u8 byte;
	int status = translate(x, gva, access, &gpa);

	if (status != MK_EXEC_OK)
		return status;
	*device = !is_memory(vm, gpa, access & MK_ACC_WRITE);
	if (!*device && mk_guest_read(vm, gpa, &byte, 1)) {
		c->vmm_fault = true;
		return MK_EXEC_UNSUPPORTED;
	}
	return MK_EXEC_OK;
}

static int in_answered(struct mk_vcpu *v)
{
	v->pio_answered = true;
	return mk_emulate(v);
}

static int out_taken(struct mk_vcpu *v)
{
	return MK_RESUME;
}

void mk_pio_exit(struct mk_vcpu *v, u16 port, unsigned int size, unsigned int count, bool in)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.port = port;
	run->io.size = size;
	run->io.count = count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
}

/* Of a string its first element. */
static void trace_pio(u16 port, const void *buf, unsigned int size, unsigned int count, bool in)
{
	u32 val = 0;

	memcpy(&val, buf, size);
	trace_kvm_pio(!in, port, size, count, val);
}

/* Port data moves through v->pio_page, the executor's bounce buffer. */
static int pio(struct mk_exec *x, u16 port, void *buf, unsigned int size, unsigned int count,
	       bool in)
{
	struct context *c = x->ctx;
	struct mk_vcpu *v = c->v;
	const struct mk_board_ops *board = v->apic ? mk_board(v->vm) : NULL;
	unsigned int i;

	if (in && c->pio_answered) {
		c->pio_answered = false;
		trace_pio(port, buf, size, count, in);
		return MK_EXEC_OK;
	}
	if (!in)
		trace_pio(port, buf, size, count, in);
	if (board && board->pio(v, port, size, buf, !in)) {
		for (i = 1; i < count; i++)
			board->pio(v, port, size, buf + i * size, !in);
		return MK_EXEC_OK;
	}
	while (!in && mk_doorbell(v->vm, MK_SPACE_PIO, port, size, buf)) {
		if (!--count)
			return MK_EXEC_OK;
		buf += size;
	}
	/* What is left of a string moves to where userspace looks for it. */
	memmove(v->pio_page, buf, in ? 0 : size * count);
	mk_pio_exit(v, port, size, count, in);
	v->complete = in ? in_answered : out_taken;
	return in ? MK_EXEC_USER : MK_EXEC_OK;
}

static int emu_in(struct mk_exec *x, u16 port, void *buf, unsigned int size, unsigned int count)
{
	return pio(x, port, buf, size, count, true);
}

static int emu_out(struct mk_exec *x, u16 port, const void *buf, unsigned int size,
		   unsigned int count)
{
	return pio(x, port, (void *)buf, size, count, false);
}

/* The guest's vector registers are in the CPU while its thread is in KVM_RUN. */
static void emu_get_vec(struct mk_exec *x, unsigned int nr, u64 val[2])
{
	mk_fpu_get_xmm(nr, val);
}

static void emu_set_vec(struct mk_exec *x, unsigned int nr, const u64 val[2])
{
	mk_fpu_set_xmm(nr, val);
}

static bool emu_get_mmx(struct mk_exec *x, unsigned int nr, u64 *val)
{
	return mk_fpu_get_mmx(nr, val);
}

static bool emu_set_mmx(struct mk_exec *x, unsigned int nr, u64 val)
{
	return mk_fpu_set_mmx(nr, val);
}

static int emu_load_cr3(struct mk_exec *x, u32 cr3)
{
	struct context *c = x->ctx;

	c->can_walk = false;
	if (!mk_set_cr3(c->v, cr3))
		return MK_EXEC_OK;
	x->fault = (struct mk_exec_fault){ .vector = X86_TRAP_GP, .has_error = true };
	return MK_EXEC_FAULT;
}

static const struct mk_exec_ops exec_ops = {
	.read = emu_read,
	.write = emu_write,
	.probe = emu_probe,
	.in = emu_in,
	.out = emu_out,
	.get_vec = emu_get_vec,
	.set_vec = emu_set_vec,
	.get_mmx = emu_get_mmx,
	.set_mmx = emu_set_mmx,
	.load_cr3 = emu_load_cr3,
};

/* The groups that this reads must be valid already. */
static void lend_registers(struct mk_vcpu *v, struct mk_exec *x, struct context *c)
{
	struct mk_cpu *cpu = &v->cpu;

	x->cpu.gpr = cpu->gpr;
	x->cpu.seg = cpu->seg;
	x->cpu.gdt = &cpu->gdt;
	x->cpu.idt = &cpu->idt;
	x->cpu.rip = cpu->rip;
	x->cpu.rflags = cpu->rflags;
	x->cpu.cr0 = cpu->cr0;
	x->cpu.cr4 = cpu->cr4;
	x->cpu.mode = mk_cpu_code_mode(cpu);
	x->cpu.cpl = mk_cpu_cpl(cpu);
	x->cpu.long_mode = mk_cpu_long_mode(cpu);
	x->cpu.mov_ss = false;
	x->ops = &exec_ops;
	x->ctx = c;
	x->bounce = v->pio_page;
	x->bounce_size = PAGE_SIZE;
}

static enum mk_next deliver(struct mk_vcpu *v, const struct mk_exec_fault *fault)
{
	if (fault->vector == X86_TRAP_PF)
		mk_queue_page_fault(v, fault->cr2, fault->error);
	else if (fault->has_error)
		mk_queue_exception_error(v, fault->vector, fault->error);
	else
		mk_queue_exception(v, fault->vector);
	return MK_RESUME;
}

/*
 * An instruction that we do not know. A guest's kernel that uses one on a
 * device cannot go on; a guest's program gets #UD, or it could end its machine, unless
 * userspace wants to execute it.
 */
static enum mk_next unknown(struct mk_vcpu *v, const u8 *bytes, unsigned int n)
{
	struct kvm_run *run = v->run;

	if (mk_cpu_cpl(&v->cpu) == 3 && !READ_ONCE(v->vm->exit_on_emulation_failure)) {
		mk_queue_exception(v, 6);
		return MK_RESUME;
	}
	mk_die(v, KVM_INTERNAL_ERROR_EMULATION,
	       "the instruction at rip 0x%llx (bytes %*ph) accesses a device at gpa 0x%llx and is not one that mini-kvm executes",
	       v->cpu.rip, n, bytes, v->exit.kind == MK_EXIT_TDP_FAULT ? v->exit.gpa : 0);
	run->emulation_failure.ndata = 4;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = n;
	memset(run->emulation_failure.insn_bytes, 0x90, sizeof(run->emulation_failure.insn_bytes));
	memcpy(run->emulation_failure.insn_bytes, bytes, n);
	return MK_DEAD;
}

/* mk_insn_decode(), which depends on nothing but its arguments, remembered. */
static int decode(struct mk_vcpu *v, struct mk_insn *insn, const u8 *bytes, unsigned int n,
		  enum mk_cpu_mode mode)
{
	struct mk_decoded *d = &v->decoded[v->cpu.rip & (MK_NR_DECODED - 1)];
	int status;

	if (d->insn.len && d->insn.len <= n && d->mode == mode &&
	    !memcmp(d->bytes, bytes, d->insn.len)) {
		*insn = d->insn;
		return MK_INSN_OK;
	}
	status = mk_insn_decode(insn, bytes, n, mode);
	if (status == MK_INSN_OK) {
		memcpy(d->bytes, bytes, insn->len);
		d->mode = mode;
		d->insn = *insn;
	}
	return status;
}

enum mk_next mk_emulate(struct mk_vcpu *v)
{
	struct mk_cpu *cpu = &v->cpu;
	struct context c = { .v = v, .pio_answered = v->pio_answered };
	u8 bytes[MK_INSN_MAX];
	struct mk_exec x;
	unsigned int n, i;
	u64 tf;
	int status;

	v->pio_answered = false;
	mk_cpu_need(cpu, MK_G_RSP | MK_G_RIP | MK_G_RFLAGS | MK_G_CODE | MK_G_CR | MK_G_SHADOW);
	n = mk_fetch(v, cpu->rip, bytes, sizeof(bytes), true);
	if (!n && v->exception.pending)
		return MK_RESUME;

	switch (decode(v, &x.insn, bytes, n, mk_cpu_code_mode(cpu))) {
	case MK_INSN_OK:
		v->vmm_refused = false;	/* if it was, then behind the instruction */
		break;
	case MK_INSN_SHORT:
		/* The rest is on a page that is not there: fetch that for its fault. */
		if (n && !mk_fetch(v, cpu->rip + n, bytes + n, 1, true) && v->exception.pending)
			return MK_RESUME;
		return mk_refused(v) ? MK_FAULT : unknown(v, bytes, n);
	default:
		return unknown(v, bytes, n);
	}

	lend_registers(v, &x, &c);
	/* In 64-bit mode the others neither shift nor limit an address. */
	if (x.cpu.mode != MK_MODE_64 || x.insn.seg >= MK_FS ||
	    (mk_exec_is_port(&x.insn) && x.cpu.cpl))
		mk_cpu_need(cpu, MK_G_SEG);
	if (mk_exec_is_control(&x.insn))
		mk_cpu_need(cpu, MK_G_SEGS | MK_G_TABLES);
	c.operand_known = operand_known(&v->exit, &x.insn);

	tf = cpu->rflags & X86_EFLAGS_TF;

	for (i = 0;; i++) {
		v->frag_pos = 0;
		status = mk_exec(&x);
		if (status != MK_EXEC_OK && status != MK_EXEC_REPEAT)
			break;

		mk_cpu_touch(cpu, MK_G_RSP | MK_G_RFLAGS | MK_G_RIP |
				  (mk_exec_changes_segs(&x.insn) ? MK_G_SEGS | MK_G_TABLES : 0));
		cpu->rip = x.cpu.rip;
		cpu->rflags = x.cpu.rflags;
		if (status == MK_EXEC_OK)
			mk_insn_done(v, 0);
		if (x.cpu.mov_ss && !tf) {	/* a step's trap is not held up here */
			mk_cpu_touch(cpu, MK_G_SHADOW);
			cpu->shadow |= MK_SHADOW_MOVSS;
		}
		if (status == MK_EXEC_REPEAT && tf)
			mk_debug_trap(v, DR_STEP);
		if (frag_open(v))
			return mmio_exit(v, frag_open(v));
		v->nr_frag = 0;
		if (v->complete)
			return MK_TO_USER;
		if (status == MK_EXEC_OK || tf || i == MAX_ITERATIONS ||
		    __xfer_to_guest_mode_work_pending() || READ_ONCE(v->requests))
			return MK_RESUME;
	}

	if (status == MK_EXEC_USER)
		return v->complete ? MK_TO_USER : mmio_exit(v, frag_open(v));
	/* What devices have answered is not asked for again. */
	if (c.vmm_fault)
		return MK_FAULT;
	v->nr_frag = 0;
	switch (status) {
	case MK_EXEC_RETRY:
		return MK_RESUME;
	case MK_EXEC_FAULT:
		return deliver(v, &x.fault);
	default:
		return unknown(v, bytes, x.insn.len);
	}
}

enum mk_next mk_task_switch(struct mk_vcpu *v, struct mk_exit *exit)
{
	struct mk_cpu *cpu = &v->cpu;
	const struct mk_event event = cpu->vectoring;
	struct context c = { .v = v };
	struct mk_task_switch t = {
		.sel = exit->task.sel, .how = exit->task.how,
		.external = event.type && !mk_event_of_insn(&event),
		.has_error = exit->task.has_error, .error = exit->task.error,
	};
	struct mk_exec x;
	int status;

	mk_cpu_touch(cpu, MK_G_RSP | MK_G_RIP | MK_G_RFLAGS | MK_G_SEGS | MK_G_TABLES |
			  MK_G_SHADOW | MK_G_DR);
	mk_cpu_need(cpu, MK_G_CR);
	if (!t.external) {
		if (!exit->len && !mk_insn_fill(v, exit, true))
			return mk_refused(v) ? MK_FAULT : MK_RESUME;
		t.len = exit->len;
	}
	lend_registers(v, &x, &c);
	v->nr_frag = v->frag_pos = 0;
	status = mk_exec_task_switch(&x, &t);
	v->nr_frag = 0;
	if (t.done) {
		cpu->rip = x.cpu.rip;
		cpu->rflags = x.cpu.rflags;
		mk_set_cr0(v, x.cpu.cr0);
		*mk_guest_dr(v, 7) &= ~MK_DR7_LOCAL;
		cpu->vectoring.type = MK_EV_NONE;
		cpu->shadow &= ~(MK_SHADOW_STI | MK_SHADOW_MOVSS);
		if (event.type == MK_EV_NMI)
			cpu->shadow |= MK_SHADOW_NMI;
		else if (t.how == MK_TASK_IRET)
			cpu->shadow &= ~MK_SHADOW_NMI;
	}
	if (c.vmm_fault)
		return MK_FAULT;
	switch (status) {
	case MK_EXEC_OK:
		if (t.trap)
			mk_debug_trap(v, DR_SWITCH);
		return MK_RESUME;
	case MK_EXEC_FAULT:
		return deliver(v, &x.fault);
	case MK_EXEC_RETRY:
		if (!t.done)
			return MK_RESUME;
		break;
	}
	return mk_die(v, KVM_INTERNAL_ERROR_EMULATION,
		      "the guest switched tasks to selector 0x%x, whose state or segments are not in memory",
		      t.sel);
}
