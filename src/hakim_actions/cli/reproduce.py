"""``hakim-actions reproduce``."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from hakim_actions.artifact import Archive, Manifest
from hakim_actions.catalog import Catalog, Project
from hakim_actions.cli import common, elevate, report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.cli.reproduction import rebuild_and_compare
from hakim_actions.content import Sources
from hakim_actions.errors import ConfigurationError
from hakim_actions.image import mirror, preflight, tools
from hakim_actions.image.build import BuildOptions
from hakim_actions.image.many import rootfs_memory
from hakim_actions.system.git import Revision

#: What the action scripts write into the sources of apt.
_PLAIN_URL: Final = re.compile(r"https?://[\w.~:/%-]+", re.ASCII)


@click.command(cls=Command, name="reproduce")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--snapshot-url",
    default="https://snapshot.debian.org",
    show_default=True,
    metavar="URL",
    help="Archive that keeps Debian as it was.",
)
@common.CACHE_DIR
@common.JSON
@click.pass_obj
def command(app: App, *, manifest: Path, snapshot_url: str, cache_dir: Path, as_json: bool) -> None:
    """Build an image again from what its MANIFEST records, and prove that the bytes are the same.

    Check out the commit of the manifest first. Needs root, and asks sudo for it. Ends with 5 when
    the archive has another sha256, and lists what differs if it lies beside the manifest. Log and
    list are in the folder `reproduced` there. Of the cache only downloads of tools are used.

    \b
    Example:
      hakim-actions reproduce distrobuilder/out/base/hakim-base-trixie-amd64.manifest.json
    """  # noqa: D301 - click reads the escape
    recorded = Manifest.from_json(manifest.read_text("utf-8"), source=str(manifest))
    project = Project.find(Path.cwd())
    sources = Sources.read(project.definition.parent)
    archive = _usable(recorded, sources, manifest)
    lock = tools.load(project.tools_lock).without(recorded.missing)
    elevate.become_root("to build the image again", env=app.env)
    cache_dir = cache_dir.resolve()
    progress = report.progress_for(app.env, quiet=as_json)
    preflight.check_build(
        variants=[recorded.variant],
        release=recorded.release,
        arch=recorded.arch,
        work_dir=cache_dir,
        env=app.env,
    )
    snapshot = mirror.snapshot_of(archive, snapshot_url, recorded.release)
    day = datetime.fromtimestamp(archive.date, UTC).strftime("%Y-%m-%d %H:%M")
    progress.note(f"Building {recorded.name.stem} again, with Debian as of {day} UTC")
    options = BuildOptions(
        project=project,
        catalog=Catalog.load(project.variants),
        sources=sources,
        revision=Revision(commit=recorded.commit, version=recorded.version, epoch=recorded.epoch),
        out=manifest.resolve().parent / "reproduced",
        work_dir=cache_dir / "work",
        rootfs_memory=rootfs_memory(1, work_dir=cache_dir),
        downloads=cache_dir,
        lock=lock,
        mirror=snapshot.mirror,
        level=recorded.level,
        env={
            **app.env,
            mirror.SECURITY_MIRROR: snapshot.security,
            mirror.NAMED_MIRROR: archive.mirror,
            mirror.NAMED_SECURITY_MIRROR: archive.security,
        },
    )
    wanted = recorded.files[0]
    beside = manifest.parent / wanted.name
    first = beside.resolve() if beside.is_file() else None
    rebuild_and_compare(recorded.name, options, progress, app, sha256=wanted.sha256, first=first)
    if as_json:
        report.as_json({"name": recorded.name.stem, "sha256": wanted.sha256, "same": True})
    else:
        click.echo(f"{wanted.name} came out the same: sha256 {wanted.sha256}.")


def _usable(recorded: Manifest, sources: Sources, path: Path) -> Archive:
    """Return the archive that *recorded* names, or raise ConfigurationError if it cannot be built.

    The commit counts by its content: another one with the same definition does as well.
    """
    if sources.key(recorded.name) != recorded.content_key:
        msg = f"{path} was built from another definition than this one: commit {recorded.commit}."
        raise ConfigurationError(msg, hint=f"git checkout {recorded.commit}")
    archive = recorded.archive
    if archive is None:
        msg = f"{path} does not record the Debian archive that it was built from."
        raise ConfigurationError(msg, hint="Build it again; it records it now.")
    for url in (archive.mirror, archive.security):
        if not _PLAIN_URL.fullmatch(url):
            msg = f"{path} names a mirror that cannot be one: {url!r}."
            raise ConfigurationError(msg, hint="Expected http(s)://host/path.")
    return archive
