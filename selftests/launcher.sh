#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The launcher's contract: exit statuses, one-line errors, and a terminal line
# that carries bytes both ways. Needs a POSIX shell and busybox's tools.
#
# usage: launcher.sh [DEVICE]
#
# $MINIKVM names the launcher (default: minikvm, found in PATH). A kernel is
# looked for in $MINIKVM_GUEST (default: /guest); tests that need one are
# skipped without it.

device=${1:-${MINIKVM_DEVICE:-/dev/minikvm}}
launcher=${MINIKVM:-minikvm}
guest=${MINIKVM_GUEST:-/guest}

if ! [ -e "$device" ]; then
	echo "1..0 # SKIP $device is not there"
	exit 4
fi

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
nr=0
failed=0

result() {	# STATUS-OF-TEST NAME
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
	else
		failed=$((failed + 1))
		echo "not ok $nr $2"
		sed 's/^/# /' "$tmp/out" "$tmp/err"
	fi
}

skip() {	# NAME REASON
	nr=$((nr + 1))
	echo "ok $nr $1 # SKIP $2"
}

# Runs the launcher; passes if it exits with STATUS, OUTPUT is exactly what it
# printed, and what it said on stderr has ERROR (if any) in it.
expect() {	# NAME STATUS OUTPUT ERROR ARGUMENT...
	name=$1 status=$2 output=$3 error=$4
	shift 4
	timeout 60 "$launcher" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	got=$?
	[ "$got" = "$status" ] || echo "exit status $got instead of $status" >>"$tmp/err"
	[ "$got" = "$status" ] && [ "$(cat "$tmp/out")" = "$output" ] &&
		{ [ -z "$error" ] || grep -qF -- "$error" "$tmp/err"; }
	result $? "$name"
}

# The same for what ends before there is a guest: one line, no output.
refuses() {	# NAME STATUS ERROR ARGUMENT...
	name=$1 status=$2 error=$3
	shift 3
	timeout 60 "$launcher" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	got=$?
	[ "$got" = "$status" ] || echo "exit status $got instead of $status" >>"$tmp/err"
	[ "$got" = "$status" ] && ! [ -s "$tmp/out" ] &&
		[ "$(wc -l <"$tmp/err")" = 1 ] && grep -qF -- "$error" "$tmp/err"
	result $? "$name"
}

image() {	# BYTES, as printf(1) wants them: makes the flat image
	# shellcheck disable=SC2059 # the bytes are the format
	printf "$1" >"$tmp/image"
}

# Whether the modules' reference counts come back to BEFORE, in a while.
settled() {	# BEFORE
	tries=0
	while [ "$(cat /sys/module/*/refcnt)" != "$1" ]; do
		tries=$((tries + 1))
		[ $tries -lt 2000 ] || return 1
	done
}

flat() {	# NAME MODE STATUS OUTPUT ERROR BYTES
	image "$6"
	expect "$1" "$3" "$4" "$5" run --device "$device" --mem 8M --flat "$tmp/image" --mode "$2"
}

echo "TAP version 13"

# Bad arguments.
refuses "no command" 64 "give a command"
refuses "unknown command" 64 "no command 'walk'" walk
refuses "run: nothing to run" 64 "give either --kernel or --flat" run
refuses "run: two things to run" 64 "give either" run --kernel a --flat b --mode real
refuses "run: --flat without --mode" 64 "go together" run --flat a
refuses "run: --mode without --flat" 64 "go together" run --kernel a --mode real
refuses "run: unknown mode" 64 "none of real" run --flat a --mode virtual
refuses "run: --initrd with --flat" 64 "need --kernel" run --flat a --mode real --initrd b
refuses "run: stray argument" 64 "takes no argument 'b'" run --kernel a b
refuses "run: unknown option" 64 "unrecognized" run --frobnicate
for size in 512 512K M -1G 1M 1025G 99999999999999999999G 512MB ''; do
	refuses "run: --mem '$size'" 64 "--mem $size is" run --kernel a --mem "$size"
done
for cpus in 0 256 -1 abc 4x '' 99999999999999999999; do
	refuses "run: --cpus '$cpus'" 64 "--cpus $cpus is" run --kernel a --cpus "$cpus"
done
refuses "info: stray argument" 64 "takes no argument" info now
for command in "" run info; do
	# shellcheck disable=SC2086 # an empty command is no argument
	"$launcher" $command --help >"$tmp/out" 2>"$tmp/err" &&
		grep -q "^usage: minikvm" "$tmp/out" && ! [ -s "$tmp/err" ]
	result $? "--help of '$command'"
done

# Devices that are none.
refuses "missing device" 69 "/dev/none: No such file" run --device /dev/none --flat a --mode real
refuses "device without the ABI" 69 "does not serve" run --device /dev/null --flat a --mode real
"$launcher" info --device /dev/none >"$tmp/out" 2>"$tmp/err"
[ $? = 69 ] && grep -q "/dev/none: not there" "$tmp/out"
result $? "info: missing device"
"$launcher" info --device "$device" >"$tmp/out" 2>"$tmp/err" &&
	grep -q "API version 12" "$tmp/out" && grep -q "guests can run" "$tmp/out"
result $? "info: the device"

# Files that are no images.
run="run --device $device --mem 64M"
# shellcheck disable=SC2086 # $run is several words throughout
{
	refuses "missing kernel" 66 "No such file" $run --mem 128M --kernel "$tmp/none"
	refuses "missing image" 66 "No such file" $run --flat "$tmp/none" --mode long
	refuses "directory as kernel" 66 "not a regular file" $run --kernel "$tmp"
	: >"$tmp/empty"
	refuses "empty kernel" 66 "is empty" $run --kernel "$tmp/empty"
	printf 'MZ' >"$tmp/short"
	refuses "two bytes as kernel" 66 "no Linux kernel" $run --kernel "$tmp/short"
	refuses "script as kernel" 66 "no Linux kernel" $run --kernel "$0"
	printf '\177ELF' >"$tmp/elf"
	refuses "four bytes of ELF as kernel" 66 "truncated" $run --kernel "$tmp/elf"
	refuses "program as kernel" 66 "user space" $run --kernel /proc/self/exe
	truncate -s 1000000 "$tmp/large"
	refuses "image too large for real mode" 66 "too large" $run --flat "$tmp/large" --mode real
	truncate -s 8000000 "$tmp/large"
	refuses "image larger than memory" 64 "memory too small" $run --mem 4M --flat "$tmp/large" --mode long
}

# Disks that are none.
# shellcheck disable=SC2086
{
	run="$run --kernel $tmp/none"
	refuses "missing disk" 66 "No such file" $run --disk "$tmp/none"
	refuses "directory as disk" 66 "disk $tmp" $run --disk "$tmp"
	refuses "directory as read-only disk" 66 "neither a regular file" $run --disk "$tmp,ro"
	refuses "empty disk" 66 "is empty" $run --disk "$tmp/empty"
	refuses "disk of two bytes" 66 "no multiple of 512" $run --disk "$tmp/short"
	refuses "no disk by name" 66 "No such file" $run --disk ,ro
	refuses "two disks" 64 "given once" $run --disk a --disk b
	refuses "disk for a flat image" 64 "need --kernel" run --flat a --mode real --disk b
	run="run --device $device --mem 64M"
}

for kernel in bzImage vmlinux; do
	if ! [ -r "$guest/$kernel" ]; then
		skip "$kernel" "no $guest/$kernel"
		continue
	fi
	dd if="$guest/$kernel" of="$tmp/large" bs=1M count=3 2>/dev/null
	# shellcheck disable=SC2086
	{
		refuses "truncated $kernel" 66 "truncated" $run --kernel "$tmp/large"
		refuses "$kernel in little memory" 64 "memory too small" $run --mem 16M --kernel "$guest/$kernel"
		truncate -s 32000000 "$tmp/large"
		refuses "$kernel and large initrd" 64 "memory too small" $run --kernel "$guest/$kernel" --initrd "$tmp/large"
		refuses "$kernel, missing initrd" 66 "No such file" $run --mem 128M --kernel "$guest/$kernel" --initrd "$tmp/none"
		refuses "$kernel, long command line" 64 "command line has" $run --mem 128M --kernel "$guest/$kernel" --append "$(printf %5000s x)"
	}
	rm "$tmp/large"
done

# Each mode: prints '@' + CR0.PE + CR4.PSE/PAE, and one more in 64-bit code.
#	mov eax, cr4; and al, 0x30; mov ebx, eax; mov eax, cr0; and al, 1;
#	or al, bl; add al, 0x40; dec eax; inc eax (in 64-bit mode: inc rax);
#	mov dh, 3; mov dl, 0xf8; out dx, al; hlt
probe='\x0f\x20\xe0\x24\x30\x89\xc3\x0f\x20\xc0\x24\x01\x08\xd8\x04\x40\x48\xff\xc0\xb6\x03\xb2\xf8\xee\xf4'
flat "flat: real mode" real 0 @ "" "$probe"
flat "flat: protected mode" protected 0 A "" "$probe"
flat "flat: 32-bit paging" paged32 0 Q "" "$probe"
flat "flat: PAE" pae 0 a "" "$probe"
flat "flat: long mode" long 0 b "" "$probe"

# mov dx, 0x3f8; mov si, 0x7c0d; mov cx, 5; cld; rep outsb; hlt; "hello"
flat "string output" real 0 hello "" \
	'\xba\xf8\x03\xbe\x0d\x7c\xb9\x05\x00\xfc\xf3\x6e\xf4hello'
# mov al, [0xd0000000]; cmp al, 0xff; jne +1; hlt; mov al, 0xfe; out 0x64, al
flat "unknown memory reads ones" protected 0 "" "" \
	'\xa0\x00\x00\x00\xd0\x3c\xff\x75\x01\xf4\xb0\xfe\xe6\x64'
# in ax, 0xf0; cmp ax, -1; jne +1; hlt; mov al, 0xfe; out 0x64, al
flat "unknown port reads ones" real 0 "" "" \
	'\xe5\xf0\x83\xf8\xff\x75\x01\xf4\xb0\xfe\xe6\x64'
# mov dx, 0x604; mov ax, 5 << 10 | 1 << 13; out dx, ax; mov al, 0xfe; out 0x64, al
flat "power-off by ACPI" real 0 "" "" '\xba\x04\x06\xb8\x00\x34\xef\xb0\xfe\xe6\x64'
# mov al, 0xfe; out 0x64, al; hlt
flat "reset by the 8042" real 1 "" "asked for a reset" '\xb0\xfe\xe6\x64\xf4'
# mov dx, 0xcf9; mov al, 6; out dx, al; hlt
flat "reset by port 0xcf9" real 1 "" "asked for a reset" '\xba\xf9\x0c\xb0\x06\xee\xf4'
# lidt [0x7c06], which is zero; int3
flat "triple fault" real 2 "" "triple fault" '\x0f\x01\x1e\x06\x7c\xcc\0\0\0\0\0\0'
grep -q "^rip " "$tmp/err" && grep -q "^cr0 " "$tmp/err" && grep -q "^code at rip:" "$tmp/err"
result $? "triple fault: registers and code"
# mov al, 0x23; out 0x70, al; mov al, 0x5a; out 0x71, al; mov al, 0;
# in al, 0x71; mov dx, 0x3f8; out dx, al; hlt
flat "CMOS remembers" real 0 Z "" \
	'\xb0\x23\xe6\x70\xb0\x5a\xe6\x71\xb0\x00\xe4\x71\xba\xf8\x03\xee\xf4'

# Several processors: any of them ends the machine. The first writes code for the
# second to 0x8000 and sends INIT and SIPI to all others: mov [0x8000], CODE;
# mov [0x8004], CODE; then to the local APIC spurious vector, ICR twice; hlt; jmp -3
smp_image() {	# CODE (8 bytes, a blank in the middle)
	image "\xc7\x05\x00\x80\x00\x00${1%% *}\xc7\x05\x04\x80\x00\x00${1##* }\
\xc7\x05\xf0\x00\xe0\xfe\xff\x01\x00\x00\xc7\x05\x00\x03\xe0\xfe\x00\x45\x0c\x00\
\xc7\x05\x00\x03\xe0\xfe\x08\x46\x0c\x00\xf4\xeb\xfd"
}
smp() {	# NAME STATUS ERROR CODE
	smp_image "$4"
	expect "$1" "$2" "" "$3" run --device "$device" --mem 8M --cpus 2 \
		--flat "$tmp/image" --mode protected
}
# shellcheck disable=SC2086
if "$launcher" run --device "$device" --mem 8M --cpus 2 --flat "$tmp/none" --mode real 2>&1 |
		grep -q "is more than"; then
	skip "several processors" "$device runs one only"
else
	# mov dx, 0x604; mov ax, 5 << 10 | 1 << 13; out dx, ax; hlt
	smp "the second vCPU powers off" 0 "" '\xba\x04\x06\xb8 \x00\x34\xef\xf4'
	# mov al, 0xfe; out 0x64, al; hlt
	smp "the second vCPU resets" 1 "asked for a reset" '\xb0\xfe\xe6\x64 \xf4\xf4\xf4\xf4'
	# lidt [0x10], which is zero; int3
	smp "the second vCPU crashes" 2 "crashed on vCPU 1: triple fault" \
		'\x0f\x01\x1e\x10 \x00\xcc\xf4\xf4'

	# Signals while one vCPU halts and the other exits all the time: in al, 0x80;
	# jmp -4
	smp_image '\xe4\x80\xeb\xfc \xf4\xf4\xf4\xf4'
	for signal in TERM:143 KILL:137; do
		before=$(cat /sys/module/*/refcnt)
		"$launcher" run --device "$device" --mem 8M --cpus 2 --flat "$tmp/image" \
			--mode protected >"$tmp/out" 2>"$tmp/err" </dev/null &
		pid=$!
		until grep -q "^Threads:.3" "/proc/$pid/status" 2>/dev/null; do
			kill -0 $pid 2>/dev/null || break
		done
		kill -"${signal%:*}" $pid
		wait $pid
		[ $? = "${signal#*:}" ]
		result $? "several vCPUs: SIG${signal%:*}"
		settled "$before"
		result $? "several vCPUs: SIG${signal%:*} leaves no reference to a module"
	done
fi

# Input waits until the guest listens, however long that takes.
# mov dx, 0x3fc; mov al, 8; out dx, al; mov dl, 0xf9; mov al, 1; out dx, al;
# mov dl, 0xfd; in al, dx; test al, 1; je -5; mov dl, 0xf8; in al, dx;
# out dx, al; hlt
image '\xba\xfc\x03\xb0\x08\xee\xb2\xf9\xb0\x01\xee\xb2\xfd\xec\xa8\x01\x74\xfb\xb2\xf8\xec\xee\xf4'
printf 'k' | timeout 60 "$launcher" run --device "$device" --flat "$tmp/image" --mode real \
	>"$tmp/out" 2>"$tmp/err" && [ "$(cat "$tmp/out")" = k ]
result $? "console input"

# Signals end it, with a status that tells which. The guest never ends, but exits
# all the time, so nobody waits long for the CPU: in al, 0x80; jmp -4
image '\xe4\x80\xeb\xfc'
for signal in TERM:143 HUP:129; do
	"$launcher" run --device "$device" --flat "$tmp/image" --mode real \
		>"$tmp/out" 2>"$tmp/err" </dev/null &
	pid=$!
	until grep -q "^SigBlk:.*[1-9a-f]" "/proc/$pid/status" 2>/dev/null; do
		kill -0 $pid 2>/dev/null || break
	done
	kill -"${signal%:*}" $pid
	wait $pid
	[ $? = "${signal#*:}" ]
	result $? "SIG${signal%:*}"
done

# A field of /proc/$pid/FILE, without another program: those are dear in Bochs.
proc_value() {	# FILE FIELD
	while read -r field value _; do
		if [ "$field" = "$2:" ]; then
			echo "$value"
			return
		fi
	done <"/proc/$pid/$1"
}

# A terminal that takes no more holds up neither the guest nor its end: the pipe
# fills up, and nobody reads. A short write takes a whole page of it, so it may be
# full with half of its 64 KiB. mov dx, 0x3f8; cld; xor si, si; mov cx, -1;
# rep outsb; jmp -9
image '\xba\xf8\x03\xfc\x31\xf6\xb9\xff\xff\xf3\x6e\xeb\xf7'
mkfifo "$tmp/pipe"
exec 3<>"$tmp/pipe"
"$launcher" run --device "$device" --mem 4M --flat "$tmp/image" --mode real --stats \
	>"$tmp/pipe" 2>"$tmp/err" </dev/null &
pid=$!
tries=0
last=0
until [ "$last" -ge 32768 ] && [ "$(proc_value io wchar)" = "$last" ] || [ $tries -ge 500 ]; do
	last=$(proc_value io wchar)
	tries=$((tries + 1))
done
kill -TERM $pid
# A process that ended is a zombie until it is waited for.
tries=0
until [ "$(proc_value status State)" = Z ] || [ $tries -ge 500 ]; do
	tries=$((tries + 1))
done
kill -KILL $pid 2>/dev/null
wait $pid
[ $? = 143 ]
result $? "a full pipe as the terminal: SIGTERM"
exec 3>&-

echo "1..$nr"
[ "$failed" = 0 ]
