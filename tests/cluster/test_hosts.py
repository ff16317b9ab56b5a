"""Hosts that die and stay dead, on one machine: a launcher that hangs or fails, a host that falls silent."""
import contextlib
import os
import pathlib
import signal
import tempfile
import threading

from harness import Serve, ours, run, undisturbed, wait_until

SCRIPT = pathlib.Path(__file__).parent / "hosts.sh"
N = 160  # tokens of a stream: it must last longer than what is buffered on its way


class Site:
    """Hosts h0.. of one machine, of which some can be broken; a `cordee serve` on them."""

    def __init__(self, hosts, broken="", node="", **options):
        self.folder = tempfile.TemporaryDirectory()
        self.list = pathlib.Path(self.folder.name) / "broken"
        self.list.write_text(broken)
        self.config = os.path.join(self.folder.name, "cluster.yaml")
        with open(self.config, "w") as f:
            f.write(f"launcher: command\nlauncher_exec: {SCRIPT}\nnetwork: {{ucx_tls: \"tcp,self\"}}\nnodes:\n")
            f.writelines(f"  - {{host: h{i}{node}}}\n" for i in range(hosts))
            f.writelines(f"{key}: {value}\n" for key, value in options.items())

    def serve(self, **more):
        return Serve(args=["--config", self.config], env={"CORDEE_BROKEN": str(self.list)}, **more)

    def break_host(self, host, pids=None):
        """It stops where it is and cannot be reached any more."""
        self.list.write_text(f"{host} hang\n")
        for pid in pids or on_host(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def mend(self):
        self.list.write_text("")


def on_host(host):
    found = []
    for pid in ours():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as f:
            if f"CORDEE_ON={host}".encode() in f.read().split(b"\0"):
                found.append(pid)
    return found


def launchers_left():
    return [c for c in ours().values() if c.startswith("sleep 600")]


def a_launcher_hangs():
    want = undisturbed(N)
    site = Site(4, "h1 hang\n", register_timeout_s=1, host_retry_s=600)
    with site.serve() as serve:
        assert serve.stage_hosts() == ["h0", "h2", "h3"]
        assert serve.host_states() == ["ok", "out", "ok", "ok"]
        assert not launchers_left(), "the launcher of the dead host lives on"
        assert serve.stream(n=N) == want
        assert serve.stop() == 0


def a_launcher_fails():
    """... and is not waited for: mpiexec does not notice, we do."""
    site = Site(3, "h0 fail\n", register_timeout_s=600)
    with site.serve(ready_s=60) as serve:
        assert serve.stage_hosts() == ["h1", "h2"]
        wait_until("the probe fails, too", 20, lambda: serve.host_states()[0] == "out")
        assert serve.stop() == 0


def a_host_falls_silent(hosts, used):
    want = undisturbed(N)
    site = Site(hosts, register_timeout_s=4, host_retry_s=600)
    with site.serve() as serve:

        pids = on_host("h1")  # looking for them takes longer than a stream

        def strike(i, s):
            if i == 10:
                site.break_host("h1", pids)

        assert serve.stream(n=N, on_event=strike) == want
        assert serve.stage_hosts() == used
        wait_until("its probe is over", 20, lambda: serve.host_states()[1] == "out" and not launchers_left())
        assert serve.stop() == 0


def silent_with_a_spare():
    a_host_falls_silent(4, ["h0", "h2", "h3"])


def silent_without_a_spare():
    a_host_falls_silent(3, ["h0", "h2"])


def what_does_not_fit_is_held():
    """Two hosts are too small for the model: requests wait until the third one is back."""
    want = undisturbed(N)
    site = Site(3, node=MEMORY, register_timeout_s=2, host_retry_s=1, kv_memory=KV)
    with site.serve() as serve:
        got = []
        site.break_host("h1")
        said = wait_until("the refusal", 30, lambda: (h := serve.health())["status"] == "held" and h)
        assert not said["ready"] and "GiB needed" in said["detail"] and "h1" in said["detail"], said
        request = threading.Thread(target=lambda: got.append(serve.stream(n=N)))
        request.start()
        site.mend()
        request.join(60)
        assert got == [want]
        assert serve.stage_hosts() == ["h0", "h1", "h2"]
        assert serve.stop() == 0


MEMORY, KV = ", memory: 50MiB", "96MiB"

if __name__ == "__main__":
    run(a_launcher_hangs, a_launcher_fails, silent_with_a_spare, silent_without_a_spare,
        what_does_not_fit_is_held)
