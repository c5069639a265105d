#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# Are the kernel's checkers on, do they see what a module does, and do we hear them?
# For each, /trip.ko makes the mistake that it is for (detectors/trip.c), and the log
# must hold what the checker says, in the part that scripts/check takes for complaints.
#
# For a test machine of its own: what is left of it afterwards is not worth much, and
# that the machine then counts as broken is the last thing that scripts/check looks at.

[ -e /trip.ko ] || {
	echo "1..0 # SKIP for a machine of its own, which scripts/check makes on svm"
	exit 4
}

leak=/sys/kernel/debug/kmemleak
nr=0
failed=0

# MISTAKE TEXT: what the kernel's log must say about it.
told() {
	nr=$((nr + 1))
	echo "<7>detectors: $1" >/dev/kmsg
	case $1 in leak*) leaks before ;; esac
	insmod /trip.ko what="$1" 2>/dev/null
	case $1 in leak*) leaks after >/dev/null ;; esac
	if dmesg | sed "1,/detectors: $1\$/d" | complaints | grep -q "$2"; then
		echo "ok $nr $1: \"$2\""
	else
		failed=$((failed + 1))
		dmesg | sed "1,/detectors: $1\$/d" | tail -n 20 | sed 's/^/# /'
		echo "not ok $nr $1: \"$2\""
	fi
}

set_to() { echo "$1" >"$2"; }

echo "TAP version 13"
told warning "WARNING: .*trip"
told refcount_underflow "refcount_t: "
if [ -e $leak ]; then
	# Lockdep first: it gives up with the first complaint that taints the kernel.
	told rcu_usage "suspicious RCU usage"
	told sleep_in_atomic "sleeping function called from invalid context"
	told lock_order "possible circular locking dependency"
	told cpu_asked_for "using smp_processor_id() in preemptible"
	told unbalanced_preempt "scheduling while atomic"
	told active_timer_freed "ODEBUG: free active .*timer"
	told queued_work_freed "ODEBUG: free active .*work"
	told list_corrupted "list_del corruption"
	told vm_assertion "WARNING: .*trip"
	told shift "UBSAN: shift-out-of-bounds"
	told bounds "UBSAN: array-index-out-of-bounds"
	told slab_overflow "KASAN: slab-out-of-bounds"
	told vmalloc_overflow "KASAN: vmalloc-out-of-bounds"
	told stack_overflow "KASAN: stack-out-of-bounds"
	told use_after_free "KASAN: .*use-after-free"
	told write_to_freed_page "pagealloc: "
	told leak "unreferenced object"
else
	told leak_much "more than before"
fi
set_to 1 /proc/sys/kernel/watchdog_thresh
told soft_lockup "soft lockup"
set_to 30 /proc/sys/kernel/watchdog_thresh
set_to 3 /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
told rcu_stall "rcu: INFO"
set_to 1 /proc/sys/kernel/hung_task_timeout_secs
told hung_task "INFO: task trip"
echo "1..$nr"
[ $failed = 0 ]
