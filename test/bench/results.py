"""Turns the results of a run into RESULTS.md, on standard output: ratios of the smallest CPU times per request."""

import json
import os
import platform
import subprocess
import sys

# workload: the ratio to Envoy and to HAProxy that we hold ourselves to
TARGETS = {
    "h1_get": (0.42, 0.95), "h1_get_log": (0.40, None), "tcp_echo": (0.65, 1.05), "tcp_bulk": (0.55, None), "tcp_conn": (0.70, None),
    "h1_10k": (0.45, None), "h1_post100k": (0.45, None), "h1_1m": (0.70, None), "open2k": (0.62, None), "redir_h1_keepalive": (0.42, None),
    "tls_get": (0.40, 0.95),
}


def load(folder, name):
    try:
        with open(os.path.join(folder, name)) as f:
            return json.load(f)
    except OSError:
        return None


def smallest(rounds):
    return min((r["us_per_req"] for r in rounds), default=0)


def cells(folder, workload):
    """Returns {proxy: smallest CPU time}, microseconds per request or seconds per GB, and the share of CPU 0 that others used."""
    data = load(folder, f"{workload}-pin.json")
    if data:
        raw = {n: r.get("raw", []) for n, r in data["res"].items()}
    else:
        raw = load(folder, f"{workload}.json") or {}
    foreign = [r.get("foreign0", 0) for rounds in raw.values() for r in rounds]
    return {n: smallest(rounds) for n, rounds in raw.items()}, max(foreign, default=0)


def ratio(a, b, target):
    if not a or not b:
        return "-"
    r = a / b
    mark = "" if target is None else f" (<= {target:.2f}{'' if r <= target else ', missed'})"
    return f"{r:.2f}{mark}"


def version(command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return "not found"
    return next((line.strip() for line in out.splitlines() if any(c.isdigit() for c in line)), "unknown")


def machine():
    with open("/proc/cpuinfo") as f:
        models = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{len(models)} x {models[0] if models else platform.machine()}, Linux {platform.release()}"


def main():
    folder = sys.argv[1]
    print("# Benchmark results\n\nWritten by `make bench`. One interleaved run: the smallest CPU time per request of each proxy over all rounds, and ours as a")
    print("share of the others'; the target stands in brackets. Absolute figures mean nothing beyond this machine and this run.\n")
    print(f"- machine: {machine()}\n- Outrigger: {version([os.environ['OURS_BIN'], '--version'])}")
    print(f"- Envoy: {version([os.environ['ENVOY_BIN'], '--version'])}\n- {version(['haproxy', '-v'])}")
    print(f"- rounds: {os.environ.get('ROUNDS', '3')} of {os.environ.get('DURATION', '3')} s, proxies on CPU 0, load and upstream on CPU 1\n")
    print("| workload | ours | Envoy | HAProxy | ours / Envoy | ours / HAProxy | CPU 0 used by others, at worst |\n|---|---|---|---|---|---|---|")
    for w, (envoy, haproxy) in TARGETS.items():
        c, foreign = cells(folder, w)
        if c.get("ours"):
            unit = "s/GB" if w == "tcp_bulk" else "us"
            print(f"| {w} | {c['ours']:.2f} {unit} | {c.get('envoy', 0):.2f} | {c.get('haproxy', 0):.2f} | {ratio(c['ours'], c.get('envoy'), envoy)} | "
                  f"{ratio(c['ours'], c.get('haproxy'), haproxy)} | {100 * foreign:.0f} % |")
    scale = {(r["proxy"], r["scen"]): r for r in load(folder, "scale.json") or []}
    idle = {r["proxy"]: r for r in load(folder, "idle.json") or [] if r["scen"] == "h1"}
    print("\n| | ours | Envoy | target |\n|---|---|---|---|")
    for scen, label, target in (("h1", "start, small configuration", "50 ms, 25 MiB"), ("clusters10000", "start, 10,000 clusters", "1.5 s")):
        row = [scale.get((p, scen)) for p in ("ours", "envoy")]
        if row[0]:
            print(f"| {label} | " + " | ".join(f"{1000 * min(r['start_s']):.0f} ms, {r['rss_mib']} MiB" if r else "-" for r in row) + f" | {target} |")
    row = [scale.get((p, "routes10k")) for p in ("ours", "envoy")]
    if row[0]:
        print("| GET by the last of 10,000 routes | " + " | ".join(f"{min(r['us_per_req']):.2f} us" if r else "-" for r in row) + " | |")
    if "ours" in idle:
        print("| idle HTTP/1.1 connection | " + " | ".join(f"{idle[p]['kib_per_conn']} KiB" if p in idle else "-" for p in ("ours", "envoy")) + " | 1 KiB |")


main()
