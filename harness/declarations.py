"""What a loss, transform or algorithm declares about itself, so that a plan can refuse what cannot compose.

A component states it in one class attribute, ``declares = Declares(...)``; without one the defaults hold.
Reading a declaration costs no torch: this module imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Declares:
    """Facts about a component that decide with which others it composes.

    Attributes:
        tasks: the tasks it fits, of ``classification``, ``multilabel`` and ``regression``.
        per_batch: (loss) it exists per batch only and returns a scalar, so samples cannot be weighted (DMI).
        soft_targets: (loss) it accepts (B, K) class probabilities as targets, as mixup makes them.
        replaces: (algorithm) the loss that it computes by itself, in ``compute_losses`` (SOP: ``ce``) or in its own
            ``train_step``; it stands on that loss only.
        needs_per_sample: it reads or weights the losses of single samples, so the loss must have them.
        sample_state: it keeps a state row for each sample, so samples must keep their identity (no mixup).
        mixes_samples: it blends samples, so that a target is soft and an index names no single sample.
        perturbs_inputs: it changes inputs by a gradient, so inputs must be real-valued.
        own_step: it replaces the training step (``train_step``), so hooks between forward and step do not fire for it.
        descends: its ``train_step`` ends in ``run.descend``, so hooks from ``after_losses`` on do fire, for the rows of
            its losses, each of which is owned by one sample.
        row_weights: it keeps numbers for each sample and uses them only to weight rows of losses by their owners, so it
            may stand with a method that descends by rows (RRM). Other parts with ``after_losses`` may not.
        steps_again: it makes a forward pass of a step once more (``run.again``), or of inputs that it makes of the step's,
            so the step must be the loop's.
        whole_batch: ``always`` where what it computes of a sample depends on the others of its mini-batch, so that this cannot
            be worked through in parts; or the name of a parameter that makes it so.
        uses_matrix: it needs a transition matrix, so the noise must have one unless a matrix is given.
        views: (loss, algorithm) the named augmented views it asks for through ``run.view``. With ``needs_per_sample`` it compares them with
            the batch, sample by sample, so samples must not be mixed.
        tokens: (dataset) its inputs are texts: rows of tokens, which cannot be perturbed, mixed or augmented.
        stored_views: (dataset) a JSON file under ``HARNESS_DATA`` whose table ``views`` names the only augmented views that
            there are of its samples; ``{variant}`` in its path is the name's in its family.
        files: (dataset) what must lie under ``HARNESS_DATA``; ``harness data fetch`` knows how to get it.
        content: (dataset) ``module:function``, which gives of its parameters, and ``exact``, the digest of its labels and
            files (:func:`harness.content.content_of`) as 16 hex digits. It is in a trial's id, a worker checks it before it
            reads the data, and planning calls it, so its module imports no torch.
        corrected: (dataset) ``module:function`` of its parameters, corrected labels by sample and a folder, which writes a
            data set with these labels there and returns its parameters; it imports no torch.
        places: (dataset) parameters that say where its files lie. With ``content`` they are in no trial's id.
        classes: (dataset) the number of classes, where it does not depend on a parameter.
        ignored_with: a parameter that means nothing once another is given: ``{"contamination": "gamma"}``; it is then
            no reference to the noise, so the method is no oracle.
        later: parameters that came after results had been recorded: at their default they are left out of a trial's id,
            so that trials from before keep theirs.
        aliases: further words for a parameter's value, which stand for the same trial: ``{"labels=worst": "worse"}``.
        fixed_rate: (noise) what ``"noise.rate"`` means where the noise has no parameter ``rate``; 0 says that it changes
            nothing, so that it is for every task.
        unknown: (noise) the labels are as they come and nobody knows which are right: what needs the truth is measured on
            the samples whose :attr:`~harness.LabelledData.clean` class is known, or not at all. What its parameters `rate`
            and `estimate` say, ``"noise.rate"`` refers to.
        estimator: (noise) with ``unknown``: what estimates rate and matrix where its parameter `estimate` is true.
        classes_for: (noise) how many classes a choice needs: ``{"map=mnist_cdr": 10}``.
        refuses: names of components that it cannot stand beside, with the reason.
    """

    tasks: tuple[str, ...] = ("classification",)
    per_batch: bool = False
    soft_targets: bool = False
    replaces: str | None = None
    needs_per_sample: bool = False
    sample_state: bool = False
    mixes_samples: bool = False
    perturbs_inputs: bool = False
    own_step: bool = False
    descends: bool = False
    row_weights: bool = False
    steps_again: bool = False
    whole_batch: str = ""
    uses_matrix: bool = False
    views: tuple[str, ...] = ()
    tokens: bool = False
    stored_views: str = ""
    files: tuple[str, ...] = ()
    content: str = ""
    corrected: str = ""
    places: tuple[str, ...] = ()
    classes: int | None = None
    ignored_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    later: tuple[str, ...] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fixed_rate: float | None = None
    unknown: bool = False
    estimator: str = ""
    classes_for: Mapping[str, int] = dataclasses.field(default_factory=dict)
    refuses: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary with the fields that differ from the defaults."""
        plain = Declares()
        changed = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            key: (list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value)
            for key, value in changed.items()
            if value != getattr(plain, key)
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Declares:
        """The inverse of :meth:`to_json`."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
        }
        return cls(**fields)
