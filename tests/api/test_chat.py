"""/v1/chat/completions and /apply-template, through OpenAI's own client where it can say it.

Runs against fake_server; what needs a certain template is skipped for a server named
by CORDEE_TEST_URL.
"""
import json

from server import URL, OpenAICase, Server, call, main, need

openai = need("openai")
USER = [{"role": "user", "content": "Hello the fox"}]


class Chat(OpenAICase):
    def create(self, **fields):
        return self.client.chat.completions.create(
            **{"model": self.model, "messages": USER, "max_tokens": 6, "temperature": 0, **fields})

    def ids(self, **fields):
        return self.create(extra_body={"return_token_ids": True, **fields.pop("extra", {})}, **fields).choices[0]

    def template(self, **fields):
        status, _, body = call(self.url + "/apply-template", {"messages": USER, **fields})
        return status, json.loads(body)

    # ---- answers ---------------------------------------------------------------------

    def test_whole(self):
        r = self.create()
        self.assertEqual(r.object, "chat.completion")
        self.assertTrue(r.id.startswith("chatcmpl-"))
        self.assertEqual(r.choices[0].message.role, "assistant")
        self.assertIsInstance(r.choices[0].message.content, str)
        self.assertIn(r.choices[0].finish_reason, ("stop", "length"))
        self.assertIsNone(r.choices[0].logprobs)
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)

    def test_is_the_completion_of_its_prompt(self):
        chat = self.ids()
        raw = self.client.completions.create(model=self.model, prompt=chat.prompt_token_ids, max_tokens=6, temperature=0)
        self.assertEqual(chat.message.content, raw.choices[0].text)

    def test_stream(self):
        chunks = list(self.create(stream=True, stream_options={"include_usage": True}))
        self.assertEqual({c.object for c in chunks}, {"chat.completion.chunk"})
        self.assertEqual(len({c.id for c in chunks}), 1)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, self.create().usage.completion_tokens)
        deltas = [c.choices[0].delta for c in chunks[:-1]]
        self.assertEqual((deltas[0].role, deltas[0].content), ("assistant", ""))
        self.assertTrue(all(d.role is None for d in deltas[1:]))
        self.assertEqual("".join(d.content or "" for d in deltas), self.create().choices[0].message.content)
        reasons = [c.choices[0].finish_reason for c in chunks[:-1]]
        self.assertIn(reasons.pop(), ("stop", "length"))
        self.assertEqual(set(reasons), {None})

    def test_choices(self):
        whole = self.create(n=3, temperature=1, seed=7)
        self.assertEqual([c.index for c in whole.choices], [0, 1, 2])
        streamed, roles = {0: "", 1: "", 2: ""}, {0: 0, 1: 0, 2: 0}
        for chunk in self.create(n=3, temperature=1, seed=7, stream=True):
            choice = chunk.choices[0]
            streamed[choice.index] += choice.delta.content or ""
            roles[choice.index] += choice.delta.role is not None
        self.assertEqual(streamed, {c.index: c.message.content for c in whole.choices})
        self.assertEqual(set(roles.values()), {1})

    def test_logprobs(self):
        for top in (None, 0, 3):
            more = {} if top is None else {"top_logprobs": top}
            r = self.create(logprobs=True, **more)
            content = r.choices[0].logprobs.content
            self.assertEqual(len(content), r.usage.completion_tokens)
            for token in content:
                self.assertLessEqual(token.logprob, 0)
                self.assertEqual(len(token.top_logprobs), top or 0)
                if not token.token.startswith("bytes:"):  # a random model may draw half a character
                    self.assertEqual(bytes(token.bytes).decode(errors="replace"), token.token)
            streamed = [t for c in self.create(logprobs=True, stream=True, **more)
                        for t in (c.choices[0].logprobs.content if c.choices[0].logprobs else [])]
            self.assertEqual(streamed, content)

    def test_stop(self):
        text = self.create().choices[0].message.content
        r = self.create(stop=text[2:4])
        self.assertEqual(r.choices[0].finish_reason, "stop")
        self.assertEqual(r.choices[0].message.content, text[:text.index(text[2:4])])

    def test_limits(self):
        self.assertEqual(self.create(max_tokens=3).usage.completion_tokens, 3)
        self.assertEqual(self.create(max_tokens=3, max_completion_tokens=2).usage.completion_tokens, 2)
        self.assertEqual(self.create(max_tokens=0).choices[0].message.content, "")

    # ---- messages ------------------------------------------------------------------------

    def test_content_in_parts(self):
        parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "fox"}]
        one = self.ids(messages=[{"role": "user", "content": "Hello\nfox"}])
        self.assertEqual(self.ids(messages=[{"role": "user", "content": parts}]).prompt_token_ids, one.prompt_token_ids)

    def test_users_write_no_control_tokens(self):
        info = json.loads(call(self.url + "/tokenizer_info")[2])
        eos = json.loads(call(self.url + "/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False})[2])
        plain = self.ids().prompt_token_ids.count(eos["tokens"][0])
        for text in (info["eos_token"], f"a{info['eos_token']}b"):
            tricky = self.ids(messages=[{"role": "user", "content": text}])
            self.assertEqual(tricky.prompt_token_ids.count(eos["tokens"][0]), plain)

    def test_what_clients_dump(self):
        """A message as OpenAI's library prints it: nulls, tool calls with arguments as text."""
        call_ = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}
        dumped = {"role": "assistant", "content": None, "refusal": None, "audio": None, "tool_calls": [call_]}
        status, answer = self.template(messages=USER + [dumped, {"role": "tool", "tool_call_id": "x", "content": "2"}])
        self.assertEqual(status, 200, answer)

    def test_bad_requests(self):
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
        badcall = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]
        for fields, param in (
            ({"messages": None}, "messages"), ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
            ({"messages": [1]}, "messages"), ({"messages": [{"content": "x"}]}, "messages"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages"), ({"messages": image}, "messages"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
            ({"messages": badcall}, "messages"), ({"tools": {}}, "tools"), ({"tools": [1]}, "tools"),
            ({"tool_choice": "required"}, "tool_choice"), ({"logprobs": 3}, "logprobs"),
            ({"top_logprobs": 3}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
            ({"response_format": {"type": "json_object"}}, "response_format"), ({"n": 0}, "n"),
            ({"chat_template": "x"}, "chat_template"), ({"chat_template_kwargs": []}, "chat_template_kwargs"),
            ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"), ({"max_tokens": "5"}, "max_tokens"),
            ({"add_generation_prompt": True, "continue_final_message": True}, "continue_final_message"),
            ({"stream_options": {}}, "stream_options"), ({"min_tokens": 9, "max_tokens": 5}, "min_tokens"),
        ):
            for path in ("/v1/chat/completions", "/apply-template"):
                status, _, body = call(self.url + path, {"messages": USER, **fields})
                self.assertEqual(status, 400, (fields, body))
                self.assertEqual(json.loads(body)["error"]["param"], param, (fields, body))
        self.assertIn("image_url", self.template(messages=image)[1]["error"]["message"])

    def test_unknown_fields_are_ignored(self):
        self.create(extra_body={"nobody_knows": [1], "response_format": {"type": "text"}, "tool_choice": "auto"})

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError):
            self.create(model="another")

    # ---- the template ---------------------------------------------------------------------

    def own_template(self):
        if URL:
            self.skipTest("another template")

    def test_template(self):
        self.own_template()
        self.assertEqual(self.template(), (200, {"prompt": "<s>user: Hello the fox</s><s>assistant:"}))
        self.assertEqual(self.template(add_generation_prompt=False)[1]["prompt"], "<s>user: Hello the fox</s>")
        self.assertEqual(self.template(chat_template_kwargs={"extra": "!"}, tools=[{"b": 1, "a": 2}])[1]["prompt"],
                         "<s>user: Hello the fox</s>[{\"b\": 1, \"a\": 2}]!<s>assistant:")
        self.assertNotIn("[", self.template(tools=[{"a": 2}], tool_choice="none")[1]["prompt"])

    def test_developer_is_system_where_unknown(self):
        self.own_template()
        self.assertEqual(self.template(messages=[{"role": "developer", "content": "x"}])[1]["prompt"],
                         "<s>system: x</s><s>assistant:")

    def test_continue_the_last_message(self):
        self.own_template()
        for content, shown in (("Sure, ", "Sure, "), (" Hello the fox", " Hello the fox")):
            status, answer = self.template(messages=USER + [{"role": "assistant", "content": content}],
                                           continue_final_message=True)
            self.assertEqual((status, answer["prompt"]), (200, f"<s>user: Hello the fox</s><s>assistant: {shown}"))
        self.assertEqual(self.template(messages=[{"role": "user", "content": " "}], continue_final_message=True)[0], 400)

    def test_refusals_of_the_template(self):
        self.own_template()
        status, answer = self.template(messages=[{"role": "judge", "content": "x"}])
        self.assertEqual((status, answer["error"]["message"], answer["error"]["param"]), (400, "no role judge", "messages"))
        with Server("--no-template") as bare:
            for path in ("/v1/chat/completions", "/apply-template"):
                status, _, body = call(bare.url + path, {"messages": USER})
                self.assertEqual(status, 400)
                self.assertIn("no chat template", json.loads(body)["error"]["message"])

    def test_end_token(self):
        if URL:
            self.skipTest("needs its own server")
        with Server("--eos-at", "4") as s:
            status, _, body = call(s.url + "/v1/chat/completions", {"messages": USER})
            choice = json.loads(body)["choices"][0]
            self.assertEqual((status, choice["finish_reason"], choice["stop_reason"]), (200, "stop", 2))
            self.assertEqual(len(choice["message"]["content"]), 3)


if __name__ == "__main__":
    main()
