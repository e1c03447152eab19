"""What people read about a release: its table, how to use it, and what changed, as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Final

from hakim_actions.index import Index, IndexEntry
from hakim_actions.publish.diff import Change, Difference, ImageDiff, counts
from hakim_actions.system import units

#: GitHub takes 125000 characters; the rest is for its own notes and our marker.
MAX_NOTES: Final = 110_000
_HEAD: Final = (
    "| Image | Debian | Arch | Size | Packages | sha256 |\n| --- | --- | --- | ---: | ---: | --- |"
)


def artifact_table(index: Index) -> str:
    """Return a row for each image: also the summary of a workflow's run."""
    rows = [
        f"| `{entry.archive.name}` | {entry.release} | {entry.arch}"
        f" | {units.size(entry.archive.size)} | {len(entry.packages)} | `{entry.archive.sha256}` |"
        for entry in index.entries
    ]
    return "\n".join([_HEAD, *rows])


def release_notes(
    index: Index, *, base_url: str, difference: Difference | None, generated: str = ""
) -> str:
    """Return the notes of a release whose files are below *base_url* (with a final slash).

    What would be too long for GitHub is left out, the list of packages first.
    """
    fixed = ["## Images", artifact_table(index), *_missing(index), _usage(index, base_url)]
    changes = ["## What changed", _changes(difference)]
    if len("\n\n".join([*fixed, *changes, generated])) > MAX_NOTES:
        changes = ["## What changed", _overview(difference)]
    parts = [*fixed, *changes, generated.strip()]
    return "\n\n".join(part for part in parts if part)[:MAX_NOTES].rstrip() + "\n"


def markdown(difference: Difference) -> str:
    """Return *difference* with all packages, foldable by image."""
    changed = [image for image in difference.images if not image.same]
    blocks = [_overview(difference), *(_details(image) for image in changed if _listed(image))]
    return "\n\n".join(blocks) + "\n"


def text(difference: Difference) -> str:
    """Return *difference* as plain text."""
    lines = [f"{difference.old} → {difference.new}"]
    for image in difference.images:
        lines += ["", f"{image.name}: {_summary(image)}"]
        lines += _rows("package", image.packages)
        lines += _rows("tool", image.tools)
    return "\n".join(lines) + "\n"


def _missing(index: Index) -> Sequence[str]:
    """Say it where an image was built without something, so that nobody finds out by himself."""
    without = [
        f"> - `{entry.name.stem}` is without {', '.join(entry.missing)}"
        for entry in index.entries
        if entry.missing
    ]
    return ["\n".join(["> [!WARNING]", *without])] if without else []


def _usage(index: Index, base_url: str) -> str:
    entry = index.entries[0]
    archive = entry.archive
    return f"""## Use

On a Proxmox node, let it fetch and check the template, then make a container from it:

```sh
pvesh create /nodes/$(hostname)/storage/local/download-url --content vztmpl \\
  --filename {archive.name} \\
  --url {base_url}{archive.name} \\
  --checksum-algorithm sha256 --checksum {archive.sha256}
pvesm list local --content vztmpl
pct create 100 local:vztmpl/{archive.name} \\
  --ostype unmanaged --unprivileged 1 --rootfs local-lvm:8 \\
  --net0 name=eth0,bridge=vmbr0,ip=dhcp --start 1
```

In the Coder template `hakim-proxmox`:

```hcl
{_variables(index.entries, base_url)}
```

Check what you downloaded: `sha256sum --check --ignore-missing sha256sums.txt`."""


def _variables(entries: Iterable[IndexEntry], base_url: str) -> str:
    """Return a Coder variable for each variant: its first image, which is the default one's."""
    first: dict[str, IndexEntry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.release != "trixie", entry.name)):
        first.setdefault(entry.variant, entry)
    width = max(len(variant) for variant in first)
    return "\n".join(
        f'template_url_{variant:<{width}} = "{base_url}{entry.archive.name}"'
        for variant, entry in sorted(first.items())
    )


def _changes(difference: Difference | None) -> str:
    return markdown(difference).strip() if difference else _overview(None)


def _overview(difference: Difference | None) -> str:
    if difference is None:
        return "There is no earlier release to compare with."
    rows = [
        f"| `{image.name}` | {_sizes(image)} | {_counted(image)} |" for image in difference.images
    ]
    head = f"From {difference.old} to {difference.new}:"
    return "\n".join(
        [head, "", "| Image | Size | Packages and tools |", "| --- | ---: | --- |", *rows]
    )


def _details(image: ImageDiff) -> str:
    rows = [
        f"| {kind} | `{change.name}` | {change.old or '—'} | {change.new or '—'} | {change.kind} |"
        for kind, changes in (("package", image.packages), ("tool", image.tools))
        for change in changes
    ]
    table = "\n".join(["| | Name | Old | New | |", "| --- | --- | --- | --- | --- |", *rows])
    summary = f"<summary><code>{image.name}</code>: {_summary(image)}</summary>"
    return f"<details>{summary}\n\n{table}\n\n</details>"


def _listed(image: ImageDiff) -> bool:
    return bool(image.packages or image.tools)


def _summary(image: ImageDiff) -> str:
    return f"{_counted(image)}, {_sizes(image)}"


def _counted(image: ImageDiff) -> str:
    if image.old_size is None:
        return "new image"
    if image.new_size is None:
        return "image removed"
    parts = [f"{number} {kind}" for kind, number in counts(image.packages).items()]
    if image.tools:
        parts.append(f"{len(image.tools)} tool{'s' if len(image.tools) > 1 else ''}")
    return ", ".join(parts) or "no change"


def _sizes(image: ImageDiff) -> str:
    if image.old_size is None or image.new_size is None:
        return units.size(image.new_size or image.old_size or 0)
    return f"{units.size(image.new_size)} ({units.change(image.old_size, image.new_size)})"


def _rows(kind: str, changes: Iterable[Change]) -> list[str]:
    return [
        f"  {change.kind:<10} {kind:<7} {change.name} {' → '.join(versions)}"
        for change in changes
        if (versions := [version for version in (change.old, change.new) if version])
    ]
