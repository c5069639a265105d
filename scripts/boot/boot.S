/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The boot loader of the vmx test machine: the first 16 sectors of its disk.
 *
 * Firmware and GRUB spend minutes of emulated time on a CD, on menus and on
 * unpacking. This reads an unpacked kernel and its initramfs from the disk by
 * programmed I/O and enters the kernel at its 64-bit entry point, as "The Linux/x86
 * Boot Protocol" (64-bit boot protocol) describes it.
 *
 * Assembled for each run, with
 *   KERNEL_CHUNKS, INITRD_CHUNKS	length in chunks of 256 sectors
 *   KERNEL_ENTRY		physical address of startup_64, which need not be the first byte
 *   INITRD_SIZE		length in bytes
 *   VMLINUZ			file whose setup header is handed on
 *   CMDLINE			file with the command line
 * On the disk the kernel starts at chunk 1 and the initramfs follows it.
 */

#define HEAD_SECTORS	16
#define CHUNK		256			/* sectors one ATA command can read */
#define KERNEL_ADDR	0x1000000
#define INITRD_ADDR	0x8000000

/* Three page tables in low memory that nothing else uses yet. */
#define PML4		0x1000
#define PDPT		0x2000
#define PD		0x3000

/* Fields of struct boot_params. */
#define E820_ENTRIES	0x1e8
#define SETUP_HEADER	0x1f1
#define LOADER_TYPE	0x210
#define RAMDISK_IMAGE	0x218
#define RAMDISK_SIZE	0x21c
#define CMD_LINE_PTR	0x228
#define E820_TABLE	0x2d0
#define E820_MAX	128

/* ATA, first channel. */
#define ATA_DATA	0x1f0
#define ATA_COUNT	0x1f2
#define ATA_LBA_LOW	0x1f3
#define ATA_LBA_MID	0x1f4
#define ATA_LBA_HIGH	0x1f5
#define ATA_DEVICE	0x1f6
#define ATA_COMMAND	0x1f7
#define ATA_BUSY	0x80
#define ATA_DRQ		0x08
#define ATA_READ	0x20

	.code16
	.text
	.globl	_start
_start:
	ljmp	$0, $1f
1:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$_start, %sp
	movw	$rest, %si
	movb	$0x42, %ah		/* extended read of the other sectors */
	int	$0x13
	jc	.
	jmp	memory_map

rest:	.byte	16, 0
	.word	HEAD_SECTORS - 1
	.word	0x7e00, 0
	.quad	1

	.org	510
	.word	0xaa55

	/* BIOS function E820 fills the table that the kernel wants. */
memory_map:
	xorl	%ebx, %ebx
	movw	$boot_params + E820_TABLE, %di
1:	movl	$0xe820, %eax
	movl	$0x534d4150, %edx	/* "SMAP" */
	movl	$20, %ecx
	int	$0x15
	jc	2f
	addw	$20, %di
	incb	boot_params + E820_ENTRIES
	testl	%ebx, %ebx
	jnz	1b

2:	cli
	inb	$0x92, %al		/* address line 20 */
	orb	$2, %al
	outb	%al, $0x92
	lgdt	gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmp	$0x08, $protected

	.code32
protected:
	movw	$0x18, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss

	movl	$CHUNK, %ebx
	movl	$KERNEL_ADDR, %edi
	movl	$KERNEL_CHUNKS, %ebp
	call	load
	movl	$INITRD_ADDR, %edi
	movl	$INITRD_CHUNKS, %ebp
	call	load

	movb	$0xff, boot_params + LOADER_TYPE
	movl	$INITRD_ADDR, boot_params + RAMDISK_IMAGE
	movl	$INITRD_SIZE, boot_params + RAMDISK_SIZE
	movl	$command_line, boot_params + CMD_LINE_PTR

	/* Map the first GiB to itself, in pages of 2 MiB. */
	xorl	%eax, %eax
	movl	$PML4, %edi
	movl	$3 * 4096 / 4, %ecx
	rep stosl
	movl	$PDPT + 3, PML4
	movl	$PD + 3, PDPT
	movl	$PD, %edi
	movl	$0x83, %eax
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	cmpl	$0x40000083, %eax
	jne	1b

	movl	$PML4, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$1 << 5, %eax		/* PAE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx	/* EFER */
	rdmsr
	orl	$1 << 8, %eax		/* LME */
	wrmsr
	movl	%cr0, %eax
	orl	$1 << 31, %eax		/* PG */
	movl	%eax, %cr0
	ljmp	$0x10, $long

/* Read EBP chunks from sector EBX on to EDI; EBX and EDI advance. */
load:
	testl	%ebp, %ebp
	jz	3f
	call	not_busy
	movw	$ATA_COUNT, %dx
	xorl	%eax, %eax		/* 0 means 256 */
	outb	%al, %dx
	movl	%ebx, %eax
	movw	$ATA_LBA_LOW, %dx
	outb	%al, %dx
	shrl	$8, %eax
	movw	$ATA_LBA_MID, %dx
	outb	%al, %dx
	shrl	$8, %eax
	movw	$ATA_LBA_HIGH, %dx
	outb	%al, %dx
	movb	%ah, %al
	orb	$0xe0, %al		/* first drive, LBA */
	movw	$ATA_DEVICE, %dx
	outb	%al, %dx
	movb	$ATA_READ, %al
	movw	$ATA_COMMAND, %dx
	outb	%al, %dx

	movl	$CHUNK, %esi
1:	call	not_busy
	testb	$ATA_DRQ, %al
	jz	1b
	movw	$ATA_DATA, %dx
	movl	$512 / 4, %ecx
	rep insl
	decl	%esi
	jnz	1b

	addl	$CHUNK, %ebx
	decl	%ebp
	jmp	load

not_busy:
	movw	$ATA_COMMAND, %dx
	inb	%dx, %al
	testb	$ATA_BUSY, %al
	jnz	not_busy
3:	ret

	.code64
long:
	movl	$boot_params, %esi
	movl	$KERNEL_ENTRY, %eax
	jmp	*%rax

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9a000000ffff	/* 0x08: code, 32 bits */
	.quad	0x00af9a000000ffff	/* 0x10: code, 64 bits (__BOOT_CS) */
	.quad	0x00cf92000000ffff	/* 0x18: data (__BOOT_DS) */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	/* boot_params, with the setup header as the kernel was built with it. */
	.org	1024
boot_params:
	.org	1024 + SETUP_HEADER
	.incbin	VMLINUZ, SETUP_HEADER, 0x290 - SETUP_HEADER
	.org	1024 + 4096
command_line:
	.incbin	CMDLINE
	.byte	0
	.org	HEAD_SECTORS * 512
