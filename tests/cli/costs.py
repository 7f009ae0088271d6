#!/usr/bin/env python3
"""quern plan, show, search and train --profile: what they print, their errors, and that they agree with each other."""
import csv
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.abspath(os.path.join(os.environ.get("QN_BUILD", "build/release"), "quern"))
CNN = os.path.abspath("recipes/cnn-32-64-64.json")
SMALL = """{ "quern": 1, "data": { "digits": 192, "validation": 0.25, "normalize": "scale" },
  "model": ["flatten", { "linear": 16, "activation": "relu" }, { "linear": 10 }],
  "loss": "cross_entropy", "optimizer": { "name": "sgd", "lr": 0.001 }, "epochs": 3, "batch": 32 }"""
failed = 0


def run(*words, **options):
    return subprocess.run([QUERN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          timeout=240, text=True, check=False, **options)


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print(shown)


def expect_error(name, words, line, code=2):
    done = run(*words)
    check(name, done.returncode == code and done.stderr == line + "\n" and not done.stdout,
          f"  {words}: {done.returncode} {done.stderr!r}\n  expected {code} {line!r}")


def plans():
    plan = json.loads(run("plan", CNN, "--json").stdout)
    conv = sum(9 * i * o + o for i, o in ((1, 32), (32, 64), (64, 64)))
    check("parameters of the convolutional network", plan["parameters"] == conv + 576 * 64 + 64 + 640 + 10, plan)
    total = plan["bytes"]
    parts = sum(total[k] for k in ("params", "buffers", "state", "grads", "io", "work", "libraries"))
    check("bytes add up", parts == total["total"] and total["naive_work"] >= 1.5 * total["work"], total)
    products = sum(o["flops"] for o in plan["operators"] if o["operator"].startswith("conv2d"))
    check("operators are part of the sum", 0 < products < plan["flops"], products)
    for name in ("a100", "h100", "b200", "rtx4090"):
        done = run("plan", CNN, f"--gpu={name}", "--json")
        gpu = json.loads(done.stdout) if done.returncode == 0 else {}
        good = gpu and 0 < gpu["bound_seconds"]["bf16"] < gpu["bound_seconds"]["f32"] < 0.001
        check(f"plan for {name}", bool(good) and gpu["parameters"] == plan["parameters"], done.stderr)
    asked_plans()
    expect_error("unknown GPU", ["plan", CNN, "--gpu=h200"], 'error E2001 usage: --gpu: "h200"; did you mean "b200"? '
                 "expected one of a100, b200, h100, rtx4090")


def asked_plans():
    """Workspace of the libraries enters the plan where the plugin is; without one it is set aside as a whole."""
    plugin = os.path.join(os.path.dirname(QUERN), "cudasim", "fast", "libquern_cuda.so")
    for path, there in ((plugin, True), ("/nowhere/libquern_cuda.so", False)):
        if there and not os.path.exists(path):
            print("skip workspace in the plan: no CUDA headers: this build has no simulated plugin (make cudasim)")
            continue
        env = {**os.environ, "QN_CUDA_PLUGIN": path}
        done = run("plan", CNN, "--gpu=a100", "--json", env=env)
        plan = json.loads(done.stdout) if done.returncode == 0 else {"kernels": None}
        good = plan["kernels"] is there and (plan["bytes"]["libraries"] == 0) == there
        good = good and (plan["bytes"]["workspace"] > 0) == there and plan["largest_batch"] > 1000
        good = good and all(bool(o["variant"]) == there for o in plan["operators"])
        check(f"kernels {'asked' if there else 'not asked'} for a plan", good, done.stdout[:400] + done.stderr)
        text = run("plan", CNN, "--gpu=a100", env=env).stdout
        check("a plan without them says why", ("not asked: error E7002" in text) != there, text[:900])


def largest_batch(folder):
    done = json.loads(run("plan", "r.json", "--gpu=rtx4090", "--json", "--batch=64", cwd=folder).stdout)
    check("--batch", done["batch"] == 64 and done["largest_batch"] > 64, done["batch"])
    done = run("plan", "r.json", "--verify", "-t1", cwd=folder)
    seen = dict(re.findall(r"^([a-z /]+): (-?[0-9.]+)", done.stdout, re.M))
    good = done.returncode == 0 and seen.get("planned minus used") == "0"
    good = good and seen.get("differing bytes without plan") == "0"
    check("plan --verify", good and seen.get("allocations per step", "0") == "0", done.stdout[-600:] + done.stderr)


def shows(folder):
    done = run("show", "r.json", "--svg=g.svg", "--pass=fuse", cwd=folder)
    with open(os.path.join(folder, "g.svg"), encoding="utf-8") as f:
        svg = f.read()
    good = done.returncode == 0 and " = matmul" in done.stdout and svg.count("matmul") >= 4
    check("show --pass --svg", good, done.stderr)
    layers = json.loads(run("show", "r.json", "--json", cwd=folder).stdout)["layers"]
    check("layers", [x["parameters"] for x in layers if x["parameters"]] == [784 * 16 + 16, 170], layers)
    done = run("show", "r.json", "--pass=fus", cwd=folder)
    check("unknown pass", done.returncode == 2 and 'did you mean "fuse"?' in done.stderr, done.stderr)
    done = run("show", "runs/r-1", "--json", cwd=folder)
    files = json.loads(done.stdout)["files"] if done.returncode == 0 else [{"tensors": []}]
    shapes = {t["name"]: t["shape"] for t in files[0]["tensors"]}
    check("tensors of a run", shapes.get("linear1.weight") in ([784, 16], [16, 784]), done.stdout + done.stderr)
    done = run("show", "runs/r-1", "--pass=fuse", cwd=folder)
    check("--pass is for recipes", done.returncode == 2 and "E2001" in done.stderr, done.stderr)


def profile(folder):
    done = run("train", "r.json", "-q", "-t1", "--profile", "--check-finite", cwd=folder)
    check("train --profile", done.returncode == 0 and "GFLOP/s" in done.stdout, done.stderr)
    with open(os.path.join(folder, "runs/r-1/trace.json"), encoding="utf-8") as f:
        events = json.load(f)["traceEvents"]
    starts = [e["ts"] for e in events if e["args"]["step"] == 4 and e["cat"] == "micro"]
    check("trace", len(events) > 50 and starts == sorted(starts) and all(e["dur"] >= 0 for e in events), events[:3])


def table(folder, name):
    with open(os.path.join(folder, name, "trials.csv"), encoding="utf-8") as f:
        return [[c for i, c in enumerate(row) if i != 3] for row in csv.reader(f)]


def searches(folder):
    with open(os.path.join(folder, "s.json"), "w", encoding="utf-8") as f:
        f.write('{ "optimizer.lr": { "log": [0.01, 1] }, // log-uniform\n  "model[1].linear": [16, 32] }')
    words = ["search", "r.json", "--space=s.json", "-n3", "-t1", "--seed=3", "-q"]
    done = run(*words, cwd=folder)
    good = done.returncode == 0 and "beats the recipe" in done.stdout
    check("search beats the recipe", good, done.stdout + done.stderr)
    whole = table(folder, "runs/r-search-1")
    path = os.path.join(folder, "runs/r-search-1/trials.csv")
    with open(path, encoding="utf-8") as f:
        lines = f.readlines()
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines[:3])  # as if it had been killed in trial 2
    again = run(*words, "--resume", cwd=folder)
    check("search goes on", again.stdout == done.stdout and table(folder, "runs/r-search-1") == whole, again.stderr)
    pictures = glob.glob(os.path.join(folder, "runs/r-search-1/*.png"))
    check("pictures of a search", len(pictures) == 2, pictures)
    other = run(*words[:-2], "--seed=4", "--resume=runs/r-search-1", cwd=folder)
    check("another search", other.returncode == 2 and "E2001" in other.stderr, other.stderr)
    done = run(*words[:3], "-m", "halving", "-n3", "-t1", "-q", cwd=folder)
    rows = table(folder, "runs/r-search-2")[1:]
    check("halving", done.returncode == 0 and [r[1] for r in rows] == ["3", "1", "1", "1", "3"], rows)
    check("trials of halving are counted once", "\n4 trials, " in done.stdout, done.stdout)
    with open(os.path.join(folder, "r26.json"), "w", encoding="utf-8") as f:
        f.write(SMALL.replace('"epochs": 3', '"epochs": 26').replace("192", "64"))
    done = run("search", "r26.json", "--space=s.json", "-m", "halving", "-n10", "-t1", "-q", cwd=folder)
    rows = [(int(r[0]), int(r[1]), float(r[2])) for r in table(folder, "runs/r26-search-1")[1:]]
    rungs = [[r for r in rows[1:] if r[1] == epochs] for epochs in (2, 8, 26)]
    check("rungs of halving: 10 trials of 26/9 epochs, 3 of 26/3, 1 of 26",
          done.returncode == 0 and [len(r) for r in rungs] == [10, 3, 1] and len(rows) == 15, rows)
    best = [[r[0] for r in sorted(rung, key=lambda r: (-r[2], r[0]))] for rung in rungs]
    check("the best third goes on", [sorted(r[0] for r in rung) for rung in rungs[1:]] ==
          [sorted(best[0][:3]), best[1][:1]], rows)
    for text, line in (('{ "optimizer.lrr": [1] }',
                        'E2105 config: b.json:1:21: optimizer.lrr: unknown key; did you mean "lr"?'),
                       ('{ "epochs": {"log": [0, 1]} }',
                        'E2108 config: b.json:1:22: epochs: 0; expected a number above 0 for "log"'),
                       ('{ "model[1].linear": [8], "epochs": [1, 2] }',
                        "E2117 config: b.json:1:27: epochs: what successive halving gives to the better trials; "
                        "expected other keys"),
                       ('{ "epochs": 3 }', "E2107 config: b.json:1:13: epochs: expected a list or a range")):
        with open(os.path.join(folder, "b.json"), "w", encoding="utf-8") as f:
            f.write(text)
        done = run("search", "r.json", "--space=b.json", "-m", "halving", cwd=folder)
        good = done.returncode == 2 and done.stderr == f"error {line}\n"
        check("space " + text, good, f"  {done.stderr!r}\n  {line!r}")
    expect_error("no space", ["search", CNN],
                 "error E2001 usage: --space: missing; expected a file; see quern search --help")


with tempfile.TemporaryDirectory() as temporary:
    with open(os.path.join(temporary, "r.json"), "w", encoding="utf-8") as recipe:
        recipe.write(SMALL)
    plans()
    largest_batch(temporary)
    profile(temporary)
    shows(temporary)
    searches(temporary)
sys.exit(failed)
