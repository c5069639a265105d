# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts need beyond a bare Debian 12: packages (installed), and three
# things that are unpacked in the cache instead, because installing them would
# change this machine: kernel images (lib/kernel.sh), kselftest's headers, and the
# newer QEMU of Debian's backports.

packages=(
	gcc libc6-dev make sparse shellcheck			# building
	clang libclang-rt-14-dev				# fuzzing pure logic
	linux-headers-cloud-amd64 linux-headers-6.12-cloud-amd64
	qemu-system-x86 bochs bochs-term bochsbios vgabios	# the machines
	busybox-static lz4 zstd xz-utils			# their roots
)

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "not root and no sudo; as root, run: $*"
	fi
}

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

install_packages()
{
	local name missing=()
	for name in "${packages[@]}"; do
		installed "$name" || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	as_root apt-get -q update >&2 || say "apt-get update failed; going on with what it has"
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q install -y --no-install-recommends "${missing[@]}" >&2
}

# Into directory $2, PATHs of the source of Linux $1 (6.1 or 6.12) as Debian patches it;
# all of it without any. The package is used where it is installed.
unpack_linux()
{
	local name=linux-source-$1 out=$2 tar
	shift 2
	tar=/usr/src/$name.tar.xz
	mkdir -p "$out/deb"
	if [ ! -e "$tar" ]; then
		(cd "$out/deb" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "$name") >&2
		dpkg -x "$out/deb/$name"_*.deb "$out/deb"
		tar=$out/deb$tar
	fi
	tar -xJf "$tar" -C "$out" --strip-components=1 "${@/#/$name/}"
	rm -rf "$out/deb"
}

# kselftest's headers are shipped only inside the kernel's whole source.
fill_kselftest()
{
	local out=$1 in=tools/testing/selftests
	say "unpacking kselftest's headers from linux-source-6.1"
	unpack_linux 6.1 "$out/linux" $in/{kselftest.h,kselftest_harness.h,lib.mk}
	mv "$out/linux/$in"/* "$out/"
	rm -rf "$out/linux"
}

# apt-get with a state of its own under directory $1: the same archive as this
# machine's, and its backports.
backports_apt()
{
	local dir=$1
	shift
	apt-get -q -y -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@"
}

# QEMU 10 into directory $1. QEMU 7.2 aborts when a guest writes CR8 while an
# interrupt is pending, ignores the XSETBV intercept, and needs one thread for all.
fill_qemu()
{
	local out=$1 apt=$1/apt site suite deb
	# shellcheck disable=SC2016 # apt's variable
	site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' \
		'Codename: bookworm' | head -n 1)
	mkdir -p "$apt"/{lists,cache/archives}/partial
	for suite in bookworm bookworm-updates bookworm-backports; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main"
	done >"$apt/sources.list"
	say "downloading QEMU from bookworm-backports at $site"
	backports_apt "$apt" update >&2
	backports_apt "$apt" install --download-only --no-install-recommends \
		-t bookworm-backports qemu-system-x86 >&2
	for deb in "$apt"/cache/archives/*.deb; do
		dpkg -x "$deb" "$out"
	done
	rm -rf "$apt"
	find_qemu "$out"
	"${qemu[@]}" --version >&2
}

# Leave in array qemu the command that starts the QEMU in directory $1, by default
# the one in the cache, or else the one that is installed.
find_qemu()
{
	local usr=${1:-$CACHE/qemu}/usr
	qemu=(qemu-system-x86_64)
	[ -e "$usr" ] || return 0
	qemu=(env "LD_LIBRARY_PATH=$usr/lib/x86_64-linux-gnu"
		"QEMU_MODULE_DIR=$usr/lib/x86_64-linux-gnu/qemu" "$usr/bin/qemu-system-x86_64"
		-L "$usr/share/qemu" -L "$usr/share/seabios")
}

# A machine without backports keeps 7.2, and is asked again the next day.
install_qemu()
{
	local failed=$CACHE/no-backports
	[ -z "$(find "$failed" -mtime -1 2>/dev/null)" ] || return 0
	# In a condition, -e would be off inside.
	set +e
	(set -e; locked qemu make_dir "$CACHE/qemu" fill_qemu)
	local status=$?
	set -e
	[ $status != 0 ] || return 0
	touch "$failed"
	say "no QEMU 10 from backports: $(qemu-system-x86_64 --version | head -n 1) will run"
}

install_deps()
{
	install_packages
	locked kselftest make_dir "$CACHE/kselftest" fill_kselftest
	install_qemu
}
