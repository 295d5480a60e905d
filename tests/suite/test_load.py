"""A suite file becomes settings, methods and trials; what is wrong with it is told with file, key and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import HarnessError
from harness.results.records import forgive
from harness.suite.load import load_suite
from harness.suite.plan import make_plan
from harness.trial import Trial

pytestmark = pytest.mark.portable

Write = Callable[..., Path]


def ids(suite_path: Path, *overrides: str) -> dict[tuple[str, str, int], str]:
    suite = load_suite(suite_path, overrides)
    return {(e.method, e.setting, e.seed): e.trial.id for e in suite.entries()}


def test_lists_in_a_setting_expand_to_their_product(write_suite: Write) -> None:
    path = write_suite(noise='[{ name = "symmetric", rate = [0.2, 0.4] }, { name = "pairflip", rate = 0.4 }, "none"]')
    names = [setting.name for setting in load_suite(path).settings]
    assert names == [
        f"digits / mlp 32 / {noise}" for noise in ("symmetric 0.2", "symmetric 0.4", "pairflip 0.4", "none")
    ]


def test_a_list_parameter_is_a_value_and_a_list_of_lists_an_axis(write_suite: Write) -> None:
    path = write_suite()
    text = path.read_text().replace("hidden = [32]", "hidden = [[32], [64, 32]]")
    path.write_text(text)
    assert [setting.model.params["hidden"] for setting in load_suite(path).settings] == [[32], [64, 32]]


def test_exclude_takes_combinations_out(write_suite: Write) -> None:
    path = write_suite(
        noise='[{ name = "symmetric", rate = [0.2, 0.4] }, { name = "pairflip", rate = [0.2, 0.4] }]',
        setting='exclude = ["noise=pairflip,noise.rate=0.4"]',
    )
    assert len(load_suite(path).settings) == 3


def test_a_suite_excludes_methods_on_settings(write_suite: Write) -> None:
    path = write_suite(
        suite='exclude = [{ method = "GCE", "noise.rate" = 0.2 }]',
        noise='{ name = "symmetric", rate = [0.2, 0.4] }',
        methods='[[method]]\nname = "CE"\n[[method]]\nname = "GCE"\nloss = "gce"',
    )
    assert {(e.method, e.trial.identity["noise"]["params"]["rate"]) for e in load_suite(path).entries()} == {
        ("CE", 0.2),
        ("CE", 0.4),
        ("GCE", 0.4),
    }


def test_defaults_are_in_the_identity_so_that_writing_them_changes_nothing(write_suite: Write) -> None:
    short = ids(write_suite("a.toml", methods='[[method]]\nname = "G"\nloss = "gce"'))
    long = ids(
        write_suite("b.toml", methods='[[method]]\nname = "G"\nloss = { q = 0.7, name = "gce" }\ntransforms = []')
    )
    assert short == long


@pytest.mark.parametrize(
    "override",
    [
        "execution.threads=2", "execution.keep=true", "execution.checkpoint_epochs=1", "execution.device='cpu'",
        "execution.compile=true", "execution.channels_last=true", "evaluation.fgsm=[0.0, 0.5]", "suite.name='other'",
    ],
)  # fmt: skip
def test_what_cannot_change_a_result_is_not_in_the_id(write_suite: Write, override: str) -> None:
    path = write_suite()
    assert set(ids(path).values()) == set(ids(path, override).values())


@pytest.mark.parametrize(
    "override",
    ["training.epochs=3", "training.batch_size=32", "training.validation=0.2", "training.precision='bfloat16'",
     "training.optimizer.lr=0.2", "evaluation.train_every=2", "training.clip=1.0", "suite.seeds=[7]"],
)  # fmt: skip
def test_what_determines_a_result_is_in_the_id(write_suite: Write, override: str) -> None:
    path = write_suite()
    assert not set(ids(path).values()) & set(ids(path, override).values())


def test_a_display_name_is_not_in_the_id(write_suite: Write) -> None:
    first = ids(write_suite("a.toml", methods='[[method]]\nname = "CE"'))
    second = ids(write_suite("b.toml", methods='[[method]]\nname = "cross entropy"'))
    assert list(first.values()) == list(second.values())


def test_noise_rate_is_resolved_per_setting_and_marks_the_method_an_oracle(write_suite: Write) -> None:
    path = write_suite(
        noise='[{ name = "symmetric", rate = [0.2, 0.4] }, "none"]',
        methods='[[method]]\nname = "CDR"\nalgorithms = [{ name = "cdr", tau = "noise.rate" }]\n'
        '[[method]]\nname = "by default"\nalgorithms = ["cdr"]\n'
        '[[method]]\nname = "given"\nalgorithms = [{ name = "cdr", tau = 0.4 }]',
    )
    entries = list(load_suite(path).entries())
    taus = {(e.method, e.setting.split()[-1]): e.trial.identity["algorithms"][0]["params"]["tau"] for e in entries}
    assert taus["CDR", "0.2"] == 0.2 and taus["CDR", "0.4"] == 0.4 and taus["CDR", "none"] == 0.0
    assert {e.method: e.oracle for e in entries} == {"CDR": True, "by default": True, "given": False}
    by_name = {(e.method, e.setting): e.trial.id for e in entries}
    setting = next(e.setting for e in entries if e.setting.endswith("0.4"))
    assert by_name["CDR", setting] == by_name["given", setting] == by_name["by default", setting]


def test_a_selection_by_a_key_that_only_other_settings_have_does_not_hold_here(write_suite: Write) -> None:
    path = write_suite(
        noise='["none", { name = "symmetric", rate = [0.2, 0.4] }]',
        suite='exclude = [{ method = "GCE", "noise.rate" = 0.2 }]',
        setting='exclude = ["noise.rate=0.4"]',
        methods='[[method]]\nname = "CE"\n[[method.when]]\nselect = "noise.rate=0.2"\nepochs = 4\n'
        '[[method]]\nname = "GCE"\nloss = "gce"\n',
    )
    suite = load_suite(path)
    found = {(e.method, e.setting): e.trial.identity["training"]["epochs"] for e in suite.entries()}
    none, symmetric = "digits / mlp 32 / none", "digits / mlp 32 / symmetric 0.2"
    assert found == {("CE", none): 2, ("GCE", none): 2, ("CE", symmetric): 4}
    path.write_text(path.read_text().replace('select = "noise.rate', 'select = "noise.rat'))
    with pytest.raises(HarnessError, match="did you mean 'noise\\.rate'"):
        load_suite(path)


def test_a_parameter_that_another_makes_meaningless_is_no_reference(write_suite: Write) -> None:
    written = 'loss = "ce"\nalgorithms = [{ name = "rrm", gamma = 0.4%s }]'
    path = write_suite(
        methods="".join(
            f'[[method]]\nname = "{name}"\n{written % more}\n'
            for name, more in (("own", ""), ("both", ', contamination = "noise.rate"'))
        )
    )
    suite = load_suite(path)
    own, both = suite.entries()
    assert own.trial.identity["algorithms"][0]["params"]["contamination"] == 0.0 and not own.oracle
    assert both.trial.identity["algorithms"][0]["params"]["contamination"] == 0.4 and both.oracle
    assert suite.host.registry.validate("algorithm", "rrm", {"gamma": 0.4})["contamination"] == 0.0
    assert suite.host.registry.create("algorithm", "rrm", {"gamma": 0.4}).contamination == 0.0


def test_when_overrides_a_method_where_a_selection_holds(write_suite: Write) -> None:
    path = write_suite(
        noise='[{ name = "symmetric", rate = 0.4 }, { name = "pairflip", rate = 0.4 }]',
        methods='[[method]]\nname = "SOP"\nalgorithms = ["sop"]\nepochs = 3\n'
        '[[method.when]]\nselect = "noise.name=pairflip"\nalgorithms = [{ name = "sop", lr_v = 100.0 }]\nepochs = 4',
    )
    by_noise = {e.trial.identity["noise"]["name"]: e.trial.identity for e in load_suite(path).entries()}
    assert by_noise["symmetric"]["algorithms"][0]["params"]["lr_v"] == 10.0
    assert by_noise["pairflip"]["algorithms"][0]["params"]["lr_v"] == 100.0
    assert (by_noise["symmetric"]["training"]["epochs"], by_noise["pairflip"]["training"]["epochs"]) == (3, 4)


def test_an_optimizer_without_a_name_is_merged_and_one_with_a_name_replaces(write_suite: Write) -> None:
    path = write_suite(
        methods='[[method]]\nname = "merged"\noptimizer = { lr = 0.01 }\n'
        '[[method]]\nname = "replaced"\noptimizer = { name = "sgd", lr = 0.01 }'
    )
    found = {e.method: e.trial.identity["training"]["optimizer"] for e in load_suite(path).entries()}
    assert found["merged"]["momentum"] == 0.9
    assert found["replaced"]["momentum"] == 0.0
    assert found["merged"]["lr"] == found["replaced"]["lr"] == 0.01


def test_set_holds_against_settings_and_methods(write_suite: Write) -> None:
    path = write_suite(setting="training = { epochs = 5 }", methods='[[method]]\nname = "CE"\nepochs = 7')
    assert {e.trial.identity["training"]["epochs"] for e in load_suite(path, ["training.epochs=1"]).entries()} == {1}


def test_seeds_are_outermost_so_that_a_partial_board_is_useful(write_suite: Write) -> None:
    path = write_suite(methods='[[method]]\nname = "CE"\n[[method]]\nname = "GCE"\nloss = "gce"')
    assert [e.seed for e in load_suite(path, ["suite.seeds=[0, 1]"]).entries()] == [0, 0, 1, 1]


def test_a_trial_survives_json(write_suite: Write) -> None:
    from harness.trial import Trial

    for entry in load_suite(write_suite()).entries():
        assert Trial.from_json(json.loads(json.dumps(entry.trial.to_json()))).id == entry.trial.id


def test_a_search_tries_candidates_on_tuning_seeds_only(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite(
        suite="tuning_seeds = [100, 101]",
        methods='[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [0.01, 0.1], "loss.scale" = [1.0] }\nloss = "mae"',
    )
    plan = make_plan(load_suite(path), tmp_path / "results")
    assert len(plan.trials) == 4 and plan.waiting == 1
    assert {p.entry.seed for p in plan.trials} == {100, 101} and all(p.entry.tuning for p in plan.trials)


def test_a_search_that_is_over_without_a_choice_is_told(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite(
        suite="tuning_seeds = [100]", training="validation = 1e-5",  # a share of no sample
        methods='[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [0.01, 0.1] }',
    )  # fmt: skip
    plan = harness.run(load_suite(path), tmp_path / "results")
    assert plan.counts()["done"] == len(plan.trials) == 2 and plan.waiting == 0 and not plan.chosen
    (note,) = plan.notes
    assert "the search of CE | digits / mlp 32 / symmetric 0.4 chose nothing" in note


FRAGILE = """
import os, harness
from torch.nn import functional as F
class S:
    "A loss that fails while it is told to."
    def __init__(self, a: float = 1.0): self.a = a
    def __call__(self, outputs, targets, index):
        if self.a > 0.5 and os.environ.get("BREAK"):
            raise RuntimeError("no space left")
        return self.a * F.cross_entropy(outputs, targets, reduction="none")
@harness.hookimpl
def harness_register_losses(register): register("s", S)
"""


def test_a_search_of_which_a_candidate_failed_says_so_and_waits_for_its_retry(
    write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    path = write_suite(
        suite='tuning_seeds = [100]\nplugins = ["fragile.py"]', epochs=1, setting="subset = 64",
        training="validation = 0.3",
        methods='[[method]]\nname = "S"\nloss = "s"\nsearch = { "loss.a" = [0.001, 1.0] }',
    )  # fmt: skip
    suite, results = load_suite(path), tmp_path / "results"
    monkeypatch.setenv("BREAK", "1")
    plan = harness.run(suite, results)
    (note,) = plan.notes
    assert "the search of S | digits / mlp 32 / symmetric 0.4 chose among 1 of 2 candidates: the others failed" in note
    assert plan.manifest()["tries"] == {"S": 1} and plan.counts()["failed"] == 1
    forgive(results, plan.select("failed")[0].id)
    again = make_plan(suite, results)
    assert (again.waiting, again.counts()["missing"], again.chosen, again.notes) == (1, 1, {}, [])
    monkeypatch.delenv("BREAK")
    plan = harness.run(suite, results)
    assert plan.manifest()["tries"] == {"S": 2} and not plan.notes and len(plan.select("done")) == 3


def test_quick_scale_shrinks_and_says_so(write_suite: Write) -> None:
    suite = load_suite(write_suite(epochs=20), scale="quick")
    (entry,) = suite.entries()
    assert entry.trial.identity["training"]["epochs"] == 2 and entry.trial.identity["subset"] == 2000
    assert not suite.comparable


FREE = """
import harness
class Free:
    "A loss with free options."
    def __init__(self, **options): ...
    def __call__(self, outputs, targets, index): ...
@harness.hookimpl
def harness_register_losses(register): register("free", Free)
"""
BAD = {
    "unknown table": (dict(tables="[trainings]\nepochs = 1"), "unknown table 'trainings'", "did you mean 'training'"),
    "unknown key": (dict(training="epoch = 3"), "training", "did you mean 'epochs'"),
    "unknown component": (dict(methods='[[method]]\nname = "a"\nloss = "gcee"'), "method[0] (a).loss", "did you mean 'gce'"),
    "unknown parameter": (
        dict(methods='[[method]]\nname = "a"\nloss = { name = "gce", qq = 1 }'),
        "losses.gce: unknown parameter 'qq'", "did you mean 'q'",
    ),
    "rate outside [0, 1]": (dict(noise='{ name = "symmetric", rate = 1.4 }'), "setting[0].noise", "less than or equal to 1"),
    "wrong type": (dict(noise='{ name = "symmetric", rate = "0.4" }'), "noise.symmetric.rate", "valid number"),
    "zero epochs": (dict(epochs=0), "training.epochs", "greater than or equal to 1"),
    "a loss for another task": (dict(methods='[[method]]\nname = "a"\nloss = "huber"'), "method[0] (a)", "is for regression"),
    "RRM over a batch loss": (
        dict(methods='[[method]]\nname = "a"\nloss = "dmi"\nalgorithms = ["rrm"]'), "method[0] (a)", "exists per batch only",
    ),
    "SOP on another loss": (
        dict(methods='[[method]]\nname = "a"\nloss = "gce"\nalgorithms = ["sop"]'), "method[0] (a)", "use loss = 'ce'",
    ),
    "no methods": (dict(methods=""), "there is no [[method]]", "add at least one"),
    "empty noise list": (dict(noise="[]"), "setting[0].noise", "the list is empty"),
    "everything excluded": (dict(setting='exclude = ["dataset=digits"]'), "setting[0].exclude", "every combination"),
    "duplicate method names": (dict(methods='[[method]]\nname = "a"\n[[method]]\nname = "a"'), "method[1] (a)", "'a'"),
    "a method that overrides validation": (
        dict(methods='[[method]]\nname = "a"\nvalidation = 0.5'), "method[0] (a)", "may not set 'validation'",
    ),
    "a seed beyond 63 bits": (dict(suite="tuning_seeds = [9223372036854775808]"), "suite.tuning_seeds", "beyond 64 bits"),
    "a duplicate seed": (dict(suite="tuning_seeds = [0]"), "suite.tuning_seeds", "comparison seed"),
    "a misspelt optimizer": (dict(training='schedule = "cosin"'), "training.schedule", "did you mean 'cosine'"),
    "a selection that cannot be read": (
        dict(methods='[[method]]\nname = "a"\n[[method.when]]\nselect = "noise"'), "when[0].select", "write key=value",
    ),
    "an empty list in a setting's training": (
        dict(setting="training = { epochs = [] }"), "setting[0].training.epochs", "the list is empty",
    ),
    "an empty list of subsets": (dict(setting="subset = []"), "setting[0].subset", "the list is empty"),
    "an option that is no number": (
        dict(methods='[[method]]\nname = "a"\noptimizer = { name = "timm:lamb", lr = 0.1, weight_decay = nan }'),
        "method[0] (a).optimizer.weight_decay", "should be a finite number, got nan",
    ),
    "a date among a setting's options": (
        dict(setting='training = { optimizer = { name = "timm:lamb", lr = 0.1, betas = [0.9, 2020-01-01] } }'),
        "setting[0].training.optimizer.betas.1", "got '2020-01-01'",
    ),
    "a date among a searched loss's options": (
        dict(
            suite='tuning_seeds = [9]\nplugins = ["free.py"]',
            methods='[[method]]\nname = "a"\nloss = "free"\nsearch = { "loss.x" = [1, 2020-01-01] }',
        ),
        "method[0] (a).loss: losses.free.x", "got '2020-01-01'",
    ),
    "nesterov without momentum": (
        dict(methods='[[method]]\nname = "a"\noptimizer = { nesterov = true, momentum = 0.0 }'),
        "method[0] (a).optimizer.nesterov", "set momentum",
    ),
    "nesterov with dampening": (
        dict(setting="training = { optimizer = { nesterov = true, dampening = 0.1 } }"),
        "setting[0].training.optimizer.nesterov", "no dampening",
    ),
    "a search without seeds": (dict(methods='[[method]]\nname = "a"\nsearch = { epochs = [1] }'), "search", "tuning_seeds"),
    "a search without validation": (
        dict(
            suite="tuning_seeds = [9]", training="validation = 0.0",
            methods='[[method]]\nname = "a"\nsearch = { epochs = [1, 2] }',
        ),
        "method[0] (a).search", "set validation above 0",
    ),
    "an executor's key": (dict(tables="[local]\nworker = 2"), "local", "did you mean 'workers'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_file_key_and_remedy_in_one_line(write_suite: Write, tmp_path: Path, name: str) -> None:
    parts, where, words = BAD[name]
    (tmp_path / "free.py").write_text(FREE)
    with pytest.raises(HarnessError) as caught:
        load_suite(write_suite(**parts))
    line = str(caught.value)
    assert line.startswith("suite.toml") and where in line and words in line and "\n" not in line


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[suite\nname = 1", "line 1"), (b"\xff\xfe\x00", "not text"), (b"", "[suite] is missing"),
     (b"[suite]\nname = 'a'\nseeds = []\n[[setting]]\ndataset = 'digits'\nmodel = 'mlp'\n[[method]]\nname = 'b'", "suite.seeds: the list is empty; name at least one"),
     (b"[suite]\nseeds = [0]\nname = '" + b"a" * 256 + b"'\n[[setting]]\ndataset = 'digits'\n[[method]]\nname = 'b'", "suite.name: .*at most 100 characters")],
)  # fmt: skip
def test_files_that_are_no_suites(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "suite.toml"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=words.replace("[", r"\[").replace("]", r"\]")):
        load_suite(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no such suite file"):
        load_suite(tmp_path / "absent.toml")


def test_a_reference_needs_a_rate(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "from harness import hookimpl\n"
        "class Odd:\n    'Odd noise.'\n    def __call__(self, data, *, rng):\n        return data.targets\n"
        "@hookimpl\ndef harness_register_noise(register):\n    register('odd', Odd)\n"
    )
    path = write_suite(noise='"odd"', methods='[[method]]\nname = "CDR"\nalgorithms = ["cdr"]')
    with pytest.raises(HarnessError, match="has no rate to refer to; give tau a number"):
        load_suite(path, plugins=[plugin])


def test_a_plan_says_how_its_suite_is_loaded_again(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite()
    manifest = make_plan(load_suite(path, ["training.epochs=1"], scale="quick"), tmp_path / "r").manifest()
    assert manifest["arguments"] == ["suite.toml", "--scale", "quick", "--set", "training.epochs=1"]
    assert load_suite("suite:kpd/table1").arguments == ("suite:kpd/table1",)


def test_an_option_at_its_default_leaves_the_id_as_it_was(write_suite: Callable[..., Path]) -> None:
    def trial(**parts: str) -> Trial:
        return next(iter(load_suite(write_suite(**parts)).entries())).trial

    plain = trial()
    assert set(plain.identity["training"]) == {
        *("epochs", "batch_size", "optimizer", "schedule", "clip", "validation", "precision"),
    }
    assert set(plain.identity["evaluation"]) == {"train_every"} and "replay" not in plain.identity
    assert trial(training='last_batch = "scaled"', evaluation="initial = false").id == plain.id
    instance = trial(noise='{ name = "instance", rate = 0.4 }')
    assert instance.identity["noise"]["params"] == {"rate": 0.4, "std": 0.1}
    forward = '[[method]]\nname = "F"\nalgorithms = [{ name = "forward", matrix = "estimated"%s }]'
    assert trial(methods=forward % "").id == trial(methods=forward % ", restart = false").id
    changed = [
        trial(training='last_batch = "mean"'),
        trial(evaluation="initial = true"),
        trial(setting="mean = 0.5\nstd = 0.25"),
        trial(training='precision = "float64"'),
        trial(methods=forward % ", restart = true"),
    ]
    assert len({plain.id, *(each.id for each in changed)}) == len(changed) + 1


def test_cutout_fills_the_mean_and_the_id_says_so(write_suite: Callable[..., Path]) -> None:
    """Results from when the square was black must not stand as equal."""

    def augment(text: str) -> Any:
        return next(iter(load_suite(write_suite(setting=f"augment = {text}")).entries())).trial.identity["augment"]

    assert augment("{ crop = 1 }") == {"crop": 1, "flip": False, "cutout": 0}
    assert augment("{ cutout = 4 }") == {"crop": 0, "flip": False, "cutout": 4, "cutout_fill": "mean"}


def test_an_alias_is_the_same_trial(tmp_path: Path) -> None:
    ids = []
    for labels in ("worst", "worse"):
        path = tmp_path / f"{labels}.toml"
        path.write_text(
            '[suite]\nname = "n"\nseeds = [0]\n[[setting]]\ndataset = "cifar10n"\nmodel = "lenet"\n'
            f'noise = {{ name = "human", labels = "{labels}" }}\n[[method]]\nname = "CE"\n'
        )
        (entry,) = load_suite(path).entries()
        ids.append((entry.trial.id, entry.trial.identity["noise"]["params"]))
    assert ids[0] == ids[1] and ids[0][1] == {"labels": "worse"}
    assert harness.create("noise", "human", labels="worst").labels == "worse"


def test_settings_that_a_smaller_scale_makes_equal_are_kept_once(write_suite: Write) -> None:
    path = write_suite()
    text = path.read_text()
    setting = text[text.index("[[setting]]") : text.index("[[method]]")]
    path.write_text(text.replace(setting, f'{setting}\n{setting}name = "longer"\ntraining = {{ epochs = 9 }}\n'))
    assert len(load_suite(path).settings) == 2
    assert len(load_suite(path, scale="quick").settings) == 1
    assert len(load_suite(path, ["training.epochs=1"]).settings) == 1
    path.write_text(text.replace(setting, f'{setting}\n{setting}name = "again"\n'))
    with pytest.raises(HarnessError, match="is the same setting as"):
        load_suite(path)


@pytest.mark.parametrize("algorithm", ["fgsm", "mixup", "divide_mix"])
def test_a_method_that_needs_images_is_refused_on_texts(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "texts.toml"
    path.write_text(
        f"""
[suite]
name = "texts"
seeds = [0]
[[setting]]
dataset = {{ name = "text_csv", file = "reviews.csv" }}
model = {{ name = "text_cnn", vectors = "v.txt" }}
noise = {{ name = "symmetric", rate = 0.2 }}
[[method]]
name = "M"
algorithms = ["{algorithm}"]
"""
    )
    with pytest.raises(HarnessError, match="the inputs of this data set are tokens") as told:
        list(load_suite(path).entries())
    assert "harness data embed" in str(told.value.remedy)
