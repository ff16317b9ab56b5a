#!/bin/bash
# demo.sh VENV - serves a model over 3 workers, streams one completion, reports, stops.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$(deploy/fetch_model.sh "$1")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
log=.cache/demo.log

echo "== build/cordee serve --model $model --workers 3 --http 127.0.0.1:$port   (log: $log)"
build/cordee serve --model "$model" --workers 3 --http "127.0.0.1:$port" >"$log" 2>&1 &
serve=$!

stop() { # asks serve to end; its exit code is ours
    [ -n "$serve" ] || return 0
    local pid=$serve
    serve=
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true # only if 20 s were not enough
    local status=0
    wait "$pid" || status=$?
    return $status
}
trap 'stop || true' EXIT

give_up() {
    echo "demo: $1; the last lines of $log:" >&2
    tail -15 "$log" >&2
    exit 1
}

for _ in $(seq 600); do # a minute: a cold disk has to give up the weights first
    kill -0 "$serve" 2>/dev/null || give_up "serve ended"
    if curl --noproxy '*' -sf -o /dev/null --max-time 2 "$url/health"; then ready=1 && break; fi
    sleep 0.1
done
[ -n "${ready:-}" ] || give_up "not ready after a minute"

prompt='The three most important things to know about mountaineering are'
echo "== POST /v1/completions, stream"
printf '%s' "$prompt"
begun=$(date +%s.%N)
curl --noproxy '*' -sfN --max-time 120 "$url/v1/completions" -H 'Content-Type: application/json' -d '{
    "prompt": "'"$prompt"'", "max_tokens": 64, "temperature": 0, "seed": 1, "stream": true,
    "stream_options": {"include_usage": true}}' | python3 deploy/demo_report.py stream "$begun" ||
    give_up "no completion"
echo "== report"
curl --noproxy '*' -sf --max-time 10 "$url/stats" >.cache/demo-stats.json || echo '{}' >.cache/demo-stats.json
python3 deploy/demo_report.py processes "$serve" .cache/demo-stats.json

status=0
stop || status=$?
[ $status = 0 ] || give_up "serve exited with $status"
echo "== stopped cleanly"
