// SPDX-License-Identifier: GPL-2.0
/*
 * The launcher's disk (userspace/blk.c) with a driver that lies. The test is the
 * guest: it has a small memory, the registers, and a queue of four descriptors.
 * Sanitizers watch that nothing outside is touched.
 */
#include "../../userspace/blk.c"

#include <stdarg.h>
#include <stdio.h>

#include "tap.h"

#define MEMORY 0x10000
#define DESC 0x1000
#define AVAIL 0x2000
#define USED 0x3000
#define HEADER 0x5000
#define DATA 0x6000
#define STATUS 0x7000
#define SECTORS 128
#define UNTOUCHED 0xee

static uint8_t *memory;
static unsigned int interrupts;
static struct vm vm = { .io_lock = PTHREAD_MUTEX_INITIALIZER };

void die(int status, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	exit(status);
}

void *vm_memory(const struct vm *machine, uint64_t gpa, uint64_t len)
{
	return gpa < MEMORY && len <= MEMORY - gpa ? memory + gpa : NULL;
}

void pci_add_capability(struct pci_device *dev, unsigned int at, const void *body, size_t len)
{
	memcpy(dev->config + at, body, len);
}

void pci_add(struct vm *machine, struct pci_device *dev, unsigned int msix)
{
}

void pci_interrupt(struct pci_device *dev, unsigned int vector)
{
	interrupts += vector < MSI_VECTORS;
}

static void set(uint32_t offset, uint32_t value, unsigned int len)
{
	access_bar(&vm, offset, &value, len, true);
}

static uint32_t get(uint32_t offset, unsigned int len)
{
	uint32_t value = 0;

	access_bar(&vm, offset, &value, len, false);
	return value;
}

static void set_avail(uint16_t idx, uint16_t head)
{
	struct vring_avail *avail = (void *)(memory + AVAIL);

	avail->flags = 0;
	avail->idx = idx;
	avail->ring[0] = head;
}

/* Return: whether the device came out of the reset. */
static bool set_up(unsigned int size)
{
	set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	blk_work(&vm);
	if (get(VIRTIO_PCI_COMMON_STATUS, 1))
		return false;
	set(VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	set(VIRTIO_PCI_COMMON_GF, 1, 4);
	set(VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
	    VIRTIO_CONFIG_S_FEATURES_OK, 1);
	set(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
	set(VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
	set(VIRTIO_PCI_COMMON_Q_DESCLO, DESC, 4);
	set(VIRTIO_PCI_COMMON_Q_AVAILLO, AVAIL, 4);
	set(VIRTIO_PCI_COMMON_Q_USEDLO, USED, 4);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	set(VIRTIO_PCI_COMMON_STATUS, get(VIRTIO_PCI_COMMON_STATUS, 1) |
	    VIRTIO_CONFIG_S_DRIVER_OK, 1);
	return true;
}

static void ring(void)
{
	set(BAR_NOTIFY, 0, 2);
	blk_work(&vm);
}

/* A well-formed request in descriptors 0 to 2; not yet available. */
static struct vring_desc *prepare(uint32_t type, uint64_t sector, uint32_t len)
{
	struct vring_desc *d = (void *)(memory + DESC);
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint16_t way = type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE;

	memcpy(memory + HEADER, &header, sizeof(header));
	memory[STATUS] = UNTOUCHED;
	d[0] = (struct vring_desc){ HEADER, sizeof(header), VRING_DESC_F_NEXT, 1 };
	d[1] = (struct vring_desc){ DATA, len, VRING_DESC_F_NEXT | way, 2 };
	d[2] = (struct vring_desc){ STATUS, 1, VRING_DESC_F_WRITE, 0 };
	set_avail(1, 0);
	return d;
}

static int request(uint32_t type, uint64_t sector, uint32_t len)
{
	set_up(4);
	prepare(type, sector, len);
	ring();
	return memory[STATUS];
}

static bool stopped(void)
{
	bool stops = get(VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET;

	return stops && memory[STATUS] == UNTOUCHED && set_up(4) &&
	       request(VIRTIO_BLK_T_IN, 0, 512) == VIRTIO_BLK_S_OK;
}

static void requests(void)
{
	const struct vring_used *used = (void *)(memory + USED);

	memset(memory + DATA, 0x5a, 1024);
	ok(request(VIRTIO_BLK_T_OUT, 3, 1024) == VIRTIO_BLK_S_OK, "disk: write");
	memset(memory + DATA, 0, 1024);
	interrupts = 0;
	ok(request(VIRTIO_BLK_T_IN, 4, 512) == VIRTIO_BLK_S_OK && memory[DATA] == 0x5a &&
	   memory[DATA + 511] == 0x5a && !memory[DATA + 512], "disk: read what was written");
	ok(used->idx == 1 && used->ring[0].id == 0 && used->ring[0].len == 513 && interrupts == 1,
	   "disk: a request is reported with its length and one interrupt");
	ok(request(VIRTIO_BLK_T_FLUSH, 0, 0) == VIRTIO_BLK_S_OK, "disk: flush");
	ok(request(VIRTIO_BLK_T_GET_ID, 0, 20) == VIRTIO_BLK_S_OK &&
	   !strcmp((char *)memory + DATA, "minikvm-disk"), "disk: identity");
	ok(request(99, 0, 512) == VIRTIO_BLK_S_UNSUPP, "disk: unknown request");
	ok(request(VIRTIO_BLK_T_IN, SECTORS, 512) == VIRTIO_BLK_S_IOERR, "disk: read at the end");
	ok(request(VIRTIO_BLK_T_IN, SECTORS - 1, 1024) == VIRTIO_BLK_S_IOERR, "disk: read over the end");
	ok(request(VIRTIO_BLK_T_OUT, -1ULL, 512) == VIRTIO_BLK_S_IOERR, "disk: write to sector -1");
	ok(request(VIRTIO_BLK_T_IN, 0, 511) == VIRTIO_BLK_S_IOERR, "disk: read of 511 bytes");
	blk.read_only = true;
	ok(request(VIRTIO_BLK_T_OUT, 0, 512) == VIRTIO_BLK_S_IOERR, "disk: write to a read-only disk");
	blk.read_only = false;
	set_up(4);
	prepare(VIRTIO_BLK_T_IN, 0, 512);
	((struct vring_avail *)(memory + AVAIL))->flags = VRING_AVAIL_F_NO_INTERRUPT;
	interrupts = 0;
	ring();
	ok(memory[STATUS] == VIRTIO_BLK_S_OK && !interrupts, "disk: no interrupt where none is wanted");
}

/* Each breaks one rule, and stops the device until it is reset. */
static void lies(void)
{
	static const char *const names[] = {
		"a loop", "an index behind the table", "a next one behind the table",
		"an address outside memory", "a length that leaves memory", "an indirect table",
		"input before output", "no status", "a short header", "an available index that jumps",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		struct vring_desc *d;

		set_up(4);
		d = prepare(VIRTIO_BLK_T_IN, 0, 512);
		switch (i) {
		case 0: d[1].next = 1; break;
		case 1: set_avail(1, 4); break;
		case 2: d[1].next = 4; break;
		case 3: d[1].addr = -512ULL; break;
		case 4: d[1].len = UINT32_MAX; break;
		case 5: d[1].flags |= VRING_DESC_F_INDIRECT; break;
		case 6: d[0].flags |= VRING_DESC_F_WRITE; d[1].flags = VRING_DESC_F_NEXT; break;
		case 7: d[0].flags = 0; break;
		case 8: d[0].len = 15; break;
		case 9: set_avail(5, 0); break;
		}
		ring();
		ok(stopped(), "disk: %s stops the device until a reset", names[i]);
	}
	set_up(4);
	set(VIRTIO_PCI_COMMON_Q_USEDLO, 0, 4);
	ok(get(VIRTIO_PCI_COMMON_Q_USEDLO, 4) == USED, "disk: a live queue does not move");
	set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	blk_work(&vm);
	set(VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_FEATURES_OK, 1);
	ok(!(get(VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_FEATURES_OK),
	   "disk: a driver from before version 1 is refused");
}

static bool random_round(void)
{
	struct vring_avail *avail = (void *)(memory + AVAIL);
	unsigned int size = 1 << random() % 8;
	struct vring_desc *d;

	if (!set_up(size))
		return false;
	d = prepare(random() % 9, random() % (SECTORS + 9), random() % 5 * 512);
	for (unsigned int i = 0; i < 3 + size; i++) {
		struct vring_desc *any = &d[i % size];

		if (i < 3 && random() % 2)
			continue;
		any->addr = random() % 64 ? random() % (MEMORY - 0x4000) + 0x4000 : -random();
		any->len = random() % 64 ? random() % 2048 : -random();
		any->flags = random() % 4;
		any->next = random() % 64 ? random() % size : random();
	}
	for (unsigned int i = 1; i < size; i++)
		avail->ring[i] = random() % 8 ? random() % size : random();
	avail->idx = random() % 8 ? random() % (size + 1) : random();
	ring();
	set(random() % 0x40, random(), 1 << random() % 3);
	ring();
	return true;
}

void disk_tests(void)
{
	char path[] = "/tmp/minikvm-disk.XXXXXX";
	int fd = mkstemp(path), rounds = 0;

	memory = calloc(1, MEMORY);
	if (!memory || fd < 0 || ftruncate(fd, SECTORS * SECTOR))
		die(1, "no disk to test with\n");
	blk_create(&vm, path, false);
	unlink(path);
	requests();
	lies();
	srandom(1);
	while (rounds < 20000 && random_round())
		rounds++;
	ok(rounds == 20000, "disk: survives 20000 queues of nonsense");
	close(fd);
	free(memory);
}
