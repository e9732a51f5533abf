"""Submissions that attack the grader: none scores, nothing outside changes, the next is graded."""

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from test_grading import pack

from course import __main__, grading, sandbox, tasks
from hw3utils.checking.places import PACKAGE
from hw3utils.checking.running import TASKS

PLAIN = [
    "1.1 rates", "1.1 bounds", "1.3 accumulation", "1.3 noise scale", "2.3 receptive field",
    "2.5 anchors", "2.5 iou", "2.5 nms", "3.1 head", "3.2 freeze", "4.3 top-K",
]  # fmt: skip
FUNCTION = "problem1:candidate_learning_rates"
HEAD = "def candidate_learning_rates(lowest=1e-9, highest=10.0, n=10):\n"
ATTACKS = {
    "an endless loop": "while True: pass",
    "a fork bomb": "import os\nwhile True: os.fork()",
    "6 GB": "return bytearray(6 * 2**30)",
    "eight processes of 2 GB": "import os, time\nfor _ in range(3): os.fork()\n"
    "x = b'x' * (1_900 * 2**20)\ntime.sleep(60)",
    "shared and forgotten": "import mmap, os, time\nfor _ in range(3): os.fork()\n"
    "for _ in range(1_900):\n    m = mmap.mmap(-1, 2**20)\n    m.write(b'x' * 2**20)\n"
    "    m.madvise(mmap.MADV_DONTNEED)\n    globals().setdefault('kept', []).append(m)\n"
    "time.sleep(60)",
    "segments of shared memory": "import ctypes\n"
    "if ctypes.CDLL(None).shmget(0, 2**30, 0o1600) < 0: raise OSError('refused')",
    "a user namespace of its own": "import ctypes\n"
    "if ctypes.CDLL(None).unshare(0x10000000): raise OSError('refused')",
    "many threads": "import threading, time\nfor _ in range(999):\n"
    "    threading.Thread(target=time.sleep, args=(99,)).start()",
    "the network": "import socket\nsocket.create_connection(('127.0.0.1', 22), timeout=2)",
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
    "nested by hand": "import os\nfor fd in range(64):\n"
    "    try: os.write(fd, b'{\"preparation\": ' + b'[' * 900 + b']' * 900 + b'}')\n"
    "    except OSError: pass\nos._exit(0)",
    "a text that cannot be written": "raise ValueError('\\ud800')",
    "a child that stays": "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
    "    time.sleep(600)",
}


def attack(name, functions, target):
    """Return a file whose functions attack."""
    body = ATTACKS[name].replace("TARGET", repr(str(target)))
    body = body.replace("MODEL", repr(str(Path(grading.__file__))))
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return "".join(f"def {f.split(':')[1]}(*given, **named):\n{lines}\n" for f in functions)


def state(folder):
    """Return what would tell that something below a folder was touched."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, hidden, bwrap, model_files):
    """All attacks, one a task, in submissions with right answers to the rest; and a right one."""
    folder, output, open_to_all = (tmp_path_factory.mktemp(n) for n in ("in", "out", "open"))
    open_to_all.chmod(0o777)
    places = {name: divmod(number, len(PLAIN)) for number, name in enumerate(ATTACKS)}
    for student in {student for student, _ in places.values()}:
        files = dict(model_files)
        for name, (of, task) in places.items():
            functions = TASKS[PLAIN[task]].functions
            for file in {hidden.files[f] for f in functions} if of == student else ():
                own = [f for f in functions if hidden.files[f] == file]
                files[f"hw3utils/{file}"] += "\n\n" + attack(name, own, open_to_all / name)
        pack(folder / f"{student}.zip", files)
    pack(folder / "the honest one.zip", model_files)
    close, inside = sandbox.Sandbox.close, set()

    def noted(box):
        if box.process is not None:
            inside.update(descendants(box.process.pid))
        close(box)

    package = state(PACKAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.Sandbox, "close", noted)
        for name in PLAIN:
            patch.setitem(TASKS, name, replace(TASKS[name], seconds=10.0))
        words = ["grade", str(folder), "--output", str(output), "--seed", str(hidden.seed)]
        assert __main__.main(words) == 0
    results = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["results"]
        for path in (output / "work").iterdir()
    }
    attacks = {name: results[str(student)][PLAIN[task]] for name, (student, task) in places.items()}
    outside = {"written": list(open_to_all.iterdir()), "package": state(PACKAGE) == package,
               "grades": {path.name for path in output.iterdir()}}  # fmt: skip
    return attacks, results, outside, inside


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_scores_nothing(attacked, name):
    found = attacked[0][name]
    assert found["points"] == 0 and found["messages"]


def test_memory_is_limited_for_all_processes_together(attacked):
    for name in ("eight processes of 2 GB", "shared and forgotten"):
        assert "GiB of memory in all processes" in attacked[0][name]["messages"][0]
    for name in ("segments of shared memory", "a user namespace of its own"):
        assert "OSError: refused" in attacked[0][name]["messages"][0]


def test_attacks_cost_no_other_task_and_the_next_submission_is_graded(attacked):
    _, results, _, _ = attacked
    for student, found in results.items():
        wrong = {name for name in found if found[name]["points"] < tasks.POINTS[name]}
        assert wrong <= (set() if student == "the honest one" else set(PLAIN)), student


def test_after_attacks_nothing_outside_has_changed_and_no_process_is_left(attacked):
    _, results, outside, inside = attacked
    assert outside == {"written": [], "package": True, "grades": {
        "automatic.csv", "manual.csv", "review", "seed", "work"}}  # fmt: skip
    assert len(inside) > 2 * len(results)
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
    for _ in range(600):
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
    names = {path.name for path in code.rglob("*.py")}
    assert not names & set(tasks.DROPPED) and "figures.py" in names


def test_a_package_that_pip_has_installed_is_not_shown(code, tmp_path, monkeypatch):
    (tmp_path / "hw3utils").mkdir()
    monkeypatch.setattr(sandbox.sysconfig, "get_path", lambda name: str(tmp_path))
    words = sandbox.command(code)
    shown, hidden = (words.index(flag) for flag in ("--ro-bind", "--tmpfs"))
    assert words[hidden + 1] == str(tmp_path / "hw3utils") and hidden > shown


def test_what_a_killed_grading_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f"hw3-grading-{ended.pid}-a", f"hw3-grading-{os.getpid()}-b", "else"):
        (tmp_path / name / "code").mkdir(parents=True)
    with sandbox.package_copy(PACKAGE, {}):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {f"hw3-grading-{os.getpid()}-b", "else"}


def test_without_a_sandbox_nothing_is_graded(monkeypatch, tmp_path, code):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(sandbox.NoSandboxError, match="bubblewrap"):
        sandbox.check_works(code)


@pytest.mark.parametrize(
    ("command", "words"),
    [("echo out of order >&2; exit 1", "out of order"), ("exec sleep 60", "not ready after")],
)
def test_a_fault_of_the_grader_is_no_score(hidden, code, monkeypatch, command, words):
    monkeypatch.setattr(sandbox, "START", 1.0)
    box = sandbox.Sandbox(code)
    box.words = ["/bin/sh", "-c", command]
    with pytest.raises(sandbox.GraderError, match=words):
        box.ask(hidden.request("1.1 rates", hidden.models))


@pytest.mark.skipif(os.name == "nt", reason="no processes to count")
def test_trusted_code_runs_without_a_sandbox(hidden, code):
    with sandbox.Sandbox(code, trusted=True) as box:
        found = box.ask(hidden.request("2.5 nms", hidden.models))
    assert hidden.verdict("2.5 nms", found).passed
