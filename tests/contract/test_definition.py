"""The project's own definition, variants, templates and docs agree: lint finds nothing in them."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from hakim_actions.catalog import Catalog, Project, read_yaml
from hakim_actions.lint.run import LintReport, lint

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "bash-syntax": ("bash",),
    "definition-valid": ("distrobuilder",),
    "shellcheck": ("shellcheck",),
    "terraform-fmt": ("terraform", "tofu"),
}


@pytest.fixture(scope="module")
def result() -> LintReport:
    return lint(Project(root=ROOT), env=os.environ)


def test_the_project_breaks_no_rule(result: LintReport) -> None:
    told = [f"{each.file}:{each.line}: {each.rule}: {each.found}" for each in result.findings]

    assert told == []


def test_no_rule_is_skipped_but_for_a_program_that_is_not_here(result: LintReport) -> None:
    for each in result.skipped:
        missing = not any(shutil.which(program) for program in PROGRAMS[each.rule])
        assert missing or (each.rule == "definition-valid" and os.geteuid() != 0), each.reason


def test_the_action_that_distrobuilder_runs_first_is_the_script_that_people_read() -> None:
    first = read_yaml(Project(root=ROOT).definition)["actions"][0]

    script = ROOT / "distrobuilder/scripts/actions/post-unpack.sh"
    assert first["trigger"] == "post-unpack"
    assert first["action"] == script.read_text()


def test_every_filter_in_the_definition_fits_an_image_that_is_built() -> None:
    catalog = Catalog.load(Project(root=ROOT).variants)
    sets = read_yaml(Project(root=ROOT).definition)["packages"]["sets"]

    for each in sets:
        variants = [catalog.variant(name) for name in each.get("variants", catalog.variants)]
        releases = {release for variant in variants for release in variant.releases}
        assert releases & set(each.get("releases", releases)), yaml.safe_dump(each)
