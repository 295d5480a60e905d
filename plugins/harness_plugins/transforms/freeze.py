"""Freeze a model but for some of its parts, as pretrained networks are fine-tuned."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness import Declares, HarnessError
from harness.errors import did_you_mean
from harness_plugins.transforms.lora import LowRankUpdate, named

WHERE = "transforms.freeze"


class Freeze:
    """All parameters keep their values but those of the named parts, and what `lora` adds, before or after.

    Statistics of batch normalisation still move while training, as everywhere in torch, or are `kept`, as in TensorFlow.
    Checkpoints and kept states do not hold what is frozen: it is what the model starts with.

    Args:
        except: names of the parts that are trained: ends of the paths of modules, such as `classifier`, or of parameters.
            `pre_classifier|classifier` is whichever the model has.
        statistics: of frozen layers with batch normalisation: `moving`, or `kept`: such a layer always normalises by those
            that it starts with.
    """

    declares = Declares(tasks=("classification", "multilabel", "regression"), later=("statistics",))

    def __init__(self, except_: list[str], statistics: Literal["moving", "kept"] = "moving") -> None:
        self.kept = except_
        self.statistics = statistics

    def __call__(self, model: nn.Module) -> nn.Module:
        """Freeze a model in place and return it.

        Raises:
            HarnessError: when a name is of no module and no parameter.
        """
        modules = dict(model.named_modules())
        parameters = dict(model.named_parameters())
        trained = {id(p) for m in model.modules() if isinstance(m, LowRankUpdate) for p in m.parameters()}
        for name in self.kept:
            found = [p for path, module in modules.items() if named(path, name) for p in module.parameters()]
            found += [p for path, p in parameters.items() if named(path, name)]
            if not found:
                tops = [path for path, _ in model.named_children()]
                hint = did_you_mean(name, [path.rpartition(".")[2] for path in modules if path])
                raise HarnessError(
                    f"the model has no part {name!r}", f"{WHERE}.except", hint or f"choose from {', '.join(tops)}"
                )
            trained |= {id(p) for p in found if p.requires_grad}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        if self.statistics == "kept":
            for module in modules.values():
                if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
                    module.register_forward_pre_hook(_evaluating)
        return model


def _evaluating(module: nn.Module, inputs: object) -> None:
    """Let a layer normalise by its statistics, in whatever mode its network is."""
    module.eval()
