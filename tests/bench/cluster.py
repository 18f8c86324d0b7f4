"""The PostgreSQL of the benchmark: durable as in production, a fresh database a round, and what it costs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Self

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from db.embedded import EmbeddedPostgres

NANOSECONDS = 1e-9
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


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

    def cpu_seconds(self) -> float:
        """CPU of the whole cluster since its start: backends (the ended ones too), WAL writer, checkpointer,
        I/O workers, autovacuum and the postmaster; time that the kernel spends in interrupts is not in it.
        """
        cpu = 0.0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # The name, in brackets, may have blanks; the fields after it begin with the third one.
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                on_cpu = int((process / "schedstat").read_text().split()[0]) * NANOSECONDS
            except (FileNotFoundError, ProcessLookupError):
                continue
            parent, cpu_of_ended_children = int(fields[1]), int(fields[13]) + int(fields[14])
            if int(process.name) == self._postmaster:
                cpu += on_cpu + cpu_of_ended_children * TICK_SECONDS
            elif parent == self._postmaster:
                cpu += on_cpu
        return cpu

    def _execute(self, statement: str, url: str | None = None) -> str:
        engine = create_engine(url or self._url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return str(result.scalar_one()) if result.returns_rows else ""
