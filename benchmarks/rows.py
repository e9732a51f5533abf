"""What is measured: every row of the benchmarks, with the ways that take turns in it.

A way is the name of a function that returns, for each way that it knows, the work to be timed. What
is not to be timed happens before, or in a function that the work returns. `turn` calls them.
"""

from typing import Any, NamedTuple

import joblib

CORES = joblib.cpu_count()
PEERS = "benchmarks.peers"


class Turn(NamedTuple):
    """Which turn this is; its number is the seed where chance has a part."""

    number: int = 0
    tiny: bool = False  # a few images: to try whether all works, not to measure

    def few(self, whole: int, tiny: int) -> int:
        """Return a number of things, for a turn that measures or one that only tries."""
        return tiny if self.tiny else whole


class Row(NamedTuple):
    """Ways of doing the same thing; ours is the first."""

    what: str
    ways: dict[str, str]  # by name: "module:function"
    group: str = "own"  # or "peers"; "alone" is what is compared with nothing
    options: dict[str, Any] = {}  # of each function, beside the turn
    warm: bool = True  # whether each process does its work once before it is timed
    note: str = ""  # what a reader must know


def _plainly(function: str) -> dict[str, str]:
    return dict.fromkeys(("ours", "plain"), f"benchmarks.own:{function}")


_OURS = f"{PEERS}.ours"
ROWS = {
    "sweep": Row(
        "Problem 1's sweep: ten learning rates, LeNet-5, 48,000 images; one epoch each",
        {
            "ours": f"{_OURS}:sweep",
            "ours, ending diverged runs": f"{_OURS}:sweep",
            "plain loop, images in memory": f"{PEERS}.loops:sweep",
            f"plain loop, images in memory, {CORES} processes": f"{PEERS}.loops:sweep",
            "Lightning": f"{PEERS}.with_lightning:sweep",
            "textbook loop": f"{PEERS}.loops:sweep",
            "fastai": f"{PEERS}.with_fastai:sweep",
            "skorch": f"{PEERS}.with_skorch:sweep",
        },
        "peers",
        {"epochs": 1},
        warm=False,
        note="All do the same updates and validate after each epoch; the homework's own sweep has "
        "five epochs. Ours trains in a process for each core, its cache empty, starting the "
        "processes included; here it goes on with a run that has diverged, as the others do. They "
        "train one network after the other with all cores, unless it says otherwise, and get their "
        "minibatches from images in memory; the textbook loop gets them from torchvision's images "
        "through a DataLoader with two workers.",
    ),
    "finders": Row(
        "Searching a learning rate for LeNet-5",
        {
            "ours": f"{_OURS}:finder",
            "fastai": f"{PEERS}.with_fastai:finder",
            "Lightning": f"{PEERS}.with_lightning:finder",
            "torch-lr-finder": f"{PEERS}.with_lr_finder:finder",
        },
        "peers",
        {"epochs": 5},
        warm=False,
        note="Each with its own default range, number of updates and rule (ours: the range test "
        "and Smith's rule); Lightning is told not to set the rate by itself. The accuracy is that "
        "on validation images after five epochs with the rate suggested, another seed in each "
        "turn. Weights, the state of the optimiser, which has done a few updates before, and those "
        "of torch's, NumPy's and Python's random numbers are compared bit for bit with what they "
        "were before the search.",
    ),
    "counts": Row(
        "Counting parameters and multiply–accumulates of VGG-19 and ResNet-50",
        {
            "ours": f"{PEERS}.counting:count",
            "torchinfo": f"{PEERS}.counting:count",
            "fvcore": f"{PEERS}.counting:count",
        },
        "peers",
        note="Ours counts the multiply–accumulates of convolutions and linear layers.",
    ),
    "optimum": Row(
        "The last layer's optimum for nine strengths of the penalty, on ResNet-50's features",
        {"ours": f"{PEERS}.classifying:optimum", "scikit-learn": f"{PEERS}.classifying:optimum"},
        "peers",
        note="The strength is chosen by accuracy on validation images, which is the one shown.",
    ),
    "last-layers": Row(
        "Last layers for four learning rates, 60 epochs, on ResNet-50's features",
        {"ours": f"{PEERS}.classifying:heads", "plain loop": f"{PEERS}.classifying:heads"},
        "peers",
        note="Ours trains them as one stack, with the handout's drops of the rate.",
    ),
    "suppression": Row(
        "Non-maximum suppression at 0.7 of 6,000 boxes",
        {
            "ours": f"{PEERS}.suppressing:suppress",
            "torchvision": f"{PEERS}.suppressing:suppress",
        },
        "peers",
        note="Ours is written to be read, and records every round.",
    ),
    "epoch": Row("One epoch of LeNet-5 on 48,000 images, all cores", _plainly("epoch")),
    "workers": Row(
        "Ten learning rates, one epoch each: a process for each core, or one",
        _plainly("workers"),
        warm=False,
    ),
    "cached-features": Row(
        "Four last layers for ten epochs on 128 images: features computed once for each image and "
        "its mirror image, or in every epoch for every rate",
        _plainly("cached_features"),
    ),
    "resnet": Row(
        "One finetuning step of ResNet-50 on 32 images of 64×64: channels last in memory, and "
        "matrix products where they are faster, or torchvision's network as it is",
        _plainly("finetuning_step"),
    ),
    "arithmetic": Row(
        "The same step in the arithmetic that Problem 3 chooses here by measurement, or in float32",
        _plainly("arithmetic"),
    ),
    "top-k": Row(
        "K = 1,000 and P = 10 from 100,000 images and 1,000 classes, or sorting everything",
        _plainly("top_k"),
    ),
    "import": Row(
        "Importing what Problem 1's notebook imports, or torch, pandas and matplotlib alone",
        _plainly("importing"),
    ),
    "limits": Row(
        "What this machine can do at most",
        {"ours": "benchmarks.limits:limits"},
        warm=False,
    ),
    "step": Row(
        "Where the time of a training step goes",
        {"ours": "benchmarks.step:step"},
        "alone",
        warm=False,
    ),
    "growth": Row("How cost grows", {"ours": "benchmarks.growth:growth"}, "alone", warm=False),
}

NEEDS = {  # the module of peers, and the packages that it needs
    "with_lightning": ["lightning"],
    "with_fastai": ["fastai"],
    "with_skorch": ["skorch"],
    "with_lr_finder": ["torch-lr-finder"],
    "counting": ["torchinfo", "fvcore"],
    "classifying": ["scikit-learn"],
}


def needed(row: Row) -> set[str]:
    """Return the packages that the ways of a row need beside this project's own."""
    modules = {way.partition(":")[0].rpartition(".")[2] for way in row.ways.values()}
    return {package for module in modules for package in NEEDS.get(module, ())}
