"""Upgrades of the schema: the revisions in migrations/, one process at a time, and what the application may do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from db.engine import make_engine, sqlstate, unavailable_is_one_error
from domain.errors import Unavailable

SCHEMA_REVISION = "0014"
"""The newest revision in migrations/, so that nobody has to import Alembic to know it."""

UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE = "42P01", "42501"

ROOT = Path(__file__).parent.parent
ADVISORY_LOCK = 7_205_759_403
"""Any number, the same in every process that may migrate."""

LOCK_SECONDS = 15
"""Longer than any statement of the application holds a table; a backup may hold it for hours."""

MISSING_USERS = text("""
SELECT name FROM unnest(CAST(:users AS text[])) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
""")

GRANTS = """
GRANT USAGE ON SCHEMA public TO {user};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user};
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {user};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {user};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO {user};
"""


def is_schema_behind(engine: Engine) -> bool:
    """Whether `migrate` has to run before this code can work.

    A schema that is ahead is none of that: revisions add before they remove. Raises Unavailable when the
    database is away.
    """
    try:
        with (
            unavailable_is_one_error(but={UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE}),
            engine.begin() as connection,
        ):
            revision = connection.execute(text("SELECT max(version_num) FROM alembic_version")).scalar_one()
    except ProgrammingError as error:
        if sqlstate(error) in {UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE}:
            return True
        raise
    return revision is None or revision < SCHEMA_REVISION


def upgrade(url: str, *, app_users: Sequence[str] = ()) -> str:
    """Bring the schema to the newest revision and return that; waits while another process does the same.

    Each revision is a transaction: what it locks is free before the next one begins. In the end, `app_users` get the
    rights of the application: to read and write rows, no more. Raises Unavailable when one of them does not exist, and
    migrates nothing.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(ROOT / "alembic.ini")
    with migration_connection(url) as connection:
        with connection.begin():
            require_users(connection, app_users)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        grant_rights(connection, app_users)
        connection.commit()
    return ScriptDirectory.from_config(config).get_current_head() or ""


def require_users(connection: Connection, users: Sequence[str]) -> None:
    missing = connection.execute(MISSING_USERS, {"users": list(users)}).scalars().all()
    if missing:
        raise Unavailable(
            f"DATABASE_APP_USERS names {', '.join(missing)}, which the database does not know; nothing was "
            "migrated. Create the user or correct the setting, and try again."
        )


def grant_rights(connection: Connection, users: Sequence[str]) -> None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    for user in users:
        connection.exec_driver_sql(GRANTS.format(user=quote(user)))


@contextmanager
def migration_connection(url: str) -> Iterator[Connection]:
    """A connection that holds the migration lock, in no transaction; a statement may take as long as it likes.

    But it waits no longer than LOCK_SECONDS for a table: whatever comes after it waits for it, even for reading.
    """
    engine = make_engine(url, pool_size=0, socket_timeout_seconds=None)
    with unavailable_is_one_error(), engine.connect() as connection:
        with connection.begin():
            connection.execute(
                text(
                    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0"
                )
            )
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
            connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
        yield connection
