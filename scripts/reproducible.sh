#!/usr/bin/env bash
# Builds the programs twice from what is committed, in two folders of different
# length and with caches of their own, and compares the bytes. Prints the digests.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
commit=$(git rev-parse HEAD)
for side in a much/longer/b; do
  mkdir -p "$tmp/$side"
  git archive "$commit" | tar x -C "$tmp/$side"
  (cd "$tmp/$side" && GOCACHE="$tmp/cache-${side//\//-}" make --no-print-directory build VERSION="$commit")
done
cd "$tmp"
for f in a/bin/*; do
  cmp "$f" "much/longer/b/bin/$(basename "$f")" || { echo "reproducible: $(basename "$f") differs between two builds of $commit" >&2; exit 1; }
done
(cd a/bin && sha256sum ./*)
echo "reproducible: two builds of $commit have the same bytes"
