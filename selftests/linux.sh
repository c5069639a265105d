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

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
launcher=${MINIKVM:-minikvm}
guest=${MINIKVM_GUEST:-/guest}

skip() { echo "1..0 # SKIP $1"; exit 4; }
[ -e "$device" ] || skip "$device is not there"
[ -e "$guest/initrd" ] || skip "no guest in $guest"

append=$(cat "$guest/cmdline" 2>/dev/null) || append="console=ttyS0 panic=-1"
out=$(mktemp) || exit 1
trap 'rm -f "$out" "$out.status"' EXIT
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

echo "TAP version 13"
for kernel in vmlinux bzImage; do
	[ -e "$guest/$kernel" ] || continue
	# The console goes on as it comes: whoever waits sees that it lives.
	{
		"$launcher" run --device "$device" --mem 256M --kernel "$guest/$kernel" \
			--initrd "$guest/initrd" --append "$append" 2>&1
		echo $? >"$out.status"
	} | tee "$out" | sed 's/^/# /'
	result "$kernel reaches userspace" grep -q '^minikvm-guest: Linux' "$out"
	result "$kernel powers off with status 0" [ "$(cat "$out.status")" = 0 ]
done
echo "1..$nr"
[ $failed = 0 ]
