// SPDX-License-Identifier: GPL-2.0
/*
 * This host's hardware in words, for `minikvm info`.
 */
#include <linux/kernel.h>
#include <asm/cpufeature.h>

#include "backend.h"
#include "door/door.h"

void mk_describe_host(char *buf, size_t size)
{
	const struct mk_caps *c = mk_hw->caps;
	size_t n = 0;

#define SAY(...) (n += scnprintf(buf + n, size - n, __VA_ARGS__))
#define HAS(flag, what) SAY("%s: %s\n", what, (flag) ? "yes" : "no")
	SAY("nested paging: %s\n", mk_hw->tdp == MK_TDP_EPT ? "EPT" : "NPT");
	HAS(c->tdp_2m, "2 MiB nested pages");
	HAS(c->tdp_1g, "1 GiB nested pages");
	HAS(c->tdp_ad, "accessed and dirty bits in nested pages");
	HAS(c->next_rip, "exits tell the length of the instruction");
	HAS(c->decode_assist, "exits tell the instruction's operands");
	HAS(c->tsc_scaling, "TSC scaling");
	HAS(c->virt_apic, "local APICs in x2APIC mode kept by the hardware");
	HAS(c->vnmi, "NMI blocking kept by the hardware");
	SAY("UMIP: %s\n", c->umip ? "by the CPU" : c->umip_emulated ? "emulated" : "no");
	SAY("TLB tags: %u\n", c->tlb_tags);
	mk_hw->describe_mitigations(buf + n, size - n);
#undef HAS
#undef SAY
}
