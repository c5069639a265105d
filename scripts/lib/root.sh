# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Root file systems, as cpio archives for the kernel's initramfs loader, which
# accepts several in a row: a base that only depends on the kernel (cached), and a
# layer for each run with what is being tested.
# L1 is the test machine, L2 the guest that runs inside it.
# Read next: l1/init, l2/init, lib/machine.sh.

# Archive directory $1 as cpio on stdout, owned by root whoever runs this.
pack()
{
	(cd "$1" && find . -mindepth 1 | busybox cpio -o -H newc -R 0:0 2>/dev/null)
}

# Both roots have the same skeleton: busybox, empty mount points, their /init.
skeleton()
{
	local out=$1 init=$2
	mkdir -p "$out"/{bin,dev,etc,lib,proc,root,run,sys,tmp}
	cp "$(command -v busybox)" "$out/bin/busybox"
	ln -s bin "$out/sbin"
	ln -s busybox "$out/bin/sh"
	install -m 755 "$init" "$out/init"
}

# $1: L1's kernel, $2: the guest's.
fill_base()
{
	local kernel=$1 guest_kernel=$2 out=$3

	skeleton "$out/l2" "$TOP/scripts/l2/init"
	install -m 755 "$TOP"/scripts/l2/{smp,net} "$TOP/scripts/l1/load" "$out/l2/bin/"
	mkdir "$out/l2/stock"
	cp -r "$guest_kernel/guest-modules/." "$out/l2/stock/"
	mkdir -p "$out/guest/guest"
	pack "$out/l2" >"$out/guest/guest/initrd"
	# The self-tests of cryptography and two tables take half of a boot in Bochs.
	echo "console=ttyS0,115200 panic=-1 cryptomgr.notests=1" \
		"initcall_blacklist=trace_eval_init,load_system_certificate_list" \
		>"$out/guest/guest/cmdline"
	cp "$guest_kernel/vmlinux" "$out/guest/guest/"
	pack "$out/guest" >"$out/guest.cpio"
	rm "$out/guest/guest/vmlinux"
	cp "$guest_kernel/vmlinuz" "$out/guest/guest/bzImage"
	rm "$out"/guest/guest/{initrd,cmdline}
	pack "$out/guest" >"$out/bzimage.cpio"

	skeleton "$out/l1" "$TOP/scripts/l1/init"
	install -m 755 "$TOP"/scripts/l1/{load,unload,leaks,complaints,run-tests,boot-time} "$out/l1/bin/"
	mkdir "$out/l1/stock"
	cp "$kernel"/modules/* "$out/l1/stock/"
	pack "$out/l1" >"$out/l1.cpio"
	rm -rf "$out"/{l1,l2,guest}
}

# The cached layers for kernel series $1: DIR/{l1,guest,bzimage}.cpio
base_dir()
{
	local kernel guest_kernel dir
	kernel=$(kernel_dir "$(kernel_release "$1")")
	guest_kernel=$(kernel_dir "$(guest_release "$1")")
	dir=$CACHE/root/$(basename "$kernel")-$(key_of "$TOP"/scripts/l[12]/* \
		"$TOP/scripts/lib/root.sh")
	locked root make_dir "$dir" fill_base "$kernel" "$guest_kernel" >&2
	echo "$dir"
}
