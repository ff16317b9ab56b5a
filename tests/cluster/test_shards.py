"""Shards through the whole program: written, verified, served by any number of ranks, damaged and mended."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import adapters
from harness import BINARY, Serve, environment, ours, run, tiny_model, wait_until

STAGES = 3
N = 32
PROMPT = "The quick brown fox"


def cordee(*args, stdin=""):
    p = subprocess.run([BINARY, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=60,
                       env=environment())
    return p.returncode, p.stdout, p.stderr


def good(*args, stdin=""):
    code, out, err = cordee(*args, stdin=stdin)
    assert code == 0, f"{args}: exit {code}: {err}"
    return out


def make(folder, *more, workers=STAGES, model=None):
    return good("shard", "--model", model or tiny_model(), "--workers", workers, "--out", folder, "--threads", 1, *more)


@contextlib.contextmanager
def shards():
    with tempfile.TemporaryDirectory() as d:
        d = pathlib.Path(d) / "shards"
        make(d)
        yield d


def stage(folder, i):
    return folder / f"stage-{i}-of-{STAGES}.cordee"


def damage(path):
    """One bit of the last weight."""
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def answer(serve):
    choice = serve.complete(PROMPT, n=N, logprobs=3)
    return choice["text"], choice["logprobs"], serve.stream(prompt=PROMPT, n=N)


def answers(model, workers):
    with Serve(model=str(model), workers=workers, args=["--name", "m"]) as serve:
        result = answer(serve)
        assert serve.stop() == 0
    return result


def the_same_answers_whatever_the_ranks():
    want = answers(tiny_model(), 1)
    with shards() as d:
        for workers in (1, 2, 3):
            assert answers(tiny_model(), workers) == want, f"the model on {workers}"
            assert answers(d, workers) == want, f"shards on {workers}"


def mapped_stages(pid):
    with open(f"/proc/{pid}/maps") as f:
        return {os.path.basename(x.split()[-1]) for x in f if x.rstrip().endswith(".cordee")}


def each_rank_its_own_file():
    want = answers(tiny_model(), STAGES)
    with shards() as d:
        with Serve(model=str(d), args=["--name", "m"]) as serve:
            maps = [mapped_stages(pid) for pid in serve.ranks()]
            assert len(maps) == STAGES + 1 and not maps[0], maps
            for i in range(1, STAGES + 1):  # none: a copy, where memory is far
                assert maps[i] <= {stage(d, i).name}, maps
            assert answer(serve) == want
            assert serve.stop() == 0
        for mine in range(1, STAGES + 1):  # alone there it is never the one that a start fails for
            others = [i for i in range(1, STAGES + 1) if i != mine]
            for i in others:
                stage(d, i).rename(d / f"elsewhere-{i}")
            code, _, err = cordee("generate", "--model", d, "--workers", STAGES, "--threads", 1, "-p", PROMPT, "-n", 1)
            assert code == 1 and any(f"stage-{i}-of-" in err for i in others) and f"stage-{mine}-of-" not in err, err
            for i in others:
                (d / f"elsewhere-{i}").rename(stage(d, i))


def the_shards_own_cut():
    """Made for uneven nodes and served without knowing of them: the cut is the shards', the answers are the same."""
    want = answers(tiny_model(), STAGES)
    with tempfile.TemporaryDirectory() as root:
        d, config = pathlib.Path(root) / "d", pathlib.Path(root) / "cluster.yaml"
        config.write_text("nodes:\n  - {host: a, read_gbs: 500}\n  - {host: b, read_gbs: 1}\n  - {host: c, read_gbs: 1}\n")
        good("shard", "--model", tiny_model(), "--workers", STAGES, "--out", d, "--config", config)
        cut = [(s["first"], s["last"]) for s in json.loads((d / "shards.json").read_text())["stages"]]
        with Serve() as serve:
            assert [(s["first"], s["last"]) for s in serve.stats()["stage"]] != cut
        with Serve(model=str(d), args=["--name", "m"]) as serve:
            assert [(s["first"], s["last"]) for s in serve.stats()["stage"]] == cut
            assert answer(serve) == want
            assert serve.stop() == 0


def refuses_to_start(folder, path, *words):
    """Each kind of start ends at once with one line that names the file and the cause."""
    starts = [("generate", "-p", PROMPT, "-n", "1"), ("serve", "--http", "127.0.0.1:0")]
    for command, *args in starts:
        code, _, err = cordee(command, *args, "--model", folder, "--workers", STAGES, "--threads", 1)
        told = [x for x in err.splitlines() if x.startswith("cordee: ")]
        assert code == 1 and len(told) == 1, f"{command}: exit {code}: {err}"
        assert path.name in told[0] and all(w in told[0] for w in words), f"{command}: {told[0]} lacks one of {words}"
        wait_until("no process is left", 5, lambda: not ours())


def bad_files_end_a_start():
    with shards() as d:
        for i in (1, STAGES):
            whole = stage(d, i).read_bytes()
            stage(d, i).unlink()
            refuses_to_start(d, stage(d, i), "not on this node")
            stage(d, i).write_bytes(whole)
            damage(stage(d, i))
            refuses_to_start(d, stage(d, i), "damaged", "checksum")
            stage(d, i).write_bytes(whole[:-1000])
            refuses_to_start(d, stage(d, i), "not copied to its end")
            stage(d, i).write_bytes(whole[:90] + b"\xff" + whole[91:])
            refuses_to_start(d, stage(d, i), "damaged")
            stage(d, i).write_bytes(whole)
        shutil.copy(stage(d, 1), stage(d, 2))
        refuses_to_start(d, stage(d, 2), "other layers")
        (d / "facts.gguf").unlink()
        refuses_to_start(d, d / "facts.gguf")
        make(d)
        (d / "shards.json").write_text("{")
        refuses_to_start(d, d / "shards.json", "line 1")


def states(folder, *more):
    """The exit code, the states that verify gives as lines and as JSON, and its errors."""
    code, out, err = cordee("shard", "verify", folder, *more)
    lines = [x.split(": ")[2].split(":")[0] for x in out.splitlines()]
    again, text, _ = cordee("shard", "verify", folder, "--json", *more)
    table = json.loads(text)["stages"]
    assert again == code and [s["state"] for s in table] == lines, (out, text)
    assert [s["stage"] for s in table] == list(range(1, STAGES + 1))
    assert all((s["reason"] is None) == (s["state"] == "good") for s in table), text
    assert all(s["reason"] is None or s["file"] in s["reason"] for s in table), text
    return code, lines, err


def verify():
    with shards() as d:
        assert states(d) == (0, ["good"] * 3, "")
        damage(stage(d, 2))
        stage(d, 3).unlink()
        code, lines, err = states(d)
        assert code == 1 and lines == ["good", "damaged", "missing"] and "2 of 3" in err, err
        assert len(err.splitlines()) == 1, err
        code, lines, err = states(d, "--local")
        assert code == 1 and lines == ["good", "damaged", "missing"] and "1 of 3" in err, err
        stage(d, 2).unlink()
        assert states(d, "--local") == (0, ["good", "missing", "missing"], "")
        table = json.loads(make(d, "--json"))["stages"]
        assert [s["state"] for s in table] == ["kept", "written", "written"], table
        assert [s["first"] for s in table][0] == 0 and table[0]["embedding"] and table[2]["head"], table
        assert all(s["bytes"] == os.path.getsize(d / s["file"]) for s in table), table
        assert states(d)[0] == 0
        (d / "facts.gguf").write_bytes((d / "facts.gguf").read_bytes()[:-1])
        code, out, err = cordee("shard", "verify", d)
        assert code == 1 and not out and "facts.gguf" in err, err


def usage():
    with shards() as d:
        model = tiny_model()
        for code, words, args in [
            (2, ["usage"], []),
            (2, ["usage"], ["--model", model]),
            (2, ["usage"], ["--out", d]),
            (2, ["verify which"], ["verify"]),
            (2, ["unexpected"], ["verify", d, d]),
            (2, ["unexpected"], ["check", d]),
            (2, ["--stage"], ["--model", model, "--workers", 3, "--out", d, "--stage", 0]),
            (2, ["--stage"], ["--model", model, "--workers", 3, "--out", d, "--stage", "1x"]),
            (2, ["--stage 4"], ["--model", model, "--workers", 3, "--out", d, "--stage", 4]),
            (2, ["other shards", str(d)], ["--model", model, "--workers", 2, "--out", d]),
            (2, ["these are shards", str(d)], ["--model", d, "--workers", 3, "--out", d.parent / "again"]),
            (3, ["stages"], ["--model", model, "--workers", 40, "--out", d.parent / "many"]),
            (1, ["shards.json", str(d.parent)], ["verify", d.parent]),
            (1, ["shards.json"], ["verify", "/nonexistent"]),
            (1, ["/nonexistent/x"], ["--model", model, "--workers", 3, "--out", "/nonexistent/x"]),
            (1, ["none.gguf"], ["--model", "none.gguf", "--workers", 3, "--out", d]),
        ]:
            got, out, err = cordee("shard", *args)
            assert got == code and all(w in err for w in words), f"{args}: exit {got}: {err}"
            assert len(err.splitlines()) == 1 and not out, f"{args}: {out}{err}"
        assert states(d)[0] == 0


def a_model_like_any_other():
    """The tools that look at a model look at its shards; without weights nothing needs the stages' files."""
    with shards() as d, tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        for path in d.glob("stage-*"):
            path.unlink()
        told = [good("inspect", m).splitlines() for m in (tiny_model(), d)]
        assert [x for x in told[0] if not x.startswith("format")] == \
            [x for x in told[1] if not x.startswith(("format", "stages"))], told
        ids = [good("tokenize", "--model", m, stdin=PROMPT) for m in (tiny_model(), d)]
        assert ids[0] and ids[0] == ids[1], ids
        good("tokenize", "--model", tiny_model(), "--export", a)
        good("tokenize", "--model", d, "--export", b)
        for path in pathlib.Path(a).iterdir():
            assert path.read_bytes() == (pathlib.Path(b) / path.name).read_bytes(), path.name


def adapters_on_shards():
    """An adapter is bound to shapes, and a GGUF's to its order of rows: both are those of the model."""
    with shards() as d, tempfile.TemporaryDirectory() as root:
        peft = adapters.write_peft(pathlib.Path(root) / "peft", adapters.make(3))
        gguf = adapters.write_gguf(pathlib.Path(root) / "a.gguf", adapters.make(4))
        found = []
        for model in (tiny_model(), d):
            with Serve(model=str(model), workers=2,
                       args=["--name", "m", "--lora", f"p={peft}", "--lora", f"g={gguf}"]) as serve:
                found.append([(c["text"], c["logprobs"]) for c in
                              (serve.complete(PROMPT, n=N, logprobs=2, model=m) for m in ("m", "m:p", "m:g"))])
                assert serve.stop() == 0
        assert found[0] == found[1]
        assert len({text for text, _ in found[0]}) == 3, found[0]


def a_writer_is_killed():
    """At any moment: no shards.json before all is there, and the next run finishes what was begun."""
    with tempfile.TemporaryDirectory() as root:
        reference = pathlib.Path(root) / "whole"
        started = time.monotonic()
        make(reference)
        whole_s = time.monotonic() - started
        want = {p.name: p.read_bytes() for p in reference.iterdir()}
        begun = 0
        for i in range(24):
            d = pathlib.Path(root) / f"killed-{i}"
            p = subprocess.Popen([BINARY, "shard", "--model", tiny_model(), "--workers", str(STAGES), "--threads", "1",
                                  "--out", str(d)], env=environment(), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(whole_s * i / 24)
            p.kill()
            code = p.wait()
            names = {x.name for x in d.iterdir()} if d.exists() else set()
            begun += 0 < len(names & set(want)) < len(want) and code != 0
            for name in names & set(want):  # under its name a file is whole
                assert (d / name).read_bytes() == want[name], f"after {i}: {name}"
            if "shards.json" in names:
                assert set(want) <= names, f"after {i}: shards.json and only {names}"
            make(d)
            assert all((d / n).read_bytes() == want[n] for n in want), f"after {i}"
            assert not list(d.glob("stage-*.part")), f"after {i}: {list(d.iterdir())}"
            assert cordee("shard", "verify", d)[0] == 0
            shutil.rmtree(d)
        assert begun, "no kill came in the middle"


def nodes_write_side_by_side():
    with tempfile.TemporaryDirectory() as root:
        d, whole = pathlib.Path(root) / "d", pathlib.Path(root) / "whole"
        writers = [subprocess.Popen([BINARY, "shard", "--model", tiny_model(), "--workers", str(STAGES), "--threads", "1",
                                     "--out", str(d), "--stage", str(i + 1)], env=environment(), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for i in range(STAGES)]
        for p in writers:
            _, err = p.communicate(timeout=60)
            assert p.returncode == 0, err
        make(whole)
        assert {p.name for p in d.iterdir()} == {p.name for p in whole.iterdir()}
        assert all((d / p.name).read_bytes() == p.read_bytes() for p in whole.iterdir())
        assert states(d)[0] == 0


def a_rank_dies():
    want = answers(tiny_model(), STAGES)
    with shards() as d, Serve(model=str(d), args=["--name", "m"]) as serve:
        for rank in (1, STAGES):
            struck = []

            def strike(i, s, rank=rank, struck=struck):
                if i == 8 and not struck:
                    struck.append(s.ranks()[rank])
                    os.kill(struck[0], signal.SIGKILL)

            assert serve.stream(prompt=PROMPT, n=N, on_event=strike) == want[2]
            assert struck and struck[0] not in serve.ranks()
        assert serve.complete(PROMPT, n=N, logprobs=3)["text"] == want[0]
        assert serve.stop() == 0


def shards_are_made_again_under_a_server():
    """Files are replaced, never changed: what a server has mapped stays."""
    want = answers(tiny_model(), STAGES)
    with shards() as d, Serve(model=str(d), args=["--name", "m"]) as serve:
        damage_free = stage(d, 2).read_bytes()
        stage(d, 2).unlink()
        make(d)
        assert stage(d, 2).read_bytes() == damage_free
        assert answer(serve) == want
        assert serve.stop() == 0


if __name__ == "__main__":
    run(the_same_answers_whatever_the_ranks, each_rank_its_own_file, the_shards_own_cut, bad_files_end_a_start, verify, usage,
        a_model_like_any_other, adapters_on_shards, a_writer_is_killed, nodes_write_side_by_side, a_rank_dies,
        shards_are_made_again_under_a_server)
