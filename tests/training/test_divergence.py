"""Runs that break off, or only end too high: what is marked and what is kept."""

import math

import pytest
import torch

from hw3utils.training import loop, networks
from hw3utils.training.batches import evaluate
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant


def test_a_diverging_run_ends_early_and_says_so(train, validation, scale):
    run = Run("lenet5", Constant(1e6), epochs=5)
    result = loop.fit(networks.build("lenet5", 10, 0), run, train, validation, scale)
    assert result.diverged
    assert len(result.history) == 1
    assert math.isnan(result.final["train_loss"])
    assert math.isnan(result.final["validation_accuracy"])


class Sure(torch.nn.Module):
    """As sure as it likes that every image is of the first class."""

    def __init__(self, certainty):
        super().__init__()
        self.logits = torch.nn.Parameter(certainty * torch.eye(10)[0])

    def forward(self, images):
        return self.logits.expand(len(images), 10)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_that_only_ends_too_high_is_marked_and_keeps_its_scores(
    train, validation, scale, epochs
):
    """Twice the loss of guessing at the end: bad, but measured."""
    result = loop.fit(
        model := Sure(5.0), Run("none", Constant(1e-9), epochs), train, validation, scale
    )
    losses = result.history["train_loss"]
    assert 1.1 * math.log(10) < losses.iloc[-1] < 4 * math.log(10)
    assert result.diverged and len(losses) == epochs and result.history.notna().all(axis=None)
    assert result.final["validation_accuracy"] == evaluate(model, validation, scale).accuracy > 0
    assert torch.equal(result.best_state["logits"], model.logits.detach().cpu()) or epochs > 1


@pytest.mark.parametrize("certainty", [20.0, math.nan])
@pytest.mark.parametrize("epochs", [1, 3])
def test_an_epoch_that_is_broken_off_has_no_scores(train, validation, scale, epochs, certainty):
    """Four times the loss of guessing, or no number: whatever it would say means nothing."""
    run = Run("none", Constant(1e-9), epochs)
    result = loop.fit(Sure(certainty), run, train, validation, scale)
    assert result.diverged and len(result.history) == 1
    scores = [column for column in result.history if column.endswith(("loss", "accuracy"))]
    assert len(scores) == 4 and result.history[scores].isna().all(axis=None)


def test_a_run_that_diverges_keeps_the_weights_up_to_there(train, validation, scale):
    run = Run("lenet5", Constant(1e6), epochs=5, keep_states=True)
    result = loop.fit(networks.build("lenet5", 10, 0), run, train, validation, scale)
    assert result.diverged and len(result.states) == len(result.history) == 1


def test_a_run_that_ends_worse_than_guessing_counts_as_diverged(train):
    guessing = math.log(10)
    assert not loop.has_diverged(2 * guessing, train), "a loss may rise for a while"
    assert loop.has_diverged(1.2 * guessing, train, loop.DIVERGED_AT_THE_END)
    assert not loop.has_diverged(1.01 * guessing, train, loop.DIVERGED_AT_THE_END)
    assert loop.has_diverged(math.nan, train) and loop.has_diverged(math.inf, train)
