#!/usr/bin/env bash
# Checks everything: format, lint, types, import rules, tests; with `all`, also in a real Open WebUI.
# Other arguments go to pytest: ./test.sh tests/unit -k parser
set -euo pipefail
cd "$(dirname "$0")"

if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  cat <<'TEXT'
usage: ./test.sh                       the quick checks: ruff, pyright, import-linter, tests without Open WebUI
       ./test.sh e2e [--screenshots]   the journeys in a real Open WebUI, in Chromium
       ./test.sh all                   both
       ./test.sh [pytest arguments]    pytest alone, for example: ./test.sh tests/unit -k parser

It makes its own environments: .venv-test, .venv-stock (the stock server image's old pins), and for e2e
Open WebUI in ~/.cache/agent-mode. As root on Debian it installs Chromium if there is none. Arguments after
e2e go to pytest. --screenshots takes the pictures of docs/images anew, and does nothing else.
More: docs/development.md
TEXT
  exit 0
fi

source scripts/venv.sh
source scripts/e2e-env.sh
ensure_venv .venv-test requirements.lock requirements-dev.lock
ensure_venv .venv-stock requirements-stock.lock
export PATH="$PWD/.venv-test/bin:$PATH" AGENT_MODE_STOCK_PYTHON="$PWD/.venv-stock/bin/python"

quick() {
  ruff format --check .
  ruff check .
  pyright --warnings
  lint-imports
  tests python -m pytest -n 3 --dist loadfile "$@"  # many tests wait for servers
}

e2e() {
  ensure_e2e
  export AGENT_MODE_TEST_PYTHON="$PWD/.venv-test/bin/python" AGENT_MODE_E2E_CHROMIUM="$E2E_CHROMIUM"
  export AGENT_MODE_E2E_OPEN_WEBUI="${AGENT_MODE_E2E_OPEN_WEBUI:-$(dirname "$E2E_PYTHON")/open-webui}"
  tests "$E2E_PYTHON" -m pytest tests/e2e "$@"
}

# With AGAIN, what fails is told and tried once more, without the others: servers and browsers on a busy machine
# are late now and then, and what is broken fails twice.
AGAIN=""
tests() {
  local code=0
  "$@" || code=$?
  [[ -n "$AGAIN" && "$code" == 1 ]] || return "$code"
  echo "What failed is tried once more."
  "$@" --last-failed --last-failed-no-failures none
}

case "${1:-}" in
  "")
    quick -m "not long"
    echo "Left out: the journeys in a real Open WebUI (./test.sh e2e), the stock server on the newest packages, and"
    echo "long tests: starts, single files, loads, kills (marked long). ./test.sh all runs everything."
    ;;
  all)
    export AGENT_MODE_TEST_FULL=1
    AGAIN=yes
    quick
    e2e
    ;;
  e2e) e2e "${@:2}" ;;
  *) exec python -m pytest "$@" ;;
esac
