# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Builds for the test machines. The module is built in a copy of its sources for
# each kernel release, so that the kernels (and what "make" left at the top)
# never see one another's objects.

# Leave a current copy of the module's sources in $1.
copy_sources()
{
	local dir=$1 file
	mkdir -p "$dir"
	(cd "$dir" && find . -name '*.[chS]' ! -name '*.mod.c') | while read -r file; do
		[ -e "$TOP/$file" ] || rm "$dir/$file"
	done
	cp -ru --preserve=timestamps "$TOP"/{Kbuild,module,uapi} "$dir/"
}

# Build for release $1, with further arguments to make; the result is
# $CACHE/build/$1/minikvm.ko.
make_module()
{
	local release=$1 dir=$CACHE/build/$1
	shift
	copy_sources "$dir"
	make -C "$(headers_dir "$release")" M="$dir" -j "$(nproc)" "$@" modules
}

# Build for release $1 and put the module into root $2.
build_module()
{
	locked "build-$1" make_module "$1" -s 2> >(grep -v "^Skipping BTF" >&2) >&2 ||
		die "minikvm.ko does not build for $1"
	objcopy --strip-debug "$CACHE/build/$1/minikvm.ko" "$2/minikvm.ko"
	module_deps "$2/minikvm.ko" >"$2/minikvm.deps"
}

# The module that makes mistakes (selftests/detectors), for release $1, into root $2.
build_trip()
{
	local dir=$CACHE/build/trip-$1
	mkdir -p "$dir"
	cp -u --preserve=timestamps "$TOP"/selftests/detectors/* "$dir/"
	locked "trip-$1" make -s -C "$(headers_dir "$1")" M="$dir" modules >"$dir/log" 2>&1 ||
		die "trip.ko does not build for $1: $(tail -n 5 "$dir/log")"
	objcopy --strip-debug "$dir/trip.ko" "$2/trip.ko"
}

# Launcher and test programs into root $1.
build_userspace()
{
	locked userspace make -s -C "$TOP/userspace" >&2 || die "the launcher does not build"
	cp "$TOP/userspace/minikvm" "$1/bin/"
	locked userspace make -s -C "$TOP/selftests" >&2 || die "the selftests do not build"
	find "$TOP/selftests" -maxdepth 1 -type f \( -perm -u+x -o -name tap.sh \) \
		-exec cp {} "$1/selftests/" \;
}
