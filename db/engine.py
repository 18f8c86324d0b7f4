"""Connections to PostgreSQL: one engine, its session settings, and what its errors mean."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy
from pg8000 import DatabaseError, InterfaceError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.pool import NullPool, QueuePool

from db import cloud_sql, driver
from domain.errors import Unavailable

__all__ = ["Connection", "Engine", "make_engine", "transaction"]

SESSION = {
    "TimeZone": "UTC",
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_user_timeout": "10s",
}
"""The last ends, over TCP, what no other limit does: the session, with its locks, of a process that is frozen while a
long answer is sent to it.
"""
TICK_SESSION = SESSION | {"enable_seqscan": "off", "jit": "off"}
"""A tick finds a few rows by an index, always; what the server planned while a table was empty, it would read as a
whole for as long as the connection keeps the plan. (Up to PostgreSQL 17, a plan that reads one all the same looks so
dear that it is compiled.)
"""

UNAVAILABLE_CLASSES = {
    "08": "the connection to the database broke",
    "53": "the database has no free connection, memory or disk",
    "57": "the database is shutting down, starting up or took too long",
}
UNAVAILABLE_STATES = {
    "25006": "the database is read-only",
    "25P03": "the database ended a transaction that was idle for too long",
    "28000": "the database refused the login",
    "28P01": "the database refused the password",
    "3D000": "the database does not exist",
    "40001": "the database is busy with a conflicting change",
    "40P01": "the database is busy with a conflicting change",
    "42501": "the database user lacks a right; `migrate` grants them to the users in DATABASE_APP_USERS",
    "42P01": "the database's schema is older than this code until `migrate` has run",
    "42703": "the database's schema is older than this code until `migrate` has run",
    "55P03": "the database is busy with a conflicting change",
}


def make_engine(
    url: str,
    *,
    pool_size: int = 5,
    socket_timeout_seconds: float | None = 10,
    connector: cloud_sql.CloudSql | None = None,
    session: Mapping[str, str] = SESSION,
) -> Engine:
    """An engine for `url` (`postgresql://` means pg8000); connects on first use.

    `pool_size` 0 keeps no connections: each use opens its own. A statement that gets no answer within
    `socket_timeout_seconds` ends as `Unavailable`. `cloud_sql` in the query of `url` names an instance of
    Cloud SQL, which `connector` reaches, or that of this process.
    """
    address = make_url(url)
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+pg8000")
    if address.username is None:
        address = address.set(username="postgres")
    pool: dict[str, Any] = (
        {
            "poolclass": QueuePool,
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": 5,
            "pool_pre_ping": True,
        }
        if pool_size
        else {"poolclass": NullPool}
    )
    connect_args: dict[str, Any] = {
        "timeout": socket_timeout_seconds,
        "application_name": "insignia",
        "startup_params": session,
    }
    if address.query.keys() & {"unix_sock", "cloud_sql"}:
        # No TLS of pg8000's own there, for which it would read all certificates (40 ms).
        connect_args["ssl_context"] = False
    if "cloud_sql" in address.query:
        pool["creator"] = partial(opened, cloud_sql.connect, connector, address, connect_args)
    engine = sqlalchemy.create_engine(
        address,
        connect_args=connect_args,
        json_serializer=compact_json,
        hide_parameters=True,
        **pool,
    )
    engine.dialect.connect = partial(opened, engine.dialect.connect)  # type: ignore[method-assign]
    engine.dialect.do_ping = answers  # type: ignore[method-assign]
    engine.dialect.do_close = partial(close, engine.dialect.do_close)  # type: ignore[method-assign]
    event.listen(engine, "handle_error", hide_values)
    event.listen(engine, "handle_error", discard_connection_after_foreign_error)
    return engine


def make_tick_engine(url: str, *, pool_size: int = 2) -> Engine:
    """An engine for ticks: a statement without an answer must not hold up the calls in flight."""
    return make_engine(url, pool_size=pool_size, socket_timeout_seconds=2, session=TICK_SESSION)


def opened(connect: Callable[..., DBAPIConnection], *args: Any, **options: Any) -> DBAPIConnection:
    """A new connection; raises why the server refused it, and not that it has hung up since.

    pg8000 takes its leave of a server that refused it, and when that fails, that is its error.
    """
    try:
        return connect(*args, **options)
    except InterfaceError as error:
        behind = error.__context__
        while behind is not None and not isinstance(behind, DatabaseError):
            behind = behind.__context__
        raise behind or error from None


def answers(dbapi_connection: DBAPIConnection) -> bool:
    """Whether a pooled connection is alive, asked by the BEGIN that any use of it would send next.

    One that has just been of use is not asked: a server that ends closes its connections, which their sockets know.
    pool_pre_ping knows the driver's errors only, and a reset is none.
    """
    if driver.has_just_answered(dbapi_connection):
        return True
    try:
        driver.begin(dbapi_connection)
    except OSError:
        return False
    return True


def close(close_connection: Callable[[DBAPIConnection], None], connection: DBAPIConnection) -> None:
    """End a connection, also one that is gone: pg8000 would say goodbye and fail, and the pool log a traceback."""
    with suppress(OSError, InterfaceError):
        close_connection(connection)


def hide_values(context: ExceptionContext) -> None:
    """Take the values of rows out of PostgreSQL's errors, because errors are logged (SECURITY.md)."""
    error = context.original_exception
    if error.args and isinstance(error.args[0], dict):
        error.args[0].pop("D", None)  # detail: "Failing row contains ..."
        error.args[0].pop("W", None)  # context: "JSON data, line 1: ..."
        if context.sqlalchemy_exception is not None:
            context.sqlalchemy_exception.args = (str(error),)


def discard_connection_after_foreign_error(context: ExceptionContext) -> None:
    """Treat any error that is not the driver's own as the end of the connection.

    pg8000 that raises in the middle of an answer (at a value that Python cannot hold, or at a time-out) leaves a
    connection that answers each query with the previous query's result, and pool_pre_ping does not notice
    (tests/integration/test_engine.py shows it).
    """
    assert context.dialect.dbapi is not None
    if not isinstance(context.original_exception, context.dialect.dbapi.Error):
        context.is_disconnect = True


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction: committed at the end, rolled back on an error.

    Raises Unavailable when the database is away, overloaded, read-only, or has an older schema.
    """
    with unavailable_is_one_error(), engine.begin() as connection:
        yield connection


@contextmanager
def unavailable_is_one_error(*, but: Collection[str] = ()) -> Iterator[None]:
    """Raise Unavailable for every database error that is not a mistake in a statement or its data.

    `but` are the codes of errors that are let through.
    """
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("All database connections of this instance are in use; try again.") from error
    except DBAPIError as error:
        if sqlstate(error) not in but and (reason := unavailable_reason(error)) is not None:
            raise Unavailable(f"The request could not be served: {reason}; try again.") from error
        raise
    except OSError as error:
        raise Unavailable("The request could not be served: the database is away; try again.") from error


def unavailable_reason(error: DBAPIError) -> str | None:
    state = sqlstate(error)
    if state is not None:
        return UNAVAILABLE_STATES.get(state) or UNAVAILABLE_CLASSES.get(state[:2])
    if error.connection_invalidated or isinstance(error, sqlalchemy.exc.InterfaceError):
        return "the database is away"
    return None


def sqlstate(error: DBAPIError) -> str | None:
    """The five characters of PostgreSQL's error code, or None for an error of the driver."""
    fields = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return fields.get("C") if isinstance(fields, dict) else None


def uuid_array(ids: Iterable[UUID | str]) -> str:
    """A text that can be cast to uuid[]; pg8000 would look at every character of a list of them."""
    return f"{{{','.join(map(str, ids))}}}"


def compact_json(value: Any) -> str:
    """JSON as it is stored and sent: compact, UTF-8, key order kept."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
