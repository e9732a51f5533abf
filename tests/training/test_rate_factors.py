"""Groups of parameters that learn faster or slower than the rest."""

import copy

import pytest
import torch
from torch.nn import functional as F

from hw3utils.training import loop, networks
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant, Cyclical, LinearDecay, OneCycle

FACTORS = {"classifier.": 10.0, "features.0.": 0.1}


def test_rate_factors_equal_the_textbook_loop_with_groups(train, validation, scale):
    run = Run("lenet5", LinearDecay(0.01), epochs=2, weight_decay=5e-4, seed=3)
    model = networks.build("lenet5", 10, seed=3)
    textbook = copy.deepcopy(model)
    result = loop.fit(model, run, train, validation, scale, rate_factors=FACTORS)
    middle = [p for name, p in textbook.named_parameters() if not name.startswith(tuple(FACTORS))]
    optimizer = torch.optim.SGD(
        [
            {"params": middle},
            {"params": textbook.classifier.parameters(), "lr": 0.1},
            {"params": textbook.features[0].parameters(), "lr": 0.001},
        ],
        lr=0.01, momentum=0.9, weight_decay=5e-4,
    )  # fmt: skip
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=12)
    order = torch.Generator().manual_seed(3)
    for _ in range(2):
        for batch in torch.randperm(len(train), generator=order).split(64):
            optimizer.zero_grad()
            F.cross_entropy(textbook(scale(train.images[batch])), train.labels[batch]).backward()
            optimizer.step()
            scheduler.step()
    for ours, theirs in zip(model.parameters(), textbook.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert result.learning_rates.tolist() == pytest.approx(
        [0.01 * (1 - update / 12) for update in range(12)]
    ), "those of the parameters without a factor"


@pytest.mark.parametrize("schedule", [OneCycle(0.01), Cyclical(0.001, lr_max=0.01)])
def test_rate_factors_that_a_schedule_would_lose_are_refused(train, validation, scale, schedule):
    model = networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError, match="sets all learning rates itself"):
        loop.fit(model, Run("lenet5", schedule, 1), train, validation, scale, rate_factors=FACTORS)


def test_all_that_is_trained_may_have_a_factor(train, validation, scale):
    """As with a frozen trunk."""
    states = []
    for lr, factor in ((0.01, 2.0), (0.02, 1.0)):
        model = networks.build("lenet5", 10, 0)
        model.features.requires_grad_(False)
        run = Run("lenet5", Constant(lr), epochs=1)
        factors = {"classifier.": factor}
        states.append(loop.fit(model, run, train, validation, scale, rate_factors=factors).state)
    assert equal(*states)


def test_a_rate_factor_of_one_changes_no_bit_and_another_does(train, validation, scale):
    run = Run("lenet5", Constant(0.01), epochs=1)

    def state(factors):
        model = networks.build("lenet5", 10, run.seed)
        return loop.fit(model, run, train, validation, scale, rate_factors=factors).state

    plain = state(None)
    assert equal(plain, state({"classifier.": 1.0}))
    assert not equal(plain, state({"classifier.": 2.0}))


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)
