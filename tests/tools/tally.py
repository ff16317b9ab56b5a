#!/usr/bin/env python3
"""tally.py JUNIT... - what was not run, what failed, and the count as the last line.

Each ctest test counts once. A test program that passed may still have skipped
cases inside (cmocka prints them): each is counted as skipped and named, so that
a green line cannot hide that half of the suite had no data to run on.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

CASE_SKIPPED = re.compile(r"^\[  SKIPPED \] (?!\d+ test)(\w+)", re.M)


def read_results(path):
    """Yields (suite/test, "run" | "fail" | "skip", output)."""
    suite = pathlib.Path(path).stem
    for case in ET.parse(path).getroot().iter("testcase"):
        status = case.get("status", "run")
        if status not in ("run", "fail"):
            status = "skip"  # ctest says "notrun" or "disabled"
        if case.find("failure") is not None:
            status = "fail"
        yield f"{suite}: {case.get('name')}", status, case.findtext("system-out") or ""


def main():
    passed, failed, skipped = [], [], []
    for path in sys.argv[1:]:
        try:
            results = list(read_results(path))
        except (OSError, ET.ParseError) as error:
            results = [(f"{path}: {error}", "fail", "")]
        for name, status, output in results:
            {"run": passed, "fail": failed, "skip": skipped}[status].append(name)
            if status == "run":
                skipped += [f"{name}: {case}" for case in dict.fromkeys(CASE_SKIPPED.findall(output))]
    for title, names in (("skipped", skipped), ("failed", failed)):
        for name in names:
            print(f"{title}: {name}")
    tail = f", {len(skipped)} skipped" if skipped else ""
    print(f"{len(passed)} passed, {len(failed)} failed{tail}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
