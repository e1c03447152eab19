"""The reference page tells of every rule of lint, in the words of the program."""

import re
from pathlib import Path

from hakim_actions.lint import run
from hakim_actions.lint.rules import RULES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lint-rules.md"


def test_the_page_lists_exactly_the_rules_with_their_titles_and_reasons() -> None:
    assert run.__doc__  # importing it is what registers the rules
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)

    assert {row[0]: row[1:] for row in rows} == {
        rule.id: (rule.title, rule.why) for rule in RULES.values()
    }
    assert len(rows) == len(RULES)
