# GNU make 3.81 and bash 3.2 suffice. LDFLAGS passes flags on to the service, CLIENT_FLAGS to the client:
#   LDFLAGS=--object-ttl=5s make run
SHELL := /bin/bash
GO ?= go
LDFLAGS ?=
CLIENT_FLAGS ?=
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The race detector needs cgo and a C compiler; where there is none the tests run without it.
RACE := $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)

.DEFAULT_GOAL := help
.PHONY: help run callback-start client-start load test test-integration fuzz bench lint build vendor compose-up compose-down clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## both services on embedded defaults, until Ctrl-C; LDFLAGS= for the service, CLIENT_FLAGS= for the client
	@.ci/run-both "$(LDFLAGS)" "$(CLIENT_FLAGS)"

callback-start: build ## the callback service alone
	@exec bin/callback-service $(LDFLAGS)

client-start: build ## the client alone: object source and gentle traffic, with a verdict at the end
	@exec bin/client-service $(CLIENT_FLAGS)

load: build ## a hard minute on embedded defaults in a throw-away folder, with a verdict
	@.ci/load

test: ## unit tests with the race detector, on a PostgreSQL that it finds or sets up
	@.ci/with-postgres $(GO) test $(RACE) -timeout 10m ./...

test-integration: build ## the real binaries: crashes, outages, drain; with Prometheus, Jaeger and a browser
	@.ci/with-postgres .ci/with-tools $(GO) test $(RACE) -tags integration -count 1 -timeout 15m ./cmd/...

fuzz: ## every fuzz target for a while (FUZZTIME=30s)
	@.ci/fuzz "$${FUZZTIME:-30s}"

bench: ## benchmarks: decoder, inbox, dispatcher, source client, store
	@.ci/with-postgres $(GO) test -run '^$$' -bench . -benchmem ./internal/...

lint: ## gofmt, vet and golangci-lint
	@test -z "$$(gofmt -l cmd internal)" || { gofmt -l cmd internal; echo 'gofmt: run gofmt -w on these'; exit 1; }
	@$(GO) vet ./... && $(GO) vet -tags integration ./cmd/...
	@.ci/golangci run ./...

build: ## both binaries into bin/
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

vendor: ## go.mod, go.sum and vendor/ anew
	@$(GO) mod tidy && $(GO) mod vendor

# Secrets of the containers, made up once.
.env:
	@umask 077; for name in CALLBACK_OPERATOR_TOKEN POSTGRES_PASSWORD GRAFANA_PASSWORD; do \
	  echo "$$name=$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"; done >.env
	@echo 'the token and the passwords are in .env'

compose-up: .env ## everything in containers: service, client, PostgreSQL, Zipkin, Prometheus, Grafana; secrets are made up in .env
	@docker compose up --build --detach --wait

compose-down: ## stop the containers; the data stays on its volumes
	@docker compose down

clean: ## what was built
	@rm -rf bin
