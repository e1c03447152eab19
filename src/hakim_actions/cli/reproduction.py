"""Builds an image again and tells whether it came out the same; `build` and `reproduce` do."""

from dataclasses import replace
from pathlib import Path

from hakim_actions.artifact import ArtifactName
from hakim_actions.cli.main import App
from hakim_actions.errors import VerificationError
from hakim_actions.image import reproducible
from hakim_actions.image.build import BuildOptions, rebuilt
from hakim_actions.image.workspace import work_folder
from hakim_actions.system.files import sha256_file, write_text
from hakim_actions.system.progress import Progress

#: A report names this many differences; all are in the file it names.
_SHOWN = 20


def rebuild_and_compare(
    name: ArtifactName,
    options: BuildOptions,
    progress: Progress,
    app: App,
    *,
    sha256: str,
    first: Path | None,
) -> None:
    """Build *name* from scratch and prove that its archive has *sha256*.

    *first* is the archive of the first build, where there is one to look into. Nothing is taken
    from a cache but downloads, so what a cache may have hidden shows, too. Raises
    VerificationError with the differences.
    """
    options = replace(options, layers=None, pieces=None)
    with rebuilt(name, options, progress) as second:
        if sha256_file(second) == sha256:
            return
        msg = f"{name.stem} is not reproducible: a second build gave other bytes."
        if first is None:
            hint = "To see what differs, give the folder that has the archive beside its manifest."
            raise VerificationError(msg, hint=hint)
        found = reproducible.differences(first, second)
        # Without the prefix that makes a file part of the artifact.
        report = options.out / name.variant / f"differences-of-{name.stem}.txt"
        with work_folder(options.work_dir / f"{name.stem}-differences") as work:
            explained = reproducible.explain(first, second, found, work_dir=work, env=app.env)
    lines = [str(difference) for difference in found]
    write_text(report, "\n".join([*lines, "", explained]))
    for line in lines[:_SHOWN]:
        progress.note(f"    {line}")
    count = {0: "Only the compression differs", 1: "1 member differs"}
    msg = f"{msg} {count.get(len(lines), f'{len(lines)} members differ')}."
    raise VerificationError(msg, hint=f"All of it is in {report}.")
