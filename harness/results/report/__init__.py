"""What is shown of a store: the board here, its files in ``export``, its pictures in ``plots``.

The board is mean, standard deviation and n for every method on every setting of a suite, and who is ahead. It never
averages what happens to be there: ranked are the methods that have every run that anybody has a result for. A method that
lacks one, because it failed or was not run, says so and is listed after those that are complete. A run that diverged counts
as chance level.
"""

from harness.results.report.cells import COLLAPSE_AT as COLLAPSE_AT
from harness.results.report.cells import SIGNS as SIGNS
from harness.results.report.cells import TIES as TIES
from harness.results.report.cells import WORDS as WORDS
from harness.results.report.cells import Board as Board
from harness.results.report.cells import BoardCell as BoardCell
from harness.results.report.cells import BoardRow as BoardRow
from harness.results.report.cells import Mark as Mark
from harness.results.report.cells import cell_text as cell_text
from harness.results.report.cells import fallen as fallen
from harness.results.report.cells import mark_of as mark_of
from harness.results.report.cells import mark_words as mark_words
from harness.results.report.cells import shorten as shorten
from harness.results.report.rank import narrow as narrow
from harness.results.report.rank import scores_of as scores_of
from harness.results.report.read import main_metric as main_metric
from harness.results.report.read import read_board as read_board
from harness.results.report.read import suites_in as suites_in
from harness.results.report.ties import over_settings as over_settings
from harness.results.report.ties import with_ties as with_ties
