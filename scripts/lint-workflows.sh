#!/usr/bin/env bash
# Checks the workflows, actions and their configuration: GitHub's own parser, actionlint, zizmor,
# and the published JSON schemas. The tools are pinned and kept in .cache/workflow-tools.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ACTIONLINT_VERSION=v1.7.12
readonly linters=$PWD/.github/linters
tools=${HAKIM_WORKFLOW_TOOLS:-$PWD/.cache/workflow-tools}

# Puts a tool into the cache unless it is there: cached NAME KEY COMMAND…, run with $target set.
cached() {
  local name=$1 key=$2
  shift 2
  target=$tools/$name-$(sha256sum <<<"$key" | cut -c 1-16)
  [[ ! -e $target/.complete ]] || return 0
  echo "Installing $name into ${target#"$PWD"/}" >&2
  rm -rf "$target"
  mkdir -p "$target"
  "$@"
  touch "$target/.complete"
}

need() {
  command -v "$1" >/dev/null || {
    echo "error: $1 was not found; it runs $2." >&2
    echo "hint: $3" >&2
    exit 2
  }
}

install_parser() {
  cp "$linters"/package*.json "$linters/parse.mjs" "$target"
  npm --prefix "$target" ci --ignore-scripts --no-audit --no-fund --silent
}

install_actionlint() {
  GOBIN=$target go install "github.com/rhysd/actionlint/cmd/actionlint@$ACTIONLINT_VERSION"
}

install_python_tools() {
  python3 -I -m venv "$target"
  "$target/bin/python" -I -m pip install --quiet --disable-pip-version-check --require-hashes \
    --no-deps --only-binary :all: --requirement "$linters/requirements.txt"
}

need npm "GitHub's workflow parser" "Install Node.js 20 or newer."
need go "actionlint" "Install Go 1.24 or newer."

cached parser "$(cat "$linters"/package-lock.json "$linters/parse.mjs")" install_parser
parser=$target
cached actionlint "$ACTIONLINT_VERSION" install_actionlint
actionlint=$target
cached python "$(cat "$linters/requirements.txt") $(python3 --version)" install_python_tools
python_tools=$target

shopt -s nullglob
workflows=(.github/workflows/*.y*ml examples/*/.github/workflows/*.yml)
actions=(action.yml */action.yml)

node "$parser/parse.mjs" "${workflows[@]}" "${actions[@]}"
"$actionlint/actionlint" -shellcheck "$(command -v shellcheck || echo .venv/bin/shellcheck)" \
  -config-file .github/actionlint.yaml "${workflows[@]}"
"$python_tools/bin/check-jsonschema" --quiet --builtin-schema vendor.github-workflows "${workflows[@]}"
"$python_tools/bin/check-jsonschema" --quiet --builtin-schema custom.github-workflows-require-timeout \
  .github/workflows/*.y*ml
"$python_tools/bin/check-jsonschema" --quiet --builtin-schema vendor.github-actions "${actions[@]}"
"$python_tools/bin/check-jsonschema" --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
"$python_tools/bin/zizmor" --offline --no-progress --persona pedantic --config .github/zizmor.yml \
  "${workflows[@]}" "${actions[@]}" .github/dependabot.yml
echo "${#workflows[@]} workflows and ${#actions[@]} actions are in order."
