"""A real 4-node Slurm: serve from a batch script, the engine from srun, and srun's silent trap."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

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


def batch_script_serves(want):
    port = free_port()
    folder = os.environ["CORDEE_SLURM_DIR"]
    job = subprocess.run(["sbatch", "--parsable", "-N", "3", "-n", "4", "-o", f"{folder}/job.log",
                          SOURCE / "deploy" / "cordee.sbatch", "--model", tiny_model(), "--workers", "3", "--threads",
                          "1", "--http", f"127.0.0.1:{port}"], env=environment({"CORDEE": BINARY}),
                         capture_output=True, text=True, check=True).stdout.strip()
    try:
        wait_until("serve in the job", 60, lambda: healthy(port))
        assert complete(port) == want
        where = subprocess.run(["squeue", "-h", "-s", "-j", job, "-o", "%j %N"], capture_output=True, text=True).stdout
        assert "hydra_pmi_proxy" in where, f"the ranks are not a Slurm step: {where}"
    except BaseException:
        print(open(f"{folder}/job.log").read()[-4000:], file=sys.stderr)
        raise
    finally:
        subprocess.run(["scancel", job], check=False)
        wait_until("the job is gone", 30, lambda: not subprocess.run(
            ["squeue", "-h", "-j", job], capture_output=True, text=True).stdout.strip())


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
