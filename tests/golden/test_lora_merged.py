"""Adapters on every family: the model with an adapter equals the model whose weights have it merged.

For each golden model an adapter of random numbers is written for all matrices that can
have one, and merged into a copy of the weights (W + scale * B A, in f32). Whatever a
family does to its matrices (fused, per head, transposed, absorbed) must be done to B
as well. The adapter, in Hugging Face's names and order, must fit the GGUF of the model
too. Both sides sum in f32: log-probabilities (of an encoder: the embedding's numbers) may
differ by 2e-4.
"""
import functools
import json
import os
import pathlib
import random
import re
import shutil
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cluster"))
import adapters  # noqa: E402
from harness import Serve, Skip, run  # noqa: E402

DATA = os.environ.get("CORDEE_CONFORMANCE")
GOLDEN = pathlib.Path(DATA or ".") / "golden"
TOLERANCE = 2e-4
RANK, ALPHA = 3, 6
# Matrices of layers that no adapter can change.
NOT = re.compile(r"norm|router|mlp\.gate\.|block_sparse_moe|\.experts\.|shared_expert_gate|kv_b_proj|embed")
only = sys.argv[1:]


def read_head(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        return 8 + n, json.loads(f.read(n))


def floats(kind, data):
    if kind == "F32":
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    if kind == "F16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    assert kind == "BF16", kind
    return [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]


def merge(model, target):
    """Copies the model with an adapter merged; returns the adapter's pairs by module."""
    rng = random.Random(7)
    shutil.copytree(model, target)
    pairs = {}
    for path in sorted(target.glob("*.safetensors")):
        path.chmod(0o644)
        start, head = read_head(path)
        raw = path.read_bytes()[start:]
        out, data = {}, []
        at = 0
        for name, t in head.items():
            if name == "__metadata__":
                continue
            body = raw[t["data_offsets"][0]:t["data_offsets"][1]]
            kind = t["dtype"]
            if len(t["shape"]) == 2 and re.search(r"\.\d+\.", name) and name.endswith(".weight") and \
                    not NOT.search(name):
                transposed = pathlib.Path(model).name == "gpt2"  # Conv1D has [in][out]
                rows, cols = t["shape"][::-1] if transposed else t["shape"]
                a, b = adapters.matrix(rng, RANK, cols, 0.3), adapters.matrix(rng, rows, RANK, 0.3)
                pairs[name.removesuffix(".weight")] = a, b
                w = floats(kind, body)
                for i in range(rows):
                    for j in range(cols):
                        w[j * rows + i if transposed else i * cols + j] += \
                            ALPHA / RANK * sum(b[i][k] * a[k][j] for k in range(RANK))
                kind, body = "F32", struct.pack(f"<{len(w)}f", *w)
            out[name] = {"dtype": kind, "shape": t["shape"], "data_offsets": [at, at + len(body)]}
            data.append(body)
            at += len(body)
        text = json.dumps(out).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    return pairs


def write_adapter(directory, pairs):
    directory.mkdir()
    tensors = {f"base_model.model.{m}.lora_{x}.weight": rows for m, p in pairs.items() for x, rows in zip("AB", p)}
    adapters.write_safetensors(directory / "adapter_model.safetensors", tensors)
    (directory / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}))
    return directory


def embedding(serve, ids, name):
    c = serve.connect()
    c.request("POST", "/v1/embeddings", json.dumps({"input": ids, "model": name}), {"Content-Type": "application/json"})
    r = c.getresponse()
    answer = json.loads(r.read())
    c.close()
    assert r.status == 200, answer
    return answer["data"][0]["embedding"]


def prices(model, ids, name=None, adapter=None, encoder=False):
    """Log-probabilities of the ids, or the embedding of an encoder."""
    args = ["--precision", "exact", "--kv-type", "f32", "--log-level", "warn", "--name", "m"]
    args += ["--lora", f"x={adapter}"] if adapter else []
    with Serve(model=str(model), workers=2, args=args) as serve:
        if encoder:
            return embedding(serve, ids, name or "m")
        choice = serve.complete(prompt=ids, n=1, echo=True, logprobs=0, model=name or "m")
        serve.stop()
        return choice["logprobs"]["token_logprobs"][1:]


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def every_family():
    if not DATA:
        raise Skip("CORDEE_CONFORMANCE is not set")
    bad = []
    for model in sorted((GOLDEN / "models").iterdir()):
        if only and model.name not in only:
            continue
        ids = json.loads((GOLDEN / "golden" / model.name / "expected.json").read_text())["cases"]["p7"]["ids"]
        with tempfile.TemporaryDirectory() as root:
            root = pathlib.Path(root)
            try:
                pairs = merge(model, root / "merged")
                adapter = write_adapter(root / "adapter", pairs)
                prices_of = functools.partial(prices, encoder=model.name == "bert")
                want, plain = prices_of(root / "merged", ids), prices_of(model, ids)
                assert distance(want, plain) > 0.01, "merging changed nothing"
                found = {"": distance(want, prices_of(model, ids, "m:x", adapter))}
                for file in (GOLDEN / "gguf").glob(f"{model.name}.*16.gguf"):
                    found[" gguf"] = distance(want, prices_of(file, ids, "m:x", adapter))
                worst = max(found.values())
                note = "" if worst <= TOLERANCE else "  TOO FAR"
                shown = ", ".join(f"{k} {v:.1e}" for k, v in found.items())
            except AssertionError as problem:
                note, shown = "  FAILED", str(problem)[-300:]
        print(f"{model.name}: {len(pairs)} matrices,{shown}{note}", flush=True)
        bad += [model.name] if note else []
    assert not bad, ", ".join(bad)


run(every_family)
