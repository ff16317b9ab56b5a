#!/bin/bash
# peers.sh - llama.cpp beside us: fetches it, builds it, runs bench/peers.py.
#
#   bench/peers.sh VENV BUILD_DIR [peers.py's arguments]      (called by ./run bench peers)
#
# The source is that of the Python package llama-cpp-python, pinned below; only its
# library is built, once an instruction set, with clang 19: gcc 12 miscompiles its
# AMX set-up (docs/kernels.md). All of it lies in .cache/peers, 0.6 GB; models of
# random weights, up to 5 GB each, are written when needed and removed afterwards
# (--keep leaves them). The first run compiles for ten minutes or so on two cores,
# a run of all tests takes a quarter of an hour on a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/setup.sh
venv=$1 build=$2
shift 2
version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
peers=$PWD/.cache/peers
source_dir=$peers/llama_cpp_python-$version/vendor/llama.cpp
packages_peers="clang-19 libomp-19-dev"

fetch() {
    [ ! -d "$source_dir" ] || return 0
    local file=$peers/llama_cpp_python-$version.tar.gz
    echo "peers: fetching llama-cpp-python $version (77 MB)"
    "$venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$peers" \
        "llama-cpp-python==$version"
    echo "$sha256  $file" | sha256sum --check --status ||
        { echo "peers: $file has another sha256 than $sha256" >&2; return 1; }
    tar -xzf "$file" -C "$peers"
}

# build_llama NAME CMAKE_OPTION...: .cache/peers/NAME/peer_llama
build_llama() {
    local dir=$peers/$1 launcher=()
    [ -x "$dir/peer_llama" ] && [ "$dir/peer_llama" -nt bench/peer_llama.c ] &&
        [ "$dir/peer_llama" -nt bench/peer.c ] && return
    if command -v ccache >/dev/null; then
        launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    fi
    echo "peers: building llama.cpp for $1 (minutes, the first time)"
    cmake -S "$source_dir" -B "$dir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang-19 \
        -DCMAKE_CXX_COMPILER=clang++-19 -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF \
        -DLLAMA_OPENSSL=OFF "${launcher[@]}" "${@:2}" >"$dir.log" 2>&1 &&
        cmake --build "$dir" --target llama >>"$dir.log" 2>&1 &&
        clang-19 -O2 -D_GNU_SOURCE -I. -I"$source_dir/include" -I"$source_dir/ggml/include" -o "$dir/peer_llama" \
            bench/peer_llama.c bench/peer.c -L"$dir/bin" -Wl,-rpath,"$dir/bin" -lllama -lggml -lggml-base -lm \
            >>"$dir.log" 2>&1 || { tail -20 "$dir.log" >&2; return 1; }
}

mkdir -p "$peers"
setup_packages peers
fetch
build_llama native
build_llama avx2 -DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON
if grep -qw amx_bf16 /proc/cpuinfo; then
    build_llama bf16 -DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON \
        -DGGML_AVX512_BF16=ON
fi
exec "$venv/bin/python" bench/peers.py --cordee "$build" --llama "$peers" --models "$peers/models" \
    --version "llama-cpp-python $version" "$@"
