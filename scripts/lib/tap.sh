# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# TAP: many programs' results become one stream.
#
# Jobs run side by side, and each writes lines "ok TEXT", "not ok TEXT" or "# TEXT"
# to file descriptor 4; tap_collect numbers and counts them.
# Read next: scripts/check.

program=	# whose output is read
job=		# who writes: a word in front of each result

result() { printf '%s %s: %s\n' "$1" "$job" "$2" >&4; }
note() { printf '# %s: %s\n' "$job" "$1" >&4; }

# One program's output, line by line, between program_begin NAME and
# program_end STATUS. What it says in comments matters only before a failure.
program_begin()
{
	program=$1
	points=0 failures=0 plan= skipped=
	notes=()
}

flush_notes()
{
	local line
	for line in ${notes[@]+"${notes[@]}"}; do
		note "$line"
	done
	notes=()
}

program_line()
{
	local verdict text=$1
	case $text in
	"ok "* | "not ok "*)
		verdict=ok
		[ "${text#not }" = "$text" ] || verdict="not ok"
		text=${text#"$verdict "}
		text=${text#"${text%%[!0-9]*}"}
		text=${text# }
		text=${text#- }
		points=$((points + 1))
		if [ "$verdict" = ok ]; then
			notes=()
		else
			failures=$((failures + 1))
			flush_notes
		fi
		result "$verdict" "$program: $text" ;;
	1..*)
		plan=${text#1..}
		skipped=${plan#*SKIP }
		plan=${plan%% *} ;;
	"" | "TAP version"* | "#  RUN  "* | "#   "*" OK "* | "# Starting "* | "# Totals:"* | "# PASSED:"*) ;;
	*) notes+=("${text#\# }") ;;
	esac
	# The end of a long output is what explains a failure.
	[ ${#notes[@]} -lt 100 ] || notes=("${notes[@]:50}")
}

program_end()
{
	local status=$1
	if [ "$status" = 4 ] && [ $points = 0 ]; then
		result ok "$program # SKIP ${skipped:-${notes[*]: -1}}"
	elif [ "$status" != 0 ] && [ $failures = 0 ]; then
		flush_notes
		result "not ok" "$program: exit status $status"
	elif [ $points = 0 ]; then
		result "not ok" "$program: no test was run"
	elif [ -n "$plan" ] && [ "$plan" != $points ]; then
		flush_notes
		result "not ok" "$program: $plan tests planned, $points were run"
	fi
}

# A program on this machine, from start to end.
program_run()
{
	local line status=0 out
	out=$(mktemp)
	program_begin "$1"
	shift
	"$@" >"$out" 2>&1 </dev/null || status=$?
	while IFS= read -r line; do
		program_line "$line"
	done <"$out"
	rm "$out"
	program_end $status
}

# Number what the jobs write (stdin); the last line counts it. Fails when a test
# failed or none was run.
tap_collect()
{
	local line nr=0 passed=0 failed=() skipped=0
	echo "TAP version 13"
	while IFS= read -r line; do
		case $line in
		"ok "*)
			nr=$((nr + 1))
			case $line in
			*"# SKIP"*) skipped=$((skipped + 1)) ;;
			*) passed=$((passed + 1)) ;;
			esac
			echo "ok $nr - ${line#ok }" ;;
		"not ok "*)
			nr=$((nr + 1))
			failed+=("${line#not ok }")
			echo "not ok $nr - ${line#not ok }" ;;
		*)
			echo "$line" ;;
		esac
	done
	echo "1..$nr"
	for line in ${failed[@]+"${failed[@]}"}; do
		echo "# failed: $line"
	done
	echo "$passed passed, ${#failed[@]} failed, $skipped skipped"
	[ ${#failed[@]} = 0 ] && [ $passed -gt 0 ]
}
