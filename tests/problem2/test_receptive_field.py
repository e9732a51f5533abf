"""Receptive fields: the formula against gradients, the literature, and two-dimensional layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hw3utils.problem2.layers import layer_table
from hw3utils.problem2.networks import (
    RegionProposalHead,
    alexnet,
    inception_naive,
    inception_reduced,
    torchvision_network,
    vgg19,
)
from hw3utils.problem2.receptive_field import (
    gradient_receptive_field,
    receptive_field,
    stack_of,
    stacked_receptive_field,
)
from hw3utils.training.networks import LeNet5


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


@settings(max_examples=60)
@given(stacks())
def test_the_formula_gives_what_gradients_measure(layers):
    last = receptive_field(layers).iloc[-1]
    assert gradient_receptive_field(layers) == (last["size"], last["jump"])


@given(st.integers(0, 12), st.integers(1, 12))
def test_the_short_formula_is_the_recursion_with_stride_one(depth, kernel):
    layers = [(kernel, 1, 0)] * depth
    assert stacked_receptive_field(depth, kernel) == receptive_field(layers)["size"].iloc[-1]


@settings(max_examples=30)
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


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=2)],  # 9
        [nn.Conv2d(1, 1, 3, dilation=3), nn.MaxPool2d(2, dilation=2), nn.Conv2d(1, 1, 3)],
        [nn.Conv2d(1, 1, 5, padding="same"), nn.ReLU(inplace=True), nn.AvgPool2d(2)],
        [nn.Conv2d(1, 1, 4, padding="same", dilation=3), nn.Conv2d(1, 1, 3, padding="valid")],
        [nn.Conv2d(1, 1, 3), nn.LocalResponseNorm(5), nn.BatchNorm2d(1), nn.MaxPool2d(3, 2)],
    ],
)
def test_the_stack_of_a_network_is_what_its_own_gradients_see(layers):
    """The network itself, in two dimensions: all weights 1, and no maxima to choose one pixel."""
    layers = [*layers, nn.Conv2d(1, 1, 1, stride=1)]
    size = receptive_field(stack_of(layer_table(nn.Sequential(*layers), (1, 64, 64))))["size"]
    average = [
        nn.Conv2d(1, 1, m.kernel_size, m.stride, m.padding, m.dilation)
        if isinstance(m, nn.MaxPool2d)
        else m
        for m in layers
    ]
    network = nn.Sequential(*average).double().eval()
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    x = torch.ones(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    y = network(x)
    (gradient,) = torch.autograd.grad(y[0, 0, y.shape[2] // 2, y.shape[3] // 2], x)
    rows = gradient[0, 0].nonzero()[:, 0]
    assert int(rows.max() - rows.min()) + 1 == size.iloc[-1]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=2)], [(5, 1, 0)] * 2),
        ([nn.MaxPool2d(3, stride=1, dilation=3)], [(7, 1, 0)]),
        ([nn.Conv2d(1, 1, 3, padding="same", dilation=2)], [(5, 1, 2)]),
        ([nn.Conv2d(1, 1, 4, padding="same"), nn.AvgPool2d(2)], [(4, 1, 1), (2, 2, 0)]),
        ([nn.Conv2d(1, 1, 3, padding="valid"), nn.AdaptiveAvgPool2d(1)], [(3, 1, 0)]),
        ([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU6(), nn.Conv2d(2, 2, 3)], [(3, 1, 0)] * 2),
        ([nn.Conv2d(1, 4, 3), nn.LocalResponseNorm(2), nn.MaxPool2d(2)], [(3, 1, 0), (2, 2, 0)]),
        ([nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Dropout(), nn.Linear(18 * 18, 2)], [(3, 1, 0)]),
    ],
)
def test_what_a_chain_of_layers_sees(layers, expected):
    stack = stack_of(layer_table(nn.Sequential(*layers), (1, 20, 20)))
    assert stack == expected


def test_an_even_kernel_with_same_padding_starts_where_torch_starts_it():
    layer = nn.Conv2d(1, 1, 4, padding="same", dilation=3, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 40, 40, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0, 0, 20, 20], x)
    rows = gradient[0, 0].nonzero()[:, 0]
    last = receptive_field(stack_of(layer_table(layer, (1, 40, 40)))).iloc[-1]
    assert int(rows.max() - rows.min()) + 1 == last["size"] == 10
    assert float(rows.max() + rows.min()) / 2 - 20 == last["start"]


def test_lenets_last_pool_sees_sixteen_pixels():
    stack = stack_of(layer_table(LeNet5(), (1, 28, 28)))
    assert receptive_field(stack)["size"].iloc[-1] == 16


class Joined(nn.Module):
    """Two convolutions and what ``join`` makes of the input and their outputs."""

    def __init__(self, join):
        super().__init__()
        self.first, self.second = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.join = join

    def forward(self, x):
        y = self.first(x)
        return self.join(self, x, y)


@pytest.mark.parametrize(
    "join",
    [
        lambda net, x, y: torch.cat([x, net.second(y)], dim=1),
        lambda net, x, y: y + net.second(y),
        lambda net, x, y: net.second(y).add_(x),
        lambda net, x, y: net.second(y) * y.mean((2, 3), keepdim=True),
        lambda net, x, y: net.second(x),
        lambda net, x, y: (y, net.second(x)),
        lambda net, x, y: net.second(functional.adaptive_avg_pool2d(y, 1)),
    ],
)
def test_what_is_no_single_chain_is_refused(join):
    with pytest.raises(ValueError, match="single chain"):
        stack_of(layer_table(Joined(join), (2, 8, 8)))


def add_in_place_through_a_view(x):
    x[..., 1:].add_(x[..., :-1].clone())
    return x


@pytest.mark.parametrize(
    "between",
    [
        lambda x: functional.max_pool2d(x, 3, 1, 1),
        lambda x: functional.adaptive_avg_pool2d(x, 3),
        lambda x: functional.conv2d(x, torch.ones(2, 2, 3, 3, device="meta"), padding=1),
        lambda x: functional.pad(x, (1, 1, 1, 1)),
        lambda x: functional.interpolate(x, scale_factor=2),
        lambda x: torch.cat([x, x], dim=2),
        lambda x: x + functional.avg_pool2d(x, 3, 1, 1),
        lambda x: x.add_(functional.avg_pool2d(x, 3, 1, 1)),
        lambda x: x[..., ::2],
        lambda x: x.view(1, 2, 4, 16),
        lambda x: x.flatten(1).view(1, 2, 8, 8),
        lambda x: x.transpose(2, 3),
        lambda x: x.mul(x.mean(dim=(2, 3), keepdim=True)),
        add_in_place_through_a_view,
        nn.Upsample(scale_factor=2),
        nn.Softmax(dim=3),
        nn.InstanceNorm2d(2),
    ],
)
def test_what_a_layer_table_does_not_see_is_refused_between_layers_and_at_the_end(between):
    for join in (
        lambda net, x, y: net.second(between(y)),
        lambda net, x, y: between(net.second(torch.relu(y))),
    ):
        with pytest.raises(ValueError, match="output of (first|second) is not simply"):
            stack_of(layer_table(Joined(join), (2, 8, 8)))


@pytest.mark.parametrize(
    "between",
    [
        torch.relu,
        torch.Tensor.relu_,
        functional.gelu,
        functional.hardswish,
        lambda x: torch.relu(x) * torch.sigmoid(x),
        nn.Tanh(),
        nn.Dropout().eval(),
        nn.Identity(),
    ],
)
def test_what_leaves_every_value_in_its_place_keeps_the_chain(between):
    network = Joined(lambda net, x, y: net.second(between(y)))
    assert stack_of(layer_table(network, (2, 8, 8))) == [(3, 1, 1)] * 2


def test_a_chain_may_end_with_means_and_linear_layers():
    network = Joined(lambda net, x, y: net.end(functional.adaptive_avg_pool2d(net.second(y), 1)))
    network.end = nn.Sequential(nn.Flatten(), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2))
    assert stack_of(layer_table(network, (2, 8, 8))) == [(3, 1, 1)] * 2


@pytest.mark.parametrize(
    ("network", "shape", "last"),
    [
        (inception_naive(), (256, 32, 32), "branches.1x1.conv1x1"),
        (inception_reduced(), (256, 32, 32), "branches.1x1.conv1x1"),
        (torchvision_network("resnet50"), (3, 224, 224), "layer1.0.bn3"),
        (torchvision_network("densenet121"), (3, 224, 224), "features.pool0"),
        (RegionProposalHead().to("meta"), (512, 37, 37), "objectness"),
    ],
)
def test_networks_with_branches_have_no_one_stack(network, shape, last):
    with pytest.raises(ValueError, match=f"the output of {last} is not .* single chain"):
        stack_of(layer_table(network, shape))


@pytest.mark.parametrize("name", ["vgg19", "alexnet"])
def test_the_whole_network_is_one_chain_linear_layers_included(name):
    assert layer_table(torchvision_network(name), (3, 224, 224))["chained"].all()


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
        (
            lambda: stack_of(layer_table(nn.Conv2d(1, 1, 3, dilation=(1, 2)), (1, 8, 8))),
            "differs between height and width",
        ),
        (
            lambda: stack_of(
                layer_table(nn.Sequential(nn.AdaptiveMaxPool2d(4), nn.Conv2d(1, 1, 3)), (1, 8, 8))
            ),
            "before it sees everything",
        ),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
