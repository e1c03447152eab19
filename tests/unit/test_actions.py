"""What goes to GitHub's runner means what it says, whatever is in it."""

from pathlib import Path

import pytest

from hakim_actions.system import actions


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("plain", "::error::plain"),
        ("100%\r\n::set-output", "::error::100%25%0D%0A::set-output"),
        ("%0A", "::error::%250A"),
    ],
)
def test_a_message_cannot_leave_its_line(message: str, line: str) -> None:
    assert actions.command("error", message) == line


def test_a_property_cannot_start_another_one() -> None:
    line = actions.command("error", "m", title="a,file=b:c\n%")

    assert line == "::error title=a%2Cfile=b%3Ac%0A%25::m"


def test_an_output_cannot_end_its_own_block(tmp_path: Path) -> None:
    path = tmp_path / "out"
    env = {"GITHUB_OUTPUT": str(path)}

    actions.set_output(env, "a", "1\nEOF\nb=2")
    actions.set_output(env, "c", "3")

    first, *_ = lines = path.read_text().splitlines()
    delimiter = first.removeprefix("a<<")
    assert lines[1:4] == ["1", "EOF", "b=2"]
    assert lines[4] == delimiter
    assert lines[5].startswith("c<<")
    assert lines[5] != f"c<<{delimiter}"


def test_a_summary_is_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text("before\n")

    actions.append_summary({"GITHUB_STEP_SUMMARY": str(path)}, "# after")

    assert path.read_text() == "before\n# after\n"


def test_outside_of_a_workflow_nothing_is_written() -> None:
    actions.set_output({}, "a", "1")
    actions.append_summary({}, "x")

    assert not actions.inside({})
    assert actions.inside({"GITHUB_ACTIONS": "true"})
