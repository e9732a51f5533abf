"""How each experiment of Problem 4 was done: a line for each question, made from the settings."""

from collections.abc import Mapping
from typing import Any

from hw3utils.problem4.experiments import LEARNING_RATE, ZIPF, tail_counts
from hw3utils.problem4.recipes import STUDENT, TEACHER, Stage
from hw3utils.problem4.teaching import FINETUNE_RATE, TUNED_DECAYS, TUNED_RATES, WEIGHT_DECAY
from hw3utils.settings import Problem4
from hw3utils.training import networks


def of_record(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the methods of a run, from what `answers.record` put together."""
    sizes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found["settings"].items()
    }
    return lines(Problem4(**sizes))


def lines(settings: Problem4, num_classes: int = 10) -> dict[str, str]:
    """Return the methods of each question, and under "4.3" what its parts share."""
    s = settings
    student, teacher = (
        networks.count_parameters(networks.build(name, num_classes, seed=0))
        for name in (STUDENT, TEACHER)
    )
    counts = tail_counts(s, num_classes)
    sgd = (
        f"batches of {Stage.batch_size}, SGD with momentum 0.9, learning rate {LEARNING_RATE:g} "
        "falling linearly to 0"
    )
    judged = f"{s.n_test:,} test images, {s.label_seeds} seeds"
    probe = f"{s.probe_images} other images of each class with true labels"
    return {
        "4.2a": (
            f"LeNet-5 ({student:,} parameters), {s.noise_images:,} images, {s.noise_updates:,} "
            f"updates ({s.longer_updates:,} where it is trained for longer; {sgd}); a label "
            f"that is replaced never comes out as itself, so 25% noise are 25% wrong labels "
            f"(draws as in the formula above leave {0.25 * (1 - 1 / num_classes):.1%}, with "
            f"{num_classes} equal classes); the linear classifier learns from {probe}; {judged}."
        ),
        "4.2b": (
            f"LeNet-5 ({student:,} parameters); of {num_classes} classes the one of rank r keeps "
            f"{s.tail_largest:,} / r^{s.tail_exponent:g} images ({counts[0]:,} down to "
            f"{counts[-1]:,}; Zipf's law has the exponent {ZIPF:g}, which is tried as well); "
            f"{s.tail_updates:,} updates under every rule ({sgd}), so "
            f"{s.tail_updates * Stage.batch_size:,} draws; the linear classifier learns from "
            f"{probe}; {judged}."
        ),
        "4.3": (
            f"D has {s.labelled} images of each of {num_classes} classes, U {s.pool:,} others, "
            f"whose labels only measure. The teacher is a network of three convolutions with "
            f"BatchNorm and dropout ({teacher:,} parameters), trained on D for "
            f"{s.teacher_updates:,} updates; the student is LeNet-5 ({student:,} parameters, so "
            f"more than the teacher), trained for {s.student_updates:,} updates and then on D for "
            f"{s.finetune_updates:,} more at a learning rate of {FINETUNE_RATE:g} ({sgd}; weight "
            f"decay {WEIGHT_DECAY:g}; “D alone, tuned” and “all of U (soft)” have settings of "
            f"their own, see 4.3a). {s.student_seeds} seeds, each with its own D, U, weights and "
            f"order; {s.n_validation:,} validation and {s.n_test:,} test images."
        ),
        "4.3a": (
            f"K = {s.k:,}, P = {s.p}: {num_classes * s.k:,} labels for {s.pool:,} images. For "
            f"“D alone, tuned” the learning rate (of {_one_of(TUNED_RATES)}) and the weight decay "
            f"(of {_one_of(TUNED_DECAYS)}) were chosen on validation images; that network also "
            f"gave the labels of “top K (own labels)”. “all of U (soft)” has the temperature "
            f"{s.temperature:g} and the learning rate {LEARNING_RATE / s.temperature:g}."
        ),
        "4.3b": (
            f"D keeps {s.rare_labelled} images each of {s.rare_classes} classes, drawn for each "
            f"seed; U stays balanced; K = {s.rare_k:,}. For pictures of two garments U's images "
            f"are paired, a rare one always with a common one, each half as wide; D's pictures "
            "are labelled by one of the two, validation pictures show two of one class."
        ),
        "4.3c": f"The first seed's D̂ with K = {s.judged_ks[1]:,} and P = {s.p}.",
        "4.3d": (
            f"P = {s.p} except where it says 1. K = {', '.join(f'{k:,}' for k in s.judged_ks)} "
            f"were fixed for the verdict before any result; U has {s.pool // num_classes:,} images "
            "of a class on average."
        ),
    }


def _one_of(values: tuple[float, ...]) -> str:
    return f"{', '.join(f'{value:g}' for value in values[:-1])} or {values[-1]:g}"
