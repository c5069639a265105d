/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the launcher's files share: the machine (struct vm), its processors,
 * exit statuses, and one paragraph of prototypes for each file.
 *
 * The launcher speaks the KVM ABI of <linux/kvm.h> and nothing else to run a
 * guest, so every device that serves this ABI will do; what minikvm.h adds is
 * asked for only to explain and to count. One process is one machine: the
 * devices keep their state in their own file.
 *
 * Reading order: main.c (what a user may ask), vm.c (memory and the run loop),
 * cpu.c (how a processor looks when it starts), linux.c and flat.c (what is
 * loaded), platform.c and serial.c (what the guest finds at its ports), pci.c and
 * blk.c (its disk), irq.c (how devices interrupt).
 */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses; `minikvm run --help` prints the same list. */
enum status {
	STATUS_POWEROFF = 0,	/* the guest powered itself off */
	STATUS_RESET = 1,	/* the guest asked for a reset */
	STATUS_CRASH = 2,	/* triple fault, failed entry, internal error */
	STATUS_QUIT = 3,	/* the user pressed Ctrl-A x */
	STATUS_USAGE = 64,	/* bad arguments (EX_USAGE) */
	STATUS_INPUT = 66,	/* an input file is missing or unusable (EX_NOINPUT) */
	STATUS_HOST = 69,	/* this host or device cannot run the guest (EX_UNAVAILABLE) */
	STATUS_SIGNAL = 128,	/* plus the number of the signal that ended us */
};

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/*
 * The guest-physical map, in bytes. Below 1 MiB it is what a PC's firmware
 * leaves behind; from 3 to 4 GiB is the hole for I/O APIC, local APIC and ROM.
 */
enum {
	GPA_GDT = 0x500,
	GPA_BOOT_PARAMS = 0x7000,
	GPA_REAL_IMAGE = 0x7c00,	/* where a BIOS puts a boot sector */
	GPA_PAGE_TABLES = 0x9000,	/* six pages */
	GPA_CMDLINE = 0x20000,
	GPA_STACK = 0x80000,		/* grows down */
	GPA_LOW_END = 0x9fc00,		/* end of conventional memory */
	GPA_ACPI = 0xe0000,		/* inside the range that is searched for the RSDP */
	GPA_HIGH = 0x100000,
};
#define GPA_HOLE GIB(3)
#define GPA_ABOVE_HOLE GIB(4)

#define MAX_VCPUS 255	/* their IDs fit the 8 bits of a local APIC's MADT entry */
#define EXIT_KINDS 64

struct vm;

/**
 * struct vcpu - one processor and the thread that runs it
 * @vm: the machine it belongs to
 * @id: its number, which is its APIC ID too
 * @fd: the vCPU file
 * @run: the shared page(s) of the KVM ABI; its own thread's, except that
 *	anybody may set @run->immediate_exit
 * @thread: runs the loop in vm.c
 * @exits: exits that reached us, by KVM_EXIT_ number; its own thread's
 */
struct vcpu {
	struct vm *vm;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	uint64_t exits[EXIT_KINDS];
};

/**
 * struct vm - the machine
 * @device: path of the device, for messages
 * @dev: the open device
 * @fd: the VM file
 * @irqchip: PIC, I/O APIC, local APIC and PIT live in the kernel
 * @mem: guest memory, one host mapping; the part from @low_size on appears at
 *	GPA_ABOVE_HOLE
 * @mem_size: bytes of guest memory
 * @low_size: bytes of it below the hole
 * @vcpus: the processors; @nr_vcpus of them exist
 * @io_lock: guards the state of all emulated devices
 * @wake: eventfd that gets the main thread out of poll()
 * @ended: set once; a claim on @status, @culprit and @reason
 * @status: how the guest ended
 * @culprit: the vCPU that crashed, or NULL
 * @reason: a sentence for a crash
 */
struct vm {
	const char *device;
	int dev, fd;
	bool irqchip;
	uint8_t *mem;
	uint64_t mem_size, low_size;
	struct vcpu vcpus[MAX_VCPUS];
	unsigned int nr_vcpus;
	pthread_mutex_t io_lock;
	int wake;
	atomic_bool ended;
	int status;
	struct vcpu *culprit;
	char reason[256];
};

/* main.c: one line on stderr, then exit(). Main thread only. */
_Noreturn void die(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* vm.c */
int device_open(const char *path);
void vm_create(struct vm *vm, const char *device, uint64_t mem_size,
	       unsigned int nr_vcpus, bool irqchip);
void *vm_memory(const struct vm *vm, uint64_t gpa, uint64_t len);
void vm_load(const struct vm *vm, const char *path, int fd, uint64_t offset,
	     uint64_t gpa, uint64_t len);
int vm_run(struct vm *vm);
void vm_fail(struct vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void vm_end(struct vm *vm, int status);
void vm_wake(struct vm *vm);
void vm_stats(const struct vm *vm);

/* cpu.c */
enum cpu_mode { MODE_REAL, MODE_PROTECTED, MODE_PAGED32, MODE_PAE, MODE_LONG };

/**
 * struct start - where and how the first processor starts
 * @mode: processor mode; the paged ones map the first 4 GiB one to one
 * @rip: first instruction (real mode: below 64 KiB, CS is 0)
 * @rsp: stack
 * @rsi: what the Linux boot protocol wants there; else 0
 */
struct start {
	enum cpu_mode mode;
	uint64_t rip, rsp, rsi;
};

void cpu_identify(struct vcpu *vcpu);
long cpu_tsc_khz(struct vcpu *vcpu);
void cpu_start(struct vcpu *vcpu, const struct start *start);

/* linux.c and flat.c: fill memory, say how to start */
void linux_load(struct vm *vm, const char *kernel, const char *initrd,
		const char *cmdline, struct start *start);
void flat_load(struct vm *vm, const char *path, enum cpu_mode mode,
	       struct start *start);
int image_open(const char *path, const char *what, uint64_t *size);

/* acpi.c */
enum {
	ACPI_SCI = 9,
	ACPI_PM_EVENT = 0x600,		/* status, then enable: 2 bytes each */
	ACPI_PM_CONTROL = 0x604,	/* 2 bytes */
	ACPI_PM_TIMER = 0x608,		/* 4 bytes */
	ACPI_SLEEP_TYPE_S5 = 5,
	RESET_PORT = 0xcf9,
	RESET_VALUE = 6,
	CMOS_CENTURY = 0x32,
};

void acpi_build(struct vm *vm);

/* irq.c */
#define MSI_VECTORS 2

void irq_create_line(struct vm *vm, unsigned int gsi);
void irq_line(struct vm *vm, unsigned int gsi, bool level);
void msi_create(struct vm *vm);
void msi_route(struct vm *vm, unsigned int vector, uint64_t address, uint32_t data);
void msi_send(unsigned int vector);

/* platform.c: called with vm->io_lock held */
uint32_t platform_in(struct vm *vm, uint16_t port, unsigned int size);
void platform_out(struct vm *vm, uint16_t port, unsigned int size, uint32_t value);

/* serial.c: called with vm->io_lock held */
enum { SERIAL_PORT = 0x3f8, SERIAL_PORTS = 8, SERIAL_IRQ = 4 };

uint8_t serial_in(struct vm *vm, unsigned int reg);
void serial_out(struct vm *vm, unsigned int reg, uint8_t value);
void serial_create(struct vm *vm);
void serial_transmitted(struct vm *vm);
size_t serial_room(void);
void serial_receive(struct vm *vm, const uint8_t *data, size_t len);

/* pci.c: called with vm->io_lock held, but for pci_add() */
enum {
	PCI_CONFIG_ADDRESS = 0xcf8,	/* 4 bytes */
	PCI_CONFIG_DATA = 0xcfc,	/* 4 bytes */
	PCI_BAR_SIZE = 0x8000,
	BAR_MSIX_TABLE = 0x4000,
	BAR_MSIX_PBA = 0x5000,
};
#define PCI_WINDOW GPA_HOLE	/* memory for BARs */
#define PCI_WINDOW_SIZE MIB(256)

/**
 * struct pci_device - a device on the bus
 * @config: configuration space, little-endian
 * @writable: bits of it that the guest may set and clear
 * @msix: where in @config the MSI-X capability is
 * @msix_table: the vectors, as the specification lays them out
 * @msix_pending: bits of vectors that interrupted while they were masked
 * @access: read or write of @len bytes of the BAR below BAR_MSIX_TABLE; what is
 *	read is zero unless it says otherwise
 * @moved: the BAR answers at @to, no longer at @from; 0 is nowhere
 */
struct pci_device {
	uint8_t config[256], writable[256];
	unsigned int msix;
	uint8_t msix_table[MSI_VECTORS * 16];
	uint64_t msix_pending;
	void (*access)(struct vm *vm, uint32_t offset, void *data, unsigned int len, bool write);
	void (*moved)(struct vm *vm, uint64_t from, uint64_t to);
};

uint32_t pci_in(uint16_t port, unsigned int size);
void pci_out(struct vm *vm, uint16_t port, unsigned int size, uint32_t value);
bool pci_mmio(struct vm *vm, uint64_t gpa, void *data, unsigned int len, bool write);
void pci_add_capability(struct pci_device *dev, unsigned int at, const void *body, size_t len);
void pci_add(struct vm *vm, struct pci_device *dev, unsigned int msix);
void pci_interrupt(struct pci_device *dev, unsigned int vector);

/* blk.c */
void blk_create(struct vm *vm, const char *path, bool read_only);
int blk_fd(void);
void blk_work(struct vm *vm);

/* term.c */
void term_raw(void);
void term_restore(void);
int term_timer(void);
bool term_room(void);
void term_put(uint8_t byte);
bool term_flush(void);
void term_drain(int signals);
bool term_filter(uint8_t *data, size_t *len);

/* crash.c */
void crash_report(struct vcpu *vcpu);
void crash_describe(const struct kvm_run *run, char *text, size_t size);
const char *exit_name(unsigned int exit_reason);

/* info.c */
int info(const char *device);

#endif
