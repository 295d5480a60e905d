"""The small ResNets of He et al. (2016, section 4.2): three stages, for a machine without a GPU."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from harness import HarnessError
from harness.parameters import Count


class _SmallResNet(nn.Module):
    def __init__(self, channels: int, num_outputs: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        layers: list[nn.Module] = []
        fan_in = width
        for stage in range(3):
            fan_out = width * 2**stage
            for position in range(blocks):
                halved = 2 if stage > 0 and position == 0 else 1
                shortcut = None
                if fan_in != fan_out:
                    convolution = nn.Conv2d(fan_in, fan_out, 1, stride=halved, bias=False)
                    shortcut = nn.Sequential(convolution, nn.BatchNorm2d(fan_out))
                layers.append(BasicBlock(fan_in, fan_out, halved, shortcut))
                fan_in = fan_out
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(fan_in, num_outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.layers(self.relu(self.bn1(self.conv1(inputs))))
        outputs: Tensor = self.fc(features.mean((2, 3)))
        return outputs


def small_resnet(
    input_shape: tuple[int, ...], num_outputs: int, width: Count = 16, blocks: Count = 3, stride: Count = 1
) -> nn.Module:
    """A ResNet of ``6 blocks + 2`` layers for small images (He et al., 2016, section 4.2), by default ResNet-20.

    Three stages with ``width``, ``2 width`` and ``4 width`` channels, the second and third at half the size, then the mean over
    all places. 0.27 million parameters on CIFAR-10. Deviation: where the width changes the shortcut is a 1x1 convolution
    (their option B), not padding with zeros.

    Args:
        width: channels of the first stage.
        blocks: residual blocks of each stage, two convolutions each.
        stride: of the stem; 2 makes everything after it about four times as cheap.
    """
    if len(input_shape) != 3:
        raise HarnessError(
            f"needs images, got inputs of shape {tuple(input_shape)}", "models.small_resnet", "choose mlp"
        )
    return _SmallResNet(input_shape[0], num_outputs, width, blocks, stride)
