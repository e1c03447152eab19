#!/usr/bin/env python3
"""Write docs/reference/commands.md from the commands themselves: commands_page.py [--check]."""

import inspect
import re
import sys
from collections.abc import Iterator

import click
from page import cell, write_or_check

from hakim_actions import errors
from hakim_actions.cli.main import group

PAGE = "docs/reference/commands.md"
NAME = "hakim-actions"
HEAD = """\
# The commands

<!-- Written by scripts/commands_page.py from the commands themselves; change those. -->

An option is given on the command line, or as its variable; the command line wins, and an empty
variable counts as unset. A switch takes `true` or `false` as its variable, and what can be given
several times takes its values separated by spaces. `--help` works everywhere.

Tokens are never options, which would show them in the list of processes: `PROXMOX_TOKEN`,
`GITHUB_TOKEN` and `CODER_SESSION_TOKEN` are read from the environment, or a file is named by
`--token-file`.
"""
#: A line of the table over all errors: the class, its exit code, what it means.
KIND = re.compile(r"^\W*\w+Error +(\d+) +(.+)$", re.MULTILINE)
#: How a help text says a default that is only known when the command runs.
WRITTEN_DEFAULT = re.compile(r"\s*\[default: ([^\]]+)\]$")


def page() -> str:
    """Return the whole page."""
    root = click.Context(group, info_name=NAME, **group.context_settings)
    parts = [HEAD, *exit_codes()]
    for name in group.list_commands(root):
        command = group.get_command(root, name)
        assert command is not None, name  # noqa: S101 - the group lists what it has
        parts += sections(command, root, name)
    return "\n".join(parts)


def exit_codes() -> Iterator[str]:
    """Yield the table of what a command ends with, as the errors say it."""
    yield "## Exit codes\n"
    yield "| Code | |\n| --- | --- |\n| 0 | done |"
    for code, meaning in KIND.findall(errors.__doc__ or ""):
        yield f"| {code} | {cell(meaning)} |"
    yield "| 130, 143 | interrupted (Ctrl-C), terminated; both clean up |\n"


def sections(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    """Yield the section of *command*, and of each command below it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## `{context.command_path}`\n"
    yield text_of(command.help or "")
    if command.epilog:
        yield text_of(command.epilog)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None, below  # noqa: S101 - likewise
            yield from sections(found, context, below)
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```\n"
    yield from table(command, context)


def text_of(source: str) -> str:
    """Return a help text as Markdown: its examples become blocks of code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(source).split("\n\n"):
        lines = [line.strip() for line in paragraph.replace("\b", "").strip().splitlines()]
        head, _, rest = " ".join(lines).partition("Example:")
        if not rest:
            paragraphs.append("\n".join(lines).replace("<", "&lt;"))
            continue
        examples = re.split(rf"\s+(?={NAME} )", f" {rest.strip()}")[1:]
        paragraphs.append(f"{head}```text\n{chr(10).join(examples)}\n```")
    return "\n\n".join(paragraphs) + "\n"


def table(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the table of the options of *command*."""
    options = [each for each in command.params if isinstance(each, click.Option)]
    yield "| Option | | Default | Variable |\n| --- | --- | --- | --- |"
    for option in options:
        if not option.hidden:
            yield row(option, context)
    yield ""


def row(option: click.Option, context: click.Context) -> str:
    """Return what the table says about *option*, in click's own words."""
    option.show_default = option.show_envvar = True
    extra = option.get_help_extra(context)
    text = option.help or ""
    written = WRITTEN_DEFAULT.search(text)
    given = extra.get("default", "").replace('""', "")
    default = cell(written[1]) if written else given and f"`{given}`"
    text = WRITTEN_DEFAULT.sub("", text)
    if extra.get("required"):
        text += " Required."
    if extra.get("range"):
        text += f" ({extra['range']})"
    names = " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if not option.is_flag:
        names = f"`{option.opts[-1]} {cell(option.make_metavar(context))}`".replace("&lt;", "<")
    variables = ", ".join(f"`{name}`" for name in extra.get("envvars", ()))
    return f"| {names} | {cell(text)} | {default} | {variables} |"


def main() -> int:
    """Write the page, or with ``--check`` only tell whether it is fresh."""
    return write_or_check(PAGE, page(), script="scripts/commands_page.py")


if __name__ == "__main__":
    sys.exit(main())
