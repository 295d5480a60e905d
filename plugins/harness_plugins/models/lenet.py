"""LeNet as the CDR code has it, for images of any size and number of channels."""

from __future__ import annotations

from torch import Tensor, nn

from harness import HarnessError


class LeNet(nn.Module):
    """LeNet: conv 6@5 (padding 2), pool, conv 16@5, pool, 120-84-K with ReLU and max-pooling (LeCun et al., 1998; the
    variant of CDR's code). 61,706 parameters on 28 x 28 x 1 with 10 classes."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 8:
            raise HarnessError(
                f"needs images of at least 8 x 8, got shape {tuple(input_shape)}", "models.lenet", "choose mlp"
            )
        channels, height, width = input_shape
        padding = 0 if min(height, width) >= 12 else 2  # 8 x 8 digits leave no room for a valid 5 x 5 after the pool
        side = [(size // 2 - 4 + 2 * padding) // 2 for size in (height, width)]
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * side[0] * side[1], 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_outputs),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, K) logits of (B, C, H, W) images."""
        outputs: Tensor = self.classifier(self.features(inputs))
        return outputs
