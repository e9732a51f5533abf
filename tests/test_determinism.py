"""What is equal bit for bit and what is only close; the table of all of it is in README.md here."""

import os
import subprocess
import sys

import torch

from hw3utils import style
from hw3utils.problem1 import figures
from hw3utils.training import fingerprints, loop, networks, sweeps
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Constant, LinearDecay

RUN = Run("lenet5", LinearDecay(0.05), epochs=2, batch_size=32, seed=3)
PROGRAM = """
import sys, torch
from made_up import make_images
from hw3utils.data.images import Scale
from hw3utils.training import loop, networks
from test_determinism import RUN
torch.set_num_threads(1)
result = loop.fit(networks.build("lenet5", 10, 3), RUN, make_images(384, seed=1),
                      make_images(100, seed=2), Scale((0.5,), (0.5,)))
torch.save(result.state, sys.argv[1])
"""


def states(train, validation, scale, threads):
    torch.set_num_threads(threads)
    model = networks.build("lenet5", 10, RUN.seed)
    try:
        return loop.fit(model, RUN, train, validation, scale).state
    finally:
        torch.set_num_threads(1)


@fingerprints.task
def threads():
    return {"threads": torch.get_num_threads()}


def test_a_task_has_one_thread_whatever_the_machine_offers():
    program = (
        "from test_determinism import threads\nfrom hw3utils import files\n"
        "from hw3utils.training import workers\n"
        "for _, result in workers.results(threads, {'first': (), 'second': ()}, [], n_jobs=2):\n"
        "    print(files.unpack_tensors(result)['threads'])"
    )
    offered = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=offered, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


def distance(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_another_process_with_other_hashes_gives_the_same_bits(train, validation, scale, tmp_path):
    here = states(train, validation, scale, threads=1)
    for seed in ("1", "2"):
        place = tmp_path / seed
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", PROGRAM, place], env=environment, check=True)
        assert distance(here, torch.load(place, weights_only=True)) == 0


def test_more_threads_are_close(train, validation, scale):
    one = states(train, validation, scale, threads=1)
    assert distance(one, states(train, validation, scale, threads=1)) == 0
    assert distance(one, states(train, validation, scale, threads=2)) < 1e-3


def test_a_figure_has_the_same_bytes_each_time(train, validation, scale, tmp_path):
    runs = [Run("lenet5", Constant(0.1), 1, 32, seed=seed) for seed in (0, 1)]
    found = sweeps.fit_all(runs, train, validation, scale, n_jobs=1, cache_dir=tmp_path / "c")
    drawn = []
    for folder in ("a", "b"):
        style.use_style()
        figure = figures.train_and_validation(found, "Title")
        drawn.append(style.save_figure(figure, "f", tmp_path / folder).read_bytes())
    assert drawn[0] == drawn[1]
