"""The runtime of the composite actions: made once in a job, safe from its caller and the disk."""

import concurrent.futures
import os
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/action-runtime.sh"
#: What the script and what it calls need from the system, but for Python.
PROGRAMS = (
    *("bash", "cat", "cut", "dirname", "env", "flock", "id", "ln", "mkdir", "mktemp", "mv"),
    *("grep", "rm", "sha256sum", "readlink", "chmod"),
)
EVIL = "raise SystemExit('imported from the workspace')\n"


@dataclass(frozen=True)
class Runner:
    """A runner with traps in its workspace, and a temporary folder with a space in its name."""

    temp: Path
    workspace: Path

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.workspace),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ACTIONS": "true",
            "CI": "true",
            # What callers set for their own Python must not reach ours.
            "PYTHONPATH": str(self.workspace),
            "PIP_USER": "1",
            "PIP_TARGET": "/nonexistent",
            "PIP_CONSTRAINT": "/nonexistent",
            **{key: os.environ[key] for key in os.environ if key.startswith("PIP_INDEX")},
            **more,
        }

    def start(self, *argv: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            (SCRIPT, *argv),
            cwd=self.workspace,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def made(self) -> list[Path]:
        return [path for path in self.temp.iterdir() if not path.name.endswith(".lock")]


def make_runner(folder: Path) -> Runner:
    runner = Runner(temp=folder / "runner temp", workspace=folder / "work space")
    for path in (runner.temp, runner.workspace):
        path.mkdir(parents=True)
    for module in ("json", "click", "yaml", "hakim_actions", "sitecustomize"):
        (runner.workspace / f"{module}.py").write_text(EVIL)
    return runner


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Return a runner where two steps made the runtime at the same moment."""
    made = make_runner(tmp_path_factory.mktemp("runner"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: made.start("matrix", "--json"), range(2)))
    for done in both:
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"include"' in done.stdout
    return made


def test_steps_at_the_same_moment_make_one_runtime(runner: Runner) -> None:
    (made,) = runner.made()

    assert made.name.startswith("hakim-actions-")
    assert "-python3." in made.name


def test_a_later_step_starts_in_half_a_second(runner: Runner) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert runner.start("--version").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Of the processor, and the best of a few: the machine has other work, too.
    assert min(seconds() for _ in range(5)) < 0.5


def test_without_a_command_only_one_program_is_put_on_the_path(
    runner: Runner, tmp_path: Path
) -> None:
    listed = tmp_path / "path"

    assert runner.start(GITHUB_PATH=str(listed)).returncode == 0

    folder = Path(listed.read_text().strip())
    assert [path.name for path in folder.iterdir()] == ["hakim-actions"]
    done = subprocess.run(
        (folder / "hakim-actions", "matrix", "--help"),
        cwd=runner.workspace,
        env=runner.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Tell which images" in done.stdout


@pytest.mark.parametrize(
    "hostile", ["$(touch owned)", "`touch owned`", "a b;touch owned", "--json"]
)
def test_an_argument_is_a_name_whatever_it_looks_like(runner: Runner, hostile: str) -> None:
    done = runner.start("verify", HAKIM_ARGUMENTS=f"\n  \n{hostile}\n")

    assert done.returncode == 5
    assert f"FAILED file-usable: {hostile}\n" in done.stdout
    assert not (runner.workspace / "owned").exists()


def test_options_of_the_root_action_come_one_a_line(runner: Runner) -> None:
    done = runner.start("matrix", HAKIM_OPTIONS="--variant\nphp\n--json")

    assert done.returncode == 0
    assert "hakim-php-trixie-amd64" in done.stdout
    assert "hakim-base" not in done.stdout


def test_an_empty_input_leaves_the_variable_of_the_job_in_peace(runner: Runner) -> None:
    def asks_for_token(**more: str) -> bool:
        done = runner.start("push-templates", "--url", "nowhere", **more)
        return "CODER_SESSION_TOKEN" in done.stdout

    name, given = "CODER_SESSION_TOKEN", "HAKIM_SET_CODER_SESSION_TOKEN"
    assert asks_for_token(**{given: ""})
    assert not asks_for_token(**{given: "of-the-step"})
    assert not asks_for_token(**{name: "of-the-job", given: ""})


@pytest.mark.parametrize("value", ["True", "yes", "1", "on", "TRUE"])
def test_a_boolean_is_true_in_many_spellings(runner: Runner, value: str) -> None:
    done = runner.start("matrix", "--variant", "php", HAKIM_MATRIX_FAIL_IF_EMPTY=value)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("value", ["ture", "$(id)", "2"])
def test_another_word_is_refused_by_the_name_of_the_input(runner: Runner, value: str) -> None:
    done = runner.start("matrix", HAKIM_MATRIX_FAIL_IF_EMPTY=value)

    assert done.returncode == 2
    assert "'--fail-if-empty'" in done.stdout
    assert repr(value) in done.stdout


def test_a_cancelled_step_is_heard_by_the_program_itself(runner: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/index.json"
        with subprocess.Popen(
            (SCRIPT, "matrix", "--not-in", url),
            cwd=runner.workspace,
            env=runner.environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as step:
            server.settimeout(60)
            connection, _ = server.accept()
            with connection:
                step.send_signal(signal.SIGTERM)
                out, _ = step.communicate(timeout=60)

    assert step.returncode == 128 + signal.SIGTERM
    assert "Terminated." in out


@pytest.fixture
def bare(tmp_path: Path) -> Callable[[Mapping[str, str]], Runner]:
    """Return a function: a new runner whose PATH has little more than the given scripts."""

    def make(scripts: Mapping[str, str]) -> Runner:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in PROGRAMS:
            found = shutil.which(name)
            assert found is not None, name
            (programs / name).symlink_to(found)
        for name, script in scripts.items():
            (programs / name).write_text(f"#!/bin/bash\n{script}\n")
            (programs / name).chmod(0o755)
        return make_runner(tmp_path / "job")

    return make


def path_of(runner: Runner) -> str:
    return str(runner.workspace.parents[1] / "programs")


OLD_PYTHON = '[[ $1 == --version ]] && echo "Python 3.9.2"; [[ $1 == --version ]]'
NO_APT = {"apt-get": "exit 100", "apt-cache": "exit 1", "dpkg-query": "exit 1", "sudo": "exit 1"}


@pytest.mark.parametrize(
    ("scripts", "found"),
    [({**NO_APT, "python3": OLD_PYTHON}, "Python 3.9.2"), (NO_APT, "no Python 3")],
    ids=["Python 3.9", "no Python"],
)
def test_a_runner_without_a_python_that_is_new_enough_is_told_what_to_install(
    bare: Callable[[Mapping[str, str]], Runner], scripts: Mapping[str, str], found: str
) -> None:
    runner = bare(scripts)

    done = runner.start("matrix", PATH=path_of(runner))

    assert done.returncode == 2
    assert f"Python 3.11 or newer is needed; this runner has {found}" in done.stdout
    assert "::error title=hakim-actions::Python 3.11" in done.stdout
    assert "apt-get install python3-venv" in done.stdout


def test_without_a_folder_to_write_to_it_says_so(tmp_path: Path) -> None:
    runner = Runner(temp=tmp_path / "gone", workspace=tmp_path)

    done = runner.start("matrix")

    assert done.returncode == 2
    assert f"{tmp_path / 'gone'} cannot be written to" in done.stdout


def test_outside_of_a_workflow_it_says_that_it_is_not_for_that(tmp_path: Path) -> None:
    done = Runner(temp=tmp_path, workspace=tmp_path).start("matrix", RUNNER_TEMP="")

    assert done.returncode == 2
    assert "RUNNER_TEMP is not set" in done.stdout


def limited(argv: Sequence[str], *, file_size: int) -> list[str]:
    return ["prlimit", f"--fsize={file_size}", "--", *argv]


def test_a_full_disk_leaves_nothing_behind_that_a_later_step_would_use(tmp_path: Path) -> None:
    runner = make_runner(tmp_path)

    done = subprocess.run(
        limited([str(SCRIPT), "matrix"], file_size=100_000),
        cwd=runner.workspace,
        env=runner.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert done.returncode == 2
    assert "could not be set up" in done.stdout
    assert "a full disk" in done.stdout
    assert runner.made() == []
