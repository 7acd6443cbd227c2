# GNU make 3.81 and bash 3.2 suffice. SERVICE_FLAGS passes flags on to the service, CLIENT_FLAGS to the client; the shell reads
# both, so values with spaces are quoted:
#   make run SERVICE_FLAGS="--object-ttl=5s --source-header='X-Team: billing'" CLIENT_FLAGS=--rate=5
SHELL := /bin/bash
GO ?= go
SERVICE_FLAGS ?=
CLIENT_FLAGS ?=
# LDFLAGS is the old name of SERVICE_FLAGS. Many systems set it for their linkers, so only a value that begins with -- counts.
ifneq ($(filter --%,$(firstword $(LDFLAGS))),)
service_flags = $(SERVICE_FLAGS) $(LDFLAGS)
else
service_flags = $(SERVICE_FLAGS)
ldflags_note = $(if $(strip $(LDFLAGS)),echo 'LDFLAGS is ignored: it holds no flags of the service. SERVICE_FLAGS= is for those.' >&2)
endif
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The race detector needs cgo and a C compiler; where there is none the tests run without it.
RACE := $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)

# Not for the programs' environment, where a CLIENT_ or LDFLAGS would mean something else.
unexport SERVICE_FLAGS CLIENT_FLAGS LDFLAGS

.DEFAULT_GOAL := help
.PHONY: help run callback-start client-start load test test-integration simulate flips fuzz bench lint build vendor compose-up compose-down clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## both services on embedded defaults, until Ctrl-C; SERVICE_FLAGS= for the service, CLIENT_FLAGS= for the client
	@$(ldflags_note)
	@.ci/run-both $(service_flags) -- $(CLIENT_FLAGS)

callback-start: build ## the callback service alone
	@$(ldflags_note)
	@exec bin/callback-service $(service_flags)

client-start: build ## the client alone: object source and gentle traffic, with a verdict at the end
	@exec bin/client-service $(CLIENT_FLAGS)

load: build ## a hard minute on embedded defaults in a throw-away folder, with a verdict
	@$(ldflags_note)
	@.ci/load $(service_flags) -- $(CLIENT_FLAGS)

test: ## unit tests with the race detector, on a PostgreSQL that it finds or sets up
	@.ci/with-postgres $(GO) test $(RACE) -timeout 10m ./...

test-integration: build ## the real binaries: crashes, outages, drain; with Prometheus, Jaeger and a browser
	@.ci/with-postgres .ci/with-tools $(GO) test $(RACE) -tags integration -count 1 -timeout 15m -parallel 4 ./cmd/...

simulate: ## the whole service in simulated trouble: SEEDS=1000 from START=1, or for a TIME=10m; SEED= replays one
	@SEEDS="$${SEEDS:-1000}" $(GO) test -run '^TestSimulate$$' -count 1 -timeout 0 -v ./cmd/callback-service

flips: ## an inbox with FLIPS=10000 flipped bits and torn pages, one at a time; FLIP= is the first
	@FLIPS="$${FLIPS:-10000}" $(GO) test -run '^TestFlippedBitsAndTornPages$$' -count 1 -timeout 0 -v ./internal/inbox

fuzz: ## every fuzz target for a while (FUZZTIME=30s)
	@.ci/fuzz "$${FUZZTIME:-30s}"

bench: ## benchmarks: decoder, inbox, dispatcher, source client, store
	@.ci/with-postgres $(GO) test -run '^$$' -bench . -benchmem ./internal/...

lint: ## gofmt, vet and golangci-lint
	@test -z "$$(gofmt -l cmd internal)" || { gofmt -l cmd internal; echo 'gofmt: run gofmt -w on these'; exit 1; }
	@$(GO) vet ./... && $(GO) vet -tags integration ./cmd/...
	@.ci/golangci run ./...

build: ## both binaries into bin/
	@echo 'building both programs: about a minute the first time, then seconds' >&2
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

vendor: ## go.mod, go.sum and vendor/ anew
	@$(GO) mod tidy && $(GO) mod vendor

# Secrets of the containers, made up once.
.env:
	@umask 077; for name in CALLBACK_OPERATOR_TOKEN POSTGRES_PASSWORD GRAFANA_PASSWORD; do \
	  echo "$$name=$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"; done >.env
	@echo 'the token and the passwords are in .env'

compose-up: .env ## everything in containers: service, client, PostgreSQL, Zipkin, Prometheus, Grafana; secrets are made up in .env
	@docker compose version --short 2>/dev/null | grep -q '^v\{0,1\}[2-9]' || { echo 'this needs Docker with Compose v2 (docker compose version)' >&2; exit 1; }
	@CALLBACK_VERSION='$(VERSION)' docker compose up --build --detach --wait

compose-down: ## stop the containers; the data stays on its volumes
	@docker compose down

clean: ## what was built
	@rm -rf bin
