"""An artifact as an OCI image: one layer with the very same tar, so the very same root file system.

Formats: https://github.com/opencontainers/image-spec (image-layout.md, config.md, manifest.md)
"""

import hashlib
import json
import lzma
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hakim_actions.errors import PublishError
from hakim_actions.index import IndexEntry
from hakim_actions.system import files

_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
#: Input bytes of one gzip member; members are packed side by side and joined in order.
_MEMBER: Final = 4 << 20
#: RFC 1952: magic, deflate, no name, no time, no hint about the packer, unknown system.
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

USER: Final = "coder"
WORKING_DIRECTORY: Final = "/home/coder/project"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A blob: media type, ``sha256:…`` and size in bytes, as every OCI document refers to it."""

    media_type: str
    digest: str
    size: int

    def document(self, **more: Any) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an image is made of: the archive, and what its labels say."""

    entry: IndexEntry
    archive: Path
    version: str
    commit: str
    epoch: int
    url: str = ""


def write_layout(folder: Path, sources: Sequence[Source], *, tag: str, threads: int) -> str:
    """Write an OCI layout with one image per architecture of *sources* and return its digest.

    The same archives give the same digest (with the same zlib). Raises PublishError.
    """
    (folder / "blobs" / "sha256").mkdir(parents=True)
    images = [_image(folder, source, threads=threads) for source in sources]
    top = images[0] if len(images) == 1 else _image_index(folder, images)
    reference = top.document(annotations={"org.opencontainers.image.ref.name": tag})
    reference.pop("platform", None)
    _write_json(
        folder / "index.json", {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [reference]}
    )
    _write_json(folder / "oci-layout", {"imageLayoutVersion": "1.0.0"})
    return top.digest


@dataclass(frozen=True, kw_only=True)
class _Image(Descriptor):
    arch: str

    def document(self, **more: Any) -> dict[str, Any]:
        platform = {"architecture": self.arch, "os": "linux"}
        return super().document(platform=platform, **more)


def _image(folder: Path, source: Source, *, threads: int) -> _Image:
    layer, diff_id = _layer(folder, source.archive, threads=threads)
    config = _blob(folder, _CONFIG, _config(source, diff_id))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": config.document(),
        "layers": [layer.document()],
        "annotations": _labels(source),
    }
    blob = _blob(folder, _MANIFEST, manifest)
    return _Image(
        media_type=blob.media_type, digest=blob.digest, size=blob.size, arch=source.entry.arch
    )


def _image_index(folder: Path, images: Sequence[_Image]) -> Descriptor:
    document = {
        "schemaVersion": 2,
        "mediaType": _INDEX,
        "manifests": [image.document() for image in images],
    }
    return _blob(folder, _INDEX, document)


def _config(source: Source, diff_id: str) -> dict[str, Any]:
    created = _time(source.epoch)
    return {
        "created": created,
        "architecture": source.entry.arch,
        "os": "linux",
        "config": {
            "User": USER,
            "Env": [f"PATH={_PATH}", "LANG=en_US.UTF-8"],
            "Cmd": ["/bin/bash"],
            "WorkingDir": WORKING_DIRECTORY,
            "Labels": _labels(source),
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [
            {"created": created, "created_by": f"hakim-actions {source.entry.name.archive}"}
        ],
    }


def _labels(source: Source) -> Mapping[str, str]:
    """Return the predefined annotations of OCI, and ours with the sha256 of the artifact."""
    entry = source.entry
    labels = {
        "org.opencontainers.image.title": f"hakim-{entry.variant}",
        "org.opencontainers.image.version": source.version,
        "org.opencontainers.image.revision": source.commit,
        "org.opencontainers.image.created": _time(source.epoch),
        "org.opencontainers.image.source": source.url,
        "hakim.variant": entry.variant,
        "hakim.release": entry.release,
        "hakim.arch": entry.arch,
        "hakim.artifact.sha256": entry.archive.sha256,
    }
    return {name: value for name, value in sorted(labels.items()) if value}


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _layer(folder: Path, archive: Path, *, threads: int) -> tuple[Descriptor, str]:
    """Repack *archive* from xz, which OCI does not know, to gzip; return blob and diff id."""
    plain = hashlib.sha256()
    packed = hashlib.sha256()
    size = 0
    blobs = folder / "blobs" / "sha256"
    try:
        with files.replacing(blobs / "layer") as target:
            for member in _gzip(_unpacked(archive, plain.update), threads=threads):
                packed.update(member)
                size += target.write(member)
    except (lzma.LZMAError, EOFError) as error:
        msg = f"{archive} is not a readable .tar.xz: {error}."
        raise PublishError(msg, hint="Verify the artifacts again.") from None
    (blobs / "layer").rename(blobs / packed.hexdigest())
    layer = Descriptor(media_type=_LAYER, digest=f"sha256:{packed.hexdigest()}", size=size)
    return layer, f"sha256:{plain.hexdigest()}"


def _unpacked(archive: Path, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    with lzma.open(archive) as stream:
        while piece := stream.read(_MEMBER):
            seen(piece)
            yield piece


def _gzip(pieces: Iterator[bytes], *, threads: int) -> Iterator[bytes]:
    """Pack each piece as a gzip member, *threads* at a time, in order, with bounded memory."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for piece in pieces:
            waiting.append(pool.submit(_member, piece))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _member(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    tail = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return _GZIP_HEAD + packer.compress(data) + packer.flush() + tail


def _blob(folder: Path, media_type: str, document: Mapping[str, Any]) -> Descriptor:
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(data)
    return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size=len(data))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, sort_keys=True) + "\n", encoding="utf-8")
