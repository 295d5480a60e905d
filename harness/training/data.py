"""Data as the harness knows it: labelled data, splits, and the source of mini-batches.

A data set lives on the device as one tensor and a batch is a gather; what does not fit streams through a
``DataLoader`` behind the same :class:`BatchSource`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from harness.errors import DataError, HarnessError
from harness.training.augment import Augmentation
from harness.training.tasks import Task, task_of

log = logging.getLogger("harness.trial")
CACHED_NUMBERS = 2**19
"""Numbers of images that are standardised together on a CPU: they fit into its cache."""
LOADERS = "of_a_loader"
"""Attribute of the threads that feed loader processes, which the guard of a trial passes over."""
RESIDENT_FLOATS = 2 * 1024**3
"""Bytes up to which images are kept standardised, as floats; above, they stay uint8 and are converted per batch."""


@dataclasses.dataclass(frozen=True)
class LabelledData:
    """Inputs with their targets.

    Attributes:
        inputs: (N, C, H, W) uint8 images in [0, 255], (N, D) float features (float16 too), (N, L) int64 tokens, or a
            torch ``Dataset`` of N single inputs (uint8 images or float features) that streams.
        targets: (N,) int64 classes in [0, num_classes); (N, num_classes) int64 labels in {0, 1}, any number of which a
            sample may have; or (N,) or (N, outputs) float32 for regression.
        num_classes: number of classes or labels; ``None`` for regression.
        class_names: names of the classes, or empty.
        human: further labels by name, (N,) int64 each, in the order of ``targets`` (CIFAR-N).
        superclasses: (num_classes,) int64, the super-class of each class.
        positions: (N,) int64, in a trial: where the samples stand in the data set's training data.
        views: augmented views by name that were stored with the inputs, (N, V, ...) each, of which ``run.view`` draws one;
            other views do not exist. ``None``: views are made of the inputs as they are asked for.
        votes: (N, annotators) int64 classes that several annotators or labelling functions gave, -1 where one gave none.
        clean: (N,) int64 true classes of samples whose ``targets`` may be wrong, -1 where nobody knows it; ``None`` where all
            of ``targets`` are taken to be true. Only a noise that knows no truth (``given``) looks at it, and the evaluator.
        outside: (N,) bool, samples that belong to none of the classes (open-set noise): their target is the label that they are
            given, and no label is their true one. ``None``: there are none.
        origin: (N,) int64, where the samples stand in the user's own file or list of files, counted from 0.
        files: names of the user's own files, which ``origin`` counts in.
        vocabulary: inputs are texts: tokens in [0, vocabulary), of which 0 pads at the end. A batch is cut to its longest.
    """

    inputs: Tensor | Dataset[Any]
    targets: Tensor
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    human: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    superclasses: Tensor | None = None
    positions: Tensor | None = None
    views: Mapping[str, Tensor] | None = None
    votes: Tensor | None = None
    outside: Tensor | None = None
    vocabulary: int | None = None
    clean: Tensor | None = None
    origin: Tensor | None = None
    files: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            if isinstance(getattr(self, name), np.ndarray):
                object.__setattr__(self, name, torch.from_numpy(getattr(self, name)))
        if not isinstance(self.targets, Tensor):
            object.__setattr__(self, "targets", torch.as_tensor(self.targets))
        if len(self.targets) != count(self.inputs):
            raise DataError(f"{count(self.inputs)} inputs but {len(self.targets)} targets")
        if self.num_classes is not None and len(self.targets):
            low, high = int(self.targets.min()), int(self.targets.max())
            if self.targets.ndim == 2 and (self.targets.shape[1] != self.num_classes or low < 0 or high > 1):
                raise DataError(
                    f"labels of shape {tuple(self.targets.shape)} lie in [{low}, {high}]",
                    remedy=f"give (N, {self.num_classes}) labels of 0 and 1",
                )
            if low < 0 or high >= self.num_classes:
                raise DataError(f"targets lie in [{low}, {high}], outside [0, {self.num_classes})")
        if self.vocabulary is not None:
            self._check_tokens(self.vocabulary)
        if self.votes is not None and (self.votes.ndim != 2 or len(self.votes) != len(self.targets)):
            raise DataError(f"votes of shape {tuple(self.votes.shape)} for {len(self.targets)} targets")
        if self.clean is not None:
            self._check_clean(self.clean)
        if self.outside is not None:
            if self.outside.shape != (len(self.targets),) or self.outside.dtype != torch.bool:
                raise DataError(f"outside is {self.outside.dtype} {tuple(self.outside.shape)}", remedy="give (N,) bool")
            if self.task != "classification":
                raise DataError(f"samples of no class in {self.task}", remedy="leave out outside")

    def _check_clean(self, clean: Tensor) -> None:
        if self.task != "classification":
            raise DataError(f"clean classes in {self.task}", remedy="leave out clean")
        if clean.dtype != torch.int64 or clean.shape != self.targets.shape:
            raise DataError(f"clean is {clean.dtype} of shape {tuple(clean.shape)}", remedy="give (N,) int64 classes")
        if len(clean) and not (int(clean.min()) >= -1 and int(clean.max()) < (self.num_classes or 0)):
            raise DataError(f"clean classes lie outside [-1, {self.num_classes})")

    def _check_tokens(self, vocabulary: int) -> None:
        tokens = self.inputs
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 2:
            raise DataError("texts are not (N, L) int64 tokens", remedy="leave out vocabulary, or give tokens")
        if tokens.numel() and not (int(tokens.min()) >= 0 and int(tokens.max()) < vocabulary):
            raise DataError(f"tokens lie outside [0, {vocabulary})")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def task(self) -> Task:
        """``regression`` without classes; ``multilabel`` where a sample has a row of labels, else ``classification``."""
        return task_of(self.targets, self.num_classes)

    def subset(self, index: Tensor) -> LabelledData:
        """The samples ``index`` (int64), in that order."""
        return dataclasses.replace(
            self,
            inputs=take(self.inputs, index),
            targets=self.targets[index],
            human={name: labels[index] for name, labels in self.human.items()},
            positions=None if self.positions is None else self.positions[index],
            views=None if self.views is None else {name: stored[index] for name, stored in self.views.items()},
            votes=None if self.votes is None else self.votes[index],
            clean=None if self.clean is None else self.clean[index],
            outside=None if self.outside is None else self.outside[index],
            origin=None if self.origin is None else self.origin[index],
        )


@dataclasses.dataclass(frozen=True)
class DataSplits:
    """What a data set's factory makes: clean training and test data. Validation is split off by the harness.

    Attributes:
        train, test: the data.
        trusted: whether the test labels are known to be right. Boards say it of trials whose noise knows no truth.
    """

    train: LabelledData
    test: LabelledData
    trusted: bool = dataclasses.field(default=True, kw_only=True)

    @property
    def task(self) -> Task:
        return self.train.task


class Samples(Dataset[Any]):
    """Some samples of a streaming data set; it holds inputs only."""

    def __init__(self, base: Dataset[Any], index: Tensor) -> None:
        self.base, self.index = base, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Any:
        return self.base[int(self.index[position])]


class DamagedSample(DataError):
    """A sample of a streaming data set that cannot be read and is to be left out: training skips it, and where every sample
    has a row (evaluation, scores) its stand-in is seen.

    Args:
        stand_in: what is seen in its place, of the samples' shape and type.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "", *, stand_in: Tensor) -> None:
        super().__init__(what, where, remedy)
        self.stand_in = stand_in


def count(inputs: Tensor | Dataset[Any]) -> int:
    """Number of samples."""
    return len(cast(Any, inputs))


def sample_at(inputs: Tensor | Dataset[Any], position: int) -> Any:
    """One input as it is; the stand-in of one that is damaged."""
    try:
        return inputs[position]
    except DamagedSample as error:
        return error.stand_in


def take(inputs: Tensor | Dataset[Any], index: Tensor) -> Tensor | Dataset[Any]:
    """The samples ``index`` of resident or streaming inputs."""
    return inputs[index] if isinstance(inputs, Tensor) else Samples(inputs, index)


def stratified_subset(targets: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """``size`` indices, sorted, with class shares as in ``targets`` (largest remainders); uniform where a sample has no class."""
    if size >= len(targets):
        return torch.arange(len(targets))
    if targets.dtype.is_floating_point or targets.ndim > 1:
        return torch.from_numpy(np.sort(rng.permutation(len(targets))[:size]))
    labels = targets.numpy()
    order = rng.permutation(len(labels))
    counts = np.bincount(labels)
    quota = counts * size / len(labels)
    share = np.floor(quota).astype(int)
    share[np.argsort(share - quota, kind="stable")[: size - share.sum()]] += 1
    grouped = order[np.argsort(labels[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    return torch.from_numpy(np.sort(grouped[rank < np.repeat(share, counts)]))


def split_validation(targets: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Indices of training and validation samples, stratified by class, sorted."""
    held = (
        stratified_subset(targets, round(share * len(targets)), rng) if share > 0 else torch.empty(0, dtype=torch.int64)
    )
    mask = torch.ones(len(targets), dtype=torch.bool)
    mask[held] = False
    return torch.nonzero(mask).squeeze(1), held


@dataclasses.dataclass(frozen=True)
class Standardiser:
    """``(x - mean) / std``, with ``x`` in [0, 1] for images. Shapes (C, 1, 1) for images, (D,) for features."""

    mean: Tensor
    std: Tensor
    scale: float

    @classmethod
    def fit(cls, inputs: Tensor | Dataset[Any], mode: str, dtype: torch.dtype = torch.float32) -> Standardiser | None:
        """Statistics of the clean training inputs: per ``channel`` (or feature), one ``scalar`` for all, or ``none``.

        Token inputs have none. Streaming inputs are measured on at most 2,048 evenly spaced samples.
        """
        if not isinstance(inputs, Tensor):
            positions = np.linspace(0, count(inputs) - 1, min(2048, count(inputs))).astype(int)
            inputs = torch.stack([sample_at(inputs, int(position)) for position in positions])
        if inputs.dtype == torch.int64:
            return None
        is_image = inputs.ndim == 4
        scale = 1 / 255 if inputs.dtype == torch.uint8 else 1.0
        shape = (inputs.shape[1], 1, 1) if is_image else tuple(inputs.shape[1:])
        if mode == "none":
            return cls(torch.zeros(shape, dtype=dtype), torch.ones(shape, dtype=dtype), scale)
        axes = [0, 2, 3] if is_image else [0]
        if mode == "scalar":
            axes = list(range(inputs.ndim))
        mean, square, total = 0.0, 0.0, 0
        sums, squares = [], []
        for chunk in inputs.split(4096):
            values = chunk.double() * scale
            sums.append(values.sum(axes))
            squares.append((values**2).sum(axes))
            total += values.numel()
        per = total // max(1, sums[0].numel())
        mean, square = torch.stack(sums).sum(0) / per, torch.stack(squares).sum(0) / per
        std = (square - mean**2).clamp_min(0).sqrt()
        std = torch.where(std > 1e-8, std, torch.ones_like(std))
        fit = (mean.expand(shape[0]), std.expand(shape[0])) if is_image and mean.ndim == 0 else (mean, std)
        view = shape if is_image else (shape if fit[0].ndim else ())
        return cls(fit[0].to(dtype).reshape(view).contiguous(), fit[1].to(dtype).reshape(view).contiguous(), scale)

    @classmethod
    def given(
        cls,
        inputs: Tensor | Dataset[Any],
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> Standardiser:
        """Constants in place of statistics, one for each channel (or feature) or one for all.

        Raises:
            DataError: for token inputs, and when the number of constants fits neither.
        """
        example = inputs[:1] if isinstance(inputs, Tensor) else sample_at(inputs, 0)[None]
        if example.dtype == torch.int64:
            raise DataError("token inputs are not standardised", "mean", "remove mean and std from the [[setting]]")
        shape = (example.shape[1], 1, 1) if example.ndim == 4 else tuple(example.shape[1:])
        if len(mean) not in (1, shape[0]):
            raise DataError(
                f"{len(mean)} standardisation constants for {shape[0]} channels or features",
                "mean",
                f"give {shape[0]} or one for all",
            )
        columns = [torch.tensor(values, dtype=dtype).expand(shape[0]).reshape(shape) for values in (mean, std)]
        return cls(columns[0].contiguous(), columns[1].contiguous(), 1 / 255 if example.dtype == torch.uint8 else 1.0)

    def to(self, device: torch.device) -> Standardiser:
        return dataclasses.replace(self, mean=self.mean.to(device), std=self.std.to(device))

    def __call__(self, inputs: Tensor) -> Tensor:
        if inputs.device.type != "cpu" or inputs.ndim != 4 or inputs.dtype != torch.uint8:
            return (inputs.to(self.mean.dtype) * self.scale - self.mean) / self.std
        made = torch.empty(inputs.shape, dtype=self.mean.dtype)
        some = max(1, CACHED_NUMBERS // max(1, inputs[:1].numel()))
        for given, part in zip(
            inputs.split(some), made.split(some), strict=True
        ):  # four walks over what is in the cache
            part.copy_(given).mul_(self.scale).sub_(self.mean).div_(self.std)
        return made

    @property
    def zero(self) -> Tensor:
        """What a zero pixel becomes: the value that padding has."""
        return -self.mean / self.std


class BatchSource(Protocol):
    """Where mini-batches of inputs come from. It knows inputs and indices, never targets."""

    num_samples: int
    standardiser: Standardiser | None
    augmentation: Augmentation
    views: Mapping[str, Tensor] | None
    """Views that were stored, standardised when they are drawn; ``None``: they are made of the samples."""

    def shuffled(
        self, order: Tensor, batch_size: int, skip: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """``(index, inputs)`` of an epoch in the given order, augmented, from batch ``skip`` on."""

    def ordered(self, batch_size: int, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """``(index, inputs)`` of all samples in order, or of some in theirs, as they are evaluated: not augmented."""

    def gather(self, index: Tensor) -> Tensor:
        """Standardised inputs of some samples, as they are evaluated: not augmented."""

    def whole(self, index: Tensor) -> Tensor:
        """Standardised inputs of some samples as the data set gives them, of which views are drawn."""


class ResidentSource:
    """All inputs on the device as one tensor; a batch is a gather."""

    def __init__(
        self,
        inputs: Tensor,
        standardiser: Standardiser | None,
        augmentation: Augmentation,
        device: torch.device,
        views: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.num_samples = len(inputs)
        self.views: Mapping[str, Tensor] | None = None
        if views is not None:
            self.views = {name: stored.to(device) for name, stored in views.items()}
        self.device = device
        self.augmentation = augmentation
        self.standardiser = standardiser.to(device) if standardiser is not None else None
        self._late: Standardiser | None = None
        if standardiser is not None:
            standardiser = standardiser.to(device)
            if inputs.numel() * standardiser.mean.element_size() > RESIDENT_FLOATS:
                self._late = standardiser
                self.inputs = inputs.to(device)
            else:
                resident = inputs.to(device)
                self.inputs = (
                    torch.cat([standardiser(chunk) for chunk in resident.split(4096)]) if len(inputs) else resident
                )
        else:
            self.inputs = inputs.to(device)

    def whole(self, index: Tensor) -> Tensor:
        batch = self.inputs.index_select(0, index)
        return self._late(batch) if self._late is not None else batch

    def gather(self, index: Tensor) -> Tensor:
        batch = self.whole(index)
        return self.augmentation.frame.still(batch) if self.augmentation.frame.active else batch

    def shuffled(
        self, order: Tensor, batch_size: int, skip: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for index in order.to(self.device).split(batch_size)[skip:]:
            inputs = self.whole(index)
            yield index, self.augmentation(inputs, generator) if self.augmentation.active else inputs

    def ordered(self, batch_size: int, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(self.num_samples, device=self.device) if index is None else index.to(self.device)
        for part in order.split(batch_size) if len(order) else ():
            yield part, self.gather(part)


Look = Callable[[Tensor, int], Tensor]
"""What is seen of an image, by its place in the order of a pass."""


@dataclasses.dataclass(frozen=True)
class _Refused:
    """What a sample's error says; an exception would come out of a loader's process as its traceback."""

    what: str
    where: str
    remedy: str


class _Positions(Dataset[tuple[int, Any, str] | _Refused]):
    """Samples in an order, each with its position and, where it is damaged, what is wrong with it.

    ``look`` makes of an image and its place in the order what is seen of it.
    """

    def __init__(self, inputs: Dataset[Any], order: Tensor, look: Look | None = None) -> None:
        self.inputs, self.order = inputs, order.numpy()  # one buffer, which forked processes share without copying it
        self.look = look

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[int, Any, str] | _Refused:
        sample, note = int(self.order[position]), ""
        try:
            found = self.inputs[sample]
        except DamagedSample as error:
            found, note = error.stand_in, str(error)
        except HarnessError as error:
            return _Refused(error.what, error.where, error.remedy)
        return sample, found if self.look is None else self.look(found, position), note


def _begun(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader, whose threads are marked as no component's."""
    before = set(threading.enumerate())
    batches = iter(loader)
    for thread in set(threading.enumerate()) - before:
        setattr(thread, LOADERS, True)
    return batches


def _mark() -> None:
    setattr(threading.current_thread(), LOADERS, True)


def _collated(items: list[Any]) -> Any:
    refused = [item for item in items if isinstance(item, _Refused)]
    return refused[0] if refused else default_collate(items)


class StreamingSource:
    """Inputs that do not fit: read by a ``DataLoader``, standardised and augmented on the device. Large images are resized,
    cut and coloured one by one where they are read (:class:`~harness.training.per_image.PerImage`)."""

    def __init__(
        self,
        inputs: Dataset[Any],
        standardiser: Standardiser | None,
        augmentation: Augmentation,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self._inputs = inputs
        self._named: set[str] = set()
        self.views: Mapping[str, Tensor] | None = None
        self.num_samples = count(inputs)
        self.device = device
        self.augmentation = augmentation
        self.workers = workers
        self.standardiser = standardiser.to(device) if standardiser is not None else None
        self._late = Augmentation(cutout=augmentation.cutout) if augmentation.large else augmentation

    def _batches(
        self, order: Tensor, batch_size: int, skips: bool = False, look: Look | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of samples in an order; with ``skips``, without those that are damaged."""
        loader = DataLoader(
            _Positions(self._inputs, order, look),
            batch_size=batch_size,
            num_workers=self.workers,
            collate_fn=_collated,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each pass draws from the global one, and a resumed epoch has one more
        )
        for batch in _begun(loader):
            yield self._moved(batch, skips)

    def _moved(self, batch: Any, skips: bool = False) -> tuple[Tensor, Tensor]:
        """A batch as it was read, on the device and standardised."""
        if isinstance(batch, _Refused):
            raise DataError(batch.what, batch.where, batch.remedy)
        index, inputs, notes = batch
        if any(notes):
            self._name(notes)
            if skips:
                whole = torch.tensor([not note for note in notes])
                if not whole.any():
                    raise DataError(f"all {len(notes)} samples of a batch are damaged: {notes[0]}")
                index, inputs = index[whole], inputs[whole]
        moved = inputs.to(self.device, non_blocking=True)
        return index.to(self.device), self.standardiser(moved) if self.standardiser is not None else moved

    def _read(self, index: Tensor, look: Look | None = None) -> Tensor:
        """Some samples, read by threads: to start processes for one batch would take longer."""
        positions = _Positions(self._inputs, index.cpu(), look)
        with ThreadPoolExecutor(max(1, self.workers), initializer=_mark) as threads:
            items = list(threads.map(positions.__getitem__, range(len(index))))
        return self._moved(_collated(items))[1]

    def _name(self, notes: Sequence[str]) -> None:
        """Name each damaged sample once."""
        for note in notes:
            if note and note not in self._named:
                self._named.add(note)
                log.warning("%s", note)

    def shuffled(
        self, order: Tensor, batch_size: int, skip: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order, first = order.cpu(), skip * batch_size
        look = self._drawn(order, first, generator)
        for index, inputs in self._batches(order[first:], batch_size, skips=True, look=look):
            yield index, self._late(inputs, generator) if self._late.active else inputs

    def ordered(self, batch_size: int, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(self.num_samples) if index is None else index.cpu()
        yield from self._batches(order, batch_size, look=self._still())

    def gather(self, index: Tensor) -> Tensor:
        return self._read(index, self._still())

    def whole(self, index: Tensor) -> Tensor:
        return self._read(index)

    def _still(self) -> Look | None:
        if not self.augmentation.large:
            return None
        from harness.training.per_image import (  # torchvision, for seconds; it builds on this module
            AsEvaluated,
            PerImage,
        )

        return AsEvaluated(PerImage(self.augmentation))

    def _drawn(self, order: Tensor, first: int, generator: torch.Generator) -> Look | None:
        """What is seen in a pass over an order from place ``first`` on."""
        if not self.augmentation.large:
            return None
        from harness.training.per_image import AsTrained, PerImage, pass_seed  # as above

        return AsTrained(PerImage(self.augmentation), pass_seed(generator, order), first)


def make_source(
    inputs: Tensor | Dataset[Any],
    standardiser: Standardiser | None,
    augmentation: Augmentation,
    device: torch.device,
    views: Mapping[str, Tensor] | None = None,
    workers: int = 0,
    *,
    text: bool = False,
    window: int = 0,
) -> ResidentSource | StreamingSource:
    """The source for resident or streaming inputs, which ``workers`` processes read, or for texts, by ``window`` as
    :class:`~harness.training.text.PaddedSource` has it."""
    if text:
        from harness.training.text import PaddedSource  # which builds on this module

        assert isinstance(inputs, Tensor)
        return PaddedSource(inputs, device, window)
    if isinstance(inputs, Tensor):
        return ResidentSource(inputs, standardiser, augmentation, device, views)
    return StreamingSource(inputs, standardiser, augmentation, device, workers)
