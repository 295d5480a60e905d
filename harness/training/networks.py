"""The networks of a trial: its own, further ones with an optimizer and a schedule each, averages, and heads on features."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harness.errors import HarnessError, unknown

Table = Mapping[str, Any] | str
"""An optimizer or a schedule as a suite writes it: a table with a name, or a name."""


class Network:
    """A model with its own optimizer and schedule: the trial's, or a further one of an algorithm.

    Attributes:
        model, optimizer, schedule: torch's; a constant learning rate has no schedule.
        parameters: those of the model that are trained, as they were when the optimizer was made.
        heads: parameters of heads that share the optimizer.
        frozen: names of the model's parameters that are not trained: what it starts with, so that no state holds them.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler | None) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.parameters: list[nn.Parameter] = [p for p in model.parameters() if p.requires_grad]
        self.heads: list[nn.Parameter] = []
        self.frozen = frozenset(n for n, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad)

    def clip(self, norm: float) -> None:
        """Scale the gradients of all that the optimizer trains for the network to a norm of at most ``norm``."""
        torch.nn.utils.clip_grad_norm_([*self.parameters, *self.heads] if self.heads else self.parameters, norm)

    def share(self, head: nn.Module) -> None:
        """Let the optimizer train a head too, in the first group: at its learning rate, decay and schedule."""
        parameters = [p for p in head.parameters() if p.requires_grad]
        self.optimizer.param_groups[0]["params"].extend(parameters)
        self.heads.extend(parameters)

    def state_dict(self) -> dict[str, Any]:
        return {"model": thawed(self.model, self.frozen), **self.optimizer_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_thawed(self.model, state["model"], self.frozen)
        self.load_optimizer_state(state)

    def optimizer_state(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
        }

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
            self.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch warns of a schedule that steps first


class Average:
    """A model whose parameters follow those of a network; no optimizer trains it.

    Attributes:
        model: of the same architecture; its parameters ask for no gradient.
        frozen: names of those that stay what the network's are; an average that starts on its own has none.
    """

    def __init__(self, model: nn.Module, of: Network, frozen: frozenset[str]) -> None:
        self.model = model.requires_grad_(False)
        self.frozen = frozen
        self._of = of

    @torch.no_grad()
    def update(self, decay: float, *, buffers: bool = False) -> None:
        """Parameters become ``decay`` times themselves plus ``1 - decay`` times the network's.

        Parametrised weights (KPD) are averaged factor by factor; the average of factors is not the factor of the average.

        Args:
            decay: in [0, 1].
            buffers: whether the network's buffers (statistics of batch normalisation) are taken over as they are.
        """
        own: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(self._of.model.parameters())
        torch._foreach_lerp_(own, theirs, 1 - decay)
        if buffers:
            for buffer, value in zip(self.model.buffers(), self._of.model.buffers(), strict=True):
                buffer.copy_(value)


class Networks:
    """Every network of a trial by name, with the averages and heads that algorithms have added; names are taken once.

    Attributes:
        main: the trial's own network, whose name is ``""``.
        further: networks that algorithms have added.
        averages, heads: by name.
        own_optimizers: of heads that do not share their network's; the network there has the head as its model.
        stepped: names of networks and of such heads that took a step in the epoch so far.
    """

    def __init__(self, main: Network, build: Callable[..., Network], where: str) -> None:
        self.main = main
        self.further: dict[str, Network] = {}
        self.averages: dict[str, Average] = {}
        self.heads: dict[str, nn.Module] = {}
        self.own_optimizers: dict[str, Network] = {}
        self.stepped: set[str] = set()
        self._build = build
        self._where = where

    def of(self, name: str) -> Network:
        """A network by its name.

        Raises:
            HarnessError: when there is none.
        """
        if not name:
            return self.main
        if name not in self.further:
            raise HarnessError(unknown("network", name, list(self.further)), self._where, "add it by run.new_network")
        return self.further[name]

    def trainee(self, name: str) -> Network:
        """The network, or the head with an optimizer of its own, of a name."""
        return self.own_optimizers[name] if name in self.own_optimizers else self.of(name)

    def trainees(self) -> dict[str, Network]:
        """All that has an optimizer, by name."""
        return {"": self.main, **self.further, **self.own_optimizers}

    @property
    def trained(self) -> frozenset[str]:
        """Names of the networks that took a step in the epoch so far."""
        return frozenset(name for name in self.stepped if not name or name in self.further)

    def models(self) -> list[nn.Module]:
        """Every model and head."""
        networks = [network.model for network in (self.main, *self.further.values())]
        return [*networks, *(average.model for average in self.averages.values()), *self.heads.values()]

    def train(self, training: bool) -> None:
        """Every model and head in train mode, or in eval mode."""
        for model in self.models():
            model.train(training)

    def add(self, name: str, **options: Any) -> Network:
        """A further network, with an optimizer, a schedule and epochs of its own where they are given."""
        self._take(name)
        self.further[name] = self._build(name, **_given(options))
        return self.further[name]

    def average(self, name: str, of: str, start: Literal["copy", "fresh"]) -> Average:
        """An average of a network."""
        self._take(name)
        followed = self.of(of)
        model = copy.deepcopy(followed.model) if start == "copy" else self._build(name).model
        self.averages[name] = Average(model, followed, followed.frozen if start == "copy" else frozenset())
        return self.averages[name]

    def head(self, name: str, network: str, module: nn.Module, optimizer: Table, **options: Any) -> None:
        """A head on a network's features, trained by its optimizer (``shared``) or by one of its own."""
        self._take(name)
        if optimizer == "shared":
            self.of(network).share(module)
        else:
            own = None if optimizer == "own" else optimizer
            self.own_optimizers[name] = self._build(name, head=module, **_given({"optimizer": own, **options}))
        self.heads[name] = module

    def _take(self, name: str) -> None:
        if not name or name in {**self.further, **self.averages, **self.heads}:
            raise HarnessError(f"two parts of the stack add a network {name!r}", remedy="give one another name")

    def state_dict(self) -> dict[str, Any]:
        """Models, optimizers, schedules, and what was trained in the epoch so far."""
        return {
            "network": self.main.state_dict(),
            "networks": {name: network.state_dict() for name, network in self.further.items()},
            "averages": {name: thawed(average.model, average.frozen) for name, average in self.averages.items()},
            "heads": {name: head.state_dict() for name, head in self.heads.items()},
            "head_optimizers": {name: network.optimizer_state() for name, network in self.own_optimizers.items()},
            "trained": sorted(self.stepped),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; a checkpoint of an earlier harness knows of networks only."""
        self.main.load_state_dict(state["network"])
        for name, network in state["networks"].items():
            self.further[name].load_state_dict(network)
        self._load_added(state)
        for name, network in state.get("head_optimizers", {}).items():
            self.own_optimizers[name].load_optimizer_state(network)
        self.stepped = set(state.get("trained", ()))

    def model_states(self) -> dict[str, Any]:
        """The models alone, by which is predicted."""
        return {
            "network": thawed(self.main.model, self.main.frozen),
            "networks": {name: thawed(network.model, network.frozen) for name, network in self.further.items()},
            "averages": {name: thawed(average.model, average.frozen) for name, average in self.averages.items()},
            "heads": {name: head.state_dict() for name, head in self.heads.items()},
        }

    def load_model_states(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`model_states`."""
        load_thawed(self.main.model, state["network"], self.main.frozen)
        for name, network in state["networks"].items():
            load_thawed(self.further[name].model, network, self.further[name].frozen)
        self._load_added(state)

    def _load_added(self, state: Mapping[str, Any]) -> None:
        for name, model in state.get("averages", {}).items():
            load_thawed(self.averages[name].model, model, self.averages[name].frozen)
        for name, head in state.get("heads", {}).items():
            self.heads[name].load_state_dict(head)


def thawed(model: nn.Module, frozen: frozenset[str]) -> dict[str, Tensor]:
    """A model's state without its frozen parameters: a fresh model of the trial has those."""
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_thawed(model: nn.Module, state: Mapping[str, Tensor], frozen: frozenset[str]) -> None:
    """The inverse of :func:`thawed`; of a state that holds frozen parameters too they are taken."""
    own = model.state_dict()
    model.load_state_dict({**{name: own[name] for name in frozen}, **state})


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def classifier_of(model: nn.Module, num_outputs: int, where: str = "") -> nn.Module:
    """The layer whose inputs are a model's features: the last with ``in_features`` and ``out_features = num_outputs``.

    Raises:
        HarnessError: when the model has no such layer.
    """
    layers = [
        m for m in model.modules() if getattr(m, "out_features", None) == num_outputs and hasattr(m, "in_features")
    ]
    if not layers:
        raise HarnessError(
            f"the model has no linear layer of {num_outputs} outputs, so it has no features",
            where,
            "choose a model that ends in one, or another algorithm",
        )
    return layers[-1]


@contextlib.contextmanager
def catching(layer: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which a layer's inputs are added, one for each time it runs."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0])

    handle = layer.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()
