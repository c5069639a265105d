// SPDX-License-Identifier: GPL-2.0
/*
 * The host half of tests with several vCPUs; see cpus.h.
 */
#include <signal.h>
#include "cpus.h"

static void on_signal(int signal)
{
}

void cpus_create_ids(struct cpus *s, const u32 *ids, unsigned int count,
		     unsigned int with)
{
	struct sigaction action = { .sa_handler = on_signal };

	if (count > CPUS_MAX)
		die("no room for %u vCPUs", count);
	sigaction(SIGUSR1, &action, NULL);
	memset(s, 0, sizeof(*s));
	s->count = count;
	guest_create(&s->cpu[0].g, with);
	for (unsigned int i = 0; i < count; i++) {
		struct cpu *cpu = &s->cpu[i];

		cpu->all = s;
		cpu->id = ids[i];
		if (i == 0)
			continue;
		cpu->g = s->cpu[0].g;
		cpu->g.vcpu = guest_add_vcpu(&cpu->g, cpu->id);
		cpu->g.run = mmap(NULL, cpu->g.run_size, PROT_READ | PROT_WRITE,
				  MAP_SHARED, cpu->g.vcpu, 0);
		if (cpu->g.run == MAP_FAILED)
			die("mmap of kvm_run: %s", strerror(errno));
	}
}

void cpus_create(struct cpus *s, unsigned int count, unsigned int with)
{
	u32 ids[CPUS_MAX];

	for (u32 i = 0; i < CPUS_MAX; i++)
		ids[i] = i;
	cpus_create_ids(s, ids, count, with);
}

void cpus_destroy(struct cpus *s)
{
	for (unsigned int i = 0; i < s->count; i++)
		cpu_stop(&s->cpu[i]);
	for (unsigned int i = s->count; i-- > 1; ) {
		munmap(s->cpu[i].g.run, s->cpu[i].g.run_size);
		close(s->cpu[i].g.vcpu);
	}
	guest_destroy(&s->cpu[0].g);
}

void cpu_prepare(struct cpu *cpu, u32 (*function)(u64), u64 arg)
{
	struct cpu *first = &cpu->all->cpu[0];
	struct kvm_sregs sregs, own;
	struct kvm_regs regs;
	u64 top = GUEST_MEM - (cpu - first) * CPU_STACK_BYTES - 8;

	must(first->g.vcpu, KVM_GET_SREGS, &sregs);
	must(first->g.vcpu, KVM_GET_REGS, &regs);
	must(cpu->g.vcpu, KVM_GET_SREGS, &own);
	sregs.apic_base = own.apic_base;
	sregs.cr8 = own.cr8;
	/* What guest_call() has put there for vCPU 0 to return to. */
	if (cpu != first)
		*(u64 *)guest_at(&cpu->g, top) = *(u64 *)guest_at(&cpu->g, regs.rsp);
	else
		top = regs.rsp;
	/* Bochs 2.7 holds the host's interrupts back while the guest's are off. */
	regs.rflags = 0x202;
	regs.rip = (uintptr_t)function;
	regs.rdi = arg;
	regs.rsp = top;
	must(cpu->g.vcpu, KVM_SET_SREGS, &sregs);
	must(cpu->g.vcpu, KVM_SET_REGS, &regs);
	cpu_set_mp_state(cpu, KVM_MP_STATE_RUNNABLE);
}

void cpus_prepare(struct cpus *s, u32 (*function)(u64))
{
	guest_call(&s->cpu[0].g, function, 0);
	for (unsigned int i = 0; i < s->count; i++)
		cpu_prepare(&s->cpu[i], function, i);
}

/* KVM_RUN until the guest's function returns. */
static void *run(void *arg)
{
	struct cpu *cpu = arg;
	struct kvm_run *run = cpu->g.run;

	while (!cpu->stop) {
		int err = outcome(ioctl(cpu->g.vcpu, KVM_RUN, 0));

		if (err == -EINTR)
			cpu->signals++;
		if (err == -EINTR || err == -EAGAIN)
			continue;
		if (err)
			die("KVM_RUN on vCPU %u: %s", cpu->id, strerror(-err));
		if (run->exit_reason != KVM_EXIT_IO)
			die_of_exit(&cpu->g, "port I/O");
		if (run->io.port == PORT_SYNC && cpu->all->on_sync) {
			cpu->all->on_sync(cpu, *(u32 *)guest_io_data(&cpu->g));
		} else if (run->io.port == PORT_FAIL) {
			struct guest_failure *f = guest_var(&cpu->g, guest_failure);

			die("vCPU %u: %s:%d: %s is 0x%llx, not 0x%llx (rip 0x%llx)",
			    cpu->id, f->file, f->line, f->text, f->got,
			    f->wanted, f->rip);
		} else if (run->io.port == PORT_DONE) {
			cpu->result = *(u32 *)guest_io_data(&cpu->g);
			cpu->returned = true;
			break;
		}
	}
	return NULL;
}

void cpu_start(struct cpu *cpu)
{
	int error;

	cpu->stop = false;
	cpu->g.run->immediate_exit = 0;
	error = pthread_create(&cpu->thread, NULL, run, cpu);
	if (error)
		die("pthread_create: %s", strerror(error));
	cpu->running = true;
}

void cpus_start(struct cpus *s)
{
	for (unsigned int i = s->count; i-- > 0; )
		cpu_start(&s->cpu[i]);
}

u32 cpu_join(struct cpu *cpu)
{
	pthread_join(cpu->thread, NULL);
	cpu->running = false;
	return cpu->result;
}

void cpu_signal(struct cpu *cpu)
{
	pthread_kill(cpu->thread, SIGUSR1);
}

void cpu_stop(struct cpu *cpu)
{
	if (!cpu->running)
		return;
	/* In this order: a signal that comes before KVM_RUN is not the last word. */
	cpu->stop = true;
	cpu->g.run->immediate_exit = 1;
	cpu_signal(cpu);
	cpu_join(cpu);
}

u32 cpu_mp_state(struct cpu *cpu)
{
	struct kvm_mp_state state;

	must(cpu->g.vcpu, KVM_GET_MP_STATE, &state);
	return state.mp_state;
}

void cpu_set_mp_state(struct cpu *cpu, u32 state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	/* Without a local APIC in the kernel all run, always. */
	if (ioctl(cpu->g.vcpu, KVM_SET_MP_STATE, &mp) < 0 && state != KVM_MP_STATE_RUNNABLE)
		die("KVM_SET_MP_STATE %u: %s", state, strerror(errno));
}
