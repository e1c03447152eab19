"""Checks a project against every rule and reports each finding with file and line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hakim_actions.catalog import Project
from hakim_actions.errors import ConfigurationError
from hakim_actions.lint import (  # noqa: F401 - importing them registers their rules
    rules_catalog,
    rules_coder,
    rules_definition,
    rules_docs,
    rules_hygiene,
    rules_packages,
    rules_scripts,
    rules_terraform,
    rules_workflows,
    rules_yaml,
)
from hakim_actions.lint.rules import RULES, Problem, Rule
from hakim_actions.lint.tree import RuleSkippedError, Tree


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule that a line of a file breaks: what was found, what was expected, what to do."""

    file: str
    line: int
    rule: str
    found: str
    expected: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class SkippedRule:
    """A rule that could not be checked on this machine, and why."""

    rule: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LintReport:
    """What lint looked at and found; *checked* are the ids of the rules that were applied."""

    root: Path
    files: int
    checked: tuple[str, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[SkippedRule, ...]


def project_at(path: Path) -> Project:
    """Return the project that *path* is in; raise ConfigurationError when it is in none."""
    start = path.resolve()
    if not start.exists():
        msg = f"{path} does not exist."
        raise ConfigurationError(msg, hint="Name a folder of the repository with the images.")
    project = Project.find(start)
    if not start.is_relative_to(project.root.resolve()):
        msg = f"No distrobuilder/hakim.yaml with a variants.yaml beside it in {start} or above."
        raise ConfigurationError(msg, hint="Run inside the repository that defines the images.")
    return project


def lint(project: Project, *, env: Mapping[str, str]) -> LintReport:
    """Check *project* against every rule; a rule whose program is missing is in ``skipped``."""
    tree = Tree.of(project, env=env)
    findings: list[Finding] = []
    skipped: list[SkippedRule] = []
    for rule in RULES.values():
        try:
            findings += [_finding(rule, problem) for problem in rule.check(tree)]
        except RuleSkippedError as error:
            skipped.append(SkippedRule(rule=rule.id, reason=error.message))
    left_out = {rule.rule for rule in skipped}
    return LintReport(
        root=project.root,
        files=len(tree.files),
        checked=tuple(rule_id for rule_id in RULES if rule_id not in left_out),
        findings=tuple(sorted(findings, key=lambda each: (each.file, each.line, each.rule))),
        skipped=tuple(skipped),
    )


def _finding(rule: Rule, problem: Problem) -> Finding:
    return Finding(
        file=_printable(problem.file),
        line=problem.line,
        rule=rule.id,
        found=_printable(problem.found),
        expected=_printable(problem.expected),
        hint=_printable(problem.hint),
    )


def _printable(text: str) -> str:
    """Escape *text* unless all of it can be shown: nothing in a file may confuse a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]
