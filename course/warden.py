"""The first process in a sandbox: reads requests, forks for each, passes on what the fork wrote.

Runs as a script beside the students' edition of the package. Nothing of a submission is ever
loaded into this process: its files arrive as text and are read in the fork.
"""

import ctypes
import importlib
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
from pathlib import Path

LARGEST = 2 * 2**20  # bytes of a result
PROCESSES = 64  # of one sandbox, its threads too
PR_SET_DUMPABLE, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 4, 22, 2
SHMGET = {"x86_64": (0xC000003E, 29), "aarch64": (0xC00000B7, 194)}  # architecture, system call
WARDEN = os.getpid()
PROBE = "--probe"  # say whether a sandbox works, and end


def main() -> None:
    """Answer requests, one JSON line each, until there are no more."""
    sys.path.insert(0, str(Path(__file__).parent))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    if sys.argv[1:] == [PROBE]:
        shut_in()
        os.write(answers, b"ready 0\n")
        return
    import torch
    import torch._dynamo  # noqa: F401 - slow, and any optimizer asks for it: once, not in each fork

    from hw3utils.checking import places, probes  # noqa: F401
    from hw3utils.checking.running import TASKS

    for function in [name for task in TASKS.values() for name in task.functions]:
        importlib.import_module(places.module_name(places.find(places.PACKAGE, function)))
    torch.set_num_threads(1)
    shut_in()
    os.write(answers, f"ready {mapped()}\n".encode())
    os.dup2(nothing, 2)
    for line in requests:
        request = json.loads(line)
        whole = fork(request, (requests.fileno(), answers)).replace(b"\n", b" ")
        sent = memoryview(whole + b"\n")
        while sent:
            sent = sent[os.write(answers, sent) :]


def shut_in() -> None:
    """Take from this process, and from all that it starts, what a submission must not have."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # first to go when memory is short
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # no other process may look in, or at its pipes
    if alone():
        refuse_segments()


def fork(request: dict, pipes: tuple[int, ...]) -> bytes:
    """Return what a fork writes before its time is over; then nothing of it is left alive."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for pipe in (*pipes, readable):
                os.close(pipe)
            check(request, writable)
        finally:
            os._exit(0)
    os.close(writable)
    got, over = b"", False
    end = time.monotonic() + request["seconds"]
    while not over and len(got) <= LARGEST:
        left = end - time.monotonic()
        if left <= 0 or not select.select([readable], [], [], left)[0]:
            got = _words(f"not finished after {request['seconds']:.0f} seconds (an endless loop?)")
            break
        part = os.read(readable, 1 << 16)
        got, over = got + part, not part
    os.close(readable)
    kill_all(child)
    if len(got) > LARGEST:
        return _words("the result is too large")
    return got or _words("the process ended without a result (too much memory?)")


def alone() -> bool:
    """Tell whether this is a sandbox: then the warden is process 2 there, behind its init."""
    return WARDEN <= 2


def mapped() -> int:
    """Return the bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def refuse_segments() -> None:
    """Refuse System V's shared memory from now on: it belongs to no process, so nobody counts it.

    By seccomp, in its language of (code, jump if so, jump if not, operand): load the architecture,
    then the number of the call; allow all but the one call, and calls by other ways.
    """
    if platform.machine() not in SHMGET:
        return
    architecture, shmget = SHMGET[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allowed, not_permitted = 0x7FFF0000, 0x00050001
    steps = [
        (load, 0, 0, 4), (equal, 0, 4, architecture), (load, 0, 0, 0), (at_least, 2, 0, 1 << 30),
        (equal, 1, 0, shmget), (answer, 0, 0, allowed), (answer, 0, 0, not_permitted),
    ]  # fmt: skip
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    whole = struct.pack("HP", len(steps), ctypes.addressof(program))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(whole), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp does not work")


def kill_all(child: int) -> None:
    """Kill whatever a check has started: in a process namespace of its own, everything else."""
    for _ in range(50):
        try:
            os.kill(-1 if alone() else child, signal.SIGKILL)
            if not alone():
                os.waitpid(child, 0)
                return
            time.sleep(0.01)
        except (ProcessLookupError, ChildProcessError):
            break
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def check(request: dict, writable: int) -> None:
    """Run a request in this process, and write its result as JSON."""
    from hw3utils.checking.running import answer

    most = mapped() + request["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cpu = int(request["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    if alone():  # inside its own user namespace each sandbox counts for itself (Linux 5.14)
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    text = memoryview(json.dumps(answer(request)).encode())
    while text:
        text = text[os.write(writable, text) :]


def failed(words: str) -> dict:
    """Return what a task gives that could not be run at all."""
    return {"preparation": {"error": words}}


def _words(error: str) -> bytes:
    return json.dumps(failed(error)).encode()


if __name__ == "__main__":
    main()
