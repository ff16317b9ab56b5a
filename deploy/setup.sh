# shellcheck shell=bash disable=SC2034
# setup.sh - sourced by ./run: Debian packages and the Python environment.
#
# What is there is left alone; apt and sudo are called only if something is
# missing. One package must also be new enough: the first libevent of Debian 12
# lets a request be smuggled through with Transfer-Encoding and Content-Length.

venv=.cache/venv
libevent_least=2.1.12-stable-8+deb12u1
mkdir -p .cache

packages_build="build-essential ca-certificates ccache cmake curl libcmocka-dev libevent-dev libhwloc-dev
    libjansson-dev libmpich-dev libopenblas-dev libpcre2-dev libprotobuf-c-dev libssl-dev libutf8proc-dev
    libxxhash-dev libyaml-dev mpich ninja-build pkg-config protobuf-c-compiler protobuf-compiler python3
    python3-venv"
packages_test="iproute2 munge slurm-client slurmctld slurmd"
packages_fuzz="clang libclang-rt-dev"

package_ready() {
    local version
    version=$(dpkg-query -W -f '${db:Status-Abbrev} ${Version}' "$1" 2>/dev/null) || return 1
    [ "${version:0:2}" = ii ] || return 1
    [ "$1" != libevent-dev ] || dpkg --compare-versions "${version##* }" ge $libevent_least
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

setup_packages() { # setup_packages GROUP...
    local group list package missing=()
    for group in "$@"; do
        list=packages_$group
        for package in ${!list}; do
            package_ready "$package" || missing+=("$package")
        done
    done
    [ ${#missing[@]} != 0 ] || return 0
    if [ -n "${CORDEE_NO_INSTALL:-}" ]; then
        echo "run: not installing: ${missing[*]}" >&2
        return 0
    fi
    echo "run: installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >.cache/apt.log 2>&1 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
        >>.cache/apt.log 2>&1 || { tail -20 .cache/apt.log >&2; return 1; }
    for package in "${missing[@]}"; do
        package_ready "$package" || { echo "run: $package is missing or too old after apt-get" >&2; return 1; }
    done
}

# The Python side of the tests: tests/requirements.txt or another file beside it.
# Without network the tests that need it skip.
setup_venv() { # setup_venv [NAME]
    local name=${1:-requirements}.txt
    local want=tests/$name
    [ -z "${CORDEE_NO_INSTALL:-}" ] || return 0
    [ -x $venv/bin/python ] || python3 -m venv $venv
    cmp -s $want "$venv/$name" && return 0
    echo "run: installing Python packages into $venv"
    if $venv/bin/pip install -q --disable-pip-version-check -r $want >.cache/pip.log 2>&1; then
        cp $want "$venv/$name"
    else
        echo "run: no Python packages ($(tail -1 .cache/pip.log)): tests that need them are skipped" >&2
    fi
}
