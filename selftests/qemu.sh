#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# QEMU as Debian ships it: each one that is there (qemu-7.2, qemu-10.0) must start
# Debian's kernel from its BIOS, and end when the guest powers off; also where its
# monitor stops it, resets it, or moves it to another QEMU meanwhile.
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
trap 'rm -f "$out"*' EXIT
truncate -s 2M "$disk"
nr=0
failed=0

cmdline="console=ttyS0 panic=-1 cryptomgr.notests=1"

# start QEMU ACCEL-OPTIONS OPTION...: its status; the guest's console is in $out.
start() {
	qemu=$1 accel=$2
	shift 2
	case $qemu in
	qemu-[78]*) accel=kvm$accel ;;
	*) accel=kvm,device=$device$accel ;;
	esac
	timeout 180 "$qemu" -accel "$accel" -m 256 -nographic -nodefaults -serial stdio \
		-kernel "$kernel" -initrd "$guest/initrd" "$@" </dev/null >>"$out" 2>&1
}

# verdict NAME STATUS
verdict() {
	nr=$((nr + 1))
	# QEMU warns of what the host's CPU lacks.
	grep -av 'requested feature' "$out" | tr -d '\r' | sed 's/^/# /' | tail -n 50
	if [ "$2" = 0 ] && grep -aq 'minikvm-guest: Linux' "$out"; then
		echo "ok $nr $qemu $1"
	else
		failed=$((failed + 1))
		echo "not ok $nr $qemu $1 (status $2)"
	fi
	: >"$out"
}

# boot NAME QEMU ACCEL-OPTIONS OPTION...
boot() {
	name=$1
	shift
	start "$@" -no-reboot -append "$cmdline quiet"
	verdict "$name" $?
}

# How often the kernel has begun.
begun() { [ "$(grep -ac 'Linux version' "$out")" -ge "$1" ]; }

# monitored QEMU COMMAND...: give the monitor commands while the kernel starts, and
# leave the QEMU's process in $pid.
monitored() {
	monitored_qemu=$1
	shift
	rm -f "$out".mon.*
	mkfifo "$out.mon.in" "$out.mon.out"
	start "$monitored_qemu" "" -M q35 -cpu host -smp 2 -append "$cmdline" \
		-chardev "pipe,id=mon,path=$out.mon" -mon mon &
	pid=$!
	cat "$out.mon.out" >"$out.mon.log" &
	exec 3>"$out.mon.in"
	i=0
	until begun 1 || [ $i = 600 ]; do
		i=$((i + 1))
		sleep 0.1
	done
	for command; do
		echo "$command" >&3
		sleep 0.5
	done
}

reset() {
	monitored "$1" stop "info status" cont system_reset
	wait $pid
	status=$?
	exec 3>&-
	qemu=$1
	grep -aq 'paused' "$out.mon.log" || status="$status, never paused"
	begun 2 || status="$status, not begun again"
	verdict "q35, stopped, continued, reset" "$status"
}

# HMP's migrate ends when all is there, and the guest has run meanwhile.
migrate() {
	monitored "$1" "migrate \"exec:cat >$out.state\"" quit
	wait $pid
	exec 3>&-
	start "$1" "" -M q35 -cpu host -smp 2 -append "$cmdline" -no-reboot \
		-incoming "exec:cat $out.state"
	verdict "q35, moved while it boots" $?
	rm -f "$out.state"
}

echo "TAP version 13"
for qemu in /bin/qemu-*; do
	qemu=${qemu##*/}
	boot "pc" "$qemu" "" -M pc -cpu host
	boot "q35, 2 CPUs, disk" "$qemu" "" -M q35 -cpu qemu64 -smp 2 \
		-drive "file=$disk,format=raw,if=virtio"
	boot "microvm" "$qemu" "" -M microvm -cpu host
	boot "q35, kernel-irqchip=split" "$qemu" ,kernel-irqchip=split -M q35 -cpu host
	reset "$qemu"
	migrate "$qemu"
done
# Newer ones refuse interrupt controllers of their own.
if [ -e /bin/qemu-7.2 ]; then
	boot "pc, kernel-irqchip=off" qemu-7.2 ,kernel-irqchip=off -M pc -cpu qemu64
fi
echo "1..$nr"
[ $failed = 0 ]
