"""Stacks that cannot compose are refused from their declarations alone."""

from __future__ import annotations

import pytest

from harness.declarations import Declares
from harness.errors import StackError
from harness.suite.compose import Part, check_stack

pytestmark = pytest.mark.portable

CE = Part("ce", (), Declares(soft_targets=True))
GCE = Part("gce", (), Declares())
DMI = Part("dmi", (), Declares(per_batch=True))
L2 = Part("l2", (), Declares(tasks=("regression",)))
SOP = Part("sop", ("setup", "compute_losses"), Declares(replaces="ce", sample_state=True))
RRM = Part("rrm", ("after_losses",), Declares(needs_per_sample=True))
MIXUP = Part("mixup", ("before_forward",), Declares(mixes_samples=True))
CDR = Part("cdr", ("after_backward",), Declares())
DIVIDE = Part("divide", ("next_pass", "train_step"), Declares(replaces="ce", own_step=True, descends=True))
WEIGHTS = Part("weights", ("after_losses",), Declares(needs_per_sample=True, row_weights=True))
SAM = Part("sam", ("after_backward",), Declares(steps_again=True))
FGSM = Part("fgsm", ("before_forward",), Declares(perturbs_inputs=True))
STRONG = Part("strong", ("before_forward",), Declares(views=("strong",)))
CO = Part("co_teaching", ("train_step", "predict"), Declares(own_step=True, needs_per_sample=True))


@pytest.mark.parametrize(
    ("loss", "algorithms"),
    [
        (CE, [SOP, CDR]),
        (CE, [CDR, SOP]),
        (GCE, [RRM, CDR]),
        (DMI, [CDR]),
        (CE, [MIXUP, CDR]),
        (CE, [CO]),
        (CE, [DIVIDE, CDR]),
        (CE, [WEIGHTS, DIVIDE, CDR]),
        (GCE, [WEIGHTS]),
        (CE, [SAM, MIXUP]),
    ],
)
def test_stacks_that_compose(loss: Part, algorithms: list[Part]) -> None:
    check_stack(loss, algorithms, "classification")


@pytest.mark.parametrize(
    ("loss", "algorithms", "reason"),
    [
        (GCE, [SOP], "replaces the loss 'ce'"),
        (DMI, [RRM], "exists per batch only"),
        (CE, [MIXUP, SOP], "keeps a state for each sample"),
        (GCE, [MIXUP], "soft targets"),
        (CE, [CO, CDR], "would never fire"),
        (CE, [CO, WEIGHTS], "would never fire"),
        (CE, [DIVIDE, MIXUP], "'before_forward' of 'mixup' would never fire"),
        (CE, [DIVIDE, SOP], "computes the losses|would never fire"),
        (CE, [DIVIDE, Part("rows", ("after_losses",), Declares(sample_state=True))], "keeps its state of samples"),
        (CE, [DIVIDE, RRM], "has losses of rows of its own"),
        (CE, [DIVIDE, SAM], "replaces the training step, which 'sam' takes once more"),
        (CE, [WEIGHTS, MIXUP], "keeps a state for each sample"),
        (GCE, [DIVIDE], "replaces the loss 'ce'"),
        (CE, [DIVIDE, Part("other", ("next_pass",), Declares())], "divides the epoch into passes"),
        (DMI, [CO], "per batch only"),
        (CE, [CDR, CDR], "listed twice"),
        (L2, [], "is for regression"),
        (CE, [SOP, Part("other", ("compute_losses",), Declares(replaces="ce"))], "computes the losses"),
        (CE, [Part("odd", ("compute_losses",), Declares())], "without declaring"),
        (CE, [Part("a", (), Declares(refuses={"cdr": "because"})), CDR], "because"),
    ],
)
def test_stacks_that_do_not(loss: Part, algorithms: list[Part], reason: str) -> None:
    with pytest.raises(StackError, match=reason):
        check_stack(loss, algorithms, "classification")


@pytest.mark.parametrize(
    ("part", "reason"),
    [(FGSM, "perturbs real-valued"), (MIXUP, "mixes real-valued"), (STRONG, "texts have none")],
)
def test_what_needs_images_is_refused_on_texts_in_the_plan(part: Part, reason: str) -> None:
    check_stack(CE, [part], "classification")
    with pytest.raises(StackError, match=f"{part.name}.*{reason}"):
        check_stack(CE, [part], "classification", tokens=True)
    check_stack(CE, [CDR, RRM, WEIGHTS], "classification", tokens=True)


def test_a_declaration_survives_json() -> None:
    for part in (CE, DMI, SOP, MIXUP, CO, DIVIDE, WEIGHTS, SAM):
        assert Declares.from_json(part.declares.to_json()) == part.declares
