"""The recipes of 4.3: a teacher, its labels, and students that learn from them in several ways.

Descriptions only, like `experiments`. All networks have the same weight decay, so that no arm is
better for being regularised; the student on D alone is also tuned on validation images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hw3utils.data.images import ImageSet
from hw3utils.problem4.experiments import LEARNING_RATE, known_and_rest, seeded, shuffled_classes
from hw3utils.problem4.labels import add_label_noise, resample
from hw3utils.problem4.pseudo_labels import PseudoLabels, select_top_k
from hw3utils.problem4.recipes import STUDENT, TEACHER, Recipe, Stage
from hw3utils.settings import Problem4

FINETUNE_RATE = 0.01
WEIGHT_DECAY = 1e-3
TUNED_RATES = (0.02, 0.05)  # tried for the student on D alone, each
TUNED_DECAYS = (0.0, 1e-3, 1e-2, 3e-2)  # with each of these weight decays

# The arms of 4.3a. All but the first two train on the pool, then on D.
ALONE, TUNED = "D alone", "D alone, tuned"
SELECTED, TAUGHT_ITSELF, RANDOM_IMAGES = "top K", "top K (own labels)", "random images"
HARD, SOFT, CEILING = "all of U", "all of U (soft)", "all of U (true labels)"
# The arms of 4.3d, beside SELECTED with the P of the settings, and RANDOM_IMAGES.
ONE_CLASS = "top K (P = 1)"
TOP_TRUE, TOP_CORRUPTED = "top K (true labels)", "top K (corrupted labels)"
RANDOM_TRUE = "random images (true labels)"
MECHANISM = (SELECTED, ONE_CLASS, RANDOM_IMAGES, TOP_TRUE, TOP_CORRUPTED, RANDOM_TRUE)


@dataclass(frozen=True, eq=False)
class Collection:
    """One seed's labelled set D and unlabelled pool U, which share no image."""

    seed: int  # they were drawn with
    labelled: Tensor  # D: indices of training images, int64
    labels: Tensor  # and their labels
    pool: Tensor  # U, likewise
    truth: Tensor  # the pool's labels: for the tables and the controls
    second: Tensor | None = None  # in pictures of two garments: the other one's label
    logits: Tensor | None = None  # the teacher's, for the pool: shape (pool, C), float32
    rare: tuple[int, ...] = ()  # classes with few labels in D

    def right(self, selected: PseudoLabels) -> Tensor:
        """Return which rows of D̂ name a class that the image shows: shape (M,), bool."""
        right = self.truth[selected.indices] == selected.labels
        if self.second is not None:
            right |= self.second[selected.indices] == selected.labels
        return right

    def precision(self, selected: PseudoLabels) -> float:
        """Return the fraction of D̂'s rows whose label names what the image shows."""
        return float(self.right(selected).double().mean())


def collections(train: ImageSet, settings: Problem4) -> list[Collection]:
    """Draw D (equally many images of each class) and U for each seed."""
    drawn = []
    for seed in range(settings.student_seeds):
        known, rest = known_and_rest(train.labels, settings.labelled, seeded(seed))
        pool = rest[: settings.pool]
        drawn.append(Collection(seed, known, train.labels[known], pool, train.labels[pool]))
    return drawn


def long_tailed(drawn: Sequence[Collection], settings: Problem4) -> list[Collection]:
    """Return the collections with only a few labels of some classes left in D.

    Which classes these are is drawn for each seed. The pools stay as they are.
    """
    thinned = []
    for each in drawn:
        order = shuffled_classes(int(each.labels.max()) + 1, each.seed)
        rare = tuple(sorted(order[: settings.rare_classes].tolist()))
        keep = torch.ones(len(each.labelled), dtype=torch.bool)
        for label in rare:
            keep[torch.nonzero(each.labels == label).flatten()[settings.rare_labelled :]] = False
        labelled, labels = each.labelled[keep], each.labels[keep]
        thinned.append(replace(each, labelled=labelled, labels=labels, rare=rare))
    return thinned


def teacher_recipes(drawn: Sequence[Collection], settings: Problem4) -> dict[int, Recipe]:
    """Return each seed's recipe for a teacher: trained on D, then asked for U's logits."""
    return {
        each.seed: Recipe(
            each.seed, (_on_labelled(each, settings.teacher_updates),), TEACHER, score=each.pool
        )
        for each in drawn
    }


def tuning_recipes(
    drawn: Sequence[Collection], settings: Problem4
) -> dict[tuple[float, float, int], Recipe]:
    """Return students on D alone by learning rate, weight decay and seed, to choose among them."""
    updates = settings.student_updates + settings.finetune_updates
    return {
        (lr, decay, each.seed): Recipe(
            each.seed, (_on_labelled(each, updates, lr, decay),), score=each.pool
        )
        for each in drawn
        for lr in TUNED_RATES
        for decay in TUNED_DECAYS
    }


def best_alone(
    outcomes: Mapping[tuple[float, float, int], Mapping[str, Any]],
) -> tuple[float, float]:
    """Return the learning rate and the weight decay with the best mean on validation images.

    Raises a ValueError where all runs diverged.
    """
    scores: dict[tuple[float, float], list[float]] = {}
    for (lr, decay, _), outcome in outcomes.items():
        hits = outcome.get("validation_hits")
        scores.setdefault((lr, decay), []).append(-1.0 if hits is None else float(hits.mean()))
    best = max(scores, key=lambda choice: sum(scores[choice]))
    if max(scores[best]) < 0:
        raise ValueError("the student diverged on D alone with every setting that was tried")
    return best


def with_logits(
    drawn: Sequence[Collection], teachers: Mapping[int, Mapping[str, Any]]
) -> list[Collection]:
    """Return the collections with the logits that each seed's teacher gave to the pool.

    A seed whose teacher diverged gave none, and is left out. Raises a ValueError where all did.
    """
    scored = [
        replace(each, logits=teachers[each.seed]["logits"])
        for each in drawn
        if "logits" in teachers[each.seed]
    ]
    if not scored:
        raise ValueError("the teacher diverged with every seed: there is nobody to learn from")
    return scored


def select(scored: Collection, k: int, p: int) -> PseudoLabels:
    """Return D̂: the teacher's logits become probabilities, and the top K of each class stay."""
    return select_top_k(scored.logits.softmax(dim=1), k, p)


def selected_rows(scored: Collection, k: int, p: int) -> tuple[Tensor, Tensor]:
    """Return the images of D̂'s rows, as indices of training images, and their labels."""
    selected = select(scored, k, p)
    return scored.pool[selected.indices], selected.labels


def student_arms(
    scored: Sequence[Collection], itself: Sequence[Collection], settings: Problem4
) -> dict[tuple[str, str, int], Recipe]:
    """Return the recipes of 4.3a by network, arm and seed.

    ``itself`` holds the same collections with the logits of the student's own network. All have as
    many updates before the fine-tuning on D; the one on D alone spends them there too.
    """
    recipes = {}
    for each in scored:
        selected, hard = selected_rows(each, settings.k, settings.p), each.logits.argmax(dim=1)
        arms = {
            ALONE: (each.labelled, each.labels),
            SELECTED: selected,
            HARD: (each.pool, hard),
            CEILING: (each.pool, each.truth),
        }
        for network in (STUDENT, TEACHER):
            for arm, rows in arms.items():
                recipes[network, arm, each.seed] = _student(each, rows, settings, network)
        n = len(selected[0])
        at_random = (each.pool[:n], hard[:n])  # the pool is in random order
        recipes[STUDENT, RANDOM_IMAGES, each.seed] = _student(each, at_random, settings)
        first, last = recipes[STUDENT, HARD, each.seed].stages
        # The square in the distillation loss makes steps grow with the temperature: undo that.
        t = settings.temperature
        soft = replace(first, targets=each.logits, lr=LEARNING_RATE / t, temperature=t)
        recipes[STUDENT, SOFT, each.seed] = Recipe(each.seed, (soft, last))
    for each in itself:
        rows = selected_rows(each, settings.k, settings.p)
        recipes[STUDENT, TAUGHT_ITSELF, each.seed] = _student(each, rows, settings)
    return recipes


def mechanism_recipes(
    scored: Sequence[Collection], settings: Problem4
) -> dict[tuple[int, str, int], Recipe]:
    """Return the recipes of 4.3d by K, arm and seed: what pulls quantity, ease and noise apart."""
    return {
        (k, arm, each.seed): _student(each, (each.pool[positions], labels), settings)
        for each in scored
        for k in settings.ks
        for arm, (positions, labels) in mechanism_rows(each, k, settings).items()
    }


def mechanism_rows(
    scored: Collection, k: int, settings: Problem4
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what each arm of 4.3d learns from: positions in the pool, int64, and their labels.

    As many images as D̂ has rows, at most the pool: at random, with true labels and with the
    teacher's; and D̂'s own, with true labels, with as many of them wrong as the teacher's are, and
    with the teacher's.
    """
    selected, one_class = select(scored, k, settings.p), select(scored, k, 1)
    true = scored.truth[selected.indices]
    wrong = 1 - scored.precision(selected)
    corrupted = add_label_noise(true, wrong, scored.logits.shape[1], seeded(scored.seed))
    at_random = torch.arange(min(len(selected), len(scored.pool)))  # the pool is in random order
    return {
        SELECTED: (selected.indices, selected.labels),
        ONE_CLASS: (one_class.indices, one_class.labels),
        RANDOM_IMAGES: (at_random, scored.logits.argmax(dim=1)[at_random]),
        TOP_TRUE: (selected.indices, true),
        TOP_CORRUPTED: (selected.indices, corrupted),
        RANDOM_TRUE: (at_random, scored.truth[at_random]),
    }


def with_p(p: int) -> str:
    """Return the name of the arm of 4.3b with this P."""
    return f"P = {p}"


def balanced(p: int) -> str:
    """Return the name of the arm of 4.3b with this P that is fine-tuned on a balanced D."""
    return f"P = {p} (balanced)"


def rare_recipes(scored: Sequence[Collection], settings: Problem4) -> dict[tuple[str, int], Recipe]:
    """Return the recipes of 4.3b by arm and seed: `with_p`, `HARD`, `ALONE` and `balanced`.

    `balanced` draws the images of D uniformly by class as it fine-tunes: a long-tailed D may undo
    there what P has brought.
    """
    recipes = {}
    for each in scored:
        arms = {with_p(p): selected_rows(each, settings.rare_k, p) for p in settings.ps}
        arms[HARD] = (each.pool, each.logits.argmax(dim=1))
        arms[ALONE] = (each.labelled, each.labels)
        for arm, rows in arms.items():
            recipes[arm, each.seed] = _student(each, rows, settings)
        for p in settings.judged_ps:
            first, last = recipes[with_p(p), each.seed].stages
            n = last.updates * last.batch_size
            classes = each.logits.shape[1]
            drawn = resample(each.labels, classes, "uniform", n, seeded(each.seed))
            last = replace(last, indices=each.labelled[drawn], targets=each.labels[drawn])
            recipes[balanced(p), each.seed] = Recipe(each.seed, (first, last))
    return recipes


def _student(
    each: Collection, rows: tuple[Tensor, Tensor], settings: Problem4, network: str = STUDENT
) -> Recipe:
    """Return a student that is trained on images with labels, then fine-tuned on D."""
    stage = Stage(*rows, settings.student_updates, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    finetuning = _on_labelled(each, settings.finetune_updates, FINETUNE_RATE)
    return Recipe(each.seed, (stage, finetuning), network)


def _on_labelled(
    each: Collection, updates: int, lr: float = LEARNING_RATE, decay: float = WEIGHT_DECAY
) -> Stage:
    """Return a stage of training on D."""
    return Stage(each.labelled, each.labels, updates, lr, weight_decay=decay)
