"""Checkpoints of packed integers equal their float twins.

tests/tools/make_quantised.py packs tiny Llamas in every scheme and writes the values they
stand for as f32 matrices. Every matrix must decode to exactly those values, and in exact
precision the prices of tokens must be the same bits. What no block type holds must be
refused with its reason.
"""
import copy
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "cluster")]
from harness import Serve, Skip, run  # noqa: E402

try:
    import numpy as np
    import make_quantised as make
except ImportError:
    np = None

SOURCE = pathlib.Path(os.environ.get("CORDEE_SOURCE", ROOT.parent))
BINARY = os.environ.get("CORDEE_BINARY", str(SOURCE / "build" / "cordee"))
PRICED = ["gptq-4-sym", "gptq-4-asym", "gptq-3", "gptq-8-asym", "awq", "packed-4-asym-row", "int8", "fp8-channel",
          "mxfp4-packed"]  # one for each type and layout
MIXTURES = ["gptq-4-sym", "gptq-4-asym", "awq", "packed-4-asym"]
only = sys.argv[1:]


def cordee(*args):
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def stops(model):
    """The reason that inspect gives; "yes": it runs."""
    line = [x for x in cordee("inspect", model).decode().splitlines() if x.startswith("runnable")][0]
    return line.split(None, 1)[1]


def prices(model):
    ids = [(7 * i + i * i) % make.VOCAB for i in range(40)]
    args = ["--precision", "exact", "--kv-type", "f32", "--log-level", "warn", "--name", "m"]
    with Serve(model=str(model), workers=2, args=args) as serve:
        choice = serve.complete(prompt=ids, n=1, echo=True, logprobs=0, model="m")
        serve.stop()
        return choice["logprobs"]["token_logprobs"][1:]


def write(directory, tensors, config, tokenizer):
    make.write(directory, tensors, config)
    for path in tokenizer.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def export_tokenizer(directory):
    cordee("tokenize", "--model", SOURCE / "tests/golden/tiny/tiny-llama-bpe.gguf", "--export", directory)
    return directory


def compare(variants):
    """Each (scheme, family, whether prices are compared) with its twin."""
    if np is None:
        raise Skip("numpy is not installed")
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        tokenizer = export_tokenizer(root / "tokenizer")
        for scheme, family, priced in variants:
            name = f"{family} {scheme}"
            stored, twin, config = make.checkpoint(scheme, family)
            plain = {k: v for k, v in config.items() if k != "quantization_config"}
            a, b = (write(root / d, t, c, tokenizer) for d, t, c in (("q", stored, config), ("f", twin, plain)))
            assert stops(a) == stops(b) == "yes", f"{name}: {stops(a)}"
            for tensor, want in twin.items():
                got = np.frombuffer(cordee("inspect", a, "--dump", tensor), np.float32)
                assert np.array_equal(got, want.astype(np.float32).ravel()), f"{name}: {tensor}"
            if priced:
                assert prices(a) == prices(b), f"{name}: other prices"
            print(f"{name}: {len(twin)} tensors equal{', prices too' if priced else ''}", flush=True)


def every_scheme_has_the_values_of_its_twin():
    compare((name, "llama", name in PRICED or name in only) for name in only or (make.SCHEMES if np else ()))


def experts_have_them_too():
    compare((name, family, True) for family in ("mixtral", "qwen3_moe") for name in only or MIXTURES)


def changed(scheme, tensors=None, **quantization):
    stored, _, config = make.checkpoint(scheme)
    config = copy.deepcopy(config)
    config["quantization_config"] |= quantization
    return stored | (tensors(stored) if tensors else {}), config


MATRIX = "model.layers.1.mlp.up_proj."


def reordered(t):
    return {MATRIX + "g_idx": t[MATRIX + "g_idx"][::-1].copy()}


def nine_bits(t):
    return {MATRIX + "qzeros": t[MATRIX + "qzeros"] * 0, MATRIX + "qweight": t[MATRIX + "qweight"] * 0 - 1}


def odd_scale(t):
    return {MATRIX + "scales": t[MATRIX + "scales"].astype(np.float32) * np.float32(1.0001)}


def nvfp4(t):
    return {MATRIX + "weight_scale": t[MATRIX + "weight_scale"].view(make.F8)}


def refused():
    """What is made, and words of the reason."""
    yield changed("gptq-4-sym", reordered), "columns reordered by activation"
    yield changed("gptq-4-sym", odd_scale), "scales that are no f16 numbers"
    yield changed("gptq-8-asym", nine_bits), "nine bits"
    yield changed("gptq-4-asym", lambda t: {MATRIX + "qzeros": t[MATRIX + "qzeros"] * 0 - 1}), "gptq_v2"
    yield changed("gptq-4-sym", checkpoint_format="marlin"), "checkpoint_format marlin"
    yield changed("awq", version="gemv"), "version gemv"
    yield changed("mxfp4-packed", nvfp4), "is NVFP4"
    yield changed("packed-4", transform_config={"config_groups": {"R1": {}}}), "weights are stored rotated"
    for method in ("bitsandbytes", "hqq", "aqlm", "exl2", "auto-round", "tomorrow"):
        yield changed("gptq-4-sym", quant_method=method), f"quant_method {method}"


def what_cannot_be_held_is_refused():
    if np is None:
        raise Skip("numpy is not installed")
    with tempfile.TemporaryDirectory() as root:
        for (tensors, config), words in refused():
            make.write(pathlib.Path(root), tensors, config)
            reason = stops(root)
            assert words in reason, f"{words}: {reason}"
            print(reason.split(": ", 1)[1])


run(every_scheme_has_the_values_of_its_twin, experts_have_them_too, what_cannot_be_held_is_refused)
