#!/usr/bin/env python3
"""Writes a GGUF file of a Llama's shape with random weights: for speed, its text means nothing.

    make_model.py SHAPE TYPE OUT      make_model.py 1b q4_k /tmp/1b-q4_k.gguf

Every matrix, the embedding and the head included, is of TYPE. Block bytes are random and
repeat every few MiB; the factors are such that activations keep their scale, so no
kernel meets infinities. Needs numpy.
"""
import struct
import sys

import numpy as np

VOCAB = 32000
#        width layers ffn heads kv: real models' shapes, the large ones with fewer layers
SHAPES = {"1b": (2048, 16, 8192, 32, 8), "8b": (4096, 8, 14336, 32, 8), "70b": (8192, 4, 28672, 64, 8)}
#        number in the file, weights of a block, bytes of a block
TYPES = {"f16": (1, 1, 2), "bf16": (30, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144),
         "q5_k": (13, 256, 176), "q6_k": (14, 256, 210)}
F32 = 0
TILE_BLOCKS = {1: 1 << 22, 32: 1 << 17, 256: 1 << 14}  # 4 Mi weights
U32, FLOAT, STRING, ARRAY, I32 = 4, 6, 8, 9, 5  # value types


def row_bytes(name, columns):
    _, block, size = TYPES[name]
    return columns // block * size


def tensors(shape):
    """(name, rows, columns) of every matrix; norms have one row."""
    width, layers, ffn, heads, kv = SHAPES[shape]
    kv_width = kv * (width // heads)
    yield "token_embd.weight", VOCAB, width
    yield "output_norm.weight", 1, width
    yield "output.weight", VOCAB, width
    for layer in range(layers):
        for part, rows, columns in (("attn_norm", 1, width), ("ffn_norm", 1, width), ("attn_q", width, width),
                                    ("attn_k", kv_width, width), ("attn_v", kv_width, width),
                                    ("attn_output", width, width), ("ffn_gate", ffn, width), ("ffn_up", ffn, width),
                                    ("ffn_down", width, ffn)):
            yield f"blk.{layer}.{part}.weight", rows, columns


def bytes_per_token(shape, name):
    """What one generated token has to read: all matrices but the embedding."""
    return sum(rows * row_bytes(name, columns) for tensor, rows, columns in tensors(shape)
               if rows > 1 and not tensor.startswith("token_embd"))


def multiplications_per_token(shape):
    return sum(rows * columns for tensor, rows, columns in tensors(shape)
               if rows > 1 and not tensor.startswith(("token_embd", "output.")))


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

    if name == "q4_0":
        factor(0, deviation / 4.6)
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
    width, layers, ffn, heads, kv = SHAPES[shape]
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in printable]
    letters = [chr(b) if b in printable else chr(256 + rest.index(b)) for b in range(256)]
    tokens = letters + ["th"] + [f"<pad{i}>" for i in range(VOCAB - 259)] + ["<s>", "</s>"]
    kinds = [1] * 257 + [5] * (VOCAB - 259) + [3, 3]
    return [value("general.architecture", STRING, "llama"), value("general.name", STRING, f"random {shape}"),
            value("llama.context_length", U32, 8192), value("llama.embedding_length", U32, width),
            value("llama.block_count", U32, layers), value("llama.feed_forward_length", U32, ffn),
            value("llama.attention.head_count", U32, heads), value("llama.attention.head_count_kv", U32, kv),
            value("llama.attention.layer_norm_rms_epsilon", FLOAT, 1e-5), value("llama.rope.freq_base", FLOAT, 5e5),
            value("llama.rope.dimension_count", U32, width // heads), value("llama.vocab_size", U32, VOCAB),
            value("tokenizer.ggml.model", STRING, "gpt2"), value("tokenizer.ggml.pre", STRING, "llama-bpe"),
            array("tokenizer.ggml.tokens", STRING, tokens), array("tokenizer.ggml.token_type", I32, kinds),
            array("tokenizer.ggml.merges", STRING, ["t h"]), value("tokenizer.ggml.bos_token_id", U32, VOCAB - 2),
            value("tokenizer.ggml.eos_token_id", U32, VOCAB - 1)]


def size_of(name, rows, columns):
    return 4 * columns if rows == 1 else rows * row_bytes(name, columns)


def write(shape, name, path):
    values, list_of_tensors = metadata(shape), list(tensors(shape))
    infos, offset = [], 0
    for tensor, rows, columns in list_of_tensors:
        dims = [columns] if rows == 1 else [columns, rows]
        infos.append(text(tensor) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, F32 if rows == 1 else TYPES[name][0],
                                                offset))
        offset += (size_of(name, rows, columns) + 31) // 32 * 32
    random, tiles = np.random.default_rng(1), {}
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(values)) + b"".join(values + infos))
        f.write(bytes(-f.tell() % 32))
        for tensor, rows, columns in list_of_tensors:
            if rows == 1:
                f.write(np.ones(columns, np.float32).tobytes())
                continue
            if columns not in tiles:
                tiles[columns] = tile(name, columns, random)
            left, data = size_of(name, rows, columns), tiles[columns]
            while left:
                f.write(data[:left])
                left -= min(left, len(data))
            f.write(bytes(-f.tell() % 32))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in TYPES:
        sys.exit(f"usage: make_model.py {'|'.join(SHAPES)} {'|'.join(TYPES)} OUT")
    write(*sys.argv[1:])
