"""Upgrades of the schema: the revisions in migrations/, one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from db.engine import make_engine, unavailable_is_one_error

ROOT = Path(__file__).parent.parent
ADVISORY_LOCK = 7_205_759_403
"""Any number, the same in every process that may migrate."""


def upgrade(url: str) -> str:
    """Bring the schema to the newest revision and return that; waits while another process does the same."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(ROOT / "alembic.ini")
    with migration_connection(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return ScriptDirectory.from_config(config).get_current_head() or ""


@contextmanager
def migration_connection(url: str) -> Iterator[Connection]:
    """A connection in one transaction, without time limits, that holds the migration lock."""
    engine = make_engine(url, pool_size=0, socket_timeout_seconds=None)
    with unavailable_is_one_error(), engine.begin() as connection:
        connection.execute(
            text(
                "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0"
            )
        )
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        yield connection
