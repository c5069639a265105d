// SPDX-License-Identifier: GPL-2.0
/*
 * The user's terminal: raw while the guest runs, and whatever happens put
 * back afterwards; output in batches.
 *
 * A guest prints a byte per exit. Each would cost a write(), and might wait for
 * whoever reads, so a vCPU only puts bytes into a ring. A short timer, started by
 * the first of them, has the main thread write them out.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include "launcher.h"

#define FLUSH_DELAY_NS 2000000
#define CHUNK 4096	/* a pipe that is ready takes as much without waiting */
#define HEADROOM 64	/* bytes that a guest may send before it looks for room */
#define ESCAPE 0x01	/* Ctrl-A */

static struct termios saved;
static bool is_tty, is_raw;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards ring, first, used */
static uint8_t ring[256 * 1024];
static size_t first, used;
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

/*
 * Writes one piece, if standard output takes it now. The lock is not held while
 * it is written: only this thread, the main one, takes bytes out. A reader that
 * went away must not stop the guest: its output is dropped.
 * Return: whether anything is left.
 */
static bool write_piece(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	size_t len;
	ssize_t n;

	pthread_mutex_lock(&lock);
	len = used < CHUNK ? used : CHUNK;
	if (len > sizeof(ring) - first)
		len = sizeof(ring) - first;
	pthread_mutex_unlock(&lock);
	if (!len || poll(&out, 1, 0) <= 0)
		return len;

	n = write(STDOUT_FILENO, ring + first, len);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	pthread_mutex_lock(&lock);
	first = (first + (n < 0 ? len : (size_t)n)) % sizeof(ring);
	used -= n < 0 ? len : (size_t)n;
	len = used;
	pthread_mutex_unlock(&lock);
	return len;
}

/**
 * term_flush() - write out what is due, without waiting. Main thread.
 *
 * Return: true if there is more; standard output then says when (POLLOUT).
 */
bool term_flush(void)
{
	uint64_t expirations;

	if (timer >= 0 && read(timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		die(STATUS_HOST, "cannot read a timer: %s", strerror(errno));
	return write_piece();
}

/**
 * term_drain() - write out all there is, and wait until it is read
 * @signals: a descriptor that, once readable, ends the waiting
 */
void term_drain(int signals)
{
	struct pollfd fds[] = {
		{ .fd = STDOUT_FILENO, .events = POLLOUT },
		{ .fd = signals, .events = POLLIN },
	};

	while (write_piece() && !fds[1].revents)
		poll(fds, ARRAY_SIZE(fds), -1);
}

/**
 * term_room() - whether a guest should send now. Any thread.
 */
bool term_room(void)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = used < sizeof(ring) - HEADROOM;
	pthread_mutex_unlock(&lock);
	return room;
}

/**
 * term_put() - print one byte of the guest's, soon. Any thread; it never waits.
 */
void term_put(uint8_t byte)
{
	static const struct itimerspec soon = { .it_value.tv_nsec = FLUSH_DELAY_NS };

	pthread_mutex_lock(&lock);
	if (!used)
		timerfd_settime(timer, 0, &soon, NULL);
	if (used < sizeof(ring))
		ring[(first + used++) % sizeof(ring)] = byte;
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
