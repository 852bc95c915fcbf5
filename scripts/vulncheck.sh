#!/usr/bin/env bash
# Looks for known vulnerabilities in what the programs call. Exit code 0: the check
# was made and found none; 1: it found some; 2: it could not be made, which is no
# result. FABTRAIL_VULNDB names another database, such as file:///path.
set -uo pipefail
cd "$(dirname "$0")/.."
VERSION=${GOVULNCHECK:-v1.1.4}
db=${FABTRAIL_VULNDB:-https://vuln.go.dev}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
no() { echo "vulncheck: NOT CHECKED: $1" >&2; exit 2; }

tool=$(command -v govulncheck) || {
  GOBIN="$tmp" CGO_ENABLED=0 timeout 600 go install "golang.org/x/vuln/cmd/govulncheck@$VERSION" >"$tmp/install" 2>&1 ||
    { tail -3 "$tmp/install" >&2; no "govulncheck $VERSION cannot be installed"; }
  tool="$tmp/govulncheck"
}
timeout 600 "$tool" -db "$db" ./cmd/... >"$tmp/out" 2>"$tmp/err"
code=$?
cat "$tmp/out"
case $code in
  0) echo "vulncheck: checked against $db, nothing found" ;;
  3) echo "vulncheck: vulnerabilities found" >&2; exit 1 ;;
  *) tail -5 "$tmp/err" >&2; no "the vulnerability database at $db cannot be read, or the check failed (exit $code)" ;;
esac
