"""Runs test programs of other projects, and says of each of their tests how it ended: no times, no words of chance.

told.py [--in DIRECTORY] [--without PATTERN]... MANNER COMMAND... {} ... -- FILE...

MANNER is how the programs tell of their tests. The command is run once for each file, which stands for {} in it. OM_DETAILS
names a file for all that they print; it is for a person who looks for a cause.
"""

import argparse
import fnmatch
import os
import re
import subprocess
import sys

# Each expression finds one test: what it said of it, and by which name.
MANNERS = {
    # perl and GLib: the number is the name, for what is written behind it may be chance.
    "tap": r"^(?P<said>ok|not ok) (?P<name>\d+)(?:.*# (?P<but>skip|todo))?",
    "tcl": r"^(?:\+\+\+\+|====) (?P<name>\S+).* (?P<said>PASSED|FAILED|SKIPPED)",
    "redis": r"^\[(?P<said>ok|err|skip|ignore|exception|timeout)\]: (?P<name>.*?)(?: \(\d+ ms\))?$",
    "ruby": r"^(?P<name>\S+#\S+) = [\d.]+ s = (?P<said>[.FES])$",
}
COLOUR = re.compile("\x1b\\[[0-9;]*m")
ENDS = {"ok": "ok", "PASSED": "ok", ".": "ok", "skip": "skip", "ignore": "skip", "SKIPPED": "skip", "S": "skip"}


def main():
    words, files = sys.argv[1:], []
    if "--" in words:
        at = len(words) - 1 - words[::-1].index("--")
        words, files = words[:at], words[at + 1:]
    parser = argparse.ArgumentParser()
    parser.add_argument("manner", choices=MANNERS)
    parser.add_argument("--in", dest="directory", default=".")
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(words)
    manner = re.compile(MANNERS[asked.manner], re.MULTILINE | re.IGNORECASE if asked.manner == "tap" else re.MULTILINE)
    details = open(os.environ.get("OM_DETAILS", os.devnull), "ab", buffering=0)
    for file in files:
        if any(fnmatch.fnmatchcase(file, pattern) for pattern in asked.without):
            continue
        command = [word.replace("{}", file) for word in asked.command]
        run = subprocess.run(command, cwd=asked.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=details)
        details.write(b"== " + file.encode() + b"\n" + run.stdout)
        printed = COLOUR.sub("", run.stdout.decode(errors="replace"))
        for test in manner.finditer(printed):
            name = f"{file}: {test['name']}"
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in asked.without):
                continue
            how = "skip" if "but" in test.groupdict() and test["but"] else ENDS.get(test["said"], "FAIL")
            print(how, name)
        print("ok" if run.returncode == 0 else f"FAIL {run.returncode}", f"{file}: its end", flush=True)


if __name__ == "__main__":
    main()
