#!/usr/bin/env python3
"""The house rules hold, and each rule finds a violation that is planted for it and nothing in clean code."""
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SCRIPT = os.path.join(TOP, "scripts", "lint")
sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader("lint", SCRIPT)
RULES = importlib.util.module_from_spec(importlib.util.spec_from_loader("lint", LOADER))
LOADER.exec_module(RULES)
CLEAN = {
    "core/errors.def": 'ERR(2001, "usage", "command line")\n',
    "core/base.h": '#include "../include/quern/base.h"\n',
    "core/ok.c": '#include "base.h"\nint qn__x(char *p)\n{\n    /* exit(1) in a comment; "a\\tb" */\n'
                 '    const char *s = "printf(";\n    char *q = malloc(sizeof *p);\n'
                 '    return qn__fail(0, 2001, 0, "x") + snprintf(p, 2, "%s", s) + !q;\n}\n',
    "kernels/cpu/ok.c": '#include "../../core/backend.h"\n#include "../../core/base.h"\n',
    "layers/ok.c": '#include "../include/quern/layers.h"\n#include "../core/base.h"\n',
    "train/ok.c": '#include "../data/x.h"\n#include "../core/plan.h"\n',
    "cli/ok.c": '#include "../include/quern.h"\n#include "cli.h"\nvoid f(void) { printf("x"); }\n',
    "include/quern/base.h": "int a;\n",
}
LONG_FUNCTION = "int f(void)\n{\n" + "    g();\n" * 79 + "}\n"
# (rule, path, content): exactly this rule must fire, in exactly this file.
PLANTED = [
    ("arrow", "core/bad.c", '#include "../kernels/cpu/cpu.h"\n'),
    ("arrow", "core/bad.c", '#include "../include/quern/layers.h"\n'),
    ("arrow", "core/bad.c", '#include "../include/quern.h"\n'),
    ("arrow", "core/ops/bad.c", '#include "../../data/x.h"\n'),
    ("arrow", "kernels/cpu/bad.c", '#include "../../core/graph.h"\n'),
    ("arrow", "kernels/bad.c", '#include "../include/quern/core.h"\n'),
    ("arrow", "layers/bad.c", '#include "../core/op.h"\n'),
    ("arrow", "layers/bad.c", '#include "../optim/x.h"\n'),
    ("arrow", "optim/bad.c", '#include "../layers/x.h"\n'),
    ("arrow", "data/bad.c", '#include "../train/x.h"\n'),
    ("arrow", "plot/bad.c", '#include "../train/x.h"\n'),
    ("arrow", "train/bad.c", '#include "../cli/cli.h"\n'),
    ("arrow", "cli/bad.c", '#include "../core/graph.h"\n'),
    ("arrow", "include/quern/bad.h", '#include "../../core/base.h"\n'),
    ("banned", "core/bad.c", "int x = atoi(s);\n"),
    ("banned", "data/bad.c", "    sprintf(b, s);\n"),
    ("banned", "data/bad.c", "    strcpy(b, s);\n"),
    ("banned", "data/bad.c", "    strcat(b, s);\n"),
    ("banned", "data/bad.c", "    gets(b);\n"),
    ("banned", "layers/bad.c", "    char *b = alloca(n);\n"),
    ("banned", "train/bad.c", "    system(b);\n"),
    ("banned", "train/bad.c", "    popen(b, s);\n"),
    ("banned", "core/bad.c", "    exit(1);\n"),
    ("banned", "core/bad.c", "    abort();\n"),
    ("banned", "core/bad.c", "    printf(s);\n"),
    ("banned", "core/bad.c", "    fprintf(stderr, s);\n"),
    ("banned", "core/bad.c", "    fputs(s, stdout);\n"),
    ("banned", "core/bad.c", "    assert(x);\n"),
    ("banned", "kernels/cpu/bad.c", "    x = rand();\n"),
    ("banned", "cli/bad.c", "    x = atof(s);\n"),
    ("product", "data/bad.c", "    p = malloc(a * b);\n"),
    ("product", "data/bad.c", "    p = realloc(p, n * sizeof *p);\n"),
    ("product", "data/bad.c", "    p = qn__calloc(a, w * h, 4);\n"),
    ("tab", "core/bad.c", "\tint x;\n"),
    ("blank", "core/bad.c", "int x; \n"),
    ("columns", "core/bad.c", "/* " + "x" * 120 + " */\n"),
    ("function", "core/bad.c", LONG_FUNCTION),
    ("file", "core/bad.c", "int x;\n" * 801),
    ("unfinished", "core/bad.c", "/* TO" + "DO */\n"),
    ("unfinished", "scripts/bad", "# FIX" + "ME\n"),
    ("place", "scripts/bad", "cd /ho" + "me/me/quern\n"),
    ("code", "core/bad.c", '    qn__fail(e, 2999, 0, "x");\n'),
    ("code", "core/errors.def", CLEAN["core/errors.def"] * 2),
    ("code", "core/errors.def", CLEAN["core/errors.def"] + 'ERR(2002, "usage", "never raised")\n'),
]


def lint(files):
    """What the rules say of a tree that holds these files."""
    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(content)
        return RULES.Lint(root).run()


def main():
    failed = 0

    def verdict(good, name, detail):
        nonlocal failed
        failed += not good
        if not good:
            print(detail, end="")
        print(("ok " if good else "not ok ") + name)

    tree = subprocess.run([SCRIPT], text=True, stdout=subprocess.PIPE, check=False)
    verdict(tree.returncode == 0 and not tree.stdout, "this tree keeps the house rules", tree.stdout)
    clean = lint(CLEAN)
    verdict(not clean, "clean code passes", "\n".join(clean) + "\n")
    missed = []
    for rule, path, content in PLANTED:
        lines = lint({**CLEAN, path: content})
        if not lines or any(not (line.startswith(path + ":") and f": {rule}: " in line) for line in lines):
            missed.append(f"planted {rule} in {path}: {content[:60]!r}: got {lines}\n")
    verdict(not missed, f"each of {len(PLANTED)} planted violations is found", "".join(missed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
