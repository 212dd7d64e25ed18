# Every target works on a fresh clone; what it needs it makes or says.
GO     ?= go
BIN    := bin/outrigger
TOOLS  := $(CURDIR)/.tools
LINT   := $(TOOLS)/golangci-lint
LINT_VERSION := v2.15.0
SHARED ?= ../shared
FUZZTIME ?= 10s
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build test race lint fuzz bench conformance demo check clean FORCE

help: ## show the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BIN) ## build bin/outrigger, one static binary

$(BIN): FORCE
	$(GO) build -trimpath -ldflags '-s -w' -o $@ ./cmd/outrigger

test: ## run all tests, on both engines
	$(GO) test ./...
	OUTRIGGER_ENGINE=goroutine $(GO) test ./...

race: ## run all tests with the race detector, on the event loop
	CGO_ENABLED=1 $(GO) test -race ./...

lint: $(LINT) ## run the linters of .golangci.yml
	$(LINT) run ./...

$(LINT):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

fuzz: ## fuzz every parser for FUZZTIME (10s) each
	@GO=$(GO) FUZZTIME=$(FUZZTIME) test/fuzz.sh

bench: $(BIN) ## compare CPU per request with other proxies (needs SHARED, the benchmark's home)
	test/bench/run.sh $(SHARED)/bench

conformance: $(BIN) ## run the scenarios against real Envoy, and the published cases if SHARED has them
	test/conformance.sh $(SHARED)/conformance

demo: $(BIN) ## watch a sidecar at work
	$(GO) build -o bin/demo ./test/demo && bin/demo -outrigger $(BIN)

check: test lint race fuzz ## all that must hold before a commit

clean: ## remove what was built
	rm -rf bin .tools
