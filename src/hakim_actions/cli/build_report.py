"""What ``build`` tells of its images: to people, to machines, and to the runner."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click

from hakim_actions.artifact import ArtifactName
from hakim_actions.cli import report
from hakim_actions.cli.main import App
from hakim_actions.errors import HakimError
from hakim_actions.image.build import Built
from hakim_actions.image.cachekeys import CacheKey
from hakim_actions.image.cacheuse import CacheUse
from hakim_actions.system import actions


def tell(
    results: Sequence[Built],
    failures: Mapping[ArtifactName, HakimError],
    app: App,
    *,
    keys: Mapping[str, CacheKey],
    as_json: bool,
) -> None:
    """Print *results* and *failures*, set the outputs of the step and add to the job's summary.

    *keys* are those of actions/cache; none where the build used no cache.
    """
    for result in results:
        _set_outputs(result, app)
    if keys:
        _set_keys(results, keys, app)
    actions.append_summary(app.env, _markdown(results, failures))
    if as_json:
        failed = [{"name": name.stem, "error": str(error)} for name, error in failures.items()]
        report.as_json([*(_document(result) for result in results), *failed])
    elif len(results) + len(failures) == 1:
        click.echo(_summary(results[0]))
    else:
        click.echo(_table(results, failures))


def _document(result: Built) -> dict[str, object]:
    name = result.manifest.name
    return {
        "name": name.stem,
        "artifact": str(result.folder / name.archive),
        "manifest": str(result.folder / name.manifest),
        "sha256": result.archive.sha256,
        "size": result.archive.size,
        "seconds": result.seconds,
        "phases": dict(result.manifest.phases),
        "cache": asdict(result.cache),
    }


def _summary(result: Built) -> str:
    manifest = result.manifest
    phases = ", ".join(
        f"{name} {report.duration(seconds)}" for name, seconds in manifest.phases.items()
    )
    unpacked = report.size(manifest.unpacked_bytes)
    rows = (
        ("artifact", str(result.folder / manifest.name.archive)),
        ("size", f"{report.size(result.archive.size)}, {unpacked} unpacked"),
        ("sha256", result.archive.sha256),
        ("packages", str(len(manifest.packages))),
        ("proven", f"{len(manifest.checks)} checks, booted in LXC"),
        ("time", f"{report.duration(result.seconds)} ({phases})"),
        ("cache", _sentence(result.cache)),
    )
    lines = [f"{manifest.name.stem} is ready."]
    return "\n".join([*lines, *(f"  {key:<9} {value}" for key, value in rows)])


def _table(results: Sequence[Built], failures: Mapping[ArtifactName, HakimError]) -> str:
    """Return one line an image: what it is, or why it is not there."""
    titles = f"{'image':<28} {'size':>9} {'packages':>8} {'checks':>6} {'time':>13}"
    lines = [f"{titles}  {'cache':<26}  sha256"]
    for result in results:
        manifest = result.manifest
        lines.append(
            f"{manifest.name.stem:<28} {report.size(result.archive.size):>9}"
            f" {len(manifest.packages):>8} {len(manifest.checks):>6}"
            f" {report.duration(result.seconds):>13}  {report.cache_use(result.cache.counts()):<26}"
            f"  {result.archive.sha256[:16]}…"
        )
    lines += [f"{name.stem:<28} FAILED: {error}" for name, error in failures.items()]
    return "\n".join(lines)


def _markdown(results: Sequence[Built], failures: Mapping[ArtifactName, HakimError]) -> str:
    """Return the summary of the job: a table, and where the time of each image went."""
    lines = [
        "| Image | Size | Packages | Checks | Time | Layer | Pieces reused | Cache took | Saved |",
        f"| --- |{' ---: |' * 4} --- |{' ---: |' * 3}",
    ]
    for result in results:
        manifest = result.manifest
        lines.append(
            f"| {manifest.name.stem} | {report.size(result.archive.size)} |"
            f" {len(manifest.packages)} | {len(manifest.checks)} |"
            f" {report.duration(result.seconds)} | {_cells(result.cache)} |"
        )
    lines += [f"| {name.stem} | failed |{' |' * 7}" for name in failures]
    lines += [_warning(result) for result in results if result.cache.loses]
    for result in results:
        phases = {name: seconds for name, seconds in result.manifest.phases.items() if seconds > 0}
        lines += ["", "```mermaid", f"pie showData title Seconds of {result.manifest.name.stem}"]
        lines += [f'  "{name}" : {seconds:.1f}' for name, seconds in phases.items()]
        lines += ["```"]
    return "\n".join(lines)


def _cells(use: CacheUse) -> str:
    """Return the cells of the summary about the cache."""
    if not use.used:
        return "— | — | — | —"
    pieces = f"{use.pieces_reused} of {use.pieces}, {report.size(use.bytes_reused)}"
    return (
        f"{use.layer or '—'} | {pieces if use.pieces else '—'}"
        f" | {report.duration(use.seconds)} | {_saved(use)}"
    )


def _saved(use: CacheUse) -> str:
    return f"about {report.duration(use.saved)}" if use.gave else "nothing yet"


def _sentence(use: CacheUse) -> str:
    if not use.used:
        return "not used"
    took = f"took {report.duration(use.seconds)}, saved {_saved(use)}"
    more = "; it costs more than it gives" if use.loses else ""
    return f"{report.cache_use(use.counts())} ({report.size(use.bytes_reused)}), {took}{more}"


def _warning(result: Built) -> str:
    use = result.cache
    return (
        f"\n> [!WARNING]\n> The cache costs more than it gives: it took {result.manifest.name.stem}"
        f" {report.duration(use.seconds)} and saved {_saved(use)}. Build it without `--cached`."
    )


def _set_keys(results: Sequence[Built], keys: Mapping[str, CacheKey], app: App) -> None:
    """Give the keys of what is new; to save what came from the cache would be a copy."""
    layer = keys["layer"].key if any(it.cache.layer == "made" for it in results) else ""
    pieces = keys["pieces"].key if any(it.cache.new_pieces for it in results) else ""
    for key, value in (("layer-key", layer), ("pieces-key", pieces)):
        actions.set_output(app.env, key, value)


def _set_outputs(result: Built, app: App) -> None:
    name: ArtifactName = result.manifest.name
    for key, value in (
        ("artifact", str(result.folder / name.archive)),
        ("manifest", str(result.folder / name.manifest)),
        ("sha256", result.archive.sha256),
        ("size", str(result.archive.size)),
        ("duration", str(result.seconds)),
    ):
        actions.set_output(app.env, key, value)
