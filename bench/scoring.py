#!/usr/bin/env python3
"""Scored prompt tokens per second: two ranks of one thread against one (`ranks`), and
five-shot questions with shared prefixes against without (`cache`).

    bench/scoring.py --model model.gguf [--only ranks|cache] [--rounds 3] [--out FILE.json]

Both sides of a pair run in turn, so that a machine that slows down slows both; what is
compared are medians. Times are the run's own (OUT.report.json), without the launch.
With --out the rounds are added to those the file has: a shared machine can be measured
in short pieces. The figures depend on the machine; tests check none of them.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

WORDS = """the of river stone and light under a winter market quiet engine paper because harbour seven number
carried answer between early garden machine north window after small letter written copper valley question
morning train glass people wooden story bright corner travel before measure ocean silver""".split()


def sentence(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n)).capitalize() + "."


def write_text(path, sentences):
    rng = random.Random(1)
    path.write_text("\n".join(sentence(rng, 12) for _ in range(sentences)) + "\n")


def write_items(path, n):
    """Four choices each, behind the same five examples of some fifty tokens."""
    rng = random.Random(2)

    def ask(i):
        return f"{sentence(rng, 14)} {sentence(rng, 10)}\nQuestion: which number follows {i}?\nAnswer:"
    shots = "".join(f"{ask(i)} {i + 1}\n\n" for i in range(5))
    with open(path, "w", encoding="utf-8") as f:
        for i in range(10, 10 + n):
            choices = [f" {i + 1}", f" {i}", f" {i - 1}", " none"]
            f.write(json.dumps({"id": f"q{i}", "context": shots + ask(i), "choices": choices, "answer": 0}) + "\n")


def measure(args, workers, *more):
    """The report of one run of `cordee eval` on ranks of one thread each."""
    with tempfile.TemporaryDirectory(prefix="cordee-bench-") as name:
        out = pathlib.Path(name) / "out"
        command = [args.cordee, "eval", "--model", args.model, "--workers", str(workers), "--threads", "1",
                   "-o", str(out), *map(str, more)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        report = json.loads(pathlib.Path(f"{out}.report.json").read_text())
    return {"seconds": report["wall_hours"]["value"] * 3600, "tokens": report["prompt_tokens"],
            "cached": report["cached_tokens"], "busy": [s["busy"] for s in report["stages"]]}


def pair_ranks(args, d):
    """Every token of a text is scored: the head works for every row."""
    write_text(d / "text", args.sentences)
    more = ("--perplexity", d / "text", "--window", args.window)
    return {"one rank": measure(args, 1, *more), "two ranks": measure(args, 2, *more)}


def pair_cache(args, d):
    write_items(d / "items", args.items)
    more = ("-i", d / "items")
    return {"without": measure(args, 2, *more, "--prefix-cache=false"), "with": measure(args, 2, *more)}


PAIRS = {"ranks": pair_ranks, "cache": pair_cache}


def summary(rounds):
    """Median tokens per second of each side, and how much faster the second one is."""
    sides = list(rounds[0])
    rate = {side: statistics.median(r[side]["tokens"] / r[side]["seconds"] for r in rounds) for side in sides}
    each = [r[sides[0]]["seconds"] / r[sides[1]]["seconds"] for r in rounds]
    return {"tokens_per_s": rate, "ratio": rate[sides[1]] / rate[sides[0]], "ratios": each, "rounds": rounds}


def main():
    here = pathlib.Path(__file__).resolve().parents[1]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--cordee", default=os.environ.get("CORDEE_BINARY", str(here / "build" / "cordee")))
    p.add_argument("--only", choices=sorted(PAIRS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--sentences", type=int, default=600)
    p.add_argument("--window", type=int, default=256)
    p.add_argument("--items", type=int, default=24)
    p.add_argument("--out", type=pathlib.Path)
    args = p.parse_args()
    rounds = json.loads(args.out.read_text())["rounds"] if args.out and args.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="cordee-bench-") as name:
        for _ in range(args.rounds):
            for what, pair in PAIRS.items():
                if args.only in (None, what):
                    rounds.setdefault(what, []).append(pair(args, pathlib.Path(name)))
    result = {what: summary(r) for what, r in rounds.items()}
    for what, r in result.items():
        rates = ", ".join(f"{side} {rate:.0f}" for side, rate in r["tokens_per_s"].items())
        print(f"{what}: {rates} tokens/s; ratio {r['ratio']:.2f} of medians, {min(r['ratios']):.2f} to "
              f"{max(r['ratios']):.2f} over {len(r['ratios'])} rounds")
    if args.out:
        short = {what: {k: v for k, v in r.items() if k != "rounds"} for what, r in result.items()}
        args.out.write_text(json.dumps({"model": os.path.basename(args.model), "summary": short, "rounds": rounds},
                                       indent=1) + "\n")


if __name__ == "__main__":
    main()
