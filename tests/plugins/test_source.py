"""A component's digest: of the tokens of its source, without comments and docstrings, alike under every Python."""

from __future__ import annotations

import io
import os
import token
import tokenize
from pathlib import Path

import pytest

from harness import source

pytestmark = pytest.mark.portable

CODE = """
'''A module.'''
import os
from . import maths as m
RATE = 0.5
class Loss(Base):
    '''A loss.'''

    scale = 1
    def __call__(self, outputs, targets):
        '''The loss.'''
        name = f"{self.scale!r:>{10}} of {'x' + "y"}"
        if targets is None: return 'none'
        return outputs[0] + self.scale
"""


def digest(tmp_path: Path, code: str) -> str:
    file = tmp_path / "component.py"
    file.write_text(code)
    return source._read(file).tokens


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A module.", "Another\nmodule."),
        ("A loss.", "Another."),
        ("The loss.", "Another."),
        ("'''A module.'''\n", ""),
        ("        '''The loss.'''\n", ""),
        ("scale = 1\n", "scale = 1\n    '''The factor.'''\n"),
        ("scale = 1\n", "scale = 1  # the factor\n\n"),
        ("import os\n", "# to read files\nimport os\n"),
        ("(self, outputs, targets)", "(\n        self, outputs,\n  # both\n  targets)"),
        ("outputs[0] + self.scale", "outputs[0]   +   \\\n self.scale"),
        ("    ", "\t"),
        ("\n", "\r\n"),
    ],
)
def test_what_runs_nothing_counts_nothing(before: str, after: str, tmp_path: Path) -> None:
    assert before in CODE
    assert digest(tmp_path, CODE.replace(before, after)) == digest(tmp_path, CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.5", "0.50"),
        ("'none'", "'None'"),
        ("if targets is None: return 'none'", "if targets is None:\n            return 'none'"),
        ("of {", "Of {"),
        (":>{10}", ":>{11}"),
        ('"y"', '"z"'),
        ("        return outputs", "    return outputs"),
        ("import os", "import sys"),
        ("maths as m", "maths"),
        ("RATE = 0.5", "RATE = 0.5; SIZE = 1"),
        ("'''The loss.'''", "f'''The loss.'''"),
        ("return outputs", "'a word'; x = 'a word'; return outputs"),
    ],
)
def test_any_other_change_counts(before: str, after: str, tmp_path: Path) -> None:
    assert before in CODE
    assert digest(tmp_path, CODE.replace(before, after)) != digest(tmp_path, CODE)


def test_docstrings_on_one_line_are_docstrings_and_annotations_are_not(tmp_path: Path) -> None:
    def same(one: str, other: str) -> bool:
        return digest(tmp_path, one) == digest(tmp_path, other)

    assert same("def f(a: int = 3): 'One.'; return 1", "def f(a: int = 3): 'Two.'; return 1")
    assert same("class Fault(Exception): 'One.'", "class Fault(Exception): 'Two.'")
    assert not same("x: 'int'", "x: 'str'") and not same("def f(a: 'int'): ...", "def f(a: 'str'): ...")
    assert not same("if a: x = 1; 'One.'\ny = 2", "if a: x = 1; y = 2")


def test_of_what_is_no_python_every_byte_counts(tmp_path: Path) -> None:
    assert digest(tmp_path, "def f(:\n  (") != digest(tmp_path, "def f(:\n  ( # a comment")


def test_an_f_string_in_pieces_is_the_text_that_it_was_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces in which Python 3.12 and later hand out ``f"a{f'{x}'}b"`` over two lines, by hand."""
    text = 'é = f"""a{f\'{x}\'}\nb""" + 1\n'
    lines = list(io.StringIO(text))
    start, middle, end = 900, 901, 902
    monkeypatch.setattr(source, "_OPENING", {start})
    monkeypatch.setattr(source, "_CLOSING", {end})
    pieces = [
        (token.NAME, "é", (1, 0), (1, 1)),
        (token.OP, "=", (1, 2), (1, 3)),
        (start, 'f"""', (1, 4), (1, 8)),
        (middle, "a", (1, 8), (1, 9)),
        (token.OP, "{", (1, 9), (1, 10)),
        (start, "f'", (1, 10), (1, 12)),
        (token.OP, "{", (1, 12), (1, 13)),
        (token.NAME, "x", (1, 13), (1, 14)),
        (token.OP, "}", (1, 14), (1, 15)),
        (end, "'", (1, 15), (1, 16)),
        (token.OP, "}", (1, 16), (1, 17)),
        (middle, "\nb", (1, 17), (2, 1)),
        (end, '"""', (2, 1), (2, 4)),
        (token.OP, "+", (2, 5), (2, 6)),
        (token.NUMBER, "1", (2, 7), (2, 8)),
    ]
    stream = [tokenize.TokenInfo(kind, word, begin, stop, "") for kind, word, begin, stop in pieces]
    words = [word for _, word in source._whole_strings(stream, lines)]
    assert words == ["é", "=", 'f"""a{f\'{x}\'}\nb"""', "+", "1"]


def test_a_digest_says_its_rule_and_the_old_ones_are_known(tmp_path: Path) -> None:
    file = tmp_path / "component.py"
    file.write_text(CODE)
    new, old = source.component_digest("component", file), source.content_digest("component", file)
    assert new.startswith("t1:") and not source.of_old_rule(new) and source.of_old_rule(old)
    assert source.renewed(old, "component", file) == source.renewed(new, "component", file) == new
    file.write_text(CODE.replace("A loss.", "Another."))
    assert source.renewed(old, "component", file) == old and source.component_digest("component", file) == new


def test_what_was_read_is_kept_and_an_edit_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "_kept", source.CacheFile("sources-of-a-test"))
    monkeypatch.setattr(source, "_SETTLED_NS", 0)
    reads = []
    read = source._read
    monkeypatch.setattr(source, "_read", lambda path: reads.append(path) or read(path))
    file = tmp_path / "component.py"

    def another_process() -> source.Source:
        source.save_sources()
        source._known.clear()
        source._kept = source.CacheFile("sources-of-a-test")
        return source.read_source(file)

    file.write_text("from a import b\n")
    first = another_process()
    assert another_process() == first and len(reads) == 1
    before = file.stat()
    file.write_text("from a import c\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size, and as old as before
    assert another_process() != first and len(reads) == 2
