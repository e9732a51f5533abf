"""What Problem 3 found, in sentences and as the record that is saved: nothing is computed anew."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from hw3utils.problem3.experiments import ALL_LAYERS, LAST_LAYER, Setup
from hw3utils.problem3.tables import KEY, winners
from hw3utils.settings import Problem3


@dataclass(frozen=True)
class Verdict:
    """Which approach wins, and by how much."""

    approach: str  # of the winner, by validation accuracy
    learning_rate: float  # likewise
    margin: float  # test accuracy of the best finetuned network minus that of the best last layer
    # Of the margin, from the draw of the test images: both networks see the same ones, so that it
    # is the standard error of the mean of the differences image by image.
    standard_error: float

    @property
    def text(self) -> str:
        """The verdict in two sentences."""
        sure = abs(self.margin) > 2 * self.standard_error
        return (
            f"{self.approach[0].upper()}{self.approach[1:]}, learning rate "
            f"{self.learning_rate:g}, wins on validation images. On the test images the best "
            f"finetuned network is {100 * self.margin:+.1f} points from the best last layer "
            f"(standard error {100 * self.standard_error:.1f}): the difference is "
            f"{'larger' if sure else 'not larger'} than the draw of test images explains."
        )


def verdict(
    table: pd.DataFrame, finetuned_logits: Tensor, head_logits: Tensor, labels: Tensor
) -> Verdict:
    """Compare the two winners: ``table`` from `summary`, and their logits on the test images."""
    best = winners(table)
    scored = table.set_index(KEY)["validation"]
    approach = max(best, key=lambda name: scored[name, best[name]])
    hits = [(logits.argmax(1) == labels).double() for logits in (finetuned_logits, head_logits)]
    differences = hits[0] - hits[1]
    error = float(differences.std()) / len(labels) ** 0.5
    return Verdict(approach, best[approach], float(differences.mean()), error)


def record(
    settings: Problem3, setup: Setup, table: pd.DataFrame, found: Verdict, **more: Any
) -> dict[str, Any]:
    """Return everything that Problem 3 found, ready for `files.save_json`."""

    def by_rate(approach: str) -> dict[str, dict[str, float]]:
        rows = table[table["approach"] == approach].drop(columns="approach")
        return {f"{row.pop('learning_rate'):g}": row for row in rows.to_dict("records")}

    return {
        "profile": settings.profile,
        "settings": dataclasses.asdict(settings),
        "dataset": setup.target.name,
        "not_found": list(setup.target.not_found),
        "weights": {"name": setup.base.weights, "origin": setup.base.origin},
        "image_size": settings.image_size,
        "images": dict(zip(("train", "validation", "test"), map(len, setup.parts), strict=True)),
        "finetune": by_rate(ALL_LAYERS),
        "last_layer": by_rate(LAST_LAYER),
        "others": [
            row
            for row in table.to_dict("records")
            if row["approach"] not in (ALL_LAYERS, LAST_LAYER)
        ],
        "winner": dataclasses.asdict(found) | {"text": found.text},
        **more,
    }


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    images = found["images"]
    finetuned, last_layer = (
        {float(rate): score for rate, score in found[name].items()}
        for name in ("finetune", "last_layer")
    )
    return [
        ("3.1a", 4, f"ResNet-50 with a new last layer; {found['dataset']}: "
         f"{images['train']:,} / {images['validation']:,} / {images['test']:,} images for "
         f"training, validation, test, at {found['image_size']} px.", "3.1a"),
        ("3.1b", 6, f"Learning rate 0.001: {_score(finetuned[0.001])}.",
         "3.1b and 3.1c"),
        ("3.1c", 6, _best(finetuned), "3.1b and 3.1c"),
        ("3.2a", 6, _best(last_layer), "3.2a"),
        ("3.2b", 3, found["winner"]["text"], "3.2b"),
    ]  # fmt: skip


def _score(score: dict[str, Any]) -> str:
    spread = "" if score["test_sd"] is None else f" ± {score['test_sd']:.3f}"
    end = " (diverged)" if score["diverged"] else ""
    return f"test accuracy {score['test']:.3f}{spread}{end}"


def _best(scores: dict[float, dict[str, Any]]) -> str:
    best = max(scores, key=lambda rate: scores[rate]["validation"])
    each = "; ".join(f"{rate:g}: {_score(score)}" for rate, score in scores.items())
    return f"{each}. Best on validation images: {best:g}."
