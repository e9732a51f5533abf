"""The last layer on features of ResNet-50: scikit-learn, a plain loop, and ours."""

from collections.abc import Callable
from typing import Any

from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmarks import textbook
from benchmarks.rows import Turn
from hw3utils import paths
from hw3utils.problem3 import experiments, features, last_layer
from hw3utils.settings import Problem3
from hw3utils.training.linear import optimal_head

STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5)
MOST_ITERATIONS = 500


def optimum(turn: Turn) -> dict[str, Callable[[], dict[str, Any]]]:
    """Minimise the penalised loss for each strength, from the strongest on."""
    train, labels, validation, validation_labels, classes = _features(turn)

    def ours() -> dict[str, Any]:
        found = optimal_head(
            train[None], labels, validation, validation_labels, classes, STRENGTHS, MOST_ITERATIONS
        )
        return {"accuracy": found.table["validation_accuracy"].max(), "strength": found.l2}

    def by_sklearn() -> dict[str, Any]:
        # The mean cross-entropy plus l2/2 times the squared weights, in its own terms.
        classifier = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
        accuracies = {}
        for l2 in STRENGTHS:
            classifier.C = 1 / (l2 * len(labels))
            classifier.fit(train.numpy(), labels.numpy())
            accuracies[l2] = classifier.score(validation.numpy(), validation_labels.numpy())
        best = max(accuracies, key=accuracies.get)
        return {"accuracy": accuracies[best], "strength": best}

    return {"ours": ours, "scikit-learn": by_sklearn}


def heads(turn: Turn) -> dict[str, Callable[[], dict[str, Any]]]:
    """Train a last layer for each of the handout's rates, as one stack or one by one."""
    train, labels, validation, validation_labels, classes = _features(turn)
    run = last_layer.HeadRun(experiments.HEAD_RATES, seed=turn.number, epochs=60)

    def ours() -> dict[str, Any]:
        found = last_layer.fit_heads(
            run, train[None], labels, validation, validation_labels, classes
        )
        finals = [result.history["validation_accuracy"].iloc[-1] for result in found]
        return {"accuracy": max(finals)}

    def one_by_one() -> dict[str, Any]:
        found = [
            textbook.train_head(train, labels, classes, lr, run.epochs) for lr in run.learning_rates
        ]
        right = [(head(validation).argmax(1) == validation_labels).float().mean() for head in found]
        return {"accuracy": float(max(right))}

    return {"ours": ours, "plain loop": one_by_one}


def _features(turn: Turn) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return features and labels of training and validation images, kept between turns."""
    sizes = {} if turn.tiny else {"n_train": 1_280, "n_validation": 400}
    settings = Problem3.for_profile("smoke" if turn.tiny else "laptop", **sizes)
    setup = experiments.load(settings)
    train, validation, _ = setup.parts
    kept = paths.project_root() / "output" / "benchmarks" / "features"
    found = features.extract(setup.base, [[train], [validation]], setup.scale, cache_dir=kept)
    first, second = (views[0] for views in found.features)
    return first, train.labels, second, validation.labels, train.num_classes
