"""What is asked of each task: its functions, called on inputs drawn from a seed, case by case.

A probe knows no expected value: it yields a label and something to call for each case.
"""

import functools
import random
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hw3utils.checking.running import Cases, Modules, task
from hw3utils.data.images import ImageSet, Scale
from hw3utils.settings import Problem1


def _uniform(draw: random.Random, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(draw.randrange(999)))


def _images(draw: random.Random, n: int):
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    images = torch.randint(0, 256, (n, 1, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (n,), generator=generator)
    return ImageSet(images, labels, ("a", "b", "c"))


def _small_network(draw: random.Random):
    torch.manual_seed(draw.randrange(2**31))
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 4, 5), nn.Tanh(), nn.Linear(5, 3))


def _like_resnet(outputs: int):
    """Return a network with ResNet's names and three layers: convolution, BatchNorm, fc."""
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(3, 6, 3), bn1=nn.BatchNorm2d(6), relu=nn.ReLU(),
        layer1=nn.Sequential(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(8, outputs),
    ))  # fmt: skip


@task("1.1 LeNet-5", "training:LeNet5.__init__")
def _lenet5(modules: Modules, draw: random.Random) -> Cases:
    make = modules["training:LeNet5.__init__"].LeNet5
    image = _uniform(draw, 2, 1, 28, 28)
    yield "shape of the logits", lambda: list(make()(image).shape)
    classes = draw.choice((3, 7, 13))
    yield "shape of the logits, other classes", lambda: list(make(num_classes=classes)(image).shape)
    yield "shapes of the weights", lambda: [list(p.shape) for p in make().parameters()]
    yield "length of what the classifier reads", lambda: make().features(image).shape[1]

    def bare() -> list[str]:
        """Name the layers that follow another one with nothing that bends the line between."""
        straight, found = False, []
        for name, layer in make().named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if straight:
                    found.append(name)
                straight = True
            elif not isinstance(layer, nn.Flatten | nn.AvgPool2d | nn.Dropout | nn.Identity):
                straight = straight and bool(list(layer.children()))
        return found

    yield "layers with nothing non-linear before them", bare


@task("1.1 rates", "problem1:candidate_learning_rates")
def _rates(modules: Modules, draw: random.Random) -> Cases:
    function = modules["problem1:candidate_learning_rates"].candidate_learning_rates
    yield "the handout's ten rates", lambda: list(function())
    lowest = draw.choice((1e-5, 1e-4))
    yield "other ends", lambda: list(function(lowest, 0.5, draw.choice((4, 7))))


CURVES = {  # losses at ten rates; NaN: diverged
    "a valley, then a cliff": [2.3, 2.3, 2.29, 2.28, 1.9, 0.62, 0.4, 0.45, float("nan"), 2.31],
    "a valley of one rate": [2.3, 2.3, 2.3, 2.3, 2.28, 2.2, 0.5, 2.1, 2.4, float("nan")],
    "luck above a cliff": [2.3, 2.3, 2.29, 2.28, 1.9, 0.7, 0.5, float("nan"), 0.45, float("nan")],
    "no rate diverged": [2.3, 2.29, 2.25, 1.5, 0.8, 0.55, 0.5, 0.52, 1.8, 2.3],
}


@task("1.1 bounds", "problem1:suggest_lr_bounds")
def _bounds(modules: Modules, draw: random.Random) -> Cases:
    function = modules["problem1:suggest_lr_bounds"].suggest_lr_bounds
    rates = [10.0 ** (-9 + 10 * i / 9) for i in range(10)]
    for label, losses in CURVES.items():
        shift = 1 + 0.04 * draw.random()
        curve = [rates, [loss * shift for loss in losses]]
        yield label, lambda curve=curve: {"curve": curve, "bounds": list(function(*curve))}


@task("1.2 schedule", "training:Cyclical.build")
def _schedule(modules: Modules, draw: random.Random) -> Cases:
    schedules = modules["training:Cyclical.build"]
    made = schedules.Cyclical(0.001, lr_max=0.06, cycles=3, final_amplitude=0.1)
    other = schedules.Cyclical(0.01, lr_max=0.5, cycles=draw.choice((2, 4, 5)), final_amplitude=0.3)
    yield "3 cycles in 60 updates", lambda: schedules.learning_rates(made, 60)
    yield "other settings", lambda: schedules.learning_rates(other, draw.choice((80, 120)))

    def momentum() -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
        scheduler = made.build(optimizer, 60)
        found = []
        for _ in range(4):
            found.append(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            scheduler.step()
        return found

    yield "momentum at the first updates", momentum


@task("1.3 accumulation", "training:accumulate_gradient")
def _accumulation(modules: Modules, draw: random.Random) -> Cases:
    accumulate = modules["training:accumulate_gradient"].accumulate_gradient
    images, scale = _images(draw, 30), Scale((0.5,), (0.5,))
    model = _small_network(draw)
    batch = torch.tensor(draw.sample(range(30), 10))

    def gradient(times: int = 1, parts: int | None = None) -> list[Any]:
        model.zero_grad()
        for _ in range(times):
            accumulate(model, images, batch, scale, parts)
        return [parameter.grad for parameter in model.parameters()]

    yield "10 images in one part", gradient
    yield "10 images in parts of 4, 4 and 2", lambda: gradient(parts=4)
    yield "added to the gradient that is there", lambda: gradient(times=2)
    yield "summed loss, number of hits", lambda: accumulate(model, images, batch, scale, 4)


@task("1.3 growing batch", "problem1:batch_size_runs.grown")
def _growing(modules: Modules, draw: random.Random) -> Cases:
    experiments = modules["problem1:batch_size_runs.grown"]
    lr = round(draw.uniform(0.01, 0.1), 4)
    for epochs in (1, draw.choice((2, 3))):
        settings = Problem1.for_profile("smoke", stage_epochs=epochs)

        def described(settings: Problem1 = settings) -> dict[str, Any]:
            run = experiments.batch_size_runs(lr, settings)[experiments.GROWING]
            whole = run.micro_batch_size is None
            return {
                "batch size of each epoch": run.batch_sizes,
                "learning rate": run.schedule.lr,
                "at most so many images at once": max(run.batch_sizes) if whole else "limited",
            }

        yield f"{epochs} epochs a stage", described


@task(
    "1.3 noise scale", "problem1:gradient_noise_scale", needs=("1.3 accumulation",), tolerance=0.2
)
def _noise(modules: Modules, draw: random.Random) -> Cases:
    function = modules["problem1:gradient_noise_scale"].gradient_noise_scale
    images, scale, model = _images(draw, 1_200), Scale((0.5,), (0.5,)), _small_network(draw)
    fields = {
        "squared gradient": "gradient_squared",
        "summed variance of a gradient": "covariance_trace",
        "noise scale": "simple",
    }
    for size in (3, 8):
        order = torch.Generator().manual_seed(size)
        measure = functools.partial(function, model, images, scale, order, batch_size=size)
        once = functools.cache(measure)
        for label, field in fields.items():
            yield f"{label}, batches of {size}", lambda f=field, once=once: getattr(once(), f)
    parameters = list(model.parameters())
    yield "gradients left in the network", lambda: sum(p.grad is not None for p in parameters)


@task("2.3 receptive field", "problem2:receptive_field")
def _field(modules: Modules, draw: random.Random) -> Cases:
    function = modules["problem2:receptive_field"].receptive_field
    stacks = {
        "three 5×5 convolutions": [(5, 1, 0)] * 3,
        "a stride, then a convolution": [(3, 2, 1), (3, 1, 1)],
        "AlexNet's first layers": [(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0)],
        "another stack": [(draw.choice((3, 5, 7)), draw.choice((1, 2, 3)), 1) for _ in range(5)],
    }
    for label, stack in stacks.items():
        yield label, lambda stack=stack: function(stack)[["size", "jump"]].to_dict("list")


@task("2.5 anchors", "problem2:anchor_shapes", "problem2:anchor_grid")
def _anchors(modules: Modules, draw: random.Random) -> Cases:
    boxes = modules["problem2:anchor_shapes"]
    yield "shapes: the paper's nine", lambda: boxes.anchor_shapes()
    scale, ratio = draw.choice((24, 40)), draw.choice((0.25, 3.0))
    yield "shapes: two scales, one ratio", lambda: boxes.anchor_shapes((scale, 100), (ratio,))
    shapes = torch.tensor([[10.0, 20.0], [30.0, 8.0]], dtype=torch.float64)
    stride = draw.choice((16, 8))
    yield "grid of 2 rows and 3 columns", lambda: boxes.anchor_grid(2, 3, stride, shapes)


@task("2.5 iou", "problem2:unchecked_iou")
def _iou(modules: Modules, draw: random.Random) -> Cases:
    iou = modules["problem2:unchecked_iou"].iou

    def rows(*corners: tuple[float, ...]):
        return torch.tensor(corners, dtype=torch.float64)

    base, side = rows((0, 0, 4, 4)), draw.choice((2, 3))
    yield "a box with itself, and shifted", lambda: iou(base, rows((0, 0, 4, 4), (side, 0, 6, 4)))
    yield "a small box inside", lambda: iou(base, rows((1, 1, 1 + side, 3)))
    yield "boxes apart in both directions", lambda: iou(base, rows((6, 7, 9, 9)))
    yield "boxes that touch", lambda: iou(base, rows((4, 0, 8, 4)))
    yield "two boxes without area", lambda: iou(rows((1, 1, 1, 1)), rows((1, 1, 1, 1)))
    drawn = torch.tensor([[draw.uniform(0, 9) for _ in range(4)] for _ in range(5)]).double()
    drawn[:, 2:] += drawn[:, :2]
    yield "5 boxes with 3", lambda: iou(drawn, drawn[:3])


@task("2.5 nms", "problem2:non_maximum_suppression", needs=("2.5 iou",))
def _nms(modules: Modules, draw: random.Random) -> Cases:
    function = modules["problem2:non_maximum_suppression"].non_maximum_suppression

    def kept(boxes: Any, scores: list[float], threshold: float) -> Any:
        made = torch.as_tensor(boxes).double()
        found = function(made, torch.tensor(scores, dtype=torch.float64), threshold)
        return getattr(found, "kept", found)

    row = [(10 * i, 0, 10 * i + 40, 40) for i in range(4)]  # neighbours overlap by 0.6
    yield "a row in which each overlaps the next", lambda: kept(row, [0.9, 0.8, 0.7, 0.6], 0.5)
    yield "the best box comes last", lambda: kept(row[:2] + row[:1], [0.3, 0.5, 0.9], 0.5)
    half = [(0, 0, 4, 2), (0, 0, 4, 1), (20, 0, 30, 9)]
    yield "an overlap of just the threshold", lambda: kept(half, [0.9, 0.8, 0.95], 0.5)
    yield "equal scores", lambda: kept(row[:2] * 2, [0.5] * 4, 0.7)
    corners = torch.tensor([[draw.uniform(0, 60) for _ in range(2)] for _ in range(30)]).double()
    many = torch.cat([corners, corners + 40], dim=1)
    yield "30 boxes", lambda: kept(many, [draw.random() for _ in range(30)], 0.4)


@task("3.1 head", "problem3:replace_head")
def _head(modules: Modules, draw: random.Random) -> Cases:
    replace_head = modules["problem3:replace_head"].replace_head
    classes = draw.choice((7, 10, 12))

    def made(seed: int = 3):
        return replace_head(_like_resnet(100), classes, seed)

    def linear() -> list[list[int]]:
        layers = [layer for layer in made().modules() if isinstance(layer, nn.Linear)]
        return [[layer.in_features, layer.out_features] for layer in layers]

    def others_kept() -> bool:
        before, after = _like_resnet(100).state_dict(), made().state_dict()
        return all(torch.equal(after[n], before[n]) for n in after if not n.startswith("fc."))

    def same_layer(seed: int) -> bool:
        return torch.equal(made(1).fc.weight, made(seed).fc.weight)

    image = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    yield "shape of the logits", lambda: list(made().eval()(image).shape)
    yield "linear layers, from and to", linear
    yield "frozen parameters", lambda: sum(not p.requires_grad for p in made().parameters())
    yield "all other layers are as they were", others_kept
    yield "logits of some image below 0", lambda: bool((made().eval()(50 * image - 25) < 0).any())
    yield "one seed, one layer; another seed, another", lambda: [same_layer(1), same_layer(2)]


@task("3.1 drops", "training:Steps.build")
def _drops(modules: Modules, draw: random.Random) -> Cases:
    schedules = modules["training:Steps.build"]
    yield "60 updates", lambda: schedules.learning_rates(schedules.Steps(0.001), 60)
    n = 4 * draw.choice((100, 150))
    at = [0, n // 4 - 1, n // 4, n // 2 - 1, n // 2, 3 * n // 4 - 1, 3 * n // 4, n - 1]
    yield (
        "more updates",
        lambda: [schedules.learning_rates(schedules.Steps(0.1), n)[update] for update in at],
    )
    other = schedules.Steps(0.5, factor=0.5, at=(0.5,))
    yield "one drop to a half", lambda: schedules.learning_rates(other, 8)


@task("3.2 freeze", "problem3:freeze", "problem3:freeze_statistics")
def _freeze(modules: Modules, draw: random.Random) -> Cases:
    resnet = modules["problem3:freeze"]
    images = _uniform(draw, 8, 3, 9, 9)
    labels = torch.tensor([draw.randrange(5) for _ in range(8)])

    def changed(train_mode: bool) -> dict[str, list[str]]:
        """Name the tensors that a few updates change."""
        network = _like_resnet(5)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network = resnet.freeze(network)
        if train_mode:
            network.train()
        parameters = [p for p in network.parameters() if p.requires_grad]
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            if parameters:
                optimizer = torch.optim.SGD(parameters, lr=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        after = network.state_dict()
        names = sorted(name for name in before if not torch.equal(before[name], after[name]))
        statistics = {n for n in names if "running" in n or "tracked" in n}
        return {"weights": [n for n in names if n not in statistics], "statistics": len(statistics)}

    yield "what changes in a few updates", lambda: changed(train_mode=False)
    yield "what changes after model.train()", lambda: changed(train_mode=True)


@task("4.3 top-K", "problem4:select_top_k")
def _top_k(modules: Modules, draw: random.Random) -> Cases:
    select_top_k = modules["problem4:select_top_k"].select_top_k

    def selected(probabilities: Any, k: int, p: int) -> list[Any]:
        found = select_top_k(probabilities, k, p)
        rows = zip(
            found.labels.tolist(), found.indices.tolist(), found.scores.tolist(), strict=True
        )
        return sorted([label, index, round(score, 5)] for label, index, score in rows)

    example = torch.tensor(
        [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.4, 0.25, 0.35]]
    )
    for k, p in ((2, 1), (2, 2), (1, 3), (4, 2)):
        yield f"5 images, K = {k}, P = {p}", lambda k=k, p=p: selected(example, k, p)
    drawn = (4 * _uniform(draw, 40, 6)).softmax(dim=1)
    yield "40 images, K = 5, P = 2", lambda: selected(drawn, 5, 2)
