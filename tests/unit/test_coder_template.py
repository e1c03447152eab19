"""What is read out of a template's folder."""

from pathlib import Path

import pytest

from hakim_actions.artifact import FileRecord
from hakim_actions.coder.api import RemoteVariable
from hakim_actions.coder.release import release_file
from hakim_actions.coder.template import Template, Variable, discover, find_root
from hakim_actions.coder.variables import chosen, given_variables
from hakim_actions.errors import ConfigurationError
from hakim_actions.index import Index, IndexEntry

VARIABLES = """
variable "node" {
  type    = string
  default = "pve"
}

variable "token" {
  type      = string
  sensitive = true

  validation {
    condition     = var.token != ""
    error_message = "default = is only a text here"
  }
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("hakim", "hakim-proxmox"):
        folder = tmp_path / "coder/templates" / name
        folder.mkdir(parents=True)
        (folder / "main.tf").write_text(VARIABLES if name == "hakim-proxmox" else "")
        (folder / "README.md").write_text("---\ndisplay_name: Hakim\ntags: [a]\n---\n# Title: x\n")
    return tmp_path


def test_both_templates_are_found_from_below(project: Path) -> None:
    assert find_root(project / "coder/templates/hakim") == project
    assert [template.name for template in discover(project)] == ["hakim", "hakim-proxmox"]


def test_missing_and_misnamed_templates_are_named_together(project: Path) -> None:
    (project / "coder/templates/hakim").rename(project / "coder/templates/has_underscore")
    with pytest.raises(ConfigurationError) as caught:
        discover(project)
    assert len(caught.value.problems) == 2


def test_variables_are_known_with_what_matters(project: Path) -> None:
    variables = discover(project)[1].variables()
    assert variables == {
        "node": Variable(name="node", required=False, sensitive=False),
        "token": Variable(name="token", required=True, sensitive=True),
    }


def test_real_templates_declare_the_interface() -> None:
    root = Path(__file__).parents[2]
    proxmox = Template(folder=root / "coder/templates/hakim-proxmox").variables()
    assert {name for name, variable in proxmox.items() if variable.required} == {
        "proxmox_endpoint",
        "proxmox_api_token",
    }
    assert {name for name, variable in proxmox.items() if variable.sensitive} == {
        "proxmox_api_token"
    }


def test_front_matter_ends_where_it_ends(project: Path) -> None:
    assert discover(project)[0].front_matter() == {"display_name": "Hakim", "tags": "[a]"}


def test_option_wins_over_file_wins_over_environment(project: Path) -> None:
    file = project / "values.yaml"
    file.write_text("node: from-file\ntoken: file-token\n")
    templates = discover(project)
    env = {"TF_VAR_node": "from-env", "TF_VAR_other": "x"}
    assert given_variables(templates, options=(), file=None, env=env) == {"node": "from-env"}
    values = given_variables(templates, options=("node=a=b",), file=file, env=env)
    assert values == {"node": "a=b", "token": "file-token"}


def test_values_of_a_file_become_texts(project: Path) -> None:
    file = project / "values.yaml"
    file.write_text("node: [a, b]\ntoken: 8\n")
    values = given_variables(discover(project), options=(), file=file, env={})
    assert values == {"node": '["a", "b"]', "token": "8"}


def test_only_what_is_no_secret_is_taken_over(project: Path) -> None:
    before = [
        RemoteVariable(name="node", value="pve7", default="pve", required=False, sensitive=False),
        RemoteVariable(name="token", value="", default="", required=True, sensitive=True),
        RemoteVariable(name="gone", value="x", default="", required=False, sensitive=False),
    ]
    template = discover(project)[1]
    assert chosen(template, given={}, before=before) == {"node": "pve7"}
    assert chosen(template, given={"node": "new"}, before=before) == {"node": "new"}


def test_release_file_has_address_and_checksum_only() -> None:
    archive = FileRecord(name="hakim-php-trixie-amd64.tar.xz", size=1, sha256="a" * 64)
    entry = IndexEntry(
        variant="php",
        release="trixie",
        arch="amd64",
        content_key="k",
        files={"archive": archive},
        packages={"bash": "5"},
    )
    index = Index(version="v1", commit="c", epoch=0, entries=(entry,), base_url="https://e.com/v1/")
    text = release_file(index).decode()
    assert '"url": "https://e.com/v1/hakim-php-trixie-amd64.tar.xz"' in text
    assert "bash" not in text
