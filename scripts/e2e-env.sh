# Shell functions that test.sh uses for the end-to-end tests: Open WebUI and the browser's driver in an
# environment outside the checkout, made once for each state of the lock, and Chromium.

# ensure_e2e  (sets E2E_PYTHON and E2E_CHROMIUM)
ensure_e2e() {
  local lock=requirements-e2e.lock version digest
  version="$(sed -n 's/^open-webui==\([^ ]*\).*/\1/p' "$lock")"
  digest="$(cksum <"$lock" | cut -d' ' -f1)"
  local folder="${XDG_CACHE_HOME:-$HOME/.cache}/agent-mode/open-webui-$version-$digest"
  if [[ ! -x "$folder/bin/python" ]]; then
    echo "The end-to-end tests drive Open WebUI $version in Chromium. Its environment (about 1 GB) goes to"
    echo "  $folder"
    mkdir -p "$(dirname "$folder")"
  fi
  ensure_venv "$folder" "$lock"
  E2E_PYTHON="$folder/bin/python"
  ensure_chromium
}

ensure_chromium() {
  E2E_CHROMIUM="$(find_chromium)" && return
  if [[ "$(id -u)" == 0 && "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" == debian ]]; then
    echo "Installing Chromium: apt-get install chromium fonts-noto-color-emoji …"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends chromium fonts-noto-color-emoji >/dev/null ||
      fail "Chromium could not be installed." "apt-get says why above."
    E2E_CHROMIUM="$(find_chromium)" && return
  fi
  fail "The end-to-end tests need Chromium or Chrome; none was found." \
    "Debian: sudo apt install chromium. Elsewhere: install Chrome, or let AGENT_MODE_E2E_CHROMIUM name a browser."
}

find_chromium() {
  local candidate
  if [[ -n "${AGENT_MODE_E2E_CHROMIUM:-}" ]]; then
    [[ -x "$AGENT_MODE_E2E_CHROMIUM" ]] || fail "AGENT_MODE_E2E_CHROMIUM=$AGENT_MODE_E2E_CHROMIUM is no program."
    echo "$AGENT_MODE_E2E_CHROMIUM"
    return
  fi
  for candidate in chromium chromium-browser google-chrome google-chrome-stable \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
    command -v "$candidate" && return
  done
  return 1
}
