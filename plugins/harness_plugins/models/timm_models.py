"""Every model of timm, as ``timm:<name>``; only then is timm imported."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from harness import HarnessError
from harness.errors import did_you_mean
from harness.parameters import Count


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
        pretrained: start from timm's downloaded weights.
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
    try:
        try:
            model: nn.Module = timm.create_model(variant, img_size=tuple(size), **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            model = timm.create_model(variant, **options)
    except TypeError as error:
        raise HarnessError(f"timm refuses it: {error}", where, "remove patch_size") from None
    except (AssertionError, ValueError, ZeroDivisionError) as error:
        raise HarnessError(_too_small(size, error), where, "choose another model, or a smaller patch_size") from None
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise HarnessError(f"its weights cannot be downloaded: {first}", where, "set pretrained = false") from None
    patches = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patches, tuple) and any(side % patch for side, patch in zip(size, patches, strict=True)):
        raise HarnessError(
            f"patches of {patches[0]} x {patches[1]} would leave out part of {size[0]} x {size[1]} pixels",
            where,
            "give a patch_size that divides them",
        )
    _try_forward(model, input_shape, where)
    return model


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
