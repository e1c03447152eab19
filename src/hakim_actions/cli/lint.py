"""``hakim-actions lint``."""

from dataclasses import asdict
from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError
from hakim_actions.lint.run import Finding, LintReport, lint, project_at
from hakim_actions.system import actions


@click.command(cls=Command, name="lint")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(app: App, *, path: Path, as_json: bool) -> int:
    """Check that the definition, variants, scripts, templates, workflows and docs agree.

    PATH is a folder of the repository; without it, the current one. Writes nothing. A rule whose
    program is not installed is passed over, and named.

    \b
    Example:
      hakim-actions lint
    """  # noqa: D301 - click's mark is the character itself
    result = lint(project_at(path), env=app.env)
    if as_json:
        report.as_json(_document(result))
    else:
        _print(result)
        for finding in result.findings if actions.inside(app.env) else ():
            click.echo(_annotation(finding, result.root, app.env.get("GITHUB_WORKSPACE", "")))
    return ConfigurationError.exit_code if result.findings else 0


def _document(result: LintReport) -> dict[str, object]:
    return {
        "ok": not result.findings,
        "root": str(result.root),
        "files": result.files,
        "checked": list(result.checked),
        "skipped": [asdict(each) for each in result.skipped],
        "findings": [asdict(each) for each in result.findings],
    }


def _print(result: LintReport) -> None:
    for finding in result.findings:
        click.echo(
            f"{finding.file}:{finding.line}: {finding.rule}\n"
            f"  found:    {finding.found}\n"
            f"  expected: {finding.expected}\n"
            f"  hint:     {finding.hint}\n"
        )
    for each in result.skipped:
        click.echo(f"skipped {each.rule}: {each.reason}")
    count = len(result.findings)
    click.echo(
        f"Files: {result.files}. Rules checked: {len(result.checked)}. Findings: {count or 'none'}."
    )


def _annotation(finding: Finding, root: Path, workspace: str) -> str:
    """Return the command that shows *finding* at its line; GitHub counts from the workspace."""
    file = root / finding.file
    if workspace and file.is_relative_to(Path(workspace).resolve()):
        file = file.relative_to(Path(workspace).resolve())
    text = f"{finding.found}, expected {finding.expected}. {finding.hint}"
    return actions.command(
        "error", text, file=str(file), line=str(finding.line), title=f"lint: {finding.rule}"
    )
