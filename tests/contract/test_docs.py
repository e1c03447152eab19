"""The pages hold together: links lead somewhere, nothing is left out, examples are the examples."""

import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pages
import pytest
import yaml

from hakim_actions import errors

ROOT = pages.ROOT
PAGES = pages.pages()
LINK = re.compile(r"""!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)\"""")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
WORKFLOWS = [block for page in PAGES for block in pages.blocks(page, "yaml", "yml")]
#: A promotion without Proxmox's API: test_promote_directory.py has it, no example.
COPIES = [block for block in WORKFLOWS if "target: directory" not in block.text]
EXAMPLES = sorted(ROOT.glob("examples/*/.github/workflows/*.yml"))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return *page* without its blocks and without code in a line."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`", "", text)


def links(page: Path) -> Iterator[str]:
    for markdown, html in LINK.findall(prose(page)):
        target = markdown or html
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of *page*."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_of_the_project_leads_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)

    assert not lost


def test_links_are_looked_for_in_text_and_not_in_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('[a](b.md#c) `[d](e)`\n<img src="f.png">\n```sh\n[g](h)\n```\n[i](https://j)\n')

    assert list(links(page)) == ["b.md#c", "f.png"]


def test_the_index_lists_every_page_of_the_docs() -> None:
    index = ROOT / "docs/README.md"
    listed = {(index.parent / link).resolve() for link in links(index)}

    missing = {page for page in (ROOT / "docs").rglob("*.md") if page != index} - listed
    assert {name_of(page) for page in missing} == set()


@pytest.mark.parametrize("page", ["actions", "commands"])
def test_what_follows_from_the_sources_is_fresh(page: str) -> None:
    done = subprocess.run(
        (sys.executable, ROOT / f"scripts/{page}_page.py", "--check"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_page_of_all_commands_has_every_exit_code() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.HakimError)}

    listed = re.findall(r"^\| (\d) \| ", page, re.MULTILINE)
    assert listed == [str(code) for code in sorted({0, *codes})]


@pytest.mark.parametrize("block", COPIES, ids=str)
def test_a_workflow_in_the_docs_stands_in_an_example_word_by_word(block: pages.Block) -> None:
    assert any(
        textwrap.indent(block.text, " " * depth) in example.read_text()
        for example in EXAMPLES
        for depth in range(0, 12, 2)
    )


def test_the_readme_shows_the_whole_minimal_example() -> None:
    minimal = (ROOT / "examples/minimal/.github/workflows/template.yml").read_text()

    assert minimal in [block.text for block in pages.blocks(ROOT / "README.md", "yaml")]


def test_every_example_is_run_by_a_test() -> None:
    runs = (ROOT / "tests/integration/test_act.py").read_text()

    for example in EXAMPLES:
        assert f'.github/workflows/{example.name}"' in runs
        folder = example.relative_to(ROOT / "examples").parts[0]
        assert f'consumer_of("{folder}"' in runs or f'"examples/{folder}"' in runs


@pytest.mark.parametrize("block", WORKFLOWS, ids=str)
def test_a_step_in_the_docs_gives_an_action_only_inputs_it_has(block: pages.Block) -> None:
    document = yaml.safe_load(block.text)
    steps = document if isinstance(document, list) else list(steps_of(document))

    assert steps
    for step in steps:
        used = re.fullmatch(r"hakim/actions(/[\w-]+)?@v1", step.get("uses", ""))
        if used:
            action = yaml.safe_load((ROOT / (used[1] or "").lstrip("/") / "action.yml").read_text())
            assert set(step.get("with", {})) <= set(action["inputs"])


def steps_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of a workflow, or of a part of one."""
    for key, value in document.items():
        if key == "steps" and isinstance(value, list):
            yield from value
        elif isinstance(value, dict):
            yield from steps_of(value)
