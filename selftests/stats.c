// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_GET_STATS_FD: the file is what its header says, and its counters count.
 *
 * Source: KVM's API document, KVM_GET_STATS_FD. Read next: caps.c.
 */
#include "kselftest_harness.h"

#include "guest.h"

GUEST_FIXTURE(stats, WITH_IRQCHIP)

static void read_at(int fd, void *to, size_t size, off_t at)
{
	if (pread(fd, to, size, at) != (ssize_t)size)
		die("%zu bytes of statistics at %ld: %s", size, (long)at, strerror(errno));
}

/* The value of counter @name, or -1. */
static u64 counter(int fd, const char *name)
{
	struct kvm_stats_header header;
	union {
		struct kvm_stats_desc desc;
		char bytes[256];
	} d;
	u64 value;

	read_at(fd, &header, sizeof(header), 0);
	if (sizeof(d.desc) + header.name_size > sizeof(d))
		die("names of %u bytes", header.name_size);
	for (u32 i = 0; i < header.num_desc; i++) {
		u32 size = sizeof(d.desc) + header.name_size;

		read_at(fd, &d, size, header.desc_offset + i * size);
		if (strncmp(d.bytes + sizeof(d.desc), name, header.name_size) == 0) {
			read_at(fd, &value, sizeof(value), header.data_offset + d.desc.offset);
			return value;
		}
	}
	return -1;
}

static u32 guest_exits(u64 count)
{
	u32 regs[4];

	for (u64 i = 0; i < count; i++)
		guest_cpuid(0, 0, regs);
	inb(0x80);
	return 0;
}

TEST_F(stats, exits_are_counted)
{
	struct guest *g = &self->g;
	int fd = must(g->vcpu, KVM_GET_STATS_FD, 0);
	u64 before = counter(fd, "exits");

	guest_call(g, guest_exits, 100);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_GE(counter(fd, "exits"), before + 101);
	EXPECT_LT(counter(fd, "exits"), before + 10000);
	EXPECT_GE(counter(fd, "io_exits"), 1);
	EXPECT_GE(counter(fd, "pf_taken"), 1);
	EXPECT_EQ(counter(fd, "hypercalls"), 0);
	EXPECT_EQ(counter(fd, "no such counter"), -1);
	if (device_is_minikvm())
		EXPECT_EQ(counter(fd, "cpuid_exits"), 100);
	close(fd);
}

TEST_F(stats, pages_are_counted)
{
	struct guest *g = &self->g;
	int fd = must(g->vm, KVM_GET_STATS_FD, 0);

	EXPECT_EQ(counter(fd, "pages_4k"), 0);
	guest_call(g, guest_exits, 1);
	guest_run_to(g, KVM_EXIT_IO);
	EXPECT_GT(counter(fd, "pages_4k") + counter(fd, "pages_2m"), 0);
	EXPECT_LE(counter(fd, "pages_4k"), GUEST_MEM / PAGE);
	EXPECT_EQ(guest_slot(g, 0, 0, NULL, 0, 0), 0);
	EXPECT_EQ(counter(fd, "pages_4k"), 0);
	EXPECT_EQ(counter(fd, "pages_2m"), 0);
	close(fd);
}

TEST_F(stats, the_file)
{
	struct guest *g = &self->g;
	int fd = must(g->vcpu, KVM_GET_STATS_FD, 0), flags = fcntl(fd, F_GETFD);
	struct kvm_stats_header header;
	char id[256], byte, *volatile nowhere = NULL;

	EXPECT_EQ(flags, FD_CLOEXEC);
	EXPECT_EQ(outcome(write(fd, "", 1)), -EBADF);
	read_at(fd, &header, sizeof(header), 0);
	EXPECT_EQ(header.flags, 0);
	ASSERT_LE(header.name_size, sizeof(id));
	read_at(fd, id, header.name_size, header.id_offset);
	EXPECT_EQ(strncmp(id, "kvm-", 4), 0);
	EXPECT_NE(strstr(id, "/vcpu-0"), NULL);
	/* read() goes on where it has ended. */
	EXPECT_EQ(read(fd, &header, sizeof(header)), sizeof(header));
	EXPECT_EQ(read(fd, id, header.name_size), header.name_size);
	EXPECT_EQ(strncmp(id, "kvm-", 4), 0);
	EXPECT_EQ(outcome(pread(fd, nowhere, 8, 0)), -EFAULT);
	EXPECT_EQ(pread(fd, &byte, 1, 1 << 20), 0);
	/* It outlives what it speaks of. */
	guest_destroy(g);
	EXPECT_NE(counter(fd, "exits"), -1);
	close(fd);
	guest_create(g, 0);
}

SELFTEST_MAIN
