"""What the tables may say: every statistical statement of the boards, exports and pages, as pure functions on arrays.

It sits between the store (long-form scores) and whatever shows them; it knows no user interface and no file.

Conventions. A score table is ``values[M, S, R]``: M methods, S settings, R seeds, NaN where a run is missing.
Differences and intervals are in the units of the scores; ``higher_is_better`` says which direction is an improvement.
Intervals are two-sided at ``level`` (0.95), tests at ``alpha`` (0.05). Every function is deterministic: resampling is
seeded.

Only ``scipy.special`` is imported, when first needed (0.3 s; ``scipy.stats`` takes 1.1 s, ``statsmodels`` 1.9 s): the
studentized range, the bootstrap and Kendall's tau are computed here, and the tests hold them against scipy and
statsmodels. :func:`cells` with ``intervals=False`` imports nothing but numpy.

One file per subject: :mod:`~.scores` (the table and its cells), :mod:`~.additive` (method + setting by least squares),
:mod:`~.studentized_range`, :mod:`~.ties` (all pairs of methods at once), :mod:`~.across` (over settings),
:mod:`~.pairs` (two methods), :mod:`~.pareto`, :mod:`~.printed` (a paper's numbers). What a caller needs is here.
"""

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
from harness.results.statistics.pareto import pareto_front
from harness.results.statistics.printed import (
    NO_SPREAD,
    OrderingAgreement,
    PublishedCheck,
    PublishedSummary,
    Verdict,
    compare_with_published,
    ordering_agreement,
    summarise_published,
    tau_b,
)
from harness.results.statistics.scores import (
    Cell,
    CellTable,
    Coverage,
    Interval,
    Scores,
    cell,
    cells,
    common_settings,
    coverage,
    default_min_seeds,
    t_quantile,
)
from harness.results.statistics.studentized_range import studentized_range_quantile, studentized_range_sf
from harness.results.statistics.ties import (
    Pairwise,
    TopGroup,
    ToTop,
    compare_in_setting,
    compare_methods,
    compare_over_settings,
    describe,
    tiers,
    top_group,
)

__all__ = [
    "NO_SPREAD",
    "AcrossSettings",
    "AdditiveModel",
    "Cell",
    "CellTable",
    "Coverage",
    "Improvement",
    "Interval",
    "MethodSummary",
    "OrderingAgreement",
    "PairedComparison",
    "Pairwise",
    "PerformanceProfile",
    "PublishedCheck",
    "PublishedSummary",
    "Scores",
    "ToTop",
    "TopGroup",
    "Verdict",
    "additive_model",
    "cell",
    "cells",
    "common_settings",
    "compare_across_settings",
    "compare_in_setting",
    "compare_methods",
    "compare_over_settings",
    "compare_pair",
    "compare_with_published",
    "coverage",
    "default_min_seeds",
    "describe",
    "interquartile_mean",
    "mean_over_settings",
    "ordering_agreement",
    "pareto_front",
    "performance_profile",
    "probability_of_improvement",
    "studentized_range_quantile",
    "studentized_range_sf",
    "summarise_published",
    "t_quantile",
    "tau_b",
    "tiers",
    "top_group",
]
