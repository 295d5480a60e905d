"""The checks themselves, one file for each sort; importing this fills the catalogue in the order in which they run."""

from harness.testing.checks import contract, losses, data, models, metrics, noise_reports, training  # noqa: F401, I001 -- the order is the catalogue's
