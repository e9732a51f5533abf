"""Networks small enough to train from scratch, built by name from a seed.

How they are trained is in `loop`. The papers' networks are in `problem2` and `problem3`.
"""

import torch
from torch import Tensor, nn

from hw3utils.checks import check_whole_number


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max pooling, for 28×28 grey images (LeCun et al. 1998, Fig. 2).

    Input (N, 1, 28, 28) float32, output (N, num_classes) logits. With 10 classes it has 61,706
    parameters. ``features`` ends with the 84 values that ``classifier``, one linear layer, reads.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        # ReLU in place: the same values, one pass over memory less.
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a minibatch."""
        return self.classifier(self.features(images))


class TeacherCNN(nn.Sequential):
    """Three 3×3 convolutions with BatchNorm and a 2×2 max pool each, dropout, one linear layer.

    Input (N, 1, 28, 28) float32, output (N, num_classes) logits. With 10 classes it has 29,178
    parameters, fewer than LeNet-5: what makes it stronger on few labels is BatchNorm and dropout.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            *_convolution(1, 16),
            *_convolution(16, 32),
            *_convolution(32, 64),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(64 * 3 * 3, num_classes),
        )


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    ]


_NETWORKS = {"lenet5": LeNet5, "teacher": TeacherCNN}


def build(name: str, num_classes: int, seed: int) -> nn.Module:
    """Return a network with weights drawn from ``seed``; the global random state stays as it was.

    Raises a ValueError where the name is unknown, or a number is not a whole one.
    """
    if name not in _NETWORKS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(sorted(_NETWORKS))}")
    check_whole_number("num_classes", num_classes)
    check_whole_number("seed", seed, at_least=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _NETWORKS[name](num_classes)
    return model.to(memory_format=torch.channels_last)


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, weights and biases, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())
