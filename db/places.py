"""Places at destinations: how many calls each has under way, of all processes together.

A run that is under way holds a place until it is settled or its lease ends, so that a process that dies holds
none for ever. A claim looks at the places of a destination behind a lock of that destination, until it commits:
two claims never both take the last one. It waits for no such lock: what somebody else is claiming just now is
left to a later claim.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, TextClause, text

from db.claiming import Room
from db.driver import kept, together
from db.engine import uuid_array
from db.json_rows import json_rows, read_all_json

LOCKS = 0x1A51
"""The first key of the advisory locks; the second is the hash of a destination."""

TRY_LOCKS = kept("""
SELECT coalesce(json_agg(destination), '[]')::text
FROM json_array_elements_text(CAST(:destinations AS json)) AS wanted(destination)
WHERE pg_try_advisory_xact_lock(:locks, hashtext(destination))
""")

WAIT_FOR_LOCK = text("SELECT pg_advisory_xact_lock(:locks, hashtext(:destination))")

COUNT_CALLS = kept("""
SELECT json_build_array(coalesce(json_object_agg(destination, calls), '{}'), (
    SELECT coalesce(json_object_agg(key, json_build_array(
        extract(epoch FROM held_since)::float8, extract(epoch FROM held_until)::float8)), '{}')
    FROM destination_limits
    WHERE held_since IS NOT NULL AND key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:destinations AS json))))
), extract(epoch FROM clock_timestamp())::float8)::text
FROM (
    SELECT destination, count(*) AS calls FROM (
        SELECT task_id FROM task_logs
        WHERE status = 'running' AND available_at > statement_timestamp()
            AND id NOT IN (SELECT unnest(CAST(:held AS uuid[])))
        ORDER BY available_at LIMIT (SELECT 1000000)
    ) running JOIN task_state USING (task_id)
    WHERE destination = ANY (ARRAY(SELECT json_array_elements_text(CAST(:destinations AS json))))
    GROUP BY destination
) used
""")
"""Ordered, so that the server rather follows the index, which forgets what is over; a bitmap goes through all of it.

The LIMIT is none: without statistics, only with one does the server prefer an order that it need not make.
"""


def open_places(
    connection: Connection,
    room: Room,
    destinations: Iterable[str],
    tasks: Iterable[Mapping[str, Any]],
    *reads: TextClause,
) -> list[Any]:
    """Let the room know of the calls that other processes have under way to `destinations`, until the commit.

    And of those that have held calls back. In the same trip it reads what else a claim has to know of `tasks` that it
    has locked: what `reads` answer of their `:task_ids`.

    The calls are counted in a statement of its own after the locks: with them, they would come from the snapshot
    before. Those to contended destinations are counted as well, for nobody: which are, only the answer tells.
    """
    wanted = sorted({*destinations} - room.crowded)
    values = {
        "locks": LOCKS,
        "destinations": json_rows(wanted),
        "held": uuid_array(room.held),
        "task_ids": uuid_array(task["task_id"] for task in tasks),
    }
    locked, counted, *answers = read_all_json(connection, together(TRY_LOCKS, COUNT_CALLS, *reads), values)
    room.contended.update({*wanted}.difference(locked))
    room.crowded |= room.contended
    elsewhere, held, room.ledger.now = counted
    room.elsewhere = Counter(elsewhere)
    room.ledger.held = {destination: (since, until) for destination, (since, until) in held.items()}
    return answers


def lock_places(connection: Connection, destination: str) -> None:
    """Wait until nobody else is claiming calls to `destination`; until the commit nobody will."""
    connection.execute(WAIT_FOR_LOCK, {"locks": LOCKS, "destination": destination})
