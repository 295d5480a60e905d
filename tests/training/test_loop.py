"""The loop trains what a bare loop trains, fires hooks in order, and goes on from a checkpoint as if nothing happened."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from harness.errors import HarnessError
from harness.plugins import load_host
from harness.results.records import claim, read_json, read_lines, submit_trials, trial_folder
from harness.suite.load import load_suite
from harness.training import seeds
from harness.training.evaluation import summarise
from harness.training.loop import Loop
from harness.training.prepare import prepare
from harness.training.trial import failure, run_trial
from harness.trial import Trial

pytestmark = pytest.mark.portable

Write = Callable[..., Path]


class Listening:
    """A journal that keeps what it is told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.asked = 0
        self.stop_after = stop_after

    def epoch(self, record: Any, timing: Any) -> None:
        self.records.append(dict(record))

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.state = state

    def should_stop(self) -> bool:
        self.asked += 1
        return self.stop_after is not None and self.asked >= self.stop_after


def one_trial(path: Path, *overrides: str) -> Trial:
    return next(iter(load_suite(path, overrides).entries())).trial


def test_plain_sgd_on_a_plain_loss_is_the_bare_loop(write_suite: Write) -> None:
    trial = one_trial(write_suite(setting="augment = {}", training="validation = 0.0\nschedule = 'cosine'"))
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    run = prepared.run
    inputs, targets = run.source.gather(torch.arange(run.num_samples)), run.targets

    torch.manual_seed(seeds.derive(0, "init"))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    means = []
    assert len(inputs) % 64 not in (0, 1)  # the last batch is a short one
    for epoch in (1, 2):
        order = torch.randperm(len(inputs), generator=seeds.torch_stream(0, "order", epoch))
        total = 0.0
        for index in order.split(64):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs[index]), targets[index], reduction="sum")
            (loss / 64).backward()
            optimizer.step()
            total += loss.item()
        means.append(total / len(inputs))
        schedule.step()

    history = Loop(run, prepared.evaluator, Listening()).fit()
    assert [epoch["train_loss"] for epoch in history] == pytest.approx(means, rel=1e-6)
    for ours, bare in zip(run.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, bare)


def test_a_short_last_batch_counts_less(write_suite: Write) -> None:
    trial = one_trial(write_suite(training="validation = 0.0"))
    run = prepare(trial, load_host(), torch.device("cpu")).run
    from harness.training.run import Step

    loop = Loop(run, prepare(trial, load_host(), torch.device("cpu")).evaluator, Listening())
    index = torch.arange(8)
    step = Step(index, run.source.gather(index), run.targets[index])
    loop.train_batch(step)
    assert step.loss is not None and step.losses is not None
    assert torch.isclose(step.loss, step.losses.sum() / 64)


class Recorder:
    """Notes every hook that fires."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def setup(self, run: Any) -> None:
        self.log.append(f"{self.name}.setup")

    def epoch_start(self, run: Any) -> None:
        self.log.append(f"{self.name}.epoch_start")

    def before_forward(self, run: Any, step: Any) -> None:
        self.log.append(f"{self.name}.before_forward")

    def after_forward(self, step: Any) -> None:
        self.log.append(f"{self.name}.after_forward")

    def after_losses(self, run: Any, step: Any) -> None:
        self.log.append(f"{self.name}.after_losses")

    def after_backward(self, run: Any, step: Any) -> None:
        self.log.append(f"{self.name}.after_backward")

    def after_step(self, run: Any, step: Any) -> None:
        self.log.append(f"{self.name}.after_step")

    def epoch_end(self, run: Any) -> None:
        self.log.append(f"{self.name}.epoch_end")

    def diagnostics(self, run: Any) -> dict[str, float]:
        self.log.append(f"{self.name}.diagnostics")
        return {f"{self.name}.x": 1.0}


def test_hooks_fire_in_the_stacks_order_and_stages(write_suite: Write) -> None:
    from harness.hookspecs import hookimpl
    from harness.training.stack import Stack

    log: list[str] = []

    class Late(Recorder):
        @hookimpl(trylast=True)
        def after_backward(self, run: Any, step: Any) -> None:
            super().after_backward(run, step)

    trial = one_trial(write_suite(training="validation = 0.0", epochs=1), "training.batch_size=2000")
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    run = prepared.run
    run.stack = Stack(run.stack.loss, [Late("late", log), Recorder("b", log)], ["late", "b"], "ce", False)
    assert run.stack.setup is not None
    run.stack.setup(run=run)
    history = Loop(run, prepared.evaluator, Listening()).fit()
    hooks = ["setup", "epoch_start", "before_forward", "after_forward", "after_losses", "after_backward", "after_step",
             "epoch_end", "diagnostics"]  # fmt: skip
    expected = [f"{name}.{hook}" for hook in hooks for name in ("late", "b")]
    position = expected.index("late.after_backward")
    expected[position : position + 2] = ["b.after_backward", "late.after_backward"]
    assert log == expected
    assert history[0]["diagnostics"] == {"late.x": 1.0, "b.x": 1.0}


def test_hooks_that_nobody_implements_cost_nothing(write_suite: Write) -> None:
    run = prepare(one_trial(write_suite()), load_host(), torch.device("cpu")).run
    assert run.stack.before_forward is None and run.stack.train_step is None and run.stack.after_backward is None


STACKS = {
    "CE": "",
    "SOP": 'algorithms = ["sop"]',
    "CDR+AUX+ELR": 'algorithms = ["cdr", { name = "aux", lam = 4.0 }, "elr"]',
    "A-RRM": 'algorithms = [{ name = "rrm", every = 1 }, { name = "fgsm", epsilon = 0.05 }]\nloss = "sce"',
    "KPD": 'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { name = "adam", lr = 0.005 }',
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("stop_after", [3, 22, 44])
def test_an_interrupted_trial_ends_as_an_undisturbed_one(
    write_suite: Write, tmp_path: Path, name: str, stop_after: int
) -> None:
    method = f'[[method]]\nname = "m"\n{STACKS[name]}'
    path = write_suite(
        epochs=3, methods=method, training="clip = 5.0\nschedule = { name = 'step', milestones = [1] }",
        evaluation="fgsm = [0.0, 0.1]", setting="augment = { crop = 1, flip = true, cutout = 2 }",
    )  # fmt: skip
    host = load_host()
    trial = one_trial(path)
    outcomes = []
    for folder, stops in ((tmp_path / "whole", False), (tmp_path / "broken", True)):
        submit_trials(folder, [trial])
        if stops:
            count = itertools.count(1)
            attempt = claim(folder, trial.id)
            assert attempt is not None
            assert run_trial(trial, attempt, host, should_stop=lambda count=count: next(count) >= stop_after) is None
            assert (attempt.path / "checkpoint.pt").exists()
        attempt = claim(folder, trial.id)
        assert attempt is not None
        result = run_trial(trial, attempt, host)
        assert result is not None and result["status"] == "done", result
        assert not (attempt.path / "checkpoint.pt").exists()
        outcomes.append((read_lines(attempt.path / "epochs.jsonl"), read_json(attempt.path / "result.json")))
    assert outcomes[0] == outcomes[1]


def interrupt(folder: Path, trial: Trial, host: Any, stop_after: int) -> Path:
    """The folder of an attempt that was stopped at a batch boundary."""
    submit_trials(folder, [trial])
    count = itertools.count(1)
    attempt = claim(folder, trial.id)
    assert attempt is not None
    assert run_trial(trial, attempt, host, should_stop=lambda: next(count) >= stop_after) is None
    return attempt.path


def finish(folder: Path, trial: Trial, host: Any) -> tuple[Path, list[Any], Any]:
    """Claim a trial and run it to its end: the attempt, its epochs and its result."""
    submit_trials(folder, [trial])
    attempt = claim(folder, trial.id)
    assert attempt is not None
    result = run_trial(trial, attempt, host)
    assert result is not None and result["status"] == "done", result
    return attempt.path, read_lines(attempt.path / "epochs.jsonl"), read_json(attempt.path / "result.json")


def test_a_trial_whose_source_was_edited_meanwhile_starts_over(write_suite: Write, tmp_path: Path) -> None:
    plugin, path = tmp_path / "mine.py", write_suite(epochs=3, methods='[[method]]\nname = "m"\nloss = "mine"')

    def at(factor: float) -> tuple[Trial, Any]:
        plugin.write_text(
            "import harness, torch\nclass Mine:\n    'A loss.'\n    def __call__(self, outputs, targets, index):\n"
            f"        return {factor} * torch.nn.functional.cross_entropy(outputs, targets, reduction='none')\n"
            "@harness.hookimpl\ndef harness_register_losses(register):\n    register('mine', Mine)\n"
        )
        suite = load_suite(path, plugins=[plugin])
        return next(iter(suite.entries())).trial, suite.host

    interrupt(tmp_path / "broken", *at(1.0), 44)
    edited = at(-0.001)
    last, epochs, result = finish(tmp_path / "broken", *edited)
    assert "mine; the trial starts over" in (last / "log.txt").read_text()
    assert "resumed_from" not in read_json(last / "environment.json")
    assert (epochs, result) == finish(tmp_path / "whole", *edited)[1:]


def test_a_trial_that_an_earlier_harness_began_goes_on_while_its_source_is_the_same(
    write_suite: Write, tmp_path: Path
) -> None:
    suite = load_suite(write_suite(epochs=3))
    trial = next(iter(suite.entries())).trial
    begun = interrupt(tmp_path, trial, suite.host, 44)
    words = read_json(begun / "trial.json")
    component, _ = suite.host.registry.find("loss", "ce")
    words["options"]["digests"]["loss:ce"] = component.content_digest()  # as they once were
    (begun / "trial.json").write_text(json.dumps(words))
    last, _, _ = finish(tmp_path, trial, suite.host)
    assert read_json(last / "environment.json")["resumed_from"]["attempt"] == begun.name


ASCENT = """
import harness, torch
class Mine:
    'Cross entropy that goes up in the last epochs, so that the best one is early.'
    def __init__(self):
        self.sign = 1.0
    def __call__(self, outputs, targets, index):
        return self.sign * torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    def epoch_start(self, run):
        self.sign = 1.0 if run.epoch < 3 else -0.02
    def state_dict(self):
        return {"sign": self.sign}
    def load_state_dict(self, state):
        self.sign = state["sign"]
@harness.hookimpl
def harness_register_losses(register):
    register("mine", Mine)
"""


def test_epsilons_added_before_a_resume_are_measured_as_if_asked_for_at_once(
    write_suite: Write, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(ASCENT)
    path = write_suite(epochs=4, methods='[[method]]\nname = "m"\nloss = "mine"', training="validation = 0.2")
    suite = load_suite(path, plugins=[plugin])
    plain = next(iter(suite.entries())).trial
    asked = next(iter(load_suite(path, ["evaluation.fgsm=[0.1]"], plugins=[plugin]).entries())).trial
    assert asked.id == plain.id
    interrupt(tmp_path / "broken", plain, suite.host, 60)
    last, epochs, result = finish(tmp_path / "broken", asked, suite.host)
    assert (epochs, result) == finish(tmp_path / "whole", asked, suite.host)[1:]
    assert result["selected_epoch"] < 3
    assert "kept no state of its selected epoch" in (last / "log.txt").read_text()
    interrupt(tmp_path / "dropped", asked, suite.host, 60)
    last, epochs, _ = finish(tmp_path / "dropped", plain, suite.host)
    assert epochs == finish(tmp_path / "whole plain", plain, suite.host)[1]
    assert "resumed_from" in read_json(last / "environment.json"), (
        "what is asked for no more is no reason to start over"
    )


REFURBISH = """
import harness
class Mine:
    'Trains on its own predictions from the second epoch on.'
    def epoch_start(self, run):
        if run.epoch == 2:
            run.targets = (run.targets + 1) % 10
@harness.hookimpl
def harness_register_algorithms(register):
    register("mine", Mine)
"""


def test_refurbished_labels_are_in_the_checkpoint_and_not_in_the_metrics(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    method = '[[method]]\nname = "m"\nalgorithms = ["mine"]'
    trials = {}
    for how, line in (("anew", "run.targets = "), ("in place", "run.targets[:] = ")):
        plugin.write_text(REFURBISH.replace("run.targets = ", line))
        suite = load_suite(write_suite(epochs=3, methods=method), plugins=[plugin])
        trial = next(iter(suite.entries())).trial
        trials[how] = finish(tmp_path / how, trial, suite.host)[1:]
        interrupt(tmp_path / f"{how}, broken", trial, suite.host, 44)
        last, *found = finish(tmp_path / f"{how}, broken", trial, suite.host)
        assert "resumed_from" in read_json(last / "environment.json")
        assert tuple(found) == trials[how]
    assert trials["anew"] == trials["in place"]
    assert 0.3 < trials["anew"][1]["corrupted"] < 0.5
    transitions = torch.tensor(trials["anew"][1]["transitions"])
    assert float(transitions.diagonal().sum() / transitions.sum()) > 0.5, "labels as given, not as refurbished"
    assert trials["anew"][0][-1]["train_accuracy"] < 0.2


STREAMING = """
import harness, torch
class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images
    def __len__(self):
        return len(self.images)
    def __getitem__(self, position):
        return self.images[position]
def streamed():
    'Digits.'
    digits = harness.create("dataset", "digits")
    parts = ((part.inputs[:320], part.targets[:320]) for part in (digits.train, digits.test))
    return harness.DataSplits(*(harness.LabelledData(Images(inputs), targets, 10) for inputs, targets in parts))
def dropping(input_shape, num_outputs: int = 0):
    'A network with dropout.'
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Dropout(0.5), torch.nn.Linear(32, 10))
@harness.hookimpl
def harness_register_datasets(register):
    register("streamed", streamed)
@harness.hookimpl
def harness_register_models(register):
    register("dropping", dropping)
"""


def test_a_streaming_trial_with_dropout_resumes_in_mid_epoch(write_suite: Write, tmp_path: Path) -> None:
    plugin, path = tmp_path / "mine.py", write_suite()
    plugin.write_text(STREAMING)
    words = path.read_text().replace('"digits"', '"streamed"').replace('{ name = "mlp", hidden = [32] }', '"dropping"')
    path.write_text(words)
    suite = load_suite(path, plugins=[plugin])
    trial = next(iter(suite.entries())).trial
    interrupt(tmp_path / "broken", trial, suite.host, 3)
    found = finish(tmp_path / "broken", trial, suite.host)[1:]
    assert found == finish(tmp_path / "whole", trial, suite.host)[1:]


def test_methods_with_one_seed_face_the_same_labels_and_another_seed_other_ones(
    write_suite: Write, tmp_path: Path
) -> None:
    path = write_suite(
        epochs=1, methods='[[method]]\nname = "a"\n[[method]]\nname = "b"\nloss = "gce"\nbatch_size = 32'
    )
    digests: dict[tuple[str, int], str] = {}
    for entry in load_suite(path, ["suite.seeds=[0, 1]"]).entries():
        digests[entry.method, entry.seed] = prepare(entry.trial, load_host(), torch.device("cpu")).label_digest
    assert digests["a", 0] == digests["b", 0] != digests["a", 1] == digests["b", 1]


def test_a_failing_trial_records_its_traceback(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "from harness import hookimpl\n"
        "class Broken:\n    'Raises.'\n    def after_losses(self, run, step):\n        raise ArithmeticError('on purpose')\n"
        "@hookimpl\ndef harness_register_algorithms(register):\n    register('broken', Broken)\n"
    )
    path = write_suite(methods='[[method]]\nname = "m"\nalgorithms = ["broken"]')
    suite = load_suite(path, plugins=[plugin])
    (entry,) = suite.entries()
    submit_trials(tmp_path / "r", [entry.trial])
    attempt = claim(tmp_path / "r", entry.trial.id)
    assert attempt is not None
    result = run_trial(entry.trial, attempt, suite.host)
    assert result is not None and result["status"] == "failed"
    assert result["error"]["type"] == "ArithmeticError" and "on purpose" in result["error"]["traceback"]
    assert "on purpose" in (attempt.path / "log.txt").read_text()
    assert claim(tmp_path / "r", entry.trial.id) is None, "an exception is final until it is retried"
    assert trial_folder(tmp_path / "r", entry.trial.id).is_dir()


def test_an_error_that_is_no_proper_text_is_recorded_as_one(write_suite: Write) -> None:
    words = failure(ValueError("half a pair: \ud800"), "in \udfff")["error"]
    assert words == {"type": "ValueError", "message": "half a pair: \\ud800", "traceback": "in \\udfff"}


def test_records_hold_no_times_where_they_must_be_reproducible(write_suite: Write, tmp_path: Path) -> None:
    trial = one_trial(write_suite())
    submit_trials(tmp_path, [trial])
    attempt = claim(tmp_path, trial.id)
    assert attempt is not None
    run_trial(trial, attempt, load_host())
    text = json.dumps([read_lines(attempt.path / "epochs.jsonl"), read_json(attempt.path / "result.json")])
    assert "seconds" not in text and "memory" not in text
    assert {"train_seconds", "evaluation_seconds", "peak_memory"} <= set(read_lines(attempt.path / "timing.jsonl")[0])
    assert {"host", "versions", "device", "threads"} <= set(read_json(attempt.path / "environment.json"))


def test_summaries_name_each_metric_for_what_it_is() -> None:
    curve = [0.5, 0.9, 0.8, 0.6]
    validation = [0.4, 0.5, 0.7, 0.7]
    history = [{"test_accuracy": a, "validation_accuracy": v} for a, v in zip(curve, validation, strict=True)]
    metrics, selected = summarise(history, "classification")
    assert selected == 3, "the first of equals"
    assert metrics["accuracy"] == {
        "last": 0.6, "last10": pytest.approx(np.mean(curve)), "selected": 0.8, "best": 0.9, "best_minus_last": pytest.approx(0.3),
    }  # fmt: skip
    assert summarise([{"test_accuracy": 0.5}], "classification")[0]["accuracy"]["selected"] is None
    regression, selected = summarise(
        [{"mae": m, "rmse": m, "validation_loss": v} for m, v in ((2.0, 1.0), (1.0, 3.0))], "regression"
    )
    assert selected == 1 and regression["mae"]["best"] == 1.0 and regression["mae"]["selected"] == 2.0


@pytest.mark.parametrize(("last_batch", "divisor", "steps"), [("scaled", 64, 4), ("mean", 8, 4), ("drop", None, 3)])
def test_a_short_last_batch_is_scaled_taken_by_its_mean_or_left_out(
    write_suite: Write, last_batch: str, divisor: int | None, steps: int
) -> None:
    """200 samples in batches of 64 leave one of 8."""
    trial = one_trial(
        write_suite(training=f'validation = 0.0\nlast_batch = "{last_batch}"', setting="subset = 200", epochs=1)
    )
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    seen: list[Any] = []

    class Watching(Loop):
        def train(self, step: Any) -> None:
            super().train(step)
            seen.append(step)

    (record,) = Watching(prepared.run, prepared.evaluator, Listening()).fit()
    assert len(seen) == steps and [step.divisor for step in seen[:3]] == [64] * 3
    sums = [float(step.losses.detach().sum()) for step in seen]
    if divisor is not None:
        assert seen[-1].divisor == divisor
        assert float(seen[-1].loss.detach()) == pytest.approx(sums[-1] / divisor, rel=1e-6)
    assert record["train_loss"] == pytest.approx(sum(sums) / sum(len(step.index) for step in seen), rel=1e-6)


def test_the_only_batch_is_not_dropped_in_silence(write_suite: Write) -> None:
    trial = one_trial(write_suite(training='validation = 0.0\nlast_batch = "drop"', setting="subset = 50"))
    with pytest.raises(HarnessError, match="only batch is a short one of 50 samples"):
        prepare(trial, load_host(), torch.device("cpu"))


@pytest.mark.parametrize(
    "method",
    [
        'algorithms = ["sop", "elr"]', 'algorithms = ["cores2"]', 'algorithms = ["co_teaching"]', 'loss = "aldr_kl"',
        'algorithms = ["cdr", "aux", { name = "rrm", every = 1 }, "fgsm"]', 'algorithms = ["mixup"]',
        'algorithms = ["forward"]', 'algorithms = ["backward"]', 'algorithms = ["sop_plus"]',
        'loss = { name = "truncated_gce", start_epoch = 1, every = 1 }',
    ],
)  # fmt: skip
def test_in_double_precision_every_part_of_a_trial_is_in_it(write_suite: Write, method: str) -> None:
    methods = f'[[method]]\nname = "tried"\n{method}'
    trial = one_trial(write_suite(training='precision = "float64"', setting="subset = 150", methods=methods))
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    Loop(prepared.run, prepared.evaluator, Listening()).fit()
    state = prepared.run.state_dict()

    def types(value: Any, path: str) -> dict[str, torch.dtype]:
        if isinstance(value, torch.Tensor):
            return {path: value.dtype} if value.is_floating_point() else {}
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {key: dtype for name, item in items for key, dtype in types(item, f"{path}.{name}").items()}

    found = {key: dtype for part in state for key, dtype in types(state[part], part).items()}
    assert found and [key for key, dtype in found.items() if dtype != torch.float64] == []
