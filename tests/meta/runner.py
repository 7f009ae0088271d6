#!/usr/bin/env python3
"""The test runner sees what a test program does: failures, crashes, hangs, and results that never came."""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
RUN3 = "echo '[==========] Running 3 test(s).'\n"
OK = "echo '[ RUN      ] {0}'; echo '[       OK ] {0}'\n"
FAIL = "echo '[ RUN      ] {0}'; echo '[  ERROR   ] --- 1 != 2'; echo '[  FAILED  ] {0}'\n"
# name, timeout, shell text, exit status expected of the runner, its last line, a piece of its output
PROGRAMS = [
    ("all pass", 9, RUN3 + OK.format("a") + OK.format("b") + OK.format("c"), 0, "3 passed, 0 failed", "ok "),
    ("one fails, and the summary repeats its name", 9,
     RUN3 + OK.format("a") + FAIL.format("b") + OK.format("c") + "echo '[  FAILED  ] b'; exit 1", 1,
     "2 passed, 1 failed", "1 != 2"),
    ("an unfinished line before the result", 9,
     RUN3 + OK.format("a") + OK.format("b") + "echo '[ RUN      ] c'; printf half; echo '[       OK ] c'", 0,
     "3 passed, 0 failed", ""),
    ("a crash", 9, RUN3 + OK.format("a") + "echo '[ RUN      ] b'; kill -SEGV $$", 1, "1 passed, 1 failed",
     "killed by SIGSEGV in b"),
    ("a quiet early end", 9, RUN3 + OK.format("a") + "exit 0", 1, "1 passed, 1 failed", "ended with status 0"),
    ("a hang", 1, RUN3 + OK.format("a") + "sleep 60", 1, "1 passed, 1 failed", "did not end within 1 s"),
    ("a leak reported after the last test", 9, RUN3 + OK.format("a") + OK.format("b") + OK.format("c") + "exit 23",
     1, "3 passed, 1 failed", "ended with status 23"),
    ("a skip with its reason", 9,
     RUN3 + OK.format("a") + OK.format("b") + "echo '[ RUN      ] c'; echo '# skip no moon'; "
     "echo '[  SKIPPED ] c'", 0, "2 passed, 0 failed", "c: no moon"),
    ("nothing at all", 9, "exit 0", 1, "0 passed, 0 failed", ""),
]
SCRIPTS = [
    ("a script passes", 9, "echo ok one; echo noise; echo ok two", 0, "2 passed, 0 failed", ""),
    ("a script fails", 9, "echo ok one; echo not ok two", 1, "1 passed, 1 failed", "FAILED"),
    ("a script ends badly", 9, "echo ok one; exit 3", 1, "1 passed, 1 failed", "ended with status 3"),
    ("a script says nothing", 9, "echo hello", 1, "0 passed, 1 failed", "printed no result"),
    ("a script only skips", 9, "echo skip all: no moon", 1, "0 passed, 0 failed", "all: no moon"),
    ("a skip that TESTS_NO_SKIP forbids", 9, "echo ok one; echo skip two: no sun", 1, "1 passed, 1 failed", "forbids"),
]


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)


def check(case, is_script):
    name, timeout, text, status, last, piece = case
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, "scripts"))
        shutil.copy(os.path.join(TOP, "scripts", "run-tests"), os.path.join(root, "scripts"))
        limit = f"run-tests: timeout {timeout}\n"
        if is_script:
            write(os.path.join(root, "tests/a/x.sh"), "#!/bin/sh\n# " + limit + text + "\n")
        else:
            write(os.path.join(root, "tests/a/test_x.c"), "/* " + limit + " */\n")
            write(os.path.join(root, "build/release/tests/a/test_x"), "#!/bin/sh\n" + text + "\n")
        # A given LOCPATH spares each of the runners here the making of a locale.
        environment = dict(os.environ, LOCPATH=root, TESTS_NO_SKIP="no sun")
        environment.pop("QN_TEST_LONG", None)
        done = subprocess.run([os.path.join(root, "scripts", "run-tests")], env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    lines = done.stdout.splitlines()
    good = done.returncode == status and lines and lines[-1] == last and piece in done.stdout
    if not good:
        # Indented, so that the runner which runs this test does not read it as results.
        print("\n".join("    " + line for line in lines))
    print(("ok " if good else "not ok ") + name)
    return good


def main():
    good = [check(case, False) for case in PROGRAMS] + [check(case, True) for case in SCRIPTS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
