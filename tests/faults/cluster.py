"""A PostgreSQL of a test's own, durable as in production, that can crash and come back at the same address."""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from db.child_process import wait_until
from db.embedded import EmbeddedPostgres
from db.migrations import upgrade


class Cluster:
    """Reached through a link, because each start has a run directory of its own; use as a context manager."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] = {}) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._postgres = EmbeddedPostgres(data_dir, settings=settings)
        self._link_dir = Path(tempfile.mkdtemp(prefix="insignia-link-"))

    def __enter__(self) -> Self:
        self.start()
        upgrade(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()
        shutil.rmtree(self._link_dir)

    def start(self) -> None:
        url = make_url(self._postgres.start())
        socket = Path(str(url.query["unix_sock"]))
        link = self._link_dir / "run"
        link.unlink(missing_ok=True)
        link.symlink_to(socket.parent)
        self.url = url.update_query_dict({"unix_sock": str(link / socket.name)}).render_as_string()

    def crash(self, signum: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT is what `pg_ctl stop -m immediate` sends: every session ends, and nothing is tidied up."""
        (pid_file,) = self._data_dir.glob("postgres-*/postmaster.pid")
        os.kill(int(pid_file.read_text().splitlines()[0]), signum)
        assert wait_until(lambda: self._postgres.poll() is not None, 20)
        self._postgres.stop()
