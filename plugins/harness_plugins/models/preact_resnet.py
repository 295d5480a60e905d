"""Pre-activation ResNet-18 (He et al., 2016b) with a 3x3 stem, as DivideMix, ELR+ and SOP+ use it.

Their layout departs from the paper's: the stem has its own normalisation, the shortcut of every block starts from the
activated input, and nothing normalises the last sum.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from harness import HarnessError


class _Block(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(fan_in)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False) if stride != 1 or fan_in != fan_out else None
        )

    def forward(self, inputs: Tensor) -> Tensor:
        active = functional.relu(self.bn1(inputs))
        skipped = active if self.shortcut is None else self.shortcut(active)
        outputs: Tensor = self.conv2(functional.relu(self.bn2(self.conv1(active)))) + skipped
        return outputs


class _PreActResNet(nn.Module):
    def __init__(self, blocks: list[int], channels: int, num_outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        layers: list[nn.Module] = []
        fan_in = 64
        for stage, (fan_out, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
            for position in range(count):
                layers.append(_Block(fan_in, fan_out, 2 if stage > 0 and position == 0 else 1))
                fan_in = fan_out
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(512, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.layers(functional.relu(self.bn1(self.conv1(inputs))))
        outputs: Tensor = self.fc(features.mean((2, 3)))
        return outputs


def preact_resnet18(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Pre-activation ResNet-18 with a 3x3 stem: 11.17 million parameters on CIFAR-10."""
    if len(input_shape) != 3:
        raise HarnessError(
            f"needs images, got inputs of shape {tuple(input_shape)}", "models.preact_resnet18", "choose mlp"
        )
    return _PreActResNet([2, 2, 2, 2], input_shape[0], num_outputs)
