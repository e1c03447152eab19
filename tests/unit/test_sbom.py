"""The bill of materials is valid CycloneDX, complete, and the same for the same image."""

import dataclasses
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hakim_actions.artifact import Manifest
from hakim_actions.errors import BuildError
from hakim_actions.image.sbom import Details, document, licences_of, read_details
from hakim_actions.image.toolslock import Lock

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: bash

Files: *
Copyright: 1987 Free Software Foundation
License: GPL-3+
 This text is no licence: GPL-1.

Files: lib/*
License: Expat or LGPL-2.1

Files: odd/*
License: Odd-one
"""
STATUS = "\n\n".join(
    f"Package: {name}\nStatus: install ok installed\nInstalled-Size: {size}\n"
    f"Architecture: amd64\nVersion: 1"
    for name, size in [("small", 1), ("bash", 7000), ("gone", 9)]
).replace("gone\nStatus: install ok installed", "gone\nStatus: deinstall ok config-files")
LOCK = f"""
schema: 1
tools:
  bun:
    version: 1.4.5
    kind: npm
    variants: all
    any: {{package: "@oven/bun", integrity: sha512-{"A" * 86}==}}
    put: {{bun: /usr/local/bin/bun}}
  coder:
    version: "2"
    kind: url
    variants: all
    any: {{url: "https://example.com/coder", sha256: {"ab" * 32}}}
    put: {{.: /usr/local/bin/coder}}
  claw:
    version: 1.0.0
    kind: npm
    variants: all
    any: {{package: claw, lockfile: tree}}
    put: {{.: /usr/local/lib/claw}}
"""
PIN = f"sha512-{'A' * 86}=="
TREE = {
    "": {"name": "tree", "dependencies": {"claw": "1.0.0"}},
    "node_modules/claw": {"version": "1.0.0", "integrity": PIN},
    "node_modules/leaf": {"version": "2.0.0", "integrity": PIN, "license": "ISC"},
    "node_modules/claw/node_modules/leaf": {"version": "2.0.0", "license": "ISC"},
    "node_modules/@a/linux": {"version": "1.0.0", "os": ["linux"], "cpu": ["x64"]},
    "node_modules/@a/mac": {"version": "1.0.0", "os": ["darwin"]},
    "node_modules/@a/arm": {"version": "1.0.0", "cpu": ["arm64"]},
    "node_modules/tester": {"version": "1.0.0", "dev": True},
}


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        variant="js",
        release="trixie",
        arch="amd64",
        version="v1",
        commit="abc",
        epoch=1_700_000_000,
        distrobuilder="3.3.1",
        files=(),
        packages={"bash": "5.2-1+b1", "libc6:i386": "2.41", "tzdata": "2025b"},
        tools={"bun": "1.4.5", "coder": "2"},
        missing=("openchamber",),
    )


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    path = tmp_path / "tools.lock"
    path.write_text(LOCK)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/package-lock.json").write_text(json.dumps({"packages": TREE}))
    return Lock.load(path)


DETAILS = Details(licences={"bash": ("GPL-3.0-or-later", "Odd-one")}, sizes={"bash": 2, "a": 9})


def components(text: str) -> dict[str, Any]:
    return {item["purl"]: item for item in json.loads(text)["components"]}


def test_it_is_valid_and_has_every_package_and_tool(manifest: Manifest, lock: Lock) -> None:
    text = document(manifest, lock=lock, details=DETAILS)

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text)["specVersion"] == "1.6"
    assert set(components(text)) == {
        "pkg:deb/debian/bash@5.2-1%2Bb1?arch=amd64&distro=trixie",
        "pkg:deb/debian/libc6@2.41?arch=i386&distro=trixie",
        "pkg:deb/debian/tzdata@2025b?arch=amd64&distro=trixie",
        "pkg:npm/%40oven/bun@1.4.5",
        "pkg:generic/coder@2?download_url=https://example.com/coder",
    }


def test_it_has_licences_and_checksums_where_they_are_known(manifest: Manifest, lock: Lock) -> None:
    found = components(document(manifest, lock=lock, details=DETAILS))

    licences = found["pkg:deb/debian/bash@5.2-1%2Bb1?arch=amd64&distro=trixie"]["licenses"]
    assert {"license": {"id": "GPL-3.0-or-later"}} in licences
    assert {"license": {"name": "Odd-one"}} in licences
    assert "licenses" not in found["pkg:deb/debian/tzdata@2025b?arch=amd64&distro=trixie"]
    assert found["pkg:npm/%40oven/bun@1.4.5"]["hashes"][0]["alg"] == "SHA-512"


def test_it_has_what_a_tree_of_npm_brings_on_this_architecture(
    manifest: Manifest, lock: Lock
) -> None:
    image = dataclasses.replace(manifest, tools={"claw": "1.0.0"})
    found = components(document(image, lock=lock, details=DETAILS))

    assert {purl for purl in found if purl.startswith("pkg:npm/")} == {
        "pkg:npm/claw@1.0.0",
        "pkg:npm/leaf@2.0.0",
        "pkg:npm/%40a/linux@1.0.0",
    }
    assert found["pkg:npm/leaf@2.0.0"]["licenses"] == [{"license": {"id": "ISC"}}]


def test_it_says_what_is_missing(manifest: Manifest) -> None:
    subject = json.loads(document(manifest, lock=None, details=DETAILS))["metadata"]["component"]

    assert subject["properties"] == [{"name": "hakim:missing", "value": "openchamber"}]


def test_the_same_image_has_the_same_bill_and_another_one_another(manifest: Manifest) -> None:
    first, again = (document(manifest, lock=None, details=DETAILS) for _ in range(2))
    newer = dataclasses.replace(manifest, packages={**manifest.packages, "bash": "5.3"})
    other = json.loads(document(newer, lock=None, details=DETAILS))

    assert first == again
    assert json.loads(first)["serialNumber"] != other["serialNumber"]


def test_an_empty_bill_is_refused(manifest: Manifest) -> None:
    with pytest.raises(BuildError, match="lists no package"):
        document(dataclasses.replace(manifest, packages={}), lock=None, details=DETAILS)


def test_licences_come_from_machine_readable_files_only() -> None:
    assert licences_of(COPYRIGHT) == ("GPL-3.0-or-later", "LGPL-2.1-only", "MIT", "Odd-one")
    assert licences_of("This is free software.\nLicense: GPL-3+\n") == ()


def test_details_are_read_from_the_tar(tmp_path: Path) -> None:
    path = tmp_path / "rootfs.tar"
    members = {
        "./usr/share/doc/bash/copyright": COPYRIGHT,
        "./usr/share/doc/bash/README": "License: nothing",
        "./var/lib/dpkg/status": STATUS,
    }
    with tarfile.open(path, "w") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    details = read_details(path)

    assert set(details.licences) == {"bash"}
    assert details.sizes == {"small": 1024, "bash": 7000 * 1024}
    assert details.largest(1) == {"bash": 7000 * 1024}
