# slurm.bash - a real Slurm of N nodes on this machine, for tests. Source it, then
#   slurm_up DIR NODES BASEPORT ... slurm_down
# Needs slurmctld, slurmd, slurm-client, munge. No root, systemd or cgroups; nothing
# under /etc is read. Daemons run in the foreground as children, so they can be waited for.

slurm_conf() { # DIR NODES BASEPORT
    local dir=$1 nodes=$2 base=$3 host
    host=$(hostname -s)
    echo CgroupPlugin=cgroup/v1 >"$dir/cgroup.conf" # or slurmd 22.05 refuses to start in a container
    cat >"$dir/slurm.conf" <<CONF
ClusterName=cordee
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((base + 100))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$dir/munge/socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=5
KillWait=3
CompleteWait=0
MinJobAge=300
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
NodeName=n[0-$((nodes - 1))] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$base-$((base + nodes - 1))] CPUs=4 RealMemory=4000
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

slurm_up() { # DIR NODES BASEPORT
    local dir=$1 nodes=$2 i
    slurm_pids=()
    export SLURM_CONF=$dir/slurm.conf
    mkdir -p "$dir"/{munge,state,log}
    chmod 755 "$dir" "$dir/munge"
    (umask 077 && head -c 128 /dev/urandom >"$dir/munge/key")
    slurm_conf "$dir" "$nodes" "$3"
    munged -F --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" >/dev/null 2>&1 &
    slurm_pids+=($!)
    for ((i = 0; i < 100; i++)); do [ -S "$dir/munge/socket" ] && break; sleep 0.02; done
    slurmctld -D -c >/dev/null 2>&1 &
    slurm_pids+=($!)
    for ((i = 0; i < nodes; i++)); do
        mkdir -p "$dir/spool.n$i"
        slurmd -D -c -N "n$i" >/dev/null 2>&1 &
        slurm_pids+=($!)
    done
    for ((i = 0; i < 200; i++)); do
        [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = "$nodes" ] && return 0
        sleep 0.05
    done
    tail -n 5 "$dir"/log/*.log >&2
    return 1
}

slurm_down() {
    local i p
    scancel -u "$(id -un)" 2>/dev/null || true
    for ((i = 0; i < 60; i++)); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
    for ((i = ${#slurm_pids[@]} - 1; i >= 0; i--)); do kill "${slurm_pids[i]}" 2>/dev/null || true; done
    for p in "${slurm_pids[@]}"; do wait "$p" 2>/dev/null || true; done
    slurm_pids=()
}
