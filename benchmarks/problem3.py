"""Problem 3 against the plain ways: the last layer, the finetuning step, and the data.

    python -m benchmarks.problem3 [--repetitions 3] [--images 256] [--size 64] [--epochs 60]

What is printed are ratios, each taken in this one process, with median and range. Caches are not
used. The plain way of training last layers passes every image through the frozen network in every
epoch, for each learning rate; its time is that of one epoch, times epochs and learning rates.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.ratios import described
from hw3utils import backbones, heads, precision, problem3, profiles, results, training
from hw3utils.data import take
from hw3utils.inputs import FlipAndCrop, ResizedScale


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=60)
    asked = parser.parse_args()

    settings = profiles.problem3("laptop", image_size=asked.size)
    setup = problem3.load(settings)
    train = take(setup.parts.train, asked.images)
    device = training.pick_device()
    machine = results.environment()
    print(f"{machine['processor']}, {machine['cores']} cores, {device}, torch {torch.__version__}")
    print(f"{asked.images} images of {asked.size}×{asked.size}, {setup.base.weights}")

    frozen = backbones.freeze(backbones.build(setup.base.weights, train.num_classes, 0)).to(device)
    rates = len(problem3.HEAD_RATES)
    last_layer, bf16, data = [], [], []
    for _ in range(asked.repetitions):
        began = time.perf_counter()
        once = backbones.logits_and_features(frozen, train, setup.scale)[1]
        passes = time.perf_counter() - began
        features = torch.stack([once, once])
        run = heads.HeadRun(problem3.HEAD_RATES, epochs=asked.epochs)
        given = (features, train.labels, features[0], train.labels, train.num_classes)
        stacked = seconds(lambda run=run, given=given: heads.fit_heads(run, *given))
        # Ours passes every image and its mirror image once.
        last_layer.append(passes * asked.epochs * rates / (2 * passes + stacked))

        network = backbones.build(setup.base.weights, train.num_classes, 0).to(device).train()
        batch = setup.scale(train.images[:64].to(device))
        bf16.append(precision.compare(network, batch, train.labels[:64].to(device)))

        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        indices = torch.arange(64, device=device)

        def step(network=network, optimizer=optimizer, indices=indices) -> None:
            optimizer.zero_grad()
            training.accumulate_gradient(network, train.to(device), indices, setup.scale)
            optimizer.step()

        generator = torch.Generator().manual_seed(0)
        sample = take(train, 64)
        both = seconds(lambda s=sample, g=generator: FlipAndCrop(4)(s, g))
        size = ResizedScale(setup.scale.mean, setup.scale.std, asked.size)
        both += seconds(lambda s=sample, size=size: size(s.images))
        data.append(both / seconds(step))

    print(
        described(
            f"{rates} last layers × {asked.epochs} epochs, against passing every image each epoch",
            last_layer,
        )
    )
    print(described("finetuning step in bf16, against float32", [p.speed_up for p in bf16]))
    worst = min(bf16, key=lambda parity: parity.gradient_cosine)
    print(
        f"  parity: loss off by {worst.loss_difference:.2%}, cosine of the gradients "
        f"{worst.gradient_cosine:.4f}; used: {'yes' if all(p.use for p in bf16) else 'no'}"
    )
    share = ", ".join(f"{100 * part:.1f} %" for part in data)
    print(f"flips, crops and enlarging, as a share of a finetuning step: {share}")


if __name__ == "__main__":
    main()
