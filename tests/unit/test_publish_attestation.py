"""Attestations: the sigstore library decides, over bundles of a Sigstore of our own."""

import base64
import importlib
import json
from pathlib import Path

import pytest
from fakes.sigstore_material import Sigstore

from hakim_actions.errors import ConfigurationError, VerificationError
from hakim_actions.publish import attestation
from hakim_actions.publish.attestation import GITHUB_ISSUER

IDENTITY = "https://github.com/acme/images/.github/workflows/release.yml@refs/tags/v1.2.0"
FILES = {"hakim-base-trixie-amd64.tar.xz": "a" * 64, "index.json": "b" * 64}


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    pytest.importorskip("sigstore", reason="the extra 'sigstore' is not installed")
    return Sigstore()


@pytest.fixture
def root(sigstore: Sigstore, tmp_path: Path) -> Path:
    return sigstore.write_root(tmp_path / "trusted_root.json")


def bundle(sigstore: Sigstore, path: Path, **changes: str) -> Path:
    options = {"identity": IDENTITY, "issuer": GITHUB_ISSUER, **changes}
    path.write_text(sigstore.bundle(FILES, **options))
    return path


def test_files_that_are_attested(sigstore: Sigstore, root: Path, tmp_path: Path) -> None:
    path = bundle(sigstore, tmp_path / "bundle.json")
    proven = attestation.check(path, FILES, identity=IDENTITY, trusted_root=root)
    assert proven.files == tuple(sorted(FILES))
    assert proven.predicates == ("https://slsa.dev/provenance/v1",)


def test_several_bundles_one_a_line(sigstore: Sigstore, root: Path, tmp_path: Path) -> None:
    lines = [
        sigstore.bundle({name: digest}, identity=IDENTITY, issuer=GITHUB_ISSUER)
        for name, digest in FILES.items()
    ]
    path = tmp_path / "bundle.jsonl"
    path.write_text("\n".join(lines) + "\n")
    proven = attestation.check(path, FILES, identity=IDENTITY, trusted_root=root)
    assert proven.identity == IDENTITY


def test_a_file_that_is_not_among_the_subjects(
    sigstore: Sigstore, root: Path, tmp_path: Path
) -> None:
    path = bundle(sigstore, tmp_path / "bundle.json")
    with pytest.raises(VerificationError, match=r"does not vouch for hakim-evil\.tar\.xz"):
        attestation.check(
            path, {"hakim-evil.tar.xz": "c" * 64}, identity=IDENTITY, trusted_root=root
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": IDENTITY.replace("acme", "evil")},
        {"identity": IDENTITY.replace("refs/tags/v1.2.0", "refs/heads/pr")},
        {"issuer": "https://evil.example.org"},
        {"kind": "text/plain"},
    ],
    ids=["another repository", "another ref", "another issuer", "no statement"],
)
def test_another_signer_is_refused(
    sigstore: Sigstore, root: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    path = bundle(sigstore, tmp_path / "bundle.json", **changes)
    with pytest.raises(VerificationError):
        attestation.check(path, FILES, identity=IDENTITY, trusted_root=root)


def test_a_bundle_of_another_sigstore_is_refused(
    sigstore: Sigstore, root: Path, tmp_path: Path
) -> None:
    path = bundle(type(sigstore)(), tmp_path / "bundle.json")
    with pytest.raises(VerificationError, match="does not verify"):
        attestation.check(path, FILES, identity=IDENTITY, trusted_root=root)


def test_a_changed_statement_is_refused(sigstore: Sigstore, root: Path, tmp_path: Path) -> None:
    path = bundle(sigstore, tmp_path / "bundle.json")
    document = json.loads(path.read_text())
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b"a" * 64, b"c" * 64)
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="does not verify"):
        attestation.check(path, FILES, identity=IDENTITY, trusted_root=root)


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"mediaType": 1}'])
def test_what_is_no_bundle(
    sigstore: Sigstore,
    root: Path,
    tmp_path: Path,
    text: str,
) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(text)
    with pytest.raises(VerificationError):
        attestation.check(path, FILES, identity=IDENTITY, trusted_root=root)


def test_a_signer_must_be_named(root: Path, sigstore: Sigstore, tmp_path: Path) -> None:
    path = bundle(sigstore, tmp_path / "bundle.json")
    with pytest.raises(ConfigurationError, match="proves nothing"):
        attestation.check(path, FILES, identity="", trusted_root=root)


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle.json"
    path.write_text("{}")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError) as caught:
        attestation.check(path, FILES, identity=IDENTITY)
    assert "hakim-actions[sigstore]" in caught.value.hint
