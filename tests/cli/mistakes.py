#!/usr/bin/env python3
"""Slips with things that are there already: a run resumed under another recipe, files that would overwrite each other,
integers in the space of a search."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"), "quern")
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def run(*words):
    done = subprocess.run([QUERN, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f)
    return path


def recipe(path, **more):
    return write(path, {"quern": 1, "data": {"digits": 100, "validation": 0.2}, "model": [{"linear": 10}],
                        "epochs": 1, "batch": 20, **more})


def tensors(path, values):
    """One f32 each."""
    head = {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(values)}
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + struct.pack("<%df" % len(values), *range(len(values))))
    return path


def resume():
    recipe("one.json")
    recipe("other.json")
    run("train", "one.json", "-q")
    got = run("train", "other.json", "--resume=runs/one-1", "-q")
    check("another recipe's run", got == (2, "", "error E2001 usage: --resume: runs/one-1 is a run of one; expected "
                                                 "one of other, or its own RECIPE or none\n"), got)
    code, out, err = run("train", "--resume=runs/one-1", "-q", "--epochs=2")
    check("a directory says which recipe", code == 0 and "run: runs/one-1" in out, err)
    for words in ((), ("--resume",)):
        got = run("train", *words)
        check(" ".join(("no recipe", *words)), got == (2, "", "error E2001 usage: RECIPE: missing; expected RECIPE; "
                                                              "see quern train --help\n"), got)


def not_a_model():
    for words in (("eval", "one.json"), ("predict", "one.json", "x.png"), ("ensemble", "runs/one-1", "one.json")):
        got = run(*words)
        check(words[0] + " of a recipe", got == (6, "", "error E6001 io: one.json: open: is a file; expected the "
                                                        "directory of a run or checkpoint\n"), got)


def print_result():
    odd = 'a "b"\n'
    code, out, err = run("train", "one.json", "-q", "--json", "--out", odd)
    check("a run's name in JSON", code == 0 and json.loads(out)["run"] == odd + "/one-1", out + err)


def convert():
    tensors("t.safetensors", ["a_b", "a/b"])
    got = run("convert", "t.safetensors", "t/")
    check("two tensors, one file name", got == (2, "", 'error E2001 usage: t/: a_b.npy for both "a_b" and "a/b"; '
                                                       "expected a .safetensors file\n") and not os.path.exists("t")
          or got[2] == 'error E2001 usage: t/: a_b.npy for both "a/b" and "a_b"; expected a .safetensors file\n'
          and not os.path.exists("t"), got)
    tensors("u.safetensors", ["a_b", "a/c"])
    got = run("convert", "u.safetensors", "u/")
    check("two tensors, two file names", got[0] == 0 and sorted(os.listdir("u")) == ["a_b.npy", "a_c.npy"], got)


def search():
    recipe("s.json", model=[{"linear": 8}, {"linear": 10}])
    write("space.json", {"batch": {"uniform": [8, 24]}, "model[0].linear": {"log": [4, 64], "steps": 3},
                         "optimizer.lr": {"uniform": [0, 1]}})
    code, out, err = run("search", "s.json", "--space", "space.json", "--trials", "4", "-q", "--json")
    with open("runs/s-search-1/trials.csv", encoding="utf-8") as f:
        rows = [line.replace('"', "").strip().split(",")[4:] for line in f][2:]
    check("integers stay integers", code == 0 and len(rows) == 4 and all(
        r[0].isdigit() and 8 <= int(r[0]) <= 24 and r[1].isdigit() and 4 <= int(r[1]) <= 64 for r in rows) and
          not all(r[2] in ("0", "1") for r in rows), f"{code} {out} {err} {rows}")
    write("space.json", [1])
    got = run("search", "s.json", "--space", "space.json", "--trials", "2")
    check("a space that is a list", got == (2, "", "error E2107 config: space.json:1:1: not an object; expected "
                                                   "{ ... }\n"), got)


def main():
    work = tempfile.mkdtemp(prefix="quern-mistakes-")
    os.chdir(work)
    try:
        resume()
        not_a_model()
        print_result()
        convert()
        search()
    finally:
        os.chdir(TOP)
        shutil.rmtree(work)
    return failed


sys.exit(main())
