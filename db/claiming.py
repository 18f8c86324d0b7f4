"""What all claims share: which tasks may be called, how much there is room for, and the definitions.

A claim takes only rows that nobody holds (SKIP LOCKED), so that any number of ticks may run at once and none
waits for another. Instants: statement_timestamp() in WHERE, where the index needs it, clock_timestamp() for
leases (docs/engine.md, Tick).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from db.destination_limits import Ledger
from db.driver import kept
from db.engine import uuid_array
from db.json_rows import read_json
from domain.notification import Change
from domain.rate import destinations_of
from domain.retry import RetryOn
from domain.run import ClaimedRun
from domain.slots import Timing
from domain.task import Method

BATCH_ROWS = 256
"""The most that a claim takes, and a settle writes, at once.

It is in the text of the statements that lock, inside of the limit to the room there is: what is not asked for is not
locked, and the server knows that it is little. Their values are in queries of their own: else it would think better
of a plan that is made for them than of the one it keeps, and make one each time.
"""

URL_HAS_RATE_LEFT = """(destination NOT IN (SELECT unnest(CAST(:has_spent AS text[]))) OR (
            SELECT s.destination || coalesce(nullif(substring(webhook_url FROM '://[^/?#]*([^?#]*)'), ''), '/')
            FROM tasks WHERE id = s.task_id) NOT IN (SELECT unnest(CAST(:spent AS text[]))))"""

MAY_BE_CALLED = f"""
        timeout_seconds <= (SELECT CAST(:max_timeout_seconds AS int))
        AND destination NOT IN (SELECT unnest(CAST(:full AS text[])))
        AND NOT EXISTS (
            SELECT FROM throttled_destinations t
            WHERE t.destination = s.destination AND t.available_at > statement_timestamp())
        AND {URL_HAS_RATE_LEFT}"""

MAY_RUN = "(s.status = 'active' OR l.source = 'manual')"
"""A run `l` of a task `s`: only manual runs are made of tasks that are not active."""


LARGE_BYTES = 16_384
"""A larger payload is read when its call is sure to be made, so that a claim needs no memory for all that is due."""


class Definition(NamedTuple):
    """What a claim reads of a task: instants and policies are as PostgreSQL writes them.

    `payload` is JSON in UTF-8, of so many bytes; None for a large one, which `payloads_of` reads.
    """

    payload: bytes | None
    payload_bytes: int
    name: str
    schedule: str | None
    timezone: str
    run_at: str | None
    start_at: str | None
    end_at: str | None
    webhook_url: str
    method: str
    headers: Mapping[str, str]
    signing_secrets: Sequence[str]
    success_statuses: str
    max_retry: int
    retry_on: str
    deactivate_after: int
    misfire_policy: str
    catchup_window_seconds: int
    overlap_policy: str
    notify_url: str | None


def reading_definitions(payload: str) -> TextClause:
    """The statement for definitions whose payload is this expression of SQL, of which `body` is all."""
    # by their order alone: names in each row cost PostgreSQL as much again
    return kept(f"""
SELECT coalesce(json_agg(definition), '[]')::text FROM (
    SELECT json_build_array(
        id, {payload}, octet_length(body),
        {", ".join(Definition._fields[2:])}) AS definition
    FROM (SELECT *, payload::text AS body FROM tasks WHERE id = ANY (CAST(:task_ids AS uuid[])) OFFSET 0) task
) definitions
""")


READ_DEFINITIONS = reading_definitions(f"CASE WHEN octet_length(body) <= {LARGE_BYTES} THEN body END")
READ_WHOLE_DEFINITIONS = reading_definitions("body")
"""For tasks that are not locked: what is read of them later may be of another revision."""

READ_PAYLOADS = text("""
SELECT coalesce(json_agg(json_build_array(id, payload::text)), '[]')::text
FROM tasks WHERE id = ANY (CAST(:task_ids AS uuid[]))
""")


method_named, retry_on_named = cache(Method), cache(RetryOn)
"""An enumeration asks itself for a value by three calls in Python."""


@dataclass(slots=True, kw_only=True)
class Room:
    """What a tick can start now: calls, calls to one destination, bytes of payload, and seconds for a call.

    `has_last_chance`: no run is under way here that would end with one more lost lease, so one may begin.
    `held`: the runs that the tick has not settled yet, and must not take up anew when their leases are over.
    `elsewhere`: the calls of other processes. `crowded`: the destinations that have no place left, `contended`
    those of them that somebody else was claiming for just then; what a rate has refused is among the crowded, too.
    `lacks_bytes`: a payload was too large for what was left.
    """

    calls: int
    per_destination: int
    in_flight: Counter[str]
    payload_bytes: int
    max_timeout_seconds: int
    has_last_chance: bool = True
    held: Sequence[str] = ()
    elsewhere: Counter[str] = field(default_factory=Counter)
    crowded: set[str] = field(default_factory=set)
    contended: set[str] = field(default_factory=set)
    lacks_bytes: bool = False
    ledger: Ledger = field(default_factory=Ledger)

    def parameters(self) -> dict[str, Any]:
        full = {one for one, calls in self.in_flight.items() if calls >= self.per_destination}
        spent = self.ledger.closed
        return {
            "limit": self.calls,
            "full": [*full.union(self.crowded, spent)],
            "spent": [*spent],
            "has_spent": [*destinations_of(spent)],
            "max_timeout_seconds": self.max_timeout_seconds,
        }

    def fitting(
        self, tasks: Iterable[Mapping[str, Any]], times: int = 1
    ) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """The first tasks of each destination, so many times as many as it has places; and the others."""
        places: dict[str, int] = {}
        found: list[Mapping[str, Any]] = []
        others: list[Mapping[str, Any]] = []
        for task in tasks:
            destination = task["destination"]
            if destination not in places:
                places[destination] = 0 if destination in self.crowded else times * self._places(destination)
            places[destination] -= 1
            (found if places[destination] >= 0 else others).append(task)
        return found, others

    def leave(self, destinations: Iterable[str]) -> None:
        """Something due is left; those of the destinations that have no place are why."""
        for destination in destinations:
            if self._places(destination) < 1:
                self.crowded.add(destination)
                if destination not in self.contended:
                    self.ledger.left.add(destination)

    def _places(self, destination: str) -> int:
        taken = self.in_flight.get(destination, 0) + self.elsewhere.get(destination, 0)
        return self.per_destination - taken

    def take(self, destination: str, webhook_url: str, payload_bytes: int) -> bool:
        """Whether one more call fits, and if so, count it. A single large payload always fits."""
        self.leave([destination])
        if self.calls < 1 or destination in self.crowded:
            return False
        if payload_bytes > self.payload_bytes and self.in_flight.total():
            self.lacks_bytes = True
            return False
        if refusing := self.ledger.take(destination, webhook_url):
            self.crowded.add(refusing)
            return False
        self.calls -= 1
        self.in_flight[destination] += 1
        self.payload_bytes -= payload_bytes
        return True


@dataclass(slots=True, kw_only=True)
class Claimed:
    """What a claim came to; `missed` and `skipped` count slots, `deactivated` uncomputable schedules.

    `taken`: how many of the rows that it had room for it has dealt with, whether or not they run. `changes` are
    what may have to be told of the tasks: missed slots, deactivations.
    """

    runs: list[ClaimedRun] = field(default_factory=list)
    taken: int = 0
    missed: int = 0
    skipped: int = 0
    deactivated: int = 0
    changes: list[Change] = field(default_factory=list)

    def add(self, other: "Claimed") -> None:
        self.runs += other.runs
        self.taken += other.taken
        self.missed += other.missed
        self.skipped += other.skipped
        self.deactivated += other.deactivated
        self.changes += other.changes


def read_definitions(connection: Connection, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Definition]:
    """By the ids of the tasks; those that have been deleted are missing."""
    if not tasks:
        return {}
    task_ids = uuid_array(task["task_id"] for task in tasks)
    return definitions_in(read_json(connection, READ_DEFINITIONS, {"task_ids": task_ids}))


def definitions_in(rows: Iterable[Sequence[Any]]) -> dict[str, Definition]:
    """What READ_DEFINITIONS answers, by the ids of the tasks."""
    return {
        task_id: Definition(None if payload is None else payload.encode(), *values)
        for task_id, payload, *values in rows
    }


def payloads_of(connection: Connection, definitions: Mapping[str, Definition]) -> dict[str, bytes]:
    """The payloads of tasks that are locked, by their ids."""
    payloads = {task_id: one.payload for task_id, one in definitions.items() if one.payload is not None}
    if large := definitions.keys() - payloads.keys():
        rows = read_json(connection, READ_PAYLOADS, {"task_ids": uuid_array(large)})
        payloads |= {task_id: payload.encode() for task_id, payload in rows}
    return payloads


def timing_of(definition: Definition) -> Timing:
    instants = (definition.run_at, definition.start_at, definition.end_at)
    run_at, start_at, end_at = (datetime.fromisoformat(one) if one else None for one in instants)
    return Timing(
        schedule=definition.schedule,
        timezone=definition.timezone,
        run_at=run_at,
        start_at=start_at,
        end_at=end_at,
    )


def with_instants(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a statement answers of a run, with its instants as such."""
    instants = {name: datetime.fromisoformat(run[name]) for name in ("scheduled_for", "started_at")}
    return {**run, **instants}


def claimed_run(
    run: Mapping[str, Any], task: Mapping[str, Any], definition: Definition, payload: bytes
) -> ClaimedRun:
    """What a claim has written of a run, read of its task, and read of the task's definition."""
    return ClaimedRun(  # by their order: names take as long again
        run["id"],
        run["lease_id"],
        task["task_id"],
        run["scheduled_for"],
        run["started_at"],
        run["number"],
        run["lost_leases"],
        run["throttles"],
        task["destination"],
        definition.name,
        definition.webhook_url,
        method_named(definition.method),
        definition.headers,
        payload,
        tuple(definition.signing_secrets),
        task["timeout_seconds"],
        definition.success_statuses,
        definition.max_retry,
        retry_on_named(definition.retry_on),
        definition.deactivate_after,
        definition.notify_url,
    )
