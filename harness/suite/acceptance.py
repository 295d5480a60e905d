"""Which stacks a plan accepts, as a page: generated from the declarations of every component that is registered.

    python -m harness.suite.acceptance > docs/acceptance.md
    python -m harness.suite.acceptance my_plugin.py            # with a plugin's components beside the harness's own

What decides is :func:`harness.suite.compose.check_stack`, the very function that a plan asks. Its rules concern at most
two parts at a time, so a stack is accepted where each of its pairs is, and tables of pairs say everything.
"""

from __future__ import annotations

import dataclasses
import re
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import StackError
from harness.plugins import DISTRIBUTION, Host
from harness.registry import Registry
from harness.suite.compose import BETWEEN, Part, check_stack

EDITS: Mapping[str, str] = {
    "before_forward": "inputs and targets",
    "after_forward": "outputs",
    "after_losses": "losses and weights",
    "after_backward": "gradients",
    "after_step": "parameters",
}
"""Hooks that edit something that another part may edit too, and what. ``compute_losses`` has one holder in a stack."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a plan says of two parts in one stack.

    Attributes:
        reason: why it refuses them; empty where it accepts them.
        hooks: the hooks by which both edit the same thing in the same stage, so that their order matters.
        loss: a loss on which both stand; empty where there is none.
    """

    reason: str = ""
    hooks: tuple[str, ...] = ()
    loss: str = ""

    @property
    def accepted(self) -> bool:
        return not self.reason


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """Every pair of components that might stand in one stack, by their names in the stack's order."""

    losses: tuple[Part, ...]
    algorithms: tuple[Part, ...]
    transforms: tuple[Part, ...]
    with_loss: Mapping[tuple[str, str], Answer]
    with_algorithm: Mapping[tuple[str, str], Answer]
    with_transform: Mapping[tuple[str, str], Answer]


def acceptance(registry: Registry, owners: Iterable[str] | None = None) -> Acceptance:
    """Ask the composition rules about every algorithm with every loss, algorithm and transform.

    Args:
        registry: of a host.
        owners: distributions or files whose components are taken; all when ``None``.

    Returns:
        Verdicts by (algorithm, loss), (algorithm, algorithm) and (transform, any of the three), each in the stack's
        order. Two algorithms are accepted where any loss carries both.
    """
    wanted = None if owners is None else set(owners)
    parts: dict[str, list[Part]] = {}
    stages: dict[str, dict[str, int]] = {}
    for kind in ("loss", "algorithm", "transform"):
        parts[kind] = []
        for component in registry.components(kind):
            own = wanted is None or not wanted.isdisjoint((component.owner, component.owner.rpartition(" ")[0]))
            if component.is_family or not own:
                continue
            facts = registry.facts(component)
            parts[kind].append(Part(component.name, tuple(facts.hooks), facts.declares))
            if kind == "algorithm":
                stages[component.name] = {hook: _stage(component.load(), hook) for hook in facts.hooks if hook in EDITS}
    losses, algorithms, transforms = parts["loss"], parts["algorithm"], parts["transform"]
    with_loss = {(a.name, loss.name): _judge(loss, (a,)) for a in algorithms for loss in losses}
    with_algorithm: dict[tuple[str, str], Answer] = {}
    for first in algorithms:
        for second in algorithms:
            if first.name == second.name:
                continue
            verdict = _judge_pair(first, second, losses, with_loss)
            if verdict.accepted:
                ours, theirs = stages[first.name], stages[second.name]
                hooks = tuple(hook for hook in EDITS if hook in ours and ours[hook] == theirs.get(hook))
                verdict = dataclasses.replace(verdict, hooks=hooks)
            with_algorithm[first.name, second.name] = verdict
    with_transform: dict[tuple[str, str], Answer] = {}
    for transform in transforms:
        for loss in losses:
            with_transform[transform.name, loss.name] = _judge(loss, (), (transform,))
        for algorithm in algorithms:
            carriers = [loss for loss in losses if with_loss[algorithm.name, loss.name].accepted]
            with_transform[transform.name, algorithm.name] = _first(
                [_judge(loss, (algorithm,), (transform,)) for loss in carriers]
            )
        for other in transforms:
            if other.name != transform.name:
                with_transform[transform.name, other.name] = _first(
                    [_judge(loss, (), (transform, other)) for loss in losses]
                )
    return Acceptance(tuple(losses), tuple(algorithms), tuple(transforms), with_loss, with_algorithm, with_transform)


def _stage(factory: object, hook: str) -> int:
    marks = getattr(getattr(factory, hook), "harness_impl", None) or {}
    return int(bool(marks.get("trylast"))) - int(bool(marks.get("tryfirst")))


def _judge(loss: Part, algorithms: Sequence[Part], transforms: Sequence[Part] = ()) -> Answer:
    try:
        check_stack(loss, algorithms, None, transforms)
    except StackError as error:
        return Answer(reason=error.what)
    return Answer(loss=loss.name)


def _judge_pair(
    first: Part, second: Part, losses: Sequence[Part], with_loss: Mapping[tuple[str, str], Answer]
) -> Answer:
    """On the losses that carry either by itself; where there are none, a refusal that names both, if any does."""
    shared = [p for p in losses if with_loss[first.name, p.name].accepted and with_loss[second.name, p.name].accepted]
    if shared:
        return _first([_judge(loss, (first, second)) for loss in shared])
    refusals = [_judge(loss, (first, second)) for loss in losses]
    both = [v for v in refusals if all(repr(part.name) in v.reason for part in (first, second))]
    return both[0] if both else Answer(reason=f"no loss carries both {first.name!r} and {second.name!r}")


def _first(verdicts: Sequence[Answer]) -> Answer:
    """The first that accepts, else the first refusal."""
    return next((verdict for verdict in verdicts if verdict.accepted), verdicts[0])


# --- the page ---------------------------------------------------------------------------------------------------------

ACCEPTED, ORDERED, ITSELF = "✓", "⇄", "·"


class Reasons:
    """Reasons with a letter each, in the order in which they first come up; names give way to A and B."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def letter(self, reason: str, names: Sequence[str]) -> str:
        """The letter of a reason that may name two components."""
        text = reason
        for mark, name in zip("AB", sorted(names, key=lambda name: _place(reason, name)), strict=True):
            text = text.replace(repr(name), f"**{mark}**")
        text = re.sub("|".join(map(repr, BETWEEN)), "a hook", text)
        text = re.sub(r"'([^']+)'", r"`\1`", text)
        round_, place = divmod(len(self.letters), len(string.ascii_lowercase))
        return self.letters.setdefault(text, string.ascii_lowercase[place] * (round_ + 1))


def _place(text: str, name: str) -> int:
    found = text.find(repr(name))
    return found if found >= 0 else len(text)


def page(found: Acceptance) -> str:
    """The tables in Markdown."""
    reasons = Reasons()
    names = [part.name for part in found.algorithms]

    def symbol(verdict: Answer, pair: tuple[str, str]) -> str:
        if not verdict.accepted:
            return reasons.letter(verdict.reason, pair)
        return ORDERED if verdict.hooks else ACCEPTED

    by_loss = [
        [loss.name, *(symbol(found.with_loss[name, loss.name], (name, loss.name)) for name in names)]
        for loss in found.losses
    ]
    pairs = {pair: symbol(verdict, pair) for pair, verdict in found.with_algorithm.items()}
    by_algorithm = [[first, *(pairs.get((first, second), ITSELF) for second in names)] for first in names]
    ordered = {frozenset(pair): verdict.hooks for pair, verdict in found.with_algorithm.items() if verdict.hooks}
    lonely = [n for n in names if not any(v.accepted for pair, v in found.with_algorithm.items() if n in pair)]
    lines = [
        "# Which components combine",
        "",
        "Generated from the components' declarations by `python -m harness.suite.acceptance`; do not edit. A plan asks",
        "the same rules and refuses a stack with the same words. They concern at most two parts at a time: a stack of",
        "any length is accepted where each of its pairs is.",
        "",
        f"{ACCEPTED} accepted; {ORDERED} accepted, and the order in the stack changes the result; a letter: refused, for",
        "the reason of that letter, with **A** and **B** the two parts in the order in which the reason names them.",
        "",
        "## Algorithm and loss",
        "",
        *_table("", names, by_loss),
        "",
        "## Algorithm and algorithm",
        "",
        "The row stands before the column in the stack. Two algorithms are accepted where any loss carries both.",
        "",
        *_table("first", names, by_algorithm),
        "",
        *([f"With no other algorithm: {_names(lonely)}.", ""] if lonely else []),
        "Order matters where both parts edit the same thing by the same hook in the same stage (`tryfirst` and",
        "`trylast` make three). Besides, the plain `detection_auroc` is that of the last part that scores samples.",
        "",
        *(
            f"- {_names(sorted(pair))}: {' and '.join(EDITS[hook] for hook in hooks)} ({_names(hooks)})"
            for pair, hooks in ordered.items()
        ),
        "",
        "## Transforms",
        "",
        "A transform changes the model before a loss or an algorithm sees it, and goes with every one that is not named.",
        "",
        *_transform_lines(found),
        "",
        "## Reasons",
        "",
        *(f"- **{letter}** {text}" for text, letter in reasons.letters.items()),
        "",
        "## Counts",
        "",
        "| pairs | all | accepted | order matters | refused |",
        "|---|--:|--:|--:|--:|",
        _count("algorithm and loss", found.with_loss),
        _count("algorithm and algorithm", found.with_algorithm),
        _count("transform and loss, algorithm or transform", found.with_transform),
    ]
    return "\n".join(lines) + "\n"


def _names(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _transform_lines(found: Acceptance) -> list[str]:
    lines = []
    for transform in found.transforms:
        refused: dict[str, list[str]] = {}
        for (name, other), verdict in found.with_transform.items():
            if name == transform.name and not verdict.accepted:
                refused.setdefault(verdict.reason.rpartition(": ")[2], []).append(other)
        told = [f"{_names(others)} ({reason})" for reason, others in refused.items()]
        lines.append(f"- `{transform.name}`: refused with {'; '.join(told) or 'nothing'}")
    return lines


def _table(corner: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [corner, *(f"`{name}`" for name in columns)]
    body = [[f"`{row[0]}`", *row[1:]] for row in rows]
    return [
        f"| {' | '.join(head)} |",
        f"|---|{'|'.join([':-:'] * len(columns))}|",
        *(f"| {' | '.join(row)} |" for row in body),
    ]


def _count(what: str, verdicts: Mapping[tuple[str, str], Answer]) -> str:
    told = {frozenset(pair): verdict for pair, verdict in verdicts.items()}.values()
    accepted = sum(verdict.accepted for verdict in told)
    ordered = sum(bool(verdict.hooks) for verdict in told)
    return f"| {what} | {len(told)} | {accepted} | {ordered} | {len(told) - accepted} |"


def built_in() -> Acceptance:
    """Of the components that come with the harness, whatever else is installed."""
    return acceptance(Host().registry, [DISTRIBUTION])


def main(arguments: Sequence[str]) -> None:
    """Print the page, with the components of single-file plugins if any are named."""
    files = [Path(argument) for argument in arguments]
    registry = Host(files).registry
    print(page(acceptance(registry, [DISTRIBUTION, *map(str, files)])), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
