"""The original ResNet-50 from its Keras form (TensorFlow.js files) to torchvision's names.

Only arithmetic on arrays: what differs between the two, and nothing that is fetched or trained.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hw3utils.training import fingerprints

KERAS_EPSILON, TORCH_EPSILON = 1e-3, 1e-5
TORCH_STD_RGB = (0.229, 0.224, 0.225)
_NORM_NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@fingerprints.task
def read(folder: Path) -> dict[str, np.ndarray]:
    """Return every array (little-endian float32) of a TensorFlow.js layers model by its name.

    Raises a ValueError where the shards hold more or fewer bytes than ``model.json`` describes.
    """
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
    arrays = {}
    for group in manifest:
        content = b"".join((folder / shard).read_bytes() for shard in group["paths"])
        values = np.frombuffer(content, dtype="<f4")
        start = 0
        for weight in group["weights"]:
            size = int(np.prod(weight["shape"]))
            arrays[weight["name"]] = values[start : start + size].reshape(weight["shape"])
            start += size
        if start != len(values):
            raise ValueError(f"{folder}: {len(values)} numbers in the shards, {start} described")
    return arrays


@fingerprints.task
def convert(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return a state dict for torchvision's ``resnet50`` that computes the same function.

    - Kernels: height × width × in × out becomes out × in × height × width; dense ones transposed.
    - The convolutions' biases go into BatchNorm's mean: BN(x + b) subtracts mean − b from x.
    - Keras adds 1e-3 to the variance and torch 1e-5: the difference goes into the variance.
    - Keras takes BGR, 0..255, minus a mean; here RGB, 0..1, normalised. The first layer takes up
      order and factor exactly; the means differ by at most half a grey level and stay torch's.

    The strides differ too and are no weights: see `use_original_strides`.
    """
    state: dict[str, Tensor] = {}
    for name in {key.rpartition("/")[0] for key in arrays}:
        if not re.match(r"(res|conv1|fc1000)", name):
            continue
        kernel = torch.from_numpy(arrays[f"{name}/kernel"].copy())
        bias = torch.from_numpy(arrays[f"{name}/bias"].copy())
        if name == "fc1000":
            state |= {"fc.weight": kernel.T.contiguous(), "fc.bias": bias}
            continue
        convolution, norm = _torch_names(name)
        state[f"{convolution}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        keras_norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn", 1)
        for ours, theirs in _NORM_NAMES.items():
            state[f"{norm}.{ours}"] = torch.from_numpy(arrays[f"{keras_norm}/{theirs}"].copy())
        state[f"{norm}.running_mean"] -= bias
        state[f"{norm}.running_var"] += KERAS_EPSILON - TORCH_EPSILON
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    std = torch.tensor(TORCH_STD_RGB).view(1, 3, 1, 1)
    state["conv1.weight"] = (state["conv1.weight"].flip(1) * 255 * std).contiguous()
    return state


def use_original_strides(model: nn.Module) -> None:
    """Move the stride of 2 from the 3×3 to the first 1×1 convolution: ResNet v1, not v1.5.

    torchvision's network is v1.5; weights of v1 load into it without an error and lose accuracy.
    """
    for layer in (model.layer2, model.layer3, model.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)


def digest(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 digest of all names and tensors, hexadecimal."""
    result = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        result.update(name.encode())
        result.update(np.ascontiguousarray(tensor.cpu().numpy()))
    return result.hexdigest()


def fingerprint() -> str:
    """Return eight hexadecimal digits that follow the code of the conversion: its copy's name."""
    return fingerprints.code_digest((read, convert))[:8]


def _torch_names(keras_name: str) -> tuple[str, str]:
    """Return torchvision's names of a convolution and of the BatchNorm after it."""
    if keras_name == "conv1":
        return "conv1", "bn1"
    stage, block, branch = re.fullmatch(r"res(\d)([a-f])_branch(1|2[abc])", keras_name).groups()
    place = f"layer{int(stage) - 1}.{ord(block) - ord('a')}"
    if branch == "1":
        return f"{place}.downsample.0", f"{place}.downsample.1"
    number = ord(branch[1]) - ord("a") + 1
    return f"{place}.conv{number}", f"{place}.bn{number}"
