# Shell functions that start.sh and test.sh share: find a fitting Python, make a virtual environment and
# install the locked dependencies into it, once for each state of the lock.

fail() {
  echo "$1" >&2
  [[ -n "${2:-}" ]] && echo "  $2" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.12 python3.11 python3 python; do
    [[ -n "$candidate" ]] || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
    [[ "$candidate" == "${PYTHON:-}" ]] && fail "PYTHON=$PYTHON is not a working Python 3.11 or 3.12." \
      "Let PYTHON name one, or unset it."
  done
  fail "Agent Mode needs Python 3.11 or 3.12; none was found." \
    "Install one (Debian and Ubuntu: apt install python3 python3-venv), or let PYTHON name it."
}

# ensure_venv FOLDER LOCK...  (a lock names every package there is to install, so pip need not look for more)
ensure_venv() {
  local folder="$1" python digest
  shift
  digest="$(cat "$@" | cksum | tr -d ' ')"
  [[ -f "$folder/.installed-$digest" && -x "$folder/bin/python" ]] && return
  python="$(find_python)" || exit 1
  echo "Setting up $folder (a minute or two, this once) …"
  rm -rf "$folder"
  "$python" -m venv "$folder" || fail "The virtual environment could not be made." \
    "On Debian and Ubuntu: apt install python3-venv"
  for lock in "$@"; do
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock" ||
      fail "The dependencies could not be installed." \
        "pip says why above; most often the package index is not reachable. Run the same command again then."
  done
  touch "$folder/.installed-$digest"
}
