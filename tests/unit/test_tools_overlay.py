"""What archives hold goes into the overlay with checked paths, root's, and nothing else does."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hakim_actions.errors import BuildError
from hakim_actions.image.overlay import MTIME, Overlay, pack_folder
from hakim_actions.image.pins import Tool

Change = Callable[[tarfile.TarInfo], None]


def member(name: str, data: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def archive(tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = tmp_path / "tool.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def tool(put: dict[str, str], **options: object) -> Tool:
    return Tool(
        name="tool",
        version="1",
        kind="url",
        variants="all",
        sources={},
        put=put,
        **options,  # type: ignore[arg-type]
    )


def overlay(
    tmp_path: Path, source: Path, *tools: Tool, name: str = ""
) -> dict[str, tarfile.TarInfo]:
    target = tmp_path / "tools.tar"
    with Overlay(target) as writer:
        for one in tools:
            writer.add_archive(one, source, name=name or source.name)
    with tarfile.open(target) as tar:
        return {info.name.removeprefix("./"): info for info in tar}


def content(tmp_path: Path, path: str) -> bytes:
    with tarfile.open(tmp_path / "tools.tar") as tar:
        stream = tar.extractfile(f"./{path}")
        assert stream is not None
        return stream.read()


def test_files_go_where_the_lock_says_with_two_modes_and_one_owner(tmp_path: Path) -> None:
    source = archive(
        tmp_path,
        member("top/bin/tool", b"#!", mode=0o4755, uid=1000, uname="builder", mtime=5),
        member("top/share/doc.txt", b"doc", mode=0o600),
        member("top/rest", b"rest"),
    )
    put = {"bin/tool": "/usr/local/bin/tool", "share": "/usr/local/share/tool"}
    found = overlay(tmp_path, source, tool(put, strip=1, links={"/usr/local/bin/t": "tool"}))

    assert set(found) == {
        *("usr", "usr/local", "usr/local/bin", "usr/local/share", "usr/local/share/tool"),
        *("usr/local/bin/tool", "usr/local/bin/t", "usr/local/share/tool/doc.txt"),
    }
    program = found["usr/local/bin/tool"]
    assert (program.mode, program.uid, program.uname, program.mtime) == (0o755, 0, "root", MTIME)
    assert found["usr/local/share/tool/doc.txt"].mode == 0o644
    assert found["usr/local/bin/t"].linkname == "tool"


def test_a_file_for_the_path_can_be_run_even_if_its_archive_forgot(tmp_path: Path) -> None:
    source = tmp_path / "tool.whl"
    with zipfile.ZipFile(source, "w") as wheel:
        wheel.writestr("data/tool", b"x")
    found = overlay(tmp_path, source, tool({"data/tool": "/usr/local/bin/tool"}))

    assert found["usr/local/bin/tool"].mode == 0o755


def test_what_is_no_archive_is_the_file_itself(tmp_path: Path) -> None:
    source = tmp_path / "tool-linux-amd64"
    source.write_bytes(b"program")
    overlay(tmp_path, source, tool({".": "/usr/local/bin/tool"}))

    assert content(tmp_path, "usr/local/bin/tool") == b"program"


def test_a_hard_link_becomes_a_file_with_the_same_content(tmp_path: Path) -> None:
    source = archive(
        tmp_path, member("a", b"same"), member("b", type=tarfile.LNKTYPE, linkname="a")
    )
    found = overlay(tmp_path, source, tool({"b": "/usr/local/bin/b"}))

    assert found["usr/local/bin/b"].isfile()
    assert content(tmp_path, "usr/local/bin/b") == b"same"


def test_what_nobody_needs_is_left_out(tmp_path: Path) -> None:
    source = archive(tmp_path, member("a/x.js", b"1"), member("a/x.js.map", b"2"))
    found = overlay(tmp_path, source, tool({".": "/usr/local/lib/tool"}, omit=("*.map",)))

    assert "usr/local/lib/tool/a/x.js" in found
    assert "usr/local/lib/tool/a/x.js.map" not in found


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (member("../etc/passwd", b"x"), "leaves the archive's folder"),
        (member("/etc/passwd", b"x"), "leaves the archive's folder"),
        (member("a/../../b", b"x"), "leaves the archive's folder"),
        (member("dev", type=tarfile.CHRTYPE), "neither file, folder nor link"),
        (member("pipe", type=tarfile.FIFOTYPE), "neither file, folder nor link"),
        (member("out", type=tarfile.SYMTYPE, linkname="/etc"), "points out of it"),
        (member("up", type=tarfile.SYMTYPE, linkname="../../../../etc"), "points out of it"),
    ],
)
def test_what_could_reach_out_of_the_archive_is_refused(
    tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], said: str
) -> None:
    source = archive(tmp_path, member("fine", b"x"), bad)

    with pytest.raises(BuildError, match=said):
        overlay(tmp_path, source, tool({".": "/usr/local/lib/tool"}))


def test_nothing_is_written_below_a_link(tmp_path: Path) -> None:
    source = archive(
        tmp_path,
        member("folder", type=tarfile.SYMTYPE, linkname="other"),
        member("folder/file", b"x"),
    )

    with pytest.raises(BuildError, match="below the link /usr/local/lib/tool/folder"):
        overlay(tmp_path, source, tool({".": "/usr/local/lib/tool"}))


def test_two_tools_with_one_path_are_both_named(tmp_path: Path) -> None:
    source = archive(tmp_path, member("a", b"x"))
    first = tool({"a": "/usr/local/bin/a"})
    second = Tool(
        name="other", version="1", kind="url", variants="all", sources={}, put=dict(first.put)
    )

    with pytest.raises(BuildError, match="'other' and 'tool' both have a file /usr/local/bin/a"):
        overlay(tmp_path, source, first, second)


def test_a_path_that_is_not_in_the_archive_is_named(tmp_path: Path) -> None:
    source = archive(tmp_path, member("a", b"x"))

    with pytest.raises(BuildError, match="has no bin/tool"):
        overlay(tmp_path, source, tool({"bin/tool": "/usr/local/bin/tool", "a": "/opt/a"}))


def test_what_is_no_archive_at_all_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "tool.tar.gz"
    source.write_bytes(b"<html>login</html>")

    with pytest.raises(BuildError, match="archive of 'tool' cannot be read"):
        overlay(tmp_path, source, tool({"a": "/opt/a"}))


def test_the_same_folder_makes_the_same_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "b.js").write_text("b")
        (tmp_path / name / "a.js").write_text("a")
        (tmp_path / name / "bin/run").symlink_to("../a.js")
        pack_folder(tmp_path / name, tmp_path / f"{name}.tar")
    (tmp_path / "two/a.js").touch()

    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
