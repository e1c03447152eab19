#!/usr/bin/env bash
# Tags HEAD as VERSION and moves the major tag (v1) with it, in one push: push-tags.sh VERSION
# A candidate such as v1.2.0-rc.1 moves no major tag, and neither does a fix of an older version.
set -euo pipefail

version=$1
folder=$(dirname -- "${BASH_SOURCE[0]}")
"$folder/check-version.sh" "$version"

newest() {
  git tag --list "${version%%.*}.*" | grep -vF -- - | { cat && echo "$version"; } | sort -V | tail -n 1
}

refs=("HEAD:refs/tags/$version")
if [[ $version != *-* && $(newest) == "$version" ]]; then
  refs+=("+HEAD:refs/tags/${version%%.*}")
fi
# shellcheck source-path=SCRIPTDIR source=git-token.sh
[[ -z ${GITHUB_TOKEN:-} ]] || . "$folder/git-token.sh"
git push --atomic origin "${refs[@]}"
