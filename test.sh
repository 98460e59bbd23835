#!/usr/bin/env bash
# Checks everything that can be checked without Open WebUI itself: format, lint, types, import rules, tests.
# Arguments go to pytest: ./test.sh tests/unit -k parser
set -euo pipefail
cd "$(dirname "$0")"

if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  echo "usage: ./test.sh [pytest arguments]"
  echo
  echo "Makes its own environments (.venv-test, and .venv-stock with the stock server image's old pins),"
  echo "then runs ruff, pyright, import-linter and pytest. With arguments: pytest alone."
  exit 0
fi

source scripts/venv.sh
ensure_venv .venv-test requirements.lock requirements-dev.lock
ensure_venv .venv-stock requirements-stock.lock
export PATH="$PWD/.venv-test/bin:$PATH" AGENT_MODE_STOCK_PYTHON="$PWD/.venv-stock/bin/python"

if [[ $# -gt 0 ]]; then
  exec python -m pytest "$@"
fi

ruff format --check .
ruff check .
pyright --warnings
lint-imports
python -m pytest
