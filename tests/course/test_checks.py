"""Typical mistakes cost their points and get their message; other right ways get all points."""

import json
import sys

import pytest

from course import judge, mistakes
from hw3utils.checking import records
from hw3utils.checking.judging import Expected, bounds_fault, same
from hw3utils.checking.judging import judge as compare
from hw3utils.checking.running import TASKS, Task, answer, run


@pytest.fixture(scope="module")
def shown(written):
    """The visible checks, as they are in a student's hands."""
    path = written / "hw3utils" / "checking" / "expected.json"
    stored = json.loads(path.read_text(encoding="utf-8"))["expected"]
    return {n: Expected(s["cases"], [tuple(w) for w in s["mistakes"]]) for n, s in stored.items()}


def verdicts(hidden, shown, name, texts):
    """Return the verdicts of the hidden and of the visible check on somebody's files."""
    request = hidden.request(name, texts)
    seen = answer(request | {"seed": judge.VISIBLE_SEED})
    return [
        hidden.verdict(name, answer(request)),
        compare(name, seen, shown[name], TASKS[name].tolerance),
    ]


@pytest.mark.parametrize("mistake", mistakes.MISTAKES, ids=lambda m: f"{m.task}: {m.message[:40]}")
def test_a_mistake_gets_its_message_in_visible_and_hidden_checks(hidden, shown, mistake):
    texts = hidden.mutated(mistake)
    for verdict in verdicts(hidden, shown, mistake.task, texts):
        assert verdict.share < 1
        assert verdict.messages == [mistake.message]


@pytest.mark.parametrize("mistake", mistakes.MISTAKES, ids=lambda m: f"{m.task}: {m.message[:40]}")
def test_a_mistake_costs_nothing_in_other_tasks(hidden, mistake):
    task, texts = mistake.task, hidden.mutated(mistake)
    changed = {file for file in texts if texts[file] != hidden.models[file]}
    others = [
        name
        for name, other in TASKS.items()
        if name != task and {hidden.files[f] for f in other.functions} & changed
        or task in other.needs
    ]  # fmt: skip
    for name in others:
        assert hidden.verdict(name, answer(hidden.request(name, texts))).passed, name


@pytest.mark.parametrize("wrong", mistakes.WRONG_RECORDS, ids=lambda wrong: f"{wrong[:2]}")
def test_a_wrong_record_gets_its_message(hidden, shown, wrong):
    name, message, change = wrong
    found = records.cases(name, change(dict(judge.right_records())[name]))
    for verdict in (hidden.verdict(name, found), compare(name, found, shown[name], 1e-4)):
        assert verdict.share < 1
        assert verdict.messages == [message]


@pytest.mark.parametrize(
    ("name", "blank", "words"),
    [
        ("2.1 layers", {"fc6": None}, "linear layers and total: fc6: nothing recorded yet"),
        ("2.4 size", {"naive": None}, "height and width: naive: nothing recorded yet"),
        ("3.1 protocol", {"epochs": None, "test accuracy": None},
         "nothing recorded yet for epochs, test accuracy"),
    ],
)  # fmt: skip
def test_what_is_not_recorded_yet_is_not_called_wrong(shown, name, blank, words):
    found = records.cases(name, dict(judge.right_records())[name] | blank)
    said = " ".join(compare(name, found, shown[name], 1e-4).messages)
    assert words in said and "not right" not in said


RATES = {lr: {"validation": 0.5, "test": 0.5} for lr in (0.001, 0.1)}
RUN = records.EXAMPLE_RUNS["3.1 protocol"]


@pytest.mark.parametrize(
    ("name", "value", "share", "words"),
    [
        ("3.1 rates",
         {"scores": RATES | {0.01: {"validation": 0.49, "test": 0.55}}, "chosen": 0.01},
         2 / 3, "chosen by the test set"),
        ("3.1 rates", {"scores": RATES, "chosen": 0.1}, 2 / 3, "asked are"),
        ("3.1 rates", {"scores": RATES | {0.01: {"validation": 0.2, "test": 0.9}}, "chosen": 0.1},
         2 / 3, "far apart"),
        ("3.1 protocol", RUN | {"drops after epochs": [3, 6]}, 0.5, "2 drops, not three"),
        ("3.1 protocol", RUN | {"learning rate": 0.01}, 0.5, "0.01 instead of 0.001"),
        ("3.1 protocol", RUN | {"test accuracy": 0.99}, 0.5, "far apart"),
        ("3.1 protocol", {"epochs": "many"}, 0, "another form"),
        ("2.4 size", {"naive": 7}, 0, "another form"),
        ("2.2 rows", [("input", 1)], 0, "another form"),
    ],
)  # fmt: skip
def test_records_of_runs_are_judged_by_protocol_and_choice(hidden, name, value, share, words):
    verdict = hidden.verdict(name, records.cases(name, value))
    assert verdict.share == pytest.approx(share)
    assert words in " ".join(verdict.messages)


# Right answers that are not the model's: what stands in the student's file.
OTHERWISE = {
    "LeNet-5 with tanh and average pooling": ("1.1 LeNet-5", """
        class LeNet5(nn.Module):
            def __init__(self, num_classes=10):
                super().__init__()
                self.features = nn.Sequential(
                    nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
                    nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
                    nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh())
                self.classifier = nn.Linear(84, num_classes)
    """),
    "rates in a loop": ("1.1 rates", """
        def candidate_learning_rates(lowest=1e-9, highest=10.0, n=10):
            factor = (highest / lowest) ** (1 / (n - 1))
            return [lowest * factor ** i for i in range(n)]
    """),
    "bounds by another rule": ("1.1 bounds", """
        def suggest_lr_bounds(learning_rates, losses, progress=0.9):
            alive = []
            for rate, loss in sorted(zip(learning_rates, losses)):
                if not math.isfinite(loss):
                    break
                alive.append((loss, rate))
            best = min(alive)[1]
            return LRBounds(best / 4, best)
    """),
    "a schedule of its own": ("1.2 schedule", """
        class Cyclical:
            def build(self, optimizer, num_updates):
                half = num_updates / self.cycles / 2
                def factor(t):
                    height = 1 - abs(t / half % 2 - 1)
                    amplitude = (self.lr_max - self.lr) * self.final_amplitude ** (t / num_updates)
                    return (self.lr + amplitude * height) / self.lr
                return lr_scheduler.LambdaLR(optimizer, factor)
    """),
    "accumulation with weighted means": ("1.3 accumulation", """
        def accumulate_gradient(model, images, batch, scale, micro_batch_size=None):
            loss_sum = hits = 0.0
            step = micro_batch_size or len(batch)
            for start in range(0, len(batch), step):
                part = batch[start:start + step]
                out, wanted = model(scale(images.images[part])), images.labels[part]
                mean = nn.CrossEntropyLoss()(out, wanted)
                (mean * len(part) / len(batch)).backward()
                loss_sum += mean.item() * len(part)
                hits += int((out.argmax(1) == wanted).sum())
            return torch.tensor([loss_sum, hits])
    """),
    "the growing batch in a loop": ("1.3 growing batch", """
        def batch_size_runs(lr_max, settings):
            def grown(sizes):
                every = []
                for size in sizes:
                    every += [size] * settings.stage_epochs
                return replace(run, batch_size=tuple(every), micro_batch_size=512)
    """),
    "a noise scale with two batch sizes": ("1.3 noise scale", """
        def gradient_noise_scale(model, train, scale, generator, *, batch_size=64):
            model = copy.deepcopy(model)
            n = len(train) // batch_size
            parts = torch.randperm(len(train), generator=generator).split(batch_size)[:n]
            grads = [_gradient(model, train, part, scale).double() for part in parts]
            big = sum(grads) / n
            small_square = sum(float(g @ g) for g in grads) / n
            trace = (small_square - float(big @ big)) / (1 / batch_size - 1 / (n * batch_size))
            square = float(big @ big)
            return NoiseScale(trace / square, 0.0, 0.0, square, trace)
    """),
    "a receptive field counted from behind": ("2.3 receptive field", """
        import pandas
        def receptive_field(layers):
            layers, rows = list(layers), []
            for n in range(len(layers) + 1):
                size, jump = 1, 1
                for k, s, _ in reversed(layers[:n]):
                    size = (size - 1) * s + k
                    jump *= s
                rows.append({"size": size, "jump": jump})
            return pandas.DataFrame(rows)
    """),
    "anchors in loops": ("2.5 anchors", """
        def anchor_shapes(scales=(128, 256, 512), ratios=(0.5, 1.0, 2.0)):
            return torch.tensor([[(s * s / r) ** 0.5, (s * s * r) ** 0.5]
                                 for r in ratios for s in scales], dtype=torch.float64)
        def anchor_grid(rows, columns, stride, shapes):
            found = []
            for i in range(rows):
                for j in range(columns):
                    for w, h in shapes.tolist():
                        x, y = (j + 0.5) * stride, (i + 0.5) * stride
                        found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            return torch.tensor(found)
    """),
    "iou in loops, with a helper": ("2.5 iou", """
        def overlap(a, b):
            w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
            h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
            union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - w * h
            return w * h / union if union else 0.0
        def unchecked_iou(first, second):
            return torch.tensor([[overlap(a, b) for b in second.tolist()] for a in first.tolist()])
    """),
    "torchvision's own suppression": ("2.5 nms", """
        import torchvision
        def non_maximum_suppression(boxes, scores, threshold=0.7):
            return Suppression(torchvision.ops.nms(boxes, scores, threshold), ())
    """),
    "a head without a seeded block": ("3.1 head", """
        def replace_head(model, num_classes, seed):
            torch.manual_seed(seed)
            inputs = model.fc.weight.shape[1]
            model.fc = nn.Linear(inputs, num_classes)
            return model
    """),
    "drops by a function": ("3.1 drops", """
        class Steps:
            def build(self, optimizer, num_updates):
                return lr_scheduler.LambdaLR(optimizer, lambda t: self.factor ** sum(
                    t >= fraction * num_updates for fraction in self.at))
    """),
    "freezing by an own train method": ("3.2 freeze", """
        def freeze(model):
            model.requires_grad_(False)
            model.fc.requires_grad_(True)
            model.eval()
            model.train = lambda mode=True: model
            return model
        def freeze_statistics(model):
            return freeze(model)
    """),
    "top K in plain loops": ("4.3 top-K", """
        def select_top_k(probabilities, k, p, chunk_size=16_384):
            rows, n, c = probabilities.tolist(), *probabilities.shape
            lists = {label: [] for label in range(c)}
            for index, row in enumerate(rows):
                for label in sorted(range(c), key=lambda l: -row[l])[:p]:
                    lists[label].append((-row[label], index))
            chosen = [(l, i, -s) for l in range(c) for s, i in sorted(lists[l])[:k]]
            labels, indices, scores = map(torch.tensor, zip(*chosen))
            return PseudoLabels(indices, labels, scores, c, n, k, p)
    """),
}  # fmt: skip


def written(name, text, hidden):
    """Return files in which a task's functions are somebody's, and nothing else is right."""
    lines = text.strip("\n").splitlines()
    body = "\n".join(line[8:] for line in lines) + "\n"
    return {hidden.files[function]: body for function in TASKS[name].functions}


@pytest.mark.parametrize("what", OTHERWISE)
def test_a_right_answer_written_otherwise_gets_full_points(hidden, shown, what):
    name, text = OTHERWISE[what]
    for verdict in verdicts(hidden, shown, name, written(name, text, hidden)):
        assert verdict.passed, verdict.messages


@pytest.mark.parametrize(
    ("what", "old", "new", "words"),
    [
        ("iou in loops, with a helper", "for c in (a, b)) - w * h", "for c in (a, b))", "union"),
        ("bounds by another rule", "break", "continue", "lr_max"),
        ("accumulation with weighted means", "* len(part) / len(batch)", "", "are added"),
        ("top K in plain loops", "[:p]", "", "P is ignored"),
        ("freezing by an own train method", "model.train = lambda mode=True: model", "",
         "model.train() puts BatchNorm back"),
        ("a receptive field counted from behind", "(size - 1) * s", "(size - 1)", "strides"),
    ],
)  # fmt: skip
def test_a_mistake_is_known_however_it_is_written(hidden, shown, what, old, new, words):
    name, text = OTHERWISE[what]
    assert old in text
    for verdict in verdicts(hidden, shown, name, written(name, text.replace(old, new), hidden)):
        assert words in " ".join(verdict.messages)


def test_bounds_are_judged_by_what_they_are_good_for():
    rates = [10.0**e for e in range(-9, 2)]
    losses = [2.3, 2.3, 2.3, 2.3, 2.3, 2.2, 1.0, 0.4, 0.5, float("nan"), 2.3]
    for good in ([1e-3, 1e-2], [1e-4, 0.05], [0.025, 0.1], [0.005, 0.02]):
        assert not bounds_fault(rates, losses, good)
    bad = ([1e-2, 1e-3], [1e-9, 1e-2], [1e-3, 1.0], [1e-3, 10.0], [1e-6, 1e-5], None, [1], "ab",
           [float("nan"), 0.1], [0.0, 0.1], [1e-3, 10**400], [10**400, 10**401])  # fmt: skip
    for bounds in bad:
        assert bounds_fault(rates, losses, bounds)


def test_whatever_a_case_raises_is_told_and_the_other_cases_follow():
    def probe(modules, generator):
        yield "stops", lambda: next(iter([]))
        yield "leaves", lambda: sys.exit(3)
        yield "works", lambda: 4

    found = run(Task("made up", (), probe), {}, 0)
    assert found["stops"]["error"].startswith("StopIteration")
    assert found["leaves"]["error"].startswith("SystemExit") and found["works"] == 4


def test_what_is_compared_is_data_that_cannot_pretend():
    class Always:
        def __eq__(self, other):
            return True

    assert not same(Always(), 3.0)
    assert not same(True, 1) and not same(1, True)
    assert same(float("nan"), float("nan")) and not same(float("nan"), 1.0)
    assert not same(10**400, 1.0) and not same([1, 2], [1, 2, 3])
