#!/usr/bin/env bash
# install.sh as a newcomer meets it: what is missing, odd folders, twice, uninstalling. A made-up toolchain
# stands in for the slow one, except in the last part, which builds and runs the real program; `--quick`
# leaves that part out. The last line is `N passed, M failed`.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# ---- a machine of our own --------------------------------------------------------------------------------

# Only what POSIX gives a script; no cargo, rustc, cc or cmake.
bare=$work/bare
mkdir "$bare"
for tool in sh cat chmod cp dirname grep head ls mkdir mktemp mv rm sed sort tail tee uname; do
  ln -s "$(command -v "$tool")" "$bare/$tool"
done

# make_tool FOLDER NAME: a program from standard input
make_tool() {
  mkdir -p "$1"
  cat >"$1/$2"
  chmod +x "$1/$2"
}

whole=$work/whole
make_tool "$whole" rustc <<'END'
#!/bin/sh
echo "rustc ${FAKE_RUSTC:-1.95.0} (0123abcde 2026-01-01)"
END
make_tool "$whole" cc <<'END'
#!/bin/sh
[ -z "${FAKE_CC_FAILS:-}" ] || { echo "stdio.h: no such file" >&2; exit 1; }
while [ $# -gt 0 ]; do
  [ "$1" != -o ] || printf '' >"$2"
  shift
done
END
make_tool "$whole" cargo <<'END'
#!/bin/sh
[ "$1" = build ] && [ -f Cargo.toml ] || { echo "cargo was called as: $*, in $(pwd)" >&2; exit 9; }
case " $* " in *' --release '*) ;; *) exit 9 ;; esac
case " $* " in *' --locked '*) ;; *) exit 9 ;; esac
if [ -n "${FAKE_BUILD_FAILS:-}" ]; then
  echo "$FAKE_BUILD_FAILS" >&2
  exit 101
fi
cat >"$FAKE_BUILT/vault-mcp" <<'PROGRAM'
#!/bin/sh
# Lets an AI client use HashiCorp Vault or OpenBao without being trusted with it
echo "vault-mcp 0.0.1"
PROGRAM
chmod +x "$FAKE_BUILT/vault-mcp"
printf '{"reason":"compiler-artifact","executable":null}\n'
printf '{"reason":"compiler-artifact","executable":"%s/vault-mcp","fresh":false}\n' "$FAKE_BUILT"
printf '{"reason":"build-finished","success":true}\n'
END

# A new home for each test; `run` calls install.sh there and keeps what it said.
begin() {
  home=$work/home
  rm -rf "$home" "$work/built" "$work/tmp"
  mkdir "$home" "$work/built" "$work/tmp"
  faults=()
  title=$1
}
run() { # run [NAME=VALUE…] -- ARGUMENT…
  local set=()
  while [ "$1" != -- ]; do
    set+=("$1")
    shift
  done
  shift
  said=$(cd "${from:-$home}" && env -i HOME="$home" TMPDIR="$work/tmp" FAKE_BUILT="$work/built" PATH="$whole:$bare" \
    "${set[@]+"${set[@]}"}" sh "${script:-$top/install.sh}" "$@" 2>&1)
  code=$?
  [ -z "$(ls -A "$work/tmp")" ] || faults+=("left behind in TMPDIR: $(ls "$work/tmp")")
}
expect() { # expect WHAT COMMAND…
  local what=$1
  shift
  "$@" || faults+=("$what")
}
says() { expect "it does not say: $1" grep -qF -- "$1" <<<"$said"; }
hides() { expect "it says: $1" bash -c '! grep -qF -- "$1" <<<"$2"' - "$1" "$said"; }
ends() { expect "exit code $code in place of $1" test "$code" -eq "$1"; }
# Every file below the home, so that nothing else appears or goes.
holds() { expect "the home holds: $(files)" test "$(files)" = "$*"; }
files() { (cd "$home" && find . -not -type d | sort | tr '\n' ' ' | sed 's/ $//'); }
done_with() {
  if [ "${#faults[@]}" -eq 0 ]; then
    passed=$((passed + 1))
    printf 'ok: %s\n' "$title"
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$title"
    printf '  %s\n' "${faults[@]}" "it said:"
    sed 's/^/  | /' <<<"$said"
  fi
}

# ---- what is missing -------------------------------------------------------------------------------------

begin "help is given without any toolchain"
run PATH="$bare" -- --help
ends 0 && says "Usage: install.sh" && says "--uninstall"
holds ""
done_with

begin "a missing cargo is named, with the way to get it"
run PATH="$bare" --
ends 1 && says "cargo is not on PATH" && says "https://rustup.rs"
holds ""
done_with

begin "a cargo that is only in ~/.cargo/bin is found"
mkdir -p "$home/.cargo"
cp -R "$whole" "$home/.cargo/bin"
make_tool "$work/only-cc" cc <"$whole/cc"
run PATH="$work/only-cc:$bare" --
ends 0 && expect "no binary" test -x "$home/.local/bin/vault-mcp"
done_with

begin "a missing C compiler is named, with the way to get it"
mkdir "$work/no-cc"
cp "$whole/cargo" "$whole/rustc" "$work/no-cc"
run PATH="$work/no-cc:$bare" --
ends 1 && says "there is no C compiler" && says "then run this again"
holds ""
make_tool "$work/apt" apt-get </dev/null
run PATH="$work/no-cc:$bare:$work/apt" --
says "sudo apt-get install build-essential"
done_with

begin "a C compiler without headers is told from a whole one"
run FAKE_CC_FAILS=1 --
ends 1 && says "stdio.h: no such file" && says "cannot build a program"
holds ""
done_with

begin "a CC that does not exist is named"
run CC="clang-99 -m64" --
ends 1 && says "clang-99"
holds ""
done_with

begin "a rustc that is too old is told, with both versions"
run FAKE_RUSTC=1.94.1 --
ends 1 && says "rustc is 1.94.1" && says "needs 1.95" && says "rustup update stable"
holds ""
done_with

begin "versions are compared as numbers"
run FAKE_RUSTC=1.100.0-nightly --
ends 0
done_with

begin "a build that needs cmake says so"
run FAKE_BUILD_FAILS="Missing dependency: cmake" --
ends 1 && says "needs cmake" && says "Missing dependency: cmake"
holds ""
done_with

begin "a build that fails otherwise leaves cargo's words and nothing else"
run FAKE_BUILD_FAILS="error: could not compile" --
ends 1 && says "error: could not compile" && says "cargo's words are above" && hides cmake
holds ""
done_with

begin "without HOME it asks for a prefix"
run HOME= --
ends 1 && says "HOME is not set" && says "--prefix"
done_with

begin "an unknown option is refused by name"
run -- --perfix /x
ends 1 && says "there is no option '--perfix'"
run -- --prefix
ends 1 && says "--prefix needs a folder"
holds ""
done_with

# ---- where it goes ---------------------------------------------------------------------------------------

begin "it goes to ~/.local/bin, and says what comes next"
run --
ends 0 && holds "./.local/bin/vault-mcp"
says "Installed vault-mcp 0.0.1: $home/.local/bin/vault-mcp"
says "claude mcp add vault-dev -- $home/.local/bin/vault-mcp --dev"
says "claude mcp add vault -- $home/.local/bin/vault-mcp"
says "$home/.local/bin is not on your PATH"
done_with

begin "with the folder on PATH the short name is enough"
run PATH="$home/.local/bin:$whole:$bare" --
ends 0 && says "claude mcp add vault -- vault-mcp" && hides "not on your PATH"
done_with

begin "another vault-mcp on PATH is pointed out, and not used"
make_tool "$work/other" vault-mcp </dev/null
run PATH="$work/other:$whole:$bare" --
ends 0 && says "another one: $work/other/vault-mcp" && says "claude mcp add vault -- $home/.local/bin/vault-mcp"
done_with

begin "a prefix with spaces and quotes works, and so do the commands that it prints"
odd="$home/Ann's tools \$HOME"
run -- --prefix "$odd"
ends 0 && expect "no binary" test -x "$odd/bin/vault-mcp"
make_tool "$work/claude" claude <<'END'
#!/bin/sh
printf '%s|' "$@"
END
line=$(grep -F 'claude mcp add vault --' <<<"$said")
expect "the printed command does not run it: $line" \
  test "$(PATH="$work/claude:$PATH" sh -c "$line")" = "mcp|add|vault|--|$odd/bin/vault-mcp|"
line=$(grep -F 'export PATH=' <<<"$said")
expect "the printed PATH does not find it: $line" \
  test "$(PATH=$bare sh -c "$line; command -v vault-mcp")" = "$odd/bin/vault-mcp"
line=$(sed -n 's/^To remove it: //p' <<<"$said")
expect "the printed removal fails: $line" env HOME="$home" PATH="$bare" sh -c "$line >/dev/null"
holds ""
done_with

begin "it works from another folder, with a prefix relative to that folder"
mkdir "$home/sub"
from=$home/sub run -- --prefix=tools/
ends 0 && holds "./sub/tools/bin/vault-mcp"
done_with

begin "it finds its sources when the clone's own path has spaces"
mkdir "$home/my clone"
cp "$top/install.sh" "$top/Cargo.toml" "$home/my clone"
script="$home/my clone/install.sh" run -- --prefix "$home/p"
ends 0 && expect "no binary" test -x "$home/p/bin/vault-mcp"
done_with

begin "away from its sources it says so"
cp "$top/install.sh" "$home"
script=$home/install.sh run --
ends 1 && says "the sources of vault-mcp are not beside this script"
done_with

begin "a second run replaces the binary and leaves nothing else"
run --
run --
ends 0 && says "(was vault-mcp 0.0.1)" && holds "./.local/bin/vault-mcp"
done_with

begin "a link in its place is replaced, and what it led to stays"
mkdir -p "$home/.local/bin"
cp "$top/install.sh" "$home/kept"
printf '# HashiCorp Vault or OpenBao without being trusted with it\n' >>"$home/kept"
before=$(cksum <"$home/kept")
ln -s "$home/kept" "$home/.local/bin/vault-mcp"
run --
ends 0 && expect "it is still a link" test ! -L "$home/.local/bin/vault-mcp"
expect "what it led to changed" test "$(cksum <"$home/kept")" = "$before"
done_with

begin "somebody else's file of that name is not touched"
make_tool "$home/.local/bin" vault-mcp <<<'#!/bin/sh'
for more in "" --uninstall; do
  # shellcheck disable=SC2086
  run -- $more
  ends 1 && says "is not this program"
done
expect "it changed" test "$(cat "$home/.local/bin/vault-mcp")" = '#!/bin/sh'
done_with

begin "a folder that cannot be made is named"
printf '' >"$home/file"
run -- --prefix "$home/file"
ends 1 && says "$home/file/bin cannot be made" && says "--prefix"
holds "./file"
done_with

# ---- uninstalling ----------------------------------------------------------------------------------------

begin "uninstalling removes the binary alone, needs no toolchain, and can be repeated"
run --
printf '' >"$home/.local/bin/neighbour"
run PATH="$bare" -- --uninstall
ends 0 && says "Removed $home/.local/bin/vault-mcp" && says "claude mcp remove vault"
holds "./.local/bin/neighbour"
run PATH="$bare" -- --uninstall
ends 0 && says "nothing to remove"
done_with

# ---- the real thing --------------------------------------------------------------------------------------

if [ "${1:-}" != --quick ]; then
  begin "the real program is built, installed and answers a client"
  prefix="$home/a b"
  said=$(cd / && sh "$top/install.sh" --prefix "$prefix" 2>&1)
  code=$?
  ends 0 && says "Installed vault-mcp "
  hello='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"install","version":"1"}}}'
  answer=$(env -i HOME="$home" "$prefix/bin/vault-mcp" --dev <<<"$hello" 2>"$work/stderr")
  expect "initialize is answered by: $answer $(cat "$work/stderr")" grep -q '"serverInfo":{"name":"vault-mcp"' <<<"$answer"
  said=$(sh "$top/install.sh" --prefix "$prefix" --uninstall 2>&1)
  expect "it is still there" test ! -e "$prefix/bin/vault-mcp"
  done_with
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
