# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Linux's own KVM selftests for L1, built by their makefile from the source of the
# series that L1 runs, with the libraries they need, as a cached layer for the
# initramfs: /public/TEST.
# Needs lib/common.sh, lib/deps.sh, lib/root.sh. Read next: selftests/public.sh.

# $1: 6.1 or 6.12.
fill_public()
{
	local series=$1 out=$2 source=$2/source root=$2/root file
	local flags=-w
	# What the stable series' tests miss: one header includes another's macro, and
	# a macro's later name.
	[ "$series" != 6.1 ] ||
		flags+=" -include $source/usr/include/linux/stddef.h -DTEST_ASSERT_EQ=ASSERT_EQ"
	say "building the KVM selftests of Linux $series, some two minutes"
	unpack_linux "$series" "$source" Makefile arch/x86 include scripts tools usr
	make -s -C "$source" ARCH=x86 -j "$(nproc)" headers >&2
	make -s -C "$source/tools/testing/selftests/kvm" ARCH=x86_64 -j "$(nproc)" \
		EXTRA_CFLAGS="$flags" >&2
	mkdir -p "$root"/{public,lib64,lib/x86_64-linux-gnu}
	while read -r file; do
		strip -o "$root/public/$(basename "$file")" "$file"
	done < <(find "$source/tools/testing/selftests/kvm" -type f -perm -u+x -size +16k)
	cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
	# pthread_cancel() loads the second when it is called.
	cp -L /lib/x86_64-linux-gnu/{libc.so.6,libgcc_s.so.1} "$root/lib/x86_64-linux-gnu/"
	pack "$root" >"$out/public.cpio"
	rm -rf "$source" "$root"
}

# The file with the layer for kernel series $1.
public_layer()
{
	local series=${1/debug/6.1} dir
	dir=$CACHE/public/$series-$(key_of "$TOP/scripts/lib/public.sh")
	mkdir -p "$CACHE/public"
	locked "public-$series" make_dir "$dir" fill_public "$series" >&2
	echo "$dir/public.cpio"
}
