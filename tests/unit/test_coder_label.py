"""Names and messages of versions: within Coder's rules, whatever a branch is called."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakim_actions.coder.label import _safe, is_version_name, label_for
from hakim_actions.errors import ConfigurationError

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("kind", "ref", "name"),
    [
        ("tag", "v1.2.0", "v1.2.0"),
        ("tag", "v1.2.0-rc.1", "v1.2.0-rc.1"),
        ("tag", "release/v1+meta", "release-v1-meta"),
        ("branch", "main", "main-0123456"),
        ("branch", "feature/new--thing", "feature-new-thing-0123456"),
        ("branch", "123/merge", "123-merge-0123456"),
        ("branch", "$(rm -rf /)", "rm-rf-0123456"),
    ],
)
def test_name_of_a_ref(kind: str, ref: str, name: str, tmp_path: Path) -> None:
    env = {"GITHUB_REF_TYPE": kind, "GITHUB_REF_NAME": ref, "GITHUB_SHA": SHA, "PATH": ""}
    assert label_for(tmp_path, env=env).name == name


@given(st.text(min_size=1))
def test_every_ref_has_a_valid_name(ref: str) -> None:
    assert is_version_name(_safe(ref, room=64))
    assert is_version_name(f"{_safe(ref, room=56)}-0123456")


def test_message_is_data_and_has_an_end(tmp_path: Path) -> None:
    label = label_for(tmp_path, env={"PATH": ""}, message="`id` $(id)\n" + "ü" * 5000)
    assert label.message.startswith("`id` $(id)\n")
    assert len(label.message.encode()) <= 4000


@pytest.mark.parametrize("name", ["a/b", "_x", "1.0.0--rc", "v1+meta", "x" * 65])
def test_name_that_coder_refuses_is_refused_here(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--version-name"):
        label_for(tmp_path, env={"PATH": ""}, name=name)


def test_without_git_there_is_a_label(tmp_path: Path) -> None:
    label = label_for(tmp_path, env={"PATH": ""})
    assert re.fullmatch(r"local-unknown", label.name)
    assert label.message
