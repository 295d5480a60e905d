"""LongReMix (Cordeiro et al., Pattern Recognition 2023): DivideMix twice, the second time from what the first was sure of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from harness import Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive, Rate
from harness.training.passes import Laps
from harness_plugins.algorithms.divide_mix import MIX, DivideMix
from harness_plugins.algorithms.semi_supervised import linear_ramp


def held_throughout(masks: list[Tensor]) -> Tensor:
    """(N,) bool: the samples that every one of some masks (N,) holds."""
    return torch.stack(masks).all(0)


class LongReMix(DivideMix):
    """DivideMix that divides by several epochs, and once more with new networks that trust what it was sure of longest.

    Follows the official code (filipe-research/LongReMix, 567c89b27566). Stage 1 is `divide_mix` at a learning rate that is
    never lowered, where a network holds a sample clean only if it did so in each of the last `agreeing` epochs; those of
    the warm-up count, for which the fit is made after training. Of these sets the largest of network 1 in the last
    `recent` epochs is kept, the latest of equals. Stage 2 begins anew with two networks and the setting's schedule over
    its epochs: after each fit the kept samples have `w = 1` for both networks, the division is DivideMix's, and a pass has
    as many steps as all samples have batches, plus one, in laps over the labelled ones; the weight of the unlabelled ones
    rises within a lap. Each stage has a warm-up. The networks of a stage predict in it.

    Deviations are those of `divide_mix`. In the warm-up the code fits network 2's entry to the losses of network 1; here it
    is fitted to its own. Settings are DivideMix's, 300 epochs for each stage.

    Args:
        warmup, lambda_u, threshold, temperature, alpha, history, confidence_penalty, guess_mode: as in `divide_mix`.
        stage1: epochs of stage 1; half of all without.
        agreeing: epochs that must agree on a sample; 5.
        recent: last epochs of stage 1 of which the largest set is kept; 150.
    """

    name = "long_re_mix"

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 10,
        lambda_u: NonNegative = 25.0,
        threshold: Rate = 0.5,
        temperature: Positive = 0.5,
        alpha: Positive = 4.0,
        history: Count = 1,
        confidence_penalty: bool = False,
        guess_mode: Literal["train", "eval"] = "train",
        stage1: Count | None = None,
        agreeing: Count = 5,
        recent: Count = 150,
    ) -> None:
        super().__init__(warmup, lambda_u, threshold, temperature, alpha, history, confidence_penalty, guess_mode)
        self.stage1 = stage1
        self.agreeing = agreeing
        self.recent = recent
        self.stages = (self.names, (f"{self.name}_1", f"{self.name}_2"))

    def setup(self, run: Run) -> None:
        """The networks of both stages; nothing is held yet."""
        super().setup(run)
        self.first = max(1, run.epochs // 2) if self.stage1 is None else self.stage1
        for name, earlier in zip(self.stages[1], self.stages[0], strict=True):
            run.new_network(name, epochs=max(1, run.epochs - self.first))
            self.clean[name] = self.clean[earlier].clone()
            self.losses[name] = []
            self.parts[name] = self.parts[earlier]
        self.held: dict[str, list[Tensor]] = {name: [] for name in self.stages[0]}
        self.sure = torch.zeros(run.num_samples, device=run.device, dtype=torch.bool)

    def age(self, run: Run) -> int:
        """The epoch of the stage, from 1."""
        return run.epoch - self.first if run.epoch > self.first else run.epoch

    def epoch_start(self, run: Run) -> None:
        """Chooses the networks of the stage, and holds the learning rate of stage 1."""
        self.names = self.stages[run.epoch > self.first]
        if run.epoch > self.first:
            return
        for name in self.names:
            for group in run.of(name).optimizer.param_groups:
                group["lr"] = group.get("initial_lr", group["lr"])

    def posterior(self, run: Run, network: str, index: Tensor) -> Tensor:
        """(N,) posteriors of being clean; those of sure samples are 1 in stage 2."""
        found = super().posterior(run, network, index)
        if run.epoch > self.first:
            return torch.where(self.sure, torch.ones_like(found), found)
        self.held[network] = [*self.held[network], found > self.threshold][-self.agreeing :]
        return found

    def labelled(self, run: Run, network: str) -> Tensor:
        """(N,) bool: what a network holds clean, in stage 1 throughout the last epochs."""
        if run.epoch > self.first:
            return super().labelled(run, network)
        held = held_throughout(self.held[network])
        late = run.epoch > self.first - self.recent
        if network == self.names[0] and late and int(held.sum()) >= int(self.sure.sum()):
            self.sure = held
        return held

    def mixed_pass(self, run: Run, network: str, labelled: Tensor, unlabelled: Tensor) -> Pass:
        """Stage 1: one lap over the labelled samples. Stage 2: laps over them, as long as a pass over all samples."""
        if run.epoch <= self.first:
            return super().mixed_pass(run, network, labelled, unlabelled)
        steps = run.num_samples // run.batch_size + 1
        return Pass(labelled, network, beside=unlabelled, steps=steps, label=MIX)

    def unlabelled_weight(self, run: Run, step: Step) -> float:
        """``lambda_u`` times its ramp, which counts in parts of epochs from 0, the part within a lap."""
        size = len(self.parts[self.other(step.network)][0])
        done = step.number % Laps.over(size, run.batch_size).steps / (size // run.batch_size + 1)
        return self.lambda_u * linear_ramp(self.age(run) - 1 + done, self.warmup, self.ramp)

    def epoch_end(self, run: Run) -> None:
        """Notes what the networks of stage 1 hold clean in the warm-up, and scores samples."""
        if run.epoch <= min(self.first, self.warmup):
            everything = torch.arange(run.num_samples, device=run.device)
            for name in self.names:
                self.clean[name] = self.posterior(run, name, everything)
        super().epoch_end(run)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Shares that the networks hold clean, and that of the samples that stage 1 was sure of."""
        return {**super().diagnostics(run), f"{self.name}.sure": float(self.sure.double().mean())}

    def state_dict(self) -> dict[str, Any]:
        """That of `divide_mix`, which stage it is, and what is held clean."""
        return {
            **super().state_dict(),
            "stage": self.stages.index(self.names),
            "held": {name: list(masks) for name, masks in self.held.items()},
            "sure": self.sure,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state)
        device = self.sure.device
        self.names = self.stages[int(state["stage"])]
        self.held = {name: [mask.to(device) for mask in masks] for name, masks in state["held"].items()}
        self.sure = state["sure"].to(device, copy=True)
