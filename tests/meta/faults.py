#!/usr/bin/env python3
"""docs/faults.md has every row it must have, and each test that it names exists and is run: a function that cmocka or a
script's list of parts calls, or words that a shell script prints."""
import functools
import os
import re
import sys

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
ROWS = ("A1 A2 A3 A5 A6 A7 A9 B1 B2 B3 B4 B5 B6 B7 C1 C2 C3 C4 C5 C6 C7 D1 D2 D3 D4 D5 D6 D7 D9 D13 F1 F2 F3 F4 F5 F6 "
        "G1 G2 G3 G4 G5 G6 G7").split()
WITHOUT_MEANING = ("C3", "G1")  # as built; the page must say so, and what there is instead


@functools.lru_cache(None)
def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


@functools.lru_cache(None)
def is_run(path, name):
    """Whether the test at path runs what is called name."""
    if not os.path.isfile(os.path.join(TOP, path)):
        return False
    text = read(path)
    if path.endswith(".c"):
        defined = re.search(rf"^static void {re.escape(name)}\(void \*\*state\)", text, re.MULTILINE)
        uses = re.findall(rf"cmocka_unit_test\w*\({re.escape(name)}[,)]|, {re.escape(name)}, NULL|"
                          rf'op_run_rows\("[^"]*", {re.escape(name)},', text)
        return bool(defined and uses)
    if path.endswith(".py"):
        uses = re.findall(rf"\b{re.escape(name)}\b", text)
        return bool(re.search(rf"^def {re.escape(name)}\(", text, re.MULTILINE)) and len(uses) > 1
    return name in text


def mistakes(page, codes):
    found = []
    table = {}
    for line in page.splitlines():
        row = re.match(r"\| ([A-G]\d+) \|", line)
        if row:
            if row.group(1) in table:
                found.append(f"{row.group(1)} stands there twice")
            table[row.group(1)] = line
    for row in ROWS:
        cells = table.get(row, "").split(" | ")
        if len(cells) != 4:
            found.append(f"{row}: no row of four cells")
            continue
        if not re.search(r"`tests/[^`]+:[^`]+`", cells[3]):
            found.append(f"{row}: no test")
        if (row in WITHOUT_MEANING) != ("Has no meaning here" in cells[2]):
            found.append(f"{row}: whether it has a meaning is not said as it must be")
    found += [f"{row}: not a row of the list" for row in table if row not in ROWS]
    for path, name in re.findall(r"`(tests/[^`:]+):([^`]+)`", page):
        if not is_run(path, name):
            found.append(f"{path}: {name} does not exist or is not run")
    found += [f"E{code} is no error code" for code in re.findall(r"\bE(\d{4})\b", page) if code not in codes]
    return found


def main():
    page, codes = read("docs/faults.md"), set(re.findall(r"^ERR\((\d+)", read("core/errors.def"), re.MULTILINE))
    bad = mistakes(page, codes)
    print(("not ok " if bad else "ok ") + "docs/faults.md has every row, and its tests exist")
    print("".join(f"  {line}\n" for line in bad), end="")
    reference = re.search(r"`tests/io/test_power.c:(\w+)`", page).group(1)
    planted = {
        "a row is missing": re.sub(r"^\| D4 .*\n", "", page, flags=re.MULTILINE),
        "a row stands there twice": page + re.search(r"^\| D4 .*\n", page, re.MULTILINE).group(0),
        "a test does not exist": page.replace(reference, reference + "_not"),
        "a file does not exist": page.replace("tests/io/test_power.c", "tests/io/test_tower.c"),
        "a function is no test": page.replace("test_power.c:" + reference, "test_crash.c:prepare"),
        "words are not printed": page.replace("shapes.sh:no features", "shapes.sh:no creatures"),
        "a code does not exist": page.replace("E4033", "E4099"),
        "a row without tests": re.sub(r"^(\| D4 .*?)`tests/.*$", r"\1|", page, flags=re.MULTILINE),
    }
    blind = [name for name, text in planted.items() if text == page or not mistakes(text, codes)]
    print(("not ok " if blind else "ok ") + f"each of {len(planted)} planted mistakes is found")
    print("".join(f"  {name}\n" for name in blind), end="")
    sys.exit(bool(bad or blind))


main()
