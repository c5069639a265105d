// SPDX-License-Identifier: GPL-2.0
/*
 * What keeps the module loaded: each descriptor, each mapping, in whatever
 * process it is by now.  A module that counted wrongly would go with its code
 * still in use.
 */
#include <kselftest_harness.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "guest.h"

static const char *const modules[] = { "minikvm", "kvm_amd", "kvm_intel" };
static const char *module;

static int references(const char *name)
{
	char path[64];
	int count = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", name);
	file = fopen(path, "r");
	if (file) {
		if (fscanf(file, "%d", &count) != 1)
			die("%s is empty", path);
		fclose(file);
	}
	return count;
}

/* The module behind the device is the one that notices when that is opened. */
static void find_module(void)
{
	int before[ARRAY_SIZE(modules)], fd;

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++)
		before[i] = references(modules[i]);
	fd = device_open();
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++)
		if (references(modules[i]) > before[i])
			module = modules[i];
	close(fd);
}

FIXTURE(held) {
	struct guest g;
	int before;
};

FIXTURE_SETUP(held)
{
	find_module();
	if (!module)
		SKIP(return, "the device belongs to no module");
	self->before = references(module);
	guest_create(&self->g, WITH_IRQCHIP);
}

FIXTURE_TEARDOWN(held)
{
	if (module)
		EXPECT_EQ(references(module), self->before);
}

/* Never more than a question: the module is in use when it is asked. */
static int unload(void)
{
	return outcome(syscall(SYS_delete_module, module, O_NONBLOCK));
}

static bool is_held(void)
{
	int err = unload();

	return err == -EWOULDBLOCK || err == -EPERM;
}

enum { DEVICE, VM, VCPU, MAPPING, THINGS };

static void drop(struct guest *g, int thing)
{
	switch (thing) {
	case DEVICE:
		close(g->kvm);
		break;
	case VM:
		close(g->vm);
		break;
	case VCPU:
		close(g->vcpu);
		break;
	case MAPPING:
		munmap(g->run, g->run_size);
		break;
	}
}

static void only(struct __test_metadata *_metadata, struct guest *g, int kept)
{
	for (int thing = 0; thing < THINGS; thing++)
		if (thing != kept)
			drop(g, thing);
	EXPECT_TRUE(is_held());
	drop(g, kept);
}

TEST_F(held, by_the_device) { only(_metadata, &self->g, DEVICE); }
TEST_F(held, by_a_vm) { only(_metadata, &self->g, VM); }
TEST_F(held, by_a_vcpu) { only(_metadata, &self->g, VCPU); }
TEST_F(held, by_the_mapping_of_kvm_run) { only(_metadata, &self->g, MAPPING); }

/* The process that made the VM is gone, with the memory; another has the vCPU. */
TEST_F(held, by_another_process)
{
	int ready[2], status;
	pid_t heir;

	ASSERT_EQ(pipe(ready), 0);
	heir = fork();
	ASSERT_GE(heir, 0);
	if (!heir) {
		char byte;

		/* Ends when the parent has closed its side. */
		close(ready[1]);
		(void)!read(ready[0], &byte, 1);
		drop(&self->g, DEVICE);
		drop(&self->g, VM);
		_exit(!is_held() || ioctl(self->g.vcpu, KVM_RUN, 0) != -1 || errno != EIO);
	}
	for (int thing = 0; thing < THINGS; thing++)
		drop(&self->g, thing);
	munmap(self->g.mem, self->g.mem_size);
	EXPECT_TRUE(is_held());
	close(ready[0]);
	close(ready[1]);
	ASSERT_EQ(waitpid(heir, &status, 0), heir);
	EXPECT_EQ(status, 0);
}

SELFTEST_MAIN
