# Every verb is one line of a tool that also works without make. Nothing is installed outside this checkout:
# .venv/ holds Python packages, .tools/ what tests run and what the image is made of, build/ the image.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
# The caller's umask and locale must not change a test.
export LC_ALL := C.UTF-8

.PHONY: help demo test test-all unit check format image protos locks docs bench-serve bench-splice bench-dht bench-herd bench-sim fuzz tools kube-apiserver client-tools clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: venv-run ## a cluster of five daemons on loopback, an origin behind a slow link, and what it saved
	@$(PY) -m mirror demo $(ARGS)

test: venv-dev tools ## all tests that matter, two files at a time, in 13 to 18 minutes
	@$(PY) -m pytest -q -m "not matrix" -n 2 --dist loadfile $(ARGS)

test-all: venv-dev tools ## the full matrix, and every property with three times the examples
	@TEST_THOROUGH=1 $(PY) -m pytest -q $(ARGS)

unit: venv-dev ## pure code and seams only, about four minutes
	@$(PY) -m pytest -q -n 2 --dist loadfile tests/unit tests/seams $(ARGS)

check: venv-dev ## format, lint, types, import contracts, generated files
	@.venv/bin/ruff format --check --quiet . || { .venv/bin/ruff format --diff --quiet .; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --config .importlinter
	@$(PY) -m tests.support.protos --check

format: venv-dev ## rewrites what check would refuse in format and lint
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

image: venv-run ## the container image below build/, an OCI layout and a tar for `ctr image import`; no engine, no root
	@$(PY) -m tests.image.build $(ARGS)

protos: venv-dev ## regenerates containerd/api from its .proto files
	@$(PY) -m tests.support.protos

locks: venv-dev ## compiles requirements/*.txt from pyproject.toml
	@PATH="$(CURDIR)/.venv/bin:$$PATH" requirements/compile.sh

docs: venv-dev ## regenerates docs/settings.md, docs/api and the values in helm/peili/README.md
	@$(PY) -m mirror.settings --write
	@$(PY) -m mirror.admin --write
	@$(PY) -m tests.support.chart_readme --write

bench-serve: venv-dev tools ## idle memory, a manifest hit and a 1 GiB blob, next to nginx: one JSON line
	@$(PY) -m tests.bench.serve $(ARGS)

bench-splice: venv-dev tools ## a 1 GiB layer from a peer to containerd by splice, copy and spool: one JSON line
	@$(PY) -m tests.bench.splice $(ARGS)

bench-dht: venv-dev ## lookups, announces and rest of 50 to 5,000 nodes, beside a bare ping: JSON lines
	@$(PY) -m tests.bench.dht $(ARGS)

bench-herd: venv-dev tools ## hosts that pull one image at once, without and with daemons: one JSON line
	@$(PY) -m tests.bench.herd $(ARGS)

bench-sim: venv-dev ## herds of 5 to 2,000 hosts in virtual time, on the real decisions: JSON lines
	@$(PY) -m tests.bench.sim $(ARGS)

FUZZ_S ?= 600
fuzz: venv-dev ## ten minutes of coverage-guided fuzzing of the datagram path (FUZZ_S=600)
	@$(PY) -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/fuzz.txt
	@$(PY) -m tests.fuzz.datagram_corpus unpack .fuzz
	@$(PY) -m tests.fuzz.fuzz_datagrams .fuzz -max_total_time=$(FUZZ_S) -use_value_profile=1
	@$(PY) -m tests.fuzz.datagram_corpus pack .fuzz

tools: venv-dev ## fetches the real daemons that tests run, and the packages of the image, into .tools/
	-@$(PY) -m tests.support.helm_tools >&2 || echo "the tests of the chart will be named as skipped" >&2
	-@$(PY) -m tests.support.debs >&2 || echo "the suites that need these will be named as skipped" >&2
	-@$(PY) -m tests.image.build --fetch >&2 || echo "the suites that need the image will be named as skipped" >&2

kube-apiserver: venv-dev ## builds a real API server for the chart's matrix tests: some minutes, needs Go
	@$(PY) -m tests.support.kube_apiserver_build

client-tools: venv-dev ## nerdctl, built, and a newer Podman, for matrix tests of other clients: some minutes, needs Go
	-@$(PY) -m tests.support.podman_root >&2
	@$(PY) -m tests.support.client_tools_build

clean: ## removes .venv, .tools and build
	rm -rf .venv .tools build .fuzz .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: venv-run venv-dev
venv-run:
	@requirements/venv.sh run
venv-dev:
	@requirements/venv.sh dev
