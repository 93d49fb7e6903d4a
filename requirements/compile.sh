#!/bin/sh
# Compiles the lock files from pyproject.toml: exact versions, hashes, no index URL.
# Needs uv, which the dev environment holds. Run it as `make locks`.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --custom-compile-command 'make locks' "$@"; }
compile pyproject.toml --output-file requirements/run.txt
compile pyproject.toml --extra kubernetes --constraint requirements/run.txt --output-file requirements/cluster.txt
compile pyproject.toml --extra kubernetes --group dev --constraint requirements/cluster.txt --output-file requirements/dev.txt
compile --group fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt
