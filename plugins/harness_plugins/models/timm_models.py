"""Every model of timm, as ``timm:<name>``; only then is timm imported."""

from __future__ import annotations

import inspect

from torch import nn

from harness import HarnessError
from harness.errors import unknown


def timm_model(variant: str, input_shape: tuple[int, ...], num_outputs: int, pretrained: bool = False) -> nn.Module:
    """A model of timm with as many input channels, pixels and outputs as the data have.

    Args:
        variant: timm's name of the model.
        pretrained: start from timm's downloaded weights.
    """
    import timm

    if len(input_shape) != 3:
        raise HarnessError(f"needs images, got inputs of shape {tuple(input_shape)}", f"models.timm:{variant}", "choose mlp")
    if not timm.is_model(variant):
        raise HarnessError(unknown("timm model", variant, timm.list_models()), "models.timm")
    options = {"pretrained": pretrained, "in_chans": input_shape[0], "num_classes": num_outputs}
    entry = inspect.getsource(timm.model_entrypoint(variant))
    if "vision_transformer" in entry or "VisionTransformer" in entry or "swin" in variant:
        options["img_size"] = input_shape[1:]
    try:
        return timm.create_model(variant, **options)
    except TypeError:  # models that take no image size are fully convolutional and need none
        options.pop("img_size", None)
        return timm.create_model(variant, **options)
