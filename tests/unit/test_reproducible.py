"""What differs between two builds is named, member by member and property by property."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import FakeProgram
from rootfs import CAP_NET_RAW, Member, file, folder, hard_link, symlink, write_tar

from hakim_actions.image.reproducible import Difference, differences, explain

MEMBERS = [
    folder("./"),
    folder("./etc"),
    file("./etc/a", "one", mtime=5),
    file("./etc/ping", "x", xattrs={"security.capability": CAP_NET_RAW}),
    symlink("./etc/link", "a"),
    hard_link("./etc/again", "./etc/a"),
]


def archive(path: Path, members: Sequence[Member]) -> Path:
    write_tar(path, members)
    return path


def with_(change: Member) -> list[Member]:
    return [change if member.name == change.name else member for member in MEMBERS]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (MEMBERS, []),
        (with_(file("./etc/a", "two", mtime=5)), ["./etc/a: content"]),
        (with_(file("./etc/a", "one", mtime=9)), ["./etc/a: time 5 and 9"]),
        (with_(file("./etc/a", "one", mtime=5, mode=0o600)), ["./etc/a: mode 0644 and 0600"]),
        (with_(file("./etc/a", "one", mtime=5, uid=7)), ["./etc/a: owner 0:0 and 7:0"]),
        (with_(symlink("./etc/link", "b")), ["./etc/link: content"]),
        (with_(hard_link("./etc/again", "./etc/ping")), ["./etc/again: content"]),
        (with_(file("./etc/ping", "x")), ["./etc/ping: attributes"]),
        (
            with_(file("./etc/link", "a")),
            ["./etc/link: type 2 and 0; mode 0777 and 0644; content"],
        ),
        ([*MEMBERS, file("./new")], ["./new: only in the second"]),
        (MEMBERS[:-1], ["./etc/again: only in the first"]),
        ([*MEMBERS[:2], *reversed(MEMBERS[2:5]), MEMBERS[5]], [".: the order of the members"]),
    ],
)
def test_every_property_counts(tmp_path: Path, members: list[Member], expected: list[str]) -> None:
    first = archive(tmp_path / "a.tar.xz", MEMBERS)
    second = archive(tmp_path / "b.tar.xz", members)

    assert [str(difference) for difference in differences(first, second)] == expected


def test_without_diffoscope_there_is_no_more_to_say(tmp_path: Path) -> None:
    first = archive(tmp_path / "a.tar.xz", MEMBERS)
    differing = [Difference(path="./etc/a", what=("content",))]

    said = explain(first, first, differing, work_dir=tmp_path, env={"PATH": str(tmp_path)})

    assert said == ""


def test_diffoscope_sees_the_differing_files_and_no_other(
    tmp_path: Path, program: FakeProgram
) -> None:
    """Its exit status 1 means that there are differences."""
    program("diffoscope", 'for last; do :; done; grep -r "" "${@: -2:1}" "$last"; exit 1')
    first = archive(tmp_path / "a.tar.xz", MEMBERS)
    second = archive(tmp_path / "b.tar.xz", with_(file("./etc/a", "two")))
    work = tmp_path / "work"
    work.mkdir()
    path = f"{tmp_path / 'fake-programs'}:/usr/bin:/bin"

    said = explain(first, second, differences(first, second), work_dir=work, env={"PATH": path})

    assert sorted(said.splitlines()) == [
        f"{work}/first/_etc_a:one",
        f"{work}/second/_etc_a:two",
    ]


def test_a_member_that_leads_out_is_looked_into_without_being_unpacked_there(
    tmp_path: Path, program: FakeProgram
) -> None:
    program("diffoscope", "exit 1")
    first = archive(tmp_path / "a.tar.xz", [file("../../out", "one")])
    second = archive(tmp_path / "b.tar.xz", [file("../../out", "two")])
    work = tmp_path / "deep/er/work"
    work.mkdir(parents=True)
    path = f"{tmp_path / 'fake-programs'}:/usr/bin:/bin"

    explain(first, second, differences(first, second), work_dir=work, env={"PATH": path})

    assert not list(tmp_path.rglob("out"))
    assert len(list(work.rglob("*out*"))) == 2
