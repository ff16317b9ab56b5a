"""Hosts joined by nothing but a network: launch, traffic on the wire, cables pulled, for a moment and for good."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import test_batch
from harness import SOURCE, Serve, Skip, kill_ours, run, tiny_model, undisturbed, wait_until

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "namespaces.sh"
PREFIX = f"cd{os.getpid() % 100000}n"
HOSTS = 4
N = 48  # tokens of a stream
LINES = 240


def config(folder, hosts, **more):
    nodes = "".join(f"  - {{host: 10.77.0.{i + 1}}}\n" for i in range(hosts))
    path = os.path.join(folder, "cluster.yaml")
    with open(path, "w") as f:
        f.write(f"launcher: command\nlauncher_exec: {SCRIPT}\nnodes:\n{nodes}"
                "network: {address: 10.77.0.254, ucx_tls: \"tcp,self\"}\n")
        for key, value in more.items():
            f.write(f"{key}: {value}\n")
    return path


def prefix():
    return os.environ["CORDEE_NAMESPACES"]


def sent_bytes(host):
    out = subprocess.run(["ip", "netns", "exec", f"{prefix()}{host}", "cat", "/sys/class/net/eth0/statistics/tx_bytes"],
                         capture_output=True, text=True, check=True).stdout
    return int(out)


def cable(host, state):
    """Takes the host off the switch, or puts it back: nobody is told, packets just do not arrive."""
    subprocess.run(["ip", "-n", f"{prefix()}sw", "link", "set", f"p{host}", state], check=True)


def mend(*hosts):
    """Puts hosts back, and makes all forget that they could not be found: the next test starts at once."""
    for host in hosts:
        cable(host, "up")
    for name in [*range(HOSTS), "h"]:
        subprocess.run(["ip", "-n", f"{prefix()}{name}", "neigh", "flush", "all"], check=True)


class Cut:
    """on_event of a stream: pulls a cable once and measures until the next token."""

    def __init__(self, host, at=8, back_after=None):
        self.host, self.at, self.back_after = host, at, back_after
        self.cut = self.next = None

    def __call__(self, i, serve):
        if self.cut and not self.next and time.monotonic() - self.cut > 0.3:  # not what was on its way
            self.next = time.monotonic()
        if i == self.at and not self.cut:
            cable(self.host, "down")
            self.cut = time.monotonic()
            if self.back_after:
                time.sleep(self.back_after)
                cable(self.host, "up")

    def report(self, what):
        assert self.next, "the stream was over before the cut was felt"
        print(f"  {what}: {self.next - self.cut:.2f} s from the cut to the next token", flush=True)


def a_cable_comes_back():
    want = undisturbed(N)
    with tempfile.TemporaryDirectory() as folder:
        with Serve(args=["--config", config(folder, 3)]) as serve:
            before = [sent_bytes(i) for i in range(3)]
            assert serve.stream(n=N) == want, "other bits over the network"
            for i in range(3):
                moved = sent_bytes(i) - before[i]
                assert moved > 4000, f"host {i} sent {moved} bytes: shared memory was used?"
            cut = Cut(1, back_after=1.5)
            assert serve.stream(n=N, on_event=cut) == want
            assert serve.stop() == 0


def a_spare_takes_over():
    """Rank 0's host is gone for good, then a stage's: the second one finds no spare left."""
    want = undisturbed(N)
    with tempfile.TemporaryDirectory() as folder:
        with Serve(args=["--config", config(folder, HOSTS)]) as serve:
            cut = Cut(0)
            assert serve.stream(n=N, on_event=cut) == want
            cut.report("rank 0's host, with a spare")
            assert len(serve.stage_hosts()) == 3, "the spare is not used"
            assert serve.host_states()[0] != "ok" and serve.host_states()[1:] == ["ok"] * 3
            cut = Cut(2)
            assert serve.stream(n=N, on_event=cut) == want
            cut.report("a stage's host, without a spare")
            assert len(serve.stage_hosts()) == 2
            metrics = serve.get("/metrics")[1].decode()
            assert 'cordee_host_used{host="10.77.0.3"} 0' in metrics, metrics
            assert serve.stop() == 0
        mend(0, 2)


def a_batch_goes_on():
    """With a spare and without: the output is that of an undisturbed run, to the byte."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "in.jsonl"
        with open(source, "w") as f:
            for i in range(LINES):
                f.write(json.dumps(test_batch.request(i, n=24)) + "\n")
        test_batch.run(source, folder / "whole", "--ordered", workers=3)
        want = (folder / "whole").read_bytes()
        assert want.count(b"\n") == LINES
        for hosts, used in ((4, 3), (3, 2)):
            out = folder / f"torn{hosts}"
            journal = pathlib.Path(f"{out}.journal")
            process = test_batch.start(source, out, "--ordered", "--config", config(folder, hosts), "--log-level",
                                       "info", workers=3)
            wait_until("the journal grows", 60, lambda: process.poll() is not None or (
                journal.exists() and journal.stat().st_size > 20000))
            cable(1, "down")
            text = test_batch.finish(process)
            mend(1)
            assert out.read_bytes() == want, "other bytes"
            assert f"epoch 2: {used} stages launched" in text, text
            print("  batch:", re.search(r"ready, .* was lost", text)[0], flush=True)


def a_host_is_dead_at_the_start():
    want = undisturbed(N)
    with tempfile.TemporaryDirectory() as folder:
        cable(1, "down")
        options = dict(register_timeout_s=2, host_retry_s=1)
        with Serve(args=["--config", config(folder, 3, **options)]) as serve:
            assert serve.stream(n=N) == want
            assert len(serve.stage_hosts()) == 2 and serve.host_states() == ["ok", "out", "ok"]
            cable(1, "up")  # and an idle pipeline takes it in again
            wait_until("three stages", 40, lambda: serve.host_states() == ["ok"] * 3 and serve.health()["ready"] and
                       len(serve.stage_hosts()) == 3)
            assert serve.stream(n=N) == want
            assert serve.stop() == 0


INSIDE = (a_cable_comes_back, a_spare_takes_over, a_batch_goes_on, a_host_is_dead_at_the_start)


def four_hosts():
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise Skip("needs root and iproute2")
    tiny_model()
    up = subprocess.run([SCRIPT, "up", PREFIX, str(HOSTS)], capture_output=True, text=True)
    try:
        if up.returncode != 0:
            raise Skip(f"no network namespaces here: {up.stderr.strip()}")
        result = subprocess.run(["ip", "netns", "exec", PREFIX + "h", sys.executable, __file__, "inside", *sys.argv[1:]],
                                env=dict(os.environ, CORDEE_NAMESPACES=PREFIX, CORDEE_SOURCE=str(SOURCE)), timeout=300)
        assert result.returncode == 0, "see above"
    finally:
        kill_ours()
        subprocess.run([SCRIPT, "down", PREFIX], check=False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        run(*[t for t in INSIDE if not sys.argv[2:] or t.__name__ in sys.argv[2:]])
    else:
        run(four_hosts)
