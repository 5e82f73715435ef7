#!/usr/bin/env bash
# The whole way once, on loopback: build a store from Python's documentation, serve it as two shards behind a router,
# search it and ask it over gRPC, and stop everything that was started. A second run uses the store of the first.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
STORE=${STORE:-.quickstart/python.store}
DOCUMENTS=${DOCUMENTS:-1000}
QUESTION=${QUESTION:-"What happens when an assert statement fails?"}

work=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap stop EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ pergamon'; printf ' %q' "$@"; printf '\n'; "$BIN/pergamon" "$@"; }

# Starts a server in the background; it prints its address when it is ready, which is left in $address.
start() {
    local log=$work/server-${#pids[@]}
    printf '$ pergamon'; printf ' %q' "$@"; printf ' &\n'
    "$BIN/pergamon" "$@" >"$log" 2>"$log.err" &
    pids+=($!)
    for _ in $(seq 600); do
        address=$(sed -n 's|^grpc://||p' "$log")
        [ -n "$address" ] && return
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    cat "$log.err" >&2
    exit 1
}

if [ -f "$STORE/manifest.json" ]; then
    say "1. The store of the last run: $STORE"
else
    say "1. Build a store from the documentation of the installed Python (about two minutes of encoding)"
    mkdir -p "$(dirname "$STORE")"
    run build --input "pydoc:$DOCUMENTS" --store "$STORE" --chunk-words 128
fi
run info "$STORE"

say "2. Serve it: two shards, and a router in front of them"
start serve "$STORE" --shard 0/2 --listen 127.0.0.1:0
first=$address
start serve "$STORE" --shard 1/2 --listen 127.0.0.1:0
start route --shards "$first,$address" --listen 127.0.0.1:0
router=grpc://$address

say "3. Search over gRPC"
run search "$router" "$QUESTION" -k 3

say "4. Ask: passages, and an answer that cites them"
run ask "$router" "$QUESTION" -k 3 --show-prompt

say "Done. Everything that was started is stopped; the store stays in $STORE"
