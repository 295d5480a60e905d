"""Merging results folders, under its former name."""

from harness.results.records.merge import merge_results as merge_results
