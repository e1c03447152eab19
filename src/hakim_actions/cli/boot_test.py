"""``hakim-actions boot-test``."""

import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from hakim_actions.artifact import ArtifactName, Manifest
from hakim_actions.catalog import Catalog, CommandCheck, Project
from hakim_actions.cli import elevate, report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.image.boot import BootFailedError, BootReport, boot_test
from hakim_actions.system import files

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command, name="boot-test")
@click.argument("artifact", type=_FILE)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds to boot within.",
)
@click.option("--keep-log", type=_FILE, help="Write the journal and all other logs to this file.")
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the image is unpacked; gone afterwards.  [default: /var/tmp]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App,
    *,
    artifact: Path,
    timeout: float,
    keep_log: Path | None,
    work_dir: Path | None,
    as_json: bool,
) -> None:
    """Boot an artifact in LXC as Proxmox would run it, and check what it promises.

    Unprivileged, nesting off, on a private network. Needs root, and asks sudo for it. Leaves
    nothing behind, also when it is interrupted.

    \b
    Example:
      hakim-actions boot-test distrobuilder/out/base/hakim-base-trixie-amd64.tar.xz
    """  # noqa: D301 - click reads the backspace: keep the lines of the paragraph
    elevate.become_root("to make a container as Proxmox does", env=app.env)
    if keep_log is not None:
        files.writable_folder(keep_log.absolute().parent, option="--keep-log")
    progress = report.progress_for(app.env, quiet=as_json)
    try:
        with progress.phase(f"Boot {artifact.name}"):
            result = boot_test(
                artifact,
                env=app.env,
                work_dir=work_dir or _disk_for_temporary_files(),
                timeout=timeout,
                commands=_checks(artifact),
                on_step=progress.line,
            )
    except BootFailedError as error:
        _tell(error.report, keep_log, as_json=as_json)
        raise
    _tell(result, keep_log, as_json=as_json)


def _checks(artifact: Path) -> tuple[CommandCheck, ...]:
    """Return what the variant promises, without what its manifest says is missing."""
    name = ArtifactName.parse(artifact.name)
    catalog = Catalog.load(Project.find(Path.cwd()).variants)
    if name.variant not in catalog.variants:
        return ()
    manifest = artifact.with_name(name.manifest)
    missing: tuple[str, ...] = ()
    if manifest.is_file():
        missing = Manifest.from_json(manifest.read_text("utf-8"), source=str(manifest)).missing
    return catalog.checks(name.variant, name.release, missing=missing)


def _disk_for_temporary_files() -> Path:
    # /tmp may be in memory, which an image of a gigabyte would fill.
    disk = Path("/var/tmp")  # noqa: S108 - a folder of a random name is made in it
    return disk if disk.is_dir() else Path(tempfile.gettempdir())


def _tell(result: BootReport, keep_log: Path | None, *, as_json: bool) -> None:
    if keep_log is not None:
        files.write_text(keep_log, result.log)
    if as_json:
        report.as_json(_document(result))
        return
    click.echo(_summary(result))
    if result.failures:
        click.echo("Last lines of the journal:", err=True)
        for line in result.tail():
            click.echo(_quoted(line), err=True)


def _quoted(line: str) -> str:
    """Return *line* of the image's own so that a workflow's runner takes no command from it."""
    return f"  | {line.replace('##[', '## [')}"


def _document(result: BootReport) -> dict[str, object]:
    return {
        "name": result.name,
        "passed": not result.failures,
        "boot_seconds": result.boot_seconds,
        "phases": dict(result.phases),
        "apparmor": result.apparmor,
        "checks": [asdict(check) for check in result.checks],
        "failures": [asdict(failure) for failure in result.failures],
        "journal": result.tail() if result.failures else [],
    }


def _summary(result: BootReport) -> str:
    verdict = "fails the boot test" if result.failures else "boots"
    phases = ", ".join(f"{name} {report.duration(took)}" for name, took in result.phases.items())
    confined = "as on Proxmox" if result.apparmor else "no: this machine has no AppArmor"
    lines = [f"{result.name} {verdict}; up after {report.duration(result.boot_seconds)}."]
    lines += [f"  ✓ {check.name:<16} {check.detail}" for check in result.checks]
    lines += [f"  ✗ {failure.name:<16} {failure.found}" for failure in result.failures]
    lines += [f"  time: {phases}", f"  AppArmor: {confined}"]
    return "\n".join(lines)
