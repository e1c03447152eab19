"""The promote, rollback, prune and doctor commands against a strict cluster."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.certificates import make_certificate
from fakes.promotions import BASE, TOKEN, Site, publish, site
from fakes.proxmox import FakeProxmox, Node, Storage, serving_files

from hakim_actions.cli.main import main

CONTRACT = f"{BASE}.tar.xz"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """One node, a token that may upload."""
    with site(tmp_path) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Site]:
    """Three nodes with local storages, a token that may also let them download."""
    with site(tmp_path, nodes=("pve1", "pve2", "pve3"), fetch=True, prune=True) as made:
        yield made


def sums(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.tar.xz")}


def stored_sums(here: Site, node: str = "pve1") -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in here.stored(node).items()}


# -- promote ---------------------------------------------------------------------------------------


def test_every_node_gets_every_template_with_its_checksum(three: Site) -> None:
    folder = three.release("v1", variants=("base", "php"))
    assert three.promote(folder) == 0
    for node in three.fake.nodes:
        assert stored_sums(three, node) == sums(folder)


def test_a_shared_storage_is_filled_once(tmp_path: Path) -> None:
    with site(tmp_path, nodes=("pve1", "pve2"), shared=True) as here:
        assert here.promote(here.release("v1")) == 0
        assert len(here.fake.writes) == 1


def test_the_node_downloads_what_is_public(three: Site, tmp_path: Path) -> None:
    folder = publish(tmp_path / "public" / "v1", "v1")
    with serving_files(tmp_path / "public") as url:
        assert three.run("promote", "--from", f"{url}v1/index.json") == 0
    assert {call.path.rsplit("/", 1)[1] for call in three.fake.writes} == {"download-url"}
    assert stored_sums(three, "pve3") == sums(folder)


def test_a_plan_writes_nothing(three: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert three.promote(three.release("v1"), "--plan", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {step["action"] for step in document["steps"]} == {"add"}
    assert three.fake.writes == []
    assert not three.state.exists()


def test_a_replaced_template_is_proven_beside_the_old_one_first(here: Site) -> None:
    here.promote(here.release("v1"))
    new = here.release("v2")
    assert here.promote(new) == 0
    names = [call.params["filename"] for call in here.fake.writes]
    assert names == [CONTRACT, f"{BASE}_v2.tar.xz", CONTRACT]
    assert stored_sums(here)[CONTRACT] == sums(new)[CONTRACT]


def test_versions_stand_side_by_side(here: Site) -> None:
    for version in ("v1", "v2"):
        assert here.promote(here.release(version), "--versioned") == 0
    assert set(here.stored()) == {f"{BASE}_v1.tar.xz", f"{BASE}_v2.tar.xz"}


def test_a_version_never_changes_its_content(
    here: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.promote(here.release("v1"), "--versioned")
    other = publish(tmp_path / "other", "v1", size=61_000)
    assert here.promote(other, "--versioned") == 2
    assert "a version never changes" in capsys.readouterr().err


def test_the_name_of_another_build_of_the_same_version_is_left_alone(
    here: Site, tmp_path: Path
) -> None:
    here.promote(here.release("v1"), "--versioned")
    here.promote(here.release("v0"))
    other = publish(tmp_path / "other", "v1", size=61_000)
    before = here.stored()[f"{BASE}_v1.tar.xz"]
    assert here.promote(other) == 0
    after = here.stored()
    assert after[f"{BASE}_v1.tar.xz"] == before
    staged = f"{BASE}_v1-{sums(other)[CONTRACT][:8]}.tar.xz"
    assert after[staged] == after[CONTRACT] == (other / CONTRACT).read_bytes()


def test_without_state_the_node_compares_the_checksum(tmp_path: Path) -> None:
    publish(tmp_path / "public" / "v1", "v1")
    with site(tmp_path, fetch=True) as here, serving_files(tmp_path / "public") as url:
        source = f"{url}v1/index.json"
        here.run("promote", "--from", source)
        here.state.unlink()
        here.fake.calls.clear()
        assert here.run("promote", "--from", source) == 0
        log = [line for task in here.fake.tasks.values() for line in task.log]
        assert "OK, got correct file already, no need to download" in log
        here.fake.calls.clear()
        assert here.run("promote", "--from", source) == 0
        assert here.fake.writes == []


def test_a_file_of_the_same_size_with_other_content_is_found_and_replaced(tmp_path: Path) -> None:
    folder = publish(tmp_path / "public" / "v1", "v1")
    with site(tmp_path, fetch=True) as here, serving_files(tmp_path / "public") as url:
        good = (folder / CONTRACT).read_bytes()
        (here.fake.folder("pve1", "tmpl") / CONTRACT).write_bytes(good[::-1])
        assert here.run("promote", "--from", f"{url}v1/index.json") == 0
        assert here.stored()[CONTRACT] == good


def test_what_nobody_can_compare_is_kept_and_named(
    here: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here.release("v1")
    here.promote(folder)
    here.state.unlink()
    here.fake.calls.clear()
    assert here.promote(folder) == 0
    assert "size only" in capsys.readouterr().out
    assert here.fake.writes == []


def test_an_offline_node_is_left_out_and_named(
    three: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    three.fake.nodes["pve2"].online = False
    assert three.promote(three.release("v1")) == 0
    assert "Not online, left out: pve2" in capsys.readouterr().out
    assert three.stored("pve3")
    assert not three.stored("pve2")


def test_only_the_nodes_own_architecture_is_brought(
    three: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = three.release("v1", archs=("amd64", "arm64"))
    three.fake.nodes["pve2"].arch = "arm64"
    assert three.promote(folder) == 0
    assert list(three.stored("pve1")) == [CONTRACT]
    assert list(three.stored("pve2")) == [CONTRACT.replace("amd64", "arm64")]
    assert "another architecture" in capsys.readouterr().out


def test_outputs_and_summary_reach_the_workflow(here: Site, tmp_path: Path) -> None:
    here.env = {
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    here.promote(here.release("v1"))
    output = (tmp_path / "output").read_text()
    assert f"tmpl:vztmpl/{CONTRACT}" in output
    assert f"| {CONTRACT} | added | sha256 |" in (tmp_path / "summary").read_text()


def test_drift_is_reported(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here.release("v1")
    here.promote(folder)
    (here.fake.folder("pve1", "tmpl") / CONTRACT).unlink()
    assert here.promote(folder, "--plan") == 0
    assert f"Drift: pve1/tmpl: {CONTRACT} is gone" in capsys.readouterr().out


def test_old_versions_of_proxmox_are_explained(
    three: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    three.fake.nodes["pve1"].container = "5.2.6"
    three.fake.nodes["pve2"].container = "6.1.0"
    three.promote(three.release("v1"), "--plan")
    said = capsys.readouterr().out
    assert "pve1: pve-container 5.2.6 refuses ostype debian for Debian 13" in said
    assert "pve2: pve-container 6.1.0 cannot create containers with ostype unmanaged" in said


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--endpoint", "pve1:8006"], "is not an https address"),
        (["--endpoint", "http://pve1:8006"], "is not an https address"),
        (["--endpoint", "https://pve1:8006/api2/json"], "has a path"),
        (["--endpoint", "https://pve1:port"], "is not an address"),
        (["--endpoint", "https://root:pw@pve1"], "must not hold a user"),
        (["--fingerprint", "AA:BB"], "is not a SHA-256 fingerprint"),
        (["--node", "pve11"], "Did you mean 'pve1'?"),
        (["--storage", "tmp"], "lacks Datastore.AllocateTemplate"),
        (["--variant", "bas"], "Did you mean 'base'?"),
        (["--arch", "arm64"], "--arch 'arm64'"),
    ],
)
def test_what_is_typed_wrong_is_named(
    here: Site, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.promote(here.release("v1"), *args) == 2
    assert said in capsys.readouterr().err
    assert here.fake.writes == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content": "iso,backup"}, "pvesm set tmpl --content iso,backup,vztmpl"),
        ({"enabled": False}, "is disabled: pvesm set tmpl --disable 0"),
        ({"active": False}, "is not active"),
        ({"capacity": 1000}, "left, 0.0 GB are needed"),
    ],
)
def test_a_storage_that_cannot_take_it_stops_everything(
    here: Site, change: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fake.storages["tmpl"].__dict__.update(change)
    assert here.promote(here.release("v1")) == 2
    assert said in capsys.readouterr().err
    assert here.fake.writes == []


def test_an_unknown_storage_is_answered_with_the_nearest(
    here: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fake.access.grant(TOKEN, "/storage", "Datastore.AllocateTemplate", "Datastore.Audit")
    assert here.promote(here.release("v1"), "--storage", "tmlp") == 2
    assert "Did you mean 'tmpl'?" in capsys.readouterr().err


def test_templates_of_another_architecture_stop_everything(
    three: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert three.promote(three.release("v1", archs=("arm64",))) == 2
    assert "nothing here is for its architecture" in capsys.readouterr().err


def test_a_token_in_the_wrong_form_is_never_repeated(
    here: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    here.token = "hakim@pve:ci:very-secret"  # noqa: S105
    assert here.promote(here.release("v1")) == 2
    captured = capsys.readouterr()
    assert "PROXMOX_TOKEN does not hold a Proxmox API token" in captured.err
    assert "very-secret" not in captured.err + captured.out


@pytest.mark.parametrize("how", ["expired", "unknown"])
def test_a_token_that_is_not_accepted(
    here: Site, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = here.fake.access.tokens[TOKEN]
    token.expire, token.secret = (1, "secret") if how == "expired" else (0, "other")
    assert here.promote(here.release("v1")) == 7
    assert "The token is wrong, expired or disabled" in capsys.readouterr().err


def test_a_token_file_serves_as_well(here: Site, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(here.token + "\n")
    (tmp_path / "token").chmod(0o600)
    here.token = ""
    assert here.promote(here.release("v1"), "--token-file", str(tmp_path / "token")) == 0


def test_a_self_signed_certificate_prints_its_fingerprint_which_then_works(
    here: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    stranger, _ = make_certificate(tmp_path / "other", "other")
    folder = here.release("v1")
    assert here.promote(folder, "--ca-file", str(stranger)) == 7
    match = re.search(r"--fingerprint ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})", capsys.readouterr().err)
    assert match is not None
    assert here.promote(folder, "--fingerprint", match[1]) == 0


def test_another_certificate_than_the_pinned_one_gets_no_token(
    here: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.promote(here.release("v1"), "--fingerprint", "00" * 32) == 7
    assert "not the pinned one" in capsys.readouterr().err
    assert here.fake.calls == []
    assert here.fake.refused == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_insecure_is_loud_and_refused_in_ci(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here.release("v1")
    assert here.promote(folder, "--insecure") == 0
    assert "WARNING: --insecure" in capsys.readouterr().err
    here.env["CI"] = "true"
    assert here.promote(folder, "--insecure") == 2
    assert here.promote(folder, "--insecure", "--yes-insecure") == 0


def test_a_port_where_nobody_listens(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert here.promote(here.release("v1"), "--endpoint", f"https://127.0.0.1:{port}") == 7
    assert "is it the port of pveproxy (8006)?" in capsys.readouterr().err


def test_a_port_that_does_not_speak_tls(
    here: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving_files(tmp_path) as url:
        endpoint = url.replace("http:", "https:").rstrip("/")
        assert here.promote(here.release("v1"), "--endpoint", endpoint) == 7
    assert "8006" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["archive", "sums"])
def test_a_checksum_that_does_not_hold_stops_before_anything_is_sent(
    here: Site, damage: str
) -> None:
    folder = here.release("v1", variants=("base", "php"))
    target = folder / (CONTRACT if damage == "archive" else "sha256sums.txt")
    data = target.read_bytes()
    target.write_bytes(data[:-1] + b"!" if damage == "archive" else b"0" * 64 + data[64:])
    assert here.promote(folder) == 5
    assert here.fake.writes == []


# -- rollback and prune ----------------------------------------------------------------------------


def test_rollback_makes_the_version_before_the_current_one_again(here: Site) -> None:
    old, new = here.release("v1"), here.release("v2")
    here.promote(old)
    here.promote(new)
    assert here.run("rollback", "--yes") == 0
    assert stored_sums(here)[CONTRACT] == sums(old)[CONTRACT]
    assert here.run("rollback", "--to", "v2", "--yes") == 0
    assert stored_sums(here)[CONTRACT] == sums(new)[CONTRACT]


def test_rollback_asks_before_it_changes_anything(here: Site) -> None:
    here.promote(here.release("v1"))
    here.promote(here.release("v2"))
    here.fake.calls.clear()
    assert here.run("rollback") == 0
    assert here.fake.writes == []


@pytest.mark.parametrize("args", [[], ["--to", "v7"]])
def test_rollback_to_nothing_is_refused(here: Site, args: list[str]) -> None:
    here.promote(here.release("v1"))
    assert here.run("rollback", "--yes", *args) == 2


def test_prune_keeps_the_newest_the_used_and_everything_foreign(
    three: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = three.fake.folder("pve1", "tmpl")
    foreign = cache / "debian-13-standard_13.6-1_amd64.tar.zst"
    foreign.write_bytes(b"x")
    for number in range(1, 6):
        three.promote(three.release(f"v{number}"), "--versioned", "--node", "pve1")
        age = 1_700_000_000 + number * 86400
        os.utime(cache / f"{BASE}_v{number}.tar.xz", (age, age))
    used = f"tmpl:vztmpl/{BASE}_v1.tar.xz"
    assert three.run("prune", "--keep", "2", "--in-use", used) == 0
    assert len(three.stored()) == 6
    assert three.run("prune", "--keep", "2", "--in-use", used, "--yes") == 0
    left = {f"{BASE}_v{number}.tar.xz" for number in (1, 4, 5)}
    assert set(three.stored()) == left | {foreign.name}
    assert "in use" in capsys.readouterr().out


def test_prune_without_the_right_names_it(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.run("prune", "--keep", "1", "--yes") == 2
    assert "lacks Datastore.Allocate on /storage/tmpl" in capsys.readouterr().err


# -- doctor ----------------------------------------------------------------------------------------


def test_doctor_prints_lines_that_mend_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = make_certificate(tmp_path)
    fake = FakeProxmox(
        root=tmp_path / "pve",
        certificate=certificate,
        key=key,
        nodes={"pve1": Node("pve1")},
        storages={"tmpl": Storage("tmpl")},
        auth_delay=0.01,
    )
    with fake:
        here = Site(fake, tmp_path, fake.token(TOKEN))
        assert here.run("doctor", "proxmox") == 2
        printed = capsys.readouterr().out
        assert "MISSING" in printed
        for line in printed.splitlines():
            if line.strip().startswith("pveum"):
                fake.access.pveum(line.strip())
        assert here.run("doctor", "proxmox") == 0
        assert "pveum" not in capsys.readouterr().out


def test_doctor_without_an_endpoint_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["doctor", "proxmox"], {"HOME": str(tmp_path)}) == 2
    assert "--endpoint is missing" in capsys.readouterr().out
