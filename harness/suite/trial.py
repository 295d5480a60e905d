"""The names that moved to :mod:`harness.trial`, under which plugins may know them."""

from harness.trial import SCHEMA, Trial, canonical, digest, seeded

__all__ = ["SCHEMA", "Trial", "canonical", "digest", "seeded"]
