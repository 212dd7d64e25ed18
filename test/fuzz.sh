#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (10s) each.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
	for target in $(grep -h --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' -r "$dir" --exclude-dir='?*' | awk '{print $2}' | sort -u); do
		echo "== $dir $target"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$dir"
	done
done
