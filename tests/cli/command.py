#!/usr/bin/env python3
"""The built command: exit codes, one error line on stderr, output on stdout, and pages that are current."""
import glob
import json
import os
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.join(os.environ.get("QN_BUILD", "build/release"), "quern")
RECIPE = "recipes/mlp-784-128.json"
failed = 0


def run(*words, **options):
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([QUERN, *words], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60, **options)


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print(shown)


def expect_error(name, words, line, code=2, **options):
    done = run(*words, **options)
    good = done.returncode == code and done.stderr.decode() == line + "\n" and not done.stdout
    check(name, good, f"  {words}: {done.returncode} {done.stderr.decode()!r}\n  expected {code} {line!r}")


def usage_errors():
    see = "; see quern --help"
    expect_error("no command", [], "error E2001 usage: COMMAND: missing" + see)
    expect_error("unknown command", ["shema"],
                 "error E2001 usage: shema: unknown command; did you mean \"schema\"?" + see)
    expect_error("hopeless command", ["zzzzzzzzz"], "error E2001 usage: zzzzzzzzz: unknown command" + see)
    expect_error("empty command", [""], "error E2001 usage: unknown command" + see)
    expect_error("unknown main option", ["--versoin"],
                 "error E2001 usage: --versoin: unknown option; did you mean \"--version\"?" + see)
    expect_error("too much after --version", ["--version", "x"], "error E2001 usage: x: unexpected argument" + see)
    expect_error("control characters are escaped", ["a\x1b[31m\n%s"],
                 "error E2001 usage: a\\x1B[31m\\x0A%s: unknown command" + see)
    expect_error("unknown option", ["schema", "--sat=1"],
                 "error E2001 usage: --sat: unknown option; did you mean --set?; see quern schema --help")
    expect_error("environment", ["--version"], "error E2002 usage: QN_SYNC: \"maybe\"; expected 0 or 1",
                 env=dict(os.environ, QN_SYNC="maybe"))


def recipe_errors():
    expect_error("recipe that is not there", ["schema", "none.json"],
                 "error E6001 io: none.json: open: No such file or directory", 6)
    expect_error("wrong value by --set", ["schema", RECIPE, "--set", "epochs=NaN"],
                 "error E2107 config: --set epochs=NaN: epochs: \"NaN\"; expected an integer 1..1000000")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "r.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write('{"quern": 1, "data": {"digits": 99}, "model": [' + '{"linear": -1}, ' * 30 + '"relu"]}')
        done = run("schema", path)
        lines = done.stderr.decode().splitlines()
        check("twenty lines at most, the rest counted",
              done.returncode == 2 and len(lines) == 20 and lines[19].endswith(": 11 more mistakes") and
              lines[19].startswith("error E2118 config: ") and all(l.startswith("error E2108") for l in lines[:19]),
              done.stderr.decode())


def good_runs():
    done = run("--version")
    check("--version", done.returncode == 0 and done.stdout.startswith(b"quern ") and not done.stderr)
    done = run("--help")
    check("--help", done.returncode == 0 and b"schema" in done.stdout and not done.stderr)
    done = run("schema", "--help")
    check("schema --help", done.returncode == 0 and b"--markdown" in done.stdout and not done.stderr)
    done = run("schema")
    check("schema lists keys", done.returncode == 0 and b"label_smoothing" in done.stdout)
    schema = json.loads(run("schema", "--json").stdout)
    check("JSON Schema", "conv" in schema["$defs"]["layers"]["properties"] and
          schema["$defs"]["optimizer"]["properties"]["lr"]["anyOf"][0]["maximum"] == 1000)
    for path in sorted(glob.glob("recipes/*.json")):
        done = run("schema", path)
        good = done.returncode == 0 and not done.stderr
        resolved = json.loads(done.stdout) if good else {}
        check(path, good and resolved["name"] == os.path.basename(path)[:-5], done.stderr.decode())
    for locale in ("C", "de_DE.UTF-8", ""):
        done = run("schema", RECIPE, "--set=optimizer.lr=0.25", env=dict(os.environ, LC_ALL=locale))
        check(f"numbers under locale {locale!r}", b'"lr": 0.25' in done.stdout)


def stdout_that_fails():
    with open("/dev/full", "wb") as full:
        done = run("schema", stdout=full)
    check("full disk", done.returncode == 6 and done.stderr.startswith(b"error E6002 io: stdout: "), done.stderr)
    read, write = os.pipe()
    os.close(read)
    done = run("schema", stdout=write)
    os.close(write)
    check("reader that has left", done.returncode == 0 and not done.stderr, f"{done.returncode} {done.stderr}")
    done = subprocess.run(["bash", "-c", f"{QUERN} schema nothing 2>&-; echo $?"], stdout=subprocess.PIPE, timeout=60)
    check("stderr closed", done.stdout == b"6\n", done.stdout)


def pages():
    for words, page in ((["schema", "--markdown"], "docs/recipes.md"), (["--man"], "docs/quern.1")):
        with open(page, "rb") as f:
            check(page + " is current", f.read() == run(*words).stdout, "  run scripts/docs")


usage_errors()
recipe_errors()
good_runs()
stdout_that_fails()
pages()
sys.exit(failed)
