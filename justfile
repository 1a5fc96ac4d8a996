# The names people know, over the Makefile.

default:
    @just --list

# the edge
run-orch: build
    bin/voxedge serve

# a Redis for the edge and the workers
redis:
    docker compose up redis

# the reference worker
run-tts: build
    bin/voxedge worker

# speak through the edge: just cli "Hello there"
cli text="Hello from voxedge." *flags="":
    bin/voxedge say "{{text}}" {{flags}}

# everything in one process
dev:
    make dev

build:
    make build

test:
    make test
