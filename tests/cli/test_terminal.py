"""What others wrote reaches a terminal as text, never as commands to it."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import app, main
from harness.cli.options import console, print_json
from harness.cli.progress import Progress
from harness.cli.terminal import Printable, guarded
from harness.errors import HarnessError
from harness.foreign import LONGEST, csv_cell, file_name, printable, shortened

HOSTILE = "a\x1b[31mb\x1b]0;title\x07c\x9bd\u202ee\u2066f\x7fg\rh\u2028i"
SHOWN = r"a\x1b[31mb\x1b]0;title\x07c\x9bd\u202ee\u2066f\u007fg\rh\u2028i"


def test_control_and_bidirectional_characters_are_escapes() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("ä ± ∑ 数 é ok") == "ä ± ∑ 数 é ok"
    assert printable("\udcff") == r"\udcff"


def test_a_name_keeps_to_its_line_and_a_text_keeps_its_lines() -> None:
    assert printable("a\nb\tc") == r"a\nb\tc"
    assert printable("a\nb\tc", lines=True) == "a\nb\tc"


@given(st.text())
def test_what_is_printable_stays_so(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown


@given(st.text(max_size=3000))
def test_an_answer_has_at_most_600_characters_in_one_line(text: str) -> None:
    answer = f"harness: {HarnessError(text, 'suite.toml: key', 'mend it')}\n"
    assert len(answer) <= LONGEST
    assert len(answer.splitlines()) == 1
    assert answer.startswith("harness: suite.toml: key") and answer.endswith("mend it\n")


def test_a_cut_text_keeps_start_and_end() -> None:
    cut = shortened("start" + "x" * 1000 + "end")
    assert len(cut) == LONGEST and cut.startswith("start") and cut.endswith("end")
    assert shortened("as it is") == "as it is"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(start: str) -> None:
    assert csv_cell(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("value", [-1, -0.5, 2.0, None, True, "a=b", "", "1-2"])
def test_other_cells_and_numbers_stay(value: object) -> None:
    assert csv_cell(value) is value


@given(st.lists(st.text(max_size=300), max_size=5, unique=True))
def test_names_of_files_are_short_plain_and_different(names: list[str]) -> None:
    found: list[str] = []
    for name in names:
        found.append(file_name(name, found))
    assert len({name.lower() for name in found}) == len(names)
    for name in found:
        assert len(name) <= 100 and name.strip("abcdefghijklmnopqrstuvwxyz0123456789.-") == "" and name[0] not in ".-"


def test_every_way_of_printing_is_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded(), guarded():
        print(HOSTILE)
        typer.echo(HOSTILE, color=True)  # as all commands do
        typer.echo(HOSTILE, err=True, color=True)
        console().print(HOSTILE, markup=False)
        logging.getLogger("stranger").warning(HOSTILE)
        print_json({"name": HOSTILE})
    out, err = capsys.readouterr()
    for line in out.splitlines()[:3]:
        assert line == SHOWN
    assert json.loads("".join(out.splitlines()[3:])) == {"name": HOSTILE}
    assert err.splitlines()[0] == SHOWN
    assert not isinstance(sys.stdout, Printable)


def test_a_table_is_laid_out_with_the_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("name\x1b[2J")
    table.add_row("a\u202eb\nc")
    table.add_row("plain")
    console().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert r"name\x1b[2J" in lines[1] and r"a\u202eb\nc" in lines[3]


@pytest.mark.parametrize("live", [False, True])
def test_progress_is_guarded(monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: live, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress() as progress:
        progress.on_event({"event": "failed", "id": "a\nb", "error": "bad\x1b]0;title\x07\u202e"})
    assert r"bad\x1b]0;title\x07\u202e" in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue() and "\u202e" not in stream.getvalue() and "a\nb" not in stream.getvalue()


def test_a_terminal_of_few_characters_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded():
        typer.echo("ä ±")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe4 \\xb1\n"  # type: ignore[attr-defined]


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize("words", [["\x1b[31m" * 99], ["plan", "x" * 5000 + "\x1b[2J"], ["plan", "--" + "y" * 5000]])
def test_a_wrong_command_line_is_answered_briefly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, err = ended(monkeypatch, capsys, *words)
    assert code == 2 and len(err) <= LONGEST and "\x1b" not in err


@pytest.mark.parametrize(
    "words", [["board", "--suite", "a\udcff"], ["\udcff"], ["plan", "s.toml", "--set", "a=\udcff"]]
)
def test_a_word_that_is_no_utf8_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, err = ended(monkeypatch, capsys, *words)
    assert code == 2 and err.startswith("harness: ") and "is no UTF-8" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("place", ["r" * 300, "loop", "/dev/null", "file/results"])
@pytest.mark.parametrize("command", ["collect", "board", "status", "logs", "run"])
def test_a_results_folder_that_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, write_suite, place, command
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").write_text("")
    words = {"status": [str(write_suite())], "run": [str(write_suite())], "logs": ["ab"]}.get(command, [])
    code, err = ended(monkeypatch, capsys, command, *words, "--results", place)
    assert code == 2 and err.startswith("harness: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [["collect"], ["retry", "SUITE", "--failed"], ["evaluate", "SUITE", "--fgsm", "0.1"]]
)
def test_a_mistyped_results_folder_is_not_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, write_suite, command
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(write_suite()) if word == "SUITE" else word for word in command]
    code, err = ended(monkeypatch, capsys, *words, "--results", "TYPO")
    assert code == 2 and "no such folder" in err and len(err.splitlines()) == 1
    assert not Path("TYPO").exists()


def test_no_command_strips_what_is_to_be_escaped() -> None:
    assert typer.main.get_command(app).context_settings["color"] is True


def test_the_app_guards_its_streams_in_a_process_of_others() -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["\x1b[31mred"])
    assert done.exit_code == 2 and "\x1b" not in done.output and r"\x1b[31mred" in done.output
