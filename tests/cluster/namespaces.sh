#!/bin/bash
# namespaces.sh up PREFIX N | down PREFIX | shell HOST COMMAND...
#
# Several hosts on one machine: N network namespaces PREFIX0.. at 10.77.0.1.., and a
# head PREFIXh at 10.77.0.254, on one bridge in a namespace of its own. `shell` is
# what hydra calls in place of ssh: it runs COMMAND on the host with that address,
# with a host name, process ids, shared memory and /proc of its own, so that nothing
# but the network joins two hosts. Needs root.
set -e

add() { # NAMESPACE ADDRESS PORT
    ip netns add "$1"
    ip -n "$1" link set lo up
    ip link add eth0 netns "$1" type veth peer name "$3" netns "${prefix}sw"
    ip -n "${prefix}sw" link set "$3" master br0
    ip -n "${prefix}sw" link set "$3" up
    ip -n "$1" addr add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
}

case $1 in
up)
    prefix=$2
    ip netns add "${prefix}sw"
    ip -n "${prefix}sw" link add br0 type bridge
    ip -n "${prefix}sw" link set br0 up
    for ((i = 0; i < $3; i++)); do add "$prefix$i" "10.77.0.$((i + 1))" "p$i"; done
    add "${prefix}h" 10.77.0.254 ph
    ;;
down)
    for name in $(ip netns list | awk '{print $1}' | grep "^$2"); do ip netns del "$name"; done
    ;;
shell)
    shift
    while [[ $1 == -* ]]; do shift; done
    host=$1
    shift
    k=${host##*.}
    name=$CORDEE_NAMESPACES$([ "$k" = 254 ] && echo h || echo $((k - 1)))
    exec ip netns exec "$name" unshare --uts --ipc --pid --fork --kill-child --mount-proc \
        bash -c "hostname $name; exec $*"
    ;;
*)
    # Hydra calls the launcher directly: SELF HOST COMMAND...
    exec "$0" shell "$@"
    ;;
esac
