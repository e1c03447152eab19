"""The catalog accepts what is right and names everything that is wrong at once."""

from pathlib import Path

import pytest
import yaml

from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import Catalog, Project, read_yaml
from hakim_actions.errors import ConfigurationError

GOOD = """
schema: 1
variants:
  base:
    title: Base
    description: Just Debian
    icon: /icon/debian.svg
    preset: {name: Base, parameters: {preview_port: "3000"}}
    modules: []
    releases: [trixie, bookworm]
    architectures: [amd64, arm64]
    checks: [{name: git, run: git --version, expect: "git version"}]
  rust:
    title: Rust
    description: Rust
    icon: /icon/rust.svg
    preset: {name: Rust, default: true, parameters: {}}
    modules: [openchamber]
    releases: [trixie]
    architectures: [amd64]
    checks: []
"""


def catalog(tmp_path: Path, text: str = GOOD) -> Catalog:
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    return Catalog.load(path)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        catalog(tmp_path, text)
    return "\n".join([caught.value.message, *caught.value.problems])


def test_a_good_catalog_is_read(tmp_path: Path) -> None:
    loaded = catalog(tmp_path)

    assert list(loaded.variants) == ["base", "rust"]
    assert loaded.variant("rust").preset.default
    assert loaded.variant("base").checks[0].run == "git --version"


def test_a_target_is_an_artifact_name(tmp_path: Path) -> None:
    target = catalog(tmp_path).target("base", "bookworm", "arm64")

    assert target == ArtifactName("base", "bookworm", "arm64")


def test_every_wrong_name_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        catalog(tmp_path).target("bsae", "trixi", "amd46")

    error = caught.value
    for typed, meant in (("bsae", "base"), ("trixi", "trixie"), ("amd46", "amd64")):
        assert f"'{typed}'" in error.message
        assert f"Did you mean '{meant}'?" in error.hint


@pytest.mark.parametrize(
    ("release", "arch", "kind"),
    [("bookworm", "amd64", "release 'bookworm'"), ("trixie", "arm64", "architecture 'arm64'")],
)
def test_a_combination_that_is_not_built_is_refused(
    tmp_path: Path, release: str, arch: str, kind: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"Variant 'rust' has no image for {kind}"):
        catalog(tmp_path).target("rust", release, arch)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema: 1", "schema: 7", "schema: expected 1, found 7"),
        ("    title: Base\n", "", "variant 'base', title: expected a text"),
        ("title: Rust", "titel: Rust", "unknown key 'titel'. Did you mean 'title'?"),
        ("  rust:", "  Rust!:", "variant 'Rust!': expected up to 20 lower-case letters"),
        ("[openchamber]", "[openchambr]", "unknown 'openchambr'. Did you mean 'openchamber'?"),
        ("[trixie, bookworm]", "[trixie, buster]", "unknown 'buster'"),
        ("[trixie, bookworm]", "[]", "variant 'base', releases: expected a list"),
        ('preview_port: "3000"', "preview_port: 3000", "parameters that are texts"),
        ('expect: "git version"', 'expect: "("', "expect is not a regular expression"),
        ("run: git --version, ", "", "variant 'base', check 1: expected name, run and expect"),
        ("run: git", "releases: [sid], run: git", "check 1: unknown release 'sid'"),
    ],
)
def test_what_is_wrong_is_said_by_variant_and_key(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in GOOD
    assert expected in problems(tmp_path, GOOD.replace(old, new, 1))


def test_checks_are_those_of_base_and_of_the_variant(tmp_path: Path) -> None:
    text = GOOD.replace(
        "    checks: []\n",
        """    checks:
      - {name: cargo, run: cargo --version, expect: cargo}
      - {name: nextest, tool: cargo-nextest, run: cargo nextest --version, expect: .}
      - {name: old, run: old, expect: ., releases: [bookworm]}
""",
    )
    loaded = catalog(tmp_path, text)

    def names(release: str, *missing: str) -> list[str]:
        return [check.name for check in loaded.checks("rust", release, missing=missing)]

    assert names("trixie") == ["git", "cargo", "nextest"]
    assert names("trixie", "cargo-nextest") == ["git", "cargo"]
    assert names("bookworm") == ["git", "cargo", "nextest", "old"]


def test_several_problems_are_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("schema: 1", "schema: 7").replace("title: Rust", "titel: Rust")

    found = problems(tmp_path, text)

    assert "schema" in found
    assert "titel" in found


def test_a_variant_that_is_there_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    text = GOOD + "  base: {}\n"

    found = problems(tmp_path, text)

    assert "'base' is there twice" in found
    assert f"line {len(GOOD.splitlines()) + 1}, column 3" in found


def test_broken_yaml_is_reported_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "hakim.yaml"
    path.write_text("image:\n  a: [1, 2\nb: 3\n")

    with pytest.raises(ConfigurationError, match=r"hakim\.yaml, line 3, column 2: "):
        read_yaml(path)


def test_a_list_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump([1]))

    with pytest.raises(ConfigurationError, match="expected a table, found list"):
        read_yaml(path)


def test_the_project_around_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "distrobuilder").mkdir()
    (tmp_path / "distrobuilder/hakim.yaml").touch()
    (tmp_path / "distrobuilder/variants.yaml").touch()
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)

    assert Project.find(inside).root == tmp_path


def test_a_folder_without_definition_builds_the_packages_own(tmp_path: Path) -> None:
    assert Project.find(tmp_path).root == Path(__file__).resolve().parents[2]


def test_the_catalog_of_this_repository_is_valid() -> None:
    loaded = Catalog.load(Project.find(Path(__file__).parent).variants)

    assert list(loaded.variants) == ["base", "php", "dotnet", "js", "rust", "elixir"]
