#!/usr/bin/env bash
#
# Runs hakim-actions for the composite actions: scripts/action-runtime.sh [COMMAND [ARGUMENT…]]
# Without a command it only puts hakim-actions on the PATH of the job.
#
# The code is this tree, at the ref the workflow pins; its libraries come hash-checked from the lock
# file into a virtual environment below RUNNER_TEMP, made by the first hakim step of a job and
# reused by the others. docs/adr/0010 has the reasons.
#
# HAKIM_OPTIONS     more options and arguments, one a line
# HAKIM_ARGUMENTS   more arguments, one a line (a folder may have spaces in its name); they never
#                   count as options
# HAKIM_SET_<NAME>  becomes the variable NAME unless it is empty, so that an input that was not
#                   given leaves what the job or the runner says in peace
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly root lock_file=$root/requirements/runtime.txt

# The caller's pip settings that would put the libraries elsewhere, or choose others. Those that
# say where packages come from (PIP_INDEX_URL, PIP_PROXY, PIP_CERT, …) stay.
readonly -a foreign_pip_settings=(
  PIP_CONSTRAINT PIP_NO_BINARY PIP_PREFIX PIP_REQUIREMENT PIP_ROOT PIP_TARGET PIP_USER
)

# die MESSAGE HINT: also as an annotation; what may have more than one line stays in the log.
die() {
  printf '::error title=hakim-actions::%s\n' "$1"
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 2
}

# The version of the first Python that is new enough, in the order of scripts/venv.sh.
python_version() {
  local name
  for name in python3 python3.11 python3.12 python3.13 python3.14; do
    "$name" -I -c 'import sys; print(sys.version.split()[0]); sys.exit(sys.version_info < (3, 11))' \
      2>/dev/null && return
  done
  return 1
}

# One folder for each content of the lock file, place of the code, and Python: two refs in one job
# do not get each other's code.
folder_for() {
  local key
  key=$({ cat -- "$lock_file" && printf '%s' "$root"; } | sha256sum)
  printf '%s/hakim-actions-%s-python%s' "$RUNNER_TEMP" "${key:0:16}" "$1"
}

explain_no_python() {
  python_version >/dev/null && return
  local found
  found=$(python3 --version 2>/dev/null) || found="no Python 3"
  die "Python 3.11 or newer is needed; this runner has $found, and installing it did not work." \
    "On the runner: apt-get install python3-venv (Debian 12 and newer, Ubuntu 24.04 and newer)."
}

# A killed step leaves its lock to nobody and its folder under another name: nothing half-made is
# ever used.
make_runtime() {
  local folder=$1
  [[ ! -x $folder/bin/hakim-actions ]] || return 0
  unfinished=$(mktemp -d -- "$folder.XXXXXXXX")
  trap 'rm -rf -- "$unfinished"' EXIT
  if ! env "${foreign_pip_settings[@]/#/--unset=}" \
    "$root/scripts/venv.sh" "$unfinished" "$lock_file" >&2; then
    explain_no_python
    die "hakim-actions could not be set up in $RUNNER_TEMP." \
      "The lines above say why: no network, a full disk, or a package that is not the pinned one."
  fi
  mkdir "$unfinished/path"
  ln -s ../bin/hakim-actions "$unfinished/path/hakim-actions"
  # A virtual environment finds itself from where its python is, so that it may be renamed.
  mv -T -- "$unfinished" "$folder"
}

set_up() {
  [[ -n ${RUNNER_TEMP:-} ]] \
    || die "RUNNER_TEMP is not set." "This script is for the steps of a workflow; see README.md."
  [[ -d $RUNNER_TEMP && -w $RUNNER_TEMP ]] \
    || die "The runner's temporary folder $RUNNER_TEMP cannot be written to." \
      "Check the disk of the runner and who owns the folder."
  local version
  if ! version=$(python_version); then
    # venv.sh installs Python through apt when it may; asking for a password would hang the job.
    ((EUID == 0)) || sudo -n true 2>/dev/null || explain_no_python
    "$root/scripts/venv.sh" "$RUNNER_TEMP/hakim-actions-first" "$lock_file" >&2 || explain_no_python
    rm -rf -- "$RUNNER_TEMP/hakim-actions-first"
    version=$(python_version)
  fi
  runtime=$(folder_for "$version")
  [[ ! -x $runtime/bin/hakim-actions ]] || return 0
  echo "Setting up hakim-actions for this job (Python $version)."
  (
    flock 9
    make_runtime "$runtime"
  ) 9>"$runtime.lock"
}

apply_given_variables() {
  local name
  for name in "${!HAKIM_SET_@}"; do
    [[ -z ${!name} ]] || export "${name#HAKIM_SET_}=${!name}"
    unset "$name"
  done
}

# The lines of TEXT, without empty ones, as the array LIST: split_lines LIST TEXT
split_lines() {
  local -n list=$1
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    [[ -z ${line//[[:space:]]/} ]] || list+=("$line")
  done <<<"$2"
}

main() {
  exec 2>&1 # in one stream lines keep their order
  set_up
  if [[ -z ${1:-} ]]; then
    echo "$runtime/path" >>"${GITHUB_PATH:?}"
    "$runtime/bin/hakim-actions" --version
    return
  fi
  local -a options=() arguments=()
  split_lines options "${HAKIM_OPTIONS:-}"
  split_lines arguments "${HAKIM_ARGUMENTS:-}"
  ((${#arguments[@]} == 0)) || arguments=(-- "${arguments[@]}")
  unset HAKIM_OPTIONS HAKIM_ARGUMENTS
  apply_given_variables
  # The process of the step becomes the program, so that it hears when the job is cancelled.
  exec "$runtime/bin/python" -I -m hakim_actions "$@" "${options[@]}" "${arguments[@]}"
}

main "$@"
