GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w \
	-X github.com/prometheus/common/version.Version=$(VERSION) \
	-X github.com/prometheus/common/version.Revision=$(shell git rev-parse HEAD 2>/dev/null) \
	-X github.com/prometheus/common/version.Branch=$(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)

.PHONY: build run demo test test-race test-short lint bench soak generate

build: ## build bin/hindsight
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/hindsight ./cmd/hindsight

run: build ## everything in one process, data in ./data
	exec bin/hindsight all --data-dir=data/all

demo: ## all roles with real Prometheus servers and S3, on loopback
	$(GO) build -o bin/demo ./test/e2e/demo
	exec bin/demo -dir=data/demo

# Packages whose memory is pooled or shared between goroutines.
SHARED := ./pkg/receive ./pkg/receive/multitsdb ./pkg/receive/peer ./pkg/receive/remotewrite \
	./pkg/receive/replicate ./pkg/receive/faults ./pkg/receive/capnpserver ./pkg/storeapi/... ./pkg/dedup/... \
	./pkg/abort ./pkg/httpserver ./pkg/tlsconfig ./pkg/store/pagecache

test: ## all tests, the end-to-end ones with real processes included; then test-race
	$(GO) run ./test/runner ./...
	$(MAKE) test-race

test-race: ## what shares memory, with the race detector and released buffers overwritten
	$(GO) run ./test/runner -race -tags hindsight_poison -short $(SHARED)

test-short: ## without the end-to-end tests
	$(GO) run ./test/runner -short ./...

lint: ## formatting, vet, module files, golangci-lint
	@test -z "$$(gofmt -l cmd pkg test)" || { echo "not formatted:"; gofmt -l cmd pkg test; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet -stdmethods=false ./...
	$(GO) tool -modfile=test/lint/go.mod golangci-lint run ./...

bench: ## benchmarks of the hot paths, as ratios to their limits
	$(GO) run ./test/bench $(ROW)

soak: ## long random tests, each for MINUTES (30), from SEED on
	HINDSIGHT_SOAK_MINUTES=$${MINUTES:-30} HINDSIGHT_SOAK_SEED=$${SEED:-0} $(GO) test -timeout 0 -run Soak -v ./...

generate: ## code from proto/
	$(GO) generate ./proto
