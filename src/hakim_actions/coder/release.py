"""``release.json``: the few facts of a release's index that a template needs, packed with it."""

import json
from typing import Any, Final

from hakim_actions.index import Index, IndexEntry

RELEASE_NAME: Final = "release.json"


def release_file(index: Index) -> bytes:
    """Return the content of ``release.json``: version, and url, sha256 and image of each image.

    The index itself lists every package of every image, which no form needs, and which would take
    most of the megabyte that a template may have.
    """
    images = [_image(entry, index.base_url) for entry in index.entries]
    images.sort(key=lambda image: (image["variant"], image["release"], image["arch"]))
    document = {"version": index.version, "images": images}
    return (json.dumps(document, indent=2) + "\n").encode()


def _image(entry: IndexEntry, base_url: str) -> dict[str, Any]:
    archive = entry.archive
    return {
        "variant": entry.variant,
        "release": entry.release,
        "arch": entry.arch,
        "url": f"{base_url}{archive.name}" if base_url else "",
        "sha256": archive.sha256,
        "image": entry.image,
    }
