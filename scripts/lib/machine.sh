# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Run a test machine: put its root together, start the emulator, watch its console.
# Needs lib/common.sh, lib/kernel.sh, lib/root.sh, lib/build.sh.
# Read next: lib/svm.sh and lib/vmx.sh, the two machines; l1/init, the other end of
# the console.

# How a run is described; scripts set these before machine_prepare.
machine=svm		# svm or vmx
series=6.1		# kernel series of L1 and of the guest
cpus=1
mem=			# MiB of L1; each machine has its own default
deadline=600		# seconds of wall clock
stall=${MINIKVM_STALL-}	# seconds without a line on the console, where that means a hang
append=			# added to L1's command line
icount=			# svm: one TSC tick is one instruction
model=			# CPU model of the emulator; each machine has its own default
no_guest=		# leave /guest out
apicv=			# vmx: a Bochs whose virtual interrupts can be used
bzimage=		# put /guest/bzImage in on vmx, too
stock=			# leave minikvm.ko out
vmm=			# put other VMMs in (lib/vmm.sh)
public=			# put Linux's own KVM selftests in (lib/public.sh)
files=()		# HOST:GUEST pairs to put into L1
log=			# full console log

# What the emulator reads as its stdin, if anything.
keyboard=

# Directory of this run, gone at exit.
work=

# What is done with each line that the command prints.
on_line() { printf '%s\n' "$1"; }

machine_stop()
{
	local pid
	[ -e "$work/pid" ] || return 0
	pid=$(cat "$work/pid")
	rm -f "$work/pid"
	kill "$pid" 2>/dev/null || true
}

machine_cleanup()
{
	machine_stop
	rm -rf "$work"
}

machine_prepare()
{
	local pair release base
	work=$(mktemp -d "${TMPDIR:-/tmp}/minikvm.XXXXXX")
	trap machine_cleanup EXIT
	trap 'exit 130' INT TERM HUP
	release=$(kernel_release "$series")
	kernel=$(kernel_dir "$release")
	base=$(base_dir "$series")
	mkdir -p "$work/root"/{bin,selftests}
	[ -n "$stock" ] || build_module "$release" "$work/root"
	build_userspace "$work/root"
	for pair in ${files[@]+"${files[@]}"}; do
		mkdir -p "$work/root/$(dirname "${pair#*:}")"
		cp -rL "${pair%%:*}" "$work/root/${pair#*:}"
	done
	layers=("$base/l1.cpio" "$work/run.cpio")
	[ -n "$no_guest" ] || layers+=("$base/guest.cpio")
	# Each MiB costs Bochs a fifth of a second, and vmlinux boots faster anyway.
	[ -n "$no_guest" ] || [ "$machine$bzimage" = vmx ] || layers+=("$base/bzimage.cpio")
	[ -z "$vmm" ] || layers+=("$(vmm_layer)")
	[ -z "$public" ] || layers+=("$(public_layer "$series")")
	: "${log:=$CACHE/log/$machine-$series-$(date +%H%M%S)-$$.log}"
	mkdir -p "$(dirname "$log")"
}

# Start the emulator under the deadline, with its pid where machine_stop finds it.
machine_emulate()
{
	ulimit -c 0	# of all its memory
	timeout -k 5 "$deadline" "$@" <>"${keyboard:-/dev/null}" &
	echo $! >"$work/pid"
	wait $! || echo $? >"$work/emulator-status"
}

# By a signal that it raised itself, SIGABRT, SIGSEGV and the like; or that of machine_stop
# did not end it, and SIGKILL had to: its CPU is stuck within one instruction.
emulator_failed()
{
	[ -e "$work/emulator-status" ] || return
	case $(cat "$work/emulator-status") in
	132 | 134 | 135 | 136 | 139) ;;
	137) [ -e "$work/stalled" ] ;;
	*) return 1 ;;
	esac
}

# Copy the console (stdin) to the log, and lines from L1's "begin" to its "status" to
# on_line; leave the status in $work/status, and splats in $work/splats.
watch_console()
{
	local line state=boot more=0
	: >"$work/splats"
	while [ $more = 0 ]; do
		IFS= read -r ${stall:+-t "$stall"} line || more=$?
		[ $more = 0 ] || [ -n "$line" ] || break
		line=${line%$'\r'}
		printf '%s\n' "$line" >&5
		case $line in
		*"minikvm-l1: begin "*)
			state=run
			say "$machine: L1 is up after $((SECONDS - started)) s: ${line##*begin }"
			continue ;;
		*"minikvm-l1: splat: "*)
			printf '%s\n' "${line#*splat: }" >>"$work/splats"
			continue ;;
		*"minikvm-l1: status "*)
			echo "${line##*status }" >"$work/status"
			state=end ;;
		esac
		if [ $state = run ]; then on_line "$line"; fi
	done 5>"$log"
	if [ $more -gt 128 ]; then
		echo "no line on the console for $stall s" >"$work/stalled"
		"${machine}_explain" >"$work/explained" 2>&1 || true
		machine_stop
	fi
}

machine_load()
{
	# Tests ask for the machine where its emulator cannot do what a CPU does.
	[ -z "$1" ] || printf 'export MINIKVM_MACHINE=%s\n%s\n' "$machine" "$1" >"$work/root/cmd"
	pack "$work/root" >"$work/run.cpio"
	"${machine}_build"
}

# A shell in the machine, or command $1, on this terminal.
machine_shell()
{
	touch "$work/root/interactive"
	machine_load "${1-}"
	"${machine}_shell"
}

# Run command $1 in the machine. Returns the status of the command; 124 when it hung or
# the deadline passed; 125 when L1 died or its kernel complained; 126 when the emulator
# was at fault.
machine_run()
{
	local status started=$SECONDS
	machine_load "$1"
	rm -f "$work"/{status,stalled,explained,emulator-status}
	say "$machine: $("${machine}_name"), kernel $series, $cpus CPU, deadline $deadline s, log $log"
	"${machine}_start" 2>"$work/emulator" | watch_console || true
	if [ ! -e "$work/status" ]; then
		status=124
		if emulator_failed; then
			status=126
			say "$machine: the emulator itself failed after $((SECONDS - started)) s; the console ended with:"
		elif [ -e "$work/stalled" ]; then
			say "$machine: $(cat "$work/stalled"); it ended with:"
		elif ((SECONDS - started >= deadline)); then
			say "$machine: deadline of $deadline s reached; the console ended with:"
		else
			status=125
			say "$machine: L1 died after $((SECONDS - started)) s; the console ended with:"
		fi
		tail -n 40 "$log" >&2
		[ ! -e "$work/explained" ] || cat "$work/explained" >&2
		cat "$work/emulator" >&2
		return $status
	fi
	status=$(cat "$work/status")
	say "$machine: done after $((SECONDS - started)) s, status $status"
	if [ -s "$work/splats" ]; then
		say "$machine: the kernel of L1 complained:"
		cat "$work/splats" >&2
		[ "$status" != 0 ] || status=125
	fi
	return "$status"
}
