"""Every way in which a plugin can fail is listed with its owner and a remedy, and the rest works on."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import faults
from harness.cli.plugins import plugins
from harness.execution.orchestrate import Orchestrator
from harness.hookspecs import HOST_HOOKS, TRAINING_HOOKS
from harness.plugins import Host, load_host, problems
from harness.results.records import final_attempt, open_results, read_json, trial_folder
from harness.suite.load import Suite, load_suite
from harness.suite.plan import make_plan
from harness.testing import read_plugin
from harness.testing.bench import Bench

CHATTY = """
class Mine:
    "A loss."
    def __call__(self, outputs, targets, index): ...
"""
LIFE = [name for name in HOST_HOOKS if "register" not in name]
RAISING_ALGORITHM = """
class Mine:
    '''An algorithm whose hook raises.'''
    def {hook}(self, {arguments}):
        raise ValueError("of {hook}")
"""


@pytest.fixture(autouse=True)
def _forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    yield


@pytest.fixture
def small(write_suite: Callable[..., Path]) -> Callable[..., Suite]:
    def load(method: str, plugin: Path, **parts: Any) -> Suite:
        methods = f'[[method]]\nname = "CE"\n[[method]]\nname = "tested"\n{method}'
        path = write_suite(epochs=1, methods=methods, setting="subset = 64", **parts)
        return load_suite(path, plugins=[plugin])

    return load


def listed(*files: Path, json: bool = False) -> str:
    """What ``harness plugins`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        plugins(list(files), json)
    return output.getvalue()


def results_of(plan: harness.Plan) -> dict[str, Any]:
    found = {}
    for planned in plan.trials:
        attempt = final_attempt(trial_folder(plan.results, planned.id))
        assert attempt is not None
        found[planned.entry.method] = read_json(attempt / "result.json")
    return found


@pytest.mark.parametrize(
    "source, words",
    [
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("raise SystemExit(1)\n", "SystemExit: 1"),
        ("@hookimpl\ndef harness_trail_start(trial):\n    pass\n", "unknown hook 'harness_trail_start'"),
        ("@hookimpl\ndef harness_trial_start(run):\n    pass\n", "harness_trial_start"),
        ("HARNESS_REQUIRES = '>99'\nfrom harness import future\n", "it needs harness >99"),
        ("@hookimpl\ndef harness_register_noise(register):\n    raise ValueError('no data')\n", "ValueError: no data"),
    ],
)
def test_a_plugin_that_cannot_be_admitted_is_listed_and_the_rest_is_there(
    source: str, words: str, write_plugin: Callable[..., Path]
) -> None:
    file = write_plugin(source)
    line = next(line for line in listed(file).splitlines() if line.startswith("mine "))
    assert "BROKEN" in line and words in line and str(file) in line and "; " in line
    assert "gce" in Host([file]).registry.names("loss")


def test_what_a_plugin_prints_while_it_is_read_is_not_in_the_output(
    write_plugin: Callable[..., Path],
    write_suite: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "printing_lazily.py").write_text(f"print('lazy')\n{CHATTY}")
    source = (
        f"print('read')\n{CHATTY}\n"
        "@hookimpl\ndef harness_register_losses(register):\n"
        "    print('registered')\n    register('mine', Mine)\n    register('later', 'printing_lazily:Mine')\n"
        "@hookimpl\ndef harness_plan_modify(plan):\n    print('planned')\n"
    )
    file = write_plugin(source)
    assert json.loads(listed(file, json=True))["problems"] == []
    make_plan(load_suite(write_suite(), plugins=[file]), tmp_path / "results")
    told = capsys.readouterr()
    assert told.out == "" and set(told.err.split()) == {"read", "registered", "lazy", "planned"}


def test_a_plugin_that_fails_half_way_leaves_nothing_registered(write_plugin: Callable[..., Path]) -> None:
    file = write_plugin(
        """
        @hookimpl
        def harness_register_losses(register):
            register("half", print)
        @hookimpl
        def harness_register_noise(register):
            raise ValueError
        """
    )
    assert "half" not in Host([file]).registry.names("loss")


def test_a_clash_names_both_owners_and_other_names_of_the_plugin_work(write_plugin: Callable[..., Path]) -> None:
    file = write_plugin(
        """
        class Mine:
            '''A loss.'''
            def __call__(self, outputs, targets, index):
                return outputs.sum(1)
        @hookimpl
        def harness_register_losses(register):
            register("gce", Mine)
            register("own", Mine)
        """
    )
    text = listed(file)
    assert "registered twice: by noisy-label-harness" in text and str(file) in text
    registry = Host([file]).registry
    registry.create("loss", "own", {})
    with pytest.raises(harness.HarnessError, match=r"is registered by noisy-label-harness .* and "):
        registry.create("loss", "gce", {})


def test_a_parameter_without_a_type_and_a_wrong_training_hook_are_listed(write_plugin: Callable[..., Path]) -> None:
    file = write_plugin(
        """
        class Untyped:
            '''A loss.'''
            def __init__(self, q=1):
                pass
        class Hooked:
            '''An algorithm.'''
            def after_backward(self, gradients):
                pass
        @hookimpl
        def harness_register_losses(register):
            register("untyped", Untyped)
        @hookimpl
        def harness_register_algorithms(register):
            register("hooked", Hooked)
            register("gone", "no_such_module:Factory")
        """
    )
    text = listed(file)
    assert "losses.untyped" in text and "parameter 'q' has no type" in text
    assert "algorithms.hooked" in text and "'gradients'" in text
    assert "algorithms.gone" in text and "no_such_module" in text
    found = json.loads(listed(file, json=True))
    assert all(problem["owner"] and problem["remedy"] for problem in found["problems"])


@pytest.mark.parametrize("hook", [name for name in TRAINING_HOOKS if name != "compute_losses"])
def test_an_exception_in_a_training_hook_fails_that_trial_and_names_component_owner_and_hook(
    hook: str, write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    arguments = {"predict": "run, inputs"}.get(hook, "run")
    file = write_plugin(RAISING_ALGORITHM.format(hook=hook, arguments=arguments), "algorithms")
    suite = small('algorithms = ["mine"]', file)
    found = results_of(Orchestrator(suite, open_results(tmp_path / "results"), "inline").run())
    assert found["CE"]["status"] == "done"
    error = found["tested"]["error"]
    assert (error["type"], error["message"]) == ("ValueError", f"of {hook}")
    assert (error["component"], error["hook"]) == ("algorithms.mine", hook)
    assert error["owner"] == str(file)
    assert f"{hook}: ValueError: of {hook}" in listed(file)


def test_an_exception_in_a_loss_that_replaces_another_is_named_too(
    write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    source = RAISING_ALGORITHM.format(hook="compute_losses", arguments="run, step")
    source = source.replace("    def ", "    declares = Declares(replaces='ce')\n    def ", 1)
    suite = small('algorithms = ["mine"]', write_plugin(source, "algorithms"))
    found = results_of(Orchestrator(suite, open_results(tmp_path / "results"), "inline").run())
    assert found["tested"]["error"]["hook"] == "compute_losses"


@pytest.mark.parametrize("hook", LIFE)
def test_an_exception_in_a_host_hook_stops_nothing_and_is_listed(
    hook: str, write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    file = write_plugin(f"@hookimpl\ndef {hook}():\n    raise ValueError('of {hook}')\n")
    suite = small('loss = "gce"', file)
    plan = Orchestrator(suite, open_results(tmp_path / "results"), "inline").run()
    assert {result["status"] for result in results_of(plan).values()} == {"done"}
    if hook == "harness_leaderboard_columns":
        assert suite.host.call(hook) == []
    text = listed(file)
    assert f"{hook}: ValueError: of {hook}" in text and str(file) in text
    if hook == "harness_plan_modify":
        assert any("harness_plan_modify raised ValueError" in note for note in plan.notes)


@pytest.mark.parametrize(
    "returned, words",
    [
        ("losses.mean()", "shape () for a batch of 58; return (B,) losses"),
        ("losses[1:]", "shape (57,) for a batch of 58"),
        ("losses.unsqueeze(1)", "shape (58, 1) for a batch of 58"),
        ("losses.unsqueeze(1).expand(-1, 10)", "shape (58, 10) for a batch of 58"),
        ("losses.mean().item()", "type float for a batch of 58"),
        ("losses.detach().numpy()", "type ndarray for a batch of 58"),
        ("None", "set no losses"),
    ],
)
def test_losses_that_cannot_be_weighted_by_sample_fail_their_trial(
    returned: str, words: str, write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    source = f"""
        class Mine:
            "A loss."
            def __call__(self, outputs, targets, index):
                losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
                return {returned}
        """
    suite = small('loss = "mine"', write_plugin(source, "losses"))
    found = results_of(Orchestrator(suite, open_results(tmp_path / "results"), "inline").run())
    assert found["CE"]["status"] == "done" and found["tested"]["status"] == "failed"
    assert "loss 'mine'" in found["tested"]["error"]["message"] and words in found["tested"]["error"]["message"]


def test_a_declared_batch_loss_has_to_be_one_number(
    write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    source = """
        class Mine:
            "A loss."
            declares = Declares(per_batch=True)
            def __call__(self, outputs, targets, index):
                return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
        """
    suite = small('loss = "mine"', write_plugin(source, "losses"))
    found = results_of(Orchestrator(suite, open_results(tmp_path / "results"), "inline").run())
    assert "return one number, as it declares per_batch" in found["tested"]["error"]["message"]


def test_a_component_that_leaves_fails_its_trial_not_the_run(
    write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    source = "class Mine:\n    'Leaves.'\n    def setup(self, run):\n        raise SystemExit(0)\n"
    suite = small('algorithms = ["mine"]', write_plugin(source, "algorithms"), suite="tuning_seeds = []")
    found = results_of(Orchestrator(suite, open_results(tmp_path / "results"), "inline").run())
    assert found["CE"]["status"] == "done"
    error = found["tested"]["error"]
    assert (error["type"], error["component"], error["hook"]) == ("SystemExit", "algorithms.mine", "setup")


@pytest.mark.parametrize("value", ["{'n': numpy.int64(3)}", "{'n': float('nan')}", "['a list']"])
def test_facts_that_json_cannot_hold_are_left_out_and_listed(
    value: str, write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    file = write_plugin(f"import numpy\n@hookimpl\ndef harness_collect_environment():\n    return {value}\n")
    plan = Orchestrator(small('loss = "gce"', file), open_results(tmp_path / "results"), "inline").run()
    assert plan.counts()["done"] == 2
    assert "harness_collect_environment" in listed(file)


def test_facts_of_plugins_are_added_and_those_of_the_harness_stay(
    write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    source = (
        "@hookimpl\ndef harness_collect_environment():\n    return {'versions': 3, 'interrupted': True, 'rack': 'B7'}\n"
    )
    plan = Orchestrator(small('loss = "gce"', write_plugin(source)), open_results(tmp_path / "results"), "inline").run()
    attempt = final_attempt(trial_folder(plan.results, plan.trials[0].id))
    assert attempt is not None
    environment = read_json(attempt / "environment.json")
    assert environment["rack"] == "B7" and "torch" in environment["versions"] and "interrupted" not in environment
    assert "'versions' is the harness's own" in (attempt / "log.txt").read_text()


def test_what_a_failing_plan_hook_had_changed_is_undone(
    write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    file = write_plugin("@hookimpl\ndef harness_plan_modify(plan):\n    plan.trials.clear()\n    raise ValueError\n")
    plan = harness.plan(small('loss = "gce"', file), tmp_path)
    assert len(plan.trials) == 2


def test_a_fault_is_forgotten_when_its_file_is_edited(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    faults.note(file, "after_step", "ValueError: x")
    assert [fault.where for fault in faults.noted()] == ["after_step"]
    file.write_text("x = 2\n")
    assert faults.noted() == []


def test_a_broken_plugin_fails_a_suite_only_if_the_suite_needs_it(
    write_plugin: Callable[..., Path], small: Callable[..., Suite]
) -> None:
    file = write_plugin("import no_such_module\n")
    small('loss = "gce"', file)
    with pytest.raises(harness.HarnessError, match=r"unknown loss 'mine'.*plugins that failed to load: mine"):
        small('loss = "mine"', file)


@pytest.mark.slow
def test_a_hang_is_killed_after_timeout_s_and_the_place_is_named(
    write_plugin: Callable[..., Path], small: Callable[..., Suite], tmp_path: Path
) -> None:
    source = RAISING_ALGORITHM.format(hook="after_step", arguments="run").replace(
        'raise ValueError("of after_step")', "import time; time.sleep(600)"
    )
    file = write_plugin(source, "algorithms")
    bench = Bench(read_plugin(file).subjects[0], tmp_path)
    plain = {"name": "CE", "loss": "testing.ce"}
    suite = bench.suite([plain, bench.method()], epochs=1, timeout_s=20.0)
    found = results_of(Orchestrator(suite, open_results(tmp_path / "results"), "local", {"workers": 1}).run())
    assert found["CE"]["error"] is None
    assert found["tested"]["error"]["type"] == "TrialTimeout"
    assert "timeout_s = 20, in after_step (mine.py)" in found["tested"]["error"]["message"]
    assert "after_step: still running" in listed(file)


def test_problems_of_the_harness_itself_are_none() -> None:
    wrong = [problem for problem in problems(load_host()) if not problem.component.startswith("executors.slurm")]
    assert wrong == []
