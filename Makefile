# Fabtrail. `make test` is the test command; `make demo` runs the main job.
export CGO_ENABLED ?= 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_BUILD = -trimpath -ldflags "-s -w -buildid= -X main.version=$(VERSION)"

.PHONY: help build test race lint demo demo-seeds witness-matrix witness-model witness-bench fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## static binaries in bin/
	go build $(GOFLAGS_BUILD) -o bin/ ./cmd/...

test: ## the whole test command
	go test ./...

race: ## the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

lint: ## vet and golangci-lint
	go vet ./...
	golangci-lint run ./...

demo: ## the main job: from chip fab to installer, then serve
	go run ./cmd/fabtraild demo

SEEDS ?= 20
demo-seeds: ## play the demo in small with SEEDS seeds (default 20), each held against its labels
	FABTRAIL_DEMO_SEEDS=$(SEEDS) go test -count=1 -timeout 30m -run '^TestSeeds$$' ./cmd/fabtraild/internal/demo

witness-matrix: ## campaign: all 2,475 cells of the witness matrix (the tests do 90)
	FABTRAIL_CAMPAIGN=1 go test -count=1 -timeout 30m -v -run '^TestMatrix$$' ./witness | grep -v -e '--- PASS' -e '^=== '

MODEL ?= 1000000
witness-model: ## campaign: MODEL random operations against witnesses, with the race detector (default 1,000,000)
	CGO_ENABLED=1 FABTRAIL_WITNESS_MODEL=$(MODEL) go test -count=1 -race -timeout 60m -v -run '^TestModelLong$$' ./witness

witness-bench: ## one witness: cosignatures as ratios to signing and to a sync of this disk
	go test -count=1 -run '^$$' -bench '^BenchmarkWitnessRatio$$' ./witness

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME (default 20s each)
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$p || exit 1; \
	  done; done

clean: ## remove what was built
	rm -rf bin dist
