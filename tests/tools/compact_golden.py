#!/usr/bin/env python3
"""Copies a compact part of the conformance data into tests/golden/reference.

    compact_golden.py CONFORMANCE_DIR OUT_DIR

One or two models of every structure, each a Hugging Face directory without its
tokenizer, and what transformers computed with it in float32: prompt
log-probabilities, logits, greedy tokens. Hidden states stay behind.
"""
import json
import pathlib
import shutil
import sys

MODELS = """llama31-gqa mistral-swa mixtral falcon-40b-style falcon-rw-alibi mpt-clip granite granitemoe qwen3
gemma2 phi3 deepseek_v3 gpt_oss-mxfp4 cohere2 glm4 bloom""".split()
CASES = ("p1", "p33", "p120")


def copy_model(src, dst):
    dst.mkdir(parents=True, exist_ok=True)
    for f in sorted(src.iterdir()):
        if f.name == "config.json" or ".safetensors" in f.name:
            shutil.copyfile(f, dst / f.name)


def copy_expected(src, dst):
    dst.mkdir(parents=True, exist_ok=True)
    expected = json.loads((src / "expected.json").read_text())
    expected["cases"] = {k: v for k, v in expected["cases"].items() if k in CASES}
    for case in expected["cases"].values():
        case.pop("hidden", None)
        logits = case["logits"]
        data = (src / logits["file"]).read_bytes()
        if logits["positions"] == "all":  # the last row says enough beside the prompt's log-probabilities
            vocab = logits["shape"][-1]
            data, logits["positions"], logits["shape"] = data[-4 * vocab:], "last", [vocab]
        (dst / logits["file"]).write_bytes(data)
    (dst / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


def main():
    data, out = pathlib.Path(sys.argv[1]) / "golden", pathlib.Path(sys.argv[2]) / "golden"
    for name in MODELS:
        copy_model(data / "models" / name, out / "models" / name)
        copy_expected(data / "golden" / name, out / "golden" / name)


if __name__ == "__main__":
    main()
