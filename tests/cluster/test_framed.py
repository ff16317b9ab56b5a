"""The framed API through a real cluster, with Python's own protobuf and nothing of ours but the .proto."""
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

from harness import SOURCE, Serve, Skip, run

try:
    from google.protobuf.internal.decoder import _DecodeVarint32
    from google.protobuf.internal.encoder import _VarintBytes
except ImportError:
    _DecodeVarint32 = None


def schema(folder):
    if not _DecodeVarint32:
        raise Skip("needs the Python package protobuf")
    subprocess.run(["protoc", f"--proto_path={SOURCE}", f"--python_out={folder}", "proto/cordee.proto"], check=True)
    sys.path.insert(0, folder)
    from proto import cordee_pb2
    return cordee_pb2


class Client:
    def __init__(self, pb, path):
        self.pb, self.rest = pb, b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)

    def send(self, envelope):
        body = envelope.SerializeToString()
        self.socket.sendall(_VarintBytes(len(body)) + body)

    def receive(self):
        while True:
            try:
                n, at = _DecodeVarint32(self.rest, 0)
                if len(self.rest) >= at + n:
                    envelope = self.pb.Envelope()
                    envelope.ParseFromString(self.rest[at:at + n])
                    self.rest = self.rest[at + n:]
                    return envelope
            except IndexError:
                pass
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self.rest += more

    def ask(self, number, fill):
        envelope = self.pb.Envelope(id=number)
        fill(envelope)
        self.send(envelope)
        return self.receive()

    def generate(self, number, **fields):
        """(text, last message)"""
        envelope = self.pb.Envelope(id=number)
        sampling = fields.pop("sampling", {})
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(envelope.generate, name).extend(value)
            else:
                setattr(envelope.generate, name, value)
        for name, value in sampling.items():
            setattr(envelope.generate.sampling, name, value)
        self.send(envelope)
        text = b""
        while True:
            message = self.receive()
            assert message.id == number
            if message.WhichOneof("body") != "tokens":
                return text + message.finished.text, message
            text += b"".join(t.text for t in message.tokens.token)


def conversation(pb, serve, path):
    c = Client(pb, path)
    assert c.ask(1, lambda e: e.health_query.SetInParent()).health.ready
    model = c.ask(2, lambda e: e.models_query.SetInParent()).models.model[0]
    assert model.vocab > 0 and model.fingerprint
    ids = c.ask(3, lambda e: setattr(e.tokenize, "text", b"hello world")).ids
    assert len(ids.ids) == len(ids.pieces) > 0
    text = c.ask(4, lambda e: e.detokenize.ids.extend(ids.ids)).text.text
    assert text.strip() == b"hello world", text

    greedy = {"sampling": {"temperature": 0}, "ignore_eos": True}
    got, last = c.generate(5, text=b"The quick", max_tokens=8, **greedy)
    assert last.finished.generated_tokens == 8
    assert got.decode() == serve.complete(prompt="The quick", n=8)["text"]
    # What was generated before an interruption goes on as if there had been none.
    whole, _ = c.generate(6, ids=[1, 2, 3], max_tokens=12, **greedy)
    first = serve.complete(prompt=[1, 2, 3], n=5, return_token_ids=True)["token_ids"]
    _, last = c.generate(7, ids=[1, 2, 3], max_tokens=12, resume=first, no_text=True, **greedy)
    assert last.finished.generated_tokens == 12 and whole, last

    long = pb.Envelope(id=8)
    long.generate.ids.extend([1, 2, 3])
    long.generate.max_tokens = 100000
    long.generate.ignore_eos = True
    c.send(long)
    assert c.receive().WhichOneof("body") == "tokens"
    cancel = pb.Envelope(id=8)
    cancel.cancel.SetInParent()
    c.send(cancel)
    while (message := c.receive()).WhichOneof("body") == "tokens":
        pass
    assert message.finished.reason == pb.CANCELLED, message

    refused, message = c.generate(9, ids=[1] * 100000, max_tokens=1)
    assert message.WhichOneof("body") == "failed" and "100000" in message.failed.reason, message
    c.socket.sendall(b"\xff\xff\xff\xff\xff\xff")  # no length: this client is cut off, the others live
    try:
        c.receive()
        raise AssertionError("a broken frame was answered")
    except (EOFError, ConnectionError):
        pass
    assert Client(pb, path).ask(1, lambda e: e.health_query.SetInParent()).health.ready


def framed_api():
    with tempfile.TemporaryDirectory() as folder:
        pb = schema(folder)
        path = os.path.join(folder, "api.sock")
        with Serve(workers=2, args=["--listen", f"unix:{path}"]) as serve:
            conversation(pb, serve, path)
            assert pathlib.Path(path).stat().st_mode & 0o077 == 0, "others may open the socket"
            assert serve.stop() == 0


if __name__ == "__main__":
    run(framed_api)
