"""Optimizers and learning-rate schedules: torch's by name, timm's with the prefix ``timm:``.

Each function's typed arguments are the keys of the suite's ``optimizer`` and ``schedule`` tables. Learning rates always
refer to the mean loss over a nominal batch. This module imports torch only when something is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Lt

from harness import parameters as params
from harness.errors import ComponentError, unknown
from harness.parameters import Count, NonNegative, Positive, Rate

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

Groups = list[dict[str, Any]]
Beta = Annotated[float, Ge(0), Lt(1)]
Excluded = list[Literal["bias", "norm"]]


def sgd(
    lr: Positive,
    momentum: Rate = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
    dampening: Rate = 0.0,
    no_decay: Excluded = [],  # noqa: B006 -- never mutated; the signature is the schema
) -> Callable[[Groups], Optimizer]:
    """Stochastic gradient descent (``torch.optim.SGD``)."""
    from torch.optim import SGD

    return lambda groups: SGD(
        groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, dampening=dampening
    )


def adam(
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    amsgrad: bool = False,
    no_decay: Excluded = [],  # noqa: B006
) -> Callable[[Groups], Optimizer]:
    """Adam (``torch.optim.Adam``); its weight decay is an l2 term in the gradient."""
    from torch.optim import Adam

    return lambda groups: Adam(
        groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
    )


def adamw(
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
    amsgrad: bool = False,
    no_decay: Excluded = [],  # noqa: B006
) -> Callable[[Groups], Optimizer]:
    """Adam with decoupled weight decay (``torch.optim.AdamW``)."""
    from torch.optim import AdamW

    return lambda groups: AdamW(
        groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
    )


def timm_optimizer(
    variant: str,
    lr: Positive,
    no_decay: Excluded = [],  # noqa: B006
    **options: Any,
) -> Callable[[Groups], Optimizer]:
    """Any optimizer of timm: ``{ name = "timm:lamb", lr = 0.005, weight_decay = 0.02 }``."""
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

    return lambda groups: create_optimizer_v2(groups, opt=variant, lr=lr, **options)


def constant(warmup: Annotated[int, Ge(0)] = 0) -> Callable[[Optimizer, int], LRScheduler | None]:
    """One learning rate throughout."""
    return lambda optimizer, epochs: None


def step(
    milestones: list[Count], gamma: Positive = 0.1, warmup: Annotated[int, Ge(0)] = 0
) -> Callable[[Optimizer, int], LRScheduler]:
    """Times ``gamma`` after each of the epochs ``milestones`` (``MultiStepLR``)."""
    from torch.optim.lr_scheduler import MultiStepLR

    return lambda optimizer, epochs: MultiStepLR(optimizer, [m - warmup for m in milestones], gamma)


def cosine(eta_min: NonNegative = 0.0, warmup: Annotated[int, Ge(0)] = 0) -> Callable[[Optimizer, int], LRScheduler]:
    """Half a cosine from the learning rate down to ``eta_min`` over all epochs (``CosineAnnealingLR``)."""
    from torch.optim.lr_scheduler import CosineAnnealingLR

    return lambda optimizer, epochs: CosineAnnealingLR(optimizer, T_max=max(1, epochs - warmup), eta_min=eta_min)


def cosine_restarts(
    t_0: Count, t_mult: Count = 1, eta_min: NonNegative = 0.0, warmup: Annotated[int, Ge(0)] = 0
) -> Callable[[Optimizer, int], LRScheduler]:
    """Cosine with warm restarts (``CosineAnnealingWarmRestarts``)."""
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    return lambda optimizer, epochs: CosineAnnealingWarmRestarts(optimizer, T_0=t_0, T_mult=t_mult, eta_min=eta_min)


def exponential(gamma: Rate, warmup: Annotated[int, Ge(0)] = 0) -> Callable[[Optimizer, int], LRScheduler]:
    """Times ``gamma`` after every epoch (``ExponentialLR``)."""
    from torch.optim.lr_scheduler import ExponentialLR

    return lambda optimizer, epochs: ExponentialLR(optimizer, gamma)


OPTIMIZERS: dict[str, Callable[..., Any]] = {"sgd": sgd, "adam": adam, "adamw": adamw, "timm:": timm_optimizer}
SCHEDULES: dict[str, Callable[..., Any]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "exponential": exponential,
}


def validate(table: Mapping[str, Callable[..., Any]], value: Any, what: str) -> dict[str, Any]:
    """An ``optimizer`` or ``schedule`` table checked, with defaults filled in.

    Raises:
        ComponentError: for an unknown name or a bad key.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ComponentError(
            f"should be a table with a name, got {value!r}", what, f'write {{ name = "{next(iter(table))}" }}'
        )
    name = value["name"]
    prefix, colon, variant = name.partition(":")
    factory = table.get(prefix + colon if variant else name)
    if factory is None or (name.endswith(":")):
        raise ComponentError(unknown(what, name, table), what)
    values = {key: item for key, item in value.items() if key != "name"}
    filled = params.validate_with(_validator(factory), {**values, "variant": variant} if variant else values, what)
    filled.pop("variant", None)
    if filled.get("nesterov") and (not filled.get("momentum", 1.0) or filled.get("dampening")):
        raise ComponentError(
            "nesterov needs a momentum above 0 and no dampening",
            f"{what}.nesterov",
            "set momentum, such as 0.9, or drop nesterov",
        )
    return {"name": name, **filled}


@functools.cache
def _validator(factory: Callable[..., Any]) -> Any:
    return params.validator(params.describe(factory)[0])
