"""What the API's black-box tests share: a server to talk to, and raw sockets.

Without CORDEE_TEST_URL the tests start fake_server (the real gateway over a fake
backend); with it they talk to the server at that address, with CORDEE_TEST_KEY as
API key, and tests that need a special server are skipped.
"""
import json
import os
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

URL = os.environ.get("CORDEE_TEST_URL")
KEY = os.environ.get("CORDEE_TEST_KEY", "none")


def need(module):
    """Imports a module, through the Python that CORDEE_PYTHON names if this one
    lacks it. Exit code 77 (skipped) when neither has it."""
    try:
        return __import__(module)
    except ImportError:
        other = os.environ.get("CORDEE_PYTHON")
        if other and os.path.realpath(other) != os.path.realpath(sys.executable) and "CORDEE_REEXEC" not in os.environ:
            os.environ["CORDEE_REEXEC"] = "1"
            os.execv(other, [other] + sys.argv)
        print(f"skipped: no Python module {module} (CORDEE_PYTHON names a Python that has it)")
        sys.exit(77)


class Server:
    """fake_server with options, for the length of a `with`."""

    def __init__(self, *options):
        program = os.path.join(os.environ.get("CORDEE_BUILD", "build"), "tests", "fake_server")
        program = os.environ.get("CORDEE_FAKE_SERVER", program)
        if not os.path.exists(program):
            print(f"skipped: {program} is not built")
            sys.exit(77)
        self.process = subprocess.Popen([program, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        line = self.process.stdout.readline().split()
        if not line:
            self.process.communicate()
            raise RuntimeError(f"fake_server ended with {self.process.returncode}")
        self.port = int(line[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        if code != 0:  # a sanitizer's complaint, or a crash
            raise RuntimeError(f"fake_server ended with {code}")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Outside:
    """The server at CORDEE_TEST_URL."""
    url = URL
    port = int(URL.rsplit(":", 1)[1].strip("/")) if URL else 0


class OpenAICase(unittest.TestCase):
    """Tests through OpenAI's client `self.client`, of a server started with `options` or the one outside."""
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Outside() if URL else Server(*cls.options)
        cls.url = cls.server.url
        cls.client = need("openai").OpenAI(base_url=cls.url + "/v1", api_key=KEY, max_retries=0, timeout=300)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        if not URL:
            cls.server.__exit__()


def call(url, body=None, method=None, headers=None):
    """One request; returns (status, headers, bytes)."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(url, data=data, method=method,
                                     headers={"Authorization": f"Bearer {KEY}", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.headers, e.read()


def complete(url, **fields):
    status, _, body = call(url + "/v1/completions", fields)
    assert status == 200, (status, body)
    return json.loads(body)


def raw(port, data, timeout=20, half_close=False):
    """Sends bytes, reads until the server closes or `timeout` passes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        out = b""
        try:
            while chunk := s.recv(65536):
                out += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return out


def main():
    unittest.main(verbosity=1)
