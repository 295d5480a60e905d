"""The checks as a pytest plugin: ``-p harness.testing.pytest_plugin`` on the command line or in ``addopts``.

``pytest --harness-check my_package`` runs every check of a plugin without a test file. A test that takes the argument
``harness_check`` is parametrised over the checks of the plugin that its marker names:

    @pytest.mark.harness_plugin("my_package")
    def test_it_keeps_the_contract(harness_check):
        harness_check()
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("noisy-label-harness")
    group.addoption(
        "--harness-check",
        action="append",
        default=[],
        metavar="MODULE|FILE",
        help="Run the harness's checks of this plugin; may be given again.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "harness_plugin(target, **options): the plugin whose checks `harness_check` runs; see harness.testing.cases",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness_check" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("harness_plugin")
    if marker is None:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: harness_check needs @pytest.mark.harness_plugin('my_package')"
        )
    from harness.testing import cases

    metafunc.parametrize("harness_check", cases(*marker.args, **marker.kwargs), ids=str)


class _Checks(pytest.Collector):
    """The checks of one plugin."""

    def collect(self) -> Iterator[pytest.Item]:
        from harness.testing import cases

        for case in cases(self.name):
            yield _Check.from_parent(self, name=str(case), case=case)


class _Check(pytest.Item):
    def __init__(self, *, case: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case

    def runtest(self) -> None:
        self.case()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, AssertionError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    for target in config.getoption("--harness-check"):
        collector = _Checks.from_parent(session, name=str(target), nodeid=str(target))
        items.extend(collector.collect())
