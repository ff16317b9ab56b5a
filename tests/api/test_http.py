"""Raw sockets against the HTTP server: requests that two readers could understand
differently, limits, slow and leaving clients, keys.

The first class also runs against the server at CORDEE_TEST_URL.
"""
import json
import os
import select
import socket
import tempfile
import threading
import time
import unittest

from server import KEY, URL, Outside, Server, call, complete, main, raw

POST = b"POST /v1/completions HTTP/1.1\r\n"
BODY = b'{"prompt":"a","max_tokens":1}'
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def length(n=len(BODY)):
    return b"Content-Length: %d\r\n" % n


class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Outside() if URL else Server()

    @classmethod
    def tearDownClass(cls):
        if not URL:
            cls.server.__exit__()

    def refused(self, data):
        """One refusal (or a plain close), nothing after it."""
        out = raw(self.server.port, data, timeout=5)
        if out:
            self.assertIn(out.split(b" ")[1], (b"400", b"413", b"501"), (data[:80], out[:60]))
        self.assertLessEqual(out.count(b"HTTP/1."), 1, "a smuggled request was answered")
        self.assertEqual(call(self.server.url + "/health")[0], 200)

    def test_two_readings(self):
        host = b"Host: x\r\n"
        for name, head in {
            "length and chunked": length() + b"Transfer-Encoding: chunked\r\n",
            "two lengths": length() + length(len(BODY) + 1),
            "the same length twice": length() + length(),
            "signed length": b"Content-Length: +29\r\n",
            "negative length": b"Content-Length: -1\r\n",
            "hex length": b"Content-Length: 0x1d\r\n",
            "huge length": b"Content-Length: 99999999999999999999\r\n",
            "list of lengths": b"Content-Length: 29, 29\r\n",
            "space before the colon": b"Content-Length : 29\r\n",
            "other coding": b"Transfer-Encoding: gzip, chunked\r\n",
            "unknown coding": b"Transfer-Encoding: xchunked\r\n",
            "coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "folded coding": b"Transfer-Encoding:\r\n chunked, identity\r\n",
            "name with bytes": b"X\x01Y: 1\r\n" + length(),
            "value with control bytes": b"X: a\x02b\r\n" + length(),
            "NUL in a value": b"X: a\x00b\r\n" + length(),
            "NUL in a length": b"Content-Length: 29\x00\r\n",
        }.items():
            with self.subTest(name):
                self.refused(POST + host + head + b"\r\n" + BODY + SMUGGLED)
        with self.subTest("no Host"):
            self.refused(POST + length() + b"\r\n" + BODY + SMUGGLED)
        with self.subTest("two Hosts"):
            self.refused(POST + host + host + length() + b"\r\n" + BODY + SMUGGLED)

    def test_honest_forms_pass(self):
        auth = b"Host: x\r\nConnection: close\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
        chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        for data in (POST + auth + length() + b"\r\n" + BODY, POST + auth + chunked):
            self.assertTrue(raw(self.server.port, data, timeout=60).startswith(b"HTTP/1.1 200"), data)
        old = b"GET /health HTTP/1.0\r\n\r\n"
        self.assertIn(b" 200 ", raw(self.server.port, old).split(b"\r\n")[0])

    def test_nonsense(self):
        for data in (b"\r\n\r\n", b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
                     b"GET " + b"/" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100000 + b"\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 500,
                     POST + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n"):
            with self.subTest(data[:40]):
                out = raw(self.server.port, data, timeout=2)
                self.assertNotIn(b" 200 ", out[:20])
                self.assertEqual(call(self.server.url + "/health")[0], 200)

    def test_keep_alive_and_pipelining(self):
        one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        self.assertEqual(raw(self.server.port, one + one + last).count(b"HTTP/1.1 200"), 3)


    def test_pipelined_behind_a_slow_answer(self):
        auth = b"Host: x\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
        body = b'{"prompt":"a","max_tokens":200,"ignore_eos":true}'
        one = POST + auth + length(len(body)) + b"\r\n" + body
        out = raw(self.server.port, one * 3 + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  timeout=120)
        self.assertEqual(out.count(b"HTTP/1.1 200"), 4)


@unittest.skipIf(URL, "needs servers of its own")
class Clients(unittest.TestCase):
    def stats(self, server):
        return json.loads(call(server.url + "/stats")[2])

    def wait_cancelled(self, server, n):
        for _ in range(200):
            s = self.stats(server)
            if s["cancelled"] >= n and s["active"] == 0:
                return
            time.sleep(0.05)
        self.fail(f"still running: {s}")

    def start(self, server, **fields):
        body = json.dumps({"prompt": "a", "max_tokens": 4000, **fields}).encode()
        s = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        s.sendall(POST + b"Host: x\r\n" + length(len(body)) + b"\r\n" + body)
        return s

    def test_leaving_cancels(self):
        with Server("--pace-us", "2000") as server:
            for fields in ({"stream": True}, {}, {"stream": True, "n": 3}, {"prompt": ["a", "b"]}):
                before = self.stats(server)["cancelled"]
                s = self.start(server, **fields)
                if fields.get("stream"):
                    self.assertIn(b"200 OK", s.recv(1000))
                else:
                    time.sleep(0.1)
                self.assertGreater(self.stats(server)["active"], 0)
                s.close()
                self.wait_cancelled(server, before + 1)

    def test_slow_reader_is_dropped_and_others_go_on(self):
        with Server("--stream-backlog", "20000") as server:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            s.connect(("127.0.0.1", server.port))
            body = json.dumps({"prompt": "a", "max_tokens": 4000, "n": 100, "stream": True, "ignore_eos": True})
            s.sendall(POST + b"Host: x\r\n" + length(len(body)) + b"\r\n" + body.encode())
            self.wait_cancelled(server, 100)
            s.close()
            complete(server.url, prompt="b", max_tokens=5)

    def test_ping_on_silent_stream(self):
        with Server("--ping-s", "1", "--pace-us", "900000", "--idle-s", "2") as server:
            s = self.start(server, stream=True, max_tokens=3)
            seen = b""
            while b"[DONE]" not in seen:  # also: a stream outlives the idle limit
                chunk = s.recv(4096)
                self.assertTrue(chunk, seen)
                seen += chunk
            s.close()

    def test_idle_connections_end(self):
        with Server("--idle-s", "1") as server:
            for data in (b"", b"GET /health HT", POST + b"Host: x\r\nContent-Length: 100\r\n\r\n{"):
                start = time.monotonic()
                raw(server.port, data, timeout=20)
                self.assertLess(time.monotonic() - start, 15)

    def test_connection_limit(self):
        with Server("--connections", "8") as server:
            held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
            time.sleep(0.2)
            waits = socket.create_connection(("127.0.0.1", server.port))  # in the listen queue
            waits.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(select.select([waits], [], [], 0.5)[0], [])
            for s in held[:4]:
                s.close()
            self.assertIn(b"200 OK", waits.recv(1000))
            waits.close()
            for s in held:
                s.close()
            for _ in range(50):  # many times the limit, one after the other
                self.assertEqual(call(server.url + "/health")[0], 200)

    def test_too_large_body(self):
        with Server("--max-body", "1000") as server:
            out = raw(server.port, POST + b"Host: x\r\n" + length(2000) + b"\r\n" + b" " * 2000, timeout=5)
            self.assertIn(out[:12], (b"HTTP/1.1 413", b"HTTP/1.1 400", b""))
            self.assertEqual(call(server.url + "/health")[0], 200)

    def test_full_queue(self):
        with Server("--max-queue", "2", "--pace-us", "5000") as server:
            held = [self.start(server) for _ in range(2)]
            time.sleep(0.2)
            status, headers, body = call(server.url + "/v1/completions", {"prompt": "a"})
            self.assertEqual(status, 429)
            self.assertTrue(headers["Retry-After"])
            self.assertEqual(json.loads(body)["error"]["type"], "rate_limit_error")
            for s in held:
                s.close()
            self.wait_cancelled(server, 2)
            r = complete(server.url, prompt=["a", "b", "c", "d", "e"], max_tokens=3)  # more than the queue holds
            self.assertEqual(len(r["choices"]), 5)

    def test_keys(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as f:
            f.write("# keys\n\nalpha-1\nbeta-2\n")
            f.flush()
            with Server("--key", "gamma-3", "--key-file", f.name) as server:
                for key, want in (("alpha-1", 200), ("beta-2", 200), ("gamma-3", 200), ("alpha-", 401),
                                  ("alpha-1x", 401), ("", 401), ("x" * 5000, 401), ("# keys", 401)):
                    status, headers, body = call(server.url + "/v1/models", headers={"Authorization": f"Bearer {key}"})
                    self.assertEqual(status, want, key)
                    if want == 401:
                        self.assertEqual(json.loads(body)["error"]["code"], "invalid_api_key")
                        self.assertTrue(headers["WWW-Authenticate"])
                self.assertEqual(call(server.url + "/v1/models", headers={"Authorization": "Basic alpha-1"})[0], 401)
                self.assertEqual(call(server.url + "/health")[0], 200)
                out = raw(server.port, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertIn(b"401", out[:20])

    def test_not_ready(self):
        with Server("--not-ready") as server:
            status, _, body = call(server.url + "/health")
            self.assertEqual(status, 503)
            self.assertEqual(json.loads(body)["ready"], False)

    def test_half_characters(self):
        """A token that is half a character shows as bytes; the text never has halves."""
        with Server("--half-characters") as server:
            c = complete(server.url, prompt="a", max_tokens=6, logprobs=2)["choices"][0]
            self.assertEqual(c["logprobs"]["tokens"][:4], ["bytes:\\xe2", "bytes:\\x82", "bytes:\\xac", "!"])
            self.assertEqual(c["logprobs"]["text_offset"], [0, 0, 0, 1, 2, 2])
            self.assertEqual(c["text"].rstrip("\ufffd"), "\u20ac!")
            self.assertTrue(c["text"].endswith("\ufffd"))

    def test_idle_costs_nothing(self):
        with Server() as server:
            held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
            complete(server.url, prompt="a", max_tokens=5)
            before = server.cpu_seconds()
            time.sleep(2)
            self.assertLessEqual(server.cpu_seconds() - before, 0.01)
            for s in held:
                s.close()

    def test_many_streams_at_once(self):
        with Server("--pace-us", "1000") as server:
            want = complete(server.url, prompt="same", max_tokens=50, temperature=0)["choices"][0]["text"]
            texts = []

            def one():
                s = self.start(server, prompt="same", stream=True, max_tokens=50, temperature=0)
                data = b""
                while b"[DONE]" not in data:
                    data += s.recv(65536)
                s.close()
                lines = [l for l in data.split(b"\n") if l.startswith(b"data: {")]
                texts.append("".join(json.loads(l[6:])["choices"][0]["text"] for l in lines))

            threads = [threading.Thread(target=one) for _ in range(40)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(texts, [want] * 40)

    def test_framed_socket_file(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s")
            for _ in range(2):  # the second one finds nothing left over
                with Server("--listen", "unix:" + path):
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                    with self.assertRaises(RuntimeError):
                        Server("--listen", "unix:" + path)  # busy
                self.assertFalse(os.path.exists(path))
            with self.assertRaises(RuntimeError):
                Server("--listen", "unix:" + d)  # a directory


if __name__ == "__main__":
    main()
