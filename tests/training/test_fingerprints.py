"""The key of a cached result follows the code that makes it: tried by real edits, in a copy."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hw3utils
from hw3utils.training import fingerprints, sweeps

TASKS = {
    "fit": ("hw3utils.training.sweeps", "fit_one"),
    "finetune": ("hw3utils.problem3.finetuning", "_finetune"),
    "features": ("hw3utils.problem3.features", "_features"),
    "adapted": ("hw3utils.problem3.features", "_adapted_features"),
    "heads": ("hw3utils.problem3.last_layer", "_fit_heads"),
    "recipe": ("hw3utils.problem4.recipes", "_follow"),
    "weights": ("hw3utils.problem3.keras_weights", "convert"),
}
DIGESTS = f"""
    import json
    from hw3utils.training import fingerprints
    compute = ("hw3utils.training.workers", "compute")
    classes = frozenset([("hw3utils.data.images", "Scale")])
    print(json.dumps({{name: fingerprints._digest((place, compute), classes)
                      for name, place in {TASKS}.items()}}))
"""
EVERY = set(TASKS)
LOOP = {"fit", "finetune", "recipe"}
RESNET = {"finetune", "features", "adapted"}


def copied(folder):
    """Return a folder with a copy of the package, to be edited."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(hw3utils.__file__).parent, folder / "hw3utils", ignore=ignored)
    return folder


@pytest.fixture
def copy(tmp_path):
    return copied(tmp_path)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Return the digests of the package as it is, in a copy that nobody edits."""
    return digests(copied(tmp_path_factory.mktemp("unedited")))


def python(copy, program, check=True, **variables):
    """Run a program in a process of its own that imports the copy."""
    path = os.pathsep.join([str(copy), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": path, "HW3_HOME": str(copy)} | variables,
        capture_output=True, text=True, cwd=copy,
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stderr
    return done


def digests(copy):
    return json.loads(python(copy, DIGESTS).stdout)


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} has no {old!r}: bring this test up to date"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("room", "old", "new", "changed"),
    [
        ("training/loop", "optimizer.step()", "optimizer.step(); print()", LOOP),
        ("training/sweeps", "result = loop.fit(", "result = 0 or loop.fit(", {"fit"}),
        ("training/loop", "CHECK_EVERY = 50", "CHECK_EVERY = 51", LOOP),
        ("training/workers", "torch.set_num_threads(1)", "torch.set_num_threads(2)", EVERY),
        ("training/networks", "nn.Linear(120, 84)", "nn.Linear(120, 85)", {"fit", "recipe"}),
        ("data/images", "* 255", "* 256", EVERY),
        ("problem3/keras_weights", "1e-3, 1e-5", "1e-3, 1e-6", {"weights", *RESNET}),
        ("problem3/keras_weights", "Only arithmetic", "Arithmetic", set()),
        ("training/schedules", "end_factor=0.0", "end_factor=0.1", {"recipe"}),
        ("training/schedules", "ConstantLR(optimizer", "ConstantLR(optimizer or 0", set()),
        ("problem3/finetuning", "if best_epoch <", "if best_epoch <=", {"finetune"}),
        ("problem3/features", "features = _features", "features = 0 or _features", {"features"}),
        ("problem3/features", "done += 1", "done += 2", {"adapted"}),
        ("problem3/last_layer", "error.sum(0)", "error.mean(0)", {"heads"}),
        ("problem3/resnet", "def build(", "def build(*, ", RESNET),
        ("problem3/resnet", "SMALL_MAP = 2", "SMALL_MAP = 3", RESNET),
        ("problem3/resnet", "F.pad(positions, (0, 0, 1", "F.pad(positions, (0, 0, 2", RESNET),
        ("problem3/resnet", "   module.eval()", "   module.train()", {"finetune"}),
        ("problem3/arithmetic", "images).float()", "images)", {"finetune"}),
        ("data/images", "stable=True)", "stable=False)", {"finetune", "adapted", "heads"}),
        ("problem4/recipes", "began = time", "began = 0 or time", {"recipe"}),
        # what decides no result
        ("training/loop", '"""The one training loop', '"""A training loop', set()),
        ("training/loop", "model.train()", "model.train()  # dropout", set()),
        ("training/loop", "bar: tqdm,", 'bar: "tqdm",', set()),
        ("files", "handle, temporary =", "temporary = None\n    handle, temporary =", set()),
        ("checks", "bool", "int", set()),
        ("problem3/arithmetic", "FASTER_BY = 1.2", "FASTER_BY = 1.1", set()),
        ("problem3/experiments", "CROP = 4", "CROP = 5", set()),
        ("problem1/figures", "import", "import this\nimport", set()),
        ("problem4/experiments", "0.05", "0.06", set()),
    ],
)  # fmt: skip
def test_an_edit_changes_the_keys_of_the_tasks_that_execute_it(
    copy, before, room, old, new, changed
):
    edit(copy / "hw3utils" / f"{room}.py", old, new)
    after = digests(copy)
    assert {name for name in TASKS if before[name] != after[name]} == changed


def test_a_moved_function_and_a_renamed_room_change_no_key(copy, before):
    rooms = copy / "hw3utils" / "training"
    loop, batches = rooms / "loop.py", rooms / "batches.py"
    text = loop.read_text(encoding="utf-8")
    start, end = text.index("def minibatches("), text.index("def check_fits(")
    batches.write_text(
        f"{batches.read_text(encoding='utf-8')}\n\nfrom torch import Generator\n\n{text[start:end]}"
    )
    loop.write_text(text[:start] + text[end:], encoding="utf-8")
    edit(loop, "    evaluation_mode,\n", "    evaluation_mode,\n    minibatches,\n")
    (rooms / "networks.py").rename(rooms / "nets.py")
    for path in (copy / "hw3utils").rglob("*.py"):
        words = path.read_text(encoding="utf-8").replace("networks.build", "nets.build")
        path.write_text(re.sub(r"(training import .*)\bnetworks", r"\1nets", words))
    assert digests(copy) == before


def test_a_function_that_is_not_marked_is_refused():
    with pytest.raises(ValueError, match="mark it with @task"):
        sweeps.task_key(lambda number: {"number": number}, (1,))
    assert len(fingerprints.code_digest((sweeps.fit_one,))) == 64


TWO_SEEDS = """
    import json, os, sys
    from pathlib import Path
    from made_up import make_images
    from hw3utils.data.images import Scale
    from hw3utils.training import sweeps
    from hw3utils.training.runs import Run
    from hw3utils.training.schedules import Constant

    def loss(seed):
        run = Run("lenet5", Constant(0.01), epochs=1, batch_size=32, seed=seed)
        (result,) = sweeps.fit_all([run], make_images(64, seed=1), make_images(20, seed=2),
                                   Scale((0.5,), (0.5,)), cache_dir=Path("cache"))
        return result.final["train_loss"]

    losses = [loss(0)]
    if EDIT:
        batches = Path("hw3utils/training/batches.py")
        text = batches.read_text(encoding="utf-8")
        assert "(loss / len(batch)).backward()" in text
        batches.write_text(text.replace("(loss / len", "(0.5 * loss / len"), encoding="utf-8")
    print(json.dumps(losses + [loss(1)]))
"""


def test_an_edit_while_a_notebook_is_open_never_stores_old_results_under_the_new_key(copy):
    """One worker computes in this process, by the code that it has imported."""
    program = textwrap.dedent(TWO_SEEDS)
    opened = json.loads(python(copy, program.replace("EDIT", "True"), HW3_JOBS="1").stdout)
    restarted = json.loads(python(copy, program.replace("EDIT", "False"), HW3_JOBS="1").stdout)
    assert restarted[0] != opened[0] and restarted[1] != opened[1]
    assert len(list((copy / "cache").glob("*.pt"))) == 4


def test_workers_with_newer_code_than_the_notebook_refuse_to_work(copy):
    """Several workers import the code afresh: what they compute would get the wrong key."""
    program = textwrap.dedent(TWO_SEEDS).replace("losses = [loss(0)]", "losses = []")
    done = python(copy, program.replace("EDIT", "True"), check=False, HW3_JOBS="2")
    assert "another version of hw3utils" in done.stderr and "Restart" not in done.stdout
    assert not list((copy / "cache").glob("*.pt"))
