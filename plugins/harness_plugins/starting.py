"""A suite for data of the user's own: model, budget and methods that suit what is there. It is what `harness init` writes and
what `harness.compare` runs, and is meant to be edited."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, unknown

STEPS = {"images": 1200, "table": 2000, "text": 1200}
"""Steps of training that each kind of data is given: minutes on two cores where there are few samples."""
EPOCHS = (5, 40)
SIDES = (28, 32, 48, 64)
LOOKED_AT = 200
MOST_ESTIMATED = 2_000
"""Samples up to which the rate of wrong labels is estimated in each trial, where the data are features: it is then cheap
beside the training."""
MOST_RESIDENT = 2**30
"""Bytes of images up to which they are kept in memory."""
USUAL = ("ce", "gce", "elr", "sop")
METHODS: Mapping[str, str] = {
    "ce": 'name = "CE"',
    "gce": 'name = "GCE"\nloss = { name = "gce", q = 0.7 }',
    "elr": 'name = "ELR"\nalgorithms = [{ name = "elr", lam = 3.0, beta = 0.7 }]',
    "sop": 'name = "SOP"\nalgorithms = [{ name = "sop", lr_u = 10.0, lr_v = 10.0 }]',
}
"""Methods whose parameters are those of field/mnist5k; others stand with their defaults."""


def images(data: Mapping[str, Any], name: str, methods: Sequence[str], seeds: int) -> str:
    """The suite's text for images: ``root`` and perhaps ``csv``."""
    return _suite("images", data, name, methods, seeds)


def table(data: Mapping[str, Any], name: str, methods: Sequence[str], seeds: int) -> str:
    """The suite's text for a table: ``file`` and perhaps ``label``."""
    return _suite("table", data, name, methods, seeds)


def text(data: Mapping[str, Any], name: str, methods: Sequence[str], seeds: int) -> str:
    """The suite's text for texts: ``file`` and perhaps ``text`` and ``label``."""
    return _suite("text", data, name, methods, seeds)


def _suite(kind: str, data: Mapping[str, Any], name: str, methods: Sequence[str], seeds: int) -> str:
    """A suite's text, after the data have been read."""
    import harness

    dataset, channels = dict(data), 0
    if kind == "images":
        dataset, channels = _pictures(data)
    elif kind == "text":
        dataset = {"name": "text_csv", **dataset, "tokenizer": ""}
    else:
        dataset = {"name": "table", **dataset}
    splits = harness.create("dataset", dataset["name"], **{k: v for k, v in dataset.items() if k != "name"})
    train = splits.train
    shape = tuple(train.inputs[0].shape)
    pictures = len(shape) == 3
    batch = 32 if len(train) < 2000 else 64 if len(train) < 20_000 else 128
    steps = STEPS["images" if pictures else kind]
    epochs = max(EPOCHS[0], min(EPOCHS[1], round(steps * batch / len(train))))
    model = '{ name = "mlp", hidden = [128] }'
    if pictures:
        model = (
            '"lenet"' if shape[0] == 1 and min(shape[1:]) >= 8 else '{ name = "small_resnet", width = 16, blocks = 1 }'
        )
        model = '{ name = "mlp", hidden = [128] }' if min(shape[1:]) < 8 else model
    elif kind == "text":
        model = '{ name = "text_cnn", vectors = "", train_vectors = true }'
    estimate = len(shape) == 1 and kind == "table" and len(train) <= MOST_ESTIMATED
    known = 0 if train.clean is None else int((train.clean >= 0).sum())
    lines = [
        f"# {len(train)} training and {len(splits.test)} test samples of {train.num_classes} classes"
        + (f", {channels} channels" if channels else "")
        + (f"; the true label of {known} training samples is known" if known else ""),
        "[suite]",
        f"name = {json.dumps(name)}",
        f"seeds = {list(range(seeds))}",
        "",
        "[training]",
        f"epochs = {epochs}",
        f"batch_size = {batch}",
        'optimizer = { name = "sgd", lr = 0.05, momentum = 0.9, weight_decay = 5e-4 }',
        'schedule = { name = "cosine" }',
        "validation = 0.1                      # held out of the training data, with the labels as they are",
        "",
        "[[setting]]",
        f"dataset = {toml(dataset)}",
        f"model = {model}",
        f'noise = {{ name = "given"{", estimate = true" if estimate else ""} }}    # nobody knows which labels are wrong',
        *([f"augment = {{ crop = {max(1, min(shape[1:]) // 8)} }}            # add flip = true if a mirror image is of the same class"]
          if pictures and min(shape[1:]) >= 8 else []),
    ]  # fmt: skip
    for method in methods or USUAL:
        lines += ["", "[[method]]", _method(method)]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _method(name: str) -> str:
    """The table of a method that is named by a loss or by an algorithm."""
    from harness.plugins import load_host

    if name in METHODS:
        return METHODS[name]
    registry = load_host().registry
    losses, algorithms = registry.names("loss"), registry.names("algorithm")
    if name in losses:
        return f'name = "{name}"\nloss = "{name}"'
    if name in algorithms:
        return f'name = "{name}"\nalgorithms = ["{name}"]'
    remedy = "`harness components loss` and `harness components algorithm` list them"
    raise HarnessError(unknown("loss or algorithm", name, [*losses, *algorithms]), "methods", remedy)


def _pictures(data: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The data set and its channels: the side nearest to the usual one, 1 channel where all images are grey, and kept in
    memory where they fit."""
    from PIL import Image, UnidentifiedImageError

    from harness_plugins.datasets.label_files import found_folder, labelled_images

    where = "datasets.image_folder"
    folder = found_folder(data["root"], where)
    names = labelled_images(folder, data.get("csv"), where).names
    sides, grey = [], True
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        path = Path(folder) / name
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
                grey = grey and image.mode in ("1", "L", "LA", "I;16")
        except (OSError, UnidentifiedImageError):
            raise HarnessError(
                f"{path} cannot be read as an image",
                f"{where}: {folder}",
                f"harness data verify image_folder --set root={folder}",
            ) from None
    usual = sorted(sides)[len(sides) // 2]
    side = next((one for one in SIDES if usual <= one), SIDES[-1])
    size, channels = usual if usual < SIDES[0] else side, 1 if grey else 3
    fits = {"resident": True} if len(names) * channels * size**2 <= MOST_RESIDENT else {}
    return {"name": "image_folder", **data, "size": size, "channels": channels, **fits}, channels
