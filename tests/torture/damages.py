"""Damaged results folders, and what each of them ends in.

Half of the damages are known ones: what was found to pass unseen, or to end a command, each with the record it is done to.
The other half is made by a generator that does not know what is checked: a random file of the folder, and a bit, a byte, a
piece, the end, or the whole of it changed, moved or gone. After each, the suite is looked at, collected, run to its end and
ranked. By hand, in shards that may go on where they stopped:

    python tests/torture/damages.py --count 400 --shard 0/4 --start 0
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fuzz import Outcome, outcome, scratch

SUITE = """
[suite]
name = "damaged"
seeds = [0, 1]
[training]
epochs = 3
batch_size = 256
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[execution]
keep = true
checkpoint_epochs = 1
[[setting]]
dataset = "digits"
model = { name = "mlp", hidden = [4] }
noise = { name = "symmetric", rate = 0.4 }
[[method]]
name = "CE"
[[method]]
name = "SCE"
loss = "sce"
"""
BAD = ("wrong number", "traceback", "hang", "lost")
GOOD = ("in quarantine", "right number")
Damage = Callable[[Path, Path], None]
"""Takes the folder of the trial to damage, and that of another one."""


# --- the healthy folder ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Healthy:
    """A results folder as a run leaves it, with one trial that was interrupted after its first epoch.

    Attributes:
        values: by trial, every metric and moment that its board may show.
        open: the interrupted trial.
    """

    suite: Path
    results: Path
    values: dict[str, dict[tuple[str, str], float | None]]
    open: str


def make_healthy(folder: Path) -> Healthy:
    """Run the suite, and one of its trials once more, up to a checkpoint."""
    import harness
    from harness.plugins import load_host
    from harness.results.records import claim, open_results, read_trial, trial_folder
    from harness.training.reevaluate import evaluate_trial
    from harness.training.trial import run_trial

    folder.mkdir(parents=True, exist_ok=True)
    suite, results = folder / "suite.toml", folder / "results"
    suite.write_text(SUITE)
    harness.run(suite, results, executor="inline")
    values = numbers(results)
    trials = sorted(values)
    host, last = load_host(), trials[-1]
    evaluate_trial(results, read_trial(results, trials[0]), host, [0.5])
    for name in ("done.json", "evaluations.json"):
        (trial_folder(results, last) / name).unlink(missing_ok=True)
    shutil.rmtree(trial_folder(results, last) / "attempt-001")
    attempt = claim(open_results(results), last)
    assert attempt is not None
    seen: list[Any] = []
    stopped = run_trial(read_trial(results, last), attempt, host, should_stop=lambda: bool(seen), on_epoch=seen.append)
    assert stopped is None and (attempt.path / "checkpoint.pt").exists()
    shutil.rmtree(results / "store")
    return Healthy(suite, results, values, last)


def numbers(results: Path) -> dict[str, dict[tuple[str, str], float | None]]:
    """What the board may show of each trial. Times and memory differ from run to run."""
    import harness

    found: dict[str, dict[tuple[str, str], float | None]] = {}
    with harness.open_store(results) as connection:
        lines = connection.execute(
            "SELECT s.trial, s.method, s.seed, m.metric, m.at, m.value FROM metrics m JOIN suite_trials s USING (trial) "
            "JOIN trials t USING (trial) WHERE t.status IN ('done', 'diverged') AND s.newest "
            "AND m.metric NOT IN ('seconds_per_epoch', 'peak_memory')"
        ).fetchall()
        curves = connection.execute(
            "SELECT trial, epoch, test_accuracy FROM epochs JOIN trials USING (trial) WHERE status = 'done'"
        ).fetchall()
    for trial, method, seed, metric, at, value in lines:
        found.setdefault(trial, {})[metric, at] = value
        found[trial][f"method {method}", str(seed)] = 1.0
    for trial, epoch, value in curves:
        found.setdefault(trial, {})["epoch", str(epoch)] = value
    return found


# --- known damages -----------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file as somebody with an editor does."""
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=1))


def write(name: str, content: str | bytes) -> Damage:
    """Put other content in the place of a record."""

    def damage(mine: Path, other: Path) -> None:
        del other
        path = mine / name
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def keyed(name: str, *path: str | int, value: Any) -> Damage:
    """Put another value at a key of a record."""

    def damage(mine: Path, other: Path) -> None:
        del other

        def change(found: Any) -> Any:
            inner = found
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            return found

        edit(mine / name, change)

    return damage


def last_epoch(key: str, value: Any) -> Damage:
    """Put another value into the last line of ``epochs.jsonl``."""

    def damage(mine: Path, other: Path) -> None:
        del other
        path = mine / "attempt-001" / "epochs.jsonl"
        lines = path.read_text().splitlines()
        lines[-1] = json.dumps({**json.loads(lines[-1]), key: value})
        path.write_text("\n".join(lines) + "\n")

    return damage


def swap(name: str) -> Damage:
    """Swap a record, or a folder, with another trial's."""

    def damage(mine: Path, other: Path) -> None:
        aside = mine.parent / ".aside"
        os.rename(mine / name, aside)
        os.rename(other / name, mine / name)
        os.rename(aside, other / name)

    return damage


def gone(name: str) -> Damage:
    def damage(mine: Path, other: Path) -> None:
        del other
        (mine / name).unlink()

    return damage


def folder_for_file(name: str) -> Damage:
    def damage(mine: Path, other: Path) -> None:
        del other
        (mine / name).unlink(missing_ok=True)
        (mine / name).mkdir()

    return damage


def file_for_folder(name: str) -> Damage:
    def damage(mine: Path, other: Path) -> None:
        del other
        if (mine / name).exists():
            shutil.rmtree(mine / name)
        (mine / name).write_text("x")

    return damage


def fifo(name: str) -> Damage:
    def damage(mine: Path, other: Path) -> None:
        del other
        (mine / name).unlink(missing_ok=True)
        os.mkfifo(mine / name)

    return damage


def link(name: str) -> Damage:
    """A link to the same record of another trial."""

    def damage(mine: Path, other: Path) -> None:
        (mine / name).unlink(missing_ok=True)
        (mine / name).symlink_to(other / name)

    return damage


def one_bit(name: str, position: int) -> Damage:
    def damage(mine: Path, other: Path) -> None:
        del other
        raw = bytearray((mine / name).read_bytes())
        raw[position % len(raw)] ^= 1
        (mine / name).write_bytes(bytes(raw))

    return damage


def cut_lines(name: str, count: int) -> Damage:
    def damage(mine: Path, other: Path) -> None:
        del other
        lines = (mine / name).read_bytes().splitlines(keepends=True)
        (mine / name).write_bytes(b"".join(lines[:-count]))

    return damage


def odd_name(mine: Path, other: Path) -> None:
    """A name that is no UTF-8: nobody's record, and in nobody's way."""
    del other
    Path(os.fsdecode(os.fsencode(mine) + b"/attempt-\xff")).mkdir()
    Path(os.fsdecode(os.fsencode(mine.parent) + b"/\xff\xfe")).mkdir()


A1 = "attempt-001"
DEEP = "[" * 100_000 + "]" * 100_000
KNOWN: dict[str, Damage] = {
    **{f"accuracy {v}": keyed(f"{A1}/result.json", "metrics", "accuracy", "last", value=v)
       for v in (0.99, 2.5, -1, float("nan"), float("inf"), 1e308, None, "0.9")},
    "another best": keyed(f"{A1}/result.json", "metrics", "accuracy", "best", value=0.999),
    "another status": keyed(f"{A1}/result.json", "status", value="diverged"),
    "failed though done": keyed(f"{A1}/result.json", "status", value="failed"),
    "metrics a list": keyed(f"{A1}/result.json", "metrics", value=[]),
    "result of schema 1": keyed(f"{A1}/result.json", "schema", value=1),
    "result of another trial": keyed(f"{A1}/result.json", "trial", value="0" * 16),
    "last epoch edited": last_epoch("test_accuracy", 0.999),
    "loss 1e999": write(f"{A1}/timing.jsonl", '{"epoch": 1, "train_seconds": 1e999}\n'),
    "timing of {}": write(f"{A1}/timing.jsonl", "{}\n{}\n{}\n"),
    "an epoch less": cut_lines(f"{A1}/epochs.jsonl", 1),
    "swapped attempts": swap(A1),
    "swapped results": swap(f"{A1}/result.json"),
    "swapped epochs": swap(f"{A1}/epochs.jsonl"),
    "swapped trial.json": swap(f"{A1}/trial.json"),
    "swapped done.json": swap("done.json"),
    "one bit of the result": one_bit(f"{A1}/result.json", 333),
    "one bit of the epochs": one_bit(f"{A1}/epochs.jsonl", 100),
    "one bit of done.json": one_bit("done.json", 40),
    **{f"pid {v!r}": keyed(f"{A1}/claim.json", "pid", value=v) for v in ("x", None, -1, 1e300, [], 2**70)},
    "claim a list": write(f"{A1}/claim.json", "[]"),
    "retry.json {}": write("retry.json", "{}"),
    "retry.json upto x": write("retry.json", '{"upto": "x"}'),
    "cancel.json 1e400": write("cancel.json", "1e400"),
    "cancel.json at 1e400": write("cancel.json", '{"at": 1e400}'),
    "digests a list": keyed("done.json", "digests", value=["a"]),
    "files a list": keyed("done.json", "files", value=["a"]),
    "no files": keyed("done.json", "files", value={}),
    "done of schema 1": keyed("done.json", "schema", value=1),
    **{f"attempt {v!r}": keyed("done.json", "attempt", value=v)
       for v in ("a\u0000b", "../OTHER/attempt-001", "/etc", "attempt-007", "attempt-001/", None, 1, "")},
    **{f"a file for {name}": file_for_folder(name) for name in (A1, "attempt-002")},
    "a file for the trial": lambda mine, other: (shutil.rmtree(mine), mine.write_text("x"), None)[-1],
    **{f"a folder for {name}": folder_for_file(name)
       for name in ("done.json", "trial.json", "retry.json", f"{A1}/result.json", f"{A1}/epochs.jsonl",
                    f"{A1}/claim.json", f"{A1}/environment.json")},
    **{f"a fifo for {name}": fifo(name)
       for name in ("done.json", "trial.json", "cancel.json", f"{A1}/result.json", f"{A1}/epochs.jsonl",
                    f"{A1}/timing.jsonl", f"{A1}/claim.json", f"{A1}/trial.json")},
    **{f"a link for {name}": link(name) for name in ("done.json", f"{A1}/result.json", f"{A1}/epochs.jsonl")},
    **{f"100,000 deep {name}": write(name, DEEP)
       for name in ("done.json", "trial.json", "evaluations.json", f"{A1}/result.json", f"{A1}/environment.json")},
    "900 deep environment": write(f"{A1}/environment.json", '{"a":' * 900 + "1" + "}" * 900),
    "environment with 1e400": write(f"{A1}/environment.json", '{"note": 1e400}'),
    "versions a list": write(f"{A1}/environment.json", '{"versions": []}'),
    "evaluations override accuracy": write("evaluations.json", '{"accuracy": {"last": 0.999}}'),
    "evaluations without a digest": write("evaluations.json", '{"attempt": "attempt-001", "metrics": {"fgsm_accuracy@9": {"last": 0.5}}}'),
    "identity edited": lambda mine, other: edit(mine / A1 / "trial.json", lambda w: (w["identity"].update(seed=77), w)[1]),
    "identity a list": keyed(f"{A1}/trial.json", "identity", value=[]),
    "no trial.json at all": lambda mine, other: [(mine / name).unlink() for name in ("trial.json", f"{A1}/trial.json")] and None,
    "epochs gone": gone(f"{A1}/epochs.jsonl"),
    "done.json gone": gone("done.json"),
    "a lone surrogate": write(f"{A1}/environment.json", '{"host": "\\ud800"}'),
    "no UTF-8": write(f"{A1}/environment.json", b'{"host": "\xff"}'),
}  # fmt: skip
"""Each puts the trial into quarantine."""
HARMLESS: dict[str, Damage] = {
    "result.json cut": lambda mine, other: os.truncate(mine / A1 / "result.json", 100),
    "result.json empty": write(f"{A1}/result.json", ""),
    "names that are no UTF-8": odd_name,
    "a log that is a fifo": fifo(f"{A1}/log.txt"),
}
"""The trial runs again, or is as before."""


def _foreign_checkpoint(mine: Path, other: Path) -> None:
    donor = next(path for path in (*other.glob("attempt-*/last.pt"), *other.glob("attempt-*/selected.pt")))
    shutil.copyfile(donor, mine / A1 / "checkpoint.pt")


OPEN: dict[str, Damage] = {
    "a foreign checkpoint": _foreign_checkpoint,
    "one bit of the checkpoint": one_bit(f"{A1}/checkpoint.pt", 5000),
    "one bit of its line": one_bit(f"{A1}/checkpoint.pt", 60),
    "checkpoint cut": lambda mine, other: os.truncate(mine / A1 / "checkpoint.pt", 3000),
    "checkpoint a fifo": fifo(f"{A1}/checkpoint.pt"),
    "an epoch edited before going on": last_epoch("test_accuracy", 0.999),
    "validation edited before going on": last_epoch("validation_accuracy", 0.999),
    "epochs swapped before going on": swap(f"{A1}/epochs.jsonl"),
    "epochs gone before going on": gone(f"{A1}/epochs.jsonl"),
}
"""Done to the interrupted trial: it goes on to the same numbers, starts over, or is in quarantine."""


# --- damages by one that knows nothing ---------------------------------------------------------------------------------


def at_random(results: Path, rng: random.Random) -> str:
    """Damage a random file of a results folder in a random way; what was done, in words."""
    files = sorted(path for path in results.rglob("*") if path.is_file())
    path = rng.choice(files)
    raw = bytearray(path.read_bytes())
    kind = rng.choice(("bit", "byte", "bytes", "cut", "drop", "swap", "copy", "remove", "repeat", "fill"))
    at = rng.randrange(len(raw)) if raw else 0
    size = rng.randrange(1, 64)
    if kind == "bit" and raw:
        raw[at] ^= 1 << rng.randrange(8)
    elif kind == "byte" and raw:
        raw[at] = rng.randrange(256)
    elif kind == "bytes":
        raw[at : at + size] = rng.randbytes(size)
    elif kind == "cut":
        del raw[at:]
    elif kind == "drop":
        del raw[at : at + size]
    elif kind == "repeat":
        raw[at:at] = raw[at : at + size]
    elif kind == "fill":
        raw = bytearray(rng.randbytes(len(raw)))
    elif kind in ("swap", "copy"):
        other = rng.choice(files)
        theirs = other.read_bytes()
        if kind == "swap":
            other.write_bytes(raw)
        raw = bytearray(theirs)
        kind = f"{kind} with {other.relative_to(results)}"
    if kind == "remove":
        path.unlink()
    else:
        path.write_bytes(raw)
    return f"{kind} at {at}: {path.relative_to(results)}"


# --- what they end in --------------------------------------------------------------------------------------------------


def damage_of(number: int, healthy: Healthy, results: Path, seed: int) -> str:
    """Do damage ``number`` to a copy of the healthy folder: even ones are known, odd ones random."""
    rng = random.Random(f"{seed} {number}")
    if number % 2:
        return at_random(results, rng)
    done = sorted(set(healthy.values) - {healthy.open})
    table = [*KNOWN.items(), *HARMLESS.items(), *((name, OPEN[name]) for name in OPEN)]
    name, damage = table[number // 2 % len(table)]
    mine, other = rng.sample(done, 2)
    damage(results / "trials" / (healthy.open if name in OPEN else mine), results / "trials" / other)
    return name


def outcome_of(healthy: Healthy, results: Path) -> tuple[str, str]:
    """Look at a damaged folder, collect it, run it to its end, and compare what the board has with what it should have."""
    from harness.suite.load import load_suite
    from harness.suite.plan import make_plan

    suite, folder = str(healthy.suite), str(results)
    before = {path.relative_to(results) for path in (results / "trials").rglob("*") if path.name == "result.json"}
    said = ""
    for line in (
        ["status", suite, "--results", folder],
        ["collect", "--results", folder],
        ["run", suite, "--results", folder, "--executor", "inline"],
        ["plan", suite, "--results", folder],
        ["board", "--results", folder],
    ):
        ended: Outcome = outcome(line, patience=6.0)
        said += f"{line}: {ended}\n"
        if ended.kind in ("traceback", "hang"):
            return ended.kind, said
    shown = numbers(results)
    for trial, values in shown.items():
        expected = healthy.values.get(trial, {})
        wrong = {key: value for key, value in values.items() if key in expected and value != expected[key]}
        wrong |= {key: value for key, value in values.items() if key not in expected and not key[0].startswith("fgsm")}
        if wrong:
            return "wrong number", f"{trial}: {wrong}\n{said}"
    plan = make_plan(load_suite(healthy.suite), results)
    aside = {planned.id: planned.standing.reason for planned in plan.select("quarantined")}
    if set(healthy.values) - set(shown) - set(aside) or not all(aside.values()):
        return "lost", f"{set(healthy.values) - set(shown) - set(aside)} {aside}\n{said}"
    after = {path.relative_to(results) for path in (results / "trials").rglob("*") if path.name == "result.json"}
    if before - after:
        return "lost", f"{before - after}\n{said}"
    return ("in quarantine" if aside else "right number"), said


def torture(
    numbers_: Iterable[int],
    healthy: Healthy,
    seed: int,
    told: Callable[[int, str, str, str], None] = lambda *_: None,
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Do damages one after the other, each to a fresh copy.

    Returns:
        Outcomes by kind of damage, and what is to be said of those in :data:`BAD`.
    """
    table: dict[str, Counter[str]] = {"known": Counter(), "random": Counter()}
    bad: list[str] = []
    with scratch() as place:
        for number in numbers_:
            results = place / f"copy-{number}"
            shutil.copytree(healthy.results, results)
            words = damage_of(number, healthy, results, seed)
            kind, said = outcome_of(healthy, results)
            table["random" if number % 2 else "known"][kind] += 1
            told(number, words, kind, said)
            if kind in BAD:
                bad.append(f"{number} {words}: {kind}\n{said}")
            shutil.rmtree(results, ignore_errors=True)
    return table, bad


def table_text(table: dict[str, Counter[str]]) -> str:
    """The outcomes as a table."""
    kinds = [*GOOD, *BAD]
    lines = [f"{'damages':10}" + "".join(f"{kind:>16}" for kind in kinds)]
    lines += [f"{name:10}" + "".join(f"{counts[kind]:>16}" for kind in kinds) for name, counts in table.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--start", type=int, default=0, help="go on from this number")
    parser.add_argument("--shard", default="0/1", help="of how many, such as 1/4")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    part, parts = map(int, arguments.shard.split("/"))
    with tempfile.TemporaryDirectory() as folder:
        healthy = make_healthy(Path(folder))
        chosen = range(arguments.start + (part - arguments.start) % parts, arguments.count, parts)

        def told(number: int, words: str, kind: str, said: str) -> None:
            print(f"{number} {kind}: {words}" + (f"\n{said}" if kind in BAD else ""), flush=True)

        table, bad = torture(chosen, healthy, arguments.seed, told)
    print(table_text(table))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
