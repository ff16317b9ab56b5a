"""Tables, verdicts and the plot of ./run bench peers, from its JSON file alone."""

ORDER = ["q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "f16", "bf16", "q4_k_m"]


def ratio(r):
    return r["cordee"] / r["llama"]


def share(r, engine):
    """Of the read bandwidth measured in the same turns; None where a step's bytes are not known."""
    if "bytes_per_token" not in r or r["test"] != "decode" or r["streams"] != 1:
        return None
    return r[engine] * r["bytes_per_token"] * 1e-9 / r["read_gbs"]


def percent(x):
    return "" if x is None else f"{100 * x:.0f} %"


def label(r):
    what = "prompt of 512" if r["test"] == "prompt" else f"{r['streams']} stream{'s' * (r['streams'] > 1)}"
    return (f"{r['shape']} {r['type']}, {what}, {r['threads']} thread{'s' * (r['threads'] > 1)}"
            f"{'' if r['isa'] == 'native' else ', ' + r['isa']}{', noisy' if r['noise'] else ''}")


def line(r):
    return (f"{label(r):44} cordee {r['cordee']:8.1f}  llama.cpp {r['llama']:8.1f}  ratio {ratio(r):5.2f}  "
            f"of read {percent(share(r, 'cordee')):>5} {percent(share(r, 'llama')):>5}  read {r['read_gbs']:.1f} GB/s")


def in_order(records):
    return sorted(records, key=lambda r: (r["isa"] != "native", r["test"], r["shape"] == "gemma", r["shape"] != "1b",
                                          r["shape"], r["streams"] > 1, r["threads"], r["noise"],
                                          ORDER.index(r["type"]), r["streams"]))


# ---- verdicts ------------------------------------------------------------------------------------

def find(records, **wanted):
    wanted = {"isa": "native", "noise": False, "streams": 1, "threads": 1, "shape": "1b"} | wanted
    hits = [r for r in records if all(r.get(k) == v for k, v in wanted.items())]
    return hits[0] if hits else None


def verdicts(results):
    """(what, wanted at least, measured) of the goals that this machine can show."""
    records, out = results["records"], []

    def want(what, least, value):
        if value is not None:
            out.append((what, least, value))

    def against(least, what, **key):
        r = find(records, **key)
        want(what, least, ratio(r) if r else None)

    def gain(least, what, more, less, scale=1.0):
        if more and less:
            want(what, least, more["cordee"] / less["cordee"] * scale)

    for shape in ("1b", "8b", "70b"):
        for kind, least in (("q4_0", 0.97), ("q8_0", 0.97), ("q4_k", 1.55)):
            against(least, f"decode {shape} {kind}, x llama.cpp", test="decode", shape=shape, type=kind)
    against(1.4, "decode Gemma 3 270M Q4_K_M, x llama.cpp", test="decode", shape="gemma", type="q4_k_m")
    for shape in ("1b", "8b", "70b"):
        for kind in ORDER[:-1]:
            r = find(records, test="decode", shape=shape, type=kind)
            part = share(r, "cordee") if r else None
            if part is not None and part <= 1.05:  # above: the machine changed between decode and read
                want(f"decode {shape} {kind}, share of the read bandwidth", 0.9, part)
    for kind in ORDER[:-1]:
        one, two = (find(records, test="decode", type=kind, threads=n) for n in (1, 2))
        if one and two and two["read_gbs"] > one["read_gbs"]:  # else other load held the second core
            doubled = 2 * one["read_gbs"] / two["read_gbs"]
            gain(1.85, f"decode 1b {kind}, two threads x one (as if bandwidth had doubled)", two, one, doubled)
    for kind in ("q4_0", "q4_k", "q8_0"):
        one = find(records, test="decode", type=kind)
        for streams, least in ((8, 6), (16, 9)):
            gain(least, f"decode 1b {kind}, {streams} streams x one",
                 find(records, test="decode", type=kind, streams=streams), one)
        against(2.7, f"decode 1b {kind}, 16 streams, two threads, x llama.cpp", test="decode", type=kind, streams=16,
                threads=2)
    amx = "amx_bf16" in results.get("machine", {}).get("features", [])
    for isa, least in (("native", 4 if amx else 1.5), ("bf16", 1.5), ("avx2", 1.2)):
        for kind in ("q4_0", "q4_k", "q8_0", "bf16"):
            against(least, f"prompt 1b {kind}, {isa}, x llama.cpp", test="prompt", type=kind, isa=isa)
    gain(0.45, "decode 1b q4_0, two threads, a busy neighbour x none",
         find(records, test="decode", type="q4_0", threads=2, noise=True),
         find(records, test="decode", type="q4_0", threads=2))
    return out


# ---- texts ---------------------------------------------------------------------------------------

def accuracy_table(found):
    rows = ["| engine | perplexity | mean distance from f32 |", "|---|---|---|"]
    for name, who in (("exact", "Cordée, exact"), ("fast", "Cordée, fast"), ("llama", "llama.cpp")):
        if name in found:
            distance = found[name].get("distance")
            rows.append(f"| {who} | {found[name]['perplexity']:.3f} | "
                        f"{'' if distance is None else f'{distance:.5f}'} |")
    tokens = next(iter(found.values()))["tokens"]
    return ["", f"Gemma 3 270M Q4_K_M: perplexity of {tokens} tokens of `tests/data/prose.txt`; distance of "
            "log-probabilities from transformers on the dequantised weights.", "", *rows]


def tables(results, name):
    """The whole Markdown file."""
    here = results.get("machine", {})
    out = [f"# Cordée and llama.cpp, {here.get('cpu', '?')}, {here.get('cores', '?')} cores", "",
           f"Written by `./run bench peers` from `{name}.json`; do not edit. Peer: {results.get('peer', '?')}, clang 19. "
           f"Features: {', '.join(here.get('features', []))}. Tokens/s, medians of alternating turns; \"of read\": "
           "bytes of the file that a token needs, against the read bandwidth measured between the same turns "
           "with as many threads; more than 100 % means that the machine changed in between.", "", f"![ratios]({name}.svg)", "",
           "| what | Cordée | llama.cpp | ratio | Cordée, of read | llama.cpp, of read | read GB/s | measured (UTC) |",
           "|---|---|---|---|---|---|---|---|"]
    for r in in_order(results["records"]):
        out.append(f"| {label(r)} | {r['cordee']:.1f} | {r['llama']:.1f} | {ratio(r):.2f} | {percent(share(r, 'cordee'))} | "
                   f"{percent(share(r, 'llama'))} | {r['read_gbs']:.1f} | {r['time'][:16].replace('T', ' ')} |")
    if results.get("accuracy"):
        out += accuracy_table(results["accuracy"])
    out += ["", "## Goals", "", "| goal | at least | measured | |", "|---|---|---|---|"]
    out += [f"| {what} | {least:g} | {value:.2f} | {'met' if value >= least else '**missed**'} |"
            for what, least, value in verdicts(results)]
    return "\n".join(out) + "\n"


def plot(results):
    """Bars of Cordée's speed over llama.cpp's, as SVG."""
    records = in_order(results["records"])
    row, left, unit, top = 18, 300, 110, 40
    most = max([ratio(r) for r in records] + [1])
    width, height = left + int(unit * most) + 60, top + row * len(records) + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
           'font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="16">tokens/s, Cordée over llama.cpp (1 = as fast)</text>']
    for i, r in enumerate(records):
        y, bar = top + i * row, unit * ratio(r)
        colour = "#2a7f62" if ratio(r) >= 1 else "#b5523b"
        out += [f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label(r)}</text>',
                f'<rect x="{left}" y="{y + 2}" width="{bar:.1f}" height="{row - 5}" fill="{colour}"/>',
                f'<text x="{left + bar + 5:.1f}" y="{y + 12}">{ratio(r):.2f}</text>']
    out += [f'<line x1="{left + unit}" x2="{left + unit}" y1="{top - 6}" y2="{height - 16}" stroke="black" '
            'stroke-dasharray="3 3"/>', "</svg>"]
    return "\n".join(out) + "\n"
