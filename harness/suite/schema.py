"""The tables of a suite file and their keys, as pydantic models: the one place that says what a suite may contain."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from harness.errors import HarnessError, SuiteError, unknown
from harness.parameters import check_json, explain
from harness.suite.optim import OPTIMIZERS, SCHEDULES, validate
from harness.tasks import TASKS


def _without_defaults(table: BaseModel, *keys: str, exclude: set[str] | None = None) -> dict[str, Any]:
    """The table without those of ``keys`` that have their default value."""
    plain = {key for key in keys if getattr(table, key) == type(table).model_fields[key].default}
    return table.model_dump(exclude=plain | (exclude or set()))


class Table(BaseModel):
    """A TOML table: unknown keys are errors, types are strict."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


Seed = Annotated[int, Field(ge=0, lt=2**63)]


class SuiteTable(Table):
    """``[suite]``: what the suite is called and which seeds every method faces."""

    name: str = Field(
        min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/ -]*$", description="name of the suite"
    )
    seeds: list[Seed] = Field(description="seeds of the compared trials; empty in a suite that only searches")
    tuning_seeds: list[Seed] = Field(
        default=[], description="seeds on which `search` chooses; never those of the comparison"
    )
    search_over: Literal["setting", "suite"] = Field(
        default="setting",
        description="what one choice of a `search` is for: a setting alone, or all settings of the suite together",
    )
    plugins: list[str] = Field(default=[], description="single-file plugins, beside the suite")
    exclude: list[str | dict[str, Any]] = Field(default=[], description="selections left out of methods x settings")
    description: str = Field(default="", description="what the suite is for")
    unavailable: str = Field(default="", description="why this suite cannot run yet, if so")


class TrainingTable(Table):
    """``[training]``: the budget; settings and methods may override it."""

    epochs: Annotated[int, Field(ge=1)] = Field(default=20, description="passes over the training data")
    batch_size: Annotated[int, Field(ge=1)] = Field(default=128, description="nominal mini-batch size")
    optimizer: dict[str, Any] | str = Field(
        default={"name": "sgd", "lr": 0.05, "momentum": 0.9},
        description="optimizer table; see `harness schema`",
        validate_default=True,
    )
    schedule: dict[str, Any] | str = Field(
        default="constant", description="learning-rate schedule table", validate_default=True
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(default=None, description="gradient norm is clipped to this")
    validation: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="share of the noisy training data held out; the setting's, never a method's"
    )
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        default="float32", description="bfloat16: autocast of the forward pass; float64: weights, inputs and losses"
    )
    last_batch: Literal["scaled", "mean", "drop"] = Field(
        default="scaled",
        description="a short last batch: its summed loss over the nominal size, over its own size, or left out",
    )
    accumulate: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="micro-batches that a mini-batch is worked through in, one after another, for less memory; their "
        "gradients are summed as of one batch",
    )
    length_window: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="texts: batches within which samples are sorted by length, so that batches hold less padding; 0: none",
    )

    @field_validator("optimizer", "schedule")
    @classmethod
    def _filled(cls, value: Any, about: ValidationInfo) -> dict[str, Any]:
        """The table checked by the signature of what it names, with defaults filled in."""
        key = str(about.field_name)
        table = validate(OPTIMIZERS if key == "optimizer" else SCHEDULES, value, key)
        check_json(table, key)
        return table

    def identity(self) -> dict[str, Any]:
        """What enters a trial's id: every key, but for those that came later only where they differ from the default."""
        return _without_defaults(self, "last_batch", "accumulate", "length_window")


class EvaluationTable(Table):
    """``[evaluation]``: what is measured besides test and validation at every epoch."""

    train_every: Annotated[int, Field(ge=1)] = Field(default=5, description="epochs between train-set metrics")
    fgsm: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default=[], description="FGSM epsilons in standardised units, for the last and the selected state"
    )
    metrics: list[str] = Field(
        default=[],
        description="further metrics of the test data at every epoch; `harness components metric` lists them",
    )
    initial: bool = Field(default=False, description="measure the untrained network, as epoch 0")

    def identity(self) -> dict[str, Any]:
        """What enters a trial's id; epsilons and metrics may be added to a finished trial."""
        return _without_defaults(self, "initial", exclude={"fgsm", "metrics"})


class ReplayTable(Table):
    """``[replay]``: files with parts of another run, in place of what a trial would draw; their content is in its id."""

    order: str | None = Field(default=None, description="order of the training samples in each epoch")
    split: str | None = Field(default=None, description="samples for training and validation")
    labels: str | None = Field(default=None, description="noisy targets of the training data")
    init: str | None = Field(default=None, description="initial weights")


class ExecutionTable(Table):
    """``[execution]``: how trials run; nothing here changes a result, so nothing here is in a trial's id."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, cuda:1")
    threads: Annotated[int, Field(ge=1)] = Field(default=1, description="torch threads of a CPU trial")
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(default=None, description="a trial is failed after this")
    keep: bool = Field(default=False, description="keep the selected and last states for `harness evaluate`")
    checkpoint_epochs: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="epochs between checkpoints"
    )
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(default=5.0, description="minutes between checkpoints")
    compile: bool = Field(default=False, description="torch.compile the model")
    channels_last: bool = Field(default=False, description="channels-last memory format")
    loader_workers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="processes that read a data set that streams, beside the trial's own"
    )

    def options(self) -> dict[str, Any]:
        """What goes with a trial."""
        return _without_defaults(self, "loader_workers")


Side = Annotated[int, Field(ge=0)] | Literal["model"]
"""Pixels; `model`: what the model's weights were trained on."""


class AugmentTable(Table):
    """``augment`` of a setting: batched augmentation on the device."""

    crop: Annotated[int, Field(ge=0)] = Field(default=0, description="random crop after zero padding by this")
    flip: bool = Field(default=False, description="random horizontal flip")
    cutout: Annotated[int, Field(ge=0)] = Field(
        default=0, description="side of a square that is set to the mean, 0 after standardisation"
    )
    resize: Side = Field(
        default=0, description="side to which the shorter one of an image is resized, in training and evaluation"
    )
    center_crop: Side = Field(
        default=0, description="side of a square at the centre, in evaluation, and in training without a random crop"
    )
    random_crop: Side = Field(
        default=0, description="training: side of a square within the image; evaluation takes that at the centre"
    )
    random_resized_crop: Side = Field(
        default=0, description="training: side to which a random box is resized; evaluation takes it at the centre"
    )
    crop_scale: tuple[float, float] = Field(
        default=(0.08, 1.0), description="least and largest share of the area of a random box", strict=False
    )
    crop_ratio: tuple[float, float] = Field(
        default=(3 / 4, 4 / 3), description="least and largest width by height of a random box", strict=False
    )
    color_jitter: list[Annotated[float, Field(ge=0)]] = Field(
        default=[], max_length=4, description="strengths of brightness, contrast, saturation and hue (to 0.5)"
    )
    policy: Literal["", "autoaugment", "autoaugment_cifar10", "randaugment"] = Field(
        default="", description="torchvision's AutoAugment (ImageNet's or CIFAR-10's policy) or RandAugment"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        sides = {key: getattr(self, key) for key in ("center_crop", "random_crop", "random_resized_crop")}
        chosen = {key: side for key, side in sides.items() if side}
        if self.random_crop and self.random_resized_crop:
            raise HarnessError("stands beside random_crop", "random_resized_crop", "choose one of them")
        if len(set(chosen.values())) > 1:
            raise HarnessError(f"{' and '.join(chosen)} differ", "center_crop", "a network sees images of one size")
        for key, most in (("crop_scale", 1.0), ("crop_ratio", float("inf"))):
            low, high = getattr(self, key)
            if not 0 < low <= high <= most:
                words = f"should be two numbers in order, above 0{' and at most 1' * (most == 1)}, got [{low}, {high}]"
                raise HarnessError(words, key)
            if getattr(self, key) != type(self).model_fields[key].default and not self.random_resized_crop:
                raise HarnessError("is of a random box", key, "add random_resized_crop, or drop it")
        if len(self.color_jitter) == 4 and self.color_jitter[3] > 0.5:
            raise HarnessError("the strength of hue is at most 0.5, half a turn", "color_jitter")
        return self

    def identity(self) -> dict[str, Any]:
        """What enters a trial's id: what came later only where it is not at its default, with lists as JSON has them. What
        cutout fills is named since it is the mean: it was black before."""
        later = set(type(self).model_fields) - {"crop", "flip", "cutout"}
        found = _without_defaults(self, *later)
        return {
            **{key: list(value) if isinstance(value, tuple) else value for key, value in found.items()},
            **({"cutout_fill": "mean"} if self.cutout else {}),
        }


class SettingTable(Table):
    """``[[setting]]``: what every method faces. Lists expand to their product."""

    dataset: Any = Field(description="data set, or a list of them")
    model: Any = Field(description="model, or a list of them")
    noise: Any = Field(default="none", description="label noise, or a list of them")
    name: str | None = Field(default=None, description="display name; made from the parts when absent")
    augment: Any = Field(default={}, description="augmentation table, or a list of them")
    normalize: Any = Field(
        default="channel",
        description="how inputs are standardised: 'channel', 'scalar', 'none', or 'model': as its weights were trained",
    )
    mean: list[float] | float | None = Field(
        default=None, description="standardisation: mean of each channel in [0, 1] (or feature), or one for all"
    )
    std: list[Annotated[float, Field(gt=0)]] | Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="standardisation: deviation of each channel (or feature), or one for all"
    )
    subset: Any = Field(default=None, description="number of training samples kept, drawn by the split's stream")
    training: dict[str, Any] = Field(default={}, description="overrides of [training]")
    evaluation: dict[str, Any] = Field(default={}, description="overrides of [evaluation]")
    exclude: list[str | dict[str, Any]] = Field(default=[], description="combinations taken out")


class WhenTable(Table):
    """``[[method.when]]``: overrides of a method where a selection of settings holds."""

    select: str = Field(description="selection of settings, such as noise.name=asymmetric")
    loss: Any = Field(default=None, description="loss")
    transforms: Any = Field(default=None, description="transforms, in order")
    algorithms: Any = Field(default=None, description="algorithms, in order")
    optimizer: dict[str, Any] | str | None = Field(default=None, description="optimizer; without a name it is merged")
    schedule: dict[str, Any] | str | None = Field(default=None, description="schedule; without a name it is merged")
    epochs: Annotated[int, Field(ge=1)] | None = Field(default=None, description="epochs")
    batch_size: Annotated[int, Field(ge=1)] | None = Field(default=None, description="batch size")
    clip: Annotated[float, Field(gt=0)] | None = Field(default=None, description="gradient-norm clip")


class MethodTable(Table):
    """``[[method]]``: what is compared."""

    name: str = Field(min_length=1, max_length=80, description="display name")
    loss: Any = Field(
        default=TASKS["classification"].loss, description="loss: a name, or a table with name and parameters"
    )
    transforms: Any = Field(default=[], description="transforms, in order")
    algorithms: Any = Field(default=[], description="algorithms, in order")
    optimizer: dict[str, Any] | str | None = Field(default=None, description="optimizer; without a name it is merged")
    schedule: dict[str, Any] | str | None = Field(default=None, description="schedule; without a name it is merged")
    epochs: Annotated[int, Field(ge=1)] | None = Field(default=None, description="epochs")
    batch_size: Annotated[int, Field(ge=1)] | None = Field(default=None, description="batch size")
    clip: Annotated[float, Field(gt=0)] | None = Field(default=None, description="gradient-norm clip")
    estimate: Any = Field(
        default=None,
        description="estimator of `noise.estimated_rate` and of a matrix: a name, or a table with name, its parameters and "
        "`warmup`, the epochs of plain training before features are taken (not where the data are features); `hoc` after 10",
    )
    when: list[Any] = Field(default=[], description="overrides for selected settings")
    search: dict[str, list[Any]] = Field(default={}, description="candidates by key, chosen on tuning_seeds")
    tries: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="candidates that these parameters were chosen among in a search elsewhere"
    )


TABLES: dict[str, type[Table]] = {
    "suite": SuiteTable,
    "training": TrainingTable,
    "evaluation": EvaluationTable,
    "replay": ReplayTable,
    "execution": ExecutionTable,
    "setting": SettingTable,
    "method": MethodTable,
}


def parse(model: type[Table], value: Any, where: str) -> Any:
    """``value`` as ``model``.

    Raises:
        SuiteError: with file and key of the first problem.
    """
    if not isinstance(value, dict):
        raise SuiteError(f"should be a table, got {value!r}", where)
    for key in value:
        if key not in model.model_fields:
            remedy = ""
            if model in (MethodTable, WhenTable) and key in ("validation", "training", "evaluation", "augment"):
                what = f"a method may not set {key!r}: every method faces the same validation, data and evaluation"
                raise SuiteError(what, where, "set it in [training] or in a [[setting]]")
            raise SuiteError(unknown("key", key, model.model_fields), where, remedy)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        key, words = explain(error)
        raise SuiteError(words, f"{where}.{key}" if key else where) from None
    except HarnessError as error:
        raise SuiteError(error.what, f"{where}.{error.where}", error.remedy) from None
