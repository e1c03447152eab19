"""A page people can look at: one HTML file over all releases, readable without scripts.

Everything that comes from an index is escaped, and the page's own policy allows no script and no
style but its own.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from hakim_actions.errors import ConfigurationError
from hakim_actions.index import Index, IndexEntry
from hakim_actions.publish import chart, versions
from hakim_actions.publish.diff import compare, counts, of_index
from hakim_actions.system import units

TITLE: Final = "Hakim images"
_ROLES: Final = {"twin": "tar.zst", "metadata": "metadata", "manifest": "manifest", "sbom": "SBOM"}


def read(path: Path) -> Index:
    """Read an index.json; raise ConfigurationError when there is none to read."""
    try:
        return Index.from_json(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Unable to read {path}: {error}."
        raise ConfigurationError(msg, hint="Give the index.json files of releases.") from None


def render(indexes: Iterable[Index], *, base_url: str = "", title: str = TITLE) -> str:
    """Return the page over *indexes*, the newest release first.

    *base_url* is where the files of a release are, with ``{version}`` in it; without one they are
    looked for in ``<version>/`` beside the page, unless an index knows better.
    """
    releases = sorted(indexes, key=_age, reverse=True)
    if not releases:
        msg = "There is no release to make a page of."
        raise ConfigurationError(msg, hint="Give at least one index.json.")
    latest = next((it for it in releases if not versions.is_prerelease(it.version)), releases[0])
    before = _before(latest, releases)
    pages = {index.version: _folder(index, base_url) for index in releases}
    style, script = _resource("page.css"), _resource("page.js")
    return Template(_resource("page.html")).substitute(
        title=escape(title),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
        version=escape(latest.version),
        hero=_hero(latest),
        images=_images(latest, before, pages[latest.version]),
        commands=_commands(latest, pages[latest.version]),
        chart_of=escape(" ".join(chart.shown_pair(latest))),
        chart=chart.figure(list(reversed(releases)), pair=chart.shown_pair(latest)),
        package_count=len(_package_rows(latest)),
        packages=_packages(latest),
        releases=_releases(releases, latest, pages),
    )


def _age(index: Index) -> tuple[bool, versions.Key, int]:
    key = versions.sort_key(index.version)
    return key is not None, key or ((), False, ()), index.epoch


def _before(latest: Index, releases: Sequence[Index]) -> Index | None:
    tag = versions.before(latest.version, [index.version for index in releases])
    return next((index for index in releases if index.version == tag), None)


def _folder(index: Index, base_url: str) -> str:
    if base_url:
        return base_url.replace("{version}", index.version).rstrip("/") + "/"
    return index.base_url or f"{index.version}/"


def _resource(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """Return the hash under which a page's policy allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _date(index: Index) -> str:
    return datetime.fromtimestamp(index.epoch, UTC).strftime("%Y-%m-%d")


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table; a column whose title starts with '#' is right-aligned."""
    cells = "".join(
        f'<th scope="col" class="n">{title[1:]}</th>'
        if title.startswith("#")
        else f'<th scope="col">{title}</th>'
        for title in head
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _hero(index: Index) -> str:
    total = sum(entry.archive.size for entry in index.entries)
    facts = {
        "latest release": index.version,
        "date": _date(index),
        "images": str(len(index.entries)),
        "archives in all": units.size(total),
        "commit": index.commit[:12],
    }
    items = (f"<li><b>{escape(value)}</b><span>{name}</span></li>" for name, value in facts.items())
    return f'<ul class="facts">{"".join(items)}</ul>'


def _images(index: Index, before: Index | None, folder: str) -> str:
    largest = max(entry.archive.size for entry in index.entries)
    old = {entry.name: entry.archive.size for entry in before.entries} if before else {}
    rows = (_image_row(entry, folder, largest, old.get(entry.name)) for entry in index.entries)
    change = f"#Since {escape(before.version)}" if before else "#Change"
    head = ["Image", "Debian", "Arch", "#Size", change, "#Packages", "SHA-256", "Beside it"]
    return _table(head, rows)


def _image_row(entry: IndexEntry, folder: str, largest: int, old: int | None) -> str:
    archive = entry.archive
    share = 100 * archive.size / max(largest, 1)
    beside = ", ".join(
        _link(folder + entry.files[role].name, text)
        for role, text in _ROLES.items()
        if role in entry.files
    )
    without = f' <span class="badge without">without {escape(", ".join(entry.missing))}</span>'
    return (
        f'<tr><th scope="row">{_link(folder + archive.name, entry.variant)}'
        f"{without if entry.missing else ''}</th>"
        f"<td>{escape(entry.release)}</td><td>{escape(entry.arch)}</td>"
        f'<td class="n">{units.size(archive.size)}'
        f'<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="100" height="6" rx="3"/><rect width="{share:.1f}" height="6" rx="3"/></svg>'
        "</td>"
        f"{_change_cell(old, archive.size)}"
        f'<td class="n">{len(entry.packages)}</td>'
        f'<td><code title="{escape(archive.sha256)}">{escape(archive.sha256[:12])}…</code></td>'
        f"<td>{beside}</td></tr>"
    )


def _change_cell(old: int | None, new: int) -> str:
    if old is None:
        return '<td class="n soft">new</td>'
    kind = "soft" if old == new else "up" if new > old else "down"
    return f'<td class="n {kind}">{units.change(old, new)}</td>'


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}">{escape(text)}</a>'


def _commands(index: Index, folder: str) -> str:
    return "".join(
        f"<details{' open' if number == 0 else ''}><summary>{escape(entry.variant)}"
        f"<span>{escape(entry.release)} {escape(entry.arch)}</span></summary>"
        f"<pre>{escape(_command(entry, folder))}</pre></details>"
        for number, entry in enumerate(index.entries)
    )


def _command(entry: IndexEntry, folder: str) -> str:
    """Return the command for a node; a page beside its files cannot know its own address."""
    base = folder if "://" in folder else f"https://<this server>/{folder}"
    archive = entry.archive
    return (
        "pvesh create /nodes/$(hostname)/storage/local/download-url --content vztmpl \\\n"
        f"  --filename {archive.name} \\\n"
        f"  --url {base}{archive.name} \\\n"
        f"  --checksum-algorithm sha256 --checksum {archive.sha256}"
    )


def _package_rows(index: Index) -> list[tuple[str, str, list[str]]]:
    """Return (package, version, images that have it), sorted; tools are marked as such."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in index.entries:
        label = f"{entry.variant} {entry.release} {entry.arch}"
        tools = {f"{name} (tool)": version for name, version in entry.tools.items()}
        for name, version in {**entry.packages, **tools}.items():
            found.setdefault((name, version), []).append(label)
    return [(name, version, found[name, version]) for name, version in sorted(found)]


def _packages(index: Index) -> str:
    every = len(index.entries)
    rows = (
        f"<tr><td>{escape(name)}</td><td><code>{escape(version)}</code></td>"
        f'<td class="wide soft">{_where(images, every)}</td></tr>'
        for name, version, images in _package_rows(index)
    )
    return _table(["Package", "Version", "Images"], rows)


def _where(images: Sequence[str], every: int) -> str:
    return "all images" if len(images) == every > 1 else escape(", ".join(images))


def _releases(releases: Sequence[Index], latest: Index, folders: Mapping[str, str]) -> str:
    older = [*releases[1:], None]
    rows = (
        _release_row(index, before, is_latest=index is latest, folder=folders[index.version])
        for index, before in zip(releases, older, strict=True)
    )
    head = ["Release", "Date", "#Images", "#Size", "Packages since the release before", "Files"]
    return _table(head, rows)


def _release_row(index: Index, before: Index | None, *, is_latest: bool, folder: str) -> str:
    total = sum(entry.archive.size for entry in index.entries)
    files = (
        f"{_link(folder + 'index.json', 'index')}, {_link(folder + 'sha256sums.txt', 'checksums')}"
    )
    return (
        f'<tr><th scope="row">{escape(index.version)} {_badge(index, is_latest=is_latest)}</th>'
        f'<td>{_date(index)}</td><td class="n">{len(index.entries)}</td>'
        f'<td class="n">{units.size(total)}</td><td class="wide">{_since(index, before)}</td>'
        f"<td>{files}</td></tr>"
    )


def _badge(index: Index, *, is_latest: bool) -> str:
    if is_latest:
        return '<span class="badge latest">latest</span>'
    if versions.is_prerelease(index.version):
        return '<span class="badge pre">prerelease</span>'
    return ""


def _since(index: Index, before: Index | None) -> str:
    """Say how many packages changed, each counted once however many images have it."""
    if before is None:
        return '<span class="soft">first release</span>'
    difference = compare(of_index(before), of_index(index), names=("", ""))
    changes = {change for image in difference.images for change in image.packages}
    parts = [f"{number} {kind}" for kind, number in counts(changes).items()]
    return ", ".join(parts) or '<span class="soft">no change</span>'
