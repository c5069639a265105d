#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The module's tracepoints: a guest's few instructions are all there, and each field is
# one that stock KVM's event of that name has, of the same size; so tools that know
# those can read these.
#
# usage: trace.sh [DEVICE]

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/tap.sh"
tracing=/sys/kernel/tracing
ours=$tracing/events/minikvm
[ -e $tracing/trace ] || skip_all "this kernel has no tracefs"

loaded=
trap 'echo 0 >$ours/enable; for m in $loaded; do rmmod $m; done; rm -rf "$tmp"' EXIT

count() { grep -c " $1: " "$tmp/trace"; }

# xor eax, eax; cpuid; mov ecx, 0x1b; rdmsr; mov dx, 0x3f8; mov al, '.'; out dx, al; hlt
printf '\146\061\300\017\242\146\271\033\000\000\000\017\062\272\370\003\260.\356\364' >"$tmp/guest"

run_traced() {
	echo >$tracing/trace
	echo 1 >$ours/enable || return
	"$launcher" run --device "$device" --mem 4M --flat "$tmp/guest" --mode real || return
	echo 0 >$ours/enable
	cat $tracing/trace >"$tmp/trace"
}

shows() { grep -q "$1" "$tmp/trace" || { grep -v '^#' "$tmp/trace" | tail -n 40; return 1; }; }
balanced() {
	echo "$(count kvm_entry) entries, $(count kvm_exit) exits"
	[ "$(count kvm_entry)" = "$(count kvm_exit)" ] && [ "$(count kvm_exit)" -ge 4 ]
}

# Name and size of each field of its own that an event has.
fields() { sed -n '/^$/,$s/.*field:.*[ ]\([a-z_0-9]*\);.*size:\([0-9]*\);.*/\1 \2/p' "$1/format"; }

as_in_stock() {
	local event stock=$tracing/events/kvm
	for event in "$ours"/kvm_*; do
		event=${event##*/}
		[ -e "$stock/$event" ] || { echo "stock KVM has no $event"; return 1; }
		fields "$stock/$event" >"$tmp/stock"
		fields "$ours/$event" >"$tmp/fields"
		[ -s "$tmp/fields" ] || return
		while read -r field; do
			grep -qx "$field" "$tmp/stock" || {
				echo "$event: $field is not among"; cat "$tmp/stock"; return 1; }
		done <"$tmp/fields"
	done
}

echo "TAP version 13"
result "a guest runs while all events are on" run_traced
result "each exit has its entry" balanced
result "CPUID" shows "kvm_cpuid: func 0 idx "
result "RDMSR" shows "kvm_msr: msr_read 1b = 0xfee0"
result "OUT" shows "kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x2e"
result "pages that are touched" shows "kvm_page_fault: vcpu 0 rip "
result "the end of KVM_RUN" shows "kvm_userspace_exit: reason 2 (0)"
if [ -e $tracing/events/kvm ] || [ -e /stock/kvm.ko ]; then
	for m in irqbypass kvm; do
		[ -d /sys/module/$m ] || { insmod /stock/$m.ko && loaded="$m $loaded"; }
	done
	result "fields are stock KVM's" as_in_stock
else
	skip "fields are stock KVM's" "it is not here"
fi
tap_end
