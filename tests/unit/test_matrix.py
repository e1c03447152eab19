"""The matrix has what a change touches, nothing else, and never what GitHub would refuse."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hakim_actions import matrix
from hakim_actions.artifact import ArtifactName, FileRecord
from hakim_actions.catalog import Catalog
from hakim_actions.cli import main as cli
from hakim_actions.content import Sources
from hakim_actions.errors import ConfigurationError
from hakim_actions.index import Index, IndexEntry

VARIANT = """
  {name}:
    title: T
    description: D
    icon: /i.svg
    preset: {{name: P, parameters: {{}}}}
    modules: []
    releases: [trixie]
    architectures: [amd64, arm64]
    checks: [{{name: c, run: "{name} --version", expect: "."}}]
"""
FILES: Mapping[str, str] = {
    "variants.yaml": "schema: 1\nvariants:\n"
    + "".join(VARIANT.format(name=name) for name in ("base", "php", "rust")),
    "hakim.yaml": """
packages:
  sets:
    - packages: [git]
    - {variants: [php], packages: [php-cli]}
    - {variants: [rust], architectures: [arm64], packages: [qemu]}
files:
  - {path: /etc/a}
  - {variants: [rust], path: /etc/r}
""",
    "scripts/actions/post-packages.sh": """
common() { :; }
install_php_stack() {
  echo php
}
install_rust_stack() {
  echo rust
}
""",
    "tools.lock": """
schema: 1
tools:
  node: {variants: all-but-base, version: 1}
  nextest: {variants: [rust], version: 1}
  coder: {variants: all, version: 1}
""",
    "files/etc/motd": "hello",
    "README.md": "text",
}


def sources(changes: Mapping[str, tuple[str, str]] | None = None) -> Sources:
    """Return FILES, with (old, new) replaced in each file of *changes*."""
    files = dict(FILES)
    for path, (old, new) in (changes or {}).items():
        assert old in files[path]
        files[path] = files[path].replace(old, new)
    return Sources.of((path, text.encode()) for path, text in files.items())


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    path = tmp_path / "variants.yaml"
    path.write_text(FILES["variants.yaml"])
    return Catalog.load(path)


def rows(
    catalog: Catalog, after: Sources | None = None, filters: matrix.Filters | None = None
) -> list[matrix.Row]:
    return matrix.all_rows(
        catalog,
        after or sources(),
        filters=filters or matrix.Filters(),
        runners=matrix.RUNNERS,
    )


ALL = {(variant, arch) for variant in ("base", "php", "rust") for arch in ("amd64", "arm64")}
RUST = {("rust", "amd64"), ("rust", "arm64")}
PHP = {("php", "amd64"), ("php", "arm64")}


@pytest.mark.parametrize(
    ("path", "old", "new", "touched"),
    [
        ("hakim.yaml", "[git]", "[git, jq]", ALL),
        ("hakim.yaml", "[php-cli]", "[php-fpm]", PHP),
        ("hakim.yaml", "[qemu]", "[qemu-user]", {("rust", "arm64")}),
        ("hakim.yaml", "/etc/r", "/etc/s", RUST),
        ("scripts/actions/post-packages.sh", "echo php", "echo PHP", PHP),
        ("scripts/actions/post-packages.sh", "common() { :", "common() { true", ALL),
        (
            "tools.lock",
            "nextest: {variants: [rust], version: 1",
            "nextest: {variants: [rust], version: 2",
            RUST,
        ),
        ("tools.lock", "all-but-base, version: 1", "all-but-base, version: 2", PHP | RUST),
        ("tools.lock", "all, version: 1", "all, version: 2", ALL),
        ("files/etc/motd", "hello", "hi", ALL),
        ("variants.yaml", "php --version", "php -v", PHP),
        ("variants.yaml", "title: T", "title: U", set()),
        ("README.md", "text", "other", set()),
    ],
)
def test_a_change_touches_what_is_made_from_it(
    catalog: Catalog, path: str, old: str, new: str, touched: set[tuple[str, str]]
) -> None:
    after = sources({path: (old, new)})

    found = matrix.changed(rows(catalog, after), before=sources(), paths=[f"distrobuilder/{path}"])

    assert {(row.name.variant, row.name.arch) for row in found} == touched


@pytest.mark.parametrize(
    ("path", "count"),
    [("docs/x.md", 0), ("tests/x.py", 0), ("LICENSE", 0), ("src/x.py", 6), ("Makefile", 6)],
)
def test_a_file_nobody_knows_means_everything(catalog: Catalog, path: str, count: int) -> None:
    assert len(matrix.changed(rows(catalog), before=sources(), paths=[path])) == count


def test_a_definition_that_could_not_be_read_before_means_everything(catalog: Catalog) -> None:
    broken = Sources.of([("hakim.yaml", b"a: [")])

    assert len(matrix.changed(rows(catalog), before=broken, paths=[])) == 6


def test_a_row_says_all_that_a_job_needs(catalog: Catalog) -> None:
    row = rows(catalog)[1].as_dict()

    assert row == {
        "variant": "base",
        "release": "trixie",
        "arch": "arm64",
        "runner": "ubuntu-24.04-arm",
        "artifact": "hakim-base-trixie-arm64",
        "content-key": sources().key(ArtifactName("base", "trixie", "arm64")),
    }


def test_filters_limit_and_unknown_names_are_all_named(catalog: Catalog) -> None:
    only = matrix.Filters(variants=["php"], arches=["amd64"])
    assert [row.name.stem for row in rows(catalog, filters=only)] == ["hakim-php-trixie-amd64"]

    with pytest.raises(ConfigurationError) as caught:
        rows(catalog, filters=matrix.Filters(variants=["phpp"], releases=["trixi"]))
    assert "'phpp'" in caught.value.message
    assert "'trixi'" in caught.value.message


def test_base_layers_stand_apart_once_each(catalog: Catalog) -> None:
    layers = matrix.limited(rows(catalog)).as_dict()["layers"]

    assert layers == {
        "include": [
            {"release": "trixie", "arch": "amd64", "runner": "ubuntu-24.04"},
            {"release": "trixie", "arch": "arm64", "runner": "ubuntu-24.04-arm"},
        ]
    }


def test_what_is_published_with_the_same_key_is_left_out(catalog: Catalog) -> None:
    found = rows(catalog)
    published = {row.name: row.content_key for row in found[1:]} | {found[2].name: "old"}

    left = matrix.not_published(found, published)

    assert left == [found[0], found[2]]


def test_more_rows_than_github_takes_are_refused_with_a_way_out(catalog: Catalog) -> None:
    row = rows(catalog)[0]

    assert len(matrix.limited([row] * 256).rows) == 256
    with pytest.raises(ConfigurationError, match="257 rows") as caught:
        matrix.limited([row] * 257)
    assert "--variant" in caught.value.hint


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with FILES committed, as the working directory."""
    for path, text in FILES.items():
        file = tmp_path / "repo/distrobuilder" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        subprocess.run(
            ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments),
            cwd=tmp_path / "repo",
            check=True,
        )
    monkeypatch.chdir(tmp_path / "repo")
    return tmp_path / "repo"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str], **env: str) -> tuple[int, str]:
    code = cli.main(["matrix", *arguments], {"PATH": os.environ["PATH"], **env})
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_nothing_changed_is_an_empty_matrix_and_not_an_error(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    code, said = run(["--changed-since", "HEAD"], capsys, GITHUB_OUTPUT=str(output))

    assert (code, said) == (0, "0 images need a build.\n")
    lines = output.read_text().splitlines()
    values = dict(zip((line.partition("<<")[0] for line in lines[::3]), lines[1::3], strict=True))
    assert values["matrix"] == '{"include": []}'
    assert values["any"] == "false"


def test_a_change_on_disk_counts_against_the_commit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "distrobuilder/hakim.yaml"
    file.write_text(file.read_text().replace("[php-cli]", "[php-fpm]"))

    code, said = run(["--changed-since", "HEAD", "--json"], capsys)

    assert code == 0
    include = json.loads(said)["matrix"]["include"]
    assert [(row["variant"], row["arch"]) for row in include] == [
        ("php", "amd64"),
        ("php", "arm64"),
    ]


def test_an_empty_matrix_can_be_asked_to_fail(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(["--changed-since", "HEAD", "--fail-if-empty"], capsys)

    assert code == 3
    assert "Nothing needs a build." in said


@pytest.mark.parametrize("ref", ["no-such-ref", "--output=/tmp/evil"])
def test_an_unknown_commit_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], ref: str
) -> None:
    code, said = run([f"--changed-since={ref}"], capsys)

    assert code == 2
    assert f"'{ref}' is not a commit of this clone." in said


def test_a_shallow_clone_is_told_to_fetch(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(("git", "clone", "-q", "--depth=1", f"file://{project}", clone), check=True)
    monkeypatch.chdir(clone)

    code, said = run(["--changed-since", "HEAD~1"], capsys)

    assert code == 2
    assert "fetch-depth: 0" in said


def test_an_index_of_another_schema_is_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index.json"
    index.write_text('{"schema": 99}')

    code, said = run(["--not-in", str(index)], capsys)

    assert code == 5
    assert "has schema 99" in said


def test_what_an_index_has_is_not_built_again(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = FileRecord(name="x", size=1, sha256="0" * 64)
    name = ArtifactName("base", "trixie", "amd64")
    entry = IndexEntry(
        variant="base",
        release="trixie",
        arch="amd64",
        content_key=sources().key(name),
        files={"archive": record},
        packages={},
    )
    index = tmp_path / "index.json"
    index.write_text(Index(version="v1", commit="c", epoch=1, entries=(entry,)).to_json())

    code, said = run(["--not-in", str(index), "--variant", "base"], capsys)

    assert code == 0
    assert "hakim-base-trixie-arm64" in said
    assert "hakim-base-trixie-amd64" not in said


def test_runners_can_be_ones_own(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = run(["--runner", "arm64=my-arm", "--arch", "arm64", "--variant", "php"], capsys)
    assert "on my-arm" in said

    code, said = run(["--runner", "riscv"], capsys)
    assert code == 2
    assert "'riscv' is not ARCH=LABEL" in said
