#!/usr/bin/env python3
"""Cuts the compact tokenizer goldens of this folder out of the full set.

usage: make.py SOURCE     SOURCE is golden/tokenizers of the reference data

Of every tokenizer a spread of strings is kept, the short and odd ones first.
unigram-nfkc loses its precompiled_charsmap (300 KB) and keeps only strings of
plain ASCII, on which that table does nothing.
"""
import json
import os
import shutil
import sys

KEEP = {"llama3": 56, "qwen2": 56, "deepseek3": 56, "falcon": 56, "gpt4o": 48, "bloom": 48, "spm-llama2": 56,
        "spm-mistral": 40, "spm-gemma": 40, "spm-phi3": 32, "unigram-nfkc": 40, "wordpiece-uncased": 48}
FIELDS = ("text", "ids", "ids_special", "ids_plain", "sp_ids", "decoded", "decoded_skip", "stream")


def plain(text):
    return text.isascii() and text.isprintable() and "  " not in text and text.strip() == text and text


def choose(cases, n):
    cases = sorted((c for c in cases if len(c["ids"]) <= 60), key=lambda c: len(c["text"].encode()))
    step = max(1, len(cases) // n)
    return cases[::step][:n]


def main(source):
    here = os.path.dirname(os.path.abspath(__file__))
    for name, n in KEEP.items():
        src, dst = os.path.join(source, name), os.path.join(here, name)
        os.makedirs(dst, exist_ok=True)
        golden = json.load(open(os.path.join(src, "golden.json")))
        tok = json.load(open(os.path.join(src, "tokenizer.json")))
        cases = golden["encode"]
        if name == "unigram-nfkc":
            cases = [c for c in cases if plain(c["text"])]
            steps = tok["normalizer"]["normalizers"]
            tok["normalizer"]["normalizers"] = [s for s in steps if s["type"] != "Precompiled"]
        golden["encode"] = [{k: c[k] for k in FIELDS if k in c} for c in choose(cases, n)]
        golden["decode"] = golden["decode"][:12]
        for file, data in (("golden.json", golden), ("tokenizer.json", tok)):
            with open(os.path.join(dst, file), "w") as f:
                json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
                f.write("\n")
        shutil.copyfile(os.path.join(src, "tokenizer_config.json"), os.path.join(dst, "tokenizer_config.json"))
        if name == "spm-llama2":
            shutil.copyfile(os.path.join(src, "tokenizer.model"), os.path.join(dst, "tokenizer.model"))


if __name__ == "__main__":
    main(sys.argv[1])
