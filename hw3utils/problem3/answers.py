"""What Problem 3 found, in sentences and as the record that is saved: nothing is computed anew."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from hw3utils.problem3.curve_answers import OUTCOMES, WORDS
from hw3utils.problem3.experiments import (
    ALL_LAYERS,
    HEAD_FROZEN,
    LAST_LAYER,
    PROBE_FROZEN,
    PROBE_TRAINED,
    RANDOM_START,
    SLOW_TRUNK,
    Setup,
    Size,
)
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.problem3.rate_answers import mark
from hw3utils.problem3.tables import accuracy, named, told
from hw3utils.settings import Problem3
from hw3utils.training.intervals import mean_interval


def difference_words(row: Mapping[str, Any]) -> str:
    """Return a row of `tables.differences` in words: the mean, its interval, and what it tells.

    McNemar's test tells two networks apart; it does not know how another training would end.
    """
    points = f"{row['mean']:+.1f} points"
    if row["seeds"] > 1:
        points += f" ({row['low']:+.1f} to {row['high']:+.1f}, {row['seeds']} seeds)"
    else:
        chance = f"= {row['p']:.1g}" if row["p"] else "< 1e-300"
        points += f" (one seed, these two networks; McNemar p {chance})"
    return f"{points}: {WORDS[told(row)]}"


def told_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Return `tables.differences` with its words in place of the numbers."""
    words = [difference_words(row) for row in differences.to_dict("records")]
    return differences[["first", "second"]].assign(difference=words)


def prediction_words(row: Mapping[str, Any], signs: Sequence[int]) -> str:
    """Return a row of `tables.differences` in words, after whether it has one of these signs."""
    sign = told(row)
    outcome = OUTCOMES[sign in signs] if sign or 0 in signs else "undecided"
    return f"{outcome}: {row['first']} minus {row['second']}: {difference_words(row)}"


def outcome_words(outcomes: Mapping[tuple[str, bool, int], Finetuned], labels: Tensor) -> str:
    """Say what small runs in bf16 and float32 came to, paired by seed; empty where there are none.

    They were judged on the validation images, whose ``labels`` are (N,).
    """
    words = {1: "bf16 is better", -1: "bf16 is worse", 0: "no difference can be told"}
    lines = []
    for approach in dict.fromkeys(approach for approach, _, _ in outcomes):
        half, single = (
            [result for key, result in outcomes.items() if key[:2] == (approach, bf16)]
            for bf16 in (True, False)
        )
        apart = [
            100 * (accuracy(one.test_logits, labels) - accuracy(other.test_logits, labels))
            for one, other in zip(half, single, strict=True)
        ]
        found = mean_interval(apart)
        slower = sum(run.seconds for run in single) / sum(run.seconds for run in half)
        lines.append(
            f"{approach}, {len(apart)} small runs in each arithmetic, paired by seed: bf16 minus "
            f"float32 is {found.mean:+.1f} points of validation accuracy ({found.low:+.1f} to "
            f"{found.high:+.1f}): {words[found.sign]}. float32 took {slower:.1f} times as long."
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Which approach wins at the size of 3.1b and 3.1c."""

    approach: str  # of the winner, by validation accuracy
    learning_rate: float  # likewise
    difference: dict[str, Any]  # finetuning minus last layer, a row of `tables.differences`
    diverged: tuple[str, ...] = ()  # approaches of which every learning rate did

    @property
    def text(self) -> str:
        """The verdict in two sentences, and one more for each approach that diverged."""
        text = (
            f"{self.approach[0].upper()}{self.approach[1:]}, learning rate "
            f"{self.learning_rate:g}, wins on validation images. On the test images "
            f"{self.difference['first']} minus {self.difference['second']} is "
            f"{difference_words(self.difference)}."
        )
        for approach in self.diverged:
            text += f" With every learning rate, training diverged: {approach}."
        return text


def verdict(tuned: pd.Series, last: pd.Series, difference: Mapping[str, Any]) -> Verdict:
    """Compare the two winners, rows of `tables.best_row`; one that diverged wins only over such."""
    winner = max((tuned, last), key=lambda row: (not row["diverged"], row["validation"]))
    lost = tuple(row["approach"] for row in (tuned, last) if row["diverged"])
    return Verdict(winner["approach"], float(winner["learning_rate"]), dict(difference), lost)


def why_words(
    tuned: pd.Series, last: pd.Series, optimum: float, difference: Mapping[str, Any]
) -> str:
    """Say whether a better trained last layer could have reached finetuning's accuracy.

    ``tuned`` and ``last`` are rows of `tables.best_row`, ``difference`` their row of
    `tables.differences`; ``optimum`` is the test accuracy of the last layer's penalised optimum
    (see `training.linear.optimal_head`) on as many images. Empty where finetuning does not win.
    """
    if told(difference) != 1:
        return ""
    rest = (
        "training the last layer better is unlikely to close the gap, which leaves the features"
        if optimum < tuned["test"]
        else "a last layer that is trained better can do as well"
    )
    return (
        f"Why? On the test images the last layer has {last['test']:.1%} as trained here, at its "
        f"penalised optimum (one seed) {optimum:.1%}, and finetuning {tuned['test']:.1%}: {rest}."
    )


def mechanism_words(mechanism: pd.DataFrame, moved: pd.DataFrame, size: Size) -> str:
    """Return what became of the predictions about BatchNorm's statistics, a line for each.

    ``mechanism`` has rows of `tables.differences`: adapted statistics with a new and with the old
    last layer against the last layer alone, frozen against trained statistics, and trained
    statistics against the last layer alone; single seeds, against plain finetuning, may follow:
    freezing should not help, a slower trunk should, a random start should be far worse. ``moved``
    is `tables.moved_table`.
    """
    rows = mechanism.to_dict("records")
    expected = [*zip(rows, ((-1,), (-1,), (1,)), strict=False)]
    expected += [
        (row, signs)
        for row in rows
        for arm, signs in {HEAD_FROZEN: (-1, 0), SLOW_TRUNK: (1,), RANDOM_START: (-1,)}.items()
        if row["first"].startswith(arm)
    ]
    lines = [prediction_words(row, signs) for row, signs in expected]
    at_size = (moved["images"] == size.images) & (moved["epochs"] == size.epochs)
    frozen, trained = (
        moved[at_size & (moved["approach"] == approach)].iloc[0]
        for approach in (PROBE_FROZEN, PROBE_TRAINED)
    )
    lines.append(
        f"with trained statistics the weights moved by {trained['weights']:.2%} of their length, "
        f"BatchNorm's means by {trained['running_mean']:.0%} and variances by "
        f"{trained['running_var']:.0%}, the features by {trained['features']:.0%}; with frozen "
        f"ones the features moved by {frozen['features']:.0%}"
    )
    random_layer = [row for row in rows if row["first"].startswith(HEAD_FROZEN)]
    if random_layer and told(rows[2]) == 1:
        lines.append(
            "so freezing the statistics helps with a random last layer, too (one seed)"
            if told(random_layer[0]) == 1
            else "a gain from freezing the statistics with a random last layer is not shown"
        )
    if len(rows) > 3 and rows[3]["first"] == rows[2]["second"] and told(rows[2]) == 1:
        lines.append(
            "the trained last layer is enough by itself: with trained statistics, too, such a run "
            "is better than the last layer alone"
            if told(rows[3]) == 1
            else "the trained last layer is not enough by itself: with trained statistics such a "
            f"run minus the last layer alone is {difference_words(rows[3])}"
        )
    return "\n".join(f"- {line}" for line in [*lines, _supported(expected)])


def _supported(expected: Sequence[tuple[Mapping[str, Any], Sequence[int]]]) -> str:
    """Return how many comparisons bear the explanation out; a random start does not test it."""
    signs = [(told(row), wanted) for row, wanted in expected if RANDOM_START not in row["first"]]
    held = sum(sign in wanted for sign, wanted in signs if sign or 0 in wanted)
    refused = sum(sign not in wanted for sign, wanted in signs if sign)
    verdict = "in part" if held and refused else "by all that is told" if held else "by nothing"
    return (
        f"of {len(signs)} comparisons that test the explanation, {held} came out as predicted and "
        f"{refused} did not: it is supported {verdict}"
    )


def record(
    settings: Problem3,
    setup: Setup,
    table: pd.DataFrame,
    found: Verdict,
    asked: Size,
    curve: pd.DataFrame,
    scores: pd.DataFrame,
    **more: Any,
) -> dict[str, Any]:
    """Return everything that Problem 3 found, ready for `files.save_json`."""
    at_size = table[table["images"] == asked.images]

    def by_rate(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
        rows = rows.drop(columns="approach")
        return {f"{row.pop('learning_rate'):g}": row for row in rows.to_dict("records")}

    tuned = at_size[(at_size["approach"] == ALL_LAYERS) & (at_size["epochs"] == asked.epochs)]
    columns = ["approach", "images", "epochs", "learning_rate", "seed", "test", "final_test"]
    return {
        "profile": settings.profile,
        "settings": dataclasses.asdict(settings),
        "dataset": setup.target.name,
        "not_found": list(setup.target.not_found),
        "weights": {"name": setup.base.weights, "origin": setup.base.origin},
        "image_size": settings.image_size,
        "images": dict(zip(("train", "validation", "test"), map(len, setup.parts), strict=True)),
        "official_images": {
            "train and validation": len(setup.target.parts.train)
            + len(setup.target.parts.validation),
            "test": len(setup.target.parts.test),
        },
        "protocol": asked._asdict() | {"seeds": settings.seeds},
        "finetune": by_rate(tuned),
        "last_layer": by_rate(at_size[at_size["approach"] == LAST_LAYER]),
        "winner": dataclasses.asdict(found) | {"text": found.text},
        "curve": curve.to_dict("records"),
        "arms": [
            {"name": row.pop("approach"), **row} for row in scores[columns].to_dict("records")
        ],
        **more,
    }


def report_rows(found: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Return question, points, answer and the start of its heading: the report's first page."""
    official, protocol = found["official_images"], found["protocol"]
    judges = found["images"]["validation"]
    finetuned, last_layer = (
        {float(rate): score for rate, score in found[name].items()}
        for name in ("finetune", "last_layer")
    )
    return [
        ("3.1a", 4, f"ResNet-50 with a new last layer; {found['dataset']}: "
         f"{official['train and validation']:,} images for training and validation, "
         f"{official['test']:,} for testing, seen at {found['image_size']} px.", "3.1a"),
        ("3.1b", 6, f"{protocol['images']:,} images, {protocol['epochs']} epochs, learning rate "
         f"0.001: test accuracy {_score(finetuned[0.001])}.", "3.1b and 3.1c"),
        ("3.1c", 6, _best(finetuned, judges), "3.1b and 3.1c"),
        ("3.2a", 6, f"{protocol['images']:,} images. {_best(last_layer, judges)}", "3.2a"),
        ("3.2b", 3, _which_wins(found), "3.2b"),
    ]  # fmt: skip


def _which_wins(found: dict[str, Any]) -> str:
    """Return the answer to 3.2b: first the curve, where seeds tell something, then 3.1b's size."""
    curve, first = found["settings"]["curve"], found["crossing"]
    middle = curve[len(curve) // 2]
    winner = found["winner"]["text"]
    here = f"With 3.1b's {found['protocol']['images']:,} images {winner[0].lower()}{winner[1:]}"
    equal = (
        "On this curve every number of images has as many updates as "
        f"{middle[1]} epochs of {middle[0]:,} images."
    )
    curve_says = f"{found['plain_crossing']['text']} {equal}{_longer_runs(found)}"
    if first["low"] is first["high"] is None:
        return f"{here} {first['text']} {curve_says}"
    return f"**{first['text']}** {curve_says} {here}"


def _longer_runs(found: dict[str, Any]) -> str:
    """Return in a sentence what longer runs came to; empty where there were none."""
    told_of = []
    for size in (Size(*numbers) for numbers in found["settings"]["longer"]):
        names = [named(approach, size) for approach in (PROBE_FROZEN, ALL_LAYERS)]
        told_of += [
            f"{row['first']}, {difference_words(row)}"
            for row in found["differences"]
            if row["first"] in names and row["second"] == named(LAST_LAYER, size)
        ]
    return f" Longer runs, minus the last layer alone: {'; '.join(told_of)}." if told_of else ""


def _score(score: dict[str, Any]) -> str:
    spread = "" if pd.isna(score["test_sd"]) else f" ± {score['test_sd']:.3f}"
    return f"{score['test']:.3f}{spread}{mark(score)}"


def _best(scores: dict[float, dict[str, Any]], judges: int) -> str:
    """Return the best rate, by how many validation images it is ahead, and each rate's score."""
    alive = {rate: score for rate, score in scores.items() if not score["diverged"]} or scores
    best, *others = sorted(alive, key=lambda rate: alive[rate]["validation"], reverse=True)
    each = "; ".join(f"{rate:g}: {_score(score)}" for rate, score in scores.items())
    lead = ""
    if others:
        apart = alive[best]["validation"] - alive[others[0]]["validation"]
        lead = f", ahead of {others[0]:g} by {round(judges * apart)} of {judges:,}"
    return f"Best on validation images: {best:g}{lead}. Test accuracies: {each}."
