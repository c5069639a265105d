// SPDX-License-Identifier: GPL-2.0
/*
 * The disk: virtio-blk behind modern virtio-pci (pci.c), with one queue.
 *
 * vCPU threads set registers only. The doorbell is an ioeventfd, and the main
 * thread, when it hears it, takes requests from the queue and does them one after
 * the other; a reset waits for it the same way, and the driver sees in the status
 * when it is done. So the queue's addresses are still while requests are read.
 *
 * The guest is hostile: every index, length and address in the queue is read once
 * and checked. A queue that makes no sense stops the device until it is reset
 * (DEVICE_NEEDS_RESET); a request that cannot be done gets a status that says so.
 *
 * Source: OASIS, "Virtual I/O Device (VIRTIO) Version 1.1": "Split Virtqueues",
 * "Virtio Over PCI Bus", "Block Device".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "launcher.h"

#define SECTOR 512
#define QUEUE_SIZE 128
#define BATCH 64	/* requests before the main thread looks at anything else */
#define NO_VECTOR 0xffff

/* The BAR's parts, and where configuration space describes them. */
enum {
	BAR_COMMON = 0x0000,
	BAR_ISR = 0x1000,
	BAR_DEVICE = 0x2000,
	BAR_NOTIFY = 0x3000,
	CAP_COMMON = 0x40,
	CAP_ISR = 0x50,
	CAP_DEVICE = 0x60,
	CAP_NOTIFY = 0x70,
	CAP_MSIX = 0x84,
};

struct queue {
	uint16_t size, vector;
	bool enabled;
	uint64_t desc, avail, used;	/* guest-physical */
};

static struct {
	struct pci_device pci;
	int file, doorbell;
	bool read_only;
	bool by_eventfd;	/* the kernel rings the doorbell, not pci_mmio() */
	struct virtio_blk_config config;
	uint64_t features, accepted;
	uint32_t feature_select, accept_select;
	uint16_t config_vector, queue_select;
	uint8_t status;
	bool reset_wanted;
	struct queue queue;
	uint16_t avail_idx, used_idx;	/* the main thread's */
} blk;

/* A request's buffers: first what the device reads, then what it writes. */
struct chain {
	uint16_t head;
	unsigned int nr_out, nr_in;
	struct iovec iov[QUEUE_SIZE];
};

static void ring_doorbell(void)
{
	uint64_t one = 1;

	/* It fails only when the counter is full: then it has rung. */
	if (write(blk.doorbell, &one, sizeof(one)) < 0)
		return;
}

static void do_reset(void)
{
	blk.status = 0;
	blk.reset_wanted = false;
	blk.accepted = 0;
	blk.feature_select = blk.accept_select = 0;
	blk.config_vector = NO_VECTOR;
	blk.queue = (struct queue) { .size = QUEUE_SIZE, .vector = NO_VECTOR };
	blk.avail_idx = blk.used_idx = 0;
	blk.queue_select = 0;
	blk.pci.msix_pending = 0;
}

static void write_status(uint8_t value)
{
	uint64_t must = 1ULL << VIRTIO_F_VERSION_1;

	if (!value) {
		blk.reset_wanted = true;
		ring_doorbell();
		return;
	}
	if ((blk.accepted & ~blk.features) || (blk.accepted & must) != must)
		value &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	blk.status = value | (blk.status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* Half of a 64-bit word: number 0 or 1 of 32 bits; others do not exist. */
static uint32_t half(uint64_t word, uint32_t select)
{
	return select > 1 ? 0 : word >> select * 32;
}

static void set_half(uint64_t *word, uint32_t select, uint32_t value)
{
	if (select > 1)
		return;
	*word &= ~(0xffffffffULL << select * 32);
	*word |= (uint64_t)value << select * 32;
}

static uint16_t vector_or_none(uint16_t vector)
{
	return vector < MSI_VECTORS ? vector : NO_VECTOR;
}

static uint32_t queue_read(uint32_t offset)
{
	const struct queue *q = &blk.queue;

	if (blk.queue_select)
		return offset == VIRTIO_PCI_COMMON_Q_MSIX ? NO_VECTOR : 0;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return q->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return q->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return q->enabled;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return half(q->desc, (offset - VIRTIO_PCI_COMMON_Q_DESCLO) / 4);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return half(q->avail, (offset - VIRTIO_PCI_COMMON_Q_AVAILLO) / 4);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return half(q->used, (offset - VIRTIO_PCI_COMMON_Q_USEDLO) / 4);
	default:
		return 0;
	}
}

static uint32_t common_read(uint32_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return blk.feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return half(blk.features, blk.feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return blk.accept_select;
	case VIRTIO_PCI_COMMON_GF:
		return half(blk.accepted, blk.accept_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return blk.config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return 1;
	case VIRTIO_PCI_COMMON_STATUS:
		return blk.status;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return blk.queue_select;
	default:
		return queue_read(offset);
	}
}

static void queue_write(uint32_t offset, uint32_t value)
{
	struct queue *q = &blk.queue;

	if (blk.queue_select)
		return;
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX)
		q->vector = vector_or_none(value);
	if (q->enabled)
		return;		/* all else stays until a reset */
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (value && value <= QUEUE_SIZE && !(value & (value - 1)))
			q->size = value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		q->enabled = value == 1;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&q->desc, (offset - VIRTIO_PCI_COMMON_Q_DESCLO) / 4, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&q->avail, (offset - VIRTIO_PCI_COMMON_Q_AVAILLO) / 4, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&q->used, (offset - VIRTIO_PCI_COMMON_Q_USEDLO) / 4, value);
		break;
	}
}

static void common_write(uint32_t offset, uint32_t value)
{
	if (blk.reset_wanted)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		blk.feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		blk.accept_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (!(blk.status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&blk.accepted, blk.accept_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		blk.config_vector = vector_or_none(value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		write_status(value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		blk.queue_select = value;
		break;
	default:
		queue_write(offset, value);
	}
}

static void access_bar(struct vm *vm, uint32_t offset, void *data, unsigned int len, bool write)
{
	uint32_t value = 0;

	(void)vm;
	if (offset >= BAR_NOTIFY) {
		if (write && offset == BAR_NOTIFY)
			ring_doorbell();
	} else if (offset >= BAR_DEVICE) {
		offset -= BAR_DEVICE;
		if (!write && offset + len <= sizeof(blk.config))
			memcpy(data, (uint8_t *)&blk.config + offset, len);
	} else if (offset < BAR_ISR && len <= 4 && write) {
		memcpy(&value, data, len);
		common_write(offset, value);
	} else if (offset < BAR_ISR && len <= 4) {
		value = common_read(offset);
		memcpy(data, &value, len);
	}
	/* The interrupt status is for pins, and there is none: it reads 0. */
}

static bool set_ioeventfd(struct vm *vm, uint64_t base, uint32_t flags)
{
	struct kvm_ioeventfd doorbell = {
		.addr = base + BAR_NOTIFY, .len = 2, .fd = blk.doorbell, .flags = flags,
	};

	return !ioctl(vm->fd, KVM_IOEVENTFD, &doorbell);
}

/* The doorbell moves with the BAR. Without an ioeventfd, access_bar() hears it. */
static void bar_moved(struct vm *vm, uint64_t from, uint64_t to)
{
	if (from && blk.by_eventfd)
		set_ioeventfd(vm, from, KVM_IOEVENTFD_FLAG_DEASSIGN);
	blk.by_eventfd = to && set_ioeventfd(vm, to, 0);
}

static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* Return: false if the chain breaks a rule of the queue. */
static bool read_chain(const struct vm *vm, const struct queue *q, uint16_t head,
		       struct chain *chain)
{
	const struct vring_desc *table = vm_memory(vm, q->desc, q->size * sizeof(*table));
	struct vring_desc d = { .next = head, .flags = VRING_DESC_F_NEXT };
	unsigned int nr = 0;

	chain->head = head;
	chain->nr_out = chain->nr_in = 0;
	while (d.flags & VRING_DESC_F_NEXT) {
		if (!table || d.next >= q->size || nr == q->size)
			return false;	/* a chain longer than the table has a loop */
		memcpy(&d, &table[d.next], sizeof(d));
		chain->iov[nr].iov_base = vm_memory(vm, d.addr, d.len);
		chain->iov[nr].iov_len = d.len;
		if (!chain->iov[nr++].iov_base || (d.flags & VRING_DESC_F_INDIRECT))
			return false;
		if (d.flags & VRING_DESC_F_WRITE)
			chain->nr_in++;
		else if (chain->nr_in)
			return false;
		else
			chain->nr_out++;
	}
	return true;
}

/* Takes the first bytes of some buffers away. Return: false if there are fewer. */
static bool take_head(struct iovec *iov, unsigned int nr, void *to, size_t len)
{
	for (; nr && len; nr--, iov++) {
		size_t part = iov->iov_len < len ? iov->iov_len : len;

		memcpy(to, iov->iov_base, part);
		to = (uint8_t *)to + part;
		iov->iov_base = (uint8_t *)iov->iov_base + part;
		iov->iov_len -= part;
		len -= part;
	}
	return !len;
}

/* Takes the last byte of some buffers away: where the status goes. */
static uint8_t *take_last(struct iovec *iov, unsigned int nr)
{
	while (nr && !iov[nr - 1].iov_len)
		nr--;
	if (!nr)
		return NULL;
	return (uint8_t *)iov[nr - 1].iov_base + --iov[nr - 1].iov_len;
}

/*
 * Reads or writes all of the buffers, one after the other.
 * Return: bytes done, or -1 if the file failed or ended.
 */
static int64_t transfer(struct iovec *iov, unsigned int nr, uint64_t offset, bool write)
{
	uint64_t start = offset;

	for (unsigned int i = 0; i < nr; i++) {
		uint8_t *p = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left) {
			ssize_t n = write ? pwrite(blk.file, p, left, offset)
				: pread(blk.file, p, left, offset);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return -1;
			p += n;
			left -= n;
			offset += n;
		}
	}
	return offset - start;
}

static uint8_t read_or_write(struct iovec *iov, unsigned int nr, uint64_t sector, bool write,
			     uint32_t *written)
{
	uint64_t len = 0;

	for (unsigned int i = 0; i < nr; i++)
		len += iov[i].iov_len;
	if (len % SECTOR || sector > blk.config.capacity ||
	    len / SECTOR > blk.config.capacity - sector || (write && blk.read_only) ||
	    transfer(iov, nr, sector * SECTOR, write) < 0)
		return VIRTIO_BLK_S_IOERR;
	if (!write)
		*written = len;
	return VIRTIO_BLK_S_OK;
}

static uint8_t get_id(struct iovec *iov, unsigned int nr, uint32_t *written)
{
	char id[VIRTIO_BLK_ID_BYTES] = "minikvm-disk";

	for (unsigned int i = 0; i < nr && *written < sizeof(id); i++) {
		size_t left = sizeof(id) - *written;
		size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

		memcpy(iov[i].iov_base, id + *written, part);
		*written += part;
	}
	return *written == sizeof(id) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

/*
 * Does one request. Return: false if it has no header, or no place for a status.
 * *written is how much of the buffers from the first on is filled.
 */
static bool serve(struct chain *chain, uint32_t *written)
{
	struct iovec *in = chain->iov + chain->nr_out;
	struct virtio_blk_outhdr header;
	uint8_t *status = take_last(in, chain->nr_in);

	*written = 0;
	if (!status || !take_head(chain->iov, chain->nr_out, &header, sizeof(header)))
		return false;
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		*status = read_or_write(in, chain->nr_in, header.sector, false, written);
		break;
	case VIRTIO_BLK_T_OUT:
		*status = read_or_write(chain->iov, chain->nr_out, header.sector, true, written);
		break;
	case VIRTIO_BLK_T_FLUSH:
		*status = fdatasync(blk.file) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
		break;
	case VIRTIO_BLK_T_GET_ID:
		*status = get_id(in, chain->nr_in, written);
		break;
	default:
		*status = VIRTIO_BLK_S_UNSUPP;
	}
	/* The length covers all from the first buffer on, or promises nothing. */
	*written = *status == VIRTIO_BLK_S_OK ? *written + 1 : 0;
	return true;
}

struct rings {
	struct vring_avail *avail;
	struct vring_used *used;
};

static bool find_rings(const struct vm *vm, const struct queue *q, struct rings *rings)
{
	rings->avail = vm_memory(vm, q->avail, sizeof(*rings->avail) + 2 * q->size);
	rings->used = vm_memory(vm, q->used, sizeof(*rings->used) +
				q->size * sizeof(struct vring_used_elem));
	return rings->avail && rings->used && !(q->avail & 1) && !(q->used & 3) && !(q->desc & 15);
}

static void publish(struct rings *rings, const struct queue *q, uint16_t head, uint32_t written)
{
	struct vring_used_elem *elem = &rings->used->ring[blk.used_idx % q->size];

	elem->id = head;
	elem->len = written;
	__atomic_store_n(&rings->used->idx, ++blk.used_idx, __ATOMIC_RELEASE);
}

/*
 * Serves up to BATCH requests; rings the doorbell itself where there are more.
 * Return: false if the queue breaks a rule. *served counts.
 */
static bool serve_queue(const struct vm *vm, const struct queue *q, struct rings *rings,
			unsigned int *served)
{
	static struct chain chain;

	while (*served < BATCH) {
		uint16_t idx = load16(&rings->avail->idx);
		uint32_t written;

		if (idx == blk.avail_idx)
			return true;
		if ((uint16_t)(idx - blk.avail_idx) > q->size)
			return false;
		idx = load16(&rings->avail->ring[blk.avail_idx++ % q->size]);
		if (!read_chain(vm, q, idx, &chain) || !serve(&chain, &written))
			return false;
		publish(rings, q, chain.head, written);
		++*served;
	}
	ring_doorbell();
	return true;
}

/**
 * blk_fd() - becomes readable when blk_work() has something to do; -1: no disk
 */
int blk_fd(void)
{
	return blk.doorbell > 0 ? blk.doorbell : -1;
}

/**
 * blk_work() - serve the queue or do a reset. Main thread.
 *
 * It takes vm->io_lock for the registers only, so that no vCPU waits for the file.
 */
void blk_work(struct vm *vm)
{
	unsigned int served = 0;
	struct rings rings;
	struct queue q;
	uint64_t count;
	bool run, sane;

	if (read(blk.doorbell, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&vm->io_lock);
	if (blk.reset_wanted)
		do_reset();
	q = blk.queue;
	run = (blk.status & VIRTIO_CONFIG_S_DRIVER_OK) && q.enabled &&
	      !(blk.status & VIRTIO_CONFIG_S_NEEDS_RESET);
	pthread_mutex_unlock(&vm->io_lock);
	if (!run)
		return;

	sane = find_rings(vm, &q, &rings) && serve_queue(vm, &q, &rings, &served);

	/* The driver may look at the used index before it wants no interrupt. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	pthread_mutex_lock(&vm->io_lock);
	if (served && !(load16(&rings.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT))
		pci_interrupt(&blk.pci, blk.queue.vector);
	if (!sane) {
		blk.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
		pci_interrupt(&blk.pci, blk.config_vector);
	}
	pthread_mutex_unlock(&vm->io_lock);
}

static int disk_open(const char *path, bool read_only, uint64_t *sectors)
{
	int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	off_t size;

	if (fd < 0)
		die(STATUS_INPUT, "cannot open the disk %s: %s", path, strerror(errno));
	if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		die(STATUS_INPUT, "the disk %s is neither a regular file nor a block device", path);
	size = lseek(fd, 0, SEEK_END);
	if (size <= 0)
		die(STATUS_INPUT, "the disk %s is empty", path);
	if (size % SECTOR)
		die(STATUS_INPUT, "the disk %s has %lld bytes, which is no multiple of %d", path,
		    (long long)size, SECTOR);
	*sectors = size / SECTOR;
	return fd;
}

static void describe(unsigned int at, uint8_t type, uint32_t offset, uint32_t length)
{
	struct virtio_pci_notify_cap cap = {
		.cap = {
			.cap_vndr = PCI_CAP_ID_VNDR,
			.cap_len = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? sizeof(cap) : sizeof(cap.cap),
			.cfg_type = type,
			.offset = offset,
			.length = length,
		},
		/* All queues, that is one, have the same doorbell. */
		.notify_off_multiplier = 0,
	};

	pci_add_capability(&blk.pci, at, &cap, cap.cap.cap_len);
}

/**
 * blk_create() - give the machine a disk, or die saying why not
 * @vm: a machine with interrupt controllers
 * @path: regular file or block device
 * @read_only: the guest may not write
 */
void blk_create(struct vm *vm, const char *path, bool read_only)
{
	static const uint8_t ids[] = {
		0xf4, 0x1a, 0x42, 0x10,		/* vendor: virtio; device: block, modern */
	};
	uint64_t sectors;

	blk.file = disk_open(path, read_only, &sectors);
	blk.read_only = read_only;
	blk.config.capacity = sectors;
	blk.config.seg_max = QUEUE_SIZE - 2;
	blk.features = 1ULL << VIRTIO_F_VERSION_1 | 1 << VIRTIO_BLK_F_SEG_MAX |
		       1 << VIRTIO_BLK_F_FLUSH | (uint64_t)read_only << VIRTIO_BLK_F_RO;
	blk.doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (blk.doorbell < 0)
		die(STATUS_HOST, "cannot create an eventfd: %s", strerror(errno));
	do_reset();

	memcpy(blk.pci.config + PCI_VENDOR_ID, ids, sizeof(ids));
	memcpy(blk.pci.config + PCI_SUBSYSTEM_VENDOR_ID, ids, sizeof(ids));
	blk.pci.config[PCI_REVISION_ID] = 1;
	blk.pci.config[PCI_CLASS_DEVICE + 1] = 0x01;	/* mass storage */
	blk.pci.access = access_bar;
	blk.pci.moved = bar_moved;
	describe(CAP_COMMON, VIRTIO_PCI_CAP_COMMON_CFG, BAR_COMMON,
		 sizeof(struct virtio_pci_common_cfg));
	describe(CAP_ISR, VIRTIO_PCI_CAP_ISR_CFG, BAR_ISR, 1);
	describe(CAP_DEVICE, VIRTIO_PCI_CAP_DEVICE_CFG, BAR_DEVICE, sizeof(blk.config));
	describe(CAP_NOTIFY, VIRTIO_PCI_CAP_NOTIFY_CFG, BAR_NOTIFY, 4);
	pci_add(vm, &blk.pci, CAP_MSIX);
}
