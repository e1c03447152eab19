"""Every command in the docs is one that exists, and every block of them is run or says why not."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pages
import pytest

from hakim_actions.cli import main as cli
from hakim_actions.errors import ConfigurationError

ROOT = pages.ROOT
BLOCKS = [block for page in pages.pages() for block in pages.blocks(page, *pages.SHELL)]
#: Programs of ours, and the words that they put before their arguments.
PROGRAMS = {"hakim-actions": [], "build.sh": ["build"], "make": ["make"]}
OPERATORS = set("();<>|&")
BEFORE = {"sudo", "do", "then", "$"}
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


def commands(script: str) -> Iterator[list[str]]:
    """Yield each command of a shell script as words, without what comes before the program."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True  # so that a comma ends no word
        words: list[str] = []
        for token in [*lexer, ";"]:
            if set(token) <= OPERATORS:
                if words:
                    yield words
                words = []
            elif words or not (token in BEFORE or ASSIGNMENT.fullmatch(token)):
                words.append(token)


def ours(script: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of hakim-actions, build.sh (as ``build``) and make."""
    for words in commands(script):
        program = Path(words[0]).name
        if program in PROGRAMS:
            yield [*PROGRAMS[program], *words[1:]]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def variables() -> set[str]:
    return set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))


def refused(argv: Sequence[str]) -> str:
    """Return what the real command line has against *argv*, without running anything."""
    if argv[0] == "make":
        names = {word.partition("=")[0] for word in argv[1:]}
        return ", ".join(sorted(names - targets() - variables()))
    try:
        parse(cli.group, argv, None)
    except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):  # help is asked for
        return ""
    except click.ClickException as error:
        return error.format_message()
    except ConfigurationError as error:
        problems = sorted(error.problems, key=lambda problem: problem.startswith("Missing "))
        return problems[0] if problems else error.message
    return ""


def parse(command: click.Command, argv: Sequence[str], parent: click.Context | None) -> None:
    name = command.name or "hakim-actions"
    context = command.make_context(name, list(argv), parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        _, below, rest = command.resolve_command(context, rest)
        assert below is not None
        parse(below, rest, context)


@pytest.fixture(autouse=True)
def _no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that a page talks about need not be here."""
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _param, _ctx: value)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_command_in_a_block_exists_with_its_options(block: pages.Block) -> None:
    problems = {shlex.join(argv): refused(argv) for argv in ours(block.script)}

    assert {command: problem for command, problem in problems.items() if problem} == {}


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    spans = re.findall(r"`((?:hakim-actions|make) [^`]+)`", page.read_text())
    typed = [argv for span in spans for argv in ours(re.sub(r"[\[\]]", "", span))]

    problems = {shlex.join(argv): refused(argv) for argv in typed}
    # A sentence may name a command, or one option of it, without all that it needs.
    assert {
        command: problem
        for command, problem in problems.items()
        if problem and not problem.startswith("Missing ")
    } == {}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_run_by_a_test_or_says_why_not(block: pages.Block) -> None:
    if block.test:
        test = ROOT / block.test
        assert test.is_file()
        page = Path(block.page)
        name = page.stem if page.stem != "README" else f"{page.parent.name}/README.md"
        assert name in test.read_text(), "the test does not speak of the page"
    elif block.mark:
        assert len(block.reason) > 10, f"no reason: {block.mark}"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("hakim-actions bild", "Unknown command 'bild'."),
        ("sudo hakim-actions build --varient php", "No such option '--varient'"),
        ("A=1 hakim-actions promote --target nowhere | cat", "'nowhere' is not one of"),
        ("distrobuilder/scripts/build.sh \\\n  --everything", "No such option '--everything'"),
        ("ls; hakim-actions tools updat", "No such command 'updat'"),
        ("make bild VARIANT=php", "bild"),
        ("make build VARIAN=php", "VARIAN"),
        ("hakim-actions verify a b >log  # --nothing", ""),
        ("hakim-actions build --help", ""),
    ],
)
def test_what_is_wrong_is_seen(script: str, problem: str) -> None:
    (argv,) = ours(script)

    found: Any = refused(argv)
    assert found == problem or (problem and problem in found)
