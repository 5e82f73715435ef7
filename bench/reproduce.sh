#!/usr/bin/env bash
# Every figure of the README, made again: bench/reproduce.sh [RESULTS_FILE]
# Needs PERGAMON_DATA with scifact/ and cacm/. About ten minutes on 2 cores, nearly all of it encoding.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
DATA=${PERGAMON_DATA:?set PERGAMON_DATA to the folder that holds scifact/ and cacm/}
RESULTS=${1:-bench/results/retrieval-and-service.md}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$RESULTS")"

run() { # the command as a user would type it, and what it prints
    printf '\n```\n$ pergamon %s\n' "$(printf '%s ' "$@" | sed -e "s|$DATA|\$PERGAMON_DATA|g" -e "s|$work/||g" -e 's/ $//')"
    COLUMNS=100 "$BIN/pergamon" "$@" 2>/dev/null | sed -e "s|$work/||g" -e 's/ *$//'
    printf '```\n'
}

{
    echo "# Retrieval quality, and what the service adds"
    echo
    echo "Made by \`bench/reproduce.sh\` on $(date -u +%F)."
    echo
    echo "- machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(free -g | awk '/^Mem/ {print $2}') GiB, no GPU"
    echo "- python $("$BIN/python" -c 'import platform; print(platform.python_version())'); $(grep -E '^(faiss-cpu|grpcio|pyserini|rocksdict|sentence-transformers|torch)==' constraints.txt | tr '\n' ' ')"
    echo "- load average at the start: $(cut -d' ' -f1-3 /proc/loadavg)"
    echo
    echo "## SciFact, one passage a document, embedded encoder"
    run build --input "$DATA/scifact" --store "$work/scifact.store" --chunk-words 0 --json
    for mode in bm25 dense hybrid; do
        run eval retrieval --beir "$DATA/scifact" --store "$work/scifact.store" --mode "$mode" --json
    done
    run eval retrieval --beir "$DATA/scifact" --store "$work/scifact.store" --mode hybrid --fusion convex --json
    echo
    echo "## CACM, BM25 alone (so the encoder does not matter)"
    run build --input "$DATA/cacm" --store "$work/cacm.store" --chunk-words 0 --encoder hashing --json
    run eval retrieval --beir "$DATA/cacm" --store "$work/cacm.store" --mode bm25 --json
    echo
    echo "## The same searches in process and over gRPC: a router, and one shard server or two, each a process; one query at a time"
    for shards in 1 2; do
        run bench service --store "$work/scifact.store" --queries "$DATA/scifact/queries.jsonl" --limit 300 --shards "$shards"
    done
    echo
    echo "load average at the end: $(cut -d' ' -f1-3 /proc/loadavg)"
} | tee "$RESULTS"
