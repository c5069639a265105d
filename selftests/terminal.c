// SPDX-License-Identifier: GPL-2.0
/*
 * The launcher on a terminal: raw while the guest runs, and put back however
 * it ends; its own keys; every other key is the guest's.
 *
 * Uses the launcher ($MINIKVM, default: minikvm in PATH) on a pseudo-terminal.
 */
#include "kselftest_harness.h"
#include "lib.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>

#define CTRL_A "\x01"
#define CTRL_C "\x03"
#define PATIENCE_MS 20000
#define STEP_MS 20

static const char *device;

/* Never ends, but exits all the time: so nobody waits long for the CPU. */
GUEST_ASM(spin, 16,
	"1:	in $0x80, %al\n"
	"	jmp 1b");

/* A zero limit leaves no way to deliver the breakpoint, nor what follows. */
GUEST_ASM(triple_fault, 16,
	"	call 1f\n"
	"1:	pop %bx\n"
	"	lidtl 2f - 1b(%bx)\n"
	"	int3\n"
	"2:	.word 0, 0, 0");

/* Listens, prints the first byte that comes, and powers off. */
GUEST_ASM(echo, 16,
	"	mov $0x3fc, %dx\n"
	"	mov $8, %al\n"
	"	out %al, %dx\n"
	"	mov $0xf9, %dl\n"
	"	mov $1, %al\n"
	"	out %al, %dx\n"
	"	mov $0xfd, %dl\n"
	"1:	in %dx, %al\n"
	"	test $1, %al\n"
	"	jz 1b\n"
	"	mov $0xf8, %dl\n"
	"	in %dx, %al\n"
	"	out %al, %dx\n"
	"	hlt");

FIXTURE(terminal) {
	int master, slave;
	pid_t pid;
	struct termios before;
	char image[32];
};

FIXTURE_SETUP(terminal)
{
	self->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (self->master < 0 || grantpt(self->master) || unlockpt(self->master))
		die("no pseudo-terminal: %s", strerror(errno));
	self->slave = open(ptsname(self->master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_GE(self->slave, 0);
	ASSERT_EQ(tcgetattr(self->slave, &self->before), 0);
	strcpy(self->image, "/tmp/terminal.XXXXXX");
}

FIXTURE_TEARDOWN(terminal)
{
	unlink(self->image);
	close(self->slave);
	close(self->master);
}

static void start(FIXTURE_DATA(terminal) *self, const u8 *code, size_t size)
{
	const char *launcher = getenv("MINIKVM");
	int fd = mkstemp(self->image);

	if (fd < 0 || write(fd, code, size) != (ssize_t)size)
		die("cannot write an image: %s", strerror(errno));
	close(fd);
	if (!launcher)
		launcher = "minikvm";
	self->pid = fork();
	if (!self->pid) {
		for (int i = 0; i < 3; i++)
			dup2(self->slave, i);
		execlp(launcher, launcher, "run", "--device", device, "--mem", "4M",
		       "--flat", self->image, "--mode", "real", NULL);
		_exit(127);
	}
}

/* Return: whether the terminal became raw. */
static bool is_raw_soon(FIXTURE_DATA(terminal) *self)
{
	for (int waited = 0; waited < PATIENCE_MS; waited += STEP_MS) {
		struct termios now;

		tcgetattr(self->slave, &now);
		if (!(now.c_lflag & (ICANON | ISIG | ECHO)))
			return true;
		poll(NULL, 0, STEP_MS);
	}
	return false;
}

/* Return: the launcher's exit status; -1 if it goes on and on. */
static int status_soon(FIXTURE_DATA(terminal) *self)
{
	int status;

	for (int waited = 0; waited < PATIENCE_MS; waited += STEP_MS) {
		if (waitpid(self->pid, &status, WNOHANG) == self->pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		poll(NULL, 0, STEP_MS);
	}
	kill(self->pid, SIGKILL);
	waitpid(self->pid, &status, 0);
	return -1;
}

static bool is_restored(FIXTURE_DATA(terminal) *self)
{
	struct termios now;

	tcgetattr(self->slave, &now);
	return now.c_iflag == self->before.c_iflag && now.c_oflag == self->before.c_oflag &&
	       now.c_cflag == self->before.c_cflag && now.c_lflag == self->before.c_lflag;
}

static void type(FIXTURE_DATA(terminal) *self, const char *keys)
{
	if (write(self->master, keys, strlen(keys)) < 0)
		die("cannot type: %s", strerror(errno));
}

/* Though this guest never listens. */
TEST_F(terminal, ctrl_a_x_quits)
{
	start(self, spin, spin_end - spin);
	ASSERT_TRUE(is_raw_soon(self));
	type(self, CTRL_A);
	type(self, "x");
	EXPECT_EQ(status_soon(self), 3);
	EXPECT_TRUE(is_restored(self));
}

TEST_F(terminal, ctrl_a_twice_is_one_for_the_guest)
{
	char byte = 0;

	start(self, echo, echo_end - echo);
	ASSERT_TRUE(is_raw_soon(self));
	type(self, CTRL_A CTRL_A);
	EXPECT_EQ(status_soon(self), 0);
	EXPECT_EQ(read(self->master, &byte, 1), 1);
	EXPECT_EQ(byte, CTRL_A[0]);
	EXPECT_TRUE(is_restored(self));
}

TEST_F(terminal, ctrl_c_is_the_guests)
{
	char byte = 0;

	start(self, echo, echo_end - echo);
	ASSERT_TRUE(is_raw_soon(self));
	type(self, CTRL_C);
	EXPECT_EQ(status_soon(self), 0);
	EXPECT_EQ(read(self->master, &byte, 1), 1);
	EXPECT_EQ(byte, CTRL_C[0]);
	EXPECT_TRUE(is_restored(self));
}

TEST_F(terminal, restored_after_a_signal)
{
	start(self, spin, spin_end - spin);
	ASSERT_TRUE(is_raw_soon(self));
	kill(self->pid, SIGTERM);
	EXPECT_EQ(status_soon(self), 128 + SIGTERM);
	EXPECT_TRUE(is_restored(self));
}

TEST_F(terminal, restored_after_a_crash)
{
	start(self, triple_fault, triple_fault_end - triple_fault);
	EXPECT_EQ(status_soon(self), 2);
	EXPECT_TRUE(is_restored(self));
}

int main(int argc, char **argv)
{
	device_init(argc, argv);
	device = argc > 1 ? argv[1] : getenv("MINIKVM_DEVICE");
	if (!device)
		device = "/dev/minikvm";
	return test_harness_run(1, argv);
}
