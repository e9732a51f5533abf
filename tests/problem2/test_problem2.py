"""Problem 2 as it is handed in: results, the write-up's own arithmetic, tables, figures."""

import json
import re

import pandas as pd
import pytest
import torch
import torchvision
from matplotlib import image as mpl_image
from matplotlib import pyplot as plt
from torch import nn

from hw3utils import paths
from hw3utils.problem2 import answers, experiments, figures, tables
from hw3utils.problem2.layers import layer_table
from hw3utils.problem2.proposals import figures as proposal_figures
from hw3utils.problem2.proposals import measures, scenes
from hw3utils.problem2.proposals.boxes import (
    anchor_grid,
    anchor_shapes,
    decode,
    inside_image,
    label_anchors,
)
from hw3utils.problem2.proposals.suppression import non_maximum_suppression
from hw3utils.problem2.receptive_field import stacked_receptive_field
from hw3utils.text import markdown

ROOT = paths.project_root()
WRITE_UP = (ROOT / "answers" / "problem2.md").read_text(encoding="utf-8")
VISIBLE = re.sub(r"<!--.*?-->", "", WRITE_UP, flags=re.DOTALL)
RESULTS = json.loads((ROOT / "answers" / "results" / "problem2.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def markdown_tables():
    """Return every table of the write-up as a list of rows, each a list of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", VISIBLE, flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in blocks
    ]


def number(cell):
    return int(cell.strip("*").replace(",", ""))


def value(formula):
    return eval(formula.replace("·", "*").replace("²", "**2").replace(",", ""))


def test_the_committed_results_are_what_the_code_computes_now():
    counted = answers.counted(experiments.layer_tables())
    assert {name: RESULTS[name] for name in counted} == counted
    assert set(RESULTS) - set(counted) == {"profile", "settings", "environment", "seconds", "rpn"}


def test_the_labels_are_those_of_anchors_inside_as_training_counts_them():
    counts = RESULTS["anchors"]["600x600"]
    assert (counts["positive"], counts["negative"], counts["ignored"]) == (15, 3_462, 387)
    assert counts["inside"] == 15 + 3_462 + 387 == 3_864
    (paragraph,) = [line for line in VISIBLE.splitlines() if "3,462" in line]
    assert "15" in paragraph and "387" in paragraph and "9,308" not in VISIBLE


def test_the_ablation_says_whose_it_is():
    (paragraph,) = [line for line in VISIBLE.splitlines() if "55.2" in line]
    for words in ("ZF", "Selective Search", "VOC 2007", "Table 2", "56.8", "56.3", "55.1"):
        assert words in paragraph, words


def test_what_the_text_says_of_suppression_is_what_was_measured():
    rpn = RESULTS["rpn"]
    assert list(rpn["recall"]) == list(measures.ARMS)
    seeds = len(rpn["seconds"])
    for overlaps in rpn["recall"].values():
        assert all(len(rows) == seeds for rows in overlaps.values())
    for counts in rpn["left"].values():
        assert min(counts["uncut"]) > max(counts["kept"]) > 5 * max(counts["fired"])
    for words in ("background", "each class", "6,000"):
        assert words in VISIBLE, words
    assert "simulat" not in VISIBLE.lower()


def test_a_grader_can_read_it_in_ten_minutes():
    words = re.findall(r"\S*\w\S*", re.sub(r"\|", " ", VISIBLE))
    assert len(words) <= 3_500


def test_the_results_agree_with_torchvisions_own_networks():
    with torch.device("meta"):
        alexnet, vgg19 = torchvision.models.alexnet(), torchvision.models.vgg19()
    assert RESULTS["alexnet_parameters"]["torchvision"] == sum(
        p.numel() for p in alexnet.parameters()
    )
    assert RESULTS["vgg19_parameters"] == sum(p.numel() for p in vgg19.parameters())
    assert RESULTS["vgg19_parameters_without_biases"] == sum(
        p.numel() for name, p in vgg19.named_parameters() if name.endswith("weight")
    )


def test_the_points_of_the_headings_add_up_to_the_handouts():
    top = re.findall(r"^## .*\((\d+) points\)$", VISIBLE, flags=re.MULTILINE)
    assert [int(points) for points in top] == [4, 6, 3, 12, 10]
    parts = re.findall(r"^### .*\(([\d +]+) points\)$", VISIBLE, flags=re.MULTILINE)
    assert parts == ["2", "3", "3", "2 + 2", "2", "2", "3", "3"]


@pytest.mark.parametrize(
    ("heading", "rows", "total"),
    [
        ("layer | filters | output | calculation | parameters", 8, 60_965_224),
        ("branch | layer | output | calculation | operations", 4, 1_115_684_864),
    ],
)
def test_each_calculation_in_the_text_gives_its_result_and_the_results_their_total(
    heading, rows, total
):
    found = [t for t in markdown_tables() if " | ".join(t[0]) == heading]
    _, _, *body, last = found[0]
    assert len(body) == rows
    for *_, calculation, result in body:
        assert number(result) == (0 if "none" in calculation else value(calculation))
    assert number(last[-1]) == sum(number(row[-1]) for row in body) == total


def test_the_vgg_table_is_complete_and_adds_up():
    (table,) = [t for t in markdown_tables() if t[0][1] == "activations (memory)"]
    _, _, *body, last = table
    kinds = [re.match(r"[a-z]+", row[0])[0] for row in body]
    assert [kinds.count(kind) for kind in ("input", "conv", "pool", "fc")] == [1, 16, 5, 3]
    for column, key in ((1, "vgg19_activations"), (2, "vgg19_parameters_without_biases")):
        sums = 0
        for row in body:
            formula, _, result = row[column].rpartition(" = ")
            assert value(formula or result) == number(result), row
            sums += number(result)
        assert sums == number(last[column]) == RESULTS[key]


def test_no_comparison_in_the_text_came_out_wrong():
    assert "UNLIKE" not in VISIBLE and "DISAGREE" not in VISIBLE
    assert "nan" not in VISIBLE.lower().split()


def test_every_figure_is_in_the_write_up_and_opaque():
    shown = set(re.findall(r"\.\./figures/(problem2_\w+\.png)", VISIBLE))
    present = {path.name for path in (ROOT / "figures").glob("problem2_*.png")}
    assert shown == present and len(shown) >= 10
    for name in shown:
        pixels = mpl_image.imread(ROOT / "figures" / name)
        assert pixels.shape[1] >= 800 and pixels[..., 3:].min(initial=1.0) == 1.0, name


def test_the_naive_module_grows_and_the_reduced_one_does_not():
    growth = experiments.growth_over_stages(stages=4)
    assert growth["naive_channels"].tolist() == [256 + 416 * n for n in (1, 2, 3, 4)]
    assert set(growth["reduced_channels"]) == {480}
    assert growth["naive_operations"].is_monotonic_increasing
    assert growth["reduced_operations"].iloc[1:].nunique() == 1


def test_a_layer_in_words():
    layers = [
        nn.AvgPool2d(2),
        nn.MaxPool2d((1, 2), stride=(1, 2)),
        nn.Conv2d(3, 6, (3, 5), dilation=2, groups=3),
        nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1),
    ]
    table = layer_table(nn.Sequential(*layers), (3, 64, 64))
    assert [tables.layer_description(row) for row in table.iloc[1:].itertuples()] == [
        "2×2 average pool, stride 2",
        "1×2 max pool, stride (1, 2)",
        "3×5, 6 filters, dilation 2, 3 groups",
        "batch normalisation, 6 channels",
        "average pool to 1×1",
    ]


def test_the_decoding_written_out_gives_the_decoded_box():
    anchor = torch.tensor([10.0, 20.0, 138.0, 84.0], dtype=torch.float64)
    offsets = torch.tensor([0.25, -0.5, -0.1, 0.3], dtype=torch.float64)
    x1, y1, x2, y2 = decode(offsets.unsqueeze(0), anchor.unsqueeze(0))[0].tolist()
    expected = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    shown = tables.decoding(anchor, offsets)["box"].astype(float)
    assert shown.tolist() == pytest.approx(expected, abs=0.051)


def test_markdown_puts_numbers_to_the_right_and_text_to_the_left():
    frame = pd.DataFrame(
        {"name": ["a", "12×12"], "count": ["1,024", "**7**"], "share": [0.5, "−3 %"]}
    )
    head, rule, first, _ = markdown(frame).splitlines()
    assert head == "| name | count | share |" and first == "| a | 1,024 | 0.5 |"
    assert [cell.strip().endswith(":") for cell in rule.strip("|").split("|")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("depth", "kernel"), [(3, 5), (1, 3), (4, 3), (2, 7)])
def test_the_picture_of_the_proof_fills_as_many_squares_as_the_formula_says(depth, kernel):
    axis = figures.induction(depth, kernel).axes[0]
    white = (1.0, 1.0, 1.0, 1.0)
    filled = [patch for patch in axis.patches if patch.get_facecolor() != white]
    expected = sum(stacked_receptive_field(n, kernel) for n in range(depth + 1))
    assert len(filled) == expected
    assert f"{stacked_receptive_field(depth, kernel)} pixels" in [
        text.get_text().partition(" =")[0] for text in axis.texts
    ]


@pytest.mark.parametrize(("depth", "kernel"), [(0, 3), (2, 4), (30, 5)])
def test_a_picture_that_cannot_be_drawn_is_refused(depth, kernel):
    with pytest.raises(ValueError, match="the picture needs"):
        figures.induction(depth, kernel)


def test_the_bars_of_a_network_make_one_hundred_percent_on_each_side():
    networks = {"VGG-19": experiments.layer_tables()["VGG-19"]}
    widths = [bar.get_width() for bar in figures.layer_shares(networks).axes[0].patches]
    assert sum(w for w in widths if w < 0) == pytest.approx(-100)
    assert sum(w for w in widths if w > 0) == pytest.approx(100)


def test_a_network_with_batch_normalisations_can_be_drawn():
    networks = {"ResNet-50": experiments.layer_tables()["ResNet-50"]}
    (legend,) = figures.layer_shares(networks).legends
    assert "batch normalisation" in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.0])
def test_the_last_panels_show_the_boxes_that_were_kept(threshold):
    boxes = scenes.marked_boxes().repeat(30, 1) + 3 * torch.arange(90).double().unsqueeze(1)
    scores = torch.arange(90).flip(0).double()
    result = non_maximum_suppression(boxes, scores, threshold)
    figure = proposal_figures.suppression(
        scenes.photograph(), boxes, scores, result, (threshold, 0.3)
    )
    assert len(figure.axes) == 6 and len(figure.axes[0].patches) == 90
    assert len(figure.axes[4].patches) == len(result.kept)
    assert len(figure.axes[5].patches) == len(non_maximum_suppression(boxes, scores, 0.3).kept)


def test_no_anchor_is_cut_off_by_the_picture():
    image, objects = scenes.photograph(), scenes.marked_boxes()
    anchors = anchor_grid(37, 37, 16, anchor_shapes())
    inside = anchors[inside_image(anchors, 600, 600)]
    positive = inside[label_anchors(inside, objects) == 1]
    named = dict(zip(scenes.MARKED, objects, strict=True))
    middle = anchors.reshape(-1, 9, 4)[18 * 37 + 18]
    figure = proposal_figures.anchors(
        image, middle, anchors[::9, :2], positive, named, (128, 256, 512), (0.5, 1, 2)
    )
    for axis in figure.axes:
        (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
        for box in axis.patches:
            assert left <= box.get_x() and box.get_x() + box.get_width() <= right
            assert top <= box.get_y() and box.get_y() + box.get_height() <= bottom
    colours = {box.get_edgecolor() for box in figure.axes[1].patches}
    assert len(colours) == len(objects), "one colour for each object"
