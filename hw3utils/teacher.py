"""A network stronger than LeNet-5, to teach it; and a student's loss on a teacher's soft labels.

For Problem 4. The networks of the other problems are in `models`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils.checks import check_whole_number

__all__ = ["TeacherCNN", "build_teacher", "distillation_loss"]


MOST_TEMPERATURE = 1e6


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


def build_teacher(num_classes: int, seed: int) -> nn.Module:
    """Return a `TeacherCNN` with weights drawn from ``seed``; the global random state stays."""
    check_whole_number("num_classes", num_classes)
    check_whole_number("seed", seed, at_least=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TeacherCNN(num_classes)
    return model.to(memory_format=torch.channels_last)


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy between softened outputs, times the temperature squared.

    Hinton et al. 2015 (1503.02531, Sec. 2): both softmaxes are taken at the same temperature, and
    the square keeps the size of the gradients as the temperature changes.

    Parameters
    ----------
    logits, teacher_logits : Tensor
        Shape (N, C), float32.
    temperature : float
        Greater than 0; 1 leaves the teacher's probabilities as they are.

    Raises
    ------
    ValueError
        The temperature is not in (0, 10⁶], or the shapes differ or are not (N, C).
    """
    if not 0 < temperature <= MOST_TEMPERATURE:
        raise ValueError(
            f"temperature={temperature!r}: must be greater than 0, at most {MOST_TEMPERATURE:g}"
        )
    if logits.ndim != 2 or logits.shape != teacher_logits.shape:
        raise ValueError(f"logits of {tuple(logits.shape)} and {tuple(teacher_logits.shape)}")
    soft = F.softmax(teacher_logits / temperature, dim=1)
    return F.cross_entropy(logits / temperature, soft) * temperature**2


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    ]
