"""The blocks of shell in the docs are run, as they stand, in a copy of the project.

Beside the copy stand what a page finds there in real life: artifacts as ``build`` leaves them,
small but whole, two releases of them, and a cluster with the earlier ones. What a page would write
outside of the project goes below the folder of the test.
"""

import lzma
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pages
import pytest
from fakes.promotions import Site, site
from fakes.publications import Made, write
from rootfs import default_packages, make_rootfs_tar

from hakim_actions.cli.main import main

ROOT = pages.ROOT
#: Where pages put things that belong to the machine.
OUTSIDE = ("/srv/", "/media/", "/var/lib/vz/")
#: What is there on a node before anything is promoted.
STORE = "var/lib/vz/template/cache"
#: An image of some kilobytes counts as one.
PROGRAM = """\
#!{python} -I
import sys
from hakim_actions.image import rules_archive
rules_archive.MIN_COMPRESSED = rules_archive.MIN_RAW = 0
from hakim_actions.__main__ import start
sys.exit(start())
"""


@dataclass(frozen=True)
class Machine:
    """The copy of the project, the folder that stands for the machine, and the environment."""

    project: Path
    outside: Path
    env: Mapping[str, str]

    def run(self, blocks: Iterable[pages.Block]) -> subprocess.CompletedProcess[str]:
        """Run *blocks* one after the other in one shell; the first failure ends it."""
        script = "".join(f"echo '{block}' >&2\n{block.script}" for block in blocks)
        for folder in OUTSIDE:
            script = script.replace(folder, f"{self.outside}{folder}")
        return subprocess.run(
            ("bash", "-euo", "pipefail", "-c", script),
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )


def copy_project(target: Path) -> None:
    """Copy what a checkout has, and make it one, with what it comes from as origin/main."""
    list_files = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    for command in (
        "init --quiet --initial-branch main",
        "add --all --force",
        "-c user.name=A -c user.email=a@b -c commit.gpgsign=false commit --quiet --message Copy",
        "update-ref refs/remotes/origin/main HEAD",
    ):
        subprocess.run(("git", *shlex.split(command)), cwd=target, check=True)


def make_artifacts(project: Path, outside: Path) -> None:
    """Put artifacts, and the releases of the pages, where the pages have them."""
    packages = default_packages()
    tar = make_rootfs_tar(outside / "rootfs.tar", packages=packages)
    made = Made(
        archive=lzma.compress(tar.read_bytes(), preset=0),
        packages={package.name: package.version for package in packages},
    )
    built = write(project / "distrobuilder/out", made, exact=True)
    shutil.copytree(built, project / "old")
    for version in ("v1.1.0", "v1.2.0"):
        for releases in (project, project / "releases", outside / "media/usb"):
            arguments = ("--to", str(releases), "--tag", version, str(built))
            assert main(["publish", *arguments], {"PATH": os.environ["PATH"]}) == 0


def environment(here: Site, programs: Path, outside: Path) -> dict[str, str]:
    """Return what the shell of somebody has who uses the cluster of *here*."""
    program = programs / "hakim-actions"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    state = {f"HAKIM_{name}_STATE": str(here.state) for name in ("PROMOTE", "ROLLBACK", "PRUNE")}
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(here.root),
        "LANG": "C.UTF-8",
        "PROXMOX_TOKEN": here.token,
        "PROXMOX_ENDPOINT": here.fake.url,
        "PROXMOX_STORAGE": "tmpl",
        "PROXMOX_CA_FILE": str(here.fake.certificate),
        "HAKIM_PROMOTE_PATH": str(outside / STORE),
        "LIVE_TEMPLATES": "tmpl:vztmpl/hakim-base-trixie-amd64.tar.xz",
        **state,
    }


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    project, programs, outside = (tmp_path / name for name in ("project", "bin", "outside"))
    for folder in (project, programs, outside):
        folder.mkdir()
    (outside / STORE).mkdir(parents=True)
    copy_project(project)
    make_artifacts(project, outside)
    with site(tmp_path, prune=True) as here:
        for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
            assert here.promote(here.release(version)) == 0
        yield Machine(project, outside, environment(here, programs, outside))


def blocks_to_run() -> dict[str, list[pages.Block]]:
    """Return the blocks that no comment gives to another test or to none, by page."""
    found: dict[str, list[pages.Block]] = {}
    for page in pages.pages():
        for block in pages.blocks(page, *pages.SHELL):
            if not block.mark:
                found.setdefault(block.page, []).append(block)
    return found


RUN = blocks_to_run()


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_do_what_they_say(page: str, machine: Machine) -> None:
    done = machine.run(RUN[page])

    assert done.returncode == 0, done.stdout[-4000:]


def test_a_block_that_fails_is_seen(machine: Machine) -> None:
    failing = pages.Block(
        page="a", line=1, language="sh", text="hakim-actions diff a b | cat\ntrue\n", mark=""
    )

    done = machine.run([failing])
    assert done.returncode == 2
    assert "error: " in done.stdout
