#!/usr/bin/env bash
# Makes the virtual environment: scripts/venv.sh FOLDER LOCKFILE. Nothing is built and nothing is
# resolved: only wheels with the hashes of the lock file, and a .pth file that points to src/.
set -euo pipefail

venv=$1
lock=$2
root=$(cd "$(dirname "$0")/.." && pwd)

# What the distribution calls python3 first: it is what its users have.
find_python() {
  local name
  for name in python3 python3.11 python3.12 python3.13 python3.14; do
    if command -v "$name" >/dev/null \
      && "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

install_python() {
  local package=python3-venv
  if ! apt-cache show python3 2>/dev/null | grep -qE '^Version: 3\.(1[1-9]|[2-9][0-9])'; then
    package=python3.11-venv # Ubuntu 22.04, whose python3 is 3.10
  fi
  "$root/scripts/apt-install.sh" "Python 3.11 or newer with venv" "$package"
}

python=$(find_python) || {
  install_python
  python=$(find_python)
} || {
  echo "error: no Python 3.11 or newer was found." >&2
  echo "hint: install one, for example with 'apt-get install python3-venv'." >&2
  exit 2
}
"$python" -I -c 'import venv, ensurepip' 2>/dev/null || install_python

"$python" -I -m venv --clear "$venv"
"$venv/bin/python" -I -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
  --only-binary :all: --requirement "$lock"
site=$("$venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$root/src" >"$site/hakim-actions.pth"
cat >"$venv/bin/hakim-actions" <<SCRIPT
#!/bin/sh
# -I keeps the working directory, which may be anybody's repository, off the import path.
exec "\$(dirname "\$(readlink -f "\$0")")/python" -I -m hakim_actions "\$@"
SCRIPT
chmod 0755 "$venv/bin/hakim-actions"
