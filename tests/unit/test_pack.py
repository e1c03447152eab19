"""Packing keeps every member, in an order and with bytes that depend on the content alone."""

import errno
import hashlib
import io
import lzma
import os
import random
import tarfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rootfs import (
    CAP_NET_RAW,
    EPOCH,
    Member,
    Package,
    default_packages,
    device,
    dpkg_database,
    file,
    folder,
    hard_link,
    make_rootfs_tar,
    read_tar,
    symlink,
    tar_bytes,
    write_tar,
)

from hakim_actions.errors import BuildError
from hakim_actions.image import order, pack
from hakim_actions.image.pack import PackReport, pack_tar
from hakim_actions.image.pieces import PieceStore


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., list[Member]]:
    """Return a function that packs members and reads them back."""

    def run(members: Iterable[Member], **options: Any) -> list[Member]:
        write_tar(tmp_path / "in.tar", members)
        pack_tar(tmp_path / "in.tar", tmp_path / "out.tar.xz", epoch=EPOCH, **options)
        return read_tar(tmp_path / "out.tar.xz")

    return run


def _pack(source: Path, target: Path, **options: Any) -> PackReport:
    return pack_tar(source, target, epoch=EPOCH, **options)


def _by_path(members: Iterable[Member]) -> dict[str, Member]:
    return {member.name.removeprefix("./").rstrip("/") or ".": member for member in members}


def _meaning(members: Iterable[Member]) -> dict[str, object]:
    """Return what each path means: all that must survive packing, links resolved to their file."""
    by_path = _by_path(members)
    meaning: dict[str, object] = {}
    names: dict[str, set[str]] = {}
    for path, member in by_path.items():
        target, chain = member, path
        while target.kind == tarfile.LNKTYPE:
            chain = target.link.removeprefix("./")
            target = by_path[chain]
        names.setdefault(chain, set()).add(path)
        time = min(max(int(target.mtime // 1), 0), EPOCH)
        owner = (target.mode, target.uid, target.gid, time)
        meaning[path] = (target.kind, owner, target.data, target.link, dict(target.xattrs))
    return {"paths": meaning, "inodes": {frozenset(group) for group in names.values()}}


# ---------------------------------------------------------------- any tree comes back as it was

_NAME = st.one_of(
    st.text(
        st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]),
        min_size=1,
        max_size=12,
    ),
    st.binary(min_size=1, max_size=6).map(lambda raw: os.fsdecode(raw.translate(None, b"/\0"))),
    st.integers(90, 255).map(lambda length: "n" * length),
).filter(lambda name: name not in {"", ".", ".."})
_META: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "mode": st.integers(0, 0o7777),
        "uid": st.sampled_from([0, 1000, 65534, 2**21, 2**31]),
        "gid": st.sampled_from([0, 42, 2**32 - 1]),
        "mtime": st.one_of(st.integers(0, EPOCH * 2), st.floats(0, EPOCH * 2)),
        "xattrs": st.dictionaries(
            st.sampled_from(["user.note", "user.é", "security.capability"]),
            st.binary(max_size=40),
            max_size=2,
        ),
    }
)


@st.composite
def _trees(draw: st.DrawFn) -> list[Member]:
    """Draw the members of a random tree: folders before what is in them, links after files."""
    members = [folder("./", **draw(_META))]
    folders, seen = ["."], {"./"}
    files: list[str] = []
    for _ in range(draw(st.integers(0, 14))):
        path = f"{draw(st.sampled_from(folders))}/{draw(_NAME)}"
        if path in seen:
            continue
        seen.add(path)
        meta = draw(_META)
        kind = draw(st.sampled_from(["file", "folder", "symlink", "link", "fifo"]))
        if kind == "folder":
            folders.append(path)
            members.append(folder(path, **meta))
        elif kind == "symlink":
            members.append(replace(symlink(path, "../" + draw(_NAME)), **meta))
        elif kind == "link" and files:
            members.append(hard_link(path, draw(st.sampled_from(files)), **meta))
        elif kind == "fifo":
            members.append(Member(name=path, kind=tarfile.FIFOTYPE, **meta))
        else:
            files.append(path)
            members.append(file(path, draw(st.binary(max_size=3000)), **meta))
    return members


@given(tree=_trees(), seed=st.randoms(use_true_random=False))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_tree_comes_back_as_it_was_whatever_the_order(
    tree: list[Member], seed: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "PIECE_SIZE", 2048)
    monkeypatch.setattr(order, "OWN_PIECE", 1024)
    shuffled = list(tree)
    seed.shuffle(shuffled)
    write_tar(tmp_path / "a.tar", tree)
    write_tar(tmp_path / "b.tar", shuffled)
    first = _pack(tmp_path / "a.tar", tmp_path / "a.tar.xz")
    second = _pack(tmp_path / "b.tar", tmp_path / "b.tar.xz")
    assert _meaning(read_tar(tmp_path / "a.tar.xz")) == _meaning(tree)
    assert first.sha256 == second.sha256


# ---------------------------------------------------------------- the report and the file


def test_the_report_describes_the_file(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    target = tmp_path / "image.tar.xz"
    report = _pack(source, target)
    content = target.read_bytes()
    raw = lzma.decompress(content)
    assert report.sha256 == hashlib.sha256(content).hexdigest()
    assert (report.packed_bytes, report.raw_bytes) == (len(content), len(raw))
    assert report.bytes_compressed == report.raw_bytes
    assert report.pieces > 1
    assert report.pieces_reused == 0
    assert target.stat().st_mode & 0o777 == 0o644


def test_progress_grows_to_the_whole(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    seen: list[tuple[int, int]] = []
    _pack(source, tmp_path / "o.tar.xz", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_tar_without_files_has_the_root_only(packed: Callable[..., list[Member]]) -> None:
    (root,) = packed([])
    assert (root.name, root.kind, root.mode) == (".", tarfile.DIRTYPE, 0o755)


def test_members_start_with_dot_slash_and_the_root_is_first(tmp_path: Path) -> None:
    write_tar(tmp_path / "in.tar", [file("plain", "x"), folder("usr"), folder("./")])
    _pack(tmp_path / "in.tar", tmp_path / "out.tar.xz")
    raw = lzma.decompress((tmp_path / "out.tar.xz").read_bytes())
    names = [raw[at : at + 100].rstrip(b"\0") for at in (0, 512, 1024)]
    assert names == [b"./", b"./usr/", b"./plain"]


def test_nothing_of_the_builder_is_kept(packed: Callable[..., list[Member]]) -> None:
    noise = {"atime": "1.5", "ctime": "1.5", "SCHILY.xattr.security.selinux": "builder_t"}
    members = packed([folder("./"), file("./a", "x", mtime=12.75, pax=noise)])
    member = _by_path(members)["a"]
    assert (member.uname, member.gname, member.mtime, member.pax, member.xattrs) == (
        "",
        "",
        12,
        {},
        {},
    )


def test_times_are_not_after_the_epoch_and_not_before_1970(
    packed: Callable[..., list[Member]],
) -> None:
    young, old = file("./young", mtime=EPOCH + 9), file("./old", mtime=-9)
    got = _by_path(packed([folder("./", mtime=EPOCH + 1), young, old, file("./same", mtime=7)]))
    assert {name: member.mtime for name, member in got.items()} == {
        ".": EPOCH,
        "young": EPOCH,
        "old": 0,
        "same": 7,
    }


def test_packaged_python_keeps_the_time_that_its_compiled_file_names(
    packed: Callable[..., list[Member]],
) -> None:
    module = "./usr/lib/python3/dist-packages/x.py"
    package = Package(name="python3-x", version="1", files=[module[1:]])
    got = _by_path(
        packed(
            [
                *dpkg_database([package]),
                file(module, mtime=EPOCH + 9),
                file("./usr/local/lib/own.py", mtime=EPOCH + 9),
            ]
        )
    )
    assert got[module[2:]].mtime == EPOCH + 9
    assert got["usr/local/lib/own.py"].mtime == EPOCH


def test_capabilities_and_acls_are_kept(packed: Callable[..., list[Member]]) -> None:
    acl = "user::rwx,group::r-x,other::r-x"
    got = packed(
        [
            file("./ping", xattrs={"security.capability": CAP_NET_RAW, "user.x": b"\xff\0="}),
            folder("./d", pax={"SCHILY.acl.access": acl}),
        ]
    )
    assert _by_path(got)["ping"].xattrs == {
        "security.capability": CAP_NET_RAW,
        "user.x": b"\xff\0=",
    }
    assert _by_path(got)["d"].pax == {"SCHILY.acl.access": acl}


def test_devices_are_left_out_and_counted(tmp_path: Path) -> None:
    members = [folder("./"), folder("./dev"), device("./dev/null"), file("./dev/keep")]
    write_tar(tmp_path / "in.tar", [*members, hard_link("./dev/zero", "./dev/null")])
    report = _pack(tmp_path / "in.tar", tmp_path / "out.tar.xz")
    assert report.devices == 2
    assert set(_by_path(read_tar(tmp_path / "out.tar.xz"))) == {".", "dev", "dev/keep"}


# ---------------------------------------------------------------- names, links, sparse, long files


@pytest.mark.parametrize(
    "name",
    [
        "x" * 100,
        "d" * 60 + "/" + "f" * 90,
        "/".join(["d" * 200] * 3) + "/" + "f" * 255,
        "é" * 120,
        "\u202eevil\u0301 \U0001f600",
        os.fsdecode(b"not \xff\xfe utf-8 " + b"z" * 200),
        "new\nline\ttab",
    ],
    ids=["100", "prefix", "long", "long utf-8", "unusual", "not utf-8", "control"],
)
def test_names_are_kept_byte_for_byte(packed: Callable[..., list[Member]], name: str) -> None:
    got = _by_path(packed([file(f"./{name}", "x"), symlink("./link", name)]))
    assert got[name].data == b"x"
    assert got["link"].link == name


def test_a_name_may_be_long_and_have_attributes(packed: Callable[..., list[Member]]) -> None:
    name = "/".join(["d" * 200] * 2)
    got = packed([file(f"./{name}", "x", xattrs={"user.a": b"1"}), hard_link("./z", f"./{name}")])
    assert _by_path(got)[name].xattrs == {"user.a": b"1"}
    assert _by_path(got)["z"].link == f"./{name}"


def test_hard_links_follow_their_file_across_packages(tmp_path: Path) -> None:
    packages = [
        *default_packages(),
        Package(name="zsh", version="1", files=["/usr/bin/zsh"]),
        Package(name="aaa", version="1", files=["/usr/bin/rzsh"]),
    ]
    source = make_rootfs_tar(
        tmp_path / "in.tar",
        packages=packages,
        extra=[file("./usr/bin/zsh", "shell"), hard_link("./usr/bin/rzsh", "./usr/bin/zsh")],
    )
    _pack(source, tmp_path / "out.tar.xz")
    members = read_tar(tmp_path / "out.tar.xz")
    names = [member.name for member in members]
    for member in members:
        if member.kind == tarfile.LNKTYPE:
            assert names.index(member.link) < names.index(member.name)
    assert _by_path(members)["usr/bin/rzsh"].data == b"shell"
    assert _by_path(members)["usr/bin/zsh"].link == "./usr/bin/rzsh"


def test_a_file_longer_than_a_piece_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "PIECE_SIZE", 1 << 20)
    long = random.Random(1).randbytes((3 << 20) + 77)
    write_tar(tmp_path / "in.tar", [file("./a", "a"), file("./long", long), file("./z", "z")])
    report = _pack(tmp_path / "in.tar", tmp_path / "out.tar.xz")
    got = _by_path(read_tar(tmp_path / "out.tar.xz"))
    assert (got["long"].data, got["a"].data, got["z"].data) == (long, b"a", b"z")
    assert report.pieces >= 4


_DATA = b"one" + bytes(5000) + b"two" + bytes(9000)


def _sparse(form: str) -> bytes:
    """Return a tar with ``./s`` holding _DATA in one of GNU's sparse forms."""
    name, stored, pairs = "./s", b"onetwo", [0, 3, 5003, 3, len(_DATA), 0]
    header = tarfile.TarInfo(name)
    header.mtime = EPOCH
    text = ",".join(map(str, pairs))
    if form == "gnu":
        block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
        block[124:136] = b"%011o\0" % len(stored)
        block[156:157] = b"S"
        for place, pair in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
            block[386 + 24 * place : 410 + 24 * place] = b"%011o\0%011o\0" % pair
        block[483:495] = b"%011o\0" % len(_DATA)
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block) + stored + bytes(506) + bytes(1024)
    if form == "1.0":
        lines = "".join(f"{n}\n" for n in [len(pairs) // 2, *pairs]).encode()
        stored = lines + bytes(512 - len(lines)) + stored
        pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        pax |= {"GNU.sparse.name": name, "GNU.sparse.realsize": str(len(_DATA))}
    else:
        pax = {"GNU.sparse.size": str(len(_DATA)), "GNU.sparse.map": text}
        pax |= {"GNU.sparse.numblocks": "3", "GNU.sparse.name": name}
    header.name = "./GNUSparseFile.1/s"
    header.pax_headers = pax
    header.size = len(stored)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header, io.BytesIO(stored))
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["gnu", "0.1", "1.0"])
def test_sparse_files_are_written_whole(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "PIECE_SIZE", 5001)
    (tmp_path / "in.tar").write_bytes(_sparse(form))
    _pack(tmp_path / "in.tar", tmp_path / "out.tar.xz")
    assert _by_path(read_tar(tmp_path / "out.tar.xz"))["s"].data == _DATA


# ---------------------------------------------------------------- what cannot be packed


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ends in the middle"),
        (b"\x1f\x8b not a tar" * 100, "checksum"),
        (tar_bytes([file("./a", b"x" * 9000)])[:4096], "ends in the middle"),
        (tar_bytes([file("./a"), file("./a")]), r"\./a is in the tar twice"),
        (tar_bytes([file("./a"), file("a")]), "twice"),
        (tar_bytes([file("./../a")]), "leaves the root"),
        (tar_bytes([file("/a")]), "leaves the root"),
        (tar_bytes([hard_link("./a", "./gone")]), "leads to no file"),
        (tar_bytes([hard_link("./a", "./b"), hard_link("./b", "./a")]), "leads to no file"),
        (tar_bytes([file("./a", pax={"GNU.sparse.map": "0,9", "GNU.sparse.size": "3"})]), "map"),
        (tar_bytes([Member(name="./a", kind=b"Z")]), "Z"),
    ],
    ids=[
        "empty",
        "garbage",
        "truncated",
        "twice",
        "twice in other words",
        "above",
        "absolute",
        "dangling link",
        "link loop",
        "bad map",
        "unknown type",
    ],
)
def test_a_bad_tar_is_refused_and_leaves_nothing(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    source = tmp_path / "rootfs.tar"
    source.write_bytes(content)
    with pytest.raises(BuildError, match=reason) as caught:
        _pack(source, tmp_path / "out.tar.xz")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == [source]


_VICTIM = tar_bytes(
    [
        folder("./", xattrs={"user.a": b"1"}),
        file("./" + "n" * 300, b"content", mtime=1.5),
        hard_link("./z", "./" + "n" * 300),
        symlink("./link", "target" * 30),
    ]
)


@given(
    damage=st.lists(
        st.tuples(st.integers(0, len(_VICTIM) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    repaired=st.booleans(),
)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_tar_is_packed_or_refused_and_nothing_else(
    damage: list[tuple[int, int]], repaired: bool, tmp_path: Path
) -> None:
    content = bytearray(_VICTIM)
    for place, value in damage:
        content[place] = value
    if repaired:  # a checksum that fits lets the damage in
        for place in {place // 512 * 512 for place, _ in damage}:
            content[place + 148 : place + 156] = b" " * 8
            total = sum(content[place : place + 512])
            content[place + 148 : place + 156] = b"%06o\0 " % total
    (tmp_path / "in.tar").write_bytes(content)
    try:
        _pack(tmp_path / "in.tar", tmp_path / "out.tar.xz")
    except BuildError as error:
        assert error.hint  # noqa: PT017
    else:
        read_tar(tmp_path / "out.tar.xz")


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"none\.tar: No such file"):
        _pack(tmp_path / "none.tar", tmp_path / "out.tar.xz")


def test_a_source_that_shrinks_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    settle = order.settle

    def shrink(members: Iterable[Any]) -> list[Any]:
        os.truncate(source, 4096)
        return settle(members)

    monkeypatch.setattr(order, "settle", shrink)
    with pytest.raises(BuildError, match="became shorter"):
        _pack(source, tmp_path / "out.tar.xz")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_leaves_nothing_and_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    source, target = make_rootfs_tar(tmp_path / "rootfs.tar"), tmp_path / "out.tar.xz"
    target.write_bytes(b"the artifact before")

    def full(_handle: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BuildError, match=r"out\.tar\.xz: No space left"):
        _pack(source, target)
    assert target.read_bytes() == b"the artifact before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tar.xz", "rootfs.tar"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _pack(source, tmp_path / "out.tar.xz", progress=interrupt)
    assert list(tmp_path.iterdir()) == [source]


# ---------------------------------------------------------------- the store


def test_a_second_pack_compresses_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    source, store = make_rootfs_tar(tmp_path / "rootfs.tar"), PieceStore(tmp_path / "pieces")
    cold = _pack(source, tmp_path / "a.tar.xz", store=store)
    warm = _pack(source, tmp_path / "b.tar.xz", store=store, threads=1)
    without = _pack(source, tmp_path / "c.tar.xz")
    assert (warm.pieces_reused, warm.bytes_compressed) == (cold.pieces, 0)
    assert warm.sha256 == cold.sha256 == without.sha256


def test_another_level_does_not_use_the_pieces_of_this_one(tmp_path: Path) -> None:
    source, store = make_rootfs_tar(tmp_path / "rootfs.tar"), PieceStore(tmp_path / "pieces")
    _pack(source, tmp_path / "a.tar.xz", store=store)
    assert _pack(source, tmp_path / "b.tar.xz", store=store, level=1).pieces_reused == 0


def _large_package(name: str, seed: int) -> tuple[Package, list[Member]]:
    members = [
        file(f"./usr/share/{name}/{number}", random.Random(seed + number).randbytes(4000))
        for number in range(5)
    ]
    return Package(name=name, version="1", files=[m.name[1:] for m in members]), members


def test_a_changed_package_leaves_the_pieces_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "OWN_PIECE", 10_000)
    monkeypatch.setattr(order, "PIECE_SIZE", 8_000)
    store = PieceStore(tmp_path / "pieces")
    reports = []
    for seed_of_git in (1, 100):
        seeds = {"git": seed_of_git, "vim": 2, "zsh": 3}
        packages, files = zip(*map(_large_package, seeds, seeds.values()), strict=True)
        source = make_rootfs_tar(
            tmp_path / f"{seed_of_git}.tar",
            packages=[*default_packages(), *packages],
            extra=[member for members in files for member in members],
        )
        reports.append(_pack(source, tmp_path / f"{seed_of_git}.tar.xz", store=store))
    its_files, its_list = 5 * (512 + 4096), 512 + 512
    assert reports[1].bytes_compressed == its_files + its_list


@pytest.mark.parametrize("common", [["git"], []])
def test_what_a_variant_adds_leaves_the_pieces_of_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, common: list[str]
) -> None:
    """All images have git, which brings libc; php is in one, and would share their bucket."""
    monkeypatch.setattr(order, "BUCKETS", 1)
    contents = {name: name.encode() * 100_000 for name in ("git", "libc6", "php")}

    def packed(*names: str) -> PackReport:
        packages = [
            Package(
                name=name,
                version="1",
                files=[f"/usr/share/{name}"],
                depends="libc6 (>= 2) | musl, missing" if name == "git" else "",
            )
            for name in names
        ]
        source = make_rootfs_tar(
            tmp_path / "rootfs.tar",
            packages=packages,
            extra=[file(f"./usr/share/{name}", contents[name]) for name in names],
        )
        store = PieceStore(tmp_path / "pieces")
        return _pack(source, tmp_path / "image.tar.xz", store=store, common=common)

    packed("git", "libc6")
    variant = packed("git", "libc6", "php")

    shared = sum(512 + len(contents[name]) for name in ("git", "libc6"))
    is_kept = variant.raw_bytes - variant.bytes_compressed >= shared
    assert is_kept is bool(common)


def test_a_damaged_piece_is_compressed_again(tmp_path: Path) -> None:
    source, store = make_rootfs_tar(tmp_path / "rootfs.tar"), PieceStore(tmp_path / "pieces")
    cold = _pack(source, tmp_path / "a.tar.xz", store=store)
    entry = next(store.folder.rglob("*.piece"))
    entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    warm = _pack(source, tmp_path / "b.tar.xz", store=store)
    assert warm.sha256 == cold.sha256
    assert warm.pieces_reused == cold.pieces - 1
    assert any("damaged" in warning for warning in warm.warnings)
    assert _pack(source, tmp_path / "c.tar.xz", store=store).pieces_reused == cold.pieces


def test_a_store_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    (tmp_path / "file").touch()
    report = _pack(source, tmp_path / "a.tar.xz", store=PieceStore(tmp_path / "file"))
    assert report.sha256 == _pack(source, tmp_path / "b.tar.xz").sha256
    assert any("not kept" in warning for warning in report.warnings)


# ---------------------------------------------------------------- memory


def test_threads_wait_for_memory_that_others_hold() -> None:
    budget = pack.Budget(100)
    events: list[str] = []

    def second() -> None:
        with budget.holding(60):
            events.append("second")

    with budget.holding(60):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        events.append("first ends")
    thread.join()
    assert events == ["first ends", "second"]


def test_who_needs_more_memory_than_there_is_works_alone() -> None:
    budget = pack.Budget(100)
    with budget.holding(10_000):
        pass
    with budget.holding(100):
        pass


def test_pieces_that_wait_stay_within_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "PIECE_SIZE", 4096)
    monkeypatch.setattr(pack, "WAITING_MEMORY", 5 * (4096 + 512))
    source = make_rootfs_tar(tmp_path / "rootfs.tar", extra=[file("./long", bytes(200_000))])
    submitted, most = 0, 0
    submit = ThreadPoolExecutor.submit

    def counting(pool: ThreadPoolExecutor, *task: Any) -> Any:
        nonlocal submitted
        submitted += 1
        return submit(pool, *task)

    class Written(pack._Total):
        def add(self, piece: Any) -> None:
            nonlocal most
            super().add(piece)
            most = max(most, submitted - self._sums["pieces"])

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counting)
    monkeypatch.setattr(pack, "_Total", Written)
    report = _pack(source, tmp_path / "out.tar.xz")
    assert report.pieces > 50
    assert most < 20


@pytest.mark.parametrize(
    ("size", "dictionary"),
    [
        (0, 4096),
        (4096, 4096),
        (4097, 6144),
        (6145, 8192),
        (3 << 20, 3 << 20),
        ((3 << 20) + 1, 4 << 20),
        (1 << 30, 8 << 20),
    ],
)
def test_a_dictionary_is_hardly_larger_than_the_piece(size: int, dictionary: int) -> None:
    assert pack.dictionary_for(6, size) == dictionary


def test_builds_side_by_side_compress_what_they_share_once(tmp_path: Path) -> None:
    """Both come to the same pieces at the same time."""
    source = random.Random(5)
    write_tar(tmp_path / "in.tar", [file("./a", source.randbytes(4 << 20))])

    def run(number: int) -> PackReport:
        store = PieceStore(tmp_path / "pieces")
        return _pack(tmp_path / "in.tar", tmp_path / f"{number}.tar.xz", level=1, store=store)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))

    assert first.sha256 == second.sha256
    assert first.bytes_compressed + second.bytes_compressed == first.raw_bytes
    assert not list((tmp_path / "pieces").glob("*/.*"))
