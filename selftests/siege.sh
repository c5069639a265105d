#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# The module under siege: somebody tries to unload it all the time while VMMs
# start and are killed, CPUs come and go under several guests, and VMMs or the
# whole machine freeze. module.sh has each of these once and in order.
#
# usage: siege.sh [DEVICE]
#
# MINIKVM_THOROUGH=1 goes on ten times as long; MINIKVM_SEED=N repeats its choices.
# For test machines (scripts/testvm), whose "load" and "unload" it uses.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/tap.sh"
cpu1=/sys/devices/system/cpu/cpu1/online

[ -d /stock ] || skip_all "for test machines only: it unloads modules and suspends the machine"

guests=
trap 'rm -f "$tmp/siege"; kill -9 $guests 2>/dev/null; rm -rf "$tmp"' EXIT
seed=${MINIKVM_SEED:-$$}
# shellcheck disable=SC3028,SC2034 # busybox has it, and lets it be seeded
RANDOM=$seed
times=1
[ -z "$MINIKVM_THOROUGH" ] || times=10
# The emulator of VT-x takes seconds to load a module.
vmms=20
! grep -qw vmx /proc/cpuinfo || vmms=8
exec 3>&1	# to show that it goes on

# Dots, for ever: mov dx, 0x3f8; mov al, '.'; out dx, al; mov cx, 4096; loop $; jmp
printf '\272\370\003\260.\356\271\000\020\342\376\353\366' >"$tmp/dots"
printf '\364' >"$tmp/halt"

start() {	# NAME [COMMAND...]
	local name=$1
	shift
	"$@" "$launcher" run --device "$device" --mem 4M --flat "$tmp/dots" --mode real \
		>"$tmp/$name" 2>"$tmp/$name.err" </dev/null &
	guests="$guests $!"
}

# By turns, not by seconds: see module.sh.
advances() {	# NAME...: each guest comes on
	local name before
	for name; do
		before=$(stat -c %s "$tmp/$name")
		for _ in $(seq 3000); do
			[ "$(stat -c %s "$tmp/$name")" -le "$before" ] || continue 2
		done
		echo "guest $name stands still, with $before dots"
		cat "$tmp/$name.err"
		return 1
	done
}

stop_all() {
	local pid
	for pid in $guests; do
		kill -9 "$pid"
		wait "$pid"
		[ $? = 137 ] || return
	done
	guests=
}

runs() {
	timeout 60 "$launcher" run --device "$device" --mem 4M --flat "$tmp/halt" --mode real
}

unused() { [ "$(cat /sys/module/minikvm/refcnt)" = 0 ]; }

# --- rmmod ---

# Some turns of other processes; sleeping costs more.
linger() {	# TURNS
	for _ in $(seq "$1"); do
		cat /proc/loadavg >/dev/null
	done
}

# In the background, until the file goes: out when nobody holds it, and in again; at
# least once.
besiege() {
	local out=0 held=0
	while [ -e "$tmp/siege" ] || [ $out = 0 ]; do
		if rmmod minikvm 2>/dev/null; then
			out=$((out + 1))
			load minikvm || break
			linger 10
		else
			held=$((held + 1))
		fi
	done
	echo "$out $held" >"$tmp/besieged"
}

vmms_under_siege() {
	local i=0 pid killed=0 lived=0 out held status
	# A machine that loads slowly has often no device for them: then some more.
	while [ $i -lt $((vmms * times)) ] || { [ $killed = 0 ] && [ $i -lt 60 ]; }; do
		i=$((i + 1))
		echo "# VMM $i" >&3
		if [ $((i % 4)) = 0 ]; then
			# A whole life. With no device there at that moment it is refused.
			runs
			status=$?
			case $status in
			0) lived=$((lived + 1)) ;;
			69) ;;
			*) echo "a VMM ended with $status"; return 1 ;;
			esac
			continue
		fi
		"$launcher" run --device "$device" --mem 4M --flat "$tmp/dots" --mode real \
			>/dev/null 2>&1 </dev/null &
		pid=$!
		# shellcheck disable=SC3028
		linger $((RANDOM % 8))
		kill -9 $pid 2>/dev/null
		wait $pid
		[ $? != 137 ] || killed=$((killed + 1))
	done
	rm "$tmp/siege"
	wait "$besieger"
	read -r out held <"$tmp/besieged"
	echo "figure: VMMs killed: $killed, ended: $lived; unloaded $out times, refused $held times"
	[ "$killed" -gt 0 ] && [ "$out" -gt 0 ]
}

rmmod_siege() {
	touch "$tmp/siege"
	besiege &
	besieger=$!
	result "VMMs start and are killed while the module is unloaded and loaded" vmms_under_siege
	rm -f "$tmp/siege"
	wait $besieger
	load minikvm
	result "nothing of them is left" unused
	result "a guest runs" runs

	start one
	result "a guest lives" advances one
	result "a hundred attempts to unload are refused" refused_often
	result "the guest goes on" advances one
	result "it ends" stop_all
	result "the module unloads" rmmod minikvm
	result "and loads" load minikvm
}

refused_often() {
	for _ in $(seq 100); do
		! rmmod minikvm 2>/dev/null || return
	done
}

# --- CPUs ---

replug() {
	local i
	for i in $(seq $((4 * times))); do
		echo 0 >$cpu1 && advances one two three && echo 1 >$cpu1 &&
			{ [ $((i % 2)) = 0 ] || advances one two three; } || return
		taskset -p 2 "${guests##* }" >/dev/null
	done
	echo "figure: CPU 1 went and came $i times"
}

# One VM's end, another's beginning, and a CPU that goes at the same time.
replug_in_a_rush() {
	local i pid
	for i in $(seq $((4 * times))); do
		start "rush$i"
		pid=$!
		echo 0 >$cpu1 || return
		kill -9 $pid
		echo 1 >$cpu1 || return
		wait $pid
	done
	guests=
	runs
}

cpus() {
	if [ ! -e $cpu1 ]; then
		skip "CPUs come and go under guests" "this machine has only one"
		return
	fi
	start one
	start two
	start three taskset 2
	result "three guests live" advances one two three
	result "a CPU goes and comes under three guests" replug
	result "all go on" advances one two three
	result "they end" stop_all
	result "a CPU goes and comes while VMs begin and end" replug_in_a_rush
	result "nothing is left" unused
}

# --- Frozen ---

# To the end of what the kernel can test by itself, and back.
sleep_lightly() {
	echo platform >/sys/power/pm_test && echo freeze >/sys/power/state
}

# Both guests, by the cgroup's freezer: what is in KVM_RUN has to come out.
freeze_vmms() {
	local before pid
	mkdir -p "$tmp/cgroup"
	mount -t cgroup2 none "$tmp/cgroup" && mkdir -p "$tmp/cgroup/vmms" || return
	for pid in $guests; do
		echo "$pid" >"$tmp/cgroup/vmms/cgroup.procs" || return
	done
	for _ in $(seq $((10 * times))); do
		echo 1 >"$tmp/cgroup/vmms/cgroup.freeze"
		until grep -q "frozen 1" "$tmp/cgroup/vmms/cgroup.events"; do :; done
		before=$(cat "$tmp/one" "$tmp/two" | wc -c)
		runs
		[ "$(cat "$tmp/one" "$tmp/two" | wc -c)" = "$before" ] || return
		echo 0 >"$tmp/cgroup/vmms/cgroup.freeze"
		advances one two || return
	done
	for pid in $guests; do
		echo "$pid" >"$tmp/cgroup/cgroup.procs"
	done
	rmdir "$tmp/cgroup/vmms"
	umount "$tmp/cgroup"
}

freeze() {
	start one
	start two
	result "two guests live" advances one two
	if grep -qw cgroup2 /proc/filesystems; then
		result "they freeze and thaw" freeze_vmms
	else
		skip "they freeze and thaw" "this kernel has no cgroups"
	fi
	# In an emulator nothing wakes a machine that really sleeps like this.
	if [ -e /sys/power/pm_test ] && grep -qw freeze /sys/power/state; then
		echo 0 >/sys/module/suspend/parameters/pm_test_delay
		for _ in 1 2 3; do
			result "the machine is suspended to idle, and wakes" sleep_lightly
			result "the guests go on" advances one two
		done
		echo none >/sys/power/pm_test
	else
		skip "the machine is suspended to idle" "this kernel cannot try it (CONFIG_PM_DEBUG)"
	fi
	result "they end" stop_all
	result "a guest runs" runs
}

echo "TAP version 13"
echo "# MINIKVM_SEED=$seed"
rmmod_siege
cpus
freeze
tap_end
