"""What ``harness plugin new`` writes: a small installable package around one component, from templates."""

from __future__ import annotations

import dataclasses
import importlib.resources
import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

from harness.errors import HarnessError, unknown, writing
from harness.registry import PLURALS

METHODS = '[[method]]\nname = "CE"\nloss = "ce"\n'


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What differs between kinds: the suite's words, and the test of the template's own mathematics."""

    tested: str
    test: str
    imports: str = ""
    method: str = ""
    dataset: str = "digits"
    model: str = "mlp"
    noise: str = '{ name = "symmetric", rate = 0.4 }'
    own_name: bool = True
    """Whether the factory is a class, named like one."""
    facts: str = ""
    """What registering it says besides name, target and version."""
    tables: str = ""
    """Further tables of the suite."""


KINDS: dict[str, _Kind] = {
    "loss": _Kind(
        tested="$function",
        imports="import torch",
        test="""def test_a_sure_and_right_prediction_costs_nothing():
    outputs = torch.tensor([[40.0, 0.0, 0.0]])
    assert $function(outputs, torch.tensor([0])).item() == pytest.approx(0.0, abs=1e-6)


def test_a_uniform_prediction_costs_log_k_plus_the_first_order_term():
    losses = $function(torch.zeros(2, 4), torch.tensor([0, 3]), epsilon=2.0)
    assert losses.tolist() == pytest.approx([1.3862944 + 2.0 * 0.75] * 2)""",
        method='[[method]]\nname = "$title"\nloss = "$component"',
        facts=', family="robust loss", year=2022',
    ),
    "algorithm": _Kind(
        tested="$function",
        imports="import torch",
        test="""def test_the_entropy_of_a_uniform_prediction_is_log_k():
    assert $function(torch.zeros(1, 4)).item() == pytest.approx(1.3862944)


def test_a_sure_prediction_has_no_entropy():
    assert $function(torch.tensor([[60.0, 0.0]])).item() == pytest.approx(0.0, abs=1e-6)""",
        method='[[method]]\nname = "CE + $title"\nloss = "ce"\nalgorithms = ["$component"]',
        facts=', family="regularisation", year=2017',
    ),
    "transform": _Kind(
        tested="$function",
        imports="import torch",
        model="lenet",
        test="""def test_every_output_has_weights_of_mean_zero_and_variance_one():
    weight = $function(3 + 5 * torch.randn(4, 2, 3, 3), eps=1e-12).flatten(1)
    assert torch.allclose(weight.mean(1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(weight.var(1, unbiased=False), torch.ones(4), atol=1e-4)""",
        method='[[method]]\nname = "CE + $title"\nloss = "ce"\ntransforms = ["$component"]',
    ),
    "noise": _Kind(
        tested="$function",
        noise='{ name = "$component", rate = 0.4 }',
        test="""def test_the_rows_are_probabilities_and_only_neighbours_are_reached():
    matrix = $function(0.4, 5)
    assert matrix.sum(axis=1) == pytest.approx([1.0] * 5)
    assert matrix[2].tolist() == pytest.approx([0.0, 0.2, 0.6, 0.2, 0.0])""",
    ),
    "dataset": _Kind(
        tested="$factory",
        dataset="$component",
        own_name=False,
        test="""def test_the_arms_are_equally_frequent():
    splits = $factory(size=300)
    assert splits.train.targets.bincount().tolist() == [100, 100, 100]
    assert len(splits.test) == 100""",
    ),
    "metric": _Kind(
        tested="$factory",
        imports="import torch",
        own_name=False,
        facts=', title="$words", percent=True',
        tables='\n[evaluation]\nmetrics = ["$component"]\n',
        test="""def test_predictions_that_are_all_right_give_one():
    outputs, targets = torch.eye(3).log(), torch.arange(3)
    assert $factory(outputs, targets).item() == pytest.approx(1.0)


def test_a_class_that_is_never_found_gives_nought_and_one_without_samples_is_left_out():
    outputs = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]]).log()
    assert $factory(outputs, torch.tensor([0, 1])).item() == 0.0
    assert $factory(outputs, torch.tensor([0, 0])).item() == 1.0""",
    ),
    "estimator": _Kind(
        tested="$function",
        test="""def test_labels_that_always_agree_are_all_right():
    assert $function(1.0, 10) == pytest.approx(0.0)


def test_the_rate_of_a_known_share_of_agreeing_pairs_is_found():
    assert $function(0.6**2 + 0.4**2 / 4, 5) == pytest.approx(0.4)""",
    ),
    "detector": _Kind(
        tested="$function",
        imports="import torch",
        test="""def test_a_label_that_its_neighbours_contradict_has_no_share():
    features = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    shares = $function(features, torch.tensor([0, 0, 1, 1, 1, 1]), 2, neighbours=2)
    assert shares[2].tolist() == [1.0, 0.0]
    assert shares[3].tolist() == [0.0, 1.0]""",
    ),
    "model": _Kind(
        tested="$factory",
        imports="import torch",
        model="$component",
        own_name=False,
        test="""def test_it_maps_images_to_outputs():
    model = $factory(input_shape=(1, 8, 8), num_outputs=10, hidden=[16])
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)""",
    ),
}


PASSES = _Kind(
    tested="$function",
    imports="import torch",
    test="""def test_a_guess_is_sharper_than_the_prediction_and_a_uniform_one_stays():
    outputs = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert $function(outputs, 0.5)[0].tolist() == pytest.approx(torch.tensor([2.0, 0.0]).softmax(0).tolist())
    assert $function(outputs, 0.5)[1].tolist() == pytest.approx([0.5, 0.5])""",
    method='[[method]]\nname = "$title"\nalgorithms = ["$component"]',
    facts=', family="semi-supervised", year=2013, rows=(1, 1)',
)
"""An algorithm that divides the epoch into passes and has a training step of its own."""


def _shape(kind: str, passes: bool) -> tuple[_Kind, str]:
    """What differs, and the name of the template.

    Raises:
        HarnessError: when another kind than an algorithm is to have passes.
    """
    if passes and kind != "algorithm":
        raise HarnessError(f"a {kind} has no passes", "--passes", "use --kind algorithm")
    return (PASSES, "algorithm_passes") if passes else (KINDS[kind], kind)


def _is_taken(module: str) -> bool:
    """Whether Python, or an installed package, has a module of that name; folders that are no package do not count."""
    if module in sys.stdlib_module_names or module in ("test", "tests"):
        return True
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def words(name: str, kind: str) -> dict[str, str]:
    """Every name that the templates use, made from the one that was given.

    Raises:
        HarnessError: for a kind without a template, or a name that gives no Python module or that of another.
    """
    if kind not in KINDS:
        raise HarnessError(unknown("kind", kind, KINDS), "--kind")
    module = re.sub(r"[-. ]+", "_", name.strip()).lower()
    if not module.isidentifier() or keyword.iskeyword(module) or module.startswith("harness"):
        raise HarnessError(
            f"{name!r} gives no name for a Python module", "plugin new", "use letters, digits and dashes: my-loss"
        )
    if _is_taken(module):
        raise HarnessError(
            f"there is a Python module {module!r} already, which the plugin would hide",
            "plugin new",
            f"choose a name of its own: my-{module.replace('_', '-')}",
        )
    function = f"{module}_{kind}" if kind not in module else module
    own = KINDS[kind].own_name
    from harness.plugins import harness_version

    title = module.replace("_", " ").capitalize()
    return {
        "distribution": module.replace("_", "-"),
        "module": module,
        "component": module,
        "kind": kind,
        "article": "An" if kind in ("algorithm", "estimator") else "A",
        "plural": PLURALS[kind],
        "file": kind,
        "title": title,
        "words": title.lower(),
        "factory": "".join(part.capitalize() for part in module.split("_")) if own else function,
        "function": function if kind != "noise" else f"{module}_matrix",
        "version": harness_version(),
    }


def write_package(name: str, kind: str, into: Path, passes: bool = False) -> list[Path]:
    """Write the package into a new folder and return its files; ``passes``: an algorithm with passes of its own.

    Raises:
        HarnessError: when the folder is there already, or cannot be written.
    """
    known = words(name, kind)
    root = into / known["distribution"]
    if root.exists():
        raise HarnessError("is there already", str(root), "choose another name, or remove it")
    one, template_name = _shape(kind, passes)
    for key in ("tested", "test", "dataset", "model", "noise", "facts", "tables"):
        known[key] = Template(getattr(one, key)).substitute(known)
    known["imports"] = f"{one.imports}\n" if one.imports else ""
    known["methods"] = METHODS + (
        f"\n{Template(one.method).substitute(known)}" if one.method else '\n[[method]]\nname = "GCE"\nloss = "gce"'
    )
    module = known["module"]
    files = {
        "common/pyproject.toml.tmpl": "pyproject.toml",
        "common/README.md.tmpl": "README.md",
        "common/ci.yml.tmpl": ".github/workflows/test.yml",
        "common/suite.toml.tmpl": "suite.toml",
        "common/init.py.tmpl": f"{module}/__init__.py",
        f"{template_name}.py.tmpl": f"{module}/{kind}.py",
        "common/test.py.tmpl": f"tests/test_{module}.py",
    }
    written = []
    for template, target in files.items():
        path = root / target
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_render(template, known))
        written.append(path)
    return written


def write_file(path: Path, kind: str, passes: bool = False) -> list[Path]:
    """Write a single-file plugin: the component, and its registration below it; ``passes`` as in :func:`write_package`.

    Raises:
        HarnessError: when the file is there already, or cannot be written.
    """
    if path.exists():
        raise HarnessError("is there already", str(path), "choose another name, or remove it")
    known = words(path.stem, kind)
    one, template_name = _shape(kind, passes)
    source = _render(f"{template_name}.py.tmpl", known)
    docstring, rest = source.split("\n\n", 1)
    imports = "from harness import hookimpl\n"
    facts = Template(one.facts).substitute(known)
    hook = (
        f"\n\n@hookimpl\ndef harness_register_{known['plural']}(register):\n"
        f'    """Registers `{known["component"]}`."""\n'
        f'    register("{known["component"]}", {known["factory"]}, version="1"{facts})\n'
    )
    head, separator, tail = rest.partition("from harness")
    if not separator:
        head, tail = "", f"\n{rest}"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{docstring}\n\n{head}{imports}{separator}{tail}{hook}")
    return [path]


def _render(template: str, known: dict[str, str]) -> str:
    folder = importlib.resources.files("harness") / "templates" / "plugin"
    return Template((folder / template).read_text(encoding="utf-8")).substitute(known)
