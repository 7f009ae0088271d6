#!/usr/bin/env python3
"""Where --device=cuda cannot be had: no plugin, no driver, a driver that is too old, no GPU, no code for it, a library
that is missing. Each is one line with the remedy and exit status 7; --device=auto takes the CPU and says why, or
another GPU that can be used. run-tests: timeout 300"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"))
SIMULATED = os.path.join(BUILD, "cudasim", "fast")
RECIPE = {
    "quern": 1, "name": "m", "data": {"digits": 40, "test_fraction": 0.25}, "model": [{"conv": 2, "kernel": 3},
              "flatten", {"linear": 10}],
    "loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.01}, "batch": 10, "epochs": 1,
}
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def train(quern, device, out, variables):
    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    environment.pop("QN_CUDA_PLUGIN", None)
    environment.update(variables)
    words = [quern, "train", "r.json", "--out", out, "--threads", "2"] + (["--device", device] if device else [])
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                          env=environment, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refused(name, says, remedy, quern=os.path.join(BUILD, "quern"), unasked=True, **variables):
    """cuda: one line that begins with `says` and has the remedy; auto: the CPU, and what was found. unasked: whether a
    run that names no device says so too."""
    out = name.replace(" ", "-").replace(":", "")
    code, shown, err = train(quern, "cuda", out + "-cuda", variables)
    check(f"{name}: one line with the remedy, status 7",
          code == 7 and err.startswith("error " + says) and err.count("\n") == 1 and remedy in err and not shown and
          not os.path.exists(out + "-cuda"), f"{code} {err}{shown}")
    code, _, err = train(quern, "auto", out + "-auto", variables)
    check(f"{name}: auto takes the CPU and says so", code == 0 and err.startswith("device: cpu; no GPU: ") and
          "error" not in err.splitlines()[0], f"{code} {err}")
    code, _, err = train(quern, None, out + "-unasked", variables)
    check(f"{name}: " + ("said" if unasked else "nothing said") + " unasked",
          code == 0 and err.startswith("device: cpu; no GPU: ") == unasked, f"{code} {err}")


def alone():
    """The command in a folder of its own, with and without a plugin."""
    os.makedirs("bin")
    quern = shutil.copy(os.path.join(BUILD, "quern"), "bin/quern")
    quern = os.path.abspath(quern)
    refused("no plugin", "E7001 device: cuda: libquern_cuda.so not found beside quern", 'build it with "make cuda"',
            quern, unasked=False)
    os.makedirs("empty")
    for library in ("libcuda.so.1", "libcublasLt.so.13"):
        with open(os.path.join("empty", library), "wb"):
            pass  # nothing that can be opened, and found before any other
    with open("bin/libquern_cuda.so", "wb") as f:
        f.write(b"not opened without a driver")
    refused("no driver", "E7001 device: cuda: no device (libcuda.so.1 not found)", "install it, or use --device=cpu",
            quern, unasked=False, LD_LIBRARY_PATH=os.path.abspath("empty"))


def simulated():
    plugin = os.path.join(SIMULATED, "libquern_cuda.so")
    refused("driver too old", "E7001 device: cuda: the driver is for CUDA ", "update the NVIDIA driver",
            QN_CUDA_PLUGIN=plugin, QN_CUDASIM_FAIL="cudaGetDeviceCount:1:forever:35")
    refused("no GPU", "E7001 device: cuda: no device; expected an NVIDIA GPU", "CUDA_VISIBLE_DEVICES",
            QN_CUDA_PLUGIN=plugin, QN_CUDASIM_DEVICES="0")
    refused("no code for the GPU", "E7001 device: cuda: the plugin has no code for ", "make cuda CUDA_ARCHS=",
            QN_CUDA_PLUGIN=plugin, QN_CUDASIM_FAIL="cudaFuncGetAttributes:1:forever:209")
    code, _, err = train(os.path.join(BUILD, "quern"), "auto", "second",
                         {"QN_CUDA_PLUGIN": plugin, "QN_CUDASIM_DEVICES": "2",
                          "QN_CUDASIM_FAIL": "cudaFuncGetAttributes:1:209"})
    check("no code for the first GPU: auto takes the second", code == 0 and err.startswith("device: cuda:1, "), err)


def libraries():
    """The plugin with a cuBLASLt, then a cuDNN, that cannot be opened."""
    os.makedirs("blas")
    for path in glob.glob(SIMULATED + "/lib*.so*"):
        shutil.copy(path, "blas")
    with open("blas/libcublasLt.so.13", "wb"):
        pass
    refused("no cuBLASLt", "E7002 device: ", "LD_LIBRARY_PATH",
            QN_CUDA_PLUGIN=os.path.abspath("blas/libquern_cuda.so"))
    os.makedirs("dnn")
    for library in ("libcudart.so.13", "libcublasLt.so.13"):
        shutil.copy(os.path.join(SIMULATED, library), "dnn")
    with open("dnn/libcudnn.so.9", "wb"):
        pass
    objects = glob.glob(SIMULATED + "/kernels/*.o") + glob.glob(os.path.dirname(SIMULATED) + "/host/**/*.o",
                                                                 recursive=True)
    linked = subprocess.run(["g++", "-shared", "-Wl,-rpath,$ORIGIN", "-o", "dnn/libquern_cuda.so", *objects,
                             "dnn/libcudart.so.13", "dnn/libcublasLt.so.13", "-lm", "-ldl"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False)
    check("a plugin without cuDNN", linked.returncode == 0, linked.stdout.decode())
    refused("no cuDNN", "E7002 device: ", "expected cuDNN 9", QN_CUDA_PLUGIN=os.path.abspath("dnn/libquern_cuda.so"))


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("r.json", "w", encoding="utf-8") as f:
            json.dump(RECIPE, f)
        alone()
        if not os.path.exists(os.path.join(SIMULATED, "libquern_cuda.so")):
            print("skip messages of the driver and of libraries: no CUDA headers: this build has no "
                  "cudasim/fast/libquern_cuda.so (make cudasim)")
        else:
            simulated()
            libraries()
        os.chdir(TOP)
    return failed


sys.exit(main())
