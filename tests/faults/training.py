#!/usr/bin/env python3
"""`quern train` under kill -9, signals, closed streams, full disks, missing devices and odd paths: the run goes on from
its checkpoint bit for bit, or ends with one line and the right status. run-tests: timeout 400"""
import glob
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"), "quern")
LONG = bool(os.environ.get("QN_TEST_LONG"))
SEED = int(os.environ.get("QN_TEST_SEED", time.time_ns() % 1000000))
failed = 0
# 160 training samples in batches of 20 and two to an update: four updates an epoch.
RECIPE = {
    "quern": 1, "name": "kill", "data": {"digits": 200, "validation": 0.2, "workers": 2},
    "augment": {"flip": 0.5, "rotate": 10, "crop": 2, "brightness": 0.1, "erase": 0.5},
    "model": [{"conv": 4, "stride": 2}, {"batch_norm": True, "activation": "relu"}, {"dropout": 0.3}, {"linear": 10}],
    "batch": 20, "accumulate": 2, "seed": 3, "epochs": 6, "ema": {"decay": 0.9}, "clip": {"norm": 1},
    "schedule": {"name": "cosine", "warmup": 1}, "log": {"every_steps": 1},
    "checkpoint": {"every_steps": 3, "keep": 3},
}
OPTIMIZERS = [
    {"name": "adamw", "lr": 0.01}, {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    {"name": "lamb", "lr": 0.01}, {"name": "sgd", "lr": 0.05}, {"name": "adam", "lr": 0.01},
    {"name": "rmsprop", "lr": 0.01}, {"name": "rmsprop", "lr": 0.01, "momentum": 0.9},
    {"name": "adagrad", "lr": 0.05}, {"name": "lion", "lr": 0.003},
]


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def own_signals():
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def start(words, **options):
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    options.setdefault("preexec_fn", own_signals)
    return subprocess.Popen([QUERN, *words], stdin=subprocess.DEVNULL, **options)


def run(*words, **options):
    process = start(words, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")


def write_recipe(path, **changes):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**RECIPE, **changes}, f)
    return path


def log_of(directory):
    """Events without what differs from run to run; steps in order."""
    rows = []
    with open(os.path.join(directory, "log.jsonl"), encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            row.pop("seconds", None)
            if row["event"] != "resume":
                rows.append(row)
    return rows


def end_of(directory):
    """Bytes of the last checkpoint's tensors, and the log."""
    last = sorted(glob.glob(directory + "/checkpoints/step-*"))[-1]
    state = [os.path.basename(last)]
    for name in ("model.safetensors", "state.safetensors"):
        with open(os.path.join(last, name), "rb") as f:
            state.append(f.read())
    return state, log_of(directory)


def same_end(name, good, directory, shown=""):
    state, log = end_of(directory)
    steps = [r["step"] for r in log if r["event"] == "step"]
    check(name + ": same bytes as without interruption", state == good[0], shown)
    check(name + ": the log has every step once", log == good[1] and steps == sorted(set(steps)),
          shown + "\n" + "\n".join(f"{a}\n{b}" for a, b in zip(log, good[1]) if a != b)[:600])


def steps_logged(directory):
    try:
        with open(os.path.join(directory, "log.jsonl"), "rb") as f:
            return f.read().count(b'"event":"step"')
    except OSError:
        return 0


def until(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.001)


def new_run(folder, recipe, **options):
    """Starts a run under folder; returns process and the directory it will have."""
    return start(["train", recipe, "--out", folder, "--threads", "2"], **options), os.path.join(folder, "kill-1")


def kill_and_resume(folder, draw):
    for optimizer in OPTIMIZERS if LONG else OPTIMIZERS[:3]:
        name = optimizer["name"] + ("-momentum" if "momentum" in optimizer else "")
        base = os.path.join(folder, name)
        os.mkdir(base)
        recipe = write_recipe(base + "/kill.json", optimizer=optimizer)
        code, _, err = run("train", recipe, "--out", base + "/whole", "--threads", "2")
        if code != 0:
            check(name + ": trains", False, err)
            continue
        good = end_of(base + "/whole/kill-1")
        process, directory = new_run(base + "/killed", recipe)
        shown, kills = "", 0
        while process.poll() is None:
            # The first kill is after a checkpoint was written; later ones may hit anything, its writing too.
            target = draw.randint(4, 20) if kills == 0 else steps_logged(directory) + draw.randint(0, 8)
            until(lambda t=target, d=directory: steps_logged(d) >= t, process)
            if kills < 3:
                time.sleep(draw.random() * 0.02)
                process.kill()
                kills += 1
                shown += f" killed at {steps_logged(directory)}"
            process.communicate(timeout=120)
            if process.returncode == -signal.SIGKILL:
                process = start(["train", recipe, "--resume=" + directory, "--threads", "2"])
        _, err = process.communicate() if process.stdout and not process.stdout.closed else (b"", b"")
        check(f"{name}: {kills} kills, then ends well", process.returncode == 0, shown)
        same_end(name, good, directory, shown)


def signals(folder):
    recipe = write_recipe(folder + "/kill.json")
    run("train", recipe, "--out", folder + "/whole", "--threads", "2")
    good = end_of(folder + "/whole/kill-1")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        process, directory = new_run(os.path.join(folder, number.name), recipe)
        until(lambda d=directory: steps_logged(d) >= 5, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        last = err.decode().strip().splitlines()[-1:]
        check(f"{number.name}: status 75 and where to go on",
              process.returncode == 75 and last and directory in last[0], f"{process.returncode} {err.decode()}")
        code, _, err = run("train", recipe, "--resume=" + directory, "--threads", "2")
        check(f"{number.name}: resumes", code == 0, err)
        same_end(number.name, good, directory)
    process, directory = new_run(folder + "/nohup", recipe,
                                 preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(lambda: steps_logged(directory) >= 3, process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    check("a SIGHUP that was ignored before (nohup) stays ignored", process.returncode == 0, process.returncode)


def signal_at_any_time(folder):
    """From the first moment on: ended at once while there is nothing to save, saved with 75, or done before it came."""
    recipe = write_recipe(folder + "/kill.json")
    run("train", recipe, "--out", folder + "/whole", "--threads", "2")
    good = end_of(folder + "/whole/kill-1")
    seen = {}
    for k in range(12):
        number = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)[k % 3]
        process, directory = new_run(f"{folder}/{k}", recipe)
        time.sleep(0.004 * k * k / 4)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        code = process.returncode
        seen[code] = seen.get(code, 0) + 1
        if code == -number:
            check(f"signal after {k * k} ms: before there is anything to save",
                  not glob.glob(directory + "/checkpoints/*"), err.decode())
            continue
        if code == 75:
            code, _, err = run("train", recipe, "--resume=" + directory, "--threads", "2")
        check(f"signal after {k * k} ms: saved, or done", code == 0, f"{process.returncode} {code} {err}")
        same_end(f"signal after {k * k} ms", good, directory)
    print("statuses seen: " + ", ".join(f"{code}: {n}" for code, n in sorted(seen.items())))


def second_interrupt(folder):
    # One step takes long enough that the second signal comes before it ends.
    recipe = write_recipe(folder + "/kill.json", data={"digits": 2000}, batch=2000, accumulate=1, augment=False,
                          model=[{"conv": 32}, {"conv": 32}, {"linear": 10}], checkpoint={"every_steps": 1})
    process, directory = new_run(folder + "/out", recipe)
    until(lambda: glob.glob(directory + "/checkpoints/step-*/manifest.json"), process)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    _, err = process.communicate()
    check("a second Ctrl-C leaves at once with 130", process.returncode == 130, f"{process.returncode} {err.decode()}")
    code, _, err = run("train", recipe, "--resume=" + directory, "--epochs", "1")
    check("the last checkpoint is intact after it", code in (0, 2), err)


def streams(folder):
    recipe = write_recipe(folder + "/kill.json", epochs=2)
    run("train", recipe, "--out", folder + "/whole", "--threads", "2")
    good = end_of(folder + "/whole/kill-1")
    for name, script in (("stdout closed", '"$@" >&-'), ("stderr closed", '"$@" 2>&-'),
                         ("all streams closed", '"$@" <&- >&- 2>&-'), ("stderr to a full device", '"$@" 2>/dev/full'),
                         ("stderr to a pipe without reader", '"$@" 2> >(exec true)')):
        out = os.path.join(folder, name.replace(" ", "-"))
        done = subprocess.run(["bash", "-c", script, "-", QUERN, "train", recipe, "--out", out, "--threads", "2"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              check=False)
        check(name + ": status 0", done.returncode == 0, f"{done.returncode} {done.stderr.decode()}")
        same_end(name, good, out + "/kill-1")
    code, _, err = run("train", recipe, "--out", folder + "/full", stdout=open("/dev/full", "wb"))
    check("stdout on a full device: E6002, after the run", code == 6 and "error E6002 io: stdout: " in err, err)
    done = subprocess.run(["bash", "-c", '"$0" "$@" | head -0', QUERN, "train", recipe, "--out", folder + "/head"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, check=False)
    check("stdout to a pipe without reader: no complaint", b"E6002" not in done.stderr, done.stderr.decode())


def full_disk(folder):
    recipe = write_recipe(folder + "/kill.json", epochs=2)
    run("train", recipe, "--out", folder + "/whole", "--threads", "2")
    good, _ = end_of(folder + "/whole/kill-1")
    directory = folder + "/whole/kill-1"
    for path in glob.glob(directory + "/checkpoints/step-*")[:]:
        if not path.endswith("step-000004"):
            shutil.rmtree(path)
    if not os.path.isdir(directory + "/checkpoints/step-000004"):
        check("a checkpoint of step 4 is kept", False, os.listdir(directory + "/checkpoints"))
        return
    os.remove(directory + "/log.jsonl")
    os.symlink("/dev/full", directory + "/log.jsonl")
    code, _, err = run("train", recipe, "--resume=" + directory, "--threads", "2")
    lines = [x for x in err.splitlines() if "log.jsonl" in x]
    check("the log's disk is full: training goes on, one line says so",
          code == 0 and len(lines) == 1 and lines[0].startswith("error E6002 io: "), f"{code} {err}")
    last = sorted(glob.glob(directory + "/checkpoints/step-*"))[-1]
    with open(last + "/model.safetensors", "rb") as f:
        check("the log's disk is full: same weights", f.read() == good[1])
    limit = 4096
    code, _, err = run("train", recipe, "--out", folder + "/limited",
                       preexec_fn=lambda: (own_signals(), signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                                           resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))))
    check("no checkpoint fits on the disk: training goes on, says so each time, and fails at its end",
          code == 6 and err.count("error E6002 io: ") >= 3 and "epoch 2/2" in err and
          os.path.exists(folder + "/limited/kill-1/result.json"), f"{code} {err}")


def devices(folder):
    recipe = write_recipe(folder + "/kill.json", epochs=1)
    hidden = dict(os.environ, CUDA_VISIBLE_DEVICES="")  # where there are GPUs, none for this
    code, out, err = run("train", recipe, "--out", folder + "/a", "--device", "cuda", env=hidden)
    check("--device=cuda where there is none",
          code == 7 and err.startswith("error E7001 device: cuda: ") and err.count("\n") == 1 and
          "--device=cpu" in err and not out, f"{code} {err}")
    code, _, err = run("train", recipe, "--out", folder + "/b", "--device", "auto", env=hidden)
    check("--device=auto says what it chose", code == 0 and err.startswith("device: cpu; no GPU: "), err)
    code, _, err = run("train", recipe, "--out", folder + "/c", "--set", "device=cuda", env=hidden)
    check("a recipe's device is checked too", code == 7 and "E7001" in err, err)
    for isa in ("SSE41", "AVX", "AVX2"):
        code, out, err = run("train", recipe, "--out", folder + "/" + isa,
                             env=dict(os.environ, ONEDNN_MAX_CPU_ISA=isa, DNNL_MAX_CPU_ISA=isa))
        check(f"oneDNN limited to {isa}: trains", code == 0 and "validation accuracy" in out, err)
    ruled = dict(os.environ, GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA")
    code, out, err = run("train", recipe, "--out", folder + "/tunables", env=ruled)
    check("C library told of no AVX2, AVX-512, FMA: trains", code == 0, err)
    qemu = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if not qemu:
        print("skip a processor without AVX: qemu-user is not installed")


def surroundings(folder):
    for name in ("with space", "per%n%s%cent", "line\nbreak", b"not-utf8-\xff\xfe".decode(errors="surrogateescape"),
                 "-dash", "ümläut"):
        base = os.path.join(folder, name)
        os.mkdir(base)
        recipe = write_recipe(base + "/kill.json", epochs=1)
        code, out, err = run("train", recipe, "--out", base + "/o")
        check(f"path {name!a}: trains", code == 0 and os.path.exists(base + "/o/kill-1/log.jsonl"), err)
        check(f"path {name!a}: nothing raw on the terminal", "\n\n" not in out and "\xff" not in out, out)
    recipe = write_recipe(folder + "/kill.json", epochs=1)
    whole = {}
    for name, env in (("plain", {}), ("comma", {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}),
                      ("zone", {"TZ": "Pacific/Kiritimati"})):
        code, _, err = run("train", recipe, "--out", os.path.join(folder, name), "--threads", "2",
                           env=dict(os.environ, **env))
        whole[name] = end_of(os.path.join(folder, name, "kill-1")) if code == 0 else err
    check("locale with decimal comma: same run", whole["plain"] == whole["comma"], whole["comma"])
    check("time zone: same run", whole["plain"] == whole["zone"])
    for name, what, limit in (("files", resource.RLIMIT_NOFILE, 24), ("stack", resource.RLIMIT_STACK, 256 * 1024)):
        code, _, err = run("train", recipe, "--out", os.path.join(folder, name),
                           preexec_fn=lambda w=what, n=limit: (own_signals(), resource.setrlimit(w, (n, n))))
        lines = [x for x in err.splitlines() if x.startswith("error E")]
        check(f"limit of {name}: works, or one line", code == 0 or (code in (3, 5, 6) and len(lines) == 1),
              f"{code} {err}")
    if os.geteuid() == 0:
        print("skip directory that cannot be written: the tests run as root")
    else:
        os.mkdir(folder + "/ro", 0o555)
        code, _, err = run("train", recipe, "--out", folder + "/ro/runs")
        check("directory that cannot be written", code == 6 and err.startswith("error E6002 io: "), err)
    code, _, err = run("train", recipe, "--out", "/dev/null/x")
    check("--out below a file", code == 6 and err.count("error E600") == 1, err)
    code, _, err = run("train", recipe, "--out", folder + "/home", env={"PATH": "/bin", "HOME": "/nonexistent"})
    check("no HOME, no environment", code == 0, err)


def main():
    print(f"seed {SEED} (QN_TEST_SEED repeats it)")
    draw = random.Random(SEED)
    parts = [signals, signal_at_any_time, second_interrupt, streams, full_disk, devices, surroundings]
    chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if not chosen or "kill_and_resume" in chosen:
            os.mkdir(folder + "/kills")
            kill_and_resume(folder + "/kills", draw)
        for part in parts:
            if not chosen or part.__name__ in chosen:
                os.mkdir(os.path.join(folder, part.__name__))
                part(os.path.join(folder, part.__name__))
    sys.exit(failed)


main()
