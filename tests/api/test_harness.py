"""lm-evaluation-harness, unchanged, against the server: a multiple-choice, a rolling
perplexity and a generation task, each item compared with the same request made directly.

Needs a Python with `lm-eval[api]` (CORDEE_PYTHON); skipped without it.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from server import KEY, URL, Outside, Server, call, complete, main, need

need("lm_eval")

ITEMS = [{"q": f"The number {i} is", "choices": ["even", "odd", "prime"], "gold": i % 3,
          "text": f"Item {i}: the fox jumps over {i} dogs.\nAnd again."} for i in range(12)]

TASKS = {
    "choice": """
task: choice
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
num_fewshot: 0
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
doc_to_text: "{{q}}"
doc_to_target: "x"
generation_kwargs: {until: ["\\n", "zz"], max_gen_toks: 8, temperature: 0}
metric_list: [{metric: exact_match}]
""",
}


class Harness(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Outside() if URL else Server()
        cls.url = cls.server.url
        cls.dir = tempfile.TemporaryDirectory()
        d = pathlib.Path(cls.dir.name)
        (d / "items.jsonl").write_text("".join(json.dumps(i) + "\n" for i in ITEMS))
        for name, text in TASKS.items():
            head = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {d}/items.jsonl}}}}\ntest_split: test\n"
            (d / f"{name}.yaml").write_text(text.lstrip() + head)
        args = f"base_url={cls.url}/v1/completions,tokenizer_backend=remote,num_concurrent=3,max_length=1024"
        if KEY != "none":
            args += f",auth_token={KEY}"
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": KEY,
               "HF_HOME": str(d / "hf"), "TOKENIZERS_PARALLELISM": "false"}
        run = subprocess.run([sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", args,
                              "--include_path", str(d), "--tasks", ",".join(TASKS), "--batch_size", "4",
                              "--log_samples", "--output_path", str(d / "out")],
                             env=env, capture_output=True, text=True, timeout=500)
        if run.returncode != 0:
            raise RuntimeError(run.stderr[-3000:])
        cls.samples = {}
        for path in (d / "out").rglob("samples_*.jsonl"):
            task = path.name.split("_")[1]
            cls.samples[task] = [json.loads(line) for line in path.read_text().splitlines()]

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()
        if not URL:
            cls.server.__exit__()

    def ids(self, text):
        return json.loads(call(self.url + "/tokenize", {"prompt": text, "add_special_tokens": False})[2])["tokens"]

    def scored(self, ids, skip):
        """Sum of the log-probabilities of ids[skip:], and whether all were the best."""
        lp = complete(self.url, prompt=ids, max_tokens=1, temperature=0, logprobs=1, echo=True)["choices"][0]["logprobs"]
        rows = list(zip(lp["token_logprobs"], lp["top_logprobs"]))[skip:-1]
        return sum(p for p, _ in rows), all(p == max(top.values()) for p, top in rows)

    def test_multiple_choice(self):
        self.assertEqual(len(self.samples["choice"]), len(ITEMS))
        for s in self.samples["choice"]:
            for choice, ((got, greedy),) in zip(s["doc"]["choices"], s["resps"]):
                context = self.ids(s["doc"]["q"])
                want, best = self.scored(self.ids(s["doc"]["q"] + " " + choice), len(context))
                self.assertAlmostEqual(float(got), want, places=5)
                self.assertEqual(str(greedy), str(best))

    def test_rolling(self):
        info = json.loads(call(self.url + "/tokenizer_info")[2])
        self.assertEqual(len(self.samples["rolling"]), len(ITEMS))
        for s in self.samples["rolling"]:
            got = s["resps"][0][0]
            got = float(got[0] if isinstance(got, list) else got)
            wants = [self.scored(self.ids(info[first]) + self.ids(s["doc"]["text"]), 1)[0]
                     for first in ("bos_token", "eos_token") if info[first]]
            self.assertTrue(any(abs(got - w) < 1e-4 for w in wants), (got, wants))

    def test_generation(self):
        self.assertEqual(len(self.samples["generate"]), len(ITEMS))
        for s in self.samples["generate"]:
            want = complete(self.url, prompt=self.ids(s["doc"]["q"]), max_tokens=8, temperature=0, stop=["\n", "zz"])
            self.assertEqual(s["resps"][0][0], want["choices"][0]["text"])


if __name__ == "__main__":
    main()
