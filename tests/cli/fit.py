#!/usr/bin/env python3
"""Data, network and loss must fit each other: what does not is refused with one line before there is a run, and what
does is measured on the right numbers."""
import glob
import json
import os
import random
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


def train(name, **recipe):
    with open("r.json", "w", encoding="utf-8") as f:
        json.dump({"quern": 1, "epochs": 1, "batch": 16, **recipe}, f)
    shutil.rmtree("runs", ignore_errors=True)
    return run("train", "r.json", "-q")


def refused(name, code, line, **recipe):
    """By train, which leaves nothing behind, and by check."""
    got, out, err = train(name, **recipe)
    check(name, (got, out, err) == (code, "", line + "\n") and not os.path.exists("runs"), f"{got} {err!r} {out!r}")
    got, out, err = run("check", "r.json")
    check(name + ", by check", got == code and err == line + "\n", f"{got} {err!r}")


def npy(path, shape, kind, data):
    head = str({"descr": kind, "fortran_order": False, "shape": shape})
    head += " " * ((-len(head) - 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + data)


def tables():
    draw = random.Random(7)
    rows = [[draw.gauss(0, 1) for _ in range(3)] for _ in range(120)]
    labels = {"two": [int(r[0] + r[1] > 0) for r in rows], "one": [1] * 120, "three": [i % 3 for i in range(120)],
              "text": ["yes" if r[0] + r[1] > 0 else "no" for r in rows], "value": [r[0] + 0.5 for r in rows]}
    for name, label in labels.items():
        with open(name + ".csv", "w", encoding="utf-8") as f:
            f.write("a,b,c,label\n")
            f.writelines("%r,%r,%r,%s\n" % (*r, v) for r, v in zip(rows, label))
    with open("features.csv", "w", encoding="utf-8") as f:
        f.writelines("%r,%r,%r\n" % tuple(r) for r in rows)
    npy("x.npy", (120, 3), "<f4", b"".join(struct.pack("<3f", *r) for r in rows))
    ignored = [255 if i % 5 == 0 else v for i, v in enumerate(labels["three"])]
    npy("y255.npy", (120,), "|u1", bytes(ignored))
    npy("y3.npy", (120,), "|u1", bytes(labels["three"]))
    npy("values.npy", (120, 2), "<f4", b"".join(struct.pack("<2f", r[0], r[1]) for r in rows))
    return labels["two"]


def csv(name, **more):
    return {"csv": name + ".csv", "label": "label", "validation": 0.25, **more}


def sizes():
    linear = [{"linear": 4}]
    refused("more outputs than classes", 2,
            "error E2201 shape: linear1: 4 outputs; expected 2, the classes of the data", data=csv("two"), model=linear)
    refused("fewer outputs than classes", 2,
            "error E2201 shape: linear1: 1 output; expected 2, the classes of the data", data=csv("two"),
            model=[{"linear": 1}])
    refused("one logit for three classes", 2,
            "error E2201 shape: linear1: 1 output; expected 3, the classes of the data", data=csv("three"),
            model=[{"linear": 1}], loss="bce")
    refused("one class", 3, "error E3054 data: one.csv: 1 class; expected at least 2 to tell apart", data=csv("one"),
            model=[{"linear": 1}], loss="bce")
    refused("more outputs than values", 2,
            "error E2201 shape: linear1: 4 outputs; expected 1, the values of a sample",
            data=csv("value", regression=True), model=linear, loss="mse")
    refused("fewer outputs than values", 2,
            "error E2201 shape: linear1: 1 output; expected 2, the values of a sample",
            data={"npy": {"images": "x.npy", "labels": "values.npy"}}, model=[{"linear": 1}], loss="mse")
    refused("values under cross entropy", 2,
            "error E2201 shape: loss: cross_entropy, and the data has values; expected classes",
            data={"npy": {"images": "x.npy", "labels": "values.npy"}}, model=[{"linear": 2}])
    refused("class weights", 2,
            "error E2201 shape: loss.class_weights: 3 numbers; expected one for each of 2 classes", data=csv("two"),
            model=[{"linear": 2}], loss={"name": "cross_entropy", "class_weights": [1, 2, 3]})
    pictures = {"data": {"digits": 100, "validation": 0.2}, "model": [{"linear": 10}]}
    refused("more places than classes", 2,
            "error E2201 shape: metrics.top_k: k of 11; expected at most 10, the classes of the data",
            metrics=[{"name": "top_k", "k": 11}], **pictures)
    refused("a crop as large as the picture", 2, "error E2301 config: augment.crop: 64; expected 0..27",
            augment={"crop": 64}, **pictures)
    refused("more folds than samples", 2, "error E2301 config: folds: 200; expected 2..100",
            **dict(pictures, data={"digits": 100, "folds": 200}))
    refused("an unknown augmentation", 2, "error E2105 config: r.json:1:52: augment.flipp: unknown key; did you mean "
            '"flip"?', augment={"flipp": True}, **pictures)
    refused("a table turned round", 2, "error E2301 config: augment: samples are not images; expected only mixup",
            data=csv("two"), model=[{"linear": 2}], augment={"flip": True})
    pictures["data"]["normalize"] = {"name": "fixed", "mean": [1, 2], "std": [1, 1]}
    refused("means of two channels for one", 2,
            "error E2301 config: data.normalize.mean: 2 numbers; expected 1, or one for each of 1 channels", **pictures)
    refused("fixed numbers for columns", 2, "error E2117 config: r.json:1:118: data.normalize: fixed with csv; "
            "expected none, scale or standard", data=csv("two", normalize={"name": "fixed", "mean": [1], "std": [1]}),
            model=[{"linear": 2}])
    refused("accuracy of values", 2, "error E2117 config: r.json:1:180: metrics: measures of classes beside "
            "data.regression; expected none (the loss is measured in any case)", data=csv("value", regression=True),
            model=[{"linear": 1}], loss="mse", metrics=["accuracy"])
    refused("a delimiter that is none", 2, 'error E2301 config: delimiter: 0x22; expected no quote, blank or line end',
            data=csv("two", delimiter='"'), model=[{"linear": 2}])
    train("groups", data=csv("two"), model=[{"linear": 2}],
          optimizer={"name": "adam", "groups": [{"match": "*.bias"}, {"match": "linaer*"}]})
    got, out, err = run("check", "r.json")
    check("a group of no parameter", got == 0 and 'warn model: optimizer.groups[1]: no parameter is called "linaer*"\n'
          in out and "groups[0]" not in out, out + err)
    got, _, err = train("names", data=csv("two", classes=["a", "b", "a"]), model=[{"linear": 3}])
    check("a name of two classes", got == 2 and 'data.classes: "a" twice; expected each name once' in err, err)


def two_outputs(labels):
    """Two columns of scores for two classes: accuracy is the share of rows where the higher one is right."""
    for loss in ("bce", "mse", "cross_entropy"):
        got, out, err = train(loss, data=csv("two"), model=[{"linear": 2}], loss=loss, epochs=40,
                              optimizer={"name": "adam", "lr": 0.05})
        _, told, _ = run("eval", "runs/r-1", "--data", "two.csv", "-j")
        _, rows, _ = run("predict", "runs/r-1", "features.csv")
        right = sum(json.loads(r)["class"] == str(y) for r, y in zip(rows.splitlines(), labels)) / len(labels)
        told = json.loads(told)["metrics"]["accuracy"] if told else None
        last = [json.loads(line) for line in open("runs/r-1/log.jsonl", encoding="utf-8")]
        seen = [e["accuracy"] for e in last if e["event"] == "train"][-1]
        check(f"two outputs with {loss}", got == 0 and told is not None and abs(told - right) < 1e-9 and right > 0.9
              and seen > 0.9, (got, out, err, told, right, seen))


def ignored():
    """A label beyond the classes that the loss ignores is no class, in training, planning and measuring."""
    recipe = {"data": {"npy": {"images": "x.npy", "labels": "y255.npy"}, "validation": 0.25, "stratified": False},
              "model": [{"linear": 3}], "loss": {"name": "cross_entropy", "ignore_index": 255}}
    got, _, err = train("ignored", **recipe)
    result = json.load(open("runs/r-1/result.json", encoding="utf-8")) if got == 0 else {}
    check("an ignored label is no class", got == 0 and 0 < result["valid"]["count"] < 30, f"{got} {err} {result}")
    counted = 96 - result["valid"]["count"] if got == 0 else 1
    _, alone, _ = run("eval", "runs/r-1", "-j")
    got, out, err = run("ensemble", "runs/r-1", "runs/r-1", "-j")
    alone, out = json.loads(alone)["metrics"], json.loads(out)["ensemble"] if out else {}
    check("and left out of an ensemble's measures", got == 0 and out["count"] == alone["count"] and
          abs(out["loss"] - alone["loss"]) < 1e-5, f"{err} {alone} {out}")
    train("one batch", **dict(recipe, batch=90))
    with open("runs/r-1/log.jsonl", encoding="utf-8") as f:
        right = json.loads(f.readline())["accuracy"] * counted
    check("and nothing of the training part's accuracy", abs(right - round(right)) < 1e-6, f"{right} of {counted}")
    got, out, err = run("plan", "r.json")
    check("and none of a plan", got == 0 and "3 classes" in out, f"{got} {err}")
    del recipe["loss"]
    refused("without ignore_index it is one", 2,
            "error E2201 shape: linear1: 3 outputs; expected 256, the classes of the data", **recipe)


def names():
    """Names of a table's classes say their order, or name integers."""
    for table, classes in (("text", ["yes", "no"]), ("two", ["small", "large"])):
        got, _, err = train(table, data=csv(table, classes=classes), model=[{"linear": 2}], epochs=40,
                            optimizer={"name": "adam", "lr": 0.05})
        with open("row.csv", "w", encoding="utf-8") as f:
            f.write("5,5,0\n")
        _, out, _ = run("predict", "runs/r-1", "row.csv")
        wanted = classes[0] if table == "text" else classes[1]
        check(f"classes of {table}.csv", got == 0 and out and json.loads(out)["class"] == wanted, f"{got} {err} {out}")
    with open("text.csv", encoding="utf-8") as f:
        row = f.readlines()[1].rstrip()
    label = row.rsplit(",", 1)[1]
    refused("a text that is none of the names", 3,
            f'error E3036 data: text.csv:2:{len(row) - len(label) + 1}: label: "{label}"; '
            "expected one of 2 known classes",
            data=csv("text", classes=["x", "no way"]), model=[{"linear": 2}])


def rows():
    """A row of another table is not taken for one of the training file."""
    train("rows", data=csv("two"), model=[{"linear": 2}])
    with open("wide.csv", "w", encoding="utf-8") as f:
        f.write("1,2,3,4,5\n")
    got, out, err = run("predict", "runs/r-1", "wide.csv")
    check("more fields than the training file has", (got, out, err) == (
        3, "", "error E3032 data: wide.csv:1: 5 fields; expected the 3 features, or a row of the training file\n"),
          f"{got} {out} {err}")


def pools():
    """padding "same": the size divided by the stride, rounded up, for every window."""
    for window, stride in ((2, 1), (2, 2), (3, 2), (4, 1), (4, 3), (5, 2), (27, 1)):
        for kind in ("max_pool", "avg_pool"):
            with open("p.json", "w", encoding="utf-8") as f:
                json.dump({"quern": 1, "data": {"digits": 20},
                           "model": [{kind: window, "stride": stride, "padding": "same"}, {"linear": 10}]}, f)
            got, out, err = run("show", "p.json")
            size = -(-28 // stride)
            check(f"{kind} {window}/{stride}", got == 0 and f"[1,{size},{size}]" in out, err + out[:200])


def main():
    work = tempfile.mkdtemp(prefix="quern-fit-")
    os.chdir(work)
    try:
        labels = tables()
        sizes()
        two_outputs(labels)
        ignored()
        names()
        rows()
        pools()
        check("no temporary file is left", not glob.glob("*.tmp*"))
    finally:
        os.chdir(TOP)
        shutil.rmtree(work)
    return failed


sys.exit(main())
