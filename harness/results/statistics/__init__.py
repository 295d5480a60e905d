"""What the tables may say: every statistical statement of the boards, exports and pages, as pure functions on arrays.

It sits between the store (long-form scores) and whatever shows them; it knows no user interface and no file.

Conventions. A score table is ``values[M, S, R]``: M methods, S settings, R seeds, NaN where a run is missing.
Differences and intervals are in the units of the scores; ``higher_is_better`` says which direction is an improvement.
Intervals are two-sided at ``level`` (0.95), tests at ``alpha`` (0.05). Every function is deterministic: resampling is
seeded.

Only ``scipy.special`` is imported, when first needed (0.3 s; ``scipy.stats`` takes 1.1 s, ``statsmodels`` 1.9 s): the
studentized range, Dunnett's distribution and the bootstrap are computed here, and the tests hold them against scipy and
statsmodels. :func:`cells` with ``intervals=False`` imports nothing but numpy.

One file per subject: :mod:`~.scores` (the table and its cells), :mod:`~.additive` (method + setting by least squares),
:mod:`~.variances` (moderated), :mod:`~.studentized_range`, :mod:`~.ties` (all pairs of methods at once), :mod:`~.power`
(detectable differences), :mod:`~.reference` (all methods against one), :mod:`~.across` (over settings), :mod:`~.pairs`
(two methods), :mod:`~.pareto`. What a caller needs is here. What is said of a paper's numbers is in
:mod:`harness.papers.verdict`; its names are still found here, looked up when asked for, since papers build on results.
"""

import importlib
from typing import Any

from harness.results.statistics.across import (
    AcrossSettings,
    MethodSummary,
    PerformanceProfile,
    compare_across_settings,
    interquartile_mean,
    mean_over_settings,
    performance_profile,
)
from harness.results.statistics.additive import AdditiveModel, additive_model
from harness.results.statistics.pairs import (
    Improvement,
    PairedComparison,
    compare_pair,
    probability_of_improvement,
)
from harness.results.statistics.pareto import Certainty, front_certainty, pareto_front
from harness.results.statistics.power import SeedsNeeded, detectable_difference, seeds_needed
from harness.results.statistics.reference import ToReference, compare_to_reference, dunnett_quantile, dunnett_sf
from harness.results.statistics.scores import (
    Cell,
    CellTable,
    Coverage,
    Interval,
    Scores,
    cell,
    cells,
    common_settings,
    competition_ranks,
    coverage,
    default_min_seeds,
    t_quantile,
)
from harness.results.statistics.studentized_range import studentized_range_quantile, studentized_range_sf
from harness.results.statistics.ties import (
    Pairwise,
    State,
    TopGroup,
    ToTop,
    compare_in_setting,
    compare_in_settings,
    compare_methods,
    compare_over_settings,
    describe,
    states_to_top,
    tiers,
    top_group,
)

__all__ = [
    "AcrossSettings",
    "AdditiveModel",
    "Cell",
    "CellTable",
    "Certainty",
    "Coverage",
    "Improvement",
    "Interval",
    "MethodSummary",
    "PairedComparison",
    "Pairwise",
    "PerformanceProfile",
    "Scores",
    "SeedsNeeded",
    "State",
    "ToReference",
    "ToTop",
    "TopGroup",
    "additive_model",
    "cell",
    "cells",
    "common_settings",
    "compare_across_settings",
    "compare_in_setting",
    "compare_in_settings",
    "compare_methods",
    "compare_over_settings",
    "compare_pair",
    "compare_to_reference",
    "competition_ranks",
    "coverage",
    "default_min_seeds",
    "describe",
    "detectable_difference",
    "dunnett_quantile",
    "dunnett_sf",
    "front_certainty",
    "interquartile_mean",
    "mean_over_settings",
    "pareto_front",
    "performance_profile",
    "probability_of_improvement",
    "seeds_needed",
    "states_to_top",
    "studentized_range_quantile",
    "studentized_range_sf",
    "t_quantile",
    "tiers",
    "top_group",
]

_OF_PAPERS = frozenset(
    {
        "OrderingAgreement",
        "PublishedCheck",
        "PublishedSummary",
        "Verdict",
        "compare_with_published",
        "ordering_agreement",
        "summarise_published",
    }
)


def __getattr__(name: str) -> Any:
    if name in _OF_PAPERS:
        return getattr(importlib.import_module("harness.papers.verdict"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
