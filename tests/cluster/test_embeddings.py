"""Embeddings through the whole program: HTTP, tokenizer, 1 to 3 ranks.

With CORDEE_CONFORMANCE: the golden BERT, from its directory and its GGUF file, against
transformers, by text and by ids. What no encoder answers is refused on any machine.
"""
import base64
import json
import os
import pathlib
import struct
import tempfile

from harness import Serve, Skip, run

DATA = os.environ.get("CORDEE_CONFORMANCE")
GOLDEN = pathlib.Path(DATA or ".") / "golden"
TOLERANCE = 1e-4
EXACT = ["--precision", "exact", "--kv-type", "f32", "--log-level", "warn"]


def embed(serve, given, **more):
    status, answer = serve.post("/v1/embeddings", input=given, **more)
    assert status == 200, answer
    assert [d["index"] for d in answer["data"]] == list(range(len(answer["data"])))
    return [d["embedding"] for d in answer["data"]], answer["usage"]["prompt_tokens"]


def distance(a, b):
    assert len(a) == len(b), (len(a), len(b))
    return max(abs(x - y) for x, y in zip(a, b))


def check(serve, cases):
    """Largest difference to the golden vectors, and all vectors."""
    ids = [c["ids"] for c in cases]
    want = [c["mean_pooled_l2"] for c in cases]
    got, tokens = embed(serve, ids)
    assert tokens == sum(map(len, ids))
    worst = max(map(distance, got, want))
    for i, case in enumerate(cases):
        assert embed(serve, ids[i])[0] == [got[i]], "company changes an embedding"
        if "text" in case:
            assert embed(serve, case["text"]) == ([got[i]], len(ids[i])), case["text"]
    texts = [i for i, c in enumerate(cases) if "text" in c]
    assert embed(serve, [cases[i]["text"] for i in texts])[0] == [got[i] for i in texts]
    coded = embed(serve, ids, encoding_format="base64", dimensions=len(want[0]))[0]
    assert [list(struct.unpack(f"<{len(want[0])}f", base64.b64decode(x))) for x in coded] == \
        [[struct.unpack("f", struct.pack("f", v))[0] for v in g] for g in got]
    many = embed(serve, ids * 30)[0]
    assert many == got * 30, "other vectors in a crowd"
    return worst, got


def golden_bert():
    if not DATA:
        raise Skip("no CORDEE_CONFORMANCE")
    cases = list(json.loads((GOLDEN / "golden" / "bert" / "expected.json").read_text())["cases"].values())
    for path in (GOLDEN / "models" / "bert", GOLDEN / "gguf" / "bert.f16.gguf"):
        first = None
        for workers in (1, 2, 3):
            with Serve(model=str(path), workers=workers, args=EXACT) as serve:
                worst, vectors = check(serve, cases)
                serve.stop()
            print(f"{path.name} on {workers}: max difference {worst:.1e}", flush=True)
            assert worst <= TOLERANCE, worst
            first = first or vectors
            assert vectors == first, f"other bits on {workers} ranks"


def unit(v):
    length = sum(x * x for x in v) ** 0.5
    return [x / length for x in v]


def first_token_where_the_model_says_so():
    """A directory with sentence-transformers' 1_Pooling/config.json."""
    if not DATA:
        raise Skip("no CORDEE_CONFORMANCE")
    folder = GOLDEN / "golden" / "bert"
    case = json.loads((folder / "expected.json").read_text())["cases"]["t0"]
    n, dim = case["last_hidden"]["shape"]
    hidden = struct.unpack(f"<{n * dim}f", (folder / case["last_hidden"]["file"]).read_bytes())
    with tempfile.TemporaryDirectory() as d:
        for file in (GOLDEN / "models" / "bert").iterdir():
            (pathlib.Path(d) / file.name).symlink_to(file)
        (pathlib.Path(d) / "1_Pooling").mkdir()
        said = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}
        (pathlib.Path(d) / "1_Pooling" / "config.json").write_text(json.dumps(said))
        with Serve(model=d, workers=2, args=EXACT) as serve:
            got = embed(serve, case["text"])[0][0]
            serve.stop()
    assert distance(got, unit(hidden[:dim])) <= TOLERANCE


def refusals_of_an_encoder():
    if not DATA:
        raise Skip("no CORDEE_CONFORMANCE")
    with Serve(model=str(GOLDEN / "models" / "bert"), workers=2, args=[*EXACT, "--batch-rows", "40"]) as serve:
        for body, param in (({"input": "a", "dimensions": 8}, "dimensions"), ({"input": [[5] * 41]}, "input"),
                            ({"input": [[5] * 300]}, "input"), ({"input": []}, "input"), ({}, "input"),
                            ({"input": "a", "encoding_format": "hex"}, "encoding_format"), ({"input": [[800]]}, "input")):
            status, answer = serve.post("/v1/embeddings", **body)
            assert (status, answer["error"]["param"]) == (400, param), (body, answer)
        status, answer = serve.post("/v1/embeddings", input=[[5] * 41])
        assert "41" in answer["error"]["message"] and "40" in answer["error"]["message"], answer
        assert len(embed(serve, [[5] * 40, [7] * 39])[0]) == 2
        status, answer = serve.post("/v1/completions", prompt="a")
        assert status == 400 and "encoder" in answer["error"]["message"], answer
        assert serve.post("/v1/embeddings", input="a", model="other")[0] == 404
        serve.stop()


def decoders_refuse():
    with Serve(workers=1) as serve:
        status, answer = serve.post("/v1/embeddings", input="a")
        assert status == 400 and "no embeddings" in answer["error"]["message"], answer
        serve.stop()


if __name__ == "__main__":
    run(golden_bert, first_token_where_the_model_says_so, refusals_of_an_encoder, decoders_refuse)
