# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The svm machine: QEMU's own CPU (TCG), which implements SVM with nested paging.
# Needs the variables of lib/machine.sh.

svm_name()
{
	find_qemu
	"${qemu[@]}" --version | sed -n 's/.*version \([^ ]*\).*/QEMU \1/p'
}

# One L1 CPU unless asked otherwise: with two, TCG hangs when a guest has several.
svm_build()
{
	local accel=tcg,thread=single args=()
	cat "${layers[@]}" >"$work/initrd"
	if [ -n "$icount" ]; then
		args=(-icount "shift=0,sleep=off" -rtc "base=2024-01-01,clock=vm" -seed 1)
		append="nokaslr $append"
	elif [ "$cpus" -gt 1 ] && [ -d "$CACHE/qemu" ]; then
		accel=tcg,thread=multi
	fi
	# One of Linux's own tests maps 2 GiB.
	: "${mem:=$((public ? 3072 : 2048))}"
	find_qemu
	command=("${qemu[@]}" -accel "$accel" -cpu "${model:-EPYC},+svm,check=off"
		-smp "$cpus" -m "$mem" -display none -no-reboot -nodefaults
		-kernel "$kernel/vmlinuz" -initrd "$work/initrd"
		-append "console=ttyS0,115200 panic=-1 log_buf_len=4M $append"
		${args[@]+"${args[@]}"})
}

svm_start()
{
	rm -f "$work"/monitor.{in,out}
	mkfifo "$work"/monitor.{in,out}
	machine_emulate "${command[@]}" -serial stdio \
		-chardev "pipe,id=monitor,path=$work/monitor" -mon monitor
}

# Where the CPUs of a machine that stands still are, twice, by QEMU's monitor.
svm_explain()
{
	local line
	exec 7<>"$work/monitor.out"
	echo "info registers -a" >"$work/monitor.in"
	sleep 3
	echo "info registers -a" >"$work/monitor.in"
	while IFS= read -r -t 3 line <&7; do
		case $line in
		*CPU#* | *RIP=* | *RSP=* | *CR2=* | *HLT=*) echo "${line%$'\r'}" ;;
		esac
	done
	exec 7<&-
}

svm_shell()
{
	say "Ctrl-A x ends the machine"
	"${command[@]}" -serial mon:stdio
}
