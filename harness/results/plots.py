"""Pictures of the store, under a former name: the same module, so that what is set in one is set in the other."""

import sys

from harness.results.report import plots

sys.modules[__name__] = plots
