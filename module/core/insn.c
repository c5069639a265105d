// SPDX-License-Identifier: GPL-2.0
/*
 * The instruction at RIP: its bytes, its length, and what its end does.
 *
 * VT-x tells the length of what exited, SVM only where it has NRIP save; the
 * rest is read from the guest's memory, through the guest's own page tables.
 *
 * Knows: the pure walk and decoder of floor 2. Read next: logic/insn.h.
 */
#include <linux/mm.h>
#include <uapi/asm/debugreg.h>

#include "core/memory.h"
#include "core/vcpu.h"
#include "logic/insn.h"

/* Guest memory that the VMM itself cannot reach is no fault of the guest's. */
static int read_or_note(struct mk_vcpu *v, gpa_t gpa, void *buf, unsigned int size)
{
	int err = mk_guest_read(v->vm, gpa, buf, size);

	if (unlikely(err == -EFAULT))
		v->vmm_refused = true;
	return err;
}

static int read_sleep(void *ctx, u64 gpa, u64 *val, unsigned int size)
{
	*val = 0;
	return read_or_note(ctx, gpa, val, size);
}

static int read_nofault(void *ctx, u64 gpa, u64 *val, unsigned int size)
{
	struct mk_vcpu *v = ctx;

	*val = 0;
	return mk_guest_read_nofault(v->vm, gpa, val, size);
}

static int update_sleep(void *ctx, u64 gpa, u64 old, u64 new, unsigned int size)
{
	struct mk_vcpu *v = ctx;
	int err = mk_guest_cmpxchg(v, gpa, old, new, size);

	if (unlikely(err == -EFAULT))
		v->vmm_refused = true;
	return err;
}

void mk_walk_memory(struct mk_vcpu *v, struct mk_walk_mem *mem, bool sleep)
{
	mem->ctx = v;
	mem->read = sleep ? read_sleep : read_nofault;
	mem->update = sleep ? update_sleep : NULL;
}

void mk_walk_setup(struct mk_vcpu *v, struct mk_walk_cfg *cfg)
{
	struct mk_cpu *cpu = &v->cpu;

	mk_cpu_need(cpu, MK_G_CR | MK_G_CR3 | MK_G_EFER | MK_G_RFLAGS);
	cfg->cr0 = cpu->cr0;
	cfg->cr3 = cpu->cr3;
	cfg->cr4 = cpu->cr4;
	cfg->efer = cpu->efer;
	cfg->pkru = cpu->pkru;
	cfg->maxphyaddr = v->maxphyaddr;
	cfg->gbpages = v->gbpages;
	cfg->ac = cpu->rflags & X86_EFLAGS_AC;
	if ((cpu->cr0 & X86_CR0_PG) && (cpu->cr4 & X86_CR4_PAE) && !(cpu->efer & EFER_LMA)) {
		mk_cpu_need(cpu, MK_G_PDPTE);
		memcpy(cfg->pdpte, cpu->pdpte, sizeof(cfg->pdpte));
		/* With NPT the CPU itself reads them from memory at each use. */
		if (mk_hw->tdp == MK_TDP_NPT &&
		    mk_guest_read_nofault(v->vm, cpu->cr3 & 0xffffffe0, cfg->pdpte, 32))
			memset(cfg->pdpte, 0, sizeof(cfg->pdpte));
	}
}

/*
 * Code that exits is mostly code that has exited before. A page of it is
 * remembered together with the guest's table entries that lead there; as long
 * as memory still holds all of them, so does the translation, and to see that
 * costs a load for each where the walk costs hundreds of instructions.
 * In long mode only, whose entries all have eight bytes. What the VMM has
 * meanwhile put at one of these addresses is what it gave the guest.
 */
static struct mk_code_page *code_page(struct mk_vcpu *v, u64 gva)
{
	return &v->code[gva >> PAGE_SHIFT & (MK_NR_CODE_PAGES - 1)];
}

/* Besides CR3 and the tables: what decides whether this fetch is allowed, and from where. */
static u32 code_key(struct mk_vcpu *v)
{
	const struct mk_cpu *cpu = &v->cpu;

	BUILD_BUG_ON((X86_CR4_LA57 | X86_CR4_SMEP) & (EFER_NX | 1));
	return (cpu->cr4 & (X86_CR4_LA57 | X86_CR4_SMEP)) | (cpu->efer & EFER_NX) |
	       (mk_cpu_cpl(&v->cpu) == 3);
}

/* Read @n bytes at @gva as the last time; false: walk the tables. */
static bool fetch_again(struct mk_vcpu *v, u64 gva, u8 *buf, unsigned int n)
{
	const struct mk_code_page *c = code_page(v, gva);
	const struct mk_slots *slots;
	u64 bytes[2], entry;
	unsigned int i;

	BUILD_BUG_ON(MK_INSN_MAX > sizeof(bytes));
	if (!c->slots || c->page != (gva & PAGE_MASK) || c->cr3 != v->cpu.cr3 ||
	    c->key != code_key(v) || offset_in_page(gva) > PAGE_SIZE - sizeof(bytes))
		return false;

	preempt_disable();
	pagefault_disable();
	slots = rcu_dereference_sched(v->vm->slots);
	__uaccess_begin();
	if (slots->generation != c->slots)
		goto no;
	for (i = 0; i < c->levels; i++) {
		unsafe_get_user(entry, c->entry[i], no);
		if (entry != c->value[i])
			goto no;
	}
	unsafe_get_user(bytes[0], (const u64 __user *)(c->code + offset_in_page(gva)), no);
	unsafe_get_user(bytes[1], (const u64 __user *)(c->code + offset_in_page(gva)) + 1, no);
	__uaccess_end();
	pagefault_enable();
	preempt_enable();
	memcpy(buf, bytes, n);
	return true;

no:
	__uaccess_end();
	pagefault_enable();
	preempt_enable();
	return false;
}

/* Memory for a walk that notes in @page what it reads. */
struct noting {
	struct mk_walk_mem mem;
	struct mk_vcpu *v;
	struct mk_code_page *page;
	bool failed;
};

/* Note where @len bytes at @gpa are; all notes must be of one generation of slots. */
static const void __user *note(struct noting *noting, gpa_t gpa, size_t len)
{
	u64 generation;
	const void __user *hva = mk_guest_hva(noting->v->vm, gpa, len, &generation);

	if (!hva || (noting->page->slots && noting->page->slots != generation))
		noting->failed = true;
	else
		noting->page->slots = generation;
	return hva;
}

static int read_noting(void *ctx, u64 gpa, u64 *val, unsigned int size)
{
	struct noting *noting = ctx;
	struct mk_code_page *page = noting->page;
	int err = noting->mem.read(noting->mem.ctx, gpa, val, size);

	if (page->levels == MK_MAX_LEVELS) {
		noting->failed = true;	/* the walk has begun anew */
	} else if (!err) {
		page->value[page->levels] = *val;
		page->entry[page->levels++] = note(noting, gpa, size);
	}
	return err;
}

static int update_noting(void *ctx, u64 gpa, u64 old, u64 new, unsigned int size)
{
	struct noting *noting = ctx;

	return noting->mem.update(noting->mem.ctx, gpa, old, new, size);
}

/* mk_walk() for a fetch, remembered if that may pay. */
static int walk_code(struct mk_vcpu *v, const struct mk_walk_cfg *cfg, u64 gva, bool sleep,
		     struct mk_walk_result *res)
{
	u32 access = MK_ACC_EXEC | (mk_cpu_cpl(&v->cpu) == 3 ? MK_ACC_USER : 0);
	struct noting noting = { .v = v, .page = code_page(v, gva) };
	struct mk_walk_mem mem;
	int status;

	mk_walk_memory(v, &noting.mem, sleep);
	if (!(cfg->efer & EFER_LMA))
		return mk_walk(cfg, &noting.mem, gva, access, res);

	mem = (struct mk_walk_mem){
		.ctx = &noting, .read = read_noting, .update = sleep ? update_noting : NULL };
	*noting.page = (struct mk_code_page){
		.page = gva & PAGE_MASK, .cr3 = cfg->cr3, .key = code_key(v) };
	status = mk_walk(cfg, &mem, gva, access, res);
	if (status == MK_WALK_OK)
		noting.page->code = note(&noting, res->gpa & PAGE_MASK, PAGE_SIZE);
	if (status != MK_WALK_OK || noting.failed)
		noting.page->slots = 0;
	return status;
}

unsigned int mk_fetch(struct mk_vcpu *v, u64 rip, u8 *buf, unsigned int n, bool sleep)
{
	struct mk_cpu *cpu = &v->cpu;
	enum mk_cpu_mode mode = mk_cpu_code_mode(cpu);
	u64 gva = mode == MK_MODE_64 ? rip : (u32)(cpu->seg[MK_CS].base + rip);
	struct mk_walk_result res;
	struct mk_walk_cfg cfg;
	unsigned int got = 0;

	mk_cpu_need(cpu, MK_G_CR | MK_G_CR3 | MK_G_EFER);
	if (likely(fetch_again(v, gva, buf, n)))
		return n;
	if (sleep)
		v->vmm_refused = false;

	mk_walk_setup(v, &cfg);
	while (got < n) {
		u64 at = mode == MK_MODE_64 ? gva + got : (u32)(gva + got);
		unsigned int part = min_t(unsigned int, n - got, PAGE_SIZE - offset_in_page(at));
		int status = walk_code(v, &cfg, at, sleep, &res);

		if (status == MK_WALK_FAULT && sleep && !got)
			mk_queue_page_fault(v, res.cr2, res.error);
		if (status != MK_WALK_OK)
			break;
		if (sleep ? read_or_note(v, res.gpa, buf + got, part) :
			    mk_guest_read_nofault(v->vm, res.gpa, buf + got, part))
			break;
		got += part;
	}
	return got;
}

void mk_patch_code(struct mk_vcpu *v, u64 rip, u8 byte)
{
	struct mk_cpu *cpu = &v->cpu;
	u32 access = MK_ACC_WRITE | (mk_cpu_cpl(cpu) == 3 ? MK_ACC_USER : 0);
	struct mk_walk_result res;
	struct mk_walk_mem mem;
	struct mk_walk_cfg cfg;

	mk_walk_setup(v, &cfg);
	mk_walk_memory(v, &mem, true);
	if (mk_cpu_code_mode(cpu) != MK_MODE_64)
		rip = (u32)(cpu->seg[MK_CS].base + rip);
	if (mk_walk(&cfg, &mem, rip, access, &res) == MK_WALK_OK)
		mk_guest_write(v, res.gpa, &byte, 1);
	v->vmm_refused = false;
}

int mk_translate(struct mk_vcpu *v, struct kvm_translation *tr)
{
	struct mk_walk_result res = {};
	struct mk_walk_mem mem;
	struct mk_walk_cfg cfg;

	mk_walk_setup(v, &cfg);
	cfg.ac = true;
	mk_walk_memory(v, &mem, true);
	mem.update = NULL;
	/* Outside of long mode there are no linear addresses beyond 4 GiB. */
	tr->valid = ((cfg.efer & EFER_LMA) || !upper_32_bits(tr->linear_address)) &&
		    mk_walk(&cfg, &mem, tr->linear_address, 0, &res) == MK_WALK_OK;
	tr->physical_address = tr->valid ? res.gpa : ~0ull;
	tr->writeable = tr->valid && res.writable;
	tr->usermode = tr->valid && res.user;
	memset(tr->pad, 0, sizeof(tr->pad));
	v->vmm_refused = false;
	return 0;
}

/* Opcodes of the exits that stand for one instruction each; see mk_insn_len(). */
static const u32 opcode_of[MK_EXIT_NR] = {
	[MK_EXIT_CPUID]		= 0x0fa2,
	[MK_EXIT_HLT]		= 0xf4,
	[MK_EXIT_INVD]		= 0x0f08,
	[MK_EXIT_WBINVD]	= 0x0f09,
	[MK_EXIT_RDPMC]		= 0x0f33,
	[MK_EXIT_RDMSR]		= 0x0f32,
	[MK_EXIT_WRMSR]		= 0x0f30,
	[MK_EXIT_XSETBV]	= 0x0f01d1,
	[MK_EXIT_MONITOR]	= 0x0f01c8,
	[MK_EXIT_MWAIT]		= 0x0f01c9,
};

/* CR and DR exits of a CPU without decode assists: which register, which way. */
static bool fill_crdr(struct mk_vcpu *v, struct mk_exit *x, const struct mk_insn *insn, bool sleep)
{
	if (insn->map != 1)
		return false;
	switch (insn->opcode) {
	case 0x06:
		x->cr.access = MK_CLTS;
		return true;
	case 0x01:
		if ((insn->reg & 7) == 4) {
			x->cr.access = MK_SMSW;
			return true;
		}
		/* LMSW r/m16; nobody has been seen to load it from memory. */
		if (insn->mod != 3)
			return false;
		x->cr.access = MK_LMSW;
		if (insn->rm == MK_RSP)
			mk_cpu_need(&v->cpu, MK_G_RSP);
		x->cr.lmsw = v->cpu.gpr[insn->rm];
		return true;
	case 0x20:
	case 0x21:
		x->cr.access = MK_MOV_FROM;
		break;
	case 0x22:
	case 0x23:
		x->cr.access = MK_MOV_TO;
		break;
	default:
		return false;
	}
	x->cr.nr = insn->reg;
	x->cr.gpr = insn->rm;
	return true;
}

bool mk_insn_fill(struct mk_vcpu *v, struct mk_exit *x, bool sleep)
{
	struct mk_cpu *cpu = &v->cpu;
	enum mk_cpu_mode mode = mk_cpu_code_mode(cpu);
	u32 opcode = opcode_of[x->kind];
	u8 bytes[MK_INSN_MAX];
	struct mk_insn insn;
	unsigned int n = 0;

	if (x->kind == MK_EXIT_HYPERCALL)
		opcode = mk_hw->tdp == MK_TDP_NPT ? 0x0f01d9 : 0x0f01c1;

	mk_cpu_need(cpu, MK_G_RIP);
	/* Most are two bytes long and have no prefix: ask for no more at first. */
	if (opcode) {
		n = mk_fetch(v, cpu->rip, bytes, opcode > 0xffff ? 3 : 2, sleep);
		x->len = mk_insn_len(bytes, n, opcode, mode);
		if (x->len)
			return true;
	}
	n = mk_fetch(v, cpu->rip, bytes, sizeof(bytes), sleep);
	if (opcode) {
		x->len = mk_insn_len(bytes, n, opcode, mode);
		return x->len;
	}
	if (mk_insn_decode(&insn, bytes, n, mode) != MK_INSN_OK)
		return false;
	if ((x->flags & MK_XF_DECODE) && !fill_crdr(v, x, &insn, sleep))
		return false;
	x->len = insn.len;
	return true;
}

void mk_insn_done(struct mk_vcpu *v, unsigned int len)
{
	struct mk_cpu *cpu = &v->cpu;
	u64 rip;

	mk_cpu_touch(cpu, MK_G_RIP);
	mk_cpu_need(cpu, MK_G_RFLAGS | MK_G_SHADOW);
	rip = cpu->rip + len;
	if (unlikely((rip ^ cpu->rip) >> 32) && mk_cpu_code_mode(cpu) != MK_MODE_64)
		rip = (u32)rip;
	cpu->rip = rip;
	if (unlikely(cpu->shadow & (MK_SHADOW_STI | MK_SHADOW_MOVSS))) {
		mk_cpu_touch(cpu, MK_G_SHADOW);
		cpu->shadow &= ~(MK_SHADOW_STI | MK_SHADOW_MOVSS);
	}
	if (unlikely(cpu->rflags & (X86_EFLAGS_TF | X86_EFLAGS_RF))) {
		if (cpu->rflags & X86_EFLAGS_TF)
			mk_debug_trap(v, DR_STEP);
		mk_cpu_touch(cpu, MK_G_RFLAGS);
		cpu->rflags &= ~(u64)X86_EFLAGS_RF;
	}
}

bool mk_refused(struct mk_vcpu *v)
{
	bool refused = v->vmm_refused;

	v->vmm_refused = false;
	if (refused)
		snprintf(v->death, sizeof(v->death),
			 "the VMM's own mapping refuses to be read for the code at rip 0x%llx",
			 v->cpu.rip);
	return refused;
}
