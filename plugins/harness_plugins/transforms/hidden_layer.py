"""A hidden layer before a model's last one, as heads of frozen networks have it."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import UninitializedParameter

from harness import Declares, HarnessError
from harness.parameters import Count

WHERE = "transforms.hidden_layer"


class HiddenLayer:
    """The last linear layer becomes a linear layer of `width` units, ReLU, and a new last layer.

    Appendix E.3 of the RRM paper puts 512 units on a frozen ResNet-50; with `freeze` and its `except = ["fc"]` the two layers
    are what is trained, 1,050,114 parameters for two classes, as printed. Both are initialised by torch's defaults; the
    weights of the layer that they replace are dropped.

    Args:
        width: units of the hidden layer.
    """

    declares = Declares(
        tasks=("classification", "multilabel", "regression"),
        refuses=dict.fromkeys(("sop_linear", "sparse_recovery"), "theta is a linear map, and ReLU is none"),
    )

    def __init__(self, width: Count = 512) -> None:
        self.width = width

    def __call__(self, model: nn.Module) -> nn.Module:
        """Replace a model's last linear layer in place and return it.

        Raises:
            HarnessError: when the model has no linear layer, or its last one has no size yet.
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise HarnessError("the model has no linear layer to replace", WHERE, "remove the transform")
        path, layer = layers[-1]
        if isinstance(layer, nn.LazyLinear) or isinstance(layer.weight, UninitializedParameter):
            raise HarnessError(f"the weight of {path} has no shape yet", WHERE, "give the layer its input size")
        head = nn.Sequential(
            nn.Linear(layer.in_features, self.width), nn.ReLU(), nn.Linear(self.width, layer.out_features)
        ).to(layer.weight)
        head.train(layer.training)
        if not path:
            return head
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, head)
        return model
