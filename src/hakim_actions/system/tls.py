"""Whom a TLS connection believes: the system's CAs, a CA file, or one pinned certificate."""

import hashlib
import hmac
import re
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hakim_actions.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class _GuardedSocket(ssl.SSLSocket):
    """Ends its handshake only with the pinned certificate, and no answer takes for ever."""

    _asked_at: float | None = None

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT002 - the signature of ssl
        super().do_handshake(block)
        pinned = _guard(self).fingerprint
        certificate = self.getpeercert(binary_form=True) or b""
        # Raised before a single byte of the request, which holds the token, is sent.
        if pinned and not hmac.compare_digest(hashlib.sha256(certificate).hexdigest(), pinned):
            msg = f"certificate fingerprint is {fingerprint_of(certificate)}, not the pinned one"
            raise ssl.SSLCertVerificationError(msg)

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        self._asked_at = time.monotonic()
        super().sendall(data, flags)

    def recv_into(
        self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0
    ) -> int:
        # A socket's timeout starts anew with every byte: alone it would let a peer drip for hours.
        limit = _guard(self).answer_limit
        if limit and self._asked_at and time.monotonic() - self._asked_at > limit:
            msg = f"the answer was not complete within {limit:g} seconds"
            raise TimeoutError(msg)
        return super().recv_into(buffer, nbytes, flags)


class GuardedContext(ssl.SSLContext):
    """A client context with what Trust adds to ssl: a pinned certificate, a limit for answers."""

    sslsocket_class = _GuardedSocket
    fingerprint: str = ""
    answer_limit: float = 0


def _guard(channel: ssl.SSLSocket) -> GuardedContext:
    context = channel.context
    assert isinstance(context, GuardedContext)  # noqa: S101 - only such a context makes the socket
    return context


@dataclass(frozen=True, kw_only=True)
class Trust:
    """At most one of: a PEM file of CAs, a certificate's SHA-256 (64 hex digits), or no check.

    Nothing set means the CAs of the system (and of SSL_CERT_FILE).
    """

    ca_file: Path | None = None
    fingerprint: str = ""
    insecure: bool = False

    def context(self, *, answer_limit: float = 0) -> ssl.SSLContext:
        """Return the client context; raise ConfigurationError when the CA file is none.

        With *answer_limit* (seconds) reading ends that long after the last write; for clients
        whose answers are all small.
        """
        context = GuardedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.fingerprint, context.answer_limit = self.fingerprint, answer_limit
        if self.fingerprint or self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca_file is None:
            context.load_default_certs()
        else:
            self._load(context, self.ca_file)
        return context

    @staticmethod
    def _load(context: ssl.SSLContext, ca_file: Path) -> None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:
            msg = f"The CA file {ca_file} cannot be used: {error.strerror or error}."
            raise ConfigurationError(msg, hint="Expected a PEM file with certificates.") from None


def parse_fingerprint(text: str, *, option: str) -> str:
    """Return a SHA-256 fingerprint, with or without colons, as 64 lower-case hex digits.

    Raises ConfigurationError naming *option*.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not _SHA256_HEX.fullmatch(digits):
        msg = f"{option}: {text!r} is not a SHA-256 fingerprint."
        raise ConfigurationError(
            msg, hint="Expected 32 pairs of hex digits, as 'pvenode cert info' prints them."
        )
    return digits


def fingerprint_of(certificate: bytes) -> str:
    """Return the SHA-256 of a DER certificate as people compare it: ``AA:BB:…``."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def peer_fingerprint(host: str, port: int, *, timeout: float = 5) -> str:
    """Return the fingerprint of the certificate shown at *host*, believed or not; "" if none.

    Sends nothing but the handshake: it is for an error message, never for a decision.
    """
    context = Trust(insecure=True).context()
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as channel,
        ):
            return fingerprint_of(channel.getpeercert(binary_form=True) or b"")
    except OSError:
        return ""
