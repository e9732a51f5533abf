"""What students do not get: bodies of functions, docstrings that give answers away, helpers.

Which functions a task consists of, and how they are called, stands in `hw3utils.checking.probes`.
All are named by wing and name, so they may move from file to file.
"""

import csv
from pathlib import Path

HERE = Path(__file__).parent
RUBRIC = list(csv.DictReader((HERE / "rubric.csv").open(encoding="utf-8")))
AUTOMATIC = [row for row in RUBRIC if row["kind"] == "automatic"]
BY_HAND = [row for row in RUBRIC if row["kind"] == "hand"]
POINTS = {row["item"]: int(row["points"]) for row in RUBRIC}

# Where the model's docstring would be the answer.
DOCS = {
    "training:LeNet5": """
        LeNet-5 for 28×28 grey images (LeCun et al. 1998, Sec. II.B and Fig. 2).

        Input (N, 1, 28, 28) float32, output (N, num_classes) logits. The paper's images are padded
        to 32×32. ``features`` is a chain of layers that ends with what ``classifier``, one linear
        layer, reads. Every filter of the second convolution may read all maps of the first.
    """,
    "problem1:suggest_lr_bounds": """
        Read lr_min and lr_max off a curve of training loss against learning rate.

        Write down your rule here. It must give rates between which training makes progress, and
        never one at which, or above which, a run diverged.

        Parameters
        ----------
        learning_rates : sequence of float
            Greater than 0, rising.
        losses : sequence of float
            The training loss at each rate; NaN or infinity where the run diverged.
        progress : float
            Between 0 and 1: yours to use, or to ignore.

        Returns
        -------
        LRBounds
            Two floats, ``lr_min < lr_max``.
    """,
    "training:Cyclical": """
        Triangular cycles between ``lr`` and ``lr_max`` whose amplitude decays exponentially.

        After Smith 2017 (1506.01186): triangles begin and end at ``lr``, and only the amplitude
        decays, with each update, until ``final_amplitude`` of it is left at the end of the run.
        The momentum is left alone.
    """,
    "training:accumulate_gradient": """
        Add the gradient of the mean cross-entropy over ``batch`` to the parameters' gradients.

        ``batch`` holds indices into ``images``: shape (batch size,), int64. It goes through the
        network in micro-batches of at most ``micro_batch_size`` images (None: all at once), and the
        gradient must be that of the whole batch, also when the last micro-batch is smaller.

        Returns the summed loss and the number of correct images, shape (2,), without gradient;
        `zero_totals` makes two zeros to begin with.
    """,
    "problem1:batch_size_runs.grown": """
        Return ``run`` with a batch size for each epoch, instead of 32.

        Each of ``sizes`` in turn is kept for ``settings.stage_epochs`` epochs. At most
        ``MICRO_BATCH_SIZE`` images go through the network at once. Use `dataclasses.replace`.
    """,
    "problem1:gradient_noise_scale": """
        Measure the gradient noise scale of a network over the training images, on a copy of it.

        B_simple = tr Σ / |G|² (McCandlish et al. 2018, 1812.06162, eq. 2.9): G is the gradient of
        the mean loss over all images, tr Σ the summed variance of a *single* image's gradient.
        Estimate tr Σ from the gradients of minibatches of ``batch_size``, in an order drawn from
        ``generator`` (images that fill no batch are left out). `_gradient` gives one such gradient,
        `mean_interval` a mean with its interval, for ``low`` and ``high``.
    """,
    "problem2:receptive_field": """
        Return how size, jump and start of the receptive field grow, layer by layer.

        ``size`` is how many input pixels an output sees, ``jump`` the distance in input pixels
        between neighbouring outputs, ``start`` the index of the input pixel on which the first
        output is centred (negative: in the padding). For the input they are 1, 1 and 0.

        Returns
        -------
        pandas.DataFrame
            One row for the input and one for each layer: ``kernel``, ``stride``, ``padding`` (0, 1
            and 0 for the input), ``size``, ``jump`` (int) and ``start`` (float). `_checked` refuses
            what are no layers.
    """,
    "problem2:anchor_shapes": """
        Return width and height of every anchor: area scale², height : width = ratio.

        (len(ratios)·len(scales))×2, float64, in pixels; the scale changes fastest. The defaults are
        those of Ren et al. 2015, Sec. 3.1.1: k = 9.
    """,
    "problem2:unchecked_iou": """
        Return what `iou` promises, for boxes that have been checked.
    """,
    "problem2:non_maximum_suppression": """
        Return which of n boxes (n×4) stay, by falling score (n).

        Boxes with an IoU of just ``threshold`` do not disturb each other; of equal scores the first
        box comes first. ``steps`` of the result may stay empty; the notebook's table of rounds is
        then empty, too. Ren et al. 2015, Sec. 3.3.
    """,
    "training:Steps": """
        Start at ``lr`` and multiply it by ``factor`` at the fractions ``at`` of the updates.
    """,
    "problem3:freeze": """
        Freeze all but the last layer, ``fc``: training changes nothing else, bit for bit.

        This must hold also when ``model.train()`` is called afterwards. Returns the model.
    """,
    "problem3:freeze_statistics": """
        Part of `freeze`, if you want: an extra experiment uses it alone. Returns the model.
    """,
    "problem4:select_top_k": """
        Select the new training set of Yalniz et al. 2019 (1905.00546, Sec. 3, stage 2).

        ``probabilities`` (N, C) are a teacher's, a row for each image; ``k`` and ``p`` are the
        paper's K and P. A class for which fewer images qualify gets those that there are. Of equal
        scores the lower class, and then the lower index, comes first. ``chunk_size`` decides memory
        and time alone and may be ignored.

        Raises a ValueError where ``k`` is below 1, ``p`` is not in 1..C, or a row is no
        distribution over the classes: `check_whole_number` and `_checked` refuse most of that.
    """,
}
# Helpers that would give an answer away and that nothing else needs.
GONE = (
    "problem1:_crossing", "problem3:_stay_in_evaluation_mode", "problem4:select_top_k_from_chunks",
    "problem4:_top_classes", "problem4:_best_of_each_class",
)  # fmt: skip
# Networks whose tables would print the numbers of 2.1, 2.2 and 2.4; the picture of 2.3's proof.
WITHHELD = (
    "problem2:alexnet", "problem2:vgg19", "problem2:inception_naive", "problem2:inception_reduced",
    "problem2:torchvision_network", "problem2:induction",
)  # fmt: skip
WITHHELD_DOCS = {
    "problem2:alexnet": "Return AlexNet (withheld here).",
    "problem2:vgg19": "Return VGG-19 (withheld here).",
    "problem2:inception_naive": "Return the naive Inception module (withheld here).",
    "problem2:inception_reduced": "Return the one with dimension reduction (withheld here).",
    "problem2:induction": "Draw the proof of 2.3 (withheld here).",
    "problem2:RegionProposalHead": "The region proposal network's own layers: Ren et al. 2015.",
}
# What is needed for an extra experiment, and written otherwise would be an answer.
INSTEAD = {
    "training:DecayingCyclical.build": """
        steady = Cyclical(lr=self.lr, lr_max=self.lr_max, cycles=self.cycles, final_amplitude=1.0)
        rates = [*learning_rates(steady, num_updates), self.lr]
        gamma = decay_factor(self.final_amplitude, num_updates)
        return lr_scheduler.LambdaLR(optimizer, lambda t: gamma**t * rates[t] / self.lr)
    """,
}
# Files of the package that write sentences, or draw the answers, or make the committed run.
DROPPED = (
    "answers.py", "batch_size_answers.py", "curve_answers.py", "label_answers.py",
    "rate_answers.py", "methods.py", "wording.py", "diagrams.py", "summary.py", "page.py",
    "publication.py", "report.css",
)  # fmt: skip
# Whatever a notebook computes with these goes too.
HIDDEN_NAMES = {
    "answers", "batch_size_answers", "curve_answers", "diagrams", "label_answers", "methods",
    "rate_answers", "wording",
    "layer_tables", "inception_saving", "growth_over_stages",
    *(function.split(":")[1] for function in WITHHELD),
}  # fmt: skip
# What a notebook begins with: the model's own first cell says what came out.
INTRODUCTIONS = {
    "problem1": "A small network, LeNet-5, learns to tell ten kinds of clothing apart, from up to "
    "48,000 photographs of 28×28 pixels. Reading: Smith, *Cyclical Learning Rates for Training "
    "Neural Networks* ([arXiv 1506.01186](https://arxiv.org/abs/1506.01186)).",
    "problem2": "The numbers of 2.1, 2.2 and 2.4 you calculate by hand, from the papers, and "
    "record here. For 2.5 you write the parts of a region proposal network that are pure geometry; "
    "then a small one is trained, which takes about two minutes on two cores.",
    "problem3": "A ResNet-50 that was trained on ImageNet meets a new task. Which is better: to go "
    "on training all of its 25 million weights, or only a new last layer?\n\nThe handout asks for "
    "a set of the Visual Decathlon (Rebuffi et al. 2017, "
    "[1705.08045](https://arxiv.org/abs/1705.08045)). The default here is CIFAR-100, which is one "
    "of them; where it cannot be fetched, CIFAR-10 stands in for it, and the notebook says so. The "
    "last layer alone (3.2a) comes first here, because finetuning begins with it.",
    "problem4": "Two papers learn from a billion images that nobody labelled by hand: Mahajan et "
    "al. 2018 ([arXiv 1805.00932](https://arxiv.org/abs/1805.00932)) and Yalniz et al. 2019 "
    "([arXiv 1905.00546](https://arxiv.org/abs/1905.00546)). This notebook re-enacts what they "
    "claim, on FashionMNIST. Arms are paired by seed; differences are in percentage points, and "
    "the intervals of one section hold *together* with 95 %.",
}
