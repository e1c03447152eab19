#!/usr/bin/env bash
# Builds images on this machine: the documented interface, and a thin call of `hakim-actions build`.
#
#   distrobuilder/scripts/build.sh --variant base           one variant
#   distrobuilder/scripts/build.sh --all                    all variants
#   distrobuilder/scripts/build.sh --all --cached           all, reusing what earlier builds left
#   distrobuilder/scripts/build.sh --variant elixir --cached
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
make --silent setup-build
exec .venv/bin/hakim-actions build "$@"
