// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_GET_STATS_FD: a file with a VM's or a vCPU's counters, and what they mean.
 *
 * A header, a name, a description of each counter, the counters: all of it is made
 * anew for each read, from what the floors below count anyway. Names are stock KVM's
 * where it has a counter of the same meaning.
 *
 * Source: KVM's API document, KVM_GET_STATS_FD.
 * Knows: the exits of a vCPU, the pages of a VM. Read next: core/mmu.c.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/slab.h>

#include "core/mmu.h"
#include "door/door.h"

#define NAME_SIZE	48
#define MAX_STATS	(MK_EXIT_NR + 1)

/* The ABI's struct kvm_stats_desc, whose name has no size of its own. */
struct desc {
	u32 flags;
	s16 exponent;
	u16 size;
	u32 offset;
	u32 bucket_size;
	char name[NAME_SIZE];
};
static_assert(offsetof(struct desc, name) == offsetof(struct kvm_stats_desc, name));

struct block {
	struct kvm_stats_header header;
	char id[NAME_SIZE];
	struct desc desc[MAX_STATS];
	u64 data[MAX_STATS];
};

/* The file's: it keeps its VM, and with that each vCPU. */
struct source {
	struct mk_vm *vm;
	struct mk_vcpu *v;	/* NULL: the VM's counters */
	char id[NAME_SIZE];
};

static void add(struct block *b, const char *name, u32 flags, u64 value)
{
	u32 nr = b->header.num_desc++;

	b->desc[nr] = (struct desc){
		.flags = flags | KVM_STATS_BASE_POW10, .size = 1, .offset = nr * sizeof(u64) };
	strscpy(b->desc[nr].name, name, NAME_SIZE);
	b->data[nr] = value;
}

static void vcpu_stats(struct mk_vcpu *v, struct block *b)
{
	static const char *const names[MK_EXIT_NR] = {
		[MK_EXIT_INTR]		= "irq_exits",
		[MK_EXIT_NMI]		= "nmi_exits",
		[MK_EXIT_EXCEPTION]	= "exception_exits",
		[MK_EXIT_TRIPLE_FAULT]	= "triple_fault_exits",
		[MK_EXIT_INIT]		= "init_exits",
		[MK_EXIT_SMI]		= "smi_exits",
		[MK_EXIT_IRQ_WINDOW]	= "irq_window_exits",
		[MK_EXIT_NMI_WINDOW]	= "nmi_window_exits",
		[MK_EXIT_TASK_SWITCH]	= "task_switch_exits",
		[MK_EXIT_CPUID]		= "cpuid_exits",
		[MK_EXIT_HLT]		= "halt_exits",
		[MK_EXIT_INVD]		= "invd_exits",
		[MK_EXIT_WBINVD]	= "wbinvd_exits",
		[MK_EXIT_RDPMC]		= "rdpmc_exits",
		[MK_EXIT_HYPERCALL]	= "hypercalls",
		[MK_EXIT_CR]		= "cr_exits",
		[MK_EXIT_DR]		= "dr_exits",
		[MK_EXIT_TABLE]		= "table_exits",
		[MK_EXIT_IO]		= "io_exits",
		[MK_EXIT_RDMSR]		= "rdmsr_exits",
		[MK_EXIT_WRMSR]		= "wrmsr_exits",
		[MK_EXIT_XSETBV]	= "xsetbv_exits",
		[MK_EXIT_PAUSE]		= "pause_exits",
		[MK_EXIT_MONITOR]	= "monitor_exits",
		[MK_EXIT_MWAIT]		= "mwait_exits",
		[MK_EXIT_TDP_FAULT]	= "pf_taken",
		[MK_EXIT_TDP_MISCONFIG]	= "tdp_misconfig_exits",
		[MK_EXIT_EOI]		= "virtual_eoi_exits",
		[MK_EXIT_APIC_WRITE]	= "virtual_apic_write_exits",
		[MK_EXIT_UNDEFINED]	= "undefined_exits",
		[MK_EXIT_FAIL_ENTRY]	= "failed_entries",
		[MK_EXIT_UNKNOWN]	= "unknown_exits",
	};
	enum mk_exit_kind kind;

	add(b, "exits", 0, 0);
	for (kind = 0; kind < MK_EXIT_NR; kind++) {
		u64 count = READ_ONCE(v->exits[kind]);

		b->data[0] += count;
		if (names[kind])
			add(b, names[kind], 0, count);
	}
}

static void vm_stats(struct mk_vm *vm, struct block *b)
{
	static const char *const names[] = { "pages_4k", "pages_2m", "pages_1g" };
	u64 pages[ARRAY_SIZE(names)];
	unsigned int i;

	mk_mmu_count(vm, pages);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		add(b, names[i], KVM_STATS_TYPE_INSTANT, pages[i]);
	add(b, "table_bytes", KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BYTES,
	    READ_ONCE(vm->nr_table_pages) * PAGE_SIZE);
	add(b, "vcpus", KVM_STATS_TYPE_INSTANT, READ_ONCE(vm->nr_vcpus));
}

static void fill(struct block *b, const struct source *source)
{
	b->header = (struct kvm_stats_header){
		.name_size = NAME_SIZE,
		.id_offset = offsetof(struct block, id),
		.desc_offset = offsetof(struct block, desc),
		.data_offset = offsetof(struct block, data),
	};
	strscpy(b->id, source->id, sizeof(b->id));
	if (source->v)
		vcpu_stats(source->v, b);
	else
		vm_stats(source->vm, b);
}

static ssize_t stats_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	struct block *b = kzalloc(sizeof(*b), GFP_KERNEL_ACCOUNT);
	size_t end;
	ssize_t ret;

	if (!b)
		return -ENOMEM;
	fill(b, file->private_data);
	end = offsetof(struct block, data[b->header.num_desc]);
	ret = simple_read_from_buffer(buf, size, pos, b, end);
	kfree(b);
	return ret;
}

static int stats_release(struct inode *inode, struct file *file)
{
	struct source *source = file->private_data;

	mk_vm_put(source->vm);
	kfree(source);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.read = stats_read,
	.release = stats_release,
	.llseek = noop_llseek,
};

/**
 * mk_stats_fd - KVM_GET_STATS_FD
 * @vm: whose counters, or
 * @v:  whose, where this is not NULL
 * Return: a file descriptor, which goes on to work when the VM's and the vCPU's are
 * closed; or an errno.
 */
long mk_stats_fd(struct mk_vm *vm, struct mk_vcpu *v)
{
	struct source *source;
	struct file *file;
	int fd;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	source = kzalloc(sizeof(*source), GFP_KERNEL_ACCOUNT);
	if (!source) {
		put_unused_fd(fd);
		return -ENOMEM;
	}
	source->vm = vm;
	source->v = v;
	if (v)
		snprintf(source->id, sizeof(source->id), "kvm-%d/vcpu-%d", task_pid_nr(current),
			 v->id);
	else
		snprintf(source->id, sizeof(source->id), "kvm-%d", task_pid_nr(current));
	file = anon_inode_getfile(v ? "kvm-vcpu-stats" : "kvm-vm-stats", &stats_fops, source,
				  O_RDONLY);
	if (IS_ERR(file)) {
		kfree(source);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	mk_vm_get(vm);
	file->f_mode |= FMODE_PREAD;
	fd_install(fd, file);
	return fd;
}
