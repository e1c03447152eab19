#!/usr/bin/env bash
# Runs as root in the container at every start: lets the right keys in and passwords out, prepares
# the home, and starts Coder's agent with its new token. May run any number of times.
set -euo pipefail
umask 077

readonly FOLDER=/root/.hakim
readonly AGENT=/etc/coder-agent
readonly PASSWORD_FILE=/root/.coder-root-password
trap 'rm -rf "$FOLDER"' EXIT

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

setting() { sed -n "s/^$1='\(.*\)'\$/\1/p" "$FOLDER/settings" | base64 -d; }

# write MODE OWNER FILE: standard input becomes the file, whole or not at all.
write() {
  local new
  new=$(mktemp "${3%/*}/.hakim.XXXXXX")
  cat >"$new"
  chown "$2:$2" "$new"
  chmod "$1" "$new"
  mv "$new" "$3"
}

# Replaces our own lines only; keys that people added themselves stay.
install_root_keys() {
  local keys file=/root/.ssh/authorized_keys
  keys=$(setting ROOT_PUBLIC_KEY)
  [[ -n $keys ]] || fail "There is no public key to install for root."
  install --directory --mode 0700 /root/.ssh
  touch "$file"
  {
    sed '/^# begin hakim$/,/^# end hakim$/d' "$file"
    printf '# begin hakim\n%s\n# end hakim\n' "$keys"
  } | write 0600 root "$file"
}

# sshd takes the first value that it reads, and reads these files in the order of their names.
refuse_passwords() {
  write 0644 root /etc/ssh/sshd_config.d/10-hakim.conf <<'CONF'
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
CONF
  sshd -t
  systemctl reload-or-restart ssh.service
  local settings
  settings=$(sshd -T)
  grep -qx 'passwordauthentication no' <<<"$settings" || fail "sshd still accepts passwords."
}

# For the console, when nothing else works. The file has its name only when the password is set.
rotate_root_password() {
  [[ ! -s $PASSWORD_FILE ]] || return 0
  local password
  password=$(head -c 512 /dev/urandom | tr -dc 'A-Za-z0-9' | head -c 40)
  ((${#password} == 40)) || fail "No random password could be made."
  printf '%s\n' "$password" | write 0600 root "$PASSWORD_FILE.new"
  printf 'root:%s\n' "$password" | chpasswd
  mv "$PASSWORD_FILE.new" "$PASSWORD_FILE"
}

create_user() {
  id coder &>/dev/null || useradd --uid 1000 --create-home --shell /bin/bash coder
}

as_coder() { runuser -u coder -- sh -c "umask 022; $1"; }

# A fresh disk is empty and belongs to root; what is on a used one is only looked at.
prepare_home() {
  if [[ $(setting HOME_DISK) == true ]]; then
    mountpoint -q /home/coder || fail "The home disk is not mounted at /home/coder."
  fi
  if [[ $(stat -c %U /home/coder) != coder ]]; then
    chown coder:coder /home/coder
    chmod 0750 /home/coder
    as_coder 'cp --recursive --no-clobber /etc/skel/. /home/coder'
  fi
  as_coder 'mkdir -p /home/coder/project'
}

# The token is a file of the agent's user, so that no list of processes or units shows it.
install_agent() {
  install --directory --mode 0700 --owner coder --group coder "$AGENT"
  setting AGENT_TOKEN | write 0600 coder "$AGENT/token"
  write 0644 root "/etc/default/coder-agent" <<CONF
CODER_AGENT_URL=$(setting AGENT_URL)
CODER_AGENT_AUTH=token
CODER_AGENT_TOKEN_FILE=$AGENT/token
CODER_AGENT_ARCH=$(setting AGENT_ARCH)
CONF
  install --directory --mode 0755 /usr/local/lib/coder-agent
  write 0755 root /usr/local/lib/coder-agent/download <<'SCRIPT'
#!/bin/sh
# Brings the agent that belongs to the running Coder; asks only whether it changed, if it is there.
set -eu
cd "$CACHE_DIRECTORY"
curl --fail --silent --show-error --location --retry 5 --retry-delay 2 --retry-all-errors \
  --etag-compare etag --etag-save etag.new --output coder.new \
  "${CODER_AGENT_URL%/}/bin/coder-linux-$CODER_AGENT_ARCH" || [ -x coder ]
if [ -s coder.new ]; then
  chmod 0755 coder.new
  mv coder.new coder
  mv etag.new etag
fi
rm -f coder.new etag.new
SCRIPT
  write 0644 root /etc/systemd/system/coder-agent.service <<'UNIT'
[Unit]
Description=Coder agent
Documentation=https://coder.com/docs
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User=coder
WorkingDirectory=/home/coder
EnvironmentFile=/etc/default/coder-agent
CacheDirectory=coder-agent
ExecStartPre=/usr/local/lib/coder-agent/download
ExecStart=/var/cache/coder-agent/coder agent
Restart=always
RestartSec=5
TimeoutStartSec=10min
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
  systemctl enable --quiet coder-agent.service
  systemctl restart --no-block coder-agent.service
}

install_root_keys
rotate_root_password
refuse_passwords
create_user
prepare_home
install_agent
echo "The container is set up; Coder's agent is starting."
