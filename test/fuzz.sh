#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (10s) each.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# found says whether a run that failed has found something. Go's coordinator takes the end of the time for a failure now and then
# (go.dev/issue/75804); it writes no input then.
found() { grep -q 'Failing input written' "$log" || ! grep -q '^ *context deadline exceeded$' "$log"; }

dirs=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u)
[ -n "$dirs" ] || { echo "no fuzz targets"; exit 1; }
for dir in $dirs; do
	for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | awk '{print $2}' | sort); do
		echo "== $dir $target"
		failed=
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$dir" >"$log" 2>&1 || failed=yes
		cat "$log"
		if [ -n "$failed" ] && found; then
			exit 1
		fi
	done
done
