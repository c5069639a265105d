#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Debian's kernel as a guest: it must reach userspace and power itself off, from
# each kind of image that is there.
#
# usage: linux.sh [DEVICE]
#
# $MINIKVM names the launcher (default: minikvm, found in PATH), $MINIKVM_GUEST a
# directory with vmlinux or bzImage, an initrd that announces itself as
# scripts/l2/init does, and perhaps a command line in cmdline (default: /guest).
# $MINIKVM_LOAD_SECONDS is how long each load of the guest with several CPUs lasts
# at least (default: 3; 0 is one round).

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
launcher=${MINIKVM:-minikvm}
guest=${MINIKVM_GUEST:-/guest}

skip() { echo "1..0 # SKIP $1"; exit 4; }
[ -e "$device" ] || skip "$device is not there"
[ -e "$guest/initrd" ] || skip "no guest in $guest"

append=$(cat "$guest/cmdline" 2>/dev/null) || append="console=ttyS0 panic=-1"
out=$(mktemp) || exit 1
disk=$out.disk
trap 'rm -f "$out" "$out".*' EXIT
nr=0
failed=0

result() {	# NAME COMMAND...
	nr=$((nr + 1))
	name=$1
	shift
	if "$@"; then
		echo "ok $nr $name"
	else
		failed=$((failed + 1))
		echo "not ok $nr $name"
	fi
}

# The console goes on as it comes: whoever waits sees that it lives.
boot() {	# KERNEL APPEND OPTION...
	kernel=$1 append_too=$2
	shift 2
	{
		"$launcher" run --device "$device" --mem 256M --kernel "$guest/$kernel" \
			--initrd "$guest/initrd" --append "$append $append_too" "$@" 2>&1
		echo $? >"$out.status"
	} | tee "$out" | sed 's/^/# /'
}

# What the guest's smp (scripts/l2/smp) found, as results of ours.
smp_results() {
	tr -d '\r' <"$out" | sed -n 's/^minikvm-smp: \(ok\|not ok\|skip\) /\1|/p' >"$out.smp"
	while IFS='|' read -r verdict name; do
		nr=$((nr + 1))
		case $verdict in
		ok) echo "ok $nr smp: $name" ;;
		skip) echo "ok $nr smp: ${name%%: *} # SKIP ${name#*: }" ;;
		*)
			failed=$((failed + 1))
			echo "not ok $nr smp: $name" ;;
		esac
	done <"$out.smp"
	result "smp: the guest did all of it" grep -q '^minikvm-smp: done' "$out"
}

disk_has() { [ "$(head -c ${#1} "$disk")" = "$1" ]; }

# What the launcher says when the device cannot interrupt as a disk needs.
disk_refusal() {
	"$launcher" run --device "$device" --mem 8M --kernel "$out.none" --disk "$disk" 2>&1 |
		grep -o "lacks a capability that a disk needs.*"
}

# One boot for all that several CPUs and a disk must do.
smp_boot() {
	truncate -s 2M "$disk"
	printf "host's bytes" | dd of="$disk" conv=notrunc 2>/dev/null
	refusal=$(disk_refusal)
	set -- --cpus 4
	[ -n "$refusal" ] || set -- "$@" --disk "$disk"
	boot vmlinux "tsc=reliable minikvm.smp=${MINIKVM_LOAD_SECONDS:-3}" "$@"
	result "smp: 4 CPUs reach userspace" grep -q '^minikvm-guest: Linux.* 4 CPU' "$out"
	smp_results
	result "smp: powers off with status 0" [ "$(cat "$out.status")" = 0 ]
	if [ -n "$refusal" ]; then
		nr=$((nr + 1))
		echo "ok $nr smp: the disk # SKIP $device $refusal"
	else
		result "smp: what the guest wrote is in the file" disk_has "guest's bytes"
	fi
}

echo "TAP version 13"
smp=yes
if "$launcher" run --device "$device" --cpus 4 --mem 8M --kernel "$out.none" 2>&1 |
		grep -q "is more than"; then
	smp=
fi
for kernel in bzImage vmlinux; do
	[ -e "$guest/$kernel" ] || continue
	# The other boot below is vmlinux, too.
	[ $nr = 0 ] || [ -z "$smp" ] || continue
	boot $kernel ""
	result "$kernel reaches userspace" grep -q '^minikvm-guest: Linux' "$out"
	result "$kernel powers off with status 0" [ "$(cat "$out.status")" = 0 ]
done
if [ -z "$smp" ]; then
	nr=$((nr + 1))
	echo "ok $nr smp # SKIP $device does not run 4 vCPUs"
elif [ -e "$guest/vmlinux" ]; then
	smp_boot
fi
echo "1..$nr"
[ $failed = 0 ]
