"""A broken definition is told where it is broken, before anything runs."""

import os
from pathlib import Path

import pytest
from conftest import FakeProgram

from hakim_actions.errors import ConfigurationError
from hakim_actions.image import distrobuilder

ENV = {"PATH": os.environ["PATH"]}


def test_what_is_no_yaml_has_line_and_column(tmp_path: Path) -> None:
    definition = tmp_path / "hakim.yaml"
    definition.write_text("image:\n  release: [trixie\npackages: {}\n")

    with pytest.raises(ConfigurationError, match=r"hakim\.yaml, line 3, column 9"):
        distrobuilder.validate(definition, env=ENV)


def test_what_distrobuilder_refuses_is_in_its_own_words(
    tmp_path: Path, program: FakeProgram
) -> None:
    program("distrobuilder", "echo 'field sourc not found in type shared.Definition' >&2; exit 1")
    definition = tmp_path / "hakim.yaml"
    definition.write_text("sourc: {}\n")

    with pytest.raises(ConfigurationError, match="field sourc not found") as caught:
        distrobuilder.validate(definition, env={"PATH": os.environ["PATH"]})
    assert str(definition) in caught.value.message


def test_a_definition_that_distrobuilder_takes_is_fine(
    tmp_path: Path, program: FakeProgram
) -> None:
    program("distrobuilder", "exit 0")
    definition = tmp_path / "hakim.yaml"
    definition.write_text("image: {}\n")

    distrobuilder.validate(definition, env={"PATH": os.environ["PATH"]})
