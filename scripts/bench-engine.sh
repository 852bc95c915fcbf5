#!/bin/sh
# The engine's table: each line RUNS times (default 3), then the medians. Results are
# kept in OUT, one a line, so that a run that was cut short can be completed by
# naming the LINES that are missing.
set -eu
runs=${RUNS:-3}
out=${OUT:-bench-engine.txt}
lines=${LINES:-single-1M batched-1M single-10M batched-10M log-100k log-1M log-10M}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/fabtraild" ./cmd/fabtraild
for line in $lines; do
	case $line in
	single-1M) flags="--inflight 1024 --prefill 1000000 --seconds 20" ;;
	batched-1M) flags="--inflight 4096 --batch-verify --prefill 1000000 --seconds 20" ;;
	single-10M) flags="--inflight 1024 --prefill 10000000 --seconds 20" ;;
	batched-10M) flags="--inflight 4096 --batch-verify --prefill 10000000 --seconds 20" ;;
	log-100k) flags="--inflight 1024 --prefill 0 --log 100000 --entries 50000" ;;
	log-1M) flags="--inflight 1024 --prefill 0 --log 1000000 --entries 50000" ;;
	log-10M) flags="--inflight 1024 --prefill 0 --log 10000000 --entries 50000" ;;
	*) echo "there is no line $line" >&2; exit 2 ;;
	esac
	for run in $(seq "$runs"); do
		echo "$line, run $run of $runs: fabtraild bench $flags" >&2
		# shellcheck disable=SC2086
		result=$("$bin/fabtraild" bench $flags --dir "${DIR:-}" --json)
		echo "$line $result" >> "$out"
	done
done
"$bin/fabtraild" bench --medians "$out"
