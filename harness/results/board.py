"""Boards, under a former name: the same module, so that what is set in one is set in the other."""

import sys

from harness.results import report

sys.modules[__name__] = report
