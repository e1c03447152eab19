"""Where templates come from: a GitHub release, the URL of an index.json, or a folder.

All three end in the same Source; nothing of an archive is read yet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hakim_actions.artifact import (
    SUMS_NAME,
    ArtifactName,
    FileRecord,
    Manifest,
    parse_sums,
)
from hakim_actions.errors import ConfigurationError, VerificationError, did_you_mean
from hakim_actions.index import INDEX_NAME, Index
from hakim_actions.promote import github
from hakim_actions.system import files
from hakim_actions.system.http import Http, HttpError

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, kw_only=True)
class Template:
    """One archive: its contract name, size in bytes, sha256, and the ways to its bytes.

    ``url`` is where anybody, so also a node, can fetch it; ``asset`` needs the GitHub token;
    ``path`` is on this machine. Exactly those that exist are set.
    """

    name: ArtifactName
    size: int
    sha256: str
    url: str = ""
    asset: str = ""
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A set of templates of one version; *reference* finds the same set again."""

    reference: str
    version: str
    commit: str
    templates: tuple[Template, ...]


def open_source(reference: str, *, web: Http, env: Mapping[str, str]) -> Source:
    """Read ``github:owner/name@tag``, the URL of an index.json, or a folder.

    Raises ConfigurationError for what was typed, VerificationError for files that contradict each
    other, HttpError for the network.
    """
    if reference.startswith("github:"):
        return _from_release(reference, web=web, env=env)
    if "://" in reference:
        return _from_index(reference, web=web)
    return _from_folder(Path(reference))


def select(
    source: Source,
    *,
    variants: Sequence[str] = (),
    releases: Sequence[str] = (),
    archs: Sequence[str] = (),
) -> tuple[Template, ...]:
    """Return the templates of *source* that were asked for; an empty wish means all.

    Raises ConfigurationError listing every name that is not there.
    """
    problems = [
        f"{option} '{wish}': not in {source.reference}. {did_you_mean(wish, known)}"
        for option, wishes, known in (
            ("--variant", variants, _distinct(t.name.variant for t in source.templates)),
            ("--debian", releases, _distinct(t.name.release for t in source.templates)),
            ("--arch", archs, _distinct(t.name.arch for t in source.templates)),
        )
        for wish in wishes
        if wish not in known
    ]
    chosen = tuple(
        template
        for template in source.templates
        if (not variants or template.name.variant in variants)
        and (not releases or template.name.release in releases)
        and (not archs or template.name.arch in archs)
    )
    if not chosen and not problems:
        problems = ["No template is of the variant, Debian release and architecture together."]
    if problems:
        msg = "Not everything that was asked for is there."
        raise ConfigurationError(msg, problems=problems)
    return chosen


def obtain(template: Template, folder: Path, *, web: Http, env: Mapping[str, str]) -> Path:
    """Return *template* as a file of this machine, proven by its sha256.

    Downloads into *folder* unless it is here already. Raises VerificationError or HttpError.
    """
    if template.path is not None:
        found = files.sha256_file(template.path)
        if found != template.sha256:
            msg = f"{template.path} has sha256 {found}, its release says {template.sha256}."
            raise VerificationError(
                msg, hint="The file was changed after it was built; build again."
            )
        return template.path
    if not template.asset and not template.url:
        msg = f"{template.name.archive} of that version cannot be had: its source is gone."
        raise ConfigurationError(msg, hint="Promote it from where it is: --release, or --from.")
    target = folder / template.name.archive
    headers = github.asset_headers(env) if template.asset else {}
    web.download(
        template.asset or template.url,
        target,
        sha256=template.sha256,
        size=template.size,
        headers=headers,
    )
    return target


def _from_release(reference: str, *, web: Http, env: Mapping[str, str]) -> Source:
    release = github.read_release(reference, web=web, env=env)
    if INDEX_NAME not in release.assets:
        msg = f"The release {release.tag} of {release.repository} has no {INDEX_NAME}."
        raise ConfigurationError(msg, hint="'hakim-actions publish' makes it; was publishing cut?")
    index = Index.from_json(release.text(INDEX_NAME, web=web, env=env), source=INDEX_NAME)
    sums = {}
    if SUMS_NAME in release.assets:
        sums = parse_sums(release.text(SUMS_NAME, web=web, env=env), source=SUMS_NAME)
    templates, problems = [], []
    for entry in index.entries:
        record, asset = entry.archive, release.assets.get(entry.archive.name)
        if asset is None:
            problems.append(f"{record.name} is in {INDEX_NAME}, but not an asset.")
            continue
        problems += _contradictions(record, size=asset.size, sums=(asset.sha256, sums))
        template = Template(
            name=entry.name,
            size=record.size,
            sha256=record.sha256,
            url=asset.url if release.public else "",
            asset="" if release.public else asset.api_url,
        )
        templates.append(template)
    _refuse(f"The release {release.tag} of {release.repository}", problems)
    return Source(
        reference=reference,
        version=index.version,
        commit=index.commit,
        templates=tuple(templates),
    )


def _from_index(url: str, *, web: Http) -> Source:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        msg = f"--from: {url} is not https."
        raise ConfigurationError(
            msg,
            hint="Its checksums would prove nothing. Download the folder, or serve it by https.",
        )
    try:
        text = web.get(url).body.decode(errors="replace")
    except HttpError as error:
        if error.status != 404:
            raise
        msg = f"--from: there is no index at {url}."
        raise ConfigurationError(msg, hint=f"Expected the address of an {INDEX_NAME}.") from None
    index = Index.from_json(text, source=url)
    base = index.base_url or url.rsplit("/", 1)[0] + "/"
    return Source(
        reference=url,
        version=index.version,
        commit=index.commit,
        templates=tuple(
            Template(
                name=entry.name,
                size=entry.archive.size,
                sha256=entry.archive.sha256,
                url=base + entry.archive.name,
            )
            for entry in index.entries
        ),
    )


def _from_folder(folder: Path) -> Source:
    if not folder.is_dir():
        msg = f"--from: '{folder}' is not a folder."
        raise ConfigurationError(msg, hint="Expected distrobuilder/out, or a published folder.")
    if (folder / INDEX_NAME).is_file():
        return _from_published(folder)
    built = [path for path in (folder, *sorted(folder.iterdir())) if (path / SUMS_NAME).is_file()]
    if not built:
        msg = f"--from: '{folder}' has no {INDEX_NAME} and no {SUMS_NAME}."
        raise ConfigurationError(msg, hint="Expected distrobuilder/out, as build leaves it.")
    manifests = [(path, manifest) for path in built for manifest in _manifests(path)]
    versions = _distinct(manifest.version for _, manifest in manifests)
    if len(versions) > 1:
        msg = f"--from: '{folder}' holds builds of several versions: {', '.join(versions)}."
        raise ConfigurationError(msg, hint="Name one of its folders, or build the others again.")
    return Source(
        reference=str(folder.resolve()),
        version=versions[0],
        commit=manifests[0][1].commit,
        templates=tuple(_built(path, manifest) for path, manifest in manifests),
    )


def _from_published(folder: Path) -> Source:
    text = (folder / INDEX_NAME).read_text(encoding="utf-8")
    index = Index.from_json(text, source=str(folder / INDEX_NAME))
    sums = {}
    if (folder / SUMS_NAME).is_file():
        sums = _sums(folder)
    return Source(
        reference=str(folder.resolve()),
        version=index.version,
        commit=index.commit,
        templates=tuple(_local(folder, entry.name, entry.archive, sums) for entry in index.entries),
    )


def _manifests(folder: Path) -> list[Manifest]:
    found = [
        Manifest.from_json(path.read_text(encoding="utf-8"), source=str(path))
        for path in sorted(folder.glob("*.manifest.json"))
    ]
    if not found:
        msg = f"{folder} has {SUMS_NAME}, but no manifest."
        raise VerificationError(
            msg, hint="Build the image again; it writes one beside the archive."
        )
    return found


def _built(folder: Path, manifest: Manifest) -> Template:
    name = manifest.name
    record = next((file for file in manifest.files if file.name == name.archive), None)
    if record is None:
        msg = f"{folder / name.manifest} does not list {name.archive}."
        raise VerificationError(msg, hint="Build the image again.")
    sums = _sums(folder)
    if name.archive not in sums:
        msg = f"{folder / SUMS_NAME} does not list {name.archive}."
        raise VerificationError(msg, hint="Build the image again.")
    return _local(folder, name, record, sums)


def _local(
    folder: Path, name: ArtifactName, record: FileRecord, sums: Mapping[str, str]
) -> Template:
    path = folder / record.name
    if not path.is_file():
        msg = f"{path} is missing."
        raise VerificationError(msg, hint="The folder is not complete; build or download it again.")
    _refuse(str(folder), _contradictions(record, size=path.stat().st_size, sums=("", sums)))
    return Template(name=name, size=record.size, sha256=record.sha256, path=path)


def _sums(folder: Path) -> dict[str, str]:
    text = (folder / SUMS_NAME).read_text(encoding="utf-8", errors="replace")
    return parse_sums(text, source=str(folder / SUMS_NAME))


def _contradictions(
    record: FileRecord, *, size: int, sums: tuple[str, Mapping[str, str]]
) -> list[str]:
    """Compare a record of the index with the size and the checksums known from elsewhere."""
    digest, listed = sums
    found = []
    if size != record.size:
        found.append(f"{record.name} has {size} bytes, the index says {record.size}.")
    for where, other in (("GitHub", digest), (SUMS_NAME, listed.get(record.name, ""))):
        if other and other != record.sha256:
            found.append(f"{record.name}: {where} says sha256 {other}, the index {record.sha256}.")
    return found


def _refuse(what: str, problems: Sequence[str]) -> None:
    if problems:
        msg = f"{what} contradicts itself: {' '.join(problems)}"
        raise VerificationError(msg, hint="Nothing was sent. Publish it again from a clean build.")


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
