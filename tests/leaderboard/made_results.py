"""A results folder written record by record: no training, every number known."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.results.store import collect

HOSTILE = "<script>alert('x')</script> & \"q\" *b* _i_ $5 | `c` \\ % # ~ ^ {}"
METHODS = {"CE": ("ce", []), "ELR": ("ce", ["elr"]), HOSTILE: ("sce", [])}
FURTHER = {"CDR": ("ce", ["cdr"]), "AUX": ("ce", ["aux"]), "CDR+AUX": ("ce", ["cdr", "aux"]), "L1": ("l1", [])}
SETTINGS = (("mnist5k", "symmetric", 0.2), ("mnist5k", "pairflip", 0.4), ("fashion", "symmetric", 0.4))
LIFT = {"CE": 0.0, "ELR": 0.05, HOSTILE: 0.044}


class Folder:
    """Writes trials and manifests as workers and the planner do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.tries: dict[str, int] = {}
        (path / "trials").mkdir(parents=True)
        (path / "suites").mkdir()
        (path / "version.json").write_text('{"schema": 1}')

    def trial(
        self,
        method: str,
        place: tuple[str, str, float],
        seed: int,
        value: float | None,
        *,
        suite: str = "made",
        error: str = "",
        epochs: int = 3,
        batch_size: int = 64,
        metrics: Mapping[str, Mapping[str, float]] | None = None,
        model: str = "lenet",
        log: str = "started\n",
        threads: int = 1,
        share: float = 0.2,
        diverged: bool = False,
    ) -> str:
        """One trial: done with a value, failed with an error, diverged, or planned only (none of these).

        ``share`` is the largest share of one class among the predictions of the last epoch.
        """
        loss, algorithms = {**METHODS, **FURTHER}.get(method, ("ce", ["other"]))
        dataset, noise, rate = place
        number = sum(map(len, self.lines.values())) + 1
        trial = f"{number:016x}"
        setting = f"{dataset} / {model} / {noise} {rate:g}"
        self.lines.setdefault(suite, []).append(
            {
                "id": trial,
                "method": method,
                "setting": setting,
                "seed": seed,
                "oracle": method == "ELR",
                "tuning": False,
                "candidate": None,
            }
        )
        if value is None and not error:
            return trial
        part = {"version": "1", "params": {}}
        identity = {
            "schema": 1,
            "dataset": {"name": dataset, **part},
            "noise": {"name": noise, "version": "1", "params": {"rate": rate}},
            "model": {"name": model, **part},
            "loss": {"name": loss, **part},
            "transforms": [],
            "algorithms": [{"name": name, **part} for name in algorithms],
            "training": {"epochs": epochs, "batch_size": batch_size},
            "seed": seed,
        }
        attempt = self.path / "trials" / trial / "attempt-001"
        attempt.mkdir(parents=True)
        words = json.dumps({"identity": identity, "options": {"fgsm": [0.1]}})
        (attempt / "trial.json").write_text(words)
        (attempt.parent / "trial.json").write_text(words)
        (attempt / "claim.json").write_text(json.dumps({"host": "made", "claimed": time.time()}))
        (attempt / "log.txt").write_text(log)
        environment = {
            "host": "made",
            "commit": "abc123",
            "seconds": 60.0,
            "started": 1e9 + number,
            "device": "cpu",
            "threads": threads,
        }
        (attempt / "environment.json").write_text(json.dumps({**environment, "versions": {"torch": "2.8"}}))
        result: dict[str, Any]
        if error:
            result = {
                "status": "failed", "metrics": {},
                "error": {"type": "ValueError", "message": error, "traceback": f"Traceback\n{error}"},
            }  # fmt: skip
        else:
            assert value is not None
            curve = [value * (e + 1) / epochs for e in range(epochs)]
            lines = [
                {
                    "epoch": e + 1,
                    "lr": 0.1,
                    "train_loss": 2.0 - v,
                    "test_accuracy": v,
                    "memorisation": v / 5,
                    "diagnostics": {"norm": v},
                }
                for e, v in enumerate(curve)
            ]
            (attempt / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            timing = [
                {
                    "epoch": e + 1,
                    "train_seconds": 1.0 + len(method) / 100,
                    "evaluation_seconds": 0.1,
                    "peak_memory": 1e8,
                }
                for e in range(epochs)
            ]
            (attempt / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
            best = min(1.0, value + 0.01)
            taken = {
                "last": value,
                "last10": value - 0.01,
                "selected": value - 0.002,
                "best": best,
                "best_minus_last": best - value,
            }
            found = {
                "accuracy": taken,
                "memorisation": {"last": value / 5},
                "parameters": {"last": 61706.0},
                "predicted_share": {"last": share},
                **(metrics or {}),
            }
            result = {
                "status": "diverged" if diverged else "done", "metrics": found, "error": None, "num_classes": 10,
                "test_samples": 1000, "chance": {"accuracy": 0.1} if diverged else {}, "label_digest": "d" * 16, "corrupted": rate,
                "selected_epoch": 2, "transitions": [[80, 20], [30, 70]],
                "histograms": {"score": {"edges": [0.0, 0.5, 1.0], "clean": [9, 1], "corrupted": [2, 8]}},
            }  # fmt: skip
        (attempt / "result.json").write_text(json.dumps(result))
        if not error:
            marker = {"attempt": "attempt-001", "digests": {}, "status": result["status"]}
            (attempt.parent / "done.json").write_text(json.dumps(marker))
        return trial

    def collect(self) -> Path:
        """Write the manifests and bring the store up to date."""
        for suite, lines in self.lines.items():
            methods = list(dict.fromkeys(line["method"] for line in lines))
            folder = self.path / "suites" / suite.replace("/", "-")
            folder.mkdir(exist_ok=True)
            manifest = {
                "suite": suite, "comparable": True, "methods": methods, "tries": dict.fromkeys(methods, 1) | self.tries,
                "settings": list(dict.fromkeys(line["setting"] for line in lines)), "trials": lines,
            }  # fmt: skip
            target = folder / "0000000000000000.json"
            target.write_text(json.dumps(manifest))
            os.utime(target)
        return collect(self.path)


def values(method: str, place: int, seed: int) -> float:
    """The made score: the method's lead, the setting's difficulty, the seed's effect, a wobble."""
    number = list(METHODS).index(method)
    wobble = 0.002 * ((seed + place + 1) * (3 * number + 2) % 5 - 2)
    return 0.8 - 0.1 * place + LIFT[method] + 0.004 * seed + wobble


def fill(folder: Folder) -> None:
    """Three methods, three settings, three seeds."""
    for method in METHODS:
        for position, place in enumerate(SETTINGS):
            for seed in range(3):
                folder.trial(method, place, seed, values(method, position, seed))
