"""Frozen features: what a model makes of every sample of a data set, computed once and kept as float16 on disk.

``harness data embed`` calls :func:`embed`. The features are the inputs of the model's last linear layer, so any model that
ends in one will do. They lie in a folder of their own under ``HARNESS_DATA/features/``:

    features.json      what they were made of, with digests of data, weights, views and code; written last
    labels.npz         targets, further labels, super-classes
    train.npy          (N, D) float16, memory-mapped when read; test.npy likewise
    view-weak.npy      (N, V, D) float16: V augmented views of each training sample

Until it is whole the folder is called ``NAME.partial`` and says in ``progress.json`` how far it is; the same command goes
on from there and ends with the same bytes, since every view is drawn by a generator of its own batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import DataError, HarnessError, unknown
from harness.files import write_bytes
from harness.paths import data_folder
from harness.registry import Registry
from harness.training import seeds
from harness.training.augment import Augmentation
from harness.training.data import DataSplits, LabelledData, Standardiser, make_source
from harness.training.networks import catching, classifier_of
from harness.training.policies import VIEWS, drawn_view
from harness.training.preprocessing import augmentation_of, preprocessing, standardised_by
from harness.trial import canonical, digest

SCHEMA = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LOOKED_AT = 64
"""Samples of a streaming data set that its digest is made of, evenly spaced, beside its targets and parameters."""
SAVED_S = 20.0
"""Seconds between two notes of how far an extraction is."""
WHERE = "harness data embed"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What features are made of, in words.

    Attributes:
        dataset, model: names with parameters, ``{"name", "version", "params"}``.
        views: how many augmented views of each training sample are stored, by name.
        augment: ``crop``, ``flip`` and ``cutout`` of those views.
        size: side in pixels to which images are resized for the model; ``None``: as they are.
        batch: samples of a forward pass; rounding may depend on it.
        seed: of the model's initialisation and of the views.
        samples: how many training and test samples, the first of each; ``None`` is all.
    """

    dataset: Mapping[str, Any]
    model: Mapping[str, Any]
    views: Mapping[str, int]
    augment: Mapping[str, Any]
    size: int | None
    batch: int
    seed: int
    samples: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Extraction:
    """An extraction that is ready to start.

    Attributes:
        passes: forward passes of single samples in all.
        bytes: of the features on disk.
        width: numbers of a feature.
        manifest: what ``features.json`` will say, without the files' sums.
        name: that of the features.
    """

    recipe: Recipe
    splits: DataSplits
    model: nn.Module
    layer: nn.Module
    standardiser: Standardiser | None
    device: torch.device
    width: int
    manifest: Mapping[str, Any]
    name: str
    workers: int = 0

    @property
    def parts(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """File, view (empty for the samples themselves) and shape of every array."""
        train, test = len(self.splits.train), len(self.splits.test)
        views = [(f"view-{view}", view, (train, n, self.width)) for view, n in self.recipe.views.items()]
        return [("train", "", (train, self.width)), ("test", "", (test, self.width)), *views]

    @property
    def passes(self) -> int:
        return sum(int(np.prod(shape[:-1])) for _, _, shape in self.parts)

    @property
    def bytes(self) -> int:
        return 2 * self.width * self.passes


def folder_of(name: str) -> Path:
    """Where features of a name lie.

    Raises:
        DataError: for a name that is no plain word.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"{name!r} is no name of features", f"datasets.features:{name}", "use letters, digits and ._-")
    return data_folder() / "features" / name


def prepare(
    registry: Registry, recipe: Recipe, device: torch.device, name: str | None = None, workers: int = 0
) -> Extraction:
    """Load data and model, and say what an extraction will cost.

    Args:
        registry: of components.
        recipe: what to make; parameters are checked and filled in.
        device: where the model runs.
        name: of the features; made of data set, model and digest without.
        workers: processes that read a streaming data set.

    Raises:
        HarnessError: for a component, view or model that will not do, in one line.
    """
    recipe = _filled(registry, recipe)
    splits = registry.create("dataset", recipe.dataset["name"], recipe.dataset["params"])
    if splits.task != "classification":
        raise DataError(
            f"is for {splits.task}", f"datasets.{recipe.dataset['name']}", "embed a classification data set"
        )
    splits = _first(splits, recipe.samples)
    shape = tuple(splits.train.inputs[0].shape)
    if len(shape) != 3 and (recipe.views or recipe.size):
        raise DataError("only images have views and sizes", WHERE, "drop --views and --size")
    inputs_shape = shape if recipe.size is None else (shape[0], recipe.size, recipe.size)
    model = (
        _model(registry, recipe, inputs_shape, int(splits.train.num_classes or 0), splits.train.vocabulary)
        .to(device)
        .eval()
    )
    layer = classifier_of(model, int(splits.train.num_classes or 0), f"models.{recipe.model['name']}")
    statistics = preprocessing(registry, recipe.model)
    standardiser = (
        standardised_by(splits.train, statistics)
        if statistics is not None and len(shape) == 3
        else Standardiser.fit(splits.train.inputs, "channel")
    )
    width = int(layer.in_features)  # type: ignore[arg-type]
    manifest = {
        "schema": SCHEMA,
        **{key: value for key, value in dataclasses.asdict(recipe).items() if (key, value) != ("samples", None)},
        "width": width,
        "classes": splits.train.num_classes,
        "class_names": list(splits.train.class_names),
        "digests": {
            "data": data_digest(splits),
            "weights": weights_digest(model, layer),
            **{kind: registry.find(kind, spec["name"])[0].digest() for kind, spec in _parts(recipe).items()},
        },
    }
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{recipe.dataset['name']}-{recipe.model['name'].rpartition(':')[2]}")
    chosen = name or f"{plain.strip('-.')}-{digest(manifest)[:8]}"
    folder_of(chosen)
    return Extraction(recipe, splits, model, layer, standardiser, device, width, manifest, chosen, workers)


def _first(splits: DataSplits, samples: tuple[int, int] | None) -> DataSplits:
    """The first samples of both parts."""
    if samples is None:
        return splits
    for part, count in zip((splits.train, splits.test), samples, strict=True):
        if not 0 < count <= len(part):
            words = f"{count} samples of a part that has {len(part)}"
            raise DataError(words, f"{WHERE} --samples", f"write --samples {len(splits.train)},{len(splits.test)}")
    train, test = (part.subset(torch.arange(n)) for part, n in zip((splits.train, splits.test), samples, strict=True))
    return DataSplits(train, test)


def _parts(recipe: Recipe) -> dict[str, Mapping[str, Any]]:
    return {"dataset": recipe.dataset, "model": recipe.model}


def _filled(registry: Registry, recipe: Recipe) -> Recipe:
    """A recipe with its defaults: a model that can be pretrained is, and sees images of its own size."""
    for view, copies in recipe.views.items():
        if view not in VIEWS:
            raise HarnessError(unknown("view", view, VIEWS), f"{WHERE} --views")
        if copies < 1:
            raise HarnessError(f"{copies} {view!r} views", f"{WHERE} --views", f"write --views {view}:2")
    if "weak" in recipe.views and not any(recipe.augment.values()):
        raise HarnessError(
            "weak views need an augmentation", f"{WHERE} --views", "add --augment crop=4 --augment flip=true"
        )
    found: dict[str, Any] = {}
    for kind, spec in _parts(recipe).items():
        component, _ = registry.find(kind, spec["name"])
        values = dict(spec["params"])
        known = {parameter["name"] for parameter in registry.facts(component).parameters}
        if kind == "model" and "pretrained" in known:
            values.setdefault("pretrained", True)
        params = registry.validate(kind, spec["name"], values)
        found[kind] = {"name": spec["name"], "version": component.version, "params": params}
    own = preprocessing(registry, found["model"])
    return dataclasses.replace(recipe, **found, size=recipe.size or (own or {}).get("size"))


def _model(
    registry: Registry, recipe: Recipe, shape: tuple[int, ...], classes: int, vocabulary: int | None
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(recipe.seed, "init"))
        model = registry.create(
            "model",
            recipe.model["name"],
            recipe.model["params"],
            input_shape=shape,
            num_outputs=classes,
            vocabulary=vocabulary,
        )
    if not isinstance(model, nn.Module):
        raise DataError(f"made {type(model).__name__}, not a torch module", f"models.{recipe.model['name']}")
    return model


def data_digest(splits: DataSplits) -> str:
    """First 16 hex digits of a SHA-256 over the clean targets and the inputs of both parts; of a streaming part over
    :data:`LOOKED_AT` of its inputs."""
    content = hashlib.sha256()
    for part in (splits.train, splits.test):
        content.update(part.targets.contiguous().numpy().tobytes())
        if isinstance(part.inputs, Tensor):
            chunks: Any = part.inputs.split(4096)
        else:
            chunks = (part.inputs[int(i)] for i in np.linspace(0, len(part) - 1, min(LOOKED_AT, len(part))))
        for chunk in chunks:
            content.update(chunk.contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


def weights_digest(model: nn.Module, layer: nn.Module) -> str:
    """First 16 hex digits of a SHA-256 over a model's parameters and buffers, those of its classifier left out."""
    left_out = {id(tensor) for tensor in (*layer.parameters(), *layer.buffers())}
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if id(tensor) not in left_out:
            content.update(f"{name} {tuple(tensor.shape)}".encode())
            content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def embed(job: Extraction, advance: Callable[[int], None] = lambda rows: None) -> Path:
    """Compute the features of a job, from where an interrupted extraction of the same stands, and give their folder.

    Args:
        job: from :func:`prepare`.
        advance: told after every batch how many forward passes are done since the last time.

    Raises:
        DataError: when other features have the name, or a feature is no float16.
    """
    folder = folder_of(job.name)
    if folder.exists():
        if _same(folder / "features.json", job.manifest):
            advance(job.passes)
            return folder
        raise DataError(
            f"there are other features of this name in {folder.absolute()}", f"datasets.features:{job.name}",
            "choose another --name, or delete them",
        )  # fmt: skip
    partial = folder.with_name(f"{folder.name}.partial")
    done = _begin(partial, job)
    for file, view, shape in job.parts:
        path = partial / f"{file}.npy"
        array = _opened(path, shape, bool(done.get(file)))
        data = job.splits.test if file == "test" else job.splits.train
        _fill(job, array, data, view, file, done, partial, advance)
    _keep_labels(partial / "labels.npz", job.splits)
    sums = {path.name: _md5(path) for path in sorted(partial.glob("*.np[yz]"))}
    manifest = {**job.manifest, "md5": sums}
    write_bytes(partial / "features.json", (json.dumps(manifest, indent=1) + "\n").encode())
    (partial / "progress.json").unlink(missing_ok=True)
    os.replace(partial, folder)
    return folder


def _begin(partial: Path, job: Extraction) -> dict[str, int]:
    """Rows that are done of each file, in a folder that holds nothing of another job."""
    try:
        noted = json.loads((partial / "progress.json").read_text())
        if noted["job"] == canonical(job.manifest):
            return dict(noted["done"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing was begun, or by a run that was stopped before it noted anything
    if partial.exists():
        shutil.rmtree(partial)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"cannot make {partial}: {error.strerror}", "HARNESS_DATA", "set it to another folder"
        ) from None
    return {}


def _opened(path: Path, shape: tuple[int, ...], begun: bool) -> np.memmap:
    mode = "r+" if begun and path.exists() else "w+"
    if mode == "r+":
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


def _fill(
    job: Extraction,
    array: np.memmap,
    data: LabelledData,
    view: str,
    file: str,
    done: dict[str, int],
    partial: Path,
    advance: Callable[[int], None],
) -> None:
    """Write the rows of one array that are left; (N, V, D) arrays hold V views of a sample in one row."""
    first = done.get(file, 0)
    copies = array.shape[1] if view else 1
    advance(first * copies)
    saved = time.monotonic()
    for start, inputs in _batches(job, data, first):
        rows = slice(start, start + len(inputs))
        for copy in range(copies):
            given = _view(job, inputs, view, file, start, copy) if view else inputs
            features = features_of(job, given)
            array[(rows, copy) if view else rows] = features
        done[file] = rows.stop
        advance(len(inputs) * copies)
        if time.monotonic() - saved >= SAVED_S or rows.stop == len(array):
            array.flush()
            note = json.dumps({"job": canonical(job.manifest), "done": done})
            write_bytes(partial / "progress.json", note.encode())
            saved = time.monotonic()


def _batches(job: Extraction, data: LabelledData, first: int) -> Iterator[tuple[int, Tensor]]:
    """First position and standardised inputs of each batch, from a multiple of the batch size on; texts cut to the longest of
    their batch."""
    plain, whole = Augmentation(), torch.arange(first, len(data))
    text = data.vocabulary is not None
    if isinstance(data.inputs, Tensor) and not text:
        for index in whole.split(job.recipe.batch) if len(whole) else ():
            batch = data.inputs[int(index[0]) : int(index[-1]) + 1].to(job.device)
            yield int(index[0]), batch if job.standardiser is None else job.standardiser.to(job.device)(batch)
        return
    source = make_source(data.inputs, job.standardiser, plain, job.device, workers=job.workers, text=text)
    for index, inputs in source.ordered(job.recipe.batch, whole) if len(whole) else ():
        yield int(index[0]), inputs


def _view(job: Extraction, inputs: Tensor, view: str, file: str, start: int, copy: int) -> Tensor:
    generator = seeds.torch_stream(job.recipe.seed, "view", file, start, copy, device=job.device)
    augmentation = augmentation_of(job.recipe.augment, job.standardiser)
    return drawn_view(inputs, view, generator, augmentation, job.standardiser)


def features_of(job: Extraction, inputs: Tensor) -> np.ndarray:
    """(B, D) float16 features of standardised inputs.

    Raises:
        DataError: for a feature that is not finite in float16.
    """
    size = job.recipe.size
    with torch.inference_mode(), catching(job.layer) as caught:
        if size is not None and tuple(inputs.shape[-2:]) != (size, size):
            inputs = functional.interpolate(
                inputs, (size, size), mode="bilinear", align_corners=False, antialias=inputs.shape[-1] > size
            )
        job.model(inputs)
        found = caught[-1].flatten(1).to(torch.float16)
        if not bool(found.isfinite().all()):
            raise DataError(
                "a feature is no finite float16", f"models.{job.recipe.model['name']}", "choose another model"
            )
        kept: np.ndarray = found.cpu().numpy()
        return kept


def _keep_labels(path: Path, splits: DataSplits) -> None:
    train, test = splits.train, splits.test
    arrays = {"train": train.targets, "test": test.targets}
    arrays |= {f"human-{name}": labels for name, labels in train.human.items()}
    if train.votes is not None:
        arrays["votes"] = train.votes
    if train.outside is not None:
        arrays["outside"] = train.outside
    if train.superclasses is not None:
        arrays["superclasses"] = train.superclasses
    np.savez(path, **{name: tensor.numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]


def _same(path: Path, manifest: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(path.read_text())
        return canonical({key: found[key] for key in manifest}) == canonical(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
