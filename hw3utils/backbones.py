"""A frozen ResNet-50 as a feature extractor: its 2048 features, and the proof that it stays frozen.

For everything below the last layer. What is trained on the features is in `heads`.
"""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hw3utils import pretrained
from hw3utils.data import ImageSet, Scale
from hw3utils.evaluation import images_at_once

__all__ = ["build", "fixed", "freeze", "keep_frozen_statistics", "logits_and_features", "moved"]

RANDOM = "random"


def build(weights: str, num_classes: int, seed: int) -> nn.Module:
    """Return ResNet-50 with a new head: from ImageNet ``weights``, or ``"random"`` ones."""
    if weights == RANDOM:
        return pretrained.random_resnet50(num_classes, seed)
    return pretrained.replace_head(pretrained.network(_base(weights)), num_classes, seed)


@functools.lru_cache(maxsize=1)
def _base(weights: str) -> pretrained.Base:
    return pretrained.load_base(weights)


def freeze(model: nn.Module) -> nn.Module:
    """Freeze all but the last layer: no gradients, and BatchNorm's statistics stay.

    ``requires_grad=False`` alone is not enough: in training mode BatchNorm goes on updating its
    running statistics. The BatchNorm layers here stay in evaluation mode whatever ``train()`` says.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
    return keep_frozen_statistics(model)


def keep_frozen_statistics(model: nn.Module) -> nn.Module:
    """Make every BatchNorm layer ignore ``train()``: it normalises with its running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = functools.partial(_stay_in_evaluation_mode, module)
    return model


def _stay_in_evaluation_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


@contextmanager
def fixed(model: nn.Module) -> Iterator[dict[str, bool]]:
    """Compare the model before and after a block: name to "unchanged, bit for bit".

    The dict is filled at the end of the block.
    """
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    unchanged: dict[str, bool] = {}
    yield unchanged
    for name, tensor in model.state_dict().items():
        unchanged[name] = torch.equal(before[name], tensor)


@torch.inference_mode()
def logits_and_features(model: nn.Module, images: ImageSet, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return logits (N, number of classes) and features (N, 2048), float32 on the CPU.

    In evaluation mode; the model's mode is put back afterwards.
    """
    device = next(model.parameters()).device
    seen: list[Tensor] = []
    hook = model.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        logits = [
            model(scale(part.to(device))).float().cpu()
            for part in images.images.split(images_at_once(images, scale))
        ]
    finally:
        hook.remove()
        for module, mode in modes:
            module.training = mode
    return torch.cat(logits), torch.cat([features.cpu() for features in seen])


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """Return how far training moved the trunk, as relative distances ‖after − before‖ / ‖before‖.

    Returns
    -------
    dict
        ``"weights"`` of all convolutions and BatchNorms, and BatchNorm's ``"running_mean"`` and
        ``"running_var"``, each over all layers together; NaN where a value is not finite, or where
        all values were zero before, as the running means of a random start.
    """
    groups = {"weights": [], "running_mean": [], "running_var": []}
    for name in before:
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        kind = name.rpartition(".")[2]
        groups[kind if kind in groups else "weights"].append(name)
    distances = {}
    for kind, names in groups.items():
        difference = sum(
            float((after[n].double() - before[n].double()).square().sum()) for n in names
        )
        size = sum(float(before[n].double().square().sum()) for n in names)
        distances[kind] = (difference / size) ** 0.5 if size else math.nan
    return distances
