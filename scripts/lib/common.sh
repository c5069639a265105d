# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every script shares: where things are, how to say something, how to
# stop. Sourced first; sets -eu for the whole script.
# Read next: lib/deps.sh (packages), lib/kernel.sh (kernels), lib/machine.sh.

set -euo pipefail
export LC_ALL=C

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${MINIKVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/minikvm}
ME=$(basename "$0")
mkdir -p "$CACHE"

say() { echo "$ME: $*" >&2; }
die() { say "$*"; exit 1; }

# A usage text is the script's own opening comment.
help() { sed -n '3,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"; }
bad_usage() { say "$*"; help >&2; exit 64; }

# Run a command under the exclusive lock NAME, so that two scripts that share
# a cache never build the same thing at the same time.
locked()
{
	local name=$1
	shift
	(
		flock 9
		"$@"
	) 9>"$CACHE/$name.lock"
}

# Make directory DIR by running a command with a fresh directory as its last
# argument; DIR appears complete or not at all. Nothing happens if it exists.
make_dir()
{
	local dir=$1 tmp
	shift
	[ -d "$dir" ] && return
	tmp=$dir.tmp.$$
	rm -rf "$tmp"
	mkdir -p "$tmp"
	# Not "|| die": that would switch off -e inside the command.
	"$@" "$tmp"
	mv -T "$tmp" "$dir"
}

# A short name for the contents of files: what is made by other rules gets another
# place in the cache.
key_of() { cat "$@" | cksum | cut -d ' ' -f 1; }
