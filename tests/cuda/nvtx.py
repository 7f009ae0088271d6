#!/usr/bin/env python3
"""NVTX ranges: a profiler, here a library that writes down what is pushed and popped, sees each phase of a step and in
it each operator by name. run-tests: timeout 120"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"))
PLUGIN = os.environ.get("QN_CUDA_PLUGIN") or os.path.join(BUILD, "cudasim/fast/libquern_cuda.so")
RECIPE = {
    "quern": 1, "name": "n", "data": {"digits": 40, "test_fraction": 0.25},
    "model": [{"conv": 2, "kernel": 3, "activation": "relu"}, "flatten", {"linear": 10}],
    "loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.01}, "batch": 10, "epochs": 2,
}
PROFILER = r"""
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *out;
static int push(const char *name) { return fprintf(out, "> %s\n", name); }
static int pop(void) { return fprintf(out, "<\n"); }

__attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t find)
{
    NvtxFunctionTable table;
    unsigned size = 0;
    const NvtxExportTableCallbacks *calls = find(NVTX_ETID_CALLBACKS);
    out = fopen(getenv("RANGES"), "w");
    if (!out || !calls || !calls->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size)) return 0;
    *table[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
    return 1;
}
"""
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def build(include):
    with open("profiler.c", "w", encoding="utf-8") as f:
        f.write(PROFILER)
    done = subprocess.run(["gcc", "-shared", "-fPIC", "-isystem", include, "-o", "profiler.so", "profiler.c"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    check("a profiler", done.returncode == 0, done.stdout.decode())


def ranges(**variables):
    """Each range of a training with the ranges around it, as "update/sgd"."""
    environment = dict(os.environ, QN_CUDA_PLUGIN=PLUGIN, OMP_WAIT_POLICY="passive", RANGES=os.path.abspath("ranges"),
                       NVTX_INJECTION64_PATH=os.path.abspath("profiler.so"), **variables)
    words = ["train", "r.json", "--out", "runs", "--device", "cuda", "--threads", "2", "-q"]
    done = subprocess.run([os.path.join(BUILD, "quern"), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=100, env=environment, check=False)
    check("trains under it", done.returncode == 0, done.stdout.decode())
    found, stack = [], []
    with open("ranges", encoding="utf-8") as f:
        for line in f.read().splitlines():
            if line.startswith("> "):
                stack.append(line[2:])
                found.append("/".join(stack))
            else:
                stack.pop()
    check("every range that begins ends", not stack, stack)
    return found


def main():
    home = subprocess.run([os.path.join(TOP, "scripts", "cuda-home")], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    if home.returncode or not os.path.exists(PLUGIN):
        print("skip ranges: no CUDA headers: this build has no cudasim/fast/libquern_cuda.so (make cudasim)")
        return 0
    include = os.path.join(home.stdout.strip(), "include")
    if not shutil.which("gcc") or not os.path.exists(include + "/nvtx3/nvToolsExt.h"):
        print("skip ranges: no gcc, or no NVTX headers among those of CUDA")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("r.json", "w", encoding="utf-8") as f:
            json.dump(RECIPE, f)
        build(include)
        plain, replayed = ranges(QN_GRAPHS="off"), ranges()
        wanted = ("micro/conv2d", "micro/conv2d_grad_w", "micro/matmul", "micro/cross_entropy", "update/sgd")
        check("each operator is a range in its phase", all(plain.count(name) >= 6 for name in wanted), plain)
        check("a replayed graph is the range of its phase", replayed.count("micro") == plain.count("micro") and
              replayed.count("update") == plain.count("update") and
              0 < replayed.count("update/sgd") < plain.count("update/sgd"), replayed)
        os.chdir(TOP)
    return failed


sys.exit(main())
