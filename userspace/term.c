// SPDX-License-Identifier: GPL-2.0
/*
 * The user's terminal: raw while the guest runs, and whatever happens put
 * back afterwards; output in batches.
 *
 * A guest prints a byte per exit. Each would cost a write(), so bytes gather
 * until the buffer is full or a short timer, started by the first of them,
 * has the main thread flush.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include "launcher.h"

#define FLUSH_DELAY_NS 2000000
#define ESCAPE 0x01	/* Ctrl-A */

static struct termios saved;
static bool is_tty, is_raw;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards buffer, used */
static uint8_t buffer[4096];
static size_t used;
static int timer = -1;

void term_restore(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_raw = false;
}

/**
 * term_raw() - hand every key to the guest; exit() undoes it
 *
 * Does nothing where standard input is no terminal.
 */
void term_raw(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved))
		return;
	is_tty = true;
	atexit(term_restore);
	raw = saved;
	cfmakeraw(&raw);
	is_raw = !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/**
 * term_timer() - a descriptor that becomes readable when output is due
 *
 * The caller then calls term_flush(). To be called before the guest runs.
 */
int term_timer(void)
{
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer < 0)
		die(STATUS_HOST, "cannot create a timer: %s", strerror(errno));
	return timer;
}

/* A reader that went away must not stop the guest: its output is dropped. */
static void flush_locked(void)
{
	size_t done = 0;

	while (done < used) {
		ssize_t n = write(STDOUT_FILENO, buffer + done, used - done);

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			done += n;
	}
	used = 0;
}

void term_flush(void)
{
	uint64_t expirations;

	if (timer >= 0 && read(timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		die(STATUS_HOST, "cannot read a timer: %s", strerror(errno));
	pthread_mutex_lock(&lock);
	flush_locked();
	pthread_mutex_unlock(&lock);
}

/**
 * term_put() - print one byte of the guest's, soon. Any thread.
 */
void term_put(uint8_t byte)
{
	static const struct itimerspec soon = { .it_value.tv_nsec = FLUSH_DELAY_NS };

	pthread_mutex_lock(&lock);
	if (!used)
		timerfd_settime(timer, 0, &soon, NULL);
	buffer[used++] = byte;
	if (used == sizeof(buffer))
		flush_locked();
	pthread_mutex_unlock(&lock);
}

/**
 * term_filter() - take the launcher's own keys out of what was typed
 * @data: the bytes; what is left of them is meant for the guest
 * @len: their number, before and after
 *
 * Ctrl-A x quits, Ctrl-A Ctrl-A is one Ctrl-A. Input that comes from no
 * terminal passes unchanged.
 *
 * Return: true if the user wants to quit.
 */
bool term_filter(uint8_t *data, size_t *len)
{
	static bool escaped;
	size_t kept = 0;

	for (size_t i = 0; i < *len; i++) {
		uint8_t byte = data[i];

		if (escaped && byte == 'x')
			return true;
		if (is_tty && !escaped && byte == ESCAPE) {
			escaped = true;
			continue;
		}
		escaped = false;
		data[kept++] = byte;
	}
	*len = kept;
	return false;
}
