"""The how-to pages do what they say: a test follows them in a copy of the project.

What a page tells people to edit stands in ``diff`` blocks whose context is found by its text, and
what it tells them to run in ``console`` blocks.
"""

import io
import json
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hakim_actions.catalog import Catalog, Project
from hakim_actions.cli import main as cli
from hakim_actions.coder.archive import pack
from hakim_actions.lint.run import lint

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("add-a-package", "create-a-variant")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what the pages talk about, and make it the current folder."""
    for name in ("distrobuilder", "coder", "docs"):
        ignore = shutil.ignore_patterns("out", ".terraform", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignore)
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: str, language: str) -> Iterator[str]:
    text = (ROOT / f"docs/how-to/{page}.md").read_text()
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match.group(1)


def commands(page: str) -> list[list[str]]:
    """Return what the page runs, without the prompt and without sudo."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    typed = [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]
    return [argv[1:] if argv[0] == "sudo" else argv for argv in typed]


def follow(page: str, copy: Path) -> list[str]:
    """Make the edits of *page* in *copy* and return the names of the files."""
    edited = []
    for block in blocks(page, "diff"):
        before, after, mark, *lines = block.splitlines()
        name = before.removeprefix("--- ")
        assert (after, mark) == (f"+++ {name}", "@@"), f"not the form of a diff: {block}"
        old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
        new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
        text = (copy / name).read_text()
        assert text.count(old) == 1, f"{page}.md edits {name} where this no longer stands:\n{old}"
        (copy / name).write_text(text.replace(old, new))
        edited.append(name)
    return edited


def told_by_lint(copy: Path, env: Mapping[str, str] = os.environ) -> list[str]:
    result = lint(Project(root=copy), env=env)
    return [f"{each.file}:{each.line}: {each.rule}: {each.found}" for each in result.findings]


@pytest.mark.parametrize("page", PAGES)
def test_lint_passes_after_the_page_was_followed(page: str, copy: Path) -> None:
    assert follow(page, copy)

    assert told_by_lint(copy) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_lint_run_and_names_only_commands_that_exist(page: str) -> None:
    typed = commands(page)

    assert ["hakim-actions", "lint"] in typed
    for argv in typed:
        assert argv[0] == "hakim-actions"
        assert cli.main([argv[1], "--help"], {}) == 0
        options = {part for part in argv[2:] if part.startswith("--")}
        command = cli.LazyGroup().get_command(None, argv[1])  # type: ignore[arg-type]
        assert command is not None
        assert options <= {name for parameter in command.params for name in parameter.opts}


def test_each_edit_of_a_package_is_in_the_images_that_the_page_names(copy: Path) -> None:
    follow("add-a-package", copy)

    definition = (copy / "distrobuilder/hakim.yaml").read_text()
    everywhere, _, _ = definition.partition("- action: install\n      early: true")
    assert "- strace\n" in everywhere
    php = definition.split("variants: [php]\n")[1].split("- action: install")[0]
    assert "- php8.4-redis\n" in php
    checks = Catalog.load(copy / "distrobuilder/variants.yaml").variant("php").checks
    assert "redis" in [check.name for check in checks]


def test_the_catalog_and_its_targets_have_the_new_variant(copy: Path) -> None:
    assert "go" not in Catalog.load(copy / "distrobuilder/variants.yaml").variants

    assert sorted(follow("create-a-variant", copy)) == [
        "distrobuilder/hakim.yaml",
        "distrobuilder/scripts/actions/post-packages.sh",
        "distrobuilder/variants.yaml",
    ]

    catalog = Catalog.load(copy / "distrobuilder/variants.yaml")
    assert str(catalog.target("go", "trixie", "arm64").stem) == "hakim-go-trixie-arm64"


def test_each_of_the_two_entries_alone_is_told_by_lint(copy: Path) -> None:
    """So nobody can forget one of them."""
    originals = {name: (copy / name).read_text() for name in ENTRIES}
    follow("create-a-variant", copy)
    function = copy / "distrobuilder/scripts/actions/post-packages.sh"
    function.write_text((ROOT / function.relative_to(copy)).read_text())
    followed = {name: (copy / name).read_text() for name in ENTRIES}

    for name, rule in ENTRIES.items():
        (copy / name).write_text(originals[name])
        told = told_by_lint(copy, {"PATH": ""})  # reading is enough, and much faster
        assert any(rule in each and "'go'" in each for each in told), told
        (copy / name).write_text(followed[name])


ENTRIES: Mapping[str, str] = {
    "distrobuilder/hakim.yaml": "variant-has-content",
    "distrobuilder/variants.yaml": "filters-known-variants",
}


def test_the_matrix_has_the_new_variant(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow("create-a-variant", copy)
    (typed,) = [argv for argv in commands("create-a-variant") if argv[1] == "matrix"]

    assert cli.main([*typed[1:], "--json"], {"PATH": os.environ["PATH"]}) == 0

    document = json.loads(capsys.readouterr().out)
    artifacts = re.findall(r"hakim-go-\w+-\w+", json.dumps(document))
    assert set(artifacts) == {"hakim-go-trixie-amd64", "hakim-go-trixie-arm64"}


@pytest.mark.parametrize("template", ["hakim", "hakim-proxmox"])
def test_the_packed_coder_template_offers_the_new_variant(template: str, copy: Path) -> None:
    follow("create-a-variant", copy)

    packed = pack(copy / "coder/templates" / template, root=copy)

    with tarfile.open(fileobj=io.BytesIO(packed.data)) as archive:
        member = archive.extractfile("variants.yaml")
        assert member is not None
        assert b"\n  go:\n    title: Go\n" in member.read()
        sources = [archive.extractfile(name) for name in archive.getnames() if ".tf" in name]
        code = "".join(source.read().decode() for source in sources if source is not None)
    assert re.search(r'dynamic "option" \{\s*for_each = var\.variants', code)
    assert re.search(r'"coder_workspace_preset" "\w+" \{\s*for_each = var\.variants', code)
