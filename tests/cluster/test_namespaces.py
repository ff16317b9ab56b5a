"""Three hosts joined by nothing but a network: launch, traffic on the wire, a cable pulled."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from harness import SOURCE, Serve, Skip, run, tiny_model

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "namespaces.sh"
PREFIX = f"cd{os.getpid() % 100000}n"


def config(folder, hosts=3):
    nodes = "".join(f"  - {{host: 10.77.0.{i + 1}}}\n" for i in range(hosts))
    path = os.path.join(folder, "cluster.yaml")
    with open(path, "w") as f:
        f.write(f"launcher: command\nlauncher_exec: {SCRIPT}\nnodes:\n{nodes}"
                "network: {address: 10.77.0.254, ucx_tls: \"tcp,self\"}\n")
    return path


def sent_bytes(prefix, host):
    out = subprocess.run(["ip", "netns", "exec", f"{prefix}{host}", "cat", "/sys/class/net/eth0/statistics/tx_bytes"],
                         capture_output=True, text=True, check=True).stdout
    return int(out)


def inside():
    """Runs on the head: a client, serve, and mpiexec that reaches the hosts by the site's command."""
    prefix = os.environ["CORDEE_NAMESPACES"]
    with Serve() as serve:  # the head alone: the reference
        want = serve.stream(n=32)
        serve.stop()
    with tempfile.TemporaryDirectory() as folder:
        with Serve(args=["--config", config(folder)], ready_s=60) as serve:
            before = [sent_bytes(prefix, i) for i in range(3)]
            assert serve.stream(n=32) == want, "other bits over the network"
            for i in range(3):
                moved = sent_bytes(prefix, i) - before[i]
                assert moved > 4000, f"host {i} sent {moved} bytes: shared memory was used?"
            cut = []

            def pull(i, s):
                if i == 8 and not cut:
                    cut.append(time.monotonic())
                    subprocess.run(["ip", "-n", f"{prefix}sw", "link", "set", "p1", "down"], check=True)
                    time.sleep(1.5)  # the silence is noticed; then the cable is back
                    subprocess.run(["ip", "-n", f"{prefix}sw", "link", "set", "p1", "up"], check=True)

            assert serve.stream(n=32, on_event=pull) == want
            assert serve.stop() == 0


def three_hosts():
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise Skip("needs root and iproute2")
    tiny_model()
    up = subprocess.run([SCRIPT, "up", PREFIX, "3"], capture_output=True, text=True)
    try:
        if up.returncode != 0:
            raise Skip(f"no network namespaces here: {up.stderr.strip()}")
        result = subprocess.run(["ip", "netns", "exec", PREFIX + "h", sys.executable, __file__, "inside"],
                                env=dict(os.environ, CORDEE_NAMESPACES=PREFIX, CORDEE_SOURCE=str(SOURCE)), timeout=300)
        assert result.returncode == 0, "see above"
    finally:
        subprocess.run([SCRIPT, "down", PREFIX], check=False)


if __name__ == "__main__":
    run(inside) if sys.argv[1:] == ["inside"] else run(three_hosts)
