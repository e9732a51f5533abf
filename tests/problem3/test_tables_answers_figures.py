"""Problem 3's tables, answers and figures, and the committed run."""

import json
import math

import pandas as pd
import pytest
import torch

from hw3utils import paths
from hw3utils.data.images import ImageSet, Splits
from hw3utils.problem3 import (
    answers,
    experiments,
    figures,
    finetuning,
    last_layer,
    resnet,
    tables,
)


def finetuned(features, diverged=False):
    """Return a made-up result whose second epoch, where it diverged, has no scores."""
    nothing = torch.zeros(2, 3)
    end = math.nan if diverged else 1.0
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [2, end], "validation_accuracy": [0.1, end]}
    )
    moved = dict.fromkeys(("weights", "running_mean", "running_var"), 0.1)
    return finetuning.Finetuned(
        None, history.assign(seconds=1), diverged, 1, 0.0, nothing, nothing, features, moved
    )


def labels_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


class TestDivergedRunsAreMarked:
    """One of two seeds with learning rate 0.1 diverged, and the only one with 1."""

    RESULTS = {
        (experiments.ALL_LAYERS, lr, seed): finetuned(torch.ones(2, 3), diverged)
        for lr, seed, diverged in (
            (0.01, 0, False), (0.1, 0, False), (0.1, 1, True), (1.0, 0, True)
        )
    }  # fmt: skip

    def summary(self):
        part = ImageSet(torch.zeros(2, 3, 2, 2).byte(), torch.tensor([0, 1]), ("a", "b", "c"))
        return tables.summary(tables.finetuned_scores(self.RESULTS, Splits(part, part, part)))

    def test_in_tables(self):
        assert self.summary()["diverged"].tolist() == [False, True, True]
        moved = tables.moved_table(self.RESULTS, torch.ones(2, 3))
        assert moved["diverged"].tolist() == [False, True, True]

    def test_in_figures(self):
        labels = labels_of(figures.finetuning_curves(self.RESULTS))
        assert labels == [
            "all layers, 0.01", "all layers, 0.1 (1 of 2 diverged)", "all layers, 1 (diverged)"
        ]  # fmt: skip
        assert "all layers (diverged)" in labels_of(figures.approaches(self.summary(), 0.5, 100))
        moved = tables.moved_table(self.RESULTS, torch.ones(2, 3))
        figure = figures.moved_and_gap(moved, self.summary())
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert [name.endswith("(diverged)") for name in names] == [False, True, True]

    def test_no_mark_without_divergence(self):
        table = self.summary().query("not diverged")
        labels = labels_of(figures.approaches(table, 0.5, 100))
        assert set(labels) == {"all layers", "last layer, optimum (L-BFGS)"}

    def test_in_the_curves_of_last_layers(self):
        histories = [finetuned(None, diverged).history for diverged in (False, True)]
        heads = [
            last_layer.HeadResult(0.1, seed, history, None, None, bool(seed))
            for seed, history in enumerate(histories)
        ]
        labels = labels_of(figures.head_curves(heads, 0.5))
        assert labels[0] == "learning rate 0.1 (1 of 2 diverged)"


class TestTables:
    TABLE = pd.DataFrame(
        {
            "approach": [experiments.ALL_LAYERS, experiments.ALL_LAYERS, experiments.LAST_LAYER],
            "learning_rate": [0.01, 0.1, 1.0],
            "validation": [0.8, 0.9, 0.7],
            "test": [0.9, 0.7, 0.8],
            "diverged": [False, True, False],
        }
    )

    def test_winners_are_chosen_on_validation_images_and_never_diverged(self):
        assert tables.best_row(self.TABLE, experiments.ALL_LAYERS)["learning_rate"] == 0.01
        assert tables.best_row(self.TABLE, experiments.LAST_LAYER)["learning_rate"] == 1.0

    def test_the_margin_and_its_error_are_those_of_paired_differences(self):
        labels = torch.zeros(100, dtype=torch.int64)
        right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        finetuned = torch.stack([right] * 90 + [wrong] * 10)
        head = torch.stack([right] * 80 + [wrong] * 20)
        found = answers.verdict(self.TABLE, finetuned, head, labels)
        assert found.approach == experiments.ALL_LAYERS and found.learning_rate == 0.01
        assert found.margin == pytest.approx(0.10)
        assert found.standard_error == pytest.approx((0.1 * 0.9 / 99) ** 0.5)
        assert "+10.0 points" in found.text and "larger than" in found.text

    def test_an_approach_that_diverged_throughout_does_not_win_and_is_named(self):
        logits, labels = torch.eye(4), torch.arange(4)
        both = self.TABLE.assign(diverged=[True, True, False])
        found = answers.verdict(both, logits, logits, labels)
        assert (found.approach, found.learning_rate) == (experiments.LAST_LAYER, 1.0)
        assert found.text.endswith("With every learning rate, training diverged: all layers.")
        assert answers.rate_scores(both, experiments.ALL_LAYERS) == {
            "0.01": "90.0% (diverged)", "0.1": "70.0% (diverged)"
        }  # fmt: skip
        alive = answers.verdict(self.TABLE, logits, logits, labels)
        assert alive.diverged == () and "diverged" not in alive.text

    def test_the_report_marks_a_rate_that_diverged_and_calls_another_the_best(self):
        score = {"validation": 0.5, "test": 0.4, "test_sd": None, "diverged": False}
        dead = score | {"validation": 0.9, "diverged": True}
        found = {
            "images": {"train": 8, "validation": 4, "test": 4}, "dataset": "a", "image_size": 32,
            "finetune": {"0.001": dead, "0.01": score, "0.1": dead},
            "last_layer": {"1": score}, "winner": {"text": ""},
        }  # fmt: skip
        given, best = (row[2] for row in answers.report_rows(found)[1:3])
        assert "(diverged)" in given
        assert best.count("(diverged)") == 2 and best.endswith("Best on validation images: 0.01.")

    def test_logits_that_are_not_numbers_hit_nothing_and_are_sure_of_nothing(self):
        nothing, labels = torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1])
        assert tables.accuracy(nothing, labels) == 0
        found = answers.verdict(self.TABLE, nothing, torch.eye(2)[labels], labels)
        assert found.margin == -1
        images = ImageSet(torch.zeros(4, 3, 2, 2).byte(), labels, ("cat", "dog"))
        assert tables.worst_images(nothing, images) == []
        assert figures.wrong_images([], images).axes

    def test_how_far_features_moved_by_hand(self):
        frozen = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        table = tables.moved_table(
            {(experiments.ALL_LAYERS, 0.1, 0): finetuned(frozen + torch.tensor([1.0, 0.0])),
             (experiments.RANDOM_START, 0.1, 0): finetuned(frozen)},
            frozen,
        )  # fmt: skip
        assert not table["diverged"].any()
        assert table["features"][0] == pytest.approx(2**0.5 / 5)
        assert math.isnan(table["features"][1])

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
        assert found["profile"] == "laptop" and found["settings"]["changed"] == []
        assert set(found["finetune"]) == {"0.001", "0.01", "0.1"}
        assert set(found["last_layer"]) == {"1", "0.1", "0.01", "0.001"}
        for row in [*found["finetune"].values(), *found["last_layer"].values()]:
            assert 0 <= row["validation"] <= 1 and 0 <= row["test"] <= 1
        assert found["weights"]["name"] in resnet.WEIGHTS and found["weights"]["origin"]
        assert found["winner"]["text"] and found["environment"]["packages"]["torch"]
        approaches = {row["approach"] for row in found["others"]}
        assert approaches == {experiments.PROBE_FIRST, experiments.RANDOM_START}

    def test_imagenet_is_worth_something(self, found):
        best = max(row["test"] for row in found["last_layer"].values())
        (random_start,) = (
            row["test"] for row in found["others"] if row["approach"] == experiments.RANDOM_START
        )
        assert best > random_start + 0.1

    def test_every_figure_of_the_notebook_is_committed(self):
        notebook = (paths.notebooks_dir() / "problem3.ipynb").read_text(encoding="utf-8")
        committed = list((paths.project_root() / "figures").glob("problem3_*.png"))
        assert notebook.count("save_figure(") == len(committed)
        for path in committed:
            assert f'\\"{path.stem}\\"' in notebook, f"{path.name} is not made by the notebook"
