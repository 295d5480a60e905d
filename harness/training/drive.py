"""``harness.drive``: one stack of loss and algorithms on a model and tensors, trained by the real loop without a suite."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.declarations import Declares
from harness.errors import HarnessError, unknown
from harness.hookspecs import TRAINING_HOOKS
from harness.parameters import NOISE_MATRIX
from harness.plugins import load_host
from harness.registry import Registry, as_component
from harness.suite.compose import Part, asking, check_accumulation, check_stack
from harness.suite.optim import OPTIMIZERS, SCHEDULES, validate
from harness.suite.schema import TrainingTable
from harness.tasks import TASKS
from harness.training import optim, seeds
from harness.training.augment import Augmentation
from harness.training.data import ResidentSource
from harness.training.loop import Loop
from harness.training.networks import Network, Table
from harness.training.passes import Pass
from harness.training.run import Run, Step
from harness.training.stack import Stack
from harness.training.tasks import task_of

KEYS = ("loss", "algorithms", "optimizer", "schedule", "clip")
Batches = Sequence[Sequence[Tensor | Sequence[int]]] | Sequence[Tensor | Sequence[int]]


def drive(
    stack: Any,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    seed: int,
    batches: Batches,
    optimizer: Mapping[str, Any] | str | None = None,
    schedule: Mapping[str, Any] | str | None = None,
    last_batch: Literal["scaled", "mean"] = "scaled",
    accumulate: int = 1,
) -> list[dict[str, Any]]:
    """Train a model in place by one stack, batch by batch as told.

    Everything is computed as in a trial: the same loop, hooks, reduction and per-sample state. There is no data set, noise,
    standardisation, augmentation or evaluation. The generators of torch, numpy and Python are left as they were.

    Args:
        stack: what is trained by: the name of an algorithm or a loss; a list of algorithms; or a table as a suite's
            ``[[method]]``, with ``loss``, ``algorithms``, ``optimizer``, ``schedule`` and ``clip``. A part is a name, a
            table with a name and parameters, or an object that is made already. Without a loss it is the one that an
            algorithm replaces, else the plain one of the task (``ce``, ``bce``, ``l2``).
        model: trained in place, on the device and in the type of its parameters (float32 or float64).
        inputs: (N, ...) as the model takes them.
        targets: (N,) int64 classes, or (N,) or (N, outputs) floats for regression: the noisy ones.
        seed: of all that is drawn (initial per-sample state, mixup, further networks).
        batches: positions of the samples of each batch: a list of epochs, each a list of batches; or the batches of one
            epoch. The largest is the nominal batch size. An algorithm that divides the epoch into passes walks them in each
            pass over all samples; passes over some samples are shuffled by the seed.
        optimizer, schedule: tables as in ``[training]``; SGD at 0.05 with momentum 0.9 and a constant rate without.
        last_batch: a batch smaller than the nominal size: its sum over the nominal size, or over its own.
        accumulate: micro-batches that a batch of the nominal size is worked through in, whose gradients are summed.

    Returns:
        A record for each epoch: ``epoch``, ``lr``, ``train_loss``, ``diagnostics``, and ``losses``, the scalar that each
        batch stepped on. The last is that in which loss or weights are no longer finite, if that happens.

    Raises:
        HarnessError: for an unknown part, a bad parameter, a stack that cannot be, or batches that do not fit.
    """
    registry = load_host().registry
    table = _table(stack, registry)
    task = task_of(targets, None if targets.is_floating_point() else 0)
    loss, loss_part, algorithms = _parts(table, registry, task)
    check_stack(loss_part, [part for _, part in algorithms], task)
    epochs = _epochs(batches, len(targets))
    largest = max(len(batch) for epoch in epochs for batch in epoch)
    if accumulate > 1:
        check_accumulation(loss_part, [part for _, part in algorithms], accumulate, largest)
    example = next(model.parameters())
    device, dtype = example.device, example.dtype
    before = seeds.global_state()
    try:
        seeds.seed_globals(seed)
        run = _make_run(
            Stack(
                loss,
                [a for a, _ in algorithms],
                [p.name for _, p in algorithms],
                loss_part.name,
                loss_part.declares.per_batch,
            ),
            model,
            inputs.to(device, dtype) if inputs.is_floating_point() else inputs.to(device),
            targets.to(device, dtype) if targets.is_floating_point() else targets.to(device),
            validate(OPTIMIZERS, optimizer or table.get("optimizer") or DEFAULT_OPTIMIZER, "optimizer"),
            validate(SCHEDULES, schedule or table.get("schedule") or "constant", "schedule"),
            epochs=len(epochs),
            batch_size=largest,
            seed=seed,
            device=device,
            last_batch=last_batch,
            accumulate=accumulate,
            dtype=dtype,
        )
        given = [[batch.to(device) for batch in epoch] for epoch in epochs]
        return _Given(run, _Unmeasured(), _Unwritten(), clip=table.get("clip"), batches=given).fit()  # type: ignore[arg-type]
    finally:
        seeds.restore_global_state(before)


DEFAULT_OPTIMIZER = TrainingTable.model_fields["optimizer"].default


def _table(stack: Any, registry: Registry) -> Mapping[str, Any]:
    """A stack in any of its forms as a table of ``KEYS``."""
    if isinstance(stack, Mapping) and "name" not in stack:
        for key in stack:
            if key not in KEYS:
                raise HarnessError(unknown("key", key, KEYS), "drive.stack")
        return stack
    if isinstance(stack, Sequence) and not isinstance(stack, str):
        return {"algorithms": list(stack)}
    if isinstance(stack, (str, Mapping)):
        name, _ = as_component(stack, "drive.stack")
        is_loss = name in registry.names("loss") and name not in registry.names("algorithm")
    else:
        is_loss = callable(stack) and not any(hasattr(stack, hook) for hook in TRAINING_HOOKS)
    return {"loss": stack} if is_loss else {"algorithms": [stack]}


def _parts(table: Mapping[str, Any], registry: Registry, task: str) -> tuple[Any, Part, list[tuple[Any, Part]]]:
    algorithms = [_part(registry, "algorithm", given) for given in table.get("algorithms", ())]
    replaced = [part.declares.replaces for _, part in algorithms if part.declares.replaces]
    given = table.get("loss", replaced[0] if replaced else TASKS[task].loss)
    loss, part = _part(registry, "loss", given)
    return loss, part, algorithms


def _part(registry: Registry, kind: str, given: Any) -> tuple[Any, Part]:
    """A part of a stack, and what composition needs to know of it."""
    if not isinstance(given, (str, Mapping)):
        declares = getattr(given, "declares", Declares())
        hooks = tuple(hook for hook in TRAINING_HOOKS if hasattr(given, hook))
        known = [c.name for c in registry.components(kind) if c.address.rpartition(":")[2] == type(given).__qualname__]
        whole = {declares.whole_batch: getattr(given, declares.whole_batch, False)} if declares.whole_batch else {}
        return given, Part(known[0] if known else type(given).__name__, hooks, asking(declares, whole))
    name, params = as_component(given, f"drive.{kind}")
    component, _ = registry.find(kind, name)
    facts = registry.facts(component)
    filled = registry.validate(kind, name, params)
    if NOISE_MATRIX in filled.values():
        key = next(key for key, value in filled.items() if value == NOISE_MATRIX)
        raise HarnessError(
            "refers to the noise of a setting, and there is none", f"{component.label}.{key}", "give a matrix"
        )
    return registry.create(kind, name, params), Part(name, tuple(facts.hooks), asking(facts.declares, filled))


def _epochs(batches: Batches, samples: int) -> list[list[Tensor]]:
    """Batches as tensors, by epoch."""
    given: list[Any] = list(batches)
    if given and all(isinstance(position, int) or getattr(position, "ndim", 1) == 0 for position in given[0]):
        given = [given]  # the batches of one epoch
    epochs = [[torch.as_tensor(batch, dtype=torch.int64) for batch in epoch] for epoch in given]
    if not epochs or not all(epochs) or not all(len(batch) for epoch in epochs for batch in epoch):
        raise HarnessError(
            "has an epoch without batches, or an empty batch", "drive.batches", "give every batch a sample"
        )
    together = torch.cat([batch for epoch in epochs for batch in epoch])
    if int(together.min()) < 0 or int(together.max()) >= samples:
        raise HarnessError(f"names a sample outside [0, {samples})", "drive.batches", "give positions of the inputs")
    return epochs


def _make_run(
    stack: Stack,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    optimizer: Mapping[str, Any],
    schedule: Mapping[str, Any],
    **options: Any,
) -> Run:
    def network(
        module: nn.Module, own: Table | None = None, rates: Table | None = None, epochs: int | None = None
    ) -> Network:
        made = optim.make_optimizer(optim.chosen_table(OPTIMIZERS, own, optimizer), module)
        table = optim.chosen_table(SCHEDULES, rates, schedule)
        return Network(module, made, optim.make_schedule(table, made, epochs or options["epochs"]))

    def further(name: str, *, head: nn.Module | None = None, **given: Any) -> Network:
        """A network of the same architecture, initialised anew by its own stream; of a head that is made already its
        optimizer and schedule."""
        own = [given.get(key) for key in ("optimizer", "schedule", "epochs")]
        if head is not None:
            return network(head, *own)
        module = copy.deepcopy(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(options["seed"], "init", name))
            for part in module.modules():
                reset: Any = getattr(part, "reset_parameters", None)
                if reset is not None:
                    reset()
        return network(module, *own)

    training = model.training
    model.eval()
    with torch.no_grad():
        shape = model(inputs[:1]).shape
    model.train(training)
    outputs = 1 if len(shape) == 1 else int(shape[1])
    run = Run(
        network=network(model),
        stack=stack,
        source=ResidentSource(inputs, None, Augmentation(), options["device"]),
        targets=targets,
        num_classes=None if targets.is_floating_point() else outputs,
        num_outputs=outputs,
        build_network=further,
        name="drive",
        **options,
    )
    if run.stack.setup is not None:
        run.stack.setup(run=run)
    return run


@dataclasses.dataclass
class _Given(Loop):
    """A loop over given batches that keeps the loss of each."""

    batches: Sequence[Sequence[Tensor]] = ()

    def _planned(self, walk: Pass) -> int:
        if walk.index is not None:
            return super()._planned(walk)
        return sum(len(batch) for batch in self.batches[self.run.epoch - 1])

    def _nominal(self, walk: Pass) -> int | None:
        return super()._nominal(walk) if walk.index is not None else None

    def _batches(self, walk: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """The given batches where a pass is over all samples; some samples are shuffled by the seed."""
        if walk.index is not None:
            return super()._batches(walk)
        return ((index, self.run.source.gather(index)) for index in self.batches[self.run.epoch - 1])

    def _train_epoch(self) -> None:
        self._stepped: list[Tensor] = []
        super()._train_epoch()

    def train(self, step: Step) -> None:
        super().train(step)
        if step.loss is not None:
            self._stepped.append(step.loss.detach())

    def _close_epoch(self) -> None:
        super()._close_epoch()
        self.history[-1]["losses"] = [float(loss) for loss in self._stepped]


class _Unmeasured:
    """Stands for the evaluator, where there is nothing to measure with."""

    def epoch(self, run: Run, *, last: bool) -> dict[str, float | None]:
        return {}

    def unmeasured(self, run: Run) -> dict[str, float | None]:
        return {}


class _Unwritten:
    """A journal that keeps nothing: the loop's history is what is asked for."""

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None: ...

    def should_stop(self) -> bool:
        return False
