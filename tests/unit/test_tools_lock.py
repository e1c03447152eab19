"""tools.lock accepts what is pinned, names everything that is wrong, and chooses per image."""

from pathlib import Path

import pytest

from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import Catalog
from hakim_actions.errors import ConfigurationError
from hakim_actions.image.pins import Digest, placed
from hakim_actions.image.toolslock import Lock

ROOT = Path(__file__).resolve().parents[2]
SHA = "ab" * 32
GOOD = f"""
schema: 1
tools:
  coder:
    version: 2.1.0
    kind: url
    variants: all
    amd64: {{url: "https://example.com/coder_{{version}}_amd64.tar.gz", sha256: {SHA}}}
    put: {{coder: /usr/local/bin/coder}}
  node:
    version: 24.1.0
    kind: npm
    variants: all-but-base
    amd64: {{package: node-x64, integrity: sha256-{"A" * 43}=}}
    arm64: {{package: node-arm64, unpinned: nobody has it, version: 24.0.0}}
    put: {{".": "/usr/local/lib/{{package}}/{{version}}"}}
  sdk:
    version: "9"
    kind: apt-repo
    variants: [dotnet]
    any:
      url: https://example.com/debian
      suite: trixie
      components: [main]
      packages: [sdk-9.0]
      key: https://example.com/key.asc
      fingerprint: {"AB" * 20}
"""


def load(tmp_path: Path, text: str) -> Lock:
    path = tmp_path / "tools.lock"
    path.write_text(text)
    return Lock.load(path)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    return "\n".join(caught.value.problems)


def chosen(lock: Lock, variant: str, arch: str = "amd64") -> dict[str, str | None]:
    plan = lock.for_target(ArtifactName(variant, "trixie", arch))
    return {tool.name: source.location if source else None for tool, source in plan.tools}


def test_each_image_gets_its_tools_for_its_architecture(tmp_path: Path) -> None:
    lock = load(tmp_path, GOOD)

    assert chosen(lock, "base") == {"coder": "https://example.com/coder_2.1.0_amd64.tar.gz"}
    assert set(chosen(lock, "php")) == {"coder", "node"}
    assert set(chosen(lock, "dotnet")) == {"coder", "node", "sdk"}
    assert chosen(lock, "php", "arm64") == {"coder": None, "node": "node-arm64"}


def test_version_and_package_are_filled_into_the_paths(tmp_path: Path) -> None:
    tool = load(tmp_path, GOOD).tool("node")

    assert placed(tool, tool.sources["arm64"]).put == {".": "/usr/local/lib/node-arm64/24.0.0"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f", sha256: {SHA}", "", "amd64: expected a pin: sha256"),
        (f"fingerprint: {'AB' * 20}", "", "any: expected a pin: fingerprint"),
        (SHA, "abc", "sha256: expected 64 hex digits, found 'abc'"),
        (f"sha256-{'A' * 43}=", "sha512-AAAA", "integrity: expected sha512-<base64>"),
        ("unpinned: nobody has it", "integrity: ''", "integrity: expected"),
        ("kind: npm", "kind: nmp", "kind: expected one of url, npm"),
        ("variants: all\n", "variants: everything\n", "variants: expected all, all-but-base"),
        ("version: 2.1.0", "version: 2.1", "version: expected a text (in quotes)"),
        ("version: 2.1.0", "versoin: 2.1.0", "unknown key 'versoin'. Did you mean 'version'?"),
        ("sha256:", "sha265:", "unknown key 'sha265'. Did you mean 'sha256'?"),
        ("/usr/local/bin/coder", "/usr/bin/coder", "is no path below /usr/local/"),
        ("/usr/local/bin/coder", "/usr/local/../bin/coder", "is no path below /usr/local/"),
        ("{coder: ", "{../coder: ", "is no path below /usr/local/"),
        ("package: node-x64", "package: -node", "package: expected a text"),
        ("[sdk-9.0]", "[sdk-9.0, --purge]", "'--purge' is not the name of a package"),
        ("https://example.com/key.asc", "file:///etc/shadow", "key: expected a text"),
        ("schema: 1", "schema: 2", "schema: expected 1, found 2"),
        ("  coder:\n", "  Coder:\n", "tool 'Coder': expected lower-case letters"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD

    assert said in problems(tmp_path, GOOD.replace(old, new))


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    broken = GOOD.replace(f", sha256: {SHA}", "").replace("kind: npm", "kind: nmp")

    assert len(problems(tmp_path, broken).splitlines()) == 2


def test_a_pin_and_a_reason_for_none_contradict_each_other(tmp_path: Path) -> None:
    both = GOOD.replace(f"sha256: {SHA}", f"sha256: {SHA}, unpinned: lost")

    assert "expected a pin or 'unpinned', found both" in problems(tmp_path, both)


def test_an_unknown_tool_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no tool 'codr'") as caught:
        load(tmp_path, GOOD).tool("codr")

    assert "Did you mean 'coder'?" in caught.value.hint


def test_a_digest_reads_back_what_it_writes() -> None:
    digest = Digest("sha512", "0f" * 64)

    assert Digest.of_integrity(str(digest)) == digest
    assert Digest.of_integrity("sha1-abc") is None
    assert Digest.of_integrity("sha512-%%%") is None


def test_our_own_lock_is_valid_and_its_variants_exist() -> None:
    lock = Lock.load(ROOT / "distrobuilder/tools.lock")
    catalog = Catalog.load(ROOT / "distrobuilder/variants.yaml")

    named = {
        v for tool in lock.tools.values() if isinstance(tool.variants, tuple) for v in tool.variants
    }
    assert named <= set(catalog.variants)
    for variant in catalog.variants.values():
        for check in variant.checks:
            assert not check.tool or lock.tool(check.tool).is_for(variant.name)
    promised = {check.tool for v in catalog.variants for check in catalog.checks(v, "trixie")}
    assert set(lock.tools) - promised == {"typescript"}  # started through typescript-native
