"""run.py on odd terminals and under Ctrl-C, with a stand-in for the child that does the work."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hw3utils import paths

RUN = paths.project_root() / "run.py"
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and pipes")


def program(folder, child="", failing_venv=False):
    """Return the command of a run.py whose ``.venv`` runs ``child`` whatever it is asked for."""
    stand_in = folder / "python"
    stand_in.write_text(f"#!{sys.executable}\n{textwrap.dedent(child)}")
    stand_in.chmod(0o755)
    made = "" if failing_venv else "run.make_environment = lambda: None"
    text = f"""
        import importlib.util, signal, sys
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
        spec = importlib.util.spec_from_file_location("run", {str(RUN)!r})
        run = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(run)
        def refuse(**_): raise OSError("no venv can be made here")
        run.venv.EnvBuilder = refuse
        run.PYTHON, run.ENVIRONMENT = Path({str(stand_in)!r}), Path({str(folder / "none")!r})
        if {failing_venv}: run.PYTHON = Path({str(folder / "none")!r})
        {made}
        sys.argv[1:] = []
        sys.exit(run.main())
    """
    return [sys.executable, "-c", textwrap.dedent(text)]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_can_show_the_first_words(tmp_path, encoding):
    done = subprocess.run(
        program(tmp_path, failing_venv=True), capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.stdout.startswith(b"Making .venv ")
    assert done.stderr.decode(encoding) == "run.py: no venv can be made here\n"
    assert done.returncode == 1


@posix
@pytest.mark.parametrize("status", [0, 1])
def test_in_a_terminal_one_line_follows_pip(tmp_path, status):
    """Elsewhere nothing is written; a pip that fails is told as a command that failed."""
    child = f"""
        import sys
        if "pip" in sys.argv:
            print("Collecting torch==2.14.1", "  Downloading it", "Installing them", sep="\\n")
            sys.exit({status})
    """
    call = program(tmp_path, child)
    call[-1] = call[-1].replace("lambda: None", "lambda: run._install('packages')")
    behind_pipe = subprocess.run(call, capture_output=True, text=True)
    assert "Collecting" not in behind_pipe.stdout
    assert behind_pipe.returncode == status
    assert ("install --progress-bar=off packages failed" in behind_pipe.stderr) == bool(status)
    call[-1] = call[-1].replace("spec.loader", "sys.stdout.isatty = lambda: True\nspec.loader")
    shown = subprocess.run(call, capture_output=True, text=True).stdout
    lines = [line.strip() for line in shown.replace("\n", "\r").split("\r") if line.strip()]
    assert lines[:3] == ["Collecting torch==2.14.1", "Downloading it", "Installing them"]


@posix
def test_ctrl_c_lets_the_child_say_what_is_kept(tmp_path):
    """Also where that takes longer than the quarter of a second that subprocess.run allows."""
    command = program(
        tmp_path,
        f"""
        import sys, time
        from pathlib import Path
        try:
            Path({str(tmp_path / "started")!r}).touch()
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(1)
            sys.exit(print("what was finished is kept", file=sys.stderr) or 130)
        """,
    )
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everyone in the foreground
    _, said = process.communicate(timeout=60)
    assert said == "what was finished is kept\n"
    assert process.returncode == 130


@posix
def test_ctrl_c_waits_for_pip_to_tidy_up(tmp_path):
    """Otherwise the next command might install into the same folder beside it."""
    child = f"""
        import time
        from pathlib import Path
        try:
            Path({str(tmp_path / "started")!r}).touch()
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(1)
            Path({str(tmp_path / "tidy")!r}).touch()
    """
    command = program(tmp_path, child)
    command[-1] = command[-1].replace("lambda: None", "lambda: run._install('packages')")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (tmp_path / "tidy").exists()
    assert said == "\nrun.py: interrupted; the same command goes on from there\n"
    assert process.returncode == 130


@posix
def test_a_child_that_does_not_end_is_ended_by_a_second_ctrl_c(tmp_path):
    command = program(
        tmp_path,
        f"""
        import signal, time
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Path({str(tmp_path / "started")!r}).touch()
        time.sleep(60)
        """,
    )
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(2)
    _, said = process.communicate(timeout=60)
    assert said == "\nrun.py: interrupted; the same command goes on from there\n"
    assert process.returncode == 130


@posix
def test_a_reader_that_has_gone_is_no_error_of_this_programs(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        program(tmp_path, failing_venv=True), stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "1.3  −0.9 ± 0.1, 64×64 … ☃"),
        ("ascii", "1.3  -0.9 +/- 0.1, 64x64 ... ?"),
        ("latin-1", "1.3  -0.9 ± 0.1, 64×64 ... ?"),
    ],
)
def test_answers_are_written_in_the_characters_that_a_terminal_has(encoding, shown):
    words = "1.3  \\u22120.9 \\xb1 0.1, 64\\xd764 \\u2026 \\u2603"
    text = f"from hw3utils.report import terminal; terminal.prepare(); print('{words}')"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, check=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.stdout.decode(encoding) == f"{shown}\n".replace("\n", os.linesep)


def test_what_is_printed_is_seen_at_once_through_a_pipe():
    """`run.py | tee log` would otherwise be silent until the end."""
    text = "from hw3utils.report import terminal; terminal.prepare(); print('first'); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "first\n"
    process.communicate("\n")
    assert process.returncode == 0
