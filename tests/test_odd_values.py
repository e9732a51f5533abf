"""Public functions with odd sizes and values: a right answer, or a refusal in clear words.

A refusal is a ``raise`` of a ValueError or TypeError in hw3utils itself. What comes from further
down (an index out of range in torch, a division by zero) was let through and is a fault.
"""

import dis
import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import hw3utils
from hw3utils.checks import check_whole_number
from hw3utils.data.image_folders import square
from hw3utils.data.images import (
    FlipAndCrop,
    ImageSet,
    ResizedScale,
    Scale,
    Splits,
    split,
    stratified_order,
    take,
)
from hw3utils.problem1 import diagnostics, learning_rates
from hw3utils.problem1 import experiments as problem1
from hw3utils.problem2 import networks as papers
from hw3utils.problem2 import receptive_field
from hw3utils.problem2.proposals import suppression
from hw3utils.problem2.proposals.boxes import (
    anchor_grid,
    anchor_shapes,
    clip_boxes,
    decode,
    encode,
    inside_image,
    iou,
    label_anchors,
)
from hw3utils.problem3 import finetuning, last_layer
from hw3utils.problem4 import experiments as problem4
from hw3utils.problem4 import recipes
from hw3utils.problem4.labels import (
    RESAMPLING_RULES,
    add_label_noise,
    add_pair_noise,
    draw_long_tail,
    resample,
    zipf_counts,
)
from hw3utils.problem4.pseudo_labels import select_top_k
from hw3utils.settings import Problem1, Problem2, Problem3, Problem4
from hw3utils.training import loop, networks, schedules
from hw3utils.training.batches import accumulate_gradient, evaluate
from hw3utils.training.intervals import mean_interval
from hw3utils.training.linear import fit_linear_classifier, optimal_head
from hw3utils.training.runs import Run
from made_up import make_images

EXAMPLES = int(os.environ.get("HW3_EXAMPLES", 60))
PACKAGE = str(Path(hw3utils.__file__).parent)
IMAGES, SCALE = make_images(48, num_classes=4), Scale((0.5,), (0.5,))

whole = st.integers(-2, 9) | st.sampled_from([50, 1000])
number = (
    st.floats(-2, 3)
    | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-300, 1e300])
    | st.integers(-2, 3)
)
numbers = st.lists(number, max_size=6)
seeds = st.integers(0, 3)


@st.composite
def tensors(draw, columns=None, dtype=torch.float32, values=None):
    """Return tensors of odd shapes, mostly (rows, columns), with NaN and infinity among them."""
    rows = draw(st.integers(0, 6))
    shape = draw(
        st.sampled_from([(rows, columns)] * 6 + [(rows,), (rows, (columns or 1) + 1), (1, rows, 2)])
        if columns
        else st.sampled_from([(rows,)] * 6 + [(rows, 2), ()])
    )
    size = math.prod(shape)
    values = number if values is None else values
    content = draw(st.lists(values, min_size=size, max_size=size))
    if dtype == torch.int64:
        content = [int(value) for value in content]
    return torch.tensor(content, dtype=dtype).reshape(shape)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


boxed = tensors(columns=4, values=number | st.floats(0, 50))
labelled = tensors(dtype=torch.int64, values=st.integers(-2, 6))
schedule = st.one_of(
    st.builds(lambda lr: lambda: schedules.Constant(lr), number),
    st.builds(lambda lr: lambda: schedules.LinearDecay(lr), number),
    st.builds(lambda lr, cycled: lambda: schedules.OneCycle(lr, cycled), number, st.booleans()),
    st.builds(lambda lr, f, at: lambda: schedules.Steps(lr, f, tuple(at)), number, number, numbers),
    st.builds(
        lambda kind, lr, top, n, left: lambda: kind(lr, top, n, left),
        st.sampled_from([schedules.Cyclical, schedules.DecayingCyclical]),
        number, number, whole, number,
    ),
)  # fmt: skip
layers = st.lists(st.tuples(whole, whole, whole), max_size=4)


def finite(tensor):
    assert torch.isfinite(torch.as_tensor(tensor)).all()


def sound_rates(rates):
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates), rates


def one_of_each(parts):
    assert sorted(torch.cat([part.images.flatten(1).sum(1) for part in parts]).tolist()) == sorted(
        IMAGES.images.flatten(1).sum(1).tolist()
    )


def lenet():
    return networks.build("lenet5", 4, 0)


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)


# Name, strategies of the arguments, the call, and what must be true of its answer.
CALLS = [
    ("learning_rates", (schedule, whole),
     lambda make, n: schedules.learning_rates(make(), n), sound_rates),
    ("suggest_lr_bounds", (numbers, numbers, number), learning_rates.suggest_lr_bounds,
     lambda found: sound_rates(found) or found.lr_min <= found.lr_max or pytest.fail(str(found))),
    ("candidate_learning_rates", (number, number, whole), problem1.candidate_learning_rates,
     sound_rates),
    ("decay_factor", (number, whole), schedules.decay_factor, lambda f: sound_rates([f])),
    ("Run", (schedule, whole, whole, st.none() | whole, number, number, whole),
     lambda make, *rest: Run("lenet5", make(), *rest).num_updates(100), None),
    ("Run, sizes", (st.lists(whole, max_size=3), whole),
     lambda sizes, n: Run("lenet5", schedules.Constant(0.1), n, tuple(sizes)), None),
    ("ImageSet", (tensors(columns=3), labelled),
     lambda images, labels: ImageSet(images, labels, ("a", "b")), None),
    ("ImageSet, uint8", (st.lists(st.integers(0, 3), min_size=1, max_size=5), labelled),
     lambda shape, labels: ImageSet(torch.zeros(shape, dtype=torch.uint8), labels, ("a", "b")),
     None),
    ("Scale", (numbers, numbers),
     lambda mean, std: Scale(tuple(mean), tuple(std))(IMAGES.images[:2]), finite),
    ("split", (whole, seeds), lambda n, s: split(IMAGES, n, generator(s)), one_of_each),
    ("stratified_order", (st.lists(st.integers(0, 5), max_size=20), seeds),
     lambda labels, s: stratified_order(torch.tensor(labels, dtype=torch.int64), generator(s)),
     lambda found: sorted(found.tolist()) == list(range(len(found))) or pytest.fail(str(found))),
    ("at_most", (whole, whole, whole),
     lambda *numbers: Splits(IMAGES, IMAGES, IMAGES).at_most(*numbers),
     lambda parts: all(4 <= len(part) <= 48 for part in parts) or pytest.fail(str(parts))),
    ("take", (whole,), lambda n: take(IMAGES, n), lambda found: len(found) <= len(IMAGES)),
    ("iou", (boxed, boxed), iou,
     lambda found: ((found >= 0) & (found <= 1 + 1e-6)).all() or pytest.fail(str(found))),
    ("encode", (boxed, boxed), encode, None),
    ("decode", (boxed, boxed), decode, None),
    ("clip_boxes", (boxed, whole, whole), clip_boxes, None),
    ("inside_image", (boxed, whole, whole), inside_image, None),
    ("non_maximum_suppression", (boxed, tensors(), number), suppression.non_maximum_suppression,
     lambda found: found.kept.unique().numel() == len(found.kept) or pytest.fail(str(found))),
    ("propose", (boxed, tensors(), boxed, st.tuples(whole, whole), number, whole, whole, number),
     suppression.propose, None),
    ("anchor_shapes", (numbers, numbers), anchor_shapes, finite),
    ("anchor_grid", (whole, whole, whole, tensors(columns=2)),
     lambda r, c, s, shapes: anchor_grid(min(r, 9), min(c, 9), s, shapes), finite),
    ("label_anchors", (boxed, boxed, number, number), label_anchors, None),
    ("receptive_field", (layers,), receptive_field.receptive_field, None),
    ("gradient_receptive_field",
     (st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3), st.integers(-1, 3)), max_size=3),),
     receptive_field.gradient_receptive_field, None),
    ("stacked_receptive_field", (whole, whole), receptive_field.stacked_receptive_field, None),
    ("add_label_noise", (labelled, number, whole, seeds),
     lambda labels, rate, n, s: add_label_noise(labels, rate, n, generator(s)),
     lambda found: found.dtype == torch.int64 or pytest.fail(str(found))),
    ("add_pair_noise", (labelled, number, whole, seeds),
     lambda labels, rate, n, s: add_pair_noise(labels, rate, n, generator(s)),
     lambda found: found.dtype == torch.int64 or pytest.fail(str(found))),
    ("draw_long_tail", (labelled, st.lists(whole, max_size=4), seeds),
     lambda labels, counts, s: draw_long_tail(labels, counts, generator(s)), None),
    ("resample", (labelled, whole, st.sampled_from([*RESAMPLING_RULES, "x"]),
                  whole, seeds),
     lambda labels, classes, rule, n, s: resample(
         labels, classes, rule, n, generator(s)), None),
    ("zipf_counts", (whole, whole, number), zipf_counts,
     lambda found: min(found) >= 1 or pytest.fail(str(found))),
    ("select_top_k", (tensors(columns=3), whole, whole, whole), select_top_k, None),
    ("HeadRun", (numbers, whole, whole, whole, number, number, st.none() | whole),
     lambda rates, *rest: last_layer.HeadRun(tuple(rates), *rest), None),
    ("fit_heads", (st.none() | whole, tensors(columns=3), labelled, tensors(columns=3), labelled,
                   whole),
     lambda images, *asked: last_layer.fit_heads(
         last_layer.HeadRun((0.1,), epochs=2, batch_size=4, images=images), *asked), None),
    ("check_finetuning", (whole, whole, whole),
     lambda images, size, available: finetuning.check_finetuning(
         finetuning.Finetuning(Run("resnet50", schedules.Steps(0.1), 1, size), images, "", ""),
         available), None),
    ("optimal_head", (tensors(columns=3), labelled, tensors(columns=3), labelled, whole),
     lambda *asked: optimal_head(*asked, strengths=(0.1,), max_iterations=5), None),
    ("initial_head", (whole, whole, whole), last_layer.initial_head, None),
    ("fit_linear_classifier", (tensors(columns=3), labelled, whole, number),
     fit_linear_classifier, None),
    ("settings.problem1", (st.sampled_from(["n_train", "cycles", "seeds", "final_amplitude"]),
                           number | whole),
     lambda name, value: Problem1.for_profile("smoke", **{name: value}), None),
    ("settings.problem3", (st.sampled_from(["n_train", "image_size", "seeds", "curve"]),
                           number | whole),
     lambda name, value: Problem3.for_profile("smoke", **{name: value}), None),
    ("settings.problem4", (st.sampled_from(["pool", "k", "p", "temperature"]), number | whole),
     lambda name, value: Problem4.for_profile("smoke", **{name: value}), None),
    ("settings.problem2", (st.sampled_from(["n_train", "rpn_epochs"]), number | whole),
     lambda name, value: Problem2.for_profile("smoke", **{name: value}), None),
    ("same_padding", (whole,), papers.same_padding, None),
    ("build", (st.sampled_from(["lenet5", "x"]), whole, whole), networks.build, None),
    ("distillation_loss", (tensors(columns=3), tensors(columns=3), number),
     recipes.distillation_loss, None),
    ("lr_range_test", (whole, number, number, whole, number | whole, number),
     lambda size, low, high, n, window, stop: learning_rates.lr_range_test(
         model := lenet(), optimizer(model), IMAGES, SCALE, generator(), batch_size=size,
         lowest=low, highest=high, num_updates=min(n, 12), window=window, stop_at=stop), None),
    *[(f"rule: {name}", (numbers, numbers), rule, lambda rate: sound_rates([rate]))
      for name, rule in learning_rates.RULES.items()],
    ("gradient_noise_scale", (whole,),
     lambda size: diagnostics.gradient_noise_scale(
         lenet(), IMAGES, SCALE, generator(), batch_size=size),
     lambda found: found.low < found.simple < found.high or pytest.fail(str(found))),
    ("mean_interval", (numbers, number), mean_interval,
     lambda found: found.sign in (-1, 0, 1) or pytest.fail(str(found))),
    ("evaluate", (st.none() | whole,),
     lambda size: evaluate(lenet(), IMAGES, SCALE, size), finite),
    ("accumulate_gradient", (labelled, st.none() | whole),
     lambda batch, n: accumulate_gradient(lenet(), IMAGES, batch, SCALE, n), finite),
    ("minibatches", (whole, whole),
     lambda n, size: torch.cat([*loop.minibatches(n, size, generator())]),
     lambda found: sorted(found.tolist()) == list(range(len(found))) or pytest.fail(str(found))),
    ("square", (st.integers(1, 9), st.integers(1, 9), whole),
     lambda w, h, size: square(Image.new("L", (w, h)), size), None),
    ("FlipAndCrop", (whole, number, seeds),
     lambda padding, mirror, s: FlipAndCrop(padding, mirror)(IMAGES, generator(s)),
     lambda found: found.images.shape == IMAGES.images.shape or pytest.fail("shape")),
    ("ResizedScale", (numbers, numbers, whole),
     lambda mean, std, size: ResizedScale(tuple(mean), tuple(std), min(size, 64))(
         IMAGES.images[:2]), finite),
    ("check_whole_number", (st.just("n"), number | whole), check_whole_number, None),
    ("known_and_rest", (labelled, whole, seeds),
     lambda labels, n, s: problem4.known_and_rest(labels, n, generator(s)), None),
    ("batch_size_runs", (number,),
     lambda lr: problem1.batch_size_runs(lr, Problem1.for_profile("smoke")), None),
    ("schedule_runs", (number, number, number, whole),
     lambda low, high, lr, n: problem1.schedule_runs(
         learning_rates.LRBounds(low, high), lr, n, Problem1.for_profile("smoke")), None),
]  # fmt: skip


def refused_by_this_package(error):
    """Tell whether an error is a ``raise`` statement of hw3utils, with some words."""
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    instructions = {i.offset: i.opname for i in dis.get_instructions(last.tb_frame.f_code)}
    return (
        isinstance(error, (ValueError, TypeError))
        and last.tb_frame.f_code.co_filename.startswith(PACKAGE)
        and instructions[last.tb_lasti] == "RAISE_VARARGS"
        and len(str(error)) > 10
    )


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_an_odd_value_gives_a_right_answer_or_is_refused_in_words(call):
    _, strategies, function, sound = call

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(st.tuples(*strategies))
    def holds(arguments):
        try:
            answer = function(*arguments)
        except Exception as error:
            if not refused_by_this_package(error):
                raise
            return
        if sound:
            sound(answer)

    holds()
