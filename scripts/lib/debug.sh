# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The debug kernel: Debian's 6.1 source with the kernel's own checkers on (debug.config
# says which), and little else, so that it is built in minutes. In the cache:
#   vmlinuz, vmlinux, vmlinux.bin, modules/	as lib/kernel.sh has them
#   build/					what building a module needs
# Read next: lib/kernel.sh, which hands it out as series "debug".

debug_packages=(flex bison bc libelf-dev linux-source-6.1)

debug_dir() { echo "$CACHE/kernel/debug-$(key_of "$TOP/scripts/debug.config" "$TOP/scripts/lib/debug.sh")"; }

# Only where the kernel has yet to be built.
install_debug_packages()
{
	local packages=("${debug_packages[@]}")
	[ -d "$(debug_dir)" ] || install_packages
}

# How far a long make is, from its short log on stdin.
make_progress()
{
	local line n=0 next=$((SECONDS + 30))
	while IFS= read -r line; do
		n=$((n + 1))
		[[ $line = "  "* ]] || printf '%s\n' "$line" >&2
		if ((SECONDS >= next)); then
			say "debug kernel: $n steps, at ${line##* }"
			next=$((SECONDS + 30))
		fi
	done
}

# Of a source tree and its build, what "make M=" needs, in one directory.
copy_build()
{
	local source=$1 built=$2 out=$3
	mkdir -p "$out"
	(cd "$source" && {
		find . arch/x86 -maxdepth 1 -name 'Makefile*'
		find include scripts arch/x86/include -type f -o -type l
		find arch/x86 -name Kbuild.platforms -o -name Platform
	} | tar -cf - --no-recursion -T -) | tar -xf - -C "$out"
	(cd "$built" && {
		find include scripts arch/x86/include arch/x86/tools -type f
		echo .config
		echo Module.symvers
		[ ! -e tools/objtool/objtool ] || echo tools/objtool/objtool
	} | tar -cf - --no-recursion -T -) | tar -xf - -C "$out"
	rm -f "$out/include/config/auto.conf.cmd"
}

fill_debug_kernel()
{
	local out=$1 source=$1/tmp/source built=$1/tmp/built module
	say "unpacking Linux 6.1 for the debug kernel"
	mkdir -p "$source" "$built"
	tar -xJf /usr/src/linux-source-6.1.tar.xz -C "$source" --strip-components=1
	make -s -C "$source" O="$built" tinyconfig >/dev/null 2>&1
	(cd "$built" && "$source/scripts/kconfig/merge_config.sh" -m -O . .config \
		"$TOP/scripts/debug.config") >/dev/null 2>&1
	make -s -C "$built" olddefconfig >/dev/null 2>&1
	say "building the debug kernel, which takes some ten minutes"
	make -C "$built" -j "$(nproc)" bzImage modules 2>&1 | make_progress
	cp "$built/arch/x86/boot/bzImage" "$out/vmlinuz"
	objcopy --strip-debug "$built/vmlinux" "$out/vmlinux"
	objcopy -O binary "$out/vmlinux" "$out/vmlinux.bin"
	mkdir "$out/modules"
	for module in kvm kvm_amd kvm_intel irqbypass; do
		copy_module "$module" "$built" "$out/modules"
	done
	copy_build "$source" "$built" "$out/build"
	rm -rf "$out/tmp"
}
