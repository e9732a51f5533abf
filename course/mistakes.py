"""Typical mistakes: what is changed in the model's function, and what a student is then told.

Each is run like a submission; whoever's function gives the same wrong results gets the message.
The first line of a change is replaced by the second; both must stand in the function.
"""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A wrong answer to one task."""

    task: str
    message: str
    changes: tuple[tuple[str, str], ...]  # what stands in the model's file, and what instead


def _m(task: str, message: str, *lines: str) -> Mistake:
    return Mistake(task, message, tuple(zip(lines[::2], lines[1::2], strict=True)))


MISTAKES = [
    _m("1.1 LeNet-5", "28×28 images need padding 2 at first: the paper's have 32×32",
       "kernel_size=5, padding=2", "kernel_size=5", "16 * 5 * 5", "16 * 4 * 4"),
    _m("1.1 LeNet-5", "the second convolution has 16 maps",
       "nn.Conv2d(6, 16", "nn.Conv2d(6, 12", "16 * 5 * 5", "12 * 5 * 5"),
    _m("1.1 LeNet-5", "without a non-linear function between them two linear layers are one",
       "nn.Linear(16 * 5 * 5, 120),\n            nn.ReLU(inplace=True)", "nn.Linear(400, 120)"),
    _m("1.1 LeNet-5", "num_classes is ignored: the last layer has as many outputs as classes",
       "nn.Linear(84, num_classes)", "nn.Linear(84, 10)"),
    _m("1.1 rates", "evenly spaced on a linear axis: np.geomspace spaces evenly on a log axis",
       "np.geomspace(", "np.linspace("),
    _m("1.1 rates", "np.logspace takes exponents: np.geomspace takes the ends themselves",
       "np.geomspace(", "np.logspace("),
    _m("1.1 rates", "the highest rate is missing: both ends belong to the rates",
       "np.geomspace(lowest, highest, n)", "np.geomspace(lowest, highest, n, endpoint=False)"),
    _m("1.1 bounds", "argmin over NaN: a diverged rate became the best",
       "    rates, values = _before_divergence(learning_rates, losses)\n",
       "    rates, losses = np.array(learning_rates), np.array(losses)\n"
       "    best = rates[np.argmin(losses)]\n    return LRBounds(float(best / 10), float(best))\n"
       "    values = losses\n"),
    _m("1.1 bounds", "lr_max and lr_min are exchanged",
       "    return LRBounds(min(crossing, float(rates[before + 1])), lr_max)",
       "    return LRBounds(lr_max, crossing)",
       "return LRBounds(lr_max / 4, lr_max)", "return LRBounds(lr_max, lr_max / 4)"),
    _m("1.1 bounds", "lr_min is the lowest rate of all: nothing is learned there",
       "    level = fallen_to", "    return LRBounds(float(rates[0]), float(rates[best]))\n"
       "    level = fallen_to"),
    _m("1.1 bounds", "the largest rate that did not diverge is no lr_max: its loss is high again",
       "    level = fallen_to", "    return LRBounds(float(rates[best]), float(rates[-1]))\n"
       "    level = fallen_to"),
    _m("1.2 schedule", "a gamma of 0.99 for each update kills the amplitude: gamma must depend on "
       "the number of updates",
       "gamma=decay_factor(self.final_amplitude, num_updates)", "gamma=0.99"),
    _m("1.2 schedule", "the amplitude does not decay", "gamma=decay_factor(self.final_amplitude, "
       "num_updates)", "gamma=1.0"),
    _m("1.2 schedule", "the amplitude is halved with each cycle: exponential decay "
       "goes on with each update", 'mode="exp_range"', 'mode="triangular2"'),
    _m("1.2 schedule", "half as many cycles: step_size_up is the way up, half of a cycle",
       "num_updates / self.cycles / 2", "num_updates / self.cycles"),
    _m("1.2 schedule", "CyclicLR cycles the momentum unless cycle_momentum=False",
       "cycle_momentum=False", "cycle_momentum=True"),
    _m("1.3 accumulation", "each part's mean loss is divided by the number of parts: wrong when "
       "the last part is smaller",
       "(loss / len(batch)).backward()",
       "parts = -(-len(batch) // (micro_batch_size or len(batch)))\n"
       "        (loss / len(indices) / parts).backward()"),
    _m("1.3 accumulation", "the parts' mean losses are added: the gradient grows with the number "
       "of parts", "(loss / len(batch))", "(loss / len(indices))"),
    _m("1.3 accumulation", "the summed loss is not divided by the batch size",
       "(loss / len(batch)).backward()", "loss.backward()"),
    _m("1.3 accumulation", "zero_grad throws away the gradients of earlier parts",
       "        loss = F.cross_entropy",
       "        model.zero_grad()\n        loss = F.cross_entropy"),
    _m("1.3 accumulation", "the totals are sums over the images, not means",
       "    return totals\n", "    return totals / len(batch)\n"),
    _m("1.3 growing batch", "all sizes are run through again and again: each is kept for a stage",
       "tuple(size for size in sizes for _ in range(settings.stage_epochs))",
       "tuple(sizes) * settings.stage_epochs"),
    _m("1.3 growing batch", "the batch shrinks: it begins with the smallest size",
       "for size in sizes for", "for size in sorted(sizes, reverse=True) for"),
    _m("1.3 growing batch", "4,096 images at once may not fit into memory: set micro_batch_size",
       "batch_size=batch_size, micro_batch_size=MICRO_BATCH_SIZE", "batch_size=batch_size"),
    _m("1.3 noise scale", "the variance of a batch's mean is not that of one image: multiply by "
       "the batch size", "batch_size * count / (count - 1)", "count / (count - 1)"),
    _m("1.3 noise scale", "the mean of squared batch gradients holds their noise too: take the "
       "square of the mean gradient",
       "float(whole.square().sum())",
       "float(torch.stack([g.double().square().sum() for g in gradients]).mean())"),
    _m("1.3 noise scale", "the ratio is upside down: tr Σ / |G|²",
       "return NoiseScale(*(value / squared for value in trace), squared, trace.mean)",
       "return NoiseScale(*(squared / value for value in trace), squared, trace.mean)"),
    _m("1.3 noise scale", "lengths of gradients, not their squares",
       "float((gradient.double() - whole).square().sum())",
       "float((gradient.double() - whole).norm())"),
    _m("2.3 receptive field", "strides of earlier layers are ignored: multiply by the jump",
       "(kernel - 1) * jump\n        start", "kernel - 1\n        start"),
    _m("2.3 receptive field", "the stride of a layer acts on the layers after it, not on itself",
       "        size += (kernel - 1) * jump\n", "        size += (kernel - 1) * jump * stride\n"),
    _m("2.3 receptive field", "a kernel adds kernel − 1 pixels, not kernel",
       "(kernel - 1) * jump\n        start", "kernel * jump\n        start"),
    _m("2.3 receptive field", "the jumps multiply: j · t, not j + t",
       "jump *= stride", "jump += stride"),
    _m("2.5 anchors", "the ratio is height : width, not width : height",
       "(s / math.sqrt(r), s * math.sqrt(r))", "(s * math.sqrt(r), s / math.sqrt(r))"),
    _m("2.5 anchors", "the area changes with the ratio: take the root of the ratio on both sides",
       "(s / math.sqrt(r), s * math.sqrt(r))", "(s, s * r)"),
    _m("2.5 anchors", "the area of an anchor is scale², not scale",
       "(s / math.sqrt(r), s * math.sqrt(r))", "(math.sqrt(s / r), math.sqrt(s * r))"),
    _m("2.5 anchors", "the order: the scale changes fastest",
       "for r in ratios for s in scales", "for s in scales for r in ratios"),
    _m("2.5 anchors", "anchors lie on the middle of a cell, half a stride from its corner",
       "torch.arange(rows, dtype=torch.float64) + 0.5", "torch.arange(rows, dtype=torch.float64)",
       "torch.arange(columns, dtype=torch.float64) + 0.5",
       "torch.arange(columns, dtype=torch.float64)"),
    _m("2.5 anchors", "x and y are exchanged: columns are x, rows are y", ".flip(1)", ""),
    _m("2.5 iou", "no + 1: coordinates are borders, not counted pixels",
       "(bottom_right - top_left).clamp", "(bottom_right - top_left + 1).clamp"),
    _m("2.5 iou", "boxes apart: two negative sides make a positive area; clamp them at 0",
       "(bottom_right - top_left).clamp(min=0)", "bottom_right - top_left"),
    _m("2.5 iou", "the union counts the intersection once: subtract it",
       "_areas(second)[None, :] - intersection", "_areas(second)[None, :]"),
    _m("2.5 iou", "divided by the smaller box: IoU divides by the union",
       "_areas(first)[:, None] + _areas(second)[None, :] - intersection",
       "torch.minimum(_areas(first)[:, None], _areas(second)[None, :])"),
    _m("2.5 iou", "0 / 0: two boxes without area overlap by 0, not by NaN",
       "torch.where(union > 0, intersection / union, 0.0)", "(intersection / union)"),
    _m("2.5 nms", "an IoU of just the threshold is not above it", "overlaps > threshold",
       "overlaps >= threshold"),
    _m("2.5 nms", "the boxes are not taken by falling score",
       "scores.argsort(descending=True, stable=True)", "torch.arange(len(scores))"),
    _m("2.5 nms", "the worst box is kept first: sort by falling score",
       "scores.argsort(descending=True", "scores.argsort(descending=False"),
    _m("2.5 nms", "boxes that hardly overlap are dropped, those that do stay",
       "overlaps > threshold", "overlaps < threshold"),
    _m("2.5 nms", "indices by falling score, not in the order of the boxes",
       "torch.tensor([step.kept for step in steps]", "torch.tensor(sorted(step.kept for step in "
       "steps)"),
    _m("3.1 head", "the old last layer is still there: replace it", "model.fc = nn.Linear(",
       "nn.Linear("),
    _m("3.1 head", "the new layer stands behind the old one, not in its place",
       "nn.Linear(model.fc.in_features, num_classes)",
       "nn.Sequential(model.fc, nn.Linear(model.fc.out_features, num_classes))"),
    _m("3.1 head", "all layers but the last are frozen: that belongs to 3.2",
       "        with torch.random",
       "        model.requires_grad_(False)\n        with torch.random"),
    _m("3.1 head", "no softmax in the network: cross-entropy takes logits",
       "nn.Linear(model.fc.in_features, num_classes)",
       "nn.Sequential(nn.Linear(model.fc.in_features, num_classes), nn.Softmax(dim=1))"),
    _m("3.1 head", "the seed is not used", "torch.manual_seed(seed)", "torch.manual_seed(0)"),
    _m("3.1 drops", "two drops: the handout has exactly three", "in self.at]", "in self.at[:2]]"),
    _m("3.1 drops", "the scheduler is stepped once an update: milestones count updates, not epochs",
       "[round(fraction * num_updates) for fraction in self.at]",
       "[round(fraction * 20) for fraction in self.at]"),
    _m("3.1 drops", "the learning rate rises: multiply by the factor",
       "gamma=self.factor", "gamma=1 / self.factor"),
    _m("3.1 drops", "the factor is always 0.1: use self.factor", "gamma=self.factor", "gamma=0.1"),
    _m("3.2 freeze", "BatchNorm's running statistics still change",
       "    return freeze_statistics(model)", "    return model"),
    _m("3.2 freeze", "model.train() puts BatchNorm back into training mode: its statistics change",
       "            module.train = functools.partial(_stay_in_evaluation_mode, module)\n", ""),
    _m("3.2 freeze", "the last layer is frozen as well: nothing can learn",
       'name.startswith("fc.")', "False"),
    _m("3.2 freeze", "nothing is frozen but the statistics", 'name.startswith("fc.")', "True"),
    _m("3.2 freeze", "BatchNorm's own weights are still trained",
       'name.startswith("fc.")', 'name.startswith("fc.") or "bn" in name'),
    _m("4.3 top-K", "P is ignored: an image may stand only for its P best classes",
       "select_top_k_from_chunks(chunks, probabilities.shape[1], k, p)",
       "select_top_k_from_chunks(chunks, probabilities.shape[1], k, probabilities.shape[1])"),
    _m("4.3 top-K", "only each image's best class counts: P > 1 gives it several",
       "select_top_k_from_chunks(chunks, probabilities.shape[1], k, p)",
       "select_top_k_from_chunks(chunks, probabilities.shape[1], k, 1)"),
    _m("4.3 top-K", "the K surest images are taken of all together: each class gets its own K",
       "    return select_top_k_from_chunks(chunks, probabilities.shape[1], k, p)",
       "    n, c = probabilities.shape\n    every = select_top_k_from_chunks(chunks, c, n, p)\n"
       "    rows = every.scores.argsort(descending=True, stable=True)[:k]\n"
       "    return PseudoLabels(every.indices[rows], every.labels[rows], every.scores[rows], c, n, "
       "k, p)"),
    _m("4.3 top-K", "the images with the lowest scores are taken",
       "order = scores.argsort(descending=True", "order = scores.argsort(descending=False"),
]  # fmt: skip

# The same for what is recorded: the entries that are wrong then (a function of the right record).
WRONG_RECORDS = [
    ("2.1 layers", "conv2 is 48 channels deep: two GPUs",
     lambda right: right | {"conv2": (5 * 5 * 96 + 1) * 256}),
    ("2.1 layers", "conv4 and conv5 are 192 channels deep: two GPUs", lambda right: right | {
        "conv4": (3 * 3 * 384 + 1) * 384, "conv5": (3 * 3 * 384 + 1) * 256}),
    ("2.1 layers", "each filter has a bias, too", lambda right: right | {
        "conv1": 11 * 11 * 3 * 96, "conv2": 5 * 5 * 48 * 256}),
    ("2.1 layers", "fc6 reads the last pool's 6×6 map of 256 channels",
     lambda right: right | {"fc6": (13 * 13 * 256 + 1) * 4096}),
    ("2.2 rows", "three convolutions in blocks 3 to 5 make VGG-16; VGG-19 has four",
     lambda right: [row for row in right if not row[0].endswith("_4")]),
    ("2.2 rows", "without biases, the table says",
     lambda right: [(n, a, w + {"conv1_1": 64, "conv1_2": 64}.get(n, 0)) for n, a, w in right]),
    ("2.2 rows", "a pool halves height and width",
     lambda right: [(n, 4 * a if n == "pool1" else a, w) for n, a, w in right]),
    ("2.4 size", "the pool has stride 1 here: it keeps height and width",
     lambda right: {name: (16, 16, size[2]) for name, size in right.items()}),
    ("2.4 size", "the naive pool passes on all its 256 channels",
     lambda right: right | {"naive": (32, 32, 416)}),
    ("2.4 size", "behind the reduced module's pool a 1×1 convolution leaves 64 channels",
     lambda right: right | {"reduced": (32, 32, 672)}),
    ("2.4 operations", "one operation is a multiplication with its addition: count them together",
     lambda right: {m: {n: 2 * v for n, v in r.items()} for m, r in right.items()}),
    ("2.4 operations", "each output costs kernel² · input channels: the channels are missing",
     lambda right: right | {"naive": {n: v // 256 for n, v in right["naive"].items()}}),
    ("2.4 saving", "this is what is left, not what is saved", lambda right: 1 - right),
]  # fmt: skip
