#!/bin/bash
# Makes an image out of the installed packages. Every step can run again: a variant is built on
# a base layer that has been through it.
#
# The packages of a variant stand in distrobuilder/hakim.yaml, tools that are not in Debian in
# distrobuilder/tools.lock. Where both are not enough, a function `install_<variant>_stack` in this
# file does the rest; it is called when it exists.
set -euo pipefail

BUILD=/usr/local/lib/hakim-build

image_property() { sed -n "s/^$1=//p" /etc/hakim-release; }

apt_install() { apt-get install --yes "$@"; }

# The tools of tools.lock, which were fetched and checked before the build began. Without the tar,
# as when distrobuilder runs alone, there are none.
unpack_tools() {
  [[ -f $BUILD/tools.tar ]] || return 0
  tar --extract --file "$BUILD/tools.tar" --directory / \
    --no-overwrite-dir --keep-directory-symlink --no-same-owner
  rm "$BUILD/tools.tar"
}

# Packages of the vendors' own repositories; their keys came with the tools. The sources may name a
# mirror, for this build only: the image keeps the vendor's own address.
install_vendor_packages() {
  local vendor=$BUILD/vendor list name packages
  [[ -d $vendor ]] || return 0
  cp "$vendor"/*.sources /etc/apt/sources.list.d/
  apt-get update
  for list in "$vendor"/*.packages; do
    name=$(basename "$list" .packages)
    mapfile -t packages <"$list"
    apt_install_listed "'$name' of tools.lock" "${packages[@]}"
    sed -i "s|^URIs: .*|URIs: $(<"$vendor/$name.address")|" "/etc/apt/sources.list.d/$name.sources"
  done
}

# Installs packages; an error has apt's own words, and where the packages are listed.
apt_install_listed() {
  local where=$1 said
  said=$(mktemp)
  shift
  if ! apt_install "$@" 2>"$said"; then
    cat "$said" >&2
    echo "E: $where: $(sed -n 's/^E: //p' "$said" | tail --lines=1)" >&2
    exit 1
  fi
  rm "$said"
}

# node-gyp would download the headers that are there already.
point_to_node_headers() {
  [[ -d /usr/local/include/node ]] || return 0
  set_environment npm_package_config_node_gyp_nodedir=/usr/local
}

# For programs that PAM starts (ssh, sudo), and for login shells without it.
set_environment() {
  local line
  for line in "$@"; do
    grep -qxF "$line" /etc/environment || echo "$line" >>/etc/environment
    grep -qxF "export $line" /etc/profile.d/hakim.sh 2>/dev/null \
      || echo "export $line" >>/etc/profile.d/hakim.sh
  done
}

set_locale() {
  echo 'en_US.UTF-8 UTF-8' >/etc/locale.gen
  locale-gen
  update-locale LANG=en_US.UTF-8
  # Not every way in reads /etc/default/locale: runuser, and what is started without PAM.
  set_environment LANG=en_US.UTF-8
}

# Locked: coder has no password and comes in by key, or as the user that the agent runs as.
create_coder() {
  if ! id coder &>/dev/null; then
    useradd --uid 1000 --create-home --shell /bin/bash --comment 'Coder workspace' coder
  else
    # A base layer made the folder before the tools of this variant came to /etc/skel.
    cp --archive --no-clobber /etc/skel/. /home/coder/
    chown --recursive coder:coder /home/coder
  fi
  chmod 0700 /home/coder # as useradd makes it; copying /etc/skel brings the mode of that folder
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

# git-lfs writes its settings in any order; only its section is in the file.
sort_gitconfig() {
  [[ -f /etc/gitconfig && $(grep -c '^\[' /etc/gitconfig) == 1 ]] || return 0
  {
    head --lines=1 /etc/gitconfig
    tail --lines=+2 /etc/gitconfig | sort
  } >/etc/gitconfig.new
  mv /etc/gitconfig.new /etc/gitconfig
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

# Debian's backports follow the stable Rust of the day. Only the toolchain comes from there; apt
# upgrades it from there, too.
install_rust_stack() {
  local mirror release packages
  mirror=$(sed -n '0,/^URIs: /s/^URIs: //p' /etc/apt/sources.list.d/debian.sources)
  release=$(image_property RELEASE)-backports
  packages=(cargo rust-analyzer rust-clippy rust-src rustc rustfmt)
  cat >/etc/apt/sources.list.d/backports.sources <<SOURCES
Types: deb
URIs: $mirror
Suites: $release
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  cat >/etc/apt/preferences.d/rust <<PREFERENCES
Package: ${packages[*]} libstd-rust*
Pin: release n=$release
Pin-Priority: 500
PREFERENCES
  apt-get update
  apt_install_listed "install_rust_stack" "${packages[@]}"
}

install_elixir_stack() {
  install_rebar3
  set_environment MIX_REBAR3=/usr/local/bin/rebar3
  # Erlang starts epmd when a node needs it; the package's service would open its port, to
  # everybody on the network, in every container.
  systemctl disable epmd.service epmd.socket
}

run_variant_stack() {
  local stack
  stack=install_$(image_property VARIANT)_stack
  if declare -F "$stack" >/dev/null; then "$stack"; fi
}

unpack_tools
set_locale
create_coder
set_bootstrap_password
link_usual_names
enable_terminal_setup
sort_gitconfig
enable_services
skip_address_probe
mask_what_cannot_work
build_git_credential_libsecret
point_to_node_headers
install_vendor_packages
run_variant_stack
