#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The module as a module: when it holds the hardware and when not, beside stock
# KVM and alone, while CPUs come and go and the machine sleeps.
#
# usage: module.sh [DEVICE]
#
# It loads and unloads minikvm and stock KVM, plugs CPUs and suspends the machine.
# So it is for a test machine (scripts/testvm), whose "load" and "unload" it uses.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/tap.sh"
stock=/dev/kvm
cpu1=/sys/devices/system/cpu/cpu1/online
alarm=/sys/class/rtc/rtc0/wakealarm

[ -d /stock ] || skip_all "for test machines only: it unloads KVM and suspends the machine"

guests=
trap 'kill -9 $guests 2>/dev/null; rm -rf "$tmp"' EXIT

# Dots, and an exclamation mark where the TSC went back.
#	xor edi, edi
# 1:	rdtsc; shrd eax, edx, 16; mov dx, 0x3f8; cmp eax, edi; mov edi, eax
#	mov al, '.'; jae 2f; mov al, '!'
# 2:	out dx, al; xor cx, cx; loop $; jmp 1b
printf '\146\061\377\017\061\146\017\254\320\020\272\370\003\146\071\370\146\211\307' >"$tmp/tick"
printf '\260.s\002\260!\356\061\311\342\376\353\343' >>"$tmp/tick"
# hlt
printf '\364' >"$tmp/halt"

# A whole life: VM, one entry, end.
runs() {	# DEVICE [COMMAND...]: the launcher is started by the command
	local on=$1
	shift
	timeout 60 "$@" "$launcher" run --device "$on" --mem 4M --flat "$tmp/halt" --mode real
}

# A guest that writes dots to $tmp/NAME.dots, until it is killed. Its pid is in $guest.
start() {	# NAME DEVICE [COMMAND...]
	local name=$1 on=$2
	shift 2
	"$@" "$launcher" run --device "$on" --mem 4M --flat "$tmp/tick" --mode real \
		>"$tmp/$name.dots" 2>"$tmp/$name.err" </dev/null &
	guest=$!
	guests="$guests $guest"
	advances "$name"
}

dots() { stat -c %s "$tmp/$1.dots"; }

steady() { [ -s "$tmp/$1.dots" ] && ! grep -qF ! "$tmp/$1.dots"; }	# NAME: its TSC never went back

# By turns, not by seconds: how much a guest does in one depends on the machine.
advances() {	# NAME: its guest comes on
	local before
	before=$(dots "$1")
	for _ in $(seq 3000); do
		[ "$(dots "$1")" -lt $((before + 3)) ] || return 0
	done
	echo "the guest stands still, with $before dots"
	return 1
}

stop() {	# PID: the hardest way there is
	kill -9 "$1"
	wait "$1"
	[ $? = 137 ]
}

loaded() { grep -q "^$1 " /proc/modules; }
users() { cat /sys/module/minikvm/refcnt; }

# Stock KVM from 6.12 on gives EIO for a CPU that somebody else holds.
refused() {	# COMMAND...: it fails, because somebody is there
	if "$@" >"$tmp/refused" 2>&1; then
		echo "it was not refused"
		return 1
	fi
	cat "$tmp/refused"
	grep -qiE 'busy|holds|unavailable|Input/output' "$tmp/refused"
}

# minikvm cannot have the hardware, and says what to do.
minikvm_refused() {
	dmesg -c >/dev/null
	refused runs "$device" && dmesg | grep "^.*minikvm: CPU" | tee "$tmp/log" &&
		grep -q 'modprobe -r kvm_' "$tmp/log" &&
		grep -q 'kvm.enable_virt_at_load=0' "$tmp/log"
}

# Stock KVM as it takes the hardware with its first VM. From 6.12 on that is an option.
load_stock() {
	[ ! -e /stock/irqbypass.ko ] || load irqbypass || return
	loaded kvm || insmod /stock/kvm.ko enable_virt_at_load=0 || return
	load kvm
}

# --- rmmod ---

alone() {
	result "a VM lives" start one "$device"
	one=$guest
	result "rmmod is refused while a VM lives" refused rmmod minikvm
	result "a refused rmmod leaves the guest alone" advances one
	result "the VMM is killed while the guest runs" stop "$one"
	result "nothing of it is left" [ "$(users)" = 0 ]
	exec 9<"$device"
	result "rmmod is refused while the device is open" refused rmmod minikvm
	exec 9<&-
	result "rmmod works when all is closed" rmmod minikvm
	result "the device went with it" [ ! -e "$device" ]
	result "the module loads again" load minikvm
	result "a guest runs" runs "$device"
}

# --- Stock KVM comes second ---

stock_second() {
	result "a VM of minikvm lives" start one "$device"
	one=$guest
	result "stock KVM loads beside it" load_stock
	result "stock KVM cannot make a VM" refused runs $stock
	result "the guest of minikvm did not notice" advances one
	result "minikvm can make another VM" runs "$device"
	result "the first VM is still there" advances one
	result "minikvm's last VM goes" stop "$one"
	for _ in 1 2; do
		result "now stock KVM runs a guest" runs $stock
		result "then minikvm does" runs "$device"
	done

	result "a VM of stock KVM lives" start two $stock
	two=$guest
	result "minikvm is refused, and names the remedy" minikvm_refused
	result "the guest of stock KVM did not notice" advances two
	result "stock KVM's last VM goes" stop "$two"
	result "minikvm runs a guest again" runs "$device"
}

# --- Stock KVM comes first ---

stock_first() {
	result "minikvm unloads beside stock KVM" rmmod minikvm
	result "a VM of stock KVM lives, minikvm is not loaded" start two $stock
	two=$guest
	result "minikvm loads and takes nothing" load minikvm
	result "the guest of stock KVM did not notice that" advances two
	result "minikvm is refused, and says why" minikvm_refused
	result "nor did it notice this" advances two
	result "minikvm unloads while stock KVM has a VM" rmmod minikvm
	result "and loads again" load minikvm
	result "stock KVM's VM goes" stop "$two"
	result "minikvm takes the hardware" start one "$device"
	one=$guest
	result "stock KVM unloads meanwhile" unload kvm
	result "which takes nothing from minikvm" advances one
	result "the end of minikvm's VM" stop "$one"
}

# --- Stock KVM that takes the hardware when it loads ---

stock_greedy() {
	local name="stock KVM that takes the hardware at load"
	load kvm >"$tmp/out" 2>&1
	if ! grep -q Y /sys/module/kvm/parameters/enable_virt_at_load 2>/dev/null; then
		unload kvm
		skip "$name" "this kernel's does not"
		return
	fi
	result "$name has it" runs $stock
	result "minikvm is refused, without any VM there" minikvm_refused
	result "stock KVM unloads" unload kvm
	result "minikvm takes the hardware" start one "$device"
	one=$guest
	result "stock KVM cannot load" refused load kvm
	unload kvm
	result "minikvm's guest did not notice" advances one
	result "it ends" stop "$one"
	result "stock KVM loads" load kvm
	result "and unloads" unload kvm
}

# --- CPUs ---

plug() { echo "$1" >$cpu1; }

# taskset in L1 knows threads by their number alone.
move() {	# PID MASK: all its threads
	local task
	for task in "/proc/$1/task"/*; do
		taskset -p "$2" "${task##*/}" || return
	done
}

wander() {
	local turn
	for turn in 1 2 3 4; do
		move "$one" $((turn % 2 + 1)) || return
		advances one || return
	done
	move "$one" 3
}

# The guest is on the CPU that goes.
replug() {
	for _ in 1 2; do
		move "$one" 2 && advances one && plug 0 && advances one &&
			plug 1 && advances one || return
	done
}

cpus() {
	if [ ! -e $cpu1 ]; then
		skip "CPUs come and go" "this machine has only one"
		return
	fi
	result "a guest on CPU 1" start one "$device" taskset 2
	one=$guest
	result "it moves between CPUs" wander
	result "it goes on when its CPU goes and comes" replug
	result "a CPU that came can run guests" runs "$device" taskset 2
	result "the guest ends" stop "$one"

	result "CPU 1 goes" plug 0
	result "the first VM comes without it" start one "$device"
	one=$guest
	result "CPU 1 comes" plug 1
	result "another VM starts on it" runs "$device" taskset 2
	result "the guest moves there" move "$one" 2
	result "and goes on" advances one
	result "its CPU goes" plug 0
	result "it goes on elsewhere" advances one
	result "its TSC never went back" steady one
	result "it ends" stop "$one"
	result "CPU 1 comes back, with no VM there" plug 1
	result "stock KVM finds all CPUs free" load_stock
	result "and runs on the first" runs $stock taskset 1
	result "and on the second" runs $stock taskset 2
	result "stock KVM goes" unload kvm
	result "minikvm runs on the second" runs "$device" taskset 2
}

# --- Sleep ---

# Until the clock rings. What is on has to be switched off and on again around it.
sleep_deeply() {
	echo 0 >$alarm && echo +2 >$alarm && echo mem >/sys/power/state
}

sleeps() {
	if ! grep -qF '[deep]' /sys/power/mem_sleep 2>/dev/null || [ ! -e $alarm ]; then
		skip "the machine sleeps" "it cannot suspend to RAM, or nothing would wake it"
		return
	fi
	# Bochs 2.7 wakes up once or twice and then no more, KVM or not.
	if grep -qw vmx /proc/cpuinfo; then
		skip "the machine sleeps" "the emulator of VT-x does not always wake again"
		return
	fi
	result "a guest before the machine sleeps" start one "$device"
	one=$guest
	result "the machine sleeps and wakes" sleep_deeply
	result "the guest goes on" advances one
	result "its TSC did not go back" steady one
	result "another VM starts" runs "$device"
	result "the guest ends" stop "$one"
	result "the machine sleeps without a VM" sleep_deeply
	result "afterwards the hardware is free" load_stock
	result "stock KVM uses it" runs $stock
	result "stock KVM unloads" unload kvm
	result "minikvm uses it" runs "$device"
}

echo "TAP version 13"
alone
stock_second
stock_first
stock_greedy
cpus
sleeps
tap_end
