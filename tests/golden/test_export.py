"""cordee tokenize --export, of every kind: the folder gives the ids of the model it came from, read back
by this program and, where it is installed, by Hugging Face's `tokenizers`."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(os.environ.get("CORDEE_SOURCE", pathlib.Path(__file__).parents[2]))
BINARY = os.environ.get("CORDEE_BINARY", str(SOURCE / "build" / "cordee"))
TEXTS = ["Hello world", "  leading and   spaces ", "The quick brown fox jumps over 12345 dogs.\n\nNew\tline",
         "naïve café 東京 😀 привет", "def f(x):\n    return x**2  # comment", "'s 're I'LL don't", "a", "\n", "x" * 50,
         "1234567 89 0.5", "<bos>hello<eos>", "▁already▁marked", "مرحبا بالعالم", "🤷🏽‍♀️ zero‍joiner"]


def ids(model):
    done = subprocess.run([BINARY, "tokenize", "--model", str(model), "--json", "--add-special", "--parse-special"],
                          input="".join(json.dumps(t) + "\n" for t in TEXTS), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["ids"] for line in done.stdout.splitlines()]


def check(model):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "tokenizer"
        done = subprocess.run([BINARY, "tokenize", "--model", str(model), "--export", str(folder)],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        want = ids(model)
        assert ids(folder) == want, f"{model}: read back, the ids differ"
        config = json.loads((folder / "tokenizer_config.json").read_text())
        assert config.get("eos_token") or "bert" in str(model) or model.is_dir(), config
        if not (folder / "tokenizer.json").exists():
            return "ok, tokenizer.model"
        try:
            from tokenizers import Tokenizer
        except ImportError:
            return "not compared with tokenizers"
        other = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for text, mine in zip(TEXTS, want):
            assert other.encode(text).ids == mine, f"{model}: {text!r}: {other.encode(text).ids}, here {mine}"
        return "ok"


def main():
    folder = SOURCE / "tests" / "golden" / "tiny"
    models = [path for kind in ("bpe", "spm") for path in sorted(folder.glob(f"tiny-*-{kind}.gguf"))]
    models += [pathlib.Path(os.environ["CORDEE_MODEL"])] if os.environ.get("CORDEE_MODEL") else []
    models += [path.parent for path in sorted((SOURCE / "tests/golden/tokenizers").glob("*/golden.json"))]
    if os.environ.get("CORDEE_CONFORMANCE"):
        models.append(pathlib.Path(os.environ["CORDEE_CONFORMANCE"]) / "golden/gguf/bert.f16.gguf")
    assert models
    for model in models:
        print(model, check(model))


if __name__ == "__main__":
    sys.exit(main())
