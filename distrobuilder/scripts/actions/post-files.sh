#!/bin/bash
# Removes what belongs to the build and not to the image, and what would make two builds of the
# same packages differ. The last thing that runs.
#
# Debian's __pycache__ folders stay: they are the same in every build, and without them each
# program in Python that is not run by root would compile its modules again and again.
set -euo pipefail

record_commit() { echo "COMMIT=${HAKIM_COMMIT:-unknown}" >>/etc/hakim-release; }

remove_build_settings() {
  rm -f /etc/apt/apt.conf.d/99hakim-build /etc/dpkg/dpkg.cfg.d/hakim-build
}

# A build from a snapshot of the archive names the mirrors that the first build was made from.
name_mirrors() {
  local folder=/etc/apt/sources.list.d mirror security
  [[ -n ${HAKIM_NAMED_MIRROR:-} ]] || return 0
  { read -r mirror && read -r security; } < <(sed -n 's/^URIs: //p' "$folder/debian.sources")
  sed -i "s|^URIs: $mirror$|URIs: $HAKIM_NAMED_MIRROR|
    s|^URIs: $security$|URIs: $HAKIM_NAMED_SECURITY_MIRROR|" "$folder"/*.sources
}

# Each container makes its own at first boot. machine-id stays as an empty file: systemd fills
# it, and does not take the container for one that has no configuration yet.
remove_identity() {
  rm -f /etc/ssh/ssh_host_* /etc/hostname /var/lib/dbus/machine-id /var/lib/systemd/random-seed
  : >/etc/machine-id
}

remove_caches_and_logs() {
  apt-get clean
  rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
  rm -rf /var/cache/debconf/*-old /var/cache/fontconfig/* /var/cache/man/*
  # The dynamic linker and the journal make these again at first boot.
  rm -f /var/cache/ldconfig/aux-cache /var/lib/systemd/catalog/database
  find /var/log -type f -delete
  rm -rf /root/.cache /root/.config /root/.local /root/.npm /root/.wget-hsts
}

# The images speak English: no other locale is generated, so no program ever reads its messages or
# man pages in another language. Man pages, licences and examples stay; changelogs go.
remove_unread_documentation() {
  find /usr/share/locale -mindepth 1 -maxdepth 1 -type d ! -name 'en*' -exec rm -r {} +
  find /usr/share/man -mindepth 1 -maxdepth 1 -type d ! -name 'man*' -exec rm -r {} +
  find /usr/share/doc -type f \( -iname 'changelog*' -o -iname 'NEWS*' \) -delete
}

# A folder that is not there belongs to the package that is installed next, and dpkg takes it off
# the lists of all others: what an image listed would depend on what it was installed in one go with.
forget_removed_documentation() {
  perl -ni -e 'chomp; print "$_\n" if !m{^/usr/share/(?:locale|man)/} || -e $_ || -l $_' \
    /var/lib/dpkg/info/*.list
}

# On a base layer, what base and its scripts add comes before what the variant adds; in one go, not all of
# it does. Users and groups are sorted by number, packages by name.
sort_records() {
  pwck --sort /etc/passwd /etc/shadow
  grpck --sort /etc/group /etc/gshadow
  perl -00 -ni -e 'chomp; push @all, "$_\n\n"; print sort @all if eof' /var/lib/apt/extended_states
}

remove_backups_and_locks() {
  rm -f /etc/{passwd,group,shadow,gshadow,subuid,subgid}- /etc/.pwd.lock
  rm -f /var/lib/dpkg/*-old /var/backups/*
}

# The day a password was set is the day of the build; nothing ever expires by it.
fix_password_days() {
  sed -i -E 's/^([^:]*:[^:]*):[0-9]+:/\1:20000:/' /etc/shadow
}

record_commit
remove_build_settings
name_mirrors
remove_identity
remove_caches_and_logs
remove_unread_documentation
forget_removed_documentation
sort_records
remove_backups_and_locks
fix_password_days
rm -rf /usr/local/lib/hakim-build
