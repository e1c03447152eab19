"""What the scripts in the image do with the tools, as far as it can be seen without an image."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "distrobuilder/scripts/actions/post-packages.sh"


def function(name: str) -> str:
    """Return the text of a function of the script, which itself runs when it is read."""
    pattern = rf"^{name}\(\) \{{.*?^\}}$"
    match = re.search(pattern, SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
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
