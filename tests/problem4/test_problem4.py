"""Problem 4: training in stages, what diverges, bookkeeping, and what the committed run says."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from hw3utils import paths, settings
from hw3utils.data.images import Scale, Splits
from hw3utils.files import save_json
from hw3utils.problem4 import answers, experiments, figures, recipes, tables
from hw3utils.problem4.recipes import Recipe, Stage, train_all
from hw3utils.settings import Problem4
from hw3utils.text import committed_results, differences, points
from hw3utils.training import networks
from hw3utils.training.linear import fit_linear_classifier
from made_up import make_images

ROOT = paths.project_root()
SCALE = Scale((0.5,), (0.5,))
TINY = {
    "noise_images": 100, "noise_updates": 3, "probe_images": 5, "tail_largest": 25,
    "tail_updates": 4, "labelled": 5, "pool": 250, "teacher_updates": 3, "student_updates": 3,
    "finetune_updates": 2, "k": 20, "ks": (5, 40), "rare_images": 6, "rare_k": 15,
}  # fmt: skip


@pytest.fixture(scope="module")
def splits():
    return Splits(make_images(384, seed=1), make_images(60, seed=2), make_images(60, seed=3))


@pytest.fixture
def tiny():
    return Problem4.for_profile("smoke", **TINY)


def small_recipes(splits):
    indices = torch.arange(128)
    stage = Stage(indices, splits.train.labels[indices], updates=30, lr=0.05, batch_size=32)
    return {seed: Recipe(seed, (stage,), probe=indices, score=indices[:9]) for seed in range(4)}


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name][key], second[name][key])
        for name in first
        for key in ("logits", "test_hits", "probe_test_hits", "validation_hits")
    )


class TestStages:
    def test_results_do_not_depend_on_the_number_of_workers(self, splits, tmp_path):
        one = train_all(small_recipes(splits), splits, SCALE, n_jobs=1, cache_dir=tmp_path / "1")
        two = train_all(small_recipes(splits), splits, SCALE, n_jobs=2, cache_dir=tmp_path / "2")
        assert same(one, two)
        assert not torch.equal(one[0]["logits"], one[1]["logits"])

    @pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
    def test_after_a_kill_the_rest_is_done_and_the_results_are_the_same(self, splits, tmp_path):
        program = textwrap.dedent(f"""
            from test_problem4 import SCALE, Splits, make_images, small_recipes, train_all
            splits = Splits(*(make_images(n, seed=s) for n, s in ((384, 1), (60, 2), (60, 3))))
            train_all(small_recipes(splits), splits, SCALE, n_jobs=1, cache_dir={str(tmp_path)!r})
        """)
        process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("*.pt")) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
        assert 1 <= len(kept) < 4, "the kill came too early or too late"

        resumed = train_all(small_recipes(splits), splits, SCALE, n_jobs=1, cache_dir=tmp_path)
        assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
        quiet = train_all(
            small_recipes(splits), splits, SCALE, n_jobs=1, cache_dir=tmp_path / "quiet"
        )
        assert same(resumed, quiet)

    def test_sure_soft_labels_train_like_hard_ones(self, splits, tmp_path):
        """Logits far apart at temperature 1 are one-hot; one batch of everything has no order."""
        indices = torch.arange(64)
        labels = splits.train.labels[indices]
        soft = 1_000 * F.one_hot(labels, 10).float()
        found = train_all(
            {
                name: Recipe(0, (Stage(indices, targets, 1, 0.1, batch_size=64),), score=indices)
                for name, targets in (("hard", labels), ("soft", soft))
            },
            splits, SCALE, n_jobs=1, cache_dir=tmp_path,
        )  # fmt: skip
        assert torch.allclose(found["hard"]["logits"], found["soft"]["logits"], atol=1e-4)

    def test_a_student_starts_where_the_stage_before_ended(self, splits, tmp_path):
        indices = torch.arange(200)
        labels = splits.train.labels[indices]
        long = Stage(indices, labels, updates=150, lr=0.05, batch_size=32)
        still = Stage(indices, labels, updates=1, lr=1e-12, batch_size=32)
        found = train_all(
            {"both": Recipe(0, (long, still)), "second": Recipe(0, (still,))},
            splits, SCALE, n_jobs=1, cache_dir=tmp_path,
        )  # fmt: skip
        before, after = found["both"]["stage_accuracy"]
        assert before == after > found["second"]["stage_accuracy"][0] + 0.3

    @pytest.mark.parametrize(
        ("indices", "targets", "message"),
        [
            (torch.tensor([0, 384]), torch.tensor([0, 0]), "indices must lie in 0..383"),
            (torch.tensor([-1, 3]), torch.tensor([0, 0]), "indices must lie in 0..383"),
            (torch.tensor([0, 1]), torch.tensor([0, 10]), "labels must lie in 0..9"),
            (torch.tensor([0, 1]), torch.zeros(2, 7), "10 logits for each image"),
        ],
    )
    def test_what_does_not_fit_is_refused_before_training(
        self, splits, tmp_path, indices, targets, message
    ):
        recipe = Recipe(0, (Stage(indices, targets, 1, 0.1),))
        with pytest.raises(ValueError, match=message):
            train_all({"bad": recipe}, splits, SCALE, cache_dir=tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_stage_needs_images_targets_and_updates(self):
        whole = torch.arange(3)
        with pytest.raises(ValueError, match="3 images with 2 targets"):
            Stage(whole, whole[:2], 1, 0.1)
        with pytest.raises(ValueError, match="0 images"):
            Stage(whole[:0], whole[:0], 1, 0.1)
        with pytest.raises(ValueError, match="updates=0"):
            Stage(whole, whole, 0, 0.1)


ABSURD = 1e4  # as a learning rate


class TestDivergence:
    """What diverged gives no number, and is named wherever its number would have stood."""

    def test_a_recipe_that_diverges_says_so_and_leaves_its_siblings_alone(self, splits, tmp_path):
        sound = small_recipes(splits)[0]
        doomed = replace(sound, stages=(replace(sound.stages[0], lr=ABSURD),))
        found = train_all({"a": doomed, "b": sound}, splits, SCALE, n_jobs=1, cache_dir=tmp_path)
        assert found["a"]["diverged"] == [True] and found["b"]["diverged"] == [False]
        assert np.isnan(found["a"]["stage_accuracy"][0])
        assert found["a"].keys() == {"diverged", "stage_accuracy", "seconds"}
        alone = train_all({"b": sound}, splits, SCALE, n_jobs=1, cache_dir=tmp_path / "alone")
        assert same(alone, {"b": found["b"]})

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
    def test_distillation_diverges_at_absurd_rates_alone(self, splits, tmp_path, temperature):
        """At each temperature: the loss is that temperature squared times the cross-entropy."""
        indices = torch.arange(128)
        logits = 5 * F.one_hot(splits.train.labels[indices], 10).float()
        found = train_all(
            {
                lr: Recipe(0, (Stage(indices, logits, 60, lr, temperature=temperature),))
                for lr in (0.05 / max(1, temperature), ABSURD)
            },
            splits, SCALE, n_jobs=1, cache_dir=tmp_path,
        )  # fmt: skip
        assert [outcome["diverged"] for outcome in found.values()] == [[False], [True]]
        assert "test_hits" not in found[ABSURD]

    def test_training_ends_with_the_stage_that_diverges(self, splits, tmp_path):
        sound = replace(small_recipes(splits)[0].stages[0], updates=150)
        stages = (sound, replace(sound, lr=ABSURD), sound)
        found = train_all({0: Recipe(0, stages)}, splits, SCALE, n_jobs=1, cache_dir=tmp_path)[0]
        assert found["diverged"] == [False, True]
        assert found["stage_accuracy"][0] > 0.5 and np.isnan(found["stage_accuracy"][1])
        assert "test_hits" not in found

    @staticmethod
    def outcome(accuracy):
        """What `train_all` returns of a recipe that ended with this accuracy; None: diverged."""
        if accuracy is None:
            return {"diverged": [True], "stage_accuracy": [np.nan], "seconds": 1.0}
        names = [
            f"{probe}{part}_hits" for probe in ("", "probe_") for part in ("validation", "test")
        ]
        hits = {name: torch.full((10,), accuracy) for name in names}
        return {"diverged": [False], "stage_accuracy": [accuracy], "seconds": 1.0, **hits}

    def outcomes(self, first, second):
        """Two seeds of each arm that is named in ``first``; the second one's are in ``second``."""
        return {
            (name, seed): self.outcome(accuracy)
            for seed, arms in enumerate((first, second))
            for name, accuracy in arms.items()
        }

    @staticmethod
    def words(figure):
        return " ".join(text.get_text() for axes in figure.axes for text in axes.texts)

    def test_noise(self):
        arms = {0.0: 0.8, 0.1: 0.7, 0.25: 0.7, 0.5: 0.6, experiments.RANDOM: 0.1}
        table = tables.noise_table(self.outcomes(arms, {**arms, 0.25: None}))
        assert int(table["linear_accuracy"].isna().sum()) == int(table["diverged"].sum()) == 1
        means = tables.mean_and_spread(table, ["noise"])
        assert means["linear_accuracy"].tolist() == pytest.approx([*arms.values()])
        assert means["seeds"].tolist() == [2] * 5
        assert means["diverged"].tolist() == [0, 0, 1, 0, 0]
        said = answers.noise_answer(table)
        assert "25% noise −10.0, 50% noise −20.0 ± 0.0" in said
        assert said.endswith("left out of the means: 25% noise with 1 of 2 seeds.")
        assert "1 of 2 diverged" in self.words(figures.noise_curve(means, experiments.RANDOM))

    def test_resampling(self, splits):
        arms = {"natural": 0.5, "square root": 0.6, "uniform": 0.7}
        outcomes = self.outcomes(arms, {**arms, "natural": None})
        table = tables.resampling_table(outcomes, splits.train)
        said = answers.resampling_answer(table).splitlines()
        assert len(said) == 5 and said[-1].endswith("means: natural with 1 of 2 seeds.")
        means = tables.mean_and_spread(table, ["rule", "band"])
        shares = pd.DataFrame({rule: [0.5, 0.5] for rule in arms}, index=[1, 2])
        assert "1 of 2 diverged" in self.words(figures.resampling_panels([9, 1], shares, means))

    def test_teacher_and_students(self):
        teachers = {0: self.outcome(0.8), 1: self.outcome(None)}
        three, six = torch.arange(3), torch.arange(3, 9)
        drawn = [experiments.Collection(s, three, three, six, six) for s in teachers]
        teachers[0]["logits"] = torch.zeros(6, 10)
        assert [each.seed for each in experiments.with_logits(drawn, teachers)] == [0]
        with pytest.raises(ValueError, match="the teacher diverged with every seed"):
            experiments.with_logits(drawn[1:], teachers)
        students = {("D alone", 0): self.outcome(None), ("D̂, then D", 0): self.outcome(0.7)}
        table = tables.students_table(teachers, students)
        said = answers.students_answer(table)
        assert said.startswith("Against D alone (unknown): D̂, then D unknown points.")
        assert said.endswith("teacher with 1 of 2 seeds; D alone with 1 of 1 seeds.")
        shown = self.words(figures.students(table))
        assert "1 of 2 diverged" in shown and "1 of 1 diverged" in shown and "nan" not in shown

    @pytest.fixture
    def scored(self, splits, tiny):
        drawn = experiments.collections(splits.train, replace(tiny, student_seeds=2))
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, len(drawn[0].pool), 10, generator=generator)
        return experiments.with_logits(drawn, {seed: {"logits": logits[seed]} for seed in (0, 1)})

    def test_k(self, splits, tiny, scored):
        for second, verdict in ((0.8, "The rise is there"), (None, "Whether there is a rise")):
            outcomes = self.outcomes({5: None, 40: 0.8}, {5: second and 0.7, 40: second})
            table = tables.k_table(scored, outcomes, tiny)
            said = answers.k_answer(table)
            assert said.startswith(verdict) and "K = 5 with" in said and "nan" not in said
            means = tables.mean_and_spread(table, ["k"])
            curve = tables.precision_curve(scored, tiny)
            for baseline in (0.7, np.nan):
                assert "of 2 diverged" in self.words(figures.k_curve(means, curve, baseline, 3))
        nothing = self.outcomes({5: None, 40: None}, {5: None, 40: None})
        said = answers.k_answer(tables.k_table(scored, nothing, tiny))
        assert said.startswith("There is no student") and "K = 40 with 2 of 2 seeds" in said

    def test_p(self, splits, tiny, scored):
        thinned = experiments.rare_collections(scored, tiny)
        outcomes = self.outcomes(
            dict.fromkeys(tiny.ps, 0.7), {**dict.fromkeys(tiny.ps, 0.8), 5: None}
        )
        table = tables.p_table(thinned, outcomes, tiny)
        assert "means: P = 5 with 1 of 2 seeds." in answers.p_answer(table)
        shown = figures.p_panels(tables.mean_and_spread(table, ["p"]))
        assert "1 of 2 diverged" in self.words(shown)

    def test_the_report_says_it_too_from_what_was_saved(self, found, tmp_path):
        found = json.loads(json.dumps(found))
        for name in ("noise", "resampling", "teacher_student", "k", "p"):
            for row in found[name]:
                row["diverged"] = row["seed"] == 0
                scores = [column for column in row if column.endswith("accuracy")]
                row |= dict.fromkeys(scores if row["diverged"] else (), np.nan)
        saved = json.loads(save_json(found, tmp_path / "found.json").read_text(encoding="utf-8"))
        said = {question: answer for question, _, answer, _ in answers.report_rows(saved)}
        for question in ("4.2a", "4.2b", "4.3a", "4.3b", "4.3d"):
            assert "Diverged, and left out of the means: " in said[question], question
            assert "with 1 of" in said[question] and "nan" not in said[question]

    def test_results_from_before_it_was_recorded_count_as_sound(self, found):
        for name, by in (("noise", "noise"), ("resampling", "rule"), ("k", "k"), ("p", "p")):
            table = pd.DataFrame(found[name]).drop(columns="diverged", errors="ignore")
            assert not tables.count_diverged(table, [by])["diverged"].any()


class TestPieces:
    def test_the_linear_classifier_is_at_the_optimum_that_scipy_finds(self):
        generator = torch.Generator().manual_seed(0)
        features = 5 + 3 * torch.randn(120, 4, generator=generator)
        labels = (features[:, 0] > 5).long() + (features[:, 1] > 7).long()
        ours = fit_linear_classifier(features, labels, 3, penalty=0.1)
        mean, std = features.mean(dim=0), features.std(dim=0)
        standard = ((features - mean) / std).double()

        def loss(weights):
            table = torch.tensor(weights).view(3, 5)
            logits = standard @ table[:, :4].T + table[:, 4]
            return (F.cross_entropy(logits, labels) + 0.05 * table[:, :4].square().sum()).item()

        best = minimize(
            loss, torch.zeros(15).double().numpy(), method="BFGS", options={"gtol": 1e-7}
        )
        table = torch.tensor(best.x).view(3, 5)
        expected = (standard @ table[:, :4].T + table[:, 4]).softmax(dim=1)
        assert torch.allclose(ours(features).softmax(dim=1).double(), expected, atol=2e-3)

    def test_distillation_is_the_scaled_divergence_up_to_the_teachers_entropy(self):
        generator = torch.Generator().manual_seed(0)
        student, target = torch.randn(2, 6, 5, generator=generator)
        for t in (0.5, 1.0, 4.0):
            soft = (target / t).softmax(dim=1)
            divergence = F.kl_div((student / t).log_softmax(dim=1), soft, reduction="batchmean")
            entropy = -(soft * soft.log()).sum(dim=1).mean()
            loss = recipes.distillation_loss(student, target, t)
            assert torch.isclose(loss, t**2 * (divergence + entropy), rtol=1e-5)

    def test_bad_temperatures_and_shapes_are_refused(self):
        with pytest.raises(ValueError, match="temperature=0"):
            recipes.distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), 0)
        with pytest.raises(ValueError, match="logits of"):
            recipes.distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)

    def test_the_teacher_comes_from_its_seed_and_leaves_the_global_state_alone(self):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first, again, other = (networks.build("teacher", 10, seed) for seed in (0, 0, 1))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first[0].weight, again[0].weight)
        assert not torch.equal(first[0].weight, other[0].weight)
        assert sum(p.numel() for p in first.parameters()) == 29_178


class TestExperiments:
    def test_noise_spoils_the_asked_fraction_of_the_same_images(self, splits, tiny):
        recipes = experiments.noise_recipes(splits.train, tiny)
        source = recipes[0.0, 0].stages[0].indices
        for rate in experiments.NOISE_RATES:
            (stage,) = recipes[rate, 0].stages
            wrong = (stage.targets != splits.train.labels[stage.indices]).double().mean()
            assert float(wrong) == pytest.approx(rate)
            assert torch.equal(stage.indices, source)
            assert not set(stage.indices.tolist()) & set(recipes[rate, 0].probe.tolist())
        assert recipes[experiments.RANDOM, 0].stages == ()

    def test_resampling_gives_all_rules_the_same_images_and_as_many_draws(self, splits, tiny):
        recipes = experiments.resampling_recipes(splits.train, tiny)
        drawn = {rule: recipe.stages[0] for (rule, _), recipe in recipes.items()}
        assert len({len(stage.indices) for stage in drawn.values()}) == 1
        assert len({frozenset(stage.indices.tolist()) for stage in drawn.values()}) == 1
        counts = torch.bincount(drawn["uniform"].targets, minlength=10)
        assert int(counts.max() - counts.min()) <= 1
        ranked = torch.bincount(drawn["natural"].targets)[experiments.shuffled_classes(10, 0)]
        assert ranked.tolist() == sorted(ranked.tolist(), reverse=True)

    def test_labelled_set_and_pool_share_no_image_and_rare_classes_are_rare(self, splits, tiny):
        (drawn,) = experiments.collections(splits.train, tiny)
        assert torch.bincount(splits.train.labels[drawn.labelled]).tolist() == [5] * 10
        assert not set(drawn.labelled.tolist()) & set(drawn.pool.tolist())
        logits = torch.arange(len(drawn.pool)).float().unsqueeze(1).expand(-1, 10)
        scored = experiments.with_logits([drawn], {0: {"logits": logits}})
        (thinned,) = experiments.rare_collections(scored, tiny)
        counts = torch.bincount(splits.train.labels[thinned.pool], minlength=10)
        assert counts[list(thinned.rare)].tolist() == [6, 6, 6]
        assert torch.equal(drawn.pool[thinned.logits[:, 0].long()], thinned.pool)

    def test_a_perfect_teacher_selects_with_precision_one_until_a_class_runs_out(
        self, splits, tiny
    ):
        (drawn,) = experiments.collections(splits.train, tiny)
        truth = splits.train.labels[drawn.pool]
        logits = 5 * F.one_hot(truth, 10).float()
        (scored,) = experiments.with_logits([drawn], {0: {"logits": logits}})
        fewest = int(torch.bincount(truth).min())
        few, many = (experiments.select(scored, k, 3) for k in (fewest, 2 * len(truth)))
        assert tables.precision(scored, few) == 1.0
        assert tables.precision(scored, many) == pytest.approx(1 / 3)
        counts = tables.label_counts(many)
        assert counts[3] == len(truth) and counts.sum() == len(truth)
        curve = tables.precision_curve([scored], tiny)
        assert curve["precision"].is_monotonic_decreasing or (curve["precision"] <= 1).all()

    def test_images_shown_have_the_labels_they_were_selected_for(self, splits, tiny):
        (drawn,) = experiments.collections(splits.train, tiny)
        logits = torch.randn(len(drawn.pool), 10, generator=torch.Generator().manual_seed(0))
        (scored,) = experiments.with_logits([drawn], {0: {"logits": logits}})
        selected = experiments.select(scored, 40, 3)
        shown = tables.several_labels(scored, selected)
        assert len(shown) == 6 == len({frozenset(image["labels"]) for image in shown})
        for image in shown:
            position = int(torch.nonzero(drawn.pool == image["index"]))
            probabilities = logits[position].softmax(dim=0)
            assert len(image["labels"]) > 1
            assert torch.allclose(probabilities[image["labels"]], torch.tensor(image["scores"]))
            assert image["scores"] == sorted(image["scores"], reverse=True)

    @pytest.mark.parametrize("profile", settings.PROFILES)
    def test_every_profile_asks_for_no_more_images_than_there_are(self, profile):
        sizes = Problem4.for_profile(profile)
        assert sizes.pool + 10 * sizes.labelled <= sizes.n_train
        assert sizes.noise_images + 10 * sizes.probe_images <= sizes.n_train
        assert sizes.k in sizes.ks and max(sizes.ps) <= 10
        assert sizes.tail_largest + sizes.probe_images < sizes.n_train / 10 * 0.95


class TestAnswers:
    @staticmethod
    def by_k(accuracies):
        return pd.DataFrame(
            {"k": k, "seed": seed, "precision": 1 / k, "validation_accuracy": accuracy + seed / 100,
             "test_accuracy": accuracy + seed / 100}
            for k, accuracy in accuracies.items() for seed in (0, 1)
        )  # fmt: skip

    def test_the_verdict_on_k_follows_the_curve(self):
        rise_and_fall = answers.k_answer(self.by_k({10: 0.70, 20: 0.80, 30: 0.75}))
        assert rise_and_fall.startswith("Both the rise and the fall")
        assert "K = 20" in rise_and_fall and "+10.0 ± 0.0" in rise_and_fall
        assert "−5.0 ± 0.0" in rise_and_fall
        assert "the fall is not" in answers.k_answer(self.by_k({10: 0.7, 20: 0.8, 30: 0.8}))
        assert "no rise" in answers.k_answer(self.by_k({10: 0.9, 20: 0.8, 30: 0.7}))

    def test_k_is_chosen_on_validation_images_alone(self):
        table = self.by_k({10: 0.70, 20: 0.80})
        table["validation_accuracy"] = 1 - table["validation_accuracy"]
        assert "K = 10 is best on validation images" in answers.k_answer(table)

    def test_differences_are_paired_by_seed(self):
        table = pd.DataFrame(
            {"arm": ["a", "b"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.6, 0.8, 0.9]}
        )
        mean, spread = differences(table, "accuracy", "arm", "b", "a")
        assert mean == pytest.approx(10)
        assert spread == pytest.approx(0, abs=1e-9)
        assert table.groupby("arm")["accuracy"].std().min() > 0.2

    def test_a_pair_of_which_one_is_unknown_does_not_count(self):
        table = pd.DataFrame(
            {"arm": ["a", "b"] * 2, "seed": [0, 0, 1, 1], "accuracy": [0.5, 0.6, None, 0.9]}
        )
        assert points(*differences(table, "accuracy", "arm", "b", "a")) == "+10.0"
        assert points(*differences(table, "accuracy", "arm", "a", "b")) == "−10.0"
        table["accuracy"] = None
        assert points(*differences(table, "accuracy", "arm", "b", "a")) == "unknown"

    def test_means_and_spreads_by_hand(self):
        table = pd.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0], "accuracy": [0.5, 0.7, 1]})
        means = tables.mean_and_spread(table, ["arm"]).set_index("arm")
        assert means.loc["a", "accuracy"] == pytest.approx(0.6)
        assert means.loc["a", "accuracy_sd"] == pytest.approx(0.1 * 2**0.5)
        assert pd.isna(means.loc["b", "accuracy_sd"])
        assert means["seeds"].tolist() == [2, 1]


@pytest.fixture(scope="module")
def found():
    return committed_results("problem4")


@pytest.fixture(scope="module")
def text():
    return (ROOT / "answers" / "problem4.md").read_text(encoding="utf-8")


class TestCommittedRun:
    """What was handed in. The write-up's own sentences are computed; these are its prose claims."""

    def test_the_results_hold_every_experiment(self, found):
        assert found["profile"] == "laptop"
        for name in ("noise", "resampling", "teacher_student", "k", "p"):
            assert isinstance(found[name], list) and found[name], name
        assert found["environment"]["packages"]["torch"]
        assert len({row["seed"] for row in found["k"]}) >= 2

    def test_every_subquestion_is_answered_with_its_points_and_its_experiment(self, text):
        headings = re.findall(r"^#{2,3} .*", text, re.MULTILINE)
        points = [re.findall(r"\d+", heading.rpartition("(")[2]) for heading in headings]
        assert sum(int(n) for found in points for n in found if "points" in text) == 20
        assert len(re.findall(r"^\*\*Seen here\*\*", text, re.MULTILINE)) == 7

    def test_every_figure_of_the_write_up_is_there(self, text):
        shown = re.findall(r"!\[[^]]+\]\((\.\./figures/problem4_\w+\.png)\)", text)
        assert len(shown) == 6
        for figure in shown:
            assert (ROOT / "answers" / figure).is_file(), figure
