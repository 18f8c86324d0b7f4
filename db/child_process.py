"""Child processes that end with this one, and how to end them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# A program of its own for 15 ms: Python code between fork and exec would not be safe beside other threads.
# The order matters: setuid clears the death signal; a background job of a shell ignores SIGINT and SIGQUIT,
# as postgres then would until it has handlers; a parent that died before prctl sends nothing. SIGQUIT makes
# postgres stop at once and recover at the next start; SIGINT would mean a checkpoint that nobody waits for.
LAUNCHER = """
import ctypes, os, signal, sys
parent, uid, gid, death_signal = map(int, sys.argv[1:5])
os.umask(0o077)
if os.geteuid() == 0 and uid != 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
if os.getppid() == parent:
    os.execv(sys.argv[5], sys.argv[5:])
"""


def bound_to_parent(
    command: Sequence[str | Path], death_signal: signal.Signals, *, user: tuple[int, int] | None = None
) -> list[str]:
    """The command line by which `command` runs as a child that gets `death_signal` when this process ends.

    Start it from the main thread: Linux sends the signal when the thread ends; other systems send none. `user`
    is the user and the group that it runs as, if this process is root's.
    """
    uid, gid = user or (os.getuid(), os.getgid())
    identity = map(str, (os.getpid(), uid, gid, int(death_signal)))
    return [sys.executable, "-ISc", LAUNCHER, *identity, *map(str, command)]


def end(send: Callable[[int], None], is_gone: Callable[[], bool]) -> None:
    """Fast shutdown, then immediate, then by force."""
    for signum, seconds in ((signal.SIGINT, 5.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 5.0)):
        if is_gone():
            return
        with suppress(ProcessLookupError):
            send(signum)
        if wait_until(is_gone, seconds):
            return


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def no_signals() -> Iterator[None]:
    """So that no exception of a signal handler comes between a deed and the note of how to undo it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def command_line(pid: int) -> str:
    """Empty when the process is gone, or is only waiting to be reaped."""
    if Path("/proc/self").exists():
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout
