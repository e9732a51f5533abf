"""Receptive fields: the formula against gradients, the literature, and two-dimensional layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hw3utils.problem2.layers import layer_table
from hw3utils.problem2.networks import alexnet, torchvision_network, vgg19
from hw3utils.problem2.receptive_field import (
    gradient_receptive_field,
    receptive_field,
    stack_of,
    stacked_receptive_field,
)


@st.composite
def stacks(draw):
    """Draw a few layers without gaps: a stride larger than its kernel would skip pixels."""
    layers = []
    for _ in range(draw(st.integers(0, 5))):
        kernel = draw(st.integers(1, 7))
        layers.append(
            (kernel, draw(st.integers(1, min(3, kernel))), draw(st.integers(0, kernel - 1)))
        )
    return layers


@settings(max_examples=60, deadline=None)
@given(stacks())
def test_the_formula_gives_what_gradients_measure(layers):
    last = receptive_field(layers).iloc[-1]
    assert gradient_receptive_field(layers) == (last["size"], last["jump"])


@given(st.integers(0, 12), st.integers(1, 12))
def test_the_short_formula_is_the_recursion_with_stride_one(depth, kernel):
    layers = [(kernel, 1, 0)] * depth
    assert stacked_receptive_field(depth, kernel) == receptive_field(layers)["size"].iloc[-1]


@settings(max_examples=30, deadline=None)
@given(stacks())
def test_start_is_the_centre_of_the_first_output(layers):
    """The first output's field, with the padding that it sees, is centred on ``start``."""
    last = receptive_field(layers).iloc[-1]
    if last["start"] < 0:  # its middle lies in the padding
        return
    length = int(2 * last["size"] + 2 * last["start"]) + 8
    x = torch.zeros(1, 1, length, dtype=torch.float64, requires_grad=True)
    y = x
    for kernel, stride, padding in layers:
        weight = torch.ones(1, 1, kernel, dtype=torch.float64)
        y = nn.functional.conv1d(y, weight, stride=stride, padding=padding)
    (gradient,) = torch.autograd.grad(y[0, 0, 0], x)
    right = int(gradient.nonzero()[-1, -1])
    assert right == last["start"] + (last["size"] - 1) / 2


@pytest.mark.parametrize(
    ("network", "size", "known"),
    [
        # Araujo et al. 2019 (Distill), table of receptive fields: alexnet_v2 195, vgg_16 212.
        (alexnet(), 227, 195),
        (torchvision_network("vgg16"), 224, 212),
        (vgg19(), 224, 268),
    ],
)
def test_known_receptive_fields_of_the_last_pool(network, size, known):
    layers = stack_of(layer_table(network, (3, size, size)))
    assert receptive_field(layers)["size"].iloc[-1] == known
    assert gradient_receptive_field(layers)[0] == known


def test_three_5x5_convolutions_in_two_dimensions():
    """Real two-dimensional convolutions with random weights: a 13×13 square, and nothing else."""
    torch.manual_seed(0)
    stack = nn.Sequential(*[nn.Conv2d(1, 1, 5, bias=False, dtype=torch.float64) for _ in range(3)])
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x)[0, 0, 4, 4], x)
    touched = gradient[0, 0] != 0
    assert touched[4:17, 4:17].all() and touched.sum() == stacked_receptive_field(3, 5) ** 2 == 169


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: receptive_field([(3, 1, 1), (3, 0, 1)]), "layer 2: kernel=3, stride=0"),
        (lambda: receptive_field([(0, 1, 0)]), "layer 1: kernel=0"),
        (lambda: receptive_field([(3, 1, -1)]), "padding=-1"),
        (lambda: receptive_field([(3, 1, 3)]), "padding=3 must lie between 0 and 2"),
        (lambda: receptive_field([(3, 1)]), r"is not \(kernel, stride, padding\)"),
        (lambda: receptive_field([(3.0, 1, 1)]), r"is not \(kernel, stride, padding\)"),
        (lambda: gradient_receptive_field([(3, 0, 1)]), "stride=0"),
        (lambda: stacked_receptive_field(-1, 3), "depth=-1"),
        (lambda: stacked_receptive_field(2, 0), "kernel=0"),
        (
            lambda: stack_of(layer_table(nn.Conv2d(1, 1, (3, 5)), (1, 8, 8))),
            "differs between height and width",
        ),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
