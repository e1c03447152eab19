"""Against a real Coder, when the environment names one: CODER_URL and CODER_SESSION_TOKEN.

Makes a template of its own with a random name and deletes it again.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakim_actions.coder.api import Coder
from hakim_actions.coder.archive import pack
from hakim_actions.coder.job import Label, Result, Source
from hakim_actions.coder.push import Push
from hakim_actions.coder.template import Template
from hakim_actions.system.progress import Silent

#: Read before tests begin, because no test sees the tokens of whoever runs it.
URL = os.environ.get("CODER_URL", "")
TOKEN = os.environ.get("CODER_SESSION_TOKEN", "")
ORGANIZATION = os.environ.get("CODER_ORGANIZATION", "")

pytestmark = pytest.mark.skipif(
    not (URL and TOKEN), reason="CODER_URL and CODER_SESSION_TOKEN name no real server"
)


@pytest.fixture
def push() -> Iterator[Push]:
    with Coder(url=URL, token=TOKEN) as coder:
        organization = coder.organization(ORGANIZATION)
        yield Push(coder=coder, organization=organization, progress=Silent())


@pytest.fixture
def template(tmp_path: Path, push: Push) -> Iterator[Template]:
    folder = tmp_path / f"hakim-test-{secrets.token_hex(4)}"
    folder.mkdir()
    (folder / "main.tf").write_text('variable "needed" {\n  type = string\n}\n')
    yield Template(folder=folder)
    made = push.coder.template(push.organization, folder.name)
    if made is not None:
        push.coder.delete_template(made)


def one(push: Push, template: Template, name: str) -> Result:
    archive = pack(template.folder, root=template.folder)
    source = Source(template=template, pack=archive, variables={"needed": "value"})
    (result,) = push.run([source], Label(name=name, message="A test of hakim-actions."))
    return result


def test_life_of_a_template(push: Push, template: Template) -> None:
    assert one(push, template, "v1").action == "created"
    assert one(push, template, "v2").action == "unchanged"
    (template.folder / "main.tf").write_text('variable "needed" {\n  type = string\n}\n# more\n')
    changed = one(push, template, "v1")
    assert (changed.action, changed.version) == ("activated", "v1-r2")
    assert push.rollback([template])[0].version == "v1"
