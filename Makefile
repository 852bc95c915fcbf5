# Fabtrail. `make test` is the test command; `make demo` runs the main job.
export CGO_ENABLED ?= 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# grpcnotrace leaves out the HTML pages of golang.org/x/net/trace, and with them 5 MB.
GOFLAGS_BUILD = -trimpath -tags grpcnotrace -ldflags "-s -w -buildid= -X main.version=$(VERSION)"

.PHONY: help build profile test race lint demo demo-seeds witness-matrix witness-model witness-model-race witness-bench lies closure bench-tessera kill-nine cluster-model cluster-bench power-loss io-errors bit-flips index-flips restore-drills planted-bugs fuzz fuzz-corpus bench-engine costs overload reproducible sbom vulncheck clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

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
	FABTRAIL_CAMPAIGN=1 go test -count=1 -timeout 30m -run '^TestMatrix$$' ./witness

MODEL ?= 1000000
MODEL_RACE ?= 1000000
witness-model: ## campaign: MODEL random operations against witnesses (default 1,000,000), then MODEL_RACE (1,000,000) under the race detector
	FABTRAIL_WITNESS_MODEL=$(MODEL) go test -count=1 -timeout 60m -v -run '^TestModelLong$$' ./witness
	$(MAKE) witness-model-race

# Arithmetic of the curve is not watched for races: it shares nothing, and takes four fifths of the time.
witness-model-race: ## campaign: the second half of witness-model alone
	CGO_ENABLED=1 FABTRAIL_WITNESS_MODEL=$(MODEL_RACE) go test -count=1 -race -gcflags='crypto/internal/fips140/edwards25519/...=-race=false' -timeout 60m -v -run '^TestModelLong$$' ./witness

witness-bench: ## one witness: cosignatures as ratios to signing and to a sync of this disk
	go test -count=1 -run '^$$' -bench '^BenchmarkWitnessRatio$$' ./witness

LIES ?= 10000
LIESEED ?= 1
lies: ## tell a client LIES lies (default 10,000) of a lying server, and an auditor false commitments, seeded by LIESEED
	go test -count=1 -timeout 24h -run '^Test(LyingServer(AboutMany)?(BeforeOrdinaryWitnesses|ToAReader)?|FalseCommitments|HiddenEntries)$$' -v ./client -lies $(LIES) -lieseed $(LIESEED)

WORLDS ?= 1250
SEED ?= 0
closure: ## compare closures with full replays in WORLDS random worlds of 80 units (default 1,250: 100,000 units) from SEED on
	FABTRAIL_CLOSURE_WORLDS=$(WORLDS) FABTRAIL_CLOSURE_SEED=$(SEED) go test -count=1 -timeout 24h -run '^TestClosureEqualsReplay$$' -v ./custody

BENCH ?= --seconds 10 --inflight 4096
bench-tessera: ## appends beside those of Tessera's POSIX driver, in one run: BENCH="--seconds 10 --inflight 4096"
	cd bench && go run . $(BENCH)

MODELS ?= 20
cluster-model: ## campaign: MODELS times (default 20) 1,000 random operations on a Trillian cluster, with a replica, the embedded engine and a model beside it
	FABTRAIL_CLUSTER_MODEL=$(MODELS) go test -count=1 -timeout 4h -run '^TestModelLong$$' -v ./ledger/trillian

STATEMENTS ?= 40000
cluster-bench: ## a ledger on a cluster: STATEMENTS appends (default 40,000) beside a plain load in one run; reads of one and two replicas
	FABTRAIL_CLUSTER_BENCH=$(STATEMENTS) go test -count=1 -timeout 30m -run '^TestClusterRates$$' -v ./cmd/fabtraild

KILLS ?= 2000
RECEIPTS ?= 550
kill-nine: ## campaign: KILLS times (default 2,000) kill -9 of a log with a full queue, after RECEIPTS receipts (550) each
	FABTRAIL_KILLS=$(KILLS) FABTRAIL_KILL_RECEIPTS=$(RECEIPTS) go test -count=1 -timeout 4h -run '^TestKillNine$$' -v ./ledger/ledgertest/rawlog

IMAGES ?= 100000
power-loss: ## campaign: the power is lost before every write operation, IMAGES disks (100,000), some of them lost again while starting
	FABTRAIL_IMAGES=$(IMAGES) go test -count=1 -timeout 12h -run '^TestPowerLoss$$' -v ./ledger

PAIRS ?= 5000
io-errors: ## campaign: each write operation fails in each of three ways, and PAIRS (5,000) random pairs do
	FABTRAIL_CAMPAIGN=100 FABTRAIL_PAIRS=$(PAIRS) go test -count=1 -timeout 12h -run '^TestEveryIOError$$' -v ./ledger

FLIPS ?= 6
bit-flips: ## campaign: one flipped bit in every (61/FLIPS)th byte of everything on the disk (FLIPS=61: every byte), and every file damaged as a whole
	FABTRAIL_CAMPAIGN=$(FLIPS) go test -count=1 -timeout 12h -run '^(TestFlippedBits|TestDamagedFiles)$$' -v ./ledger

ROWSTRIDE ?= 1
index-flips: ## campaign: every ROWSTRIDE-th bit (default: every bit) of rows of every kind that the index has is flipped
	FABTRAIL_ROWSTRIDE=$(ROWSTRIDE) go test -count=1 -timeout 12h -run '^TestFlippedIndexRows$$' -v ./ledger

DRILLS ?= 1000
restore-drills: ## campaign: DRILLS (1,000) careless restores of database, journal, both, whole machine; copies of a running ledger that both go on
	FABTRAIL_DRILLS=$(DRILLS) go test -count=1 -timeout 12h -run '^(TestRandomRestores|TestTwoSigners|TestRestoreDrills)$$' -v ./ledger

planted-bugs: ## plant bugs one at a time; the test that is named for each must catch it
	go run ./internal/planted

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME (default 20s each) and report executions
	go run ./internal/fuzzrun -time $(FUZZTIME)

fuzz-corpus: ## the same, and keep a few new inputs of each in testdata/fuzz
	go run ./internal/fuzzrun -time $(FUZZTIME) -keep 4

# With a hint to what calls them hash functions let their state escape: a piece of memory for each sum.
UNHINTED = ^crypto/(internal/fips140/)?sha(256|512)\.
# Paths in it are those of modules: -trimpath. Appends are profiled alone, without what is prepared for them.
APPENDS = -trimpath -pgo=off -count=1 -run '^$$' -bench '^BenchmarkAppend$$' -benchtime 60000x ./internal/bench
profile: ## a new profile of appends, index commitments, unit answers and their verification for the compiler: cmd/fabtraild/default.pgo
	@mkdir -p dist
	FABTRAIL_APPEND_PROFILE=$(CURDIR)/dist/single.prof go test $(APPENDS)
	FABTRAIL_APPEND_BATCH=1 FABTRAIL_APPEND_PROFILE=$(CURDIR)/dist/batch.prof go test $(APPENDS)
	FABTRAIL_INDEX_PROFILE=$(CURDIR)/dist/index.prof go test -trimpath -pgo=off -count=1 -run '^$$' -bench '^BenchmarkIndex$$' -benchtime 2x ./internal/bench
	go test -trimpath -pgo=off -count=1 -run '^$$' -bench '^Benchmark(Answer|Verify)$$' -cpuprofile dist/answers.prof -o dist/bench.test ./internal/bench
	go tool pprof -proto -hide '$(UNHINTED)' dist/single.prof dist/batch.prof dist/index.prof dist/answers.prof > cmd/fabtraild/default.pgo

bench-engine: ## the engine's table: appends, long logs, disk, memory, start; RUNS (default 3) of each of LINES, kept in OUT
	scripts/bench-engine.sh

costs: ## what refused requests cost, as multiples of an accepted one
	FABTRAIL_COSTS=1 go test -count=1 -v -run '^TestRefusalCosts$$' ./internal/node

OVERLOAD ?= 5s
overload: ## campaign: goodput, latency and memory at 5 and 20 times the clients, beside idle sockets and a greedy party, in turn with usual load; OVERLOAD for each of 51 slices (5s), three times that for some
	CGO_ENABLED=0 FABTRAIL_OVERLOAD=$(OVERLOAD) go test -count=1 -timeout 1h -v -run '^TestOverloadCampaign$$' ./internal/node

reproducible: ## build the commit twice, in two places, and compare the bytes
	scripts/reproducible.sh

sbom: build ## CycloneDX bill of materials of the programs in dist/fabtrail.cdx.json
	@mkdir -p dist
	go run ./internal/sbom bin/fabtrail bin/fabtraild > dist/fabtrail.cdx.json
	@echo "dist/fabtrail.cdx.json: $$(grep -c '"type": "library"' dist/fabtrail.cdx.json) modules"

vulncheck: ## known vulnerabilities; exit code 2 when that cannot be checked
	scripts/vulncheck.sh

clean: ## remove what was built
	rm -rf bin dist
