"""The trial as hooks see it: :class:`Run` (model, optimizer, noisy data, streams) and :class:`Step` (a mini-batch).

A run holds noisy targets only; the evaluator alone holds the clean ones, and no attribute path leads from here to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harness.errors import ComponentError, HarnessError, unknown
from harness.running import NOBODY, Source
from harness.training import checkpoint, seeds
from harness.training.data import BatchSource
from harness.training.stack import Stack
from harness.training.tasks import PREDICTIONS, Task, task_of
from harness.training.views import strong_view

Phase = Literal["train", "probe", "score"]
LastBatch = Literal["scaled", "mean", "drop"]
"""What becomes of a short last batch: its sum is divided by the nominal size, by its own size, or it is left out."""


class Step:
    """One mini-batch on its way through the hooks, which edit it in place.

    Attributes:
        index: (B,) int64 positions of the samples in the training set.
        inputs: (B, ...) standardised, augmented inputs.
        targets: (B,) noisy classes, (B, K) probabilities after mixup, or regression targets.
        outputs: (B, K) logits in the run's type, or (B, outputs) predictions; ``None`` before the forward pass.
        losses: (B,) losses of the samples, or a scalar for a per-batch loss; ``None`` before they are computed.
        penalty: a scalar added to the reduced loss, alike in a short batch.
        divisor: what the sum of the weighted losses is divided by; ``None`` before :meth:`Run.divisor` has set it.
        loss: the scalar that is differentiated; ``None`` before reduction.
        phase: ``train``, ``probe`` (an extra pass for input gradients) or ``score`` (an extra pass that ranks samples).
        number: batches trained before this one in the epoch.
    """

    __slots__ = (
        *("_weights", "divisor", "index", "inputs", "loss", "losses", "number", "outputs", "penalty", "phase"),
        "targets",
    )

    def __init__(self, index: Tensor, inputs: Tensor, targets: Tensor, phase: Phase = "train", number: int = 0) -> None:
        self.index = index
        self.inputs = inputs
        self.targets = targets
        self.outputs: Tensor | None = None
        self.losses: Tensor | None = None
        self.penalty: Tensor | float | None = None
        self.loss: Tensor | None = None
        self.phase: Phase = phase
        self.number = number
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


class Network:
    """A further network of an algorithm, with its own optimizer and schedule."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler | None) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


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
        last_batch: what becomes of a short last batch; see :meth:`divisor`.
        dtype: of outputs, losses and per-sample state: float32, or float64 under that precision.
        prelude: a training before the first epoch that an algorithm asks for in ``setup``; ``None`` is none.
        phase: what kind of pass is under way.
        clip: largest gradient norm, which an algorithm with its own ``train_step`` applies itself; ``None`` is off.
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
        build_network: Callable[[str], Network],
        autocast: torch.dtype | None = None,
        class_names: tuple[str, ...] = (),
        name: str = "",
        last_batch: LastBatch = "scaled",
        dtype: torch.dtype = torch.float32,
        initial_states: Mapping[str, Tensor] | None = None,
        input_shape: tuple[int, ...] | None = None,
        model_source: Source | None = None,
        transformed: bool = False,
    ) -> None:
        self.network = network
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
        self.clip: float | None = None
        self.last_batch: LastBatch = last_batch
        self.dtype = dtype
        self.prelude: Prelude | None = None
        self.networks: dict[str, Network] = {}
        self.sample_states: dict[str, SampleState] = {}
        self.sample_scores: dict[str, tuple[Tensor, bool]] = {}
        self.model_parameters = [p for p in network.model.parameters() if p.requires_grad]
        self._build_network = build_network
        self._initial_states = dict(initial_states or {})
        self._autocast = autocast
        self._generators: dict[str, torch.Generator] = {}
        self._model_number = NOBODY if model_source is None else stack.watch.marker.number(model_source, "forward")
        self._transformed = transformed
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

    def divisor(self, step: Step) -> float:
        """What the sum of a step's losses is divided by: what ``step.divisor`` says; where it is not set yet, the nominal
        batch size, and under ``last_batch = "mean"`` the number of the batch's own samples."""
        if step.divisor is None:
            step.divisor = self.batch_size if self.last_batch == "scaled" else len(step.index)
        return step.divisor

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

    def new_network(self, name: str) -> nn.Module:
        """A further model of the same architecture and transforms, initialised by its own stream, with an optimizer and
        a schedule of the same kind; found again as ``run.networks[name]`` and checkpointed."""
        if name in self.networks:
            raise HarnessError(f"two parts of the stack add a network {name!r}", remedy="give one another name")
        self.networks[name] = self._build_network(name)
        return self.networks[name].model

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
            name: ``strong``: the setting's augmentation, then :func:`harness.training.views.strong_view`.

        Returns:
            (B, C, H, W) standardised images.
        """
        if name != "strong":
            raise HarnessError(unknown("view", name, ["strong"]))
        images = self.source.gather(index)
        if images.ndim != 4 or not images.is_floating_point():
            raise HarnessError(
                "only images have augmented views", self.name, "choose an image data set or another algorithm"
            )
        generator = self.generator("view")
        if self.source.augmentation.active:
            images = self.source.augmentation(images, generator)
        return strong_view(images, generator, self.source.standardiser)

    def score_samples(self, name: str, scores: Tensor, *, detects: bool = True) -> None:
        """Hand per-sample numbers (N,) to the evaluator, which knows which samples are corrupted.

        Args:
            name: what the numbers are, such as ``rrm.u``.
            scores: higher means more likely corrupted when ``detects`` is true.
            detects: whether the area under the ROC curve of detecting corrupted samples is recorded.
        """
        self.sample_scores[name] = (scores.detach(), detects)

    # --- passes --------------------------------------------------------------------------------------------------------

    def forward(self, inputs: Tensor, model: nn.Module | None = None) -> Tensor:
        """Outputs of the model in the run's type, under the trial's precision."""
        network = self.network.model if model is None else model
        watch = self.stack.watch
        page = watch.marker.page
        before, page[0] = page[0], self._model_number
        try:
            entry = watch.moment()
            if self._autocast is None:
                outputs: Tensor = network(inputs)
            else:
                with torch.autocast(self.device.type, dtype=self._autocast):
                    outputs = network(inputs)
            if watch.on:
                watch.forward(self, inputs, outputs, entry)
            return outputs.to(self.dtype)
        except BaseException as error:
            watch.stumbled(error, self._model_number, before, self._fits(inputs), ("inputs",))
            raise
        finally:
            page[0] = before

    def fill(self, step: Step) -> None:
        """Forward pass and losses of a step through the stack, up to and with ``after_losses``."""
        stack = self.stack
        if stack.before_forward is not None and step.phase != "probe":
            stack.before_forward(run=self, step=step)
        step.outputs = self.forward(step.inputs)
        if stack.after_forward is not None:
            stack.after_forward(run=self, step=step)
        if stack.compute_losses is not None and stack.compute_losses(run=self, step=step):
            self._check(step, "compute_losses", stack.only["compute_losses"])
        else:
            self._ask_loss(step)
        if stack.after_losses is not None:
            stack.after_losses(run=self, step=step)
            self._check(step, "after_losses", stack.only["after_losses"])

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

    def losses(self, inputs: Tensor, targets: Tensor, index: Tensor, phase: Phase) -> Tensor:
        """Losses of samples in an extra pass through the stack, which changes no state.

        Args:
            inputs: (B, ...) standardised inputs.
            targets: (B,) or soft targets.
            index: (B,) positions in the training set.
            phase: ``probe`` keeps the model's mode, freezes batch-norm statistics, skips ``before_forward`` and is
                differentiable with respect to ``inputs``; ``score`` runs in eval mode through the whole stack, and its
                result carries no gradient.

        Returns:
            (B,) unweighted losses, or a scalar for a per-batch loss.
        """
        step = Step(index, inputs, targets, phase)
        with self._passing(phase):
            self.fill(step)
        assert step.losses is not None
        return step.losses if phase == "probe" else step.losses.detach()

    @torch.no_grad()
    def score_losses(self, batch_size: int = 512) -> Tensor:
        """(N,) losses of all training samples, unaugmented, in a ``score`` pass."""
        scores = torch.empty(self.num_samples, device=self.device, dtype=self.dtype)
        for index, inputs in self.source.ordered(batch_size):
            scores[index] = self.losses(inputs, self.targets[index], index, "score")
        return scores

    @contextlib.contextmanager
    def _passing(self, phase: Phase) -> Iterator[None]:
        before = self.phase
        was_training = self.model.training
        frozen: list[nn.modules.batchnorm._NormBase] = []
        self.phase = phase
        if phase == "score" and was_training:
            self._set_training(False)
        if phase == "probe":
            for module in self.model.modules():
                if (
                    isinstance(module, nn.modules.batchnorm._NormBase)
                    and module.training
                    and module.track_running_stats
                ):
                    module.track_running_stats = False
                    frozen.append(module)
        try:
            with contextlib.nullcontext() if phase == "probe" else torch.no_grad():
                yield
        finally:
            self.phase = before
            for module in frozen:
                module.track_running_stats = True
            if phase == "score" and was_training:
                self._set_training(True)

    def _set_training(self, training: bool) -> None:
        self.model.train(training)
        for network in self.networks.values():
            network.model.train(training)

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
        self._set_training(False)
        try:
            yield
        finally:
            self._set_training(was_training)

    # --- checkpoint ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, as tensors, numbers, strings and containers of those."""
        return {
            "epoch": self.epoch,
            "targets": self.targets,
            "network": self.network.state_dict(),
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "sample_states": {name: state.data for name, state in self.sample_states.items()},
            "stack": self.stack.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
            "scores": {name: [scores, detects] for name, (scores, detects) in self.sample_scores.items()},
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
        self.network.load_state_dict(state["network"])
        for name, network in state["networks"].items():
            self.networks[name].load_state_dict(network)
        for name, data in state["sample_states"].items():
            self.sample_states[name].data.copy_(data)
        self.stack.load_state_dict(state["stack"])
        for name, generator in self._generators.items():
            generator.manual_seed(seeds.derive(self.seed, name))  # one that the state has not met yet starts afresh
        for name, generator in state["generators"].items():
            self.generator(name).set_state(generator.cpu())
        self.sample_scores = {name: (scores.to(self.device), bool(d)) for name, (scores, d) in state["scores"].items()}

    def prediction_state(self) -> dict[str, Any]:
        """A copy of what :meth:`predict` needs: networks and the stack's states."""
        return {
            "network": copied(self.model.state_dict()),
            "networks": {name: copied(network.model.state_dict()) for name, network in self.networks.items()},
            "stack": copied(self.stack.state_dict()),
        }

    def load_prediction_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`prediction_state`."""
        self.model.load_state_dict(state["network"])
        for name, network in state["networks"].items():
            self.networks[name].model.load_state_dict(network)
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
