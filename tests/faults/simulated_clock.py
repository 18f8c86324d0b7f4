"""The one clock of Insignia, set to any instant, without a change to the product.

The product takes every instant from its database, by statement_timestamp() and clock_timestamp() without a
schema. So a schema `simulation` that the database searches before pg_catalog can have functions of the same
names: they add an offset, kept in a table of one row, to the real clock. Time goes on at its real pace between
steps. statement_timestamp() stays STABLE, so that indexes are used as ever, and sees a step with the next
statement; clock_timestamp() stays VOLATILE, and sees it at once.

    install_simulated_clock(admin, database_url)    # before the product connects
    clock = SimulatedClock(database_url)
    clock.set(datetime(2027, 3, 28, tzinfo=UTC))
    clock.step(timedelta(hours=3))

What goes by a clock of the process is not simulated: deadlines of calls, the budget of a tick.
"""

import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

INSTALL = """
CREATE SCHEMA simulation;
CREATE TABLE simulation.clock (ahead interval NOT NULL);
INSERT INTO simulation.clock VALUES (interval '0');
CREATE FUNCTION simulation.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
    AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM simulation.clock';
CREATE FUNCTION simulation.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
    AS 'SELECT pg_catalog.statement_timestamp() + ahead FROM simulation.clock';
"""

TRIES = 500


def install_simulated_clock(admin: Engine, database_url: str) -> None:
    """Put the simulated clock in front of the real one, for connections that are opened from now on."""
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(INSTALL))
    database = make_url(database_url).database
    with admin.connect() as connection:
        connection.execute(
            text(f'ALTER DATABASE "{database}" SET search_path = simulation, pg_catalog, public')
        )


class SimulatedClock:
    """Reads and sets the clock of a database on which it is installed."""

    def __init__(self, database_url: str) -> None:
        self._observer = Observer(database_url)

    def now(self) -> datetime:
        now: datetime = self._observer.read("SELECT clock_timestamp() AS now")[0]["now"]
        return now

    def set(self, instant: datetime) -> None:
        self._set("extract(epoch FROM CAST(:value AS timestamptz) - pg_catalog.clock_timestamp())", instant)

    def step(self, by: timedelta) -> None:
        self._set("extract(epoch FROM ahead) + :value", by.total_seconds())

    def close(self) -> None:
        self._observer.close()

    def _set(self, ahead_seconds: str, value: object) -> None:
        """The offset is kept in seconds alone: a day of an interval has 23 hours in some time zones."""
        self._observer.read(
            f"UPDATE simulation.clock SET ahead = make_interval(secs => {ahead_seconds})",  # noqa: S608
            value=value,
        )


class Observer:
    """A connection beside the product's, outside any transaction, that outlives a crash of the database."""

    def __init__(self, database_url: str) -> None:
        self._engine = create_engine(
            database_url,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            connect_args={"application_name": "observer", "ssl_context": False},
        )

    def read(self, statement: str, **values: object) -> list[dict[str, Any]]:
        """The rows of a statement; while the database is away, it is tried again."""
        for _ in range(TRIES):
            with suppress(DBAPIError, OSError), self._engine.connect() as connection:
                result = connection.execute(text(statement), values)
                return [dict(row) for row in result.mappings()] if result.returns_rows else []
            self._engine.dispose()
            time.sleep(0.01)
        raise AssertionError("the database does not come back")

    def connect(self) -> Connection:
        return self._engine.connect()

    def close(self) -> None:
        self._engine.dispose()
