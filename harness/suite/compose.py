"""Which loss, transforms and algorithms may stand in one stack: decided from their declarations when a plan is made."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.declarations import Declares
from harness.errors import StackError

ALWAYS = "always"
"""What a part says of its need for a whole mini-batch that no parameter takes away."""
BETWEEN = ("before_forward", "after_forward", "compute_losses", "after_losses", "after_backward", "after_step")
"""Hooks that never fire when an algorithm replaces the whole training step."""
BEFORE_DESCENT = BETWEEN[:3]
"""Those of them that do not fire when it descends from the losses of its rows."""
SINGLE = {
    "next_pass": "divides the epoch into passes",
    "compute_losses": "computes the losses",
    "train_step": "replaces the training step",
    "predict": "predicts",
}


@dataclasses.dataclass(frozen=True)
class Part:
    """What composition needs to know of one component."""

    name: str
    hooks: tuple[str, ...]
    declares: Declares

    def __hash__(self) -> int:
        return hash((self.name, self.hooks))


def check_stack(
    loss: Part,
    algorithms: Sequence[Part],
    task: str | None = None,
    transforms: Sequence[Part] = (),
    views: frozenset[str] | None = None,
    tokens: bool = False,
) -> None:
    """Refuse a stack that cannot compose.

    Args:
        loss: the loss.
        algorithms: the algorithms in the stack's order.
        task: the data set's task, where known.
        transforms: the transforms in the stack's order.
        views: the augmented views that the data set stores; ``None``: they are made of its samples.
        tokens: the data set's inputs are texts.

    Raises:
        StackError: with the reason and what to use instead.
    """
    _check(loss, tuple(algorithms), task, tuple(transforms))
    for kind, part in (("loss", loss), *(("algorithm", each) for each in algorithms)):
        if tokens:
            _check_tokens(kind, part)
        absent = [view for view in part.declares.views if views is not None and view not in views]
        if absent:
            raise StackError(
                f"{kind} {part.name!r} asks for {absent[0]!r} views, and the data set stores none of its samples",
                remedy=f"embed it again with --views {absent[0]}:2, or choose another {kind}",
            )


def _check_tokens(kind: str, part: Part) -> None:
    declares = part.declares
    reasons = (
        (declares.perturbs_inputs, "perturbs real-valued inputs"),
        (declares.mixes_samples, "mixes real-valued inputs"),
        (bool(declares.views), "takes augmented views, and texts have none"),
    )
    for holds, reason in reasons:
        if holds:
            raise StackError(
                f"{kind} {part.name!r} {reason}; the inputs of this data set are tokens",
                remedy="leave it out, or train on the texts' features (`harness data embed`)",
            )


def asking(declares: Declares, filled: Mapping[str, Any]) -> Declares:
    """A declaration under given parameters: with those of its views that one of them chooses, where one does, and without
    ``whole_batch`` where the parameter that would make it so is off."""
    chosen = tuple(view for view in declares.views if view in filled.values())
    whole = declares.whole_batch
    if not chosen and whole in ("", ALWAYS):
        return declares
    on = whole if whole in ("", ALWAYS) or filled.get(whole) else ""
    return dataclasses.replace(declares, views=chosen or declares.views, whole_batch=on)


def check_accumulation(loss: Part, algorithms: Sequence[Part], parts: int, batch_size: int) -> None:
    """Refuse a stack whose mini-batch cannot be worked through in parts that give the gradients of the whole.

    Raises:
        StackError: with the reason and what to do.
    """
    remedy = "remove accumulate from [training]"
    if parts > batch_size:
        raise StackError(
            f"a mini-batch of {batch_size} has no {parts} micro-batches",
            remedy=f"set accumulate to {batch_size} or less",
        )
    if loss.declares.per_batch:
        raise StackError(f"loss {loss.name!r} exists for a whole mini-batch only", remedy=remedy)
    for part in (loss, *algorithms):
        declares = part.declares
        reasons = {
            "replaces the training step, which is then not worked through in micro-batches": declares.own_step,
            "mixes the samples of a whole mini-batch": declares.mixes_samples,
            "takes a step's forward pass once more, of the whole mini-batch": declares.steps_again,
            "computes of a sample what depends on the others of its mini-batch": bool(declares.whole_batch),
        }
        for reason in (words for words, holds in reasons.items() if holds):
            raise StackError(f"{part.name!r} {reason}", remedy=f"{remedy}, or leave {part.name!r} out")


@functools.lru_cache(maxsize=4096)
def _check(loss: Part, algorithms: tuple[Part, ...], task: str | None, transforms: tuple[Part, ...]) -> None:
    names = [part.name for part in algorithms]
    for name in names:
        if names.count(name) > 1:
            raise StackError(f"algorithm {name!r} is listed twice in the stack", remedy="name it once")
    if task is not None:
        for part, kind in ((loss, "loss"), *((a, "algorithm") for a in algorithms)):
            if task not in part.declares.tasks:
                fits = " and ".join(part.declares.tasks)
                raise StackError(
                    f"{kind} {part.name!r} is for {fits}, the data set is for {task}",
                    remedy=f"choose another for {task}",
                )
    for part in algorithms:
        if not set(part.declares.tasks) & set(loss.declares.tasks):
            own, others = (" and ".join(each.declares.tasks) for each in (part, loss))
            raise StackError(
                f"algorithm {part.name!r} is for {own}, loss {loss.name!r} is for {others}",
                remedy="choose another loss",
            )
    for hook, does in SINGLE.items():
        holders = [part.name for part in algorithms if hook in part.hooks]
        if len(holders) > 1:
            raise StackError(f"both {holders[0]!r} and {holders[1]!r}: each {does}", remedy="use one of them")
    for part in algorithms:
        _check_algorithm(part, loss, algorithms)
    _check_refusals([("loss", loss), *(("algorithm", a) for a in algorithms), *(("transform", t) for t in transforms)])


def _check_refusals(parts: Sequence[tuple[str, Part]]) -> None:
    for kind, part in parts:
        for _, other in parts:
            if other is not part and other.name in part.declares.refuses:
                raise StackError(
                    f"{kind} {part.name!r} cannot stand with {other.name!r}: {part.declares.refuses[other.name]}",
                    remedy="use one of them",
                )


def _check_algorithm(part: Part, loss: Part, algorithms: tuple[Part, ...]) -> None:
    declares = part.declares
    if "compute_losses" in part.hooks and declares.replaces is None:
        raise StackError(
            f"algorithm {part.name!r} computes losses without declaring which loss it replaces",
            remedy="declares = Declares(replaces='ce')",
        )
    if declares.replaces is not None and declares.replaces != loss.name:
        raise StackError(
            f"algorithm {part.name!r} replaces the loss {declares.replaces!r} and cannot stand on {loss.name!r}",
            remedy=f"use loss = {declares.replaces!r}",
        )
    if loss.declares.per_batch and declares.needs_per_sample:
        raise StackError(
            f"algorithm {part.name!r} works on losses of single samples, and loss {loss.name!r} exists per batch only",
            remedy="choose a per-sample loss",
        )
    if declares.mixes_samples:
        facts = [(other.name, other.declares) for other in (loss, *algorithms)]
        keepers = [name for name, given in facts if given.sample_state or given.row_weights]
        if keepers:
            raise StackError(
                f"algorithm {part.name!r} mixes samples, and {keepers[0]!r} keeps a state for each sample",
                remedy="use one of them",
            )
        viewers = [o.name for o in algorithms if o.declares.views and o.declares.needs_per_sample]
        if viewers:
            raise StackError(
                f"algorithm {part.name!r} mixes samples, and {viewers[0]!r} takes further views of single samples",
                remedy="use one of them",
            )
        replacing = [other for other in algorithms if "compute_losses" in other.hooks]
        judge = replacing[0] if replacing else loss
        if not judge.declares.soft_targets:
            raise StackError(
                f"algorithm {part.name!r} makes soft targets, which {judge.name!r} does not take",
                remedy="choose another loss",
            )
    if declares.own_step:
        for other in (*algorithms, loss):
            idle = [hook for hook in other.hooks if hook in (BEFORE_DESCENT if declares.descends else BETWEEN)]
            if other is not part and idle:
                raise StackError(
                    f"algorithm {part.name!r} replaces the training step, so {idle[0]!r} of {other.name!r} would never "
                    "fire",
                    remedy="use one of them",
                )
            if other is not part and other.declares.sample_state:
                raise StackError(
                    f"algorithm {part.name!r} replaces the training step, in which {other.name!r} keeps its state of samples",
                    remedy="use one of them",
                )
            if other is not part and "after_losses" in other.hooks and not other.declares.row_weights:
                raise StackError(
                    f"algorithm {part.name!r} has losses of rows of its own, not of the batch that {other.name!r} is given",
                    remedy="use one of them",
                )
            if other is not part and other.declares.steps_again:
                raise StackError(
                    f"algorithm {part.name!r} replaces the training step, which {other.name!r} takes once more",
                    remedy="use one of them",
                )
        if loss.declares.per_batch:
            raise StackError(
                f"algorithm {part.name!r} selects samples, and loss {loss.name!r} exists per batch only",
                remedy="choose a per-sample loss",
            )
