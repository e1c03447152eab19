"""What outlives a process is found and removed, and nothing else is."""

import hashlib
import os
from pathlib import Path

from hakim_actions.image import sandbox
from hakim_actions.image.identity import Identity, identity


def test_the_whole_cgroup_v2_hierarchy_is_found_on_every_kind_of_host() -> None:
    unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    hybrid = (
        "33 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "34 32 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    partial = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n"

    assert sandbox._cgroup2_mounts(unified) == ["/sys/fs/cgroup"]
    assert sandbox._cgroup2_mounts(hybrid) == ["/sys/fs/cgroup/unified"]
    assert sandbox._cgroup2_mounts(partial) == []
    assert sandbox._cgroup2_mounts("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n") == []


def test_only_profiles_of_this_run_are_unloaded(tmp_path: Path) -> None:
    (tmp_path / "profiles").write_text(
        "lxc-hakim-boot-abc_</run/hakim> (enforce)\n"
        "lxc-hakim-boot-abcdef_</run/hakim> (enforce)\n"
        "/usr/sbin/sshd (enforce)\n"
    )

    sandbox._unload_profiles("lxc-hakim-boot-abc_", tmp_path)

    assert (tmp_path / ".remove").read_text() == "lxc-hakim-boot-abc_</run/hakim>"


def test_a_machine_without_apparmor_has_no_profiles(tmp_path: Path) -> None:
    sandbox._unload_profiles("lxc-", tmp_path / "none")


def test_the_identity_of_a_root_file_system_is_read(tmp_path: Path) -> None:
    ssh = tmp_path / "etc" / "ssh"
    ssh.mkdir(parents=True)
    (ssh / "ssh_host_rsa_key.pub").write_bytes(b"public")
    (ssh / "ssh_host_rsa_key").write_bytes(b"private")
    (tmp_path / "etc" / "machine-id").write_text("abc\n")

    found = identity(tmp_path)

    assert found.keys == {"ssh_host_rsa_key.pub": hashlib.sha256(b"public").hexdigest()}
    assert found.machine_id == "abc"


def test_links_and_pipes_of_a_hostile_image_are_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "ssh").mkdir(parents=True)
    (outside / "machine-id").write_text("the host's own\n")
    (outside / "ssh" / "ssh_host_rsa_key.pub").write_text("the host's own\n")
    linked, files = tmp_path / "linked", tmp_path / "files"
    linked.mkdir()
    (linked / "etc").symlink_to(outside)
    (files / "etc" / "ssh").mkdir(parents=True)
    (files / "etc" / "machine-id").symlink_to(outside / "machine-id")
    os.mkfifo(files / "etc" / "ssh" / "ssh_host_rsa_key.pub")

    assert identity(linked) == Identity({}, "")
    assert "the host's own" not in repr(identity(files))
