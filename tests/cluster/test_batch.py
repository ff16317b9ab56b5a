"""cordee batch: nothing is lost, nothing is repeated, the bytes are always the same.

CORDEE_SOAK=1 runs the long form: 10,000 lines and ten kills instead of 1,500 and four.
"""
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

import harness

LONG = bool(os.environ.get("CORDEE_SOAK"))
LINES, KILLS = (10000, 10) if LONG else (1500, 4)


def request(i, n=12):
    body = {"prompt": f"Line {i}: the quick brown fox", "max_tokens": n, "ignore_eos": True}
    if i % 3 == 0:
        body.update(temperature=0.9)
    elif i % 3 == 1:
        body.update(temperature=0, logprobs=2, echo=i % 2 == 0)
    else:
        body.update(temperature=0.7, seed=i, n=2)
    return {"custom_id": f"line {i}", "method": "POST", "url": "/v1/completions", "body": body}


def write_lines(path, n=LINES):
    with open(path, "w") as f:
        for i in range(n):
            if i % 500 == 7:
                f.write('{"custom_id": "broken %d", \n' % i)
            elif i % 500 == 11:
                f.write(json.dumps({**request(i), "url": "/v1/nothing"}) + "\n")
            elif i % 500 == 13:
                f.write(json.dumps({**request(i), "body": {"prompt": "x " * 4000}}) + "\n")
            else:
                f.write(json.dumps(request(i)) + "\n")


def command(source, out, *args, workers=2):
    return [harness.BINARY, "batch", "--model", harness.tiny_model(), "--workers", str(workers), "--threads", "1",
            "-i", str(source), "-o", str(out), *args]


def start(*args, **more):
    return subprocess.Popen(command(*args, **more), env=harness.environment(), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process, expected=0, seconds=300):
    text = process.communicate(timeout=seconds)[1].decode()
    assert process.returncode == expected, f"exit {process.returncode}, expected {expected}: {text}"
    return text


def run(*args, expected=0, **more):
    return finish(start(*args, **more), expected)


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="cordee-batch-") as name:
        yield pathlib.Path(name)


def both(out):
    return out.read_bytes(), pathlib.Path(f"{out}.errors").read_bytes()


def kill_in_the_middle(source, out, kills, rng, *args):
    """Kills runs at random moments until `kills` of them died at work."""
    journal = pathlib.Path(f"{out}.journal")
    died = 0
    for _ in range(kills * 5):
        if died == kills:
            return died
        before = journal.stat().st_size if journal.exists() else 0
        process = start(source, out, *args, workers=rng.choice((1, 2, 3)))
        harness.wait_until("the journal grows", 60, lambda: process.poll() is not None or (
            journal.exists() and journal.stat().st_size > before + 200))
        time.sleep(rng.uniform(0, 0.25))
        process.kill()
        process.communicate()
        died += process.returncode == -signal.SIGKILL
    return died


def killed_at_random_moments():
    rng = random.Random(20240229)
    with folder() as d:
        source = d / "in.jsonl"
        write_lines(source)
        run(source, d / "whole", "--ordered")
        expected = both(d / "whole")
        names = [json.loads(line)["custom_id"] for line in expected[0].splitlines()]
        assert len(set(names)) == len(names), "a custom_id twice"
        assert len(names) + expected[1].count(b"\n") == LINES
        assert expected[1].count(b'"custom_id":null') == LINES // 500

        died = kill_in_the_middle(source, d / "torn", KILLS, rng, "--ordered", "--window", "16")
        with open(d / "torn.journal", "ab") as f:  # as if the machine had died in the middle of a record
            f.write(b"CRL1\x02\0\0\0half a record")
        run(source, d / "torn", "--ordered", workers=3)
        assert both(d / "torn") == expected, "the ordered run that was killed differs"

        died += kill_in_the_middle(source, d / "loose", KILLS, rng, "--window", "16")
        with open(d / "loose", "ab") as f:
            f.write(b'{"id": "half a li')
        run(source, d / "loose", workers=1)
        for got, want in zip(both(d / "loose"), expected):
            assert sorted(got.splitlines()) == sorted(want.splitlines()), "the unordered run that was killed differs"
        assert died >= KILLS, f"only {died} runs were killed at work"
        before = both(d / "loose")
        run(source, d / "loose")  # nothing is left to do
        assert both(d / "loose") == before


def stopped_by_signals():
    with folder() as d:
        source = d / "in.jsonl"
        write_lines(source)
        run(source, d / "whole", "--ordered")
        journal = d / "part.journal"
        for number in (signal.SIGTERM, signal.SIGUSR1):
            before = journal.stat().st_size if journal.exists() else 0
            process = start(source, d / "part", "--ordered", "--window", "4")
            harness.wait_until("the journal grows", 60, lambda: journal.exists() and
                               journal.stat().st_size > before + 2000)
            process.send_signal(number)
            text = finish(process, 75, seconds=30)
            assert "the same command goes on" in text, text
            harness.wait_until("no process is left", 5, lambda: not harness.ours())
        run(source, d / "part", "--ordered", workers=3)
        assert both(d / "part") == both(d / "whole")
        report = json.loads((d / "part.report.json").read_text())
        assert report["sessions"] == 3 and report["items"] == LINES, report
        assert report["wall_hours"]["basis"] == "measured" and report["cost"] is None, report


def a_rank_dies():
    with folder() as d:
        source = d / "in.jsonl"
        write_lines(source)
        run(source, d / "whole", "--ordered", workers=1)
        process = start(source, d / "hurt", "--ordered", "--window", "8", workers=3)
        harness.wait_until("the journal grows", 60, lambda: (d / "hurt.journal").exists() and
                           (d / "hurt.journal").stat().st_size > 2000)
        ranks = [pid for pid, line in harness.ours().items() if " engine" in line]
        os.kill(max(ranks), signal.SIGKILL)
        finish(process)
        assert both(d / "hurt") == both(d / "whole")


def refusals():
    with folder() as d:
        source = d / "in.jsonl"
        write_lines(source, 40)
        run(source, d / "out")
        changed = d / "changed.jsonl"
        changed.write_text(source.read_text().replace("quick brown", "quick red"))
        text = run(changed, d / "out", expected=2)
        assert "input_sha256" in text and "model" not in text.replace("--model", ""), text
        text = run(source, d / "out", "--precision", "exact", expected=2)
        assert "precision" in text, text

        twice = d / "twice.jsonl"
        twice.write_text("\n".join(json.dumps(request(i % 5)) for i in range(8)) + "\n")
        text = run(twice, d / "never", expected=2)
        assert "lines 1 and 6" in text and not (d / "never").exists(), text

        (d / "mine").write_text("precious\n")
        text = run(source, d / "mine", expected=2)
        assert "move it away" in text and (d / "mine").read_text() == "precious\n", text

        write_lines(source, LINES)
        process = start(source, d / "busy", "--window", "1")
        harness.wait_until("the journal grows", 60, lambda: (d / "busy.journal").exists() and
                           (d / "busy.journal").stat().st_size > 500)
        text = run(source, d / "busy", expected=1)
        assert "another process" in text, text
        process.terminate()
        finish(process, 75)


def disk_full():
    with folder() as d:
        source, small = d / "in.jsonl", d / "small"
        write_lines(source, 400)
        run(source, d / "whole", "--ordered")
        small.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", small],
                                               stderr=subprocess.DEVNULL).returncode:
            raise harness.Skip("cannot mount a small file system")
        try:
            text = run(source, small / "out", "--ordered", expected=1)
            assert "ENOSPC" in text and "run the same command again" in text, text
            subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
            run(source, small / "out", "--ordered")
            assert both(small / "out") == both(d / "whole")
        finally:
            subprocess.run(["umount", small], check=True)


def memory_is_flat():
    """Ten times the lines, nearly the same peak: only some bytes a line are kept."""
    def peak(d, n):
        source = d / f"{n}.jsonl"
        with open(source, "w") as f:
            for i in range(n):
                f.write(json.dumps(request(3 * i, n=1)) + "\n")
        process = start(source, d / f"{n}.out")
        most = 0
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as f:
                    most = max([most] + [int(x.split()[1]) for x in f if x.startswith("VmHWM")])
            except (OSError, ValueError):
                pass
            time.sleep(0.02)
        finish(process)
        return most

    with folder() as d:
        few, many = peak(d, LINES // 5), peak(d, LINES * 2)
        assert many < few + 4096, f"{few} KiB with {LINES // 5} lines, {many} KiB with {LINES * 2}"


if __name__ == "__main__":
    harness.run(killed_at_random_moments, stopped_by_signals, a_rank_dies, refusals, disk_full, memory_is_flat)
