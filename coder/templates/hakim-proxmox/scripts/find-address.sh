# Writes the address of a container to a file, asking Proxmox until there is one. HAKIM_ADDRESS is
# the address that Terraform knows already, if it knows one.
# shellcheck shell=sh
set -eu

write_address() {
  printf '%s\n' "$1" >"$HAKIM_FILE"
  exit 0
}

if [ -n "$HAKIM_ADDRESS" ]; then write_address "$HAKIM_ADDRESS"; fi

# shellcheck source=/dev/null
. "$HAKIM_LIBRARY"

# The IPv4 address of eth0: one object a line, so that nothing of another interface is taken.
address_of_eth0() {
  api GET "/nodes/$HAKIM_NODE/lxc/$HAKIM_VMID/interfaces" \
    | tr -d ' \n' \
    | sed 's/{"\(name\|hwaddr\|hardware-address\|inet\)/\n&/g' \
    | grep '"name":"eth0"' \
    | sed -n 's/.*"inet":"\([0-9.]*\).*/\1/p; s/.*"ip-address":"\([0-9]*\.[0-9.]*\)".*/\1/p' \
    | head -n 1
}

end=$(($(date +%s) + HAKIM_SECONDS))
while :; do
  address=$(address_of_eth0) || address=
  if [ -n "$address" ]; then write_address "$address"; fi
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 2
done
fail "Container $HAKIM_VMID got no IPv4 address within $HAKIM_SECONDS seconds. Check that the bridge and VLAN of the template have a DHCP server, and that the image asks it on eth0."
