// SPDX-License-Identifier: GPL-2.0
/*
 * minikvm: the command line. `run` boots a guest, `info` describes the host.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher.h"

#define DEFAULT_DEVICE "/dev/minikvm"
#define DEFAULT_CMDLINE "console=ttyS0 panic=-1"
#define MIN_MEMORY MIB(2)
#define MAX_MEMORY GIB(1024)

static const char main_help[] =
"usage: minikvm COMMAND [OPTION...]\n"
"\n"
"  run     boot a guest on this terminal\n"
"  info    say what this host can do\n"
"\n"
"`minikvm COMMAND --help` describes a command.\n";

static const char run_help[] =
"usage: minikvm run --kernel FILE [--initrd FILE] [--append STRING] [OPTION...]\n"
"       minikvm run --flat FILE --mode MODE [OPTION...]\n"
"\n"
"  --kernel FILE    Linux: a bzImage, or an uncompressed ELF vmlinux\n"
"  --initrd FILE    its initial RAM disk\n"
"  --append STRING  its command line (default: " DEFAULT_CMDLINE "),\n"
"                   behind the tsc_early_khz= that the launcher puts there\n"
"  --flat FILE      a flat binary: loaded to 0x7c00 (real mode) or 1 MiB, and\n"
"                   entered at its first byte; HLT powers off\n"
"  --mode MODE      real, protected, paged32, pae or long; the last three map\n"
"                   the first 4 GiB one to one\n"
"  --cpus N         processors, 1 to 255 (default: 1). With more than one a flat\n"
"                   binary has interrupt controllers too: it starts the others by\n"
"                   INIT and SIPI, and HLT waits\n"
"  --disk FILE[,ro] a disk for Linux (virtio-blk, /dev/vda): a file or block device,\n"
"                   whole sectors of 512 bytes; with ,ro it is not written\n"
"  --mem SIZE       guest memory, with suffix M or G (default: 512M)\n"
"  --device PATH    device that serves the KVM ABI (default: " DEFAULT_DEVICE ")\n"
"  --stats          at the end, print the exits by kind\n"
"\n"
"The guest's first serial port (0x3f8, IRQ 4) is this terminal. What is typed\n"
"waits until the guest enables the receive interrupt and OUT2.\n"
"Ctrl-A x quits; Ctrl-A Ctrl-A sends one Ctrl-A.\n"
"\n"
"Exit status:\n"
"    0  the guest powered itself off\n"
"    1  the guest asked for a reset\n"
"    2  the guest crashed: triple fault, failed entry or internal error\n"
"    3  the user quit with Ctrl-A x\n"
"   64  bad arguments, or not enough guest memory\n"
"   66  a kernel, initrd, image or disk file is missing or unusable\n"
"   69  this host or device cannot run the guest\n"
"  128+N  signal N ended the launcher\n";

static const char info_help[] =
"usage: minikvm info [--device PATH]\n"
"\n"
"Says what this host's VT-x or SVM can do, what the device offers\n"
"(default: " DEFAULT_DEVICE "), and which speculation bugs the CPU has.\n"
"\n"
"Exit status:\n"
"    0  guests can run here\n"
"   64  bad arguments\n"
"   69  they cannot\n";

_Noreturn void die(int status, const char *fmt, ...)
{
	va_list args;

	term_restore();
	fputs("minikvm: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

static uint64_t parse_size(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);
	unsigned int shift = *end == 'G' ? 30 : 20;

	if (text[0] < '0' || text[0] > '9' || (strcmp(end, "M") && strcmp(end, "G")))
		die(STATUS_USAGE, "--mem %s is no size: use a number with M or G, such as 512M", text);
	if (n > MAX_MEMORY >> shift || n << shift < MIN_MEMORY)
		die(STATUS_USAGE, "--mem %s is out of range: from 2M to 1024G", text);
	return n << shift;
}

static unsigned int parse_cpus(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || !n || n > MAX_VCPUS)
		die(STATUS_USAGE, "--cpus %s is no number from 1 to %d", text, MAX_VCPUS);
	return n;
}

/* FILE[,ro]: cuts the suffix off. Return: whether it was there. */
static bool parse_disk(char *text)
{
	size_t len = strlen(text);

	if (len < 3 || strcmp(text + len - 3, ",ro"))
		return false;
	text[len - 3] = '\0';
	return true;
}

static enum cpu_mode parse_mode(const char *text)
{
	static const char *const names[] = {
		[MODE_REAL] = "real",
		[MODE_PROTECTED] = "protected",
		[MODE_PAGED32] = "paged32",
		[MODE_PAE] = "pae",
		[MODE_LONG] = "long",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i]))
			return i;
	die(STATUS_USAGE, "--mode %s is none of real, protected, paged32, pae, long", text);
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "kernel", required_argument, NULL, 'k' },
		{ "initrd", required_argument, NULL, 'i' },
		{ "append", required_argument, NULL, 'a' },
		{ "flat", required_argument, NULL, 'f' },
		{ "mode", required_argument, NULL, 'o' },
		{ "mem", required_argument, NULL, 'm' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "disk", required_argument, NULL, 'D' },
		{ "device", required_argument, NULL, 'd' },
		{ "stats", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *kernel = NULL, *initrd = NULL, *append = NULL, *flat = NULL;
	const char *mode = NULL, *device = DEFAULT_DEVICE;
	uint64_t mem_size = MIB(512);
	unsigned int nr_vcpus = 1;
	const char *disk = NULL;
	bool stats = false, read_only = false;
	static struct vm vm;
	struct start start;
	int option, status;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'k':
			kernel = optarg;
			break;
		case 'i':
			initrd = optarg;
			break;
		case 'a':
			append = optarg;
			break;
		case 'f':
			flat = optarg;
			break;
		case 'o':
			mode = optarg;
			break;
		case 'm':
			mem_size = parse_size(optarg);
			break;
		case 'c':
			nr_vcpus = parse_cpus(optarg);
			break;
		case 'D':
			if (disk)
				die(STATUS_USAGE, "--disk can be given once");
			read_only = parse_disk(optarg);
			disk = optarg;
			break;
		case 'd':
			device = optarg;
			break;
		case 's':
			stats = true;
			break;
		case 'h':
			fputs(run_help, stdout);
			return 0;
		default:
			return STATUS_USAGE;
		}
	}
	if (optind < argc)
		die(STATUS_USAGE, "run takes no argument '%s'; see minikvm run --help", argv[optind]);
	if (!kernel == !flat)
		die(STATUS_USAGE, "give either --kernel or --flat; see minikvm run --help");
	if (!flat != !mode)
		die(STATUS_USAGE, "--flat and --mode go together; see minikvm run --help");
	if (flat && (initrd || append || disk))
		die(STATUS_USAGE, "--initrd, --append and --disk need --kernel");

	if (flat) {
		enum cpu_mode cpu_mode = parse_mode(mode);

		vm_create(&vm, device, mem_size, nr_vcpus, nr_vcpus > 1);
		flat_load(&vm, flat, cpu_mode, &start);
	} else {
		vm_create(&vm, device, mem_size, nr_vcpus, true);
		if (disk)
			blk_create(&vm, disk, read_only);
		linux_load(&vm, kernel, initrd, append ? append : DEFAULT_CMDLINE, &start);
	}
	cpu_start(&vm.vcpus[0], &start);
	status = vm_run(&vm);
	if (stats)
		vm_stats(&vm);
	return status;
}

static int describe(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *device = DEFAULT_DEVICE;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			device = optarg;
			break;
		case 'h':
			fputs(info_help, stdout);
			return 0;
		default:
			return STATUS_USAGE;
		}
	}
	if (optind < argc)
		die(STATUS_USAGE, "info takes no argument '%s'; see minikvm info --help", argv[optind]);
	return info(device);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	/* getopt_long() begins its messages with the first argument. */
	if (!strcmp(command, "run")) {
		argv[1] = "minikvm run";
		return run(argc - 1, argv + 1);
	}
	if (!strcmp(command, "info")) {
		argv[1] = "minikvm info";
		return describe(argc - 1, argv + 1);
	}
	if (!strcmp(command, "help") || !strcmp(command, "--help") || !strcmp(command, "-h")) {
		fputs(main_help, stdout);
		return 0;
	}
	if (!*command)
		die(STATUS_USAGE, "give a command; see minikvm --help");
	die(STATUS_USAGE, "there is no command '%s'; see minikvm --help", command);
}
