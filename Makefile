# Each target calls a script in .ci/; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help build run test golden crds chart image bench fmt lint ci e2e e2e-all clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the binary as it is shipped (release, fat LTO, some minutes)
	@.ci/build

run: ## try it: three upstreams, the gateway on manifests/examples/demo, and curl lines to type
	@.ci/demo

test: ## everything a change must pass: demo, rooms, golden files, whole gateway, chart, a real Kubernetes
	@.ci/test

golden: ## rewrite the golden files; then read the diff line by line
	@.ci/golden

crds: ## write crds/ and docs/reference.md from the Rust types
	@.ci/crds

chart: ## write what is made from the chart and from crds/ (values table, install.yaml), and check it
	@.ci/chart --write

image: ## build the static binary and its image; prints the path
	@.ci/image

bench: ## CPU time per request beside nginx, HAProxy and Envoy
	@.ci/bench

fmt: ## format the code
	@.ci/fmt --write

lint: ## formatting, tidy, clippy and the dependency rules
	@.ci/fmt && .ci/tidy && .ci/clippy && .ci/deny

ci: ## all stages in order, as they run before a change lands
	@.ci/run

e2e: ## only the tests that start the whole gateway, on a real Kubernetes too
	@.ci/e2e

e2e-all: ## the same, and the tests that take long or much (10,000 streams, a minute at ten times a limit, Chromium; KEDA, built in 15 minutes the first time)
	@.ci/e2e --all

clean: ## remove what builds and benches leave behind
	@.ci/clean
