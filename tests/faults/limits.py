#!/usr/bin/env python3
"""Limits and clocks that others set: few threads (F6), little stack (B7), a clock that jumps (F5), long paths. Each
command works, with the same results, or ends with one line and the right status."""
import glob
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"), "quern")
SANITIZED = "san" in os.environ.get("QN_BUILD", "")
NOBODY = 61000 + os.getpid() % 4000  # a user without other processes
failed = 0
RECIPE = {
    "quern": 1, "name": "small", "data": {"digits": 160, "validation": 0.2, "workers": 2},
    "augment": {"flip": 0.5, "rotate": 10},
    "model": [{"conv": 16, "stride": 2}, {"batch_norm": True, "activation": "relu"}, {"dropout": 0.3}, {"linear": 10}],
    "batch": 32, "epochs": 2, "log": {"every_steps": 1}, "checkpoint": {"every_steps": 2, "keep": 3},
}
THREADS = """
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
/* At most MOST_THREADS threads beside the first at one time, as `ulimit -u` would have it. */
static atomic_int alive;
struct start { void *(*run)(void *); void *arg; };
static void *run(void *p)
{
    struct start s = *(struct start *)p;
    free(p);
    void *result = s.run(s.arg);
    alive--;
    return result;
}
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    struct start *s = malloc(sizeof *s);
    if (alive++ >= atoi(getenv("MOST_THREADS"))) {
        alive--;
        free(s);
        return EAGAIN;
    }
    *s = (struct start){ f, arg };
    return next(t, a, run, s);
}
"""
CLOCK = """
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>
/* The time of day goes an hour back every few questions; clocks that only go on are left alone. */
static atomic_int asked;
static long back(void) { return 3600L * (asked++ / 3); }
int clock_gettime(clockid_t id, struct timespec *t)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    int r = next(id, t);
    if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec -= back();
    return r;
}
int gettimeofday(struct timeval *t, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *t = (struct timeval){ now.tv_sec, now.tv_nsec / 1000 };
    return 0;
}
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def run(*words, timeout=60, **options):
    done = subprocess.run([QUERN, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout, check=False, **options)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def limited(what, soft):
    return lambda: resource.setrlimit(what, (soft, soft))


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def write_recipe(path, **changes):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**RECIPE, **changes}, f)
    return path


def preload(folder, name, source, **env):
    """Environment with a library built from source before all others; None where that is not possible."""
    if SANITIZED or not shutil.which("gcc"):
        print(f"skip {name}: " + ("a sanitizer's runtime must come first" if SANITIZED else "no gcc"))
        return None
    path = os.path.join(folder, name + ".so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-x", "c", "-o", path, "-", "-ldl"],
                   input=source.encode(), check=True)
    return dict(os.environ, LD_PRELOAD=path, **env)


def end_of(directory):
    """The last checkpoint's tensors, and the log without its times."""
    state, rows = [], []
    for name in ("model.safetensors", "state.safetensors"):
        with open(os.path.join(sorted(glob.glob(directory + "/checkpoints/step-*"))[-1], name), "rb") as f:
            state.append(f.read())
    with open(directory + "/log.jsonl", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            row.pop("seconds", None)
            if row["event"] != "resume":
                rows.append(row)
    return state, rows


# ---- F6: threads ----------------------------------------------------------------------------------------

def few_threads(folder):
    """One computing thread is the first; 1 more, 2 of the loader and at times 2 of the evaluation's are wished for."""
    env = preload(folder, "threads", THREADS)
    if not env:
        return
    recipe = write_recipe(folder + "/small.json")
    run("train", recipe, "--out", folder + "/whole", "--threads", "2")
    good = end_of(folder + "/whole/small-1")
    code, out, err = run("train", recipe, "--out", folder + "/none", "--threads", "2", env=dict(env, MOST_THREADS="0"))
    check("not a second thread: E7001, before a run is made",
          code == 7 and not out and not os.path.exists(folder + "/none") and
          err == "error E7001 device: cpu: 1 of 2 threads: no more can be started; expected all; use fewer threads, or "
          "raise the limit on processes (ulimit -u)\n", f"{code} {err}")
    code, out, err = run("train", recipe, "--out", folder + "/one", "--threads", "1", env=dict(env, MOST_THREADS="0"))
    check("not a second thread and --threads 1: trains", code == 0, f"{code} {err}")
    for most in range(1, 6):
        base = f"{folder}/most{most}"
        code, out, err = run("train", recipe, "--out", base, "--threads", "2", env=dict(env, MOST_THREADS=str(most)))
        note = f"loader: {most - 1} of 2 threads could be started"
        told = err.startswith(note) if most < 3 else "loader:" not in err
        check(f"at most {most} threads beside the first: the same run, missing loader threads are told",
              code == 0 and told and end_of(base + "/small-1") == good, f"{code} {err}")


def real_limit_of_threads(folder):
    """The system's own limit, which does not bind root: as a user that nobody else is."""
    if os.geteuid() != 0 or SANITIZED:
        print("skip ulimit -u: only root can run as a user without other processes"
              if os.geteuid() else "skip ulimit -u: sanitizers have threads of their own")
        return
    shutil.copy(QUERN, folder + "/quern")
    recipe = write_recipe(folder + "/small.json")
    os.chmod(recipe, 0o644)
    os.mkdir(folder + "/out")
    os.chown(folder + "/out", NOBODY, NOBODY)

    def become(n):
        resource.setrlimit(resource.RLIMIT_NPROC, (n, n))
        become_nobody()

    for n, expected in ((1, 7), (2, 0), (4, 0)):
        done = subprocess.run([folder + "/quern", "train", recipe, "--out", f"{folder}/out/{n}", "--threads", "2"],
                              preexec_fn=lambda n=n: become(n), cwd=folder, stdin=subprocess.DEVNULL, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        text = done.stderr.decode()
        check(f"ulimit -u {n}", done.returncode == expected and
              (expected == 0 or text.startswith("error E7001 device: cpu: 1 of 2 threads: ") and text.count("\n") == 1),
              f"{done.returncode} {text}")


def directories_that_cannot_be_written(folder):
    """Root may write everywhere, so as root the command runs as somebody else."""
    shutil.copy(QUERN, folder + "/quern")
    recipe = write_recipe(folder + "/small.json")
    os.chmod(recipe, 0o644)
    os.mkdir(folder + "/closed", 0o555)
    options = {"env": {"PATH": "/bin", "HOME": folder + "/closed", "TMPDIR": folder + "/closed"}}
    if os.geteuid() == 0:
        options["preexec_fn"] = become_nobody
    else:
        os.chmod(folder, 0o555)
    done = subprocess.run([folder + "/quern", "train", recipe, "--out", folder + "/closed/runs"], cwd=folder,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          check=False, **options)
    text = done.stderr.decode()
    check("a directory that cannot be written, with HOME and TMPDIR in it",
          done.returncode == 6 and not done.stdout and
          text == f"error E6002 io: {folder}/closed/runs: mkdir: Permission denied\n", f"{done.returncode} {text}")
    os.chmod(folder, 0o755)


# ---- B7: stack -------------------------------------------------------------------------------------------

KIB = 1024 if SANITIZED else 256  # a sanitizer's frames are larger
STACK = limited(resource.RLIMIT_STACK, KIB * 1024)


def little_stack(folder):
    """Every command with a stack of 256 KiB, and the deepest inputs."""
    recipe = write_recipe(folder + "/small.json", metrics=["accuracy", "auc"])
    model, tensors, space = folder + "/runs/small-1", folder + "/model.safetensors", folder + "/space.json"
    image = folder + "/x.npy"
    with open(space, "w", encoding="utf-8") as f:
        f.write('{"optimizer.lr": {"log": [0.001, 0.1]}}')
    with open(image, "wb") as f:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 28, 28), }".ljust(117) + "\n"
        f.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(4 * 784))
    calls = [
        ["train", recipe, "--out", folder + "/runs", "--threads", "2", "--profile"],
        ["train", recipe, "--out", folder + "/folds", "--folds", "2", "--epochs", "1"],
        ["eval", model, "--out", folder + "/confusion.png"], ["predict", model, image],
        ["ensemble", model, model, "--method", "vote"], ["check", recipe],
        ["convert", tensors, folder + "/half.safetensors", "--dtype", "f16"],
        ["devices"], ["doctor"], ["plan", recipe, "--verify"], ["plan", "recipes/cnn-strong.json", "--gpu", "h100"],
        ["show", "recipes/cnn-strong.json", "--svg", folder + "/graph.svg"], ["show", model],
        ["search", recipe, "--space", space, "--trials", "2", "--out", folder + "/search", "--set", "epochs=1"],
        ["schema"], ["schema", "--json"], ["schema", "recipes/cnn-strong.json"], ["--help"], ["--man"],
    ]
    for words in calls:
        code, _, err = run(*words, preexec_fn=STACK, cwd=TOP)
        if words[0] == "train" and os.path.isdir(model) and not os.path.exists(tensors):
            shutil.copy(sorted(glob.glob(model + "/checkpoints/step-*"))[-1] + "/model.safetensors", tensors)
        shown = [os.path.basename(w) for w in words[:2]]
        check(f"{KIB} KiB of stack: {' '.join(shown)}", code == 0, f"{code} {err}")
    tune_with_little_stack(recipe, folder)
    known = set(re.findall(r"^  ([a-z]+)  ", run("--help")[1], re.MULTILINE))
    tried = {c[0] for c in calls if not c[0].startswith("-")} | {"demo", "tune"}
    check(f"{KIB} KiB of stack: these are all commands", known == tried, known ^ tried)
    demo_with_little_stack(folder)


def tune_with_little_stack(recipe, folder):
    """On the simulated GPU where there is one; otherwise it ends with 7 where there is no GPU."""
    plugin = os.path.join(os.path.dirname(QUERN), "cudasim", "fast", "libquern_cuda.so")
    simulated = os.path.exists(plugin)
    environment = dict(os.environ, QN_CUDA_PLUGIN=plugin) if simulated else None
    code, _, err = run("tune", recipe, "--out", folder + "/tuning.lock", "--trials", "1", preexec_fn=STACK, cwd=TOP,
                       env=environment)
    check(f"{KIB} KiB of stack: tune", code == 0 if simulated else code in (0, 7), f"{code} {err}")


def demo_with_little_stack(folder):
    """It is stopped as soon as its first steps are made; its pictures are drawn by tests/plot."""
    process = subprocess.Popen([QUERN, "demo", "--out", folder + "/demo"], stdin=subprocess.DEVNULL, cwd=TOP,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=lambda: (
                                   STACK(), signal.signal(signal.SIGINT, signal.SIG_DFL)))
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None and not glob.glob(folder + "/demo/**/log.jsonl",
                                                                             recursive=True):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1].decode()
    check(f"{KIB} KiB of stack: demo, stopped", process.returncode == 75, f"{process.returncode} {err}")


def deep_inputs(folder):
    """Nesting as deep as a file can be: refused where it begins to be too deep, by parsers that need no more stack."""
    deep = 100000
    path = folder + "/deep.json"
    for name, text, code, line in (
            ("recipe", '{"quern": 1, "model": ' + "[" * deep + "]" * deep + "}", 2, f"error E2103 config: {path}:1:"),
            ("recipe of objects", '{"a":' * deep + "1" + "}" * deep, 2, f"error E2103 config: {path}:1:"),
            ("unclosed recipe", "[" * deep, 2, f"error E21"),
    ):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        got, out, err = run("plan", path, preexec_fn=STACK)
        check(f"{KIB} KiB of stack: {name} {deep} deep", got == code and err.startswith(line) and not out,
              f"{got} {err[:300]}")
    for name, header in (("safetensors", b'{"a":{"shape":' + b'{"b":' * deep),
                         ("safetensors of lists", b'{"a":{"shape":' + b"[" * deep)):
        tensors = folder + "/deep.safetensors"
        with open(tensors, "wb") as f:
            f.write(len(header).to_bytes(8, "little") + header)
        got, _, err = run("show", tensors, preexec_fn=STACK)
        check(f"{KIB} KiB of stack: {name} {deep} deep",
              got == 4 and err.startswith("error E4012 model: ") and err.count("\n") == 1, f"{got} {err[:300]}")


def many_layers(folder):
    """Graphs are walked along their list, never by recursion: as many layers as a recipe may have."""
    recipe = write_recipe(folder + "/long.json", data={"digits": 40, "validation": 0.2}, batch=1,
                          model=[{"repeat": 1000, "layers": [{"linear": 2}, "relu"]}, {"linear": 10}])
    code, out, err = run("plan", recipe, preexec_fn=STACK)
    check(f"{KIB} KiB of stack: 2001 layers", code == 0 and "relu" in out, f"{code} {err}")


# ---- F5: clock ----------------------------------------------------------------------------------------------

def jumping_clock(folder):
    env = preload(folder, "clock", CLOCK)
    if not env:
        return
    recipe = write_recipe(folder + "/small.json", epochs=4)
    run("train", recipe, "--out", folder + "/whole", "--threads", "2")
    good = end_of(folder + "/whole/small-1")
    code, _, err = run("train", recipe, "--out", folder + "/jump", "--threads", "2", env=env)
    check("the time of day jumps back: the same run", code == 0 and end_of(folder + "/jump/small-1") == good, err)
    with open(folder + "/jump/small-1/log.jsonl", encoding="utf-8") as f:
        times = [json.loads(line)["seconds"] for line in f if '"event":"step"' in line]
    check("the time of day jumps back: seconds of the log go on",
          times == sorted(times) and times[0] >= 0 and 0 < times[-1] < 60, times)
    # What is newest is told by the step in a checkpoint's name, not by the times of its files.
    code, _, err = run("train", recipe, "--out", folder + "/part", "--threads", "2", "--epochs", "2", env=env)
    directory = folder + "/part/small-1"
    found = sorted(glob.glob(directory + "/checkpoints/step-*"))
    for age, path in enumerate(found):  # the oldest step has the youngest files
        for file in glob.glob(path + "/*") + [path]:
            os.utime(file, (2000000000 - age * 100000, 2000000000 - age * 100000))
    code, _, err = run("train", recipe, "--resume=" + directory, "--threads", "2", env=env)
    with open(directory + "/log.jsonl", encoding="utf-8") as f:
        begun = [json.loads(line)["from"] for line in f if '"event":"resume"' in line]
    check("the time of day jumps back: resumes from the highest step",
          code == 0 and begun == [int(found[-1].rsplit("-", 1)[1])], f"{code} {begun} {found} {err}")


# ---- paths ------------------------------------------------------------------------------------------------------

def long_paths(folder):
    base = folder
    while len(base) < 3700:
        base += "/" + "p" * 200
    os.makedirs(base)
    recipe = write_recipe(base + "/small.json", epochs=1)
    code, _, err = run("train", recipe, "--out", base + "/o")
    check("a path of 3,700 bytes and more: trains",
          code == 0 and os.path.exists(base + "/o/small-1/log.jsonl"), err[-300:])
    code, out, err = run("train", recipe, "--out", base + "/" + "q" * 200 + "/" + "r" * 200)
    check("a path that becomes longer than a path can be: one line",
          code == 6 and not out and err.count("\n") == 1 and err.startswith("error E600"), f"{code} {err[-300:]}")
    code, out, err = run("train", folder + "/" + "x" * 5000)
    check("a path that is too long: one line",
          code == 6 and not out and err.count("\n") == 1 and len(err) <= 401 and err.startswith("error E6001 io: "),
          f"{code} {err[-300:]}")


def main():
    parts = [few_threads, real_limit_of_threads, directories_that_cannot_be_written, little_stack, deep_inputs,
             many_layers, jumping_clock, long_paths]
    chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for part in parts:
            if not chosen or part.__name__ in chosen:
                os.mkdir(os.path.join(folder, part.__name__))
                part(os.path.join(folder, part.__name__))
    sys.exit(failed)


main()
