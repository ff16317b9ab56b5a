#!/usr/bin/env python3
"""Makes tiny Hugging Face checkpoints in every scheme of packed integers, and their float twins.

    make_quantised.py OUT_DIR
    make_quantised.py --seeds OUT_DIR    one small matrix each, for tests/fuzz/corpus/safetensors

OUT_DIR/SCHEME holds the quantised model, OUT_DIR/SCHEME.twin the same values as f32
matrices. Everything is packed here, from the definition of each layout and one field at
a time, independently of the program's own decoder. Needs: numpy.
"""
import json
import pathlib
import struct
import sys

import numpy as np

EMBD, FF, HEADS, KV, HEAD, LAYERS, VOCAB = 64, 96, 4, 2, 16, 2, 768
EXPERTS = 4
ATTENTION = {"self_attn.q_proj": (HEADS * HEAD, EMBD), "self_attn.k_proj": (KV * HEAD, EMBD),
             "self_attn.v_proj": (KV * HEAD, EMBD), "self_attn.o_proj": (EMBD, HEADS * HEAD)}
DENSE = {"mlp.gate_proj": (FF, EMBD), "mlp.up_proj": (FF, EMBD), "mlp.down_proj": (EMBD, FF)}
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": EMBD, "intermediate_size": FF,
          "num_attention_heads": HEADS, "num_key_value_heads": KV, "num_hidden_layers": LAYERS, "vocab_size": VOCAB,
          "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
          "hidden_act": "silu", "torch_dtype": "float16", "eos_token_id": VOCAB - 3}


def experts(pattern, gate, up, down):
    return {pattern % (i, name): shape for i in range(EXPERTS)
            for name, shape in ((gate, (FF, EMBD)), (up, (FF, EMBD)), (down, (EMBD, FF)))}


# config.json, quantised matrices of a layer, f16 tensors of a layer (never quantised)
FAMILIES = {
    "llama": (CONFIG, ATTENTION | DENSE, {}),
    "mixtral": (CONFIG | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": EXPERTS,
                          "num_experts_per_tok": 2},
                ATTENTION | experts("block_sparse_moe.experts.%d.%s", "w1", "w3", "w2"),
                {"block_sparse_moe.gate": (EXPERTS, EMBD)}),
    "qwen3_moe": (CONFIG | {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": EXPERTS,
                            "num_experts_per_tok": 2, "moe_intermediate_size": FF, "head_dim": HEAD,
                            "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
                  ATTENTION | experts("mlp.experts.%d.%s", "gate_proj", "up_proj", "down_proj"),
                  {"mlp.gate": (EXPERTS, EMBD), "self_attn.q_norm": (HEAD,), "self_attn.k_norm": (HEAD,)}),
}
NAMES = {np.dtype(t): n for t, n in [("f4", "F32"), ("f2", "F16"), ("i4", "I32"), ("i8", "I64"), ("i1", "I8"), ("u1", "U8")]}


class Bf16(np.ndarray):
    """uint16 words that are the upper halves of f32."""


class F8(np.ndarray):
    """Bytes that are e4m3 numbers."""


def write_safetensors(path, tensors):
    head, data, at = {}, [], 0
    for name, x in tensors.items():
        kind = "BF16" if isinstance(x, Bf16) else "F8_E4M3" if isinstance(x, F8) else NAMES[x.dtype]
        body = np.ascontiguousarray(x).tobytes()
        head[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [at, at + len(body)]}
        data.append(body)
        at += len(body)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def pack(fields, bits):
    """Rows of fields as one little-endian bit string each, in int32 words (zero bits at the end)."""
    n = fields.shape[1]
    words = np.zeros((fields.shape[0], -(-n * bits // 32)), np.uint64)
    for i in range(n):
        for b in range(bits):
            at = i * bits + b
            words[:, at // 32] |= (fields[:, i].astype(np.uint64) >> np.uint64(b) & np.uint64(1)) << np.uint64(at % 32)
    return words.astype(np.uint32).view(np.int32)


def integers(rng, rows, cols, groups, bits, symmetric, narrow=False):
    """q, zero [rows][groups], scale (f16 values) [rows][groups] and the f32 values."""
    top = 1 << bits
    q = rng.integers(0, top, (rows, cols))
    zero = np.full((rows, groups), top // 2) if symmetric else rng.integers(1 if bits < 8 else 120, top if bits < 8 else 137,
                                                                            (rows, groups))
    if narrow and bits == 8:  # the difference fits a signed byte
        q = np.clip(q, 20, 230)
    scale = (rng.uniform(0.5, 2, (rows, groups)) * 2.5 / top / np.sqrt(cols)).astype(np.float16)
    each = cols // groups
    value = (q - np.repeat(zero, each, 1)).astype(np.float32) * np.repeat(scale, each, 1).astype(np.float32)
    return q, zero, scale, value


def gptq(bits, group, symmetric, v2):
    def make(rng, rows, cols):
        groups = cols // (group if cols % group == 0 else 32) if group > 0 else 1
        q, zero, scale, value = integers(rng, rows, cols, groups, bits, symmetric, not symmetric)
        stored = zero if v2 else zero - 1
        return {"qweight": pack(q, bits).T.copy(),
                "qzeros": pack(stored.T, bits), "scales": scale.T.copy(),
                "g_idx": (np.arange(cols) // (cols // groups)).astype(np.int32)}, value
    return make, {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": True,
                  "checkpoint_format": "gptq_v2" if v2 else "gptq"}


def awq_words(x):
    """[n][8 m] nibbles -> [n][m]: the k-th nibble of a word is column ORDER[k] of its eight."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    out = np.zeros((x.shape[0], x.shape[1] // 8), np.uint32)
    for word in range(out.shape[1]):
        for k in range(8):
            out[:, word] |= x[:, word * 8 + order[k]].astype(np.uint32) << np.uint32(4 * k)
    return out.view(np.int32)


def awq(symmetric):
    def make(rng, rows, cols):
        q, zero, scale, value = integers(rng, rows, cols, cols // 32, 4, symmetric)
        if not symmetric:
            zero[0, 0], q[0, :2] = 0, (15, 0)
            value[0, :32] = q[0, :32].astype(np.float32) * np.float32(scale[0, 0])
        return {"qweight": awq_words(q.T), "qzeros": awq_words(zero.T), "scales": scale.T.copy()}, value
    return make, {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": not symmetric, "version": "GEMM",
                  "modules_to_not_convert": ["lm_head"]}


def bf16(x):
    """Cut to bf16: the words, and the f32 values they have."""
    words = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return words.view(Bf16), (words.astype(np.uint32) << 16).view(np.float32)


def packed(bits, symmetric, group, plain_zeros=False):
    def make(rng, rows, cols):
        groups = cols // group if group > 0 else 1
        q, zero, scale, _ = integers(rng, rows, cols, groups, bits, symmetric, not symmetric)
        words, scale = bf16(scale)
        each = cols // groups
        value = (q - np.repeat(zero, each, 1)).astype(np.float32) * np.repeat(scale, each, 1)
        t = {"weight_packed": pack(q, bits), "weight_scale": words, "weight_shape": np.array([rows, cols], np.int64)}
        if not symmetric:
            t["weight_zero_point"] = (zero - (1 << bits - 1)).astype(np.int8) if plain_zeros else pack(zero.T, bits).T.copy()
        return t, value
    return make, {"quant_method": "compressed-tensors", "format": "pack-quantized",
                  "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                      "num_bits": bits, "symmetric": symmetric, "group_size": group,
                      "strategy": "group" if group > 0 else "channel", "type": "int"}}}}


def int8(per_tensor):
    def make(rng, rows, cols):
        q = rng.integers(-128, 128, (rows, cols)).astype(np.int8)
        scale = (rng.uniform(0.5, 2, (1 if per_tensor else rows, 1)) / 100 / np.sqrt(cols)).astype(np.float16)
        scale = scale.astype(np.float32)
        value = q.astype(np.float32) * (scale if not per_tensor else scale[0, 0])
        return {"weight": q, "weight_scale": scale[0] if per_tensor else scale}, value
    return make, {"quant_method": "compressed-tensors", "format": "int-quantized"}


def e4m3_values():
    codes = np.arange(256)
    e, m = codes >> 3 & 15, codes & 7
    v = np.where(e > 0, (8 + m) * 2.0 ** (e - 10.0), m * 2.0 ** -9)
    return np.where(codes & 128, -v, v).astype(np.float32)


def fp8(kind):
    """channel: f32 scales of rows; tensor: one; bf16: one per row in bf16 (compressed-tensors float-quantized)."""
    table = e4m3_values()

    def make(rng, rows, cols):
        codes = (rng.integers(0, 2, (rows, cols)) << 7 | rng.integers(0, 0x60, (rows, cols))).astype(np.uint8)
        n = 1 if kind == "tensor" else rows
        scale = (rng.uniform(0.5, 2, (n, 1)) / 40 / np.sqrt(cols)).astype(np.float32)
        stored = scale[0] if kind == "tensor" else scale
        if kind == "bf16":
            stored, scale = bf16(scale)
        t = {"weight": codes.view(F8), "weight_scale": stored}
        if kind == "tensor":
            t["input_scale"] = np.ones(1, np.float32)
        return t, table[codes] * scale
    return make, {"channel": {"quant_method": "fbgemm_fp8"},
                  "tensor": {"quant_method": "modelopt", "quant_algo": "FP8"},
                  "bf16": {"quant_method": "compressed-tensors", "format": "float-quantized"}}[kind]


def mxfp4(rng, rows, cols):
    values = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    codes = rng.integers(0, 16, (rows, cols)).astype(np.uint8)
    exponent = rng.integers(122, 126, (rows, cols // 32)).astype(np.uint8)
    scale = (2.0 ** (exponent.astype(np.float32) - 127)).astype(np.float32)
    return {"weight_packed": codes[:, 0::2] | codes[:, 1::2] << 4, "weight_scale": exponent}, \
        values[codes] * np.repeat(scale, 32, 1)


SCHEMES = {
    "gptq-4-sym": gptq(4, 32, True, False), "gptq-4-sym-row": gptq(4, -1, True, True),
    "gptq-4-asym": gptq(4, 32, False, False), "gptq-4-asym-v2": gptq(4, 64, False, True),
    "gptq-2": gptq(2, 32, True, False), "gptq-2-asym": gptq(2, 32, False, True), "gptq-3": gptq(3, 32, True, False),
    "gptq-3-asym": gptq(3, 32, False, True), "gptq-8": gptq(8, 32, True, False), "gptq-8-asym": gptq(8, 32, False, True),
    "awq": awq(False), "awq-sym": awq(True),
    "packed-4": packed(4, True, 32), "packed-4-asym": packed(4, False, 32), "packed-4-asym-row": packed(4, False, -1),
    "packed-4-bytes": packed(4, False, 32, True), "packed-8": packed(8, True, -1), "packed-8-asym": packed(8, False, 32),
    "int8": int8(False), "int8-tensor": int8(True),
    "fp8-channel": fp8("channel"), "fp8-tensor": fp8("tensor"), "fp8-bf16": fp8("bf16"),
    "mxfp4-packed": (mxfp4, {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}),
}


def checkpoint(scheme, family="llama", seed=1):
    """(tensors, their twin's, config.json) of one scheme."""
    make, quantization = SCHEMES[scheme]
    config, matrices, floats = FAMILIES[family]
    rng = np.random.default_rng(seed)
    plain = {"model.embed_tokens.weight": rng.standard_normal((VOCAB, EMBD)).astype(np.float16),
             "lm_head.weight": (2 * rng.standard_normal((VOCAB, EMBD)) / np.sqrt(EMBD)).astype(np.float16),
             "model.norm.weight": np.ones(EMBD, np.float16)}
    stored, twin = {}, {}
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            plain[f"{stem}.{norm}.weight"] = rng.uniform(0.8, 1.2, EMBD).astype(np.float16)
        for module, shape in floats.items():
            plain[f"{stem}.{module}.weight"] = rng.uniform(0.8, 1.2, shape).astype(np.float16)
        for module, (rows, cols) in matrices.items():
            parts, value = make(rng, rows, cols)
            stored |= {f"{stem}.{module}.{k}": v for k, v in parts.items()}
            twin[f"{stem}.{module}.weight"] = value
            if scheme == "gptq-4-sym":  # some programs write a bias of zeros where there is none
                stored[f"{stem}.{module}.bias"] = np.zeros(rows, np.float16)
    return plain | stored, plain | twin, config | {"quantization_config": quantization}


def write(directory, tensors, config):
    directory.mkdir(parents=True, exist_ok=True)
    write_safetensors(directory / "model.safetensors", tensors)
    (directory / "config.json").write_text(json.dumps(config, indent=1))


def seed(out, name):
    """The first byte chooses the config: their order is fuzz_safetensors.c's."""
    make, quantization = SCHEMES[name]
    method, v2 = quantization["quant_method"], quantization.get("checkpoint_format") == "gptq_v2"
    which = {"gptq": 3 if v2 else 2, "awq": 4 if quantization.get("zero_point") else 5}.get(method, 6)
    parts, _ = make(np.random.default_rng(1), 32, 64 if name.endswith("v2") else 32)
    write_safetensors(out / name, {f"l.{k}": v for k, v in parts.items()})
    (out / name).write_bytes(bytes([which]) + (out / name).read_bytes())


if __name__ == "__main__" and sys.argv[1] == "--seeds":
    for name in SCHEMES:
        seed(pathlib.Path(sys.argv[2]), name)
elif __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    for name in SCHEMES:
        quantised, floats, settings = checkpoint(name)
        write(out / name, quantised, settings)
        write(out / f"{name}.twin", floats, {k: v for k, v in settings.items() if k != "quantization_config"})
