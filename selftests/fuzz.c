// SPDX-License-Identifier: GPL-2.0
/*
 * What the two fuzzers share; see fuzz.h.
 */
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <linux/kcov.h>
#include <kselftest.h>
#include "fuzz.h"

/* xorshift64*; a state of zero would stay there. */
u64 rng_next(struct rng *r)
{
	u64 x = r->state ?: 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	r->state = x;
	return x * 0x2545f4914f6cdd1dull;
}

u32 rng_below(struct rng *r, u32 n)
{
	return (rng_next(r) >> 32) % n;
}

u64 odd_value(struct rng *r)
{
	u64 x = rng_next(r);

	switch (rng_below(r, 8)) {
	case 0: return x & 7;
	case 1: return x & 0xff;
	case 2: return BIT(x & 63) - 1;
	case 3: return BIT(x & 63);
	case 4: return -(x & 0xf);
	case 5: return odd_address(r);
	case 6: return x & 0xffffffff;
	}
	return x;
}

void fill_random(struct rng *r, void *buffer, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((u8 *)buffer)[i] = rng_next(r) >> 32;
}

void scramble(struct rng *r, void *buffer, size_t bytes, u32 changes)
{
	while (changes--) {
		size_t size = 1u << rng_below(r, 4);
		u64 value = 0;
		u8 *at;

		if (size > bytes)
			continue;
		at = (u8 *)buffer + rng_below(r, bytes / size) * size;
		if (one_in(r, 2)) {
			memcpy(&value, at, size);
			value ^= BIT(rng_below(r, 8 * size));
		} else {
			value = odd_value(r);
		}
		memcpy(at, &value, size);
	}
}

u32 odd_msr(struct rng *r)
{
	static const u32 msrs[] = {
		0x10, 0x11, 0x12, 0x17, 0x1b, 0x2a, 0x34, 0x3a, 0x3b, 0x48, 0x49,
		0x79, 0x8b, 0xc1, 0xce, 0xe7, 0xe8, 0xfe, 0x10a, 0x122, 0x140,
		0x174, 0x175, 0x176, 0x179, 0x17a, 0x17b, 0x186, 0x198, 0x1a0,
		0x1d9, 0x1db, 0x200, 0x201, 0x20f, 0x250, 0x258, 0x268, 0x277,
		0x2ff, 0x345, 0x38d, 0x38f, 0x400, 0x401, 0x480, 0x48f, 0x491,
		0x6e0, 0xd90, 0xda0, 0x4b564d00, 0x4b564d01, 0x4b564d02,
		0x4b564d03, 0x4b564d04, 0x4b564d05, 0x4b564d06, 0x4b564d07,
		0x40000000, 0x40000001, 0x40000020, 0x40000070, 0xc0000080,
		0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
		0xc0000101, 0xc0000102, 0xc0000103, 0xc0000104, 0xc0010015,
		0xc001001f, 0xc0010063, 0xc0010114, 0xc0010115, 0xc0010117,
		0xc001011f, 0xc0011022, 0xc0011029,
	};
	u32 msr;

	switch (rng_below(r, 8)) {
	case 0: return 0x800 + rng_below(r, 0x40);
	case 1: return rng_next(r);
	}
	msr = PICK(r, msrs) + (one_in(r, 16) ? rng_below(r, 8) : 0);
	return msr == 0xc0000080 && emulator_is_spared() ? 0xc0000081 : msr;
}

u64 odd_address(struct rng *r)
{
	u64 x = rng_next(r);

	switch (rng_below(r, 12)) {
	case 0: return 0xfee00000 + (x & 0x3f0);
	case 1: return 0xfee00000 + (x & 0x1fff);
	case 2: return 0xfec00000 + (x & 0x10);
	case 3: return GUEST_MMIO + (x & 0xffff);
	case 4: return GUEST_GDT + (x & 0x7fff);	/* tables of all kinds */
	case 5: return GUEST_CODE + (x & 0xfff);	/* of itself */
	case 6: return GUEST_DATA + (x & 0x1f) * PAGE - (x >> 60);	/* across pages */
	case 7: return GUEST_MEM - (x & 0xf);
	case 8: return BIT(x & 63);
	case 9: return GUEST_FREE + (x & 0xfffff);
	case 10: return 0xa0000 + (x & 0x5ffff);
	}
	return GUEST_DATA + (x & 0xffff);
}

struct stream {
	struct rng *r;
	u8 *at, *end;
	unsigned int bits;
};

static void emit(struct stream *s, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n && s->at < s->end; i++)
		*s->at++ = ((const u8 *)bytes)[i];
}

#define EMIT(s, ...) \
	emit(s, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

enum { AX, CX, DX, BX, SP, BP, SI, DI };

static void emit_load(struct stream *s, unsigned int reg, u64 value)
{
	if (s->bits == 64 && value >> 32) {
		EMIT(s, 0x48, 0xb8 + reg);
		emit(s, &value, 8);
		return;
	}
	if (s->bits == 16)
		EMIT(s, 0x66);
	EMIT(s, 0xb8 + reg);
	emit(s, &value, 4);
}

/* An operand in memory at BX. */
static void emit_at_bx(struct stream *s, const u8 *opcode, size_t n, unsigned int reg)
{
	struct rng *r = s->r;

	if (s->bits == 16)
		EMIT(s, 0x67);
	if (one_in(r, 4))
		EMIT(s, PICK(r, ((const u8[]){ 0xf0, 0xf2, 0xf3, 0x66, 0x26, 0x64 })));
	if (s->bits == 64 && one_in(r, 2))
		EMIT(s, 0x40 + rng_below(r, 16));
	emit(s, opcode, n);
	EMIT(s, reg << 3 | BX);
}

static void emit_memory(struct stream *s)
{
	/* Pairs: 0 stands for one byte of opcode, 0x0f for two. */
	static const u8 opcodes[][2] = {
		{ 0, 0x88 }, { 0, 0x89 }, { 0, 0x8a }, { 0, 0x8b }, { 0, 0x00 },
		{ 0, 0x01 }, { 0, 0x0a }, { 0, 0x13 }, { 0, 0x19 }, { 0, 0x21 },
		{ 0, 0x2b }, { 0, 0x31 }, { 0, 0x39 }, { 0, 0x84 }, { 0, 0x86 },
		{ 0, 0x87 }, { 0, 0x63 }, { 0, 0x8e }, { 0, 0x8c }, { 0, 0x8f },
		{ 0, 0xfe }, { 0, 0xff }, { 0, 0xd9 }, { 0, 0xdd }, { 0, 0xdf },
		{ 0, 0xd0 }, { 0, 0xd3 }, { 0, 0xf6 }, { 0, 0xf7 }, { 0, 0xc4 },
		{ 0x0f, 0x00 }, { 0x0f, 0x01 }, { 0x0f, 0x01 }, { 0x0f, 0x02 },
		{ 0x0f, 0x10 }, { 0x0f, 0x11 }, { 0x0f, 0x29 }, { 0x0f, 0x6f },
		{ 0x0f, 0x7f }, { 0x0f, 0xa3 }, { 0x0f, 0xab }, { 0x0f, 0xae },
		{ 0x0f, 0xb0 }, { 0x0f, 0xb1 }, { 0x0f, 0xb2 }, { 0x0f, 0xb6 },
		{ 0x0f, 0xbf }, { 0x0f, 0xc1 }, { 0x0f, 0xc3 }, { 0x0f, 0xc7 },
		{ 0x0f, 0xe7 }, { 0x0f, 0x18 }, { 0x0f, 0x40 }, { 0x0f, 0x78 },
	};
	struct rng *r = s->r;
	const u8 *opcode = PICK(r, opcodes);

	emit_load(s, BX, odd_address(r));
	if (one_in(r, 2))
		emit_load(s, AX, odd_value(r));
	if (one_in(r, 6)) {	/* an immediate operand */
		static const u8 immediate[] = { 0x80, 0x81, 0x83, 0xc6, 0xc7, 0xc0 };
		u64 value = odd_value(r);
		u8 op = PICK(r, immediate);

		emit_at_bx(s, &op, 1, op >= 0xc6 ? 0 : rng_below(r, 8));
		emit(s, &value, op == 0x81 || op == 0xc7 ? s->bits == 16 ? 2 : 4 : 1);
		return;
	}
	emit_at_bx(s, opcode + !opcode[0], 1 + !!opcode[0], rng_below(r, 8));
}

static void emit_string(struct stream *s)
{
	static const u8 ops[] = { 0x6c, 0x6d, 0x6e, 0x6f, 0xa4, 0xa5, 0xa6, 0xa7,
				  0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
	struct rng *r = s->r;

	emit_load(s, SI, odd_address(r));
	emit_load(s, DI, odd_address(r));
	emit_load(s, CX, rng_below(r, one_in(r, 8) ? 0x10000 : 0x20));
	if (one_in(r, 2))
		emit_load(s, DX, rng_below(r, 0x500));
	if (one_in(r, 4))
		EMIT(s, 0xfd);	/* downwards */
	if (!one_in(r, 3))
		EMIT(s, one_in(r, 2) ? 0xf3 : 0xf2);
	EMIT(s, PICK(r, ops));
}

static void emit_io(struct stream *s)
{
	static const u16 ports[] = { 0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x64,
				     0x70, 0x71, 0x80, 0x92, 0xa0, 0xa1, 0x4d0, 0x4d1,
				     0x3f8, 0xcf8, 0xcfc, 0x510, 0xffff };
	struct rng *r = s->r;
	u16 port = one_in(r, 8) ? rng_next(r) : PICK(r, ports);

	if (one_in(r, 2))
		emit_load(s, AX, odd_value(r));
	if (one_in(r, 4) && s->bits != 64)
		EMIT(s, 0x66);
	if (port < 0x100 && one_in(r, 2)) {
		EMIT(s, 0xe4 + rng_below(r, 4), port);
		return;
	}
	emit_load(s, DX, port);
	EMIT(s, 0xec + rng_below(r, 4));
}

static void emit_msr(struct stream *s)
{
	struct rng *r = s->r;
	u64 value = odd_value(r);

	emit_load(s, CX, odd_msr(r));
	if (one_in(r, 3))
		EMIT(s, 0x0f, 0x32);		/* RDMSR; then change a bit or none */
	else
		emit_load(s, DX, value >> 32), emit_load(s, AX, (u32)value);
	if (!one_in(r, 3))
		EMIT(s, 0x0f, 0x30);
}

static void emit_control(struct stream *s)
{
	static const u8 numbers[] = { 0, 0, 2, 3, 3, 4, 4, 8, 1, 15 };
	struct rng *r = s->r;
	bool debug = one_in(r, 4);
	u8 nr = debug ? rng_below(r, 8) : PICK(r, numbers);
	u32 bit = 1u << rng_below(r, 32);
	bool any = one_in(r, 8);

	if (emulator_is_spared() && debug) {
		nr = nr == 5 || nr == 7 ? 6 : nr;
	} else if (emulator_is_spared() && nr == 4) {
		any = false;
		bit &= ~CR4_PAE;
	} else if (emulator_is_spared() && nr == 8) {
		nr = 3;
	}
	if (s->bits == 64 && nr >= 8)
		EMIT(s, 0x44);
	EMIT(s, 0x0f, debug ? 0x21 : 0x20, 0xc0 | (nr & 7) << 3);
	if (any) {
		emit_load(s, AX, odd_value(r));
	} else {
		if (s->bits == 16)
			EMIT(s, 0x66);
		EMIT(s, 0x35);			/* XOR EAX, bit */
		emit(s, &bit, 4);
	}
	if (s->bits == 64 && nr >= 8)
		EMIT(s, 0x44);
	EMIT(s, 0x0f, debug ? 0x23 : 0x22, 0xc0 | (nr & 7) << 3);
}

static void emit_special(struct stream *s)
{
	static const char *const special[] = {
		"\xf4", "\xfa", "\xfb", "\xfb\xf4", "\xf3\x90", "\xcc", "\xce", "\xf1", "\xcf",
		"\x48\xcf", "\x9c", "\x9d", "\x9c\x66\x0d\x01\x01\x9d", "\x16\x17", "\x8e\xd0",
		"\x8e\xd8", "\x8e\xc0", "\x8e\xe8", "\x0f\x05", "\x0f\x07", "\x0f\x34", "\x0f\x35",
		"\x0f\x01\xc1", "\x0f\x01\xd9", "\x0f\x01\xd8", "\x0f\x01\xda", "\x0f\x01\xdb",
		"\x0f\x01\xdc", "\x0f\x01\xdd", "\x0f\x01\xde", "\x0f\x01\xdf", "\x0f\x01\xc2",
		"\x0f\x01\xc3", "\x0f\x01\xc8", "\x0f\x01\xc9", "\x0f\x01\xca", "\x0f\x01\xcb",
		"\x0f\x01\xd0", "\x0f\x01\xd1", "\x0f\x01\xee", "\x0f\x01\xef", "\x0f\x01\xf8",
		"\x0f\x01\xf9", "\x0f\x31", "\x0f\x33", "\x0f\x09", "\x0f\x08", "\x0f\x06",
		"\x0f\x0b", "\xcb", "\xc3", "\xc9", "\x0f\xaa", "\x0f\x37", "\x66\x0f\x38\x82\x03",
		"\x0f\xa2", "\x0f\xc7\xf0", "\xd7", "\x61", "\x60", "\x0f\x77", "\xdb\xe3", "\x9b",
		"\x0f\xae\xf0", "\x0f\xa9", "\x0f\xa1", "\x1f", "\x07", "\x0f\x01\xe0",
		"\x0f\x01\xf0", "\xdf\xe0", "\x27", "\xd4\x0a", "\xf3\x0f\xc7\x33", "\x62\x13",
		"\xc5\xf8\x77", "\xc5\xfd\x7f\x03", "\x0f\x0d\x0b", "\x48\x0f\xae\x23",
		"\x48\x0f\xc7\x0b", "\xff\x23", "\xff\x2b", "\xff\x1b", "\x0f\xae\x2b",
	};
	const char *text = PICK(s->r, special);

	emit(s, text, strlen(text));
}

static void emit_jump(struct stream *s)
{
	struct rng *r = s->r;
	u64 target = one_in(r, 4) ? odd_address(r) : GUEST_CODE + rng_below(r, PAGE);
	u16 selector = one_in(r, 2) ? rng_next(r) : SEL_CODE(rng_below(r, 4));

	switch (rng_below(r, 6)) {
	case 0:			/* far JMP or CALL */
		EMIT(s, one_in(r, 2) ? 0xea : 0x9a);
		emit(s, &target, s->bits == 16 ? 2 : 4);
		emit(s, &selector, 2);
		break;
	case 1:
		EMIT(s, 0xcd, rng_next(r));
		break;
	case 2:			/* IRET to what lies on the stack */
		EMIT(s, 0x68);
		emit(s, &target, s->bits == 16 ? 2 : 4);
		break;
	default:
		EMIT(s, one_in(r, 3) ? 0xeb : one_in(r, 3) ? 0xe2 : 0x70 + rng_below(r, 16),
		     rng_below(r, 48) - 24);
		break;
	}
}

static bool has_rex_r(u8 prefix)
{
	return (prefix & 0xf4) == 0x44;
}

/* MOV to a segment register with a number above 5, or with REX.R, becomes LEA. */
void spare_emulator(u8 *code, size_t bytes)
{
	if (!emulator_is_spared())
		return;
	for (size_t i = 0; i + 1 < bytes; i++)
		if (code[i] == 0x8e && ((code[i + 1] >> 3 & 7) > 5 || (i && has_rex_r(code[i - 1]))))
			code[i] = 0x8d;
}

void hostile_code(struct rng *r, u8 *code, size_t bytes, unsigned int bits)
{
	struct stream s = { .r = r, .at = code, .end = code + bytes, .bits = bits };

	while (s.at < s.end) {
		if (one_in(r, 16))
			EMIT(&s, PICK(r, ((const u8[]){ 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e,
							0x64, 0x48, 0x41, 0x4f })));
		switch (rng_below(r, 16)) {
		case 0 ... 4: emit_memory(&s); break;
		case 5 ... 6: emit_string(&s); break;
		case 7 ... 8: emit_io(&s); break;
		case 9 ... 10: emit_msr(&s); break;
		case 11: emit_control(&s); break;
		case 12 ... 13: emit_special(&s); break;
		case 14: emit_jump(&s); break;
		default:
			for (u32 n = rng_below(r, 8); n; n--)
				EMIT(&s, rng_next(r));
			break;
		}
	}
	spare_emulator(code, bytes);
}

static void on_tick(int signal)
{
}

void tick_start(unsigned int us)
{
	struct sigaction action = { .sa_handler = on_tick };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct itimerspec every = { .it_interval.tv_nsec = us * 1000l,
				    .it_value.tv_nsec = us * 1000l };
	timer_t timer;

	event._sigev_un._tid = syscall(SYS_gettid);
	sigaction(SIGUSR1, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) ||
	    timer_settime(timer, 0, &every, NULL))
		die("no timer: %s", strerror(errno));
}

u64 now_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

enum child child_wait(pid_t pid, unsigned int seconds, int *status)
{
	struct pollfd end = { .events = POLLIN };
	enum child result = CHILD_ENDED;

	end.fd = syscall(SYS_pidfd_open, pid, 0);
	if (end.fd < 0)
		die("pidfd_open: %s", strerror(errno));
	if (poll(&end, 1, seconds * 1000) != 1) {
		result = CHILD_KILLED;
		kill(pid, SIGKILL);
		if (poll(&end, 1, 30000) != 1)
			result = CHILD_STUCK;
	}
	close(end.fd);
	if (result != CHILD_STUCK)
		waitpid(pid, status, 0);
	return result;
}

const char *kernel_complaint(void)
{
	/* As scripts/l1/complaints has them. */
	static const char *const words[] = {
		"WARNING: ", "BUG: ", "BUG at ", "Oops", "KASAN", "UBSAN", "rcu: INFO",
		"refcount_t:", "unchecked MSR", "INFO: possible", "INFO: suspicious",
		"INFO: task", "locking dependency", "suspicious RCU", "soft lockup",
		"general protection fault", "unable to handle", "ODEBUG", "in preemptible",
		"sleeping function", "scheduling while atomic", "pagealloc: ",
	};
	static char found[256];
	static int log = -1;
	char record[2048];
	ssize_t n;

	if (log < 0) {
		log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		lseek(log, 0, SEEK_END);
		return NULL;
	}
	found[0] = 0;
	while ((n = read(log, record, sizeof(record) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		char *text;

		if (n < 0 || found[0])
			continue;
		record[n] = 0;
		text = strchr(record, ';');
		for (size_t i = 0; text && i < ARRAY_SIZE(words); i++)
			if (strstr(text, words[i]))
				snprintf(found, sizeof(found), "%.*s",
					 (int)strcspn(text + 1, "\n"), text + 1);
	}
	return found[0] ? found : NULL;
}

#define NR_COVER	(1u << 16)	/* words of a buffer: a count, and that many PCs */
#define NR_PCS		(1u << 16)

static int cover_fd[2];
static u64 *cover_area[2];
static bool has_cover;
static u32 pcs[NR_PCS], nr_pcs;		/* a set: low halves of addresses, by hash */

bool cover_open(void)
{
	for (int lane = 0; lane < 2; lane++) {
		cover_fd[lane] = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
		if (cover_fd[lane] < 0 || ioctl(cover_fd[lane], KCOV_INIT_TRACE, NR_COVER))
			return false;
		cover_area[lane] = mmap(NULL, NR_COVER * 8, PROT_READ | PROT_WRITE, MAP_SHARED,
					cover_fd[lane], 0);
		if (cover_area[lane] == MAP_FAILED)
			return false;
	}
	has_cover = true;
	return true;
}

void cover_enable(int lane)
{
	if (has_cover)
		ioctl(cover_fd[lane], KCOV_ENABLE, KCOV_TRACE_PC);
}

void cover_begin(void)
{
	for (int lane = 0; has_cover && lane < 2; lane++)
		cover_area[lane][0] = 0;
}

u32 cover_end(void)
{
	u32 before = nr_pcs;

	for (int lane = 0; has_cover && lane < 2; lane++)
		for (u64 i = 1; i <= cover_area[lane][0] && i < NR_COVER; i++) {
			u32 pc = cover_area[lane][i], at = pc * 2654435761u >> 16;

			while (pcs[at] && pcs[at] != pc)
				at = (at + 1) % NR_PCS;
			if (!pcs[at] && nr_pcs < NR_PCS / 2) {
				pcs[at] = pc;
				nr_pcs++;
			}
		}
	return nr_pcs - before;
}

void cover_report(void)
{
	if (!has_cover)
		return;
	ksft_print_msg("%u places in the module's code were reached\n", nr_pcs);
	if (!getenv("MINIKVM_FUZZ_PCS"))
		return;
	for (u32 i = 0, n = 0; i < NR_PCS; i++)
		if (pcs[i])
			printf("%s%x", n++ % 12 ? " " : "\nfuzz-pcs: ", pcs[i]);
	printf("\n");
}

void fuzz_faults(void)
{
	static const char *const files[] = {
		"failslab/verbose", "fail_page_alloc/verbose", "fail_usercopy/verbose",
		"failslab/ignore-gfp-wait", "fail_page_alloc/ignore-gfp-wait",
		"fail_page_alloc/ignore-gfp-highmem", "fail_page_alloc/min-order",
	};
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int fd;

		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", files[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!write(fd, strchr(path, '-') && !strstr(path, "order") ? "N" : "0", 1);
		close(fd);
	}
}

u64 fuzz_setting(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

u32 fuzz_seed(void)
{
	return fuzz_setting("MINIKVM_SEED", time(NULL) & 0xffffff);
}

bool host_is_vmx(void)
{
	char line[4096];
	bool found = false;
	FILE *file = fopen("/proc/cpuinfo", "r");

	while (file && !found && fgets(line, sizeof(line), file))
		found = !strncmp(line, "flags", 5) && strstr(line, " vmx ");
	if (file)
		fclose(file);
	return found;
}

static bool enter_is(const char *wish)
{
	const char *text = getenv("MINIKVM_FUZZ_ENTER");

	return text && !strcmp(text, wish);
}

bool guests_may_enter(void)
{
	return !enter_is("0");
}

bool guests_are_stepped(void)
{
	return enter_is("step");
}

bool emulator_is_spared(void)
{
	return enter_is("spare");
}
