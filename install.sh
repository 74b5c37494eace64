#!/bin/sh
# Builds vault-mcp with cargo and puts the one binary in place. It writes to cargo's own folders (target/
# here, cargo's cache of sources) and to PREFIX/bin/vault-mcp, and nowhere else.
set -eu

usage() {
  cat <<'END'
Usage: install.sh [--prefix DIR] [--uninstall] [--help]

Builds vault-mcp with cargo and puts the binary in ~/.local/bin.

  --prefix DIR   put it in DIR/bin instead
  --uninstall    remove the binary again, and nothing else
  --help         print this

Needs Rust (rustc and cargo) and a C compiler. Run it again to update.
END
}

say() { printf '%s\n' "$*"; }

# die FAULT REMEDY
die() {
  printf 'install.sh: %s\n' "$1" >&2
  printf '  %s\n' "$2" >&2
  exit 1
}

# A word that a shell reads back as the same word.
quoted() {
  case $1 in
    *[!A-Za-z0-9_./+:@%,-]* | '') printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
  esac
}

# ---- arguments -------------------------------------------------------------------------------------------

prefix='' given='' uninstall=false
while [ $# -gt 0 ]; do
  case $1 in
    --prefix)
      [ $# -ge 2 ] || die "--prefix needs a folder." "Give one: install.sh --prefix /opt/tools"
      prefix=$2 given=yes
      shift
      ;;
    --prefix=*) prefix=${1#--prefix=} given=yes ;;
    --uninstall) uninstall=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die "there is no option '$1'." "install.sh --help lists those that there are." ;;
  esac
  shift
done

if [ -z "$given" ]; then
  [ -n "${HOME:-}" ] || die "HOME is not set, so there is no ~/.local." "Set HOME, or give --prefix DIR."
  prefix=$HOME/.local
fi
[ -n "$prefix" ] || die "--prefix is empty." "Give a folder: install.sh --prefix /opt/tools"
case $prefix in
  /) ;;
  /*) prefix=${prefix%/} ;;
  *) prefix=$(pwd)/${prefix%/} ;;
esac
bin=${prefix%/}/bin
target=$bin/vault-mcp
again=''
if [ -n "$given" ]; then again=" --prefix $(quoted "$prefix")"; fi

# A file of that name that is not this program is somebody else's. Its own description tells.
is_ours() { LC_ALL=C grep -q 'HashiCorp Vault or OpenBao without being trusted with it' "$1" 2>/dev/null; }
if [ -e "$target" ] || [ -L "$target" ]; then
  if [ -d "$target" ] || { [ -e "$target" ] && ! is_ours "$target"; }; then
    die "$target is there and is not this program." "Move it away, or choose another --prefix."
  fi
fi

# ---- uninstall -------------------------------------------------------------------------------------------

if $uninstall; then
  if [ -e "$target" ] || [ -L "$target" ]; then
    rm -f "$target" 2>/dev/null || die "$target cannot be removed." "Check who owns $bin, then run this again."
    say "Removed $target."
  else
    say "There is no vault-mcp in $bin; nothing to remove."
  fi
  say "Not touched: the audit log (its folder is in your data folder, vault-mcp/audit) and what clients"
  say "have registered; for Claude Code: claude mcp remove vault"
  exit 0
fi

# ---- what is needed --------------------------------------------------------------------------------------

script=$0
case $script in
  */*) ;;
  *) script=$(command -v -- "$script") || script=$0 ;;
esac
top=$(unset CDPATH && cd -- "$(dirname -- "$script")" && pwd) || top=''
if [ -z "$top" ] || ! grep -q '^name = "vault-mcp"' "$top/Cargo.toml" 2>/dev/null; then
  die "the sources of vault-mcp are not beside this script." "Run it from a clone of the repository."
fi

# rustup's installer leaves PATH to the next login.
if ! command -v cargo >/dev/null 2>&1; then
  cargo_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
  if [ -x "$cargo_bin/cargo" ]; then
    PATH=$PATH:$cargo_bin
    export PATH
  fi
fi
command -v cargo >/dev/null 2>&1 ||
  die "cargo is not on PATH." "Install Rust (https://rustup.rs), open a new shell, then run this again."
command -v rustc >/dev/null 2>&1 ||
  die "rustc is not on PATH, though cargo is." "Install Rust whole (https://rustup.rs), then run this again."

needed=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$top/Cargo.toml")
have=$(cd "$top" && rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9][0-9.]*\).*/\1/p') || have=''
[ -n "$have" ] || die "rustc does not say its version." "Run rustc --version and mend what it says."
# older A B: A is an older version than B
older() {
  [ "$1" != "$2" ] &&
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1)" = "$1" ]
}
if older "$have" "$needed"; then
  die "rustc is $have, and vault-mcp needs $needed or newer." \
    "Run rustup update stable, or install Rust from https://rustup.rs, then run this again."
fi

install_with() { # install_with APT DNF APK BREW
  if [ "$(uname -s)" = Darwin ]; then
    say "$4"
  elif command -v apt-get >/dev/null 2>&1; then
    say "sudo apt-get install $1"
  elif command -v dnf >/dev/null 2>&1; then
    say "sudo dnf install $2"
  elif command -v apk >/dev/null 2>&1; then
    say "sudo apk add $3"
  else
    say "the package manager of your system ($1, or its name there)"
  fi
}

work=$(mktemp -d "${TMPDIR:-/tmp}/vault-mcp-install.XXXXXX") ||
  die "no temporary folder can be made." "Set TMPDIR to a folder that can be written."
half=''
clean() {
  rm -rf "$work"
  if [ -n "$half" ]; then rm -f "$half"; fi
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# cc is what rustc links with; CC, where it is set, is what compiles the cryptography. A compiler without
# the C library's headers is as good as none.
printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' >"$work/try.c"
for compiler in cc "${CC:-cc}"; do
  # CC may carry arguments, as `ccache cc` does.
  # shellcheck disable=SC2086
  if ! command -v ${compiler%% *} >/dev/null 2>&1; then
    die "there is no C compiler: $compiler is not on PATH." \
      "Install one with $(install_with build-essential gcc build-base 'xcode-select --install'), then run this again."
  elif ! $compiler -o "$work/try" "$work/try.c" >"$work/cc.log" 2>&1; then
    sed 's/^/  /' "$work/cc.log" >&2
    die "the C compiler $compiler cannot build a program of three lines; its words are above." \
      "Install a whole one with $(install_with build-essential gcc build-base 'xcode-select --install'), then run this again."
  fi
done

# ---- build -----------------------------------------------------------------------------------------------

say "Building vault-mcp in $top (some minutes the first time) …"
# cargo itself says where the binary is: target folders and triples can be set in many places.
{
  status=0
  (cd "$top" && cargo build --release --locked --bin vault-mcp --message-format=json-render-diagnostics) \
    2>&1 >"$work/messages" || status=$?
  echo "$status" >"$work/status"
} | tee "$work/build.log" >&2
if [ "$(cat "$work/status")" -ne 0 ]; then
  if ! command -v cmake >/dev/null 2>&1 && grep -qi 'cmake' "$work/build.log"; then
    die "the build needs cmake on this system, and it is not on PATH." \
      "Install it with $(install_with cmake cmake cmake 'brew install cmake'), then run this again."
  fi
  die "the build failed; cargo's words are above." \
    "Mend what they name (the first build needs the network for the crates), then run this again."
fi
built=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$work/messages" | tail -n 1)
[ -x "$built" ] || die "cargo built no binary that can be found." "Run cargo build --release in $top and look."
version=$("$built" --version) || die "the new binary does not run." "Run $built --version and see why."

# ---- put in place ----------------------------------------------------------------------------------------

mkdir -p "$bin" 2>/dev/null || die "$bin cannot be made." "Choose another folder with --prefix DIR."
before=''
if [ -x "$target" ]; then before=$("$target" --version 2>/dev/null) || before=''; fi
# Renamed into place, so that a server that is running keeps the file it runs from.
half=$bin/.vault-mcp.$$
if ! { cp "$built" "$half" && chmod 755 "$half" && mv -f "$half" "$target"; } 2>/dev/null; then
  die "$target cannot be written." "Check who owns $bin and that there is room, or choose another --prefix."
fi
half=''

# ---- what comes next -------------------------------------------------------------------------------------

case $before in
  '') say "Installed $version: $target" ;;
  *) say "Installed $version: $target (was $before)" ;;
esac

name=vault-mcp
found=$(command -v vault-mcp 2>/dev/null) || found=''
if [ "$found" != "$target" ]; then
  name=$(quoted "$target")
  if [ -n "$found" ]; then
    say "Note: vault-mcp on your PATH is another one: $found"
  else
    say "Note: $bin is not on your PATH. To be able to type just vault-mcp, add to your shell's profile:"
    # shellcheck disable=SC2016
    say "  export PATH=$(quoted "$bin"):\"\$PATH\""
  fi
fi
say ""
say "Next, register it in Claude Code, either for a try (its own Vault, in memory, gone at exit):"
say "  claude mcp add vault-dev -- $name --dev"
say "or for your own Vault (VAULT_ADDR from the environment, the token from \`vault login\` or VAULT_TOKEN):"
say "  claude mcp add vault -- $name"
say "Other clients, and how to answer questions in a terminal of your own: $top/README.md"
say "To remove it: sh $(quoted "$top/install.sh") --uninstall$again"
