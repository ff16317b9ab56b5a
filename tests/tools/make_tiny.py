#!/usr/bin/env python3
"""Makes the tiny random models of tests/golden/tiny and the GGUF seeds of the fuzzer.

    make_tiny.py OUT_DIR            tiny-*.gguf, each well under 1 MB
    make_tiny.py --seeds OUT_DIR    a few hundred bytes each, for tests/fuzz/corpus/gguf

Weights are random with fixed seeds, so the same gguf-py and numpy write the same
files. The texts that the models produce mean nothing; what counts is that every
part of the program meets a whole model on a machine without any. Needs: numpy, gguf.
"""
import argparse
import pathlib
import re
from collections import Counter

import gguf
import numpy as np

TEXT = """The rope holds three climbers on the wall. The first one finds the way, the second
carries the water, and the last one looks after the rest. When the weather turns they wait,
and when the sun returns they climb again. A good team is not the fastest one, it is the one
that comes back. They talk little: up, down, stop, more rope, and sometimes a joke. In the
evening they cook soup, read the map, count the hours and plan the next day together."""

CHAT = ("{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def byte_alphabet():
    """The printable stand-ins of byte-level BPE: byte -> character."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(rest)}


def learn_merges(words, count):
    """Plain byte-pair encoding over a list of symbol lists."""
    words = Counter(tuple(w) for w in words)
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        merged = Counter()
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                step = 2 if word[i:i + 2] == best else 1
                out.append("".join(word[i:i + step]))
                i += step
            merged[tuple(out)] += n
        words = merged
    return merges


def vocab_bpe(w, size):
    alphabet = byte_alphabet()
    words = [[alphabet[b] for b in m.encode()] for m in re.findall(r" ?\w+|[^\w\s]|\s", TEXT)]
    special = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"]
    merges = learn_merges(words, size - 256 - len(special))
    tokens = [alphabet[b] for b in range(256)] + ["".join(m) for m in merges]
    tokens += [f"<|unused_{i}|>" for i in range(size - len(special) - len(tokens))] + special
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * (size - len(special)) + [gguf.TokenType.CONTROL] * len(special))
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_bos_token_id(size - 4)
    w.add_eos_token_id(size - 3)
    w.add_add_bos_token(True)


def vocab_spm(w, size, space_prefix):
    words = [list("\u2581" + m) for m in re.findall(r"\w+|[^\w\s]", TEXT)]
    special = ["<unk>", "<s>", "</s>"]
    letters = sorted({c for word in words for c in word} | set("abcdefghijklmnopqrstuvwxyz"))
    room = size - len(special) - 256 - len(letters)
    pieces = ["".join(m) for m in learn_merges(words, room)]
    pieces += [f"<unused{i}>" for i in range(room - len(pieces))] + letters
    tokens = special + [f"<0x{b:02X}>" for b in range(256)] + pieces
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    w.add_token_types(kinds + [gguf.TokenType.UNUSED if t.startswith("<unused") else gguf.TokenType.NORMAL for t in pieces])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(space_prefix)


class Weights:
    """Adds tensors whose outputs keep the size of their inputs."""

    def __init__(self, writer, seed):
        self.w, self.rng = writer, np.random.default_rng(seed)

    def matrix(self, name, rows, cols, kind, std=None):
        x = self.rng.standard_normal((rows, cols)).astype(np.float32) * np.float32(std or cols ** -0.5)
        self.w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)

    def vector(self, name, n, mean=1.0, std=0.1):
        self.w.add_tensor(name, (mean + std * self.rng.standard_normal(n)).astype(np.float32))


def header(path, arch, c):
    w = gguf.GGUFWriter(str(path), arch, split_max_tensors=c.get("split", 0))
    w.add_name(path.stem)
    w.add_block_count(c["layers"])
    w.add_context_length(c["context"])
    w.add_embedding_length(c["embd"])
    w.add_feed_forward_length(c["ff"])
    w.add_head_count(c["heads"])
    w.add_head_count_kv(c["kv"])
    w.add_key_length(c["dim"])
    w.add_value_length(c["dim"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(c["base"])
    return w


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def block(t, i, c, kinds):
    big, small = kinds
    t.matrix(f"blk.{i}.attn_q.weight", c["heads"] * c["dim"], c["embd"], big)
    t.matrix(f"blk.{i}.attn_k.weight", c["kv"] * c["dim"], c["embd"], big)
    t.matrix(f"blk.{i}.attn_v.weight", c["kv"] * c["dim"], c["embd"], small)
    t.matrix(f"blk.{i}.attn_output.weight", c["embd"], c["heads"] * c["dim"], big)
    t.matrix(f"blk.{i}.ffn_gate.weight", c["ff"], c["embd"], big)
    t.matrix(f"blk.{i}.ffn_up.weight", c["ff"], c["embd"], big)
    t.matrix(f"blk.{i}.ffn_down.weight", c["embd"], c["ff"], small)
    t.vector(f"blk.{i}.attn_norm.weight", c["embd"])
    t.vector(f"blk.{i}.ffn_norm.weight", c["embd"])


def llama(path, c, vocab, kinds, seed, tied, llama3):
    w = header(path, "llama", c)
    w.add_rope_dimension_count(c["dim"])
    vocab(w)
    if c["vocab"] > 16:
        w.add_chat_template(CHAT)
    t = Weights(w, seed)
    t.matrix("token_embd.weight", c["vocab"], c["embd"], kinds[1], std=1.0)
    t.vector("output_norm.weight", c["embd"])
    if not tied:
        t.matrix("output.weight", c["vocab"], c["embd"], kinds[1], std=2.0 * c["embd"] ** -0.5)
    if llama3:
        w.add_tensor("rope_freqs.weight", np.linspace(1, 8, c["dim"] // 2, dtype=np.float32))
    for i in range(c["layers"]):
        block(t, i, c, kinds)
    finish(w)


def gemma3(path, c, vocab, kinds, seed):
    w = header(path, "gemma3", c)
    w.add_sliding_window(c["window"])
    vocab(w)
    w.add_chat_template(CHAT)
    t = Weights(w, seed)
    t.matrix("token_embd.weight", c["vocab"], c["embd"], kinds[1], std=2.0 * c["embd"] ** -0.5)
    t.vector("output_norm.weight", c["embd"])
    for i in range(c["layers"]):
        block(t, i, c, kinds)
        for name in ("attn_q_norm", "attn_k_norm"):
            t.vector(f"blk.{i}.{name}.weight", c["dim"])
        for name in ("post_attention_norm", "post_ffw_norm"):
            t.vector(f"blk.{i}.{name}.weight", c["embd"])
    finish(w)


def make_models(out):
    q = gguf.GGMLQuantizationType
    a = dict(layers=5, context=512, embd=64, ff=160, heads=4, kv=2, dim=16, base=10000.0, vocab=512)
    b = a | dict(heads=6, kv=3, dim=32, layers=4, base=500000.0, vocab=768, context=2048)
    g = a | dict(layers=7, heads=4, kv=1, dim=32, window=24, base=1000000.0, vocab=512, ff=96)
    spm = lambda size, prefix: lambda w: vocab_spm(w, size, prefix)
    bpe = lambda size: lambda w: vocab_bpe(w, size)
    llama(out / "tiny-llama-spm.gguf", a, spm(512, True), (q.F16, q.F16), 1, tied=False, llama3=False)
    llama(out / "tiny-llama-bpe.gguf", b, bpe(768), (q.Q4_0, q.Q8_0), 2, tied=True, llama3=True)
    few = dict(layers=1, context=64, embd=8, ff=8, heads=2, kv=1, dim=4, base=10000.0, vocab=4, split=8)
    llama(out / "tiny-split.gguf", few, vocab_few, (q.F32, q.F32), 8, tied=False, llama3=False)
    gemma3(out / "tiny-gemma3-spm.gguf", g, spm(512, False), (q.Q5_0, q.Q8_0), 3)
    gemma3(out / "tiny-gemma3-bpe.gguf", g | dict(vocab=640), bpe(640), (q.BF16, q.F32), 4)


def vocab_few(w):
    w.add_tokenizer_model("gpt2")
    w.add_token_list(["a", "b", "ab", "<e>"])
    w.add_token_types([1, 1, 1, 3])
    w.add_token_merges(["a b"])
    w.add_eos_token_id(3)


def make_seeds(out):
    q = gguf.GGMLQuantizationType
    c = dict(layers=1, context=8, embd=4, ff=4, heads=2, kv=1, dim=2, base=10000.0, vocab=4)
    llama(out / "llama-f32.gguf", c, vocab_few, (q.F32, q.F32), 5, tied=False, llama3=True)
    llama(out / "llama-f16-tied.gguf", c, vocab_few, (q.F16, q.F16), 6, tied=True, llama3=False)
    llama(out / "llama-q8_0.gguf", c | dict(embd=32, ff=32, dim=16), vocab_few, (q.Q8_0, q.Q4_0), 7, tied=True, llama3=False)
    w = gguf.GGUFWriter(str(out / "vocab-only.gguf"), "llama")
    vocab_few(w)
    w.add_array("general.tags", ["x", "y"])
    w.add_uint64("a.u64", 1 << 40)
    w.add_float64("a.f64", 0.5)
    w.add_int8("a.i8", -1)
    finish(w)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seeds", action="store_true")
    p.add_argument("out", type=pathlib.Path)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (make_seeds if args.seeds else make_models)(args.out)
