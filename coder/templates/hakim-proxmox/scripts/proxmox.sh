# Sourced by the scripts beside it: calls of Proxmox's API with curl. The secret is in the
# environment and goes to curl through its standard input, never as an argument.
# shellcheck shell=sh

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

command -v curl >/dev/null 2>&1 || fail "This machine, which runs Terraform for Coder, has no curl."

# api METHOD PATH [NAME=VALUE…]: prints the answer; fails when there is none, or an error.
api() {
  method=$1 path=$2
  shift 2
  for parameter in "$@"; do
    set -- "$@" --data-urlencode "$parameter"
    shift
  done
  [ "$HAKIM_INSECURE" != true ] || set -- "$@" --insecure
  printf 'header = "Authorization: PVEAPIToken=%s"\n' "$HAKIM_API_TOKEN" \
    | curl --config - --silent --show-error --fail-with-body --max-time 30 --request "$method" "$@" \
      "$HAKIM_ENDPOINT/api2/json$path"
}

# field NAME: the first text of that name in the JSON on standard input.
field() { sed -n 's/.*"'"$1"'" *: *"\([^"]*\)".*/\1/p' | head -n 1; }
