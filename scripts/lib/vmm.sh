# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Other people's VMMs for L1: each QEMU that Debian has, with its libraries and
# firmware, as a cached layer for the initramfs. In L1 each is a command of its
# own: qemu-7.2, qemu-10.0.
# Needs lib/common.sh, lib/deps.sh, lib/root.sh. Read next: selftests/qemu.sh.

# What a PC without graphics and network needs; the name with a glob at its end.
vmm_firmware=(bios-256k.bin bios-microvm.bin kvmvapic.bin linuxboot_dma.bin pvh.bin
	vgabios-stdvga.bin)

# Command array qemu as find_qemu leaves it, into root $1.
fill_qemu_command()
{
	local root=$1 binary=qemu-system-x86_64 version name word file lib shares=()
	version=$("${qemu[@]}" --version | sed -n 's/.*version \([0-9]*\.[0-9]*\).*/\1/p')
	name=qemu-$version
	mkdir -p "$root"/{bin,vmm/"$name"}
	for word in "${qemu[@]}"; do
		case $word in
		LD_LIBRARY_PATH=*) lib=${word#*=} ;;
		*/qemu-system-x86_64) binary=$word ;;
		/*) shares+=("$word") ;;
		esac
	done
	binary=$(command -v "$binary")
	[ ${#shares[@]} -gt 0 ] || shares=(/usr/share/qemu /usr/share/seabios)
	cp "$binary" "$root/vmm/$name/"
	LD_LIBRARY_PATH=${lib-} ldd "$binary" | grep -o '/[^ ]*' | sort -u |
		while read -r file; do cp -L "$file" "$root/vmm/$name/"; done
	for file in "${vmm_firmware[@]}"; do
		find -L "${shares[@]}" -name "$file" -exec cp -L {} "$root/vmm/$name/" \; -quit
	done
	cat >"$root/bin/$name" <<-END
	#!/bin/sh
	dir=/vmm/$name
	exec \$dir/ld-linux-x86-64.so.2 --library-path \$dir \$dir/qemu-system-x86_64 -L \$dir "\$@"
	END
	chmod 755 "$root/bin/$name"
}

fill_vmm()
{
	local root=$1/root
	find_qemu
	fill_qemu_command "$root"
	if [ "${qemu[0]}" != qemu-system-x86_64 ]; then
		find_qemu /nowhere
		fill_qemu_command "$root"
	fi
	pack "$root" >"$1/vmm.cpio"
	rm -rf "$root"
}

# The file with the layer.
vmm_layer()
{
	local dir
	find_qemu
	dir=$CACHE/vmm/$({ "${qemu[@]}" --version; qemu-system-x86_64 --version
		cat "$TOP/scripts/lib/vmm.sh"; } | key_of)
	mkdir -p "$CACHE/vmm"
	locked vmm make_dir "$dir" fill_vmm >&2
	echo "$dir/vmm.cpio"
}
