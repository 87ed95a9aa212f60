"""Four small networks, for small images and for the demo.

They accept square images of at least 16 px and learn in seconds on a CPU, where torchvision's
networks, made for 224 px and a million images, are hardly better than chance. Batch normalisation
follows every convolution.

Parameters with 10 labels: tinycnn_8 25,298, tinycnn_16 98,970, tinyresnet_8 19,954,
tinyresnet_16 78,042.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class TinyCNN(nn.Module):
    """Four 3×3 convolutions of w, 2w, 4w and 8w channels with max-pooling between them.

    Args:
        width: channels of the first convolution, w.
        labels: number of logits.
    """

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv_bn_relu(3, width),
            nn.MaxPool2d(2),
            _conv_bn_relu(width, 2 * width),
            nn.MaxPool2d(2),
            _conv_bn_relu(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _conv_bn_relu(4 * width, 8 * width),
        )
        self.head = nn.Linear(8 * width, labels)
        _initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits, (batch, labels), of images, (batch, 3, px, px)."""
        features: Tensor = self.features(images)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class TinyResNet(nn.Module):
    """A residual net of three stages of one basic block, of w, 2w and 4w channels, at half size.

    Args:
        width: channels of the first stage, w.
        labels: number of logits.

    References:
        He et al. 2016, Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385
    """

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        # Residual blocks at full size would take two thirds of the time and not improve AP.
        self.stem = nn.Sequential(_conv_bn_relu(3, width), nn.MaxPool2d(2))
        self.stages = nn.Sequential(
            BasicBlock(width, width),
            _halving_block(width, 2 * width),
            _halving_block(2 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, labels)
        _initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits, (batch, labels), of images, (batch, 3, px, px)."""
        features: Tensor = self.stages(self.stem(images))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


SMALL_NETS: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "tinycnn_8": partial(TinyCNN, 8),
        "tinycnn_16": partial(TinyCNN, 16),
        "tinyresnet_8": partial(TinyResNet, 8),
        "tinyresnet_16": partial(TinyResNet, 16),
    }
)
"""Name → builder, which takes the number of labels."""


def _conv_bn_relu(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _halving_block(channels_in: int, channels_out: int) -> nn.Module:
    # Pooling instead of a stride: with a stride, the weight gradient of a 1x1 convolution writes
    # out of bounds if it has fewer channels than a vector register has floats (oneDNN 3.12 in torch
    # 2.14, channels-last): https://github.com/uxlfoundation/oneDNN/issues/6035
    shortcut = nn.Sequential(
        nn.AvgPool2d(kernel_size=1, stride=2),
        nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False),
        nn.BatchNorm2d(channels_out),
    )
    block: nn.Module = BasicBlock(channels_in, channels_out, stride=2, downsample=shortcut)
    return block


def _initialise_convolutions(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
