"""Clusters of EmbeddedPostgres as a test sees them: their files, their processes, and starts in another process."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may become another user")

REPOSITORY = Path(__file__).parents[2]
SUPERVISOR = """
import sys
from pathlib import Path
from db.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """A process that only waits to be reaped is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


def query(url: str, *statements: str) -> Sequence[Any]:
    """The rows of the last statement, if it has any."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
        return result.all() if result.returns_rows else []


def cluster_of(data_dir: Path) -> Path:
    (cluster,) = data_dir.glob("postgres-[0-9]*")
    return cluster


def postmaster_of(data_dir: Path) -> int:
    return int((cluster_of(data_dir) / "postmaster.pid").read_text().split()[0])


def run_dir_of(data_dir: Path) -> Path:
    return Path((data_dir / "postgres.lock").read_text().splitlines()[1])


@contextmanager
def script(code: str, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs this code, killed at the end if it still lives."""
    command = [options.pop("executable", sys.executable), "-c", code, *map(str, arguments)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def start_in_another_process(data_dir: Path, code: str = SUPERVISOR) -> tuple[int, str]:
    """Starts and ends a cluster there; the exit code and what it said."""
    with script(code, data_dir) as process:
        said, errors = process.communicate("", timeout=30)
        return process.returncode, said + errors
