"""push-templates against a Coder server with its real rules."""

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import coder as fakes
from fakes.coder import TOKEN, ApiError, FakeCoder, Raw

from hakim_actions.cli.main import main

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "TF_VAR_proxmox_endpoint": "https://pve.example.com:8006/",
    "TF_VAR_proxmox_api_token": "coder@pve!tf=secret",
}
GIT = {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.0", "GITHUB_SHA": "0123456789abcdef"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCoder]:
    monkeypatch.setattr("hakim_actions.coder.imports._POLL_SECONDS", 0.01)
    monkeypatch.setattr("hakim_actions.system.http.backoff", lambda *_, **__: 0.01)
    with fakes.serving(FakeCoder()) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the templates that a test may change."""
    for folder in ("coder", "distrobuilder"):
        shutil.copytree(
            ROOT / folder,
            tmp_path / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("out", ".terraform*"),
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(fake: FakeCoder, **more: str) -> dict[str, str]:
    return {
        "CODER_URL": fake.url,
        "CODER_SESSION_TOKEN": TOKEN,
        "PATH": "/usr/bin:/bin",
        **GIT,
        **VARIABLES,
        **more,
    }


def push(fake: FakeCoder, *arguments: str, **env: str) -> int:
    return main(["push-templates", *arguments], environment(fake, **env))


def change(project: Path, template: str = "hakim") -> None:
    with (project / f"coder/templates/{template}/main.tf").open("a") as stream:
        stream.write(f"\n# {time.monotonic()}\n")


def active_names(fake: FakeCoder) -> dict[str, str]:
    return {t.name: fake.versions[t.active_version_id].name for t in fake.templates.values()}


def test_first_push_creates_both_templates(
    fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(fake) == 0
    assert active_names(fake) == {"hakim": "v1.2.0", "hakim-proxmox": "v1.2.0"}
    about = {t.name: t.about for t in fake.templates.values()}
    assert about["hakim-proxmox"]["display_name"] == "Hakim AI (Proxmox)"
    assert fake.active("hakim-proxmox").values["proxmox_api_token"] == "coder@pve!tf=secret"  # noqa: S105
    assert fake.active("hakim").values == {}, "another template's secrets are none of its business"
    output = capsys.readouterr()
    assert "hakim-proxmox: created (v1.2.0)" in output.out
    assert "of 1.0 MB" in output.out
    assert "secret" not in output.out + output.err


def test_no_change_is_no_write_and_takes_no_second(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    fake.requests.clear()
    start = time.process_time()  # of this process, server included: others work here, too
    assert push(fake) == 0
    assert time.process_time() - start < 1
    assert fake.writes == []


def test_only_what_changed_is_pushed(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    change(project, "hakim")
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 0
    assert active_names(fake) == {"hakim": "v1.3.0", "hakim-proxmox": "v1.2.0"}


def test_changed_secret_is_a_change(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    rotated = {"TF_VAR_proxmox_api_token": "coder@pve!tf=rotated", "GITHUB_REF_NAME": "v1.2.1"}
    assert push(fake, **rotated) == 0
    assert fake.active("hakim-proxmox").values["proxmox_api_token"] == "coder@pve!tf=rotated"  # noqa: S105
    assert active_names(fake) == {"hakim": "v1.2.0", "hakim-proxmox": "v1.2.1"}


def test_values_that_are_no_secrets_are_taken_over(fake: FakeCoder, project: Path) -> None:
    assert push(fake, "--variable", "proxmox_node_name=pve7") == 0
    change(project, "hakim-proxmox")
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 0
    assert fake.active("hakim-proxmox").values["proxmox_node_name"] == "pve7"


def test_provisioner_tags_are_taken_over(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    fake.active("hakim").tags["zone"] = "a"
    change(project)
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 0
    assert fake.active("hakim").tags == {"zone": "a"}


def test_dry_run_writes_nothing(
    fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(fake, "--dry-run") == 0
    assert fake.writes == []
    assert "hakim: would push (v1.2.0)" in capsys.readouterr().out


def test_no_activate_leaves_the_old_version(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    change(project)
    assert push(fake, "--no-activate", GITHUB_REF_NAME="v1.3.0") == 0
    assert active_names(fake)["hakim"] == "v1.2.0"
    assert [v.name for v in fake.versions.values() if v.status == "succeeded"].count("v1.3.0") == 1


def test_rollback_activates_the_version_before(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    for name in ("hakim", "hakim-proxmox"):
        change(project, name)
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 0
    assert push(fake, "--rollback", "--dry-run") == 0
    assert set(active_names(fake).values()) == {"v1.3.0"}
    assert push(fake, "--rollback") == 0
    assert set(active_names(fake).values()) == {"v1.2.0"}


def test_pushing_other_content_under_a_taken_name_makes_a_revision(
    fake: FakeCoder, project: Path
) -> None:
    assert push(fake) == 0
    change(project)
    assert push(fake) == 0
    assert active_names(fake)["hakim"] == "v1.2.0-r2"


def test_interrupted_push_is_taken_up_again(fake: FakeCoder, project: Path) -> None:
    """The version was made and imported, but the answer to its activation never came."""
    assert push(fake) == 0
    change(project)
    fake.fault("PATCH", "/templates/[^/]+/versions", Raw(502), times=20)
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 8
    fake.faults.clear()
    for version in fake.versions.values():
        version.archived = False
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 0
    assert [v.name for v in fake.versions.values()].count("v1.3.0") == 1, "no second import"


def test_release_index_is_packed(fake: FakeCoder, project: Path) -> None:
    entry = {
        "variant": "php",
        "release": "trixie",
        "arch": "amd64",
        "content_key": "k",
        "files": {
            "archive": {"name": "hakim-php-trixie-amd64.tar.xz", "size": 1, "sha256": "a" * 64}
        },
        "packages": {f"p{n}": "1" for n in range(1000)},
        "image": "ghcr.io/o/hakim-php@sha256:" + "b" * 64,
    }
    index = {"schema": 1, "version": "v1.2.0", "commit": "c", "epoch": 1, "entries": [entry]}
    index["base_url"] = "https://example.com/v1.2.0/"
    (project / "index.json").write_text(json.dumps(index))
    assert push(fake, "--index", "index.json") == 0
    data = fake.files[fake.active("hakim-proxmox").file_id]
    assert b"https://example.com/v1.2.0/hakim-php-trixie-amd64.tar.xz" in data
    assert b"p999" not in data


# -- what goes wrong --


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault that meets a push of two changed templates, and what the user is told."""

    name: str
    method: str = ""
    path: str = ""
    answer: Raw | ApiError = dataclasses.field(default_factory=lambda: Raw(500))
    says: str = ""
    code: int = 8
    skip: int = 0
    times: int = 1


HTML = {"Content-Type": "text/html"}
FAULTS = [
    Fault(
        "expired token",
        "GET",
        "/users/me/organizations",
        ApiError(401, "signed out"),
        "does not accept the session token",
    ),
    Fault("not allowed", "POST", "/files", ApiError(403, "Forbidden."), "role Template Admin"),
    Fault(
        "login page with 200",
        "GET",
        "/users/me/organizations",
        Raw(200, b"<html>", HTML),
        "web page instead of Coder",
    ),
    Fault(
        "gateway page",
        "GET",
        "/users/me/organizations",
        Raw(404, b"<html>", HTML),
        "web page instead of Coder",
    ),
    Fault(
        "redirect to another host",
        "GET",
        "/users/me/organizations",
        Raw(307, b"", {"Location": "https://evil.example/"}),
        "the token must not go",
    ),
    Fault("not JSON", "GET", "/users/me/organizations", Raw(200, b"ok"), "not JSON"),
    Fault(
        "rate limit", "POST", "/files", Raw(429, b"", {"Retry-After": "0"}), "12 a minute", times=9
    ),
    Fault(
        "body too large for a proxy",
        "POST",
        "/files",
        Raw(413, b"too large"),
        "larger than something in front",
    ),
    Fault(
        "wrong content type",
        "POST",
        "/files",
        ApiError(400, "Unsupported content type"),
        "Unsupported content type",
    ),
    Fault(
        "Terraform that cannot be read",
        "POST",
        ".*/templateversions",
        ApiError(500, "Internal error checking workspace tags", "parse module: x"),
        "cannot read the Terraform files",
    ),
    Fault(
        "invalid name",
        "POST",
        ".*/templateversions",
        ApiError(400, "Validation failed.", validations=[{"field": "name", "detail": "bad"}]),
        "name: bad",
    ),
    Fault("server error at the version", "POST", ".*/templateversions", Raw(500, b"boom"), "boom"),
    Fault(
        "organization gone",
        "POST",
        ".*/templateversions",
        ApiError(404, "not found"),
        "may not see it",
    ),
    Fault(
        "second activation refused",
        "PATCH",
        "/templates/[^/]+/versions",
        ApiError(403, "Only versions that have been built successfully can be promoted."),
        "is back to what it was",
        skip=1,
    ),
    Fault(
        "second upload fails",
        "POST",
        "/files",
        ApiError(403, "Forbidden."),
        "hakim neither",
        skip=1,
    ),
    Fault(
        "unreachable while polling",
        "GET",
        "/templateversions/[^/]+",
        Raw(503),
        "503",
        skip=3,
        times=9,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_leaves_the_old_versions_active(
    fault: Fault, fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(fake) == 0
    for name in ("hakim", "hakim-proxmox"):
        change(project, name)
    capsys.readouterr()
    fake.fault(fault.method, fault.path, fault.answer, skip=fault.skip, times=fault.times)
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == fault.code
    assert fault.says in capsys.readouterr().err
    assert set(active_names(fake).values()) == {"v1.2.0"}
    fake.faults.clear()
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 0, "the next push is not in the way of the last"
    assert all(name.startswith("v1.3.0") for name in active_names(fake).values())


@pytest.mark.parametrize("retried", [502, 503, 504])
def test_passing_trouble_is_not_seen(retried: int, fake: FakeCoder, project: Path) -> None:
    fake.fault("GET", "/users/me/organizations", Raw(retried), times=2)
    fake.fault("POST", "/files", Raw(429, b"", {"Retry-After": "0"}))
    assert push(fake) == 0


def test_missing_variables_are_named(
    fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(fake, TF_VAR_proxmox_api_token="") == 8
    said = capsys.readouterr().err
    assert "'hakim-proxmox' needs values for: proxmox_api_token." in said
    assert "TF_VAR_<name>" in said
    assert fake.templates == {}, "not even the template that was good"
    assert all(version.archived for version in fake.versions.values())


def test_failed_import_is_archived(
    fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(fake) == 0
    change(project)
    old = set(fake.versions)
    fake.import_steps = ["pending", "running", "failed"]
    assert push(fake, GITHUB_REF_NAME="v1.3.0") == 8
    assert "The import of 'hakim' failed" in capsys.readouterr().err
    assert [v.archived for i, v in fake.versions.items() if i not in old] == [True]


def test_one_by_one_keeps_what_is_good(fake: FakeCoder, project: Path) -> None:
    assert push(fake) == 0
    for name in ("hakim", "hakim-proxmox"):
        change(project, name)
    fake.fault("POST", "/files", ApiError(403, "Forbidden."))
    assert push(fake, "--one-by-one", GITHUB_REF_NAME="v1.3.0") == 8
    assert active_names(fake) == {"hakim": "v1.2.0", "hakim-proxmox": "v1.3.0"}


@pytest.mark.parametrize(
    ("provisioners", "says"), [((0, 0), "No provisioner"), ((2, 0), "all offline")]
)
def test_no_provisioner_fails_at_once(
    provisioners: tuple[int, int],
    says: str,
    fake: FakeCoder,
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake.provisioners = provisioners
    fake.import_steps = ["pending", "pending"]
    assert push(fake) == 8
    assert says in capsys.readouterr().err
    assert all(v.status == "canceled" and v.archived for v in fake.versions.values())


def test_first_template_is_removed_when_the_second_cannot_be_created(
    fake: FakeCoder, project: Path
) -> None:
    fake.fault("POST", ".*/templates", ApiError(409, "Template already exists."), skip=1)
    assert push(fake) == 8
    assert fake.templates == {}


def test_several_organizations_are_named(
    fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.organizations["other"] = "00000000-0000-0000-0000-000000000002"
    assert push(fake) == 8
    assert "default, other" in capsys.readouterr().err
    assert push(fake, "--organization", "other") == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--variable", "proxmox_nod_name=x"), "Did you mean 'proxmox_node_name'"),
        (("--variable", "proxmox_api_token=x"), "TF_VAR_proxmox_api_token"),
        (("--variable", "novalue"), "expected NAME=VALUE"),
        (("--version-name", "a/b"), "does not take 'a/b'"),
        (("hakin",), "Did you mean 'hakim'"),
    ],
)
def test_wrong_words_are_answered_before_anything_is_sent(
    arguments: tuple[str, ...],
    says: str,
    fake: FakeCoder,
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert push(fake, *arguments) == 2
    assert says in capsys.readouterr().err
    assert fake.requests == []


def test_missing_address_and_token_are_named_together(
    fake: FakeCoder, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(fake, CODER_URL="", CODER_SESSION_TOKEN="") == 2
    said = capsys.readouterr().err
    assert "CODER_URL" in said
    assert "CODER_SESSION_TOKEN" in said
