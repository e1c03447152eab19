"""The scripts of the modules, with programs that only write down how they were called."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

MODULES = Path(__file__).parents[2] / "coder/modules"
#: Marks what it was called with, and lets the health check succeed from then on.
SERVER = """
printf '%s\\n' "$0 $*" >>"$HOME/calls"
env >"$HOME/environment-${0##*/}"
cat >>"$HOME/stdin-${0##*/}"
touch "$HOME/healthy"
"""
CURL = "[[ -e $HOME/healthy ]]"
ENCODED = frozenset({"workdir", "config", "prompt", "pre_install", "post_install", "display_name"})


def render(module: str, values: Mapping[str, str]) -> str:
    """Fill a template in as templatefile() does, free texts in base64 as the modules do."""
    text = (MODULES / module / "scripts/start.sh.tftpl").read_text()
    for name, value in values.items():
        encoded = base64.b64encode(value.encode()).decode() if name in ENCODED else value
        text = text.replace("${" + name + "}", encoded)
    assert not re.search(r"(?<!\$)\$\{[a-z_]+\}", text), "a value is missing"
    return text.replace("$${", "${")


class Home:
    """A home folder, and programs on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        self.programs.mkdir()

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            env={"HOME": str(self.folder), "PATH": f"{self.programs}:/usr/bin:/bin", **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """Return each call of a server, without the folder of the program."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [re.sub(r"^\S*/", "", line) for line in lines]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    made.program("curl", CURL)
    yield made
    for pid in _processes_of(tmp_path):
        os.kill(pid, signal.SIGKILL)


def _processes_of(folder: Path) -> Iterator[int]:
    """Yield what the scripts left running: that is their job, and its home tells whose it is."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"HOME={folder}".encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def opencode(home: Home, **values: str) -> str:
    known = {
        "workdir": f"{home.folder}/it's a project",
        "port": "4096",
        "hostname": "127.0.0.1",
        "install": "true",
        "version": "1.2.3",
        "config": "{}",
        "prompt": "",
        "pre_install": "",
        "post_install": "",
    }
    return render("opencode", {**known, **values})


def wait_for(path: Path) -> str:
    for _ in range(200):
        if path.exists() and path.read_text():
            break
        subprocess.run(["sleep", "0.02"], check=True)
    return path.read_text()


def test_opencode_starts_once_with_its_settings(home: Home) -> None:
    home.program("opencode", SERVER)
    script = opencode(home, config='{"model": "a/b"}', prompt="Don't `panic`; $(id)")
    auth = base64.b64encode(b'{"a": "s3cret"}').decode()
    first = home.run(script, HAKIM_OPENCODE_AUTH=auth)
    assert first.returncode == 0, first.stderr
    assert wait_for(home.folder / "stdin-opencode") == "Don't `panic`; $(id)"
    second = home.run(script, HAKIM_OPENCODE_AUTH=auth)
    assert second.returncode == 0, second.stderr
    assert home.calls() == [
        "opencode web --hostname 127.0.0.1 --port 4096",
        "opencode run --attach http://127.0.0.1:4096",
    ], "neither the server nor the prompt twice"
    settings = home.folder / ".local/share/opencode/auth.json"
    assert json.loads(settings.read_text()) == {"a": "s3cret"}
    assert settings.stat().st_mode & 0o777 == 0o600
    config = home.folder / ".config/opencode/opencode.json"
    assert json.loads(config.read_text()) == {"model": "a/b"}


def test_opencode_keeps_credentials_that_people_made(home: Home) -> None:
    home.program("opencode", SERVER)
    auth = home.folder / ".local/share/opencode/auth.json"
    auth.parent.mkdir(parents=True)
    auth.write_text("mine")
    nothing = base64.b64encode(b"{}").decode()
    assert home.run(opencode(home), HAKIM_OPENCODE_AUTH=nothing).returncode == 0
    assert auth.read_text() == "mine"


def test_opencode_is_installed_only_when_the_image_has_none(home: Home) -> None:
    npm = 'echo "npm $*" >>~/npm; mkdir -p ~/.local/bin; cp ~/server ~/.local/bin/opencode'
    home.program("npm", npm)
    (home.folder / "server").write_text(f"#!/bin/bash\n{SERVER}\n")
    (home.folder / "server").chmod(0o755)
    done = home.run(opencode(home))
    assert done.returncode == 0, done.stderr
    assert "opencode-ai@1.2.3" in (home.folder / "npm").read_text()
    assert home.run(opencode(home)).returncode == 0
    assert len((home.folder / "npm").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("install", "says"), [("false", "switched off"), ("true", "neither OpenCode nor npm")]
)
def test_opencode_that_cannot_be_had_says_so(install: str, says: str, home: Home) -> None:
    tools = home.folder / "tools"
    tools.mkdir()
    for name in ("bash", "mkdir", "base64", "dirname"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    done = home.run(opencode(home, install=install), PATH=str(tools))
    assert done.returncode == 1
    assert says in done.stderr


def test_scripts_of_the_user_run_around_the_installation(home: Home) -> None:
    home.program("opencode", SERVER)
    done = home.run(
        opencode(home, pre_install="echo 'pre' >~/pre", post_install="cat ~/pre >~/post")
    )
    assert done.returncode == 0, done.stderr
    assert (home.folder / "post").read_text() == "pre\n"


def test_openchamber_uses_the_server_that_runs_and_hides_its_password(home: Home) -> None:
    home.program("openchamber", SERVER)
    home.program("curl", '[[ "$*" == *4096* || -e $HOME/healthy ]]')
    script = render(
        "openchamber",
        {
            "workdir": str(home.folder / "project"),
            "port": "6904",
            "install": "true",
            "version": "1.0.0",
            "reuse": "true",
            "opencode_port": "4096",
            "pre_install": "",
            "post_install": "",
        },
    )
    done = home.run(script, OPENCHAMBER_UI_PASSWORD="s3cret")  # noqa: S106
    assert done.returncode == 0, done.stderr
    assert home.calls() == ["openchamber serve --foreground --host 127.0.0.1 --port 6904"]
    environment = (home.folder / "environment-openchamber").read_text()
    assert "OPENCODE_SKIP_START=true" in environment
    assert "OPENCHAMBER_UI_PASSWORD=s3cret" in environment


def openclaw(**values: str) -> str:
    known = {
        "install": "true",
        "version": "1.0.0",
        "host": "gateway.example.com",
        "port": "18790",
        "tls": "true",
        "fingerprint": "a" * 64,
        "display_name": "alice's node",
        "gateway_url": "",
        "auto_approve": "false",
    }
    return render("openclaw-node", {**known, **values})


def test_openclaw_runs_one_node_with_the_token_in_its_environment(home: Home) -> None:
    home.program("openclaw", SERVER.replace("touch", "sleep 5; touch"))
    first, second = (home.run(openclaw(), OPENCLAW_GATEWAY_TOKEN="s3cret") for _ in range(2))  # noqa: S106
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    wait_for(home.folder / "environment-openclaw")
    assert home.calls() == [
        "openclaw node run --host gateway.example.com --port 18790 --tls --tls-fingerprint "
        + "a" * 64
        + " --display-name alice's node"
    ]
    assert "OPENCLAW_GATEWAY_TOKEN=s3cret" in (home.folder / "environment-openclaw").read_text()
    assert "already" in second.stdout


def test_scripts_are_clean_shell() -> None:
    for path in MODULES.glob("*/scripts/*.tftpl"):
        text = re.sub(r"(?<!\$)\$\{[a-z_]+\}", "x", path.read_text()).replace("$${", "${")
        done = subprocess.run(
            ["bash", "-n"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=dict(os.environ),
        )
        assert done.returncode == 0, f"{path}: {done.stderr}"
