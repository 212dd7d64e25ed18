#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (10s) each.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
dirs=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u)
[ -n "$dirs" ] || { echo "no fuzz targets"; exit 1; }
for dir in $dirs; do
	for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | awk '{print $2}' | sort); do
		echo "== $dir $target"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$dir"
	done
done
