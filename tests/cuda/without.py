#!/usr/bin/env python3
"""Where a machine has neither the CUDA headers nor nvcc, each test of CUDA is skipped in one line that says so, in the
words that .ci/run takes for a failure. Shown with the programs in a build that has no simulator and no plugin."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.environ.get("QN_BUILD", "build/release")
# What needs the real libraries besides, and says which.
ALSO = re.compile(r"the real (cuDNN is|CUDA libraries are) not installed")
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def forbidden():
    with open(".ci/run", encoding="utf-8") as f:
        return re.compile(re.search(r'TESTS_NO_SKIP="([^"]*)"', f.read()).group(1))


def run(words, environment):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=environment, timeout=60, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def main():
    pattern = forbidden()
    with tempfile.TemporaryDirectory() as build:
        environment = dict(os.environ, QN_BUILD=build)
        for name in ("QN_CUDA_PLUGIN", "CHECK_GPU_UNDER_WAY"):
            environment.pop(name, None)
        shutil.copy(os.path.join(BUILD, "quern"), build)
        for source in sorted(glob.glob("tests/cuda/test_*.c") + glob.glob("tests/cudasim/test_*.c")):
            program = os.path.join(build, source[:-2])
            os.makedirs(os.path.dirname(program), exist_ok=True)
            shutil.copy(os.path.join(BUILD, source[:-2]), program)
            status, out = run([program], environment)
            reasons = re.findall(r"^# skip: (.*)$", out, re.M)
            skips, passes = len(re.findall(r"\[ +SKIPPED +\] ", out)), len(re.findall(r"\[ +OK +\] ", out))
            check(source, status == 0 and skips > 0 and not passes and len(set(reasons)) == 1 and
                  all(pattern.search(r) or ALSO.match(r) for r in reasons), f"{status} {out}")
        for script in sorted(glob.glob("tests/cuda/*.py") + glob.glob("tests/cudasim/*.py")):
            if os.path.basename(script) in ("without.py", "messages.py", "mutate.py"):
                continue  # this one; and those that have a part without CUDA
            status, out = run([script], environment)
            reasons = re.findall(r"^skip [^:]*: (.*)$", out, re.M)
            check(script, status == 0 and len(reasons) == 1 and "ok " not in out and pattern.search(reasons[0]),
                  f"{status} {out}")
    return failed


sys.exit(main())
