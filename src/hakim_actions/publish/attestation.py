"""Provenance: whether a Sigstore bundle, made by a known workflow, vouches for these very files.

The bundle is what ``actions/attest`` leaves and ``gh attestation download`` fetches. Checking needs
the extra ``hakim-actions[sigstore]``; without it everything else works.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from hakim_actions.errors import ConfigurationError, VerificationError

#: Who GitHub's runners get their identity from.
GITHUB_ISSUER: Final = "https://token.actions.githubusercontent.com"
_STATEMENT: Final = "application/vnd.in-toto+json"


@dataclass(frozen=True, kw_only=True)
class Attested:
    """What was proven: who signed, what kind of statements, and which files they name."""

    identity: str
    predicates: tuple[str, ...]
    files: tuple[str, ...]


def check(
    bundle: Path,
    files: Mapping[str, str],
    *,
    identity: str,
    issuer: str = GITHUB_ISSUER,
    trusted_root: Path | None = None,
) -> Attested:
    """Prove that *identity* attested every one of *files* (``{name: sha256}``).

    *identity* is the signer's name in its certificate: for a workflow
    ``https://github.com/<owner>/<repo>/.github/workflows/<file>@<ref>``. *trusted_root* is a
    Sigstore trusted root for sites that cannot fetch the public one. Raises VerificationError, or
    ConfigurationError when the extra is not installed or a file cannot be read.
    """
    statements = _statements(
        _lines(bundle), bundle, _verifier(trusted_root), _policy(identity, issuer)
    )
    attested = {
        digest
        for statement in statements
        for subject in statement.get("subject", [])
        if (digest := subject.get("digest", {}).get("sha256"))
    }
    without = sorted(name for name, digest in files.items() if digest not in attested)
    if without:
        msg = f"{bundle} does not vouch for {', '.join(without)}."
        raise VerificationError(
            msg, hint="Is it the bundle of this release? Its subjects are those of sha256sums.txt."
        )
    predicates = sorted({str(statement.get("predicateType", "")) for statement in statements})
    return Attested(identity=identity, predicates=tuple(predicates), files=tuple(sorted(files)))


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        msg = "Checking an attestation needs the sigstore library."
        raise ConfigurationError(
            msg, hint="Install it: pip install 'hakim-actions[sigstore]'."
        ) from None


def _verifier(trusted_root: Path | None) -> Any:
    models, verify = _module("sigstore.models"), _module("sigstore.verify")
    errors = _module("sigstore.errors")
    try:
        if trusted_root is None:
            return verify.Verifier.production()
        return verify.Verifier(trusted_root=models.TrustedRoot.from_file(str(trusted_root)))
    except (OSError, ValueError, errors.Error) as error:
        what = f"the trusted root {trusted_root}" if trusted_root else "Sigstore's trusted root"
        msg = f"Unable to load {what}: {error}."
        raise ConfigurationError(
            msg, hint="Without a way to Sigstore, name a trusted_root.json with --trusted-root."
        ) from None


def _policy(identity: str, issuer: str) -> Any:
    if not identity:
        msg = "An attestation without an expected signer proves nothing."
        raise ConfigurationError(
            msg,
            hint="Give --identity https://github.com/<owner>/<repo>/.github/workflows/<file>@<ref>.",
        )
    return _module("sigstore.verify.policy").Identity(identity=identity, issuer=issuer)


def _lines(bundle: Path) -> list[str]:
    """Return the bundles of a file: one JSON document, or one a line."""
    try:
        text = bundle.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Unable to read {bundle}: {error}."
        raise ConfigurationError(
            msg, hint="actions/attest and 'gh attestation download' write one."
        ) from None
    try:
        json.loads(text)
    except ValueError:
        return [line for line in text.splitlines() if line.strip()]
    return [text]


def _statements(lines: list[str], source: Path, verifier: Any, policy: Any) -> list[dict[str, Any]]:
    """Verify every bundle and return the statements that they carry."""
    models, errors = _module("sigstore.models"), _module("sigstore.errors")
    statements: list[dict[str, Any]] = []
    for line in lines:
        try:
            kind, payload = verifier.verify_dsse(models.Bundle.from_json(line), policy)
        except errors.Error as error:
            msg = f"{source} does not verify: {str(error).strip().splitlines()[0]}."
            raise VerificationError(
                msg, hint="Compare --identity with the workflow and the ref that made the release."
            ) from None
        if kind != _STATEMENT:
            msg = f"{source} carries {kind!r}, not an in-toto statement."
            raise VerificationError(msg, hint="Give the bundle of an attestation.")
        statements.append(json.loads(payload))
    if not statements:
        msg = f"{source} holds no bundle."
        raise VerificationError(msg, hint="Download the attestation again.")
    return statements
