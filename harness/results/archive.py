"""Packed records, under their former name: the same module, so that what is set in one is set in the other."""

import sys

from harness.results.records import archive
from harness.results.records.archive import pack as pack
from harness.results.records.archive import reference_files as reference_files
from harness.results.records.archive import reference_results as reference_results
from harness.results.records.archive import unpack as unpack

sys.modules[__name__] = archive
