#!/usr/bin/env python3
"""The tests notice when a kernel loses a barrier, a wait or a bounds test: a fixed sample of what `make mutate` does.

run-tests: timeout 300
"""
import os
import re
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.environ.get("QN_BUILD", "build/release")
PLUGIN = os.path.join(BUILD, "cudasim", "mutants", "sample", "checked", "libquern_cuda.so")
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print("\n".join("    " + line for line in shown.splitlines()))


def mutate(*words):
    return subprocess.run(["scripts/mutate", "--build", BUILD, *words], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)


def main():
    done = mutate("--list")
    kind = r"^ *\d+ \S+ \S* *(__syncthreads|__syncwarp|cp_async_wait|cuda\w+|bound|loop) "
    kinds = set(re.findall(kind, done.stdout, re.M))
    expected = {"__syncthreads", "__syncwarp", "cp_async_wait", "cudaStreamWaitEvent", "bound", "loop"}
    check("mutants of each kind are found in the sources", expected <= kinds, done.stdout)
    done = mutate("--report")
    check("every survivor that is explained is a mutant", "NO SUCH MUTANT" not in done.stdout, done.stdout)
    if not os.path.exists(PLUGIN):
        print("skip a sample of mutants: no CUDA toolkit here, so no simulator was built")
        return failed
    done = mutate("--sample")
    check("a sample of mutants is noticed", done.returncode == 0, done.stdout)
    return failed


if __name__ == "__main__":
    sys.exit(main())
