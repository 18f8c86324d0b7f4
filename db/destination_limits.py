"""Rates of destinations, of all processes together, and since when their limits have held calls back.

What counts together has one row, with the instants at which its calls were claimed. A claim reads the rows of all that
it has found under a rate by one statement, and writes those of what it took by one more, in its own transaction: a
claim that is rolled back has spent nothing. A call that is given back has spent its own. Between both it holds an
advisory lock of each row's key, for which only a run by hand waits.

A claim that had to leave something due, for want of a place or a rate, says so in the row (that of the destination,
for places); one that takes something and leaves nothing ends that. A Retry-After says so as well, with its end. By that
runs know how long they were held back (`throttled_ms`), also before this process began.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from db.json_rows import json_rows, read_json
from domain.rate import (
    Grants,
    Hold,
    Limit,
    Rate,
    calls_left,
    held_again,
    held_ms,
    limit_of,
    rate_of,
    recent,
    wait_seconds,
)

LOCKS = 0x1A52
"""The first key of the advisory locks; the second is the hash of a row's key."""

CONTENDED_SECONDS = 0.05
"""After which a claim may look again at what another was claiming just then."""

TRY_LOCKS = text("""
SELECT coalesce(json_agg(key), '[]')::text FROM json_array_elements_text(CAST(:keys AS json)) AS wanted(key)
WHERE pg_try_advisory_xact_lock(:locks, hashtext(key))
""")

WAIT_FOR_LOCKS = text("""
SELECT coalesce(json_agg(key), '[]')::text FROM json_array_elements_text(CAST(:keys AS json)) AS wanted(key)
WHERE pg_advisory_xact_lock(:locks, hashtext(key)) IS NOT NULL
""")

READ_ROWS = text("""
SELECT json_build_array(extract(epoch FROM clock_timestamp())::float8, coalesce(json_object_agg(key, json_build_array(
    grants, extract(epoch FROM held_since)::float8, extract(epoch FROM held_until)::float8)), '{}'))::text
FROM destination_limits WHERE key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))
""")

WRITE_ROWS = text("""
INSERT INTO destination_limits (key, grants, idle_at, held_since, held_until)
SELECT key, grants, to_timestamp(idle_at), to_timestamp(held_since), to_timestamp(held_until)
FROM json_to_recordset(CAST(:rows AS json)) AS row(
    key text, grants json, idle_at float8, held_since float8, held_until float8)
ORDER BY key
ON CONFLICT (key) DO UPDATE SET grants = excluded.grants, idle_at = excluded.idle_at,
    held_since = excluded.held_since, held_until = excluded.held_until
""")

KEPT_SECONDS = 86_400
"""For how long it is known since when calls were held back."""

FORGET_IDLE = text("""
WITH idle AS MATERIALIZED (
    SELECT key FROM destination_limits WHERE idle_at <= statement_timestamp()
    FOR UPDATE SKIP LOCKED
)
DELETE FROM destination_limits l USING idle WHERE l.key = idle.key
""")


@dataclass(slots=True)
class Account:
    """Of what counts together: the calls that still count, how many may begin now, and how many this claim takes."""

    rate: Rate
    grants: Grants
    left: int
    taken: int = 0


class Ledger:
    """What the rates still allow in one claim: opened, asked for each call, and recorded once.

    `rates` are known by their hosts. `closed` are the targets that are known to allow nothing yet: a claim passes them
    over. `waits` tells of those that refused a call how many seconds from now they may allow one. `held` tells by keys
    of destinations and rates since when they have held calls back; `left` are those of which this claim has left some.
    """

    def __init__(self, rates: Mapping[str, Rate] | None = None, closed: Collection[str] = ()) -> None:
        self.closed = closed
        self.waits: dict[str, float] = {}
        self.held: dict[str, Hold] = {}
        self.left: set[str] = set()
        self.now = 0.0
        self._rates = rates or {}
        self._rate_of: dict[str, Rate | None] = {}
        self._accounts: dict[str, Account] = {}
        self._relieved: set[str] = set()

    def open(
        self, connection: Connection, calls: Iterable[tuple[str, str]], *, is_waiting: bool = False
    ) -> None:
        """Find out what is left for calls to destinations and URLs, until the commit; what is open stays as it is."""
        limits: dict[str, Limit] = {}
        for destination, webhook_url in calls:
            if destination not in self._rate_of:
                self._rate_of[destination] = rate_of(self._rates, destination)
            if rate := self._rate_of[destination]:
                limit = limit_of(rate, destination, webhook_url)
                if limit.key not in self._accounts:
                    limits[limit.key] = limit
        if not limits:
            return
        lock = WAIT_FOR_LOCKS if is_waiting else TRY_LOCKS
        keys = read_json(connection, lock, {"locks": LOCKS, "keys": json_rows(sorted(limits))})
        self.now, rows = read_json(connection, READ_ROWS, {"keys": json_rows(keys)})
        for key in keys:
            grants, since, until = rows.get(key, ((), None, None))
            rate = limits[key].rate
            grants = recent(grants, rate, self.now)
            self._accounts[key] = Account(rate, grants, calls_left(grants, rate))
            if since is not None:
                self.held[key] = since, until

    def take(self, destination: str, webhook_url: str) -> str | None:
        """Spend one call; if its rate is used up, the target that refuses it instead."""
        rate = self._rate_of.get(destination)
        if rate is None:
            return None
        limit = limit_of(rate, destination, webhook_url)
        if limit.target in self.waits:
            return limit.target
        account = self._accounts.get(limit.key)
        if account is None:
            self.waits[limit.target] = CONTENDED_SECONDS
            return limit.target
        if account.taken < account.left:
            account.taken += 1
            return None
        self.waits[limit.target] = wait_seconds(self._grants(account), rate, self.now)
        self.left.add(limit.key)
        return limit.target

    def throttled_ms(self, destination: str, webhook_url: str, due_at: float) -> int:
        """For how long a call that was taken, and was due at that second, was held back."""
        keys = {destination}
        if rate := self._rate_of.get(destination):
            keys.add(limit_of(rate, destination, webhook_url).key)
        keys &= self.held.keys()
        self._relieved |= {key for key in keys if self.held[key][1] is None}
        return max((held_ms(self.held[key], due_at, self.now) for key in keys), default=0)

    def record(self, connection: Connection) -> None:
        """Write what was taken, and what holds calls back from now on or no longer, in the transaction of the claim."""
        taken = {key for key, account in self._accounts.items() if account.taken}
        ended = self._relieved - self.left
        begun = {key for key in self.left if key not in self.held or self.held[key][1] is not None}
        self.held |= {key: (self.held[key][0], self.now) for key in ended}
        self.held |= {key: held_again(self.held.get(key), self.now) for key in begun}
        if rows := [self._row(key) for key in taken | ended | begun]:
            connection.execute(WRITE_ROWS, {"rows": json_rows(rows)})

    def _row(self, key: str) -> dict[str, Any]:
        account, (since, until) = self._accounts.get(key), self.held.get(key, (None, None))
        counts_for = KEPT_SECONDS if since else account.rate.window_seconds if account else 0
        return {
            "key": key,
            "grants": self._grants(account) if account else [],
            "idle_at": self.now + counts_for,
            "held_since": since,
            "held_until": until,
        }

    def _grants(self, account: Account) -> Grants:
        return [*account.grants, (self.now, account.taken)] if account.taken else account.grants


def forget_idle_limits(connection: Connection) -> None:
    """Drop the rows that no longer count anything."""
    connection.execute(FORGET_IDLE)
