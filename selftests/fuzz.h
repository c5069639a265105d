/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the two fuzzers share: random numbers from a seed, values that lie near
 * a limit, hostile instruction streams, a tick that ends every wait, children
 * that are watched, and the kernel's log, where the host says that it was hurt.
 *
 * Read next: fuzz_ioctl.c, fuzz_guest.c.
 */
#ifndef SELFTESTS_FUZZ_H
#define SELFTESTS_FUZZ_H

#include <sys/types.h>
#include "lib.h"

struct rng {
	u64 state;
};

static inline struct rng rng_of(u64 seed)
{
	return (struct rng){ seed * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull };
}

u64 rng_next(struct rng *r);
u32 rng_below(struct rng *r, u32 n);
static inline bool one_in(struct rng *r, u32 n)
{
	return !rng_below(r, n);
}

#define PICK(r, array) ((array)[rng_below(r, ARRAY_SIZE(array))])

/* Near zero, near a power of two, all ones, an address, or anything. */
u64 odd_value(struct rng *r);
/* Change some of the aligned 1 to 8 byte words of a struct. */
void scramble(struct rng *r, void *buffer, size_t bytes, u32 changes);
void fill_random(struct rng *r, void *buffer, size_t bytes);
u32 odd_msr(struct rng *r);
/* A guest physical address where something is, in the layout of lib.h or a PC. */
u64 odd_address(struct rng *r);

/* Instructions for code of 16, 32 or 64 bits, exactly @bytes of them. */
void hostile_code(struct rng *r, u8 *code, size_t bytes, unsigned int bits);

/* SIGUSR1 for the calling thread, again and again: it ends what waits. */
void tick_start(unsigned int us);

/*
 * Wait for a child, and kill it after @seconds.  Returns what became of it;
 * CHILD_STUCK: not even that helped.
 */
enum child { CHILD_ENDED, CHILD_KILLED, CHILD_STUCK };
enum child child_wait(pid_t pid, unsigned int seconds, int *status);

/* What the kernel has complained of since the last call, as one line; or NULL. */
const char *kernel_complaint(void);

/*
 * Which code of the module was reached, where the kernel has KCOV and the module was
 * built for it: cover_begin() before a child, cover_enable() in up to two threads of
 * it, cover_end() after it: how many places nobody had been to.  The report names all
 * of them where MINIKVM_FUZZ_PCS asks for it.
 */
bool cover_open(void);
void cover_begin(void);
void cover_enable(int lane);
u32 cover_end(void);
void cover_report(void);

/* Where the kernel injects faults: any may fail, without a word. */
void fuzz_faults(void);

/* MINIKVM_SEED, or a new one; an environment variable as a number. */
u32 fuzz_seed(void);
u64 fuzz_setting(const char *name, u64 otherwise);
u64 now_ms(void);
bool host_is_vmx(void);
/*
 * May guests run that do anything? Not with MINIKVM_FUZZ_ENTER=0.
 *
 * With MINIKVM_FUZZ_ENTER=step they exit behind each instruction, which is for Bochs 2.7:
 * it holds the host's interrupts back while the guest's are off, under stock KVM, too.
 * A CPU does not step into a handler, so that one which loops there stands still yet.
 *
 * With MINIKVM_FUZZ_ENTER=spare they may do anything but what QEMU 10.0 is known to die
 * of, whoever does it: the code of MOV to a segment register that does not exist is a
 * segmentation fault, and with REX.R, which a CPU ignores there, it writes beyond them
 * into QEMU's own state, so that the A20 line or the host fails later; a #VMEXIT with the
 * guest's EFER.LME set and CR4.PAE clear leaves the host with the guest's CR0; a data
 * breakpoint must not hit what the delivery of an exception reads or writes, nor CR8 be
 * written while a virtual interrupt waits.
 */
bool guests_may_enter(void);
bool emulator_is_spared(void);
bool guests_are_stepped(void);
void spare_emulator(u8 *code, size_t bytes);	/* code that changed */

#endif
