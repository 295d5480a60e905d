"""A document of any shape is used or refused in one line that names the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import load_suite
from harness.errors import HarnessError

pytestmark = pytest.mark.portable

Write = Callable[..., Path]
BODY = """
[training]
epochs = 1
[[setting]]
dataset = "digits"
model = "linear"
[[method]]
name = "CE"
"""
SUITE = '[suite]\nname = "r"\nseeds = [0, 1]\n'
METHODS = '[[method]]\nname = "CE"\n'
NESTED = "[" * 1000 + "]" * 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("suite = 0.5\n" + BODY, "suite: should be a table, got 0.5"),
        ('suite = { name = "r", seeds = 1.5 }\n' + BODY, "suite.seeds"),
        ("quick = 1\n" + SUITE + BODY, "quick: should be a table, got 1"),
        ("quick = [[]]\n" + SUITE + BODY, "quick: should be a table"),
        ("setting = 0.5\n" + SUITE + METHODS, "setting: should be a list of tables"),
        ('setting = "name"\n' + SUITE + METHODS, "setting: should be a list of tables"),
        ("setting = [1]\n" + SUITE + METHODS, "setting[0]: should be a table, got 1"),
        (SUITE + BODY + "[quick]\nsetting = 1\n", "quick.setting: is no key of a table"),
        (SUITE + BODY + '[quick]\n"training.epochs.x" = 1\n', "'epochs' is no table"),
        (SUITE + BODY + '[quick]\n"method.name" = 1\n', "'method' is no table"),
        ("training = 1\n" + SUITE + METHODS, "training: should be a table, got 1"),
        (SUITE + METHODS, "there is no [[setting]]"),
        (BODY, "the table [suite] is missing"),
        (SUITE + BODY.replace("epochs = 1", f"epochs = {NESTED}"), "nested too deep"),
        (SUITE + BODY.replace("epochs = 1", "epochs = " + "[" * 21 + "]" * 21), "nested too deep"),
        (SUITE + BODY.replace("epochs = 1", "a" + ".a" * 1000 + " = 1"), "nested too deep"),
        (SUITE + BODY.replace("epochs = 1", "epochs = " + "9" * 5000), "holds a value that cannot be read"),
        (SUITE + BODY.replace("epochs = 1", "epochs = 0x" + "f" * 6000), "training.epochs: is an integer beyond 64 bits"),
        (SUITE + 'plugins = ["a\\u0000b.py"]\n' + BODY, "NUL"),
        (SUITE + f'plugins = ["{"p" * 300}.py"]\n' + BODY, "cannot be read (File name too long)"),
        (SUITE + 'plugins = ["loop.py"]\n' + BODY, "loop"),
        (SUITE + 'plugins = ["."]\n' + BODY, "is no plugin file"),
        (SUITE + "tuning_seeds = [7]\n" + BODY + 'algorithms = 0.1\nsearch = { "algorithms.sop.lr_u" = [1.0] }\n', "list, got 0.1"),
    ],
)  # fmt: skip
def test_an_odd_document_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "suite.toml"
    file.write_text(text)
    (tmp_path / "loop.py").symlink_to("loop.py")
    with pytest.raises(HarnessError) as caught:
        load_suite(file, scale="quick")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"training.epochs={NESTED}", "nested too deep"),
        (".".join(["training"] * 1000) + "=1", "at most 20 may be"),
        ("suite=0.5", "suite: should be a table"),
        ("suite.seeds=0", "suite.seeds"),
        ("quick=1", "unknown key 'quick'"),
        ("training.epochs.x=1", "'epochs' is no table"),
        ("training.epochs=" + "9" * 5000, "cannot be read"),
    ],
)
def test_an_odd_assignment_is_one_line(write_suite: Write, text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        load_suite(write_suite(), [text])
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


def test_quick_assignments_hold_in_their_order(write_suite: Write) -> None:
    file = write_suite(tables='[quick]\n"training.epochs" = 1\n"setting.subset" = 50')
    suite = load_suite(file, ["training.batch_size=8"], scale="quick")
    assert (suite.training.epochs, suite.training.batch_size, suite.settings[0].subset) == (1, 8, 50)
    assert load_suite(file).training.epochs == 2


def test_a_pipe_is_no_suite_file(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "suite.toml")
    with pytest.raises(HarnessError, match="is no regular file"):
        load_suite(tmp_path / "suite.toml")
