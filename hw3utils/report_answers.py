"""What the report's first page says: each question's answer in a sentence, and the runs behind it.

Numbers and verdicts are computed from the results; only what a question asks in words is written
here.
"""

from typing import Any

import pandas as pd

from hw3utils import problem4_answers
from hw3utils.tables import machine

__all__ = ["WRITE_UPS", "runs", "summary"]

WRITE_UPS = (
    "The write-ups of Problems 2 and 4 are the committed ones: their numbers are those of the "
    "committed run (profile `laptop`), the notebooks below them show the runs of this table."
)

Row = tuple[str, str, int, str, str]  # problem, question, points, answer, start of the heading


def summary(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the answers, one row for each sub-question.

    Parameters
    ----------
    found : dict
        The results of each problem, ``problem1`` to ``problem4``, as its notebook writes them.

    Returns
    -------
    DataFrame
        ``question``, ``points``, ``answer``, and ``where``: a pair of the problem and
        the words with which the heading begins under which the answer is shown.
    """
    rows = [
        *_problem1(found["problem1"]),
        *_problem2(found["problem2"]),
        *_problem3(found["problem3"]),
        *_problem4(found["problem4"]),
    ]
    frame = pd.DataFrame(rows, columns=["problem", "question", "points", "answer", "where"])
    frame["where"] = list(zip(frame.pop("problem"), frame["where"], strict=True))
    return frame


def runs(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return what each problem was run with: profile, seeds, data, weights, hardware, versions."""
    return pd.DataFrame([_run(problem, results) for problem, results in found.items()])


def _run(problem: str, found: dict[str, Any]) -> dict[str, str]:
    if "environment" not in found:
        return {
            "problem": problem[-1], "profile": "any", "seeds": "none", "data and weights": "none",
            "machine": "exact counts, the same on every machine",
        }  # fmt: skip
    settings = found["settings"]
    seeds = [f"{value} ({name})" for name, value in settings.items() if name.endswith("seeds")]
    changed = f", changed: {', '.join(settings['changed'])}" if settings["changed"] else ""
    weights = found.get("weights")
    return {
        "problem": problem[-1],
        "profile": found["profile"] + changed,
        "seeds": ", ".join(seeds),
        "data and weights": found.get("dataset", "FashionMNIST")
        + (f"; ResNet-50 {weights['name']} ({weights['origin']})" if weights else ""),
        "machine": f"{machine(found)}; {found['seconds'] / 60:.0f} min",
    }


def _problem1(found: dict[str, Any]) -> list[Row]:
    accuracy = found["test_accuracy"]
    best = max(found["validation_accuracy"], key=found["validation_accuracy"].get)
    others = ", ".join(f"{arm} {accuracy[arm]:.3f}" for arm in ("constant", "1cycle"))
    return [
        ("problem1", "1.1", 5, f"lr_min = {found['lr_min']:.2g}, lr_max = {found['lr_max']:.2g}.",
         "1.1"),
        ("problem1", "1.2", 5, f"The cyclical rate reaches {accuracy['cyclical']:.3f} on the test "
         f"set (beside it: {others}); best on validation images: {best}.", "1.2"),
        ("problem1", "1.3", 10, found["batch_size_answer"]["text"].replace("\n", " "), "1.3"),
    ]  # fmt: skip


def _problem2(found: dict[str, Any]) -> list[Row]:
    naive, reduced = (found["inception"][name] for name in ("naive", "reduced"))
    operations = [f"{module['multiply_accumulates'] / 1e6:,.0f}" for module in (naive, reduced)]
    sizes = ["×".join(map(str, module["output_shape"])) for module in (naive, reduced)]
    counts = found["proposals"]["600x600"]
    receptive = found["receptive_field_three_5x5"]
    return [
        ("problem2", "2.1", 4, f"{found['alexnet_parameters']['grouped']:,} parameters.", "2.1"),
        ("problem2", "2.2", 6, f"{found['vgg19_activations']:,} activations and "
         f"{found['vgg19_parameters_without_biases']:,} parameters without biases.", "2.2"),
        ("problem2", "2.3", 3, f"By induction; three 5×5 filters see {receptive}×{receptive}.",
         "2.3"),
        ("problem2", "2.4a", 2, "Look at several scales at once, with filters of several sizes "
         "side by side.", "(a) The general idea"),
        ("problem2", "2.4b", 3, f"Naive {sizes[0]}, with reductions {sizes[1]}.",
         "(b) The output size"),
        ("problem2", "2.4c", 3, f"Naive {operations[0]} million, with reductions {operations[1]} "
         "million multiply–accumulates.", "(c) The number"),
        ("problem2", "2.4d", 4, "The naive module's channels and operations grow from stage to "
         f"stage; the reductions save {found['inception_saving']:.1%}.", "(d) The problem"),
        ("problem2", "2.5a", 2, "Proposals come from a small network that shares the detector's "
         "convolutions, in place of Selective Search.", "(a) What makes it"),
        ("problem2", "2.5b", 2, "A 3×3 convolution, then two sibling 1×1 convolutions: scores and "
         f"offsets; {found['region_proposal_network_parameters']:,} parameters on VGG-16.",
         "(b) The region"),
        ("problem2", "2.5c", 3, f"A 600×600 image has {counts['anchors']:,} anchors, "
         f"{counts['anchors_inside']:,} of them inside.", "(c) How proposals"),
        ("problem2", "2.5d", 3, "Non-maximum suppression: it leaves "
         f"{counts['after_suppression']:,} proposals there, and "
         f"{found['proposals']['600x1000']['after_suppression']:,} of a 600×1000 image.",
         "(d) From many"),
    ]  # fmt: skip


def _problem3(found: dict[str, Any]) -> list[Row]:
    images = found["images"]
    finetuned, last_layer = (
        {float(rate): score for rate, score in found[name].items()}
        for name in ("finetune", "last_layer")
    )
    return [
        ("problem3", "3.1a", 4, f"ResNet-50 with a new last layer; {found['dataset']}: "
         f"{images['train']:,} / {images['validation']:,} / {images['test']:,} images for "
         f"training, validation, test, at {found['image_size']} px.", "3.1a"),
        ("problem3", "3.1b", 6, f"Learning rate 0.001: {_score(finetuned[0.001])}.",
         "3.1b and 3.1c"),
        ("problem3", "3.1c", 6, _best(finetuned), "3.1b and 3.1c"),
        ("problem3", "3.2a", 6, _best(last_layer), "3.2a"),
        ("problem3", "3.2b", 3, found["winner"]["text"], "3.2b"),
    ]  # fmt: skip


def _score(score: dict[str, Any]) -> str:
    spread = "" if score["test_sd"] is None else f" ± {score['test_sd']:.3f}"
    end = " (diverged)" if score["diverged"] else ""
    return f"test accuracy {score['test']:.3f}{spread}{end}"


def _best(scores: dict[float, dict[str, Any]]) -> str:
    best = max(scores, key=lambda rate: scores[rate]["validation"])
    each = "; ".join(f"{rate:g}: {_score(score)}" for rate, score in scores.items())
    return f"{each}. Best on validation images: {best:g}."


def _problem4(found: dict[str, Any]) -> list[Row]:
    tables = {
        name: pd.DataFrame(found[name])
        for name in ("noise", "resampling", "teacher_student", "k", "p", "several_labels")
    }
    labels = tables["several_labels"].set_index("labels")["images"]
    answers = [
        ("4.1", 2, "One learns from the labels that images happen to carry, the other from "
         "a model's labels; a collection with its hashtags serves the first, without them the "
         "second.",
         "4.1"),
        ("4.2a", 2, "Largely robust. Here: "
         + problem4_answers.noise_answer(tables["noise"]).splitlines()[0], "4.2a"),
        ("4.2b", 2, "It shifts the training distribution towards the target's. Here: "
         + problem4_answers.resampling_answer(tables["resampling"]).splitlines()[-2], "4.2b"),
        ("4.3a", 4, "The teacher labels what nobody has labelled, and the student learns from the "
         "best of it: distillation. Here: "
         + problem4_answers.students_answer(tables["teacher_student"]), "4.3a"),
        ("4.3b", 4, "K images for each class, from the P best classes of each image. Here: "
         + problem4_answers.p_answer(tables["p"]).splitlines()[0], "4.3b"),
        ("4.3c", 4, "The K best-scored images of each class, so an image may stand under several. "
         "Here: " + problem4_answers.several_labels_answer(labels), "4.3c"),
        ("4.3d", 2, "More images help until wrong labels outweigh them. Here: "
         + problem4_answers.k_answer(tables["k"]), "4.3d"),
    ]  # fmt: skip
    return [
        ("problem4", question, points, answer.replace("\n", " "), where)
        for question, points, answer, where in answers
    ]
