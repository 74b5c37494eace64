#!/usr/bin/env bash
# Prints the path of a Vault server for the tests; builds it once a machine when there is none.
#
# In this order:
#   1. $VAULT_MCP_TEST_VAULT, whatever it is: whoever sets it has chosen.
#   2. The cached build of the version that go.mod pins.
#   3. A `vault` or `bao` on PATH of a version that speaks the API the suite uses.
#   4. That build, made now: some 3 minutes of downloads and 4 of compiling on two cores, 360 MB.
#
# Only the path goes to standard output, everything else to standard error. Vault is licensed under the
# BUSL; it is used to test with, and nothing of it is shipped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(awk '$1 == "require" && $2 == "github.com/hashicorp/vault" { print substr($3, 2) }' "$here/go.mod")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vault-mcp/vault-$version
binary=$cache/vault

say() { printf 'vault for the tests: %s\n' "$*" >&2; }

if [ -n "${VAULT_MCP_TEST_VAULT:-}" ]; then
  if ! [ -x "$VAULT_MCP_TEST_VAULT" ]; then
    say "VAULT_MCP_TEST_VAULT names $VAULT_MCP_TEST_VAULT, which is no program. Unset it or mend it."
    exit 1
  fi
  say "$VAULT_MCP_TEST_VAULT, as VAULT_MCP_TEST_VAULT says"
  printf '%s\n' "$VAULT_MCP_TEST_VAULT"
  exit 0
fi

# Whether the server at $1 is of a version whose API the suite knows.
fits() {
  case $("$1" version 2>/dev/null | head -n 1) in
    'Vault v1.1'[5-9].* | 'Vault v1.2'[01].* | 'OpenBao v2.'*) return 0 ;;
    *) return 1 ;;
  esac
}

if ! [ -x "$binary" ]; then
  for name in vault bao; do
    if found=$(command -v "$name") && fits "$found"; then
      say "$found, from PATH: $("$found" version | head -n 1)"
      printf '%s\n' "$found"
      exit 0
    fi
  done
fi

if ! [ -x "$binary" ]; then
  if ! command -v go >/dev/null; then
    say "there is no Go here to build it with. Install Go, or name a server in VAULT_MCP_TEST_VAULT."
    exit 1
  fi
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  # A second run waits here and then finds the first one's binary. Without flock both build; the rename
  # below keeps that harmless.
  if command -v flock >/dev/null; then flock 9; fi
  if ! [ -x "$binary" ]; then
    say "building Vault $version into $cache; once a machine, some minutes"
    half=$cache/vault.$$.part
    trap 'rm -f "$half"' EXIT
    (
      cd "$here"
      exec 9>&-
      CGO_ENABLED=0 nice -n 5 go build -mod=readonly -trimpath -ldflags '-s -w' -o "$half" \
        github.com/hashicorp/vault >&2
    )
    "$half" version >&2
    mv "$half" "$binary"
  fi
  exec 9>&-
fi

say "$binary"
printf '%s\n' "$binary"
