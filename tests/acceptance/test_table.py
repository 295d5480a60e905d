"""The table of accepted stacks says what a plan says, and refuses where the mathematics leaves nothing to compose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.backward import backward_corrected
from harness_plugins.algorithms.forward import forward_corrected
from pairs import table

import harness
from harness.declarations import Declares
from harness.errors import StackError
from harness.suite.acceptance import built_in, main, page
from harness.suite.compose import Part, check_stack

PAGE = Path(__file__).parents[2] / "docs" / "acceptance.md"
K = 10


def accepts(loss: Part, algorithms: Sequence[Part], transforms: Sequence[Part] = ()) -> bool:
    try:
        check_stack(loss, algorithms, None, transforms)
    except StackError:
        return False
    return True


def transition(rate: float = 0.3) -> torch.Tensor:
    return torch.full((K, K), rate / (K - 1), dtype=torch.float64).fill_diagonal_(1 - rate)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_generator_makes() -> None:
    assert PAGE.read_text() == page(built_in()), "python -m harness.suite.acceptance > docs/acceptance.md"


def test_every_component_has_a_row_and_every_reason_is_in_the_list() -> None:
    text = PAGE.read_text()
    tables, _, reasons = text.partition("## Reasons")
    for part in (*table().losses, *table().algorithms, *table().transforms):
        assert f"`{part.name}`" in tables
    letters = {line.split("**")[1] for line in reasons.splitlines() if line.startswith("- **")}
    rows = [line for line in tables.splitlines() if line.startswith("| `")]
    used = {cell.strip() for row in rows for cell in row.split("|")[2:-1]}
    assert {cell for cell in used if cell.isalpha()} == letters


def test_the_counts_are_those_of_the_cells() -> None:
    text = PAGE.read_text()
    first, second = (part.split("##")[0].split("|---|")[1] for part in text.split("## Algorithm and ")[1:])
    n, losses = len(table().algorithms), len(table().losses)
    with_loss, ordered = first.count("✓"), second.count("⇄")
    unordered = second.count("✓") // 2 + ordered // 2
    assert f"| algorithm and loss | {n * losses} | {with_loss} | 0 | {n * losses - with_loss} |" in text
    pairs = n * (n - 1) // 2
    assert f"| algorithm and algorithm | {pairs} | {unordered} | {ordered // 2} | {pairs - unordered} |" in text


def test_a_plugin_file_gets_a_row_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "my plugin.py"
    plugin.write_text(
        "from harness import Declares, hookimpl\n"
        "class Tilt:\n"
        '    """Tilts gradients."""\n'
        '    declares = Declares(refuses={"cdr": "it tilts what is masked"})\n'
        "    def after_backward(self, run, step):\n"
        "        pass\n"
        "@hookimpl\n"
        "def harness_register_algorithms(register):\n"
        '    register("tilt", Tilt)\n'
    )
    main([str(plugin)])
    told = capsys.readouterr().out
    assert "| `tilt` |" in told and "it tilts what is masked" in told
    assert "`tilt`" not in page(built_in())


# --- what the page claims ---------------------------------------------------------------------------------------------


def test_a_stack_is_accepted_where_each_of_its_pairs_is() -> None:
    found = table()
    for loss in found.losses:
        for triple in itertools.combinations(found.algorithms, 3):
            alone = all(accepts(loss, [one]) for one in triple)
            by_pairs = alone and all(accepts(loss, pair) for pair in itertools.combinations(triple, 2))
            assert accepts(loss, triple) == by_pairs, (loss.name, [one.name for one in triple])
            assert accepts(loss, triple[::-1]) == by_pairs


def test_two_algorithms_are_accepted_or_refused_in_both_orders_alike() -> None:
    found = table()
    for (first, second), verdict in found.with_algorithm.items():
        other = found.with_algorithm[second, first]
        assert (verdict.accepted, verdict.hooks, verdict.loss) == (other.accepted, other.hooks, other.loss)


def test_two_algorithms_that_a_loss_carries_by_themselves_it_carries_together_if_any_does() -> None:
    found = table()
    for a, b in itertools.combinations(found.algorithms, 2):
        on = [accepts(loss, [a, b]) for loss in found.losses if accepts(loss, [a]) and accepts(loss, [b])]
        assert len(set(on)) <= 1, (a.name, b.name)
        assert any(on) == found.with_algorithm[a.name, b.name].accepted


def test_every_refusal_names_both_parts_in_one_line() -> None:
    found = table()
    for verdicts in (found.with_loss, found.with_algorithm, found.with_transform):
        for (first, second), verdict in verdicts.items():
            if not verdict.accepted:
                assert repr(first) in verdict.reason and repr(second) in verdict.reason
                assert "\n" not in verdict.reason


def test_a_loss_names_what_it_refuses_and_so_does_a_transform() -> None:
    proud = Part("proud", (), Declares(refuses={"cdr": "for a reason", "kpd": "for another"}))
    cdr, kpd = Part("cdr", ("after_backward",), Declares()), Part("kpd", (), Declares())
    with pytest.raises(StackError, match="loss 'proud' cannot stand with 'cdr': for a reason"):
        check_stack(proud, [cdr])
    with pytest.raises(StackError, match="loss 'proud' cannot stand with 'kpd': for another"):
        check_stack(proud, [], None, [kpd])
    with pytest.raises(StackError, match="transform 'proud' cannot stand with 'cdr'"):
        check_stack(Part("plain", (), Declares()), [cdr], None, [proud])


@pytest.mark.parametrize(
    ("loss", "algorithm", "reason"),
    [
        (Declares(tasks=("regression",)), Part("a", (), Declares()), "is for classification"),
        (Declares(sample_state=True), Part("a", ("train_step",), Declares(own_step=True)), "keeps its state"),
        (Declares(), Part("a", ("train_step",), Declares(own_step=True, replaces="ce")), "replaces the loss 'ce'"),
    ],
)
def test_refused_without_knowing_the_data(loss: Declares, algorithm: Part, reason: str) -> None:
    with pytest.raises(StackError, match=reason):
        check_stack(Part("some", (), loss), [algorithm])


def test_mixed_samples_have_no_further_views() -> None:
    mixing = Part("mixing", ("before_forward",), Declares(mixes_samples=True))
    viewing = Part("viewing", ("before_forward",), Declares(views=("strong",), needs_per_sample=True))
    with pytest.raises(StackError, match="takes further views of single samples"):
        check_stack(Part("ce", (), Declares(soft_targets=True)), [viewing, mixing])


def test_order_matters_only_within_a_stage() -> None:
    found = table()
    assert found.with_algorithm["aux", "forward"].hooks == ("after_forward",)
    assert found.with_algorithm["fgsm", "mixup"].hooks == ("before_forward",)
    for early, late in (("cdr", "rdi"), ("rrm", "elr"), ("sop_plus", "aux"), ("fgsm", "sop_plus")):
        assert found.with_algorithm[early, late].accepted and not found.with_algorithm[early, late].hooks


# --- why the mathematics refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [p.name for p in table().losses if "classification" in p.declares.tasks])
def test_forward_stands_on_a_loss_that_a_shift_of_the_logits_leaves_alone_and_a_matrix_changes(name: str) -> None:
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.normal(size=(64, K))).requires_grad_()
    targets, matrix = torch.arange(64) % K, transition()
    loss = harness.create("loss", name)
    shifted = loss(outputs + torch.from_numpy(rng.normal(size=(64, 1))), targets, None)
    invariant = bool(torch.allclose(loss(outputs, targets, None), shifted, atol=1e-9))
    plain, corrected = (
        torch.autograd.grad(loss(z, targets, None).sum(), outputs)[0]
        for z in (outputs, (outputs.softmax(1) @ matrix).log())
    )
    changed = not bool(torch.allclose(plain, corrected, atol=1e-9))
    corrects = name in ("peer", "f_divergence", "gjs")  # for all of the noise, or by outputs that forward does not see
    assert table().with_loss["forward", name].accepted == (invariant and changed and not corrects)


def test_backward_undoes_in_the_mean_over_labels_what_forward_has_already_undone() -> None:
    outputs, matrix = torch.from_numpy(np.random.default_rng(1).normal(size=(K, K))), transition()
    inverse = torch.linalg.inv(matrix)

    def mean_over_noisy_labels(z: torch.Tensor) -> torch.Tensor:
        each = torch.stack([backward_corrected(z, torch.full((K,), y), inverse) for y in range(K)], dim=1)
        return (matrix * each).sum(1)  # row i: a sample whose clean class is i

    clean = -outputs.log_softmax(1).diagonal()
    assert torch.allclose(mean_over_noisy_labels(outputs), clean)
    assert not torch.allclose(mean_over_noisy_labels(forward_corrected(outputs, matrix)), clean, atol=1e-2)
    assert not table().with_algorithm["forward", "backward"].accepted


def test_a_corrected_loss_of_one_sample_has_no_lower_bound_but_the_clip() -> None:
    inverse = torch.linalg.inv(transition())
    losses = [
        float(backward_corrected(size * torch.eye(K, dtype=torch.float64)[:1], torch.tensor([0]), inverse))
        for size in (1.0, 5.0, 10.0, 15.0)
    ]
    assert losses == sorted(losses, reverse=True) and losses[-1] < -5
    for reader in ("rrm", "aux"):
        assert not table().with_algorithm["backward", reader].accepted


def test_a_loss_with_a_memory_would_judge_the_second_network_by_the_first() -> None:
    loss = harness.create("loss", "aldr_kl", lam0=1.0)
    outputs = torch.from_numpy(np.random.default_rng(2).normal(size=(K, K)))
    first, second = (loss(outputs, torch.arange(K), torch.arange(K)) for _ in range(2))
    assert not torch.allclose(first, second)
    for keeper in ("aldr_kl", "truncated_gce"):
        assert not table().with_loss["co_teaching", keeper].accepted
