"""The harness's checks, for every component of this plugin."""

import pytest

from harness.testing import cases


@pytest.mark.parametrize("case", cases("noisy_label_extras"), ids=str)
def test_it_keeps_the_contract(case):
    case()
