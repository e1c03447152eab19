#!/usr/bin/env bash
#
# Installs distrobuilder, compiled from source at a pinned version. docs/adr/0002 has the reasons.
#
# Test seams (environment): HAKIM_OS_RELEASE replaces /etc/os-release, HAKIM_GO_SEARCH_PATH the
# folders searched for Go, HAKIM_GO_DOWNLOAD_URL the folder of the Go tarballs.
set -euo pipefail

readonly PINNED_VERSION=3.3.1
readonly MODULE=github.com/lxc/distrobuilder/v3/distrobuilder

# The same release as Debian's source package carries it, byte for byte upstream's archive.
readonly SOURCE_SHA256=2976b0d0f5644804e0520ebc0ac67a4094b73183a7439951734f8c37641fc2ad

# Debian 13's own binary package: the last resort, it needs nothing but libc6 >= 2.34.
readonly FALLBACK_VERSION=3.2
readonly FALLBACK_PACKAGE_VERSION=3.2-2+b9
declare -rA FALLBACK_SHA256=(
  [amd64]=41cff03ecec1c7190c528133bdffe7e2a47ac23e5a4c13adee7644b346c98458
  [arm64]=21f72a519a0b5060de674cdeffe8a745d438b5a6b9004b9373fefa7290bf5714
)

# Go 1.21 is the first that fetches the toolchain a module asks for: https://go.dev/doc/toolchain
readonly MIN_GO_MINOR=21
readonly GO_VERSION=1.26.3
declare -rA GO_SHA256=(
  [amd64]=2b2cfc7148493da5e73981bffbf3353af381d5f93e789c82c79aff64962eb556
  [arm64]=9d89a3ea57d141c2b22d70083f2c8459ba3890f2d9e818e7e933b75614936565
)

# containers_image_*: no gpgme and btrfs headers (and 3.3.1 does not compile with the storage
# backend); netgo, osusergo: nothing that a static glibc binary would have to load at run time.
readonly -a BUILD_FLAGS=(
  -trimpath
  -tags 'containers_image_openpgp,containers_image_storage_stub,netgo,osusergo'
  -ldflags '-s -w -linkmode external -extldflags -static'
)
readonly -a RUNTIME_PACKAGES=(
  debootstrap debian-archive-keyring rsync gpg squashfs-tools tar xz-utils
)
readonly -a BUILD_PACKAGES=(ca-certificates gcc libc6-dev)
readonly BUILD_SPACE_MIB=2048

readonly OS_RELEASE=${HAKIM_OS_RELEASE:-/etc/os-release}
readonly GO_SEARCH_PATH=${HAKIM_GO_SEARCH_PATH:-$PATH:/usr/local/go/bin:/usr/lib/go/bin}
readonly GO_DOWNLOAD_URL=${HAKIM_GO_DOWNLOAD_URL:-https://go.dev/dl}

version=$PINNED_VERSION
version_asked=false
prefix=/usr/local
force=false
arch=
go=
work=
staged=
child=
lists_fresh=false

usage() {
  cat <<END
Usage: scripts/install-distrobuilder.sh [--version V] [--prefix P] [--force] [--help]

Compiles distrobuilder from source with Go and installs it as PREFIX/bin/distrobuilder,
with the Debian packages it needs. Does nothing when that version is already there.

  --version V   the version to install, 3.3.1 or later of major version 3 [$PINNED_VERSION]
  --prefix P    where to install [/usr/local]
  --force       install again, also when that version is already there
  --help        show this help

Runs on Debian 12 and 13, Ubuntu 22.04 and 24.04, Proxmox VE 8 and 9 (amd64, arm64).
Uses sudo only where root is needed, and says why. The build needs $BUILD_SPACE_MIB MiB in TMPDIR [/var/tmp].
END
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die MESSAGE HINT [STATUS]
die() {
  printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
  exit "${3:-1}"
}

is_root() { [[ $(id -u) == 0 ]]; }
can_be_root() { is_root || [[ -n $(type -P sudo) ]]; }

# as_root REASON COMMAND...: says why before sudo asks for a password.
as_root() {
  local reason=$1
  shift
  if is_root; then
    "$@"
  elif can_be_root; then
    say "sudo: $reason"
    sudo "$@"
  else
    die "root is needed to $reason, and there is no sudo" "run as root: $*"
  fi
}

# Children run in the background so that a signal is handled at once, not when they end.
run() {
  "$@" &
  child=$!
  local status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

cleanup() {
  local status=$?
  trap - EXIT
  [[ -z $child ]] || { kill "$child" && wait "$child"; } 2>/dev/null || true
  if [[ -n $work ]]; then
    # Another process of the build may still be writing for a moment.
    rm -rf -- "$work" 2>/dev/null || { sleep 1 && rm -rf -- "$work"; } || true
  fi
  [[ -z $staged || ! -e $staged ]] || in_prefix rm -f -- "$staged" || true
  exit "$status"
}

# --- the arguments and the machine ---

parse_arguments() {
  while (($#)); do
    case $1 in
      --version | --prefix)
        [[ -n ${2-} ]] || die "$1 needs a value" "see --help" 2
        if [[ $1 == --version ]]; then version=${2#v} version_asked=true; else prefix=$2; fi
        shift
        ;;
      --force) force=true ;;
      --help | -h) usage && exit 0 ;;
      *) die "unknown argument '$1'" "see --help" 2 ;;
    esac
    shift
  done
  check_arguments
}

check_arguments() {
  local oldest
  oldest=$(printf '%s\n' 3.3.1 "$version" | sort -V | head -n 1)
  [[ $version =~ ^3\.[0-9]+\.[0-9]+$ && $oldest == 3.3.1 ]] \
    || die "--version '$version' cannot be installed" \
      "give 3.3.1 or later of major version 3; older ones do not build as a Go module" 2
  [[ $prefix == /* ]] || die "--prefix '$prefix' is not an absolute path" "try --prefix $PWD/$prefix" 2
}

check_machine() {
  local id release
  [[ -r $OS_RELEASE ]] || unsupported "a system without $OS_RELEASE"
  # The file is shell by definition; a subshell keeps its variables out of ours.
  # shellcheck disable=SC1090
  read -r id release < <(. "$OS_RELEASE" && printf '%s %s\n' "${ID:-unknown}" "${VERSION_ID:-}")
  case $id:$release in
    debian:12 | debian:13 | ubuntu:22.04 | ubuntu:24.04) ;; # Proxmox VE 8 and 9 are Debian 12 and 13
    *) unsupported "$id ${release:-(no version)}" ;;
  esac
  arch=$(dpkg --print-architecture)
  [[ -n ${GO_SHA256[$arch]-} ]] || unsupported "the architecture $arch"
}

unsupported() {
  die "$1 is not supported" \
    "use Debian 12 or 13, Ubuntu 22.04 or 24.04, or Proxmox VE 8 or 9, on amd64 or arm64"
}

reported_version() { "$1" --version 2>/dev/null </dev/null || true; }

already_installed() {
  local target=$prefix/bin/distrobuilder found
  [[ -x $target ]] || return 1
  found=$(reported_version "$target")
  if [[ $found == "$version" ]]; then
    say "distrobuilder $found is already installed as $target."
  elif [[ $found == "$FALLBACK_VERSION" && $version_asked == false ]]; then
    say "distrobuilder $found, the fallback for $version, is already installed as $target" \
      "(--force tries $version again)."
  else
    return 1
  fi
}

# --- packages ---

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

refresh_package_lists() {
  [[ $lists_fresh == false ]] || return 0
  say "Refreshing the package lists, to see what apt can install."
  # One dead source (an enterprise repository without a subscription) must not stop the rest.
  as_root "refresh the package lists" apt-get -q update </dev/null \
    || warn "apt-get update failed; going on with the package lists at hand"
  lists_fresh=true
}

# install_packages REASON PACKAGE...: apt is asked only for what is missing.
install_packages() {
  local reason=$1 package
  local -a missing=()
  shift
  for package; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "Installing ${missing[*]}: $reason."
  refresh_package_lists
  as_root "install ${missing[*]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}" </dev/null \
    || die "apt-get could not install ${missing[*]}" "see its messages above"
}

# --- downloads ---

# fetch URL FILE SHA256: what curl had to say is left in $work/curl.
fetch() {
  run curl -fsSL --retry 2 --connect-timeout 20 -o "$2" -- "$1" 2>"$work/curl" || return 1
  printf '%s  %s\n' "$3" "$2" | sha256sum --check --status && return 0
  warn "$1 does not have the pinned checksum, so it is not used" \
    "(expected $3, found $(sha256sum "$2" | cut -d ' ' -f 1))"
  rm -f -- "$2"
  return 1
}

# The archives this machine already uses, then debootstrap's default.
archives() {
  {
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null || true
    sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$(type -P debootstrap || echo /usr/sbin/debootstrap)" \
      2>/dev/null || true
  } | sed 's,/*$,,' | grep -E '^(https?|file):' | awk '!seen[$0]++'
}

# fetch_from_pool NAME FILE SHA256: Debian keeps the package in main, Ubuntu in universe.
fetch_from_pool() {
  local archive component
  install_packages "to download from the archive" curl ca-certificates
  while read -r archive; do
    for component in main universe; do
      fetch "$archive/pool/$component/d/distrobuilder/$1" "$2" "$3" && return 0
    done
  done < <(archives)
  warn "no package archive of this machine has $1 as pinned: $(tail -n 1 "$work/curl" 2>/dev/null)"
  return 1
}

# --- Go ---

# find_go FOLDERS: sets `go` to the first Go that is new enough.
find_go() {
  local folder found
  local -a folders
  IFS=: read -ra folders <<<"$1"
  for folder in "${folders[@]}"; do
    [[ -n $folder && -x $folder/go ]] || continue
    found=$(GOTOOLCHAIN=local "$folder/go" env GOVERSION 2>/dev/null) || continue
    [[ $found =~ ^go1\.([0-9]+) ]] || continue
    ((BASH_REMATCH[1] >= MIN_GO_MINOR)) || continue
    go=$folder/go
    say "Using Go ${found#go} ($go)."
    return 0
  done
  return 1
}

install_distribution_go() {
  local candidate
  can_be_root || return 1
  refresh_package_lists
  candidate=$(LC_ALL=C apt-cache policy golang-go | awk '$1 == "Candidate:" {print $2}')
  [[ -n $candidate && $candidate != '(none)' ]] || return 1
  dpkg --compare-versions "$candidate" ge "2:1.$MIN_GO_MINOR~" || return 1
  install_packages "no Go >= 1.$MIN_GO_MINOR was found, and the distribution has one" golang-go
}

download_go() {
  local name=go$GO_VERSION.linux-$arch.tar.gz
  say "Downloading Go $GO_VERSION for this build: neither this machine nor its distribution has" \
    "Go >= 1.$MIN_GO_MINOR."
  install_packages "to download Go" curl ca-certificates
  fetch "$GO_DOWNLOAD_URL/$name" "$work/go.tar.gz" "${GO_SHA256[$arch]}" || {
    cat "$work/curl" >&2
    return 1
  }
  tar -xzf "$work/go.tar.gz" -C "$work" \
    && find_go "$work/go/bin"
}

require_go() {
  find_go "$GO_SEARCH_PATH" && return 0
  install_distribution_go && find_go "$GO_SEARCH_PATH" && return 0
  download_go && return 0
  warn "no Go >= 1.$MIN_GO_MINOR could be had"
  return 1
}

# The checksum database stays on, whatever the environment or `go env -w` says; the choice of the
# module proxy stays the user's. Exported, not given to env(1): a proxy URL may hold a password.
go_process() {
  local database
  GOPROXY=$("$go" env GOPROXY)
  database=$("$go" env GOSUMDB)
  [[ $database != off ]] || database= # empty: Go's own default
  unset GOROOT GOOS GOARCH GOPRIVATE GONOPROXY GONOSUMDB GONOSUMCHECK GOINSECURE GO111MODULE \
    GOEXPERIMENT
  export GOPROXY GOSUMDB=$database GOENV=off GOWORK=off GOTOOLCHAIN=auto GOFLAGS=-modcacherw \
    CGO_ENABLED=1 GOPATH=$work/gopath GOMODCACHE=$work/gopath/pkg/mod GOCACHE=$work/cache \
    GOTMPDIR=$work GOBIN=$work/bin
  exec "$go" "$@"
}

go_build() {
  run go_process "$@" >>"$work/log" 2>&1 && return 0
  warn "go $1 failed:"
  tail -n 5 "$work/log" | sed 's/^/  /' >&2
  return 1
}

# --- the three ways to a binary: each leaves it as $work/bin/distrobuilder ---

build_module() {
  say "Compiling distrobuilder $version with go install (one to five minutes)."
  # From a folder without a go.mod, so that no module's settings apply.
  cd "$work" && go_build install "${BUILD_FLAGS[@]}" "$MODULE@v$version"
}

build_source_package() {
  [[ $version == "$PINNED_VERSION" ]] || return 1
  say "Compiling distrobuilder $version from Debian's source package instead."
  fetch_from_pool "distrobuilder_$version.orig.tar.gz" "$work/source.tar.gz" "$SOURCE_SHA256" \
    && mkdir "$work/source" \
    && tar -xzf "$work/source.tar.gz" -C "$work/source" --strip-components=1 --no-same-owner \
    && cd "$work/source" \
    && go_build build -buildvcs=false "${BUILD_FLAGS[@]}" -o "$work/bin/distrobuilder" \
      ./distrobuilder
}

compile() {
  local free
  free=$(df --output=avail -m "$work" | tail -n 1)
  ((free >= BUILD_SPACE_MIB)) \
    || die "the build needs $BUILD_SPACE_MIB MiB in ${work%/*}, which has $((free)) MiB free" \
      "free some space, or set TMPDIR to a folder with more"
  install_packages "distrobuilder has C code and its modules come over HTTPS" "${BUILD_PACKAGES[@]}"
  require_go || return 1
  build_module || build_source_package
}

unpack_fallback() {
  [[ $version_asked == false ]] || return 1
  local package=distrobuilder_${FALLBACK_PACKAGE_VERSION}_$arch.deb
  warn "distrobuilder $version could not be compiled here. Falling back to the binary of Debian" \
    "13's package: version $FALLBACK_VERSION, not $version. Ask for $version by name" \
    "(--version $version) to make this an error."
  version=$FALLBACK_VERSION
  fetch_from_pool "$package" "$work/package.deb" "${FALLBACK_SHA256[$arch]}" \
    && dpkg-deb -x "$work/package.deb" "$work/package" \
    && install -D -m 0755 "$work/package/usr/bin/distrobuilder" "$work/bin/distrobuilder"
}

# --- installing ---

in_prefix() {
  local folder=$prefix/bin
  while [[ ! -e $folder ]]; do folder=$(dirname -- "$folder"); done
  if [[ -w $folder ]]; then "$@"; else as_root "write to $prefix/bin" "$@"; fi
}

# Written beside its place and renamed: whoever looks finds the old one or the new one, whole.
install_binary() {
  local built=$work/bin/distrobuilder target=$prefix/bin/distrobuilder found
  found=$(reported_version "$built")
  [[ $found == "$version" ]] \
    || die "the new binary says it is version '$found', not $version" "nothing was installed"
  staged=$prefix/bin/.distrobuilder.$$
  if ! in_prefix install -D -m 0755 -- "$built" "$staged" \
    || ! in_prefix mv -fT -- "$staged" "$target"; then
    die "could not write $target" "check the folder, or choose another with --prefix"
  fi
  say "Installed distrobuilder $version as $target."
}

main() {
  parse_arguments "$@"
  [[ $force == true ]] || ! already_installed || exit 0
  check_machine

  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # /var/tmp: /tmp is memory on Debian 13, and the build wants more than small machines have.
  work=$(realpath -- "$(mktemp -d -- "${TMPDIR:-/var/tmp}/distrobuilder.XXXXXXXX")")

  install_packages "distrobuilder runs them" "${RUNTIME_PACKAGES[@]}"
  compile || unpack_fallback \
    || die "distrobuilder $version could not be installed" \
      "see the warnings above; GOPROXY sets the module proxy, apt's sources the archive"
  install_binary
}

main "$@"
