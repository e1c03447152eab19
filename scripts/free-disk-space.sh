#!/usr/bin/env bash
# Makes room on a runner of GitHub, if less than N GB are free: scripts/free-disk-space.sh N
# Removes toolchains that images do not need. Other machines are left alone.
set -euo pipefail

readonly needed=$1
readonly -a unused=(
  /opt/ghc /opt/hostedtoolcache/CodeQL /usr/local/.ghcup /usr/local/lib/android
  /usr/local/share/boost /usr/local/share/powershell /usr/share/dotnet /usr/share/swift
)

free_gb() { df --output=avail -B 1G . | tail -n 1 | tr -d ' '; }

before=$(free_gb)
if ((before >= needed)); then
  echo "$before GB are free; $needed are needed."
  exit 0
fi
if [[ ${RUNNER_ENVIRONMENT:-} != github-hosted ]]; then
  echo "::warning title=hakim-actions::Only $before GB are free; a build wants $needed."
  exit 0
fi
echo "::group::Making room: $before GB are free, $needed are needed"
trap 'echo "::endgroup::"' EXIT
sudo rm -rf -- "${unused[@]}"
! command -v docker >/dev/null || sudo docker system prune --all --force
echo "$(free_gb) GB are free now."
