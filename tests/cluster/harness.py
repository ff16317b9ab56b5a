"""What the cluster tests share: a served model, its processes, streams, the /proc view.

A test is a script: it calls run(test, ...) and exits 0, 1, or 77 (skipped).
Every process is started in a session of its own, carries CORDEE_TEST=<token> in
its environment, and is found and ended by pid: nothing outlives a test.
"""
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

SOURCE = pathlib.Path(os.environ.get("CORDEE_SOURCE", pathlib.Path(__file__).parents[2]))
BINARY = os.environ.get("CORDEE_BINARY", str(SOURCE / "build" / "cordee"))
TOKEN = uuid.uuid4().hex


class Skip(Exception):
    pass


def tiny_model():
    for name in ("tiny-llama-spm.gguf",):
        path = SOURCE / "tests" / "golden" / "tiny" / name
        if path.exists():
            return str(path)
    found = sorted((SOURCE / "tests" / "golden" / "tiny").glob("*.gguf"))
    if not found:
        raise Skip("no tiny model in tests/golden/tiny")
    return str(found[0])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(extra=None):
    env = dict(os.environ, CORDEE_TEST=TOKEN)
    env.update(extra or {})
    return env


def ours():
    """pid -> command line of every living process that this test started."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as f:
                if f"CORDEE_TEST={TOKEN}".encode() not in f.read().split(b"\0"):
                    continue
            with open(f"/proc/{entry}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                    continue
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                found[int(entry)] = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            pass
    return found


def wait_until(what, seconds, condition):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s; processes: {ours()}")


def kill_ours():
    for _ in range(100):
        left = ours()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        if not left:
            return
        time.sleep(0.05)


class Serve:
    """`cordee serve` on a port of its own; use as a context manager."""

    def __init__(self, model=None, workers=3, args=(), env=None, ready_s=60, wrap=(), host="127.0.0.1"):
        self.port = free_port()
        self.host = host
        self.log = tempfile.TemporaryFile()
        command = [*wrap, BINARY, "serve", "--model", model or tiny_model(), "--workers", str(workers),
                   "--threads", "1", "--http", f"{host}:{self.port}", *args]
        self.process = subprocess.Popen(command, env=environment(env), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            self.wait_ready(ready_s)
        except BaseException:
            print(self.output(), file=sys.stderr)
            self.process.kill()
            kill_ours()
            raise

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def connect(self, timeout=120):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def get(self, path):
        c = self.connect(10)
        try:
            c.request("GET", path)
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def healthy(self):
        if self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.output()}")
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def wait_ready(self, seconds=60):
        wait_until("health", seconds, self.healthy)

    def post(self, path, **body):
        """The status and the parsed answer, whatever it is."""
        c = self.connect()
        try:
            c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            r = c.getresponse()
            return r.status, json.loads(r.read())
        finally:
            c.close()

    def health(self):
        return json.loads(self.get("/health")[1])

    def host_states(self):
        return [h["state"] for h in self.health()["hosts"]]

    def stats(self):
        return json.loads(self.get("/stats")[1])

    def stage_hosts(self):
        return [s["host"] for s in self.stats()["stage"]]

    def complete(self, prompt="The quick brown fox", n=24, **more):
        status, data = self.post("/v1/completions", prompt=prompt, max_tokens=n, temperature=0,
                                 **{"ignore_eos": True, **more})
        assert status == 200, data
        return data["choices"][0]

    def stream(self, prompt="The quick brown fox", n=24, on_event=None, **more):
        """The streamed text; on_event(i, self) is called after each event."""
        body = {"prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": True, "stream": True, **more}
        c = self.connect()
        try:
            c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            r = c.getresponse()
            assert r.status == 200, r.read()
            text, count = "", 0
            for line in r:
                line = line.strip()
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]":
                    return text
                event = json.loads(line[6:])
                assert "error" not in event, event
                text += event["choices"][0]["text"]
                if on_event:
                    on_event(count, self)
                count += 1
            raise AssertionError(f"the stream ended without [DONE] after {count} events: {text!r}")
        finally:
            c.close()

    def ranks(self):
        """pids of the engine processes, in order of rank."""
        found = {}
        for pid, command in ours().items():
            if " engine" in command and "cordee" in command.split()[0]:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    env = dict(x.split(b"=", 1) for x in f.read().split(b"\0") if b"=" in x)
                if b"PMI_RANK" in env:
                    found[int(env[b"PMI_RANK"])] = pid
        return [found[k] for k in sorted(found)]

    def named(self, name):
        return [pid for pid, command in ours().items() if os.path.basename(command.split()[0]) == name]

    def stop(self, seconds=30):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(seconds)
        wait_until("no process is left", 5, lambda: not ours())
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            print(self.output()[-6000:], file=sys.stderr)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        kill_ours()
        return False


def undisturbed(n):
    """What n tokens of the default stream are when nothing goes wrong."""
    with Serve() as serve:
        text = serve.stream(n=n)
        assert serve.stop() == 0
    return text


def run(*tests):
    """Runs the functions in order; prints one line each; exits."""
    skipped = failed = 0
    for test in tests:
        started = time.monotonic()
        try:
            test()
            result = "ok"
        except Skip as reason:
            skipped += 1
            result = f"skipped: {reason}"
        except Exception as problem:  # noqa: BLE001: one failure must not hide the rest
            failed += 1
            where = traceback.extract_tb(problem.__traceback__)[-1]
            result = f"FAILED: {type(problem).__name__} at {where.name}:{where.lineno}: {problem}"
        finally:
            kill_ours()
        print(f"{test.__name__}: {result} ({time.monotonic() - started:.1f} s)", flush=True)
    sys.exit(1 if failed else 77 if skipped == len(tests) else 0)
