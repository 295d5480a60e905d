"""From a trial's words to a run and its evaluator: data, split, noise, model, transforms, stack."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from harness import running
from harness.errors import ComponentError, DataError, HarnessError
from harness.parameters import NOISE_MATRIX
from harness.paths import CacheFile
from harness.plugins import Host
from harness.registry import Component
from harness.running import Source, TrialPart
from harness.suite.optim import OPTIMIZERS, SCHEDULES
from harness.training import seeds
from harness.training.data import (
    DataSplits,
    LabelledData,
    Samples,
    Standardiser,
    count,
    make_source,
    sample_at,
    split_validation,
    stratified_subset,
)
from harness.training.estimate import Estimate, estimated, inputs_of, put_in, warmed_features
from harness.training.evaluation import Evaluator
from harness.training.measures import NO_CLASS
from harness.training.memory import keep_freed_memory
from harness.training.metrics import asked_for
from harness.training.networks import Network, Table
from harness.training.optim import chosen_table, make_optimizer, make_schedule
from harness.training.preprocessing import MODEL, as_evaluated, augmentation_of, standardised_by, told_by_the_model
from harness.training.replay import Replay
from harness.training.run import Run
from harness.training.stack import Stack, call_name
from harness.training.watch import mark_layers
from harness.trial import Trial, canonical

WALKED = 100_000
"""Objects of a streaming data set among which its labels are looked for."""
DataCache = dict[str, DataSplits]
"""Data sets that a worker keeps between trials. It lives in the worker's frame, out of reach of any run."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Training and validation data of a trial: clean, with their noisy targets, and the digest of the noisy ones."""

    train: LabelledData
    train_noisy: Tensor
    validation: LabelledData
    validation_noisy: Tensor
    digest: str
    matrix: Tensor | None
    known: Tensor | None = None
    """(N,) bool, of which training samples the clean target is known; ``None``: of all."""


def source_of(component: Component) -> Source:
    """A component as errors name it."""
    path = component.source()
    return Source(component.label, component.owner, str(path) if path is not None else "")


def parts_of(trial: Trial, host: Host) -> list[TrialPart]:
    """The components of a trial, for reading a traceback."""
    identity = trial.identity
    specs = [(kind, identity[kind]) for kind in ("dataset", "noise", "model", "loss")]
    specs += [("transform", spec) for spec in identity["transforms"]]
    specs += [("algorithm", spec) for spec in identity["algorithms"]]
    found = []
    for kind, spec in specs:
        with contextlib.suppress(HarnessError):
            component, _ = host.registry.find(kind, spec["name"])
            found.append(TrialPart(source_of(component), kind, component.address.partition(":")[2]))
    return found


def _component(host: Host, kind: str, name: str) -> tuple[Component, Source]:
    component, _ = host.registry.find(kind, name)
    return component, source_of(component)


def make(host: Host, kind: str, spec: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> Any:
    """A component of a trial; that its factory runs is noted."""
    component, source = _component(host, kind, spec["name"])
    with running.current().at(source, factory_name(component)):
        return host.registry.create(kind, spec["name"], spec["params"] if values is None else values)


def factory_name(component: Component) -> str:
    """``__init__`` of a class, else the function's name."""
    with contextlib.suppress(HarnessError):
        factory = component.load()
        return "__init__" if inspect.isclass(factory) else str(getattr(factory, "__name__", "__call__"))
    return "__init__"


def load_data(trial: Trial, host: Host, cache: DataCache | None = None) -> DataSplits:
    """The data set of a trial, from the worker's cache when it is there."""
    spec = trial.identity["dataset"]
    key = canonical(spec)
    if cache is not None and key in cache:
        return cache[key]
    component, source = _component(host, "dataset", spec["name"])
    values = {**spec["params"], **trial.options.get("places", {})}
    if (content := spec.get("content")) and host.registry.content(spec["name"], values) != content:
        raise DataError(
            "its labels or files have changed since the trial was planned",
            component.label,
            "run the same command again: changed data are another data set",
        )
    splits = make(host, "dataset", spec, values)
    with running.current().at(source, factory_name(component)):
        _check_splits(splits, f"datasets.{spec['name']}")
    if cache is not None:
        cache.clear()  # a worker's trials mostly share one data set; keeping several would fill memory
        cache[key] = splits
    return splits  # type: ignore[no-any-return]


def _check_splits(splits: Any, where: str) -> None:
    """Refuse data that no model could be trained on.

    Raises:
        ComponentError: naming what is wrong.
    """
    if not isinstance(splits, DataSplits):
        raise ComponentError(f"made {type(splits).__name__}, not harness.DataSplits", where, "mend its factory")
    shapes = []
    for name in ("train", "test"):
        data = getattr(splits, name)
        if not isinstance(data, LabelledData):
            raise ComponentError(f"made {name} as {type(data).__name__}", where, "make harness.LabelledData")
        if not len(data):
            raise ComponentError(f"made no {name} samples", where, "mend its factory")
        first = sample_at(data.inputs, 0)
        if not isinstance(first, Tensor) or first.ndim < 1:
            raise ComponentError(f"made {name} inputs of type {type(first).__name__}", where, "make tensors")
        if first.dtype not in (torch.uint8, torch.float16, torch.float32, torch.float64, torch.int64):
            raise ComponentError(f"made {name} inputs of {first.dtype}", where, "make uint8, float32 or int64 inputs")
        if isinstance(data.inputs, Tensor) and data.inputs.is_floating_point() and not data.inputs.isfinite().all():
            raise ComponentError(f"made {name} inputs that are not finite", where, "leave out or mend those samples")
        if data.num_classes is None and not (data.targets.is_floating_point() and data.targets.isfinite().all()):
            raise ComponentError(f"made {name} targets that are no finite numbers", where, "give float32 targets")
        if data.num_classes is not None and (data.targets.dtype != torch.int64 or data.targets.ndim > 2):
            remedy = "give (N,) int64 classes, or (N, K) int64 labels"
            raise ComponentError(f"made {name} targets of {data.targets.dtype}", where, remedy)
        shapes.append((tuple(first.shape), data.num_classes))
    if shapes[0] != shapes[1]:
        raise ComponentError(f"made train and test of other shapes or classes: {shapes[0]}, {shapes[1]}", where)
    if splits.train.task != splits.test.task:
        raise ComponentError(f"made train for {splits.train.task} and test for {splits.test.task}", where)


def refuse_labels(inputs: Tensor | Dataset[Any], targets: Tensor, where: str) -> None:
    """Refuse streaming inputs that keep their labels: a run holds the torch ``Dataset``, and so a method could read them.

    Only what lies near is looked at, :data:`WALKED` objects or so: a few seconds where a million files are listed.

    Raises:
        DataError: naming the place.
    """
    if isinstance(inputs, Tensor):
        return
    from harness.training.reach import holds, reachable  # only streaming trials need it

    index: Any = None
    while isinstance(inputs, (Samples, Subset)):
        inner = torch.as_tensor(inputs.index if isinstance(inputs, Samples) else inputs.indices)
        index = inner if index is None else inner[index]
        inputs = inputs.base if isinstance(inputs, Samples) else inputs.dataset
    everything = count(inputs)
    with contextlib.suppress(RuntimeError):  # the walk's limit
        for found, path in reachable(inputs, WALKED):
            part = found
            if index is not None and isinstance(found, (Tensor, np.ndarray, list)):
                if not getattr(found, "shape", (1,)) or len(found) != everything:
                    continue
                part = [found[i] for i in index.tolist()] if isinstance(found, list) else found[index]
            if holds(part, targets):
                raise DataError(
                    f"the torch Dataset of its inputs keeps the clean labels ({path}), where methods can read them",
                    where,
                    "let it keep paths and transforms only",
                )


def true_targets(data: LabelledData) -> Tensor:
    """Clean targets, :data:`NO_CLASS` for a sample that belongs to none of the classes."""
    return data.targets if data.outside is None else data.targets.masked_fill(data.outside, NO_CLASS)


def make_noise(trial: Trial, host: Host) -> Any:
    """The noise of a trial."""
    return make(host, "noise", trial.identity["noise"])


def corrupt(trial: Trial, host: Host, splits: DataSplits, *, need_matrix: bool = False) -> Labels:
    """Split first, then corrupt training and validation targets separately.

    Both depend on data set, noise and seed only, so methods with one seed face the very same noisy labels.
    """
    identity = trial.identity
    # without the content, so that data in which a label was corrected are divided as they were
    dataset = canonical({key: identity["dataset"][key] for key in ("name", "version", "params")})
    noise = canonical(identity["noise"])
    data = dataclasses.replace(splits.train, positions=torch.arange(len(splits.train)))
    if identity["subset"] is not None:
        rng = seeds.numpy_stream(trial.seed, "split", dataset, "subset")
        data = data.subset(stratified_subset(data.targets, int(identity["subset"]), rng))
    rng = seeds.numpy_stream(trial.seed, "split", dataset)
    replay = Replay(trial)
    given_split = replay.split(len(data))
    kept, held = given_split or split_validation(data.targets, float(identity["training"]["validation"]), rng)
    train, validation = data.subset(kept), data.subset(held)
    apply = make_noise(trial, host)
    _, source = _component(host, "noise", identity["noise"]["name"])
    given_labels = replay.labels(splits.train.targets, data.num_classes)
    noisy = {}
    for name, part in (("train", train), ("validation", validation)):
        if given_labels is not None:
            assert part.positions is not None
            noisy[name] = given_labels[part.positions]
            continue
        given = dataclasses.replace(part, targets=part.targets.clone())  # a noise may write into what it is given
        with running.current().at(source, call_name(apply)):
            drawn = torch.as_tensor(apply(given, rng=seeds.numpy_stream(trial.seed, "noise", dataset, noise, name)))
            noisy[name] = _checked(drawn, part, identity["noise"]["name"])
    matrix = None
    if need_matrix:
        with running.current().at(source, "transition_matrix"):
            matrix = _checked_matrix(apply.transition_matrix(train), splits.train.num_classes, source.component)
    content = hashlib.sha256()
    for name in ("train", "validation"):
        content.update(noisy[name].contiguous().numpy().tobytes())
    known = None
    component, _ = host.registry.find("noise", identity["noise"]["name"])
    if host.registry.facts(component).declares.unknown:
        train, known = _with_truth(train)
    return Labels(train, noisy["train"], validation, noisy["validation"], content.hexdigest()[:16], matrix, known)


def _with_truth(train: LabelledData) -> tuple[LabelledData, Tensor]:
    """Training data whose targets are the true classes where these are known, and the mask (N,) of these samples."""
    if train.clean is None:
        return train, torch.zeros(len(train), dtype=torch.bool)
    known = train.clean >= 0
    return dataclasses.replace(train, targets=torch.where(known, train.clean, train.targets)), known


def in_fold(trial: Trial, splits: DataSplits, labels: Labels, fold: int, folds: int) -> Labels:
    """The same noisy labels divided otherwise: the fold ``fold`` of ``folds`` is held out in place of the validation data. The
    folds are stratified by noisy class, and the same for every method with one seed.

    Raises:
        HarnessError: for more folds than samples.
    """
    assert labels.train.positions is not None and labels.validation.positions is not None
    positions = torch.cat([labels.train.positions, labels.validation.positions])
    noisy = torch.cat([labels.train_noisy, labels.validation_noisy])
    if not 2 <= folds <= len(noisy):
        raise HarnessError(
            f"{len(noisy)} samples make no {folds} folds", "folds", "ask for 2 or more, and no more than samples"
        )
    positions, by_position = positions.sort()
    noisy = noisy[by_position]
    order = torch.from_numpy(seeds.numpy_stream(trial.seed, "split", "folds", folds).permutation(len(noisy)))
    if noisy.ndim == 1 and not noisy.is_floating_point():
        order = order[noisy[order].argsort(stable=True)]
    place = torch.empty(len(noisy), dtype=torch.int64)
    place[order] = torch.arange(len(noisy)) % folds
    data = dataclasses.replace(splits.train, positions=torch.arange(len(splits.train)))
    kept, held = torch.nonzero(place != fold).squeeze(1), torch.nonzero(place == fold).squeeze(1)
    train, known = data.subset(positions[kept]), None
    if labels.known is not None:
        train, known = _with_truth(train)
    validation = data.subset(positions[held])
    return Labels(train, noisy[kept], validation, noisy[held], labels.digest, labels.matrix, known)


def _checked(drawn: Tensor, clean: LabelledData, name: str) -> Tensor:
    where = f"noise.{name}"
    if drawn.shape != clean.targets.shape:
        raise ComponentError(f"gave targets of shape {tuple(drawn.shape)} for {tuple(clean.targets.shape)}", where)
    if clean.num_classes is not None and drawn.is_floating_point():
        raise DataError(f"gave classes as {str(drawn.dtype).removeprefix('torch.')}", where, "return int64 classes")
    if (
        clean.num_classes is not None
        and len(drawn)
        and not (int(drawn.min()) >= 0 and int(drawn.max()) < clean.num_classes)
    ):
        raise ComponentError(f"gave classes outside [0, {clean.num_classes})", where)
    if clean.task == "multilabel" and len(drawn) and int(drawn.max()) > 1:
        raise ComponentError("gave labels other than 0 and 1", where)
    if not drawn.is_floating_point() and clean.num_classes is None:
        raise ComponentError(
            f"gave values as {str(drawn.dtype).removeprefix('torch.')}", where, "return float32 values"
        )
    if drawn.is_floating_point() and not drawn.isfinite().all():
        raise ComponentError("gave targets that are not finite", where, "return finite values")
    return drawn.to(clean.targets.dtype).clone()


def _checked_matrix(given: Any, classes: int | None, where: str) -> Tensor:
    """A transition matrix: (K, K), each row a distribution."""
    matrix = torch.as_tensor(given).double()
    if matrix.shape != (classes, classes):
        raise ComponentError(
            f"gave a transition matrix of shape {tuple(matrix.shape)}", where, f"return ({classes}, {classes})"
        )
    ones = torch.ones(len(matrix), dtype=matrix.dtype)
    if not (matrix >= -1e-6).all() or not torch.allclose(matrix.sum(1), ones, atol=1e-4):
        raise ComponentError("gave a transition matrix whose rows are no distributions", where, "let each row sum to 1")
    return matrix


@dataclasses.dataclass(frozen=True)
class ModelMaker:
    """Makes the transformed model of a trial on CPU, as often as it is asked. A run keeps it for further networks, so it
    holds factories and their parameters, and nothing of the trial but its seed."""

    seed: int
    model: Callable[[], Any]
    source: Source
    hook: str
    transforms: tuple[tuple[Callable[[], Any], Source, str], ...]
    mark_layers: bool = True

    @classmethod
    def of(
        cls,
        trial: Trial,
        host: Host,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocabulary: int | None = None,
    ) -> ModelMaker:
        """The maker for a trial."""
        registry, spec = host.registry, trial.identity["model"]
        component, source = _component(host, "model", spec["name"])
        with running.current().at(source, factory_name(component)):
            model = registry.maker(
                "model",
                spec["name"],
                spec["params"],
                input_shape=input_shape,
                num_outputs=num_outputs,
                vocabulary=vocabulary,
            )
        transforms = []
        for spec in trial.identity["transforms"]:
            part, owner = _component(host, "transform", spec["name"])
            with running.current().at(owner, factory_name(part)):
                transforms.append(
                    (registry.maker("transform", spec["name"], spec["params"]), owner, factory_name(part))
                )
        compiled = bool(trial.options.get("execution", {}).get("compile"))
        return cls(trial.seed, model, source, factory_name(component), tuple(transforms), not compiled)

    def __call__(self, stream: str = "") -> nn.Module:
        """A model, initialised by the stream ``init`` alone, another one for each further network."""
        marker = running.current()
        keys = (stream,) if stream else ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(self.seed, "init", *keys))
            with marker.at(self.source, self.hook):
                model = _module(self.model(), self.source, "made")
            if self.transforms and self.mark_layers:
                mark_layers(marker, self.source, [model])
            for make_transform, source, hook in self.transforms:
                with marker.at(source, hook):
                    transform = make_transform()
                known = {id(module) for module in model.modules()}
                with marker.at(source, call_name(transform)):
                    model = _module(transform(model), source, "returned")
                if self.mark_layers:
                    added = [module for module in model.modules() if id(module) not in known]
                    mark_layers(marker, source, [m for m in added if not type(m).__module__.startswith("torch.")])
        return model


def _module(made: Any, source: Source, verb: str) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise ComponentError(f"{verb} {type(made).__name__}, not a torch module", source.component, "return a module")
    for name, parameter in made.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ComponentError(f"{verb} a model with a lazy parameter {name!r}", source.component, "give its size")
        if parameter.is_floating_point() and not parameter.detach().isfinite().all():
            raise ComponentError(f"{verb} a model whose {name!r} is not finite", source.component, "mend it")
    return made


def build_stack(trial: Trial, host: Host, matrix: Tensor | None, estimate: Estimate | None = None) -> Stack:
    """Loss and algorithms, with ``"noise.matrix"`` replaced by the matrix, and references to an estimate by what came out."""
    estimator = trial.identity["estimate"]["name"] if estimate is not None else ""

    def made(kind: str, spec: Mapping[str, Any]) -> Any:
        return make(
            host,
            kind,
            spec,
            {
                key: matrix.tolist() if value == NOISE_MATRIX and matrix is not None else value
                for key, value in put_in(spec["params"], estimate, estimator).items()
            },
        )

    spec, specs = trial.identity["loss"], trial.identity["algorithms"]
    component, source = _component(host, "loss", spec["name"])
    loss = made("loss", spec)
    if not callable(loss):
        raise ComponentError(f"made {type(loss).__name__}, which cannot be called", component.label, "add __call__")
    sources = {one["name"]: _component(host, "algorithm", one["name"])[1] for one in specs}
    return Stack(
        loss,
        [made("algorithm", one) for one in specs],
        [one["name"] for one in specs],
        spec["name"],
        host.registry.facts(component).declares.per_batch,
        {**sources, f"loss {spec['name']}": source},
    )


def needs_matrix(trial: Trial) -> bool:
    """Whether any part of the stack refers to the noise's transition matrix."""
    parts = [trial.identity["loss"], *trial.identity["algorithms"]]
    return any(value == NOISE_MATRIX for part in parts for value in part["params"].values())


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else CPU.

    Raises:
        HarnessError: when CUDA is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise HarnessError(
            "CUDA is asked for, and this machine has none that torch can use",
            "execution.device",
            'set device = "cpu" or "auto"',
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HarnessError(
            f"there is no {name}; this machine has {torch.cuda.device_count()} GPU(s)", "execution.device"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise HarnessError("MPS is asked for, and this machine has none", "execution.device", 'set device = "cpu"')
    return device


def fitted(inputs: Tensor | Dataset[Any], mode: str, dtype: torch.dtype) -> Standardiser | None:
    """:meth:`Standardiser.fit`, with what was found for a streaming data set that has a ``fingerprint`` kept in the cache:
    it costs the decoding of some thousand images."""
    base, index = inputs, ""
    while isinstance(base, Samples):
        index = hashlib.sha256(index.encode() + base.index.numpy().tobytes()).hexdigest()
        base = base.base
    fingerprint = getattr(base, "fingerprint", None)
    if isinstance(inputs, Tensor) or not isinstance(fingerprint, str):
        return Standardiser.fit(inputs, mode, dtype)
    kept, key = CacheFile("statistics-1"), f"{fingerprint} {index} {mode} {dtype}"
    if (entry := kept.get(key)) is not None:
        mean, std = (torch.tensor(entry[name], dtype=torch.float64).to(dtype) for name in ("mean", "std"))
        return Standardiser(mean, std, float(entry["scale"]))
    found = Standardiser.fit(inputs, mode, dtype)
    if found is not None:
        kept.put(key, {"mean": found.mean.tolist(), "std": found.std.tolist(), "scale": found.scale})
        kept.save()
    return found


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A trial ready to train."""

    run: Run
    evaluator: Evaluator
    label_digest: str
    parameters: int
    order: Tensor | None = None
    """(epochs, N) the replayed order of the training samples."""
    trusted: bool | None = None
    """Under a noise that knows no truth: whether the test labels are known to be right."""
    held: Tensor | None = None
    """(M,) where the held-out samples stand in the data set's training data."""


def prepare(
    trial: Trial,
    host: Host,
    device: torch.device,
    cache: DataCache | None = None,
    *,
    known: Estimate | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    fold: tuple[int, int] | None = None,
) -> Prepared:
    """Everything that a trial needs before its first batch.

    Args:
        trial, host, device: of the trial.
        cache: data sets that the worker keeps.
        known: what the trial has estimated of its noise before, so that it is not done again.
        should_stop: asked at the batches of a warm-up.
        fold: ``(f, K)``: train on all but the fold ``f`` of K, and hold that out in place of the validation data.

    Raises:
        TrialInterrupted: when a warm-up is to stop.
    """
    keep_freed_memory()
    identity = trial.identity
    training = identity["training"]
    execution = trial.options.get("execution", {})
    splits = load_data(trial, host, cache)
    dtype = torch.float64 if training["precision"] == "float64" else torch.float32
    if dtype == torch.float64 and device.type == "mps":
        raise HarnessError("MPS has no float64", "training.precision", 'set execution.device = "cpu"')
    labels = corrupt(trial, host, splits, need_matrix=needs_matrix(trial))
    if fold is not None:
        labels = in_fold(trial, splits, labels, *fold)
    if len(labels.train) == 0:
        raise DataError("no training samples are left after the split", f"datasets.{identity['dataset']['name']}")
    refuse_labels(splits.train.inputs, splits.train.targets, f"datasets.{identity['dataset']['name']}")
    if splits.train.clean is not None:
        refuse_labels(splits.train.inputs, splits.train.clean, f"datasets.{identity['dataset']['name']}")
    last_batch, accumulate = training.get("last_batch", "scaled"), int(training.get("accumulate", 1))
    if last_batch == "drop" and len(labels.train) < int(training["batch_size"]):
        raise DataError(
            f"the only batch is a short one of {len(labels.train)} samples", "training.last_batch", "choose 'mean'"
        )
    standardiser: Standardiser | None
    told = told_by_the_model(host.registry, identity)
    if "mean" in identity:
        standardiser = Standardiser.given(splits.train.inputs, identity["mean"], identity["std"], dtype)
    elif identity["normalize"] == MODEL and len(_shape(splits.train)) == 3:
        standardiser = standardised_by(splits.train, told, dtype)
    else:
        standardiser = fitted(splits.train.inputs, identity["normalize"], dtype)
    augmentation = augmentation_of(identity["augment"], standardiser, told)
    if standardiser is None and augmentation.active:
        raise DataError("token inputs cannot be augmented", "augment", "remove the augmentation")
    if augmentation.active and len(_shape(splits.train)) != 3:
        raise DataError("only images can be augmented", "augment", "remove the augmentation")
    plain = as_evaluated(augmentation)
    has_validation = len(labels.validation) > 0
    text = splits.train.vocabulary is not None
    window = int(training.get("length_window", 0))
    if window and not text:
        raise DataError("samples have no lengths", "training.length_window", "remove it")
    source = functools.partial(make_source, workers=int(execution.get("loader_workers", 0)), text=text)
    evaluator = Evaluator(
        test=source(splits.test.inputs, standardiser, plain, device),
        test_targets=splits.test.targets,
        validation=source(labels.validation.inputs, standardiser, plain, device) if has_validation else None,
        validation_targets=labels.validation_noisy if has_validation else None,
        train_clean=true_targets(labels.train),
        train_noisy=labels.train_noisy,
        train_every=int(identity["evaluation"]["train_every"]),
        device=device,
        metrics=asked_for(trial.options.get("metrics", ()), host.registry, splits.task),
        known=labels.known,
    )
    targets = labels.train_noisy.to(device)
    if targets.is_floating_point():
        targets = targets.to(dtype)
    replay = Replay(trial)
    num_classes = splits.train.num_classes
    num_outputs = num_classes if num_classes is not None else (1 if targets.ndim == 1 else targets.shape[1])
    shape = _shape(splits.train)
    shape = augmentation.frame.shape(shape) if augmentation.frame.active else shape
    with running.method_working():
        maker = ModelMaker.of(trial, host, shape, num_outputs, splits.train.vocabulary)
        network = NetworkMaker(
            maker,
            device,
            training["optimizer"],
            training["schedule"],
            int(training["epochs"]),
            channels_last=bool(execution.get("channels_last")),
            compile=bool(execution.get("compile")),
            dtype=dtype,
            replay=replay,
        )
        inputs = source(labels.train.inputs, standardiser, augmentation, device, labels.train.views, window=window)
        autocast = torch.bfloat16 if training["precision"] == "bfloat16" else None
        estimate = known
        if "estimate" in identity and known is None:
            assert num_classes is not None
            if len(shape) == 1 and splits.train.inputs[0].is_floating_point():
                features = inputs_of(inputs)
            else:
                options = {
                    "last_batch": last_batch,
                    "accumulate": accumulate,
                    "dtype": dtype,
                    "autocast": autocast,
                    "input_shape": shape,
                }
                features = warmed_features(
                    trial, host.registry, network, inputs, targets, num_classes, device, should_stop, **options
                )
            estimate = estimated(trial, host.registry, features, targets, num_classes)
        main = network()
        run = Run(
            network=main,
            stack=build_stack(trial, host, labels.matrix, estimate),
            source=inputs,
            targets=targets,
            num_classes=num_classes,
            num_outputs=num_outputs,
            epochs=int(training["epochs"]),
            batch_size=int(training["batch_size"]),
            seed=trial.seed,
            device=device,
            build_network=network,
            autocast=autocast,
            class_names=splits.train.class_names,
            name=trial.id,
            input_shape=shape,
            model_source=maker.source,
            transformed=bool(maker.transforms),
            last_batch=last_batch,
            accumulate=accumulate,
            dtype=dtype,
            initial_states=replay.sample_states(),
            estimate=estimate,
        )
        seeds.seed_globals(trial.seed)
        if run.stack.setup is not None:
            run.stack.setup(run=run)
    replay.check({*run.networks, *run.averages}, {n: state.data for n, state in run.sample_states.items()})
    networks = [run.network, *run.networks.values()]
    trained = {id(p): p for network in networks for p in network.parameters}
    trained |= {id(p): p for head in run.heads.values() for p in head.parameters()}
    parameters = sum(p.numel() for p in trained.values())
    trusted = None if labels.known is None else splits.trusted
    order = replay.order(run.epochs, run.num_samples) if fold is None else None
    held = labels.validation.positions
    return Prepared(run, evaluator, labels.digest, parameters, order, trusted, held)


@dataclasses.dataclass(frozen=True)
class NetworkMaker:
    """Makes a network with its optimizer and schedule. A run keeps it, so it holds words and numbers of the setting only."""

    model: ModelMaker
    device: torch.device
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    epochs: int
    dtype: torch.dtype
    replay: Replay
    channels_last: bool = False
    compile: bool = False

    def __call__(
        self,
        stream: str = "",
        *,
        head: nn.Module | None = None,
        optimizer: Table | None = None,
        schedule: Table | None = None,
        epochs: int | None = None,
    ) -> Network:
        """A network of the trial's architecture, initialised by ``stream``, or of a ``head`` that is made already, with
        an optimizer and a schedule: the trial's, or those of the tables that are given."""
        made = self._model(stream) if head is None else head
        with running.current().at(self.model.source, self.model.hook):
            chosen = make_optimizer(chosen_table(OPTIMIZERS, optimizer, self.optimizer), made)
        rates = make_schedule(chosen_table(SCHEDULES, schedule, self.schedule), chosen, epochs or self.epochs)
        if self.compile:
            made.compile()
        return Network(made, chosen, rates)

    def _model(self, stream: str) -> nn.Module:
        model = self.model(stream).to(self.device, self.dtype)
        self.replay.initialise(model, stream)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model  # type: ignore[call-overload,no-any-return]


def _shape(data: LabelledData) -> tuple[int, ...]:
    if isinstance(data.inputs, Tensor):
        return tuple(data.inputs.shape[1:])
    return tuple(sample_at(data.inputs, 0).shape)
