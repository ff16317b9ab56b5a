"""lm-evaluation-harness, unchanged, on the default model over three ranks: five-shot
multiple choice, rolling perplexity, generation. Every item's result must equal, to the
last bit, what the same request gives when it is sent alone; and in `precision: exact`
each item of a task over golden prompts must equal what transformers gives for it.

Needs CORDEE_MODEL and a Python with `lm-eval[api]` (this one or CORDEE_PYTHON; see
tests/requirements-lm-eval.txt); the golden prompts are in CORDEE_CONFORMANCE.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import harness

N = 200 if os.environ.get("CORDEE_SOAK") else 12
TASKS = {
    "choice": """
task: choice
output_type: multiple_choice
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: gold
num_fewshot: 5
fewshot_split: train
fewshot_config: {sampler: first_n}
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "rolling": """
task: rolling
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
""",
    "generate": """
task: generate
output_type: generate_until
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_target: "{{gold}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 12, temperature: 0}
metric_list: [{metric: exact_match}]
""",
}


def python():
    for path in (sys.executable, os.environ.get("CORDEE_PYTHON")):
        if path and subprocess.run([path, "-c", "import lm_eval, datasets"], stderr=subprocess.DEVNULL).returncode == 0:
            return path
    raise harness.Skip("no Python with lm-eval[api] (CORDEE_PYTHON)")


def items(first, n):
    for i in range(first, first + n):
        yield {"q": f"what is {i} plus {i}?", "choices": [str(2 * i), str(2 * i + 1), "forty-two"], "gold": 0,
               "text": f"There were {i} foxes and {i} dogs.\n\nTogether they were {2 * i}: café, naïve, 東京."}


def run_harness(serve, d, tasks, train, test):
    """Runs tasks (name -> yaml) over two lists of documents; returns name -> samples."""
    for split, documents in (("train", train), ("test", test)):
        (d / f"{split}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in documents))
    for name, text in tasks.items():
        (d / f"{name}.yaml").write_text(text.lstrip() + "dataset_path: json\ntest_split: test\n" +
                                        f"dataset_kwargs: {{data_files: {{train: {d}/train.jsonl, test: {d}/test.jsonl}}}}\n")
    url = f"http://{serve.host}:{serve.port}/v1/completions"
    env = harness.environment({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none",
                               "HF_HOME": str(d / "hf"), "TOKENIZERS_PARALLELISM": "false"})
    done = subprocess.run([python(), "-m", "lm_eval", "--model", "local-completions", "--model_args",
                           f"base_url={url},tokenizer_backend=remote,num_concurrent=4,max_length=2048",
                           "--include_path", str(d), "--tasks", ",".join(tasks), "--batch_size", "4",
                           "--log_samples", "--output_path", str(d / "out")],
                          env=env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    samples = {}
    for path in (d / "out").rglob("samples_*.jsonl"):
        samples[path.name.split("_")[1]] = [json.loads(x) for x in path.read_text().splitlines()]
    assert {k: len(v) for k, v in samples.items()} == dict.fromkeys(tasks, len(test))
    return samples


def rolled(sample):
    """The log-probability of a rolling item."""
    got = sample["resps"][0][0]
    return float(got[0] if isinstance(got, list) else got)


def need_model():
    python()
    model = os.environ.get("CORDEE_MODEL")
    if not model:
        raise harness.Skip("CORDEE_MODEL is not set")
    return model


def post(serve, path, body):
    status, data = serve.post(path, **body)
    assert status == 200, data
    return data


def ids(serve, text):
    return post(serve, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def alone(serve, tokens, skip):
    """What the harness computes from one answer: the sum, and whether all was greedy."""
    choice = post(serve, "/v1/completions", {"prompt": tokens, "max_tokens": 1, "temperature": 0, "logprobs": 1,
                                             "echo": True})["choices"][0]["logprobs"]
    values, tops = choice["token_logprobs"][skip:-1], choice["top_logprobs"][skip:-1]
    return sum(values), all(v == max(top.values()) for v, top in zip(values, tops))


def every_item_equals_its_direct_request():
    model = need_model()
    with harness.Serve(model=model, workers=3, ready_s=300) as serve, tempfile.TemporaryDirectory() as name:
        samples = run_harness(serve, pathlib.Path(name), TASKS, list(items(1000, 8)), list(items(3, N)))
        for s in samples["choice"]:
            for call, ((got, greedy),) in zip(s["arguments"].values(), s["resps"]):
                context, choice = call["arg_0"], call["arg_1"]
                assert context.count("Question:") == 6, context
                want, best = alone(serve, ids(serve, context + choice), len(ids(serve, context)))
                assert float(got) == want and str(greedy) == str(best), (s["doc_id"], got, want)
        info = json.loads(serve.get("/tokenizer_info")[1])
        for s in samples["rolling"]:
            got = rolled(s)
            text = ids(serve, s["doc"]["text"])
            wants = [alone(serve, ids(serve, info[k]) + text, 1)[0] for k in ("bos_token", "eos_token") if info[k]]
            assert got in wants, (s["doc_id"], got, wants)
        for s in samples["generate"]:
            prompt = ids(serve, s["arguments"]["gen_args_0"]["arg_0"])
            want = post(serve, "/v1/completions", {"prompt": prompt, "max_tokens": 12, "temperature": 0,
                                                   "stop": ["\n"]})["choices"][0]["text"]
            assert s["resps"][0][0] == want, (s["doc_id"], s["resps"], want)
        assert serve.stop() == 0


def golden_prompts():
    """Prompts of the default model with what transformers says of their tokens, BOS first."""
    folder = os.environ.get("CORDEE_CONFORMANCE")
    path = pathlib.Path(folder or ".") / "golden" / "gemma-3-270m.json"
    if not folder or not path.exists():
        raise harness.Skip("CORDEE_CONFORMANCE has no golden prompts")
    return json.loads(path.read_text())["cases"]


def every_item_equals_transformers():
    """The harness rolls over each golden prompt: transformers' sum, whose terms have five digits."""
    model, cases = need_model(), golden_prompts()
    with harness.Serve(model=model, workers=3, ready_s=300, args=("--precision", "exact", "--kv-type", "f32")) as serve, \
            tempfile.TemporaryDirectory() as name:
        documents = [{"name": k, "text": v["text"]} for k, v in cases.items()]
        samples = run_harness(serve, pathlib.Path(name), {"rolling": TASKS["rolling"]}, documents, documents)
        for s in samples["rolling"]:
            case = cases[s["doc"]["name"]]
            want, n = sum(case["prompt_logprobs"][1:]), len(case["ids"]) - 1
            assert case["ids"][1:] == ids(serve, case["text"]), s["doc"]
            assert rolled(s) == alone(serve, case["ids"], 1)[0], s["doc"]
            assert abs(rolled(s) - want) <= 1e-3 + 1e-5 * n, (s["doc"], rolled(s), want)
            print(f"  {s['doc']['name']}: {n} tokens, {rolled(s):.5f}, transformers {want:.5f}")
        assert serve.stop() == 0


if __name__ == "__main__":
    harness.run(every_item_equals_its_direct_request, every_item_equals_transformers)
