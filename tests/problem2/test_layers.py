"""The counts of layers: against the papers, torchvision's own networks, and torch's own counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hw3utils.problem2 import tables
from hw3utils.problem2.layers import layer_table, saved_bytes, totals
from hw3utils.problem2.networks import (
    RegionProposalHead,
    alexnet,
    inception_naive,
    inception_reduced,
    same_padding,
    torchvision_network,
    vgg19,
)
from hw3utils.training.networks import LeNet5


@pytest.mark.parametrize(
    ("network", "size", "known"),
    [
        (alexnet(groups=2), 227, 60_965_224),  # Krizhevsky et al. 2012: "60 million parameters"
        (alexnet(groups=1), 227, 62_378_344),
        (vgg19(), 224, 143_667_240),  # Simonyan & Zisserman 2015, Table 2: 144 million
        (torchvision_network("alexnet"), 224, 61_100_840),
        (torchvision_network("resnet50"), 224, 25_557_032),
        (torchvision_network("vgg16"), 224, 138_357_544),
    ],
)
def test_known_numbers_of_parameters(network, size, known):
    assert totals(layer_table(network, (3, size, size)))["parameters"] == known


def test_lenet_by_hand():
    table = layer_table(LeNet5(), (1, 28, 28))
    assert table["parameters"][table["kind"] != "pool"].tolist() == [
        0,
        156,
        2416,
        48120,
        10164,
        850,
    ]
    second = table[table["kind"] == "conv"].iloc[1]
    assert second["output_shape"] == (16, 10, 10)
    assert second["parameter_formula"] == "(5·5·6 + 1)·16"


def test_vgg19_has_sixteen_convolutions_five_pools_three_linear_layers():
    table = layer_table(vgg19(), (3, 224, 224))
    assert table["kind"].value_counts().to_dict() == {"conv": 16, "pool": 5, "fc": 3, "input": 1}
    blocks = table.loc[table["kind"] == "conv", "layer"].str[4].value_counts().sort_index()
    assert blocks.tolist() == [2, 2, 4, 4, 4]


def test_paper_vgg19_equals_torchvision_layer_by_layer():
    ours = layer_table(vgg19(), (3, 224, 224))
    theirs = layer_table(torchvision_network("vgg19"), (3, 224, 224))
    theirs = theirs[theirs["layer"] != "avgpool"]  # at 224×224 it passes its input on
    columns = ["kind", "output_shape", "activations", "parameters", "multiply_accumulates"]
    assert ours[columns].to_numpy().tolist() == theirs[columns].to_numpy().tolist()


def test_alexnet_shapes_of_the_paper():
    table = layer_table(alexnet(), (3, 227, 227)).set_index("layer")
    assert table.loc["conv1", "output_shape"] == (96, 55, 55)
    assert table.loc["conv2", "output_shape"] == (256, 27, 27)
    assert table.loc["pool5", "output_shape"] == (256, 6, 6)
    # Sec. 3.5: kernels of 5×5×48, 3×3×256, 3×3×192, 3×3×192.
    assert [table.loc[f"conv{n}", "weight_formula"] for n in (2, 3, 4, 5)] == [
        "(5·5·48)·256",
        "(3·3·256)·384",
        "(3·3·192)·384",
        "(3·3·192)·256",
    ]


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (alexnet(groups=2), (3, 227, 227)),
        (vgg19(), (3, 224, 224)),
        (inception_naive(), (256, 32, 32)),
        (inception_reduced(), (256, 32, 32)),
        (RegionProposalHead().to("meta"), (512, 37, 37)),
        (torchvision_network("resnet50"), (3, 224, 224)),
        (torchvision_network("mobilenet_v2"), (3, 160, 192)),
    ],
)
def test_operations_equal_torchs_own_counter(network, shape):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, *shape, device="meta"))
    expected = counter.get_total_flops() // 2  # torch counts a multiply–accumulate as two
    assert totals(layer_table(network, shape))["multiply_accumulates"] == expected


def test_formulas_have_the_value_that_stands_beside_them():
    tables = [
        layer_table(alexnet(), (3, 227, 227)),
        layer_table(inception_reduced(), (256, 32, 32)),
        layer_table(torchvision_network("resnet18"), (3, 64, 64)),
    ]
    pairs = {
        "activation_formula": "activations",
        "weight_formula": "weights",
        "parameter_formula": "parameters",
        "operation_formula": "multiply_accumulates",
    }
    for table in tables:
        for formula, value in pairs.items():
            computed = [eval(text.replace("·", "*")) for text in table[formula]]
            assert computed == table[value].tolist()


def test_activations_are_the_numbers_that_a_real_network_holds():
    network = torchvision_network("vgg11").to_empty(device="cpu").eval()
    seen = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output.numel()))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    table = layer_table(torchvision_network("vgg11"), (3, 64, 64))
    counted = table[~table["layer"].isin(["input", "avgpool"])]
    assert counted["activations"].tolist() == seen


def test_the_network_itself_is_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layer_table(network, (3, 8, 8))
    assert network.training and not network[0]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_module_used_twice_has_its_parameters_once():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    table = layer_table(nn.Sequential(layer, nn.ReLU(), layer), (4, 8, 8))
    assert totals(table)["parameters"] == 4 * (4 * 9 + 1)
    assert totals(table)["multiply_accumulates"] == 2 * 8 * 8 * 4 * 4 * 9


def test_weights_that_are_computed_anew_at_each_call_are_counted_once():
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))
    assert totals(layer_table(nn.Sequential(layer, layer), (4, 8, 8)))["parameters"] == 148


def test_layers_may_be_called_with_keyword_arguments():
    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1)
            self.fc = nn.Linear(4, 2)

        def forward(self, image):
            return self.fc(input=self.pool(input=self.conv(input=image)).flatten(1))

    table = layer_table(Keywords(), (3, 8, 8))
    assert table["layer"].tolist() == ["input", "conv", "pool", "fc"]
    assert table["chained"].all()


def test_the_table_tells_pools_and_dilations_apart():
    layers = [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, dilation=(1, 2), padding="same")]
    table = layer_table(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), (3, 32, 32))
    assert table["pool"].tolist() == [None, "max", "average", None, "average"]
    assert table["dilation"].tolist() == [None, 1, 1, (1, 2), None]
    assert table["padding"].tolist() == [None, 0, 0, "same", None]


def test_a_linear_layer_that_works_at_several_places_has_its_formula():
    row = layer_table(nn.Linear(8, 5), (3, 4, 8)).iloc[-1]
    assert row["operation_formula"] == "3·4·8·5" and row["multiply_accumulates"] == 480


def test_a_parameter_of_two_modules_is_counted_once():
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
    )
    network[1].weight = network[0].weight
    network[2].bias = network[0].bias
    table = layer_table(network, (4, 8, 8))
    assert totals(table)["parameters"] == sum(p.numel() for p in network.parameters())
    assert table["parameter_formula"].tolist() == ["0", "(3·3·4 + 1)·4", "4", "(1·1·4)·4"]
    assert table["weights"].tolist() == [0, 144, 0, 16]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet50", "25,557,032"), ("vgg19", "143,667,240"), ("vgg11_bn", "132,868,840")],
)
def test_the_tables_for_readers_count_every_layer_of_torchvisions_networks(name, parameters):
    table = layer_table(torchvision_network(name), (3, 224, 224))
    shown = tables.parameters(table)["parameters"].tolist()
    assert shown[-1] == f"**{parameters}**"
    rows = [int(text.replace(",", "")) for text in shown[:-1]]
    assert f"**{sum(rows):,}**" == shown[-1]
    assert len(tables.activations_and_weights(table)) == len(table) + 1


def test_inception_handout_numbers():
    naive = totals(layer_table(inception_naive(), (256, 32, 32)))
    reduced = totals(layer_table(inception_reduced(), (256, 32, 32)))
    assert naive["multiply_accumulates"] == 1024 * 256 * (128 + 9 * 192 + 25 * 96)
    assert reduced["multiply_accumulates"] == 1024 * (
        256 * (128 + 128 + 32 + 64) + 9 * 128 * 192 + 25 * 32 * 96
    )
    x = torch.zeros(1, 256, 32, 32)
    for module, channels in ((inception_naive(), 672), (inception_reduced(), 480)):
        assert module.to_empty(device="cpu")(x).shape == (1, channels, 32, 32)


def test_what_autograd_keeps_of_a_small_network_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    # The image, the ReLU's output (the pool reads the same), and the places of the maxima, of which
    # each takes eight bytes. What the convolution made is overwritten by nobody and kept by nobody.
    assert saved_bytes(network, (3, 4, 4)) == 4 * (3 * 16 + 5 * 16) + 8 * 5 * 4
    assert saved_bytes(network, (3, 4, 4), batch_size=7) == 7 * saved_bytes(network, (3, 4, 4))


def test_a_parameter_or_a_tensor_kept_twice_is_counted_once():
    shared = nn.Linear(6, 6, bias=False)
    network = nn.Sequential(nn.Flatten(), shared, shared)
    assert saved_bytes(network, (6, 1, 1)) == 4 * 2 * 6  # the inputs of both uses, no weights


def test_what_autograd_keeps_is_what_it_keeps_on_the_cpu():
    network = torchvision_network("resnet18").to_empty(device="cpu").train()
    kept = {}
    own = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(2, 3, 64, 64))
    measured = sum(storage.nbytes() for storage in kept.values())
    # Some kernels keep an empty tensor or a byte of their own on one device only.
    assert saved_bytes(network, (3, 64, 64), 2) == pytest.approx(measured, rel=1e-3)


def test_vgg_keeps_no_more_than_resnet_for_the_backward_pass():
    """Twice the activations, a common estimate, makes VGG-19 look 1.4 times as heavy."""
    vgg, resnet = (torchvision_network(name) for name in ("vgg19", "resnet50"))
    assert round(saved_bytes(vgg, (3, 224, 224)) / 1e6) == 79
    assert round(saved_bytes(resnet, (3, 224, 224)) / 1e6) == 86


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer_table(vgg19(), (3, 224)), "three positive integers"),
        (lambda: layer_table(vgg19(), (3, 0, 224)), "three positive integers"),
        (lambda: layer_table(vgg19(), (3, 224.0, 224)), "three positive integers"),
        (lambda: layer_table(vgg19(), (3, 224, True)), "three positive integers"),
        (lambda: layer_table(vgg19(), (1, 224, 224)), "conv1_1 expects 3 channels and got 1"),
        (lambda: layer_table(alexnet(), (3, 9, 9)), "conv1: its kernel of 11 is larger"),
        (lambda: layer_table(alexnet(), (3, 30, 227)), "pool2: its kernel of 3 is larger"),
        (lambda: layer_table(alexnet(), (3, 300, 300)), "fc6 expects 9216 inputs"),
        (
            lambda: layer_table(nn.Conv2d(3, 4, 3, stride=0), (3, 8, 8)),
            "layer Conv2d: stride=\\(0, 0\\)",
        ),
        (lambda: layer_table(nn.MaxPool2d(2, stride=(2, -1)), (3, 8, 8)), "stride=\\(2, -1\\)"),
        (lambda: layer_table(nn.LayerNorm(8), (3, 8, 8)), "no row accounts for them"),
        (lambda: alexnet(groups=3), "choose 2"),
        (lambda: same_padding(4), "positive odd integer"),
        (lambda: saved_bytes(LeNet5(), (1, 28, 28), batch_size=0), "batch_size=0"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_torchvision_network_is_refused():
    with pytest.raises(ValueError, match="alexnot"):
        torchvision_network("alexnot")
