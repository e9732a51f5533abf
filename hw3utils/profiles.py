"""How large a run is: the numbers behind the profiles `smoke`, `laptop` and `full`.

One frozen dataclass for each problem. Change a number here, or by name for one run: in the
notebook's parameters cell, or with ``python -m hw3utils run problem1 -p seeds=3``.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw3utils import paths
from hw3utils.checks import check_whole_number

__all__ = [
    "PROFILES",
    "Problem1",
    "Problem3",
    "Problem4",
    "Settings",
    "problem1",
    "problem2",
    "problem3",
    "problem4",
    "profile_name",
]

PROFILES = ("smoke", "laptop", "full")


@dataclass(frozen=True)
class Settings:
    """What every problem's settings share: the profile, and where its run writes.

    Attributes
    ----------
    profile : str
        One of `PROFILES`.
    changed : tuple of str
        The numbers that were overridden by name, as ``"name=value"``.
    """

    profile: str
    changed: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        """The folder into which this run writes; changed numbers never mix with the profile's."""
        return paths.output_dir(self.profile + ("-changed" if self.changed else ""))

    @property
    def figures(self) -> Path:
        """The folder for this run's figures."""
        return self.output / "figures"

    @property
    def results(self) -> Path:
        """The folder for this run's JSON and CSV files."""
        return self.output / "answers" / "results"


@dataclass(frozen=True)
class Problem1(Settings):
    """Sizes of Problem 1; the defaults are the handout's own numbers.

    Attributes
    ----------
    n_train, n_validation, n_test : int
        Images in each part: at most 48,000, 12,000 and 10,000; for training at least 4,096, the
        largest batch.
    sweep_epochs : int
        Epochs for each of the ten learning rates of 1.1, and for each batch size of 1.3d.
    budget_epochs : int
        Epochs for each schedule of 1.2.
    cycles : int
        Whole cycles of the cyclical schedule within that budget (Smith advises at least 3).
    final_amplitude : float
        What is left of the cycle's amplitude at the end of the budget, as a fraction.
    stage_epochs : int
        Epochs at each of the eight batch sizes of 1.3a to 1.3c.
    range_test_updates : int
        Weight updates of the LR range test.
    noise_repetitions : int
        Big batches from which the gradient noise scale is estimated.
    seeds : int
        Independent repetitions of the runs of 1.2 and 1.3a to 1.3c.
    """

    n_train: int = 48_000
    n_validation: int = 12_000
    n_test: int = 10_000
    sweep_epochs: int = 5
    budget_epochs: int = 15
    cycles: int = 3
    final_amplitude: float = 0.1
    stage_epochs: int = 1
    range_test_updates: int = 500
    noise_repetitions: int = 20
    seeds: int = 1

    def __post_init__(self) -> None:
        for name, most in (("n_train", 48_000), ("n_validation", 12_000), ("n_test", 10_000)):
            if getattr(self, name) > most:
                raise ValueError(f"{name}={getattr(self, name)}: there are {most} such images")
        check_whole_number("n_train", self.n_train, at_least=4_096)
        check_whole_number("range_test_updates", self.range_test_updates, at_least=10)
        updates = self.budget_epochs * self.n_train // 64
        if self.cycles > updates // 10:
            raise ValueError(f"cycles={self.cycles}: too many for {updates} updates in 1.2")
        if not 0 < self.final_amplitude <= 1:
            raise ValueError(f"final_amplitude={self.final_amplitude}: must lie in (0, 1]")


@dataclass(frozen=True)
class Problem3(Settings):
    """Sizes of Problem 3; the defaults are the handout's own numbers.

    Attributes
    ----------
    dataset : str
        A name of `datasets.DATASETS`; of ``"A or B"`` the first that can be had.
    weights : str
        Names of `pretrained.WEIGHTS`, likewise.
    image_size : int
        Pixels of a side as the network sees the images, at least 32.
    n_train, n_validation, n_test : int
        Images of each part, at most.
    finetune_epochs, head_epochs : int
        Epochs with all layers, and with the last layer alone.
    batch_size : int
        Images for each update.
    finetune_seeds, head_seeds : int
        Independent repetitions.
    compared_sizes : tuple of int
        Pixels of a side in the figure of what the image size does.
    compared_images : int
        Training images in that figure, at most.
    """

    dataset: str = "cifar100 or cifar10"
    weights: str = "IMAGENET1K_V1 or KERAS_V1"
    image_size: int = 224
    n_train: int = 1_000_000
    n_validation: int = 1_000_000
    n_test: int = 1_000_000
    finetune_epochs: int = 60
    head_epochs: int = 60
    batch_size: int = 64
    finetune_seeds: int = 3
    head_seeds: int = 3
    compared_sizes: tuple[int, ...] = (32, 64, 96, 224)
    compared_images: int = 5_120


@dataclass(frozen=True)
class Problem4(Settings):
    """Sizes of Problem 4; the defaults take six minutes or less on two cores.

    Attributes
    ----------
    n_train, n_validation, n_test : int
        Images in each part: at most 48,000, 12,000 and 10,000.
    label_seeds, student_seeds : int
        Independent repetitions in 4.2 and in 4.3.
    noise_images, noise_updates : int
        Images with noisy labels, and weight updates on them.
    probe_images : int
        Clean labelled images of each class under which frozen features are judged.
    tail_largest : int
        Images of the most frequent class of the long-tailed set.
    tail_exponent : float
        Of Zipf's law: the class of rank r has ``tail_largest / r**tail_exponent`` images.
    tail_updates : int
        Weight updates on the long-tailed set.
    labelled : int
        Images of each class in the labelled set D.
    pool : int
        Images in the unlabelled pool U.
    teacher_updates, student_updates, finetune_updates : int
        Weight updates of the teacher on D, of the student on D̂, and of the student on D.
    k, p : int
        Images for each class and classes for each image, where they are not what is varied.
    ks, ps : tuple of int
        The values of K in 4.3d and of P in 4.3b.
    rare_classes, rare_images, rare_k : int
        In 4.3b: how many classes are rare in the pool, images of each of them, and K.
    temperature : float
        Of distillation with soft labels.
    """

    n_train: int = 48_000
    n_validation: int = 2_000
    n_test: int = 10_000
    label_seeds: int = 3
    student_seeds: int = 2
    noise_images: int = 20_000
    noise_updates: int = 1_000
    probe_images: int = 200
    tail_largest: int = 4_000
    tail_exponent: float = 2.0
    tail_updates: int = 800
    labelled: int = 50
    pool: int = 30_000
    teacher_updates: int = 300
    student_updates: int = 800
    finetune_updates: int = 150
    k: int = 3_000
    p: int = 3
    ks: tuple[int, ...] = (25, 100, 500, 1_000, 2_000, 3_000, 4_500, 6_000)
    ps: tuple[int, ...] = (1, 2, 3, 5)
    rare_classes: int = 3
    rare_images: int = 150
    rare_k: int = 1_500
    temperature: float = 2.0


_PROBLEM4 = {
    "smoke": {
        "n_train": 4_000,
        "n_validation": 300,
        "n_test": 300,
        "label_seeds": 1,
        "student_seeds": 1,
        "noise_images": 1_500,
        "noise_updates": 80,
        "probe_images": 30,
        "tail_largest": 300,
        "tail_updates": 80,
        "labelled": 20,
        "pool": 2_500,
        "teacher_updates": 60,
        "student_updates": 80,
        "finetune_updates": 15,
        "k": 150,
        "ks": (25, 150, 500),
        "rare_images": 30,
        "rare_k": 100,
    },
    "laptop": {},
    "full": {
        "n_validation": 12_000,
        "student_seeds": 3,
        "noise_images": 40_000,
        "noise_updates": 6_000,
        "tail_updates": 2_000,
        "student_updates": 3_000,
        "finetune_updates": 300,
        "ks": (
            25,
            50,
            100,
            250,
            500,
            1_000,
            1_500,
            2_000,
            2_500,
            3_000,
            4_000,
            5_000,
            6_000,
            8_000,
        ),
    },
}

_PROBLEM1 = {
    "smoke": {
        "n_train": 4_096,
        "n_validation": 500,
        "n_test": 500,
        "sweep_epochs": 1,
        "budget_epochs": 3,
        "stage_epochs": 1,
        "range_test_updates": 150,
        "noise_repetitions": 3,
    },
    "laptop": {},
    "full": {"seeds": 3},
}


_PROBLEM3 = {
    "smoke": {
        "image_size": 32,
        "n_train": 128,
        "n_validation": 100,
        "n_test": 100,
        "finetune_epochs": 2,
        "head_epochs": 8,
        "finetune_seeds": 1,
        "head_seeds": 1,
        "compared_sizes": (32, 64),
        "compared_images": 128,
    },
    "laptop": {
        "image_size": 64,
        "n_train": 896,
        "n_validation": 400,
        "n_test": 1_000,
        "finetune_epochs": 4,
        "finetune_seeds": 1,
        "compared_sizes": (32, 64, 96),
        "compared_images": 768,
    },
    "full": {},
}


def profile_name(profile: str | None = None) -> str:
    """Return the profile to use: the argument, else ``HW3_PROFILE``, else ``"laptop"``.

    Raises
    ------
    ValueError
        It is not one of `PROFILES`.
    """
    name = profile or os.environ.get("HW3_PROFILE") or "laptop"
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return name


def problem1(profile: str | None = None, **changes: Any) -> Problem1:
    """Return the settings of Problem 1; ``changes`` override single numbers (None changes nothing).

    Raises
    ------
    ValueError
        The profile or a changed name is unknown, or a value makes no sense.
    """
    return _settings(Problem1, _PROBLEM1, profile, changes)


def problem3(profile: str | None = None, **changes: Any) -> Problem3:
    """Return the settings of Problem 3; see `problem1`."""
    return _settings(Problem3, _PROBLEM3, profile, changes)


def problem4(profile: str | None = None, **changes: Any) -> Problem4:
    """Return the settings of Problem 4; ``changes`` override single numbers (None changes nothing).

    Raises
    ------
    ValueError
        The profile or a changed name is unknown, or a value makes no sense.
    """
    return _settings(Problem4, _PROBLEM4, profile, changes)


def problem2(profile: str | None = None) -> Settings:
    """Return the settings of Problem 2, which is calculation: the same in every profile."""
    return Settings(profile=profile_name(profile))


def _settings(kind: type, sizes: dict, profile: str | None, changes: dict[str, Any]) -> Any:
    """Build a settings dataclass from a profile's sizes and the changes, checking each change."""
    name = profile_name(profile)
    defaults = kind(profile=name, **sizes[name])
    allowed = {f.name for f in dataclasses.fields(kind)} - {
        f.name for f in dataclasses.fields(Settings)
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    if unknown := sorted(set(changes) - allowed):
        raise ValueError(
            f"unknown number {', '.join(unknown)}: choose from {', '.join(sorted(allowed))}"
        )
    for key, value in changes.items():
        _check_change(key, value, getattr(defaults, key))
    changed = tuple(
        f"{key}={value}"
        for key, value in sorted(changes.items())
        if value != getattr(defaults, key)
    )
    return dataclasses.replace(defaults, **changes, changed=changed)


def _check_change(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than the profile's, or one that is not positive."""
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name}={value!r}: expected {wanted.__name__}, like {default!r}")
    if wanted in (int, float) and not value > 0:
        raise ValueError(f"{name}={value!r}: must be greater than 0")
