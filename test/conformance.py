"""Runs recorded cases against bin/outrigger on both engines and checks the result.

Every case of AREAS must pass but those that conformance.skip lists with a reason; a listed case that passes is an error too, so
that the list stays true. Cases that fail are run once more, alone: some compare times on a machine that others use.
"""

import json
import os
import subprocess
import sys

AREAS = """accept accesslog admin circuit cli cluster-header compress direct flags forwarded grpc headers health http1 http2 identity
lb listener localreply match mirror outlier path redirect reject retry rewrite stats tcp timeout tls weighted xds""".split()
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def run(cases_dir, engine, patterns, jobs):
    """Runs the cases that match and returns {case: differences}, empty where it passes."""
    out = os.path.join(ROOT, ".tools", f"conformance-{engine}.json")
    command = [sys.executable, "-m", "conformlib", "run", "--proxy", os.path.join(ROOT, "bin", "outrigger"), "--json", out,
               "--jobs", str(jobs)]
    for p in patterns:
        command += ["--case", p]
    env = dict(os.environ, OUTRIGGER_ENGINE=engine, PYTHONPATH=cases_dir, PYTHONDONTWRITEBYTECODE="1")
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False)
    with open(out) as f:
        return {r["case"]: [] if r["ok"] else r["diffs"] or ["failed"] for r in json.load(f)["results"]}


def skipped():
    """Returns {case: reason}."""
    with open(os.path.join(HERE, "conformance.skip")) as f:
        lines = [line.split(None, 1) for line in f if line.strip() and not line.startswith("#")]
    return {case: reason.strip() for case, reason in lines}


def main():
    cases_dir, bad = os.path.abspath(sys.argv[1]), 0
    skip = skipped()
    for engine in ("epoll", "goroutine"):
        results = run(cases_dir, engine, [a + "/*" for a in AREAS], 2)
        again = [c for c, diffs in results.items() if diffs and c not in skip]
        if again:
            results.update(run(cases_dir, engine, again, 1))
        for area in AREAS:
            mine = [c for c in results if c.startswith(area + "/")]
            left = [c for c in mine if c in skip]
            passed = sum(not results[c] for c in mine if c not in skip)
            print(f"{engine:10} {area:16} {passed:3} of {len(mine) - len(left):3}" + (f", {len(left)} left out" if left else ""))
        for case, diffs in results.items():
            if diffs and case not in skip:
                bad += 1
                print(f"FAIL {case}\n     " + "\n     ".join(diffs[:3]))
            elif not diffs and case in skip:
                bad += 1
                print(f"FAIL {case} passes, but conformance.skip leaves it out: {skip[case]}")
    sys.exit(1 if bad else 0)


main()
