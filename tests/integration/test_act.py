"""act, an engine that runs workflows, uses the actions as a stranger would: offline, on loopback.

The servers are the fakes of GitHub, Proxmox and Coder. Of a build, distrobuilder and the boot are
stood in for (they need root and minutes; the real ones run in tests/e2e); packing, verifying, the
manifest and everything after that are real.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import coder, github, promotions
from images import ALLOW_MISSING
from rootfs import make_rootfs_tar

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache/workflow-tools"
STAND_INS = Path(__file__).parent / "act"
ACT = "v0.2.87"
ON_CI = bool(os.environ.get("CI"))
PINS = dict(
    re.findall(
        r"uses: (actions/[\w-]+)(?:/\w+)?@([0-9a-f]{40})",
        (ROOT / ".github/workflows/build-lxc-templates.yml").read_text(),
    )
)
RUNNERS = ("ubuntu-24.04", "ubuntu-24.04-arm", "self-hosted", "proxmox")
#: What must never be seen in a log.
CANARY = "canary-0d6ae2f1"

HOSTILE = {
    "substitution": "$(touch owned)",
    "backticks": "`touch owned`",
    "quotes": "\"; touch owned; '",
    "lines": "base\n::set-output name=pwned::yes\n::add-path::/evil",
    "delimiter": "EOF\npwned=yes",
    "option": "--help",
    "expression": "${{ toJSON(secrets) }}",
}


@dataclass(frozen=True)
class Ran:
    """A run of act: how it ended, and everything it printed."""

    code: int
    log: str

    def said(self, text: str) -> bool:
        return text in self.log


@dataclass(frozen=True)
class Act:
    """act with its tools, the copy of this project that `hakim/actions@v1` means, and a home."""

    program: Path
    hakim: Path
    home: Path
    artifacts: Path

    def run(
        self,
        consumer: Path,
        workflow: str,
        *,
        event: Mapping[str, Any] | None = None,
        name: str = "push",
        secrets: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 400,
    ) -> Ran:
        """Run *workflow* of the repository *consumer*; *env* is the environment of the runner."""
        payload = self.home / "event.json"
        payload.write_text(json.dumps(event or {}))
        argv = [
            # Secrets are not hidden, so that a test can look for them.
            *(
                str(self.program),
                "--insecure-secrets",
                name,
                "--workflows",
                workflow,
                "--eventpath",
                str(payload),
            ),
            *("--no-cache-server", "--artifact-server-addr", "127.0.0.1"),
            *("--artifact-server-path", str(self.artifacts)),
            *("--artifact-server-port", str(free_port())),
            *(word for runner in RUNNERS for word in ("-P", f"{runner}=-self-hosted")),
            *(word for pair in self._repositories() for word in ("--local-repository", pair)),
            *(word for key in secrets or {} for word in ("--secret", key)),
            *(word for pair in (variables or {}).items() for word in ("--var", "=".join(pair))),
        ]
        done = subprocess.run(
            argv,
            cwd=consumer,
            env={**self._environment(), **(secrets or {}), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        return Ran(code=done.returncode, log=done.stdout)

    def _repositories(self) -> Iterator[str]:
        yield f"hakim/actions@v1={self.hakim}"
        stand_ins = {
            "upload-artifact": "artifact",
            "download-artifact": "artifact",
            "cache": "cache",
        }
        for name, folder in stand_ins.items():
            yield f"actions/{name}@{PINS[f'actions/{name}']}={STAND_INS / folder}"

    def _environment(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "TERM")
        pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        pip.setdefault("PIP_CACHE_DIR", str(CACHE / "pip"))
        return {
            **{key: os.environ[key] for key in kept if key in os.environ},
            **pip,
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "HAKIM_TEST_CACHE": str(self.artifacts.with_name("cache-entries")),
        }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def missing(program: str, reason: str) -> None:
    if shutil.which(program) is None:
        if ON_CI:
            pytest.fail(f"{program} was not found; {reason}")
        pytest.skip(f"{program} was not found; {reason}")


@contextlib.contextmanager
def cached(name: str) -> Iterator[tuple[Path, bool]]:
    """Yield a folder of the cache and whether it still has to be filled; one process at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder, complete = CACHE / name, CACHE / name / ".complete"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        todo = not complete.exists()
        if todo:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        yield folder, todo
        complete.touch()


@pytest.fixture(scope="session")
def program() -> Path:
    missing("go", "act is compiled with it")
    with cached(f"act-{ACT}") as (folder, todo):
        if todo:
            subprocess.run(
                ("go", "install", f"github.com/nektos/act@{ACT}"),
                env={**os.environ, "GOBIN": str(folder)},
                check=True,
                timeout=900,
            )
    return folder / "act"


def copy_project(target: Path) -> None:
    """Copy what a checkout of this project would have."""
    listed = subprocess.run(
        ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


#: What a build needs root, a network or minutes for.
REPLACED = {
    "src/hakim_actions/image/rules_archive.py": "MIN_COMPRESSED = MIN_RAW = 0",
    "src/hakim_actions/image/mirror.py": """
def read_archive(*_, **__):
    return Archive(mirror="stood in for", security="", date=0, digests={})
""",
    "src/hakim_actions/image/build.py": """
def boot_test(*_, unpacked, **__):
    import types
    from hakim_actions.artifact import Check
    unpacked(lambda _data: None)
    return types.SimpleNamespace(checks=(Check(name="state"),), boot_seconds=1.5)
""",
    "src/hakim_actions/cli/build.py": """
preflight.check_build = lambda **_: None
elevate.become_root = lambda *_, **__: None
""",
}
#: Prints what an evil package might.
DISTROBUILDER = """#!/bin/bash
[[ $1 == --version ]] && { echo 3.3.1; exit; }
[[ $1 == validate ]] && exit
echo "::add-mask::trixie"
echo "::set-output name=pwned::by-a-child"
echo "E: a line of apt"
cp "$(dirname "$0")/rootfs.tar" "$3/rootfs.tar"
echo meta | xz > "$3/meta.tar.xz"
"""


@pytest.fixture(scope="session")
def real_act(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Act:
    """Return act with this project as it is."""
    folder = tmp_path_factory.mktemp("act")
    copy_project(folder / "hakim")
    (folder / "home").mkdir()
    return Act(
        program=program,
        hakim=folder / "hakim",
        home=folder / "home",
        artifacts=folder / "artifacts",
    )


@pytest.fixture(scope="session")
def act(real_act: Act, tmp_path_factory: pytest.TempPathFactory) -> Act:
    """Return act with this project, but for what a build needs root, a network or minutes for."""
    hakim = tmp_path_factory.mktemp("act-stand-ins") / "hakim"
    shutil.copytree(real_act.hakim, hakim, symlinks=True)
    for name, code in REPLACED.items():
        path = hakim / name
        path.write_text(f"{path.read_text()}\n{code}\n")
    (hakim / "scripts/action-setup-build.sh").write_text("#!/bin/bash\necho nothing to set up\n")
    return dataclasses.replace(real_act, hakim=hakim)


def repository(folder: Path, files: Mapping[str, str]) -> Path:
    """Make a repository of somebody with *files*, whose name and path have a space."""
    consumer = folder / "some body"
    for name, text in files.items():
        path = consumer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return commit(consumer)


def commit(consumer: Path) -> Path:
    git = ("git", "-c", "user.name=n", "-c", "user.email=e@example.com")
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("remote", "add", "origin", f"https://github.com/{github.REPOSITORY}.git"),
        ("add", "--all"),
        ("commit", "--quiet", "--message=all"),
        ("tag", "v1.2.0"),
    ):
        subprocess.run((*git, *words), cwd=consumer, check=True)
    return consumer


def head(consumer: Path) -> str:
    done = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=consumer, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def escaped(value: str) -> str:
    """Return *value* as data, also where the engine would evaluate an expression."""
    return value.replace("${{", "${{ '${{' }}")


def hostile_steps(where: str) -> dict[str, list[dict[str, Any]]]:
    """Return, for each action, a step for every hostile value."""
    inputs = {
        "matrix": "variant",
        "build": "release",
        "verify": "paths",
        "publish": "tag",
        "promote": "release",
        "push-templates": "version-name",
    }
    steps = {
        action: [
            {"uses": f"{where}/{action}", "with": {name: escaped(value)}}
            for value in HOSTILE.values()
        ]
        for action, name in inputs.items()
    }
    steps["root"] = [
        {
            "uses": where,
            "with": {"command": "verify", "args": f"--checksums-only\n--\n{escaped(value)}"},
        }
        for value in HOSTILE.values()
    ]
    return steps


def hostile_workflow(where: str) -> str:
    """Return a workflow with a job for each action.

    One job for all would be too long for act: it doubles its list of masks with each composite.
    """
    jobs = {}
    for action, steps in hostile_steps(where).items():
        for kind, step in zip(HOSTILE, steps, strict=True):
            step.update({"id": kind, "continue-on-error": True})
        outcomes = {kind: f"${{{{ steps.{kind}.outcome }}}}" for kind in HOSTILE}
        report = {
            "if": "always()",
            "env": {
                "OUTCOMES": json.dumps(outcomes),
                "PWNED": " ".join(f"${{{{ steps.{kind}.outputs.pwned }}}}" for kind in HOSTILE),
            },
            "run": 'echo "OUTCOMES=$OUTCOMES"; echo "PWNED=<${PWNED// /}>"; printf "FILES=%s\\n" *',
        }
        checkout = {"uses": f"actions/checkout@{PINS['actions/checkout']}"}
        jobs[action] = {"runs-on": "ubuntu-24.04", "steps": [checkout, *steps, report]}
    return yaml.safe_dump({"on": "push", "jobs": jobs}, width=10_000)


def test_no_input_of_any_action_is_ever_code(act: Act, tmp_path: Path) -> None:
    """The project lies in a subfolder of the workspace, as if it had been checked out there."""
    where = "./third-party/hakim"
    traps = dict.fromkeys(
        ("json.py", "click.py", "yaml.py", "hakim_actions.py"), "raise SystemExit('trapped')\n"
    )
    consumer = repository(tmp_path, {"w.yml": hostile_workflow(where), **traps, "a b/c": ""})
    copy_project(consumer / "third-party/hakim")
    shutil.copytree(act.hakim, consumer / "third-party/hakim", dirs_exist_ok=True)
    subprocess.run(("git", "add", "--all"), cwd=consumer, check=True)

    ran = act.run(consumer, "w.yml", secrets={"GITHUB_TOKEN": f"{CANARY}-token"})

    jobs = len(hostile_steps(where))
    assert "trapped" not in ran.log
    assert ran.log.count("PWNED=<>") == jobs, ran.log[-3000:]
    found = re.findall(r"OUTCOMES=(\{.*\})", ran.log)
    assert len(found) == jobs
    assert {outcome for one in found for outcome in json.loads(one).values()} == {"failure"}
    assert not any("owned" in files for files in re.findall(r"FILES=(.*)", ran.log))
    assert CANARY not in ran.log.replace("::add-mask::" + CANARY, "")
    for name in ("Traceback", "Unexpected "):
        assert name not in ran.log


class Shop(github.GitHub):
    """A private repository that also tells that it is one."""

    def answer(self, exchange: github.Exchange) -> tuple[int, Any]:
        if (exchange.method, exchange.route) == ("GET", f"/repos/{github.REPOSITORY}"):
            return 200, {"private": True}
        return super().answer(exchange)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    rest = 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"'
    for name, script in {
        "distrobuilder": DISTROBUILDER,
        "setpriv": f"#!/bin/bash\n{rest}\n",
    }.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    make_rootfs_tar(folder / "rootfs.tar")
    return folder


def consumer_of(example: str, folder: Path, source: Path) -> Path:
    """Make a repository from *example*, with images and templates of its own: one variant."""
    consumer = folder / "some body"
    shutil.copytree(ROOT / "examples" / example, consumer)
    shutil.copytree(source / "distrobuilder", consumer / "distrobuilder", symlinks=True)
    shutil.copytree(source / "coder", consumer / "coder", symlinks=True)
    path = consumer / "distrobuilder/variants.yaml"
    catalog = yaml.safe_load(path.read_text())
    base = {**catalog["variants"]["base"], "releases": ["trixie"], "architectures": ["amd64"]}
    path.write_text(yaml.safe_dump({**catalog, "variants": {"base": base}}))
    (consumer / "distrobuilder/tools.lock").write_text("schema: 1\ntools: {}\n")
    (consumer / "json.py").write_text("raise SystemExit('trapped')\n")
    return commit(consumer)


def fingerprint(certificate: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return hashlib.sha256(der).hexdigest()


def test_from_a_commit_to_coder_as_the_examples_show_it(
    act: Act, programs: Path, tmp_path: Path
) -> None:
    """matrix, build, verify, artifacts, publish; then plan, promote, push: the examples as is."""
    full = consumer_of("full", tmp_path / "full", act.hakim)
    promotion = consumer_of("self-hosted-promotion", tmp_path / "promotion", act.hakim)
    with (
        github.running(Shop()) as shop,
        promotions.site(tmp_path) as site,
        coder.serving(coder.FakeCoder()) as server,
    ):
        runner = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            # act sets GITHUB_API_URL itself; this is how it would be on another GitHub server.
            "HAKIM_SET_GITHUB_API_URL": shop.api_url,
            "HAKIM_SET_GITHUB_SERVER_URL": shop.base,
        }
        secrets = {
            "GITHUB_TOKEN": github.TOKEN,
            "PROXMOX_TOKEN": site.token,
            "PROXMOX_CODER_TOKEN": CANARY,
            "CODER_SESSION_TOKEN": coder.TOKEN,
        }
        published = act.run(
            full,
            ".github/workflows/templates.yml",
            event={"ref": "refs/tags/v1.2.0"},
            secrets=secrets,
            env=runner,
        )
        assert published.code == 0, published.log[-6000:]
        release = shop.published("v1.2.0")
        assert release is not None
        promoted = act.run(
            promotion,
            ".github/workflows/promote.yml",
            name="workflow_dispatch",
            event={"inputs": {"release": "v1.2.0"}},
            secrets=secrets,
            variables={
                "PROXMOX_ENDPOINT": site.fake.url,
                "PROXMOX_STORAGE": "tmpl",
                "PROXMOX_FINGERPRINT": fingerprint(site.fake.certificate),
                "CODER_URL": server.url,
            },
            env=runner,
        )
        assert promoted.code == 0, promoted.log[-6000:]
        stored = site.stored()
        active = {template.name for template in server.templates.values()}

    archive = f"{promotions.BASE}.tar.xz"
    digests = {asset["name"]: asset["digest"] for asset in release["assets"]}
    assert release["target_commitish"] == head(full)
    assert digests[archive] == f"sha256:{hashlib.sha256(stored[archive]).hexdigest()}"
    assert active == {"hakim", "hakim-proxmox"}
    assert published.said(f"| {shop.base}/{github.REPOSITORY}/releases/tag/v1.2.0")
    for ran in (published, promoted):
        assert not ran.said("trapped")
        for secret in secrets.values():
            assert secret not in unmasked(ran.log)


def test_the_next_run_finds_what_the_last_one_saved(
    act: Act, programs: Path, tmp_path: Path
) -> None:
    consumer = consumer_of("full", tmp_path, act.hakim)
    runner = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HAKIM_TEST_CACHE": str(tmp_path / "entries"),
    }

    def run() -> Ran:
        return act.run(
            consumer,
            ".github/workflows/templates.yml",
            event={"ref": "refs/heads/main"},
            env=runner,
        )

    first, second = run(), run()

    assert first.code == 0, first.log[-6000:]
    assert second.code == 0, second.log[-6000:]
    saved = sorted(entry.name.rpartition("-")[0] for entry in (tmp_path / "entries").iterdir())
    assert [name.rpartition("-")[0] for name in saved] == [
        "hakim-layer-trixie-amd64",
        "hakim-pieces-base-trixie-amd64-6",
    ]
    assert first.said("layer made, 0/")
    assert second.said("layer hit, ")
    assert not second.said("Saved hakim-")


def unmasked(log: str) -> str:
    """Return *log* without the commands that tell the runner what to hide: those are not shown."""
    return "\n".join(line for line in log.splitlines() if "::add-mask::" not in line)


def test_an_empty_matrix_is_a_good_end(act: Act, tmp_path: Path) -> None:
    """A pull request that touches no image: nothing is built, and the run is green."""
    consumer = consumer_of("full", tmp_path, act.hakim)

    ran = act.run(
        consumer,
        ".github/workflows/templates.yml",
        name="pull_request",
        event={"pull_request": {"base": {"sha": head(consumer)}, "number": 1}},
    )

    assert ran.code == 0, ran.log[-3000:]
    assert ran.said("0 images need a build.")
    assert not ran.said("Hakim build")


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to bootstrap Debian and to boot")
def test_the_minimal_example_gives_a_verified_artifact(real_act: Act, tmp_path: Path) -> None:
    """A new user copies the example into an empty folder, and nothing else."""
    consumer = tmp_path / "some body"
    shutil.copytree(ROOT / "examples/minimal", consumer)

    ran = real_act.run(
        commit(consumer),
        ".github/workflows/template.yml",
        # Where the internet is not reached, tools that come from it are left out.
        env={"HAKIM_SET_HAKIM_BUILD_ALLOW_MISSING": ",".join(ALLOW_MISSING)},
        timeout=1800,
    )

    assert ran.code == 0, ran.log[-6000:]
    assert ran.said("Rules broken: none.")
    (kept,) = real_act.artifacts.rglob("hakim-base*.zip")
    with zipfile.ZipFile(kept) as archive:
        (name,) = archive.namelist()
    assert name == "hakim-base-trixie-amd64.tar.xz"
