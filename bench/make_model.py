#!/usr/bin/env python3
"""Writes a GGUF file of a Llama's shape, or of a Qwen 3 with experts, with random weights: for speed, its
text means nothing.

    make_model.py SHAPE TYPE OUT      make_model.py 1b q4_k /tmp/1b-q4_k.gguf

Every matrix, the embedding and the head included, is of TYPE; routers are f32. Block bytes are random and
repeat every few MiB; the factors are such that activations keep their scale, so no
kernel meets infinities. Needs numpy.
"""
import struct
import sys
from collections import namedtuple

import numpy as np

VOCAB = 32000
# Real models' shapes, the large ones with fewer layers. head: columns of one head, if not width / heads.
Shape = namedtuple("Shape", "width layers ffn heads kv head experts used", defaults=(0, 0, 0))
SHAPES = {"1b": Shape(2048, 16, 8192, 32, 8), "8b": Shape(4096, 8, 14336, 32, 8), "70b": Shape(8192, 4, 28672, 64, 8),
          "moe": Shape(2048, 4, 768, 32, 4, head=128, experts=128, used=8)}  # Qwen3 30B A3B
#        number in the file, weights of a block, bytes of a block
TYPES = {"f16": (1, 1, 2), "bf16": (30, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144),
         "q5_k": (13, 256, 176), "q6_k": (14, 256, 210)}
F32 = 0
TILE_BLOCKS = {1: 1 << 22, 32: 1 << 17, 256: 1 << 14}  # 4 Mi weights
U32, FLOAT, STRING, ARRAY, I32 = 4, 6, 8, 9, 5  # value types


def row_bytes(name, columns):
    _, block, size = TYPES[name]
    return columns // block * size


def head_columns(shape):
    return shape.head or shape.width // shape.heads


def tensors(shape, name):
    """(name, type, columns, rows, matrices) of every tensor; matrices: one, or one for each expert."""
    s = SHAPES[shape]
    q, kv = s.heads * head_columns(s), s.kv * head_columns(s)
    yield "token_embd.weight", name, s.width, VOCAB, 1
    yield "output_norm.weight", F32, s.width, 1, 1
    yield "output.weight", name, s.width, VOCAB, 1
    for layer in range(s.layers):
        parts = [("attn_norm", F32, s.width, 1, 1), ("ffn_norm", F32, s.width, 1, 1),
                 ("attn_q", name, s.width, q, 1), ("attn_k", name, s.width, kv, 1),
                 ("attn_v", name, s.width, kv, 1), ("attn_output", name, q, s.width, 1)]
        if s.experts:
            parts += [("attn_q_norm", F32, s.head, 1, 1), ("attn_k_norm", F32, s.head, 1, 1),
                      ("ffn_gate_inp", F32, s.width, s.experts, 1)]
        end, matrices = ("_exps", s.experts) if s.experts else ("", 1)
        parts += [("ffn_gate" + end, name, s.width, s.ffn, matrices), ("ffn_up" + end, name, s.width, s.ffn, matrices),
                  ("ffn_down" + end, name, s.ffn, s.width, matrices)]
        for part, *rest in parts:
            yield f"blk.{layer}.{part}.weight", *rest


def read_matrices(shape):
    """(name, type, columns, rows) of what a token is multiplied with: the head too, and of experts those it uses."""
    for tensor, kind, columns, rows, matrices in tensors(shape, "f16"):
        if rows > 1 and not tensor.startswith("token_embd"):
            yield tensor, kind, columns, rows * (1 if matrices == 1 else SHAPES[shape].used)


def bytes_per_token(shape, name):
    """What one generated token has to read: all matrices but the embedding."""
    return sum(rows * (4 * columns if kind == F32 else row_bytes(name, columns))
               for _, kind, columns, rows in read_matrices(shape))


def multiplications_per_token(shape):
    return sum(rows * columns for tensor, _, columns, rows in read_matrices(shape) if not tensor.startswith("output."))


def tile(name, columns, random):
    """Random blocks whose weights have a deviation of about 1/sqrt(columns)."""
    _, block, size = TYPES[name]
    n, deviation = TILE_BLOCKS[block], 1 / np.sqrt(columns)
    if block == 1:
        x = random.standard_normal(n, dtype=np.float32) * np.float32(deviation)
        return (x.astype(np.float16) if name == "f16" else (x.view(np.uint32) >> 16).astype(np.uint16)).tobytes()
    out = random.integers(0, 256, (n, size), dtype=np.uint8)

    def factor(at, value):
        out[:, at:at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)

    if name == "q4_0":  # without -8 the mean is zero; else all hidden states look alike, and routers see no more
        codes = out[:, 2:]
        codes[codes & 15 == 0] |= 8
        codes[codes < 16] |= 128
        factor(0, deviation / 4.3)
    elif name == "q8_0":
        factor(0, deviation / 74)
    elif name == "q6_k":
        factor(size - 2, deviation / 18.5 / 74)
    else:  # d and the factor of the minima, such that the mean is near zero; 6-bit sub-scales are 32 on average
        levels = 16 if name == "q4_k" else 32
        d = deviation / (levels * 0.29) / 32
        factor(0, d)
        factor(2, d * (levels - 1) / 2)
    return out.tobytes()


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def value(key, kind, x):
    body = text(x) if kind == STRING else struct.pack("<I" if kind == U32 else "<f", x)
    return text(key) + struct.pack("<I", kind) + body


def array(key, kind, items):
    body = b"".join(text(x) if kind == STRING else struct.pack("<i", x) for x in items)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + body


def metadata(shape):
    s, arch = SHAPES[shape], "qwen3moe" if SHAPES[shape].experts else "llama"
    numbers = {"context_length": 8192, "embedding_length": s.width, "block_count": s.layers,
               "feed_forward_length": s.ffn, "attention.head_count": s.heads,
               "attention.head_count_kv": s.kv, "vocab_size": VOCAB, "rope.dimension_count": head_columns(s),
               "attention.key_length": head_columns(s), "attention.value_length": head_columns(s)}
    if s.experts:
        numbers |= {"expert_count": s.experts, "expert_used_count": s.used, "expert_feed_forward_length": s.ffn}
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in printable]
    letters = [chr(b) if b in printable else chr(256 + rest.index(b)) for b in range(256)]
    tokens = letters + ["th"] + [f"<pad{i}>" for i in range(VOCAB - 259)] + ["<s>", "</s>"]
    kinds = [1] * 257 + [5] * (VOCAB - 259) + [3, 3]
    return [value("general.architecture", STRING, arch), value("general.name", STRING, f"random {shape}"),
            *(value(f"{arch}.{key}", U32, n) for key, n in numbers.items()),
            value(f"{arch}.attention.layer_norm_rms_epsilon", FLOAT, 1e-5), value(f"{arch}.rope.freq_base", FLOAT, 5e5),
            value("tokenizer.ggml.model", STRING, "gpt2"), value("tokenizer.ggml.pre", STRING, "llama-bpe"),
            array("tokenizer.ggml.tokens", STRING, tokens), array("tokenizer.ggml.token_type", I32, kinds),
            array("tokenizer.ggml.merges", STRING, ["t h"]), value("tokenizer.ggml.bos_token_id", U32, VOCAB - 2),
            value("tokenizer.ggml.eos_token_id", U32, VOCAB - 1)]


def size_of(kind, columns, rows, matrices):
    return matrices * rows * (4 * columns if kind == F32 else row_bytes(kind, columns))


def write(shape, name, path):
    values, list_of_tensors = metadata(shape), list(tensors(shape, name))
    infos, offset = [], 0
    for tensor, kind, columns, rows, matrices in list_of_tensors:
        dims = [columns] + [rows] * (rows > 1) + [matrices] * (matrices > 1)
        infos.append(text(tensor) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims,
                                                F32 if kind == F32 else TYPES[kind][0], offset))
        offset += (size_of(kind, columns, rows, matrices) + 31) // 32 * 32
    random, tiles = np.random.default_rng(1), {}
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(values)) + b"".join(values + infos))
        f.write(bytes(-f.tell() % 32))
        for _, kind, columns, rows, matrices in list_of_tensors:
            if kind == F32:
                f.write((np.ones(columns, np.float32) if rows == 1 else
                         random.standard_normal(rows * columns, np.float32) / np.float32(columns ** 0.5)).tobytes())
                f.write(bytes(-f.tell() % 32))
                continue
            if columns not in tiles:
                tiles[columns] = tile(name, columns, random)
            left, data = size_of(kind, columns, rows, matrices), tiles[columns]
            while left:
                f.write(data[:left])
                left -= min(left, len(data))
            f.write(bytes(-f.tell() % 32))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in TYPES:
        sys.exit(f"usage: make_model.py {'|'.join(SHAPES)} {'|'.join(TYPES)} OUT")
    write(*sys.argv[1:])
