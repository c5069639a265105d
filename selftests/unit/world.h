/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A world for mk_exec(): memory, a device that waits for userspace, ports, registers. Each
 * file that includes it has one of its own.
 */
#include <asm/processor-flags.h>
#include <asm/trap_pf.h>
#include <asm/trapnr.h>
#include <string.h>

#include "logic/exec.h"
#include "tap.h"

#define NR(a) (sizeof(a) / sizeof(*(a)))
#define RAM	0x4000
#define DEVICE	0x10000		/* linear: what is read or written here waits for "userspace" */
#define ABSENT	0x20000		/* linear: #PF */
#define GDT	0x3000
#define TSS	0x3100
#define TOP	0xfffff000	/* linear: the last page of 4 GiB; what is there does not matter */

#define AR_DATA	(MK_AR_P | MK_AR_S | MK_TYPE_WRITE | 1)
#define AR_CODE	(MK_AR_P | MK_AR_S | MK_TYPE_CODE | MK_TYPE_WRITE | 1)

static struct {
	u8 ram[RAM];
	struct note {
		u64 gva;
		u8 size;
		bool write, done;
		u8 data[16];
	} notes[8];
	unsigned int nr, next;	/* notes; how many this start has used */
	u8 vec[16][16];
	u8 mmx[8][8];
	bool x87_exception;
	u8 port_data[64];
	unsigned int port, port_size, port_count, port_calls;
	bool port_waits;	/* the next port access must wait once */
	bool raced;		/* atomic writes find memory changed */
	u32 access;		/* of the last memory access */
} w;

static int device(u64 gva, void *buf, unsigned int size, bool write)
{
	struct note *n = &w.notes[w.next++];

	if (w.next > w.nr) {
		*n = (struct note){ .gva = gva, .size = size, .write = write };
		if (write)
			memcpy(n->data, buf, size);
		w.nr++;
	}
	if (n->gva != gva || n->size != size || n->write != write)
		return MK_EXEC_UNSUPPORTED;
	if (!n->done)
		return MK_EXEC_USER;
	if (!write)
		memcpy(buf, n->data, size);
	return MK_EXEC_OK;
}

static int page_fault(struct mk_exec *x, u64 gva, u32 access)
{
	x->fault = (struct mk_exec_fault){
		.vector = X86_TRAP_PF, .has_error = true, .cr2 = gva,
		.error = access & MK_ACC_WRITE ? X86_PF_WRITE : 0,
	};
	return MK_EXEC_FAULT;
}

static int test_read(struct mk_exec *x, u64 gva, void *buf, unsigned int size, u32 access)
{
	w.access = access;
	if (gva - TOP < 4096)
		return MK_EXEC_OK;
	if (gva >= ABSENT)
		return page_fault(x, gva, access);
	if (gva >= DEVICE)
		return device(gva, buf, size, false);
	if (gva > RAM - size)
		return MK_EXEC_UNSUPPORTED;
	memcpy(buf, w.ram + gva, size);
	return MK_EXEC_OK;
}

static int test_write(struct mk_exec *x, u64 gva, const void *buf, unsigned int size,
		      const void *old, u32 access)
{
	w.access = access;
	if (gva - TOP < 4096)
		return MK_EXEC_OK;
	if (gva >= ABSENT)
		return page_fault(x, gva, access);
	if (gva >= DEVICE)
		return device(gva, (void *)buf, size, true);
	if (gva > RAM - size)
		return MK_EXEC_UNSUPPORTED;
	if (old && w.raced)
		return MK_EXEC_RETRY;
	memcpy(w.ram + gva, buf, size);
	return MK_EXEC_OK;
}

static int test_probe(struct mk_exec *x, u64 gva, u32 access, bool *is_device)
{
	u8 byte;

	*is_device = gva >= DEVICE && gva < ABSENT;
	return *is_device ? MK_EXEC_OK : test_read(x, gva, &byte, 1, access);
}

static int port_access(u16 port, unsigned int size, unsigned int count)
{
	w.port = port;
	w.port_size = size;
	w.port_count = count;
	w.port_calls++;
	if (!w.port_waits)
		return MK_EXEC_OK;
	w.port_waits = false;
	return MK_EXEC_USER;
}

static int test_in(struct mk_exec *x, u16 port, void *buf, unsigned int size, unsigned int count)
{
	int ret = port_access(port, size, count);

	(void)x;
	if (!ret)
		memcpy(buf, w.port_data, size * count);
	return ret;
}

static int test_out(struct mk_exec *x, u16 port, const void *buf, unsigned int size,
		    unsigned int count)
{
	(void)x;
	memcpy(w.port_data, buf, size * count);
	return port_access(port, size, count);
}

static void test_get_vec(struct mk_exec *x, unsigned int nr, u64 val[2])
{
	(void)x;
	memcpy(val, w.vec[nr], 16);
}

static void test_set_vec(struct mk_exec *x, unsigned int nr, const u64 val[2])
{
	(void)x;
	memcpy(w.vec[nr], val, 16);
}

static bool test_get_mmx(struct mk_exec *x, unsigned int nr, u64 *val)
{
	memcpy(val, w.mmx[nr], 8);
	return !w.x87_exception;
}

static bool test_set_mmx(struct mk_exec *x, unsigned int nr, u64 val)
{
	if (!w.x87_exception)
		memcpy(w.mmx[nr], &val, 8);
	return !w.x87_exception;
}

static const struct mk_exec_ops ops = {
	.read = test_read, .write = test_write, .probe = test_probe, .in = test_in, .out = test_out,
	.get_vec = test_get_vec, .set_vec = test_set_vec,
	.get_mmx = test_get_mmx, .set_mmx = test_set_mmx,
};

static u64 gpr[MK_NR_GPR];
static struct mk_seg seg[MK_NR_SEG];
static struct mk_table gdt, idt;
static u8 bounce[64];

static void setup(struct mk_exec *x, enum mk_cpu_mode mode, const u8 *bytes, unsigned int n)
{
	unsigned int i;

	memset(&w, 0, sizeof(w));
	memset(gpr, 0, sizeof(gpr));
	gdt = (struct mk_table){ GDT, 0x7f };
	idt = (struct mk_table){ 0, 0 };
	for (i = 0; i < MK_NR_SEG; i++)
		seg[i] = (struct mk_seg){
			.limit = mode == MK_MODE_16 ? 0xffff : ~0u,
			.ar = (i == MK_CS ? AR_CODE : AR_DATA) |
			      (mode == MK_MODE_32 ? MK_AR_DB : 0),
		};
	*x = (struct mk_exec){
		.cpu = { .gpr = gpr, .seg = seg, .gdt = &gdt, .idt = &idt, .rip = 0x100,
			 .rflags = X86_EFLAGS_FIXED, .mode = mode,
			 .cr0 = mode == MK_MODE_16 ? 0 : X86_CR0_PE,
			 .long_mode = mode == MK_MODE_64 },
		.ops = &ops, .bounce = bounce, .bounce_size = sizeof(bounce),
	};
	if (mk_insn_decode(&x->insn, bytes, n, mode) != MK_INSN_OK)
		ok(false, "exec: a test's own instruction is not decoded");
}

/* mk_exec() as its caller uses it: what waits is answered, and it starts again. */
static int run(struct mk_exec *x, unsigned int *waits)
{
	for (*waits = 0;; (*waits)++) {
		int status;

		w.next = 0;
		status = mk_exec(x);
		if (status != MK_EXEC_USER)
			return status;
		if (w.nr)
			w.notes[w.nr - 1].done = true;
	}
}

#define SETUP(mode, ...)						\
	do {								\
		static const u8 insn_bytes[] = { __VA_ARGS__ };		\
		setup(&x, mode, insn_bytes, sizeof(insn_bytes));	\
	} while (0)

static u64 ram64(u64 at)
{
	u64 v;

	memcpy(&v, w.ram + at, 8);
	return v;
}
