#!/usr/bin/env bash
# Every test there is, against the real things: tests/run.sh [STAGE…]
#
#   rust        cargo test over the embedded dev Vault
#   vault       the same integration tests over a real Vault
#   python      the MCP SDK for Python, 1.x and 2.x, over a real Vault
#   inspector   the MCP Inspector's command line
#   claude      Claude Code's `claude mcp add|get|list`
#   files       what vault_inject writes, read back by other programs
#   hvac        KV and transit shared with hvac, the Vault client for Python
#   http        --http behind nginx with client certificates and by twos, with an OIDC issuer that rotates its keys,
#               under the eyes of Prometheus, its description called through by schemathesis, its pages in a browser
#   install     install.sh, as a newcomer runs it
#   checks      formatting, lints, licences, generated files; not among the default stages
#
# What is missing is installed: Debian packages (as root or with sudo), the rest below
# ${XDG_CACHE_HOME:-~/.cache}/vault-mcp/, where a second run finds it. Nothing is installed globally else.
# A server or client that cannot be had is left out and named at the end; with CI=true that is a failure.
# The last line is always `N passed, M failed` (and `, K skipped`), and the exit code says the same.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vault-mcp
logs=$(mktemp -d)
mkdir -p "$cache"

passed=0 failed=0 skipped=0
left_out=() broken=() times=()
# The names of failed tests, a line each, and the beginnings of what they said.
failed_tests=$logs/failed-tests excerpts=$logs/excerpts
: >"$failed_tests" >"$excerpts"

say() { printf '\n== %s\n' "$*"; }
in_ci() { [ "${CI:-}" = true ] || [ "${CI:-}" = 1 ]; }

# count PASSED FAILED SKIPPED
count() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }

# A part of the suite that cannot run here: leave_out WHAT WHY
leave_out() {
  printf 'left out: %s (%s)\n' "$1" "$2"
  case "${left_out[*]-}" in *"$1: $2"*) return ;; esac
  left_out+=("$1: $2")
  if in_ci; then count 0 1 0; fi
}

# A runner that failed without a failed test to show for it: broke WHAT
broke() {
  printf 'broken: %s\n' "$1"
  broken+=("$1")
  count 0 1 0
}

key() { cat "$@" | cksum | cut -d ' ' -f 1; }

# ---- what the stages need --------------------------------------------------------------------------------

debian() { # debian PROGRAM=PACKAGE…
  local pair missing=() as=()
  for pair in "$@"; do
    # Debian keeps PostgreSQL's own programs by version, off PATH.
    command -v "${pair%%=*}" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/${pair%%=*}" >/dev/null ||
      missing+=("${pair#*=}")
  done
  if [ "${#missing[@]}" -eq 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
  [ "$(id -u)" -eq 0 ] || as=(sudo -n)
  printf 'installing from Debian: %s\n' "${missing[*]}"
  "${as[@]}" apt-get update -qq -o Acquire::Retries=3 </dev/null &&
    DEBIAN_FRONTEND=noninteractive "${as[@]}" apt-get install -y -qq --no-install-recommends \
      -o Acquire::Retries=3 "${missing[@]}" </dev/null >/dev/null ||
    printf 'apt-get could not install %s\n' "${missing[*]}"
}

# Prints the Python of a virtual environment that holds this requirements file.
python_with() {
  local wanted=$1 folder
  folder=$cache/python-$(key "$wanted")
  if ! [ -e "$folder/whole" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 &&
      "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" </dev/null >&2 &&
      touch "$folder/whole" || return 1
  fi
  printf '%s\n' "$folder/bin/python"
}

# Prints the folder of the npm programs that a package.json pins: that of tests/clients by default.
npm_programs() {
  local folder wanted=${1:-tests/clients/package.json}
  folder=$cache/npm-$(key "$wanted")
  if ! [ -e "$folder/whole" ]; then
    rm -rf "$folder"
    mkdir -p "$folder" && cp "$wanted" "$folder/package.json" &&
      npm install --prefix "$folder" --silent --no-audit --no-fund --no-package-lock </dev/null >&2 &&
      touch "$folder/whole" || return 1
  fi
  printf '%s\n' "$folder/node_modules/.bin"
}

# A real Vault takes minutes to build on a new machine: begin at once, beside the other work.
vault_job=
vault_begin() {
  [ -n "$vault_job" ] && return
  tests/vault/build.sh </dev/null >"$logs/vault.path" 2>"$logs/vault.log" &
  vault_job=$!
}
vault_path() {
  vault_begin
  wait "$vault_job" 2>/dev/null
  real_vault=$(cat "$logs/vault.path")
  [ -n "$real_vault" ] && return
  cat "$logs/vault.log"
  return 1
}

# The program as it is released takes minutes to build, too: beside tests, which wait more than they compute, but
# not beside the build of the tests.
release= release_job=
release_begin() {
  [ -n "$release_job" ] && return
  nice -n 5 cargo build --release --locked </dev/null >"$logs/release.log" 2>&1 &
  release_job=$!
}
build_release() {
  [ -n "$release" ] && return
  [ "$release_job" != failed ] || return 1
  say "release build"
  release_begin
  if wait "$release_job"; then
    release=${CARGO_TARGET_DIR:-$top/target}/release/vault-mcp
    return
  fi
  release_job=failed
  tail -n 60 "$logs/release.log"
  return 1
}

# ---- the runners -----------------------------------------------------------------------------------------

# Ends what hangs, while there is time for the other stages and for a result.
within() { # within MINUTES COMMAND…
  local minutes=$1
  shift
  # `timeout` in a terminal would keep Ctrl-C from its command.
  if in_ci && command -v timeout >/dev/null; then timeout -k 30 "${minutes}m" "$@"; else "$@"; fi
}

# cargo_test NAME ARGUMENT…: counts each test, and each test binary that ended without a result.
cargo_test() {
  local name=$1 log=$logs/$1.log status ran results sums
  shift
  cargo test --locked --no-run "$@" </dev/null 2>&1 | tee "$log"
  if [ "${PIPESTATUS[0]}" -ne 0 ]; then
    broke "$name: it does not build"
    grep -A 12 '^error' "$log" | cut -c 1-240 | head -n 40 >>"$excerpts"
    return
  fi
  if [ -n "$wants_release" ]; then release_begin; fi
  # More at a time than there are cores: a test waits more than it computes.
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-8} \
    within 30 cargo test --locked --no-fail-fast "$@" </dev/null 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  cargo_failures "$name" <"$log"
  sums=$(awk '/^test result: / { p += $4; f += $6; s += $8 } END { print p + 0, f + 0, s + 0 }' "$log")
  # shellcheck disable=SC2086
  count $sums
  ran=$(grep -cE '^ +(Running|Doc-tests) ' "$log")
  results=$(grep -c '^test result: ' "$log")
  while [ "$ran" -gt "$results" ]; do
    broke "$name: a test binary ended without a result"
    ran=$((ran - 1))
  done
  if [ "$status" -ne 0 ] && [ "$(cut -d ' ' -f 2 <<<"$sums")" -eq 0 ] && [ "$ran" -eq "$results" ]; then
    broke "$name: cargo test"
  fi
}

# The failed tests of a log of `cargo test`, those that had not ended, and the first lines of what each said.
cargo_failures() {
  awk -v stage="$1" -v names="$failed_tests" -v said="$excerpts" '
    /^ +Running / { target = $2 == "unittests" ? $3 : $2 }
    /^ +Doc-tests / { target = "documentation" }
    /^test .* has been running for over / { slow[$2] = target; next }
    /^test .* \.\.\. / { delete slow[$2] }
    /^test .* \.\.\. FAILED$/ { print stage ": " target " " $2 >>names }
    /^---- .* stdout ----$/ { left = 14; print stage ": " target " " $2 >>said; next }
    /^(stack backtrace:|note: run with|failures:)/ { left = 0 }
    left > 0 && NF { print "  " substr($0, 1, 240) >>said; left-- }
    END { for (test in slow) print stage ": " slow[test] " " test " (did not end)" >>names }
  '
}

# pytest_run NAME PYTHON FILE…
pytest_run() {
  local name=$1 python=$2 report=$logs/$1.xml sums
  shift 2
  VAULT_MCP_BINARY=$release VAULT_MCP_TEST_VAULT=${real_vault:-} \
    within 20 "$python" -B -m pytest -q -p no:cacheprovider --junitxml="$report" "$@" </dev/null
  local status=$?
  sums=$("$python" - "$report" "$name" "$failed_tests" "$excerpts" <<'END'
import sys, xml.etree.ElementTree as tree
report, stage, names, said = sys.argv[1:]
suites = list(tree.parse(report).getroot().iter("testsuite"))
total = lambda name: sum(int(suite.get(name, 0)) for suite in suites)
bad, skipped = total("failures") + total("errors"), total("skipped")
print(max(total("tests") - bad - skipped, 0), bad, skipped)
with open(names, "a") as names, open(said, "a") as said:
    for case in (case for suite in suites for case in suite.iter("testcase")):
        for fault in (*case.findall("failure"), *case.findall("error")):
            name = f"{stage}: {case.get('classname')} {case.get('name')}"
            print(name, file=names)
            lines = (fault.get("message") or "").splitlines()[:6]
            print(name, *(f"  {line[:240]}" for line in lines), sep="\n", file=said)
END
  ) || sums=
  if [ -z "$sums" ]; then
    broke "$name: pytest left no report"
    return
  fi
  # shellcheck disable=SC2086
  count $sums
  if [ "$status" -ne 0 ] && [ "$(cut -d ' ' -f 2 <<<"$sums")" -eq 0 ]; then broke "$name: pytest"; fi
}

# check NAME COMMAND…: one test, passed when the command succeeds.
check() {
  local name=$1 log=$logs/check.log
  shift
  "$@" </dev/null 2>&1 | tee "$log"
  if [ "${PIPESTATUS[0]}" -eq 0 ]; then
    printf 'ok: %s\n' "$name"
    count 1 0 0
  else
    printf 'FAILED: %s\n' "$name"
    { printf '%s\n' "$name" && tail -n 25 "$log" | cut -c 1-240; } >>"$excerpts"
    broken+=("$name")
    count 0 1 0
  fi
}

# ---- the stages ------------------------------------------------------------------------------------------

deny_version=0.20.2
cargo_deny() {
  local root=$cache/cargo-deny-$deny_version
  if ! [ -x "$root/bin/cargo-deny" ]; then
    # No optimising: 80 seconds instead of five minutes, and it runs for one.
    CARGO_TARGET_DIR=$logs/deny CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 \
      cargo install --quiet --locked --debug --version "$deny_version" --root "$root" cargo-deny || return 1
    rm -rf "$logs/deny"
  fi
  "$root/bin/cargo-deny" --locked check bans licenses sources
}

stage_checks() {
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
  check "cargo fmt" cargo fmt --check
  check "cargo clippy" cargo clippy --all-targets --locked -- -D warnings
  check "cargo deny" cargo_deny
  # That generated files are fresh is a test of `cargo test`: each names the command that writes its file anew.
}

# Terminals, and what uses what Vault issues: database users, SSH certificates, X.509 chains.
cargo_test_programs() {
  debian tmux=tmux script=bsdutils git=git openssl=openssl curl=curl ssh=openssh-client sshd=openssh-server \
    psql=postgresql-client initdb=postgresql
}

stage_rust() {
  cargo_test_programs
  env_without_vault moto cargo_test rust
}

# AWS KMS as moto has it; without it the tests of KMS say what is missing.
moto() {
  local python
  python3 -c "import ensurepip, venv" 2>/dev/null || debian ensurepip=python3-venv
  if python=$(python_with tests/kms/requirements.txt); then
    VAULT_MCP_TEST_MOTO_PYTHON=$python "$@"
  else
    leave_out "AWS KMS (moto)" "pip cannot install it"
    "$@"
  fi
}

# The embedded Vault is used where no other is named.
env_without_vault() {
  local VAULT_MCP_TEST_VAULT='' TEST_VAULT_ADDR TEST_VAULT_TOKEN
  unset TEST_VAULT_ADDR TEST_VAULT_TOKEN
  export VAULT_MCP_TEST_VAULT
  "$@"
}

stage_vault() {
  cargo_test_programs
  if ! vault_path; then
    leave_out "the suite over a real Vault" "none can be had"
    return
  fi
  printf 'over %s\n' "$real_vault"
  # Only what meets a Vault: the other tests would find nothing new.
  local file name targets=()
  for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    grep -qrE '\b(vault\(\)|Vault::|VAULT_MCP_TEST_VAULT)' "$file" "tests/$name" 2>/dev/null && targets+=(--test "$name")
  done
  VAULT_MCP_TEST_VAULT=$real_vault moto cargo_test vault "${targets[@]}"
}

stage_python() {
  python_ready || return
  local python major
  for major in 1 2; do
    say "the MCP SDK for Python $major.x"
    if python=$(python_with "tests/clients/requirements-$major.txt"); then
      pytest_run "python-$major" "$python" tests/clients/test_sdk.py
    else
      leave_out "the MCP SDK for Python $major.x" "pip cannot install it"
    fi
  done
}

# A release build, a Vault (the embedded one if need be) and a Python that can make virtual environments.
python_ready() {
  if ! build_release; then
    broke "release build"
    return 1
  fi
  # Debian keeps the half of `venv` that matters in a package without a program of its own.
  python3 -c "import ensurepip, venv" 2>/dev/null || debian ensurepip=python3-venv
  if ! vault_path; then leave_out "a real Vault below the clients" "none can be had"; fi
}

npm_stage() { # npm_stage WHAT FILE [REQUIREMENTS]
  python_ready || return
  local python programs
  if ! programs=$(npm_programs); then
    leave_out "$1" "npm cannot install it"
  elif ! python=$(python_with "${3:-tests/clients/requirements-2.txt}"); then
    leave_out "$1" "pip cannot install what it needs"
  else
    VAULT_MCP_NPM_PROGRAMS=$programs pytest_run "$stage" "$python" "$2"
  fi
}
stage_inspector() { npm_stage "the MCP Inspector" tests/clients/test_inspector.py; }
stage_claude() { npm_stage "Claude Code" tests/clients/test_claude.py; }
stage_files() {
  debian dash=dash bash=bash
  npm_stage "the readers of files" tests/clients/test_files.py tests/clients/requirements-files.txt
}

stage_hvac() {
  python_ready || return
  local python
  if python=$(python_with tests/clients/requirements-hvac.txt); then
    pytest_run hvac "$python" tests/clients/test_hvac.py
  else
    leave_out "hvac" "pip cannot install it"
  fi
}

stage_http() {
  debian nginx=nginx-light openssl=openssl promtool=prometheus chromium=chromium
  python_ready || return
  local python programs tests=(tests/http_clients/test_openapi.py)
  if command -v nginx >/dev/null; then
    tests+=(tests/http_clients/test_nginx_mtls.py)
  else
    leave_out "client certificates and two servers through nginx" "apt-get cannot install it"
  fi
  if programs=$(npm_programs tests/http_clients/package.json); then
    tests+=(tests/http_clients/test_oidc.py tests/http_clients/test_conformance.py)
  else
    leave_out "an OIDC issuer and the conformance suite" "npm cannot install them"
  fi
  if command -v chromium chromium-browser google-chrome >/dev/null; then
    tests+=(tests/http_clients/test_pages.py)
  else
    leave_out "the pages of --http in a browser" "apt-get cannot install Chromium"
  fi
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    tests+=(tests/http_clients/test_prometheus.py)
  else
    leave_out "metrics in Prometheus" "apt-get cannot install it"
  fi
  [ "${#tests[@]}" -gt 0 ] || return
  if python=$(python_with tests/http_clients/requirements.txt); then
    VAULT_MCP_NODE_MODULES=${programs%/.bin} pytest_run http "$python" "${tests[@]}"
  else
    leave_out "the clients of --http" "pip cannot install what they need"
  fi
  # The same clients as on standard input and output, over /mcp.
  local major
  for major in 1 2; do
    if python=$(python_with "tests/clients/requirements-$major.txt"); then
      tests=(tests/http_clients/test_sdk_http.py)
      # Only the newer major speaks the revision in which a question goes from one server to another.
      [ "$major" = 1 ] || ! command -v nginx >/dev/null || tests+=(tests/http_clients/test_replicas.py)
      pytest_run "http-python-$major" "$python" "${tests[@]}"
    else
      leave_out "the MCP SDK for Python $major.x over HTTP" "pip cannot install it"
    fi
  done
  stage=http-inspector npm_stage "the MCP Inspector over HTTP" tests/http_clients/test_inspector_http.py
}

stage_install() {
  if ! build_release; then
    broke "release build"
    return
  fi
  local log=$logs/install.log sums
  bash tests/install.sh </dev/null 2>&1 | tee "$log"
  sed -n 's/^FAILED: /install: /p' "$log" >>"$failed_tests"
  sed -n '/^FAILED: /,/^ok: /{ /^ok: /d; s/^FAILED: /install: /; p; }' "$log" | cut -c 1-240 | head -n 30 >>"$excerpts"
  sums=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2 0/p' "$log" | tail -n 1)
  if [ -z "$sums" ]; then
    broke "install: tests/install.sh ended without a result"
    return
  fi
  # shellcheck disable=SC2086
  count $sums
}

# ---- all together ----------------------------------------------------------------------------------------

known="checks rust vault python inspector claude files hvac http install"
stages=("$@")
[ "${#stages[@]}" -gt 0 ] || stages=(rust vault python inspector claude files hvac http install)
for stage in "${stages[@]}"; do
  case " $known " in
    *" $stage "*) ;;
    *)
      printf 'there is no stage %s; there are: %s\n0 passed, 1 failed\n' "$stage" "$known"
      exit 2
      ;;
  esac
done
real_vault= wants_release=
case " ${stages[*]} " in *' vault '*) vault_begin ;; esac
for stage in "${stages[@]}"; do
  case $stage in
    checks | rust | vault) ;;
    install) wants_release=yes ;;
    *) wants_release=yes && vault_begin ;;
  esac
done

for stage in "${stages[@]}"; do
  say "$stage"
  start=$SECONDS
  "stage_$stage"
  times+=("$stage $((SECONDS - start)) s")
  printf -- '-- %s: %s s\n' "$stage" "$((SECONDS - start))"
done

say "result"
printf 'time: %s\n' "${times[@]}"
[ "${#left_out[@]}" -eq 0 ] || printf 'left out: %s\n' "${left_out[@]}"
# The end of the output is what is looked at first, and often all that is kept of it.
head -n 90 "$excerpts"
[ "${#broken[@]}" -eq 0 ] || printf 'broken: %s\n' "${broken[@]}"
sed -n '1,40s/^/failed: /p; 41s/.*/failed: … and more/p' "$failed_tests"
rm -rf "$logs"

line="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
printf '%s\n' "$line"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
