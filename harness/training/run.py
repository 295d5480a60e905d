"""The trial as hooks see it: :class:`Run` (model, optimizer, noisy data, streams) and :class:`Step` (a mini-batch).

A run holds noisy targets only; the evaluator alone holds the clean ones, and no attribute path leads from here to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harness.errors import ComponentError, HarnessError, unknown
from harness.running import NOBODY, Source
from harness.training import checkpoint, seeds
from harness.training.data import BatchSource
from harness.training.networks import Average, Network, Networks, Table, catching, classifier_of
from harness.training.passes import Pass
from harness.training.policies import VIEWS, drawn_view
from harness.training.stack import Stack
from harness.training.tasks import PREDICTIONS, Task, task_of

Phase = Literal["train", "probe", "again", "score"]
LastBatch = Literal["scaled", "mean", "drop"]
"""What becomes of a short last batch: its sum is divided by the nominal size, by its own size, or it is left out."""
Examinable = Literal["losses", "outputs", "features"]
"""What can be examined of training samples."""


class Step:
    """One mini-batch on its way through the hooks, which edit it in place.

    A step that descends by itself (``run.descend``) may have R rows of losses in place of one for each sample: then
    ``index``, ``losses`` and ``weights`` are (R,), and ``index`` names the sample that owns each row.

    Attributes:
        index: (B,) int64 positions of the samples in the training set.
        inputs: (B, ...) standardised, augmented inputs.
        targets: (B,) noisy classes, (B, K) probabilities after mixup, or regression targets.
        outputs: (B, K) logits in the run's type, or (B, outputs) predictions; ``None`` before the forward pass.
        losses: (B,) losses of the samples, or a scalar for a per-batch loss; ``None`` before they are computed.
        penalty: a scalar added to the reduced loss, alike in a short batch.
        divisor: what the sum of the weighted losses is divided by; ``None`` before :meth:`Run.divisor` has set it.
        loss: the scalar that is differentiated; ``None`` before reduction.
        phase: ``train``, ``probe`` (an extra pass for input gradients), ``again`` (the same samples once more, for
            :meth:`Run.again`) or ``score`` (an extra pass that ranks samples).
        number: batches trained before this one in the pass.
        network: the name of the network that is trained; ``""`` is the trial's own.
        label: that of the pass.
        beside: the batch that is drawn beside this one, with ``index``, ``inputs`` and ``targets``; ``None`` is none.
    """

    __slots__ = (
        *("_weights", "beside", "divisor", "index", "inputs", "label", "loss", "losses", "network"),
        *("number", "outputs", "penalty", "phase", "targets"),
    )

    def __init__(
        self,
        index: Tensor,
        inputs: Tensor,
        targets: Tensor,
        phase: Phase = "train",
        number: int = 0,
        network: str = "",
        label: str = "",
    ) -> None:
        self.index = index
        self.inputs = inputs
        self.targets = targets
        self.outputs: Tensor | None = None
        self.losses: Tensor | None = None
        self.penalty: Tensor | float | None = None
        self.loss: Tensor | None = None
        self.phase: Phase = phase
        self.number = number
        self.network = network
        self.label = label
        self.beside: Step | None = None
        self.divisor: float | None = None
        self._weights: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """(B,) weights of the samples' losses, ones until a hook changes them."""
        if self._weights is None:
            like = self.losses if self.losses is not None else self.outputs
            dtype = torch.float32 if like is None else like.dtype
            self._weights = torch.ones(len(self.index), device=self.index.device, dtype=dtype)
        return self._weights

    @weights.setter
    def weights(self, value: Tensor) -> None:
        self._weights = value

    @property
    def weighted(self) -> bool:
        """Whether any hook has touched the weights."""
        return self._weights is not None

    @torch.no_grad()
    def join(self, parts: Sequence[Step]) -> None:
        """Take over what micro-batches of this step were left with, all of it without a gradient."""
        for name in ("targets", "outputs", "losses"):
            setattr(self, name, torch.cat([getattr(part, name).detach() for part in parts]))
        if any(part.weighted for part in parts):
            self.weights = torch.cat([part.weights.detach() for part in parts])
        device = self.index.device
        penalties = [torch.as_tensor(p.penalty, device=device).detach() for p in parts if p.penalty is not None]
        self.penalty = torch.stack(penalties).sum() if penalties else None
        self.loss = torch.stack([part.loss.detach() for part in parts if part.loss is not None]).sum()


class SampleState:
    """A row of numbers for each training sample, trained by plain row-wise SGD outside the optimizer.

    ``state[index]`` gives rows; in a training step they are leaves whose gradients update just these rows after the
    backward pass: no schedule, momentum, weight decay or clipping, and no dense (N, width) gradient.
    """

    def __init__(self, run: Run, data: Tensor, lr: float, reduction: Literal["mean", "sum"] = "mean") -> None:
        self._run = run
        self.data = data
        self.lr = lr
        self._summed = reduction == "sum"
        self._touched: list[tuple[Tensor, Tensor]] = []

    def __getitem__(self, index: Tensor) -> Tensor:
        rows = self.data.index_select(0, index)
        if self._run.phase == "train" and torch.is_grad_enabled():
            rows.requires_grad_(True)
            self._touched.append((index, rows))
        return rows

    @torch.no_grad()
    def update(self, divisor: float) -> None:
        """Apply the gradients of the rows that the last step used, whose loss was a sum over ``divisor``."""
        scale = divisor if self._summed else 1.0
        for index, rows in self._touched:
            if rows.grad is not None:
                self.data.index_add_(0, index, rows.grad, alpha=-self.lr * scale)
        self._touched.clear()


class Examined:
    """What :meth:`Run.examine` found, a row for each sample.

    Attributes:
        losses: (n,) the stack's loss of the targets as they are now.
        outputs: (n, K) logits or predictions.
        features: (n, d) inputs of the last linear layer.
    """

    def __init__(self, found: Mapping[Examinable, Tensor]) -> None:
        self._found = found

    def _get(self, what: Examinable) -> Tensor:
        if what not in self._found:
            raise HarnessError(f"{what} were not examined", remedy=f'ask for run.examine(what=("{what}",))')
        return self._found[what]

    @property
    def losses(self) -> Tensor:
        return self._get("losses")

    @property
    def outputs(self) -> Tensor:
        return self._get("outputs")

    @property
    def features(self) -> Tensor:
        return self._get("features")


@dataclasses.dataclass(frozen=True)
class Prelude:
    """A training of its own before the first epoch, for what it teaches; its networks and states are thrown away.

    It is trained with the whole stack, from the state that the trial then starts from again, and counts as cost, not as
    epochs: nothing of it is measured.

    Attributes:
        epochs: how many, under the trial's optimizer, schedule and order of batches.
        learn: called after the last of them.
        use: given what ``learn`` returned once everything else is as it was before.
    """

    epochs: int
    learn: Callable[[Run], Any]
    use: Callable[[Any], None]


class Run:
    """One trial in training.

    Attributes:
        model: the network, transformed; ``model_parameters`` are its trained parameters, never those of algorithms.
        optimizer, schedule: torch's, over ``model_parameters``.
        source: the training inputs; ``targets`` (N, ...) their noisy targets on ``device``. A method that refurbishes
            labels sets ``targets`` to a new tensor, which the checkpoint keeps; metrics refer to the labels as given.
        num_samples, num_classes, num_outputs, task: of the training data; ``num_classes`` is ``None`` in regression.
        epoch, epochs: the current epoch, from 1, and their number.
        input_shape: of one sample, where it is known.
        batch_size: the nominal mini-batch size.
        accumulate: micro-batches that a mini-batch of the nominal size is worked through in; 1 is none.
        last_batch: what becomes of a short last batch; see :meth:`divisor`.
        dtype: of outputs, losses and per-sample state: float32, or float64 under that precision.
        prelude: a training before the first epoch that an algorithm asks for in ``setup``; ``None`` is none.
        phase: what kind of pass is under way.
        walk: the :class:`Pass` over training samples that is under way, or was last.
        clip: largest gradient norm, of each network; an algorithm whose ``train_step`` does not descend by
            :meth:`descend` applies it itself. ``None`` is off.
        nets: every network, average and head.
        networks, averages, heads: what algorithms have added, by name; see :meth:`new_network`, :meth:`average`,
            :meth:`new_head`.
        estimate: what the trial has estimated of its noise, where it refers to that: ``rate``, ``matrix`` and ``prior``.
        trained: names of the networks that were trained in the epoch so far; ``""`` is the trial's own.
    """

    def __init__(
        self,
        *,
        network: Network,
        stack: Stack,
        source: BatchSource,
        targets: Tensor,
        num_classes: int | None,
        num_outputs: int,
        epochs: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        build_network: Callable[..., Network],
        autocast: torch.dtype | None = None,
        class_names: tuple[str, ...] = (),
        name: str = "",
        last_batch: LastBatch = "scaled",
        accumulate: int = 1,
        dtype: torch.dtype = torch.float32,
        initial_states: Mapping[str, Tensor] | None = None,
        input_shape: tuple[int, ...] | None = None,
        model_source: Source | None = None,
        transformed: bool = False,
        estimate: Mapping[str, Any] | None = None,
    ) -> None:
        self.nets = Networks(network, build_network, name)
        self.network = network
        self.networks = self.nets.further
        self.averages = self.nets.averages
        self.heads = self.nets.heads
        self.stack = stack
        self.source = source
        self.targets = targets
        self.num_samples = len(targets)
        self.num_classes = num_classes
        self.num_outputs = num_outputs
        self.task: Task = task_of(targets, num_classes)
        self.class_names = class_names
        self.name = name
        self.input_shape = input_shape
        self.epochs = epochs
        self.epoch = 0
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.phase: Phase = "train"
        self.walk: Pass | None = None
        self.clip: float | None = None
        self.last_batch: LastBatch = last_batch
        self.accumulate = accumulate
        self.dtype = dtype
        self.prelude: Prelude | None = None
        self.sample_states: dict[str, SampleState] = {}
        self.sample_scores: dict[str, tuple[Tensor, bool]] = {}
        self.model_parameters = network.parameters
        self._initial_states = dict(initial_states or {})
        self._autocast = autocast
        self._generators: dict[str, torch.Generator] = {}
        self._model_number = NOBODY if model_source is None else stack.watch.marker.number(model_source, "forward")
        self._transformed = transformed
        self.estimate = estimate
        self._current = ""
        stack.watch.know(self)

    @property
    def model(self) -> nn.Module:
        return self.network.model

    @property
    def optimizer(self) -> Optimizer:
        return self.network.optimizer

    @property
    def schedule(self) -> LRScheduler | None:
        return self.network.schedule

    @property
    def trained(self) -> frozenset[str]:
        """Names of the networks that were trained in the epoch so far."""
        return self.nets.trained

    def of(self, name: str) -> Network:
        """A network by its name; ``""`` is the trial's own.

        Raises:
            HarnessError: when there is none.
        """
        return self.nets.of(name)

    def divisor(self, step: Step) -> float:
        """What the sum of a step's losses is divided by: what ``step.divisor`` says; where it is not set yet, the nominal
        batch size, and under ``last_batch = "mean"`` the number of the batch's own samples."""
        if step.divisor is None:
            step.divisor = self.batch_size if self.last_batch == "scaled" else len(step.index)
        return step.divisor

    def under(self, step: Step) -> None:
        """A step of the loop is under way: an extra pass without a name is one of its network."""
        self._current = step.network
        self.divisor(step)

    # --- state that algorithms ask for ---------------------------------------------------------------------------------

    def sample_state(
        self,
        name: str,
        width: int,
        init: float | Callable[[tuple[int, int], torch.Generator], Tensor],
        lr: float,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> SampleState:
        """Rows of ``width`` numbers for every training sample, checkpointed with the trial.

        Args:
            name: unique in the trial.
            width: numbers per sample.
            init: the value of all, or a function of shape and generator.
            lr: learning rate, constant over epochs.
            reduction: ``mean`` takes gradients of the reduced loss as they are; ``sum`` times :meth:`divisor`, that is
                of the summed loss.
        """
        if name in self.sample_states:
            raise HarnessError(f"two parts of the stack keep a sample state {name!r}", remedy="give one another name")
        shape = (self.num_samples, width)
        data = torch.full(shape, init) if isinstance(init, (int, float)) else init(shape, self.generator("algorithm"))
        data = self._initial_states.get(name, data)  # of a replay; its shape is checked after ``setup``
        self.sample_states[name] = SampleState(self, data.to(self.device, self.dtype), lr, reduction)
        return self.sample_states[name]

    def train_before(self, prelude: Prelude) -> None:
        """Ask, in ``setup``, for a training before the first epoch; a trial has at most one."""
        if self.prelude is not None:
            raise HarnessError(
                "two parts of the stack ask for a training before the first epoch", remedy="use one of them"
            )
        self.prelude = prelude

    def new_network(
        self, name: str, optimizer: Table | None = None, schedule: Table | None = None, epochs: int | None = None
    ) -> nn.Module:
        """A further model of the same architecture and transforms, initialised by its own stream, with an optimizer and
        a schedule; found again as ``run.of(name)`` and checkpointed.

        Args:
            name: unique among networks, averages and heads.
            optimizer, schedule: tables as in ``[training]``; of the same kind as the trial's without.
            epochs: over how many epochs the schedule runs, those in which the network is trained; the trial's without.
        """
        return self.nets.add(name, optimizer=optimizer, schedule=schedule, epochs=epochs).model

    def average(self, name: str, of: str = "", start: Literal["copy", "fresh"] = "copy") -> Average:
        """A model that follows the parameters of a network, moved by its ``update(decay)``; never trained, checkpointed.

        It is in train mode while the networks are, so its forward pass uses the statistics of the batch.

        Args:
            name: unique among networks, averages and heads.
            of: the network that it follows.
            start: ``copy`` of that network as it is now, or ``fresh``: initialised by a stream of its own.
        """
        return self.nets.average(name, of, start)

    def new_head(
        self,
        name: str,
        network: str,
        make: Callable[[int], nn.Module],
        optimizer: Table = "shared",
        schedule: Table | None = None,
        epochs: int | None = None,
    ) -> nn.Module:
        """A module on the features of a network (:meth:`forward` gives them), checkpointed and found again in
        ``run.heads``.

        Args:
            name: unique among networks, averages and heads; :meth:`descend` takes it beside names of networks.
            network: whose features it takes.
            make: given their number, makes the module; what it draws comes from the head's own stream.
            optimizer: ``shared``: the network's optimizer trains it too, at the rate and decay of its first group;
                ``own``: another one like the trial's; or a table as in ``[training]``.
            schedule, epochs: as in :meth:`new_network`, where the head has an optimizer of its own.
        """
        model = self.of(network).model
        features = int(classifier_of(model, self.num_outputs, self.name).in_features)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(self.seed, "init", name))
            head = make(features).to(self.device, self.dtype)
        self.nets.head(name, network, head, optimizer, schedule=schedule, epochs=epochs)
        return head

    def generator(self, stream: str) -> torch.Generator:
        """The trial's generator of a stream, checkpointed with the trial: on CPU (algorithms use ``algorithm``), only that
        of ``view``, the stream of further views, on the trial's device."""
        if stream not in self._generators:
            device = self.device if stream == "view" else "cpu"
            self._generators[stream] = seeds.torch_stream(self.seed, stream, device=device)
        return self._generators[stream]

    def view(self, index: Tensor, name: str) -> Tensor:
        """A further augmented view of training samples, drawn anew at each call.

        Args:
            index: (B,) positions in the training set.
            name: ``weak``: the setting's augmentation; ``strong``: that, then
                :func:`harness.training.views.strong_view`; ``promix`` or ``autoaugment``: a policy of
                :mod:`harness.training.policies`, then the setting's augmentation.

        Returns:
            (B, C, H, W) standardised images; ``weak`` views of other inputs are the samples themselves. Where the data set
            stores views (frozen features) each sample is given one of its own, and no others exist.
        """
        if name not in VIEWS:
            raise HarnessError(unknown("view", name, VIEWS))
        if self.source.views is not None:
            return self._stored_view(index, name, self.source.views)
        images = self.source.whole(index)
        if name != "weak" and (images.ndim != 4 or not images.is_floating_point()):
            raise HarnessError(
                "only images have augmented views", self.name, "choose an image data set or another algorithm"
            )
        return drawn_view(images, name, self.generator("view"), self.source.augmentation, self.source.standardiser)

    def _stored_view(self, index: Tensor, name: str, views: Mapping[str, Tensor]) -> Tensor:
        if name not in views:
            raise HarnessError(
                f"the data set stores no {name!r} views of its samples",
                self.name,
                f"harness data embed --views {name}:2",
            )
        stored = views[name]
        chosen = torch.randint(stored.shape[1], (len(index),), generator=self.generator("view"), device=self.device)
        drawn = stored[index, chosen]
        return self.source.standardiser(drawn) if self.source.standardiser is not None else drawn

    def score_samples(self, name: str, scores: Tensor, *, detects: bool = True) -> None:
        """Hand per-sample numbers (N,) to the evaluator, which knows which samples are corrupted.

        Args:
            name: what the numbers are, such as ``rrm.u``.
            scores: higher means more likely corrupted when ``detects`` is true.
            detects: whether the area under the ROC curve of detecting corrupted samples is recorded.
        """
        self.sample_scores[name] = (scores.detach(), detects)

    # --- passes --------------------------------------------------------------------------------------------------------

    @overload
    def forward(self, inputs: Tensor, model: nn.Module | None = None) -> Tensor: ...

    @overload
    def forward(
        self, inputs: Tensor, model: nn.Module | None = None, *, features: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, inputs: Tensor, model: nn.Module | None = None, *, features: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Outputs of a model in the run's type, under the trial's precision.

        Args:
            inputs: (B, ...) standardised inputs.
            model: the trial's own without.
            features: whether the inputs of the last linear layer come too, as ``(outputs, features)``; then a compiled
                model runs uncompiled.
        """
        network = self.network.model if model is None else model
        watch = self.stack.watch
        page = watch.marker.page
        before, page[0] = page[0], self._model_number
        try:
            entry = watch.moment()
            caught: list[Tensor] = []
            if features:
                layer = classifier_of(network, self.num_outputs, self.name)
                with catching(layer) as caught, self._precision():
                    outputs = (network if network._compiled_call_impl is None else network.forward)(inputs)
            elif self._autocast is None:
                outputs = network(inputs)
            else:
                with self._precision():
                    outputs = network(inputs)
            if watch.on:
                watch.forward(self, inputs, outputs, entry)
            found: Tensor = outputs.to(self.dtype)
            return (found, caught[-1].to(self.dtype)) if features else found
        except BaseException as error:
            watch.stumbled(error, self._model_number, before, self._fits(inputs), ("inputs",))
            raise
        finally:
            page[0] = before

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which models compute in the trial's precision."""
        if self._autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast)

    def fill(self, step: Step) -> None:
        """Forward pass and losses of a step through the stack, up to and with ``after_losses``."""
        stack = self.stack
        if stack.before_forward is not None and step.phase not in ("probe", "again"):
            stack.before_forward(run=self, step=step)
        step.outputs = self.forward(step.inputs, self.of(step.network).model)
        if stack.after_forward is not None:
            stack.after_forward(run=self, step=step)
        if stack.compute_losses is not None and stack.compute_losses(run=self, step=step):
            self._check(step, "compute_losses", stack.only["compute_losses"])
        else:
            self._ask_loss(step)
        self._after_losses(step)

    def _after_losses(self, step: Step) -> None:
        stack = self.stack
        if stack.after_losses is not None:
            stack.after_losses(run=self, step=step)
            self._check(step, "after_losses", stack.only["after_losses"])

    def descend(self, step: Step, networks: Sequence[str] | None = None) -> None:
        """From the losses of a step's rows to the optimizer's step, with every hook on the way: ``after_losses``,
        reduction, ``after_backward``, clipping, optimizers, rows of per-sample state, ``after_step``.

        For an algorithm with its own ``train_step``, which makes the forward passes and sets ``step.losses`` (R,), and,
        where the rows are not the samples of the batch, ``step.index`` (R,), the sample that owns each row, and
        ``step.divisor``. It may set ``step.penalty``. It declares ``Declares(own_step=True, descends=True)``.

        Args:
            step: with its losses.
            networks: names of the networks, and of heads with an optimizer of their own, that take a step; without, the
                step's network.
        """
        names = (step.network,) if networks is None else tuple(networks)
        if self.stack.watch.on:
            self.stack.watch.descends(self, step)
        self._after_losses(step)
        self.zero_grad(names)
        self.update(step, names)

    def zero_grad(self, names: Sequence[str]) -> None:
        """Drop the gradients of some networks and heads."""
        for name in names:
            self.nets.trainee(name).optimizer.zero_grad(set_to_none=True)

    def reduce(self, step: Step) -> Tensor:
        """The scalar that is differentiated: the sum of the weighted losses over the divisor, plus the penalty."""
        losses, divisor = step.losses, self.divisor(step)
        assert losses is not None
        if losses.ndim == 0:
            loss = losses if divisor == len(step.index) else losses * (len(step.index) / divisor)
        elif step.weighted:
            loss = torch.dot(step.weights.to(losses.dtype), losses) / divisor
        else:
            loss = losses.sum() / divisor
        step.loss = loss if step.penalty is None else loss + step.penalty
        return step.loss

    def update(self, step: Step, names: Sequence[str]) -> None:
        """From a step's final losses to ``after_step``; gradients have been dropped before."""
        self._backward(step)
        self.advance(step, names)

    def _backward(self, step: Step) -> None:
        loss, watch = self.reduce(step), self.stack.watch
        if watch.on:
            watch.differentiable(loss)
        loss.backward()  # type: ignore[no-untyped-call]

    def fill_in_parts(self, step: Step, size: int) -> None:
        """A step's forward pass, losses and gradients by micro-batches, which are summed as of one batch.

        Each has its share of the step's divisor and of its penalty, which is thus the mean over micro-batches. The step is
        left with outputs, losses and weights of all its samples, which carry no gradient.

        Args:
            step: whose ``inputs`` may be larger than what a forward pass can hold.
            size: most samples of a micro-batch; they are about equally many in all.
        """
        count, watch = len(step.index), self.stack.watch
        rows = (value.tensor_split(-(-count // size)) for value in (step.index, step.inputs, step.targets))
        parts = [
            Step(index, inputs, targets, "train", step.number, step.network, step.label)
            for index, inputs, targets in zip(*rows, strict=True)
        ]
        for part in parts:
            part.divisor = self.divisor(step)
            if watch.on:
                watch.made(part)
            self.fill(part)
            if part.penalty is not None:
                part.penalty = part.penalty * (len(part.index) / count)
            self._backward(part)
        step.join(parts)
        if watch.on:
            watch.made(step)

    def advance(self, step: Step, names: Sequence[str]) -> None:
        """From a step's gradients to ``after_step``."""
        stack = self.stack
        if stack.after_backward is not None:
            self._after_backward(step, names)
        for name in names:
            network = self.nets.trainee(name)
            if self.clip is not None:
                network.clip(self.clip)
            network.optimizer.step()
        divisor = self.divisor(step)
        for state in self.sample_states.values():
            state.update(divisor)
        if stack.after_step is not None:
            stack.after_step(run=self, step=step)
        self.nets.stepped.update(names)

    def _after_backward(self, step: Step, names: Sequence[str]) -> None:
        """Let hooks change the gradients of every network that takes a step, each as the step's own."""
        network = step.network
        for name in names:
            if name not in self.heads:
                step.network = name
                self.stack.after_backward(run=self, step=step)  # type: ignore[misc]
        step.network = network

    def again(self, step: Step, *, statistics: bool = False) -> Step:
        """Forward pass and losses of a step once more, at the parameters as they are now (SAM); :meth:`reduce` makes the
        scalar of it.

        Inputs, targets, weights and divisor are those of the step as it stands, so ``before_forward`` is not called. The
        phase is ``again``: no row of per-sample state is read for its gradient or written, and no statistics of batch
        normalisation move.

        Args:
            step: of the loop; a step of an algorithm's own arithmetic cannot be taken again.
            statistics: whether batch normalisation's statistics move once more, as in SAM's usual code.

        Returns:
            Another step, with ``outputs``, ``losses`` and ``penalty``, differentiable.
        """
        twin = Step(step.index, step.inputs, step.targets, "again", step.number, step.network, step.label)
        twin.divisor = step.divisor
        with torch.enable_grad(), self._passing("again", step.network, statistics=statistics):
            self.fill(twin)
        if step.weighted:
            twin.weights = step.weights
        return twin

    def _ask_loss(self, step: Step) -> None:
        """The loss of the stack for a step."""
        watch, number = self.stack.watch, self.stack.loss_number
        page = watch.marker.page
        before, page[0] = page[0], number
        try:
            entry = watch.moment()
            step.losses = self.stack.loss(step.outputs, step.targets, step.index)
            self._check(step, f"loss {self.stack.loss_name!r}", number)
            if watch.on:
                watch.losses(number, self, step, "the loss", entry)
        except BaseException as error:
            fits = isinstance(step.outputs, Tensor) and step.outputs.shape == (len(step.index), self.num_outputs)
            watch.stumbled(error, number, before, fits, ("inputs", "outputs", "targets"))
            raise
        finally:
            page[0] = before

    def _fits(self, inputs: Any) -> bool:
        """Whether a model may be given these inputs."""
        if not isinstance(inputs, Tensor) or inputs.device.type != self.device.type or not len(inputs):
            return False
        if inputs.dtype not in (torch.float32, self.dtype, torch.int64):
            return False
        if inputs.dtype == torch.int64 and inputs.ndim == 2:  # a batch of texts may be cut to its longest
            return self.input_shape is None or inputs.shape[1] <= self.input_shape[0]
        return self.input_shape is None or tuple(inputs.shape[1:]) == self.input_shape

    def _check(self, step: Step, who: str, number: int) -> None:
        """Refuse losses that would train but could not be weighted sample by sample, in the name of a place."""
        losses, wanted = step.losses, step.index.shape
        if isinstance(losses, Tensor) and losses.shape == (() if self.stack.per_batch else wanted):
            return
        given = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"type {type(losses).__name__}"
        remedy = "return one number, as it declares per_batch"
        if not self.stack.per_batch:
            remedy = "return (B,) losses; a loss that exists per batch only declares Declares(per_batch=True)"
        error = ComponentError(f"{who} gave losses of {given} for a batch of {wanted[0]}", self.name, remedy)
        if losses is None:
            error = ComponentError(f"{who} set no losses", self.name, "set step.losses (B,)")
        self.stack.watch.marker.note(error, number)
        raise error

    def losses(
        self, inputs: Tensor, targets: Tensor, index: Tensor, phase: Phase, network: str | None = None
    ) -> Tensor:
        """Losses of samples in an extra pass through the stack, which changes no state.

        Args:
            inputs: (B, ...) standardised inputs.
            targets: (B,) or soft targets.
            index: (B,) positions in the training set.
            phase: ``probe`` keeps the model's mode, freezes batch-norm statistics, skips ``before_forward`` and is
                differentiable with respect to ``inputs``; ``score`` runs in eval mode through the whole stack, and its
                result carries no gradient.
            network: by name; that of the step under way without.

        Returns:
            (B,) unweighted losses, or a scalar for a per-batch loss.
        """
        step = Step(index, inputs, targets, phase, network=self._current if network is None else network)
        before, self._current = self._current, step.network
        try:
            with self._passing(phase, step.network):
                self.fill(step)
        finally:
            self._current = before
        assert step.losses is not None
        return step.losses if phase == "probe" else step.losses.detach()

    @torch.no_grad()
    def score_losses(self, batch_size: int = 512, network: str = "") -> Tensor:
        """(N,) losses of all training samples, unaugmented, in a ``score`` pass of a network through the stack."""
        scores = torch.empty(self.num_samples, device=self.device, dtype=self.dtype)
        for index, inputs in self.source.ordered(batch_size):
            scores[index] = self.losses(inputs, self.targets[index], index, "score", network)
        return scores

    @torch.no_grad()
    def examine(
        self,
        network: str = "",
        what: Sequence[Examinable] = ("losses",),
        index: Tensor | None = None,
        batch_size: int = 512,
    ) -> Examined:
        """What a network makes of training samples, unaugmented and in eval mode; no state changes.

        Unlike :meth:`score_losses` no hook is called: losses are the stack's own loss of plain outputs.

        Args:
            network: the name of a network or of an average.
            what: any of ``losses``, ``outputs``, ``features``.
            index: (n,) positions of the samples, in the order in which they are wanted; all without.
            batch_size: samples of a forward pass.
        """
        average = self.averages.get(network)
        model = self.of(network).model if average is None else average.model
        count = self.num_samples if index is None else len(index)
        found = {part: self._rows(part, count, model) for part in what}
        start = 0
        with self._passing("score", network):
            for positions, inputs in self.source.ordered(batch_size, index):
                rows = slice(start, start := start + len(positions))
                if "features" in found:
                    outputs, found["features"][rows] = self.forward(inputs, model, features=True)
                else:
                    outputs = self.forward(inputs, model)
                if "outputs" in found:
                    found["outputs"][rows] = outputs.reshape(len(positions), -1)
                if "losses" in found:
                    found["losses"][rows] = self.stack.ask_loss(outputs, self.targets[positions], positions)
        return Examined(found)

    def _rows(self, part: Examinable, count: int, model: nn.Module) -> Tensor:
        """Room for what is examined of ``count`` samples."""
        shape: tuple[int, ...] = (count,)
        if part == "features":
            shape = (count, int(classifier_of(model, self.num_outputs, self.name).in_features))  # type: ignore[arg-type]
        elif part == "outputs":
            shape = (count, self.num_outputs)
        elif part != "losses":
            raise HarnessError(unknown("part", part, ["losses", "outputs", "features"]), "run.examine")
        elif self.stack.per_batch:
            raise HarnessError("the loss exists per batch only", "run.examine", "choose a per-sample loss")
        return torch.empty(shape, device=self.device, dtype=self.dtype)

    @contextlib.contextmanager
    def _passing(self, phase: Phase, network: str = "", *, statistics: bool = False) -> Iterator[None]:
        """An extra pass of a kind: every model in eval mode for a ``score``, the statistics of the one that runs held
        still for others."""
        before, self.phase = self.phase, phase
        modes = [(model, model.training) for model in self.nets.models()] if phase == "score" else []
        frozen: list[nn.modules.batchnorm._NormBase] = []
        for model, _ in modes:
            model.eval()
        if phase in ("probe", "again") and not statistics:
            for module in self.of(network).model.modules():
                if (
                    isinstance(module, nn.modules.batchnorm._NormBase)
                    and module.training
                    and module.track_running_stats
                ):
                    module.track_running_stats = False
                    frozen.append(module)
        try:
            with torch.no_grad() if phase == "score" else contextlib.nullcontext():
                yield
        finally:
            self.phase = before
            for module in frozen:
                module.track_running_stats = True
            for model, training in modes:
                if training:
                    model.train()

    def predict(self, inputs: Tensor) -> Tensor:
        """What the method predicts: log-probabilities (B, K) of classes or labels, or regression outputs; differentiable in
        ``inputs``."""
        if self.stack.predict is not None:
            predicted: Tensor | None = self.stack.predict(run=self, inputs=inputs)
            if predicted is not None:
                return predicted
        entry = self.stack.watch.moment_of(self._model_number, self)
        outputs = self.stack.watch.given(self, inputs, self.forward(inputs), entry)
        return PREDICTIONS[self.task](outputs)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Eval mode for all networks, and back."""
        was_training = self.model.training
        self.nets.train(False)
        try:
            yield
        finally:
            self.nets.train(was_training)

    # --- checkpoint ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, as tensors, numbers, strings and containers of those."""
        return {
            "epoch": self.epoch,
            "targets": self.targets,
            **self.nets.state_dict(),
            "sample_states": {name: state.data for name, state in self.sample_states.items()},
            "stack": self.stack.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
            "scores": {name: [scores, detects] for name, (scores, detects) in self.sample_scores.items()},
            **({"estimate": dict(self.estimate)} if self.estimate is not None else {}),
        }

    def check_readable(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that a checkpoint could hold but not give back: a resumed trial would start over.

        Raises:
            ComponentError: naming the part whose state it is.
        """
        if (why := checkpoint.unreadable(dict(state))) is None:
            return
        remedy = "keep tensors, numbers, strings, and lists or dictionaries of those"
        for name, own in state["stack"].items():
            if (reason := checkpoint.unreadable(own)) is not None:
                number = self.stack.number(name, "state_dict")
                raise self.stack.watch.refused(number, "state_dict", f"cannot be read back: {reason}", remedy)
        if checkpoint.unreadable([state["network"], state["networks"]]) is not None and not self._transformed:
            raise self.stack.watch.refused(self._model_number, "state_dict", f"cannot be read back: {why}", remedy)
        raise ComponentError(f"the state cannot be read back: {why}", self.name, remedy)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`, after ``setup`` has created the same states and networks."""
        self.epoch = int(state["epoch"])
        if "targets" in state:
            self.targets = state["targets"].to(self.device)
        self.nets.load_state_dict(state)
        for name, data in state["sample_states"].items():
            self.sample_states[name].data.copy_(data)
        self.stack.load_state_dict(state["stack"])
        for name, generator in self._generators.items():
            generator.manual_seed(seeds.derive(self.seed, name))  # one that the state has not met yet starts afresh
        for name, generator in state["generators"].items():
            self.generator(name).set_state(generator.cpu())
        self.sample_scores = {name: (scores.to(self.device), bool(d)) for name, (scores, d) in state["scores"].items()}

    def prediction_state(self) -> dict[str, Any]:
        """A copy of what :meth:`predict` needs: networks, averages, heads and the stack's states."""
        return copied({**self.nets.model_states(), "stack": self.stack.state_dict()})  # type: ignore[no-any-return]

    def load_prediction_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`prediction_state`."""
        self.nets.load_model_states(state)
        self.stack.load_state_dict(state["stack"])


def copied(value: Any) -> Any:
    """A state with copies of its tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value
