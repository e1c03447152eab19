"""The small rules of promotion: names, versions, rights, state, what may be deleted."""

from pathlib import Path

import pytest
from fakes.proxmox_access import Access, Entry, Token
from hypothesis import given, settings
from hypothesis import strategies as st

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import ConfigurationError
from hakim_actions.promote import compat, names, prune, rights, rollback
from hakim_actions.promote import endpoint as endpoints
from hakim_actions.promote.api import task_node
from hakim_actions.promote.directory import Directory
from hakim_actions.promote.rights import ROLES, Rights
from hakim_actions.promote.state import Record, State, Stored
from hakim_actions.system.tls import Trust

BASE = ArtifactName("base", "trixie", "amd64")
DAY = 86400


@settings(deadline=None)
@given(st.text(min_size=1))
def test_a_versioned_name_survives_the_storage_and_is_known_again(version: str) -> None:
    try:
        name = names.versioned(BASE, version)
    except ConfigurationError:
        return
    assert set(name.archive) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
    )
    assert names.ours(name.archive) == name
    assert names.contract(name) == BASE


@pytest.mark.parametrize("name", ["debian-13-standard_13.6-1_amd64.tar.zst", "hakim.tar.xz", ""])
def test_foreign_names_are_not_ours(name: str) -> None:
    assert names.ours(name) is None


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ("5.2.6", ["refuses ostype debian"]),
        ("5.3.1", []),
        ("6.0.9-1", ["refuses ostype debian"]),
        ("6.0.10", []),
        ("6.0.19", ["cannot create", "WARNINGS: 1"]),
        ("6.1.0", ["cannot create", "WARNINGS: 1"]),
        ("6.1.1", ["WARNINGS: 1"]),
        ("", []),
    ],
)
def test_versions_of_pve_container_are_judged(container: str, words: list[str]) -> None:
    lines = compat.advice(pve="9.1.1", container=container, releases=["trixie"])
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_bookworm_is_fine_on_old_versions() -> None:
    assert compat.advice(pve="8.2", container="5.2.6", releases=["bookworm"]) == []


@pytest.mark.parametrize("version", ["7.4-3", "6"])
def test_an_unmaintained_proxmox_is_named(version: str) -> None:
    assert "older than 8" in compat.advice(pve=version, container="", releases=[])[0]


def held_by(access: Access, who: str) -> Rights:
    return Rights(lambda path: {path: dict.fromkeys(access.on(who, path), 1)})


def test_a_token_has_only_what_its_user_has_too() -> None:
    access = Access(
        roles={"R": frozenset({"Datastore.AllocateTemplate", "Datastore.Audit"})},
        acl=[Entry("/storage/tmpl", "u@pve!t", "R", propagate=True)],
        tokens={"u@pve!t": Token("s")},
    )
    need = rights.needs("tmpl", [])[0]
    assert held_by(access, "u@pve!t").lacks(need) == need.privileges
    access.acl.append(Entry("/storage/tmpl", "u@pve", "R", propagate=True))
    assert held_by(access, "u@pve!t").lacks(need) == ()


def test_the_older_way_to_let_a_node_download_counts_too() -> None:
    need = next(n for n in rights.needs("tmpl", ["pve1"]) if n.role == "HakimFetch")
    old = {"/": {"Sys.Audit": 1, "Sys.Modify": 1}}
    assert Rights(lambda path: {path: old.get(path, {})}).lacks(need) == ()
    assert Rights(lambda path: {path: {}}).lacks(need) == ("Sys.AccessNetwork",)


def test_the_lines_for_a_need_grant_just_that() -> None:
    token = endpoints.Token.parse("u@pve!t=s", source="x")
    for need in rights.needs("tmpl", ["pve1"]):
        access = Access(users={"u@pve"}, tokens={"u@pve!t": Token("s")})
        for line in rights.grant_lines(need, token):
            access.pveum(line)
        assert set(access.on("u@pve!t", need.path)) == set(ROLES[need.role])
        assert held_by(access, "u@pve!t").lacks(need) == ()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://pve1", "pve1", 8006),
        ("https://pve1.example:443/", "pve1.example", 443),
        ("https://[2001:db8::1]:8006", "2001:db8::1", 8006),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    endpoint = endpoints.Endpoint.parse(text, trust=Trust())
    assert (endpoint.host, endpoint.port) == (host, port)


def test_a_secret_is_not_in_the_repr() -> None:
    assert "hush" not in repr(endpoints.Token.parse("u@pve!t=hush", source="x"))


def test_the_node_of_a_task_is_in_its_upid() -> None:
    assert task_node("UPID:pve2:00001000:002A0000:6B044837:imgcopy::a@pve!ci:") == "pve2"
    assert task_node("nonsense") == ""


def record(file: str, version: str, sha256: str = "a", source: str = "s") -> Record:
    return Record(
        store="s", file=file, size=1, changed=1, sha256=sha256, version=version, source=source
    )


def test_a_state_is_written_whole_and_read_again(tmp_path: Path) -> None:
    state = State.load(tmp_path / "deep" / "state.json")
    state.add(record("f", "v1"))
    assert State.load(tmp_path / "deep" / "state.json").records == state.records
    assert (tmp_path / "deep" / "state.json").read_text() == state.to_json()


@pytest.mark.parametrize("change", [{"size": 2}, {"changed": 2}])
def test_a_record_counts_only_for_the_untouched_file(change: dict[str, int]) -> None:
    state = State()
    state.add(record("f", "v1"))
    values = {"name": "f", "size": 1, "changed": 1}
    assert state.knows("s", Stored(**values)) == "a"  # type: ignore[arg-type]
    assert state.knows("s", Stored(**{**values, **change})) == ""  # type: ignore[arg-type]


def test_a_lost_state_is_rebuilt_from_our_names() -> None:
    state = State()
    ours = names.versioned(BASE, "v1").archive
    state.rebuild("s", [Stored(name=ours, size=1, changed=1), Stored(name="x", size=1, changed=1)])
    assert [(r.file, r.version, r.sha256) for r in state.records] == [(ours, "v1", "")]


def test_the_history_of_a_name_stays_bounded() -> None:
    state = State()
    for number in range(50):
        state.add(record("f", f"v{number}", sha256=str(number)))
    assert len(state.records) == 20
    assert state.records[-1].version == "v49"


def test_rollback_goes_back_in_the_order_of_first_promotion() -> None:
    state = State()
    for version in ("v1", "v2", "v3", "v2"):  # the last one: rolled back once
        state.add(record("f", version, sha256=version))
    assert rollback.choose(state) == "v1"


FILES = [
    Stored(name=names.versioned(BASE, f"v{n}").archive, size=1, changed=n * DAY)
    for n in range(1, 6)
]


def kept(**options: object) -> set[str]:
    defaults: dict[str, object] = {
        "state": State(), "keep": 1, "older_than": None, "in_use": frozenset(), "now": 10 * DAY,
    }  # fmt: skip
    verdicts = prune.judge(Directory(Path("/x")), FILES, **{**defaults, **options})  # type: ignore[arg-type]
    return {v.stored.name[-9:-7] for v in verdicts if v.reason}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"v5"}),
        ({"keep": 3}, {"v3", "v4", "v5"}),
        ({"older_than": 7.5}, {"v3", "v4", "v5"}),
        ({"in_use": frozenset({FILES[0].name})}, {"v1", "v5"}),
    ],
    ids=str,
)
def test_what_prune_keeps(options: dict[str, object], expected: set[str]) -> None:
    assert kept(**options) == expected


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.none() | st.floats(0, 20),
    st.frozensets(st.sampled_from(FILES), max_size=5),
)
def test_prune_never_takes_the_newest_nor_what_is_used(
    keep: int, older_than: float | None, used: frozenset[Stored]
) -> None:
    in_use = frozenset(stored.name for stored in used)
    left = kept(keep=keep, older_than=older_than, in_use=in_use)
    assert {"v5", *(name[-9:-7] for name in in_use)} <= left


def test_v10_is_newer_than_v9_within_a_second() -> None:
    same = [Stored(name=names.versioned(BASE, v).archive, size=1, changed=1) for v in ("v10", "v9")]
    verdicts = prune.judge(
        Directory(Path("/x")), same, state=State(), keep=1, older_than=None,
        in_use=frozenset(), now=2,
    )  # fmt: skip
    assert [v.stored.name for v in verdicts if not v.reason] == [same[1].name]


def test_ids_in_use_are_read_in_every_form() -> None:
    assert prune.parse_in_use(["tmpl:vztmpl/a.tar.xz, b.tar.xz", "/var/x/c.tar.xz"]) == {
        "a.tar.xz", "b.tar.xz", "c.tar.xz",
    }  # fmt: skip
