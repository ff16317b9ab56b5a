#!/usr/bin/env python3
"""Speed side by side with llama.cpp: the measuring half of ./run bench peers.

    ./run bench peers [--only TESTS] [--shapes 1b] [--types q4_0,q8_0] [--threads 1,2] [--isa native,avx2]
                      [--runs 3] [--gemma FILE] [--report] [--keep]

Tests: decode, batch, prompt, noise, accuracy (all, unless --only names some). Each engine is a process
(bench/peer.h) that keeps a model loaded; both, and a read of memory, take turns, and the order changes
with every turn; medians count. Results are merged into bench/results/peers-MACHINE.json, so a
run may do a part (a shared machine is quiet for minutes only); tables and the plot are made from
that file each time, --report does only that.

One thread is timed by its processor time, so that what else runs takes turns, not credit; several threads by
the wall, since a thread that waits is the point there.

noise: a process of its own burns the last core every second turn.
accuracy: log-probabilities of CORDEE_CONFORMANCE's gemma-3-270m.json, and the perplexity of
tests/data/prose.txt in windows of 512 tokens.
"""
import argparse
import datetime
import json
import math
import multiprocessing
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import make_model
import peers_report

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
READ_MIB = 256
SETTLE = 0.25  # OpenMP threads spin for 0.2 s after their last loop
STEPS = {1: 16, 4: 8, 8: 6, 16: 4}  # decode steps of a turn, by streams
MAIN_TYPES = ["q4_0", "q4_k", "q8_0"]
ALL_TYPES = ["q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "f16", "bf16"]


class Engine:
    """One peer process."""

    def __init__(self, command, clock="seconds"):
        self.clock = clock
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        result = json.loads(line) if line else {"error": f"{self.process.args[0]} ended"}
        if "error" in result:
            raise RuntimeError(result["error"])
        return result

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def seconds(self, command):
        return self.ask(command)[self.clock]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Pair:
    """Both engines on one model, for `with`."""

    def __init__(self, options, model, threads, streams, isa):
        common = [str(model), "--threads", str(threads), "--streams", str(streams), "--context",
                  "576" if streams == 1 else "64"]
        clock = "cpu" if threads == 1 else "seconds"
        self.engines = {
            "cordee": Engine([str(options.cordee / "bench/bench_peer"), *common, "--isa", isa], clock),
            "llama": Engine([str(options.llama / isa / "peer_llama"), *common], clock)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for engine in self.engines.values():
            engine.close()

    def turn(self, commands, n):
        """{command: {engine: seconds}}, {command: seconds of a read beside it}; the first engine changes with n."""
        order = sorted(self.engines, reverse=n % 2 == 1)
        taken, reads = {}, {}
        for command in commands:
            taken[command] = {}
            for name in order:
                taken[command][name] = self.engines[name].seconds(command)
                time.sleep(SETTLE)
            reads[command] = self.engines["cordee"].seconds(f"read {READ_MIB}")
        return taken, reads


def tokens_of(command):
    word, *numbers = command.split()
    return math.prod(map(int, numbers)) if word == "decode" else int(numbers[0])


def burn():
    while True:
        pass


class Noise:
    """A process that burns the last core of our mask, for `with`; on == False: none."""

    def __init__(self, on):
        self.process = multiprocessing.Process(target=burn, daemon=True) if on else None

    def __enter__(self):
        if self.process:
            self.process.start()
            os.sched_setaffinity(self.process.pid, {max(os.sched_getaffinity(0))})
            time.sleep(SETTLE)

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.join()


def measure(options, key, path, commands, noisy=False):
    """Records of several commands on one loaded model. key: shape, type, threads, isa."""
    streams = max(int(c.split()[1]) if c.startswith("decode") else 1 for c in commands)
    runs = {(c, n): {"cordee": [], "llama": []} for c in commands for n in ((False, True) if noisy else (False,))}
    reads = {c: [] for c in commands}
    with Pair(options, path, key["threads"], streams, key["isa"]) as pair:
        pair.turn([c.rsplit(" ", 1)[0] + " 2" if c.startswith("decode") else "prompt 32" for c in commands], 0)
        for turn in range(options.runs):
            for noise in (False, True) if noisy else (False,):
                with Noise(noise):
                    taken, read = pair.turn(commands, turn)
                for command in commands:
                    if not noise:
                        reads[command].append((READ_MIB << 20) / read[command] * 1e-9)
                    for name, seconds in taken[command].items():
                        runs[command, noise][name].append(round(tokens_of(command) / seconds, 2))
    for (command, noise), values in runs.items():
        decode = command.startswith("decode")
        yield {**key, "test": "decode" if decode else "prompt", "noise": noise,
               "streams": int(command.split()[1]) if decode else 1,
               "cordee": statistics.median(values["cordee"]), "llama": statistics.median(values["llama"]),
               "runs": values, "read_gbs": round(statistics.median(reads[command]), 2),
               "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}


def plan(options):
    """(shape, type, threads, isa, commands, noisy): what to load, and what to do with it."""
    decode = f"decode 1 {STEPS[1]}"
    batch = [f"decode {s} {n}" for s, n in STEPS.items()]
    jobs = []
    for isa in options.isa:
        main = ALL_TYPES if isa == "native" else MAIN_TYPES
        if "decode" in options.only:
            jobs += [("1b", t, n, isa, [decode], False) for t in main for n in (1, 2)]
            jobs += [(s, t, 1, isa, [decode], False) for s in ("8b", "70b") for t in MAIN_TYPES if isa == "native"]
            jobs += [("gemma", "q4_k_m", n, isa, [decode], False) for n in (1, 2)]
        if "batch" in options.only and isa == "native":
            jobs += [("1b", t, n, isa, batch, False) for t in MAIN_TYPES for n in (1, 2)]
        if "prompt" in options.only:
            jobs += [("1b", t, 1, isa, ["prompt 512"], False) for t in main]
            jobs += [("70b", t, 1, isa, ["prompt 512"], False) for t in MAIN_TYPES if isa == "native"]
        if "noise" in options.only and isa == "native":
            jobs += [("1b", "q4_0", 2, isa, [decode], True)]
    return sorted((j for j in jobs if j[0] in options.shapes and j[1] in options.types and j[2] in options.threads),
                  key=lambda j: (j[0], j[1]))


def model_file(options, shape, name):
    if shape == "gemma":
        return options.gemma
    path = options.models / f"{shape}-{name}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_model.write(shape, name, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    return path


def same(a, b):
    return all(a.get(k) == b.get(k) for k in ("test", "shape", "type", "threads", "streams", "isa", "noise"))


def merge(results, record):
    results["records"] = [r for r in results["records"] if not same(r, record)] + [record]


def save(path, results):
    path.write_text(json.dumps(results, indent=1) + "\n")


def run_plan(options, results, path_of_results):
    jobs = plan(options)
    for i, (shape, name, threads, isa, commands, noisy) in enumerate(jobs):
        if not (options.llama / isa / "peer_llama").exists():
            continue
        path = model_file(options, shape, name)
        key = {"shape": shape, "type": name, "threads": threads, "isa": isa}
        if shape != "gemma":
            key["bytes_per_token"] = make_model.bytes_per_token(shape, name)
        for record in measure(options, key, path, commands, noisy):
            merge(results, record)
            print(peers_report.line(record), flush=True)
        save(path_of_results, results)
        last_use = all(j[:2] != (shape, name) for j in jobs[i + 1:])
        if last_use and shape != "gemma" and not options.keep:
            path.unlink()


def accuracy(options):
    """How far each engine is from f32, and the perplexity of our text."""
    engines = {"exact": [str(options.cordee / "bench/bench_peer"), str(options.gemma), "--exact"],
               "fast": [str(options.cordee / "bench/bench_peer"), str(options.gemma)],
               "llama": [str(options.llama / "native/peer_llama"), str(options.gemma)]}
    folder, golden = os.environ.get("CORDEE_CONFORMANCE"), None
    if folder:
        golden = json.loads((pathlib.Path(folder) / "golden/gemma-3-270m.json").read_text())["cases"].values()
    windows = text_windows(options)
    found = {}
    for name, command in engines.items():
        engine = Engine([*command, "--threads", "2"])
        scores = [x for ids in windows for x in engine.ask("score " + " ".join(map(str, ids)))["logprobs"]]
        found[name] = {"perplexity": math.exp(-statistics.fmean(scores)), "tokens": len(scores)}
        if golden:
            distance = [abs(x - y) for case in golden for x, y in
                        zip(engine.ask("score " + " ".join(map(str, case["ids"])))["logprobs"],
                            case["prompt_logprobs"][1:])]
            found[name]["distance"] = statistics.fmean(distance)
        engine.close()
    return found


def text_windows(options):
    text = HERE.parent / "tests/data/prose.txt"
    said = subprocess.run([options.cordee / "cordee", "tokenize", "--model", options.gemma, "--add-special"],
                          input=text.read_bytes(), capture_output=True, check=True).stdout
    ids = [int(x) for x in said.split()]
    return [ids[:1] + ids[i:i + 511] for i in range(1, len(ids) - 1, 511)]


def machine():
    facts = dict(re.findall(r"^(model name|flags)\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M))
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return {"cpu": facts.get("model name", "?"), "cores": len(os.sched_getaffinity(0)),
            "features": [f for f in wanted if f in facts.get("flags", "").split()]}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def words(allowed):
        def split(s):
            unknown = set(s.split(",")) - set(allowed)
            if unknown:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(allowed)}")
            return s.split(",")
        return split
    tests, types, shapes = ["decode", "batch", "prompt", "noise", "accuracy"], [*ALL_TYPES, "q4_k_m"], ["1b", "8b", "70b", "gemma"]
    isas = ["native", "avx2", "bf16"]
    p.add_argument("--only", type=words(tests), default=tests)
    p.add_argument("--types", type=words(types), default=types)
    p.add_argument("--shapes", type=words(shapes), default=shapes)
    p.add_argument("--isa", type=words(isas), default=isas)
    p.add_argument("--threads", type=lambda s: [int(x) for x in s.split(",")], default=[1, 2])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--report", action="store_true", help="measure nothing, write tables and plot again")
    p.add_argument("--keep", action="store_true", help="leave the models of random weights")
    p.add_argument("--gemma", type=pathlib.Path, help="the default model")
    p.add_argument("--cordee", type=pathlib.Path, required=True, help="build directory")
    p.add_argument("--llama", type=pathlib.Path, required=True, help="directory of the peers, one folder a build")
    p.add_argument("--models", type=pathlib.Path, required=True, help="where models are written")
    p.add_argument("--out", type=pathlib.Path, default=RESULTS)
    p.add_argument("--version", default="", help="of the peer, noted in the results")
    return p.parse_args()


def main():
    options, here = parse(), machine()
    name = "peers-" + re.sub(r"[^a-z0-9]+", "-", f"{here['cpu']} {here['cores']} cores".lower())
    path = options.out / f"{name}.json"
    results = json.loads(path.read_text()) if path.exists() else {"records": []}
    if not options.report:
        results |= {"machine": here, "peer": options.version}
        run_plan(options, results, path)
        if "accuracy" in options.only:
            results["accuracy"] = accuracy(options)
        save(path, results)
    (options.out / f"{name}.md").write_text(peers_report.tables(results, name))
    (options.out / f"{name}.svg").write_text(peers_report.plot(results))
    print(f"peers: {path} and .md, .svg beside it")


if __name__ == "__main__":
    sys.exit(main())
