# Sourced by the scripts beside it: where the checkout is, what is on PATH, headings with seconds, and skips.
# It only defines things; it installs and checks nothing.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
TOOLS=$ROOT/.tools
# Debian keeps nginx and haproxy in /usr/sbin, which is not on everybody's PATH.
PATH=$TOOLS/venv/bin:$TOOLS/bin:$PATH:/usr/sbin:/sbin
export PATH

# say TEXT: one line for a person, on stderr, so that stdout stays for results.
say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# stage NAME COMMAND…: runs a command under a heading and closes with the seconds it took.
stage() {
  local name=$1 start=$SECONDS
  shift
  printf '\n=== %s\n' "$name"
  if "$@"; then
    printf -- '--- %s: ok, %d s\n' "$name" $((SECONDS - start))
  else
    local code=$?
    printf -- '--- %s: FAILED (exit %d), %d s\n' "$name" "$code" $((SECONDS - start))
    exit "$code"
  fi
}

# skip WHAT: a level that this machine cannot run. CI counts a skip as a failure, a laptop goes on.
skip() {
  if [ "${CI:-}" = true ]; then
    die "$* (a skip fails in CI)"
  fi
  say "skipped: $*"
}

# The folder that cargo builds into, as an absolute path.
target_dir() { realpath -m "${CARGO_TARGET_DIR:-target}"; }
