# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Other people's VMMs for L1, as a cached layer for the initramfs: each QEMU that
# Debian has, with its libraries and firmware, in L1 a command of its own (qemu-7.2,
# qemu-10.0), what a disk begins with that starts by GRUB, and UEFI; and gVisor's runsc.
# Needs lib/common.sh, lib/deps.sh, lib/root.sh.
# Read next: selftests/qemu.sh, selftests/gvisor.sh.

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

# A disk's first MiB, into file $1: GRUB where grub-install puts it, and one partition
# behind it, 64 MiB. GRUB takes that for a file system if it begins with a tar archive,
# which any shell can write; it wants the menu to be in grub/grub.cfg.
make_grub()
{
	local out=$1 modules=/usr/lib/grub/i386-pc
	grub-mkimage -O i386-pc -d $modules -p '(hd0,msdos1)/grub' -o "$out.core" \
		biosdisk part_msdos tar normal linux serial
	{
		# boot.img's code for floppies is where the partitions belong. The first one:
		# active, no CHS, 0x83, 2048 sectors from the start, 131072 sectors.
		head -c 446 $modules/boot.img
		printf '\x80\xfe\xff\xff\x83\xfe\xff\xff\x00\x08\x00\x00\x00\x00\x02\x00'
		head -c 48 /dev/zero
		printf '\x55\xaa'
		cat "$out.core"
	} >"$out"
	rm "$out.core"
	truncate -s 1M "$out"
}

# One of what several QEMUs bring alike: all of it would fill a small machine's memory.
link_twins()
{
	local root=$1 file twin
	for file in "$root"/vmm/*/*; do
		for twin in "$root"/vmm/*/"${file##*/}"; do
			[ "$twin" != "$file" ] || break
			! cmp -s "$twin" "$file" || { ln -sf "/${twin#"$root/"}" "$file"; break; }
		done
	done
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
	link_twins "$root"
	make_grub "$root/vmm/grub"
	cp /usr/share/OVMF/OVMF_{CODE,VARS}.fd "$root/vmm/"
	cp "$(command -v runsc)" "$root/bin/"
	pack "$root" >"$1/vmm.cpio"
	rm -rf "$root"
}

# The file with the layer.
vmm_layer()
{
	local dir packages=(grub-common grub-pc-bin ovmf runsc)
	find_qemu
	dir=$CACHE/vmm/$({ "${qemu[@]}" --version; qemu-system-x86_64 --version
		cat "$TOP/scripts/lib/vmm.sh"; } | key_of)
	mkdir -p "$CACHE/vmm"
	[ -d "$dir" ] || install_packages
	locked vmm make_dir "$dir" fill_vmm >&2
	echo "$dir/vmm.cpio"
}
