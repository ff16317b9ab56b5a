"""Adapters, served: each request has the model it names, alone or in company, before and after a fault."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading

import adapters
from harness import BINARY, Serve, environment, run, tiny_model

N = 24
PROMPTS = ["The quick brown fox", "Once upon a time", "A", "The quick brown fox jumps over the lazy dog and " * 4]
MODEL = "tiny-llama-spm"
NAMES = [MODEL, f"{MODEL}:one", f"{MODEL}:two", f"{MODEL}:same"]


class Files:
    """Three adapters in a directory; `same` is `one` in the other format."""

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        root = pathlib.Path(self.directory.name)
        one, two = adapters.make(1), adapters.make(2, rank=3, modules=["self_attn.q_proj", "mlp.down_proj"])
        self.one = adapters.write_peft(root / "one", one)
        self.two = adapters.write_peft(root / "two", two, alpha=12, rank=3, use_rslora=True)
        self.same = adapters.write_gguf(root / "same.gguf", one)
        self.args = ["--lora", f"one={self.one}", "--lora", f"two={self.two}", "--lora", f"same={self.same}"]
        return self

    def __exit__(self, *_):
        self.directory.cleanup()


def answers_alone(serve):
    return {(m, p): serve.complete(PROMPTS[p], N, model=m, logprobs=2)
            for m in NAMES for p in range(len(PROMPTS))}


def answers_together(serve):
    found = {}

    def ask(m, p):
        found[m, p] = serve.complete(PROMPTS[p], N, model=m, logprobs=2)

    threads = [threading.Thread(target=ask, args=(m, p)) for p in range(len(PROMPTS)) for m in NAMES]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return found


def together_is_as_alone():
    """On each number of stages: the same text and the same log-probabilities."""
    first = None
    with Files() as files:
        for workers in (1, 3):
            with Serve(workers=workers, args=files.args) as serve:
                together = answers_together(serve)
                alone = answers_alone(serve)
                assert together == alone
                assert first is None or first == alone, "the number of stages changed an answer"
                first = alone
                assert serve.stop() == 0
        for p in range(len(PROMPTS)):
            text = {m: first[m, p]["text"] for m in NAMES}
            assert first[NAMES[1], p] == first[NAMES[3], p], "PEFT and GGUF of one adapter differ"
            assert len({text[NAMES[0]], text[NAMES[1]], text[NAMES[2]]}) == 3, f"an adapter did nothing: {text}"
        with Serve() as serve:
            for p in range(len(PROMPTS)):
                assert serve.complete(PROMPTS[p], N, logprobs=2) == first[MODEL, p], "adapters changed the base"


def prefixes_are_not_shared_between_adapters():
    """Pages of one adapter's prompt must not serve another's."""
    with Files() as files, Serve(args=files.args) as serve:
        long = "one two three four five six seven eight nine ten " * 8
        before = [serve.complete(long, 4, model=m, logprobs=1) for m in NAMES]
        after = [serve.complete(long, 4, model=m, logprobs=1) for m in NAMES]
        assert before == after
        assert before[0] != before[1] != before[2] != before[0]


def replay_keeps_the_adapter():
    with Files() as files:
        with Serve(args=files.args) as serve:
            want = serve.stream(n=48, model=NAMES[2])
            assert want != serve.stream(n=48)
        struck = []

        def strike(i, serve):
            if i == 10 and not struck:
                struck.append(os.kill(serve.ranks()[2], signal.SIGKILL))

        with Serve(args=files.args) as serve:
            assert serve.stream(n=48, model=NAMES[2], on_event=strike) == want
            assert struck


def models_are_listed():
    with Files() as files, Serve(args=files.args) as serve:
        listed = json.loads(serve.get("/v1/models")[1])["data"]
        assert [m["id"] for m in listed] == NAMES, listed
        assert [m.get("parent") for m in listed] == [None, MODEL, MODEL, MODEL]
        status, body = serve.get(f"/v1/models/{NAMES[2]}")
        assert status == 200 and json.loads(body)["id"] == NAMES[2]
        for name in (f"{MODEL}:three", f"{MODEL}:", "one", f"{MODEL}one"):
            status, body = serve.post("/v1/completions", prompt="A", model=name)
            assert status == 404 and body["error"]["code"] == "model_not_found", (name, status, body)


def refused(args, *words):
    done = subprocess.run([BINARY, "generate", "--model", tiny_model(), "--workers", "1", "-p", "A", "-n", "1", *args],
                          env=environment(), capture_output=True, timeout=60)
    reason = done.stderr.decode()
    assert done.returncode != 0, args
    assert all(word in reason for word in words), (words, reason)


def bad_adapters_are_refused():
    """With the reason, and before any rank starts."""
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        good = adapters.make(3, modules=["self_attn.v_proj"], layers=[1])
        stem = "base_model.model.model.layers.1"
        cases = {
            "dora": ({"use_dora": True}, {}, ["use_dora"]),
            "saved": ({"modules_to_save": ["lm_head"]}, {}, ["modules_to_save"]),
            "bias": ({"bias": "all"}, {}, ["bias"]),
            "pissa": ({"init_lora_weights": "pissa"}, {}, ["init_lora_weights"]),
            "kind": ({"peft_type": "IA3"}, {}, ["peft_type"]),
            "rank": ({"rank_pattern": {"v_proj": 2}}, {}, ["rank 4", "says 2"]),
            "pattern": ({"rank_pattern": {"(": 2}}, {}, ["pattern"]),
            "slow": ({"rank_pattern": {"((.+)+)+[yz]": 2}}, {}, ["too long"]),
            "magnitude": ({}, {f"{stem}.self_attn.v_proj.lora_magnitude_vector": [[1.0]]}, ["DoRA"]),
            "embedding": ({}, {"base_model.model.model.embed_tokens.lora_embedding_A": [[1.0]]}, ["embeddings"]),
            "whole": ({}, {"base_model.model.lm_head.weight": [[1.0]]}, ["as a whole"]),
            "half": ({}, {f"{stem}.self_attn.q_proj.lora_A.weight": [[0.0] * 64] * 4}, ["other half"]),
            "other half": ({}, {f"{stem}.self_attn.q_proj.lora_B.weight": [[0.0] * 4] * 64}, ["lora_B"]),
            "layer": ({}, {f"base_model.model.model.layers.9.self_attn.q_proj.lora_{x}.weight": [[0.0]] for x in "AB"},
                      ["layer 9"]),
            "shape": ({}, {f"{stem}.self_attn.q_proj.lora_{x}.weight": [[0.0]] for x in "AB"}, ["[64, 64]"]),
            "twice": ({}, {f"base_model.model.layers.1.self_attn.v_proj.lora_{x}.weight": good[1, "self_attn.v_proj"][x == "B"]
                           for x in "AB"}, ["twice"]),
            "unknown": ({}, {f"{stem}.self_attn.z_proj.lora_{x}.weight": [[0.0]] for x in "AB"}, ["llama"]),
        }
        for name, (config, extra, words) in cases.items():
            path = adapters.write_peft(root / name, good, **{"extra": extra, **config})
            refused(["--lora", f"x={path}"], "adapter x", *words)
        refused(["--lora", f"x={root / 'nowhere'}"], "adapter x")
        refused(["--lora", f"x={adapters.write_gguf(root / 'a.gguf', good, family='qwen2')}"], "qwen2", "llama")
        refused(["--lora", f"x={tiny_model()}"], "not an adapter")
        (root / "pickle").mkdir()
        (root / "pickle" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
        (root / "pickle" / "adapter_model.bin").write_bytes(b"x")
        refused(["--lora", f"x={root / 'pickle'}"], "safetensors")
        path = adapters.write_peft(root / "good", good)
        refused(["--lora", f"x={path}", "--lora", f"x={path}"], "two adapters")
        refused(["--lora", f"a:b={path}"], "letters")
        refused(["--lora", f"x={path}", "--adapter", "y"], "no adapter")


run(together_is_as_alone, prefixes_are_not_shared_between_adapters, replay_keeps_the_adapter, models_are_listed,
    bad_adapters_are_refused)
