"""What regression losses share: residuals, and the sum of their element-wise losses over outputs."""

from __future__ import annotations

from torch import Tensor

from harness import HarnessError


def residuals(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """``outputs - targets`` in the shape of ``outputs`` (B, O), with targets (B,) or (B, O).

    Raises:
        HarnessError: when there is not one target for each output.
    """
    if targets.numel() != outputs.numel() or len(targets) != len(outputs):
        raise HarnessError(
            f"takes a target for each of the outputs {tuple(outputs.shape)}, got {tuple(targets.shape)}",
            f"losses.{loss}",
            "give the model as many outputs as a target has entries",
        )
    return outputs - targets.reshape(outputs.shape)


def over_outputs(losses: Tensor) -> Tensor:
    """(B,) the sum over outputs of element-wise losses (B, O), as the KPD paper has it for all of them."""
    return losses.flatten(1).sum(1) if losses.ndim > 1 else losses
