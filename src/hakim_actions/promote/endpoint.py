"""Where a Proxmox VE API is, and the token that opens it: both as typed, both checked."""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, urlsplit

from hakim_actions.errors import ConfigurationError
from hakim_actions.system.tls import Trust

DEFAULT_PORT = 8006
_TOKEN = re.compile(
    r"(?P<user>[^\s:/@!=]+@[A-Za-z][\w.-]*)!(?P<name>[A-Za-z][\w.-]*)=(?P<secret>\S+)"
)


@dataclass(frozen=True, kw_only=True)
class Token:
    """An API token: ``user@realm``, its name, and the secret that nobody prints."""

    user: str
    name: str
    secret: str = field(repr=False)

    @property
    def identity(self) -> str:
        """The token as access lists name it: ``user@realm!name``."""
        return f"{self.user}!{self.name}"

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        """Read ``user@realm!name=secret``; the ConfigurationError names *source*, not the text."""
        match = _TOKEN.fullmatch(text.strip().removeprefix("PVEAPIToken="))
        if match is None:
            msg = f"{source} does not hold a Proxmox API token."
            raise ConfigurationError(
                msg,
                hint="Expected user@realm!name=secret, as 'pveum user token add' shows it once.",
            )
        return cls(user=match["user"], name=match["name"], secret=match["secret"])


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The host and port of a node (any node of the cluster), and whom TLS believes there."""

    host: str
    port: int
    trust: Trust

    @property
    def authority(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The endpoint as the user types it."""
        return f"https://{self.authority}"

    @classmethod
    def parse(cls, text: str, *, trust: Trust, option: str = "--endpoint") -> Self:
        """Read ``https://host[:port]``; raise ConfigurationError naming *option*."""
        expected = f"Expected https://<node>:{DEFAULT_PORT}."
        parts, port = _split(text, option=option, hint=expected)
        if parts.scheme != "https" or not parts.hostname:
            msg = f"{option}: '{text}' is not an https address."
            raise ConfigurationError(msg, hint=f"{expected} Did you mean 'https://{_bare(text)}'?")
        if parts.username or parts.password:
            msg = f"{option} must not hold a user or a password."
            raise ConfigurationError(msg, hint="Give the token in PROXMOX_TOKEN or --token-file.")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            msg = f"{option}: '{text}' has a path."
            raise ConfigurationError(msg, hint=f"{expected} The API's path is added by itself.")
        return cls(host=parts.hostname, port=port or DEFAULT_PORT, trust=trust)


def _split(text: str, *, option: str, hint: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        msg = f"{option}: '{text}' is not an address: {error}."
        raise ConfigurationError(msg, hint=hint) from None
    return parts, port


def _bare(text: str) -> str:
    host = re.sub(r"^\w+://", "", text.strip()).split("/")[0]
    return host if ":" in host else f"{host}:{DEFAULT_PORT}"
