// SPDX-License-Identifier: GPL-2.0
/*
 * A flat image: bytes that are loaded somewhere and jumped to. In real mode it
 * goes where a boot sector goes, else to 1 MiB.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher.h"

/**
 * image_open() - open a file that is to be loaded, or die saying why not
 * @path: the file
 * @what: what it should be, for messages
 * @size: set to its size in bytes, which is not 0
 */
int image_open(const char *path, const char *what, uint64_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die(STATUS_INPUT, "cannot open the %s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		die(STATUS_INPUT, "the %s %s is not a regular file", what, path);
	if (!st.st_size)
		die(STATUS_INPUT, "the %s %s is empty", what, path);
	*size = st.st_size;
	return fd;
}

/**
 * flat_load() - load a flat image
 * @vm: the machine
 * @path: the image
 * @mode: processor mode to start it in
 * @start: filled
 */
void flat_load(struct vm *vm, const char *path, enum cpu_mode mode, struct start *start)
{
	bool real = mode == MODE_REAL;
	uint64_t gpa = real ? GPA_REAL_IMAGE : GPA_HIGH;
	uint64_t size;
	int fd = image_open(path, "image", &size);

	if (real && size > GPA_LOW_END - GPA_REAL_IMAGE)
		die(STATUS_INPUT, "the image %s is too large for real mode: at most %d bytes",
		    path, GPA_LOW_END - GPA_REAL_IMAGE);
	vm_load(vm, path, fd, 0, gpa, size);
	close(fd);
	*start = (struct start) {
		.mode = mode,
		.rip = gpa,
		.rsp = real ? GPA_REAL_IMAGE : GPA_STACK,
	};
}
