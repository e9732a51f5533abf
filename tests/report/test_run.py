"""The command line and papermill, on small notebooks made here."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from jupyter_client.provisioning import LocalProvisioner
from nbformat.v4 import new_code_cell, new_notebook, new_output

from hw3utils import __main__, paths
from hw3utils.report import notebooks, summary
from hw3utils.settings import Problem1


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with one small notebook; data are not asked for."""
    monkeypatch.setenv("HW3_HOME", str(tmp_path))
    monkeypatch.delenv("HW3_OUTPUT", raising=False)
    monkeypatch.setattr(__main__, "_fetch_fashion_mnist", lambda: None)
    monkeypatch.setenv("HW3_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(__main__, "_write_report", lambda output, code: [output / "report.html"])
    monkeypatch.setattr(summary, "lines", lambda found: [f"1.1  n is {found['problem1']}"])
    parameters = new_code_cell("profile = None  # the size\nn = 2  # how many")
    parameters.metadata["tags"] = ["parameters"]
    work = new_code_cell(
        "import os, sys\nfrom pathlib import Path\n"
        "print('working', file=sys.stderr)\n"
        "out = Path(os.environ['HW3_OUTPUT'])\n"
        "for folder in ('figures', 'answers/results'):\n"
        "    (out / folder).mkdir(parents=True, exist_ok=True)\n"
        'name = "problem1_new"\n'
        "(out / 'figures' / f'{name}.png').write_bytes(b'png')\n"
        'record = \'{"n": %d, "profile": "%s"}\' % (n, profile)\n'
        "(out / 'answers' / 'results' / \"problem1.json\").write_text(record)\n"
        "print(profile, 10 // n)"
    )
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = new_notebook(cells=[parameters, work])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, folder / "problem1.ipynb")
    return tmp_path


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    return [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]


def test_a_run_writes_notebook_html_figures_and_results(project, capsys):
    assert __main__.main(["run", "problem1", "--profile", "smoke", "-p", "n=5"]) == 0
    output = project / "output" / "smoke-changed"
    assert outputs(output / "problem1.ipynb") == ["smoke 2\n"]
    assert "smoke 2" in (output / "problem1.html").read_text(encoding="utf-8")
    assert (output / "answers" / "results" / "problem1.json").read_text().startswith('{"n": 5,')
    told = capsys.readouterr().out
    assert told.index("problem1: no forecast") < told.index("Profile smoke: a quick try")
    assert told.index("numbers mean nothing") < told.index("1.1  n is {'n': 5")
    assert told.index("1.1  n is {'n': 5") < told.index(str(output))
    assert "HW3_OUTPUT" not in os.environ


def test_what_was_executed_is_left_as_it_is_until_something_changes(project, capsys):
    def run(*words):
        assert __main__.main(["run", "--profile", "smoke", *words]) == 0
        executed = nbformat.read(project / "output" / "smoke" / "problem1.ipynb", as_version=4)
        return executed.metadata.papermill.start_time, capsys.readouterr().out

    first, _ = run()
    second, told = run()
    assert second == first and "executed already" in told and "Nothing was executed" in told
    (project / "output" / "smoke" / "figures" / "problem1_new.png").write_bytes(b"altered")
    third, _ = run()
    assert third != first
    place = project / "notebooks" / "problem1.ipynb"
    place.write_text(place.read_text(encoding="utf-8").replace("the size", "its size"))
    fourth, told = run()
    assert fourth != third and "executed already" not in told
    assert run("--output", str(project / "output" / "elsewhere"))[0] == fourth
    assert "executed already" not in run()[1], "only what the last run wrote is known"


def test_the_output_folder_can_be_chosen_and_the_notebook_stays_as_it_was(project, tmp_path):
    before = (project / "notebooks" / "problem1.ipynb").read_bytes()
    target = tmp_path / "elsewhere" / "deep"
    assert __main__.main(["run", "--profile", "smoke", "--output", str(target)]) == 0
    assert (target / "problem1.html").is_file()
    assert (project / "notebooks" / "problem1.ipynb").read_bytes() == before


def test_a_failing_cell_gives_status_1_names_the_cell_and_keeps_the_notebook(project, capsys):
    assert __main__.main(["run", "--profile", "smoke", "-p", "n=0"]) == 1
    message = capsys.readouterr().err
    assert "problem1: cell" in message and "ZeroDivisionError" in message
    partial = nbformat.read(project / "output" / "smoke-changed" / "problem1.ipynb", as_version=4)
    assert any(
        output["output_type"] == "error"
        for cell in partial.cells
        for output in cell.get("outputs", [])
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "problem9"], "unknown problem problem9: choose from problem1"),
        (
            ["run", "--profile", "huge"],
            "unknown profile 'huge': choose one of smoke, laptop, overnight, full",
        ),
        (["run", "-p", "m=3"], "problem1 has no parameter m: choose from n, profile"),
        (["run", "-p", "profile=full"], "--profile"),
        (["run", "-p", "n"], "NAME=VALUE expected"),
        (["run", "-p", "__import__('os')=1"], "NAME=VALUE expected"),
        (["publish"], "holds no executed problem1"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_allowed(project, capsys, arguments, words):
    assert __main__.main(arguments) == 2
    assert words in capsys.readouterr().err
    assert not (project / "output").exists(), "something was started all the same"


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"HW3_JOBS": "two"}, [], "HW3_JOBS='two': must be a whole number of at least 1"),
        ({"HW3_JOBS": "0"}, [], "HW3_JOBS='0'"),
        ({}, ["-p", "dataset=cifar11"], "unknown dataset 'cifar11': choose from cifar10"),
        ({}, ["-p", "weights=DEFAULT"], "unknown weights DEFAULT: choose from IMAGENET1K_V1"),
        ({}, ["-p", "image_size=16"], "32"),
        ({}, ["-p", "seeds=0"], "seeds=0: must be greater than 0"),
        ({}, ["--output", "FILE"], "is a file, a folder is needed"),
        ({}, ["--output", "FILE/below"], "is a file, a folder is needed"),
    ],
)
def test_what_a_cell_would_refuse_minutes_later_is_refused_at_once(
    monkeypatch, capsys, tmp_path, variables, arguments, words
):
    """On the real notebook of Problem 3; nothing is fetched, and nothing started."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").touch()
    arguments = [word.replace("FILE", str(tmp_path / "file")) for word in arguments]
    monkeypatch.setattr(__main__, "_run", lambda asked: pytest.fail("it was started"))
    monkeypatch.setattr(__main__.forecast, "forecast", lambda *_: pytest.fail("it was started"))
    assert __main__.main(["run", "problem3", "--profile", "smoke", *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def test_a_notebook_refuses_a_wrong_number_of_jobs_in_its_settings_cell(monkeypatch):
    monkeypatch.setenv("HW3_JOBS", "-1")
    with pytest.raises(ValueError, match="HW3_JOBS='-1'"):
        Problem1.for_profile("smoke")


def test_a_reader_that_has_gone_ends_the_run_in_one_line(project, monkeypatch, capsys):
    def gone():
        raise BrokenPipeError(32, "Broken pipe")

    given_up = []
    monkeypatch.setattr(__main__, "_fetch_fashion_mnist", gone)
    monkeypatch.setattr(__main__.terminal, "give_up_output", lambda: given_up.append(True))
    assert __main__.main(["run", "--profile", "smoke"]) == 141
    told = capsys.readouterr().err
    assert "nobody reads" in told and told.count("\n") == 1 and given_up


def test_no_kernel_is_interrupted_that_nobody_interrupted(project, monkeypatch):
    """An idle kernel reports it: "[IPKernelApp] ERROR | KeyboardInterrupt caught in kernel."."""
    sent = []

    async def send_signal(self, signum):
        sent.append(signum)
        await real(self, signum)

    real = LocalProvisioner.send_signal
    monkeypatch.setattr(LocalProvisioner, "send_signal", send_signal)
    assert __main__.main(["run", "problem1", "--profile", "smoke"]) == 0
    assert signal.SIGINT not in sent


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_workers_train_is_told_in_one_line_and_ends_them(project):
    started = project / "started"
    path = project / "notebooks" / "problem1.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = (
        "import joblib, time\nfrom pathlib import Path\n"
        "def work():\n"
        f"    Path({str(started)!r}).touch()\n"
        "    time.sleep(60)\n"
        "joblib.Parallel(2)(joblib.delayed(work)() for _ in range(4))"
    )
    nbformat.write(notebook, path)
    program = (
        "import signal, sys\nfrom hw3utils import __main__\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "__main__._fetch_fashion_mnist = lambda: None\n"
        "sys.exit(__main__.main(['run', 'problem1', '--profile', 'smoke']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.1)
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    lines = [re.sub(r"^problem1:.*]", "", line) for line in said.replace("\r", "\n").splitlines()]
    told = [line for line in lines if line.strip()]
    assert len(told) == 1, said
    assert told[0].startswith("hw3utils: interrupted; finished runs are kept")
    assert process.returncode == 130
    assert len(below) >= 3 and not psutil.wait_procs(below, timeout=60)[1]


def test_a_value_that_looks_like_code_stays_a_string():
    assert __main__._parameter("name=__import__('os').getcwd()") == (
        "name",
        "__import__('os').getcwd()",
    )
    assert __main__._parameter("n=3") == ("n", 3)
    assert __main__._parameter("rates=[0.1, 1]") == ("rates", [0.1, 1])


def test_cleaning_keeps_the_results_and_drops_what_the_run_left():
    cell = new_code_cell("x", execution_count=7)
    cell.metadata = {"tags": ["nbval-check-output"], "papermill": {"duration": 1}}
    cell.outputs = [
        new_output("stream", name="stderr", text="100%|████| 3/3"),
        new_output("stream", name="stdout", text="61,706"),
    ]
    injected = new_code_cell("n = 5")
    injected.metadata = {"tags": ["injected-parameters"]}
    notebook = new_notebook(cells=[injected, cell])
    notebook.metadata = {"widgets": {}, "papermill": {}, "language_info": {"version": "3.11"}}
    cleaned = notebooks.clean(notebook)
    (kept,) = cleaned.cells
    assert [output["text"] for output in kept.outputs] == ["61,706"]
    assert kept.metadata == {"tags": ["nbval-check-output"]}
    assert kept.execution_count == 1
    assert not {"widgets", "papermill"} & set(cleaned.metadata)
    assert "papermill" in notebook.metadata, "the notebook given was changed"


def test_publishing_replaces_notebook_figures_and_results(project, capsys):
    for folder in ("figures", "answers/results"):
        (project / folder).mkdir(parents=True)
    (project / "figures" / "problem1_old.png").write_bytes(b"old")
    (project / "figures" / "problem2_kept.png").write_bytes(b"kept")
    assert __main__.main(["run", "--profile", "laptop"]) == 0
    assert __main__.main(["publish"]) == 0
    assert sorted(path.name for path in (project / "figures").iterdir()) == [
        "problem1_new.png",
        "problem2_kept.png",
    ]
    assert (project / "answers" / "results" / "problem1.json").read_text().startswith('{"n": 2,')
    committed = project / "notebooks" / "problem1.ipynb"
    assert outputs(committed) == ["laptop 5\n"]
    assert "papermill" not in json.loads(committed.read_text(encoding="utf-8"))["metadata"]


def test_no_network_and_no_data_is_one_error_that_lists_what_was_tried(tmp_path):
    """A real process whose torchvision, apt and installed files all fail."""
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('network is unreachable')\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
        "from hw3utils import __main__\n"
        "sys.exit(__main__.main(['data']))\n"
    )
    environment = os.environ | {"HW3_DATA": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    for words in (
        "1. already in", "2. torchvision's download", "3. installed package", "4. apt-get download",
        "apt-get is not installed", "Put these files by hand into", "train-images-idx3-ubyte",
    ):  # fmt: skip
        assert words in done.stderr, f"{words!r} is missing from:\n{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["nbformat", "papermill"])
def test_without_the_packages_that_run_notebooks_one_line_says_what_brings_them(missing):
    program = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from hw3utils import __main__\n"
        "sys.exit(__main__.main(['run', 'problem2', '--profile', 'smoke']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{missing} is not installed" in done.stderr and "pip install -e '.[run]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_data_command_verifies_the_real_files(capsys):
    assert __main__.main(["data"]) == 0
    assert str(paths.data_dir()) in capsys.readouterr().out
