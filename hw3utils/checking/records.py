"""What students record: numbers that they calculated, and what their training runs gave.

`cases` turns a record into labels and values, as `running.run` does for functions. A run has no
one right result: there each value is "right", or a sentence that says what is wrong.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hw3utils.checking.judging import TODO

TOLERANCE = 1e-4  # relative
CLOSE = 0.15  # at most between the accuracies on validation and on test images
FINETUNING, LAST_LAYER = (0.001, 0.01, 0.1), (0.001, 0.01, 0.1, 1.0)
SETTINGS = {"learning rate": 0.001, "momentum": 0.9, "batch size": 64, "factor": 0.1}

TEMPLATES = {  # what the notebooks' cells begin with; numbers instead of None
    "2.1 layers": "{\n    # the number of parameters of each layer, biases too\n"
    "    'conv1': None, 'conv2': None, 'conv3': None, 'conv4': None, 'conv5': None,\n"
    "    'fc6': None, 'fc7': None, 'fc8': None, 'total': None,\n}",
    "2.2 rows": "[\n    ('input', 224 * 224 * 3, 0),  # layer, activations, weights without biases"
    "\n    # … a row for each layer, pools too, in the order of the network\n"
    "    # ('total', …, …),\n]",
    "2.4 size": "{\n    # (height, width, channels) of the output; input 32×32×256, strides 1\n"
    "    'naive': None,  # 1×1: 128 filters, 3×3: 192, 5×5: 96; 3×3 max pool\n"
    "    # 1×1: 128; 1×1: 128, then 3×3: 192; 1×1: 32, then 5×5: 96; pool, then 1×1: 64\n"
    "    'reduced': None,\n}",
    "2.4 operations": "{\n    # one operation is one multiplication with its addition\n"
    "    'naive': {'1x1': None, '3x3': None, '5x5': None, 'total': None},\n"
    "    'reduced': {'1x1': None, 'before 3x3': None, '3x3': None, 'before 5x5': None,\n"
    "                '5x5': None, 'after pool': None, 'total': None},\n}",
    "2.4 saving": "None  # the share saved, 0 to 1\n",
    "3.1 protocol": "{\n    # 3.1b is the run at 0.001; 3.1c adds 0.01 and 0.1\n"
    "    'learning rate': None, 'momentum': None, 'batch size': None,\n"
    "    'epochs': None, 'drops after epochs': None, 'factor': None,\n"
    "    # a list, after each epoch: list(of_rates) names the runs above, and for the one at\n"
    "    # 0.001 of_rates[name].history['validation_accuracy'].tolist() is this list\n"
    "    'validation accuracy': None,\n"
    "    'test accuracy': None,\n}",
    "3.1 rates": "{\n    'scores': {lr: {'validation': None, 'test': None} for lr in "
    "(0.001, 0.01, 0.1)},\n    'chosen': None,  # the best learning rate\n}",
    "3.2 rates": "{\n    'scores': {lr: {'validation': None, 'test': None} for lr in "
    "(1, 0.1, 0.01, 0.001)},\n    'chosen': None,  # the best learning rate\n}",
}


def cases(name: str, recorded: Any) -> dict[str, Any]:
    """Return a record as labels and values; whatever it is, this raises nothing."""
    said = f"{TODO} {name}: fill in the cell record({name!r}, …) in the notebook, and run it"
    nothing = {"preparation": {"error": said}}
    if _all_none(recorded):
        return nothing
    try:
        found = dict(_CASES[name](recorded))
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError) as error:
        said = f"the record has another form than asked: {error!r}"
        if isinstance(recorded, Mapping) and None in recorded.values():
            blank = [str(key) for key, value in recorded.items() if value is None]
            said = f"nothing recorded yet for {', '.join(blank)}"
        return {"preparation": {"error": said}}
    return nothing if all(value is None for value in found.values()) else found


def _all_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_all_none, value.values()))
    return value is None


def _layers(recorded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in recorded.items():
        name = re.sub(r"\W|_", "", str(name).lower())
        group = "convolutions" if name.startswith("conv") else "linear layers and total"
        yield f"{group}: {name}", value


def _rows(recorded: list[Any]) -> Iterator[tuple[str, Any]]:
    block, row = 1, 0
    for name, activations, weights in recorded:
        group = f"block {block}" if block < 6 else "linear layers and total"
        row += 1
        yield f"{group}: activations of row {row}", activations
        yield f"{group}: weights of row {row}", weights
        if "pool" in str(name).lower():
            yield f"{group}: number of rows", row
            block, row = block + 1, 0
    yield "linear layers and total: number of rows", row


def _size(recorded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("naive", "reduced"):
        sides = list(recorded[name] or (None, None, None))
        if sides[1] == sides[2]:  # channels first
            sides = [*sides[1:], sides[0]]
        yield f"height and width: {name}", str(sides[:2]) if recorded[name] else None
        yield f"channels, {name}: {name}", sides[2]


def _operations(recorded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("naive", "reduced"):
        for layer, value in recorded[name].items():
            yield f"{'totals' if layer == 'total' else name}: {name} {layer}", value


def _saving(recorded: float) -> Iterator[tuple[str, Any]]:
    share = float(recorded)
    yield "percent", round(share if abs(share) > 1 else 100 * share)


def _protocol(recorded: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    epochs, drops = recorded["epochs"], recorded["drops after epochs"] or []
    for name, value in SETTINGS.items():
        near = _near(recorded[name], value)
        yield f"settings: {name}", near, f"{recorded[name]} instead of {value}"
    yield "settings: number of drops", len(drops) == 3, f"{len(drops)} drops, not three"
    quarters = zip(drops, (epochs * q / 4 for q in (1, 2, 3)), strict=False)
    near = all(abs(drop - quarter) <= max(1, epochs / 20) for drop, quarter in quarters)
    yield "settings: drops", near, f"{drops} are not quarters of {epochs} epochs"
    history, test = recorded["validation accuracy"], recorded["test accuracy"]
    long, many = len(history) == epochs >= 4, f"{len(history)} validation accuracies"
    yield "history: epochs", long, f"{many} for {epochs} epochs"
    shares = all(map(_share, [*history, test]))
    yield "history: accuracies", shares, "accuracies are shares between 0 and 1"
    learned = max(history) > history[0] and len(set(history)) > 2
    yield "history: learning", learned, "nothing was learned in this run"
    near = abs(test - max(history)) < CLOSE
    yield "history: test", near, "test and validation accuracy are far apart"


def _rates(
    recorded: Mapping[str, Any], rates: tuple[float, ...], group: str
) -> Iterator[tuple[str, bool, str]]:
    scores = {float(lr): row for lr, row in recorded["scores"].items()}
    if all(row["validation"] is None for row in scores.values()):
        return
    yield "rates: all", sorted(scores) == list(rates), f"asked are {rates}"
    alive = {lr: row for lr, row in scores.items() if _share(row["validation"])}
    fits = len(alive) > 1 and all(
        _share(row["test"]) and abs(row["test"] - row["validation"]) < CLOSE
        for row in alive.values()
    )
    yield f"{group}: plausible", fits, "test and validation accuracies (0 to 1) are far apart"
    chosen = float(recorded["chosen"] or math.nan)
    best = max((row["validation"] for row in alive.values()), default=None)
    tested = max(alive, key=lambda lr: alive[lr]["test"] or 0, default=None)
    wrong = f"{chosen:g} is not the best on validation images"
    if chosen == tested:
        wrong = "chosen by the test set: choose on validation images and use the test set once"
    right = chosen in alive and alive[chosen]["validation"] == best
    yield "choice: on validation images", right, wrong


def _near(value: Any, wanted: float) -> bool:
    return isinstance(value, int | float) and math.isclose(value, wanted, rel_tol=1e-6)


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _said(judged: Iterable[tuple[str, bool, str]]) -> Iterator[tuple[str, str]]:
    for label, right, otherwise in judged:
        yield label, "right" if right else otherwise


_CASES = {
    "2.1 layers": _layers, "2.2 rows": _rows, "2.4 size": _size, "2.4 operations": _operations,
    "2.4 saving": _saving,
    "3.1 protocol": lambda recorded: _said(_protocol(recorded)),
    "3.1 rates": lambda recorded: _said(_rates(recorded, FINETUNING, "scores")),
    "3.2 rates": lambda recorded: _said(_rates(recorded, LAST_LAYER, "rates")),
}  # fmt: skip
RECORDS = tuple(_CASES)
EXAMPLE_RUNS = {  # only to tell which labels a complete record has
    "3.1 protocol": SETTINGS | {
        "epochs": 8, "drops after epochs": [2, 4, 6],
        "validation accuracy": [0.2, 0.3, 0.4, 0.45, 0.5, 0.51, 0.52, 0.52], "test accuracy": 0.5,
    },
    "3.1 rates": {"scores": {lr: {"validation": 0.5 - abs(lr - 0.01), "test": 0.5 - abs(lr - 0.01)}
                             for lr in FINETUNING}, "chosen": 0.01},
    "3.2 rates": {"scores": {lr: {"validation": 0.6 - 0.1 * lr, "test": 0.6 - 0.1 * lr}
                             for lr in LAST_LAYER}, "chosen": 0.001},
}  # fmt: skip
