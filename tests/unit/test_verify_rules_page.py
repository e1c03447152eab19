"""The reference page tells of every rule, in the words of the program."""

import re
from pathlib import Path

from hakim_actions.image import verify
from hakim_actions.image.rules import RULES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "verify-rules.md"


def test_the_page_lists_exactly_the_rules_with_their_titles_and_reasons() -> None:
    assert verify.__doc__  # importing it is what registers the rules
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)

    assert {row[0]: row[1:] for row in rows} == {
        rule.id: (rule.title, rule.why) for rule in RULES.values()
    }
    assert len(rows) == len(RULES)
