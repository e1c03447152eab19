"""A network for one container: a bridge with DHCP and names, and no way out."""

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hakim_actions.errors import HakimError
from hakim_actions.image.sandbox import Sandbox

BRIDGE: Final = "hakim0"
#: A name that only this network's server knows (``.test`` exists nowhere else: RFC 2606).
KNOWN_NAME: Final = "boot.hakim.test"

_PATIENCE: Final = 10.0


@dataclass(frozen=True)
class Network:
    """The addresses of the network: its own, and the first and last one it leases."""

    gateway: ipaddress.IPv4Address
    first: ipaddress.IPv4Address
    last: ipaddress.IPv4Address

    def leases(self, address: ipaddress.IPv4Address) -> bool:
        """Tell whether *address* is one that the DHCP server of this network gives out."""
        return self.first <= address <= self.last


#: The namespace holds nothing else, so that no range can clash.
NETWORK: Final = Network(
    gateway=ipaddress.IPv4Address("10.77.0.1"),
    first=ipaddress.IPv4Address("10.77.0.100"),
    last=ipaddress.IPv4Address("10.77.0.199"),
)


@contextlib.contextmanager
def network(box: Sandbox) -> Iterator[Network]:
    """Make the bridge inside *box* and serve DHCP and names on it while the block runs."""
    box.run(["ip", "link", "set", "lo", "up"])
    box.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    box.run(["ip", "address", "add", f"{NETWORK.gateway}/24", "dev", BRIDGE])
    box.run(["ip", "link", "set", BRIDGE, "up"])
    path = box.folder / "dnsmasq.log"
    with path.open("w") as log, box.started(_dnsmasq(), log=log) as server:
        deadline = time.monotonic() + _PATIENCE
        while "DHCP, IP range" not in path.read_text(errors="replace"):
            if server.poll() is not None or time.monotonic() > deadline:
                said = path.read_text(errors="replace").strip().splitlines()
                msg = f"dnsmasq did not start: {said[-1] if said else 'it said nothing'}."
                raise HakimError(msg, hint="Install dnsmasq-base, or allow it to run.")
            time.sleep(0.02)
        yield NETWORK


def _dnsmasq() -> list[str]:
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--log-dhcp",
        "--conf-file=/dev/null",
        "--leasefile-ro",
        "--pid-file",
        "--no-hosts",
        "--no-resolv",
        "--no-ping",
        f"--interface={BRIDGE}",
        "--except-interface=lo",
        "--bind-interfaces",
        "--dhcp-authoritative",
        f"--dhcp-range={NETWORK.first},{NETWORK.last},1h",
        f"--address=/{KNOWN_NAME}/{NETWORK.gateway}",
    ]
