#!/usr/bin/env python3
"""check_layers.py ROOT - the dependency rules, by reading #include lines and calls.

The build already refuses a link that climbs; this says it first, names the line,
and also catches what links do not show: system headers, getenv, mmap.
"""
import fnmatch
import pathlib
import re
import sys

# Folder -> folders it may include besides itself. cli wires everything.
BELOW = {
    "base": "",
    "kernels": "base",
    "proto": "base",
    "transport": "base",
    "tokenizer": "base",
    "api": "base",
    "model": "base kernels tokenizer",
    "shard": "base kernels tokenizer model",
    "worker": "base kernels tokenizer model shard proto transport",
    "coordinator": "base tokenizer api model proto transport shard/plan.h",
    "cli": "base kernels proto transport tokenizer api model shard worker coordinator",
}

# What only some files may use: pattern over the text -> files.
RESERVED = [
    (r"#\s*include\s*<mpi\.h>", "<mpi.h>", ["transport/transport_mpi.c"]),
    (r"#\s*include\s*<(?:[a-z]*mmintrin|immintrin|x86intrin)\.h>", "x86 intrinsics", ["kernels/x86/*"]),
    (r"#\s*include\s*<arm_neon\.h>", "NEON intrinsics", ["kernels/arm/*"]),
    (r"#\s*include\s*<(?:event2/|sys/socket\.h|netinet/)", "sockets and libevent",
     ["api/*", "transport/*", "cli/*"]),
    (r"\b(?:secure_)?getenv\s*\(", "getenv", ["base/*", "cli/*"]),
    (r"\bmmap\s*\(", "mmap", ["model/mapped.c"]),
    (r"(?<![\w.>])exit\s*\(", "exit", ["cli/*"]),
]
VAGUE = re.compile(r"(?:^|[/_])(?:internal|common|utils?|helpers?|misc)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def without_comments(text):
    """Comments and string bodies blanked, lines kept."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)

    def blank(match):
        s = match.group()
        return s if s[0] == '"' and s.endswith('.h"') else re.sub(r"[^\n]", " ", s)

    return token.sub(blank, text)


def check_file(root, path):
    name = path.relative_to(root).as_posix()
    folder = name.split("/")[0]
    allowed = BELOW[folder].split() + [folder]
    text = without_comments(path.read_text(errors="replace"))
    found = []

    def say(offset, what):
        found.append(f"{name}:{text.count(chr(10), 0, offset) + 1}: {what}")

    includes = list(INCLUDE.finditer(text))
    for match in includes:
        target = match.group(1)
        if "/" not in target:
            say(match.start(), f'"{target}": includes are written from the root')
        elif target not in allowed and target.split("/")[0] not in allowed:
            say(match.start(), f'{folder}/ may not include "{target}"')
    own = name[:-2] + ".h"
    if name.endswith(".c") and (root / own).exists() and (not includes or includes[0].group(1) != own):
        say(0, f'includes its own header "{own}" first')
    if VAGUE.search(name):
        say(0, "a header is named after what it has, not that it is shared")
    for pattern, what, files in RESERVED:
        if not any(fnmatch.fnmatch(name, f) for f in files):
            for match in re.finditer(pattern, text):
                say(match.start(), f"{what} belongs in {', '.join(files)}")
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    paths = [p for folder in BELOW for p in sorted((root / folder).rglob("*.[ch]"))]
    found = [line for path in paths for line in check_file(root, path)]
    print("\n".join(found + [f"{len(paths)} files, {len(found)} against the rules"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
