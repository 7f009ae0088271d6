#!/usr/bin/env python3
"""The fault rows of docs/faults.md through the command: one whole line on stderr, the status that belongs to it, and
nothing on stdout. What each reader says of each of its cases is in tests/data, tests/io and tests/recipe."""
import glob
import gzip
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QUERN = os.path.join(TOP, os.environ.get("QN_BUILD", "build/release"), "quern")
MODEL = [{"linear": 4, "activation": "relu"}, {"linear": 3}]
failed = 0


def check(name, good, shown=""):
    global failed
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failed = 1
        print("  " + str(shown).replace("\n", "\n  "))


def run(*words, **options):
    done = subprocess.run([QUERN, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, check=False, **options)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def refused(name, words, code, line):
    """Exactly this line and this status, twice: the same input gives the same line (I7)."""
    for _ in range(2):
        got, out, err = run(*words)
        if (got, out, err) != (code, "", line + "\n"):
            check(name, False, f"{got} {out} {err!r}\nexpected {code} {line!r}")
            return
    check(name, True)


def recipe(name, data, **more):
    with open(name + ".json", "w", encoding="utf-8") as f:
        json.dump({"quern": 1, "data": data, "model": MODEL, "epochs": 1, "batch": 4, **more}, f)
    return name + ".json"


def write(path, data):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return path


def idx(path, dims, body, kind=8):
    return write(path, bytes([0, 0, kind, len(dims)]) + b"".join(struct.pack(">I", d) for d in dims) + body)


def png(width, height, rows, spoil=None):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    data = bytearray(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
                     chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    if spoil is not None:
        data[spoil] ^= 1
    return bytes(data)


def tensors(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return write(path, struct.pack("<Q", len(text) if length is None else length) + text + data)


# ---- A: files -----------------------------------------------------------------------------------------------

def a1_png():
    for n, name in enumerate(("cats", "dogs", "owls")):
        for i in range(3):
            write(f"pets/{name}/{i}.png", png(2, 2, b"\0" + bytes([n, i]) + b"\0\1\2"))
    r = recipe("a1", {"png": "pets"})
    bad = "pets/dogs/1.png"
    for name, data, line in (
            ("width", png(0xffffffff, 2, b""), "E3011 data: {}@16: IHDR.width: 4294967295; expected 1..16384"),
            ("checksum", png(2, 2, b"\0\1\2\0\1\2", 29), None),
            ("no PNG", b"GIF89a", "E3012 data: {}@0: signature: not a PNG file; expected 89 \"PNG\" 0d 0a 1a 0a"),
            ("size", png(3, 2, b"\0\1\2\3\0\1\2\3"), "E3014 data: {}: 1 x 2 x 3 (channels, height, "
             "width); expected 1 x 2 x 2 as in the first file"),
    ):
        write(bad, data)
        if not line:
            crc = zlib.crc32(data[12:29])
            line = f"E3012 data: {{}}@29: IHDR.crc: {crc ^ 1 << 24:08x}; expected {crc:08x}"
        refused(f"A1 {name}", ["train", r, "--out", "runs", "-q"], 3, "error " + line.format(bad) + "; sample 4")
    code, out, err = run("train", r, "--out", "left")
    match = re.fullmatch(r"step (\d) is saved; when this is repaired, go on with: quern train --resume=left/a1-1\n"
                         r"error E3014 .*\n", err)
    check("A1 what was learnt before the bad file is saved", code == 3 and not out and match and
          os.path.exists(f"left/a1-1/checkpoints/step-00000{match[1]}/manifest.json"), f"{code} {err}")
    write(bad, png(2, 2, b"\0\1\1\0\1\2"))
    code, out, err = run("train", "--resume=left/a1-1", "-q")
    check("A1 and the run goes on from there", code == 0 and "\n3 steps in " in out and not err, f"{code} {out} {err}")


def a2_idx():
    r = recipe("a2", {"idx": {"images": "i.idx", "labels": "l.idx"}})
    images, labels = bytes(range(24)), bytes([0, 1, 2, 0, 1, 2])
    for name, i, l, line in (
            ("size", idx("i.idx", [60000, 2, 2], images), idx("l.idx", [6], labels),
             "E3021 data: i.idx@4: dim[0]: 60000 (240016 bytes needed); file has 40"),
            ("overflow", ([0xffffffff] * 3, b""), None,
             "E3021 data: i.idx@8: dim[1]: 4294967295; expected fewer than 2^48 elements in all"),
            ("type code", ([6, 2, 2], images, 10), None,
             "E3021 data: i.idx@2: type code: 0x0a; expected 0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e"),
            ("counts differ", ([6, 2, 2], images), ([5], labels[:5]),
             "E3022 data: l.idx: 5 labels; expected 6, the samples of i.idx"),
    ):
        if isinstance(i, tuple):
            idx("i.idx", *i)
        if isinstance(l, tuple):
            idx("l.idx", *l)
        refused(f"A2 {name}", ["train", r, "--out", "runs"], 3, "error " + line)
    with open(idx("l.idx", [6], labels), "rb") as f:
        data = bytearray(gzip.compress(f.read(), mtime=0))
    idx("i.idx", [6, 2, 2], images)
    data[-8] ^= 1
    write("l.idx", bytes(data))
    refused("A2 gzip with a wrong checksum", ["train", r, "--out", "runs"], 3,
            f"error E3002 data: l.idx@{len(data) - 4}: gzip: incorrect data check; expected an intact stream")


def a3_csv():
    r = recipe("a3", {"csv": "d.csv", "label": "kind"})
    rows = "".join(f"{i},{i * 2},{'abc'[i % 3]}\n" for i in range(9))
    for name, text, line in (
            ("not a number", "age,size,kind\n1,2,a\n3o,4,b\n",
             'E3031 data: d.csv:3:1: column "age": "3o"; expected a number'),
            ("ragged", "age,size,kind\n1,2,a\n3,b\n", "E3032 data: d.csv:3: 2 fields; expected 3 as in the first row"),
            ("infinite", "age,size,kind\n1,1e999,a\n3,4,b\n",
             'E3033 data: d.csv:2:3: column "size": "1e999"; expected a number below 1.8e308'),
            ("column", "age,size,kin\n" + rows,
             'E3035 data: d.csv:1: column "kind" not found among 3; did you mean "kin"?'),
            ("unclosed quote", 'age,size,kind\n1,2,"a\n',
             'E3032 data: d.csv:2:5: quote is never closed; expected " before the end of the file'),
    ):
        write("d.csv", text.encode())
        refused(f"A3 {name}", ["train", r, "--out", "runs"], 3, "error " + line)


def a5_safetensors():
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    text = json.dumps(entry).encode()
    for name, header, data, line in (
            ("length", {"w": {**entry, "data_offsets": [0, 20]}}, bytes(20),
             'E4013 model: m.safetensors@9: tensor "w": data_offsets [0,20]; expected length 24 = 2x3 F32'),
            ("data cut", {"w": entry}, bytes(23),
             "E4015 model: m.safetensors@73: data: 23 bytes; expected 24, where the last tensor ends"),
            ("repeated key", b'{"w":' + text + b',"w":' + text + b"}", bytes(24),
             'E4014 model: m.safetensors@72: header: tensor "w" appears twice'),
            ("no object", b"[1]", b"", "E4012 model: m.safetensors@8: header: '['; expected '{'"),
    ):
        tensors("m.safetensors", header, data)
        refused(f"A5 {name}", ["show", "m.safetensors"], 4, "error " + line)
    tensors("m.safetensors", {}, length=1 << 60)
    refused("A5 header beyond the file", ["show", "m.safetensors"], 4,
            "error E4011 model: m.safetensors@0: header length: 1152921504606846976; expected at most 16777216")


def a7_recipe():
    write("net.json", b'{\n "quern": 1,\n "data": {"digits": 40},\n "model": [{"conv": 3, "stride": 0, "kernl": 3},\n'
          b'  {"linear": 10, "from": "nowhere"}]\n}\n')
    code, out, err = run("train", "net.json", "--out", "runs")
    want = ['error E2108 config: net.json:4:34: model[0].stride: 0; expected an integer 1..32 or two',
            'error E2105 config: net.json:4:37: model[0].kernl: unknown key; did you mean "kernel"?',
            'error E2113 config: net.json:5:26: model[1]: from "nowhere": no such layer; expected an earlier one or '
            '"input"']
    check("A7 all mistakes of a recipe in one run", code == 2 and not out and sorted(err.splitlines()) == sorted(want),
          f"{code} {err}")
    refused("A7 no layers", ["plan", recipe("a7", {"digits": 40}, model=[])], 2,
            "error E2115 config: a7.json:1:47: model: empty; expected at least one layer")


def a9_options():
    r = recipe("a9", {"digits": 40})
    for value in ("", "-1", "1e9", "9999999999999999999999", "NaN"):
        refused(f"A9 --threads={value!r}", ["train", r, f"--threads={value}"], 2,
                f'error E2001 usage: --threads: "{value}"; expected an integer 1..1024; see quern train --help')


# ---- B, C: sizes and numbers ------------------------------------------------------------------------------------

def b1_overflow():
    refused("B1 more elements than can be counted",
            ["plan", recipe("b1", {"digits": 40}, batch=1048576,
                            model=[{"conv_transpose": 65536, "stride": 32, "kernel": 32, "name": "big"}])], 2,
            "error E2203 shape: big: conv2d_grad_x: [1048576,65536,896,896], rank 4; expected rank 0..8, dims >= 0, "
            "fewer than 2^48 elements")


def npy(path, kind, dims, values):
    header = f"{{'descr': '<{kind}4', 'fortran_order': False, 'shape': {dims}, }}".ljust(117) + "\n"
    return write(path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() +
                 struct.pack(f"<{len(values)}{kind}", *values))


def c4_not_finite():
    npy("x.npy", "f", (3, 2), [1, 2, 3, float("nan"), 5, float("inf")])
    npy("y.npy", "i", (3,), [0, 1, 2])
    refused("C4 NaN in the data",
            ["train", recipe("c4", {"npy": {"images": "x.npy", "labels": "y.npy"}}), "--out", "runs"], 3,
            "error E3043 data: x.npy: sample 1, element 1: nan at flat index 3, 2 such values; expected finite numbers")


def c5_label():
    idx("i.idx", [6000, 1, 1], bytes(6000))
    labels = bytearray(i % 10 for i in range(6000))
    labels[5993] = 12
    idx("l.idx", [6000], bytes(labels))
    refused("C5 label out of range",
            ["train", recipe("c5", {"idx": {"images": "i.idx", "labels": "l.idx"}, "classes": list("0123456789")}),
             "--out", "runs"], 3, "error E3041 data: l.idx@6001: sample 5993: label 12; expected 0..9")


def c1_gradient():
    npy("x.npy", "f", (12, 2), [3e38] * 24)
    npy("y.npy", "i", (12,), [0, 1, 2] * 4)
    r = recipe("c1", {"npy": {"images": "x.npy", "labels": "y.npy"}, "normalize": "none"}, epochs=30)
    code, out, err = run("train", r, "--out", "runs", "--threads", "1", "--quiet")
    lines = err.splitlines()
    check("C1 ten steps in a row without a finite gradient: told one by one, then 9",
          code == 9 and not out and len(lines) == 11 and
          all(x == f'warn W9001 step {i + 1}: non-finite gradient, first in "linear1.relu.relu: matmul"; step skipped '
              f"({i + 1} in a row)" for i, x in enumerate(lines[:10])) and
          lines[10] == "error E9001 numeric: runs/c1-1: step 10: 10 "
          'non-finite steps in a row, first in "linear1.relu.relu: matmul"; expected a finite gradient; lower '
          "optimizer.lr or look at the data; saved checkpoints/diagnostic", err)


def c2_spike():
    values = [((i * 7919) % 200 - 100) / 100 for i in range(400)]
    values[2 * 120:2 * 124] = [3000.0] * 8  # the 31st batch
    npy("x.npy", "f", (200, 2), values)
    npy("y.npy", "i", (200,), [0, 1, 2, 0, 1] * 40)
    r = recipe("c2", {"npy": {"images": "x.npy", "labels": "y.npy"}, "normalize": "none", "shuffle": False},
               spike={"policy": "stop", "window": 10})
    code, out, err = run("train", r, "--out", "runs", "--threads", "1", "--quiet")
    number = r"([0-9.e+-]+)"
    pattern = (rf"warn W9002 step 31: loss {number}, median of the last 10 {number}; expected at most {number}\n"
               rf"error E9002 numeric: runs/c2-1: step 31: loss {number} after 0 rewinds, median of the last 10 "
               rf"{number}; expected at most {number}; lower optimizer\.lr or look at the data; saved "
               r"checkpoints/diagnostic\n")
    match = re.fullmatch(pattern, err)
    check("C2 a loss that jumps ends the run, if the recipe says so", code == 9 and not out and match, f"{code} {err}")
    if not match:
        return
    loss, median, limit = (float(x) for x in match.groups()[:3])
    check("C2 the same figures twice, and the loss is beyond the limit",
          match.groups()[:3] == match.groups()[3:] and loss > limit > median > 0, match.groups())
    check("C2 a diagnostic checkpoint beside", os.path.exists("runs/c2-1/checkpoints/diagnostic/manifest.json"))


# ---- A6, D: checkpoints ---------------------------------------------------------------------------------------------

def trained():
    """A run with checkpoints of steps 4, 8 and 12."""
    r = recipe("d", {"digits": 48}, model=[{"linear": 10}], batch=12, epochs=3, checkpoint={"keep": 5})
    run("train", r, "--out", "good", "--threads", "1")
    return "good/d-1"


def copy_of(source):
    shutil.rmtree("broken", ignore_errors=True)
    shutil.copytree(source, "broken")
    return "broken/checkpoints/step-000012", "broken/checkpoints/step-000008"


def falls_back(name, source, line):
    """The newest is told and passed over; with no other one the command ends with 4."""
    code, _, err = run("train", "d.json", "--resume=broken", "--threads", "1")
    with open("broken/log.jsonl", encoding="utf-8") as f:
        begun = [json.loads(x)["from"] for x in f if '"resume"' in x]
    lines = [x for x in err.splitlines() if x.startswith("error ")]
    check(f"{name}: told, and the one before is taken",
          code == 0 and begun == [8] and lines == ["error " + line + "; trying step-000008"], f"{code} {begun} {err}")
    with open(source + "/checkpoints/step-000012/model.safetensors", "rb") as a, \
            open("broken/checkpoints/step-000012/model.safetensors", "rb") as b:
        check(f"{name}: and ends with the same bytes", a.read() == b.read())


def checkpoints():
    good = trained()
    new, old = copy_of(good)
    os.remove(new + "/state.safetensors")
    refused("D7 missing file, by itself", ["eval", new], 4,
            f'error E4022 checkpoint: {new}/manifest.json: file "state.safetensors": No such file or directory')
    falls_back("D7 missing file", good,
               f'E4022 checkpoint: {new}/manifest.json: file "state.safetensors": No such file or directory')
    new, old = copy_of(good)
    shutil.copy(old + "/state.safetensors", new)
    falls_back("D7, A6 file of another step", good,
               f'E4022 checkpoint: {new}/manifest.json: file "state.safetensors": step 8; expected 12')
    new, old = copy_of(good)
    size = os.path.getsize(new + "/state.safetensors")
    os.truncate(new + "/state.safetensors", size - 4)
    falls_back("D5 truncated file", good,
               f"E4031 checkpoint: {new}/state.safetensors: {size - 4} bytes; manifest says {size}")
    new, old = copy_of(good)
    with open(new + "/model.safetensors", "r+b") as f:
        f.seek(-3, os.SEEK_END)
        byte = f.read(1)[0]
        f.seek(-3, os.SEEK_END)
        f.write(bytes([byte ^ 16]))
    code, _, err = run("eval", new)
    check("D6 flipped bit: the tensor is named", code == 4 and err.startswith(
        f"error E4032 checkpoint: {new}/model.safetensors@") and ': tensor "linear1.weight": crc32 ' in err and
        err.count("\n") == 1, err)
    falls_back("D6 flipped bit", good, err[len("error "):-1])
    new, old = copy_of(good)
    for path in glob.glob("broken/checkpoints/*/manifest.json"):
        os.remove(path)
    code, out, err = run("train", "d.json", "--resume=broken")
    check("D5-D7 none that verifies: 4", code == 4 and not out and err.splitlines()[-1] ==
          "error E4033 checkpoint: broken/checkpoints: none of 3 checkpoints verifies; expected one", f"{code} {err}")
    newer_version(good)


def newer_version(good):
    new, _ = copy_of(good)
    with open(new + "/manifest.json", "rb") as f:
        text = f.read()
    body = text[:text.rindex(b' "manifest_crc32"')].replace(b'"version": 1', b'"version": 7')
    body = body.replace(b'"quern": "0.1.0"', b'"quern": "3.2.1"')
    body += b' "manifest_crc32": "%08x"\n}\n' % zlib.crc32(body + b" ")
    write(new + "/manifest.json", body)
    refused("D9 a newer format", ["eval", new], 4,
            f"error E4023 checkpoint: {new}/manifest.json: version: 7; expected <= 1; use quern >= 3.2.1")


def main():
    parts = [a1_png, a2_idx, a3_csv, a5_safetensors, a7_recipe, a9_options, b1_overflow, c1_gradient, c2_spike,
             c4_not_finite, c5_label, checkpoints]
    chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            if chosen and part.__name__ not in chosen:
                continue
            os.mkdir(os.path.join(folder, part.__name__))
            os.chdir(os.path.join(folder, part.__name__))
            part()
        os.chdir(TOP)
    sys.exit(failed)


main()
