"""Boards as files, under a former name: the same module, so that what is set in one is set in the other."""

import sys

from harness.results.report import export

sys.modules[__name__] = export
