"""bf16 against float32: two variances, a bias, and what is accepted."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw3utils.problem3 import arithmetic
from hw3utils.problem3.arithmetic import Arithmetic, compare_arithmetic


def batches(n=8, size=16):
    """Return minibatches of noise in which the label shifts the mean."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (n, size), generator=generator)
    images = torch.randn(n, size, 3, 2, 2, generator=generator) + labels[..., None, None, None]
    return list(zip(images, labels, strict=True))


class Tiny(nn.Sequential):
    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


class Constructed(nn.Module):
    """Tiny, but what flows back through its logits under autocast is changed by ``wrong``."""

    def __init__(self, wrong):
        super().__init__()
        self.inner, self.wrong = Tiny(), wrong

    def forward(self, images):
        half = torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False):
            logits = self.inner(images)
        if half and logits.requires_grad:
            logits.register_hook(self.wrong)
        return logits


def noise(strength):
    generator = torch.Generator().manual_seed(0)
    return lambda gradient: (
        gradient * (1 + strength * torch.randn(gradient.shape, generator=generator))
    )


def judged(model, n=8):
    """Compare, as if bf16 were twice as fast: what speed is on this machine decides no test."""
    return compare_arithmetic(model, batches(n))._replace(speed_up=2.0)


def test_variances_and_bias_are_those_of_the_definition():
    """All gradients at once; a mean's squared length from the products of different batches."""
    model = Tiny()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for images, labels in batches():
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = model(images).float()
            F.cross_entropy(logits, labels).backward()
            rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]).double())
    exact, rough = torch.stack(rows[:8]), torch.stack(rows[8:])
    errors = rough - exact

    def squared_mean(vectors):
        products = vectors @ vectors.T
        return max(0.0, float(products.sum() - products.trace()) / (8 * 7))

    found = compare_arithmetic(model, batches())
    expected = float(errors.var(dim=0).sum() / exact.var(dim=0).sum())
    assert expected > 0 and found.rounding == pytest.approx(expected, rel=1e-6)
    bias = (squared_mean(errors) / float(exact.var(dim=0).sum())) ** 0.5
    assert found.bias == pytest.approx(bias, rel=1e-6, abs=1e-12)
    cosines = F.cosine_similarity(exact, rough)
    assert found.cosine == pytest.approx(float(cosines.mean())) and found.batches == 8


def test_float32_against_itself_has_no_error_at_all(monkeypatch):
    monkeypatch.setattr(arithmetic, "under_autocast", lambda model, dtype: model)
    found = judged(Tiny())
    assert (found.rounding, found.bias) == (0, 0) and found.cosine == pytest.approx(1)
    assert found.use and not found._replace(speed_up=1.0).use, "no faster: not worth it"


def test_real_bf16_is_accepted_on_a_small_network():
    found = judged(Tiny(), 16)
    assert 0 < found.rounding < 0.01 and found.use


def test_an_error_to_one_side_is_refused_however_alike_the_gradients_look():
    """All gradients a third too long: every cosine is 1, and that used to be the gate."""
    found = judged(Constructed(lambda gradient: 1.3 * gradient))
    assert found.cosine == pytest.approx(1) and found.rounding == pytest.approx(0.09)
    assert not found.use and found._replace(bias=0.0).use, "nothing but the bias refuses it"


def test_rounding_to_no_side_is_accepted_while_it_is_small():
    small, large = (judged(Constructed(noise(strength)), 32) for strength in (0.2, 2.0))
    assert 0 < small.rounding < 0.25 and small.use
    assert large.rounding > 0.25 and not large.use


@pytest.mark.parametrize(
    ("changed", "use"),
    [
        ({}, True),
        ({"cosine": 0.5}, True),
        ({"speed_up": 1.0}, False),
        ({"rounding": 0.26}, False),
        ({"bias": 0.11}, False),
        ({"rounding": math.nan}, False),
        ({"bias": math.nan}, False),
    ],
)
def test_bf16_is_used_only_where_it_is_faithful_and_faster(changed, use):
    assert Arithmetic(8, 2.0, 0.1, 0.05, 0.99)._replace(**changed).use is use


def test_minibatches_whose_gradients_cancel_can_be_judged_as_well():
    """As at the end of training: a mean that chance alone explains is no reason to fail."""
    [(images, labels), *_] = batches()
    model = Tiny()
    for parameter in model[3].parameters():
        nn.init.zeros_(parameter)
    found = compare_arithmetic(model, [(images, labels * 0 + label) for label in range(3)])
    assert math.isfinite(found.bias) and found.rounding < 0.01


@pytest.mark.parametrize("n", [0, 1])
def test_less_than_two_minibatches_are_refused(n):
    with pytest.raises(ValueError, match=f"{n} minibatches: at least two expected"):
        compare_arithmetic(Tiny(), batches()[:n])


def test_comparing_leaves_weights_statistics_and_mode_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    before = copy.deepcopy(model.train().state_dict())
    compare_arithmetic(model, batches())
    assert arithmetic.speed_up(model, *batches()[0]) > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training and all(p.grad is None for p in model.parameters())
    images = batches()[0][0]
    first = model(images)
    assert torch.equal(model[3](model[2](model[1](model[0](images)))), first), "still in bf16"


def test_under_autocast_computes_in_bf16_and_none_changes_nothing():
    model, [(images, _), *_] = Tiny(), batches()
    exact = model(images)
    assert torch.equal(arithmetic.under_autocast(model, None)(images), exact)
    rough = arithmetic.under_autocast(model, torch.bfloat16)(images)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
