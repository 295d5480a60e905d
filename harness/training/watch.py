"""What a hook leaves is looked at right after it: type, shape, type of numbers, device, and finite where it must be.

In the first step of every epoch, and after every hook that runs once per epoch or trial; predictions always. So a wrong
value fails the trial in the name of the component and hook that left it, not in that of the next one that stumbles
over it, and a batch costs nothing.

Before the first update nothing can have diverged, so there everything has to be finite. Later outputs and losses may
overflow as training diverges; what does not come from the network still must not, while they are finite.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import ComponentError
from harness.running import NOBODY, At, Marker, Place, Source
from harness.training.passes import Pass
from harness.training.values import (
    LOOKS,
    described,
    finite,
    value_of,
    wrong_index,
    wrong_outputs,
    wrong_pass,
    wrong_targets,
)

if TYPE_CHECKING:
    from harness.training.run import Run, Step

_OF_THE_HARNESS = ("epochs", "batch_size", "num_samples", "num_classes", "num_outputs", "task", "seed", "device")
_FROM_NETWORK = ("outputs", "losses", "penalty")
_FIELDS = ("index", "inputs", "targets", *_FROM_NETWORK, "weights")
Seen = tuple[Any, int]
"""A value as it was seen last: itself, and how often it had been written into."""


class Watch:
    """Looks at what a trial's hooks leave.

    Attributes:
        marker: the trial's, which names the places.
        on: whether the hooks of a batch are looked at.
        looks: whether it is also asked what they change around them.
        first: whether that batch is the first of all, before which nothing can have diverged.
    """

    def __init__(self, marker: Marker) -> None:
        self.marker = marker
        self.on = False
        self.first = self.looks = False
        self._facts: dict[str, Any] = {}
        self._prelude_by = NOBODY
        self._looked = NOBODY, 0
        self._step: Step | None = None
        self._seen: dict[str, Seen] = {}
        self._finite: dict[str, bool] = {}
        self._by: dict[str, int] = {}
        self._targets: Seen = (None, 0)
        self._detached_by = 0
        self._networks: _Networks | None = None

    def know(self, run: Run) -> None:
        """Take in what no hook may change."""
        self._facts = _facts(run)

    def begin(self, *, epoch: int, first: bool) -> None:
        """Look at the hooks of the next batch."""
        self.on, self.first = True, first
        self.looks = self.marker.watching = epoch <= 1

    def made(self, step: Step) -> None:
        """Take in what a batch begins with: no hook is blamed for what was given."""
        self.rest(keep_on=True)
        self._step = step
        for name in ("index", "inputs", "targets"):
            value = value_of(step, name)
            self._seen[name], self._finite[name] = (value, _version(value)), finite(value)

    # --- after a hook --------------------------------------------------------------------------------------------------

    def left(self, hook: str, number: int, run: Run, entry: Any, step: Step | None = None) -> None:
        """Look at what a hook has left in the run, in its step, and around: ``entry`` is the moment it was called.

        Raises:
            ComponentError: naming the component, the hook and what is wrong.
        """
        if run is None:
            return
        if not self._facts:
            self.know(run)
        self._look_at_run(hook, number, run)
        if run.prelude is not None and not self._prelude_by:
            self._prelude_by = number
        if step is not None:
            self._look_at_step(hook, number, run, step)
        self._look_around(number, entry)

    def _look_around(self, number: int, entry: Any) -> None:
        """What has a place changed that is not the trial's?"""
        place = self.marker.places[number]
        if place is not None and entry is not None:
            self.marker.look(place, entry)

    def moment(self) -> Any:
        """The moment at which a hook of a batch is called, in the first batch of all: a look takes as long as a small
        batch."""
        return self.marker.moment() if self.looks else None

    def moment_of(self, number: int, run: Run) -> Any:
        """The same for what predicts, once in an epoch."""
        if self._looked == (number, run.epoch):
            return None
        self._looked = number, run.epoch
        return self.marker.moment()

    def refuse(self, number: int, hook: str, what: str, remedy: str) -> ComponentError:
        place = self.marker.places[number]
        return ComponentError(f"{hook} {what}", place.source.component if place is not None else "", remedy)

    def refused(self, number: int, hook: str, what: str, remedy: str) -> ComponentError:
        """The same for what is found later than the hook: its place is noted."""
        error = self.refuse(number, hook, what, remedy)
        self.marker.note(error, number)
        return error

    def _look_at_run(self, hook: str, number: int, run: Run) -> None:
        facts = _facts(run)
        for name, value in facts.items():
            known = self._facts[name]
            if value is not known and (type(value) is not type(known) or value != known):
                raise self.refuse(
                    number, hook, f"changed run.{name} from {known!r} to {described(value)}", "leave it as it is"
                )
        if type(run.epoch) is not int or run.epoch < 0:
            raise self.refuse(number, hook, f"set run.epoch to {described(run.epoch)}", "leave it as it is")
        self._look_at_scores(hook, number, run)
        targets = run.targets
        seen, self._targets = self._targets, (targets, _version(targets))
        if targets is seen[0] and self._targets[1] == seen[1]:
            return
        plain = type(targets) in (Tensor, torch.nn.Parameter)  # another class cannot be read back from a checkpoint
        if not plain or len(targets.shape) < 1 or targets.shape[0] != run.num_samples:
            raise self.refuse(
                number, hook, f"left run.targets as {described(targets)}", f"set ({run.num_samples}, ...) targets"
            )
        wrong = wrong_targets(targets, run.num_samples, run)
        if wrong:
            raise self.refuse(number, hook, f"left run.targets {wrong}", "set classes, probabilities or values")

    def _look_at_scores(self, hook: str, number: int, run: Run) -> None:
        for name, entry in run.sample_scores.items():
            if not (isinstance(entry, tuple) and len(entry) == 2 and type(entry[0]) is Tensor):
                found = entry[0] if isinstance(entry, tuple) and len(entry) == 2 else entry
                raise self.refuse(
                    number,
                    hook,
                    f"left the scores {name!r} as {described(found)}",
                    "give run.score_samples a plain tensor",
                )
            odd = entry[0].dtype.is_complex or entry[0].device.type != run.device.type
            if odd or entry[0].shape != (run.num_samples,):
                raise self.refuse(
                    number, hook, f"gave scores {name!r} of {described(entry[0])}", f"give ({run.num_samples},) numbers"
                )

    def _look_at_step(self, hook: str, number: int, run: Run, step: Step) -> None:
        changed = self._changed(number, step)
        if hook in ("compute_losses", "after_losses") and step.losses is not None:
            run._check(step, hook, number)
        if not changed:
            return
        what, wrong = "index", wrong_index(step.index, run) if "index" in changed else ""
        if not wrong:
            size = len(step.index)
            looks = {name: LOOKS[name](step, size, run) for name in changed if name != "index"}
            what, wrong = next(((name, words) for name, words in looks.items() if words), ("", ""))
        if not wrong:
            what, wrong = self._not_finite(changed, step)
        if wrong:
            raise self.refuse(number, hook, f"left step.{what} {wrong}", "see harness.Step for what it holds")

    def _changed(self, number: int, step: Step) -> list[str]:
        """The values of a step that are new or written into since the last hook; noted as this one's."""
        if self._step is not step:
            self.rest(keep_on=True)
            self._step = step
        changed = []
        for name in _FIELDS:
            value = value_of(step, name)
            now = value, _version(value)
            before = self._seen.get(name, (None, 0))
            if now[0] is before[0] and now[1] == before[1]:
                continue
            self._seen[name], self._by[name] = now, number
            changed.append(name)
            if name in ("outputs", "losses") and isinstance(value, Tensor):
                if value.requires_grad:
                    self._detached_by = NOBODY
                elif not self._detached_by:
                    self._detached_by = number
        return changed

    def rest(self, *, keep_on: bool = False) -> None:
        """Look no more at the hooks of batches, and hold nothing of the last one."""
        self.on = keep_on
        if not keep_on:
            self.first = self.looks = self.marker.watching = False
            self.marker.gave.clear()
            self.marker.broke = NOBODY
        self._step, self._seen, self._finite, self._by, self._detached_by = None, {}, {}, {}, NOBODY

    def _not_finite(self, changed: list[str], step: Step) -> tuple[str, str]:
        """The value that is not finite through this hook, if any."""
        before = dict(self._finite)
        self._finite.update({name: finite(value_of(step, name)) for name in changed})
        sound = all(before.get(name, True) and self._finite.get(name, True) for name in _FROM_NETWORK)
        for name in changed:
            fault = (self.first and all(before.values())) or (name not in _FROM_NETWORK and sound)
            if fault and before.get(name, True) and not self._finite[name]:
                return name, "not finite"
        return "", ""

    def prelude(self) -> At:
        """A context for what the author of the run's prelude has left to be called."""
        place = self.marker.places[self._prelude_by]
        return At(self.marker, NOBODY if place is None else self.marker.number(place.source, "prelude"))

    def author(self, names: tuple[str, ...]) -> Place | None:
        """Who last set one of a step's values, where that is known."""
        found = [self._by[name] for name in names if self._by.get(name)]
        return self.marker.places[found[-1]] if found else None

    # --- the harness's own calls ---------------------------------------------------------------------------------------

    def forward(self, run: Run, inputs: Tensor, outputs: Any, entry: Any) -> None:
        """What a model has made of a batch."""
        self._look_around(run._model_number, entry)
        wrong = wrong_outputs(outputs, inputs.shape[0], run, any_float=True)
        if wrong:
            remedy = f"give (B, {run.num_outputs}) numbers"
            raise self.refused(self._maker(run, inputs, outputs), "forward", f"gave outputs {wrong}", remedy)
        untrained = self.first and run.stack.train_step is None  # a step of a method's own may update before it passes
        if untrained and finite(inputs) and not finite(outputs):
            number = self.marker.broke or run._model_number
            raise self.refused(number, "forward", "gave outputs that are not finite", "mend its initialisation")
        self.marker.gave.clear()

    def _maker(self, run: Run, inputs: Tensor, outputs: Any) -> int:
        """Whose wrong outputs are: a transform's where its layer gave them and the model within had not, else the model's.
        Of a transformed model they are nobody's when its layers are not looked at."""
        for gave, number in self.marker.gave:
            if gave is outputs or (
                number == run._model_number and wrong_outputs(gave, inputs.shape[0], run, any_float=True)
            ):
                return number
        return run._model_number if self.marker.watching or not run._transformed else NOBODY

    def passed(self, number: int, run: Run, found: Any) -> Pass:
        """A pass as the loop can walk it.

        Raises:
            ComponentError: when it is none, or names samples or a network that there are not.
        """
        if not isinstance(found, Pass):
            raise self.refuse(number, "next_pass", f"returned {described(found)}", "return harness.Pass(...) or None")
        if wrong := wrong_pass(found, run):
            raise self.refuse(number, "next_pass", f"gave a pass with {wrong}", "mend it")
        return found

    def descends(self, run: Run, step: Step) -> None:
        """Look at what a step of a method's own has when it descends, before others see it: losses of its rows."""
        number = run.stack.only.get("train_step", NOBODY)
        run._check(step, "train_step", number)
        self._look_at_step("train_step", number, run, step)

    def losses(self, number: int, run: Run, step: Step, hook: str, entry: Any) -> None:
        """What a loss has made of a batch."""
        self._look_around(number, entry)
        self._look_at_step(hook, number, run, step)

    def differentiable(self, loss: Tensor) -> None:
        """The number that a batch is differentiated by has a gradient."""
        place = self.marker.places[self._detached_by]
        if loss.requires_grad or place is None or not torch.is_grad_enabled():
            return
        raise self.refused(
            self._detached_by,
            place.hook,
            "left outputs or losses without a gradient, so that nothing is learnt",
            "let torch compute them",
        )

    def stumbled(self, error: BaseException, number: int, caller: int, fits: bool, given: tuple[str, ...]) -> None:
        """Note whose an exception is: of the one that raised it, unless it was given what it cannot take; then of the
        hook that called it, or of the one that left these values of the step."""
        if fits:
            self.marker.note(error, self._layer(error) or number)
        elif caller:
            self.marker.note(error, caller)
        elif (place := self.author(given)) is not None:
            self.marker.note(error, self.marker.number(place.source, place.hook))

    def _layer(self, error: BaseException) -> int:
        """The place of the innermost marked layer that an exception went through."""
        found, trace = NOBODY, error.__traceback__
        while trace is not None and self.marker.layers:
            names, frame = trace.tb_frame.f_code.co_varnames, trace.tb_frame
            found = self.marker.layers.get(id(frame.f_locals.get(names[0])) if names else 0, found)
            trace = trace.tb_next
        return found

    def given(self, run: Run, inputs: Tensor, outputs: Any, entry: Any) -> Tensor:
        """The outputs of a model that are its prediction, as an exact tensor."""
        self._look_around(run._model_number, entry)
        plain = exact(outputs)
        wrong = (
            f"as {described(outputs)}" if plain is None else wrong_outputs(plain, inputs.shape[0], run, any_float=True)
        )
        if plain is None or wrong:
            remedy = f"give (B, {run.num_outputs}) numbers"
            raise self.refused(self._maker(run, inputs, outputs), "forward", f"gave outputs {wrong}", remedy)
        return plain

    def predicted(self, number: int, run: Run, inputs: Tensor, predicted: Any, entry: Any) -> Tensor:
        """A prediction as an exact tensor: what else it may be is handed the labels that it is compared with.

        Raises:
            ComponentError: when it is none, or of another shape, type or device.
        """
        self._look_around(number, entry)
        plain = exact(predicted)
        if plain is None:
            raise self.refuse(number, "predict", f"returned {described(predicted)}", "return a plain torch.Tensor")
        wrong = wrong_outputs(plain, inputs.shape[0], run, any_float=True)
        if wrong:
            raise self.refuse(
                number, "predict", f"returned predictions {wrong}", f"return (B, {run.num_outputs}) log-probabilities"
            )
        if self._networks is not None:
            self._look_closely(number, run, plain)
        return plain

    @contextlib.contextmanager
    def closely(self, run: Run) -> Iterator[None]:
        """Look at every prediction, and at what the networks gave for it: slow, for a run of which some outputs are not
        finite."""
        self._networks = networks = _Networks()
        handles = [handle for model in run.nets.models() for handle in networks.follow(model)]
        try:
            yield
        finally:
            self._networks = None
            for handle in handles:
                handle.remove()

    def _look_closely(self, number: int, run: Run, predicted: Tensor) -> None:
        """Refuse a prediction that is not finite while the outputs that it was made of are. Minus infinity is the
        logarithm of a probability of 0, and good."""
        assert self._networks is not None
        broke, self._networks.broke = self._networks.broke, False
        good = finite(predicted) if run.num_classes is None else bool((predicted < math.inf).all())
        if not broke and not good:
            what = "returned predictions that are not finite, made of finite outputs of the network"
            raise self.refuse(number, "predict", what, "mend it")

    def diagnosed(self, number: int, found: Any) -> Mapping[str, Any] | None:
        """The numbers that ``diagnostics`` has given, by name."""
        if found is None:
            return None
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
            raise self.refuse(number, "diagnostics", f"returned {described(found)}", "return numbers by name, or None")
        for name, value in found.items():
            try:
                float(value)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                raise self.refuse(
                    number, "diagnostics", f"gave {name!r} as {described(value)}", "give one number for each name"
                ) from None
        return found


class _Networks:
    """Whether a network that was called has given numbers which are not finite, for inputs that are."""

    def __init__(self) -> None:
        self.broke = False
        self._depth = 0

    def follow(self, model: torch.nn.Module) -> list[Any]:
        """Listen to a model, and to parts of it that are called alone."""
        found = [module.register_forward_pre_hook(self._enter) for module in model.modules()]
        return [*found, *(m.register_forward_hook(self._leave, always_call=True) for m in model.modules())]

    def _enter(self, *_: Any) -> None:
        self._depth += 1

    def _leave(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if not self._depth and not finite(output) and all(map(finite, inputs)):
            self.broke = True


def mark_layers(marker: Marker, source: Source, layers: Iterable[torch.nn.Module]) -> None:
    """Note when layers of a component run, and what they give while that is looked at."""
    page, number = marker.page, marker.number(source, "forward")
    before: list[tuple[int, Any]] = []

    def enter(*_: Any) -> None:
        before.append((page[0], marker.moment() if marker.watching else None))
        page[0] = number

    def leave(layer: torch.nn.Module, inputs: Any, output: Any) -> None:
        page[0], entry = before.pop()
        if not marker.watching:
            return
        marker.gave.append((output, number))
        if not marker.broke and not finite(output) and all(map(finite, inputs)):
            marker.broke = number
        if entry is not None:
            marker.look(Place(source, "forward"), entry)

    for layer in layers:
        marker.layers[id(layer)] = number
        layer.register_forward_pre_hook(enter)
        layer.register_forward_hook(leave, always_call=True)


def exact(value: Any) -> Tensor | None:
    """A value as a ``torch.Tensor`` of no other class, sharing its numbers and gradient; ``None`` when it cannot be.

    A subclass sees every function that it is an argument of, with the other arguments: clean labels among them.
    """
    if not issubclass(type(value), Tensor):  # isinstance asks the value's own __class__
        return None
    with torch._C.DisableTorchFunctionSubclass():
        plain = Tensor.as_subclass(value, Tensor)
    if type(plain) is not Tensor or torch._C._dispatch_keys(plain).has(torch._C.DispatchKey.Python):
        return None
    return plain


def _facts(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _OF_THE_HARNESS}


def _version(value: Any) -> int:
    """How often a tensor was written into."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0
