GO ?= go
# The version is that of the newest tag, v0.1.0-12-gabcdef0 after 12 commits more.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w \
	-X github.com/prometheus/common/version.Version=$(VERSION) \
	-X github.com/prometheus/common/version.Revision=$(shell git rev-parse HEAD 2>/dev/null) \
	-X github.com/prometheus/common/version.Branch=$(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)

# The profile for the compiler: PGO=off builds faster, and a program that is slower.
PGO ?= cmd/hindsight/hindsight.pgo

# The browser tests have a module of their own, for the driver of the browser.
BROWSER := test/e2e/browser
# The tests of the manifests have one too, for the libraries of Helm and kustomize.
DEPLOY := deploy/test
# Tools of lint, from the pinned module test/lint.
TOOL = $(GO) tool -modfile=$(CURDIR)/test/lint/go.mod

.PHONY: build run demo ui screenshots test test-race test-short lint deadcode interop vulncheck sbom bench profile soak generate help

build: ## build bin/hindsight, a static binary (the default)
	CGO_ENABLED=0 $(GO) build -trimpath -pgo='$(PGO)' -ldflags '$(LDFLAGS)' -o bin/hindsight ./cmd/hindsight

run: PGO := off
run: build ## run everything in one process, with its data in ./data
	exec bin/hindsight all --data-dir=data/all

demo: ## run all roles with real Prometheus servers and S3, on loopback
	$(GO) build -o bin/demo ./test/e2e/demo
	exec bin/demo -dir=data/demo

ui: ui/node_modules/.package-lock.json ## check the sources of the web interface, and build pkg/ui/dist (needs node and npm)
	cd ui && npm run --silent check && npm run --silent build

ui/node_modules/.package-lock.json: ui/package-lock.json
	cd ui && npm ci --no-audit --no-fund

screenshots: ## make the pictures of docs/web.md again, from the processes of the demo (needs chromium)
	mkdir -p data/screenshots docs/images
	cd $(BROWSER) && HINDSIGHT_SCREENSHOTS=1 HINDSIGHT_PICTURES=$(CURDIR)/data/screenshots $(GO) test -count=1 -run TestPictures -v .
	cp data/screenshots/web-*.png docs/images/

# Packages whose memory is pooled or shared between goroutines.
SHARED := ./pkg/receive ./pkg/receive/multitsdb ./pkg/receive/peer ./pkg/receive/remotewrite \
	./pkg/receive/replicate ./pkg/receive/faults ./pkg/receive/capnpserver ./pkg/storeapi/... ./pkg/dedup/... \
	./pkg/abort ./pkg/httpserver ./pkg/tlsconfig ./pkg/store/pagecache ./pkg/store/columncache ./pkg/block/headerbundle \
	./pkg/query/endpoint ./pkg/sidecar/prom ./pkg/sidecar/outage ./pkg/receive/discovery ./pkg/compact/lease

test: ## all tests, end-to-end tests with real processes included; then test-race
	$(GO) run ./test/runner -also $(BROWSER) -also $(DEPLOY) ./...
	$(MAKE) test-race

test-race: ## packages that share memory, with the race detector and overwritten free buffers
	$(GO) run ./test/runner -race -tags hindsight_poison -short $(SHARED)

test-short: ## all tests but the end-to-end tests
	$(GO) run ./test/runner -short ./...

interop: ## tests beside real Thanos, which is built once (takes minutes)
	HINDSIGHT_INTEROP=1 $(GO) test -count=1 -timeout 30m ./test/interop

lint: deadcode ## formatting, module files, vet, golangci-lint, deadcode
	@test -z "$$(gofmt -l cmd deploy examples mixin pkg test)" || { echo "not formatted:"; gofmt -l cmd deploy examples mixin pkg test; exit 1; }
	$(GO) mod tidy -diff
	cd $(BROWSER) && $(GO) mod tidy -diff
	cd $(DEPLOY) && $(GO) mod tidy -diff
	$(GO) vet -stdmethods=false ./...
	cd $(BROWSER) && $(GO) vet -stdmethods=false ./...
	$(TOOL) golangci-lint run ./...
	cd $(BROWSER) && $(TOOL) golangci-lint run --config=$(CURDIR)/.golangci.yml ./...

deadcode: ## functions that neither a program nor a test can reach
	@out="$$($(TOOL) deadcode -test ./...)" && test -z "$$out" || { echo "$$out"; exit 1; }

vulncheck: ## known vulnerabilities of called code, by the database at vuln.go.dev
	@mkdir -p bin; $(TOOL) govulncheck ./cmd/hindsight >bin/vulncheck.txt 2>&1; code=$$?; cat bin/vulncheck.txt; \
	if grep -q 'fetching vulnerabilities' bin/vulncheck.txt; then echo 'NOT CHECKED: the vulnerability database cannot be reached'; exit 0; fi; exit $$code

sbom: build ## write the modules of the binary as CycloneDX to bin/hindsight.cdx.json
	$(GO) run ./test/sbom bin/hindsight > bin/hindsight.cdx.json

bench: ## benchmarks of the hot paths, as ratios to their limits; ROW=<name> runs one
	$(GO) run ./test/bench $(ROW)

profile: ## make the profile for the compiler again, from benchmarks (takes minutes)
	$(GO) run ./test/pgo

soak: ## a whole site under faults, and long random tests, each for MINUTES (30), from SEED on
	$(GO) run ./test/soak -minutes $${MINUTES:-30} -seed $${SEED:-0}
	HINDSIGHT_SOAK_MINUTES=$${MINUTES:-30} HINDSIGHT_SOAK_SEED=$${SEED:-0} $(GO) test -timeout 0 -run Soak -v ./...
	HINDSIGHT_FUZZ_MINUTES=$${FUZZ_MINUTES:-10} $(GO) test -timeout 0 -run PrometheusEngine_Agrees -v ./pkg/query/eval

generate: ## generate the code of proto/, the mixin and the base of the kustomizations
	$(GO) generate ./proto
	$(GO) run ./mixin
	cd $(DEPLOY) && $(GO) test . -run Base -update

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
