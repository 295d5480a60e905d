"""Mutated suites and command lines, and what each of them ends in.

Half of the inputs come from a mutator that knows what a suite is made of and puts odd values in odd places. The other
half is made by one that knows nothing: random bytes, swaps, cuts and repeats of valid files and command lines. All run in
one process, through the entry point that a user calls. By hand, in shards that may go on where they stopped:

    python tests/torture/fuzz.py --count 100000 --shard 0/4 --start 0
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import datetime
import io
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST = 600
CPU_S, WALL_S = 10.0, 300.0
"""An input that takes longer hangs: in time of this process, or, where it waits for something, of the clock."""

SMALL = """
[suite]
name = "small"
seeds = [0, 1]
[training]
epochs = 2
batch_size = 64
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[[setting]]
dataset = "digits"
model = { name = "mlp", hidden = [32] }
noise = { name = "symmetric", rate = [0.2, 0.4] }
[[method]]
name = "CE"
"""
RICH = """
[suite]
name = "rich"
seeds = [0]
tuning_seeds = [7]
exclude = ["method=GCE,noise.rate=0.4", { method = "SOP" , "noise.rate" = 0.2 }]
[training]
epochs = 3
schedule = { name = "cosine" }
validation = 0.2
[evaluation]
train_every = 1
fgsm = [0.1]
[execution]
threads = 1
timeout_s = 60.0
[local]
workers = 1
[quick]
"training.epochs" = 1
"setting.subset" = 100
[[setting]]
name = "digits"
dataset = "digits"
model = ["linear", { name = "mlp", hidden = [[32], [16, 16]] }]
noise = { name = "symmetric", rate = 0.4 }
augment = { crop = 1 }
training = { batch_size = [32, 64] }
exclude = ["model=linear"]
[[method]]
name = "GCE"
loss = { name = "gce", q = "noise.rate" }
[[method.when]]
select = "noise.rate>0.3"
epochs = 1
optimizer = { lr = 0.01 }
[[method]]
name = "SOP"
algorithms = [{ name = "sop", lr_u = 1.0 }]
transforms = []
search = { "algorithms.sop.lr_u" = [1.0, 10.0], "optimizer.lr" = [0.1] }
"""
BASES = (SMALL, RICH)
FILLED = min((Path(__file__).parents[2] / "reference").glob("*.parquet"), key=lambda path: path.stat().st_size)
"""Records that the results folder holds, so that boards have something to show."""
LINES: tuple[tuple[str, ...], ...] = (
    ("plan", "suite.toml"),
    ("plan", "suite.toml", "--scale", "quick", "--json"),
    ("plan", "suite.toml", "--set", "training.epochs=1", "--select", "method=CE*,noise.rate<=0.4"),
    ("plan", "suite.toml", "--results", "results", "--plugin", "plugin.py"),
    ("status", "suite.toml", "--results", "results"),
    ("run", "suite.toml", "--dry-run", "--executor", "local", "--workers", "2", "--option", "workers=1"),
    ("run", "suite.toml", "--dry-run", "--device", "cpu", "--threads", "1", "--stale", "rerun"),
    ("board", "suite.toml", "--results", "results", "--metric", "selected", "--ties"),
    ("board", "--results", "results", "--ties", "--json"),
    ("export", "--results", "results", "--format", "csv", "--metric", "last"),
    ("collect", "--results", "results"),
    ("retry", "suite.toml", "--failed", "--results", "results"),
    ("logs", "0123", "--results", "results"),
    ("components", "loss", "gce"),
    ("merge", "results", "--results", "other"),
    ("doctor", "--results", "results"),
)
SAFE = frozenset({line[0] for line in LINES})
"""The commands that a mutated line may call: none of them trains, serves or downloads."""
ODD_VALUES: tuple[Any, ...] = (
    0, 1, -1, 0.5, 1.5, -0.0, 1e308, math.inf, math.nan, 2**31, 2**63 - 1, 2**63, 2**70, 10**40, True, False, "", " ",
    "name", "ce", "noise.rate", "noise.matrix", "a\0b", "\x1b[31mred", "\u202eright", "é" * 40, "x" * 303, "../..", "~x",
    "/dev/null", "loop", "[", "*", "=", "method=", "a.b.c", [], [[]], [[[]]], [0], [1.5], ["ce"], [[0.1, "a"]], {},
    {"name": "ce"}, {"name": 1}, {"name": ""}, {"": 1}, {"name": "x" * 303}, [{}], [{"name": "ce"}],
    datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12), datetime.time(1),
)  # fmt: skip
ODD_KEYS = (
    "",
    "name",
    "suite",
    "quick",
    "setting",
    "method",
    "select",
    "lr",
    "a.b",
    "\0",
    "x" * 303,
    "params",
    "version",
)
ODD_WORDS = (
    "", "-", "--", "--json", "--set", "--results", "--plugin", "--select", "--scale", "quick", "=", "a=b", "a\0b",
    "x" * 303, "x" * 5000, "loop", "/dev/null", "\udcff", "\x1b]0;title\x07", "\u202e", "suite:", "suite:none", "9" * 5000,
    "-1", "nan", "1e999", "[[", "{}", "training.epochs=" + "[" * 1000 + "]" * 1000, ".".join(["a"] * 1000) + "=1",
    "suite=0.5", "training=1", "training.epochs=0.5", "suite.name=[]", "quick=1", "execution.threads=[]", "method=*", "*",
    "evaluation.fgsm=[[0.1]]", "training.optimizer.name=1", "suite.seeds=0", "noise.rate>", "%", "~nobody/x", ".", "..",
)  # fmt: skip


# --- inputs -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Input:
    """A suite's file and a command line."""

    mutator: str
    content: bytes
    line: tuple[str, ...]


def make_input(number: int, seed: int) -> Input:
    """The input of a number: the same in every run of a seed."""
    draw = random.Random(f"{seed}/{number}")
    base, line = draw.choice(BASES), draw.choice(LINES)
    mutator = ("knowing file", "blind file", "knowing line", "blind line")[number % 4]
    content = base.encode()
    if mutator == "knowing file":
        content = to_toml(mutated_document(draw, tomllib.loads(base))).encode("utf-8", "surrogatepass")
        line = draw.choice(LINES[:8])
    elif mutator == "blind file":
        content = mutated_bytes(draw, content, draw.choice(BASES).encode())
        line = draw.choice(LINES[:8])
    elif mutator == "knowing line":
        line = mutated_line(draw, line)
    else:
        words = mutated_bytes(draw, "\n".join(line).encode(), "\n".join(draw.choice(LINES)).encode())
        line = tuple(os.fsdecode(words).split("\n"))
    return Input(mutator, content, line)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document but its root."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated_document(draw: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """A valid document with one to three odd places."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        found = list(places(document))
        if not found:
            return document
        *path, last = draw.choice(found)
        owner: Any = document
        for key in path:
            owner = owner[key]
        change = draw.randrange(7)
        if change <= 2:
            owner[last] = copy.deepcopy(draw.choice(ODD_VALUES))
        elif change == 3:
            del owner[last]
        elif change == 4:
            deep = draw.choice((1, 2, 30, 1000))
            for _ in range(deep):
                owner[last] = [owner[last]] if draw.random() < 0.5 else {"name": owner[last]}
            if deep > 2:
                return document
        elif change == 5 and isinstance(owner, dict):
            owner[draw.choice(ODD_KEYS)] = owner.pop(last)
        else:
            other: Any = document
            for key in draw.choice(found):
                other = other[key]
            owner[last] = copy.deepcopy(other)
    return document


def mutated_line(draw: random.Random, line: Sequence[str]) -> tuple[str, ...]:
    """A valid command line with one to three words replaced, added, left out or doubled; the command stays."""
    words = list(line)
    for _ in range(draw.choice((1, 1, 2, 3))):
        place = draw.randrange(1, len(words) + 1)
        change = draw.randrange(4)
        if change == 0 and place < len(words):
            words[place] = draw.choice(ODD_WORDS)
        elif change == 1 and place < len(words):
            del words[place]
        elif change == 2 and place < len(words):
            words.insert(place, words[place])
        else:
            words.insert(place, draw.choice(ODD_WORDS))
    return tuple(words)


def mutated_bytes(draw: random.Random, content: bytes, other: bytes) -> bytes:
    """Bytes after one to four edits that know nothing of what they mean."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        if not data:
            return bytes(data)
        start = draw.randrange(len(data))
        end = min(len(data), start + draw.choice((1, 2, 5, 20, 100)))
        change = draw.randrange(12)
        if change >= 8:  # lines, or words, change places or are doubled
            between = draw.choice((b"\n", b" ", b'"'))
            parts = bytes(data).split(between)
            one, two = draw.randrange(len(parts)), draw.randrange(len(parts))
            parts[one], parts[two] = (parts[two], parts[one]) if change >= 10 else (parts[two], parts[two])
            data = bytearray(between.join(parts))
        elif change == 0:
            data[start] = draw.randrange(256)
        elif change == 1:
            data[start:start] = bytes(draw.randrange(256) for _ in range(draw.choice((1, 3, 9))))
        elif change == 2:
            del data[start:end]
        elif change == 3:
            data[start:start] = data[start:end] * draw.choice((1, 2, 200))
        elif change == 4:
            there = draw.randrange(len(data))
            data[start:end], data[there : there + end - start] = data[there : there + end - start], data[start:end]
        elif change == 5:
            del data[start:]
        elif change == 6 and other:
            place = draw.randrange(len(other))
            data[start:end] = other[place : place + end - start]
        else:
            data[start] = draw.choice(b"0123456789.-+e[]{}\"'=,#\n _")
    return bytes(data)


def to_toml(value: Any, inline: bool = False) -> str:
    """TOML of a document. Written without recursion in lists and tables of one item, which may be a thousand deep."""
    if isinstance(value, dict) and not inline:
        return "\n".join(f"{json.dumps(key)} = {to_toml(item, True)}" for key, item in value.items())
    before, after = "", ""
    while isinstance(value, (dict, list)) and len(value) == 1:
        if isinstance(value, dict):
            ((key, value),) = value.items()
            before, after = f"{before}{{{json.dumps(key)} = ", f"}}{after}"
        else:
            (value,) = value
            before, after = f"{before}[", f"]{after}"
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{json.dumps(key)} = {to_toml(item, True)}" for key, item in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(to_toml(item, True) for item in value) + "]"
    elif isinstance(value, (datetime.date, datetime.time)):
        text = value.isoformat()
    else:
        text = json.dumps(value) if isinstance(value, (str, bool)) else repr(value)
    return before + text + after


# --- what they end in -------------------------------------------------------------------------------------------------

GOOD = ("done", "some failed", "one line", "usage")
BAD = ("traceback", "hang", "several lines", "too long", "control characters")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an input ended, one of :data:`GOOD` or :data:`BAD`, and what was said."""

    kind: str
    words: str


class Hang(BaseException):
    """Raised by the alarm."""


def _is_an_error(said: str) -> bool:
    """Whether this is the object, on a line of its own, that a program gets for an error."""
    try:
        error = json.loads(said)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return said.count("\n") == 1 and bool(error["what"]) and all(len(text) <= 400 for text in error.values())


def outcome(line: Sequence[str], patience: float = 1.0) -> Outcome:
    """Run one command line in this process and say how it ended; one that takes ``patience`` times as long hangs."""
    from harness.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["harness", *line]
    signal.setitimer(signal.ITIMER_VIRTUAL, patience * CPU_S)
    signal.setitimer(signal.ITIMER_REAL, patience * WALL_S)
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code
    except Hang:
        return Outcome("hang", traceback.format_exc())
    except BaseException:
        return Outcome("traceback", traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.argv = before
    said = err.getvalue()
    if re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", out.getvalue() + said
    ):
        return Outcome("control characters", said + out.getvalue())
    if code in (0, None):
        return Outcome("done", said)
    if code == 1:
        return Outcome("some failed", said)
    if "--json" in line and said.startswith("{"):
        return Outcome("one line" if _is_an_error(said) else "several lines", said)
    if len(said) > LONGEST:
        return Outcome("too long", said)
    if said.startswith("Usage: "):
        return Outcome("usage", said)
    own = [text for text in said.splitlines() if text.startswith(("harness: ", "Error: "))]
    return Outcome("one line" if len(own) == 1 and said.endswith(f"{own[0]}\n") else "several lines", said)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder of its own to run in, with what the command lines name, and alarms that raise :class:`Hang`."""

    def raise_hang(*_: object) -> None:
        raise Hang

    home = Path.cwd()
    handlers = {number: signal.signal(number, raise_hang) for number in (signal.SIGVTALRM, signal.SIGALRM)}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            fresh(Path(folder))
            yield Path(folder)
        finally:
            os.chdir(home)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def fresh(folder: Path) -> None:
    """Put into a folder what the command lines name, where it is gone."""
    (folder / "results" / "trials").mkdir(parents=True, exist_ok=True)
    (folder / "plugin.py").write_text("import harness\n")
    if not (folder / "loop").is_symlink():
        (folder / "loop").symlink_to("loop")


def fuzz(
    count: int, seed: int, start: int = 0, step: int = 1, told: Callable[[int, Input, Outcome], None] = lambda *_: None
) -> tuple[dict[str, Counter[str]], list[tuple[Input, Outcome]]]:
    """Run inputs ``start``, ``start + step`` ... below ``count``.

    Returns:
        Outcomes by mutator, and the inputs that ended in one of :data:`BAD`.
    """
    from harness.cli.main import entry_points

    unsafe = set(entry_points()) - SAFE
    table: dict[str, Counter[str]] = {}
    bad: list[tuple[Input, Outcome]] = []
    with scratch() as folder:
        (folder / "suite.toml").write_text(RICH)
        for command in (
            ["plan", "suite.toml"],
            ["merge", str(FILLED), "--results", "results"],
        ):  # imports take their time
            assert outcome(command, patience=10).kind == "done", "the unchanged input should work"
        for number in range(start, count, step):
            made = make_input(number, seed)
            words = made.line
            if words[0] in unsafe or (words[0] == "run" and "--dry-run" not in words):
                words = ("plan", *words)
            fresh(folder)
            (folder / "suite.toml").write_bytes(made.content)
            ended = outcome(words)
            table.setdefault(made.mutator, Counter())[ended.kind] += 1
            if ended.kind in BAD:
                bad.append((made, ended))
                told(number, made, ended)
    return table, bad


def table_text(table: dict[str, Counter[str]]) -> str:
    """The outcomes as a table."""
    kinds = [*GOOD, *BAD]
    lines = [f"{'':14}" + "".join(f"{kind:>20}" for kind in kinds)]
    lines += [f"{name:14}" + "".join(f"{counts[kind]:>20}" for kind in kinds) for name, counts in sorted(table.items())]
    every: Counter[str] = sum(table.values(), Counter())
    return "\n".join([*lines, f"{'all':14}" + "".join(f"{every[kind]:>20}" for kind in kinds)])


def main() -> None:
    """The fuzzer by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first number, where an earlier run stopped")
    parser.add_argument("--shard", default="0/1", metavar="I/N")
    given = parser.parse_args()
    shard, shards = map(int, given.shard.split("/"))
    first = given.start + (shard - given.start) % shards
    seen: Counter[str] = Counter()

    def told(number: int, made: Input, ended: Outcome) -> None:
        place = f"{ended.kind}: {(ended.words.strip().splitlines() or [''])[-1][:100]}"
        seen[place] += 1
        if seen[place] == 1:
            print(f"\n{number} {place}\n{made.line!r:.600}\n{made.content!r:.3000}\n{ended.words[-3000:]}", flush=True)

    table, bad = fuzz(given.count, given.seed, first, shards, told)
    print(table_text(table))
    print(*seen.most_common(), sep="\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
