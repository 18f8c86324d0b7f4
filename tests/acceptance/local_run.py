"""`python main.py`: a child process, what it prints, and its descendants."""

import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.acceptance.server import PYTHON, ROOT, Api, environment, free_port, wait_until

LAST_OF_THE_BANNER = "-d '"


class LocalRun:
    """As a user starts it, in an empty directory; a context manager that leaves nothing running."""

    def __init__(self, directory: Path, *options: str, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data_dir = directory / ".data"
        self.port = int(settings.setdefault("PORT", str(free_port())))
        self.url = f"http://127.0.0.1:{self.port}"
        self.printed: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [PYTHON, str(ROOT / "main.py"), *options],
            env=environment(settings),
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.printed)

    @property
    def token(self) -> str:
        return (self.data_dir / "api-token").read_text()

    @property
    def api(self) -> Api:
        return Api(self.url, self.token)

    def wait_for(self, text: str, seconds: float = 30) -> str:
        """The next line that contains `text`."""
        deadline = time.monotonic() + seconds
        while (line := self._next_line(deadline)) is not None:
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not printed within {seconds} s: {self.output}")

    def ready(self) -> Self:
        self.wait_for(LAST_OF_THE_BANNER)
        return self

    def signal(self, signum: int) -> int:
        """Its exit code after the signal."""
        self.process.send_signal(signum)
        code = self.process.wait(30)
        self._reader.join(30)
        return code

    def descendants(self) -> set[int]:
        parents: dict[int, int] = {}
        for line in processes("pid=,ppid="):
            pid, parent = map(int, line.split())
            parents[pid] = parent
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found - {self.process.pid}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(30)
            assert self.process.stdout is not None
            self.process.stdout.close()
        assert "Traceback" not in self.output, self.output

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def _next_line(self, deadline: float) -> str | None:
        try:
            return self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None


def processes(columns: str) -> list[str]:
    command = ["ps", "-ax", "-o", columns]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def assert_gone(pids: set[int]) -> None:
    """Within 10 s, as postgres may still have to notice; what only waits to be reaped is gone."""

    def alive() -> set[int]:
        rows = [line.split() for line in processes("pid=,stat=")]
        return pids & {int(pid) for pid, state in rows if not state.startswith("Z")}

    wait_until(lambda: not alive(), 10, f"the end of {pids}")


def refused(directory: Path, command: Sequence[str | Path], settings: Mapping[str, str]) -> str:
    """The one line that a start which cannot be says."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [PYTHON, *command],
        env=environment(settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode not in (0, None), done
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    return line
