"""Every model of timm, as ``timm:<name>``; only then is timm imported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness import HarnessError
from harness.errors import did_you_mean
from harness.parameters import Count
from harness.paths import data_folder

WEIGHTS = "model.safetensors"
"""The one file of weights that is read: it holds tensors and no code."""


def timm_model(
    variant: str,
    input_shape: tuple[int, ...],
    num_outputs: int,
    pretrained: bool = False,
    patch_size: Count | None = None,
) -> nn.Module:
    """A model of timm with as many input channels, pixels and outputs as the data have.

    Models with an image size of their own (ViT, Swin, MLP-Mixer) get that of the data; convolutional ones need none.

    Args:
        variant: timm's name of the model.
        pretrained: start from the weights in the folder `models/<variant>` under `HARNESS_DATA`, in timm's layout
            (`config.json`, `model.safetensors`), or else from those that timm downloads.
        patch_size: side of a patch, for models that have patches; by default the model's own.
    """
    import timm

    where = f"models.timm:{variant}"
    if len(input_shape) != 3:
        raise HarnessError(f"needs images, got inputs of shape {tuple(input_shape)}", where, "choose mlp")
    if not timm.is_model(variant):
        hint = did_you_mean(variant, timm.list_models()) or "timm.list_models() has their names"
        raise HarnessError(f"unknown timm model {variant!r}", "models.timm", hint)
    channels, *size = input_shape
    options: dict[str, Any] = {"pretrained": pretrained, "in_chans": channels, "num_classes": num_outputs}
    if patch_size is not None:
        options["patch_size"] = patch_size
    kept = _kept(variant) if pretrained else None
    name = variant
    if kept is not None:
        _check_architecture(kept, variant, where)
        name = f"local-dir:{kept}"
    try:
        try:
            model: nn.Module = timm.create_model(name, img_size=tuple(size), **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            model = timm.create_model(name, **options)
    except TypeError as error:
        raise HarnessError(f"timm refuses it: {error}", where, "remove patch_size") from None
    except (AssertionError, ValueError, ZeroDivisionError) as error:
        raise HarnessError(_too_small(size, error), where, "choose another model, or a smaller patch_size") from None
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        first = " ".join((str(error) or type(error).__name__).split())
        if kept is not None:
            raise HarnessError(f"{kept / WEIGHTS} does not fit: {first}", where, "copy the model's own there") from None
        raise HarnessError(
            f"its weights cannot be downloaded: {first}",
            where,
            f"copy them into {data_folder() / 'models' / variant}, or set pretrained = false",
        ) from None
    if kept is not None:
        _check_tensors(kept, model, where)
    patches = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patches, tuple) and any(side % patch for side, patch in zip(size, patches, strict=True)):
        raise HarnessError(
            f"patches of {patches[0]} x {patches[1]} would leave out part of {size[0]} x {size[1]} pixels",
            where,
            "give a patch_size that divides them",
        )
    _try_forward(model, input_shape, where)
    return model


def preprocessing(variant: str, pretrained: bool = False, patch_size: Count | None = None) -> dict[str, Any] | None:
    """What a model's weights were trained on: `mean` and `std` of each channel, `size` of the images' side in pixels.

    Without pretrained weights there is none.
    """
    if not pretrained:
        return None
    kept = _kept(variant)
    if kept is not None:
        told = _config(kept, f"models.timm:{variant}").get("pretrained_cfg", {})
    else:
        import timm

        found = timm.get_pretrained_cfg(variant)
        told = dataclasses.asdict(found) if found is not None else {}
    if not {"mean", "std", "input_size"} <= set(told):
        return None
    return {"mean": list(told["mean"]), "std": list(told["std"]), "size": int(told["input_size"][-1])}


timm_model.preprocessing = preprocessing  # type: ignore[attr-defined]


def _kept(variant: str) -> Path | None:
    """The folder of weights that lie under `HARNESS_DATA`."""
    folder = (data_folder() / "models" / variant).absolute()
    return folder if (folder / WEIGHTS).is_file() else None


def _config(folder: Path, where: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text())
        return found
    except (OSError, ValueError):
        raise HarnessError(
            f"{folder / 'config.json'} cannot be read", where, "copy the one that came with the weights"
        ) from None


def _check_architecture(folder: Path, variant: str, where: str) -> None:
    architecture = _config(folder, where).get("architecture")
    if architecture != variant.partition(".")[0]:
        raise HarnessError(
            f"{folder} holds weights of {architecture!r}", where, f"choose timm:{architecture}, or copy others there"
        )


def _check_tensors(folder: Path, model: nn.Module, where: str) -> None:
    """timm passes over tensors that a file lacks or has beside the model's; but for the classifier, none may differ."""
    from safetensors import safe_open

    told = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    heads = tuple(f"{name}." for name in ((told,) if isinstance(told, str) else told))
    with safe_open(folder / WEIGHTS, "pt") as file:
        found = {key for key in file.keys() if not key.startswith(heads)}  # noqa: SIM118 -- no mapping
    wanted = {key for key in model.state_dict() if not key.startswith(heads)}
    if found != wanted:
        some = sorted(found ^ wanted)[0]
        raise HarnessError(
            f"{folder / WEIGHTS} does not fit: {some!r} is only in {'the file' if some in found else 'the model'}",
            where,
            "copy the model's own there",
        )


def _try_forward(model: nn.Module, input_shape: tuple[int, ...], where: str) -> None:
    """One image through the model: a size that does not fit is told now, in one line, and not from inside a trial."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *input_shape))
    except (AssertionError, RuntimeError) as error:
        raise HarnessError(
            _too_small(list(input_shape[1:]), error), where, "choose another model or patch_size"
        ) from None
    finally:
        model.train(was_training)


def _too_small(size: list[int], error: Exception) -> str:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"does not take images of {' x '.join(map(str, size))} pixels: {first}"
