"""From a setting's words to standardisation and augmentation, some of which a model with pretrained weights says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from harness.errors import DataError
from harness.registry import Registry
from harness.training.augment import Augmentation
from harness.training.colours import Colours
from harness.training.data import LabelledData, Standardiser, sample_at
from harness.training.frames import Frame

SIDES = ("resize", "center_crop", "random_crop", "random_resized_crop")
"""Keys of ``augment`` that are sides in pixels, or ``model``: the side of the images that the weights were trained on."""
MODEL = "model"


def preprocessing(registry: Registry, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a model's weights were trained on, as its factory's function ``preprocessing`` says: ``mean`` and ``std`` of
    each channel of images in [0, 1], and ``size``, a side in pixels. ``None`` for a model that has no such weights."""
    component, variant = registry.find("model", spec["name"])
    tell = getattr(component.load(), "preprocessing", None)
    if tell is None:
        return None
    told: Mapping[str, Any] | None = tell(**({"variant": variant} if component.is_family else {}), **spec["params"])
    return told


def asks_the_model(setting: Mapping[str, Any]) -> str:
    """The key by which a setting asks for what its model's weights were trained on; empty where none does."""
    if setting["normalize"] == MODEL:
        return "normalize"
    return next((f"augment.{key}" for key in SIDES if setting["augment"].get(key) == MODEL), "")


def told_by_the_model(registry: Registry, setting: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the weights of a setting's model were trained on; empty where the setting asks for none of it.

    Raises:
        DataError: when it asks, and the model has no pretrained weights.
    """
    key = asks_the_model(setting)
    if not key:
        return {}
    told = preprocessing(registry, setting["model"])
    if told is None:
        raise DataError(
            f"model {setting['model']['name']!r} does not say what its weights were trained on", key,
            "set pretrained = true in the model, or write " + ('normalize = "channel"' if key == "normalize" else "pixels"),
        )  # fmt: skip
    return told


def standardised_by(data: LabelledData, told: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Standardiser:
    """The mean and deviation of a model's weights for images, of grey ones their means over channels."""
    channels = sample_at(data.inputs, 0).shape[0]
    mean, std = (list(told[key]) for key in ("mean", "std"))
    if channels not in (1, len(mean)) or channels == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return Standardiser.given(data.inputs, mean, std, dtype)


def augmentation_of(
    table: Mapping[str, Any], standardiser: Standardiser | None, told: Mapping[str, Any] | None = None
) -> Augmentation:
    """The augmentation of a setting's table ``augment``, in which what is at its default may be left out.

    Args:
        table: of the keys of :class:`harness.suite.schema.AugmentTable`.
        standardiser: of the images.
        told: what the model's weights were trained on, where the table asks for that.
    """
    sides: dict[str, Any] = {
        key: int(told["size"] if told and table[key] == MODEL else table[key]) for key in SIDES if key in table
    }
    boxes: dict[str, Any] = {key: tuple(table[f"crop_{key}"]) for key in ("scale", "ratio") if f"crop_{key}" in table}
    strengths = [*table.get("color_jitter", ()), 0.0, 0.0, 0.0, 0.0]
    colours = Colours(table.get("policy", ""), (strengths[0], strengths[1], strengths[2], strengths[3]), standardiser)
    return Augmentation(
        crop=table.get("crop", 0),
        flip=table.get("flip", False),
        cutout=table.get("cutout", 0),
        zero=standardiser.zero if standardiser is not None else None,
        frame=Frame(**sides, **boxes),
        colours=colours if colours.policy or any(colours.jitter) else None,
    )


def as_evaluated(augmentation: Augmentation) -> Augmentation:
    """What is left of an augmentation where nothing is drawn: its frame."""
    return Augmentation(frame=augmentation.frame)
