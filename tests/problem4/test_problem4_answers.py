"""What Problem 4 concludes: differences of pairs fixed beforehand, and the words for them."""

import dataclasses
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import stats

from hw3utils.files import save_json
from hw3utils.problem4 import (
    answers,
    comparisons,
    experiments,
    figures,
    k_figures,
    methods,
    tables,
    teaching,
    wording,
)
from hw3utils.problem4.labels import RESAMPLING_RULES
from hw3utils.problem4.recipes import STUDENT, TEACHER
from hw3utils.settings import Problem4
from hw3utils.training.intervals import Interval, mean_interval

SETTINGS = Problem4.for_profile("smoke")
SEEDS = 5


def made_up(accuracy, seeds=SEEDS):
    """Return all of Problem 4's tables; ``accuracy(question, arm, seed)`` is in each of them."""

    def frame(question, rows, columns):
        return pd.DataFrame(
            {**row, "seed": seed, "diverged": False}
            | {column: accuracy(question, (column, *row.values()), seed) for column in columns}
            for row in rows
            for seed in range(seeds)
        )

    judged = ("linear_accuracy", "own_accuracy")
    controls = [
        (control, rate)
        for control in (experiments.LONGER, experiments.ONE_WRONG)
        for rate in experiments.NOISE_RATES[control == experiments.ONE_WRONG :]
    ]
    bands = [
        {"rule": rule, "band": band}
        for rule in RESAMPLING_RULES
        for band in (*experiments.BANDS, "all")
    ]
    small = (teaching.TUNED, teaching.ALONE, teaching.SELECTED, teaching.TAUGHT_ITSELF,
             teaching.RANDOM_IMAGES, teaching.HARD, teaching.SOFT, teaching.CEILING)  # fmt: skip
    large = (tables.THE_TEACHER, teaching.ALONE, teaching.SELECTED, teaching.HARD)
    networks = tables.NETWORKS
    arms = [{"network": networks[STUDENT], "arm": arm} for arm in small]
    arms += [{"network": networks[TEACHER], "arm": arm} for arm in large]
    rare = [
        {"images": images, "arm": arm, "p": p, "rare_rows": 100, "rare_right": 50,
         "precision": 0.5}
        for images in (tables.ONE_GARMENT, tables.TWO_GARMENTS)
        for arm, p in [*((teaching.with_p(p), p) for p in SETTINGS.ps), (teaching.HARD, np.nan),
                       (teaching.ALONE, np.nan), (teaching.balanced(1), 1),
                       (teaching.balanced(3), 3)]
    ]  # fmt: skip
    ks = [
        {"k": k, "arm": arm, "rows": 10 * k, "images": 10 * k, "precision": 0.9}
        for k in SETTINGS.ks
        for arm in teaching.MECHANISM
    ]
    return {
        "noise": frame(
            "noise", [{"noise": r} for r in (*experiments.NOISE_RATES, experiments.RANDOM)], judged
        ),
        "noise_controls": frame(
            "noise", [{"control": c, "noise": r} for c, r in controls], judged
        ),
        "resampling": frame("tail", bands, judged).assign(exponent=2.0),
        "resampling_zipf": frame("zipf", bands, judged).assign(exponent=experiments.ZIPF),
        "teacher_student": frame(
            "students", arms, ("before_finetuning", "validation_accuracy", "test_accuracy")
        ),
        "rare": frame(
            "rare", rare, ("filled", "before", "after", "rare_accuracy", "other_accuracy")
        ),
        "mechanism": frame("k", ks, ("validation_accuracy", "accuracy")),
    }  # fmt: skip


def compared(found):
    return pd.concat(
        [
            comparisons.noise(found["noise"], found["noise_controls"]),
            comparisons.resampling(found["resampling"], found["resampling_zipf"]),
            comparisons.students(found["teacher_student"]),
            comparisons.rare(found["rare"], SETTINGS),
            comparisons.mechanism(found["mechanism"], SETTINGS),
        ],
        ignore_index=True,
    )


def recorded(found):
    counts = pd.Series([3, 10, 2], name="images").rename_axis("labels").reset_index()
    return answers.record(
        SETTINGS, {**found, "differences": compared(found), "several_labels": counts}
    )


def by_arm(effects, spread=1e-4):
    """Return accuracies of 0.7 plus what ``effects`` says of an arm, with a little noise."""
    generator = np.random.default_rng(0)

    def accuracy(question, arm, seed):
        by = sum(value for (wanted, part), value in effects.items()
                 if wanted == question and part in arm)  # fmt: skip
        return 0.7 + by + generator.normal(0, spread)

    return accuracy


class TestNoiseAlone:
    def test_in_95_of_100_draws_a_question_says_nothing(self):
        """All arms are the same one, and seeds differ too: whatever is told is a false alarm."""
        generator = np.random.default_rng(4)
        found = made_up(lambda *_: 0.7)
        scores = ("accuracy", "filled", "before", "after")
        alarms, draws = Counter(), 100
        for _ in range(draws):
            of_seed = generator.normal(0.7, 0.02, SEEDS)
            for table in found.values():
                for column in (name for name in table if name.endswith(scores)):
                    noise = generator.normal(0, 0.01, len(table))
                    table[column] = of_seed[table["seed"]] + noise
            told = compared(found).query("low > 0 or high < 0")
            alarms.update(set(told["question"]))
        # Simulated with 20,000 draws the rates are 4.7 to 5.0 %; this many must agree with 5 %.
        by_chance = stats.binomtest(sum(alarms.values()), 5 * draws, 0.05, alternative="greater")
        assert by_chance.pvalue > 0.01, alarms
        assert len(alarms) == 5, "intervals that never exclude zero would be of no use"

    def test_then_no_sentence_claims_anything(self):
        generator = np.random.default_rng(1)
        found = made_up(lambda *_: 0.7 + generator.normal(0, 0.01))
        record = recorded(found)
        assert not any(
            Interval(*each).sign
            for each in compared(found)[["mean", "low", "high"]].itertuples(index=False)
        )
        said = answers.answers(record)
        assert "shows no clear effect of 25% noise" in said["4.2a"]
        assert "it cannot be told whether 25% noise costs the features more" in said["4.2a"]
        assert "neither rule shows a clear gain" in said["4.2b"]
        assert "brings no clear gain, and a teacher's labels on all of U bring no" in said["4.3a"]
        assert said["4.3b"].count("it cannot be told whether rare classes get more right") == 2
        assert said["4.3d"].count("does not measurably change") == 2
        for question in ("4.2a", "4.2b", "4.3a", "4.3b", "4.3d"):
            lines = [line for line in said[question].splitlines() if "(" in line]
            assert all(wording.UNKNOWN in line for line in lines), question

    def test_the_level_of_each_interval_makes_up_for_the_number_of_pairs(self):
        values = pd.DataFrame(
            [("m", arm, seed, 0.1 * (seed + 1) * (arm == "b"))
             for arm in "ab" for seed in range(4)],
            columns=["measure", "arm", "seed", "value"],
        )  # fmt: skip
        one = comparisons.Pair("m", "b", "a")
        for n in (1, 4):
            found = comparisons.compare("q", values, [one] * n)
            expected = mean_interval([10, 20, 30, 40], 1 - 0.05 / n)
            assert found.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx(expected)


class TestVerdicts:
    def test_words_follow_the_signs(self):
        effects = {("noise", 0.25): -0.05, ("noise", 0.5): -0.1, ("tail", "uniform"): 0.05,
                   ("students", teaching.HARD): 0.04, ("rare", "P = 3"): 0.3}  # fmt: skip
        said = answers.answers(recorded(made_up(by_arm(effects))))
        assert (
            "frozen features loses accuracy at 25% noise**" in said["4.2a"]
            and "25% noise −5.0" in said["4.2a"]
        )
        more = answers.answers(recorded(made_up(by_arm(effects | {("noise", 0.1): -0.02}))))
        assert more["4.2a"].count("at 25% noise, and already at 10%**") == 2
        assert "uniform sampling shows a clear gain" in said["4.2b"]
        some = answers.answers(recorded(made_up(by_arm({("noise", 0.5): -0.1}))))
        assert "no clear effect of 25% noise, though it loses at 50%**" in some["4.2a"]
        assert (
            "brings no clear gain, but a teacher's labels on all of U bring a gain**"
            in (said["4.3a"])
        )
        both = {("students", teaching.HARD): -0.04, ("students", teaching.SELECTED): 0.04}
        other = answers.answers(recorded(made_up(by_arm(both))))["4.3a"]
        assert "brings a gain, but a teacher's labels on all of U bring a loss**" in other
        assert f"here {SETTINGS.k:,} of each class" in other
        assert "rare classes get more right labels" in said["4.3b"]

    def test_whether_unlabelled_images_help_by_themselves_is_what_self_training_says(self):
        pairs = comparisons.STUDENT_PAIRS
        found = comparisons.students(made_up(lambda *_: 0.7)["teacher_student"])

        def said(*gains):
            told = found.assign(low=-1.0, high=1.0)
            for name in gains:
                mine = (told[["measure", "first", "second"]] == list(pairs[name])).all(axis=1)
                told.loc[mine, ["low", "high"]] = 1.0, 3.0
            return answers._by_itself(told)

        assert "no network shows a clear gain" in said()
        assert "the teacher's architecture at second hand" in said("all of U")
        assert "the teacher's architecture at second hand" in said("top K")
        assert "can help even a network that labels them itself" in said("all of U, large")

    def test_rise_and_fall_follow_the_curve_at_the_k_that_were_fixed(self):
        low, middle, high = SETTINGS.judged_ks
        shapes = {
            (-0.1, 0.0, -0.1): ("rises", "falls"), (0.0, 0.0, 0.0): ("does not", "does not"),
            (0.1, 0.0, 0.1): ("falls", "rises"), (-0.1, 0.0, 0.0): ("rises", "does not"),
        }  # fmt: skip
        for curve, (first, second) in shapes.items():
            effects = {("k", k): by for k, by in zip((low, middle, high), curve, strict=True)}
            said = answers.answers(recorded(made_up(by_arm(effects, 1e-3 if any(curve) else 0))))
            line = said["4.3d"].splitlines()[0]
            assert f"accuracy {first}" in line and f"K = {high:,} it {second}" in line, line

    def test_where_every_seed_loses_it_is_said_though_the_interval_holds_zero(self):
        losses = [-0.0197, -0.0206, -0.0103, -0.0092, -0.0077]

        def said(by_seed, effects=None):
            found = made_up(by_arm(effects or {}))
            for seed, loss in enumerate(by_seed):
                rows = (found["noise"]["noise"] == 0.25) & (found["noise"]["seed"] == seed)
                found["noise"].loc[rows, "linear_accuracy"] += loss
            return answers.answers(recorded(found))["4.2a"].splitlines()[0]

        but = "each of 5 seeds loses, but the interval holds zero**"
        assert f"shows no clear effect of 25% noise: {but}" in said(losses)
        assert f"loses accuracy at 50% noise; at 25% {but}" in said(losses, {("noise", 0.5): -0.1})
        assert "each of" not in said([*losses[:4], 0.01])
        assert "loses accuracy at 25% noise**" in said([-0.02] * 5)

    def test_a_labeller_that_had_fewer_updates_is_said_to_be_worse_or_not(self):
        alone, teacher = (f"{tables.NETWORKS[TEACHER]}, {arm}" for arm in
                          (teaching.ALONE, tables.THE_TEACHER))  # fmt: skip

        def said(effects, updates=1_000):
            students = made_up(lambda *_: 0.7)["teacher_student"]
            names = students["network"] + ", " + students["arm"]
            noise = np.random.default_rng(0).normal(0, 1e-4, len(students))
            students["test_accuracy"] += names.map(effects).fillna(0) + noise
            sizes = vars(replace(SETTINGS, student_updates=updates, teacher_updates=500))
            found = comparisons.students(students)
            return answers.students_answer(found, students, sizes).splitlines()[3]

        everything = f"{tables.NETWORKS[TEACHER]}, {teaching.HARD}"
        behind = said({alone: 0.02, everything: 0.01})
        assert "a network that is worse than the one it should beat" in behind
        assert "which its additional updates alone may explain" in behind
        assert "with 500 updates on D; the same network on D alone had 1,010 and differs" in behind
        none_more = said({alone: 0.02, everything: 0.01}, updates=200)
        assert "may explain" not in none_more, "where it had no more updates"
        assert "a network that is better than" in said({teacher: 0.02})
        equal = said({everything: 0.02})
        assert "the two cannot be told apart" in equal and "may explain" not in equal

    def test_later_pairs_have_the_level_of_those_that_were_fixed(self):
        found = made_up(by_arm({}, 1e-2))
        students, level = found["teacher_student"], 1 - 0.05 / len(comparisons.STUDENT_PAIRS)
        later = comparisons.students_later(students)
        for network, first, second in comparisons.LATER_PAIRS.values():
            wide = students[students["network"] == network].pivot(
                index="seed", columns="arm", values="test_accuracy"
            )
            expected = mean_interval(100 * (wide[first] - wide[second]).to_numpy(), level)
            told = comparisons.difference(later, network, first, second)
            assert told == pytest.approx(expected)
        table, (_, middle, high) = found["mechanism"], SETTINGS.judged_ks
        one = table[table["arm"] == teaching.ONE_CLASS].pivot(
            index="seed", columns="k", values="accuracy"
        )
        level = 1 - 0.05 / len(comparisons.mechanism_pairs(SETTINGS.judged_ks))
        expected = mean_interval(100 * (one[high] - one[middle]).to_numpy(), level)
        step = comparisons.one_class_step(table, SETTINGS.judged_ks)
        assert step == pytest.approx(expected)

    def test_whether_p_1_falls_too_is_said(self):
        low, middle, high = SETTINGS.judged_ks

        def said(paper, one_class):
            found = made_up(by_arm({}, 1e-3))
            table = found["mechanism"]
            for arm, step in ((teaching.SELECTED, paper), (teaching.ONE_CLASS, one_class)):
                table.loc[(table["arm"] == arm) & (table["k"] == high), "accuracy"] += step
            return answers.answers(recorded(found))["4.3d"].splitlines()[1]

        assert "it must vanish there: no fall shows." in said(-0.1, 0)
        assert "it is there as well, so forced labels are not all" in said(-0.1, -0.1)
        assert "the accuracy rises there" in said(-0.1, 0.1)
        assert "no clear fall for it to explain" in said(0, 0)

    def test_a_k_is_worse_or_better_than_d_alone_only_where_that_is_told(self):
        low, middle, high = SETTINGS.judged_ks

        def said(effects):
            found = made_up(by_arm({("k", k): by for k, by in effects.items()}, 1e-3))
            return answers.few_images_answer(
                found["mechanism"], found["teacher_student"], vars(SETTINGS)
            )

        mixed = said({low: -0.1, high: 0.1})
        assert f"the student is worse at K = {low}; is better at K = {high}; cannot" in mixed
        assert f"cannot be told from it at K = {middle} (" in mixed
        assert "worse" not in said({}) and "better" not in said({})

    def test_rules_and_seeds_are_compared_where_spreads_are_known(self):
        found = made_up(by_arm({("tail", "uniform"): 0.05}))
        line = answers.answers(recorded(found))["4.2b"].splitlines()[-1]
        assert line.count("lie up to 5.0 points apart") == 2
        one = made_up(by_arm({}), seeds=1)
        assert "Seeds beside rules" not in answers.answers(recorded(one))["4.2b"]

    def test_contributions_add_up_to_the_papers_method(self):
        generator = np.random.default_rng(2)
        table = made_up(lambda *_: generator.uniform())["mechanism"]
        steps = comparisons.contributions(table).set_index(["k", "seed"])
        paper = table[table["arm"] == teaching.SELECTED].set_index(["k", "seed"])["accuracy"]
        assert steps.sum(axis=1).to_numpy() == pytest.approx(paper[steps.index].to_numpy())

    def test_a_pair_of_which_one_is_missing_says_nothing(self):
        found = made_up(by_arm({("students", teaching.HARD): 0.1}))
        students = found["teacher_student"]
        lost = (students["arm"] == teaching.HARD) & (students["seed"] == 1)
        students.loc[lost, ["test_accuracy", "diverged"]] = np.nan, True
        said = answers.answers(recorded(found))["4.3a"]
        assert "a teacher's labels on all of U bring no clear gain**" in said
        assert "unknown" in said and "nan" not in said
        assert said.splitlines()[-1].startswith("Diverged") and "with 1 of 5 seeds" in said

    def test_few_seeds_give_no_endless_interval(self):
        assert wording.in_points(Interval(3.0, -400.0, 406.0)) == "+3.0 (cannot be told from 0)"
        assert wording.in_points(Interval(-3.0, -4.0, -2.0)) == "−3.0 (−4.0 to −2.0)"
        assert wording.in_points(Interval(3.0, np.nan, np.nan)) == "+3.0 (cannot be told from 0)"

    def test_the_report_says_the_same_from_what_was_saved(self, tmp_path):
        record = recorded(made_up(by_arm({("k", 25): -0.1}, 1e-3)))
        place = save_json(record, tmp_path / "found.json")
        saved = json.loads(place.read_text(encoding="utf-8"))
        assert answers.answers(saved) == answers.answers(record)
        rows = answers.report_rows(saved)
        assert sum(marks for _, marks, _, _ in rows) == 20
        assert all(answer and "nan" not in answer for _, _, answer, _ in rows)

    def test_means_and_spreads_by_hand(self):
        table = pd.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0], "accuracy": [0.5, 0.7, 1],
                              "diverged": False})  # fmt: skip
        means = tables.mean_and_spread(table, ["arm"]).set_index("arm")
        assert means.loc["a", "accuracy"] == pytest.approx(0.6)
        assert means.loc["a", "accuracy_sd"] == pytest.approx(0.1 * 2**0.5)
        assert pd.isna(means.loc["b", "accuracy_sd"])
        assert means["seeds"].tolist() == [2, 1]

    def test_methods_hold_the_sizes_of_the_run(self):
        for profile in ("laptop", "overnight"):
            sizes = Problem4.for_profile(profile)
            said = methods.lines(sizes)
            for number in (sizes.labelled, sizes.pool, sizes.student_updates, 29_178, 61_706):
                assert f"{number:,}" in said["4.3"]
            assert (
                f"{sizes.noise_updates:,}" in said["4.2a"] and "(4,000 down to 40;" in said["4.2b"]
            )
            assert f"{sizes.student_seeds} seeds" in said["4.3"]
            assert "25% noise are 25% wrong labels" in said["4.2a"] and "22.5%" in said["4.2a"]
            assert "the temperature 2 and the learning rate 0.025" in said["4.3a"]
            saved = json.loads(json.dumps({"settings": dataclasses.asdict(sizes)}))
            assert methods.of_record(saved) == said


def outcome(accuracy, stages=2):
    """Return what `train_all` returns of a recipe that ended with an accuracy; None: diverged."""
    if accuracy is None:
        return {"diverged": [True], "stage_hits": [], "seconds": 1.0}
    names = [f"{probe}{part}_hits" for probe in ("", "probe_") for part in ("validation", "test")]
    hits = torch.full((10,), accuracy)
    return {"diverged": [False] * stages, "stage_hits": [hits] * stages, "seconds": 1.0,
            **dict.fromkeys(names, hits)}  # fmt: skip


class TestTables:
    def test_what_diverged_has_no_number_in_any_table(self):
        doomed, sound = outcome(None), outcome(0.7)
        noise = tables.noise_table({(0.0, 0): sound, (0.1, 0): doomed})
        assert noise["linear_accuracy"].isna().tolist() == [False, True]
        teachers, tuned = {0: outcome(0.8, 1)}, {0: outcome(0.6, 1)}
        arms = {(STUDENT, teaching.HARD, 0): doomed, (STUDENT, teaching.SOFT, 0): sound}
        students = tables.students_table(teachers, tuned, arms).set_index("arm")
        assert students["diverged"].to_dict() == {
            "teacher": False, teaching.TUNED: False, teaching.HARD: True, teaching.SOFT: False
        }  # fmt: skip
        assert pd.isna(students.loc[teaching.HARD, "test_accuracy"])
        assert students["before_finetuning"].isna().tolist() == [True, True, True, False]

    @pytest.fixture
    def scored(self):
        truth = torch.arange(10).repeat(20)
        generator = torch.Generator().manual_seed(0)
        logits = 2 * torch.nn.functional.one_hot(truth, 10) + torch.randn(
            200, 10, generator=generator
        )
        places = torch.arange(200)
        return teaching.Collection(0, places, truth, places, truth, None, logits, (0, 1, 2))

    def test_rare_labels_are_counted_by_hand(self, scored):
        sizes = replace(SETTINGS, rare_k=20)
        names = [*map(teaching.with_p, sizes.ps), teaching.HARD, teaching.balanced(3)]
        outcomes = {(arm, 0): outcome(0.7) for arm in names} | {(teaching.ALONE, 0): outcome(None)}
        table = tables.rare_table([scored], outcomes, sizes, tables.ONE_GARMENT).set_index("arm")
        for p in sizes.ps:
            probabilities = scored.logits.softmax(dim=1).numpy()
            right = given = 0
            kept = np.argsort(-probabilities, axis=1)[:, :p]
            for label in (0, 1, 2):
                candidates = [i for i in range(200) if label in kept[i]]
                chosen = sorted(candidates, key=lambda i: -probabilities[i, label])[:20]
                given += len(chosen)
                right += sum(int(scored.truth[i]) == label for i in chosen)
            row = table.loc[teaching.with_p(p)]
            assert (row["rare_rows"], row["rare_right"]) == (given, right)
            assert row["filled"] == pytest.approx(right / 60)
        assert table.loc[teaching.balanced(3), "rare_right"] == right
        assert table.loc[teaching.HARD, ["p", "rare_right"]].isna().all()
        assert table.loc[teaching.ALONE, ["before", "after", "rare_accuracy"]].isna().all()

    def test_the_mechanisms_material_is_described(self, scored):
        outcomes = {(k, arm, 0): outcome(0.7) for k in SETTINGS.ks for arm in teaching.MECHANISM}
        table = tables.mechanism_table([scored], outcomes, SETTINGS).set_index(["k", "arm"])
        for k in SETTINGS.ks:
            selected = teaching.select(scored, k, SETTINGS.p)
            top = table.loc[(k, teaching.SELECTED)]
            assert top["rows"] == len(selected)
            assert top["precision"] == scored.precision(selected)
            assert table.loc[(k, teaching.TOP_CORRUPTED), "precision"] == top["precision"]
            assert table.loc[(k, teaching.TOP_TRUE), "precision"] == 1
            assert table.loc[(k, teaching.RANDOM_TRUE), "precision"] == 1
            assert table.loc[(k, teaching.RANDOM_IMAGES), "rows"] == min(len(selected), 200)
        paper = tables.k_table(table.reset_index())
        assert paper["k"].tolist() == list(SETTINGS.ks) and "test_accuracy" in paper


class TestFigures:
    """That each can be drawn, of sound results and of broken ones, and says what diverged."""

    @pytest.mark.parametrize("seeds", [1, 2, 5])
    def test_all_are_drawn_whatever_the_number_of_seeds(self, seeds):
        generator = np.random.default_rng(0)
        found = made_up(lambda *_: 0.7 + generator.normal(0, 0.01), seeds)
        students = found["teacher_student"]
        students.loc[students.index[0], ["test_accuracy", "diverged"]] = np.nan, True
        k = found["mechanism"]
        k.loc[k.index[0], ["accuracy", "diverged"]] = np.nan, True
        noise = tables.mean_and_spread(found["noise"], ["noise"])
        controls = tables.mean_and_spread(found["noise_controls"], ["control", "noise"])
        rare = tables.mean_and_spread(found["rare"], ["images", "arm"])
        shares = pd.DataFrame(dict.fromkeys(RESAMPLING_RULES, [0.5, 0.5]), index=[1, 2])
        curve = pd.DataFrame({"p": 3, "k": SETTINGS.ks, "precision": 0.5})
        levels = answers.levels(students)
        drawn = [
            figures.noise_curves(noise, controls, experiments.RANDOM),
            figures.resampling_panels([9, 1], shares, found["resampling"]),
            figures.students(students, comparisons.students(students)),
            figures.p_panels(rare, SETTINGS.ps),
            k_figures.k_curve(k, levels, curve, 3),
            k_figures.mechanism(k),
        ]
        for figure in drawn:
            figure.canvas.draw()
        words = " ".join(
            text.get_text() for i in (2, 4) for axes in drawn[i].axes for text in axes.texts
        )
        assert words.count(f"1 of {seeds} diverged") == 2
        plt.close("all")
