#!/usr/bin/env bash
# Installs what building and booting images needs on the runner of a workflow; quick when all is
# there. What it prints is a group of the log, and no command in it counts.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

close_group() {
  printf '::%s::\n::endgroup::\n' "$token"
}

command -v make >/dev/null || {
  echo "::error title=hakim-actions::make is needed to set up a build."
  echo "hint: On the runner: apt-get install make" >&2
  exit 2
}
printf '::group::Install what building and booting images needs\n::stop-commands::%s\n' "$token"
trap close_group EXIT
make --no-print-directory -C "$root" system-build distrobuilder 2>&1
