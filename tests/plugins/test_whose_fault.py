"""Whatever a component does, its trial's record names it and its hook, nobody else, and other trials are as ever."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import MOST_SAID, HarnessError, kind_of, said
from harness.execution.orchestrate import Orchestrator
from harness.results.records import final_attempt, open_results, read_json, read_lines, trial_folder
from harness.suite.load import Suite, load_suite
from harness.suite.plan import Plan, make_plan

SEVERAL = """
import threading
import torch
from torch import nn
from torch.nn import functional
from harness import DataSplits, LabelledData, hookimpl

END = threading.Event()

class Own(BaseException):
    "No Exception."

class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")

ERRORS = {"value": ValueError("of mine"), "own": Own("of mine"), "mute": Mute(), "interrupt": KeyboardInterrupt(),
          "generator": GeneratorExit(), "exit": SystemExit(0)}

class Spy(torch.Tensor):
    "Is handed what it is compared with."

class Calm:
    "Does nothing, in the same file as the others."
    def after_forward(self, run, step): ...
    def after_losses(self, run, step): ...

class Mine:
    "Misbehaves as told."
    def __init__(self, does: str = ""):
        self.does = does
        if does == "factory":
            try:
                {}["the cause"]
            except KeyError as error:
                raise RuntimeError("the factory") from error
        if does == "refuses":
            raise ValueError("no such thing")

    def setup(self, run):
        if self.does == "thread":
            threading.Thread(target=END.wait, name="mine").start()
        if self.does == "targets of a class of its own":
            run.targets = run.targets.as_subclass(Spy)
        if self.does == "scores of a class of its own":
            run.score_samples("mine", torch.zeros(run.num_samples).as_subclass(Spy))
        if self.does == "leaves":
            torch.set_default_dtype(torch.float64)

    def epoch_start(self, run):
        if self.does == "targets":
            run.targets = run.targets.float()

    def train_step(self, run, step):
        return "yes" if self.does == "string" else None

    def after_forward(self, run, step):
        if self.does in ERRORS:
            raise ERRORS[self.does]
        if self.does == "outputs":
            step.outputs = step.outputs[:, :3]
        if self.does == "nan":
            step.outputs = step.outputs * float("nan")
        if self.does == "detached":
            step.outputs = step.outputs.detach()

    def after_losses(self, run, step):
        if self.does == "weights":
            step.weights = "heavy"
        if self.does == "penalty":
            step.penalty = torch.zeros(3)
        if self.does == "infinite weights":
            step.weights = step.weights * float("inf")

    def epoch_end(self, run):
        if self.does == "scores":
            run.score_samples("mine", torch.zeros(3))

    def diagnostics(self, run):
        return {"mine": "many"} if self.does == "diagnostics" else {}

    def predict(self, run, inputs):
        outputs = run.forward(inputs)
        predicted = outputs.log_softmax(1)
        if self.does == "undefined" or (self.does == "undefined later" and run.epoch == 2):
            return predicted * float("nan")
        if self.does == "infinity":
            return predicted + float("inf")
        if self.does == "undefined parts":
            return predicted.log() * 0.0  # of negative numbers
        return predicted[:, :3] if self.does == "predictions" else predicted

    def state_dict(self):
        return {"state": Own() if self.does == "state" else 1}

    def load_state_dict(self, state): ...

class Layer(nn.Module):
    def __init__(self, inner, does):
        super().__init__()
        self.inner, self.does = inner, does

    def forward(self, inputs):
        outputs = self.inner(inputs)
        if self.does == "raises":
            raise ValueError("of the layer")
        if self.does == "shape":
            return outputs[:, :3]
        return outputs * float("nan") if self.does == "nan" else outputs

class Layered:
    "Puts a layer over the model."
    def __init__(self, does: str = ""):
        self.does = does

    def __call__(self, model):
        return Layer(model, self.does) if self.does != "word" else "model"

class Model(nn.Module):
    "A linear model."
    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, does: str = ""):
        super().__init__()
        self.does, self.linear = does, nn.Linear(64, num_outputs)

    def forward(self, inputs):
        outputs = self.linear(inputs.flatten(1))
        if self.does == "shape":
            return outputs[:, :3]
        broken = self.does == "nan" or (self.does == "nan when measured" and not self.training)
        return outputs * float("nan") if broken else outputs

class Noise:
    "Does not change labels."
    def __init__(self, does: str = ""):
        self.does = does

    def __call__(self, data, *, rng):
        if self.does == "float":
            return data.targets.float()
        return data.targets + 10 if self.does == "outside" else data.targets

@hookimpl
def harness_register_algorithms(register):
    register("calm", Calm)
    register("mine", Mine)

@hookimpl
def harness_register_transforms(register):
    register("layered", Layered)

@hookimpl
def harness_register_models(register):
    register("model", Model)

@hookimpl
def harness_register_noise(register):
    register("noise", Noise)
"""
IN_A_METHOD = {
    "value": ("ValueError", "after_forward"),
    "own": ("Own", "after_forward"),
    "mute": ("Mute", "after_forward"),
    "interrupt": ("KeyboardInterrupt", "after_forward"),
    "generator": ("GeneratorExit", "after_forward"),
    "exit": ("SystemExit", "after_forward"),
    "factory": ("RuntimeError", "__init__"),
    "refuses": ("ComponentError", "__init__"),
    "targets": ("ComponentError", "epoch_start"),
    "string": ("ComponentError", "train_step"),
    "outputs": ("ComponentError", "after_forward"),
    "nan": ("ComponentError", "after_forward"),
    "detached": ("ComponentError", "after_forward"),
    "weights": ("ComponentError", "after_losses"),
    "infinite weights": ("ComponentError", "after_losses"),
    "penalty": ("ComponentError", "after_losses"),
    "scores": ("ComponentError", "epoch_end"),
    "diagnostics": ("ComponentError", "diagnostics"),
    "predictions": ("ComponentError", "predict"),
    "undefined": ("ComponentError", "predict"),
    "undefined later": ("ComponentError", "predict"),
    "undefined parts": ("ComponentError", "predict"),
    "infinity": ("ComponentError", "predict"),
    "targets of a class of its own": ("ComponentError", "setup"),
    "scores of a class of its own": ("ComponentError", "setup"),
    "state": ("ComponentError", "state_dict"),
}
IN_A_TRANSFORM = {
    "raises": ("ValueError", "forward"),
    "shape": ("ComponentError", "forward"),
    "nan": ("ComponentError", "forward"),
    "word": ("ComponentError", "__call__"),
}


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin file of several components."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "several.py"
    path.write_text(SEVERAL)
    return path


@pytest.fixture
def small(write_suite: Callable[..., Path], several: Path) -> Callable[..., Suite]:
    def load(methods: dict[str, str], *, model: str = "", noise: str = '"none"') -> Suite:
        text = "".join(f'[[method]]\nname = "{name}"\n{words}\n' for name, words in methods.items())
        path = write_suite(
            methods=text, setting="subset = 96", noise=noise, tables="[execution]\ncheckpoint_epochs = 1", epochs=2
        )
        if model:
            path.write_text(path.read_text().replace('{ name = "mlp", hidden = [32] }', model))
        return load_suite(path, plugins=[several])

    return load


def outcomes(plan: Plan) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The final attempt and the result of every method."""
    found = {}
    for planned in plan.trials:
        attempt = final_attempt(trial_folder(plan.results, planned.id))
        assert attempt is not None
        result = read_json(attempt / "result.json")
        assert isinstance(result, dict)
        found[planned.entry.method] = attempt, result
    return found


def named(result: dict[str, Any]) -> tuple[str, str, str]:
    error = result["error"] or {}
    return error.get("type", ""), error.get("component", ""), error.get("hook", "")


def test_a_fault_in_a_method_is_that_of_its_component_and_hook_and_the_next_trial_is_as_ever(
    small: Callable[..., Suite], tmp_path: Path
) -> None:
    methods = {what: f'algorithms = ["calm", {{ name = "mine", does = "{what}" }}]' for what in IN_A_METHOD}
    methods |= {f"layer {what}": f'transforms = [{{ name = "layered", does = "{what}" }}]' for what in IN_A_TRANSFORM}
    alone = outcomes(harness.run(small({"CE": ""}), tmp_path / "alone", "inline"))["CE"][0]
    found = outcomes(harness.run(small({**methods, "CE": ""}), tmp_path / "r", "inline"))
    wanted = {what: (kind, "algorithms.mine", hook) for what, (kind, hook) in IN_A_METHOD.items()}
    wanted |= {f"layer {what}": (kind, "transforms.layered", hook) for what, (kind, hook) in IN_A_TRANSFORM.items()}
    assert {what: named(found[what][1]) for what in wanted} == wanted
    assert read_lines(found["CE"][0] / "epochs.jsonl") == read_lines(alone / "epochs.jsonl")
    error = found["mute"][1]["error"]
    assert error["message"] == "(its message cannot be written: ValueError)"
    assert "KeyError: 'the cause'" in found["factory"][1]["error"]["traceback"]
    assert "train_step returned str; return True" in found["string"][1]["error"]["message"]
    assert "state_dict cannot be read back" in found["state"][1]["error"]["message"]
    assert len(read_lines(found["state"][0] / "epochs.jsonl")) == 1, "at the first save"
    assert all("\n" not in result["error"]["message"] for _, result in found.values() if result["error"])


@pytest.mark.parametrize(
    "model, noise, wanted",
    [
        ('{ name = "model", does = "shape" }', '"none"', ("ComponentError", "models.model", "forward")),
        ('{ name = "model", does = "nan" }', '"none"', ("ComponentError", "models.model", "forward")),
        ("", '{ name = "noise", does = "float" }', ("DataError", "noise.noise", "__call__")),
        ("", '{ name = "noise", does = "outside" }', ("ComponentError", "noise.noise", "__call__")),
    ],
)
def test_a_fault_of_a_setting_is_not_that_of_a_method(
    model: str, noise: str, wanted: tuple[str, str, str], small: Callable[..., Suite], tmp_path: Path
) -> None:
    methods = {"CE": "", "calm": 'algorithms = ["calm"]', "layered": 'transforms = ["layered"]\nloss = "gce"'}
    found = outcomes(harness.run(small(methods, model=model, noise=noise), tmp_path / "r", "inline"))
    assert {name: named(result) for name, (_, result) in found.items()} == dict.fromkeys(methods, wanted)


def test_numbers_that_a_network_itself_gives_are_divergence_whatever_is_predicted_from_them(
    small: Callable[..., Suite], tmp_path: Path
) -> None:
    methods = {
        "CE": "",
        "mine": 'algorithms = ["mine"]',
        "other": 'algorithms = [{ name = "mine", does = "undefined" }]',
    }
    suite = small(methods, model='{ name = "model", does = "nan when measured" }')
    found = outcomes(harness.run(suite, tmp_path / "r", "inline"))
    assert {name: result["status"] for name, (_, result) in found.items()} == dict.fromkeys(methods, "diverged")


def test_what_is_left_changed_is_put_back_and_named_and_the_trial_counts(
    small: Callable[..., Suite], tmp_path: Path
) -> None:
    methods = {"mine": 'algorithms = [{ name = "mine", does = "leaves" }]', "CE": ""}
    found = outcomes(harness.run(small(methods), tmp_path / "r", "inline"))
    assert [result["status"] for _, result in found.values()] == ["done", "done"]
    environment = read_json(found["mine"][0] / "environment.json")
    assert isinstance(environment, dict)
    (left,) = environment["left"]
    assert (left["what"], left["component"], left["hook"]) == ("torch's default dtype", "algorithms.mine", "setup")
    assert "left" not in (read_json(found["CE"][0] / "environment.json") or {})


def test_in_a_users_own_process_what_cannot_be_put_back_stops_the_run_with_a_line_and_kills_nothing(
    small: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.training.guard.ENDING_S", 0.05)
    suite = small({"mine": 'algorithms = [{ name = "mine", does = "thread" }]', "CE": ""})
    with pytest.raises(HarnessError) as raised:
        harness.run(suite, tmp_path / "r", "inline")
    (left,) = [thread for thread in threading.enumerate() if thread.name == "mine"]
    left._target.__self__.set()  # type: ignore[attr-defined]
    left.join()
    line = str(raised.value)
    assert "thread 'mine', changed or left behind by setup of algorithms.mine" in line
    assert "cannot be put back in this process, so the run stops here" in line
    assert make_plan(suite, tmp_path / "r").counts() == {**make_plan(suite, tmp_path / "r").counts(), "done": 1}
    plan = Orchestrator(suite, open_results(tmp_path / "r"), "inline").run()
    assert plan.counts()["done"] == 2, "the next run goes on"


@pytest.mark.parametrize("trials", ["[1]", "None", "'all'"])
def test_a_plan_that_a_hook_has_spoilt_is_put_back_with_a_note(
    trials: str, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    plugin = tmp_path / "planner.py"
    plugin.write_text(
        f"from harness import hookimpl\n@hookimpl\ndef harness_plan_modify(plan):\n    plan.trials = {trials}\n"
    )
    plan = make_plan(load_suite(write_suite(), plugins=[plugin]), tmp_path / "r")
    assert len(plan.trials) == 1 and not isinstance(plan.trials[0], int)
    (note,) = [note for note in plan.notes if "planner" in note]
    assert "harness_plan_modify raised TypeError: plan.trials" in note and "\n" not in note


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "GeneratorExit", "SystemExit"])
def test_on_the_command_line_what_a_plugin_raises_is_no_interrupt(
    raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    plugin = tmp_path / "leaving.py"
    plugin.write_text(f"raise {raised}\n")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["harness", "plugins", "--plugin", str(plugin)])
    before = signal.getsignal(signal.SIGINT)
    try:
        main()
    except SystemExit as ended:
        assert ended.code in (0, 1, None)
    finally:
        signal.signal(signal.SIGINT, before)
    output = capsys.readouterr()
    assert raised in output.out and "interrupted" not in output.err


class Odd(Exception):
    """An exception with words of any kind."""

    def __str__(self) -> Any:
        return self.args[0]


@pytest.mark.parametrize(
    "words, text",
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[31m \u202e \ud800 \x00", "\\x1b[31m \\u202e \\ud800 \\x00"),
        ("x" * (MOST_SAID + 7), "x" * MOST_SAID + " ... (7 more characters)"),
        (3, "(its message cannot be written: TypeError)"),
    ],
)
def test_what_an_exception_says_is_printable_and_has_a_limit(words: Any, text: str) -> None:
    assert said(Odd(words)) == text


def test_the_name_of_an_exception_is_printable_too() -> None:
    assert kind_of(type("Odd\x1b[31m", (Exception,), {})()) == "Odd\\x1b[31m"
