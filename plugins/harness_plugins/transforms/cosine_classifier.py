"""Cosine classifier (Gidaris and Komodakis, CVPR 2018): the last layer compares directions only."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from harness import Declares, HarnessError
from harness.parameters import Positive

WHERE = "transforms.cosine_classifier"


class CosineLinear(nn.Linear):
    """``scale * cos(feature, w_k)`` for each class; the length of features and weights does not count."""

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """(B, K) logits in [-scale, scale] of (B, d) features."""
        return self.scale * functional.linear(
            functional.normalize(features, dim=-1), functional.normalize(self.weight, dim=-1)
        )

    def extra_repr(self) -> str:
        """What a linear layer shows, and the scale."""
        return f"{super().extra_repr()}, scale={self.scale}"


class CosineClassifier:
    """The last linear layer becomes `scale * normalise(feature) . normalise(w_k)`, without a bias.

    As in the official code of SURE (YutingLi0606/SURE, a355ecfcd1f8), which keeps a bias that no output depends on; here
    there is none. The layer starts with the weights that the model gave it; a factorised weight (`kpd`,
    `rank_factorization`, before or after) stays factorised.

    Args:
        scale: the inverse temperature; 8.
    """

    declares = Declares(
        refuses=dict.fromkeys(("sop_linear", "sparse_recovery"), "theta is a linear map, and cosines are none")
    )

    def __init__(self, scale: Positive = 8.0) -> None:
        self.scale = scale

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
        cosine = CosineLinear(layer.in_features, layer.out_features, self.scale).to(layer.weight)
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.transfer_parametrizations_and_params(layer, cosine, "weight")
        else:
            cosine.weight = layer.weight
        cosine.train(layer.training)
        if not path:
            return cosine
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, cosine)
        return model
