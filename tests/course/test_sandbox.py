"""Submissions that attack the grader: none scores, nothing outside changes, the next is graded."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from course import grading, sandbox

OWN = 2  # processes of a sandbox at rest: its init, and the warden
FUNCTION = "problem1:candidate_learning_rates"
HEAD = "def candidate_learning_rates(lowest=1e-9, highest=10.0, n=10):\n"
ATTACKS = {
    "an endless loop": "while True: pass",
    "a fork bomb": "import os\nwhile True: os.fork()",
    "6 GB": "return bytearray(6 * 2**30)",
    "many threads": "import threading, time\nfor _ in range(999):\n"
    "    threading.Thread(target=time.sleep, args=(99,)).start()",
    "the network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), timeout=2)",
    "reading the solution": "import inspect, hw3utils.problem1.experiments as e\n"
    "return eval(inspect.getsource(e.candidate_learning_rates).split('return')[1])",
    "reading the model's folder": "return open(MODEL).read()",
    "writing outside": "open(TARGET, 'w').write('x')",
    "filling the disk": "for i in range(10_000): open(f'/tmp/{i}', 'wb').write(b'x' * 90_000)",
    "killing the parent": "import os\nos.kill(os.getppid(), 9)",
    "killing everything": "import os\nos.kill(-1, 9)",
    "stopping the parent": "import os\nos.kill(os.getppid(), 19)",
    "the parent's pipe": "import os\nfor fd in range(20):\n"
    "    open(f'/proc/{os.getppid()}/fd/{fd}', 'wb').write(b'{}\\n')",
    "every descriptor": "import os\nfor fd in range(99):\n    try: os.write(fd, b'{}\\n')\n"
    "    except OSError: pass",
    "patching json": "import json\njson.dumps = lambda *a, **k: '{\"points\": 1}'",
    "patching the judge": "import hw3utils.checking.judging as j\n"
    "j.judge = j.same = j.agrees = lambda *a, **k: True",
    "__eq__ is always true": "class Yes(list):\n    def __eq__(self, other): return True\n"
    "    def tolist(self): return self\n    __hash__ = None\nreturn Yes()",
    "leaving": "import os\nos._exit(0)",
    "an endless result": "class Long(list):\n    def __iter__(self):\n        while True: yield 1\n"
    "return Long([1])",
    "nested deeply": "x = []\nfor _ in range(100_000): x = [x]\nreturn x",
    "a child that stays": "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
    "    time.sleep(600)",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_scores_nothing_and_the_next_check_is_right(hidden, box, tmp_path, name):
    target = tmp_path / "written"
    tmp_path.chmod(0o777)
    body = ATTACKS[name].replace("TARGET", repr(str(target))).replace("PORT", "22")
    body = body.replace("MODEL", repr(str(Path(grading.__file__))))
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    request = hidden.request("1.1 rates", {hidden.files[FUNCTION]: text}) | {"seconds": 3.0}
    verdict = hidden.verdict("1.1 rates", box.ask(request))
    assert verdict.share == 0
    assert verdict.messages
    assert not target.exists()
    right = hidden.verdict("1.1 rates", box.ask(hidden.request("1.1 rates", hidden.models)))
    assert right.passed, right.messages
    assert settled(lambda: len(descendants(box.process.pid)) <= OWN)
    inside = descendants(box.process.pid)
    if name == list(ATTACKS)[-1]:
        box.close()
        assert settled(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside))


def test_a_fork_bomb_costs_the_submission_beside_it_nothing(hidden, code, box):
    bomb = HEAD + "    import os\n    while True: os.fork()\n"
    request = hidden.request("1.1 rates", {hidden.files[FUNCTION]: bomb}) | {"seconds": 5.0}
    right = hidden.request("1.1 rates", hidden.models)
    box.ask(right)  # started here: bubblewrap dies with the thread that started it
    with sandbox.Sandbox(code) as other, ThreadPoolExecutor(1) as beside:
        other.ask(right)
        bombed = beside.submit(box.ask, request)
        asked = 0
        while not (asked and bombed.done()):
            found = hidden.verdict("1.1 rates", other.ask(right))
            assert found.passed, found.messages
            asked += 1
    assert hidden.verdict("1.1 rates", bombed.result()).share == 0


def settled(condition):
    """Tell whether something becomes true, with some patience."""
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.1)
    return False


def descendants(pid):
    """Return the living processes that a process has started, and theirs."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] != "Z":
            parents[int(folder.name)] = int(words[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_inside_there_is_nothing_to_read_and_no_right_to_anything(hidden, box):
    text = HEAD + "    import os\n    return [os.getuid(), sorted(os.environ), os.listdir('/')]\n"
    found = box.ask(hidden.request("1.1 rates", {hidden.files[FUNCTION]: text}))
    user, names, places = found["the handout's ten rates"]
    assert user == sandbox.NOBODY
    assert not {"HOME", "USER", "PATH", "SSH_AUTH_SOCK"} & set(names)
    assert not {"root", "home", "etc", "var"} & (set(places) - {"etc"})


def test_no_file_of_the_sandbox_holds_a_function_that_is_asked_for(code, hidden):
    for task_file in hidden.models:
        text = (code / "hw3utils" / task_file).read_text(encoding="utf-8")
        assert text == hidden.editions[task_file]
    assert not (code / "hw3utils" / "problem1" / "answers.py").exists()


def test_a_package_that_pip_has_installed_is_not_shown(code, tmp_path, monkeypatch):
    (tmp_path / "hw3utils").mkdir()
    monkeypatch.setattr(sandbox.sysconfig, "get_path", lambda name: str(tmp_path))
    words = sandbox.command(code)
    shown, hidden = (words.index(flag) for flag in ("--ro-bind", "--tmpfs"))
    assert words[hidden + 1] == str(tmp_path / "hw3utils") and hidden > shown


def test_without_a_sandbox_nothing_is_graded(monkeypatch, tmp_path, code):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(sandbox.NoSandboxError, match="bubblewrap"):
        sandbox.check_works(code)


def test_a_fault_of_the_grader_is_no_score(hidden, code):
    box = sandbox.Sandbox(code)
    box.words = ["/bin/sh", "-c", "echo out of order >&2; exit 1"]
    with pytest.raises(sandbox.GraderError, match="out of order"):
        box.ask(hidden.request("1.1 rates", hidden.models))


@pytest.mark.skipif(os.name == "nt", reason="no processes to count")
def test_trusted_code_runs_without_a_sandbox(hidden, code):
    with sandbox.Sandbox(code, trusted=True) as box:
        found = box.ask(hidden.request("2.5 nms", hidden.models))
    assert hidden.verdict("2.5 nms", found).passed
