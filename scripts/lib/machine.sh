# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Run a test machine: put its root together, start the emulator, watch its console.
# Needs lib/common.sh, lib/kernel.sh, lib/root.sh, lib/build.sh.
# Read next: lib/svm.sh and lib/vmx.sh, the two machines.

# How a run is described; scripts set these before machine_run.
machine=svm		# svm or vmx
series=6.1		# kernel series of L1 and of the guest
cpus=1
mem=			# MiB of L1; each machine has its own default
deadline=600		# seconds of wall clock
append=			# added to L1's command line
icount=			# svm: one TSC tick is one instruction
model=			# CPU model of the emulator; each machine has its own default
no_guest=		# leave /guest out
stock=			# leave minikvm.ko out
files=()		# HOST:GUEST pairs to put into L1
log=			# full console log

# Directory of this run, gone at exit.
work=

machine_prepare()
{
	local pair release base
	work=$(mktemp -d "${TMPDIR:-/tmp}/minikvm.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	release=$(kernel_release "$series")
	base=$(base_dir "$release")
	mkdir -p "$work/root"/{bin,selftests}
	[ -n "$stock" ] || build_module "$release" "$work/root"
	build_userspace "$work/root"
	for pair in ${files[@]+"${files[@]}"}; do
		mkdir -p "$work/root/$(dirname "${pair#*:}")"
		cp -rL "${pair%%:*}" "$work/root/${pair#*:}"
	done
	pack "$work/root" >"$work/run.cpio"
	kernel=$(kernel_dir "$release")
	layers=("$base/l1.cpio" "$work/run.cpio")
	[ -n "$no_guest" ] || layers+=("$base/guest.cpio")
	# Each MiB costs Bochs a fifth of a second, and vmlinux boots faster anyway.
	[ -n "$no_guest" ] || [ $machine = vmx ] || layers+=("$base/bzimage.cpio")
}

# Copy the console (stdin) to the log, and to the terminal from L1's "begin" to
# its "status"; leave the status in $work/status, and splats in $work/splats.
watch_console()
{
	local line state=boot
	: >"$work/splats"
	while IFS= read -r line || [ -n "$line" ]; do
		line=${line%$'\r'}
		printf '%s\n' "$line" >&3
		case $line in
		*"minikvm-l1: begin "*)
			state=run
			say "L1 is up after $((SECONDS - started)) s: ${line##*begin }"
			continue ;;
		*"minikvm-l1: splat: "*)
			printf '%s\n' "${line#*splat: }" >>"$work/splats"
			continue ;;
		*"minikvm-l1: status "*)
			echo "${line##*status }" >"$work/status"
			state=end ;;
		esac
		if [ $state = run ]; then printf '%s\n' "$line"; fi
	done 3>"$log"
}

# Run the machine that was described. Returns the status of the command; 124 at the
# deadline; 125 when L1 died or its kernel complained.
machine_run()
{
	local status
	started=$SECONDS
	say "starting $machine (kernel $series, $cpus CPU, deadline $deadline s), log $log"
	rm -f "$work/status"
	"${machine}_start" 2>"$work/emulator" | watch_console
	if [ ! -e "$work/status" ]; then
		status=125
		if ((SECONDS - started >= deadline)); then
			status=124
			say "deadline of $deadline s reached; the console ended with:"
		else
			say "L1 died after $((SECONDS - started)) s; the console ended with:"
		fi
		tail -n 40 "$log" >&2
		cat "$work/emulator" >&2
		return $status
	fi
	status=$(cat "$work/status")
	say "$machine done after $((SECONDS - started)) s, status $status"
	if [ -s "$work/splats" ]; then
		say "the kernel of L1 complained:"
		cat "$work/splats" >&2
		[ "$status" != 0 ] || status=125
	fi
	return "$status"
}
