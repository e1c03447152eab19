#!/bin/bash
# Makes an image out of the installed packages. Every step can run again: a variant is built on
# a base layer that has been through it.
#
# The packages of a variant stand in distrobuilder/hakim.yaml. Where packages are not enough, a
# function `install_<variant>_stack` in this file does the rest; it is called when it exists.
set -euo pipefail

image_property() { sed -n "s/^$1=//p" /etc/hakim-release; }

apt_install() { apt-get install --yes "$@"; }

set_locale() {
  echo 'en_US.UTF-8 UTF-8' >/etc/locale.gen
  locale-gen
  update-locale LANG=en_US.UTF-8
}

# Locked: coder has no password and comes in by key, or as the user that the agent runs as.
create_coder() {
  if ! id coder &>/dev/null; then
    useradd --uid 1000 --create-home --shell /bin/bash --comment 'Coder workspace' coder
  fi
  install --directory --owner coder --group coder /home/coder/project
}

# The password that hakim.yaml explains, hashed with a salt that never changes: it is no secret,
# and a fresh salt would make every build differ. Without one, root's password stays locked.
set_bootstrap_password() {
  [[ $(image_property RELEASE) == trixie ]] || return 0
  # shellcheck disable=SC2016 # Perl's $6$ names the hash, SHA-512.
  usermod --password "$(perl -e 'print crypt("password", q($6$bootstrap$))')" root
}

# Debian renames what clashes with another package; nobody types it that way.
link_usual_names() {
  ln -sf /usr/bin/fdfind /usr/local/bin/fd
  ln -sf /usr/bin/batcat /usr/local/bin/bat
}

enable_terminal_setup() {
  local line='. /usr/local/share/hakim/bashrc'
  grep -qxF "$line" /etc/bash.bashrc || printf '\n%s\n' "$line" >>/etc/bash.bashrc
}

enable_services() { systemctl enable ssh.service networking.service; }

# File systems that only the real root of the machine may mount. systemd tries where the kernel of
# the host has them, and the container ends up `degraded`.
mask_what_cannot_work() {
  local units=(
    sys-kernel-config.mount
    sys-kernel-debug.mount
    sys-kernel-tracing.mount
    sys-fs-fuse-connections.mount
    proc-sys-fs-binfmt_misc.automount # an automount needs /dev/autofs, which no container gets
    proc-sys-fs-binfmt_misc.mount
  )
  systemctl mask "${units[@]}"
}

# dhcpcd asks around for five seconds whether the address it was given is in use. The server has
# looked before it offered the address, and the clients before dhcpcd never asked.
skip_address_probe() {
  local conf=/etc/dhcpcd.conf
  [[ ! -f $conf ]] || grep -qx noarp "$conf" || printf '\nnoarp\n' >>"$conf"
}

# git looks for it under this name when `credential.helper` is `libsecret`. Debian ships its
# source with git and no package of it.
build_git_credential_libsecret() {
  local helper=/usr/local/bin/git-credential-libsecret
  [[ ! -x $helper ]] || return 0
  apt_install libsecret-1-dev
  local flags
  read -ra flags < <(pkg-config --cflags --libs libsecret-1 glib-2.0)
  gcc -O2 -o "$helper" \
    /usr/share/doc/git/contrib/credential/libsecret/git-credential-libsecret.c "${flags[@]}"
  apt-get purge --yes --auto-remove libsecret-1-dev
}

# rebar3 is one file, but its package wants all of GTK and WebKit (rebar3 → erlang-common-test →
# erlang-debugger → erlang-wx): 250 packages and 700 MB that no workspace ever shows on a screen.
install_rebar3() {
  local folder
  folder=$(mktemp --directory)
  (cd "$folder" && apt-get download rebar3 && dpkg-deb --extract rebar3_*.deb .)
  install -m 755 "$folder/usr/bin/rebar3" /usr/local/bin/rebar3
  rm -r "$folder"
}

install_elixir_stack() {
  install_rebar3
  # Erlang starts epmd when a node needs it; the package's service would open its port, to
  # everybody on the network, in every container.
  systemctl disable epmd.service epmd.socket
}

run_variant_stack() {
  local stack
  stack=install_$(image_property VARIANT)_stack
  if declare -F "$stack" >/dev/null; then "$stack"; fi
}

set_locale
create_coder
set_bootstrap_password
link_usual_names
enable_terminal_setup
enable_services
skip_address_probe
mask_what_cannot_work
build_git_credential_libsecret
run_variant_stack
