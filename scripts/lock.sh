#!/usr/bin/env bash
# Refreshes requirements/*.txt from pyproject.toml: exact versions with hashes, no index host.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
  local output=$1
  shift
  uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-emit-index-url --no-emit-find-links --no-annotate --upgrade \
    --output-file "$output" "$@"
}

command -v uv >/dev/null || {
  echo "error: uv was not found; it resolves the lock files." >&2
  exit 2
}
compile requirements/runtime.txt
compile requirements/dev.txt --extra sigstore --group dev
