"""The trials of a batch in one file, unpacked by each job on its node.

A login node that made a folder for each of 100,000 trials would be busy for minutes on a network file system; so the
submitter writes ``trials.json`` once, where trials that differ in their seed only share their words, and each job makes
the folders of its own trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.results.records import read_json, submit_trials, write_json
from harness.trial import Trial

NAME = "trials.json"


def write(batch: Path, trials: Iterable[Trial]) -> None:
    """Write the trials of a batch."""
    templates: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    known: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for trial in trials:
        number = known.get(id(trial.options))
        if number is None or not _same_but_seed(templates[number][0], trial.identity):
            number = known[id(trial.options)] = len(templates)
            templates.append((trial.identity, trial.options))
        places[trial.id] = (number, trial.seed)
    content = {"templates": [{"identity": i, "options": o} for i, o in templates], "trials": places}
    write_json(batch / NAME, content, indent=None)


def _same_but_seed(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return len(one) == len(other) and all(other.get(key) is one[key] for key in one if key != "seed")


def unpack(batch: Path, ids: Sequence[str], results: Path) -> None:
    """Make the folders of some of a batch's trials.

    Raises:
        ValueError: when a trial's id is not the hash of its words.
    """
    content = read_json(batch / NAME)
    if content is None:  # the trials were submitted one by one, with folders
        return
    trials = []
    for trial_id in ids:
        if trial_id in content["trials"]:
            number, seed = content["trials"][trial_id]
            template = content["templates"][number]
            trials.append(
                Trial.from_json(
                    {"id": trial_id, "identity": {**template["identity"], "seed": seed}, "options": template["options"]}
                )
            )
    submit_trials(results, trials)
