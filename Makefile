# The two commands a newcomer needs are 'make dev' and 'make test'.
SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build dev jaeger test vet lint test-go test-faults bench bench-tracing fuzz vuln sbom proto clean

LINT_VERSION := v2.15.0
LINT := bin/golangci-lint-$(LINT_VERSION)

build: ## the binary, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/voxedge .

dev: build ## everything in one process, with a voice where one can be had
	@./dev-voice.sh
	@exec bin/voxedge dev

jaeger: ## look at the traces: run voxedge with OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317
	@echo "Jaeger's page is http://localhost:16686; Ctrl-C ends it."
	@if docker info >/dev/null 2>&1; then docker compose up jaeger; else exec $$(.ci/jaeger); fi

test: vet lint test-go ## all that must pass

vet:
	go vet ./...

lint: $(LINT)
	$(LINT) run ./...

$(LINT):
	GOBIN=$(CURDIR)/bin/tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/tmp/golangci-lint $@

test-go: ## the processes of the end-to-end tests have the machine to themselves
	go test -race -timeout 20m $$(go list ./... | grep -v /e2e)
	go test -race -timeout 30m ./e2e

test-faults: ## only the faults and the soak: processes killed, stalled, cut off
	go test -race -timeout 20m -count=1 -v -run 'Fault|Soak' ./e2e

bench: build ## what a frame costs, beside a bare relay; then the inner parts
	bin/voxedge bench --out docs/performance
	go test -run '^$$' -bench . -benchmem ./session ./telemetry ./clients

bench-tracing: ## what tracing costs the edge, a frame
	go test -run '^$$' -bench Tracing -benchtime 20x ./e2e

# A list of packages and their fuzz targets; end-to-end tests have none. By default most of
# the time goes into making inputs smaller (-fuzzminimizetime).
FUZZ_TARGETS = go list ./... | grep -v /e2e | while read -r package; do \
	go test -list '^Fuzz' $$package | sed -n "s|^Fuzz|$$package Fuzz|p"; done
FUZZ_TIME ?= 1m
fuzz: ## each fuzz target for FUZZ_TIME, as many at once as there are cores
	@set -o pipefail; $(FUZZ_TARGETS) | xargs -P $$(nproc) -L 1 bash -c \
		'out=$$(go test -run "^$$" -fuzz "^$$1\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x -parallel 1 $$0 2>&1) || { echo "$$out"; exit 255; }; \
		echo "$$1: $$(grep -o "execs: [0-9]*" <<<"$$out" | tail -n 1), nothing found"'

vuln: ## known weaknesses of what is built in; needs the database at vuln.go.dev
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...

sbom: build ## what is built in, as CycloneDX; the images have it at /voxedge.cdx.json
	go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0 bin -json -output bin/voxedge.cdx.json bin/voxedge

proto: ## needs protoc, protoc-gen-go and protoc-gen-go-grpc
	go generate ./proto

clean:
	rm -rf bin
