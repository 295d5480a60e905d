"""ResNets for small images: a 3x3 stem without pooling, the body of He et al. (2016) as torchvision builds it."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from harness import HarnessError


def _resnet(
    block: type[BasicBlock | Bottleneck], layers: list[int], input_shape: tuple[int, ...], num_outputs: int
) -> nn.Module:
    if len(input_shape) != 3:
        raise HarnessError(
            f"needs images, got inputs of shape {tuple(input_shape)}", "models.cifar_resnet", "choose mlp"
        )
    model: nn.Module = ResNet(block, layers, num_classes=num_outputs)
    model.conv1 = nn.Conv2d(input_shape[0], 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def cifar_resnet18(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """ResNet-18 with a 3x3 stem: 11.17 million parameters on CIFAR-10."""
    return _resnet(BasicBlock, [2, 2, 2, 2], input_shape, num_outputs)


def cifar_resnet34(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """ResNet-34 with a 3x3 stem: 21.28 million parameters on CIFAR-10."""
    return _resnet(BasicBlock, [3, 4, 6, 3], input_shape, num_outputs)


def cifar_resnet50(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """ResNet-50 with a 3x3 stem: 23.52 million parameters on CIFAR-10."""
    return _resnet(Bottleneck, [3, 4, 6, 3], input_shape, num_outputs)
