# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Debian's kernels as the test machines need them, in the cache:
#   vmlinuz	as packaged, a bzImage
#   vmlinux	the ELF file inside it
#   vmlinux.bin	what belongs at 16 MiB when no loader reads the ELF file
#   modules/	stock KVM; a disk in memory, to swap to
#   guest-modules/	the drivers of the launcher's and QEMU's devices, where they are not built in
# The image is unpacked and never installed, so this machine's boot menu and
# initramfs stay as they are. Headers are installed (lib/deps.sh), because their
# makefiles name absolute paths.
# Read next: lib/root.sh.

# The newest release of series $1 (6.1 or 6.12) whose headers are installed; "debug" is
# a kernel of our own making.
kernel_release()
{
	local dir
	if [ "$1" = debug ]; then
		echo debug
		return
	fi
	dir=$(find /usr/src -maxdepth 1 -name "linux-headers-$1.*-cloud-amd64" |
		sort -V | tail -n 1)
	[ -n "$dir" ] || die "no headers for $1: run scripts/install-deps"
	basename "$dir" | sed 's/^linux-headers-//'
}

# Print 32 bits (or 8) of FILE at OFFSET as a number.
peek32() { od -A n -t u4 -j "$2" -N 4 "$1" | tr -d ' '; }
peek8() { od -A n -t u1 -j "$2" -N 1 "$1" | tr -d ' '; }

# A bzImage's payload, by the setup header (the boot protocol's payload_offset
# and payload_length); its last four bytes are the size, not the stream.
unpack_vmlinux()
{
	local image=$1 start length magic
	start=$((($(peek8 "$image" 0x1f1) + 1) * 512 + $(peek32 "$image" 0x248)))
	length=$(($(peek32 "$image" 0x24c) - 4))
	magic=$(od -A n -t x4 -j "$start" -N 4 "$image" | tr -d ' ')
	payload() { tail -c +$((start + 1)) "$image" | head -c "$length"; }
	case $magic in
	184c2102) payload | lz4 -dc ;;
	fd2fb528) payload | zstd -dc ;;
	*) die "$image: payload compressed in an unknown way ($magic)" ;;
	esac
}

# The modules that module FILE depends on, one a line.
module_deps()
{
	tr '\0' '\n' <"$1" | sed -n 's/^depends=//p' | tr ',-' '\n_' | sed '/^$/d'
}

# Copy module NAME of the tree MODULES and what it depends on to directory OUT.
copy_module()
{
	local name=$1 modules=$2 out=$3 file dep
	[ -e "$out/$name.ko" ] && return
	file=$(find "$modules" -name "$name.ko*" -o -name "${name//_/-}.ko*" | head -n 1)
	case $file in
	*.ko) cp "$file" "$out/$name.ko" ;;
	*.xz) xz -dc "$file" >"$out/$name.ko" ;;
	*) die "no module $name in $modules" ;;
	esac
	# Checking a signature takes Bochs half a minute; without debug
	# information there is none.
	objcopy --strip-debug "$out/$name.ko"
	module_deps "$out/$name.ko" >"$out/$name.deps"
	while read -r dep; do
		copy_module "$dep" "$modules" "$out"
	done <"$out/$name.deps"
}

fill_kernel()
{
	local release=$1 out=$2 from=/ module
	if [ ! -e "/boot/vmlinuz-$release" ]; then
		say "downloading linux-image-$release"
		mkdir "$out/deb"
		(cd "$out/deb" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "linux-image-$release") >&2
		dpkg -x "$out"/deb/*.deb "$out/deb"
		from=$out/deb
	fi
	say "unpacking kernel $release"
	cp "$from/boot/vmlinuz-$release" "$out/vmlinuz"
	unpack_vmlinux "$out/vmlinuz" >"$out/vmlinux"
	objcopy -O binary "$out/vmlinux" "$out/vmlinux.bin"
	mkdir "$out/modules"
	for module in kvm kvm_amd kvm_intel irqbypass brd; do
		copy_module "$module" "$from/lib/modules/$release" "$out/modules"
	done
	mkdir "$out/guest-modules"
	for module in virtio_pci virtio_blk virtio_net; do
		grep -q "/$module\.ko" "$from/lib/modules/$release/modules.builtin" ||
			copy_module "$module" "$from/lib/modules/$release" "$out/guest-modules"
	done
	rm -rf "$out/deb"
}

# The cache directory of release $1.
kernel_dir()
{
	local dir
	if [ "$1" = debug ]; then
		dir=$(debug_dir)
		locked debug-kernel make_dir "$dir" fill_debug_kernel >&2
	else
		dir=$CACHE/kernel/$1-$(key_of "$TOP/scripts/lib/kernel.sh")
		locked kernel make_dir "$dir" fill_kernel "$1" >&2
	fi
	echo "$dir"
}

# What a module for release $1 is built against.
headers_dir()
{
	if [ "$1" = debug ]; then
		echo "$(kernel_dir debug)/build"
	else
		echo "/usr/src/linux-headers-$1"
	fi
}

# The release that guests in a machine with kernel series $1 run: Debian's.
guest_release()
{
	if [ "$1" = debug ]; then
		kernel_release 6.1
	else
		kernel_release "$1"
	fi
}
