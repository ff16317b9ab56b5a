#!/bin/bash
# slurm_session.sh DIR COMMAND... - brings a 4-node Slurm up, runs COMMAND, takes it down.
set -e
source "$(dirname "$0")/slurm.bash"
dir=$1
shift
trap slurm_down EXIT
trap 'exit 1' TERM INT
slurm_up "$dir" 4 $((20000 + $$ % 20000))
"$@"
