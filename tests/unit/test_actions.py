"""What goes to GitHub's runner means what it says, whatever is in it."""

import json
import re
from pathlib import Path

import pytest

from hakim_actions.cli import report
from hakim_actions.errors import ConfigurationError
from hakim_actions.system import actions

INSIDE = {"GITHUB_ACTIONS": "true"}


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


def test_a_summary_stays_below_what_github_takes_and_is_cut_at_a_line(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    row = "| ä | " + "x" * 90 + " |\n"

    for _ in range(3):
        actions.append_summary({"GITHUB_STEP_SUMMARY": str(path)}, row * 6000)

    text = path.read_text()
    assert 1024 * 1024 - 2048 < path.stat().st_size < 1024 * 1024
    body, _, _ = text.partition("\n_More did not fit")
    assert set(body.splitlines(keepends=True)) == {row}
    assert "see the log" in text


def test_a_summary_that_just_fits_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    text = "x" * (actions.SUMMARY_LIMIT - 1) + "\n"

    actions.append_summary({"GITHUB_STEP_SUMMARY": str(path)}, text)

    assert path.read_text() == text


def test_outside_of_a_workflow_nothing_is_written() -> None:
    actions.set_output({}, "a", "1")
    actions.append_summary({}, "x")

    assert not actions.inside({})
    assert actions.inside(INSIDE)


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (10, 10), (11, 10), (500, 10)])
def test_github_shows_ten_annotations_so_we_send_ten(count: int, shown: int) -> None:
    lines = actions.annotations("error", [(f"t{n}", "m") for n in range(count)])

    assert len(lines) == shown
    if count > shown:
        assert f"{count - 9} more are in the log" in lines[-1]


def test_a_secret_is_hidden_line_by_line_and_a_proxmox_token_also_in_part() -> None:
    assert actions.masks("first line\r\n\nsecond") == [
        "::add-mask::first line",
        "::add-mask::second",
    ]
    assert actions.masks("hakim@pve!ci=0123-4567") == [
        "::add-mask::hakim@pve!ci=0123-4567",
        "::add-mask::0123-4567",
    ]


def test_what_is_too_short_is_not_hidden_because_it_would_hide_everything() -> None:
    assert actions.masks("a\nabc") == []


@pytest.mark.parametrize(
    "name", ["PROXMOX_TOKEN", "GITHUB_TOKEN", "CODER_SESSION_TOKEN", "TF_VAR_proxmox_api_token"]
)
def test_secrets_are_hidden_in_a_workflow_and_printed_nowhere_else(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {name: "sesame-open", "TF_VAR_proxmox_node_name": "pve1", "CODER_URL": "https://c"}

    report.hide_secrets(env)
    assert capsys.readouterr().out == ""
    report.hide_secrets({**env, **INSIDE})
    assert capsys.readouterr().out == "::add-mask::sesame-open\n"


def test_a_phase_without_a_child_has_no_matchers(capsys: pytest.CaptureFixture[str]) -> None:
    progress = report.ActionsProgress()

    with progress.phase("Look"):
        pass

    assert "matcher" not in capsys.readouterr().out


def unheard(text: str) -> str:
    """Return what a runner would look for commands in: all but what is between stop and go on."""
    return re.sub(r"::stop-commands::(\w{32})\n(?:.*?\n)??::\1::\n?", "", text, flags=re.DOTALL)


def test_an_error_cannot_give_commands_with_what_it_quotes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "no such variant 'x\n::add-path::/evil\n'"
    problems = ("y\n::set-output name=a::b",)

    report.error(ConfigurationError(hostile, hint="z\n::debug::q", problems=problems), env=INSIDE)

    out, err = capsys.readouterr()
    assert unheard(err) == ""
    assert "add-path" in err
    assert [line for line in out.splitlines() if line.startswith("::")] == out.splitlines()
    assert out.count("\n") == 1
    assert "%0A::add-path" in out


def test_a_group_always_closes_and_hands_the_commands_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        progress = report.ActionsProgress()
        with progress.phase("Unpack\n::debug::x"):
            progress.line("::add-mask::everything")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    out = capsys.readouterr().out
    heard = unheard(out).splitlines()
    assert "::group::Unpack%0A::debug::x" in heard
    assert heard[-1] == "::endgroup::"
    assert "::add-mask::everything" not in heard
    added = [line for line in heard if line.startswith("::add-matcher::")]
    removed = [line.rpartition("owner=")[2].rstrip(":") for line in heard if "remove-m" in line]
    assert len(added) == 1
    assert removed == list(actions.PROBLEM_MATCHER_OWNERS)


@pytest.mark.parametrize(
    ("line", "owner", "found"),
    [
        (
            "E: Unable to locate package phq",
            "hakim-apt",
            {"message": "Unable to locate package phq"},
        ),
        (
            "Err:3 http://deb.example trixie Release",
            None,
            {},
        ),
        ("    E: Broken packages", "hakim-apt", {"message": "Broken packages"}),
        (
            "dpkg: error processing package php (--configure):",
            "hakim-dpkg",
            {"message": "processing package php (--configure):"},
        ),
        (
            "post-files.sh:12:3: warning: Double quote to prevent globbing [SC2086]",
            "hakim-gcc-style",
            {
                "file": "post-files.sh",
                "line": "12",
                "column": "3",
                "severity": "warning",
                "message": "Double quote to prevent globbing",
                "code": "SC2086",
            },
        ),
        ("Setting up php8.4 (8.4.11-1) ...", None, {}),
        ("http://deb.example:80:1: note: x", None, {}),
    ],
)
def test_problem_matchers_find_errors_and_nothing_else(
    line: str, owner: str | None, found: dict[str, str]
) -> None:
    document = json.loads(actions.PROBLEM_MATCHERS.read_text())
    matches = {}
    for matcher in document["problemMatcher"]:
        (pattern,) = matcher["pattern"]
        match = re.search(pattern["regexp"], line)
        if match:
            groups = {key: match[n] for key, n in pattern.items() if isinstance(n, int)}
            matches[matcher["owner"]] = groups

    assert matches == ({owner: found} if owner else {})


def test_every_problem_matcher_is_removed_again() -> None:
    document = json.loads(actions.PROBLEM_MATCHERS.read_text())

    owners = [matcher["owner"] for matcher in document["problemMatcher"]]
    assert tuple(owners) == actions.PROBLEM_MATCHER_OWNERS
