#!/usr/bin/env bash
# Refuses what cannot be released: check-version.sh VERSION
set -euo pipefail

version=$1
number='(0|[1-9][0-9]*)'
[[ $version =~ ^v$number\.$number\.$number(-[0-9A-Za-z.-]+)?$ ]] || {
  echo "::error title=Release::'${version//[^A-Za-z0-9.+-]/?}' is not a version such as v1.2.0 or v1.2.0-rc.1."
  exit 2
}
# A release that stopped half-way goes on; a tag of another commit is never moved.
if tagged=$(git rev-parse --verify --quiet "refs/tags/$version^{commit}") \
  && [[ $tagged != $(git rev-parse HEAD) ]]; then
  echo "::error title=Release::$version is the tag of another commit, $tagged."
  exit 2
fi
echo "$version can be released from $(git rev-parse HEAD)."
