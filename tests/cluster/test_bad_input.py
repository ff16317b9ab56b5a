"""Bad input gets one line that names the file, the place and the reason, and the right exit code."""
import http.client
import json
import os
import pathlib
import socket
import struct
import subprocess
import tempfile

from harness import BINARY, Serve, environment, ours, run, tiny_model


def cordee(*args, stdin="", timeout=60, env=None):
    p = subprocess.run([BINARY, *args], input=stdin, capture_output=True, text=True, timeout=timeout,
                       env=environment(env))
    return p.returncode, p.stdout, p.stderr


def refuses(code, words, *args, **more):
    got, out, err = cordee(*args, **more)
    assert got == code, f"{args}: exit {got}, wanted {code}: {err}"
    assert all(w in err for w in words), f"{args}: {err!r} lacks one of {words}"
    assert len(err.strip().splitlines()) == 1, f"{args}: more than one line: {err!r}"
    assert not ours(), "a process is left"


def patched(folder, name, change):
    data = bytearray(pathlib.Path(tiny_model()).read_bytes())
    data = change(data) or data
    path = os.path.join(folder, name)
    pathlib.Path(path).write_bytes(data)
    return path


def replace(data, old, new):
    at = data.index(old)
    data[at:at + len(old)] = new


def gguf_files():
    with tempfile.TemporaryDirectory() as d:
        half = patched(d, "half.gguf", lambda b: b[:len(b) // 2])
        magic = patched(d, "magic.gguf", lambda b: b.__setitem__(slice(0, 4), b"GGML"))
        version = patched(d, "version.gguf", lambda b: b.__setitem__(slice(4, 8), struct.pack("<I", 9)))
        huge = patched(d, "huge.gguf", lambda b: b.__setitem__(slice(8, 16), struct.pack("<Q", 1 << 60)))
        family = patched(d, "family.gguf", lambda b: replace(b, b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lambo"))
        for command in (["inspect"], ["generate", "-p", "x", "--model"], ["serve", "--http", "127.0.0.1:0", "--model"]):
            refuses(1, ["half.gguf"], *command, half)
            refuses(1, ["magic.gguf", "not a GGUF file"], *command, magic)
            refuses(1, ["version.gguf", "9"], *command, version)
            refuses(1, ["huge.gguf"], *command, huge)
            refuses(1, [os.path.join(d, "none.gguf")], *command, os.path.join(d, "none.gguf"))
        refuses(1, ["lambo", "supported", "llama", "gemma3"], "generate", "-p", "x", "--model", family)


def usage():
    model = tiny_model()
    refuses(2, ["unknown command"], "serv")
    refuses(2, ["no model"], "generate", "-p", "x")
    refuses(2, ["prompt"], "generate", "--model", model)
    refuses(2, ["nowhere to listen"], "serve", "--model", model)
    refuses(2, ["workers", "1..1024"], "serve", "--model", model, "--workers", "0")
    refuses(2, ["precision", "exact"], "generate", "--model", model, "-p", "x", "--precision", "rough")
    for later in ("shard", "plan", "doctor"):
        got, _, err = cordee(later)
        assert got == 2, (later, err)


def configuration():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "cluster.yaml")

        def with_text(text, *words):
            pathlib.Path(path).write_text(text)
            refuses(2, [path, *words], "serve", "--config", path, "--http", "127.0.0.1:0")

        with_text("network: {\n", ":2:1")
        with_text("workres: 3\n", ":1:1", "workers")
        with_text("threads: many\n", ":1:1", "whole number")
        with_text("model: a\nmodel: b\n", ":2:1", "twice")


def memory():
    refuses(3, ["page"], "generate", "--model", tiny_model(), "-p", "x", "--kv-memory", "16")
    refuses(3, ["needs", "its node has"], "generate", "--model", tiny_model(), "-p", "x", "--kv-memory", "900GiB")
    refuses(3, ["stages"], "generate", "--model", tiny_model(), "-p", "x", "--workers", "40")


def busy_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        refuses(1, [str(port)], "serve", "--model", tiny_model(), "--http", f"127.0.0.1:{port}")


def text_input():
    p = subprocess.run([BINARY, "tokenize", "--model", tiny_model()], input=b"ab\xff", capture_output=True, env=environment())
    assert p.returncode == 1 and b"2" in p.stderr, p
    got, _, err = cordee("tokenize", "--model", tiny_model(), "--json", stdin='"a"\n{"b":1}\n')
    assert got == 1 and "stdin:2" in err, err


def world_of_one():
    p = subprocess.run(["mpiexec.hydra", "-n", "1", BINARY, "engine", "--model", tiny_model(), "--listen", "127.0.0.1:0"],
                       capture_output=True, text=True, timeout=60, env=environment(), stdin=subprocess.DEVNULL)
    assert p.returncode != 0 and "-n N+1" in p.stderr and "--mpi=pmi2" in p.stderr, p.stderr


def requests():
    def post(serve, path, body, headers=None):
        c = serve.connect(20)
        c.request("POST", path, body, headers or {"Content-Type": "application/json"})
        r = c.getresponse()
        data = json.loads(r.read())
        c.close()
        return r.status, data["error"]["message"]

    with Serve(args=["--context", "64"]) as serve:
        status, text = post(serve, "/v1/completions", '{"prompt": "a", ')
        assert status == 400 and "line" in text and "column" in text, text
        status, text = post(serve, "/v1/completions", b'{"prompt": "a\xff"}')
        assert status == 400, text
        status, text = post(serve, "/v1/completions", json.dumps({"prompt": [5] * 100}))
        assert status == 400 and "100" in text and "64" in text, text
        status, text = post(serve, "/v1/completions", json.dumps({"prompt": "a", "model": "gpt-17"}))
        assert status == 404 and "gpt-17" in text, text
        status, text = post(serve, "/v1/completions", json.dumps({"prompt": "a", "suffix": "b"}))
        assert status == 400 and "suffix" in text, text
        status, text = post(serve, "/v1/completions", json.dumps({"prompt": [99999999]}))
        assert status == 400, text
        status, text = post(serve, "/v1/nothing", "{}")
        assert status == 404, text
        c = http.client.HTTPConnection("127.0.0.1", serve.port, timeout=10)
        c.request("GET", "/v1/completions")
        assert c.getresponse().status == 405
        c.close()
        assert serve.complete(n=4)["finish_reason"] == "length"
        assert serve.stop() == 0


if __name__ == "__main__":
    run(gguf_files, usage, configuration, memory, busy_port, text_input, world_of_one, requests)
