"""A real 4-node Slurm: serve from a batch script, the engine from srun, and srun's silent trap."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from harness import BINARY, SOURCE, Serve, Skip, environment, free_port, run, tiny_model, wait_until

HERE = pathlib.Path(__file__).parent


def complete(port, n=16):
    import http.client

    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request("POST", "/v1/completions", json.dumps({"prompt": "The quick brown fox", "max_tokens": n,
                                                     "temperature": 0, "ignore_eos": True}),
              {"Content-Type": "application/json"})
    data = json.loads(c.getresponse().read())
    c.close()
    return data["choices"][0]["text"]


def healthy(port):
    import http.client

    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        c.request("GET", "/health")
        return c.getresponse().status == 200
    except OSError:
        return False


def reference():
    with Serve() as serve:
        text = serve.complete(n=16)["text"]
        serve.stop()
    return text


@contextlib.contextmanager
def serve_in_a_job(nodes):
    """`deploy/cordee.sbatch` with three stages; yields the HTTP port and the job's number."""
    port = free_port()
    folder = os.environ["CORDEE_SLURM_DIR"]
    job = subprocess.run(["sbatch", "--parsable", "-N", str(nodes), "-n", str(nodes + 1), "-o", f"{folder}/job.log",
                          SOURCE / "deploy" / "cordee.sbatch", "--model", tiny_model(), "--workers", "3", "--threads",
                          "1", "--http", f"127.0.0.1:{port}"], env=environment({"CORDEE": BINARY}),
                         capture_output=True, text=True, check=True).stdout.strip()
    try:
        wait_until("serve in the job", 60, lambda: healthy(port))
        yield port, job
    except BaseException:
        print(open(f"{folder}/job.log").read()[-4000:], file=sys.stderr)
        raise
    finally:
        subprocess.run(["scancel", job], check=False)
        wait_until("the job is gone", 30, lambda: not subprocess.run(
            ["squeue", "-h", "-j", job], capture_output=True, text=True).stdout.strip())


def batch_script_serves(want):
    with serve_in_a_job(3) as (port, job):
        assert complete(port) == want
        where = subprocess.run(["squeue", "-h", "-s", "-j", job, "-o", "%j %N"], capture_output=True, text=True).stdout
        assert "hydra_pmi_proxy" in where, f"the ranks are not a Slurm step: {where}"


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as r:
        return json.load(r)


def read_lists(pid):
    """Command line and environment."""
    return [pathlib.Path(f"/proc/{pid}/{x}").read_bytes().split(b"\0") for x in ("cmdline", "environ")]


def children(pid):
    return [int(c) for c in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_of(node):
    """Its slurmd, the present step's proxy there and its ranks (who think they are on the batch host)."""
    conf = f"SLURM_CONF={os.environ['SLURM_CONF']}".encode()
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            command, environ = read_lists(pid)
            if conf not in environ:
                continue
            if command[0] == b"slurmd" and node.encode() in command:
                found.append(pid)
            elif b"hydra_pmi_proxy" in command[0] and f"SLURM_TOPOLOGY_ADDR={node}".encode() in environ:
                found += [pid, *children(pid)]
    return found


def a_node_of_the_job_dies(want):
    """It just stops; the fourth node of the allocation takes its place."""
    with serve_in_a_job(4) as (port, _):
        assert [s["host"] for s in get(port, "/stats")["stage"]] == ["n0", "n1", "n2"]
        victims = processes_of("n1")
        assert len(victims) >= 3, "slurmd, proxy and rank"
        try:
            for pid in victims:
                os.kill(pid, signal.SIGSTOP)
            assert complete(port) == want
            wait_until("the spare", 30, lambda: healthy(port) and [s["host"] for s in get(port, "/stats")["stage"]] ==
                       ["n0", "n2", "n3"])
            assert complete(port) == want
            assert get(port, "/health")["hosts"][1]["state"] != "ok"
        finally:
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def srun_engine_answers(want):
    port, http = free_port(), free_port()
    engine = subprocess.Popen(["srun", "--mpi=pmi2", "-N", "3", "-n", "4", BINARY, "engine", "--model", tiny_model(),
                               "--workers", "3", "--threads", "1", "--listen", f"127.0.0.1:{port}"],
                              env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)

    def listening():
        assert engine.poll() is None, engine.stdout.read()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until("the engine's framed address", 60, listening)
        front = subprocess.Popen([BINARY, "serve", "--model", tiny_model(), "--connect", f"127.0.0.1:{port}",
                                  "--http", f"127.0.0.1:{http}"], env=environment(), stdin=subprocess.DEVNULL)
        try:
            wait_until("serve --connect", 30, lambda: healthy(http))
            assert complete(http) == want
        finally:
            front.terminate()
            front.wait(20)
    finally:
        engine.terminate()
        try:
            engine.wait(20)
        except subprocess.TimeoutExpired:
            engine.kill()


def srun_without_mpi_says_so():
    started = time.monotonic()
    p = subprocess.run(["srun", "--mpi=none", "-N", "2", "-n", "3", BINARY, "engine", "--model", tiny_model(),
                        "--workers", "2"], env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=60)
    assert p.returncode != 0, "a world of one process each went unnoticed"
    assert "--mpi=pmi2" in p.stderr, p.stderr
    assert time.monotonic() - started < 30


def inside():
    want = reference()
    batch_script_serves(want)
    a_node_of_the_job_dies(want)
    srun_engine_answers(want)
    srun_without_mpi_says_so()


def four_nodes():
    if not all(shutil.which(x) for x in ("slurmctld", "slurmd", "srun", "munged")):
        raise Skip("needs slurmctld, slurmd, slurm-client, munge")
    tiny_model()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a unix socket's path must be short
        result = subprocess.run([HERE / "slurm_session.sh", folder, sys.executable, __file__, "inside"],
                                env=dict(os.environ, CORDEE_SLURM_DIR=folder, CORDEE_SOURCE=str(SOURCE)), timeout=400)
        assert result.returncode == 0, "see above"


if __name__ == "__main__":
    run(inside) if sys.argv[1:] == ["inside"] else run(four_nodes)
