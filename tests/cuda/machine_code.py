#!/usr/bin/env python3
"""The machine code of the CUDA kernels is as tests/cuda/machine_code.tsv says: no new spills, no lost vector access.

run-tests: timeout 300
"""
import os
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
KEEP = os.path.join(os.environ.get("QN_BUILD", "build/release"), "cuda", "keep")
TABLE = "tests/cuda/machine_code.tsv"
failed = 0


def run(*words):
    return subprocess.run(["scripts/cubins", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print("\n".join("    " + line for line in shown.splitlines()))


def worse(column, change):
    """The table with every number of a column changed: the comparison must notice."""
    with open(TABLE, encoding="utf-8") as f:
        lines = [line.rstrip("\n").split("\t") for line in f]
    at = lines[0].index(column)
    for line in lines[1:]:
        line[at] = str(int(line[at]) + change)
    path = os.path.join(KEEP, "worse.tsv")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join("\t".join(line) for line in lines) + "\n")
    return run("--table", path, KEEP)


def loops_on_tensor_cores():
    """Main loops of products and attention: fewer than 8 instructions for each of the tensor cores'."""
    done = run("--loops", KEEP)
    lines = done.stdout.splitlines()
    found = {name: sum(line.startswith(name) for line in lines)
             for name in ("gemm_tensor<", "attention_tensor<", "attention_grad_queries_tensor<",
                          "attention_grad_keys_tensor<")}
    slow = [line for line in lines if float(line.split(": ")[-1].split()[0]) >= 8]
    check("main loops have fewer than 8 instructions for each tensor-core instruction",
          done.returncode == 0 and not slow and min(found.values()) > 0, "\n".join(slow) or str(found))


def products_of_a_warpgroup():
    """gemm_wgmma has run nowhere: that it is what it says is read from its machine code."""
    done = run(os.path.join(KEEP, "gemm_wgmma"))
    columns, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    rows = [dict(zip(columns, line)) for line in lines]
    good = len(rows) == 2 and all(int(row["tensor"]) >= 4 and int(row["wide"]) >= 2 for row in rows)
    good = good and all(row["stack"] == row["local"] == "0" for row in rows)
    check("gemm_wgmma has wgmma and tensor copies (UTMALDG), and no spill", done.returncode == 0 and good, done.stdout)


def main():
    if not os.path.isdir(KEEP):
        print("skip machine code: no CUDA toolkit here, or a build without the plugin")
        return 0
    done = run("--probe")
    check("every opcode is recognised on every architecture", done.returncode == 0, done.stdout)
    done = run("--table", TABLE, KEEP)
    check("as the table says", done.returncode == 0, done.stdout)
    for column, change in (("registers", -1), ("wide", 1), ("local", -1), ("threads_per_sm", 1)):
        done = worse(column, change)
        check(f"a change for the worse is noticed: {column}", done.returncode == 1, done.stdout)
    loops_on_tensor_cores()
    products_of_a_warpgroup()
    return failed


if __name__ == "__main__":
    sys.exit(main())
