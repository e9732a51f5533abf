"""Problem 4: training in stages, what diverges, bookkeeping, and what the committed run says."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from hw3utils import paths, settings
from hw3utils.data.images import ImageSet, Scale, Splits
from hw3utils.problem4 import experiments, pictures, recipes, tables, teaching
from hw3utils.problem4.experiments import seeded
from hw3utils.problem4.recipes import Recipe, Stage, train_all
from hw3utils.report import publication
from hw3utils.settings import Problem4
from hw3utils.text import committed_results
from hw3utils.training import networks
from hw3utils.training.linear import fit_linear_classifier
from made_up import make_images

ROOT = paths.project_root()
SCALE = Scale((0.5,), (0.5,))
TINY = {
    "label_seeds": 1, "student_seeds": 1, "noise_images": 100, "noise_updates": 3,
    "longer_updates": 4, "probe_images": 5, "tail_largest": 25, "tail_updates": 4, "labelled": 5,
    "pool": 250, "teacher_updates": 3, "student_updates": 3, "finetune_updates": 2, "k": 20,
    "ks": (5, 20, 40), "judged_ks": (5, 20, 40), "rare_labelled": 2, "rare_k": 15,
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
        before, after = (float(hits.mean()) for hits in found["both"]["stage_hits"])
        assert before == after > float(found["second"]["stage_hits"][0].mean()) + 0.3
        assert torch.equal(found["both"]["stage_hits"][-1], found["both"]["validation_hits"])

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
        assert found["a"].keys() == {"diverged", "stage_hits", "seconds"}
        assert found["a"]["stage_hits"] == []
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
        assert [float(hits.mean()) > 0.5 for hits in found["stage_hits"]] == [True]
        assert "test_hits" not in found


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

    def test_controls_have_as_many_wrong_labels_and_more_updates(self, splits, tiny):
        usual = experiments.noise_recipes(splits.train, tiny)
        controls = experiments.noise_control_recipes(splits.train, tiny)
        for rate in experiments.NOISE_RATES[1:]:
            (stage,) = controls[experiments.ONE_WRONG, rate, 0].stages
            true = splits.train.labels[stage.indices]
            wrong = stage.targets != true
            assert float(wrong.double().mean()) == pytest.approx(rate)
            assert torch.equal(stage.targets[wrong], (true[wrong] + 1) % 10)
            (longer,) = controls[experiments.LONGER, rate, 0].stages
            (short,) = usual[rate, 0].stages
            assert longer.updates > short.updates
            assert torch.equal(longer.targets, short.targets)

    def test_labelled_set_and_pool_share_no_image_and_rare_classes_are_rare(self, splits, tiny):
        (drawn,) = teaching.collections(splits.train, tiny)
        assert torch.bincount(splits.train.labels[drawn.labelled]).tolist() == [5] * 10
        assert not set(drawn.labelled.tolist()) & set(drawn.pool.tolist())
        (few,) = teaching.long_tailed([drawn], tiny)
        counts = torch.bincount(few.labels, minlength=10)
        assert len(few.rare) == 3
        assert [int(n) for n in counts] == [2 if c in few.rare else 5 for c in range(10)]
        assert torch.equal(splits.train.labels[few.labelled], few.labels)
        assert torch.equal(few.pool, drawn.pool)

    def test_pictures_hold_two_garments_and_rare_ones_are_beside_common_ones(self, splits, tiny):
        drawn = teaching.collections(splits.train, replace(tiny, student_seeds=2))
        pictures_, found = pictures.pictures_of_two(splits, drawn, tiny)
        assert pictures_.train.images.shape[1:] == splits.train.images.shape[1:]
        taken = torch.cat([torch.cat([each.labelled, each.pool]) for each in found])
        assert taken.tolist() == list(range(len(pictures_.train)))
        for each in found:
            assert torch.equal(pictures_.train.labels[each.pool], each.truth)
            assert torch.equal(pictures_.train.labels[each.labelled], each.labels)
            rare = torch.tensor(each.rare)
            assert not (torch.isin(each.truth, rare) & torch.isin(each.second, rare)).any()
            both = torch.cat([each.truth, each.second])
            expected = torch.bincount(drawn[each.seed].truth, minlength=10)
            apart = expected - torch.bincount(both, minlength=10)
            assert 0 <= int(apart.min()) <= int(apart.sum()) <= 1  # an odd one is left over

    def test_a_picture_is_its_two_garments_at_half_their_width(self):
        """Dark and bright columns average; each half shows one garment, either side first."""
        images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
        images[1], images[2], images[3, ..., ::2] = 100, 200, 50
        made = ImageSet(images, torch.tensor([0, 0, 1, 1]), ("a", "b"))
        picture = pictures.two_of_a_kind(made)
        assert picture.labels.tolist() == [0, 1]
        sides = picture.images.float().unflatten(3, (2, 14)).mean(dim=(1, 2, 4))
        assert [{*map(int, side)} for side in sides] == [{0, 100}, {200, 25}]

    def test_a_perfect_teacher_selects_with_precision_one_until_a_class_runs_out(
        self, splits, tiny
    ):
        (drawn,) = teaching.collections(splits.train, tiny)
        truth = splits.train.labels[drawn.pool]
        logits = 5 * F.one_hot(truth, 10).float()
        (scored,) = teaching.with_logits([drawn], {0: {"logits": logits}})
        fewest = int(torch.bincount(truth).min())
        few, many = (teaching.select(scored, k, 3) for k in (fewest, 2 * len(truth)))
        assert scored.precision(few) == 1.0
        assert scored.precision(many) == pytest.approx(1 / 3)
        counts = tables.label_counts(many)
        assert counts[3] == len(truth) and counts.sum() == len(truth)
        curve = tables.precision_curve([scored], tiny)
        assert curve.groupby("p")["precision"].max().eq(1).all()

    def test_the_arms_of_the_mechanism_differ_in_one_thing_at_a_time(self, splits, tiny):
        (drawn,) = teaching.collections(splits.train, tiny)
        logits = 3 * F.one_hot(drawn.truth, 10) + torch.randn(250, 10, generator=seeded(0))
        (scored,) = teaching.with_logits([drawn], {0: {"logits": logits}})
        found = teaching.mechanism_recipes([scored], tiny)
        truth = splits.train.labels
        for k in tiny.ks:
            first = {arm: found[k, arm, 0].stages[0] for arm in teaching.MECHANISM}
            top, true = first[teaching.SELECTED], first[teaching.TOP_TRUE]
            corrupted = first[teaching.TOP_CORRUPTED]
            assert torch.equal(top.indices, true.indices)
            assert torch.equal(top.indices, corrupted.indices)
            assert torch.equal(true.targets, truth[true.indices])
            wrong = [int((s.targets != truth[s.indices]).sum()) for s in (top, corrupted)]
            assert wrong[0] == wrong[1]
            taught, random = first[teaching.RANDOM_IMAGES], first[teaching.RANDOM_TRUE]
            assert torch.equal(taught.indices, random.indices)
            assert len(taught.indices) == min(len(top.indices), 250)
            assert torch.equal(random.targets, truth[random.indices])
            assert {r.stages[1].updates for r in found.values()} == {tiny.finetune_updates}

    def test_all_students_are_regularised_alike(self, splits, tiny):
        (drawn,) = teaching.collections(splits.train, tiny)
        logits = torch.randn(250, 10, generator=seeded(0))
        scored = teaching.with_logits([drawn], {0: {"logits": logits}})
        found = teaching.student_arms(scored, scored, tiny)
        stages = [stage for recipe in found.values() for stage in recipe.stages]
        assert {stage.weight_decay for stage in stages} == {teaching.WEIGHT_DECAY}
        assert {sum(s.updates for s in recipe.stages) for recipe in found.values()} == {5}

    def test_settings_of_d_alone_are_chosen_on_validation_images(self):
        def outcome(validation, test):
            return {
                "validation_hits": torch.tensor([validation]),
                "test_hits": torch.tensor([test]),
            }

        runs = {(0.1, 0.0, 0): outcome(0.7, 0.9), (0.1, 0.1, 0): outcome(0.8, 0.5),
                (0.1, 0.0, 1): outcome(0.8, 0.9), (0.1, 0.1, 1): outcome(0.8, 0.5),
                (0.2, 0.0, 0): {"diverged": [True]}, (0.2, 0.0, 1): outcome(1.0, 1.0)}  # fmt: skip
        assert teaching.best_alone(runs) == (0.1, 0.1)
        with pytest.raises(ValueError, match="diverged on D alone"):
            teaching.best_alone({(0.1, 0.0, 0): {"diverged": [True]}})

    def test_a_balanced_fine_tuning_shows_every_class_equally_often(self, splits, tiny):
        few = teaching.long_tailed(teaching.collections(splits.train, tiny), tiny)
        logits = torch.randn(250, 10, generator=seeded(0))
        scored = teaching.with_logits(few, {0: {"logits": logits}})
        found = teaching.rare_recipes(scored, tiny)
        plain, even = (found[name(3), 0] for name in (teaching.with_p, teaching.balanced))
        assert torch.equal(plain.stages[0].indices, even.stages[0].indices)
        counts = torch.bincount(even.stages[1].targets)
        assert int(counts.max() - counts.min()) <= 1
        assert set(even.stages[1].indices.tolist()) == set(few[0].labelled.tolist())

    def test_in_a_picture_of_two_either_garment_is_right(self):
        truth, second = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])
        logits = 9.0 * F.one_hot(torch.tensor([1, 2, 0]), 3)
        indices = torch.arange(3)
        pair = teaching.Collection(0, indices, truth, indices, truth, second, logits)
        assert pair.precision(teaching.select(pair, 1, 1)) == pytest.approx(2 / 3)
        single = replace(pair, second=None)
        assert single.precision(teaching.select(single, 1, 1)) == 0

    def test_judged_numbers_must_be_among_those_that_are_tried(self):
        with pytest.raises(ValueError, match="judged_ks: \\[7\\] must be among ks too"):
            Problem4.for_profile("smoke", judged_ks=(7, 25, 128))
        with pytest.raises(ValueError, match="must be 2 numbers that rise"):
            Problem4.for_profile("smoke", judged_ps=(3, 1))

    def test_images_shown_have_the_labels_they_were_selected_for(self, splits, tiny):
        (drawn,) = teaching.collections(splits.train, tiny)
        logits = torch.randn(len(drawn.pool), 10, generator=torch.Generator().manual_seed(0))
        (scored,) = teaching.with_logits([drawn], {0: {"logits": logits}})
        selected = teaching.select(scored, 40, 3)
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
        assert 10 * sizes.k <= sizes.pool / 2, "K of 4.3a stays well below the pool"
        _, middle, largest = sizes.judged_ks
        assert 10 * middle == sizes.pool, "as many as U has of a class: beyond it labels are forced"
        assert largest == 2 * middle
        assert sizes.student_updates * Stage.batch_size >= sizes.pool, "a whole pass over U"
        assert max(sizes.ps) <= 10
        # Pictures of two garments need partners that are in neither D nor U.
        assert sizes.pool + 20 * sizes.labelled + 100 <= sizes.n_train
        assert sizes.tail_largest + sizes.probe_images < sizes.n_train / 10 * 0.95


@pytest.fixture(scope="module")
def found():
    return committed_results("problem4")


@pytest.fixture(scope="module")
def text():
    return (ROOT / "answers" / "problem4.md").read_text(encoding="utf-8")


class TestCommittedRun:
    """What was handed in. The write-up's own sentences are computed; these are its prose claims."""

    def test_the_results_hold_every_experiment(self, found):
        assert found["profile"] in publication.PROFILES
        keys = {"noise", "resampling", "teacher_student", "k", "p", "precision_curve", "mechanism",
                "rare", "differences", "several_labels"}  # fmt: skip
        for name in keys:
            assert isinstance(found[name], list) and found[name], name
        assert found["environment"]["packages"]["torch"]
        sizes = found["settings"]
        wanted = dict.fromkeys(("noise", "resampling"), sizes["label_seeds"])
        wanted |= dict.fromkeys(("teacher_student", "mechanism", "rare"), sizes["student_seeds"])
        for name in wanted:
            assert len({row["seed"] for row in found[name]}) == wanted[name], name
        assert {row["seeds"] for row in found["differences"]} <= set(wanted.values())

    def test_every_subquestion_is_answered_with_its_points_and_its_experiment(self, text):
        headings = re.findall(r"^#{2,3} .*", text, re.MULTILINE)
        points = [re.findall(r"\d+", heading.rpartition("(")[2]) for heading in headings]
        assert sum(int(n) for found in points for n in found if "points" in text) == 20
        assert len(re.findall(r"^\*\*Seen here\*\*", text, re.MULTILINE)) == 7

    def test_what_was_chosen_for_d_alone_was_tried_and_is_said(self, text, found):
        rate, decay = found["tuned"]["learning_rate"], found["tuned"]["weight_decay"]
        assert rate in teaching.TUNED_RATES and decay in teaching.TUNED_DECAYS
        assert f"Chosen for “D alone, tuned”: {rate:g} and {decay:g}." in text

    def test_every_figure_of_the_write_up_is_there(self, text):
        shown = re.findall(r"!\[[^]]+\]\((\.\./figures/problem4_\w+\.png)\)", text)
        assert len(shown) == 8
        for figure in shown:
            assert (ROOT / "answers" / figure).is_file(), figure
