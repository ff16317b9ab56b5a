"""demo_report.py - the printing half of demo.sh; standard library only.

  stream BEGUN         reads server-sent events on stdin, prints text as it comes;
                       BEGUN is the Unix time of the request
  processes PID STATS  prints what the server and its ranks use
"""
import json
import os
import pathlib
import sys
import time


def stream(begun):
    first, n_chunks, usage, finished = None, 0, {}, False
    for line in sys.stdin:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            finished = True
            break
        event = json.loads(data)
        if "error" in event:
            print(f"\ndemo: {event['error'].get('message')}", file=sys.stderr)
            return 1
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            if choice.get("text"):
                now = time.time()
                first = first or now
                n_chunks += 1
                sys.stdout.write(choice["text"])
                sys.stdout.flush()
    end = time.time()
    if not finished or first is None:
        print("\ndemo: the stream broke off", file=sys.stderr)
        return 1
    tokens = usage.get("completion_tokens", n_chunks)
    rate = f"{(tokens - 1) / (end - first):.1f}" if tokens > 1 and end > first else "-"
    print(f"\n== {usage.get('prompt_tokens', '?')} prompt tokens, first text after "
          f"{(first - begun) * 1e3:.0f} ms, {tokens} tokens at {rate} tokens/s")
    return 0


def descendants(pid):
    """PID and all below it, from /proc alone."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended meanwhile
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def pss_mib(pid):
    """Its own memory plus its share of what is mapped by several."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def processes(pid, stats_path):
    total, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for member in descendants(pid):
        try:
            args = pathlib.Path(f"/proc/{member}/cmdline").read_bytes().split(b"\0")
            fields = pathlib.Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        words = [os.path.basename(a.decode(errors="replace")) for a in args[:2]]
        cpu, mib = (int(fields[11]) + int(fields[12])) / ticks, pss_mib(member)
        total += mib
        print(f"  pid {member:<7} {' '.join(words):<24.24} {mib:8.1f} MiB  {cpu:6.2f} s CPU")
    print(f"  {'in all':<36} {total:8.1f} MiB")
    stats = json.loads(pathlib.Path(stats_path).read_text() or "{}")
    print(f"\n  {'stage':<6}{'host':<14}{'layers':<10}{'holds':<17}{'weights':>12}{'KV':>12}{'busy':>9}")
    for stage in stats.get("stage", []):
        holds = " + ".join(w for w in ("embed", "head") if stage.get(w)) or "-"
        layers = f"{stage['first']}..{stage['last']}" if stage["last"] > stage["first"] else "none"
        print(f"  {stage['rank']:<6}{stage['host']:<14.13}{layers:<10}{holds:<17}"
              f"{stage['weight_bytes'] / 2**20:8.1f} MiB{stage['kv_bytes'] / 2**20:8.1f} MiB"
              f"{stage['busy_us'] / 1e6:7.2f} s")
    kernels = {stage.get("kernels") for stage in stats.get("stage", [])}
    print(f"\n  epoch {stats.get('epoch', '?')}, kernels {', '.join(sorted(filter(None, kernels)))}, "
          f"{stats.get('prompt_tokens', 0)} prompt and {stats.get('generated_tokens', 0)} generated tokens, "
          f"{stats.get('restarts', 0)} restarts")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["stream"] and len(sys.argv) == 3:
        sys.exit(stream(float(sys.argv[2])))
    if sys.argv[1:2] == ["processes"] and len(sys.argv) == 4:
        sys.exit(processes(int(sys.argv[2]), sys.argv[3]))
    sys.exit(__doc__)
