"""Writes LoRA adapters of random numbers for the tiny Llama model, with the standard library only."""
import json
import pathlib
import random
import struct

EMBD, FF, HEADS, KV_HEADS, HEAD, LAYERS = 64, 160, 4, 2, 16, 5

# module -> name in GGUF, columns, rows, heads whose rows GGUF has in another order
MODULES = {
    "self_attn.q_proj": ("attn_q", EMBD, HEADS * HEAD, HEADS),
    "self_attn.k_proj": ("attn_k", EMBD, KV_HEADS * HEAD, KV_HEADS),
    "self_attn.v_proj": ("attn_v", EMBD, KV_HEADS * HEAD, 0),
    "self_attn.o_proj": ("attn_output", HEADS * HEAD, EMBD, 0),
    "mlp.gate_proj": ("ffn_gate", EMBD, FF, 0),
    "mlp.up_proj": ("ffn_up", EMBD, FF, 0),
    "mlp.down_proj": ("ffn_down", FF, EMBD, 0),
}


def matrix(rng, rows, cols, size):
    return [[struct.unpack("<f", struct.pack("<f", rng.uniform(-size, size)))[0] for _ in range(cols)]
            for _ in range(rows)]


def make(seed, rank=4, modules=MODULES, layers=range(LAYERS), size=0.3):
    """(layer, module) -> (A, B), rows in Hugging Face's order."""
    rng = random.Random(seed)
    return {(layer, m): (matrix(rng, rank, MODULES[m][1], size), matrix(rng, MODULES[m][2], rank, size))
            for layer in layers for m in modules}


def packed(rows):
    return b"".join(struct.pack(f"<{len(r)}f", *r) for r in rows)


def write_safetensors(path, tensors):
    """tensors: name -> rows."""
    head, data = {}, b""
    for name, rows in tensors.items():
        body = packed(rows)
        head[name] = {"dtype": "F32", "shape": [len(rows), len(rows[0])], "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_peft(directory, adapter, alpha=8, rank=4, extra=None, **config):
    """extra: further tensors by their whole names."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for (layer, module), (a, b) in adapter.items():
        stem = f"base_model.model.model.layers.{layer}.{module}"
        tensors[f"{stem}.lora_A.weight"] = a
        tensors[f"{stem}.lora_B.weight"] = b
    write_safetensors(directory / "adapter_model.safetensors", {**tensors, **(extra or {})})
    (directory / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", **config}))
    return str(directory)


def in_pairs(rows, heads):
    """Rows of a head from halves (Hugging Face) to pairs (GGUF)."""
    if not heads:
        return rows
    half = HEAD // 2
    return [rows[h * HEAD + i * half + j] for h in range(heads) for j in range(half) for i in range(2)]


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def write_gguf(path, adapter, alpha=8, family="llama", kind="adapter"):
    U32, F32, STRING = 4, 6, 8
    facts = [("general.type", STRING, text(kind)), ("general.architecture", STRING, text(family)),
             ("adapter.type", STRING, text("lora")), ("adapter.lora.alpha", F32, struct.pack("<f", alpha)),
             ("general.alignment", U32, struct.pack("<I", 32))]
    tensors = []
    for (layer, module), (a, b) in adapter.items():
        name, _, _, heads = MODULES[module]
        tensors.append((f"blk.{layer}.{name}.weight.lora_a", a))
        tensors.append((f"blk.{layer}.{name}.weight.lora_b", in_pairs(b, heads)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    head += b"".join(text(key) + struct.pack("<I", kind_of) + value for key, kind_of, value in facts)
    data = b""
    for name, rows in tensors:
        data += b"\0" * (-len(data) % 32)
        head += text(name) + struct.pack("<IQQIQ", 2, len(rows[0]), len(rows), 0, len(data))
        data += packed(rows)
    head += b"\0" * (-len(head) % 32)
    pathlib.Path(path).write_bytes(head + data)
    return str(path)
