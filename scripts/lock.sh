#!/usr/bin/env bash
# Makes the lock files anew from the ranges in requirements*.txt.
# Needs uv on the PATH. One lock serves Python 3.11 and 3.12 on every platform.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header "$@"
}
compile requirements.txt -o requirements.lock
compile requirements-dev.txt -c requirements.lock -o requirements-dev.lock
compile requirements-stock.txt -o requirements-stock.lock
compile requirements-e2e.txt --excludes requirements-e2e-left-out.txt -o requirements-e2e.lock
