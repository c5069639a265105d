#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# QEMU as Debian ships it: each one that is there (qemu-7.2, qemu-10.0) must start
# Debian's kernel from its BIOS, and end when the guest powers off; also where its
# monitor stops it, resets it, moves it to another QEMU or back in time meanwhile, where
# a debugger looks at its BIOS, where GRUB starts it from a disk, from UEFI, and with a
# network.
#
# usage: qemu.sh [DEVICE]
#
# MINIKVM_THOROUGH=1 does everything with each QEMU, MINIKVM_MACHINE=svm leaves out what
# crashes QEMU's emulation of SVM.
# $MINIKVM_GUEST has bzImage or vmlinux, and initrd (default: /guest). QEMU before 9
# knows no other path than /dev/kvm, which is made to lead to DEVICE where nothing is
# there. /vmm/grub is what a disk with GRUB begins with, /vmm/OVMF_* UEFI's flash
# (scripts/lib/vmm.sh).

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
guest=${MINIKVM_GUEST:-/guest}

skip() { echo "1..0 # SKIP $1"; exit 4; }
[ -e "$device" ] || skip "$device is not there"
kernel=$guest/bzImage
# Bochs is long about unpacking it.
[ "$MINIKVM_MACHINE" != vmx ] || kernel=$guest/vmlinux
[ -e "$kernel" ] || kernel=$guest/vmlinux
[ -e "$kernel" ] || skip "no guest in $guest"
ls /bin/qemu-* >/dev/null 2>&1 || skip "no QEMU here"
[ -e /dev/kvm ] || ln -s "$device" /dev/kvm
# Through it QEMU speaks with a command that a guest's connection goes to.
ip link set lo up 2>/dev/null
# shellcheck disable=SC3045 # busybox has it
ulimit -c 0

out=$(mktemp) || exit 1
disk=$out.disk
trap 'rm -rf "$out"*' EXIT
truncate -s 2M "$disk"
nr=0
failed=0

cmdline="console=ttyS0 panic=-1 cryptomgr.notests=1"

# accel QEMU: KVM, by our device
accel() {
	case $1 in
	qemu-[78]*) echo kvm ;;
	*) echo "kvm,device=$device" ;;
	esac
}

# run QEMU ACCEL-OPTIONS OPTION...: its status; the guest's console is in $out.
run() {
	qemu=$1 options=$2
	shift 2
	timeout 180 "$qemu" -accel "$(accel "$qemu")$options" -m 256 -nographic -nodefaults -serial stdio \
		"$@" </dev/null >>"$out" 2>&1
}

# The same with Debian's kernel.
start() { run "$@" -kernel "$kernel" -initrd "$guest/initrd"; }

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

# skipped QEMU NAME REASON
skipped() {
	nr=$((nr + 1))
	echo "ok $nr $1 $2 # SKIP $3"
}

# boot NAME QEMU ACCEL-OPTIONS OPTION...
boot() {
	name=$1
	shift
	start "$@" -no-reboot -append "$cmdline quiet"
	verdict "$name" $?
}

# A partition that GRUB reads, with its menu and what that starts.
make_grub_disk() {
	rm -rf "$out.files"
	mkdir -p "$out.files/grub"
	ln -s "$guest/bzImage" "$guest/initrd" "$out.files/"
	cat >"$out.files/grub/grub.cfg" <<-END
	serial
	terminal_output serial
	set timeout=1
	menuentry Linux {
		linux /bzImage $cmdline quiet
		initrd /initrd
	}
	END
	{
		cat /vmm/grub
		tar -chf - -C "$out.files" bzImage initrd grub
	} >"$disk.grub"
	truncate -s 65M "$disk.grub"
	rm -r "$out.files"
}

# The BIOS starts GRUB, which reads its menu and Linux through the BIOS.
grub() {
	name="pc, GRUB from a disk"
	if ! [ -e "$guest/bzImage" ] || ! [ -e /vmm/grub ]; then
		skipped "$1" "$name" "no bzImage or no GRUB here"
		return
	fi
	[ -e "$disk.grub" ] || make_grub_disk
	run "$1" "" -M pc -cpu host -no-reboot -drive "file=$disk.grub,format=raw,if=virtio"
	status=$?
	grep -aq "Booting .Linux'" "$out" || status="$status, not by GRUB"
	verdict "$name" "$status"
}

# The other firmware: in long mode with page tables of its own almost from the start, from
# a flash chip: memory for reading, a device for writing.
uefi() {
	name="q35, UEFI"
	if [ "$MINIKVM_MACHINE" = svm ]; then
		skipped "$1" "$name" "QEMU's emulation of SVM crashes at times, under stock KVM too"
		return
	elif ! [ -e "$guest/bzImage" ] || ! [ -e /vmm/OVMF_CODE.fd ]; then
		skipped "$1" "$name" "no bzImage or no OVMF here"
		return
	fi
	cp /vmm/OVMF_VARS.fd "$disk.vars"
	run "$1" "" -M q35 -cpu host -no-reboot -kernel "$guest/bzImage" -initrd "$guest/initrd" \
		-append "$cmdline quiet" \
		-drive if=pflash,format=raw,readonly=on,file=/vmm/OVMF_CODE.fd \
		-drive "if=pflash,format=raw,file=$disk.vars"
	status=$?
	# It sets the terminal's mode, which the BIOS does not.
	grep -aq "$(printf '\033')\[=3h" "$out" || status="$status, not by UEFI"
	verdict "$name" "$status"
}

# traced EVENT: has QEMU done it? A route is an irqfd's.
traced() {
	grep -aq "$1" "$out.trace" || status="$status, no $1"
}

# networked NAME QEMU ACCEL-OPTIONS OPTION...: a card whose queues are ioeventfds, and a
# disk that a thread of its own serves, by ioeventfds and irqfds (without vhost QEMU has
# no irqfds for a card). See scripts/l2/net for what is done with them.
networked() {
	name=$1
	shift
	if [ ! -d /proc/sys/net/ipv4 ]; then
		skipped "$1" "$name" "QEMU speaks with its commands by IP, which this kernel has not"
		return
	fi
	head -c 1048576 /dev/urandom >"$out.sent"
	sum=$(md5sum <"$out.sent")
	net="user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:8-cmd:cat $out.sent"
	start "$@" -no-reboot -append "$cmdline quiet minikvm.net" -D "$out.trace" \
		-trace kvm_set_ioeventfd_mmio -trace kvm_irqchip_add_msi_route -trace 'virtio_notify_irqfd*' \
		-netdev "$net,guestfwd=tcp:10.0.2.100:9-cmd:md5sum" \
		-device virtio-net-pci,netdev=net,romfile= \
		-drive "file=$disk,format=raw,if=none,id=disk" -object iothread,id=thread \
		-device virtio-blk-pci,drive=disk,iothread=thread
	status=$?
	for what in fetched sent stored; do
		grep -aq "minikvm-net: $what $sum" "$out" || status="$status, wrong $what"
	done
	[ "$(head -c 1048576 "$disk" | md5sum)" = "$sum" ] || status="$status, not in the image"
	for what in input output req; do
		grep -aq "minikvm-net: $what interrupted [1-9]" "$out" || status="$status, no $what"
	done
	traced kvm_set_ioeventfd_mmio
	traced "kvm_irqchip_add_msi_route dev virtio-blk"
	traced virtio_notify_irqfd
	verdict "$name" "$status"
}

# How often the kernel has begun.
begun() { [ "$(grep -ac 'Linux version' "$out")" -ge "$1" ]; }

# tell COMMAND...: the monitor.
tell() {
	for command; do
		echo "$command" >&3
		sleep 0.5
	done
}

# wait_for COMMAND...: until it succeeds, or a minute is over.
wait_for() {
	i=0
	until "$@" || [ $i = 600 ]; do
		i=$((i + 1))
		sleep 0.1
	done
}

# monitored QEMU ACCEL-OPTIONS COMMAND...: give the monitor commands while the kernel
# starts, and leave the QEMU's process in $pid.
monitored() {
	monitored_qemu=$1 monitored_accel=$2
	shift 2
	rm -f "$out".mon.*
	mkfifo "$out.mon.in" "$out.mon.out"
	start "$monitored_qemu" "$monitored_accel" -M q35 -cpu host -smp 2 -append "$cmdline" \
		-drive "file=$disk.qcow2,format=qcow2,if=virtio" -chardev "pipe,id=mon,path=$out.mon" -mon mon &
	pid=$!
	cat "$out.mon.out" >"$out.mon.log" &
	exec 3>"$out.mon.in"
	wait_for begun 1
	tell "$@"
}

reset() {
	monitored "$1" "" stop "info status" cont system_reset
	wait $pid
	status=$?
	exec 3>&-
	qemu=$1
	grep -aq 'paused' "$out.mon.log" || status="$status, never paused"
	begun 2 || status="$status, not begun again"
	verdict "q35, stopped, continued, reset" "$status"
}

# Is all of the guest gone, or its QEMU? HMP's migrate takes saving the devices for the end.
moved() {
	kill -0 "$pid" 2>/dev/null || return 0
	tell "info migrate"
	grep -aq 'completed\|failed' "$out.mon.log"
}

# migrate NAME QEMU ACCEL-OPTIONS: the guest runs meanwhile.
migrate() {
	monitored "$2" "$3" "migrate \"exec:cat >$out.part; mv $out.part $out.state\""
	wait_for moved
	! kill -0 "$pid" 2>/dev/null || tell quit
	wait $pid
	wait_for [ -e "$out.state" ]
	exec 3>&-
	start "$2" "$3" -M q35 -cpu host -smp 2 -append "$cmdline" -no-reboot \
		-drive "file=$disk.qcow2,format=qcow2,if=virtio" -incoming "exec:cat $out.state"
	verdict "q35, moved while it boots$1" $?
	rm -f "$out.state"
}

# A guest that was reset goes on where it was before.
snapshot() {
	monitored "$1" "" "savevm early" system_reset
	wait_for begun 2
	tell "loadvm early" "info status"
	wait $pid
	status=$?
	exec 3>&-
	qemu=$1
	begun 2 || status="$status, not begun again"
	! begun 3 || status="$status, begun a third time"
	grep -aq 'Error\|not supported' "$out.mon.log" && status="$status, no snapshot"
	verdict "q35, saved, reset, loaded" "$status"
}

# gdb PACKET...: to QEMU's stub, as a debugger says it.
gdb() {
	for packet; do
		sum=$(printf %s "$packet" | od -An -v -tu1 |
			awk '{ for (i = 1; i <= NF; i++) sum += $i } END { printf "%02x", sum % 256 }')
		printf '$%s#%s' "$packet" "$sum" >&4
	done
}

# How often the guest has stopped for the debugger.
stops() { [ "$(grep -ao 'T05' "$out.gdb.log" | wc -l)" -ge "$1" ]; }

# at RIP: is the guest there? RIP as the stub writes it, after sixteen other registers.
at() {
	gdb g
	sleep 0.5
	tail -c 1400 "$out.gdb.log" | grep -aq "\$[0-9a-f]\{256\}$1"
}

# A breakpoint where the reset vector jumps to, f000:e05b; a step; a watchpoint on the
# BIOS's count of ticks; and then on its own.
debugged() {
	if [ "$MINIKVM_MACHINE" = svm ]; then
		skipped "$1" "q35, debugged" "QEMU's emulation of SVM crashes, under stock KVM too"
		return
	fi
	rm -f "$out".gdb.*
	mkfifo "$out.gdb.in" "$out.gdb.out"
	start "$1" "" -M q35 -cpu host -no-reboot -append "$cmdline quiet" -S \
		-chardev "pipe,id=gdb,path=$out.gdb" -gdb chardev:gdb &
	pid=$!
	cat "$out.gdb.out" >"$out.gdb.log" &
	exec 4>"$out.gdb.in"
	status=
	gdb Z1,fe05b,1 c
	wait_for stops 1
	at 5be0000000000000 || status=", no breakpoint"
	gdb z1,fe05b,1 s
	wait_for stops 2
	gdb Z2,46c,4 c
	wait_for stops 3
	grep -aq 'watch:0*46c;' "$out.gdb.log" || status="$status, no watchpoint"
	gdb z2,46c,4 D
	wait $pid
	status="$?$status"
	exec 4>&-
	qemu=$1
	verdict "q35, debugged" "$status"
	[ "$status" = 0 ] || tr -d '\0' <"$out.gdb.log" | sed 's/^/# /'
}

# An empty image that can hold snapshots; QEMU's own monitor makes it.
make_image() {
	{
		echo '{"execute":"qmp_capabilities"}'
		create '"a"' "{\"driver\":\"file\",\"filename\":\"$disk.qcow2\",\"size\":0}"
		echo "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"file\",\"filename\":\"$disk.qcow2\",\"node-name\":\"file\"}}"
		create '"b"' '{"driver":"qcow2","file":"file","size":2097152}'
		echo '{"execute":"quit"}'
	} | timeout 60 "$1" -accel "$(accel "$1")" -M none -nodefaults -display none -qmp stdio >/dev/null
}
create() {
	echo "{\"execute\":\"blockdev-create\",\"arguments\":{\"job-id\":$1,\"options\":$2}}"
	sleep 1
}

echo "TAP version 13"
for qemu in /bin/qemu-*; do
	qemu=${qemu##*/}
	boot "pc" "$qemu" "" -M pc -cpu host
	# Memory of that size is in two slots, most of it behind 4 GiB; the host has less.
	networked "q35, 2 CPUs, 4 GiB, network, disk" "$qemu" "" -M q35,memory-backend=memory \
		-object memory-backend-ram,id=memory,size=4G,reserve=off -m 4G -cpu qemu64 -smp 2
	boot "microvm" "$qemu" "" -M microvm -cpu host
	networked "q35, kernel-irqchip=split, network, disk" "$qemu" ,kernel-irqchip=split \
		-M q35 -cpu host
	rm -f "$disk.qcow2"
	make_image "$qemu"
	reset "$qemu"
	migrate "" "$qemu" ""
	# These with one QEMU, where time is short.
	if [ $nr -lt 8 ] || [ -n "$MINIKVM_THOROUGH" ]; then
		migrate ", by dirty rings" "$qemu" ,dirty-ring-size=4096
		snapshot "$qemu"
		debugged "$qemu"
		grub "$qemu"
		uefi "$qemu"
	fi
done
# Newer ones refuse interrupt controllers of their own.
if [ -e /bin/qemu-7.2 ]; then
	boot "pc, kernel-irqchip=off" qemu-7.2 ,kernel-irqchip=off -M pc -cpu qemu64
fi
echo "1..$nr"
[ $failed = 0 ]
