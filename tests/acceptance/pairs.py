"""Every accepted pair as a method of one suite, trained on small data without a file or a record."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.plugins import DISTRIBUTION, load_host
from harness.suite.acceptance import Acceptance, acceptance
from harness.suite.load import load_suite
from harness.training.loop import Loop
from harness.training.prepare import DataCache, prepare
from harness.trial import Trial

EPOCHS = 3
SETTINGS = {
    "classification": 'dataset = "digits"\nmodel = { name = "mlp", hidden = [32] }\n'
    'noise = { name = "symmetric", rate = 0.3 }',
    "multilabel": 'dataset = { name = "mnist_pairs", pairs = 1000 }\nmodel = { name = "mlp", hidden = [32] }\n'
    'noise = { name = "label_flip", on = 0.05, off = 0.1 }',
    "regression": 'dataset = { name = "linear_regression", train = 1000, features = 12, outputs = 4 }\n'
    'model = "linear"\nnoise = { name = "gaussian", std = 3.0, rate = 0.3 }',
    "sparse": 'dataset = { name = "sparse_linear", test = 100 }\nmodel = { name = "linear", bias = false }\n'
    'noise = { name = "gaussian", std = 1.0, rate = 0.15, count = "exact" }\nnormalize = "none"',
}
SPARSE = ("sop_linear", "sparse_recovery")
"""Algorithms for one problem only: a linear model with one output, and corruptions of few samples."""
PARAMETERS: Mapping[str, str] = {
    "aux": "lr_b = 0.05",
    "bgce": "q = 0.3",
    "cal": "stage1 = 1, threshold = -1.0",
    "cdr": "tau = 0.3",
    "co_teaching": "warmup = 2",
    "co_teaching_plus": "warmup = 2, init_epoch = 2",
    "disc": "warmup = 1, momentum = 0.9",
    "divide_mix": "warmup = 1",
    "unicon": "warmup = 1",
    "cc": "warmup = 1, discrepancy_steps = 3, consistency = 0.1",
    "pro_mix": "warmup = 1, ramp = 2",
    "dmi": "warmup = 2",
    "elr": "lam = 0.3",
    "elr_plus": "lam = 0.3, decay_steps = 20",
    "cores2_star": "beta = 1, warmup = 0, ramp = 1, phase1 = 1, lr = 0.1",
    "cores2": "beta = 1, warmup = 1, ramp = 1, sieve_after = 2",
    "ema": "decay = 0.9",
    "f_divergence": 'divergence = "kl", warmup = 1',
    "freeze": 'except = ["3|1"]',
    "gls": "rate = -0.3, warmup = 1",
    "jocor": "lam = 0.3, warmup = 2",
    "kpd": "rank = 4",
    "lora": 'targets = ["1"], alpha = 4.0',
    "long_re_mix": "warmup = 0, stage1 = 1",
    "peer": "alpha = [[0.0, 0.5, 2], [0.5, 0.5, 1]]",
    "pes": "warmup = 1, refine = 1, refine_lr = 0.01",
    "rank_factorization": "rank = 16",
    "rdi": "lam = 0.5",
    "score_census": 'score = "none", epochs = [99], edges = [0.5]',
    "sop_linear": "alpha = [100], lam = [0.1], steps = 2000",
    "sparse_recovery": "instances = 1, rate = 0.15",
    "rrm": "every = 1, contamination = 0.3",
    "swa": "start = 1",
    "t_revision": "stage1 = 1, stage2 = 1, lr = 0.001",
    "truncated_gce": "start_epoch = 3, every = 1, k = 0.2",
}
"""So that three epochs reach every branch: schedules start at once, weights change after each epoch."""
TRAINING: Mapping[str, str] = {
    "aldr_kl": "optimizer = { lr = 0.02 }",
    "ael": "optimizer = { lr = 0.3 }",
    "aue": "optimizer = { lr = 0.005 }",
    "bce": "optimizer = { lr = 0.2 }",
    "eps_softmax_mae": "optimizer = { lr = 0.02 }",
    "rce": "optimizer = { lr = 0.02 }",
    "mse": "optimizer = { lr = 0.3 }",
    "nce": "optimizer = { lr = 0.3 }",
    "nce_rce": "optimizer = { lr = 0.03 }",
    "sce": "optimizer = { lr = 0.03 }",
    "backward": "optimizer = { lr = 0.02 }",
    "cores2": "optimizer = { lr = 0.05 }",
    "dmi": 'batch_size = 128\nclip = 1.0\nschedule = { name = "step", milestones = [2], gamma = 0.01 }',
    "nfl": "optimizer = { lr = 0.3 }",
    "pro_mix": "optimizer = { lr = 0.03 }",
}
"""Where the common learning rate, 0.1 with momentum 0.9 at batch size 64, is too large or too small; DMI, which finds
classes up to their order only, begins with cross entropy."""


def written(name: str) -> str:
    parameters = f", {PARAMETERS[name]}" if name in PARAMETERS else ""
    return f'{{ name = "{name}"{parameters} }}'


@functools.cache
def table() -> Acceptance:
    """What the components that come with the harness declare."""
    return acceptance(load_host().registry, [DISTRIBUTION])


def setting_of(loss: str, algorithms: tuple[str, ...]) -> str:
    """The setting that a stack is tried in."""
    if set(algorithms) & set(SPARSE):
        return "sparse"
    return next(part.declares.tasks[0] for part in table().losses if part.name == loss)


def carriers(*algorithms: str) -> list[str]:
    """For each task a loss that carries all of some algorithms: cross entropy or the squared error where they do."""
    found = table()
    losses = sorted(found.losses, key=lambda loss: loss.name not in ("ce", "l2"))
    carrying = [loss for loss in losses if all(found.with_loss[a, loss.name].accepted for a in algorithms)]
    return list({loss.declares.tasks: loss.name for loss in reversed(carrying)}.values())


class Field:
    """Stacks by ``(loss, algorithms, transforms)``, all in one suite for each task; each trained once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stacks: dict[tuple[str, tuple[str, ...], tuple[str, ...]], str] = {}
        self.trials: dict[str, Trial] = {}
        self.caches: dict[str, DataCache] = {name: {} for name in SETTINGS}
        self.trained: dict[str, list[dict[str, Any]]] = {}
        self.spreads: dict[str, float] = {}

    def load(self, stacks: list[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> None:
        """Validate the stacks as methods of a suite, which makes their trials."""
        for known, setting in SETTINGS.items():
            methods = []
            for loss, algorithms, transforms in stacks:
                if setting_of(loss, algorithms) != known:
                    continue
                name = " ".join([loss, *algorithms, *transforms])
                self.stacks[loss, algorithms, transforms] = name
                own = list(dict.fromkeys(TRAINING[part] for part in (loss, *algorithms) if part in TRAINING))
                methods.append(
                    f'[[method]]\nname = "{name}"\nloss = {written(loss)}\n'
                    f"algorithms = [{', '.join(map(written, algorithms))}]\n"
                    f"transforms = [{', '.join(map(written, transforms))}]\n" + "".join(own[-1:])
                )
            if not methods:
                continue
            path = self.folder / f"{known}.toml"
            path.write_text(
                f'[suite]\nname = "pairs"\nseeds = [0]\n'
                f"[training]\nepochs = {EPOCHS}\nbatch_size = 64\nvalidation = 0.0\n"
                f'optimizer = {{ name = "sgd", lr = {0.1 if known in ("classification", "multilabel") else 0.01}, momentum = 0.9 }}\n'
                f"[evaluation]\ntrain_every = {EPOCHS}\n[[setting]]\n{setting}\n" + "\n".join(methods) + "\n"
            )
            self.trials |= {entry.method: entry.trial for entry in load_suite(path).entries()}

    def history(self, loss: str, algorithms: tuple[str, ...], transforms: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The epochs of a stack, trained on one thread."""
        name = self.stacks[loss, algorithms, transforms]
        if name not in self.trained:
            trial = self.trials[name]
            ready = prepare(trial, load_host(), torch.device("cpu"), self.caches[setting_of(loss, algorithms)])
            clip = trial.identity["training"]["clip"]
            if ready.run.task == "regression":
                self.spreads[setting_of(loss, algorithms)] = float(ready.evaluator.test_targets.std(correction=0))
            self.trained[name] = Loop(ready.run, ready.evaluator, self, clip=clip, checkpoint_s=math.inf).fit()
        return self.trained[name]

    def spread(self, loss: str, algorithms: tuple[str, ...]) -> float:
        """Standard deviation of the test targets, once a stack has been trained in their setting."""
        return self.spreads[setting_of(loss, algorithms)]

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """A field is its own journal, and keeps what the loop returns in the end."""

    def checkpoint(self, state: dict[str, Any]) -> None: ...

    def should_stop(self) -> bool:
        return False


def pairs_with_losses() -> list[tuple[str, str]]:
    """Accepted (algorithm, loss)."""
    return [pair for pair, verdict in table().with_loss.items() if verdict.accepted]


def pairs_of_algorithms() -> list[tuple[str, str, str]]:
    """Accepted (algorithm, algorithm), each in one of its orders, with a loss that carries both for each task."""
    pairs = [pair for pair, verdict in table().with_algorithm.items() if verdict.accepted and pair[0] < pair[1]]
    return [(*pair, loss) for pair in pairs for loss in carriers(*pair)]


def transformed() -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Every transform under every algorithm that takes it, and under every fourth classification loss by itself."""
    found = table()
    losses = [loss.name for loss in found.losses if "classification" in loss.declares.tasks][::4]
    stacks = []
    for transform in (part.name for part in found.transforms):
        stacks += [
            (loss, (part.name,), (transform,))
            for part in found.algorithms
            if found.with_transform[transform, part.name].accepted
            for loss in carriers(part.name)
        ]
        stacks += [(loss, (), (transform,)) for loss in losses]
    return stacks


def surrounded() -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Every method that descends by itself with all algorithms that it takes, of two that refuse each other the first,
    under KPD."""
    found = table()
    stacks = []
    for part in found.algorithms:
        if part.declares.descends:
            stack = [part.name]
            for other in (b.name for b in found.algorithms if b is not part):
                if all(found.with_algorithm[one, other].accepted for one in stack):
                    stack.append(other)
            stacks += [(loss, tuple(stack), ("kpd",)) for loss in carriers(part.name)]
    return stacks
