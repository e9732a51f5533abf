"""What Problem 3 found, in sentences and as the record that is saved: nothing is computed anew."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from hw3utils.problem3.experiments import ALL_LAYERS, LAST_LAYER, Setup
from hw3utils.problem3.tables import best_row, hits
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
    diverged: tuple[str, ...] = ()  # approaches of which every learning rate did

    @property
    def text(self) -> str:
        """The verdict in two sentences, and one more for each approach that diverged."""
        sure = abs(self.margin) > 2 * self.standard_error
        text = (
            f"{self.approach[0].upper()}{self.approach[1:]}, learning rate "
            f"{self.learning_rate:g}, wins on validation images. On the test images the best "
            f"finetuned network is {100 * self.margin:+.1f} points from the best last layer "
            f"(standard error {100 * self.standard_error:.1f}): the difference is "
            f"{'larger' if sure else 'not larger'} than the draw of test images explains."
        )
        for approach in self.diverged:
            text += f" With every learning rate, training diverged: {approach}."
        return text


def verdict(
    table: pd.DataFrame, finetuned_logits: Tensor, head_logits: Tensor, labels: Tensor
) -> Verdict:
    """Compare the two winners: ``table`` from `tables.summary`, and their test images' logits.

    An approach that diverged with every learning rate wins only where the other did so too.
    """
    best = [best_row(table, approach) for approach in (ALL_LAYERS, LAST_LAYER)]
    winner = max(best, key=lambda row: (not row["diverged"], row["validation"]))
    differences = hits(finetuned_logits, labels).double() - hits(head_logits, labels).double()
    return Verdict(
        winner["approach"],
        float(winner["learning_rate"]),
        float(differences.mean()),
        float(differences.std()) / len(labels) ** 0.5,
        tuple(row["approach"] for row in best if row["diverged"]),
    )


def mark(score: Mapping[str, Any] | pd.Series) -> str:
    """Return what stands behind the score of a run that diverged."""
    return " (diverged)" if score["diverged"] else ""


def rate_scores(table: pd.DataFrame, approach: str) -> dict[str, str]:
    """Return the test accuracy of each learning rate of an approach, in words."""
    rows = table[table["approach"] == approach]
    return {
        f"{row['learning_rate']:g}": f"{row['test']:.1%}{mark(row)}" for _, row in rows.iterrows()
    }


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
    return f"test accuracy {score['test']:.3f}{spread}{mark(score)}"


def _best(scores: dict[float, dict[str, Any]]) -> str:
    alive = {rate: score for rate, score in scores.items() if not score["diverged"]} or scores
    best = max(alive, key=lambda rate: alive[rate]["validation"])
    each = "; ".join(f"{rate:g}: {_score(score)}" for rate, score in scores.items())
    return f"{each}. Best on validation images: {best:g}."
