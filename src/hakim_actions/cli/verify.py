"""``hakim-actions verify``."""

from dataclasses import asdict
from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.cli.main import App
from hakim_actions.errors import VerificationError
from hakim_actions.image.rules import Failure
from hakim_actions.image.verify import CheckedFile, VerifyReport, verify_paths
from hakim_actions.system import actions


@click.command(name="verify")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--checksums-only", is_flag=True, help="Leave out the structure of the archives.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(app: App, *, paths: tuple[Path, ...], checksums_only: bool, as_json: bool) -> int:
    """Check artifacts: checksums, and the structure of the root file system.

    PATH is an archive (hakim-*.tar.xz), a folder with the files of one or more artifacts, or a
    folder of such folders. Needs no root and unpacks nothing.

    \b
    Example:
      hakim-actions verify distrobuilder/out
    """  # noqa: D301 - click's mark is the character itself
    progress = report.progress_for(app.env, quiet=as_json)
    result = verify_paths(paths, checksums_only=checksums_only, progress=progress)
    if as_json:
        report.as_json(_document(result))
    else:
        _print(result)
    for failure in result.failures if actions.inside(app.env) and not as_json else ():
        text = f"{failure.file}: {failure.found}, expected {failure.expected}. {failure.why}"
        click.echo(actions.command("error", text, title=f"verify: {failure.rule}"))
    return VerificationError.exit_code if result.failures else 0


def _document(result: VerifyReport) -> dict[str, object]:
    checked = [{**asdict(file), "path": str(file.path)} for file in result.checked]
    failures = [asdict(failure) for failure in result.failures]
    return {"ok": not failures, "checked": checked, "failures": failures}


def _print(result: VerifyReport) -> None:
    for file in result.checked:
        click.echo(_line(file))
    for failure in result.failures:
        click.echo(_paragraph(failure))
    files, failures = len(result.checked), len(result.failures)
    click.echo(f"Files read: {files}. Rules broken: {failures or 'none'}.")


def _line(file: CheckedFile) -> str:
    note = "" if file.listed else "  (not compared: no checksum beside it)"
    size, seconds = report.size(file.size), report.duration(file.seconds)
    lacks = f"\n  without {', '.join(file.missing)}, as its manifest says" if file.missing else ""
    return f"{file.sha256}  {file.path}  {size}, {seconds}{note}{lacks}"


def _paragraph(failure: Failure) -> str:
    return (
        f"\nFAILED {failure.rule}: {failure.file}\n"
        f"  found:    {failure.found}\n"
        f"  expected: {failure.expected}\n"
        f"  why:      {failure.why}"
    )
