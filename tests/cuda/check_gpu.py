#!/usr/bin/env python3
"""`make check-gpu` works before the day a GPU is at hand: the same script, on the simulator.

run-tests: timeout 1800
"""
import json
import os
import re
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.environ.get("QN_BUILD", "build/release")
PLUGIN = os.path.join(BUILD, "cudasim", "fast", "libquern_cuda.so")
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print("\n".join("    " + line for line in shown.splitlines()))


def main():
    if os.environ.get("CHECK_GPU_UNDER_WAY"):
        print("ok the check is under way: it does not start itself again")
        return 0
    if not os.path.exists(PLUGIN):
        print("skip check-gpu: no CUDA toolkit here, or a build without the simulator")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "report.md")
        done = subprocess.run(["scripts/check-gpu", "--build", BUILD, "--plugin", PLUGIN, "--out", path], text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        report = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                report = f.read()
        check("every part holds", done.returncode == 0, done.stdout + report)
        check("the report says that it is simulated", report.startswith("# Quern: Simulated run"), report[:300])
        for title in ("Devices", "Libraries", "Tests on the device", "Training on the device, operator by operator",
                      "Losses of both trainings agree to 1e-3", "Tuning", "Training with the lock file",
                      "Kernel benchmarks, checks only"):
            check(f"the report has {title}", f"## {title}: ok" in report, report[:2000])
        check("the report has the versions of the GPU's libraries",
              re.search(r"driver for CUDA \d+\.\d+, CUDA \d+\.\d+, cuBLASLt \d+, cuDNN \d+", report), report[-2000:])
        with open(os.path.splitext(path)[0] + ".json", encoding="utf-8") as f:
            result = json.load(f)
        check("the benchmarks' JSON", result["cudnn"] >= 90000 and len(result["rungs"]) > 100 and
              all(rung["wrong"] == 0 for rung in result["rungs"]), str(result)[:500])
        check("every rung is verified", "0 with wrong elements" in report, report[-2000:])
    return failed


if __name__ == "__main__":
    sys.exit(main())
