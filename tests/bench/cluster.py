"""The PostgreSQL of the benchmark: durable as in production, a fresh database a round, and what it costs."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from db.embedded import EmbeddedPostgres

NANOSECONDS = 1e-9
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Seconds of CPU: of the processes that run, by their ids, and of all together that have ended.

    The system knows the latter in hundredths only: of a process that ends, it may be less than what it had as long as
    it ran. So a session that is about to end when a measurement begins must be taken out of it as a whole.
    """

    running: Mapping[int, float]
    of_ended: float

    def since(self, before: "Cpu") -> float:
        """Never negative."""
        in_running = sum(cpu - before.running.get(pid, 0) for pid, cpu in self.running.items())
        had_been = sum(cpu for pid, cpu in before.running.items() if pid not in self.running)
        return in_running + max(self.of_ended - before.of_ended - had_been, 0)


class Cluster:
    """One embedded cluster, durable as PostgreSQL's own settings have it, but for `settings`."""

    def __init__(self, **settings: str) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insignia-bench-")))
            self._url = make_url(
                stack.enter_context(EmbeddedPostgres(self._data_dir, settings=self._settings))
            )
            self._numbers = count(1)
            self._stack = stack.pop_all()
        (pid_file,) = self._data_dir.glob("postgres-*/postmaster.pid")
        self._postmaster = int(pid_file.read_text().splitlines()[0])
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def create_database(self, name: str) -> str:
        """The URL of a new, empty database."""
        self._execute(f"CREATE DATABASE {name}")
        return self._url.set(database=name).render_as_string()

    @contextmanager
    def copy_of(self, name: str) -> Iterator[str]:
        """The URL of a copy of a database, dropped afterwards."""
        copy = f"copy_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
        yield self._url.set(database=copy).render_as_string()
        self._execute(f"DROP DATABASE {copy} WITH (FORCE)")

    def version(self) -> str:
        return self._execute("SHOW server_version").split()[0]

    def come_to_rest(self, url: str) -> None:
        """Do now what PostgreSQL would otherwise do, on account of the preparation, during the measurement."""
        self._execute("VACUUM ANALYZE", url)
        self._execute("CHECKPOINT", url)

    def cpu(self) -> "Cpu":
        """Of the whole cluster since its start: backends, WAL writer, checkpointer, I/O workers, autovacuum and the
        postmaster; time that the kernel spends in interrupts is not in it.
        """
        running, of_ended = {}, 0.0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # The name, in brackets, may have blanks; the fields after it begin with the third one.
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                on_cpu = int((process / "schedstat").read_text().split()[0]) * NANOSECONDS
            except (FileNotFoundError, ProcessLookupError):
                continue
            pid, parent = int(process.name), int(fields[1])
            if self._postmaster in (pid, parent):
                running[pid] = on_cpu
            if pid == self._postmaster:
                of_ended = (int(fields[13]) + int(fields[14])) * TICK_SECONDS
        return Cpu(running=running, of_ended=of_ended)

    def _execute(self, statement: str, url: str | None = None) -> str:
        engine = create_engine(url or self._url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return str(result.scalar_one()) if result.returns_rows else ""
