"""From a trial's words to a run and its evaluator: data, split, noise, model, transforms, stack."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from harness.errors import ComponentError, DataError, HarnessError
from harness.parameters import NOISE_MATRIX
from harness.plugins import Host
from harness.suite.trial import Trial, canonical
from harness.training import seeds
from harness.training.augment import Augmentation
from harness.training.data import (
    DataSplits,
    LabelledData,
    Part,
    Standardiser,
    count,
    make_source,
    split_validation,
    stratified_subset,
)
from harness.training.evaluation import Evaluator
from harness.training.memory import keep_freed_memory
from harness.training.optim import make_optimizer, make_schedule
from harness.training.replay import Replay
from harness.training.run import Network, Run
from harness.training.stack import Stack

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


def load_data(trial: Trial, host: Host, cache: DataCache | None = None) -> DataSplits:
    """The data set of a trial, from the worker's cache when it is there."""
    spec = trial.identity["dataset"]
    key = canonical(spec)
    if cache is not None and key in cache:
        return cache[key]
    splits = host.registry.create("dataset", spec["name"], spec["params"])
    if not isinstance(splits, DataSplits):
        raise ComponentError(
            f"made {type(splits).__name__}, not harness.DataSplits", f"datasets.{spec['name']}", "mend its factory"
        )
    if cache is not None:
        cache.clear()  # a worker's trials mostly share one data set; keeping several would fill memory
        cache[key] = splits
    return splits


def refuse_labels(inputs: Tensor | Dataset[Any], targets: Tensor, where: str) -> None:
    """Refuse streaming inputs that keep their labels: a run holds the torch ``Dataset``, and so a method could read them.

    Only what lies near is looked at, :data:`WALKED` objects or so: a few seconds where a million files are listed.

    Raises:
        DataError: naming the place.
    """
    if isinstance(inputs, Tensor):
        return
    from harness.testing.reach import holds, reachable  # only streaming trials need it

    index: Any = None
    while isinstance(inputs, (Part, Subset)):
        inner = torch.as_tensor(inputs.index if isinstance(inputs, Part) else inputs.indices)
        index = inner if index is None else inner[index]
        inputs = inputs.base if isinstance(inputs, Part) else inputs.dataset
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


def make_noise(trial: Trial, host: Host) -> Any:
    """The noise of a trial."""
    spec = trial.identity["noise"]
    return host.registry.create("noise", spec["name"], spec["params"])


def corrupt(trial: Trial, host: Host, splits: DataSplits, *, need_matrix: bool = False) -> Labels:
    """Split first, then corrupt training and validation targets separately.

    Both depend on data set, noise and seed only, so methods with one seed face the very same noisy labels.
    """
    identity = trial.identity
    dataset, noise = canonical(identity["dataset"]), canonical(identity["noise"])
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
    given_labels = replay.labels(splits.train.targets, data.num_classes)
    noisy = {}
    for name, part in (("train", train), ("validation", validation)):
        if given_labels is not None:
            assert part.positions is not None
            noisy[name] = given_labels[part.positions]
            continue
        given = dataclasses.replace(part, targets=part.targets.clone())  # a noise may write into what it is given
        drawn = torch.as_tensor(apply(given, rng=seeds.numpy_stream(trial.seed, "noise", dataset, noise, name)))
        noisy[name] = _checked(drawn, part, identity["noise"]["name"])
    matrix = None
    if need_matrix:
        matrix = torch.as_tensor(apply.transition_matrix(train)).double()
    content = hashlib.sha256()
    for name in ("train", "validation"):
        content.update(noisy[name].contiguous().numpy().tobytes())
    return Labels(train, noisy["train"], validation, noisy["validation"], content.hexdigest()[:16], matrix)


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
    return drawn.to(clean.targets.dtype).clone()


def build_model(
    trial: Trial, host: Host, input_shape: tuple[int, ...], num_outputs: int, stream: str = ""
) -> nn.Module:
    """The transformed model on CPU, initialised by the stream ``init`` alone."""
    identity = trial.identity
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(trial.seed, "init", stream) if stream else seeds.derive(trial.seed, "init"))
        spec = identity["model"]
        model: nn.Module = host.registry.create(
            "model", spec["name"], spec["params"], input_shape=input_shape, num_outputs=num_outputs
        )
        if not isinstance(model, nn.Module):
            raise ComponentError(f"made {type(model).__name__}, not a torch module", f"models.{spec['name']}")
        for spec in identity["transforms"]:
            model = host.registry.create("transform", spec["name"], spec["params"])(model)
    return model


def build_stack(trial: Trial, host: Host, matrix: Tensor | None) -> Stack:
    """Loss and algorithms, with ``"noise.matrix"`` replaced by the matrix."""
    registry = host.registry

    def make(kind: str, spec: Mapping[str, Any]) -> Any:
        params = {
            key: matrix.tolist() if value == NOISE_MATRIX and matrix is not None else value
            for key, value in spec["params"].items()
        }
        return registry.create(kind, spec["name"], params)

    loss_spec = trial.identity["loss"]
    component, _ = registry.find("loss", loss_spec["name"])
    specs = trial.identity["algorithms"]
    return Stack(
        make("loss", loss_spec),
        [make("algorithm", spec) for spec in specs],
        [spec["name"] for spec in specs],
        loss_spec["name"],
        registry.facts(component).declares.per_batch,
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


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A trial ready to train."""

    run: Run
    evaluator: Evaluator
    label_digest: str
    parameters: int
    order: Tensor | None = None
    """(epochs, N) the replayed order of the training samples."""


def prepare(trial: Trial, host: Host, device: torch.device, cache: DataCache | None = None) -> Prepared:
    """Everything that a trial needs before its first batch."""
    keep_freed_memory()
    identity = trial.identity
    training = identity["training"]
    execution = trial.options.get("execution", {})
    splits = load_data(trial, host, cache)
    dtype = torch.float64 if training["precision"] == "float64" else torch.float32
    if dtype == torch.float64 and device.type == "mps":
        raise HarnessError("MPS has no float64", "training.precision", 'set execution.device = "cpu"')
    labels = corrupt(trial, host, splits, need_matrix=needs_matrix(trial))
    if len(labels.train) == 0:
        raise DataError("no training samples are left after the split", f"datasets.{identity['dataset']['name']}")
    refuse_labels(splits.train.inputs, splits.train.targets, f"datasets.{identity['dataset']['name']}")
    last_batch = training.get("last_batch", "scaled")
    if last_batch == "drop" and len(labels.train) < int(training["batch_size"]):
        raise DataError(
            f"the only batch is a short one of {len(labels.train)} samples", "training.last_batch", "choose 'mean'"
        )
    standardiser: Standardiser | None
    if "mean" in identity:
        standardiser = Standardiser.given(splits.train.inputs, identity["mean"], identity["std"], dtype)
    else:
        standardiser = Standardiser.fit(splits.train.inputs, identity["normalize"], dtype)
    augment = {key: identity["augment"][key] for key in ("crop", "flip", "cutout")}
    if standardiser is None and any(augment.values()):
        raise DataError("token inputs cannot be augmented", "augment", "remove the augmentation")
    augmentation = Augmentation(**augment, zero=standardiser.zero if standardiser is not None else None)
    if augmentation.active and len(_shape(splits.train)) != 3:
        raise DataError("only images can be augmented", "augment", "remove the augmentation")
    plain = Augmentation()
    has_validation = len(labels.validation) > 0
    evaluator = Evaluator(
        test=make_source(splits.test.inputs, standardiser, plain, device),
        test_targets=splits.test.targets,
        validation=make_source(labels.validation.inputs, standardiser, plain, device) if has_validation else None,
        validation_targets=labels.validation_noisy if has_validation else None,
        train_clean=labels.train.targets,
        train_noisy=labels.train_noisy,
        train_every=int(identity["evaluation"]["train_every"]),
        device=device,
    )
    targets = labels.train_noisy.to(device)
    if targets.is_floating_point():
        targets = targets.to(dtype)
    replay = Replay(trial)
    num_classes = splits.train.num_classes
    num_outputs = num_classes if num_classes is not None else (1 if targets.ndim == 1 else targets.shape[1])
    shape = _shape(splits.train)

    def network(stream: str = "") -> Network:
        model = build_model(trial, host, shape, num_outputs, stream).to(device, dtype)
        replay.initialise(model, stream)
        if execution.get("channels_last"):
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = make_optimizer(training["optimizer"], model)
        schedule = make_schedule(training["schedule"], optimizer, int(training["epochs"]))
        if execution.get("compile"):
            model.compile()
        return Network(model, optimizer, schedule)

    main = network()
    run = Run(
        network=main,
        stack=build_stack(trial, host, labels.matrix),
        source=make_source(labels.train.inputs, standardiser, augmentation, device),
        targets=targets,
        num_classes=num_classes,
        num_outputs=num_outputs,
        epochs=int(training["epochs"]),
        batch_size=int(training["batch_size"]),
        seed=trial.seed,
        device=device,
        build_network=network,
        autocast=torch.bfloat16 if training["precision"] == "bfloat16" else None,
        class_names=splits.train.class_names,
        name=trial.id,
        last_batch=last_batch,
        dtype=dtype,
        initial_states=replay.sample_states(),
    )
    seeds.seed_globals(trial.seed)
    if run.stack.setup is not None:
        run.stack.setup(run=run)
    replay.check(run.networks, {name: state.data for name, state in run.sample_states.items()})
    parameters = sum(p.numel() for p in run.model_parameters)
    parameters += sum(p.numel() for n in run.networks.values() for p in n.model.parameters() if p.requires_grad)
    return Prepared(run, evaluator, labels.digest, parameters, replay.order(run.epochs, run.num_samples))


def _shape(data: LabelledData) -> tuple[int, ...]:
    if isinstance(data.inputs, Tensor):
        return tuple(data.inputs.shape[1:])
    return tuple(data.inputs[0].shape)
