"""A place to promote to and releases to promote, for tests of the whole command."""

import hashlib
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes import proxmox_storage
from fakes.certificates import make_certificate
from fakes.proxmox import FakeProxmox, Node, Storage

from hakim_actions.artifact import ArtifactName, FileRecord, format_sums
from hakim_actions.cli.main import main
from hakim_actions.index import Index, IndexEntry

#: Importing the module registers its routes.
ROUTES = proxmox_storage

TOKEN = "hakim@pve!ci"  # noqa: S105 - an identity
BASE = "hakim-base-trixie-amd64"


def publish(
    folder: Path,
    version: str,
    *,
    variants: Sequence[str] = ("base",),
    archs: Sequence[str] = ("amd64",),
    size: int = 60_000,
    base_url: str = "",
) -> Path:
    """Write a folder as publish does; the content follows from the version and the name."""
    folder.mkdir(parents=True)
    entries, sums = [], {}
    for variant in variants:
        for arch in archs:
            name = ArtifactName(variant, "trixie", arch)
            data = random.Random(f"{version} {name}").randbytes(size)
            (folder / name.archive).write_bytes(data)
            sums[name.archive] = hashlib.sha256(data).hexdigest()
            record = FileRecord(name=name.archive, size=size, sha256=sums[name.archive])
            entries.append(
                IndexEntry(
                    variant=variant,
                    release="trixie",
                    arch=arch,
                    content_key="k",
                    files={"archive": record},
                    packages={},
                )
            )
    index = Index(
        version=version, commit="c" * 40, epoch=1, entries=tuple(entries), base_url=base_url
    )
    (folder / "index.json").write_text(index.to_json())
    (folder / "sha256sums.txt").write_text(format_sums(sums))
    return folder


@dataclass
class Site:
    """A fake cluster, and the command line pointed at it."""

    fake: FakeProxmox
    root: Path
    token: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    def release(self, version: str, **options: Any) -> Path:
        return publish(self.root / "releases" / version, version, **options)

    def run(self, command: str, *args: str | Path) -> int:
        """Run a command of ours against the cluster and return its exit code."""
        argv = [command, *map(str, args)]
        if "--endpoint" not in argv:
            argv += ["--endpoint", self.fake.url]
        if not {"--ca-file", "--fingerprint", "--insecure"} & set(argv):
            argv += ["--ca-file", str(self.fake.certificate)]
        if "--storage" not in argv:
            argv += ["--storage", "tmpl"]
        if command != "doctor" and "--state" not in argv:
            argv += ["--state", str(self.state)]
        return main(argv, {"PROXMOX_TOKEN": self.token, "HOME": str(self.root), **self.env})

    def promote(self, folder: Path, *args: str) -> int:
        return self.run("promote", "--from", folder, *args)

    def stored(self, node: str = "pve1") -> dict[str, bytes]:
        """Return what the storage holds on *node*, by name."""
        return {file.name: file.read_bytes() for file in self.fake.folder(node, "tmpl").iterdir()}

    def known(self, folder: Path) -> set[str]:
        """Return the checksums a release promises."""
        document = json.loads((folder / "index.json").read_text())
        return {entry["files"]["archive"]["sha256"] for entry in document["entries"]}


@contextmanager
def site(
    root: Path,
    *,
    nodes: Sequence[str] = ("pve1",),
    shared: bool = False,
    fetch: bool = False,
    prune: bool = False,
) -> Iterator[Site]:
    """Start a cluster with a storage ``tmpl`` and a token with just the rights that are named."""
    certificate, key = make_certificate(root)
    fake = FakeProxmox(
        root=root / "pve",
        certificate=certificate,
        key=key,
        nodes={name: Node(name) for name in nodes},
        storages={"tmpl": Storage("tmpl", shared=shared)},
        auth_delay=0.05,
        inactivity=5,
    )
    token = fake.token(TOKEN)
    rights = ["Datastore.AllocateTemplate", "Datastore.Audit"]
    rights += ["Datastore.Allocate"] if prune else []
    fake.access.grant(TOKEN, "/storage/tmpl", *rights)
    if fetch:
        fake.access.grant(TOKEN, "/nodes", "Sys.AccessNetwork", "Sys.Audit")
    with fake:
        yield Site(fake, root, token)


@contextmanager
def watched(folder: Path, good: set[str]) -> Iterator[list[str]]:
    """Look at *folder* all the time; yields the list of moments without a whole, good template."""
    bad: list[str] = []
    done = threading.Event()

    def look() -> None:
        hashes: dict[tuple[str, int, int, int], str] = {}
        while not done.wait(0.002):
            seen = []
            for file in folder.iterdir():
                try:
                    stat = file.stat()
                    key = (file.name, stat.st_ino, stat.st_size, stat.st_mtime_ns)
                    if key not in hashes:
                        hashes[key] = hashlib.sha256(file.read_bytes()).hexdigest()
                    seen.append(hashes[key])
                except FileNotFoundError:
                    continue
            if not good & set(seen):
                bad.append(str(seen))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield bad
    finally:
        done.set()
        thread.join()
