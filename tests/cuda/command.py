#!/usr/bin/env python3
"""The command on a GPU, the simulator's if QN_CUDA_PLUGIN names none: training, evaluation and prediction agree with
the CPU's; --profile; and errors of the GPU in the midst of a run (fault rows B5, F2): one line, exit status 7, and the
run goes on from its last checkpoint; so does one that met a picture it cannot read. run-tests: timeout 400"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"))
QUERN = os.path.join(BUILD, "quern")
PLUGIN = os.environ.get("QN_CUDA_PLUGIN") or os.path.join(BUILD, "cudasim/fast/libquern_cuda.so")
LONG = bool(os.environ.get("QN_TEST_LONG"))
# 160 training samples in batches of 16: ten updates an epoch.
RECIPE = {
    "quern": 1, "name": "gpu", "data": {"digits": 250, "validation": 0.2, "test_fraction": 0.2},
    "model": [{"conv": 4, "kernel": 3, "activation": "relu"}, {"max_pool": 2}, "flatten",
              {"linear": 16, "activation": "relu"}, {"dropout": 0.2}, {"linear": 10}],
    "loss": "cross_entropy", "optimizer": {"name": "adamw", "lr": 0.01}, "clip": {"norm": 1},
    "batch": 16, "seed": 3, "epochs": 2, "log": {"every_steps": 1}, "checkpoint": {"every_steps": 3, "keep": 3},
}
# What a driver answers: too old, another than the library's, no code for the GPU, in use or gone, bad memory, a kernel
# that went wrong.
CODES = (35, 803, 209, 46, 214, 700, 719)
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def run(*words, **variables):
    environment = dict(os.environ, QN_CUDA_PLUGIN=PLUGIN, OMP_WAIT_POLICY="passive", **variables)
    done = subprocess.run([QUERN, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, env=environment, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def train(out, device, *words, **variables):
    return run("train", "r.json", "--out", out, "--device", device, "--threads", "2", "-q", *words, **variables)


def losses(directory):
    with open(directory + "/log.jsonl", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [row["loss"] for row in rows if row.get("event") == "step"]


def same_network_everywhere():
    code, _, err = train("runs", "cpu")
    check("trains on the CPU", code == 0, err)
    code, _, err = train("runs", "cuda")
    check("trains on the GPU", code == 0, err)
    cpu, gpu = losses("runs/gpu-1"), losses("runs/gpu-2")
    apart = max(abs(a - b) / abs(a) for a, b in zip(cpu, gpu))
    check("with the CPU's losses", len(cpu) == len(gpu) == 20 and apart < 1e-3, f"{apart}: {cpu} {gpu}")
    code, _, err = train("runs", "cuda:0", QN_GRAPHS="off")
    check("without graphs the same bits", code == 0 and losses("runs/gpu-3") == gpu, err)
    results = []
    for device in ("cpu", "cuda"):
        code, out, err = run("eval", "runs/gpu-2", "--device", device, "--json")
        check(f"evaluates on {device}", code == 0, err)
        results.append(json.loads(out))
    check("to the same result", results[0]["confusion"] == results[1]["confusion"] and
          abs(results[0]["metrics"]["loss"] - results[1]["metrics"]["loss"]) < 1e-4, results)


def predictions():
    with open("x.csv", "w", encoding="utf-8") as f:
        for i in range(3):
            f.write(",".join(str((i * 31 + k * 7) % 256) for k in range(784)) + "\n")
    answers = []
    for device in ("cpu", "cuda"):
        code, out, err = run("predict", "runs/gpu-2", "x.csv", "--device", device)
        check(f"predicts on {device}", code == 0, err)
        answers.append([json.loads(line) for line in out.splitlines()])
    check("the same", len(answers[0]) == 3 and
          all(a["class"] == b["class"] and abs(a["probability"] - b["probability"]) < 1e-4
              for a, b in zip(*answers)), answers)


def profile():
    code, out, err = run("train", "r.json", "--out", "profiled", "--device", "cuda", "--epochs", "1", "--profile")
    check("--profile", code == 0 and "conv2d" in out + err and "adam" in out + err, out + err)
    with open("profiled/gpu-1/trace.json", encoding="utf-8") as f:
        trace = json.load(f)
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    check("its trace", any("conv2d" in json.dumps(e) for e in events), events[:3])


def not_finite():
    """Steps that go wrong are told as on the CPU, though the loop is a step ahead of what it looks at."""
    deep = json.dumps([*RECIPE["model"][:4], *[{"linear": 16}] * 4, *RECIPE["model"][5:]])
    wild = ["--set", "model=" + deep, "--set", 'optimizer={"name":"sgd","lr":1000}', "--set", "clip=false"]
    for name, more in (("skipped, then given up", []), ("--check-finite", ["--check-finite"]),
                       ("in groups of two", ["--set", "accumulate=2"]), ("noted by --profile", ["--profile"]),
                       ("jumps", ["--set", 'spike={"policy":"stop","window":3}'])):
        told = []
        for device in ("cpu", "cuda"):
            code, _, err = train("wild-" + device, device, *wild, *more)
            lines = [line for line in err.splitlines() if line.startswith(("warn", "error"))]
            lines = [line.replace("wild-" + device, "wild") for line in lines]
            told.append((code, lines))
        check("not finite: " + name, told[0] == told[1] and told[0][1], told)


def tuning():
    """quern tune writes a lock file; train takes it, keeps it in the run's directory, and refuses a bad one."""
    code, out, err = run("tune", "r.json", "--trials", "2", "--out", "t.lock")
    check("tunes", code == 0 and "conv2d_grad_w F32" in out and "matmul F32" in out, out + err)
    code, out, err = run("tune", "r.json", "--trials", "2", "--out", "j.lock", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    check("tunes, as JSON", code == 0 and any(row["tried"] > 1 for row in rows) and
          all(row["seconds"] <= row["first"] for row in rows), out + err)
    if "cudasim" in PLUGIN:
        # Of the simulated cuDNN's engines 67 has TF32, 20 any order, 12 Winograd, 41 no plan; of cuBLASLt's schemes 1
        # adds in place. They are ranked before the others.
        engines = {row["algorithm"].split()[1] for row in rows if row["algorithm"].startswith("engine")}
        tried = {row["tried"] for row in rows if row["algorithm"].startswith("engine")}
        schemes = {row["algorithm"].split("scheme ")[1][0] for row in rows if "scheme" in row["algorithm"]}
        check("nothing is tried that is not deterministic or sums below f32",
              engines and engines <= {"0", "28"} and tried == {2} and schemes and schemes <= {"0", "2"}, rows)
    code, _, err = train("tuned", "cuda", "--tuning", "t.lock", "--epochs", "1")
    with open("t.lock", "rb") as f, open("tuned/gpu-1/tuning.lock", "rb") as g:
        lock = f.read()
        check("trains with the lock file and keeps it", code == 0 and lock == g.read(), err)
    code, _, err = run("train", "r.json", "--resume=tuned/gpu-1", "--epochs", "2", "--device", "cuda", "-q")
    check("goes on with the run's own", code == 0, err)
    code, _, err = train("cpu", "cpu", "--tuning", "t.lock")
    check("the CPU has no use for it", code == 2 and err.startswith("error E2001 usage: tuning: "), err)
    code, _, err = run("tune", "r.json", "--device", "cpu")
    check("nor anything to tune", code == 2 and err.startswith("error E2001 usage: --device: cpu; "), err)
    bad = {"E4051 tuning: bad.lock:7:1: \"choose\"; expected choice or end": lock.replace(b"\nchoice", b"\nchoose", 1),
           "E4051 tuning: bad.lock:3:8: driver: \"\"; ": lock.replace(b"driver\t", b"driver\t\ndriver\t", 1),
           "E7004 device: tuning: lock file of ": lock.replace(b"cudnn\t", b"cudnn\t1", 1),
           "E7004 device: tuning: convolution: algorithm \"engine 700":
           lock.replace(b"\tengine ", b"\tengine 7000 ", 1)}
    for line, content in bad.items():
        with open("bad.lock", "wb") as f:
            f.write(content)
        code, out, err = train("bad", "cuda", "--tuning", "bad.lock")
        check(line, code == int(line[1]) and err.startswith("error " + line) and err.count("\n") == 1 and not out and
              not os.path.exists("bad"), f"{code} {err}")


def failures():
    """The k-th call answers with a code, and every call after it."""
    calls = (1, 2, 3, 5, 8, 40, 200, 400, 700, 1000) if not LONG else range(1, 1500, 7)
    for code in CODES:
        bad, kept = [], 0
        for k in calls:
            out = f"f{code}-{k}"
            status, _, err = train(out, "cuda", "--epochs", "1", QN_CUDASIM_FAIL=f"any:{k}:forever:{code}")
            lines = err.splitlines()
            errors = [line for line in lines if line.startswith("error E7")]
            note = [line for line in lines if "the GPU failed" in line]
            kept += any("to go on from step" in line for line in note)
            if status != 7 or len(errors) != 1 or (os.path.isdir(out) and not note):
                bad.append((k, status, err))
        check(f"driver answers {code}: one line, 7, the last checkpoint", not bad and kept > 0, bad[:2])


def memory_of_the_gpu():
    bad = []
    for k in (1, 2, 3, 4, 5, 6):
        status, _, err = train(f"m{k}", "cuda", QN_CUDASIM_FAIL=f"cudaMalloc:{k}:forever:2")
        if status != 5 or err.count("error E5002 memory: ") != 1 or (k in (3, 4, 5) and "MiB are free" not in err):
            bad.append((k, status, err))
    check("the GPU has no memory left: E5002 with what is free", not bad, bad[:2])
    status, _, err = train("small", "cuda", QN_CUDASIM_MEMORY="100000")
    check("a GPU that is too small: E5001 before anything is taken", status == 5 and "error E5001 memory: " in err and
          "largest batch that fits" in err, err)


def libraries():
    """Each call of cuBLASLt and cuDNN fails, once and from then on: the call is named, or something else is found."""
    calls = ["cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute", "cublasLtMatrixLayoutCreate",
             "cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceSetAttribute", "cublasLtMatmulAlgoGetHeuristic",
             "cublasLtMatmul", "cudnnCreate", "cudnnSetStream", "cudnnBackendCreateDescriptor",
             "cudnnBackendSetAttribute", "cudnnBackendGetAttribute", "cudnnBackendFinalize", "cudnnBackendExecute"]
    for call in calls:
        bad, failed_ones = [], 0
        for k in (1, 2, 7):
            for how in ("", ":forever"):
                status, _, err = train(f"{call}{k}{how}", "cuda", "--epochs", "1", QN_CUDASIM_FAIL=f"{call}:{k}{how}")
                errors = [line for line in err.splitlines() if line.startswith("error E")]
                failed_ones += status != 0
                named = call in err or (call.startswith("cudnn") and "cuDNN" in err)
                if status not in (0, 2, 5, 7) or len(errors) != (status != 0) or (status and not named):
                    bad.append((k, how, status, err))
        check(f"{call} fails: one line that names it", not bad and failed_ones > 0, bad[:2])


def goes_on():
    status, _, err = train("lost", "cuda", QN_CUDASIM_FAIL="cudaGraphLaunch:30:forever:700")
    directory = "lost/gpu-1"
    check("the GPU is lost in the midst of a run", status == 7 and err.count("error E7003 device: ") == 1 and
          f"quern train --resume={directory}" in err, err)
    status, _, err = run("train", "r.json", "--resume=" + directory, "--device", "cuda", "--threads", "2", "-q")
    check("and goes on from its last checkpoint", status == 0 and losses(directory)[-1] == losses("runs/gpu-2")[-1],
          err + str(losses(directory)) + str(losses("runs/gpu-2")))


def png(values):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(values[4 * i:4 * i + 4]) for i in range(4))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def bad_picture():
    """Among the micro-batches of an update, while the step before is still under way."""
    for kind in ("cats", "dogs"):
        os.makedirs("pets/" + kind)
        for i in range(20):
            with open(f"pets/{kind}/{i:02}.png", "wb") as f:
                f.write(png([(i * 37 + k * k * 61 + (kind == "cats") * k * 80) % 256 for k in range(16)]))
    model = [{"conv": 3}, {"batch_norm": True}, "relu", {"dropout": 0.3}, {"linear": 2}]
    with open("pets.json", "w", encoding="utf-8") as f:
        json.dump({"quern": 1, "name": "pets", "data": {"png": "pets", "validation": 0.2, "normalize": "scale"},
                   "augment": {"flip": True}, "model": model, "batch": 4, "epochs": 2, "accumulate": 3, "spike": "off",
                   "ema": {"decay": 0.9}}, f)
    words = ("train", "pets.json", "--device", "cuda", "-q")
    status, _, err = run(*words, "--out", "good")
    check("pictures", status == 0, err)
    last = "pets-1/checkpoints/step-000006/"
    for path in ("pets/dogs/07.png", "pets/cats/11.png"):
        with open(path, "r+b") as f:
            whole = f.read()
            f.truncate(40)
        status, _, err = run(*words, "--out", path + ".runs")
        check(path + " is cut short", status == 3 and err.startswith("error E3012 data: " + path), err)
        with open(path, "wb") as f:
            f.write(whole)
        status, _, err = run("train", f"--resume={path}.runs/pets-1", "--device", "cuda", "-q")
        same = status == 0
        for name in ("model.safetensors", "state.safetensors"):
            with open("good/" + last + name, "rb") as a, open(f"{path}.runs/{last}{name}", "rb") as b:
                same = same and a.read() == b.read()
        check("and repaired: the bytes of a run that never met it", same, err)


def main():
    if not os.path.exists(PLUGIN):
        print("skip the command on a GPU: no CUDA headers: this build has no cudasim/fast/libquern_cuda.so "
              "(make cudasim)")
        return 0
    simulated = "cudasim" in PLUGIN
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("r.json", "w", encoding="utf-8") as f:
            json.dump(RECIPE, f)
        for part in (same_network_everywhere, predictions, profile, not_finite, tuning, bad_picture):
            part()
        if simulated:
            for part in (failures, memory_of_the_gpu, libraries, goes_on):
                part()
        else:
            print("skip errors of the GPU: it is not simulated")
        os.chdir(TOP)
    return failed


sys.exit(main())
