#!/usr/bin/env python3
"""Commands that need a trained network: predict, eval, ensemble, folds, demo; and check, convert, devices, doctor."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.abspath(os.path.join(os.environ.get("QN_BUILD", "build/release"), "quern"))
TOP = os.getcwd()
DIGITS = {"quern": 1, "data": {"digits": 500, "validation": 0.2, "test_fraction": 0.2},
          "model": ["flatten", {"linear": 10}], "loss": "cross_entropy", "optimizer": {"name": "adam", "lr": 0.01},
          "epochs": 3, "batch": 50}
TABLE = {"quern": 1, "data": {"csv": "t.csv", "label": "label", "columns": ["age", "height"],
                              "categorical": ["colour"], "normalize": "standard",
                              "validation": 0.2, "test_fraction": 0.2},
         "model": [{"linear": 2, "activation": "sigmoid"}, {"linear": 1}], "loss": "bce",
         "optimizer": {"name": "adam", "lr": 0.05}, "epochs": 15, "batch": 32, "metrics": ["accuracy", "auc"]}
VALUES = {"quern": 1, "data": {"csv": "v.csv", "label": "y", "regression": True, "test_fraction": 0.2},
          "model": [{"linear": 1}], "loss": "mse", "optimizer": {"name": "adam", "lr": 0.1}, "epochs": 10, "batch": 16}
failed = 0


def run(*words, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    environment = dict(os.environ, OMP_WAIT_POLICY="passive", **options.pop("more", {}))
    return subprocess.run([options.pop("program", QUERN), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=300, env=environment, **options)


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name)
    if not good:
        failed = 1
        print(shown)


def expect_error(name, words, code, line, **options):
    done = run(*words, **options)
    err = done.stderr.decode()
    good = done.returncode == code and err == line + "\n" and not done.stdout
    check(name, good, f"  {done.returncode} {err!r} {done.stdout[:200]!r}\n  expected {code} {line!r}")


def write(path, content):
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    with open(path, "w" if isinstance(content, str) else "wb") as f:
        f.write(content)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def png(rows, colour):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    raw = b"".join(b"\0" + bytes(row) for row in rows)
    width = len(rows[0]) // (3 if colour else 1)
    head = struct.pack(">IIBBBBB", width, len(rows), 8, 2 if colour else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def npy(descr, shape, data):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + data


def lines(done):
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def close(a, b):
    return a["class"] == b["class"] and abs(a["probability"] - b["probability"]) < 1e-5


def predict_images():
    random.seed(5)
    pixels = [random.randrange(256) for _ in range(784)]
    rows = [pixels[i:i + 28] for i in range(0, 784, 28)]
    text = ",".join(map(str, pixels))
    write("g.png", png(rows, False))
    write("c.png", png([[v for v in row for _ in range(3)] for row in rows], True))
    write("r.csv", ",".join(f"p{i}" for i in range(784)) + "\n" + text + "\n\n" + text[::1] + "\r\n")
    write("r.txt", text.replace(",", " "))
    write("r.npy", npy("|u1", (2, 28, 28), bytes(pixels * 2)))
    write("f.npy", npy("<f4", (784,), struct.pack("<784f", *pixels)))
    done = run("predict", "runs/d-1", "g.png", "c.png", "r.csv", "r.txt", "r.npy", "f.npy")
    answers = lines(done)
    check("all kinds of input give the same answer", done.returncode == 0 and len(answers) == 8 and
          all(close(a, answers[0]) for a in answers), done.stdout.decode() + done.stderr.decode())
    first = answers[0]
    check("the fields of an answer", first["input"] == "g.png" and first["index"] == 0 and len(first["top"]) == 3 and
          first["top"][0] == {"class": first["class"], "probability": first["probability"]} and
          first["top"][0]["probability"] >= first["top"][1]["probability"] >= first["top"][2]["probability"], first)
    check("index counts within an input", [(a["input"], a["index"]) for a in answers[2:4]] ==
          [("r.csv", 0), ("r.csv", 1)])
    every = lines(run("predict", "--top=10", "runs/d-1", "g.png"))[0]["top"]
    check("all classes sum to one", len({t["class"] for t in every}) == 10 and
          abs(sum(t["probability"] for t in every) - 1) < 1e-4, every)
    for name in ("g.png", "r.csv", "r.npy"):
        with open(name, "rb") as f:
            done = run("predict", "runs/d-1", "-", stdin=f)
        check(f"{name} on standard input", done.returncode == 0 and close(lines(done)[0], first) and
              lines(done)[0]["input"] == "-", done.stderr.decode())
    done = run("predict", "runs/d-1", "r.npy", "--out=p.jsonl", "--batch=1")
    check("--out", done.returncode == 0 and not done.stdout and len(read("p.jsonl").splitlines()) == 2)


def predict_errors():
    row = ["1"] * 784
    write("x.csv", ",".join(row) + "\n" + ",".join(row[:-1]) + ",x\n")
    write("s.csv", "1,2\n")
    write("big.npy", npy("|u1", (3, 3), bytes(9)))
    write("cut.png", read("g.png")[:100])
    model = ["predict", "runs/d-1"]
    expect_error("not a number", [*model, "x.csv"], 3, 'error E3031 data: x.csv:2:1567: "x"; expected a number')
    expect_error("too few numbers", [*model, "s.csv"], 3, "error E3032 data: s.csv:1: 2 numbers; expected 784")
    expect_error("wrong shape", [*model, "big.npy"], 3,
                 "error E3023 data: big.npy: shape [3,3]; expected [1,28,28], or N of them")
    expect_error("file that is not there", [*model, "no.png"], 6,
                 "error E6001 io: no.png: open: No such file or directory")
    expect_error("unknown kind", [*model, "a.gif"], 2, "error E2001 usage: a.gif: name of an unknown kind of file; "
                 "expected one that ends in .png, .csv, .txt or .npy, or - for standard input")
    done = run(*model, "r.npy", "cut.png")
    check("inputs before the bad one are answered", done.returncode == 3 and len(lines(done)) == 2 and
          done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"error E3012 data: cut.png@"), done.stderr)
    os.unlink("p.jsonl")
    done = run(*model, "r.npy", "cut.png", "-o", "p.jsonl")
    check("--out is whole or not there", done.returncode == 3 and not os.path.exists("p.jsonl"))
    write("e.csv", "")
    expect_error("empty", [*model, "e.csv"], 3, "error E3054 data: e.csv: no rows; expected at least 1")
    done = run("predict", "nothing", "g.png")
    check("no model", done.returncode in (4, 6) and done.stderr.startswith(b"error E") and
          done.stderr.count(b"\n") == 1)


def evaluate():
    done = run("eval", "runs/d-1", "--json", "--out=c.png")
    result = json.loads(done.stdout)
    matrix, classes = result["confusion"], result["classes"]
    right = sum(matrix[k][k] for k in range(10))
    check("confusion matrix adds up", sum(map(sum, matrix)) == 100 == result["metrics"]["count"] and
          abs(right / 100 - result["metrics"]["accuracy"]) < 1e-9, result["metrics"])
    good = True
    for k in range(10):
        predicted = sum(row[k] for row in matrix)
        good = good and abs(classes[k]["precision"] - (matrix[k][k] / predicted if predicted else 0)) < 1e-8
        good = good and abs(classes[k]["recall"] - matrix[k][k] / sum(matrix[k])) < 1e-8
    check("precision and recall", good, classes)
    check("macro F1 is their mean", abs(sum(c["f1"] for c in classes) / 10 - result["metrics"]["f1_macro"]) < 1e-6)
    check("picture of it", read("c.png").startswith(b"\x89PNG"))
    text = run("eval", "runs/d-1").stdout.decode()
    check("table", "accuracy" in text and "test, 100 samples" in text and len(text.splitlines()) >= 20, text)
    trained = json.loads(read("train.json"))
    check("as training said", abs(trained["test_accuracy"] - result["metrics"]["accuracy"]) < 1e-9, trained)


def ensembles():
    run("train", "d.json", "-q", "--seed=9", "--set=data.digits=500")
    done = run("ensemble", "runs/d-1", "runs/d-1", "--json")
    result = json.loads(done.stdout)
    both, one = result["ensemble"], result["models"][0]["metrics"]
    check("a model with itself is itself", abs(both["loss"] - one["loss"]) < 1e-5 and
          both["accuracy"] == one["accuracy"], result)
    alone = json.loads(run("eval", "runs/d-1", "--json").stdout)["metrics"]
    check("alone as eval says", abs(result["models"][0]["metrics"]["loss"] - alone["loss"]) < 1e-4, alone)
    for method in ("mean", "vote", "weighted"):
        done = run("ensemble", "runs/d-1", "runs/d-2", f"--method={method}", "--json")
        result = json.loads(done.stdout) if done.returncode == 0 else {}
        check(f"--method={method}", result.get("method") == method and result["ensemble"]["count"] == 100 and
              ("loss" in result["ensemble"]) == (method != "vote"), done.stderr.decode())
    expect_error("models that do not go together", ["ensemble", "runs/d-1", "runs/t-1"], 2,
                 "error E2001 usage: runs/t-1: predicts classes, 1 outputs; expected classes, 10, as runs/d-1")
    run("train", "t.json", "-q", "--seed=5")
    done = run("ensemble", "runs/t-1", "runs/t-2")
    check("a model that may know the test part is told", done.returncode == 0 and done.stderr.decode() ==
          "warn: runs/t-2/checkpoints/best was trained on another split (seed, data.test_fraction) and may know "
          "samples of this test part\n", done.stderr.decode())
    check("not if the data is given", not run("ensemble", "runs/t-1", "runs/t-2", "--data=t.csv").stderr)
    write("other.csv", read("t.csv").replace(b",yes\n", b",yea\n"))
    run("train", "t.json", "-q", "--set=data.csv=other.csv")
    expect_error("other classes", ["ensemble", "runs/t-1", "runs/t-3"], 2, 'error E2001 usage: '
                 'runs/t-3/checkpoints/best: class 1 is "yea"; expected "yes" as in runs/t-1/checkpoints/best')


def tables():
    random.seed(3)
    rows = ["age,colour,height,label"]
    for _ in range(200):
        age, colour, height = random.gauss(40, 10), random.choice(["red", "green", "blue"]), random.gauss(170, 8)
        rows.append(f"{age:.2f},{colour},{height:.1f},{'yes' if age > 40 else 'no'}")
    write("t.csv", "\n".join(rows) + "\n")
    write("t.json", TABLE)
    done = run("train", "t.json", "-q")
    check("a table trains", done.returncode == 0, done.stderr.decode())
    write("named.csv", "colour,height,age\nred,170,70\nblue,170,10\n")
    write("plain.csv", "70,red,170\n10,blue,170\n")
    write("blanks.txt", "70 red 170\n10 blue 170\n")
    named = lines(run("predict", "runs/t-1", "named.csv"))
    check("older than 40", [a["class"] for a in named] == ["yes", "no"], named)
    for name in ("plain.csv", "blanks.txt"):
        answers = lines(run("predict", "runs/t-1", name))
        check(f"{name} as with names", len(answers) == 2 and all(map(close, answers, named)), answers)
    rows = [",".join([r.split(",")[3], *r.split(",")[:3]]) for r in rows]
    write("u.csv", "\n".join(rows[1:]) + "\n")
    write("u.json", dict(TABLE, data=dict(TABLE["data"], csv="u.csv", header=False, label="0", columns=["3", "1"],
                                          categorical=["2"])))
    write("l.csv", "\n".join(rows) + "\n")
    write("l.json", dict(TABLE, data=dict(TABLE["data"], csv="l.csv")))
    write("whole.csv", "yes,70,red,170\r\n\r\n?,10,blue,170\r\n")
    write("later.csv", "\n\n70, red ,170\n10,blue,170\n")
    for model in ("l", "u"):
        check(f"{model}: a table whose label comes first", run("train", model + ".json", "-q").returncode == 0)
        answers = {name: lines(run("predict", f"runs/{model}-1", name))
                   for name in ("plain.csv", "whole.csv", "later.csv")}
        check(f"{model}: rows without names in the order of the file", all(
            [a["class"] for a in answer] == ["yes", "no"] and all(map(close, answer, answers["whole.csv"]))
            for answer in answers.values()), answers)
    write("short.csv", "\n70,red\n")
    expect_error("neither a row nor the features", ["predict", "runs/l-1", "short.csv"], 3,
                 "error E3032 data: short.csv:2: 2 fields; expected the 3 features, or a row of the training file")
    write("spaced.csv", "\n height, colour , age\n170,red,70\n")
    spaced = lines(run("predict", "runs/l-1", "spaced.csv"))
    check("names between blanks, below an empty line", [a["class"] for a in spaced] == ["yes"], spaced)
    write("bad.csv", "age,colour,height\n50,red,180\n40,purple,170\n")
    expect_error("unknown category", ["predict", "runs/t-1", "bad.csv"], 3,
                 'error E3036 data: bad.csv:3:4: column "colour": "purple"; expected one of 3 known categories')
    with open("bad.csv", "rb") as f:
        expect_error("the same from standard input", ["predict", "runs/t-1", "-"], 3,
                     'error E3036 data: -:3:4: column "colour": "purple"; expected one of 3 known categories', stdin=f)
    result = json.loads(run("eval", "runs/t-1", "--data=t.csv", "--json").stdout)
    check("--data", result["data"] == "data" and result["metrics"]["count"] == 200 and "auc" in result["metrics"],
          result)
    write("v.csv", "a,b,y\n" + "".join(f"{i % 7},{i % 5},{2 * (i % 7) - (i % 5)}\n" for i in range(120)))
    write("v.json", VALUES)
    run("train", "v.json", "-q")
    answers = lines(run("predict", "runs/v-1", "v.csv"))
    check("values of a regression", len(answers) == 120 and len(answers[0]["values"]) == 1, answers[:1])
    metrics = json.loads(run("eval", "runs/v-1", "--json").stdout)["metrics"]
    check("their metrics", "mse" in metrics and "accuracy" not in metrics, metrics)


def folds():
    done = run("train", "d.json", "-q", "--folds=3", "--json", "--out=cv", "--epochs=1")
    result = json.loads(done.stdout) if done.returncode == 0 else {"folds": []}
    scores = [f["accuracy"] for f in result["folds"]]
    check("three folds hold out everything once", len(scores) == 3 and
          sum(f["held_out"] for f in result["folds"]) == 400,
          done.stderr.decode())
    mean = sum(scores) / 3
    deviation = (sum((s - mean) ** 2 for s in scores) / 2) ** 0.5
    check("mean and deviation", abs(result["accuracy_mean"] - mean) < 1e-8 and
          abs(result["accuracy_deviation"] - deviation) < 1e-7, result)
    check("their runs are kept", all(os.path.isdir(f["run"]) for f in result["folds"]))
    done = run("train", "v.json", "-q", "--folds=4", "--json", "--out=cv", "--epochs=1")
    result = json.loads(done.stdout) if done.returncode == 0 else {"folds": []}
    check("folds of values", [f["held_out"] for f in result["folds"]] == [24] * 4 and
          result["accuracy_mean"] is None and result["loss_mean"] > 0, done.stderr.decode())
    done = run("train", "v.json", "-q", "--epochs=1", "--set=data.validation=0.25", "--out=part")
    check("a validation part of values", done.returncode == 0 and "validation loss: " in done.stdout.decode(),
          done.stderr.decode())
    resumed_folds()


def resumed_folds():
    expect_error("--folds of a directory", ["train", "d.json", "--folds=3", "--resume=cv/d-1"], 2,
                 "error E2001 usage: --resume=DIR: does not go with --folds; expected --resume alone, or DIR of one "
                 "fold's run without --folds")
    words = ["train", "d.json", "--folds=3", "--json", "--epochs=2", "--set=optimizer.lr=0.02"]
    good = json.loads(run(*words, "-q", "--out=unbroken").stdout)["folds"]
    shutil.copytree("unbroken", "broken")
    last = "/checkpoints/step-000012"  # the first fold has ended, the second has done one epoch, the third nothing
    check("a fold of two epochs", os.path.isdir("unbroken/d-2" + last), os.listdir("unbroken/d-2/checkpoints"))
    shutil.rmtree("broken/d-2" + last)
    shutil.rmtree("broken/d-3/checkpoints")
    done = run(*words, "--resume", "--out=broken")
    result = json.loads(done.stdout)["folds"] if done.returncode == 0 else []
    check("interrupted folds go on", [f["run"] for f in result] == ["broken/d-1", "broken/d-2", "broken/d-4"] and
          [{**f, "run": 0} for f in result] == [{**f, "run": 0} for f in good],
          f"{done.stderr.decode()} {result} {good}")
    check("and say so", [x for x in done.stderr.decode().splitlines() if x.startswith("fold ")] == [
        "fold 0 of 3, which goes on: broken/d-1", "fold 1 of 3, which goes on: broken/d-2", "fold 2 of 3"],
        done.stderr.decode())
    for n in (1, 2):
        check(f"with the bytes of run {n}", read(f"broken/d-{n}{last}/model.safetensors") ==
              read(f"unbroken/d-{n}{last}/model.safetensors"))
    done = run(*words, "-q", "--resume", "--out=broken", "--seed=9")
    check("runs of another recipe are left alone", done.returncode == 0 and
          [f["run"] for f in json.loads(done.stdout)["folds"]] == ["broken/d-5", "broken/d-6", "broken/d-7"])
    process = subprocess.Popen([QUERN, "train", "d.json", "-q", "--folds=2", "--epochs=100000", "--out=stopped"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not os.path.exists("stopped/d-1/checkpoints/best"):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    check("a stop says how all folds go on", process.returncode == 75 and
          err.endswith(b"\nall folds go on with the same command and --resume\n"), f"{process.returncode} {err}")


def resumes():
    own = "does not go with --resume; the run goes on with its own recipe"
    run("train", "d.json", "-q", "--out=longer", "--epochs=1")
    before = read("longer/d-1/recipe.json")
    for words in (["--set=optimizer.lr=1"], ["--seed=3", "--epochs=2"]):
        option = words[0].split("=")[0]
        expect_error("resume refuses " + option, ["train", "d.json", "--out=longer", "--resume", *words], 2,
                     f"error E2001 usage: {option}: {own}")
    expect_error("resume refuses --out beside a directory",
                 ["train", "d.json", "--resume=longer/d-1", "--out=elsewhere"], 2,
                 "error E2001 usage: --out: does not go with --resume=DIR; the run stays in its directory")
    check("a refused run is left alone", read("longer/d-1/recipe.json") == before and not os.path.exists("elsewhere"))
    done = run("train", "d.json", "-q", "--out=longer", "--resume", "--epochs=3")
    result = json.loads(read("longer/d-1/result.json"))
    check("a finished run goes on to more epochs", done.returncode == 0 and result["epochs"] == 3 and
          os.listdir("longer") == ["d-1"], done.stderr.decode())
    run("train", "d.json", "-q", "--out=whole", "--epochs=3")
    check("with the bytes of the longer run", read("longer/d-1/checkpoints/step-000021/model.safetensors") ==
          read("whole/d-1/checkpoints/step-000021/model.safetensors"))
    expect_error("not to fewer than it has done", ["train", "d.json", "-q", "--resume=longer/d-1", "--epochs=2"], 2,
                 "error E2001 usage: epochs: 2; the run has begun epoch 3; expected at least that")


def checks():
    done = run("check", "d.json")
    text = done.stdout.decode()
    check("nothing wrong", done.returncode == 0 and "ok memory: " in text and "ok disk: " in text and
          "warn" not in text, text)
    sets = ["--set=schedule.name=cosine", "--set=schedule.warmup=7", "--set=data.validation=0", "--set=batch=5000"]
    text = run("check", "d.json", "-q", *sets).stdout.decode()
    check("warnings", "warn schedule: warm-up of 7 epochs" in text and "warn splits: no validation part" in text and
          "warn splits: batch 5000 is larger" in text and "ok " not in text, text)
    os.makedirs("png/a")
    os.makedirs("png/b")
    for name in ("a/1", "a/2", "b/1"):
        write(f"png/{name}.png", read("g.png"))
    write("png/b/2.png", read("g.png")[:90])
    write("f.json", dict(DIGITS, data={"png": "png", "validation": 0.5}, model=["flatten", {"linear": 2}]))
    done = run("check", "f.json")
    check("a picture that is cut off", done.returncode == 3 and
          done.stderr.startswith(b"error E3012 data: png/b/2.png@") and
          done.stderr.count(b"\n") == 1, done.stderr.decode())
    done = run("check", "f.json", "--json")
    result = json.loads(done.stdout)
    check("as JSON", done.returncode == 3 and result["ok"] is False and
          [l["level"] for l in result["lines"]].count("error") == 1, result)
    done = run("check", "d.json", "--set=data.digits=0")
    check("a wrong recipe", done.returncode == 2 and not done.stdout)


def memory():
    wide = dict(DIGITS, model=["flatten", {"linear": 4096}, {"linear": 4096}, {"linear": 10}])
    write("w.json", wide)
    limit = "ulimit -v 330000; exec \"$0\" \"$@\""
    for command in ("train", "check"):
        done = subprocess.run(["bash", "-c", limit, QUERN, command, "w.json", "-q"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120, env=dict(os.environ, OMP_NUM_THREADS="1"))
        err = done.stderr.decode()
        if "AddressSanitizer" in err or "sanitizer" in err.lower():
            print(f"skip {command} under a limit: the sanitizer needs the address space")
            continue
        check(f"{command} that cannot fit", done.returncode == 5 and err.count("\n") == 1 and
              err.startswith("error E5001 memory: host: needs ") and "; largest batch that fits: " in err, err)
    check("no run was made", not os.path.exists("runs/w-1"))


def conversions():
    head = json.dumps({"__metadata__": {"format": "pt", "who": "me"},
                       "a.w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
                       "b": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]}}).encode()
    head += b" " * (-len(head) % 8)
    data = struct.pack("<6f", 1, 2, 3, 4, 5, 6.5) + struct.pack("<q", 7)
    write("m.safetensors", struct.pack("<Q", len(head)) + head + data)
    check("bf16 and back", run("convert", "m.safetensors", "h.safetensors", "--dtype=bf16").returncode == 0 and
          b'"BF16"' in read("h.safetensors") and b'"who":"me"' in read("h.safetensors") and
          run("convert", "h.safetensors", "n/").returncode == 0 and sorted(os.listdir("n")) == ["a.w.npy", "b.npy"] and
          read("n/a.w.npy")[-24:] == data[:24] and read("n/b.npy")[-8:] == data[24:])
    check("f16 to .npy and back", run("convert", "m.safetensors", "h/", "--dtype=f16").returncode == 0 and
          b"'descr': '<f2'" in read("h/a.w.npy") and
          read("h/a.w.npy")[-12:] == struct.pack("<6e", 1, 2, 3, 4, 5, 6.5) and
          b"'descr': '<i8'" in read("h/b.npy") and run("convert", "h/a.w.npy", "h.safetensors").returncode == 0 and
          b'"F16"' in read("h.safetensors") and run("convert", "h.safetensors", "h.npy").returncode == 0 and
          read("h.npy") == read("h/a.w.npy") and
          run("convert", "h.npy", "w.npy", "--dtype=f32").returncode == 0 and read("w.npy")[-24:] == data[:24])
    expect_error("NumPy has no bf16", ["convert", "m.safetensors", "n/", "--dtype=bf16"], 2,
                 "error E2001 usage: --dtype: bf16 in a .npy file, which has none; expected f32 or f16")
    check(".npy to .safetensors", run("convert", "n/a.w.npy", "a.safetensors").returncode == 0 and
          b'"a.w":{"dtype":"F32","shape":[2,3]' in read("a.safetensors") and read("a.safetensors")[-24:] == data[:24])
    expect_error("two tensors, one array", ["convert", "m.safetensors", "x.npy"], 2,
                 "error E2001 usage: x.npy: 2 tensors; expected 1 for a .npy file, or a directory")
    expect_error("no such kind", ["convert", "m.safetensors", "x.npz"], 2,
                 "error E2001 usage: x.npz: name of an unknown kind; expected .safetensors, .npy or a directory")
    write("m2.safetensors", read("m.safetensors")[:-1])
    done = run("convert", "m2.safetensors", "y.npy")
    check("damaged input", done.returncode == 4 and done.stderr.startswith(b"error E4015 model: m2.safetensors"),
          done.stderr)


def machine():
    hidden = {"CUDA_VISIBLE_DEVICES": ""}  # where there are GPUs, none for this
    result = json.loads(run("devices", "--json", more=hidden).stdout)
    check("devices", result[0]["device"] == "cpu" and result[0]["cores"] >= 1 and result[0]["available"] > 0 and
          result[1]["device"] == "cuda" and not result[1]["usable"] and
          result[1]["reason"].startswith("error E7001 device: cuda: "), result)
    done = run("doctor", "--json", more={"TMPDIR": os.getcwd()})
    result = json.loads(done.stdout)
    check("doctor", done.returncode == 0 and all(l["good"] for l in result["libraries"]) and
          {c["result"] for c in result["checks"]} <= {"ok", "note"}, done.stdout.decode() + done.stderr.decode())
    done = run("doctor", more={"TMPDIR": os.path.join(os.getcwd(), "not-there")})
    check("doctor without a place for files", done.returncode == 7 and b"failed" in done.stdout and
          done.stderr.startswith(b"error E7002 device: "), done.stdout.decode() + done.stderr.decode())
    done = run("predict", "runs/d-1", "g.png", "--device=cuda", more=hidden)
    check("a device that is not there", done.returncode == 7 and done.stderr.count(b"\n") == 1 and
          done.stderr.startswith(b"error E7001 device: cuda: ") and b"--device=cpu" in done.stderr, done.stderr)


def demonstration():
    os.makedirs("prefix/bin")
    os.makedirs("prefix/share/quern/recipes")
    program = shutil.copy(QUERN, "prefix/bin/quern")
    small = dict(DIGITS, data={"name": "fashion-mnist", "dir": "not-there"}, epochs=1, batch=500,
                 model=[{"conv": 4, "kernel": 3, "activation": "relu"}, {"max_pool": 4}, "flatten", {"linear": 10}])
    write("prefix/share/quern/recipes/demo.json", small)
    for again in ("", " again"):
        done = run("demo", "--out=out", "-q", program=os.path.abspath(program), cwd="prefix/share")
        check("demo" + again, done.returncode == 0, done.stderr.decode())
        out = done.stdout.decode()
        last = out.splitlines()[-1] if out else ""
        check("last line" + again, last.startswith("test accuracy: 0.") and len(last) == 21, out)
        check("says that it is synthetic" + again, "synthetic digits" in out.splitlines()[0], out)
        names = sorted(os.listdir("prefix/share/out"))
        check("what is left" + again, names == ["checkpoint", "confusion.png", "curves.png", "filters.png", "log.jsonl",
                                                "saliency.png", "samples.png"], names)
    check("its checkpoint works", run("eval", "prefix/share/out/checkpoint").returncode == 0)
    os.unlink("prefix/share/quern/recipes/demo.json")
    done = run("demo", program=os.path.abspath(program), cwd="prefix/share")
    check("no recipe", done.returncode == 6 and done.stderr.startswith(b"error E6001 io: recipes/demo.json: "))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    write("d.json", DIGITS)
    first_run = run("train", "d.json", "-q", "--json")
    check("training", first_run.returncode == 0, first_run.stderr.decode())
    write("train.json", first_run.stdout)
    if not failed:
        for part in (predict_images, predict_errors, evaluate, tables, ensembles, folds, resumes, checks, memory,
                     conversions, machine, demonstration):
            part()
    os.chdir(TOP)
sys.exit(failed)
