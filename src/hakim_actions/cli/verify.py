"""``hakim-actions verify``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError, HakimError, VerificationError
from hakim_actions.image.rules import Failure
from hakim_actions.image.verify import CheckedFile, VerifyReport, verify_paths
from hakim_actions.index import Index
from hakim_actions.system import actions


@click.command(cls=Command, name="verify")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--checksums-only", is_flag=True, help="Leave out the structure of the archives.")
@click.option(
    "--consolidate",
    "consolidated",
    is_flag=True,
    help="Also write one sha256sums.txt and index.json over all artifacts into the first PATH.",
)
@click.option("--image-version", default="", help="Version in index.json.  [default: manifest's]")
@click.option("--expect", default="", metavar="JSON", help="Matrix that has to be complete.")
@click.option(
    "--attestation",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="BUNDLE",
    help="Sigstore bundle that has to cover every listed file.",
)
@click.option("--identity", default="", help="Who has to have signed the bundle.")
@click.option(
    "--trusted-root",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Sigstore's trusted root, for sites that cannot fetch it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App,
    *,
    paths: tuple[Path, ...],
    checksums_only: bool,
    consolidated: bool,
    image_version: str,
    expect: str,
    attestation: Path | None,
    identity: str,
    trusted_root: Path | None,
    as_json: bool,
) -> int:
    """Check artifacts: checksums, and the structure of the root file system.

    With --consolidate, the artifacts of all jobs become one release that publish takes: complete,
    from one commit, and each file proven. With --attestation, who built them is proven, too.

    PATH is an archive (hakim-*.tar.xz), a folder with the files of one or more artifacts, or a
    folder of such folders. Needs no root and unpacks nothing.

    \b
    Example:
      hakim-actions verify distrobuilder/out
      hakim-actions verify --consolidate --image-version v1.2.0 downloads
    """  # noqa: D301 - click's mark is the character itself
    if bool(attestation) != bool(identity):
        msg = "--attestation and --identity belong together."
        raise ConfigurationError(msg, hint="The identity is that of the workflow that signed.")
    progress = report.progress_for(app.env, quiet=as_json)
    result = verify_paths(paths, checksums_only=checksums_only, progress=progress)
    if as_json:
        report.as_json(_document(result))
    else:
        _print(result)
    if actions.inside(app.env) and not as_json:
        entries = [(f"verify: {failure.rule}", _sentence(failure)) for failure in result.failures]
        for line in actions.annotations("error", entries):
            click.echo(line)
    if result.failures:
        return VerificationError.exit_code
    if attestation is not None:
        _prove_builder(result, attestation, identity=identity, trusted_root=trusted_root)
    if consolidated:
        _consolidate(paths, app, version=image_version, expect=expect)
    return 0


def _prove_builder(
    result: VerifyReport, bundle: Path, *, identity: str, trusted_root: Path | None
) -> None:
    from hakim_actions.publish import attestation  # noqa: PLC0415 - only who asks for it pays

    files = {file.path.name: file.sha256 for file in result.checked}
    attestation.check(bundle, files, identity=identity, trusted_root=trusted_root)
    click.echo(f"{identity} attested all {len(files)} files.", err=True)


def _consolidate(paths: Sequence[Path], app: App, *, version: str, expect: str) -> None:
    from hakim_actions.cli import release_report  # noqa: PLC0415 - likewise
    from hakim_actions.publish import consolidate  # noqa: PLC0415 - likewise

    expected = consolidate.expected_names(expect, source="--expect") if expect else ()
    release = consolidate.consolidate(paths, version=version, expected=expected)
    consolidate.write(release, paths[0])
    if actions.inside(app.env):
        before = _last_release(app, other_than=release.index.version)
        actions.append_summary(app.env, release_report.markdown(release, before=before))
    click.echo(
        f"{paths[0]} is release {release.index.version}: {len(release.index.entries)} images.",
        err=True,
    )


def _last_release(app: App, *, other_than: str) -> Index | None:
    """Return the last release, for the summary; one that cannot be read does not stop this one."""
    from hakim_actions.publish import released  # noqa: PLC0415 - likewise

    try:
        return released.read_index(released.LATEST, env=app.env, other_than=other_than)
    except HakimError as error:
        click.echo(f"The summary does not compare with the last release: {error.message}", err=True)
        return None


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


def _sentence(failure: Failure) -> str:
    return f"{failure.file}: {failure.found}, expected {failure.expected}. {failure.why}"


def _paragraph(failure: Failure) -> str:
    return (
        f"\nFAILED {failure.rule}: {failure.file}\n"
        f"  found:    {failure.found}\n"
        f"  expected: {failure.expected}\n"
        f"  why:      {failure.why}"
    )
