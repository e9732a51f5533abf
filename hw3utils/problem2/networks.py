"""The networks of Problem 2, as their papers describe them, with shapes and without weights.

Every function returns a network on torch's ``meta`` device: made in milliseconds, for counting and
for looking at, not for training. `layers.layer_table` counts them.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

# Columns: number of convolutions, channels. Simonyan & Zisserman 2015, Table 1, column E.
_VGG19_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


def same_padding(kernel: int) -> int:
    """Return the padding (K − 1)/2 with which a convolution of stride 1 keeps its input's size.

    Raises a ValueError unless the kernel is a positive odd integer: an even one would need unequal
    padding on the two sides.
    """
    if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
        raise ValueError(
            f"kernel={kernel!r}: 'same' padding is (kernel − 1)/2 on both sides, which needs a "
            "positive odd integer such as 1, 3 or 5"
        )
    return (kernel - 1) // 2


def alexnet(groups: int = 2) -> nn.Sequential:
    """Return the AlexNet of Krizhevsky, Sutskever & Hinton 2012, Sec. 3.5, for 227×227 images.

    With 2 groups as in the paper, two GPUs each hold half of the channels, and convolutions 2, 4
    and 5 see their own half only; with 1 every convolution sees all channels. Other numbers are
    refused with a ValueError.
    """
    if groups not in (1, 2):
        raise ValueError(f"groups={groups!r}: choose 2 (the paper's two GPUs) or 1 (ungrouped)")
    with torch.device("meta"):
        return _chain(
            conv1=nn.Conv2d(3, 96, 11, stride=4),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2),
            conv2=nn.Conv2d(96, 256, 5, padding=2, groups=groups),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2),
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, 3, padding=1, groups=groups),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, 3, padding=1, groups=groups),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2),
            **_classifier(6 * 6 * 256),
        )


def vgg19() -> nn.Sequential:
    """Return VGG-19, column E of Table 1 of Simonyan & Zisserman 2015, for 224×224 images.

    Sixteen 3×3 convolutions with padding 1 in blocks of 2, 2, 4, 4, 4, each block closed by a 2×2
    max pool of stride 2, then three linear layers.
    """
    layers: dict[str, nn.Module] = {}
    channels = 3
    with torch.device("meta"):
        for block, (depth, width) in enumerate(_VGG19_BLOCKS, start=1):
            for index in range(1, depth + 1):
                layers[f"conv{block}_{index}"] = nn.Conv2d(channels, width, 3, padding=1)
                layers[f"relu{block}_{index}"] = nn.ReLU()
                channels = width
            layers[f"pool{block}"] = nn.MaxPool2d(2, stride=2)
        return _chain(**layers, **_classifier(7 * 7 * 512))


def _classifier(inputs: int) -> dict[str, nn.Module]:
    """Return the three linear layers with which AlexNet and VGG end."""
    return {
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(inputs, 4096),
        "relu6": nn.ReLU(),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(),
        "fc8": nn.Linear(4096, 1000),
    }


class Inception(nn.Module):
    """An Inception module: branches side by side, their outputs joined along the channels.

    Each branch maps the same input to a map of the same height and width.
    """

    def __init__(self, branches: dict[str, nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs, N×ΣC×H×W, for an input N×C×H×W."""
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


def inception_naive(
    channels: int = 256, filters: tuple[int, int, int] = (128, 192, 96)
) -> Inception:
    """Return the naive module of Szegedy et al. 2014, Fig. 2(a), with the handout's filter counts.

    ``channels`` is what comes in; ``filters`` are those of the 1×1, 3×3 and 5×5 convolution. The
    pool keeps all input channels.
    """
    one, three, five = filters
    with torch.device("meta"):
        return Inception(
            {
                "1x1": _chain(conv1x1=_conv(channels, one, 1)),
                "3x3": _chain(conv3x3=_conv(channels, three, 3)),
                "5x5": _chain(conv5x5=_conv(channels, five, 5)),
                "pool": _chain(pool3x3=nn.MaxPool2d(3, stride=1, padding=1)),
            }
        )


def inception_reduced(
    channels: int = 256,
    filters: tuple[int, int, int] = (128, 192, 96),
    reductions: tuple[int, int] = (128, 32),
    projection: int = 64,
) -> Inception:
    """Return the module with dimension reduction of Szegedy et al. 2014, Fig. 2(b).

    As `inception_naive`, with ``reductions`` filters in the 1×1 convolutions (each with a ReLU)
    before the 3×3 and the 5×5, and ``projection`` filters in the one after the pool.
    """
    one, three, five = filters
    before_three, before_five = reductions
    with torch.device("meta"):
        return Inception(
            {
                "1x1": _chain(conv1x1=_conv(channels, one, 1)),
                "3x3": _chain(
                    reduce1x1=_conv(channels, before_three, 1),
                    relu=nn.ReLU(),
                    conv3x3=_conv(before_three, three, 3),
                ),
                "5x5": _chain(
                    reduce1x1=_conv(channels, before_five, 1),
                    relu=nn.ReLU(),
                    conv5x5=_conv(before_five, five, 5),
                ),
                "pool": _chain(
                    pool3x3=nn.MaxPool2d(3, stride=1, padding=1),
                    project1x1=_conv(channels, projection, 1),
                ),
            }
        )


class RegionProposalHead(nn.Module):
    """The region proposal network's own layers (Ren et al. 2015, Sec. 3.1 and Fig. 3).

    A 3×3 convolution slides over the shared feature map; two sibling 1×1 convolutions give, at
    each position, 2 objectness scores and 4 box offsets for each of the k anchors. The shared map
    has 512 channels for VGG-16 and 256 for ZF.
    """

    def __init__(self, channels: int = 512, anchors: int = 9) -> None:
        super().__init__()
        self.sliding = _conv(channels, channels, 3)
        self.objectness = _conv(channels, 2 * anchors, 1)
        self.offsets = _conv(channels, 4 * anchors, 1)

    def forward(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores N×2k×H×W and offsets N×4k×H×W for a shared map N×C×H×W."""
        features = torch.relu(self.sliding(shared))
        return self.objectness(features), self.offsets(features)


def torchvision_network(name: str) -> nn.Module:
    """Return torchvision's own network of that name, or raise its ValueError if there is none."""
    from torchvision.models import get_model  # a second's work, which not every command needs

    with torch.device("meta"):
        return get_model(name, weights=None)


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Return a convolution of stride 1 that keeps height and width."""
    return nn.Conv2d(inputs, outputs, kernel, padding=same_padding(kernel))


def _chain(**layers: nn.Module) -> nn.Sequential:
    """Return the layers in order, under their names."""
    return nn.Sequential(OrderedDict(layers))
