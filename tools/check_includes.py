#!/usr/bin/env python3
"""Checks that every #include in src/ goes the way src/layers.cmake allows, and that clients include no src/ header.

Prints each violation as file:line and exits 1 if there is any. Rules:
- a folder includes itself and the folders its patchbay_layer() line names, nothing else of ours;
- rte_*.h only below src/dataplane;
- control, daemon and their folders reach the data plane only through dataplane/dataplane.h;
- clients/ include nothing of src/.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
# The face of the data plane and the one header that it hands on.
DATAPLANE_FACE = {"dataplane/dataplane.h", "dataplane/frame/drop_reason.h"}


def layers():
    table = {}
    for line in (ROOT / "src/layers.cmake").read_text().splitlines():
        found = re.match(r"patchbay_layer\((\S+)\s*(.*)\)", line)
        if not found:
            continue
        words = found.group(2).split()
        uses = []
        if "USES" in words:
            for word in words[words.index("USES") + 1:]:
                if word == "LINKS":
                    break
                uses.append(word)
        table[found.group(1)] = set(uses)
    return table


def folder_of(header, table):
    folder = header.rsplit("/", 1)[0] if "/" in header else ""
    while folder and folder not in table:
        folder = folder.rsplit("/", 1)[0] if "/" in folder else ""
    return folder


def check(path, table):
    relative = path.relative_to(ROOT / "src").as_posix()
    own = folder_of(relative, table)
    if not own:
        yield 1, f"{relative} lies in no folder of src/layers.cmake"
        return
    test = path.stem.endswith("_test")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        bracket, header = found.groups()
        if header.startswith("rte_") and not own.startswith("dataplane"):
            yield number, f"{header}: only src/dataplane may include DPDK"
        if bracket == "<" or (test and header.startswith("tests/support/")):
            continue
        target = folder_of(header, table)
        if not target:
            yield number, f'"{header}" is not a header of src/, or is not named from there'
        elif target != own and target not in table[own] and header not in DATAPLANE_FACE:
            yield number, f'{own} may not include "{header}": src/layers.cmake does not list {target}'
        elif target.startswith("dataplane") and not own.startswith("dataplane") and header not in DATAPLANE_FACE:
            yield number, f'"{header}": outside the data plane only {", ".join(sorted(DATAPLANE_FACE))}'


def main():
    table = layers()
    bad = 0
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        for number, message in check(path, table):
            print(f"{path.relative_to(ROOT)}:{number}: {message}")
            bad += 1
    for path in sorted((ROOT / "clients").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            if found and found.group(2).split("/")[0] in {name.split("/")[0] for name in table}:
                print(f"{path.relative_to(ROOT)}:{number}: clients speak only the REST API")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
