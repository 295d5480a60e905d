"""Strong augmentation as a method's only ingredient: training on strong views of the samples."""

from __future__ import annotations

from typing import Literal

from harness import Declares, Run, Step, hookimpl


class StrongAugmentation:
    """Train on strong views: the setting's augmentation, then UDA's RandAugment and a cutout (`run.view`).

    It is one of the two ingredients that explain much of what the semi-supervised methods gain; the other is `ema`. Losses,
    weights and scores are those of the rest of the stack: passes that rank or examine samples see them unaugmented.

    Args:
        policy: `strong`; or `promix` or `autoaugment`, the policies of ProMix and of UNICON and CORES2*, each before the
            setting's augmentation.
    """

    declares = Declares(views=("strong", "promix", "autoaugment"))

    def __init__(self, policy: Literal["strong", "promix", "autoaugment"] = "strong") -> None:
        self.policy = policy

    @hookimpl(tryfirst=True)
    def before_forward(self, run: Run, step: Step) -> None:
        """Replaces the inputs of a training step, before other parts change them."""
        if step.phase == "train":
            step.inputs = run.view(step.index, self.policy)
