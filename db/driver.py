"""pg8000 made to wait for the server once for each statement, or for several, where by itself it waits three times.

It sends the BEGIN of a transaction with its first statement. It also numbers the parameters of a statement once for all
its uses, lets the server keep the plan of a statement that says so, reads instants without strptime, and lets other
work go on while the server works. db/engine.py imports this for its effect, which the connections of Google's connector
have as well.
"""

import math
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from functools import cache, lru_cache, partial
from itertools import count
from socket import socket, socketpair
from typing import Any, TypeVar

import pg8000.dbapi
import pg8000.legacy
from pg8000.converters import PG_TYPES, TIMESTAMPTZ, make_params, timestamptz_in
from pg8000.core import (
    BIND,
    DESCRIBE,
    EXECUTE_MSG,
    NULL_BYTE,
    PARSE,
    STATEMENT,
    SYNC_MSG,
    Context,
    CoreConnection,
    H_pack,
    _flush,
    _write,
    i_pack,
)
from pg8000.exceptions import InterfaceError
from sqlalchemy import TextClause, text

KEPT = "/* kept */"

BEGIN = "begin transaction"
"""As pg8000 has it, which sends it before the first statement of a transaction."""

LATELY_SECONDS = 1
"""For so long after its last answer a connection is taken for alive, unless its socket knows better."""

Result = TypeVar("Result")

convert_paramstyle = pg8000.legacy.convert_paramstyle
numbers = count(1)


@lru_cache(maxsize=1_024)
def numbered(style: str, statement: str) -> str:
    """A statement with numbers for its parameters: the driver goes through it character by character (3 ms).

    Of several that are sent together, each has numbers of its own.
    """
    return "".join(convert_paramstyle(style, one, ())[0] for one in split(statement))


def number_parameters(style: str, statement: str, values: Any) -> tuple[str, Any]:
    """What pg8000 does each time it sends a statement; values keep their order in SQLAlchemy's style, "format"."""
    return numbered(style, statement), values


def instant_in(text: str) -> Any:
    """As pg8000 reads it, which calls strptime: 20 us for each instant, of which a log has up to eight."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return timestamptz_in(text)


def kept(statement: str) -> TextClause:
    """A statement that each connection has the server parse and plan once, and not again for each use.

    Only for those whose best plan does not depend on their values: the server plans the first five uses by them, and
    the others without, unless that promises to be worse.
    """
    return text(f"{KEPT}{statement}")


@cache
def together(*statements: TextClause) -> TextClause:
    """Kept statements that are sent at once, and answer with their rows in this order, each with one text in each row.

    The server carries out one after the other, each with a snapshot of its own (READ COMMITTED) as if it had been sent
    alone; after one that fails, none. What may answer at length comes last: the server reads nothing more until its
    answer is read.
    """
    return text("".join(statement.text for statement in statements))


def split(statement: str) -> list[str]:
    """The statements that are sent together; nearly always the one."""
    return [KEPT + one for one in statement.split(KEPT)[1:]] if statement.startswith(KEPT) else [statement]


@lru_cache(maxsize=1_024)
def parts_of(statement: str) -> list[tuple[str, slice]]:
    """The statements that are sent together, and which of the values are for each."""
    parts, first = split(statement), 0
    found = []
    for part in parts:
        last = first + len(re.findall(r"\$\d+", part)) if len(parts) > 1 else None
        found.append((part, slice(first, last)))
        first = last or 0
    return found


def message(code: bytes, data: bytes) -> bytes:
    return b"".join((code, i_pack(len(data) + 4), data))


def parse_message(name: bytes, statement: str, types: Sequence[int]) -> bytes:
    oids = (i_pack(max(one, 0)) for one in types)
    return message(PARSE, b"".join((name, statement.encode(), NULL_BYTE, H_pack(len(types)), *oids)))


def bind_message(name: bytes, values: Sequence[str | None]) -> bytes:
    encoded = [None if value is None else value.encode() for value in values]
    sized = (i_pack(-1) if value is None else i_pack(len(value)) + value for value in encoded)
    return message(BIND, b"".join((NULL_BYTE, name, H_pack(0), H_pack(len(encoded)), *sized, H_pack(0))))


BEGIN_MESSAGES = parse_message(NULL_BYTE, BEGIN, ()) + bind_message(NULL_BYTE, ()) + EXECUTE_MSG


def execute_in_one_trip(
    connection: CoreConnection,
    statement: str,
    vals: Sequence[Any] = (),
    oids: Sequence[int] = (),
    stream: Any = None,
) -> Context:
    """Send all that it takes before the first answer is waited for, in the place of `execute_unnamed`.

    If one of the messages fails, the server leaves out the others up to the Sync, and answers with what was wrong.
    """
    messages = [BEGIN_MESSAGES] if connection.__dict__.pop("begins", False) else []
    plans = connection.__dict__.setdefault("plans", {}) if statement.startswith(KEPT) else None
    key = (statement, tuple(oids))
    names, columns, input_funcs = (plans or {}).get(key, (None, None, None))
    context = Context(statement, stream, columns, input_funcs)
    parts, values = parts_of(statement), make_params(connection.py_types, vals)
    if names is None:
        names = [NULL_BYTE if plans is None else b"kept_%d\0" % next(numbers) for _ in parts]
        for name, (part, its) in zip(names, parts, strict=True):
            messages += [parse_message(name, part, oids[its]), message(DESCRIBE, STATEMENT + name)]
    for name, (_, its) in zip(names, parts, strict=True):
        messages += [bind_message(name, values[its]), EXECUTE_MSG]
    messages.append(SYNC_MSG)
    try:
        _write(connection._sock, b"".join(messages))
    except (AttributeError, ValueError):  # there is no socket any more, or it is closed
        raise InterfaceError("connection is closed") from None
    _flush(connection._sock)
    connection.handle_messages(context)
    if plans is not None:
        plans[key] = (names, context.columns, context.input_funcs)
    return context


execute_simple = CoreConnection.execute_simple


def execute_simple_with_begin(connection: CoreConnection, statement: str) -> Context:
    """In the place of `execute_simple`: a BEGIN waits for the statement that comes next."""
    if statement == BEGIN:
        connection.__dict__["begins"] = True
        return Context(statement)
    if connection.__dict__.pop("begins", False):
        statement = f"{BEGIN};{statement}"
    return execute_simple(connection, statement)


def begin(connection: CoreConnection) -> None:
    """Begin a transaction without waiting for a statement."""
    execute_simple(connection, BEGIN)


def has_just_answered(connection: CoreConnection) -> bool:
    """Whether it was of use within the last second, and its socket tells neither its end nor last words of the server.

    Without an end, as when the server's machine is gone, the next statement fails, by the time-out of the socket.
    """
    if time.monotonic() - connection.__dict__.get("answered_at", -math.inf) > LATELY_SECONDS:
        return False
    return not is_readable(connection._usock)


def is_readable(answer: socket) -> bool:
    """Whether there is something to read, or an end."""
    watch = select.poll()
    watch.register(answer, select.POLLIN)
    return bool(watch.poll(0))


meanwhile: ContextVar[Callable[[socket], None] | None] = ContextVar("meanwhile", default=None)
handle_messages = CoreConnection.handle_messages


@contextmanager
def waiting_by(wait: Callable[[socket], None]) -> Iterator[None]:
    """Let `wait` do other work while the server works on a statement of this context.

    It is called with the connection's socket whenever something has been sent, and returns when there is something
    to read. It must not use the connection, and raises TimeoutError when the time-out of the socket is over.
    """
    token = meanwhile.set(wait)
    try:
        yield
    finally:
        meanwhile.reset(token)


def result_of(work: Future[Result], seconds: float) -> Result:
    """What comes of work on another thread; raises TimeoutError. Other work goes on as while the server works."""
    if (wait := meanwhile.get()) is not None:
        bell, ringer = socketpair()
        with bell, ringer:
            bell.settimeout(seconds)
            work.add_done_callback(partial(ring, ringer))
            wait(bell)
    return work.result(seconds)


def ring(ringer: socket, _: object) -> None:
    with suppress(OSError):  # nobody waits any more
        ringer.send(b"!")


def handle_messages_after_waiting(connection: CoreConnection, context: Context) -> None:
    if (wait := meanwhile.get()) is not None and connection._usock is not None:
        wait(connection._usock)
    handle_messages(connection, context)
    connection.__dict__["answered_at"] = time.monotonic()


PG_TYPES[TIMESTAMPTZ] = instant_in
pg8000.legacy.convert_paramstyle = pg8000.dbapi.convert_paramstyle = number_parameters
CoreConnection.execute_unnamed = execute_in_one_trip
CoreConnection.execute_simple = execute_simple_with_begin
CoreConnection.handle_messages = handle_messages_after_waiting
