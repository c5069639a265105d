#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Linux's own KVM selftests, those of this kernel's series, as they are.
#
# usage: public.sh [DEVICE [TEST...]]
#
# The programs are in $MINIKVM_PUBLIC (default: /public; scripts/lib/public.sh makes
# them). They know no other path than /dev/kvm, which is made to lead to DEVICE where
# nothing is there. MINIKVM_MACHINE=vmx leaves out what stands still in Bochs 2.7.

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
public=${MINIKVM_PUBLIC:-/public}
[ $# = 0 ] || shift

skip() { echo "1..0 # SKIP $1"; exit 4; }
[ -e "$device" ] || skip "$device is not there"
[ -d "$public" ] || skip "no selftests in $public"
[ ! -e /dev/kvm ] || [ "$(readlink -f /dev/kvm)" = "$(readlink -f "$device")" ] ||
	skip "/dev/kvm is another device than $device"

out=$(mktemp) || exit 1
stock=
trap 'rm -f "$out"; [ -z "$stock" ] || rmmod "$stock" kvm irqbypass' EXIT
# Some look at parameters of stock KVM, which can be there as long as it has no VM.
if [ ! -d /sys/module/kvm ] && [ -e /stock/kvm.ko ]; then
	insmod /stock/irqbypass.ko && insmod /stock/kvm.ko enable_virt_at_load=0 && load kvm
	stock=$(awk '/^kvm_(amd|intel) / { print $1 }' /proc/modules)
fi
[ "$device" = /dev/kvm ] || ln -sf "$device" /dev/kvm
nr=0
failed=0

# Why test $1 is not run, if so.
not_run() {
	case $1 in
	*_perf_test | max_guest_memory_test)
		echo "a benchmark" ;;
	hyperv_* | evmcs_test)
		echo "of Hyper-V's interfaces, which are not there" ;;
	smm_test)
		echo "needs system management mode, which is not there" ;;
	vmx_pmu_caps_test)
		echo "needs performance counters, which are not there" ;;
	debug_regs)
		echo "no emulator of a CPU lets a debugger have INT3, under stock KVM neither" ;;
	set_memory_region_test | tsc_scaling_sync | ucna_injection_test)
		[ "$MINIKVM_MACHINE" != vmx ] ||
			echo "its guest spins with interrupts off, and Bochs holds the host's back then" ;;
	demand_paging_test)
		[ "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)" -gt 1200000 ] ||
			echo "needs a gigabyte of memory" ;;
	dirty_log_test | hardware_disable_test | kvm_page_table_test | memslot_modification_stress_test)
		echo "takes minutes in an emulator" ;;
	esac
}

if [ $# = 0 ]; then
	cd "$public" || exit
	set -- *
fi
echo "TAP version 13"
for name; do
	nr=$((nr + 1))
	why=$(not_run "$name")
	if [ -n "$why" ]; then
		echo "ok $nr $name # SKIP $why"
		continue
	fi
	# Some wait by sleeping, which a busy machine makes too short.
	for try in 1 2 3; do
		timeout -s KILL 100 "$public/$name" </dev/null >"$out" 2>&1
		status=$?
		case $status in
		0 | 4) break ;;
		esac
		echo "# $name: try $try ended with $status"
	done
	case $status in
	0) echo "ok $nr $name" ;;
	4) echo "ok $nr $name # SKIP $(tail -n 1 "$out")" ;;
	*)	tail -n 12 "$out" | sed 's/^/# /'
		echo "not ok $nr $name (status $status)"
		failed=$((failed + 1)) ;;
	esac
done
echo "1..$nr"
[ $failed = 0 ]
