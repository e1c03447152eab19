#!/usr/bin/env bash
# Proposes the change of PATHS as a pull request, or refreshes the one that is open:
# propose.sh BRANCH TITLE PATH…
set -euo pipefail

branch=$1 title=$2
shift 2
if git diff --quiet -- "$@"; then
  echo "Nothing to propose."
  exit 0
fi
# shellcheck source-path=SCRIPTDIR source=git-token.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/git-token.sh"
git switch --force-create "$branch"
git -c user.name=github-actions -c user.email=github-actions@users.noreply.github.com \
  commit --quiet --message "$title" -- "$@"
git push --force origin "HEAD:refs/heads/$branch"
GH_TOKEN=$GITHUB_TOKEN gh pr view "$branch" --json state --jq .state 2>/dev/null | grep -qx OPEN \
  || GH_TOKEN=$GITHUB_TOKEN gh pr create --head "$branch" --title "$title" \
    --body "Every changed line is a pin with its checksum. Look at what changed upstream before you merge."
