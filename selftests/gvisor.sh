#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash disable=SC2016 # the commands are another shell's
#
# gVisor as Debian ships it, with its KVM platform: a kernel in Go that takes VT-x or
# SVM for the address spaces of its programs. It is a VMM of other habits than QEMU's:
# no firmware, no devices, no interrupt controller; most of its process's addresses are
# guest memory, hundreds of GB with holes; it enters the guest out of signal handlers,
# and leaves it for each system call of its own.
#
# usage: gvisor.sh [DEVICE]

any_device=1
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/tap.sh"
[ -e /bin/runsc ] || skip_all "no gVisor here"
[ -e /proc/self/ns/user ] || skip_all "this kernel has no user namespaces"

# Its sandbox needs a root that can be turned over, which an initramfs is not; and it
# knows no other path than /dev/kvm. So it gets a root of its own, with that.
root=$tmp/root
mkdir -p "$root/bin" "$root/proc" "$root/dev" "$root/tmp" "$root/run"
for file in busybox runsc; do
	cp "$(readlink -f /bin/$file)" "$root/bin/$file"
done
for file in null zero urandom; do
	cp -a /dev/$file "$root/dev/"
done
cp -a "$(readlink -f "$device")" "$root/dev/kvm"

# sandbox COMMAND: of busybox's shell
sandbox() {
	ROOT=$root COMMAND=$1 busybox unshare -m /bin/sh -c '
		mount --bind "$ROOT" "$ROOT" && cd "$ROOT" && mount -t proc proc proc &&
			mount --move . / || exit
		exec chroot . /bin/busybox timeout 120 /bin/runsc -ignore-cgroups -network none \
			-platform kvm do /bin/busybox sh -c "$COMMAND"'
}

# The answer of COMMAND, there as here.
agrees() {
	local here there
	here=$(busybox sh -c "$1")
	there=$(sandbox "$1") || return
	echo "$there"
	[ -n "$here" ] && [ "$there" = "$here" ]
}

greets() {
	local release status=0
	release=$(sandbox 'busybox uname -r; exit 7') || status=$?
	echo "release $release, status $status"
	[ $status = 7 ] && [ "$release" = 4.4.0 ]
}

echo "TAP version 13"
result "a program runs, and its status comes back" greets
result "fifty processes, one after the other" agrees '
	i=0
	while [ $i -lt 50 ]; do busybox expr $i "*" 3; i=$((i + 1)); done | busybox sha1sum'
result "four at once, with pipes between them" agrees '
	for i in 1 2 3 4; do
		busybox seq $i 20000 | busybox gzip | busybox gunzip | busybox sha1sum >/tmp/$i &
	done
	wait
	busybox cat /tmp/1 /tmp/2 /tmp/3 /tmp/4'
result "signals are delivered" agrees '
	n=0
	trap "n=\$((n + 1))" USR1
	i=0
	while [ $i -lt 50 ]; do kill -USR1 $$; i=$((i + 1)); done
	echo $n signals; busybox sh -c "kill -SEGV \$\$"; echo $?'
result "memory that is touched, freed and touched again" agrees '
	i=0
	while [ $i -lt 3 ]; do
		busybox head -c 3000000 /dev/zero | busybox tr "\0" $i | busybox sort -r | busybox sha1sum
		i=$((i + 1))
	done'
tap_end
