"""What ``verify --consolidate`` tells of a release: one table and one chart, as Markdown."""

from collections.abc import Mapping, Sequence

from hakim_actions.artifact import ArtifactName, Manifest
from hakim_actions.cli import report
from hakim_actions.index import Index, IndexEntry
from hakim_actions.publish.base import Publication
from hakim_actions.system import units

_MEGABYTE = 10**6


def markdown(release: Publication, *, before: Index | None) -> str:
    """Return the images of *release* with their size, also compared with the release *before*."""
    old = {entry.name: entry.archive.size for entry in before.entries} if before else {}
    change = f"Since {before.version}" if before else "Change"
    lines = [
        f"### {release.version}: {_counted(release.index.entries)}",
        "",
        f"| Image | Debian | Arch | Size | {change} | Packages | Checks | Time | Cache | sha256 |",
        f"| --- | --- | --- |{' ---: |' * 5} --- | --- |",
        *(_row(entry, _manifest(entry, release), old, before) for entry in release.index.entries),
        "",
        *_chart(release.index.entries, old, change),
    ]
    return "\n".join(lines)


def _counted(entries: Sequence[IndexEntry]) -> str:
    total = units.size(sum(entry.archive.size for entry in entries))
    return f"{len(entries)} image{'s' if len(entries) > 1 else ''}, {total}"


def _manifest(entry: IndexEntry, release: Publication) -> Manifest:
    asset = release.by_name[entry.files["manifest"].name]
    with asset.open() as stream:
        return Manifest.from_json(stream.read().decode(), source=asset.name)


def _row(
    entry: IndexEntry, manifest: Manifest, old: Mapping[ArtifactName, int], before: Index | None
) -> str:
    size = entry.archive.size
    change = units.change(old[entry.name], size) if entry.name in old else "new" if before else "—"
    without = f" (without {', '.join(entry.missing)})" if entry.missing else ""
    return (
        f"| {entry.variant}{without} | {entry.release} | {entry.arch} | {units.size(size)}"
        f" | {change} | {len(entry.packages)} | {len(manifest.checks)}"
        f" | {report.duration(sum(manifest.phases.values()))} | {report.cache_use(manifest.cache)}"
        f" | `{entry.archive.sha256[:12]}…` |"
    )


def _chart(
    entries: Sequence[IndexEntry], old: Mapping[ArtifactName, int], change: str
) -> list[str]:
    """Draw the sizes as bars; a line is the past, where all images were there already.

    https://mermaid.js.org/syntax/xyChart.html
    """
    past = [old[entry.name] / _MEGABYTE for entry in entries if entry.name in old]
    comparable = len(past) == len(entries)
    names = ", ".join(f'"{it.variant} {it.release} {it.arch}"' for it in entries)
    now = ", ".join(f"{it.archive.size / _MEGABYTE:.1f}" for it in entries)
    title = f"Size in MB (line: {change.removeprefix('Since ')})" if comparable else "Size in MB"
    return [
        "```mermaid",
        "xychart-beta horizontal",
        f'  title "{title}"',
        f"  x-axis [{names}]",
        f'  y-axis "MB" 0 --> {_top(entries, old)}',
        f"  bar [{now}]",
        *([f"  line [{', '.join(f'{size:.1f}' for size in past)}]"] if comparable else []),
        "```",
    ]


def _top(entries: Sequence[IndexEntry], old: Mapping[ArtifactName, int]) -> int:
    """Return where the axis ends: the largest of all sizes, rounded up to 10 MB."""
    largest = max([*(entry.archive.size for entry in entries), *old.values()])
    return -(-largest // (10 * _MEGABYTE)) * 10
