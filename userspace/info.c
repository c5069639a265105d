// SPDX-License-Identifier: GPL-2.0
/*
 * `minikvm info`: what this host can do for guests, in words. The CPU says it
 * by CPUID, the kernel in /proc/cpuinfo and sysfs, the device by its
 * capabilities and by whether it creates a VM.
 *
 * Sources: SDM vol. 3C, "Introduction to Virtual Machine Extensions"; APM
 * vol. 3, "CPUID Fn8000_000A"; Linux, "Hardware vulnerabilities".
 */
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "launcher.h"
#include "minikvm.h"

#define CPUID_1_ECX_VMX (1U << 5)
#define CPUID_1_ECX_HYPERVISOR (1U << 31)
#define CPUID_80000001_ECX_SVM (1U << 2)
#define CPUID_SVM 0x8000000a
#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

/* Reads the first line of a small file. Return: false if it cannot be read. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	bool read;

	if (!file)
		return false;
	read = fgets(line, size, file);
	fclose(file);
	if (read)
		line[strcspn(line, "\n")] = '\0';
	return read;
}

/*
 * Finds a line of /proc/cpuinfo by its label, and gives its words framed by
 * blanks, so that " word " can be searched. Return: false if there is none.
 */
static bool cpuinfo_words(const char *label, char *words, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[8192];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');
		size_t len = strlen(label);

		if (!colon || strncmp(line, label, len) || !strchr(" \t:", line[len]))
			continue;
		colon[strcspn(colon, "\n")] = '\0';
		snprintf(words, size, "%s ", colon + 1);
		found = true;
	}
	if (file)
		fclose(file);
	return found;
}

static bool has_word(const char *words, const char *word)
{
	char framed[64];

	snprintf(framed, sizeof(framed), " %s ", word);
	return strstr(words, framed);
}

static void print_feature(bool present, const char *name, const char *meaning)
{
	printf("  %-3s  %-26s %s\n", present ? "yes" : "no", name, meaning);
}

static void describe_vmx(void)
{
	static const struct {
		const char *word, *name, *meaning;
	} features[] = {
		{ "ept", "nested paging (EPT)", "guests change their page tables without exits" },
		{ "unrestricted_guest", "unrestricted guest", "real mode runs on the CPU itself" },
		{ "vpid", "tagged TLB (VPID)", "entries and exits need not flush the TLB" },
		{ "ept_ad", "EPT accessed and dirty", "the CPU notes which pages a guest uses" },
		{ "ept_1gb", "1 GiB EPT pages", "large memory costs few TLB entries" },
		{ "pml", "page-modification log", "the CPU lists the pages a guest wrote" },
		{ "flexpriority", "TPR shadow", "interrupt priority changes without exits" },
		{ "apicv", "virtual APIC", "most local APIC accesses without exits" },
		{ "vnmi", "virtual NMIs", "the CPU tracks when a guest can take an NMI" },
		{ "preemption_timer", "preemption timer", "guest timers without a host timer" },
		{ "ple", "pause-loop exiting", "a vCPU that spins gives way to others" },
		{ "tsc_scaling", "TSC scaling", "a guest's TSC may run at its own rate" },
		{ "shadow_vmcs", "shadow VMCS", "hypervisors in guests with fewer exits" },
	};
	char words[4096];

	if (cpuinfo_words("flags", words, sizeof(words)) && !has_word(words, "vmx")) {
		printf("VT-x: the CPU has it, but firmware locked it off: enable it in the firmware's setup\n");
		return;
	}
	printf("VT-x: yes\n");
	if (!cpuinfo_words("vmx flags", words, sizeof(words))) {
		printf("  (this kernel does not list its features in /proc/cpuinfo)\n");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		print_feature(has_word(words, features[i].word), features[i].name,
			      features[i].meaning);
}

static void describe_svm(void)
{
	static const struct {
		unsigned int bit;
		const char *name, *meaning;
	} features[] = {
		{ 0, "nested paging (NPT)", "guests change their page tables without exits" },
		{ 3, "next RIP on exit", "no need to decode an instruction for its length" },
		{ 7, "decode assists", "the CPU says what a faulting instruction was" },
		{ 6, "flush by ASID", "one guest's TLB entries can be flushed alone" },
		{ 5, "VMCB clean bits", "the CPU need not reload what did not change" },
		{ 16, "virtual GIF", "STGI and CLGI in guests without exits" },
		{ 25, "virtual NMI", "the CPU tracks when a guest can take an NMI" },
		{ 13, "AVIC", "most local APIC accesses without exits" },
		{ 10, "pause filter", "a vCPU that spins gives way to others" },
		{ 4, "TSC scaling", "a guest's TSC may run at its own rate" },
		{ 1, "LBR virtualization", "last-branch records of the guest's own" },
		{ 15, "virtual VMLOAD and VMSAVE", "hypervisors in guests with fewer exits" },
	};
	unsigned int eax = 0, ebx = 0, ecx, edx = 0;
	char words[4096];

	if (cpuinfo_words("flags", words, sizeof(words)) && !has_word(words, "svm")) {
		printf("SVM: the CPU has it, but firmware disabled it: enable it in the firmware's setup\n");
		return;
	}
	__get_cpuid(CPUID_SVM, &eax, &ebx, &ecx, &edx);
	printf("SVM: yes, revision %u, %u address space identifiers\n", eax & 0xff, ebx);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		print_feature(edx >> features[i].bit & 1, features[i].name, features[i].meaning);
}

static void describe_cpu(void)
{
	unsigned int eax, ebx, ecx = 0, edx;
	bool vmx, svm;
	char words[256];

	if (cpuinfo_words("model name", words, sizeof(words)))
		printf("CPU:%s\n", words);
	__get_cpuid(1, &eax, &ebx, &ecx, &edx);
	vmx = ecx & CPUID_1_ECX_VMX;
	if (ecx & CPUID_1_ECX_HYPERVISOR)
		printf("This host is itself a guest: what follows is what its hypervisor lets through.\n");
	svm = __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & CPUID_80000001_ECX_SVM);

	if (vmx)
		describe_vmx();
	if (svm)
		describe_svm();
	if (!vmx && !svm)
		printf("Neither VT-x nor SVM: this CPU, or the hypervisor that it is in, does not offer it.\n");
}

static void describe_modules(void)
{
	static const char *const modules[] = { "minikvm", "kvm_intel", "kvm_amd" };

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		char path[64], users[32];

		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		if (read_line(path, users, sizeof(users)))
			printf("Module %s is loaded and has %s users.\n", modules[i], users);
	}
}

/* Return: whether the device creates VMs. */
static bool describe_device(const char *path)
{
	static const struct {
		int cap;
		const char *name;
		bool count;
	} caps[] = {
		{ KVM_CAP_IRQCHIP, "in-kernel interrupt controllers", false },
		{ KVM_CAP_PIT2, "in-kernel PIT", false },
		{ KVM_CAP_USER_MEMORY, "guest memory from the process", false },
		{ KVM_CAP_READONLY_MEM, "read-only memory", false },
		{ KVM_CAP_SYNC_MMU, "guest memory that may be swapped and moved", false },
		{ KVM_CAP_NR_VCPUS, "vCPUs, recommended", true },
		{ KVM_CAP_MAX_VCPUS, "vCPUs, at most", true },
		{ KVM_CAP_NR_MEMSLOTS, "memory slots", true },
		{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit", false },
		{ KVM_CAP_MP_STATE, "multiprocessor state", false },
		{ KVM_CAP_IRQ_ROUTING, "interrupt routing", false },
		{ KVM_CAP_SIGNAL_MSI, "message-signalled interrupts", false },
		{ KVM_CAP_IRQFD, "interrupts by eventfd", false },
		{ KVM_CAP_IOEVENTFD, "I/O by eventfd", false },
		{ KVM_CAP_TSC_DEADLINE_TIMER, "TSC deadline timer", false },
		{ KVM_CAP_SET_GUEST_DEBUG, "guest debugging", false },
		{ KVM_CAP_XSAVE, "extended FPU state", false },
		{ KVM_CAP_NESTED_STATE, "hypervisors as guests", false },
	};
	struct minikvm_host host;
	int fd, vm;

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		printf("Device %s: %s.\n", path,
		       errno == ENOENT ? "not there; load the module (insmod minikvm.ko)" :
		       errno == EACCES ? "permission denied; become root or join the device's group" :
		       strerror(errno));
		return false;
	}
	printf("Device %s: API version %d, offers\n", path, ioctl(fd, KVM_GET_API_VERSION, 0));
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		int value = ioctl(fd, KVM_CHECK_EXTENSION, caps[i].cap);

		if (caps[i].count)
			printf("  %5d  %s\n", value, caps[i].name);
		else
			printf("  %5s  %s\n", value > 0 ? "yes" : "no", caps[i].name);
	}
	if (!ioctl(fd, MINIKVM_GET_HOST, &host))
		printf("Its own account (%.*s):\n%.*s", (int)sizeof(host.backend), host.backend,
		       (int)sizeof(host.text), host.text);
	vm = ioctl(fd, KVM_CREATE_VM, 0);
	if (vm >= 0)
		printf("It creates VMs: guests can run.\n");
	else
		printf("It creates no VM: %s.\n",
		       errno == EBUSY ? "another hypervisor holds the CPU; unload it (modprobe -r kvm_intel kvm_amd)" :
		       errno == EOPNOTSUPP ? "the CPU lacks what it needs, or firmware locked it off" :
		       strerror(errno));
	if (vm >= 0)
		close(vm);
	close(fd);
	return vm >= 0;
}

/* What a bug of the CPU asks of a host that runs guests. */
static const char *vulnerability_meaning(const char *name)
{
	static const struct {
		const char *name, *meaning;
	} meanings[] = {
		{ "gather_data_sampling", "microcode closes it; nothing to do per entry" },
		{ "indirect_target_selection", "indirect branches in the host use safe thunks" },
		{ "itlb_multihit", "huge pages must not be executable in guests" },
		{ "l1tf", "the L1 data cache must be flushed before entry" },
		{ "mds", "CPU buffers must be cleared before entry" },
		{ "meltdown", "concerns host user programs; guests have their own tables" },
		{ "mmio_stale_data", "CPU buffers must be cleared before entry" },
		{ "reg_file_data_sampling", "CPU buffers must be cleared before entry" },
		{ "retbleed", "return prediction must be made harmless after exit" },
		{ "spec_rstack_overflow", "return prediction must be made harmless after exit" },
		{ "spec_store_bypass", "SPEC_CTRL must be switched with the guest" },
		{ "spectre_v1", "the host's code guards its array accesses" },
		{ "spectre_v2", "branch prediction must be parted between guests, and from the host" },
		{ "srbds", "microcode closes it; nothing to do per entry" },
		{ "tsa", "CPU buffers must be cleared before entry" },
		{ "tsx_async_abort", "CPU buffers must be cleared before entry" },
		{ "vmscape", "branch prediction must be flushed before the launcher runs again" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (!strcmp(name, meanings[i].name))
			return meanings[i].meaning;
	return "the kernel knows more about it than this program";
}

static void describe_vulnerabilities(void)
{
	struct dirent **entries;
	int nr = scandir(VULNERABILITIES, &entries, NULL, alphasort);
	unsigned int harmless = 0;

	if (nr < 0) {
		printf("Speculation bugs: this kernel does not list them.\n");
		return;
	}
	printf("Speculation bugs that matter to guests, and the host's mitigation:\n");
	for (int i = 0; i < nr; i++) {
		const char *name = entries[i]->d_name;
		char path[512], state[256];

		snprintf(path, sizeof(path), VULNERABILITIES "/%s", name);
		if (name[0] != '.' && read_line(path, state, sizeof(state))) {
			if (!strcmp(state, "Not affected"))
				harmless++;
			else
				printf("  %s: %s\n    (%s)\n", name,
				       vulnerability_meaning(name), state);
		}
		free(entries[i]);
	}
	free(entries);
	printf("  The CPU is not affected by %u others.\n", harmless);
}

/**
 * info() - print what this host can do
 * @device: path of the device to ask
 *
 * Return: STATUS_POWEROFF (0) if guests can run, else STATUS_HOST.
 */
int info(const char *device)
{
	bool usable;

	describe_cpu();
	describe_modules();
	usable = describe_device(device);
	describe_vulnerabilities();
	return usable ? 0 : STATUS_HOST;
}
