#!/usr/bin/env python3
"""Every function of CUDA's libraries that the plugin calls is failed by a test (fault row B5): those that its file asks
the loader for, and cuDNN's, which it looks up by name. What cannot fail is listed."""
import os
import re
import shutil
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PLUGIN = os.path.join(os.environ.get("QN_BUILD", "build/release"), "cudasim", "fast", "libquern_cuda.so")
TESTS = ("tests/cuda/test_calls.c", "tests/cuda/test_libraries.c", "tests/cuda/test_tuning.c")
CANNOT_FAIL = {"cublasLtGetStatusName", "cublasLtGetVersion", "cudaGetErrorName", "cudaGetErrorString",
               "cudaGetLastError", "cudnnGetVersion"}


def main():
    if not os.path.exists(PLUGIN) or not shutil.which("nm"):
        print("skip calls that fail: no CUDA headers: this build has no cudasim/fast/libquern_cuda.so (make cudasim)")
        return 0
    listing = subprocess.run(["nm", "-D", "--undefined-only", PLUGIN], stdout=subprocess.PIPE, text=True, check=True)
    called = set(re.findall(r" U ((?:cuda[A-Z]|cublas|cudnn|nccl)\w*)", listing.stdout))
    with open("kernels/cuda/dnn_impl.h", encoding="utf-8") as f:
        called |= set(re.findall(r"X\((\w+)\)", f.read().split("DNN_CALLS(X)", 1)[1].split("#define", 1)[0]))
    failed = set()
    for path in TESTS:
        with open(path, encoding="utf-8") as f:
            failed |= set(re.findall(r'"((?:cuda[A-Z]|cublas|cudnn|nccl)\w*)"', f.read()))
    missing = sorted(called - failed - CANNOT_FAIL)
    good = len(called) > 50 and not missing
    print(("ok " if good else "not ok ") + f"each of {len(called)} functions that the plugin calls is failed by a test")
    if missing:
        print("  " + " ".join(missing))
    return not good


sys.exit(main())
