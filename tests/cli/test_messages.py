"""What the harness says: counts have their plural, hints never repeat what was refused, a stop says how to go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.errors import HarnessError, unknown
from harness.suite.load import load_suite
from harness.words import counted

pytestmark = pytest.mark.portable

Write = Callable[..., Path]
ROOT = Path(harness.__file__).parents[1]


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("trial",), "0 trials"),
        (1, ("trial",), "1 trial"),
        (2, ("trial",), "2 trials"),
        (1, ("try", "tries"), "1 try"),
        (8, ("try", "tries"), "8 tries"),
        (1, ("trial is", "trials are"), "1 trial is"),
    ],
)
def test_one_is_no_plural(count: int, words: tuple[str, ...], said: str) -> None:
    assert counted(count, *words) == said


COUNTS = re.compile(
    r"(?<![\w.:%-])\{(?P<what>[^{}]*(?:len\(|count|total|left|taken|done|packed|waiting|jobs|methods|settings)[^{}]*)\}"
    r" (?P<noun>trials|jobs|threads|tries|methods|settings|cells|files|checks|faults|components|suites|GPUs|CPUs|nodes)\b"
)


def test_no_message_writes_a_count_before_a_plural_by_hand() -> None:
    """Counts that may be 1; "more than 3 settings" and errors about two or more are not matched."""
    by_hand = []
    for folder in ("harness", "slurm/harness_slurm", "leaderboard/harness_leaderboard"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if COUNTS.search(line) and "raise" not in line and "reason or" not in line:
                    by_hand.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    allowed = [line for line in by_hand if "finished trials has kept" in line or "if count == 1" in line]
    allowed += [line for line in by_hand if "trials are') done" in line or "all {finished}" in line]
    assert [line for line in by_hand if line not in allowed] == []


def test_a_hint_never_names_what_was_refused() -> None:
    assert unknown("model", "timm:", ["lenet", "timm:"]) == "unknown model 'timm:' (did you mean 'timm:NAME'?)"
    assert unknown("metric", "accuracy", ["accuracy"]) == "unknown metric 'accuracy' (it takes none)"
    assert unknown("metric", "accuracy", ["accuracy", "mae"]) == "unknown metric 'accuracy' (known: mae)"


def test_a_family_without_a_name_says_that_it_needs_one(write_suite: Write) -> None:
    path = write_suite()
    path.write_text(path.read_text().replace('{ name = "mlp", hidden = [32] }', '"timm:"'))
    with pytest.raises(HarnessError, match=r"unknown model 'timm:' \(did you mean 'timm:NAME'\?\)"):
        load_suite(path)
    with pytest.raises(HarnessError, match=r"unknown optimizer 'timm:' \(did you mean 'timm:NAME'\?\)"):
        load_suite(write_suite(methods='[[method]]\nname = "a"\noptimizer = { name = "timm:", lr = 0.1 }'))


def test_a_metric_that_exists_and_that_no_trial_has_is_told_as_that(write_suite: Write, tmp_path: Path) -> None:
    from harness.results.report import read_board

    harness.run(write_suite(epochs=1, setting="subset = 100"), tmp_path / "r", executor="inline")
    with harness.open_store(tmp_path / "r") as store:
        with pytest.raises(HarnessError) as told:
            read_board(store, None, "detection_auroc")
        said = str(told.value)
        assert "no trial of 'small' has 'detection_auroc' (AUROC of detecting corrupted samples)" in said
        assert "its trials have accuracy" in said and "detection_auroc" not in said.partition("its trials have")[2]
        with pytest.raises(HarnessError, match=r"unknown metric 'memorization' \(did you mean 'memorisation'\?\)"):
            read_board(store, None, "memorization")


def test_a_packaged_suite_that_is_asked_for_as_a_file_is_named() -> None:
    with pytest.raises(HarnessError, match=r"cdr-aux/table1: no such suite file; .* is suite:cdr-aux/table1$") as told:
        load_suite("cdr-aux/table1")
    assert load_suite(str(told.value).split()[-1]).name == "cdr-aux/table1"
    with pytest.raises(HarnessError, match="no such suite file; give the path of a TOML file"):
        load_suite("cdr-aux/no-such-table")


def test_the_help_says_what_two_selections_and_a_comma_mean(write_suite: Write, tmp_path: Path) -> None:
    from harness.cli.main import make_command
    from harness.cli.plan import plan
    from harness.suite.plan import make_plan

    said = next(p.help for p in make_command("plan", plan).params if "--select" in p.opts)
    assert 'A comma is "and"' in said and "alternatives, and so is each further --select" in said
    methods = "".join(f'[[method]]\nname = "{name}"\n' for name in "AB") + 'loss = "mae"\n'
    suite = load_suite(write_suite(suite="", methods=methods), ["suite.seeds=[0, 1]"])
    assert [p.entry.seed for p in make_plan(suite, tmp_path, ["method=A,seed=1"]).trials] == [1]
    assert len(make_plan(suite, tmp_path, ["method=A", "seed=1"]).trials) == 3
    assert len(make_plan(suite, tmp_path, ["method=A|B"]).trials) == 4


SLOW = """
import time, harness
from pathlib import Path
from torch.nn import functional as F
class Slow:
    "A loss that takes a minute."
    def __call__(self, outputs, targets, index):
        Path(__file__).with_name("started").touch()
        time.sleep(60)
        return F.cross_entropy(outputs, targets, reduction="none")
@harness.hookimpl
def harness_register_losses(register): register("slow", Slow)
"""


def test_the_second_ctrl_c_stops_at_once_and_still_says_how_to_go_on(write_suite: Write, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    path = write_suite(suite='plugins = ["slow.py"]', methods='[[method]]\nname = "S"\nloss = "slow"')
    command = [sys.executable, "-m", "harness.cli.main", "run", str(path), "--results", str(tmp_path / "r")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 200
    while not (tmp_path / "started").exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    for line in running.stderr:
        if "press Ctrl-C again to stop immediately" in line:
            break
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=200)
    assert running.returncode == 130
    assert said.strip().splitlines()[-1] == (
        "interrupted: what is done is kept; the same command goes on from the last checkpoints"
    )
