// SPDX-License-Identifier: GPL-2.0
/*
 * Loading Linux: a bzImage, or an uncompressed ELF vmlinux, which skips the
 * decompression in the guest. Both are entered behind their real-mode setup
 * code, with a "zero page" (struct boot_params) that says what it would have
 * found out.
 *
 * Source: Linux, "The Linux/x86 Boot Protocol" and "The zero page".
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launcher.h"

#define SETUP_HEADER 0x1f1
#define SETUP_SIGNATURE 0x53726448	/* "HdrS" */
#define BOOT_FLAG 0xaa55
#define SECTOR 512
#define DEFAULT_SETUP_SECTORS 4
#define PROTOCOL_RELOCATABLE 0x205
#define PROTOCOL_CMDLINE_SIZE 0x206
#define PROTOCOL_INIT_SIZE 0x20a
#define PROTOCOL_XLOADFLAGS 0x20c
#define LOADER_UNKNOWN 0xff
#define ENTRY_64 0x200
#define PAGE 4096

enum { E820_RAM = 1, E820_RESERVED = 2 };

/* What both kinds of kernel come down to. */
struct kernel {
	struct setup_header header;
	uint64_t start, end;	/* guest-physical range that it needs at first */
	uint64_t entry;
	enum cpu_mode mode;
};

static void need_memory(const struct vm *vm, uint64_t bytes, const char *path)
{
	if (vm->low_size < bytes)
		die(STATUS_USAGE, "memory too small: %s needs %llu MiB; give more with --mem",
		    path, (unsigned long long)(bytes + MIB(1) - 1) >> 20);
}

static bool is_elf(const uint8_t *head)
{
	return !memcmp(head, ELFMAG, SELFMAG);
}

static void load_elf(struct vm *vm, const char *path, int fd, uint64_t size,
		     struct kernel *kernel)
{
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;
	bool upper_half = false;

	if (pread(fd, &ehdr, sizeof(ehdr), 0) != sizeof(ehdr))
		die(STATUS_INPUT, "%s is truncated: get a complete copy", path);
	if (ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_machine != EM_X86_64 ||
	    ehdr.e_type != ET_EXEC || ehdr.e_phentsize != sizeof(phdr))
		die(STATUS_INPUT, "%s is an ELF file, but no x86-64 kernel", path);

	kernel->start = UINT64_MAX;
	kernel->entry = ehdr.e_entry;
	kernel->mode = MODE_LONG;
	for (unsigned int i = 0; i < ehdr.e_phnum; i++) {
		uint64_t offset = ehdr.e_phoff + i * sizeof(phdr);

		if (pread(fd, &phdr, sizeof(phdr), offset) != sizeof(phdr))
			die(STATUS_INPUT, "%s is truncated: get a complete copy", path);
		if (phdr.p_type != PT_LOAD || !phdr.p_memsz)
			continue;
		if (phdr.p_filesz > phdr.p_memsz || phdr.p_paddr < GPA_HIGH ||
		    phdr.p_paddr >= GPA_HOLE || phdr.p_memsz > GPA_HOLE - phdr.p_paddr)
			die(STATUS_INPUT, "%s is an ELF file, but no kernel: it loads to 0x%llx",
			    path, (unsigned long long)phdr.p_paddr);
		if ((int64_t)phdr.p_vaddr < 0)
			upper_half = true;
		if (phdr.p_offset > size || phdr.p_filesz > size - phdr.p_offset)
			die(STATUS_INPUT, "%s is truncated: get a complete copy", path);
		need_memory(vm, phdr.p_paddr + phdr.p_memsz, path);
		vm_load(vm, path, fd, phdr.p_offset, phdr.p_paddr, phdr.p_filesz);
		if (phdr.p_paddr < kernel->start)
			kernel->start = phdr.p_paddr;
		if (phdr.p_paddr + phdr.p_memsz > kernel->end)
			kernel->end = phdr.p_paddr + phdr.p_memsz;
	}
	if (!upper_half || kernel->entry < kernel->start || kernel->entry >= kernel->end)
		die(STATUS_INPUT, "%s is an ELF file, but no kernel: it belongs to user space",
		    path);

	/* Its setup header stayed in the bzImage; this is what the kernel reads. */
	kernel->header = (struct setup_header) {
		.boot_flag = BOOT_FLAG,
		.header = SETUP_SIGNATURE,
		.version = PROTOCOL_XLOADFLAGS,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = INT32_MAX,
		.cmdline_size = 2047,
	};
}

static uint64_t round_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) / align * align;
}

static void load_bzimage(struct vm *vm, const char *path, int fd, uint64_t size,
			 const uint8_t *head, struct kernel *kernel)
{
	struct setup_header *header = &kernel->header;
	uint64_t setup, payload, end = 0x202 + head[0x201];

	if (end > SETUP_HEADER + sizeof(*header))
		end = SETUP_HEADER + sizeof(*header);
	memset(header, 0, sizeof(*header));
	if (end > SETUP_HEADER)
		memcpy(header, head + SETUP_HEADER, end - SETUP_HEADER);
	if (header->boot_flag != BOOT_FLAG || header->header != SETUP_SIGNATURE)
		die(STATUS_INPUT, "%s is no Linux kernel: neither a bzImage nor an ELF vmlinux",
		    path);
	if (header->version < PROTOCOL_INIT_SIZE || !(header->loadflags & LOADED_HIGH))
		die(STATUS_INPUT, "%s is too old a kernel: boot protocol %d.%d, at least 2.10 is needed",
		    path, header->version >> 8, header->version & 0xff);

	setup = (header->setup_sects ? header->setup_sects : DEFAULT_SETUP_SECTORS) + 1;
	setup *= SECTOR;
	payload = (uint64_t)header->syssize * 16;
	/* syssize rounds up; a signature may follow it. */
	if (size < setup || size - setup + 15 < payload)
		die(STATUS_INPUT, "%s is truncated: get a complete copy", path);
	if (payload > size - setup)
		payload = size - setup;

	kernel->start = header->pref_address;
	if (header->relocatable_kernel && kernel->start + header->init_size > vm->low_size)
		kernel->start = round_up(GPA_HIGH, header->kernel_alignment ?: 1);
	kernel->end = kernel->start + (header->init_size > payload ? header->init_size : payload);
	need_memory(vm, kernel->end, path);
	vm_load(vm, path, fd, setup, kernel->start, payload);

	header->code32_start = kernel->start;
	kernel->entry = kernel->start;
	kernel->mode = MODE_PROTECTED;
	if (header->version >= PROTOCOL_XLOADFLAGS && (header->xloadflags & XLF_KERNEL_64)) {
		kernel->entry += ENTRY_64;
		kernel->mode = MODE_LONG;
	}
}

static void load_kernel(struct vm *vm, const char *path, struct kernel *kernel)
{
	uint8_t head[0x400] = { 0 };
	uint64_t size;
	int fd = image_open(path, "kernel", &size);

	if (pread(fd, head, sizeof(head), 0) < 0)
		die(STATUS_INPUT, "cannot read the kernel %s", path);
	if (is_elf(head))
		load_elf(vm, path, fd, size, kernel);
	else
		load_bzimage(vm, path, fd, size, head, kernel);
	close(fd);
}

/* As high as the kernel allows: it grows upward behind its start. */
static void load_initrd(struct vm *vm, const char *path, struct kernel *kernel)
{
	uint64_t top = (uint64_t)kernel->header.initrd_addr_max + 1;
	uint64_t size, gpa;
	int fd = image_open(path, "initrd", &size);

	if (top > vm->low_size)
		top = vm->low_size;
	if (size > top || (gpa = (top - size) & -(uint64_t)PAGE) < kernel->end)
		die(STATUS_USAGE, "memory too small: kernel and %s need %llu MiB; give more with --mem",
		    path, (unsigned long long)(kernel->end + size + MIB(1) - 1) >> 20);
	vm_load(vm, path, fd, 0, gpa, size);
	close(fd);
	kernel->header.ramdisk_image = gpa;
	kernel->header.ramdisk_size = size;
}

/*
 * A guest that has to measure its TSC against a timer gets it wrong where the
 * host takes the CPU away in between, so it is told; what the user says comes
 * later and wins.
 */
static void load_cmdline(struct vm *vm, const char *cmdline, struct kernel *kernel)
{
	char *to = (char *)vm->mem + GPA_CMDLINE;
	size_t space = GPA_STACK - GPA_CMDLINE;
	long khz = cpu_tsc_khz(&vm->vcpus[0]);
	int len = 0;

	if (khz > 0)
		len = snprintf(to, space, "tsc_early_khz=%ld ", khz);
	len += snprintf(to + len, space - len, "%s", cmdline);
	if ((unsigned int)len > kernel->header.cmdline_size)
		die(STATUS_USAGE, "the kernel's command line has %d characters; this kernel takes %u",
		    len, kernel->header.cmdline_size);
	kernel->header.cmd_line_ptr = GPA_CMDLINE;
}

static void add_range(struct boot_params *params, uint64_t start, uint64_t end, uint32_t type)
{
	if (start < end)
		params->e820_table[params->e820_entries++] = (struct boot_e820_entry) {
			.addr = start, .size = end - start, .type = type,
		};
}

/**
 * linux_load() - load a kernel and all it wants to be told
 * @vm: the machine, with empty memory
 * @kernel: path of a bzImage or an ELF vmlinux
 * @initrd: path of an initial RAM disk, or NULL
 * @cmdline: the kernel's command line
 * @start: filled
 *
 * Dies with a sentence when a file is unusable or does not fit.
 */
void linux_load(struct vm *vm, const char *kernel_path, const char *initrd,
		const char *cmdline, struct start *start)
{
	struct boot_params *params = (void *)(vm->mem + GPA_BOOT_PARAMS);
	struct kernel kernel = { 0 };

	need_memory(vm, GPA_HIGH, kernel_path);
	load_kernel(vm, kernel_path, &kernel);
	load_cmdline(vm, cmdline, &kernel);
	if (initrd)
		load_initrd(vm, initrd, &kernel);

	kernel.header.type_of_loader = LOADER_UNKNOWN;
	params->hdr = kernel.header;
	add_range(params, 0, GPA_LOW_END, E820_RAM);
	add_range(params, GPA_LOW_END, GPA_HIGH, E820_RESERVED);
	add_range(params, GPA_HIGH, vm->low_size, E820_RAM);
	add_range(params, GPA_ABOVE_HOLE, GPA_ABOVE_HOLE + vm->mem_size - vm->low_size, E820_RAM);
	acpi_build(vm);

	*start = (struct start) {
		.mode = kernel.mode,
		.rip = kernel.entry,
		.rsp = GPA_STACK,
		.rsi = GPA_BOOT_PARAMS,
	};
}
