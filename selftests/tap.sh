# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# What scripts that test minikvm as a module share: they source it first. It leaves
# $device, $launcher, $tmp (which another trap has to remove, too), and points that
# count themselves; the last line of a test is tap_end. With any_device set before,
# stock KVM may be the device.

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
# shellcheck disable=SC2034 # for who sources this
launcher=${MINIKVM:-minikvm}

skip_all() { echo "1..0 # SKIP $1"; exit 4; }
[ "$device${any_device-}" != /dev/kvm ] || skip_all "what is tested here is minikvm's own"
[ -e "$device" ] || skip_all "$device is not there"

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
nr=0
failed=0

# NAME COMMAND...: passes if the command does. What it says explains a failure; of a
# success only its lines "figure: ..." are shown.
result() {
	local name=$1 err
	nr=$((nr + 1))
	shift
	if "$@" >"$tmp/out" 2>&1; then
		echo "ok $nr $name"
		sed -n 's/^figure: /# /p' "$tmp/out"
	else
		failed=$((failed + 1))
		sed 's/^/# /' "$tmp/out"
		for err in "$tmp"/*.err; do
			[ ! -e "$err" ] || tail -n 3 "$err" | sed 's/^/# /'
		done
		dmesg | tail -n 10 | sed 's/^/# /'
		echo "not ok $nr $name"
	fi
}

skip() {	# NAME REASON
	nr=$((nr + 1))
	echo "ok $nr $1 # SKIP $2"
}

tap_end() {
	echo "1..$nr"
	[ $failed = 0 ]
}
