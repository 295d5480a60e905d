"""Which labels seem to be wrong: every sample judged out of sample by several methods and seeds, the most suspicious first.

Each fold's answer is kept under ``results/suspects``, so that a command that was stopped goes on; beside them the list
itself, with what a person has to see of each sample, for the page Suspects.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from harness.errors import SuiteError, unknown, writing
from harness.execution.showing import showing
from harness.files import write_bytes
from harness.results.suspects import FOLDER, About, Suspect, write_list
from harness.suite.load import Suite
from harness.training.data import DataSplits, LabelledData
from harness.training.out_of_sample import judge_fold
from harness.training.prepare import DataCache, load_data
from harness.trial import Trial

FOLDS = 5
LEAST_KNOWN = 20
"""Samples whose true label is known, from which ``p_wrong`` is calibrated at the least."""


def find_suspects(
    suite: Suite,
    results: Path,
    methods: Sequence[str] = (),
    folds: int = FOLDS,
    seeds: int | None = None,
    told: Callable[[str], None] = lambda words: None,
) -> list[Suspect]:
    """All samples of a suite's one setting, the most suspicious first: its training samples by K-fold, and its test samples
    too where nobody trusts their labels.

    Args:
        suite: with one setting.
        results: the results folder, in which the answers of folds and the list are kept.
        methods: names of the suite's methods; none: all.
        folds: K.
        seeds: how many of the suite's seeds, from the first; ``None``: all.
        told: of every fold that was trained.

    Raises:
        HarnessError: for an unknown method, several settings, or another task than classification.
    """
    if len(suite.settings) != 1:
        raise SuiteError("has several settings", suite.path.name, "name one in a suite of its own")
    names = [method.name for method in suite.methods]
    for name in methods:
        if name not in names:
            raise SuiteError(unknown("method", name, names), "--method")
    chosen = suite.table.seeds[:seeds]
    entries = [e for e in suite.entries() if e.seed in chosen and (not methods or e.method in methods)]
    if not entries:
        raise SuiteError("has no method without a search", suite.path.name, "name a method that searches nothing")
    cache: DataCache = {}
    answers: dict[tuple[str, int], np.ndarray] = {}
    given = np.empty(0, dtype=np.int64)
    splits = load_data(entries[0].trial, suite.host, cache)
    for entry in entries:
        found = []
        for fold in range(folds):
            path = results / FOLDER / f"{entry.trial.id}-{fold + 1}of{folds}.npz"
            found.append(_kept(path) or _judged(path, entry.trial, suite, fold, folds, cache))
            told(f"{entry.method}, seed {entry.seed}: fold {fold + 1} of {folds}")
        positions = np.concatenate([one["positions"] for one in found])
        order = positions.argsort()
        rows = np.concatenate([one["probabilities"] for one in found])[order]
        given = np.concatenate([one["given"] for one in found])[order]
        test = np.mean([one["test"] for one in found], axis=0)
        positions = positions[order]
        answers[entry.method, entry.seed] = rows if splits.trusted else np.concatenate([rows, test])
    train = splits.train.subset(torch.from_numpy(positions))
    parts = [train] if splits.trusted else [train, splits.test]
    if not splits.trusted:
        given = np.concatenate([given, splits.test.targets.numpy()])
    classes = _class_names(splits)
    suspects, samples = _ranked(answers, given, _ids(parts), _clean(parts), classes)
    dataset = suite.settings[0].dataset
    shown = showing(dataset, parts, samples)
    component, _ = suite.host.registry.find("dataset", dataset.name)
    corrected = bool(suite.host.registry.facts(component).declares.corrected)
    write_list(results, About(suite.name, _typed(suite), tuple(classes), shown.folder, corrected), suspects, shown)
    return suspects


def _typed(suite: Suite) -> str:
    """The suite as a command takes it in any folder."""
    named = suite.arguments[0] if suite.arguments else ""
    return named if named.startswith("suite:") else str(suite.path.absolute())


def _judged(path: Path, trial: Trial, suite: Suite, fold: int, folds: int, cache: DataCache) -> dict[str, np.ndarray]:
    """A fold's answer, kept."""
    found = judge_fold(trial, suite.host, fold, folds, cache)
    arrays = {field.name: getattr(found, field.name).numpy() for field in dataclasses.fields(found)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    return arrays


def _kept(path: Path) -> dict[str, np.ndarray] | None:
    """A fold's answer from the disk; ``None`` where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in ("positions", "given", "probabilities", "test")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _ranked(
    answers: dict[tuple[str, int], np.ndarray],
    given: np.ndarray,
    ids: Sequence[str],
    clean: np.ndarray,
    classes: Sequence[str],
) -> tuple[list[Suspect], list[int]]:
    """The suspects, and which of the samples each is."""
    everyone = np.mean(list(answers.values()), axis=0)
    place = np.arange(len(given))
    score = 1 - everyone[place, given]
    suggested = everyone.argmax(1)
    doubts = {}
    for part in (0, 1):
        kinds = sorted({key[part] for key in answers}, key=str)
        means = [np.mean([rows for key, rows in answers.items() if key[part] == kind], axis=0) for kind in kinds]
        doubts[part] = np.sum([mean.argmax(1) != given for mean in means], axis=0)
    chances = calibrated(score, given, clean)
    order = np.lexsort((place, -score)).tolist()
    suspects = [
        Suspect(
            ids[i],
            classes[given[i]],
            classes[suggested[i]],
            float(score[i]),
            None if chances is None else float(chances[i]),
            int(doubts[1][i]),
            int(doubts[0][i]),
        )
        for i in order
    ]
    return suspects, order


def calibrated(score: np.ndarray, given: np.ndarray, clean: np.ndarray) -> np.ndarray | None:
    """(N,) probabilities of being wrong by isotonic regression on the samples whose true class is known (``clean`` >= 0);
    ``None`` where these are fewer than 20, or all right or all wrong."""
    known = clean >= 0
    wrong = (clean != given)[known]
    if known.sum() < LEAST_KNOWN or wrong.all() or not wrong.any():
        return None
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(score[known], wrong.astype(float))
    return np.asarray(fit.predict(score))


def _ids(parts: Iterable[LabelledData]) -> list[str]:
    """Files of the samples where they are files, else numbers of their rows, from 1."""
    found: list[str] = []
    for data in parts:
        rows = data.origin if data.origin is not None else torch.arange(len(data))
        files = data.files
        found += [str(row + 1) if files is None else files[row] for row in rows.tolist()]
    return found


def _clean(parts: Iterable[LabelledData]) -> np.ndarray:
    unknown_ = [torch.full((len(data),), -1) if data.clean is None else data.clean for data in parts]
    return torch.cat(unknown_).numpy()


def _class_names(splits: DataSplits) -> list[str]:
    return list(splits.train.class_names) or [str(k) for k in range(splits.train.num_classes or 0)]
