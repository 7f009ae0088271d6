#!/usr/bin/env python3
"""Every source is as `make format` leaves it, and scripts/format finds one of each kind that is not."""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SCRIPT = os.path.join(TOP, "scripts", "format")
GOOD = "int one(int a);\n\nint two(int a)\n{\n    int b = one(a);\n    return b + 1;\n}\n"
BAD = "int one( int a );\n\nint two(int a) {\n  int b=one(a);\n  return b+1;\n}\n"
KINDS = ("core/{}.c", "include/quern/{}.h", "kernels/cuda/{}.cu", "tests/cudasim/{}.cpp")
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print(shown)


def run(*words):
    done = subprocess.run([SCRIPT, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stdout, done.stderr


def planted():
    with tempfile.TemporaryDirectory() as root:
        shutil.copy(os.path.join(TOP, ".clang-format"), root)
        for kind in KINDS:
            for name, text in (("good", GOOD), ("bad", BAD)):
                path = os.path.join(root, kind.format(name))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
        code, out, err = run("--check", "--root", root)
        names = [line.split(":")[0] for line in out.splitlines()]
        check("a source of each kind that is not formatted is found", code == 1 and
              sorted(names) == sorted(kind.format("bad") for kind in KINDS), f"{code} {out} {err}")
        run("--root", root)
        code, out, err = run("--check", "--root", root)
        with open(os.path.join(root, KINDS[2].format("bad")), encoding="utf-8") as f:
            check("and formatted", (code, out) == (0, "") and f.read() == GOOD, f"{out} {err}")


def main():
    code, out, err = run("--check")
    if "is not installed" in err:
        print("skip format of the sources: " + err.strip())
        return 0
    check("every source is as make format leaves it", (code, out) == (0, ""), out + err)
    planted()
    return failed


sys.exit(main())
