"""What is left of the memory: by the kernel's estimate, or by the limit of a cgroup above us."""

from pathlib import Path

import pytest

from hakim_actions.system import memory

MB = 1_000_000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the top of the cgroups of a machine with 8192 MB left, in which we are /a/b."""
    cgroups = tmp_path / "cgroup"
    (cgroups / "a/b").mkdir(parents=True)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1 kB\nMemAvailable:  8000000 kB\nBuffers: 0 kB\n")
    own = tmp_path / "own"
    own.write_text("4:memory:/other\n0::/a/b\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_OWN_CGROUP", own)
    monkeypatch.setattr(memory, "_CGROUPS", cgroups)
    return cgroups


def limit(cgroup: Path, *, most: str, used: int, cached: int) -> None:
    (cgroup / "memory.max").write_text(f"{most}\n")
    (cgroup / "memory.current").write_text(f"{used}\n")
    (cgroup / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")


def test_without_a_limit_it_is_what_the_kernel_says(machine: Path) -> None:
    limit(machine / "a", most="max", used=5000 * MB, cached=0)

    assert memory.available() == 8_000_000 * 1024


@pytest.mark.parametrize("which", ["a/b", "a", "."])
def test_a_limit_at_any_height_counts_and_cached_files_do_not(machine: Path, which: str) -> None:
    limit(machine / which, most=str(4000 * MB), used=3000 * MB, cached=500 * MB)

    assert memory.available() == 1500 * MB


def test_a_limit_that_is_exceeded_leaves_nothing(machine: Path) -> None:
    limit(machine / "a/b", most=str(4000 * MB), used=4100 * MB, cached=0)

    assert memory.available() == 0


def test_this_machine_has_some() -> None:
    assert memory.available() > 0
