#!/usr/bin/env bash
# Starts Agent Mode. The first start makes .venv and installs the locked dependencies; later ones install nothing.
set -euo pipefail
cd "$(dirname "$0")"

if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  cat <<'TEXT'
usage: ./start.sh

Installs what is needed into .venv (first start only) and runs the Pipelines server with Agent Mode in it.
It prints the URL and the key to paste into Open WebUI.

environment:
  HOST, PORT               where to listen (127.0.0.1, 9099)
  PIPELINES_API_KEY        connection key; default: generated once and kept in the data directory
  OPENAI_API_BASE_URL      an OpenAI-compatible provider, for example http://127.0.0.1:11434/v1
  OPENAI_API_KEY           its key; without a provider the built-in demo model answers
  AGENT_MODE_DATA_DIR      database, key, run-time pipelines (./data)
  AGENT_MODE_DATABASE_URL  PostgreSQL instead of the embedded SQLite
  PYTHON                   the Python to use, 3.11 or 3.12
More: docs/settings.md
TEXT
  exit 0
elif [[ $# -gt 0 ]]; then
  echo "start.sh takes no arguments (see ./start.sh --help)." >&2
  exit 2
fi

source scripts/venv.sh
ensure_venv .venv requirements.lock
exec .venv/bin/python -m agent_mode serve
