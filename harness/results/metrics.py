"""What each metric is called, whether more of it is better, and how it is shown."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    """A recorded quantity. Shares are recorded in [0, 1] and shown in percent."""

    name: str
    title: str
    higher_is_better: bool
    percent: bool = False
    unit: str = ""
    at: tuple[str, ...] = ("last",)

    def show(self, value: float | None, digits: int = 2) -> str:
        """A value for people."""
        if value is None:
            return "-"
        return (
            f"{100 * value:.{digits}f}" if self.percent else f"{value:,.0f}" if self.unit == "count" else f"{value:.4g}"
        )


_CURVE = ("last", "last10", "selected", "best", "best_minus_last")
MAIN = ("accuracy", "mae")
"""What a suite is ranked by unless another metric is asked for."""
MOMENTS = {
    "last": "at the last epoch",
    "last10": "mean of the last 10 epochs",
    "selected": "at the epoch selected on noisy validation",
    "best": "at the best epoch on test (an oracle)",
    "best_minus_last": "best epoch minus last",
}
"""What the words for when a quantity is taken mean."""
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "test accuracy", True, True, "%", _CURVE),
        Metric("mae", "test mean absolute error", False, at=_CURVE),
        Metric("rmse", "test root mean squared error", False, at=_CURVE),
        Metric("test_loss", "test loss", False),
        Metric("train_accuracy", "training accuracy on given labels", True, True, "%"),
        Metric("clean_accuracy", "training accuracy on clean samples", True, True, "%"),
        Metric("memorisation", "corrupted samples predicted as their wrong label", False, True, "%"),
        Metric(
            "predicted_share",
            "largest share of the test predictions in one class",
            False,
            True,
            "%",
            ("last", "selected", "best"),
        ),
        Metric("recovery", "corrupted samples predicted as their true label", True, True, "%"),
        Metric("detection_auroc", "AUROC of detecting corrupted samples", True, True, "%"),
        Metric("validation_accuracy", "noisy validation accuracy", True, True, "%", ("last", "selected")),
        Metric("validation_loss", "noisy validation loss", False, at=("last", "selected")),
        Metric("validation_mae", "noisy validation mean absolute error", False, at=("last", "selected")),
        Metric("train_mae", "training mean absolute error on given targets", False),
        Metric("fgsm_accuracy", "test accuracy under FGSM", True, True, "%", ("last", "selected")),
        Metric("parameters", "trained parameters", False, unit="count"),
        Metric("seconds_per_epoch", "seconds per epoch without evaluation", False, unit="s"),
        Metric("peak_memory", "peak memory in bytes", False, unit="count"),
    )
}


def moment(at: str) -> str:
    """When a quantity is taken, in words."""
    return MOMENTS.get(at, f"at {at}")


def in_words(name: str, at: str = "last") -> str:
    """What a recorded quantity is, in words; that it is taken at the last epoch goes without saying for all but the main."""
    title = find_metric(name).title
    return title if at == "last" and name not in MAIN else f"{title}, {moment(at)}"


def find_metric(name: str) -> Metric:
    """The metric of a recorded name; ``fgsm_accuracy@0.1`` belongs to ``fgsm_accuracy``, unknown ones show plainly."""
    base = name.partition("@")[0]
    known = METRICS.get(base)
    if known is None:
        return Metric(name, name, True)
    return (
        known
        if base == name
        else dataclasses.replace(known, name=name, title=f"{known.title} {name.partition('@')[2]}")
    )


def parse_metric(text: str) -> tuple[str, str]:
    """``last``, ``accuracy``, ``accuracy@best``, ``fgsm_accuracy@0.1``, ``fgsm_accuracy@0.1@selected`` as (metric, at).

    A word that says only when (``last``, ``last10``, ``selected``, ``best``, ``best_minus_last``) means the main metric,
    returned as an empty name.
    """
    if text in _CURVE:
        return "", text
    name, _, rest = text.partition("@")
    if not rest:
        return name, "last"
    first, _, second = rest.partition("@")
    if second:
        return f"{name}@{first}", second
    return (name, first) if first in _CURVE else (f"{name}@{first}", "last")
