"""Proves templates with Terraform or OpenTofu: format, init, validate, test."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hakim_actions.coder.template import Template
from hakim_actions.errors import ConfigurationError, TemplateError
from hakim_actions.system import process
from hakim_actions.system.progress import Progress

#: In the order of preference.
ENGINES: Final = ("terraform", "tofu")
#: What reaches the engine from the environment: where providers come from, and whom to trust.
_KEPT: Final = ("TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TF_DATA_DIR", "HTTPS_PROXY")
_TIMEOUT: Final = 900.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a step found in a template: *step* is fmt, init, validate or test."""

    template: str
    step: str
    text: str


def find_engine(env: Mapping[str, str]) -> str:
    """Return the path of terraform, else of tofu; ConfigurationError when there is neither."""
    for name in ENGINES:
        try:
            return process.find(name, env=env)
        except process.ProcessError:
            continue
    msg = "Neither terraform nor tofu was found."
    raise ConfigurationError(
        msg, hint="Install OpenTofu (https://opentofu.org/docs/intro/install/) or Terraform."
    )


def validate(
    templates: Sequence[Template],
    *,
    engine: str,
    env: Mapping[str, str],
    progress: Progress,
    ignore_lock: bool = False,
) -> list[str]:
    """Run every step on each of *templates* and return what was done, one line each.

    Works on copies, so that nothing is left in the folders. With *ignore_lock* the providers may
    be others than the lock file names, as a mirror of one's own builds has them. Raises
    TemplateError with every finding of all templates.
    """
    done: list[str] = []
    findings: list[Finding] = []
    for template in templates:
        with progress.phase(f"Validating {template.name}"), _copy(template) as folder:
            run = _Run(
                template=template.name,
                folder=folder,
                engine=engine,
                env=process.child_environment(
                    env,
                    {
                        "TF_IN_AUTOMATION": "1",
                        "TF_INPUT": "0",
                        "CHECKPOINT_DISABLE": "1",
                        **{name: env[name] for name in _KEPT if env.get(name)},
                    },
                ),
            )
            if ignore_lock:
                (folder / ".terraform.lock.hcl").unlink(missing_ok=True)
            found, lines = run.steps()
            findings += found
            done += lines
    if findings:
        raise TemplateError(
            " ".join(f"{f.template}, {f.step}: {f.text}" for f in findings),
            hint="'terraform fmt -recursive coder' corrects the format.",
        )
    return done


@dataclass(frozen=True, kw_only=True)
class _Run:
    template: str
    folder: Path
    engine: str
    env: Mapping[str, str]

    def steps(self) -> tuple[list[Finding], list[str]]:
        """Run the steps; those after a failed init would only repeat it."""
        findings = self._format()
        init = self._engine("init", "-backend=false", "-input=false", "-no-color")
        if init.returncode != 0:
            return [*findings, self._finding("init", init.stdout)], []
        findings += self._validate()
        tested, lines = self._test()
        return findings + tested, [f"{self.template}: fmt, init and validate", *lines]

    def _format(self) -> list[Finding]:
        done = self._engine("fmt", "-check", "-recursive", "-list=true", "-no-color")
        if done.returncode == 0:
            return []
        files = ", ".join(done.stdout.split()) or "see the engine's output"
        return [Finding(template=self.template, step="fmt", text=f"not formatted: {files}.")]

    def _validate(self) -> list[Finding]:
        done = self._engine("validate", "-json", "-no-color")
        try:
            diagnostics = json.loads(done.stdout)["diagnostics"]
        except (ValueError, KeyError):
            return [self._finding("validate", done.stdout)]
        return [
            Finding(template=self.template, step="validate", text=_shown(diagnostic))
            for diagnostic in diagnostics
            if diagnostic["severity"] == "error"
        ]

    def _test(self) -> tuple[list[Finding], list[str]]:
        if not any(self.folder.rglob("*.tftest.hcl")):
            return [], []
        done = self._engine("test", "-no-color")
        last = done.stdout.strip().splitlines()[-1:]
        if done.returncode == 0:
            return [], [f"{self.template}: {line}" for line in last]
        return [self._finding("test", done.stdout)], []

    def _finding(self, step: str, output: str) -> Finding:
        lines = [line.strip(" │╷╵") for line in output.splitlines()]
        start = next((n for n, line in enumerate(lines) if line.startswith("Error")), -8)
        text = " ".join(line for line in lines[start:] if line)
        return Finding(template=self.template, step=step, text=text[:1500])

    def _engine(self, *arguments: str) -> process.Completed:
        # Both streams in order: the engine says what is wrong on stderr.
        script = 'exec "$0" "$@" 2>&1'
        return process.run(
            ["sh", "-c", script, self.engine, *arguments],
            env=self.env,
            cwd=self.folder,
            check=False,
            timeout=_TIMEOUT,
        )


@contextmanager
def _copy(template: Template) -> Iterator[Path]:
    """Give a copy of the template with every link resolved, as the archive will have it."""
    with tempfile.TemporaryDirectory(prefix="hakim-template-") as scratch:
        target = Path(scratch) / template.name
        shutil.copytree(template.folder, target, ignore=shutil.ignore_patterns(".terraform"))
        yield target


def _shown(diagnostic: Mapping[str, Any]) -> str:
    where = diagnostic.get("range") or {}
    line = (where.get("start") or {}).get("line", "?")
    place = f"{where['filename']}:{line}: " if where else ""
    detail = " ".join((diagnostic.get("detail") or "").split())
    return f"{place}{diagnostic['summary']}: {detail}"
