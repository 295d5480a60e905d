"""Pages come from templates that escape by themselves: nothing turns that off, and no page writes markup by hand."""

from __future__ import annotations

import re
from pathlib import Path

import harness_leaderboard
from harness_leaderboard import tables
from harness_leaderboard.render import part

HOME = Path(harness_leaderboard.__file__).parent
HOSTILE = """<b>"&'</b>"""


def test_text_is_shown_and_markup_of_ours_is_kept():
    assert part("macros.html", "lead", said=HOSTILE) == '<p class="lead">&lt;b&gt;&#34;&amp;&#39;&lt;/b&gt;</p>'
    assert part("macros.html", "lead", said=tables.code(HOSTILE)).count("<pre") == 1
    chips = tables.seed_chips([{"seed": 0, "trial": HOSTILE, "status": HOSTILE}], "", tables.trial_link)
    assert HOSTILE not in chips and "<b>" not in chips


def test_no_template_turns_escaping_off():
    for path in (HOME / "templates").glob("*.html"):
        found = re.findall(r"\|\s*safe|autoescape|Markup", path.read_text())
        assert not found, (path.name, found)


def test_tags_stand_in_templates_alone():
    """A heading of our own words may stand in a page."""
    written = {
        path.relative_to(HOME).as_posix(): re.findall(
            r"<(?!h2>)(?:p|td|th|tr|table|a|span|ul|li|section|details|div)\b", path.read_text()
        )
        for path in HOME.rglob("*.py")
    }
    assert {name: tags for name, tags in written.items() if tags} == {
        "shell.py": ["<div"]
    }  # the component of all of it
