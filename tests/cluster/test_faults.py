"""Kill anything at any moment: clients see a pause and the same text; nothing is left behind."""
import os
import signal
import socket
import subprocess
import time

from harness import BINARY, Serve, environment, kill_ours, ours, run, tiny_model, undisturbed, wait_until

N = 48


def interrupted(victim, sig=signal.SIGKILL, at=10):
    """Kills victim(serve) after `at` events of a stream and checks the whole text."""
    want = undisturbed(N)
    done = []

    def strike(i, serve):
        if i == at and not done:
            done.append(True)
            for pid in victim(serve):
                os.kill(pid, sig)

    with Serve() as serve:
        before = set(serve.ranks())
        assert serve.stream(n=N, on_event=strike) == want
        assert done, "the stream was shorter than the moment of the fault"
        assert serve.stream(n=N) == want
        assert not before & set(serve.ranks()), "the old epoch's ranks live on"
        assert serve.stop() == 0


def rank_0_dies():
    interrupted(lambda s: [s.ranks()[0]])


def first_stage_dies():
    interrupted(lambda s: [s.ranks()[1]])


def last_stage_dies():
    interrupted(lambda s: [s.ranks()[-1]])


def a_stage_falls_silent():
    interrupted(lambda s: [s.ranks()[2]], signal.SIGSTOP)


def mpiexec_dies():
    interrupted(lambda s: s.named("mpiexec.hydra"))


def the_proxy_dies():
    interrupted(lambda s: s.named("hydra_pmi_proxy"))


def several_streams_survive():
    import threading

    prompts = [f"Story number {i} begins" for i in range(6)]
    with Serve() as serve:
        want = [serve.stream(prompt=p, n=N) for p in prompts]
        got = [None] * len(prompts)

        def one(i):
            got[i] = serve.stream(prompt=prompts[i], n=N, temperature=0)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(prompts))]
        for t in threads:
            t.start()
        time.sleep(0.05)
        os.kill(serve.ranks()[2], signal.SIGKILL)
        for t in threads:
            t.join()
        assert got == want


def sampling_survives():
    args = dict(n=N, temperature=1.0, seed=7, top_p=0.95)
    with Serve() as serve:
        want = serve.stream(**args)

        def strike(i, s):
            if i == 12:
                os.kill(s.ranks()[1], signal.SIGKILL)

        assert serve.stream(on_event=strike, **args) == want


def serve_dies():
    with Serve() as serve:
        assert len(serve.ranks()) == 4
        serve.process.kill()
        serve.process.wait()
        wait_until("no process is left", 5, lambda: not ours())
    with Serve() as serve:  # and the next start works
        assert serve.complete(n=4)["finish_reason"] == "length"


def a_client_leaves():
    with Serve() as serve:
        c = socket.create_connection(("127.0.0.1", serve.port))
        body = b'{"prompt": "a", "max_tokens": 2000, "ignore_eos": true, "stream": true}'
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        assert c.recv(4096)
        c.close()
        wait_until("the request is cancelled", 10, lambda: serve.stats().get("active", 0) == 0)
        assert serve.complete(n=4)["finish_reason"] == "length"
        assert serve.stop() == 0


def term_ends_it_cleanly():
    for sig in (signal.SIGTERM, signal.SIGINT):
        with Serve() as serve:
            serve.process.send_signal(sig)
            assert serve.process.wait(20) == 0
            wait_until("no process is left", 5, lambda: not ours())


def engine_without_serve_leaves_no_orphan():
    model = tiny_model()
    p = subprocess.Popen(["mpiexec.hydra", "-n", "3", BINARY, "engine", "--model", model, "--workers", "2",
                          "--threads", "1"], env=environment(), stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until("ranks", 20, lambda: sum(" engine" in c for c in ours().values()) >= 3)
        time.sleep(0.5)
        p.kill()
        p.wait()
        wait_until("no process is left", 5, lambda: not ours())
    finally:
        p.kill()
        kill_ours()


if __name__ == "__main__":
    run(rank_0_dies, first_stage_dies, last_stage_dies, a_stage_falls_silent, mpiexec_dies, the_proxy_dies,
        several_streams_survive, sampling_survives, serve_dies, a_client_leaves, term_ends_it_cleanly,
        engine_without_serve_leaves_no_orphan)
