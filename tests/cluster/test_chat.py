"""Chats through the whole program: HTTP, template, tokenizer, 2 ranks.

With CORDEE_CONFORMANCE every golden model that has a template, from its directory:
the prompt's text and ids and the greedy tokens are transformers' own, and the text
ends at the model's end token. Without it the tiny models of the tree, where the ids
of what a chat generates must be those of a raw completion of the same prompt.
"""
import json
import os
import pathlib
import subprocess
import sys

from harness import BINARY, SOURCE, Serve, Skip, environment, run

DATA = os.environ.get("CORDEE_CONFORMANCE")
GOLDEN = pathlib.Path(DATA or ".") / "golden"
only = sys.argv[1:]


def chat(serve, **body):
    status, answer = serve.post("/v1/chat/completions", **{"temperature": 0, "return_token_ids": True, **body})
    assert status == 200, answer
    return answer


def stream(serve, **body):
    """The joined text, the ids and the last finish reason of a streamed chat."""
    c = serve.connect()
    try:
        c.request("POST", "/v1/chat/completions",
                  json.dumps({"temperature": 0, "stream": True, "return_token_ids": True, **body}))
        r = c.getresponse()
        assert r.status == 200, r.read()
        events = [x[6:] for x in r.read().decode().split("\n\n") if x.startswith("data: ")]
    finally:
        c.close()
    assert events.pop() == "[DONE]"
    choices = [json.loads(x)["choices"][0] for x in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}, choices[0]
    text = "".join(x["delta"].get("content", "") for x in choices)
    return text, [i for x in choices for i in x.get("token_ids", [])], choices[-1]["finish_reason"]


def differences(serve, want):
    """What is not as transformers has it."""
    messages, wrong = want["messages"], []
    asked = {"messages": messages, "add_generation_prompt": want["add_generation_prompt"]}
    status, text = serve.post("/apply-template", **asked)
    if status != 200 or text["prompt"] != want["prompt"]:
        wrong.append(f"prompt {text}")
    whole = chat(serve, **asked, max_tokens=24, ignore_eos=True)["choices"][0]
    safe = want["safe_steps"]
    if whole["prompt_token_ids"] != want["ids"]:
        wrong.append(f"ids {whole['prompt_token_ids']}")
    if whole["token_ids"][:safe] != want["greedy_ids"][:safe]:
        wrong.append(f"greedy {whole['token_ids']}")
    step = want.get("first_eos_step")
    if step is not None and step < safe:
        ended = chat(serve, **asked, max_tokens=24)["choices"][0]
        if (ended["finish_reason"], ended["stop_reason"]) != ("stop", want["greedy_ids"][step]):
            wrong.append(f"end {ended['finish_reason']} {ended['stop_reason']}")
        # What follows a prompt keeps its first space; transformers decodes the answer alone.
        if ended["message"]["content"].strip() != want["text_until_eos"].strip():
            wrong.append(f"text {ended['message']['content']!r}")
    if stream(serve, **asked, max_tokens=24, ignore_eos=True)[:2] != (whole["message"]["content"], whole["token_ids"]):
        wrong.append("the stream differs")
    return wrong


def golden_chats():
    if not DATA:
        raise Skip("no CORDEE_CONFORMANCE")
    bad = []
    for file in sorted((GOLDEN / "golden").glob("*/chat.json")):
        name = file.parent.name
        if only and name not in only:
            continue
        args = ["--precision", "exact", "--kv-type", "f32", "--log-level", "warn"]
        args += ["--context", "512"] if name == "llama-yarn" else []
        with Serve(model=str(GOLDEN / "models" / name), workers=2, args=args) as serve:
            wrong = differences(serve, json.loads(file.read_text()))
            serve.stop()
        print(f"{name:20} {'; '.join(wrong)[:600] or 'ok'}", flush=True)
        bad += [name] if wrong else []
    assert not bad, ", ".join(bad)


def tiny_chats():
    tried = 0
    for file in sorted((SOURCE / "tests" / "golden" / "tiny").glob("tiny-*.gguf")):
        if only or "split" in file.name:
            continue
        with Serve(model=str(file), workers=2) as serve:
            messages = [{"role": "user", "content": "Hello <bos></s><|eot_id|>"}]
            status, text = serve.post("/apply-template", messages=messages)
            if status != 200:
                assert "template" in text["error"]["message"], text
                assert serve.post("/v1/chat/completions", messages=messages)[0] == 400
                continue
            tried += 1
            whole = chat(serve, messages=messages, max_tokens=12, ignore_eos=True)["choices"][0]
            raw = serve.complete(prompt=whole["prompt_token_ids"], n=12, return_token_ids=True)
            assert whole["token_ids"] == raw["token_ids"], (whole, raw)
            assert stream(serve, messages=messages, max_tokens=12, ignore_eos=True)[0] == whole["message"]["content"]
            serve.stop()
    if not tried:
        raise Skip("no tiny model has a template")


def converse(model, lines):
    """What `cordee chat` writes to stdout."""
    done = subprocess.run([BINARY, "chat", "--model", model, "--workers", "2", "--threads", "1", "-n", "12",
                           "--ignore-eos"], input=lines.encode(), capture_output=True, timeout=120, env=environment())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def chat_command():
    """The same answers as over HTTP, the second one with the first in its context."""
    for file in sorted((SOURCE / "tests" / "golden" / "tiny").glob("tiny-*.gguf")):
        if only or "split" in file.name:
            continue
        messages, answers = [], []
        with Serve(model=str(file), workers=1) as serve:
            if serve.post("/apply-template", messages=[{"role": "user", "content": "x"}])[0] != 200:
                continue
            for text in ("Hello there", "and again"):
                messages.append({"role": "user", "content": text})
                answer = chat(serve, messages=messages, max_tokens=12, ignore_eos=True)["choices"][0]["message"]
                messages.append({"role": "assistant", "content": answer["content"]})
                answers.append(answer["content"] + "\n")
            serve.stop()
        got = converse(str(file), "Hello there\n/reset\n\nHello there\nand again\n/exit\nnever")
        assert got == answers[0] + "".join(answers), (got, answers)
        return
    raise Skip("no tiny model has a template")


if __name__ == "__main__":
    run(golden_chats, tiny_chats, chat_command)
