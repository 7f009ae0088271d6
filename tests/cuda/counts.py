#!/usr/bin/env python3
"""What kernels ask of memory, counted by the simulator (not measured), holds the bars at shapes of real networks.

For each case of benchmarks/kernels that has such a shape, and each memory-bound kernel: bytes at most 1.1 times those
that the operator cannot do without, 32-byte sectors at most 1.25 times those that the bytes would fill, passes over the
banks of shared memory at most 1.1 times the least. tests/cuda/counts.tsv lists what misses a bar, how far it may, and
why; a case listed there that holds the bars must be taken off. Every kernel of kernels/cuda is reached by a case, or
listed with the reason. `counts.py --print` shows the table.

run-tests: timeout 600
"""
import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.environ.get("QN_BUILD", "build/release")
PLUGIN = os.path.abspath(os.path.join(BUILD, "cudasim", "checked", "libquern_cuda.so"))
EXCEPTIONS = "tests/cuda/counts.tsv"
BARS = {"bytes": 1.1, "sectors": 1.25, "wavefronts": 1.1}
# Bound by arithmetic: judged by the kernels beside the product alone, against what they touch.
PRODUCTS = re.compile(r"product|conv|attention")
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print("\n".join("    " + line for line in shown.splitlines()))


def measured():
    """{case: {bar: ratio}} of the kernels that programs use, and the names of all kernels that ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "counts.tsv")
        done = subprocess.run([os.path.join(BUILD, "bench_kernels"), "--check", "--counts", path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              env=dict(os.environ, QN_CUDA_PLUGIN=PLUGIN, QN_CUDASIM_CHECK="0"))
        check("every rung is verified", done.returncode == 0, done.stdout[-3000:])
        lines = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                lines = [line.rstrip("\n").split("\t") for line in f]
    cases, kernels = collections.defaultdict(dict), set()
    for line in lines[1:]:
        row = dict(zip(lines[0], line))
        kernels.add(re.match(r"\w*", row["kernel"]).group(0))
        if row["rung"] != "quern" or row["judged"] != "1":
            continue
        beside = bool(PRODUCTS.match(row["case"]))
        if (row["kernel"] == "*") == beside:
            continue
        have = [float(row[c]) for c in ("moved", "sectors", "wavefronts")]
        least = [float(row[c]) for c in ("needed", "ideal_sectors", "ideal_wavefronts")]
        cases[row["case"]] = {bar: (h / n if n else 1.0) for bar, h, n in zip(BARS, have, least)}
    return cases, kernels


def exceptions():
    """{case: {bar: (limit, reason)}} and {kernel: reason}"""
    cases, kernels = collections.defaultdict(dict), {}
    with open(EXCEPTIONS, encoding="utf-8") as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            what, name, limit, reason = line.rstrip("\n").split("\t")
            if what == "kernel":
                kernels[name] = reason
            else:
                cases[name][what] = (float(limit), reason)
    return cases, kernels


def every_kernel():
    found = {}
    for path in sorted(glob.glob("kernels/cuda/*.cu") + glob.glob("kernels/cuda/*.h")):
        with open(path, encoding="utf-8") as f:
            text = re.sub(r"__launch_bounds__\([^()]*\)", "", f.read())
            for match in re.finditer(r"__global__[^;{(]*?(\w+)\s*\(", text):
                found[match.group(1)] = path
    return found


def main():
    if not os.path.exists(PLUGIN):
        print("skip counts: no CUDA toolkit here, so no simulator was built")
        return 0
    cases, reached = measured()
    allowed, exempt = exceptions()
    misses = []
    for case, ratios in cases.items():
        for bar, ratio in ratios.items():
            limit, reason = allowed.get(case, {}).get(bar, (BARS[bar], ""))
            if ratio > limit + 5e-4:
                misses.append(f"{case}: {bar} {ratio:.3f}; at most {limit}")
            if reason and ratio <= BARS[bar]:
                misses.append(f"{case}: {bar} {ratio:.3f} holds the bar; take it off {EXCEPTIONS}")
    check("bytes, sectors and wavefronts", not misses, "\n".join(misses))
    gone = [f"{name}: no such case" for name in allowed if name not in cases]
    check("what is listed exists", not gone, "\n".join(gone))
    kernels = every_kernel()
    unknown = [f"{path}: {name}" for name, path in kernels.items() if name not in reached and name not in exempt]
    check("every kernel is in the table", not unknown, "\n".join(unknown))
    listed = [name for name in exempt if name in reached]
    check("no kernel is listed without need", not listed, "\n".join(listed))
    if "--print" in sys.argv:
        for case, ratios in cases.items():
            print(f"{case:48}", *(f"{bar} {ratio:6.3f}" for bar, ratio in ratios.items()))
    return failed


if __name__ == "__main__":
    sys.exit(main())
