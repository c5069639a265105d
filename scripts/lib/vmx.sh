# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The vmx machine: Bochs, whose CPU models implement VT-x, started from a raw disk
# by our own loader (boot/boot.S).
# Needs the variables of lib/machine.sh.

# What Bochs executes in one second of its own time, in millions, which is then its
# TSC's rate. Left to itself, L1 believes CPUID's: 3500 MHz, and 24 MHz for the APIC's
# timer. That timer then fires after a 144th of the time that is left, again and again,
# a thousand times for each tick; a busy machine does little else.
vmx_mhz=100

# Half of an unhelped boot are self-tests of cryptography and tables that no test uses.
# What Bochs says of XSAVE's sizes Linux finds inconsistent. It does without, then, but
# not wholly: what it allocates for a guest's registers is too small, as KASAN sees.
vmx_cmdline="console=ttyS0,115200 quiet panic=-1 nokaslr mitigations=off cryptomgr.notests=1 \
initcall_blacklist=trace_eval_init,load_system_certificate_list log_buf_len=4M \
tsc_early_khz=${vmx_mhz}000 noxsave"

# The disk is read in chunks of 256 sectors.
chunk=$((256 * 512))
chunks() { echo $((($(stat -c %s "$1") + chunk - 1) / chunk)); }
pad() { truncate -s "%$chunk" "$1"; }

vmx_build()
{
	local disk=$work/disk
	cat "${layers[@]}" >"$work/initrd"
	# A grace period is several ticks, and the debug kernel's take all of its time there.
	[ "$series" != debug ] || append="rcupdate.rcu_expedited=1 $append"
	echo -n "$vmx_cmdline $append" >"$work/cmdline"
	{
		gcc -c -o "$work/boot.o" "$TOP/scripts/boot/boot.S" \
			-DKERNEL_CHUNKS="$(chunks "$kernel/vmlinux.bin")" \
			-DKERNEL_ENTRY="$(readelf -h "$kernel/vmlinux" | sed -n 's/.*Entry point address: *//p')" \
			-DINITRD_CHUNKS="$(chunks "$work/initrd")" \
			-DINITRD_SIZE="$(stat -c %s "$work/initrd")" \
			-DVMLINUZ="\"$kernel/vmlinuz\"" -DCMDLINE="\"$work/cmdline\"" &&
		ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o "$disk" "$work/boot.o"
	} || die "the boot loader does not build"
	pad "$disk"
	cat "$kernel/vmlinux.bin" >>"$disk"
	pad "$disk"
	cat "$work/initrd" >>"$disk"
	pad "$disk"
	rm "$work/initrd"
	rm -f "$disk.lock"	# of a Bochs that was killed; the next one would not open the disk
}

# Write the configuration; $1 says where the serial port goes.
vmx_config()
{
	# The root may take half of it.
	: "${mem:=$((public ? 1024 : 768))}"
	cat >"$work/bochsrc" <<-END
	display_library: term
	romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
	vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
	memory: guest=$mem, host=$mem
	cpu: model=${model:-corei7_skylake_x}, count=$cpus, ips=${vmx_mhz}000000, reset_on_triple_fault=0
	clock: sync=none
	boot: disk
	ata0-master: type=disk, path="$work/disk", mode=flat
	com1: enabled=1, $1
	plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1
	port_e9_hack: enabled=1
	log: $work/bochs.log
	panic: action=fatal
	error: action=report
	END
	echo c >"$work/go"
}

# Bochs 2.7 makes two mistakes with virtual interrupts, which a copy of it does not:
# - The IDT-vectoring information about one whose delivery exits is that of some earlier
#   event. VMX_Deliver_Virtual_Interrupt() calls a hook that does nothing; instead of
#   the hook's last argument the copy stores the vector where the exit will look.
# - One that waits for the guest's IF is delivered all the same when an interrupt of the
#   host comes. InterruptAcknowledge() has room around its jump to the delivery: there
#   the copy looks at IF, and exits if it is clear.
vmx_mend()
{
	local dir=$CACHE/bochs-mended
	[ -x "$dir/bochs-bin" ] || {
		mkdir -p "$dir"
		perl -0777 -pe '
			s/\x81\xa3\xb0\x93\0\0\xff\xfd\xff\xff\K\x0f\xb7\x93\x70\x01\0\0(?=\xe8)/
				pack "H*", "4489ab78910000"/e &&
			s/\x48\x89\xdf\xf6\xc4\x02\x0f\x85\K\xd0(?=\0\0\0)/\xcc/ &&
			s/\x0f\x1f\x40\0\x5b\x5d\x41\x5c\xe9\xff\x17\x09\0\x0f\x1f\x80\0\0\0\0/
				pack "H*", "f687f9000000027505e80e170400e8f917090090"/e
			or die "not the Bochs whose mistakes are known\n"
		' /usr/bin/bochs-bin >"$dir/new" && chmod +x "$dir/new" && mv "$dir/new" "$dir/bochs-bin"
	} || die "no virtual interrupts in this Bochs; without --apicv it can be used"
	PATH=$dir:$PATH
}

# Its text display is a pseudo-terminal that it opens itself. Who does not read from the
# other end makes Bochs stand still for good, some 70,000 bytes later.
vmx_read_screen()
{
	local pts=''
	while [ -z "$pts" ]; do
		sleep 0.2
		pts=$(sed -n 's/.*Bochs connected to screen "\([^"]*\)".*/\1/p' "$work/screen")
	done
	stty -F "$pts" raw -echo
	cat "$pts" >/dev/null 2>&1 || true	# an error is the end
}

# Debian's Bochs has the debugger built in, which waits for "c" at the start, and
# wants a terminal, too.
vmx_bochs()
{
	local keyboard=$work/debugger reader
	[ -z "$apicv" ] || vmx_mend
	rm -f "$keyboard"
	mkfifo "$keyboard"
	: >"$work/screen"
	vmx_read_screen &
	reader=$!
	machine_emulate env TERM=xterm \
		script -q -e -c "bochs -q -f $work/bochsrc -rc $work/go" /dev/null \
		>"$work/screen" 2>&1 || true
	# Where Bochs did not come as far as that, nobody opens the screen.
	kill "$reader" 2>/dev/null || true
}

# Where a machine that stands still is, and whether time still passes there: by Bochs's
# debugger, which an interrupt starts. Between two looks it runs for a while and
# tells of each external interrupt.
vmx_explain()
{
	local seen pid
	seen=$(stat -c %s "$work/screen")
	# Where Bochs itself is, should it not answer; gdb is no package that we ask for.
	pid=$(pgrep -f "bochs-bin .*-f $work/bochsrc" | tail -n 1)
	if command -v gdb >/dev/null; then
		timeout 30 gdb -p "$pid" -batch -ex 'thread apply all bt 12' 2>/dev/null |
			grep -aE '^(Thread|#)'
	fi
	pkill -INT -f "bochs-bin .*-f $work/bochsrc" || return
	sleep 2
	printf '%s\n' r sreg creg print-stack "u /8" "show extint" "sb 200000000" c >"$work/debugger"
	sleep 25
	printf '%s\n' r creg print-stack >"$work/debugger"
	sleep 2
	tail -c "+$seen" "$work/screen" | tr -d '\r' | sed 's/\x1b[^a-zA-Z]*[a-zA-Z]//g' | tail -n 150
}

vmx_name() { bochs --help cpu 2>&1 | sed -n 's/.*Bochs x86 Emulator \(.*\)/Bochs \1/p'; }

# Bochs ends with status 1 at a power-off, so its status says nothing.
vmx_start()
{
	rm -f "$work/console"	# of a run that hung
	mkfifo "$work/console"
	vmx_config "mode=file, dev=$work/console"
	cat "$work/console" &
	vmx_bochs || true
	# If Bochs never opened its end, this ends the wait of cat.
	: <>"$work/console"
	wait
	grep -E '^[0-9]+p' "$work/bochs.log" >&2 || true
}

vmx_shell()
{
	vmx_config "mode=term, dev=$(tty)"
	vmx_bochs || true
	stty sane
}
