// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest is told of its vCPU's place on the host: how long its thread had
 * to wait for a CPU (steal time), and whether it has lost its CPU just now.
 *
 * A vCPU that would run and may not need not be interrupted for the sake of its
 * TLB: another one leaves a note in its page instead (PV TLB flush), and what the
 * note asks for is done before it enters the guest again. That is only safe where
 * we keep nothing of what the guest's tables said, in the middle of an
 * instruction say. So the page admits to a lost CPU only where no instruction is
 * under way: mk_vcpu.between.
 *
 * Layout: "KVM-specific MSRs" in the kernel's documentation, struct
 * kvm_steal_time. Read next: core/pv.c; the run loop in core/run.c.
 */
#include <linux/sched/stat.h>
#include <asm/kvm_para.h>

#include "core/memory.h"
#include "core/vcpu.h"

static gpa_t page_of(const struct mk_vcpu *v)
{
	return v->steal_msr & KVM_STEAL_VALID_BITS;
}

static bool enabled(const struct mk_vcpu *v)
{
	return v->steal_msr & KVM_MSR_ENABLED;
}

/* ns that the calling thread was ready to run, and had no CPU */
static u64 waited(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}

void mk_steal_note_thread(struct mk_vcpu *v)
{
	v->steal_waited = waited();
}

void mk_steal_load(struct mk_vcpu *v)
{
	if (enabled(v))
		mk_request(v, MK_REQ_STEAL);
}

void mk_steal_preempted(struct mk_vcpu *v)
{
	static const u8 preempted = KVM_VCPU_PREEMPTED;

	if (!v->between || !enabled(v) || v->steal_preempted)
		return;
	v->steal_preempted = !mk_guest_write_nofault(v, page_of(v) +
						     offsetof(struct kvm_steal_time, preempted),
						     &preempted, sizeof(preempted));
}

/* Take back that it is preempted, and do what others asked for meanwhile. */
static void running_again(struct mk_vcpu *v)
{
	gpa_t gpa = page_of(v) + offsetof(struct kvm_steal_time, preempted);
	int err, tries = 16;
	u32 word;

	v->steal_preempted = false;
	do {
		err = mk_guest_read(v->vm, gpa, &word, sizeof(word)) ?:
		      mk_guest_cmpxchg(v, gpa, word, word & ~0xffu, sizeof(word));
	} while (err == -EAGAIN && --tries);
	/* A note that cannot be had, or changes all the time, may ask for anything. */
	if (err || (word & KVM_VCPU_FLUSH_TLB))
		v->cpu.flush |= MK_FLUSH_GUEST;
}

void mk_steal_update(struct mk_vcpu *v)
{
	const size_t head = offsetof(struct kvm_steal_time, flags);
	struct kvm_steal_time page;
	gpa_t gpa = page_of(v);
	u64 now = waited();

	if (!test_and_clear_bit(MK_REQ_STEAL, &v->requests) || !enabled(v))
		return;
	if (v->steal_preempted)
		running_again(v);
	if (now == v->steal_waited && !v->steal_new)
		return;
	v->steal_new = false;
	if (mk_guest_read(v->vm, gpa, &page, head))
		return;

	page.steal += now - v->steal_waited;
	v->steal_waited = now;
	mk_pv_publish(v, gpa + offsetof(typeof(page), version), page.version, gpa, &page.steal,
		      sizeof(page.steal));
}

bool mk_steal_possible(void)
{
	return sched_info_on();
}

int mk_steal_set(struct mk_vcpu *v, u64 val)
{
	if (!mk_steal_possible() || (val & KVM_STEAL_RESERVED_MASK))
		return -EINVAL;
	v->steal_msr = val;
	v->steal_preempted = false;
	v->steal_new = true;
	mk_steal_load(v);
	return 0;
}
