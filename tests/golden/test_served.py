"""Every golden model through the whole program: HTTP, serve, mpiexec, 1 to 3 ranks.

Log-probabilities of the prompt and greedy tokens against Hugging Face transformers
(precision exact, KV f32), and the same floats for every number of ranks. With
CORDEE_FAMILIES_OUT=FILE the table of differences is written there as Markdown.
"""
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cluster"))
from harness import Serve, run  # noqa: E402

DATA = os.environ.get("CORDEE_CONFORMANCE")
GOLDEN = pathlib.Path(DATA or ".") / "golden"
# A GGUF file that lost a setting on the way: compare with the model without it.
VARIANT = {"mistral-swa.f16": "mistral-swa@nowindow"}
TOLERANCE = 2e-4
only = sys.argv[1:]


def models():
    """(label, path, golden folder, context or None)"""
    for folder in sorted((GOLDEN / "models").iterdir()):
        if folder.is_dir() and folder.name != "bert":
            yield folder.name, folder, GOLDEN / "golden" / folder.name, 160 if folder.name == "llama-yarn" else None
    for file in sorted((GOLDEN / "gguf").glob("*.gguf")):
        name = file.stem
        base = name.rsplit(".", 1)[0]
        folder = GOLDEN / "golden" / VARIANT.get(name, f"gguf-{name}")
        if not folder.exists():
            folder = GOLDEN / "golden" / base
        if base != "bert":
            yield file.name, file, folder, None


def answer(serve, case):
    choice = serve.complete(prompt=case["ids"], n=32, echo=True, logprobs=5, return_token_ids=True)
    return choice["logprobs"]["token_logprobs"], choice["token_ids"]


def check(path, golden, context):
    """The largest and mean difference, and notes on what is not as it should be."""
    expected = json.loads((golden / "expected.json").read_text())["cases"]
    worst, total, count, notes, first = 0.0, 0.0, 0, [], {}
    for workers in (1, 2, 3):
        args = ["--precision", "exact", "--kv-type", "f32", "--log-level", "warn"]
        args += ["--context", str(context)] if context else []
        with Serve(model=str(path), workers=workers, args=args) as serve:
            for name, case in expected.items():
                logprobs, ids = answer(serve, case)
                if workers == 1:
                    first[name] = logprobs, ids
                elif (logprobs, ids) != first[name]:
                    notes.append(f"{name}: other bits on {workers} ranks")
                for got, want in zip(logprobs, case["prompt_logprobs"]):
                    if want is not None:
                        d = abs(got - want)
                        worst, total, count = max(worst, d), total + d, count + 1
                greedy = case["greedy"]
                safe = greedy.get("safe_steps", 32)
                if workers == 1 and ids[:safe] != greedy["ids"][:safe]:
                    at = next(i for i, (a, b) in enumerate(zip(ids, greedy["ids"])) if a != b)
                    notes.append(f"{name}: greedy differs at {at} of {safe}")
            serve.stop()
    return worst, total / max(count, 1), notes


def every_model():
    rows, bad = [], []
    for label, path, golden, context in models():
        if only and label not in only:
            continue
        try:
            worst, mean, notes = check(path, golden, context)
        except AssertionError as problem:
            worst, mean, notes = float("nan"), float("nan"), [str(problem).splitlines()[-1][:200]]
        limit = TOLERANCE
        if worst > limit:
            notes.append(f"difference above {limit}")
        rows.append((label, worst, mean, "; ".join(notes) or "ok"))
        print(f"{label:28} max {worst:.2e} mean {mean:.2e} {rows[-1][3]}", flush=True)
        bad += [label] if notes else []
    out = os.environ.get("CORDEE_FAMILIES_OUT")
    if out:
        with open(out, "w") as f:
            f.write("| model | max | mean | 1, 2, 3 ranks |\n|---|---|---|---|\n")
            f.writelines(f"| {a} | {b:.1e} | {c:.1e} | {d} |\n" for a, b, c, d in rows)
    assert not bad, f"{len(bad)} of {len(rows)}: {', '.join(bad)}"


if __name__ == "__main__":
    if not DATA:
        print("skipped: no CORDEE_CONFORMANCE")
        sys.exit(77)
    run(every_model)
