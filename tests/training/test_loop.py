import contextlib
import copy
import dataclasses
import math
import random

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from hw3utils.data.images import Scale
from hw3utils.training import loop, networks
from hw3utils.training.batches import accumulate_gradient, evaluate, random_states_put_back
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant, LinearDecay, OneCycle
from made_up import make_images


def test_lenet5_has_61706_parameters_layer_by_layer():
    model = networks.build("lenet5", 10, seed=0)
    sizes = [p.numel() for p in model.parameters()]
    assert sizes == [150, 6, 2_400, 16, 48_000, 120, 10_080, 84, 840, 10]
    assert networks.count_parameters(model) == 61_706


def test_building_a_model_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    networks.build("lenet5", 10, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown model 'alexnet': choose one of lenet5"):
        networks.build("alexnet", 10, seed=0)


def test_the_loop_equals_the_textbook_loop(train, validation, scale):
    """A DataLoader, torch's plain SGD and scheduler: the same losses, up to rounding."""
    run = Run("lenet5", LinearDecay(0.05), epochs=2, batch_size=64, weight_decay=5e-4, seed=3)
    model = networks.build("lenet5", 10, seed=3)
    textbook = copy.deepcopy(model)
    result = loop.fit(model, run, train, validation, scale)

    optimizer = torch.optim.SGD(textbook.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=12)
    order = torch.Generator().manual_seed(3)
    pixels = (train.images / 255 - 0.5) / 0.5
    for epoch in range(2):
        shuffled = torch.randperm(len(train), generator=order)
        loader = DataLoader(TensorDataset(pixels[shuffled], train.labels[shuffled]), batch_size=64)
        total = 0.0
        for X, y in loader:
            loss = F.cross_entropy(textbook(X), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(y)
        assert result.history["train_loss"][epoch] == pytest.approx(total / len(train), rel=1e-4)
    for ours, theirs in zip(model.parameters(), textbook.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_run_bit_for_bit(train, validation, scale):
    run = Run("lenet5", Constant(0.05), epochs=2)
    first, second = (
        loop.fit(networks.build("lenet5", 10, 0), run, train, validation, scale) for _ in range(2)
    )
    assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)
    scores = [column for column in first.history if column != "seconds"]
    assert first.history[scores].equals(second.history[scores])


def test_learning_lowers_the_loss_and_keeps_the_best_epoch(train, validation, scale):
    run = Run("lenet5", Constant(0.05), epochs=12)
    model = networks.build("lenet5", 10, 0)
    result = loop.fit(model, run, train, validation, scale)
    assert result.final["train_loss"] < 0.3 * result.history["train_loss"][0]
    assert len(result.learning_rates) == run.num_updates(len(train)) == 72
    model.load_state_dict(result.best_state)
    best = evaluate(model, validation, scale).accuracy
    assert best == result.history["validation_accuracy"].max()


def fitted(run, train, validation, scale):
    return loop.fit(networks.build("lenet5", 10, run.seed), run, train, validation, scale)


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_keeps_its_weights_trains_as_one_that_does_not(train, validation, scale):
    """And the weights that it keeps are those of each epoch, not of the last one."""
    run = Run("lenet5", Constant(0.05), epochs=4)
    plain = fitted(run, train, validation, scale)
    kept = fitted(dataclasses.replace(run, keep_states=True), train, validation, scale)
    assert plain.states == [] and len(kept.states) == 4
    assert equal(plain.state, kept.state) and equal(kept.state, kept.states[-1])
    model = networks.build("lenet5", 10, 0)
    for state, loss in zip(kept.states, kept.history["validation_loss"], strict=True):
        model.load_state_dict(state)
        assert evaluate(model, validation, scale).loss == loss


def test_1cycle_with_momentum_is_torchs_own(train, validation, scale):
    """Against torch's plain SGD and scheduler: the momentum that is cycled is the one used."""
    run = Run("lenet5", OneCycle(0.1, cycle_momentum=True), epochs=2)
    ours = fitted(run, train, validation, scale)
    model = networks.build("lenet5", 10, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=13)
    order = torch.Generator().manual_seed(0)
    for _ in range(2):
        for batch in torch.randperm(len(train), generator=order).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(scale(train.images[batch])), train.labels[batch]).backward()
            optimizer.step()
            scheduler.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours.state[name], value, rtol=1e-3, atol=1e-5)
    left_alone = dataclasses.replace(run, schedule=OneCycle(0.1))
    assert not equal(ours.state, fitted(left_alone, train, validation, scale).state)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_drawn_within_the_block_is_not_missed_after_it(fails):
    def draws():
        return torch.rand(2).tolist(), random.random(), np.random.rand()

    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    with pytest.raises(KeyError) if fails else contextlib.nullcontext():
        with random_states_put_back():
            within = draws()
            if fails:
                raise KeyError
    assert draws() == within, "the block's numbers were used up"


def test_one_batch_size_for_each_epoch(train, validation, scale):
    run = Run("lenet5", Constant(0.01), epochs=3, batch_size=(32, 128, 384))
    result = loop.fit(networks.build("lenet5", 10, 0), run, train, validation, scale)
    assert result.history["updates"].tolist() == [12, 3, 1]
    assert result.history["batch_size"].tolist() == [32, 128, 384]


@given(batch=st.integers(1, 40), micro=st.integers(1, 50), seed=st.integers(0, 5))
@settings(max_examples=25)
def test_the_gradient_in_parts_is_the_gradient_of_the_whole_batch(batch, micro, seed):
    """Ragged last parts included: in double precision nothing but rounding may differ."""
    images = make_images(40, seed=seed)
    model = networks.build("lenet5", 10, seed).double()
    indices = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:batch]

    def double(raw):
        return Scale((0.5,), (0.5,))(raw).double()

    F.cross_entropy(model(double(images.images[indices])), images.labels[indices]).backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    accumulate_gradient(model, images, indices, double, micro)
    for part, expected in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(part.grad, expected, rtol=1e-9, atol=1e-12)


def test_every_image_is_seen_once_an_epoch():
    batches = list(loop.minibatches(100, 32, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [32, 32, 32, 4]
    assert sorted(torch.cat(batches).tolist()) == list(range(100))


def test_evaluation_does_not_depend_on_the_batch_size_and_keeps_the_mode(validation, scale):
    model = networks.build("lenet5", 10, 0).train()
    model.classifier.eval()
    whole = evaluate(model, validation, scale, batch_size=100)
    ragged = evaluate(model, validation, scale, batch_size=33)
    assert ragged.loss == pytest.approx(whole.loss, rel=1e-6)
    assert ragged.accuracy == whole.accuracy
    assert model.training and not model.classifier.training


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": -3}, "epochs=-3"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": (64, 0), "epochs": 2}, "batch_size=0: must be a whole number"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"epochs": 1.0}, "epochs=1.0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "0"}, "seed='0'"),
        ({"batch_size": (64, 64)}, "2 batch sizes for 1 epochs"),
        ({"micro_batch_size": 0}, "micro_batch_size=0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"weight_decay": math.nan}, "weight_decay"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused_when_it_is_described(change, words):
    with pytest.raises(ValueError, match=words):
        Run(**{"model": "lenet5", "schedule": Constant(0.1), "epochs": 1} | change)


@pytest.mark.parametrize(
    ("run", "images", "words"),
    [
        (Run("lenet5", Constant(0.1), 1, batch_size=51), make_images(50), "batch size 51"),
        (Run("lenet5", Constant(0.1), 1, batch_size=8), make_images(50, shape=(1, 30, 40)),
         r"does not take images of shape \(1, 30, 40\)"),
        (Run("lenet5", Constant(0.1), 1, batch_size=8), make_images(50, num_classes=7),
         "7 classes need logits"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(run, images, words, scale):
    model = networks.build("lenet5", 10, 0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=words):
        loop.fit(model, run, images, images, scale)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_schedule_that_is_a_bare_number_is_refused():
    with pytest.raises(TypeError, match="must be a Schedule"):
        Run("lenet5", 0.1, epochs=1)


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        (make_images(20, shape=(1, 32, 32)), r"validation images of \(1, 32, 32\)"),
        (make_images(20, num_classes=7), "do not have the same classes"),
    ],
)
def test_validation_images_that_do_not_fit_are_refused_before_training(
    train, validation, words, scale
):
    model = networks.build("lenet5", 10, 0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=words):
        loop.fit(model, Run("lenet5", Constant(0.1), 1), train, validation, scale)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("micro", [0, -1, 2.5])
def test_parts_of_no_image_are_refused(train, scale, micro):
    model = networks.build("lenet5", 10, 0)
    with pytest.raises(ValueError, match=f"micro_batch_size={micro}"):
        accumulate_gradient(model, train, torch.arange(8), scale, micro)
    with pytest.raises(ValueError, match="batch size=0"):
        accumulate_gradient(model, train, torch.arange(0), scale)
    with pytest.raises(ValueError, match=f"batch_size={micro}"):
        loop.minibatches(100, micro, torch.Generator())
