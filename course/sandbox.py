"""Running submissions, which are hostile code: bubblewrap, limits, and a fork for each check.

One sandbox for a submission: no network, nothing writable, an empty environment, no rights. Inside,
`warden` imports torch once, forks for each request, and is the only process that holds the pipe to
the outside. A fork can write what it likes: what is right is known outside alone. What all of its
processes hold together is watched from outside, where nobody can stop the watch.
"""

import contextlib
import json
import math
import os
import resource
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from course import tasks, warden
from hw3utils.checking.running import plain

START = 300.0  # seconds for torch to be imported; four on a quiet machine
TOGETHER = 3 * 2**30  # bytes that all processes of a sandbox may hold
LOOK = 0.1  # seconds between two looks at them
NOBODY = 65534


class NoSandboxError(RuntimeError):
    """bubblewrap is not there or does not work here; the message says what it said."""


class GraderError(RuntimeError):
    """The grader is at fault, not a submission: nothing was judged."""


@contextlib.contextmanager
def package_copy(package: Path, editions: Mapping[str, str]) -> Iterator[Path]:
    """Yield a folder with the students' edition of the package and the warden, for all to read.

    What a grading that was killed has left of its own is removed.
    """
    for left in Path(tempfile.gettempdir()).glob("hw3-grading-*-*"):
        pid = left.name.split("-")[2]
        if Path("/proc/self").exists() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"hw3-grading-{os.getpid()}-") as folder:
        inside = Path(folder) / "code"
        ignored = shutil.ignore_patterns("__pycache__", *tasks.DROPPED)
        shutil.copytree(package, inside / "hw3utils", ignore=ignored)
        for file, text in editions.items():
            (inside / "hw3utils" / file).write_text(text, encoding="utf-8")
        shutil.copy(Path(__file__).with_name("warden.py"), inside / "warden.py")
        Path(folder).chmod(0o755)
        for path in [inside, *inside.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield inside


def command(code: Path) -> list[str]:
    """Return the command line that starts the warden in a sandbox."""
    places = {"/usr", "/lib", "/lib64", "/etc/ld.so.cache", sys.prefix, sys.base_prefix}
    places |= {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    roots = sorted(place for place in places if _open_to_all(Path(place)))
    binds = [word for root in roots for word in ("--ro-bind", root, root)]
    for place in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        installed = Path(place, "hw3utils")  # by pip, and not editable: the solution
        if installed.is_dir():
            binds += ["--tmpfs", str(installed), "--remount-ro", str(installed)]
    variables = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "HW3_HOME": "/code"}
    return [
        shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--disable-userns",
        "--die-with-parent", "--new-session", "--uid", str(NOBODY), "--gid", str(NOBODY),
        "--cap-drop", "ALL", "--clearenv",
        *(word for pair in variables.items() for word in ("--setenv", *pair)),
        *binds, "--size", "1000000", "--tmpfs", "/tmp", "--ro-bind", str(code), "/code",
        "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--chdir", "/code",
        "--remount-ro", "/", sys.executable, "-I", "-B", "/code/warden.py",
    ]  # fmt: skip


def _open_to_all(place: Path) -> bool:
    """Tell whether an ordinary user can get at a place: a sandbox can show only that."""
    return place.exists() and all(p.stat().st_mode & 1 for p in place.resolve().parents)


class Sandbox(contextlib.AbstractContextManager):
    """One submission's sandbox, started when it is first asked, and again after it was killed.

    Code that is ``trusted`` runs without one.
    """

    def __init__(self, code: Path, trusted: bool = False) -> None:
        bare = [sys.executable, "-B", str(code / "warden.py")]
        self.words = bare if trusted else command(code)
        self.trusted = trusted
        self.process: subprocess.Popen | None = None
        self.mapped = math.inf  # bytes, by the warden at rest

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Return the plain data that a request gives; an error in words is data as well.

        Raises a GraderError where the sandbox does not start.
        """
        if self.process is None:
            self._start()
        seconds = float(request["seconds"])
        try:
            self.process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(2 * seconds + 10)
        except (OSError, EOFError):
            self.close()
            return warden.failed("the check's parent process was killed")
        except MemoryError:
            self.close()
            return warden.failed(f"more than {TOGETHER / 2**30:g} GiB of memory in all processes")
        if line is None:
            self.close()
            return warden.failed(f"no answer within {seconds:.0f} seconds")
        try:
            return plain(json.loads(line))
        except (ValueError, RecursionError):
            return warden.failed("what came back is not readable")

    def _start(self) -> None:
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        options = as_nobody if os.getuid() == 0 and not self.trusted else {}
        self.process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"HW3_HOME": str(Path(self.words[-1]).parent)} if self.trusted else {},
            cwd="/", start_new_session=True, preexec_fn=_limit, **options,
        )  # fmt: skip
        try:
            ready = self._line(START)
        except EOFError:
            ready = b""
        if not (ready or b"").startswith(b"ready "):
            self.process.kill()
            said = self.process.stderr.read().decode(errors="replace").strip()[-600:]
            self.close()
            late = f"not ready after {START:.0f} seconds; " if ready is None else ""
            raise GraderError(f"the sandbox did not start: {late}{said or 'it said nothing'}")
        self.mapped = int(ready.split()[1])

    def _line(self, seconds: float) -> bytes | None:
        """Return the next line from the warden, None after so many seconds.

        Raises an EOFError where it has ended, a MemoryError where the sandbox holds too much.
        """
        end, got = time.monotonic() + seconds, b""
        while not got.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0:
                return None
            if held(self.process.pid, self.mapped) > TOGETHER:
                raise MemoryError
            if not select.select([self.process.stdout], [], [], min(left, LOOK))[0]:
                continue
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part or len(got) > 2 * warden.LARGEST:
                raise EOFError
            got += part
        return got.rstrip(b"\n")

    def close(self) -> None:
        """End the sandbox and with it every process in it."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
            self.process.wait()
            self.process = None

    def __exit__(self, *_: object) -> None:
        self.close()


def held(pid: int, mapped: float) -> float:
    """Return the bytes that a process, and all that it has started, may hold (Linux only).

    Of each it is what it has mapped beyond ``mapped``, or what of its own is in memory, whichever
    is more: the one counts what it shares and touches no more, the other what it has changed of its
    parent's. Pages that parent and child still share count for each.
    """
    total = 0.0
    with contextlib.suppress(OSError):  # it may end meanwhile
        words = Path(f"/proc/{pid}/statm").read_text().split()
        size, resident, shared = (int(word) * resource.getpagesize() for word in words[:3])
        total += max(size - mapped, resident - shared)
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += sum(held(int(child), mapped)
                         for child in (thread / "children").read_text().split())  # fmt: skip
    return total


def _limit() -> None:
    """Limit what a sandbox and all in it may use, before it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def check_works(code: Path) -> None:
    """Raise a NoSandboxError unless a warden can be shut in here; it does not import torch."""
    if shutil.which("bwrap") is None:
        raise NoSandboxError("bwrap is not installed (apt-get install bubblewrap)")
    try:
        with Sandbox(code) as sandbox:
            sandbox.words.append(warden.PROBE)
            sandbox._start()
    except (GraderError, OSError, subprocess.SubprocessError) as error:
        raise NoSandboxError(str(error)) from error
