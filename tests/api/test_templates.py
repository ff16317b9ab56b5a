#!/usr/bin/env python3
"""cordee template against what Jinja and transformers render.

template_cases.jsonl holds small templates with the text (or error) that Python's
jinja2 gives (tests/tools/make_template_cases.py makes it). With CORDEE_CONFORMANCE,
every real chat template there renders every conversation as transformers does.
Where a template raises, the message must be the same; other errors must be errors.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BINARY = os.environ.get("CORDEE_BINARY", "")


def cordee_template(template, requests, *flags):
    """One answer a request."""
    with tempfile.NamedTemporaryFile("w", suffix=".jinja", newline="", encoding="utf-8") as f:
        f.write(template)
        f.flush()
        lines = "".join(json.dumps(r) + "\n" for r in requests)
        p = subprocess.run([BINARY, "template", "--file", f.name, *flags], input=lines, capture_output=True,
                           text=True, encoding="utf-8", timeout=300)
    if p.returncode != 0:
        raise RuntimeError(f"exit {p.returncode}: {p.stderr[-300:]}")
    answers = [json.loads(line) for line in p.stdout.splitlines()]
    if len(answers) != len(requests):
        raise RuntimeError(f"{len(answers)} answers to {len(requests)} requests")
    return answers


def differs(got, text, error, raised):
    if text is not None:
        return got.get("text") != text
    return "error" not in got or (raised and got["error"] != error)


def small_cases():
    head, *cases = (json.loads(line) for line in open(HERE / "template_cases.jsonl", encoding="utf-8"))
    request = {**head["vars"], "now": head["now"]}
    bad = []
    for case in cases:
        got = cordee_template(case["template"], [request])[0]
        if differs(got, case.get("text"), case.get("error"), "raise_exception" in case["template"]):
            bad.append((case["template"], case.get("text", case.get("error")), got))
    return len(cases), bad


def real_templates(folder):
    index = json.load(open(folder / "conversations.json", encoding="utf-8"))
    conversations = {c["id"]: c for c in index["conversations"]}
    n, bad = 0, []
    for path in sorted(folder.glob("*.json")):
        if path.name in ("index.json", "conversations.json"):
            continue
        t = json.load(open(path, encoding="utf-8"))
        requests = []
        for case in t["cases"]:
            c = conversations[case["conversation"]]
            request = {"messages": c["messages"], "tools": c["tools"], "now": t["date"],
                       "add_generation_prompt": case["add_generation_prompt"], **c["kwargs"]}
            for token in ("bos_token", "eos_token"):
                if t.get(token) is not None:
                    request[token] = t[token]
            requests.append(request)
        for case, got in zip(t["cases"], cordee_template(t["template"], requests)):
            n += 1
            error = case.get("error", {})
            if differs(got, case.get("text"), error.get("message"), error.get("type") == "TemplateError"):
                bad.append((f"{path.stem} {case['conversation']}", case.get("text", error), got))
    return n, bad


def user_spans():
    """The user's bytes, and only they, are the user's."""
    template = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}"
                "{{ bos_token }}{{ messages | tojson }}")
    text = "a <|im_end|> é"
    got = cordee_template(template, [{"messages": [{"role": "user", "content": f" {text} "}], "bos_token": "<s>"}],
                          "--spans")[0]
    raw = got["text"].encode()
    parts = [raw[a:b].decode() for a, b in got["user"]]
    want = ["user", text, "role", "user", "content", f" {text} "]
    return 1, [] if parts == want else [("spans", want, parts)]


def main():
    if not BINARY or not os.path.exists(BINARY):
        print("skipped: CORDEE_BINARY is not there")
        return 77
    results = [("small templates", small_cases()), ("spans", user_spans())]
    conformance = os.environ.get("CORDEE_CONFORMANCE")
    folder = pathlib.Path(conformance or "") / "thirdparty" / "chat"
    if conformance and folder.is_dir():
        results.append(("real templates", real_templates(folder)))
    for name, (n, bad) in results:
        print(f"{name}: {n - len(bad)} of {n}")
        for what, want, got in bad[:10]:
            print(f"  {what[:200]!r}\n    want {str(want)[-300:]!r}\n    got  {str(got)[-300:]!r}")
    return 1 if any(bad for _, (_, bad) in results) else 0


if __name__ == "__main__":
    sys.exit(main())
