#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# QEMU as Debian ships it: each one that is there (qemu-7.2, qemu-10.0) must start
# Debian's kernel from its BIOS, and end when the guest powers off.
#
# usage: qemu.sh [DEVICE]
#
# $MINIKVM_GUEST has bzImage or vmlinux, and initrd (default: /guest). QEMU before 9
# knows no other path than /dev/kvm, which is made to lead to DEVICE where nothing is
# there.

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
guest=${MINIKVM_GUEST:-/guest}

skip() { echo "1..0 # SKIP $1"; exit 4; }
[ -e "$device" ] || skip "$device is not there"
kernel=$guest/bzImage
[ -e "$kernel" ] || kernel=$guest/vmlinux
[ -e "$kernel" ] || skip "no guest in $guest"
ls /bin/qemu-* >/dev/null 2>&1 || skip "no QEMU here"
[ -e /dev/kvm ] || ln -s "$device" /dev/kvm
# shellcheck disable=SC3045 # busybox has it
ulimit -c 0

out=$(mktemp) || exit 1
disk=$out.disk
trap 'rm -f "$out" "$disk"' EXIT
truncate -s 2M "$disk"
nr=0
failed=0

# boot NAME QEMU ACCEL-OPTIONS OPTION...
boot() {
	name=$1 qemu=$2 accel=$3
	shift 3
	nr=$((nr + 1))
	case $qemu in
	qemu-[78]*) accel=kvm$accel ;;
	*) accel=kvm,device=$device$accel ;;
	esac
	timeout 180 "$qemu" -accel "$accel" -m 256 -nographic -no-reboot -nodefaults -serial stdio \
		-kernel "$kernel" -initrd "$guest/initrd" \
		-append "console=ttyS0 quiet panic=-1 cryptomgr.notests=1" "$@" \
		</dev/null >"$out" 2>&1
	status=$?
	# QEMU warns of what the host's CPU lacks.
	grep -v 'requested feature' "$out" | tr -d '\r' | sed 's/^/# /'
	if [ $status = 0 ] && grep -aq 'minikvm-guest: Linux' "$out"; then
		echo "ok $nr $qemu $name"
	else
		failed=$((failed + 1))
		echo "not ok $nr $qemu $name (status $status)"
	fi
}

echo "TAP version 13"
for qemu in /bin/qemu-*; do
	qemu=${qemu##*/}
	boot "pc" "$qemu" "" -M pc -cpu host
	boot "q35, 2 CPUs, disk" "$qemu" "" -M q35 -cpu qemu64 -smp 2 \
		-drive "file=$disk,format=raw,if=virtio"
	boot "microvm" "$qemu" "" -M microvm -cpu host
	boot "q35, kernel-irqchip=split" "$qemu" ,kernel-irqchip=split -M q35 -cpu host
done
# Newer ones refuse interrupt controllers of their own.
if [ -e /bin/qemu-7.2 ]; then
	boot "pc, kernel-irqchip=off" qemu-7.2 ,kernel-irqchip=off -M pc -cpu qemu64
fi
echo "1..$nr"
[ $failed = 0 ]
