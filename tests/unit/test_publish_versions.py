"""The names of releases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakim_actions.errors import ConfigurationError
from hakim_actions.publish import versions

# The example of https://semver.org/#spec-item-11, in order.
ORDER = ["v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.beta", "v1.0.0-beta", "v1.0.0-beta.2"]
ORDER += ["v1.0.0-beta.11", "v1.0.0-rc.1", "v1.0.0", "v1.0.1", "v1.2.0", "v1.10.0", "v2.0.0"]
_number = st.integers(0, 50)
tags = st.builds("v{}.{}.{}{}".format, _number, _number, _number, st.sampled_from(["", "-rc.1"]))


@pytest.mark.parametrize("tag", [*ORDER, "v0.0.0", "v1.0.0-x-y.7", "v2026.11.23"])
def test_good_tags(tag: str) -> None:
    assert versions.release_tag(tag) == tag


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "1.2.0",
        "v1",
        "v1.2",
        "v1.2.3.4",
        "v01.2.3",
        "v1.2.3-01",
        "v1.2.3-",
        "v1.2.3\n",
        "V1.2.3",
    ],
)
def test_bad_tags(tag: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the tag of a release"):
        versions.release_tag(tag)


@pytest.mark.parametrize(
    "name", ["", "..", "-x", "a/b", "a b", "latest", ".hidden", "x" * 65, "v1_2"]
)
def test_names_that_are_unsafe_in_a_folder(name: str) -> None:
    with pytest.raises(ConfigurationError):
        versions.folder_name(name)


def test_order() -> None:
    assert sorted(set(ORDER), key=lambda tag: versions.sort_key(tag) or ()) == ORDER


@pytest.mark.parametrize(
    ("tag", "is_pre"), [("v1.0.0", False), ("v1.0.0-rc.1", True), ("dev", True)]
)
def test_what_is_not_for_everybody(tag: str, is_pre: bool) -> None:
    assert versions.is_prerelease(tag) == is_pre


@pytest.mark.parametrize(
    ("tag", "before"),
    [
        ("v1.0.1", "v1.0.0"),
        ("v1.0.0", None),
        ("v1.0.0-beta.2", "v1.0.0-beta"),
        ("v9.0.0", "v2.0.0"),
        ("nightly", None),
    ],
)
def test_the_release_before(tag: str, before: str | None) -> None:
    assert versions.before(tag, [*ORDER, "nightly"]) == before


@settings(deadline=None)
@given(tags, st.lists(tags))
def test_the_release_before_is_the_newest_older_one(tag: str, others: list[str]) -> None:
    found = versions.before(tag, others)
    mine = versions.sort_key(tag)
    assert mine is not None
    if found is not None:
        key = versions.sort_key(found)
        assert key is not None
        assert key < mine
        full = [it for it in others if not versions.is_prerelease(it)]
        keys = [other for it in full if (other := versions.sort_key(it)) is not None]
        assert not [it for it in keys if key < it < mine]
