"""A Sigstore of our own: certificate authority, certificate log and signature log, in memory.

It signs statements like GitHub's does and writes the trusted root by which the sigstore library
proves them, so that the library itself, not a stand-in, decides what is genuine.
"""

import base64
import datetime as dt
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

_NOW: Final = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
#: The issuer stands there twice: raw, and as it should have been from the start, in DER.
_RAW_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_DER_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ORIGIN: Final = "rekor.example.org"


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _canonical(document: Mapping[str, Any]) -> bytes:
    """Return RFC 8785 JSON; plain enough for strings and integers."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class Sigstore:
    """One instance with keys of its own; nobody else's bundles verify under its root."""

    authority: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificate_log: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    signature_log: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    def __post_init__(self) -> None:
        self.root = self._root()

    def bundle(
        self,
        files: Mapping[str, str],
        *,
        identity: str,
        issuer: str,
        kind: str = "application/vnd.in-toto+json",
    ) -> str:
        """Return the bundle in which *identity* attests *files* (``{name: sha256}``)."""
        key = _key()
        certificate = self._certificate(key, identity, issuer)
        payload = _canonical(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"name": name, "digest": {"sha256": it}} for name, it in files.items()],
                "predicateType": "https://slsa.dev/provenance/v1",
                "predicate": {},
            }
        )
        encoding = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
        signature = _sign(key, encoding)
        document = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {
                    "rawBytes": _b64(certificate.public_bytes(serialization.Encoding.DER))
                },
                "tlogEntries": [self._log_entry(certificate, payload, signature)],
            },
            "dsseEnvelope": {
                "payload": _b64(payload),
                "payloadType": kind,
                "signatures": [{"sig": _b64(signature)}],
            },
        }
        return json.dumps(document)

    def write_root(self, path: Path) -> Path:
        """Write the trusted root of this instance and return *path*."""
        start = "2020-01-01T00:00:00Z"

        def log(key: ec.EllipticCurvePrivateKey, name: str) -> dict[str, Any]:
            return {
                "baseUrl": f"https://{name}",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _b64(_spki(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": start},
                },
                "logId": {"keyId": _b64(hashlib.sha256(_spki(key)).digest())},
            }

        root = _b64(self.root.public_bytes(serialization.Encoding.DER))
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.signature_log, _ORIGIN)],
            "ctlogs": [log(self.certificate_log, "ct.example.org")],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "example.org", "commonName": "example"},
                    "uri": "https://fulcio.example.org",
                    "certChain": {"certificates": [{"rawBytes": root}]},
                    "validFor": {"start": start},
                }
            ],
            "timestampAuthorities": [],
        }
        path.write_text(json.dumps(document))
        return path

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example root")])
        usage = _usage(digital_signature=False, key_cert_sign=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.authority.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.authority.public_key())
            .serial_number(1)
            .not_valid_before(_NOW - dt.timedelta(days=365))
            .not_valid_after(_NOW + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str
    ) -> x509.Certificate:
        """Issue a certificate for ten minutes, with the promise of the log inside."""
        signer = self.authority.public_key()
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        utf8 = b"\x0c" + bytes([len(issuer)]) + issuer.encode()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - dt.timedelta(minutes=5))
            .not_valid_after(_NOW + dt.timedelta(minutes=5))
            .add_extension(_usage(digital_signature=True, key_cert_sign=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False
            )
            .add_extension(names, critical=True)
            .add_extension(x509.UnrecognizedExtension(_RAW_ISSUER, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(_DER_ISSUER, utf8), critical=False)
        )
        precertificate = builder.sign(self.authority, hashes.SHA256())
        promise = self._promise(precertificate.tbs_certificate_bytes)
        extension = x509.UnrecognizedExtension(
            ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS, promise
        )
        return builder.add_extension(extension, critical=False).sign(
            self.authority, hashes.SHA256()
        )

    def _promise(self, precertificate: bytes) -> bytes:
        """Return the list of one signed certificate timestamp (RFC 6962, section 3.2)."""
        stamp = int(_NOW.timestamp() * 1000)
        issuer = hashlib.sha256(_spki(self.authority)).digest()
        entry = issuer + len(precertificate).to_bytes(3, "big") + precertificate
        signature = _sign(
            self.certificate_log,
            struct.pack("!BBQH", 0, 0, stamp, 1) + entry + struct.pack("!H", 0),
        )
        log = hashlib.sha256(_spki(self.certificate_log)).digest()
        timestamp = struct.pack("!B32sQHBBH", 0, log, stamp, 0, 4, 3, len(signature)) + signature
        one = struct.pack("!H", len(timestamp)) + timestamp
        every = struct.pack("!H", len(one)) + one
        return b"\x04" + _der_length(len(every)) + every

    def _log_entry(
        self, certificate: x509.Certificate, payload: bytes, signature: bytes
    ) -> dict[str, Any]:
        """Return the entry of a log that has this one entry: its leaf is its root."""
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": _b64(signature), "verifier": _b64(pem)}],
        }
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        leaf = hashlib.sha256(b"\0" + body).digest()
        log = hashlib.sha256(_spki(self.signature_log)).digest()
        note = f"{_ORIGIN}\n1\n{_b64(leaf)}\n"
        signed = _b64(log[:4] + _sign(self.signature_log, note.encode()))
        stamp = int(_NOW.timestamp())
        entry = {"body": _b64(body), "integratedTime": stamp, "logID": log.hex(), "logIndex": 0}
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(log)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(stamp),
            "inclusionPromise": {
                "signedEntryTimestamp": _b64(_sign(self.signature_log, _canonical(entry)))
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(leaf),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\N{EM DASH} {_ORIGIN} {signed}\n"},
            },
            "canonicalizedBody": _b64(body),
        }


def _usage(*, digital_signature: bool, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _der_length(length: int) -> bytes:
    return bytes([length]) if length < 128 else bytes([0x81, length])
