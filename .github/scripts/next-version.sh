#!/usr/bin/env bash
# Writes the output `next`: the patch version after the last release, if a package or a tool of the
# images in FOLDER is another one than there; else nothing. next-version.sh FOLDER
set -euo pipefail

folder=$1
last=$(gh release view --repo "$GITHUB_REPOSITORY" --json tagName --jq .tagName) || {
  echo "There is no release yet; the first one is made by hand."
  exit 0
}
gh release download "$last" --repo "$GITHUB_REPOSITORY" --pattern index.json --dir "$RUNNER_TEMP/last"
hakim-actions diff "$RUNNER_TEMP/last/index.json" "$folder" --format markdown >>"$GITHUB_STEP_SUMMARY"
changes=$(hakim-actions diff "$RUNNER_TEMP/last/index.json" "$folder" --json \
  | jq '[.images[] | .packages + .tools | length] | add // 0')
if ((changes == 0)); then
  echo "Nothing changed since $last."
  exit 0
fi
next=${last%.*}.$((${last##*.} + 1))
echo "$changes packages and tools changed since $last: $next."
echo "next=$next" >>"$GITHUB_OUTPUT"
