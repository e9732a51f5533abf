"""Problem 3's tables, sentences and figures on made-up results, and the committed run."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from hw3utils import paths
from hw3utils.data.images import ImageSet
from hw3utils.problem3 import (
    answers,
    curve_answers,
    figures,
    head_experiments,
    rate_answers,
    resnet,
    tables,
)
from hw3utils.problem3.experiments import (
    ALL_LAYERS,
    HEAD_FROZEN,
    LAST_LAYER,
    PROBE_FROZEN,
    PROBE_TRAINED,
    RANDOM_START,
    SLOW_TRUNK,
    Arm,
    Size,
)
from hw3utils.problem3.finetuning import Finetuned
from hw3utils.problem3.last_layer import Head, HeadResult

SIZES = [Size(100, 8), Size(400, 2), Size(1_600, 1)]
TABLE = pd.DataFrame(
    {
        "approach": [ALL_LAYERS, ALL_LAYERS, LAST_LAYER],
        "images": 100,
        "epochs": [8, 8, 8],
        "learning_rate": [0.01, 0.1, 1.0],
        "validation": [0.8, 0.9, 0.7],
        "test": [0.9, 0.7, 0.8],
        "final_test": [0.85, 0.6, 0.8],
        "diverged": [False, True, False],
    }
)


def finetuned(features=None, diverged=False, validation=(0.4, 0.5), logits=None):
    features = torch.ones(2, 3) if features is None else features
    history = pd.DataFrame(
        {"epoch": range(1, 1 + len(validation)), "train_loss": 1.0, "train_accuracy": 0.5,
         "validation_accuracy": validation, "validation_loss": 1.0, "seconds": 2.0}
    )  # fmt: skip
    logits = torch.eye(2) if logits is None else logits
    moved = {"weights": 0.01, "running_mean": 1.0, "running_var": 0.5}
    return Finetuned(
        None, history, diverged, 2, 0.1, 0.5, torch.eye(2), logits, logits, features, moved
    )


def head(lr, seed, accuracy, loss=1.0, diverged=False):
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": loss, "train_accuracy": 0.9,
         "validation_loss": [loss, loss], "validation_accuracy": [accuracy - 0.1, accuracy]}
    )  # fmt: skip
    layer = Head(torch.eye(2), torch.zeros(2))
    return HeadResult(lr, seed, history, layer, layer, diverged)


def made_up_curve(gaps, seeds=3, noise=0.0, generator=None):
    """Return a curve on which finetuning lies ``gaps`` above the last layer, in its sizes."""
    generator = generator or np.random.default_rng(0)
    rows = []
    for size, gap in zip(SIZES, gaps, strict=True):
        for seed in range(seeds):
            base = 0.5 + 0.05 * seed
            apart = gap + noise * generator.standard_normal()
            rows.append((size.images, 60, LAST_LAYER, seed, base, base))
            rows.append((*size, PROBE_FROZEN, seed, base + apart, base))
    columns = ["images", "epochs", "approach", "seed", "test", "validation"]
    return pd.DataFrame(rows, columns=columns)


class TestCrossing:
    def test_lies_between_the_sizes_at_which_one_is_told_to_be_better(self):
        found = curve_answers.crossing(
            made_up_curve([-0.1, 0.0, 0.1], noise=0.003), PROBE_FROZEN, SIZES
        )
        assert (found.low, found.high) == (100, 1_600)
        assert 200 < found.estimate < 800
        assert "between 100 and 1,600" in found.text
        assert found.outcome.startswith("as predicted: ")

    @pytest.mark.parametrize(
        ("gaps", "reason"),
        [
            ([0.1, 0.1, 0.2], "with every number of training images that was run, 100 to 1,600"),
            ([0.0, 0.1, 0.2], "from 400 training images on, and worse with no number"),
            (
                [-0.2, -0.1, -0.1],
                "is worse than the last layer alone with 100, 400 and 1,600 training images",
            ),
            (
                [-0.2, 0.0, -0.1],
                "alone with 100 and 1,600 training images, and cannot be told from it with 400",
            ),
            ([0.1, 0.1, -0.1], "more than once"),
            ([0.0, 0.0, 0.0], "cannot be told from the last layer alone with any number"),
        ],
    )
    def test_where_there_is_none_something_else_is_told(self, gaps, reason):
        found = curve_answers.crossing(made_up_curve(gaps, noise=0.003), PROBE_FROZEN, SIZES)
        assert reason in found.reason and found.estimate is None and found.reason in found.text

    def test_one_seed_has_no_interval(self):
        found = curve_answers.crossing(made_up_curve([-0.1, 0, 0.1], seeds=1), PROBE_FROZEN, SIZES)
        assert found.low is found.high is None and "one seed" in found.text
        assert found.outcome == found.text, "what is not told contradicts no prediction"

    def test_noise_alone_hardly_ever_crosses(self):
        generator = np.random.default_rng(0)
        told = 0
        for _ in range(300):
            curve = made_up_curve([0, 0, 0], noise=0.02, generator=generator)
            found = curve_answers.crossing(curve, PROBE_FROZEN, SIZES)
            told += not found.reason
        assert told <= 6

    def test_the_gap_is_paired_by_seed(self):
        curve = made_up_curve([0.1, 0.1, 0.1])
        curve = curve[(curve["approach"] != LAST_LAYER) | (curve["seed"] != 1)]
        assert curve_answers.gap(curve, PROBE_FROZEN, SIZES[0]) == pytest.approx([0.1, 0.1])


class TestDifferences:
    FIRST = torch.tensor([True] * 90 + [False] * 10)
    SECOND = torch.tensor([True] * 80 + [False] * 20)

    def test_are_paired_by_the_seeds_that_both_have(self):
        right = {"a": {0: self.FIRST, 1: self.FIRST}, "b": {1: self.SECOND, 0: self.FIRST, 2: None}}
        row = tables.differences(right, [("a", "b")]).iloc[0]
        assert (row["seeds"], row["mean"]) == (2, pytest.approx(5.0))
        reach = stats.t.ppf(0.975, 1) * 5.0
        assert (row["low"], row["high"]) == pytest.approx((5 - reach, 5 + reach))

    def test_mcnemar_is_the_binomial_test_of_what_only_one_gets_right(self):
        p = tables.mcnemar(self.FIRST, self.SECOND)
        assert p == pytest.approx(2 * 0.5**10)
        assert tables.mcnemar(self.SECOND, self.FIRST) == pytest.approx(p)
        assert tables.mcnemar(self.FIRST, self.FIRST) == 1.0

    def test_the_largest_p_of_the_seeds_counts(self):
        right = {"a": {0: self.FIRST, 1: self.FIRST}, "b": {0: self.SECOND, 1: self.FIRST}}
        assert tables.differences(right, [("a", "b")]).iloc[0]["p"] == 1.0

    def test_words_follow_the_interval_and_with_one_seed_mcnemar(self):
        row = {"mean": 2.0, "low": 1.0, "high": 3.0, "seeds": 3, "p": 0.9}
        assert answers.difference_words(row).endswith("3 seeds): higher")
        assert answers.difference_words(row | {"low": -1.0}).endswith("cannot be told")
        assert answers.difference_words(row | {"low": -3, "high": -1}).endswith("lower")
        one = {"mean": -2.0, "low": math.nan, "high": math.nan, "seeds": 1, "p": 0.001}
        assert answers.difference_words(one).endswith("McNemar p = 0.001): lower")
        assert answers.difference_words(one | {"p": 0.06}).endswith("cannot be told")

    def test_noise_alone_is_told_in_about_five_of_a_hundred(self):
        generator = np.random.default_rng(1)
        told = 0
        for _ in range(400):
            values = generator.standard_normal(3)
            low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
            row = {"mean": values.mean(), "low": low, "high": high, "seeds": 3, "p": 0.0}
            told += tables.told(row) != 0
        assert 8 <= told <= 34


class TestHeads:
    RESULTS = {  # at rate 1 more accurate, but far surer of its mistakes
        (100, seed): [head(1.0, seed, 0.8, loss=9.0), head(0.01, seed, 0.79, loss=0.7)]
        for seed in (0, 1)
    }

    def test_the_best_rate_is_one_for_all_seeds(self):
        results = self.RESULTS | {(100, 2): [head(1.0, 2, 0.5), head(0.01, 2, 0.9)]}
        assert {each.lr for each in head_experiments.best_heads(results).values()} == {0.01}
        assert {each.lr for each in head_experiments.best_heads(self.RESULTS).values()} == {1.0}

    def test_a_rate_that_diverged_for_a_seed_is_taken_only_where_all_did(self):
        results = {(9, 0): [head(1.0, 0, 0.9, diverged=True), head(0.1, 0, 0.2)]}
        assert head_experiments.best_heads(results)[9, 0].lr == 0.1
        only = {(9, 0): [head(1.0, 0, 0.9, diverged=True)]}
        assert head_experiments.best_heads(only)[9, 0].lr == 1.0

    def test_finetuning_starts_from_the_layer_with_the_lowest_loss(self):
        results = {key: heads for key, heads in self.RESULTS.items()}
        marked = Head(torch.ones(2, 2), torch.ones(2))
        for key, (loud, calm) in results.items():
            object.__setattr__(calm, "best", marked)
            results[key] = [loud, calm]
        assert all(each is marked for each in head_experiments.starting_heads(results).values())

    @staticmethod
    def scores(best, gap=0.1, noise=(0.0, 0.001)):
        """Return three rates' last layers, two seeds each: by images, ``best`` is ``gap`` ahead."""
        scores = pd.DataFrame(
            {"images": n, "epochs": 60, "learning_rate": rate, "seed": seed,
             "validation": 0.5 + (gap + noise[seed]) * (rate == best[n])}
            for n in best for rate in (0.01, 0.1, 1.0) for seed in (0, 1)
        )  # fmt: skip
        scores["approach"] = LAST_LAYER
        scores[["test", "final_test", "train", "best_epoch"]] = 0.5
        return scores.assign(diverged=False)

    def test_the_trend_over_images_is_said_as_it_is(self):
        def trend(*rates, **options):
            best = dict(zip((160, 640, 2_560), rates, strict=True))
            return rate_answers.rate_trend(self.scores(best, **options), 60)

        assert "as expected" in trend(0.01, 0.1, 0.1)
        assert "not what we expected" in trend(0.1, 0.1, 0.01)
        assert "no clear trend" in trend(0.1, 1, 0.01)
        assert "the same for all" in trend(0.1, 0.1, 0.1)
        assert "undecided" in trend(0.1, 0.1, 0.01, gap=0.001, noise=(0.01, -0.01))

    def test_a_trend_is_hardly_ever_told_of_noise(self):
        generator = np.random.default_rng(0)
        told = 0
        for _ in range(200):
            scores = self.scores({160: 0.01, 640: 0.1, 2_560: 1.0}, gap=0.0)
            scores["validation"] += 0.01 * generator.standard_normal(len(scores))
            told += "undecided" not in rate_answers.rate_trend(scores, 60)
        same = 200 / 9  # three rates drawn for three numbers of images are equal that often
        assert told < same + 3 * same**0.5 + 6

    def test_how_surely_the_best_rate_leads(self):
        scores = self.scores({160: 0.1}, gap=0.02)
        scores.loc[scores["learning_rate"] == 1.0, "validation"] = [0.5, 0.53]
        words = rate_answers.lead_words(scores, Size(160, 60))
        assert words.startswith("Validation accuracy at 0.1 minus that at another rate, in points")
        assert "0.01: +2.1 (" in words and "1: +0.6 (" in words
        assert words.count("higher") == words.count("cannot be told") == 1
        one = rate_answers.lead_words(scores[scores["seed"] == 0], Size(160, 60))
        assert one.count("(one seed), cannot be told") == 2 and "nan" not in one


class TestVerdict:
    ROW = {
        "first": "one",
        "second": "other",
        "mean": 10.0,
        "low": 5.0,
        "high": 15.0,
        "seeds": 3,
        "p": 0.01,
    }

    def test_winners_are_chosen_on_validation_images_and_never_diverged(self):
        best = tables.best_row(TABLE, ALL_LAYERS, 100, 8)
        assert best["learning_rate"] == 0.01
        found = answers.verdict(best, tables.best_row(TABLE, LAST_LAYER, 100, 8), self.ROW)
        assert (found.approach, found.learning_rate) == (ALL_LAYERS, 0.01)
        assert "one minus other is +10.0 points (+5.0 to +15.0, 3 seeds): higher" in found.text

    def test_how_surely_a_rate_is_the_best_and_what_was_expected(self):
        tuned = pd.DataFrame({"learning_rate": [0.001, 0.01, 0.1], "diverged": [False, False, True],
                              "validation": [0.808, 0.804, 0.9]})  # fmt: skip
        words = rate_answers.best_rates_words(tuned, pd.Series({"learning_rate": 0.001}), 500)
        assert "ahead of 0.01 by 2 of 500 images (expected was 0.01; below 25 images" in words
        assert "chance may decide): undecided. It is the lowest that was tried." in words
        assert "0.001, not larger: undecided." in words
        for validation, outcome in ((0.9, "NOT as predicted"), (0.7, "as predicted")):
            clear = tuned.assign(validation=[validation, 0.8, 0.9])
            words = rate_answers.best_rates_words(clear, pd.Series({"learning_rate": 0.1}), 500)
            assert (
                f"chance may decide): {outcome}." in words and "0.1, larger: as predicted" in words
            )

    def test_a_better_last_layer_explains_the_rest_only_where_it_reaches_it(self):
        tuned, last = pd.Series({"test": 0.77}), pd.Series({"test": 0.72})
        assert "which leaves the features" in answers.why_words(tuned, last, 0.74, self.ROW)
        assert "can do as well" in answers.why_words(tuned, last, 0.78, self.ROW)
        assert answers.why_words(tuned, last, 0.74, self.ROW | {"low": -1.0}) == ""

    def test_an_approach_that_diverged_throughout_does_not_win_and_is_named(self):
        both = TABLE.assign(diverged=[True, True, False])
        tuned, last = (tables.best_row(both, name, 100, 8) for name in (ALL_LAYERS, LAST_LAYER))
        found = answers.verdict(tuned, last, self.ROW)
        assert found.approach == LAST_LAYER
        assert found.text.endswith("With every learning rate, training diverged: all layers.")
        assert "(diverged)" in rate_answers.rate_scores(both)["0.1"]

    def test_best_and_last_epoch_are_both_said(self):
        words = rate_answers.rate_scores(TABLE)["0.01"]
        assert words == "90.0% in the best epoch, 85.0% in the last"

    def test_the_report_marks_a_rate_that_diverged_and_calls_another_the_best(self):
        score = {"validation": 0.5, "test": 0.4, "test_sd": None, "diverged": False}
        dead = score | {"validation": 0.9, "diverged": True}
        found = {
            "official_images": {"train and validation": 8, "test": 4}, "dataset": "a",
            "image_size": 32, "protocol": {"images": 8, "epochs": 2},
            "finetune": {"0.001": dead, "0.01": score, "0.1": dead},
            "last_layer": {"1": score, "0.1": score | {"validation": 0.6}},
            "images": {"validation": 500},
            "winner": {"text": "One wins."}, "plain_crossing": {"text": "Plain."},
            "crossing": {"text": "It crosses.", "low": None, "high": 4},
            "settings": {"curve": [[4, 2], [8, 1]], "longer": [[8, 5]]},
            "differences": [
                {"first": f"{ALL_LAYERS} at 0.01, 8 × {epochs}", "second": f"{LAST_LAYER}, 8",
                 "mean": points, "low": None, "high": None, "seeds": 1, "p": 0.001}
                for epochs, points in ((1, -4.0), (5, 8.5))
            ],
        }  # fmt: skip
        given, best, last = (row[2] for row in answers.report_rows(found)[1:4])
        assert "(diverged)" in given
        assert best.count("(diverged)") == 2
        assert best.startswith("Best on validation images: 0.01. ")
        assert "Best on validation images: 0.1, ahead of 1 by 50 of 500." in last
        which = answers.report_rows(found)[-1][2]
        assert which.startswith("**It crosses.** Plain.")
        assert "Longer runs, minus the last layer alone: all layers at 0.01, 8 × 5, +8.5" in which
        assert "-4.0" not in which
        found["crossing"]["high"] = None  # nothing is told: not the first thing to say
        assert answers.report_rows(found)[-1][2].startswith("With 3.1b's 8 images one wins.")


class TestSentences:
    def test_outcomes_in_two_arithmetics_are_paired(self):
        labels = torch.tensor([0, 1])
        outcomes = {
            (ALL_LAYERS, bf16, seed): finetuned(logits=torch.eye(2) if bf16 else 1 - torch.eye(2))
            for bf16 in (True, False)
            for seed in (0, 1)
        }
        words = answers.outcome_words(outcomes, labels)
        assert "2 small runs" in words and "+100.0 points" in words and "1.0 times" in words
        assert answers.outcome_words({}, labels) == ""

    def test_a_curve_that_still_moves_is_told_from_a_flat_one(self):
        flat = finetuned(validation=(0.1, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6))
        rising = finetuned(validation=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
        words = rate_answers.flatness(
            {Arm(ALL_LAYERS, 9, 8, 0.01, 0): flat, Arm(ALL_LAYERS, 9, 8, 0.1, 0): rising}
        )
        assert "0.01: +0.0 points" in words and "0.1: +10.0 points" in words

    def test_predictions_are_held_against_what_was_found(self):
        down = {"mean": -5.0, "low": -7.0, "high": -3.0, "seeds": 3, "p": 0.0}
        up = {"mean": 5.0, "low": 3.0, "high": 7.0, "seeds": 3, "p": 0.0}
        names = {"first": "one", "second": "other"}
        moved = tables.moved_table(
            {Arm(name, 400, 2, 0.001, 0): finetuned() for name in (PROBE_TRAINED, PROBE_FROZEN)},
            torch.full((2, 3), 0.5),
        )
        told = pd.DataFrame([names | down, names | down, names | up])
        words = answers.mechanism_words(told, moved, SIZES[1])
        assert words.count("- as predicted") == 3 and "NOT" not in words
        assert "of 3 comparisons" in words and "supported by all that is told" in words
        assert "moved by 1.00% of their length" in words and "features by 100%" in words
        helped = {"first": f"{HEAD_FROZEN} at 0.001", "second": "plain"} | up
        with_fourth = answers.mechanism_words(
            pd.concat([told, pd.DataFrame([helped])], ignore_index=True), moved, SIZES[1]
        )
        assert with_fourth.count("NOT as predicted") == 1, "freezing alone was to be of no help"
        assert "helps with a random last layer, too" in with_fourth
        assert "3 came out as predicted and 1 did not: it is supported in part" in with_fourth
        start = {"first": "other", "second": "last layer"}
        for outcome, enough in ((down, "is not enough by itself"), (up, "is enough by itself")):
            rows = pd.concat([told, pd.DataFrame([start | outcome])], ignore_index=True)
            assert enough in answers.mechanism_words(rows, moved, SIZES[1])
        of_no_help = pd.concat([told, pd.DataFrame([helped | down])], ignore_index=True)
        words = answers.mechanism_words(of_no_help, moved, SIZES[1])
        assert "with a random last layer is not shown" in words
        more = [{"first": f"{SLOW_TRUNK} at 0.001", "second": "plain"} | down,
                {"first": f"{RANDOM_START} at 0.01", "second": "plain"} | down]  # fmt: skip
        with_both = pd.concat([told, pd.DataFrame(more)], ignore_index=True)
        assert answers.mechanism_words(with_both, moved, SIZES[1]).count("NOT as predicted") == 1
        refused = pd.DataFrame([names | up, names | down, names | up | {"low": -1.0}])
        words = answers.mechanism_words(refused, moved, SIZES[1])
        assert words.count("NOT as predicted") == words.count("undecided") == 1


class TestTables:
    def test_a_rate_that_got_more_seeds_is_compared_by_those_that_all_have(self):
        scores = pd.DataFrame({"learning_rate": [0.1, 0.1, 0.01], "seed": [0, 1, 0],
                               "validation": [0.8, 0.2, 0.7]})  # fmt: skip
        scores[["approach", "images", "epochs"]] = ALL_LAYERS, 9, 8
        scores[["test", "final_test", "train", "best_epoch", "diverged"]] = 0.5, 0.5, 0.5, 1, False
        table = tables.summary(scores)
        assert tables.best_row(table, ALL_LAYERS, 9, 8)["learning_rate"] == 0.1
        assert table["validation"].tolist() == [0.8, 0.7] and table["seeds"].tolist() == [2, 1]

    def test_the_curve_holds_the_chosen_layers_and_the_standard_rates(self):
        heads = {(100, 0): head(0.1, 0, 0.6)}
        columns = ["approach", "images", "epochs", "learning_rate", "seed", "test", "validation"]
        of_heads = pd.DataFrame(
            [(LAST_LAYER, 100, 60, 0.1, 0, 0.6, 0.6), (LAST_LAYER, 100, 60, 1.0, 0, 0.5, 0.5)],
            columns=columns,
        )
        tuned = pd.DataFrame(
            [(ALL_LAYERS, 100, 8, 0.01, 0, 0.4, 0.4), (ALL_LAYERS, 100, 8, 0.1, 0, 0.9, 0.9),
             (PROBE_FROZEN, 100, 8, 0.001, 0, 0.7, 0.7), (PROBE_TRAINED, 100, 8, 0.001, 0, 0.1, 0),
             (PROBE_FROZEN, 100, 99, 0.001, 0, 0.8, 0.8)],
            columns=columns,
        )  # fmt: skip
        found = tables.curve(heads, of_heads, tuned, SIZES)
        assert sorted(found["test"]) == [0.4, 0.6, 0.7]

    def test_how_far_features_moved_by_hand(self):
        frozen = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        table = tables.moved_table(
            {Arm(ALL_LAYERS, 9, 8, 0.1, 0): finetuned(frozen + torch.tensor([1.0, 0.0])),
             Arm(RANDOM_START, 9, 8, 0.1, 0): finetuned(frozen, diverged=True)},
            frozen,
        )  # fmt: skip
        assert table["diverged"].tolist() == [False, True]
        assert table["features"][0] == pytest.approx(2**0.5 / 5)
        assert math.isnan(table["features"][1])

    def test_logits_that_are_not_numbers_hit_nothing_and_are_sure_of_nothing(self):
        nothing, labels = torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1])
        assert tables.accuracy(nothing, labels) == 0
        images = ImageSet(torch.zeros(4, 3, 2, 2).byte(), labels, ("cat", "dog"))
        assert tables.worst_images(nothing, images) == []
        assert figures.wrong_images([], images).axes

    def test_a_confusion_matrix_by_hand(self):
        matrix = tables.confusion_matrix(
            torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 2]), num_classes=3
        )
        assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
        by_class = tables.class_accuracy({"a": matrix}, ("x", "y", "z"))
        assert by_class["a"].tolist() == [0.5, 1.0, 1.0]

    def test_the_worst_images_are_the_surest_wrong_ones(self):
        logits = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
        images = ImageSet(
            torch.zeros(4, 3, 2, 2).byte(), torch.tensor([0, 1, 1, 1]), ("cat", "dog")
        )
        worst = tables.worst_images(logits, images)
        assert [each["index"] for each in worst] == [3, 1]
        assert worst[0]["predicted"] == 0 and worst[0]["probability"] > 0.99


@pytest.fixture(scope="module")
def found():
    path = paths.project_root() / "answers" / "results" / "problem3.json"
    return json.loads(path.read_text(encoding="utf-8"))


class TestCommittedRun:
    def test_it_holds_every_rate_and_hangs_together(self, found):
        assert found["profile"] == "overnight" and found["settings"]["changed"] == []
        assert {row["seed"] for row in found["curve"]} >= {0, 1, 2}
        assert set(found["finetune"]) == {"0.001", "0.01", "0.1"}
        assert set(found["last_layer"]) == {"1", "0.1", "0.01", "0.001"}
        for row in [*found["finetune"].values(), *found["last_layer"].values(), *found["curve"]]:
            assert 0 <= row["validation"] <= 1 and 0 <= row["test"] <= 1
        assert found["weights"]["name"] in resnet.WEIGHTS and found["weights"]["origin"]
        assert found["winner"]["text"] and found["environment"]["packages"]["torch"]
        assert found["arithmetic"]["used"] in ("bf16", "float32")
        approaches = {row["name"] for row in found["arms"]}
        assert approaches >= {ALL_LAYERS, PROBE_FROZEN, PROBE_TRAINED}

    def test_the_crossing_has_two_bounds_or_a_reason(self, found):
        crossing = found["crossing"]
        assert bool(crossing["reason"]) != (crossing["low"] is not None is not crossing["high"])


class TestFigures:
    RESULTS = {
        Arm(ALL_LAYERS, 400, 2, 0.01, 0): finetuned(),
        Arm(ALL_LAYERS, 400, 2, 0.1, 0): finetuned(),
        Arm(ALL_LAYERS, 400, 2, 0.1, 1): finetuned(diverged=True),
        Arm(ALL_LAYERS, 400, 2, 1.0, 0): finetuned(diverged=True),
    }

    def labels(self, figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    def test_divergence_is_marked_in_the_curves(self):
        assert self.labels(figures.finetuning_curves(self.RESULTS, "title")) == [
            "all layers, 0.01", "all layers, 0.1 (1 of 2 diverged)", "all layers, 1 (diverged)"
        ]  # fmt: skip
        heads = {0: [head(0.1, 0, 0.5)], 1: [head(0.1, 1, 0.5, diverged=True)]}
        labels = self.labels(figures.head_curves(heads, 0.5))
        assert labels[0] == "learning rate 0.1 (1 of 2 diverged)"

    def test_validation_accuracy_begins_before_the_first_update(self):
        figure = figures.finetuning_curves(self.RESULTS, "title")
        line = figure.axes[1].lines[0]
        assert line.get_xdata().tolist() == [0, 1, 2]
        assert line.get_ydata() == pytest.approx([10, 40, 50])

    def test_the_picture_marks_those_crossings_that_there_are(self):
        curve = made_up_curve([-0.1, 0.0, 0.1], noise=0.003)
        found = curve_answers.crossing(curve, PROBE_FROZEN, SIZES)
        none = curve_answers.crossing(made_up_curve([0.1, 0.1, 0.1]), PROBE_FROZEN, SIZES)
        texts = figures.accuracy_curve(curve, SIZES, [none, found]).axes[0].texts
        marked = [text.get_text() for text in texts if "overtakes" in text.get_text()]
        assert len(marked) == 1 and PROBE_FROZEN in marked[0]

    def test_an_effect_that_cannot_be_told_is_hollow(self):
        names = {"first": "one", "second": "other", "mean": 1.0, "seeds": 3, "p": 1.0}
        rows = pd.DataFrame([names | {"low": 0.5, "high": 1.5}, names | {"low": -1, "high": 3}])
        markers = [
            line for line in figures.effects(rows, "t").axes[0].lines if line.get_marker() == "o"
        ]
        assert [line.get_markerfacecolor() == "white" for line in markers] == [False, True]
