#!/usr/bin/env bash
# Fetches anew what the pages /docs and /redoc are made of: console/vendor/refresh.sh
#
# Packages, versions and digests stand below; a package with another digest is refused. To move to a newer
# version, change both: `npm view NAME@VERSION dist.integrity` says the digest. The files are kept as the browser
# gets them, compressed, with the licences of what is in them.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch FOLDER PACKAGE VERSION INTEGRITY: unpacks it to $work/FOLDER.
fetch() {
  local packed digest
  packed=$work/$(cd "$work" && npm pack --silent "$2@$3")
  digest=sha512-$(openssl dgst -sha512 -binary "$packed" | openssl base64 -A)
  if [ "$digest" != "$4" ]; then
    printf '%s %s is not what it was: %s\n' "$2" "$3" "$digest" >&2
    exit 1
  fi
  mkdir -p "$work/$1" "$1"
  tar -xzf "$packed" -C "$work/$1" --strip-components=1
}

# keep FOLDER FILE: compresses a file of the package. No name and no time in it: the same bytes each time.
keep() { gzip -9 -n -c "$work/$1/$2" >"$1/$(basename "$2").gz"; }

# licences FOLDER FILE…
licences() {
  local folder=$1 file
  shift
  for file in "$@"; do cp "$work/$folder/$file" "$folder/$(basename "$file")"; done
}

fetch swagger-ui swagger-ui-dist 5.35.0 \
  sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==
keep swagger-ui swagger-ui-bundle.js
keep swagger-ui swagger-ui.css
licences swagger-ui LICENSE NOTICE swagger-ui-bundle.js.LICENSE.txt

fetch redoc redoc 2.5.4 \
  sha512-M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ==
# The one thing that it asks a stranger for is a logo of 1 KB: an empty picture takes its place.
logo=https://cdn.redoc.ly/redoc/logo-mini.svg
empty=data:image/gif\;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==
bundle=$work/redoc/bundles/redoc.standalone.js
if [ "$(grep -oF "$logo" "$bundle" | wc -l)" -ne 1 ]; then
  printf 'ReDoc no longer asks for its logo once; see what it asks for now\n' >&2
  exit 1
fi
sed -i "s|$logo|$empty|" "$bundle"
keep redoc bundles/redoc.standalone.js
licences redoc LICENSE bundles/redoc.standalone.js.LICENSE.txt

ls -l swagger-ui redoc
