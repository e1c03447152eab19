#!/bin/bash
# Prepares apt before the first package is installed. Runs again on a base layer.
# distrobuilder/hakim.yaml holds a copy of this script: change both.
set -euo pipefail

# For the time of the build only (post-files.sh removes both files): nothing that no one asked
# for, no sync after every file, and a second try for a mirror that hiccups.
configure_apt_for_build() {
  cat >/etc/apt/apt.conf.d/99hakim-build <<'CONF'
Acquire::Languages "none";
Acquire::Retries "3";
APT::Install-Recommends "false";
Dpkg::Use-Pty "0";
CONF
  echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/hakim-build
  # A snapshot of the archive is signed, and older than its signature may be on a mirror.
  [[ -z ${HAKIM_NAMED_MIRROR:-} ]] \
    || echo 'Acquire::Check-Valid-Until "false";' >>/etc/apt/apt.conf.d/99hakim-build
}

# Writes debian.sources from the line that debootstrap left: the same mirror, and the security
# archive beside it, which full mirrors carry under the same name with "-security" added.
# HAKIM_SECURITY_MIRROR names it for those that do not.
enable_update_suites() {
  local list=/etc/apt/sources.list mirror release components
  [[ -s $list ]] || return 0 # a base layer has its debian.sources
  read -r _ mirror release components < <(grep '^deb ' "$list")
  mirror=${mirror%/}

  cat >/etc/apt/sources.list.d/debian.sources <<SOURCES
Types: deb
URIs: $mirror
Suites: $release $release-updates
Components: $components
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: ${HAKIM_SECURITY_MIRROR:-$mirror-security}
Suites: $release-security
Components: $components
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  rm "$list"
}

configure_apt_for_build
enable_update_suites
