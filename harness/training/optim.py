"""An optimizer and a schedule made from a suite's checked tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.suite.optim import OPTIMIZERS, SCHEDULES, Groups, validate

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def chosen_table(
    known: Mapping[str, Any], given: Mapping[str, Any] | str | None, default: Mapping[str, Any]
) -> Mapping[str, Any]:
    """A component's own table of an optimizer or a schedule, checked, or the trial's where it gives none."""
    where = "optimizer" if known is OPTIMIZERS else "schedule"
    return default if given is None else validate(known, given, where)


def make_optimizer(spec: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """The optimizer of a validated table over a model's parameters; ``no_decay`` splits off a group without decay."""
    from torch import nn

    options = {key: value for key, value in spec.items() if key != "name"}
    prefix, colon, variant = str(spec["name"]).partition(":")
    if variant:
        options["variant"] = variant
    factory = OPTIMIZERS[prefix + colon if variant else prefix]
    excluded: set[int] = set()
    for module in model.modules():
        norm = isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm))
        for name, parameter in module.named_parameters(recurse=False):
            if (norm and "norm" in spec.get("no_decay", ())) or (name == "bias" and "bias" in spec.get("no_decay", ())):
                excluded.add(id(parameter))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: Groups = [{"params": [p for p in trained if id(p) not in excluded]}]
    if excluded:
        groups.append({"params": [p for p in trained if id(p) in excluded], "weight_decay": 0.0})
    optimizer: Optimizer = factory(**options)(groups)
    return optimizer


def make_schedule(spec: Mapping[str, Any], optimizer: Optimizer, epochs: int) -> LRScheduler | None:
    """The schedule of a validated table, stepped once per epoch; ``warmup`` epochs rise linearly first."""
    options = {key: value for key, value in spec.items() if key != "name"}
    warmup = int(options.get("warmup", 0))
    main: LRScheduler | None = SCHEDULES[spec["name"]](**options)(optimizer, epochs)
    if not warmup:
        return main
    from torch.optim.lr_scheduler import LinearLR, SequentialLR

    rising = LinearLR(optimizer, start_factor=1.0 / (warmup + 1), total_iters=warmup)
    if main is None:
        return rising
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # SequentialLR itself steps before the optimizer does
        return SequentialLR(optimizer, [rising, main], milestones=[warmup])


def learning_rates(optimizers: Iterable[Optimizer]) -> list[float]:
    """The current learning rate of each optimizer's first group."""
    return [float(optimizer.param_groups[0]["lr"]) for optimizer in optimizers]
