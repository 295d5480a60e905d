"""Strong augmentation as a method's only ingredient: training on strong views of the samples."""

from __future__ import annotations

from harness import Declares, Run, Step, hookimpl


class StrongAugmentation:
    """Train on strong views: the setting's augmentation, then UDA's RandAugment and a cutout (`run.view`).

    It is one of the two ingredients that explain much of what the semi-supervised methods gain; the other is `ema`. Losses,
    weights and scores are those of the rest of the stack: passes that rank or examine samples see them unaugmented.
    """

    declares = Declares(views=("strong",))

    @hookimpl(tryfirst=True)
    def before_forward(self, run: Run, step: Step) -> None:
        """Replaces the inputs of a training step, before other parts change them."""
        if step.phase == "train":
            step.inputs = run.view(step.index, "strong")
