"""What the scripts in the image do with the tools, as far as it can be seen without an image."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "distrobuilder/scripts/actions/post-packages.sh"


def function(name: str, script: Path = SCRIPT) -> str:
    """Return the text of a function of *script*, which itself runs when it is read."""
    pattern = rf"^{name}\(\) \{{.*?^\}}$"
    match = re.search(pattern, script.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[0]


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (100, "W: odd\nE: Unable to locate package sdk-10\n", "E: 'dotnet' of tools.lock: Unable "),
        (0, "W: odd\n", ""),
    ],
)
def test_an_error_of_apt_comes_with_where_the_package_is_listed(
    status: int, said: str, expected: str
) -> None:
    script = f"""
        set -euo pipefail
        apt-get() {{ printf '%s' "$SAID" >&2; return {status}; }}
        {function("apt_install_listed")}
        apt_install() {{ apt-get install --yes "$@"; }}
        apt_install_listed "'dotnet' of tools.lock" sdk-10
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env={"SAID": said, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == (1 if status else 0)
    last = done.stderr.splitlines()[-1:] or [""]
    assert last[0].startswith(expected)
    assert bool(last[0]) == bool(expected)


def test_the_tools_are_the_first_file_that_is_copied() -> None:
    """`hakim-actions build` overrides its source by number, and the script looks for its name."""
    definition = yaml.safe_load((ROOT / "distrobuilder/hakim.yaml").read_text())
    first = definition["files"][0]

    assert first["generator"] == "copy"
    assert (ROOT / first["source"]).name == "tools.lock"
    assert first["path"] == "/usr/local/lib/hakim-build/"
    assert not {"variants", "releases", "architectures"} & set(first)
    assert "BUILD=/usr/local/lib/hakim-build\n" in SCRIPT.read_text()


SOURCES = """Types: deb
URIs: {main}
Suites: trixie trixie-updates

Types: deb
URIs: {security}
Suites: trixie-security
"""


def test_an_image_from_a_snapshot_names_the_mirrors_of_the_first_build(tmp_path: Path) -> None:
    """In every file, those that variants add, too; another vendor's address stays."""
    snapshot = {"main": "http://s.test/d/1", "security": "http://s.test/d-security/1"}
    (tmp_path / "debian.sources").write_text(SOURCES.format(**snapshot))
    (tmp_path / "backports.sources").write_text(f"URIs: {snapshot['main']}\n")
    (tmp_path / "vendor.sources").write_text("URIs: http://vendor.test/d/1\n")
    text = function("name_mirrors", SCRIPT.with_name("post-files.sh"))
    script = f"set -euo pipefail\n{text.replace('/etc/apt/sources.list.d', str(tmp_path))}"
    run = ["bash", "-c", f"{script}\nname_mirrors"]

    subprocess.run(run, check=True, env={"PATH": "/usr/bin:/bin"})
    assert "s.test" in (tmp_path / "debian.sources").read_text()
    names = {
        "HAKIM_NAMED_MIRROR": "http://m.test/debian",
        "HAKIM_NAMED_SECURITY_MIRROR": "http://m.test/debian-security",
    }
    subprocess.run(run, check=True, env={"PATH": "/usr/bin:/bin", **names})

    expected = SOURCES.format(main="http://m.test/debian", security="http://m.test/debian-security")
    assert (tmp_path / "debian.sources").read_text() == expected
    assert (tmp_path / "backports.sources").read_text() == "URIs: http://m.test/debian\n"
    assert (tmp_path / "vendor.sources").read_text() == "URIs: http://vendor.test/d/1\n"


#: What an image of two packages has, one after the other: users by number, a group and a mark each.
_RECORDS = {
    "etc/passwd": "{name}:x:{number}:{number}::/:/bin/sh\n",
    "etc/shadow": "{name}:!:20000::::::\n",
    "etc/group": "{name}:x:{number}:\n",
    "etc/gshadow": "{name}:!::\n",
    "var/lib/apt/extended_states": "Package: {name}\nAuto-Installed: 1\n\n",
}


def records(record: str, users: Sequence[tuple[str, int]]) -> str:
    """Return the file that has *record* of each of *users*."""
    return "".join(record.format(name=user, number=number) for user, number in users)


def sorted_records(folder: Path, *users: tuple[str, int]) -> dict[str, str]:
    """Return the records of *users*, in that order at first, as the script leaves them."""
    for name, record in _RECORDS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(records(record, users))
    text = function("sort_records", SCRIPT.with_name("post-files.sh"))
    for name in ("etc", "var"):
        text = text.replace(f"/{name}/", f"{folder}/{name}/")
    subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{text}\nsort_records"],
        check=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    return {name: (folder / name).read_text() for name in _RECORDS}


def test_in_which_order_packages_came_shows_in_no_record(tmp_path: Path) -> None:
    """On a base layer, `coder` is made before a variant's packages are there, otherwise after."""
    root, coder, epmd = ("root", 0), ("coder", 1000), ("epmd", 101)

    on_layer = sorted_records(tmp_path / "layer", root, coder, epmd)
    in_one_go = sorted_records(tmp_path / "scratch", root, epmd, coder)

    assert on_layer == in_one_go
    for name, record in _RECORDS.items():
        assert len(on_layer[name]) == len(records(record, (root, coder, epmd)))
