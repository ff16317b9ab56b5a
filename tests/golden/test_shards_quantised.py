"""Shards of checkpoints of packed integers, FP8 and MXFP4 have the weights of the checkpoint.

tests/tools/make_quantised.py makes tiny models in every scheme; golden_test_shards compares each
with its shards (test_shards.c).
"""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "cluster")]
from harness import BINARY, SOURCE, Skip, run  # noqa: E402

try:
    import make_quantised as make
except ImportError:
    make = None

MIXTURES = ["gptq-4-sym", "gptq-4-asym", "awq", "packed-4-asym"]


def every_scheme():
    program = pathlib.Path(os.environ.get("CORDEE_BUILD", SOURCE / "build")) / "tests" / "golden_test_shards"
    if make is None:
        raise Skip("numpy is not installed")
    if not program.exists():
        raise Skip("golden_test_shards is not built")
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        tokenizer, models = root / "tokenizer", []
        subprocess.run([BINARY, "tokenize", "--model", SOURCE / "tests/golden/tiny/tiny-llama-bpe.gguf", "--export",
                        tokenizer], check=True, timeout=60)
        wanted = [(s, "llama") for s in make.SCHEMES] + [(s, f) for f in ("mixtral", "qwen3_moe") for s in MIXTURES]
        for scheme, family in wanted:
            stored, _, config = make.checkpoint(scheme, family)
            models.append(root / f"{family}-{scheme}")
            make.write(models[-1], stored, config)
            for path in tokenizer.iterdir():
                (models[-1] / path.name).write_bytes(path.read_bytes())
        done = subprocess.run([program, *models], capture_output=True, text=True, timeout=300)
        print(done.stdout, end="")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(" layers") == len(wanted), f"not all of {len(wanted)} models ran"


run(every_scheme)
