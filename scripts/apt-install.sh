#!/usr/bin/env bash
# Installs Debian packages that are missing: scripts/apt-install.sh REASON PACKAGE…
# Does nothing when all are there; asks for root through sudo only when something is to be done.
set -euo pipefail

reason=$1
shift
missing=()
for package in "$@"; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == "install ok installed" ]] \
    || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    echo "error: these packages are needed for $reason: ${missing[*]}" >&2
    echo "hint: run as root: apt-get install ${missing[*]}" >&2
    exit 2
  }
  as_root=(sudo)
fi
echo "Installing for $reason (needs root): ${missing[*]}" >&2
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
