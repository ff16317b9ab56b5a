"""/v1/completions and its neighbours, through OpenAI's own client where it can say it.

Runs against fake_server, or any server named by CORDEE_TEST_URL.
"""
import json
import math

from server import OpenAICase, call, complete, main, need

openai = need("openai")


class Completions(OpenAICase):
    def create(self, **fields):
        return self.client.completions.create(**{"model": self.model, "max_tokens": 6, "temperature": 0, **fields})

    def ids(self, text, special=True):
        status, _, body = call(self.url + "/tokenize", {"prompt": text, "add_special_tokens": special})
        self.assertEqual(status, 200)
        return json.loads(body)["tokens"]

    # ---- shapes of the prompt ------------------------------------------------------

    def test_text(self):
        r = self.create(prompt="The quick fox")
        self.assertEqual(r.object, "text_completion")
        self.assertEqual(len(r.choices), 1)
        self.assertIn(r.choices[0].finish_reason, ("stop", "length"))
        self.assertIsNone(r.choices[0].logprobs)
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)
        self.assertEqual(r.usage.prompt_tokens, len(self.ids("The quick fox")))
        self.assertTrue(r.system_fingerprint)

    def test_lists_equal_single_requests(self):
        texts = ["The quick fox", "Once upon a time", "1 2 3"]
        single = [self.create(prompt=t).choices[0].text for t in texts]
        many = self.create(prompt=texts)
        self.assertEqual([c.index for c in many.choices], [0, 1, 2])
        self.assertEqual([c.text for c in many.choices], single)
        ids = [self.ids(t) for t in texts]
        self.assertEqual([c.text for c in self.create(prompt=ids).choices], single)
        self.assertEqual(self.create(prompt=ids[1]).choices[0].text, single[1])

    def test_ids_are_used_as_they_are(self):
        ids = self.ids("fox", special=False)
        r = complete(self.url, model=self.model, prompt=ids, max_tokens=1, return_token_ids=True)
        self.assertEqual(r["choices"][0]["prompt_token_ids"], ids)
        self.assertEqual(len(r["choices"][0]["token_ids"]), r["usage"]["completion_tokens"])

    def test_many_prompts_are_windowed(self):
        r = self.create(prompt=[f"number {i}" for i in range(150)], max_tokens=1)
        self.assertEqual([c.index for c in r.choices], list(range(150)))

    # ---- log-probabilities ------------------------------------------------------------

    def check_logprobs(self, lp, prompt_tokens, generated):
        n = len(lp["tokens"])
        self.assertEqual(n, prompt_tokens + generated)
        for name in ("token_logprobs", "top_logprobs", "text_offset"):
            self.assertEqual(len(lp[name]), n, name)
        for i, (p, top) in enumerate(zip(lp["token_logprobs"], lp["top_logprobs"])):
            if i == 0 and prompt_tokens:
                self.assertIsNone(p)
                self.assertIsNone(top)
                continue
            self.assertIsInstance(p, float)
            self.assertIn(p, top.values())  # the same float in both places
        self.assertEqual(lp["text_offset"], sorted(lp["text_offset"]))

    def test_generated_logprobs(self):
        r = complete(self.url, prompt="The quick fox", max_tokens=4, temperature=0, logprobs=3, ignore_eos=True)
        self.check_logprobs(r["choices"][0]["logprobs"], 0, 4)

    def test_echo_scores_the_prompt(self):
        for generated in (0, 1):
            r = complete(self.url, prompt="The quick fox", max_tokens=generated, temperature=0, logprobs=1, echo=True)
            c = r["choices"][0]
            self.check_logprobs(c["logprobs"], r["usage"]["prompt_tokens"], r["usage"]["completion_tokens"])
            self.assertTrue(c["text"].startswith("The quick fox"))

    def test_echo_text_offsets(self):
        r = complete(self.url, prompt="a \u00e9 \u20ac b", max_tokens=3, temperature=0, logprobs=0, echo=True)
        c = r["choices"][0]
        tokens, offsets = c["logprobs"]["tokens"], c["logprobs"]["text_offset"]
        for token, at, after in zip(tokens, offsets, offsets[1:] + [len(c["text"])]):
            if not token.startswith("bytes:") and after - at == len(token):
                self.assertEqual(c["text"][at:after], token)

    def test_harness_loglikelihood(self):
        """The very request of lm-evaluation-harness, and what it reads."""
        ids = self.ids("The quick brown fox jumps")
        for prompt in ([ids], [ids, ids[:3]]):
            r = complete(self.url, model=self.model, prompt=prompt, temperature=0, max_tokens=1, logprobs=1,
                         seed=1234, echo=True)
            for sent, c in zip(prompt, sorted(r["choices"], key=lambda c: c["index"])):
                lp = c["logprobs"]
                self.assertEqual(len(lp["token_logprobs"]), len(sent) + 1)
                self.assertIsNone(lp["token_logprobs"][0])
                total = sum(lp["token_logprobs"][1:-1])
                self.assertTrue(math.isfinite(total))
                for p, top in zip(lp["token_logprobs"][1:-1], lp["top_logprobs"][1:-1]):
                    self.assertIsInstance(p == max(top.values()), bool)

    def test_harness_generate_until(self):
        r = complete(self.url, prompt=["Q: 1+1\nA:"], model=self.model, max_tokens=8, temperature=0,
                     stop=["\n\n", "Q:", "</s>", "a", "b", "c"], seed=1234, do_sample=False, until_made_up=[1])
        self.assertIsInstance(r["choices"][0]["text"], str)

    # ---- choices, seeds, stops -----------------------------------------------------------

    def test_seeded_choices_repeat(self):
        fields = dict(prompt="Once", temperature=1.0, seed=7, n=3, max_tokens=8)
        first = [c.text for c in self.create(**fields).choices]
        self.assertEqual(len(first), 3)
        self.assertEqual([c.text for c in self.create(**fields).choices], first)
        self.assertGreater(len(set(first)), 1)

    def test_best_of(self):
        r = self.create(prompt="Once", temperature=1.0, seed=7, n=2, best_of=5)
        self.assertEqual([c.index for c in r.choices], [0, 1])

    def test_stop_strings(self):
        text = self.create(prompt="The quick fox", max_tokens=12).choices[0].text
        at = len(text) // 2
        stop = text[at:at + 2]
        r = complete(self.url, prompt="The quick fox", max_tokens=12, temperature=0, stop=["never there", stop])
        c = r["choices"][0]
        self.assertEqual(c["text"], text[:text.index(stop)])
        self.assertEqual((c["finish_reason"], c["stop_reason"]), ("stop", stop))
        many = [f"nothing {i}" for i in range(200)] + [stop]
        self.assertEqual(complete(self.url, prompt="The quick fox", max_tokens=12, temperature=0,
                                  stop=many)["choices"][0]["text"], c["text"])

    def test_stop_token_ids(self):
        whole = complete(self.url, prompt="The quick fox", max_tokens=6, temperature=0, return_token_ids=True,
                         ignore_eos=True)["choices"][0]["token_ids"]
        c = complete(self.url, prompt="The quick fox", max_tokens=6, temperature=0, stop_token_ids=[whole[2]],
                     return_token_ids=True, ignore_eos=True)["choices"][0]
        cut = whole.index(whole[2]) + 1
        self.assertEqual(c["token_ids"], whole[:cut])
        self.assertEqual((c["finish_reason"], c["stop_reason"]), ("stop", whole[2]))

    def test_max_tokens_zero(self):
        r = self.create(prompt="Once", max_tokens=0)
        self.assertEqual((r.choices[0].text, r.choices[0].finish_reason), ("", "length"))
        self.assertEqual(r.usage.completion_tokens, 0)

    def test_extensions(self):
        r = complete(self.url, prompt="Once", max_tokens=5, ignore_eos=True, min_tokens=3, top_k=5, min_p=0.01,
                     repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=-0.5, top_p=0.9, seed=-5,
                     logit_bias={"5": 1.5}, priority=3, user="me", unknown_field={"x": 1}, stop_token_ids=[],
                     logprobs=None, stop=None)
        self.assertEqual(r["usage"]["completion_tokens"], 5)

    # ---- streams -------------------------------------------------------------------------------

    def test_stream_equals_whole(self):
        for fields in (dict(prompt="The quick fox"), dict(prompt=["a", "b"], n=2), dict(prompt="The", echo=True),
                       dict(prompt="The", echo=True, logprobs=2), dict(prompt="Once", stop=["e", "1"])):
            whole = self.create(**fields)
            texts, finish, logprobs = {}, {}, {}
            for chunk in self.create(stream=True, **fields):
                for c in chunk.choices:
                    texts[c.index] = texts.get(c.index, "") + c.text
                    finish[c.index] = c.finish_reason or finish.get(c.index)
                    if c.logprobs:
                        logprobs.setdefault(c.index, []).extend(c.logprobs.token_logprobs)
            for c in whole.choices:
                self.assertEqual(texts[c.index], c.text)
                self.assertEqual(finish[c.index], c.finish_reason)
                if c.logprobs:
                    self.assertEqual(logprobs[c.index], c.logprobs.token_logprobs)

    def test_stream_usage(self):
        chunks = list(self.create(prompt="Once", stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))

    # ---- errors ----------------------------------------------------------------------------------

    def refused(self, status, param=None, **fields):
        got, headers, body = call(self.url + "/v1/completions", {"prompt": "x", "max_tokens": 1, **fields})
        self.assertEqual(got, status, (fields, body))
        error = json.loads(body)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        if param:
            self.assertEqual(error["param"], param)
        return error

    def test_types_and_ranges(self):
        for param, bad in {
            "max_tokens": [-1, 1.5, "5", True, [1]], "n": [0, 129, "1"], "best_of": [0], "temperature": [-0.1, 2.1, "1"],
            "top_p": [-0.1, 1.1], "logprobs": [-1, 21, True, 1.0], "echo": [1, "true"], "stream": [0],
            "seed": [1.5, "x"], "stop": [1, [1], {}], "logit_bias": [[], {"x": 1}, {"1": 101}, {"-1": 1}, {"1": "1"}],
            "stop_token_ids": [5, ["a"], [-1], [1.5]], "presence_penalty": [3], "suffix": ["tail"], "top_k": [-2],
            "min_p": [2], "repetition_penalty": [0, -1], "prompt": [None, 5, [], [[]], [1, "a"], ["a", [1]], [[1], "a"],
                                                                   {"a": 1}, [True], [1.5], [-1], [[1, None]]],
            "stream_options": [{"include_usage": True}, 5], "min_tokens": [5, -1], "ignore_eos": ["no"],
        }.items():
            for value in bad:
                with self.subTest(param=param, value=value):
                    self.refused(400, param, **{param: value})

    def test_malformed_json_has_its_place(self):
        for body, place in ((b'{"prompt": "x",\n "n": }', "line 2"), (b"", "line 1"), (b'{"a":1,"a":2}', "line 1"),
                            (b'["x"]', "object"), (b'{"prompt":"\xff"}', "line 1"), (b'{"n": NaN}', "line 1"),
                            (b"[" * 100000, "line 1"), (b'{"prompt":"x"} x', "line 1")):
            status, _, answer = call(self.url + "/v1/completions", body, method="POST")
            self.assertEqual(status, 400, body[:40])
            self.assertIn(place, json.loads(answer)["error"]["message"])

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as e:
            self.create(prompt="x", model="no-such-model")
        self.assertIn("no-such-model", str(e.exception))
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_prompt_longer_than_the_context(self):
        context = json.loads(call(self.url + "/v1/models")[2])["data"][0]["max_model_len"]
        error = self.refused(400, prompt=[5] * (context + 10))
        self.assertIn(str(context), error["message"])
        self.assertIn(str(context + 10), error["message"])
        self.refused(400, prompt=[[5], [5] * (context + 10)])

    def test_token_id_out_of_range(self):
        self.refused(400, prompt=[2**31 - 1])
        self.refused(400, prompt=[2**40])
        self.refused(400, stop_token_ids=[2**31 - 1])
        self.refused(400, logit_bias={"2147483647": 1})

    # ---- the neighbours -------------------------------------------------------------------------------

    def test_tokenizer_round_trip(self):
        for text in ("Hello world", "na\u00efve \u20ac \U0001f600", "", "a\nb\t c"):
            ids = self.ids(text, special=False)
            status, _, body = call(self.url + "/detokenize", {"tokens": ids})
            self.assertEqual(status, 200)
            self.assertEqual(json.loads(body)["prompt"], text)

    def test_tokenizer_info(self):
        info = json.loads(call(self.url + "/tokenizer_info")[2])
        self.assertEqual(self.ids(info["eos_token"], special=False)[:1], self.ids(info["eos_token"], special=False))
        self.assertIn("chat_template", info)
        self.assertIn("bos_token", info)
        status, _, body = call(self.url + "/tokenize", {"prompt": "ab", "return_token_strs": True})
        answer = json.loads(body)
        self.assertEqual(answer["count"], len(answer["tokens"]))
        self.assertEqual(len(answer["token_strs"]), answer["count"])

    def test_bad_tokenizer_requests(self):
        for path, body in (("/tokenize", {}), ("/tokenize", {"prompt": 5}), ("/detokenize", {}),
                           ("/detokenize", {"tokens": ["a"]}), ("/detokenize", {"tokens": [10**9]})):
            status, _, answer = call(self.url + path, body)
            self.assertEqual(status, 400, (path, body))
            self.assertIn("error", json.loads(answer))

    def test_routes(self):
        for method, path, want in (("GET", "/health", 200), ("HEAD", "/health", 200), ("GET", "/nothing", 404),
                                   ("GET", "/v1/completions", 405), ("DELETE", "/health", 405),
                                   ("GET", "/v1/models/", 404), ("POST", "/v1/models", 405)):
            status, headers, body = call(self.url + path, method=method, body=b"{}" if method == "POST" else None)
            self.assertEqual(status, want, (method, path))
            if want == 405:
                self.assertTrue(headers["Allow"])


if __name__ == "__main__":
    main()
