"""A test bed for the Coder templates: the real engine with the real providers, and no registry.

Providers are built once from the Go module proxy at the pins of ``providers.json`` (a module whose
checksum is another is refused) into a filesystem mirror below ``.cache/``. Registry modules are
stubs with the same variables and outputs, served on loopback.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from fakes import registry

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path(__file__).parent
MIRROR: Final = ROOT / ".cache/terraform/mirror"
TEMPLATES: Final = ROOT / "coder/templates"
_ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


@dataclass(frozen=True)
class Bed:
    """An engine and the file that tells it where providers and modules come from."""

    engine: str
    config: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment for the engine, without anything of this machine's Coder."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "TF_CLI_CONFIG_FILE": str(self.config),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            **more,
        }


@dataclass
class Stack:
    """A copy of a template with a state of its own; *prefix* runs the engine somewhere else."""

    bed: Bed
    folder: Path
    env: dict[str, str]
    prefix: Callable[[Sequence[str]], list[str]] = list
    parameters: dict[str, str] = field(default_factory=dict)
    previous: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the engine in the folder; never raises for a failure."""
        command = self.prefix([self.bed.engine, f"-chdir={self.folder}", *arguments])
        parameters = {_variable("", name): value for name, value in self.parameters.items()}
        previous = {_variable("PREVIOUS_", name): value for name, value in self.previous.items()}
        return subprocess.run(
            command,
            env={**self.env, **parameters, **previous, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def good(self, *arguments: str, **env: str) -> str:
        """Run the engine and return what it prints; a failure fails the test with it."""
        done = self.run(*arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def init(self) -> None:
        """Bring providers and modules."""
        self.good("init", "-no-color", "-input=false")

    def apply(self, **env: str) -> str:
        """Make it so."""
        return self.good("apply", "-no-color", "-auto-approve", "-input=false", **env)

    def plan(self, **env: str) -> dict[str, str]:
        """Return address → actions (``create``, ``delete,create``, …) of what would change."""
        plan = self.folder / "plan.bin"
        self.good("plan", "-no-color", "-input=false", f"-out={plan}", **env)
        document = json.loads(self.good("show", "-json", str(plan)))
        changes = document.get("resource_changes", [])
        return {
            change["address"]: ",".join(change["change"]["actions"])
            for change in changes
            if change["change"]["actions"] not in (["no-op"], ["read"])
        }

    def planned(self, **env: str) -> dict[str, Any]:
        """Return address → values of every resource after the plan."""
        plan = self.folder / "plan.bin"
        self.good("plan", "-no-color", "-input=false", f"-out={plan}", **env)
        document = json.loads(self.good("show", "-json", str(plan)))
        return dict(_resources(document["planned_values"]["root_module"]))

    def parameters_asked(self, **env: str) -> dict[str, dict[str, Any]]:
        """Return name → definition of every parameter that the form would show."""
        plan = self.folder / "plan.bin"
        self.good("plan", "-no-color", "-input=false", f"-out={plan}", **env)
        document = json.loads(self.good("show", "-json", str(plan)))
        known = dict(_resources(document["prior_state"]["values"]["root_module"]))
        return {v["name"]: v for a, v in known.items() if "data.coder_parameter." in a}

    def state(self) -> dict[str, Any]:
        """Return address → values of every resource there is."""
        document = json.loads(self.good("show", "-json"))
        return dict(_resources(document["values"]["root_module"])) if "values" in document else {}

    def refusal(self, **env: str) -> str:
        """Plan, and return the error it must end with, as one line."""
        done = self.run("plan", "-no-color", "-input=false", **env)
        assert done.returncode != 0, done.stdout
        return " ".join((done.stdout + done.stderr).replace("│", " ").split())


def _resources(module: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for resource in module.get("resources", ()):
        yield resource["address"], resource["values"]
    for child in module.get("child_modules", ()):
        yield from _resources(child)


def _variable(kind: str, parameter: str) -> str:
    """Return the variable that hands a parameter to the coder provider."""
    return f"CODER_PARAMETER_{kind}{hashlib.sha256(parameter.encode()).hexdigest()}"


def workspace_environment(**more: str) -> dict[str, str]:
    """Return what Coder tells its provider about a workspace."""
    return {
        "CODER_WORKSPACE_NAME": "dev",
        "CODER_WORKSPACE_ID": "6c1b8a0e-0000-4000-8000-000000000001",
        "CODER_WORKSPACE_OWNER": "Alice",
        "CODER_WORKSPACE_OWNER_NAME": "Alice Example",
        "CODER_WORKSPACE_OWNER_EMAIL": "alice@example.com",
        "CODER_WORKSPACE_OWNER_SSH_PRIVATE_KEY": "not a key",
        "CODER_WORKSPACE_OWNER_SSH_PUBLIC_KEY": "ssh-ed25519 AAAA coder",
        **more,
    }


def find_engine() -> str:
    """Return terraform or tofu, or skip the test."""
    for name in ("terraform", "tofu"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("neither terraform nor tofu is installed")


@contextmanager
def opened(scratch: Path) -> Iterator[Bed]:
    """Give the bed for the block; builds providers that the mirror does not have yet."""
    engine = find_engine()
    fill_mirror()
    with registry.serving(FOLDER / "registry") as modules:
        config = scratch / "terraform.rc"
        config.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{MIRROR}"\n  }}\n}}\n'
            f'host "registry.coder.com" {{\n  services = {{ "modules.v1" = "{modules}" }}\n}}\n'
        )
        yield Bed(engine, config)


def fill_mirror() -> None:
    """Build every provider of ``providers.json`` that is not in the mirror."""
    MIRROR.mkdir(parents=True, exist_ok=True)
    with (MIRROR / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for pin in json.loads((FOLDER / "providers.json").read_text()):
            kind = pin["source"].rpartition("/")[2]
            folder = MIRROR / pin["source"] / pin["version"] / f"linux_{_ARCH}"
            target = folder / f"terraform-provider-{kind}_v{pin['version']}"
            if not target.exists():
                _build(pin, target)


def _build(pin: Mapping[str, str], target: Path) -> None:
    """Build a provider as its own main module, so that its own pins and replacements hold."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        pytest.skip("Go is needed to build the providers")
    with tempfile.TemporaryDirectory(prefix="hakim-provider-") as scratch:
        module = f"{pin['module']}@{pin['module_version']}"
        said = subprocess.run(
            [go, "mod", "download", "-json", module],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        found = json.loads(said.stdout or "{}")
        if "Error" in found or not found:
            pytest.skip(f"the module proxy does not serve {module}: {found.get('Error')}")
        assert found["Sum"] == pin["sum"], f"{module} has checksum {found['Sum']}"
        source = Path(scratch) / "source"
        shutil.copytree(found["Dir"], source)
        subprocess.run(["chmod", "-R", "u+w", str(source)], check=True)
        built = Path(scratch) / target.name
        command = [go, "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"]
        subprocess.run(["nice", *command, "-o", str(built), "."], cwd=source, check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built, f"{target}.new")
        Path(f"{target}.new").rename(target)


def copy_template(name: str, folder: Path) -> Path:
    """Copy a template with its links resolved, as Coder gets it; returns the copy."""
    target = folder / name
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    shutil.copytree(TEMPLATES / name, target, ignore=ignored)
    return target
