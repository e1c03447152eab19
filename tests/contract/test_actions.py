"""action.yml and the command line say the same, in both directions; nothing of a caller is code."""

import ast
import importlib.util
import inspect
import re
import types
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hakim_actions import matrix
from hakim_actions.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
COMPOSITES = sorted(path.parent.name for path in ROOT.glob("*/action.yml"))
FILES = [ROOT / "action.yml", *(ROOT / name / "action.yml" for name in COMPOSITES)]
WORKFLOWS = sorted(
    [*ROOT.glob(".github/workflows/*.y*ml"), *ROOT.glob("examples/*/.github/workflows/*.yml")]
)

#: Options that are no inputs, and why.
NOT_INPUTS = {
    "json": "the outputs of the step are for machines; its log is for people",
    "insecure": "in a workflow a certificate is checked, by ca-file or fingerprint",
    "yes-insecure": "likewise",
    "variable": "one text cannot carry several values with spaces: TF_VAR_<name>, variables-file",
}
#: Inputs that are no options, and what they become.
VARIABLES = {
    "github-token": "HAKIM_SET_GITHUB_TOKEN",
    ("promote", "token"): "HAKIM_SET_PROXMOX_TOKEN",
    ("push-templates", "token"): "HAKIM_SET_CODER_SESSION_TOKEN",
    ("verify", "paths"): "HAKIM_ARGUMENTS",
    ("publish", "folders"): "HAKIM_ARGUMENTS",
    ("push-templates", "names"): "HAKIM_ARGUMENTS",
}


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def action(name: str) -> dict[str, Any]:
    return load(ROOT / name / "action.yml")


def run_step(document: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = document["runs"]["steps"][-1]
    return step


def command(name: str) -> click.Command:
    found = cli.group.get_command(click.Context(cli.group), name)
    assert found is not None, f"{name}/action.yml is there, the command is not"
    return found


def options(name: str) -> dict[str, click.Option]:
    found = {}
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            found[max(parameter.opts, key=len).removeprefix("--")] = parameter
    return found


def variable_of(name: str, option: click.Option) -> str:
    """Return the variable that an input has to become so that it wins over all others.

    click looks into an option's own variables first, and then into HAKIM_<COMMAND>_<PARAMETER>.
    """
    own = option.envvar if isinstance(option.envvar, str) else (option.envvar or [""])[0]
    automatic = f"HAKIM_{name}_{option.name}".upper().replace("-", "_")
    if not own:
        return automatic
    return own if own.startswith("HAKIM_") else f"HAKIM_SET_{own}"


def expected_variables(name: str) -> dict[str, str]:
    found = {
        long: variable_of(name, option)
        for long, option in options(name).items()
        if long not in NOT_INPUTS
    }
    for key, variable in VARIABLES.items():
        if key == "github-token":
            if name in {"matrix", "promote", "publish", "verify"}:
                found["github-token"] = variable
        elif key[0] == name:
            found[key[1]] = variable
    return found


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_option_is_an_input_and_every_input_an_option(name: str) -> None:
    document = action(name)
    given = {
        value.removeprefix("${{ inputs.").removesuffix(" }}"): variable
        for variable, value in run_step(document)["env"].items()
    }

    assert given == expected_variables(name)
    assert set(document["inputs"]) == {*given, "working-directory"}


def set_outputs(module: types.ModuleType) -> set[str]:
    """Return the names in every ``set_output(env, NAME, …)``, also of a loop over literal pairs."""
    tree = ast.parse(inspect.getsource(module))
    found: set[str] = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        loops = {
            loop.target.elts[0].id: loop.iter
            for loop in ast.walk(function)
            if isinstance(loop, ast.For)
            and isinstance(loop.target, ast.Tuple)
            and isinstance(loop.target.elts[0], ast.Name)
        }
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("set_output"):
                found |= _names(call.args[1], loops)
    return found


def _names(argument: ast.expr, loops: dict[str, ast.expr]) -> set[str]:
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    if isinstance(argument, ast.Name) and isinstance(loops.get(argument.id), ast.Tuple):
        pairs = loops[argument.id]
        assert isinstance(pairs, ast.Tuple)
        return {
            ast.literal_eval(pair.elts[0]) for pair in pairs.elts if isinstance(pair, ast.Tuple)
        }
    return set()


def _first_only(pair: ast.expr) -> ast.Tuple:
    assert isinstance(pair, ast.Tuple)
    return ast.Tuple(elts=pair.elts[:1], ctx=ast.Load())


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_output_is_set_and_every_one_that_is_set_is_an_output(name: str) -> None:
    module = inspect.getmodule(command(name).callback)
    assert module is not None
    known = set_outputs(module)
    if importlib.util.find_spec(f"{module.__name__}_report"):
        known |= set_outputs(importlib.import_module(f"{module.__name__}_report"))
    if name == "matrix":
        known |= set(matrix.Matrix(rows=()).as_dict())
    if name == "push-templates":
        folders = ROOT.glob("coder/templates/*/main.tf")
        known |= {f"{folder.parent.name}-version" for folder in folders}
    document = action(name)
    outputs = document.get("outputs", {})

    assert set(outputs) == known
    assert {key: output["value"] for key, output in outputs.items()} == {
        key: f"${{{{ steps.{run_step(document)['id']}.outputs.{key} }}}}" for key in outputs
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_all_is_described_in_kebab_case_with_a_default(path: Path) -> None:
    document = load(path)
    for key, entry in {**document["inputs"], **document.get("outputs", {})}.items():
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", key)
        assert len(entry["description"]) > 10, key
        assert "required" not in entry, "the runner does not enforce it, so it would be a lie"
    assert all(isinstance(entry["default"], str) for entry in document["inputs"].values())
    assert document["name"].startswith("Hakim")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_an_action_uses_no_other_action_and_its_steps_are_shell_without_expressions(
    path: Path,
) -> None:
    for step in load(path)["runs"]["steps"]:
        assert "uses" not in step
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        script = re.search(r'"\$GITHUB_ACTION_PATH/([^"]+)"', step["run"])
        assert script, "the code is that of the ref the caller pinned"
        assert (path.parent / script[1]).resolve().is_relative_to(ROOT / "scripts")
        # With exec the program itself is told when a job is cancelled.
        assert step["run"].startswith("exec ")


def steps_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in document["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_workflow_grants_nothing_by_default_and_never_waits_forever(path: Path) -> None:
    document = load(path)

    assert document["permissions"] == {}
    assert "concurrency" in document
    for job in document["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] > 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_workflow_pins_others_keeps_no_token_and_has_no_expression_in_a_script(
    path: Path,
) -> None:
    text = path.read_text()
    for step in steps_of(load(path)):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    for reference in re.findall(r"uses: ([^\s]+.*)", text):
        if not reference.startswith(("./", "hakim/actions")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", reference)


def test_one_action_has_one_pin_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for name, pin in re.findall(r"uses: (actions/[\w-]+)[\w/-]*@(.+)", path.read_text()):
            pins.setdefault(name, set()).add(pin)

    assert {name: len(found) for name, found in pins.items()} == dict.fromkeys(pins, 1)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_workflow_gives_our_actions_only_inputs_they_have(path: Path) -> None:
    ours = re.compile(
        r"(?:hakim/actions|\./\.hakim-actions|\./elsewhere/hakim|\.)(/[\w-]+)?(?:@v1)?"
    )
    for step in steps_of(load(path)):
        match = ours.fullmatch(step.get("uses", ""))
        if match:
            document = load(ROOT / (match[1] or "").lstrip("/") / "action.yml")
            assert set(step.get("with", {})) <= set(document["inputs"])


@pytest.mark.parametrize(
    "path",
    [*WORKFLOWS, *sorted(ROOT.glob(".github/scripts/*.sh"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_workflow_runs_only_commands_that_exist(path: Path) -> None:
    for name in re.findall(r"hakim-actions ([a-z][a-z-]*)", path.read_text()):
        assert name in cli.COMMANDS


CACHING = [path for path in WORKFLOWS if "actions/cache/" in path.read_text()]


@pytest.mark.parametrize("path", CACHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_job_saves_what_it_restored_only_when_the_build_has_a_key_for_it(path: Path) -> None:
    for job in load(path)["jobs"].values():
        steps = {kind: uses_of(job, f"actions/cache/{kind}@") for kind in ("restore", "save")}
        restored = {step["with"]["path"]: step["with"] for step in steps["restore"]}
        for step in steps["save"]:
            part = re.sub(r".*outputs\.(\w+)-path.*", r"\1", step["with"]["path"])
            key = f"steps.build.outputs.{part}-key"
            assert step["with"]["key"] == f"${{{{ {key} }}}}"
            assert f"{key} != ''" in step["if"], "a copy of what came from the cache is no use"
            assert (
                restored[step["with"]["path"]]["key"]
                == f"${{{{ steps.cache.outputs.{part}-key }}}}"
            )


@pytest.mark.parametrize("path", CACHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_release_restores_nothing_that_another_run_made(path: Path) -> None:
    for job in load(path)["jobs"].values():
        for step in uses_of(job, "actions/cache/restore@"):
            condition = f"{step.get('if', '')} {step['with'].get('restore-keys', '')}"
            assert "github.ref_type != 'tag'" in condition


def uses_of(job: dict[str, Any], start: str) -> list[dict[str, Any]]:
    return [step for step in job.get("steps", []) if step.get("uses", "").startswith(start)]
