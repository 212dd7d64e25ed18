#!/bin/sh
# conformance.sh DIR: runs the cases of DIR, recorded from real Envoy, against bin/outrigger on both engines, if DIR is there.
set -eu
cd "$(dirname "$0")/.."
if [ ! -d "$1" ]; then
	echo "no recorded cases at $1: nothing to run"
	exit 0
fi
python=.tools/venv/bin/python
if [ ! -x "$python" ]; then
	python3 -m venv .tools/venv || { apt-get install -y -q python3-venv && python3 -m venv .tools/venv; }
	"$python" -m pip install -q pyyaml==6.0.3 h2==4.4.1 hpack
fi
exec "$python" test/conformance.py "$1"
